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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proto::id::{Digest, Name};
    use proto::report::RolloutPhase;
    use proto::statement::{CohortHost, Policy};

    use super::*;
    use crate::render::sample;

    /// Six hosts in the order of their names, two waves.
    fn planned() -> Planned {
        let facts =
            sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Complete);
        let candidates = &facts.hosts[..6];
        let names: BTreeMap<HostId, Name> = candidates
            .iter()
            .map(|candidate| (candidate.host.id.clone(), candidate.host.name.clone()))
            .collect();
        let (_, mut rollout) = facts.head.unwrap();
        let wave = |hosts, wait_s, budget| Wave {
            hosts,
            wait_s,
            failed_max: budget,
            unreachable_max: budget,
        };
        rollout.waves = vec![wave(1, 300, 0), wave(6, 0, 1)];
        rollout.cohort = candidates
            .iter()
            .map(|candidate| CohortHost {
                id: candidate.host.id.clone(),
                key: candidate.host.key,
                zone: candidate.host.zone(),
            })
            .collect();
        (rollout.max_unavailable, rollout.approvals) = (3, 1);
        Planned {
            rollout,
            artifact: sample::release("1.2.0").1.artifact,
            names,
            left_out: vec!["n7".parse().unwrap()],
            notes: vec!["stage 2 adds no host".to_owned()],
            policy: Policy { approvals_min: 1, stages_min: 2, bake_s_min: 60, ..Policy::default() },
            replaces: None,
        }
    }

    #[test]
    fn plan_of_a_small_fleet() {
        let expected = "\
web 1.1.0 -> 1.2.0 in production, epoch 4
  wave 1: 1 host (1 of 6), bakes 5 min, at most 0 failed and 0 unreachable so far
    n1
  wave 2: 5 hosts (6 of 6), no bake, at most 1 failed and 1 unreachable so far
    n2 n3 n4 n5 n6
  note: stage 2 adds no host
  not heard of, so left out: n7

  time      at least 5 min of bakes, and fetching and restarting
  transfer  4.0 MiB each, 24.0 MiB in all where nothing is there yet
  policy    approvals 1 (the environment's least: 1), stages at least 2, bakes at least 1 min
  budget    3 hosts of a zone may be down at a time
  failure   every host goes back to 1.1.0
  expires   1 d after it is signed
";
        assert_eq!(plan(&planned()), expected);
    }

    #[test]
    fn what_is_taken_over_and_taken_back_is_said() {
        let mut planned = planned();
        planned.replaces = Some(Digest::of(b"running"));
        planned.rollout.direction = Direction::Rollback;
        planned.rollout.on_failure = OnFailure::Pause;
        let text = plan(&planned);
        assert!(text.starts_with("web 1.1.0 -> 1.2.0 in production (rollback), epoch 4\n"));
        let running = Digest::of(b"running");
        let line = format!("  takes over from rollout {running}, which is still going on\n");
        assert!(text.contains(&line), "{text}");
        assert!(text.contains("no host starts anything more"), "{text}");
    }

    #[test]
    fn a_large_wave_names_some_and_counts_the_rest() {
        let names: Vec<_> = (0..100).map(|index| format!("n{index}")).collect();
        assert!(shortened(&names).ends_with("n23 and 76 more"));
        assert_eq!(shortened(&names[..2]), "n0 n1");
    }
}
