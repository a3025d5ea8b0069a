//! A fleet on disk: keys, statements, artifacts, and a home for every host.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::allowed::Allowed;
use agent::config::Config;
use agent::home::{Home, Joined};
use durable::RealDisk;
use ed25519_dalek::SigningKey;
use net::{Directory, certificate};
use proto::dsse::Envelope;
use proto::key::secret_to_text;
use proto::statement::{Host, Release, Root};
use proto::{Digest, UnixTime};
use swarm::Store;
use swarm::store::Sort;
use tempfile::TempDir;

use crate::sim_ground::machine::BEGIN;
use crate::sim_ground::people::{DAY_S, Keys, host, key, name_of, named, release, root_of, signed};

/// Bytes of the file a release brings: a few pieces.
const CONTENT_BYTES: usize = 200_000;

/// A release, and its artifact as a store takes it.
pub(super) struct Published {
    pub(super) id: Digest,
    pub(super) release: Release,
    pub(super) envelope: Vec<u8>,
    manifest: Vec<u8>,
    data: PathBuf,
}

/// A fleet; its directory goes with it.
pub(super) struct Fleet {
    directory: TempDir,
    seed: u64,
    pub(super) keys: Keys,
    pub(super) root: Root,
    root_envelope: Envelope,
    pub(super) hosts: Vec<Host>,
    host_envelopes: Vec<Vec<u8>>,
}

// --- making it ---

impl Fleet {
    /// `hosts` host statements, zones taking turns; nobody has a home yet.
    pub(super) fn new(seed: u64, hosts: usize, zones: usize) -> Self {
        let keys = Keys::new(seed);
        let root = root_of(&keys);
        let root_envelope = signed(&root, &[&keys.root]);
        let hosts: Vec<_> = (0..hosts).map(|number| host(seed, number, zones)).collect();
        let host_envelopes =
            hosts.iter().map(|host| signed(host, &[&keys.host_ca]).to_bytes()).collect();
        let directory = tempfile::tempdir().expect("a directory for the fleet");
        Self { directory, seed, keys, root, root_envelope, hosts, host_envelopes }
    }

    pub(super) fn key(&self, host: usize) -> SigningKey {
        key(self.seed, &name_of(host))
    }

    /// The root's keys and all hosts: what the operator knows.
    pub(super) fn directory(&self) -> Directory {
        let directory = Directory::new(self.root.clone());
        self.hosts.iter().for_each(|host| directory.add_host(host.clone()));
        directory
    }

    /// Makes a server a host, with a certificate that was issued `age_days` ago.
    pub(super) fn join(&self, host: usize, age_days: u64, seeds: &[SocketAddr]) {
        let home = self.home(host);
        home.make().expect("a home");
        // What a join does; but its key must be the same in every run.
        home.key_for_join().expect("a key");
        let path = self.state_dir(host).join("host.key");
        std::fs::remove_file(&path).expect("the key just made");
        durable::create_secret(&path, secret_to_text(&self.key(host)).as_bytes())
            .expect("a key file");
        let issued = UnixTime(BEGIN.0 - age_days * DAY_S);
        let statement = &self.hosts[host];
        let life = certificate::LIFE_DAYS;
        let certificate =
            certificate::issue(&self.keys.host_ca, statement, issued, life).expect("a certificate");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("an envelope is JSON");
        let joined = Joined {
            root: self.genesis(),
            roots: vec![text(self.root_envelope.to_bytes())],
            host: text(self.host_envelopes[host].clone()),
        };
        home.save(&joined, &certificate, seeds).expect("a home is written");
    }

    /// A release of `version`; its one file differs from that of any other.
    pub(super) fn publish(&self, version: &str) -> Published {
        let tree = self.directory.path().join("build").join(version);
        std::fs::create_dir_all(&tree).expect("a directory to build in");
        let noise = Digest::of(version.as_bytes()).as_bytes().repeat(CONTENT_BYTES / 32);
        std::fs::write(tree.join("content"), noise).expect("a file");
        let data = self.directory.path().join(format!("build-{version}.pieces"));
        let mut pieces = std::fs::File::create(&data).expect("a file");
        let manifest = pack::pack(&tree, &mut pieces, &mut |_| {}).expect("a tree that packs");
        let release = release(version, pack::artifact_ref(&manifest));
        let envelope = signed(&release, &[&self.keys.publisher, &self.keys.admit]);
        let (id, envelope) = (envelope.id(), envelope.to_bytes());
        Published { id, release, envelope, manifest: manifest.to_bytes(), data }
    }

    /// Puts a release, without its artifact, into the store of a host that does not run yet.
    pub(super) fn tell(&self, host: usize, published: &Published) {
        let store = Store::open(Arc::new(RealDisk), &self.home(host).store()).expect("a store");
        let Published { id, envelope, .. } = published;
        store.put_statement(Sort::Effective, id, envelope).expect("a statement is kept");
    }

    /// Puts a whole artifact into the store of a host that does not run yet.
    pub(super) fn seed(&self, host: usize, published: &Published) {
        put(&self.home(host).store(), published);
    }

    /// The same for the coordinator.
    pub(super) fn seed_coordinator(&self, published: &Published) {
        put(&self.coordinator_store(), published);
    }
}

fn put(store: &Path, published: &Published) {
    let store = Store::open(Arc::new(RealDisk), store).expect("a store");
    let Published { release, manifest, data, .. } = published;
    store.add_whole(&release.artifact, manifest, data).expect("an artifact that is whole");
}

// --- where things are ---

impl Fleet {
    pub(super) fn genesis(&self) -> Digest {
        self.root_envelope.id()
    }

    fn state_dir(&self, host: usize) -> PathBuf {
        self.directory.path().join(name_of(host)).join("state")
    }

    pub(super) fn service_root(&self, host: usize) -> PathBuf {
        self.directory.path().join(name_of(host)).join("srv")
    }

    fn home(&self, host: usize) -> Home {
        Home::new(&self.state_dir(host))
    }

    pub(super) fn coordinator_store(&self) -> PathBuf {
        self.directory.path().join("coordinator")
    }

    /// The root and the hosts that the coordinator has admitted.
    pub(super) fn admitted(&self, hosts: usize) -> Vec<Vec<u8>> {
        let hosts = self.host_envelopes.iter().take(hosts).cloned();
        std::iter::once(self.root_envelope.to_bytes()).chain(hosts).collect()
    }

    pub(super) fn config(&self, host: usize, address: SocketAddr) -> Config {
        Config {
            state_dir: self.state_dir(host),
            bind: address,
            advertise: address,
            name: named(&name_of(host)),
            service_root: self.service_root(host),
            services: None,
            allowed: Allowed::default(),
            keep_releases: 5,
            keep_logs: Duration::from_secs(30 * 86_400),
            metrics: None,
            gossip_interval: Duration::from_secs(1),
            ceilings: swarm::Ceilings::default(),
        }
    }
}
