//! Measures counted by hand, and what holds of any history.

use proptest::collection::vec;
use proptest::prelude::*;
use proto::dora::{DoraFrequency, DoraShare, DoraTimes};
use proto::id::{Digest, Scope};
use proto::statement::{Direction, UnixTime};

use super::{DAY_S, counted, report};
use crate::store::{Counts, Kept, Outcome, RolloutRow, RowTarget, Store};

/// The end of the window: midnight.
const UNTIL: UnixTime = UnixTime(20_000 * DAY_S);
const HOUR_S: u64 = 3_600;

fn target(version: u64) -> RowTarget {
    RowTarget {
        version: version.to_string().parse().unwrap(),
        release: Digest::of(&version.to_le_bytes()),
    }
}

/// A forward rollout from version `epoch - 1` to version `epoch`, complete so many hours before the window
/// ends, its commit an hour before that.
fn complete(epoch: u64, hours_before: u64) -> RolloutRow {
    let ended = UnixTime(UNTIL.0 - hours_before * HOUR_S);
    RolloutRow {
        seq: epoch,
        id: Digest::of(format!("rollout {epoch}").as_bytes()),
        scope: scope(),
        epoch,
        direction: Direction::Forward,
        adopt: false,
        from: Some(target(epoch - 1)),
        to: target(epoch),
        author: "ada".parse().unwrap(),
        reason: String::new(),
        created: ended,
        hosts: 3,
        commit: Some("3f2a".to_owned()),
        branch: None,
        commit_time: Some(UnixTime(ended.0 - HOUR_S)),
        first_seen: ended,
        started: Some(ended),
        ended: Some(ended),
        outcome: Some(Outcome::Complete),
        began: true,
        back: None,
        counts: Counts::default(),
    }
}

fn halted(epoch: u64, hours_before: u64, back_after_s: Option<u64>) -> RolloutRow {
    let row = complete(epoch, hours_before);
    let back = back_after_s.map(|after_s| row.ended.unwrap().plus_s(after_s));
    RolloutRow { outcome: Some(Outcome::Halted), back, ..row }
}

/// From one version back to another.
fn rollback(epoch: u64, hours_before: u64, from: u64, to: u64) -> RolloutRow {
    RolloutRow {
        direction: Direction::Rollback,
        from: Some(target(from)),
        to: target(to),
        ..complete(epoch, hours_before)
    }
}

fn scope() -> Scope {
    Scope { service: "web".parse().unwrap(), env: "production".parse().unwrap() }
}

fn times(values_s: &[u64], unknown: u32, p50_s: u64, p90_s: u64) -> DoraTimes {
    DoraTimes {
        n: u32::try_from(values_s.len()).unwrap(),
        unknown,
        p50_s: Some(p50_s),
        p90_s: Some(p90_s),
    }
}

#[test]
fn a_month_that_was_counted_by_hand() {
    // Days before the end:   29: 2 complete; 20: 3 halted, back by itself after 40 s; 20: 4 complete;
    // 10: 5 complete, 9: rolled back to 4; 8: 7 complete; 1: 8 aborted, not back.
    let day = |days: u64| days * 24;
    let rows = [
        complete(2, day(29)),
        halted(3, day(20), Some(40)),
        complete(4, day(20) - 2),
        complete(5, day(10)),
        rollback(6, day(9), 5, 4),
        complete(7, day(8)),
        RolloutRow { outcome: Some(Outcome::Aborted), ..complete(8, day(1)) },
    ];
    let told = report(scope(), &rows, UNTIL, 30).window;
    assert_eq!((told.from, told.until, told.days), (UnixTime(UNTIL.0 - 30 * DAY_S), UNTIL, 30));
    // 2, 4, 5, 7: each on a day of its own.
    let frequency = DoraFrequency { deployments: 4, days_with_one: 4 };
    assert_eq!(told.deployment_frequency, frequency);
    assert_eq!(told.change_lead_time, times(&[HOUR_S; 4], 0, HOUR_S, HOUR_S));
    // 3, 5, 8 of 2, 3, 4, 5, 7, 8.
    assert_eq!(told.change_fail_rate, DoraShare { n: 3, of: 6 });
    // 3: 40 s; 5: a day, by the rollback; 8: not yet.
    let recovery = times(&[40, DAY_S], 1, 40, DAY_S);
    assert_eq!(told.failed_deployment_recovery_time, recovery);
    // 4 after 3, the rollback 6, 7 after 5; of all seven.
    assert_eq!(told.rework_rate, DoraShare { n: 3, of: 7 });
}

#[test]
fn a_rollback_that_was_stopped_is_one_if_a_host_had_begun() {
    let stopped =
        |began| RolloutRow { outcome: Some(Outcome::Aborted), began, ..rollback(3, 4, 2, 1) };
    for (began, of) in [(true, 2), (false, 1)] {
        let told = report(scope(), &[complete(2, 9), stopped(began)], UNTIL, 30).window;
        assert_eq!(told.rework_rate, DoraShare { n: of - 1, of }, "{began}");
    }
}

#[tokio::test]
async fn what_came_before_the_window_counts_for_what_followed_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).await.unwrap();
    let rows = [halted(1, 24 * 40, None), complete(2, 24 * 3)];
    let kept = rows.map(|row| Kept { row, open: false, memory: String::new(), sample: None });
    store.chronicle_keep(&[], &kept, None).await.unwrap();
    let told = counted(&store, scope(), UNTIL, 30).await.unwrap().window;
    assert_eq!(told.rework_rate, DoraShare { n: 1, of: 1 }, "it mends one of before");
}

#[test]
fn what_is_no_deployment_is_not_counted() {
    let rows = [
        RolloutRow { adopt: true, ..complete(1, 9) },
        RolloutRow { outcome: Some(Outcome::Expired), ..complete(2, 8) },
        RolloutRow { outcome: Some(Outcome::Superseded), ..complete(3, 7) },
        RolloutRow { outcome: Some(Outcome::Aborted), began: false, ..complete(4, 6) },
        RolloutRow { outcome: None, ended: None, ..complete(5, 5) },
        // When is not known.
        RolloutRow { ended: None, ..complete(6, 4) },
        // Outside: at the end of the window, and before it.
        complete(7, 0),
        complete(8, 24 * 31),
    ];
    let told = report(scope(), &rows, UNTIL, 30).window;
    assert_eq!(told.deployment_frequency, DoraFrequency::default());
    assert_eq!(told.change_fail_rate, DoraShare::default());
    assert_eq!(told.rework_rate, DoraShare::default());
    assert_eq!(told.change_lead_time, DoraTimes::default());
    assert_eq!(told.failed_deployment_recovery_time, DoraTimes::default());
}

#[test]
fn lead_time_takes_the_nearest_rank_and_says_what_it_lacks() {
    let with = |epoch: u64, lead_s: u64| {
        let row = complete(epoch, 100 - epoch);
        RolloutRow { commit_time: Some(UnixTime(row.ended.unwrap().0 - lead_s)), ..row }
    };
    let mut rows: Vec<_> = (1..=10).map(|epoch| with(epoch, epoch * 10)).collect();
    rows.push(RolloutRow { commit_time: None, ..complete(11, 5) });
    // A clock that is ahead.
    rows.push(RolloutRow { commit_time: Some(UNTIL), ..complete(12, 4) });
    let told = report(scope(), &rows, UNTIL, 30).window.change_lead_time;
    assert_eq!(told, DoraTimes { n: 10, unknown: 2, p50_s: Some(50), p90_s: Some(90) });
}

#[test]
fn a_rollback_undoes_the_last_deployment_that_was_complete_and_only_that() {
    let fails = |rows: &[RolloutRow]| report(scope(), rows, UNTIL, 30).window.change_fail_rate;
    // One was stopped between: the rollback still comes from the last that was complete.
    let rows = [complete(2, 9), halted(3, 8, Some(1)), rollback(4, 7, 2, 1)];
    assert_eq!(fails(&rows), DoraShare { n: 2, of: 2 });
    // It comes from something else: nothing here failed by it.
    let rows = [complete(2, 9), rollback(3, 7, 9, 1)];
    assert_eq!(fails(&rows), DoraShare { n: 0, of: 1 });
    // A second rollback goes on from where the first one came to.
    let rows = [complete(2, 9), complete(3, 8), rollback(4, 7, 3, 2), rollback(5, 6, 2, 1)];
    assert_eq!(fails(&rows), DoraShare { n: 1, of: 2 });
}

#[test]
fn one_that_a_rollback_took_back_while_it_went_on_failed() {
    let replaced =
        |began| RolloutRow { outcome: Some(Outcome::Superseded), began, ..complete(2, 48) };
    let failed = |rows: &[RolloutRow]| report(scope(), rows, UNTIL, 30).window.change_fail_rate;
    let back = rollback(3, 47, 2, 1);
    assert_eq!(failed(&[replaced(true), back.clone()]), DoraShare { n: 1, of: 1 });
    assert_eq!(failed(&[replaced(false), back]), DoraShare { n: 0, of: 0 }, "no host had begun");
    let other = complete(3, 47);
    assert_eq!(failed(&[replaced(true), other]), DoraShare { n: 0, of: 1 }, "replaced by another");
}

#[test]
fn what_came_before_the_window_counts_as_what_the_first_in_it_followed() {
    let rows = [halted(2, 24 * 31, None), complete(3, 24)];
    let told = report(scope(), &rows, UNTIL, 30).window;
    assert_eq!(told.rework_rate, DoraShare { n: 1, of: 1 });
    assert_eq!(told.change_fail_rate, DoraShare { n: 0, of: 1 });
}

#[test]
fn weeks_end_with_the_window() {
    let rows = [complete(2, 24 * 13), complete(3, 24), complete(4, 1)];
    let weeks = report(scope(), &rows, UNTIL, 20).weeks;
    let counts: Vec<_> = weeks.iter().map(|week| week.deployment_frequency.deployments).collect();
    assert_eq!(counts, [1, 2]);
    assert_eq!(
        (weeks[0].until, weeks[1].from, weeks[1].until),
        (weeks[1].from, UnixTime(UNTIL.0 - 7 * DAY_S), UNTIL)
    );
    assert!(report(scope(), &rows, UNTIL, 6).weeks.is_empty());
}

prop_compose! {
    fn any_row(epoch: u64)(
        hours_before in 1..24 * 40_u64,
        kind in 0..7_u8,
        began in any::<bool>(),
        back in prop::option::of(0..100_000_u64),
        commit in any::<bool>(),
    ) -> RolloutRow {
        let row = match kind {
            0 => halted(epoch, hours_before, back),
            1 => RolloutRow { outcome: Some(Outcome::Aborted), ..complete(epoch, hours_before) },
            2 => rollback(epoch, hours_before, epoch.saturating_sub(1), 1),
            3 => RolloutRow { outcome: Some(Outcome::Superseded), ..complete(epoch, hours_before) },
            4 => RolloutRow { adopt: true, ..complete(epoch, hours_before) },
            _ => complete(epoch, hours_before),
        };
        RolloutRow { began, commit_time: row.commit_time.filter(|_| commit), ..row }
    }
}

fn any_rows() -> impl Strategy<Value = Vec<RolloutRow>> {
    vec(0..1_u8, 0..40).prop_flat_map(|places| {
        (2..).zip(places).map(|(epoch, _)| any_row(epoch)).collect::<Vec<_>>()
    })
}

proptest! {
    #[test]
    fn measures_add_up(rows in any_rows(), days in 1..60_u32) {
        let told = report(scope(), &rows, UNTIL, days);
        for measures in std::iter::once(&told.window).chain(&told.weeks) {
            let frequency = measures.deployment_frequency;
            let (fails, rework) = (measures.change_fail_rate, measures.rework_rate);
            prop_assert!(frequency.days_with_one <= frequency.deployments.min(measures.days + 1));
            prop_assert!(frequency.deployments <= fails.of && fails.n <= fails.of);
            prop_assert!(fails.of <= rework.of && rework.n <= rework.of);
            let lead = measures.change_lead_time;
            prop_assert_eq!(lead.n + lead.unknown, frequency.deployments);
            let recovery = measures.failed_deployment_recovery_time;
            prop_assert_eq!(recovery.n + recovery.unknown, fails.n);
            for times in [lead, recovery] {
                prop_assert!(times.p50_s <= times.p90_s);
                prop_assert_eq!(times.n == 0, times.p50_s.is_none());
            }
        }
        // Weeks that fill the window add up to it.
        if days % 7 == 0 {
            let sum: u32 = told.weeks.iter().map(|week| week.change_fail_rate.of).sum();
            prop_assert_eq!(sum, told.window.change_fail_rate.of);
        }
        // The order in which rows come says nothing.
        let turned: Vec<_> = rows.iter().rev().cloned().collect();
        prop_assert_eq!(report(scope(), &turned, UNTIL, days), told);
    }
}
