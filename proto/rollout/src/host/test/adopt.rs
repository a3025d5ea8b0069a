//! Adoptions: what runs is taken in as it runs, and nothing else is ever asked for it.

use super::*;

/// Of `b`, which somebody else has brought, on hosts of which nothing is known.
fn adoption() -> Rollout {
    Rollout { from: None, adopt: true, ..rollout(&one_wave()) }
}

fn empty_bench(rank: usize) -> Bench {
    let mut bench = bench(rank);
    (bench.host.running, bench.host.proven) = (None, None);
    bench
}

fn fail(bench: &mut Bench) -> &mut Bench {
    let attempt = bench.attempt();
    let note = "it does not run".to_owned();
    bench.give(Input::ActivationFailed { attempt, reverted: true, cause: Cause::Host, note })
}

#[test]
fn what_runs_is_adopted_baked_and_where_the_next_one_comes_from() {
    let mut bench = empty_bench(0);
    assert_eq!(bench.follow(&adoption()).asked(), ["fetch b"]);
    assert_eq!(bench.stage().asked(), ["adopt b or nothing"]);
    let attempt = bench.attempt();
    assert_eq!(bench.restart(true).asked(), ["adopt b or nothing"], "in the middle of it");
    bench.give(Input::Activated { attempt });
    assert_eq!(bench.restart(false).asked(), ["adopt b or nothing"], "to be watched again");
    bench.give(Input::Activated { attempt });
    assert_eq!(bench.pass(10_000).asked(), ["commit"]);
    assert_eq!(bench.host.running(), Some(release("b")));

    let second = next("b");
    bench.follow(&second).give(Input::Fetched { release: release("c") });
    assert_eq!(bench.asked(), ["activate c or b"], "the next one is brought as ever");
}

/// R12: the way back from an adoption is nothing that runs.
#[test]
fn r12_an_adoption_that_fails_or_is_aborted_goes_back_to_nothing_of_ours() {
    let mut bench = empty_bench(0);
    bench.follow(&adoption()).stage();
    fail(&mut bench);
    assert_eq!((bench.state(), bench.host.running()), ((State::Reverted, Some(Cause::Host)), None));

    let mut aborted = empty_bench(0);
    aborted.follow(&adoption()).stage();
    let attempt = aborted.attempt();
    aborted.give(Input::Activated { attempt }).pass(10_000);
    assert_eq!(aborted.direct(1, Action::Abort, None).asked(), ["revert to nothing"]);
}

/// What a host was asked to do stays what it was, whatever is planned meanwhile.
#[test]
fn a_newer_rollout_does_not_make_a_restart_of_an_adoption() {
    let mut bench = empty_bench(0);
    bench.follow(&adoption()).stage();
    bench.follow(&next("b"));
    let asked = bench.restart(true).asked();
    assert!(asked.contains(&"adopt b or nothing".to_owned()), "{asked:?}");
    assert!(!asked.iter().any(|asked| asked.starts_with("activate")), "{asked:?}");
}

/// R25: a host of the cohort tries again in the lane, and never starts anything.
#[test]
fn r25_a_host_where_it_was_not_well_is_adopted_later_and_never_restarted() {
    let mut bench = empty_bench(0);
    bench.follow(&adoption()).stage();
    fail(&mut bench).certify(1, Claim::Complete);
    for _ in 1..4 {
        let asked = bench.pass(600_000).asked();
        assert_eq!(asked, ["adopt b or nothing"]);
        fail(&mut bench);
    }
    assert_eq!(bench.pass(36_000_000).asked(), [""; 0], "a person is needed");
}

/// A host outside the cohort is a new one, or was only not heard when it was planned, and then it runs
/// there: neither is started by an adoption, however often it has failed.
#[test]
fn r25_a_host_outside_the_cohort_is_adopted_or_left_alone() {
    let mut bench = empty_bench(4);
    bench.follow(&adoption()).certify(1, Claim::Complete).stage();
    assert_eq!(bench.pass(60_000).asked(), ["adopt b or nothing"]);
    fail(&mut bench);
    assert_eq!(bench.pass(600_000).asked(), ["adopt b or nothing"]);
}
