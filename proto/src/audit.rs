//! The audit record: who changed what, each entry hashed together with the one before it (R30).
//!
//! This module holds what an entry is and when a chain of them is whole: pure, so that whoever reads the
//! record verifies it, on a machine that is not the coordinator's. The chain shows an edit, a gap and a
//! swap to whoever reads it; that the *whole* record was rewritten shows only to those who remember an
//! earlier head: [`Memory`].

mod memory;

use serde::{Deserialize, Serialize};

use crate::id::Digest;
use crate::statement::UnixTime;

pub use memory::{
    MARKS_MAX, Mark, Memory, News, RECORDS_MAX, RIFTS_MAX, Remembered, Rift, RiftKind,
};

/// Hash before the first entry.
pub const GENESIS: Digest = Digest::from_computed([0; 32]);

/// What the first entry of a record does that was begun anew by `swell-coordinator recover`.
pub const RECOVER: &str = "recover";
/// Entries that one page of the record holds at most.
pub const PAGE_MAX: u32 = 1_000;

/// What an entry says, before it has its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who: `NAME` of a key's owner, of several `NAME+NAME`; `host HOSTID`, `token ID`, `coordinator`.
    pub actor: String,
    /// What was done: `token-create`, `host-join`, `publish`, `submit`, ...
    pub action: &'static str,
    /// To what: a token, a host, `release SERVICE VERSION`, or a statement as its kind and all of its
    /// digest, see [`statement_of`].
    pub subject: String,
    /// The rest, as a JSON object. Of a statement: `about`, what it says, its `reason` among that; `keys`,
    /// the ids of those that signed; `by`, who brought it.
    pub detail: serde_json::Value,
}

/// An entry in its place; as JSON a line of `swell audit --json`, so names are a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// Which record it is, so that one that was begun anew, by a recovery, is told from one that was
/// rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Hash of its first entry.
    pub record: Digest,
    /// When that was written.
    pub since: UnixTime,
    /// Whether that entry says that it is a recovery.
    pub recovered: bool,
}

impl Origin {
    /// Of the record whose first entry this is.
    pub fn of(first: &Entry) -> Self {
        Self { record: first.hash, since: first.at, recovered: first.action == RECOVER }
    }
}

/// What the coordinator tells of its record: a promise that it will hold this head for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    #[serde(flatten)]
    pub origin: Origin,
    #[serde(flatten)]
    pub head: Head,
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
    #[error("entry {seq}, the last, is not the one its head names")]
    OtherHead { seq: u64 },
}

/// The statement that an entry with this subject is about: `rollout DIGEST` and the like.
pub fn statement_of(subject: &str) -> Option<Digest> {
    subject.split_once(' ')?.1.parse().ok()
}

impl AuditFault {
    /// The first entry that is not as it should be, as far as the chain shows.
    pub const fn place(&self) -> u64 {
        match self {
            Self::Gap { expected, .. } => *expected,
            Self::Unlinked { seq } | Self::Edited { seq } => *seq,
            Self::Cut { expected, got } if *got < *expected => *got + 1,
            Self::Cut { expected, .. } => *expected + 1,
            Self::OtherHead { seq } => *seq,
        }
    }
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
        return Err(AuditFault::OtherHead { seq: walked.length });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(ends_at(whole, other), Err(AuditFault::OtherHead { seq: 3 }));
    }

    /// What can be done to stored entries without hashing all that follows anew.
    #[derive(Debug, Clone)]
    enum Harm {
        /// Some byte of some field of this entry, hashed again or not.
        Edit {
            at: usize,
            field: usize,
            rehash: bool,
        },
        Delete {
            at: usize,
            number_anew: bool,
        },
        Swap {
            at: usize,
            with: usize,
            number_anew: bool,
        },
        Copy {
            at: usize,
            number_anew: bool,
        },
    }

    fn harm() -> impl Strategy<Value = Harm> {
        let place = 0..30_usize;
        prop_oneof![
            (place.clone(), 0..7_usize, any::<bool>()).prop_map(|(at, field, rehash)| Harm::Edit {
                at,
                field,
                rehash
            }),
            (place.clone(), any::<bool>())
                .prop_map(|(at, number_anew)| Harm::Delete { at, number_anew }),
            (place.clone(), place.clone(), any::<bool>())
                .prop_map(|(at, with, number_anew)| { Harm::Swap { at, with, number_anew } }),
            (place, any::<bool>()).prop_map(|(at, number_anew)| Harm::Copy { at, number_anew }),
        ]
    }

    /// Does it; gives the first entry that is not what it was.
    fn harmed(entries: &mut Vec<Entry>, harm: &Harm) -> usize {
        let number = |entries: &mut Vec<Entry>, anew: bool| {
            if anew {
                (1..).zip(entries.iter_mut()).for_each(|(seq, entry)| entry.seq = seq);
            }
        };
        let place = |at: usize| at % entries.len();
        match *harm {
            Harm::Edit { at, field, rehash } => {
                let at = place(at);
                let entry = &mut entries[at];
                match field {
                    0 => entry.at = entry.at.plus_s(1),
                    1 => entry.actor.push('x'),
                    2 => entry.action.push('x'),
                    3 => entry.subject.push('x'),
                    4 => entry.detail.push(' '),
                    5 => entry.prev = Digest::of(entry.prev.as_bytes()),
                    _ => entry.hash = Digest::of(entry.hash.as_bytes()),
                }
                if rehash && field < 5 {
                    entry.hash = entry.computed();
                }
                at
            }
            Harm::Delete { at, number_anew } => {
                let at = place(at);
                entries.remove(at);
                number(entries, number_anew);
                at
            }
            Harm::Swap { at, with, number_anew } => {
                let (at, with) = (place(at), place(with));
                entries.swap(at, with);
                number(entries, number_anew);
                at.min(with)
            }
            Harm::Copy { at, number_anew } => {
                let at = place(at);
                let again = entries[at].clone();
                entries.insert(at, again);
                number(entries, number_anew);
                at + 1
            }
        }
    }

    proptest! {
        #[test]
        fn r30_any_edit_cut_or_swap_is_found_in_its_place(length in 1..30_u64, harm in harm()) {
            let whole = chain(length);
            let mut entries = whole.clone();
            let first = harmed(&mut entries, &harm);
            prop_assume!(entries != whole);
            let stored = walk(&whole).unwrap();
            let mut walked = Head::EMPTY;
            let fault = entries.iter().find_map(|entry| match follow(walked, entry) {
                Ok(head) => {
                    walked = head;
                    None
                }
                Err(fault) => Some(fault),
            });
            let fault = match fault {
                Some(fault) => fault,
                None => ends_at(stored, walked).unwrap_err(),
            };
            // A hash that was made to fit shows at the entry after it.
            let place = first as u64 + 1;
            prop_assert!((place..=place + 1).contains(&fault.place()), "{fault} of {place}");
        }
    }

    #[test]
    fn a_statement_is_named_by_a_whole_digest() {
        let digest = Digest::of(b"rollout");
        assert_eq!(statement_of(&format!("rollout {digest:#}")), Some(digest));
        for other in ["rollout 3f2a", "release web 1.4.0", "token 01ab", "", "host abcdefghij23"] {
            assert_eq!(statement_of(other), None, "{other}");
        }
    }
}
