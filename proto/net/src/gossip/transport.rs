//! chitchat's messages over QUIC: one stream each, on connections that both sides use.
//!
//! Three rules, each learned from a fleet that failed without it: dials are in single flight, few at
//! a time, and never on gossip's path; connections idle for minutes; a message that is not
//! acknowledged in time means that its connection is dead, and it is closed instead of fed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable as _, Serializable as _};
use lru::LruCache;
use proto::HostId;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{self, Instant};
use tracing::{debug, error, warn};

use super::ask::Asker;
use super::filter::Filter;
use super::wire::{MESSAGE_BYTES_MAX, NODES_MAX, Violation, digest_len};
use crate::alpn::{Alpn, CloseCode};
use crate::clock;
use crate::connection::{Connection, RecvStream};
use crate::directory::{Directory, Expect};
use crate::endpoint::Endpoint;
use crate::quota::{Quota, Quotas};
use crate::router::Handler;

/// Connections kept: one to each member of a cell.
const CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Dials under way.
const DIALS_MAX: usize = 4;
/// Messages that wait for one dial; older ones are worth less than the next.
const WAITING_MAX: usize = 4;
/// Addresses that wait for a dial.
const DIALLING_MAX: usize = 64;
/// Messages being sent.
const SENDING_MAX: usize = 256;
/// Messages judged and not yet taken by chitchat.
const INBOX_MAX: usize = 256;
/// How long a message may take to be written, and again to be acknowledged.
const SEND_WITHIN: Duration = Duration::from_secs(3);
/// How long a message may take to arrive once its stream is open.
const RECEIVE_WITHIN: Duration = Duration::from_secs(5);
/// Messages of one peer: about ten times what an honest one sends. What chitchat is fed moves this
/// member's heartbeat, so a flood would make it implausible to others.
const MESSAGES_BURST: u32 = 64;
const MESSAGES_PER_INTERVAL: u32 = 20;
/// Peers whose messages are counted.
const PEERS_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");

/// What happened to messages since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: AtomicU64,
    pub(super) passed: AtomicU64,
    pub(super) left_out: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) violations: AtomicU64,
}

/// The connections of gossip, the way in and the way out.
pub(super) struct Hub {
    endpoint: Endpoint,
    me: HostId,
    filter: Mutex<Filter>,
    asker: Arc<Asker>,
    connections: Mutex<LruCache<SocketAddr, Connection>>,
    dialling: Mutex<BTreeMap<SocketAddr, Vec<Vec<u8>>>>,
    dials: Semaphore,
    sending: Arc<Semaphore>,
    inbox: Mutex<Option<mpsc::Sender<(SocketAddr, ChitchatMessage)>>>,
    allowed: Mutex<Quotas<HostId>>,
    younger_self: watch::Sender<Option<(u64, SocketAddr)>>,
    pub(super) tally: Tally,
}

impl Hub {
    pub(super) fn new(
        endpoint: Endpoint,
        me: HostId,
        filter: Filter,
        asker: Asker,
        interval: Duration,
    ) -> Self {
        let quota = Quota { burst: MESSAGES_BURST, period: interval / MESSAGES_PER_INTERVAL };
        Self {
            endpoint,
            me,
            filter: Mutex::new(filter),
            asker: Arc::new(asker),
            connections: Mutex::new(LruCache::new(CONNECTIONS_MAX)),
            dialling: Mutex::default(),
            dials: Semaphore::new(DIALS_MAX),
            sending: Arc::new(Semaphore::new(SENDING_MAX)),
            inbox: Mutex::default(),
            allowed: Mutex::new(Quotas::new(quota, PEERS_MAX)),
            younger_self: watch::Sender::new(None),
            tally: Tally::default(),
        }
    }

    pub(super) fn filter(&self) -> MutexGuard<'_, Filter> {
        lock(&self.filter)
    }

    pub(super) const fn directory(&self) -> &Directory {
        self.endpoint.directory()
    }

    /// Another, younger life of this host, as its own signed values show: generation and address.
    pub(super) fn younger_self(&self) -> watch::Receiver<Option<(u64, SocketAddr)>> {
        self.younger_self.subscribe()
    }

    /// Breaks the transport as chitchat sees it: its task ends.
    #[cfg(test)]
    pub(super) fn disconnect(&self) {
        *lock(&self.inbox) = None;
    }

    /// Sends what chitchat wants sent; never waits.
    fn deliver(self: &Arc<Self>, to: SocketAddr, message: Vec<u8>) {
        let ready = lock(&self.connections).get(&to).filter(|open| !open.is_closed()).cloned();
        if let Some(connection) = ready {
            return self.push(connection, message);
        }
        {
            let mut dialling = lock(&self.dialling);
            if let Some(waiting) = dialling.get_mut(&to) {
                match waiting.len() < WAITING_MAX {
                    true => waiting.push(message),
                    false => self.drop_one(),
                }
                return;
            }
            if dialling.len() >= DIALLING_MAX {
                return self.drop_one();
            }
            dialling.insert(to, vec![message]);
        }
        let hub = self.clone();
        tokio::spawn(async move {
            let dialled = {
                let _permit = hub.dials.acquire().await;
                hub.endpoint.connect(Alpn::Gossip, to, Expect::AnyMember).await
            };
            match dialled {
                Ok(connection) => {
                    // In the table first, so that nothing waits for a dial that is over.
                    hub.keep(to, &connection);
                    let waiting = lock(&hub.dialling).remove(&to).unwrap_or_default();
                    for message in waiting {
                        hub.push(connection.clone(), message);
                    }
                    hub.listen(connection).await;
                }
                Err(error) => {
                    let waiting = lock(&hub.dialling).remove(&to).unwrap_or_default();
                    debug!(%to, %error, messages = waiting.len(), "gossip not delivered");
                    waiting.iter().for_each(|_| hub.drop_one());
                }
            }
        });
    }

    fn push(self: &Arc<Self>, connection: Connection, message: Vec<u8>) {
        let Ok(permit) = self.sending.clone().try_acquire_owned() else { return self.drop_one() };
        let hub = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match time::timeout(2 * SEND_WITHIN, send(&connection, &message)).await {
                Ok(Ok(())) => {
                    hub.tally.sent.fetch_add(1, Relaxed);
                }
                Ok(Err(())) => hub.drop_one(),
                Err(_) => {
                    hub.drop_one();
                    connection.close(CloseCode::Unresponsive, "gossip is not acknowledged");
                }
            }
        });
    }

    /// Puts an open connection to use for what goes to its address.
    fn keep(&self, addr: SocketAddr, connection: &Connection) {
        let displaced = lock(&self.connections).push(addr, connection.clone());
        // Another one to the same address stays open: the peer may prefer that one.
        if let Some((displaced_addr, displaced)) = displaced
            && displaced_addr != addr
        {
            displaced.close(CloseCode::Done, "not used lately");
        }
    }

    /// Takes what comes on a connection until it ends.
    async fn listen(self: &Arc<Self>, connection: Connection) {
        loop {
            let goes_on = tokio::select! {
                stream = connection.accept_uni() => match stream {
                    Ok(stream) => self.receive(&connection, stream).await,
                    Err(_) => break,
                },
                streams = connection.accept_bi() => match streams {
                    Ok((send, recv)) => self.asker.answer(send, recv).await.is_ok(),
                    Err(_) => break,
                },
            };
            if !goes_on {
                connection.close(CloseCode::Violation, "not the gossip protocol");
                break;
            }
        }
        let addr = connection.remote_addr();
        let mut connections = lock(&self.connections);
        if connections.peek(&addr).is_some_and(|kept| kept.stable_id() == connection.stable_id()) {
            connections.pop(&addr);
        }
    }

    /// Takes one message; false if its sender broke the protocol.
    async fn receive(&self, connection: &Connection, mut stream: RecvStream) -> bool {
        let Some(peer) = connection.peer().member() else { return false };
        let bytes = match time::timeout(RECEIVE_WITHIN, stream.read_to_end(MESSAGE_BYTES_MAX)).await
        {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(quinn::ReadToEndError::TooLong)) => {
                let violation =
                    Violation::TooLong { got: MESSAGE_BYTES_MAX + 1, max: MESSAGE_BYTES_MAX };
                return self.convict(connection, &violation);
            }
            // The connection is gone or slow; the next accept shows which.
            Ok(Err(quinn::ReadToEndError::Read(_))) | Err(_) => return true,
        };
        if !lock(&self.allowed).take(peer.clone(), Instant::now()) {
            self.drop_one();
            return true;
        }
        let judged = self.filter().judge(&bytes, clock::unix_ms(), Instant::now());
        let passed = match judged {
            Ok(passed) => passed,
            Err(violation) => return self.convict(connection, &violation),
        };
        self.tally.passed.fetch_add(1, Relaxed);
        self.tally.left_out.fetch_add(passed.left_out as u64, Relaxed);
        self.asker.ask(connection, passed.unknown);
        self.notice(passed.younger_self);
        match ChitchatMessage::deserialize(&mut &passed.message[..]) {
            Ok(message) => self.hand_over(connection.remote_addr(), message),
            Err(error) => error!(%error, "what the filter wrote is not what chitchat reads"),
        }
        true
    }

    /// Takes note of another, younger life of this host.
    pub(super) fn notice(&self, younger_self: Option<(u64, SocketAddr)>) {
        let Some(other) = younger_self else { return };
        self.younger_self.send_if_modified(|known| {
            let newer = known.is_none_or(|known| known < other);
            if newer {
                *known = Some(other);
            }
            newer
        });
    }

    fn convict(&self, connection: &Connection, violation: &Violation) -> bool {
        self.tally.violations.fetch_add(1, Relaxed);
        warn!(peer = %connection.peer(), reason = %violation, "gossip refused, connection closed");
        connection.close(CloseCode::Violation, &violation.to_string());
        false
    }

    fn hand_over(&self, from: SocketAddr, message: ChitchatMessage) {
        let handed =
            lock(&self.inbox).as_ref().is_some_and(|to| to.try_send((from, message)).is_ok());
        if !handed {
            self.drop_one();
        }
    }

    fn drop_one(&self) {
        self.tally.dropped.fetch_add(1, Relaxed);
    }
}

/// Sends a message and waits until all of it is acknowledged.
async fn send(connection: &Connection, message: &[u8]) -> Result<(), ()> {
    let mut stream = connection.open_uni().await.map_err(drop)?;
    stream.write_all(message).await.map_err(drop)?;
    stream.finish().map_err(drop)?;
    stream.stopped().await.map(drop).map_err(drop)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole after every statement, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The handler of [`Alpn::Gossip`].
pub(super) struct Incoming(pub(super) Arc<Hub>);

#[async_trait]
impl Handler for Incoming {
    async fn connection(&self, connection: Connection) {
        if connection.peer().member() == Some(&self.0.me) {
            return connection.close(CloseCode::Forbidden, "this is the identity of this member");
        }
        self.0.keep(connection.remote_addr(), &connection);
        self.0.listen(connection).await;
    }
}

/// The hub, as chitchat wants a transport.
pub(super) struct HubTransport(pub(super) Arc<Hub>);

#[async_trait]
impl Transport for HubTransport {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        *lock(&self.0.inbox) = Some(sender);
        Ok(Box::new(HubSocket { hub: self.0.clone(), inbox }))
    }
}

struct HubSocket {
    hub: Arc<Hub>,
    inbox: mpsc::Receiver<(SocketAddr, ChitchatMessage)>,
}

#[async_trait]
impl Socket for HubSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let bytes = message.serialize_to_vec();
        if digest_len(&bytes) > NODES_MAX || bytes.len() > MESSAGE_BYTES_MAX {
            error!(nodes = digest_len(&bytes), bytes = bytes.len(), "gossip is too large to send");
            self.hub.drop_one();
            return Ok(());
        }
        self.hub.deliver(to, bytes);
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        self.inbox.recv().await.ok_or_else(|| anyhow::anyhow!("the transport was taken away"))
    }
}
