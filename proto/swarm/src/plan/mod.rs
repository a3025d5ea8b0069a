//! Which piece to ask of whom, and whom to answer first: sans-IO, time comes in as milliseconds of
//! any steady clock.
//!
//! [`Picker`] is the side of who fetches: it knows what is here, what each peer says it holds and what
//! is being asked. Its rules:
//!
//! * of the origin a host asks for *new* pieces: it names some that none of its peers holds, and the
//!   origin gives the one that it has given to nobody yet. So each piece leaves the origin once, to
//!   whoever has room for it, before any leaves it twice (R27). Once all are out it gives again what
//!   somebody took who does not pass it on;
//! * of peers it asks rarest first; ties are broken by an order of the fetcher's own, so that hosts
//!   that start together take different pieces;
//! * a small pipeline per peer, longer only where a round trip takes long beside a piece; a ceiling over
//!   all of them;
//! * the origin is asked by name last: for pieces that no peer holds and that it has given to somebody
//!   who does not pass them on, or that no willing peer can give;
//! * an ask that waits much longer than asks do here, or whose bytes trickle, is made of a second peer,
//!   too; the first to come wins, the other is cancelled. Of asks whose bytes flow only a few are
//!   doubled at a time: their bytes are paid for;
//! * who passes no bytes on for a while is asked less; a peer that sends wrong bytes is never asked again.
//!
//! A piece counts when [`Picker::verified`] is called, and in no other way. Others are told of it before,
//! once the first of it has come and was right, and given it as it comes: so it takes a slice's time from
//! host to host, and not a piece's. Not of one that comes slowly ([`comes_soon`]): who asks for that would
//! wait, too, and nobody would ask the origin for it.
//!
//! [`Uploads`] is the side of who gives: few pieces at a time, so that each is whole soon and can be
//! passed on; of those that wait, the artifacts in turn, and of each the piece given least first. What
//! is to go first has places of its own, beside which others have one ([`Uploads::set_first`]).
//!
//! [`Ceiling`] is both sides': how much passes in a second, and whose turn it is. The giver takes leave of
//! it for each stretch of a piece, the fetcher before it asks for one: an ask that is held back is not
//! made, so nobody gives in vain, and nothing waits that could be taken for slow (R29).

mod ceiling;
#[cfg(test)]
mod neighbour;
mod pause;
mod picker;
#[cfg(test)]
mod proptests;
mod rate;
#[cfg(test)]
mod test;
mod uploads;

pub use ceiling::{Ceiling, ClaimId, burst_bytes};
pub use pause::Pause;
pub use picker::{Ask, AskId, Picker, Stall, What};
pub use rate::{RATE_MS, Rate};
pub use uploads::{Given, Ticket, Uploads};

/// Pieces asked at a time that fill a line, spread over the peers there are, one each at least: more
/// would only wait, and be held by others by the time they come.
pub const ASKS_WANTED: u32 = 8;
/// Pieces asked of one peer at a time at most: where there is no other, or a round trip takes as long as
/// several pieces.
pub const PIPELINE_MAX: u32 = 6;
/// Pieces asked at a time in all, those that are stuck not counted.
pub const ASKS_MAX: u32 = 12;
/// Stuck asks on top of those. Both bound the memory of a fetch to as many mebibytes.
pub const STUCK_MAX: u32 = 12;
/// Asks whose bytes flow that are doubled at a time.
pub const DOUBLED_MAX: u32 = 4;
/// The last missing pieces, which are asked twice sooner.
pub const ENDGAME_PIECES: u32 = 4;
/// How long an ask is open, in ms, before it is known how long asks take here, until it counts as
/// stuck.
pub const STUCK_MS: u64 = 2_000;
/// Least and longest of what that becomes, in ms: [`STUCK_FACTOR`] times what asks take.
pub const STUCK_MS_MIN: u64 = 300;
/// See [`STUCK_MS_MIN`].
pub const STUCK_MS_MAX: u64 = 8_000;
/// How many times as long as others an ask is open until it counts as stuck.
pub const STUCK_FACTOR: u64 = 4;
/// First deadline of an ask, in ms, from when it is made and again from each [`PROGRESS_BYTES`] that come;
/// doubled for a peer each time it is missed, so that a slow line gets through in the end.
pub const ASK_MS: u64 = 10_000;
/// Longest deadline of an ask, in ms.
pub const ASK_MS_MAX: u64 = 320_000;
/// What counts as progress, in bytes: less in an [`ASK_MS`] is a trickle.
pub const PROGRESS_BYTES: usize = 32 << 10;
/// First pause after a peer said it is busy, in ms; doubled each time in a row.
pub const BUSY_MS: u64 = 200;
/// Longest such pause, in ms.
pub const BUSY_MS_MAX: u64 = 5_000;
/// First pause after the origin had nothing new among what was named, in ms; doubled each time in a row.
pub const NOTHING_NEW_MS: u64 = 50;
/// Longest such pause, in ms.
pub const NOTHING_NEW_MS_MAX: u64 = 1_000;
/// How many times as long as it takes to give a piece it takes until others have it from whom it was given.
pub const PASSED_ON_FACTOR: u64 = 6;
/// The same at least, in ms: hosts tell what they have some times in a second.
pub const PASSED_ON_MS_MIN: u64 = 500;
/// Pieces a peer may lack that it had announced, before it is taken for a liar.
pub const DENIALS_MAX: u32 = 8;
/// Pieces given at a time, over all askers.
pub const UPLOADS_AT_ONCE: usize = 12;
/// How long one is given until it is no longer counted among those, in ms: [`UPLOAD_SLOW_FACTOR`] times
/// as long as that takes here, and at least this. What takes long because the line is slow would only
/// take longer if the line was split among more.
pub const UPLOAD_SLOW_MS: u64 = 5_000;
/// The same before the first one is given to the end.
pub const UPLOAD_SLOW_MS_FIRST: u64 = 20_000;
/// Longest of what that becomes, in ms.
pub const UPLOAD_SLOW_MS_MAX: u64 = 240_000;
/// See [`UPLOAD_SLOW_MS`].
pub const UPLOAD_SLOW_FACTOR: u64 = 4;
/// Pieces given at a time at most, slow ones counted: bounds the memory they take. Beyond
/// [`UPLOADS_AT_ONCE`] whoever is given something already waits.
pub const UPLOADS_MAX: usize = 24;
/// Of these, to one asker.
pub const UPLOADS_PER_PEER_MAX: usize = 4;
/// Asks that wait their turn, over all askers; who comes later hears that it is busy here.
pub const WAITING_MAX: usize = 512;
/// Of these, of one asker.
pub const WAITING_PER_PEER_MAX: usize = 16;
/// How long an ask waits for its turn until it hears that it is busy here, in ms: less than the asker
/// waits for the first word.
pub const WAIT_MS_MAX: u64 = 4_000;
/// Places of others while something that goes first is given, or waits to be.
pub const USUAL_BESIDE_FIRST: usize = 1;
/// As many pieces of what goes first as this makes whole copies are given to one asker first.
pub const FIRST_COPIES_MAX: u32 = 2;
/// Bytes per second for each of those given at a time, or there are fewer of them: a piece is whole soon,
/// and its taker does not think the giver slow.
pub const UPLOAD_BYTES_PER_S_MIN: u64 = 128 << 10;
/// Longest pause of uploads, in ms: see [`Pause`].
pub const PAUSE_MS_MAX: u64 = 600_000;
/// A burst under a ceiling is what passes in this part of a second;
pub const BURSTS_PER_S: u64 = 16;
/// but not less than so many bytes.
pub const BURST_BYTES_MIN: u64 = 32 << 10;
/// What passes at a time of an upload, under a ceiling, is what does in this part of a second,
pub const CHUNKS_PER_S: u64 = 64;
/// and so many bytes at least,
pub const CHUNK_BYTES_MIN: u64 = 16 << 10;
/// and at most.
pub const CHUNK_BYTES_MAX: u64 = 256 << 10;
/// How often what goes first passes before others until one of them does.
pub const FIRST_IN_A_ROW: u32 = 7;
/// When to look again, in ms, whether what goes first is still under way.
pub const LOOK_AGAIN_MS: u64 = 1_000;

/// Whether a piece comes so fast that others may be told of it: at the pace of what has come, `so_far_ms`
/// after it began, it is whole before it would count as stuck ([`Ask::slow_ms`]).
pub fn comes_soon(so_far_ms: u64, bytes: usize, of: usize, slow_ms: u64) -> bool {
    let product = |ms: u64, bytes: usize| u128::from(ms) * bytes as u128;
    bytes > 0 && product(so_far_ms, of) <= product(slow_ms, bytes)
}
