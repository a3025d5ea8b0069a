//! `swell-agent`: joins a server to its fleet, and runs on it.

use std::io::{IsTerminal as _, Read, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use agent::arguments::{Arguments, Command};
use agent::config::Config;
use anyhow::{Context as _, Result};
use clap::Parser as _;
use proto::checkup::{self, Finding, Grade};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

/// How long a step of a service may go on once the agent has stopped.
const STEPS_GRACE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        // A log on a full disk is lost; whoever complains of that on the same disk dies of it.
        .log_internal_errors(false)
        .init();
    match run(arguments.command) {
        Ok(exit) => exit,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "swell-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Doctor { config, json } => {
            Ok(tell(&agent::checkup::of_machine(&config, member::clock::unix()), json))
        }
        Command::Join { token, config } => configured(&config, |config, runtime| {
            let token = if token == "-" { token_from(std::io::stdin())? } else { token };
            runtime.block_on(agent::join::join(&config, token.trim()))
        }),
        Command::Run { config: path } => {
            configured(&path, |config, runtime| runtime.block_on(agent::daemon::run(config, &path)))
        }
        Command::Guard { service, config } => configured(&config, |config, runtime| {
            agent::guard::run(&config, service, runtime.handle())
        }),
        Command::Remove { service, yes, config } => configured(&config, |config, runtime| {
            let told = agent::remove::run(&config, &service, yes, runtime.handle())?;
            // Nobody may be there to read it; it is done.
            let _ = std::io::stdout().write_all(told.as_bytes());
            Ok(())
        }),
    }
}

fn configured(path: &Path, act: impl FnOnce(Config, &Runtime) -> Result<()>) -> Result<ExitCode> {
    let config = Config::load(path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let outcome = act(config, &runtime);
    // A command of a service may take an hour. It is not waited for: the next start of the agent
    // finds it and the step it was for, as after a kill.
    runtime.shutdown_timeout(STEPS_GRACE);
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Prints what was found; 1 if something is wrong.
fn tell(findings: &[Finding], json: bool) -> ExitCode {
    let text = if json { checkup::to_json(findings) } else { checkup::to_text(findings) };
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(Grade::worst_of(findings) == Grade::Wrong))
}

/// A token and what stands around it, bounded: whatever is not one is refused by its reader.
fn token_from(input: impl Read) -> Result<String> {
    let mut text = String::new();
    input.take(1_024).read_to_string(&mut text).context("cannot read the token")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_from_standard_input_is_read_to_its_end_and_no_further() {
        assert_eq!(token_from(&b"gsw1_abc\n"[..]).unwrap().trim(), "gsw1_abc");
        assert_eq!(token_from(std::io::repeat(b'x')).unwrap().len(), 1_024);
        assert!(token_from(&b"\xff"[..]).is_err());
    }
}
