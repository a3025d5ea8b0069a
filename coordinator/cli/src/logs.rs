//! `logs`: all that hosts have kept of their attempts in a rollout.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use proto::report::{FleetReport, RolloutReport};

use crate::args::LogsArgs;
use crate::client::{ANSWER_TIMEOUT, Client};
use crate::each::each;
use crate::evidence::{Asked, Asker, HostEvidence, Question, Wanted};
use crate::failure::{Exit, Failure};
use crate::home::Home;
use crate::{host, output, render};

/// Hosts that are asked at a time: each may have much to tell.
const ASKED_AT_ONCE_MAX: usize = 8;

/// # Errors
///
/// There is no such rollout, or no such host.
pub(crate) async fn run(
    home: &Arc<Home>,
    client: &Client,
    key: &SigningKey,
    args: LogsArgs,
) -> Result<Exit, Failure> {
    let report = client.rollout(args.rollout.query()).await?;
    let fleet = client.fleet(ANSWER_TIMEOUT).await?;
    home.remember_hosts(&fleet);
    let (hosts, wanted) = match &args.host {
        // Also one that joined later, and followed the rollout once it was complete.
        Some(called) => {
            let host = host::one_of(&fleet.hosts, called, |host| (&host.id, &host.name))?;
            (vec![Asked::of(host)], Wanted::All)
        }
        None if args.json => (cohort(&fleet, &report), Wanted::All),
        None => (cohort(&fleet, &report), Wanted::Overview),
    };
    let asker = Asker::new(home, client, key);
    let question = Question { service: report.service.clone(), rollout: report.id, wanted };
    let told = each(ASKED_AT_ONCE_MAX, hosts, |host| {
        let (asker, question) = (asker.clone(), question.clone());
        async move { asker.ask(host, &question).await }
    });
    let all = told.await.concat();
    output::print(args.json, &all, || render::evidence::logs(&report, &all, wanted));
    Ok(exit(&all))
}

/// The hosts of the cohort. One that is not heard is named, and not waited for.
fn cohort(fleet: &FleetReport, report: &RolloutReport) -> Vec<Asked> {
    let asked = report.hosts.iter().map(|host| {
        let asked = Asked::in_fleet(fleet, &host.host, &host.name);
        match host.alive {
            true => asked,
            false => asked.left_out("it is not heard, so it was not asked"),
        }
    });
    asked.collect()
}

/// A script that goes on reads what is there, or knows that there is nothing.
fn exit(all: &[HostEvidence]) -> Exit {
    let is_shown = all.iter().any(|one| one.evidence.is_some());
    let is_missing = all.iter().any(|one| one.evidence.is_none() && !one.nothing_kept);
    if is_missing && !is_shown { Exit::Error } else { Exit::Done }
}
