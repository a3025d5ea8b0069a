//! The rollout core in a simulated fleet: an event queue, virtual time, seeded chance (layer one of
//! three: no network, no processes, only [`rollout::host::Host`] and what it is told).
//!
//! Every host has its own boot clock (offset, drift) and wall clock (skew). Statements, certificates
//! and receipts spread by gossip that loses, doubles, delays and reorders, over links that are cut in
//! one or both directions. Agents and machines crash, also between two effects; what comes back is
//! the last persisted record. Releases are good, bad at once, bad later, bad on some hosts.
//!
//! `check` holds the promises, computed anew from what each host was told, never by asking the
//! code under test. One seed is one history: [`Outcome::history`] is equal on every run.

mod check;
mod network;
mod node;
mod operator;
mod orders;
mod rng;
mod scenario;
mod service;
mod world;

pub use rng::Rng;
pub use scenario::{Deed, Quality, Scenario};

/// How a simulation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of all events in their order.
    pub history: u64,
    pub events: u64,
    /// Inputs that machines were given.
    pub inputs: u64,
    /// When the fleet had come to rest after it healed, in milliseconds of simulated time.
    pub rested_ms: u64,
    pub ending: Ending,
    /// Hosts that ever ran the first release of the scenario that is deployed.
    pub ever_ran: usize,
    /// Hosts of the first wave of its rollout.
    pub canaries: usize,
}

/// Where the newest rollout has come to, on every host alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    Complete,
    Halted,
    Aborted,
}

/// Runs a scenario to its end.
///
/// # Panics
///
/// When a promise is broken, with the seed, the time and the host.
pub fn run(scenario: &Scenario) -> Outcome {
    world::World::new(scenario.clone()).run()
}
