//! How much may pass in a second, and who passes next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proto::Digest;

use super::{BURST_BYTES_MIN, BURSTS_PER_S, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNKS_PER_S};
use super::{FIRST_IN_A_ROW, LOOK_AGAIN_MS};

/// Who has to pass: an upload, or a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimId(u64);

#[derive(Debug)]
struct Claim {
    artifact: Digest,
    /// It is one of the others, whatever it is of.
    usual: bool,
    /// What it waits to pass with, in bytes.
    waits: Option<u64>,
    /// What has passed, in bytes, had it been here and waiting from the start.
    passed: u64,
    /// What has passed and is not [over](Ceiling::over).
    open: u32,
}

/// A rate that several share: a bucket of tokens, and the order in which those that wait are let
/// through.
///
/// * Over any interval of `t` seconds at most `rate * t` passes, and on top a burst ([`burst_bytes`])
///   and one thing. What is longer than half a burst passes once that is there, and what follows waits
///   the longer.
/// * While anything waits, nothing is left unused, even if it is woken late.
/// * Of those that wait, who has passed with least passes next, whatever the length of its pieces: no
///   claim starves another one.
/// * What goes first passes before all others; of [`FIRST_IN_A_ROW`] and one, the one is of the others, so
///   that they do not starve. Where there is no rate, others have one thing under way at a time while
///   something that goes first has any.
#[derive(Debug, Default)]
pub struct Ceiling {
    /// Bytes per second; none: as many as the line carries.
    rate: Option<u64>,
    /// What may pass now, in thousandths of a byte; below zero after something long.
    level: i64,
    filled_ms: u64,
    next: u64,
    claims: BTreeMap<ClaimId, Claim>,
    /// What had passed, by its count, of who passed last.
    turn: u64,
    first: BTreeSet<Digest>,
    first_in_a_row: u32,
}

/// What may pass at once after a pause, in bytes, where so many may in a second.
pub fn burst_bytes(rate: u64) -> u64 {
    (rate / BURSTS_PER_S).max(BURST_BYTES_MIN)
}

impl Ceiling {
    /// From now on so many bytes per second pass; none: as many as the line carries.
    pub fn set_rate(&mut self, rate: Option<u64>, now_ms: u64) {
        self.fill(now_ms);
        let was_open = self.rate.is_none();
        self.rate = rate;
        let Some(most) = self.most() else { return };
        self.level = if was_open { most } else { self.level.min(most) };
    }

    /// The artifacts that go first from now on.
    pub fn set_first(&mut self, first: BTreeSet<Digest>) {
        self.first = first;
    }

    /// How much of an upload passes at a time, in bytes; none: all of it.
    pub fn chunk_bytes(&self) -> Option<u64> {
        let rate = self.rate?;
        Some((rate / CHUNKS_PER_S).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX))
    }

    /// Whether somebody waits.
    pub fn is_waited_for(&self) -> bool {
        self.waiting().next().is_some()
    }

    /// Somebody who will have to pass, until it [leaves](Self::leave).
    /// `usual`: one of the others, whether or not its artifact goes first.
    pub fn enter(&mut self, artifact: Digest, usual: bool) -> ClaimId {
        let id = ClaimId(self.next);
        self.next += 1;
        let claim = Claim { artifact, usual, waits: None, passed: self.turn, open: 0 };
        self.claims.insert(id, claim);
        id
    }

    pub fn leave(&mut self, id: ClaimId) {
        self.claims.remove(&id);
    }

    /// It waits no more, for now.
    pub fn rest(&mut self, id: ClaimId) {
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.waits = None;
        }
    }

    /// Passes with so many bytes, which are open until [`Self::over`]; else stands in line.
    ///
    /// # Errors
    ///
    /// Not now: when to try again, in ms, if nobody else passes, leaves or rests before.
    pub fn pass(&mut self, id: ClaimId, bytes: u64, now_ms: u64) -> Result<(), u64> {
        self.fill(now_ms);
        let turn = self.turn;
        let Some(claim) = self.claims.get_mut(&id) else { return Ok(()) };
        if claim.waits.is_none() {
            // Who waited for nothing saves nothing up.
            claim.passed = claim.passed.max(turn);
        }
        claim.waits = Some(bytes);
        if let Some(until_ms) = self.waits_until(id, bytes, now_ms) {
            return Err(until_ms);
        }
        self.passes(id, bytes);
        Ok(())
    }

    /// What passed is over; `unused` of its bytes were not.
    pub fn over(&mut self, id: ClaimId, unused: u64) {
        if let Some(most) = self.most() {
            self.level = self.level.saturating_add(thousandths(unused)).min(most);
        }
        if let Some(claim) = self.claims.get_mut(&id) {
            claim.open = claim.open.saturating_sub(1);
            claim.passed = claim.passed.saturating_sub(unused);
        }
    }

    /// When this one may pass, at the earliest; none: now.
    fn waits_until(&self, id: ClaimId, bytes: u64, now_ms: u64) -> Option<u64> {
        let Some(rate) = self.rate else {
            return self.gives_way(id).then(|| now_ms.saturating_add(LOOK_AGAIN_MS));
        };
        let front = self.front();
        let before = front.filter(|front| *front != id).and_then(|front| self.claims[&front].waits);
        let needs = |bytes: u64| thousandths(bytes.min(burst_bytes(rate) / 2));
        let needed = before.map_or(0, needs).max(needs(bytes));
        let missing = needed.saturating_sub(self.level);
        if missing <= 0 && before.is_none() {
            return None;
        }
        let wait_ms = u64::try_from(missing).unwrap_or(0).div_ceil(rate.max(1));
        Some(now_ms.saturating_add(wait_ms.max(1)))
    }

    /// Whether it has something under way already, and so has what goes first.
    fn gives_way(&self, id: ClaimId) -> bool {
        let claim = &self.claims[&id];
        !self.goes_first(claim)
            && claim.open > 0
            && self.claims.values().any(|other| other.open > 0 && self.goes_first(other))
    }

    fn passes(&mut self, id: ClaimId, bytes: u64) {
        if self.rate.is_some() {
            self.level = self.level.saturating_sub(thousandths(bytes));
        }
        let first = self.goes_first(&self.claims[&id]);
        if let Some(claim) = self.claims.get_mut(&id) {
            (claim.waits, claim.open) = (None, claim.open + 1);
            self.turn = self.turn.max(claim.passed);
            claim.passed = claim.passed.saturating_add(bytes);
        }
        let others_wait = self.waiting().any(|(_, other)| !self.goes_first(other));
        self.first_in_a_row = if first && others_wait { self.first_in_a_row + 1 } else { 0 };
    }

    /// Who passes next.
    fn front(&self) -> Option<ClaimId> {
        let others = self.first_in_a_row >= FIRST_IN_A_ROW;
        let place = |(id, claim): (ClaimId, &Claim)| {
            let is_turn = self.goes_first(claim) != others;
            (Reverse(is_turn), claim.passed, id)
        };
        self.waiting().map(place).min().map(|(.., id)| id)
    }

    fn waiting(&self) -> impl Iterator<Item = (ClaimId, &Claim)> {
        let waiting = self.claims.iter().filter(|(_, claim)| claim.waits.is_some());
        waiting.map(|(id, claim)| (*id, claim))
    }

    fn goes_first(&self, claim: &Claim) -> bool {
        !claim.usual && self.first.contains(&claim.artifact)
    }

    fn fill(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.filled_ms);
        self.filled_ms = self.filled_ms.max(now_ms);
        if let (Some(rate), Some(most)) = (self.rate, self.most()) {
            // Bytes per second and milliseconds: thousandths of a byte.
            let more = i64::try_from(rate.saturating_mul(passed_ms)).unwrap_or(i64::MAX);
            self.level = self.level.saturating_add(more).min(most);
        }
    }

    /// The most that is saved up, in thousandths of a byte.
    fn most(&self) -> Option<i64> {
        self.rate.map(|rate| thousandths(burst_bytes(rate)))
    }
}

fn thousandths(bytes: u64) -> i64 {
    i64::try_from(bytes.saturating_mul(1_000)).unwrap_or(i64::MAX)
}
