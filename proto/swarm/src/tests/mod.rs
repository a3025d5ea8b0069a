//! A small fleet of real endpoints on loopback, with gossip put in by hand.

mod fetching;
mod gathering;
mod hub;
mod kit;
mod ledger;
mod shelf;
mod syncing;
