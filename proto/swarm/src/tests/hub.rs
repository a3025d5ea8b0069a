//! Nodes with real endpoints, and gossip by hand: who hears whom is up to the test.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use durable::{Disk, RealDisk};
use net::{Alpn, Connection, Endpoint, Handler, Handlers, Member};
use proto::HostId;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::kit::{directory, genesis, host_id, identity, now};
use crate::ledger::Ledger;
use crate::store::Store;
use crate::transfer::provide::MANIFESTS_MAX;
use crate::{Hearsay, Swarm};

/// Longer than anything here takes, shorter than the patience of whoever runs the tests.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
pub(super) const HOSTS: [&str; 7] = ["one", "two", "three", "four", "five", "six", "liar"];

type View = watch::Sender<Arc<Vec<Member>>>;

/// Gossip by hand: what a member says reaches all others at once, unless they are deaf to it.
#[derive(Clone, Default)]
pub(super) struct Hub(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    members: BTreeMap<HostId, Member>,
    views: BTreeMap<HostId, View>,
    deaf: BTreeSet<(HostId, HostId)>,
}

impl Hub {
    /// From now on `listener` hears nothing of `speaker`.
    pub(super) fn deafen(&self, listener: &str, speaker: &str) {
        self.0.lock().unwrap().deaf.insert((host_id(listener), host_id(speaker)));
        self.0.lock().unwrap().spread();
    }

    pub(super) fn dies(&self, name: &str) {
        let mut heard = self.0.lock().unwrap();
        heard.members.get_mut(&host_id(name)).unwrap().alive = false;
        heard.spread();
    }

    pub(super) fn says(&self, host: &HostId, key: &str, value: &str) {
        let mut heard = self.0.lock().unwrap();
        let Some(member) = heard.members.get_mut(host) else { return };
        member.values.insert(key.to_owned(), value.to_owned());
        heard.spread();
    }

    pub(super) fn join(&self, host: &HostId, address: SocketAddr) {
        let member = Member {
            host: host.clone(),
            address,
            generation: 1,
            alive: true,
            twin: None,
            values: BTreeMap::new(),
        };
        let mut heard = self.0.lock().unwrap();
        heard.members.insert(host.clone(), member);
        heard.spread();
    }

    fn hearsay(&self, me: HostId) -> Hearsay {
        let mut heard = self.0.lock().unwrap();
        let members = heard.views.entry(me.clone()).or_default().subscribe();
        heard.spread();
        let (hub, own) = (self.clone(), me.clone());
        let set = move |key: &str, value: &str| hub.says(&own, key, value);
        Hearsay { me, members, set: Arc::new(set) }
    }
}

impl Heard {
    fn spread(&self) {
        for (listener, view) in &self.views {
            let hears =
                |member: &&Member| !self.deaf.contains(&(listener.clone(), member.host.clone()));
            view.send_replace(Arc::new(self.members.values().filter(hears).cloned().collect()));
        }
    }
}

/// A member: what it holds, and its endpoint. Stops when dropped.
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) swarm: Swarm,
    pub(super) address: SocketAddr,
    pub(super) dir: Arc<TempDir>,
    _stop: DropGuard,
}

/// How a node is made.
pub(super) struct Setup {
    pub(super) name: &'static str,
    pub(super) dir: Option<Arc<TempDir>>,
    pub(super) disk: Arc<dyn Disk>,
    /// Given at a time.
    pub(super) manifests: usize,
    /// Answers instead of the swarm.
    pub(super) handler: Option<Arc<dyn Handler>>,
    /// Answers, and neither announces nor fetches anything by itself.
    pub(super) quiet: bool,
}

impl Setup {
    pub(super) fn of(name: &'static str) -> Self {
        let (dir, disk, manifests, handler) = (None, Arc::new(RealDisk), MANIFESTS_MAX, None);
        Self { name, dir, disk, manifests, handler, quiet: false }
    }

    pub(super) fn start(self, hub: &Hub) -> Node {
        let Self { name, dir, disk, manifests, handler, quiet } = self;
        let dir = dir.unwrap_or_else(|| Arc::new(TempDir::new().unwrap()));
        let loopback = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(loopback, identity(name), directory(&HOSTS)).unwrap();
        let address = endpoint.local_addr().unwrap();
        hub.join(&host_id(name), address);
        let hearsay = hub.hearsay(host_id(name));
        let swarm = Swarm::with(&endpoint, open(disk, dir.path()), hearsay, manifests);
        let stop = CancellationToken::new();
        let handlers = Handlers::new().on(Alpn::Swarm, handler.unwrap_or_else(|| swarm.handler()));
        let (serving, running) = (endpoint.clone(), swarm.clone());
        let (until, and_until) = (stop.clone(), stop.clone());
        tokio::spawn(async move { serving.serve(handlers, until).await.unwrap() });
        if !quiet {
            tokio::spawn(async move { running.run(and_until).await });
        }
        Node { name, swarm, address, dir, _stop: stop.drop_guard() }
    }
}

pub(super) fn node(hub: &Hub, name: &'static str) -> Node {
    Setup::of(name).start(hub)
}

pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Ledger {
    let store = Store::open(disk, dir).unwrap();
    let genesis = genesis();
    Ledger::open(store, genesis.id(), Some(&genesis.to_bytes()), now).unwrap()
}

/// Takes questions and never answers, like a member that was stopped.
#[derive(Default)]
pub(super) struct Silent {
    pub(super) asked: AtomicU32,
    /// Connections that the asker has given up.
    pub(super) given_up: AtomicU32,
}

#[async_trait]
impl Handler for Silent {
    async fn connection(&self, connection: Connection) {
        let mut kept = Vec::new();
        while let Ok(streams) = connection.accept_bi().await {
            kept.push(streams);
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until `what` holds, or fails the test.
pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            time::sleep(Duration::from_millis(10)).await;
        }
    };
    time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
