//! The picker against a small world of peers that answer well, badly, late or not at all.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use proto::{HostId, PublicKey};

use super::{ASK_MS_MAX, ASKS_MAX, Ask, ENDGAME_PIECES, ORIGIN_PIPELINE, PIPELINE, Picker, Stall};
use crate::bits::Bits;

fn host(number: u8) -> HostId {
    HostId::of(&PublicKey::of(&SigningKey::from_bytes(&[number + 1; 32])))
}

/// What a peer does with an ask.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Good,
    Wrong,
    Busy,
    Denied,
    Never,
    Disconnects,
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => Just(Answer::Good),
        1 => Just(Answer::Wrong),
        1 => Just(Answer::Busy),
        1 => Just(Answer::Denied),
        1 => Just(Answer::Never),
        1 => Just(Answer::Disconnects),
    ]
}

/// The driver's side: what is open at which peer, and the rules no ask may break.
struct World {
    picker: Picker,
    open: BTreeSet<Ask>,
    done: BTreeSet<u32>,
    banned: BTreeSet<HostId>,
    origin: HostId,
    now_ms: u64,
}

impl World {
    fn new(pieces: u32, seed: u64) -> Self {
        let picker = Picker::new(Bits::none(pieces), seed);
        let (open, done, banned) = Default::default();
        Self { picker, open, done, banned, origin: host(0), now_ms: 0 }
    }

    fn connect(&mut self, peer: &HostId, holds: &Bits) {
        self.picker.connected(peer.clone(), *peer == self.origin);
        self.picker.holds(peer, holds);
    }

    fn ask(&mut self) -> Result<(), TestCaseError> {
        for ask in self.picker.asks(self.now_ms) {
            let asked = self.open.iter().filter(|open| open.piece == ask.piece).count();
            prop_assert!(!self.done.contains(&ask.piece), "asked for what is here: {ask:?}");
            prop_assert!(!self.banned.contains(&ask.peer), "asked again: {ask:?}");
            let endgame = self.picker.missing() <= ENDGAME_PIECES;
            prop_assert!(asked == 0 || asked == 1 && endgame, "asked twice: {ask:?}");
            prop_assert!(self.open.insert(ask.clone()), "asked the same peer twice: {ask:?}");
            let at_peer = self.open.iter().filter(|open| open.peer == ask.peer).count();
            let most = if ask.peer == self.origin { ORIGIN_PIPELINE } else { PIPELINE };
            prop_assert!(at_peer <= most as usize);
        }
        prop_assert!(self.open.len() <= ASKS_MAX as usize);
        Ok(())
    }

    fn answer(&mut self, ask: &Ask, answer: Answer) {
        let Ask { peer, piece } = ask;
        match answer {
            Answer::Good => {
                self.open.remove(ask);
                for cancelled in self.picker.verified(peer, *piece) {
                    assert!(self.open.remove(&cancelled));
                }
                self.done.insert(*piece);
            }
            Answer::Busy => {
                self.open.remove(ask);
                self.picker.busy(peer, *piece, self.now_ms);
            }
            Answer::Denied => {
                self.open.remove(ask);
                if self.picker.denied(peer, *piece) {
                    self.picker.wrong(peer);
                    self.banned.insert(peer.clone());
                    self.open.retain(|open| open.peer != *peer);
                }
            }
            Answer::Wrong | Answer::Disconnects => {
                let pieces = match answer {
                    Answer::Wrong => {
                        self.banned.insert(peer.clone());
                        self.picker.wrong(peer)
                    }
                    _ => self.picker.disconnected(peer),
                };
                let open = self.open.iter().filter(|open| open.peer == *peer);
                assert_eq!(pieces, open.map(|open| open.piece).collect::<Vec<_>>());
                self.open.retain(|open| open.peer != *peer);
            }
            Answer::Never => {}
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for ask in self.picker.expire(self.now_ms) {
            assert!(self.open.remove(&ask));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// However peers answer: nothing is asked twice outside the endgame, or after it is here, or
    /// of a peer that sent wrong bytes; only verified pieces count; and once honest peers hold
    /// every piece between them, the fetch ends.
    #[test]
    fn r26_asks_once_counts_what_is_verified_and_finishes(
        pieces in 1_u32..70,
        seed: u64,
        has_origin: bool,
        holdings in prop::collection::vec(any::<u128>(), 1..8),
        script in prop::collection::vec((any::<prop::sample::Index>(), answers(), 0_u64..3_000), 0..300),
    ) {
        let mut world = World::new(pieces, seed);
        let holds: Vec<Bits> = holdings.iter().map(|mask| {
            let mut bits = Bits::none(pieces);
            (0..pieces).filter(|piece| mask >> piece & 1 == 1).for_each(|piece| { bits.insert(piece); });
            bits
        }).collect();
        let first = u8::from(!has_origin);
        let hostile: BTreeMap<HostId, Bits> = (first..).map(host).zip(holds).collect();
        for (index, answer, wait_ms) in script {
            for (peer, bits) in &hostile {
                world.connect(peer, bits);
            }
            world.ask()?;
            world.pass(wait_ms);
            let open: Vec<Ask> = world.open.iter().cloned().collect();
            if !open.is_empty() {
                world.answer(index.get(&open), answer);
            }
            prop_assert_eq!(world.picker.here().iter().collect::<BTreeSet<_>>(), world.done.clone());
            let wake = world.picker.next_ms(world.now_ms);
            prop_assert!(world.open.is_empty() || wake.is_some(), "an ask without a deadline");
        }
        // Two honest peers that hold it all between them.
        let (even, odd) = (host(100), host(101));
        let half = |rest| {
            let mut bits = Bits::none(pieces);
            (0..pieces).filter(|piece| piece % 2 == rest).for_each(|piece| { bits.insert(piece); });
            bits
        };
        for _ in 0..=4 * pieces {
            world.connect(&even, &half(0));
            world.connect(&odd, &half(1));
            world.ask()?;
            let honest = |ask: &&Ask| ask.peer == even || ask.peer == odd;
            match world.open.iter().find(honest).cloned() {
                Some(ask) => world.answer(&ask, Answer::Good),
                // Nothing left but what hostile peers sit on.
                None => world.pass(ASK_MS_MAX),
            }
        }
        prop_assert!(world.picker.is_complete(), "{:?}", world.picker.stall());
        prop_assert!(world.picker.asks(world.now_ms).is_empty());
    }
}

#[test]
fn the_rarest_piece_goes_first_and_the_origin_gets_what_nobody_else_has() {
    let mut world = World::new(4, 7);
    let bits = |pieces: &[u32]| {
        let mut bits = Bits::none(4);
        pieces.iter().for_each(|piece| assert!(bits.insert(*piece)));
        bits
    };
    world.connect(&host(0), &Bits::all(4));
    world.connect(&host(1), &bits(&[0, 1, 2]));
    world.connect(&host(2), &bits(&[0]));
    let asks = world.picker.asks(0);
    let of = |number| -> Vec<u32> {
        asks.iter().filter(|ask| ask.peer == host(number)).map(|ask| ask.piece).collect()
    };
    assert_eq!(of(0), [3], "the origin, for the piece that no peer holds");
    let mut first = of(1);
    first.sort_unstable();
    assert_eq!((first, of(2)), (vec![1, 2], vec![0]), "rare before common");
}

#[test]
fn r27_hosts_that_start_together_take_different_pieces_of_the_origin() {
    let taken: BTreeSet<u32> = (0..20)
        .flat_map(|seed| {
            let mut world = World::new(1_000, seed);
            world.connect(&host(0), &Bits::all(1_000));
            world.picker.asks(0).into_iter().map(|ask| ask.piece).collect::<Vec<_>>()
        })
        .collect();
    assert!(taken.len() > 35, "20 hosts x {ORIGIN_PIPELINE} asks took {} pieces", taken.len());
}

#[test]
fn the_origin_helps_where_the_holders_are_paused_late_or_slow() {
    type Happens = fn(&mut World);
    let cases: [(&str, Happens); 3] = [
        ("busy", |world| world.picker.busy(&host(1), 0, world.now_ms)),
        ("slow", |world| world.pass(super::SLOW_MS)),
        ("late", |world| world.pass(super::ASK_MS)),
    ];
    for (name, happens) in cases {
        let mut world = World::new(60, 3);
        world.connect(&host(0), &Bits::all(60));
        world.connect(&host(1), &Bits::all(60));
        world.ask().unwrap();
        assert!(world.open.iter().all(|ask| ask.peer == host(1)), "{name}: origin asked at once");
        happens(&mut world);
        let asks = world.picker.asks(world.now_ms);
        assert!(asks.iter().any(|ask| ask.peer == host(0)), "{name}: {asks:?}");
    }
}

#[test]
fn endgame_asks_a_second_peer_and_cancels_the_slower() {
    let mut world = World::new(1, 1);
    world.connect(&host(1), &Bits::all(1));
    world.connect(&host(2), &Bits::all(1));
    assert_eq!(world.picker.asks(0).len(), 1);
    assert_eq!(world.picker.asks(super::ENDGAME_AFTER_MS - 1), []);
    let second = world.picker.asks(super::ENDGAME_AFTER_MS);
    assert_eq!(second.len(), 1);
    assert_eq!(world.picker.asks(super::ENDGAME_AFTER_MS), [], "never a third");
    let cancelled = world.picker.verified(&second[0].peer, 0);
    assert_eq!(cancelled.len(), 1);
    assert_ne!(cancelled[0].peer, second[0].peer);
}

#[test]
fn a_stall_says_what_is_missing() {
    let mut world = World::new(20, 1);
    let text = |world: &World| world.picker.stall().map(|stall| stall.to_string());
    let expected = "no member that holds it is connected, 20 pieces missing";
    assert_eq!(text(&world).as_deref(), Some(expected));
    let mut most = Bits::all(20);
    most.remove(17);
    world.connect(&host(1), &most);
    while let Some(ask) = {
        world.ask().unwrap();
        world.open.first().cloned()
    } {
        assert_eq!(text(&world), None);
        world.answer(&ask, Answer::Good);
    }
    assert_eq!(text(&world).as_deref(), Some("no member holds piece 17, 1 asked"));
    world.connect(&host(2), &Bits::all(20));
    assert_eq!(world.picker.stall(), Some(Stall::Busy { missing: 1 }), "held, not asked yet");
}
