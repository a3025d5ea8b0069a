//! The rollout core in a simulated fleet: safety, liveness, one seed one history. The promises are
//! checked after every event, in `fleet_tests::sim`; a broken one panics with its seed.

use std::collections::BTreeMap;
use std::time::Instant;

use fleet_tests::sim::{Between, Cut, Deed, Ending, Load, Outcome, Quality, Scenario, run};
use proto::statement::{OnFailure, Share};
use rollout::plan::Stage;

/// Runs scenarios and tells how they ended and how fast that was.
fn run_all(name: &str, scenarios: impl Iterator<Item = Scenario>) -> Vec<Outcome> {
    let start = Instant::now();
    let outcomes: Vec<_> = scenarios.map(|scenario| run(&scenario)).collect();
    let mut endings: BTreeMap<Ending, usize> = BTreeMap::new();
    for outcome in &outcomes {
        *endings.entry(outcome.ending).or_default() += 1;
    }
    let events: u64 = outcomes.iter().map(|outcome| outcome.events).sum();
    let inputs: u64 = outcomes.iter().map(|outcome| outcome.inputs).sum();
    let took_s = start.elapsed().as_secs_f64();
    let rate = inputs as f64 / took_s;
    println!(
        "{name}: {} runs, {events} events, {inputs} inputs in {took_s:.1} s ({rate:.0} inputs/s), \
         {endings:?}",
        outcomes.len()
    );
    outcomes
}

/// Liveness: a good release reaches everyone in a fleet without faults, whatever its size.
#[test]
fn a_good_release_reaches_everyone() {
    let sizes = [1, 2, 3, 4, 5, 6, 10, 20, 50];
    for (outcome, hosts) in
        run_all("calm", sizes.iter().map(|hosts| Scenario::calm(1, *hosts))).iter().zip(sizes)
    {
        assert_eq!((outcome.ending, outcome.ever_ran), (Ending::Complete, hosts), "{hosts} hosts");
    }
}

/// Safety: a release that is bad on every host, within the bake, hurts the canaries and nobody else.
#[test]
fn r14_a_bad_release_stops_at_the_canaries() {
    let qualities = [Quality::BadAtOnce, Quality::BadInBake];
    let scenarios = (0..10).flat_map(|seed| qualities.map(|quality| (seed, quality)));
    let scenarios = scenarios.map(|(seed, quality)| {
        let faults = Scenario::drawn(seed, 50);
        // Nobody overrides the gates, and nothing replaces the rollout.
        let (deeds, liars, expires_s) = (Vec::new(), Vec::new(), None);
        let on_failure = OnFailure::Rollback;
        Scenario { quality, deeds, liars, expires_s, on_failure, ..faults }
    });
    for outcome in run_all("bad", scenarios) {
        assert_eq!(outcome.ending, Ending::Halted);
        assert!(outcome.ever_ran <= outcome.canaries, "{outcome:?}");
    }
}

/// Safety and liveness under everything that can go wrong, in fleets of 50.
#[test]
fn promises_hold_in_fleets_that_suffer() {
    let outcomes = run_all("drawn", (0..40).map(|seed| Scenario::drawn(seed, 50)));
    let ended = |ending| outcomes.iter().filter(|outcome| outcome.ending == ending).count();
    // The scenarios are of use only if they end in different ways.
    assert!(ended(Ending::Complete) > 5 && ended(Ending::Halted) > 5, "{outcomes:?}");
}

/// The same in small fleets, where every rounding rule is at its edge.
#[test]
fn promises_hold_in_small_fleets() {
    run_all("small", (0..60).map(|seed| Scenario::drawn(1_000 + seed, 1 + seed as usize % 12)));
}

/// A release that fails on one host in twenty is over the budget of the later waves: a thousand
/// hosts go back.
#[test]
fn a_thousand_hosts_go_back_on_a_halt() {
    let quality = Quality::BadOn(50);
    let bad = Scenario { quality, lost: 100, doubled: 50, ..Scenario::calm(1, 1_000) };
    let outcomes = run_all("thousand, halted", [bad].into_iter());
    assert_eq!(outcomes[0].ending, Ending::Halted);
}

#[test]
fn a_thousand_hosts_go_back_on_an_abort() {
    let aborted = Scenario { deeds: vec![(40, Deed::Abort)], ..Scenario::calm(1, 1_000) };
    let outcomes = run_all("thousand, aborted", [aborted].into_iter());
    assert_eq!(outcomes[0].ending, Ending::Aborted);
}

/// A good release reaches a thousand hosts that lose messages, are cut off and crash, with budgets
/// that bear it.
#[test]
fn a_good_release_reaches_a_thousand_hosts_that_suffer() {
    let mut scenario = Scenario {
        outside: 20,
        lost: 150,
        doubled: 50,
        cuts: vec![Cut { from_s: 25, until_s: 50, between: Between::OneWay }],
        crashes: 20,
        host_faults: 5,
        heals_s: 90,
        ..Scenario::calm(3, 1_000)
    };
    for stage in &mut scenario.stages {
        stage.failed_max = Some(Share::Percent(20.0));
    }
    let outcomes = run_all("thousand, suffering", [scenario].into_iter());
    assert_eq!(outcomes[0].ending, Ending::Complete);
    assert!(outcomes[0].ever_ran >= 1_000, "{outcomes:?}");
}

/// Skips, freezes, holds, removals and retries, in rolling rollouts and in windows.
#[test]
fn r6_promises_hold_whatever_people_say() {
    let hosts = |seed: u64| [3, 9, 20, 50][(seed % 4) as usize];
    let outcomes = run_all("ordered", (0..40).map(|seed| Scenario::ordered(seed, hosts(seed))));
    let ended = |ending| outcomes.iter().filter(|outcome| outcome.ending == ending).count();
    assert!(ended(Ending::Complete) > 5 && ended(Ending::Halted) > 5, "{outcomes:?}");
}

/// A stopped release that is brought again by somebody who does not know starts nowhere; a retry does.
#[test]
fn r17_a_stopped_release_starts_nowhere_without_a_retry() {
    let quality = Quality::BadAtOnce;
    let brought_again = |deed| {
        let deeds = vec![(100, deed), (400, Deed::GiveUp)];
        Scenario { quality, deeds, ..Scenario::calm(8, 20) }
    };
    let outcomes = run_all("boxed", [Deed::Unaware, Deed::Retry].map(brought_again).into_iter());
    assert_eq!(outcomes[0].ending, Ending::Aborted, "it is held until somebody gives up");
    assert_eq!(outcomes[1].ending, Ending::Halted, "it fails once more");
}

/// A rolling rollout reaches everyone, one or a tenth at a time; a bad release stops at its first
/// batch.
#[test]
fn r15_rolling_rollouts_go_on_and_stop() {
    for (batch, hosts) in [(Share::Count(1), 5), (Share::Count(3), 20), (Share::Percent(10.0), 50)]
    {
        let good = Scenario { rolling: Some(batch), ..Scenario::calm(4, hosts) };
        let bad = Scenario { quality: Quality::BadInBake, ..good.clone() };
        let outcomes = run_all("rolling", [good, bad].into_iter());
        assert_eq!((outcomes[0].ending, outcomes[0].ever_ran), (Ending::Complete, hosts));
        assert_eq!(outcomes[1].ending, Ending::Halted);
        let at_once = batch.of(u32::try_from(hosts).unwrap()) as usize;
        assert!(outcomes[1].ever_ran <= at_once, "{batch}: {:?}", outcomes[1]);
    }
}

/// A host that is held holds a calm rollout up, for as long as people let it; once it is removed the
/// others have it.
#[test]
fn r9_a_removal_lets_the_others_go_on() {
    let calm = Scenario { max_unavailable: Share::Count(1), ..Scenario::calm(6, 9) };
    // By its own clock, which may be an hour off.
    let hold = (1, Deed::Hold(5, 6_000));
    let held = Scenario { deeds: vec![hold], ..calm.clone() };
    let removed = Scenario { deeds: vec![hold, (9, Deed::Remove(5))], ..calm };
    let outcomes = run_all("held, removed", [held, removed].into_iter());
    assert!(outcomes.iter().all(|outcome| outcome.ending == Ending::Complete));
    assert_eq!((outcomes[0].ever_ran, outcomes[1].ever_ran), (9, 8));
    assert!(outcomes[0].rested_ms > 1_800_000, "{outcomes:?}");
    assert!(outcomes[1].rested_ms < 1_000_000, "{outcomes:?}");
}

/// A clone of a host keeps that from starting for as long as it is heard, and not a moment longer.
#[test]
fn r9_a_twin_holds_its_host_until_it_is_gone() {
    let twin = Scenario { deeds: vec![(1, Deed::Twin(5, 3_600))], ..Scenario::calm(6, 9) };
    let outcome = &run_all("twin", [twin].into_iter())[0];
    assert_eq!((outcome.ending, outcome.ever_ran), (Ending::Complete, 9));
    assert!((3_600_000..4_600_000).contains(&outcome.rested_ms), "{outcome:?}");
}

// --- requests (R24) ---

/// A fleet without faults whose requests are counted; given up on after a while.
fn counted(seed: u64, hosts: usize, load: Load) -> Scenario {
    let deeds = vec![(900, Deed::GiveUp)];
    Scenario { load: Some(load), deeds, heals_s: 890, ..Scenario::calm(seed, hosts) }
}

/// A good release reaches everyone, whether the service is busy, sleeps, or was never there before.
#[test]
fn r24_a_good_release_reaches_everyone_by_its_requests() {
    let scenarios = [1, 3, 20].into_iter().flat_map(|hosts| {
        [50, 1, 0].into_iter().flat_map(move |rate| {
            [false, true].map(|first| {
                let load = Load { rate, ..Load::WELL };
                Scenario { first, ..counted(1, hosts, load) }
            })
        })
    });
    for outcome in run_all("counted", scenarios) {
        assert_eq!(outcome.ending, Ending::Complete, "{outcome:?}");
    }
}

/// 5 % more errors, at once: the canaries go back by themselves or hold all others.
#[test]
fn r24_a_release_that_is_worse_stops_at_the_canaries() {
    let load = Load { worse: 50, ..Load::WELL };
    for outcome in run_all("worse", (0..6).map(|seed| counted(seed, 50, load))) {
        assert!(matches!(outcome.ending, Ending::Halted | Ending::Aborted), "{outcome:?}");
        assert!(outcome.ever_ran <= outcome.canaries, "{outcome:?}");
    }
}

/// Worse by so little that no host is sure of it alone; all canaries together are, and nobody else
/// starts, though an operator promotes.
#[test]
fn r24_the_pool_holds_what_no_host_can_tell_alone() {
    let load = Load { rate: 10, worse: 25, ..Load::WELL };
    let stages = vec![
        Stage { failed_max: Some(Share::Percent(50.0)), ..Stage::new(20.0, 40) },
        Stage::new(100.0, 5),
    ];
    let scenario = |seed| {
        let deeds = vec![(120, Deed::Promote(1)), (400, Deed::GiveUp)];
        Scenario { stages: stages.clone(), deeds, heals_s: 390, ..counted(seed, 100, load) }
    };
    for outcome in run_all("pooled", (0..3).map(scenario)) {
        assert_eq!(outcome.ending, Ending::Aborted, "{outcome:?}");
        assert_eq!(outcome.ever_ran, outcome.canaries, "{outcome:?}");
    }
}

/// Bad only once a third of the fleet runs it: the hosts that do go back, the others never start it.
#[test]
fn r24_a_release_that_is_worse_under_load_stops_where_it_is() {
    let load = Load { worse: 60, above: 100, ..Load::WELL };
    for outcome in run_all("under load", (0..6).map(|seed| counted(seed, 50, load))) {
        assert!(matches!(outcome.ending, Ending::Halted | Ending::Aborted), "{outcome:?}");
        assert!(outcome.ever_ran <= 13, "a quarter: {outcome:?}");
    }
}

/// An outage that old and new share halts nothing and is blamed on nobody, whenever it comes: while
/// hosts are warming up, in a bake, before a gate.
#[test]
fn r24_a_shared_outage_is_blamed_on_nobody() {
    // All of them end before the last wave, behind which nobody is left to compare with.
    let stages = vec![Stage::new(10.0, 60), Stage::new(30.0, 60), Stage::new(100.0, 5)];
    let scenarios = (0..24).map(|step| {
        let outage = Some((3 + 4 * step, 33 + 4 * step, [100, 400, 1_000][step as usize % 3]));
        let scenario = counted(step, 30, Load { outage, ..Load::WELL });
        Scenario { stages: stages.clone(), heals_s: 200, ..scenario }
    });
    for outcome in run_all("outage", scenarios) {
        assert_eq!((outcome.ending, outcome.ever_ran), (Ending::Complete, 30), "{outcome:?}");
    }
}

/// Everything at once.
#[test]
fn r24_promises_hold_where_requests_are_counted() {
    let hosts = |seed: u64| [3, 9, 20, 50][(seed % 4) as usize];
    let outcomes = run_all("counted", (0..40).map(|seed| Scenario::counted(seed, hosts(seed))));
    let ended = |ending| outcomes.iter().filter(|outcome| outcome.ending == ending).count();
    assert!(ended(Ending::Complete) > 5 && ended(Ending::Halted) > 5, "{outcomes:?}");
}

/// Determinism: the property every other test here leans on.
#[test]
fn one_seed_has_one_history() {
    let once = run(&Scenario::drawn(7, 50));
    assert_eq!(once, run(&Scenario::drawn(7, 50)));
    assert_ne!(once.history, run(&Scenario::drawn(8, 50)).history);
}

/// Seeds that once broke a promise, by what they found.
#[test]
fn seeds_that_found_something() {
    let found = [
        // A release that could not go back was taken for running, and started past the gate.
        Scenario::drawn(95_640_483_172_011, 9),
        Scenario::drawn(95_640_483_172_571, 80),
        Scenario::drawn(95_639_889_883_159, 15),
        // Two newer rollouts made a host forget which one its step belonged to.
        Scenario::hasty(95_639_889_884_059, 30),
        // While an agent waited for its disk its bake ended, before bad news was heard.
        Scenario::drawn(95_640_483_172_349, 30),
        // A service that was down since a failed way back was taken for running, or left alone by a
        // newer rollout; and failures of that way back were counted as those of the newer one's.
        Scenario::hasty(100, 3),
        Scenario::hasty(136, 12),
        Scenario::hasty(917, 3),
        Scenario::hasty(2_708, 12),
        // With two hosts of the control an outage was blamed on who heard late that it was shared.
        Scenario::counted(95_659_459_530_103, 5),
        // Once half of the control had left, what it had shared was blamed on the new release.
        Scenario::counted(95_690_197_793_287, 20),
        // An outage that had just begun showed in too few errors of the control to be seen as shared.
        Scenario::counted(95_712_634_701_358, 9),
        // A host that had been skipped went back beside the only other one that served in its zone.
        Scenario::ordered(95_663_099_301_141, 9),
        // Not the rules, but what simulated them: a host that was removed was heard for ever, and an
        // activation that the guard had taken back began again when it was asked for a second time.
        Scenario::drawn(95_664_294_772_874, 10),
        Scenario::counted(95_664_294_773_908, 50),
    ];
    run_all("found", found.into_iter());
}

/// Operators in a hurry: what is under way when the next rollout comes.
#[test]
fn promises_hold_under_hasty_operators() {
    run_all("hasty", (0..60).map(|seed| Scenario::hasty(seed, 1 + seed as usize % 20)));
}

/// Fleets of several sizes; for changes of the rules, minutes of them: `SIM_SEEDS=500..900`.
#[test]
fn soak() {
    let range = std::env::var("SIM_SEEDS").unwrap_or_else(|_| "0..20".to_owned());
    let (start, end) = range.split_once("..").expect("SIM_SEEDS=START..END");
    let seeds = start.parse::<u64>().expect("a number")..end.parse().expect("a number");
    let hosts = |seed: u64| [3, 7, 20, 50, 120][(seed % 5) as usize];
    run_all("soak", seeds.map(|seed| Scenario::drawn(seed, hosts(seed))));
}
