//! Judging one envelope: what it is, who signed it, whether that suffices, whether it fits in.

use super::chain::{order, strength};
use super::signers::{Author, Opened, Signers, standing};
use super::{Chain, FUTURE_S_MAX, Refusal, Standing, Verified, rollout};
use crate::id::Digest;
use crate::statement::{
    Action, COORDINATOR_FREEZE_S_MAX, COORDINATOR_SEQUENCE_MAX, Directive, Freeze, Release,
    Revocation, Role, Root, Statement, UnixTime,
};

/// Judges an envelope by the newest root. `now` is the member's wall clock; see
/// [`Chain::now_floor`].
///
/// Expiry, of a rollout or of the root, is no reason to refuse: a host that comes late needs the
/// standing intent. Whether something new may start is another question: [`Chain::may_start`].
///
/// # Errors
///
/// [`Refusal`], in the order size, envelope, kind, any valid signature by a key of the root,
/// payload, fleet, roles: a payload is read only once somebody known has signed it, so that what a
/// stranger sends costs little. Then comes what the statement says.
pub fn verify(chain: &Chain, bytes: &[u8], now: UnixTime) -> Result<Verified, Refusal> {
    judge(chain, chain.root(), bytes, now)
}

/// As [`verify`], by an earlier root of the chain: for what this member itself has kept as
/// effective, under the version of the root by which it was so when it was learned, and for nothing
/// that arrives. (A key that was removed since has still signed what it signed.)
///
/// # Errors
///
/// As [`verify`], and [`Refusal::NoSuchRoot`].
pub fn verify_by_root(
    chain: &Chain,
    bytes: &[u8],
    version: u32,
    now: UnixTime,
) -> Result<Verified, Refusal> {
    let (_, root) = chain.root_of(version).ok_or(Refusal::NoSuchRoot(version))?;
    judge(chain, root, bytes, now)
}

fn judge(chain: &Chain, root: &Root, bytes: &[u8], now: UnixTime) -> Result<Verified, Refusal> {
    let mut opened = Opened::new(bytes)?;
    let known = opened.signers(root);
    if known.is_empty() {
        return Err(Refusal::NotSigned { kind: opened.kind });
    }
    let statement = opened.statement()?;
    if statement.fleet() != chain.fleet() {
        let (got, expected) = (statement.fleet().clone(), chain.fleet().clone());
        return Err(Refusal::WrongFleet { kind: opened.kind, got, expected });
    }
    if let Some(created) = acted_on(&statement) {
        not_from_the_future(chain, created, now)?;
    }
    let mut superseded_by = None;
    let standing = match &statement {
        Statement::Root(new) => judge_root(chain, &mut opened, new)?,
        Statement::Host(_) => {
            let signers = known.among(&[Role::HostCa])?;
            opened.keep(&[&signers]);
            standing(signers.missing(&Role::HostCa))
        }
        Statement::Release(release) => {
            let signers = known.among(&[Role::Publish, Role::Admit])?;
            opened.keep(&[&signers]);
            judge_release(chain, &signers, opened.id, release)?
        }
        Statement::Rollout(rollout) => {
            let signers = known.among(&rollout::roles(rollout))?;
            opened.keep(&[&signers]);
            superseded_by = rollout::superseder(chain, rollout);
            rollout::judge(chain, &signers, opened.id, rollout)?
        }
        Statement::Directive(directive) => judge_directive(chain, &known, &mut opened, directive)?,
        Statement::Freeze(freeze) => judge_freeze(chain, &known, &mut opened, freeze)?,
        Statement::Revocation(removal) => judge_revocation(&known, &mut opened, removal)?,
    };
    let Opened { id, envelope, .. } = opened;
    Ok(Verified { id, statement, envelope, standing, superseded_by })
}

/// When it says it was made, where anything follows from that. Of directives and removals nothing
/// does, and a host whose clock has lost its time must hear of an abort all the same (R8).
fn acted_on(statement: &Statement) -> Option<UnixTime> {
    match statement {
        Statement::Root(_) | Statement::Directive(_) | Statement::Revocation(_) => None,
        Statement::Host(host) => Some(host.issued),
        Statement::Release(release) => Some(release.created),
        Statement::Rollout(rollout) => Some(rollout.created),
        Statement::Freeze(freeze) => Some(freeze.created),
    }
}

fn not_from_the_future(chain: &Chain, created: UnixTime, now: UnixTime) -> Result<(), Refusal> {
    let newest = chain.believed(now);
    match created > newest.plus_s(FUTURE_S_MAX) {
        true => Err(Refusal::FromTheFuture { created, newest }),
        false => Ok(()),
    }
}

/// The first root: the pin says that it is the one, and its own threshold has signed it.
pub(super) fn judge_genesis(bytes: &[u8], pinned: Digest) -> Result<(Digest, Root), Refusal> {
    let opened = Opened::new(bytes)?;
    if opened.id != pinned {
        return Err(Refusal::GenesisPin { got: opened.id, pinned });
    }
    let Statement::Root(root) = opened.statement()? else {
        return Err(Refusal::GenesisKind { kind: opened.kind });
    };
    if root.version != 1 {
        return Err(Refusal::GenesisVersion(root.version));
    }
    match opened.signers(&root).missing(&Role::Root) {
        None => Ok((opened.id, root)),
        Some(missing) => Err(Refusal::GenesisUnsigned { missing }),
    }
}

/// Version N+1, signed by the thresholds of N and of N+1 (R2).
fn judge_root(chain: &Chain, opened: &mut Opened, new: &Root) -> Result<Standing, Refusal> {
    let held = chain.root();
    let known = chain.root_of(new.version).map(|(id, _)| id);
    match known {
        Some(known) if known != opened.id => {
            return Err(Refusal::RootFork { version: new.version, known });
        }
        None if new.version - 1 != held.version => {
            return Err(Refusal::RootVersion { got: new.version, held: held.version });
        }
        _ => {}
    }
    // The root before it; for the first, itself. What a root says of its own keys is no reason to
    // keep it: one that is known before must sign.
    let before = chain.root_of(new.version - 1).map_or(new, |(_, root)| root);
    let by_old = opened.signers(before).among(&[Role::Root])?;
    let by_new = opened.signers(new);
    let by_new = by_new.among(&[Role::Root]).ok();
    opened.keep(&Vec::from_iter([Some(&by_old), by_new.as_ref()].into_iter().flatten()));
    if known.is_some() {
        return Ok(Standing::Effective);
    }
    let of_old = by_old.missing(&Role::Root);
    let of_new = match &by_new {
        Some(signers) => signers.missing(&Role::Root),
        None => Some("no signature of root".to_owned()),
    };
    let lacking = [(of_old, before.version), (of_new, new.version)];
    Ok(standing(lacking.into_iter().filter_map(|(missing, version)| {
        missing.map(|missing| format!("{missing} as of version {version}"))
    })))
}

/// The publisher and the coordinator both sign, and a version has one digest for ever (R3).
fn judge_release(
    chain: &Chain,
    signers: &Signers<'_>,
    id: Digest,
    release: &Release,
) -> Result<Standing, Refusal> {
    match chain.release_of(&release.service, &release.version) {
        Some((known, _)) if known == id => Ok(Standing::Effective),
        Some((known, _)) => Err(Refusal::SecondDigest {
            service: release.service.clone(),
            version: release.version.clone(),
            known,
        }),
        None => {
            let missing = [Role::Publish, Role::Admit].map(|role| signers.missing(&role));
            Ok(standing(missing.into_iter().flatten()))
        }
    }
}

/// The people of the rollout's environment, or the emergency's; the coordinator alone only for
/// what makes the fleet more careful (R3, R6).
fn judge_directive(
    chain: &Chain,
    known: &Signers<'_>,
    opened: &mut Opened,
    directive: &Directive,
) -> Result<Standing, Refusal> {
    let careful = matches!(directive.action, Action::Pause | Action::Abort);
    // Somebody who may direct some rollout must have signed before another statement is asked for.
    let roles = known.root.roles.keys();
    let directs = |role: &&Role| match role {
        Role::Deploy(_) | Role::Emergency => true,
        Role::Admit => careful,
        Role::Root | Role::Publish | Role::Approve(_) | Role::HostCa => false,
    };
    known.among(&Vec::from_iter(roles.filter(directs).cloned()))?;
    let rollout = chain.rollout(&directive.rollout).ok_or(Refusal::Needs(directive.rollout))?;
    let deploys = Role::Deploy(rollout.env.clone());
    let mut roles = vec![deploys.clone(), Role::Emergency];
    roles.extend(careful.then_some(Role::Admit));
    let signers = known.among(&roles)?;
    opened.keep(&[&signers]);
    let by = signers.author(&directive.author, &roles[..2], careful)?;
    if by == Author::Coordinator && directive.sequence > COORDINATOR_SEQUENCE_MAX {
        return Err(Refusal::CoordinatorSequence { got: directive.sequence });
    }
    if let Some(wave) = directive.wave
        && wave as usize >= rollout.waves.len()
    {
        return Err(Refusal::NoSuchWave { wave, waves: rollout.waves.len() });
    }
    if let Some(host) = &directive.host {
        if rollout.rank_of(host).is_none() {
            return Err(Refusal::NotInCohort { host: host.clone() });
        }
    } else if let Some((id, held)) = chain.directive(&directive.rollout) {
        if id == opened.id {
            return Ok(Standing::Effective);
        }
        if strength(directive, opened.id) < strength(held, id) {
            let (sequence, action) = (held.sequence, held.action);
            return Err(match action {
                Action::Abort => Refusal::Aborted,
                _ => Refusal::DirectiveTooOld { got: directive.sequence, sequence, action },
            });
        }
    }
    Ok(standing(match by {
        Author::Person => signers.missing_for(&deploys),
        Author::Coordinator => signers.missing(&Role::Admit),
    }))
}

/// The people of the environment, or the emergency's; the coordinator alone for a day, and never to
/// lift anything (R3).
fn judge_freeze(
    chain: &Chain,
    known: &Signers<'_>,
    opened: &mut Opened,
    freeze: &Freeze,
) -> Result<Standing, Refusal> {
    let deploys = Role::Deploy(freeze.env.clone());
    let people = [deploys.clone(), Role::Emergency];
    let signers = known.among(&[&people[..], &[Role::Admit]].concat())?;
    opened.keep(&[&signers]);
    if !known.root.environments.contains_key(&freeze.env) {
        return Err(Refusal::UnknownEnv(freeze.env.clone()));
    }
    let by = signers.author(&freeze.author, &people, true)?;
    let lasts_s = freeze.until.0.saturating_sub(freeze.created.0);
    if by == Author::Coordinator && (freeze.lifts() || lasts_s > COORDINATOR_FREEZE_S_MAX) {
        return Err(Refusal::CoordinatorFreeze);
    }
    if let Some((id, held)) = chain.rival_of(freeze) {
        if *id == opened.id {
            return Ok(Standing::Effective);
        }
        if order(freeze, opened.id) < order(held, *id) {
            return Err(Refusal::FreezeTooOld { got: freeze.sequence, sequence: held.sequence });
        }
    }
    Ok(standing(match by {
        Author::Person => signers.missing_for(&deploys),
        Author::Coordinator => signers.missing(&Role::Admit),
    }))
}

/// The people of the environment, or the emergency's: who removes hosts changes what budgets are
/// counted over.
fn judge_revocation(
    known: &Signers<'_>,
    opened: &mut Opened,
    removal: &Revocation,
) -> Result<Standing, Refusal> {
    let deploys = Role::Deploy(removal.env.clone());
    let people = [deploys.clone(), Role::Emergency];
    let signers = known.among(&people)?;
    opened.keep(&[&signers]);
    if !known.root.environments.contains_key(&removal.env) {
        return Err(Refusal::UnknownEnv(removal.env.clone()));
    }
    signers.author(&removal.author, &people, false)?;
    Ok(standing(signers.missing_for(&deploys)))
}
