//! Which statement has an effect: `verify(chain, bytes, now)`, pure.
//!
//! A [`Chain`] is what a member has verified so far: the roots, the releases, the rollouts of each
//! scope, the directives in force. [`verify`] judges one envelope against it and changes nothing;
//! whoever stores the envelope then calls [`Chain::learn`]. Under one root, every member that learns
//! the same statements, in any order that satisfies [`Refusal::Needs`], holds the same chain: of all
//! rollouts of a scope the highest epoch is its head, of all directives the strongest is in force.
//! (One thing is first come, first served: the digest of a version, R3.)
//!
//! A signature below a threshold is kept as [`Standing::Pending`]. Members merge what they hold of
//! one statement ([`Envelope::merge`]) and verify the union.
//!
//! Old statements replayed do no harm rather than fail: a rollout below its scope's head becomes
//! history ([`Verified::superseded_by`]), since a fork that is found late must still be shown whole.
//!
//! A limit: everything that arrives is judged by the newest root. What only keys since removed have
//! signed, or a tightened policy no longer allows, stays with the members that learned it before
//! ([`verify_by_root`] lets them read it again) and cannot be learned by one that joins later; nor
//! can, then, the rollouts after it.

mod chain;
mod refusal;
mod rollout;
mod signers;
mod verify;

pub use chain::{Chain, Head, WhyNot};
pub use refusal::Refusal;
pub use rollout::check_policy;
pub use verify::{verify, verify_by_root};

use crate::dsse::Envelope;
use crate::id::Digest;
use crate::statement::Statement;

/// How far past the newest time it knows a member takes a statement for, in seconds (R8).
pub const FUTURE_S_MAX: u64 = 24 * 3_600;
/// Epochs an emergency rollout may be past the one it replaces (R5).
pub const EMERGENCY_EPOCHS_MAX: u64 = 1_000;

/// A statement whose payload is well-formed and whose kept signatures all verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub id: Digest,
    pub statement: Statement,
    /// Only with signatures that verify, by keys that `root` gives a role in this statement; so
    /// two of one statement merge without harm.
    pub envelope: Envelope,
    pub standing: Standing,
    /// The head of this rollout's scope, where that has a higher epoch: the rollout is history and
    /// has no effect. Who submitted it should plan anew.
    pub superseded_by: Option<Digest>,
}

/// Whether a statement has an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Effective,
    /// Its threshold is not met yet: kept aside, no effect. What is missing, for people.
    Pending {
        missing: String,
    },
}
