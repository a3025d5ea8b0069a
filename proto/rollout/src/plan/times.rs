//! How long a rollout takes at least, forward and back.

use std::collections::BTreeMap;

use proto::statement::{CohortHost, Rollout};
use serde::Serialize;

use crate::gate;

/// What a host is assumed to take from the stop of its service to the first good answer of the
/// next release, in seconds. Nobody measures it before a rollout; it is said wherever it is used.
pub const RESTART_S: u64 = 10;

/// The least times of a rollout, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Times {
    /// Until every host has committed.
    pub promote_s: u64,
    /// Until every host serves `from` again, once all run `to` and the fleet is to go back.
    pub roll_back_s: u64,
    /// The assumed time of one restart.
    pub restart_s: u64,
}

/// The least times of `rollout`.
///
/// With R = [`RESTART_S`] and k = `max_unavailable`, `rounds` of some hosts is the most that any
/// zone needs to restart its own of them, k at a time: the largest ceil(hosts of the zone / k).
///
/// - forward: the sum over the waves of rounds(wave) x R + bake(wave);
/// - forward by batches of b of n hosts: ceil(n / b) x (R + bake) where the batch is what holds,
///   or rounds(cohort) x R + bake where `max_unavailable` is: the longer of the two;
/// - back: rounds(cohort) x R. Nothing bakes on the way back.
///
/// Assumed is that every restart takes R, that the artifacts are on every disk before they are
/// needed, that nobody fails or falls silent, and that word travels in no time. What people and
/// calendars hold (approvals, pauses, windows, freezes) comes on top.
pub fn times(rollout: &Rollout) -> Times {
    let max_unavailable = rollout.max_unavailable.max(1) as usize;
    let restarts_s = |hosts: &[CohortHost]| rounds(hosts, max_unavailable) * RESTART_S;
    let all_s = restarts_s(&rollout.cohort);
    let waves = 0..rollout.waves.len();
    let wave_s = |wave: usize| {
        restarts_s(&rollout.cohort[rollout.ranks_in(wave)]) + u64::from(gate::bake_s(rollout, wave))
    };
    let by_waves_s: u64 = waves.clone().map(wave_s).sum();
    let by_batches_s = rollout.in_flight_max.map_or(0, |batch| {
        let batches = rollout.cohort.len().div_ceil(batch.max(1) as usize) as u64;
        let bake_s: u64 = waves.map(|wave| u64::from(gate::bake_s(rollout, wave))).sum();
        batches * (RESTART_S + bake_s)
    });
    Times { promote_s: by_waves_s.max(by_batches_s), roll_back_s: all_s, restart_s: RESTART_S }
}

fn rounds(hosts: &[CohortHost], max_unavailable: usize) -> u64 {
    let mut zones: BTreeMap<_, usize> = BTreeMap::new();
    for host in hosts {
        *zones.entry(&host.zone).or_default() += 1;
    }
    zones.values().map(|hosts| hosts.div_ceil(max_unavailable) as u64).max().unwrap_or(0)
}
