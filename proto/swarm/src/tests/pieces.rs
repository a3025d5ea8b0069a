//! Asking for pieces over real QUIC: new ones, turns, and those that answer otherwise.

use std::sync::Arc;
use std::time::Duration;

use net::{Alpn, Connection, Endpoint, Expect, frame};
use proto::Digest;
use proto::artifact::Piece;
use proto::record::Lie;
use proto::wire::{Found, SWARM_REQUEST_BYTES_MAX, SwarmRequest};
use tokio::time::{sleep, timeout};

use super::fetching::{Say, fetch, give, of, says_it_holds_all, yes};
use super::hub::{DEADLINE, HOSTS, Hub, Node, Setup, node};
use super::kit::{Artifact, artifact, directory, host_id, identity};
use crate::bits::Bits;
use crate::plan::{UPLOADS_PER_PEER_MAX, WAITING_PER_PEER_MAX, What};
use crate::transfer::ask::{self, AskError, Content, Holdings, PieceAnswer, Source, Wish};
use crate::transfer::coming::Comings;

/// What became of a question for a piece.
#[derive(Debug, PartialEq)]
pub(super) enum Got {
    Piece(u32, Vec<u8>),
    No,
    Busy,
}

pub(super) async fn ask_for(of: &Node, by: &Node, artifact: &Artifact, what: What) -> Got {
    try_ask(of, by, artifact, what).await.unwrap()
}

/// The same, of somebody who may not answer to the end.
pub(super) async fn try_ask(
    of: &Node,
    by: &Node,
    artifact: &Artifact,
    what: What,
) -> Result<Got, AskError> {
    let source = Source { host: host_id(of.name), address: of.address };
    let piece_of = |index: u32| {
        let content = artifact.pieces.get(index as usize)?;
        let bytes = u32::try_from(content.len()).ok()?;
        Some(Piece { bytes, digest: Digest::of(content) })
    };
    let wish = Wish {
        artifact: artifact.about.id,
        pieces: u32::try_from(artifact.pieces.len()).unwrap(),
        what: &what,
        piece_of: &piece_of,
        slow_ms: 0,
        comings: &Comings::default(),
    };
    Ok(match ask::piece(&by.swarm.0.pool, &source, &wish, async |_| {}).await? {
        PieceAnswer::Piece(index, Content::Whole(content)) => Got::Piece(index, content),
        PieceAnswer::Piece(index, Content::Passage(passage)) => {
            Got::Piece(index, passage.content().clone())
        }
        PieceAnswer::No => Got::No,
        PieceAnswer::Busy => Got::Busy,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r27_a_new_piece_is_one_that_was_given_to_nobody() {
    let (hub, artifact) = (Hub::default(), artifact(6, 10_000));
    let [one, two, three] = ["one", "two", "three"].map(|name| node(&hub, name));
    give(one.swarm.store(), &artifact, |index| index != 4);
    let content = |index: u32| Got::Piece(index, artifact.pieces[index as usize].clone());
    let new = |pieces: &[u32]| What::New(pieces.to_vec());
    let asks = [
        ("the first of those named", &two, new(&[3, 5]), content(3)),
        ("what the other was given is not new", &three, new(&[3, 5]), content(5)),
        ("nothing is left of them", &two, new(&[3, 5]), Got::No),
        ("what is not here", &two, new(&[4]), Got::No),
        ("what is no piece", &two, new(&[6, u32::MAX]), Got::No),
        ("by name it is given again", &two, What::Piece(3), content(3)),
        ("what was given by name is not new", &two, new(&[3, 0]), content(0)),
    ];
    for (case, by, what, expected) in asks {
        assert!(ask_for(&one, by, &artifact, what).await == expected, "{case}");
    }
    let unknown = super::kit::artifact(6, 20_000);
    let answer = ask_for(&one, &two, &unknown, new(&[0])).await;
    assert_eq!(answer, Got::No, "of an artifact that is not here");
}

/// A member that says it holds all of an artifact and answers for new pieces with `new`.
fn impostor(
    hub: &Hub,
    artifact: &Arc<Artifact>,
    new: impl Fn(&Artifact, &[u32]) -> Say + Send + Sync + 'static,
) -> Node {
    let handler = says_it_holds_all(artifact, false, move |artifact, request| match request {
        SwarmRequest::Piece { index, .. } => yes(&artifact.pieces[*index as usize]),
        SwarmRequest::New { pieces, .. } => new(artifact, pieces),
        _ => Say::Found(Found::No, vec![]),
    });
    Setup { handler: Some(handler), ..Setup::of("admit") }.start(hub)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_origin_of_an_earlier_version_is_asked_by_name() {
    let (hub, artifact) = (Hub::default(), Arc::new(artifact(20, 10_000)));
    let _origin = impostor(&hub, &artifact, |_, _| Say::Nothing);
    let host = node(&hub, "one");
    let progress = fetch(&host, &artifact).await;
    assert_eq!(progress.bytes_from_origin, 200_000);
    assert_eq!(progress.banned, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r26_an_origin_that_gives_other_pieces_than_were_named_is_dropped_and_named() {
    type New = fn(&Artifact, &[u32]) -> Say;
    let cases: [(&str, New); 4] = [
        ("one that is none", |artifact, _| picked(artifact, u32::MAX, 0)),
        ("without its number", |artifact, named| yes(&artifact.pieces[named[0] as usize])),
        ("wrong bytes", |artifact, named| picked(artifact, named[0], (named[0] + 1) % 20)),
        ("endless", |_, named| {
            Say::Found(Found::Picked { piece: named[0], bytes: u64::MAX }, vec![0; 100])
        }),
    ];
    for (case, new) in cases {
        let (hub, artifact) = (Hub::default(), Arc::new(artifact(20, 10_000)));
        let _liar = impostor(&hub, &artifact, new);
        let [good, host] = ["one", "two"].map(|name| node(&hub, name));
        let handle = host.swarm.fetch(artifact.about, of(host_id("admit")));
        let mut progress = handle.progress();
        let banned = progress.wait_for(|progress| !progress.banned.is_empty());
        let banned = timeout(DEADLINE, banned).await.expect(case).unwrap().banned.clone();
        assert_eq!(banned, [(host_id("admit"), Lie::WrongBytes)], "{case}");
        give(good.swarm.store(), &artifact, |_| true);
        timeout(DEADLINE, handle.done()).await.expect(case).unwrap();
    }
}

fn picked(artifact: &Artifact, piece: u32, like: u32) -> Say {
    let content = artifact.pieces[like as usize].clone();
    Say::Found(Found::Picked { piece, bytes: content.len() as u64 }, content)
}

/// Who waits too long for its turn hears so in time to ask somebody else; who asks for too much at once
/// hears so at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_asks_that_wait_are_bounded_in_number_and_time() {
    let (hub, artifact) = (Hub::default(), artifact(40, 1 << 20));
    let one = node(&hub, "one");
    give(one.swarm.store(), &artifact, |_| true);
    let loopback = "127.0.0.1:0".parse().unwrap();
    let greedy = Endpoint::bind(loopback, identity("two"), directory(&HOSTS)).unwrap();
    let [unread, other] =
        [(), ()].map(|()| greedy.connect(Alpn::Swarm, one.address, Expect::AnyMember));
    let (unread, other) = (unread.await.unwrap(), other.await.unwrap());
    let asks = async |connection: &Connection, count: usize| {
        let mut asked = Vec::new();
        for index in 0..u32::try_from(count).unwrap() {
            let request = SwarmRequest::Piece { artifact: artifact.about.id, index };
            let (mut send, recv) = connection.open_bi().await.unwrap();
            frame::send(&mut send, &request, SWARM_REQUEST_BYTES_MAX, DEADLINE).await.unwrap();
            asked.push((send, recv));
        }
        asked
    };
    // As many as its connection takes in unread, and as many again, which hold all that it may be given.
    let _held = asks(&unread, 4 + UPLOADS_PER_PEER_MAX).await;
    sleep(Duration::from_secs(1)).await;
    let mut waiting = asks(&other, WAITING_PER_PEER_MAX + 1).await;
    // The last one does not wait, the others wait in vain.
    for (_, recv) in waiting.iter_mut().rev() {
        let found: Found = frame::recv(recv, 64, DEADLINE).await.unwrap();
        assert_eq!(found, Found::Busy);
    }
    let three = node(&hub, "three");
    let content = Got::Piece(0, artifact.pieces[0].clone());
    assert!(ask_for(&one, &three, &artifact, What::Piece(0)).await == content, "others get theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_nothing_yet_says_so_and_tells_when_it_has() {
    let (hub, artifact) = (Hub::default(), artifact(6, 10_000));
    let [one, two] = ["one", "two"].map(|name| node(&hub, name));
    let source = Source { host: host_id("one"), address: one.address };
    let id = artifact.about.id;
    let mut holdings = Holdings::ask(&two.swarm.0.pool, &source, id).await.unwrap();
    assert_eq!(holdings.next().await.unwrap(), Some(vec![]));
    give(one.swarm.store(), &artifact, |index| index == 3);
    let next = timeout(DEADLINE, holdings.next()).await.unwrap().unwrap().unwrap();
    let next = match Bits::from_bytes(6, &next).unwrap() {
        begun if begun.is_empty() => {
            let more = timeout(DEADLINE, holdings.next()).await.unwrap().unwrap().unwrap();
            Bits::from_bytes(6, &more).unwrap()
        }
        begun => begun,
    };
    assert_eq!(next.iter().collect::<Vec<_>>(), [3]);
}
