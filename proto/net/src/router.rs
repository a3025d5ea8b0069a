//! Serving: a handler for each protocol, and how much anybody gets.
//!
//! Who is at the other end is judged three times before a handler sees a connection: by TLS (is it
//! anybody of this fleet), by the protocol (may that identity speak it), by the limits. Whoever is
//! refused is told why, and so is the log, at a bounded rate.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quinn::Incoming;
use quinn::crypto::rustls::HandshakeData;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::alpn::{Alpn, CloseCode};
use crate::clock;
use crate::connection::{Connection, ConnectionLost, canonical, close, readable};
use crate::directory::{Directory, Peer};
use crate::endpoint::{DIAL_TIMEOUT, Endpoint, NetError, WELCOME, chain_of, tls_words};
use crate::quota::{Quota, Used};
use crate::tls;

/// Handshakes under way; beyond, newcomers are refused.
const HANDSHAKES_MAX: usize = 256;
/// Handshakes under way from which on newcomers must prove their address first.
const HANDSHAKES_UNPROVEN_MAX: usize = 64;
/// Accepted connections.
const CONNECTIONS_MAX: usize = 2_048;
/// Accepted connections of anonymous peers, together: strangers may not use up the rest.
const ANONYMOUS_MAX: usize = 32;
/// Accepted connections of one peer. One more replaces the oldest: after a crash a peer is back
/// long before its old connections are known to be dead.
const PER_PEER_MAX: usize = 16;
/// How long a peer may take to let this side open the stream of the welcome.
const WELCOME_WITHIN: Duration = Duration::from_secs(3);
/// How long handlers have to end once the router stops.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// Refusals in the log at `info`; further ones are at `debug`.
const LOGGED: Quota = Quota { burst: 20, period: Duration::from_secs(5) };

/// Serves one protocol.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Serves one connection, whose peer may speak the protocol. It is closed at once when this
    /// returns, and what is not acknowledged by then is lost: return when the peer has closed it. This
    /// is dropped when the connection has to go.
    async fn connection(&self, connection: Connection);
}

/// Which protocols an endpoint serves.
#[derive(Clone, Default)]
pub struct Handlers {
    by_alpn: BTreeMap<Alpn, Arc<dyn Handler>>,
}

impl Handlers {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces the handler of a protocol.
    #[must_use]
    pub fn on(mut self, alpn: Alpn, handler: Arc<dyn Handler>) -> Self {
        self.by_alpn.insert(alpn, handler);
        self
    }
}

impl Endpoint {
    /// Answers until `stop`, then closes every connection of the endpoint, also those it dialled, and
    /// gives the handlers a moment to end.
    ///
    /// # Errors
    ///
    /// [`NetError::Tls`], before anything is answered.
    pub async fn serve(&self, handlers: Handlers, stop: CancellationToken) -> Result<(), NetError> {
        let crypto = tls::server_config(self.identity.clone(), self.directory.clone())
            .map_err(NetError::Tls)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(self.transport.clone())
            .migration(false)
            .max_incoming(HANDSHAKES_MAX);
        self.quinn.set_server_config(Some(config));
        let router = Arc::new(Router {
            directory: self.directory.clone(),
            handlers,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
            table: Mutex::default(),
            logged: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Err(error) = ended {
                        error!(%error, "a connection's handler failed");
                    }
                }
                incoming = self.quinn.accept() => match incoming {
                    Some(incoming) => router.admit(incoming, &mut tasks),
                    None => break,
                },
            }
        }
        self.quinn.set_server_config(None);
        self.quinn.close(CloseCode::Stopping.to_wire(), b"this member stops");
        let ended = time::timeout(STOP_GRACE, async {
            while tasks.join_next().await.is_some() {}
            self.quinn.wait_idle().await;
        });
        if ended.await.is_err() {
            debug!(left = tasks.len(), "handlers did not end in time");
        }
        Ok(())
    }
}

struct Router {
    directory: Directory,
    handlers: Handlers,
    handshakes: Arc<Semaphore>,
    table: Mutex<Table>,
    logged: Mutex<Used>,
}

/// Why a connection is not served.
struct Refusal {
    code: CloseCode,
    reason: String,
}

impl Router {
    /// Takes or refuses a handshake; what takes time goes into `tasks`.
    fn admit(self: &Arc<Self>, incoming: Incoming, tasks: &mut JoinSet<()>) {
        let remote = canonical(incoming.remote_address());
        let under_way = HANDSHAKES_MAX - self.handshakes.available_permits();
        if under_way >= HANDSHAKES_UNPROVEN_MAX && incoming.may_retry() {
            // The error only says that this one had proven its address already.
            let _ = incoming.retry();
            return;
        }
        let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
            self.log(remote, "too many handshakes at a time");
            return incoming.refuse();
        };
        tasks.spawn(self.clone().take(incoming, remote, permit));
    }

    async fn take(
        self: Arc<Self>,
        incoming: Incoming,
        remote: SocketAddr,
        permit: OwnedSemaphorePermit,
    ) {
        let quinn = match time::timeout(DIAL_TIMEOUT, incoming).await {
            Ok(Ok(quinn)) => quinn,
            Ok(Err(error)) => return self.log(remote, &handshake_words(&error)),
            Err(_) => return self.log(remote, "the handshake takes too long"),
        };
        drop(permit);
        let (connection, slot) = match self.judge(&quinn, remote) {
            Ok(taken) => taken,
            Err(Refusal { code, reason }) => {
                self.log(remote, &reason);
                return close(&quinn, code, &reason);
            }
        };
        let Some(handler) = self.handlers.by_alpn.get(&connection.alpn()) else { return };
        debug!(peer = %connection.peer(), %remote, alpn = %connection.alpn(), "connection");
        let served = async {
            // A peer that lets this side open no stream must not keep its place for that.
            match time::timeout(WELCOME_WITHIN, welcome(&quinn)).await {
                Ok(Ok(())) => handler.connection(connection).await,
                Ok(Err(_)) => {}
                Err(_) => close(&quinn, CloseCode::Unresponsive, "it takes no welcome"),
            }
        };
        tokio::select! {
            biased;
            () = slot.replaced.cancelled() => {
                close(&quinn, CloseCode::Done, "replaced: too many connections of this peer");
            }
            () = served => close(&quinn, CloseCode::Done, ""),
        }
    }

    /// Whether this connection may be served, and its place among the others.
    fn judge(
        self: &Arc<Self>,
        quinn: &quinn::Connection,
        remote: SocketAddr,
    ) -> Result<(Connection, Slot), Refusal> {
        let forbidden = |reason| Refusal { code: CloseCode::Forbidden, reason };
        let peer = self
            .directory
            .identify(&chain_of(quinn), clock::unix())
            .map_err(|error| forbidden(error.to_string()))?;
        let data = quinn.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let protocol = data.and_then(|data| data.protocol).unwrap_or_default();
        let alpn = Alpn::of(&protocol).ok_or_else(|| forbidden("unknown protocol".to_owned()))?;
        if !alpn.admits(&peer) {
            return Err(forbidden(format!("{peer} may not speak {alpn}")));
        }
        if !self.handlers.by_alpn.contains_key(&alpn) {
            return Err(forbidden(format!("{alpn} is not served here")));
        }
        let slot = self.place(Occupant::of(&peer, remote))?;
        Ok((Connection::new(quinn.clone(), alpn, peer, self.directory.clone()), slot))
    }

    fn place(self: &Arc<Self>, occupant: Occupant) -> Result<Slot, Refusal> {
        let mut table = self.table();
        let busy =
            |what: &str| Refusal { code: CloseCode::Busy, reason: format!("too many {what}") };
        if table.total >= CONNECTIONS_MAX {
            return Err(busy("connections"));
        }
        if matches!(occupant, Occupant::Anonymous(_)) && table.anonymous() >= ANONYMOUS_MAX {
            return Err(busy("hosts that want to join at a time"));
        }
        let replaced = CancellationToken::new();
        let number = table.next;
        table.next += 1;
        table.total += 1;
        let places = table.places.entry(occupant.clone()).or_default();
        if places.len() >= PER_PEER_MAX
            && let Some((_, oldest)) = places.pop_front()
        {
            oldest.cancel();
        }
        places.push_back((number, replaced.clone()));
        drop(table);
        Ok(Slot { router: self.clone(), occupant, number, replaced })
    }

    fn log(&self, remote: SocketAddr, reason: &str) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        match logged.take(LOGGED, Instant::now()) {
            true => info!(%remote, reason, "connection refused"),
            false => debug!(%remote, reason, "connection refused"),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the dialler that it may speak.
async fn welcome(quinn: &quinn::Connection) -> Result<(), ConnectionLost> {
    let mut stream = quinn.open_uni().await?;
    // An error here means that the connection is gone, and then the handler sees that too.
    let _ = stream.write_all(&[WELCOME]).await;
    let _ = stream.finish();
    Ok(())
}

fn handshake_words(error: &ConnectionLost) -> String {
    match error {
        ConnectionLost::TransportError(error) => tls_words(&error.reason),
        ConnectionLost::ConnectionClosed(close) => {
            format!("the other side refused: {}", tls_words(&readable(&close.reason)))
        }
        other => other.to_string(),
    }
}

/// Whose connections are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Occupant {
    Known(Peer),
    Anonymous(IpAddr),
}

impl Occupant {
    fn of(peer: &Peer, remote: SocketAddr) -> Self {
        match peer {
            Peer::Anonymous => Self::Anonymous(remote.ip()),
            known => Self::Known(known.clone()),
        }
    }
}

/// Accepted connections, oldest first for each occupant, without those that have been told to go;
/// `total` counts these, too, until they have gone.
#[derive(Default)]
struct Table {
    places: BTreeMap<Occupant, VecDeque<(u64, CancellationToken)>>,
    total: usize,
    next: u64,
}

impl Table {
    fn anonymous(&self) -> usize {
        let anonymous = |occupant: &Occupant| matches!(occupant, Occupant::Anonymous(_));
        self.places.iter().filter(|(who, _)| anonymous(who)).map(|(_, places)| places.len()).sum()
    }
}

/// A connection's place in the table, given back on drop.
struct Slot {
    router: Arc<Router>,
    occupant: Occupant,
    number: u64,
    replaced: CancellationToken,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.router.table();
        table.total -= 1;
        if let Some(places) = table.places.get_mut(&self.occupant) {
            places.retain(|(number, _)| *number != self.number);
            if places.is_empty() {
                table.places.remove(&self.occupant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quinn::TransportConfig;

    use super::*;
    use crate::common::{DEADLINE, Fleet, loopback, serve};
    use crate::directory::Expect;
    use crate::identity::Identity;

    /// A stranger who takes no stream of the answerer's holds a place for a moment, and no more of
    /// them than any stranger.
    #[tokio::test]
    async fn r10_who_takes_no_welcome_keeps_no_place() {
        let fleet = Fleet::new("fleet-a");
        let (_server, addr, _stop) = serve(fleet.identity("server"), fleet.directory());
        let mut client =
            Endpoint::bind(loopback(), Identity::anonymous(), fleet.directory()).unwrap();
        let mut transport = TransportConfig::default();
        transport.max_concurrent_uni_streams(0u32.into());
        client.transport = Arc::new(transport);
        let mut connections = Vec::new();
        for _ in 0..=PER_PEER_MAX {
            let (identity, directory) = (client.identity.clone(), client.directory.clone());
            let crypto = tls::client_config(identity, directory, Expect::AnyMember, Alpn::Join);
            let mut config = quinn::ClientConfig::new(Arc::new(crypto.unwrap()));
            config.transport_config(client.transport.clone());
            let dialled = client.quinn.connect_with(config, addr, tls::SERVER_NAME).unwrap();
            connections.push(dialled.await.unwrap());
        }
        let reason = async |connection: &quinn::Connection| {
            let lost = time::timeout(DEADLINE, connection.closed()).await.unwrap();
            let ConnectionLost::ApplicationClosed(close) = lost else { panic!("{lost:?}") };
            readable(&close.reason)
        };
        let first = reason(&connections[0]).await;
        assert_eq!(first, "replaced: too many connections of this peer");
        for connection in &connections[1..] {
            assert_eq!(reason(connection).await, "it takes no welcome");
        }
    }
}
