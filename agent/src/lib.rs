//! The agent: what runs on every host. Fetches, activates, watches, goes back, says so.
//!
//! **Absent:** SQL, git, fleet keys, any listener but the one UDP port and, where `agent.toml` asks for it, a
//! page of metrics on loopback.
//!
//! | module | what |
//! |---|---|
//! | [`arguments`] | what can be typed |
//! | [`config`] | `agent.toml` |
//! | [`home`] | what makes a server a host, on disk |
//! | [`join`] | how it becomes one |
//! | [`daemon`] | the parts, wired |
//! | `rollouts` | the loop around the rollout core |
//! | `control` | what an agent answers to people |
//! | [`checkup`] | what it finds when it looks itself over |
//! | `page` | its own page of metrics |
//! | `reload` | `agent.toml` read anew: ceilings |
//! | `renewal` | certificates |
//! | `witness` | what it remembers of the coordinator's audit record |
//! | [`guard`] | what stands in for an agent that is not there |
//! | [`remove`] | the end of a service on this host, by hand |
//! | [`activate`] | one path forward and back, journalled |
//! | [`services`] | units of systemd, commands |
//! | [`trail`] | what was seen of a service since its last activation began |
//! | [`load`] | how the host is: a reason to start nothing new |
//! | [`evidence`] | what is kept of attempts that have ended |
//! | [`allowed`] | what `agent.toml` lets them do |
//! | [`health`] | the checks, by HTTP and by a command; the page of metrics |

pub mod activate;
pub mod allowed;
pub mod arguments;
pub mod checkup;
pub mod config;
mod control;
pub mod daemon;
pub mod evidence;
pub mod guard;
pub mod health;
pub mod home;
pub mod join;
pub mod load;
mod page;
mod reload;
pub mod remove;
mod renewal;
mod rollouts;
pub mod services;
pub mod trail;
mod witness;
