//! `retry`: a version that was stopped, once more (R17).
//!
//! Hosts remember what was halted or aborted and start it in no other rollout than one that says it is
//! a retry. So `deploy` refuses such a version here already, before anybody waits for it. Once a retry
//! of it was complete, the stop is judged, and `deploy` signs another retry by itself.

use std::collections::BTreeSet;

use ed25519_dalek::SigningKey;
use proto::id::{Digest, HostId, Name, Scope, Version};
use proto::report::{RolloutPhase, RolloutReport};
use proto::statement::{Direction, Rollout, Target};
use proto::trust::Chain;
use rollout::plan::Candidate;

use crate::args::RetryArgs;
use crate::client::Client;
use crate::failure::{Advise, Exit, Failure};
use crate::home::Home;
use crate::host;
use crate::knowledge::{Facts, Knowledge};
use crate::planning::{self, Planned};
use crate::reading;
use crate::render::fleet::phase;
use crate::sign::{self, Found, SignError};
use crate::windows;

/// Why nothing is tried again, or only so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RetryError {
    #[error(
        "{scope}: {version} was stopped before, by the end of rollout {rollout}: hosts would not start it"
    )]
    Stopped { rollout: Digest, scope: Scope, version: Version },
    #[error("rollout {rollout} is {}: only one that was halted or aborted is tried again", phase(*is))]
    NotStopped { rollout: Digest, is: RolloutPhase },
    #[error("rollout {rollout} is a rollback")]
    Rollback { rollout: Digest, scope: Scope, version: Version },
}

impl Advise for RetryError {
    fn next(&self) -> Option<String> {
        Some(match self {
            Self::Stopped { rollout, .. } => format!(
                "publish a mended one under a new version; or, if the fault was elsewhere: swell \
                 retry {rollout}"
            ),
            Self::NotStopped { rollout, .. } => format!("swell explain {rollout}"),
            Self::Rollback { scope: Scope { service, env }, version, .. } => {
                format!("swell rollback {service} --env {env} --to {version} --reason TEXT")
            }
        })
    }
}

/// Refuses what hosts would not start: a release that was stopped in this scope. One that a retry
/// brought to its end all the same is planned as a retry, for hosts remember the stop.
///
/// # Errors
///
/// [`RetryError::Stopped`], with the rollout to retry; or there is no answer about that retry.
pub(crate) async fn pass_or_refuse(
    client: &Client,
    knowledge: &Knowledge<'_>,
    facts: &Facts,
    planned: &mut Planned,
) -> Result<(), Failure> {
    let Some(rollout) = stopped(facts, &planned.rollout) else { return Ok(()) };
    let (scope, Target { release, version }) =
        (planned.rollout.scope(), planned.rollout.to.clone());
    if let Some(retry) = newest_retry(&knowledge.chain, &scope, &release)
        && let Some(report) = reading::report_if_known(client, retry).await?
        && report.id == retry
        && report.phase == RolloutPhase::Complete
    {
        planned.rollout.retry = true;
        planned.notes.push(format!(
            "it was stopped by the end of rollout {rollout}, and {retry}, a retry, was complete: \
             signed as another one, for hosts remember the stop"
        ));
        return Ok(());
    }
    Err(RetryError::Stopped { rollout, scope, version }.into())
}

/// The newest rollout to the release that is planned which was stopped.
fn stopped(facts: &Facts, planned: &Rollout) -> Option<Digest> {
    let same = |(_, release): &&(Digest, Digest)| *release == planned.to.release;
    let proven = facts.stopped.iter().find(same).map(|(rollout, _)| *rollout);
    proven.or_else(|| stopped_just_now(facts, planned))
}

/// The newest rollout, if it brought the same and hosts take it back already: the proof of that follows.
fn stopped_just_now(facts: &Facts, planned: &Rollout) -> Option<Digest> {
    let (id, newest) = planning::stopped(facts)?;
    let forward = newest.direction == Direction::Forward;
    (forward && newest.to.release == planned.to.release).then_some(*id)
}

/// The newest rollout to a release, if it was signed as a retry. Whether it was complete is told by
/// members; that somebody wanted it after the stop is signed.
fn newest_retry(chain: &Chain, scope: &Scope, release: &Digest) -> Option<Digest> {
    let to_it = |(_, rollout): &(Digest, &Rollout)| rollout.to.release == *release;
    let newest = chain.history(scope).into_iter().find(to_it);
    newest.filter(|(_, rollout)| rollout.retry).map(|(id, _)| id)
}

/// # Errors
///
/// Whatever keeps it from being planned or signed.
pub(crate) async fn run(
    home: &Home,
    client: &mut Client,
    key: &SigningKey,
    args: RetryArgs,
) -> Result<Exit, Failure> {
    let RetryArgs { rollout, without, config, reason, sign: how } = args;
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let Found { report, rollout, .. } = sign::find(client, &mut knowledge, &rollout).await?;
    refuse_others(&report, &rollout)?;
    let (service, env) = (&rollout.service, &rollout.env);
    let written = sign::read(&config, service, env)?;
    let mut facts = sign::scope(client, &mut knowledge, service, env).await?;
    if let Some((newest, _)) = planning::going_on(&facts) {
        let (newest, scope) = (*newest, rollout.scope());
        return Err(SignError::NotNewest { rollout: report.id, scope, newest }.into());
    }
    let left_out = leave_out(&mut facts, &without)?;
    let id = rollout.to.release;
    let release = knowledge.chain.release(&id).cloned();
    let release = release.ok_or(SignError::NoRelease { id: report.id })?;
    let intent = sign::intent(home, env, key, &reason);
    // What was to be adopted still runs: to deploy it would stop it.
    let plan = if rollout.adopt { planning::adopt } else { planning::forward };
    let mut planned = plan(&intent, &facts, &(id, release.clone()), &written.deploy)?;
    planned.notes.extend(written.note(&release));
    planned.rollout.retry = true;
    planned.notes.push(format!(
        "a retry of rollout {}, which was {}",
        report.id,
        phase(report.phase)
    ));
    if !left_out.is_empty() {
        let names: Vec<_> = left_out.iter().map(Name::as_str).collect();
        planned.notes.push(format!("left out, as was asked for: {}", names.join(" ")));
    }
    planned.notes.extend(windows::notes(&facts, &planned.rollout));
    let question = format!("sign this and try {} {} in {env} again", service, rollout.to.version);
    sign::sign(home, client, key, &planned, &question, &how).await
}

fn refuse_others(report: &RolloutReport, rollout: &Rollout) -> Result<(), RetryError> {
    let id = report.id;
    match report.phase {
        RolloutPhase::Halted | RolloutPhase::Aborted => {}
        is => return Err(RetryError::NotStopped { rollout: id, is }),
    }
    match rollout.direction {
        Direction::Forward => Ok(()),
        Direction::Rollback => Err(RetryError::Rollback {
            rollout: id,
            scope: rollout.scope(),
            version: rollout.to.version.clone(),
        }),
    }
}

/// Takes hosts out of what is planned with; their names.
fn leave_out(facts: &mut Facts, without: &[String]) -> Result<BTreeSet<Name>, host::HostError> {
    let mut out: BTreeSet<HostId> = BTreeSet::new();
    let mut names = BTreeSet::new();
    for called in without {
        let Candidate { host, .. } = host::one_of(&facts.hosts, called, |candidate| {
            (&candidate.host.id, &candidate.host.name)
        })?;
        out.insert(host.id.clone());
        names.insert(host.name.clone());
    }
    facts.hosts.retain(|candidate| !out.contains(&candidate.host.id));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn stopped_facts() -> Facts {
        let facts = sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Halted);
        let (_, newest) = facts.head.clone().unwrap();
        let first = (Digest::of(b"newest"), newest.to.release);
        let second = (Digest::of(b"older"), newest.to.release);
        Facts { stopped: vec![first, second], ..facts }
    }

    #[test]
    fn r17_the_newest_stop_of_the_release_is_named() {
        let facts = stopped_facts();
        let (_, mut rollout) = facts.head.clone().unwrap();
        assert_eq!(stopped(&facts, &rollout), Some(Digest::of(b"newest")));
        rollout.to.release = sample::release("1.3.0").0;
        assert_eq!(stopped(&facts, &rollout), None);
    }

    /// Between the first host that goes back and the proof that all do there is a moment.
    #[test]
    fn r17_what_is_taken_back_right_now_counts_as_stopped_before_that_is_proven() {
        use RolloutPhase as P;
        for (phase, counts) in [(P::Halted, true), (P::Aborted, true), (P::Running, false)] {
            let facts = sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, phase);
            let (id, mut rollout) = facts.head.clone().unwrap();
            assert!(facts.stopped.is_empty());
            assert_eq!(stopped(&facts, &rollout), counts.then_some(id), "{phase:?}");
            rollout.to.release = sample::release("1.3.0").0;
            assert_eq!(stopped(&facts, &rollout), None, "{phase:?}");
        }
        let facts = sample::facts(Some("1.1.0"), "1.2.0", Direction::Rollback, P::Aborted);
        assert_eq!(stopped(&facts, &facts.head.clone().unwrap().1), None, "a rollback");
    }

    #[test]
    fn only_what_was_stopped_and_brings_something_is_tried_again() {
        use RolloutPhase as P;
        let (_, rollout) = stopped_facts().head.unwrap();
        for phase in [P::Halted, P::Aborted] {
            let report = sample::rollout(phase, Vec::new());
            assert!(refuse_others(&report, &rollout).is_ok(), "{phase:?}");
        }
        for phase in [P::Pending, P::Running, P::Paused, P::Complete, P::Superseded, P::Expired] {
            let error = refuse_others(&sample::rollout(phase, Vec::new()), &rollout).unwrap_err();
            assert!(matches!(error, RetryError::NotStopped { .. }), "{phase:?}");
        }
        let rollback = Rollout { direction: Direction::Rollback, ..rollout };
        let report = sample::rollout(P::Halted, Vec::new());
        let error = refuse_others(&report, &rollback).unwrap_err();
        let next = "swell rollback web --env production --to 1.2.0 --reason TEXT";
        assert_eq!(error.next().as_deref(), Some(next));
    }

    #[test]
    fn hosts_are_left_out_by_name_or_id() {
        let mut facts = stopped_facts();
        let id = facts.hosts[2].host.id.to_string();
        let names = leave_out(&mut facts, &["n1".to_owned(), id, "n1".to_owned()]).unwrap();
        let names: Vec<_> = names.iter().map(Name::as_str).collect();
        assert_eq!(names, ["n1", "n3"]);
        assert_eq!(facts.hosts.len(), 5);
        assert!(leave_out(&mut facts, &["n1".to_owned()]).is_err(), "it is not there any more");
    }
}
