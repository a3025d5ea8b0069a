//! What people read: each answer with its numbers and what a person can do.

use std::fmt;

use proto::certificate::Halted;
use proto::statement::RULES;

use super::{Count, Expired, Gate, Hold, Open};
use crate::verdict::{DOUBT_MS_MAX, Verdict};

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(open) => open.fmt(f),
            Self::Hold(hold) => hold.fmt(f),
            Self::Halt(None) => f.write_str("halted: a certificate proves that too many failed"),
            Self::Halt(Some(halted)) => halt(f, halted),
        }
    }
}

/// The budget that is used up, and all failures where there are more than those that it counts.
fn halt(f: &mut fmt::Formatter<'_>, halted: &Halted) -> fmt::Result {
    let Halted { wave, failed, failed_max, failed_here, hosts_here, failed_in_all } = halted;
    let wave = wave + 1;
    let counted = match failed > failed_max {
        true => {
            write!(f, "halted: {failed} failed in waves up to {wave}, at most {failed_max} may")?;
            failed
        }
        false => {
            write!(
                f,
                "halted: {failed_here} of {hosts_here} hosts of wave {wave} failed, more than half"
            )?;
            failed_here
        }
    };
    match failed_in_all > counted {
        true => write!(f, "; {failed_in_all} failed in all"),
        false => Ok(()),
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
            Self::Rules { needs } => {
                write!(f, "held: it asks for rules {needs}, this version has {RULES}")
            }
            Self::Expired(expired) => expired.fmt(f),
            Self::Frozen { until } => {
                write!(f, "held: frozen until {until} UTC, or until an operator unfreezes it")
            }
            Self::OutsideWindows { opens } => {
                write!(f, "held: outside its windows, the next one opens at {opens} UTC")
            }
            Self::Removed => f.write_str("removed from the environment: it must join anew"),
            Self::Skipped => {
                f.write_str("skipped by an operator: it follows once this is complete")
            }
            Self::Twin { address } => {
                write!(f, "held: its key is also in use at {address}: let one of the two join anew")
            }
            Self::Boxed => f.write_str(
                "held: this release was stopped before; `swell retry` brings it all the same",
            ),
            Self::ClockOff { ahead_s } => clock_off(f, *ahead_s),
            Self::Pressed => f.write_str("held: short of memory: waits, looks again"),
            Self::Unconfirmed => f.write_str(
                "held: no one has confirmed for a day that this is the newest: check its network",
            ),
            Self::Unheard { wave, count, unreachable_max } => {
                let which = format!("of waves up to {}", wave + 1);
                not_heard(f, count.unheard, &which, *unreachable_max, count)
            }
            Self::Undone { wave, count } => {
                write!(f, "waiting for wave {}: {count}", wave + 1)
            }
            Self::Unproven { wave, count } => {
                write!(f, "held: no host of waves up to {} committed ({count})", wave + 1)
            }
            Self::TooSoon { held_s, needed_s } => {
                write!(f, "waiting: the rollout is held here for {held_s} of {needed_s} s")
            }
            Self::Worse(verdict) => worse(f, verdict),
            Self::Unclear(verdict) => unclear(f, verdict.as_ref()),
            Self::InFlight { under_way, in_flight_max } => write!(
                f,
                "waiting for its turn: {under_way} hosts before it have not come to their end, at \
                 most {in_flight_max} may be under way at once"
            ),
            Self::UnheardBefore { count, unreachable_max } => {
                not_heard_before(f, count, *unreachable_max)
            }
            Self::Lane { before, at_once } => write!(
                f,
                "waiting for its turn to catch up: {before} hosts before it do, at most {at_once} \
                 may at once"
            ),
            Self::Slots { unsettled, max_unavailable } => slots(f, *unsettled, *max_unavailable),
            Self::Inconclusive(None) => f.write_str("baked: its requests are not compared yet"),
            Self::Inconclusive(Some(verdict)) => write!(f, "baked, but {verdict}"),
            Self::Back { unsettled, max_unavailable } => write!(
                f,
                "waiting for its turn to go back: {unsettled} hosts behind it in its zone have \
                 not, at most {max_unavailable} may be stopped at once"
            ),
            Self::Outside => f.write_str("not in the cohort: it follows once this is complete"),
        }
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rollout => "held: the rollout has expired, nothing new starts; deploy again",
            Self::Root => {
                "held: the root has expired, nothing new starts; it goes on once the root's keys \
                 have signed the next one"
            }
            Self::Both => {
                "held: the rollout and the root have expired, nothing new starts; once the root's \
                 keys have signed the next one, deploy again"
            }
        })
    }
}

fn clock_off(f: &mut fmt::Formatter<'_>, ahead_s: i64) -> fmt::Result {
    let word = if ahead_s > 0 { "ahead of" } else { "behind" };
    let off_s = ahead_s.unsigned_abs();
    write!(f, "held: its clock is {off_s} s {word} the other hosts': set it right")
}

fn slots(f: &mut fmt::Formatter<'_>, unsettled: usize, max_unavailable: usize) -> fmt::Result {
    write!(
        f,
        "waiting for its turn: {unsettled} hosts before it in its zone are not settled, at most \
         {max_unavailable} may be stopped at once"
    )
}

fn worse(f: &mut fmt::Formatter<'_>, verdict: &Verdict) -> fmt::Result {
    let again_min = DOUBT_MS_MAX / 60_000;
    write!(
        f,
        "held: over all hosts that run it, {verdict}; nothing new starts until all comparisons of \
         {again_min} min pass, `swell abort` takes it back"
    )
}

fn unclear(f: &mut fmt::Formatter<'_>, verdict: Option<&Verdict>) -> fmt::Result {
    let Some(verdict) = verdict else {
        return f.write_str("held: the requests of the hosts before it are not compared yet");
    };
    let most_min = DOUBT_MS_MAX / 60_000;
    write!(
        f,
        "held: over all hosts that run it, {verdict}; it is waited for {most_min} min at most, `swell \
         promote` passes over it"
    )
}

/// A host that spoke once is not gone: its next word is what is waited for.
fn not_heard_before(
    f: &mut fmt::Formatter<'_>,
    count: &Count,
    unreachable_max: usize,
) -> fmt::Result {
    if count.unheard > unreachable_max {
        return not_heard(f, count.unheard, "before it", unreachable_max, count);
    }
    write!(
        f,
        "waiting: {} of {} hosts before it have not said again where they stand, at most \
         {unreachable_max} may be missing ({count})",
        count.unheard + count.unsure,
        count.hosts
    )
}

fn not_heard(
    f: &mut fmt::Formatter<'_>,
    unheard: usize,
    which: &str,
    unreachable_max: usize,
    count: &Count,
) -> fmt::Result {
    write!(
        f,
        "held: {unheard} of {} hosts {which} are not heard, at most {unreachable_max} may be; skip \
         those that are gone ({count})",
        count.hosts
    )
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} hosts committed", self.committed, self.hosts)?;
        let others = [
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.unheard, "not heard"),
            (self.baking, "baking"),
            (self.activating, "activating"),
            (self.waiting, "not started"),
            (self.unsure, "to say again where they stand"),
            (self.returned, "back"),
        ];
        others
            .iter()
            .filter(|(hosts, _)| *hosts > 0)
            .try_for_each(|(hosts, word)| write!(f, ", {hosts} {word}"))
    }
}
