//! May the hosts of a wave start, and may this one? Open, hold (why), halt (why): R14 to R16, R6.
//!
//! [`decide`] is about a wave, [`decide_for`] about one host of it, [`back`] about its way back. All
//! are pure and total: every view gets an answer, and doubt means hold. Hosts act on the value,
//! daemons print it; it carries the numbers it was decided by.
//!
//! The order of the ifs is the policy, and this is it; the first that applies is the answer:
//!
//! | asked | binds a rollback | binds the lane of a complete rollout |
//! |---|---|---|
//! | is it halted, is it aborted | yes | yes |
//! | are there two of this epoch, is it paused, does it ask for other rules | yes | yes |
//! | has it expired, or the root in force | no | no |
//! | is the environment (or this host) frozen, is it outside its windows | no | yes |
//! | is this host removed | yes | yes |
//! | was this host skipped | yes | no |
//! | does another machine speak with this host's key (R9) | no | yes |
//! | is the release in this host's penalty box | no | no |
//! | is this host's clock wrong, may there be news that it has not heard | no | yes |
//! | do the requests of the waves before it, pooled, show that the release is worse (R24) | no | no |
//! | is the wave open: first, promoted, or earned by the waves before it | yes | no |
//! | are too many hosts before it under way: rolling, or in the lane | yes | yes |
//! | are too many hosts of its zone stopped | yes | yes |
//!
//! What is counted of the cohort are hosts with a [`Mark`]. A host looks again and again, so it keeps
//! the numbers up to date ([`Counts`]); who asks once has each host asked.
//!
//! A promote opens a wave and answers nothing else: it stands in the row of the waves (and passes over
//! hosts of a rolling rollout that are not heard). Ways back ask none of this: only [`back`].
//!
//! A wave is earned once the hosts of the waves before it are heard, done and proven, the rollout was
//! held for long enough, and, where requests are counted, those of all hosts that run the new release
//! are not worse than those of the hosts on the old one:
//!
//! | pooled requests ([`crate::verdict::pooled`]) | the next wave | a promote |
//! |---|---|---|
//! | not counted in this rollout: no metrics, an operator's rollback | opens | opens |
//! | not worse; no control (a first deployment) and within the absolute limit | opens | opens |
//! | quiet: too few on either side, or nobody says what it counts | opens by checks alone | opens |
//! | not compared yet | holds: the next look is seconds away | opens |
//! | shared outage, or too few where the old release has traffic | holds for [`DOUBT_MS_MAX`] at most | opens |
//! | worse | holds until an abort or the rollout's expiry, or all comparisons of [`DOUBT_MS_MAX`] pass | holds |
//!
//! Worse holds and does not halt: a halt is proven by signed receipts of failures (R17), counts are
//! what each host says of itself, and one that lies may weigh as three. Who is worse on its own has
//! gone back by itself and counts as failed. Behind the last wave there is no gate: what binds the
//! completion is the bake of each host.
//!
//! [`DOUBT_MS_MAX`]: crate::verdict::DOUBT_MS_MAX

mod expiry;
mod tally;
mod text;

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::ops::Range;

use proto::UnixTime;
use proto::certificate::{self, Halted, Standing};
use proto::statement::{Action, Direction, RULES, Rollout};

use crate::UNHEARD_MS_MAX;
use crate::verdict::{Conclusion, Verdict};
pub use expiry::{Expired, Expiry};
pub use tally::{Counted, Counts, Mark, Marks, Tally};

/// Furthest a host's wall clock may be from the others' median, in seconds, for it to start anything
/// (R8).
pub const CLOCK_OFF_S_MAX: u64 = 120;

/// Shortest part of a bake, behind its warmup, in which requests are counted, in seconds (R24).
pub const COUNTED_S_MIN: u32 = 10;

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

impl Heard {
    /// At `now_ms`, of a host of which something new came last, or that is waited for, since
    /// `since_ms`. `risen`: something newer than its first receipt has come.
    pub(crate) fn at(now_ms: u64, since_ms: u64, risen: bool) -> Self {
        match risen {
            _ if now_ms > since_ms.saturating_add(UNHEARD_MS_MAX) => Self::Silent,
            true => Self::Fresh,
            false => Self::Unsure,
        }
    }
}

/// The directive in force, as far as gates care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Order {
    pub sequence: u64,
    pub action: Action,
    /// The wave a promote opens, 0 first.
    pub wave: Option<u32>,
}

impl Order {
    /// What is greater is in force, as with [`proto::trust::Chain::directive`]: the highest sequence,
    /// then the stronger action; of two promotes the one that opens less.
    pub fn strength(self) -> (u64, Action, Reverse<Option<u32>>) {
        (self.sequence, self.action, Reverse(self.wave))
    }

    /// Whether it opens this wave, over whatever is not known of the ones before it (R6).
    pub fn opens(self, wave: usize) -> bool {
        self.action == Action::Promote && self.wave.is_some_and(|upto| wave <= upto as usize)
    }
}

/// All that a decision depends on.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub rollout: &'a Rollout,
    /// By rank; asked for ranks of the cohort only.
    pub seen: &'a dyn Fn(usize) -> Sight,
    /// Whether nobody waits for the host with a rank: it was skipped, or removed.
    pub excused: &'a dyn Fn(usize) -> bool,
    /// What these two come to, where that is kept; none: they are asked of each host.
    pub counted: Option<Counted<'a>>,
    /// How long the member itself has held the rollout, without the time it was paused.
    pub held_ms: u64,
    pub order: Option<Order>,
    /// A halt is proven, whether or not the receipts at hand show it.
    pub halted: bool,
    /// Completion is proven.
    pub complete: bool,
    /// There is another effective rollout of this epoch (R5).
    pub conflict: bool,
    /// Wall clock, as far as it is believed ([`proto::trust::Chain::believed`]).
    pub unix: UnixTime,
    pub expiry: Expiry,
    /// The first second in which the freezes in force let something new start; none: no freeze.
    pub frozen_until: Option<UnixTime>,
    /// What the requests of all hosts of the waves up to one come to, against the old release; asked
    /// only where they are counted.
    pub pooled: &'a dyn Fn(usize) -> Conclusion,
}

/// What a host knows of itself, beside the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Its place in the cohort; none: outside.
    pub rank: Option<usize>,
    /// It was removed from the environment.
    pub removed: bool,
    /// Where another machine speaks with its key (R9).
    pub twin: Option<SocketAddr>,
    /// It knows of a stop of an earlier rollout to the same release, and this one is no retry (R17).
    pub boxed: bool,
    /// Others know of the same newest rollouts, or did within the last day (R7).
    pub confirmed: bool,
    /// How far its clock is ahead of the others', in seconds; none: not known (R8).
    pub clock_ahead_s: Option<i64>,
    /// It is short of memory.
    pub pressed: bool,
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

impl Gate {
    /// The same answer with other numbers for the hosts that are waited for, those of the lowest ranks:
    /// people are shown where hosts stand, also by a receipt that is not enough to open a wave. Where
    /// nothing else is missing, that is what they are told.
    #[must_use]
    pub fn recounted(self, recount: impl FnOnce(Range<usize>) -> Count) -> Self {
        let Self::Hold(Hold::Undone { wave, count }) = self else { return self };
        let shown = recount(0..count.hosts);
        match shown.is_done() {
            true => self,
            false => Self::Hold(Hold::Undone { wave, count: shown }),
        }
    }
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
    /// The rollout asks for other rules than this version has (R20).
    Rules {
        needs: u32,
    },
    /// It has expired, or the root in force has (R7).
    Expired(Expired),
    /// Nothing new starts before then in the environment, or on this host.
    Frozen {
        until: UnixTime,
    },
    /// None of the rollout's windows is open.
    OutsideWindows {
        opens: UnixTime,
    },
    /// This host was removed from the environment.
    Removed,
    /// This host was skipped: the rollout goes on without it.
    Skipped,
    /// Another machine speaks with this host's key (R9).
    Twin {
        address: SocketAddr,
    },
    /// The release was stopped in an earlier rollout (R17).
    Boxed,
    /// The clock of this host is too far from the others' (R8).
    ClockOff {
        ahead_s: i64,
    },
    /// This host has not enough memory now to start anything. How much it has is not said here: the
    /// others are told a hold once, and not each number anew.
    Pressed,
    /// Nobody has shown for a day that this is the newest rollout (R7).
    Unconfirmed,
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
    /// The requests of all hosts of the waves before it show that the release is worse (R24).
    Worse(Verdict),
    /// They do not show whether it is. None: they were not compared yet.
    Unclear(Option<Verdict>),
    /// Too many hosts before this one have not come to their end: a rolling rollout.
    InFlight {
        under_way: usize,
        in_flight_max: usize,
    },
    /// Too many hosts before this one are not heard, or not yet: a rolling rollout.
    UnheardBefore {
        count: Count,
        unreachable_max: usize,
    },
    /// Hosts before this one catch up with a complete rollout, too.
    Lane {
        before: usize,
        at_once: usize,
    },
    /// The wave is open and it is not yet this host's turn in its zone (R15).
    Slots {
        unsettled: usize,
        max_unavailable: usize,
    },
    /// This host has baked, and what requests came to it does not show that the release is good
    /// (R24). None: they were not compared yet.
    Inconclusive(Option<Verdict>),
    /// It is not yet this host's turn to go back (R15).
    Back {
        unsettled: usize,
        max_unavailable: usize,
    },
    /// The host is not in the cohort: it follows once the rollout is complete.
    Outside,
}

impl Hold {
    /// Whether it is about this one host, and others learn of it by its receipts alone.
    pub const fn is_own(&self) -> bool {
        matches!(
            self,
            Self::Rules { .. }
                | Self::Removed
                | Self::Twin { .. }
                | Self::Boxed
                | Self::ClockOff { .. }
                | Self::Pressed
                | Self::Unconfirmed
        )
    }
}

/// The hosts of the waves before one, counted; each host is in exactly one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub hosts: usize,
    pub committed: usize,
    pub failed: usize,
    /// Nobody waits for them, and they have neither committed nor failed.
    pub skipped: usize,
    /// Silent for too long, wherever they stood.
    pub unheard: usize,
    pub baking: usize,
    pub activating: usize,
    /// Pending, fetching, staged, or no receipt was seen yet.
    pub waiting: usize,
    /// Further than that by a receipt that may be old.
    pub unsure: usize,
    /// Back on `from` with the fleet, or never left it.
    pub returned: usize,
}

impl Count {
    /// Whether nobody is waited for.
    const fn is_done(&self) -> bool {
        self.committed + self.failed + self.skipped + self.unheard >= self.hosts
    }
}

/// Decides whether hosts of `wave` (0 first) may start.
pub fn decide(facts: &Facts<'_>, wave: usize) -> Gate {
    closed(facts).unwrap_or_else(|| decide_unclosed(facts, wave))
}

/// Decides whether this host may start, now that it has everything on its disk.
pub fn decide_for(facts: &Facts<'_>, own: &Own) -> Gate {
    let kept = || kept_back(facts, own).map(Gate::Hold);
    if let Some(no) = closed(facts).or_else(kept) {
        return no;
    }
    let Some(rank) = own.rank else {
        return match facts.complete {
            true => Gate::Open(Open::Complete),
            false => Gate::Hold(Hold::Outside),
        };
    };
    match decide_unclosed(facts, facts.rollout.wave_of(rank)) {
        Gate::Open(open) => turn(facts, rank).map_or(Gate::Open(open), Gate::Hold),
        closed => closed,
    }
}

/// What keeps all waves closed, if anything does.
pub fn closed(facts: &Facts<'_>) -> Option<Gate> {
    let rollout = facts.rollout;
    let halted = halted(facts);
    let action = facts.order.map(|order| order.action);
    // A complete rollout is judged: failures that are seen afterwards do not halt it, a proof does.
    if facts.halted || (halted.is_some() && !facts.complete) {
        return Some(Gate::Halt(halted));
    }
    let frozen = facts.frozen_until.filter(|until| facts.unix < *until);
    let expired = facts.expiry.expired(facts.unix).filter(|_| !facts.complete);
    let hold = if action == Some(Action::Abort) {
        Hold::Aborted
    } else if facts.conflict {
        Hold::Conflict { epoch: rollout.epoch }
    } else if action == Some(Action::Pause) {
        Hold::Paused
    } else if rollout.rules != RULES {
        Hold::Rules { needs: rollout.rules }
    } else if rollout.direction == Direction::Rollback {
        return None;
    } else if let Some(expired) = expired {
        Hold::Expired(expired)
    } else if let Some(until) = frozen {
        Hold::Frozen { until }
    } else if let Some(opens) = next_window(facts) {
        Hold::OutsideWindows { opens }
    } else {
        return None;
    };
    Some(Gate::Hold(hold))
}

/// The first budget for failures that is used up, by the receipts at hand.
pub fn halted(facts: &Facts<'_>) -> Option<Halted> {
    let failed = |wave| facts.tally(facts.rollout.ranks_in(wave))[Mark::Failed].into();
    let halted = certificate::halted_by(facts.rollout, &failed);
    debug_assert_eq!(halted, certificate::halted(facts.rollout, &|rank| facts.standing(rank)));
    halted
}

/// Whether nobody of the waves up to this one is waited for any more: a host that can be heard and has
/// not ended is, whatever the budget says, unless it is excused.
pub fn is_waited_out(facts: &Facts<'_>, wave: usize) -> bool {
    facts.tally(0..facts.rollout.ranks_in(wave).end)[Mark::Awaited] == 0
}

/// Whether the receipts at hand are enough for a certificate that the waves up to this one are done.
pub fn is_done(facts: &Facts<'_>, wave: usize) -> bool {
    let rollout = facts.rollout;
    let tally = facts.tally(0..rollout.ranks_in(wave).end);
    let (open, serve) = (tally[Mark::Open].into(), tally[Mark::Serves].into());
    let done = certificate::is_done_by(rollout, wave, open, serve) && halted(facts).is_none();
    let seen = |rank| facts.standing(rank);
    debug_assert_eq!(done, certificate::is_done(rollout, wave, &seen, facts.excused));
    done
}

/// When the next window opens; none: one is open, or there are none.
fn next_window(facts: &Facts<'_>) -> Option<UnixTime> {
    let opens = facts.rollout.windows.iter().map(|window| window.next_open(facts.unix)).min();
    opens.filter(|opens| *opens > facts.unix)
}

/// What keeps this one host from starting, whatever the others do.
fn kept_back(facts: &Facts<'_>, own: &Own) -> Option<Hold> {
    let off = own.clock_ahead_s.filter(|ahead_s| ahead_s.unsigned_abs() > CLOCK_OFF_S_MAX);
    if own.removed {
        Some(Hold::Removed)
    } else if own.rank.is_some_and(facts.excused) && !facts.complete {
        Some(Hold::Skipped)
    } else if facts.rollout.direction == Direction::Rollback {
        None
    } else if let Some(address) = own.twin {
        Some(Hold::Twin { address })
    } else if own.boxed && !facts.complete {
        Some(Hold::Boxed)
    } else if let Some(ahead_s) = off {
        Some(Hold::ClockOff { ahead_s })
    } else if own.pressed {
        Some(Hold::Pressed)
    } else if !own.confirmed {
        Some(Hold::Unconfirmed)
    } else {
        None
    }
}

fn decide_unclosed(facts: &Facts<'_>, wave: usize) -> Gate {
    match wave.checked_sub(1) {
        _ if facts.complete => Gate::Open(Open::Complete),
        None => Gate::Open(Open::First),
        Some(before) if is_promoted(facts, wave) => match pooled(facts, before) {
            Some(Conclusion::Worse(verdict)) => Gate::Hold(Hold::Worse(verdict)),
            _ => Gate::Open(Open::Promoted),
        },
        Some(before) => decide_after(facts, before),
    }
}

fn is_promoted(facts: &Facts<'_>, wave: usize) -> bool {
    facts.order.is_some_and(|order| order.opens(wave))
}

/// Decides on the wave after `wave`.
fn decide_after(facts: &Facts<'_>, wave: usize) -> Gate {
    let rollout = facts.rollout;
    let budget = &rollout.waves[wave.min(rollout.waves.len() - 1)];
    let count = count(facts, 0..rollout.ranks_in(wave).end);
    let unreachable_max = budget.unreachable_max as usize;
    let needed_s = waits_s(rollout, wave);
    let held_s = facts.held_ms / 1_000;
    let hold = if count.unheard > unreachable_max {
        Hold::Unheard { wave, count, unreachable_max }
    } else if !count.is_done() {
        Hold::Undone { wave, count }
    } else if count.committed == 0 {
        Hold::Unproven { wave, count }
    } else if held_s < needed_s {
        Hold::TooSoon { held_s, needed_s }
    } else {
        match pooled(facts, wave) {
            None | Some(Conclusion::Good(_)) => return Gate::Open(Open::Earned(count)),
            Some(Conclusion::Worse(verdict)) => Hold::Worse(verdict),
            Some(Conclusion::Doubt(verdict)) => Hold::Unclear(verdict),
        }
    };
    Gate::Hold(hold)
}

/// What the requests of the hosts of waves up to `wave` come to; none: they are not counted.
pub fn pooled(facts: &Facts<'_>, wave: usize) -> Option<Conclusion> {
    let forward = facts.rollout.direction == Direction::Forward;
    (forward && facts.rollout.limits.is_some()).then(|| (facts.pooled)(wave))
}

// --- one host's turn in an open wave ---

/// Why it is not yet the turn of the host with this rank, though its wave is open.
pub fn turn(facts: &Facts<'_>, rank: usize) -> Option<Hold> {
    let queue = match facts.complete {
        true => lane(facts, rank),
        false => in_flight(facts, rank),
    };
    queue.or_else(|| slots(facts, rank))
}

/// Whether the host with this rank must wait for hosts before it (R15): of the lower-ranked ones in
/// its zone at most `max_unavailable - 1` may be without a settled receipt. A silent host holds its
/// place until it is skipped. Since settled and skipped only grow, every view, however old, gives at
/// most `max_unavailable` hosts of a zone that stopped their service, without those skipped.
pub fn slots(facts: &Facts<'_>, rank: usize) -> Option<Hold> {
    let rollout = facts.rollout;
    rollout.cohort.get(rank)?;
    let unsettled = facts.unsettled_before(rank);
    let max_unavailable = rollout.max_unavailable as usize;
    (unsettled >= max_unavailable).then_some(Hold::Slots { unsettled, max_unavailable })
}

/// Whether the host with this rank must wait for hosts before it in a rolling rollout: at most
/// `in_flight_max - 1` of them may not have come to their end. That only grows, so every view gives at
/// most `in_flight_max` hosts between their start and their end. Like the opener of a wave (R16) it
/// must hear the hosts before it, but for `unreachable_max`, or be told by a promote not to.
fn in_flight(facts: &Facts<'_>, rank: usize) -> Option<Hold> {
    let rollout = facts.rollout;
    let in_flight_max = rollout.in_flight_max? as usize;
    let before = facts.tally(0..rank);
    let under_way = before[Mark::Open].into();
    if under_way >= in_flight_max {
        return Some(Hold::InFlight { under_way, in_flight_max });
    }
    let wave = rollout.wave_of(rank);
    let unreachable_max = rollout.waves.get(wave)?.unreachable_max as usize;
    let count = Count::from(before);
    let unheard = count.unheard + count.unsure > unreachable_max && !is_promoted(facts, wave);
    unheard.then_some(Hold::UnheardBefore { count, unreachable_max })
}

/// Whether the host with this rank must wait for hosts before it that catch up with a complete
/// rollout, too: at most max(1, 2 %) of the cohort do at once, of those that are heard. Who is silent
/// or has come to rest holds no place, so the lane comes to an end, and the number is no promise. Who
/// was skipped catches up as well; one that says for ever that it does is to be removed.
fn lane(facts: &Facts<'_>, rank: usize) -> Option<Hold> {
    let at_once = (facts.rollout.cohort.len() / 50).max(1);
    let before = facts.tally(0..rank)[Mark::InLane].into();
    (before >= at_once).then_some(Hold::Lane { before, at_once })
}

/// The hosts that the one with this rank waits for on the way back (R15, in reverse): the highest of
/// its zone that are behind it and not back, at most `max_unavailable`. Where there are fewer it is
/// its own turn.
///
/// A host is back once it says that it serves `from` again, or that it never ran `to`; once it has
/// failed to go back, or is silent, since a bad release must not be kept by a host that is gone; and
/// once it was waited for too long: `given_up`. That it was skipped says nothing: what it serves may
/// be all that the zone has.
pub fn back(facts: &Facts<'_>, rank: usize, given_up: &dyn Fn(usize) -> bool) -> Vec<usize> {
    behind(facts, rank, given_up, Mark::NotBack)
}

/// As [`back`], for hosts that still serve what an older rollout brought, and must not: those that do
/// stay pending in this one until they are back.
pub fn leave(facts: &Facts<'_>, rank: usize, given_up: &dyn Fn(usize) -> bool) -> Vec<usize> {
    behind(facts, rank, given_up, Mark::NotLeft)
}

/// The highest-ranked hosts of the zone of this one, behind it, that have this mark.
fn behind(
    facts: &Facts<'_>,
    rank: usize,
    given_up: &dyn Fn(usize) -> bool,
    mark: Mark,
) -> Vec<usize> {
    let rollout = facts.rollout;
    if rank >= rollout.cohort.len() {
        return Vec::new();
    }
    let max_unavailable = rollout.max_unavailable as usize;
    let first = |behind: &mut dyn Iterator<Item = usize>| -> Vec<usize> {
        behind.filter(|higher| !given_up(*higher)).take(max_unavailable).collect()
    };
    let kept = facts.counted.map(|counted| first(&mut counted.behind(rank, mark)));
    kept_or(kept, || {
        let higher = (rank + 1..rollout.cohort.len()).rev();
        let same_zone = higher.filter(|higher| facts.is_neighbour(rank, *higher));
        first(&mut same_zone.filter(|higher| facts.marks(*higher).has(mark)))
    })
}

/// Seconds that waves up to and with this one ask for; none for an operator's rollback.
pub fn waits_s(rollout: &Rollout, wave: usize) -> u64 {
    (0..=wave).map(|wave| u64::from(bake_s(rollout, wave))).sum()
}

/// Bake of the hosts of a wave, in seconds; none for an operator's rollback (R12). Where requests are
/// counted it lasts until there is something to count, however short it was asked to be (R24).
pub fn bake_s(rollout: &Rollout, wave: usize) -> u32 {
    let counting_s =
        rollout.limits.as_ref().map_or(0, |limits| limits.warmup_s.saturating_add(COUNTED_S_MIN));
    match rollout.direction {
        Direction::Forward => rollout.waves.get(wave).map_or(0, |wave| wave.wait_s).max(counting_s),
        Direction::Rollback => 0,
    }
}

/// Counts the hosts with these ranks.
pub fn count(facts: &Facts<'_>, ranks: Range<usize>) -> Count {
    facts.tally(ranks).into()
}

impl Facts<'_> {
    fn standing(&self, rank: usize) -> Option<Standing> {
        (self.seen)(rank).standing
    }

    fn marks(&self, rank: usize) -> Marks {
        Marks::of((self.seen)(rank), (self.excused)(rank))
    }

    fn is_neighbour(&self, rank: usize, other: usize) -> bool {
        self.rollout.cohort[rank].zone == self.rollout.cohort[other].zone
    }

    /// How many hosts with these ranks have each mark.
    fn tally(&self, ranks: Range<usize>) -> Tally {
        let kept = self.counted.map(|counted| counted.tally(ranks.clone()));
        kept_or(kept, || ranks.clone().map(|rank| self.marks(rank)).collect())
    }

    /// Hosts with a lower rank in the zone of this one that are not settled.
    fn unsettled_before(&self, rank: usize) -> usize {
        let kept = self.counted.map(|counted| counted.before(rank)[Mark::Unsettled].into());
        kept_or(kept, || {
            let lower = (0..rank).filter(|lower| self.is_neighbour(rank, *lower));
            lower.filter(|lower| self.marks(*lower).has(Mark::Unsettled)).count()
        })
    }
}

/// What is kept, or else what it is by its definition. Both must be the same.
fn kept_or<T: PartialEq + std::fmt::Debug>(kept: Option<T>, define: impl Fn() -> T) -> T {
    if let Some(kept) = kept {
        debug_assert_eq!(kept, define(), "what is kept of the cohort is not what is seen");
        return kept;
    }
    define()
}

#[cfg(test)]
mod test;
