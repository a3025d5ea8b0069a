//! The rules one by one, on peers that say what the test says.

use std::collections::BTreeSet;

use ed25519_dalek::SigningKey;
use proto::wire::NEW_PIECES_MAX;
use proto::{Digest, HostId, PublicKey};

use super::*;
use crate::bits::Bits;

pub(super) fn host(number: u8) -> HostId {
    HostId::of(&PublicKey::of(&SigningKey::from_bytes(&[number + 1; 32])))
}

/// The piece that comes of an ask.
pub(super) fn taken(ask: &Ask) -> u32 {
    match &ask.what {
        What::Piece(piece) => *piece,
        What::New(named) => named[0],
    }
}

fn bits(of: u32, pieces: impl IntoIterator<Item = u32>) -> Bits {
    let mut bits = Bits::none(of);
    pieces.into_iter().for_each(|piece| assert!(bits.insert(piece)));
    bits
}

/// A picker with these peers; number 0 is the origin.
fn picker(pieces: u32, seed: u64, peers: &[(u8, Bits)]) -> Picker {
    let mut picker = Picker::new(Bits::none(pieces), seed);
    for (number, holds) in peers {
        picker.connected(host(*number), *number == 0);
        picker.holds(&host(*number), holds);
    }
    picker
}

fn of(asks: &[Ask], number: u8) -> Vec<&What> {
    asks.iter().filter(|ask| ask.peer == host(number)).map(|ask| &ask.what).collect()
}

#[test]
fn the_rarest_piece_goes_first() {
    let peers = [(1, bits(4, [0, 1, 2])), (2, bits(4, [0]))];
    let asks = picker(4, 7, &peers).asks(0);
    assert_eq!(of(&asks, 2), [&What::Piece(0)]);
    let mut first: Vec<u32> = of(&asks, 1)
        .into_iter()
        .map(|what| match what {
            What::Piece(piece) => *piece,
            What::New(_) => panic!("peers are asked by name"),
        })
        .collect();
    first.sort_unstable();
    assert_eq!(first, [1, 2], "rare before common");
}

#[test]
fn r27_the_origin_is_asked_for_what_no_peer_holds_and_gives_each_piece_once() {
    let all = Bits::all(1_000);
    let mut uploads = Uploads::default();
    let (mut given, mut all_named) = (BTreeSet::new(), BTreeSet::new());
    // All ask again each time they are answered, and nobody passes anything on.
    for _ in 0..32 {
        for number in 1..=20 {
            let mut fetcher = picker(1_000, number, &[(0, all.clone())]);
            for ask in fetcher.asks(0) {
                let What::New(named) = ask.what else { panic!("by name: {ask:?}") };
                assert!(named.len() <= NEW_PIECES_MAX);
                all_named.extend(named.clone());
                let left = named.iter().any(|piece| !given.contains(piece));
                let artifact = Digest::of(b"artifact");
                let ticket = uploads.ask(number, artifact, What::New(named), 0).unwrap();
                let turn = uploads.turn(0, |_| Some(all.clone()));
                match turn {
                    Some((_, Given::Piece(piece))) => assert!(given.insert(piece), "twice"),
                    Some((_, Given::NothingNew)) => assert!(!left, "it had some"),
                    Some((_, Given::Busy)) | None => panic!("there is room"),
                }
                uploads.ended(ticket, true, 0);
            }
        }
    }
    assert_eq!(given, all_named, "all that was named, each piece once");
}

#[test]
fn the_origin_is_asked_by_name_once_it_has_had_nothing_new_for_a_while_and_nobody_gives_anything() {
    let peers = [(0, Bits::all(60)), (1, bits(60, [7]))];
    let mut fetcher = picker(60, 3, &peers);
    let asks = fetcher.asks(0);
    let from_peer = asks.iter().find(|ask| ask.peer == host(1)).unwrap().id;
    for ask in asks.iter().filter(|ask| ask.peer == host(0)) {
        assert!(matches!(ask.what, What::New(_)));
        assert!(!fetcher.denied(ask.id, 0), "that is no lie");
    }
    assert_eq!(of(&fetcher.asks(1), 0), Vec::<&What>::new(), "it gets a pause");
    let again = fetcher.asks(STUCK_MS - 1);
    assert!(of(&again, 0).iter().all(|what| matches!(what, What::New(_))) && !again.is_empty());
    again.iter().for_each(|ask| assert!(!fetcher.denied(ask.id, STUCK_MS - 1)));
    fetcher.verified(from_peer, &host(1), 7, STUCK_MS - 1);
    let by_name = fetcher.asks(STUCK_MS_MAX * 2);
    assert!(!by_name.is_empty());
    assert!(of(&by_name, 0).iter().all(|what| matches!(what, What::Piece(_))), "{by_name:?}");
}

#[test]
fn an_origin_that_does_not_know_the_question_is_asked_by_name() {
    let mut fetcher = picker(60, 3, &[(0, Bits::all(60))]);
    for ask in fetcher.asks(0) {
        fetcher.failed(ask.id, 0);
    }
    let asks = fetcher.asks(0);
    assert!(!asks.is_empty() && asks.iter().all(|ask| matches!(ask.what, What::Piece(_))));
}

#[test]
fn the_origin_helps_where_the_holders_are_paused_late_or_stuck() {
    type Happens = fn(&mut Picker, &[Ask]) -> u64;
    let cases: [(&str, Happens); 4] = [
        ("busy", |picker, asks| {
            picker.busy(asks[0].id, 0);
            0
        }),
        ("stuck", |_, _| STUCK_MS),
        ("late", |picker, asks| {
            picker.late(asks[0].id);
            0
        }),
        ("expired", |picker, _| {
            picker.expire(ASK_MS);
            ASK_MS
        }),
    ];
    for (name, happens) in cases {
        let mut fetcher = picker(60, 3, &[(0, Bits::all(60)), (1, Bits::all(60))]);
        let asks = fetcher.asks(0);
        assert!(asks.iter().all(|ask| ask.peer == host(1)), "{name}: the origin is asked at once");
        let now_ms = happens(&mut fetcher, &asks);
        let asks = fetcher.asks(now_ms);
        assert!(!of(&asks, 0).is_empty(), "{name}: {asks:?}");
    }
}

#[test]
fn a_stuck_ask_is_made_of_somebody_else_and_who_begins_first_is_waited_for() {
    let all = Bits::all(1);
    let peers = [(1, all.clone()), (2, all.clone()), (3, all)];
    let mut fetcher = picker(1, 1, &peers);
    let first = fetcher.asks(0);
    assert_eq!(first.len(), 1);
    let endgame_ms = STUCK_MS / 2;
    assert_eq!(fetcher.asks(endgame_ms - 1), []);
    let second = fetcher.asks(endgame_ms);
    assert_eq!(second.len(), 1);
    assert_ne!(second[0].peer, first[0].peer);
    assert_eq!(fetcher.asks(endgame_ms + 1), [], "a third, while the second is young");
    let third = fetcher.asks(2 * endgame_ms);
    assert_eq!(third.len(), 1, "two that say nothing keep nobody waiting");
    let taken_back = fetcher.begun(third[0].id, 0, 1, 2 * endgame_ms);
    assert_eq!(taken_back, [first[0].id, second[0].id], "waiting costs nothing: it is taken back");
    assert_eq!(fetcher.verified(third[0].id, &third[0].peer, 0, 2 * endgame_ms), []);
    assert!(fetcher.is_complete());
}

#[test]
fn of_asks_whose_bytes_trickle_few_are_doubled() {
    let all = Bits::all(6);
    let peers: Vec<(u8, Bits)> = (1..=6).map(|number| (number, all.clone())).collect();
    let mut fetcher = picker(6, 1, &peers);
    let asks = fetcher.asks(0);
    assert_eq!(asks.len(), 6);
    for ask in &asks {
        assert_eq!(fetcher.begun(ask.id, taken(ask), 1, 0), []);
    }
    for number in 11..=16 {
        fetcher.connected(host(number), false);
        fetcher.holds(&host(number), &all);
    }
    let doubled = fetcher.asks(STUCK_MS);
    assert_eq!(doubled.len(), DOUBLED_MAX as usize);
    let first = &doubled[0];
    let superfluous = fetcher.verified(first.id, &first.peer, taken(first), STUCK_MS);
    assert_eq!(superfluous.len(), 1, "the slower is cancelled");
    assert_eq!(fetcher.asks(STUCK_MS).len(), 1, "and makes room for one more");
}

#[test]
fn peers_that_trickle_do_not_take_the_place_of_others() {
    let all = Bits::all(200);
    let peers: Vec<(u8, Bits)> = (1..=10).map(|number| (number, all.clone())).collect();
    let mut fetcher = picker(200, 1, &peers);
    let asks = fetcher.asks(0);
    assert!(asks.len() >= 10);
    for ask in &asks {
        fetcher.begun(ask.id, taken(ask), 1, 0);
    }
    fetcher.connected(host(11), false);
    fetcher.holds(&host(11), &all);
    let honest = fetcher.asks(STUCK_MS);
    assert!(!of(&honest, 11).is_empty(), "what is stuck does not count");
}

#[test]
fn few_peers_are_asked_for_more_at_a_time_and_many_for_one() {
    for (peers, each) in [(1, 6), (2, 4), (4, 2), (8, 1), (10, 1)] {
        let known: Vec<(u8, Bits)> = (1..=peers).map(|number| (number, Bits::all(200))).collect();
        let asks = picker(200, 1, &known).asks(0);
        assert_eq!(asks.len(), usize::from(peers) * each, "{peers} peers");
    }
}

#[test]
fn a_long_way_has_more_under_way() {
    let known: Vec<(u8, Bits)> = (1..=8).map(|number| (number, Bits::all(200))).collect();
    let mut fetcher = picker(200, 1, &known);
    for ask in fetcher.asks(0) {
        fetcher.begun(ask.id, taken(&ask), 40, 0);
        // A piece in a quarter of a round trip.
        fetcher.verified(ask.id, &ask.peer, taken(&ask), 10);
    }
    assert_eq!(fetcher.asks(10).len(), ASKS_MAX as usize);
}

#[test]
fn a_new_piece_that_comes_from_somebody_else_already_is_not_taken_twice() {
    let mut fetcher = picker(60, 1, &[(0, Bits::all(60))]);
    let asks = fetcher.asks(0);
    let piece = taken(&asks[0]);
    assert_eq!(fetcher.begun(asks[0].id, piece, 1, 0), []);
    assert_eq!(fetcher.begun(asks[1].id, piece, 1, 0), [asks[1].id], "flows already");
    assert_eq!(fetcher.verified(asks[0].id, &host(0), piece, 1), []);
    assert_eq!(fetcher.begun(asks[2].id, piece, 1, 1), [asks[2].id], "is here");
    assert_eq!(fetcher.missing(), 59);
}

#[test]
fn a_stall_says_what_is_missing() {
    let mut fetcher = picker(20, 1, &[]);
    let text = |picker: &Picker| picker.stall().map(|stall| stall.to_string());
    let expected = "no member that holds it is connected, 20 pieces missing";
    assert_eq!(text(&fetcher).as_deref(), Some(expected));
    fetcher.connected(host(1), false);
    fetcher.holds(&host(1), &bits(20, (0..20).filter(|piece| *piece != 17)));
    loop {
        let asks = fetcher.asks(0);
        if asks.is_empty() {
            break;
        }
        assert_eq!(text(&fetcher), None);
        for ask in asks {
            fetcher.verified(ask.id, &ask.peer, taken(&ask), 0);
        }
    }
    assert_eq!(text(&fetcher).as_deref(), Some("no member holds piece 17, 1 asked"));
    fetcher.connected(host(2), false);
    fetcher.holds(&host(2), &Bits::all(20));
    assert_eq!(fetcher.stall(), Some(Stall::Busy { missing: 1 }), "held, not asked yet");
}

// --- who is answered first ---

/// The pieces that are given until nothing is, all delivered at once.
fn order(uploads: &mut Uploads<u8>) -> Vec<u32> {
    let mut given = Vec::new();
    while let Some((ticket, turn)) = uploads.turn(0, |_| Some(Bits::all(100))) {
        if let Given::Piece(piece) = turn {
            given.push(piece);
            uploads.ended(ticket, true, 0);
        }
    }
    given
}

#[test]
fn r27_what_was_given_least_goes_first() {
    let (mut uploads, artifact) = (Uploads::default(), Digest::of(b"artifact"));
    for peer in [1, 2] {
        uploads.ask(peer, artifact, What::Piece(5), 0).unwrap();
    }
    assert_eq!(order(&mut uploads), [5, 5]);
    uploads.ask(3, artifact, What::Piece(5), 0).unwrap();
    uploads.ask(4, artifact, What::Piece(6), 0).unwrap();
    uploads.ask(5, artifact, What::New(vec![5, 6, 7]), 0).unwrap();
    assert_eq!(order(&mut uploads), [6, 7, 5], "6 was given by then, so 7 is what is new");
    let late = uploads.ask(5, artifact, What::New(vec![5, 6, 7, 200]), 0).unwrap();
    let turn = uploads.turn(0, |_| Some(Bits::all(100)));
    assert_eq!(turn, Some((late, Given::NothingNew)), "200 is not here");
}

#[test]
fn what_did_not_arrive_was_not_given() {
    let (mut uploads, artifact) = (Uploads::default(), Digest::of(b"artifact"));
    let here = |_: &Digest| Some(Bits::all(100));
    let first = uploads.ask(1, artifact, What::New(vec![5]), 0).unwrap();
    assert_eq!(uploads.turn(0, here), Some((first, Given::Piece(5))));
    uploads.ended(first, false, 0);
    let second = uploads.ask(2, artifact, What::New(vec![5]), 0).unwrap();
    assert_eq!(uploads.turn(0, here), Some((second, Given::Piece(5))));
}

#[test]
fn r4_no_asker_takes_the_places_of_all() {
    let (mut uploads, artifact) = (Uploads::default(), Digest::of(b"artifact"));
    let here = |_: &Digest| Some(Bits::all(100));
    let greedy =
        (0..100).filter_map(|piece| uploads.ask(1, artifact, What::Piece(piece), 0)).count();
    assert_eq!(greedy, WAITING_PER_PEER_MAX);
    let modest = uploads.ask(2, artifact, What::Piece(99), 0).unwrap();
    let mut turns = Vec::new();
    while let Some((ticket, _)) = uploads.turn(0, here) {
        turns.push(ticket);
    }
    assert_eq!(turns.len(), UPLOADS_PER_PEER_MAX + 1, "the rest of the places is for others");
    assert!(turns[..2].contains(&modest), "who is given nothing yet comes first");
    for peer in 3..=200 {
        uploads.ask(peer, artifact, What::Piece(1), 0);
        uploads.ask(peer, artifact, What::Piece(2), 0);
        uploads.ask(peer, artifact, What::Piece(3), 0);
    }
    assert_eq!(uploads.ask(201, artifact, What::Piece(1), 0), None, "too many wait");
    let before = turns.len();
    while let Some((ticket, _)) = uploads.turn(0, here) {
        turns.push(ticket);
    }
    assert_eq!(turns.len(), UPLOADS_AT_ONCE);
    assert!(before < UPLOADS_AT_ONCE);
    // None of them ends: others are given all the same, up to what memory allows.
    while let Some((ticket, _)) = uploads.turn(UPLOAD_SLOW_MS_FIRST, here) {
        turns.push(ticket);
    }
    assert_eq!(turns.len(), 2 * UPLOADS_AT_ONCE);
    while let Some((ticket, _)) = uploads.turn(2 * UPLOAD_SLOW_MS_FIRST, here) {
        turns.push(ticket);
    }
    assert_eq!(turns.len(), UPLOADS_MAX);
    assert_eq!(uploads.turn(3 * UPLOAD_SLOW_MS_FIRST, here), None);
}

/// Whoever asks takes all that there is room for, of those with so many asks each; how many that are.
fn fill(uploads: &mut Uploads<u32>, peers: std::ops::Range<u32>, each: u32, now_ms: u64) -> usize {
    let (artifact, here) = (Digest::of(b"artifact"), |_: &Digest| Some(Bits::all(100)));
    for peer in peers {
        for piece in 0..each {
            uploads.ask(peer, artifact, What::Piece(piece), now_ms);
        }
    }
    std::iter::from_fn(|| uploads.turn(now_ms, here)).count()
}

/// Twelve pieces of 1 MiB on a line of 7 Mbit/s take 14 s: split among more of them all would take longer.
#[test]
fn r27_a_slow_line_is_not_split_ever_thinner() {
    let mut uploads = Uploads::default();
    let artifact = Digest::of(b"artifact");
    let mut given = Vec::new();
    for round in 0..5 {
        let now_ms = 14_000 * round;
        for ticket in given.drain(..) {
            uploads.ended(ticket, true, now_ms);
        }
        for peer in 0..40_u32 {
            uploads.ask(peer, artifact, What::Piece(peer), now_ms);
        }
        while let Some((ticket, _)) = uploads.turn(now_ms, |_| Some(Bits::all(100))) {
            given.push(ticket);
        }
        assert_eq!(given.len(), UPLOADS_AT_ONCE, "round {round}");
        let more = uploads.turn(now_ms + 13_999, |_| Some(Bits::all(100)));
        assert_eq!(more, None, "round {round}: it only takes long");
    }
}

/// Three that take nothing of what they are given hold up nobody for longer than is needed to know that.
#[test]
fn r4_who_takes_slowly_on_purpose_gets_none_of_the_room_that_it_makes() {
    let mut uploads = Uploads::default();
    // A line on which a piece takes 100 ms.
    let warm = uploads.ask(9, Digest::of(b"artifact"), What::Piece(0), 0).unwrap();
    uploads.turn(0, |_| Some(Bits::all(100)));
    uploads.ended(warm, true, 100);
    assert_eq!(fill(&mut uploads, 0..3, 8, 100), UPLOADS_AT_ONCE);
    let slow_ms = 100 + UPLOAD_SLOW_MS;
    assert_eq!(fill(&mut uploads, 0..3, 8, slow_ms), 0, "they have what they can have");
    assert_eq!(fill(&mut uploads, 10..30, 4, slow_ms), UPLOADS_AT_ONCE, "others are given");
    assert_eq!(fill(&mut uploads, 30..31, 1, slow_ms), 0);
}

/// What many deliver soon is usual here, however slow a few are.
#[test]
fn r4_a_few_slow_askers_do_not_make_slowness_usual() {
    let mut uploads = Uploads::default();
    let artifact = Digest::of(b"artifact");
    let mut give = |began_ms: u64, took_ms: u64| {
        let ticket = uploads.ask(1, artifact, What::Piece(0), began_ms).unwrap();
        uploads.turn(began_ms, |_| Some(Bits::all(100))).unwrap();
        uploads.ended(ticket, true, began_ms + took_ms);
    };
    (0..8).for_each(|round| give(round * 100_000, 60_000));
    (8..16).for_each(|round| give(round * 100_000, 100));
    assert_eq!(fill(&mut uploads, 0..3, 8, 2_000_000), UPLOADS_AT_ONCE);
    let slow_ms = 2_000_000 + UPLOAD_SLOW_MS;
    assert_eq!(fill(&mut uploads, 10..30, 1, slow_ms), UPLOADS_AT_ONCE);
}

#[test]
fn a_new_connection_makes_nobody_better() {
    let one = bits(40, 0..40);
    let mut fetcher = picker(40, 1, &[(1, one.clone())]);
    let first = fetcher.asks(0);
    assert!(first.len() > 1);
    assert_eq!(fetcher.expire(ASK_MS).len(), first.len());
    fetcher.disconnected(&host(1));
    fetcher.connected(host(1), false);
    fetcher.holds(&host(1), &one);
    let again = fetcher.asks(ASK_MS);
    assert_eq!(again.len(), 1, "it was late: one at a time, and for longer");
    assert_eq!(fetcher.expire(2 * ASK_MS), []);
    let mut liar = picker(40, 1, &[(1, one.clone())]);
    let mut denied = 0;
    // Each time it is found out a little, it comes back.
    let banned = (0..20).find(|_| {
        let ask = liar.asks(0).remove(0);
        denied += 1;
        let banned = liar.denied(ask.id, 0);
        liar.disconnected(&host(1));
        liar.connected(host(1), false);
        liar.holds(&host(1), &one);
        banned
    });
    assert_eq!((banned.is_some(), denied), (true, DENIALS_MAX + 1));
}

#[test]
fn r29_what_many_have_been_given_is_not_kept_waiting_by_ever_more_that_is_new() {
    let artifact = Digest::of(b"artifact");
    let here = |_: &Digest| Some(Bits::all(1_000));
    let mut uploads = Uploads::default();
    for peer in 1..=20 {
        let ticket = uploads.ask(peer, artifact, What::Piece(5), 0).unwrap();
        assert_eq!(uploads.turn(0, here), Some((ticket, Given::Piece(5))));
        uploads.ended(ticket, true, 0);
    }
    let back = uploads.ask(100, artifact, What::Piece(5), 0).unwrap();
    let (mut now_ms, mut piece) = (0, 6);
    while now_ms < WAIT_MS_MAX {
        let fresh = uploads.ask(101, artifact, What::New(vec![piece]), now_ms).unwrap();
        let (ticket, _) = uploads.turn(now_ms, here).unwrap();
        if ticket == back {
            return;
        }
        assert_eq!(ticket, fresh);
        uploads.ended(ticket, true, 0);
        (now_ms, piece) = (now_ms + 10, piece + 1);
    }
    panic!("it heard that it is busy here");
}

#[test]
fn r27_what_is_brought_another_time_is_new_again() {
    let (mut uploads, artifact) = (Uploads::default(), Digest::of(b"artifact"));
    let here = |_: &Digest| Some(Bits::all(100));
    let mut given = |now_ms| {
        let ticket = uploads.ask(1, artifact, What::New(vec![5]), now_ms).unwrap();
        let (_, given) = uploads.turn(now_ms, here).unwrap();
        uploads.ended(ticket, true, now_ms);
        given
    };
    assert_eq!(given(0), Given::Piece(5));
    assert_eq!(given(50_000), Given::NothingNew);
    assert_eq!(given(105_000), Given::NothingNew, "somebody asked meanwhile");
    assert_eq!(given(170_000), Given::Piece(5));
}

/// Who takes what is new and keeps it to itself does not hold up those that it does not give to.
#[test]
fn r4_what_somebody_keeps_to_itself_is_given_again_once_all_is_out() {
    let (mut uploads, artifact) = (Uploads::default(), Digest::of(b"artifact"));
    let here = |_: &Digest| Some(Bits::all(4));
    let mut given = |named: &[u32], now_ms: u64| {
        let ticket = uploads.ask(1, artifact, What::New(named.to_vec()), now_ms).unwrap();
        let (_, given) = uploads.turn(now_ms, here).unwrap();
        uploads.ended(ticket, true, now_ms + 100);
        given
    };
    for piece in 0..3 {
        assert_eq!(given(&[piece], 0), Given::Piece(piece));
    }
    assert_eq!(given(&[0, 1], 5_000), Given::NothingNew, "one has never been given");
    assert_eq!(given(&[0, 3], 5_000), Given::Piece(3), "which goes first");
    let after_ms = 5_000 + PASSED_ON_FACTOR * 100;
    assert_eq!(given(&[3], after_ms - 1), Given::NothingNew, "it may be on its way to others");
    assert_eq!(
        given(&[3, 2, 1], after_ms),
        Given::Piece(2),
        "the first of those given least lately"
    );
    assert_eq!(given(&[2], after_ms + 1), Given::NothingNew, "no more than one at a time");
    assert_eq!(given(&[2, 1], after_ms + 1), Given::Piece(1));
}

#[test]
fn r27_one_bad_peer_does_not_make_the_origin_give_twice() {
    // One that holds nothing that counts, and pauses.
    let mut fetcher = picker(60, 3, &[(0, Bits::all(60)), (1, bits(60, [7]))]);
    for ask in fetcher.asks(0) {
        match ask.peer == host(0) {
            true => assert!(!fetcher.denied(ask.id, 0)),
            false => fetcher.busy(ask.id, 0),
        }
    }
    assert_eq!(of(&fetcher.asks(1), 0), Vec::<&What>::new(), "by name, what others were given");
    // One that says it holds everything, and gives nothing.
    let mut fetcher = picker(60, 3, &[(0, Bits::all(60)), (1, Bits::all(60))]);
    let asks = fetcher.asks(0);
    asks.iter().for_each(|ask| fetcher.busy(ask.id, 0));
    let asks = fetcher.asks(1);
    assert!(!asks.is_empty());
    assert!(of(&asks, 0).iter().all(|what| matches!(what, What::New(_))), "{asks:?}");
}

#[test]
fn r27_others_are_told_of_what_comes_soon_and_not_of_what_trickles() {
    for (case, so_far_ms, bytes, of, slow_ms, soon) in [
        ("an eighth, in an eighth of what is slow", 100, 32, 256, 800, true),
        ("an eighth, in more than that", 101, 32, 256, 800, false),
        ("most of it, late", 780, 250, 256, 800, true),
        ("at once", 0, 1, usize::MAX, 800, true),
        ("nothing yet", 0, 0, 256, 800, false),
        ("for ever", u64::MAX, usize::MAX, usize::MAX, u64::MAX, true),
    ] {
        assert_eq!(comes_soon(so_far_ms, bytes, of, slow_ms), soon, "{case}");
    }
}
