//! The socket: one UDP port for everything this side dials and answers (R10).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    AckFrequencyConfig, AsyncUdpSocket, EndpointConfig, IdleTimeout, MtuDiscoveryConfig,
    Runtime as _, TokioRuntime, TransportConfig, TransportErrorCode, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::pki_types::CertificateDer;
use tokio::time;
use tracing::{debug, warn};

use crate::alpn::{Alpn, CloseCode};
use crate::clock;
use crate::congestion::ByQueue;
use crate::connection::{Connection, ConnectionLost, close, readable};
use crate::directory::{Directory, Expect};
use crate::identity::Identity;
use crate::pool::Pool;
use crate::tls::{self, CurrentIdentity};

/// A dial that has no answer by then has failed.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing comes for so long is gone. Long, and without keep-alive: a given
/// pair of a fleet of hundreds meets only every minute or so, and must not dial afresh each time.
const IDLE_TIMEOUT_MS: u32 = 300_000;
/// One stream may be this far ahead of its reader, in bytes: more only bursts the socket's buffer.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// All streams of a connection together, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Streams towards the other side that may be open at once; gossip needs few.
const UNI_STREAMS_MAX: u32 = 16;
/// Largest packets that are tried, in bytes: what an Ethernet frame holds beside the headers of IPv4 and
/// UDP. Where the path takes less, that is found out.
const UDP_PAYLOAD_BYTES_MAX: u16 = 1_472;
/// Packets that may come before they are acknowledged, or [RFC 9000's][1] 25 ms: where hosts send as much
/// as they receive, the acknowledgements take what their lines have for content, and much of the CPU.
///
/// [1]: https://www.rfc-editor.org/rfc/rfc9000#section-18.2
const UNACKNOWLEDGED_MAX: u32 = 9;
/// Streams in both directions that the other side may have open at once.
const BIDI_STREAMS_MAX: u32 = 64;
/// What the kernel is asked to hold for the socket, each way, in bytes; it may give less.
pub const SOCKET_BUFFER_BYTES: usize = 4 << 20;
/// First and only byte of the stream with which an answerer says that the dialler may speak.
pub(crate) const WELCOME: u8 = 1;

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("cannot bind udp {addr}")]
    Bind {
        addr: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot start quic")]
    Start(#[source] io::Error),
    #[error("cannot set up tls")]
    Tls(#[source] rustls::Error),
}

/// Why a dial failed. Each has the address, and the words of the side that refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot dial {addr}")]
    Dial {
        addr: SocketAddr,
        #[source]
        source: quinn::ConnectError,
    },
    #[error("cannot set up tls for {addr}")]
    Tls {
        addr: SocketAddr,
        #[source]
        source: rustls::Error,
    },
    #[error("{addr} did not answer within {} s", DIAL_TIMEOUT.as_secs())]
    Timeout { addr: SocketAddr },
    /// This side refused: who is there is not who should be.
    #[error("refused {addr}: {reason}")]
    WrongPeer { addr: SocketAddr, reason: String },
    /// The other side refused, and said why.
    #[error("{addr} refused this side: {reason}")]
    Refused { addr: SocketAddr, code: CloseCode, reason: String },
    /// It does not speak this version of the protocol.
    #[error(
        "{addr} runs a version of Groundswell that does not speak {alpn}, as this one does: upgrade the \
         older one"
    )]
    Version { addr: SocketAddr, alpn: Alpn },
    #[error("lost {addr} while connecting")]
    Lost {
        addr: SocketAddr,
        #[source]
        source: ConnectionLost,
    },
}

/// Where an endpoint's packets go.
#[derive(Debug, Clone)]
pub enum Port {
    /// To the network of this machine, from this address.
    Machine(SocketAddr),
    /// To a simulated network.
    Simulated(Arc<dyn AsyncUdpSocket>),
}

/// What the kernel gives the socket of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketFacts {
    /// Datagrams that it takes from one call; 1: there is no segmentation offload (GSO), or no longer.
    pub segments_max: usize,
    /// What it holds of what has come and is not read yet, in bytes; [`SOCKET_BUFFER_BYTES`] were asked
    /// for.
    pub receive_buffer_bytes: usize,
}

/// One UDP port. Cheap to clone. It can dial from the start, and answers while
/// [`serve`](Self::serve) runs.
#[derive(Clone)]
pub struct Endpoint {
    pub(crate) quinn: quinn::Endpoint,
    pub(crate) identity: Arc<CurrentIdentity>,
    pub(crate) directory: Directory,
    pub(crate) transport: Arc<TransportConfig>,
    socket: Arc<dyn AsyncUdpSocket>,
    /// None: the network is simulated.
    receive_buffer_bytes: Option<usize>,
}

impl Endpoint {
    /// Binds the port of this machine. Who only dials takes port 0 of `0.0.0.0` or `[::]`. Must be
    /// called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NetError::Bind`].
    pub fn bind(
        addr: SocketAddr,
        identity: Identity,
        directory: Directory,
    ) -> Result<Self, NetError> {
        Self::open(Port::Machine(addr), identity, directory)
    }

    /// Takes a port. Must be called in a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub fn open(port: Port, identity: Identity, directory: Directory) -> Result<Self, NetError> {
        let (socket, receive_buffer_bytes) = match port {
            Port::Machine(addr) => {
                let opened = machine_socket(addr);
                let (socket, bytes) = opened.map_err(|source| NetError::Bind { addr, source })?;
                (socket, Some(bytes))
            }
            Port::Simulated(socket) => (socket, None),
        };
        let config = endpoint_config(&identity);
        let runtime = Arc::new(TokioRuntime);
        let quinn =
            quinn::Endpoint::new_with_abstract_socket(config, None, socket.clone(), runtime)
                .map_err(NetError::Start)?;
        let identity = Arc::new(CurrentIdentity::new(identity));
        let transport = Arc::new(transport());
        Ok(Self { quinn, identity, directory, transport, socket, receive_buffer_bytes })
    }

    /// Takes a renewed identity; it holds for new connections.
    pub fn set_identity(&self, identity: Identity) {
        self.identity.set(identity);
    }

    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The address bound, with the port the kernel chose if it was asked to.
    ///
    /// # Errors
    ///
    /// What the operating system reports.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.quinn.local_addr()
    }

    /// What the kernel gives the socket now; none in a simulated network.
    pub fn socket_facts(&self) -> Option<SocketFacts> {
        let receive_buffer_bytes = self.receive_buffer_bytes?;
        Some(SocketFacts {
            segments_max: self.socket.max_transmit_segments(),
            receive_buffer_bytes,
        })
    }

    /// Dials `addr`, where `expect` should be; ready once the other side agreed to talk.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; whichever side refused, the reason is in it.
    pub async fn connect(
        &self,
        alpn: Alpn,
        addr: SocketAddr,
        expect: Expect,
    ) -> Result<Connection, ConnectError> {
        let dial = self.dial(alpn, addr, expect);
        time::timeout(DIAL_TIMEOUT, dial).await.unwrap_or(Err(ConnectError::Timeout { addr }))
    }

    /// Connections of one protocol, kept for reuse; `capacity` of them, at least one.
    pub fn pool(&self, alpn: Alpn, capacity: usize) -> Pool {
        Pool::new(self.clone(), alpn, capacity)
    }

    async fn dial(
        &self,
        alpn: Alpn,
        addr: SocketAddr,
        expect: Expect,
    ) -> Result<Connection, ConnectError> {
        let (identity, directory) = (self.identity.clone(), self.directory.clone());
        let crypto = tls::client_config(identity, directory, expect.clone(), alpn)
            .map_err(|source| ConnectError::Tls { addr, source })?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(self.transport.clone());
        let lost = |source| refused_or_lost(addr, alpn, source);
        let quinn = self
            .quinn
            .connect_with(config, addr, tls::SERVER_NAME)
            .map_err(|source| ConnectError::Dial { addr, source })?
            .await
            .map_err(lost)?;
        // The handshake has judged the certificate; it is judged again for the name, and because the
        // root may have changed meanwhile.
        let peer = self.directory.meet(&expect, &chain_of(&quinn), clock::unix());
        let peer = peer.map_err(|error| {
            close(&quinn, CloseCode::Forbidden, &error.to_string());
            ConnectError::WrongPeer { addr, reason: error.to_string() }
        })?;
        // In TLS 1.3 a client is done before the server has seen its certificate. Waiting for the
        // welcome makes a refusal an error of the dial, reason and all, instead of a later riddle.
        let mut welcome = [0];
        let mut stream = quinn.accept_uni().await.map_err(lost)?;
        match stream.read_exact(&mut welcome).await {
            Ok(()) if welcome == [WELCOME] => {
                Ok(Connection::new(quinn, alpn, peer, self.directory.clone()))
            }
            Err(quinn::ReadExactError::ReadError(quinn::ReadError::ConnectionLost(source))) => {
                Err(lost(source))
            }
            _ => {
                let reason = "it does not say welcome".to_owned();
                close(&quinn, CloseCode::Violation, &reason);
                Err(ConnectError::WrongPeer { addr, reason })
            }
        }
    }
}

/// The connection ids and reset tokens of an identity are the same after every start. So a daemon that
/// was killed and started again can tell its peers at once that their connections are gone (RFC 9000,
/// 10.3); otherwise they would feed them until they idle out, minutes later.
fn endpoint_config(identity: &Identity) -> EndpointConfig {
    let Some(reset_key) = identity.derived("groundswell 2026 quic stateless reset") else {
        return EndpointConfig::default();
    };
    let ids = identity.derived("groundswell 2026 quic connection ids").unwrap_or_default();
    let ids_key = u64::from_be_bytes(ids[..8].try_into().expect("eight bytes"));
    let reset_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &reset_key);
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids_key)));
    config
}

/// The certificates the other side proved itself with.
pub(crate) fn chain_of(connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let identity = connection.peer_identity();
    identity
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .map_or_else(Vec::new, |chain| *chain)
}

fn refused_or_lost(addr: SocketAddr, alpn: Alpn, source: ConnectionLost) -> ConnectError {
    match source {
        ConnectionLost::ConnectionClosed(close) if is_no_common_protocol(close.error_code) => {
            ConnectError::Version { addr, alpn }
        }
        ConnectionLost::ApplicationClosed(close) => ConnectError::Refused {
            addr,
            code: CloseCode::of_wire(close.error_code),
            reason: readable(&close.reason),
        },
        ConnectionLost::ConnectionClosed(close) if !close.reason.is_empty() => {
            let reason = tls_words(&readable(&close.reason));
            ConnectError::Refused { addr, code: CloseCode::Forbidden, reason }
        }
        // Only a handshake that this side ended has an error of TLS in it.
        ConnectionLost::TransportError(error) if is_tls_alert(error.code) => {
            ConnectError::WrongPeer { addr, reason: tls_words(&error.reason) }
        }
        ConnectionLost::TimedOut => ConnectError::Timeout { addr },
        source => ConnectError::Lost { addr, source },
    }
}

/// Whether a QUIC error code is the TLS alert `no_application_protocol` (RFC 7301, 3.2).
fn is_no_common_protocol(code: TransportErrorCode) -> bool {
    code == TransportErrorCode::crypto(120)
}

/// Whether a QUIC error code carries a TLS alert (RFC 9001, 4.8).
fn is_tls_alert(code: TransportErrorCode) -> bool {
    u64::from(code) & !0xff == 0x100
}

/// The words of a failed handshake without what rustls puts before those of a verifier.
pub(crate) fn tls_words(reason: &str) -> String {
    reason.strip_prefix("other error: ").unwrap_or(reason).to_owned()
}

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(UDP_PAYLOAD_BYTES_MAX);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(UNACKNOWLEDGED_MAX.into());
    config
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(ByQueue))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(None)
        .mtu_discovery_config(Some(mtu))
        .max_concurrent_uni_streams(UNI_STREAMS_MAX.into())
        .max_concurrent_bidi_streams(BIDI_STREAMS_MAX.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(CONNECTION_WINDOW_BYTES.into())
        .datagram_receive_buffer_size(None);
    config
}

/// The socket, and what the kernel holds for it of what has come, in bytes.
fn machine_socket(addr: SocketAddr) -> io::Result<(Arc<dyn AsyncUdpSocket>, usize)> {
    let socket = std::net::UdpSocket::bind(addr)?;
    raise_buffers(&socket);
    // Linux tells twice what was asked for: with what it needs itself (socket(7)).
    let receive_buffer_bytes = socket2::SockRef::from(&socket).recv_buffer_size()? / 2;
    let socket = TokioRuntime.wrap_udp_socket(socket)?;
    if socket.max_transmit_segments() == 1 {
        warn!(%addr, "no segmentation offload (GSO): sending costs three times the cpu");
    }
    Ok((socket, receive_buffer_bytes))
}

/// A burst of pieces must not overrun the socket while the one task that reads it waits for a core.
fn raise_buffers(socket: &std::net::UdpSocket) {
    let socket = socket2::SockRef::from(socket);
    let raised = socket
        .set_recv_buffer_size(SOCKET_BUFFER_BYTES)
        .and_then(|()| socket.set_send_buffer_size(SOCKET_BUFFER_BYTES));
    if let Err(error) = raised {
        debug!(%error, "the socket's buffers stay as they are");
    }
}
