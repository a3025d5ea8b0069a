//! Plans that could never start or never end: refused before anybody signs them, each with its key,
//! its value and what to do.

use proto::statement::{Role, Rollout};
use rollout::plan::{self, Obstacle, Places, Plan, Strategy};

use super::{Intent, PlanningError};
use crate::swell_toml::Deploy;

/// What people should know although nobody wrote it; what is written and cannot be is refused.
///
/// # Errors
///
/// [`PlanningError::Impossible`], all problems in one.
pub(super) fn refuse(
    intent: &Intent<'_>,
    plan: &Plan,
    deploy: &Deploy,
    rollout: &Rollout,
) -> Result<Vec<String>, PlanningError> {
    let service = (rollout.service.clone(), rollout.to.version.clone());
    let obstacles = plan::obstacles(plan, &deploy.strategy).map_err(|source| {
        let ((service, version), env) = (service, rollout.env.clone());
        PlanningError::Plan { service, version, env, source }
    })?;
    let (written, given): (Vec<_>, Vec<_>) =
        obstacles.into_iter().partition(|obstacle| obstacle.written.is_some());
    let budget = |obstacle: &Obstacle| budget(rollout, &deploy.strategy, obstacle);
    let mut problems: Vec<_> = written.iter().map(budget).collect();
    problems.extend(approvals(intent, deploy, rollout));
    match problems.is_empty() {
        // One place is short of all of them: the narrowest says it.
        true => Ok(given.first().map(|obstacle| note(obstacle.places)).into_iter().collect()),
        false => Err(PlanningError::Impossible { problems }),
    }
}

/// A budget for silent hosts that has no places left for others.
fn budget(rollout: &Rollout, strategy: &Strategy, obstacle: &Obstacle) -> String {
    let env = &rollout.env;
    let key = match strategy {
        Strategy::Canary(_) => format!("deploy.{env}.stages.{}.unreachable_max", obstacle.stage),
        Strategy::AllAtOnce { .. } | Strategy::Rolling { .. } => {
            format!("deploy.{env}.unreachable_max")
        }
    };
    let value = obstacle.written.map(|share| share.to_string()).unwrap_or_default();
    let (places, what) = match obstacle.places {
        Places::MaxUnavailable(places) => (places, "max_unavailable"),
        Places::Batch(places) => (places, "batch"),
    };
    format!(
        "{key} = {value} ({} here): must be less than {what} ({places} here), since a silent host \
         keeps its place in that, and hosts behind {places} of them would wait for ever; lower it, \
         or raise {what}",
        obstacle.unreachable_max
    )
}

fn note(places: Places) -> String {
    let (places, what) = match places {
        Places::MaxUnavailable(places) => (places, "max_unavailable"),
        Places::Batch(places) => (places, "batch"),
    };
    let hosts = if places == 1 { "a host that falls" } else { "hosts that fall" };
    format!("{what} is {places} here: {hosts} silent half way would keep those behind waiting")
}

/// More approvals than there are people to give them.
fn approvals(intent: &Intent<'_>, deploy: &Deploy, rollout: &Rollout) -> Option<String> {
    let Intent { root, env, author, .. } = intent;
    let role = Role::Approve((*env).clone());
    let owner = |key| root.keys.get(key).map(|entry| &entry.owner);
    let others = root.keys_of(&role).filter(|(key, _)| owner(key) != owner(author)).count();
    if usize::from(rollout.approvals) <= others {
        return None;
    }
    let key = match deploy.approvals {
        Some(own) if own == rollout.approvals => format!("deploy.{env}.approvals"),
        _ => format!("environments.{env}.approvals_min (in root)"),
    };
    Some(format!(
        "{key} = {}: must be 0 to {others}, for {others} of the keys that hold {role} are not \
         yours; lower it, or give more people that role in the next root",
        rollout.approvals
    ))
}
