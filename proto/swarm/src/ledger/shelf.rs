//! The shelf: what members tell each other of beside the heads of their scopes.
//!
//! It depends on what is held and on nothing else, so members that hold the same have the same one.
//! What it leaves out stays here; it is only not told of any more.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use proto::certificate::Claim;
use proto::record::{SHELF_ITEMS_MAX, Shelf, ShelfRecord};
use proto::statement::Action;
use proto::{Digest, Scope, UnixTime};
use tracing::error;

use super::state::State;

/// Stopped rollouts of a scope that members tell each other of, the newest: what these brought
/// must not start again on a host that was away when they were stopped (R17).
pub const STOPPED_MAX: usize = 16;
/// Newer complete rollouts of its scope after which the end of a rollout is not told of any more.
const NEWER_COMPLETE_MAX: usize = 2;
/// Shelves kept for those who heard of them just before they changed.
const RECENT_MAX: usize = 4;

/// Items of a full shelf that statements leave to certificates.
const CERTIFICATES_KEPT: usize = SHELF_ITEMS_MAX / 8;

/// What is to be told of, without a bound.
#[derive(Clone, Default)]
struct Told {
    /// About rollouts and environments.
    statements: BTreeSet<Digest>,
    /// Freezes of single hosts, with their ends, and removals, which have none: who signs may make
    /// these hosts up.
    of_hosts: BTreeSet<(Reverse<UnixTime>, Digest)>,
    /// With when the rollout was made.
    certificates: BTreeSet<(UnixTime, (Digest, Claim))>,
}

impl Told {
    /// What there is room for, and how many items are left out: first freezes of hosts that have ended
    /// or were lifted, and certificates of the oldest rollouts.
    fn bound(self) -> (Shelf, usize) {
        let of_hosts: Vec<_> = self.of_hosts.iter().map(|(_, id)| *id).collect();
        let of_hosts = of_hosts.into_iter().filter(|id| !self.statements.contains(id));
        let statements: Vec<_> = self.statements.iter().copied().chain(of_hosts).collect();
        let count = statements.len() + self.certificates.len();
        let room = SHELF_ITEMS_MAX - self.certificates.len().min(CERTIFICATES_KEPT);
        let mut statements: Vec<_> = statements.into_iter().take(room).collect();
        let newest = self.certificates.into_iter().rev().map(|(_, certificate)| certificate);
        let mut certificates: Vec<_> = newest.take(SHELF_ITEMS_MAX - statements.len()).collect();
        statements.sort();
        certificates.sort();
        let shelf = Shelf { statements, certificates };
        let left_out = count - shelf.items();
        (shelf, left_out)
    }
}

impl State {
    /// What is to be told of now, at most [`SHELF_ITEMS_MAX`] items, and how many are left out.
    pub(super) fn shelf(&self) -> (Shelf, usize) {
        let mut told = Told::default();
        for (id, freeze) in self.chain.newest_freezes() {
            match &freeze.host {
                None => drop(told.statements.insert(id)),
                Some(_) => drop(told.of_hosts.insert((Reverse(freeze.until), id))),
            }
        }
        let never = Reverse(UnixTime(u64::MAX));
        told.of_hosts.extend(self.chain.revoked().into_iter().map(|id| (never, id)));
        for (scope, head) in self.chain.heads() {
            let stopped: BTreeSet<_> = self.stopped(scope).into_iter().collect();
            let mut newer_complete = 0;
            for (id, rollout) in self.chain.history(scope) {
                let recent = newer_complete < NEWER_COMPLETE_MAX;
                let proven = |claim| self.certificates.contains_key(&(id, claim));
                let complete = proven(Claim::Complete);
                newer_complete += usize::from(complete);
                let mut certify = |claim| told.certificates.insert((rollout.created, (id, claim)));
                if recent {
                    told.statements.extend(self.skips_of(&id));
                }
                if [Some(head.rollout), head.conflict].contains(&Some(id)) {
                    // The scope's record names its directive, its halt and its end.
                    self.newest_wave(&id).map(|wave| certify(Claim::Wave(wave)));
                    continue;
                }
                if recent && complete {
                    certify(Claim::Complete);
                }
                if stopped.contains(&id) {
                    proven(Claim::Halt).then(|| certify(Claim::Halt));
                    told.statements.extend(self.abort_of(&id));
                }
            }
        }
        told.bound()
    }

    /// A statement for each host that was taken out of a rollout: the one with the smallest id, since
    /// one key can sign any number. A certificate that names another brings it.
    fn skips_of(&self, rollout: &Digest) -> Vec<Digest> {
        let mut hosts = BTreeSet::new();
        let excuses = self.chain.excuses(rollout);
        excuses.into_iter().filter_map(|(id, host)| hosts.insert(host).then_some(id)).collect()
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
    /// Said once: there was more than there is room for.
    overflowed: bool,
}

struct Bound {
    record: ShelfRecord,
    bytes: Arc<Vec<u8>>,
}

impl Shelves {
    /// What is announced after so many changes; `make` is asked after a change only.
    pub(super) fn record(
        &mut self,
        changes: u64,
        make: impl FnOnce() -> (Shelf, usize),
    ) -> ShelfRecord {
        if self.made_after != Some(changes) {
            self.made_after = Some(changes);
            let (shelf, left_out) = make();
            if left_out > 0 && !self.overflowed {
                self.overflowed = true;
                error!(
                    left_out,
                    "members cannot be told of all skips, freezes, removals and ends: who was away \
                     misses some; look for a key that signs too many"
                );
            }
            self.keep(&shelf);
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

#[cfg(test)]
mod test {
    use super::*;

    fn number(n: usize) -> Digest {
        Digest::of(&n.to_be_bytes())
    }

    /// R4: one key that signs without end, about hosts that it makes up, hides nothing of the rest.
    #[test]
    fn r4_a_full_shelf_leaves_out_what_matters_least() {
        let (skip, lifted) = (Digest::of(b"skip"), Digest::of(b"lifted"));
        let end = |n| (UnixTime(n as u64), (number(n), Claim::Complete));
        let mut told = Told { statements: [skip].into(), ..Told::default() };
        told.certificates.extend((0..2 * CERTIFICATES_KEPT).map(end));
        told.of_hosts.extend((0..2_000).map(|n| (Reverse(UnixTime(9)), number(n))));
        let (shelf, left_out) = told.clone().bound();
        assert_eq!((shelf.items(), left_out), (2_001 + 2 * CERTIFICATES_KEPT, 0));
        assert!(shelf.statements.is_sorted() && shelf.certificates.is_sorted());

        told.of_hosts.extend((2_000..9_000).map(|n| (Reverse(UnixTime(9)), number(n))));
        told.of_hosts.insert((Reverse(UnixTime(1)), lifted));
        let (shelf, left_out) = told.bound();
        assert_eq!(shelf.items(), SHELF_ITEMS_MAX);
        assert_eq!(left_out, 9_002 + 2 * CERTIFICATES_KEPT - SHELF_ITEMS_MAX);
        assert!(shelf.statements.contains(&skip) && !shelf.statements.contains(&lifted));
        assert_eq!(shelf.certificates.len(), CERTIFICATES_KEPT);
        let newest = end(2 * CERTIFICATES_KEPT - 1).1;
        assert!(shelf.certificates.contains(&newest) && !shelf.certificates.contains(&end(0).1));
    }
}
