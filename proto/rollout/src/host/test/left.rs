//! What an older rollout brought, or could not take back, under a newer one.

use super::*;
use crate::UNHEARD_MS_MAX;

/// R12: a release that was proven here and could not be left does not serve any more.
#[test]
fn r12_a_failed_way_back_is_gone_on_with_under_a_newer_rollout() {
    let back_failed = || {
        let mut bench = bench(0);
        activated(&mut bench);
        bench.pass(60_000);
        assert_eq!(bench.state().0, State::Committed);
        assert_eq!(bench.certify(1, Claim::Halt).asked(), ["revert to a"]);
        let attempt = bench.attempt();
        bench.give(Input::RevertFailed { attempt, note: "the disk is full".into() });
        bench
    };
    // Nothing is taken over, and the newer rollout keeps nobody down: it has not begun here.
    for newer in [next("a"), Rollout { retry: true, to: rollout(&one_wave()).to, ..next("a") }] {
        let mut bench = back_failed();
        bench.follow(&Rollout { rules: RULES + 1, ..newer });
        assert!(bench.asked().contains(&"revert to a".to_owned()), "{:?}", bench.asked());
        let attempt = bench.attempt();
        bench.give(Input::Reverted { attempt });
        assert_eq!(bench.host.steady(), Some(release("a")));
        assert_eq!(bench.state(), (State::Fetching, None), "no failure of the newer rollout");
    }
    // Nor does one that is stopped before it began.
    let mut stopped = back_failed();
    stopped.follow(&Rollout { rules: RULES + 1, ..next("a") }).certify(2, Claim::Halt);
    let attempt = stopped.attempt();
    stopped.give(Input::RevertFailed { attempt, note: "the disk is full".into() });
    assert_eq!(stopped.state(), (State::Reverted, Some(Cause::Fleet)), "never started");
    assert_eq!(stopped.pass(60_000).asked(), ["revert to a"], "again");
}

/// R15: what an older rollout brought, and was stopped, is left in the newer one's order, in which
/// hosts say that they are pending until then.
#[test]
fn r15_a_stopped_release_is_left_in_order_under_a_newer_rollout() {
    let waves = [wave(3, 60, 1, 1)];
    let first = Rollout { max_unavailable: 1, ..rollout(&waves) };
    let second = Rollout { max_unavailable: 1, cohort: first.cohort.clone(), ..next("a") };
    let second = Rollout { waves: waves.to_vec(), rules: RULES + 1, ..second };
    let says = |rank: usize, sequence: u64, state: State| Receipt {
        rollout: rollout_id(2),
        ..receipt(rank, sequence, state, None)
    };
    let held = || {
        let mut bench = bench(0);
        bench.follow(&first).stage();
        let attempt = bench.attempt();
        bench.give(Input::Activated { attempt });
        bench
    };
    let mut bench = held();
    bench.certify(1, Claim::Halt);
    assert!(bench.follow(&second).asked().is_empty(), "those behind it come first");
    assert_eq!(bench.state().0, State::Pending);
    assert!(bench.why().contains("go back"), "{}", bench.why());
    bench.give(Input::Receipt(says(2, 1, State::Fetching)));
    bench.give(Input::Receipt(says(1, 1, State::Pending)));
    assert!(bench.pass(5_000).asked().is_empty(), "one of them has yet to");
    let mut asked = bench.give(Input::Receipt(says(1, 2, State::Fetching))).asked();
    asked.extend(bench.pass(1_000).asked());
    assert_eq!(asked, ["revert to a"]);
    assert_eq!(bench.state().0, State::Pending, "until it is back");
    let attempt = bench.attempt();
    assert_eq!(bench.give(Input::Reverted { attempt }).asked(), ["fetch c"]);
    assert_eq!(bench.state().0, State::Fetching);

    // Nobody keeps a bad release for those that are gone.
    let mut alone = held();
    alone.certify(1, Claim::Halt).follow(&second);
    assert_eq!(alone.pass(UNHEARD_MS_MAX + 5_000).asked(), ["revert to a"]);

    // One that had gone on says that it is pending again; one that fails by itself does not wait.
    let mut late = held();
    late.follow(&second);
    assert_eq!(late.state().0, State::Fetching);
    late.certify(1, Claim::Halt);
    assert_eq!((late.state().0, late.asked().len()), (State::Pending, 0));
    let mut sick = held();
    sick.follow(&second);
    let (attempt, note) = (1, "errors".to_owned());
    assert_eq!(sick.give(Input::Unhealthy { attempt, note }).asked(), ["revert to a"]);
}

/// R18: three ways back in a row may fail; whatever serves in between begins a new row.
#[test]
fn r18_failed_ways_back_are_counted_anew_once_something_serves() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).stage();
    let (attempt, note) = (bench.attempt(), "the disk is full".to_owned());
    bench.give(Input::ActivationFailed { attempt, reverted: false, cause: Cause::Host, note });
    assert_eq!(bench.follow(&next("a")).asked(), ["revert to a"]);
    let fail = |bench: &mut Bench| {
        let attempt = bench.attempt();
        bench.give(Input::RevertFailed { attempt, note: "503".into() });
    };
    fail(&mut bench);
    bench.give(Input::Fetched { release: release("c") });
    assert_eq!(bench.give(Input::Fetched { release: release("a") }).asked(), ["activate c or a"]);
    let attempt = bench.attempt();
    bench.give(Input::Activated { attempt }).pass(60_000);
    assert_eq!(bench.state().0, State::Committed);
    assert_eq!(bench.certify(2, Claim::Halt).asked(), ["revert to a"]);
    for _ in 0..2 {
        fail(&mut bench);
        assert_eq!(bench.pass(600_000).asked(), ["revert to a"]);
    }
    fail(&mut bench);
    assert!(bench.pass(600_000).asked().is_empty(), "a person is needed");
}

/// R12: where a way back failed, a person mends what was in its way and rolls back: what is bad is not
/// started again for that.
#[test]
fn r12_a_rollback_does_not_start_what_could_not_be_left() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).stage();
    let (attempt, note) = (bench.attempt(), "migration failed".to_owned());
    bench.give(Input::ActivationFailed { attempt, reverted: false, cause: Cause::Release, note });
    assert_eq!(bench.state().0, State::RevertFailed);
    let mut back = Rollout { direction: Direction::Rollback, ..next("b") };
    back.to.release = release("a");
    bench.follow(&back);
    for missing in ["a", "b"] {
        bench.give(Input::Fetched { release: release(missing) });
    }
    assert_eq!(bench.asked(), ["activate a or b"], "{}", bench.why());
    let attempt = bench.attempt();
    bench.give(Input::Activated { attempt }).pass(60_000);
    assert_eq!(bench.state().0, State::Committed);
    assert_eq!(bench.host.steady(), Some(release("a")));
}

/// R12: how far an activation came that a stop found under way, nobody knows after a restart.
#[test]
fn r12_an_activation_cut_off_by_a_stop_must_go_whatever_comes_next() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).stage();
    bench.certify(1, Claim::Halt);
    assert_eq!(bench.restart(false).asked(), ["revert to a"]);
    bench.follow(&Rollout { rules: RULES + 1, ..next("a") });
    let attempt = bench.attempt();
    bench.give(Input::RevertFailed { attempt, note: "503".into() });
    assert_eq!(bench.host.steady(), None);
    assert_eq!(bench.pass(60_000).asked(), ["revert to a"], "until something serves");
}

/// What an older rollout brought goes if that halts, is aborted, or fails here.
#[test]
fn what_a_superseded_rollout_brought_may_still_have_to_go() {
    let held = || {
        let mut bench = bench(0);
        let attempt = activated(&mut bench);
        // The next one cannot start here.
        let next = Rollout { rules: RULES + 1, ..next("a") };
        bench.follow(&next);
        (bench, attempt)
    };
    let (mut halted, _) = held();
    assert_eq!(halted.certify(1, Claim::Halt).asked(), ["revert to a"]);
    let attempt = halted.attempt();
    halted.give(Input::Reverted { attempt });
    assert_eq!(halted.host.running(), Some(release("a")));
    assert!(!halted.state().0.is_failed(), "no failure of the newer rollout");

    let (mut sick, attempt) = held();
    let note = "errors".to_owned();
    assert_eq!(sick.give(Input::Unhealthy { attempt, note }).asked(), ["revert to a"]);
    let attempt = sick.attempt();
    sick.give(Input::RevertFailed { attempt, note: "stop failed".into() });
    assert_eq!(sick.pass(60_000).asked(), ["revert to a"], "tried again");

    let (mut wanted, _) = held();
    let stays = Rollout { epoch: 3, previous: Some(rollout_id(2)), ..next("b") };
    wanted.follow(&stays);
    assert!(wanted.certify(1, Claim::Halt).asked().iter().all(|asked| !asked.contains("revert")));
}

/// R12: the rollout that brought what runs is remembered over any number of newer ones.
#[test]
fn r12_what_an_older_rollout_brings_is_not_forgotten() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).stage();
    let attempt = bench.attempt();
    let again = Rollout { to: rollout(&one_wave()).to, ..next("a") };
    bench.follow(&Rollout { rules: RULES + 1, ..again });
    bench.follow(&Rollout { epoch: 3, rules: RULES + 1, ..next("a") });
    assert_eq!(bench.host.prior_rollout(), Some(rollout_id(1)));
    let (cause, note) = (Cause::Release, "healthz answered 500".to_owned());
    bench.give(Input::ActivationFailed { attempt, reverted: false, cause, note });
    assert!(bench.asked().contains(&"revert to a".to_owned()), "{:?}", bench.asked());
}

/// R16: what could neither start nor go back does not serve, so a newer rollout of the same release
/// does not take it over past the gate.
#[test]
fn r16_what_does_not_serve_is_not_taken_over() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).stage();
    let attempt = bench.attempt();
    let (cause, note) = (Cause::Release, "healthz answered 500".to_owned());
    bench.give(Input::ActivationFailed { attempt, reverted: false, cause, note });
    assert_eq!(bench.host.running(), Some(release("b")));
    let again = Rollout { rules: RULES + 1, to: rollout(&one_wave()).to, ..next("a") };
    let asked = ["fetch b", "revert to a"];
    assert_eq!(bench.follow(&again).asked(), asked, "not started, and nothing else serves");
    let attempt = bench.attempt();
    bench.give(Input::RevertFailed { attempt, note: "the disk is full".into() });
    assert_eq!(bench.stage().asked(), ["fetch a"], "the way back is there before it starts");
    bench.give(Input::Fetched { release: release("a") });
    assert_eq!(bench.state().0, State::Staged);
}

/// R17: a way back that is stopped says nothing against where it leads.
#[test]
fn r17_a_stopped_way_back_puts_nothing_into_the_box() {
    let back = Rollout { direction: Direction::Rollback, ..rollout(&one_wave()) };
    let mut bench = bench(0);
    bench.follow(&back).direct(1, Action::Abort, None);
    assert!(bench.host.boxes.is_empty());
    let mut older = new_bench();
    older.follow(&back).stage();
    let attempt = older.attempt();
    older.give(Input::Activated { attempt }).follow(&next("b"));
    older.certify(1, Claim::Halt);
    assert!(older.host.boxes.is_empty());
    assert_eq!(older.host.prior_rollout(), Some(rollout_id(1)));
}
