//! `approve`: one more signature over a rollout, or over any other statement that waits for some.

use ed25519_dalek::SigningKey;
use proto::dsse::Envelope;
use proto::id::{Digest, HostId, KeyId};
use proto::key::PublicKey;
use proto::report::StandingReport;
use proto::statement::{Kind, Statement};
use proto::trust::{Standing, Verified};

use crate::args::{ApproveArgs, RolloutRef};
use crate::client::Client;
use crate::failure::{Advise, Exit, Failure};
use crate::home::Home;
use crate::knowledge::Knowledge;
use crate::planning::Planned;
use crate::sign::{self, Found};
use crate::{ask, directive, output, render};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApproveError {
    #[error("the release of rollout {id} is not known")]
    NoRelease { id: Digest },
    #[error("cannot approve {} {id}: it is by this very key", kind.name())]
    Own { kind: Kind, id: Digest },
    #[error("{} {id} is in force: it waits for no signature", kind.name())]
    InForce { kind: Kind, id: Digest },
    #[error("cannot approve {id}: it is a {}", kind.name())]
    Kind { kind: Kind, id: Digest },
}

impl Advise for ApproveError {
    fn next(&self) -> Option<String> {
        match self {
            Self::Own { .. } => Some("somebody else who may sign it must do it".to_owned()),
            Self::Kind { .. } => {
                Some("rollouts, directives, freezes and removals are approved".to_owned())
            }
            Self::NoRelease { .. } | Self::InForce { .. } => None,
        }
    }
}

/// How to name a statement to `approve`: a rollout by the start of its id, what no member looks up by
/// that in full.
pub(crate) fn name(envelope: &Envelope, id: &Digest) -> String {
    match Kind::of(envelope.payload_type()) {
        Some(Kind::Rollout) => format!("{id}"),
        _ => format!("{id:#}"),
    }
}

/// # Errors
///
/// Whatever keeps it from being signed, as of all below.
pub(crate) async fn approve(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    args: ApproveArgs,
) -> Result<Exit, Failure> {
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let full = match &args.statement {
        RolloutRef::Id(id) => id.parse::<Digest>().ok(),
        RolloutRef::Scope(_) => None,
    };
    let envelope = match full {
        Some(id) => {
            let verified = knowledge.statement(id).await?;
            match verified.statement.kind() {
                Kind::Rollout => rollout(home, client, knowledge, key, &args).await?,
                _ => other(&knowledge, key, verified, args.yes)?,
            }
        }
        None => rollout(home, client, knowledge, key, &args).await?,
    };
    Ok(sign::submit(client, "approve", &envelope).await?.exit())
}

/// One more signature over the payload as it was received, to the byte.
fn signed_too(mut envelope: Envelope, key: &SigningKey) -> Envelope {
    envelope.retain_signatures(|_| false);
    envelope.sign(key);
    envelope
}

/// The approval of a rollout, once the plan was shown again.
async fn rollout(
    home: &Home,
    client: &Client,
    mut knowledge: Knowledge<'_>,
    key: &SigningKey,
    args: &ApproveArgs,
) -> Result<Envelope, Failure> {
    let Found { report, verified, rollout } =
        sign::find(client, &mut knowledge, &args.statement).await?;
    let (id, scope) = (report.id, rollout.scope());
    if rollout.author == KeyId::of(&PublicKey::of(key)) {
        return Err(ApproveError::Own { kind: Kind::Rollout, id }.into());
    }
    let release = knowledge.chain.release(&rollout.to.release);
    let artifact = release.map(|release| release.artifact).ok_or(ApproveError::NoRelease { id })?;
    let name = |host: &StandingReport| (host.host.clone(), host.name.clone());
    let names = report.hosts.iter().map(name).collect();
    let policy = home.root.environments.get(&rollout.env).cloned().unwrap_or_default();
    let planned = Planned::of(rollout, artifact, names, policy);
    output::write(&render::plan::plan(&planned));
    output::write(&format!(
        "  by        {}: {}\n  stands    {}\n",
        report.author,
        render::plain(&planned.rollout.reason),
        render::plain(&report.why)
    ));
    ask::confirm(&format!("approve rollout {id} of {scope}"), args.yes)?;
    Ok(signed_too(verified.envelope, key))
}

/// The signature over a directive, a freeze or a removal that lacks some.
fn other(
    knowledge: &Knowledge<'_>,
    key: &SigningKey,
    verified: Verified,
    yes: bool,
) -> Result<Envelope, Failure> {
    let Verified { id, statement, envelope, standing, .. } = verified;
    let kind = statement.kind();
    let Some((author, reason, text)) = said(&statement) else {
        return Err(ApproveError::Kind { kind, id }.into());
    };
    let own = PublicKey::of(key);
    if envelope.signed_by(&own) {
        return Err(ApproveError::Own { kind, id }.into());
    }
    let Standing::Pending { missing } = standing else {
        return Err(ApproveError::InForce { kind, id }.into());
    };
    let entry = knowledge.chain.root().keys.get(author);
    let by = entry.map_or_else(|| author.to_string(), |entry| entry.owner.to_string());
    output::write(&format!(
        "{} {id}: {text}\n  by        {by}: {}\n  stands    {missing}\n",
        kind.name(),
        render::plain(reason)
    ));
    ask::confirm(&format!("approve this {}", kind.name()), yes)?;
    Ok(signed_too(envelope, key))
}

/// Who says it, why, and what; none: it is none of those that people of an environment sign.
pub(crate) fn said(statement: &Statement) -> Option<(&KeyId, &str, String)> {
    let on = |host: &Option<HostId>| {
        host.as_ref().map_or_else(String::new, |host| format!(", host {host}"))
    };
    match statement {
        Statement::Directive(directive) => {
            let wave = directive.wave.map(|wave| format!(", wave {}", wave.saturating_add(1)));
            let text = format!(
                "{} rollout {}{}{}",
                directive::verb(directive.action),
                directive.rollout,
                wave.unwrap_or_default(),
                on(&directive.host)
            );
            Some((&directive.author, &directive.reason, text))
        }
        Statement::Freeze(freeze) => {
            let (env, until) = (&freeze.env, freeze.until);
            let text = match freeze.lifts() {
                true => {
                    format!("what kept anything from starting in {env}{} ends", on(&freeze.host))
                }
                false => {
                    format!("nothing new starts in {env}{} until {until} UTC", on(&freeze.host))
                }
            };
            Some((&freeze.author, &freeze.reason, text))
        }
        Statement::Revocation(removal) => {
            let text = format!("host {} is removed from {}, for ever", removal.host, removal.env);
            Some((&removal.author, &removal.reason, text))
        }
        Statement::Root(_) | Statement::Host(_) | Statement::Release(_) | Statement::Rollout(_) => {
            None
        }
    }
}
