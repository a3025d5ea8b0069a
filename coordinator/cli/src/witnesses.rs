//! Whom `swell audit --verify` asks: every host that was ever seen from this directory, and where.
//!
//! The list grows by what members say, and never shrinks by it: a coordinator that has something to hide
//! would leave hosts out, call them removed, or say that they are somewhere else. What counts against a host
//! is the signed statement that removed it.

use std::collections::BTreeMap;

use proto::id::{HostId, Name};
use proto::report::HostReport;
use serde::{Deserialize, Serialize};

/// Hosts that are remembered.
const HOSTS_MAX: usize = 20_000;
/// Addresses of one host: the first, or the one at which it answered last, and the newest.
const ADDRESSES_MAX: usize = 3;

/// The hosts, as they are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Witnesses(BTreeMap<HostId, Known>);

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) name: Name,
    /// `ip:port`.
    pub(crate) addresses: Vec<String>,
    /// A statement was seen, signed by those who may, that removes it.
    #[serde(default)]
    pub(crate) removed: bool,
}

impl Witnesses {
    /// Takes in what a member says of hosts.
    pub(crate) fn take_in(&mut self, hosts: &[HostReport]) {
        for host in hosts {
            if self.0.len() >= HOSTS_MAX && !self.0.contains_key(&host.id) {
                continue;
            }
            let known = self.0.entry(host.id.clone()).or_insert_with(|| Known {
                name: host.name.clone(),
                addresses: Vec::new(),
                removed: false,
            });
            known.name.clone_from(&host.name);
            if let Some(address) = &host.address {
                known.learn(address);
            }
        }
    }

    /// A host that proved its key has answered there.
    pub(crate) fn answered(&mut self, host: &HostId, address: &str) {
        if let Some(known) = self.0.get_mut(host) {
            known.addresses.retain(|other| other != address);
            known.addresses.insert(0, address.to_owned());
        }
    }

    /// A statement that removes this host was verified.
    pub(crate) fn removed(&mut self, host: &HostId) {
        if let Some(known) = self.0.get_mut(host) {
            known.removed = true;
        }
    }

    /// Those that were not removed.
    pub(crate) fn present(&self) -> impl Iterator<Item = (&HostId, &Known)> {
        self.0.iter().filter(|(_, known)| !known.removed)
    }
}

impl Known {
    fn learn(&mut self, address: &str) {
        if self.addresses.iter().any(|known| known == address) {
            return;
        }
        if self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.remove(1);
        }
        self.addresses.push(address.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn sample_host() -> HostReport {
        let rollout = sample::rollout(proto::report::RolloutPhase::Running, Vec::new());
        sample::fleet(rollout).hosts.swap_remove(0)
    }

    fn said(address: &str) -> HostReport {
        HostReport { address: Some(address.to_owned()), ..sample_host() }
    }

    fn addresses(witnesses: &Witnesses) -> Vec<&str> {
        let (_, known) = witnesses.present().next().unwrap();
        known.addresses.iter().map(String::as_str).collect()
    }

    #[test]
    fn r30_what_a_member_says_takes_neither_a_host_nor_its_address_away() {
        let mut witnesses = Witnesses::default();
        witnesses.take_in(&[said("10.0.0.1:7070")]);
        witnesses.take_in(&[]);
        let by = "eve".parse().unwrap();
        let reason = String::new();
        let removed =
            proto::report::RemovalReport { statement: None, by, created: sample::CREATED, reason };
        witnesses.take_in(&[HostReport { removed: Some(removed), ..said("10.9.9.9:1") }]);
        assert_eq!(addresses(&witnesses), ["10.0.0.1:7070", "10.9.9.9:1"]);
        for port in 2..9 {
            witnesses.take_in(&[said(&format!("10.9.9.9:{port}"))]);
        }
        assert_eq!(addresses(&witnesses), ["10.0.0.1:7070", "10.9.9.9:7", "10.9.9.9:8"]);
        witnesses.answered(&sample::host_id(0), "10.9.9.9:8");
        witnesses.take_in(&[said("10.9.9.9:9")]);
        assert_eq!(addresses(&witnesses), ["10.9.9.9:8", "10.9.9.9:7", "10.9.9.9:9"]);
        witnesses.removed(&sample::host_id(0));
        assert_eq!(witnesses.present().count(), 0);
    }
}
