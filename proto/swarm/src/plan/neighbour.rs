//! R29, sans-IO: ceilings, what goes first, and artifacts that share one host.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proto::Digest;

use super::{
    Ceiling, ClaimId, FIRST_IN_A_ROW, Given, PAUSE_MS_MAX, UPLOAD_SLOW_MS_FIRST, UPLOADS_AT_ONCE,
    USUAL_BESIDE_FIRST, Uploads, WAITING_MAX, What, burst_bytes,
};
use crate::bits::Bits;

fn artifact(number: usize) -> Digest {
    Digest::of(&number.to_be_bytes())
}

/// Those that pass, each again and again with as many bytes, and when each tries next.
struct Line {
    ceiling: Ceiling,
    claims: Vec<(ClaimId, u64, u64)>,
    now_ms: u64,
    /// When, who, how much.
    passed: Vec<(u64, usize, u64)>,
}

impl Line {
    fn new(rate: Option<u64>, bytes: &[u64]) -> Self {
        let mut ceiling = Ceiling::default();
        ceiling.set_rate(rate, 0);
        let claims = bytes.iter().enumerate();
        let claims =
            claims.map(|(n, bytes)| (ceiling.enter(artifact(n), false), *bytes, 0)).collect();
        Self { ceiling, claims, now_ms: 0, passed: Vec::new() }
    }

    /// Until then, each tries when it was told to, `late_ms` late, and whenever another has passed.
    fn run(&mut self, end_ms: u64, late_ms: u64) {
        loop {
            let next = self.claims.iter().enumerate().min_by_key(|(_, (.., at_ms))| *at_ms);
            let Some((who, &(id, bytes, at_ms))) = next.filter(|(_, one)| one.2 < end_ms) else {
                self.now_ms = end_ms;
                return;
            };
            self.now_ms = self.now_ms.max(at_ms);
            match self.ceiling.pass(id, bytes, self.now_ms) {
                Err(until_ms) => self.claims[who].2 = until_ms.max(self.now_ms + 1) + late_ms,
                Ok(()) => {
                    self.ceiling.over(id, 0);
                    self.passed.push((self.now_ms, who, bytes));
                    self.claims.iter_mut().for_each(|(.., at_ms)| *at_ms = self.now_ms);
                }
            }
        }
    }

    fn bytes_of(&self, who: usize) -> u64 {
        self.passed.iter().filter(|(_, other, _)| *other == who).map(|(.., bytes)| bytes).sum()
    }
}

/// No interval has more than `rate`, one burst and the longest thing.
fn keeps_to(rate: u64, passed: &[(u64, usize, u64)], longest: u64) -> Result<(), TestCaseError> {
    // What is over after each, of the interval that ends there and has the most: in thousandths of a byte.
    let (mut over, mut before_ms) = (0_u64, 0);
    let most = 1_000 * (burst_bytes(rate) + longest);
    for &(at_ms, _, bytes) in passed {
        over = over.saturating_sub(rate * (at_ms - before_ms)) + 1_000 * bytes;
        before_ms = at_ms;
        prop_assert!(over <= most, "{over} over at {at_ms} ms, at most {most}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A ceiling is one over any interval, from the moment that it is set; and it is used up.
    #[test]
    fn r29_no_interval_has_more_than_the_rate_and_nothing_is_left_unused(
        rates in prop::collection::vec(125_000_u64..50_000_000, 1..4),
        shares in prop::collection::vec(1_u64..100, 1..5),
        late_ms in 0_u64..20,
    ) {
        // Relative to the rate: from small chunks to pieces that take a second.
        let bytes: Vec<u64> = shares.iter().map(|share| rates[0] * share / 100).collect();
        let longest = bytes.iter().max().copied().unwrap_or_default();
        let mut line = Line::new(None, &bytes);
        for rate in rates {
            line.ceiling.set_rate(Some(rate), line.now_ms);
            line.claims.iter_mut().for_each(|claim| claim.2 = line.now_ms);
            let (before, begun_ms) = (line.passed.len(), line.now_ms);
            line.run(begun_ms + 20_000, late_ms);
            let passed = &line.passed[before..];
            keeps_to(rate, passed, longest)?;
            let all: u64 = passed.iter().map(|(.., bytes)| bytes).sum();
            // The first thing of it may pay for what was long under the rate before.
            let least = (20 * rate).saturating_sub(2 * longest + burst_bytes(rate));
            prop_assert!(all >= least, "{all} of {least}");
        }
    }

    /// Whatever the length of what each passes with, each has its share.
    #[test]
    fn r29_who_shares_a_ceiling_shares_it_evenly(
        rate in 125_000_u64..50_000_000,
        shares in prop::collection::vec(1_u64..100, 2..6),
    ) {
        let bytes: Vec<u64> = shares.iter().map(|share| rate * share / 100).collect();
        let mut line = Line::new(Some(rate), &bytes);
        line.run(60_000, 0);
        let all: Vec<u64> = (0..bytes.len()).map(|who| line.bytes_of(who)).collect();
        let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        let longest = bytes.iter().max().unwrap();
        // The first one takes the burst that was saved up before anybody else stood in line.
        let uneven = 2 * longest + burst_bytes(rate);
        prop_assert!(most - least <= uneven, "{all:?}");
        // Who comes later is not owed what it did not wait for.
        let late = line.ceiling.enter(artifact(100), false);
        line.claims.push((late, bytes[0], line.now_ms));
        line.claims.iter_mut().for_each(|claim| claim.2 = line.now_ms);
        let before = line.passed.len();
        line.run(120_000, 0);
        let of_late = line.bytes_of(bytes.len());
        let all: u64 = line.passed[before..].iter().map(|(.., bytes)| bytes).sum();
        let share = all / line.claims.len() as u64;
        prop_assert!(of_late <= share + uneven, "{of_late} of {share}");
    }
}

#[test]
fn r29_a_ceiling_that_is_lifted_or_lowered_counts_at_once() {
    let mut line = Line::new(Some(125_000), &[1 << 20]);
    line.run(1_000, 0);
    assert_eq!(line.passed.len(), 1, "paid for over the next 8 s");
    let (id, bytes, next_ms) = line.claims[0];
    assert!((8_000..9_000).contains(&next_ms), "{next_ms}");
    line.ceiling.set_rate(Some(12_500_000), 1_000);
    let again_ms = line.ceiling.pass(id, bytes, 1_000).unwrap_err();
    assert!((1_050..1_200).contains(&again_ms), "{again_ms}");
    line.ceiling.set_rate(None, 1_001);
    assert_eq!(line.ceiling.pass(id, bytes, 1_001), Ok(()));
    assert_eq!(line.ceiling.pass(id, bytes, 1_001), Ok(()));
    line.ceiling.set_rate(Some(125_000), 1_002);
    assert_eq!(line.ceiling.pass(id, bytes, 1_002), Ok(()), "a burst");
    assert!(line.ceiling.pass(id, bytes, 1_002).is_err());
}

#[test]
fn r29_what_was_not_used_is_for_others() {
    let mut ceiling = Ceiling::default();
    ceiling.set_rate(Some(125_000), 0);
    let [one, two] = [1, 2].map(|number| ceiling.enter(artifact(number), false));
    assert_eq!(ceiling.pass(one, 1 << 20, 0), Ok(()));
    assert!(ceiling.pass(two, 1 << 20, 0).is_err());
    ceiling.over(one, 1 << 20);
    assert_eq!(ceiling.pass(two, 1 << 20, 0), Ok(()));
    // Nor does who stands in line and wants nothing any more keep others waiting.
    assert!(ceiling.pass(one, 1, 0).is_err());
    let until_ms = ceiling.pass(two, 1, 0).unwrap_err();
    ceiling.rest(one);
    assert_eq!(ceiling.pass(two, 1, until_ms), Ok(()));
}

#[test]
fn r29_under_a_ceiling_what_goes_first_passes_before_others_and_leaves_them_one_in_eight() {
    let mut line = Line::new(Some(1_000_000), &[10_000, 10_000, 10_000]);
    line.run(1_000, 0);
    line.ceiling.set_first([artifact(1)].into());
    let before = line.passed.len();
    line.run(61_000, 0);
    let by: BTreeMap<usize, usize> =
        line.passed[before..].iter().fold(BTreeMap::new(), |mut by, (_, who, _)| {
            *by.entry(*who).or_default() += 1;
            by
        });
    let others = by[&0] + by[&2];
    let row = usize::try_from(FIRST_IN_A_ROW).unwrap();
    assert!(by[&1].abs_diff(row * others) <= row + 1, "{by:?}");
    assert!(by[&0].abs_diff(by[&2]) <= 1, "{by:?}");
    assert_eq!(line.passed[before].1, 1, "before those that had waited");
}

#[test]
fn r29_without_a_ceiling_other_fetches_ask_for_one_at_a_time_beside_what_goes_first() {
    let mut ceiling = Ceiling::default();
    ceiling.set_first([artifact(1)].into());
    let [usual, first, third] = [0, 1, 2].map(|number| ceiling.enter(artifact(number), false));
    let pass = |ceiling: &mut Ceiling, id| ceiling.pass(id, 1 << 20, 0).is_ok();
    assert!((0..5).all(|_| pass(&mut ceiling, usual)), "nothing goes first yet");
    assert!((0..5).all(|_| pass(&mut ceiling, first)));
    assert!(!pass(&mut ceiling, usual), "it has some under way");
    assert!(pass(&mut ceiling, third) && !pass(&mut ceiling, third), "one");
    ceiling.over(third, 0);
    assert!(pass(&mut ceiling, third));
    (0..5).for_each(|_| ceiling.over(first, 0));
    assert!(pass(&mut ceiling, usual) && pass(&mut ceiling, third), "it is over");
}

// --- what is given ---

fn here(_: &Digest) -> Option<Bits> {
    Some(Bits::all(100_000))
}

/// All turns there are now: of which artifact each is.
fn turns(uploads: &mut Uploads<u32>, asked: &mut Asked, now_ms: u64) -> Vec<usize> {
    let mut turns = Vec::new();
    while let Some((ticket, given)) = uploads.turn(now_ms, here) {
        assert!(matches!(given, Given::Piece(_)), "{given:?}");
        turns.push(asked.of[&ticket]);
        asked.running.push(ticket);
    }
    turns
}

#[derive(Default)]
struct Asked {
    of: BTreeMap<super::Ticket, usize>,
    running: Vec<super::Ticket>,
    peers: u32,
}

impl Asked {
    /// By somebody who asked for nothing before.
    fn ask(&mut self, uploads: &mut Uploads<u32>, number: usize, piece: u32, now_ms: u64) -> bool {
        self.peers += 1;
        let ticket = uploads.ask(self.peers, artifact(number), What::Piece(piece), now_ms);
        self.of.extend(ticket.map(|ticket| (ticket, number)));
        ticket.is_some()
    }

    fn one_ends(&mut self, uploads: &mut Uploads<u32>) {
        uploads.ended(self.running.remove(0), true, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Many ask for new pieces of one artifact, few for what many have of another one: while both wait,
    /// each is given as many pieces, at whatever rate.
    #[test]
    fn r29_two_artifacts_are_given_in_turn(
        many in 20_usize..200,
        rate in prop::option::of(125_000_u64..2_000_000),
    ) {
        let (mut uploads, mut asked) = (Uploads::default(), Asked::default());
        uploads.set_rate(rate);
        let mut given = [0_u32; 2];
        let mut piece = 0;
        let mut ask = |uploads: &mut Uploads<u32>, asked: &mut Asked, number: usize| {
            piece += 1;
            asked.ask(uploads, number, if number == 0 { piece } else { 7 }, 0)
        };
        (0..many).for_each(|_| assert!(ask(&mut uploads, &mut asked, 0)));
        (0..2).for_each(|_| assert!(ask(&mut uploads, &mut asked, 1)));
        for _ in 0..200 {
            for number in turns(&mut uploads, &mut asked, 0) {
                given[number] += 1;
                ask(&mut uploads, &mut asked, number);
            }
            asked.one_ends(&mut uploads);
        }
        // At the start two ask for the one, and many take the places that these leave.
        let ahead_max = u32::try_from(UPLOADS_AT_ONCE - 4).unwrap();
        prop_assert!(given[0] + given[1] >= 200, "{given:?}");
        prop_assert!(given[0].abs_diff(given[1]) <= ahead_max, "{given:?}");
    }
}

#[test]
fn r29_what_goes_first_is_given_at_once_whatever_others_took() {
    let (mut uploads, mut asked) = (Uploads::default(), Asked::default());
    uploads.set_first([artifact(1)].into());
    let waiting = u32::try_from(WAITING_MAX).unwrap();
    assert!((0..waiting).all(|piece| asked.ask(&mut uploads, 0, piece, 0)));
    assert!(!asked.ask(&mut uploads, 0, 0, 0), "too many wait");
    assert_eq!(turns(&mut uploads, &mut asked, 0), [0; UPLOADS_AT_ONCE], "there is nothing else");
    let extra = u32::try_from(UPLOADS_AT_ONCE).unwrap() + 4;
    assert!((0..extra).all(|piece| asked.ask(&mut uploads, 1, piece, 0)), "its line is its own");
    assert_eq!(turns(&mut uploads, &mut asked, 0), [1; UPLOADS_AT_ONCE], "so are its places");
    // As long as it is about, the others have one place.
    for _ in 0..UPLOADS_AT_ONCE - USUAL_BESIDE_FIRST {
        asked.one_ends(&mut uploads);
        assert!(turns(&mut uploads, &mut asked, 0).is_empty());
    }
    for _ in 0..USUAL_BESIDE_FIRST {
        asked.one_ends(&mut uploads);
        assert_eq!(turns(&mut uploads, &mut asked, 0), [0], "they do not starve");
    }
    for _ in 0..UPLOADS_AT_ONCE + 4 {
        asked.one_ends(&mut uploads);
        let next = turns(&mut uploads, &mut asked, 0);
        assert!(next.len() <= 1, "{next:?}");
    }
    // Who takes what goes first and does not read keeps the others to one no longer than any.
    let (mut uploads, mut asked) = (Uploads::default(), Asked::default());
    uploads.set_first([artifact(1)].into());
    assert!(asked.ask(&mut uploads, 1, 0, 0));
    (0..8).for_each(|piece| assert!(asked.ask(&mut uploads, 0, piece, 0)));
    assert_eq!(turns(&mut uploads, &mut asked, 0), [1, 0]);
    let later = turns(&mut uploads, &mut asked, UPLOAD_SLOW_MS_FIRST);
    assert_eq!(later, [0; 7]);
}

/// R4: who asks for it again and again is one of the others in the end.
#[test]
fn r29_nobody_goes_first_for_ever() {
    let mut uploads = Uploads::default();
    uploads.set_first([artifact(1)].into());
    let few = |_: &Digest| Some(Bits::all(3));
    let is_first = |uploads: &mut Uploads<u32>, peer| {
        let ticket = uploads.ask(peer, artifact(1), What::Piece(0), 0).unwrap();
        assert_eq!(uploads.turn(0, few), Some((ticket, Given::Piece(0))));
        let is_first = uploads.is_first(ticket);
        uploads.ended(ticket, false, 0);
        is_first
    };
    let times = (0..20).filter(|_| is_first(&mut uploads, 1)).count();
    assert_eq!(times, 2 * 3, "two copies");
    assert!(is_first(&mut uploads, 2), "another one");
    uploads.set_first([].into());
    uploads.set_first([artifact(1)].into());
    assert!(is_first(&mut uploads, 1), "the next way back");
    // Under a ceiling, too.
    let mut line = Line::new(Some(1_000_000), &[10_000]);
    line.ceiling.set_first([artifact(0)].into());
    let greedy = line.ceiling.enter(artifact(0), true);
    line.claims.push((greedy, 10_000, 0));
    line.run(10_000, 0);
    assert!(line.bytes_of(0) >= 6 * line.bytes_of(1), "one in eight");
}

#[test]
fn r29_under_a_low_ceiling_one_piece_is_given_at_a_time_and_its_taker_is_not_slow() {
    let (mut uploads, mut asked) = (Uploads::default(), Asked::default());
    // A mebibyte takes more than 8 s.
    uploads.set_rate(Some(125_000));
    assert!((0..4).all(|piece| asked.ask(&mut uploads, 0, piece, 0)));
    assert_eq!(turns(&mut uploads, &mut asked, 0), [0]);
    assert!(turns(&mut uploads, &mut asked, UPLOAD_SLOW_MS_FIRST + 8_000).is_empty());
    let slow_ms = UPLOAD_SLOW_MS_FIRST + 9_000;
    assert_eq!(turns(&mut uploads, &mut asked, slow_ms), [0], "that one is");
    uploads.set_rate(None);
    assert_eq!(turns(&mut uploads, &mut asked, slow_ms), [0; 2]);
}

/// And nothing is a deadlock: what goes first goes, and the pause has an end.
#[test]
fn r29_in_trouble_a_host_gives_what_goes_first_and_nothing_else() {
    let mut uploads = Uploads::default();
    uploads.set_first([artifact(1)].into());
    let before = uploads.ask(1, artifact(0), What::Piece(0), 0).unwrap();
    assert_eq!(uploads.turn(0, here), Some((before, Given::Piece(0))));
    let waits: Vec<_> =
        (0..4).map(|piece| uploads.ask(2, artifact(0), What::Piece(piece), 0).unwrap()).collect();
    uploads.set_trouble(true, 10);
    for ticket in waits {
        assert_eq!(uploads.turn(10, here), Some((ticket, Given::Busy)), "it asks somebody else");
    }
    assert_eq!(uploads.ask(3, artifact(0), What::Piece(0), 10), None);
    let first = uploads.ask(3, artifact(1), What::Piece(0), 10).unwrap();
    assert_eq!(uploads.turn(10, here), Some((first, Given::Piece(0))));
    assert_eq!(uploads.ask(3, artifact(0), What::Piece(0), 9 + PAUSE_MS_MAX), None);
    let later = uploads.ask(3, artifact(0), What::Piece(0), 10 + PAUSE_MS_MAX).unwrap();
    uploads.ended(before, true, 10 + PAUSE_MS_MAX);
    let turn = uploads.turn(10 + PAUSE_MS_MAX, here);
    assert_eq!(turn, Some((later, Given::Piece(0))), "it may be all that holds it");
}
