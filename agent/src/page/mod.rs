//! The agent's own page of metrics, in Prometheus text (0.0.4): made of what the parts count anyway.
//!
//! Only where `agent.toml` says `metrics`, and on loopback alone: whoever scrapes a host runs there, and
//! nothing else of an agent is open to those who are not of the fleet. No label has more values than this
//! host has services, [`SLOTS`] at most, or than stand in this file.

mod serve;

use std::fmt::{Display, Write as _};

use member::Membership;
use net::gossip::GossipCounts;
use proto::receipt::{SignedReceipt, State};
use proto::record::{SLOTS, receipt_key};
use proto::{HostId, PublicKey, Service};
use swarm::{FetchCounts, ProvideCounts};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

pub(crate) use serve::serve;

/// All that a service can be.
const STATES: [State; 8] = [
    State::Pending,
    State::Fetching,
    State::Staged,
    State::Activating,
    State::Baking,
    State::Committed,
    State::Reverted,
    State::RevertFailed,
];

/// Where what is told comes from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) member: Membership,
    /// This host's own.
    pub(crate) key: PublicKey,
}

impl Page {
    /// As things stand now. Blocks on `/proc` for a moment.
    pub(crate) fn text(&self) -> String {
        let Self { member, key } = self;
        let members = member.gossip.members().borrow().clone();
        let me = HostId::of(key);
        let alive = members.iter().filter(|one| one.alive).count();
        let own = members.iter().find(|one| one.host == me);
        let receipts = (0..SLOTS).filter_map(|slot| own?.values.get(&receipt_key(slot)));
        let chain = member.ledger.chain();
        let service = |text: &String| {
            let receipt = SignedReceipt::from_text(text).ok()?.verify(key).ok()?;
            Some((chain.rollout(&receipt.rollout)?.service.clone(), receipt.state))
        };
        Facts {
            alive,
            silent: members.len() - alive,
            gossip: member.gossip.counts(),
            fetched: member.swarm.fetched(),
            provided: member.swarm.provided(),
            services: receipts.filter_map(service).collect(),
            process: Process::this(),
        }
        .text()
    }
}

/// What is told.
#[derive(Default)]
struct Facts {
    alive: usize,
    silent: usize,
    gossip: GossipCounts,
    fetched: FetchCounts,
    provided: ProvideCounts,
    services: Vec<(Service, State)>,
    /// None: the kernel does not say.
    process: Option<Process>,
}

/// What this process takes.
#[derive(Clone, Copy)]
struct Process {
    cpu_ms: u64,
    resident_bytes: u64,
    /// Since 1970, in seconds.
    since_s: u64,
}

impl Process {
    fn this() -> Option<Self> {
        let (mut system, pid) = (System::new().ok()?, sysinfo::get_current_pid().ok()?);
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
        let process = system.process(pid)?;
        Some(Self {
            cpu_ms: process.accumulated_cpu_time(),
            resident_bytes: process.memory(),
            since_s: process.start_time(),
        })
    }
}

impl Facts {
    fn text(&self) -> String {
        let mut page = Text::default();
        page.gauge("swell_build_info", "Version of the agent.");
        page.say("swell_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        self.swarm(&mut page);
        self.gossip(&mut page);
        self.services(&mut page);
        if let Some(process) = self.process {
            process.tell(&mut page);
        }
        page.0
    }

    fn swarm(&self, page: &mut Text) {
        let (fetched, provided) = (&self.fetched, &self.provided);
        let name = "swell_swarm_fetched_bytes_total";
        page.counter(name, "Verified content of artifacts, by where it came from.");
        for (source, bytes) in [
            ("peers", fetched.bytes_from_peers),
            ("origin", fetched.bytes_from_origin),
            ("here", fetched.bytes_here),
            ("patched", fetched.bytes_patched),
        ] {
            page.say(name, &[("source", source)], bytes);
        }
        for (name, help, count) in [
            (
                "swell_swarm_verified_pieces_total",
                "Pieces that came and were right.",
                fetched.pieces_verified,
            ),
            (
                "swell_swarm_wrong_pieces_total",
                "Pieces that came and were not what they should be.",
                fetched.pieces_wrong,
            ),
            ("swell_swarm_sent_pieces_total", "Pieces that others took whole.", provided.pieces),
            ("swell_swarm_sent_bytes_total", "Their bytes.", provided.bytes),
        ] {
            page.counter(name, help);
            page.say(name, &[], count);
        }
        for (name, help, count) in [
            ("swell_swarm_fetches", "Fetches of artifacts under way.", fetched.running),
            ("swell_swarm_peers", "Members that these fetches ask.", fetched.peers),
        ] {
            page.gauge(name, help);
            page.say(name, &[], count);
        }
        let name = "swell_swarm_uploads";
        page.gauge(name, "Asks of others for pieces.");
        page.say(name, &[("state", "waiting")], provided.waiting);
        page.say(name, &[("state", "running")], provided.running);
    }

    fn gossip(&self, page: &mut Text) {
        let name = "swell_gossip_members";
        page.gauge(name, "Members that were heard of, this one included.");
        page.say(name, &[("state", "alive")], self.alive);
        page.say(name, &[("state", "silent")], self.silent);
        let name = "swell_gossip_messages_total";
        page.counter(name, "Messages of gossip, by what became of them.");
        for (outcome, count) in [
            ("sent", self.gossip.sent),
            ("taken", self.gossip.passed),
            ("dropped", self.gossip.dropped),
            ("refused", self.gossip.violations),
        ] {
            page.say(name, &[("outcome", outcome)], count);
        }
    }

    fn services(&self, page: &mut Text) {
        let name = "swell_service_state";
        page.gauge(name, "1: where the service stands in the newest rollout here.");
        for (service, stands) in &self.services {
            for state in STATES {
                let labels = [("service", service.as_str()), ("state", state.name())];
                page.say(name, &labels, u8::from(state == *stands));
            }
        }
    }
}

impl Process {
    fn tell(self, page: &mut Text) {
        let Self { cpu_ms, resident_bytes, since_s } = self;
        let name = "process_cpu_seconds_total";
        page.counter(name, "Time on processors, of the agent and not of services.");
        page.say(name, &[], format_args!("{}.{:03}", cpu_ms / 1_000, cpu_ms % 1_000));
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory of the agent.", resident_bytes),
            ("process_start_time_seconds", "When the agent started, since 1970.", since_s),
        ] {
            page.gauge(name, help);
            page.say(name, &[], value);
        }
    }
}

/// A page as it is written. Labels are names and words that need no escapes.
#[derive(Default)]
struct Text(String);

impl Text {
    fn counter(&mut self, name: &str, help: &str) {
        self.begin(name, "counter", help);
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.begin(name, "gauge", help);
    }

    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn say(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        match labels.is_empty() {
            true => self.line(format_args!("{name} {value}")),
            false => self.line(format_args!("{name}{{{}}} {value}", labels.join(","))),
        }
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use proto::selector::Selector;

    use super::*;
    use crate::health::metrics::exposition::sum;

    fn facts(services: usize) -> Facts {
        let service = |index| (format!("s{index}").parse().unwrap(), STATES[index % 8]);
        Facts {
            alive: 5,
            silent: 2,
            gossip: GossipCounts { sent: 1, passed: 2, left_out: 0, dropped: 3, violations: 4 },
            fetched: FetchCounts {
                bytes_from_peers: 61,
                bytes_from_origin: 3,
                bytes_here: 7,
                bytes_patched: 9,
                pieces_verified: 64,
                pieces_wrong: 1,
                running: 2,
                peers: 11,
            },
            provided: ProvideCounts { pieces: 12, bytes: 1_200, waiting: 30, running: 8 },
            services: (0..services).map(service).collect(),
            process: Some(Process { cpu_ms: 12_034, resident_bytes: 20 << 20, since_s: 1_000 }),
        }
    }

    /// By the agent's own reader of such pages.
    #[test]
    fn every_fact_is_on_the_page() {
        let page = facts(3).text();
        for (selector, expected) in [
            ("swell_build_info{version=~\"[0-9.]+\"}", 1.0),
            ("swell_swarm_fetched_bytes_total{source=\"peers\"}", 61.0),
            ("swell_swarm_fetched_bytes_total{source=\"origin\"}", 3.0),
            ("swell_swarm_fetched_bytes_total{source=\"here\"}", 7.0),
            ("swell_swarm_fetched_bytes_total{source=\"patched\"}", 9.0),
            ("swell_swarm_verified_pieces_total", 64.0),
            ("swell_swarm_wrong_pieces_total", 1.0),
            ("swell_swarm_sent_pieces_total", 12.0),
            ("swell_swarm_sent_bytes_total", 1_200.0),
            ("swell_swarm_fetches", 2.0),
            ("swell_swarm_peers", 11.0),
            ("swell_swarm_uploads{state=\"waiting\"}", 30.0),
            ("swell_swarm_uploads{state=\"running\"}", 8.0),
            ("swell_gossip_members{state=\"alive\"}", 5.0),
            ("swell_gossip_members{state=\"silent\"}", 2.0),
            ("swell_gossip_messages_total", 10.0),
            ("swell_service_state{service=\"s2\",state=\"staged\"}", 1.0),
            ("swell_service_state{service=\"s2\"}", 1.0),
            ("swell_service_state", 3.0),
            ("process_cpu_seconds_total", 12.034),
            ("process_resident_memory_bytes", 20_971_520.0),
            ("process_start_time_seconds", 1_000.0),
        ] {
            assert_eq!(
                sum(&page, &Selector::parse(selector).unwrap()),
                Some(expected),
                "{selector}"
            );
        }
    }

    /// What a reader needs to know of a sample stands before it, once.
    #[test]
    fn each_name_has_its_type_and_the_page_is_bounded() {
        let page = facts(SLOTS).text();
        let mut known = std::collections::BTreeSet::new();
        for line in page.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(known.insert(name.to_owned()), "{name} twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert!(known.contains(name), "{line}");
            }
        }
        assert!(page.len() < 16 << 10, "{} bytes", page.len());
        assert!(page.ends_with('\n'));
    }

    #[test]
    fn this_process_is_measured() {
        let process = Process::this().unwrap();
        assert!(process.resident_bytes > 1 << 20 && process.since_s > 1_600_000_000);
    }
}
