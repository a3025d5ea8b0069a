//! R14, R15, R16: the gate by table.

mod own;
mod pooled;
mod small;
mod turns;

use proptest::prelude::*;
use proto::receipt::{Cause, State};
use proto::statement::{Wave, Window};

use super::*;
use crate::testing::{rollout, wave};

/// c committed, C committed and silent, u committed and unsure, b baking, a activating, s staged,
/// S staged and silent, p pending, f failed, F failed and silent, r back with the fleet, l failed too late,
/// `-` never heard, `_` never heard and silent. In a [`case`], `(x)` is an x that was skipped.
fn sight(letter: char) -> Sight {
    let (standing, heard) = match letter {
        'c' => (Some((State::Committed, None)), Heard::Fresh),
        'C' => (Some((State::Committed, None)), Heard::Silent),
        'u' => (Some((State::Committed, None)), Heard::Unsure),
        'b' => (Some((State::Baking, None)), Heard::Fresh),
        'a' => (Some((State::Activating, None)), Heard::Fresh),
        's' => (Some((State::Staged, None)), Heard::Fresh),
        'S' => (Some((State::Staged, None)), Heard::Silent),
        'p' => (Some((State::Pending, None)), Heard::Fresh),
        'f' => (Some((State::Reverted, Some(Cause::Release))), Heard::Fresh),
        'F' => (Some((State::RevertFailed, Some(Cause::Host))), Heard::Silent),
        'r' => (Some((State::Reverted, Some(Cause::Fleet))), Heard::Fresh),
        'l' => (Some((State::Reverted, Some(Cause::Late))), Heard::Fresh),
        '_' => (None, Heard::Silent),
        _ => (None, Heard::Unsure),
    };
    Sight { standing, heard }
}

/// A view without anything special about it: held for long enough, nothing signed since.
#[derive(Clone)]
struct Case {
    rollout: Rollout,
    seen: Vec<Sight>,
    held_ms: u64,
    order: Option<Order>,
    halted: bool,
    complete: bool,
    conflict: bool,
    expired: Option<Expired>,
    frozen: bool,
    /// By rank.
    excused: Vec<usize>,
    pooled: Conclusion,
}

fn case(waves: &[Wave], letters: &str) -> Case {
    let mut excused = Vec::new();
    let mut seen = Vec::new();
    for letter in letters.chars() {
        match letter {
            '(' => excused.push(seen.len()),
            ')' => {}
            letter => seen.push(sight(letter)),
        }
    }
    let (order, halted, complete, conflict, frozen) = (None, false, false, false, false);
    let (rollout, held_ms, expired) = (rollout(waves), 3_600_000, None);
    let pooled = Conclusion::Doubt(None);
    Case {
        rollout,
        seen,
        held_ms,
        order,
        halted,
        complete,
        conflict,
        expired,
        frozen,
        excused,
        pooled,
    }
}

impl Case {
    fn with<T>(&self, decided: impl FnOnce(&Facts<'_>) -> T) -> T {
        let seen = |rank: usize| self.seen.get(rank).copied().unwrap_or_default();
        let excused = |rank: usize| self.excused.contains(&rank);
        let mut counts = Counts::new(&self.rollout.cohort);
        for rank in 0..self.rollout.cohort.len() {
            counts.set(rank, Marks::of(seen(rank), excused(rank)));
        }
        decided(&Facts {
            rollout: &self.rollout,
            seen: &seen,
            excused: &excused,
            counted: Some(Counted { counts: &counts, own: None }),
            held_ms: self.held_ms,
            order: self.order,
            halted: self.halted,
            complete: self.complete,
            conflict: self.conflict,
            unix: UnixTime(0),
            expiry: self.expiry(),
            frozen_until: self.frozen.then_some(UnixTime(u64::MAX)),
            pooled: &|_| self.pooled,
        })
    }

    fn expiry(&self) -> Expiry {
        let over = |these: [Expired; 2]| match self.expired.is_some_and(|it| these.contains(&it)) {
            true => UnixTime(0),
            false => UnixTime(u64::MAX),
        };
        Expiry {
            direction: self.rollout.direction,
            rollout: over([Expired::Rollout, Expired::Both]),
            root: over([Expired::Root, Expired::Both]),
        }
    }

    /// Whether a host with that knowledge of itself may start.
    fn text_for(&self, own: &Own) -> String {
        self.with(|facts| decide_for(facts, own).to_string())
    }

    fn text(&self, wave: usize) -> String {
        self.with(|facts| decide(facts, wave).to_string())
    }
}

/// The second wave of `1 | 4 more`, the third of `1 | 4 more | 10 in all`.
#[test]
fn r16_gate_table() {
    let waves = [wave(1, 10, 0, 0), wave(5, 20, 1, 1), wave(10, 0, 1, 1)];
    let cases = [
        ("the first wave waits for nobody", 0, "", "open: the first wave"),
        ("the canary committed", 1, "c", "open: 1 of 1 hosts committed before it"),
        ("the canary bakes", 1, "b", "waiting for wave 1: 0 of 1 hosts committed, 1 baking"),
        ("nothing heard yet", 1, "-", "waiting for wave 1: 0 of 1 hosts committed, 1 not started"),
        (
            "a committed host must be heard, too",
            1,
            "C",
            "held: 1 of 1 hosts of waves up to 1 are not heard, at most 0 may be; skip those that are \
             gone (0 of 1 hosts committed, 1 not heard)",
        ),
        (
            "the first receipt is no sign of life",
            1,
            "u",
            "waiting for wave 1: 0 of 1 hosts committed, 1 to say again where they stand",
        ),
        ("one may be silent", 2, "cccc_", "open: 4 of 5 hosts committed, 1 not heard before it"),
        (
            "two may not",
            2,
            "cccC_",
            "held: 2 of 5 hosts of waves up to 2 are not heard, at most 1 may be; skip those that are \
             gone (3 of 5 hosts committed, 2 not heard)",
        ),
        ("one may fail", 2, "ccccf", "open: 4 of 5 hosts committed, 1 failed before it"),
        (
            "one may fail and another be silent",
            2,
            "cccFS",
            "open: 3 of 5 hosts committed, 1 failed, 1 not heard before it",
        ),
        ("two may not fail", 2, "cccff", "halted: 2 failed in waves up to 2, at most 1 may"),
        ("a failed canary halts", 1, "f", "halted: 1 failed in waves up to 1, at most 0 may"),
        (
            "a failure anywhere halts everywhere",
            0,
            "cccffbbbbb",
            "halted: 2 failed in waves up to 2, at most 1 may",
        ),
        (
            "what failed beyond the budget that is used up is told, too",
            0,
            "fcffbbbbbf",
            "halted: 1 failed in waves up to 1, at most 0 may; 4 failed in all",
        ),
        (
            "one host that is not done is enough",
            2,
            "ccccs",
            "waiting for wave 2: 4 of 5 hosts committed, 1 not started",
        ),
        (
            "all that is not done is told",
            2,
            "cbas-",
            "waiting for wave 2: 1 of 5 hosts committed, 1 baking, 1 activating, 2 not started",
        ),
        (
            "back with the fleet is not done",
            2,
            "ccccr",
            "waiting for wave 2: 4 of 5 hosts committed, 1 back",
        ),
    ];
    for (name, wave, letters, text) in cases {
        assert_eq!(case(&waves, letters).text(wave), text, "{name}");
    }
}

/// R6: a skipped host has a place of its own in the count, until it ends all the same.
#[test]
fn r6_skipped_hosts_are_not_waited_for() {
    let waves = [wave(1, 10, 0, 0), wave(5, 20, 1, 1), wave(10, 0, 1, 1)];
    let cases = [
        (
            "who was skipped is not waited for, wherever it stands",
            2,
            "ccc(a)(-)",
            "open: 3 of 5 hosts committed, 2 skipped before it",
        ),
        (
            "what it does after all counts, heard or not",
            2,
            "cc(C)(F)s",
            "waiting for wave 2: 3 of 5 hosts committed, 1 failed, 1 not started",
        ),
        (
            "who was skipped is not unreachable",
            2,
            "cc(_)(S)_",
            "open: 2 of 5 hosts committed, 2 skipped, 1 not heard before it",
        ),
        (
            "nobody is left to prove it",
            1,
            "(s)",
            "held: no host of waves up to 1 committed (0 of 1 hosts committed, 1 skipped)",
        ),
    ];
    for (name, wave, letters, text) in cases {
        assert_eq!(case(&waves, letters).text(wave), text, "{name}");
    }
}

/// R14: more than half of a wave failing halts, whatever the budget.
#[test]
fn r14_more_than_half_of_a_wave_halts() {
    let waves = [wave(2, 0, 9, 9), wave(6, 0, 9, 9)];
    let cases = [
        ("half", "cfcc", "open"),
        ("more than half", "ffcc", "halted: 2 of 2 hosts of wave 1 failed, more than half"),
        ("half of each", "cfccff", "open"),
        ("three of the four", "ccfffc", "halted: 3 of 4 hosts of wave 2 failed, more than half"),
        ("too late to count", "llllll", "open"),
        (
            "another one of the next wave",
            "ffcccf",
            "halted: 2 of 2 hosts of wave 1 failed, more than half; 3 failed in all",
        ),
    ];
    for (name, letters, text) in cases {
        assert!(case(&waves, letters).text(0).starts_with(text), "{name}");
    }
}

/// A budget large enough for everyone to be silent does not open a wave by itself.
#[test]
fn nobody_committed_is_no_evidence() {
    let waves = [wave(3, 0, 3, 3), wave(6, 0, 3, 3)];
    let silent = "held: no host of waves up to 1 committed (0 of 3 hosts committed, 3 not heard)";
    assert_eq!(case(&waves, "___").text(1), silent);
    assert_eq!(case(&waves, "c__").text(1), "open: 1 of 3 hosts committed, 2 not heard before it");
}

/// R16: the opener has held the rollout for the sum of the earlier waits; R12: not for a rollback.
#[test]
fn r16_the_opener_has_held_it_itself() {
    let waves = [wave(1, 10, 0, 0), wave(2, 20, 0, 0), wave(3, 30, 0, 0)];
    let mut case = case(&waves, "cc");
    for (held_ms, wave, text) in [
        (9_999, 1, "waiting: the rollout is held here for 9 of 10 s"),
        (10_000, 1, "open: 1 of 1 hosts committed before it"),
        (29_999, 2, "waiting: the rollout is held here for 29 of 30 s"),
        (30_000, 2, "open: 2 of 2 hosts committed before it"),
    ] {
        case.held_ms = held_ms;
        assert_eq!(case.text(wave), text);
    }
    case.held_ms = 0;
    case.rollout.direction = Direction::Rollback;
    assert_eq!(case.text(2), "open: 2 of 2 hosts committed before it");
}

/// R6, R5, R7, R20: what is stronger than what.
#[test]
fn what_closes_a_gate() {
    let waves = [wave(1, 10, 0, 0), wave(2, 0, 0, 0)];
    let order = |action, wave| Some(Order { sequence: 1, action, wave });
    let plain = || case(&waves, "b");
    let promoted = || Case { order: order(Action::Promote, Some(1)), ..plain() };
    let rules = |case: Case| Case { rollout: Rollout { rules: 9, ..case.rollout }, ..case };
    let back = |case: Case| Case {
        rollout: Rollout { direction: Direction::Rollback, ..case.rollout },
        ..case
    };
    let halt = "halted: a certificate proves that too many failed";
    let expired = "held: the rollout has expired, nothing new starts; deploy again";
    let with = |expired: Expired, case: Case| Case { expired: Some(expired), ..case };
    let cases = [
        ("promote opens over a bake", promoted(), "open: promoted by an operator"),
        ("and over silence", Case { seen: vec![sight('_')], ..promoted() }, "open: promoted"),
        ("not over a halt", Case { halted: true, ..promoted() }, halt),
        ("nor over failures", Case { seen: vec![sight('f')], ..promoted() }, "halted: 1 failed"),
        ("nor over a conflict", Case { conflict: true, ..promoted() }, "held: two rollouts of"),
        ("nor over expiry", with(Expired::Rollout, promoted()), expired),
        (
            "nor over that of the root",
            with(Expired::Root, promoted()),
            "held: the root has expired, nothing new starts; it goes on once the root's keys have signed \
             the next one",
        ),
        (
            "nor over both",
            with(Expired::Both, promoted()),
            "held: the rollout and the root have expired, nothing new starts; once the root's keys have \
             signed the next one, deploy again",
        ),
        (
            "an earlier wave was promoted",
            Case { order: order(Action::Promote, Some(0)), ..plain() },
            "waiting for wave 1",
        ),
        ("paused", Case { order: order(Action::Pause, None), ..plain() }, "paused by an operator"),
        ("aborted", Case { order: order(Action::Abort, None), ..plain() }, "aborted by an"),
        (
            "a halt tells more than an abort",
            Case { halted: true, order: order(Action::Abort, None), ..plain() },
            halt,
        ),
        ("other rules", rules(plain()), "held: it asks for rules 9, this version has 1"),
        ("a rollback does not expire", back(with(Expired::Both, plain())), "waiting for"),
        (
            "a complete one does not expire",
            with(Expired::Both, Case { complete: true, ..plain() }),
            "complete: hosts that missed it catch up",
        ),
        (
            "a proven halt wins over completion",
            Case { complete: true, halted: true, ..plain() },
            halt,
        ),
        (
            "failures seen after completion do not",
            Case { complete: true, seen: vec![sight('f')], ..plain() },
            "complete: hosts",
        ),
    ];
    for (name, case, text) in cases {
        let got = case.text(1);
        assert!(got.starts_with(text), "{name}: {got}");
    }
}

/// R15: of the lower-ranked hosts in a zone at most k - 1 may be unsettled; silence frees nothing.
#[test]
fn r15_slots_of_a_zone() {
    let cases = [
        ("the first of its zone", 1, 0, "", true),
        ("k is 1, the one before is staged", 1, 1, "s", false),
        ("it bakes: it serves", 1, 1, "b", true),
        ("it failed and serves again", 1, 1, "f", true),
        ("it could not go back", 1, 1, "F", false),
        ("it is stopped", 1, 1, "a", false),
        ("it is silent and was staged", 1, 1, "S", false),
        ("it is silent and was settled", 1, 1, "C", true),
        ("it was never heard", 1, 1, "_", false),
        ("k is 2, one unsettled", 2, 2, "sc", true),
        ("k is 2, two unsettled", 2, 2, "s_", false),
        ("hosts behind do not count", 1, 1, "caaaa", true),
        ("who was skipped holds no place", 1, 2, "c(S)", true),
        ("though it is stopped", 1, 1, "(a)", true),
    ];
    for (name, max_unavailable, rank, letters, free) in cases {
        let mut case = case(&[wave(6, 0, 0, 0)], letters);
        case.rollout.max_unavailable = max_unavailable;
        assert_eq!(case.with(|facts| slots(facts, rank)).is_none(), free, "{name}");
    }
    let mut other = case(&[wave(3, 0, 0, 0)], "ss");
    (other.rollout.max_unavailable, other.rollout.cohort[2].zone) = (1, "y".parse().unwrap());
    assert_eq!(other.with(|facts| slots(facts, 2)), None, "another zone");
}

proptest! {
    /// Total: every view has an answer; and no news of a host that has not failed can halt.
    #[test]
    fn every_view_has_an_answer(
        letters in "[cCubasSfFrl_-]{0,12}",
        wave_asked in 0usize..5,
        budgets in prop::collection::vec((0u32..4, 0u32..4), 3),
        flags: [bool; 4],
        held_ms in 0u64..100_000,
    ) {
        let [(f0, u0), (f1, u1), (f2, u2)] = budgets[..] else { unreachable!() };
        let waves = [wave(2, 5, f0, u0), wave(6, 5, f1, u1), wave(12, 5, f2, u2)];
        let [halted, complete, conflict, expired] = flags;
        let expired = expired.then_some(Expired::Rollout);
        let base = case(&waves, &letters);
        let case = Case { held_ms, halted, complete, conflict, expired, ..base };
        let gate = case.with(|facts| decide(facts, wave_asked));
        prop_assert!(!gate.to_string().is_empty());
        let failures = letters.contains(['f', 'F']);
        prop_assert!(failures || halted || !matches!(gate, Gate::Halt(_)));
        prop_assert!(!halted || matches!(gate, Gate::Halt(_)));
    }
}
