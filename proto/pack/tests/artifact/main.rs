//! R26 on both sides: what is packed comes back, and what is hostile is refused and writes nothing.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

mod patch;
mod publish;
mod receive;
mod round_trip;
mod support;
mod tar;
mod tree;
