//! The commands that only look: `status`, `hosts`, `explain`, `history`, `releases`, `events`, `dora`.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use proto::id::{Digest, Scope};
use proto::near;
use proto::report::{EventReport, RolloutReport, StandingReport};
use proto::wire::{ControlReply, ControlRequest, EventsQuery, RefusedKind, RolloutQuery};
use serde::Serialize;

use crate::args::{DoraArgs, EventsArgs, ExplainArgs, HistoryArgs, JsonArgs, ReleasesArgs};
use crate::client::{ANSWER_TIMEOUT, Client, ClientError};
use crate::evidence::{self, Asker, HostEvidence};
use crate::failure::{Advise, Exit, Failure};
use crate::home::Home;
use crate::output;
use crate::render::{self, fleet, rollout};

/// A host that is not in the cohort, and which of it may be meant.
#[derive(Debug, thiserror::Error)]
#[error("there is no host {called:?} in the cohort of this rollout")]
struct NoSuchHost {
    called: String,
    advice: String,
}

impl Advise for NoSuchHost {
    fn exit(&self) -> Exit {
        Exit::Usage
    }

    fn next(&self) -> Option<String> {
        let rest = "leave out --host to see them all; one that joined or came back later follows once the \
                    rollout is complete, and swell hosts shows how it is";
        Some(format!("{}; {rest}", self.advice))
    }
}

/// It gave more than it was asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot tell these events from others: the coordinator is older than this swell and does not know all \
     that was asked for"
)]
struct OlderCoordinator;

impl Advise for OlderCoordinator {
    fn next(&self) -> Option<String> {
        Some("upgrade the coordinator, or leave out --rollout, --host, --kind, --since".to_owned())
    }
}

/// `swell explain --json`.
#[derive(Debug, Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    report: &'a RolloutReport,
    /// With `--host`, of hosts that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidence: Vec<HostEvidence>,
}

/// # Errors
///
/// That nobody answers, as of all below.
pub(crate) async fn status(home: &Home, client: &Client, args: JsonArgs) -> Result<Exit, Failure> {
    let report = client.fleet(ANSWER_TIMEOUT).await?;
    home.remember_hosts(&report);
    output::print(args.json, &report, || fleet::status(&report));
    Ok(Exit::Done)
}

pub(crate) async fn hosts(home: &Home, client: &Client, args: JsonArgs) -> Result<Exit, Failure> {
    let report = client.fleet(ANSWER_TIMEOUT).await?;
    home.remember_hosts(&report);
    output::print(args.json, &report.hosts, || fleet::hosts(&report));
    Ok(Exit::Done)
}

pub(crate) async fn explain(
    home: &Arc<Home>,
    client: &Client,
    key: &SigningKey,
    args: ExplainArgs,
) -> Result<Exit, Failure> {
    let mut report = client.rollout(args.rollout.query()).await?;
    let mut evidence = Vec::new();
    if let Some(wanted) = &args.host {
        let is_it =
            |host: &StandingReport| host.host.as_str() == wanted || host.name.as_str() == wanted;
        if !report.hosts.iter().any(is_it) {
            let names = report.hosts.iter().map(|host| host.name.as_str());
            let advice = near::advice(wanted, names);
            return Err(NoSuchHost { called: wanted.clone(), advice }.into());
        }
        report.hosts.retain(is_it);
        evidence = evidence::of_failures(&Asker::new(home, client, key), &report).await;
    }
    let explained = Explained { report: &report, evidence };
    output::print(args.json, &explained, || {
        let kept = explained.evidence.iter().map(render::evidence::evidence);
        std::iter::once(rollout::explain(&report)).chain(kept).collect()
    });
    Ok(Exit::Done)
}

pub(crate) async fn history(
    home: &Home,
    client: &Client,
    args: HistoryArgs,
) -> Result<Exit, Failure> {
    let envs = match args.env {
        Some(env) => vec![env],
        None => home.root.environments.keys().cloned().collect(),
    };
    let mut past = Vec::new();
    for env in envs {
        let scope = Scope { service: args.service.clone(), env };
        let facts = client.scope(&scope).await?;
        for (rollout, version) in facts.history.into_iter().take(args.limit as usize) {
            let report = report_if_known(client, rollout).await?;
            past.push(fleet::Past { env: scope.env.clone(), rollout, version, report });
        }
    }
    output::print(args.json, &past, || fleet::history(&args.service, &past));
    Ok(Exit::Done)
}

pub(crate) async fn releases(client: &Client, args: ReleasesArgs) -> Result<Exit, Failure> {
    let (what, request) =
        ("ask for the releases", ControlRequest::Releases { service: args.service.clone() });
    let ControlReply::Releases(releases) = client.ask(what, &request).await? else {
        return Err(client.unexpected(what).into());
    };
    let published = |(version, release)| fleet::Published { version, release };
    let releases: Vec<_> = releases.into_iter().map(published).collect();
    output::print(args.json, &releases, || fleet::releases(&args.service, &releases));
    Ok(Exit::Done)
}

pub(crate) async fn events(client: &Client, args: EventsArgs) -> Result<Exit, Failure> {
    let EventsArgs { service, env, rollout, host, kind, since, before, limit, json } = args;
    let what = "ask for events";
    let rollout = rollout.map(|rollout| rollout.query());
    let query = EventsQuery { before, limit, service, env, rollout, host, kind, since };
    let request = ControlRequest::Events(Box::new(query.clone()));
    let ControlReply::Events(mut events) = client.ask(what, &request).await? else {
        return Err(client.unexpected(what).into());
    };
    if events.iter().any(|event| !fits(&query, event)) {
        return Err(OlderCoordinator.into());
    }
    // As they happened, so that the newest stands where the reader is.
    events.reverse();
    output::print(json, &events, || render::events::events(&events, query.is_of_all()));
    Ok(Exit::Done)
}

/// Whether an event is one of those that were asked for, as far as that shows: an older coordinator passes
/// over what it does not know of a question.
fn fits(query: &EventsQuery, event: &EventReport) -> bool {
    let EventsQuery { rollout, host, kind, since, .. } = query;
    kind.as_ref().is_none_or(|kind| *kind == event.kind)
        && since.is_none_or(|since| event.at >= since)
        && (host.is_none() || event.host.is_some())
        && (rollout.is_none() || event.rollout.is_some())
}

pub(crate) async fn dora(client: &Client, args: DoraArgs) -> Result<Exit, Failure> {
    let DoraArgs { service, env, days, json } = args;
    let what = "ask for the measures";
    let request = ControlRequest::Dora { scope: Scope { service, env }, days };
    let ControlReply::Dora(report) = client.ask(what, &request).await? else {
        return Err(client.unexpected(what).into());
    };
    output::print(json, &*report, || render::dora::dora(&report));
    Ok(Exit::Done)
}

/// A rollout, if the member that answers has it.
///
/// # Errors
///
/// There is no answer.
pub(crate) async fn report_if_known(
    client: &Client,
    rollout: Digest,
) -> Result<Option<RolloutReport>, ClientError> {
    match client.rollout(RolloutQuery::Id(format!("{rollout:#}"))).await {
        Ok(report) => Ok(Some(report)),
        Err(ClientError::Refused { refused, .. }) if refused.kind == RefusedKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
