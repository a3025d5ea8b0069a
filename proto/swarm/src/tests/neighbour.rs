//! A good neighbour over real QUIC (R29): ceilings, what goes first, and a host in trouble.

use std::time::Duration;

use proto::wire::SwarmRequest;
use tokio::time::{sleep, timeout};

use super::fetching::{fetch, give, of};
use super::hub::{DEADLINE, Hub, node};
use super::kit::{artifact, genesis, host_id};
use super::pieces::{Got, ask_for};
use crate::plan::What;
use crate::transfer::ask::{self, Answer, Source};
use crate::{Ceilings, Company};

/// A piece of a few hundred kilobytes takes minutes.
const A_TRICKLE: Option<u64> = Some(1_000);
/// For what must not come: that it would have come by then, where it could.
const A_WHILE: Duration = Duration::from_millis(1_500);

fn up(up_bytes_per_s: Option<u64>) -> Ceilings {
    Ceilings { up_bytes_per_s, ..Ceilings::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_a_giver_under_a_ceiling_holds_back_pieces_alone_and_is_no_worse_a_peer_for_it() {
    let (hub, artifact) = (Hub::default(), artifact(12, 300_000));
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &artifact, |_| true);
    origin.swarm.set_ceilings(up(A_TRICKLE));
    let host = node(&hub, "one");
    let handle = host.swarm.fetch(artifact.about, of(host_id("admit")));
    let mut progress = handle.progress();
    let begun = progress.wait_for(|progress| progress.of == 12);
    timeout(DEADLINE, begun).await.unwrap().unwrap();
    sleep(A_WHILE).await;
    assert_eq!(progress.borrow().pieces, 0, "not yet");
    // While one is on its way, and on its connection.
    let source = Source { host: host_id("admit"), address: origin.address };
    let genesis = genesis();
    let id = artifact.about.id;
    let questions = [
        (SwarmRequest::Statement { id: genesis.id() }, genesis.to_bytes()),
        (SwarmRequest::Blob { id }, artifact.manifest.clone()),
    ];
    for (question, expected) in questions {
        let answer = ask::content(&host.swarm.0.pool, &source, &question, 1 << 20).await.unwrap();
        assert_eq!(answer, Answer::Content(expected), "{question:?}");
    }
    // In the middle of a piece.
    origin.swarm.set_ceilings(Ceilings::default());
    timeout(DEADLINE, handle.done()).await.expect("it counts at once").unwrap();
    let progress = progress.borrow().clone();
    assert_eq!(progress.bytes_from_origin, artifact.about.bytes, "nothing was given in vain");
    assert_eq!(progress.banned, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_a_fetch_under_a_ceiling_asks_for_no_more_than_it_may_take() {
    let (hub, artifact) = (Hub::default(), artifact(12, 300_000));
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &artifact, |_| true);
    let host = node(&hub, "one");
    host.swarm.set_ceilings(Ceilings { down_bytes_per_s: A_TRICKLE, ..Ceilings::default() });
    let handle = host.swarm.fetch(artifact.about, of(host_id("admit")));
    let mut progress = handle.progress();
    let first = progress.wait_for(|progress| progress.pieces > 0);
    timeout(DEADLINE, first).await.unwrap().unwrap();
    sleep(A_WHILE).await;
    let now = progress.borrow().clone();
    assert_eq!((now.pieces, now.stall), (1, None), "one at once; and it goes as fast as it is to");
    host.swarm.set_ceilings(Ceilings::default());
    timeout(DEADLINE, handle.done()).await.expect("it counts at once").unwrap();
    assert_eq!(progress.borrow().bytes_from_origin, artifact.about.bytes);
}

/// A piece takes a minute there, and has begun when somebody comes who wants what goes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_what_goes_first_passes_what_is_on_its_way() {
    let (hub, usual, back) = (Hub::default(), artifact(4, 1 << 20), artifact(3, 10_000));
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &usual, |_| true);
    give(origin.swarm.store(), &back, |_| true);
    origin.swarm.set_ceilings(up(Some(20_000)));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    let handle = one.swarm.fetch(usual.about, of(host_id("admit")));
    let mut progress = handle.progress();
    timeout(DEADLINE, progress.wait_for(|progress| progress.of == 4)).await.unwrap().unwrap();
    sleep(A_WHILE).await;
    origin.swarm.set_first([back.about.id].into());
    fetch(&two, &back).await;
    assert_eq!(progress.borrow().pieces, 0, "it was not waited for");
    origin.swarm.set_ceilings(Ceilings::default());
    timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_a_host_in_trouble_sends_askers_elsewhere_until_it_is_over() {
    let (hub, usual, back) = (Hub::default(), artifact(4, 10_000), artifact(3, 10_000));
    let [one, two, three] = ["one", "two", "three"].map(|name| node(&hub, name));
    give(one.swarm.store(), &usual, |_| true);
    give(one.swarm.store(), &back, |_| true);
    let piece = |artifact: &super::kit::Artifact| Got::Piece(0, artifact.pieces[0].clone());
    let (trouble, another) = (one.swarm.trouble(), one.swarm.trouble());
    one.swarm.set_first([back.about.id].into());
    assert_eq!(ask_for(&one, &two, &usual, What::Piece(0)).await, Got::Busy);
    assert!(ask_for(&one, &two, &back, What::Piece(0)).await == piece(&back), "it goes first");
    drop(another);
    assert_eq!(ask_for(&one, &two, &usual, What::Piece(0)).await, Got::Busy, "one is left");
    // Where somebody else has it, nobody waits.
    give(two.swarm.store(), &usual, |_| true);
    let progress = fetch(&three, &usual).await;
    assert_eq!(progress.banned, [], "it is no offence");
    // Where nobody has, it is waited for.
    two.swarm.store().remove_artifact(&usual.about.id).unwrap();
    hub.dies("three");
    let handle = two.swarm.fetch(usual.about, Company::default());
    let mut progress = handle.progress();
    timeout(DEADLINE, progress.wait_for(|progress| progress.of == 4)).await.unwrap().unwrap();
    sleep(A_WHILE).await;
    assert_eq!(progress.borrow().pieces, 0);
    drop(trouble);
    timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
}
