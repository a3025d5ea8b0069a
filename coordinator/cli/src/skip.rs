//! `skip`: nobody waits for a host any longer, in the open rollouts of its environment.

use ed25519_dalek::SigningKey;
use proto::id::{Digest, Env, KeyId, Name, Scope};
use proto::key::PublicKey;
use proto::receipt::State;
use proto::report::{FleetReport, RolloutPhase, RolloutReport, StandingReport};
use proto::statement::{Action, Directive, Payload as _, Rollout};

use crate::args::{RolloutRef, SkipArgs};
use crate::client::{ANSWER_TIMEOUT, Client};
use crate::failure::{Advise, Exit, Failure};
use crate::home::{self, Home};
use crate::host::{self, Named};
use crate::knowledge::Knowledge;
use crate::sign::{self, Submitted};
use crate::{ask, output};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SkipError {
    #[error("no open rollout of {env} waits for host {name}")]
    NoneWaits { env: Env, name: Name },
    #[error("rollout {rollout} does not wait for host {name}: {why}")]
    DoesNotWait { rollout: Digest, name: Name, why: &'static str },
}

impl Advise for SkipError {
    fn next(&self) -> Option<String> {
        Some(match self {
            Self::NoneWaits { .. } => "swell status shows the rollouts".to_owned(),
            Self::DoesNotWait { rollout, name, .. } => {
                format!("swell explain {rollout} --host {name}")
            }
        })
    }
}

/// # Errors
///
/// Whatever keeps it from being signed.
pub(crate) async fn run(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    args: SkipArgs,
) -> Result<Exit, Failure> {
    let fleet = client.fleet(ANSWER_TIMEOUT).await?;
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let host = host::find(&mut knowledge, &fleet, &args.host).await?;
    let waiting = match &args.rollout {
        Some(which) => vec![named(client, &mut knowledge, &fleet, &host, which).await?],
        None => all(&mut knowledge, &fleet, &host).await?,
    };
    let skipped = |id: &Digest| is_skipped(&fleet, id, &host);
    let (already, waiting): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(id, _)| skipped(id));
    for (id, rollout) in &already {
        let scope = rollout.scope();
        output::write(&format!("rollout {id} of {scope} skips host {} already\n", host.name));
    }
    if waiting.is_empty() {
        return Ok(Exit::Done);
    }
    let scopes: Vec<_> = waiting.iter().map(|(id, rollout)| (*id, rollout.scope())).collect();
    output::write(&meaning(&host, &scopes));
    let question = format!("skip host {}, which is alive", host.name);
    ask::confirm(&question, args.yes || !host.alive)?;
    let mut exit = Exit::Done;
    for (id, rollout) in &waiting {
        let submitted = hand_in(client, key, &host, (*id, rollout), &args.reason).await?;
        if !submitted.effective {
            exit = submitted.exit();
        }
    }
    Ok(exit)
}

/// The rollout that was named, if it waits for the host.
async fn named(
    client: &Client,
    knowledge: &mut Knowledge<'_>,
    fleet: &FleetReport,
    host: &Named,
    which: &RolloutRef,
) -> Result<(Digest, Rollout), Failure> {
    let found = sign::find(client, knowledge, which).await?;
    let rollout = found.report.id;
    match why_not(&found.report, host) {
        // That this was done already is told later.
        Some(why) if !is_skipped(fleet, &rollout, host) => {
            let name = host.name.clone();
            Err(SkipError::DoesNotWait { rollout, name, why }.into())
        }
        _ => Ok((rollout, cohort_with(knowledge, host, found.rollout)?)),
    }
}

/// Every open rollout of the host's environment that waits for it, or did before it was skipped.
async fn all(
    knowledge: &mut Knowledge<'_>,
    fleet: &FleetReport,
    host: &Named,
) -> Result<Vec<(Digest, Rollout)>, Failure> {
    let own = fleet.rollouts.iter().filter(|report| report.env == host.env);
    let mut waiting = Vec::new();
    for report in own.filter(|report| why_not(report, host).is_none()) {
        let (_, rollout) = knowledge.rollout(report.id).await?;
        waiting.push((report.id, cohort_with(knowledge, host, rollout)?));
    }
    match waiting.is_empty() {
        true => Err(SkipError::NoneWaits { env: host.env.clone(), name: host.name.clone() }.into()),
        false => Ok(waiting),
    }
}

/// The rollout, if the host stands in what was signed, too, and not only in what a member tells of it.
fn cohort_with(
    knowledge: &Knowledge<'_>,
    host: &Named,
    rollout: Rollout,
) -> Result<Rollout, Failure> {
    match rollout.env == host.env && rollout.rank_of(&host.id).is_some() {
        true => Ok(rollout),
        false => Err(knowledge.other("the rollout").into()),
    }
}

fn is_skipped(fleet: &FleetReport, rollout: &Digest, host: &Named) -> bool {
    fleet.skips.iter().any(|skip| skip.rollout == *rollout && skip.host == host.id)
}

/// Why a rollout does not wait for a host; none: it does.
fn why_not(report: &RolloutReport, host: &Named) -> Option<&'static str> {
    let open = match report.phase {
        RolloutPhase::Running | RolloutPhase::Paused => true,
        RolloutPhase::Pending
        | RolloutPhase::Halted
        | RolloutPhase::Aborted
        | RolloutPhase::Complete
        | RolloutPhase::Superseded
        | RolloutPhase::Expired => false,
    };
    let own: Option<&StandingReport> = report.hosts.iter().find(|own| own.host == host.id);
    match own {
        _ if !open => Some("it is not open"),
        None => Some("the host has no place in it"),
        Some(own) if own.state.is_some_and(has_ended) => Some("the host has ended in it"),
        Some(_) => None,
    }
}

fn has_ended(state: State) -> bool {
    state == State::Committed || state.is_failed()
}

/// What follows, for people.
fn meaning(host: &Named, scopes: &[(Digest, Scope)]) -> String {
    let Named { id, name, alive, .. } = host;
    let seen = if *alive { "it is alive" } else { "it is not heard of" };
    let mut text = format!("host {name} ({id}); {seen}\n");
    for (rollout, scope) in scopes {
        text.push_str(&format!("  rollout {rollout} of {scope} waits for it no longer\n"));
    }
    text.push_str(
        "  its place among those that may be down is free; it counts neither as failed nor as \
         unreachable, unless it says that it failed\n  it starts nothing before the rollout is \
         complete; then it follows\n",
    );
    text
}

async fn hand_in(
    client: &Client,
    key: &SigningKey,
    host: &Named,
    (id, rollout): (Digest, &Rollout),
    reason: &str,
) -> Result<Submitted, Failure> {
    let directive = Directive {
        fleet: rollout.fleet.clone(),
        rollout: id,
        // Skips are a set: they stand beside the other directives and have no order.
        sequence: 1,
        action: Action::Skip,
        wave: None,
        host: Some(host.id.clone()),
        author: KeyId::of(&PublicKey::of(key)),
        created: home::now(),
        reason: reason.to_owned(),
        critical: Vec::new(),
    };
    let envelope = directive.signed(key);
    let submitted = sign::submit(client, "hand in the skip", &envelope).await?;
    if submitted.effective {
        let scope = rollout.scope();
        let text = format!(
            "  rollout {id} of {scope} skips host {}; to follow it: swell watch {id}\n",
            host.name
        );
        output::write(&client.member.hint(&text));
    }
    Ok(submitted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn host() -> Named {
        Named {
            id: sample::host_id(1),
            name: "n2".parse().unwrap(),
            env: "production".parse().unwrap(),
            alive: false,
            removed: None,
        }
    }

    #[test]
    fn only_an_open_rollout_waits_and_only_for_who_has_not_ended() {
        use RolloutPhase as P;
        let of = |phase, state| {
            let hosts = vec![sample::standing(0, 0, None), sample::standing(1, 1, state)];
            why_not(&sample::rollout(phase, hosts), &host())
        };
        for phase in [P::Pending, P::Halted, P::Aborted, P::Complete, P::Superseded, P::Expired] {
            assert_eq!(of(phase, None), Some("it is not open"), "{phase:?}");
        }
        use State as S;
        for state in [None, Some(S::Pending), Some(S::Staged), Some(S::Activating), Some(S::Baking)]
        {
            assert_eq!(of(P::Running, state), None, "{state:?}");
            assert_eq!(of(P::Paused, state), None, "{state:?}");
        }
        for state in [S::Committed, S::Reverted, S::RevertFailed] {
            assert_eq!(of(P::Running, Some(state)), Some("the host has ended in it"), "{state:?}");
        }
        let others = sample::rollout(P::Running, vec![sample::standing(0, 0, None)]);
        assert_eq!(why_not(&others, &host()), Some("the host has no place in it"));
    }
}
