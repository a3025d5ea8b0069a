//! Is the new release worse than the old one (R24)? Counted requests in, a verdict with its numbers
//! out; pure, so that a host acts by the very value that people are shown.
//!
//! New and old are compared over the same time, never with the past: what an outage does to both is no
//! fault of either. The control is the hosts of the cohort that still serve the old release. A host
//! compares itself while it bakes; the gate of a wave ([`crate::gate`]) compares all hosts of the waves
//! before it ([`pooled`]).
//!
//! | new | control | verdict |
//! |---|---|---|
//! | enough requests | enough requests | the test below, of errors, then of slow answers |
//! | enough | too few, or nobody: a first deployment, a last wave | against an absolute limit ([`ALONE_PPM_MIN`] at least) |
//! | too few | just as few on each host, or nobody counts | pass on checks alone, saying so: the service is quiet |
//! | too few | enough | inconclusive: traffic does not reach the new release |
//! | worse | half as bad, on 3 hosts and on half of them | inconclusive: an outage that is shared |
//! | worse, and so far shared | fewer than 3 hosts are left, and half of those are half as bad | still shared |
//!
//! What becomes of a verdict, and for how long the inconclusive ones are waited with, is told in
//! [`Looks`].
//!
//! The test asks whether the share of bad answers of the new release lies above that of the old one by
//! more than the threshold, one-sided, by the difference of two proportions with one success and one
//! failure added to each side (Agresti and Caffo, The American Statistician 54, 2000, 280-288): with
//! the plain Wald statistic a control without any error would have no variance, and one failed request
//! would prove everything. Slow is what lies above the bucket of the control's 99th percentile times
//! the ratio that is allowed.
//!
//! An outage takes time to be heard of, and shows less in a long window than in one that has just
//! begun. So what a host is told of the others is held against what it counted a few looks ago, too:
//! a release that is worse was worse then. And an outage is shared if the control's bad answers, had
//! they all come in as short a time as the new release was counted for, are half as bad as those.

mod looks;
mod tallies;
mod text;

use proto::Digest;
use proto::record::{BOUND_MS_MAX, BUCKETS_MAX, TALLY_COUNT_MAX, TallyRecord};
use proto::statement::Limits;

pub use looks::{Conclusion, DOUBT_MS_MAX, FAILS_MIN, Looks, Streak};
pub use tallies::{Tallies, p99s_ms, pooled};

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
/// A window has just begun while it is so short, as a share of the control's.
const BEGUN: f64 = 0.5;
/// How sure it must be then that a host does not fail as often, in standard deviations.
const SHOWN_Z: f64 = 2.0;

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
    /// How long it counted, in milliseconds; 0: not told.
    pub over_ms: u32,
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
            over_ms: self.over_ms,
        }
    }

    /// What a member says, whoever it is: no number is beyond what may be said.
    pub fn of(record: TallyRecord) -> Self {
        let TallyRecord { release: _, requests, errors, mut latency, bounds_ms, over_ms } = record;
        let requests = requests.min(TALLY_COUNT_MAX);
        for count in &mut latency {
            *count = (*count).min(TALLY_COUNT_MAX);
        }
        Self { requests, errors: errors.min(requests), latency, bounds_ms, over_ms }
    }

    /// What 99 of 100 answers took no longer than: the bound of a bucket, in milliseconds. None: they were
    /// not counted, or it lies above the last bound, where nothing can be told apart.
    pub fn p99_ms(&self) -> Option<u64> {
        let bucket = p99_bucket(&self.latency)?;
        let told = self.latency.len() == self.bounds_ms.len() + 1;
        self.bounds_ms.get(bucket).copied().filter(|_| told)
    }

    /// What is bad by this signal.
    pub(crate) fn bad(&self, signal: Signal) -> Counted {
        match signal {
            Signal::Errors => Counted { bad: self.errors.min(self.requests), of: self.requests },
            Signal::SlowerThan { ms } => {
                let first_slow = self.bounds_ms.partition_point(|bound| *bound <= ms);
                Counted {
                    bad: self.latency.iter().skip(first_slow).sum(),
                    of: self.latency.iter().sum(),
                }
            }
        }
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
    /// It fails by what was counted now, and did not by what was counted a few looks ago: the next
    /// looks tell.
    Fresh(Comparison),
    /// The old release has traffic and the new one has not enough of it. `worse`: what little there is
    /// fails the test, or there is none at all.
    Starved {
        new: u64,
        needed: u64,
        worse: bool,
    },
    /// The old release fails just so, on so many hosts of the control.
    Shared {
        comparison: Comparison,
        hosts: usize,
        of: usize,
    },
}

impl Verdict {
    /// What was compared; none: there was too little.
    pub const fn comparison(self) -> Option<Comparison> {
        match self {
            Self::Pass(comparison)
            | Self::Fail(comparison)
            | Self::Fresh(comparison)
            | Self::Shared { comparison, .. } => Some(comparison),
            Self::Quiet { .. } | Self::Starved { .. } => None,
        }
    }

    /// Whether another one must be waited for.
    pub const fn holds(self) -> bool {
        match self {
            Self::Pass(_) | Self::Quiet { .. } => false,
            Self::Fail(_) | Self::Fresh(_) | Self::Starved { .. } | Self::Shared { .. } => true,
        }
    }
}

/// What is compared with what.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Of the hosts that run the new release.
    pub new: &'a [Tally],
    /// The same a few looks ago, where it was worse then already: what is told of the others is as old.
    pub earlier: Option<&'a Tally>,
    /// Whether it was an outage that is shared by the look before this one.
    pub was_shared: bool,
    /// Of those that run the old one.
    pub control: &'a [Tally],
    pub limits: &'a Limits,
    /// The share of errors that may lie above the control's, in millionths.
    pub errors_ppm: u32,
    /// How sure to be, in standard deviations.
    pub sure: f64,
}

/// Judges a release by what hosts counted on it and on the one before.
pub fn judge(case: &Case<'_>) -> Verdict {
    let Case { control, limits, .. } = case;
    let (new, old) = (pool(case.new), pool(control));
    let needed = u64::from(limits.requests_min);
    let (compared, fails) = worst(case, &new, &old);
    if new.requests < needed {
        // As many hosts of the control would have had so many.
        let hosts = case.new.len().max(1) as u64;
        let expected = median(control.iter().map(|tally| tally.requests)).saturating_mul(hosts);
        let worse = fails || new.requests == 0;
        return match expected < needed {
            true => Verdict::Quiet { new: new.requests, needed },
            false => Verdict::Starved { new: new.requests, needed, worse },
        };
    }
    if !fails {
        return Verdict::Pass(compared);
    }
    let then = case.earlier.unwrap_or(&new);
    let (_, failed_then) = worst(case, then, &old);
    if !failed_then {
        return Verdict::Fresh(compared);
    }
    match shared(case, compared.signal, then) {
        Some((hosts, of)) => Verdict::Shared { comparison: compared, hosts, of },
        None => Verdict::Fail(compared),
    }
}

/// The comparison that speaks most against the new release, and whether beyond doubt.
fn worst(case: &Case<'_>, new: &Tally, old: &Tally) -> (Comparison, bool) {
    let control_counts = old.requests >= u64::from(case.limits.requests_min);
    let errors = compare_errors(new, control_counts.then_some(old), case.errors_ppm);
    let slow = case.limits.p99_ratio_percent.filter(|_| control_counts);
    let slow = slow.and_then(|ratio| compare_latency(new, old, ratio));
    let worst = slow.filter(|slow| slow.z_milli > errors.z_milli).unwrap_or(errors);
    (worst, worst.z_milli > milli(case.sure))
}

/// What several hosts counted, none of them for more than three times the median.
pub fn pool(tallies: &[Tally]) -> Tally {
    let busy = tallies.iter().filter(|tally| tally.requests > 0);
    let cap = median(busy.clone().map(|tally| tally.requests)).saturating_mul(WEIGHT_MAX);
    // Where hosts have other buckets than most, their latencies say nothing about those of others.
    let bounds = busy.clone().find(|tally| !tally.latency.is_empty()).map(|one| &one.bounds_ms);
    let mut pooled = Tally { bounds_ms: bounds.cloned().unwrap_or_default(), ..Tally::default() };
    for tally in busy {
        pooled.over_ms = pooled.over_ms.max(tally.over_ms);
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
    let counted = |tally: &Tally| tally.bad(Signal::Errors);
    let above_ppm = if control.is_some() { errors_ppm } else { errors_ppm.max(ALONE_PPM_MIN) };
    compare(Signal::Errors, counted(new), control.map(counted), above_ppm)
}

/// None: nobody counted latencies, or in other buckets.
fn compare_latency(new: &Tally, control: &Tally, ratio_percent: u32) -> Option<Comparison> {
    let p99_ms = control.p99_ms()?;
    if new.bounds_ms != control.bounds_ms || new.latency.len() != control.latency.len() {
        return None;
    }
    let allowed_ms = p99_ms.saturating_mul(u64::from(ratio_percent)) / 100;
    let first_slow = control.bounds_ms.partition_point(|bound| *bound < allowed_ms) + 1;
    let signal = Signal::SlowerThan { ms: *control.bounds_ms.get(first_slow - 1)? };
    // The old release has one in a hundred above its 99th percentile by definition.
    let above_ppm = 10_000;
    Some(compare(signal, new.bad(signal), Some(control.bad(signal)), above_ppm))
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

/// How many hosts of the control show the same as the new release `then`, of those with traffic, if
/// they are enough. Hosts leave the control by their own turns, and what was shared is no fault of the
/// release for their leaving.
fn shared(case: &Case<'_>, signal: Signal, then: &Tally) -> Option<(usize, usize)> {
    let busy = case.control.iter().filter(|tally| tally.requests > 0);
    let shows = |tally: &&Tally| shows_half(signal, then, tally);
    let (hosts, of) = (busy.clone().filter(shows).count(), busy.count());
    let crowd = hosts >= SHARED_MIN || case.was_shared && of < SHARED_MIN;
    (crowd && 2 * hosts >= of).then_some((hosts, of))
}

/// Whether the bad answers of a host of the control are half as many as those of the new release, had
/// they all come within as short a time. In one that has just begun they are few, and few by chance: there
/// it shows them unless it has surely fewer.
#[expect(clippy::cast_precision_loss, reason = "shares, not exact counts")]
fn shows_half(signal: Signal, then: &Tally, tally: &Tally) -> bool {
    let (new, old) = (then.bad(signal), tally.bad(signal));
    // Of a time that was not told nothing is known: it is taken for as long.
    let within = match (then.over_ms, tally.over_ms) {
        (0, _) | (_, 0) => 1.0,
        (then_ms, over_ms) => f64::from(then_ms.min(over_ms)) / f64::from(over_ms),
    };
    let share = new.bad as f64 / new.of.max(1) as f64;
    let half = share * old.of as f64 * within / 2.0;
    let bad = old.bad as f64;
    // The deviation of a count is its root (Poisson).
    let chance = if within < BEGUN { SHOWN_Z * bad.sqrt() } else { 0.0 };
    old.of > 0 && bad + chance >= half
}

#[cfg(test)]
mod test;
