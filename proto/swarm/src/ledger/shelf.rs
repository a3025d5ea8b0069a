//! The shelf: what members tell each other of beside the heads of their scopes.
//!
//! It depends on what is held and on nothing else, so members that hold the same have the same one.
//! What it leaves out stays here; it is only not told of any more.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use proto::certificate::Claim;
use proto::record::{SHELF_ITEMS_MAX, Shelf, ShelfRecord};
use proto::statement::Action;
use proto::{Digest, Scope};

use super::state::State;

/// Stopped rollouts of a scope that members tell each other of, the newest: what these brought
/// must not start again on a host that was away when they were stopped (R17).
pub const STOPPED_MAX: usize = 16;
/// Newer complete rollouts of its scope after which the end of a rollout is not told of any more.
const NEWER_COMPLETE_MAX: usize = 2;
/// Shelves kept for those who heard of them just before they changed.
const RECENT_MAX: usize = 4;

impl State {
    /// What is to be told of now; the first [`SHELF_ITEMS_MAX`] items.
    pub(super) fn shelf(&self) -> Shelf {
        let mut statements = self.chain.standing();
        let mut certificates = BTreeSet::new();
        for (scope, head) in self.chain.heads() {
            let stopped: BTreeSet<_> = self.stopped(scope).into_iter().collect();
            let mut newer_complete = 0;
            for (id, _) in self.chain.history(scope) {
                let recent = newer_complete < NEWER_COMPLETE_MAX;
                let proven = |claim| self.certificates.contains_key(&(id, claim));
                let complete = proven(Claim::Complete);
                newer_complete += usize::from(complete);
                if recent {
                    statements.extend(self.chain.excuses(&id).into_keys());
                }
                if [Some(head.rollout), head.conflict].contains(&Some(id)) {
                    // The scope's record names its directive, its halt and its end.
                    certificates.extend(self.newest_wave(&id).map(|wave| (id, Claim::Wave(wave))));
                    continue;
                }
                if stopped.contains(&id) {
                    statements.extend(self.abort_of(&id));
                    certificates.extend(proven(Claim::Halt).then_some((id, Claim::Halt)));
                }
                if recent && complete {
                    certificates.insert((id, Claim::Complete));
                }
            }
        }
        let statements: Vec<_> = statements.into_iter().take(SHELF_ITEMS_MAX).collect();
        let room = SHELF_ITEMS_MAX - statements.len();
        Shelf { statements, certificates: certificates.into_iter().take(room).collect() }
    }

    /// The rollouts of a scope that were halted or aborted, the newest [`STOPPED_MAX`], newest first.
    pub(super) fn stopped(&self, scope: &Scope) -> Vec<Digest> {
        let stopped = |id: &Digest| {
            self.certificates.contains_key(&(*id, Claim::Halt)) || self.abort_of(id).is_some()
        };
        let history = self.chain.history(scope).into_iter().map(|(id, _)| id);
        history.filter(stopped).take(STOPPED_MAX).collect()
    }

    fn abort_of(&self, rollout: &Digest) -> Option<Digest> {
        let (id, directive) = self.chain.directive(rollout)?;
        (directive.action == Action::Abort).then_some(id)
    }

    /// The highest wave for which a certificate is held.
    pub(super) fn newest_wave(&self, rollout: &Digest) -> Option<u32> {
        let waves = (*rollout, Claim::Wave(0))..=(*rollout, Claim::Wave(u32::MAX));
        let ((_, claim), _) = self.certificates.range(waves).next_back()?;
        match claim {
            Claim::Wave(wave) => Some(*wave),
            Claim::Halt | Claim::Complete => None,
        }
    }

    /// Whether another rollout of its scope is the newest one: for ever, then. Of one that is not
    /// known here nobody can say.
    pub(super) fn is_replaced(&self, rollout: &Digest) -> bool {
        let head = self.chain.rollout(rollout).and_then(|one| self.chain.head(&one.scope()));
        head.is_some_and(|head| ![Some(head.rollout), head.conflict].contains(&Some(*rollout)))
    }

    /// The certificates of waves that say nothing any more: of two of one rollout the lower one, those
    /// of rollouts that were replaced or are complete.
    pub(super) fn stale_waves(&self) -> Vec<(Digest, Claim)> {
        let stale = |(id, claim): &&(Digest, Claim)| {
            let Claim::Wave(wave) = claim else { return false };
            let complete = self.certificates.contains_key(&(*id, Claim::Complete));
            let lower = self.newest_wave(id).is_some_and(|newest| newest > *wave);
            self.is_replaced(id) || complete || lower
        };
        self.certificates.keys().filter(stale).copied().collect()
    }
}

/// The shelf as it was announced last, and the few before it.
#[derive(Default)]
pub(super) struct Shelves {
    /// The change of the ledger after which the newest one was made.
    made_after: Option<u64>,
    /// Oldest first.
    recent: VecDeque<Bound>,
}

struct Bound {
    record: ShelfRecord,
    bytes: Arc<Vec<u8>>,
}

impl Shelves {
    /// What is announced after so many changes; `make` is asked after a change only.
    pub(super) fn record(&mut self, changes: u64, make: impl FnOnce() -> Shelf) -> ShelfRecord {
        if self.made_after != Some(changes) {
            self.made_after = Some(changes);
            self.keep(&make());
        }
        self.recent.back().expect("one was kept just now, or before").record.clone()
    }

    fn keep(&mut self, shelf: &Shelf) {
        let bytes = shelf.to_bytes();
        let items = u32::try_from(shelf.items()).unwrap_or(u32::MAX);
        let record = ShelfRecord { shelf: Digest::of(&bytes), items };
        self.recent.retain(|bound| bound.record != record);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Bound { record, bytes: Arc::new(bytes) });
    }

    /// The bytes of a shelf that was announced lately.
    pub(super) fn find(&self, id: &Digest) -> Option<Arc<Vec<u8>>> {
        let bound = self.recent.iter().find(|bound| bound.record.shelf == *id);
        bound.map(|bound| bound.bytes.clone())
    }
}
