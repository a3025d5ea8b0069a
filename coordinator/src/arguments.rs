//! What can be typed after `swell-coordinator`; the manual is made of it, too.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Where the bundle of `swell init` is put.
const CONFIG: &str = "/etc/groundswell/coordinator/coordinator.toml";

/// What `swell-coordinator` is told.
#[derive(Parser)]
#[command(name = "swell-coordinator", version, about = "The coordinator of a Groundswell fleet")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What it shall do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the coordinator until it gets SIGTERM; the fleet goes on without it.
    Run {
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
    },
    /// Look for what is wrong on this machine, also where the coordinator does not start: configuration,
    /// keys, root, port, disk. Exit code 1 if something is.
    Doctor {
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Build the lost state of the coordinator anew from what hosts hold. Needs its two keys and its
    /// roots; signs nothing.
    Recover {
        #[arg(long, value_name = "FILE", default_value = CONFIG)]
        config: PathBuf,
        /// A host to ask; of several, each makes up for what others lack.
        #[arg(long, value_name = "HOST:PORT", required = true, value_parser = address)]
        from: Vec<SocketAddr>,
    },
}

/// The first address of `HOST:PORT`.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| error.to_string())?.next();
    found.ok_or_else(|| "the name has no address".to_owned())
}
