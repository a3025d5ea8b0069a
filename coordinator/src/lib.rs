//! The coordinator: admits, signs and seeds releases, mints hosts, keeps the record.
//!
//! | module | what |
//! |---|---|
//! | [`store`] | tokens, hosts, versions, audit record: SQLite |
//! | [`audit`] | the hash chain of the audit record |
//! | [`token`] | the two halves of a join token |
//!
//! **Absent:** systemd, symlinks, any say over a rollout that is under way: the fleet goes on
//! without it.

pub mod audit;
pub mod config;
pub mod store;
pub mod token;
