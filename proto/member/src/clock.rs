//! The machine's two clocks, as the rollout core takes them.

use net::clock;
use proto::UnixTime;
use rollout::Now;

pub use net::clock::unix;

/// Milliseconds since boot, time asleep included; never steps.
pub fn boot_ms() -> u64 {
    clock::read().boot_ms
}

/// Both.
pub fn now() -> Now {
    let clock::Reading { unix_ms, boot_ms } = clock::read();
    Now { boot_ms, unix: UnixTime(unix_ms / 1_000) }
}
