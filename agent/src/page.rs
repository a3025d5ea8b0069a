//! The agent's own page of metrics, in Prometheus text (0.0.4): made of what the parts count anyway.
//!
//! Only where `agent.toml` says `metrics`, and on loopback alone: whoever scrapes a host runs there, and
//! nothing else of an agent is open to those who are not of the fleet. No label has more values than this
//! host has services, [`SLOTS`] at most, or than stand in this file.

use member::Membership;
use member::metrics::{Common, Text};
use net::certificate;
use proto::receipt::{SignedReceipt, State};
use proto::record::{SLOTS, receipt_key};
use proto::{HostId, PublicKey, Service};

use crate::home::Home;
use crate::witness::Witness;

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
    pub(crate) home: Home,
    /// This host's own.
    pub(crate) key: PublicKey,
    pub(crate) witness: Witness,
}

impl Page {
    /// As things stand now. Blocks on `/proc` and a small file for a moment.
    pub(crate) fn text(&self) -> String {
        let Self { member, home, key, witness } = self;
        let members = member.gossip.members().borrow().clone();
        let me = HostId::of(key);
        let own = members.iter().find(|one| one.host == me);
        let receipts = (0..SLOTS).filter_map(|slot| own?.values.get(&receipt_key(slot)));
        let chain = member.ledger.chain();
        let service = |text: &String| {
            let receipt = SignedReceipt::from_text(text).ok()?.verify(key).ok()?;
            Some((chain.rollout(&receipt.rollout)?.service.clone(), receipt.state))
        };
        let certificate = home.certificate().ok();
        let facts = certificate.and_then(|der| certificate::facts(&der).ok());
        Facts {
            common: Common::of(member),
            certificate_expires_s: facts.map(|facts| facts.not_after.0),
            services: receipts.filter_map(service).collect(),
            audit_records: witness.memory().records.len(),
        }
        .text()
    }
}

/// What is told.
#[derive(Default)]
struct Facts {
    common: Common,
    /// Since 1970, in seconds; none: the file does not read.
    certificate_expires_s: Option<u64>,
    services: Vec<(Service, State)>,
    /// Records of the coordinator that were followed, one after the other.
    audit_records: usize,
}

impl Facts {
    fn text(&self) -> String {
        let mut page = Text::default();
        self.common.tell(&mut page, env!("CARGO_PKG_VERSION"));
        if let Some(expires_s) = self.certificate_expires_s {
            let name = "swell_certificate_expiry_timestamp_seconds";
            page.gauge(name, "When this host's certificate ends, since 1970.");
            page.say(name, &[], expires_s);
        }
        self.services(&mut page);
        let name = "swell_audit_records";
        page.gauge(
            name,
            "Audit records this host has followed: one more with each that was begun anew.",
        );
        page.say(name, &[], self.audit_records);
        page.into_page()
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

#[cfg(test)]
mod tests {
    use member::metrics::Process;
    use net::gossip::GossipCounts;
    use proto::selector::Selector;
    use swarm::{FetchCounts, ProvideCounts};

    use super::*;
    use crate::health::metrics::exposition::sum;

    fn facts(services: usize) -> Facts {
        let service = |index| (format!("s{index}").parse().unwrap(), STATES[index % 8]);
        Facts {
            common: Common {
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
                root_expires_s: 1_900_000_000,
                process: Some(Process { cpu_ms: 12_034, resident_bytes: 20 << 20, since_s: 1_000 }),
            },
            certificate_expires_s: Some(1_800_000_000),
            services: (0..services).map(service).collect(),
            audit_records: 2,
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
            ("swell_audit_records", 2.0),
            ("swell_root_expiry_timestamp_seconds", 1_900_000_000.0),
            ("swell_certificate_expiry_timestamp_seconds", 1_800_000_000.0),
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
}
