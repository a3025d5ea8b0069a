//! Who belongs to a fleet, and what its people sign for the one rollout of a simulation.

use std::net::SocketAddr;

use ed25519_dalek::SigningKey;
use net::{Directory, Identity, certificate};
use proto::dsse::Envelope;
use proto::report::Fitness;
use proto::statement::{Action, ArtifactRef, Direction, Host, Revocation, Rollout, Root, Target};
use proto::{Digest, HostId, KeyId, PublicKey, Scope};
use rollout::plan::{self, Candidate, Strategy};

use super::Scenario;
use crate::sim_ground::machine::BEGIN;
use crate::sim_ground::people::{
    self, Keys, env, host, key, name_of, named, root_of, service, signed,
};

pub(super) fn scope() -> Scope {
    Scope { service: service(), env: env() }
}

/// Where the member with this number is reached.
pub(super) fn address(number: usize) -> SocketAddr {
    let [.., high, low] = u32::try_from(number).expect("few members").to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 7_070))
}

/// A fleet, and whoever signs for it.
pub(super) struct Fleet {
    seed: u64,
    keys: Keys,
    pub(super) root: Root,
    /// By number, the newcomer last.
    pub(super) hosts: Vec<Host>,
    /// In the cohort.
    cohort: usize,
    sequence: u64,
}

impl Fleet {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let (seed, keys) = (scenario.seed, Keys::new(scenario.seed));
        let root = root_of(&keys);
        let hosts = (0..scenario.machines()).map(|number| host(seed, number, scenario.zones));
        Self { seed, keys, root, hosts: hosts.collect(), cohort: scenario.hosts, sequence: 0 }
    }

    /// The first root, which every member was told the id of when it joined.
    pub(super) fn genesis(&self) -> Envelope {
        signed(&self.root, &[&self.keys.root])
    }

    /// Knows all hosts, as that of a fleet which has been together for a while does.
    pub(super) fn directory(&self) -> Directory {
        let directory = Directory::new(self.root.clone());
        self.hosts.iter().for_each(|host| directory.add_host(host.clone()));
        directory
    }

    /// The key of a member: of a host, or the coordinator's.
    pub(super) fn key(&self, number: usize) -> SigningKey {
        match number < self.hosts.len() {
            true => key(self.seed, &name_of(number)),
            false => self.keys.admit.clone(),
        }
    }

    pub(super) fn id(&self, number: usize) -> HostId {
        HostId::of(&PublicKey::of(&self.key(number)))
    }

    pub(super) fn identity(&self, number: usize) -> Identity {
        let key = self.key(number);
        let Some(host) = self.hosts.get(number) else {
            return Identity::person(key).expect("a key that stands in the root");
        };
        let certificate =
            certificate::issue(&self.keys.host_ca, host, BEGIN, certificate::LIFE_DAYS);
        Identity::host(key, certificate.expect("a certificate")).expect("of that key")
    }

    /// The release with this number: 0 is what runs at first, 1 what is deployed.
    pub(super) fn release(&self, number: u64) -> Envelope {
        let version = format!("1.{number}.0");
        let id = Digest::of(version.as_bytes());
        let artifact = ArtifactRef { id, manifest_bytes: 1, bytes: 1, raw_bytes: 1 };
        let release = people::release(&version, artifact);
        signed(&release, &[&self.keys.publisher, &self.keys.admit])
    }

    /// The scope's first rollout: every host of the cohort goes from release 0 to release 1.
    pub(super) fn rollout(&self, scenario: &Scenario) -> (Envelope, Rollout) {
        let target = |number: u64| Target {
            release: self.release(number).id(),
            version: named(&format!("1.{number}.0")),
        };
        let (from, to) = (target(0), target(1));
        let candidate = |host: &Host| Candidate { host: host.clone(), fitness: Fitness::Fit };
        let plan = plan::plan(
            &self.hosts[..self.cohort].iter().map(candidate).collect::<Vec<_>>(),
            &Strategy::Canary(scenario.stages.clone()),
            Direction::Forward,
            scenario.max_unavailable,
            &to.release,
        );
        let plan = plan.expect("a scenario has hosts and stages");
        let operator = &self.keys.operator;
        let rollout = Rollout {
            on_failure: scenario.on_failure,
            ..people::rollout(operator, plan, Some(from), to, BEGIN)
        };
        (signed(&rollout, &[operator]), rollout)
    }

    /// The operator's next word about a rollout.
    pub(super) fn directive(&mut self, rollout: Digest, action: Action) -> Envelope {
        self.sequence += 1;
        let operator = &self.keys.operator;
        signed(&people::directive(operator, rollout, self.sequence, action, BEGIN), &[operator])
    }

    /// The operator removes a host.
    pub(super) fn removal(&self, number: usize) -> Envelope {
        let operator = &self.keys.operator;
        let revocation = Revocation {
            fleet: self.root.fleet.clone(),
            env: env(),
            host: self.id(number),
            author: KeyId::of(&PublicKey::of(operator)),
            created: BEGIN,
            reason: "its disk is gone".to_owned(),
            critical: Vec::new(),
        };
        signed(&revocation, &[operator])
    }
}
