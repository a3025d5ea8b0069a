//! Hosts that could not go back, until they are what they should be again.
//!
//! What counts is their own word: one that catches up once another rollout is complete is in no cohort, and
//! that a rollout is complete says nothing of a host that it did not take in.

use std::collections::{BTreeMap, BTreeSet};

use proto::report::StandingReport;
use proto::statement::UnixTime;
use proto::{Env, HostId, Name, Scope, Service};
use rollout::fleet::Outlook;
use serde::{Deserialize, Serialize};

use super::{Relief, Sight, words};
use crate::events::Event;

/// What was told to be stuck: services of hosts, and since when each is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Stuck(BTreeMap<HostId, BTreeMap<Service, Since>>);

/// In which rollout it got stuck.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept")]
struct Since {
    env: Env,
    epoch: u64,
    /// Nobody waited for it there before it got stuck.
    skipped: bool,
}

/// As it was kept.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kept {
    /// By a version before: the newest word counts, whatever it is of.
    Env(Env),
    Since {
        env: Env,
        epoch: u64,
        skipped: bool,
    },
}

impl From<Kept> for Since {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Env(env) => Self { env, epoch: 0, skipped: false },
            Kept::Since { env, epoch, skipped } => Self { env, epoch, skipped },
        }
    }
}

impl Since {
    fn relief(&self, host: &HostId, scope: &Scope, outlook: &Outlook<'_>) -> Option<Relief> {
        if outlook.is_well(host, scope, self.epoch) {
            return Some(Relief::Well);
        }
        // Who was skipped before says nothing about what came later.
        let skipped = outlook.skipped_in(host, scope)?;
        (!self.skipped || skipped > self.epoch).then_some(Relief::Skipped)
    }
}

impl Stuck {
    pub(super) fn insert(&mut self, (scope, epoch): (Scope, u64), host: &StandingReport) {
        let Scope { service, env } = scope;
        let since = Since { env, epoch, skipped: host.skipped };
        self.0.entry(host.host.clone()).or_default().insert(service, since);
    }

    /// Those that nobody is called for any more.
    pub(super) fn relieved(&self, outlook: &Outlook<'_>) -> BTreeMap<(HostId, Scope), Relief> {
        let all = self.0.iter().flat_map(|(host, services)| {
            services.iter().map(move |(service, since)| (host, service, since))
        });
        let relieved = all.filter_map(|(host, service, since)| {
            let scope = scope(service, &since.env);
            let relief = since.relief(host, &scope, outlook)?;
            Some(((host.clone(), scope), relief))
        });
        relieved.collect()
    }

    /// Forgets those that are relieved, and those that were removed; tells where none is left. `knows`: who is
    /// there had the time to be heard, before which what is heard of a host may be old.
    pub(super) fn follow(
        &mut self,
        sight: &Sight,
        (now, knows): (UnixTime, bool),
        events: &mut Vec<Event>,
    ) {
        let mut left = BTreeMap::new();
        for ((host, scope), relief) in sight.relieved.iter().filter(|_| knows) {
            let services = self.0.get_mut(host);
            if services.is_some_and(|services| services.remove(&scope.service).is_some()) {
                left.insert(scope.clone(), (host.clone(), Some(*relief)));
            }
        }
        for host in sight.hosts.iter().filter(|host| host.removed) {
            let services = self.0.remove(&host.id).unwrap_or_default();
            let scopes = services.iter().map(|(service, since)| scope(service, &since.env));
            left.extend(scopes.map(|scope| (scope, (host.id.clone(), None))));
        }
        self.0.retain(|_, services| !services.is_empty());
        let still: BTreeSet<_> = self.scopes().collect();
        let named = |id: &HostId| sight.hosts.iter().find(|host| host.id == *id);
        let mended = left.iter().filter(|(scope, _)| !still.contains(scope));
        events.extend(mended.map(|(scope, (id, relief))| {
            let name = named(id).map_or_else(|| name_of(id), |host| host.name.clone());
            words::mended(scope, (id, &name), *relief, now)
        }));
    }

    fn scopes(&self) -> impl Iterator<Item = Scope> {
        let services = self.0.values().flatten();
        services.map(|(service, since)| scope(service, &since.env))
    }
}

fn scope(service: &Service, env: &Env) -> Scope {
    Scope { service: service.clone(), env: env.clone() }
}

/// Of a host that is not known any more.
fn name_of(id: &HostId) -> Name {
    id.as_str().parse().expect("ids of hosts are letters and digits")
}
