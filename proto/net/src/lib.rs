//! The one UDP port: QUIC with identities on both sides, a router by ALPN, and gossip.
//!
//! It moves frames between identities and gossips small strings. **Absent:** releases, waves, pieces:
//! what the frames and strings mean is other crates' business.
//!
//! | module | what |
//! |---|---|
//! | [`alpn`] | the four protocols, who may speak which, why connections are closed |
//! | [`clock`] | the machine's two clocks |
//! | [`certificate`] | X.509 of hosts: issue, read, when to renew |
//! | [`identity`] | who this side is |
//! | [`directory`] | who the other side can be: the root's keys and the known hosts |
//! | [`endpoint`] | the socket: bind, connect |
//! | [`router`] | serve: a handler for each ALPN, limits |
//! | [`connection`] | a connection whose peer is proven |
//! | `congestion` | how much may be under way on a path |
//! | [`frame`] | values and bytes on streams, bounded in size and time |
//! | [`places`] | so much at a time, and nobody more than a share of it |
//! | [`pool`] | connections kept for reuse, dials in single flight |
//! | [`join`] | how a host that has nothing but a token gets in |
//! | [`gossip`] | membership and small signed values, chitchat behind a filter |

pub mod alpn;
pub mod certificate;
pub mod clock;
mod congestion;
pub mod connection;
pub mod directory;
pub mod endpoint;
pub mod frame;
pub mod gossip;
pub mod identity;
pub mod join;
pub mod places;
pub mod pool;
mod quota;
pub mod router;
mod tls;

pub use alpn::{Alpn, CloseCode};
pub use connection::{Connection, ConnectionLost, RecvStream, SendStream};
pub use directory::{Directory, Expect, IdentityError, Peer};
pub use endpoint::{ConnectError, Endpoint, NetError, Port, SocketFacts};
pub use gossip::{Gossip, GossipConfig, Member};
pub use identity::Identity;
pub use places::{Place, Places};
pub use pool::Pool;
pub use router::{Handler, Handlers};

/// The fleet that unit tests share with the integration tests, which call this crate by its name.
#[cfg(test)]
extern crate self as net;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
