//! The parts of a member, wired: endpoint, directory, ledger, gossip, swarm.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use durable::RealDisk;
use ed25519_dalek::SigningKey;
use net::{Alpn, Directory, Endpoint, Gossip, GossipConfig, Handlers, Identity, NetError, Port};
use proto::record::{self, AllowedRecord, HOST_EVERY_MS, HostRecord};
use proto::statement::{Host, Statement};
use proto::trust::Standing;
use proto::{Digest, HostId, Name, Service};
use swarm::ledger::OpenError;
use swarm::{Ledger, Store, StoreError, Swarm};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{clock, ways_back};

/// What makes a process a member.
pub struct Seat {
    /// Directory of statements and content.
    pub store: PathBuf,
    /// Id of the first root.
    pub genesis: Digest,
    /// Envelopes known from elsewhere: roots from version 1, the own host statement.
    pub envelopes: Vec<Vec<u8>>,
    pub key: SigningKey,
    pub identity: Identity,
    pub port: Port,
    /// Where others reach it.
    pub advertise: SocketAddr,
    pub seeds: Vec<SocketAddr>,
    pub gossip_interval: Duration,
    pub coordinator: bool,
    /// The only services that may run there; none: every one.
    pub services: Option<BTreeSet<Service>>,
    /// Of its daemon.
    pub version: Name,
}

/// Why a process is no member. Nothing is heard of it then.
#[derive(Debug, thiserror::Error)]
pub enum JoinFleetError {
    #[error("cannot open the store in {}", path.display())]
    Store {
        path: PathBuf,
        #[source]
        source: StoreError,
    },
    #[error("cannot open the ledger")]
    Ledger(#[from] OpenError),
    #[error("the port")]
    Port(#[from] NetError),
    #[error("a part of it failed at the start")]
    Failed(#[from] tokio::task::JoinError),
}

/// A member of the fleet. Cheap to clone.
#[derive(Clone)]
pub struct Membership {
    pub endpoint: Endpoint,
    pub directory: Directory,
    pub ledger: Ledger,
    pub gossip: Gossip,
    pub swarm: Swarm,
    coordinator: bool,
    version: Name,
}

impl Membership {
    /// Opens the store, binds the port and begins to gossip; answers nobody before [`Self::run`].
    ///
    /// # Errors
    ///
    /// [`JoinFleetError`].
    pub async fn open(seat: Seat, stop: CancellationToken) -> Result<Self, JoinFleetError> {
        let Seat { store, genesis, envelopes, key, identity, port, advertise, seeds, .. } = seat;
        let ledger = spawn_blocking(move || open_ledger(store, genesis, &envelopes)).await??;
        let chain = ledger.chain();
        let directory = Directory::new(chain.root().clone());
        fill(&directory, &ledger);
        let endpoint = Endpoint::open(port, identity, directory.clone())?;
        let (verifying, sending) = (ledger.clone(), ledger.clone());
        let config = GossipConfig {
            fleet: chain.fleet().clone(),
            key,
            advertise,
            seeds,
            interval: seat.gossip_interval,
            verify: Arc::new(move |envelope| take_in_host(&verifying, envelope)),
            envelope: Arc::new(move |host: &HostId| sending.host_envelope(host)),
        };
        let gossip = Gossip::spawn(endpoint.clone(), config, stop);
        if let Some(services) = seat.services {
            tell_allowed(&gossip, services);
        }
        let swarm = Swarm::new(&endpoint, ledger.clone(), gossip.clone());
        let (coordinator, version) = (seat.coordinator, seat.version);
        Ok(Self { endpoint, directory, ledger, gossip, swarm, coordinator, version })
    }

    /// Serves the protocols of `more` and those every member serves, keeps directory, statements and what
    /// goes first in the swarm in step with the fleet and says what it is, until `stop`.
    ///
    /// # Errors
    ///
    /// [`NetError`]: the port cannot be served.
    pub async fn run(&self, more: Handlers, stop: CancellationToken) -> Result<(), NetError> {
        let handlers =
            more.on(Alpn::Gossip, self.gossip.handler()).on(Alpn::Swarm, self.swarm.handler());
        let (served, (), (), (), ()) = tokio::join!(
            self.endpoint.serve(handlers, stop.clone()),
            self.swarm.run(stop.clone()),
            keep_directory(&self.directory, &self.ledger, stop.clone()),
            ways_back::keep(&self.swarm, &self.ledger, stop.clone()),
            keep_record(&self.ledger, &self.gossip, self.coordinator, &self.version, stop),
        );
        served
    }
}

/// Says which services alone may run here. It is read from a file at the start: so it stands for as long
/// as the process lives.
fn tell_allowed(gossip: &Gossip, services: BTreeSet<Service>) {
    let word = record::to_text(&AllowedRecord { services });
    if let Err(error) = gossip.set(record::ALLOWED, &word) {
        error!(%error, "this host does not say which services may run here");
    }
}

/// Takes roots, hosts and removals of the ledger over into the directory, those that came before this
/// was called, too, until `stop`.
async fn keep_directory(directory: &Directory, ledger: &Ledger, stop: CancellationToken) {
    let mut events = ledger.events();
    loop {
        fill(directory, ledger);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = events.changed() => if changed.is_err() { return },
        }
    }
}

/// Says what a member is: now, every [`HOST_EVERY_MS`] at most and whenever the heads change, until
/// `stop`. `version`: of its daemon.
pub async fn keep_record(
    ledger: &Ledger,
    gossip: &Gossip,
    coordinator: bool,
    version: &Name,
    stop: CancellationToken,
) {
    let mut events = ledger.events();
    let mut said = ledger.chain().heads_digest();
    loop {
        let word =
            HostRecord { coordinator, version: version.clone(), at: clock::unix(), heads: said };
        if let Err(error) = gossip.set(record::HOST, &record::to_text(&word)) {
            error!(%error, "this member does not say what it is");
        }
        let next = tokio::time::sleep(record_pause());
        let heads = async {
            while events.changed().await.is_ok() {
                let heads = ledger.chain().heads_digest();
                if heads != said {
                    return heads;
                }
            }
            std::future::pending().await
        };
        said = tokio::select! {
            () = stop.cancelled() => return,
            () = next => ledger.chain().heads_digest(),
            heads = heads => heads,
        };
    }
}

/// Until the record is said anew: members that started together must not all speak at once.
fn record_pause() -> Duration {
    Duration::from_millis(rand::random_range(HOST_EVERY_MS / 5 * 4..=HOST_EVERY_MS))
}

/// Brings a directory up to what the ledger holds.
fn fill(directory: &Directory, ledger: &Ledger) {
    let chain = ledger.chain();
    directory.set_root(chain.root().clone());
    for host in ledger.hosts() {
        if let Some(removal) = chain.removal(&host) {
            directory.remove_host(&host.id, &removal.reason);
        }
        directory.add_host(host);
    }
}

fn open_ledger(
    path: PathBuf,
    genesis: Digest,
    envelopes: &[Vec<u8>],
) -> Result<Ledger, JoinFleetError> {
    let store = Store::open(Arc::new(RealDisk), &path)
        .map_err(|source| JoinFleetError::Store { path, source })?;
    let first = envelopes.first().map(Vec::as_slice);
    let ledger = Ledger::open(store, genesis, first, clock::unix)?;
    for envelope in envelopes {
        if let Err(error) = ledger.admit_kept(envelope) {
            warn!(%error, "a statement that was given is not taken in");
        }
    }
    Ok(ledger)
}

/// Verifies the envelope of a host statement and keeps it.
fn take_in_host(ledger: &Ledger, envelope: &[u8]) -> Option<Host> {
    let admitted = ledger.admit(envelope).ok()?;
    match (admitted.statement, admitted.standing) {
        (Statement::Host(host), Standing::Effective) => Some(host),
        // Below the threshold of `host-ca` it is kept, and nobody's identity yet.
        _ => None,
    }
}

#[cfg(test)]
mod test {
    use std::path::Path;

    use durable::SimDisk;
    use proto::UnixTime;
    use proto::statement::{KeyEntry, Payload, Role, RoleKeys, Root};
    use proto::{KeyId, PublicKey};

    use super::*;

    /// A root of one key for everything but the coordinator.
    fn root(key: &SigningKey) -> Root {
        let [public, coordinator] = [key, &SigningKey::from_bytes(&[8; 32])].map(PublicKey::of);
        let owned = |key: PublicKey, owner: &str| {
            (KeyId::of(&key), KeyEntry { key, owner: owner.parse().unwrap() })
        };
        let held = |role, key| (role, RoleKeys { keys: [KeyId::of(key)].into(), threshold: 1 });
        Root {
            fleet: "test-00000000".parse().unwrap(),
            version: 1,
            expires: UnixTime(1 << 40),
            roles: [
                held(Role::Root, &public),
                held(Role::Publish, &public),
                held(Role::HostCa, &public),
                held(Role::Admit, &coordinator),
            ]
            .into(),
            keys: [owned(public, "ada"), owned(coordinator, "coordinator")].into(),
            environments: [].into(),
            critical: vec![],
        }
    }

    /// R9: statements come over gossip from the moment the port is open, before anybody follows.
    #[tokio::test]
    async fn r9_hosts_that_came_before_the_directory_was_kept_are_in_it() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = |mut envelope: proto::dsse::Envelope| {
            envelope.sign(&key);
            envelope.to_bytes()
        };
        let (root, public) = (root(&key), PublicKey::of(&key));
        let id = root.envelope().id();
        let store = Store::open(Arc::new(SimDisk::new()), Path::new("/state")).unwrap();
        let genesis = signed(root.envelope());
        let ledger = Ledger::open(store, id, Some(&genesis), clock::unix).unwrap();
        let host = Host {
            fleet: root.fleet.clone(),
            id: HostId::of(&public),
            key: public,
            name: "one".parse().unwrap(),
            labels: [].into(),
            issued: UnixTime(1),
            critical: vec![],
        };
        let directory = Directory::new(root);
        ledger.admit(&signed(host.envelope())).unwrap();
        let stop = CancellationToken::new();
        let kept = keep_directory(&directory, &ledger, stop.clone());
        stop.cancel();
        kept.await;
        assert_eq!(directory.host(&host.id), Some(host));
    }
}
