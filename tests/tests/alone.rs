//! The coordinator is gone for good: what people do without it, and how they get one back.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not recognised as such")]

mod common;

use std::process::Output;

use common::{all_are_heard, all_serve, deploy_and_complete, fleet, issued_days_ago};
use fleet_tests::cluster::{Behaviour, Cluster};
use proto::report::RolloutPhase;

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream));
    streams.concat()
}

fn ends(cluster: &Cluster, epoch: u64, phase: RolloutPhase) {
    let what = format!("rollout {epoch} is {phase:?}");
    cluster.wait_for_rollout(&what, |one| one.epoch == epoch && one.phase == phase).unwrap();
}

#[test]
fn everything_an_operator_needs_works_through_any_host() {
    let (directory, mut cluster) = fleet(3);
    deploy_and_complete(&cluster, "1.0.0", 1);
    deploy_and_complete(&cluster, "2.0.0", 2);
    cluster.kill_coordinator().unwrap();
    std::fs::remove_dir_all(cluster.coordinator_state()).unwrap();
    // For so long that every host's certificate has expired, and agents have started anew.
    for index in 0..3 {
        cluster.kill_agent(index).unwrap();
        issued_days_ago(&cluster, directory.path(), index, 100);
        cluster.start_agent(index).unwrap();
    }
    all_serve(&cluster, "2.0.0");
    let via = format!("{}:7070", cluster.agents()[1].address);
    let swell = |arguments: &[&str]| {
        let arguments = [arguments, &["--via", &via]].concat();
        text(&cluster.swell(&arguments).unwrap())
    };

    // An earlier release, watched to its end.
    cluster.deploy_with("1.0.0", &["--via", &via, "--watch"]).unwrap();
    ends(&cluster, 3, RolloutPhase::Complete);
    all_serve(&cluster, "1.0.0");
    // Forward again: held, let go, hurried, and taken back.
    cluster.deploy_with("2.0.0", &["--via", &via]).unwrap();
    swell(&["pause", "web/production", "--reason", "look"]);
    ends(&cluster, 4, RolloutPhase::Paused);
    assert!(swell(&["explain", "web/production"]).contains("paused"));
    swell(&["resume", "web/production"]);
    ends(&cluster, 4, RolloutPhase::Running);
    swell(&["abort", "web/production", "--reason", "enough"]);
    ends(&cluster, 4, RolloutPhase::Aborted);
    all_serve(&cluster, "1.0.0");
    // What was aborted goes out again only where somebody says so.
    swell(&["retry", "web/production", "--yes"]);
    swell(&["promote", "web/production"]);
    assert!(swell(&["watch", "web/production"]).contains("complete"));
    ends(&cluster, 5, RolloutPhase::Complete);
    all_serve(&cluster, "2.0.0");
    swell(&["rollback", "web", "--env", "production", "--reason", "slow", "--yes"]);
    ends(&cluster, 6, RolloutPhase::Complete);
    all_serve(&cluster, "1.0.0");
    // And what there is to see.
    assert!(swell(&["status"]).contains("1.0.0"));
    assert!(swell(&["hosts"]).contains("host-3"));
    let history = swell(&["history", "web"]);
    for version in ["1.0.0", "2.0.0"] {
        assert!(history.contains(version), "{history}");
    }
}

/// R3, R9: what the fleet knows comes back, and with it what may not be done a second time.
#[test]
fn a_coordinator_without_its_state_is_rebuilt_from_one_host() {
    let (_directory, mut cluster) = fleet(2);
    deploy_and_complete(&cluster, "1.0.0", 1);
    deploy_and_complete(&cluster, "2.0.0", 2);
    cluster
        .swell(&["rollback", "web", "--env", "production", "--reason", "slow", "--yes"])
        .unwrap();
    ends(&cluster, 3, RolloutPhase::Complete);
    // Also to the one that will be asked.
    let via = format!("{}:7070", cluster.agents()[0].address);
    cluster.swell(&["watch", "web/production", "--via", &via]).unwrap();
    cluster.kill_coordinator().unwrap();
    // Not over a state that is there.
    let refused = cluster.recover_coordinator(&cluster.agents()[0]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("is not empty"), "{}", text(&refused));
    std::fs::remove_dir_all(cluster.coordinator_state()).unwrap();

    let recovered = cluster.recover_coordinator(&cluster.agents()[0]).unwrap();
    let told = text(&recovered);
    assert!(recovered.status.success(), "{told}");
    for line in [
        "statements: root 1, host 2, release 2, rollout 3;",
        "web/production: rollouts 3, the newest is epoch 3 to 1.0.0, complete",
        "artifacts: whole 2, missing 0",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    cluster.start_coordinator().unwrap();
    all_are_heard(&cluster);

    assert!(text(&cluster.swell(&["status"]).unwrap()).contains("1.0.0"));
    let history = text(&cluster.swell(&["history", "web"]).unwrap());
    assert!(history.contains("2.0.0"), "{history}");
    let tokens = cluster.swell(&["token", "list", "--json"]).unwrap();
    assert_eq!(String::from_utf8_lossy(&tokens.stdout).trim(), "[]");
    let other = cluster.try_publish("2.0.0", Behaviour::Broken).unwrap();
    assert_eq!(other.status.code(), Some(1), "{}", text(&other));
    deploy_and_complete(&cluster, "3.0.0", 4);
}
