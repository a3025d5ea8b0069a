//! What the agent and the coordinator have in common: both are members of the fleet.
//!
//! A member has the one port, gossips, holds statements and content, and can tell people what it
//! sees. **Absent:** activation, admission, any key but the member's own.
//!
//! | module | what |
//! |---|---|
//! | [`membership`] | port, gossip, ledger and swarm, wired and kept in step |
//! | [`late`] | statements that would be in vain |
//! | [`reload`] | a configuration that is read anew |
//! | [`submitted`] | what people may hand in, and the answer |
//! | `ways_back` | what goes before all else on the wire |
//! | [`view`] | what a member sees of the fleet, for people |
//! | [`manager`] | what the service manager is told |
//! | [`metrics`] | its own page of metrics, and what every member tells there |
//! | [`clock`] | the machine's two clocks |
//! | [`checkup`] | what a member finds when it looks itself over |
//! | [`disk`] | what a file system has left |

pub mod checkup;
pub mod clock;
pub mod disk;
pub mod late;
pub mod manager;
pub mod membership;
pub mod metrics;
pub mod reload;
pub mod submitted;
pub mod view;
mod ways_back;

pub use manager::{Beat, Pulse};
pub use membership::{JoinFleetError, Membership, Seat, keep_record};
pub use submitted::{refuse_submitted, reply_to_admitted};
pub use view::View;

/// An error and all its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
