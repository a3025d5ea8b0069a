//! Budgets for silent hosts that cannot be kept: found before anybody signs them (R15).
//!
//! A silent host that has not settled keeps its place among the hosts that may be down, and one
//! that has not ended keeps its place in the batch, until it is heard or skipped. So a budget that
//! lets as many hosts be silent as there are places promises what will not be: the hosts behind
//! them wait for ever.

use std::collections::BTreeMap;

use proto::Zone;
use proto::statement::Share;

use super::{Plan, PlanError, Stage, Strategy, share_up, stages_of};

/// A budget for silent hosts that is not below the places they would keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Obstacle {
    /// The stage whose budget it is, 0 first.
    pub stage: usize,
    /// As it is written; none: the default.
    pub written: Option<Share>,
    /// Silent hosts that it allows.
    pub unreachable_max: u32,
    pub places: Places,
}

/// What silent hosts keep places of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// Hosts of one zone that may be down at once.
    MaxUnavailable(u32),
    /// Hosts that may be between their start and the end of their bake at once.
    Batch(u32),
}

/// The obstacles in a plan that was made of `strategy`, at most one of each stage.
///
/// # Errors
///
/// [`PlanError`]: stages of which no plan was made.
pub fn obstacles(plan: &Plan, strategy: &Strategy) -> Result<Vec<Obstacle>, PlanError> {
    let count = u32::try_from(plan.cohort.len()).unwrap_or(u32::MAX);
    let mut waves = plan.waves.iter();
    let mut wave = waves.next();
    let mut found = Vec::new();
    for (index, stage) in stages_of(strategy)?.iter().enumerate() {
        // A stage that adds no host has no budget of its own.
        let Some(own) = wave.filter(|wave| wave.hosts == share_up(stage.weight, count)) else {
            continue;
        };
        wave = waves.next();
        found.extend(obstacle(plan, index, stage, own.hosts, own.unreachable_max));
    }
    Ok(found)
}

fn obstacle(
    plan: &Plan,
    index: usize,
    stage: &Stage,
    hosts: u32,
    unreachable_max: u32,
) -> Option<Obstacle> {
    let places = if keeps_batch(plan, unreachable_max) {
        Places::Batch(plan.in_flight_max?)
    } else if keeps_slots(plan, hosts as usize, unreachable_max) {
        Places::MaxUnavailable(plan.max_unavailable)
    } else {
        return None;
    };
    Some(Obstacle { stage: index, written: stage.unreachable_max, unreachable_max, places })
}

fn keeps_batch(plan: &Plan, unreachable_max: u32) -> bool {
    let behind = |batch: u32| plan.cohort.len() > batch as usize;
    plan.in_flight_max.is_some_and(|batch| unreachable_max >= batch && behind(batch))
}

/// Whether so many silent hosts of the first `hosts` can keep all places of a zone that has hosts
/// behind them.
fn keeps_slots(plan: &Plan, hosts: usize, unreachable_max: u32) -> bool {
    let mut zones: BTreeMap<&Zone, (usize, usize)> = BTreeMap::new();
    for (rank, host) in plan.cohort.iter().enumerate() {
        let (early, all) = zones.entry(&host.zone).or_default();
        *early += usize::from(rank < hosts);
        *all += 1;
    }
    let places = plan.max_unavailable as usize;
    let silent_max = unreachable_max as usize;
    zones.values().any(|(early, all)| silent_max.min(*early) >= places && *all > places)
}
