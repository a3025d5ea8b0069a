//! The five measures of DORA, counted from the table of rollouts, for one scope.
//!
//! Definitions: <https://dora.dev/guides/dora-metrics/>, which names five since 2025: change lead time,
//! deployment frequency, change fail rate, failed deployment recovery time, rework rate. It warns of
//! blending services and of making the measures a target; here they are of one service in one environment.
//!
//! | word | meaning here |
//! |---|---|
//! | deployment | a forward rollout, no adoption, that is complete, or was halted, aborted or taken back after a host had begun |
//! | failed | it was halted or aborted; or an operator's rollback took it back: while it went on, or once it was complete and before the next one was |
//! | rollback | an operator's, that is complete or was stopped after a host had begun; a way back by itself is the second half of its rollout |
//!
//! What expired, or was replaced by something else before it was complete, is neither. A deployment belongs to the window in
//! which it ended, by the coordinator's clock: when the proof of it came, or it was stopped.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use member::clock;
use proto::UnixTime;
use proto::dora::{DORA_DAYS_MAX, DoraFrequency, DoraMeasures, DoraReport, DoraShare, DoraTimes};
use proto::id::Scope;
use proto::statement::Direction;
use proto::wire::{ControlReply, Refused, RefusedKind};
use rollout::fleet::names::known_scope;

use crate::desk::{Desk, out_of_order};
use crate::store::{Outcome, RolloutRow, Store, StoreError};

const DAY_S: u64 = 86_400;
const WEEK_DAYS: u32 = 7;
/// Rollouts before the window that are looked at, for what the first ones in it followed.
const CONTEXT: u32 = 100;

/// The measures of the last `days` days before `until`, and of their weeks, from the rows of a scope: those
/// of the window, and some before it.
pub fn report(scope: Scope, rows: &[RolloutRow], until: UnixTime, days: u32) -> DoraReport {
    let line = Line::of(rows);
    let before = |days: u32| UnixTime(until.0.saturating_sub(u64::from(days) * DAY_S));
    let weeks = (1..=days / WEEK_DAYS).rev();
    let week = |back: u32| {
        line.measures(before(back * WEEK_DAYS), before((back - 1) * WEEK_DAYS), WEEK_DAYS)
    };
    DoraReport {
        service: scope.service,
        env: scope.env,
        window: line.measures(before(days), until, days),
        weeks: weeks.map(week).collect(),
    }
}

/// What was deployed in a scope, in the order of its epochs.
struct Line<'a>(Vec<Entry<'a>>);

struct Entry<'a> {
    row: &'a RolloutRow,
    ended: UnixTime,
    what: What,
    /// Of a deployment that failed: when the scope was well again; none: it is not yet.
    recovered: Option<UnixTime>,
    /// It came after one that failed, or takes one back.
    is_rework: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Deployment { failed: bool },
    Rollback,
}

impl<'a> Line<'a> {
    fn of(rows: &'a [RolloutRow]) -> Self {
        let mut rows: Vec<_> = rows.iter().filter_map(|row| Some((row, row.ended?))).collect();
        rows.sort_by_key(|(row, ended)| (row.epoch, *ended));
        let mut line: Vec<Entry<'a>> = Vec::new();
        for (index, &(row, ended)) in rows.iter().enumerate() {
            let next = rows.get(index + 1).map(|(next, _)| *next);
            let Some(what) = what(row, next) else { continue };
            if what == What::Rollback {
                undo(&mut line, row);
            }
            line.push(Entry { row, ended, what, recovered: None, is_rework: false });
        }
        recover(&mut line);
        rework(&mut line);
        Self(line)
    }

    fn measures(&self, from: UnixTime, until: UnixTime, days: u32) -> DoraMeasures {
        let within = |entry: &&Entry<'_>| (from..until).contains(&entry.ended);
        let entries: Vec<_> = self.0.iter().filter(within).collect();
        DoraMeasures {
            from,
            until,
            days,
            deployment_frequency: frequency(&entries),
            change_lead_time: lead_time(&entries),
            change_fail_rate: fail_rate(&entries),
            failed_deployment_recovery_time: recovery_time(&entries),
            rework_rate: rework_rate(&entries),
        }
    }
}

/// `next`: the rollout that came after it.
fn what(row: &RolloutRow, next: Option<&RolloutRow>) -> Option<What> {
    let stopped = row.began
        && match row.outcome {
            Some(Outcome::Halted | Outcome::Aborted) => true,
            Some(Outcome::Superseded) => next.is_some_and(|next| takes_back(next, row)),
            _ => false,
        };
    let complete = row.outcome == Some(Outcome::Complete);
    match row.direction {
        _ if !stopped && !complete => None,
        Direction::Rollback => Some(What::Rollback),
        Direction::Forward if row.adopt => None,
        Direction::Forward => Some(What::Deployment { failed: stopped }),
    }
}

/// Whether `next` is an operator's rollback from what `row` brought.
fn takes_back(next: &RolloutRow, row: &RolloutRow) -> bool {
    let from = next.from.as_ref().map(|from| from.release);
    next.direction == Direction::Rollback && from == Some(row.to.release)
}

/// The last deployment that was complete before a rollback failed, if the rollback came from it.
fn undo(line: &mut [Entry<'_>], rollback: &RolloutRow) {
    let complete = |entry: &&mut Entry<'_>| entry.row.outcome == Some(Outcome::Complete);
    let Some(last) = line.iter_mut().rev().find(complete) else { return };
    if let What::Deployment { failed } = &mut last.what {
        *failed |= takes_back(rollback, last.row);
    }
}

/// When each complete rollout of the line ended, with its epoch.
fn completions(line: &[Entry<'_>]) -> Vec<(u64, UnixTime)> {
    let complete = line.iter().filter(|entry| entry.row.outcome == Some(Outcome::Complete));
    complete.map(|entry| (entry.row.epoch, entry.ended)).collect()
}

/// A scope is well again once every host that is heard is back by itself, or the next rollout, forward or
/// back, is complete: whichever is earlier.
fn recover(line: &mut [Entry<'_>]) {
    let complete = completions(line);
    for entry in line.iter_mut().filter(|entry| entry.what == What::Deployment { failed: true }) {
        let after = |(epoch, _): &&(u64, UnixTime)| *epoch > entry.row.epoch;
        let next = complete.iter().find(after).map(|(_, ended)| *ended);
        entry.recovered = entry.row.back.into_iter().chain(next).min();
    }
}

/// A rollback is one, and so is the first deployment after one that failed.
fn rework(line: &mut [Entry<'_>]) {
    let mut failed_before = false;
    for entry in line {
        match entry.what {
            What::Rollback => entry.is_rework = true,
            What::Deployment { failed } => {
                entry.is_rework = failed_before;
                failed_before = failed;
            }
        }
    }
}

// --- the measures ---

/// Number of items of a list.
fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

/// Deployments that are complete, and on how many days of UTC there was one. Per day or per week: divided by
/// the days of the window.
fn frequency(entries: &[&Entry<'_>]) -> DoraFrequency {
    let complete = || {
        let deployed = entries.iter().filter(|entry| entry.what != What::Rollback);
        deployed.filter(|entry| entry.row.outcome == Some(Outcome::Complete))
    };
    let days: BTreeSet<_> = complete().map(|entry| entry.ended.0 / DAY_S).collect();
    DoraFrequency { deployments: count(complete()), days_with_one: count(days.iter()) }
}

/// From the commit that a release was built from, as its publisher says, to the end of the deployment that is
/// complete. Unknown: the publisher did not say, or a time after that end. It is the time of the one commit
/// that was built, not of each one since the deployment before.
fn lead_time(entries: &[&Entry<'_>]) -> DoraTimes {
    let deployed = entries.iter().filter(|entry| entry.what != What::Rollback);
    let complete = deployed.filter(|entry| entry.row.outcome == Some(Outcome::Complete));
    times(complete.map(|entry| entry.ended.0.checked_sub(entry.row.commit_time?.0)))
}

/// Deployments that failed, of all.
fn fail_rate(entries: &[&Entry<'_>]) -> DoraShare {
    let deployed = || entries.iter().filter(|entry| entry.what != What::Rollback);
    let failed = deployed().filter(|entry| entry.what == What::Deployment { failed: true });
    DoraShare { n: count(failed), of: count(deployed()) }
}

/// From the end of a deployment that failed until the scope was well again. Unknown: it is not yet.
fn recovery_time(entries: &[&Entry<'_>]) -> DoraTimes {
    let failed = entries.iter().filter(|entry| entry.what == What::Deployment { failed: true });
    times(failed.map(|entry| Some(entry.recovered?.0.saturating_sub(entry.ended.0))))
}

/// Rollbacks and first deployments after one that failed, of all deployments and rollbacks.
fn rework_rate(entries: &[&Entry<'_>]) -> DoraShare {
    let rework = entries.iter().filter(|entry| entry.is_rework);
    DoraShare { n: count(rework), of: count(entries.iter()) }
}

fn times(times_s: impl Iterator<Item = Option<u64>>) -> DoraTimes {
    let (mut known, mut unknown) = (Vec::new(), 0_u32);
    for time_s in times_s {
        match time_s {
            Some(time_s) => known.push(time_s),
            None => unknown = unknown.saturating_add(1),
        }
    }
    known.sort_unstable();
    // The nearest rank: the smallest value that so many of a hundred are not above.
    let rank = |percent: usize| {
        let rank = (known.len() * percent).div_ceil(100).checked_sub(1)?;
        known.get(rank).copied()
    };
    DoraTimes { n: count(known.iter()), unknown, p50_s: rank(50), p90_s: rank(90) }
}

impl Desk {
    /// The measures of a scope over the last `days` days.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the window is too long, or the database does not work.
    pub async fn dora(&self, scope: Scope, days: u32) -> Result<ControlReply, Refused> {
        if !(1..=DORA_DAYS_MAX).contains(&days) {
            return Err(Refused {
                kind: RefusedKind::Invalid,
                reason: format!("{days} days: must be 1 to {DORA_DAYS_MAX}"),
                next: String::new(),
            });
        }
        let chain = self.member.ledger.chain();
        known_scope(&chain, &scope)?;
        let counted = counted(&self.store, scope, clock::unix(), days).await;
        let report = counted.map_err(|error| out_of_order("read rollouts", &error))?;
        Ok(ControlReply::Dora(Box::new(report)))
    }
}

async fn counted(
    store: &Store,
    scope: Scope,
    until: UnixTime,
    days: u32,
) -> Result<DoraReport, StoreError> {
    let since = UnixTime(until.0.saturating_sub(u64::from(days) * DAY_S));
    let rows = store.rollouts_ended(&scope, since, CONTEXT).await?;
    Ok(report(scope, &rows, until, days))
}
