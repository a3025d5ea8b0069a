//! Whom to ask: a bounded, random choice among the members that announce an artifact.
//!
//! Every fetcher picks about ten at random, so that who is connected to whom is near a random
//! regular graph; who turns out useless makes room for somebody else.

use std::collections::BTreeMap;
use std::time::Duration;

use net::Member;
use proto::record::{ProgressRecord, SLOTS, from_text, progress_key};
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
pub(super) fn announcers(
    members: &[Member],
    artifact: &Digest,
    me: Option<&HostId>,
) -> Vec<Source> {
    let holds = |member: &&Member| {
        member.alive
            && Some(&member.host) != me
            && (0..SLOTS).any(|slot| {
                let value = member.values.get(&progress_key(slot));
                let record = value.and_then(|text| from_text::<ProgressRecord>(text));
                record.is_some_and(|record| record.artifact == *artifact)
            })
    };
    members.iter().filter(holds).map(source).collect()
}

/// Those of `hosts` that are heard of lately, other than `me`.
pub(super) fn alive(members: &[Member], hosts: &[HostId], me: Option<&HostId>) -> Vec<Source> {
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
        let announces = |host: &HostId| announcers.iter().any(|source| source.host == *host);
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
                self.rotated = Some(now);
            }
            room += leave.len();
        }
        join.extend(others.into_iter().filter(|other| !announces(&other.host)));
        join.truncate(room);
        join.extend(origin.iter().filter(|origin| fresh(origin)).cloned());
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

    /// A peer goes, and is left alone for a while: longer each time, until it was
    /// [useful](Self::useful).
    pub(super) fn leave(&mut self, host: &HostId, now: Instant) {
        if let Some((_, task)) = self.joined.remove(host) {
            task.abort();
        }
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
