//! The coordinator in this process, spoken to over real QUIC on loopback.

#![expect(clippy::unwrap_used, reason = "test helpers")]

mod audit;
mod control;
mod fleet;
mod notify;
mod api;
mod control;
mod fleet;
mod https;
mod publish;
mod recover;
