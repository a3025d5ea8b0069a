//! The way back of a fleet that was stopped (R15, R17, R18), as one host goes it.

use super::*;

/// Of `hosts` in one zone, one may be stopped at a time.
fn one_by_one(hosts: u32) -> Rollout {
    Rollout { max_unavailable: 1, ..rollout(&[wave(hosts, 10, 1, 1)]) }
}

/// The host with that rank, committed in a rollout of four.
fn committed_of_four(rank: usize) -> Bench {
    let mut bench = bench(rank);
    bench.follow(&one_by_one(4));
    for lower in 0..rank {
        bench.hear(lower, 1, State::Committed, None);
    }
    bench.stage();
    let attempt = bench.attempt();
    bench.give(Input::Activated { attempt });
    bench.pass(10_000);
    assert_eq!(bench.state().0, State::Committed);
    bench
}

const TURN: &str = "waiting for its turn to go back: 1 hosts behind it in its zone have not, at most \
                    1 may be stopped at once";

#[test]
fn r15_a_host_keeps_serving_until_those_behind_it_are_back() {
    let mut bench = committed_of_four(1);
    bench.hear(2, 1, State::Committed, None).hear(3, 1, State::Staged, None);
    assert!(bench.certify(1, Claim::Halt).asked().is_empty(), "{:?}", bench.done);
    assert_eq!(bench.why(), TURN);
    assert_eq!(bench.state().0, State::Committed);
    bench.hear(3, 2, State::Reverted, Some(Cause::Fleet));
    assert!(bench.pass(1_000).asked().is_empty(), "one that never started is back, another is not");
    assert_eq!(bench.why(), TURN);
    assert_eq!(bench.hear(2, 2, State::Reverted, Some(Cause::Fleet)).asked(), ["revert to a"]);
}

#[test]
fn r15_with_all_unavailable_everyone_goes_back_at_once() {
    let mut bench = bench(0);
    committed(&mut bench);
    assert_eq!(bench.direct(1, Action::Abort, None).asked(), ["revert to a"], "{}", bench.why());
}

/// A bad release is not kept by a host that is silent or could not go back; nor, in the end, by one
/// that lies.
#[test]
fn r18_nobody_is_waited_for_without_an_end() {
    let silent = || {
        let mut bench = committed_of_four(2);
        bench.hear(3, 1, State::Baking, None).hear(3, 2, State::Baking, None);
        bench.certify(1, Claim::Halt);
        bench
    };
    let mut waiting = silent();
    assert!(waiting.pass(80_000).asked().is_empty());
    assert_eq!(waiting.pass(20_000).asked(), ["revert to a"], "silent for 90 s");

    assert!(silent().excuse(&[3]).asked().is_empty(), "what was skipped may serve all the same");
    let mut failed = silent();
    failed.hear(3, 3, State::RevertFailed, Some(Cause::Fleet));
    assert_eq!(failed.pass(1_000).asked(), ["revert to a"], "it could not go back");

    let mut lied_to = silent();
    let mut asked = Vec::new();
    let mut waited_s = 0;
    for sequence in 3..30 {
        lied_to.hear(3, sequence, State::Baking, None);
        asked.append(&mut lied_to.asked());
        asked.append(&mut lied_to.pass(30_000).asked());
        waited_s += if asked.is_empty() { 30 } else { 0 };
    }
    assert_eq!((asked, waited_s), (vec!["revert to a".to_owned()], 600));
}

/// R18: while it waits for its turn, nothing commits, and a failure of its own asks nobody.
#[test]
fn r18_own_failures_go_back_at_once() {
    let mut bench = bench(0);
    bench.follow(&one_by_one(2)).stage();
    let attempt = bench.attempt();
    bench.give(Input::Activated { attempt });
    bench.hear(1, 1, State::Baking, None).direct(1, Action::Abort, None);
    assert_eq!((bench.asked().len(), bench.why().as_str()), (0, TURN));
    assert!(bench.pass(20_000).asked().is_empty(), "the bake is over, and stands for nothing now");
    assert_eq!(bench.state().0, State::Baking);
    let note = "errors".to_owned();
    assert_eq!(bench.give(Input::Unhealthy { attempt, note }).asked(), ["revert to a"]);
}

/// Who never ran `to` says so: the others count on it.
#[test]
fn r15_a_host_that_never_started_acknowledges_the_stop() {
    let mut bench = bench(1);
    bench.follow(&one_by_one(2)).stage();
    assert_eq!(bench.state().0, State::Staged, "{}", bench.why());
    bench.certify(1, Claim::Halt);
    assert!(bench.asked().is_empty());
    assert_eq!(bench.state(), (State::Reverted, Some(Cause::Fleet)));
    let Some(Effect::Publish(receipt)) = bench.done.get(1) else { panic!("{:?}", bench.done) };
    assert_eq!(receipt.note, "never started");
    assert!(!proto::certificate::counts_as_failed(receipt));
    assert!(bench.pass(3_600_000).asked().is_empty());

    let mut fetching = new_bench();
    fetching.follow(&one_by_one(2)).direct(1, Action::Abort, None);
    assert_eq!(fetching.state(), (State::Reverted, Some(Cause::Fleet)));
    let stays = Rollout { on_failure: OnFailure::Pause, ..one_by_one(2) };
    let mut paused = new_bench();
    paused.follow(&stays).certify(1, Claim::Halt);
    assert_eq!(paused.state().0, State::Fetching, "there is no way back to wait for");
}

/// It is heard while the others wait for it, and silent once it is back.
#[test]
fn r16_receipts_are_signed_on_the_way_back() {
    let mut bench = committed_of_four(0);
    bench.hear(3, 1, State::Baking, None).certify(1, Claim::Halt);
    let signed = |bench: &Bench| {
        bench.done.iter().filter(|effect| matches!(effect, Effect::Publish(_))).count()
    };
    bench.pass(61_000);
    assert_eq!(signed(&bench), 2, "{}", bench.why());
    bench.hear(3, 2, State::Reverted, Some(Cause::Fleet)).pass(60_000);
    let attempt = bench.attempt();
    bench.give(Input::Reverted { attempt });
    bench.pass(600_000);
    assert_eq!(signed(&bench), 0);
    assert_eq!(bench.host.next_deadline(), None);
}

/// After a restart it waits as before, and does not act before it is told the rollout anew.
#[test]
fn r15_a_restart_is_no_turn() {
    let mut bench = committed_of_four(0);
    bench.hear(3, 1, State::Baking, None).certify(1, Claim::Halt);
    assert!(bench.restart(true).asked().is_empty());
    assert!(bench.follow(&one_by_one(4)).asked().is_empty());
    assert_eq!(bench.why(), TURN, "nobody is known to be back");
    bench.hear(3, 2, State::Reverted, Some(Cause::Fleet));
    bench.hear(2, 2, State::Reverted, Some(Cause::Fleet));
    bench.hear(1, 2, State::Reverted, Some(Cause::Fleet));
    assert_eq!(bench.pass(1_000).asked(), ["revert to a"]);

    let mut untold = committed_of_four(0);
    untold.certify(1, Claim::Halt).restart(true);
    assert!(untold.pass(80_000).asked().is_empty());
    assert_eq!(untold.pass(20_000).asked(), ["revert to a"], "also without the statement");
}

/// Outside the cohort there is no order: what the lane brought goes.
#[test]
fn r15_hosts_outside_the_cohort_ask_nobody() {
    let mut outside = bench(9);
    outside.follow(&one_by_one(4)).certify(1, Claim::Complete).stage();
    outside.pass(30_000);
    let attempt = outside.attempt();
    outside.give(Input::Activated { attempt });
    assert_eq!(outside.direct(1, Action::Abort, None).asked(), ["revert to a"]);
}
