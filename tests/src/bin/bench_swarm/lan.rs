//! Hosts in network namespaces, each with a rate limit in both directions: on one bridge, or on the
//! switch of long lines.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::switch::{Switch, tap};
use crate::wire::{Distance, Wire};

/// What a queue of a link holds, in kB: 42 ms at 100 Mbit/s.
pub(crate) const QUEUE_KB: usize = 512;
/// What may pass at once, in kB.
const BURST_KB: usize = 32;
/// How the names of all begin that a bench makes; then comes its process.
const PREFIX: &str = "gswb";
/// Where files are kept: in memory, so that no disk is measured.
const MEMORY: &str = "/dev/shm";

/// How fast the links are, each way.
#[derive(Debug, Clone)]
pub(crate) struct Rates {
    pub(crate) mbit: usize,
    /// Hosts with another rate than that.
    pub(crate) slow: Vec<(usize, usize)>,
}

impl Rates {
    fn of(&self, host: usize) -> usize {
        let other = self.slow.iter().find(|(slow, _)| *slow == host);
        other.map_or(self.mbit, |(_, mbit)| *mbit)
    }

    pub(crate) fn slow_words(&self) -> String {
        self.slow.iter().map(|(host, mbit)| format!(", host {host} at {mbit}")).collect()
    }
}

/// Namespaces, and what joins them; taken down when dropped.
pub(crate) struct Lan {
    hosts: usize,
    tag: u32,
    /// None: a bridge.
    switch: Option<Switch>,
}

impl Lan {
    /// Makes them. Host 0 is the origin. Without a distance, hosts are as near as on a bridge.
    pub(crate) fn up(hosts: usize, rates: &Rates, distance: Option<Distance>) -> Result<Self> {
        let mut lan = Self { hosts, tag: std::process::id(), switch: None };
        for host in 0..hosts {
            ip(&format!("netns add {}", lan.space(host)))?;
        }
        match distance {
            None => lan.join_by_bridge(rates)?,
            Some(distance) => lan.join_by_switch(rates, distance)?,
        }
        for host in 0..hosts {
            let space = lan.space(host);
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} addr add {}/16 dev eth0", lan.address(host)))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            tc(&format!("-n {space} qdisc add dev eth0 {}", limit(rates.of(host))))?;
        }
        Ok(lan)
    }

    fn join_by_bridge(&self, rates: &Rates) -> Result<()> {
        let bridge = self.bridge();
        ip(&format!("link add {bridge} type bridge mcast_snooping 0"))?;
        ip(&format!("link set {bridge} up"))?;
        for host in 0..self.hosts {
            let (space, link) = (self.space(host), self.link(host));
            ip(&format!("link add {link} type veth peer name eth0 netns {space}"))?;
            ip(&format!("link set {link} master {bridge} up"))?;
            tc(&format!("qdisc add dev {link} {}", limit(rates.of(host))))?;
        }
        Ok(())
    }

    fn join_by_switch(&mut self, rates: &Rates, distance: Distance) -> Result<()> {
        let mut taps = Vec::new();
        for host in 0..self.hosts {
            let (space, link) = (self.space(host), self.link(host));
            taps.push(tap(&link)?);
            ip(&format!("link set {link} netns {space} name eth0"))?;
        }
        let wire = Wire::new(distance, (0..self.hosts).map(|host| rates.of(host)));
        self.switch = Some(Switch::start(taps, wire)?);
        Ok(())
    }

    /// The name of a host's namespace.
    pub(crate) fn space(&self, host: usize) -> String {
        format!("{PREFIX}{}-{host}", self.tag)
    }

    pub(crate) fn address(&self, host: usize) -> String {
        format!("10.83.0.{}", host + 1)
    }

    /// What a host has sent so far, in bytes of frames.
    pub(crate) fn sent_bytes(&self, host: usize) -> Result<u64> {
        if let Some(switch) = &self.switch {
            return Ok(switch.sent_bytes(host));
        }
        let path = format!("/sys/class/net/{}/statistics/rx_bytes", self.link(host));
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        text.trim().parse().with_context(|| path)
    }

    pub(crate) const fn switch(&self) -> Option<&Switch> {
        self.switch.as_ref()
    }

    /// Its end outside the namespace; at most 15 characters.
    fn link(&self, host: usize) -> String {
        format!("{PREFIX}{}v{host}", self.tag)
    }

    fn bridge(&self) -> String {
        format!("{PREFIX}{}br", self.tag)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        // Before its devices go.
        self.switch = None;
        take_down(|process| process == self.tag);
    }
}

/// A directory in memory, gone when dropped.
pub(crate) fn directory() -> Result<TempDir> {
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(MEMORY).context(MEMORY)
}

/// Takes down what benches left that were killed.
pub(crate) fn sweep() {
    let gone = |process: u32| !Path::new(&format!("/proc/{process}")).exists();
    take_down(gone);
    for directory in made(MEMORY, gone) {
        let _ = std::fs::remove_dir_all(Path::new(MEMORY).join(directory));
    }
}

/// Takes down namespaces and links, and ends processes in them, by who made them. What is half gone
/// already is no error.
fn take_down(whose: impl Fn(u32) -> bool) {
    for space in made("/run/netns", &whose) {
        let inside = Command::new("ip").args(["netns", "pids", &space]).output();
        let inside = inside.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for process in inside.unwrap_or_default().split_whitespace() {
            let _ = sh("kill", &format!("-KILL {process}"));
        }
        let _ = ip(&format!("netns del {space}"));
    }
    for link in made("/sys/class/net", &whose) {
        let _ = ip(&format!("link del {link}"));
    }
}

/// The names in a directory that benches made, by who made them.
fn made(directory: &str, whose: impl Fn(u32) -> bool) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| maker(name).is_some_and(&whose)).collect()
}

/// The process that made something of this name.
fn maker(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(PREFIX)?;
    let (process, what) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
    what.starts_with(['-', 'v', 'b']).then(|| process.parse().ok())?
}

fn limit(mbit: usize) -> String {
    format!("root tbf rate {mbit}mbit burst {BURST_KB}kb limit {QUEUE_KB}kb")
}

fn ip(arguments: &str) -> Result<()> {
    sh("ip", arguments)
}

fn tc(arguments: &str) -> Result<()> {
    sh("tc", arguments)
}

fn sh(program: &str, arguments: &str) -> Result<()> {
    let mut command = Command::new(program);
    // In a group of its own, Ctrl-C does not end it half way.
    command.args(arguments.split_whitespace()).stdin(Stdio::null()).process_group(0);
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments}: {}", said.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_benches_made_is_taken_down() {
        for (name, process) in [
            ("gswb4194304-99", Some(4_194_304)),
            ("gswb17v3", Some(17)),
            ("gswb17br", Some(17)),
            ("gswb17-Ab3", Some(17)),
            ("gswb17", None),
            ("gswb-17", None),
            ("gswb17x", None),
            ("gb17br", None),
            ("eth0", None),
        ] {
            assert_eq!(maker(name), process, "{name}");
        }
    }
}
