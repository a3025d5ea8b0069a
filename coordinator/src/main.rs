//! `swell-coordinator`: arguments, logging, signals, exit code.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use coordinator::arguments::{Arguments, Command};
use coordinator::config::Config;
use coordinator::daemon::Daemon;
use member::reload::on_hangup;
use proto::checkup::{self, Grade};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    // A recovery tells by itself how it goes on.
    let level = match &command {
        Command::Run { .. } => "info",
        Command::Recover { .. } | Command::Doctor { .. } => "warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A log on a full disk is lost; whoever complains of that on the same disk dies of it.
    log.with_ansi(colours).log_internal_errors(false).init();
    let done = match &command {
        Command::Run { config } => run(config),
        Command::Doctor { config, json } => return doctor(config, *json),
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
        let hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
        let daemon = Daemon::start(&config).await.context("cannot start")?;
        say(&daemon.ready_line().await);
        let asked = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let (swarm, path) = (daemon.swarm().clone(), path.to_owned());
        let read = move || config.reread(&path);
        let follow = on_hangup(hangup, read, |ceilings| swarm.set_ceilings(ceilings));
        tokio::select! {
            ended = daemon.run(asked) => ended.context("did not stop well"),
            never = follow => match never {},
        }
    })
}

fn recover(path: &Path, from: &[SocketAddr]) -> Result<()> {
    let config = Config::load(path)?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let mut tell = say;
    let recovery = coordinator::recover::run(&config, from, &mut tell);
    let summary = runtime.block_on(recovery).context("cannot recover")?;
    say(&summary.to_string());
    say(&format!(
        "next: systemctl start groundswell-coordinator (without its package: swell-coordinator run \
         --config {})",
        path.display()
    ));
    Ok(())
}

/// Prints what is found; 1 if something is wrong.
fn doctor(path: &Path, json: bool) -> ExitCode {
    let findings = coordinator::checkup::of_machine(path, member::clock::unix());
    let text = if json { checkup::to_json(&findings) } else { checkup::to_text(&findings) };
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(Grade::worst_of(&findings) == Grade::Wrong))
}

/// Nobody may be left to read it: that stops nothing.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
