//! The coordinator in this process, spoken to over real QUIC on loopback.

#![expect(clippy::unwrap_used, reason = "test helpers")]

mod api;
mod audit;
mod control;
mod fleet;
mod https;
mod notify;
mod pages;
mod publish;
mod recover;
