//! The border between chitchat and whatever carries its messages: what comes in is judged, what goes
//! out is measured, and all of it is counted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable as _, Serializable as _};
use proto::HostId;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::error;

use super::filter::Filter;
use super::wire::{MESSAGE_BYTES_MAX, NODES_MAX, Violation, digest_len};
use crate::clock;
use crate::directory::Directory;
use crate::quota::{Quota, Quotas};

/// Messages judged and not yet taken by chitchat.
const INBOX_MAX: usize = 256;
/// Messages of one peer: about ten times what an honest one sends. What chitchat is fed moves this
/// member's heartbeat, so a flood would make it implausible to others.
const MESSAGES_BURST: u32 = 64;
const MESSAGES_PER_INTERVAL: u32 = 20;
/// Peers whose messages are counted.
const PEERS_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// Brings a message towards an address, or fails to; never waits.
pub type Carrier = Arc<dyn Fn(SocketAddr, Vec<u8>) + Send + Sync>;

/// What happened to messages since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: AtomicU64,
    pub(super) passed: AtomicU64,
    pub(super) left_out: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) violations: AtomicU64,
}

/// The border of one member.
pub(super) struct Border {
    directory: Directory,
    filter: Mutex<Filter>,
    allowed: Mutex<Quotas<HostId>>,
    inbox: Mutex<Option<mpsc::Sender<(SocketAddr, ChitchatMessage)>>>,
    younger_self: watch::Sender<Option<u64>>,
    pub(super) tally: Tally,
}

impl Border {
    pub(super) fn new(directory: Directory, filter: Filter, interval: Duration) -> Self {
        let quota = Quota { burst: MESSAGES_BURST, period: interval / MESSAGES_PER_INTERVAL };
        Self {
            directory,
            filter: Mutex::new(filter),
            allowed: Mutex::new(Quotas::new(quota, PEERS_MAX)),
            inbox: Mutex::default(),
            younger_self: watch::Sender::new(None),
            tally: Tally::default(),
        }
    }

    pub(super) const fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn filter(&self) -> MutexGuard<'_, Filter> {
        lock(&self.filter)
    }

    /// Generation of the youngest life of this very host that others know, if it is not the present one.
    pub(super) fn younger_self(&self) -> watch::Receiver<Option<u64>> {
        self.younger_self.subscribe()
    }

    /// Breaks the transport as chitchat sees it: its task ends.
    #[cfg(test)]
    pub(super) fn disconnect(&self) {
        *lock(&self.inbox) = None;
    }

    /// Judges a peer's message and hands what passes to chitchat; returns the members named in it that
    /// nobody knows here. Of a peer that sends too many it is dropped unread.
    pub(super) fn take_in(
        &self,
        peer: &HostId,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Result<BTreeSet<HostId>, Violation> {
        if !lock(&self.allowed).take(peer.clone(), Instant::now()) {
            self.drop_one();
            return Ok(BTreeSet::new());
        }
        let passed = self.filter().judge(bytes, clock::unix_ms(), Instant::now())?;
        self.tally.passed.fetch_add(1, Relaxed);
        self.tally.left_out.fetch_add(passed.left_out as u64, Relaxed);
        self.notice(passed.younger_self);
        match ChitchatMessage::deserialize(&mut &passed.message[..]) {
            Ok(message) => self.hand_over(from, message),
            Err(error) => error!(%error, "what the filter wrote is not what chitchat reads"),
        }
        Ok(passed.unknown)
    }

    /// The bytes of a message, unless there are more than anybody reads.
    fn let_out(&self, message: &ChitchatMessage) -> Option<Vec<u8>> {
        let bytes = message.serialize_to_vec();
        if digest_len(&bytes) > NODES_MAX || bytes.len() > MESSAGE_BYTES_MAX {
            error!(nodes = digest_len(&bytes), bytes = bytes.len(), "gossip is too large to send");
            self.drop_one();
            return None;
        }
        Some(bytes)
    }

    /// Takes note of a younger life of this host.
    pub(super) fn notice(&self, younger_self: Option<u64>) {
        let Some(other) = younger_self else { return };
        self.younger_self.send_if_modified(|known| {
            let newer = known.is_none_or(|known| known < other);
            if newer {
                *known = Some(other);
            }
            newer
        });
    }

    /// A peer has broken the protocol.
    pub(super) fn convict(&self) {
        self.tally.violations.fetch_add(1, Relaxed);
    }

    fn hand_over(&self, from: SocketAddr, message: ChitchatMessage) {
        let handed =
            lock(&self.inbox).as_ref().is_some_and(|to| to.try_send((from, message)).is_ok());
        if !handed {
            self.drop_one();
        }
    }

    pub(super) fn drop_one(&self) {
        self.tally.dropped.fetch_add(1, Relaxed);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole after every statement, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The border and what lies behind it, as chitchat wants a transport.
pub(super) struct BorderTransport {
    pub(super) border: Arc<Border>,
    pub(super) carry: Carrier,
}

#[async_trait]
impl Transport for BorderTransport {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        *lock(&self.border.inbox) = Some(sender);
        let (border, carry) = (self.border.clone(), self.carry.clone());
        Ok(Box::new(BorderSocket { border, carry, inbox }))
    }
}

struct BorderSocket {
    border: Arc<Border>,
    carry: Carrier,
    inbox: mpsc::Receiver<(SocketAddr, ChitchatMessage)>,
}

#[async_trait]
impl Socket for BorderSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        if let Some(bytes) = self.border.let_out(&message) {
            (self.carry)(to, bytes);
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        self.inbox.recv().await.ok_or_else(|| anyhow::anyhow!("the transport was taken away"))
    }
}
