//! `swell`: what operators and CI type. It holds the person's key, signs with it, and speaks the
//! control protocol to the coordinator or, with `--via HOST`, to any agent.

mod ask;
mod failure;
mod home;
mod init;
mod span;
mod swell_toml;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::failure::{Exit, Failure};

/// Deploys code to fleets of servers without an orchestrator.
#[derive(Debug, Parser)]
#[command(name = "swell", version)]
struct Cli {
    /// The operator's directory: keys, fleet and coordinator
    #[arg(long, env = "SWELL_DIR", value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new fleet: its keys, its first root, and the coordinator's files
    Init(init::InitArgs),
}

fn main() -> Exit {
    let cli = Cli::parse();
    match run(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            eprintln!("swell: {failure}");
            failure.exit()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let dir = home::locate(cli.dir)?;
    match cli.command {
        Command::Init(args) => {
            print!("{}", init::run(&args, &dir, home::now())?);
            Ok(Exit::Done)
        }
    }
}
