//! Rollouts: who may sign what, and where each takes its place among those of its scope.

use super::signers::{Author, Signers, standing};
use super::{Chain, EMERGENCY_EPOCHS_MAX, Refusal, Standing};
use crate::id::Digest;
use crate::statement::{Direction, Policy, Role, Rollout, Target, Wave};

/// The roles whose keys may sign this rollout in one capacity or another.
pub(super) fn roles(rollout: &Rollout) -> Vec<Role> {
    let env = &rollout.env;
    let mut roles = vec![Role::Deploy(env.clone()), Role::Approve(env.clone()), Role::Emergency];
    if rollout.direction == Direction::Rollback {
        roles.push(Role::Admit);
    }
    roles
}

/// The head of its scope, if that has a higher epoch.
pub(super) fn superseder(chain: &Chain, rollout: &Rollout) -> Option<Digest> {
    let head = chain.head(&rollout.scope())?;
    (head.epoch > rollout.epoch).then_some(head.rollout)
}

pub(super) fn judge(
    chain: &Chain,
    signers: &Signers<'_>,
    id: Digest,
    rollout: &Rollout,
) -> Result<Standing, Refusal> {
    // Known ones were judged when they were learned, and may arrive with fewer signatures.
    if chain.rollout(&id).is_some() {
        return Ok(Standing::Effective);
    }
    let policy = (signers.root.environments.get(&rollout.env))
        .ok_or_else(|| Refusal::UnknownEnv(rollout.env.clone()))?;
    let deploys = Role::Deploy(rollout.env.clone());
    let people = [deploys.clone(), Role::Emergency];
    let goes_back = rollout.direction == Direction::Rollback;
    let by = signers.author(&rollout.author, &people, goes_back)?;
    fits_release(chain, rollout, &rollout.to)?;
    if let Some(from) = &rollout.from {
        fits_release(chain, rollout, from)?;
    }
    let previous = previous_of(chain, rollout)?;
    let jumps = jumps(signers, rollout, previous, by)?;
    match rollout.direction {
        Direction::Forward => check_policy(policy, rollout)?,
        Direction::Rollback => check_rollback(chain, rollout)?,
    }
    let mut missing = match by {
        Author::Person if jumps => Vec::from_iter(signers.missing(&Role::Emergency)),
        Author::Person => Vec::from_iter(signers.missing_for(&deploys)),
        Author::Coordinator => {
            check_coordinator(policy, rollout, previous)?;
            Vec::from_iter(signers.missing(&Role::Admit))
        }
    };
    if rollout.direction == Direction::Forward {
        let needed = usize::from(rollout.approvals.max(policy.approvals_min));
        let got = signers.approvals(rollout);
        if got < needed {
            let role = Role::Approve(rollout.env.clone());
            missing.push(format!("{got} of {needed} approvals by {role}, other than the author's"));
        }
    }
    let standing = standing(missing);
    match chain.head(&rollout.scope()) {
        // Too late for the signatures it lacks: others were faster.
        Some(head) if standing != Standing::Effective && head.epoch >= rollout.epoch => {
            let (head, head_epoch) = (head.rollout, head.epoch);
            Err(Refusal::EpochTooOld { got: rollout.epoch, head, head_epoch })
        }
        _ => Ok(standing),
    }
}

fn fits_release(chain: &Chain, rollout: &Rollout, target: &Target) -> Result<(), Refusal> {
    let id = target.release;
    let release = chain.release(&id).ok_or(Refusal::Needs(id))?;
    if release.service != rollout.service {
        let (got, expected) = (release.service.clone(), rollout.service.clone());
        return Err(Refusal::OtherService { release: id, got, expected });
    }
    if release.version != target.version {
        let (got, named) = (release.version.clone(), target.version.clone());
        return Err(Refusal::OtherVersion { release: id, got, named });
    }
    Ok(())
}

fn previous_of<'c>(chain: &'c Chain, rollout: &Rollout) -> Result<Option<&'c Rollout>, Refusal> {
    let Some(id) = rollout.previous else { return Ok(None) };
    let previous = chain.rollout(&id).ok_or(Refusal::Needs(id))?;
    if previous.scope() != rollout.scope() {
        return Err(Refusal::OtherScope { got: previous.scope(), expected: rollout.scope() });
    }
    Ok(Some(previous))
}

/// Whether the epoch jumps, as only an emergency may.
fn jumps(
    signers: &Signers<'_>,
    rollout: &Rollout,
    previous: Option<&Rollout>,
    by: Author,
) -> Result<bool, Refusal> {
    let got = rollout.epoch;
    let previous = previous.map_or(0, |previous| previous.epoch);
    let expected = previous + 1;
    if got == expected {
        return Ok(false);
    }
    if got < expected || by == Author::Coordinator || signers.with(&Role::Emergency) == 0 {
        return Err(Refusal::EpochNotNext { got, expected });
    }
    if got > previous + EMERGENCY_EPOCHS_MAX {
        return Err(Refusal::EpochJump { got, previous });
    }
    Ok(true)
}

/// Whether a rollout forward keeps to the policy of its environment (R2); its approvals are counted
/// apart, since they come later.
///
/// Stages that add no host are merged before a rollout is signed, so a small cohort may have fewer
/// waves than its plan had stages: below 100 hosts, where whole percentages may merge, two waves
/// (or one for the only host) are enough.
///
/// Where hosts go by batches ([`Rollout::in_flight_max`]), each batch is a stage and bakes.
///
/// # Errors
///
/// [`Refusal::TooFewStages`], [`Refusal::TooShortBake`].
pub fn check_policy(policy: &Policy, rollout: &Rollout) -> Result<(), Refusal> {
    let env = rollout.env.clone();
    let asked = usize::from(policy.stages_min);
    let min = match rollout.cohort.len() {
        0 | 1 => asked.min(1),
        2..100 => asked.min(2),
        _ => asked,
    };
    let batches = |wave: usize| {
        let batch = rollout.in_flight_max.map(|batch| batch.max(1) as usize);
        batch.map_or(1, |batch| rollout.ranks_in(wave).len().div_ceil(batch))
    };
    let got = (0..rollout.waves.len()).map(batches).sum();
    if got < min {
        return Err(Refusal::TooFewStages { env, got, min });
    }
    let bake_s = |(index, wave): (usize, &Wave)| batches(index) as u64 * u64::from(wave.wait_s);
    let got = rollout.waves.iter().enumerate().map(bake_s).sum();
    let min = u64::from(policy.bake_s_min);
    if got < min {
        return Err(Refusal::TooShortBake { env, got, min });
    }
    Ok(())
}

/// What needs no approval and bakes nowhere leads only to what everything ran before; and, where that
/// fails, to where rollouts of its line have been: the first of them to name a release went forward,
/// with its approvals.
fn check_rollback(chain: &Chain, rollout: &Rollout) -> Result<(), Refusal> {
    let previous = rollout.previous.as_ref();
    let (to, from) = (&rollout.to.release, rollout.from.as_ref().map(|from| from.release));
    let never_there = |release| Refusal::NeverThere { release, scope: rollout.scope() };
    if let Some(release) = from.filter(|release| !chain.was_in_line(previous, release)) {
        return Err(never_there(release));
    }
    match (chain.was_stable(previous, to), chain.was_in_line(previous, to)) {
        (true, _) => Ok(()),
        (false, true) => Err(Refusal::NeverStable { release: *to, scope: rollout.scope() }),
        (false, false) => Err(never_there(*to)),
    }
}

/// The coordinator's key alone undoes the last rollout forward (R3). Not a rollback: undoing that
/// would bring back what somebody took away.
fn check_coordinator(
    policy: &Policy,
    rollout: &Rollout,
    previous: Option<&Rollout>,
) -> Result<(), Refusal> {
    if !policy.coordinator_may_roll_back {
        return Err(Refusal::CoordinatorMayNotRollBack(rollout.env.clone()));
    }
    let undoes = previous.is_some_and(|previous| {
        previous.direction == Direction::Forward
            && previous.from.as_ref() == Some(&rollout.to)
            && rollout.from.as_ref() == Some(&previous.to)
    });
    match undoes {
        true => Ok(()),
        false => Err(Refusal::CoordinatorNotBack),
    }
}
