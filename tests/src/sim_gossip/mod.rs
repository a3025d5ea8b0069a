//! Rollouts over real gossip (layer two of three): chitchat with its supervisor, filter and signed
//! values, QUIC, ledger and sync of `swarm`, and the rollout core, for hundreds of hosts in one
//! process on paused time. No processes, no artifacts, no files.
//!
//! ```text
//! operator -> one member: Ledger -> announce -> Gossip -> Network -> Gossip -> sync -> Ledger -> core
//!                                                 s/0, r/0  (loss, delay,      (asks by QUIC
//!                                                            cuts, crashes)     over Network)
//! ```
//!
//! Simulated are what carries messages and datagrams (`network`), the service with the disk it lies
//! on (`agent`), and the people (`fleet`); everything signed is really signed and really verified, by
//! every host for itself. Gossip goes without connections, of which a full cell would have thirty
//! thousand; questions have theirs. Hosts crash, alone or with their machine, lose what was not
//! synced and come back as a new life of gossip; one loses its disk, is removed and replaced. The
//! coordinator is a member that holds and passes on statements, or is gone. `check` holds the
//! promises, from what each host did and was told.
//!
//! All members run on one runtime and so, but for the core, by one wall clock; wrong ones are the
//! matter of the other two layers.
//!
//! **One seed is one scenario, not one history.** The seed fixes keys, sizes, releases, faults, and
//! the chance of network and services. chitchat and QUIC draw from the thread's generator, tokio
//! the order of what is ready at once from its own, and both take their seeds from the operating
//! system. So the promises here are those that hold in every schedule, and a seed that fails may have
//! to be run a few times to fail again.

mod agent;
mod check;
mod fleet;
mod member;
mod network;
mod play;
mod scenario;
mod world;

use std::fmt;

use rollout::host::Taken;

use crate::sim::Ending;

pub use scenario::{Crash, Cut, Scenario, Wiped};

/// Hosts of a cell, at most: everybody gossips with everybody.
pub const HOSTS_MAX: usize = 250;

/// How a simulation ended. Times are in milliseconds of simulated time.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub seed: u64,
    pub hosts: usize,
    pub interval_ms: u64,
    pub ending: Ending,
    /// Changes of state that were made.
    pub taken: Taken,
    /// Hosts that ever ran the release that was deployed.
    pub ever_ran: usize,
    /// Hosts of the first wave.
    pub canaries: usize,
    /// From the moment the rollout was handed in until the last host had verified it.
    pub verified_after_ms: u64,
    /// From the first host that knew of the halt or abort to the last one, if there was one.
    pub stop_known_after_ms: Option<u64>,
    /// The longest restart or cut that the last ones may have waited for, of all that there were.
    pub away_for_ms: u64,
    /// From the moment the rollout was handed in until the fleet had come to rest.
    pub rested_after_ms: u64,
    /// Gossip messages that passed the filters.
    pub messages: u64,
    /// Receipts that were signed.
    pub receipts: usize,
}

impl Outcome {
    /// [`Self::verified_after_ms`], in gossip intervals.
    pub fn verified_after_intervals(&self) -> f64 {
        self.verified_after_ms as f64 / self.interval_ms as f64
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, hosts, ending, ever_ran, .. } = self;
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        write!(
            f,
            "seed {seed}: {hosts} hosts, {ending:?}, {ever_ran} ever ran it; verified everywhere \
             after {:.2} gossip intervals, ",
            self.verified_after_intervals()
        )?;
        if let Some(after_ms) = self.stop_known_after_ms {
            write!(f, "stop known everywhere after {:.2} s, ", seconds(after_ms))?;
        }
        write!(
            f,
            "at rest after {:.0} s; {} messages, {} receipts",
            seconds(self.rested_after_ms),
            self.messages,
            self.receipts
        )?;
        match self.away_for_ms {
            0 => Ok(()),
            away_for_ms => write!(f, " (hosts were away for up to {:.0} s)", seconds(away_for_ms)),
        }
    }
}

/// Runs a scenario to its end.
///
/// # Panics
///
/// When a promise is broken, with the seed, the time and the host.
pub fn run(scenario: &Scenario) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets");
    runtime.block_on(play::run(scenario.clone()))
}
