//! Certificates: receipts that together prove a claim about a rollout (R17).
//!
//! Anyone may assemble one and everyone verifies it against the signed cohort; it carries no
//! signature of its own and can only add what its receipts say. Content-addressed, persisted and
//! re-served, so a halt outlives the hosts that raised it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, HostId};
use crate::receipt::{Cause, Receipt, SignedReceipt, State};
use crate::statement::{COHORT_MAX, Rollout, Wave};

/// Longest certificate read, in bytes: a receipt of each host of the largest cohort.
pub const CERTIFICATE_BYTES_MAX: usize = COHORT_MAX * 560;

/// What a certificate proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// More hosts failed than some wave's budget allows: nobody goes on.
    Halt,
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
    #[error("a receipt is not of a host of the cohort, or stands twice")]
    Foreign,
    #[error("its receipts do not prove {0:?}")]
    NotProven(Claim),
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
    /// rollout with this id.
    ///
    /// # Errors
    ///
    /// [`CertificateError`]: another rollout, a receipt that is not the cohort's, not enough.
    pub fn verify(&self, id: Digest, rollout: &Rollout) -> Result<Vec<Receipt>, CertificateError> {
        if self.rollout != id {
            return Err(CertificateError::OtherRollout(self.rollout));
        }
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
        match proves(self.claim, rollout, &receipts) {
            true => Ok(receipts.into_values().collect()),
            false => Err(CertificateError::NotProven(self.claim)),
        }
    }
}

/// Whether `receipts`, each host's latest, prove `claim` about `rollout`.
///
/// The one place where the budgets of R14 are counted; gates ask it, too. Receipts of hosts outside
/// the cohort are ignored. Halt needs only failures to be present, so receipts that are missing can
/// delay it and never turn it around.
pub fn proves(claim: Claim, rollout: &Rollout, receipts: &BTreeMap<HostId, Receipt>) -> bool {
    let halted = rollout.waves.iter().enumerate().any(|(index, wave)| {
        let failed = failed_below(rollout, receipts, wave.hosts as usize);
        let own = rollout.ranks_in(index);
        let failed_before = failed_below(rollout, receipts, own.start);
        failed > wave.failed_max as usize || 2 * (failed - failed_before) > own.len()
    });
    match claim {
        Claim::Halt => halted,
        Claim::Complete => !halted && is_complete(rollout, receipts),
    }
}

/// Hosts with a rank below `ranks` on which `to` failed.
pub fn failed_below(
    rollout: &Rollout,
    receipts: &BTreeMap<HostId, Receipt>,
    ranks: usize,
) -> usize {
    count_below(rollout, receipts, ranks, counts_as_failed)
}

/// Whether a receipt counts against a failure budget: the fleet's own way back does not.
pub fn counts_as_failed(receipt: &Receipt) -> bool {
    receipt.state.is_failed() && receipt.cause != Some(Cause::Fleet)
}

fn is_complete(rollout: &Rollout, receipts: &BTreeMap<HostId, Receipt>) -> bool {
    let hosts = rollout.cohort.len();
    let committed = |receipt: &Receipt| receipt.state == State::Committed;
    let ended = count_below(rollout, receipts, hosts, |receipt| {
        committed(receipt) || counts_as_failed(receipt)
    });
    let unheard_max = rollout.waves.last().map_or(0, |wave: &Wave| wave.unreachable_max as usize);
    // At least one host must serve it, whatever the budgets say.
    hosts - ended <= unheard_max && count_below(rollout, receipts, hosts, committed) > 0
}

fn count_below(
    rollout: &Rollout,
    receipts: &BTreeMap<HostId, Receipt>,
    ranks: usize,
    counts: impl Fn(&Receipt) -> bool,
) -> usize {
    let members = rollout.cohort.iter().take(ranks);
    members.filter_map(|host| receipts.get(&host.id)).filter(|receipt| counts(receipt)).count()
}
