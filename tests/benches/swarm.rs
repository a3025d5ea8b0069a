//! How fast an artifact gets around, beside a bare QUIC stream of the same bytes in the same run:
//! `cargo bench -p fleet-tests --bench swarm`.
//!
//! All of it runs in this process, over loopback and on real disks, so that the hosts share the
//! cores: the ratios say what verifying, storing and asking cost, not what a network does.
#![allow(clippy::unwrap_used, reason = "a bench ends where something fails")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleet_tests::swarming::{Artifact, Node, ORIGIN, company, endpoint, noise, serve};
use net::{Alpn, Connection, Expect, Handler};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Length of the artifact; it does not compress.
const MIB: usize = 256;
/// Hosts that fetch at once, in each part of the bench.
const HOSTS: [u8; 2] = [1, 5];
const LOOPBACK: &str = "127.0.0.1:0";
/// Gossip is not what is measured here.
const GOSSIP_INTERVAL: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("noise");
    std::fs::write(&file, noise(MIB << 20)).unwrap();
    let artifact = Artifact::of(&file, dir.path()).unwrap();
    let pieces = std::fs::read(&artifact.data).unwrap();
    let bare = bare_stream(&pieces).await;
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
    let [server, client] = [ORIGIN, 1].map(|who| endpoint(who, LOOPBACK.parse().unwrap()).unwrap());
    let addr = server.local_addr().unwrap();
    let _stop = serve(server, Arc::new(Sink));
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
    let dirs: Vec<_> = (0..=hosts).map(|_| tempfile::tempdir().unwrap()).collect();
    let start = |number, seeds, dir: &Path| {
        Node::start(number, LOOPBACK.parse().unwrap(), seeds, GOSSIP_INTERVAL, dir).unwrap()
    };
    let origin = start(ORIGIN, Vec::new(), dirs[0].path());
    // It is moved away from there.
    let data = dirs[0].path().join("pieces");
    std::fs::copy(&artifact.data, &data).unwrap();
    let Artifact { about, manifest, .. } = artifact;
    origin.offer(&Artifact { about: *about, manifest: manifest.clone(), data }).await.unwrap();
    let nodes: Vec<_> = (1..=hosts)
        .map(|number| start(number, vec![origin.address], dirs[usize::from(number)].path()))
        .collect();
    for node in &nodes {
        while !node.hears(usize::from(hosts) + 1) {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let start = Instant::now();
    let mut fetching = JoinSet::new();
    for node in &nodes {
        let handle = node.swarm.fetch(*about, company(hosts));
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
