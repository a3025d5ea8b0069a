//! How a host that has nothing but a token gets in (R9).
//!
//! The host is anonymous and the coordinator is proven by the key in the token. One connection, one
//! stream, one small request, one answer; how often an address may ask is bounded before anything it
//! says is read. What makes a token good is the coordinator's business ([`Admit`]).

mod token;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use proto::PublicKey;
use proto::wire::{
    JOIN_REPLY_BYTES_MAX, JOIN_REQUEST_BYTES_MAX, JoinReply, JoinRequest, join_proof,
};
use tokio::time::Instant;
use tracing::{debug, info};

pub use token::{ParseTokenError, Token};

use crate::alpn::{Alpn, CloseCode};
use crate::connection::{Connection, ConnectionLost};
use crate::directory::Expect;
use crate::endpoint::{ConnectError, Endpoint};
use crate::frame::{self, FrameError};
use crate::quota::{Quota, Quotas};
use crate::router::Handler;

/// Requests of one address. A rack behind one address may join at once.
const QUOTA: Quota = Quota { burst: 20, period: Duration::from_secs(1) };
/// Addresses whose requests are counted.
const ADDRESSES_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
/// How long a joining host may take to say what it wants.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// How long the answer may take: there is a disk and a signature behind it.
const REPLY_WITHIN: Duration = Duration::from_secs(20);

/// Why a host could not ask to join. A refusal is an answer, not an error.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("cannot reach the coordinator")]
    Connect(#[from] ConnectError),
    #[error("the coordinator closed the connection")]
    Closed(#[from] ConnectionLost),
    #[error("cannot send the request")]
    Request(#[source] FrameError),
    #[error("cannot read the answer")]
    Reply(#[source] FrameError),
}

/// Asks the coordinator at `addr`, proven by `coordinator`, to let this host in.
///
/// # Errors
///
/// [`AskError`]: the step that failed.
pub async fn ask(
    endpoint: &Endpoint,
    addr: SocketAddr,
    coordinator: PublicKey,
    request: &JoinRequest,
) -> Result<JoinReply, AskError> {
    let connection = endpoint.connect(Alpn::Join, addr, Expect::Key(coordinator)).await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    frame::send(&mut send, request, JOIN_REQUEST_BYTES_MAX, REQUEST_WITHIN)
        .await
        .map_err(AskError::Request)?;
    // An error here means that the connection is gone, which the next line reports better.
    let _ = send.finish();
    let reply = frame::recv(&mut recv, JOIN_REPLY_BYTES_MAX, REPLY_WITHIN).await;
    connection.close(CloseCode::Done, "");
    reply.map_err(AskError::Reply)
}

/// Decides who joins.
#[async_trait]
pub trait Admit: Send + Sync + 'static {
    /// Answers one request. It comes from somebody who holds the key in it; nothing else is known
    /// about him.
    async fn admit(&self, request: JoinRequest, from: IpAddr) -> JoinReply;
}

/// The handler of [`Alpn::Join`].
pub struct Door {
    admit: Arc<dyn Admit>,
    asked: Mutex<Quotas<IpAddr>>,
}

impl Door {
    pub fn new(admit: Arc<dyn Admit>) -> Self {
        Self { admit, asked: Mutex::new(Quotas::new(QUOTA, ADDRESSES_MAX)) }
    }

    async fn answer(&self, connection: &Connection) -> Result<(), FrameError> {
        let from = connection.remote_addr().ip();
        let accepted = tokio::time::timeout(REQUEST_WITHIN, connection.accept_bi()).await;
        let Ok(Ok((mut send, mut recv))) = accepted else { return Ok(()) };
        let request: JoinRequest =
            frame::recv(&mut recv, JOIN_REQUEST_BYTES_MAX, REQUEST_WITHIN).await?;
        let proof = join_proof(&request.token, &request.key);
        let reply = match request.key.verifies(&proof, &request.proof) {
            true => self.admit.admit(request, from).await,
            false => {
                let reason = "the request does not prove that it holds its key".to_owned();
                JoinReply::Refused { reason }
            }
        };
        frame::send(&mut send, &reply, JOIN_REPLY_BYTES_MAX, REQUEST_WITHIN).await?;
        let _ = send.finish();
        // The host closes once it has read the answer; closing first could lose it.
        let _ = tokio::time::timeout(REQUEST_WITHIN, connection.closed()).await;
        Ok(())
    }
}

#[async_trait]
impl Handler for Door {
    async fn connection(&self, connection: Connection) {
        let from = connection.remote_addr();
        let allowed = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.take(source_of(from.ip()), Instant::now())
        };
        if !allowed {
            debug!(%from, "too many join requests");
            let reason = "too many join requests from this address, try again in a minute";
            return connection.close(CloseCode::Busy, reason);
        }
        if let Err(error) = self.answer(&connection).await {
            info!(%from, %error, "join request not answered");
            connection.close(CloseCode::Violation, &error.to_string());
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 of which a site has all of IPv6.
fn source_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}
