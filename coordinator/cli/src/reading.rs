//! The commands that only look: `status`, `hosts`, `explain`, `history`.

use proto::id::{Digest, Scope};
use proto::report::{RolloutReport, StandingReport};
use proto::wire::{RefusedKind, RolloutQuery};

use crate::args::{ExplainArgs, HistoryArgs, JsonArgs};
use crate::client::{ANSWER_TIMEOUT, Client, ClientError};
use crate::failure::{Advise, Exit, Failure};
use crate::home::Home;
use crate::output;
use crate::render::{fleet, rollout};

/// A host that is not there.
#[derive(Debug, thiserror::Error)]
#[error("there is no host {0:?} in this rollout")]
struct NoSuchHost(String);

impl Advise for NoSuchHost {
    fn next(&self) -> Option<String> {
        Some("leave out --host to see them all".to_owned())
    }
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

pub(crate) async fn explain(client: &Client, args: ExplainArgs) -> Result<Exit, Failure> {
    let mut report = client.rollout(args.rollout.query()).await?;
    if let Some(wanted) = &args.host {
        let is_it =
            |host: &StandingReport| host.host.as_str() == wanted || host.name.as_str() == wanted;
        report.hosts.retain(is_it);
        if report.hosts.is_empty() {
            return Err(NoSuchHost(wanted.clone()).into());
        }
    }
    output::print(args.json, &report, || rollout::explain(&report));
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
