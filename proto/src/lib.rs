//! The words of Groundswell: ids, signed statements, trust rules, artifacts, receipts, wire messages.
//!
//! Everything both daemons and the command line must agree on, and nothing else. Bytes and the time
//! come in as arguments; values and decisions go out. **Absent:** IO, clocks, async, key making.
//!
//! | module | what |
//! |---|---|
//! | [`id`] | digests, host and key ids, names |
//! | [`key`] | public keys, detached signatures |
//! | [`dsse`] | the envelope: exact payload bytes with a set of signatures beside them |
//! | [`statement`] | what may be signed: `root`, `host`, `release`, `rollout`, `directive` |
//! | [`trust`] | which statement has an effect: `verify(chain, bytes, now)` |
//! | [`artifact`] | the manifest of an artifact: file table and piece table |
//! | [`slices`] | the slices of a piece, verified one by one |
//! | [`receipt`] | where a host stands, signed by that host |
//! | [`certificate`] | bundles of receipts that prove a claim |
//! | [`record`] | what is gossiped, each value with a byte ceiling |
//! | [`selector`] | which samples of a page of metrics count |
//! | [`report`] | what daemons tell people |
//! | [`dora`] | the five measures of software delivery |
//! | [`evidence`] | what a host keeps of an attempt that ended badly |
//! | [`mod@unit`] | unit files of systemd, as far as they are looked at |
//! | [`mod@access`] | what lets people in by HTTPS |
//! | [`checkup`] | what members find about themselves |
//! | [`audit`] | the coordinator's record of who did what, and what hosts remember of it |
//! | [`near`] | what somebody meant who names what nobody knows |
//! | [`wire`] | messages of the `join`, `swarm` and `control` protocols |
//! | [`codec`] | frames between daemons: the only file that names bincode |

pub mod access;
pub mod artifact;
pub mod audit;
pub mod certificate;
pub mod checkup;
pub mod codec;
pub mod dora;
pub mod dsse;
pub mod evidence;
pub mod id;
pub mod key;
mod listed;
pub mod near;
pub mod patch;
pub mod receipt;
pub mod record;
pub mod report;
pub mod selector;
pub mod slices;
pub mod statement;
pub mod strict;
pub mod trust;
pub mod unit;
pub mod wire;

pub use id::{Digest, Env, FleetId, HostId, KeyId, Name, Scope, Service, Version, Zone};
pub use key::PublicKey;
pub use listed::listed;
pub use statement::UnixTime;
