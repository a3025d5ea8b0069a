//! How fast a full cell of hosts knows, in simulated time: a statement that was handed to one member,
//! and that a rollout was stopped. `cargo bench -p fleet-tests --features simulate --bench gossip`.
//!
//! Two to five minutes a fleet on one core, and 1.3 GiB. No messages are lost and nobody is down: what is measured is
//! gossip itself, and the way of a statement from whoever announces it.
#![allow(clippy::unwrap_used, reason = "a bench ends where something fails")]

use fleet_tests::sim::Quality;
use fleet_tests::sim_gossip::{HOSTS_MAX, Outcome, Scenario, run};
use proto::statement::Action;

/// Fleets of each kind.
const FLEETS: u64 = 3;
/// When people abort, in milliseconds after the rollout was handed in: in its second wave.
const ABORT_AT_MS: u64 = 14_000;

fn main() {
    let halts = fleets("halt", |calm| Scenario { quality: Quality::BadAtOnce, ..calm });
    let aborts =
        fleets("abort", |calm| Scenario { orders: vec![(ABORT_AT_MS, Action::Abort)], ..calm });
    let longest = |outcomes: &[Outcome]| {
        let stops = outcomes.iter().map(|outcome| outcome.stop_known_after_ms.unwrap());
        stops.max().unwrap() as f64 / 1_000.0
    };
    let verified = halts.iter().chain(&aborts).map(Outcome::verified_after_intervals);
    println!(
        "gossip: hosts={HOSTS_MAX} fleets={} verified={:.2} intervals halt={:.2} s abort={:.2} s",
        2 * FLEETS,
        verified.fold(0.0, f64::max),
        longest(&halts),
        longest(&aborts)
    );
}

/// Runs fleets that differ from calm ones in one thing.
fn fleets(what: &str, differ: impl Fn(Scenario) -> Scenario) -> Vec<Outcome> {
    let fleet = |seed| {
        let outcome = run(&differ(Scenario::calm(seed, HOSTS_MAX)));
        println!("{what}: {outcome}");
        outcome
    };
    (0..FLEETS).map(fleet).collect()
}
