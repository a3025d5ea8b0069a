//! R24: verdicts by tables, by known values of the statistic, and over many drawn fleets.

use proptest::prelude::*;

use super::*;

mod looks;
mod pools;

const LIMITS: Limits =
    Limits { errors_ppm: Vec::new(), requests_min: 100, warmup_s: 0, p99_ratio_percent: None };

fn tally(errors: u64, requests: u64) -> Tally {
    Tally { requests, errors, ..Tally::default() }
}

fn fleet(errors: u64, requests: u64, hosts: usize) -> Vec<Tally> {
    vec![tally(errors, requests); hosts]
}

/// What an error threshold of so many millionths comes to.
fn errors(new: &Tally, control: &[Tally], errors_ppm: u32) -> Verdict {
    look(new, control, &LIMITS, errors_ppm)
}

fn look(new: &Tally, control: &[Tally], limits: &Limits, errors_ppm: u32) -> Verdict {
    let (new, earlier, was_shared, sure) = (std::slice::from_ref(new), None, false, HOST_Z);
    judge(&Case { new, earlier, was_shared, control, limits, errors_ppm, sure })
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass(_) => "pass",
        Verdict::Quiet { .. } => "quiet",
        Verdict::Fail(_) => "fail",
        Verdict::Starved { .. } => "starved",
        Verdict::Fresh(_) => "fresh",
        Verdict::Shared { .. } => "shared",
    }
}

#[test]
fn r24_verdicts_by_what_was_counted() {
    let calm = fleet(1, 1_000, 10);
    let rows: [(&str, Tally, Vec<Tally>, u32, &str); 16] = [
        ("equal", tally(1, 1_000), calm.clone(), 0, "pass"),
        ("no errors anywhere", tally(0, 1_000), fleet(0, 1_000, 10), 0, "pass"),
        ("one error more is no proof", tally(2, 1_000), calm.clone(), 0, "pass"),
        ("one error against none is no proof", tally(1, 100), fleet(0, 100, 3), 0, "pass"),
        ("3 % under load, 1 % allowed", tally(36, 1_200), calm.clone(), 10_000, "fail"),
        ("2 % with 2 % allowed", tally(24, 1_200), calm.clone(), 20_000, "pass"),
        ("all bad", tally(100, 100), calm.clone(), 10_000, "fail"),
        ("both bad, shared", tally(600, 1_000), fleet(450, 1_000, 10), 10_000, "shared"),
        ("both bad, equally", tally(600, 1_000), fleet(600, 1_000, 10), 0, "pass"),
        ("two hosts are no crowd", tally(600, 1_000), fleet(400, 1_000, 2), 10_000, "fail"),
        ("too few, and control is busy", tally(0, 99), calm.clone(), 0, "starved"),
        ("none, and control is busy", tally(0, 0), calm.clone(), 0, "starved"),
        ("none, and control has none", tally(0, 0), fleet(0, 0, 10), 0, "quiet"),
        ("none, and nobody is left", tally(0, 0), Vec::new(), 0, "quiet"),
        ("nobody is left, well", tally(5, 1_000), Vec::new(), 0, "pass"),
        ("nobody is left, badly", tally(50, 1_000), Vec::new(), 0, "fail"),
    ];
    for (name, new, control, errors_ppm, expected) in rows {
        let verdict = errors(&new, &control, errors_ppm);
        assert_eq!(word(verdict), expected, "{name}: {verdict}");
    }
}

/// Silence is not health: with nothing to judge by, doubt ends in a way back.
#[test]
fn r24_a_release_that_nothing_reaches_is_worse_and_one_that_few_reach_well_is_not() {
    let worse = |new| match errors(&new, &fleet(1, 1_000, 10), 0) {
        Verdict::Starved { worse, .. } => worse,
        other => panic!("{other}"),
    };
    assert_eq!([tally(0, 0), tally(0, 3), tally(3, 3)].map(worse), [true, false, true]);
}

/// Agresti and Caffo's statistic by hand: 31/1002 against 11/1002, with nothing allowed above.
#[test]
fn r24_the_statistic_is_the_published_one() {
    let (Verdict::Fail(found) | Verdict::Pass(found)) =
        errors(&tally(30, 1_000), &fleet(10, 1_000, 1), 0)
    else {
        panic!("both sides have enough requests");
    };
    let (new, old): (f64, f64) = (31.0 / 1_002.0, 11.0 / 1_002.0);
    let variance = (new * (1.0 - new) + old * (1.0 - old)) / 1_002.0;
    let z = (new - old) / variance.sqrt();
    assert!((z - 3.1265).abs() < 0.0005, "{z}");
    assert_eq!(found.z_milli, (z * 1_000.0).round() as i64);
}

#[test]
fn r4_one_host_counts_for_no_more_than_three() {
    let mut control = fleet(0, 1_000, 9);
    control.push(tally(9_000_000, 10_000_000));
    let pooled = pool(&control);
    assert_eq!((pooled.requests, pooled.errors), (12_000, 2_700));
    // It cannot hide a bad release by claiming errors of its own, nor by claiming silence.
    let mut liars = fleet(0, 1_000, 9);
    liars.push(tally(u64::MAX, u64::MAX));
    assert_eq!(pool(&liars).requests, 12_000);
    assert_eq!(pool(&fleet(0, 0, 3)), Tally::default());
}

#[test]
fn r24_a_shared_outage_needs_three_hosts_and_half_of_them() {
    let outage = |bad: usize, well: usize| [fleet(300, 1_000, bad), fleet(0, 1_000, well)].concat();
    for (bad, well, expected) in
        [(2, 0, "fail"), (3, 0, "shared"), (3, 3, "shared"), (3, 4, "fail"), (50, 50, "shared")]
    {
        let verdict = errors(&tally(500, 1_000), &outage(bad, well), 10_000);
        assert_eq!(word(verdict), expected, "{bad} of {}: {verdict}", bad + well);
    }
}

// --- latency ---

const BOUNDS_MS: [u64; 4] = [10, 50, 100, 500];

fn timed(latency: [u64; 5]) -> Tally {
    let requests = latency.iter().sum();
    let bounds_ms = BOUNDS_MS.to_vec();
    Tally { requests, latency: latency.to_vec(), bounds_ms, ..Tally::default() }
}

#[test]
fn r24_slow_is_above_the_old_p99_times_the_ratio() {
    let limits = Limits { p99_ratio_percent: Some(150), ..LIMITS };
    // 99 of 100 answer within 50 ms, so what takes over 100 ms is slow.
    let control = vec![timed([900, 95, 5, 0, 0]); 5];
    let rows = [
        ("equal", [900, 95, 5, 0, 0], "pass"),
        ("slower, within the ratio", [100, 400, 500, 0, 0], "pass"),
        ("four times", [900, 0, 0, 100, 0], "fail"),
        ("beyond all bounds", [900, 0, 0, 0, 100], "fail"),
        ("a few", [985, 0, 0, 15, 0], "pass"),
    ];
    for (name, latency, expected) in rows {
        let verdict = look(&timed(latency), &control, &limits, 0);
        assert_eq!(word(verdict), expected, "{name}: {verdict}");
    }
    let other = Tally { bounds_ms: vec![1, 2, 3, 4], ..timed([0, 0, 0, 0, 1_000]) };
    assert_eq!(word(look(&other, &control, &limits, 0)), "pass", "other buckets");
    let unbounded = vec![timed([0, 0, 0, 0, 1_000]); 5];
    assert_eq!(word(look(&timed([0, 0, 0, 0, 1_000]), &unbounded, &limits, 0)), "pass");
}

#[test]
fn texts_carry_the_numbers() {
    let fails = errors(&tally(36, 1_200), &fleet(2, 1_000, 10), 10_000);
    assert_eq!(
        fails.to_string(),
        "worse: errors 3.00 % of 1200, old release 0.20 % of 10000, at most 1 % above it (z 3.7)"
    );
    let starved = errors(&tally(0, 3), &fleet(2, 1_000, 10), 10_000).to_string();
    assert!(starved.starts_with("inconclusive: 3 of 100 requests reached the new"), "{starved}");
    let alone = errors(&tally(0, 200), &[], 0).to_string();
    assert_eq!(
        alone,
        "not worse: errors 0.00 % of 200, nobody to compare with, at most 1 % (z -1.0)"
    );
}

proptest! {
    /// Whatever anybody counts, there is an answer; and more errors never make a worse verdict better.
    #[test]
    fn r24_total_and_monotone(
        requests in 0_u64..100_000,
        errors_one in 0_u64..100_000,
        more in 0_u64..1_000,
        control in prop::collection::vec((0_u64..200_000, 0_u64..200_000), 0..8),
        ppm in 0_u32..200_000,
    ) {
        let control: Vec<_> = control.into_iter().map(|(bad, of)| tally(bad, of)).collect();
        let (fewer, many) = (tally(errors_one, requests), tally(errors_one + more, requests));
        let z = |verdict| match verdict {
            Verdict::Pass(c) | Verdict::Fail(c) | Verdict::Fresh(c) | Verdict::Shared { comparison: c, .. } => c.z_milli,
            Verdict::Quiet { .. } | Verdict::Starved { .. } => i64::MIN,
        };
        let (one, other) = (errors(&fewer, &control, ppm), errors(&many, &control, ppm));
        if errors_one + more <= requests / 2 {
            prop_assert!(z(one) <= z(other), "{one} / {other}");
        }
    }
}

#[test]
fn r24_what_a_member_says_counts_for_no_more_than_may_be_said() {
    let release = Digest::of(b"release");
    let lie = TallyRecord {
        release,
        requests: u64::MAX,
        errors: u64::MAX,
        latency: vec![u64::MAX; 3],
        bounds_ms: vec![1, 2],
        over_ms: 30_000,
    };
    let tally = Tally::of(lie);
    assert_eq!((tally.requests, tally.errors), (TALLY_COUNT_MAX, TALLY_COUNT_MAX));
    assert_eq!(tally.latency, [TALLY_COUNT_MAX; 3]);
    assert_eq!(Tally::of(tally.to_record(release)), tally);
}

#[test]
fn r24_latencies_that_do_not_fit_are_left_out_of_a_record() {
    let tally = |buckets: usize, bound_ms| Tally {
        requests: 9,
        errors: 1,
        latency: vec![1; buckets],
        bounds_ms: vec![bound_ms; buckets - 1],
        over_ms: 1_000,
    };
    let said = |tally: Tally| tally.to_record(Digest::of(b"release"));
    assert_eq!(said(tally(BUCKETS_MAX, BOUND_MS_MAX)).latency.len(), BUCKETS_MAX);
    for record in [said(tally(BUCKETS_MAX + 1, 1)), said(tally(3, BOUND_MS_MAX + 1))] {
        assert_eq!((record.requests, record.latency, record.bounds_ms), (9, vec![], vec![]));
    }
}

/// R4: who says little of its requests and much of its latencies still weighs as one host.
#[test]
fn r24_no_host_outweighs_the_others_by_its_latencies() {
    let tally = |latency: [u64; 2]| Tally {
        requests: 100,
        latency: latency.to_vec(),
        bounds_ms: vec![10],
        ..Tally::default()
    };
    let pooled = pool(&[tally([100, 0]), tally([100, 0]), tally([0, 1_000_000])]);
    assert_eq!(pooled.latency, [200, 300]);
}
