//! An agent killed at every rename, sync and open of an activation: a real process, real files, real
//! commands; strace counts its calls and kills it before the n-th (R22).
//!
//! Every rename and sync is tried, and some of the opens; all of those, too, with
//!
//! ```text
//! KILLS=all cargo nextest run -p fleet-tests --test killed --no-capture
//! ```
//!
//! Skipped, in words, where there is no strace or it may not trace.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not recognised as such")]

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::activate::{Activator, Installed, Outcome, Paths, stage};
use agent::allowed::Allowed;
use agent::config::{self, Config};
use agent::guard;
use agent::services::{Machine, Way, boot_id};
use durable::RealDisk;
use proto::statement::{ArtifactRef, Health, Release, Run, Source};
use proto::{Digest, UnixTime};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Kinds of calls, as strace names them; `?`: not every machine has it.
const KINDS: [(&str, &str); 3] = [
    ("rename", "?rename,?renameat,?renameat2"),
    ("sync", "?fsync,?fdatasync"),
    ("open", "?open,?openat,?openat2,?creat"),
];
/// Of each kind and story, how many are tried at least, where there are so many, unless all are.
const TRIED: usize = 14;
const SIGKILL: i32 = 9;
/// Far above what anything here needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service is a `sleep` in the directory of its release.
const START: &str = "sleep 0.02; sleep 600 & echo $! > \"$SWELL_SHARED/pid\"";
const STOP: &str = "sleep 0.02; test -f \"$SWELL_SHARED/pid\" || exit 0
kill \"$(cat \"$SWELL_SHARED/pid\")\"; rm \"$SWELL_SHARED/pid\"";

/// What the attempt that is killed brings, and what it comes to if it is not.
#[derive(Debug, Clone, Copy)]
struct Story {
    name: &'static str,
    start: &'static str,
    commits: bool,
}

/// A host that serves version 1 and has 2 and 3 on its disk.
struct Host {
    dir: TempDir,
    runtime: Runtime,
    paths: Paths,
    first: Digest,
    second: Digest,
    third: Digest,
}

impl Host {
    fn new(second: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(&dir.path().join("srv"), &"web".parse().unwrap());
        fs::create_dir_all(paths.shared()).unwrap();
        let address = health(&paths.shared().join("pid"));
        fs::write(paths.env(), format!("LISTEN={address}\n")).unwrap();
        fs::set_permissions(paths.env(), fs::Permissions::from_mode(0o600)).unwrap();
        let staged = |version, start| stage_version(dir.path(), &paths, version, start);
        let [first, second, third] = [("1", START), ("2", second), ("3", START)]
            .map(|(version, start)| staged(version, start));
        let runtime = Runtime::new().unwrap();
        let host = Self { dir, runtime, paths, first, second, third };
        let activator = host.activator();
        assert_eq!(activator.activate(1, None, first, Way::Forward), Outcome::Baking);
        activator.commit(1).unwrap();
        host
    }

    fn activator(&self) -> Activator {
        let state = self.dir.path().join("state/services");
        let machine = Machine::new(&state, Allowed::default(), self.runtime.handle().clone());
        let (disk, machine) = (Arc::new(RealDisk), Arc::new(machine.unwrap()));
        Activator::new(disk, machine, self.paths.clone(), &state, boot_id())
    }

    /// Runs one attempt by way of `tracer`, which has its first words.
    fn attempt(&self, tracer: &[&str], number: u64, from: &Digest, to: &Digest) -> Output {
        let binary = env!("CARGO_BIN_EXE_attempt");
        let mut command = match tracer {
            [] => Command::new(binary),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(binary);
                command
            }
        };
        command
            .arg(self.dir.path())
            .args([number.to_string(), format!("{from:#}"), format!("{to:#}")])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Numbers of the calls that are about the files of this host, counted from 1.
    fn calls(&self, kind: &str) -> Vec<usize> {
        let log = self.dir.path().join("calls");
        let log_text = log.display().to_string();
        let trace = format!("trace={kind}");
        let tracer = ["strace", "-qq", "-y", "-o", &log_text, "-e", &trace];
        self.attempt(&tracer, 2, &self.first, &self.second);
        let log = fs::read_to_string(log).unwrap();
        let name = |line: &str| line.split('(').next().is_some_and(|name| kind.contains(name));
        let calls = log.lines().filter(|line| line.contains('(') && name(line)).enumerate();
        let here = self.dir.path().display().to_string();
        calls.filter(|(_, line)| line.contains(&here)).map(|(index, _)| index + 1).collect()
    }

    /// What `current` points at, which must be whole.
    fn current(&self, case: &str) -> Installed {
        let current = self.activator().current().unwrap_or_else(|error| panic!("{case}: {error}"));
        let current = current.unwrap_or_else(|| panic!("{case}: current is gone"));
        let whole = self.activator().check_staged(&current.id);
        assert_eq!(whole.as_ref(), Ok(&current), "{case}");
        current
    }

    /// One version serves, the one that `current` points at.
    fn assert_serves(&self, expected: &[Digest], case: &str) {
        let current = self.current(case);
        assert!(expected.contains(&current.id), "{case}: {}", current.release.version);
        let expected = self.paths.release(&current.id).canonicalize().unwrap();
        wait_until(&format!("{case}: {} serves and nothing else", current.release.version), || {
            self.processes("sleep") == [expected.clone()]
        });
    }

    /// The directories of releases in which processes of this name run.
    fn processes(&self, name: &str) -> Vec<PathBuf> {
        let releases = self.paths.releases().canonicalize().unwrap();
        let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|one| one.path());
        // Processes come and go.
        let runs = |process: &PathBuf| {
            let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
            comm.trim_end() == name
        };
        let within = |process: PathBuf| fs::read_link(process.join("cwd")).ok();
        all.filter(runs).filter_map(within).filter(|cwd| cwd.starts_with(&releases)).collect()
    }

    fn guard(&self) -> anyhow::Result<()> {
        let path = self.dir.path().join("agent.toml");
        let [state, srv] = ["state", "srv"].map(|name| self.dir.path().join(name));
        let text = format!(
            "bind = \"127.0.0.1:7070\"\nname = \"a\"\nstate_dir = {state:?}\nservice_root = {srv:?}\n"
        );
        let config = Config::parse(&path, &text, config::Machine::this).unwrap();
        guard::run(&config, Some("web".parse().unwrap()), self.runtime.handle())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.paths.shared().join("pid")) {
            let _ = Command::new("kill").arg(pid.trim()).status();
        }
    }
}

/// Answers 200 for as long as the process of the pid file is there; where.
fn health(pid: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let pid = pid.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1_024]);
            let text = fs::read_to_string(&pid).unwrap_or_default();
            let runs = !text.is_empty() && Path::new("/proc").join(text.trim()).exists();
            let status = if runs { "200 OK" } else { "503 Down" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

fn stage_version(dir: &Path, paths: &Paths, version: &str, start: &str) -> Digest {
    let source = dir.join(format!("source-{version}"));
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("VERSION"), version).unwrap();
    let mut data = Vec::new();
    let manifest = pack::pack(&source, &mut data, &mut |_| {}).unwrap();
    let release = release(version, start, pack::artifact_ref(&manifest));
    let id = Digest::of(version.as_bytes());
    let mut piece = |_| io::Result::Ok(data.clone());
    stage(paths, &id, &release, &manifest.to_bytes(), &[], &mut piece).unwrap();
    id
}

fn release(version: &str, start: &str, artifact: ArtifactRef) -> Release {
    Release {
        fleet: "test-00000000".parse().unwrap(),
        service: "web".parse().unwrap(),
        version: version.parse().unwrap(),
        artifact,
        source: Source::default(),
        created: UnixTime(0),
        run: Run {
            start: start.to_owned(),
            stop: STOP.to_owned(),
            timeout_s: 30,
            ..Run::default()
        },
        health: Health { http: Some("http://${LISTEN}/healthz".to_owned()), ..Health::default() },
        critical: Vec::new(),
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Why nothing can be traced here.
fn untraceable() -> Option<String> {
    let traced = Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).output();
    match traced {
        Err(error) => Some(format!("strace: {error}")),
        Ok(output) if !output.status.success() => {
            Some(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
        Ok(_) => None,
    }
}

/// Of `all`, those to try.
fn tried(all: &[usize], every: bool) -> Vec<usize> {
    let step = if every { 1 } else { (all.len() / TRIED).max(1) };
    all.iter().copied().step_by(step).collect()
}

/// The agent dies before the `nth` call; then the guard runs, then the agent starts anew and is asked
/// for the next rollout. Whether it was killed.
fn kill_at(story: Story, kind: &str, nth: usize) -> bool {
    let case = &format!("{}, killed before call {nth} of {kind}", story.name);
    let host = Host::new(story.start);
    let inject = format!("inject={kind}:signal=KILL:when={nth}");
    let trace = format!("trace={kind}");
    let tracer = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let output = host.attempt(&tracer, 2, &host.first, &host.second);
    let killed = output.status.signal() == Some(SIGKILL);
    let ended = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(killed || output.status.success() == story.commits, "{case}: {ended}");
    let may_run = match (killed, story.commits) {
        (true, true) => vec![host.first, host.second],
        (false, true) => vec![host.second],
        (_, false) => vec![host.first],
    };
    let current = host.current(case).id;
    assert!([host.first, host.second].contains(&current), "{case}: {current}");
    // A command that it had just started, and that is on no record yet, comes to its end before
    // systemd starts anybody.
    wait_until("commands end", || host.processes("sh").is_empty());

    host.guard().unwrap_or_else(|error| panic!("{case}: {error}"));
    host.assert_serves(&may_run, case);
    let from = host.current(case).id;
    let output = host.attempt(&[], 3, &from, &host.third);
    assert!(output.status.success(), "{case}: {}", String::from_utf8_lossy(&output.stderr));
    host.assert_serves(&[host.third], case);
    killed
}

/// The story with the agent killed at one call after the other.
fn killed_everywhere(story: Story) {
    if let Some(why) = untraceable() {
        eprintln!("skipped, no agent is killed at its calls: {why}");
        return;
    }
    let every = std::env::var_os("KILLS").is_some_and(|kills| kills == "all");
    for (name, kind) in KINDS {
        let calls = Host::new(story.start).calls(kind);
        let last = *calls.last().expect("an activation makes such calls");
        // How many there are differs a little: a command may have ended before it is on record.
        let (mut killed, mut beyond) = (0, last + 1);
        for nth in tried(&calls, every) {
            killed += usize::from(kill_at(story, kind, nth));
        }
        while kill_at(story, kind, beyond) {
            (killed, beyond) = (killed + 1, beyond + 1);
        }
        assert!(killed > 0, "{}: no {name} call was come to", story.name);
        let (name, of) = (format!("{}: {name}", story.name), calls.len());
        eprintln!("{name}: killed at {killed} of about {of} calls");
    }
}

#[test]
fn r22_killed_at_renames_syncs_and_opens_one_version_serves() {
    killed_everywhere(Story { name: "a good release", start: START, commits: true });
}

#[test]
fn r22_killed_at_them_on_the_way_back_the_old_version_serves() {
    let name = "a release that does not start";
    killed_everywhere(Story { name, start: "exit 1", commits: false });
}
