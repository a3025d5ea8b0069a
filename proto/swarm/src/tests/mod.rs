//! A small fleet of real endpoints on loopback, with gossip put in by hand.

mod faults;
mod fetching;
mod gathering;
pub(crate) mod hub;
pub(crate) mod kit;
mod ledger;
mod neighbour;
mod patches;
mod pieces;
mod rot;
mod shelf;
mod slices;
mod syncing;
