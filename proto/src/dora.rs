//! The five measures of software delivery that DORA names, for one service in one environment.
//!
//! Plain values, printed as JSON by `swell dora --json`. All are whole numbers: shares are so many of so
//! many, times are seconds. How each is counted stands where they are made, in the coordinator. Source of
//! the definitions: <https://dora.dev/guides/dora-metrics/>.

use serde::{Deserialize, Serialize};

use crate::id::{Env, Service};
use crate::statement::UnixTime;

/// Longest window, in days.
pub const DORA_DAYS_MAX: u32 = 366;

/// The measures over a window, and over each of its weeks. Never of several services together: those
/// would hide each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoraReport {
    pub service: Service,
    pub env: Env,
    pub window: DoraMeasures,
    /// Oldest first; the last one ends with the window, and what does not fill a week at its start is in
    /// none of them.
    pub weeks: Vec<DoraMeasures>,
}

/// What ended from `from` on and before `until`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoraMeasures {
    pub from: UnixTime,
    pub until: UnixTime,
    pub days: u32,
    pub deployment_frequency: DoraFrequency,
    pub change_lead_time: DoraTimes,
    pub change_fail_rate: DoraShare,
    pub failed_deployment_recovery_time: DoraTimes,
    pub rework_rate: DoraShare,
}

/// How often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoraFrequency {
    pub deployments: u32,
    /// Days, in UTC, with at least one.
    pub days_with_one: u32,
}

/// How long; none: there is nothing to say it from. The 50th and the 90th of every hundred, as the
/// smallest value that so many are not above: one that was measured, none between two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoraTimes {
    /// That were measured.
    pub n: u32,
    /// That belong here, and lack data.
    pub unknown: u32,
    pub p50_s: Option<u64>,
    pub p90_s: Option<u64>,
}

/// So many of so many; of none: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoraShare {
    pub n: u32,
    pub of: u32,
}
