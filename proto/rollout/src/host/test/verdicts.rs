//! R24: what was counted takes a release back, or keeps it from being committed; what others counted
//! keeps a wave closed.

use proto::statement::Limits;

use super::*;
use crate::verdict::{Comparison, Conclusion, Counted, Signal};

const QUIET: Verdict = Verdict::Quiet { new: 3, needed: 100 };
const STARVED: Verdict = Verdict::Starved { new: 3, needed: 100, worse: false };

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

fn failed() -> Verdict {
    let counted = |bad, of| Counted { bad, of };
    let (signal, above_ppm, z_milli) = (Signal::Errors, 10_000, 5_700);
    let (new, control) = (counted(60, 1_180), Some(counted(0, 1_612)));
    Verdict::Fail(Comparison { signal, new, control, above_ppm, z_milli })
}

fn shared() -> Verdict {
    let Some(comparison) = failed().comparison() else { panic!("it was compared") };
    Verdict::Shared { comparison, hosts: 3, of: 4 }
}

#[test]
fn r24_a_release_that_is_worse_three_times_in_a_row_goes_in_the_middle_of_its_bake() {
    let (mut bench, attempt) = baking();
    for verdict in [failed(), failed(), passed(), failed(), failed()] {
        bench.pass(1_000);
        assert_eq!(bench.give(Input::Verdict { attempt, verdict }).asked(), [""; 0]);
    }
    assert_eq!(bench.give(Input::Verdict { attempt, verdict: failed() }).asked(), ["revert to a"]);
    let attempt = bench.attempt();
    bench.give(Input::Reverted { attempt });
    assert_eq!(bench.state(), (State::Reverted, Some(Cause::Release)));
    let note = bench.host.course.as_ref().map(|course| course.note.clone()).unwrap();
    assert!(note.starts_with("worse: errors 5.08 % of 1180, old release 0.00 % of 1612"), "{note}");
}

/// Looks once a second for so long; what is asked for, and when.
fn looks(bench: &mut Bench, attempt: u64, verdict: Verdict, seconds: u64) -> Option<(u64, String)> {
    for second in 1..=seconds {
        bench.pass(1_000).give(Input::Verdict { attempt, verdict });
        if let Some(asked) = bench.asked().first() {
            return Some((second, asked.clone()));
        }
    }
    None
}

/// R18: doubt has a deadline, and a default action.
#[test]
fn r18_a_host_that_has_baked_is_in_doubt_for_five_minutes_at_most() {
    let none = Verdict::Starved { new: 0, needed: 100, worse: true };
    let rows = [
        // From the end of its bake on, 30 s; an outage from its start on.
        ("what little came is well", STARVED, 330, "commit"),
        ("nothing came at all", none, 330, "revert to a"),
        ("a shared outage", shared(), 301, "revert to a"),
    ];
    for (name, verdict, after_s, action) in rows {
        let (mut bench, attempt) = baking();
        let asked = looks(&mut bench, attempt, verdict, 1_000);
        assert_eq!(asked, Some((after_s, action.to_owned())), "{name}");
    }
}

/// R18: a pause stops that clock, too.
#[test]
fn r18_doubt_takes_its_time_anew_after_a_pause() {
    let (mut bench, attempt) = baking();
    assert_eq!(looks(&mut bench, attempt, STARVED, 329), None);
    bench.direct(1, Action::Pause, None);
    assert_eq!(looks(&mut bench, attempt, STARVED, 400), None);
    bench.direct(2, Action::Resume, None);
    assert_eq!(looks(&mut bench, attempt, STARVED, 400), Some((301, "commit".to_owned())));
}

#[test]
fn r24_a_commit_says_the_numbers_it_was_made_by() {
    let (mut bench, attempt) = baking();
    bench.give(Input::Verdict { attempt, verdict: passed() });
    bench.pass(30_000);
    let note = bench.host.course.as_ref().map(|course| course.note.clone()).unwrap();
    assert!(
        note.starts_with("not worse: errors 0.20 % of 500, old release 0.11 % of 900"),
        "{note}"
    );
}

// --- the pool ---

/// A host of the second wave, everything on its disk, whose canary has committed and is heard.
fn waiting() -> Bench {
    let mut bench = bench(1);
    bench.follow(&counted()).stage();
    bench.pass(40_000);
    for sequence in 1..=2 {
        bench.hear(0, sequence, State::Committed, None);
    }
    bench.certify(1, Claim::Wave(0));
    bench
}

fn pool(bench: &mut Bench, verdict: Verdict) -> &mut Bench {
    bench.give(Input::Pooled { rollout: rollout_id(1), verdict });
    bench.pass(5_000)
}

#[test]
fn r24_a_wave_waits_for_the_pooled_verdict_on_the_ones_before_it() {
    let mut bench = waiting();
    assert_eq!(bench.host.awaits_pool(), Some(0));
    assert_eq!(bench.pass(5_000).asked(), [""; 0]);
    assert_eq!(bench.why(), "held: the requests of the hosts before it are not compared yet");
    // Of another rollout nothing is taken.
    bench.give(Input::Pooled { rollout: rollout_id(2), verdict: passed() });
    assert_eq!(bench.pass(5_000).asked(), [""; 0]);
    assert_eq!(pool(&mut bench, failed()).asked(), [""; 0]);
    assert!(bench.why().starts_with("held: over all hosts that run it, worse: errors 5.08 %"));
    // Too few requests to tell are no sign that it got better.
    assert_eq!(pool(&mut bench, QUIET).asked(), [""; 0]);
    // Nor is one comparison that passes.
    assert_eq!(pool(&mut bench, passed()).asked(), [""; 0]);
    let mut bench = waiting();
    bench.give(Input::Pooled { rollout: rollout_id(1), verdict: passed() });
    assert_eq!(bench.asked(), ["activate b or a"]);
    assert_eq!(bench.host.awaits_pool(), None);
}

#[test]
fn r6_a_promote_passes_over_pooled_doubt_and_not_over_a_worse_pool() {
    for (verdict, starts) in [(STARVED, true), (shared(), true), (failed(), false)] {
        let mut bench = waiting();
        assert_eq!(pool(&mut bench, verdict).asked(), [""; 0], "{verdict}");
        bench.direct(1, Action::Promote, Some(1));
        assert_eq!(
            bench.asked().iter().any(|asked| asked == "activate b or a"),
            starts,
            "{verdict}"
        );
    }
}

/// R18: pooled doubt has the same deadline, from when the hosts before are not waited for any more.
#[test]
fn r18_a_wave_waits_for_a_clear_pool_for_five_minutes_at_most() {
    let none = Verdict::Starved { new: 0, needed: 100, worse: true };
    for (verdict, expected) in [(STARVED, Some(300)), (none, None), (shared(), None)] {
        let mut bench = waiting();
        let starts = (0..400).find(|_| {
            bench.hear(0, 2 + bench.now.boot_ms, State::Committed, None);
            bench.give(Input::Pooled { rollout: rollout_id(1), verdict });
            let asked = bench.asked().iter().any(|asked| asked == "activate b or a");
            bench.now.boot_ms += 1_000;
            asked
        });
        assert_eq!(starts, expected, "{verdict}");
        let worse = bench.host.view.pooled.conclusion() == Conclusion::Worse(verdict);
        assert_eq!(worse, expected.is_none(), "{verdict}: {}", bench.why());
    }
}

#[test]
fn r24_the_canaries_and_hosts_outside_wait_for_no_pool() {
    let mut canary = bench(0);
    canary.follow(&counted()).give(Input::Fetched { release: release("b") });
    assert_eq!(canary.host.awaits_pool(), None);
    let mut outsider = bench(9);
    outsider.follow(&counted());
    assert_eq!(outsider.host.awaits_pool(), None);
}
