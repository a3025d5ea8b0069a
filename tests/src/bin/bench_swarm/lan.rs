//! Hosts in network namespaces, on one bridge, each with a rate limit in both directions.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// What a queue of a link holds, in kB: 42 ms at 100 Mbit/s.
const QUEUE_KB: usize = 512;
/// What may pass at once, in kB.
const BURST_KB: usize = 32;

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

/// Namespaces, links and a bridge; taken down when dropped.
pub(crate) struct Lan {
    hosts: usize,
    tag: u32,
}

impl Lan {
    /// Makes them. Host 0 is the origin.
    pub(crate) fn up(hosts: usize, rates: &Rates) -> Result<Self> {
        let lan = Self { hosts, tag: std::process::id() };
        let bridge = lan.bridge();
        ip(&format!("link add {bridge} type bridge mcast_snooping 0"))?;
        ip(&format!("link set {bridge} up"))?;
        for host in 0..hosts {
            let (space, link) = (lan.space(host), lan.link(host));
            let limit = format!(
                "root tbf rate {}mbit burst {BURST_KB}kb limit {QUEUE_KB}kb",
                rates.of(host)
            );
            ip(&format!("netns add {space}"))?;
            ip(&format!("link add {link} type veth peer name eth0 netns {space}"))?;
            ip(&format!("link set {link} master {bridge} up"))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} addr add {}/16 dev eth0", lan.address(host)))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            sh("tc", &format!("qdisc add dev {link} {limit}"))?;
            sh("tc", &format!("-n {space} qdisc add dev eth0 {limit}"))?;
        }
        Ok(lan)
    }

    /// The name of a host's namespace.
    pub(crate) fn space(&self, host: usize) -> String {
        format!("gswb{}-{host}", self.tag)
    }

    pub(crate) fn address(&self, host: usize) -> String {
        format!("10.83.0.{}", host + 1)
    }

    /// What a host has sent so far, in bytes of frames.
    pub(crate) fn sent_bytes(&self, host: usize) -> Result<u64> {
        let path = format!("/sys/class/net/{}/statistics/rx_bytes", self.link(host));
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        text.trim().parse().with_context(|| path)
    }

    /// Its end outside the namespace; at most 15 characters.
    fn link(&self, host: usize) -> String {
        format!("gb{}v{host}", self.tag)
    }

    fn bridge(&self) -> String {
        format!("gb{}br", self.tag)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            // One that was never made is not there.
            let _ = ip(&format!("netns del {}", self.space(host)));
            let _ = ip(&format!("link del {}", self.link(host)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}

fn ip(arguments: &str) -> Result<()> {
    sh("ip", arguments)
}

fn sh(program: &str, arguments: &str) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments}: {}", said.trim());
    Ok(())
}
