//! Moving content between members over `gsw-swarm/1`.
//!
//! [`ask`] is one question and its answer, from the asker's side; [`provide`] answers, pieces in the
//! order of [`queue`]; pieces pass a [`toll`] on their way out and in; [`fetch`] drives a
//! [`crate::plan::Picker`] until an artifact is whole, and hears through [`follow`] what its peers hold.
//! What comes is passed on meanwhile: [`coming`].

pub(crate) mod ask;
pub(crate) mod coming;
pub(crate) mod fetch;
mod follow;
mod manifest;
pub(crate) mod patches;
pub(crate) mod peers;
pub(crate) mod provide;
pub(crate) mod queue;
pub(crate) mod toll;

use std::time::Duration;

use proto::codec::FRAME_BYTES_MAX;

/// Longest frame of a `Have`: a bit for each of as many pieces as an artifact can have.
const HAVE_BYTES_MAX: usize = 64 << 10;
/// Longest frame that answers `Roots`.
const ROOTS_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Roots in one answer; who needs more asks again.
const ROOTS_MAX: usize = 64;
/// Longest wait for the first word of an answer, or for a request. Shorter than the first deadline
/// of an ask ([`crate::plan::ASK_MS`]), so that the connection of a peer that fell silent is closed
/// before its ask is given up, and is not asked on again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// The slowest line on which a list still arrives, in bytes per second: sets how long a sender or
/// receiver waits for the end of it.
const BYTES_PER_S_MIN: u64 = 16 << 10;

/// Longest wait for a list of `bytes`. Content has deadlines that move with what comes of it.
fn list_timeout(bytes: usize) -> Duration {
    ANSWER_TIMEOUT + Duration::from_secs(bytes as u64 / BYTES_PER_S_MIN)
}
