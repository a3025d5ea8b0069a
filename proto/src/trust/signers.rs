//! Envelopes opened in the order that makes a stranger's cost the least, and who signed them.

use std::collections::BTreeSet;

use super::{Refusal, Standing};
use crate::dsse::{Envelope, pae};
use crate::id::{Digest, KeyId};
use crate::statement::{ENVELOPE_BYTES_MAX, Kind, Role, Rollout, Root, Statement, StatementError};

/// An envelope whose payload is not read yet.
pub(super) struct Opened {
    pub(super) id: Digest,
    pub(super) kind: Kind,
    pub(super) envelope: Envelope,
    /// What its signatures are over.
    message: Vec<u8>,
}

impl Opened {
    /// Reads the envelope: its size before anything else, its kind, the size that kind may have.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, Refusal> {
        let envelope = Envelope::parse(bytes, ENVELOPE_BYTES_MAX)?;
        let kind = Kind::of(envelope.payload_type()).ok_or_else(|| {
            StatementError::UnknownKind(envelope.payload_type().chars().take(80).collect())
        })?;
        let max = kind.envelope_bytes_max();
        if bytes.len() > max {
            return Err(Refusal::TooLong { kind, got: bytes.len(), max });
        }
        let message = pae(envelope.payload_type(), envelope.payload());
        Ok(Self { id: Digest::of(&message), kind, envelope, message })
    }

    /// Reads the payload.
    pub(super) fn statement(&self) -> Result<Statement, Refusal> {
        Ok(Statement::parse(&self.envelope)?)
    }

    /// The keys of `root`, of any role, that have signed this.
    pub(super) fn signers<'r>(&self, root: &'r Root) -> Signers<'r> {
        let verified = self.envelope.signatures().iter().filter(|(id, signature)| {
            (root.keys.get(*id)).is_some_and(|entry| entry.key.verifies(&self.message, signature))
        });
        Signers { root, kind: self.kind, keys: verified.map(|(id, _)| id.clone()).collect() }
    }

    /// Drops every signature but those of `signers`.
    pub(super) fn keep(&mut self, signers: &[&Signers<'_>]) {
        self.envelope.retain_signatures(|id| signers.iter().any(|of| of.keys.contains(id)));
    }
}

/// Keys of a root whose signatures on a statement verify.
#[derive(Debug, Clone)]
pub(super) struct Signers<'r> {
    pub(super) root: &'r Root,
    kind: Kind,
    keys: BTreeSet<KeyId>,
}

impl<'r> Signers<'r> {
    /// Those that hold one of `roles`; there must be one.
    pub(super) fn among(&self, roles: &[Role]) -> Result<Self, Refusal> {
        let fitting = |id: &&KeyId| roles.iter().any(|role| holds(self.root, role, id));
        let keys: BTreeSet<_> = self.keys.iter().filter(fitting).cloned().collect();
        let (kind, needs) = (self.kind, names(roles));
        match (keys.is_empty(), self.keys.first()) {
            (false, _) => Ok(Self { keys, ..self.clone() }),
            (true, None) => Err(Refusal::NotSigned { kind }),
            (true, Some(key)) => {
                let owner = self.root.keys[key].owner.clone();
                Err(Refusal::NotThisRole { kind, key: key.clone(), owner, needs })
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn with(&self, role: &Role) -> usize {
        self.keys.iter().filter(|key| holds(self.root, role, key)).count()
    }

    /// What the role's threshold lacks; a role that nobody holds is never met.
    pub(super) fn missing(&self, role: &Role) -> Option<String> {
        let signed = self.with(role);
        match self.root.roles.get(role).map(|role| usize::from(role.threshold)) {
            Some(threshold) if signed >= threshold => None,
            Some(threshold) => Some(format!("{signed} of {threshold} signatures of {role}")),
            None => Some(format!("nobody holds {role}")),
        }
    }

    /// What `role` lacks, unless the emergency's keys have signed in its place.
    pub(super) fn missing_for(&self, role: &Role) -> Option<String> {
        self.missing(&Role::Emergency).and_then(|_| self.missing(role))
    }

    /// In which capacity the author has signed: as one of `people`, or as the coordinator where
    /// that may.
    pub(super) fn author(
        &self,
        author: &KeyId,
        people: &[Role],
        coordinator_may: bool,
    ) -> Result<Author, Refusal> {
        let is = |role: &Role| holds(self.root, role, author);
        let capacity = if people.iter().any(is) {
            Author::Person
        } else if coordinator_may && is(&Role::Admit) {
            Author::Coordinator
        } else {
            let needs = names(people);
            return Err(Refusal::AuthorMayNot { kind: self.kind, author: author.clone(), needs });
        };
        match self.keys.contains(author) {
            true => Ok(capacity),
            false => Err(Refusal::AuthorNotSigned { kind: self.kind, author: author.clone() }),
        }
    }

    /// Keys that approve (R3): none of the author's, by the name of its owner. That none is the
    /// coordinator's is the root's care: no key holds both roles.
    pub(super) fn approvals(&self, rollout: &Rollout) -> usize {
        let role = Role::Approve(rollout.env.clone());
        let owner = |key: &KeyId| self.root.keys.get(key).map(|entry| &entry.owner);
        let author = owner(&rollout.author);
        let counts = |key: &&KeyId| owner(key) != author && holds(self.root, &role, key);
        self.keys.iter().filter(counts).count()
    }
}

/// Who speaks by a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    Person,
    Coordinator,
}

fn holds(root: &Root, role: &Role, key: &KeyId) -> bool {
    root.roles.get(role).is_some_and(|holders| holders.keys.contains(key))
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// Effective if nothing is missing.
pub(super) fn standing(missing: impl IntoIterator<Item = String>) -> Standing {
    let missing: Vec<_> = missing.into_iter().collect();
    match missing.is_empty() {
        true => Standing::Effective,
        false => Standing::Pending { missing: missing.join(", ") },
    }
}
