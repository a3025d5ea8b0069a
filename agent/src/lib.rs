//! The agent: what runs on every host. Fetches, activates, watches, goes back, says so.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | `agent.toml` |
//! | [`activate`] | one path forward and back, journalled |
//! | [`services`] | start and stop commands |
//! | [`health`] | the HTTP check |

pub mod activate;
pub mod config;
pub mod health;
pub mod services;
