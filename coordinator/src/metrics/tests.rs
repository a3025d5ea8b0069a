//! The page of a coordinator of two scopes.

use std::collections::BTreeSet;

use proto::audit::{Head, Origin, Rift, RiftKind, Told};
use proto::id::Digest;
use proto::report::{AuditReport, RiftReport};

use super::*;

fn standing(wave: u32, state: Option<State>) -> serde_json::Value {
    serde_json::json!({
        "host": "aaaaaaaaaaaa", "name": "n1", "wave": wave, "skipped": false, "state": state,
        "cause": null, "note": "", "pieces": 0, "of": 0, "counted": null, "alive": true,
        "drift": null,
    })
}

fn wave(open: bool) -> serde_json::Value {
    serde_json::json!({
        "hosts": 2, "open": open, "waiting": 0, "activating": 0, "baking": 0, "committed": 0,
        "failed": 0, "returned": 0, "skipped": 0, "unreachable": 0, "wait_s": 0, "failed_max": 0,
        "unreachable_max": 0, "pooled": null,
    })
}

fn rollout(service: &str, phase: RolloutPhase, held: bool) -> RolloutReport {
    let states = [Some(State::Committed), Some(State::Committed), Some(State::RevertFailed), None];
    serde_json::from_value(serde_json::json!({
        "id": Digest::of(service.as_bytes()), "service": service, "env": "production", "epoch": 3,
        "from": null, "to": "1.4.0", "direction": "forward", "author": "ada", "reason": "",
        "created": 1, "expires": 2, "phase": phase, "held": held, "ended": null, "why": "",
        "self_supporting": true, "waves": [wave(true), wave(false)],
        "fetches": { "whole": 1, "running": 2, "stalled": 1, "bytes": 0, "of_bytes": 0, "bytes_per_s": 0 },
        "hosts": states.map(|state| standing(0, state)),
    }))
    .unwrap()
}

/// That serves what was not released like that, where it is heard; what a silent one said last says nothing.
fn drifted(id: char, alive: bool) -> serde_json::Value {
    let drift = serde_json::json!({ "release": Digest::of(b"1"), "found": 1, "first": "a.txt" });
    let service = serde_json::json!({
        "service": "web", "version": "1.4.0", "state": "committed", "note": "", "drift": drift,
    });
    let mut host = host(id, alive, false);
    host["services"] = serde_json::json!([service]);
    host
}

fn host(id: char, alive: bool, removed: bool) -> serde_json::Value {
    let removal = serde_json::json!({ "by": "ada", "created": 1, "reason": "" });
    serde_json::json!({
        "id": id.to_string().repeat(12), "name": "n1", "env": "production", "zone": "a", "labels": [],
        "address": null, "twin": null, "alive": alive, "agent_version": null, "services": [],
        "held": null, "removed": removed.then_some(removal),
    })
}

fn facts() -> Facts {
    let hash = Digest::of(b"entry");
    let head = Head { length: 118, hash };
    let origin = Origin { record: hash, since: UnixTime(1), recovered: false };
    let rift =
        Rift { kind: RiftKind::Cut, record: hash, promised: head, told: head, at: UnixTime(1) };
    let noticed =
        RiftReport { host: "aaaaaaaaaaaa".parse().unwrap(), name: "n1".parse().unwrap(), rift };
    let told = Some(Told { origin, head });
    let fleet: FleetReport = serde_json::from_value(serde_json::json!({
        "fleet": "test", "seen_by": "coordinator", "at": 1, "root_version": 1,
        "coordinator_alive": true, "rollouts": [], "freezes": [], "skips": [],
        "hosts": [host('a', true, false), drifted('b', true), drifted('c', false),
            host('d', false, true)],
    }))
    .unwrap();
    let rollouts = vec![
        rollout("web", RolloutPhase::Running, true),
        rollout("shop", RolloutPhase::Complete, false),
    ];
    let audit = AuditReport { told, rifts: vec![noticed] };
    Facts {
        common: Common { alive: 3, root_expires_s: 1_900_000_000, ..Common::default() },
        fleet: Some(FleetReport { rollouts, audit, ..fleet }),
        releases: 7,
        effective: 21,
        pending: 2,
        known: Known { told, verified: Verified::Sound(head) },
        uploads: 1,
        patches: 3,
        certificate_expires: Some(UnixTime(1_850_000_000)),
        looked: Some(UnixTime(1_700_000_000)),
        told: [(
            "pager".parse().unwrap(),
            Counts { delivered: 8, dropped: 1, failed: 5, waiting: 2, is_mute: true },
        )]
        .into(),
    }
}

#[test]
fn every_fact_is_on_the_page() {
    let page = facts().text();
    let web = "service=\"web\",env=\"production\"";
    let shop = "service=\"shop\",env=\"production\"";
    for expected in [
        "swell_root_expiry_timestamp_seconds 1900000000".to_owned(),
        "swell_https_certificate_expiry_timestamp_seconds 1850000000".to_owned(),
        "swell_hosts{state=\"alive\"} 2".to_owned(),
        "swell_hosts{state=\"silent\"} 1".to_owned(),
        "swell_hosts_drifted 1".to_owned(),
        "swell_releases 7".to_owned(),
        "swell_statements{standing=\"effective\"} 21".to_owned(),
        "swell_statements{standing=\"pending\"} 2".to_owned(),
        "swell_publish_uploads 1".to_owned(),
        "swell_patches 3".to_owned(),
        "swell_audit_entries 118".to_owned(),
        "swell_audit_verified 1".to_owned(),
        "swell_audit_rifts 1".to_owned(),
        "swell_events_last_look_timestamp_seconds 1700000000".to_owned(),
        "swell_notify_deliveries_total{receiver=\"pager\",outcome=\"delivered\"} 8".to_owned(),
        "swell_notify_deliveries_total{receiver=\"pager\",outcome=\"dropped\"} 1".to_owned(),
        "swell_notify_deliveries_total{receiver=\"pager\",outcome=\"failed\"} 5".to_owned(),
        "swell_notify_waiting{receiver=\"pager\"} 2".to_owned(),
        "swell_notify_mute{receiver=\"pager\"} 1".to_owned(),
        format!("swell_rollout_phase{{{web},phase=\"running\"}} 1"),
        format!("swell_rollout_phase{{{web},phase=\"complete\"}} 0"),
        format!("swell_rollout_phase{{{shop},phase=\"complete\"}} 1"),
        format!("swell_rollout_hosts{{{web},state=\"committed\"}} 2"),
        format!("swell_rollout_hosts{{{web},state=\"revert-failed\"}} 1"),
        format!("swell_rollout_hosts{{{web},state=\"unheard\"}} 1"),
        format!("swell_rollout_hosts{{{web},state=\"baking\"}} 0"),
        format!("swell_rollout_waves{{{web}}} 2"),
        format!("swell_rollout_waves_open{{{web}}} 1"),
        format!("swell_rollout_held{{{web}}} 1"),
        format!("swell_rollout_held{{{shop}}} 0"),
        format!("swell_rollout_waits{{{web}}} 0"),
        format!("swell_rollout_hosts_fetching{{{web}}} 2"),
        format!("swell_rollout_hosts_stalled{{{web}}} 1"),
        "swell_gossip_members{state=\"alive\"} 3".to_owned(),
    ] {
        assert!(page.lines().any(|line| line == expected), "{expected} is not in\n{page}");
    }
    let broken = Verified::Broken("edited".to_owned());
    let known = Known { verified: broken, ..Known::default() };
    let page = Facts { known, ..Facts::default() }.text();
    assert!(page.contains("swell_audit_verified 0\n"), "{page}");
    assert!(!Facts::default().text().contains("swell_audit_verified"), "not known yet");
}

#[test]
fn what_waits_for_a_known_time_is_not_held() {
    let mut facts = facts();
    facts.fleet.as_mut().unwrap().rollouts[0].held_until = Some(UnixTime(7));
    let page = facts.text();
    let web = "service=\"web\",env=\"production\"";
    assert!(page.contains(&format!("swell_rollout_held{{{web}}} 0\n")), "{page}");
    assert!(page.contains(&format!("swell_rollout_waits{{{web}}} 1\n")), "{page}");
    // What the newest rollout in force cannot be is no label.
    assert!(!page.contains("phase=\"pending\"") && !page.contains("superseded"), "{page}");
}

/// What a reader needs to know of a sample stands before it, once; and however many scopes there are.
#[test]
fn each_name_has_its_type_and_the_page_is_bounded() {
    let mut facts = facts();
    let fleet = facts.fleet.as_mut().unwrap();
    let many = |place: usize| rollout(&format!("s{place}"), RolloutPhase::Running, false);
    fleet.rollouts = (0..2 * SCOPES_MAX).map(many).collect();
    let page = facts.text();
    let mut known = BTreeSet::new();
    for line in page.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(known.insert(name.to_owned()), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(known.contains(name), "{line}");
        }
    }
    assert_eq!(page.matches("swell_rollout_held{").count(), SCOPES_MAX);
    assert!(page.len() < 256 << 10, "{} bytes", page.len());
}
