//! What a host sees of the others and its timers: nothing that outlives a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::HostId;
use proto::certificate::Standing;
use proto::receipt::{Cause, Receipt, State};
use proto::statement::Rollout;

use super::Peers;
use crate::UNHEARD_MS_MAX;
use crate::gate::{Gate, Heard, Sight};
use crate::verdict::Looks;

/// The receipts of the cohort by rank, and when to wake up. All times in boot milliseconds.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) plan: Option<Arc<Rollout>>,
    /// Ranks in the order of host ids.
    by_id: Vec<u32>,
    seen: Vec<Seen>,
    pub(super) peers: Peers,
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

/// The latest receipt of a host.
#[derive(Debug, Clone, Copy)]
struct Seen {
    sequence: u64,
    standing: Option<Standing>,
    /// When something new came last; at first, since when it is waited for.
    heard_ms: u64,
    /// Something newer than the first receipt has come: the host is there.
    risen: bool,
}

impl View {
    /// Nothing known, from now on.
    pub(super) fn at(now_ms: u64) -> Self {
        Self { accounted_ms: now_ms, began_ms: now_ms, ..Self::default() }
    }

    /// Sees this rollout from now on, and nobody in it.
    pub(super) fn attach(&mut self, now_ms: u64, rollout: &Arc<Rollout>) {
        let mut by_id: Vec<u32> = (0..).take(rollout.cohort.len()).collect();
        by_id.sort_unstable_by_key(|rank| &rollout.cohort[*rank as usize].id);
        self.by_id = by_id;
        let nobody = Seen { sequence: 0, standing: None, heard_ms: now_ms, risen: false };
        self.seen = vec![nobody; rollout.cohort.len()];
        self.plan = Some(Arc::clone(rollout));
    }

    pub(super) fn rank_of(&self, host: &HostId) -> Option<usize> {
        let plan = self.plan.as_ref()?;
        let id = |rank: &u32| &plan.cohort[*rank as usize].id;
        let place = self.by_id.binary_search_by(|rank| id(rank).cmp(host)).ok()?;
        Some(self.by_id[place] as usize)
    }

    /// Notes a receipt; its host's rank and the standing before, if it is newer than what was seen.
    pub(super) fn note(
        &mut self,
        now_ms: u64,
        receipt: &Receipt,
    ) -> Option<(usize, Option<Standing>)> {
        let rank = self.rank_of(&receipt.host)?;
        let seen = &mut self.seen[rank];
        if receipt.sequence <= seen.sequence {
            return None;
        }
        let before = seen.standing;
        let standing = Some((receipt.state, receipt.cause));
        // The first one may be as old as it likes: it does not end the silence.
        let risen = before.is_some();
        let heard_ms = if risen { now_ms } else { seen.heard_ms };
        *seen = Seen { sequence: receipt.sequence, standing, heard_ms, risen };
        Some((rank, before))
    }

    /// What is seen of another host, by its rank.
    pub(super) fn sight(&self, now_ms: u64, rank: usize) -> Sight {
        let Some(seen) = self.seen.get(rank) else { return Sight::default() };
        let heard = match seen.risen {
            _ if now_ms.saturating_sub(seen.heard_ms) > UNHEARD_MS_MAX => Heard::Silent,
            true => Heard::Fresh,
            false => Heard::Unsure,
        };
        Sight { standing: seen.standing, heard }
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
