//! One life of a member: the real gossip, ledger and swarm, at its end of the simulated network.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use durable::SimDisk;
use net::{Alpn, Directory, Endpoint, Gossip, GossipConfig, Handlers, clock};
use proto::statement::Host;
use swarm::{Ledger, Store, Swarm};
use tokio_util::sync::CancellationToken;

use super::fleet::{Fleet, address};
use super::network::Network;
use crate::sim_ground::people::named;

/// Hosts that everybody is told to start with, beside the coordinator.
const SEEDS: usize = 2;

pub(super) struct Member {
    pub(super) stop: CancellationToken,
    pub(super) gossip: Gossip,
    pub(super) ledger: Ledger,
}

impl Member {
    /// The member with this number comes up, with what is on this disk.
    pub(super) fn start(
        fleet: &Fleet,
        network: &Network,
        number: usize,
        disk: Arc<SimDisk>,
        interval: Duration,
    ) -> Self {
        let (stop, directory) = (CancellationToken::new(), fleet.directory());
        let ledger = open_ledger(fleet, disk);
        let (port, carry) = network.plug(number, fleet.id(number));
        let endpoint = Endpoint::open(port, fleet.identity(number), directory.clone());
        let endpoint = endpoint.expect("a simulated port opens");
        let coordinator = fleet.hosts.len();
        let seeds = (0..SEEDS.min(coordinator)).chain([coordinator]);
        let config = GossipConfig {
            fleet: fleet.root.fleet.clone(),
            key: fleet.key(number),
            advertise: address(number),
            seeds: seeds.map(address).collect(),
            interval,
            // Everybody is known: nobody asks.
            verify: Arc::new(|_| None),
            envelope: Arc::new(|_| None),
        };
        let gossip = Gossip::simulated(carry, directory.clone(), config, stop.clone());
        network.attach(number, gossip.clone());
        let member = Self { stop, gossip, ledger };
        let hosts = fleet.hosts.clone();
        tokio::spawn(member.run(endpoint, number == coordinator, directory, hosts));
        member
    }

    /// What a [`member::Membership`] does besides gossip, until it is stopped.
    fn run(
        &self,
        endpoint: Endpoint,
        is_coordinator: bool,
        directory: Directory,
        hosts: Vec<Host>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let Self { stop, gossip, ledger } = self;
        let (stop, gossip, ledger) = (stop.clone(), gossip.clone(), ledger.clone());
        async move {
            let swarm = Swarm::new(&endpoint, ledger.clone(), gossip.clone());
            let handlers = Handlers::new().on(Alpn::Swarm, swarm.handler());
            let version = named("simulated");
            let (served, (), (), ()) = tokio::join!(
                endpoint.serve(handlers, stop.clone()),
                swarm.run(stop.clone()),
                member::keep_record(&ledger, &gossip, is_coordinator, &version, stop.clone()),
                refuse_removed(&ledger, &directory, &hosts, stop),
            );
            served.expect("an identity that can serve");
        }
    }
}

fn open_ledger(fleet: &Fleet, disk: Arc<SimDisk>) -> Ledger {
    let store = Store::open(disk, Path::new("/swarm")).expect("the disk works");
    let genesis = fleet.genesis();
    let opened = Ledger::open(store, genesis.id(), Some(&genesis.to_bytes()), clock::unix);
    opened.expect("what is on the disk is whole")
}

/// Takes the removals of the ledger over into the directory, until `stop`.
async fn refuse_removed(
    ledger: &Ledger,
    directory: &Directory,
    hosts: &[Host],
    stop: CancellationToken,
) {
    let mut events = ledger.events();
    loop {
        let chain = ledger.chain();
        for host in hosts {
            if let Some(removal) = chain.removal(host) {
                directory.remove_host(&host.id, &removal.reason);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = events.changed() => if changed.is_err() { return },
        }
    }
}
