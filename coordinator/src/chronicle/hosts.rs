//! Hosts lost and back, drift, the end of the root.

use std::collections::{BTreeMap, BTreeSet};

use proto::report::DriftReport;
use proto::statement::UnixTime;
use proto::{Digest, HostId, Service};
use rollout::fleet::Presence;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::certificate::CertificateTold;
use super::stuck::Stuck;
use super::waits::Wait;
use super::{HOSTS_EACH_MAX, Look, PRESENCE_LASTS_MS, START_MS, Sight, acts, words};
use crate::events::{Event, Kind};

/// How many days before its end the root is told of, each once; 0: that it has ended.
const ROOT_DAYS: [u64; 4] = [0, 1, 7, 30];
/// How long a service must be as it was released for its next drift to be another one: an agent that was
/// restarted looks again only after a while.
const MENDED_MS: u64 = 900_000;

/// What was told of the fleet. What a version before did not keep is as at the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Fleet {
    /// When the chronicle began.
    pub(super) since: Option<UnixTime>,
    root: RootTold,
    #[serde(default)]
    certificate: CertificateTold,
    /// Hosts that were there once, and of these the ones told to be lost.
    seen: BTreeSet<HostId>,
    lost: BTreeSet<HostId>,
    /// Of the lost ones those of which one event told, under the name of what it opened.
    together: BTreeMap<HostId, String>,
    pub(super) stuck: Stuck,
    /// Freezes and holds of the look before; none: nobody has looked.
    freezes: Option<BTreeSet<Digest>>,
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
        self.drifted.retain(|id, _| there.contains(id));
        let (removed, hosts): (Vec<_>, Vec<_>) = sight.hosts.iter().partition(|host| host.removed);
        self.follow_presence(&hosts, look);
        self.follow_removals(&removed, sight, look);
        self.follow_drift(&hosts, look);
        let since = self.since.unwrap_or(look.now.unix);
        acts::follow_freezes(&mut self.freezes, since, sight, look);
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
        self.lose(&lost, look);
        self.find(Kind::HostBack, &back, look);
    }

    fn follow_removals(&mut self, removed: &[&Presence], sight: &Sight, look: &mut Look<'_>) {
        let known = |host: &&Presence| self.seen.contains(&host.id);
        let removed: Vec<_> = removed.iter().copied().filter(known).collect();
        removed.iter().for_each(|host| _ = self.seen.remove(&host.id));
        let told = look.events.len();
        self.find(Kind::HostRemoved, &removed, look);
        for event in &mut look.events[told..] {
            let said = event.host.as_ref().and_then(|host| sight.removals.get(host));
            if let Some((by, reason)) = said {
                words::by_whom(event, by, reason);
            }
        }
    }

    fn lose(&mut self, hosts: &[&Presence], look: &mut Look<'_>) {
        let (kind, now) = (Kind::HostLost, look.now.unix);
        for hosts in by_env(hosts) {
            if hosts.len() <= HOSTS_EACH_MAX {
                let told = hosts.iter().map(|host| words::present(kind, host, now, json!({})));
                look.events.extend(told);
                continue;
            }
            let incident = format!("hosts/{}-{}", now.0, hosts[0].id);
            let named = hosts.iter().map(|host| (host.id.clone(), incident.clone()));
            self.together.extend(named);
            let detail = json!({ "incident": incident });
            look.events.push(words::many_present(kind, &hosts, now, detail));
        }
    }

    /// Hosts that are back, or that nobody looks for any more: what was opened for them ends.
    fn find(&mut self, kind: Kind, hosts: &[&Presence], look: &mut Look<'_>) {
        let now = look.now.unix;
        for hosts in by_env(hosts) {
            if hosts.len() > HOSTS_EACH_MAX {
                let detail = json!({ "ends": self.end(&hosts) });
                look.events.push(words::many_present(kind, &hosts, now, detail));
                continue;
            }
            for host in hosts {
                let detail = json!({ "ends": self.end(&[host]) });
                look.events.push(words::present(kind, host, now, detail));
            }
        }
    }

    /// What ends with these hosts not being lost any more. What was opened for many ends with the last one.
    fn end(&mut self, hosts: &[&Presence]) -> Vec<String> {
        let mut ends = Vec::new();
        for host in hosts.iter().filter(|host| self.lost.remove(&host.id)) {
            match self.together.remove(&host.id) {
                None => ends.push(format!("host/{}", host.id)),
                Some(name) if self.together.values().any(|other| *other == name) => {}
                Some(name) => ends.push(name),
            }
        }
        ends
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

/// Hosts of one environment after the other's: who is told of one alone is not told of others.
fn by_env<'a>(hosts: &[&'a Presence]) -> Vec<Vec<&'a Presence>> {
    let mut envs = BTreeMap::<_, Vec<_>>::new();
    for host in hosts {
        envs.entry(host.env.as_ref()).or_default().push(*host);
    }
    envs.into_values().collect()
}

fn drift_events(found: &[(&Presence, &Service, &DriftReport)], now: UnixTime) -> Vec<Event> {
    if found.len() <= HOSTS_EACH_MAX {
        return found
            .iter()
            .map(|(host, what, how)| words::drifted(host, what, how, now))
            .collect();
    }
    let mut scopes = BTreeMap::<_, Vec<&Presence>>::new();
    for (host, service, _) in found {
        scopes.entry((*service, host.env.as_ref())).or_default().push(host);
    }
    let told =
        |((service, env), hosts): (_, Vec<_>)| words::many_drifted(service, env, &hosts, now);
    scopes.into_iter().map(told).collect()
}
