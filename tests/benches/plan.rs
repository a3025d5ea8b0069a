//! The swarm's policy at sizes no machine has room for, on simulated lines:
//! `cargo bench -p fleet-tests --bench plan [NAME]`. Takes minutes; the figures are in simulated time.

use std::time::Instant;

use fleet_tests::sim_swarm::{Line, Setting, lower_bound_us, run};

/// 100 Mbit/s.
const RATE: u64 = 12_500_000;
const MIB: u64 = 1 << 20;
const SECOND_US: u64 = 1_000_000;

struct Case {
    name: &'static str,
    lines: Vec<Line>,
    pieces: u32,
    piece_bytes: u64,
    /// What its times are divided by.
    bound_us: f64,
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for case in cases() {
        if wanted.as_ref().is_none_or(|wanted| case.name.contains(wanted.as_str())) {
            measure(case);
        }
    }
}

fn measure(case: Case) {
    let Case { name, lines, pieces, piece_bytes, bound_us } = case;
    let living = lines.iter().skip(1).filter(|line| line.dies_us.is_none()).count();
    let end_us = 3_600 * SECOND_US;
    let started = Instant::now();
    let outcome = run(Setting { lines, pieces, piece_bytes, delay_us: 200, seed: 1, end_us });
    let x = |share| outcome.quantile_us(share) as f64 / bound_us;
    let origin = outcome.sent_bytes[0] as f64 / (u64::from(pieces) * piece_bytes) as f64;
    println!(
        "{name}: {} of {living} have it; p50 {:.2} p99 {:.2} last {:.2} x, the origin sent {origin:.2} \
         files; in {:.0} s",
        outcome.times_us().len(),
        x(0.5),
        x(0.99),
        x(1.0),
        started.elapsed().as_secs_f64(),
    );
}

fn cases() -> Vec<Case> {
    let even = |hosts: usize| vec![Line::even(RATE); hosts];
    let (pieces, piece_bytes) = (256, MIB / 4);
    let bound = |hosts| lower_bound_us(hosts, u64::from(pieces) * piece_bytes, RATE);
    let case = |name, lines: Vec<Line>| Case {
        name,
        bound_us: bound(lines.len()),
        lines,
        pieces,
        piece_bytes,
    };
    let mut dying = even(1_000);
    dying.iter_mut().skip(1).step_by(10).for_each(|line| line.dies_us = Some(2 * SECOND_US));
    let mut slow = even(1_000);
    slow.iter_mut().skip(1).step_by(10).for_each(|line| *line = Line::even(RATE / 5));
    let kraken = Line::even(300_000_000);
    vec![
        case("1,000 hosts", even(1_000)),
        case("1,000 hosts, a tenth dies after 2 s", dying),
        case("1,000 hosts, a tenth at a fifth of the rate", slow),
        // Kraken, as published: 3 GB to 2,600 hosts at 300 MB/s each, p50 10 s (the limit), p99 18 s.
        Case {
            name: "kraken: 3 GB, 2,600 hosts, 300 MB/s",
            lines: vec![kraken; 2_601],
            pieces: 2_861,
            piece_bytes: MIB,
            bound_us: 10.0 * SECOND_US as f64,
        },
        case("10,000 hosts", even(10_000)),
    ]
}
