//! `logs` and `explain --host`: who is asked for what it has kept, and what of it is shown.

use std::collections::BTreeMap;

use proto::evidence::{Evidence, Sample};
use proto::id::HostId;
use proto::receipt::Cause;
use proto::statement::UnixTime;

use super::verbs::about_fleet;
use super::*;

/// What `n1` has kept of a rollout, by a service that means to steer terminals.
fn kept(rollout: Digest) -> Evidence {
    let text = "fine\u{1b}[2J\nHOST  NAME\u{9b}1A\n".to_owned();
    let (first, times) = (UnixTime(1_800_000_000), 3);
    let samples = vec![Sample { first, last: first, times, text: "/healthz: 500\u{1b}c".into() }];
    Evidence {
        service: "web".parse().unwrap(),
        attempt: 7,
        receipt: Digest::of(b"receipt"),
        rollout,
        release: Digest::of(b"release"),
        version: version("1.0.0"),
        state: State::Reverted,
        cause: None,
        note: "/healthz: 500\u{1b}c".to_owned(),
        kept: first,
        samples,
        log: text.clone(),
        journal: text,
    }
}

fn nothing() -> ControlReply {
    ControlReply::Evidence { kept: None, path: "/state/evidence/web".to_owned() }
}

/// A host that has kept these attempts of a rollout, of which it tells one at a time.
fn keeps(rollout: Digest, all: Vec<Evidence>) -> impl fake::Answer {
    move |request: &ControlRequest| match request {
        ControlRequest::Evidence { rollout: asked, before, .. } if *asked == rollout => {
            let is_asked = |one: &&Evidence| before.is_none_or(|before| one.attempt < before);
            match all.iter().filter(is_asked).max_by_key(|one| one.attempt) {
                None => nothing(),
                Some(one) => ControlReply::Evidence {
                    kept: Some(Box::new(one.clone())),
                    path: format!("/state/evidence/web/{}.json", one.attempt),
                },
            }
        }
        other => panic!("{other:?}"),
    }
}

/// An attempt that ended like this.
fn ended(rollout: Digest, attempt: u64, state: State, cause: Option<Cause>) -> Evidence {
    Evidence { attempt, state, cause, note: String::new(), ..kept(rollout) }
}

/// Whose key makes the host of the cohort with this id.
fn seed_of(fleet: &Fleet, id: &HostId) -> u8 {
    (1..=3).find(|seed| fleet.host(*seed).0.id == *id).unwrap()
}

/// A coordinator that knows a rollout, and where some hosts are.
fn coordinator(fleet: &Fleet, about: RolloutReport, at: BTreeMap<u8, String>) -> Member {
    let known = move |report: &mut FleetReport| {
        for (seed, address) in at {
            report.hosts[usize::from(seed) - 1].address = Some(address);
        }
    };
    let about = about_rollout(fleet, first_facts(fleet), move || about.clone());
    fleet.coordinator(about_fleet(fleet, known, about))
}

#[test]
fn a_host_is_asked_itself_what_it_has_kept_of_its_failure() {
    let fleet = Fleet::new();
    let failed = report(&fleet, RolloutPhase::Halted, [Some(State::Reverted), None]);
    let id = failed.id;
    let seed = seed_of(&fleet, &failed.hosts[0].host);
    let host = fleet.member(seed, move |request: &ControlRequest| match request {
        ControlRequest::Evidence { rollout, .. } if *rollout == id => ControlReply::Evidence {
            kept: Some(Box::new(kept(id))),
            path: "/var/\u{1b}x".to_owned(),
        },
        other => panic!("{other:?}"),
    });
    let address = host.address.to_string();
    let _coordinator = coordinator(&fleet, failed, [(seed, address)].into());

    let all = fleet.swell(&["explain", "web/production"]);
    assert!(!text(&all).contains("logs of"), "nobody is asked who is not named: {}", text(&all));
    assert_eq!(host.asked.lock().unwrap().len(), 0);
    let output = fleet.swell(&["explain", "web/production", "--host", "n1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let shown = text(&output);
    assert!(shown.contains("logs of n1, attempt 7, 1.0.0, reverted: /healthz: 500?c\n"), "{shown}");
    assert!(shown.contains("output of its commands:\n  fine [2J\n  HOST"), "{shown}");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");

    let output = fleet.swell(&["explain", "web/production", "--host", "n1", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["phase"], &json["evidence"][0]["name"]), (&"halted".into(), &"n1".into()));
    assert_eq!(json["evidence"][0]["evidence"]["samples"][0]["times"], 3);
    assert!(!String::from_utf8_lossy(&output.stdout).contains('\u{9b}'));
    assert!(!json["evidence"][0]["evidence"].to_string().contains("\\u001b"), "{json}");
}

#[test]
fn where_a_host_gives_no_evidence_it_is_told_why_and_where_it_lies() {
    let fleet = Fleet::new();
    let states = [Some(State::Reverted), Some(State::Committed)];
    let failed = report(&fleet, RolloutPhase::Halted, states);
    let forbidden = "evidence is for operators";
    let seeds = [0, 1].map(|index| seed_of(&fleet, &failed.hosts[index].host));
    let host = fleet
        .member(seeds[0], move |_: &ControlRequest| refused(RefusedKind::Forbidden, forbidden));
    let well = fleet.member(seeds[1], |_: &ControlRequest| nothing());
    let addresses = [host.address.to_string(), well.address.to_string()];
    let _coordinator = coordinator(&fleet, failed, seeds.into_iter().zip(addresses).collect());
    let explain = |host: &str| {
        let output = fleet.swell(&["explain", "web/production", "--host", host]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        text(&output)
    };
    let shown = explain("n1");
    let why = format!("logs of n1: not here: cannot ask for its logs: {forbidden}; look there");
    assert!(shown.contains(&why), "{shown}");
    assert!(shown.contains("in /var/lib/groundswell/evidence/web"), "{shown}");
    assert!(!explain("n2").contains("logs of"), "it has not failed, and has none");
    drop(host);
    let shown = explain("n1");
    assert!(
        shown.contains("logs of n1: not here: it does not answer within 5 s; look there"),
        "{shown}"
    );
}

/// Two hosts of a rollout: one committed, and went back with the fleet; the other one failed twice.
struct Story {
    fleet: Fleet,
    hosts: [Member; 2],
    coordinator: Member,
}

impl Story {
    fn new() -> Self {
        let fleet = Fleet::new();
        let states = [Some(State::Reverted), Some(State::Reverted)];
        let report = report(&fleet, RolloutPhase::Halted, states);
        let id = report.id;
        let seeds = [0, 1].map(|index| seed_of(&fleet, &report.hosts[index].host));
        let well = vec![
            ended(id, 3, State::Committed, None),
            ended(id, 5, State::Reverted, Some(Cause::Fleet)),
        ];
        let badly = vec![
            ended(id, 7, State::Reverted, Some(Cause::Release)),
            ended(id, 9, State::RevertFailed, Some(Cause::Host)),
        ];
        let hosts =
            [fleet.member(seeds[0], keeps(id, well)), fleet.member(seeds[1], keeps(id, badly))];
        let addresses = hosts.each_ref().map(|host| host.address.to_string());
        let at = seeds.into_iter().zip(addresses).collect();
        let coordinator = coordinator(&fleet, report, at);
        Self { fleet, hosts, coordinator }
    }

    fn logs(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = self.fleet.swell(&[&["logs", "web/production"], more].concat());
        (output.status.code(), text(&output))
    }

    fn json(&self, more: &[&str]) -> Vec<serde_json::Value> {
        let (code, text) = self.logs(&[&["--json"], more].concat());
        assert_eq!(code, Some(0), "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

#[test]
fn logs_are_all_attempts_of_all_hosts_oldest_first() {
    let story = Story::new();
    let (code, shown) = story.logs(&[]);
    assert_eq!(code, Some(0), "{shown}");
    let parts = [
        "n1    3        1.0.0    2027-01-15 08:00:00  committed\n",
        "n1    5        1.0.0    2027-01-15 08:00:00  reverted with the fleet\n",
        "--host HOST\n",
        "logs of n2, attempt 7, 1.0.0, reverted\n",
        "kept 2027-01-15 08:00:00 UTC in /state/evidence/web/7.json",
        "output of its commands:\n  fine [2J",
        "journal of its unit:\n  fine [2J",
        "logs of n2, attempt 9, 1.0.0, revert-failed\n",
    ];
    let places: Vec<_> = parts.iter().map(|part| shown.find(part)).collect();
    assert!(places.is_sorted() && places[0].is_some(), "{places:?} in {shown}");
    assert!(!shown.contains("logs of n1"), "a line is enough: {shown}");

    let (code, shown) = story.logs(&["--host", "n1"]);
    assert_eq!(code, Some(0), "{shown}");
    for part in [
        "\nlogs of n1, attempt 3, 1.0.0, committed\n",
        "\nlogs of n1, attempt 5, 1.0.0, reverted with the fleet\n",
        "  HOST  NAME",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    assert!(!shown.contains("n2"), "{shown}");
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");

    let told = |one: &serde_json::Value| {
        (one["name"].as_str().unwrap().to_owned(), one["evidence"]["attempt"].as_u64().unwrap())
    };
    let all: Vec<_> = story.json(&[]).iter().map(told).collect();
    let expected = [("n1", 3), ("n1", 5), ("n2", 7), ("n2", 9)];
    assert_eq!(all, expected.map(|(name, attempt)| (name.to_owned(), attempt)));
    assert_eq!(story.json(&[])[0]["evidence"]["samples"][0]["times"], 3, "all of it");
    let explained = story.fleet.swell(&["explain", "web/production", "--host", "n2", "--json"]);
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!(explained["evidence"][0], story.json(&["--host", "n2"])[1], "the same objects");
}

/// Of the host that committed, the newest that ended badly would be looked for in vain; of the other one it
/// is the second.
#[test]
fn explain_shows_the_last_attempt_that_ended_badly_and_no_other() {
    let story = Story::new();
    let explain =
        |host: &str| text(&story.fleet.swell(&["explain", "web/production", "--host", host]));
    let shown = explain("n2");
    assert!(shown.contains("logs of n2, attempt 9,") && !shown.contains("attempt 7,"), "{shown}");
    let shown = explain("n1");
    assert!(!shown.contains("attempt 3,") && !shown.contains("attempt 5,"), "{shown}");
}

#[test]
fn a_host_that_cannot_be_asked_hides_no_other() {
    let Story { fleet, hosts: [well, badly], coordinator } = Story::new();
    drop(badly);
    let story = Story {
        hosts: [well, fleet.member(9, |_: &ControlRequest| nothing())],
        fleet,
        coordinator,
    };
    let (code, shown) = story.logs(&[]);
    assert_eq!(code, Some(0), "something is shown: {shown}");
    assert!(shown.contains("n1    3        1.0.0"), "{shown}");
    let why = "\nlogs of n2: not here: it does not answer within 5 s; look there, as root, in \
               /var/lib/groundswell/evidence/web ";
    assert!(shown.contains(why), "{shown}");
    let (code, shown) = story.logs(&["--host", "n2"]);
    assert_eq!(code, Some(1), "nothing is: {shown}");
    let (code, shown) = story.logs(&["--host", "n7"]);
    assert_eq!(code, Some(2), "{shown}");
    assert_eq!(story.hosts[1].asked.lock().unwrap().len(), 0);
    drop(story.coordinator);
}

/// Nothing is missing where no attempt has ended, and a host that is not heard is not waited for.
#[test]
fn where_nothing_was_kept_that_is_no_error_and_where_nobody_is_heard_it_is() {
    let fleet = Fleet::new();
    let mut open = report(&fleet, RolloutPhase::Running, [Some(State::Baking), None]);
    open.hosts[1].alive = false;
    let seed = seed_of(&fleet, &open.hosts[0].host);
    let host = fleet.member(seed, |_: &ControlRequest| nothing());
    let at = BTreeMap::from([(seed, host.address.to_string())]);
    let logs = |report: RolloutReport| {
        let _coordinator = coordinator(&fleet, report, at.clone());
        let output = fleet.swell(&["logs", "web/production"]);
        (output.status.code(), text(&output))
    };
    let (code, shown) = logs(open.clone());
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("1 host has kept nothing of it"), "{shown}");
    assert!(shown.contains("logs of n2: not here: it "), "{shown}");
    let (code, shown) = logs(RolloutReport { hosts: open.hosts[..1].to_vec(), ..open.clone() });
    assert_eq!((code, shown.contains("not here")), (Some(0), false), "{shown}");
    let (code, shown) = logs(RolloutReport { hosts: open.hosts[1..].to_vec(), ..open });
    assert_eq!(code, Some(1), "{shown}");
}

/// One of the version before tells of its newest again, whatever number it is to come before.
#[test]
fn an_older_host_is_not_asked_for_ever() {
    let fleet = Fleet::new();
    let failed = report(&fleet, RolloutPhase::Halted, [Some(State::Reverted), None]);
    let id = failed.id;
    let seed = seed_of(&fleet, &failed.hosts[0].host);
    let host = fleet.member(seed, move |_: &ControlRequest| ControlReply::Evidence {
        kept: Some(Box::new(kept(id))),
        path: "/state/evidence/web/7.json".to_owned(),
    });
    let _coordinator = coordinator(&fleet, failed, [(seed, host.address.to_string())].into());
    let output = fleet.swell(&["logs", "web/production", "--host", "n1"]);
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert_eq!(shown.matches("logs of n1, attempt 7").count(), 1, "{shown}");
    let asked = host.asked.lock().unwrap();
    let before = |request: &ControlRequest| match request {
        ControlRequest::Evidence { before, .. } => *before,
        other => panic!("{other:?}"),
    };
    assert_eq!(asked.iter().map(before).collect::<Vec<_>>(), [None, Some(7)]);
}
