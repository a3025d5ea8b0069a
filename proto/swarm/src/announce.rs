//! Telling the members what is here: `root`, `x`, `s/N` and `a/N` (R11).
//!
//! Keys are reused and never deleted. A slot belongs to its scope or artifact for as long as this
//! member runs; one that is free holds an empty value, which is no record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::certificate::Claim;
use proto::record::{
    ProgressRecord, ROOT, RootRecord, SHELF, SLOTS, ScopeRecord, progress_key, scope_key, to_text,
};
use proto::{Digest, Scope};
use tokio::time;
use tracing::error;

use crate::Hearsay;
use crate::fetches::Fetches;
use crate::ledger::Ledger;
use crate::store::Store;

/// Least time between two announcements of progress: gossip is not faster.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);
/// Slots that what is not here may take from what is: others ask for that, while this is for people.
const SOUGHT_MAX: usize = 1;

/// Announces the newest root, the heads of all scopes and the shelf, whenever the ledger changes.
pub(crate) async fn statements(ledger: &Ledger, hearsay: &Hearsay) {
    let mut events = ledger.events();
    let mut slots = Slots::default();
    loop {
        events.mark_unchanged();
        let chain = ledger.chain();
        let root = RootRecord { version: chain.root().version, root: chain.root_id() };
        (hearsay.set)(ROOT, &to_text(&root));
        (hearsay.set)(SHELF, &to_text(&ledger.shelf()));
        let records = scope_records(ledger);
        let keys: Vec<_> = records.keys().cloned().collect();
        let without = slots.assign(&keys);
        for (scope, _) in without {
            error!(%scope, slots = SLOTS, "too many scopes: this one is not announced");
        }
        for (slot, key) in slots.0.iter().enumerate() {
            let record = key.as_ref().and_then(|key| records.get(key));
            publish(hearsay, &scope_key(slot), record, key.is_some());
        }
        if events.changed().await.is_err() {
            return;
        }
    }
}

/// What is said of each scope; of one in conflict there are two records, since both rollouts must
/// spread as proof of it (R5).
fn scope_records(ledger: &Ledger) -> BTreeMap<(Scope, bool), ScopeRecord> {
    let chain = ledger.chain();
    let record = |scope: &Scope, epoch: u64, rollout: Digest| ScopeRecord {
        scope: scope.clone(),
        epoch,
        rollout,
        directive: chain.directive(&rollout).map(|(id, _)| id),
        halt: ledger.certificate(&rollout, Claim::Halt),
        complete: ledger.certificate(&rollout, Claim::Complete),
    };
    let mut records = BTreeMap::new();
    for (scope, head) in chain.heads() {
        records.insert((scope.clone(), false), record(scope, head.epoch, head.rollout));
        if let Some(other) = head.conflict {
            records.insert((scope.clone(), true), record(scope, head.epoch, other));
        }
    }
    records
}

/// Announces how much of which artifacts is here, and how they come here; of more than there are slots,
/// those touched last. A fetch under way changes what there is to say also where no piece comes.
pub(crate) async fn artifacts(store: &Store, fetches: &Fetches, hearsay: &Hearsay) {
    let mut changes = store.changes();
    let mut slots = Slots::default();
    loop {
        changes.mark_unchanged();
        let records = progress(store, fetches);
        let records: BTreeMap<_, _> =
            records.into_iter().map(|record| (record.artifact, record)).collect();
        slots.keep(|artifact| records.contains_key(artifact));
        let keys: Vec<_> = records.keys().copied().collect();
        slots.assign(&keys);
        for (slot, key) in slots.0.iter().enumerate() {
            let record = key.as_ref().and_then(|key| records.get(key));
            publish(hearsay, &progress_key(slot), record, slot < slots.1);
        }
        // The first piece of news goes out at once.
        let pause = if records.is_empty() { Duration::ZERO } else { PROGRESS_INTERVAL };
        let next = time::Instant::now() + pause;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = fetches.begun() => {}
            () = time::sleep(PROGRESS_INTERVAL), if fetches.any_runs() => {}
        }
        time::sleep_until(next).await;
    }
}

/// What there is to say of each artifact, of as many as there are slots: the most interesting of those that are
/// here, and of a few of which nothing is.
fn progress(store: &Store, fetches: &Fetches) -> Vec<ProgressRecord> {
    let mut records = store.progress();
    let mut sought = Vec::new();
    for (artifact, fetch) in fetches.records() {
        match records.iter_mut().find(|record| record.artifact == artifact) {
            Some(record) => record.fetch = Some(fetch),
            // Nothing of it can be had here, and who hears of it may ask. So only who waits in vain says so.
            None if fetch.stall.is_some() => {
                let fetch = Some(fetch);
                sought.push(ProgressRecord { artifact, pieces: 0, of: 0, fetch });
            }
            None => {}
        }
    }
    sought.truncate(SLOTS.saturating_sub(records.len()).max(SOUGHT_MAX));
    records.truncate(SLOTS - sought.len());
    records.extend(sought);
    records
}

/// Sets a slot's value; one that was never used is left out, one that is free is emptied.
fn publish<T: serde::Serialize>(hearsay: &Hearsay, key: &str, record: Option<&T>, used: bool) {
    match record {
        Some(record) => (hearsay.set)(key, &to_text(record)),
        None if used => (hearsay.set)(key, ""),
        None => {}
    }
}

/// Who has which slot, and how many slots were ever used.
struct Slots<K>([Option<K>; SLOTS], usize);

impl<K> Default for Slots<K> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| None), 0)
    }
}

impl<K: Ord + Clone> Slots<K> {
    fn keep(&mut self, mut keeps: impl FnMut(&K) -> bool) {
        for slot in &mut self.0 {
            if slot.as_ref().is_some_and(|key| !keeps(key)) {
                *slot = None;
            }
        }
    }

    /// Gives a free slot to each of `keys` that has none; returns those for whom there was none.
    fn assign<'a>(&mut self, keys: &'a [K]) -> Vec<&'a K> {
        let placed: BTreeSet<K> = self.0.iter().flatten().cloned().collect();
        let mut without = Vec::new();
        for key in keys.iter().filter(|key| !placed.contains(key)) {
            match self.0.iter().position(Option::is_none) {
                Some(free) => {
                    self.0[free] = Some(key.clone());
                    self.1 = self.1.max(free + 1);
                }
                None => without.push(key),
            }
        }
        without
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use durable::SimDisk;
    use tokio::sync::watch;

    use super::*;
    use crate::Progress;
    use crate::plan::Stall;
    use crate::store::power_cut;

    /// Who asks for what is here finds it, whatever else this member waits for in vain.
    #[test]
    fn r27_what_is_here_is_told_before_what_is_not() {
        let store = Store::open(Arc::new(SimDisk::new()), "/store".as_ref()).unwrap();
        let fetches = Fetches::default();
        let stall = Some(Stall::NoManifest);
        let progress = watch::channel(Progress { stall, ..Progress::default() });
        for index in 0..SLOTS {
            fetches.add(Digest::of(&[index as u8]), progress.1.clone());
        }
        for held in 1..=SLOTS + 2 {
            let (id, manifest, _) = power_cut::artifact(u8::try_from(held).unwrap());
            store.begin(&id, &manifest).unwrap();
            let told = super::progress(&store, &fetches);
            let (here, sought): (Vec<_>, Vec<_>) = told.iter().partition(|told| told.of > 0);
            let here_max = held.min(SLOTS - SOUGHT_MAX);
            assert_eq!((here.len(), sought.len()), (here_max, SLOTS - here_max), "{held} held");
            assert_eq!(told[0].artifact, id, "the newest");
        }
    }

    #[test]
    fn slots_stay_with_their_owner_and_are_reused() {
        let mut slots = Slots::default();
        assert!(slots.assign(&[1, 2, 3]).is_empty());
        slots.keep(|key| *key != 2);
        assert!(slots.assign(&[1, 3, 4]).is_empty());
        assert_eq!(slots.0[..4], [Some(1), Some(4), Some(3), None]);
        let many: Vec<i32> = (10..20).collect();
        assert_eq!(slots.assign(&many).len(), 10 - (SLOTS - 3));
        assert_eq!(slots.1, SLOTS);
    }
}
