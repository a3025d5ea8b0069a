//! A plan as text: who goes when, for how long, how much, and under which policy.

use std::collections::BTreeMap;

use proto::id::{Name, Zone};
use proto::report::Fitness;
use proto::statement::{CohortHost, Direction, OnFailure, Rollout, Wave};

use super::{change, table};
use crate::planning::Planned;
use crate::planning::settings::Setting;
use crate::span;

/// Host names shown of one group of hosts; of more, the rest is counted.
const NAMES_MAX: usize = 24;
/// The same where a wave is told zone by zone.
const NAMES_IN_ZONE_MAX: usize = 8;
/// Zones shown of one wave.
const ZONES_MAX: usize = 6;

/// `swell plan`. However many hosts there are, it fits some screens: of many, names are counted.
pub(crate) fn plan(planned: &Planned) -> String {
    let rollout = &planned.rollout;
    let kind = match rollout.direction {
        Direction::Rollback => " (rollback)",
        Direction::Forward if rollout.adopt => " (adoption)",
        Direction::Forward => "",
    };
    let mut text = format!(
        "{} {} in {}{kind}, epoch {}\n",
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
    text.push_str(&left_out(planned));
    text.push('\n');
    text.push_str(&facts(planned));
    text.push('\n');
    text.push_str(&settings(planned));
    text
}

fn wave_text(planned: &Planned, index: usize, wave: Wave) -> String {
    let rollout = &planned.rollout;
    let own = &rollout.cohort[rollout.ranks_in(index)];
    // Where requests are counted it takes time to have some, however short the wait is.
    let wait = match rollout::gate::bake_s(rollout, index) {
        0 => "no bake".to_owned(),
        wait_s => format!("bakes {}", span::show(u64::from(wait_s))),
    };
    let batch = match rollout.in_flight_max {
        Some(batch) => format!(", {batch} at a time"),
        None => String::new(),
    };
    format!(
        "  wave {}: {} ({} of {}){batch}, {wait}, at most {} failed and {} unreachable so far\n{}",
        index + 1,
        span::count(own.len(), "host"),
        wave.hosts,
        rollout.cohort.len(),
        wave.failed_max,
        wave.unreachable_max,
        by_zone(planned, own)
    )
}

/// The hosts of a wave, a line for each zone; one line where the cohort is in one zone.
fn by_zone(planned: &Planned, hosts: &[CohortHost]) -> String {
    let mut zones: BTreeMap<&Zone, Vec<&CohortHost>> = BTreeMap::new();
    for host in hosts {
        zones.entry(&host.zone).or_default().push(host);
    }
    let cohort = &planned.rollout.cohort;
    if cohort.iter().all(|host| host.zone == cohort[0].zone) {
        return format!(
            "    {}\n",
            shortened(hosts.iter().map(|host| name(planned, host)), NAMES_MAX)
        );
    }
    let line = |(zone, hosts): (&&Zone, &Vec<&CohortHost>)| {
        let names = hosts.iter().map(|host| name(planned, host));
        let (count, names) =
            (span::count(hosts.len(), "host"), shortened(names, NAMES_IN_ZONE_MAX));
        format!("    zone {zone}: {count}: {names}\n")
    };
    let mut text: String = zones.iter().take(ZONES_MAX).map(line).collect();
    let rest = zones.values().skip(ZONES_MAX);
    let (more, hosts) = rest.fold((0, 0), |(zones, all), hosts| (zones + 1, all + hosts.len()));
    if more > 0 {
        let (more, hosts) = (span::count(more, "more zone"), span::count(hosts, "host"));
        text.push_str(&format!("    {more}: {hosts}\n"));
    }
    text
}

fn name(planned: &Planned, host: &CohortHost) -> String {
    planned.names.get(&host.id).map_or_else(|| host.id.to_string(), Name::to_string)
}

fn shortened(names: impl ExactSizeIterator<Item = String>, max: usize) -> String {
    let more = names.len().saturating_sub(max);
    let shown = names.take(max).collect::<Vec<_>>().join(" ");
    match more {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A line for each reason.
fn left_out(planned: &Planned) -> String {
    let mut reasons: BTreeMap<Fitness, Vec<&Name>> = BTreeMap::new();
    for missing in &planned.left_out {
        reasons.entry(missing.why).or_default().push(&missing.name);
    }
    let line = |(why, names): (&Fitness, &Vec<&Name>)| {
        let names = shortened(names.iter().map(ToString::to_string), NAMES_MAX);
        format!("  left out, {why}: {names}\n")
    };
    reasons.iter().map(line).collect()
}

fn facts(planned: &Planned) -> String {
    let Planned { rollout, transfer, times, .. } = planned;
    let expires_s = rollout.expires.0.saturating_sub(rollout.created.0);
    format!(
        "  time      at least {} to promote{}, if a restart takes {} and nothing is \
         waited for\n\
         \x20 transfer  {} each, {} in all where nothing is there yet\n\
         \x20 failure   {}\n\
         \x20 expires   {} after it is signed\n",
        span::show(times.promote_s),
        match rollout.direction {
            Direction::Forward => format!(", {} to roll back", span::show(times.roll_back_s)),
            Direction::Rollback => String::new(),
        },
        span::show(times.restart_s),
        span::bytes(transfer.host_bytes),
        span::bytes(transfer.fleet_bytes),
        on_failure(rollout),
        span::show(expires_s),
    )
}

fn on_failure(rollout: &Rollout) -> String {
    match (rollout.on_failure, &rollout.from) {
        (OnFailure::Rollback, Some(from)) => format!("every host goes back to {}", from.version),
        (OnFailure::Rollback, None) if rollout.adopt => {
            "every host is left as it was found; what runs runs on".to_owned()
        }
        (OnFailure::Rollback, None) => "it is stopped and removed everywhere".to_owned(),
        (OnFailure::Pause, _) => {
            "no host starts anything more; those that failed have gone back".to_owned()
        }
    }
}

fn settings(planned: &Planned) -> String {
    let row = |setting: &Setting| {
        let Setting { key, value, origin, policy_min } = setting;
        let least = policy_min.clone().unwrap_or_default();
        [format!("  {key}"), value.clone(), origin.to_string(), least]
    };
    let rows: Vec<_> = planned.settings.iter().map(row).collect();
    table(["  SETTING", "VALUE", "FROM", "POLICY'S LEAST"], &rows)
}

#[cfg(test)]
mod tests {
    use proto::id::Digest;
    use proto::report::RolloutPhase;
    use proto::statement::Policy;

    use super::*;
    use crate::planning::Missing;
    use crate::render::sample;

    /// Six hosts in the order of their names, two waves.
    fn planned() -> Planned {
        let facts =
            sample::facts(Some("1.1.0"), "1.2.0", Direction::Forward, RolloutPhase::Complete);
        let candidates = &facts.hosts[..6];
        let names = candidates
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
        let policy =
            Policy { approvals_min: 1, stages_min: 2, bake_s_min: 60, ..Policy::default() };
        let missing = |index: usize, why| Missing {
            host: sample::host_id(index),
            name: format!("n{}", index + 1).parse().unwrap(),
            why,
        };
        Planned {
            left_out: vec![
                missing(6, Fitness::RevertFailed),
                missing(7, Fitness::Silent),
                missing(8, Fitness::Silent),
            ],
            notes: vec!["stage 2 adds no host".to_owned()],
            ..Planned::of(rollout, sample::release("1.2.0").1.artifact, names, policy)
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
  left out, not heard of: n8 n9
  left out, could not go back: a person is needed: n7

  time      at least 5 min 30 s to promote, 20 s to roll back, if a restart takes 10 s and nothing is waited for
  transfer  4.0 MiB each, 24.0 MiB in all where nothing is there yet
  failure   every host goes back to 1.1.0
  expires   1 d after it is signed

  SETTING          VALUE     FROM       POLICY'S LEAST
  waves            2         as signed  2
  bakes            5 min     as signed  1 min
  approvals        1         as signed  1
  failed_max       0 1       as signed
  unreachable_max  0 1       as signed
  max_unavailable  3 hosts   as signed
  on_failure       rollback  as signed
";
        assert_eq!(plan(&planned()), expected);
    }

    #[test]
    fn zones_are_told_apart() {
        let mut planned = planned();
        for (number, host) in planned.rollout.cohort.iter_mut().enumerate() {
            host.zone = if number % 2 == 0 { "a" } else { "b" }.parse().unwrap();
        }
        let text = plan(&planned);
        let expected = "    zone a: 2 hosts: n3 n5\n    zone b: 3 hosts: n2 n4 n6\n";
        assert!(text.contains(expected), "{text}");
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
    fn batches_are_said() {
        let mut planned = planned();
        planned.rollout.waves.remove(0);
        planned.rollout.in_flight_max = Some(2);
        let text = plan(&planned);
        assert!(text.contains("  wave 1: 6 hosts (6 of 6), 2 at a time, no bake"), "{text}");
    }

    #[test]
    fn a_large_wave_names_some_and_counts_the_rest() {
        let names = |count| (0..count).map(|index| format!("n{index}"));
        assert!(shortened(names(100), NAMES_MAX).ends_with("n23 and 76 more"));
        assert_eq!(shortened(names(2), NAMES_MAX), "n0 n1");
    }
}
