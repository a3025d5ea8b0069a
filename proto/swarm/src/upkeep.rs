//! Looks after what lies on this disk (R26): verifies what an earlier run has left, then hashes one piece
//! after the other for as long as it runs, and fetches again what has rotted, from whoever has it.
//!
//! What is to be whole is what was whole once: nothing here knows what for. A piece that rotted is not
//! served from the moment that is known on, whoever found out: this, a peer that asked for it, a start.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use proto::statement::{ArtifactRef, Role};
use proto::{Digest, HostId};
use tokio::sync::watch;
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
/// How long a piece that rotted is sought until it is said that nobody gives it.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// Looks after the store for as long as it is polled.
pub(crate) async fn run(swarm: &Swarm) {
    check(swarm.store()).await;
    tokio::join!(look(swarm.store()), mend(swarm));
}

/// Verifies what an earlier run has left, one artifact after the other.
async fn check(store: &Store) {
    for id in store.artifacts() {
        let store = store.clone();
        if let Err(error) = blocking(move || store.check(&id)).await {
            let error: &(dyn Error + 'static) = &error;
            warn!(artifact = %id, error, "an artifact cannot be verified");
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

/// Fetches again what has rotted, each artifact on its own: one that nobody has holds up no other.
async fn mend(swarm: &Swarm) {
    let store = swarm.store();
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
            let task = || tasks.spawn(mend_one(swarm.clone(), id));
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

/// Fetches an artifact until it is whole again.
async fn mend_one(swarm: Swarm, id: Digest) -> Digest {
    loop {
        let known = swarm.clone();
        match blocking(move || about(&known, &id)).await {
            Some(artifact) => fetch(&swarm, artifact).await,
            None => {
                warn!(artifact = %id, "nobody here can tell what it was: it is not fetched again");
            }
        }
        if !swarm.store().rotted().contains(&id) {
            return id;
        }
        time::sleep(PAUSE).await;
    }
}

async fn fetch(swarm: &Swarm, artifact: ArtifactRef) {
    let handle = swarm.fetch(artifact, company(swarm));
    let progress = handle.progress();
    let done = async {
        let done = handle.done();
        tokio::pin!(done);
        tokio::select! {
            ended = &mut done => ended,
            why = stalled(progress) => {
                warn!(artifact = %artifact.id, why, "what rotted here is not here again yet");
                done.await
            }
        }
    };
    let ended = tokio::select! {
        ended = done => ended,
        () = swarm.awaited(&artifact.id) => return,
    };
    if let Err(error) = ended {
        let error: &(dyn Error + 'static) = &error;
        warn!(artifact = %artifact.id, error, "what rotted here cannot be fetched again: later");
    }
}

/// Why nothing moves, once that has been so for long.
async fn stalled(mut progress: watch::Receiver<Progress>) -> String {
    time::sleep(STALLED_AFTER).await;
    let stalled = progress.wait_for(|progress| progress.stall.is_some()).await;
    let why = stalled.ok().and_then(|progress| progress.stall.clone());
    match why {
        Some(why) => why.to_string(),
        // It has ended, which tells more.
        None => std::future::pending().await,
    }
}

/// What is known of an artifact without its manifest, which may be what rotted. Blocks on the disk.
fn about(swarm: &Swarm, id: &Digest) -> Option<ArtifactRef> {
    let chain = swarm.ledger().chain();
    let mut artifacts = chain.releases().map(|(_, release)| release.artifact);
    let released = artifacts.find(|artifact| artifact.id == *id);
    released.or_else(|| {
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
