//! R13 to R16 in fleets of 1 to 20: every rounding is at its edge there, and nothing waits for ever.

use proto::report::Fitness;
use proto::statement::{CohortHost, Share};

use super::*;
use crate::plan::{Candidate, Stage, Strategy, plan};
use crate::testing::{host_id, release, signing_key};

/// Hosts in three zones, planned by a strategy.
fn planned(hosts: usize, strategy: &Strategy, max_unavailable: Share) -> Rollout {
    let candidate = |rank: usize| {
        let label = |text: &str| text.parse().unwrap();
        let labels = [("zone".to_owned(), format!("z{}", rank % 3))];
        let host = proto::statement::Host {
            fleet: "test".parse().unwrap(),
            id: host_id(rank),
            key: proto::PublicKey::of(&signing_key(rank)),
            name: "host".parse().unwrap(),
            labels: labels.iter().map(|(key, value)| (label(key), label(value))).collect(),
            issued: UnixTime(0),
            critical: Vec::new(),
        };
        Candidate { host, fitness: Fitness::Fit }
    };
    let candidates: Vec<_> = (0..hosts).map(candidate).collect();
    let planned =
        plan(&candidates, strategy, Direction::Forward, max_unavailable, &release("b")).unwrap();
    let (cohort, waves) = (planned.cohort, planned.waves);
    Rollout { cohort, max_unavailable: planned.max_unavailable, ..rollout(&waves) }
}

/// Runs a good rollout to its end, a second a turn: each second every host that may start does, each
/// is down for a second and bakes for one. How long it took, the most hosts under way at once, and
/// the most of a zone that were down at once.
fn run(rollout: &Rollout) -> (usize, usize, usize) {
    let hosts = rollout.cohort.len();
    let mut states = vec![State::Staged; hosts];
    let (mut under_way_max, mut down_max) = (0, 0);
    let (direction, never) = (rollout.direction, UnixTime(u64::MAX));
    let expiry = Expiry { direction, rollout: never, root: never };
    for second in 0..10 * hosts + 10 {
        let seen =
            |rank: usize| Sight { standing: Some((states[rank], None)), heard: Heard::Fresh };
        let facts = Facts {
            rollout,
            seen: &seen,
            excused: &|_| false,
            counted: None,
            held_ms: u64::MAX,
            order: None,
            halted: false,
            complete: false,
            conflict: false,
            unix: UnixTime(0),
            expiry,
            frozen_until: None,
            pooled: &|_| Conclusion::Doubt(None),
        };
        if states.iter().all(|state| *state == State::Committed) {
            return (second, under_way_max, down_max);
        }
        let starts = |rank: usize| {
            let own = Own {
                rank: Some(rank),
                removed: false,
                twin: None,
                boxed: false,
                confirmed: true,
                clock_ahead_s: None,
                pressed: false,
            };
            matches!(decide_for(&facts, &own), Gate::Open(_))
        };
        let next = |rank: usize| match states[rank] {
            State::Staged if starts(rank) => State::Activating,
            State::Activating => State::Baking,
            State::Baking => State::Committed,
            state => state,
        };
        let after: Vec<_> = (0..hosts).map(next).collect();
        let started = |state: &&State| matches!(state, State::Activating | State::Baking);
        under_way_max = under_way_max.max(after.iter().filter(started).count());
        let down = |zone: &CohortHost| {
            let own = rollout.cohort.iter().zip(&after).filter(|(host, _)| host.zone == zone.zone);
            own.filter(|(_, state)| **state == State::Activating).count()
        };
        down_max = rollout.cohort.iter().map(down).fold(down_max, usize::max);
        states = after;
    }
    panic!("{hosts} hosts wait for ever: {states:?}");
}

#[test]
fn r13_canaries_of_one_to_twenty_hosts_come_to_an_end() {
    let stages = [1.0, 5.0, 25.0, 100.0].map(|weight| Stage::new(weight, 1)).to_vec();
    for max_unavailable in [Share::Percent(25.0), Share::Count(1), Share::Percent(100.0)] {
        for hosts in 1..=20 {
            let rollout = planned(hosts, &Strategy::Canary(stages.clone()), max_unavailable);
            let (_, _, down_max) = run(&rollout);
            assert!(down_max <= rollout.max_unavailable as usize, "{hosts} hosts");
        }
    }
}

#[test]
fn r15_rolling_batches_of_one_to_twenty_hosts_come_to_an_end() {
    let all = Strategy::AllAtOnce { failed_max: None, unreachable_max: None };
    for batch in [Share::Count(1), Share::Count(2), Share::Percent(10.0)] {
        for hosts in 1..=20 {
            let count = u32::try_from(hosts).unwrap();
            let in_flight_max = batch.of(count).max(1);
            let mut rollout = planned(hosts, &all, Share::Percent(100.0));
            rollout.in_flight_max = Some(in_flight_max);
            let (seconds, under_way_max, _) = run(&rollout);
            let batches = hosts.div_ceil(in_flight_max as usize);
            // A batch is as full as it may be, and each takes three seconds at most.
            assert_eq!(under_way_max, (in_flight_max as usize).min(hosts), "{hosts} by {batch}");
            assert!(seconds <= 3 * batches, "{hosts} by {batch}: {seconds} s, {batches} batches");
        }
    }
}

#[test]
fn r13_all_at_once_is_at_once_but_for_the_zones() {
    let all = Strategy::AllAtOnce { failed_max: None, unreachable_max: None };
    for hosts in 1..=20 {
        let whole = planned(hosts, &all, Share::Percent(100.0));
        assert_eq!(run(&whole), (3, hosts, hosts.div_ceil(3)), "{hosts} hosts");
        let one = planned(hosts, &all, Share::Count(1));
        assert_eq!(run(&one).2, 1, "{hosts} hosts, one of a zone at a time");
    }
}
