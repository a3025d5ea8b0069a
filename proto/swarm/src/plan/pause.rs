//! For how long uploads rest while this host's own service is in trouble.

use super::PAUSE_MS_MAX;

/// Whether to rest: for as long as there is trouble, and for [`PAUSE_MS_MAX`] at most, or a host whose
/// service is broken for days would be of no use to the others, who may find what it holds nowhere else.
/// As long as there is none, it grows back as fast as it was used up: trouble that comes and goes gets no
/// more than half of the time.
#[derive(Debug)]
pub struct Pause {
    trouble: bool,
    /// What is left, when it was counted last.
    left_ms: u64,
    counted_ms: u64,
}

impl Default for Pause {
    fn default() -> Self {
        Self { trouble: false, left_ms: PAUSE_MS_MAX, counted_ms: 0 }
    }
}

impl Pause {
    /// Whether there is trouble from now on.
    pub fn set(&mut self, trouble: bool, now_ms: u64) {
        self.left_ms = self.left_ms(now_ms);
        self.counted_ms = self.counted_ms.max(now_ms);
        self.trouble = trouble;
    }

    /// Whether uploads rest now.
    pub fn is_on(&self, now_ms: u64) -> bool {
        self.trouble && self.left_ms(now_ms) > 0
    }

    fn left_ms(&self, now_ms: u64) -> u64 {
        let passed_ms = now_ms.saturating_sub(self.counted_ms);
        match self.trouble {
            true => self.left_ms.saturating_sub(passed_ms),
            false => self.left_ms.saturating_add(passed_ms).min(PAUSE_MS_MAX),
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const MAX: u64 = PAUSE_MS_MAX;

    /// R29: an end of its own, whatever the service does.
    #[test]
    fn r29_a_pause_ends_with_the_trouble_or_by_itself() {
        let mut pause = Pause::default();
        assert!(!pause.is_on(5));
        pause.set(true, 10);
        assert!(pause.is_on(10));
        // Said once more: the same trouble.
        pause.set(true, 10 + MAX / 2);
        assert!(pause.is_on(9 + MAX) && !pause.is_on(10 + MAX), "no longer than that");
        assert!(!pause.is_on(10 * MAX), "and not again while it lasts");
        pause.set(false, 10 * MAX);
        assert!(!pause.is_on(10 * MAX));
        pause.set(true, 10 * MAX + 1_000);
        assert!(pause.is_on(10 * MAX + 1_999) && !pause.is_on(10 * MAX + 2_000), "as it grew back");
        pause.set(false, 11 * MAX);
        pause.set(true, 13 * MAX);
        assert!(pause.is_on(14 * MAX - 1) && !pause.is_on(14 * MAX), "never more than all of it");
    }
}
