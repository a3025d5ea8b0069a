//! Wires the coordinator together, starts it in order, and stops it within a grace period.
//!
//! It is a member like any host: it gossips under the id of its admit key, and its swarm fetches the
//! statements that members announce. So one that was away, or was restored from a backup, learns
//! from the fleet what it missed; nothing waits for that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use member::{JoinFleetError, Membership, Pulse, Seat, View, chain, manager};
use net::join::Door;
use net::{Alpn, Handlers, Identity, NetError, Port};
use proto::id::FleetId;
use swarm::Swarm;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::{self, JoinSet};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::audit;
use crate::chronicle;
use crate::config::Config;
use crate::control;
use crate::desk::{Desk, blocking};
use crate::drafts::Drafts;
use crate::files::{self, FilesError, Keys, Roots};
use crate::join::Registrar;
use crate::metrics;
use crate::notify::post::Post;
use crate::notify::{Context, Office};
use crate::patches;
use crate::publish::UPLOADS_MAX;
use crate::store::{Store, StoreError};
use crate::web;

/// How long the parts have to end once they were asked to.
pub const GRACE: Duration = Duration::from_secs(10);
/// Between two looks whether the list of members on disk is still right.
const SEEDS_EVERY: Duration = Duration::from_secs(30);

/// Why the coordinator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("the coordinator's database does not work")]
    Store(#[from] StoreError),
    #[error("cannot make a certificate of the admit key")]
    Identity(#[source] net::certificate::CertificateError),
    #[error("cannot take part in the fleet")]
    Member(#[from] JoinFleetError),
}

/// Why the coordinator did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    #[error("{part} failed")]
    Part {
        part: &'static str,
        #[source]
        source: NetError,
    },
    #[error("{part} ended, and must not")]
    Ended { part: &'static str },
    #[error("{part} failed")]
    Panic {
        part: &'static str,
        #[source]
        source: task::JoinError,
    },
    #[error("{} did not stop within {} s", parts.join(", "), GRACE.as_secs())]
    Stuck { parts: Vec<&'static str> },
}

/// A coordinator that runs.
pub struct Daemon {
    desk: Arc<Desk>,
    address: SocketAddr,
    parts: Parts,
}

/// What runs, each under its name.
struct Parts {
    stop: CancellationToken,
    tasks: JoinSet<(&'static str, Result<(), NetError>)>,
    names: BTreeMap<task::Id, &'static str>,
}

impl Daemon {
    /// Starts everything; ready to answer when it returns. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`StartError`]: nothing is left running.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let mut parts = Parts::new();
        // Cancelled unless the start comes to its end.
        let unfinished = parts.stop.clone().drop_guard();
        let desk = Arc::new(take_seat(config, &parts.stop).await?);
        let address = desk.member.endpoint.local_addr().unwrap_or(config.bind);
        let handlers = Handlers::new()
            .on(Alpn::Control, Arc::new(control::Shared::new(desk.clone())))
            .on(Alpn::Join, Arc::new(Door::new(Arc::new(Registrar::new(desk.clone())))));
        let member = desk.member.clone();
        parts.run("member", |stop| async move { member.run(handlers, stop).await });
        let (view, pulse) = (desk.view.clone(), Pulse::default());
        let beat = pulse.part("view");
        parts.run("view", |stop| async move {
            view.follow(beat, stop).await;
            Ok(())
        });
        let seeds = files::seeds_path(&config.state_dir);
        parts.run("seeds", |stop| keep_seeds(desk.clone(), seeds, stop));
        let patches = desk.clone();
        parts.run("patches", |stop| patches::make_all(patches, stop));
        let pages = desk.clone();
        parts.run("pages", |stop| web::serve(pages, stop));
        let chronicle = desk.clone();
        parts.run("chronicle", |stop| chronicle::keep(chronicle, stop));
        parts.run("audit record", |stop| audit::tell::keep(desk.clone(), stop));
        if let Some(address) = config.metrics {
            let desk = desk.clone();
            parts.run("metrics", |stop| async move {
                member::metrics::serve(address, Arc::new(move || metrics::page(&desk)), stop).await;
                Ok(())
            });
        }
        let (office, newest) = (desk.notify.clone(), desk.events.clone());
        parts.run("notify", |stop| office.run(newest, stop));
        let view = desk.view.clone();
        parts.run("manager", |stop| async move {
            manager::tell(view, pulse, stop).await;
            Ok(())
        });
        unfinished.disarm();
        Ok(Self { desk, address, parts })
    }

    /// The address bound.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn fleet(&self) -> FleetId {
        self.desk.member.ledger.chain().fleet().clone()
    }

    /// Where its pieces pass.
    pub fn swarm(&self) -> &Swarm {
        &self.desk.member.swarm
    }

    /// The line that says that it answers now.
    pub async fn ready_line(&self) -> String {
        let (hosts, releases) =
            (self.desk.member.ledger.hosts().len(), self.desk.store.release_count());
        let releases = releases.await.unwrap_or_default();
        format!(
            "ready: fleet {}, coordinator {}, {}/udp, {hosts} hosts, {releases} releases",
            self.fleet(),
            self.desk.member.gossip.me(),
            self.address,
        )
    }

    /// Runs until `asked`, or until a part ends that must not; then stops the rest.
    ///
    /// # Errors
    ///
    /// [`StopError`]: the first thing that went wrong.
    pub async fn run(self, asked: impl Future<Output = ()>) -> Result<(), StopError> {
        let outcome = self.parts.run_until(asked).await;
        if time::timeout(GRACE, self.desk.store.close()).await.is_err() {
            warn!("the database is still in use: what was committed is safe");
        }
        outcome
    }
}

// --- impl Parts ---

impl Parts {
    fn new() -> Self {
        Self { stop: CancellationToken::new(), tasks: JoinSet::new(), names: BTreeMap::new() }
    }

    fn run<F>(&mut self, name: &'static str, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), NetError>> + Send + 'static,
    {
        let work = part(self.stop.clone());
        let handle = self.tasks.spawn(async move { (name, work.await) });
        self.names.insert(handle.id(), name);
    }

    async fn run_until(mut self, asked: impl Future<Output = ()>) -> Result<(), StopError> {
        let mut outcome = Ok(());
        tokio::select! {
            () = asked => info!("asked to stop"),
            Some(ended) = self.tasks.join_next_with_id() => {
                let part = settle(&mut self.names, ended);
                outcome = part.and_then(|part| Err(StopError::Ended { part }));
            }
        }
        self.stop.cancel();
        let Self { tasks, names, .. } = &mut self;
        let rest = async {
            while let Some(ended) = tasks.join_next_with_id().await {
                match (settle(names, ended), &outcome) {
                    (Err(error), Ok(())) => outcome = Err(error),
                    (Err(error), Err(_)) => warn!(error = chain(&error), "also failed"),
                    (Ok(_), _) => {}
                }
            }
        };
        if time::timeout(GRACE, rest).await.is_err() {
            self.tasks.abort_all();
            let parts = self.names.into_values().collect();
            return outcome.and(Err(StopError::Stuck { parts }));
        }
        outcome
    }
}

type Ended = Result<(task::Id, (&'static str, Result<(), NetError>)), task::JoinError>;

/// Which part ended well.
fn settle(
    names: &mut BTreeMap<task::Id, &'static str>,
    ended: Ended,
) -> Result<&'static str, StopError> {
    match ended {
        Ok((id, (part, result))) => {
            names.remove(&id);
            result.map_err(|source| StopError::Part { part, source })?;
            Ok(part)
        }
        Err(source) => {
            let part = names.remove(&source.id()).unwrap_or("a part");
            Err(StopError::Panic { part, source })
        }
    }
}

// --- starting ---

/// Reads the files, opens the records and joins the fleet as the member with the admit key.
async fn take_seat(config: &Config, stop: &CancellationToken) -> Result<Desk, StartError> {
    let keys = Keys::read(config)?;
    let roots = Roots::read(&config.root_dir)?;
    let scratch = files::prepare(&config.state_dir)?;
    let store = Store::open(&config.state_dir.join("coordinator.db")).await?;
    // What the swarm's store has lost, or had not got yet when the coordinator was killed.
    let kept = store.hosts().await?.into_iter().chain(store.releases().await?);
    let envelopes = roots.envelopes.into_iter().chain(kept).collect();
    let seat = Seat {
        store: config.state_dir.join("swarm"),
        genesis: roots.genesis,
        envelopes,
        key: keys.admit.clone(),
        identity: Identity::person(keys.admit.clone()).map_err(StartError::Identity)?,
        port: Port::Machine(config.bind),
        advertise: config.advertise,
        seeds: files::read_seeds(&config.state_dir),
        gossip_interval: config.gossip_interval,
        coordinator: true,
        services: None,
        version: env!("CARGO_PKG_VERSION").parse().expect("a version is a name"),
    };
    let member = Membership::open(seat, stop.clone()).await?;
    member.swarm.set_ceilings(config.ceilings);
    keys.check(member.ledger.chain().root())?;
    let dashboard = Some(config.https_url.clone());
    let context = Context { fleet: member.ledger.chain().fleet().clone(), dashboard };
    let notify = Office::new(store.clone(), context, config.notify.clone(), Post::new());
    let name = "coordinator".parse().expect("a name");
    Ok(Desk {
        events: store.events_newest(),
        store,
        view: View::new(member.ledger.clone(), member.gossip.members(), name),
        member,
        admit_key: keys.admit,
        host_ca_key: keys.host_ca,
        genesis: roots.genesis,
        advertise: config.advertise,
        config: config.clone(),
        checkups: Semaphore::new(member::checkup::CHECKUPS_MAX),
        taking_in: Mutex::new(()),
        uploads: Semaphore::new(UPLOADS_MAX),
        scratch,
        https_url: config.https_url.clone(),
        https_certificate: watch::Sender::default(),
        drafts: Drafts::default(),
        record: watch::Sender::default(),
        looked: watch::Sender::default(),
        notify: Arc::new(notify),
    })
}

// --- parts ---

/// Keeps the addresses of live members on disk, so that a fleet that starts cold finds itself (R10).
async fn keep_seeds(
    desk: Arc<Desk>,
    path: PathBuf,
    stop: CancellationToken,
) -> Result<(), NetError> {
    let mut kept = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = time::sleep(SEEDS_EVERY) => {}
        }
        let mut live: Vec<_> =
            desk.live_members().into_iter().map(|(_, address)| address).collect();
        live.truncate(files::SEEDS_MAX);
        // An empty list is worth less than an old one.
        if live.is_empty() || live == kept {
            continue;
        }
        kept.clone_from(&live);
        let path = path.clone();
        let written = blocking("keep seeds", move || files::write_seeds(&path, &live)).await;
        if let Ok(Err(error)) = written {
            warn!(error = chain(&error), "the list of members is not kept");
        }
    }
}
