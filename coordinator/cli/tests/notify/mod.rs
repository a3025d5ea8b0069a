//! `notify`: what is asked, what is shown of the answers, and how it ends.

use proto::statement::UnixTime;
use proto::wire::ReceiverReport;

use super::*;

fn receiver() -> ReceiverReport {
    ReceiverReport {
        name: "ops".parse().unwrap(),
        kind: "slack".to_owned(),
        to: String::new(),
        events: vec!["rollout-halted".to_owned()],
        services: Vec::new(),
        envs: Vec::new(),
        waiting: 2,
        delivered: 7,
        dropped: 0,
        last: Some(UnixTime(now().0 - 60)),
        fault: Some("it refuses connections".to_owned()),
        next_try: None,
    }
}

#[test]
fn receivers_are_listed_for_people_and_for_scripts() {
    let fleet = Fleet::new();
    let _coordinator = fleet.coordinator(|request: &ControlRequest| match request {
        ControlRequest::NotifyList => ControlReply::Receivers(vec![receiver()]),
        other => panic!("{other:?}"),
    });
    let told = fleet.swell(&["notify", "list"]);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told));
    assert!(text(&told).contains("ops       slack  rollout-halted  7"), "{}", text(&told));
    assert!(text(&told).ends_with("ops: it refuses connections\n"), "{}", text(&told));
    let told = fleet.swell(&["notify", "list", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&value[0]["name"], &value[0]["waiting"]), (&"ops".into(), &2.into()));
}

#[test]
fn a_test_that_is_not_taken_ends_with_1() {
    let fleet = Fleet::new();
    let coordinator = fleet.coordinator(|request: &ControlRequest| match request {
        ControlRequest::NotifyTest { receiver } => match receiver.as_str() {
            "ops" => ControlReply::Notified { taken: true, answer: "it has taken it".to_owned() },
            "bot" => ControlReply::Notified { taken: false, answer: "it answers 404".to_owned() },
            _ => refused(RefusedKind::NotFound, "there is no receiver x"),
        },
        other => panic!("{other:?}"),
    });
    for (name, code, part) in [
        ("ops", 0, "ops: it has taken it"),
        ("bot", 1, "bot did not take the test message: it answers 404"),
        ("x", 2, "there is no receiver x"),
    ] {
        let told = fleet.swell(&["notify", "test", name]);
        let all = format!("{}{}", text(&told), String::from_utf8_lossy(&told.stderr));
        assert_eq!(told.status.code(), Some(code), "{all}");
        assert!(all.contains(part), "{all}");
    }
    assert_eq!(coordinator.asked.lock().unwrap().len(), 3);
}
