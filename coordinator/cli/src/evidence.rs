//! What hosts have kept of attempts that have ended: for `logs`, and of those that ended badly for
//! `explain --host`. It lies on each host alone, so the hosts themselves are asked.

use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use proto::evidence::Evidence;
use proto::id::{Digest, HostId, Name, Service};
use proto::receipt::State;
use proto::report::{FleetReport, HostReport, RolloutReport};
use serde::Serialize;
use tokio::time::{self, Instant};

use crate::client::{self, ANSWER_TIMEOUT, Client, Member};
use crate::failure::Failure;
use crate::home::Home;
use crate::render::plain;

/// Longest wait for a host to let this side in.
const LET_IN_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for one of its answers, and for all of them.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const ALL_WITHIN: Duration = Duration::from_secs(60);
/// Attempts that a host is asked for: it comes to a few in a rollout, unless it lies.
const ATTEMPTS_MAX: usize = 64;

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
    /// There is none here because that host has none.
    #[serde(skip)]
    pub(crate) nothing_kept: bool,
}

/// Which attempts are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The last one that ended badly.
    LastFailure,
    /// All; of those that did not end badly, no more than how they ended.
    Overview,
    All,
}

/// What all hosts are asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) service: Service,
    pub(crate) rollout: Digest,
    pub(crate) wanted: Wanted,
}

/// A host to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    id: HostId,
    name: Name,
    /// Or why it is not asked.
    member: Result<Member, &'static str>,
}

impl Asked {
    pub(crate) fn of(host: &HostReport) -> Self {
        let member = client::of_host(host).ok_or("it was never heard, so its address is not known");
        Self { id: host.id.clone(), name: host.name.clone(), member }
    }

    /// One of a cohort, as the fleet knows it.
    pub(crate) fn in_fleet(fleet: &FleetReport, id: &HostId, name: &Name) -> Self {
        let known = fleet.hosts.iter().find(|known| known.id == *id);
        let unknown = || Self {
            id: id.clone(),
            name: name.clone(),
            member: Err("it is not a host of the fleet any more"),
        };
        known.map_or_else(unknown, Self::of)
    }

    /// The same, not asked for this reason.
    pub(crate) fn left_out(self, why: &'static str) -> Self {
        Self { member: self.member.and(Err(why)), ..self }
    }
}

/// The hosts of `report` that failed in it, or may have before, and what each has kept of the last
/// failure. Of one that has nothing to tell, and from which nothing is missed, nothing is told.
pub(crate) async fn of_failures(asker: &Asker, report: &RolloutReport) -> Vec<HostEvidence> {
    let fleet = asker.client.fleet(ANSWER_TIMEOUT).await;
    let question = Question {
        service: report.service.clone(),
        rollout: report.id,
        wanted: Wanted::LastFailure,
    };
    let mut all = Vec::new();
    for host in &report.hosts {
        let failed = host.state.is_some_and(State::is_failed);
        if !failed && !host.alive {
            continue;
        }
        let told = match &fleet {
            Ok(fleet) => asker.ask(Asked::in_fleet(fleet, &host.host, &host.name), &question).await,
            Err(error) => {
                let (id, name) = (host.host.clone(), host.name.clone());
                vec![unknown(id, name, &question, error.to_string())]
            }
        };
        all.extend(told.into_iter().filter(|one| failed || one.evidence.is_some()));
    }
    all
}

/// Who asks. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Asker {
    home: Arc<Home>,
    client: Client,
    key: SigningKey,
}

impl Asker {
    pub(crate) fn new(home: &Arc<Home>, client: &Client, key: &SigningKey) -> Self {
        Self { home: home.clone(), client: client.clone(), key: key.clone() }
    }

    /// What a host has kept, oldest first; where something is missing, or there is nothing, that comes
    /// last.
    pub(crate) async fn ask(&self, host: Asked, question: &Question) -> Vec<HostEvidence> {
        let Asked { id, name, member } = host;
        let (address, read) = match member {
            Ok(member) => (Some(member.address.to_string()), self.read(member, question).await),
            Err(why) => (None, Read { why: Some(why.to_owned()), ..Read::default() }),
        };
        let none = HostEvidence { address, ..unknown(id, name, question, String::new()) };
        let of = |(evidence, path)| HostEvidence { evidence: Some(evidence), path, ..none.clone() };
        let mut all: Vec<_> = read.kept.into_iter().rev().map(of).collect();
        let path = read.path.unwrap_or_else(|| none.path.clone());
        match read.why {
            Some(why) => all.push(HostEvidence { why, path, ..none }),
            None if all.is_empty() => {
                let why = "it has kept nothing of that".to_owned();
                all.push(HostEvidence { why, path, nothing_kept: true, ..none });
            }
            None => {}
        }
        all
    }

    async fn read(&self, member: Member, question: &Question) -> Read {
        // Who answers already is not dialled once more: it may be reached by no other address.
        if self.client.member.address == member.address {
            return Read::of(&self.client, question).await;
        }
        let dialled = Client::connect(&self.home, &self.key, member);
        let why = match time::timeout(LET_IN_WITHIN, dialled).await {
            Ok(Ok(direct)) => {
                let read = Read::of(&direct, question).await;
                direct.close().await;
                return read;
            }
            Ok(Err(error)) => Failure::from(error).in_parts().0,
            Err(_) => format!("it does not answer within {} s", LET_IN_WITHIN.as_secs()),
        };
        Read { why: Some(why), ..Read::default() }
    }
}

/// What was read of one host.
#[derive(Default)]
struct Read {
    /// The newest first, each with where it lies.
    kept: Vec<(Evidence, String)>,
    /// Where the rest lies, or would.
    path: Option<String>,
    /// Why there may be more.
    why: Option<String>,
}

impl Read {
    /// Asks for one attempt after the other, from the newest down.
    async fn of(client: &Client, question: &Question) -> Self {
        let Question { service, rollout, wanted } = question;
        let (mut read, mut before) = (Self::default(), None);
        let end = Instant::now() + ALL_WITHIN;
        for _ in 0..ATTEMPTS_MAX {
            let within = ANSWER_WITHIN.min(end.saturating_duration_since(Instant::now()));
            let asked = client.evidence(service.clone(), *rollout, before, within).await;
            let (evidence, path) = match asked {
                Ok((evidence, path)) => (evidence.map(Evidence::bounded), plain(&path)),
                Err(error) => {
                    read.why = Some(Failure::from(error).in_parts().0);
                    break;
                }
            };
            let Some(mut evidence) = evidence else {
                read.path = Some(path);
                break;
            };
            // An agent that does not know `before` tells of the last one again.
            if before.is_some_and(|before| evidence.attempt >= before) {
                break;
            }
            before = Some(evidence.attempt);
            let badly = evidence.ended_badly();
            if *wanted == Wanted::Overview && !badly {
                evidence = brief(evidence);
            }
            if *wanted != Wanted::LastFailure || badly {
                read.kept.push((evidence, path));
            }
            if *wanted == Wanted::LastFailure && badly {
                break;
            }
        }
        read
    }
}

/// How it ended alone: of two thousand hosts the rest would fill a memory.
fn brief(evidence: Evidence) -> Evidence {
    let (log, journal) = (String::new(), String::new());
    Evidence { samples: Vec::new(), log, journal, ..evidence }
}

/// None is here; where to look.
fn unknown(host: HostId, name: Name, question: &Question, why: String) -> HostEvidence {
    HostEvidence {
        host,
        name,
        address: None,
        path: format!("/var/lib/groundswell/evidence/{}", question.service),
        evidence: None,
        why,
        nothing_kept: false,
    }
}
