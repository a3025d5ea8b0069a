//! The machine's two clocks, and where a simulation puts its own.
//!
//! Whoever wants the time of day or the time since boot reads it here; pauses and limits are
//! [`tokio::time`]'s. So a simulation of many machines in one process, on tokio's paused time, has
//! every clock in its hands.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::UnixTime;
use rustix::time::{ClockId, clock_gettime};

/// Both clocks of a machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Milliseconds since 1970 UTC, as this machine believes.
    pub unix_ms: u64,
    /// Milliseconds since boot, time asleep included; never steps.
    pub boot_ms: u64,
}

/// Reads the clocks of the simulated machine on which the caller runs; none outside of all of them.
pub type Simulated = fn() -> Option<Reading>;

static SIMULATED: OnceLock<Simulated> = OnceLock::new();

/// From now on this process has simulated machines. No daemon calls this; a second call with another
/// function changes nothing.
pub fn simulate(read: Simulated) {
    SIMULATED.get_or_init(|| read);
}

/// The clocks of the machine the caller runs on.
pub fn read() -> Reading {
    let simulated = SIMULATED.get().and_then(|read| read());
    simulated.unwrap_or_else(|| Reading { unix_ms: wall_ms(), boot_ms: boot_ms() })
}

/// Wall clock, in seconds; certificates are one of the few things it is good for (R8).
pub fn unix() -> UnixTime {
    UnixTime(unix_ms() / 1_000)
}

/// Wall clock, in milliseconds; 1970 on a machine that believes to be before it.
pub fn unix_ms() -> u64 {
    read().unix_ms
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * 1_000 + nanoseconds / 1_000_000
}
