//! Artifacts over real QUIC, with peers that behave and peers that do not.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use durable::{Disk, Kind, RealDisk};
use net::{Alpn, Connection, Endpoint, Expect, Handler, RecvStream, SendStream, frame};
use proto::HostId;
use proto::artifact::Manifest;
use proto::record::{self, Lie, ProgressRecord, SLOTS, StallRecord};
use proto::wire::{Found, Have, SWARM_REQUEST_BYTES_MAX, SwarmRequest};
use tokio::time::timeout;

use super::hub::{DEADLINE, HOSTS, Hub, Node, Setup, Silent, eventually, node};
use super::kit::{Artifact, artifact, directory, genesis, host_id, identity};
use crate::bits::Bits;
use crate::plan::Stall;
use crate::store::Store;
use crate::transfer::ask::{self, Answer, Source};
use crate::transfer::peers::announcers;
use crate::{Company, FetchError, Progress};

/// Puts pieces of an artifact into a store.
pub(super) fn give(store: &Store, artifact: &Artifact, holds: impl Fn(u32) -> bool) {
    let id = &artifact.about.id;
    store.begin(id, &artifact.manifest).unwrap();
    store.check(id).unwrap();
    for (index, bytes) in (0..).zip(&artifact.pieces).filter(|(index, _)| holds(*index)) {
        store.write_piece(id, index, bytes).unwrap();
    }
    store.flush(id).unwrap();
}

pub(super) fn has_all(node: &Node, artifact: &Artifact) {
    for (index, bytes) in (0..).zip(&artifact.pieces) {
        let held = node.swarm.store().read_piece(&artifact.about.id, index).unwrap();
        assert!(held.as_ref() == Some(bytes), "{}: piece {index}", node.name);
    }
}

/// A fetch from this origin, by nobody else.
pub(super) fn of(origin: HostId) -> Company {
    Company { origin: Some(origin), fetchers: Vec::new() }
}

/// Fetches to the end, from the coordinator last; returns where it stood then.
pub(super) async fn fetch(node: &Node, artifact: &Artifact) -> Progress {
    let handle = node.swarm.fetch(artifact.about, of(host_id("admit")));
    let progress = handle.progress();
    let ended = timeout(DEADLINE, handle.done()).await;
    let last = progress.borrow().clone();
    ended.unwrap_or_else(|_| panic!("{} got stuck: {last:?}", node.name)).unwrap();
    has_all(node, artifact);
    last
}

/// Answers by a function of its own: what it returns follows the request.
struct Answers<F>(F);

pub(super) enum Say {
    Found(Found, Vec<u8>),
    Have(Vec<u8>),
    /// Gives the stream up without a word.
    Nothing,
    /// Ends it without a word, as an earlier version does where it does not know the question.
    Ended,
}

#[async_trait]
impl<F: Fn(&SwarmRequest) -> Say + Send + Sync + 'static> Handler for Answers<F> {
    async fn connection(&self, connection: Connection) {
        let mut kept: Vec<(SendStream, RecvStream)> = Vec::new();
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let request = frame::recv(&mut recv, SWARM_REQUEST_BYTES_MAX, DEADLINE).await.unwrap();
            match (self.0)(&request) {
                Say::Have(bitmap) => {
                    let _ = frame::send(&mut send, &Have { bitmap }, 1 << 16, DEADLINE).await;
                }
                Say::Nothing => drop(send.reset(0u32.into())),
                Say::Ended => {}
                Say::Found(found, bytes) => {
                    let _ = frame::send(&mut send, &found, 64, DEADLINE).await;
                    let _ = frame::send_bytes(&mut send, &bytes, DEADLINE).await;
                }
            }
            let _ = send.finish();
            kept.push((send, recv));
        }
    }
}

pub(super) fn yes(bytes: &[u8]) -> Say {
    Say::Found(Found::Yes { bytes: bytes.len() as u64 }, bytes.to_vec())
}

/// Says that it holds all of an artifact, gives its manifest, and answers with `rest` what else it is
/// asked; of an earlier version, unless it knows `slices`.
pub(super) fn says_it_holds_all(
    artifact: &Arc<Artifact>,
    slices: bool,
    rest: impl Fn(&Artifact, &SwarmRequest) -> Say + Send + Sync + 'static,
) -> Arc<dyn Handler> {
    let held = artifact.clone();
    Arc::new(Answers(move |request: &SwarmRequest| match request {
        SwarmRequest::Have { .. } => {
            let len = u32::try_from(held.pieces.len()).unwrap();
            Say::Have(Bits::all(len).as_bytes().to_vec())
        }
        SwarmRequest::Blob { .. } => yes(&held.manifest),
        SwarmRequest::Sliced { .. } if !slices => Say::Ended,
        request => rest(&held, request),
    }))
}

/// A member that says it holds all of an artifact and answers for pieces with `piece`.
pub(super) fn impostor(
    hub: &Hub,
    name: &'static str,
    artifact: &Arc<Artifact>,
    piece: impl Fn(&Artifact, u32) -> Say + Send + Sync + 'static,
) -> Node {
    let handler = says_it_holds_all(artifact, false, move |artifact, request| match request {
        SwarmRequest::Piece { index, .. } => piece(artifact, *index),
        _ => Say::Found(Found::No, vec![]),
    });
    let node = Setup { handler: Some(handler), ..Setup::of(name) }.start(hub);
    give(node.swarm.store(), artifact, |_| true);
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_an_origin_and_four_hosts() {
    let (hub, artifact) = (Hub::default(), artifact(40, 300_000));
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &artifact, |_| true);
    let hosts = ["one", "two", "three", "four"].map(|name| node(&hub, name));
    let fetches = hosts.iter().map(|host| fetch(host, &artifact));
    for progress in futures_join(fetches).await {
        assert_eq!((progress.pieces, progress.of, progress.stall), (40, 40, None));
        let bytes = progress.bytes_from_origin + progress.bytes_from_peers;
        // More, where a slow machine has the last pieces asked for twice.
        assert!(bytes >= artifact.about.bytes);
        assert_eq!(progress.banned, []);
    }
    // A second fetch has nothing to do.
    assert_eq!(fetch(&hosts[0], &artifact).await.bytes_from_origin, 0);
}

/// Polls all at once on this task.
pub(super) async fn futures_join<T>(
    futures: impl Iterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in &mut pending {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        match pending.iter().all(|(_, done)| done.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    pending.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_a_peer_that_serves_wrong_bytes_is_dropped_and_named() {
    type Given = fn(&Artifact, u32) -> Say;
    let lies: [(&str, Given); 4] = [
        ("flipped", |artifact, index| {
            let mut bytes = artifact.pieces[index as usize].clone();
            bytes[0] ^= 1;
            yes(&bytes)
        }),
        ("another piece", |artifact, index| {
            yes(&artifact.pieces[(index as usize + 1) % artifact.pieces.len()])
        }),
        ("cut short", |artifact, index| yes(&artifact.pieces[index as usize][1..])),
        ("endless", |_, _| Say::Found(Found::Yes { bytes: u64::MAX }, vec![0; 1 << 16])),
    ];
    for (name, lie) in lies {
        let (hub, artifact) = (Hub::default(), Arc::new(artifact(12, 50_000)));
        let origin = node(&hub, "admit");
        let _liar = impostor(&hub, "liar", &artifact, lie);
        let host = node(&hub, "one");
        eventually("the liar announces", || host_announces(&host, "liar")).await;
        let handle = host.swarm.fetch(artifact.about, of(host_id("admit")));
        let mut progress = handle.progress();
        // An origin that has it sooner may be faster than the liar, and then nobody is found out.
        let found_out = progress.wait_for(|progress| !progress.banned.is_empty());
        drop(timeout(DEADLINE, found_out).await.expect(name).unwrap());
        give(origin.swarm.store(), &artifact, |_| true);
        timeout(DEADLINE, handle.done()).await.expect(name).unwrap();
        has_all(&host, &artifact);
        let progress = progress.borrow().clone();
        assert_eq!(progress.banned, [(host_id("liar"), Lie::WrongBytes)], "{name}");
        assert_eq!(progress.bytes_from_peers, 0, "{name}: nothing of a liar counts");
        // More, where a slow machine has the last pieces asked for twice.
        assert!(progress.wrong == 1 && progress.verified >= 12, "{name}: {progress:?}");
        eventually("the fleet is told who lied", || {
            let told = says_of(&host, &artifact).and_then(|record| record.fetch);
            let named = [(host_id("liar"), Lie::WrongBytes)].into();
            told.is_some_and(|fetch| !fetch.running && fetch.banned == named)
        })
        .await;
    }
}

/// What a node says in gossip of an artifact.
fn says_of(node: &Node, artifact: &Artifact) -> Option<ProgressRecord> {
    let members = node.swarm.0.hearsay.members.borrow().clone();
    let me = members.iter().find(|member| member.host == host_id(node.name))?;
    let records = (0..SLOTS).filter_map(|slot| me.values.get(&record::progress_key(slot)));
    let mut records = records.filter_map(|text| record::from_text::<ProgressRecord>(text));
    records.find(|record| record.artifact == artifact.about.id)
}

/// What a fetch has and needs, how fast, from whom and why it stands still is told while it is so; where
/// it came from, also afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_where_a_fetch_stands_is_told_to_the_fleet_and_counted() {
    let (hub, artifact) = (Hub::default(), artifact(20, 10_000));
    let [origin, peer, host] = ["admit", "two", "one"].map(|name| node(&hub, name));
    give(origin.swarm.store(), &artifact, |index| index < 8);
    give(peer.swarm.store(), &artifact, |index| (8..13).contains(&index));
    give(host.swarm.store(), &artifact, |index| index == 19);
    eventually("the peer announces", || says_of(&peer, &artifact).is_some()).await;
    assert_eq!(says_of(&peer, &artifact).unwrap().fetch, None, "it fetched nothing");
    let handle = host.swarm.fetch(artifact.about, of(host_id("admit")));
    let fetch = || says_of(&host, &artifact).and_then(|record| record.fetch);
    let stall = Some(StallRecord { why: record::Stall::NoHolder, pieces: 6 });
    eventually("it is told why nothing comes", || fetch().is_some_and(|told| told.stall == stall))
        .await;
    let told = fetch().unwrap();
    assert_eq!((told.running, told.peers), (true, 2), "{told:?}");
    assert_eq!(told.bytes, 140_000, "what was here before counts");
    // More, where a slow machine has pieces asked for twice.
    assert!(told.from.peers >= 50_000 && told.from.origin >= 80_000, "{told:?}");
    let counts = host.swarm.fetched();
    assert_eq!((counts.running, counts.peers, counts.pieces_wrong), (1, 2, 0));
    assert!(counts.pieces_verified >= 13);
    assert_eq!(handle.progress().borrow().of_bytes, 200_000);

    give(origin.swarm.store(), &artifact, |_| true);
    timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
    eventually("the end is told", || fetch().is_some_and(|told| !told.running)).await;
    let told = fetch().unwrap();
    assert_eq!((told.bytes, told.bytes_per_s, told.peers, told.stall), (200_000, 0, 0, None));
    assert!(told.from.peers + told.from.origin >= 190_000, "{told:?}");
    assert_eq!((told.from.here, told.from.patched), (0, 0));
    let counts = host.swarm.fetched();
    assert_eq!((counts.running, counts.pieces_wrong), (0, 0));
    assert!(counts.pieces_verified >= 19);
    // Who gave the last piece hears that it was taken a moment after it was.
    eventually("who gave counts it, too", || {
        let given = [&origin, &peer].map(|node| node.swarm.provided());
        given.iter().map(|one| one.bytes).sum::<u64>() >= 190_000
    })
    .await;
    let waiting = [&origin, &peer].map(|node| node.swarm.provided().waiting);
    assert_eq!(waiting, [0, 0]);
}

fn host_announces(node: &Node, who: &str) -> bool {
    let members = node.swarm.0.hearsay.members.borrow().clone();
    let member = members.iter().find(|member| member.host == host_id(who));
    member.is_some_and(|member| member.values.get("a/0").is_some_and(|text| text.contains("12")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_bitmaps_and_manifests_are_refused() {
    let (hub, artifact) = (Hub::default(), Arc::new(artifact(12, 10_000)));
    let other = artifact.clone();
    let answers = Answers(move |request: &SwarmRequest| match request {
        SwarmRequest::Have { .. } => Say::Have(vec![0xff; 3_000]),
        SwarmRequest::Blob { .. } => yes(&other.manifest[1..]),
        _ => Say::Found(Found::No, vec![]),
    });
    let liar = Setup { handler: Some(Arc::new(answers)), ..Setup::of("liar") }.start(&hub);
    give(liar.swarm.store(), &artifact, |_| true);
    let host = node(&hub, "one");
    eventually("the liar announces", || host_announces(&host, "liar")).await;
    let handle = host.swarm.fetch(artifact.about, of(host_id("admit")));
    let mut progress = handle.progress();
    let stalled = progress.wait_for(|progress| progress.stall.is_some());
    let why = timeout(DEADLINE, stalled).await.unwrap().unwrap().stall.clone();
    assert_eq!(why, Some(Stall::NoManifest));
    assert_eq!(handle.progress().borrow().banned, [(host_id("liar"), Lie::WrongBytes)]);
    // Whoever hears of it must not ask it for what it waits for itself.
    eventually("who waits in vain says so", || {
        says_of(&host, &artifact).is_some_and(|record| {
            let stall = record.fetch.and_then(|fetch| fetch.stall);
            record.of == 0 && stall.is_some_and(|stall| stall.why == record::Stall::NoManifest)
        })
    })
    .await;
    let members = host.swarm.0.hearsay.members.borrow().clone();
    let announce: Vec<_> = announcers(&members, &artifact.about.id, None);
    assert_eq!(announce.iter().map(|one| &one.host).collect::<Vec<_>>(), [&host_id("liar")]);
    assert!(host.swarm.store().artifacts().is_empty(), "nothing was begun for a wrong manifest");
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &artifact, |_| true);
    timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
    has_all(&host, &artifact);
}

/// The origin gives what no host holds yet, and is gone once they hold everything between them:
/// they finish among themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r27_the_origin_dies_once_every_piece_is_out() {
    let (hub, artifact) = (Hub::default(), Arc::new(artifact(30, 100_000)));
    let hosts = ["one", "two", "three"].map(|name| node(&hub, name));
    let stores = hosts.each_ref().map(|host| host.swarm.store().clone());
    let id = artifact.about.id;
    let is_out = move |index: u32| {
        stores.iter().any(|store| store.pieces(&id).is_ok_and(|pieces| pieces.contains(index)))
    };
    let gone = is_out.clone();
    let origin = impostor(&hub, "admit", &artifact, move |artifact, index| match is_out(index) {
        true => Say::Found(Found::Busy, vec![]),
        false => yes(&artifact.pieces[index as usize]),
    });
    let dies = async {
        eventually("every piece is out", || (0..30).all(&gone)).await;
        hub.dies("admit");
        drop(origin);
    };
    let fetches = futures_join(hosts.iter().map(|host| fetch(host, &artifact)));
    let (all, ()) = tokio::join!(fetches, dies);
    let from_peers: u64 = all.iter().map(|progress| progress.bytes_from_peers).sum();
    assert!(from_peers > 0, "not everything can have come from the origin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_hold_it_together_need_no_origin() {
    let (hub, artifact) = (Hub::default(), artifact(21, 20_000));
    let [one, two, three] = ["one", "two", "three"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |index| index % 2 == 0);
    give(two.swarm.store(), &artifact, |index| index % 2 == 1);
    let progress = fetch(&three, &artifact).await;
    assert_eq!((progress.bytes_from_peers, progress.bytes_from_origin), (artifact.about.bytes, 0));
    fetch(&one, &artifact).await;
    fetch(&two, &artifact).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_a_fetch_goes_on_where_the_one_before_it_was_dropped() {
    let (hub, artifact) = (Hub::default(), artifact(20, 40_000));
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &artifact, |index| index < 13);
    let first = node(&hub, "one");
    let handle = first.swarm.fetch(artifact.about, of(host_id("admit")));
    let mut progress = handle.progress();
    let half = progress.wait_for(|progress| progress.pieces == 13);
    timeout(DEADLINE, half).await.unwrap().unwrap();
    let stalled = progress.wait_for(|progress| progress.stall.is_some());
    let why = timeout(DEADLINE, stalled).await.unwrap().unwrap().stall.clone();
    let why = why.unwrap().to_string();
    let others = "nor 6 others, 1 asked";
    assert!(why.starts_with("no member holds piece 1") && why.ends_with(others), "{why}");
    handle.cancel();
    assert!(matches!(handle.done().await, Err(FetchError::Cancelled)));
    let dir = first.dir.clone();
    drop(first);
    give(origin.swarm.store(), &artifact, |_| true);
    let again = Setup { dir: Some(dir), ..Setup::of("one") }.start(&hub);
    let progress = fetch(&again, &artifact).await;
    assert_eq!(progress.bytes_from_origin, 7 * 40_000, "only what was missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_at_its_limit_says_busy_and_others_are_asked() {
    let (hub, artifact) = (Hub::default(), artifact(6, 10_000));
    let full = Setup { manifests: 0, ..Setup::of("one") }.start(&hub);
    let [two, three] = ["two", "three"].map(|name| node(&hub, name));
    give(full.swarm.store(), &artifact, |_| true);
    give(two.swarm.store(), &artifact, |_| true);
    let source = Source { host: host_id("one"), address: full.address };
    let pool = &three.swarm.0.pool;
    let request = SwarmRequest::Blob { id: artifact.about.id };
    let answer = ask::content(pool, &source, &request, 1 << 20).await.unwrap();
    assert_eq!(answer, Answer::Busy);
    let progress = fetch(&three, &artifact).await;
    assert_eq!(progress.banned, [], "busy is no offence");
    let genesis = genesis();
    let request = SwarmRequest::Statement { id: genesis.id() };
    let answer = ask::content(pool, &source, &request, 1 << 20).await.unwrap();
    assert_eq!(answer, Answer::Content(genesis.to_bytes()), "statements wait for no artifact");
}

/// R4: a host can withhold what it has, and not what others have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_a_host_that_takes_and_does_not_read_keeps_nobody_from_the_seeder() {
    let (hub, artifact) = (Hub::default(), artifact(8, 1 << 20));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |_| true);
    let loopback = "127.0.0.1:0".parse().unwrap();
    let liar = Endpoint::bind(loopback, identity("liar"), directory(&HOSTS)).unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        let connection = liar.connect(Alpn::Swarm, one.address, Expect::AnyMember).await.unwrap();
        // More than its window takes: what is over stays with the sender.
        for index in 0..16 {
            let request = SwarmRequest::Piece { artifact: artifact.about.id, index: index % 8 };
            let (mut send, recv) = connection.open_bi().await.unwrap();
            frame::send(&mut send, &request, SWARM_REQUEST_BYTES_MAX, DEADLINE).await.unwrap();
            held.push((send, recv));
        }
    }
    let source = Source { host: host_id("one"), address: one.address };
    let request = SwarmRequest::Piece { artifact: artifact.about.id, index: 0 };
    for _ in 0..20 {
        let answer = ask::content(&two.swarm.0.pool, &source, &request, 2 << 20).await.unwrap();
        assert!(answer != Answer::Busy, "one host has taken all the seeder's places");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A member that announces an artifact and never answers: others are asked while it still is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_never_answers_holds_up_no_fetch() {
    let (hub, artifact) = (Hub::default(), artifact(6, 10_000));
    let silent = Arc::new(Silent::default());
    let liar = Setup { handler: Some(silent.clone()), ..Setup::of("liar") }.start(&hub);
    give(liar.swarm.store(), &artifact, |_| true);
    let two = node(&hub, "two");
    let announced = || two.swarm.0.hearsay.members.borrow().iter().any(|m| !m.values.is_empty());
    eventually("it is announced", announced).await;
    let handle = two.swarm.fetch(artifact.about, Company::default());
    eventually("the silent one is asked", || silent.asked.load(Ordering::Relaxed) > 0).await;
    let one = node(&hub, "one");
    give(one.swarm.store(), &artifact, |_| true);
    timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
    has_all(&two, &artifact);
    assert_eq!(silent.given_up.load(Ordering::Relaxed), 0, "the fetch waited for the silent one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_here_is_answered_with_no() {
    let (hub, artifact) = (Hub::default(), artifact(6, 10_000));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |index| index == 3);
    let source = Source { host: host_id("one"), address: one.address };
    let (pool, id) = (&two.swarm.0.pool, artifact.about.id);
    let other = proto::Digest::of(b"other");
    let cases = [
        ("a piece that is here", SwarmRequest::Piece { artifact: id, index: 3 }, true),
        ("a piece that is not", SwarmRequest::Piece { artifact: id, index: 2 }, false),
        ("a piece beyond the end", SwarmRequest::Piece { artifact: id, index: 6 }, false),
        ("another artifact", SwarmRequest::Piece { artifact: other, index: 0 }, false),
        ("its manifest", SwarmRequest::Blob { id }, true),
        ("another blob", SwarmRequest::Blob { id: other }, false),
        ("another statement", SwarmRequest::Statement { id: other }, false),
        ("another host", SwarmRequest::Host { id: host_id("six") }, false),
    ];
    for (name, request, found) in cases {
        let answer = ask::content(pool, &source, &request, 1 << 20).await.unwrap();
        assert_eq!(matches!(answer, Answer::Content(_)), found, "{name}: {answer:?}");
        assert_ne!(answer, Answer::Busy, "{name}");
    }
    let mut holdings = ask::Holdings::ask(pool, &source, id).await.unwrap();
    assert_eq!(holdings.next().await.unwrap(), Some(vec![0b1000]));
    give(one.swarm.store(), &artifact, |index| index == 0);
    assert_eq!(holdings.next().await.unwrap(), Some(vec![0b1001]), "news follow");
    one.swarm.store().remove_artifact(&id).unwrap();
    assert_eq!(holdings.next().await.unwrap(), None, "removed");
    let mut none = ask::Holdings::ask(pool, &source, id).await.unwrap();
    assert_eq!(none.next().await.unwrap(), Some(vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_says_something_else_of_its_artifact_cannot_be_fetched() {
    let (hub, artifact) = (Hub::default(), artifact(3, 1_000));
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &artifact, |_| true);
    let host = node(&hub, "one");
    let said = proto::statement::ArtifactRef { bytes: 1, ..artifact.about };
    let ended = timeout(DEADLINE, host.swarm.fetch(said, of(host_id("admit"))).done());
    assert!(matches!(ended.await.unwrap(), Err(FetchError::NotAsReleased { said: 1, .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_fetches_of_one_artifact_take_turns_and_dropping_one_ends_it() {
    let (hub, artifact) = (Hub::default(), artifact(5, 1_000));
    let host = node(&hub, "one");
    let first = host.swarm.fetch(artifact.about, Company::default());
    let mut progress = first.progress();
    timeout(DEADLINE, progress.wait_for(|p| p.stall.is_some())).await.unwrap().unwrap();
    let second = host.swarm.fetch(artifact.about, Company::default());
    let mut progress = second.progress();
    let stall = progress.wait_for(|p| p.stall.is_some());
    let stall = timeout(DEADLINE, stall).await.unwrap().unwrap().stall.clone();
    assert_eq!(stall, Some(Stall::Waits), "it has not begun, and says so");
    assert!(first.progress().borrow().has_begun() && !progress.borrow().has_begun());
    timeout(DEADLINE, host.swarm.awaited(&artifact.about.id)).await.unwrap();
    drop(first);
    let begun = progress.wait_for(|p| p.stall == Some(Stall::NoManifest));
    timeout(DEADLINE, begun).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packed_file_is_taken_in_whole_or_refused() {
    let (hub, artifact) = (Hub::default(), artifact(4, 1_000));
    let origin = node(&hub, "admit");
    let data = origin.dir.path().join("packed");
    let mut bytes = artifact.pieces.concat();
    std::fs::write(&data, &bytes).unwrap();
    let add = || origin.swarm.add_whole(artifact.about, artifact.manifest.clone(), data.clone());
    add().await.unwrap();
    has_all(&origin, &artifact);
    origin.swarm.store().remove_artifact(&artifact.about.id).unwrap();
    bytes[2_500] ^= 1;
    std::fs::write(&data, &bytes).unwrap();
    let error = add().await.unwrap_err();
    assert!(matches!(error, crate::StoreError::WrongBytes { index: 2, .. }), "{error}");
    assert!(!origin.swarm.store().has_whole(&artifact.about.id));
}

/// A disk on which data of pieces has room for only so many bytes.
struct Full {
    disk: RealDisk,
    room: AtomicU32,
}

impl Disk for Full {
    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Setting the length takes no room, as on any disk that knows sparse files.
        let needs = if bytes.len() > 1 && path.ends_with("data") { bytes.len() } else { 0 };
        let needs = u32::try_from(needs).unwrap();
        let take = |room: u32| room.checked_sub(needs);
        self.room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map_err(|_| io::ErrorKind::StorageFull)?;
        self.disk.write_at(path, offset, bytes)
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.disk.create(path, bytes)
    }
    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_file(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.disk.symlink(target, link)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.disk.read(path, bytes_max)
    }
    fn read_at(&self, path: &Path, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(path, offset, into)
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.disk.read_link(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(path)
    }
    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        self.disk.kind(path)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_the_fetch_by_name_and_nothing_else() {
    let (hub, artifact) = (Hub::default(), artifact(10, 10_000));
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &artifact, |_| true);
    let full = Arc::new(Full { disk: RealDisk, room: AtomicU32::new(45_000) });
    let host = Setup { disk: full.clone(), ..Setup::of("one") }.start(&hub);
    let handle = host.swarm.fetch(artifact.about, of(host_id("admit")));
    let error = timeout(DEADLINE, handle.done()).await.unwrap().unwrap_err();
    assert!(matches!(&error, FetchError::Store(error) if error.is_full()), "{error:?}");
    let store = host.swarm.store();
    assert_eq!(store.pieces(&artifact.about.id).unwrap().count(), 4, "what fitted stays");
    let release = super::kit::some_release("1");
    host.swarm.ledger().admit(&release.to_bytes()).unwrap();
    // Somebody makes room.
    full.room.store(u32::MAX, Ordering::Relaxed);
    let progress = fetch(&host, &artifact).await;
    assert_eq!(progress.bytes_from_origin, 6 * 10_000);
}

/// Asked with the manifest in hand, and only of what is missing: a fetch that was nearly done needs
/// little room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r29_a_fetch_that_does_not_fit_asks_for_no_piece_and_needs_only_what_is_missing() {
    let (hub, artifact) = (Hub::default(), artifact(10, 10_000));
    let origin = node(&hub, "admit");
    give(origin.swarm.store(), &artifact, |_| true);
    let host = node(&hub, "one");
    let id = artifact.about.id;
    let refuse = |manifest: &Manifest, here: &Bits| {
        Err(format!("{} bytes do not fit", manifest.bytes() + u64::from(here.count())).into())
    };
    let handle = host.swarm.fetch_without(artifact.about, of(host_id("admit")), Box::new(refuse));
    let error = timeout(DEADLINE, handle.done()).await.unwrap().unwrap_err();
    let FetchError::Unwanted(why) = error else { panic!("{error:?}") };
    assert_eq!(why.to_string(), format!("{} bytes do not fit", artifact.about.bytes));
    assert_eq!(host.swarm.store().artifacts(), [], "nothing was made");

    give(host.swarm.store(), &artifact, |index| index < 7);
    let (tell, told) = std::sync::mpsc::channel();
    let fits = move |manifest: &Manifest, here: &Bits| {
        tell.send((manifest.pieces.len(), here.count())).unwrap();
        Ok(Bits::none(here.len()))
    };
    let handle = host.swarm.fetch_without(artifact.about, of(host_id("admit")), Box::new(fits));
    timeout(DEADLINE, handle.done()).await.unwrap().unwrap();
    assert_eq!(told.recv().unwrap(), (10, 7));
    assert!(host.swarm.store().has_whole(&id));
}
