//! The commands that sign: `plan` shows what `deploy` signs, `adopt`, `rollback`, and the directives
//! `pause`, `resume`, `promote`, `abort`.

use std::path::Path;

use ed25519_dalek::SigningKey;
use proto::dsse::Envelope;
use proto::id::{Digest, Env, KeyId, Scope, Service, Version};
use proto::key::PublicKey;
use proto::report::{RolloutPhase, RolloutReport};
use proto::statement::{
    Action, COUNTER_MAX, Directive, Health, Payload as _, Release, Rollout, Run,
};
use proto::trust::{Standing, Verified};
use proto::wire::{ControlReply, ControlRequest};

use crate::args::{
    AdoptArgs, DeployArgs, DirectArgs, GoalArgs, PlanArgs, PromoteArgs, RollbackArgs, RolloutRef,
    SignArgs,
};
use crate::client::Client;
use crate::failure::{Advise, Exit, Failure};
use crate::home::{self, Home};
use crate::knowledge::{Facts, Knowledge};
use crate::planning::{self, Intent, Planned};
use crate::render;
use crate::render::fleet::phase;
use crate::swell_toml::{self, Deploy, SwellToml};
use crate::{approve, ask, directive, output, retry, watch, windows};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("{} describes {described}, not {service}", config.display())]
    OtherService { config: std::path::PathBuf, described: Service, service: Service },
    #[error("{} has no [deploy.{env}]: it does not say how to roll out there", config.display())]
    NoDeploy { config: std::path::PathBuf, env: Env, there: Vec<Env> },
    #[error("{service} {version} was never in {env}, so there is no way back to it")]
    NeverThere { service: Service, version: Version, env: Env },
    #[error(
        "{service} {version} is not what everything in {env} ran before a rollout, so there is no way back to it"
    )]
    NeverStable { service: Service, version: Version, env: Env },
    #[error("rollout {rollout} is not the newest of {scope}: {newest} took over")]
    NotNewest { rollout: Digest, scope: Scope, newest: Digest },
    #[error("rollout {rollout} is not in force, so there is nothing to direct: {missing}")]
    NotInForce { rollout: Digest, missing: String },
    #[error("the release of rollout {id} is not known")]
    NoRelease { id: Digest },
    #[error("every wave of rollout {rollout} is open already")]
    AllOpen { rollout: Digest },
    #[error("rollout {rollout} has {waves} wave(s), there is no wave {wave}")]
    NoSuchWave { rollout: Digest, wave: u32, waves: usize },
    #[error("rollout {rollout} is {}: nothing to {action}", phase(*is))]
    Closed { rollout: Digest, scope: Scope, is: RolloutPhase, action: &'static str },
    #[error("rollout {rollout} starts nowhere: {newer} came before it and is newer")]
    Superseded { rollout: Digest, newer: Digest },
}

impl Advise for SignError {
    fn exit(&self) -> Exit {
        match self {
            Self::NoSuchWave { .. } => Exit::Usage,
            _ => Exit::Error,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::OtherService { .. } => {
                Some("name the service's own file by --config PATH/swell.toml".to_owned())
            }
            Self::NoDeploy { env, there, .. } if there.is_empty() => Some(format!(
                "add it, for instance: [deploy.{env}] with strategy = \"all-at-once\""
            )),
            Self::NoDeploy { there, .. } => {
                let there = planning::list(there);
                Some(format!("it has one for {there}: name that by --env, or add it"))
            }
            Self::NeverThere { service, version, env } => Some(format!(
                "swell history {service} --env {env} shows where it was; to bring a version that \
                 was never there: swell deploy {service} {version} --env {env}"
            )),
            Self::NeverStable { service, version, env } => Some(format!(
                "every host would run it at once, without a bake; to try it by waves: \
                 swell deploy {service} {version} --env {env}, or swell retry if it was stopped"
            )),
            Self::NotNewest { scope, .. } => Some(format!("swell status; or name it by {scope}")),
            Self::Superseded { newer, .. } => Some(format!(
                "swell explain {newer} shows what is in force; if yours is still wanted, deploy again"
            )),
            Self::NotInForce { rollout, .. } => Some(format!("swell explain {rollout}")),
            Self::Closed { rollout, scope: Scope { service, env }, is, .. } => Some(match is {
                RolloutPhase::Complete => {
                    format!("swell rollback {service} --env {env} --reason TEXT")
                }
                RolloutPhase::Expired => format!("deploy again, or swell abort {rollout}"),
                _ => format!("swell explain {rollout}; to try it again: swell retry {rollout}"),
            }),
            Self::NoRelease { .. } | Self::AllOpen { .. } | Self::NoSuchWave { .. } => None,
        }
    }
}

// --- plan, deploy, adopt ---

/// # Errors
///
/// Whatever keeps it from being planned, as of all below.
pub(crate) async fn plan(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    args: PlanArgs,
) -> Result<Exit, Failure> {
    let written = read(&args.goal.config, &args.goal.service, &args.goal.env)?;
    let planned =
        planned_forward(home, client, key, &args.goal, &written, "", planning::forward).await?;
    output::print(args.json, &planned, || render::plan::plan(&planned));
    Ok(Exit::Done)
}

pub(crate) async fn deploy(
    home: &Home,
    client: &mut Client,
    key: &SigningKey,
    args: DeployArgs,
) -> Result<Exit, Failure> {
    let written = read(&args.goal.config, &args.goal.service, &args.goal.env)?;
    let DeployArgs { goal, reason, sign: how } = &args;
    let planned =
        planned_forward(home, client, key, goal, &written, reason, planning::forward).await?;
    let GoalArgs { service, version, env, .. } = goal;
    let question = format!("sign this and deploy {service} {version} to {env}");
    sign(home, client, key, &planned, &question, how).await
}

pub(crate) async fn adopt(
    home: &Home,
    client: &mut Client,
    key: &SigningKey,
    args: AdoptArgs,
) -> Result<Exit, Failure> {
    let written = read(&args.goal.config, &args.goal.service, &args.goal.env)?;
    let AdoptArgs { goal, reason, sign: how } = &args;
    let planned =
        planned_forward(home, client, key, goal, &written, reason, planning::adopt).await?;
    let GoalArgs { service, version, env, .. } = goal;
    let question = format!("sign this and adopt what runs of {service} in {env} as {version}");
    sign(home, client, key, &planned, &question, how).await
}

/// How a release is planned for: [`planning::forward`], [`planning::adopt`].
type Planner = fn(
    &Intent<'_>,
    &Facts,
    &(Digest, Release),
    &Deploy,
) -> Result<Planned, planning::PlanningError>;

/// What `swell.toml` says of a rollout to one environment.
pub(crate) struct Written {
    pub(crate) deploy: Deploy,
    /// As the next release would be published: a rollout takes what its own was published with.
    run: Run,
    health: Health,
}

impl Written {
    /// That the release was published with other settings than are written now, if so.
    pub(crate) fn note(&self, release: &Release) -> Option<String> {
        let parts =
            [(self.run != release.run, "[run]"), (self.health != release.health, "[health]")];
        let differ: Vec<_> =
            parts.iter().filter(|(differs, _)| *differs).map(|(_, part)| *part).collect();
        let (parts, version) = (differ.join(" and "), &release.version);
        (!differ.is_empty()).then(|| {
            format!("{parts} of the file: not what {version} was published with, which counts")
        })
    }
}

/// What the file that describes this service says, with its `[deploy.ENV]`.
///
/// # Errors
///
/// The file's, or that it is about something else.
pub(crate) fn read(config: &Path, service: &Service, env: &Env) -> Result<Written, Failure> {
    let SwellToml { service: described, mut deploy, run, health } =
        swell_toml::load(Some(config), &[])?;
    let config = config.to_owned();
    if described != *service {
        return Err(SignError::OtherService { config, described, service: service.clone() }.into());
    }
    let Some(here) = deploy.remove(env) else {
        let there = deploy.into_keys().collect();
        return Err(SignError::NoDeploy { config, env: env.clone(), there }.into());
    };
    Ok(Written { deploy: here, run, health })
}

async fn planned_forward(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    goal: &GoalArgs,
    written: &Written,
    reason: &str,
    plan: Planner,
) -> Result<Planned, Failure> {
    let GoalArgs { service, version, env, .. } = goal;
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let release = release(client, &mut knowledge, service, version).await?;
    let facts = scope(client, &mut knowledge, service, env).await?;
    let intent = intent(home, env, key, reason);
    let mut planned = plan(&intent, &facts, &release, &written.deploy)?;
    planned.notes.extend(written.note(&release.1));
    retry::pass_or_refuse(client, &knowledge, &facts, &mut planned).await?;
    planned.notes.extend(windows::notes(&facts, &planned.rollout));
    Ok(planned)
}

pub(crate) fn intent<'a>(
    home: &'a Home,
    env: &'a Env,
    key: &SigningKey,
    reason: &str,
) -> Intent<'a> {
    let author = KeyId::of(&PublicKey::of(key));
    Intent { root: &home.root, env, author, reason: reason.to_owned(), now: home::now() }
}

async fn release(
    client: &Client,
    knowledge: &mut Knowledge<'_>,
    service: &Service,
    version: &Version,
) -> Result<(Digest, Release), Failure> {
    let request = ControlRequest::Release { service: service.clone(), version: version.clone() };
    let envelope = client.envelope("find the release", &request).await?;
    Ok(knowledge.release(envelope, service, Some(version)).await?)
}

/// Where a scope stands.
///
/// # Errors
///
/// There is no answer, or one that is not believed; as of all below.
pub(crate) async fn scope(
    client: &Client,
    knowledge: &mut Knowledge<'_>,
    service: &Service,
    env: &Env,
) -> Result<Facts, Failure> {
    let scope = Scope { service: service.clone(), env: env.clone() };
    let facts = client.scope(&scope).await?;
    Ok(knowledge.scope(&scope, facts).await?)
}

/// Shows the plan, asks, signs, hands it in, and watches where that is wanted.
pub(crate) async fn sign(
    home: &Home,
    client: &mut Client,
    key: &SigningKey,
    planned: &Planned,
    question: &str,
    args: &SignArgs,
) -> Result<Exit, Failure> {
    output::write(&render::plan::plan(planned));
    ask::confirm(question, args.yes)?;
    let envelope = planned.rollout.signed(key);
    let submitted = submit(client, "hand in the rollout", &envelope).await?;
    let id = submitted.id;
    if args.watch {
        return watch::by_id(home, client, key, id, args.timeout).await;
    }
    if submitted.effective {
        let follow = client.member.hint(&format!("to follow it: swell watch {id}"));
        output::write(&format!(
            "{follow}\nonce two hosts hold it, it goes on without the coordinator\n"
        ));
    }
    Ok(submitted.exit())
}

/// A statement that was taken in.
pub(crate) struct Submitted {
    pub(crate) id: Digest,
    /// Else signatures are missing, and it changes nothing yet.
    pub(crate) effective: bool,
}

impl Submitted {
    pub(crate) const fn exit(&self) -> Exit {
        match self.effective {
            true => Exit::Done,
            false => Exit::Held,
        }
    }
}

/// Hands in a signed statement and says what came of it.
///
/// # Errors
///
/// It is not taken in, or it is a rollout that a newer one was faster than.
pub(crate) async fn submit(
    client: &Client,
    what: &'static str,
    envelope: &Envelope,
) -> Result<Submitted, Failure> {
    let request = ControlRequest::Submit { envelope: envelope.to_bytes() };
    let reply = client.ask(what, &request).await?;
    let ControlReply::Submitted { id, effective, superseded_by, note } = reply else {
        return Err(client.unexpected(what).into());
    };
    if let Some(newer) = superseded_by {
        return Err(SignError::Superseded { rollout: id, newer }.into());
    }
    let note = render::plain(&note);
    let text = match (effective, note.is_empty()) {
        (true, true) => format!("{} is in force\n", name(envelope, &id)),
        (true, false) => format!("{} is in force: {note}\n", name(envelope, &id)),
        (false, _) => format!(
            "{} waits for signatures: {note}\n  next: somebody who may: swell approve {}\n",
            name(envelope, &id),
            approve::name(envelope, &id)
        ),
    };
    output::write(&client.member.hint(&text));
    Ok(Submitted { id, effective })
}

fn name(envelope: &Envelope, id: &Digest) -> String {
    let kind = proto::statement::Kind::of(envelope.payload_type());
    format!("{} {id}", kind.map_or("statement", proto::statement::Kind::name))
}

// --- rollback ---

pub(crate) async fn rollback(
    home: &Home,
    client: &mut Client,
    key: &SigningKey,
    args: RollbackArgs,
) -> Result<Exit, Failure> {
    let RollbackArgs { service, env, to, reason, sign: how } = args;
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let facts = scope(client, &mut knowledge, &service, &env).await?;
    let version = match to {
        Some(version) => version,
        None => planning::version_before(&facts, &service, &env)?.version,
    };
    let (id, release) = release(client, &mut knowledge, &service, &version).await?;
    let scope = Scope { service: service.clone(), env: env.clone() };
    if !knowledge.was_there(&scope, &id) {
        return Err(SignError::NeverThere { service, version, env }.into());
    }
    let intent = intent(home, &env, key, &reason);
    let planned = planning::back(&intent, &facts, &(id, release))?;
    if facts.head.as_ref().is_some_and(|(newest, _)| !knowledge.was_stable(newest, &id)) {
        return Err(SignError::NeverStable { service, version, env }.into());
    }
    let question = format!("sign this and take {service} in {env} back to {version}");
    sign(home, client, key, &planned, &question, &how).await
}

// --- directives ---

pub(crate) async fn direct(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    action: Action,
    args: DirectArgs,
) -> Result<Exit, Failure> {
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let found = find(client, &mut knowledge, &args.rollout).await?;
    if let Some(text) = directive::needless(&found.report, &found.rollout, action)? {
        output::write(&text);
        return Ok(Exit::Done);
    }
    hand_in(client, knowledge, key, &found, (action, None, args.reason)).await
}

pub(crate) async fn promote(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    args: PromoteArgs,
) -> Result<Exit, Failure> {
    let PromoteArgs { direct, wave } = args;
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let found = find(client, &mut knowledge, &direct.rollout).await?;
    directive::needless(&found.report, &found.rollout, Action::Promote)?;
    let wave = wave_to_open(&found.report, wave)?;
    hand_in(client, knowledge, key, &found, (Action::Promote, Some(wave), direct.reason)).await
}

/// The wave to open, 0 first; `asked`: as people count, 1 first.
fn wave_to_open(report: &RolloutReport, asked: Option<u32>) -> Result<u32, SignError> {
    let (rollout, waves) = (report.id, report.waves.len());
    match asked {
        Some(wave) if wave as usize <= waves => Ok(wave - 1),
        Some(wave) => Err(SignError::NoSuchWave { rollout, wave, waves }),
        None => report.first_closed().ok_or(SignError::AllOpen { rollout }),
    }
}

/// The rollout that is meant, as it stands and as it was signed.
pub(crate) struct Found {
    pub(crate) report: RolloutReport,
    pub(crate) verified: Verified,
    pub(crate) rollout: Rollout,
}

pub(crate) async fn find(
    client: &Client,
    knowledge: &mut Knowledge<'_>,
    which: &RolloutRef,
) -> Result<Found, Failure> {
    let report = client.rollout(which.query()).await?;
    let (verified, rollout) = knowledge.rollout(report.id).await?;
    // What is signed next is about this one: it must be the one that was named.
    if !which.means(&report.id, &rollout.scope()) {
        return Err(knowledge.other("the rollout").into());
    }
    Ok(Found { report, verified, rollout })
}

/// The newest sequence of directives about a rollout, which is in force and the newest of its scope: no
/// other is directed.
///
/// # Errors
///
/// [`SignError`]: it is neither; or nobody answers.
pub(crate) async fn newest_sequence(
    client: &Client,
    knowledge: &mut Knowledge<'_>,
    Found { report, verified, rollout }: &Found,
) -> Result<u64, Failure> {
    let (id, scope) = (report.id, rollout.scope());
    if let Standing::Pending { missing } = &verified.standing {
        return Err(SignError::NotInForce { rollout: id, missing: missing.clone() }.into());
    }
    let facts = client.scope(&scope).await?;
    let facts = knowledge.scope(&scope, facts).await?;
    match facts.head {
        Some((newest, _)) if newest != id => {
            Err(SignError::NotNewest { rollout: id, scope, newest }.into())
        }
        _ => Ok(facts.directive_sequence),
    }
}

async fn hand_in(
    client: &Client,
    mut knowledge: Knowledge<'_>,
    key: &SigningKey,
    found: &Found,
    (action, wave, reason): (Action, Option<u32>, String),
) -> Result<Exit, Failure> {
    let sequence = newest_sequence(client, &mut knowledge, found).await?;
    let Found { report, rollout, .. } = found;
    let id = report.id;
    let directive = Directive {
        fleet: rollout.fleet.clone(),
        rollout: id,
        sequence: sequence_after(sequence),
        action,
        wave,
        host: None,
        author: KeyId::of(&PublicKey::of(key)),
        created: home::now(),
        reason,
        critical: Vec::new(),
    };
    let envelope = directive.signed(key);
    let submitted = submit(client, "hand in the directive", &envelope).await?;
    let title = render::rollout::title(report);
    let mut text = format!("  about rollout {id}: {title}; to follow it: swell watch {id}\n");
    if submitted.effective {
        text.push_str(&directive::meaning(report, rollout, action, wave));
    }
    output::write(&client.member.hint(&text));
    Ok(submitted.exit())
}

/// The sequence after the highest there is, as a member says. One that lies can use the sequences
/// up, and then an abort is all that still counts: it wins over what has the same sequence (R6).
pub(crate) fn sequence_after(highest: u64) -> u64 {
    highest.saturating_add(1).min(COUNTER_MAX)
}

#[cfg(test)]
mod tests {
    use proto::receipt::State;

    use super::*;
    use crate::render::sample::{rollout, standing};

    #[test]
    fn r6_however_high_a_member_says_the_sequence_is_an_abort_can_be_signed() {
        assert_eq!(sequence_after(0), 1);
        for highest in [COUNTER_MAX - 1, COUNTER_MAX, u64::MAX] {
            assert_eq!(sequence_after(highest), COUNTER_MAX);
        }
    }

    #[test]
    fn promote_opens_the_first_wave_that_is_not_open_or_the_one_asked_for() {
        let report = rollout(
            RolloutPhase::Running,
            vec![
                standing(0, 0, Some(State::Baking)),
                standing(1, 1, Some(State::Staged)),
                standing(2, 2, None),
            ],
        );
        assert_eq!(wave_to_open(&report, None).unwrap(), 1);
        assert_eq!(wave_to_open(&report, Some(3)).unwrap(), 2);
        let error = wave_to_open(&report, Some(4)).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().ends_with("has 3 wave(s), there is no wave 4"), "{error}");
        let mut open = report;
        open.waves.iter_mut().for_each(|wave| wave.open = true);
        assert!(matches!(wave_to_open(&open, None), Err(SignError::AllOpen { .. })));
    }
}
