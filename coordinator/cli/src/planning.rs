//! From a verified scope to the rollout that would be signed. Pure: `plan` shows it, `deploy` and
//! `rollback` sign the very same value.

use std::collections::BTreeMap;

use proto::id::{Digest, Env, FleetId, HostId, KeyId, Name, Service, Version};
use proto::receipt::State;
use proto::report::RolloutPhase;
use proto::statement::{
    ArtifactRef, Direction, OnFailure, Policy, RULES, Release, Rollout, Root, Share, Target,
    UnixTime,
};
use proto::trust::{Refusal, check_policy};
use rollout::plan::{Note, PlanError, Strategy, plan};
use serde::Serialize;

use crate::failure::Advise;
use crate::knowledge::Facts;
use crate::swell_toml::Deploy;

/// How long after it was signed a rollout may open waves, in seconds: a day.
pub(crate) const EXPIRES_S: u64 = 24 * 3_600;

/// A rollout that nobody has signed yet, and what people want to know about it. Its JSON is what
/// `swell plan --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Planned {
    pub(crate) rollout: Rollout,
    pub(crate) artifact: ArtifactRef,
    /// Names of the cohort's hosts.
    pub(crate) names: BTreeMap<HostId, Name>,
    /// Hosts of the environment that are not heard of, and so not in the cohort.
    pub(crate) left_out: Vec<Name>,
    pub(crate) notes: Vec<String>,
    pub(crate) policy: Policy,
    /// The rollout of the scope that this one would take over from while it is still going on.
    pub(crate) replaces: Option<Digest>,
}

/// Why there is no rollout to sign.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanningError {
    #[error("there is no environment {env} in fleet {fleet}: it has {}", list(known))]
    NoEnv { env: Env, fleet: FleetId, known: Vec<Env> },
    #[error("{service} {version} is the stable release of {env} already")]
    Stable { service: Service, version: Version, env: Env },
    #[error("{service} {version} is on its way to {env} already, by rollout {rollout}")]
    OnItsWay { service: Service, version: Version, env: Env, rollout: Digest },
    #[error("nothing was ever rolled out of {service} in {env}: there is nothing to go back from")]
    NothingThere { service: Service, env: Env },
    #[error("the rollout {rollout} was the first of {service} in {env}: nothing was there before")]
    First { service: Service, env: Env, rollout: Digest },
    #[error("the newest rollout {rollout} is itself a rollback, from {from} to {to}")]
    IsRollback { rollout: Digest, from: Version, to: Version },
    #[error("cannot plan {service} {version} in {env}")]
    Plan {
        service: Service,
        version: Version,
        env: Env,
        #[source]
        source: PlanError,
    },
    #[error("the plan is looser than the policy of {env}")]
    Policy {
        env: Env,
        #[source]
        source: Refusal,
    },
}

fn list(envs: &[Env]) -> String {
    envs.iter().map(Env::as_str).collect::<Vec<_>>().join(", ")
}

impl Advise for PlanningError {
    fn next(&self) -> Option<String> {
        match self {
            Self::Stable { service, env, .. } => Some(format!(
                "see swell explain {service}/{env}; to go back to it: swell rollback {service} \
                 --env {env} --reason TEXT"
            )),
            Self::OnItsWay { rollout, .. } => Some(format!("swell watch {rollout}")),
            Self::IsRollback { .. } => {
                Some("say where to go: --to VERSION, or deploy that version".to_owned())
            }
            Self::Plan { source: PlanError::Empty { .. }, env, .. } => Some(format!(
                "let hosts in: swell token create --label env={env}; swell hosts shows who is heard"
            )),
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
    (id, release): &(Digest, Release),
    deploy: &Deploy,
) -> Result<Planned, PlanningError> {
    let policy = intent.policy()?;
    let (service, version, env) =
        (release.service.clone(), release.version.clone(), intent.env.clone());
    let stable = facts.stable.as_ref().map(|(id, release)| target(*id, release));
    if stable.as_ref().is_some_and(|stable| stable.release == *id) {
        return Err(PlanningError::Stable { service, version, env });
    }
    if let Some((rollout, newest)) = going_on(facts)
        && newest.to.release == *id
    {
        return Err(PlanningError::OnItsWay { service, version, env, rollout: *rollout });
    }
    let shape = Shape {
        direction: Direction::Forward,
        strategy: &deploy.strategy,
        max_unavailable: deploy.max_unavailable,
        on_failure: deploy.on_failure,
        approvals: deploy.approvals.max(policy.approvals_min),
    };
    let planned = assemble(intent, facts, (*id, release), stable, &shape)?;
    check_policy(policy, &planned.rollout)
        .map_err(|source| PlanningError::Policy { env, source })?;
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
        (None, _) => Err(PlanningError::First { service, env, rollout: *rollout }),
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
    let alive = facts.hosts.iter().filter(|candidate| candidate.alive).count();
    // One failure must not stop all others from going back; one dead host must not keep the rollback
    // from ever being complete, or the next deployment would take the bad version for the stable one.
    let unreachable = u32::try_from(alive / 20).unwrap_or(u32::MAX).max(1);
    let shape = Shape {
        direction: Direction::Rollback,
        strategy: &Strategy::AllAtOnce {
            failed_max: Some(Share::Percent(100.0)),
            unreachable_max: Some(Share::Count(unreachable)),
        },
        max_unavailable: Share::Percent(100.0),
        on_failure: OnFailure::Pause,
        approvals: 0,
    };
    assemble(intent, facts, (*id, release), from, &shape)
}

struct Shape<'a> {
    direction: Direction,
    strategy: &'a Strategy,
    max_unavailable: Share,
    on_failure: OnFailure,
    approvals: u8,
}

fn target(id: Digest, release: &Release) -> Target {
    Target { release: id, version: release.version.clone() }
}

/// The newest rollout, if it has not ended.
fn going_on(facts: &Facts) -> Option<&(Digest, Rollout)> {
    let report = facts.report.as_ref()?;
    let goes_on = matches!(
        report.phase,
        RolloutPhase::Running | RolloutPhase::Paused | RolloutPhase::Pending
    );
    facts.head.as_ref().filter(|(id, _)| goes_on && report.id == *id)
}

/// Whether the newest rollout is complete; a rollback, only once it is on every host: its budget
/// lets it be complete without those that failed.
fn is_done(facts: &Facts) -> bool {
    let (Some((id, newest)), Some(report)) = (&facts.head, &facts.report) else { return false };
    let failed = report.hosts.iter().any(|host| host.state.is_some_and(State::is_failed));
    report.id == *id
        && report.phase == RolloutPhase::Complete
        && !(failed && newest.direction == Direction::Rollback)
}

fn assemble(
    intent: &Intent<'_>,
    facts: &Facts,
    (id, release): (Digest, &Release),
    from: Option<Target>,
    shape: &Shape<'_>,
) -> Result<Planned, PlanningError> {
    let planned = plan(&facts.hosts, shape.strategy, shape.direction, shape.max_unavailable, &id)
        .map_err(|source| PlanningError::Plan {
        service: release.service.clone(),
        version: release.version.clone(),
        env: intent.env.clone(),
        source,
    })?;
    let names: BTreeMap<_, _> = facts
        .hosts
        .iter()
        .map(|candidate| (candidate.host.id.clone(), candidate.host.name.clone()))
        .collect();
    let left_out = planned.left_out.iter().filter_map(|id| names.get(id).cloned()).collect();
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
        cohort: planned.cohort,
        waves: planned.waves,
        max_unavailable: planned.max_unavailable,
        in_flight_max: None,
        windows: Vec::new(),
        limits: None,
        retry: false,
        on_failure: shape.on_failure,
        approvals: shape.approvals,
        created: intent.now,
        expires: intent.now.plus_s(EXPIRES_S),
        author: intent.author.clone(),
        reason: intent.reason.clone(),
        critical: Vec::new(),
    };
    rollout.critical = rollout.careful_fields();
    Ok(Planned {
        names: names.into_iter().filter(|(id, _)| rollout.rank_of(id).is_some()).collect(),
        rollout,
        artifact: release.artifact,
        left_out,
        notes: planned.notes.iter().map(Note::to_string).collect(),
        policy: intent.policy()?.clone(),
        replaces: going_on(facts).map(|(id, _)| *id),
    })
}

#[cfg(test)]
mod tests {
    use proto::statement::{Payload as _, Wave};
    use rollout::plan::Stage;

    use super::*;
    use crate::render::sample;

    fn root(policy: Policy) -> Root {
        Root {
            fleet: "shop-00000000".parse().unwrap(),
            version: 1,
            expires: UnixTime(u64::MAX),
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            environments: [("production".parse().unwrap(), policy)].into(),
            critical: Vec::new(),
        }
    }

    fn canary(approvals: u8) -> Deploy {
        Deploy {
            strategy: Strategy::Canary(vec![Stage::new(1.0, 60), Stage::new(100.0, 0)]),
            approvals,
            max_unavailable: Share::Percent(50.0),
            on_failure: OnFailure::Rollback,
        }
    }

    fn forward(
        policy: Policy,
        facts: &Facts,
        version: &str,
        deploy: &Deploy,
    ) -> Result<Planned, PlanningError> {
        let (root, env) = (root(policy), "production".parse().unwrap());
        let intent = intent(&root, &env);
        super::forward(&intent, facts, &sample::release(version), deploy)
    }

    fn intent<'a>(root: &'a Root, env: &'a Env) -> Intent<'a> {
        let author = "0000000000000001".parse().unwrap();
        Intent { root, env, author, reason: "why".to_owned(), now: sample::CREATED }
    }

    fn complete() -> Facts {
        sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Complete)
    }

    #[test]
    fn a_rollout_continues_its_scope_from_the_stable_release() {
        let planned = forward(Policy::default(), &complete(), "1.3.0", &canary(0)).unwrap();
        let rollout = planned.rollout;
        rollout.check().unwrap();
        assert_eq!((rollout.epoch, rollout.previous), (5, Some(Digest::of(b"newest"))));
        assert_eq!(rollout.from.unwrap().version, sample::version("1.2.0"));
        assert_eq!(rollout.expires, sample::CREATED.plus_s(EXPIRES_S));
        assert_eq!(rollout.cohort.len(), 6, "the silent one is left out");
        assert_eq!(planned.left_out, ["n7".parse().unwrap()]);
        assert_eq!(planned.names.len(), 6);
        assert_eq!(rollout.max_unavailable, 3);
        assert_eq!(planned.replaces, None);
    }

    #[test]
    fn a_scope_starts_with_epoch_1_from_nothing() {
        let facts = Facts { head: None, report: None, stable: None, ..complete() };
        let rollout = forward(Policy::default(), &facts, "1.0.0", &canary(0)).unwrap().rollout;
        rollout.check().unwrap();
        assert_eq!((rollout.epoch, rollout.previous, rollout.from), (1, None, None));
    }

    #[test]
    fn after_a_halt_the_next_one_starts_from_what_was_stable() {
        let facts = sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Halted);
        let rollout = forward(Policy::default(), &facts, "1.2.1", &canary(0)).unwrap().rollout;
        assert_eq!(rollout.from.unwrap().version, sample::version("1.1.0"));
    }

    #[test]
    fn what_is_there_or_on_its_way_is_not_deployed_again() {
        let error = forward(Policy::default(), &complete(), "1.2.0", &canary(0)).unwrap_err();
        assert_eq!(error.to_string(), "web 1.2.0 is the stable release of production already");
        let running =
            sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Running);
        let error = forward(Policy::default(), &running, "1.2.0", &canary(0)).unwrap_err();
        assert!(matches!(error, PlanningError::OnItsWay { .. }), "{error}");
        let planned = forward(Policy::default(), &running, "1.3.0", &canary(0)).unwrap();
        assert_eq!(planned.replaces, Some(Digest::of(b"newest")));
    }

    #[test]
    fn the_policy_of_the_environment_wins_where_it_is_stricter() {
        let policy = Policy { approvals_min: 2, ..Policy::default() };
        for (own, effective) in [(0, 2), (2, 2), (3, 3)] {
            let planned = forward(policy.clone(), &complete(), "1.3.0", &canary(own)).unwrap();
            assert_eq!(planned.rollout.approvals, effective);
        }
        let policy = Policy { bake_s_min: 61, ..Policy::default() };
        let error = forward(policy, &complete(), "1.3.0", &canary(0)).unwrap_err();
        assert_eq!(error.to_string(), "the plan is looser than the policy of production");
        let root = root(Policy::default());
        let env = "moon".parse().unwrap();
        let release = sample::release("1.3.0");
        let error = super::forward(&intent(&root, &env), &complete(), &release, &canary(0));
        let expected = "there is no environment moon in fleet shop-00000000: it has production";
        assert_eq!(error.unwrap_err().to_string(), expected);
    }

    fn back(facts: &Facts, version: &str) -> Result<Planned, PlanningError> {
        let (root, env) = (root(Policy::default()), "production".parse().unwrap());
        super::back(&intent(&root, &env), facts, &sample::release(version))
    }

    #[test]
    fn a_rollback_takes_every_host_at_once() {
        let rollout = back(&complete(), "1.1.0").unwrap().rollout;
        rollout.check().unwrap();
        assert_eq!(rollout.direction, Direction::Rollback);
        assert_eq!(rollout.epoch, 5);
        assert_eq!(rollout.from.unwrap().version, sample::version("1.2.0"));
        let wave = Wave { hosts: 6, wait_s: 0, failed_max: 6, unreachable_max: 1 };
        assert_eq!(rollout.waves, [wave]);
        assert_eq!(rollout.max_unavailable, 6);
        assert_eq!(rollout.approvals, 0);
    }

    #[test]
    fn a_rollback_of_what_never_became_stable_goes_to_the_stable_release() {
        let halted =
            sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Halted);
        let rollout = back(&halted, "1.1.0").unwrap().rollout;
        rollout.check().unwrap();
        assert_eq!(rollout.from.unwrap().version, sample::version("1.2.0"));
        let rollout = back(&halted, "1.0.0").unwrap().rollout;
        assert_eq!(rollout.from.unwrap().version, sample::version("1.1.0"));
        assert!(matches!(back(&complete(), "1.2.0"), Err(PlanningError::Stable { .. })));
    }

    #[test]
    fn a_rollback_that_failed_is_tried_again() {
        use RolloutPhase as P;
        let (service, env) = ("web".parse().unwrap(), "production".parse().unwrap());
        for phase in [P::Halted, P::Aborted, P::Expired, P::Complete] {
            let mut facts = sample::facts(Some("1.2.0"), "1.1.0", Direction::Rollback, phase);
            let stuck = sample::standing(0, 0, Some(State::RevertFailed));
            facts.report.as_mut().unwrap().hosts = vec![stuck];
            for stable in ["1.1.0", "1.2.0"] {
                facts.stable = Some(sample::release(stable));
                let to = version_before(&facts, &service, &env).unwrap();
                assert_eq!(to.version, sample::version("1.1.0"), "{phase:?}");
                let rollout = back(&facts, "1.1.0").unwrap().rollout;
                rollout.check().unwrap();
                assert_eq!(rollout.from.unwrap().version, sample::version("1.2.0"), "{phase:?}");
            }
        }
        let running = sample::facts(Some("1.2.0"), "1.1.0", Direction::Rollback, P::Running);
        assert!(matches!(back(&running, "1.1.0"), Err(PlanningError::OnItsWay { .. })));
        let done = sample::facts(Some("1.2.0"), "1.1.0", Direction::Rollback, P::Complete);
        assert!(matches!(back(&done, "1.1.0"), Err(PlanningError::Stable { .. })));
    }

    #[test]
    fn the_version_before_is_told_or_has_to_be_said() {
        let (service, env) = ("web".parse().unwrap(), "production".parse().unwrap());
        let before = |facts: &Facts| version_before(facts, &service, &env);
        assert_eq!(before(&complete()).unwrap().version, sample::version("1.1.0"));
        let back =
            sample::facts(Some("1.2.0"), "1.1.0", Direction::Rollback, RolloutPhase::Complete);
        assert!(matches!(before(&back), Err(PlanningError::IsRollback { .. })));
        let first = sample::facts(None, "1.0.0", Direction::Forward, RolloutPhase::Complete);
        assert!(matches!(before(&first), Err(PlanningError::First { .. })));
        let nothing = Facts { head: None, ..complete() };
        assert!(matches!(before(&nothing), Err(PlanningError::NothingThere { .. })));
    }
}
