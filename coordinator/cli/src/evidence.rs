//! `explain --host`: what a host has kept of an attempt that ended badly. It lies on that host alone, so
//! the host itself is asked.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use proto::evidence::Evidence;
use proto::id::{Digest, HostId, Name, Service};
use proto::receipt::State;
use proto::report::{FleetReport, RolloutReport, StandingReport};
use serde::Serialize;
use tokio::time;

use crate::client::{self, ANSWER_TIMEOUT, Client};
use crate::failure::Failure;
use crate::home::Home;
use crate::render::plain;

/// Longest wait for a host to let this side in.
const LET_IN_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// What a host was asked for, and what it gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct HostEvidence {
    pub(crate) host: HostId,
    pub(crate) name: Name,
    pub(crate) address: Option<String>,
    /// Where it lies on that host.
    pub(crate) path: String,
    /// None: `why`.
    pub(crate) evidence: Option<Evidence>,
    /// Why there is none here; empty: there is.
    pub(crate) why: String,
}

/// Asks the hosts of `report` that failed in it, or may have before. Of one that has nothing to tell,
/// and from which nothing is missed, nothing is told.
pub(crate) async fn of_hosts(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    report: &RolloutReport,
) -> Vec<HostEvidence> {
    let fleet = client.fleet(ANSWER_TIMEOUT).await;
    let mut all = Vec::new();
    for host in &report.hosts {
        let failed = host.state.is_some_and(State::is_failed);
        if !failed && !host.alive {
            continue;
        }
        let asker = Asker { home, client, key };
        let one = match &fleet {
            Ok(fleet) => asker.ask(fleet, report, host).await,
            Err(error) => unknown(host, &report.service, error.to_string()),
        };
        if failed || one.evidence.is_some() {
            all.push(one);
        }
    }
    all
}

struct Asker<'a> {
    home: &'a Home,
    client: &'a Client,
    key: &'a SigningKey,
}

impl Asker<'_> {
    async fn ask(
        &self,
        fleet: &FleetReport,
        report: &RolloutReport,
        host: &StandingReport,
    ) -> HostEvidence {
        let service = &report.service;
        let known = fleet.hosts.iter().find(|known| known.id == host.host);
        let Some(member) = known.and_then(client::of_host) else {
            let why = "it was never heard, so its address is not known".to_owned();
            return unknown(host, service, why);
        };
        let address = Some(member.address.to_string());
        // Who answers already is not dialled once more: it may be reached by no other address.
        let answer = if self.client.member.address == member.address {
            answer(self.client, service, report.id).await
        } else {
            match time::timeout(LET_IN_WITHIN, Client::connect(self.home, self.key, member)).await {
                Ok(Ok(direct)) => {
                    let answer = answer(&direct, service, report.id).await;
                    direct.close().await;
                    answer
                }
                Ok(Err(error)) => Err(Failure::from(error).in_parts().0),
                Err(_) => Err(format!("it does not answer within {} s", LET_IN_WITHIN.as_secs())),
            }
        };
        let nowhere =
            |why| HostEvidence { address: address.clone(), ..unknown(host, service, why) };
        match answer {
            Ok((evidence, path)) => {
                let (path, evidence) = (plain(&path), evidence.map(Evidence::bounded));
                let why = match evidence {
                    Some(_) => String::new(),
                    None => "it has kept nothing of this rollout".to_owned(),
                };
                HostEvidence { path, evidence, ..nowhere(why) }
            }
            Err(why) => nowhere(why),
        }
    }
}

async fn answer(
    client: &Client,
    service: &Service,
    rollout: Digest,
) -> Result<(Option<Evidence>, String), String> {
    let asked = client.evidence(service.clone(), rollout, ANSWER_WITHIN).await;
    asked.map_err(|error| Failure::from(error).in_parts().0)
}

/// None is here; where to look.
fn unknown(host: &StandingReport, service: &Service, why: String) -> HostEvidence {
    HostEvidence {
        host: host.host.clone(),
        name: host.name.clone(),
        address: None,
        path: format!("/var/lib/groundswell/evidence/{service}"),
        evidence: None,
        why,
    }
}
