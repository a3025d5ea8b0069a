//! What no crate can test alone: a fleet of real processes, traffic to it, and the simulations.

pub mod cluster;
pub mod cores;
#[cfg(feature = "simulate")]
pub mod layer;
pub mod memory;
pub mod sim;
#[cfg(feature = "simulate")]
pub mod sim_gossip;
#[cfg(feature = "simulate")]
mod sim_ground;
#[cfg(feature = "simulate")]
pub mod sim_network;
pub mod sim_swarm;
pub mod swarming;
pub mod traffic;
