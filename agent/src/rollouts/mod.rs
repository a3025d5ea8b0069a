//! The loop around the rollout core: statements, receipts and answers in, effects out.
//!
//! One task owns the state of every scope of this host. Whatever takes long runs elsewhere and
//! answers through one bounded queue: fetching and staging in tasks of their own, commands of the
//! service on a blocking thread, one at a time per service. A kill at any point is fine: the record
//! is made durable before the effects that depend on it, and what is not answered is asked again.

mod archive;
mod bring;
mod clearing;
mod counting;
mod drift;
mod keeping;
mod patching;
mod peerage;
mod scope;
mod steps;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use durable::{Disk, RealDisk};
use ed25519_dalek::SigningKey;
use net::{Gossip, Member};
use proto::record::SLOTS;
use proto::trust::Chain;
use proto::{Env, HostId, PublicKey, Scope, Service};
use rollout::host::Input;
use swarm::{Ledger, Swarm};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::home::Home;
use crate::services::Services;
use member::{Pulse, clock};
use peerage::Peerage;
use scope::Running;

pub(crate) use clearing::Storage;

/// Answers waiting to be taken in. Each scope has a few steps under way at most.
const ANSWERS_MAX: usize = 64;
/// How long to wait at most before looking at the clock again.
const IDLE: Duration = Duration::from_secs(5);

/// What the scopes share.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) config: Arc<Config>,
    pub(crate) home: Home,
    pub(crate) key: SigningKey,
    pub(crate) ledger: Ledger,
    pub(crate) swarm: Swarm,
    pub(crate) gossip: Gossip,
    pub(crate) services: Arc<dyn Services>,
    /// Differs between any two boots of this machine.
    pub(crate) boot: String,
    pub(crate) disk: Arc<dyn Disk>,
    /// What has to turn, so that the service manager leaves the agent alone.
    pub(crate) pulse: Pulse,
    /// What lies on the disk of each service, for people who ask.
    pub(crate) storage: Storage,
}

/// An answer to an effect of a scope.
pub(super) type Answer = (Service, Input);

/// Carries out the rollouts of this host's environment until `stop`; services go on.
///
/// # Errors
///
/// None: what goes wrong with one service is logged and shown, and the others go on.
pub(crate) async fn run(context: Context, env: Env, stop: CancellationToken) {
    let (answers, inbox) = mpsc::channel(ANSWERS_MAX);
    let me = HostId::of(&PublicKey::of(&context.key));
    let (scopes, left_alone) = (BTreeMap::new(), BTreeSet::new());
    let peers = Peerage::new(me.clone());
    let mut driver = Driver {
        context,
        env,
        me,
        answers,
        scopes,
        left_alone,
        peers,
        removed: false,
        twin: None,
        short: false,
    };
    driver.restore().await;
    driver.drive(inbox, stop).await;
}

struct Driver {
    context: Context,
    env: Env,
    me: HostId,
    answers: mpsc::Sender<Answer>,
    scopes: BTreeMap<Service, Running>,
    /// Services of rollouts that `agent.toml` does not allow. One that it did allow once, and that
    /// was left in the middle of something, is brought to an end or back (R23).
    left_alone: BTreeSet<Service>,
    peers: Peerage,
    /// It was said that this host is no longer one of the fleet.
    removed: bool,
    /// Where another machine speaks with this host's key, as the cores were told.
    twin: Option<SocketAddr>,
    /// This host was short of memory when it was last looked at.
    short: bool,
}

impl Driver {
    /// Goes on with what was under way when the agent ended. All services at once: after a boot each
    /// is started, and one that takes long to answer keeps no other down.
    async fn restore(&mut self) {
        let directory = records(&self.context.home);
        if let Err(error) = RealDisk.create_dir_all(&directory) {
            error!(%error, path = %directory.display(), "cannot make the directory of records");
        }
        let names = RealDisk.list(&directory).unwrap_or_default();
        let services = names.iter().filter_map(|name| name.to_str()?.strip_suffix(".json"));
        let mut starts = JoinSet::new();
        for (slot, service) in services.filter_map(|name| name.parse().ok()).enumerate() {
            if slot >= SLOTS {
                too_many(&service);
                continue;
            }
            starts.spawn(self.start(service, slot));
        }
        while let Some(started) = starts.join_next().await {
            match started {
                Ok((service, started)) => self.keep(service, started),
                Err(error) => error!(%error, "a service could not be looked at"),
            }
        }
    }

    async fn drive(&mut self, mut inbox: mpsc::Receiver<Answer>, stop: CancellationToken) {
        let mut statements = self.context.ledger.events();
        let mut members = self.context.gossip.members();
        let mut twin = self.context.gossip.duplicate();
        self.read_statements().await;
        self.tell_twin(&mut twin).await;
        // Not before: to start the services of a host that has booted takes as long as they take.
        let beat = self.context.pulse.part("rollouts");
        loop {
            beat.turn();
            let wait = self.wait();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                // Before the clock: after a long write a bake may be over, and what ended it badly waits.
                Some((service, input)) = inbox.recv() => {
                    if let Some(scope) = self.scopes.get_mut(&service) {
                        scope.take(input).await;
                    }
                }
                () = tokio::time::sleep(wait) => self.tick().await,
                Ok(()) = twin.changed() => self.tell_twin(&mut twin).await,
                Ok(()) = statements.changed() => self.read_statements().await,
                Ok(()) = members.changed() => self.read_receipts(&mut members).await,
            }
        }
    }

    /// Until the next deadline of any scope.
    fn wait(&self) -> Duration {
        let next = self.scopes.values().filter_map(Running::next_deadline).min();
        let left_ms = next.map(|at_ms| at_ms.saturating_sub(clock::boot_ms()));
        left_ms.map_or(IDLE, |left_ms| Duration::from_millis(left_ms).min(IDLE))
    }

    async fn tick(&mut self) {
        let members = self.context.gossip.members().borrow().clone();
        for scope in self.scopes.values_mut() {
            scope.compare(&members).await;
            scope.take(Input::Tick).await;
        }
        self.look_at_host().await;
        self.read_peers(&members).await;
    }

    /// Takes in every effective rollout of this environment, with what is known about it.
    async fn read_statements(&mut self) {
        let chain = self.context.ledger.chain();
        self.peers.meet(&chain, &self.context.ledger.hosts());
        self.tell_removal(&chain);
        let own = chain.heads().filter(|(scope, _)| scope.env == self.env);
        for service in own.map(|(scope, _)| scope.service.clone()).collect::<Vec<_>>() {
            if !self.context.config.allows(&service) {
                if self.left_alone.insert(service.clone()) {
                    info!(%service, "not among the services of agent.toml: nothing new starts");
                }
                if let Some(scope) = self.scopes.get_mut(&service) {
                    scope.read_orders(&chain).await;
                }
                continue;
            }
            if !self.scopes.contains_key(&service) {
                self.add(service.clone()).await;
            }
            if let Some(scope) = self.scopes.get_mut(&service) {
                scope.read_statements(&chain).await;
            }
        }
        // What gossip said of a rollout before its statement came counts from now on.
        let members = self.context.gossip.members().borrow().clone();
        self.offer(&members).await;
    }

    /// A host that was removed serves what it serves, and nobody waits for it.
    fn tell_removal(&mut self, chain: &Chain) {
        let Some((_, removal)) = chain.revocation(&self.me, &self.env) else { return };
        if !std::mem::replace(&mut self.removed, true) {
            warn!(
                host = %self.me, reason = removal.reason,
                "this host was removed from the fleet: its services go on and nothing new starts; \
                 to come back it must join anew with another key"
            );
        }
    }

    /// Of two machines with one key neither starts anything new (R9): both say so, and where the other
    /// one is. What either has started comes to its end, or back.
    async fn tell_twin(&mut self, twin: &mut watch::Receiver<Option<SocketAddr>>) {
        let address = *twin.borrow_and_update();
        if std::mem::replace(&mut self.twin, address) == address {
            return;
        }
        let (host, here) = (&self.me, self.context.config.advertise);
        match address {
            Some(other) => error!(
                %host, %here, %other,
                "another machine uses this host's key: neither starts anything new; stop the agent of \
                 one of the two, remove its state_dir and let it join with a token of its own"
            ),
            None => info!(%host, %here, "no other machine uses this host's key any more"),
        }
        for scope in self.scopes.values_mut() {
            scope.take(Input::Twin { address }).await;
        }
    }

    async fn read_receipts(&mut self, members: &mut watch::Receiver<Arc<Vec<Member>>>) {
        let members = members.borrow_and_update().clone();
        self.offer(&members).await;
    }

    async fn offer(&mut self, members: &[Member]) {
        for scope in self.scopes.values_mut() {
            scope.read_receipts(members).await;
        }
        self.look_at_host().await;
        self.read_peers(members).await;
    }

    /// Whether this host has what it takes to start anything.
    async fn look_at_host(&mut self) {
        let load = self.context.services.host();
        let is_short = load.is_short();
        if std::mem::replace(&mut self.short, is_short) != is_short {
            match is_short {
                true => warn!(%load, "short of memory: nothing new starts here"),
                false => info!(%load, "no longer short of memory"),
            }
        }
        for scope in self.scopes.values_mut() {
            scope.take(Input::Pressed(is_short)).await;
        }
    }

    async fn read_peers(&mut self, members: &[Member]) {
        let heads = self.context.ledger.chain().heads_digest();
        let Some(peers) = self.peers.judge(clock::now(), heads, members) else { return };
        for scope in self.scopes.values_mut() {
            scope.take(Input::Peers(peers)).await;
        }
    }

    async fn add(&mut self, service: Service) {
        let taken: BTreeSet<_> = self.scopes.values().map(Running::slot).collect();
        let Some(slot) = (0..SLOTS).find(|slot| !taken.contains(slot)) else {
            return too_many(&service);
        };
        let (service, started) = self.start(service, slot).await;
        self.keep(service, started);
    }

    /// Its receipts are gossiped in `slot`.
    fn start(
        &self,
        service: Service,
        slot: usize,
    ) -> impl Future<Output = (Service, Result<Running>)> + Send + use<> {
        let scope = Scope { service: service.clone(), env: self.env.clone() };
        let (context, me, answers) = (self.context.clone(), self.me.clone(), self.answers.clone());
        async move { (service, Running::start(context, &me, scope, slot, answers).await) }
    }

    fn keep(&mut self, service: Service, started: Result<Running>) {
        match started {
            Ok(running) => {
                self.scopes.insert(service, running);
                self.peers.say_again();
            }
            // Nothing of this service is touched; a person must look.
            Err(error) => {
                error!(%service, error = format!("{error:#}"), "this service is left alone");
            }
        }
    }
}

fn too_many(service: &Service) {
    error!(%service, "more than {SLOTS} services on one host: this one is left alone");
}

/// Where the record of a service's scope is.
pub(crate) fn record(home: &Home, service: &Service) -> PathBuf {
    records(home).join(format!("{service}.json"))
}

/// Where the records of all scopes are.
fn records(home: &Home) -> PathBuf {
    home.services().join("rollouts")
}

/// For answers of steps: the driver is gone only when the agent stops.
pub(super) async fn answer(answers: &mpsc::Sender<Answer>, service: &Service, input: Input) {
    if answers.send((service.clone(), input)).await.is_err() {
        warn!(%service, "an answer came after the agent began to stop");
    }
}
