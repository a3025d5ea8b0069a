//! Certificates: receipts that together prove a claim about a rollout (R17).
//!
//! Anyone may assemble one and everyone verifies it against the signed cohort; it carries no
//! signature of its own and can only add what its receipts say. Content-addressed, persisted and
//! re-served, so a halt outlives the hosts that raised it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{Digest, HostId};
use crate::receipt::{Cause, Receipt, SignedReceipt, State};
use crate::statement::{COHORT_MAX, Rollout};

/// Longest certificate read, in bytes: a receipt of each host of the largest cohort.
pub const CERTIFICATE_BYTES_MAX: usize = COHORT_MAX * 560;

/// What a certificate proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// More hosts failed than some wave's budget allows: nobody goes on.
    Halt,
    /// Every host of the waves up to this one, 0 first, but its `unreachable_max` ended, within the
    /// budget for failures.
    Wave(u32),
    /// Every host of the cohort but `unreachable_max` ended, within the budget for failures:
    /// `to` is the scope's stable release.
    Complete,
}

/// The receipts that prove a claim about a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Id of the rollout statement.
    pub rollout: Digest,
    pub claim: Claim,
    pub receipts: Vec<SignedReceipt>,
    /// Ids of the statements that excuse hosts whose receipts are missing: skips, revocations. A
    /// verifier must hold them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excuses: Vec<Digest>,
}

/// Why a certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("{got} bytes, at most {CERTIFICATE_BYTES_MAX} are read")]
    TooLong { got: usize },
    #[error("malformed certificate: {0}")]
    Malformed(String),
    #[error("it is about rollout {0}")]
    OtherRollout(Digest),
    /// Not a refusal for good: take that statement in first.
    #[error("it needs statement {0}, which excuses a host")]
    NeedsExcuse(Digest),
    #[error("a receipt is not of a host of the cohort, or stands twice")]
    Foreign,
    #[error("its receipts do not prove {0:?}")]
    NotProven(Claim),
    /// See [`proves_halt_beside`].
    #[error("the rollout is complete, and hosts that failed after it had committed prove no halt")]
    AfterCompletion,
}

impl Certificate {
    /// Reads one; verifies nothing.
    ///
    /// # Errors
    ///
    /// [`CertificateError`]: too long or malformed.
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateError> {
        if bytes.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLong { got: bytes.len() });
        }
        serde_json::from_slice(bytes)
            .map_err(|error| CertificateError::Malformed(error.to_string()))
    }

    /// The bytes whose digest names it.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("certificates serialize")
    }

    /// Its receipts, each verified under the key of the cohort, if they prove the claim about the
    /// rollout with this id. `excuses`: the statements known here that excuse hosts of that rollout
    /// ([`crate::trust::Chain::excuses`]).
    ///
    /// # Errors
    ///
    /// [`CertificateError`]: another rollout, a receipt that is not the cohort's, an excuse that is not
    /// known here, not enough.
    pub fn verify(
        &self,
        id: Digest,
        rollout: &Rollout,
        excuses: &BTreeMap<Digest, HostId>,
    ) -> Result<Vec<Receipt>, CertificateError> {
        if self.rollout != id {
            return Err(CertificateError::OtherRollout(self.rollout));
        }
        let excused = self.excused(rollout, excuses)?;
        let keys: BTreeMap<_, _> =
            rollout.cohort.iter().map(|host| (&host.id, &host.key)).collect();
        let mut receipts: BTreeMap<HostId, Receipt> = BTreeMap::new();
        if self.receipts.len() > rollout.cohort.len() {
            return Err(CertificateError::Foreign);
        }
        for signed in &self.receipts {
            let host = signed.claimed_host().map_err(|_| CertificateError::Foreign)?;
            let key = keys.get(&host).ok_or(CertificateError::Foreign)?;
            let receipt = signed.verify(key).map_err(|_| CertificateError::Foreign)?;
            if receipt.rollout != id || receipts.insert(host, receipt).is_some() {
                return Err(CertificateError::Foreign);
            }
        }
        match proves(self.claim, rollout, &receipts, &excused) {
            true => Ok(receipts.into_values().collect()),
            false => Err(CertificateError::NotProven(self.claim)),
        }
    }

    fn excused(
        &self,
        rollout: &Rollout,
        excuses: &BTreeMap<Digest, HostId>,
    ) -> Result<BTreeSet<HostId>, CertificateError> {
        if self.excuses.len() > rollout.cohort.len() {
            return Err(CertificateError::Foreign);
        }
        let host = |id: &Digest| excuses.get(id).cloned().ok_or(CertificateError::NeedsExcuse(*id));
        self.excuses.iter().map(host).collect()
    }
}

/// Where a host of the cohort stands, as far as budgets care: what its latest receipt says.
pub type Standing = (State, Option<Cause>);

/// A budget that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Halted {
    /// The wave whose budget it is, 0 first.
    pub wave: usize,
    /// Hosts failed in all waves up to this one, and how many may.
    pub failed: usize,
    pub failed_max: usize,
    /// Hosts failed in this wave alone, and hosts in it: more than half halts whatever the budget.
    pub failed_here: usize,
    pub hosts_here: usize,
    /// Hosts failed in all waves, those after this one, too: for people. It may have been promoted, or
    /// hosts of a later one may have failed while this one's still baked.
    pub failed_in_all: usize,
}

/// Whether `receipts`, each host's latest, prove `claim` about `rollout`, where nobody waits for the
/// hosts in `excused`.
///
/// Receipts of hosts outside the cohort are ignored. Halt needs only failures to be present, so
/// receipts that are missing can delay it and never turn it around.
///
/// Excused hosts owe no receipt; one that they have signed counts as any other. Of a host that was
/// removed members take nothing more once they know of it (R9), and what they took before stands:
/// receipts carry no time, and members hear of a removal at different times, so that a failure which
/// no longer counted would take some of them back and not the others.
pub fn proves(
    claim: Claim,
    rollout: &Rollout,
    receipts: &BTreeMap<HostId, Receipt>,
    excused: &BTreeSet<HostId>,
) -> bool {
    let seen = by_rank(rollout, receipts);
    let excused =
        |rank: usize| rollout.cohort.get(rank).is_some_and(|host| excused.contains(&host.id));
    match claim {
        Claim::Halt => halted(rollout, &seen).is_some(),
        Claim::Wave(wave) => is_done(rollout, wave as usize, &seen, &excused),
        Claim::Complete => is_done(rollout, rollout.waves.len() - 1, &seen, &excused),
    }
}

/// Whether these receipts prove a halt of a rollout that the receipts in `complete` prove complete.
///
/// A failure of a host that had committed by then does not count: weeks later one canary alone, whose
/// budget is none, could take the whole fleet back.
pub fn proves_halt_beside(
    rollout: &Rollout,
    halt: &BTreeMap<HostId, Receipt>,
    complete: &BTreeMap<HostId, Receipt>,
) -> bool {
    let committed =
        |host: &HostId| complete.get(host).is_some_and(|receipt| receipt.state == State::Committed);
    let counts = halt.iter().filter(|(host, _)| !committed(host));
    let counts = counts.map(|(host, receipt)| (host.clone(), receipt.clone())).collect();
    proves(Claim::Halt, rollout, &counts, &BTreeSet::new())
}

/// The first budget for failures that is used up, if any. `seen` tells where the host with a rank
/// stands; none: no receipt of it.
///
/// The one place where the budgets of R14 are counted; gates ask it, too.
pub fn halted(rollout: &Rollout, seen: &dyn Fn(usize) -> Option<Standing>) -> Option<Halted> {
    let fails = |rank: &usize| seen(*rank).is_some_and(is_failure);
    halted_by(rollout, &|wave| rollout.ranks_in(wave).filter(fails).count())
}

/// The same, by the number of hosts that failed in each wave.
pub fn halted_by(rollout: &Rollout, failed_in: &dyn Fn(usize) -> usize) -> Option<Halted> {
    let mut failed_before = 0;
    for (wave, budget) in rollout.waves.iter().enumerate() {
        let hosts_here = rollout.ranks_in(wave).len();
        let failed_here = failed_in(wave);
        let failed = failed_before + failed_here;
        let failed_max = budget.failed_max as usize;
        if failed > failed_max || 2 * failed_here > hosts_here {
            let later = wave + 1..rollout.waves.len();
            let failed_in_all = failed + later.map(failed_in).sum::<usize>();
            let halted =
                Halted { wave, failed, failed_max, failed_here, hosts_here, failed_in_all };
            return Some(halted);
        }
        failed_before = failed;
    }
    None
}

/// Hosts with a rank below `ranks` on which `to` failed.
pub fn failed_below(
    rollout: &Rollout,
    receipts: &BTreeMap<HostId, Receipt>,
    ranks: usize,
) -> usize {
    let seen = by_rank(rollout, receipts);
    (0..ranks.min(rollout.cohort.len())).filter(|rank| seen(*rank).is_some_and(is_failure)).count()
}

/// Whether a receipt counts against a failure budget.
pub fn counts_as_failed(receipt: &Receipt) -> bool {
    is_failure((receipt.state, receipt.cause))
}

/// Whether a standing counts against a failure budget: the fleet's own way back does not, nor does
/// what fails after the rollout was complete.
pub fn is_failure((state, cause): Standing) -> bool {
    state.is_failed() && !matches!(cause, Some(Cause::Fleet | Cause::Late))
}

/// Whether a host has come to its end in a rollout that goes forward.
pub fn has_ended(standing: Standing) -> bool {
    standing.0 == State::Committed || is_failure(standing)
}

/// Whether every host of the waves up to `wave`, 0 first, but its `unreachable_max` has ended or is
/// excused, no budget being used up. Of the last wave: whether the rollout is complete.
pub fn is_done(
    rollout: &Rollout,
    wave: usize,
    seen: &dyn Fn(usize) -> Option<Standing>,
    excused: &dyn Fn(usize) -> bool,
) -> bool {
    let ranks = 0..rollout.ranks_in(wave).end;
    let waits = |rank: &usize| !seen(*rank).is_some_and(has_ended) && !excused(*rank);
    let serves = |rank: &usize| seen(*rank).is_some_and(|(state, _)| state == State::Committed);
    let (open, serve) = (ranks.clone().filter(waits).count(), { ranks }.filter(serves).count());
    halted(rollout, seen).is_none() && is_done_by(rollout, wave, open, serve)
}

/// The same, no budget being used up, by the number of hosts of the waves up to this one that are
/// `open`, neither ended nor excused, and of those that serve it.
pub fn is_done_by(rollout: &Rollout, wave: usize, open: usize, serve: usize) -> bool {
    let budget = rollout.waves.get(wave);
    // At least one host must serve it, whatever the budgets say.
    budget.is_some_and(|budget| open <= budget.unreachable_max as usize) && serve > 0
}

fn by_rank<'a>(
    rollout: &'a Rollout,
    receipts: &'a BTreeMap<HostId, Receipt>,
) -> impl Fn(usize) -> Option<Standing> + 'a {
    move |rank| {
        let receipt = receipts.get(&rollout.cohort.get(rank)?.id)?;
        Some((receipt.state, receipt.cause))
    }
}
