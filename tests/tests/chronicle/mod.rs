//! What the coordinator tells of a fleet, over its own death.

use fleet_tests::cluster::{Behaviour, Cluster, wait_until};
use proto::dora::{DoraReport, DoraShare};
use proto::report::{EventReport, RolloutPhase};

use crate::common::{all_serve, deploy_and_complete, fleet};

/// What was told of rollouts and hosts of the service.
fn events(cluster: &Cluster) -> Vec<EventReport> {
    let told = cluster.swell(&["events", "--service", "web", "--json"]).unwrap();
    let mut events: Vec<EventReport> = serde_json::from_slice(&told.stdout).unwrap();
    events.retain(|event| event.kind != "release-published");
    events
}

fn kinds(events: &[EventReport]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

#[test]
fn a_coordinator_that_was_away_tells_each_thing_once_and_counts_it() {
    let (_directory, mut cluster) = fleet(3);
    deploy_and_complete(&cluster, "1.0.0", 1);
    let first = wait_until("the first rollout is told", || {
        let events = events(&cluster);
        Ok(events.iter().any(|event| event.kind == "rollout-complete").then_some(events))
    });
    let first = first.unwrap();
    let well = ["rollout-started", "wave-opened", "wave-opened", "rollout-complete"];
    let all: Vec<_> = well[..2].iter().chain(&well[1..]).copied().collect();
    assert!(kinds(&first) == well || kinds(&first) == all, "{first:#?}");
    assert!(
        first[0].text.starts_with("web 1.0.0 to production: started, 3 hosts in "),
        "{first:#?}"
    );

    // It does not see what happens to the second one.
    cluster.publish("2.0.0", Behaviour::Broken).unwrap();
    cluster.deploy("2.0.0").unwrap();
    let held = |one: &proto::report::RolloutReport| one.epoch == 2 && one.self_supporting;
    cluster.wait_for_rollout("2.0.0 is self-supporting", held).unwrap();
    cluster.kill_coordinator().unwrap();
    let halted =
        |one: &proto::report::RolloutReport| one.epoch == 2 && one.phase == RolloutPhase::Halted;
    cluster.wait_for_rollout("2.0.0 is halted", halted).unwrap();
    all_serve(&cluster, "1.0.0");
    cluster.start_coordinator().unwrap();
    let both = wait_until("the second rollout is told", || {
        let events = events(&cluster);
        Ok(events.iter().any(|event| event.kind == "rollout-rolled-back").then_some(events))
    });
    let both = both.unwrap();
    assert_eq!(both[..first.len()], first, "nothing is told anew");
    let second = kinds(&both[first.len()..]);
    for kind in ["rollout-started", "wave-opened", "host-failed", "rollout-halted"] {
        assert_eq!(second.iter().filter(|told| **told == kind).count(), 1, "{both:#?}");
    }
    assert_eq!(second.last(), Some(&"rollout-rolled-back"));

    cluster.kill_coordinator().unwrap();
    cluster.start_coordinator().unwrap();
    deploy_and_complete(&cluster, "3.0.0", 3);
    let report = wait_until("the third rollout is counted", || {
        let told = cluster.swell(&["dora", "web", "--env", "production", "--json"])?;
        let report: DoraReport = serde_json::from_slice(&told.stdout)?;
        Ok((report.window.change_fail_rate.of == 3).then_some(report))
    });
    let window = report.unwrap().window;
    assert_eq!(window.deployment_frequency.deployments, 2);
    assert_eq!(window.change_fail_rate, DoraShare { n: 1, of: 3 });
    assert_eq!(window.rework_rate, DoraShare { n: 1, of: 3 });
    assert_eq!(window.failed_deployment_recovery_time.n, 1);
    assert_eq!((window.change_lead_time.n, window.change_lead_time.unknown), (0, 2));
    let all = events(&cluster);
    assert_eq!(all[..both.len()], both, "nothing is told anew");
    let published = cluster.swell(&["events", "--limit", "1000"]).unwrap();
    let text = String::from_utf8(published.stdout).unwrap();
    assert_eq!(text.matches("release-published").count(), 3, "{text}");
    assert!(text.contains("critical: web 2.0.0 to production: halted: "), "{text}");
}
