//! The small HTTP service of the demo and of tests: real processes, real signals, real answers.
//!
//! ```text
//! demo-service start     starts `serve` in the background; done once it listens
//! demo-service stop      TERM, after 10 s KILL; done once it is gone, also if it was not there
//! demo-service serve     serves on $LISTEN until TERM, then finishes what it is answering
//! ```
//!
//! `/` answers `{"service":..,"version":..,"host":..}`, `/healthz` answers `ok`, `/metrics` counts the
//! answers of `/`, and how long they took, in Prometheus text. The version is in a file `VERSION` and the behaviour in a file
//! `BEHAVIOUR`, beside the program or one directory above it: `good`; `broken`, which answers 500 to
//! everything half a second after it began to listen; `flaky`, which answers 500 to every fifth request
//! of `/` and is well by its health check; `strained`, which does so to 3 % of them, and only while more
//! than 20 come in a second; `slow`, whose answers to `/` take 20 ms; `unready`, which never says that it
//! is well; `crash`, which exits before it listens. Its state is in `$SWELL_SHARED`: `demo.pid`,
//! `demo.log`.

mod control;
mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// The demo's small HTTP service.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts it in the background; done once it listens
    Start,
    /// Stops it; done once it is gone
    Stop,
    /// Serves on $LISTEN until TERM
    Serve {
        /// In a session of its own, with a pid file, and "listening" on stdout: for `start`
        #[arg(long, hide = true)]
        background: bool,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Start => control::start(),
        Command::Stop => control::stop(),
        Command::Serve { background: false } => serve::run(|| ()),
        Command::Serve { background: true } => control::serve_in_background(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo-service: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The directory the service keeps its state in.
fn shared() -> anyhow::Result<PathBuf> {
    let shared = std::env::var_os("SWELL_SHARED").context("SWELL_SHARED is not set")?;
    Ok(PathBuf::from(shared))
}
