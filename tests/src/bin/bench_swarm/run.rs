//! One run of one tool: the processes, the clock, and what it cost.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleet_tests::cores;
use fleet_tests::memory::{self, Figure};
use proto::Digest;
use tempfile::TempDir;

use crate::Options;
use crate::lan::{self, Lan};
use crate::report::{Measured, bound_s};
use crate::stop;
use crate::switch::Switch;
use crate::tool::{Part, Tool};

/// How long everybody may take to stand ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How often it looks whether it shall end.
const LOOK: Duration = Duration::from_millis(50);
/// A tool that takes longer than that, in multiples of the bound times the hosts, hangs.
const GIVE_UP_X: f64 = 3.0;

/// The file, in memory: no disk is measured.
pub(crate) struct Payload {
    directory: TempDir,
    bytes: u64,
    digest: Digest,
}

impl Payload {
    /// A file that does not compress.
    pub(crate) fn of_noise(mib: usize) -> Result<Self> {
        let directory = lan::directory()?;
        let noise = fleet_tests::swarming::noise(mib << 20);
        std::fs::write(directory.path().join("payload"), &noise)?;
        Ok(Self { directory, bytes: noise.len() as u64, digest: Digest::of(&noise) })
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Runs `tool` once, with everything new.
pub(crate) fn run(tool: Tool, options: &Options, payload: &Payload) -> Result<Measured> {
    let hosts = options.hosts;
    let lan = Lan::up(hosts, &options.rates, options.distance)?;
    let mut fleet = Fleet::start(tool, &lan, hosts, payload)?;
    let bound_s = bound_s(hosts, options.rates.mbit, payload.bytes);
    let limit = Duration::from_secs_f64(60.0 + bound_s * hosts as f64 * GIVE_UP_X);

    let (sent, cpu_s) = (lan_sent(&lan, hosts)?, fleet.cpu_s()?);
    let switch_s = lan.switch().map(Switch::cpu_s);
    let (busy, begun) = (Busy::now()?, Instant::now());
    fleet.go()?;
    let mut done_x = Vec::new();
    while done_x.len() < hosts - 1 {
        let (host, at) = fleet
            .done(limit.saturating_sub(begun.elapsed()))
            .with_context(|| format!("{} of {} hosts have the file", done_x.len(), hosts - 1))?;
        fleet.check(host, payload)?;
        done_x.push((at - begun).as_secs_f64() / bound_s);
    }
    let last_s = done_x.last().copied().unwrap_or(0.0) * bound_s;
    let share = Busy::now()?.share_since(&busy);
    let (elapsed_s, now_s) = (begun.elapsed().as_secs_f64(), lan.switch().map(Switch::cpu_s));
    let switch_busy = now_s.zip(switch_s).map(|(now_s, before_s)| (now_s - before_s) / elapsed_s);
    let now = lan_sent(&lan, hosts)?;
    let sent: Vec<u64> = now.iter().zip(&sent).map(|(now, before)| now - before).collect();
    let file = payload.bytes as f64;
    Ok(Measured {
        done_x,
        origin_x: sent[0] as f64 / file,
        traffic_x: sent.iter().sum::<u64>() as f64 / file / (hosts - 1) as f64,
        cpu_s: fleet.cpu_s()? - cpu_s,
        rss_mib: fleet.rss_mib()?,
        last_s,
        delivered_gib: file * (hosts - 1) as f64 / f64::from(1 << 30),
        busy: share,
        switch_busy,
    })
}

fn lan_sent(lan: &Lan, hosts: usize) -> Result<Vec<u64>> {
    (0..hosts).map(|host| lan.sent_bytes(host)).collect()
}

// --- processes ---

/// One process a host, killed when dropped.
struct Fleet<'a> {
    tool: Tool,
    lan: &'a Lan,
    directory: TempDir,
    processes: Vec<Process>,
    /// What the origin had to say when it was ready; the others are told with `go`.
    about: String,
    words: Receiver<(usize, Instant, String)>,
}

struct Process {
    child: Child,
    input: ChildStdin,
}

impl<'a> Fleet<'a> {
    /// Starts the origin, then the others, and waits until all stand ready.
    fn start(tool: Tool, lan: &'a Lan, hosts: usize, payload: &Payload) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("run-").tempdir_in(&payload.directory)?;
        let (sender, words) = channel();
        let about = String::new();
        let mut fleet = Self { tool, lan, directory, processes: Vec::new(), about, words };
        let addresses: Vec<String> = (0..hosts).map(|host| lan.address(host)).collect();
        let file = payload.directory.path().join("payload");
        for host in 0..hosts {
            let home = fleet.home(host);
            std::fs::create_dir(&home)?;
            let part = Part { host, addresses: &addresses, directory: &home, payload: &file };
            let process = Process::start(&lan.space(host), &tool.command(&part)?, &home)?;
            fleet.processes.push(process.listen(host, sender.clone()));
            if host == 0 {
                fleet.about = fleet.word("ready")?.2;
            }
        }
        for _ in 1..hosts {
            fleet.word("ready")?;
        }
        Ok(fleet)
    }

    fn home(&self, host: usize) -> PathBuf {
        self.directory.path().join(host.to_string())
    }

    fn go(&mut self) -> Result<()> {
        for process in &mut self.processes {
            writeln!(process.input, "go {}", self.about)?;
        }
        Ok(())
    }

    /// The next host that has the file, and when it had.
    fn done(&self, limit: Duration) -> Result<(usize, Instant)> {
        let (host, at, word) = self.hear(limit)?;
        ensure!(word == "done", "host {host} said {word:?}\n{}", self.log(host));
        Ok((host, at))
    }

    fn word(&self, expected: &str) -> Result<(usize, Instant, String)> {
        let heard = self.hear(READY_LIMIT);
        let (host, at, word) = heard.with_context(|| format!("nobody says {expected}"))?;
        let rest = word.strip_prefix(expected);
        let rest =
            rest.with_context(|| format!("host {host} said {word:?}\n{}", self.log(host)))?;
        Ok((host, at, rest.trim().to_owned()))
    }

    /// What the next process says. An error after so long, or once nothing more is to come of it.
    fn hear(&self, limit: Duration) -> Result<(usize, Instant, String)> {
        let until = Instant::now() + limit;
        loop {
            if let Ok(heard) = self.words.recv_timeout(LOOK) {
                return Ok(heard);
            }
            stop::check()?;
            ensure!(self.lan.switch().is_none_or(Switch::works), "there is no switch");
            ensure!(Instant::now() < until, "nothing within {} s", limit.as_secs());
        }
    }

    /// What a process wrote to its error output.
    fn log(&self, host: usize) -> String {
        std::fs::read_to_string(self.home(host).join("log")).unwrap_or_default()
    }

    /// Whether a host has what was sent; ours tells of nothing that it has not verified.
    fn check(&self, host: usize, payload: &Payload) -> Result<()> {
        if self.tool == Tool::Swell {
            return Ok(());
        }
        let home = self.home(host);
        let file = ["file", "payload"].map(|name| home.join(name)).into_iter().find(|f| f.exists());
        let bytes = std::fs::read(file.context("there is no file")?)?;
        ensure!(Digest::of(&bytes) == payload.digest, "host {host} has another file");
        Ok(())
    }

    fn cpu_s(&self) -> Result<f64> {
        let groups: Vec<u32> = self.processes.iter().map(|process| process.child.id()).collect();
        cores::of_groups(&groups)
    }

    /// The most that one of them ever held.
    fn rss_mib(&self) -> Result<f64> {
        let mut peaks =
            self.processes.iter().map(|process| memory::mib(process.child.id(), Figure::Peak));
        peaks.try_fold(0.0, |largest: f64, peak| Ok(largest.max(peak?)))
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Its whole group: shells have children. One that is gone needs no killing.
            let group = format!("-{}", process.child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).output();
            let _ = process.child.wait();
        }
    }
}

/// A process that has not been listened to yet.
struct Started(Process, ChildStdout);

impl Process {
    fn start(space: &str, command: &Command, home: &Path) -> Result<Started> {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", space]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            inside.env(name, value.unwrap_or_default());
        }
        inside.current_dir(home).stdin(Stdio::piped()).stdout(Stdio::piped());
        inside.stderr(File::create(home.join("log"))?).process_group(0);
        let mut child = inside.spawn().context("ip")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Started(Self { child, input: input.context("input")? }, output.context("output")?))
    }
}

impl Started {
    /// Passes on what it says, line by line, with the time.
    fn listen(self, host: usize, words: Sender<(usize, Instant, String)>) -> Process {
        let Self(process, output) = self;
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if words.send((host, Instant::now(), line)).is_err() {
                    return;
                }
            }
            // Its end, which nobody expects.
            let _ = words.send((host, Instant::now(), "(it ended)".to_owned()));
        });
        process
    }
}

// --- what it costs ---

/// How busy the cores of this machine are.
struct Busy {
    all: u64,
    idle: u64,
}

impl Busy {
    fn now() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|field| field.parse().ok())
            .collect();
        let idle = ticks.iter().skip(3).take(2).sum();
        Ok(Self { all: ticks.iter().sum(), idle })
    }

    fn share_since(&self, before: &Self) -> f64 {
        let (all, idle) = (self.all - before.all, self.idle - before.idle);
        (all - idle) as f64 / all.max(1) as f64
    }
}
