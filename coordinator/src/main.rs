//! `swell-coordinator`: arguments, logging, signals, exit code.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use coordinator::config::Config;
use coordinator::daemon::Daemon;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "swell-coordinator", version, about = "The coordinator of a Groundswell fleet")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the coordinator until it gets SIGTERM; the fleet goes on without it.
    Run {
        #[arg(long, value_name = "FILE", default_value = "/etc/groundswell/coordinator.toml")]
        config: PathBuf,
    },
    /// Build the lost state of the coordinator anew from what hosts hold. Needs its two keys and its
    /// roots; signs nothing.
    Recover {
        #[arg(long, value_name = "FILE", default_value = "/etc/groundswell/coordinator.toml")]
        config: PathBuf,
        /// A host to ask; of several, each makes up for what others lack.
        #[arg(long, value_name = "HOST:PORT", required = true, value_parser = address)]
        from: Vec<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    // A recovery tells by itself how it goes on.
    let level = match &command {
        Command::Run { .. } => "info",
        Command::Recover { .. } => "warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A log on a full disk is lost; whoever complains of that on the same disk dies of it.
    log.with_ansi(colours).log_internal_errors(false).init();
    let done = match &command {
        Command::Run { config } => run(config),
        Command::Recover { config, from } => recover(config, from),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "swell-coordinator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path) -> Result<()> {
    let config = Config::load(path)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        let daemon = Daemon::start(&config).await.context("cannot start")?;
        say(&daemon.ready_line().await);
        let asked = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        daemon.run(asked).await.context("did not stop well")
    })
}

fn recover(path: &Path, from: &[SocketAddr]) -> Result<()> {
    let config = Config::load(path)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let mut tell = say;
    let recovery = coordinator::recover::run(&config, from, &mut tell);
    let summary = runtime.block_on(recovery).context("cannot recover")?;
    say(&summary.to_string());
    say(&format!("next: swell-coordinator run --config {}", path.display()));
    Ok(())
}

/// Nobody may be left to read it: that stops nothing.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The first address of `HOST:PORT`.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| error.to_string())?.next();
    found.ok_or_else(|| "the name has no address".to_owned())
}
