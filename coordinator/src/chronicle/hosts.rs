//! Hosts lost and back, drift, the end of the root.

use std::collections::{BTreeMap, BTreeSet};

use proto::report::DriftReport;
use proto::statement::UnixTime;
use proto::{Digest, HostId, Service};
use rollout::fleet::Presence;
use serde::{Deserialize, Serialize};

use super::certificate::CertificateTold;
use super::waits::Wait;
use super::{HOSTS_EACH_MAX, Look, PRESENCE_LASTS_MS, START_MS, Sight, words};
use crate::events::{Event, Kind};

/// How many days before its end the root is told of, each once; 0: that it has ended.
const ROOT_DAYS: [u64; 4] = [0, 1, 7, 30];
/// How long a service must be as it was released for its next drift to be another one: an agent that was
/// restarted looks again only after a while.
const MENDED_MS: u64 = 900_000;

/// What was told of the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fleet {
    /// When the chronicle began.
    pub(super) since: Option<UnixTime>,
    root: RootTold,
    #[serde(default)]
    certificate: CertificateTold,
    /// Hosts that were there once, and of these the ones told to be lost.
    seen: BTreeSet<HostId>,
    lost: BTreeSet<HostId>,
    /// Services told to have drifted, and from which release.
    drifted: BTreeMap<HostId, BTreeMap<Service, Digest>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RootTold {
    version: u32,
    /// The least of [`ROOT_DAYS`] that was told.
    days: Option<u64>,
}

impl Fleet {
    pub(super) fn follow(&mut self, sight: &Sight, look: &mut Look<'_>) {
        let there: BTreeSet<_> =
            sight.hosts.iter().filter(|host| !host.removed).map(|host| &host.id).collect();
        self.seen.retain(|id| there.contains(id));
        self.lost.retain(|id| there.contains(id));
        self.drifted.retain(|id, _| there.contains(id));
        let hosts: Vec<_> = sight.hosts.iter().filter(|host| !host.removed).collect();
        self.follow_presence(&hosts, look);
        self.follow_drift(&hosts, look);
        self.follow_root(sight, look);
        self.certificate.follow(sight.certificate.as_ref(), look);
    }

    fn follow_presence(&mut self, hosts: &[&Presence], look: &mut Look<'_>) {
        let (mut lost, mut back) = (Vec::new(), Vec::new());
        for host in hosts {
            let id = &host.id;
            let was_lost = self.lost.contains(id);
            if host.alive {
                self.seen.insert(id.clone());
                if was_lost && look.waits.lasts(Wait::Back(id.clone()), PRESENCE_LASTS_MS) {
                    self.lost.remove(id);
                    back.push(*host);
                }
            } else if !was_lost
                && self.seen.contains(id)
                && look.waits.lasts(Wait::Silent(id.clone()), PRESENCE_LASTS_MS)
                && look.waits.has_looked_for(START_MS)
            {
                self.lost.insert(id.clone());
                lost.push(*host);
            }
        }
        for (kind, hosts) in [(Kind::HostLost, lost), (Kind::HostBack, back)] {
            look.events.extend(presence_events(kind, &hosts, look.now.unix));
        }
    }

    fn follow_drift(&mut self, hosts: &[&Presence], look: &mut Look<'_>) {
        let mut found = Vec::new();
        for host in hosts {
            for (service, drift) in &host.drift {
                let told = self.drifted.entry(host.id.clone()).or_default();
                if told.insert(service.clone(), drift.release) != Some(drift.release) {
                    found.push((*host, service, drift));
                }
            }
            self.forget_mended(host, look);
        }
        look.events.extend(drift_events(&found, look.now.unix));
    }

    fn forget_mended(&mut self, host: &Presence, look: &mut Look<'_>) {
        let Some(told) = self.drifted.get_mut(&host.id) else { return };
        told.retain(|service, _| {
            let drifts = host.drift.iter().any(|(one, _)| one == service);
            let wait = || Wait::Mended(host.id.clone(), service.clone());
            // What a host that is silent said last says nothing about now.
            drifts || !host.alive || !look.waits.lasts(wait(), MENDED_MS)
        });
        if told.is_empty() {
            self.drifted.remove(&host.id);
        }
    }

    fn follow_root(&mut self, sight: &Sight, look: &mut Look<'_>) {
        if self.root.version != sight.root_version {
            self.root = RootTold { version: sight.root_version, days: None };
        }
        let now = look.now.unix;
        let due =
            ROOT_DAYS.into_iter().find(|days| now.plus_s(days * 86_400) >= sight.root_expires);
        let Some(days) = due.filter(|days| self.root.days.is_none_or(|told| *days < told)) else {
            return;
        };
        self.root.days = Some(days);
        look.events.push(words::root(sight, now));
    }
}

fn presence_events(kind: Kind, hosts: &[&Presence], now: UnixTime) -> Vec<Event> {
    match hosts.len() > HOSTS_EACH_MAX {
        true => vec![words::many_present(kind, hosts, now)],
        false => hosts.iter().map(|host| words::present(kind, host, now)).collect(),
    }
}

fn drift_events(found: &[(&Presence, &Service, &DriftReport)], now: UnixTime) -> Vec<Event> {
    match found.len() > HOSTS_EACH_MAX {
        true => vec![words::many_drifted(found, now)],
        false => {
            found.iter().map(|(host, what, how)| words::drifted(host, what, how, now)).collect()
        }
    }
}
