//! Judging one envelope: what it is, who signed it, whether that suffices, whether it fits in.

use std::collections::BTreeSet;

use super::chain::strength;
use super::{Chain, EMERGENCY_EPOCHS_MAX, FUTURE_S_MAX, Refusal, Standing, Verified};
use crate::dsse::{Envelope, pae};
use crate::id::{Digest, KeyId};
use crate::statement::{
    Action, Direction, Directive, ENVELOPE_BYTES_MAX, Kind, Policy, Release, Role, Rollout, Root,
    Statement, Target, UnixTime,
};

/// Judges an envelope by the newest root. `now` is the member's wall clock; see
/// [`Chain::now_floor`].
///
/// Expiry, of a rollout or of the root, is no reason to refuse: a host that comes late needs the
/// standing intent. Whether something new may start is [`Chain::may_start`]'s to say.
///
/// # Errors
///
/// [`Refusal`]; in the order size, envelope, kind, payload, fleet, signatures, so that what a
/// stranger sends costs little, then what the statement says.
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
    let mut opened = open(bytes)?;
    if opened.statement.fleet() != chain.fleet() {
        return Err(Refusal::WrongFleet {
            kind: opened.statement.kind(),
            got: opened.statement.fleet().clone(),
            expected: chain.fleet().clone(),
        });
    }
    let statement = opened.statement.clone();
    let mut superseded_by = None;
    let standing = match &statement {
        Statement::Root(new) => judge_root(chain, root, &mut opened, new)?,
        Statement::Host(host) => {
            let signers = opened.keep_signers(root, &[Role::HostCa])?;
            not_from_the_future(chain, host.issued, now)?;
            standing(signers.missing(&Role::HostCa))
        }
        Statement::Release(release) => {
            let signers = opened.keep_signers(root, &[Role::Publish, Role::Admit])?;
            not_from_the_future(chain, release.created, now)?;
            judge_release(chain, &signers, opened.id, release)?
        }
        Statement::Rollout(rollout) => {
            let signers = opened.keep_signers(root, &roles_of_rollout(rollout))?;
            not_from_the_future(chain, rollout.created, now)?;
            superseded_by = superseder(chain, rollout);
            judge_rollout(chain, &signers, opened.id, rollout)?
        }
        Statement::Directive(directive) => {
            judge_directive(chain, root, &mut opened, directive, now)?
        }
    };
    let Opened { id, envelope, .. } = opened;
    Ok(Verified { id, statement, envelope, standing, superseded_by })
}

// --- envelope and signatures ---

/// A parsed envelope, and what its signatures are over.
struct Opened {
    id: Digest,
    envelope: Envelope,
    statement: Statement,
    message: Vec<u8>,
}

fn open(bytes: &[u8]) -> Result<Opened, Refusal> {
    let envelope = Envelope::parse(bytes, ENVELOPE_BYTES_MAX)?;
    if let Some(kind) = Kind::of(envelope.payload_type())
        && bytes.len() > kind.envelope_bytes_max()
    {
        let max = kind.envelope_bytes_max();
        return Err(Refusal::TooLong { kind, got: bytes.len(), max });
    }
    let statement = Statement::parse(&envelope)?;
    let message = pae(envelope.payload_type(), envelope.payload());
    Ok(Opened { id: Digest::of(&message), envelope, statement, message })
}

impl Opened {
    /// The keys of `root` with one of `roles` that have signed this.
    fn signers<'r>(&self, root: &'r Root, roles: &[Role]) -> Signers<'r> {
        let fitting = |id: &KeyId| roles.iter().any(|role| holds(root, role, id));
        Signers { root, keys: self.signed_by(root, fitting) }
    }

    fn signed_by(&self, root: &Root, fitting: impl Fn(&KeyId) -> bool) -> BTreeSet<KeyId> {
        let signatures = self.envelope.signatures().iter();
        let verified = signatures.filter(|(id, signature)| {
            fitting(id)
                && root
                    .keys
                    .get(*id)
                    .is_some_and(|entry| entry.key.verifies(&self.message, signature))
        });
        verified.map(|(id, _)| id.clone()).collect()
    }

    /// As [`Self::signers`], at least one of them; all other signatures are dropped.
    fn keep_signers<'r>(&mut self, root: &'r Root, roles: &[Role]) -> Result<Signers<'r>, Refusal> {
        let signers = self.signers(root, roles);
        if signers.keys.is_empty() {
            return Err(self.nobody_fitting(root, roles));
        }
        self.envelope.retain_signatures(|id| signers.keys.contains(id));
        Ok(signers)
    }

    fn nobody_fitting(&self, root: &Root, roles: &[Role]) -> Refusal {
        let kind = self.statement.kind();
        let needs = names(roles);
        match self.signed_by(root, |_| true).first() {
            Some(key) => Refusal::NotThisRole {
                kind,
                key: key.clone(),
                owner: root.keys[key].owner.clone(),
                needs,
            },
            None => Refusal::NotSigned { kind, needs },
        }
    }
}

/// Keys of a root whose signatures on a statement verify.
struct Signers<'r> {
    root: &'r Root,
    keys: BTreeSet<KeyId>,
}

impl Signers<'_> {
    fn with(&self, role: &Role) -> usize {
        self.keys.iter().filter(|key| holds(self.root, role, key)).count()
    }

    /// What the role's threshold lacks; a role that nobody holds lacks its first key for ever.
    fn missing(&self, role: &Role) -> Option<String> {
        let signed = self.with(role);
        match self.root.roles.get(role).map(|role| usize::from(role.threshold)) {
            Some(threshold) if signed >= threshold => None,
            Some(threshold) => Some(format!("{signed} of {threshold} signatures of {role}")),
            None => Some(format!("nobody holds {role}")),
        }
    }

    /// Keys that approve (R3): neither of the author, by key or by name, nor the coordinator's.
    fn approvals(&self, rollout: &Rollout) -> usize {
        let role = Role::Approve(rollout.env.clone());
        let owner = |key: &KeyId| self.root.keys.get(key).map(|entry| &entry.owner);
        let author = owner(&rollout.author);
        let counts = |key: &&KeyId| {
            **key != rollout.author
                && owner(key) != author
                && holds(self.root, &role, key)
                && !holds(self.root, &Role::Admit, key)
        };
        self.keys.iter().filter(counts).count()
    }
}

fn holds(root: &Root, role: &Role, key: &KeyId) -> bool {
    root.roles.get(role).is_some_and(|holders| holders.keys.contains(key))
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// Effective if nothing is missing.
fn standing(missing: impl IntoIterator<Item = String>) -> Standing {
    let missing: Vec<_> = missing.into_iter().collect();
    match missing.is_empty() {
        true => Standing::Effective,
        false => Standing::Pending { missing: missing.join(", ") },
    }
}

fn not_from_the_future(chain: &Chain, created: UnixTime, now: UnixTime) -> Result<(), Refusal> {
    let newest = now.max(chain.now_floor());
    if created > newest.plus_s(FUTURE_S_MAX) {
        return Err(Refusal::FromTheFuture { created, newest });
    }
    Ok(())
}

// --- root ---

/// The first root: its own threshold signs it, and the pin says that it is the one.
pub(super) fn judge_genesis(bytes: &[u8], pinned: Digest) -> Result<(Digest, Root), Refusal> {
    let mut opened = open(bytes)?;
    let Statement::Root(root) = opened.statement.clone() else {
        return Err(Refusal::GenesisKind { kind: opened.statement.kind() });
    };
    if opened.id != pinned {
        return Err(Refusal::GenesisPin { got: opened.id, pinned });
    }
    if root.version != 1 {
        return Err(Refusal::GenesisVersion(root.version));
    }
    match opened.keep_signers(&root, &[Role::Root])?.missing(&Role::Root) {
        None => Ok((opened.id, root)),
        Some(missing) => Err(Refusal::GenesisUnsigned { missing }),
    }
}

/// Version N+1, signed by the thresholds of N and of N+1 (R2).
fn judge_root(
    chain: &Chain,
    current: &Root,
    opened: &mut Opened,
    new: &Root,
) -> Result<Standing, Refusal> {
    if let Some((known, _)) = chain.root_of(new.version)
        && known != opened.id
    {
        return Err(Refusal::RootFork { version: new.version, known });
    }
    let held = chain.root().version;
    if new.version > held && new.version - 1 != held {
        return Err(Refusal::RootVersion { got: new.version, held });
    }
    let by_new = opened.signers(new, &[Role::Root]);
    // One that is known proves itself by its place in the chain; the one before it signed it, too.
    let before = new.version.checked_sub(1).and_then(|before| chain.root_of(before));
    let before = before.map_or(current, |(_, root)| root);
    // What a root says of its own keys is no reason to keep it: at least one known key must sign.
    let by_old = opened.signers(before, &[Role::Root]);
    if by_old.keys.is_empty() {
        return Err(opened.nobody_fitting(before, &[Role::Root]));
    }
    let keep = |id: &KeyId| by_new.keys.contains(id) || by_old.keys.contains(id);
    opened.envelope.retain_signatures(keep);
    if new.version <= held {
        return Ok(Standing::Effective);
    }
    let of = |signers: &Signers<'_>, version: u32| {
        signers.missing(&Role::Root).map(|missing| format!("{missing} as of version {version}"))
    };
    Ok(standing([of(&by_old, before.version), of(&by_new, new.version)].into_iter().flatten()))
}

// --- release ---

fn judge_release(
    chain: &Chain,
    signers: &Signers<'_>,
    id: Digest,
    release: &Release,
) -> Result<Standing, Refusal> {
    match chain.taken_by(release) {
        Some(known) if known == id => Ok(Standing::Effective),
        Some(known) => Err(Refusal::SecondDigest {
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

// --- rollout ---

fn roles_of_rollout(rollout: &Rollout) -> Vec<Role> {
    let env = &rollout.env;
    let mut roles = vec![Role::Deploy(env.clone()), Role::Approve(env.clone()), Role::Emergency];
    if rollout.direction == Direction::Rollback {
        roles.push(Role::Admit);
    }
    roles
}

fn superseder(chain: &Chain, rollout: &Rollout) -> Option<Digest> {
    let head = chain.head(&rollout.scope())?;
    (head.epoch > rollout.epoch).then_some(head.rollout)
}

fn judge_rollout(
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
    let by =
        author_as(signers, &rollout.author, &people, rollout.direction == Direction::Rollback)?;
    fits_release(chain, rollout, &rollout.to)?;
    if let Some(from) = &rollout.from {
        fits_release(chain, rollout, from)?;
    }
    let previous = previous_of(chain, rollout)?;
    let jumps = jumps(signers, rollout, previous)?;
    match rollout.direction {
        Direction::Forward => check_policy(policy, rollout)?,
        Direction::Rollback => check_rollback(chain, rollout)?,
    }
    let mut missing = match by {
        Author::Person if jumps => Vec::from_iter(signers.missing(&Role::Emergency)),
        Author::Person => missing_of_either(signers, &deploys),
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

/// In which capacity the author of a rollout or directive has signed it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Author {
    Person,
    Coordinator,
}

fn author_as(
    signers: &Signers<'_>,
    author: &KeyId,
    people: &[Role],
    coordinator_may: bool,
) -> Result<Author, Refusal> {
    let is = |role: &Role| holds(signers.root, role, author);
    let person = people.iter().any(is);
    let coordinator = coordinator_may && is(&Role::Admit);
    if !person && !coordinator {
        let mut roles = people.to_vec();
        roles.extend(coordinator_may.then_some(Role::Admit));
        return Err(Refusal::AuthorMayNot { author: author.clone(), needs: names(&roles) });
    }
    if !signers.keys.contains(author) {
        return Err(Refusal::AuthorNotSigned { author: author.clone() });
    }
    Ok(if person { Author::Person } else { Author::Coordinator })
}

/// What both lack, unless one lacks nothing.
fn missing_of_either(signers: &Signers<'_>, role: &Role) -> Vec<String> {
    match signers.missing(&Role::Emergency) {
        Some(_) => Vec::from_iter(signers.missing(role)),
        None => Vec::new(),
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
) -> Result<bool, Refusal> {
    let got = rollout.epoch;
    let previous = previous.map_or(0, |previous| previous.epoch);
    let expected = previous + 1;
    if got == expected {
        return Ok(false);
    }
    if got < expected || signers.with(&Role::Emergency) == 0 {
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
    if rollout.waves.len() < min {
        return Err(Refusal::TooFewStages { env, got: rollout.waves.len(), min });
    }
    let got = rollout.waves.iter().map(|wave| u64::from(wave.wait_s)).sum();
    let min = u64::from(policy.bake_s_min);
    if got < min {
        return Err(Refusal::TooShortBake { env, got, min });
    }
    Ok(())
}

/// What needs no approval leads only where approved rollouts have been.
fn check_rollback(chain: &Chain, rollout: &Rollout) -> Result<(), Refusal> {
    let targets = std::iter::once(&rollout.to).chain(&rollout.from);
    for Target { release, .. } in targets {
        if !chain.was_in_line(rollout.previous.as_ref(), release) {
            return Err(Refusal::NeverThere { release: *release, scope: rollout.scope() });
        }
    }
    Ok(())
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

// --- directive ---

fn judge_directive(
    chain: &Chain,
    root: &Root,
    opened: &mut Opened,
    directive: &Directive,
    now: UnixTime,
) -> Result<Standing, Refusal> {
    // Somebody who may direct some rollout must have signed before another statement is asked for.
    let deployers = root.roles.keys().filter(|role| matches!(role, Role::Deploy(_)));
    let mut anyone: Vec<_> = deployers.cloned().chain([Role::Emergency]).collect();
    let careful = matches!(directive.action, Action::Pause | Action::Abort);
    anyone.extend(careful.then_some(Role::Admit));
    opened.keep_signers(root, &anyone)?;
    let rollout = chain.rollout(&directive.rollout).ok_or(Refusal::Needs(directive.rollout))?;
    let deploys = Role::Deploy(rollout.env.clone());
    let mut roles = vec![deploys.clone(), Role::Emergency];
    roles.extend(careful.then_some(Role::Admit));
    let signers = opened.keep_signers(root, &roles)?;
    not_from_the_future(chain, directive.created, now)?;
    let people = &roles[..2];
    let by = author_as(&signers, &directive.author, people, careful)?;
    if let Some(wave) = directive.wave
        && wave as usize >= rollout.waves.len()
    {
        return Err(Refusal::NoSuchWave { wave, waves: rollout.waves.len() });
    }
    if let Some((known, held)) = chain.directive(&directive.rollout) {
        if known == opened.id {
            return Ok(Standing::Effective);
        }
        if strength(directive, opened.id) < strength(held, known) {
            return Err(match held.action {
                Action::Abort => Refusal::Aborted,
                action => {
                    let (got, sequence) = (directive.sequence, held.sequence);
                    Refusal::DirectiveTooOld { got, sequence, action }
                }
            });
        }
    }
    Ok(standing(match by {
        Author::Person => missing_of_either(&signers, &deploys),
        Author::Coordinator => Vec::from_iter(signers.missing(&Role::Admit)),
    }))
}
