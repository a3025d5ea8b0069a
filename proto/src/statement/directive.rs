//! `directive`: a signed word about one open rollout (R6).

use serde::{Deserialize, Serialize};

use super::range::{none_of, one_line, within};
use super::{COUNTER_MAX, Kind, Payload, REASON_BYTES_MAX, UnixTime};
use crate::id::{Digest, FleetId, HostId, KeyId};

/// What a directive asks for (R6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nobody waits for `host` any more: it gives its place in the order up and starts nothing before
    /// the rollout is complete. Stands beside the others, which are about all hosts: however many
    /// skips there are, none takes the place of a pause.
    Skip,
    // From here in the order of strength: of two with one sequence, the later in this list wins.
    Resume,
    /// Opens `wave` over bake, inconclusive verdicts or unreachable hosts.
    Promote,
    /// No new activations; clocks stop.
    Pause,
    /// Latches: the rollout ends as its `on_failure` says.
    Abort,
}

/// A signed word about one open rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    pub fleet: FleetId,
    /// Id of the rollout statement.
    pub rollout: Digest,
    /// Highest wins; on a tie the stronger action.
    pub sequence: u64,
    pub action: Action,
    /// The wave a promote opens, 0 first; none otherwise.
    pub wave: Option<u32>,
    /// The host of the cohort that a skip is about; none otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    pub author: KeyId,
    pub created: UnixTime,
    pub reason: String,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Payload for Directive {
    const KIND: Kind = Kind::Directive;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        one_line("reason", &self.reason, REASON_BYTES_MAX, &mut problems);
        within("sequence", self.sequence, 1..=COUNTER_MAX, "", &mut problems);
        if self.wave.is_some() != (self.action == Action::Promote) {
            problems.push("wave: given with promote, and only then".to_owned());
        }
        if self.host.is_some() != (self.action == Action::Skip) {
            problems.push("host: given with skip, and only then".to_owned());
        }
        none_of(&problems)
    }
}
