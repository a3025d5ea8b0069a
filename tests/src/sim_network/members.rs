//! What runs on the simulated machines: agents as they are, and the coordinator as far as hosts need
//! it: a member that knows all hosts, holds the artifacts and seeds them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::daemon::{self, Ground};
use member::{Membership, Seat};
use net::{Handlers, Identity, Port};
use tokio_util::sync::CancellationToken;

use super::fleet::Fleet;
use super::service::{SimServices, Witness};
use super::socket;
use crate::sim::Rng;
use crate::sim_ground::machine::{Machine, inhabit, ms};
use crate::sim_ground::people::named;

/// How the network treats a member's datagrams.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) address: SocketAddr,
    pub(super) lost_permille: u64,
    pub(super) chance: Rng,
}

impl Line {
    async fn port(self) -> std::io::Result<Port> {
        let socket = socket::bind(self.address, self.lost_permille, self.chance).await?;
        Ok(Port::Simulated(socket))
    }
}

/// Simulated time where a member starts, in milliseconds.
pub(super) fn now_ms() -> u64 {
    ms(turmoil::sim_elapsed().expect("called on a simulated machine"))
}

/// A host's agent, from its start to the end of the process.
pub(super) async fn agent(
    fleet: Arc<Fleet>,
    host: usize,
    machine: Arc<Machine>,
    witness: Arc<Witness>,
    line: Line,
) -> turmoil::Result {
    inhabit(machine.clone(), now_ms());
    let (config, boot) = (fleet.config(host, line.address), machine.boot_id());
    let services = Arc::new(SimServices { host, machine, witness });
    let (_, ceilings) = tokio::sync::watch::channel(config.ceilings);
    let ground = Ground { port: line.port().await?, services, boot, ceilings };
    Ok(daemon::run_on(ground, config, std::future::pending()).await?)
}

/// The coordinator's membership. `hosts`: so many hosts, the first, are in its records.
pub(super) async fn coordinator(
    fleet: Arc<Fleet>,
    machine: Arc<Machine>,
    hosts: usize,
    line: Line,
) -> turmoil::Result {
    inhabit(machine, now_ms());
    let seat = Seat {
        store: fleet.coordinator_store(),
        genesis: fleet.genesis(),
        envelopes: fleet.admitted(hosts),
        key: fleet.keys.admit.clone(),
        identity: Identity::person(fleet.keys.admit.clone())?,
        advertise: line.address,
        seeds: Vec::new(),
        port: line.port().await?,
        gossip_interval: Duration::from_secs(1),
        coordinator: true,
        services: None,
        version: named("simulated"),
    };
    let stop = CancellationToken::new();
    let member = Membership::open(seat, stop.clone()).await?;
    Ok(member.run(Handlers::new(), stop).await?)
}
