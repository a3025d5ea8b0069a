//! Real agents in a simulated network (layer three of three): the daemon's own loop with its real
//! QUIC, mTLS, gossip, swarm, ledger, journals and activation, 5 to 20 hosts in one process.
//!
//! turmoil moves the datagrams and the time: messages are late and lost, hosts are cut off, agents
//! are killed and started again from their directories, machines lose power. Each host has its own
//! wall and boot clock. An operator on a machine of its own hands in signed statements through a
//! host, as `swell --via` does, and asks every host what it sees.
//!
//! What is not real: the network; the service, which is a value in memory that starts, stops and
//! fails at once, so that an activation takes no simulated time (who may be down at a time, R15, is
//! for the first layer to show); and the coordinator, of which hosts need only the member that
//! knows them and seeds. The disk is the real one and a kill loses nothing that was written: lost
//! writes are the matter of the crash tests in `durable` and `agent`.
//!
//! **One seed is one scenario, not one history.** It fixes size, network, faults, keys and with them
//! the cohort; the order of packets it does not: QUIC, TLS, gossip and hash maps draw from the
//! operating system, and to take that away one would have to replace `getrandom` for the whole
//! process, in code that this workspace forbids as unsafe. So a failing seed is one to run a few
//! times. What must hold is held at every step and in every history.
//!
//! Blocking work runs on real threads. Time of its host stands still meanwhile (tokio does not
//! advance a paused clock under `spawn_blocking`), so a slow disk makes a run longer, not different.

mod fleet;
mod members;
mod operator;
mod scenario;
mod service;
mod socket;
mod story;
mod world;

pub use scenario::{Scenario, Story};

/// How a simulation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub scenario: Scenario,
    pub ending: Ending,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// Hosts that ever started the release of the rollout.
    pub started: usize,
    /// Hosts of its first wave.
    pub canaries: usize,
}

/// Where the rollout has come to, on every host alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// Every host serves what it brought.
    Complete,
    /// It was stopped, by itself or by the operator: every host serves what there was before.
    Stopped,
}

/// Runs the scenario of a seed to its end.
///
/// # Panics
///
/// When a promise is broken, with the seed, the time and what was seen.
pub fn run(seed: u64) -> Outcome {
    run_scenario(&Scenario::drawn(seed))
}

/// Runs a scenario to its end.
///
/// # Panics
///
/// As [`run`].
pub fn run_scenario(scenario: &Scenario) -> Outcome {
    world::World::new(scenario.clone()).run()
}
