//! The picker against a small world of peers that answer well, badly, late or not at all.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proto::HostId;

use super::test::{host, taken};
use super::{
    ASK_MS_MAX, ASKS_MAX, Ask, AskId, PIPELINE_MAX, Picker, STUCK_MAX, STUCK_MS_MIN, What,
};
use crate::bits::Bits;

/// What a peer does with an ask.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Good,
    Wrong,
    Busy,
    Denied,
    Never,
    /// Its first bytes, and then nothing.
    Begins,
    Disconnects,
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => Just(Answer::Good),
        1 => Just(Answer::Wrong),
        1 => Just(Answer::Busy),
        1 => Just(Answer::Denied),
        1 => Just(Answer::Never),
        1 => Just(Answer::Begins),
        1 => Just(Answer::Disconnects),
    ]
}

/// The driver's side: what is open at which peer, and the rules no ask may break.
struct World {
    picker: Picker,
    open: BTreeMap<AskId, (Ask, u64)>,
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

    /// Asks of this piece that are open, and since when.
    fn of_piece(&self, piece: u32) -> impl Iterator<Item = &(Ask, u64)> {
        self.open.values().filter(move |(ask, _)| ask.what == What::Piece(piece))
    }

    fn ask(&mut self) -> Result<(), TestCaseError> {
        for ask in self.picker.asks(self.now_ms) {
            prop_assert!(!self.banned.contains(&ask.peer), "asked again: {ask:?}");
            match &ask.what {
                What::Piece(piece) => {
                    prop_assert!(!self.done.contains(piece), "asked for what is here: {ask:?}");
                    for (other, since_ms) in self.of_piece(*piece) {
                        prop_assert!(other.peer != ask.peer, "asked the same peer twice: {ask:?}");
                        let open_ms = self.now_ms - since_ms;
                        prop_assert!(open_ms >= STUCK_MS_MIN / 2, "asked twice: {ask:?}");
                    }
                }
                What::New(named) => {
                    prop_assert!(ask.peer == self.origin && !named.is_empty());
                    let known = |piece| self.done.contains(piece);
                    prop_assert!(!named.iter().any(known), "asked for what is here: {ask:?}");
                }
            }
            self.open.insert(ask.id, (ask.clone(), self.now_ms));
            let at_peer = self.open.values().filter(|(open, _)| open.peer == ask.peer).count();
            prop_assert!(at_peer <= PIPELINE_MAX as usize);
        }
        prop_assert!(self.open.len() <= (ASKS_MAX + STUCK_MAX) as usize);
        Ok(())
    }

    fn take_back(&mut self, asks: Vec<AskId>) {
        for id in asks {
            assert!(self.open.remove(&id).is_some(), "{id:?} was not open");
        }
    }

    fn answer(&mut self, ask: &Ask, answer: Answer) {
        let Ask { id, peer, .. } = ask;
        let piece = taken(ask);
        match answer {
            Answer::Good | Answer::Begins => {
                let superfluous = self.picker.begun(*id, piece, 1, self.now_ms);
                let itself = superfluous.contains(id);
                self.take_back(superfluous);
                if let Some((open, _)) = self.open.get_mut(id) {
                    open.what = What::Piece(piece);
                }
                if itself || matches!(answer, Answer::Begins) {
                    return;
                }
                self.open.remove(id);
                let superfluous = self.picker.verified(*id, peer, piece, self.now_ms);
                self.take_back(superfluous);
                self.done.insert(piece);
            }
            Answer::Busy => {
                self.open.remove(id);
                self.picker.busy(*id, self.now_ms);
            }
            Answer::Denied => {
                self.open.remove(id);
                if self.picker.denied(*id, self.now_ms) {
                    let asks = self.picker.wrong(peer);
                    self.banned.insert(peer.clone());
                    self.take_back(asks);
                }
            }
            Answer::Wrong | Answer::Disconnects => {
                let asks = match answer {
                    Answer::Wrong => {
                        self.banned.insert(peer.clone());
                        self.picker.wrong(peer)
                    }
                    _ => self.picker.disconnected(peer),
                };
                self.take_back(asks);
                assert!(!self.open.values().any(|(open, _)| open.peer == *peer));
            }
            Answer::Never => {}
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let expired = self.picker.expire(self.now_ms);
        self.take_back(expired);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// However peers answer: nothing is asked twice unless it is stuck, or after it is here, or
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
            let open: Vec<Ask> = world.open.values().map(|(ask, _)| ask.clone()).collect();
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
            let honest = |(ask, _): &&(Ask, u64)| ask.peer == even || ask.peer == odd;
            match world.open.values().find(honest).cloned() {
                Some((ask, _)) => world.answer(&ask, Answer::Good),
                // Nothing left but what hostile peers sit on.
                None => world.pass(ASK_MS_MAX),
            }
        }
        prop_assert!(world.picker.is_complete(), "{:?}", world.picker.stall());
        prop_assert!(world.picker.asks(world.now_ms).is_empty());
    }
}
