//! The machine's two clocks.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::UnixTime;
use rollout::Now;
use rustix::time::{ClockId, clock_gettime};

/// Wall clock; 1970 on a machine that believes to be before it.
pub fn unix() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Milliseconds since boot, time asleep included; never steps.
pub fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * 1_000 + nanoseconds / 1_000_000
}

/// Both, as the rollout core takes them.
pub fn now() -> Now {
    Now { boot_ms: boot_ms(), unix: unix() }
}
