//! The manager of this machine's units: what is asked of systemd, over D-Bus.
//!
//! Each question takes a connection of its own: there are few, and none of them is the worse for a
//! bus that was restarted in between. `systemctl` is never run.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use proto::UnixTime;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use zbus::export::futures_core::Stream as _;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, ObjectPath, OwnedObjectPath, OwnedVariant};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// How long an answer may take that waits for nothing.
const ANSWER_LIMIT: Duration = Duration::from_secs(25);
/// How long the last words of a service may be looked for.
const WORDS_LIMIT: Duration = Duration::from_secs(2);
/// How long the beginning of the journal may be read for evidence, and how long its end.
const JOURNAL_LIMIT: Duration = Duration::from_secs(10);
/// Lines of its end that are kept, and of its beginning: the swap is there, and a service that says much
/// may have baked for long since.
const LAST_LINES: usize = 500;
const FIRST_LINES: usize = 250;
/// Longest end, and longest beginning, in bytes.
const LAST_BYTES_MAX: usize = 1 << 20;
const FIRST_BYTES_MAX: usize = 64 << 10;

/// What is to become of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    Start,
    Stop,
}

/// Why systemd did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ManagerError {
    /// It said no: the name of the error, and its text.
    #[error("{text}")]
    Refused { name: String, text: String },
    #[error("cannot reach systemd by D-Bus: {0}")]
    Unreachable(String),
}

/// How a unit is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct UnitState {
    /// `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub(super) load: String,
    /// The unit file.
    pub(super) path: String,
    /// `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub(super) active: String,
    /// In more detail, like `running`, `auto-restart`.
    pub(super) sub: String,
    /// `simple`, `notify`, `oneshot`, ...
    pub(super) kind: String,
    /// How it ended the last time: `success`, `exit-code`, `signal`, ...
    pub(super) result: String,
    /// Exit status, or number of the signal, of its main process.
    pub(super) status: i32,
    /// How often systemd has started it by itself since it was last asked to.
    pub(super) restarts: u32,
    pub(super) drop_ins: Vec<String>,
    /// Sockets, timers and paths that start it.
    pub(super) triggered_by: Vec<String>,
    /// The id of its last start, which is on what it wrote to the journal since.
    pub(super) invocation: Vec<u8>,
}

/// What is asked of systemd; the seam between the order of questions and the bus.
///
/// # Errors
///
/// [`ManagerError`].
#[async_trait]
pub(super) trait Manager: Send + Sync {
    /// Reads all unit files anew.
    async fn reload(&self) -> Result<(), ManagerError>;

    /// Forgets that a unit failed, and how often it was started; one that there is not has nothing to
    /// forget.
    async fn forget_failures(&self, unit: &str) -> Result<(), ManagerError>;

    /// Does `job`, and waits for its end: `done`, `failed`, `timeout`, `dependency`, `canceled`, ...
    async fn run(&self, job: Job, unit: &str) -> Result<String, ManagerError>;

    /// How a unit is; one that there is not has `load` say so.
    async fn state(&self, unit: &str) -> Result<UnitState, ManagerError>;

    /// The last line that the processes of one start of a unit wrote; empty where there is none.
    async fn last_words(&self, invocation: &[u8]) -> String;

    /// The first and the last lines of a unit, and of systemd about it, since then; empty where there are
    /// none.
    async fn journal(&self, unit: &str, since: UnixTime) -> String;

    /// How many entries of priority `err` or worse the processes of one start of a unit wrote since then;
    /// counted up to so many. None: the journal cannot be read.
    async fn errors(&self, invocation: &[u8], since: UnixTime, entries_max: u32) -> Option<u32>;
}

/// The real side: the system's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Systemd;

#[async_trait]
impl Manager for Systemd {
    async fn reload(&self) -> Result<(), ManagerError> {
        call(&connect().await?, "Reload", &()).await.map(drop)
    }

    async fn forget_failures(&self, unit: &str) -> Result<(), ManagerError> {
        match call(&connect().await?, "ResetFailedUnit", &unit).await {
            Ok(_) | Err(ManagerError::Refused { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn run(&self, job: Job, unit: &str) -> Result<String, ManagerError> {
        let bus = connect().await?;
        // Heard from before it begins: a job may end before its number is told.
        let mut ends = job_ends(&bus).await?;
        call(&bus, "Subscribe", &()).await?;
        let method = match job {
            Job::Start => "StartUnit",
            Job::Stop => "StopUnit",
        };
        let begun = call(&bus, method, &(unit, "replace")).await?;
        let job: OwnedObjectPath = begun.body().deserialize().map_err(unreachable)?;
        loop {
            let next = std::future::poll_fn(|context| Pin::new(&mut ends).poll_next(context)).await;
            let message =
                next.ok_or_else(|| unreachable("the connection ended"))?.map_err(unreachable)?;
            let body = message.body();
            let (_, ended, _, result): (u32, ObjectPath<'_>, &str, &str) =
                body.deserialize().map_err(unreachable)?;
            if ended == *job {
                return Ok(result.to_owned());
            }
        }
    }

    async fn state(&self, unit: &str) -> Result<UnitState, ManagerError> {
        let bus = connect().await?;
        let loaded = call(&bus, "LoadUnit", &unit).await?;
        let path: OwnedObjectPath = loaded.body().deserialize().map_err(unreachable)?;
        let mut unit = Properties::of(&bus, &path, "org.freedesktop.systemd1.Unit").await?;
        let mut service = Properties::of(&bus, &path, "org.freedesktop.systemd1.Service").await?;
        Ok(UnitState {
            load: unit.take("LoadState"),
            path: unit.take("FragmentPath"),
            active: unit.take("ActiveState"),
            sub: unit.take("SubState"),
            drop_ins: unit.take("DropInPaths"),
            triggered_by: unit.take("TriggeredBy"),
            invocation: unit.take("InvocationID"),
            kind: service.take("Type"),
            result: service.take("Result"),
            status: service.take("ExecMainStatus"),
            restarts: service.take("NRestarts"),
        })
    }

    async fn last_words(&self, invocation: &[u8]) -> String {
        let journal = Command::new("journalctl")
            .args(["--quiet", "--no-pager", "--output=cat", "--lines=1"])
            .arg(of_start(invocation))
            .kill_on_drop(true)
            .output();
        match tokio::time::timeout(WORDS_LIMIT, journal).await {
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
            // Told without them.
            Ok(Err(_)) | Err(_) => String::new(),
        }
    }

    async fn journal(&self, unit: &str, since: UnixTime) -> String {
        let mut last = Vec::new();
        let mut command = journalctl(unit);
        // Without --since: with it, systemd 252 takes the first so many, and not the last.
        command.arg(format!("--lines={}", FIRST_LINES + LAST_LINES + 1));
        let ended = end_of_output(&mut command, &mut last).await;
        let cut = matches!(ended, Ok(true));
        let last = in_words(ended.map(drop), &last);
        let last = from_then_on(&last, since);
        // An entry has a line at least: where there are no more lines than that, these are all of them.
        if !cut && last.lines().count() <= FIRST_LINES + LAST_LINES {
            return last.to_owned();
        }
        let (mut first, mut command) = (Vec::new(), journalctl(unit));
        command.arg(format!("--since=@{}", since.0));
        let ended = start_of_output(&mut command, &mut first).await;
        around(&in_words(ended, &first), last)
    }

    async fn errors(&self, invocation: &[u8], since: UnixTime, entries_max: u32) -> Option<u32> {
        let mut journal = Command::new("journalctl");
        // The priority alone: one short line an entry, however long that is.
        journal.args(["--quiet", "--no-pager", "--output=cat", "--output-fields=PRIORITY"]);
        journal.arg("--priority=err").arg(format!("--lines={entries_max}"));
        journal.arg(format!("--since=@{}", since.0)).arg(of_start(invocation));
        journal.stdin(Stdio::null()).kill_on_drop(true);
        let read = tokio::time::timeout(WORDS_LIMIT, journal.output()).await.ok()?.ok()?;
        let lines = read.stdout.iter().filter(|byte| **byte == b'\n').count();
        read.status.success().then(|| u32::try_from(lines).unwrap_or(u32::MAX))
    }
}

/// What is on all that one start of a unit wrote.
fn of_start(invocation: &[u8]) -> String {
    let id: String = invocation.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("_SYSTEMD_INVOCATION_ID={id}")
}

/// The journal of a unit, the oldest first.
fn journalctl(unit: &str) -> Command {
    let mut journal = Command::new("journalctl");
    journal.args(["--quiet", "--no-pager", "--utc", "--output=short-iso", "--unit", unit]);
    journal
}

/// A journal without what is from before that time, which is what its entries begin with.
fn from_then_on(journal: &str, since: UnixTime) -> &str {
    let since = since.to_string().replace(' ', "T");
    let is_before = |line: &&str| line.get(..since.len()).is_none_or(|time| time < since.as_str());
    let before = journal.split_inclusive('\n').take_while(is_before);
    &journal[before.map(str::len).sum()..]
}

/// Runs a command, and keeps the end of what it says within the time it has: what came last says why
/// something failed. Whether that is less than all of it.
async fn end_of_output(command: &mut Command, end: &mut Vec<u8>) -> io::Result<bool> {
    let (_child, mut said) = listen(command)?;
    let mut cut = false;
    let read = async {
        while said.read_buf(end).await? > 0 {
            // Seldom, and half of it then: each byte is moved about once.
            if end.len() > 2 * LAST_BYTES_MAX {
                end.drain(..end.len() - LAST_BYTES_MAX);
                cut = true;
            }
        }
        Ok(())
    };
    let ended = in_journal_time(read).await;
    cut |= end.len() > LAST_BYTES_MAX;
    if cut {
        end.drain(..end.len().saturating_sub(LAST_BYTES_MAX));
        // Whole lines: of a secret that was cut in two nobody could tell that it is one.
        end.drain(..end.iter().position(|byte| *byte == b'\n').map_or(end.len(), |at| at + 1));
    }
    ended.map(|()| cut)
}

/// Runs a command until it has said its first [`FIRST_LINES`], and ends it then.
async fn start_of_output(command: &mut Command, start: &mut Vec<u8>) -> io::Result<()> {
    let (_child, mut said) = listen(command)?;
    let mut lines = 0;
    let read = async {
        while lines < FIRST_LINES && start.len() < FIRST_BYTES_MAX {
            let before = start.len();
            if said.read_buf(start).await? == 0 {
                break;
            }
            lines += start[before..].iter().filter(|byte| **byte == b'\n').count();
        }
        Ok(())
    };
    let ended = in_journal_time(read).await;
    start.truncate(FIRST_BYTES_MAX);
    // Whole lines, as above.
    start.truncate(start.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
    ended
}

/// Starts a command, and its output: it is killed once the one is dropped.
fn listen(command: &mut Command) -> io::Result<(Child, ChildStdout)> {
    let quiet = command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut child = quiet.kill_on_drop(true).spawn()?;
    let said = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((child, said))
}

async fn in_journal_time(read: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let late = || io::Error::other("cut off, it takes too long");
    tokio::time::timeout(JOURNAL_LIMIT, read).await.unwrap_or_else(|_| Err(late()))
}

/// What was read, and why that is not all of it.
fn in_words(ended: io::Result<()>, read: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(read).into_owned();
    if let Err(error) = ended {
        text.push_str(&format!("\njournalctl: {error}\n"));
    }
    text
}

/// The first lines of the one and the last lines of the other, which goes on after it.
fn around(first: &str, last: &str) -> String {
    let first = first.split_inclusive('\n').take(FIRST_LINES);
    let passed_over = last.lines().count().saturating_sub(LAST_LINES);
    let last = last.split_inclusive('\n').skip(passed_over);
    let gap = std::iter::once("\n[lines are left out here]\n\n");
    first.chain(gap).chain(last).collect()
}

/// What an object has to say under one of its interfaces.
struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    async fn of(
        bus: &Connection,
        path: &OwnedObjectPath,
        interface: &str,
    ) -> Result<Self, ManagerError> {
        let asked = bus.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "GetAll", &interface);
        let answer = in_time(asked).await?;
        answer.body().deserialize().map(Self).map_err(unreachable)
    }

    /// The value of a property; that of its type where an older systemd has none.
    fn take<T: TryFrom<OwnedVariant> + Default>(&mut self, name: &str) -> T {
        let value = self.0.remove(name).and_then(|value| value.try_into().ok());
        value.unwrap_or_default()
    }
}

async fn connect() -> Result<Connection, ManagerError> {
    in_time(Connection::system()).await
}

async fn call<B>(bus: &Connection, method: &str, body: &B) -> Result<zbus::Message, ManagerError>
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    in_time(bus.call_method(Some(SYSTEMD), PATH, Some(MANAGER), method, body)).await
}

/// The ends of all jobs from now on.
async fn job_ends(bus: &Connection) -> Result<MessageStream, ManagerError> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .sender(SYSTEMD)
        .interface(MANAGER)
        .member("JobRemoved")
        .build()
        .map_err(unreachable)?;
    in_time(MessageStream::for_match_rule(rule, bus, None)).await
}

/// The answer, unless it takes too long.
async fn in_time<T>(answer: impl Future<Output = zbus::Result<T>>) -> Result<T, ManagerError> {
    match tokio::time::timeout(ANSWER_LIMIT, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(zbus::Error::MethodError(name, text, _))) => Err(ManagerError::Refused {
            name: name.to_string(),
            text: text.unwrap_or_else(|| name.to_string()),
        }),
        Ok(Err(error)) => Err(unreachable(error)),
        Err(_) => Err(unreachable(format!("no answer within {} s", ANSWER_LIMIT.as_secs()))),
    }
}

fn unreachable(error: impl std::fmt::Display) -> ManagerError {
    ManagerError::Unreachable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_what_a_command_says_the_end_is_kept() {
        for (lines, is_whole) in [(3, true), (400_000, false)] {
            let mut end = Vec::new();
            let mut command = Command::new("seq");
            let cut = end_of_output(command.arg(lines.to_string()), &mut end).await.unwrap();
            assert_eq!(cut, !is_whole);
            let text = String::from_utf8(end).unwrap();
            assert!(text.len() <= LAST_BYTES_MAX, "{}", text.len());
            assert!(text.ends_with(&format!("\n{lines}\n")));
            assert_eq!(text.starts_with("1\n2\n"), is_whole);
            assert!(is_whole || text.find('\n') == Some(6), "whole lines: {:?}", &text[..20]);
        }
    }

    #[tokio::test]
    async fn of_what_a_command_says_the_beginning_is_read_and_not_waited_for_the_end() {
        let (mut all, mut start, mut wide) = (Vec::new(), Vec::new(), Vec::new());
        start_of_output(Command::new("seq").arg("3"), &mut all).await.unwrap();
        assert_eq!(all, b"1\n2\n3\n");
        // Neither ever ends by itself.
        start_of_output(&mut Command::new("yes"), &mut start).await.unwrap();
        assert!(start.starts_with(b"y\n") && start.len() >= 2 * FIRST_LINES);
        start_of_output(Command::new("yes").arg("x".repeat(5_000)), &mut wide).await.unwrap();
        assert_eq!(wide.len(), FIRST_BYTES_MAX / 5_001 * 5_001, "whole lines");
    }

    #[test]
    fn a_journal_is_told_from_the_attempt_on() {
        let at = |second: u32| format!("2027-01-15T08:00:{second:02}+0000 n1 web[7]: a\n   b\n");
        let journal = ["-- Boot 1 --\n".to_owned(), at(1), at(2), at(3), at(2)].concat();
        let since = |s: u64| from_then_on(&journal, UnixTime(1_800_000_000 + s));
        assert_eq!(since(2), [at(2), at(3), at(2)].concat());
        assert_eq!((since(0), since(9)), (&journal[13..], ""));
    }

    #[test]
    fn a_long_journal_is_told_by_its_beginning_and_its_end() {
        let lines =
            |range: std::ops::Range<usize>| -> String { range.map(|n| format!("{n}\n")).collect() };
        let told = around(&lines(0..900), &lines(10_000..10_751));
        let (first, last) = told.split_once("\n[lines are left out here]\n\n").unwrap();
        assert_eq!((first, last), (&*lines(0..250), &*lines(10_251..10_751)));
    }
}
