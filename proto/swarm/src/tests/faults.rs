//! Peers that give slowly, on purpose or not, or are gone: others are not held up, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use net::{Alpn, Connection, Endpoint, Expect, Handler, RecvStream, SendStream, frame};
use proto::Digest;
use proto::record::Lie;
use proto::wire::{Found, Have, SWARM_REQUEST_BYTES_MAX, SwarmRequest};
use tokio::time::{sleep, timeout};

use super::fetching::{Say, fetch, futures_join, give, has_all, impostor, of, yes};
use super::hub::{DEADLINE, HOSTS, Hub, Node, Setup, eventually, node};
use super::kit::{Artifact, artifact, directory, host_id, identity};
use super::pieces::{Got, ask_for};
use crate::bits::Bits;
use crate::plan::{DENIALS_MAX, PIPELINE_MAX, What};
use crate::transfer::ask::{self, Source};
use crate::{Company, FetchError, StoreError};

/// Says that it holds all of an artifact, gives pieces drop by drop, and answers nothing else.
#[derive(Clone)]
struct Trickles {
    artifact: Arc<Artifact>,
    /// What it gives at a time, in bytes.
    drop_bytes: usize,
    asked: Arc<AtomicU32>,
    /// Answers that the asker wanted no more.
    cancelled: Arc<AtomicU32>,
}

/// From one drop to the next.
const DROP_EVERY: Duration = Duration::from_millis(100);

impl Trickles {
    fn new(artifact: &Arc<Artifact>, drop_bytes: usize) -> Self {
        let (asked, cancelled) = Default::default();
        Self { artifact: artifact.clone(), drop_bytes, asked, cancelled }
    }

    async fn answer(&self, mut send: SendStream, mut recv: RecvStream) {
        let request = frame::recv(&mut recv, SWARM_REQUEST_BYTES_MAX, DEADLINE).await.unwrap();
        let content = match request {
            SwarmRequest::Have { .. } => {
                let len = u32::try_from(self.artifact.pieces.len()).unwrap();
                let bitmap = Bits::all(len).as_bytes().to_vec();
                let _ = frame::send(&mut send, &Have { bitmap }, 1 << 16, DEADLINE).await;
                return;
            }
            SwarmRequest::Blob { .. } => &self.artifact.manifest,
            SwarmRequest::Piece { index, .. } => &self.artifact.pieces[index as usize],
            // As of an earlier version.
            SwarmRequest::Sliced { .. } => return,
            _ => return std::future::pending().await,
        };
        let found = Found::Yes { bytes: content.len() as u64 };
        let _ = frame::send(&mut send, &found, 64, DEADLINE).await;
        if content == &self.artifact.manifest {
            let _ = frame::send_bytes(&mut send, content, DEADLINE).await;
            return;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        for part in content.chunks(self.drop_bytes) {
            if frame::send_bytes(&mut send, part, DEADLINE).await.is_err() {
                self.cancelled.fetch_add(1, Ordering::Relaxed);
                return;
            }
            sleep(DROP_EVERY).await;
        }
    }
}

#[async_trait]
impl Handler for Trickles {
    async fn connection(&self, connection: Connection) {
        let mut answers = tokio::task::JoinSet::new();
        while let Ok((send, recv)) = connection.accept_bi().await {
            let own = self.clone();
            answers.spawn(async move { own.answer(send, recv).await });
        }
    }
}

fn trickling(hub: &Hub, name: &'static str, handler: &Trickles) -> Node {
    let answers: Arc<dyn Handler> = Arc::new(handler.clone());
    let node = Setup { handler: Some(answers), ..Setup::of(name) }.start(hub);
    give(node.swarm.store(), &handler.artifact, |_| true);
    node
}

/// R26: a stream that does not end in time holds no piece. What trickles is asked of somebody else, too, who
/// is waited for; the slower answer is cancelled. It is slow, and nobody can say that it lies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_a_peer_that_trickles_holds_no_piece_hostage() {
    let (hub, artifact) = (Hub::default(), Arc::new(artifact(12, 1 << 20)));
    // Enough to be progress, and 100 s for a piece.
    let handler = Trickles::new(&artifact, 1 << 10);
    let _slow = trickling(&hub, "liar", &handler);
    let host = node(&hub, "one");
    let handle = host.swarm.fetch(artifact.about, Company::default());
    eventually("it is asked", || handler.asked.load(Ordering::Relaxed) > 0).await;
    let two = node(&hub, "two");
    give(two.swarm.store(), &artifact, |_| true);
    let progress = handle.progress();
    timeout(DEADLINE, handle.done()).await.expect("its pieces are asked of two").unwrap();
    has_all(&host, &artifact);
    assert_eq!(progress.borrow().banned, []);
    let asked = handler.asked.load(Ordering::Relaxed);
    eventually("all are cancelled", || handler.cancelled.load(Ordering::Relaxed) == asked).await;
}

fn source(node: &Node) -> Source {
    Source { host: host_id(node.name), address: node.address }
}

/// A bitmap that lies costs a few asks: who has not what it announces is dropped, and named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_a_peer_that_announces_what_it_has_not_is_dropped_and_named() {
    let (hub, artifact) = (Hub::default(), Arc::new(artifact(40, 10_000)));
    let denied = Arc::new(AtomicU32::new(0));
    let count = denied.clone();
    let _liar = impostor(&hub, "liar", &artifact, move |_, _| {
        count.fetch_add(1, Ordering::Relaxed);
        Say::Found(Found::No, vec![])
    });
    let host = node(&hub, "one");
    let handle = host.swarm.fetch(artifact.about, Company::default());
    let mut progress = handle.progress();
    let found_out = progress.wait_for(|progress| !progress.banned.is_empty());
    drop(timeout(DEADLINE, found_out).await.expect("it is asked for ever").unwrap());
    let two = node(&hub, "two");
    give(two.swarm.store(), &artifact, |_| true);
    timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
    has_all(&host, &artifact);
    assert_eq!(progress.borrow().banned, [(host_id("liar"), Lie::NotThere)]);
    // What was under way when it was found out is no more than a full pipeline.
    let asked = denied.load(Ordering::Relaxed);
    assert!(asked <= DENIALS_MAX + 1 + PIPELINE_MAX, "{asked}");
}

/// A line on which a piece takes longer than any fixed time brings it all the same; and one answer that
/// does not come cuts none of those that do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r27_a_piece_on_a_slow_line_comes_to_its_end_whatever_else_is_late() {
    let (hub, artifact) = (Hub::default(), Arc::new(artifact(2, 32_000)));
    // 16 s for a piece.
    let slow = trickling(&hub, "one", &Trickles::new(&artifact, 200));
    let two = node(&hub, "two");
    let piece = ask_for(&slow, &two, &artifact, What::Piece(1));
    let (pool, request) = (&two.swarm.0.pool, SwarmRequest::Statement { id: Digest::of(b"x") });
    let of_it = source(&slow);
    let never = ask::content(pool, &of_it, &request, 100);
    let (piece, never) = tokio::join!(timeout(DEADLINE, piece), timeout(DEADLINE, never));
    assert!(never.unwrap().is_err_and(|error| error.is_late()), "said once it is late");
    let expected = Got::Piece(1, artifact.pieces[1].clone());
    assert!(piece.unwrap() == expected, "the piece");
}

/// The origin is gone when a tenth is out: what there is goes round, and it is said what is missing. Once
/// somebody has the rest they finish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r27_the_origin_dies_at_a_tenth_and_what_nobody_has_is_said() {
    let (hub, artifact) = (Hub::default(), Arc::new(artifact(30, 50_000)));
    let hosts = ["one", "two", "three"].map(|name| node(&hub, name));
    let stores = hosts.each_ref().map(|host| host.swarm.store().clone());
    let id = artifact.about.id;
    let out = move || {
        let held = |index: u32| {
            stores.iter().any(|store| store.pieces(&id).is_ok_and(|held| held.contains(index)))
        };
        (0..30).filter(|index| held(*index)).count()
    };
    let given = AtomicU32::new(0);
    let origin = impostor(&hub, "admit", &artifact, move |artifact, index| {
        match given.fetch_add(1, Ordering::Relaxed) < 3 {
            true => yes(&artifact.pieces[index as usize]),
            false => Say::Found(Found::Busy, vec![]),
        }
    });
    let handles =
        hosts.each_ref().map(|host| host.swarm.fetch(artifact.about, of(host_id("admit"))));
    eventually("a tenth is out", || out() >= 2).await;
    hub.dies("admit");
    drop(origin);
    for handle in &handles {
        let mut progress = handle.progress();
        let (out, says) = (out(), "no member holds piece ");
        let others = format!("nor {} others, 2 asked", 29 - out);
        let said = progress.wait_for(|progress| {
            let stall = progress.stall.as_ref().map(ToString::to_string).unwrap_or_default();
            progress.pieces as usize == out && stall.starts_with(says) && stall.ends_with(&others)
        });
        let said = timeout(DEADLINE, said).await.map(|said| said.map(drop));
        assert!(matches!(said, Ok(Ok(()))), "{:?}", handle.progress().borrow());
    }
    let four = node(&hub, "four");
    give(four.swarm.store(), &artifact, |_| true);
    for ended in
        futures_join(handles.into_iter().map(|handle| timeout(DEADLINE, handle.done()))).await
    {
        ended.unwrap().unwrap();
    }
}

/// Hosts of one cohort tell each other what they have before gossip does, or where it never does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r27_who_fetches_the_same_is_asked_before_it_is_announced() {
    let (hub, artifact) = (Hub::default(), artifact(12, 10_000));
    let quiet = Setup { quiet: true, ..Setup::of("one") }.start(&hub);
    let two = node(&hub, "two");
    // The manifest alone.
    give(two.swarm.store(), &artifact, |_| false);
    let company = Company { origin: None, fetchers: vec![host_id("one"), host_id("six")] };
    let handle = two.swarm.fetch(artifact.about, company);
    let mut progress = handle.progress();
    let stalled = progress.wait_for(|progress| progress.stall.is_some());
    drop(timeout(DEADLINE, stalled).await.unwrap().unwrap());
    give(quiet.swarm.store(), &artifact, |_| true);
    timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
    has_all(&two, &artifact);
}

/// What an origin gave before it was started again is new again: it gives what is named, and nobody waits for
/// what it has forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r27_an_origin_that_was_started_again_gives_on() {
    let (hub, artifact) = (Hub::default(), artifact(12, 10_000));
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &artifact, |index| index < 6);
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    let new = || What::New(vec![3, 4]);
    let content = |index: u32| Got::Piece(index, artifact.pieces[index as usize].clone());
    assert!(ask_for(&origin, &two, &artifact, new()).await == content(3));
    let handle = one.swarm.fetch(artifact.about, of(host_id("admit")));
    let mut progress = handle.progress();
    let half = progress.wait_for(|progress| progress.pieces == 6);
    drop(timeout(DEADLINE, half).await.unwrap().unwrap());
    let dir = origin.dir.clone();
    drop(origin);
    let origin = Setup { dir: Some(dir), ..Setup::of("admit") }.start(&hub);
    give(origin.swarm.store(), &artifact, |_| true);
    assert!(ask_for(&origin, &two, &artifact, new()).await == content(3), "forgotten");
    timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
    has_all(&one, &artifact);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_of_no_piece_and_of_one_are_fetched_and_served_on() {
    for pieces in [0, 1] {
        let (hub, artifact) = (Hub::default(), artifact(pieces, 300_000));
        let [origin, one, two] = ["admit", "one", "two"].map(|name| node(&hub, name));
        give(origin.swarm.store(), &artifact, |_| true);
        for host in [&one, &two] {
            let progress = fetch(host, &artifact).await;
            assert_eq!((progress.pieces, progress.of, progress.banned), (pieces, pieces, vec![]));
        }
    }
}

/// Subscriptions to what is here: so many for one asker, on however many connections, and none for ever to
/// what there is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_subscriptions_of_one_asker_are_bounded_in_number_and_time() {
    let (hub, artifact) = (Hub::default(), artifact(12, 10_000));
    let one = node(&hub, "one");
    give(one.swarm.store(), &artifact, |index| index == 0);
    let loopback = "127.0.0.1:0".parse().unwrap();
    let greedy = Endpoint::bind(loopback, identity("liar"), directory(&HOSTS)).unwrap();
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..2 {
        let connection = greedy.connect(Alpn::Swarm, one.address, Expect::AnyMember).await.unwrap();
        for _ in 0..12 {
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            // It is known, so it would be kept for as long as not all is here.
            let request = SwarmRequest::Have { artifact: artifact.about.id };
            frame::send(&mut send, &request, SWARM_REQUEST_BYTES_MAX, DEADLINE).await.unwrap();
            match frame::recv::<Have>(&mut recv, 1 << 16, DEADLINE).await {
                Ok(_) => open.push((send, recv)),
                Err(_) => refused += 1,
            }
        }
    }
    assert_eq!((open.len(), refused), (16, 8));
    let two = node(&hub, "two");
    let mut unknown =
        ask::Holdings::ask(&two.swarm.0.pool, &source(&one), Digest::of(b"unknown")).await.unwrap();
    assert_eq!(unknown.next().await.unwrap(), Some(vec![]), "others are answered");
    let ended = timeout(DEADLINE, unknown.next()).await.expect("it waits for ever");
    assert_eq!(ended.unwrap(), None);
}

/// A host whose power fails takes nothing and says nothing. What it was given, and what else it had asked for,
/// soon keeps nobody waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r27_a_host_that_died_gives_its_places_back() {
    let (hub, artifact) = (Hub::default(), artifact(8, 1 << 20));
    let one = node(&hub, "one");
    give(one.swarm.store(), &artifact, |_| true);
    let (address, id) = (one.address, artifact.about.id);
    let (wake, woken) = std::sync::mpsc::channel::<()>();
    let dying = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (_endpoint, connection, _streams) = runtime.block_on(async {
            let loopback = "127.0.0.1:0".parse().unwrap();
            let endpoint = Endpoint::bind(loopback, identity("two"), directory(&HOSTS)).unwrap();
            let connection =
                endpoint.connect(Alpn::Swarm, address, Expect::AnyMember).await.unwrap();
            let mut streams = Vec::new();
            for index in 0..8 {
                let (mut send, mut recv) = connection.open_bi().await.unwrap();
                let request = SwarmRequest::Piece { artifact: id, index };
                frame::send(&mut send, &request, SWARM_REQUEST_BYTES_MAX, DEADLINE).await.unwrap();
                if index == 0 {
                    frame::recv_bytes(&mut recv, 1_000, DEADLINE).await.unwrap();
                }
                streams.push((send, recv));
            }
            (endpoint, connection, streams)
        });
        // Nothing of it turns while this waits.
        woken.recv().unwrap();
        runtime.block_on(async { timeout(DEADLINE, connection.closed()).await.is_ok() })
    });
    let load = || {
        let counts = one.swarm.provided();
        counts.running + counts.waiting
    };
    eventually("it is given something", || load() > 0).await;
    eventually("all its places are free", || load() == 0).await;
    wake.send(()).unwrap();
    assert!(dying.join().unwrap(), "what else it asks would wait here, too");
}

/// A piece that takes long comes all the same: a fetch of it does not stand still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r27_what_has_come_of_a_piece_counts() {
    let (hub, artifact) = (Hub::default(), Arc::new(artifact(1, 900_000)));
    let slow = Trickles::new(&artifact, 10_000);
    let _peer = trickling(&hub, "two", &slow);
    let host = node(&hub, "one");
    let handle = host.swarm.fetch(artifact.about, Company::default());
    let mut progress = handle.progress();
    let mut longest_s = 0;
    let watched = async {
        // Nine seconds and more.
        while progress.changed().await.is_ok() {
            longest_s = progress.borrow_and_update().still_s.max(longest_s);
        }
    };
    timeout(DEADLINE, watched).await.unwrap();
    handle.done().await.unwrap();
    assert!(longest_s < 6, "{longest_s} s");
}

/// Who forgot what it fetches knows no more how long a piece is: that is no lie of whoever gives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_an_artifact_that_is_removed_while_it_is_fetched_makes_nobody_a_liar() {
    let (hub, artifact) = (Hub::default(), Arc::new(artifact(3, 10_000)));
    let host = node(&hub, "one");
    let (store, id) = (host.swarm.store().clone(), artifact.about.id);
    let _peer = impostor(&hub, "two", &artifact, move |artifact, index| {
        store.remove_artifact(&id).unwrap();
        yes(&artifact.pieces[index as usize])
    });
    let handle = host.swarm.fetch(artifact.about, of(host_id("two")));
    let progress = handle.progress();
    let ended = timeout(DEADLINE, handle.done()).await.unwrap();
    assert!(
        matches!(ended, Err(FetchError::Store(StoreError::NoArtifact(gone))) if gone == id),
        "{ended:?}"
    );
    assert_eq!(progress.borrow().banned, []);
}
