//! `status`, `hosts`, `history` and the tokens, as text.

use proto::id::{Digest, Env, Name, Service, Version};
use proto::receipt::State;
use proto::report::{
    BackState, FleetReport, HostReport, RolloutPhase, RolloutReport, ServiceReport, StandingReport,
};
use proto::statement::{Direction, UnixTime};
use proto::wire::TokenReport;
use rollout::host::NEVER_STARTED;
use serde::Serialize;

use super::rollout::kind;
use super::{audit, change, drift, fetching, freeze, plain, table, yes};
use crate::span;

/// Hosts of a rollout of which it is told how they fetch; the sum counts all.
const FETCHES_MAX: usize = 5;

/// The phase as a word.
pub(crate) const fn phase(phase: RolloutPhase) -> &'static str {
    match phase {
        RolloutPhase::Pending => "pending",
        RolloutPhase::Running => "running",
        RolloutPhase::Paused => "paused",
        RolloutPhase::Halted => "halted",
        RolloutPhase::Aborted => "aborted",
        RolloutPhase::Complete => "complete",
        RolloutPhase::Superseded => "superseded",
        RolloutPhase::Expired => "expired",
    }
}

/// Where a rollout stands, as a word; of one that was stopped, also what has become of that.
pub(crate) fn stance(report: &RolloutReport) -> String {
    let phase = phase(report.phase);
    match report.back.as_ref().map(|back| back.state) {
        Some(BackState::RolledBack) => "rolled back".to_owned(),
        Some(BackState::GoingBack) => format!("{phase}, going back"),
        Some(BackState::Stuck | BackState::Stays) | None => phase.to_owned(),
    }
}

/// `wave 2 bakes 3 min 12 s more, until 14:05:10 UTC`; none: nothing bakes, or nobody saw it begin.
pub(super) fn bakes(report: &RolloutReport) -> Option<String> {
    let waves = report.waves.iter().enumerate();
    let (index, bake) = waves.filter_map(|(index, wave)| Some((index, wave.bake?))).next_back()?;
    let left = span::show(bake.left_s.into());
    Some(match bake.until {
        Some(until) => format!("wave {} bakes {left} more, until {} UTC", index + 1, clock(until)),
        None => format!("wave {} bakes {left} more once it is resumed", index + 1),
    })
}

/// The time of the day.
fn clock(at: UnixTime) -> String {
    let text = at.to_string();
    text.split_once(' ').map_or(text.clone(), |(_, clock)| clock.to_owned())
}

/// `swell status`.
pub(crate) fn status(report: &FleetReport) -> String {
    let hosts: Vec<_> = report.hosts.iter().filter(|host| host.removed.is_none()).collect();
    let alive = hosts.iter().filter(|host| host.alive).count();
    let mut text = format!(
        "fleet {}, seen by {}, root version {}\ncoordinator {}; {alive} of {} alive\n",
        report.fleet,
        report.seen_by,
        report.root_version,
        if report.coordinator_alive { "alive" } else { "NOT HEARD" },
        span::count(hosts.len(), "host"),
    );
    text.push_str(&audit::status(&report.audit));
    text.push_str(&kept_back(report));
    if report.rollouts.is_empty() {
        text.push_str("\nnothing was rolled out yet\n");
        return text;
    }
    let row = |rollout: &RolloutReport| {
        let open = rollout.waves.iter().filter(|wave| wave.open).count();
        let committed: u32 = rollout.waves.iter().map(|wave| wave.committed).sum();
        [
            format!("{}/{}", rollout.service, rollout.env),
            change(rollout.from.as_ref(), &rollout.to),
            rollout.id.to_string(),
            end(rollout),
            format!("{open}/{}", rollout.waves.len()),
            format!("{committed}/{}", rollout.hosts.len()),
            [Some(plain(&rollout.why)), bakes(rollout)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("; "),
        ]
    };
    let rows: Vec<_> = report.rollouts.iter().map(row).collect();
    let header = ["SCOPE", "VERSION", "ROLLOUT", "PHASE", "WAVES", "COMMITTED", "WHY"];
    text.push('\n');
    text.push_str(&table(header, &rows));
    text.extend(report.rollouts.iter().filter_map(fetches));
    text
}

/// How the artifact of a rollout comes to the hosts, where it still does.
fn fetches(rollout: &RolloutReport) -> Option<String> {
    let sum = fetching::sum(rollout)?;
    let mut text = format!("\n{}/{} {sum}\n", rollout.service, rollout.env);
    for line in fetching::lines(rollout, FETCHES_MAX).into_iter().chain(fetching::dropped(rollout))
    {
        text.push_str(&format!("  {line}\n"));
    }
    Some(text)
}

/// `swell hosts`.
pub(crate) fn hosts(report: &FleetReport) -> String {
    let row = |host: &HostReport| {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let services = host.services.iter().map(|service| {
            // Between two releases nobody knows; else nothing that is known of.
            let nothing = match service.state {
                State::Activating | State::RevertFailed => "?",
                _ => "-",
            };
            let version = service.version.as_ref().map_or(nothing, Version::as_str);
            if !service.allowed {
                return format!("{} {version} (not allowed by agent.toml)", service.service);
            }
            format!("{} {version} ({})", service.service, stands(service))
        });
        [
            host.id.to_string(),
            host.name.to_string(),
            or_dash(host.env.as_ref().map(ToString::to_string)),
            host.zone.to_string(),
            alive(host).to_owned(),
            or_dash(host.address.as_deref().map(plain)),
            or_dash(host.agent_version.as_ref().map(ToString::to_string)),
            services.collect::<Vec<_>>().join(", "),
        ]
    };
    let rows: Vec<_> = report.hosts.iter().map(row).collect();
    let header = ["HOST", "NAME", "ENV", "ZONE", "ALIVE", "ADDRESS", "AGENT", "SERVICES"];
    let mut text = table(header, &rows);
    let kept = kept_back(report);
    if !kept.is_empty() {
        text.push_str(&format!("\n{kept}"));
    }
    text
}

/// Where a host stands with a service: in what brought the version that it serves, or in the rollout of
/// another one, which is named.
fn stands(service: &ServiceReport) -> String {
    let other = service.to.as_ref().filter(|to| service.version.as_ref() != Some(to));
    let to = other.map(|to| format!("{to} ")).unwrap_or_default();
    let (state, note) = (service.state, service.note.as_str());
    // What keeps a host from following; of one outside the cohort nothing else shows it.
    let kept = matches!(state, State::Pending | State::Fetching | State::Staged);
    match note {
        "" => format!("{to}{}", state.name()),
        NEVER_STARTED if state == State::Reverted => format!("{to}{NEVER_STARTED}"),
        _ if kept => format!("{to}{}: {}", state.name(), plain(note)),
        _ => format!("{to}{}", state.name()),
    }
}

/// What keeps hosts from starting anything new, a line each: freezes, holds, two machines with one key.
/// And what is not as it was released.
fn kept_back(report: &FleetReport) -> String {
    let twins = report.hosts.iter().filter_map(|host| {
        let (one, other) = (plain(host.address.as_deref()?), plain(host.twin.as_deref()?));
        let name = &host.name;
        Some(format!("held: the key of {name} is in use at {one} and {other}: let one join anew\n"))
    });
    let drifts = report.hosts.iter().flat_map(|host| {
        let drifted = |service: &ServiceReport| {
            let found = service.drift.as_ref()?;
            Some(drift(&service.service, &host.name, found))
        };
        host.services.iter().filter_map(drifted)
    });
    let freezes = freeze::lines(report);
    [freezes].into_iter().chain(twins).chain(drifts).collect()
}

/// Whether it is heard; of one that was removed, that.
const fn alive(host: &HostReport) -> &'static str {
    match host.removed {
        Some(_) => "removed",
        None => yes(host.alive),
    }
}

/// One rollout of a service's history: an entry of `swell history --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Past {
    pub(crate) env: Env,
    pub(crate) rollout: Digest,
    pub(crate) version: Version,
    /// None: the member that answered does not have it any more.
    pub(crate) report: Option<RolloutReport>,
}

/// `swell history`.
pub(crate) fn history(service: &Service, past: &[Past]) -> String {
    if past.is_empty() {
        return format!("nothing was rolled out of {service} yet\n");
    }
    let row = |past: &Past| {
        let (env, rollout) = (past.env.to_string(), past.rollout.to_string());
        let dash = || "-".to_owned();
        let Some(report) = &past.report else {
            let version = format!("? -> {}", past.version);
            return [env, dash(), rollout, version, dash(), dash(), dash(), dash(), String::new()];
        };
        let change = change(report.from.as_ref(), &report.to);
        [
            env,
            report.epoch.to_string(),
            rollout,
            format!("{change}{}", kind(report)),
            report.author.to_string(),
            report.created.to_string(),
            took(report).unwrap_or_else(dash),
            end(report),
            reasons(report),
        ]
    };
    let rows: Vec<_> = past.iter().map(row).collect();
    let header =
        ["ENV", "EPOCH", "ROLLOUT", "VERSION", "BY", "SIGNED (UTC)", "TOOK", "PHASE", "WHY"];
    table(header, &rows)
}

/// How it ended, or how it stands: a rollout that is complete within its budget, or a rollback, may have
/// left hosts behind.
fn end(report: &RolloutReport) -> String {
    let count = |fits: &dyn Fn(&StandingReport) -> bool| {
        report.hosts.iter().filter(|host| fits(host)).count()
    };
    let failed = |host: &StandingReport| host.state.is_some_and(State::is_failed);
    let back = report.direction == Direction::Rollback;
    let stuck = |host: &StandingReport| match back {
        true => failed(host),
        false => host.state == Some(State::RevertFailed),
    };
    let (stuck, failed) = (count(&stuck), count(&failed));
    let phase = stance(report);
    match report.phase {
        _ if stuck > 0 => format!("{phase}, {} could not go back", span::count(stuck, "host")),
        RolloutPhase::Complete if failed > 0 => {
            format!("{phase}, {} failed", span::count(failed, "host"))
        }
        _ => phase,
    }
}

/// From its signature to its end.
fn took(report: &RolloutReport) -> Option<String> {
    let took_s = report.ended?.0.checked_sub(report.created.0)?;
    Some(span::show(took_s))
}

/// Why it was signed, and, where it did not end well, why.
fn reasons(report: &RolloutReport) -> String {
    let end = match report.phase {
        RolloutPhase::Complete => String::new(),
        _ => plain(&report.why),
    };
    let reasons = [plain(&report.reason), end];
    reasons.into_iter().filter(|why| !why.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A version that was published: an entry of `swell releases --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Published {
    pub(crate) version: Version,
    pub(crate) release: Digest,
}

/// `swell releases`.
pub(crate) fn releases(service: &Service, releases: &[Published]) -> String {
    if releases.is_empty() {
        return format!("no release of {service} is known here\n");
    }
    let row = |one: &Published| [one.version.to_string(), one.release.to_string()];
    table(["VERSION", "RELEASE"], &releases.iter().map(row).collect::<Vec<_>>())
}

/// `swell token list`.
pub(crate) fn tokens(tokens: &[TokenReport], now: UnixTime) -> String {
    if tokens.is_empty() {
        return "there is no token; make one: swell token create --label env=ENV\n".to_owned();
    }
    let row = |token: &TokenReport| {
        let label = |(key, value): &(Name, Name)| format!("{key}={value}");
        let state = match token.expires.0.checked_sub(now.0) {
            _ if token.revoked => "revoked".to_owned(),
            None | Some(0) => "expired".to_owned(),
            Some(_) if token.uses_left == 0 => "used up".to_owned(),
            Some(left) => format!("good for {}", span::show(left)),
        };
        [
            plain(&token.token),
            token.uses_left.to_string(),
            state,
            token.labels.iter().map(label).collect::<Vec<_>>().join(" "),
            token.created_by.to_string(),
        ]
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    table(["TOKEN", "USES LEFT", "STATE", "LABELS", "MADE BY"], &rows)
}

#[cfg(test)]
mod tests {
    use proto::report::{DriftReport, FreezeReport, RemovalReport};

    use super::*;
    use crate::render::sample;

    fn sample() -> FleetReport {
        let hosts = vec![
            sample::standing(0, 0, Some(State::Committed)),
            sample::standing(1, 1, Some(State::Staged)),
        ];
        sample::fleet(sample::rollout(RolloutPhase::Running, hosts))
    }

    #[test]
    fn status_in_a_screen() {
        let expected = "\
fleet shop-00000000, seen by coordinator, root version 1
coordinator alive; 1 of 2 hosts alive

SCOPE           VERSION         ROLLOUT       PHASE    WAVES  COMMITTED  WHY
web/production  1.2.0 -> 1.3.0  2fbdbdf3b2bc  running  1/2    1/2        wave 2 holds: 1 of 1 bake
";
        let id = sample().rollouts[0].id.to_string();
        assert_eq!(status(&sample()), expected.replace("2fbdbdf3b2bc", &id));
    }

    #[test]
    fn status_tells_who_fetches_and_how_fast_all_do_together() {
        let mut report = sample();
        let before = status(&report);
        report.rollouts[0].hosts[1].fetch = Some(sample::fetch());
        report.rollouts[0].fetches = proto::report::FetchesReport {
            whole: 1,
            running: 1,
            stalled: 0,
            bytes: 41 << 20,
            of_bytes: 64 << 20,
            bytes_per_s: 11 << 20,
        };
        let expected = "
web/production fetching: 1 host, 41.0 MiB of 64.0 MiB, 11.0 MiB/s in all; 1 of 2 hosts have all of it
  n2: fetching 41.0 MiB of 64.0 MiB at 11.0 MiB/s from 5 members (peers 38.0 MiB, origin 3.0 MiB)
";
        assert_eq!(status(&report), format!("{before}{expected}"));
    }

    #[test]
    fn status_of_a_fleet_that_has_nothing_yet() {
        let mut report = sample();
        (report.rollouts, report.coordinator_alive) = (Vec::new(), false);
        let text = status(&report);
        assert!(text.ends_with("NOT HEARD; 1 of 2 hosts alive\n\nnothing was rolled out yet\n"));
    }

    #[test]
    fn hosts_in_a_table() {
        let expected = "\
HOST          NAME  ENV         ZONE     ALIVE  ADDRESS          AGENT  SERVICES
aaaaaaaaaaaa  n1    production  default  yes    192.0.2.11:7070  0.1.0  web 1.2.0 (committed)
bbbbbbbbbbbb  n2    production  default  no     -                0.1.0  web 1.2.0 (committed)
";
        assert_eq!(hosts(&sample()), expected);
    }

    #[test]
    fn a_host_that_runs_nothing_or_is_kept_says_so() {
        let mut report = sample();
        let service = &mut report.hosts[0].services[0];
        (service.version, service.state) = (None, State::Fetching);
        service.note = "no space left on device".to_owned();
        report.hosts[1].services[0].version = None;
        report.hosts[1].services[0].state = State::Activating;
        let text = hosts(&report);
        assert!(text.contains("web - (1.2.0 fetching: no space left on device)\n"), "{text}");
        assert!(text.contains("web ? (1.2.0 activating)\n"), "{text}");
    }

    /// A state in the rollout of another version says nothing of the one that serves.
    #[test]
    fn a_host_stands_where_it_stands_in_the_rollout_that_is_named() {
        let report = sample();
        let told = |state: State, note: &str, to: Option<&str>| {
            let service = report.hosts[0].services[0].clone();
            stands(&ServiceReport {
                state,
                note: note.to_owned(),
                to: to.map(sample::version),
                ..service
            })
        };
        assert_eq!(told(State::Committed, "", Some("1.2.0")), "committed");
        assert_eq!(told(State::Staged, "", Some("1.3.0")), "1.3.0 staged");
        assert_eq!(told(State::Reverted, "failed", Some("1.3.0")), "1.3.0 reverted");
        assert_eq!(told(State::Reverted, NEVER_STARTED, Some("1.3.0")), "1.3.0 never started");
        assert_eq!(told(State::Reverted, "failed", None), "reverted", "an older member");
    }

    #[test]
    fn r23_a_service_that_a_host_does_not_allow_is_told_as_such_instead_of_its_last_word() {
        let mut report = sample();
        for host in &mut report.hosts {
            host.services[0].allowed = false;
        }
        report.hosts[1].services[0].version = None;
        let text = hosts(&report);
        assert!(text.contains("  web 1.2.0 (not allowed by agent.toml)\n"), "{text}");
        assert!(text.contains("  web - (not allowed by agent.toml)\n"), "{text}");
    }

    #[test]
    fn what_is_frozen_held_or_removed_is_told_by_status_and_hosts() {
        let mut report = sample();
        let held = sample::freeze(Some(sample::host_id(0)));
        let over = FreezeReport { in_force: false, ..sample::freeze(None) };
        report.freezes = vec![sample::freeze(None), held, over];
        let by = "ada".parse().unwrap();
        let removal = RemovalReport {
            statement: None,
            by,
            created: sample::CREATED,
            reason: "sold".to_owned(),
        };
        report.hosts[1].removed = Some(removal);
        let kept = "\
frozen: production until 2027-01-15 10:00:00 UTC (by ada: audit)
held: n1 in production until 2027-01-15 10:00:00 UTC (by ada: audit)
";
        let expected = format!("coordinator alive; 1 of 1 host alive\n{kept}\nSCOPE ");
        assert!(status(&report).contains(&expected), "{}", status(&report));
        let told = hosts(&report);
        assert!(told.contains("bbbbbbbbbbbb  n2    production  default  removed  -"), "{told}");
        assert!(told.ends_with(&format!("\n\n{kept}")), "{told}");
    }

    #[test]
    fn r9_two_machines_with_one_key_are_both_named_by_status_and_hosts() {
        let mut report = sample();
        report.hosts[0].twin = Some("192.0.2.99:7070".to_owned());
        let line = "held: the key of n1 is in use at 192.0.2.11:7070 and 192.0.2.99:7070: let one \
                    join anew\n";
        for told in [status(&report), hosts(&report)] {
            assert!(told.contains(line), "{told}");
        }
    }

    #[test]
    fn r25_what_is_not_as_it_was_released_is_told_by_status_and_hosts() {
        let mut report = sample();
        let found = DriftReport {
            release: Digest::of(b"release"),
            found: 3,
            first: "'bin/web' was edited".to_owned(),
        };
        report.hosts[0].services[0].drift = Some(found.clone());
        let line = "drift: web on n1: 'bin/web' was edited, first of 3\n";
        for told in [status(&report), hosts(&report)] {
            assert!(told.contains(line), "{told}");
        }
        report.rollouts[0].hosts[0].drift = Some(found);
        let told = crate::render::rollout::explain(&report.rollouts[0]);
        assert!(told.contains(line), "{told}");
    }

    #[test]
    fn history_says_who_when_from_where_to_where_how_it_ended_how_long_and_why() {
        let mut good = sample().rollouts.remove(0);
        (good.phase, good.ended) = (RolloutPhase::Complete, Some(good.created.plus_s(750)));
        let mut bad = good.clone();
        (bad.epoch, bad.phase, bad.direction) = (5, RolloutPhase::Halted, Direction::Rollback);
        (bad.ended, bad.why) = (None, "halted: 1 failed".to_owned());
        let past = |report: Option<&RolloutReport>, version: &str| Past {
            env: good.env.clone(),
            rollout: good.id,
            version: sample::version(version),
            report: report.cloned(),
        };
        let taken_in = RolloutReport { epoch: 1, from: None, adopt: true, ..good.clone() };
        let past = [
            past(Some(&bad), "1.3.0"),
            past(Some(&good), "1.3.0"),
            past(None, "1.2.0"),
            past(Some(&taken_in), "1.3.0"),
        ];
        let expected = "\
ENV         EPOCH  ROLLOUT       VERSION                     BY   SIGNED (UTC)         TOOK         PHASE     WHY
production  5      ID  1.2.0 -> 1.3.0 (rollback)   ada  2027-01-15 08:00:00  -            halted    weekly; halted: 1 failed
production  4      ID  1.2.0 -> 1.3.0              ada  2027-01-15 08:00:00  12 min 30 s  complete  weekly
production  -      ID  ? -> 1.2.0                  -    -                    -            -
production  1      ID  (none) -> 1.3.0 (adoption)  ada  2027-01-15 08:00:00  12 min 30 s  complete  weekly
";
        let expected = expected.replace("ID", &good.id.to_string());
        let text = history(&good.service, &past);
        assert_eq!(text, expected);
        assert_eq!(history(&good.service, &[]), "nothing was rolled out of web yet\n");
    }

    #[test]
    fn an_end_that_left_hosts_behind_is_not_a_plain_one() {
        use {Direction as D, RolloutPhase as P};
        let end_of = |direction, phase, state| {
            let hosts = vec![sample::standing(0, 0, Some(state))];
            end(&RolloutReport { direction, ..sample::rollout(phase, hosts) })
        };
        let cases = [
            (D::Forward, P::Running, State::Baking, "running"),
            (D::Forward, P::Complete, State::Committed, "complete"),
            (D::Forward, P::Complete, State::Reverted, "complete, 1 host failed"),
            (D::Forward, P::Halted, State::Reverted, "halted"),
            (D::Forward, P::Halted, State::RevertFailed, "halted, 1 host could not go back"),
            (D::Rollback, P::Complete, State::Committed, "complete"),
            (D::Rollback, P::Complete, State::Reverted, "complete, 1 host could not go back"),
            (D::Rollback, P::Complete, State::RevertFailed, "complete, 1 host could not go back"),
        ];
        for (direction, phase, state, expected) in cases {
            assert_eq!(end_of(direction, phase, state), expected, "{direction:?} {phase:?}");
        }
    }

    #[test]
    fn releases_in_a_table() {
        let release = Digest::of(b"release");
        let web = sample().rollouts[0].service.clone();
        let known = [Published { version: sample::version("1.3.0"), release }];
        assert_eq!(releases(&web, &known), format!("VERSION  RELEASE\n1.3.0    {release}\n"));
        assert_eq!(releases(&web, &[]), "no release of web is known here\n");
    }

    #[test]
    fn tokens_say_what_they_are_still_good_for() {
        let now = sample::CREATED;
        let token = |uses_left, expires, revoked| TokenReport {
            token: "t".to_owned(),
            uses_left,
            expires,
            revoked,
            labels: Vec::new(),
            created_by: "ada".parse().unwrap(),
        };
        let cases = [
            (token(1, now.plus_s(3_600), false), "good for 1 h"),
            (token(0, now.plus_s(3_600), false), "used up"),
            (token(1, now, false), "expired"),
            (token(1, UnixTime(0), true), "revoked"),
        ];
        for (token, state) in cases {
            let text = tokens(&[token], now);
            assert!(text.lines().nth(1).unwrap().contains(state), "{state}: {text}");
        }
    }
}
