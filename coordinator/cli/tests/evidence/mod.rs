//! `explain --host`: who is asked for evidence, and what of it is shown.

use proto::evidence::{Evidence, Sample};
use proto::id::HostId;
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

/// Whose key makes the host of the cohort with this id.
fn seed_of(fleet: &Fleet, id: &HostId) -> u8 {
    (1..=3).find(|seed| fleet.host(*seed).0.id == *id).unwrap()
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
    let known = move |report: &mut FleetReport| {
        report.hosts[usize::from(seed) - 1].address = Some(address);
    };
    let about = about_rollout(&fleet, first_facts(&fleet), move || failed.clone());
    let _coordinator = fleet.coordinator(about_fleet(&fleet, known, about));

    let all = fleet.swell(&["explain", "web/production"]);
    assert!(!text(&all).contains("evidence"), "nobody is asked who is not named: {}", text(&all));
    assert_eq!(host.asked.lock().unwrap().len(), 0);
    let output = fleet.swell(&["explain", "web/production", "--host", "n1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let shown = text(&output);
    assert!(shown.contains("evidence of n1, attempt 7, 1.0.0: /healthz: 500?c\n"), "{shown}");
    assert!(
        shown.contains("output of its commands, the end of it:\n  fine [2J\n  HOST"),
        "{shown}"
    );
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
    let known = move |report: &mut FleetReport| {
        for (seed, address) in seeds.into_iter().zip(addresses) {
            report.hosts[usize::from(seed) - 1].address = Some(address);
        }
    };
    let about = about_rollout(&fleet, first_facts(&fleet), move || failed.clone());
    let _coordinator = fleet.coordinator(about_fleet(&fleet, known, about));
    let explain = |host: &str| {
        let output = fleet.swell(&["explain", "web/production", "--host", host]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        text(&output)
    };
    let shown = explain("n1");
    let why = format!("evidence of n1: not here: cannot ask for its evidence: {forbidden}\n");
    assert!(shown.contains(&why), "{shown}");
    assert!(shown.contains("in /var/lib/groundswell/evidence/web"), "{shown}");
    assert!(!explain("n2").contains("evidence"), "it has not failed, and has none");
    drop(host);
    let shown = explain("n1");
    assert!(shown.contains("evidence of n1: not here: it does not answer within 5 s\n"), "{shown}");
}
