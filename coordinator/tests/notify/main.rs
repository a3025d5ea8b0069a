//! Notifications to receivers that listen on loopback in this process: what arrives, in which order,
//! how often, and what a receiver that misbehaves can do.

#![expect(clippy::unwrap_used, reason = "test helpers")]

mod deliveries;
mod receiver;
mod tls;
