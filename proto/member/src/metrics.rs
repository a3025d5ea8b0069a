//! A member's own page of metrics, in Prometheus text (0.0.4): what both daemons write it with, and what
//! both have to tell.
//!
//! Only where the configuration says `metrics`, and on loopback alone: whoever scrapes a member runs on its
//! machine.

mod process;
mod serve;
mod text;

use net::gossip::GossipCounts;
use swarm::{FetchCounts, ProvideCounts};

use crate::Membership;

pub use process::Process;
pub use serve::serve;
pub use text::Text;

/// What every member tells.
#[derive(Debug, Default)]
pub struct Common {
    /// Members that were heard of, this one included.
    pub alive: usize,
    pub silent: usize,
    pub gossip: GossipCounts,
    pub fetched: FetchCounts,
    pub provided: ProvideCounts,
    /// When the root in force ends, since 1970 in seconds.
    pub root_expires_s: u64,
    /// None: the kernel does not say.
    pub process: Option<Process>,
}

impl Common {
    /// As things stand now. Blocks on `/proc` for a moment.
    pub fn of(member: &Membership) -> Self {
        let members = member.gossip.members().borrow().clone();
        let alive = members.iter().filter(|one| one.alive).count();
        Self {
            alive,
            silent: members.len() - alive,
            gossip: member.gossip.counts(),
            fetched: member.swarm.fetched(),
            provided: member.swarm.provided(),
            root_expires_s: member.ledger.chain().root().expires.0,
            process: Process::this(),
        }
    }

    /// Writes all of it. `version`: of the daemon.
    pub fn tell(&self, page: &mut Text, version: &str) {
        page.gauge("swell_build_info", "Version of the daemon.");
        page.say("swell_build_info", &[("version", version)], 1);
        let name = "swell_root_expiry_timestamp_seconds";
        page.gauge(
            name,
            "When the root in force ends, since 1970: nothing new starts from then on.",
        );
        page.say(name, &[], self.root_expires_s);
        self.swarm(page);
        self.gossip(page);
        if let Some(process) = self.process {
            process.tell(page);
        }
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
}
