//! Starting and stopping the service in the background.
//!
//! The pid file holds the process id and when that process started: an id that was given to another
//! process since is never signalled.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, getpid, kill_process, setsid};

use crate::{serve, shared};

/// Between TERM and KILL.
const GRACE: Duration = Duration::from_secs(10);
/// After KILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// What `serve` says on stdout once it listens.
const LISTENING: &str = "listening";

pub(crate) fn start() -> Result<()> {
    if let Some((pid, _)) = running()? {
        bail!("it runs already, as process {}", pid.as_raw_nonzero());
    }
    let log_path = shared()?.join("demo.log");
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&log_path)
        .with_context(|| format!("cannot open {}", log_path.display()))?;
    let mut child = Command::new(std::env::current_exe().context("who am I?")?)
        .args(["serve", "--background"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start `serve`")?;
    let mut said = String::new();
    let stdout = child.stdout.take().context("its stdout is a pipe")?;
    // One short line, or the end of the pipe when it exits: it gives up by itself.
    BufReader::new(stdout).read_line(&mut said).context("cannot hear `serve`")?;
    if said.trim() == LISTENING {
        return Ok(());
    }
    let status = child.wait().context("cannot wait for `serve`")?;
    let log = fs::read_to_string(&log_path).unwrap_or_default();
    bail!("`serve` ended, {status}: {}", log.lines().last().unwrap_or("it said nothing"))
}

pub(crate) fn stop() -> Result<()> {
    let path = pid_file()?;
    if let Some((pid, started)) = running()? {
        // Gone between two looks: what was asked for.
        let _ = kill_process(pid, Signal::TERM);
        if !gone(pid, started, GRACE) {
            let _ = kill_process(pid, Signal::KILL);
            let id = pid.as_raw_nonzero();
            ensure!(gone(pid, started, KILL_LIMIT), "process {id} cannot be killed");
        }
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Runs `serve` away from whoever started it, and tells that one when it listens.
pub(crate) fn serve_in_background() -> Result<()> {
    setsid().context("cannot have a session of its own")?;
    let path = pid_file()?;
    let started = started(getpid()).context("cannot tell when it started")?;
    // Written beside and moved: a reader finds all of it or nothing.
    let beside = path.with_extension("pid.new");
    File::create(&beside)
        .and_then(|mut file| writeln!(file, "{} {started}", getpid().as_raw_nonzero()))
        .and_then(|()| fs::rename(&beside, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    serve::run(|| {
        let mut stdout = std::io::stdout();
        // Nobody listens any more: no reason not to serve.
        let _ = writeln!(stdout, "{LISTENING}").and_then(|()| stdout.flush());
    })
}

fn pid_file() -> Result<PathBuf> {
    Ok(shared()?.join("demo.pid"))
}

/// The process of the pid file and when it started, if it still runs.
fn running() -> Result<Option<(Pid, u64)>> {
    let path = pid_file()?;
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut words = text.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(id)), Some(Ok(then))) = (words.next(), words.next()) else { return Ok(None) };
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    Ok(pid.filter(|pid| started(*pid) == Some(then)).map(|pid| (pid, then)))
}

fn gone(pid: Pid, then: u64, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while started(pid) == Some(then) {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

/// When a process started, in clock ticks since the boot; none if it is gone or only waits for its
/// parent to take notice.
fn started(pid: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The second field is the program's name in parentheses, and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        // The state was field 3; the start time is field 22.
        _ => fields.nth(18)?.parse().ok(),
    }
}
