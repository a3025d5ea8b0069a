//! What is gossiped: small JSON values, one per key, of which each host writes only its own (R11).
//!
//! Gossip says what exists; content is fetched by digest. Keys are reused and never deleted:
//! `h`, `root`, `x`, `only`, `audit`, `s/0..8` (a scope each), `r/0..8` (a receipt each), `t/0..8` (the requests of a
//! service each), `a/0..8` (an artifact each), `d/0..8` (the drift of a service each).
//! The network layer signs each value and refuses values over [`VALUE_BYTES_MAX`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::audit::{Rift, Told};
use crate::certificate::Claim;
use crate::id::{Digest, HostId, Name, Scope, Service};
use crate::statement::UnixTime;

/// Longest value, in bytes, before the network layer adds its signature.
pub const VALUE_BYTES_MAX: usize = 420;
/// Slots of each numbered key.
pub const SLOTS: usize = 8;

/// Key of the [`HostRecord`].
pub const HOST: &str = "h";
/// Key of the [`RootRecord`].
pub const ROOT: &str = "root";
/// Key of the [`ShelfRecord`].
pub const SHELF: &str = "x";
/// Key of the [`AllowedRecord`].
pub const ALLOWED: &str = "only";
/// Key of the [`AuditRecord`].
pub const AUDIT: &str = "audit";
/// How often a member says its [`HostRecord`] anew, in milliseconds: its clock is read off it.
pub const HOST_EVERY_MS: u64 = 30_000;

/// Key of the [`ScopeRecord`] in this slot.
pub fn scope_key(slot: usize) -> String {
    format!("s/{slot}")
}

/// Key of the [receipt](crate::receipt::SignedReceipt::to_text) in this slot.
pub fn receipt_key(slot: usize) -> String {
    format!("r/{slot}")
}

/// Key of the [`TallyRecord`] in this slot, the one of its service's receipts.
pub fn tally_key(slot: usize) -> String {
    format!("t/{slot}")
}

/// Key of the [`ProgressRecord`] in this slot.
pub fn progress_key(slot: usize) -> String {
    format!("a/{slot}")
}

/// Key of the [`DriftRecord`] in this slot, the one of its service's receipts.
pub fn drift_key(slot: usize) -> String {
    format!("d/{slot}")
}

/// Who speaks, and what it serves, for people (`status`, `hosts`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Whether it is the coordinator.
    pub coordinator: bool,
    /// Version of its daemon.
    pub version: Name,
    /// Its wall clock when it said so, [`HOST_EVERY_MS`] ago at most while it is there.
    pub at: UnixTime,
    /// What it holds for the newest of every scope ([`crate::trust::Chain::heads_digest`]): equal for
    /// members that know of the same rollouts, so that a host sees whether it has missed something (R7).
    pub heads: Digest,
}

/// The only services that a host's own configuration lets run there (R23), at most [`SLOTS`]: rollouts
/// of others are planned without it. A host that does not say this runs every one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedRecord {
    pub services: BTreeSet<Service>,
}

/// What a member says of the coordinator's audit record (R30).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// The coordinator: where it ends. None: it has no entry yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// A host: the newest promise that was broken; a host that has noticed none says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rift: Option<Rift>,
}

/// The newest root a member holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRecord {
    pub version: u32,
    pub root: Digest,
}

/// The newest effective statements a member holds about a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeRecord {
    #[serde(flatten)]
    pub scope: Scope,
    pub epoch: u64,
    /// The effective rollout of that epoch.
    pub rollout: Digest,
    /// Its directive in force, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directive: Option<Digest>,
    /// Its halt certificate, if it halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt: Option<Digest>,
    /// Its completion certificate, if it is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<Digest>,
}

/// What a member holds beside the heads of its scopes: the digest of a [`Shelf`], by which it can be
/// asked for. Equal for members that hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShelfRecord {
    pub shelf: Digest,
    /// Its items.
    pub items: u32,
}

/// Statements and certificates that no [`ScopeRecord`] names: skips, freezes, revocations,
/// certificates of waves, what stopped or ended rollouts that were replaced. Fetched by its digest,
/// then each item by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shelf {
    /// Ids of statements, rising.
    pub statements: Vec<Digest>,
    /// What is proven of which rollout, rising. Not by which certificate: members may hold different
    /// proofs of one claim, and must not read each other's shelves for that.
    pub certificates: Vec<(Digest, Claim)>,
}

/// Items of one shelf.
pub const SHELF_ITEMS_MAX: usize = 8_192;
/// Longest shelf, in bytes of its JSON.
pub const SHELF_BYTES_MAX: usize = SHELF_ITEMS_MAX * 96;

impl Shelf {
    /// How many items there are.
    pub fn items(&self) -> usize {
        self.statements.len() + self.certificates.len()
    }

    /// The bytes whose digest names it.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("shelves serialize")
    }

    /// Reads one; none for anything else, or with more than [`SHELF_ITEMS_MAX`] items.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > SHELF_BYTES_MAX {
            return None;
        }
        let shelf: Self = serde_json::from_slice(bytes).ok()?;
        (shelf.items() <= SHELF_ITEMS_MAX).then_some(shelf)
    }
}

/// How much of an artifact a member holds; who holds any of it can be asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressRecord {
    pub artifact: Digest,
    /// Verified pieces.
    pub pieces: u32,
    /// Pieces in all; equal to `pieces` once it is whole, 0 while its manifest is missing.
    pub of: u32,
    /// How it comes here, or came; none: not since this daemon started, or its version does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<FetchRecord>,
}

/// The newest fetch of an artifact by a member, for people: nothing is decided by it. What is 0 or empty
/// is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FetchRecord {
    /// Whether it goes on; if not, only sums are told.
    #[serde(skip_serializing_if = "is_zero")]
    pub running: bool,
    /// Of the verified pieces here, those of earlier fetches included. [`FETCH_BYTES_MAX`] stands for
    /// that and more, here and below.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// Over the last seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_per_s: u64,
    /// Members that are asked now.
    #[serde(skip_serializing_if = "is_zero")]
    pub peers: u8,
    #[serde(skip_serializing_if = "is_zero")]
    pub from: FetchSources,
    /// How long nothing has come, in seconds; the longer, the coarser. [`FETCH_STILL_S_MAX`] stands for
    /// that and more.
    #[serde(skip_serializing_if = "is_zero")]
    pub still_s: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<StallRecord>,
    /// Who is not asked any more, and for what: the first [`FETCH_BANNED_MAX`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub banned: BTreeMap<HostId, Lie>,
}

/// Where the content of an artifact came from in one fetch, in bytes of verified pieces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct FetchSources {
    #[serde(skip_serializing_if = "is_zero")]
    pub peers: u64,
    /// Who has all of it first: the coordinator.
    #[serde(skip_serializing_if = "is_zero")]
    pub origin: u64,
    /// It was on this host already, and did not travel.
    #[serde(skip_serializing_if = "is_zero")]
    pub here: u64,
    /// Patches made it of what was on this host already.
    #[serde(skip_serializing_if = "is_zero")]
    pub patched: u64,
}

/// Why a fetch gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StallRecord {
    pub why: Stall,
    /// So many pieces are missing; of [`Stall::NoHolder`], so many are held by nobody.
    #[serde(default)]
    pub pieces: u32,
}

/// See [`StallRecord`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Stall {
    /// Nobody gives the manifest.
    NoManifest,
    /// No member that holds any of it can be reached.
    NoPeers,
    /// None of those that can be reached hold some of its pieces.
    NoHolder,
    /// All that hold what is missing asked for a pause.
    Busy,
    /// As a later version calls it.
    #[serde(other)]
    Other,
}

/// What a member did that is not asked for an artifact any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Lie {
    /// Sent bytes that are not the piece.
    WrongBytes,
    /// Announced pieces again and again that it has not.
    NotThere,
    /// Said what it holds in no form that can be.
    Malformed,
    /// As a later version calls it.
    #[serde(other)]
    Other,
}

/// Highest number of bytes in a [`FetchRecord`]: more than an artifact may have.
pub const FETCH_BYTES_MAX: u64 = 99_999_999_999;
/// Highest `still_s` of a [`FetchRecord`]: a day, about.
pub const FETCH_STILL_S_MAX: u32 = 99_999;
/// Most members that a [`FetchRecord`] names as banned.
pub const FETCH_BANNED_MAX: usize = 2;

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a host counted of a service's requests over the last window (R24).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyRecord {
    /// The release that served them.
    pub release: Digest,
    /// [`TALLY_COUNT_MAX`] stands for that and more, here and below.
    pub requests: u64,
    /// Of these.
    pub errors: u64,
    /// Requests by latency, fastest bucket first, the last without an upper bound; at most
    /// [`BUCKETS_MAX`]. Empty: not counted.
    pub latency: Vec<u64>,
    /// Upper bounds of all buckets but the last, in milliseconds, rising; each at most
    /// [`BOUND_MS_MAX`].
    pub bounds_ms: Vec<u64>,
    /// How long it counted, in milliseconds: a whole window, or less if that has just begun. 0: not
    /// told.
    #[serde(default)]
    pub over_ms: u32,
}

/// What a host serves of a service, and whether that is what was released (R25).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftRecord {
    pub service: Service,
    pub release: Digest,
    /// Whether the release serves now and no step is about to replace it. A version that does not tell
    /// says all of this only once something has drifted, and not that another release serves since.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub serves: bool,
    /// In how many places it differs; 0: it does no more.
    pub found: u32,
    /// The first of them, as a [`crate::receipt::note`].
    pub first: String,
}

/// Highest count in a [`TallyRecord`].
pub const TALLY_COUNT_MAX: u64 = 999_999_999;
/// Buckets of latency in a [`TallyRecord`].
pub const BUCKETS_MAX: usize = 12;
/// Highest bound of a bucket, in milliseconds: hours.
pub const BOUND_MS_MAX: u64 = 9_999_999;

/// The text of a record.
pub fn to_text<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("records serialize")
}

/// The record in `text`; `None` for anything else, since other versions may write other things.
pub fn from_text<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    if text.len() > VALUE_BYTES_MAX {
        return None;
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Head, Origin, RiftKind};

    /// With the highest numbers there can be.
    #[test]
    fn r30_what_is_said_of_the_audit_record_fits() {
        let hash = Digest::of(b"entry");
        let head = Head { length: u64::MAX, hash };
        let at = UnixTime(u64::MAX);
        let origin = Origin { record: hash, since: at, recovered: false };
        let rift = Rift { kind: RiftKind::Replaced, record: hash, promised: head, told: head, at };
        for said in [
            AuditRecord { told: Some(Told { origin, head }), rift: None },
            AuditRecord { told: None, rift: Some(rift) },
            AuditRecord::default(),
        ] {
            let text = to_text(&said);
            assert!(text.len() <= VALUE_BYTES_MAX, "{} bytes: {text}", text.len());
            assert_eq!(from_text(&text), Some(said));
        }
    }
}
