//! What a host sees of the others and its timers: nothing that outlives a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use proto::HostId;
use proto::certificate::Standing;
use proto::receipt::{Cause, Receipt, State};
use proto::statement::Rollout;

use super::Peers;
use super::board::Board;
use crate::gate::{Counts, Gate, Sight};
use crate::verdict::Looks;

/// The receipts of the cohort, and when to wake up. All times in boot milliseconds.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    /// What is heard of the others; none: the rollout was not told yet.
    pub(super) board: Option<Arc<Board>>,
    pub(super) peers: Peers,
    /// Where another machine speaks with this host's key.
    pub(super) twin: Option<SocketAddr>,
    /// This host is short of memory.
    pub(super) pressed: bool,
    /// Since when hosts, by rank, are seen to have their turn to go back.
    pub(super) turns: BTreeMap<usize, u64>,
    /// When this view was empty.
    pub(super) began_ms: u64,
    /// Up to when elapsed times are counted.
    pub(super) accounted_ms: u64,
    pub(super) looked_ms: Option<u64>,
    /// The record differs from what was last persisted.
    pub(super) changed: bool,
    /// A failure is new: budgets must be counted.
    pub(super) failure_is_new: bool,
    /// What the last receipt said.
    pub(super) published: Option<(State, Option<Cause>, u32, String)>,
    pub(super) why: Option<Gate>,
    /// The verdicts on the release of this attempt.
    pub(super) looks: Option<(u64, Looks)>,
    /// The verdicts on the hosts of the waves before this host's own.
    pub(super) pooled: Looks,
    pub(super) fetch_failures: u32,
    /// The effect of the step under way was given out since the start.
    pub(super) step_asked: bool,

    pub(super) look_at: Option<u64>,
    pub(super) resign_at: Option<u64>,
    pub(super) step_until: Option<u64>,
    pub(super) fetch_at: Option<u64>,
    pub(super) revert_at: Option<u64>,
    pub(super) lane_at: Option<u64>,
    pub(super) complete_at: Option<u64>,
    pub(super) certify_at: Option<u64>,
    pub(super) wave_at: Option<u64>,
}

impl View {
    /// Nothing known, from now on.
    pub(super) fn at(now_ms: u64) -> Self {
        Self { accounted_ms: now_ms, began_ms: now_ms, ..Self::default() }
    }

    /// Sees this from now on, with the hosts that are known to be excused. Whether a host stands
    /// somewhere else than on what was seen before.
    pub(super) fn attach(
        &mut self,
        now_ms: u64,
        board: Arc<Board>,
        excused: &BTreeSet<HostId>,
    ) -> bool {
        let before = self.board.as_ref().map_or((0, 0), |old| (old.changes(), old.failed()));
        let moved = board.changes() != before.0;
        self.failure_is_new |= board.failed() > before.1;
        self.board = Some(board);
        self.excuse(now_ms, excused);
        moved
    }

    /// The rollout that is seen.
    pub(super) fn plan(&self) -> Option<&Arc<Rollout>> {
        self.board.as_ref().map(|board| board.rollout())
    }

    /// Notes a receipt; the standing of its host before, if it is newer than what was heard.
    pub(super) fn note(&mut self, now_ms: u64, receipt: &Receipt) -> Option<Option<Standing>> {
        Arc::make_mut(self.board.as_mut()?).note(now_ms, receipt)
    }

    /// Nobody waits for these hosts.
    pub(super) fn excuse(&mut self, now_ms: u64, hosts: &BTreeSet<HostId>) {
        let Some(board) = &mut self.board else { return };
        for host in hosts {
            if !board.is_excused(host) {
                Arc::make_mut(board).excuse(now_ms, host);
            }
        }
    }

    /// Counts those who have fallen silent.
    pub(super) fn count_silent(&mut self, now_ms: u64) {
        if let Some(board) = self.board.as_mut().filter(|board| !board.is_right(now_ms)) {
            Arc::make_mut(board).count_silent(now_ms);
        }
    }

    /// What is seen of another host, by its rank.
    pub(super) fn sight(&self, now_ms: u64, rank: usize) -> Sight {
        self.board.as_ref().map_or_else(Sight::default, |board| board.sight(now_ms, rank))
    }

    /// The numbers of hosts, right at the time of the last [`Self::count_silent`].
    pub(super) fn counts(&self) -> Option<&Counts> {
        self.board.as_ref().map(|board| board.counts())
    }

    /// The next timer; one that the last look has seen is spent.
    pub(super) fn next_timer(&self) -> Option<u64> {
        let Self { look_at, resign_at, step_until, fetch_at, revert_at, .. } = self;
        let Self { lane_at, complete_at, certify_at, wave_at, .. } = self;
        let own = [look_at, resign_at, step_until, fetch_at, revert_at, lane_at];
        own.into_iter()
            .chain([complete_at, certify_at, wave_at])
            .copied()
            .flatten()
            .filter(|at| self.looked_ms.is_none_or(|looked_ms| *at > looked_ms))
            .min()
    }

    /// Looks again soon, but not more often than every `pause_ms`.
    pub(super) fn look_soon(&mut self, now_ms: u64, pause_ms: u64) {
        let at = self.looked_ms.map_or(now_ms, |looked_ms| now_ms.max(looked_ms + pause_ms));
        self.look_at = Some(self.look_at.map_or(at, |before| before.min(at)));
    }
}
