//! Which statement has an effect: `verify(chain, bytes, now)`, pure.
//!
//! A [`Chain`] is what a member has verified so far: the root chain, the releases, the newest
//! rollout of each scope, the directives in force. [`verify`] judges one envelope against it and
//! changes nothing; whoever stores the envelope then calls [`Chain::learn`]. Every member that
//! learns the same statements, in any order that satisfies [`Refusal::Needs`], holds the same chain.

use std::collections::BTreeMap;

use crate::dsse::Envelope;
use crate::id::{Digest, Scope, Service, Version};
use crate::statement::{Directive, Release, Rollout, Root, Statement, UnixTime};

/// What a member has verified so far.
#[derive(Debug, Clone)]
pub struct Chain {
    root: Root,
    root_id: Digest,
    releases: BTreeMap<Digest, Release>,
    versions: BTreeMap<(Service, Version), Digest>,
    rollouts: BTreeMap<Digest, Rollout>,
    heads: BTreeMap<Scope, Head>,
    directives: BTreeMap<Digest, (Digest, Directive)>,
}

/// The newest effective rollout of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub epoch: u64,
    pub rollout: Digest,
    /// A second effective rollout of the same epoch (R5): neither may start anything.
    pub conflict: Option<Digest>,
}

/// A statement whose payload is well-formed and whose kept signatures all verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub id: Digest,
    pub statement: Statement,
    /// Only with signatures by keys that `root` knows and that verify.
    pub envelope: Envelope,
    pub standing: Standing,
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
