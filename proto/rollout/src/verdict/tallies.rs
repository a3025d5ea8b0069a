//! What all members say they counted, and the hosts of some waves against the rest.

use std::collections::BTreeMap;

use proto::record::{SLOTS, TallyRecord, from_text, tally_key};
use proto::statement::{CohortHost, Direction, Rollout};
use proto::{Digest, HostId};

use super::{Case, POOL_Z, Tally, Verdict, judge, pool};

/// The counts of members, by what they said last.
#[derive(Debug, Clone, Default)]
pub struct Tallies(BTreeMap<HostId, Vec<TallyRecord>>);

impl Tallies {
    /// Reads them off the gossip values of the members that are there.
    pub fn read<'a>(
        live: impl Iterator<Item = (&'a HostId, &'a BTreeMap<String, String>)>,
    ) -> Self {
        let records = |values: &BTreeMap<String, String>| {
            let texts = (0..SLOTS).filter_map(|slot| values.get(&tally_key(slot)));
            texts.filter_map(|text| from_text(text)).collect()
        };
        Self(live.map(|(host, values)| (host.clone(), records(values))).collect())
    }

    /// What a host counts on a release; none: it serves another one, or does not count.
    pub fn of(&self, host: &HostId, release: Digest) -> Option<Tally> {
        let records = self.0.get(host)?.iter();
        let record = { records }.find(|record| record.release == release)?;
        Some(Tally::of(record.clone()))
    }

    /// What the hosts of a rollout's cohort count on its `from`. Who counts nothing at all does not serve
    /// it just now: a step is under way there.
    pub fn control(&self, rollout: &Rollout) -> Vec<Tally> {
        let Some(from) = &rollout.from else { return Vec::new() };
        let told = self.of_all(&rollout.cohort, from.release);
        told.filter(|tally| *tally != Tally::default()).collect()
    }

    fn of_all(&self, hosts: &[CohortHost], release: Digest) -> impl Iterator<Item = Tally> {
        hosts.iter().filter_map(move |host| self.of(&host.id, release))
    }
}

impl FromIterator<(HostId, TallyRecord)> for Tallies {
    fn from_iter<I: IntoIterator<Item = (HostId, TallyRecord)>>(records: I) -> Self {
        let mut tallies = Self::default();
        for (host, record) in records {
            tallies.0.entry(host).or_default().push(record);
        }
        tallies
    }
}

/// All hosts of the waves up to `wave` that serve the new release against all that serve the old one:
/// what the gate of the next wave is asked. None: requests are not counted in this rollout.
pub fn pooled(rollout: &Rollout, wave: usize, tallies: &Tallies) -> Option<Verdict> {
    let limits = rollout.limits.as_ref()?;
    if rollout.direction == Direction::Rollback {
        return None;
    }
    let hosts = &rollout.cohort[..rollout.ranks_in(wave).end];
    let new: Vec<_> = tallies.of_all(hosts, rollout.to.release).collect();
    let control = tallies.control(rollout);
    let errors_ppm = limits.errors_ppm.get(wave).copied().unwrap_or(0);
    let (new, control) = (&new, &control);
    let (earlier, was_shared, sure) = (None, false, POOL_Z);
    Some(judge(&Case { new, earlier, was_shared, control, limits, errors_ppm, sure }))
}

/// [`Tally::p99_ms`] of all hosts of a rollout that serve the new release, and of those that serve the old
/// one.
pub fn p99s_ms(rollout: &Rollout, tallies: &Tallies) -> (Option<u64>, Option<u64>) {
    let new: Vec<_> = tallies.of_all(&rollout.cohort, rollout.to.release).collect();
    (pool(&new).p99_ms(), pool(&tallies.control(rollout)).p99_ms())
}
