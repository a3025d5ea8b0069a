//! What can be typed after `swell-agent`; the manual is made of it, too.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use proto::Service;

use crate::config::DEFAULT_PATH;

/// What `swell-agent` is told.
#[derive(Parser)]
#[command(name = "swell-agent", version, about = "The agent of Groundswell on a server")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What it shall do.
#[derive(Subcommand)]
pub enum Command {
    /// Make this server a host of a fleet, with a token from `swell token create`.
    Join {
        /// The token, or `-` to read it from standard input, where no list of processes shows it.
        token: String,
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Run the agent until it gets SIGTERM; services go on without it.
    Run {
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Stand in for an agent that is not there: bring services to the end of what was under way, and
    /// start them after a boot. A service that an agent looks after is left to it.
    Guard {
        /// The service; without one, all that were ever activated here.
        service: Option<Service>,
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Stop a service on this server and remove its releases and all that the agent has of it, where
    /// `services` of agent.toml does not name it any more and no agent runs. What it wrote stays.
    Remove {
        service: Service,
        /// Do it; without this, only say what would be done.
        #[arg(long)]
        yes: bool,
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Look for what is wrong on this server, also where the agent does not start: configuration, keys,
    /// certificate, port, disk, services. Exit code 1 if something is.
    Doctor {
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
}
