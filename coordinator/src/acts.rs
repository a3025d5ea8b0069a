//! What the coordinator signs by itself, for people who are signed in (R3): a pause, an abort, a freeze of
//! a day at most, a rollback to what the last rollout came from. Everything else needs a person's key.
//!
//! Each says in its reason who asked, since its author is the coordinator's key; the audit record names
//! the person as the actor. Members decide by the statement alone: what this module would let through by
//! mistake, they refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use member::clock;
use proto::dsse::Envelope;
use proto::id::{Digest, Env, HostId, KeyId, Name, Scope, Version};
use proto::key::PublicKey;
use proto::report::{Fitness, RolloutPhase, RolloutReport};
use proto::statement::{
    Action, COORDINATOR_FREEZE_S_MAX, COORDINATOR_SEQUENCE_MAX, COUNTER_MAX, CohortHost, Direction,
    Directive, Freeze, OnFailure, Payload as _, REASON_BYTES_MAX, RULES, Rollout, Share, Statement,
    Target,
};
use proto::trust::{Refusal, verify};
use proto::wire::{ControlReply, ControlRequest, Refused, RefusedKind, RolloutQuery, ScopeFacts};
use rollout::fleet::names::known_env;
use rollout::fleet::refused;
use rollout::plan::{self, Candidate, EXPIRES_S, Times};
use tracing::info;

use crate::access::Visitor;
use crate::audit::{Act, act_of};
use crate::desk::{Desk, blocking, out_of_order};

/// What makes the fleet more careful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Careful {
    /// Of a rollout: no host starts anything new.
    Pause(Digest),
    /// Of a rollout: it ends, and hosts go back as its `on_failure` says.
    Abort(Digest),
    /// Of a scope: every host goes back to what the newest rollout came from. `of`: only if that is this
    /// one still, as whoever asks has seen it; none: whichever it is.
    RollBack { scope: Scope, of: Option<Digest> },
    /// Of an environment: nothing new starts for so many seconds.
    Freeze { env: Env, lasts_s: u64 },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acted {
    /// The statement that was signed.
    pub statement: Digest,
    /// The rollout that it is, or is about; none: a freeze.
    pub rollout: Option<Digest>,
    /// What else there is to know; may be empty.
    pub note: String,
}

/// A rollback that nobody has signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayBack {
    pub rollout: Rollout,
    pub times: Times,
    /// Names of the hosts that go back, in their order.
    pub hosts: Vec<Name>,
    /// How many take part beside them that serve it already.
    pub there: usize,
    /// Those that are left out, and why.
    pub left_out: Vec<(Name, Fitness)>,
}

impl Careful {
    const fn name(&self) -> &'static str {
        match self {
            Self::Pause(_) => "pause",
            Self::Abort(_) => "abort",
            Self::RollBack { .. } => "roll back",
            Self::Freeze { .. } => "freeze",
        }
    }
}

pub(crate) fn no(kind: RefusedKind, reason: String, next: impl Into<String>) -> Refused {
    Refused { kind, reason, next: next.into() }
}

impl Desk {
    /// Signs what a visitor asks for, and takes it in. What was begun is done, whether or not anybody
    /// waits for it still: a phone that loses its network has aborted, or has not.
    ///
    /// # Errors
    ///
    /// [`Refused`]: this visitor may not, the reason is none, there is nothing to do it to, or the
    /// fleet's rules refuse it. Nothing was changed.
    pub async fn act(
        self: &Arc<Self>,
        visitor: &Visitor,
        careful: Careful,
        reason: &str,
    ) -> Result<Acted, Refused> {
        let (desk, visitor, reason) = (self.clone(), visitor.clone(), reason.to_owned());
        let acting =
            tokio::spawn(async move { desk.act_in_turn(&visitor, &careful, &reason).await });
        acting.await.map_err(|error| out_of_order("do it", &error))?
    }

    async fn act_in_turn(
        self: &Arc<Self>,
        visitor: &Visitor,
        careful: &Careful,
        reason: &str,
    ) -> Result<Acted, Refused> {
        self.refuse_other(visitor, careful)?;
        let reason = full_reason(visitor, reason)?;
        let _turn = self.taking_in.lock().await;
        let (envelope, rollout) = match careful {
            Careful::Pause(id) => (self.directive(id, Action::Pause, reason).await?, Some(*id)),
            Careful::Abort(id) => (self.directive(id, Action::Abort, reason).await?, Some(*id)),
            Careful::RollBack { scope, of } => {
                let way = self.way_back(scope, *of, reason).await?;
                (way.rollout.signed(&self.admit_key), None)
            }
            Careful::Freeze { env, lasts_s } => (self.freeze(env, *lasts_s, reason)?, None),
        };
        let acted = self.take_in(envelope, visitor).await?;
        info!(by = %visitor, act = careful.name(), statement = %acted.0, "the coordinator signed");
        let rolls_back = matches!(careful, Careful::RollBack { .. });
        let rollout = rollout.or_else(|| rolls_back.then_some(acted.0));
        Ok(Acted { statement: acted.0, rollout, note: acted.1 })
    }

    /// Whether this visitor may have it done.
    ///
    /// # Errors
    ///
    /// [`Refused`]: not there, or there is nothing to do it to.
    pub fn refuse_other(&self, visitor: &Visitor, careful: &Careful) -> Result<(), Refused> {
        let env = self.env_of(careful)?;
        match visitor.acts_in(&env) {
            true => Ok(()),
            false => Err(no(
                RefusedKind::Forbidden,
                format!("{visitor} may not {} in {env}", careful.name()),
                format!("swell login --role operator, with a key that has the role deploy:{env}"),
            )),
        }
    }

    /// The rollback of a scope that the coordinator may sign, as it would be now. `of`: as in
    /// [`Careful::RollBack`].
    ///
    /// # Errors
    ///
    /// [`Refused`]: there is nothing to go back to, it is not the rollout that was meant, or only a
    /// person may say so.
    pub async fn way_back(
        self: &Arc<Self>,
        scope: &Scope,
        of: Option<Digest>,
        reason: String,
    ) -> Result<WayBack, Refused> {
        let (desk, scope) = (self.clone(), scope.clone());
        // Thousands of statements of hosts are read for it.
        let plan = move || match desk.view.answer(&ControlRequest::Scope(scope.clone())) {
            Some(ControlReply::Scope(facts)) => desk.plan_back(&scope, of, &facts, reason),
            Some(ControlReply::Refused(refused)) => Err(refused),
            _ => Err(no(RefusedKind::NotFound, format!("there is no {scope} here"), "")),
        };
        blocking("plan the way back", plan).await?
    }

    fn env_of(&self, careful: &Careful) -> Result<Env, Refused> {
        match careful {
            Careful::Pause(id) | Careful::Abort(id) => {
                let chain = self.member.ledger.chain();
                let rollout = chain.rollout(id);
                rollout.map(|rollout| rollout.env.clone()).ok_or_else(|| {
                    let reason = format!("there is no rollout {id} that is in force");
                    no(RefusedKind::NotFound, reason, "swell status")
                })
            }
            Careful::RollBack { scope, .. } => Ok(scope.env.clone()),
            Careful::Freeze { env, .. } => Ok(env.clone()),
        }
    }

    fn author(&self) -> KeyId {
        KeyId::of(&PublicKey::of(&self.admit_key))
    }

    async fn directive(
        &self,
        id: &Digest,
        action: Action,
        reason: String,
    ) -> Result<Envelope, Refused> {
        let report = self.report(id).await?;
        refuse_needless(&report, action)?;
        let chain = self.member.ledger.chain();
        // People can always go past it; an abort wins over whatever they said, with any number.
        let held = chain.directive(id).map_or(0, |(_, held)| held.sequence);
        let sequence = held.saturating_add(1).min(COORDINATOR_SEQUENCE_MAX);
        let directive = Directive {
            fleet: chain.fleet().clone(),
            rollout: *id,
            sequence,
            action,
            wave: None,
            host: None,
            author: self.author(),
            created: clock::unix(),
            reason,
            critical: Vec::new(),
        };
        Ok(directive.signed(&self.admit_key))
    }

    pub(crate) async fn report(&self, id: &Digest) -> Result<RolloutReport, Refused> {
        let query = ControlRequest::Rollout(RolloutQuery::Id(format!("{id:#}")));
        let view = self.view.clone();
        match blocking("look at the rollout", move || view.answer(&query)).await? {
            Some(ControlReply::Rollout(report)) => Ok(*report),
            Some(ControlReply::Refused(refused)) => Err(refused),
            _ => Err(no(RefusedKind::NotFound, format!("there is no rollout {id}"), "")),
        }
    }

    fn freeze(&self, env: &Env, lasts_s: u64, reason: String) -> Result<Envelope, Refused> {
        if !(60..=COORDINATOR_FREEZE_S_MAX).contains(&lasts_s) {
            let reason =
                format!("a freeze of {lasts_s} s: must be 60 to {COORDINATOR_FREEZE_S_MAX}");
            let next = format!("for longer: swell freeze --env {env} --for TIME --reason TEXT");
            return Err(no(RefusedKind::Invalid, reason, next));
        }
        let (chain, now) = (self.member.ledger.chain(), clock::unix());
        known_env(&chain, env)?;
        let freeze = Freeze {
            fleet: chain.fleet().clone(),
            env: env.clone(),
            host: None,
            sequence: chain.freeze_sequence(env, None).saturating_add(1).min(COUNTER_MAX),
            until: now.plus_s(lasts_s),
            author: self.author(),
            created: now,
            reason,
            critical: Vec::new(),
        };
        Ok(freeze.signed(&self.admit_key))
    }

    fn plan_back(
        &self,
        scope: &Scope,
        of: Option<Digest>,
        facts: &ScopeFacts,
        reason: String,
    ) -> Result<WayBack, Refused> {
        let chain = self.member.ledger.chain();
        let Scope { service, env } = scope;
        let head = chain.head(scope).map(|head| head.rollout);
        let newest = head.and_then(|id| Some((id, chain.rollout(&id)?)));
        let (id, newest) = newest.ok_or_else(|| {
            no(RefusedKind::NotFound, format!("nothing was ever rolled out of {scope}"), "")
        })?;
        if let Some(of) = of.filter(|of| *of != id) {
            let reason = format!(
                "rollout {of} is not the newest of {scope} any more: that is {id}, to {}",
                newest.to.version
            );
            return Err(no(RefusedKind::Conflict, reason, "look at that one, then decide again"));
        }
        let to = back_to(scope, &id, newest)?;
        let policy = chain.root().environments.get(env);
        if !policy.is_some_and(|policy| policy.coordinator_may_roll_back) {
            return Err(refused(&Refusal::CoordinatorMayNotRollBack(env.clone())));
        }
        let (hosts, serves) = hosts_of(facts);
        let strategy = plan::rollback_strategy(&hosts);
        let whole = Share::Percent(100.0);
        let plan = plan::plan(&hosts, &strategy, Direction::Rollback, whole, &to.release).map_err(
            |error| no(RefusedKind::Conflict, format!("no rollback of {scope}: {error}"), ""),
        )?;
        let now = clock::unix();
        let mut rollout = Rollout {
            fleet: chain.fleet().clone(),
            service: service.clone(),
            env: env.clone(),
            epoch: newest.epoch + 1,
            previous: Some(id),
            from: Some(newest.to.clone()),
            to,
            direction: Direction::Rollback,
            rules: RULES,
            cohort: plan.cohort.clone(),
            waves: plan.waves.clone(),
            max_unavailable: plan.max_unavailable,
            in_flight_max: plan.in_flight_max,
            windows: Vec::new(),
            limits: None,
            retry: false,
            adopt: false,
            on_failure: OnFailure::Pause,
            approvals: 0,
            created: now,
            expires: now,
            author: self.author(),
            reason,
            critical: Vec::new(),
        };
        rollout.critical = rollout.careful_fields();
        let times = plan::times(&rollout);
        rollout.expires = now.plus_s(times.promote_s + EXPIRES_S);
        let names = hosts.iter().map(|candidate| (&candidate.host.id, &candidate.host.name));
        let names: BTreeMap<_, _> = names.collect();
        let left_out = plan.left_out.iter();
        let left_out = left_out.filter_map(|out| Some(((*names.get(&out.host)?).clone(), out.why)));
        let there = those_on(&rollout.to.version, &hosts, &serves);
        let (moves, there) = who_moves(&rollout.cohort, &there, &names);
        refuse_nothing(scope, facts, &moves, &rollout.to)?;
        Ok(WayBack { left_out: left_out.collect(), rollout, times, hosts: moves, there })
    }

    /// Judges the statement, records the act, then takes it in: nothing that has an effect lacks its
    /// entry, and nothing that is refused has one.
    async fn take_in(
        &self,
        envelope: Envelope,
        visitor: &Visitor,
    ) -> Result<(Digest, String), Refused> {
        let (ledger, bytes) = (&self.member.ledger, envelope.to_bytes());
        // Something may have come by gossip since it was planned.
        if let Some(refused) = member::refuse_submitted(ledger, &bytes) {
            return Err(refused);
        }
        let chain = ledger.chain();
        let verified = verify(&chain, &bytes, clock::unix());
        let verified = verified.map_err(|refusal| refused(&refusal))?;
        let by = format!("access {}", visitor.access.id);
        let act = act_of(chain.root(), &verified.envelope, &verified.statement, "act", &by);
        // The coordinator's key signed; who asked is who did it.
        let act = Act { actor: visitor.to_string(), ..act };
        drop(chain);
        match self.admit(Some(act), bytes).await? {
            ControlReply::Submitted { id, note, .. } => Ok((id, note)),
            _ => Err(no(RefusedKind::Invalid, "the statement was not taken".to_owned(), "")),
        }
    }
}

/// The names of the hosts of a way back that do not serve yet what it leads to, as far as that is known; and
/// how many do. `there`: all that do.
fn who_moves(
    cohort: &[CohortHost],
    there: &BTreeSet<&HostId>,
    names: &BTreeMap<&HostId, &Name>,
) -> (Vec<Name>, usize) {
    let (there, moves): (Vec<_>, Vec<_>) = cohort.iter().partition(|host| there.contains(&host.id));
    let named = moves.iter().filter_map(|host| names.get(&host.id));
    (named.map(|name| (*name).clone()).collect(), there.len())
}

/// Of a rollout that was stopped and has gone back nothing is left to take back. Before its end somebody
/// may well want to go back where nobody has gone forward yet.
fn refuse_nothing(
    scope: &Scope,
    facts: &ScopeFacts,
    moves: &[Name],
    to: &Target,
) -> Result<(), Refused> {
    // A host that is silent, or that nobody waits for, may still have it.
    let all_back = facts.report.as_ref().is_some_and(RolloutReport::has_all_gone_back);
    if !all_back || !moves.is_empty() {
        return Ok(());
    }
    let reason = format!(
        "every host of {scope} that can take part serves {} already: there is nothing to take back",
        to.version
    );
    Err(no(RefusedKind::Conflict, reason, ""))
}

/// Where the coordinator may take a scope back to by itself.
fn back_to(scope: &Scope, id: &Digest, newest: &Rollout) -> Result<Target, Refused> {
    let Scope { service, env } = scope;
    let by_hand = format!("swell rollback {service} --env {env} --to VERSION --reason TEXT");
    match (&newest.from, newest.direction) {
        (Some(from), Direction::Forward) => Ok(from.clone()),
        (_, Direction::Rollback) => Err(no(
            RefusedKind::Conflict,
            format!("the newest rollout of {scope}, {id}, is a rollback itself"),
            by_hand,
        )),
        (None, Direction::Forward) => Err(no(
            RefusedKind::Conflict,
            format!("the newest rollout of {scope}, {id}, was the first: nothing was there before"),
            "abort it, if it goes on",
        )),
    }
}

fn refuse_needless(report: &RolloutReport, action: Action) -> Result<(), Refused> {
    use RolloutPhase as P;
    let (id, scope) = (report.id, format!("{}/{}", report.service, report.env));
    let ended = |how: &str, next: &str| {
        Err(no(RefusedKind::Conflict, format!("rollout {id} of {scope} is {how}"), next))
    };
    match (report.phase, action) {
        (P::Aborted, _) => ended("aborted already", ""),
        (P::Halted, Action::Pause) => ended("halted: nothing starts any more", ""),
        (P::Paused, Action::Pause) => ended("paused already", ""),
        (P::Complete, _) => ended("complete", "roll back instead"),
        (P::Superseded, _) => ended("superseded: a newer one took over", ""),
        (P::Expired, Action::Pause) => ended("expired: nothing starts any more", ""),
        _ => Ok(()),
    }
}

/// The reason as it is signed: with who asked, for the author is the coordinator.
fn full_reason(visitor: &Visitor, reason: &str) -> Result<String, Refused> {
    match reason.trim() {
        "" => {
            Err(no(RefusedKind::Invalid, "no reason is given".to_owned(), "say why, in one line"))
        }
        reason => checked_reason(&format!("{visitor}: {reason}")),
    }
}

/// A reason that a statement may carry.
pub(crate) fn checked_reason(reason: &str) -> Result<String, Refused> {
    let reason = reason.trim();
    let bad = |why: String| Err(no(RefusedKind::Invalid, why, "say why, in one line"));
    match reason.len() {
        bytes if bytes > REASON_BYTES_MAX => {
            bad(format!("the reason has {bytes} bytes: at most {REASON_BYTES_MAX}"))
        }
        _ if reason.chars().any(char::is_control) => bad("the reason has several lines".to_owned()),
        _ => Ok(reason.to_owned()),
    }
}

/// The hosts of a scope, and what each of them serves, as far as that is known.
fn hosts_of(facts: &ScopeFacts) -> (Vec<Candidate>, Vec<Option<&Version>>) {
    let hosts = facts.hosts.iter();
    hosts.filter_map(|host| Some((candidate(host)?, host.serves.as_ref()))).unzip()
}

/// The hosts that serve a version; `serves`: what each does.
fn those_on<'a>(
    version: &Version,
    hosts: &'a [Candidate],
    serves: &[Option<&Version>],
) -> BTreeSet<&'a HostId> {
    let there = hosts.iter().zip(serves).filter(|(_, serves)| **serves == Some(version));
    there.map(|(candidate, _)| &candidate.host.id).collect()
}

fn candidate(host: &proto::wire::ScopeHost) -> Option<Candidate> {
    // It stands in our own ledger, verified.
    let envelope = Envelope::parse(&host.envelope, usize::MAX).ok()?;
    match Statement::parse(&envelope).ok()? {
        Statement::Host(statement) => Some(Candidate { host: statement, fitness: host.fitness }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use proto::wire::ScopeHost;

    use super::*;

    /// `silent`: hosts that had it and are not heard.
    fn facts(phase: &str, silent: u32, serve: [Option<&str>; 2]) -> (ScopeFacts, Vec<CohortHost>) {
        let back = serde_json::json!({
            "state": "rolled-back", "back": 1, "going": 0, "keep": 0, "stuck": 0, "silent": silent,
        });
        let back = (phase != "running").then_some(back);
        let report = serde_json::json!({
            "id": "ab".repeat(32), "service": "web", "env": "production", "epoch": 7,
            "from": "1.0.0", "to": "2.0.0", "direction": "forward", "author": "ada",
            "reason": "", "created": 1, "expires": 2, "phase": phase, "held": false,
            "ended": null, "why": "", "self_supporting": true, "waves": [], "hosts": [], "back": back,
        });
        let (mut hosts, mut cohort) = (Vec::new(), Vec::new());
        for (seed, version) in (1..).zip(serve) {
            let key = PublicKey::of(&SigningKey::from_bytes(&[seed; 32]));
            let host = proto::statement::Host {
                fleet: "test-00000000".parse().unwrap(),
                id: HostId::of(&key),
                key,
                name: format!("n{seed}").parse().unwrap(),
                labels: BTreeMap::new(),
                issued: proto::UnixTime(1),
                critical: Vec::new(),
            };
            cohort.push(CohortHost { id: host.id.clone(), key, zone: host.zone() });
            let (envelope, fitness) = (host.envelope().to_bytes(), Fitness::Fit);
            let serves = version.map(|version| version.parse().unwrap());
            hosts.push(ScopeHost { envelope, fitness, serves });
        }
        let facts = ScopeFacts {
            rollout: None,
            report: Some(serde_json::from_value(report).unwrap()),
            stable: None,
            hosts,
            directive_sequence: 0,
            history: Vec::new(),
            stopped: Vec::new(),
            freezes: Vec::new(),
            scopes: 1,
        };
        (facts, cohort)
    }

    /// Whoever presses the button at 3 a.m. is told that it is over; before its end it is a way to stop it.
    #[test]
    fn r12_where_every_host_is_back_there_is_nothing_to_take_back() {
        let scope = Scope { service: "web".parse().unwrap(), env: "production".parse().unwrap() };
        let to = Target { release: Digest::of(b"1"), version: "1.0.0".parse().unwrap() };
        for (phase, silent, serve, moves, refused) in [
            ("halted", 0, [Some("1.0.0"), Some("1.0.0")], &[][..], true),
            ("aborted", 0, [Some("1.0.0"), Some("1.0.0")], &[], true),
            // It may still have it, and follows the rollback once it is heard.
            ("halted", 1, [Some("1.0.0"), Some("1.0.0")], &[], false),
            ("halted", 0, [Some("1.0.0"), Some("2.0.0")], &["n2"], false),
            ("halted", 0, [None, Some("1.0.0")], &["n1"], false),
            ("running", 0, [Some("1.0.0"), Some("1.0.0")], &[], false),
        ] {
            let (facts, cohort) = facts(phase, silent, serve);
            let (hosts, serves) = hosts_of(&facts);
            let names = hosts.iter().map(|one| (&one.host.id, &one.host.name)).collect();
            let (found, there) =
                who_moves(&cohort, &those_on(&to.version, &hosts, &serves), &names);
            assert_eq!(found.iter().map(Name::as_str).collect::<Vec<_>>(), moves, "{phase}");
            assert_eq!(there, 2 - moves.len());
            let told = refuse_nothing(&scope, &facts, &found, &to);
            let kind = told.as_ref().err().map(|refused| refused.kind);
            assert_eq!(kind, refused.then_some(RefusedKind::Conflict), "{phase}: {told:?}");
        }
    }
}
