//! A small fleet of real endpoints on loopback, with gossip put in by hand.

mod fetching;
mod hub;
mod kit;
mod ledger;
mod syncing;
