//! Which hosts an open rollout waits for in vain, by name, and what a person can do about each.

use std::ops::Range;

use proto::report::StandingReport;
use proto::{certificate, listed};

use crate::gate::{Facts, Gate, Heard, Hold, Sight};

/// Hosts that are named; of more, the rest is counted.
const NAMED_MAX: usize = 3;

/// Those that are not heard, and those that will not begin, of the hosts that this gate, the first that
/// is not open, waits for. None: there are none, or it is something else that holds.
pub(super) fn in_vain(
    facts: &Facts<'_>,
    gate: Option<&Gate>,
    hosts: &[StandingReport],
) -> Option<String> {
    let awaited = |rank: &usize| {
        let standing = (facts.seen)(*rank).standing;
        !standing.is_some_and(certificate::has_ended) && !(facts.excused)(*rank)
    };
    let awaited: Vec<_> = ranks(facts, gate)?.filter(awaited).collect();
    let named = |fits: &dyn Fn(usize) -> bool| {
        let fitting: Vec<_> = awaited.iter().filter(|rank| fits(**rank)).collect();
        fitting.iter().map(|rank| hosts[**rank].name.as_str()).collect::<Vec<_>>()
    };
    let is_silent = |rank: usize| {
        let Sight { heard, .. } = (facts.seen)(rank);
        heard == Heard::Silent && !hosts[rank].is_barred()
    };
    let silent = some(&named(&is_silent)).map(|(names, first)| {
        format!("not heard: {names}; of one that is gone: swell skip {first}")
    });
    let barred = some(&named(&|rank| hosts[rank].is_barred())).map(|(names, first)| {
        let service = &facts.rollout.service;
        format!("agent.toml does not allow {service}: {names}; swell skip {first}")
    });
    let told: Vec<_> = silent.into_iter().chain(barred).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// The ranks that a gate waits for; none: it does not wait for hosts.
fn ranks(facts: &Facts<'_>, gate: Option<&Gate>) -> Option<Range<usize>> {
    match gate {
        // All are open.
        None => Some(0..facts.rollout.cohort.len()),
        Some(Gate::Hold(
            Hold::Unheard { wave, .. } | Hold::Undone { wave, .. } | Hold::Unproven { wave, .. },
        )) => Some(0..facts.rollout.ranks_in(*wave).end),
        Some(_) => None,
    }
}

/// The first few names and how many there are beside, and the first one; none: there are none.
fn some<'a>(names: &[&'a str]) -> Option<(String, &'a str)> {
    Some((listed(names, NAMED_MAX), names.first()?))
}
