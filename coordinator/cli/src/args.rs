//! What can be typed. Names are a contract: people script against them.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use proto::access::AccessRole;
use proto::id::{Digest, Env, Name, Scope, Service, Version};
use proto::statement::UnixTime;
use proto::wire::RolloutQuery;

use crate::home;
use crate::init::InitArgs;
use crate::span;

/// Deploys code to fleets of servers without an orchestrator.
///
/// Exit codes: 0 done; 1 error; 2 usage, also a question without a terminal and without --yes;
/// 4 what was signed waits for more signatures; 5 nobody could be reached. Of commands that waited:
/// 3 the rollout was taken back; 4 it is held, paused or waits for approval; 5 it went on when a
/// deadline passed, expired, or cannot be reached; 6 a rollback failed on some host.
#[derive(Debug, Parser)]
#[command(name = "swell", version)]
pub(crate) struct Cli {
    /// The operator's directory: keys, fleet and coordinator [default: $SWELL_DIR, or ~/.config/groundswell]
    // Not by clap: it would show what stands in the environment as if it had to be typed.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) dir: Option<PathBuf>,
    /// Talk to this host instead of the coordinator: IP:PORT, or a name or id as `hosts` showed it
    #[arg(long, value_name = "HOST", global = true)]
    pub(crate) via: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new fleet: its keys, its first root, and the coordinator's files
    Init(InitArgs),
    /// Pack a directory, sign it as a release and hand it in
    Publish(PublishArgs),
    /// What is wrong and what to do: your own files, the coordinator, every host
    ///
    /// Each member looks itself over: port, clock, segmentation offload, limits, certificate, disk,
    /// services. Exit code 1 if anything is wrong, anywhere.
    Doctor(DoctorArgs),
    /// Who did what, when and why, the newest first; whether that is what was written
    ///
    /// Entries are hashed each together with the one before it. --verify reads all of them here and holds
    /// them against what every host remembers: exit code 1 if any was changed, cut or replaced, if no host
    /// vouches for it, or if it says that a recovery began it and --recovered does not name it.
    Audit(AuditArgs),
    #[command(flatten)]
    Ask(AskCommand),
}

/// The commands that ask somebody first.
#[derive(Debug, Subcommand)]
pub(crate) enum AskCommand {
    /// Make, list or revoke the tokens that let hosts join
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show what deploy would sign: who goes when, how long, how many bytes. Signs nothing
    Plan(PlanArgs),
    /// Sign a rollout of a version and hand it in
    Deploy(DeployArgs),
    /// Take in a service that runs already, as the version that it is: nothing is stopped or started
    ///
    /// Publish what runs, then adopt it: each host, by the waves of [deploy.ENV], looks whether it is
    /// well as it runs, and from then on knows it as that version. The next deploy comes from there,
    /// and goes back there. A host where it is not well, or does not run, fails and is left alone.
    Adopt(AdoptArgs),
    /// Go back to the version before, every host at once
    Rollback(RollbackArgs),
    /// Add a signature to a rollout, directive, freeze or removal that waits for some
    Approve(ApproveArgs),
    /// Stop a rollout where it is: no host starts anything, clocks stand still
    Pause(DirectArgs),
    /// Let a paused rollout go on
    Resume(DirectArgs),
    /// Open the next wave although it waits or hosts are silent; never over a halt
    Promote(PromoteArgs),
    /// End a rollout for good; hosts go back as its on_failure says
    Abort(DirectArgs),
    /// Try a rollout that was halted or aborted once more: a new one, to the same version
    Retry(RetryArgs),
    /// Wait for a host no longer, in the open rollouts of its environment
    Skip(SkipArgs),
    /// Let nothing new start in an environment for a time; rollbacks and aborts go on
    Freeze(FreezeArgs),
    /// End a freeze
    Unfreeze(UnfreezeArgs),
    /// Hold a host for a time, remove it for ever, or clear its disk
    #[command(subcommand)]
    Host(HostCommand),
    /// Follow a rollout until it ends
    Watch(WatchArgs),
    /// The fleet and the newest rollout of each service in each environment
    Status(JsonArgs),
    /// The hosts, what they serve, and where they are
    Hosts(JsonArgs),
    /// Why a rollout stands where it stands, wave by wave and host by host
    Explain(ExplainArgs),
    /// What hosts have kept of a rollout: output of commands, journal, answers of checks
    ///
    /// Each host is asked itself: nobody else has it. Without --host an attempt that ended well takes a
    /// line. Exit code 1 where nothing is shown and some host could not be asked.
    Logs(LogsArgs),
    /// What was rolled out of a service, newest first
    History(HistoryArgs),
    /// The versions of a service that were published; a host knows those that were rolled out
    Releases(ReleasesArgs),
    /// Print a link to the coordinator's pages that is good once
    Login(LoginArgs),
    /// See and end links, sessions and tokens; make a token for scripts
    #[command(subcommand)]
    Access(AccessCommand),
    /// Sign what a page has prepared for your key, once it was shown in words
    Sign(DraftArgs),
    /// What happened in the fleet, as the coordinator saw it, the newest last
    Events(EventsArgs),
    /// How a service is delivered: the five measures of DORA, each with how many it stands on
    Dora(DoraArgs),
    /// Who is told of what happens, by Slack, PagerDuty or webhook
    ///
    /// Receivers stand in coordinator.toml, under [[notify]].
    #[command(subcommand)]
    Notify(NotifyCommand),
}

#[derive(Debug, Args)]
pub(crate) struct DraftArgs {
    /// The digest, as the page shows it
    pub(crate) digest: Digest,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// What one may do by HTTPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Look
    Viewer,
    /// Pause, abort, roll back, where your key may deploy
    Operator,
}

impl From<RoleArg> for AccessRole {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Viewer => Self::Viewer,
            RoleArg::Operator => Self::Operator,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// What the session may do
    #[arg(long, value_enum, default_value = "viewer")]
    pub(crate) role: RoleArg,
    /// How long the session lasts, 5m to 7d
    #[arg(long = "for", value_name = "TIME", default_value = "12h", value_parser = span::parse)]
    pub(crate) lasts: Duration,
    /// Print the link as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Make a token for scripts; it is printed this once
    Token(AccessTokenArgs),
    /// List links, sessions and tokens that are good, without their secrets
    List(JsonArgs),
    /// End a link, a session or a token
    Revoke {
        /// Its id, as `access list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AccessTokenArgs {
    /// What the token may do
    #[arg(long, value_enum, default_value = "viewer")]
    pub(crate) role: RoleArg,
    /// How long it is good, 5m to 366d
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = span::parse)]
    pub(crate) ttl: Duration,
    /// Print the token as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Only these hosts: names, ids or addresses [default: all]
    #[arg(value_name = "HOST")]
    pub(crate) hosts: Vec<String>,
    /// Show what is well, too
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Print all of it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// How many, the newest [default: 20; of --json and --csv all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: Option<u32>,
    /// Only those before this entry
    #[arg(long, value_name = "SEQ", conflicts_with = "export")]
    pub(crate) before: Option<u64>,
    /// Only what this one did: NAME, of several who signed NAME+NAME, `host ID`, `token ID`
    #[arg(long, value_name = "ACTOR")]
    pub(crate) actor: Option<String>,
    /// Only this: submit, publish, token-create, host-join, learned, ...
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// Only where this is part of the subject or of what is told of it: web/production, a digest, ...
    #[arg(long, value_name = "TEXT")]
    pub(crate) subject: Option<String>,
    /// Only from then on: 7d ago, or a moment in UTC: 2027-03-01T09:30
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<UnixTime>,
    /// Print each entry as a line of JSON, the oldest first
    #[arg(long)]
    pub(crate) json: bool,
    /// Print them as CSV, the oldest first
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
    /// Read all of it and say where it is not what was written
    #[arg(long, conflicts_with_all = ["limit", "before", "actor", "action", "subject", "since", "csv", "export"])]
    pub(crate) verify: bool,
    /// A recovery of which you know has begun the record with this id, or what that starts with: without it
    /// a record that says so is not believed
    #[arg(long, value_name = "RECORD", requires = "verify", value_parser = record)]
    pub(crate) recovered: Option<String>,
    /// Write them to this file, as lines of JSON or as CSV; verified, where it is all of them
    #[arg(long, value_name = "FILE", conflicts_with = "limit")]
    pub(crate) export: Option<PathBuf>,
}

fn record(text: &str) -> Result<String, String> {
    let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match hex && (8..=64).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("must be 8 to 64 hex digits, as --verify shows them".to_owned()),
    }
}

fn since(text: &str) -> Result<UnixTime, String> {
    let ago = |span: Duration| UnixTime(home::now().0.saturating_sub(span.as_secs()));
    span::parse(text).map(ago).or_else(|_| span::parse_utc(text)).map_err(|_| {
        format!("{text:?}: must be a time ago, such as 7d, or a moment in UTC: 2027-03-01T09:30")
    })
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; it is printed this once
    Create(TokenCreateArgs),
    /// List the tokens, without their secrets
    List(JsonArgs),
    /// Make a token useless
    Revoke {
        /// The token's id, as `token list` shows it
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreateArgs {
    /// How many hosts may join with it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) uses: u32,
    /// How long it is good for
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span::parse)]
    pub(crate) ttl: Duration,
    /// A label of the hosts that join with it, such as env=production; may stand several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(Name, Name)>,
    /// Print the token as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn label(text: &str) -> Result<(Name, Name), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE, such as env=production")?;
    let name = |text: &str| text.parse::<Name>().map_err(|error| error.to_string());
    Ok((name(key)?, name(value)?))
}

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// The directory, or FILE.tar.zst, to publish [default: ., if a swell.toml is in it]
    #[arg(value_name = "DIR|FILE.tar.zst")]
    pub(crate) what: Option<PathBuf>,
    /// The release's version
    #[arg(long, value_name = "V")]
    pub(crate) version: Version,
    /// The commit it was built from
    #[arg(long, value_name = "SHA", value_parser = commit)]
    pub(crate) commit: Option<String>,
    /// The branch of that commit
    #[arg(long, value_name = "B", value_parser = branch)]
    pub(crate) branch: Option<String>,
    /// The time of that commit, in seconds since 1970 (git log -1 --format=%ct)
    #[arg(long, value_name = "T", value_parser = unix_time)]
    pub(crate) commit_time: Option<UnixTime>,
    /// The swell.toml to use [default: ./swell.toml, else DIR/swell.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

fn commit(text: &str) -> Result<String, String> {
    given(text, "the commit's id")
}

fn branch(text: &str) -> Result<String, String> {
    given(text, "the branch's name")
}

/// A shell gives an empty text where the command that was to name it failed.
fn given(text: &str, what: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err(format!("empty: leave it out, or give {what}")),
        false => Ok(text.to_owned()),
    }
}

fn unix_time(text: &str) -> Result<UnixTime, String> {
    text.parse().map(UnixTime).map_err(|_| "must be seconds since 1970".to_owned())
}

/// Which version goes where.
#[derive(Debug, Args)]
pub(crate) struct GoalArgs {
    pub(crate) service: Service,
    pub(crate) version: Version,
    /// The environment
    #[arg(long, value_name = "ENV")]
    pub(crate) env: Env,
    /// The swell.toml with [deploy.ENV]
    #[arg(long, value_name = "FILE", default_value = "swell.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) goal: GoalArgs,
    /// Print the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do once it is signed.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    /// Follow the rollout until it ends
    #[arg(long)]
    pub(crate) watch: bool,
    /// With --watch: give up after this time, also on a rollout that is paused or waits for approval;
    /// CI should say one [default: when the rollout expires]
    #[arg(long, value_name = "TIME", value_parser = span::parse, requires = "watch")]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    pub(crate) goal: GoalArgs,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = reason)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    #[command(flatten)]
    pub(crate) goal: GoalArgs,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "adopted as it ran", value_parser = reason)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    pub(crate) service: Service,
    /// The environment
    #[arg(long, value_name = "ENV")]
    pub(crate) env: Env,
    /// The version to go to; it must have been there [default: the one before]
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<Version>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

fn reason(text: &str) -> Result<String, String> {
    let max = proto::statement::REASON_BYTES_MAX;
    match text.len() {
        bytes if bytes > max => Err(format!("{bytes} bytes: must be 0 to {max} bytes")),
        _ => Ok(text.to_owned()),
    }
}

/// Which rollout: the start of its id, or the newest of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RolloutRef {
    Id(String),
    Scope(Scope),
}

impl RolloutRef {
    pub(crate) fn query(&self) -> RolloutQuery {
        match self {
            Self::Id(id) => RolloutQuery::Id(id.clone()),
            Self::Scope(scope) => RolloutQuery::Scope(scope.clone()),
        }
    }

    /// Whether a rollout is one that is meant.
    pub(crate) fn means(&self, id: &Digest, scope: &Scope) -> bool {
        match self {
            Self::Id(start) => format!("{id:#}").starts_with(start),
            Self::Scope(meant) => scope == meant,
        }
    }
}

impl FromStr for RolloutRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((service, env)) = text.split_once('/') {
            let service = service.parse().map_err(|error| format!("{error}"))?;
            let env = env.parse().map_err(|error| format!("{error}"))?;
            return Ok(Self::Scope(Scope { service, env }));
        }
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match (4..=64).contains(&text.len()) && text.bytes().all(hex) {
            true => Ok(Self::Id(text.to_owned())),
            false => Err("must be 4 or more hex digits of its id, or SERVICE/ENV".to_owned()),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// A rollout by 4 or more digits of its id, or SERVICE/ENV; any other statement by all of its id
    #[arg(value_name = "STATEMENT")]
    pub(crate) statement: RolloutRef,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DirectArgs {
    /// 4 or more digits of its id, or SERVICE/ENV
    pub(crate) rollout: RolloutRef,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = reason)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    pub(crate) direct: DirectArgs,
    /// The wave to open, 1 first [default: the first one that is not open]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) wave: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// 4 or more digits of its id, or SERVICE/ENV
    pub(crate) rollout: RolloutRef,
    /// Leave this host out, a name or id; may stand several times
    #[arg(long, value_name = "HOST")]
    pub(crate) without: Vec<String>,
    /// The swell.toml with [deploy.ENV]
    #[arg(long, value_name = "FILE", default_value = "swell.toml")]
    pub(crate) config: PathBuf,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = reason)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SkipArgs {
    /// Its name or id
    pub(crate) host: String,
    /// Only in this rollout: 4 or more digits of its id, or SERVICE/ENV [default: every open one]
    #[arg(long, value_name = "ROLLOUT")]
    pub(crate) rollout: Option<RolloutRef>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = reason)]
    pub(crate) reason: String,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("lasts").required(true).args(["span", "until"]))]
pub(crate) struct FreezeArgs {
    /// The environment
    #[arg(long, value_name = "ENV")]
    pub(crate) env: Env,
    /// How long, from now
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse)]
    pub(crate) span: Option<Duration>,
    /// Until when, in UTC: 2027-03-01T09:30
    #[arg(long, value_name = "TIME_UTC", value_parser = span::parse_utc)]
    pub(crate) until: Option<UnixTime>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct UnfreezeArgs {
    /// The environment
    #[arg(long, value_name = "ENV")]
    pub(crate) env: Env,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = reason)]
    pub(crate) reason: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Let nothing new start on a host for a time, or lift that
    Hold(HoldArgs),
    /// Remove a host for ever: nobody waits for it, and it is let in nowhere
    Remove(RemoveArgs),
    /// Show which releases lie on a host's disk and why each stays; clear the others away now
    Gc(GcArgs),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("lasts").required(true).args(["span", "until", "lift"]))]
pub(crate) struct HoldArgs {
    /// Its name or id
    pub(crate) host: String,
    /// How long, from now
    #[arg(long = "for", value_name = "TIME", value_parser = span::parse)]
    pub(crate) span: Option<Duration>,
    /// Until when, in UTC: 2027-03-01T09:30
    #[arg(long, value_name = "TIME_UTC", value_parser = span::parse_utc)]
    pub(crate) until: Option<UnixTime>,
    /// End the hold
    #[arg(long)]
    pub(crate) lift: bool,
    /// Why, for the record; --lift goes without
    #[arg(long, value_name = "TEXT", required_unless_present = "lift", value_parser = reason)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Its name or id
    pub(crate) host: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(crate) reason: String,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Its name or id; it is asked itself
    pub(crate) host: String,
    /// Only show what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// 4 or more digits of its id, or SERVICE/ENV [default: the newest of all]
    pub(crate) rollout: Option<RolloutRef>,
    /// Give up after this time [default: when the rollout expires]
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Print the report as a line of JSON whenever it changes
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// 4 or more digits of its id, or SERVICE/ENV
    pub(crate) rollout: RolloutRef,
    /// Only this host: its name or id; with what it has kept of its last failure in it
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// 4 or more digits of its id, or SERVICE/ENV
    pub(crate) rollout: RolloutRef,
    /// Only this host, by name or id, and all of it [default: the cohort's hosts that are heard]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Print all of it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    pub(crate) service: Service,
    /// Only this environment
    #[arg(long, value_name = "ENV")]
    pub(crate) env: Option<Env>,
    /// How many of each environment, newest first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: u32,
    /// Print the history as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReleasesArgs {
    pub(crate) service: Service,
    /// Print them as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only of this service
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<Service>,
    /// Only in this environment
    #[arg(long, value_name = "ENV")]
    pub(crate) env: Option<Env>,
    /// Only of this rollout: 4 or more digits of its id, or SERVICE/ENV
    #[arg(long, value_name = "ROLLOUT")]
    pub(crate) rollout: Option<RolloutRef>,
    /// Only of this host: its name or id
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Only of this kind: rollout-halted, host-lost, environment-frozen, ...
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Only from then on: 7d ago, or a moment in UTC: 2027-03-01T09:30
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<UnixTime>,
    /// Only those before the one with this number
    #[arg(long, value_name = "NUMBER")]
    pub(crate) before: Option<u64>,
    /// How many, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: u32,
    /// Print them as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoraArgs {
    pub(crate) service: Service,
    /// The environment
    #[arg(long, value_name = "ENV")]
    pub(crate) env: Env,
    /// Of how many days, up to now
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=366))]
    pub(crate) days: u32,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NotifyCommand {
    /// List the receivers, how many messages wait for each, and why the last one failed
    List(JsonArgs),
    /// Send a receiver a message that says that it is a test, and show its answer
    ///
    /// PagerDuty gets an alert of severity info, and its end a second later.
    Test {
        /// The receiver's name, as `notify list` shows it
        receiver: Name,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_rollout_is_named_by_the_start_of_its_id_or_by_its_scope() {
        assert_eq!("3f2a".parse(), Ok(RolloutRef::Id("3f2a".to_owned())));
        let scope = Scope { service: "web".parse().unwrap(), env: "production".parse().unwrap() };
        assert_eq!("web/production".parse(), Ok(RolloutRef::Scope(scope)));
        for bad in ["", "3f2", "3F2A", "xyz0", "web/", "/production", "web/a/b", &"a".repeat(65)] {
            assert!(bad.parse::<RolloutRef>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_pairs_of_names() {
        let name = |text: &str| text.parse::<Name>().unwrap();
        assert_eq!(label("env=production"), Ok((name("env"), name("production"))));
        for bad in ["", "env", "=x", "env=", "a b=c", "a=b=c"] {
            assert!(label(bad).is_err(), "{bad:?}");
        }
    }
}
