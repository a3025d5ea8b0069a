//! `freeze`: nothing new starts in an environment, or on one host of it, until a time (R6).

use serde::{Deserialize, Serialize};

use super::range::{none_of, one_line, within};
use super::{COUNTER_MAX, Kind, Payload, REASON_BYTES_MAX, UnixTime};
use crate::id::{Env, FleetId, HostId, KeyId};

/// Longest freeze, in seconds: a freeze has an end, and a leap year is long enough.
pub const FREEZE_S_MAX: u64 = 366 * 24 * 3_600;
/// Longest freeze that the coordinator may sign alone, in seconds (R3).
pub const COORDINATOR_FREEZE_S_MAX: u64 = 24 * 3_600;

/// Nothing new starts until a time. What runs stays; reverts, aborts and rollbacks are not concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    pub fleet: FleetId,
    pub env: Env,
    /// Only this host of the environment: it is held. None: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// The highest of a target is in force; see [`crate::trust::Chain::frozen_until`].
    pub sequence: u64,
    /// The first second after it. At or before `created`: it lifts the ones before it.
    pub until: UnixTime,
    pub author: KeyId,
    pub created: UnixTime,
    pub reason: String,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Freeze {
    /// Whether it only takes back what was frozen.
    pub fn lifts(&self) -> bool {
        self.until <= self.created
    }
}

impl Payload for Freeze {
    const KIND: Kind = Kind::Freeze;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        one_line("reason", &self.reason, REASON_BYTES_MAX, &mut problems);
        within("sequence", self.sequence, 1..=COUNTER_MAX, "", &mut problems);
        let lasts_s = self.until.0.saturating_sub(self.created.0);
        within("until - created", lasts_s, 0..=FREEZE_S_MAX, " s", &mut problems);
        none_of(&problems)
    }
}
