//! Pieces that are passed on while they come, over real QUIC.

use std::sync::Arc;
use std::time::Duration;

use proto::record::Lie;
use proto::slices::{SLICE_BYTES, SUMS_BYTES_MAX, Slices};
use proto::wire::{Found, SwarmRequest, Wanted};
use proto::{Digest, codec};
use tokio::time::{sleep, timeout};

use super::fetching::{Say, give, has_all, of, says_it_holds_all};
use super::hub::{DEADLINE, Hub, Node, Setup, eventually, node};
use super::kit::{Artifact, artifact, host_id};
use super::pieces::{Got, ask_for, try_ask};
use crate::bits::Bits;
use crate::plan::What;
use crate::transfer::ask::{Holdings, Source};
use crate::transfer::coming::Passage;

/// Four slices a piece.
const PIECE_BYTES: usize = 100_000;
const PIECES: u32 = 12;

fn slices(artifact: &Artifact, index: u32) -> Slices {
    Slices::of(&artifact.pieces[index as usize]).unwrap()
}

/// A piece that comes to a host, of which the first slice is there and others are told.
fn comes(to: &Node, artifact: &Artifact, index: u32) -> Passage {
    let (comings, id) = (&to.swarm.0.comings, artifact.about.id);
    let slices = slices(artifact, index);
    let mut passage = Passage::new(comings, id, (index, PIECES), slices);
    assert!(passage.add(&artifact.pieces[index as usize][..SLICE_BYTES]));
    passage.open();
    passage
}

/// The rest of it comes.
async fn comes_on(passage: &Passage, artifact: &Artifact, index: u32) {
    for slice in artifact.pieces[index as usize].chunks(SLICE_BYTES).skip(1) {
        sleep(Duration::from_millis(20)).await;
        assert!(passage.add(slice));
    }
}

/// What its first piece but one is, to who asks as an earlier version does.
async fn unsliced(of: &Node, by: &Node, artifact: &Artifact, index: u32) -> Vec<u8> {
    use net::frame;
    let connection = by.swarm.0.pool.get(host_id(of.name), of.address).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let request = SwarmRequest::Piece { artifact: artifact.about.id, index };
    frame::send(&mut send, &request, 256, DEADLINE).await.unwrap();
    let found: Found = frame::recv(&mut recv, 64, DEADLINE).await.unwrap();
    assert_eq!(found, Found::Yes { bytes: PIECE_BYTES as u64 });
    frame::recv_bytes(&mut recv, PIECE_BYTES, DEADLINE).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_a_piece_is_told_of_and_given_while_it_comes() {
    let (hub, artifact) = (Hub::default(), artifact(12, PIECE_BYTES));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |index| index == 0);
    let source = Source { host: host_id("one"), address: one.address };
    let told = Holdings::ask(&two.swarm.0.pool, &source, artifact.about.id).await;
    let mut told = told.unwrap();
    let next = async || {
        let bitmap = timeout(DEADLINE, told.next()).await.unwrap().unwrap().unwrap();
        Bits::from_bytes(PIECES, &bitmap).unwrap().iter().collect::<Vec<_>>()
    };
    let mut next = next;
    assert_eq!(next().await, [0]);
    let passage = comes(&one, &artifact, 7);
    assert_eq!(next().await, [0, 7], "it is told of");
    let given = ask_for(&one, &two, &artifact, What::Piece(7));
    let to_an_older_one = unsliced(&one, &two, &artifact, 7);
    let (given, whole, ()) = tokio::join!(given, to_an_older_one, comes_on(&passage, &artifact, 7));
    assert!(given == Got::Piece(7, artifact.pieces[7].clone()));
    assert!(whole == artifact.pieces[7]);
    let store = one.swarm.store();
    assert!(!store.pieces(&artifact.about.id).unwrap().contains(7), "nothing was kept meanwhile");
}

/// Who is given a piece that comes no more hears so, and asks somebody else; who asks for it then is told
/// no lie.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_what_comes_no_more_is_no_lie() {
    let (hub, artifact) = (Hub::default(), artifact(12, PIECE_BYTES));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |index| index == 0);
    let source = Source { host: host_id("one"), address: one.address };
    let _told = Holdings::ask(&two.swarm.0.pool, &source, artifact.about.id).await.unwrap();
    let passage = comes(&one, &artifact, 7);
    let asked = timeout(DEADLINE, try_ask(&one, &two, &artifact, What::Piece(7)));
    let (asked, ()) = tokio::join!(asked, async {
        eventually("it is given", || one.swarm.provided().running == 1).await;
        drop(passage);
    });
    let error = asked.expect("it hears so at once").expect_err("there is no more of it");
    assert!(!error.is_unreachable() && !error.is_late(), "{error:?}");
    eventually("its place is free", || one.swarm.provided().running == 0).await;
    assert_eq!(ask_for(&one, &two, &artifact, What::Piece(7)).await, Got::Busy);
    assert_eq!(ask_for(&one, &two, &artifact, What::Piece(8)).await, Got::No);
}

/// Also once all of them had begun to come: a host that listens no more was told of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_what_all_began_and_came_no_more_is_no_lie() {
    let (hub, artifact) = (Hub::default(), artifact(12, PIECE_BYTES));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |index| index == 0);
    let passages: Vec<_> = (1..PIECES).map(|index| comes(&one, &artifact, index)).collect();
    let source = Source { host: host_id("one"), address: one.address };
    let mut told = Holdings::ask(&two.swarm.0.pool, &source, artifact.about.id).await.unwrap();
    let bitmap = told.next().await.unwrap().expect("a bitmap");
    assert!(Bits::from_bytes(PIECES, &bitmap).unwrap().is_all(), "it says that it has all");
    sleep(Duration::from_millis(200)).await;
    drop(passages);
    let _another = comes(&one, &artifact, 3);
    assert_eq!(ask_for(&one, &two, &artifact, What::Piece(7)).await, Got::Busy);
}

/// It comes from somebody else in the end, and lies on the disk: whoever was given a part is given the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_what_is_whole_meanwhile_is_given_to_its_end() {
    let (hub, artifact) = (Hub::default(), artifact(12, PIECE_BYTES));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |index| index == 0);
    let passage = comes(&one, &artifact, 7);
    let asked = timeout(DEADLINE, ask_for(&one, &two, &artifact, What::Piece(7)));
    let (asked, ()) = tokio::join!(asked, async {
        eventually("it is given", || one.swarm.provided().running == 1).await;
        give(one.swarm.store(), &artifact, |index| index == 7);
        drop(passage);
    });
    assert_eq!(asked.expect("soon"), Got::Piece(7, artifact.pieces[7].clone()));
}

/// Who wants what comes no more takes no place here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_who_leaves_before_it_comes_takes_no_place() {
    let (hub, artifact) = (Hub::default(), artifact(12, PIECE_BYTES));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |index| index == 0);
    let _passage = comes(&one, &artifact, 7);
    let asked = try_ask(&one, &two, &artifact, What::Piece(7));
    let mut asked = Box::pin(asked);
    let given = eventually("it is given", || one.swarm.provided().running == 1);
    tokio::select! {
        _ = &mut asked => panic!("there is no more of it yet"),
        () = given => {}
    }
    drop(asked);
    eventually("its place is free", || one.swarm.provided().running == 0).await;
}

fn sliced(sums: &[[u8; 32]], content: &[u8], bytes: usize) -> Say {
    let sums = codec::encode(&sums.to_vec(), 2 * SUMS_BYTES_MAX).unwrap();
    let length = u32::try_from(sums.len()).unwrap().to_be_bytes();
    let rest = [&length[..], &sums, content].concat();
    Say::Found(Found::Yes { bytes: bytes as u64 }, rest)
}

/// Before the piece is whole, and whatever else it sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_who_sends_a_wrong_slice_is_dropped_at_once_and_named() {
    type Answer = fn(&Artifact, u32) -> Say;
    let cases: [(&str, Answer); 4] = [
        ("a wrong slice, and nothing after it", |artifact, index| {
            let mut content = artifact.pieces[index as usize][..2 * SLICE_BYTES].to_vec();
            content[SLICE_BYTES] ^= 1;
            sliced(slices(artifact, index).sums(), &content, PIECE_BYTES)
        }),
        ("sums of another piece", |artifact, index| {
            let other = (index + 1) % PIECES;
            let content = &artifact.pieces[other as usize];
            sliced(slices(artifact, other).sums(), content, PIECE_BYTES)
        }),
        ("too few sums", |artifact, index| {
            let sums = slices(artifact, index).sums()[1..].to_vec();
            sliced(&sums, &artifact.pieces[index as usize], PIECE_BYTES)
        }),
        ("a longer one", |artifact, index| {
            sliced(slices(artifact, index).sums(), &[], PIECE_BYTES + 1)
        }),
    ];
    for (case, answer) in cases {
        let (hub, artifact) = (Hub::default(), Arc::new(artifact(12, PIECE_BYTES)));
        let handler = says_it_holds_all(&artifact, true, move |artifact, request| match request {
            SwarmRequest::Sliced { of: Wanted::Piece(index), .. } => answer(artifact, *index),
            _ => Say::Found(Found::No, vec![]),
        });
        let liar = Setup { handler: Some(handler), ..Setup::of("liar") }.start(&hub);
        give(liar.swarm.store(), &artifact, |_| true);
        let [good, host] = ["one", "two"].map(|name| node(&hub, name));
        let handle = host.swarm.fetch(artifact.about, of(host_id("admit")));
        let mut progress = handle.progress();
        let banned = progress.wait_for(|progress| !progress.banned.is_empty());
        let banned = timeout(DEADLINE, banned).await.expect(case).unwrap().banned.clone();
        assert_eq!(banned, [(host_id("liar"), Lie::WrongBytes)], "{case}");
        assert_eq!(handle.progress().borrow().pieces, 0, "{case}");
        give(good.swarm.store(), &artifact, |_| true);
        timeout(DEADLINE, handle.done()).await.expect(case).unwrap();
        has_all(&host, &artifact);
    }
    // What is asked for is small, whatever is named.
    let of = Wanted::New(vec![u32::MAX; proto::wire::NEW_PIECES_MAX]);
    let request = SwarmRequest::Sliced { artifact: Digest::of(b"artifact"), of };
    codec::encode(&request, proto::wire::SWARM_REQUEST_BYTES_MAX).unwrap();
}
