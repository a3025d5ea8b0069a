//! Looks after what lies on this disk (R26): verifies what an earlier run has left, then hashes one piece
//! after the other for as long as it runs, and fetches again what has rotted, from whoever has it.
//!
//! What is to be whole is what was whole once: nothing here knows what for. A piece that rotted is not
//! served from the moment that is known on, whoever found out: this, a peer that asked for it, a start.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use proto::statement::{ArtifactRef, Role};
use proto::{Digest, HostId};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time;
use tracing::warn;

use crate::store::{Store, StoreError};
use crate::{Company, Progress, Swarm, blocking};

/// In this time each piece is hashed once. What rots does so over months, and a copy elsewhere is there
/// for as long as not all rot in the same day.
const ROUND: Duration = Duration::from_secs(24 * 3_600);
/// Hashed in a second at most: a fiftieth of what the slowest disks give and a thousandth of a core, so
/// that it is not felt beside what is served. A store of more than 337 GiB takes longer than [`ROUND`].
const BYTES_PER_S_MAX: u64 = 4 << 20;
/// After what could not be verified or fetched: the disk may be failing, or full.
const PAUSE: Duration = Duration::from_secs(600);
/// How long nothing may come of what rotted until it is said that nobody gives it, and others that rotted go
/// first, if there are more than have a place.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// Fetched again at a time.
pub(crate) const MENDS_MAX: usize = 4;

/// Looks after the store for as long as it is polled.
pub(crate) async fn run(swarm: &Swarm) {
    check(swarm.store()).await;
    tokio::join!(look(swarm.store()), mend(swarm));
}

/// Verifies what an earlier run has left, one artifact after the other.
async fn check(store: &Store) {
    for id in store.artifacts() {
        let store = store.clone();
        match blocking(move || store.check(&id)).await {
            // It did not read: that was said.
            Ok(()) | Err(StoreError::NoArtifact(_)) => {}
            Err(error) => {
                let error: &(dyn Error + 'static) = &error;
                warn!(artifact = %id, error, "an artifact cannot be verified");
            }
        }
    }
}

/// Hashes one piece after the other, over and over: never two at a time.
pub(crate) async fn look(store: &Store) {
    let mut last = None;
    loop {
        let Some((id, index, bytes)) = store.held_after(last) else {
            if last.take().is_none() {
                time::sleep(PAUSE).await;
            }
            continue;
        };
        time::sleep(pause(bytes, store.bytes())).await;
        last = Some((id, index));
        let verified = store.clone();
        if let Err(error) = blocking(move || verified.verify(&id, index)).await {
            if !store.artifacts().contains(&id) {
                // Removed meanwhile.
                continue;
            }
            unsettled(&id, index, &error);
            time::sleep(PAUSE).await;
        }
    }
}

fn unsettled(artifact: &Digest, piece: u32, error: &StoreError) {
    let error: &(dyn Error + 'static) = error;
    warn!(%artifact, piece, error, "whether a piece has rotted cannot be told, or not be noted");
}

/// Before a piece of `bytes` bytes is hashed, of `all_bytes`.
fn pause(bytes: u32, all_bytes: u64) -> Duration {
    let in_turn = ROUND.mul_f64(f64::from(bytes) / (all_bytes.max(1)) as f64);
    let at_least = Duration::from_secs_f64(f64::from(bytes) / BYTES_PER_S_MAX as f64);
    in_turn.max(at_least)
}

/// Fetches again what has rotted, each artifact on its own and a few at a time: one that nobody has gives its
/// place to the next.
async fn mend(swarm: &Swarm) {
    let store = swarm.store();
    let places = Arc::new(Semaphore::new(MENDS_MAX));
    let mut changes = store.changes();
    let mut tasks = JoinSet::new();
    let mut under_way: BTreeMap<Digest, AbortHandle> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let rotted = store.rotted();
        // Whole again, or removed.
        for (_, task) in under_way.extract_if(.., |id, _| !rotted.contains(id)) {
            task.abort();
        }
        for id in rotted {
            let task = || tasks.spawn(mend_one(swarm.clone(), id, places.clone()));
            under_way.entry(id).or_insert_with(task);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            Some(ended) = tasks.join_next() => if let Ok(id) = ended {
                under_way.remove(&id);
            },
        }
    }
}

/// Fetches an artifact until it is whole again; one that nobody can make use of goes.
async fn mend_one(swarm: Swarm, id: Digest, places: Arc<Semaphore>) -> Digest {
    let mut said = false;
    loop {
        // In the order in which they were asked for; never closed.
        let place = places.acquire().await;
        let known = swarm.clone();
        let gave_way = match blocking(move || about(&known, &id)).await {
            Some(artifact) => fetch(&swarm, artifact, &mut said).await,
            None => {
                forget(swarm.store(), id).await;
                false
            }
        };
        drop(place);
        if !swarm.store().rotted().contains(&id) {
            return id;
        }
        if !gave_way {
            time::sleep(PAUSE).await;
        }
    }
}

/// Whether it gave its place to others that rotted. `said`: that nobody gives it.
async fn fetch(swarm: &Swarm, artifact: ArtifactRef, said: &mut bool) -> bool {
    let handle = swarm.fetch(artifact, company(swarm));
    let progress = handle.progress();
    let ended = tokio::select! {
        ended = handle.done() => ended,
        () = give_way(swarm.store(), &artifact.id, progress, said) => return true,
        () = swarm.awaited(&artifact.id) => return false,
    };
    if let Err(error) = ended {
        let error: &(dyn Error + 'static) = &error;
        warn!(artifact = %artifact.id, error, "what rotted here cannot be fetched again: later");
    }
    false
}

/// Waits until nothing has come for long, and others wait for its place.
async fn give_way(
    store: &Store,
    artifact: &Digest,
    mut progress: watch::Receiver<Progress>,
    said: &mut bool,
) {
    loop {
        let why = stalled(&mut progress).await;
        if !std::mem::replace(said, true) {
            warn!(%artifact, why, "what rotted here is not here again yet");
        }
        if store.rotted().len() > MENDS_MAX {
            return;
        }
        time::sleep(STALLED_AFTER).await;
    }
}

/// Why nothing moves, once that has been so for long.
async fn stalled(progress: &mut watch::Receiver<Progress>) -> String {
    let still_s = STALLED_AFTER.as_secs();
    let stalled =
        progress.wait_for(|progress| progress.stall.is_some() && progress.still_s >= still_s);
    let why = stalled.await.ok().and_then(|progress| progress.stall.clone());
    match why {
        Some(why) => why.to_string(),
        // It has ended, which tells more.
        None => std::future::pending().await,
    }
}

/// Nobody can tell what it was: neither is it of a release, nor does it read.
async fn forget(store: &Store, id: Digest) {
    warn!(artifact = %id, "it does not read, and no release has it: it is removed");
    let store = store.clone();
    if let Err(error) = blocking(move || store.remove_artifact(&id)).await {
        let error: &(dyn Error + 'static) = &error;
        warn!(artifact = %id, error, "it is not removed");
    }
}

/// What is known of an artifact without its manifest, which may be what rotted. Of what did not read at the
/// start nothing is left that would be of use: only that a release has it. Blocks on the disk.
fn about(swarm: &Swarm, id: &Digest) -> Option<ArtifactRef> {
    let chain = swarm.ledger().chain();
    let mut artifacts = chain.releases().map(|(_, release)| release.artifact);
    let released = artifacts.find(|artifact| artifact.id == *id);
    released.or_else(|| {
        if swarm.store().is_unread(id) {
            return None;
        }
        let manifest = swarm.store().manifest(id).ok()?;
        let manifest_bytes = manifest.to_bytes().len() as u64;
        let (bytes, raw_bytes) = (manifest.bytes(), manifest.raw_bytes());
        Some(ArtifactRef { id: *id, manifest_bytes, bytes, raw_bytes })
    })
}

/// Anybody may have it: who holds many artifacts announces those of interest only. First of all the
/// coordinator, which seeds what it admits.
fn company(swarm: &Swarm) -> Company {
    let hearsay = &swarm.0.hearsay;
    let chain = swarm.ledger().chain();
    let origin = chain.root().keys_of(&Role::Admit).next().map(|(_, key)| HostId::of(key));
    let fetchers = hearsay.members.borrow().iter().map(|member| member.host.clone()).collect();
    Company { origin: origin.filter(|origin| *origin != hearsay.me), fetchers }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r29_a_check_is_slow_and_takes_a_day_where_it_can() {
        const MIB: u32 = 1 << 20;
        let cases = [
            ("one small piece: once a day", 100, 100, 86_400.0),
            ("64 MiB: every 22 minutes one", MIB, 64 << 20, 1_350.0),
            ("100 GiB: 1.2 MiB/s", MIB, 100 << 30, 0.843_75),
            ("more than a day holds: 4 MiB/s", MIB, 10 << 40, 0.25),
            ("nothing", 0, 0, 0.0),
        ];
        for (case, bytes, all_bytes, seconds) in cases {
            assert_eq!(pause(bytes, all_bytes), Duration::from_secs_f64(seconds), "{case}");
        }
    }
}
