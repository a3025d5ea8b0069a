//! The agent's parts, wired, and how it stops.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use durable::RealDisk;
use member::{Membership, Pulse, Seat, View, manager, metrics};
use net::{Alpn, Handlers, Identity, Port};
use proto::statement::Host;
use proto::{HostId, PublicKey};
use swarm::Ceilings;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::checkup::Checkup;
use crate::config::Config;
use crate::control::{Cellar, Control};
use crate::home::Home;
use crate::page::Page;
use crate::reload::{self, keep_ceilings};
use crate::renewal;
use crate::rollouts::{self, Storage};
use crate::services::{Machine, Services, boot_id};
use crate::witness::Witness;

/// How long the parts have to end once the agent stops.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// After how long the addresses of members are first written down for the next start, and how often
/// in the long run.
const SEEDS_FIRST: Duration = Duration::from_secs(1);
const SEEDS_EVERY: Duration = Duration::from_secs(30);

/// What an agent stands on: the machine, or a simulated one.
pub struct Ground {
    pub port: Port,
    pub services: Arc<dyn Services>,
    /// Differs between any two boots ([`boot_id`]).
    pub boot: String,
    /// The ceilings in force, and what they become.
    pub ceilings: watch::Receiver<Ceilings>,
}

impl Ground {
    /// This machine. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// The directories of services cannot be made.
    pub fn machine(config: &Config) -> Result<Self> {
        let services = services(config, Handle::current())?;
        let (_, ceilings) = watch::channel(config.ceilings);
        Ok(Self { port: Port::Machine(config.bind), services, boot: boot_id(), ceilings })
    }
}

/// This machine's services, asked on `runtime`.
///
/// # Errors
///
/// Their directories cannot be made.
pub(crate) fn services(config: &Config, runtime: Handle) -> Result<Arc<dyn Services>> {
    let state_dir = Home::new(&config.state_dir).services();
    let machine = Machine::new(&state_dir, config.allowed.clone(), runtime)
        .context("cannot make the directories of services")?;
    Ok(Arc::new(machine))
}

/// Runs the agent on this machine until SIGTERM or SIGINT; at SIGHUP reads the file at `path`, where
/// `config` is from, anew. Services are left as they are.
///
/// # Errors
///
/// A chain for people, before anything is served; or the port failed.
pub async fn run(config: Config, path: &Path) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be caught")?;
    let asked = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let hangup = signal(SignalKind::hangup()).context("signals cannot be caught")?;
    let (told, ceilings) = watch::channel(config.ceilings);
    let ground = Ground { ceilings, ..Ground::machine(&config)? };
    let follow = reload::follow(hangup, path.to_owned(), config.clone(), told);
    tokio::select! {
        ended = run_on(ground, config, asked) => ended,
        never = follow => match never {},
    }
}

/// Runs the agent until `asked`. Services are left as they are.
///
/// # Errors
///
/// As [`run`].
pub async fn run_on(ground: Ground, config: Config, asked: impl Future<Output = ()>) -> Result<()> {
    let stop = CancellationToken::new();
    let home = Home::new(&config.state_dir);
    let Ground { port, services, boot, ceilings } = ground;
    let (seat, key) = seat(&home, &config, port)?;
    let me = HostId::of(&PublicKey::of(&key));
    let member = Membership::open(seat, stop.clone()).await?;
    let own = member.ledger.host(&me).context("this host's own statement does not verify")?;
    let view = View::new(member.ledger.clone(), member.gossip.members(), own.name.clone());
    let (pulse, storage) = (Pulse::default(), Storage::default());
    let context = rollouts::Context {
        config: Arc::new(config.clone()),
        home: home.clone(),
        key: key.clone(),
        ledger: member.ledger.clone(),
        swarm: member.swarm.clone(),
        gossip: member.gossip.clone(),
        services,
        boot,
        disk: Arc::new(RealDisk),
        pulse: pulse.clone(),
        storage: storage.clone(),
    };
    let cellar =
        Cellar { storage, config: context.config.clone(), home: home.clone(), env: own.env() };
    let witness = Witness::open(home.clone());
    let checkup = Checkup::new(config.clone(), member.clone(), view.clone(), witness.clone());
    let control = Control::new(&member, view.clone(), cellar, checkup, witness.clone());
    let handlers = Handlers::new().on(Alpn::Control, control);

    let mut parts = JoinSet::new();
    let mut names = BTreeMap::new();
    let mut part = |name: &'static str, handle: tokio::task::AbortHandle| {
        names.insert(handle.id(), name);
    };
    part("view", parts.spawn(ended(view.clone().follow(pulse.part("view"), stop.clone()))));
    part("seeds", parts.spawn(ended(keep_seeds(home.clone(), member.clone(), stop.clone()))));
    part(
        "renewal",
        parts.spawn(ended(renewal::run(home.clone(), key, member.clone(), stop.clone()))),
    );
    let limited = member.swarm.clone();
    part("ceilings", parts.spawn(ended(keep_ceilings(limited, ceilings, stop.clone()))));
    part("witness", parts.spawn(ended(witness.clone().run(member.clone(), stop.clone()))));
    part("rollouts", parts.spawn(ended(roll(context, own.clone(), stop.clone()))));
    if let Some(address) = config.metrics {
        let page = Page { member: member.clone(), home: home.clone(), key: own.key, witness };
        let serving = metrics::serve(address, Arc::new(move || page.text()), stop.clone());
        part("metrics", parts.spawn(ended(serving)));
    }
    let serving = (member.clone(), stop.clone());
    part("port", parts.spawn(async move { Ok(serving.0.run(handlers, serving.1).await?) }));
    part("manager", parts.spawn(ended(manager::tell(view, pulse, stop.clone()))));

    info!(
        fleet = %own.fleet, host = %own.id, name = %own.name, address = %config.advertise,
        env = own.env().map(|env| env.to_string()), ceilings = %config.ceilings, "ready"
    );
    until_stop(&mut parts, &names, asked, &stop).await
}

/// What makes this process this host.
fn seat(home: &Home, config: &Config, port: Port) -> Result<(Seat, ed25519_dalek::SigningKey)> {
    let key = home.key()?;
    let joined = home.joined()?;
    let certificate = home.certificate()?;
    let identity = Identity::host(key.clone(), certificate).context("the host's certificate")?;
    let envelopes = joined.roots.into_iter().chain([joined.host]).map(String::into_bytes);
    let seat = Seat {
        store: home.store(),
        genesis: joined.root,
        envelopes: envelopes.collect(),
        key: key.clone(),
        identity,
        port,
        advertise: config.advertise,
        seeds: home.seeds()?,
        gossip_interval: config.gossip_interval,
        coordinator: false,
        services: config.services.clone(),
        version: env!("CARGO_PKG_VERSION").parse().context("the version is a name")?,
    };
    Ok((seat, key))
}

async fn ended(part: impl Future<Output = ()>) -> Result<()> {
    part.await;
    Ok(())
}

/// Carries out rollouts.
async fn roll(context: rollouts::Context, own: Host, stop: CancellationToken) {
    let Some(env) = own.env() else {
        warn!(host = %own.id, "no label `env`: this host takes part in no rollout");
        return stop.cancelled().await;
    };
    rollouts::run(context, env, stop).await;
}

/// Writes down where members are, so that a cold fleet finds itself without the coordinator (R10).
async fn keep_seeds(home: Home, member: Membership, stop: CancellationToken) {
    let members = member.gossip.members();
    let mut written: Vec<SocketAddr> = home.seeds().unwrap_or_default();
    // At first more often: a fleet that has just been set up may lose its coordinator, too.
    let mut pause = SEEDS_FIRST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (2 * pause).min(SEEDS_EVERY),
        }
        let me = member.gossip.me();
        let others = members.borrow().clone();
        let others = others.iter().filter(|other| other.alive && other.host != *me);
        let mut seeds: Vec<SocketAddr> = others.map(|other| other.address).collect();
        // Nobody is there: what was known before is all there is.
        if seeds.is_empty() {
            continue;
        }
        seeds.sort_unstable();
        if seeds == written {
            continue;
        }
        let (home, list) = (home.clone(), seeds.clone());
        match spawn_blocking(move || home.save_seeds(&list)).await {
            Ok(Ok(())) => written = seeds,
            Ok(Err(error)) => warn!(%error, "addresses of members are not written down"),
            Err(error) => warn!(%error, "addresses of members are not written down"),
        }
    }
}

/// Waits until `asked`, or for the first part to end; then all end, and those that do not are named.
async fn until_stop(
    parts: &mut JoinSet<Result<()>>,
    names: &BTreeMap<tokio::task::Id, &'static str>,
    asked: impl Future<Output = ()>,
    stop: &CancellationToken,
) -> Result<()> {
    let first = tokio::select! {
        () = asked => None,
        part = parts.join_next_with_id() => part,
    };
    stop.cancel();
    let outcome = match first {
        None => {
            info!("stopping; services go on");
            Ok(())
        }
        Some(Ok((id, ended))) => {
            let name = names.get(&id).copied().unwrap_or("part");
            ended.and_then(|()| anyhow::bail!("it ended by itself")).context(name)
        }
        Some(Err(error)) => {
            let name = names.get(&error.id()).copied().unwrap_or("part");
            Err(error).context(name)
        }
    };
    let all_end = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, all_end).await.is_err() {
        warn!(left = parts.len(), "some parts did not end in {} s", STOP_GRACE.as_secs());
    }
    outcome
}
