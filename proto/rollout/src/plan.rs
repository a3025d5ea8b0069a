//! Hosts and a strategy become a cohort and its waves (R13, R14): pure, so that `swell plan` shows
//! what `swell deploy` signs, and an approver can derive it again.
//!
//! The order of the cohort depends on the release and on nothing a host can choose: hosts stand in
//! hash order, zones taking turns, so canaries differ from one release to the next and a wave is
//! spread over as many zones as it has hosts.

mod obstacle;
mod times;

use std::collections::BTreeMap;
use std::fmt;

use proto::report::Fitness;
use proto::statement::{COHORT_MAX, CohortHost, Direction, Host, Share, WAVES_MAX, Wave};
use proto::{Digest, HostId, Zone};

pub use self::obstacle::{Obstacle, Places, obstacles};
pub use self::times::{RESTART_S, Times, times};

/// How long beyond its least time a rollout may open waves, in seconds: a day; longer where its
/// windows need it.
pub const EXPIRES_S: u64 = 24 * 3_600;

/// A host that may take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub host: Host,
    /// A host that is silent or sick is left to the catch-up lane.
    pub fitness: Fitness,
}

/// A host that does not take part, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub host: HostId,
    pub why: Fitness,
}

/// One stage, as an operator writes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// Percent of the cohort's hosts that have had their turn once this stage is open: cumulative,
    /// above 0, rising, 100 last.
    pub weight: f64,
    /// Bake of each of its hosts, in seconds.
    pub wait_s: u32,
    /// Of the hosts of all stages up to this one. None: 0 in the first stage, then max(1, 2 %).
    pub failed_max: Option<Share>,
    /// Likewise. None: 0 in the first stage, then max(1, 5 %).
    pub unreachable_max: Option<Share>,
    /// The share of errors that may lie above the old release's, in millionths, where requests are
    /// counted. None: what is said for all stages.
    pub errors_ppm: Option<u32>,
}

impl Stage {
    /// A stage with default budgets.
    pub const fn new(weight: f64, wait_s: u32) -> Self {
        Self { weight, wait_s, failed_max: None, unreachable_max: None, errors_ppm: None }
    }
}

/// How a rollout goes through the cohort.
#[derive(Debug, Clone, PartialEq)]
pub enum Strategy {
    /// One wave without a bake.
    AllAtOnce {
        failed_max: Option<Share>,
        unreachable_max: Option<Share>,
    },
    Canary(Vec<Stage>),
    /// One wave through which `batch` hosts go at a time: the next one starts once one of them has
    /// ended, its bake included. Each batch is a stage of its own to an environment's policy.
    Rolling {
        /// Of the whole cohort, rounded down, at least 1.
        batch: Share,
        /// Bake of each host, in seconds.
        wait_s: u32,
        failed_max: Option<Share>,
        unreachable_max: Option<Share>,
    },
}

/// Who goes when: the part of a rollout statement that is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub cohort: Vec<CohortHost>,
    pub waves: Vec<Wave>,
    /// Hosts of one zone that may be stopped at once; 1 or more.
    pub max_unavailable: u32,
    /// Hosts that may be between their start and the end of their bake at once, 1 or more. None:
    /// as many as `max_unavailable` lets start.
    pub in_flight_max: Option<u32>,
    /// For each wave the share of errors above the old release's that its stages allow, in
    /// millionths, the least of those that were merged into it. None: they do not say.
    pub errors_ppm: Vec<Option<u32>>,
    /// Silent and sick hosts, left to the catch-up lane; by id.
    pub left_out: Vec<LeftOut>,
    /// What people should know about how the stages came out; empty if it is as written.
    pub notes: Vec<Note>,
}

/// A thing worth telling about a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// This stage (0 first) adds no host: its wait went to `wave`, budgets are that wave's.
    Merged { stage: usize, wave: usize, wait_s: u32 },
    /// There is one host: the service is down while it restarts.
    Alone,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    #[error("no host to deploy to: {}", tally(left_out))]
    Empty { left_out: Vec<LeftOut> },
    #[error("{got} hosts, at most {COHORT_MAX} fit in one rollout")]
    TooManyHosts { got: usize },
    #[error("{got} stages: must be 1 to {WAVES_MAX}")]
    Stages { got: usize },
    #[error("stages.{stage}.weight = {weight}: must be above {above} and at most 100")]
    Weight { stage: usize, weight: f64, above: f64 },
    #[error("the last stage has weight {weight}: must be 100")]
    NotWhole { weight: f64 },
}

// --- planning ---

/// How an operator's rollback goes through `hosts`: all at once.
///
/// One failure must not stop all others from going back; one dead host must not keep the rollback from ever
/// being complete, or the next deployment would take the bad version for the stable one. So all may
/// fail, and of the hosts that take part one, or 5 %, may be silent.
pub fn rollback_strategy(hosts: &[Candidate]) -> Strategy {
    let takes_part = |host: &&Candidate| host.fitness.takes_part(Direction::Rollback);
    let silent = hosts.iter().filter(takes_part).count() / 20;
    Strategy::AllAtOnce {
        failed_max: Some(Share::Percent(100.0)),
        unreachable_max: Some(Share::Count(u32::try_from(silent).unwrap_or(u32::MAX).max(1))),
    }
}

/// Plans a rollout of `release` (its id decides the order) over `hosts`.
///
/// `max_unavailable` is of the whole cohort, rounded down, at least 1; it is kept per zone.
///
/// # Errors
///
/// [`PlanError`]: nobody to deploy to, too many hosts, stages that do not rise to 100 %.
pub fn plan(
    hosts: &[Candidate],
    strategy: &Strategy,
    direction: Direction,
    max_unavailable: Share,
    release: &Digest,
) -> Result<Plan, PlanError> {
    let stages = stages_of(strategy)?;
    let (fit, unfit): (Vec<_>, Vec<_>) =
        hosts.iter().partition(|candidate| candidate.fitness.takes_part(direction));
    let left_out = |candidate: &&Candidate| LeftOut {
        host: candidate.host.id.clone(),
        why: candidate.fitness,
    };
    let mut left_out: Vec<_> = unfit.iter().map(left_out).collect();
    left_out.sort_by(|one, other| one.host.cmp(&other.host));
    let cohort = order(fit.iter().map(|candidate| &candidate.host), release);
    if cohort.is_empty() {
        return Err(PlanError::Empty { left_out });
    }
    if cohort.len() > COHORT_MAX {
        return Err(PlanError::TooManyHosts { got: cohort.len() });
    }
    let count = u32::try_from(cohort.len()).expect("at most COHORT_MAX hosts");
    let (mut waves, mut notes) = waves(&stages, count);
    if direction == Direction::Rollback {
        waves.iter_mut().for_each(|wave| wave.wait_s = 0);
    }
    if count == 1 {
        notes.push(Note::Alone);
    }
    let max_unavailable = max_unavailable.of(count).max(1);
    let in_flight_max = match strategy {
        Strategy::Rolling { batch, .. } => Some(batch.of(count).max(1)),
        Strategy::AllAtOnce { .. } | Strategy::Canary(_) => None,
    };
    let errors_ppm = errors_ppm(&stages, count);
    Ok(Plan { cohort, waves, max_unavailable, in_flight_max, errors_ppm, left_out, notes })
}

/// How many are left out for what reason: `3 left out (2 not heard of, 1 ...)`.
fn tally(left_out: &[LeftOut]) -> String {
    let mut hosts: BTreeMap<Fitness, usize> = BTreeMap::new();
    for host in left_out {
        *hosts.entry(host.why).or_default() += 1;
    }
    let parts: Vec<_> = hosts.iter().map(|(why, hosts)| format!("{hosts} {why}")).collect();
    match parts.is_empty() {
        true => "the environment has none".to_owned(),
        false => format!("{} left out ({})", left_out.len(), parts.join("; ")),
    }
}

fn stages_of(strategy: &Strategy) -> Result<Vec<Stage>, PlanError> {
    let stages = match strategy {
        Strategy::AllAtOnce { failed_max, unreachable_max } => {
            let (failed_max, unreachable_max) = (*failed_max, *unreachable_max);
            vec![Stage { weight: 100.0, wait_s: 0, failed_max, unreachable_max, errors_ppm: None }]
        }
        Strategy::Rolling { wait_s, failed_max, unreachable_max, .. } => {
            let (failed_max, unreachable_max) = (*failed_max, *unreachable_max);
            vec![Stage {
                weight: 100.0,
                wait_s: *wait_s,
                failed_max,
                unreachable_max,
                errors_ppm: None,
            }]
        }
        Strategy::Canary(stages) => stages.clone(),
    };
    if !(1..=WAVES_MAX).contains(&stages.len()) {
        return Err(PlanError::Stages { got: stages.len() });
    }
    let mut above = 0.0;
    for (stage, Stage { weight, .. }) in stages.iter().enumerate() {
        // Written so that a weight that is no number is refused, too.
        if !(*weight > above && *weight <= 100.0) {
            return Err(PlanError::Weight { stage, weight: *weight, above });
        }
        above = *weight;
    }
    if above < 100.0 {
        return Err(PlanError::NotWhole { weight: above });
    }
    Ok(stages)
}

/// The hosts in the order of their turns: by hash, zones taking turns.
fn order<'a>(hosts: impl Iterator<Item = &'a Host>, release: &Digest) -> Vec<CohortHost> {
    let point = |text: &str| Digest::of(&[release.as_bytes(), text.as_bytes()].concat());
    // A map by id first: a host that is listed twice is one host.
    let hosts: BTreeMap<_, _> = hosts.map(|host| (&host.id, host)).collect();
    let mut zones: BTreeMap<(Digest, Zone), Vec<(Digest, &Host)>> = BTreeMap::new();
    for host in hosts.into_values() {
        let zone = host.zone();
        let members = zones.entry((point(zone.as_str()), zone)).or_default();
        members.push((point(host.id.as_str()), host));
    }
    for members in zones.values_mut() {
        members.sort_by_key(|(point, _)| *point);
    }
    let rounds = zones.values().map(Vec::len).max().unwrap_or(0);
    let mut cohort = Vec::new();
    for round in 0..rounds {
        for ((_, zone), members) in &zones {
            if let Some((_, host)) = members.get(round) {
                let (id, key, zone) = (host.id.clone(), host.key, zone.clone());
                cohort.push(CohortHost { id, key, zone });
            }
        }
    }
    cohort
}

fn waves(stages: &[Stage], count: u32) -> (Vec<Wave>, Vec<Note>) {
    let mut waves: Vec<Wave> = Vec::new();
    let mut notes = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        let hosts = share_up(stage.weight, count);
        let wave = waves.len();
        match waves.last_mut() {
            Some(last) if last.hosts == hosts => {
                last.wait_s = last.wait_s.saturating_add(stage.wait_s);
                notes.push(Note::Merged { stage: index, wave: wave - 1, wait_s: stage.wait_s });
            }
            _ => waves.push(Wave {
                hosts,
                wait_s: stage.wait_s,
                failed_max: budget(stage.failed_max, wave, hosts, 2.0),
                unreachable_max: budget(stage.unreachable_max, wave, hosts, 5.0),
            }),
        }
    }
    (waves, notes)
}

fn errors_ppm(stages: &[Stage], count: u32) -> Vec<Option<u32>> {
    let mut waves: Vec<(u32, Option<u32>)> = Vec::new();
    for Stage { weight, errors_ppm, .. } in stages {
        let hosts = share_up(*weight, count);
        match waves.last_mut() {
            Some((last, ppm)) if *last == hosts => {
                *ppm = [*ppm, *errors_ppm].into_iter().flatten().min();
            }
            _ => waves.push((hosts, *errors_ppm)),
        }
    }
    waves.into_iter().map(|(_, ppm)| ppm).collect()
}

/// `weight` percent of `count` hosts, rounded up, at least one.
fn share_up(weight: f64, count: u32) -> u32 {
    let exact = f64::from(count) * weight / 100.0;
    // The margin keeps 7 % of 100 at 7, whatever the floating point makes of it.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to count")]
    let hosts = (exact - 1e-6).ceil() as u32;
    hosts.clamp(1, count)
}

fn budget(given: Option<Share>, wave: usize, hosts: u32, percent: f64) -> u32 {
    match given {
        Some(share) => share.of(hosts),
        None if wave == 0 => 0,
        None => Share::Percent(percent).of(hosts).max(1),
    }
}

// --- text ---

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Merged { stage, wave, wait_s } => write!(
                f,
                "stage {} adds no host: merged into wave {}, whose wait grows by {wait_s} s",
                stage + 1,
                wave + 1
            ),
            Self::Alone => f.write_str("one host: the service is down while it restarts"),
        }
    }
}

impl Plan {
    /// The hosts of a wave, 0 first; none beyond the last.
    pub fn hosts_in(&self, wave: usize) -> &[CohortHost] {
        let end =
            |wave: usize| self.waves.get(wave).map_or(self.cohort.len(), |w| w.hosts as usize);
        &self.cohort[wave.checked_sub(1).map_or(0, end)..end(wave)]
    }
}

#[cfg(test)]
mod test;
