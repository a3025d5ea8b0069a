//! Members that gossip and swarm, and are nothing else of an agent or a coordinator: for benches.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use durable::RealDisk;
use ed25519_dalek::SigningKey;
use net::{
    Alpn, Directory, Endpoint, Gossip, GossipConfig, Handler, Handlers, Identity, certificate,
};
use proto::statement::{ArtifactRef, Host, KeyEntry, Payload as _, Role, RoleKeys, Root};
use proto::{Digest, HostId, KeyId, PublicKey, UnixTime};
use swarm::{Company, Ledger, Store, Swarm};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Who serves the artifact first, as the coordinator does.
pub const ORIGIN: u8 = 202;
const ROOT: u8 = 201;
const HOST_CA: u8 = 203;
/// Hosts are numbered from 1 to this.
pub const HOSTS_MAX: u8 = 200;

/// Bytes that do not compress, always the same.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    noise
}

/// A packed artifact.
pub struct Artifact {
    pub about: ArtifactRef,
    pub manifest: Vec<u8>,
    /// The file with its pieces.
    pub data: PathBuf,
}

impl Artifact {
    /// Packs one file, with all that is needed on the way in `scratch`.
    ///
    /// # Errors
    ///
    /// Of the disk, which must be the one on which the file is.
    pub fn of(file: &Path, scratch: &Path) -> Result<Self> {
        let (tree, data) = (scratch.join("tree"), scratch.join("pieces"));
        std::fs::create_dir(&tree)?;
        std::fs::hard_link(file, tree.join("file"))?;
        let mut pieces = std::fs::File::create(&data)?;
        let manifest = pack::pack(&tree, &mut pieces, &mut |_| {})?;
        let (bytes, raw_bytes) = (manifest.bytes(), manifest.raw_bytes());
        let manifest = manifest.to_bytes();
        let (id, manifest_bytes) = (Digest::of(&manifest), manifest.len() as u64);
        Ok(Self { about: ArtifactRef { id, manifest_bytes, bytes, raw_bytes }, manifest, data })
    }
}

/// A member; stops when dropped.
pub struct Node {
    pub swarm: Swarm,
    pub gossip: Gossip,
    pub address: SocketAddr,
    _stop: DropGuard,
}

impl Node {
    /// Starts one with its store in `directory`. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// Of the disk, or the port.
    pub fn start(
        number: u8,
        bind: SocketAddr,
        seeds: Vec<SocketAddr>,
        interval: Duration,
        directory: &Path,
    ) -> Result<Self> {
        let mut genesis = root().envelope();
        genesis.sign(&key(ROOT));
        let store = Store::open(Arc::new(RealDisk), &directory.join("store"))?;
        let clock = member::clock::unix;
        let ledger = Ledger::open(store, genesis.id(), Some(&genesis.to_bytes()), clock)?;
        let endpoint = endpoint(number, bind)?;
        let address = endpoint.local_addr()?;
        let stop = CancellationToken::new();
        let config = GossipConfig {
            fleet: root().fleet,
            key: key(number),
            advertise: address,
            seeds,
            interval,
            verify: Arc::new(|_: &[u8]| None),
            envelope: Arc::new(|_: &HostId| None),
        };
        let gossip = Gossip::spawn(endpoint.clone(), config, stop.clone());
        let swarm = Swarm::new(&endpoint, ledger, gossip.clone());
        let (swarming, gossiping) = (swarm.handler(), gossip.handler());
        let handlers = Handlers::new().on(Alpn::Swarm, swarming).on(Alpn::Gossip, gossiping);
        spawn_serve(endpoint, handlers, stop.clone());
        let (running, until) = (swarm.clone(), stop.clone());
        tokio::spawn(async move { running.run(until).await });
        Ok(Self { swarm, gossip, address, _stop: stop.drop_guard() })
    }

    /// Takes an artifact in, and tells the others.
    ///
    /// # Errors
    ///
    /// As [`Swarm::add_whole`].
    pub async fn offer(&self, artifact: &Artifact) -> Result<()> {
        let Artifact { about, manifest, data } = artifact;
        Ok(self.swarm.add_whole(*about, manifest.clone(), data.clone()).await?)
    }

    /// Whether it hears of so many members, itself among them, that live, and of somebody's artifact.
    pub fn hears(&self, members: usize) -> bool {
        let known = self.gossip.members().borrow().clone();
        known.iter().filter(|member| member.alive).count() == members
            && known.iter().any(|member| member.values.contains_key("a/0"))
    }
}

/// Serves a handler of the swarm until the guard is dropped.
pub fn serve(endpoint: Endpoint, handler: Arc<dyn Handler>) -> DropGuard {
    let stop = CancellationToken::new();
    spawn_serve(endpoint, Handlers::new().on(Alpn::Swarm, handler), stop.clone());
    stop.drop_guard()
}

fn spawn_serve(endpoint: Endpoint, handlers: Handlers, stop: CancellationToken) {
    tokio::spawn(async move {
        if let Err(error) = endpoint.serve(handlers, stop).await {
            eprintln!("nothing is served any more: {error}");
        }
    });
}

/// The endpoint of a member: of a host, or of [`ORIGIN`].
///
/// # Errors
///
/// The port is taken.
pub fn endpoint(number: u8, bind: SocketAddr) -> Result<Endpoint> {
    let identity = match number {
        ORIGIN => Identity::person(key(number)),
        _ => {
            let der = certificate::issue(&key(HOST_CA), &host(number), member::clock::unix(), 1)?;
            Identity::host(key(number), der)
        }
    };
    let directory = Directory::new(root());
    (1..=HOSTS_MAX).for_each(|number| directory.add_host(host(number)));
    Endpoint::bind(bind, identity?, directory).with_context(|| bind.to_string())
}

/// What a fetch of the first `hosts` hosts knows of each other, as of a signed cohort.
pub fn company(hosts: u8) -> Company {
    Company { origin: Some(host_id(ORIGIN)), fetchers: (1..=hosts).map(host_id).collect() }
}

/// The id of a member.
pub fn host_id(number: u8) -> HostId {
    HostId::of(&PublicKey::of(&key(number)))
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn root() -> Root {
    let numbers = [(ROOT, Role::Root), (ORIGIN, Role::Admit), (HOST_CA, Role::HostCa)];
    let id = |number| KeyId::of(&PublicKey::of(&key(number)));
    let owner = || "bench".parse().expect("a name");
    let entry = |number| KeyEntry { key: PublicKey::of(&key(number)), owner: owner() };
    Root {
        fleet: "bench-00000000".parse().expect("a name"),
        version: 1,
        expires: UnixTime(1 << 40),
        keys: numbers.iter().map(|(number, _)| (id(*number), entry(*number))).collect(),
        roles: numbers
            .into_iter()
            .map(|(number, role)| (role, RoleKeys { keys: vec![id(number)], threshold: 1 }))
            .collect(),
        environments: BTreeMap::new(),
        critical: Vec::new(),
    }
}

fn host(number: u8) -> Host {
    Host {
        fleet: root().fleet,
        id: host_id(number),
        key: PublicKey::of(&key(number)),
        name: format!("host-{number}").parse().expect("a name"),
        labels: BTreeMap::new(),
        issued: UnixTime(1),
        critical: Vec::new(),
    }
}
