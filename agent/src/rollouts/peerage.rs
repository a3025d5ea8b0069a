//! The other members, as far as they measure this host: fed to the core of every scope (R7, R8).

use net::Member;
use proto::record::HOST;
use proto::statement::Host;
use proto::trust::Chain;
use proto::{Digest, HostId};
use rollout::Now;
use rollout::host::Peers;
use rollout::peers::{Others, Records};

/// How often what the others say is told to the core where nothing changes.
const SAY_EVERY_MS: u64 = 60_000;

/// Who the others are, what they say, and what was told of it last.
pub(super) struct Peerage {
    me: HostId,
    others: Others,
    records: Records,
    said: Option<(Peers, u64)>,
}

impl Peerage {
    pub(super) fn new(me: HostId) -> Self {
        Self { me, others: Others::default(), records: Records::default(), said: None }
    }

    /// Takes in who belongs to the fleet.
    pub(super) fn meet(&mut self, chain: &Chain, hosts: &[Host]) {
        self.others = Others::of(&self.me, chain, hosts);
    }

    /// There is somebody new to be told.
    pub(super) fn say_again(&mut self) {
        self.said = None;
    }

    /// What to tell the cores now; none: they know.
    pub(super) fn judge(&mut self, now: Now, heads: Digest, members: &[Member]) -> Option<Peers> {
        let live = members.iter().filter(|member| member.alive && member.host != self.me);
        let records = live.filter_map(|member| Some((&member.host, member.values.get(HOST)?)));
        self.records.observe(now, records);
        let peers = self.records.judge(now, heads, &self.others);
        let known = self.said.is_some_and(|(said, at_ms)| {
            said == peers && now.boot_ms.saturating_sub(at_ms) < SAY_EVERY_MS
        });
        if known {
            return None;
        }
        self.said = Some((peers, now.boot_ms));
        Some(peers)
    }
}
