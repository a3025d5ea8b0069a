//! R24: what was counted keeps a release that has baked from being committed.

use proto::statement::Limits;

use super::*;
use crate::verdict::{Comparison, Counted, Signal};

const QUIET: Verdict = Verdict::Quiet { new: 3, needed: 100 };
const STARVED: Verdict = Verdict::Starved { new: 3, needed: 100 };

fn passed() -> Verdict {
    let counted = |bad, of| Counted { bad, of };
    Verdict::Pass(Comparison {
        signal: Signal::Errors,
        new: counted(1, 500),
        control: Some(counted(1, 900)),
        above_ppm: 10_000,
        z_milli: -900,
    })
}

/// A rollout whose requests are counted.
fn counted() -> Rollout {
    let mut plan = rollout(&[wave(1, 5, 0, 0), wave(4, 5, 1, 1)]);
    plan.limits = Some(Limits {
        errors_ppm: vec![10_000; 2],
        requests_min: 100,
        warmup_s: 20,
        p99_ratio_percent: None,
    });
    plan
}

/// A canary that bakes in it, and its attempt.
fn baking() -> (Bench, u64) {
    let mut bench = bench(0);
    bench.follow(&counted()).stage();
    let attempt = bench.attempt();
    bench.give(Input::Activated { attempt });
    (bench, attempt)
}

#[test]
fn r24_a_bake_lasts_until_ten_seconds_behind_its_warmup() {
    let (mut bench, attempt) = baking();
    bench.give(Input::Verdict { attempt, verdict: passed() });
    assert_eq!(bench.pass(29_999).asked(), [""; 0]);
    assert_eq!(bench.pass(1).asked(), ["commit"]);
}

#[test]
fn r24_doubt_keeps_a_release_from_being_committed_and_says_why() {
    let (mut bench, attempt) = baking();
    assert_eq!(bench.pass(60_000).asked(), [""; 0]);
    assert_eq!(bench.why(), "baked: its requests are not compared yet");
    // Another attempt's verdict is none of this one's.
    assert_eq!(
        bench.give(Input::Verdict { attempt: attempt + 1, verdict: passed() }).asked(),
        [""; 0]
    );
    bench.give(Input::Verdict { attempt, verdict: STARVED });
    assert_eq!(bench.asked(), [""; 0]);
    let why = "baked, but inconclusive: 3 of 100 requests reached the new release, and the old one \
               has traffic";
    assert_eq!(bench.why(), why);
    let told = bench.host.course.as_ref().map(|course| course.note.clone()).unwrap();
    assert!(told.starts_with("baked"), "others are told, too: {told:?}");
    assert_eq!(bench.give(Input::Verdict { attempt, verdict: passed() }).asked(), ["commit"]);
    assert_eq!(bench.state(), (State::Committed, None));
}

#[test]
fn r24_a_quiet_service_is_committed_by_its_checks() {
    let (mut bench, attempt) = baking();
    bench.give(Input::Verdict { attempt, verdict: QUIET });
    assert_eq!(bench.pass(30_000).asked(), ["commit"]);
}

#[test]
fn r24_a_verdict_does_not_outlive_the_process_that_gave_it() {
    let (mut bench, attempt) = baking();
    bench.give(Input::Verdict { attempt, verdict: passed() });
    bench.restart(false);
    bench.follow(&counted()).give(Input::Activated { attempt });
    assert_eq!(bench.pass(60_000).asked(), [""; 0]);
}

#[test]
fn r6_a_promote_of_a_later_wave_passes_over_doubt() {
    let (mut bench, attempt) = baking();
    bench.pass(30_000).give(Input::Verdict { attempt, verdict: STARVED });
    assert_eq!(bench.direct(1, Action::Promote, Some(0)).asked(), [""; 0]);
    assert_eq!(bench.direct(2, Action::Promote, Some(1)).asked(), ["commit"]);
}
