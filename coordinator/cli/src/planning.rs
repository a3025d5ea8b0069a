//! From a verified scope to the rollout that would be signed. Pure: `plan` shows it, `deploy` and
//! `rollback` sign the very same value.

use std::collections::BTreeMap;

use proto::id::{Digest, Env, FleetId, HostId, KeyId, Name, Service, Version};
use proto::near;
use proto::receipt::State;
use proto::record::SLOTS;
use proto::report::{Fitness, RolloutPhase, RolloutReport};
use proto::statement::{
    ArtifactRef, CohortHost, Direction, Limits, OnFailure, Policy, RULES, Release, Rollout, Root,
    Share, Target, UnixTime, Window,
};
use proto::trust::{Refusal, check_policy};
use rollout::plan::{self, EXPIRES_S, Note, Plan, PlanError, Strategy, Times};
use serde::Serialize;

use self::settings::Setting;
use crate::failure::{Advise, Exit};
use crate::knowledge::Facts;
use crate::swell_toml::{Deploy, Lines, Thresholds};
use crate::windows;

mod impossible;
pub(crate) mod settings;

/// The share of errors that may lie above the old release's, in millionths, and requests below which
/// a window says nothing, where nothing is written.
const ERRORS_PPM: u32 = 10_000;
const REQUESTS_MIN: u32 = 100;
/// Hosts of one zone that may be stopped at once, where nothing is written.
const MAX_UNAVAILABLE: Share = Share::Percent(25.0);

/// A rollout that nobody has signed yet, and what people want to know about it. Its JSON is what
/// `swell plan --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Planned {
    pub(crate) rollout: Rollout,
    pub(crate) artifact: ArtifactRef,
    /// Names of the cohort's hosts.
    pub(crate) names: BTreeMap<HostId, Name>,
    /// Hosts of the environment that are silent or sick, and so not in the cohort.
    pub(crate) left_out: Vec<Missing>,
    pub(crate) notes: Vec<String>,
    /// What the environment asks for at least.
    pub(crate) policy: Policy,
    /// What is in force, and who says so.
    pub(crate) settings: Vec<Setting>,
    pub(crate) times: Times,
    pub(crate) transfer: Transfer,
    /// The rollout of the scope that this one would take over from while it is still going on.
    pub(crate) replaces: Option<Digest>,
}

/// A host that is not in the cohort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Missing {
    pub(crate) host: HostId,
    pub(crate) name: Name,
    pub(crate) why: Fitness,
}

/// What travels where nothing of the artifact is there yet, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Transfer {
    pub(crate) host_bytes: u64,
    pub(crate) fleet_bytes: u64,
}

impl Planned {
    /// A rollout and what follows from it alone.
    pub(crate) fn of(
        rollout: Rollout,
        artifact: ArtifactRef,
        names: BTreeMap<HostId, Name>,
        policy: Policy,
    ) -> Self {
        let hosts = rollout.cohort.len() as u64;
        Self {
            times: plan::times(&rollout),
            transfer: Transfer {
                host_bytes: artifact.bytes,
                fleet_bytes: artifact.bytes.saturating_mul(hosts),
            },
            settings: settings::signed(&rollout, &policy),
            rollout,
            artifact,
            names,
            policy,
            left_out: Vec::new(),
            notes: Vec::new(),
            replaces: None,
        }
    }
}

/// Why there is no rollout to sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanningError {
    #[error("there is no environment {env} in fleet {fleet}: it has {}", list(known))]
    NoEnv { env: Env, fleet: FleetId, known: Vec<Env> },
    #[error("{service} {version} is the stable release of {env} already")]
    Stable { service: Service, version: Version, env: Env },
    #[error(
        "every host of {env} that can take part serves {service} {version} already: there is nothing to \
         take back"
    )]
    AllThere { service: Service, version: Version, env: Env },
    #[error("{service} {version} is on its way to {env} already, by rollout {rollout}")]
    OnItsWay { service: Service, version: Version, env: Env, rollout: Digest },
    #[error("nothing was ever rolled out of {service} in {env}: there is nothing to go back from")]
    NothingThere { service: Service, env: Env },
    #[error("the rollout {rollout} was the first of {service} in {env}: nothing was there before")]
    First {
        service: Service,
        env: Env,
        rollout: Digest,
        /// It has not ended, so it can be aborted.
        goes_on: bool,
    },
    #[error("the newest rollout {rollout} is itself a rollback, from {from} to {to}")]
    IsRollback { rollout: Digest, from: Version, to: Version },
    #[error(
        "{service} {version} is still on its way to {env}, by rollout {rollout}, and nothing was complete \
         there before it: a version that fails would be removed, with nothing to go back to"
    )]
    OverFirst { service: Service, version: Version, env: Env, rollout: Digest },
    #[error(
        "{env} is still adopting {service} {version}, by rollout {rollout}: until that is complete \
         there is nothing to come from, and nothing to go back to"
    )]
    Adopting { service: Service, version: Version, env: Env, rollout: Digest },
    #[error(
        "{service} was rolled out in {env} before, by rollout {rollout}: only a service of which \
         nothing was deployed there can be adopted"
    )]
    Deployed { service: Service, env: Env, rollout: Digest },
    #[error(
        "{service} {version} was published without anything that tells whether it runs: no run.unit, \
         run.check, health.http or health.command"
    )]
    Blind { service: Service, version: Version },
    #[error("cannot plan {service} {version} in {env}")]
    Plan {
        service: Service,
        version: Version,
        env: Env,
        #[source]
        source: PlanError,
    },
    #[error(
        "cannot bring {service} to {env}: {SLOTS} pairs of a service and an environment have rollouts \
         already, and hosts are told of no more"
    )]
    TooMany { service: Service, env: Env },
    #[error("this can never be carried out:{}", Lines(problems))]
    Impossible { problems: Vec<String> },
    #[error("the plan is looser than the policy of {env}")]
    Policy {
        env: Env,
        #[source]
        source: Refusal,
    },
}

/// `production, staging`
pub(crate) fn list(envs: &[Env]) -> String {
    envs.iter().map(Env::as_str).collect::<Vec<_>>().join(", ")
}

impl Advise for PlanningError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoEnv { .. } => Exit::Usage,
            _ => Exit::Error,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::NoEnv { env, known, .. } => {
                Some(near::advice(env.as_str(), known.iter().map(Env::as_str)))
            }
            Self::Stable { service, version, env } => Some(format!(
                "see swell explain {service}/{env}; to go back to it from a rollout that was stopped: \
                 swell rollback {service} --env {env} --to {version} --reason TEXT"
            )),
            Self::AllThere { service, env, .. } => {
                Some(format!("swell explain {service}/{env} shows how it ended"))
            }
            Self::OnItsWay { rollout, .. } => Some(format!("swell watch {rollout}")),
            Self::First { rollout, goes_on: true, .. } => Some(format!(
                "to stop it and take it away from every host: swell abort {rollout} --reason TEXT"
            )),
            Self::First { .. } => {
                Some("publish a mended one under a new version, and deploy that".to_owned())
            }
            Self::IsRollback { .. } => {
                Some("say where to go: --to VERSION, or deploy that version".to_owned())
            }
            Self::OverFirst { rollout, .. } => Some(format!(
                "swell watch {rollout}, until it is complete; to give it up: swell abort {rollout} \
                 --reason TEXT"
            )),
            Self::Adopting { rollout, .. } => Some(format!(
                "swell watch {rollout}; to give it up, which stops nothing: \
                 swell abort {rollout} --reason TEXT"
            )),
            Self::Deployed { service, env, .. } => {
                Some(format!("swell deploy {service} VERSION --env {env}"))
            }
            Self::Blind { .. } => {
                Some("add health.http to swell.toml and publish it under a new version".to_owned())
            }
            Self::Plan { source: PlanError::Empty { .. }, env, .. } => Some(format!(
                "let hosts in: swell token create --label env={env}; swell hosts shows who is heard"
            )),
            Self::TooMany { .. } => {
                Some("make another fleet for it: swell --dir DIR init --fleet NAME".to_owned())
            }
            Self::Policy { .. } => Some(
                "add stages or longer waits to swell.toml, which can only be stricter".to_owned(),
            ),
            _ => None,
        }
    }
}

/// Who wants it, where and when.
#[derive(Debug, Clone)]
pub(crate) struct Intent<'a> {
    pub(crate) root: &'a Root,
    pub(crate) env: &'a Env,
    pub(crate) author: KeyId,
    pub(crate) reason: String,
    pub(crate) now: UnixTime,
}

impl Intent<'_> {
    fn policy(&self) -> Result<&Policy, PlanningError> {
        self.root.environments.get(self.env).ok_or_else(|| PlanningError::NoEnv {
            env: self.env.clone(),
            fleet: self.root.fleet.clone(),
            known: self.root.environments.keys().cloned().collect(),
        })
    }
}

/// Plans to bring a release.
///
/// # Errors
///
/// [`PlanningError`].
pub(crate) fn forward(
    intent: &Intent<'_>,
    facts: &Facts,
    release: &(Digest, Release),
    deploy: &Deploy,
) -> Result<Planned, PlanningError> {
    let adopting = facts.head.as_ref().filter(|(_, newest)| newest.adopt && facts.stable.is_none());
    if let Some((rollout, newest)) = adopting
        && !is_undone(facts)
    {
        return Err(PlanningError::Adopting {
            service: newest.service.clone(),
            version: newest.to.version.clone(),
            env: intent.env.clone(),
            rollout: *rollout,
        });
    }
    if let Some((rollout, first)) = going_on(facts).filter(|_| facts.stable.is_none()) {
        return Err(PlanningError::OverFirst {
            service: first.service.clone(),
            version: first.to.version.clone(),
            env: intent.env.clone(),
            rollout: *rollout,
        });
    }
    let mut planned = bring(intent, facts, release, deploy, false)?;
    if adopting.is_some() {
        planned.notes.push(
            "the adoption was given up: what may still run on these hosts is not known here. By commands, \
             this release's `stop` is called first, and a host that fails has nothing to go back to"
                .to_owned(),
        );
    }
    Ok(planned)
}

/// Plans to take in what runs as a release that nobody has deployed. On failure everything is as it
/// was, whatever `on_failure` is for deployments; and requests are not counted, since there is nothing
/// new that could be worse.
///
/// # Errors
///
/// [`PlanningError`].
pub(crate) fn adopt(
    intent: &Intent<'_>,
    facts: &Facts,
    release: &(Digest, Release),
    deploy: &Deploy,
) -> Result<Planned, PlanningError> {
    let (id, what_runs) = release;
    let Release { service, version, .. } = what_runs;
    let again = |newest: &Rollout| newest.adopt && newest.to.release == *id;
    if let Some((rollout, newest)) = &facts.head
        && (facts.stable.is_some() || !is_undone(facts) && !again(newest))
    {
        let (service, env) = (service.clone(), intent.env.clone());
        return Err(PlanningError::Deployed { service, env, rollout: *rollout });
    }
    if !what_runs.tells_if_it_runs() {
        return Err(PlanningError::Blind { service: service.clone(), version: version.clone() });
    }
    let deploy = Deploy { on_failure: None, ..deploy.clone() };
    let mut planned = bring(intent, facts, release, &deploy, true)?;
    planned.notes.push(
        "an adoption: nothing is stopped or started, hosts take in what runs there as it runs"
            .to_owned(),
    );
    Ok(planned)
}

/// The newest rollout, with its id and where it stands.
fn reported(facts: &Facts) -> Option<(&(Digest, Rollout), &RolloutReport)> {
    let (head, report) = (facts.head.as_ref()?, facts.report.as_ref()?);
    (report.id == head.0).then_some((head, report))
}

/// The newest rollout, if it was halted or aborted.
pub(crate) fn stopped(facts: &Facts) -> Option<&(Digest, Rollout)> {
    let is = |phase| matches!(phase, RolloutPhase::Halted | RolloutPhase::Aborted);
    reported(facts).filter(|(_, report)| is(report.phase)).map(|(head, _)| head)
}

/// Whether the newest rollout was stopped and nobody can have anything of it any more.
fn has_all_gone_back(facts: &Facts) -> bool {
    reported(facts).is_some_and(|(_, report)| report.has_all_gone_back())
}

/// Whether the newest rollout was stopped, and every host goes back to what was before.
fn is_undone(facts: &Facts) -> bool {
    stopped(facts).is_some_and(|(_, newest)| newest.on_failure == OnFailure::Rollback)
}

fn bring(
    intent: &Intent<'_>,
    facts: &Facts,
    (id, release): &(Digest, Release),
    deploy: &Deploy,
    adopt: bool,
) -> Result<Planned, PlanningError> {
    let policy = intent.policy()?;
    let (service, version, env) =
        (release.service.clone(), release.version.clone(), intent.env.clone());
    if facts.head.is_none() && facts.scopes as usize >= SLOTS {
        return Err(PlanningError::TooMany { service, env });
    }
    if let Some((rollout, newest)) = going_on(facts)
        && newest.to.release == *id
    {
        return Err(PlanningError::OnItsWay { service, version, env, rollout: *rollout });
    }
    let stable = facts.stable.as_ref().map(|(id, release)| target(*id, release));
    let from = going_back(facts).map(|newest| newest.to.clone()).or(stable);
    if from.as_ref().is_some_and(|from| from.release == *id) {
        return Err(PlanningError::Stable { service, version, env });
    }
    let shape = Shape {
        direction: Direction::Forward,
        strategy: &deploy.strategy,
        max_unavailable: deploy.max_unavailable.unwrap_or(MAX_UNAVAILABLE),
        on_failure: deploy.on_failure.unwrap_or(OnFailure::Rollback),
        approvals: deploy.approvals.unwrap_or(0).max(policy.approvals_min),
        windows: &deploy.windows,
        thresholds: (release.health.metrics.is_some() && !adopt).then_some(deploy.thresholds),
        adopt,
    };
    let (plan, mut planned) = assemble(intent, facts, (*id, release), from, &shape)?;
    planned.notes.extend(impossible::refuse(intent, &plan, deploy, &planned.rollout)?);
    check_policy(policy, &planned.rollout)
        .map_err(|source| PlanningError::Policy { env, source })?;
    planned.settings = settings::written(&planned.rollout, deploy, policy);
    Ok(planned)
}

/// The version that `swell rollback` without `--to` goes back to.
///
/// # Errors
///
/// [`PlanningError`]: there is none, or it has to be said.
pub(crate) fn version_before(
    facts: &Facts,
    service: &Service,
    env: &Env,
) -> Result<Target, PlanningError> {
    let (service, env) = (service.clone(), env.clone());
    let Some((rollout, newest)) = &facts.head else {
        return Err(PlanningError::NothingThere { service, env });
    };
    match (&newest.from, newest.direction) {
        // One that has not brought every host back is tried again.
        (_, Direction::Rollback) if !is_done(facts) => Ok(newest.to.clone()),
        (Some(from), Direction::Forward) => Ok(from.clone()),
        // Going back from a rollback would bring what somebody took away.
        (Some(from), Direction::Rollback) => Err(PlanningError::IsRollback {
            rollout: *rollout,
            from: from.version.clone(),
            to: newest.to.version.clone(),
        }),
        (None, _) => {
            let (rollout, goes_on) = (*rollout, going_on(facts).is_some());
            Err(PlanningError::First { service, env, rollout, goes_on })
        }
    }
}

/// Plans to go back to a release, every host at once.
///
/// # Errors
///
/// [`PlanningError`].
pub(crate) fn back(
    intent: &Intent<'_>,
    facts: &Facts,
    (id, release): &(Digest, Release),
) -> Result<Planned, PlanningError> {
    intent.policy()?;
    let (service, version, env) =
        (release.service.clone(), release.version.clone(), intent.env.clone());
    let Some((rollout, newest)) = &facts.head else {
        return Err(PlanningError::NothingThere { service, env });
    };
    if newest.to.release == *id {
        let rollout = *rollout;
        if going_on(facts).is_some() {
            return Err(PlanningError::OnItsWay { service, version, env, rollout });
        }
        if is_done(facts) {
            return Err(PlanningError::Stable { service, version, env });
        }
    }
    // Where hosts are now: at the stable release, or, if that is where it goes, at what came after;
    // where a rollback is tried again, at what that one was to take away.
    let stable = facts.stable.as_ref().map(|(id, release)| target(*id, release));
    let from = [stable, Some(newest.to.clone()), newest.from.clone()];
    let from = from.into_iter().flatten().find(|from| from.release != *id);
    let shape = Shape {
        direction: Direction::Rollback,
        strategy: &plan::rollback_strategy(&facts.hosts),
        max_unavailable: Share::Percent(100.0),
        on_failure: OnFailure::Pause,
        approvals: 0,
        windows: &[],
        thresholds: None,
        adopt: false,
    };
    let (plan, mut planned) = assemble(intent, facts, (*id, release), from, &shape)?;
    let is_there = |host: &&CohortHost| facts.serves.get(&host.id) == Some(&version);
    let there = plan.cohort.iter().filter(is_there).count();
    // Before its end somebody may well want to go back where nobody has gone forward yet.
    if there == plan.cohort.len() && has_all_gone_back(facts) {
        return Err(PlanningError::AllThere { service, version, env });
    }
    if there > 0 {
        let (hosts, of) = (there, plan.cohort.len());
        planned.notes.push(format!("{hosts} of {of} hosts serve {version} already, and go on so"));
    }
    Ok(planned)
}

struct Shape<'a> {
    direction: Direction,
    strategy: &'a Strategy,
    max_unavailable: Share,
    on_failure: OnFailure,
    approvals: u8,
    /// When something new may start; empty: at any time.
    windows: &'a [Window],
    /// None: no requests are counted.
    thresholds: Option<Thresholds>,
    /// What runs is taken in as it runs.
    adopt: bool,
}

fn target(id: Digest, release: &Release) -> Target {
    Target { release: id, version: release.version.clone() }
}

/// The newest rollout, if it has not ended.
pub(crate) fn going_on(facts: &Facts) -> Option<&(Digest, Rollout)> {
    let goes_on = |phase| {
        matches!(phase, RolloutPhase::Running | RolloutPhase::Paused | RolloutPhase::Pending)
    };
    reported(facts).filter(|(_, report)| goes_on(report.phase)).map(|(head, _)| head)
}

/// The newest rollout, where it is a rollback that has not been carried to its end. What is stable by
/// the record is then what somebody takes away: the next rollout comes from where this one leads, and
/// no way back leads to the other. (Who has changed his mind brings that by waves: nothing has gone
/// forward from it, so no rollback leads there either.)
fn going_back(facts: &Facts) -> Option<&Rollout> {
    let (_, newest) = facts.head.as_ref()?;
    (newest.direction == Direction::Rollback && !is_done(facts)).then_some(newest)
}

/// Whether the newest rollout is complete; a rollback, only once it is on every host: its budget
/// lets it be complete without those that failed.
fn is_done(facts: &Facts) -> bool {
    let Some(((_, newest), report)) = reported(facts) else { return false };
    let failed = report.hosts.iter().any(|host| host.state.is_some_and(State::is_failed));
    report.phase == RolloutPhase::Complete && !(failed && newest.direction == Direction::Rollback)
}

fn assemble(
    intent: &Intent<'_>,
    facts: &Facts,
    (id, release): (Digest, &Release),
    from: Option<Target>,
    shape: &Shape<'_>,
) -> Result<(Plan, Planned), PlanningError> {
    let Shape { direction, strategy, max_unavailable, .. } = *shape;
    let plan =
        plan::plan(&facts.hosts, strategy, direction, max_unavailable, &id).map_err(|source| {
            PlanningError::Plan {
                service: release.service.clone(),
                version: release.version.clone(),
                env: intent.env.clone(),
                source,
            }
        })?;
    let mut names: BTreeMap<_, _> = facts
        .hosts
        .iter()
        .map(|candidate| (candidate.host.id.clone(), candidate.host.name.clone()))
        .collect();
    let missing = |left_out: &plan::LeftOut| {
        let (host, why) = (left_out.host.clone(), left_out.why);
        names.remove(&host).map(|name| Missing { host, name, why })
    };
    let left_out = plan.left_out.iter().filter_map(missing).collect();
    let previous = facts.head.as_ref();
    let mut rollout = Rollout {
        fleet: intent.root.fleet.clone(),
        service: release.service.clone(),
        env: intent.env.clone(),
        epoch: previous.map_or(1, |(_, newest)| newest.epoch + 1),
        previous: previous.map(|(id, _)| *id),
        from,
        to: target(id, release),
        direction: shape.direction,
        rules: RULES,
        cohort: plan.cohort.clone(),
        waves: plan.waves.clone(),
        max_unavailable: plan.max_unavailable,
        in_flight_max: plan.in_flight_max,
        windows: shape.windows.to_vec(),
        limits: shape.thresholds.map(|thresholds| limits(&plan, release, thresholds)),
        retry: false,
        adopt: shape.adopt,
        on_failure: shape.on_failure,
        approvals: shape.approvals,
        created: intent.now,
        expires: intent.now,
        author: intent.author.clone(),
        reason: intent.reason.clone(),
        critical: Vec::new(),
    };
    rollout.critical = rollout.careful_fields();
    // However long its bakes are, there is a day in which people may hold it up.
    rollout.expires = intent.now.plus_s(plan::times(&rollout).promote_s + EXPIRES_S);
    rollout.expires = rollout.expires.max(windows::expires(&rollout));
    let planned = Planned {
        left_out,
        notes: plan.notes.iter().map(Note::to_string).collect(),
        replaces: going_on(facts).map(|(id, _)| *id),
        ..Planned::of(rollout, release.artifact, names, intent.policy()?.clone())
    };
    Ok((plan, planned))
}

fn limits(plan: &Plan, release: &Release, thresholds: Thresholds) -> Limits {
    let errors_ppm = thresholds.errors_ppm.unwrap_or(ERRORS_PPM);
    Limits {
        errors_ppm: plan.errors_ppm.iter().map(|asked| asked.unwrap_or(errors_ppm)).collect(),
        requests_min: thresholds.requests_min.unwrap_or(REQUESTS_MIN),
        warmup_s: release.health.warmup_s,
        p99_ratio_percent: thresholds.p99_ratio_percent,
    }
}

#[cfg(test)]
mod tests;
