//! The audit record: who changed what (R30), as the coordinator writes it.
//!
//! An entry about the database (tokens, hosts, versions) is written in the transaction of the change
//! it records, so there is neither a change without an entry nor an entry without its change.
//! Statements lie in files: one that is handed in here is recorded before it is kept, so a crash in
//! between leaves an entry whose statement has to be handed in again. What people hand to a host
//! while the coordinator is away (`--via`) comes by the swarm, and is recorded when it has an effect
//! here (`learn`). What an entry is and when a chain of them is whole stands in [`proto::audit`], the
//! tables in [`crate::store`]. Where the record ends is told to the fleet (`tell`), which remembers.

pub(crate) mod learn;
pub(crate) mod tell;

use proto::audit::RECOVER;
use proto::dsse::Envelope;
use proto::id::KeyId;
use proto::statement::{Root, Statement};
use serde_json::{Value, json};

pub use proto::audit::{Act, AuditFault, Entry, GENESIS, Head, Origin, Told, ends_at, follow};

/// What entries tell to have been done: all that this version writes.
pub const ACTIONS: [&str; 10] = [
    "access-end",
    "access-give",
    "act",
    "host-join",
    learn::LEARNED,
    "publish",
    RECOVER,
    "submit",
    "token-create",
    "token-revoke",
];

/// What the coordinator knows of its own record.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Where it ends; none: it has no entry, or was not read yet.
    pub told: Option<Told>,
    pub verified: Verified,
}

/// Whether the record is what was written, as of the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Verified {
    /// It is being read.
    #[default]
    Pending,
    Sound(Head),
    /// Why not.
    Broken(String),
}

/// The act of bringing a statement here. `action`: `submit` by the one named in `by`, or what else it
/// was. The envelope's signatures were verified.
pub fn act_of(
    root: &Root,
    envelope: &Envelope,
    statement: &Statement,
    action: &'static str,
    by: &str,
) -> Act {
    let keys: Vec<_> = envelope.signatures().keys().collect();
    Act {
        actor: signers(root, envelope),
        action,
        subject: subject_of(envelope, statement),
        detail: json!({ "about": about(statement), "keys": keys, "by": by }),
    }
}

/// What entries about a statement have as their subject.
pub fn subject_of(envelope: &Envelope, statement: &Statement) -> String {
    format!("{} {:#}", statement.kind().name(), envelope.id())
}

/// The owners of the keys that signed an envelope whose signatures were verified.
pub fn signers(root: &Root, envelope: &Envelope) -> String {
    let owner = |key: &KeyId| {
        let entry = root.keys.get(key);
        entry.map_or_else(|| key.to_string(), |entry| entry.owner.to_string())
    };
    envelope.signatures().keys().map(owner).collect::<Vec<_>>().join("+")
}

/// What a statement says, for people.
fn about(statement: &Statement) -> Value {
    match statement {
        Statement::Rollout(rollout) => json!({
            "scope": rollout.scope().to_string(),
            "epoch": rollout.epoch,
            "to": rollout.to.version,
            "direction": rollout.direction,
            "created": rollout.created,
            "reason": rollout.reason,
        }),
        Statement::Directive(directive) => json!({
            "rollout": directive.rollout,
            "action": directive.action,
            "wave": directive.wave,
            "host": directive.host,
            "created": directive.created,
            "reason": directive.reason,
        }),
        Statement::Freeze(freeze) => json!({
            "env": freeze.env,
            "host": freeze.host,
            "until": freeze.until,
            "created": freeze.created,
            "reason": freeze.reason,
        }),
        Statement::Revocation(removal) => json!({
            "env": removal.env,
            "host": removal.host,
            "created": removal.created,
            "reason": removal.reason,
        }),
        Statement::Root(root) => json!({ "version": root.version }),
        Statement::Release(release) => json!({
            "service": release.service,
            "version": release.version,
            "artifact": release.artifact.id,
            "created": release.created,
        }),
        Statement::Host(host) => json!({
            "host": host.id,
            "name": host.name,
            "labels": host.labels,
            "created": host.issued,
        }),
    }
}
