//! `host`: who a host is (R9).

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Kind, Payload, UnixTime};
use crate::id::{Env, FleetId, HostId, Name, ParseIdError, Zone};
use crate::key::PublicKey;
use crate::strict;

/// Who a host is: made when it joins, signed by the host CA (R9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub fleet: FleetId,
    /// Always [`HostId::of`] the key.
    pub id: HostId,
    pub key: PublicKey,
    /// Its name for people, as it gave it when it joined.
    pub name: Name,
    /// From its token: `env` says where it belongs, `zone` what it may fail with.
    #[serde(deserialize_with = "strict::map")]
    pub labels: BTreeMap<Name, Name>,
    pub issued: UnixTime,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Host {
    /// The environment it belongs to, if its label says one.
    pub fn env(&self) -> Option<Env> {
        self.label("env")?.parse().ok()
    }

    /// The zone it is in; `default` where no label says one.
    pub fn zone(&self) -> Zone {
        let named = self.label("zone").and_then(|zone| zone.parse().ok());
        named.unwrap_or_else(|| "default".parse().expect("a zone name"))
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| name.as_str() == key).map(|(_, value)| value.as_str())
    }
}

impl Payload for Host {
    const KIND: Kind = Kind::Host;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        if self.id != HostId::of(&self.key) {
            return Err(format!("id = {}: is not the id of that key", self.id));
        }
        if self.labels.len() > 32 {
            return Err(format!("labels: {} of them, at most 32", self.labels.len()));
        }
        check_label::<Env>(&self.labels, "env")?;
        check_label::<Zone>(&self.labels, "zone")
    }
}

/// Labels the rules read must have values the rules can read.
///
/// # Errors
///
/// A line that names the label.
pub fn check_label<T: FromStr<Err = ParseIdError>>(
    labels: &BTreeMap<Name, Name>,
    key: &str,
) -> Result<(), String> {
    match labels.iter().find(|(name, _)| name.as_str() == key) {
        Some((_, value)) => value
            .as_str()
            .parse::<T>()
            .map(|_| ())
            .map_err(|error| format!("labels.{key}: {error}")),
        None => Ok(()),
    }
}
