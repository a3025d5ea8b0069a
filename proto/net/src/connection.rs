//! A connection whose peer is proven.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

pub use quinn::{ConnectionError as ConnectionLost, RecvStream, SendStream};
use tokio::task::AbortHandle;

use crate::alpn::{Alpn, CloseCode};
use crate::directory::{Directory, Peer};

/// Longest reason that goes with a close, in bytes; it must fit into one packet.
const REASON_BYTES_MAX: usize = 400;

/// An open connection of one protocol to one proven peer. Cheap to clone; it closes when it is told
/// to, or when the last clone and the last stream are dropped.
#[derive(Clone)]
pub struct Connection {
    pub(crate) quinn: quinn::Connection,
    alpn: Alpn,
    peer: Peer,
    _watched: Arc<Watched>,
}

/// The task that closes a connection when its peer is removed from the fleet. It ends with the last
/// clone of the connection, which it must not keep open.
struct Watched(AbortHandle);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Closes by itself once `directory` knows that the peer was removed.
    pub(crate) fn new(
        quinn: quinn::Connection,
        alpn: Alpn,
        peer: Peer,
        directory: Directory,
    ) -> Self {
        let (watched, who) = (quinn.clone(), peer.clone());
        let task = tokio::spawn(async move {
            tokio::select! {
                _ = watched.closed() => {}
                error = directory.until_removed(&who) => {
                    close(&watched, CloseCode::Forbidden, &error.to_string());
                }
            }
        });
        Self { quinn, alpn, peer, _watched: Arc::new(Watched(task.abort_handle())) }
    }

    /// Who is at the other end.
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    pub const fn alpn(&self) -> Alpn {
        self.alpn
    }

    /// Where the peer's packets come from. Members dial and answer from one socket, so this is the
    /// peer's own address whoever dialled, unless it has several or is behind a translator.
    pub fn remote_addr(&self) -> SocketAddr {
        canonical(self.quinn.remote_address())
    }

    /// How long a packet takes to the peer and its acknowledgement back, smoothed, in ms.
    pub fn round_trip_ms(&self) -> u64 {
        u64::try_from(self.quinn.rtt().as_millis()).unwrap_or(u64::MAX)
    }

    /// Pieces of streams, of about a packet each, that have come of the peer: while more come, it is
    /// there and answers.
    pub fn heard(&self) -> u64 {
        self.quinn.stats().frame_rx.stream
    }

    /// The same of those sent to it, those sent again among them: while that grows, it takes what it
    /// is given.
    pub fn told(&self) -> u64 {
        self.quinn.stats().frame_tx.stream
    }

    /// Packets that have come of the peer, acknowledgements among them. While something is under way to
    /// it and none comes, it is gone, or its line is.
    pub fn packets(&self) -> u64 {
        self.quinn.stats().udp_rx.datagrams
    }

    /// Opens a stream in both directions. The peer sees it once something is sent on it.
    ///
    /// # Errors
    ///
    /// [`ConnectionLost`], with the reason the peer gave if it gave one.
    pub async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionLost> {
        self.quinn.open_bi().await
    }

    /// The next stream in both directions that the peer opens.
    ///
    /// # Errors
    ///
    /// As [`Self::open_bi`].
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionLost> {
        self.quinn.accept_bi().await
    }

    /// Opens a stream towards the peer.
    ///
    /// # Errors
    ///
    /// As [`Self::open_bi`].
    pub async fn open_uni(&self) -> Result<SendStream, ConnectionLost> {
        self.quinn.open_uni().await
    }

    /// The next stream that the peer opens towards this side.
    ///
    /// # Errors
    ///
    /// As [`Self::open_bi`].
    pub async fn accept_uni(&self) -> Result<RecvStream, ConnectionLost> {
        self.quinn.accept_uni().await
    }

    /// Closes the connection at once; the peer sees code and reason. What is not acknowledged yet
    /// may be lost.
    pub fn close(&self, code: CloseCode, reason: &str) {
        close(&self.quinn, code, reason);
    }

    /// Waits until the connection is closed, by whichever side.
    pub async fn closed(&self) -> ConnectionLost {
        self.quinn.closed().await
    }

    pub fn is_closed(&self) -> bool {
        self.quinn.close_reason().is_some()
    }

    pub(crate) fn stable_id(&self) -> usize {
        self.quinn.stable_id()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} {} at {})", self.alpn, self.peer, self.remote_addr())
    }
}

pub(crate) fn close(connection: &quinn::Connection, code: CloseCode, reason: &str) {
    let end =
        (0..=reason.len().min(REASON_BYTES_MAX)).rev().find(|at| reason.is_char_boundary(*at));
    connection.close(code.to_wire(), &reason.as_bytes()[..end.unwrap_or(0)]);
}

/// An address as people write it: a socket for both families sees IPv4 peers as mapped ones.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// What a peer said when it closed, fit for a log: cut, and without control characters.
pub(crate) fn readable(reason: &[u8]) -> String {
    let text = String::from_utf8_lossy(&reason[..reason.len().min(REASON_BYTES_MAX)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
