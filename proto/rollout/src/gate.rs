//! May the hosts of a wave start? Open, hold (why), halt (why): R14, R16, R6.
//!
//! [`decide`] is pure and total: every view gets an answer, and doubt means hold. Hosts act on its
//! value, daemons print it; it carries the numbers it was decided by.

use std::fmt;

use proto::certificate::{self, Halted, Standing};
use proto::receipt::State;
use proto::statement::{Action, Direction, RULES, Rollout};

/// What a member sees of one host of the cohort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sight {
    /// Of its latest receipt; none: no receipt was ever seen.
    pub standing: Option<Standing>,
    pub heard: Heard,
}

/// Whether a host is there, by the member's own clock (R16).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Heard {
    /// It signed something new within [`crate::UNHEARD_MS_MAX`] of the one before.
    Fresh,
    /// Not yet known: what was seen of it, if anything, may be old. The first receipt that a member
    /// sees says where a host stood, not when.
    #[default]
    Unsure,
    /// Nothing new for [`crate::UNHEARD_MS_MAX`].
    Silent,
}

/// The directive in force, as far as gates care.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Order {
    // The order of the fields is that of precedence: highest sequence, then the stronger action.
    pub sequence: u64,
    pub action: Action,
    /// The wave a promote opens, 0 first.
    pub wave: Option<u32>,
}

/// All that a decision depends on.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub rollout: &'a Rollout,
    /// By rank; asked for ranks of the cohort only.
    pub seen: &'a dyn Fn(usize) -> Sight,
    /// How long the member itself has held the rollout, without the time it was paused.
    pub held_ms: u64,
    pub order: Option<Order>,
    /// A halt is proven, whether or not the receipts at hand show it.
    pub halted: bool,
    /// Completion is proven.
    pub complete: bool,
    /// There is another effective rollout of this epoch (R5).
    pub conflict: bool,
    /// The rollout's time to open waves is over, by wall clock.
    pub expired: bool,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Hosts of the wave may start.
    Open(Open),
    /// Not now.
    Hold(Hold),
    /// Never in this rollout. None: proven by a certificate, not by the receipts at hand.
    Halt(Option<Halted>),
}

/// Why a wave is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Nothing comes before the first wave.
    First,
    /// The waves before it are done, within budgets.
    Earned(Count),
    /// A person opened it.
    Promoted,
    /// The rollout is complete: who missed it catches up.
    Complete,
}

/// Why a wave may not start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    Aborted,
    Paused,
    Conflict {
        epoch: u64,
    },
    Expired,
    /// The rollout asks for other rules than this version has (R20).
    Rules {
        needs: u32,
    },
    /// Too many hosts of the waves before it are not heard.
    Unheard {
        wave: usize,
        count: Count,
        unreachable_max: usize,
    },
    /// Hosts of the waves before it are not done.
    Undone {
        wave: usize,
        count: Count,
    },
    /// No host of the waves before it has committed: nothing says that the release is good.
    Unproven {
        wave: usize,
        count: Count,
    },
    /// This member has not held the rollout for as long as the waits of the waves before it.
    TooSoon {
        held_s: u64,
        needed_s: u64,
    },
    /// The wave is open and it is not yet this host's turn in its zone (R15).
    Slots {
        unsettled: usize,
        max_unavailable: usize,
    },
    /// The host is not in the cohort: it follows once the rollout is complete.
    Outside,
}

/// The hosts of the waves before one, counted; each host is in exactly one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub hosts: usize,
    pub committed: usize,
    pub failed: usize,
    /// Silent for too long, wherever they stood.
    pub unheard: usize,
    pub baking: usize,
    pub activating: usize,
    /// Pending, fetching, staged, or no receipt was seen yet.
    pub waiting: usize,
    /// Further than that by a receipt that may be old.
    pub unsure: usize,
    /// Back on `from` with the fleet.
    pub returned: usize,
}

/// Decides whether hosts of `wave` (0 first) may start.
///
/// The order of the ifs is the policy: stop, closed, cannot tell, go.
pub fn decide(facts: &Facts<'_>, wave: usize) -> Gate {
    if let Some(closed) = closed(facts) {
        return closed;
    }
    let promoted = facts.order.is_some_and(|order| {
        order.action == Action::Promote && order.wave.is_some_and(|upto| wave <= upto as usize)
    });
    match wave.checked_sub(1) {
        _ if facts.complete => Gate::Open(Open::Complete),
        None => Gate::Open(Open::First),
        Some(_) if promoted => Gate::Open(Open::Promoted),
        Some(before) => decide_after(facts, before),
    }
}

/// What keeps all waves closed, if anything does.
pub fn closed(facts: &Facts<'_>) -> Option<Gate> {
    let halted = certificate::halted(facts.rollout, &|rank| (facts.seen)(rank).standing);
    let action = facts.order.map(|order| order.action);
    // A complete rollout is judged: failures that are seen afterwards do not halt it, a proof does.
    if facts.halted || (halted.is_some() && !facts.complete) {
        return Some(Gate::Halt(halted));
    }
    let hold = if action == Some(Action::Abort) {
        Hold::Aborted
    } else if facts.conflict {
        Hold::Conflict { epoch: facts.rollout.epoch }
    } else if action == Some(Action::Pause) {
        Hold::Paused
    } else if facts.rollout.rules != RULES {
        Hold::Rules { needs: facts.rollout.rules }
    } else if facts.expired && !facts.complete && facts.rollout.direction == Direction::Forward {
        Hold::Expired
    } else {
        return None;
    };
    Some(Gate::Hold(hold))
}

/// Decides on the wave after `wave`.
fn decide_after(facts: &Facts<'_>, wave: usize) -> Gate {
    let rollout = facts.rollout;
    let budget = &rollout.waves[wave.min(rollout.waves.len() - 1)];
    let count = count(0..rollout.ranks_in(wave).end, facts.seen);
    let unreachable_max = budget.unreachable_max as usize;
    let needed_s = waits_s(rollout, wave);
    let held_s = facts.held_ms / 1_000;
    let hold = if count.unheard > unreachable_max {
        Hold::Unheard { wave, count, unreachable_max }
    } else if count.committed + count.failed + count.unheard < count.hosts {
        Hold::Undone { wave, count }
    } else if count.committed == 0 {
        Hold::Unproven { wave, count }
    } else if held_s < needed_s {
        Hold::TooSoon { held_s, needed_s }
    } else {
        return Gate::Open(Open::Earned(count));
    };
    Gate::Hold(hold)
}

/// Whether the host with this rank must wait for hosts before it (R15): of the lower-ranked ones in
/// its zone at most `max_unavailable - 1` may be without a settled receipt. A silent host holds its
/// place. Since settled only grows, every view, however old, gives at most `max_unavailable` hosts
/// of a zone that stopped their service.
pub fn slots(facts: &Facts<'_>, rank: usize) -> Option<Hold> {
    let rollout = facts.rollout;
    let zone = &rollout.cohort.get(rank)?.zone;
    let settled =
        |rank: usize| (facts.seen)(rank).standing.is_some_and(|(state, _)| state.is_settled());
    let unsettled =
        (0..rank).filter(|lower| !settled(*lower) && rollout.cohort[*lower].zone == *zone).count();
    let max_unavailable = rollout.max_unavailable as usize;
    (unsettled >= max_unavailable).then_some(Hold::Slots { unsettled, max_unavailable })
}

/// Seconds that waves up to and with this one ask for; none for an operator's rollback.
pub fn waits_s(rollout: &Rollout, wave: usize) -> u64 {
    (0..=wave).map(|wave| u64::from(bake_s(rollout, wave))).sum()
}

/// Bake of the hosts of a wave, in seconds; none for an operator's rollback (R12).
pub fn bake_s(rollout: &Rollout, wave: usize) -> u32 {
    match rollout.direction {
        Direction::Forward => rollout.waves.get(wave).map_or(0, |wave| wave.wait_s),
        Direction::Rollback => 0,
    }
}

/// Counts the hosts with these ranks.
pub fn count(ranks: std::ops::Range<usize>, seen: &dyn Fn(usize) -> Sight) -> Count {
    let mut count = Count { hosts: ranks.len(), ..Count::default() };
    for rank in ranks {
        let Sight { standing, heard } = seen(rank);
        let place = match standing {
            // A failure is for ever: it needs no fresh receipt.
            Some(standing) if certificate::is_failure(standing) => &mut count.failed,
            _ if heard == Heard::Silent => &mut count.unheard,
            None => &mut count.waiting,
            Some((state, _)) => match state {
                State::Pending | State::Fetching | State::Staged => &mut count.waiting,
                _ if heard == Heard::Unsure => &mut count.unsure,
                State::Activating => &mut count.activating,
                State::Baking => &mut count.baking,
                State::Committed => &mut count.committed,
                State::Reverted | State::RevertFailed => &mut count.returned,
            },
        };
        *place += 1;
    }
    count
}

// --- text ---

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(open) => open.fmt(f),
            Self::Hold(hold) => hold.fmt(f),
            Self::Halt(None) => f.write_str("halted: a certificate proves that too many failed"),
            Self::Halt(Some(halted)) => {
                let Halted { wave, failed, failed_max, failed_here, hosts_here } = halted;
                let wave = wave + 1;
                match failed > failed_max {
                    true => write!(
                        f,
                        "halted: {failed} failed in waves up to {wave}, at most {failed_max} may"
                    ),
                    false => write!(
                        f,
                        "halted: {failed_here} of {hosts_here} hosts of wave {wave} failed, more \
                         than half"
                    ),
                }
            }
        }
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("open: the first wave"),
            Self::Earned(count) => write!(f, "open: {count} before it"),
            Self::Promoted => f.write_str("open: promoted by an operator"),
            Self::Complete => f.write_str("complete: hosts that missed it catch up"),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aborted => f.write_str("aborted by an operator"),
            Self::Paused => f.write_str("paused by an operator"),
            Self::Conflict { epoch } => {
                write!(f, "held: two rollouts of epoch {epoch}; deploy again to end it")
            }
            Self::Expired => f.write_str("held: the rollout has expired, nothing new starts"),
            Self::Rules { needs } => {
                write!(f, "held: it asks for rules {needs}, this version has {RULES}")
            }
            Self::Unheard { wave, count, unreachable_max } => write!(
                f,
                "held: {} of {} hosts of waves up to {} are not heard, at most {unreachable_max} \
                 may be ({count})",
                count.unheard,
                count.hosts,
                wave + 1
            ),
            Self::Undone { wave, count } => {
                write!(f, "waiting for wave {}: {count}", wave + 1)
            }
            Self::Unproven { wave, count } => {
                write!(f, "held: no host of waves up to {} committed ({count})", wave + 1)
            }
            Self::TooSoon { held_s, needed_s } => {
                write!(f, "waiting: the rollout is held here for {held_s} of {needed_s} s")
            }
            Self::Slots { unsettled, max_unavailable } => write!(
                f,
                "waiting for its turn: {unsettled} hosts before it in its zone are not settled, \
                 at most {max_unavailable} may be stopped at once"
            ),
            Self::Outside => f.write_str("not in the cohort: it follows once this is complete"),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} hosts committed", self.committed, self.hosts)?;
        let others = [
            (self.failed, "failed"),
            (self.unheard, "not heard"),
            (self.baking, "baking"),
            (self.activating, "activating"),
            (self.waiting, "not started"),
            (self.unsure, "to be heard again"),
            (self.returned, "went back"),
        ];
        others
            .iter()
            .filter(|(hosts, _)| *hosts > 0)
            .try_for_each(|(hosts, word)| write!(f, ", {hosts} {word}"))
    }
}

#[cfg(test)]
mod test;
