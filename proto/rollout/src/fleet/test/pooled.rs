//! R24: people are told the pooled verdict that a gate holds by, with its numbers.

use proto::record::tally_key;
use proto::report::{CountedReport, Finding, LatencyReport};

use super::*;
use crate::verdict::{DOUBT_MS_MAX, Tally};

/// A second rollout with counted requests, whose canary has committed and is heard again and again.
fn counted() -> (World, [Target; 2], Digest) {
    let mut world = World::new(0);
    let one = world.release("1");
    let first = world.deploy(None, &one);
    world.complete(first);
    let (errors_ppm, requests_min) = (vec![10_000; 2], 100);
    world.limits = Some(Limits { errors_ppm, requests_min, warmup_s: 0, p99_ratio_percent: None });
    let two = world.release("2");
    let second = world.deploy(Some(&one), &two);
    world.observe();
    world.receipt(1, 0, second, State::Baking);
    world.observe();
    world.receipt(1, 0, second, State::Committed);
    world.now_ms += 30_000;
    world.observe();
    (world, [one, two], second)
}

impl World {
    fn tells(&mut self, host: u8, release: &Target, errors: u64, requests: u64) {
        let tally = Tally { requests, errors, ..Tally::default() };
        self.says(host, tally_key(0), to_text(&tally.to_record(release.release)));
    }

    fn look_after(&mut self, ms: u64) {
        self.now_ms += ms;
        self.observe();
    }
}

#[test]
fn r24_people_are_told_the_value_the_gate_holds_by() {
    let (mut world, [one, two], second) = counted();
    let report = |world: &World| world.look(|outlook| outlook.rollout_report(&second)).unwrap();
    world.tells(1, &two, 36, 1_200);
    world.tells(2, &one, 10, 5_000);
    world.tells(3, &one, 10, 5_000);
    world.look_after(2_000);
    let text =
        "worse: errors 3.00 % of 1200, old release 0.20 % of 10000, at most 1 % above it (z 3.7)";
    let held = report(&world);
    assert!(held.why.contains(text) && held.why.contains("`swell abort`"), "{}", held.why);
    let pooled = held.waves[0].pooled.clone().unwrap();
    assert_eq!((pooled.finding, pooled.text.as_str()), (Finding::Worse, text));
    let compared = pooled.compared.unwrap();
    assert_eq!(compared.new, CountedReport { bad: 36, requests: 1_200 });
    assert_eq!(compared.control, Some(CountedReport { bad: 20, requests: 10_000 }));
    assert_eq!(held.hosts[0].counted, Some(CountedReport { bad: 36, requests: 1_200 }));
    assert_eq!(held.hosts[1].counted, Some(CountedReport { bad: 10, requests: 5_000 }));
    assert_eq!(held.waves[1].pooled, None, "no gate comes after the last wave");
    // It stays so for five minutes of comparisons that pass.
    world.tells(1, &two, 1, 1_200);
    world.look_after(1_000);
    assert_eq!(report(&world).waves[0].pooled.as_ref().unwrap().finding, Finding::Worse);
    world.look_after(DOUBT_MS_MAX);
    let open = report(&world);
    assert_eq!(open.waves[0].pooled.as_ref().unwrap().finding, Finding::Good);
}

/// Where nobody counts, the gate opens by checks alone, and says so.
#[test]
fn r24_people_are_told_that_there_is_nothing_to_compare() {
    let (world, _, second) = counted();
    let report = world.look(|outlook| outlook.rollout_report(&second)).unwrap();
    let pooled = report.waves[0].pooled.clone().unwrap();
    assert_eq!((pooled.finding, pooled.compared), (Finding::Good, None));
    assert!(pooled.text.starts_with("too quiet to compare"), "{}", pooled.text);
    assert!(report.hosts.iter().all(|host| host.counted.is_none()));
}

/// Drawn beside each other, whether a verdict comes of it or not.
#[test]
fn r24_people_are_told_how_long_answers_take_on_either_release() {
    let (mut world, [one, two], second) = counted();
    let report = |world: &World| world.look(|outlook| outlook.rollout_report(&second)).unwrap();
    assert_eq!(report(&world).latency, None, "nobody has said anything");
    let mut takes = |host: u8, release: &Target, latency: [u64; 3]| {
        let requests = latency.iter().sum();
        let (latency, bounds_ms) = (latency.to_vec(), vec![100, 250]);
        let tally = Tally { requests, latency, bounds_ms, ..Tally::default() };
        world.says(host, tally_key(0), to_text(&tally.to_record(release.release)));
    };
    takes(1, &two, [90, 10, 0]);
    takes(2, &one, [100, 0, 0]);
    takes(3, &one, [99, 1, 0]);
    let said = |new_p99_ms, control_p99_ms| Some(LatencyReport { new_p99_ms, control_p99_ms });
    world.look_after(1_000);
    assert_eq!(report(&world).latency, said(Some(250), Some(100)));
    // Beyond the last bound nothing can be told apart.
    let beyond = Tally {
        requests: 100,
        latency: vec![90, 0, 10],
        bounds_ms: vec![100, 250],
        ..Tally::default()
    };
    world.says(1, tally_key(0), to_text(&beyond.to_record(two.release)));
    world.look_after(1_000);
    assert_eq!(report(&world).latency, said(None, Some(100)));
}
