//! Which piece to ask of whom: sans-IO, time comes in as milliseconds of any steady clock.
//!
//! [`Picker`] knows what is here, what each peer says it holds and what is being asked. Its rules:
//!
//! * rarest first among the connected peers; ties are broken by an order of the fetcher's own, so
//!   that hosts that start together take different pieces;
//! * a small pipeline per peer, a ceiling over all of them;
//! * the origin is asked last: for pieces that no peer holds or no willing peer can give;
//! * the last pieces, when they take long, are asked of a second peer, and the slower is cancelled;
//! * a peer that sends wrong bytes is never asked again; one that is slow, busy or lacks what it
//!   announced is asked less.
//!
//! A piece counts when [`Picker::verified`] is called, and in no other way.

mod picker;
#[cfg(test)]
mod proptests;

pub use picker::{Ask, Picker, Stall};

/// Pieces asked of one peer at a time.
pub const PIPELINE: u32 = 3;
/// Pieces asked of the origin at a time: its line is everybody's.
pub const ORIGIN_PIPELINE: u32 = 2;
/// Pieces asked at a time in all: bounds the memory of a fetch to as many mebibytes.
pub const ASKS_MAX: u32 = 16;
/// The last missing pieces that may be asked twice.
pub const ENDGAME_PIECES: u32 = 4;
/// How long an ask must have been open before a second one is worth its bytes, in ms.
pub const ENDGAME_AFTER_MS: u64 = 500;
/// How long an ask must have been open before its peer counts as slow and the origin may be asked
/// for what only slow peers hold, in ms.
pub const SLOW_MS: u64 = 2_000;
/// First deadline of an ask, in ms; doubled for a peer each time it is missed, so that a slow line
/// gets through in the end.
pub const ASK_MS: u64 = 10_000;
/// Longest deadline of an ask, in ms.
pub const ASK_MS_MAX: u64 = 320_000;
/// First pause after a peer said it is busy, in ms; doubled each time in a row.
pub const BUSY_MS: u64 = 200;
/// Longest such pause, in ms.
pub const BUSY_MS_MAX: u64 = 5_000;
/// Pieces a peer may lack that it had announced, before it is taken for a liar.
pub const DENIALS_MAX: u32 = 8;
