//! One service of this host: its core, and its effects carried out in order.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use durable::{RealDisk, replace};
use net::Member;
use proto::certificate::Claim;
use proto::receipt::{Receipt, SignedReceipt};
use proto::record::{SLOTS, receipt_key};
use proto::statement::Rollout;
use proto::trust::Chain;
use proto::{Digest, HostId, Scope};
use rollout::host::{Effect, Host, Input};
use rollout::receipts::Receipts;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::steps::Steps;
use super::{Answer, Context, records};
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
        let record = records(&context.home).join(format!("{}.json", scope.service));
        let host = match durable::read_bounded(&record, RECORD_BYTES_MAX) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged", record.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Host::new(me.clone(), scope.clone())
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", record.display()));
            }
        };
        let steps = Steps::start(context.clone(), scope.service.clone(), answers).await?;
        let mut running = Self { scope, host, receipts: None, record, slot, steps, context };
        let mut effects = Vec::new();
        running.host.resume(clock::now(), &mut effects);
        running.carry_out(effects).await;
        Ok(running)
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.host.next_deadline()
    }

    /// Hands an input to the core and carries out what follows.
    pub(super) async fn take(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.host.handle(clock::now(), input, &mut effects);
        self.carry_out(effects).await;
    }

    // --- inputs ---

    /// Takes in the newest rollout of the scope and what is known about it. Repeating is harmless.
    pub(super) async fn read_statements(&mut self, chain: &Chain) {
        let Some(head) = chain.head(&self.scope).copied() else { return };
        let id = head.rollout;
        let Some(rollout) = chain.rollout(&id) else { return };
        if self.receipts.as_ref().is_none_or(|receipts| receipts.id() != id) {
            // An expired root starts nothing new either (R7), and no rollout outlives its root.
            let expires = rollout.expires.min(chain.root().expires);
            let rollout = Arc::new(Rollout { expires, ..rollout.clone() });
            self.receipts = Some(Receipts::new(id, rollout.clone(), clock::boot_ms()));
            info!(rollout = %id, scope = %self.scope, to = %rollout.to.version, "new rollout");
            self.take(Input::Rollout { id, rollout }).await;
            // What earlier rollouts left, also those that never got to a commit here.
            self.steps.collect(&self.host.pinned()).await;
        }
        if head.conflict.is_some() {
            self.take(Input::Conflict { epoch: head.epoch }).await;
        }
        if let Some((_, directive)) = chain.directive(&id) {
            self.take(Input::Directive(directive.clone())).await;
        }
        for claim in [Claim::Complete, Claim::Halt] {
            if self.context.ledger.certificate(&id, claim).is_some() {
                self.take(Input::Certificate { rollout: id, claim }).await;
            }
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
    }

    // --- effects ---

    async fn carry_out(&mut self, effects: Vec<Effect>) {
        // The journal of the activation first: at boot it alone decides, and a release that the
        // record calls committed must never be taken back by it. The other way round is harmless,
        // since a commit is asked for again.
        for effect in &effects {
            if let Effect::Commit { attempt } = effect {
                self.steps.commit(*attempt).await;
            }
        }
        for effect in effects {
            match effect {
                Effect::Persist => {
                    if let Err(error) = self.persist().await {
                        // Nothing that depends on it is done; the core asks again.
                        error!(scope = %self.scope, error = format!("{error:#}"), "cannot persist");
                        return;
                    }
                }
                Effect::Publish(receipt) => self.publish(&receipt),
                Effect::Fetch { release } => self.steps.fetch(release),
                Effect::Activate { attempt, from, to } => {
                    self.steps.activate(attempt, from, to).await;
                }
                Effect::Revert { attempt, to } => {
                    self.steps.revert(attempt, to).await;
                }
                Effect::Commit { .. } => self.steps.collect(&self.host.pinned()).await,
                Effect::Certify { rollout, claim } => self.certify(rollout, claim).await,
            }
        }
    }

    async fn persist(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.host).context("the record serializes")?;
        let path = self.record.clone();
        Ok(spawn_blocking(move || replace(&RealDisk, &path, &bytes)).await??)
    }

    fn publish(&self, receipt: &Receipt) {
        info!(
            rollout = %receipt.rollout, state = receipt.state.name(), attempt = receipt.attempt,
            note = receipt.note, "receipt"
        );
        let text = receipt.sign(&self.context.key).to_text();
        if let Err(error) = self.context.gossip.set(&receipt_key(self.slot), &text) {
            error!(%error, "a receipt is not gossiped");
        }
    }

    async fn certify(&mut self, rollout: Digest, claim: Claim) {
        let certificate = self
            .receipts
            .as_ref()
            .filter(|receipts| receipts.id() == rollout)
            .and_then(|receipts| receipts.certificate(claim));
        let Some(certificate) = certificate else {
            // The core counts what it saw before it was restarted, too.
            warn!(%rollout, ?claim, "not enough receipts are held for the certificate");
            return;
        };
        let ledger = self.context.ledger.clone();
        let made = spawn_blocking(move || ledger.certify(&certificate.to_bytes())).await;
        match made {
            Ok(Ok(id)) => info!(%rollout, ?claim, certificate = %id, "certificate made"),
            Ok(Err(error)) => error!(%rollout, ?claim, %error, "no certificate"),
            Err(error) => error!(%rollout, ?claim, %error, "no certificate"),
        }
    }
}
