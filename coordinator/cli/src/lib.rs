//! `swell`: what operators and CI type. It holds the person's key, signs with it, and speaks the
//! control protocol to the coordinator or, with `--via HOST`, to any agent.

mod access;
mod approve;
mod args;
mod ask;
mod audit;
mod client;
mod directive;
mod disk;
mod doctor;
mod each;
mod evidence;
mod failure;
mod freeze;
mod hint;
mod home;
mod host;
mod init;
mod knowledge;
mod logs;
mod notify;
mod outcome;
mod output;
mod planning;
mod publish;
mod reading;
mod render;
mod retry;
mod sign;
mod signing;
mod skip;
mod span;
mod swell_toml;
mod token;
mod watch;
mod windows;
mod witnesses;

use std::process::{ExitCode, Termination as _};
use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};
use ed25519_dalek::SigningKey;
use proto::statement::Action;
use tracing_subscriber::EnvFilter;

use crate::args::{
    AccessCommand, AccessTokenArgs, AskCommand, Cli, Command, HostCommand, LoginArgs, RoleArg,
};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::home::{Home, HomeError, KeyName};

/// All that can be typed, for the manual and for shells.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what was typed.
pub fn main() -> ExitCode {
    serve(Cli::parse()).report()
}

fn serve(cli: Cli) -> Exit {
    // People read errors, not logs; $SWELL_LOG=debug shows what the network does.
    let filter = EnvFilter::try_from_env("SWELL_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("swell: cannot start: {error}");
            return Exit::Error;
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(Exit::Done) if output::is_lost() => Exit::Error,
        Ok(exit) => exit,
        Err(failure) => {
            eprintln!("swell: {failure}");
            failure.exit()
        }
    }
}

async fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { dir, via, command } = cli;
    let dir = home::locate(dir)?;
    match command {
        Command::Init(args) => {
            output::write(&init::run(&args, &dir, home::now())?);
            Ok(Exit::Done)
        }
        Command::Doctor(args) => doctor::run(dir, via.as_deref(), args).await,
        Command::Audit(args) => {
            let home = Arc::new(Home::open(dir)?);
            let key = home.any_key("be let in")?;
            let member = client::member(&home, via.as_deref())?;
            let alone = |failure: Failure| failure.of_the_coordinator_alone(via.as_deref());
            let client = Client::connect(&home, &key, member).await.map_err(Failure::from);
            let client = client.map_err(alone)?;
            let exit = audit::run(home, &key, &client, args).await;
            client.close().await;
            exit.map_err(alone)
        }
        Command::Publish(args) => {
            let home = Home::open(dir)?;
            let key = home.key(KeyName::Publisher, "sign a release")?;
            // Packing comes before dialling: it may take longer than a connection lasts.
            let ready = publish::prepare(&home, args)?;
            let member = client::member(&home, via.as_deref())?;
            let alone = |failure: Failure| failure.of_the_coordinator_alone(via.as_deref());
            let client = Client::connect(&home, &key, member).await.map_err(Failure::from);
            let client = client.map_err(alone)?;
            let exit = publish::run(&home, &client, &key, ready).await;
            client.close().await;
            exit.map_err(alone)
        }
        Command::Ask(command) => {
            let home = Arc::new(Home::open(dir)?);
            let key = key_for(&home, &command)?;
            let member = client::member(&home, via.as_deref())?;
            let for_coordinator = matches!(
                command,
                AskCommand::Token(_)
                    | AskCommand::Login(_)
                    | AskCommand::Access(_)
                    | AskCommand::Sign(_)
                    | AskCommand::Events(_)
                    | AskCommand::Dora(_)
                    | AskCommand::Notify(_)
            );
            let advised = |failure: Failure| match for_coordinator {
                true => failure.of_the_coordinator_alone(via.as_deref()),
                false => failure,
            };
            let client = Client::connect(&home, &key, member).await.map_err(Failure::from);
            let mut client = client.map_err(advised)?;
            let exit = ask_somebody(&home, &mut client, &key, command).await;
            client.close().await;
            // Another one may have been turned to meanwhile.
            exit.map_err(advised).map_err(|failure| failure.told_by(&client.member))
        }
    }
}

/// Who signs needs the operator's key; to look on, any key of the fleet will do.
fn key_for(home: &Home, command: &AskCommand) -> Result<SigningKey, HomeError> {
    match command {
        AskCommand::Deploy(_)
        | AskCommand::Adopt(_)
        | AskCommand::Rollback(_)
        | AskCommand::Retry(_) => home.key(KeyName::Operator, "sign a rollout"),
        AskCommand::Approve(_) => home.key(KeyName::Operator, "approve a statement"),
        AskCommand::Pause(_)
        | AskCommand::Resume(_)
        | AskCommand::Promote(_)
        | AskCommand::Abort(_)
        | AskCommand::Sign(_)
        | AskCommand::Skip(_) => home.key(KeyName::Operator, "direct a rollout"),
        AskCommand::Freeze(_)
        | AskCommand::Unfreeze(_)
        | AskCommand::Host(HostCommand::Hold(_)) => home.key(KeyName::Operator, "sign a freeze"),
        AskCommand::Host(HostCommand::Remove(_)) => home.key(KeyName::Operator, "remove a host"),
        AskCommand::Login(LoginArgs { role: RoleArg::Operator, .. })
        | AskCommand::Access(AccessCommand::Token(AccessTokenArgs {
            role: RoleArg::Operator,
            ..
        })) => home.key(KeyName::Operator, "operate"),
        AskCommand::Token(_)
        | AskCommand::Login(_)
        | AskCommand::Access(_)
        | AskCommand::Plan(_)
        | AskCommand::Host(HostCommand::Gc(_))
        | AskCommand::Watch(_)
        | AskCommand::Status(_)
        | AskCommand::Hosts(_)
        | AskCommand::Explain(_)
        | AskCommand::Logs(_)
        | AskCommand::History(_)
        | AskCommand::Releases(_)
        | AskCommand::Events(_)
        | AskCommand::Dora(_) => home.any_key("be let in"),
        AskCommand::Notify(_) => home.any_key("be let in"),
    }
}

async fn ask_somebody(
    home: &Arc<Home>,
    client: &mut Client,
    key: &SigningKey,
    command: AskCommand,
) -> Result<Exit, Failure> {
    match command {
        AskCommand::Token(command) => token::run(client, command).await,
        AskCommand::Plan(args) => sign::plan(home, client, key, args).await,
        AskCommand::Deploy(args) => sign::deploy(home, client, key, args).await,
        AskCommand::Adopt(args) => sign::adopt(home, client, key, args).await,
        AskCommand::Rollback(args) => sign::rollback(home, client, key, args).await,
        AskCommand::Approve(args) => approve::approve(home, client, key, args).await,
        AskCommand::Pause(args) => sign::direct(home, client, key, Action::Pause, args).await,
        AskCommand::Resume(args) => sign::direct(home, client, key, Action::Resume, args).await,
        AskCommand::Abort(args) => sign::direct(home, client, key, Action::Abort, args).await,
        AskCommand::Promote(args) => sign::promote(home, client, key, args).await,
        AskCommand::Retry(args) => retry::run(home, client, key, args).await,
        AskCommand::Skip(args) => skip::run(home, client, key, args).await,
        AskCommand::Freeze(args) => freeze::freeze(home, client, key, args).await,
        AskCommand::Unfreeze(args) => freeze::unfreeze(home, client, key, args).await,
        AskCommand::Host(HostCommand::Hold(args)) => host::hold(home, client, key, args).await,
        AskCommand::Host(HostCommand::Remove(args)) => host::remove(home, client, key, args).await,
        AskCommand::Host(HostCommand::Gc(args)) => disk::gc(home, client, key, args).await,
        AskCommand::Watch(args) => watch::run(home, client, key, args).await,
        AskCommand::Status(args) => reading::status(home, client, args).await,
        AskCommand::Hosts(args) => reading::hosts(home, client, args).await,
        AskCommand::Explain(args) => reading::explain(home, client, key, args).await,
        AskCommand::Logs(args) => logs::run(home, client, key, args).await,
        AskCommand::History(args) => reading::history(home, client, args).await,
        AskCommand::Releases(args) => reading::releases(client, args).await,
        AskCommand::Login(args) => access::login(client, args).await,
        AskCommand::Access(command) => access::run(client, command).await,
        AskCommand::Sign(args) => signing::run(home, client, key, args).await,
        AskCommand::Events(args) => reading::events(client, args).await,
        AskCommand::Dora(args) => reading::dora(client, args).await,
        AskCommand::Notify(command) => notify::run(client, command).await,
    }
}
