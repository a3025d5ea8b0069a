//! Carries gossip over QUIC: one stream a message, on connections that both sides use.
//!
//! Three rules, each learned from a fleet that failed without it: dials are in single flight, few at
//! a time, and never on gossip's path; connections idle for minutes; a message that is not
//! acknowledged in time means that its connection is dead, and it is closed instead of fed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lru::LruCache;
use proto::HostId;
use tokio::sync::Semaphore;
use tokio::time;
use tracing::{debug, warn};

use super::ask::Asker;
use super::border::{Border, lock};
use super::wire::{MESSAGE_BYTES_MAX, Violation};
use crate::alpn::{Alpn, CloseCode};
use crate::connection::{Connection, RecvStream};
use crate::directory::Expect;
use crate::endpoint::Endpoint;
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
/// How long a message may take to be written, and again to be acknowledged.
const SEND_WITHIN: Duration = Duration::from_secs(3);
/// How long a message may take to arrive once its stream is open.
const RECEIVE_WITHIN: Duration = Duration::from_secs(5);

/// The connections of gossip, the way in and the way out.
pub(super) struct Hub {
    endpoint: Endpoint,
    me: HostId,
    border: Arc<Border>,
    asker: Arc<Asker>,
    connections: Mutex<LruCache<SocketAddr, Connection>>,
    dialling: Mutex<BTreeMap<SocketAddr, Vec<Vec<u8>>>>,
    dials: Semaphore,
    sending: Arc<Semaphore>,
}

impl Hub {
    pub(super) fn new(endpoint: Endpoint, me: HostId, border: Arc<Border>, asker: Asker) -> Self {
        Self {
            endpoint,
            me,
            border,
            asker: Arc::new(asker),
            connections: Mutex::new(LruCache::new(CONNECTIONS_MAX)),
            dialling: Mutex::default(),
            dials: Semaphore::new(DIALS_MAX),
            sending: Arc::new(Semaphore::new(SENDING_MAX)),
        }
    }

    /// Sends what chitchat wants sent; never waits.
    pub(super) fn deliver(self: &Arc<Self>, to: SocketAddr, message: Vec<u8>) {
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
                    hub.border.tally.sent.fetch_add(1, Relaxed);
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
        match self.border.take_in(peer, connection.remote_addr(), &bytes) {
            Ok(unknown) => self.asker.ask(connection, unknown),
            Err(violation) => return self.convict(connection, &violation),
        }
        true
    }

    fn convict(&self, connection: &Connection, violation: &Violation) -> bool {
        self.border.convict();
        warn!(peer = %connection.peer(), reason = %violation, "gossip refused, connection closed");
        connection.close(CloseCode::Violation, &violation.to_string());
        false
    }

    fn drop_one(&self) {
        self.border.drop_one();
    }
}

/// Sends a message and waits until all of it is acknowledged.
async fn send(connection: &Connection, message: &[u8]) -> Result<(), ()> {
    let mut stream = connection.open_uni().await.map_err(drop)?;
    stream.write_all(message).await.map_err(drop)?;
    stream.finish().map_err(drop)?;
    stream.stopped().await.map(drop).map_err(drop)
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
