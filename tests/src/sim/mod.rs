//! The rollout core in a simulated fleet: an event queue, virtual time, seeded chance (layer one of
//! three: no network, no processes, only [`rollout::host::Host`] and what it is told).
//!
//! Every host has its own boot clock (offset, drift) and wall clock (skew, jumps). Statements,
//! certificates and receipts spread by gossip that loses, doubles, delays and reorders, over links
//! that are slow or cut between halves, in one direction, around a zone. Disks are slow; agents and
//! machines crash, also between two effects and while a write is not synced; what comes back is the
//! last record on disk. Releases are good, bad at once, later, on some hosts, in one zone, under load;
//! outages fail every release of a zone. Some services count requests, of which a release may fail
//! more than the one before, and an outage makes both fail. Some hosts lie.
//!
//! `check` holds the promises, computed anew from what each host was told, never by asking the
//! code under test. One seed is one history: [`Outcome::history`] is equal on every run.

mod check;
mod driver;
mod liar;
mod network;
mod node;
mod operator;
mod orders;
mod requests;
mod rng;
mod scenario;
mod service;
mod story;
mod world;

use rollout::host::Taken;
use story::Story;
use world::World;

#[cfg(feature = "simulate")]
pub(crate) use node::Service;
pub use rng::Rng;
pub use scenario::{Between, Cut, Deed, Lie, Load, Outage, Quality, Scenario};

/// How a simulation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of all events in their order.
    pub history: u64,
    /// Changes of state that were made.
    pub taken: Taken,
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
    World::new(scenario.clone(), Story::default()).run()
}

/// The same; what happened last is printed before the panic.
///
/// # Panics
///
/// When a promise is broken, with the seed, the time and the host.
pub fn replay(scenario: &Scenario) -> Outcome {
    World::new(scenario.clone(), Story::told()).run()
}
