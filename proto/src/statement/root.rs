//! `root`: the keys of a fleet, their roles, and what protects its environments (R2).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Kind, Payload, THRESHOLD_MAX, UnixTime};
use crate::id::{Env, FleetId, KeyId, Name, ParseIdError, serde_as_text};
use crate::key::PublicKey;
use crate::strict;

/// A role: what a key may sign. Text form `root`, `publish`, `admit`, `deploy:ENV`, ...
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The next root.
    Root,
    /// Hands in releases: CI.
    Publish,
    /// The coordinator: admits releases.
    Admit,
    /// Starts rollouts in an environment and directs them.
    Deploy(Env),
    /// Approves rollouts in an environment.
    Approve(Env),
    /// Directs every environment, may jump epochs.
    Emergency,
    /// Says who is a host: host statements and TLS certificates.
    HostCa,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Publish => f.write_str("publish"),
            Self::Admit => f.write_str("admit"),
            Self::Deploy(env) => write!(f, "deploy:{env}"),
            Self::Approve(env) => write!(f, "approve:{env}"),
            Self::Emergency => f.write_str("emergency"),
            Self::HostCa => f.write_str("host-ca"),
        }
    }
}

impl FromStr for Role {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("deploy", env)) => return Ok(Self::Deploy(env.parse()?)),
            Some(("approve", env)) => return Ok(Self::Approve(env.parse()?)),
            _ => {}
        }
        match text {
            "root" => Ok(Self::Root),
            "publish" => Ok(Self::Publish),
            "admit" => Ok(Self::Admit),
            "emergency" => Ok(Self::Emergency),
            "host-ca" => Ok(Self::HostCa),
            _ => Err(ParseIdError::new(
                "role",
                "root, publish, admit, deploy:ENV, approve:ENV, emergency or host-ca",
                text,
            )),
        }
    }
}

serde_as_text!(Role, |role| role.to_string());

/// Who holds a role and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    pub keys: Vec<KeyId>,
    /// Distinct keys that must sign; 1 to the number of keys, [`THRESHOLD_MAX`] at most.
    pub threshold: u8,
}

/// A key and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    pub key: PublicKey,
    /// A person, `ci`, `coordinator`: for the audit log.
    pub owner: Name,
}

/// What protects an environment, whatever a repository says (R2). A rollout can only be stricter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Approvals a rollout needs at least.
    pub approvals_min: u8,
    /// Waves a rollout has at least (before merging those that add no host), except to go back;
    /// where hosts go by batches, each batch is one.
    pub stages_min: u8,
    /// Seconds of wait over all waves a rollout has at least, except to go back.
    pub bake_s_min: u32,
    /// Whether the coordinator's key alone may take a scope back to the last rollout's `from`.
    pub coordinator_may_roll_back: bool,
}

/// The keys of a fleet, their roles, and what protects its environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    pub fleet: FleetId,
    /// 1 first; each next one is signed by the thresholds of both.
    pub version: u32,
    /// From then on nothing new is activated until a newer root arrives (R7).
    pub expires: UnixTime,
    #[serde(deserialize_with = "strict::map")]
    pub keys: BTreeMap<KeyId, KeyEntry>,
    #[serde(deserialize_with = "strict::map")]
    pub roles: BTreeMap<Role, RoleKeys>,
    #[serde(deserialize_with = "strict::map")]
    pub environments: BTreeMap<Env, Policy>,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Root {
    /// The keys that hold `role`.
    pub fn keys_of<'a>(&'a self, role: &Role) -> impl Iterator<Item = (&'a KeyId, &'a PublicKey)> {
        let ids = self.roles.get(role).map_or(&[][..], |role| &role.keys);
        ids.iter().filter_map(|id| self.keys.get_key_value(id)).map(|(id, entry)| (id, &entry.key))
    }

    /// The roles that `key` holds.
    pub fn roles_of<'a>(&'a self, key: &KeyId) -> impl Iterator<Item = &'a Role> {
        let held = |(_, holders): &(&Role, &RoleKeys)| holders.keys.contains(key);
        self.roles.iter().filter(held).map(|(role, _)| role)
    }

    fn check_role(&self, role: &Role, holders: &RoleKeys) -> Result<(), String> {
        let distinct: BTreeSet<_> = holders.keys.iter().collect();
        if distinct.len() != holders.keys.len() {
            return Err(format!("roles.{role}: a key stands twice"));
        }
        if let Some(unknown) = distinct.iter().find(|id| !self.keys.contains_key(**id)) {
            return Err(format!("roles.{role}: key {unknown} is not among the keys"));
        }
        let max = holders.keys.len().min(usize::from(THRESHOLD_MAX));
        if !(1..=max).contains(&usize::from(holders.threshold)) {
            return Err(format!(
                "roles.{role}.threshold = {}: must be 1 to {max}",
                holders.threshold
            ));
        }
        if let Role::Deploy(env) | Role::Approve(env) = role
            && !self.environments.contains_key(env)
        {
            return Err(format!("roles.{role}: there is no environment {env}"));
        }
        // Else a stolen coordinator could do more than R4 says.
        let admits = self.roles.get(&Role::Admit).map_or(&[][..], |admit| &admit.keys);
        if !matches!(role, Role::Admit | Role::HostCa)
            && let Some(key) = distinct.iter().find(|id| admits.contains(id))
        {
            return Err(format!("roles.{role}: key {key} is the coordinator's (admit)"));
        }
        Ok(())
    }

    /// Whether `key` holds `role`.
    pub fn holds(&self, role: &Role, key: &PublicKey) -> bool {
        self.keys_of(role).any(|(_, held)| held == key)
    }
}

impl Payload for Root {
    const KIND: Kind = Kind::Root;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        if self.version == 0 {
            return Err("version = 0: must be 1 or more".to_owned());
        }
        if self.keys.len() > 256 || self.environments.len() > 64 {
            return Err("more than 256 keys or 64 environments".to_owned());
        }
        for (id, entry) in &self.keys {
            if *id != KeyId::of(&entry.key) {
                return Err(format!("keys.{id}: is not the id of that key"));
            }
        }
        for (role, holders) in &self.roles {
            self.check_role(role, holders)?;
        }
        for (env, policy) in &self.environments {
            if policy.approvals_min > THRESHOLD_MAX {
                return Err(format!(
                    "environments.{env}.approvals_min = {}: must be 0 to {THRESHOLD_MAX}",
                    policy.approvals_min
                ));
            }
        }
        if !self.roles.contains_key(&Role::Root) {
            return Err("roles: nobody holds root".to_owned());
        }
        Ok(())
    }
}
