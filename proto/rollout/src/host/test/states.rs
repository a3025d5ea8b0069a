//! R6, R18: an abort is legal in every state; a pause stops the clocks; attempts have their own ids.

use super::*;

/// A host in each of the states.
fn in_each() -> Vec<Bench> {
    let staged = || {
        let mut bench = bench(0);
        bench.follow(&rollout(&one_wave())).direct(1, Action::Pause, None).stage();
        bench
    };
    let activating = || {
        let mut bench = bench(0);
        bench.follow(&rollout(&one_wave())).stage();
        bench
    };
    let failed = |reverted| {
        let mut bench = activating();
        let (attempt, cause) = (bench.attempt(), Cause::Release);
        let note = "never ready".to_owned();
        bench.give(Input::ActivationFailed { attempt, reverted, cause, note });
        bench
    };
    // Outside the cohort nothing is fetched before the end.
    let mut pending = bench(9);
    pending.follow(&rollout(&one_wave()));
    let mut fetching = new_bench();
    fetching.follow(&rollout(&one_wave()));
    let mut baking = new_bench();
    activated(&mut baking);
    let mut done = new_bench();
    committed(&mut done);
    vec![pending, fetching, staged(), activating(), baking, done, failed(true), failed(false)]
}

#[test]
fn r18_an_abort_is_legal_in_every_state() {
    use State::{Activating, Baking, Committed, Fetching, Pending, RevertFailed, Reverted, Staged};
    let fleet = (Reverted, Some(Cause::Fleet));
    /// The state, what is asked for, and where the host stands then.
    type Row = (State, &'static [&'static str], (State, Option<Cause>));
    let rows: [Row; 8] = [
        (Pending, &[], fleet),
        (Fetching, &[], fleet),
        (Staged, &[], fleet),
        // A step is not interrupted; its end leads on.
        (Activating, &[], (Activating, None)),
        (Baking, &["revert to a"], (Baking, None)),
        (Committed, &["revert to a"], (Committed, None)),
        (Reverted, &[], (Reverted, Some(Cause::Release))),
        (RevertFailed, &[], (RevertFailed, Some(Cause::Release))),
    ];
    for (mut bench, (state, asked, after)) in in_each().into_iter().zip(rows) {
        assert_eq!(bench.state().0, state);
        let got = bench.direct(9, Action::Abort, None).asked();
        assert_eq!((got, bench.state()), (asked.iter().map(ToString::to_string).collect(), after));
        bench.direct(99, Action::Resume, None).certify(1, Claim::Complete);
        let started = bench.pass(3_600_000).asked();
        assert!(
            started.iter().all(|asked| !asked.starts_with("activate")),
            "{state:?}: {started:?}"
        );
    }
}

/// Pause stops what is counted of the rollout, in every state; it keeps no step from its end.
#[test]
fn r18_a_pause_stops_the_clocks_in_every_state() {
    for mut bench in in_each() {
        let counted = |bench: &Bench| {
            let course = bench.host.course.as_ref().unwrap();
            (course.held_ms, course.baked_ms)
        };
        bench.direct(5, Action::Pause, None);
        let before = counted(&bench);
        bench.pass(60_000).give(Input::Tick);
        assert_eq!(counted(&bench), before, "{:?}", bench.state());
        bench.direct(6, Action::Resume, None).pass(1_000).give(Input::Tick);
        assert_eq!(counted(&bench).0, before.0 + 1_000, "{:?}", bench.state());
    }
    let mut activating = in_each().remove(3);
    activating.direct(5, Action::Pause, None);
    assert_eq!(
        activating.pass(STEP_MS_MAX).asked(),
        ["revert to a"],
        "its own work has a deadline"
    );
}

/// R18: an answer is to one attempt; one to an attempt before it changes nothing.
#[test]
fn r18_each_attempt_has_its_own_id() {
    let mut bench = bench(0);
    let first = activated(&mut bench);
    bench.direct(1, Action::Abort, None);
    let second = bench.attempt();
    assert!(second > first);
    for late in [Input::Activated { attempt: first }, Input::Reverted { attempt: first }] {
        assert!(bench.give(late).done.is_empty());
    }
    assert_eq!((bench.state().0, bench.attempt()), (State::Baking, second));
    bench.give(Input::Reverted { attempt: second });
    assert_eq!(bench.state().0, State::Reverted);
}

/// Known of a rollout, in the order of strength: open, complete, stopped. A complete rollout that is
/// aborted is taken back, and the other way round nothing changes.
#[test]
fn r17_a_stop_wins_over_completion_in_any_order() {
    let mut completed = new_bench();
    committed(&mut completed);
    completed.certify(1, Claim::Complete);
    assert_eq!(completed.direct(1, Action::Abort, None).asked(), ["revert to a"]);
    let mut aborted = new_bench();
    committed(&mut aborted);
    aborted.direct(1, Action::Abort, None);
    let attempt = aborted.attempt();
    aborted.give(Input::Reverted { attempt }).certify(1, Claim::Complete);
    assert!(aborted.pass(3_600_000).asked().is_empty());
    assert_eq!(aborted.state(), (State::Reverted, Some(Cause::Fleet)));
}
