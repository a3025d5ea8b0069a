//! `swell watch`: follows a rollout until it ends, also without the coordinator.
//!
//! Whoever answered last is asked again; when nobody does, the hosts that were last seen and the
//! coordinator are tried in turn. The rollout does not depend on any of it.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::id::Digest;
use proto::receipt::Cause;
use proto::report::{RolloutPhase, RolloutReport, StandingReport};
use proto::statement::{Direction, OnFailure};
use proto::wire::{RefusedKind, RolloutQuery};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time;

use crate::args::{RolloutRef, WatchArgs};
use crate::client::{self, Client, ClientError, Member};
use crate::failure::{Advise, Exit, Failure};
use crate::home::Home;
use crate::knowledge::{Knowledge, KnowledgeError};
use crate::outcome::{Outcome, outcome};
use crate::output;
use crate::render;

/// Between two looks; longer for cohorts whose reports are large.
const INTERVAL: Duration = Duration::from_millis(500);
const INTERVAL_LARGE: Duration = Duration::from_secs(2);
/// A cohort of more hosts is large.
const LARGE: usize = 200;
/// Longest wait for one answer, and for one connection; then the next member is asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Without any answer for so long nobody can be reached.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Hosts that are not heard for so long count as unreachable.
const UNHEARD_MAX: Duration = Duration::from_millis(rollout::UNHEARD_MS_MAX);
/// How often the addresses of the hosts are looked up again.
const REFRESH: Duration = Duration::from_secs(15);
/// Hosts that are tried when the member that answered is gone.
const OTHERS_MAX: usize = 16;

/// Why the watching ended although the rollout did not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error(
        "not at its end after {after_s} s, and rollout {rollout} goes on without being watched: it is held: {why}"
    )]
    Held { rollout: Digest, after_s: u64, why: String, next: String },
    #[error(
        "not at its end after {after_s} s, and rollout {rollout} goes on without being watched: {why}"
    )]
    Late { rollout: Digest, after_s: u64, why: String, next: String },
    #[error("rollout {rollout} ends without {}, not heard for {} s", hosts.join(", "), UNHEARD_MAX.as_secs())]
    Unheard { rollout: Digest, hosts: Vec<String> },
    #[error("nobody answers any more: tried the coordinator and {tried} host(s) for {} s", SILENCE_MAX.as_secs())]
    Silence {
        rollout: Digest,
        tried: usize,
        #[source]
        source: Box<ClientError>,
    },
}

impl Advise for WatchError {
    fn exit(&self) -> Exit {
        match self {
            Self::Held { .. } => Exit::Held,
            Self::Late { .. } | Self::Unheard { .. } | Self::Silence { .. } => Exit::Unreachable,
        }
    }

    fn next(&self) -> Option<String> {
        Some(match self {
            Self::Held { next, .. } | Self::Late { next, .. } => next.clone(),
            Self::Unheard { rollout, .. } => look(rollout, &[]),
            Self::Silence { rollout, .. } => {
                format!("the rollout goes on by itself; swell watch {rollout} --via HOST later")
            }
        })
    }
}

/// `kept`: which hosts are kept back, and by what.
fn look(rollout: &Digest, kept: &[String]) -> String {
    match kept {
        [] => format!("swell explain {rollout}"),
        _ => format!("{}: mend that, and it goes on; swell explain {rollout}", kept.join("; ")),
    }
}

/// # Errors
///
/// Nobody answers, or the patience is over; see [`WatchError`].
pub(crate) async fn run(
    home: &Home,
    client: &mut Client,
    key: &SigningKey,
    args: WatchArgs,
) -> Result<Exit, Failure> {
    let query = args.rollout.as_ref().map_or(RolloutQuery::Latest, RolloutRef::query);
    let report = client.rollout(query).await?;
    let show = Show::new(how(args.json));
    follow(home, client, key, report, args.timeout, show).await
}

/// Follows a rollout that was just handed in.
///
/// # Errors
///
/// As [`run`].
pub(crate) async fn by_id(
    home: &Home,
    client: &mut Client,
    key: &SigningKey,
    id: Digest,
    timeout: Option<Duration>,
) -> Result<Exit, Failure> {
    let report = client.rollout(RolloutQuery::Id(format!("{id:#}"))).await?;
    follow(home, client, key, report, timeout, Show::new(how(false))).await
}

async fn follow(
    home: &Home,
    client: &mut Client,
    key: &SigningKey,
    report: RolloutReport,
    timeout: Option<Duration>,
    mut show: Show,
) -> Result<Exit, Failure> {
    let on_failure = on_failure(home, client, report.id).await?;
    let mut line = Line::new(home, client, key, report.id).await;
    let (begin, mut unheard_since) = (Instant::now(), None);
    let mut interrupts = signal(SignalKind::interrupt()).ok();
    let mut report = report;
    loop {
        show.take(&report, &line.client.member);
        let outcome = outcome(&report, on_failure);
        unheard_since = match outcome {
            Outcome::Unheard => Some(unheard_since.unwrap_or_else(Instant::now)),
            _ => None,
        };
        if let Outcome::Ended(exit) = outcome {
            show.end(&report, exit, &line.client.member);
            return Ok(exit);
        }
        if unheard_since.is_some_and(|since| since.elapsed() > UNHEARD_MAX) {
            show.clear();
            return Err(unheard(&report).into());
        }
        if timeout.is_some_and(|timeout| begin.elapsed() >= timeout) {
            show.clear();
            return Err(given_up(&report, outcome, begin.elapsed()).into());
        }
        let pause = if report.hosts.len() > LARGE { INTERVAL_LARGE } else { INTERVAL };
        let left = timeout.map_or(pause, |timeout| timeout.saturating_sub(begin.elapsed()));
        let next = async {
            time::sleep(pause.min(left)).await;
            line.look(&show).await
        };
        tokio::select! {
            looked = next => report = looked?,
            () = pressed(&mut interrupts) => return Ok(show.leave(&report, &line.client.member)),
        }
    }
}

/// Ctrl-C. Where it cannot be listened for, it ends the process by itself.
async fn pressed(interrupts: &mut Option<Signal>) {
    match interrupts {
        Some(interrupts) => drop(interrupts.recv().await),
        None => std::future::pending().await,
    }
}

/// What the fleet does when it fails: signed in the rollout.
async fn on_failure(home: &Home, client: &Client, id: Digest) -> Result<OnFailure, Failure> {
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let (_, rollout) = knowledge.rollout(id).await?;
    Ok::<_, KnowledgeError>(rollout.on_failure).map_err(Failure::from)
}

fn unheard(report: &RolloutReport) -> WatchError {
    let silent = report.hosts.iter().filter(|host| !host.alive).take(20);
    let hosts = silent.map(|host| host.name.to_string()).collect();
    WatchError::Unheard { rollout: report.id, hosts }
}

fn given_up(report: &RolloutReport, outcome: Outcome, after: Duration) -> WatchError {
    let (rollout, after_s, why) = (report.id, after.as_secs(), held_by(report));
    let next = match report.phase {
        RolloutPhase::Pending => format!("swell approve {rollout}; left alone, it expires"),
        RolloutPhase::Paused => format!("swell resume {rollout}, or swell abort {rollout}"),
        _ if render::rollout::is_worse(report) => format!(
            "swell abort {rollout}, and it is taken back; the numbers: swell explain {rollout}"
        ),
        _ => look(&rollout, &render::rollout::kept(report)),
    };
    match outcome {
        Outcome::Held => WatchError::Held { rollout, after_s, why, next },
        _ => WatchError::Late { rollout, after_s, why, next },
    }
}

/// Why it stands where it stands; that it is held is said before that.
fn held_by(report: &RolloutReport) -> String {
    let why = render::plain(&report.why);
    match why.strip_prefix("held: ") {
        Some(by) if report.held => by.to_owned(),
        _ => why,
    }
}

// --- who is asked ---

/// The member that is asked, and those that are asked when it is gone.
struct Line<'h> {
    home: &'h Home,
    key: &'h SigningKey,
    rollout: Digest,
    client: &'h mut Client,
    others: Vec<Member>,
    refreshed: Instant,
}

impl<'h> Line<'h> {
    async fn new(
        home: &'h Home,
        client: &'h mut Client,
        key: &'h SigningKey,
        rollout: Digest,
    ) -> Self {
        let refreshed = Instant::now();
        let mut line = Self { home, key, rollout, client, others: Vec::new(), refreshed };
        line.refresh().await;
        line
    }

    /// Where the rollout stands, from whoever answers.
    async fn look(&mut self, show: &Show) -> Result<RolloutReport, Failure> {
        let mut silent_since: Option<Instant> = None;
        loop {
            let error = match self.ask().await {
                Ok(report) => {
                    if self.refreshed.elapsed() > REFRESH {
                        self.refresh().await;
                    }
                    return Ok(report);
                }
                Err(error) if may_be_known_elsewhere(&error) => error,
                Err(error) => return Err(error.into()),
            };
            let since = *silent_since.get_or_insert_with(Instant::now);
            if since.elapsed() > SILENCE_MAX {
                show.clear();
                let (rollout, tried) = (self.rollout, self.others.len());
                let source = Box::new(error);
                return Err(WatchError::Silence { rollout, tried, source }.into());
            }
            let gone = self.client.member.to_string();
            if self.switch().await {
                show.say(&format!(
                    "lost {gone}; going on via {}, the rollout does not need it",
                    self.client.member
                ));
            } else {
                time::sleep(INTERVAL).await;
            }
        }
    }

    async fn ask(&self) -> Result<RolloutReport, ClientError> {
        let query = RolloutQuery::Id(format!("{:#}", self.rollout));
        self.client.rollout_within(query, ANSWER_TIMEOUT).await
    }

    /// Turns to another member; the one that was lost is tried last.
    async fn switch(&mut self) -> bool {
        let lost = self.client.member.address;
        let mut members = self.others.clone();
        members.push(client::coordinator(self.home));
        members.sort_by_key(|member| member.address == lost);
        for member in members {
            let connect = Client::connect(self.home, self.key, member);
            if let Ok(Ok(client)) = time::timeout(ANSWER_TIMEOUT, connect).await {
                let lost = std::mem::replace(self.client, client);
                lost.close().await;
                if self.ask().await.is_ok() {
                    return true;
                }
            }
        }
        false
    }

    /// Learns where the hosts are, for when they are needed. No answer is no harm.
    async fn refresh(&mut self) {
        self.refreshed = Instant::now();
        if let Ok(report) = self.client.fleet(ANSWER_TIMEOUT).await {
            self.home.remember_hosts(&report);
            let alive = report.hosts.iter().filter(|host| host.alive);
            self.others = alive.filter_map(client::of_host).take(OTHERS_MAX).collect();
        }
    }
}

/// Whether another member may know more: this one is gone, or has not heard of it yet.
fn may_be_known_elsewhere(error: &ClientError) -> bool {
    let not_found = matches!(
        error,
        ClientError::Refused { refused, .. }
            if matches!(refused.kind, RefusedKind::NotFound | RefusedKind::Busy)
    );
    not_found || error.is_unreachable()
}

// --- what is shown ---

/// A picture that is drawn again and again, a line for each change, or JSON.
struct Show {
    begin: Instant,
    how: How,
    before: Option<RolloutReport>,
}

enum How {
    Picture(ProgressBar),
    Lines,
    Json,
}

/// How to show it here: a picture only where it can be redrawn and nobody asked for plain text.
fn how(json: bool) -> How {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if json {
        return How::Json;
    }
    if !io::stdout().is_terminal() || dumb || set("NO_COLOR") {
        return How::Lines;
    }
    let style = ProgressStyle::with_template("{msg}").expect("a template of one field");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
    How::Picture(bar.with_style(style))
}

/// What a report says besides how long bakes last still, which changes with every look.
fn timeless(report: &RolloutReport) -> RolloutReport {
    let mut report = report.clone();
    report.waves.iter_mut().for_each(|wave| wave.bake = None);
    report
}

impl Show {
    fn new(how: How) -> Self {
        Self { begin: Instant::now(), how, before: None }
    }

    fn take(&mut self, report: &RolloutReport, member: &Member) {
        let supports_itself = report.self_supporting
            && self.before.as_ref().is_some_and(|before| !before.self_supporting);
        match &self.how {
            How::Picture(bar) => {
                let elapsed_s = self.begin.elapsed().as_secs();
                let picture = member.hint(&render::live::picture(report));
                bar.set_message(format!("{picture}\n  {} so far", crate::span::show(elapsed_s)));
            }
            How::Lines => {
                for line in render::rollout::changes(self.before.as_ref(), report) {
                    self.say(&line);
                }
            }
            How::Json => {
                if self.before.as_ref().map(timeless) != Some(timeless(report)) {
                    output::print_line(report);
                }
            }
        }
        if supports_itself {
            self.say("it supports itself now: it would end without the coordinator");
        }
        self.before = Some(report.clone());
    }

    /// A line above the picture, or among the lines.
    fn say(&self, line: &str) {
        match &self.how {
            How::Picture(bar) => bar.println(line),
            How::Lines => {
                output::write(&format!("{:8.1} s  {line}\n", self.begin.elapsed().as_secs_f64()));
            }
            How::Json => eprintln!("{line}"),
        }
    }

    /// Takes the picture away, so that what follows stands alone.
    fn clear(&self) {
        if let How::Picture(bar) = &self.how {
            bar.finish_and_clear();
        }
    }

    /// Leaves the last picture as plain lines.
    fn last(&self, report: &RolloutReport, member: &Member) {
        if let How::Picture(bar) = &self.how {
            bar.finish_and_clear();
            let picture = render::live::picture(report);
            output::write(&format!("{}\n", member.hint(&picture)));
        }
    }

    /// Whoever watched looks away.
    fn leave(&self, report: &RolloutReport, member: &Member) -> Exit {
        if let How::Picture(bar) = &self.how {
            // The terminal echoes the key behind the picture: it stays as it is, and the rest goes
            // below.
            bar.set_draw_target(ProgressDrawTarget::hidden());
            output::write("\n");
        }
        if !matches!(self.how, How::Json) {
            let id = report.id;
            output::write(
                &member.hint(&format!(
                    "not watched any more; the rollout goes on: swell watch {id}\n"
                )),
            );
        }
        Exit::Interrupted
    }

    /// Leaves the last picture and says how it ended.
    fn end(&self, report: &RolloutReport, exit: Exit, member: &Member) {
        self.last(report, member);
        if !matches!(self.how, How::Json) {
            output::write(&format!("{}{}\n", sentence(exit), took(report)));
            if let Some(next) = next(report, exit) {
                output::write(&member.hint(&format!("  next: {next}\n")));
            }
        }
    }
}

/// How long it took from its signature on, where the member that answers knows when it ended.
fn took(report: &RolloutReport) -> String {
    let took_s = report.ended.and_then(|ended| ended.0.checked_sub(report.created.0));
    took_s.map(|took_s| format!(" after {}", crate::span::show(took_s))).unwrap_or_default()
}

/// A host on which the release failed.
fn failed(report: &RolloutReport) -> Option<&str> {
    let failed = |host: &&StandingReport| matches!(host.cause, Some(Cause::Release | Cause::Host));
    report.hosts.iter().find(failed).map(|host| host.name.as_str())
}

/// What to do about an end that nobody wanted.
fn next(report: &RolloutReport, exit: Exit) -> Option<String> {
    let RolloutReport { id, service, env, .. } = report;
    match exit {
        Exit::Unreachable => Some(look(id, &render::rollout::kept(report))),
        Exit::RolledBack | Exit::Held if report.phase == RolloutPhase::Halted => Some(format!(
            "swell explain {id}; what the service said where it failed: swell logs {id} --host {}; \
             then publish a mended version, or, if the fault was elsewhere, swell retry {id}",
            failed(report).unwrap_or("HOST")
        )),
        Exit::RollbackFailed => {
            let stuck = render::rollout::stuck(report);
            let hosts = if stuck.is_empty() { "the host".to_owned() } else { stuck.join(", ") };
            let then = match (report.phase, report.direction) {
                (RolloutPhase::Complete, Direction::Forward) => "deploy the next version",
                _ => &format!("swell rollback {service} --env {env} --reason TEXT"),
            };
            Some(format!(
                "swell explain {id}; what was said there: swell logs {id}; on {hosts}: mend by hand what \
                 keeps stop or start from working, then {then}"
            ))
        }
        _ => None,
    }
}

const fn sentence(exit: Exit) -> &'static str {
    match exit {
        Exit::Done => "complete",
        Exit::RolledBack => "taken back",
        Exit::Held => "stopped; hosts stay as they are",
        Exit::Unreachable => "expired before it was complete",
        Exit::RollbackFailed => "A HOST COULD NOT GO BACK: a person is needed",
        Exit::Error | Exit::Usage | Exit::Interrupted => "a newer rollout took over",
    }
}
