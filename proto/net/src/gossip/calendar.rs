//! What time it is at least, by what other members have signed: for a member whose own clock has lost
//! its time. It would otherwise take everybody for one from the future, and hear of no abort (R8).
//!
//! The coordinator is believed alone, hosts only together: the time is one that half of those heard
//! have reached. A member that falls silent stops at its last word, so this time may be late; it is
//! early only where half of them are.

use std::collections::BTreeMap;

use proto::HostId;
use proto::record::{self, HostRecord};

use crate::directory::Directory;

/// Hosts that are believed together, where there are so many others.
const TOGETHER_MIN: usize = 3;

/// The latest that each other member has said its clock shows, in unix seconds.
#[derive(Debug, Default)]
pub(super) struct Calendar(BTreeMap<HostId, u64>);

impl Calendar {
    /// Takes in a value that a member the directory knows has signed.
    pub(super) fn hear(&mut self, host: &HostId, key: &str, value: &str) {
        if key != record::HOST {
            return;
        }
        if let Some(HostRecord { at, .. }) = record::from_text(value) {
            let latest = self.0.entry(host.clone()).or_default();
            *latest = at.0.max(*latest);
        }
    }

    /// The time in unix milliseconds, for the host `me`; 0: too few were heard.
    pub(super) fn at_least_ms(&self, directory: &Directory, me: &HostId) -> u64 {
        let heard = self.0.iter().filter(|(host, _)| *host != me && !directory.is_removed(host));
        let (coordinators, hosts): (Vec<_>, Vec<_>) =
            heard.partition(|(host, _)| directory.is_coordinator(host));
        let mut hosts: Vec<u64> = hosts.into_iter().map(|(_, at)| *at).collect();
        hosts.sort_unstable();
        let others = directory.others(me);
        let together = hosts.len() >= others.clamp(1, TOGETHER_MIN);
        // Of an even number the earlier of the two in the middle.
        let half = hosts.len().saturating_sub(1) / 2;
        let by_hosts = hosts.get(half).copied().filter(|_| together);
        let by_coordinators = coordinators.into_iter().map(|(_, at)| *at).max();
        by_hosts.max(by_coordinators).unwrap_or_default().saturating_mul(1_000)
    }
}

#[cfg(test)]
mod tests {
    use proto::record::to_text;
    use proto::{Digest, PublicKey, UnixTime};

    use super::*;
    use crate::common::{Fleet, key};

    fn id(name: &str) -> HostId {
        HostId::of(&PublicKey::of(&key(name)))
    }

    fn directory(hosts: &[&str]) -> Directory {
        let fleet = Fleet::new("fleet-a");
        let directory = fleet.directory();
        hosts.iter().for_each(|host| directory.add_host(fleet.host(host)));
        directory
    }

    fn says(calendar: &mut Calendar, host: &HostId, at: u64) {
        let record = HostRecord {
            coordinator: false,
            version: "1".parse().unwrap(),
            at: UnixTime(at),
            heads: Digest::of(b"heads"),
        };
        calendar.hear(host, record::HOST, &to_text(&record));
    }

    #[test]
    fn r8_half_of_the_others_are_believed_and_no_fewer() {
        let directory = directory(&["me", "a", "b", "c", "d"]);
        let mut calendar = Calendar::default();
        let at_least = |calendar: &Calendar| calendar.at_least_ms(&directory, &id("me"));
        says(&mut calendar, &id("me"), 9_999);
        says(&mut calendar, &id("a"), 9_000);
        says(&mut calendar, &id("b"), 70);
        assert_eq!(at_least(&calendar), 0, "two of four");
        says(&mut calendar, &id("c"), 60);
        assert_eq!(at_least(&calendar), 70_000);
        says(&mut calendar, &id("c"), 50);
        says(&mut calendar, &id("d"), 90);
        assert_eq!(at_least(&calendar), 70_000, "the earlier of 70 and 90");
        directory.remove_host(&id("b"), "sold");
        assert_eq!(at_least(&calendar), 90_000, "one that was removed has no say");
    }

    #[test]
    fn r8_in_a_small_fleet_all_others_are_believed() {
        let directory = directory(&["me", "a"]);
        let mut calendar = Calendar::default();
        says(&mut calendar, &id("a"), 70);
        assert_eq!(calendar.at_least_ms(&directory, &id("me")), 70_000);
    }

    #[test]
    fn r8_the_coordinator_is_believed_alone() {
        let directory = directory(&["me", "a", "b", "c", "d"]);
        let mut calendar = Calendar::default();
        let coordinator = Fleet::new("fleet-a").coordinator_id();
        says(&mut calendar, &coordinator, 70);
        assert_eq!(calendar.at_least_ms(&directory, &id("me")), 70_000);
        calendar.hear(&coordinator, "s/0", r#"{"at":99}"#);
        calendar.hear(&coordinator, record::HOST, "no record");
        assert_eq!(calendar.at_least_ms(&directory, &id("me")), 70_000);
    }
}
