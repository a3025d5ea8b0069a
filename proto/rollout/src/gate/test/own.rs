//! R6 to R9, R17: what keeps one host from starting, and whom it binds.

use super::*;

/// A host of the first wave about which there is nothing special.
const PLAIN: Own = Own {
    rank: Some(0),
    removed: false,
    twin: None,
    boxed: false,
    confirmed: true,
    clock_ahead_s: None,
    pressed: false,
};

/// Changes a case, so that something keeps the host from starting.
type Change = fn(&mut Case, &mut Own);

fn paused(case: &mut Case, _: &mut Own) {
    case.order = Some(Order { sequence: 1, action: Action::Pause, wave: None });
}

fn aborted(case: &mut Case, _: &mut Own) {
    case.order = Some(Order { sequence: 1, action: Action::Abort, wave: None });
}

/// The time is 1970-01-01, a Thursday, 00:00.
fn outside_windows(case: &mut Case, _: &mut Own) {
    let window = |text: &str| text.parse::<Window>().unwrap();
    case.rollout.windows = vec![window("mon 09:00-10:00"), window("sat,sun 08:00-09:00")];
}

/// In the order of the policy: each row wins over those after it. Which of these it binds: a rollout
/// that goes forward, an operator's rollback, the lane of a complete rollout.
const ROWS: [(Change, &str, [bool; 3]); 15] = [
    (|case, _| case.halted = true, "halted: a certificate proves", [true, true, true]),
    (aborted, "aborted by an operator", [true, true, true]),
    (|case, _| case.conflict = true, "held: two rollouts of epoch 1", [true, true, true]),
    (paused, "paused by an operator", [true, true, true]),
    (|case, _| case.rollout.rules = 9, "held: it asks for rules 9", [true, true, true]),
    (
        |case, _| case.expired = Some(Expired::Both),
        "held: the rollout and the root have expired",
        [true, false, false],
    ),
    (|case, _| case.frozen = true, "held: frozen until ", [true, false, true]),
    (
        outside_windows,
        "held: outside its windows, the next one opens at 1970-01-03 08:00:00 UTC",
        [true, false, true],
    ),
    (|_, own| own.removed = true, "removed from the environment", [true, true, true]),
    (|case, _| case.excused = vec![0], "skipped by an operator", [true, true, false]),
    (
        |_, own| own.twin = Some(([10, 0, 0, 9], 7400).into()),
        "held: its key is also in use at 10.0.0.9:7400: let one of the two join anew",
        [true, false, true],
    ),
    (|_, own| own.boxed = true, "held: this release was stopped before", [true, false, false]),
    (
        |_, own| own.clock_ahead_s = Some(-121),
        "held: its clock is 121 s behind the other hosts': set it right",
        [true, false, true],
    ),
    (|_, own| own.pressed = true, "held: short of memory: waits, looks again", [true, false, true]),
    (|_, own| own.confirmed = false, "held: no one has confirmed for a day", [true, false, true]),
];

#[test]
fn r6_each_hold_binds_whom_the_policy_says() {
    let forward = case(&[wave(2, 0, 0, 0)], "s");
    let mut back = forward.clone();
    back.rollout.direction = Direction::Rollback;
    let complete = Case { complete: true, ..forward.clone() };
    for (change, text, binds) in ROWS {
        for (base, binds) in [&forward, &back, &complete].into_iter().zip(binds) {
            let (mut case, mut own) = (base.clone(), PLAIN);
            change(&mut case, &mut own);
            let got = case.text_for(&own);
            assert_eq!(got.starts_with(text), binds, "{text}: {got}");
            assert!(binds || got.starts_with("open") || got.starts_with("complete"), "{got}");
        }
    }
}

/// A promote opens a wave over bakes and silence, and over none of these.
#[test]
fn r6_a_promote_overrides_no_hold() {
    let promote = Some(Order { sequence: 2, action: Action::Promote, wave: Some(9) });
    for (change, text, _) in ROWS {
        let mut case = case(&[wave(1, 9, 0, 0), wave(2, 0, 0, 0)], "b");
        let mut own = Own { rank: Some(1), ..PLAIN };
        change(&mut case, &mut own);
        if case.order.is_some() {
            continue;
        }
        if !case.excused.is_empty() {
            case.excused = vec![1];
        }
        case.order = promote;
        let got = case.text_for(&own);
        assert!(got.starts_with(text), "{text}: {got}");
    }
}

/// Of several holds the one is told that stands first in the policy.
#[test]
fn r6_the_order_of_the_holds_is_the_policy() {
    for first in 0..ROWS.len() {
        let (mut case, mut own) = (case(&[wave(2, 0, 0, 0)], "s"), PLAIN);
        // There is one order in force: the stronger one is set last.
        for (change, ..) in ROWS[first..].iter().rev() {
            change(&mut case, &mut own);
        }
        let got = case.text_for(&own);
        assert!(got.starts_with(ROWS[first].1), "{}: {got}", ROWS[first].1);
    }
}

#[test]
fn r8_two_minutes_off_are_borne() {
    let case = case(&[wave(2, 0, 0, 0)], "s");
    let rows = [
        (None, "open"),
        (Some(0), "open"),
        (Some(120), "open"),
        (Some(121), "held: its clock is 121 s ahead of the other hosts'"),
        (Some(-120), "open"),
        (Some(i64::MIN), "held: its clock is 9223372036854775808 s behind"),
    ];
    for (clock_ahead_s, text) in rows {
        let got = case.text_for(&Own { clock_ahead_s, ..PLAIN });
        assert!(got.starts_with(text), "{clock_ahead_s:?}: {got}");
    }
}

/// R6: a freeze has an end, and windows come again.
#[test]
fn r6_a_freeze_and_a_closed_window_end_by_themselves() {
    let mut held = case(&[wave(2, 0, 0, 0)], "s");
    outside_windows(&mut held, &mut PLAIN.clone());
    let at = |unix: u64, frozen_until: u64| {
        held.with(|facts| {
            let (unix, frozen_until) = (UnixTime(unix), Some(UnixTime(frozen_until)));
            decide_for(&Facts { unix, frozen_until, ..*facts }, &PLAIN)
        })
    };
    // The Saturday after: 08:00 to 09:00.
    let opens = 2 * 86_400 + 8 * 3_600;
    assert_eq!(
        at(opens - 1, 0),
        Gate::Hold(Hold::OutsideWindows { opens: UnixTime(opens) }),
        "a second before"
    );
    assert_eq!(at(opens, 0), Gate::Open(Open::First));
    assert_eq!(at(opens, opens), Gate::Open(Open::First), "`until` is the first second after it");
    let until = UnixTime(opens + 1);
    assert_eq!(at(opens, opens + 1), Gate::Hold(Hold::Frozen { until }));
}
