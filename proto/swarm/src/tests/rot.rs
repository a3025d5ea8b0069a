//! What lies on a disk rots: it is found out, not passed on, and fetched again (R26).

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use durable::{Disk as _, SimDisk};
use tokio::time::{sleep, timeout};

use super::fetching::{give, has_all};
use super::hub::{DEADLINE, Hub, Node, Setup, eventually, node};
use super::kit::{Artifact, artifact, artifact_of, release, signed};
use crate::plan::Stall;
use crate::store::{Store, power_cut};
use crate::{Company, StoreError, upkeep};

fn file(node: &Node, artifact: &Artifact, name: &str) -> PathBuf {
    node.dir.path().join("artifacts").join(format!("{:#}", artifact.about.id)).join(name)
}

/// A byte of a file becomes another one, as it does on disks: without anybody being told.
fn rot(node: &Node, artifact: &Artifact, name: &str, at: u64) {
    let path = file(node, artifact, name);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn is_noted(node: &Node, artifact: &Artifact) -> bool {
    file(node, artifact, "rotted").exists()
}

async fn is_mended(node: &Node, artifact: &Artifact) {
    let (store, id) = (node.swarm.store(), artifact.about.id);
    eventually("it is whole again", || store.has_whole(&id) && store.rotted().is_empty()).await;
    assert!(store.manifest(&id).is_ok() && !is_noted(node, artifact));
    has_all(node, artifact);
}

/// As a release, so that it is known what the artifact is when nothing of it can be read.
fn admit(node: &Node, artifact: &Artifact) {
    let release = signed(&release("1", artifact.about), &["publish", "admit"]);
    node.swarm.ledger().admit(&release.to_bytes()).unwrap();
}

/// Whoever finds out, and whoever it is: a host from the coordinator, the coordinator from a host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_what_rots_is_fetched_again_whoever_finds_out() {
    type Finds = fn(&Store, &Artifact);
    let finds: [(&str, Finds); 2] = [
        ("the check", |store, artifact| store.verify(&artifact.about.id, 3).unwrap()),
        ("a peer that asks for it", |store, artifact| {
            assert_eq!(store.read_piece(&artifact.about.id, 3).unwrap(), None);
        }),
    ];
    for (who, other) in [("one", "admit"), ("admit", "one")] {
        for (case, find) in finds {
            let (hub, artifact) = (Hub::default(), artifact(12, 10_000));
            let [here, there] = [who, other].map(|name| node(&hub, name));
            give(here.swarm.store(), &artifact, |_| true);
            give(there.swarm.store(), &artifact, |_| true);
            rot(&here, &artifact, "data", 3 * 10_000 + 17);
            let mut pieces = here.swarm.store().watch_pieces(&artifact.about.id).unwrap();
            pieces.mark_unchanged();
            find(here.swarm.store(), &artifact);
            assert!(pieces.has_changed().unwrap(), "{case}: peers hear of it");
            is_mended(&here, &artifact).await;
        }
    }
}

/// Also across a restart, and when nobody has it for the time being.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_what_was_whole_before_a_start_is_whole_again_once_somebody_has_it() {
    for file in ["data", "manifest.json"] {
        let (hub, artifact) = (Hub::default(), artifact(12, 10_000));
        let first = node(&hub, "one");
        give(first.swarm.store(), &artifact, |_| true);
        admit(&first, &artifact);
        let dir = first.dir.clone();
        rot(&first, &artifact, file, 40);
        drop(first);
        let start = || Setup { dir: Some(dir.clone()), ..Setup::of("one") }.start(&hub);
        let second = start();
        let rotted = || second.swarm.store().rotted() == [artifact.about.id];
        eventually("it is known", rotted).await;
        drop(second);
        let third = start();
        eventually("still", || third.swarm.store().rotted() == [artifact.about.id]).await;
        let two = node(&hub, "two");
        give(two.swarm.store(), &artifact, |_| true);
        is_mended(&third, &artifact).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_a_manifest_that_rots_is_fetched_again_and_no_piece_is() {
    let (hub, artifact) = (Hub::default(), artifact(12, 10_000));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |_| true);
    give(two.swarm.store(), &artifact, |_| true);
    admit(&one, &artifact);
    rot(&one, &artifact, "manifest.json", 40);
    let store = one.swarm.store();
    store.verify(&artifact.about.id, 0).unwrap();
    assert!(store.has_whole(&artifact.about.id));
    is_mended(&one, &artifact).await;
}

/// As on a sector that has failed: what does not read is written anew elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_a_manifest_that_does_not_read_is_fetched_again() {
    let (hub, artifact) = (Hub::default(), artifact(12, 10_000));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |_| true);
    give(two.swarm.store(), &artifact, |_| true);
    admit(&one, &artifact);
    let path = file(&one, &artifact, "manifest.json");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let store = one.swarm.store();
    let error = store.manifest(&artifact.about.id).unwrap_err();
    assert!(matches!(error, StoreError::Read { .. }), "{error}");
    store.verify(&artifact.about.id, 0).unwrap();
    is_mended(&one, &artifact).await;
}

/// What did not read at a start is of no use to anybody unless a release has it; until then it is there, and
/// can be cleared away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_what_does_not_read_and_no_release_has_goes() {
    let (hub, [released, other]) =
        (Hub::default(), ["released", "other"].map(|name| artifact_of(name, 3, 1_000)));
    let first = node(&hub, "one");
    for artifact in [&released, &other] {
        give(first.swarm.store(), artifact, |_| true);
        std::fs::remove_file(file(&first, artifact, "pieces")).unwrap();
    }
    admit(&first, &released);
    let dir = first.dir.clone();
    drop(first);
    let second = Setup { dir: Some(dir), ..Setup::of("one") }.start(&hub);
    let (store, there) = (second.swarm.store(), [released.about.id]);
    eventually("one goes", || store.artifacts() == there && store.rotted() == there).await;
    let is_there = |artifact: &Artifact| file(&second, artifact, "manifest.json").exists();
    eventually("all of it", || !is_there(&other)).await;
    assert!(is_there(&released));
    let mut changes = store.changes();
    changes.mark_unchanged();
    store.remove_artifact(&released.about.id).unwrap();
    assert!(changes.has_changed().unwrap(), "it is not sought any more");
    assert_eq!((store.artifacts(), store.rotted()), (vec![], vec![]));
    assert!(!is_there(&released));
}

/// However many have rotted, a few are sought at a time, and none is left out.
#[tokio::test(start_paused = true)]
async fn r29_what_nobody_gives_leaves_its_place_to_what_rotted_besides() {
    let hub = Hub::default();
    let one = node(&hub, "one");
    let all = ["a", "b", "c", "d", "e", "f"].map(|name| artifact_of(name, 2, 1_000));
    assert!(all.len() > upkeep::MENDS_MAX);
    for artifact in &all {
        give(one.swarm.store(), artifact, |_| true);
        rot(&one, artifact, "data", 0);
        one.swarm.store().verify(&artifact.about.id, 0).unwrap();
    }
    let sought = || -> BTreeSet<_> {
        let turns = one.swarm.0.turns.lock().unwrap();
        let sought = turns.iter().filter(|(_, turn)| Arc::strong_count(turn) > 1);
        sought.map(|(id, _)| *id).collect()
    };
    let mut seen = BTreeSet::new();
    for _ in 0..300 {
        sleep(Duration::from_secs(1)).await;
        let now = sought();
        assert!(now.len() <= upkeep::MENDS_MAX, "{} are sought", now.len());
        seen.extend(now);
    }
    assert_eq!(seen.len(), all.len());
}

/// An artifact that goes while it is being mended goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_what_is_not_needed_any_more_is_not_mended() {
    let (hub, artifact) = (Hub::default(), artifact(12, 10_000));
    let one = node(&hub, "one");
    give(one.swarm.store(), &artifact, |_| true);
    rot(&one, &artifact, "data", 0);
    let (store, id) = (one.swarm.store(), artifact.about.id);
    store.verify(&id, 0).unwrap();
    let sought = || one.swarm.0.turns.lock().unwrap().contains_key(&id);
    eventually("it is sought", sought).await;
    store.remove_artifact(&id).unwrap();
    let two = node(&hub, "two");
    give(two.swarm.store(), &artifact, |_| true);
    let given_up = || {
        let turns = one.swarm.0.turns.lock().unwrap();
        turns.get(&id).is_none_or(|turn| Arc::strong_count(turn) == 1)
    };
    eventually("it is given up", given_up).await;
    assert_eq!((store.artifacts(), store.rotted()), (vec![], vec![]));
}

/// Who asks for what is being mended does not wait for that, which may be for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_a_fetch_goes_before_mending() {
    let (hub, artifact) = (Hub::default(), artifact(12, 10_000));
    let one = node(&hub, "one");
    give(one.swarm.store(), &artifact, |_| true);
    rot(&one, &artifact, "data", 0);
    let id = artifact.about.id;
    one.swarm.store().verify(&id, 0).unwrap();
    eventually("it is sought", || one.swarm.0.turns.lock().unwrap().contains_key(&id)).await;
    let handle = one.swarm.fetch(artifact.about, Company::default());
    let mut progress = handle.progress();
    let begun = progress.wait_for(|progress| matches!(progress.stall, Some(Stall::NoPeers { .. })));
    drop(timeout(DEADLINE, begun).await.expect("it waits for ever").unwrap());
    let two = node(&hub, "two");
    give(two.swarm.store(), &artifact, |_| true);
    timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
    is_mended(&one, &artifact).await;
}

/// The whole store once a day, a piece at a time, from one artifact to the next and over again.
#[tokio::test(start_paused = true)]
async fn r26_every_piece_is_hashed_once_a_day() {
    let disk = Arc::new(SimDisk::new());
    let store = Store::open(disk.clone(), "/store".as_ref()).unwrap();
    for pieces in [19, 7] {
        let (id, manifest, frames) = power_cut::artifact(pieces);
        store.begin(&id, &manifest).unwrap();
        for (index, frame) in (0..).zip(&frames) {
            store.write_piece(&id, index, frame).unwrap();
        }
        store.flush(&id).unwrap();
    }
    let day = Duration::from_secs(24 * 3_600 + 60);
    assert!(timeout(3 * day, upkeep::look(&store)).await.is_err());
    assert_eq!(store.rotted(), [], "nothing rotted");
    for pieces in [19, 7] {
        let (id, _, frames) = power_cut::artifact(pieces);
        let data = format!("/store/artifacts/{id:#}/data");
        // The last byte of the last piece.
        let end = frames.iter().map(Vec::len).sum::<usize>() as u64 - 1;
        disk.write_at(data.as_ref(), end, &[0xff]).unwrap();
        assert!(timeout(day, upkeep::look(&store)).await.is_err());
        assert!(store.rotted().contains(&id));
        let held = store.pieces(&id).unwrap();
        assert_eq!(
            (held.count(), held.contains(u32::from(pieces) - 1)),
            (u32::from(pieces) - 1, false)
        );
    }
}
