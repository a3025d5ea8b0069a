//! The fleet, for people, as one member sees it: the same answers from the coordinator and from any
//! agent (`swell --via HOST`).
//!
//! An [`Observer`] keeps what has to be followed over time: who was heard when, in which rollout.
//! An [`Outlook`] puts it together with what the member holds now and answers every
//! [`ControlRequest`] that only reads. No IO: gossip values, statements and the time come in.

mod answer;
pub mod names;
mod outlook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::certificate::{self, Certificate, Claim};
use proto::receipt::{Receipt, SignedReceipt, State};
use proto::record;
use proto::statement::{Action, Rollout};
use proto::trust::Chain;
use proto::wire::ControlRequest;
use proto::{Digest, HostId, PublicKey, UnixTime};

pub use answer::refused;
pub use outlook::{Outlook, Pending, Presence};

use crate::gate::Heard;
use crate::receipts::Receipts;
use crate::verdict::{self, Conclusion, Looks, Tallies};

/// How often requests are compared, in milliseconds.
const COMPARE_EVERY_MS: u64 = 1_000;
/// Rollouts that were replaced and whose receipts are still kept, the newest.
const REPLACED_MAX: usize = 32;

/// What a member says in gossip: the newest word of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `ip:port`.
    pub address: String,
    /// Heard of lately.
    pub alive: bool,
    /// Another `ip:port` from which its key speaks: two machines hold it, and nobody knows which of them
    /// is the host (R9).
    pub twin: Option<String>,
    /// As in [`proto::record`], checked to be the member's own.
    pub values: BTreeMap<String, String>,
}

/// Follows the rollouts of all scopes: receipts as they come, certificates, time without pauses.
#[derive(Debug, Clone, Default)]
pub struct Observer {
    followed: BTreeMap<Digest, Followed>,
    /// What certificates have proven, of all rollouts.
    claims: BTreeMap<Digest, BTreeSet<Claim>>,
    /// When the proof of a claim came, where that is known: for people.
    proven: BTreeMap<(Digest, Claim), UnixTime>,
    /// The receipt of each slot as last read: gossip that repeats itself costs nothing, and so do people
    /// who look again and again.
    read: BTreeMap<(HostId, usize), Word>,
    /// When requests were last compared.
    compared_ms: Option<u64>,
}

/// What a host says in one slot.
#[derive(Debug, Clone)]
struct Word {
    text: String,
    /// None: it is no receipt of this host, or the host was not known.
    receipt: Option<Receipt>,
    /// Whether it was known.
    judged: bool,
}

#[derive(Debug, Clone)]
struct Followed {
    receipts: Receipts,
    /// Time that the member held the rollout, without pauses.
    held_ms: u64,
    /// When that was last counted.
    counted_ms: u64,
    /// The pooled verdicts by wave, but for the last one: none where requests are not counted (R24).
    pooled: Vec<Looks>,
    /// Of hosts whose bake was seen to begin, in which attempt, and `held_ms` then.
    bakes: BTreeMap<HostId, (u32, u64)>,
}

impl Followed {
    fn new(receipts: Receipts, now_ms: u64) -> Self {
        let (pooled, bakes) = (Vec::new(), BTreeMap::new());
        Self { receipts, held_ms: 0, counted_ms: now_ms, pooled, bakes }
    }

    /// Takes in what a host of the cohort says, whoever brings it.
    fn hear(&mut self, now_ms: u64, signed: SignedReceipt) {
        let Ok(host) = signed.claimed_host() else { return };
        let before = self.receipts.latest(&host).map(|said| (said.attempt, said.state));
        let Ok(Some(said)) = self.receipts.offer(now_ms, signed) else { return };
        // What was said first may be old: one that baked by then may have for long.
        let Some((attempt, state)) = before else { return };
        if said.state == State::Baking && (attempt, state) != (said.attempt, State::Baking) {
            self.bakes.insert(host, (said.attempt, self.held_ms));
        }
    }

    /// For how long a host has baked in its latest attempt; none: nobody saw it begin.
    fn baked_ms(&self, host: &HostId) -> Option<u64> {
        let (attempt, since_ms) = self.bakes.get(host)?;
        let is_same = self.receipts.latest(host).is_some_and(|said| said.attempt == *attempt);
        is_same.then(|| self.held_ms.saturating_sub(*since_ms))
    }

    fn compare(&mut self, now_ms: u64, tallies: &Tallies, excused: &BTreeSet<HostId>) {
        let rollout = self.receipts.rollout();
        self.pooled.resize(rollout.waves.len() - 1, Looks::default());
        for (wave, looks) in self.pooled.iter_mut().enumerate() {
            let Some(verdict) = verdict::pooled(rollout, wave, tallies) else { continue };
            let mut before = rollout.cohort[..rollout.ranks_in(wave).end].iter();
            let due = before.all(|host| {
                let last = self.receipts.latest(&host.id);
                let ended = |last: &Receipt| certificate::has_ended((last.state, last.cause));
                last.is_some_and(ended)
                    || self.receipts.heard(&host.id, now_ms) == Heard::Silent
                    || excused.contains(&host.id)
            });
            looks.take(now_ms, verdict, due);
        }
    }

    /// What the requests of the hosts of waves up to one come to.
    fn pooled(&self, wave: usize) -> Conclusion {
        self.pooled.get(wave).map_or(Conclusion::Doubt(None), Looks::conclusion)
    }
}

impl Observer {
    /// Takes in what the member holds and hears at `now_ms` of its own clock that never steps. `key_of`:
    /// of a host that is known. Called whenever any of it changes, and every few seconds.
    pub fn observe(
        &mut self,
        now_ms: u64,
        chain: &Chain,
        members: &BTreeMap<HostId, Seen>,
        key_of: &dyn Fn(&HostId) -> Option<PublicKey>,
    ) {
        self.follow(now_ms, chain);
        let keys: Vec<_> = (0..record::SLOTS).map(record::receipt_key).collect();
        for (host, seen) in members {
            for (slot, key) in keys.iter().enumerate() {
                if let Some(text) = seen.values.get(key) {
                    self.hear(now_ms, (host, slot), text, key_of);
                }
            }
        }
        self.read.retain(|(host, slot), _| {
            let seen = members.get(host);
            seen.is_some_and(|seen| seen.values.contains_key(&keys[*slot]))
        });
        self.compare(now_ms, chain, members);
    }

    /// Looks at the requests of the rollouts that go on, as the hosts before their gates do.
    fn compare(&mut self, now_ms: u64, chain: &Chain, members: &BTreeMap<HostId, Seen>) {
        if self.compared_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < COMPARE_EVERY_MS) {
            return;
        }
        self.compared_ms = Some(now_ms);
        let live = || members.iter().filter(|(_, seen)| seen.alive);
        // Read only where there is anything to compare.
        let mut tallies = None;
        for (id, followed) in &mut self.followed {
            let claims = self.claims.get(id);
            let ended = claims.is_some_and(|claims| {
                claims.contains(&Claim::Halt) || claims.contains(&Claim::Complete)
            });
            let rollout = followed.receipts.rollout().clone();
            let head = chain.head(&rollout.scope()).is_some_and(|head| head.rollout == *id);
            if rollout.limits.is_none() || ended || !head {
                continue;
            }
            let tallies = tallies
                .get_or_insert_with(|| Tallies::read(live().map(|(id, seen)| (id, &seen.values))));
            let excused: BTreeSet<_> = chain.excuses(id).into_values().collect();
            followed.compare(now_ms, tallies, &excused);
        }
    }

    /// Takes in a verified certificate of a rollout that `chain` holds.
    pub fn certify(&mut self, now_ms: u64, chain: &Chain, certificate: &Certificate) {
        let Some(rollout) = chain.rollout(&certificate.rollout) else { return };
        if !self.claims.entry(certificate.rollout).or_default().insert(certificate.claim) {
            return;
        }
        // Receipts of a rollout that nobody speaks of any more are still its history.
        let followed = self.begin(now_ms, certificate.rollout, rollout);
        for receipt in &certificate.receipts {
            // Verified with the certificate; one that is older than what is held is left out.
            let _ = followed.receipts.offer(now_ms, receipt.clone());
        }
        self.forget_replaced(chain);
    }

    /// Takes in when the certificate of a claim came to this member, by its wall clock.
    pub fn note_proof(&mut self, rollout: Digest, claim: Claim, at: UnixTime) {
        self.proven.insert((rollout, claim), at);
    }

    /// The claims about rollouts of `chain` for which no certificate has been taken in: what the
    /// caller holds of these goes to [`Self::certify`].
    pub fn unproven(&self, chain: &Chain) -> Vec<(Digest, Claim)> {
        let rollouts = chain.heads().flat_map(|(scope, _)| chain.history(scope));
        let claims = rollouts.flat_map(|(id, _)| [(id, Claim::Halt), (id, Claim::Complete)]);
        claims.filter(|(id, claim)| !self.claimed(id, *claim)).collect()
    }

    fn claimed(&self, rollout: &Digest, claim: Claim) -> bool {
        self.claims.get(rollout).is_some_and(|claims| claims.contains(&claim))
    }

    fn begin(&mut self, now_ms: u64, id: Digest, rollout: &Rollout) -> &mut Followed {
        self.followed.entry(id).or_insert_with(|| {
            // What was read before this rollout was known is read again.
            self.read.clear();
            let receipts = Receipts::new(id, Arc::new(rollout.clone()), now_ms);
            Followed::new(receipts, now_ms)
        })
    }

    fn follow(&mut self, now_ms: u64, chain: &Chain) {
        for (_, head) in chain.heads() {
            for id in [Some(head.rollout), head.conflict].into_iter().flatten() {
                if let Some(rollout) = chain.rollout(&id) {
                    self.begin(now_ms, id, rollout);
                }
            }
        }
        for (id, followed) in &mut self.followed {
            let paused =
                chain.directive(id).is_some_and(|(_, directive)| directive.action == Action::Pause);
            if !paused {
                followed.held_ms += now_ms.saturating_sub(followed.counted_ms);
            }
            followed.counted_ms = now_ms;
        }
        self.forget_replaced(chain);
    }

    fn forget_replaced(&mut self, chain: &Chain) {
        let current = |id: &Digest, rollout: &Rollout| {
            let head = chain.head(&rollout.scope());
            head.is_some_and(|head| head.rollout == *id || head.conflict == Some(*id))
        };
        let mut replaced: Vec<_> = self
            .followed
            .iter()
            .map(|(id, followed)| (*id, followed.receipts.rollout()))
            .filter(|(id, rollout)| !current(id, rollout))
            .map(|(id, rollout)| (rollout.created, id))
            .collect();
        replaced.sort_unstable();
        let surplus = replaced.len().saturating_sub(REPLACED_MAX);
        for (_, id) in &replaced[..surplus] {
            self.followed.remove(id);
        }
    }

    fn hear(
        &mut self,
        now_ms: u64,
        (host, slot): (&HostId, usize),
        text: &str,
        key_of: &dyn Fn(&HostId) -> Option<PublicKey>,
    ) {
        let place = (host.clone(), slot);
        if self.read.get(&place).is_some_and(|word| word.judged && word.text == text) {
            return;
        }
        let key = key_of(host);
        // Other versions may write other things: what is no receipt is not looked at again.
        let signed = SignedReceipt::from_text(text).ok();
        let receipt = signed.as_ref().zip(key).and_then(|(signed, key)| signed.verify(&key).ok());
        if let Some(signed) = signed
            && let Ok(rollout) = signed.claimed_rollout()
            && let Some(followed) = self.followed.get_mut(&rollout)
        {
            followed.hear(now_ms, signed);
        }
        let word = Word { text: text.to_owned(), receipt, judged: key.is_some() };
        self.read.insert(place, word);
    }

    /// The receipts that a host says now, by the key in its statement.
    fn words_of(&self, host: &HostId) -> impl Iterator<Item = &Receipt> {
        let slots = (host.clone(), 0)..=(host.clone(), record::SLOTS);
        self.read.range(slots).filter_map(|(_, word)| word.receipt.as_ref())
    }
}

/// Whether a request only reads, so that [`Outlook::answer`] answers it.
pub const fn only_reads(request: &ControlRequest) -> bool {
    matches!(
        request,
        ControlRequest::Fleet
            | ControlRequest::Rollout(_)
            | ControlRequest::Statement { .. }
            | ControlRequest::Release { .. }
            | ControlRequest::Releases { .. }
            | ControlRequest::Scope(_)
            | ControlRequest::Host { .. }
    )
}

#[cfg(test)]
mod test;
