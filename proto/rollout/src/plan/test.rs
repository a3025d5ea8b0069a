//! R13, R14: tables for small fleets, and properties for the others.

use proptest::prelude::*;
use proto::PublicKey;
use proto::UnixTime;
use proto::statement::{OnFailure, Payload as _, Policy, Rollout, Target};

use super::Strategy;
use super::*;
use crate::testing::wave;

fn key(number: usize) -> PublicKey {
    let bytes = |salt: u32| *Digest::of(format!("{number} {salt}").as_bytes()).as_bytes();
    (0..).find_map(|salt| PublicKey::from_bytes(&bytes(salt))).unwrap()
}

fn host(number: usize, zone: &str) -> Host {
    let key = key(number);
    let labels = [("env", "production"), ("zone", zone)];
    Host {
        fleet: "test".parse().unwrap(),
        id: HostId::of(&key),
        key,
        name: format!("h{number}").parse().unwrap(),
        labels: labels.map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).into(),
        issued: UnixTime(0),
        critical: Vec::new(),
    }
}

/// Hosts in as many zones, taking turns.
fn fleet(hosts: usize, zones: usize) -> Vec<Candidate> {
    let candidate = |number| Candidate {
        host: host(number, &format!("z{}", number % zones)),
        fitness: Fitness::Fit,
    };
    (0..hosts).map(candidate).collect()
}

fn release(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn canary(stages: &[(f64, u32)]) -> Strategy {
    Strategy::Canary(stages.iter().map(|(weight, wait_s)| Stage::new(*weight, *wait_s)).collect())
}

fn planned(hosts: &[Candidate], strategy: &Strategy) -> Plan {
    let quarter = Share::Percent(25.0);
    plan(hosts, strategy, Direction::Forward, quarter, &release("v2")).unwrap()
}

fn bakes_s(plan: &Plan) -> u64 {
    plan.waves.iter().map(|wave| u64::from(wave.wait_s)).sum()
}

/// 1, 5, 25 and 100 % of 1 to 20 hosts: hosts, wait, failed_max, unreachable_max of each wave, and
/// the hosts of a zone that may be stopped at once (25 %).
#[test]
fn r13_waves_of_one_to_twenty_hosts() {
    let strategy = canary(&[(1.0, 10), (5.0, 20), (25.0, 30), (100.0, 5)]);
    let lines: Vec<_> = (1..=20)
        .map(|hosts| {
            let plan = planned(&fleet(hosts, 2), &strategy);
            let waves: Vec<_> = plan
                .waves
                .iter()
                .map(|w| {
                    format!("{}/{}s/{}/{}", w.hosts, w.wait_s, w.failed_max, w.unreachable_max)
                })
                .collect();
            format!("{hosts}: {} k={}", waves.join(" "), plan.max_unavailable)
        })
        .collect();
    let golden = [
        "1: 1/65s/0/0 k=1",
        "2: 1/60s/0/0 2/5s/1/1 k=1",
        "3: 1/60s/0/0 3/5s/1/1 k=1",
        "4: 1/60s/0/0 4/5s/1/1 k=1",
        "5: 1/30s/0/0 2/30s/1/1 5/5s/1/1 k=1",
        "6: 1/30s/0/0 2/30s/1/1 6/5s/1/1 k=1",
        "7: 1/30s/0/0 2/30s/1/1 7/5s/1/1 k=1",
        "8: 1/30s/0/0 2/30s/1/1 8/5s/1/1 k=2",
        "9: 1/30s/0/0 3/30s/1/1 9/5s/1/1 k=2",
        "10: 1/30s/0/0 3/30s/1/1 10/5s/1/1 k=2",
        "11: 1/30s/0/0 3/30s/1/1 11/5s/1/1 k=2",
        "12: 1/30s/0/0 3/30s/1/1 12/5s/1/1 k=3",
        "13: 1/30s/0/0 4/30s/1/1 13/5s/1/1 k=3",
        "14: 1/30s/0/0 4/30s/1/1 14/5s/1/1 k=3",
        "15: 1/30s/0/0 4/30s/1/1 15/5s/1/1 k=3",
        "16: 1/30s/0/0 4/30s/1/1 16/5s/1/1 k=4",
        "17: 1/30s/0/0 5/30s/1/1 17/5s/1/1 k=4",
        "18: 1/30s/0/0 5/30s/1/1 18/5s/1/1 k=4",
        "19: 1/30s/0/0 5/30s/1/1 19/5s/1/1 k=4",
        "20: 1/30s/0/0 5/30s/1/1 20/5s/1/1 k=5",
    ];
    assert_eq!(lines, golden);
}

/// The canary of the README over 1 to 20 hosts: the table in the README's section on waves is this
/// one, and so is what `swell plan` shows.
#[test]
fn r13_the_canary_of_the_readme_over_one_to_twenty_hosts() {
    let strategy = canary(&[(1.0, 300), (25.0, 600), (100.0, 0)]);
    let lines: Vec<_> = (1..=20)
        .map(|hosts| {
            let plan = planned(&fleet(hosts, 1), &strategy);
            let wave = |w: &Wave| {
                format!("{} ({} s, {}/{})", w.hosts, w.wait_s, w.failed_max, w.unreachable_max)
            };
            let waves: Vec<_> = plan.waves.iter().map(wave).collect();
            format!("{hosts}: {}; {} down", waves.join(", "), plan.max_unavailable)
        })
        .collect();
    let golden = [
        "1: 1 (900 s, 0/0); 1 down",
        "2: 1 (900 s, 0/0), 2 (0 s, 1/1); 1 down",
        "3: 1 (900 s, 0/0), 3 (0 s, 1/1); 1 down",
        "4: 1 (900 s, 0/0), 4 (0 s, 1/1); 1 down",
        "5: 1 (300 s, 0/0), 2 (600 s, 1/1), 5 (0 s, 1/1); 1 down",
        "6: 1 (300 s, 0/0), 2 (600 s, 1/1), 6 (0 s, 1/1); 1 down",
        "7: 1 (300 s, 0/0), 2 (600 s, 1/1), 7 (0 s, 1/1); 1 down",
        "8: 1 (300 s, 0/0), 2 (600 s, 1/1), 8 (0 s, 1/1); 2 down",
        "9: 1 (300 s, 0/0), 3 (600 s, 1/1), 9 (0 s, 1/1); 2 down",
        "10: 1 (300 s, 0/0), 3 (600 s, 1/1), 10 (0 s, 1/1); 2 down",
        "11: 1 (300 s, 0/0), 3 (600 s, 1/1), 11 (0 s, 1/1); 2 down",
        "12: 1 (300 s, 0/0), 3 (600 s, 1/1), 12 (0 s, 1/1); 3 down",
        "13: 1 (300 s, 0/0), 4 (600 s, 1/1), 13 (0 s, 1/1); 3 down",
        "14: 1 (300 s, 0/0), 4 (600 s, 1/1), 14 (0 s, 1/1); 3 down",
        "15: 1 (300 s, 0/0), 4 (600 s, 1/1), 15 (0 s, 1/1); 3 down",
        "16: 1 (300 s, 0/0), 4 (600 s, 1/1), 16 (0 s, 1/1); 4 down",
        "17: 1 (300 s, 0/0), 5 (600 s, 1/1), 17 (0 s, 1/1); 4 down",
        "18: 1 (300 s, 0/0), 5 (600 s, 1/1), 18 (0 s, 1/1); 4 down",
        "19: 1 (300 s, 0/0), 5 (600 s, 1/1), 19 (0 s, 1/1); 4 down",
        "20: 1 (300 s, 0/0), 5 (600 s, 1/1), 20 (0 s, 1/1); 5 down",
    ];
    assert_eq!(lines, golden);
}

/// One wave, so many hosts at a time: at least one, whatever the percentage of a small fleet.
#[test]
fn r13_batches_of_one_to_twenty_hosts() {
    let rolling = |batch: &str| Strategy::Rolling {
        batch: batch.parse().unwrap(),
        wait_s: 30,
        failed_max: None,
        unreachable_max: Some(Share::Count(0)),
    };
    let batches = |batch: &str| -> Vec<_> {
        (1..=20).map(|hosts| planned(&fleet(hosts, 2), &rolling(batch)).in_flight_max).collect()
    };
    let expected = |of: fn(u32) -> u32| (1..=20).map(|hosts| Some(of(hosts))).collect::<Vec<_>>();
    assert_eq!(batches("10%"), expected(|hosts| (hosts / 10).max(1)));
    assert_eq!(batches("3"), expected(|_| 3));
    let plan = planned(&fleet(20, 2), &rolling("10%"));
    assert_eq!(plan.waves, [Wave { hosts: 20, wait_s: 30, failed_max: 0, unreachable_max: 0 }]);
    assert_eq!(planned(&fleet(20, 2), &canary(&[(100.0, 0)])).in_flight_max, None);
}

/// A written budget for silent hosts must leave a place for others (R15).
#[test]
fn r15_silent_hosts_may_not_keep_every_place() {
    let stage = |weight, unreachable_max: Option<u32>| Stage {
        unreachable_max: unreachable_max.map(Share::Count),
        ..Stage::new(weight, 0)
    };
    let two = |first, last| Strategy::Canary(vec![stage(50.0, first), stage(100.0, last)]);
    let quarter = |first, last| Strategy::Canary(vec![stage(25.0, first), stage(100.0, last)]);
    let all =
        |max| Strategy::AllAtOnce { failed_max: None, unreachable_max: Some(Share::Count(max)) };
    let rolling = |batch, max| Strategy::Rolling {
        batch: Share::Count(batch),
        wait_s: 0,
        failed_max: None,
        unreachable_max: Some(Share::Count(max)),
    };
    let slots = |stage, unreachable_max, written: bool| Obstacle {
        stage,
        written: written.then_some(Share::Count(unreachable_max)),
        unreachable_max,
        places: Places::MaxUnavailable(2),
    };
    let batch = |batch, unreachable_max| Obstacle {
        stage: 0,
        written: Some(Share::Count(unreachable_max)),
        unreachable_max,
        places: Places::Batch(batch),
    };
    // 12 hosts, of each zone 2 may be down.
    let cases = [
        ("one place is left", 1, two(Some(1), Some(1)), vec![]),
        ("none is left", 1, two(Some(1), Some(2)), vec![slots(1, 2, true)]),
        ("nor from the start", 1, two(Some(2), Some(1)), vec![slots(0, 2, true)]),
        ("nobody is behind them", 6, two(Some(4), Some(4)), vec![]),
        ("too few of a zone are in it", 4, quarter(Some(9), Some(1)), vec![]),
        ("by default", 1, all(2), vec![slots(0, 2, true)]),
        ("a batch with a place left", 1, rolling(2, 1), vec![]),
        ("a batch of silent hosts", 1, rolling(1, 1), vec![batch(1, 1)]),
        ("a batch of everybody", 1, rolling(12, 1), vec![]),
        ("slots are fewer than the batch", 1, rolling(4, 2), vec![slots(0, 2, true)]),
    ];
    for (name, zones, strategy, expected) in cases {
        let two = Share::Count(2);
        let hosts = fleet(12, zones);
        let plan = plan(&hosts, &strategy, Direction::Forward, two, &release("v2")).unwrap();
        assert_eq!(obstacles(&plan, &strategy), Ok(expected), "{name}");
    }
    // What nobody wrote is told apart; a stage that was merged has no budget of its own.
    let plan = planned(&fleet(3, 1), &canary(&[(1.0, 0), (2.0, 0), (100.0, 0)]));
    let found = obstacles(&plan, &canary(&[(1.0, 0), (2.0, 0), (100.0, 0)])).unwrap();
    let places = Places::MaxUnavailable(1);
    assert_eq!(found, [Obstacle { stage: 2, written: None, unreachable_max: 1, places }]);
}

/// The formula of [`times`], by hand: 10 s a restart.
#[test]
fn the_least_times_add_up() {
    let stages = canary(&[(10.0, 300), (50.0, 600), (100.0, 0)]);
    let rolling = |batch| Strategy::Rolling {
        batch: Share::Count(batch),
        wait_s: 60,
        failed_max: None,
        unreachable_max: None,
    };
    let at_once = Strategy::AllAtOnce { failed_max: None, unreachable_max: None };
    let (forward, back) = (Direction::Forward, Direction::Rollback);
    // 20 hosts: waves of 2, 8 and 10.
    let cases = [
        ("one at a time", 1, 1, stages.clone(), forward, (20 + 300 + 80 + 600 + 100, 200)),
        ("three at a time", 1, 3, stages.clone(), forward, (10 + 300 + 30 + 600 + 40, 70)),
        ("zones are side by side", 2, 3, stages.clone(), forward, (10 + 300 + 20 + 600 + 20, 40)),
        ("a rollback bakes nothing", 1, 20, stages, back, (30, 10)),
        ("all at once", 1, 20, at_once, forward, (10, 10)),
        ("batches hold", 1, 20, rolling(5), forward, (4 * (10 + 60), 10)),
        ("a batch that is not full", 1, 20, rolling(6), forward, (4 * (10 + 60), 10)),
        ("zones hold", 1, 1, rolling(20), forward, (200 + 60, 200)),
    ];
    for (name, zones, down, strategy, direction, expected) in cases {
        let hosts = fleet(20, zones);
        let down = Share::Count(down);
        let plan = plan(&hosts, &strategy, direction, down, &release("v2")).unwrap();
        let times = times(&rollout_of(plan, direction));
        assert_eq!((times.promote_s, times.roll_back_s), expected, "{name}");
        assert_eq!(times.restart_s, RESTART_S);
    }
}

/// Written budgets are taken, in percent of the hosts opened so far, rounded down.
#[test]
fn r14_budgets_are_of_the_hosts_opened_so_far() {
    let stage = |weight, failed_max: &str, unreachable_max: &str| Stage {
        weight,
        wait_s: 0,
        failed_max: Some(failed_max.parse().unwrap()),
        unreachable_max: Some(unreachable_max.parse().unwrap()),
        errors_ppm: None,
    };
    let stages = vec![stage(10.0, "1", "0"), stage(50.0, "10%", "33%"), stage(100.0, "0", "2%")];
    let plan = planned(&fleet(50, 3), &Strategy::Canary(stages));
    let budgets: Vec<_> = plan.waves.iter().map(|w| (w.failed_max, w.unreachable_max)).collect();
    assert_eq!(budgets, [(1, 0), (2, 8), (0, 1)]);
    let large = planned(&fleet(400, 3), &canary(&[(1.0, 0), (50.0, 0), (100.0, 0)]));
    let budgets: Vec<_> = large.waves.iter().map(|w| (w.failed_max, w.unreachable_max)).collect();
    assert_eq!(budgets, [(0, 0), (4, 10), (8, 20)]);
}

#[test]
fn bad_plans_are_refused_by_name() {
    let hosts = fleet(3, 1);
    let mut silent = hosts.clone();
    silent.iter_mut().for_each(|candidate| candidate.fitness = Fitness::Silent);
    let whole = canary(&[(100.0, 0)]);
    let cases = [
        ("nobody", &hosts[..0], whole.clone(), "no host to deploy to: the environment has none"),
        ("all silent", &silent[..], whole, "no host to deploy to: 3 left out (3 not heard of)"),
        ("no stage", &hosts, canary(&[]), "0 stages: must be 1 to 16"),
        ("too many", &hosts, canary(&[(1.0, 0); 17]), "17 stages: must be 1 to 16"),
        ("falling", &hosts, canary(&[(50.0, 0), (20.0, 0)]), "stages.1.weight = 20: must be above"),
        ("nothing", &hosts, canary(&[(0.0, 0), (100.0, 0)]), "stages.0.weight = 0: must be above"),
        ("too much", &hosts, canary(&[(101.0, 0)]), "stages.0.weight = 101: must be above 0"),
        ("no number", &hosts, canary(&[(f64::NAN, 0)]), "stages.0.weight = NaN: must be above"),
        ("not all", &hosts, canary(&[(50.0, 0)]), "the last stage has weight 50: must be 100"),
    ];
    for (name, hosts, strategy, text) in cases {
        let share = Share::Count(1);
        let error = plan(hosts, &strategy, Direction::Forward, share, &release("v2")).unwrap_err();
        assert!(error.to_string().starts_with(text), "{name}: {error}");
    }
}

/// Silent and sick hosts are left out and named, with the reason; a rollback takes in whoever could
/// not go back before, and does not wait (R12).
#[test]
fn r13_silent_and_sick_hosts_are_left_out() {
    let mut hosts = fleet(7, 2);
    let unfit = [(2, Fitness::Silent), (3, Fitness::HalfWay), (5, Fitness::RevertFailed)];
    for (number, fitness) in unfit {
        hosts[number].fitness = fitness;
    }
    let left_out = |why: &[(usize, Fitness)]| {
        let mut all: Vec<_> = why
            .iter()
            .map(|(number, why)| LeftOut { host: hosts[*number].host.id.clone(), why: *why })
            .collect();
        all.sort_by(|one, other| one.host.cmp(&other.host));
        all
    };
    let strategy = canary(&[(20.0, 60), (100.0, 60)]);
    let planned =
        |direction| plan(&hosts, &strategy, direction, Share::Count(0), &release("v1")).unwrap();
    let forward = planned(Direction::Forward);
    assert_eq!((forward.cohort.len(), &forward.left_out), (4, &left_out(&unfit)));
    let back = planned(Direction::Rollback);
    assert_eq!((back.cohort.len(), &back.left_out), (5, &left_out(&unfit[..2])));
    assert_eq!((bakes_s(&back), back.max_unavailable), (0, 1));
}

#[test]
fn stages_that_add_no_host_are_merged_and_said() {
    let plan = planned(&fleet(20, 2), &canary(&[(1.0, 10), (5.0, 20), (100.0, 5)]));
    assert_eq!(plan.waves, [wave(1, 30, 0, 0), wave(20, 5, 1, 1)]);
    let notes: Vec<_> = plan.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes, ["stage 2 adds no host: merged into wave 1, whose wait grows by 20 s"]);
    assert_eq!(bakes_s(&plan), 35);
    assert_eq!(planned(&fleet(1, 1), &canary(&[(100.0, 0)])).notes, [Note::Alone]);
}

/// Over many releases every host is a canary about as often: of 300 draws of 1 in 10 it is 30 each,
/// give or take 3 standard deviations of 5.2.
#[test]
fn r13_canaries_differ_between_releases() {
    let hosts = fleet(10, 1);
    let mut first: BTreeMap<HostId, u32> = BTreeMap::new();
    for number in 0..300 {
        let release = release(&format!("v{number}"));
        let strategy = canary(&[(10.0, 0), (100.0, 0)]);
        let share = Share::Count(1);
        let plan = plan(&hosts, &strategy, Direction::Forward, share, &release).unwrap();
        *first.entry(plan.cohort[0].id.clone()).or_default() += 1;
    }
    assert!(
        first.len() == 10 && first.values().all(|times| (14..=46).contains(times)),
        "{first:?}"
    );
}

proptest! {
    /// Whatever the hosts and stages: waves rise to the whole cohort, no wait is lost, budgets fit,
    /// each host stands once, and a host's place does not depend on the order it was listed in.
    #[test]
    fn plans_are_whole(
        hosts in 1usize..60,
        zones in 1usize..6,
        cuts in prop::collection::btree_set(1u32..1_000, 0..8),
        wait_s in 0u32..1_000,
    ) {
        let mut stages: Vec<_> =
            cuts.iter().map(|permille| (f64::from(*permille) / 10.0, wait_s)).collect();
        stages.push((100.0, wait_s));
        let mut fleet = fleet(hosts, zones);
        let plan = planned(&fleet, &canary(&stages));
        fleet.reverse();
        prop_assert_eq!(&plan, &planned(&fleet, &canary(&stages)));
        prop_assert!(plan.waves.is_sorted_by(|one, next| one.hosts < next.hosts));
        prop_assert_eq!(plan.waves.last().unwrap().hosts as usize, hosts);
        prop_assert!(plan.waves[0].hosts >= 1);
        prop_assert_eq!(bakes_s(&plan), u64::from(wait_s) * stages.len() as u64);
        let ids: std::collections::BTreeSet<_> = plan.cohort.iter().map(|host| &host.id).collect();
        prop_assert_eq!(ids.len(), hosts);
        prop_assert_eq!(plan.notes.iter().filter(|n| matches!(n, Note::Merged { .. })).count(),
            stages.len() - plan.waves.len());
        let by_wave: usize = (0..plan.waves.len()).map(|wave| plan.hosts_in(wave).len()).sum();
        prop_assert_eq!(by_wave, hosts);
    }

    /// The first hosts are of as many zones as there are.
    #[test]
    fn r13_zones_are_spread(hosts in 1usize..60, zones in 1usize..6) {
        let plan = planned(&fleet(hosts, zones), &canary(&[(100.0, 0)]));
        let first = &plan.cohort[..zones.min(hosts)];
        let distinct: std::collections::BTreeSet<_> = first.iter().map(|host| &host.zone).collect();
        prop_assert_eq!(distinct.len(), first.len());
    }
}

fn rollout_of(plan: Plan, direction: Direction) -> Rollout {
    let to = Target { release: release("v2"), version: "2".parse().unwrap() };
    let mut rollout = Rollout {
        fleet: "test".parse().unwrap(),
        service: "web".parse().unwrap(),
        env: "production".parse().unwrap(),
        epoch: 1,
        previous: None,
        from: None,
        to,
        direction,
        rules: proto::statement::RULES,
        cohort: plan.cohort,
        waves: plan.waves,
        max_unavailable: plan.max_unavailable,
        in_flight_max: plan.in_flight_max,
        windows: Vec::new(),
        limits: None,
        retry: false,
        adopt: false,
        on_failure: OnFailure::Rollback,
        approvals: Policy::default().approvals_min,
        created: UnixTime(0),
        expires: UnixTime(1),
        author: proto::KeyId::of(&key(0)),
        reason: String::new(),
        critical: Vec::new(),
    };
    rollout.critical = rollout.careful_fields();
    rollout
}

/// What is planned is what a host accepts in a statement.
#[test]
fn plans_make_valid_rollouts() {
    let plan = planned(&fleet(7, 2), &canary(&[(5.0, 10), (50.0, 10), (100.0, 0)]));
    assert_eq!(rollout_of(plan, Direction::Forward).check(), Ok(()));
}
