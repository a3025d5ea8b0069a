//! Whom to ask: a bounded, random choice among the members that announce an artifact.
//!
//! Every fetcher picks about ten at random, so that who is connected to whom is near a random
//! regular graph; who turns out useless makes room for somebody else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use net::Member;
use proto::record::{ProgressRecord, SLOTS, from_text, progress_key, to_text};
use proto::{Digest, HostId};
use rand::seq::SliceRandom;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::ask::Source;

/// Members asked at a time, the origin not counted.
pub(super) const PEERS_MAX: usize = 10;
/// How often a place may go from a useless peer to another one.
const ROTATE_EVERY: Duration = Duration::from_secs(5);
/// First pause before a peer is tried again; doubled each time it fails.
const REST: Duration = Duration::from_millis(500);
/// Longest such pause.
const REST_MAX: Duration = Duration::from_secs(30);

/// The members that announce `artifact`, other than `me`.
pub(crate) fn announcers(
    members: &[Member],
    artifact: &Digest,
    me: Option<&HostId>,
) -> Vec<Source> {
    // Reading a record costs a hundred times what it does to see that it is of another artifact.
    let (keys, name) = ((0..SLOTS).map(progress_key).collect::<Vec<_>>(), to_text(artifact));
    let names = |text: &&String| text.contains(&name);
    // Without its manifest a member has nothing to give, and says so to people only.
    let is_of = |text: &String| {
        from_text::<ProgressRecord>(text)
            .is_some_and(|record| record.artifact == *artifact && record.of > 0)
    };
    let holds = |member: &&Member| {
        member.alive
            && Some(&member.host) != me
            && keys.iter().filter_map(|key| member.values.get(key)).filter(names).any(is_of)
    };
    members.iter().filter(holds).map(source).collect()
}

/// Those of `hosts` that are heard of lately, other than `me`.
pub(super) fn alive(
    members: &[Member],
    hosts: &BTreeSet<HostId>,
    me: Option<&HostId>,
) -> Vec<Source> {
    let known = members.iter().filter(|member| member.alive && Some(&member.host) != me);
    known.filter(|member| hosts.contains(&member.host)).map(source).collect()
}

/// Where a member is reached, whether it is heard of lately or not.
pub(super) fn reach(members: &[Member], host: &HostId) -> Option<Source> {
    members.iter().find(|member| member.host == *host).map(source)
}

fn source(member: &Member) -> Source {
    Source { host: member.host.clone(), address: member.address }
}

/// Who could be asked.
#[derive(Default)]
pub(super) struct Known {
    pub(super) announcers: Vec<Source>,
    /// Who fetches the same, whether or not it is known to hold any of it.
    pub(super) fetchers: Vec<Source>,
    pub(super) origin: Option<Source>,
}

/// Who is asked, who was, and who must not be.
#[derive(Default)]
pub(super) struct Peers {
    joined: BTreeMap<HostId, (Source, AbortHandle)>,
    resting: BTreeMap<HostId, Rest>,
    rotated: Option<Instant>,
}

struct Rest {
    until: Instant,
    failures: u32,
}

impl Peers {
    /// Who should be joined now: `origin` if it is not, and as many of the others as there is room for,
    /// announcers first. `useless`: joined ones that may go. If announcers wait, those go that announce
    /// nothing, and one of the others; they are returned.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        known: Known,
        useless: &[HostId],
    ) -> (Vec<Source>, Vec<HostId>) {
        let Known { announcers, fetchers, origin } = known;
        let fresh = |source: &Source| {
            !self.joined.contains_key(&source.host)
                && self.resting.get(&source.host).is_none_or(|rest| rest.until <= now)
        };
        let is_origin = |host: &HostId| origin.as_ref().is_some_and(|origin| origin.host == *host);
        let announcing: BTreeSet<&HostId> = announcers.iter().map(|source| &source.host).collect();
        let announces = |host: &HostId| announcing.contains(host);
        let waiting = |sources: &[Source]| {
            let fresh = sources.iter().filter(|peer| fresh(peer) && !is_origin(&peer.host));
            let mut waiting: Vec<Source> = fresh.cloned().collect();
            waiting.shuffle(&mut rand::rng());
            waiting
        };
        let (mut join, others) = (waiting(&announcers), waiting(&fetchers));
        let joined = self.joined.keys().filter(|host| !is_origin(host)).count();
        let mut room = PEERS_MAX.saturating_sub(joined);
        let mut leave: Vec<HostId> = Vec::new();
        if join.len() > room {
            let mute = useless.iter().filter(|host| !is_origin(host) && !announces(host));
            leave.extend(mute.take(join.len() - room).cloned());
            let rotates = self.rotated.is_none_or(|rotated| rotated + ROTATE_EVERY <= now);
            if leave.is_empty() && room == 0 && rotates {
                leave.extend(useless.iter().find(|host| !is_origin(host)).cloned());
                self.rotated = Some(now).filter(|_| !leave.is_empty()).or(self.rotated);
            }
            room += leave.len();
        }
        join.extend(others.into_iter().filter(|other| !announces(&other.host)));
        join.truncate(room);
        // Before ten others that may not answer.
        join.splice(..0, origin.iter().filter(|origin| fresh(origin)).cloned());
        (join, leave)
    }

    pub(super) fn joined(&mut self, source: Source, task: AbortHandle) {
        self.joined.insert(source.host.clone(), (source, task));
    }

    /// Where a joined peer is reached.
    pub(super) fn source(&self, host: &HostId) -> Option<&Source> {
        self.joined.get(host).map(|(source, _)| source)
    }

    pub(super) fn hosts(&self) -> Vec<HostId> {
        self.joined.keys().cloned().collect()
    }

    /// A peer makes room for another one, through no fault of its own.
    pub(super) fn release(&mut self, host: &HostId) {
        if let Some((_, task)) = self.joined.remove(host) {
            task.abort();
        }
    }

    /// A peer goes, and is left alone for a while: longer each time, until it was
    /// [useful](Self::useful).
    pub(super) fn leave(&mut self, host: &HostId, now: Instant) {
        self.release(host);
        let rest = self.resting.entry(host.clone()).or_insert(Rest { until: now, failures: 0 });
        rest.until = now + REST.saturating_mul(1 << rest.failures.min(10)).min(REST_MAX);
        rest.failures += 1;
    }

    /// A peer goes and does not come back.
    pub(super) fn ban(&mut self, host: &HostId, now: Instant) {
        self.leave(host, now);
        // Longer than any fetch; far enough from the end of time to be added to.
        let until = now + Duration::from_secs(3_600 * 24 * 365);
        self.resting.insert(host.clone(), Rest { until, failures: 0 });
    }

    /// A piece came from it: its failures are forgotten.
    pub(super) fn useful(&mut self, host: &HostId) {
        self.resting.remove(host);
    }

    /// When somebody who rests may be tried again.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.resting.values().map(|rest| rest.until).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::kit::host_id;

    fn sources(names: &[String]) -> Vec<Source> {
        let address = "127.0.0.1:7070".parse().unwrap();
        names.iter().map(|name| Source { host: host_id(name), address }).collect()
    }

    fn named(kind: &str, count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{kind}-{number}")).collect()
    }

    fn join(peers: &mut Peers, sources: Vec<Source>) {
        for source in sources {
            peers.joined(source, tokio::spawn(std::future::pending::<()>()).abort_handle());
        }
    }

    #[tokio::test]
    async fn announcers_come_first_and_mute_ones_make_room_for_them() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let origin = sources(&named("origin", 1)).pop();
        let known = |announcers: usize| Known {
            announcers: sources(&named("announcer", announcers)),
            fetchers: sources(&named("mute", 30)),
            origin: origin.clone(),
        };
        let (first, leave) = peers.choose(now, known(3), &[]);
        assert_eq!((first.len(), leave.len()), (PEERS_MAX + 1, 0));
        assert_eq!(Some(&first[0]), origin.as_ref(), "the origin is dialled first");
        let announcers = sources(&named("announcer", 3));
        assert!(announcers.iter().all(|one| first[1..4].contains(one)), "then those");
        let mute: Vec<HostId> = first[4..].iter().map(|source| source.host.clone()).collect();
        join(&mut peers, first);
        let (more, leave) = peers.choose(now, known(5), &mute);
        assert_eq!((more.len(), leave.len()), (2, 2), "two more announce, two mute ones go");
        for host in leave {
            assert!(mute.contains(&host));
            peers.release(&host);
        }
        join(&mut peers, more);
        let (more, leave) = peers.choose(now, known(5), &mute);
        assert_eq!((more.len(), leave.len()), (0, 0), "nothing changes by itself");
    }

    #[tokio::test]
    async fn of_announcers_that_are_of_no_use_one_goes_now_and_then() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let known = || Known { announcers: sources(&named("one", 30)), ..Known::default() };
        let (first, _) = peers.choose(now, known(), &[]);
        let useless: Vec<HostId> = first.iter().map(|source| source.host.clone()).collect();
        join(&mut peers, first);
        assert_eq!(peers.choose(now, known(), &[]), (vec![], vec![]), "all are of use");
        let (more, leave) = peers.choose(now, known(), &useless);
        assert_eq!((more.len(), leave.len()), (1, 1));
        leave.iter().for_each(|host| peers.release(host));
        join(&mut peers, more);
        assert_eq!(peers.choose(now, known(), &useless), (vec![], vec![]), "not at once again");
        let (more, leave) = peers.choose(now + ROTATE_EVERY, known(), &useless);
        assert_eq!((more.len(), leave.len()), (1, 1));
    }

    #[tokio::test]
    async fn who_failed_rests_longer_each_time_and_who_is_banned_for_good() {
        let (mut peers, mut now) = (Peers::default(), Instant::now());
        let one = || Known { announcers: sources(&named("one", 1)), ..Known::default() };
        let host = host_id("one-0");
        for rest in [REST, 2 * REST, 4 * REST] {
            let chosen = choice(&mut peers, now, one());
            join(&mut peers, chosen);
            peers.leave(&host, now);
            assert!(choice(&mut peers, now + rest / 2, one()).is_empty());
            now += rest;
        }
        assert_eq!(choice(&mut peers, now, one()).len(), 1);
        peers.ban(&host, now);
        assert!(choice(&mut peers, now + Duration::from_secs(3_600), one()).is_empty());
    }

    /// A record is read only where it can be of this artifact: that of another one that names it, or that does
    /// not read, is none.
    #[test]
    fn of_2_000_members_those_are_found_that_announce_it() {
        let (wanted, other) = (Digest::of(b"wanted"), Digest::of(b"other"));
        let record =
            |artifact, pieces| to_text(&ProgressRecord { artifact, pieces, of: 9, fetch: None });
        let member = |number: usize| {
            let value = match number % 5 {
                0 => record(wanted, 3),
                1 => record(other, 9),
                2 => format!("{{\"artifact\":{},\"pie", to_text(&wanted)),
                3 => String::new(),
                _ => record(wanted, 0),
            };
            Member {
                host: host_id(&format!("host-{number}")),
                address: "127.0.0.1:7070".parse().unwrap(),
                generation: 1,
                alive: number % 10 < 5,
                twin: None,
                values: [(progress_key(number % SLOTS), value)].into(),
            }
        };
        let members: Vec<Member> = (0..2_000).map(member).collect();
        let me = members[0].host.clone();
        assert_eq!(announcers(&members, &wanted, Some(&me)).len(), 399);
        let hosts = members.iter().map(|member| member.host.clone()).collect();
        assert_eq!(alive(&members, &hosts, Some(&me)).len(), 999);
        assert_eq!(alive(&members, &BTreeSet::new(), Some(&me)), []);
    }

    fn choice(peers: &mut Peers, now: Instant, known: Known) -> Vec<Source> {
        peers.choose(now, known, &[]).0
    }
}
