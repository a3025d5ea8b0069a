//! The coordinator: admits, signs and seeds releases, mints hosts, keeps the record.
//!
//! | module | what |
//! |---|---|
//! | [`arguments`] | what can be typed |
//! | [`config`], [`files`] | what it starts from |
//! | [`daemon`] | wires the parts, starts and stops them |
//! | [`desk`] | what every answer is made from |
//! | [`authority`] | who may ask for what |
//! | [`control`], [`publish`], [`tokens`], [`join`] | the requests it answers |
//! | `patches` | what turns one release into the next, made in the background |
//! | [`access`] | who may use pages and the HTTP interface |
//! | [`web`] | serves them |
//! | [`acts`] | what the coordinator signs for people who are signed in |
//! | [`drafts`] | what pages prepare for people to sign |
//! | [`checkup`] | what it finds when it looks itself over |
//! | [`recover`] | builds a lost state anew from what hosts hold |
//! | [`store`] | tokens, hosts, versions, audit record: SQLite |
//! | [`audit`] | who did what: what is recorded, what the fleet is told of it |
//! | `metrics` | its own page of metrics |
//! | [`events`] | what happened in the fleet, for people |
//! | [`chronicle`] | notices it, and keeps the table of rollouts |
//! | [`dora`] | the five measures of delivery, counted from that table |
//! | [`notify`] | tells people and programs of it: Slack, PagerDuty, signed webhooks |
//! | [`token`] | the two halves of a join token |
//!
//! **Absent:** systemd's units, symlinks, any say over a rollout that is under way: the fleet goes on
//! without it.

pub mod access;
pub mod acts;
pub mod arguments;
pub mod audit;
pub mod authority;
pub mod checkup;
pub mod chronicle;
pub mod config;
pub mod control;
pub mod daemon;
pub mod desk;
pub mod dora;
pub mod drafts;
pub mod events;
pub mod files;
pub mod join;
mod lookup;
mod metrics;
pub mod notify;
mod patches;
pub mod publish;
pub mod recover;
pub mod store;
pub mod token;
pub mod tokens;
pub mod web;
