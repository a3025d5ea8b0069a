//! This host, measured by what the other members say of themselves: does it know of the newest
//! rollouts, and is its clock right (R7, R8).
//!
//! Every member gossips a [`HostRecord`], signed by itself and said anew every half minute. Whoever
//! can hold gossip back from this host, or is the only one to talk to it, cannot make it believe that
//! it has missed nothing: that takes the coordinator, or several hosts.
//!
//! No clock is compared with what was said long ago: what counts of a record is how far it was off
//! when it came, and it grows old by the time that passed since on this host's own clock that never
//! steps.

use std::collections::{BTreeMap, BTreeSet};

use proto::record::{self, HostRecord};
use proto::statement::{Host, Role};
use proto::trust::Chain;
use proto::{Digest, HostId, UnixTime, Zone};

use crate::Now;
use crate::host::Peers;

/// Hosts that confirm, where there are as many others.
pub const CONFIRMING_MIN: usize = 3;
/// Members whose clocks make a median: one that is wrong, or lies, does not move it far.
pub const CLOCKS_MIN: usize = 3;
/// A record that says it is older, or younger, than so many seconds confirms nothing: the heartbeats
/// of a member that is gone are not signed, and anybody could go on with them.
pub const FRESH_S_MAX: u64 = 24 * 3_600;

/// Who the others are, by verified statements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// The members whose key the root lets admit.
    pub coordinators: BTreeSet<HostId>,
    /// The hosts of the fleet that were not removed, without this one.
    pub hosts: BTreeMap<HostId, Zone>,
}

impl Others {
    /// All but the member `me`, of these that belong to the fleet.
    pub fn of(me: &HostId, chain: &Chain, hosts: &[Host]) -> Self {
        let others = hosts.iter().filter(|host| host.id != *me);
        let present = others.filter(|host| chain.removal(host).is_none());
        let coordinators = chain.root().keys_of(&Role::Admit).map(|(_, key)| HostId::of(key));
        Self {
            coordinators: coordinators.filter(|id| id != me).collect(),
            hosts: present.map(|host| (host.id.clone(), host.zone())).collect(),
        }
    }
}

/// The latest record of every other live member.
#[derive(Debug, Clone, Default)]
pub struct Records(BTreeMap<HostId, Heard>);

#[derive(Debug, Clone)]
struct Heard {
    /// As it was said: what is repeated is not read again.
    text: String,
    record: HostRecord,
    /// When it came, by this host's own clock.
    came_ms: u64,
}

impl Heard {
    /// What the clock of whoever said it shows now.
    fn clock(&self, now: Now) -> UnixTime {
        self.record.at.plus_s(now.boot_ms.saturating_sub(self.came_ms) / 1_000)
    }
}

impl Records {
    /// Takes in the [`record::HOST`] values of all members that are heard of at `now`; forgets those
    /// of others.
    pub fn observe<'a>(&mut self, now: Now, live: impl Iterator<Item = (&'a HostId, &'a String)>) {
        let mut heard = BTreeMap::new();
        for (host, text) in live {
            let known = self.0.remove(host).filter(|known| known.text == *text);
            let newly = || {
                let record = record::from_text::<HostRecord>(text)?;
                Some(Heard { text: text.clone(), record, came_ms: now.boot_ms })
            };
            if let Some(one) = known.or_else(newly) {
                heard.insert(host.clone(), one);
            }
        }
        self.0 = heard;
    }

    /// What the others say of a host that holds these heads.
    pub fn judge(&self, now: Now, heads: Digest, others: &Others) -> Peers {
        Peers {
            confirmed: self.confirmed(now, heads, others),
            clock_ahead_s: self.clock_ahead_s(now, others),
        }
    }

    fn confirmed(&self, now: Now, heads: Digest, others: &Others) -> bool {
        let says_so = |host: &HostId| {
            self.0.get(host).is_some_and(|heard| {
                heard.record.heads == heads && heard.record.at.0.abs_diff(now.unix.0) <= FRESH_S_MAX
            })
        };
        if others.coordinators.iter().any(says_so) {
            return true;
        }
        let zones = |hosts: &[(&HostId, &Zone)]| -> usize {
            hosts.iter().map(|(_, zone)| *zone).collect::<BTreeSet<_>>().len()
        };
        let all: Vec<_> = others.hosts.iter().collect();
        let same: Vec<_> = others.hosts.iter().filter(|(host, _)| says_so(host)).collect();
        // Alone in its fleet, nobody can know more.
        same.len() >= all.len().min(CONFIRMING_MIN) && zones(&same) >= zones(&all).min(2)
    }

    /// The median over the members that count; of an even number the middle of the two.
    fn clock_ahead_s(&self, now: Now, others: &Others) -> Option<i64> {
        let counts =
            |host: &HostId| others.coordinators.contains(host) || others.hosts.contains_key(host);
        let counted = self.0.iter().filter(|(host, _)| counts(host));
        let mut ahead: Vec<i64> =
            counted.map(|(_, heard)| seconds_between(heard.clock(now), now.unix)).collect();
        ahead.sort_unstable();
        let (half, odd) = (ahead.len() / 2, ahead.len() % 2 == 1);
        if ahead.len() < CLOCKS_MIN {
            return None;
        }
        let low = ahead[half - usize::from(!odd)];
        Some(i64::midpoint(low, ahead[half]))
    }
}

/// From one time to another, in seconds.
fn seconds_between(from: UnixTime, to: UnixTime) -> i64 {
    let whole = i64::try_from(to.0.abs_diff(from.0)).unwrap_or(i64::MAX);
    if to < from { -whole } else { whole }
}

#[cfg(test)]
mod test;
