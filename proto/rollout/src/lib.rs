//! The rollout core, sans-IO: who goes when, who may start, when all stop.
//!
//! Every host runs the same rules on the same signed rollout and decides alone. Receipts, statements
//! and the time come in; decisions and effects go out. **Absent:** everything but `proto`: no clock,
//! no hash maps, no chance but what is derived from signed bytes.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | hosts and a strategy become a cohort and waves (R13, R14) |
//! | [`gate`] | may this wave start: open, hold (why), halt (why) (R14, R16) |
//! | [`host`] | one host in one scope: inputs to effects (R12, R15, R17, R18) |
//! | [`peers`] | what the other members say of this host's knowledge and clock (R7, R8) |
//! | [`receipts`] | the verified receipts a member holds of a rollout; certificates from them (R17) |
//! | [`verdict`] | is the new release worse: counted requests of new and old hosts (R24) |
//! | [`report`] | where a rollout stands, for people: the very values the hosts decide by |
//! | [`fleet`] | the fleet as one member sees it: every question that only reads, answered |

pub mod fleet;
pub mod gate;
pub mod host;
pub mod peers;
pub mod plan;
pub mod receipts;
pub mod report;
#[cfg(test)]
mod testing;
pub mod verdict;

use proto::UnixTime;

/// The time, as the caller's clocks tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of this machine's own clock that never steps (`CLOCK_BOOTTIME`); may start again
    /// at 0 after a restart. All waits are measured on it, and it is compared with itself only (R8).
    pub boot_ms: u64,
    /// Wall clock: for expiry, freezes and windows.
    pub unix: UnixTime,
}

/// How long a host may be silent before it counts as unreachable, by the observer's own clock (R16).
pub const UNHEARD_MS_MAX: u64 = 90_000;
/// How often a host signs its receipt again while a rollout is open, so that it is heard (R16).
pub const RESIGN_MS: u64 = 30_000;
