//! `host hold` and `host remove`, and how a person names a host.

use ed25519_dalek::SigningKey;
use proto::id::{Env, HostId, KeyId, Name};
use proto::key::PublicKey;
use proto::near;
use proto::report::{FleetReport, RemovalReport};
use proto::statement::{Payload as _, Revocation};

use crate::args::{HoldArgs, RemoveArgs};
use crate::client::{ANSWER_TIMEOUT, Client};
use crate::failure::{Advise, Exit, Failure};
use crate::freeze::{self, Target};
use crate::home::{self, Home};
use crate::knowledge::Knowledge;
use crate::sign;
use crate::{ask, output, render};

/// Why nothing was signed about a host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("there is no host {called:?}")]
    Unknown {
        called: String,
        /// What may have been meant.
        advice: String,
    },
    #[error("several hosts are called {called:?}: {}", ids.join(", "))]
    Ambiguous { called: String, ids: Vec<String> },
    #[error("host {name} ({id}) has no label env, so it is in no environment")]
    NoEnv { name: Name, id: HostId },
    #[error("host {name} ({id}) was removed: there is nothing to hold")]
    Removed { name: Name, id: HostId },
}

impl Advise for HostError {
    fn exit(&self) -> Exit {
        match self {
            Self::Unknown { .. } | Self::Ambiguous { .. } => Exit::Usage,
            Self::NoEnv { .. } | Self::Removed { .. } => Exit::Error,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::Unknown { advice, .. } => Some(format!("{advice}; swell hosts shows them all")),
            Self::Ambiguous { .. } => Some("give the id".to_owned()),
            Self::NoEnv { .. } => None,
            Self::Removed { .. } => Some("swell hosts shows which hosts there are".to_owned()),
        }
    }
}

/// A host that somebody named: what it is, as it was signed, and how it is seen.
pub(crate) struct Named {
    pub(crate) id: HostId,
    pub(crate) name: Name,
    pub(crate) env: Env,
    pub(crate) alive: bool,
    pub(crate) removed: Option<RemovalReport>,
}

/// The host that is called so. A member that told of another one's name or id is not believed: what
/// is signed next is about this host.
///
/// # Errors
///
/// There is none or no one of that name, or its statement says something else.
pub(crate) async fn find(
    knowledge: &mut Knowledge<'_>,
    report: &FleetReport,
    called: &str,
) -> Result<Named, Failure> {
    let seen = one_of(&report.hosts, called, |host| (&host.id, &host.name))?;
    let host = knowledge.host_of(&seen.id).await?;
    if !is_called(&host.id, &host.name, called) {
        return Err(knowledge.other("a host").into());
    }
    let Some(env) = host.env() else {
        return Err(HostError::NoEnv { name: host.name, id: host.id }.into());
    };
    let (alive, removed) = (seen.alive, seen.removed.clone());
    Ok(Named { id: host.id, name: host.name, env, alive, removed })
}

/// The one of these that has this name or id.
///
/// # Errors
///
/// [`HostError`]: none, or several of that name.
pub(crate) fn one_of<'a, T>(
    hosts: &'a [T],
    called: &str,
    words: impl Fn(&T) -> (&HostId, &Name),
) -> Result<&'a T, HostError> {
    let is_it = |host: &&T| {
        let (id, name) = words(host);
        is_called(id, name, called)
    };
    let found: Vec<_> = hosts.iter().filter(is_it).collect();
    let called = called.to_owned();
    match found[..] {
        [] => {
            let names = hosts.iter().map(|host| words(host).1.as_str());
            let advice = near::advice(&called, names);
            Err(HostError::Unknown { called, advice })
        }
        [host] => Ok(host),
        _ => {
            let ids = found.iter().map(|host| words(host).0.to_string()).collect();
            Err(HostError::Ambiguous { called, ids })
        }
    }
}

fn is_called(id: &HostId, name: &Name, called: &str) -> bool {
    id.as_str() == called || name.as_str() == called
}

// --- commands ---

/// # Errors
///
/// Whatever keeps it from being signed, as of all below.
pub(crate) async fn hold(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    args: HoldArgs,
) -> Result<Exit, Failure> {
    let HoldArgs { host, span, until, lift, reason } = args;
    let until = (!lift).then(|| freeze::end(home::now(), span, until));
    let report = client.fleet(ANSWER_TIMEOUT).await?;
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let Named { id, name, env, removed, .. } = find(&mut knowledge, &report, &host).await?;
    if removed.is_some() && !lift {
        return Err(HostError::Removed { name, id }.into());
    }
    let target = Target { env, host: Some((id, name)) };
    freeze::put(home, client, key, &report, (target, until, reason.unwrap_or_default())).await
}

pub(crate) async fn remove(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    args: RemoveArgs,
) -> Result<Exit, Failure> {
    let RemoveArgs { host, reason, yes } = args;
    let report = client.fleet(ANSWER_TIMEOUT).await?;
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let host = find(&mut knowledge, &report, &host).await?;
    if let Some(removed) = &host.removed {
        output::write(&format!("{}\n", already(&host, removed)));
        return Ok(Exit::Done);
    }
    output::write(&meaning(&host));
    let question = format!("remove host {} from the fleet for ever", host.name);
    ask::confirm_by_name(&question, host.name.as_str(), yes)?;
    let removal = Revocation {
        fleet: home.root.fleet.clone(),
        env: host.env,
        host: host.id,
        author: KeyId::of(&PublicKey::of(key)),
        created: home::now(),
        reason,
        critical: Vec::new(),
    };
    let envelope = removal.signed(key);
    let submitted = sign::submit(client, "hand in the removal", &envelope).await?;
    if submitted.effective {
        output::write(&format!("host {} is removed\n", host.name));
    }
    Ok(submitted.exit())
}

fn already(host: &Named, removed: &RemovalReport) -> String {
    let reason = render::plain(&removed.reason);
    format!("host {} was removed already, by {}: {reason}", host.name, removed.by)
}

fn meaning(host: &Named) -> String {
    let Named { id, name, env, alive, .. } = host;
    let seen = if *alive { "it is alive" } else { "it is not heard of" };
    format!(
        "host {name} ({id}) of {env}; {seen}\n  this is for ever: its key is let in nowhere, no plan \
         takes it in, open rollouts of {env} do not wait for it\n  a service that runs there keeps \
         running, and nothing takes it back: stop it there\n  a machine that is to come back wipes \
         its agent's state and joins anew: swell token create --label env={env}\n"
    )
}

#[cfg(test)]
mod tests {
    use proto::report::{HostReport, RolloutPhase};

    use super::*;
    use crate::render::sample;

    fn report() -> FleetReport {
        sample::fleet(sample::rollout(RolloutPhase::Running, Vec::new()))
    }

    #[test]
    fn a_host_is_meant_by_its_name_or_id() {
        let mut hosts = report().hosts;
        let find = |hosts: &[HostReport], called: &str| {
            one_of(hosts, called, |host| (&host.id, &host.name)).map(|host| host.id.clone())
        };
        for called in ["n2", "bbbbbbbbbbbb"] {
            assert_eq!(find(&hosts, called).unwrap(), sample::host_id(1), "{called}");
        }
        let error = find(&hosts, "n").unwrap_err();
        assert_eq!(
            (error.to_string(), error.exit()),
            ("there is no host \"n\"".into(), Exit::Usage)
        );
        hosts[1].name = hosts[0].name.clone();
        let expected = "several hosts are called \"n1\": aaaaaaaaaaaa, bbbbbbbbbbbb";
        assert_eq!(find(&hosts, "n1").unwrap_err().to_string(), expected);
    }

    #[test]
    fn what_a_removal_means_is_said_before_it_is_signed() {
        let host = Named {
            id: sample::host_id(0),
            name: "n1".parse().unwrap(),
            env: "production".parse().unwrap(),
            alive: true,
            removed: None,
        };
        let text = meaning(&host);
        for part in ["it is alive", "for ever", "keeps running", "swell token create --label env="]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
