//! The manager of this machine's units: what is asked of systemd, over D-Bus.
//!
//! Each question takes a connection of its own: there are few, and none of them is the worse for a
//! bus that was restarted in between. `systemctl` is never run.

use std::collections::HashMap;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use proto::UnixTime;
use tokio::io::AsyncReadExt as _;
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
/// How long the journal may be read for evidence, and how much of its end is kept.
const JOURNAL_LIMIT: Duration = Duration::from_secs(10);
const JOURNAL_LINES: &str = "500";
const JOURNAL_BYTES_MAX: usize = 1 << 20;

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

    /// The last lines of a unit, and of systemd about it, since then; empty where there are none.
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
        let journal = tokio::process::Command::new("journalctl")
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
        let mut journal = tokio::process::Command::new("journalctl");
        journal.args(["--quiet", "--no-pager", "--utc", "--output=short-iso"]);
        journal.args(["--lines", JOURNAL_LINES, "--unit", unit]);
        journal.arg(format!("--since=@{}", since.0));
        let mut read = Vec::new();
        // Ended by being dropped, where it takes too long.
        match tokio::time::timeout(JOURNAL_LIMIT, end_of_output(&mut journal, &mut read)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return format!("journalctl: {error}\n"),
            Err(_) => read.extend(b"\njournalctl: cut off, it takes too long\n"),
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    async fn errors(&self, invocation: &[u8], since: UnixTime, entries_max: u32) -> Option<u32> {
        let mut journal = tokio::process::Command::new("journalctl");
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

/// Runs a command, and keeps the end of what it says: what came last says why something failed.
async fn end_of_output(
    command: &mut tokio::process::Command,
    end: &mut Vec<u8>,
) -> std::io::Result<()> {
    let quiet = command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut child = quiet.kill_on_drop(true).spawn()?;
    let Some(mut said) = child.stdout.take() else { return Ok(()) };
    while said.read_buf(end).await? > 0 {
        // Seldom, and half of it then: each byte is moved about once.
        if end.len() > 2 * JOURNAL_BYTES_MAX {
            end.drain(..end.len() - JOURNAL_BYTES_MAX);
        }
    }
    end.drain(..end.len().saturating_sub(JOURNAL_BYTES_MAX));
    Ok(())
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
            let mut command = tokio::process::Command::new("seq");
            end_of_output(command.arg(lines.to_string()), &mut end).await.unwrap();
            let text = String::from_utf8(end).unwrap();
            assert!(text.len() <= JOURNAL_BYTES_MAX, "{}", text.len());
            assert!(text.ends_with(&format!("\n{lines}\n")));
            assert_eq!(text.starts_with("1\n2\n"), is_whole);
        }
    }
}
