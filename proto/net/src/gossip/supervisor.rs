//! Keeps chitchat running, writes this member's values, and shows what it knows.
//!
//! A panic inside chitchat ends its task silently; whatever ends it, a new life begins: a higher
//! generation, all values set again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::{Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig};
use tokio::sync::Notify;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::border::lock;
use super::twins::Twins;
use super::wire::Incarnation;
use super::{GossipConfig, Member, Shared, value};
use crate::clock;

/// Suspicion at which a member counts as dead: about eight missed heartbeats in a row.
const PHI_MAX: f64 = 8.0;
/// Heartbeats from which a member's rhythm is learned.
const HEARTBEATS: usize = 100;
/// Longest pause that counts as rhythm and not as absence.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A dead incarnation is forgotten after that. Each restart leaves one behind in every digest, so
/// chitchat's default of a day would fill them.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Tombstones are never made; chitchat wants a number.
const TOMBSTONES_KEPT: Duration = Duration::from_secs(3_600);
/// First and longest pause before a new life.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

pub(super) struct Supervisor {
    shared: Arc<Shared>,
    config: GossipConfig,
    /// Generation of the last life.
    generation: u64,
    twins: Twins,
}

/// Why a life ended.
enum End {
    Stopped,
    Broken(String),
    /// An earlier life of this member had a clock that was ahead of today's.
    Outlived,
}

impl Supervisor {
    pub(super) fn new(shared: Arc<Shared>, config: GossipConfig) -> Self {
        Self { shared, config, generation: 0, twins: Twins::default() }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut pause = PAUSE_FIRST;
        loop {
            let started = Instant::now();
            match self.live(&stop).await {
                End::Stopped => return,
                End::Outlived => info!("an earlier life had a later clock; gossip starts anew"),
                End::Broken(reason) => error!(reason, "gossip ended; it starts anew"),
            }
            if started.elapsed() > PAUSE_LONGEST {
                pause = PAUSE_FIRST;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = time::sleep(pause) => pause = (2 * pause).min(PAUSE_LONGEST),
            }
        }
    }

    /// One life of chitchat, from start to end.
    async fn live(&mut self, stop: &CancellationToken) -> End {
        // Generations must rise from one start to the next.
        self.generation = clock::unix_ms().max(self.generation + 1);
        self.shared.border().filter().reborn(self.generation);
        let mut written = Writer::new(&self.config, self.me());
        let spawned = chitchat::spawn_chitchat(
            self.chitchat_config(),
            written.first(&self.values()),
            &self.shared.transport,
        );
        let handle = match spawned.await {
            Ok(handle) => handle,
            Err(error) => return End::Broken(error.to_string()),
        };
        info!(host = %self.shared.me, generation = self.generation, "gossip starts");
        let end = self.tend(&handle, &mut written, stop).await;
        if matches!(end, End::Stopped) {
            // It may have ended by itself meanwhile.
            let _ = handle.shutdown().await;
        }
        end
    }

    /// Looks after a running chitchat until it or the member ends.
    async fn tend(
        &mut self,
        handle: &ChitchatHandle,
        written: &mut Writer,
        stop: &CancellationToken,
    ) -> End {
        let news = Arc::new(Notify::new());
        let chitchat = handle.chitchat();
        let mut alive = {
            let (chitchat, news) = (chitchat.lock().await, news.clone());
            // A member says many things at once; the view is made once for all of them.
            chitchat.subscribe_event("", move |_| news.notify_one()).forever();
            chitchat.live_nodes_watcher()
        };
        let mut younger_self = self.shared.border().younger_self();
        let mut removals = self.shared.border().directory().removals();
        let ended = handle.termination_watcher();
        tokio::pin!(ended);
        loop {
            {
                let mut chitchat = chitchat.lock().await;
                written.write(&mut chitchat, &self.values());
                self.show(&chitchat);
            }
            let younger = *younger_self.borrow_and_update();
            if let Some(generation) = younger.filter(|younger| *younger > self.generation) {
                self.generation = generation;
                return End::Outlived;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Stopped,
                ended = &mut ended => return End::Broken(match ended {
                    Ok(()) => "it stopped by itself".to_owned(),
                    Err(error) => error.to_string(),
                }),
                () = self.shared.changed.notified() => {}
                Ok(()) = removals.changed() => {}
                () = news.notified() => time::sleep(self.config.interval / 8).await,
                changed = alive.changed() => if changed.is_err() {
                    return End::Broken("it is gone".to_owned());
                },
                _ = younger_self.changed() => {}
            }
        }
    }

    /// Publishes the members as chitchat knows them now.
    fn show(&mut self, chitchat: &Chitchat) {
        let now = Instant::now();
        let alive: BTreeSet<_> = chitchat.live_nodes().collect();
        let mut held = BTreeSet::new();
        let mut newest: BTreeMap<_, Member> = BTreeMap::new();
        let mut homes: BTreeMap<_, BTreeSet<SocketAddr>> = BTreeMap::new();
        for (id, state) in chitchat.node_states() {
            let Some(who) = incarnation(id) else { continue };
            held.insert(who.clone());
            let values: BTreeMap<_, _> = state
                .key_values()
                .filter_map(|(key, text)| Some((key.to_owned(), value::split(text)?.1.to_owned())))
                .collect();
            if alive.contains(id) && !values.is_empty() {
                homes.entry(who.host.clone()).or_default().insert(who.addr);
            }
            let mine = who.host == self.shared.me;
            if mine && who.addr != self.config.advertise && !values.is_empty() {
                self.twins.hear(&who, who.generation > self.generation, &values, now);
            }
            let alive = mine || alive.contains(id);
            // Of two machines with one key the younger one may be gone.
            let rank = (alive, who.generation);
            let known = newest.get(&who.host).map(|member| (member.alive, member.generation));
            // Of this host others may know an older or, wrongly, a younger life.
            let shown = match mine {
                true => who.generation == self.generation,
                false => {
                    let removed = self.shared.border().directory().is_removed(&who.host);
                    !removed && !values.is_empty() && Some(rank) >= known
                }
            };
            if shown {
                let Incarnation { host, generation, addr: address } = who;
                let (member, twin) = (host.clone(), None);
                let member = Member { host: member, address, generation, alive, twin, values };
                newest.insert(host, member);
            }
        }
        for member in newest.values_mut() {
            let mut homes = homes.get(&member.host).into_iter().flatten();
            member.twin = homes.find(|home| **home != member.address).copied();
        }
        self.shared.border().filter().retain(&held, now);
        self.twins.retain(&held);
        let alive = homes.remove(&self.shared.me).unwrap_or_default();
        self.show_twin(self.twins.home(&alive, now));
        let members: Vec<_> = newest.into_values().collect();
        self.shared.members.send_if_modified(|shown| {
            let changed = **shown != members;
            if changed {
                *shown = Arc::new(members);
            }
            changed
        });
    }

    /// Says where this host's identity also lives, or that it does no more.
    fn show_twin(&self, twin: Option<SocketAddr>) {
        let replace = |known: &mut Option<SocketAddr>| std::mem::replace(known, twin) != twin;
        if !self.shared.duplicate.send_if_modified(replace) {
            return;
        }
        let (host, here) = (&self.shared.me, self.config.advertise);
        match twin {
            Some(other) => warn!(%host, %here, %other, "its key is also in use elsewhere"),
            None => info!(%host, %here, "its key is in use nowhere else any more"),
        }
    }

    fn chitchat_config(&self) -> ChitchatConfig {
        let GossipConfig { fleet, advertise, seeds, interval, .. } = &self.config;
        let node = self.shared.me.as_str();
        ChitchatConfig {
            chitchat_id: ChitchatId::new(node, self.generation, *advertise),
            cluster_id: fleet.to_string(),
            gossip_interval: *interval,
            listen_addr: *advertise,
            seed_nodes: seeds.iter().map(SocketAddr::to_string).collect(),
            failure_detector_config: FailureDetectorConfig::new(
                PHI_MAX,
                HEARTBEATS,
                PAUSE_MAX.max(*interval),
                *interval,
                FORGET_AFTER,
            ),
            marked_for_deletion_grace_period: TOMBSTONES_KEPT,
            catchup_callback: None,
            extra_liveness_predicate: None,
        }
    }

    fn me(&self) -> Incarnation {
        let (host, addr) = (self.shared.me.clone(), self.config.advertise);
        Incarnation { host, generation: self.generation, addr }
    }

    fn values(&self) -> BTreeMap<String, String> {
        lock(&self.shared.values).clone()
    }
}

fn incarnation(id: &ChitchatId) -> Option<Incarnation> {
    let host = id.node_id.parse().ok()?;
    Some(Incarnation { host, generation: id.generation_id, addr: id.gossip_advertise_addr })
}

/// Signs this member's values and knows which of them chitchat has.
struct Writer {
    config: GossipConfig,
    me: Incarnation,
    written: BTreeMap<String, String>,
}

impl Writer {
    fn new(config: &GossipConfig, me: Incarnation) -> Self {
        Self { config: config.clone(), me, written: BTreeMap::new() }
    }

    /// The values a new life starts with: chitchat gives them the versions from 1 on.
    fn first(&mut self, values: &BTreeMap<String, String>) -> Vec<(String, String)> {
        self.written = values.clone();
        (1..)
            .zip(values)
            .map(|(version, (key, value))| (key.clone(), self.signed(key, version, value)))
            .collect()
    }

    /// Writes what has changed; the lock on chitchat makes the signed version the one it gets.
    fn write(&mut self, chitchat: &mut Chitchat, values: &BTreeMap<String, String>) {
        for (key, value) in values {
            if self.written.get(key) == Some(value) {
                continue;
            }
            let state = chitchat.self_node_state();
            let text = self.signed(key, state.max_version() + 1, value);
            state.set(key, text);
            self.written.insert(key.clone(), value.clone());
        }
    }

    fn signed(&self, key: &str, version: u64, value: &str) -> String {
        let GossipConfig { fleet, key: signer, .. } = &self.config;
        value::sign(signer, fleet, &self.me, key, version, value)
    }
}
