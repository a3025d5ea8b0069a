//! From one look to many: what verdicts come to, and when doubt ends (R18).

use std::collections::VecDeque;

use proto::statement::Limits;

use super::{Case, HOST_Z, Tally, Verdict, judge};

/// Looks in a row that must find a release worse on a host before it goes back: so long it takes what
/// the others count to be heard.
pub const FAILS_MIN: usize = 3;
/// Longest time in a row that is waited for an inconclusive verdict to become another one, in
/// milliseconds.
pub const DOUBT_MS_MAX: u64 = 300_000;

/// What the verdicts so far come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// Nothing speaks against the release.
    Good(Verdict),
    /// Wait. None: nothing was compared yet.
    Doubt(Option<Verdict>),
    Worse(Verdict),
}

impl Conclusion {
    /// What it rests on.
    pub const fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Good(verdict) | Self::Worse(verdict) => Some(verdict),
            Self::Doubt(verdict) => verdict,
        }
    }
}

/// The verdicts on one release, look after look.
///
/// | verdict | comes to | at the latest after [`DOUBT_MS_MAX`] |
/// |---|---|---|
/// | not worse, or quiet | good | |
/// | worse | worse, once it was so often enough in a row | worse |
/// | worse, and a moment ago not yet | doubt | worse |
/// | shared | doubt | worse: of an outage that lasts it has the larger part |
/// | starved | doubt | good if what little came passes the test; worse if it does not, or nothing came |
///
/// The time runs while nothing else is waited for. Who looks often enough sees by chance what he waits
/// for: what was found worse is good again only once all comparisons of as long a time pass. Nothing
/// compared is no comparison passed, however quiet the service gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looks {
    /// Looks in a row that make it worse.
    fails_min: usize,
    held: Option<Verdict>,
    /// How often it was worse, without anything better between.
    fails: usize,
    /// Since when comparisons pass, after it was found worse.
    well_since_ms: Option<u64>,
    doubt_since_ms: Option<u64>,
    overdue: bool,
}

impl Looks {
    /// None yet, where so many in a row make it worse.
    pub const fn new(fails_min: usize) -> Self {
        let (held, fails, overdue) = (None, 0, false);
        Self { fails_min, held, fails, well_since_ms: None, doubt_since_ms: None, overdue }
    }

    /// Takes one more, made at `now_ms`. `due`: nothing but the verdict is waited for.
    pub fn take(&mut self, now_ms: u64, verdict: Verdict, due: bool) {
        let passes = matches!(verdict, Verdict::Pass(_));
        let was_worse = self.fails >= self.fails_min;
        self.well_since_ms = (was_worse && passes).then(|| self.well_since_ms.unwrap_or(now_ms));
        let well_ms = self.well_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        let stays = match verdict {
            Verdict::Fail(_) => false,
            Verdict::Quiet { .. } | Verdict::Starved { .. } => self.fails > 0,
            Verdict::Pass(_) | Verdict::Fresh(_) | Verdict::Shared { .. } => {
                was_worse && well_ms < DOUBT_MS_MAX
            }
        };
        if !stays {
            let fails = matches!(verdict, Verdict::Fail(_));
            self.fails = if fails { self.fails.saturating_add(1) } else { 0 };
            self.held = Some(verdict);
        }
        let waits = due && self.held.is_some_and(Verdict::holds);
        self.doubt_since_ms = waits.then(|| self.doubt_since_ms.unwrap_or(now_ms));
        let waited_ms = self.doubt_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
        self.overdue = waited_ms >= DOUBT_MS_MAX;
    }

    /// What they come to.
    pub fn conclusion(&self) -> Conclusion {
        match self.held {
            Some(verdict @ (Verdict::Pass(_) | Verdict::Quiet { .. })) => Conclusion::Good(verdict),
            Some(verdict @ Verdict::Fail(_)) if self.fails >= self.fails_min => {
                Conclusion::Worse(verdict)
            }
            Some(verdict @ Verdict::Starved { worse: false, .. }) if self.overdue => {
                Conclusion::Good(verdict)
            }
            Some(verdict) if self.overdue => Conclusion::Worse(verdict),
            verdict => Conclusion::Doubt(verdict),
        }
    }
}

impl Default for Looks {
    /// Of all hosts together: one look is enough, it only holds.
    fn default() -> Self {
        Self::new(1)
    }
}

/// What a host counts on its own new release, look after look, against the control.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streak {
    /// The last looks in a row that found it worse; fewer than [`FAILS_MIN`].
    worse: VecDeque<Tally>,
    /// Whether the last one that told was an outage that is shared.
    shared: bool,
}

impl Streak {
    /// One look more. `errors_ppm`: the share of errors that may lie above the control's.
    pub fn look(
        &mut self,
        new: Tally,
        control: &[Tally],
        limits: &Limits,
        errors_ppm: u32,
    ) -> Verdict {
        let (one, earlier, sure) = (std::slice::from_ref(&new), self.worse.front(), HOST_Z);
        let was_shared = self.shared;
        let case = Case { new: one, earlier, was_shared, control, limits, errors_ppm, sure };
        let verdict = judge(&case);
        self.shared = match verdict {
            Verdict::Fresh(_) => was_shared,
            other => matches!(other, Verdict::Shared { .. }),
        };
        match verdict {
            Verdict::Fail(_) | Verdict::Shared { .. } => {
                self.worse.push_back(new);
                if self.worse.len() >= FAILS_MIN {
                    self.worse.pop_front();
                }
            }
            Verdict::Fresh(_) => self.worse = VecDeque::from([new]),
            Verdict::Pass(_) | Verdict::Quiet { .. } | Verdict::Starved { .. } => {
                self.worse.clear();
            }
        }
        verdict
    }
}
