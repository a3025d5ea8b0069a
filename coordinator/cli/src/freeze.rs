//! `freeze`, `unfreeze` and the holding of one host: nothing new starts for a time (R6).
//!
//! A freeze is signed over those that are known of its target: it replaces them, so that it can also
//! end them earlier. People win over the coordinator at the same sequence, but one that was not heard
//! of here may be ahead: whoever takes the new one in says so.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use proto::id::{Env, HostId, KeyId, Name};
use proto::key::PublicKey;
use proto::report::FleetReport;
use proto::statement::{FREEZE_S_MAX, Freeze, Payload as _, UnixTime};

use crate::args::{FreezeArgs, UnfreezeArgs};
use crate::client::{ANSWER_TIMEOUT, Client};
use crate::failure::{Advise, Exit, Failure};
use crate::home::{self, Home};
use crate::knowledge::Knowledge;
use crate::planning::PlanningError;
use crate::{output, sign, span};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FreezeError {
    #[error("{target} is not {}: there is nothing to lift", target.state())]
    NotFrozen { target: Target },
    #[error("cannot keep {target} {} until {until} UTC: that is in the past", target.state())]
    Past { target: Target, until: UnixTime },
    #[error(
        "cannot keep {target} {} until {} UTC: it must end within {} days from now",
        target.state(),
        until,
        FREEZE_S_MAX / 86_400
    )]
    Until { target: Target, until: UnixTime },
}

impl Advise for FreezeError {
    fn exit(&self) -> Exit {
        match self {
            Self::NotFrozen { .. } => Exit::Error,
            Self::Past { .. } | Self::Until { .. } => Exit::Usage,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::NotFrozen { .. } => {
                Some("swell status shows what is frozen and which hosts are held".to_owned())
            }
            Self::Past { .. } => Some("times are in UTC; date -u shows the time now".to_owned()),
            Self::Until { .. } => None,
        }
    }
}

/// What is frozen: an environment, or one host of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) env: Env,
    pub(crate) host: Option<(HostId, Name)>,
}

impl Target {
    fn id(&self) -> Option<&HostId> {
        self.host.as_ref().map(|(id, _)| id)
    }

    const fn state(&self) -> &'static str {
        match self.host {
            Some(_) => "held",
            None => "frozen",
        }
    }

    /// The command that ends it.
    fn lift(&self) -> String {
        match &self.host {
            Some((_, name)) => format!("swell host hold {name} --lift"),
            None => format!("swell unfreeze --env {}", self.env),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Some((_, name)) => write!(f, "host {name}"),
            None => write!(f, "{}", self.env),
        }
    }
}

/// Until when: as long as it says from `now`, or the moment it says. One of them is given.
pub(crate) fn end(now: UnixTime, span: Option<Duration>, until: Option<UnixTime>) -> UnixTime {
    until.unwrap_or_else(|| now.plus_s(span.map_or(0, |span| span.as_secs())))
}

// --- commands ---

/// # Errors
///
/// Whatever keeps it from being signed, as of all below.
pub(crate) async fn freeze(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    args: FreezeArgs,
) -> Result<Exit, Failure> {
    let FreezeArgs { env, span, until, reason } = args;
    let until = end(home::now(), span, until);
    let target = environment(home, env)?;
    let report = client.fleet(ANSWER_TIMEOUT).await?;
    put(home, client, key, &report, (target, Some(until), reason)).await
}

pub(crate) async fn unfreeze(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    args: UnfreezeArgs,
) -> Result<Exit, Failure> {
    let UnfreezeArgs { env, reason } = args;
    let target = environment(home, env)?;
    let report = client.fleet(ANSWER_TIMEOUT).await?;
    put(home, client, key, &report, (target, None, reason)).await
}

fn environment(home: &Home, env: Env) -> Result<Target, PlanningError> {
    let known = &home.root.environments;
    match known.contains_key(&env) {
        true => Ok(Target { env, host: None }),
        false => Err(PlanningError::NoEnv {
            env,
            fleet: home.root.fleet.clone(),
            known: known.keys().cloned().collect(),
        }),
    }
}

/// Signs that nothing new starts at `target` until a time, or, without one, that this is over.
pub(crate) async fn put(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    report: &FleetReport,
    (target, until, reason): (Target, Option<UnixTime>, String),
) -> Result<Exit, Failure> {
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let own = report.freezes.iter().filter(|known| known.env == target.env);
    // One by people and one by the coordinator: there are no more of one target.
    for known in own.filter(|known| known.host.as_ref() == target.id()).take(2) {
        knowledge.freeze(known.statement).await?;
    }
    let now = home::now();
    let (env, host) = (&target.env, target.id());
    let before = knowledge.chain.freeze(env, host).map(|(_, freeze)| freeze.until);
    let before = before.filter(|until| *until > now);
    match until {
        Some(until) if until <= now => return Err(FreezeError::Past { target, until }.into()),
        Some(until) if until > now.plus_s(FREEZE_S_MAX) => {
            return Err(FreezeError::Until { target, until }.into());
        }
        _ => {}
    }
    if until.is_none() && before.is_none() {
        return Err(FreezeError::NotFrozen { target }.into());
    }
    let freeze = Freeze {
        fleet: home.root.fleet.clone(),
        env: env.clone(),
        host: host.cloned(),
        sequence: sign::sequence_after(knowledge.chain.freeze_sequence(env, host)),
        until: until.unwrap_or(now),
        author: KeyId::of(&PublicKey::of(key)),
        created: now,
        reason,
        critical: Vec::new(),
    };
    let envelope = freeze.signed(key);
    let submitted = sign::submit(client, "hand in the freeze", &envelope).await?;
    if submitted.effective {
        output::write(&client.member.hint(&said(&target, until, before, now)));
    }
    Ok(submitted.exit())
}

/// What follows from it. `before`: until when it was frozen already.
fn said(
    target: &Target,
    until: Option<UnixTime>,
    before: Option<UnixTime>,
    now: UnixTime,
) -> String {
    let state = target.state();
    let Some(until) = until else {
        return format!("{target} is no longer {state}: what waits goes on\n");
    };
    let mut text = format!(
        "{target} is {state} for {}, until {} UTC: nothing new starts there, also not by promote; \
         what runs stays, rollbacks, aborts and ways back go on\n",
        span::show(until.0.saturating_sub(now.0)),
        until,
    );
    if let Some(before) = before {
        text.push_str(&format!("  before, it was {state} until {before} UTC\n"));
    }
    text.push_str(&format!("  to end it: {}\n", target.lift()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_said_with_the_way_to_end_it() {
        let now = UnixTime(1_800_000_000);
        let env = Target { env: "production".parse().unwrap(), host: None };
        let host = ("aaaaaaaaaaaa".parse().unwrap(), "n1".parse().unwrap());
        let host = Target { host: Some(host), ..env.clone() };
        assert_eq!(
            said(&env, Some(now.plus_s(7_200)), Some(now.plus_s(60)), now),
            "production is frozen for 2 h, until 2027-01-15 10:00:00 UTC: nothing new starts there, \
             also not by promote; what runs stays, rollbacks, aborts and ways back go on\n  before, \
             it was frozen until 2027-01-15 08:01:00 UTC\n  to end it: swell unfreeze --env \
             production\n"
        );
        let text = said(&host, Some(now.plus_s(60)), None, now);
        assert!(text.starts_with("host n1 is held for 1 min, until "), "{text}");
        assert!(text.ends_with("\n  to end it: swell host hold n1 --lift\n"), "{text}");
        let lifted = said(&host, None, None, now);
        assert_eq!(lifted, "host n1 is no longer held: what waits goes on\n");
    }
}
