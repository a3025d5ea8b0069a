//! R28: which patches there are, and fetches that spare what is there already.

use std::sync::Arc;

use async_trait::async_trait;
use net::{Connection, Handler};
use proto::HostId;
use proto::artifact::Manifest;
use proto::patch::{PATCHES_MAX, PatchName, PatchOffer};
use proto::wire::PATCHES_BYTES_MAX;
use proto::{Digest, codec};
use tokio::time::timeout;

use super::fetching::{give, of};
use super::hub::{DEADLINE, Hub, Setup, node};
use super::kit::{Artifact, artifact, artifact_of, host_id};
use crate::bits::Bits;
use crate::{Company, FetchError, Store};

fn id(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn patch(from: &str, to: &str, pieces: u32) -> Artifact {
    let name = PatchName { from: id(from), to: id(to) };
    artifact_of(&name.to_string(), pieces, 1_000)
}

fn offer(from: &str, patch: &Artifact) -> PatchOffer {
    PatchOffer { from: id(from), patch: patch.about }
}

#[test]
fn r28_a_store_knows_its_patches_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let disk = || Arc::new(durable::RealDisk);
    let store = Store::open(disk(), dir.path()).unwrap();
    let (long, short, begun) = (patch("1", "3", 3), patch("2", "3", 2), patch("0", "3", 1));
    let other = patch("1", "2", 1);
    give(&store, &long, |_| true);
    give(&store, &short, |_| true);
    give(&store, &begun, |_| false);
    give(&store, &other, |_| true);
    give(&store, &artifact(2, 1_000), |_| true);
    let know = |store: &Store| {
        assert_eq!(store.patches().len(), 4);
        assert_eq!(store.patches_to(&id("3")), [offer("2", &short), offer("1", &long)]);
        assert_eq!(store.patches_to(&id("2")), [offer("1", &other)]);
        assert_eq!(store.patches_to(&id("1")), []);
    };
    know(&store);
    drop(store);
    let store = Store::open(disk(), dir.path()).unwrap();
    assert_eq!(store.patches_to(&id("3")), [], "nothing counts before it is hashed");
    store.artifacts().iter().for_each(|artifact| store.check(artifact).unwrap());
    know(&store);
    for number in 0..PATCHES_MAX {
        give(&store, &patch(&format!("more {number}"), "3", 4), |_| true);
    }
    let offers = store.patches_to(&id("3"));
    assert_eq!((offers.len(), offers[0]), (PATCHES_MAX, offer("2", &short)));
    assert!(codec::encode(&offers, PATCHES_BYTES_MAX).is_ok(), "as many as there can be fit");
}

/// Ends every stream, as a member of an earlier version does that does not know a question.
struct Old;

#[async_trait]
impl Handler for Old {
    async fn connection(&self, connection: Connection) {
        while connection.accept_bi().await.is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r28_the_origin_is_asked_for_patches_and_others_where_it_does_not_answer() {
    let hub = Hub::default();
    let (origin, host, peer) = (node(&hub, "admit"), node(&hub, "one"), node(&hub, "two"));
    let (theirs, ours) = (patch("1", "2", 1), patch("1", "2", 2));
    give(origin.swarm.store(), &theirs, |_| true);
    give(peer.swarm.store(), &ours, |_| true);
    let company = |origin: &str| Company {
        origin: Some(host_id(origin)),
        fetchers: vec![host_id("one"), host_id("two"), host_id("three")],
    };
    let told = host.swarm.patches_to(id("2"), &company("admit")).await;
    assert_eq!(told, [offer("1", &theirs)]);
    assert_eq!(host.swarm.patches_to(id("3"), &company("admit")).await, [], "it knows of none");
    assert_eq!(host.swarm.patches_to(id("2"), &Company::default()).await, [], "nobody to ask");
    // Of an earlier version, or not there at all.
    let _old = Setup { handler: Some(Arc::new(Old)), ..Setup::of("three") }.start(&hub);
    for origin in ["three", "six"] {
        let told = host.swarm.patches_to(id("2"), &company(origin)).await;
        assert_eq!(told, [offer("1", &ours)], "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r28_what_is_spared_is_not_fetched_and_may_come_later() {
    let (hub, artifact) = (Hub::default(), artifact(10, 10_000));
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &artifact, |_| true);
    let host = node(&hub, "one");
    let spare = |spared: &'static [u32]| {
        Box::new(move |manifest: &Manifest, here: &Bits| {
            assert_eq!((manifest.pieces.len(), here.len()), (10, 10));
            let mut bits = Bits::none(here.len());
            spared.iter().for_each(|piece| assert!(bits.insert(*piece)));
            Ok(bits)
        })
    };
    let fetch = async |spared| {
        let admit: HostId = host_id("admit");
        let handle = host.swarm.fetch_without(artifact.about, of(admit), spare(spared));
        let progress = handle.progress();
        timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
        progress.borrow().clone()
    };
    let progress = fetch(&[0, 3, 9]).await;
    assert_eq!(progress.bytes_from_origin, 7 * 10_000);
    let here = host.swarm.store().pieces(&artifact.about.id).unwrap();
    assert_eq!(here.iter().collect::<Vec<_>>(), [1, 2, 4, 5, 6, 7, 8], "it claims no more");
    let progress = fetch(&[3]).await;
    assert_eq!(progress.bytes_from_origin, 2 * 10_000);
    assert!(!host.swarm.store().has_whole(&artifact.about.id));
    fetch(&[]).await;
    assert!(host.swarm.store().has_whole(&artifact.about.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r28_what_is_to_come_whole_or_not_at_all_leaves_nothing_else() {
    let (hub, artifact) = (Hub::default(), artifact(5, 10_000));
    let (origin, host) = (node(&hub, "admit"), node(&hub, "one"));
    let (id, store) = (artifact.about.id, host.swarm.store());
    give(origin.swarm.store(), &artifact, |index| index < 3);
    give(store, &artifact, |index| index == 0);
    let fetch = |spared: Result<u32, &'static str>| {
        let spared = Box::new(move |_: &Manifest, here: &Bits| {
            spared.map(|_| Bits::none(here.len())).map_err(Into::into)
        });
        let handle = host.swarm.fetch_without(artifact.about, of(host_id("admit")), spared);
        handle.all_or_nothing();
        handle
    };
    let refused = timeout(DEADLINE, fetch(Err("it is something else")).done()).await.unwrap();
    assert!(matches!(refused, Err(FetchError::Unwanted(_))));
    assert_eq!(store.pieces(&id).unwrap().count(), 1, "whatever it is, it stays");

    let handle = fetch(Ok(0));
    let mut progress = handle.progress();
    let half = progress.wait_for(|progress| progress.pieces == 3);
    timeout(DEADLINE, half).await.unwrap().unwrap();
    handle.cancel();
    let cancelled = timeout(DEADLINE, handle.done()).await.unwrap();
    assert!(matches!(cancelled, Err(FetchError::Cancelled)));
    assert_eq!(store.artifacts(), [], "nothing stays");

    give(origin.swarm.store(), &artifact, |_| true);
    timeout(DEADLINE, fetch(Ok(0)).done()).await.unwrap().unwrap();
    drop(fetch(Ok(0)));
    timeout(DEADLINE, fetch(Ok(0)).done()).await.unwrap().unwrap();
    assert!(store.has_whole(&id), "what is whole stays");
}
