//! What is heard of a cohort: the latest receipt of each host, and how many stand where.

use std::sync::Arc;

use proto::HostId;
use proto::certificate::Standing;
use proto::receipt::Receipt;
use proto::statement::Rollout;

use crate::UNHEARD_MS_MAX;
use crate::gate::{Counts, Heard, Mark, Marks, Sight};

/// The receipts of one rollout's cohort as one member has heard them, counted. All times are its own
/// boot milliseconds.
///
/// A host has its own. Where several machines of one process hear the same, they can look at one
/// ([`Input::Heard`](super::Input::Heard)); who changes it then gets a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    rollout: Arc<Rollout>,
    /// Ranks in the order of host ids.
    by_id: Arc<[u32]>,
    /// By rank.
    hosts: Vec<Known>,
    /// Those that have not fallen silent: the next one who may is the first.
    heard: Queue,
    /// With everybody who has fallen silent up to the last [`Self::count_silent`].
    counts: Counts,
    /// How often a host was heard to stand somewhere else.
    changes: u64,
}

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// Of its latest receipt; 0: none was heard.
    sequence: u64,
    standing: Option<Standing>,
    /// When something new came last; at first, since when it is waited for.
    heard_ms: u64,
    /// Something newer than the first receipt has come: the host is there.
    risen: bool,
    /// Nobody waits for it.
    excused: bool,
}

impl Known {
    fn sight(&self, now_ms: u64) -> Sight {
        let heard = Heard::at(now_ms, self.heard_ms, self.risen);
        Sight { standing: self.standing, heard }
    }

    const fn silent_after_ms(&self) -> u64 {
        self.heard_ms.saturating_add(UNHEARD_MS_MAX)
    }
}

impl Board {
    /// Nobody heard yet, from now on.
    pub fn new(now_ms: u64, rollout: &Arc<Rollout>) -> Self {
        let cohort = &rollout.cohort;
        let mut by_id: Vec<u32> = (0..).take(cohort.len()).collect();
        by_id.sort_unstable_by_key(|rank| &cohort[*rank as usize].id);
        let (sequence, standing, risen, excused) = (0, None, false, false);
        let nobody = Known { sequence, standing, heard_ms: now_ms, risen, excused };
        let mut board = Self {
            rollout: Arc::clone(rollout),
            by_id: by_id.into(),
            hosts: vec![nobody; cohort.len()],
            heard: Queue::new(cohort.len()),
            counts: Counts::new(cohort),
            changes: 0,
        };
        (0..board.hosts.len()).for_each(|rank| board.mark(now_ms, rank));
        board
    }

    pub fn rollout(&self) -> &Arc<Rollout> {
        &self.rollout
    }

    pub(super) fn rank_of(&self, host: &HostId) -> Option<usize> {
        let id = |rank: &u32| &self.rollout.cohort[*rank as usize].id;
        let place = self.by_id.binary_search_by(|rank| id(rank).cmp(host)).ok()?;
        Some(self.by_id[place] as usize)
    }

    /// Notes a receipt; the standing of its host before, if it is newer than what was heard.
    pub fn note(&mut self, now_ms: u64, receipt: &Receipt) -> Option<Option<Standing>> {
        let rank = self.rank_of(&receipt.host)?;
        let host = &mut self.hosts[rank];
        if receipt.sequence <= host.sequence {
            return None;
        }
        let before = host.standing.replace((receipt.state, receipt.cause));
        host.sequence = receipt.sequence;
        // The first one may be as old as it likes: it does not end the silence.
        host.risen = before.is_some();
        if host.risen {
            host.heard_ms = now_ms;
            self.heard.put_last(rank);
        }
        self.changes += u64::from(before != host.standing);
        self.mark(now_ms, rank);
        Some(before)
    }

    /// Nobody waits for this host any more.
    pub(super) fn excuse(&mut self, now_ms: u64, host: &HostId) {
        if let Some(rank) = self.rank_of(host) {
            self.hosts[rank].excused = true;
            self.mark(now_ms, rank);
        }
    }

    /// Counts a host where it is now.
    fn mark(&mut self, now_ms: u64, rank: usize) {
        let host = &self.hosts[rank];
        self.counts.set(rank, Marks::of(host.sight(now_ms), host.excused));
    }

    /// Whether everybody who has fallen silent is counted as such.
    pub fn is_right(&self, now_ms: u64) -> bool {
        self.fallen_silent(now_ms).is_none()
    }

    /// Counts those who have fallen silent.
    pub fn count_silent(&mut self, now_ms: u64) {
        while let Some(rank) = self.fallen_silent(now_ms) {
            self.heard.take_out(rank);
            self.mark(now_ms, rank);
        }
    }

    /// Who has fallen silent first and is not counted so.
    fn fallen_silent(&self, now_ms: u64) -> Option<usize> {
        let first = self.heard.first();
        first.filter(|rank| now_ms > self.hosts[*rank].silent_after_ms())
    }

    // --- what it shows ---

    /// What is heard of the host with this rank.
    pub(super) fn sight(&self, now_ms: u64, rank: usize) -> Sight {
        self.hosts.get(rank).map_or_else(Sight::default, |host| host.sight(now_ms))
    }

    /// Whether this host is known to be excused.
    pub(super) fn is_excused(&self, host: &HostId) -> bool {
        self.rank_of(host).is_none_or(|rank| self.hosts[rank].excused)
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    /// Hosts that count as failed.
    pub(super) fn failed(&self) -> u16 {
        self.counts.tally(0..self.hosts.len())[Mark::Failed]
    }
}

/// Ranks in the order in which their hosts were heard last: a ring, closed by a place that is no
/// host's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Queue {
    next: Vec<u32>,
    before: Vec<u32>,
}

impl Queue {
    /// All of so many, by rank.
    fn new(hosts: usize) -> Self {
        let places: Vec<u32> = (0..).take(hosts + 1).collect();
        let (mut next, mut before) = (places.clone(), places);
        next.rotate_left(1);
        before.rotate_right(1);
        Self { next, before }
    }

    fn first(&self) -> Option<usize> {
        let end = self.next.len() - 1;
        Some(self.next[end] as usize).filter(|first| *first != end)
    }

    /// Who is out stays out.
    fn take_out(&mut self, rank: usize) {
        self.link(self.before[rank] as usize, self.next[rank] as usize);
        self.link(rank, rank);
    }

    fn put_last(&mut self, rank: usize) {
        self.take_out(rank);
        let end = self.next.len() - 1;
        self.link(self.before[end] as usize, rank);
        self.link(rank, end);
    }

    #[expect(clippy::cast_possible_truncation, reason = "a cohort has ten thousand hosts at most")]
    fn link(&mut self, one: usize, other: usize) {
        self.next[one] = other as u32;
        self.before[other] = one as u32;
    }
}
