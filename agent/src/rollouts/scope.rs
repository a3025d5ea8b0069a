//! One service of this host: its core, and its effects carried out in order.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use durable::{RealDisk, replace};
use net::Member;
use proto::certificate::Claim;
use proto::receipt::{Receipt, SignedReceipt, State};
use proto::record::{SLOTS, receipt_key};
use proto::statement::{Action, Direction, Rollout};
use proto::trust::Chain;
use proto::{Digest, HostId, Scope};
use rollout::Now;
use rollout::host::{Effect, Host, Input};
use rollout::receipts::Receipts;
use rollout::verdict::pooled;
use swarm::ledger::CertifyError;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::archive::Ended;
use super::counting::{Bake, Counter, Counting, Serving, tallies};
use super::drift::{Watcher, Watching};
use super::steps::{Activation, Steps};
use super::waiting::Waiting;
use super::{Answer, Context, record};
use crate::services::Way;
use member::clock;

/// Longest record read, in bytes.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// A scope whose core runs.
pub(super) struct Running {
    scope: Scope,
    host: Host,
    /// Of the newest rollout; none before there is one.
    receipts: Option<Receipts>,
    record: PathBuf,
    slot: usize,
    steps: Steps,
    counting: Counting,
    watching: Watching,
    waiting: Waiting,
    context: Context,
}

impl Running {
    /// Recovers what was under way on disk, and the core from its record.
    pub(super) async fn start(
        context: Context,
        me: &HostId,
        scope: Scope,
        slot: usize,
        answers: mpsc::Sender<Answer>,
    ) -> Result<Self> {
        let record = record(&context.home, &scope.service);
        let host: Host = match durable::read_bounded(&record, RECORD_BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged", record.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Host::new(me.clone(), scope.clone())
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", record.display()));
            }
        };
        ensure!(
            host.me() == me && *host.scope() == scope,
            "{} is of host {} in {}, not of this one ({me}) in {scope}: move it away",
            record.display(),
            host.me(),
            host.scope()
        );
        let steps = Steps::start(context.clone(), scope.service.clone(), answers.clone()).await?;
        let counting = Counting::start(Counter {
            service: scope.service.clone(),
            me: me.clone(),
            activator: steps.activator().clone(),
            gossip: context.gossip.clone(),
            slot,
            answers,
        });
        let watching = Watching::start(Watcher {
            service: scope.service.clone(),
            activator: steps.activator().clone(),
            gossip: context.gossip.clone(),
            slot,
        });
        let (receipts, waiting) = (None, Waiting::default());
        let mut running = Self {
            scope,
            host,
            receipts,
            record,
            slot,
            steps,
            counting,
            watching,
            waiting,
            context,
        };
        let mut effects = Vec::new();
        running.host.resume(running.now(), &mut effects);
        running.carry_out(effects).await;
        Ok(running)
    }

    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.host.next_deadline()
    }

    /// Hands an input to the core and carries out what follows.
    pub(super) async fn take(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.host.handle(self.now(), input, &mut effects);
        self.carry_out(effects).await;
    }

    /// The time; a wall clock that is behind what signed statements say is not believed (R8).
    fn now(&self) -> Now {
        let Now { boot_ms, unix } = clock::now();
        Now { boot_ms, unix: self.context.ledger.chain().believed(unix) }
    }

    // --- inputs ---

    /// Takes in the newest rollout of the scope and what is known about it. Repeating is harmless.
    pub(super) async fn read_statements(&mut self, chain: &Chain) {
        let Some(head) = chain.head(&self.scope).copied() else { return };
        // Of two rollouts of one epoch a host stays with the one it met first, and that one's halt
        // or abort is what it must hear of (R5).
        let met = self.host.rollout().filter(|_| self.host.epoch() == head.epoch);
        let id = met.filter(|id| chain.rollout(id).is_some()).unwrap_or(head.rollout);
        let standing = self.standing_intent(chain, id);
        let id = standing.unwrap_or(id);
        let Some(rollout) = chain.rollout(&id) else { return };
        // What stops it comes first: after a restart the rollout itself may start something.
        self.read_orders(chain).await;
        if self.receipts.as_ref().is_none_or(|receipts| receipts.id() != id) {
            let rollout = Arc::new(rollout.clone());
            self.receipts = Some(Receipts::new(id, rollout.clone(), clock::boot_ms()));
            info!(rollout = %id, scope = %self.scope, to = %rollout.to.version, "new rollout");
            self.take(Input::Rollout { id, rollout }).await;
            // What earlier rollouts left, also those that never got to a commit here.
            self.steps.collect();
        }
        if standing.is_some() {
            // Its certificate is not gossiped any more; whoever signed the rollout after it has
            // signed that this is where the fleet comes from.
            self.take(Input::Certificate { rollout: id, claim: Claim::Complete }).await;
        }
        self.read_orders(chain).await;
    }

    /// The rollout to follow instead of `newest`, if any. A host that is not in its cohort waits for
    /// the end of it, and meanwhile serves what the others came from (R7): the rollout that brought
    /// its `from`. So a host that joins under an open or a halted rollout serves, too.
    fn standing_intent(&self, chain: &Chain, newest: Digest) -> Option<Digest> {
        let ledger = &self.context.ledger;
        let proven = |id: &Digest, claim| ledger.certificate(id, claim).is_some();
        let aborted =
            |id: &Digest| chain.directive(id).is_some_and(|(_, one)| one.action == Action::Abort);
        let stopped = |id: &Digest| proven(id, Claim::Halt) || aborted(id);
        let rollout = chain.rollout(&newest)?;
        let ours = rollout.rank_of(self.host.me()).is_some();
        if ours || proven(&newest, Claim::Complete) && !stopped(&newest) {
            return None;
        }
        let from = rollout.from.as_ref()?.release;
        let history = chain.history(&self.scope);
        // One that was stopped brought nothing that stayed, though it may name the same release.
        let brought = |(id, one): &&(Digest, &Rollout)| {
            *id != newest && one.to.release == from && !stopped(id)
        };
        let (id, standing) = history.iter().find(brought)?;
        // Epochs never go back: one that was followed already stays.
        (standing.epoch >= self.host.epoch()).then_some(*id)
    }

    /// Takes in what holds whatever rollout is followed, what is known about the newest one, and about
    /// the one that brought what runs: a halt of it still takes that away.
    pub(super) async fn read_orders(&mut self, chain: &Chain) {
        self.read_standing_orders(chain).await;
        if let Some(head) = chain.head(&self.scope).filter(|head| head.conflict.is_some()) {
            self.take(Input::Conflict { epoch: head.epoch }).await;
        }
        for id in [self.host.prior_rollout(), self.host.rollout()].into_iter().flatten() {
            if let Some((_, directive)) = chain.directive(&id) {
                self.take(Input::Directive(directive.clone())).await;
            }
            for claim in [Claim::Complete, Claim::Halt] {
                if self.context.ledger.certificate(&id, claim).is_some() {
                    self.take(Input::Certificate { rollout: id, claim }).await;
                }
            }
        }
        let Some(rollout) = self.host.rollout() else { return };
        // The highest wave proves those before it.
        for wave in 0..self.context.ledger.newest_wave(&rollout).map_or(0, |newest| newest + 1) {
            self.take(Input::Certificate { rollout, claim: Claim::Wave(wave) }).await;
        }
        let hosts: BTreeSet<_> = chain.excuses(&rollout).into_values().collect();
        if !hosts.is_empty() {
            self.take(Input::Excused { rollout, hosts }).await;
        }
    }

    /// The root, freezes, the removal of this host, a twin of it, and what was stopped while this host
    /// was away, too.
    async fn read_standing_orders(&mut self, chain: &Chain) {
        let (env, me) = (self.scope.env.clone(), self.host.me().clone());
        self.take(Input::Root { expires: chain.root().expires }).await;
        self.take(Input::Frozen { until: chain.frozen_until(&env, &me) }).await;
        if chain.revocation(&me, &env).is_some() {
            self.take(Input::Removed).await;
        }
        let address = *self.context.gossip.duplicate().borrow();
        self.take(Input::Twin { address }).await;
        self.take(Input::Pressed(self.context.services.host().is_short())).await;
        let stopped = self.context.ledger.stopped(&self.scope);
        for release in boxed(&chain.history(&self.scope), &stopped) {
            self.take(Input::Boxed { release }).await;
        }
    }

    /// Takes in what members say of the newest rollout.
    pub(super) async fn read_receipts(&mut self, members: &[Member]) {
        let texts = members
            .iter()
            .flat_map(|member| (0..SLOTS).filter_map(|slot| member.values.get(&receipt_key(slot))));
        let mut news = Vec::new();
        if let Some(receipts) = &mut self.receipts {
            for signed in texts.filter_map(|text| SignedReceipt::from_text(text).ok()) {
                // Receipts of other rollouts, or by strangers to this cohort, are not for us.
                if let Ok(Some(receipt)) = receipts.offer(clock::boot_ms(), signed) {
                    news.push(receipt.clone());
                }
            }
        }
        for receipt in news {
            self.take(Input::Receipt(receipt)).await;
        }
        self.compare(members).await;
    }

    /// Compares the hosts of the waves before this one's with the control, where its gate waits for
    /// that (R24).
    pub(super) async fn compare(&mut self, members: &[Member]) {
        let (Some(wave), Some(receipts)) = (self.host.awaits_pool(), &self.receipts) else {
            return;
        };
        let rollout = receipts.id();
        if let Some(verdict) = pooled(receipts.rollout(), wave, &tallies(members)) {
            self.take(Input::Pooled { rollout, verdict }).await;
        }
    }

    // --- effects ---

    /// In the core's order: commits, the record, the rest. What cannot be done yet waits for the
    /// next call, which the driver's tick makes at the latest.
    async fn carry_out(&mut self, effects: Vec<Effect>) {
        self.count();
        self.waiting.add(effects);
        if !self.waiting.unsaved {
            return;
        }
        self.steps.pin(self.host.pinned());
        if let Err(error) = self.save().await {
            error!(
                scope = %self.scope, error = format!("{error:#}"),
                "the record cannot be made durable: nothing but a way back is done until it is"
            );
            if let Some(back) = self.waiting.take_way_back() {
                self.carry_out_one(back).await;
            }
            return;
        }
        for effect in self.waiting.take_all() {
            self.carry_out_one(effect).await;
        }
    }

    /// Says what serves here now, and whether it bakes: before any step begins.
    fn count(&self) {
        let bake = self.host.baking().zip(self.receipts.as_ref());
        let bake = bake.filter(|(_, receipts)| self.host.rollout() == Some(receipts.id()));
        let bake = bake.map(|((attempt, baked_ms), receipts)| Bake {
            attempt,
            rollout: receipts.rollout().clone(),
            baked: Duration::from_millis(baked_ms),
            at: Instant::now(),
        });
        let serving = self.host.steady();
        self.watching.say(serving);
        self.counting.say(serving.map(|release| Serving { release, bake }));
    }

    /// Makes durable what other effects depend on. The journal of the activation first: at boot it
    /// alone decides, and a release that the record calls committed must never be taken back by it.
    /// The other way round is harmless: it bakes a little longer.
    async fn save(&mut self) -> Result<()> {
        for attempt in self.waiting.commits() {
            self.steps.commit(attempt).await?;
        }
        self.persist().await
    }

    async fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            // Done by `save`.
            Effect::Persist => {}
            Effect::Commit { .. } => self.steps.collect(),
            Effect::Publish(receipt) => self.publish(&receipt),
            Effect::Fetch { release } => self.steps.fetch(release),
            Effect::Activate { attempt, from, to, adopt } => {
                let way = self.way();
                self.steps.activate(Activation { attempt, from, to, way, adopt }).await;
            }
            Effect::Revert { attempt, to } => self.steps.revert(attempt, to).await,
            Effect::Certify { rollout, claim } => self.certify(rollout, claim).await,
        }
    }

    /// Which way the rollout goes that is followed.
    fn way(&self) -> Way {
        let chain = self.context.ledger.chain();
        let rollout = self.host.rollout().and_then(|id| chain.rollout(&id));
        match rollout.map(|rollout| rollout.direction) {
            Some(Direction::Rollback) => Way::Back,
            Some(Direction::Forward) | None => Way::Forward,
        }
    }

    async fn persist(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.host).context("the record serializes")?;
        let path = self.record.clone();
        Ok(spawn_blocking(move || replace(&RealDisk, &path, &bytes)).await??)
    }

    fn publish(&mut self, receipt: &Receipt) {
        info!(
            rollout = %receipt.rollout, state = receipt.state.name(), attempt = receipt.attempt,
            note = receipt.note, "receipt"
        );
        let signed = receipt.sign(&self.context.key);
        let text = signed.to_text();
        if let Err(error) = self.context.gossip.set(&receipt_key(self.slot), &text) {
            error!(%error, "a receipt is not gossiped");
        }
        self.hold_own(signed);
        let chain = self.context.ledger.chain();
        if has_ended(receipt.state)
            && let Some(rollout) = chain.rollout(&receipt.rollout)
        {
            let (receipt, told) = (receipt.clone(), Digest::of(text.as_bytes()));
            self.steps.keep_evidence(Ended { receipt, told, brings: rollout.to.release });
        }
    }

    /// What is concluded from this host's receipt is proven with it, at once: gossip brings it back only
    /// with the next news of others.
    fn hold_own(&mut self, signed: SignedReceipt) {
        if let Some(receipts) = &mut self.receipts {
            // One about an earlier rollout than the one that is looked at proves nothing about it.
            let _ = receipts.offer(clock::boot_ms(), signed);
        }
    }

    async fn certify(&mut self, rollout: Digest, claim: Claim) {
        let excuses = self.context.ledger.chain().excuses(&rollout);
        let certificate = self
            .receipts
            .as_ref()
            .filter(|receipts| receipts.id() == rollout)
            .and_then(|receipts| receipts.certificate(claim, &excuses));
        let Some(certificate) = certificate else {
            // The core counts what it saw before it was restarted, too.
            warn!(%rollout, ?claim, "not enough receipts are held for the certificate");
            return;
        };
        let ledger = self.context.ledger.clone();
        let made = spawn_blocking(move || ledger.certify(&certificate.to_bytes())).await;
        match made {
            Ok(Ok(id)) => info!(%rollout, ?claim, certificate = %id, "certificate made"),
            Ok(Err(error)) if error.is_final() => self.give_up_proof(rollout, claim, &error),
            Ok(Err(error)) => error!(%rollout, ?claim, %error, "no certificate"),
            Err(error) => error!(%rollout, ?claim, %error, "no certificate"),
        }
    }

    /// Others have proven something else before: said once, and not asked again.
    fn give_up_proof(&mut self, rollout: Digest, claim: Claim, error: &CertifyError) {
        let complete = self.context.ledger.certificate(&rollout, Claim::Complete);
        warn!(
            %rollout, ?claim, ?complete, %error,
            "what this host has concluded cannot be proven to others: it stands here, and the next \
             rollout ends the difference"
        );
        let mut effects = Vec::new();
        self.host.handle(self.now(), Input::Unprovable { rollout, claim }, &mut effects);
        // Carried out with the next input, or at the driver's tick.
        self.waiting.add(effects);
    }
}

/// Whether this state is the end of an attempt, if there was one.
const fn has_ended(state: State) -> bool {
    matches!(state, State::Committed | State::Reverted | State::RevertFailed)
}

/// The releases of `stopped` rollouts, newest first, that no later rollout of their scope was signed to
/// try again; the one that was stopped last comes last.
fn boxed(history: &[(Digest, &Rollout)], stopped: &[Digest]) -> Vec<Digest> {
    let tried_again = |old: &Rollout| {
        let again = |new: &Rollout| new.retry && new.epoch > old.epoch;
        history.iter().any(|(_, new)| again(new) && new.to.release == old.to.release)
    };
    let was_stopped = |(id, old): &&(Digest, &Rollout)| {
        stopped.contains(id) && old.direction == Direction::Forward && !tried_again(old)
    };
    history.iter().rev().filter(was_stopped).map(|(_, old)| old.to.release).collect()
}

#[cfg(test)]
mod tests {
    use proto::statement::{CohortHost, OnFailure, RULES, Target, Wave};
    use proto::{HostId, KeyId, PublicKey, UnixTime};

    use super::*;

    fn name(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn rollout(epoch: u64, to: &str) -> Rollout {
        let key = PublicKey::of(&ed25519_dalek::SigningKey::from_bytes(&[1; 32]));
        let zone = "default".parse().unwrap();
        Rollout {
            fleet: "test".parse().unwrap(),
            service: "web".parse().unwrap(),
            env: "production".parse().unwrap(),
            epoch,
            previous: (epoch > 1).then(|| name("previous")),
            from: None,
            to: Target { release: name(to), version: "1".parse().unwrap() },
            direction: Direction::Forward,
            rules: RULES,
            cohort: vec![CohortHost { id: HostId::of(&key), key, zone }],
            waves: vec![Wave { hosts: 1, wait_s: 0, failed_max: 0, unreachable_max: 0 }],
            max_unavailable: 1,
            in_flight_max: None,
            windows: Vec::new(),
            retry: false,
            adopt: false,
            limits: None,
            on_failure: OnFailure::Rollback,
            approvals: 0,
            created: UnixTime(epoch),
            expires: UnixTime(1_000),
            author: KeyId::of(&key),
            reason: String::new(),
            critical: Vec::new(),
        }
    }

    #[test]
    fn r17_what_was_stopped_is_boxed_until_somebody_signs_to_try_it_again() {
        let back = Rollout { direction: Direction::Rollback, ..rollout(3, "old") };
        let again = Rollout { retry: true, ..rollout(5, "bad") };
        let rollouts = [
            rollout(1, "good"),
            rollout(2, "bad"),
            back,
            rollout(4, "worse"),
            again,
            rollout(6, "x"),
        ];
        let id = |epoch: usize| name(&format!("rollout {epoch}"));
        let history: Vec<_> =
            rollouts.iter().enumerate().map(|(at, one)| (id(at + 1), one)).rev().collect();
        let until = |epoch: usize| &history[rollouts.len() - epoch..];
        assert_eq!(boxed(until(4), &[]), []);
        let stopped = [id(4), id(3), id(2)];
        assert_eq!(boxed(until(4), &stopped), [name("bad"), name("worse")], "no rollback");
        assert_eq!(boxed(until(6), &stopped), [name("worse")], "it is tried again");
        let stopped = [&[id(5)][..], &stopped].concat();
        assert_eq!(boxed(until(6), &stopped), [name("worse"), name("bad")], "and failed again");
    }
}
