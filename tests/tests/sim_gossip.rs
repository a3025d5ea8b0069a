//! Rollouts over real gossip: the stories every fleet must come out of well. The promises are checked
//! as hosts act, in `fleet_tests::sim_gossip`; a broken one panics with its seed.

use fleet_tests::sim::{Ending, Quality};
use fleet_tests::sim_gossip::{Crash, Cut, Outcome, Scenario, Wiped, run};
use proto::statement::{Action, Share};

fn play(scenario: &Scenario) -> Outcome {
    let outcome = run(scenario);
    println!("{outcome}");
    outcome
}

#[test]
fn a_good_release_reaches_everyone() {
    let outcome = play(&Scenario::calm(1, 20));
    assert_eq!((outcome.ending, outcome.ever_ran), (Ending::Complete, 20));
}

/// In the bake of the canaries, while messages are lost and doubled.
#[test]
fn r14_a_bad_release_stops_at_the_canaries() {
    let bad = Scenario { quality: Quality::BadInBake, ..Scenario::calm(2, 24) };
    let outcome = play(&Scenario { lost: 200, doubled: 50, heals_ms: 40_000, ..bad });
    assert_eq!(outcome.ending, Ending::Halted);
    assert!((1..=outcome.canaries).contains(&outcome.ever_ran), "{outcome:?}");
}

/// A zone of three is over the budget of the second wave; the others that serve it go back in turn.
#[test]
fn r15_a_release_that_fails_in_one_zone_is_taken_back_everywhere() {
    let outcome = play(&Scenario { quality: Quality::BadInZone(0), ..Scenario::calm(4, 20) });
    assert_eq!(outcome.ending, Ending::Halted);
    assert!(outcome.ever_ran > outcome.canaries, "{outcome:?}");
}

/// The fleet is cut in two while the second wave starts, longer than a host may be silent.
#[test]
fn r16_a_partition_in_the_middle_of_a_wave_heals() {
    let cut = Cut { wave: 1, for_ms: 95_000, one_way: false, abort_after_ms: None };
    let calm = Scenario { heals_ms: 110_000, ..Scenario::calm(6, 16) };
    let outcome = play(&Scenario { cut: Some(cut), ..calm });
    assert_eq!((outcome.ending, outcome.ever_ran), (Ending::Complete, 16));
}

/// Half of the fleet is heard and hears nothing.
#[test]
fn r16_a_partition_in_one_direction_heals() {
    let cut = Cut { wave: 1, for_ms: 30_000, one_way: true, abort_after_ms: None };
    let calm = Scenario { heals_ms: 45_000, ..Scenario::calm(7, 16) };
    let outcome = play(&Scenario { cut: Some(cut), ..calm });
    assert_eq!((outcome.ending, outcome.ever_ran), (Ending::Complete, 16));
}

/// The other side of the cut learns of it when that has healed.
#[test]
fn r6_an_abort_on_one_side_of_a_partition_takes_everyone_back() {
    let cut = Cut { wave: 1, for_ms: 20_000, one_way: false, abort_after_ms: Some(3_000) };
    let outcome = play(&Scenario { cut: Some(cut), heals_ms: 40_000, ..Scenario::calm(9, 16) });
    assert_eq!(outcome.ending, Ending::Aborted);
    assert!(outcome.stop_known_after_ms.is_some_and(|after_ms| after_ms > 10_000), "{outcome:?}");
}

/// The canary is gone, and with it every word that gossip keeps of it, when a host that was away from
/// the start is back: it learns of the halt by the certificate.
#[test]
fn r17_a_halt_reaches_a_host_that_was_away() {
    let mut bad = Scenario { quality: Quality::BadAtOnce, ..Scenario::calm(8, 6) };
    let down = |host, at_ms, down_ms| Crash { host, at_ms, down_ms, machine: true };
    // Gossip forgets who has been dead for ten minutes.
    bad.crashes = vec![down(5, 1, 640_000)];
    bad.crashes.extend((0..4).map(|host| down(host, 15_000, 660_000)));
    bad.heals_ms = 16_000;
    let outcome = play(&bad);
    assert_eq!(outcome.ending, Ending::Halted);
    assert!(outcome.ever_ran <= outcome.canaries, "{outcome:?}");
    // From the one host that is left, so before the others are back. Whom gossip asks is drawn by
    // chitchat and not by our seed: most often it takes seconds, one time in some hundreds ten.
    assert!(outcome.stop_known_after_ms.is_some_and(|ms| ms < 670_000), "{outcome:?}");
}

#[test]
fn r21_a_rollout_needs_no_coordinator() {
    let gone = Scenario { coordinator_gone_ms: Some(0), ..Scenario::calm(11, 16) };
    let outcome = play(&gone);
    assert_eq!((outcome.ending, outcome.ever_ran), (Ending::Complete, 16));
    let aborted = vec![(9_000, Action::Abort)];
    let outcome = play(&Scenario { orders: aborted, coordinator_gone_ms: Some(4_000), ..gone });
    assert_eq!(outcome.ending, Ending::Aborted);
}

/// With a coordinator that is gone before anybody asked it, what was handed to it is lost: `deploy` says
/// that the rollout does not support itself, and people hand it in again.
#[test]
fn r21_what_the_coordinator_took_with_it_is_handed_in_again() {
    let gone = Scenario { coordinator_gone_ms: Some(60), ..Scenario::calm(12, 8) };
    let outcome = play(&gone);
    assert_eq!((outcome.ending, outcome.ever_ran), (Ending::Complete, 8));
}

/// The host that was given the rollout goes down while the first ones ask it for that, and nobody
/// else has it yet.
#[test]
fn r26_what_was_lost_on_its_way_is_asked_for_again() {
    for seed in 13..17 {
        let mut scenario = Scenario { coordinator_gone_ms: Some(0), ..Scenario::calm(seed, 8) };
        // Whoever heard of it is about to ask, and in vain for longer than a dial may take.
        scenario.crashes = vec![Crash { host: 7, at_ms: 250, down_ms: 15_000, machine: false }];
        scenario.heals_ms = 16_000;
        assert_eq!(play(&scenario).ending, Ending::Complete);
    }
}

/// Agents and machines crash and come back, one in four of them, and budgets bear it.
#[test]
fn r22_hosts_that_crash_come_back() {
    let mut scenario = Scenario::calm(10, 16);
    let down = |host: usize| Crash {
        host,
        at_ms: 1_500 * host as u64,
        down_ms: 2_000 + 2_000 * host as u64,
        machine: host.is_multiple_of(8),
    };
    scenario.crashes = (0..16).step_by(4).map(down).collect();
    scenario.interrupted = 3;
    scenario.heals_ms = 40_000;
    for stage in &mut scenario.stages {
        stage.failed_max = Some(Share::Percent(60.0));
    }
    assert_eq!(play(&scenario).ending, Ending::Complete);
}

/// A host that lost its disk is removed and nobody waits for it; what takes its place catches up.
#[test]
fn r9_a_wiped_host_is_replaced_by_a_new_one() {
    let wiped = Some(Wiped { host: 7, at_ms: 3_000, replaced_after_ms: 20_000 });
    let outcome = play(&Scenario { wiped, heals_ms: 1_000, ..Scenario::calm(12, 16) });
    // All but the one that is gone, and the new one.
    assert_eq!((outcome.ending, outcome.ever_ran), (Ending::Complete, 16));
    assert!(outcome.rested_after_ms < 90_000, "it waits for one that falls silent: {outcome:?}");
}

/// Seeds as `simulate` plays them; for changes of the rules, more of them: `GOSSIP_SEEDS=100..200`.
#[test]
fn soak() {
    let range = std::env::var("GOSSIP_SEEDS").unwrap_or_else(|_| "0..2".to_owned());
    let (start, end) = range.split_once("..").expect("GOSSIP_SEEDS=START..END");
    for seed in start.parse::<u64>().expect("a number")..end.parse().expect("a number") {
        play(&Scenario::drawn(seed, 12));
    }
}
