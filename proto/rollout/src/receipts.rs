//! The receipts a member holds of one rollout: verified under the cohort's keys, the latest of each
//! host, kept with their signatures so that certificates can be made of them (R17).

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::certificate::{self, Certificate, Claim, Halted};
use proto::receipt::{Receipt, ReceiptError, SignedReceipt};
use proto::statement::{CohortHost, Rollout};
use proto::{Digest, HostId, PublicKey};

use crate::gate::Heard;

/// Why a receipt is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    #[error("{0} is not in the cohort")]
    Foreign(HostId),
    #[error("it is about rollout {0}")]
    OtherRollout(Digest),
}

/// A receipt and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    receipt: Receipt,
    signed: SignedReceipt,
    /// When something new came last, by the holder's own boot clock.
    heard_ms: u64,
    /// Something newer than the first receipt has come.
    risen: bool,
}

/// The latest receipt of each host of one rollout. At most two per host of the cohort are kept.
#[derive(Debug, Clone)]
pub struct Receipts {
    id: Digest,
    rollout: Arc<Rollout>,
    keys: BTreeMap<HostId, PublicKey>,
    /// From when silence is counted for hosts that were never heard.
    since_ms: u64,
    latest: BTreeMap<HostId, Held>,
    /// The first failure of each host: a later retry does not undo the proof.
    failed: BTreeMap<HostId, (Receipt, SignedReceipt)>,
}

impl Receipts {
    /// None yet, of the rollout with this id.
    pub fn new(id: Digest, rollout: Arc<Rollout>, now_ms: u64) -> Self {
        let keys = rollout.cohort.iter().map(|host| (host.id.clone(), host.key)).collect();
        let (latest, failed) = (BTreeMap::new(), BTreeMap::new());
        Self { id, rollout, keys, since_ms: now_ms, latest, failed }
    }

    /// Takes a receipt in, whoever brings it, and returns it if it is newer than what was held:
    /// then it is an [`Input::Receipt`](crate::host::Input::Receipt).
    ///
    /// # Errors
    ///
    /// [`OfferError`]: malformed, not signed by the host of the cohort, of another rollout.
    pub fn offer(
        &mut self,
        now_ms: u64,
        signed: SignedReceipt,
    ) -> Result<Option<&Receipt>, OfferError> {
        let host = signed.claimed_host()?;
        let key = self.keys.get(&host).ok_or_else(|| OfferError::Foreign(host.clone()))?;
        // Gossip repeats itself: what is held already is not verified again.
        if self.latest.get(&host).is_some_and(|held| held.signed == signed) {
            return Ok(None);
        }
        // Nor is what is not about this rollout: every host's receipts of every service come by.
        let about = signed.claimed_rollout()?;
        if about != self.id {
            return Err(OfferError::OtherRollout(about));
        }
        let receipt = signed.verify(key)?;
        if certificate::counts_as_failed(&receipt) {
            self.failed.entry(host.clone()).or_insert_with(|| (receipt.clone(), signed.clone()));
        }
        let newer = |held: &Held| receipt.sequence > held.receipt.sequence;
        if !self.latest.get(&host).is_none_or(newer) {
            return Ok(None);
        }
        // The first one may be as old as it likes: it does not end the silence.
        let risen = self.latest.contains_key(&host);
        let heard_ms = if risen { now_ms } else { self.since_ms };
        self.latest.insert(host.clone(), Held { receipt, signed, heard_ms, risen });
        Ok(self.latest.get(&host).map(|held| &held.receipt))
    }

    /// Id of the rollout.
    pub fn id(&self) -> Digest {
        self.id
    }

    pub fn rollout(&self) -> &Arc<Rollout> {
        &self.rollout
    }

    /// The latest receipt of a host.
    pub fn latest(&self, host: &HostId) -> Option<&Receipt> {
        self.latest.get(host).map(|held| &held.receipt)
    }

    /// The latest receipts, by host id.
    pub fn iter(&self) -> impl Iterator<Item = &Receipt> {
        self.latest.values().map(|held| &held.receipt)
    }

    /// Whether a host is there, by the holder's own clock.
    pub fn heard(&self, host: &HostId, now_ms: u64) -> Heard {
        let held = self.latest.get(host);
        let heard_ms = held.map_or(self.since_ms, |held| held.heard_ms);
        Heard::at(now_ms, heard_ms, held.is_some_and(|held| held.risen))
    }

    /// The certificate for a claim, of as few receipts as show it; none if they do not. `excuses`: the
    /// statements that excuse hosts ([`proto::trust::Chain::excuses`]); it names those it needs.
    pub fn certificate(
        &self,
        claim: Claim,
        excuses: &BTreeMap<Digest, HostId>,
    ) -> Option<Certificate> {
        let cohort = &self.rollout.cohort;
        let chosen = match claim {
            Claim::Halt => self.halt_proof()?,
            Claim::Wave(wave) => self.ended(&cohort[..self.rollout.ranks_in(wave as usize).end]),
            Claim::Complete => self.ended(cohort),
        };
        let receipts: BTreeMap<_, _> =
            chosen.iter().map(|(receipt, _)| (receipt.host.clone(), (*receipt).clone())).collect();
        // One statement for each host is enough, and none for those that have ended by themselves.
        let missing: BTreeMap<_, _> = excuses
            .iter()
            .filter(|(_, host)| claim != Claim::Halt && !receipts.contains_key(*host))
            .map(|(statement, host)| (host.clone(), *statement))
            .collect();
        let excused = missing.keys().cloned().collect();
        certificate::proves(claim, &self.rollout, &receipts, &excused).then(|| Certificate {
            rollout: self.id,
            claim,
            receipts: chosen.into_iter().map(|(_, signed)| signed.clone()).collect(),
            excuses: missing.into_values().collect(),
        })
    }

    /// Failures of the first wave whose budget they use up, in the order of the cohort, no more
    /// than it takes.
    fn halt_proof(&self) -> Option<Vec<(&Receipt, &SignedReceipt)>> {
        let cohort = &self.rollout.cohort;
        let failure = |rank: usize| self.failed.get(&cohort[rank].id);
        let standing = |rank| failure(rank).map(|(receipt, _)| (receipt.state, receipt.cause));
        let Halted { wave, failed, failed_max, hosts_here, .. } =
            certificate::halted(&self.rollout, &standing)?;
        let own = self.rollout.ranks_in(wave);
        let (ranks, needed) = match failed > failed_max {
            true => (0..own.end, failed_max + 1),
            false => (own, hosts_here / 2 + 1),
        };
        let failures = ranks.filter_map(failure).map(|(receipt, signed)| (receipt, signed));
        Some(failures.take(needed).collect())
    }

    /// The receipts of those of `hosts` that have come to their end.
    fn ended(&self, hosts: &[CohortHost]) -> Vec<(&Receipt, &SignedReceipt)> {
        let latest = hosts.iter().filter_map(|host| self.latest.get(&host.id));
        let ended = |held: &&Held| certificate::has_ended((held.receipt.state, held.receipt.cause));
        latest.filter(ended).map(|held| (&held.receipt, &held.signed)).collect()
    }
}

#[cfg(test)]
mod test;
