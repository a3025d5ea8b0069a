//! `revocation`: a host is no longer one of the fleet (R9).

use serde::{Deserialize, Serialize};

use super::range::{none_of, one_line};
use super::{Kind, Payload, REASON_BYTES_MAX, UnixTime};
use crate::id::{Env, FleetId, HostId, KeyId};

/// A host is removed, for ever: its key is let in nowhere, rollouts do not wait for it, and it starts
/// nothing. A machine that is to come back joins anew, with another key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub fleet: FleetId,
    /// The environment of the host: who may deploy there may remove it. Of a host of another one it
    /// says nothing.
    pub env: Env,
    pub host: HostId,
    pub author: KeyId,
    pub created: UnixTime,
    pub reason: String,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Payload for Revocation {
    const KIND: Kind = Kind::Revocation;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        one_line("reason", &self.reason, REASON_BYTES_MAX, &mut problems);
        none_of(&problems)
    }
}
