//! The swarm's policy on lines of given rates (R27): how near it comes to the least time there is. In
//! simulated time, so nothing here depends on the machine.

use fleet_tests::sim_swarm::{Line, Outcome, Setting, lower_bound_us, run};

const MIB: u64 = 1 << 20;
/// 100 Mbit/s.
const RATE: u64 = 12_500_000;
const PIECE_BYTES: u64 = 256 << 10;
const SECOND_US: u64 = 1_000_000;

fn even(hosts: usize) -> Vec<Line> {
    vec![Line::even(RATE); hosts]
}

fn setting(lines: Vec<Line>, bytes: u64, seed: u64) -> Setting {
    let pieces = u32::try_from(bytes / PIECE_BYTES).expect("few pieces");
    let end_us = 600 * SECOND_US;
    Setting { lines, pieces, piece_bytes: PIECE_BYTES, delay_us: 200, seed, end_us }
}

/// In multiples of the least time and of the artifact: last host, half of them, what the origin sent,
/// what all sent for each that was delivered.
struct Shares {
    last: f64,
    half: f64,
    origin: f64,
    traffic: f64,
}

fn shares(setting: &Setting, outcome: &Outcome, bound_us: f64) -> Shares {
    let bytes = (u64::from(setting.pieces) * setting.piece_bytes) as f64;
    let sent: u64 = outcome.sent_bytes.iter().sum();
    Shares {
        last: outcome.quantile_us(1.0) as f64 / bound_us,
        half: outcome.quantile_us(0.5) as f64 / bound_us,
        origin: outcome.sent_bytes[0] as f64 / bytes,
        traffic: sent as f64 / (bytes * outcome.times_us().len() as f64),
    }
}

/// Runs it; all that live must have it.
fn measured(setting: &Setting, bound_us: f64) -> Shares {
    let living = setting.lines.iter().skip(1).filter(|line| line.dies_us.is_none()).count();
    let outcome = run(setting.clone());
    let have_it = outcome.times_us().len();
    assert!(have_it >= living, "{have_it} of {living} have it, seed {}", setting.seed);
    shares(setting, &outcome, bound_us)
}

#[test]
fn r27_the_last_host_is_done_within_1_15_of_the_least_time() {
    for (hosts, bytes, last_max) in [(8, 64, 1.04), (16, 64, 1.06), (24, 64, 1.08), (24, 32, 1.12)]
    {
        for seed in 1..=2 {
            let setting = setting(even(hosts), bytes * MIB, seed);
            let got = measured(&setting, lower_bound_us(hosts, bytes * MIB, RATE));
            let case = format!("{hosts} hosts, {bytes} MiB, seed {seed}");
            assert!(got.last <= last_max, "{case}: last {}", got.last);
            assert!(got.half <= got.last && got.origin <= 1.1, "{case}: origin {}", got.origin);
            assert!(got.traffic <= 1.02, "{case}: all sent {}", got.traffic);
        }
    }
}

#[test]
fn r27_a_delay_of_20_ms_costs_little() {
    let bound_us = lower_bound_us(8, 32 * MIB, RATE);
    let setting = Setting { delay_us: 20_000, ..setting(even(8), 32 * MIB, 1) };
    let got = measured(&setting, bound_us);
    assert!(got.last <= 1.3, "{}", got.last);
}

#[test]
fn r27_a_slow_host_slows_itself_alone() {
    let mut lines = even(8);
    lines[3] = Line::even(RATE / 5);
    let got = measured(&setting(lines, 64 * MIB, 1), lower_bound_us(8, 64 * MIB, RATE));
    assert!(got.half <= 1.2, "half of them {}", got.half);
    assert!(got.last <= 5.3, "the slow one, whose own line bounds it at 5: {}", got.last);
    assert!(got.origin <= 1.15, "each piece once all the same: {}", got.origin);
}

#[test]
fn r27_a_seeder_ten_times_slower_than_the_hosts_is_the_bound() {
    let mut lines = even(8);
    lines[0] = Line::even(RATE / 10);
    let got = measured(&setting(lines, 32 * MIB, 1), lower_bound_us(8, 32 * MIB, RATE / 10));
    assert!(got.last <= 1.05, "{}", got.last);
    assert!(got.origin <= 1.02, "each piece once: {}", got.origin);
}

#[test]
fn r27_hosts_that_die_do_not_hold_up_the_others() {
    let bound_us = lower_bound_us(24, 64 * MIB, RATE);
    for seed in 1..=2 {
        let mut lines = even(24);
        for dead in [5, 9] {
            lines[dead].dies_us = Some(2 * SECOND_US);
        }
        let got = measured(&setting(lines, 64 * MIB, seed), bound_us);
        assert!(got.last <= 1.4, "seed {seed}: {}", got.last);
        assert!(got.origin <= 1.15, "seed {seed}: {}", got.origin);
    }
}

/// An eighth of them take new pieces like all others, and pass them on drop by drop. What they sit on is an
/// eighth of all, which the origin gives again.
#[test]
fn r4_hosts_that_trickle_cost_little_more_than_what_they_sit_on() {
    let bound_us = lower_bound_us(24, 64 * MIB, RATE);
    for seed in 1..=2 {
        let mut lines = even(24);
        for liar in [3, 11, 19] {
            lines[liar].up = RATE / 100;
        }
        let got = measured(&setting(lines, 64 * MIB, seed), bound_us);
        assert!(got.half <= 1.33, "seed {seed}: half {}", got.half);
        assert!(got.last <= 1.36, "seed {seed}: last {}", got.last);
        assert!(got.origin <= 1.38, "seed {seed}: origin {}", got.origin);
    }
}

#[test]
fn r27_the_origin_may_die_once_every_piece_is_out() {
    let bound_us = lower_bound_us(16, 32 * MIB, RATE);
    let mut lines = even(16);
    let all_out_us = 32 * MIB * SECOND_US / RATE;
    lines[0].dies_us = Some(all_out_us * 11 / 10);
    let got = measured(&setting(lines, 32 * MIB, 1), bound_us);
    assert!(got.last <= 1.4, "{}", got.last);
}

#[test]
fn r27_who_comes_late_is_given_by_those_that_have_it() {
    let mut lines = even(16);
    lines.iter_mut().skip(8).for_each(|line| line.begins_us = 2 * SECOND_US);
    let got = measured(&setting(lines, 32 * MIB, 1), lower_bound_us(16, 32 * MIB, RATE));
    assert!(got.last <= 1.5, "from when each began: {}", got.last);
    assert!(got.origin <= 1.3, "{}", got.origin);
}

#[test]
fn r27_unequal_lines_are_no_worse_than_the_slowest_of_them() {
    let mut lines = even(16);
    for (number, line) in (0_u64..).zip(&mut lines).skip(1) {
        *line = Line::even(RATE / (1 + number % 3));
    }
    let got = measured(&setting(lines, 32 * MIB, 1), lower_bound_us(16, 32 * MIB, RATE));
    assert!(got.last <= 3.3, "the slowest lines take 3: {}", got.last);
}

#[test]
fn r27_the_same_seed_gives_the_same_run() {
    let one = run(setting(even(8), 16 * MIB, 7));
    let two = run(setting(even(8), 16 * MIB, 7));
    assert_eq!((one.took_us, one.sent_bytes), (two.took_us, two.sent_bytes));
}
