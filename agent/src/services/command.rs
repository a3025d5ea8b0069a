//! One command: started, waited for, killed when it takes too long; its output kept in a file.
//!
//! The output goes to a file rather than a pipe, because a service that stays behind keeps it
//! open: nobody would ever see the end of a pipe. What such a service goes on writing there is cut
//! only at the next command; one that writes much should keep its own log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use member::clock;
use proto::UnixTime;
use rustix::process::{Pid, geteuid};

use super::process::Leader;

/// Length from which a log is moved aside (`.log.old`) before the next command, in bytes.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// Of a command's output, the last so many bytes are looked at.
const TAIL_BYTES: u64 = 64 << 10;
/// Longest last line in an error, in characters.
const LAST_LINE_CHARS: usize = 200;
/// Where output goes that cannot be logged.
const NOWHERE: &str = "/dev/null";
/// How long a killed process may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// Exit code of a command that is to be run again: not yet (`EX_TEMPFAIL` of `sysexits.h`).
const EXIT_LATER: i32 = 75;
/// Between two runs of such a command.
const LATER_PAUSE: Duration = Duration::from_millis(500);

/// A command and all it needs.
#[derive(Debug)]
pub(super) struct Script<'a> {
    /// `start`, `stop`, `drain`...: how errors and the log call it.
    pub(super) name: &'static str,
    /// For `/bin/sh -c`.
    pub(super) text: &'a str,
    pub(super) directory: &'a Path,
    /// All of its environment.
    pub(super) variables: &'a [(String, String)],
    /// User and group to run as, and no other group; none: those of the agent.
    pub(super) user: Option<(u32, u32)>,
    /// For all of its runs together.
    pub(super) timeout: Duration,
    pub(super) log: &'a Path,
    /// Where it is on record while it runs, so that an agent started anew can end it.
    pub(super) record: &'a Path,
}

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error("{name}: cannot write {}: {source}", path.display())]
    File { name: &'static str, path: PathBuf, source: io::Error },
    #[error("{name} cannot be run in {}: {source}", directory.display())]
    Spawn { name: &'static str, directory: PathBuf, source: io::Error },
    #[error("{name} did not end within {timeout:?}{}", Last(last))]
    Timeout { name: &'static str, timeout: Duration, last: String },
    #[error("{name} {}{}", Ended(*status), Last(last))]
    Exit { name: &'static str, status: ExitStatus, last: String },
}

impl CommandError {
    /// Whether the command itself said no, by its exit code, rather than the host or the clock.
    pub(super) fn is_exit(&self) -> bool {
        matches!(self, Self::Exit { .. })
    }

    /// As a sample tells it: how it ended, and after how long.
    pub(super) fn after(&self, took: Duration) -> String {
        let took_ms = took.as_millis();
        match self {
            Self::Exit { name, status, last } => {
                format!("{name}: {} after {took_ms} ms{}", Ended(*status), Last(last))
            }
            Self::Timeout { name, last, .. } => {
                format!("{name}: killed, had not ended after {took_ms} ms{}", Last(last))
            }
            Self::File { .. } | Self::Spawn { .. } => self.to_string(),
        }
    }

    fn is_later(&self) -> bool {
        matches!(self, Self::Exit { status, .. } if status.code() == Some(EXIT_LATER))
    }
}

struct Last<'a>(&'a str);

impl std::fmt::Display for Last<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            "" => Ok(()),
            last => write!(f, ": {last}"),
        }
    }
}

struct Ended(ExitStatus);

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(EXIT_LATER), _) => {
                write!(f, "exited {EXIT_LATER}, not yet, to the end of its time")
            }
            (Some(code), _) => write!(f, "exited {code}"),
            (None, Some(signal)) => write!(f, "was killed by signal {signal}"),
            (None, None) => f.write_str("ended in an unknown way"),
        }
    }
}

impl Script<'_> {
    /// Runs it to its end, again and again while it says that it is not yet time.
    ///
    /// # Errors
    ///
    /// [`CommandError`]. After a timeout nothing of its process group is left.
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let end = Instant::now() + self.timeout;
        loop {
            match self.run_once(end) {
                Err(error) if error.is_later() && Instant::now() + LATER_PAUSE < end => {
                    std::thread::sleep(LATER_PAUSE);
                }
                ended => return ended,
            }
        }
    }

    fn run_once(&self, end: Instant) -> Result<(), CommandError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |source| CommandError::File { name: self.name, path, source }
        };
        let (log, start) = self.open_log().map_err(file(Path::new(NOWHERE)))?;
        let output = || log.try_clone().map(Stdio::from);
        let mut child = shell(self.text, self.directory, self.variables, self.user)
            .stdout(output().map_err(file(self.log))?)
            .stderr(output().map_err(file(self.log))?)
            .spawn()
            .map_err(|source| self.spawn_error(source))?;
        let leader = Pid::from_child(&child);
        // Best effort: without the record only an agent killed right now would miss it.
        if let Some(Err(error)) = Leader::of(leader).map(|leader| leader.record(self.record)) {
            tracing::warn!(%error, path = %self.record.display(), "cannot record a command");
        }
        let ended = Self::wait(&mut child, end);
        let _ = fs::remove_file(self.record);
        let status = ended.map_err(|source| self.spawn_error(source))?;
        let last = || last_line(self.log, start);
        match status {
            None => {
                Err(CommandError::Timeout { name: self.name, timeout: self.timeout, last: last() })
            }
            Some(status) if !status.success() => {
                Err(CommandError::Exit { name: self.name, status, last: last() })
            }
            Some(_) => Ok(()),
        }
    }

    fn spawn_error(&self, source: io::Error) -> CommandError {
        CommandError::Spawn { name: self.name, directory: self.directory.to_owned(), source }
    }

    /// Its exit status; `None`: it had not ended at `end` and was killed.
    fn wait(child: &mut std::process::Child, end: Instant) -> io::Result<Option<ExitStatus>> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= end {
                // Not waited for yet, so the id still is this child's and its group's.
                let group = Pid::from_child(child);
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                child.wait()?;
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Where output goes, and its length before this command's. What cannot be logged, on a full disk
    /// say, is run all the same: it may be the way back.
    fn open_log(&self) -> io::Result<(File, u64)> {
        self.open_file().or_else(|error| {
            tracing::error!(%error, path = %self.log.display(), "a command runs without its log");
            Ok((OpenOptions::new().write(true).open(NOWHERE)?, 0))
        })
    }

    fn open_file(&self) -> io::Result<(File, u64)> {
        if let Some(directory) = self.log.parent() {
            fs::create_dir_all(directory)?;
        }
        if fs::metadata(self.log).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            fs::rename(self.log, self.log.with_extension("log.old"))?;
        }
        let mut log = OpenOptions::new().append(true).create(true).open(self.log)?;
        writeln!(log, "{}", Header::of(self.name, self.directory, clock::now().unix))?;
        let start = log.metadata()?.len();
        Ok((log, start))
    }
}

/// `text` for `/bin/sh -c`, in that directory, with these variables and no others, nothing to read, and a
/// process group of its own. `user`: user and group to run as, and no other group; none: the agent's.
pub(crate) fn shell(
    text: &str,
    directory: &Path,
    variables: &[(String, String)],
    user: Option<(u32, u32)>,
) -> Command {
    let mut command = Command::new("/bin/sh");
    if let Some((uid, gid)) = user.filter(|(uid, _)| *uid != geteuid().as_raw()) {
        // With another user's id the groups of root are given up, too.
        command.uid(uid).gid(gid);
    }
    let variables = variables.iter().map(|(name, value)| (name, value));
    command.args(["-c", text]).current_dir(directory).env_clear().envs(variables);
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// Kills the command on record at `path`, if it still runs.
///
/// # Errors
///
/// What is left: a process that not even SIGKILL ended.
pub(super) fn end_recorded(path: &Path) -> Result<(), String> {
    if let Some(leader) = Leader::on_record(path) {
        tracing::warn!(?leader, "ending a command that an earlier agent left running");
        if !leader.kill_group(KILL_LIMIT) {
            return Err(format!("a command left running cannot be killed: {leader:?}"));
        }
    }
    let _ = fs::remove_file(path);
    Ok(())
}

/// The end of `log`, and before it that of the log that was moved aside for it; nothing from before the
/// last attempt to start what lies in `directory`, where that is in it: what was said earlier was said with
/// other settings. `since`: when that attempt began; before the start it drained and stopped what ran.
pub(super) fn end_of(log: &Path, directory: &Path, since: UnixTime) -> String {
    let now = tail(log, 0).unwrap_or_default();
    let mut end = match now.len() as u64 {
        TAIL_BYTES => Vec::new(),
        _ => tail(&log.with_extension("log.old"), 0).unwrap_or_default(),
    };
    end.extend(now);
    let from = end.len().saturating_sub(TAIL_BYTES as usize);
    let end = String::from_utf8_lossy(&end[from..]);
    end[begun_at(&end, &directory.display().to_string(), &since.to_string())..].to_owned()
}

/// Where in a log the last attempt begins that started what lies in `directory`; 0: it did not.
fn begun_at(log: &str, directory: &str, since: &str) -> usize {
    let mut headers = Vec::new();
    let mut at = 0;
    for line in log.split_inclusive('\n') {
        headers.extend(Header::read(line.trim_end()).map(|header| (at, header)));
        at += line.len();
    }
    let starts = |(_, header): &(usize, Header<'_>)| header.starts(directory);
    let Some(start) = headers.iter().rposition(starts) else { return 0 };
    let before = headers[..start].iter().rev();
    let own = before.take_while(|(_, header)| header.makes_room(since));
    headers[start - own.count()].0
}

/// What stands in a log above the output of each run of a command: `== start in /srv/web/releases/1,
/// 2026-11-27 13:00:01 UTC`. An agent of the version before wrote no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header<'a> {
    name: &'a str,
    directory: &'a str,
    /// As [`UnixTime`] is shown, which sorts as it comes; empty: not written.
    time: &'a str,
}

impl Header<'_> {
    fn of(name: &str, directory: &Path, time: UnixTime) -> String {
        format!("== {name} in {}, {time} UTC", directory.display())
    }
}

impl<'a> Header<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (name, rest) = line.strip_prefix("== ")?.split_once(" in ")?;
        let dated = rest.strip_suffix(" UTC").and_then(|rest| rest.rsplit_once(", "));
        let (directory, time) = dated.unwrap_or((rest, ""));
        Some(Self { name, directory, time })
    }

    fn starts(&self, directory: &str) -> bool {
        self.name == "start" && self.directory == directory
    }

    /// Whether it takes out of use what ran, since then.
    fn makes_room(&self, since: &str) -> bool {
        matches!(self.name, "drain" | "stop") && self.time >= since
    }
}

/// The last [`TAIL_BYTES`] of what was written to `log` from `start` on.
fn tail(log: &Path, start: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES).max(start);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(tail)
}

/// The last line that says something, of what was written to `log` from `start` on.
fn last_line(log: &Path, start: u64) -> String {
    last_line_of(&tail(log, start).unwrap_or_default())
}

/// The last line that says something.
pub(crate) fn last_line_of(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or_default().chars().filter(|c| !c.is_control()).take(LAST_LINE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        timeout: Duration,
        user: Option<(u32, u32)>,
    }

    impl Bench {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), timeout: Duration::from_secs(20), user: None }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn run(&self, text: &str) -> Result<(), CommandError> {
            let variables = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
            Script {
                name: "start",
                text,
                directory: self.dir.path(),
                variables: &variables,
                user: self.user,
                timeout: self.timeout,
                log: &self.path("logs/web.log"),
                record: &self.path("web.command"),
            }
            .run()
        }
    }

    fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !done() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn runs(pid: &str) -> bool {
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        Leader::of(pid).is_some()
    }

    fn kill(pid: &str) {
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }

    #[test]
    fn exit_code_and_last_line_are_told() {
        let bench = Bench::new();
        let cases = [
            (
                "a code and a line",
                "echo out; echo 'no such port' >&2; exit 3",
                "start exited 3: no such port",
            ),
            ("blank lines do not count", "echo why; echo; echo ' '; exit 1", "start exited 1: why"),
            ("silence", "exit 7", "start exited 7"),
            ("a signal", "kill -9 $$", "start was killed by signal 9"),
            (
                "no such program",
                "bin/nothing",
                "start exited 127: /bin/sh: 1: bin/nothing: not found",
            ),
        ];
        for (case, text, expected) in cases {
            let error = bench.run(text).unwrap_err();
            assert_eq!(error.to_string(), expected, "{case}");
            assert!(error.is_exit(), "{case}");
        }
        assert!(bench.run("echo fine").is_ok());
        assert!(!bench.path("web.command").exists(), "on record only while it runs");
    }

    #[test]
    fn the_environment_is_what_was_given() {
        let bench = Bench::new();
        bench.run("env > env; pwd > pwd").unwrap();
        let env = fs::read_to_string(bench.path("env")).unwrap();
        let names: Vec<_> = env.lines().filter_map(|line| line.split('=').next()).collect();
        assert!(
            names.iter().all(|name| ["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(name)),
            "{env}"
        );
        let pwd = fs::read_to_string(bench.path("pwd")).unwrap();
        assert_eq!(Path::new(pwd.trim()), bench.dir.path().canonicalize().unwrap());
    }

    #[test]
    fn what_it_leaves_behind_neither_blocks_nor_dies() {
        let bench = Bench::new();
        bench.run("sleep 600 & echo $! > pid").unwrap();
        let pid = fs::read_to_string(bench.path("pid")).unwrap();
        assert!(runs(&pid), "the service outlives its start command");
        kill(&pid);
    }

    #[test]
    fn a_timeout_takes_the_process_group() {
        let mut bench = Bench::new();
        bench.timeout = Duration::from_millis(300);
        let error = bench.run("sleep 600 & echo $! > pid; echo waiting; wait").unwrap_err();
        assert_eq!(error.to_string(), "start did not end within 300ms: waiting");
        assert!(!error.is_exit());
        let pid = fs::read_to_string(bench.path("pid")).unwrap();
        wait_until("the command's child is gone", || !runs(&pid));
    }

    #[test]
    fn r23_what_says_not_yet_is_run_again() {
        let mut bench = Bench::new();
        bench.run("test -f asked && exit 0; touch asked; exit 75").unwrap();
        // In the time it has, and no longer.
        bench.timeout = Duration::from_millis(700);
        let error = bench.run("echo waiting for b; exit 75").unwrap_err();
        let expected = "start exited 75, not yet, to the end of its time: waiting for b";
        assert_eq!(error.to_string(), expected);
        assert!(error.is_exit());
        let log = fs::read_to_string(bench.path("logs/web.log")).unwrap();
        assert_eq!(log.matches("waiting for b").count(), 2, "{log}");
        let error = bench.run("test -f slept && sleep 600; touch slept; exit 75").unwrap_err();
        assert!(error.to_string().starts_with("start did not end within 700ms"), "{error}");
    }

    #[test]
    fn r23_it_runs_as_the_user_it_is_to_run_as() {
        let mut bench = Bench::new();
        let own = geteuid().as_raw();
        bench.user = Some((own, rustix::process::getegid().as_raw()));
        bench.run("id -u > own").unwrap();
        assert_eq!(fs::read_to_string(bench.path("own")).unwrap().trim(), own.to_string());
        let nobody = 65_534;
        bench.user = Some((nobody, nobody));
        if own != 0 {
            let error = bench.run("true").unwrap_err();
            assert!(error.to_string().contains("cannot be run in"), "{error}");
            return;
        }
        // Where it may write: the directory is root's alone.
        let shown = bench.run("id -u; id -g; id -G; exit 1").unwrap_err().to_string();
        assert_eq!(shown, format!("start exited 1: {nobody}"), "no other group");
        let log = fs::read_to_string(bench.path("logs/web.log")).unwrap();
        assert!(log.ends_with(&format!("{nobody}\n").repeat(3)), "{log}");
    }

    #[test]
    fn a_command_of_a_killed_agent_is_ended_and_nothing_else() {
        let bench = Bench::new();
        let record = bench.path("web.command");
        assert!(end_recorded(&record).is_ok(), "nothing on record");
        let mut other = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let mut left = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        Leader::of(Pid::from_child(&left)).unwrap().record(&record).unwrap();
        end_recorded(&record).unwrap();
        assert_eq!(left.wait().unwrap().signal(), Some(9));
        assert!(other.try_wait().unwrap().is_none(), "another process is left alone");
        assert!(!record.exists());
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn a_long_log_is_moved_aside_and_its_tail_is_enough() {
        let bench = Bench::new();
        let noise = "i=0; while [ $i -lt 30000 ]; do echo 'a line of forty characters, more or less'; \
                     i=$((i+1)); done; echo last; exit 1";
        let error = bench.run(noise).unwrap_err();
        assert_eq!(error.to_string(), "start exited 1: last");
        let elsewhere = Path::new("/elsewhere");
        let end = end_of(&bench.path("logs/web.log"), elsewhere, UnixTime(0));
        assert!(end.len() as u64 == TAIL_BYTES && end.ends_with("or less\nlast\n"));
        assert!(fs::metadata(bench.path("logs/web.log")).unwrap().len() > LOG_BYTES_MAX);
        bench.run("echo after").unwrap();
        assert!(fs::metadata(bench.path("logs/web.log")).unwrap().len() < 1_000);
        assert!(bench.path("logs/web.log.old").exists());
        let end = end_of(&bench.path("logs/web.log"), elsewhere, UnixTime(0));
        assert!(end.contains("or less\nlast\n== start in ") && end.ends_with("\nafter\n"));
        assert_eq!(end.len() as u64, TAIL_BYTES);
        assert_eq!(end_of(&bench.path("logs/none.log"), elsewhere, UnixTime(0)), "");
        let directory = bench.dir.path();
        let end = end_of(&bench.path("logs/web.log"), directory, UnixTime(u64::MAX >> 20));
        let (header, said) = end.split_once('\n').unwrap();
        let header = Header::read(header).unwrap();
        assert_eq!(
            (header.name, header.directory, said),
            ("start", directory.to_str().unwrap(), "after\n")
        );
        assert!(header.time > "2026-01-01 00:00:00", "{header:?}");
    }

    /// What made room for the release is told with it; what an attempt before it left behind is not: it may
    /// have been said with other settings.
    #[test]
    fn a_log_is_shown_from_where_the_attempt_began() {
        let at = |name: &str, release: &str, s: u64| {
            format!("{}\n{name} of {release}\n", Header::of(name, Path::new(release), UnixTime(s)))
        };
        let earlier = [
            at("start", "/new", 100),
            at("stop", "/new", 101),
            at("start", "/old", 102),
            at("undrain", "/old", 103),
        ];
        let way_back = at("stop", "/new", 190);
        let own = [
            at("drain", "/old", 200),
            at("stop", "/old", 201),
            at("stop", "/new", 202),
            at("start", "/new", 203),
            at("check", "/new", 204),
            at("stop", "/new", 205),
            at("start", "/old", 206),
        ];
        let (earlier, own) = (earlier.concat(), own.concat());
        let undated = own.lines().map(|line| line.split(", 1970").next().unwrap());
        let undated: String = undated.map(|line| format!("{line}\n")).collect();
        let from_start = |log: &str| log[log.find("== start in /new").unwrap()..].to_owned();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web.log");
        let shown = |text: &str, directory: &str| {
            fs::write(&log, text).unwrap();
            end_of(&log, Path::new(directory), UnixTime(195))
        };
        let all = [&*earlier, &*way_back, &*own].concat();
        assert_eq!(shown(&all, "/new"), own);
        assert_eq!(shown(&all, "/ne"), all, "it was never started");
        assert_eq!(shown(&undated, "/new"), from_start(&undated), "of the agent before");
        let spoken = own.replace("check of /new", "== start in /new or so");
        assert_eq!(shown(&spoken, "/new"), spoken);
    }

    #[test]
    fn how_a_command_ended_is_told_in_a_line() {
        let mut bench = Bench::new();
        let took = Duration::from_millis(40);
        let told = |bench: &Bench, text| bench.run(text).unwrap_err().after(took);
        let exited = "start: exited 3 after 40 ms: no such port";
        assert_eq!(told(&bench, "echo no such port; exit 3"), exited);
        assert_eq!(told(&bench, "kill -9 $$"), "start: was killed by signal 9 after 40 ms");
        bench.timeout = Duration::from_millis(300);
        let late = "start: killed, had not ended after 40 ms: waiting";
        assert_eq!(told(&bench, "echo waiting; sleep 600"), late);
    }

    /// It may be the way back, and what fills the disk may be what has to go.
    #[test]
    fn r29_a_command_runs_where_its_log_cannot_be_written() {
        let bench = Bench::new();
        let (file, record) = (bench.path("file"), bench.path("record"));
        fs::write(&file, "").unwrap();
        for log in [Path::new("/dev/full"), &file.join("web.log")] {
            let script = |text| Script {
                name: "start",
                text,
                directory: bench.dir.path(),
                variables: &[],
                user: None,
                timeout: bench.timeout,
                log,
                record: &record,
            };
            script("echo said > ran").run().unwrap();
            assert_eq!(fs::read_to_string(bench.path("ran")).unwrap(), "said\n");
            let error = script("echo lost; exit 3").run().unwrap_err();
            assert_eq!(error.to_string(), "start exited 3");
        }
    }

    #[test]
    fn no_directory_to_run_in() {
        let bench = Bench::new();
        let error = Script {
            name: "stop",
            text: "true",
            directory: &bench.path("missing"),
            variables: &[],
            user: None,
            timeout: bench.timeout,
            log: &bench.path("log"),
            record: &bench.path("record"),
        }
        .run()
        .unwrap_err();
        assert!(error.to_string().starts_with("stop cannot be run in "), "{error}");
        assert!(!error.is_exit());
    }
}
