//! Hosts that could not go back, until they are what they should be again.
//!
//! That another rollout is complete says nothing of such a host, unless it took it in.

use std::collections::{BTreeMap, BTreeSet};

use proto::receipt::State;
use proto::report::{RolloutReport, StandingReport};
use proto::statement::UnixTime;
use proto::{Env, HostId, Scope, Service};
use rollout::report::never_started;
use serde::{Deserialize, Serialize};

use super::{Sight, words};
use crate::events::Event;

/// What was told to be stuck: services of hosts, and in which environment each is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Stuck(BTreeMap<HostId, BTreeMap<Service, Env>>);

impl Stuck {
    pub(super) fn insert(&mut self, report: &RolloutReport, host: &HostId) {
        let services = self.0.entry(host.clone()).or_default();
        services.insert(report.service.clone(), report.env.clone());
    }

    /// Forgets those that the newest rollout there took in, and those that were removed; tells where none is
    /// left.
    pub(super) fn follow(&mut self, sight: &Sight, now: UnixTime, events: &mut Vec<Event>) {
        let mut left = BTreeMap::new();
        for seen in sight.rollouts.iter().filter(|seen| seen.newest) {
            let RolloutReport { service, env, hosts, .. } = &seen.report;
            for host in hosts.iter().filter(|host| is_mended(host)) {
                let stuck = self.0.get_mut(&host.host);
                let Some(services) = stuck.filter(|all| all.get(service) == Some(env)) else {
                    continue;
                };
                services.remove(service);
                left.insert(scope(service, env), host.host.clone());
            }
        }
        for host in sight.hosts.iter().filter(|host| host.removed) {
            let services = self.0.remove(&host.id).unwrap_or_default();
            let scopes = services.iter().map(|(service, env)| scope(service, env));
            left.extend(scopes.map(|scope| (scope, host.id.clone())));
        }
        self.0.retain(|_, services| !services.is_empty());
        let still: BTreeSet<_> = self.scopes().collect();
        let mended = left.iter().filter(|(scope, _)| !still.contains(scope));
        events.extend(mended.map(|(scope, last)| words::mended(scope, last, now)));
    }

    fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.0.values().flatten().map(|(service, env)| scope(service, env))
    }
}

fn scope(service: &Service, env: &Env) -> Scope {
    Scope { service: service.clone(), env: env.clone() }
}

/// Whether it has what its rollout was to bring, or what was there before.
fn is_mended(host: &StandingReport) -> bool {
    matches!(host.state, Some(State::Committed | State::Reverted)) && !never_started(host)
}
