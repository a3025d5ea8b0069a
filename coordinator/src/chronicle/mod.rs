//! What becomes of what the coordinator sees: events, and the table of rollouts.
//!
//! [`observe`] compares one look at the fleet with what was told before, and says what is to be told now
//! and what is to be kept. It has no IO and no clock. What it must remember is kept in the transaction of
//! the events it leads to, so a restart, or a crash at any moment, neither repeats an event nor loses one:
//! what happened while the coordinator was away is told late, once, with the time it was seen.
//!
//! | module | what |
//! |---|---|
//! | `stance` | how a rollout stands, as far as people are told |
//! | `rollouts` | one rollout followed: its events, its row, its samples |
//! | `certificate` | the end of the pages' certificate |
//! | `acts` | what people said: freezes, holds, promotions, approvals |
//! | `hosts` | hosts lost and back, drift, the end of the root |
//! | `stuck` | hosts that could not go back |
//! | `words` | what an event says |
//! | `sampling` | when a sample is due |
//! | `waits` | what is told only once it has lasted |
//! | `part` | the part of the daemon that looks, and keeps |
//!
//! A chronicle that begins where rollouts have been does not tell their history: what was signed before
//! it began has a row, and events only from a minute after it was first seen, while it is the newest of
//! its scope. Of a look at which very much happened to hosts, one event tells of all of them.

mod acts;
mod certificate;
mod hosts;
mod part;
mod rollouts;
mod sampling;
mod stance;
mod stuck;
#[cfg(test)]
pub(crate) mod tests;
mod waits;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use proto::report::{FreezeReport, RolloutReport};
use proto::statement::{Source, UnixTime};
use proto::{Digest, HostId, Name, Scope};
use rollout::Now;
use rollout::fleet::Presence;

use crate::events::Event;
use crate::store::{Kept, Remembered, StoreError};
use crate::web::Certificate;
pub use acts::Word;
use hosts::Fleet;
use rollouts::Tracked;
use stuck::Stuck;
use waits::Waits;

pub(crate) use certificate::TOLD_S as CERTIFICATE_TOLD_S;
pub(crate) use part::keep;

/// How long something must have lasted to be told: a hold, that a hold is over, that all hosts are back,
/// that a rollout ended without anybody having ended it. The proof of another end may be on its way.
pub const STANCE_LASTS_MS: u64 = 10_000;
/// How long the proof of another end is waited for, once another rollout has taken over. It travels for
/// seconds; a host that was cut off may bring it later.
pub const PROOF_LASTS_MS: u64 = 600_000;
/// How long a host must be silent, or back, to be told of.
pub const PRESENCE_LASTS_MS: u64 = 15_000;
/// After its start the coordinator has yet to hear of those who are there.
pub const START_MS: u64 = 60_000;
/// For how long nothing is told of a rollout that is older than the chronicle: what is known of it comes in.
pub const QUIET_S: u64 = 60;
/// How far behind the clock of whoever signs a rollout may be without it being older than the chronicle.
pub const NEAR_S: u64 = 86_400;
/// Hosts to which the same happened in one look, and that have an event each.
pub const HOSTS_EACH_MAX: usize = 20;

/// What the coordinator sees at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub hosts: Vec<Presence>,
    pub rollouts: Vec<Seen>,
    /// Epoch of the newest rollout in force of each scope.
    pub heads: BTreeMap<Scope, u64>,
    pub root_version: u32,
    pub root_expires: UnixTime,
    /// Of the pages; none while there are none.
    pub certificate: Option<Certificate>,
    /// Of environments and hosts, the newest of each side, in force or not.
    pub freezes: Vec<FreezeReport>,
    /// Who removed the hosts that are no longer ones of the fleet, and why.
    pub removals: BTreeMap<HostId, (Name, String)>,
    /// Services of hosts that were told to be stuck, and are no more what a person is called for.
    pub relieved: BTreeMap<(HostId, Scope), Relief>,
}

/// Why nobody is called any more for a host that could not go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relief {
    /// It serves again, as it says itself.
    Well,
    /// A person has said that nobody waits for it.
    Skipped,
}

/// A rollout, with what its report does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub report: RolloutReport,
    /// No newer one of its scope is in force.
    pub newest: bool,
    /// Ids of both releases.
    pub from: Option<Digest>,
    pub to: Digest,
    /// What `to` was built from, as far as that is known.
    pub source: Source,
    /// The directive in force.
    pub said: Option<Word>,
    /// Who has signed it beside its author, as far as it needs that and is not known to be in force.
    pub approved: Vec<Name>,
}

/// What was told, and what is waited for.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    fleet: Fleet,
    /// Those that are followed.
    rollouts: BTreeMap<Digest, Tracked>,
    /// Those that were in force, and can change no more.
    closed: BTreeSet<Digest>,
    waits: Waits,
}

/// What one look leads to: kept all at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub events: Vec<Event>,
    pub rollouts: Vec<Kept>,
    /// What is to be remembered about the fleet: JSON. None: as it was.
    pub fleet: Option<String>,
}

impl Changes {
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty() && self.rollouts.is_empty() && self.fleet.is_none()
    }
}

impl Memory {
    /// What was kept, at the start; what was waited for is waited for anew.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`]: it does not read.
    pub fn restore(kept: Remembered) -> Result<Self, StoreError> {
        let corrupt = |error: serde_json::Error| StoreError::Corrupt {
            what: "memory of the chronicle",
            why: error.to_string(),
        };
        let fleet = kept.fleet.map(|fleet| serde_json::from_str(&fleet)).transpose();
        let mut rollouts = BTreeMap::new();
        for (row, told) in kept.open {
            let told = serde_json::from_str(&told).map_err(corrupt)?;
            rollouts.insert(row.id, Tracked { row, told });
        }
        Ok(Self {
            fleet: fleet.map_err(corrupt)?.unwrap_or_default(),
            rollouts,
            closed: kept.closed.into_iter().collect(),
            waits: Waits::default(),
        })
    }

    /// The rollouts that are followed.
    pub fn followed(&self) -> impl Iterator<Item = &Digest> {
        self.rollouts.keys()
    }

    /// Of these, the ones that every look must tell of. A report costs milliseconds where there are a
    /// thousand hosts, and what came to a good end waits for the next look at all.
    pub fn moving(&self) -> impl Iterator<Item = &Digest> {
        self.rollouts.iter().filter(|(_, tracked)| !tracked.is_settled()).map(|(id, _)| id)
    }

    /// Whether it has yet to be told that a rollout is in force.
    pub fn awaits(&self, rollout: &Digest) -> bool {
        self.rollouts.get(rollout).is_none_or(|tracked| !tracked.told.started)
    }

    /// Whether a rollout has a row already.
    pub fn knows(&self, rollout: &Digest) -> bool {
        self.rollouts.contains_key(rollout) || self.closed.contains(rollout)
    }
}

/// One look under way.
struct Look<'a> {
    now: Now,
    waits: &'a mut Waits,
    events: Vec<Event>,
    stuck: Stuck,
}

/// What is new in a look, by what was told before it. Called again and again, every few seconds at least;
/// `sight` has every rollout that [moves](Memory::moving) and is known, and new ones in the order in which
/// they are to be numbered. If what comes of it is not kept, `memory` is not good any more.
pub fn observe(memory: &mut Memory, sight: &Sight, now: Now) -> Changes {
    let before = memory.fleet.clone();
    let since = *memory.fleet.since.get_or_insert(now.unix);
    memory.waits.begin(now.boot_ms);
    let stuck = std::mem::take(&mut memory.fleet.stuck);
    let mut look = Look { now, waits: &mut memory.waits, events: Vec::new(), stuck };
    let mut kept = Vec::new();
    for seen in &sight.rollouts {
        let id = seen.report.id;
        if memory.closed.contains(&id) {
            continue;
        }
        let known = memory.rollouts.remove(&id);
        let is_new = known.is_none();
        let mut tracked = known.unwrap_or_else(|| Tracked::new(seen, since, now.unix));
        kept.extend(tracked.follow(seen, is_new, &mut look));
        if tracked.is_open(seen, &mut look) {
            memory.rollouts.insert(id, tracked);
        } else {
            memory.closed.insert(id);
        }
    }
    let there: BTreeSet<_> = sight.rollouts.iter().map(|seen| seen.report.id).collect();
    let gone: Vec<_> = memory.rollouts.keys().filter(|id| !there.contains(id)).copied().collect();
    for id in gone {
        let Some(tracked) = memory.rollouts.get_mut(&id) else { continue };
        if let Some(ended) = tracked.vanished(&sight.heads, &mut look) {
            // One that never was in force is not one of the closed: whoever hands it in again begins anew.
            if ended.row.started.is_some() {
                memory.closed.insert(id);
            }
            kept.push(ended);
            memory.rollouts.remove(&id);
        }
    }
    memory.fleet.follow(sight, &mut look);
    let knows = look.waits.has_looked_for(START_MS);
    let Look { mut events, mut stuck, .. } = look;
    stuck.follow(sight, (now.unix, knows), &mut events);
    memory.fleet.stuck = stuck;
    memory.waits.end();
    let fleet = (memory.fleet != before)
        .then(|| serde_json::to_string(&memory.fleet).expect("memories serialize"));
    Changes { events, rollouts: kept, fleet }
}
