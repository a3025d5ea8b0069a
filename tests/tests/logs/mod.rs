//! What hosts keep of their attempts, as an operator reads it.

use std::io::Write as _;
use std::path::Path;

use fleet_tests::cluster::{Cluster, wait_until};
use proto::evidence::Evidence;
use proto::receipt::{Cause, State};
use proto::report::{RolloutPhase, RolloutReport};
use serde::Deserialize;

use crate::common::{all_serve, deploy_and_complete, fleet};

/// What stands in every `shared/env` here, and must leave no host.
const SECRET: &str = "hunter2hunter2";

/// An element of `swell logs --json`.
#[derive(Deserialize)]
struct Told {
    name: String,
    evidence: Option<Evidence>,
}

/// Hands in 2.0.0, of which the first host that checks it takes it for good, and no other: all are of
/// this machine.
fn publish_good_on_one(cluster: &Cluster, directory: &Path) {
    let (build, config) = (directory.join("build-1.0.0"), directory.join("swell.toml"));
    std::fs::write(build.join("VERSION"), "2.0.0").unwrap();
    let first = directory.join("first").display().to_string();
    let hooks = format!(
        "check = 'echo checking with $TOKEN; mkdir {first} 2>/dev/null || {{ echo no good with $TOKEN; exit 3; }}'\n\
         after_commit = 'echo settled with $TOKEN'\n[health]\n"
    );
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[health]\n", &hooks)).unwrap();
    let (build, config) = (build.display().to_string(), config.display().to_string());
    cluster.swell(&["publish", &build, "--version", "2.0.0", "--config", &config]).unwrap();
}

fn logs(cluster: &Cluster, more: &[&str]) -> anyhow::Result<String> {
    let output = cluster.swell(&[&["logs", "web/production"], more].concat())?;
    Ok(String::from_utf8(output.stdout)?)
}

/// All attempts that are kept, once there are so many.
fn attempts(cluster: &Cluster, count: usize) -> Vec<(String, Evidence)> {
    wait_until("all attempts are kept", || {
        let told: Vec<Told> = serde_json::from_str(&logs(cluster, &["--json"])?)?;
        let kept = told.into_iter().filter_map(|one| Some((one.name, one.evidence?)));
        let kept: Vec<_> = kept.collect();
        Ok((kept.len() == count).then_some(kept))
    })
    .unwrap()
}

fn saw(evidence: &Evidence, what: &str) -> bool {
    evidence.samples.iter().any(|sample| sample.text.starts_with(what))
}

#[test]
fn the_logs_of_a_rollout_are_had_from_its_hosts_whether_it_went_well_or_not() {
    let (directory, mut cluster) = fleet(2);
    for index in 0..2 {
        let env = cluster.service_dir(index).join("shared/env");
        let mut env = std::fs::File::options().append(true).open(env).unwrap();
        writeln!(env, "TOKEN={SECRET}").unwrap();
    }
    deploy_and_complete(&cluster, "1.0.0", 1);
    let good = attempts(&cluster, 2);
    assert!(good.iter().all(|(_, one)| one.state == State::Committed), "{good:#?}");
    let shown = logs(&cluster, &[]).unwrap();
    assert!(
        shown.contains("\nhost-1  1        1.0.0    ") && !shown.contains("logs of"),
        "{shown}"
    );

    publish_good_on_one(&cluster, directory.path());
    cluster.deploy("2.0.0").unwrap();
    let halted = |one: &RolloutReport| one.epoch == 2 && one.phase == RolloutPhase::Halted;
    cluster.wait_for_rollout("the fleet halts", halted).unwrap();
    all_serve(&cluster, "1.0.0");
    let all = attempts(&cluster, 3);
    let bad = all.iter().find(|(_, one)| one.cause == Some(Cause::Release)).unwrap();
    let own: Vec<_> = all.iter().filter(|(name, _)| *name != bad.0).collect();
    let [(canary, committed), (_, gone)] = own[..] else { panic!("{all:#?}") };

    // What it said and did, on the host where it failed, and where it was well until the fleet went back.
    let (name, bad) = bad;
    assert!(bad.log.ends_with("\n") && bad.log.contains("\nno good with ***\n"), "{}", bad.log);
    assert!(
        saw(bad, "check: exited 3 after ") && saw(bad, "start: done in "),
        "{:#?}",
        bad.samples
    );
    assert!(bad.log.starts_with("== stop in "), "what ran before was stopped: {}", bad.log);
    assert_eq!((committed.state, committed.attempt), (State::Committed, 2));
    assert!(saw(committed, "after_commit: done in "), "{:#?}", committed.samples);
    assert!(committed.log.ends_with("\nsettled with ***\n"), "{}", committed.log);
    assert_eq!((gone.state, gone.cause, gone.attempt), (State::Reverted, Some(Cause::Fleet), 3));
    assert!(saw(gone, "step: going back"), "{:#?}", gone.samples);

    cluster.kill_coordinator().unwrap();
    let via = format!("{}:7070", cluster.agents()[0].address);
    let shown = logs(&cluster, &["--via", &via]).unwrap();
    let part =
        format!("\nlogs of {name}, attempt 2, 2.0.0, reverted: check exited 3: no good with ***\n");
    assert!(shown.contains(&part), "{part:?} is not in {shown}");
    assert!(!shown.contains(&format!("logs of {canary}")), "in a line: {shown}");
    let shown = logs(&cluster, &["--host", canary, "--via", &via]).unwrap();
    for part in [
        format!("\nlogs of {canary}, attempt 2, 2.0.0, committed"),
        format!("\nlogs of {canary}, attempt 3, 2.0.0, reverted with the fleet"),
        " UTC\n  checking with ***\n".to_owned(),
    ] {
        assert!(shown.contains(&part), "{part:?} is not in {shown}");
    }
    assert!(!shown.contains(SECRET) && !format!("{all:?}").contains(SECRET), "{shown}");
}
