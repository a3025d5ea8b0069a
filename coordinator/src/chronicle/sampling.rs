//! When a sample of a rollout is due, and which number it has: [`crate::store::Sampled`].

use proto::receipt::State;
use proto::report::{CountedReport, RolloutReport, StandingReport};
use proto::statement::UnixTime;
use serde::{Deserialize, Serialize};

use crate::store::{Counts, NewSample, SAMPLES_MAX, Sampled};

/// Between two samples at least, in seconds, as long as the stride is 1.
const SPACING_S: u64 = 2;
/// Between two samples at most, while anything moves and the spacing is not longer.
const UNCHANGED_S: u64 = 30;

/// The last sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    n: u64,
    stride: u64,
    /// Samples there are.
    kept: u32,
    at: UnixTime,
    sampled: Sampled,
}

/// What a report says. `requests`: those as well.
pub(super) fn sampled(report: &RolloutReport, requests: bool) -> Sampled {
    let counts = Counts::of(&report.waves);
    let serves_new =
        |host: &&StandingReport| matches!(host.state, Some(State::Baking | State::Committed));
    let sum = |new: bool| {
        let side = report.hosts.iter().filter(|host| serves_new(host) == new && host.alive);
        let counted = side.filter_map(|host| host.counted).filter(|_| requests);
        // Each says what it likes: sums have an end.
        counted.reduce(|sum, one| CountedReport {
            bad: sum.bad.saturating_add(one.bad),
            requests: sum.requests.saturating_add(one.requests),
        })
    };
    let latency = report.latency.filter(|_| requests).unwrap_or_default();
    Sampled { counts, new: sum(true), control: sum(false), latency }
}

/// The next sample, if one is due. `goes_on`: time that passes is worth one, too; `last`: what is new comes
/// at once.
pub(super) fn next(
    mark: &mut Option<Mark>,
    sampled: Sampled,
    at: UnixTime,
    (goes_on, last): (bool, bool),
) -> Option<NewSample> {
    let Some(before) = *mark else {
        *mark = Some(Mark { n: 0, stride: 1, kept: 1, at, sampled });
        return Some(NewSample { n: 0, thin: None, at, sampled });
    };
    // A clock that was set back must not end it.
    let age_s = at.0.abs_diff(before.at.0);
    let spacing_s = SPACING_S.saturating_mul(before.stride);
    let is_news = before.sampled != sampled && (age_s >= spacing_s || last);
    let is_time = goes_on && age_s >= spacing_s.max(UNCHANGED_S);
    if !is_news && !is_time {
        return None;
    }
    let full = before.kept >= SAMPLES_MAX;
    let stride = if full { before.stride.saturating_mul(2) } else { before.stride };
    let kept = if full { SAMPLES_MAX / 2 + 1 } else { before.kept + 1 };
    let n = (before.n / stride + 1).saturating_mul(stride);
    *mark = Some(Mark { n, stride, kept, at, sampled });
    Some(NewSample { n, thin: full.then_some(stride), at, sampled })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn with(committed: u32) -> Sampled {
        Sampled { counts: Counts { committed, ..Counts::default() }, ..Sampled::default() }
    }

    #[test]
    fn what_is_new_waits_two_seconds_and_what_is_not_half_a_minute() {
        let mut mark = None;
        let mut due = |committed, at, how| {
            next(&mut mark, with(committed), UnixTime(at), how).map(|sample| sample.n)
        };
        let goes = (true, false);
        assert_eq!(due(0, 100, goes), Some(0));
        assert_eq!(due(1, 101, goes), None, "too soon");
        assert_eq!(due(1, 102, goes), Some(1));
        assert_eq!(due(1, 131, goes), None, "nothing is new");
        assert_eq!(due(1, 132, goes), Some(2), "but time has passed");
        assert_eq!(due(1, 999, (false, false)), None, "nothing moves");
        assert_eq!(due(2, 133, (false, true)), Some(3), "the last word does not wait");
        assert_eq!(due(3, 50, goes), Some(4), "the clock was set back");
    }

    #[test]
    fn however_long_it_takes_there_are_so_many_and_they_cover_all_of_it() {
        let (mut mark, mut kept, mut at) = (None, BTreeSet::new(), 0);
        for step in 0..20_000 {
            at += 2;
            let Some(new) = next(&mut mark, with(step % 2), UnixTime(at), (true, false)) else {
                continue;
            };
            if let Some(stride) = new.thin {
                kept.retain(|n| n % stride == 0);
            }
            assert!(kept.insert(new.n) && kept.last() == Some(&new.n));
            assert!(kept.len() <= SAMPLES_MAX as usize);
            assert_eq!(kept.len(), mark.unwrap().kept as usize);
        }
        assert!(kept.len() > SAMPLES_MAX as usize / 2);
        assert_eq!(kept.first(), Some(&0));
        let stride = mark.unwrap().stride;
        let all_even = kept.iter().zip(0..).all(|(n, place)| *n == place * stride);
        assert!(all_even && stride > 2, "{stride}");
    }
}
