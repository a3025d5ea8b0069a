//! What a member has verified so far. Grows only; see the [module](super) for how it converges.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::verify::judge_genesis;
use super::{Refusal, Standing, Verified};
use crate::id::{Digest, FleetId, Scope, Service, Version};
use crate::statement::{
    Action, Direction, Directive, RULES, Release, Rollout, Root, Statement, UnixTime,
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
    floor: UnixTime,
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
            // Members of the fleet are the network's to remember; only the time counts here.
            Statement::Host(host) => self.raise_floor(host.issued),
            Statement::Release(release) => self.learn_release(id, release),
            Statement::Rollout(rollout) => self.learn_rollout(id, rollout),
            Statement::Directive(directive) => self.learn_directive(id, directive),
        }
    }

    fn learn_release(&mut self, id: Digest, release: &Release) -> bool {
        let version = (release.service.clone(), release.version.clone());
        if self.versions.contains_key(&version) {
            return false;
        }
        self.versions.insert(version, id);
        self.releases.insert(id, release.clone());
        self.raise_floor(release.created);
        true
    }

    fn learn_rollout(&mut self, id: Digest, rollout: &Rollout) -> bool {
        if self.rollouts.contains_key(&id) {
            return false;
        }
        self.rollouts.insert(id, rollout.clone());
        self.raise_floor(rollout.created);
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

    fn raise_floor(&mut self, to: UnixTime) -> bool {
        let raised = to > self.floor;
        self.floor = self.floor.max(to);
        raised
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

    /// The rollouts of a scope by epoch, newest first; of one epoch, by id.
    pub fn history(&self, scope: &Scope) -> Vec<(Digest, &Rollout)> {
        let own = self.rollouts.iter().filter(|(_, rollout)| {
            (&rollout.service, &rollout.env) == (&scope.service, &scope.env)
        });
        let mut history: Vec<_> = own.map(|(id, rollout)| (*id, rollout)).collect();
        history.sort_by_key(|(id, rollout)| (Reverse(rollout.epoch), *id));
        history
    }

    /// The newest time in any effective host, release or rollout statement: it is at least that
    /// late, whatever a clock says (R8). Nothing made more than a day after it and after the clock
    /// is taken, so one statement raises it by a day at most.
    pub fn now_floor(&self) -> UnixTime {
        self.floor
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
        let now = now.max(self.floor);
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
        // Epochs fall along the line, so this ends.
        let line = std::iter::successors(newest.and_then(|id| self.rollouts.get(id)), |rollout| {
            rollout.previous.as_ref().and_then(|id| self.rollouts.get(id))
        });
        line.flat_map(|rollout| std::iter::once(&rollout.to).chain(&rollout.from))
            .any(|target| target.release == *release)
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
