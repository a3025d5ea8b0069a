//! Whether the audit record is what it was: its chain, and what hosts remember of it (R30). Pure.

use std::collections::{BTreeMap, BTreeSet};

use proto::audit::{self, AuditFault, Entry, Head, Mark, Memory, Origin, Rift};
use proto::id::Digest;
use proto::statement::UnixTime;
use serde::Serialize;

/// Somebody who was told of heads, and what it remembers; or why that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) name: String,
    /// Whether it is a host: what anybody else says can speak against the record, and not for it.
    pub(crate) is_host: bool,
    pub(crate) memory: Result<Memory, String>,
}

/// Walks the record from its first entry on.
#[derive(Debug)]
pub(crate) struct Walk {
    walked: Head,
    origin: Option<Origin>,
    last_at: UnixTime,
    fault: Option<AuditFault>,
    /// The lengths at which somebody remembers a hash, and the hash there, once it is known.
    hashes: BTreeMap<u64, Option<Digest>>,
}

impl Walk {
    pub(crate) fn new(witnesses: &[Witness]) -> Self {
        let memories = witnesses.iter().filter_map(|witness| witness.memory.as_ref().ok());
        let marks = memories.flat_map(|memory| &memory.records).flat_map(|record| &record.marks);
        Self {
            walked: Head::EMPTY,
            origin: None,
            last_at: UnixTime(0),
            fault: None,
            hashes: marks.map(|mark| (mark.head.length, None)).collect(),
        }
    }

    /// Takes the next entry; whether to go on.
    pub(crate) fn take(&mut self, entry: &Entry) -> bool {
        match audit::follow(self.walked, entry) {
            Ok(head) => {
                self.walked = head;
                self.last_at = entry.at;
                self.origin.get_or_insert(Origin::of(entry));
                if let Some(hash) = self.hashes.get_mut(&entry.seq) {
                    *hash = Some(entry.hash);
                }
                true
            }
            Err(fault) => {
                self.fault = Some(fault);
                false
            }
        }
    }

    /// All entries came; `named`: where the coordinator says that the record ends.
    pub(crate) fn end(&mut self, named: Head) {
        self.fault = audit::ends_at(named, self.walked).err();
    }

    /// Why the chain does not stand.
    pub(crate) const fn fault(&self) -> Option<&AuditFault> {
        self.fault.as_ref()
    }
}

/// What is found; `swell audit --verify --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) sound: bool,
    /// As far as the chain stands.
    pub(crate) head: Head,
    /// None: it has no entry.
    pub(crate) origin: Option<Origin>,
    /// When its last entry was written.
    pub(crate) last_at: UnixTime,
    /// Hosts that were asked.
    pub(crate) hosts: usize,
    /// Those that remember heads of this record, all of which are as it stands here.
    pub(crate) agree: Vec<String>,
    /// The longest of these heads.
    pub(crate) agreed: u64,
    pub(crate) faults: Vec<Fault>,
    /// Records before this one.
    pub(crate) before: Vec<Before>,
    /// Who remembers nothing of it, and why.
    pub(crate) without: Vec<Without>,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(crate) enum Fault {
    /// The chain is broken.
    Chain { entry: u64, what: String },
    /// Entries are not what they were: somewhere from one to the other.
    Rewritten {
        from: u64,
        to: u64,
        here: Digest,
        was: Digest,
        /// When that was heard, first.
        seen: UnixTime,
        by: Vec<String>,
    },
    /// Entries from this one on are gone.
    Cut { entry: u64, was: u64, seen: UnixTime, by: Vec<String> },
    /// Another record was there before, and this one does not say that it is a recovery.
    Replaced { was: u64, seen: UnixTime, by: Vec<String> },
    /// It says that a recovery began it, and nobody has said here that there was one: so would a record that
    /// somebody put in the place of another one.
    Recovered { record: Digest, since: UnixTime },
    /// It is not the record that a recovery is said to have begun.
    NotNamed { record: Digest },
    /// No host remembers anything of it that is as it stands here: it may be any record.
    Unvouched { hosts: usize },
    /// What a host has noticed by itself.
    Noticed { by: String, what: String, at: UnixTime },
}

/// A record that was there before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Before {
    pub(crate) record: Digest,
    pub(crate) since: UnixTime,
    /// As far as it is remembered.
    pub(crate) entries: u64,
    pub(crate) seen: UnixTime,
    pub(crate) by: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Without {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// Holds a record that was walked against what was promised of it. `named`: what the id of the record starts
/// with that a recovery has begun, as somebody says who knows of that.
pub(crate) fn judge(walk: &Walk, witnesses: &[Witness], named: Option<&str>) -> Verdict {
    let mut verdict = Verdict {
        sound: true,
        head: walk.walked,
        origin: walk.origin,
        last_at: walk.last_at,
        hosts: witnesses.iter().filter(|witness| witness.is_host).count(),
        agree: Vec::new(),
        agreed: 0,
        faults: Vec::new(),
        before: Vec::new(),
        without: Vec::new(),
    };
    if let Some(fault) = &walk.fault {
        verdict.faults.push(Fault::Chain { entry: fault.place(), what: fault.to_string() });
    }
    let marks = marks_of(walk.origin, witnesses);
    verdict.faults.extend(rewritten(walk, &marks));
    verdict.faults.extend(cut(walk, &marks));
    verdict.before = before(walk.origin, witnesses);
    verdict.faults.extend(replaced(walk.origin, &verdict.before));
    verdict.faults.extend(begun_anew(walk.origin, named));
    let stands = |mark: &Mark| walk.hashes.get(&mark.head.length) == Some(&Some(mark.head.hash));
    for Witness { name, is_host, memory } in witnesses {
        let memory = match memory {
            Ok(memory) => memory,
            Err(why) => {
                verdict.without.push(Without { name: name.clone(), why: why.clone() });
                continue;
            }
        };
        let noticed = |rift: &Rift| {
            let (by, what, at) = (name.clone(), rift.to_string(), rift.at);
            Fault::Noticed { by, what, at }
        };
        verdict.faults.extend(memory.rifts.iter().map(noticed));
        let own: Vec<_> = marks.iter().filter(|(by, _)| by == name).map(|(_, mark)| mark).collect();
        if own.is_empty() {
            let why = "has heard of no entry of this record yet".to_owned();
            verdict.without.push(Without { name: name.clone(), why });
        } else if *is_host && own.iter().all(|mark| stands(mark)) {
            verdict.agree.push(name.clone());
            let longest = own.iter().map(|mark| mark.head.length).max();
            verdict.agreed = verdict.agreed.max(longest.unwrap_or(0));
        }
    }
    if verdict.agree.is_empty() {
        verdict.faults.push(Fault::Unvouched { hosts: verdict.hosts });
    }
    verdict.sound = verdict.faults.is_empty();
    verdict
}

type Marks = Vec<(String, Mark)>;

/// What is remembered of the record that was walked.
fn marks_of(origin: Option<Origin>, witnesses: &[Witness]) -> Marks {
    let mut all = Vec::new();
    for Witness { name, memory, .. } in witnesses {
        let Ok(memory) = memory else { continue };
        let own = memory
            .records
            .iter()
            .filter(|record| origin.is_some_and(|origin| origin.record == record.origin.record));
        all.extend(own.flat_map(|record| &record.marks).map(|mark| (name.clone(), *mark)));
    }
    all.sort_by_key(|(_, mark)| (mark.head.length, mark.at));
    all
}

/// The first remembered head that is another one here; what lies behind it has other hashes by that.
fn rewritten(walk: &Walk, marks: &Marks) -> Option<Fault> {
    let here = |mark: &Mark| walk.hashes.get(&mark.head.length).copied().flatten();
    let differs = |mark: &Mark| here(mark).is_some_and(|hash| hash != mark.head.hash);
    let (_, first) = marks.iter().find(|(_, mark)| differs(mark))?;
    let as_it_was = marks.iter().filter(|(_, mark)| here(mark) == Some(mark.head.hash));
    let last_good = as_it_was.map(|(_, mark)| mark.head.length);
    let last_good = last_good.filter(|length| *length < first.head.length).max().unwrap_or(0);
    let same = marks.iter().filter(|(_, mark)| mark.head == first.head);
    Some(Fault::Rewritten {
        from: last_good + 1,
        to: first.head.length,
        here: here(first)?,
        was: first.head.hash,
        seen: first.at,
        by: names(same.map(|(by, _)| by)),
    })
}

/// A head beyond the end. Where the chain breaks, the end was not reached.
fn cut(walk: &Walk, marks: &Marks) -> Option<Fault> {
    let broken = walk.fault.as_ref().is_some_and(|fault| !matches!(fault, AuditFault::Cut { .. }));
    let beyond = marks.iter().filter(|(_, mark)| mark.head.length > walk.walked.length);
    let (_, longest) = beyond.clone().next_back().filter(|_| !broken)?;
    Some(Fault::Cut {
        entry: walk.walked.length + 1,
        was: longest.head.length,
        seen: longest.at,
        by: names(beyond.map(|(by, _)| by)),
    })
}

/// The records that are not this one, the oldest first.
fn before(origin: Option<Origin>, witnesses: &[Witness]) -> Vec<Before> {
    let mut found = BTreeMap::<(UnixTime, Digest), Before>::new();
    for Witness { name, memory, .. } in witnesses {
        let records = memory.iter().flat_map(|memory| &memory.records);
        let others =
            records.filter(|one| origin.is_none_or(|origin| origin.record != one.origin.record));
        for other in others {
            let Origin { record, since, .. } = other.origin;
            let Some(last) = other.marks.last() else { continue };
            let one = found.entry((since, record)).or_insert_with(|| Before {
                record,
                since,
                entries: 0,
                seen: UnixTime(0),
                by: Vec::new(),
            });
            one.by.push(name.clone());
            if last.head.length > one.entries {
                (one.entries, one.seen) = (last.head.length, last.at);
            }
        }
    }
    found.into_values().collect()
}

fn replaced(origin: Option<Origin>, before: &[Before]) -> Option<Fault> {
    if origin.is_some_and(|origin| origin.recovered) {
        return None;
    }
    let last = before.last()?;
    Some(Fault::Replaced { was: last.entries, seen: last.seen, by: last.by.clone() })
}

/// Whether somebody knows of the recovery that is said to have begun it.
fn begun_anew(origin: Option<Origin>, named: Option<&str>) -> Option<Fault> {
    let Origin { record, since, recovered } = origin?;
    match named {
        Some(named) if !format!("{record:#}").starts_with(named) => {
            Some(Fault::NotNamed { record })
        }
        None if recovered => Some(Fault::Recovered { record, since }),
        _ => None,
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    names.collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

#[cfg(test)]
mod tests;
