//! The four protocols of the port, who may speak which, and why connections are closed (R10).

use std::fmt;

use crate::directory::Peer;

/// A protocol. Each has connections of its own, so that a slow piece never delays a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alpn {
    /// Membership and small values among members.
    Gossip,
    /// Content by digest among members.
    Swarm,
    /// People, CI and members to a member.
    Control,
    /// A host that has nothing but a token, to the coordinator.
    Join,
}

impl Alpn {
    pub const ALL: [Self; 4] = [Self::Gossip, Self::Swarm, Self::Control, Self::Join];

    /// The name on the wire; it carries the protocol's version.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gossip => "gsw-gossip/1",
            Self::Swarm => "gsw-swarm/1",
            Self::Control => "gsw-control/3",
            Self::Join => "gsw-join/1",
        }
    }

    /// The protocol with this name.
    pub fn of(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|alpn| alpn.name().as_bytes() == name)
    }

    /// Whether `peer` may open connections of this protocol.
    pub const fn admits(self, peer: &Peer) -> bool {
        match (self, peer) {
            (Self::Gossip | Self::Swarm, Peer::Host(_) | Peer::Coordinator(_))
            | (Self::Control, Peer::Host(_) | Peer::Coordinator(_) | Peer::Person(_))
            | (Self::Join, Peer::Anonymous) => true,
            (Self::Gossip | Self::Swarm, Peer::Person(_) | Peer::Anonymous)
            | (Self::Control, Peer::Anonymous)
            | (Self::Join, Peer::Host(_) | Peer::Coordinator(_) | Peer::Person(_)) => false,
        }
    }
}

impl fmt::Display for Alpn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a side closed a connection; a reason in words goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// Nothing is wrong: finished, replaced by a newer one, or not needed any more.
    Done,
    /// The peer's identity may not speak this protocol.
    Forbidden,
    /// Too many connections or requests; later is fine.
    Busy,
    /// The peer broke the protocol.
    Violation,
    /// The peer does not acknowledge what it is sent.
    Unresponsive,
    /// This side stops.
    Stopping,
    /// A code this version does not know.
    Other(u32),
}

impl CloseCode {
    pub(crate) fn to_wire(self) -> quinn::VarInt {
        quinn::VarInt::from_u32(match self {
            Self::Done => 0,
            Self::Forbidden => 1,
            Self::Busy => 2,
            Self::Violation => 3,
            Self::Unresponsive => 4,
            Self::Stopping => 5,
            Self::Other(code) => code,
        })
    }

    pub(crate) fn of_wire(code: quinn::VarInt) -> Self {
        match code.into_inner() {
            0 => Self::Done,
            1 => Self::Forbidden,
            2 => Self::Busy,
            3 => Self::Violation,
            4 => Self::Unresponsive,
            5 => Self::Stopping,
            other => Self::Other(u32::try_from(other).unwrap_or(u32::MAX)),
        }
    }
}
