//! How fast content comes.

use std::collections::VecDeque;

/// Over how long it is measured, in ms: a few pieces on a slow line, and soon 0 where nothing comes.
pub const RATE_MS: u64 = 4_000;
/// What comes within so long is counted together, in ms: bounds what is remembered.
const SLOT_MS: u64 = 250;

/// Bytes per second over the last [`RATE_MS`].
#[derive(Debug, Default)]
pub struct Rate {
    /// When it was first asked or told of anything: no average goes further back.
    since_ms: Option<u64>,
    /// By which slot of time, oldest first; more than there are in [`RATE_MS`] never.
    came: VecDeque<(u64, u64)>,
}

impl Rate {
    /// So many bytes have come.
    pub fn add(&mut self, bytes: u64, now_ms: u64) {
        self.forget(now_ms);
        let slot = now_ms / SLOT_MS;
        match self.came.back_mut() {
            // A clock that goes back is no reason to forget what came.
            Some((last, sum)) if *last >= slot => *sum = sum.saturating_add(bytes),
            _ => self.came.push_back((slot, bytes)),
        }
    }

    /// Of the first moments, over as long as there was anything; a second at least, or one piece that comes
    /// at once would be a rate that no line has.
    pub fn per_s(&mut self, now_ms: u64) -> u64 {
        let since_ms = self.forget(now_ms);
        let over_ms = now_ms.saturating_sub(since_ms).clamp(1_000, RATE_MS);
        let bytes = self.came.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
        bytes.saturating_mul(1_000) / over_ms
    }

    /// Drops what is too old; since when there is anything.
    fn forget(&mut self, now_ms: u64) -> u64 {
        let first = now_ms.saturating_sub(RATE_MS) / SLOT_MS;
        while self.came.front().is_some_and(|(slot, _)| *slot <= first && now_ms >= RATE_MS) {
            self.came.pop_front();
        }
        *self.since_ms.get_or_insert(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_steady_line_is_measured_as_such_from_its_second_second_on() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_s(5), 0);
        for ms in (105..=20_005).step_by(100) {
            rate.add(MIB / 10, ms);
            let per_s = rate.per_s(ms);
            // What came in a slot that is half in the past is in or out as a whole.
            let near = MIB * 9 / 10..=MIB * 11 / 10;
            assert!(ms < 1_005 || near.contains(&per_s), "{ms} ms: {per_s}");
        }
    }

    #[test]
    fn nothing_that_comes_is_no_rate_soon() {
        let mut rate = Rate::default();
        rate.add(8 * MIB, 1_000);
        assert_eq!(rate.per_s(1_000), 8 * MIB, "one piece at once is no gigabit");
        assert_eq!(rate.per_s(3_000), 4 * MIB);
        assert_eq!(rate.per_s(1_000 + RATE_MS - SLOT_MS), 8 * MIB * 1_000 / (RATE_MS - SLOT_MS));
        assert_eq!(rate.per_s(1_000 + RATE_MS + SLOT_MS), 0);
        rate.add(4 * MIB, 60_000);
        assert_eq!(rate.per_s(60_000), MIB, "over all the time that is measured");
    }

    #[test]
    fn what_is_remembered_is_bounded_whatever_the_clock_does() {
        let mut rate = Rate::default();
        for step in 0..10_000_u64 {
            let now_ms = step * 7_919 % 50_000;
            rate.add(u64::MAX, now_ms);
            let _ = rate.per_s(now_ms);
            let slots = usize::try_from(RATE_MS / SLOT_MS).unwrap();
            assert!(rate.came.len() <= slots + 1, "{}", rate.came.len());
        }
    }
}
