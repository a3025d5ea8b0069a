//! How fast an artifact gets around, beside a bare QUIC stream of the same bytes in the same run:
//! `cargo bench -p fleet-tests --bench swarm`.
//!
//! All of it runs in this process, over loopback and on real disks, so that the hosts share the
//! cores: the ratios say what verifying, storing and asking cost, not what a network does.
#![allow(clippy::unwrap_used, reason = "a bench ends where something fails")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use durable::RealDisk;
use ed25519_dalek::SigningKey;
use net::{
    Alpn, Connection, Directory, Endpoint, Expect, Gossip, GossipConfig, Handler, Handlers,
    Identity, certificate,
};
use proto::statement::{ArtifactRef, Host, KeyEntry, Payload as _, Role, RoleKeys, Root};
use proto::{Digest, HostId, KeyId, PublicKey, UnixTime};
use swarm::{Ledger, Store, Swarm};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Length of the artifact; it does not compress.
const MIB: usize = 256;
/// Hosts that fetch at once, in each part of the bench.
const HOSTS: [u8; 2] = [1, 5];
const ROOT: u8 = 101;
const ADMIT: u8 = 102;
const HOST_CA: u8 = 103;

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let artifact = Artifact::of_noise(dir.path());
    let bare = bare_stream(&artifact.data).await;
    println!("bare QUIC stream: {MIB} MiB in {bare:.2} s, {:.0} MiB/s", MIB as f64 / bare);
    for hosts in HOSTS {
        let Measured { seconds, origin_bytes } = fetches(hosts, &artifact).await;
        let all = f64::from(hosts) * MIB as f64;
        println!(
            "{hosts} host(s): {seconds:.2} s, {:.0} MiB/s in all; {:.2} x the bare stream per \
             delivered byte; the origin sent {:.2} x the artifact",
            all / seconds,
            seconds / f64::from(hosts) / bare,
            origin_bytes as f64 / artifact.about.bytes as f64,
        );
    }
}

struct Artifact {
    about: ArtifactRef,
    manifest: Vec<u8>,
    data: Vec<u8>,
}

impl Artifact {
    fn of_noise(dir: &Path) -> Self {
        let tree = dir.join("tree");
        std::fs::create_dir(&tree).unwrap();
        let mut noise = vec![0; MIB << 20];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
        std::fs::write(tree.join("noise"), &noise).unwrap();
        let mut data = Vec::new();
        let manifest = pack::pack(&tree, &mut data, &mut |_| {}).unwrap();
        let (bytes, raw_bytes) = (manifest.bytes(), manifest.raw_bytes());
        let manifest = manifest.to_bytes();
        let (id, manifest_bytes) = (Digest::of(&manifest), manifest.len() as u64);
        Self { about: ArtifactRef { id, manifest_bytes, bytes, raw_bytes }, manifest, data }
    }
}

// --- the bare stream ---

/// Reads one stream to its end and throws it away.
struct Sink;

#[async_trait]
impl Handler for Sink {
    async fn connection(&self, connection: Connection) {
        let mut stream = connection.accept_uni().await.unwrap();
        while stream.read_chunk(1 << 20, true).await.unwrap().is_some() {}
        connection.closed().await;
    }
}

/// Seconds that the bytes take on one stream of the same endpoints, with nothing done to them.
async fn bare_stream(data: &[u8]) -> f64 {
    let (server, client) = (endpoint(ADMIT), endpoint(1));
    let _stop = serve(&server, Handlers::new().on(Alpn::Swarm, Arc::new(Sink)));
    let addr = server.local_addr().unwrap();
    let connection = client.connect(Alpn::Swarm, addr, Expect::AnyMember).await.unwrap();
    let start = Instant::now();
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(data).await.unwrap();
    stream.finish().unwrap();
    stream.stopped().await.unwrap();
    start.elapsed().as_secs_f64()
}

// --- the swarm ---

struct Measured {
    /// Until the last host has it all, verified and synced.
    seconds: f64,
    origin_bytes: u64,
}

async fn fetches(hosts: u8, artifact: &Artifact) -> Measured {
    let origin = Node::start(ADMIT, Vec::new());
    let data = origin.dir.path().join("upload");
    std::fs::write(&data, &artifact.data).unwrap();
    origin.swarm.add_whole(artifact.about, artifact.manifest.clone(), data).await.unwrap();
    let nodes: Vec<_> = (1..=hosts).map(|seed| Node::start(seed, vec![origin.address])).collect();
    for node in &nodes {
        // Gossip is not what is measured here.
        while !node.hears_all(hosts) {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let start = Instant::now();
    let mut fetching = JoinSet::new();
    for node in &nodes {
        let handle = node.swarm.fetch(artifact.about, Some(host_id(ADMIT)));
        fetching.spawn(async move {
            let progress = handle.progress();
            handle.done().await.unwrap();
            let last = progress.borrow().clone();
            last.bytes_from_origin
        });
    }
    let origin_bytes = fetching.join_all().await.into_iter().sum();
    Measured { seconds: start.elapsed().as_secs_f64(), origin_bytes }
}

/// A member that gossips and swarms; stops when dropped.
struct Node {
    swarm: Swarm,
    gossip: Gossip,
    address: SocketAddr,
    dir: tempfile::TempDir,
    _stop: DropGuard,
}

impl Node {
    fn start(seed: u8, seeds: Vec<SocketAddr>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut genesis = root().envelope();
        genesis.sign(&key(ROOT));
        let store = Store::open(Arc::new(RealDisk), &dir.path().join("store")).unwrap();
        let ledger = Ledger::open(store, genesis.id(), Some(&genesis.to_bytes()), now).unwrap();
        let endpoint = endpoint(seed);
        let address = endpoint.local_addr().unwrap();
        let stop = CancellationToken::new();
        let config = GossipConfig {
            fleet: root().fleet,
            key: key(seed),
            advertise: address,
            seeds,
            interval: Duration::from_millis(100),
            verify: Arc::new(|_: &[u8]| None),
            envelope: Arc::new(|_: &HostId| None),
        };
        let gossip = Gossip::spawn(endpoint.clone(), config, stop.clone());
        let swarm = Swarm::new(&endpoint, ledger, gossip.clone());
        let handlers =
            Handlers::new().on(Alpn::Swarm, swarm.handler()).on(Alpn::Gossip, gossip.handler());
        let (serving, until) = (endpoint, stop.clone());
        tokio::spawn(async move { serving.serve(handlers, until).await.unwrap() });
        let (running, until) = (swarm.clone(), stop.clone());
        tokio::spawn(async move { running.run(until).await });
        Self { swarm, gossip, address, dir, _stop: stop.drop_guard() }
    }

    /// Whether it hears all others, and the origin's announcement.
    fn hears_all(&self, hosts: u8) -> bool {
        let members = self.gossip.members().borrow().clone();
        let announces = members.iter().any(|member| member.values.contains_key("a/0"));
        announces && members.len() == usize::from(hosts) + 1
    }
}

fn serve(endpoint: &Endpoint, handlers: Handlers) -> DropGuard {
    let stop = CancellationToken::new();
    let (serving, until) = (endpoint.clone(), stop.clone());
    tokio::spawn(async move { serving.serve(handlers, until).await.unwrap() });
    stop.drop_guard()
}

// --- who they are ---

fn now() -> UnixTime {
    member::clock::unix()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn host_id(seed: u8) -> HostId {
    HostId::of(&PublicKey::of(&key(seed)))
}

fn root() -> Root {
    let seeds = [(ROOT, Role::Root), (ADMIT, Role::Admit), (HOST_CA, Role::HostCa)];
    let id = |seed| KeyId::of(&PublicKey::of(&key(seed)));
    let entry = |seed| KeyEntry { key: PublicKey::of(&key(seed)), owner: "bench".parse().unwrap() };
    Root {
        fleet: "bench-00000000".parse().unwrap(),
        version: 1,
        expires: UnixTime(1 << 40),
        keys: seeds.iter().map(|(seed, _)| (id(*seed), entry(*seed))).collect(),
        roles: seeds
            .into_iter()
            .map(|(seed, role)| (role, RoleKeys { keys: vec![id(seed)], threshold: 1 }))
            .collect(),
        environments: BTreeMap::new(),
        critical: Vec::new(),
    }
}

fn host(seed: u8) -> Host {
    Host {
        fleet: root().fleet,
        id: host_id(seed),
        key: PublicKey::of(&key(seed)),
        name: format!("host-{seed}").parse().unwrap(),
        labels: BTreeMap::new(),
        issued: UnixTime(1),
        critical: Vec::new(),
    }
}

fn endpoint(seed: u8) -> Endpoint {
    let identity = match seed {
        ADMIT => Identity::person(key(seed)),
        _ => {
            let der = certificate::issue(&key(HOST_CA), &host(seed), now(), 1).unwrap();
            Identity::host(key(seed), der)
        }
    };
    let directory = Directory::new(root());
    (1..=HOSTS[1]).for_each(|seed| directory.add_host(host(seed)));
    Endpoint::bind("127.0.0.1:0".parse().unwrap(), identity.unwrap(), directory).unwrap()
}
