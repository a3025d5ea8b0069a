//! Why a statement is not taken: one variant per cause, each saying what to do where there is
//! something to do.

use crate::dsse::EnvelopeError;
use crate::id::{Digest, Env, FleetId, HostId, KeyId, Name, Scope, Service, Version};
use crate::statement::{
    Action, COORDINATOR_FREEZE_S_MAX, COORDINATOR_SEQUENCE_MAX, Kind, StatementError, UnixTime,
};

/// Why [`verify`](super::verify) took a statement for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a refusal for good: admit that statement first, then try again.
    #[error("needs statement {0} first")]
    Needs(Digest),

    // --- any kind ---
    /// Too long, malformed, or a key that signs twice.
    #[error("envelope refused: {0}")]
    Envelope(#[from] EnvelopeError),
    /// Unknown kind, malformed, an unknown critical field, a value out of range.
    #[error("statement refused: {0}")]
    Statement(#[from] StatementError),
    #[error("a {kind} of {got} bytes, at most {max} are read", kind = kind.name())]
    TooLong { kind: Kind, got: usize, max: usize },
    #[error("this {kind} is for fleet {got}, and this is {expected}", kind = kind.name())]
    WrongFleet { kind: Kind, got: FleetId, expected: FleetId },
    /// Nobody known has signed it, so it is not even kept aside.
    #[error("no key of this fleet has signed this {kind}", kind = kind.name())]
    NotSigned { kind: Kind },
    /// A key of this fleet has signed what it may not.
    #[error("key {key} ({owner}) may not sign this {kind}: {needs} must", kind = kind.name())]
    NotThisRole { kind: Kind, key: KeyId, owner: Name, needs: String },
    /// Of a rollout or directive.
    #[error("the author of this {kind}, key {author}, has not signed it", kind = kind.name())]
    AuthorNotSigned { kind: Kind, author: KeyId },
    #[error("key {author} may not be the author of this {kind}: {needs} may", kind = kind.name())]
    AuthorMayNot { kind: Kind, author: KeyId, needs: String },
    #[error(
        "made at {created}, more than a day after {newest}, the newest time known here: \
         set the clock of whoever made it, or of this host",
        created = created.0, newest = newest.0
    )]
    FromTheFuture { created: UnixTime, newest: UnixTime },

    // --- root ---
    #[error("root version {got}: this member holds {held} and takes only the next one")]
    RootVersion { got: u32, held: u32 },
    /// Two roots of one version: the root keys have signed a fork, or someone replays another one.
    #[error("root version {version} is already {known}: a second one is refused for ever")]
    RootFork { version: u32, known: Digest },
    #[error("the first root is not signed by its own threshold: {missing}")]
    GenesisUnsigned { missing: String },
    #[error("the first root has version {0}: it must be 1")]
    GenesisVersion(u32),
    #[error("a {kind} instead of the first root", kind = kind.name())]
    GenesisKind { kind: Kind },
    #[error("the first root is {got:#}, and {pinned:#} was pinned: ask whoever gave you the pin")]
    GenesisPin { got: Digest, pinned: Digest },
    #[error("there is no root version {0} here")]
    NoSuchRoot(u32),

    // --- release ---
    #[error("{service} {version} is already release {known}: publish under a new version")]
    SecondDigest { service: Service, version: Version, known: Digest },

    // --- rollout ---
    #[error("there is no environment {0} in the root")]
    UnknownEnv(Env),
    #[error("release {release} is of {got}, and this is a rollout of {expected}")]
    OtherService { release: Digest, got: Service, expected: Service },
    #[error("release {release} is version {got}, and the rollout calls it {named}")]
    OtherVersion { release: Digest, got: Version, named: Version },
    #[error("previous is a rollout of {got}, and this is one of {expected}")]
    OtherScope { got: Scope, expected: Scope },
    #[error("epoch {got}: after previous comes {expected}; deploy again from the newest rollout")]
    EpochNotNext { got: u64, expected: u64 },
    #[error("epoch {got}: an emergency may jump from {previous} by at most 1000")]
    EpochJump { got: u64, previous: u64 },
    /// It lost the race before it had its signatures.
    #[error("superseded: epoch {got}, and {head} of epoch {head_epoch} is in force; deploy again")]
    EpochTooOld { got: u64, head: Digest, head_epoch: u64 },
    #[error("{got} stage(s): the policy of {env} asks for {min} or more with so many hosts")]
    TooFewStages { env: Env, got: usize, min: usize },
    #[error("waits of {got} s in all: the policy of {env} asks for {min} s or more")]
    TooShortBake { env: Env, got: u64, min: u64 },
    /// Else `direction = "rollback"` would be a way around approvals.
    #[error(
        "release {release} was never rolled out in {scope}: going back leads only where it was"
    )]
    NeverThere { release: Digest, scope: Scope },
    /// Else it would be a way around bakes: what halted on its canary would be everywhere at once.
    #[error(
        "no rollout forward of {scope} came from release {release}: going back leads only to what \
         everything ran before one; deploy it, or retry the rollout that was stopped"
    )]
    NeverStable { release: Digest, scope: Scope },
    #[error("the policy of {0} does not let the coordinator roll back: an operator must")]
    CoordinatorMayNotRollBack(Env),
    /// It may undo the last rollout forward, and nothing else.
    #[error("the coordinator alone may go back only to where the last rollout came from")]
    CoordinatorNotBack,

    // --- directive ---
    #[error(
        "directive {got}: {action:?} with sequence {sequence} is in force; sign one that is higher"
    )]
    DirectiveTooOld { got: u64, sequence: u64, action: Action },
    #[error("the rollout is aborted, and that is for good: deploy again")]
    Aborted,
    #[error("host {host} is not in the cohort of that rollout: there is nobody to skip")]
    NotInCohort { host: HostId },
    #[error("promotes wave {wave}, and the rollout has {waves}")]
    NoSuchWave { wave: u32, waves: usize },

    // --- freeze ---
    #[error("freeze {got}: one with sequence {sequence} is in force; sign one that is higher")]
    FreezeTooOld { got: u64, sequence: u64 },
    #[error(
        "the coordinator alone may freeze for {COORDINATOR_FREEZE_S_MAX} s at most, and lift nothing"
    )]
    CoordinatorFreeze,
    #[error(
        "sequence {got}: the coordinator alone may use 1 to {COORDINATOR_SEQUENCE_MAX}, so that people can always go past it"
    )]
    CoordinatorSequence { got: u64 },
}
