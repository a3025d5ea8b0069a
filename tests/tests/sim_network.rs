//! Real agents in a simulated network, one run of each story. The promises are held at every step, in
//! `fleet_tests::sim_network`; a broken one panics with its seed.

use std::time::Instant;

use fleet_tests::sim_network::{Ending, Outcome, Scenario, Story, run, run_scenario};

/// Tells how a run ended and how fast that was.
fn told(run: impl FnOnce() -> Outcome) -> Outcome {
    let start = Instant::now();
    let outcome = run();
    let Outcome { scenario, ending, simulated_ms, .. } = &outcome;
    let (took_s, simulated_s) = (start.elapsed().as_secs_f64(), simulated_ms / 1_000);
    println!("{scenario:?}: {ending:?} after {simulated_s} s, in {took_s:.1} s");
    outcome
}

/// A small fleet in a network as the seed has it.
fn of(story: Story, seed: u64) -> Outcome {
    told(|| run_scenario(&Scenario::of(story, 6, seed)))
}

#[test]
fn a_good_release_reaches_everyone_though_messages_are_lost() {
    let scenario = Scenario { lost_permille: 50, ..Scenario::of(Story::Calm, 9, 1) };
    let outcome = told(|| run_scenario(&scenario));
    assert_eq!((outcome.ending, outcome.started), (Ending::Complete, 9));
}

#[test]
fn a_partition_delays_a_rollout_and_no_more() {
    assert_eq!(of(Story::Partition, 2).ending, Ending::Complete);
}

#[test]
fn r21_a_rollout_needs_no_coordinator() {
    assert_eq!(of(Story::CoordinatorGone, 3).ending, Ending::Complete);
}

#[test]
fn r22_agents_go_on_after_a_kill() {
    assert_eq!(of(Story::AgentsKilled, 4).ending, Ending::Complete);
}

#[test]
fn r19_a_canary_that_loses_power_comes_back_whole() {
    // That the release did it is as likely as not: its machine went down under it.
    assert_eq!(of(Story::PowerCut, 5).ending, Ending::Stopped);
}

#[test]
fn r14_a_bad_release_stops_at_the_canary() {
    let outcome = of(Story::BadRelease, 6);
    assert_eq!(outcome.ending, Ending::Stopped);
    assert!((1..=outcome.canaries).contains(&outcome.started), "{outcome:?}");
}

#[test]
fn r9_an_expired_certificate_is_good_where_its_host_is_known() {
    assert_eq!(of(Story::Certificates, 7).ending, Ending::Complete);
}

#[test]
fn r8_a_host_in_1970_starts_nothing_and_catches_up() {
    assert_eq!(of(Story::LostClock, 8).ending, Ending::Complete);
}

/// What it hears is from the future, and signed: it goes back as all others do.
#[test]
fn r8_a_host_in_1970_goes_back_on_an_abort() {
    assert_eq!(of(Story::ClockLostLater, 9).ending, Ending::Stopped);
}

/// R7: under a root that has expired nothing new starts; a newer one lets the same rollout go on, and no
/// agent need be started anew for it.
#[test]
fn r7_a_renewed_root_lets_a_rollout_go_on() {
    assert_eq!(of(Story::RootRenewed, 10).ending, Ending::Complete);
}

#[test]
fn a_fleet_short_of_memory_starts_nothing_and_goes_on_once_it_has_some() {
    assert_eq!(of(Story::ShortOfMemory, 11).ending, Ending::Complete);
}

#[test]
fn r22_a_way_back_that_rots_is_staged_anew() {
    assert_eq!(of(Story::Rot, 12).ending, Ending::Complete);
}

/// Seeds as they come; for changes of the agent, more of them: `SIM_SEEDS=100..200`.
#[test]
fn soak() {
    let range = std::env::var("SIM_SEEDS").unwrap_or_else(|_| "3..4".to_owned());
    let (start, end) = range.split_once("..").expect("SIM_SEEDS=START..END");
    for seed in start.parse::<u64>().expect("a number")..end.parse().expect("a number") {
        told(|| run(seed));
    }
}
