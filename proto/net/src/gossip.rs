//! Membership and small signed values: chitchat over QUIC, behind a filter, supervised (R11).
//!
//! Each member writes its own values and nobody else's; values are signed, versioned, overwritten and
//! never deleted. Gossip says what exists; content is fetched elsewhere. Which member is alive is
//! chitchat's guess from heartbeats that are not signed: good for choosing whom to ask, never for
//! deciding anything.
//!
//! ```text
//! peer -> QUIC stream -> wire::decode -> Filter -> wire::encode -> chitchat -> members()
//!                                          `-> Asker: who is that? -> Directory
//! ```
//!
//! In a simulation something else carries the messages ([`Gossip::simulated`]); from the border to
//! chitchat all is the same.

mod ask;
mod border;
mod calendar;
mod filter;
mod supervisor;
#[cfg(test)]
mod tests;
mod transport;
mod twins;
mod value;
mod wire;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use proto::record::VALUE_BYTES_MAX;
use proto::{FleetId, HostId, PublicKey};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub use ask::{HostEnvelope, HostVerifier};
pub use border::Carrier;

use crate::directory::Directory;
use crate::endpoint::Endpoint;
use crate::router::Handler;
use ask::Asker;
use border::{Border, BorderTransport, lock};
use filter::Filter;
use supervisor::Supervisor;
use transport::{Hub, Incoming};
use wire::{Incarnation, KEYS_MAX};

/// Hosts of a fleet: everybody gossips with everybody, and what each sends rises with their number.
pub const HOSTS_MAX: usize = 256;

/// How a member gossips.
#[derive(Clone)]
pub struct GossipConfig {
    pub fleet: FleetId,
    /// The member's key: the host's, or the coordinator's. Its id in gossip is [`HostId::of`] it.
    pub key: SigningKey,
    /// Where others reach this member.
    pub advertise: SocketAddr,
    /// Members to start with.
    pub seeds: Vec<SocketAddr>,
    /// Between two rounds; the same throughout a fleet.
    pub interval: Duration,
    /// Judges host statements that peers send.
    pub verify: HostVerifier,
    /// Finds host statements that peers ask for.
    pub envelope: HostEnvelope,
}

/// A member as gossip shows it: its newest life, of those whose heartbeats come if there are any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub host: HostId,
    pub address: SocketAddr,
    /// Start of this life, milliseconds since 1970 by the member's own clock.
    pub generation: u64,
    /// Whether its heartbeats come.
    pub alive: bool,
    /// Another address from which heartbeats of its key come: two machines hold it (R9).
    pub twin: Option<SocketAddr>,
    /// What it says, by key; signatures are verified and stripped.
    pub values: BTreeMap<String, String>,
}

/// Why a value is not gossiped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error(
        "gossip key {key:?}: must be 1 to {} of a-z, 0-9, `/`, `_` and `-`",
        value::KEY_BYTES_MAX
    )]
    Key { key: String },
    #[error("gossip value of {key} has {got} bytes, at most {VALUE_BYTES_MAX} are allowed")]
    TooLong { key: String, got: usize },
    #[error("gossip key {key} would be one more than {KEYS_MAX}")]
    TooMany { key: String },
}

/// What happened to gossip messages since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GossipCounts {
    /// Sent and acknowledged.
    pub sent: u64,
    /// Received and passed on to chitchat, maybe in part.
    pub passed: u64,
    /// Incarnations left out of those.
    pub left_out: u64,
    /// Dropped for want of room, rate or a connection; the next round makes up for them.
    pub dropped: u64,
    /// Refused, and their senders hung up on.
    pub violations: u64,
}

/// Gossip of this member. Cheap to clone; it runs until the token it was spawned with is cancelled.
#[derive(Clone)]
pub struct Gossip {
    shared: Arc<Shared>,
    /// Serves the gossip of others; none where it does not come by the endpoint.
    incoming: Option<Arc<Incoming>>,
}

/// What the handle and the supervisor share.
struct Shared {
    me: HostId,
    transport: BorderTransport,
    values: Mutex<BTreeMap<String, String>>,
    /// The values changed.
    changed: Notify,
    members: watch::Sender<Arc<Vec<Member>>>,
    duplicate: watch::Sender<Option<SocketAddr>>,
}

impl Gossip {
    /// Starts to gossip, in the tokio runtime of the caller. The endpoint must also
    /// [`serve`](Endpoint::serve) [`handler`](Self::handler).
    pub fn spawn(endpoint: Endpoint, config: GossipConfig, stop: CancellationToken) -> Self {
        let directory = endpoint.directory().clone();
        let border = border_of(&config, directory.clone());
        let asker = Asker::new(directory, config.verify.clone(), config.envelope.clone());
        let me = HostId::of(&PublicKey::of(&config.key));
        let hub = Arc::new(Hub::new(endpoint, me, border.clone(), asker));
        let incoming = Some(Arc::new(Incoming(hub.clone())));
        let carry = Arc::new(move |to, message| hub.deliver(to, message));
        Self::start(BorderTransport { border, carry }, incoming, config, stop)
    }

    /// Starts to gossip in a simulation, in the tokio runtime of the caller: `carry` takes the messages
    /// of this member, [`receive`](Self::receive) those of others. Absent is what belongs to
    /// connections: nobody is asked who a stranger is, so `directory` has to know everyone.
    pub fn simulated(
        carry: Carrier,
        directory: Directory,
        config: GossipConfig,
        stop: CancellationToken,
    ) -> Self {
        let border = border_of(&config, directory);
        Self::start(BorderTransport { border, carry }, None, config, stop)
    }

    fn start(
        transport: BorderTransport,
        incoming: Option<Arc<Incoming>>,
        config: GossipConfig,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            me: HostId::of(&PublicKey::of(&config.key)),
            transport,
            values: Mutex::default(),
            changed: Notify::new(),
            members: watch::Sender::default(),
            duplicate: watch::Sender::new(None),
        });
        tokio::spawn(Supervisor::new(shared.clone(), config).run(stop));
        Self { shared, incoming }
    }

    /// Serves the gossip of others.
    ///
    /// # Panics
    ///
    /// On a [`simulated`](Self::simulated) member, whose gossip does not come by an endpoint.
    pub fn handler(&self) -> Arc<dyn Handler> {
        self.incoming.clone().expect("gossip that comes by an endpoint is served by it")
    }

    /// In a simulation: takes in a message of a peer that was proven to be `peer`.
    pub fn receive(&self, peer: &HostId, from: SocketAddr, message: &[u8]) {
        let border = self.shared.border();
        if let Err(violation) = border.take_in(peer, from, message) {
            border.convict();
            warn!(%peer, reason = %violation, "gossip refused");
        }
    }

    /// This member's id.
    pub fn me(&self) -> &HostId {
        &self.shared.me
    }

    /// Writes a value of this member; it is signed and spread soon, and survives restarts of the
    /// gossip task. Of values set in quick succession only the last is spread.
    ///
    /// # Errors
    ///
    /// [`SetError`]: key or value are not gossiped.
    pub fn set(&self, key: &str, value: &str) -> Result<(), SetError> {
        let named = || key.chars().take(80).collect::<String>();
        if !value::is_key(key) {
            return Err(SetError::Key { key: named() });
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(SetError::TooLong { key: named(), got: value.len() });
        }
        let mut values = lock(&self.shared.values);
        if values.len() == KEYS_MAX && !values.contains_key(key) {
            return Err(SetError::TooMany { key: named() });
        }
        if values.get(key).is_none_or(|old| old != value) {
            values.insert(key.to_owned(), value.to_owned());
            self.shared.changed.notify_one();
        }
        Ok(())
    }

    /// All members that said something, this one included, by id.
    pub fn members(&self) -> watch::Receiver<Arc<Vec<Member>>> {
        self.shared.members.subscribe()
    }

    /// Where this member's identity also lives (R9): somebody there signs with its key while this
    /// member does. None again once that has ended.
    pub fn duplicate(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.shared.duplicate.subscribe()
    }

    pub fn counts(&self) -> GossipCounts {
        let tally = &self.shared.border().tally;
        GossipCounts {
            sent: tally.sent.load(Relaxed),
            passed: tally.passed.load(Relaxed),
            left_out: tally.left_out.load(Relaxed),
            dropped: tally.dropped.load(Relaxed),
            violations: tally.violations.load(Relaxed),
        }
    }
}

impl Shared {
    const fn border(&self) -> &Arc<Border> {
        &self.transport.border
    }
}

fn border_of(config: &GossipConfig, directory: Directory) -> Arc<Border> {
    let (host, addr) = (HostId::of(&PublicKey::of(&config.key)), config.advertise);
    let me = Incarnation { host, generation: 0, addr };
    let filter = Filter::new(config.fleet.clone(), me, directory.clone(), config.interval);
    Arc::new(Border::new(directory, filter, config.interval))
}
