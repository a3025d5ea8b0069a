//! What no crate can test alone: a fleet of real processes, traffic to it, and the simulations.

pub mod cluster;
pub mod layer;
pub mod sim;
mod sim_ground;
pub mod sim_network;
pub mod traffic;
