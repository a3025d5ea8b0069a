//! What a member has verified so far. Grows only; see the [module](super) for how it converges.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::verify::judge_genesis;
use super::{Refusal, Standing, Verified};
use crate::id::{Digest, Env, FleetId, HostId, KeyId, Scope, Service, Version};
use crate::statement::{
    Action, Direction, Directive, Freeze, Host, RULES, Release, Revocation, Role, Rollout, Root,
    Statement, UnixTime,
};

/// What a member has verified so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// By version, 1 first; never empty.
    roots: Vec<(Digest, Root)>,
    releases: BTreeMap<Digest, Release>,
    versions: BTreeMap<(Service, Version), Digest>,
    rollouts: BTreeMap<Digest, Rollout>,
    heads: BTreeMap<Scope, Head>,
    /// By rollout, the one in force.
    directives: BTreeMap<Digest, (Digest, Directive)>,
    /// By rollout, all of them: which statement skips which host.
    skips: BTreeMap<Digest, BTreeMap<Digest, HostId>>,
    freezes: BTreeMap<(Env, Option<HostId>), Freezes>,
    revocations: BTreeMap<HostId, BTreeMap<Digest, Revocation>>,
    floor: UnixTime,
}

/// The freezes in force for one target: what people want, and what the coordinator added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Freezes {
    by_people: Option<(Digest, Freeze)>,
    by_coordinator: Option<(Digest, Freeze)>,
}

impl Freezes {
    /// The freeze that ends last. The coordinator's counts beside that of people, so it can only make
    /// it longer, until people sign one with its sequence or a higher one.
    fn longest(&self) -> Option<&(Digest, Freeze)> {
        let people = self.by_people.as_ref();
        let sequence = people.map_or(0, |(_, freeze)| freeze.sequence);
        let coordinator =
            self.by_coordinator.as_ref().filter(|(_, freeze)| freeze.sequence > sequence);
        people.into_iter().chain(coordinator).max_by_key(|(id, freeze)| (freeze.until, *id))
    }

    fn held(&self) -> impl Iterator<Item = &(Digest, Freeze)> {
        self.by_people.iter().chain(&self.by_coordinator)
    }
}

/// The newest effective rollout of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub epoch: u64,
    /// Of several with this epoch the one with the smallest id.
    pub rollout: Digest,
    /// A second effective rollout of the same epoch (R5): neither may start anything.
    pub conflict: Option<Digest>,
}

/// Why a host may not start anything new for a rollout. What runs already stays, and the way back
/// is always open (R7).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WhyNot {
    #[error("rollout {0} is not known here")]
    Unknown(Digest),
    #[error("superseded by rollout {by}")]
    Superseded { by: Digest },
    #[error("conflict with rollout {with} of the same epoch: deploy again to end it")]
    Conflict { with: Digest },
    #[error("needs rules {needs}, this version has {RULES}: upgrade the agent")]
    Rules { needs: u32 },
    #[error("root version {version} has expired: its keys must sign the next one")]
    RootExpired { version: u32 },
    /// Whoever holds its completion certificate passes over this: a complete rollout is the
    /// standing intent and does not expire.
    #[error("the rollout has expired: deploy again")]
    Expired,
}

impl Chain {
    /// Starts from the first root, given the digest a member was told when it joined.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: not a root, not version 1, not signed by its own threshold, not the pinned one.
    pub fn genesis(bytes: &[u8], pinned: Digest) -> Result<Self, Refusal> {
        let (id, root) = judge_genesis(bytes, pinned)?;
        Ok(Self {
            roots: vec![(id, root)],
            releases: BTreeMap::new(),
            versions: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            heads: BTreeMap::new(),
            directives: BTreeMap::new(),
            skips: BTreeMap::new(),
            freezes: BTreeMap::new(),
            revocations: BTreeMap::new(),
            floor: UnixTime::default(),
        })
    }

    /// Takes in what [`super::verify`] found effective; says whether that changed anything. What
    /// is pending, known already or no longer fits is left out, so learning twice is no error.
    pub fn learn(&mut self, verified: &Verified) -> bool {
        if verified.standing != Standing::Effective {
            return false;
        }
        let id = verified.id;
        match &verified.statement {
            Statement::Root(root) => {
                let next = root.version.checked_sub(1) == Some(self.root().version);
                if next {
                    self.roots.push((id, root.clone()));
                }
                next
            }
            // Members of the fleet are the network's to remember.
            Statement::Host(_) => false,
            Statement::Release(release) => self.learn_release(id, release),
            Statement::Rollout(rollout) => self.learn_rollout(id, rollout),
            Statement::Directive(directive) => self.learn_directive(id, directive),
            Statement::Freeze(freeze) => self.learn_freeze(id, freeze),
            Statement::Revocation(revocation) => {
                let host = self.revocations.entry(revocation.host.clone()).or_default();
                host.insert(id, revocation.clone()).is_none()
            }
        }
    }

    fn learn_release(&mut self, id: Digest, release: &Release) -> bool {
        let version = (release.service.clone(), release.version.clone());
        if self.versions.contains_key(&version) {
            return false;
        }
        self.versions.insert(version, id);
        self.releases.insert(id, release.clone());
        true
    }

    fn learn_rollout(&mut self, id: Digest, rollout: &Rollout) -> bool {
        if self.rollouts.contains_key(&id) {
            return false;
        }
        self.rollouts.insert(id, rollout.clone());
        self.floor = self.floor.max(rollout.created);
        let alone = Head { epoch: rollout.epoch, rollout: id, conflict: None };
        let head = self.heads.entry(rollout.scope()).or_insert(alone);
        if rollout.epoch > head.epoch {
            *head = alone;
        } else if rollout.epoch == head.epoch {
            // The two smallest of however many there are: the same in any order of learning.
            let mut rivals: BTreeSet<_> = [head.rollout, id].into_iter().collect();
            rivals.extend(head.conflict);
            let mut rivals = rivals.into_iter();
            head.rollout = rivals.next().unwrap_or(id);
            head.conflict = rivals.next();
        }
        true
    }

    fn learn_directive(&mut self, id: Digest, directive: &Directive) -> bool {
        if let Some(host) = &directive.host {
            let skips = self.skips.entry(directive.rollout).or_default();
            return skips.insert(id, host.clone()).is_none();
        }
        let stronger = self
            .directives
            .get(&directive.rollout)
            .is_none_or(|(known, held)| strength(held, *known) < strength(directive, id));
        if stronger {
            self.directives.insert(directive.rollout, (id, directive.clone()));
        }
        // It does not raise the floor: a weaker one is refused, so members would end with floors
        // that depend on the order in which they heard.
        stronger
    }

    fn learn_freeze(&mut self, id: Digest, freeze: &Freeze) -> bool {
        let by_coordinator = self.is_coordinator(&freeze.author);
        let freezes = self.freezes.entry((freeze.env.clone(), freeze.host.clone())).or_default();
        let held = match by_coordinator {
            true => &mut freezes.by_coordinator,
            false => &mut freezes.by_people,
        };
        let stronger =
            held.as_ref().is_none_or(|(known, held)| order(held, *known) < order(freeze, id));
        if stronger {
            *held = Some((id, freeze.clone()));
        }
        // As with directives, it does not raise the floor.
        stronger
    }

    /// The newest root.
    pub fn root(&self) -> &Root {
        &self.newest().1
    }

    pub fn root_id(&self) -> Digest {
        self.newest().0
    }

    fn newest(&self) -> &(Digest, Root) {
        self.roots.last().expect("a chain starts with a root and forgets none")
    }

    /// The root of a version, 1 to that of [`Self::root`], and its id.
    pub fn root_of(&self, version: u32) -> Option<(Digest, &Root)> {
        let index = usize::try_from(version.checked_sub(1)?).ok()?;
        self.roots.get(index).map(|(id, root)| (*id, root))
    }

    pub fn fleet(&self) -> &FleetId {
        &self.root().fleet
    }

    pub fn release(&self, id: &Digest) -> Option<&Release> {
        self.releases.get(id)
    }

    /// The release of a version; there is never more than one (R3).
    pub fn release_of(&self, service: &Service, version: &Version) -> Option<(Digest, &Release)> {
        let id = self.versions.get(&(service.clone(), version.clone()))?;
        self.releases.get(id).map(|release| (*id, release))
    }

    /// The releases of a service, newest first by when they say they were made.
    pub fn releases_of(&self, service: &Service) -> Vec<(Digest, &Release)> {
        let own = self.releases.iter().filter(|(_, release)| release.service == *service);
        let mut releases: Vec<_> = own.map(|(id, release)| (*id, release)).collect();
        releases.sort_by_key(|(id, release)| (Reverse(release.created), *id));
        releases
    }

    /// All releases, by id.
    pub fn releases(&self) -> impl Iterator<Item = (&Digest, &Release)> {
        self.releases.iter()
    }

    pub fn rollout(&self, id: &Digest) -> Option<&Rollout> {
        self.rollouts.get(id)
    }

    pub fn head(&self, scope: &Scope) -> Option<&Head> {
        self.heads.get(scope)
    }

    pub fn heads(&self) -> impl Iterator<Item = (&Scope, &Head)> {
        self.heads.iter()
    }

    /// The directive in force for a rollout, and its id (R6): an abort latches; else the highest
    /// sequence, of two with one sequence the stronger [`Action`].
    pub fn directive(&self, rollout: &Digest) -> Option<(Digest, &Directive)> {
        self.directives.get(rollout).map(|(id, directive)| (*id, directive))
    }

    /// The statements that take hosts out of a rollout, and whom: skips of it, and removals of hosts
    /// from its environment. Nobody waits for these hosts.
    pub fn excuses(&self, rollout: &Digest) -> BTreeMap<Digest, HostId> {
        let mut excuses = self.skips.get(rollout).cloned().unwrap_or_default();
        let Some(rollout) = self.rollouts.get(rollout) else { return excuses };
        for member in rollout.cohort.iter().filter(|_| !self.revocations.is_empty()) {
            let removals = self.revocations.get(&member.id).into_iter().flatten();
            let fitting = removals.filter(|(_, removal)| removal.env == rollout.env);
            excuses.extend(fitting.map(|(id, _)| (*id, member.id.clone())));
        }
        excuses
    }

    /// The statement that removes this host from this environment, and its id: the one made first.
    pub fn revocation(&self, host: &HostId, env: &Env) -> Option<(Digest, &Revocation)> {
        let removals = self.revocations.get(host)?.iter();
        let fitting = removals.filter(|(_, removal)| removal.env == *env);
        let first = fitting.min_by_key(|(id, removal)| (removal.created, **id));
        first.map(|(id, removal)| (*id, removal))
    }

    /// The statement that removes this host from the fleet, if any: one of its own environment.
    pub fn removal(&self, host: &Host) -> Option<&Revocation> {
        self.revocation(&host.id, &host.env()?).map(|(_, removal)| removal)
    }

    /// Until when nothing new may start on a host of this environment, by the freeze of the
    /// environment and that of the host, the longer one; none where neither was ever frozen. Rollbacks
    /// do not ask.
    pub fn frozen_until(&self, env: &Env, host: &HostId) -> Option<UnixTime> {
        let targets = [None, Some(host)];
        let longest = targets.into_iter().filter_map(|target| self.freeze(env, target));
        longest.map(|(_, freeze)| freeze.until).max()
    }

    /// The freeze in force for an environment or for one host of it, and its id.
    pub fn freeze(&self, env: &Env, host: Option<&HostId>) -> Option<(Digest, &Freeze)> {
        let freezes = self.freezes.get(&(env.clone(), host.cloned()))?;
        freezes.longest().map(|(id, freeze)| (*id, freeze))
    }

    /// The highest sequence of a freeze of this target, whoever signed it; 0: it was never frozen.
    pub fn freeze_sequence(&self, env: &Env, host: Option<&HostId>) -> u64 {
        let Some(freezes) = self.freezes.get(&(env.clone(), host.cloned())) else { return 0 };
        freezes.held().map(|(_, freeze)| freeze.sequence).max().unwrap_or(0)
    }

    /// The newest freezes of all targets, by each side, whether they still hold anything up or not.
    pub fn newest_freezes(&self) -> impl Iterator<Item = (Digest, &Freeze)> {
        self.freezes.values().flat_map(Freezes::held).map(|(id, freeze)| (*id, freeze))
    }

    /// The freezes in force, of all environments and hosts, by target.
    pub fn freezes(&self) -> impl Iterator<Item = (Digest, &Freeze)> {
        self.freezes.values().filter_map(Freezes::longest).map(|(id, freeze)| (*id, freeze))
    }

    /// A revocation of each host that was removed from an environment: of several the one with the
    /// smallest id, since each says all of it and one key can sign any number.
    pub fn revoked(&self) -> BTreeSet<Digest> {
        let mut revoked = BTreeSet::new();
        for revocations in self.revocations.values() {
            let mut envs = BTreeSet::new();
            let first = revocations.iter().filter(|(_, removal)| envs.insert(&removal.env));
            revoked.extend(first.map(|(id, _)| *id));
        }
        revoked
    }

    /// The strongest freeze held of the same target by the same side.
    pub(super) fn rival_of(&self, freeze: &Freeze) -> Option<&(Digest, Freeze)> {
        let freezes = self.freezes.get(&(freeze.env.clone(), freeze.host.clone()))?;
        match self.is_coordinator(&freeze.author) {
            true => freezes.by_coordinator.as_ref(),
            false => freezes.by_people.as_ref(),
        }
    }

    /// Whether this key is or was the coordinator's: no root gives it to a person, too.
    fn is_coordinator(&self, key: &KeyId) -> bool {
        let admits = |root: &Root| {
            root.roles.get(&Role::Admit).is_some_and(|admit| admit.keys.contains(key))
        };
        self.roots.iter().any(|(_, root)| admits(root))
    }

    /// Digest of the newest rollout of every scope: equal for members that know of the same ones.
    pub fn heads_digest(&self) -> Digest {
        let mut text = String::new();
        for (scope, head) in &self.heads {
            let conflict = head.conflict.map_or_else(String::new, |id| format!("{id:#}"));
            text += &format!("{scope} {} {:#} {conflict}\n", head.epoch, head.rollout);
        }
        Digest::of(text.as_bytes())
    }

    /// The rollouts of a scope by epoch, newest first; of one epoch, by id.
    pub fn history(&self, scope: &Scope) -> Vec<(Digest, &Rollout)> {
        let own = self.rollouts.iter().filter(|(_, rollout)| {
            (&rollout.service, &rollout.env) == (&scope.service, &scope.env)
        });
        let mut history: Vec<_> = own.map(|(id, rollout)| (*id, rollout)).collect();
        history.sort_by_key(|(id, rollout)| (Reverse(rollout.epoch), *id));
        history
    }

    /// The newest time in any effective rollout statement: it is at least that late, whatever a clock
    /// says (R8). Of what people sign, that is: the coordinator's key alone makes as many hosts as it
    /// likes, each a day later than the one before, and with time go freezes and expiries.
    pub fn now_floor(&self) -> UnixTime {
        self.floor
    }

    /// The time to go by where a clock says `clock`: one that is behind what people have signed is not
    /// believed (R8).
    pub fn believed(&self, clock: UnixTime) -> UnixTime {
        clock.max(self.floor)
    }

    /// Whether something new may start for this rollout, by the statements alone (R5, R7, R20); never
    /// asked before a way back. Hosts decide by `rollout::gate`, which holds for the same reasons and
    /// knows of receipts and directives, too.
    ///
    /// # Errors
    ///
    /// [`WhyNot`], what lasts longest first. A rollback does not expire, nor need a fresh root.
    pub fn may_start(&self, now: UnixTime, id: &Digest) -> Result<(), WhyNot> {
        let rollout = self.rollouts.get(id).ok_or(WhyNot::Unknown(*id))?;
        let head = self.heads.get(&rollout.scope()).ok_or(WhyNot::Unknown(*id))?;
        if head.epoch > rollout.epoch {
            return Err(WhyNot::Superseded { by: head.rollout });
        }
        if let Some(other) = head.conflict {
            let with = if head.rollout == *id { other } else { head.rollout };
            return Err(WhyNot::Conflict { with });
        }
        if rollout.rules != RULES {
            return Err(WhyNot::Rules { needs: rollout.rules });
        }
        if rollout.direction == Direction::Rollback {
            return Ok(());
        }
        let now = self.believed(now);
        let root = self.root();
        if now >= root.expires {
            return Err(WhyNot::RootExpired { version: root.version });
        }
        if now >= rollout.expires {
            return Err(WhyNot::Expired);
        }
        Ok(())
    }

    /// Whether a rollout of the line that ends with `newest` came from or led to `release`.
    pub(super) fn was_in_line(&self, newest: Option<&Digest>, release: &Digest) -> bool {
        self.line(newest)
            .flat_map(|rollout| std::iter::once(&rollout.to).chain(&rollout.from))
            .any(|target| target.release == *release)
    }

    /// Whether a rollout forward of the line that ends with `newest` came from `release`: it was what
    /// everything ran. What a rollback came from may just as well have been stopped at its first host.
    pub fn was_stable(&self, newest: Option<&Digest>, release: &Digest) -> bool {
        self.line(newest)
            .filter(|rollout| rollout.direction == Direction::Forward)
            .any(|rollout| rollout.from.as_ref().is_some_and(|from| from.release == *release))
    }

    /// The rollouts that led up to this one, and itself, newest first.
    fn line(&self, newest: Option<&Digest>) -> impl Iterator<Item = &Rollout> {
        // Epochs fall along the line, so this ends.
        std::iter::successors(newest.and_then(|id| self.rollouts.get(id)), |rollout| {
            rollout.previous.as_ref().and_then(|id| self.rollouts.get(id))
        })
    }
}

/// The order of directives: what is greater is in force. A total order, so that members agree.
pub(super) fn strength(
    directive: &Directive,
    id: Digest,
) -> (bool, u64, Action, Reverse<Option<u32>>, Digest) {
    let aborts = directive.action == Action::Abort;
    // Of two promotes the one that opens less.
    (aborts, directive.sequence, directive.action, Reverse(directive.wave), id)
}

/// The order of freezes of one target by one side: what is greater is in force. Of two with one
/// sequence the longer one.
pub(super) fn order(freeze: &Freeze, id: Digest) -> (u64, UnixTime, Digest) {
    (freeze.sequence, freeze.until, id)
}
