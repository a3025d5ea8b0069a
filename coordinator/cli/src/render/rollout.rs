//! A rollout as text: all of it (`explain`), and what has changed (`watch` where nobody can redraw).

use std::collections::BTreeMap;

use proto::receipt::{Cause, State};
use proto::report::{
    CountedReport, Finding, Fitness, LatencyReport, RolloutPhase, RolloutReport, StandingReport,
    WaveReport,
};
use proto::statement::Direction;

use super::fleet::{bakes, stance};
use super::{change, direction, drift, fetching, plain, table, yes};
use crate::span;

/// Hosts of which it is told how they fetch; the sum counts all.
const FETCHES_MAX: usize = 20;

/// `web 1.2.0 -> 1.3.0 in production`.
pub(crate) fn title(report: &RolloutReport) -> String {
    let change = change(report.from.as_ref(), &report.to);
    format!("{} {change} in {}{}", report.service, report.env, kind(report))
}

/// What it is besides a deployment.
pub(super) const fn kind(report: &RolloutReport) -> &'static str {
    match report.direction {
        Direction::Rollback => " (rollback)",
        Direction::Forward if report.adopt => " (adoption)",
        Direction::Forward => "",
    }
}

/// `halted: ` and why; a reason that starts with the very word is not told twice.
fn stands(report: &RolloutReport) -> String {
    let (phase, why) = (stance(report), plain(&report.why));
    match why.starts_with(&phase) {
        true => why,
        false => format!("{phase}: {why}"),
    }
}

/// `swell explain`: the reason with its numbers, the waves, each host.
pub(crate) fn explain(report: &RolloutReport) -> String {
    let mut text = format!(
        "{}\n\
         rollout {:#}\n\
         epoch {}, {}, signed {} UTC by {}, expires {} UTC\n",
        title(report),
        report.id,
        report.epoch,
        direction(report.direction),
        report.created,
        report.author,
        report.expires,
    );
    if !report.reason.is_empty() {
        text.push_str(&format!("reason: {}\n", plain(&report.reason)));
    }
    text.push_str(&format!("{}\n", stands(report)));
    // Of one that waits for a person, or is over, it says nothing.
    if report.phase == RolloutPhase::Running {
        let alone = yes(report.self_supporting);
        text.push_str(&format!("would end without the coordinator: {alone}\n"));
    }
    text.extend(bakes(report).map(|bakes| format!("{bakes}\n")));
    text.push('\n');
    let waves: Vec<_> = report.waves.iter().enumerate().map(wave_row).collect();
    let header = [
        "WAVE",
        "HOSTS",
        "OPEN",
        "WAITING",
        "ACTIVATING",
        "BAKING",
        "COMMITTED",
        "FAILED",
        "RETURNED",
        "UNREACHABLE",
        "BAKE",
    ];
    text.push_str(&table(header, &waves));
    text.push_str(&verdicts(report));
    let hosts: Vec<_> = report.hosts.iter().map(|host| host_row(report, host)).collect();
    let header = ["HOST", "NAME", "WAVE", "STATE", "CAUSE", "PIECES", "ALIVE", "NOTE"];
    text.push('\n');
    text.push_str(&table(header, &hosts));
    let drifted = |host: &StandingReport| {
        host.drift.as_ref().map(|found| drift(&report.service, &host.name, found))
    };
    text.extend(report.hosts.iter().filter_map(drifted));
    text.push_str(&fetches(report));
    if let Some(doubt) = doubt(report) {
        text.push_str(&format!("\n{doubt}\n"));
    }
    text
}

/// How the artifact comes, or came, to the hosts.
fn fetches(report: &RolloutReport) -> String {
    let mut lines: Vec<_> = fetching::sum(report).into_iter().collect();
    lines.extend(fetching::lines(report, FETCHES_MAX));
    let left = FETCHES_MAX.saturating_sub(lines.len());
    lines.extend(fetching::ended(report, left));
    lines.extend(fetching::dropped(report));
    match lines.is_empty() {
        true => String::new(),
        false => format!("\n{}\n", lines.join("\n")),
    }
}

/// What requests say, where they are counted: of the waves before each gate, and what each host counts.
fn verdicts(report: &RolloutReport) -> String {
    let mut text = String::new();
    let pooled = report.waves.iter().enumerate();
    for (index, verdict) in pooled.filter_map(|(index, wave)| Some((index, wave.pooled.as_ref()?)))
    {
        let line = format!("requests up to wave {}: {}", index + 1, plain(&verdict.text));
        text.push_str(&format!("\n{line}\n"));
    }
    if let Some(LatencyReport { new_p99_ms, control_p99_ms }) = report.latency {
        let within =
            |p99_ms: Option<u64>| p99_ms.map_or("not told".to_owned(), |ms| format!("{ms} ms"));
        let (new, old) = (within(new_p99_ms), within(control_p99_ms));
        text.push_str(&format!(
            "\n99 of 100 answers take at most: new release {new}, old release {old}\n"
        ));
    }
    let row = |host: &StandingReport| {
        let CountedReport { bad, requests } = host.counted?;
        let percent = format!("{:.2} %", 100.0 * bad as f64 / requests.max(1) as f64);
        Some([host.name.to_string(), requests.to_string(), bad.to_string(), percent])
    };
    let rows: Vec<_> = report.hosts.iter().filter_map(row).collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&table(["COUNTED ON", "REQUESTS", "ERRORS", "SHARE"], &rows));
    }
    text
}

fn wave_row((index, wave): (usize, &WaveReport)) -> [String; 11] {
    [
        (index + 1).to_string(),
        wave.hosts.to_string(),
        yes(wave.open).to_owned(),
        wave.waiting.to_string(),
        wave.activating.to_string(),
        wave.baking.to_string(),
        wave.committed.to_string(),
        format!("{} (max {})", wave.failed, wave.failed_max),
        wave.returned.to_string(),
        format!("{} (max {})", wave.unreachable, wave.unreachable_max),
        span::show(u64::from(wave.wait_s)),
    ]
}

fn host_row(report: &RolloutReport, host: &StandingReport) -> [String; 8] {
    [
        host.host.to_string(),
        host.name.to_string(),
        (host.wave + 1).to_string(),
        match host.skipped {
            true => format!("{} (skipped)", state(host.state)),
            false => state(host.state).to_owned(),
        },
        host.cause.map_or("-", cause).to_owned(),
        format!("{}/{}", host.pieces, host.of),
        yes(host.alive).to_owned(),
        note(report, host),
    ]
}

const fn state(state: Option<State>) -> &'static str {
    match state {
        Some(state) => state.name(),
        None => "no word",
    }
}

const fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Release => "release",
        Cause::Host => "host",
        Cause::Fleet => "fleet",
        Cause::Late => "late",
    }
}

// --- watch ---

/// Whether the release failed on it.
pub(super) fn is_bad(host: &StandingReport) -> bool {
    host.state.is_some_and(State::is_failed) && host.cause != Some(Cause::Fleet)
}

/// Whether it is waited for in vain, since it will not begin; or has its turn and says what keeps it from
/// taking it: a full disk, for instance.
pub(super) fn is_kept(report: &RolloutReport, host: &StandingReport) -> bool {
    if host.is_barred() {
        return is_awaited(report, host);
    }
    let open = report.waves.get(host.wave as usize).is_some_and(|wave| wave.open);
    let waits = matches!(host.state, Some(State::Pending | State::Fetching | State::Staged));
    open && waits && !host.note.is_empty()
}

/// Whether the rollout goes on and somebody waits for the host in it.
const fn is_awaited(report: &RolloutReport, host: &StandingReport) -> bool {
    matches!(report.phase, RolloutPhase::Running | RolloutPhase::Paused) && !host.skipped
}

/// Whether it has baked and says why it commits nothing yet: its requests leave a doubt.
pub(super) fn is_in_doubt(host: &StandingReport) -> bool {
    host.state == Some(State::Baking) && !host.note.is_empty()
}

/// How long hosts in doubt wait, if there are any, and who may pass over it: whoever promotes the wave
/// after theirs.
pub(super) fn doubt(report: &RolloutReport) -> Option<String> {
    let open = matches!(report.phase, RolloutPhase::Running | RolloutPhase::Paused);
    let first = report.hosts.iter().find(|host| open && is_in_doubt(host))?;
    let most_min = rollout::verdict::DOUBT_MS_MAX / 60_000;
    let mut text =
        format!("a host that has baked and is in doubt waits for {most_min} min at most");
    if (first.wave as usize) + 1 < report.waves.len() {
        text.push_str(&format!("; swell promote {} passes over it", report.id));
    }
    Some(text)
}

/// The hosts that are kept back, each with what keeps it.
pub(crate) fn kept(report: &RolloutReport) -> Vec<String> {
    let kept = report.hosts.iter().filter(|host| is_kept(report, host)).take(5);
    let told = |host: &StandingReport| {
        let (name, service) = (&host.name, &report.service);
        match host.is_barred() {
            true => format!("{name} does not allow {service} in agent.toml (swell skip {name})"),
            false => format!("{name} is {}", standing(report, host)),
        }
    };
    kept.map(told).collect()
}

/// The hosts that could not go back.
pub(crate) fn stuck(report: &RolloutReport) -> Vec<String> {
    let stuck = report.hosts.iter().filter(|host| host.state == Some(State::RevertFailed));
    stuck.take(5).map(|host| host.name.to_string()).collect()
}

/// Whether the next wave is held because all hosts together are worse on the new release.
pub(crate) fn is_worse(report: &RolloutReport) -> bool {
    let pooled = report.waves.iter().filter_map(|wave| wave.pooled.as_ref());
    report.phase == RolloutPhase::Running && { pooled }.any(|one| one.finding == Finding::Worse)
}

/// `reverted (release): healthz answered 500 three times`.
pub(super) fn standing(report: &RolloutReport, host: &StandingReport) -> String {
    let mut text = state(host.state).to_owned();
    if let Some(why) = host.cause {
        text.push_str(&format!(" ({})", cause(why)));
    }
    let note = note(report, host);
    if !note.is_empty() {
        text.push_str(&format!(": {note}"));
    }
    text
}

/// What a host says of where it stands; of one that will not begin, that, and what to do.
fn note(report: &RolloutReport, host: &StandingReport) -> String {
    if !host.is_barred() {
        return plain(&host.note);
    }
    let why = Fitness::NotAllowed;
    match is_awaited(report, host) {
        true => format!("{why}: swell skip {}", host.name),
        false => why.to_string(),
    }
}

/// What is different in `after`, a line each; against nothing, where it stands. Reasons change with
/// every number in them, so only a change that brings another sentence is a line.
pub(crate) fn changes(before: Option<&RolloutReport>, after: &RolloutReport) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(before) = before else {
        lines.push(format!("{}, rollout {}: {}", title(after), after.id, stands(after)));
        let told = |host: &&StandingReport| host.state.is_some() || is_kept(after, host);
        let told = after.hosts.iter().filter(told);
        lines.extend(told.map(|host| format!("{}: {}", host.name, standing(after, host))));
        lines.extend(fetching::changes(None, after));
        return lines;
    };
    for (index, (old, new)) in before.waves.iter().zip(&after.waves).enumerate() {
        if new.open && !old.open {
            let (wave, of) = (index + 1, after.waves.len());
            let hosts = span::count(new.hosts as usize, "host");
            lines.push(format!("wave {wave} of {of} is open: {hosts}"));
            // What was said when nobody waited for it is said again.
            let own = after.hosts.iter().filter(|host| host.wave as usize == index);
            let kept = own.filter(|host| is_kept(after, host));
            lines.extend(kept.map(|host| format!("{}: {}", host.name, standing(after, host))));
        }
    }
    let old: BTreeMap<_, _> = before.hosts.iter().map(|host| (&host.host, host)).collect();
    for host in &after.hosts {
        let changed = old.get(&host.host).is_none_or(|old| {
            let standing = |host: &StandingReport| (host.state, host.cause, host.allowed);
            (standing(old), &old.note) != (standing(host), &host.note)
        });
        if changed {
            lines.push(format!("{}: {}", host.name, standing(after, host)));
        }
    }
    lines.extend(fetching::changes(Some(before), after));
    if before.phase != after.phase || words(&before.why) != words(&after.why) {
        lines.push(stands(after));
    }
    lines
}

/// A sentence without its numbers.
fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests {
    use proto::report::{
        BackState, BakeReport, ComparedReport, DroppedReport, FetchReport, VerdictReport,
    };

    use super::*;
    use crate::render::sample::{self, fetch, host_id, under_way};

    #[test]
    fn explain_carries_every_number() {
        let report = under_way(4);
        let expected = format!(
            "\
web 1.2.0 -> 1.3.0 in production
rollout {:#}
epoch 4, forward, signed 2027-01-15 08:00:00 UTC by ada, expires 2027-01-16 08:00:00 UTC
reason: weekly
running: wave 2 holds: 1 of 1 bake
would end without the coordinator: yes

WAVE  HOSTS  OPEN  WAITING  ACTIVATING  BAKING  COMMITTED  FAILED     RETURNED  UNREACHABLE  BAKE
1     1      yes   0        0           0       1          0 (max 0)  0         0 (max 0)    5 min
2     3      yes   1        0           1       0          1 (max 1)  0         0 (max 1)    5 min

HOST          NAME  WAVE  STATE      CAUSE    PIECES  ALIVE  NOTE
aaaaaaaaaaaa  n1    1     committed  -        8/8     yes
bbbbbbbbbbbb  n2    2     reverted   release  8/8     yes    healthz answered 500 three times
cccccccccccc  n3    2     baking     -        8/8     yes
dddddddddddd  n4    2     no word    -        0/8     yes
",
            report.id
        );
        assert_eq!(explain(&report), expected);
    }

    /// Of what waits for a person, or is over, nothing is said about how it would end; and what has gone back is
    /// called so.
    #[test]
    fn explain_says_what_has_become_of_it() {
        let mut report = under_way(4);
        report.waves[1].bake = Some(BakeReport { left_s: 192, until: Some(report.created) });
        let shown = explain(&report);
        let bakes = "would end without the coordinator: yes\nwave 2 bakes 3 min 12 s more, until 08:00:00 UTC\n";
        assert!(shown.contains(bakes), "{shown}");
        report.phase = RolloutPhase::Paused;
        report.waves[1].bake = Some(BakeReport { left_s: 192, until: None });
        let shown = explain(&report);
        assert!(!shown.contains("would end"), "{shown}");
        assert!(shown.contains("\nwave 2 bakes 3 min 12 s more once it is resumed\n"), "{shown}");
        report.phase = RolloutPhase::Halted;
        report.waves[1].bake = None;
        report.why = "halted: 1 failed".to_owned();
        for (state, stands) in [
            (BackState::GoingBack, "\nhalted, going back: halted: 1 failed\n"),
            (BackState::RolledBack, "\nrolled back: halted: 1 failed\n"),
            (BackState::Stuck, "\nhalted: 1 failed\n"),
        ] {
            report.back = Some(sample::back(state));
            let shown = explain(&report);
            assert!(shown.contains(stands) && !shown.contains("would end"), "{shown}");
        }
    }

    /// R24: the very value that the gate decided by, and what it came from.
    #[test]
    fn explain_shows_what_requests_say() {
        let mut report = under_way(4);
        let counted = |bad, requests| CountedReport { bad, requests };
        let text = "worse: errors 3.00 % of 1200, old release 0.20 % of 10000, at most 1 % above it \
                    (z 3.7)";
        report.waves[0].pooled = Some(VerdictReport {
            finding: Finding::Worse,
            text: text.to_owned(),
            compared: Some(ComparedReport {
                slower_than_ms: None,
                new: counted(36, 1_200),
                control: Some(counted(20, 10_000)),
                above_ppm: 10_000,
                z_milli: 3_700,
            }),
        });
        report.hosts[0].counted = Some(counted(36, 1_200));
        report.hosts[3].counted = Some(counted(0, 0));
        report.latency = Some(LatencyReport { new_p99_ms: Some(250), control_p99_ms: None });
        let expected = format!(
            "
requests up to wave 1: {text}

99 of 100 answers take at most: new release 250 ms, old release not told

COUNTED ON  REQUESTS  ERRORS  SHARE
n1          1200      36      3.00 %
n4          0         0       0.00 %
"
        );
        let shown = explain(&report);
        assert!(shown.contains(&expected), "{shown}");
        assert!(is_worse(&report) && !is_worse(&under_way(4)));
        let json = serde_json::to_value(&report).unwrap();
        let pooled = &json["waves"][0]["pooled"];
        assert_eq!(
            (&pooled["finding"], &pooled["compared"]["new"]["bad"]),
            (&"worse".into(), &36.into())
        );
        assert_eq!(json["hosts"][0]["counted"]["requests"], 1_200);
    }

    #[test]
    fn explain_shows_how_the_artifact_comes_and_who_lied() {
        let mut report = under_way(4);
        let liar = DroppedReport {
            host: host_id(2),
            name: "n3".parse().unwrap(),
            why: proto::record::Lie::WrongBytes,
        };
        report.hosts[3].fetch = Some(FetchReport { dropped: vec![liar], ..fetch() });
        report.hosts[0].fetch = Some(FetchReport { running: false, bytes: 64 << 20, ..fetch() });
        report.fetches.running = 1;
        let expected = "
fetching: 1 host, 0 B of 0 B, 0 B/s in all; 0 of 4 hosts have all of it
n4: fetching 41.0 MiB of 64.0 MiB at 11.0 MiB/s from 5 members (peers 38.0 MiB, origin 3.0 MiB)
n1: fetched 64.0 MiB (peers 38.0 MiB, origin 3.0 MiB)
dropped n3 (cccccccccccc) by n4: it sent wrong bytes
";
        assert!(explain(&report).ends_with(expected), "{}", explain(&report));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["hosts"][3]["fetch"]["dropped"][0]["why"], "wrong-bytes");
        assert_eq!(json["hosts"][3]["fetch"]["from"]["peers"], 38 << 20);
        assert_eq!(json["hosts"][1].get("fetch"), None);
    }

    #[test]
    fn a_host_that_nobody_waits_for_is_told_as_such() {
        let mut report = under_way(4);
        report.hosts[2].skipped = true;
        let text = explain(&report);
        assert!(text.contains("n3    2     baking (skipped)  -"), "{text}");
    }

    /// It is silent in the rollout, and alive: nothing else tells why.
    #[test]
    fn a_host_that_does_not_allow_the_service_is_told_with_what_to_do() {
        let mut report = under_way(5);
        let before = report.clone();
        report.hosts[4].allowed = false;
        let why = "agent.toml there does not allow the service";
        let line = format!("n5: no word: {why}: swell skip n5");
        assert_eq!(changes(Some(&before), &report), [line.as_str()]);
        assert_eq!(changes(None, &report).last(), Some(&line));
        assert!(explain(&report).ends_with(&format!("  {why}: swell skip n5\n")));
        let kept_back = ["n5 does not allow web in agent.toml (swell skip n5)"];
        assert_eq!(kept(&report), kept_back);

        // One that has begun is at an end, or is brought to it.
        report.hosts[2].allowed = false;
        assert_eq!(kept(&report), kept_back);
        report.hosts[4].skipped = true;
        assert_eq!(kept(&report), Vec::<String>::new());
        assert!(explain(&report).ends_with(&format!("  {why}\n")), "skipped already");
        report.hosts[4].skipped = false;
        report.phase = RolloutPhase::Complete;
        assert_eq!(kept(&report), Vec::<String>::new());
        assert!(explain(&report).ends_with(&format!("  {why}\n")), "nobody waits");
    }

    #[test]
    fn each_change_is_a_line() {
        let before = under_way(4);
        let mut after = before.clone();
        assert_eq!(changes(Some(&before), &after), Vec::<String>::new());

        // A countdown is no news.
        after.why = "wave 2 holds: 0 of 1 bake".to_owned();
        assert_eq!(changes(Some(&before), &after), Vec::<String>::new());

        after.hosts[2].state = Some(State::Committed);
        after.hosts[3].state = Some(State::Fetching);
        after.phase = RolloutPhase::Paused;
        after.why = "ada wants to look".to_owned();
        assert_eq!(
            changes(Some(&before), &after),
            ["n3: committed", "n4: fetching", "paused: ada wants to look"]
        );

        after.why = "paused by ada".to_owned();
        assert_eq!(stands(&after), "paused by ada");

        let mut closed = before.clone();
        closed.waves[1].open = false;
        assert_eq!(changes(Some(&closed), &before), ["wave 2 of 2 is open: 3 hosts"]);
    }

    #[test]
    fn a_host_that_says_what_keeps_it_is_named_when_its_turn_comes() {
        let mut before = under_way(4);
        before.hosts[3].state = Some(State::Fetching);
        before.waves[1].open = false;
        let mut after = before.clone();
        after.hosts[3].note = "no space left on device".to_owned();
        let line = "n4: fetching: no space left on device";
        assert_eq!(changes(Some(&before), &after), [line]);
        assert_eq!(kept(&after), Vec::<String>::new());
        let before = after.clone();
        after.waves[1].open = true;
        assert_eq!(changes(Some(&before), &after), ["wave 2 of 2 is open: 3 hosts", line]);
        assert_eq!(kept(&after), ["n4 is fetching: no space left on device"]);
    }

    #[test]
    fn the_first_look_says_where_everything_stands() {
        let report = under_way(4);
        assert_eq!(
            changes(None, &report),
            [
                format!(
                    "web 1.2.0 -> 1.3.0 in production, rollout {}: running: wave 2 holds: 1 of 1 \
                     bake",
                    report.id
                ),
                "n1: committed".to_owned(),
                "n2: reverted (release): healthz answered 500 three times".to_owned(),
                "n3: baking".to_owned(),
            ]
        );
    }
}
