//! The commands that only look: `status`, `hosts`, `explain`, `history`, `releases`, `events`, `dora`.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use proto::id::{Digest, Scope};
use proto::report::{RolloutReport, StandingReport};
use proto::wire::{ControlReply, ControlRequest, RefusedKind, RolloutQuery};
use serde::Serialize;

use crate::args::{DoraArgs, EventsArgs, ExplainArgs, HistoryArgs, JsonArgs, ReleasesArgs};
use crate::client::{ANSWER_TIMEOUT, Client, ClientError};
use crate::evidence::{self, Asker, HostEvidence};
use crate::failure::{Advise, Exit, Failure};
use crate::home::Home;
use crate::output;
use crate::render::{self, fleet, rollout};

/// A host that is not in the cohort.
#[derive(Debug, thiserror::Error)]
#[error("there is no host {0:?} in the cohort of this rollout")]
struct NoSuchHost(String);

impl Advise for NoSuchHost {
    fn next(&self) -> Option<String> {
        Some(
            "leave out --host to see them all; one that joined or came back later follows once the \
             rollout is complete, and swell hosts shows how it is"
                .to_owned(),
        )
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
        report.hosts.retain(is_it);
        if report.hosts.is_empty() {
            return Err(NoSuchHost(wanted.clone()).into());
        }
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
    let EventsArgs { service, env, before, limit, json } = args;
    let what = "ask for events";
    let request = ControlRequest::Events { before, limit, service, env };
    let ControlReply::Events(mut events) = client.ask(what, &request).await? else {
        return Err(client.unexpected(what).into());
    };
    // As they happened, so that the newest stands where the reader is.
    events.reverse();
    output::print(json, &events, || render::events::events(&events));
    Ok(Exit::Done)
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
