//! Is the new release worse than the old one (R24)? Counted requests in, a verdict with its numbers
//! out; pure, so that a host acts by the very value that people are shown.
//!
//! New and old are compared over the same time, never with the past: what an outage does to both is no
//! fault of either. The control is the hosts of the cohort that still serve the old release.
//!
//! | new | control | verdict |
//! |---|---|---|
//! | enough requests | enough requests | the test below, of errors, then of slow answers |
//! | enough | too few | against an absolute limit ([`ALONE_PPM_MIN`] at least) |
//! | too few | just as few | pass on checks alone, saying so: the service is quiet |
//! | too few | enough | inconclusive: traffic does not reach the new release |
//!
//! The test asks whether the share of bad answers of the new release lies above that of the old one by
//! more than the threshold, one-sided, by the difference of two proportions with one success and one
//! failure added to each side (Agresti and Caffo, The American Statistician 54, 2000, 280-288): with
//! the plain Wald statistic a control without any error would have no variance, and one failed request
//! would prove everything. Slow is what lies above the bucket of the control's 99th percentile times
//! the ratio that is allowed.

use std::fmt;

use proto::Digest;
use proto::record::{BOUND_MS_MAX, BUCKETS_MAX, TALLY_COUNT_MAX, TallyRecord};
use proto::statement::Limits;

/// How sure a host must be before it takes a release back, in standard deviations: one look in a
/// thousand at equal releases.
pub const HOST_Z: f64 = 3.09;
/// How sure the pool must be to hold the next wave, in standard deviations: one look in a hundred. It
/// only holds, and looks again.
pub const POOL_Z: f64 = 2.33;
/// Without a control the share of errors is held against the threshold, or this where that is lower.
pub const ALONE_PPM_MIN: u32 = 10_000;
/// No host counts for more than so many times the median one: it can misreport only itself (R4).
const WEIGHT_MAX: u64 = 3;
/// An outage is shared if so many hosts of the control, and half of them, fail at least half as often.
const SHARED_MIN: usize = 3;

/// What one host counted over its window, on one release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub requests: u64,
    /// Of these; at most as many.
    pub errors: u64,
    /// Requests by latency, fastest bucket first, the last without an upper bound; empty: not counted.
    /// Hosts of one service have the same buckets.
    pub latency: Vec<u64>,
    /// Upper bounds of all buckets but the last, in milliseconds, rising.
    pub bounds_ms: Vec<u64>,
}

impl Tally {
    /// As a member says it of the release that served these requests.
    pub fn to_record(&self, release: Digest) -> TallyRecord {
        let count = |count: &u64| (*count).min(TALLY_COUNT_MAX);
        let fits = self.latency.len() <= BUCKETS_MAX
            && self.bounds_ms.iter().all(|bound_ms| *bound_ms <= BOUND_MS_MAX);
        let latency = if fits { self.latency.iter().map(count).collect() } else { Vec::new() };
        TallyRecord {
            release,
            requests: count(&self.requests),
            errors: count(&self.errors),
            bounds_ms: if fits { self.bounds_ms.clone() } else { Vec::new() },
            latency,
        }
    }

    /// What a member says, whoever it is: no number is beyond what may be said.
    pub fn of(record: TallyRecord) -> Self {
        let TallyRecord { release: _, requests, errors, mut latency, bounds_ms } = record;
        let requests = requests.min(TALLY_COUNT_MAX);
        for count in &mut latency {
            *count = (*count).min(TALLY_COUNT_MAX);
        }
        Self { requests, errors: errors.min(requests), latency, bounds_ms }
    }
}

/// Bad answers of so many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub bad: u64,
    pub of: u64,
}

/// What was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Errors,
    /// Answers slower than this.
    SlowerThan {
        ms: u64,
    },
}

/// Two shares held against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    pub signal: Signal,
    pub new: Counted,
    /// None: there was no control, and the limit is absolute.
    pub control: Option<Counted>,
    /// What may lie between them, in millionths.
    pub above_ppm: u32,
    /// The statistic, in thousandths of a standard deviation.
    pub z_milli: i64,
}

/// Whether the new release is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not significantly: the comparison that came closest.
    Pass(Comparison),
    /// Too little traffic on either side to tell anything: checks alone count.
    Quiet {
        new: u64,
        needed: u64,
    },
    Fail(Comparison),
    /// The old release has traffic and the new one has not enough of it.
    Starved {
        new: u64,
        needed: u64,
    },
    /// The old release fails just so, on so many hosts of the control.
    Shared {
        comparison: Comparison,
        hosts: usize,
        of: usize,
    },
}

impl Verdict {
    /// Whether the next wave must wait for another one.
    pub const fn holds(self) -> bool {
        matches!(self, Self::Fail(_) | Self::Starved { .. } | Self::Shared { .. })
    }
}

/// Judges a release by what hosts counted on it and on the one before, `sure` standard deviations
/// sure. `errors_ppm`: the share of errors that may lie above the control's, in millionths.
pub fn judge(
    new: &Tally,
    control: &[Tally],
    limits: &Limits,
    errors_ppm: u32,
    sure: f64,
) -> Verdict {
    let pooled = pool(control);
    let needed = u64::from(limits.requests_min);
    if new.requests < needed {
        let quiet = median(control.iter().map(|tally| tally.requests)) < needed;
        return match quiet {
            true => Verdict::Quiet { new: new.requests, needed },
            false => Verdict::Starved { new: new.requests, needed },
        };
    }
    let control_counts = pooled.requests >= needed;
    let errors = compare_errors(new, control_counts.then_some(&pooled), errors_ppm);
    let slow = limits.p99_ratio_percent.filter(|_| control_counts);
    let slow = slow.and_then(|ratio| compare_latency(new, &pooled, ratio));
    let limit_milli = milli(sure);
    let worst = [Some(errors), slow].into_iter().flatten().max_by_key(|found| found.z_milli);
    let worst = worst.unwrap_or(errors);
    if worst.z_milli <= limit_milli {
        return Verdict::Pass(worst);
    }
    match shared(&worst, control) {
        Some((hosts, of)) => Verdict::Shared { comparison: worst, hosts, of },
        None => Verdict::Fail(worst),
    }
}

/// What several hosts counted, none of them for more than three times the median.
pub fn pool(tallies: &[Tally]) -> Tally {
    let busy = tallies.iter().filter(|tally| tally.requests > 0);
    let cap = median(busy.clone().map(|tally| tally.requests)).saturating_mul(WEIGHT_MAX);
    // Where hosts have other buckets than most, their latencies say nothing about those of others.
    let bounds = busy.clone().find(|tally| !tally.latency.is_empty()).map(|one| &one.bounds_ms);
    let mut pooled = Tally { bounds_ms: bounds.cloned().unwrap_or_default(), ..Tally::default() };
    for tally in busy {
        let weigh = |count: u64| weigh(count, tally.requests, cap);
        pooled.requests = pooled.requests.saturating_add(weigh(tally.requests));
        pooled.errors = pooled.errors.saturating_add(weigh(tally.errors.min(tally.requests)));
        if bounds == Some(&tally.bounds_ms) && !tally.latency.is_empty() {
            pooled.latency.resize(pooled.bounds_ms.len() + 1, 0);
            // Whatever it says of its requests, it has no more weight by its latencies.
            let answers = tally.latency.iter().sum();
            for (sum, count) in pooled.latency.iter_mut().zip(&tally.latency) {
                *sum = sum.saturating_add(self::weigh(*count, answers, cap));
            }
        }
    }
    pooled
}

/// `count` of `requests`, as if there had been at most `cap` of those.
fn weigh(count: u64, requests: u64, cap: u64) -> u64 {
    match requests > cap {
        true => (u128::from(count) * u128::from(cap) / u128::from(requests)) as u64,
        false => count,
    }
}

/// The lower one of the two in the middle; 0 of none.
fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.len().checked_sub(1).map_or(0, |last| values[last / 2])
}

fn compare_errors(new: &Tally, control: Option<&Tally>, errors_ppm: u32) -> Comparison {
    let counted =
        |tally: &Tally| Counted { bad: tally.errors.min(tally.requests), of: tally.requests };
    let above_ppm = if control.is_some() { errors_ppm } else { errors_ppm.max(ALONE_PPM_MIN) };
    compare(Signal::Errors, counted(new), control.map(counted), above_ppm)
}

/// None: nobody counted latencies, or in other buckets.
fn compare_latency(new: &Tally, control: &Tally, ratio_percent: u32) -> Option<Comparison> {
    let same = new.bounds_ms == control.bounds_ms && new.latency.len() == control.latency.len();
    if !same || control.latency.len() != control.bounds_ms.len() + 1 {
        return None;
    }
    let bucket = p99_bucket(&control.latency)?;
    // Above the last bound nothing can be told apart.
    let p99_ms = *control.bounds_ms.get(bucket)?;
    let allowed_ms = p99_ms.saturating_mul(u64::from(ratio_percent)) / 100;
    let first_slow = control.bounds_ms.partition_point(|bound| *bound < allowed_ms) + 1;
    let ms = *control.bounds_ms.get(first_slow - 1)?;
    let counted = |latency: &[u64]| Counted {
        bad: latency.iter().skip(first_slow).sum(),
        of: latency.iter().sum(),
    };
    // The old release has one in a hundred above its 99th percentile by definition.
    let above_ppm = 10_000;
    let (new, control) = (counted(&new.latency), counted(&control.latency));
    Some(compare(Signal::SlowerThan { ms }, new, Some(control), above_ppm))
}

/// The first bucket up to which 99 of 100 requests are.
fn p99_bucket(latency: &[u64]) -> Option<usize> {
    let all: u64 = latency.iter().sum();
    let mut reached = 0_u64;
    let reaches = |count: &u64| {
        reached += count;
        u128::from(reached) * 100 >= u128::from(all) * 99
    };
    latency.iter().position(reaches).filter(|_| all > 0)
}

fn compare(signal: Signal, new: Counted, control: Option<Counted>, above_ppm: u32) -> Comparison {
    let margin = f64::from(above_ppm) / 1e6;
    let (share, variance) = adjusted(new);
    let (other, other_variance) = control.map_or((0.0, 0.0), adjusted);
    let z = (share - other - margin) / (variance + other_variance).sqrt();
    Comparison { signal, new, control, above_ppm, z_milli: milli(z) }
}

/// The share with one bad and one good answer added, and its variance; never 0.
#[expect(clippy::cast_precision_loss, reason = "shares, not exact counts")]
fn adjusted(counted: Counted) -> (f64, f64) {
    let of = counted.of as f64 + 2.0;
    let share = (counted.bad.min(counted.of) as f64 + 1.0) / of;
    (share, share * (1.0 - share) / of)
}

#[expect(clippy::cast_possible_truncation, reason = "saturates, and no test needs so many")]
fn milli(z: f64) -> i64 {
    (z * 1_000.0).round() as i64
}

/// How many hosts of the control show the same, of those with traffic, if they are enough.
fn shared(found: &Comparison, control: &[Tally]) -> Option<(usize, usize)> {
    let bad = |tally: &&Tally| match found.signal {
        Signal::Errors => is_half_as_bad(tally.errors, tally.requests, found.new),
        Signal::SlowerThan { ms } => {
            let first_slow = tally.bounds_ms.partition_point(|bound| *bound <= ms);
            let slow = tally.latency.iter().skip(first_slow).sum();
            is_half_as_bad(slow, tally.latency.iter().sum(), found.new)
        }
    };
    let busy = control.iter().filter(|tally| tally.requests > 0);
    let (hosts, of) = (busy.clone().filter(bad).count(), busy.count());
    (hosts >= SHARED_MIN && 2 * hosts >= of).then_some((hosts, of))
}

fn is_half_as_bad(bad: u64, of: u64, new: Counted) -> bool {
    of > 0 && 2 * u128::from(bad) * u128::from(new.of) >= u128::from(new.bad) * u128::from(of)
}

// --- text ---

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(comparison) => write!(f, "not worse: {comparison}"),
            Self::Quiet { new, needed } => write!(
                f,
                "too quiet to compare ({new} of {needed} requests, and no more on the old release): \
                 health checks alone count"
            ),
            Self::Fail(comparison) => write!(f, "worse: {comparison}"),
            Self::Starved { new, needed } => write!(
                f,
                "inconclusive: {new} of {needed} requests reached the new release, and the old one \
                 has traffic"
            ),
            Self::Shared { comparison, hosts, of } => write!(
                f,
                "inconclusive: shared by {hosts} of {of} hosts on the old release: {comparison}"
            ),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { signal, new, control, above_ppm, z_milli } = self;
        match signal {
            Signal::Errors => write!(f, "errors {new}")?,
            Signal::SlowerThan { ms } => write!(f, "answers over {ms} ms {new}")?,
        }
        let above = f64::from(*above_ppm) / 1e4;
        match control {
            Some(control) => write!(f, ", old release {control}, at most {above} % above it")?,
            None => write!(f, ", nobody to compare with, at most {above} %")?,
        }
        let (sign, z_milli) = (if *z_milli < 0 { "-" } else { "" }, z_milli.unsigned_abs());
        write!(f, " (z {sign}{}.{})", z_milli / 1_000, z_milli % 1_000 / 100)
    }
}

impl fmt::Display for Counted {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * self.bad as f64 / (self.of.max(1)) as f64;
        write!(f, "{percent:.2} % of {}", self.of)
    }
}

#[cfg(test)]
mod test;
