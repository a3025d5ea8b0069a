//! A plan as text: who goes when, for how long, how much, and under which policy.

use proto::id::HostId;
use proto::statement::{Direction, OnFailure, Rollout, Wave};

use super::change;
use crate::planning::{EXPIRES_S, Planned};
use crate::span;

/// Host names shown of one wave; of more, the rest is counted.
const NAMES_MAX: usize = 24;

/// `swell plan`.
pub(crate) fn plan(planned: &Planned) -> String {
    let rollout = &planned.rollout;
    let back = if rollout.direction == Direction::Rollback { " (rollback)" } else { "" };
    let mut text = format!(
        "{} {} in {}{back}, epoch {}\n",
        rollout.service,
        change(rollout.from.as_ref().map(|from| &from.version), &rollout.to.version),
        rollout.env,
        rollout.epoch
    );
    if let Some(replaced) = planned.replaces {
        text.push_str(&format!("  takes over from rollout {replaced}, which is still going on\n"));
    }
    for (index, wave) in rollout.waves.iter().enumerate() {
        text.push_str(&wave_text(planned, index, *wave));
    }
    for note in &planned.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    if !planned.left_out.is_empty() {
        let names: Vec<_> = planned.left_out.iter().map(ToString::to_string).collect();
        text.push_str(&format!("  not heard of, so left out: {}\n", shortened(&names)));
    }
    text.push('\n');
    text.push_str(&facts(planned));
    text
}

fn wave_text(planned: &Planned, index: usize, wave: Wave) -> String {
    let rollout = &planned.rollout;
    let own = &rollout.cohort[rollout.ranks_in(index)];
    let names: Vec<_> = own.iter().map(|host| name(planned, &host.id)).collect();
    let wait = match wave.wait_s {
        0 => "no bake".to_owned(),
        wait_s => format!("bakes {}", span::show(u64::from(wait_s))),
    };
    format!(
        "  wave {}: {} ({} of {}), {wait}, at most {} failed and {} unreachable so far\n    {}\n",
        index + 1,
        span::count(own.len(), "host"),
        wave.hosts,
        rollout.cohort.len(),
        wave.failed_max,
        wave.unreachable_max,
        shortened(&names)
    )
}

fn name(planned: &Planned, id: &HostId) -> String {
    planned.names.get(id).map_or_else(|| id.to_string(), ToString::to_string)
}

fn shortened(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMES_MAX)].join(" ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn facts(planned: &Planned) -> String {
    let Planned { rollout, artifact, policy, .. } = planned;
    let bakes_s: u64 = rollout.waves.iter().map(|wave| u64::from(wave.wait_s)).sum();
    let hosts = rollout.cohort.len() as u64;
    let down = match rollout.max_unavailable {
        1 => "1 host of a zone may be down at a time".to_owned(),
        hosts => format!("{hosts} hosts of a zone may be down at a time"),
    };
    format!(
        "  time      at least {} of bakes, and fetching and restarting\n\
         \x20 transfer  {} each, {} in all where nothing is there yet\n\
         \x20 policy    approvals {} (the environment's least: {}), stages at least {}, bakes at \
         least {}\n\
         \x20 budget    {down}\n\
         \x20 failure   {}\n\
         \x20 expires   {} after it is signed\n",
        span::show(bakes_s),
        span::bytes(artifact.bytes),
        span::bytes(artifact.bytes.saturating_mul(hosts)),
        rollout.approvals,
        policy.approvals_min,
        policy.stages_min,
        span::show(u64::from(policy.bake_s_min)),
        on_failure(rollout),
        span::show(EXPIRES_S),
    )
}

fn on_failure(rollout: &Rollout) -> String {
    match (rollout.on_failure, &rollout.from) {
        (OnFailure::Rollback, Some(from)) => format!("every host goes back to {}", from.version),
        (OnFailure::Rollback, None) => "it is stopped and removed everywhere".to_owned(),
        (OnFailure::Pause, _) => {
            "no host starts anything more; those that failed have gone back".to_owned()
        }
    }
}
