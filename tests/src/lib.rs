//! What no crate can test alone: a fleet of real processes, traffic to it, and the simulation.

pub mod cluster;
pub mod sim;
pub mod traffic;
