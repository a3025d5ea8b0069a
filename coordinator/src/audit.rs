//! The audit record: who changed what, each entry hashed together with the one before it (R30).
//!
//! An entry about the database (tokens, hosts, versions) is written in the transaction of the change
//! it records, so there is neither a change without an entry nor an entry without its change.
//! Statements lie in files: one that is handed in here is recorded before it is kept, so a crash in
//! between leaves an entry whose statement has to be handed in again. What people hand to a host
//! while the coordinator is away (`--via`) comes by the swarm, and has no entry yet. This module holds what an entry is and when a
//! chain of them is whole; the tables stand in [`crate::store`]. The chain shows an edit, a gap and
//! a swap to whoever reads it; that the *whole* record was rewritten shows only to those who
//! remember an earlier head.

use proto::UnixTime;
use proto::id::Digest;

/// Hash before the first entry.
pub const GENESIS: Digest = Digest::from_computed([0; 32]);

/// What an entry says, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who: `NAME` of a key's owner, `host HOSTID`, `token ID`, `coordinator`.
    pub actor: String,
    /// What was done: `token-create`, `host-join`, `publish`, `submit`, ...
    pub action: &'static str,
    /// To what: a token, a host, `service version`, a statement.
    pub subject: String,
    /// The rest, as a JSON object.
    pub detail: serde_json::Value,
}

/// An entry in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 1 first, without gaps.
    pub seq: u64,
    pub at: UnixTime,
    pub actor: String,
    pub action: String,
    pub subject: String,
    /// JSON text, hashed as it stands.
    pub detail: String,
    /// Hash of the entry before.
    pub prev: Digest,
    pub hash: Digest,
}

/// Where the record ends: enough to see later that nothing before it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Entries in all.
    pub length: u64,
    /// Hash of the last one.
    pub hash: Digest,
}

impl Head {
    /// The head of an empty record.
    pub const EMPTY: Self = Self { length: 0, hash: GENESIS };
}

/// Where a record is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    #[error("entry {expected} is missing: entry {got} stands in its place")]
    Gap { expected: u64, got: u64 },
    #[error("entry {seq} does not follow the one before it")]
    Unlinked { seq: u64 },
    #[error("entry {seq} was changed after it was written")]
    Edited { seq: u64 },
    #[error("the record ends with entry {got}, its head says {expected}")]
    Cut { expected: u64, got: u64 },
    #[error("the last entry is not the one its head names")]
    OtherHead,
}

impl Entry {
    /// The entry that follows `head`.
    pub fn after(head: Head, at: UnixTime, act: Act) -> Self {
        let mut entry = Self {
            seq: head.length + 1,
            at,
            actor: act.actor,
            action: act.action.to_owned(),
            subject: act.subject,
            detail: act.detail.to_string(),
            prev: head.hash,
            hash: GENESIS,
        };
        entry.hash = entry.computed();
        entry
    }

    /// The hash this entry must have: BLAKE3 over a domain, the hash before, and every field, each
    /// text behind its length, so that no two entries have one encoding.
    fn computed(&self) -> Digest {
        let Self { seq, at, actor, action, subject, detail, prev, hash: _ } = self;
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"groundswell audit 1\0");
        hasher.update(prev.as_bytes());
        hasher.update(&seq.to_be_bytes());
        hasher.update(&at.0.to_be_bytes());
        for text in [actor, action, subject, detail] {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        Digest::from_computed(*hasher.finalize().as_bytes())
    }
}

/// Checks that `entry` is the one after `head`, and gives the head with it.
///
/// # Errors
///
/// [`AuditFault`]: a gap, a wrong link, a changed field.
pub fn follow(head: Head, entry: &Entry) -> Result<Head, AuditFault> {
    let expected = head.length + 1;
    if entry.seq != expected {
        return Err(AuditFault::Gap { expected, got: entry.seq });
    }
    if entry.prev != head.hash {
        return Err(AuditFault::Unlinked { seq: entry.seq });
    }
    if entry.computed() != entry.hash {
        return Err(AuditFault::Edited { seq: entry.seq });
    }
    Ok(Head { length: entry.seq, hash: entry.hash })
}

/// Checks that a chain walked to `walked` is the one its stored head names.
///
/// # Errors
///
/// [`AuditFault`]: entries cut off the end, or another end.
pub fn ends_at(stored: Head, walked: Head) -> Result<(), AuditFault> {
    if stored.length != walked.length {
        return Err(AuditFault::Cut { expected: stored.length, got: walked.length });
    }
    if stored.hash != walked.hash {
        return Err(AuditFault::OtherHead);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u64) -> Vec<Entry> {
        let mut head = Head::EMPTY;
        (1..=length)
            .map(|number| {
                let act = Act {
                    actor: "ada".to_owned(),
                    action: "publish",
                    subject: format!("web {number}"),
                    detail: serde_json::json!({ "number": number }),
                };
                let entry = Entry::after(head, UnixTime(100 + number), act);
                head = Head { length: entry.seq, hash: entry.hash };
                entry
            })
            .collect()
    }

    fn walk(entries: &[Entry]) -> Result<Head, AuditFault> {
        entries.iter().try_fold(Head::EMPTY, follow)
    }

    #[test]
    fn r30_the_chain_shows_every_change() {
        type Change = fn(&mut Vec<Entry>);
        let cases: [(&str, Change, AuditFault); 9] = [
            ("actor edited", |e| e[1].actor = "eve".into(), AuditFault::Edited { seq: 2 }),
            ("time edited", |e| e[1].at = UnixTime(1), AuditFault::Edited { seq: 2 }),
            ("detail edited", |e| e[1].detail = "{}".into(), AuditFault::Edited { seq: 2 }),
            (
                "text moved between fields",
                |e| {
                    e[1].actor = "adap".into();
                    e[1].action = "ublish".into();
                },
                AuditFault::Edited { seq: 2 },
            ),
            (
                "edited and hashed again",
                |e| {
                    e[1].actor = "eve".into();
                    e[1].hash = e[1].computed();
                },
                AuditFault::Unlinked { seq: 3 },
            ),
            ("one deleted", |e| drop(e.remove(1)), AuditFault::Gap { expected: 2, got: 3 }),
            (
                "one deleted, the rest numbered anew",
                |e| {
                    e.remove(1);
                    e[1].seq = 2;
                },
                AuditFault::Unlinked { seq: 2 },
            ),
            ("swapped", |e| e.swap(1, 2), AuditFault::Gap { expected: 2, got: 3 }),
            (
                "swapped, numbered anew",
                |e| {
                    e.swap(1, 2);
                    (e[1].seq, e[2].seq) = (2, 3);
                },
                AuditFault::Unlinked { seq: 2 },
            ),
        ];
        assert_eq!(walk(&chain(4)).unwrap().length, 4);
        for (name, change, fault) in cases {
            let mut entries = chain(4);
            change(&mut entries);
            assert_eq!(walk(&entries), Err(fault), "{name}");
        }
    }

    #[test]
    fn r30_a_cut_end_shows_against_the_head() {
        let whole = walk(&chain(3)).unwrap();
        let cut = walk(&chain(2)).unwrap();
        assert_eq!(ends_at(whole, whole), Ok(()));
        assert_eq!(ends_at(whole, cut), Err(AuditFault::Cut { expected: 3, got: 2 }));
        let other = Head { hash: GENESIS, ..whole };
        assert_eq!(ends_at(whole, other), Err(AuditFault::OtherHead));
    }
}
