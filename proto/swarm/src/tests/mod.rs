//! A small fleet of real endpoints on loopback, with gossip put in by hand.

mod fetching;
mod gathering;
pub(crate) mod hub;
pub(crate) mod kit;
mod ledger;
mod pieces;
mod shelf;
mod syncing;
