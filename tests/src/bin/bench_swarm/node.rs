//! One of our hosts: what an agent has of the network and the swarm, and nothing else of it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fleet_tests::swarming::{Artifact, Node, ORIGIN, company};
use proto::statement::ArtifactRef;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

const PORT: u16 = 7070;
/// As agents have it.
const GOSSIP_INTERVAL: Duration = Duration::from_secs(1);

/// `node HOST ADDRESS...`, in a namespace, in a directory of its own.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (host, addresses) = arguments.split_first().context("node HOST ADDRESS...")?;
    let host: u8 = host.parse().context("HOST")?;
    let addresses: Vec<IpAddr> =
        addresses.iter().map(|one| one.parse()).collect::<Result<_, _>>()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(take_part(host, &addresses))
}

async fn take_part(host: u8, addresses: &[IpAddr]) -> Result<()> {
    let at = |host: u8| SocketAddr::new(addresses[usize::from(host)], PORT);
    let number = if host == 0 { ORIGIN } else { host };
    let node = Node::start(number, at(host), vec![at(0)], GOSSIP_INTERVAL, Path::new("."))?;
    if host == 0 {
        let payload = std::env::var_os("PAYLOAD").context("PAYLOAD is not set")?;
        let artifact = Artifact::of(Path::new(&payload), Path::new("."))?;
        node.offer(&artifact).await?;
        println!("ready {}", serde_json::to_string(&artifact.about)?);
        told().await?;
        return std::future::pending().await;
    }
    // The fleet is at rest, and knows of the artifact, as after any publish.
    while !node.hears(addresses.len()) {
        sleep(Duration::from_millis(20)).await;
    }
    println!("ready");
    let line = told().await?;
    let about: ArtifactRef = serde_json::from_str(line.trim_start_matches("go"))?;
    let others = u8::try_from(addresses.len() - 1)?;
    node.swarm.fetch(about, company(others)).done().await?;
    println!("done");
    std::future::pending().await
}

/// The next line of the input.
async fn told() -> Result<String> {
    let mut line = String::new();
    let read = spawn_blocking(move || std::io::stdin().read_line(&mut line).map(|_| line));
    Ok(read.await??)
}
