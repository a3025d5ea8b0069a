//! Counters that only rise, and start again with their process, as counts over the last window.

use std::collections::VecDeque;
use std::time::Duration;

use rollout::verdict::Tally;
use tokio::time::Instant;

/// What a page of metrics says: everything counted since the process started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    pub requests: f64,
    pub errors: f64,
    /// Upper bound in seconds and requests up to it, the infinite bound last; empty: not counted.
    pub buckets: Vec<(f64, f64)>,
}

/// What was counted between two readings.
#[derive(Debug, Clone)]
struct Step {
    from: Instant,
    at: Instant,
    requests: f64,
    errors: f64,
    /// Of each bucket alone.
    latency: Vec<f64>,
}

/// The readings of the last window.
#[derive(Debug)]
pub struct Window {
    length: Duration,
    last: Option<(Instant, Reading)>,
    steps: VecDeque<Step>,
}

/// Readings of one window: one a second for the longest one there is, and some.
const STEPS_MAX: usize = 4_096;

impl Window {
    pub fn new(length: Duration) -> Self {
        Self { length, last: None, steps: VecDeque::new() }
    }

    /// Takes a reading. The first one, and one with other buckets, only says where counting starts.
    pub fn take(&mut self, at: Instant, reading: Reading) {
        let last = self.last.as_ref().filter(|(_, last)| same_buckets(last, &reading));
        if let Some((from, last)) = last {
            let latency = per_bucket(&reading.buckets).zip(per_bucket(&last.buckets));
            let step = Step {
                from: *from,
                at,
                requests: risen(last.requests, reading.requests),
                errors: risen(last.errors, reading.errors),
                latency: latency.map(|(now, before)| risen(before, now)).collect(),
            };
            self.steps.push_back(step);
        }
        self.last = Some((at, reading));
        while self.steps.len() > STEPS_MAX
            || self.steps.front().is_some_and(|step| at - step.at >= self.length)
        {
            self.steps.pop_front();
        }
    }

    /// Forgets what was counted: another release serves from now on.
    pub fn clear(&mut self) {
        self.last = None;
        self.steps.clear();
    }

    /// What was counted over the window that ends with the last reading; none before there are two.
    pub fn tally(&self) -> Option<Tally> {
        let (newest, oldest) = (self.steps.back()?, self.steps.front()?);
        let sum = |of: fn(&Step) -> f64| whole(self.steps.iter().map(of).sum());
        let requests = sum(|step| step.requests);
        let buckets = newest.latency.len();
        let bucket = |index| self.steps.iter().filter_map(move |step| step.latency.get(index));
        let bounds = self.last.iter().flat_map(|(_, last)| &last.buckets).map(|(bound, _)| *bound);
        Some(Tally {
            requests,
            errors: sum(|step| step.errors).min(requests),
            latency: (0..buckets).map(|index| whole(bucket(index).sum())).collect(),
            bounds_ms: bounds.take(buckets.saturating_sub(1)).map(|s| whole(s * 1_000.0)).collect(),
            over_ms: u32::try_from((newest.at - oldest.from).as_millis()).unwrap_or(u32::MAX),
        })
    }
}

fn same_buckets(one: &Reading, other: &Reading) -> bool {
    let bounds =
        |reading: &Reading| reading.buckets.iter().map(|(bound, _)| *bound).collect::<Vec<_>>();
    bounds(one) == bounds(other)
}

/// Requests of each bucket alone, from those up to its bound.
fn per_bucket(buckets: &[(f64, f64)]) -> impl Iterator<Item = f64> {
    let below = std::iter::once(0.0).chain(buckets.iter().map(|(_, count)| *count));
    buckets.iter().zip(below).map(|((_, count), below)| (count - below).max(0.0))
}

/// By how much a counter has risen. One that fell has started again from 0.
fn risen(before: f64, now: f64) -> f64 {
    if now < before { now } else { now - before }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn whole(count: f64) -> u64 {
    count.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(requests: f64, errors: f64) -> Reading {
        Reading { requests, errors, buckets: Vec::new() }
    }

    fn counted(window: &Window) -> Option<(u64, u64)> {
        window.tally().map(|tally| (tally.requests, tally.errors))
    }

    #[test]
    fn what_rises_is_counted_over_the_window() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut window = Window::new(Duration::from_secs(30));
        assert_eq!(counted(&window), None);
        window.take(at(0), reading(1_000.0, 10.0));
        assert_eq!(counted(&window), None, "one reading says nothing");
        window.take(at(10), reading(1_100.0, 11.0));
        window.take(at(20), reading(1_150.0, 31.0));
        assert_eq!(counted(&window), Some((150, 21)));
        assert_eq!(window.tally().map(|tally| tally.over_ms), Some(20_000));
        window.take(at(45), reading(1_160.0, 31.0));
        assert_eq!(counted(&window), Some((60, 20)), "the step at 10 s is over");
        assert_eq!(window.tally().map(|tally| tally.over_ms), Some(35_000), "from 10 s on");
        window.take(at(80), reading(1_160.0, 31.0));
        assert_eq!(counted(&window), Some((0, 0)));
    }

    #[test]
    fn a_counter_that_starts_again_counts_from_nothing() {
        let start = Instant::now();
        let mut window = Window::new(Duration::from_secs(30));
        window.take(start, reading(1_000.0, 10.0));
        window.take(start + Duration::from_secs(1), reading(40.0, 2.0));
        assert_eq!(counted(&window), Some((40, 2)));
        window.clear();
        assert_eq!(counted(&window), None);
    }

    #[test]
    fn buckets_are_told_apart() {
        let start = Instant::now();
        let mut window = Window::new(Duration::from_secs(30));
        let buckets = |counts: [f64; 3]| Reading {
            requests: counts[2],
            errors: 0.0,
            buckets: [0.01, 0.1, f64::INFINITY].into_iter().zip(counts).collect(),
        };
        window.take(start, buckets([10.0, 20.0, 30.0]));
        window.take(start + Duration::from_secs(1), buckets([15.0, 30.0, 42.0]));
        let tally = window.tally().unwrap();
        assert_eq!((tally.latency, tally.bounds_ms), (vec![5, 5, 2], vec![10, 100]));
        // Other buckets from now on: counting starts again.
        window.take(start + Duration::from_secs(2), reading(50.0, 0.0));
        assert_eq!(counted(&window), Some((12, 0)));
    }
}
