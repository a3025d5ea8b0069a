//! A fleet of real processes, as an operator uses it: what the demo does not show.
//!
//! Slow by nature (seconds each) and few; what can be proven without processes is proven elsewhere.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not recognised as such")]

mod audit;
mod chronicle;
mod common;
mod delta;
mod doctor;
mod fetching;
mod logs;
mod manager;
mod monitoring;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use agent::activate::Lease;
use common::{all_are_heard, all_serve, deploy_and_complete, fleet, issued_days_ago};
use fleet_tests::cluster::{Behaviour, Cluster, wait_until};
use fleet_tests::traffic::{Traffic, ask};
use proto::receipt::State;
use proto::report::{DiskReport, Fate, RolloutPhase, RolloutReport, StandingReport};
use proto::statement::{Action, Directive, Freeze, Revocation};
use proto::{HostId, UnixTime};

fn now() -> UnixTime {
    UnixTime(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

#[test]
fn an_operator_pauses_resumes_and_aborts_through_an_agent_without_the_coordinator() {
    let (_directory, mut cluster) = fleet(3);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    cluster.deploy("2.0.0").unwrap();
    cluster
        .wait_for_rollout("2.0.0 is self-supporting", |one| one.epoch == 2 && one.self_supporting)
        .unwrap();
    cluster.kill_coordinator().unwrap();

    let via = format!("{}:7070", cluster.agents()[1].address);
    cluster.swell(&["pause", "web/production", "--reason", "look", "--via", &via]).unwrap();
    cluster.wait_for_rollout("it is paused", |one| one.phase == RolloutPhase::Paused).unwrap();
    // The bake of the canary is six seconds: had its clock gone on, it would have committed.
    std::thread::sleep(std::time::Duration::from_secs(8));
    let report = cluster.status().unwrap();
    let paused = &report.rollouts[0];
    let committed = paused.hosts.iter().filter(|host| host.state == Some(State::Committed));
    assert_eq!(committed.count(), 0, "clocks stand still in a pause: {paused:#?}");

    cluster.swell(&["resume", "web/production", "--via", &via]).unwrap();
    cluster.wait_for_rollout("it runs again", |one| one.phase == RolloutPhase::Running).unwrap();
    cluster.swell(&["abort", "web/production", "--reason", "enough", "--via", &via]).unwrap();
    cluster.wait_for_rollout("it is aborted", |one| one.phase == RolloutPhase::Aborted).unwrap();
    all_serve(&cluster, "1.0.0");
}

/// A full disk takes the logs first: nobody dies of that.
#[test]
fn daemons_outlive_their_logs() {
    let (directory, mut cluster) = fleet(1);
    cluster.kill_coordinator().unwrap();
    cluster.kill_agent(0).unwrap();
    for name in ["coordinator.log", "host-1.log"] {
        let log = directory.path().join(name);
        std::fs::remove_file(&log).unwrap();
        std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    }
    cluster.start_coordinator().unwrap();
    cluster.start_agent(0).unwrap();
    all_are_heard(&cluster);
    deploy_and_complete(&cluster, "1.0.0", 1);
}

/// What fills a disk may be the release that must go.
#[test]
fn a_host_that_cannot_write_its_record_goes_back_all_the_same_and_says_so_later() {
    let (_directory, cluster) = fleet(2);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    cluster.deploy("2.0.0").unwrap();
    let bakes = |state: Option<State>| state == Some(State::Baking);
    let report = cluster
        .wait_for_rollout("the canary bakes", |one| {
            one.epoch == 2 && one.hosts.iter().any(|host| bakes(host.state))
        })
        .unwrap();
    let canary = report.hosts.iter().find(|host| bakes(host.state)).unwrap();
    let index = cluster.agents().iter().position(|agent| agent.name == canary.name.as_str());
    let index = index.unwrap();
    // A directory stands where the record belongs: no rename gets past it.
    let record = cluster.state_dir(index).join("services/rollouts/web.json");
    std::fs::remove_file(&record).unwrap();
    std::fs::create_dir(&record).unwrap();
    cluster.swell(&["abort", "web/production", "--reason", "enough"]).unwrap();
    all_serve(&cluster, "1.0.0");
    let stands = |host: &StandingReport| host.host == canary.host;
    let report = cluster.status().unwrap();
    let told = report.rollouts[0].hosts.iter().find(|host| stands(host)).unwrap();
    assert!(bakes(told.state), "nothing is published that is not on disk: {told:?}");

    std::fs::remove_dir(&record).unwrap();
    cluster
        .wait_for_rollout("it says that it went back", |one| {
            one.hosts.iter().any(|host| stands(host) && host.state == Some(State::Reverted))
        })
        .unwrap();
    assert!(record.is_file());
}

#[test]
fn an_operator_rolls_a_complete_rollout_back() {
    let (_directory, cluster) = fleet(2);
    deploy_and_complete(&cluster, "1.0.0", 1);
    deploy_and_complete(&cluster, "2.0.0", 2);
    cluster
        .swell(&["rollback", "web", "--env", "production", "--reason", "slow queries", "--yes"])
        .unwrap();
    cluster
        .wait_for_rollout("the rollback is complete", |one| {
            one.epoch == 3 && one.phase == RolloutPhase::Complete
        })
        .unwrap();
    all_serve(&cluster, "1.0.0");
    // Both are the newest there are, so clearing away by hand leaves them where they lie (R29).
    let disk = wait_until("all pieces are here", || {
        let told = cluster.swell(&["host", "gc", "host-1", "--json"])?;
        let disk: DiskReport = serde_json::from_slice(&told.stdout)?;
        Ok(disk.artifacts.iter().all(|one| one.bytes == one.of_bytes).then_some(disk))
    })
    .unwrap();
    let web = &disk.services[0];
    let fates: Vec<_> = web.releases.iter().map(|one| (one.version.as_str(), one.fate)).collect();
    assert_eq!(fates, [("1.0.0", Fate::Current), ("2.0.0", Fate::From)], "{disk:#?}");
    assert!(web.releases.iter().all(|one| one.files > 0) && web.note.is_empty(), "{disk:#?}");
    assert!(disk.artifacts.iter().all(|one| !one.goes), "{disk:#?}");
    let names = disk.artifacts.iter().flat_map(|one| &one.releases);
    let names: BTreeSet<&str> = names.map(String::as_str).collect();
    assert!(names.is_superset(&BTreeSet::from(["web 1.0.0", "web 2.0.0"])), "{disk:#?}");
    assert_eq!(disk.free.len(), 2, "{disk:#?}");
}

#[test]
fn an_agent_killed_at_any_moment_finishes_and_its_service_goes_on() {
    let (_directory, mut cluster) = fleet(2);
    deploy_and_complete(&cluster, "1.0.0", 1);
    for index in 0..2 {
        cluster.kill_agent(index).unwrap();
        let address = cluster.agents()[index].address;
        assert_eq!(ask(address).as_deref(), Some("1.0.0"), "a service needs no agent");
        cluster.start_agent(index).unwrap();
    }
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    // A host that has just come back is silent until it was heard a few times, and left out.
    wait_until("both hosts take part", || {
        let report = cluster.status()?;
        Ok(report.hosts.iter().all(|host| host.alive).then(|| cluster.deploy("2.0.0")))
    })
    .unwrap()
    .unwrap();
    // Again and again, in whatever it is doing: fetching, staging, activating, baking.
    for round in 0..12 {
        std::thread::sleep(std::time::Duration::from_millis(150 + 97 * round));
        for index in 0..2 {
            cluster.kill_agent(index).unwrap();
            cluster.start_agent(index).unwrap();
        }
    }
    // Either it got through, or a kill in the middle of an activation took a host back and halted
    // the rollout; in both cases every host ends on one whole version.
    let ended = cluster
        .wait_for_rollout("the rollout ends", |one| {
            one.epoch == 2 && matches!(one.phase, RolloutPhase::Complete | RolloutPhase::Halted)
        })
        .unwrap();
    match ended.phase {
        RolloutPhase::Complete => all_serve(&cluster, "2.0.0"),
        _ => all_serve(&cluster, "1.0.0"),
    }
}

/// An agent that starts leaves alone what a guard is moving, for as long as that takes.
#[test]
fn r19_an_agent_waits_until_a_guard_is_done() {
    let (_directory, mut cluster) = fleet(1);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.kill_agent(0).unwrap();
    let lease = cluster.state_dir(0).join("services/activations/web.lock");
    let guard = Lease::take(&lease, std::time::Duration::ZERO).unwrap().expect("it was killed");
    cluster.start_agent(0).unwrap();
    let log = |cluster: &Cluster| cluster.log(&cluster.agents()[0].name);
    let says = |what| Ok(log(&cluster).contains(what).then_some(()));
    wait_until("it says that it waits", || says("another process moves it")).unwrap();
    assert!(!log(&cluster).contains("recovered"), "{}", log(&cluster));
    drop(guard);
    wait_until("it goes on", || says("recovered")).unwrap();
}

/// It need not hear of itself from others first, of whom there may be none.
#[test]
fn r17_what_a_host_concludes_from_its_own_receipt_is_proven_at_once() {
    let (_directory, cluster) = fleet(1);
    deploy_and_complete(&cluster, "1.0.0", 1);
    let log = cluster.log(&cluster.agents()[0].name);
    assert!(log.contains("certificate made") && !log.contains("not enough receipts"), "{log}");
}

#[test]
fn a_version_that_ends_at_once_never_replaces_the_one_before() {
    let (_directory, cluster) = fleet(2);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.publish("2.0.0", Behaviour::Crash).unwrap();
    cluster.deploy("2.0.0").unwrap();
    let halted = cluster
        .wait_for_rollout("the fleet halts", |one| {
            one.epoch == 2 && one.phase == RolloutPhase::Halted
        })
        .unwrap();
    let failed = halted.hosts.iter().find(|host| host.state == Some(State::Reverted)).unwrap();
    assert!(failed.note.contains("start"), "the evidence names the step: {:?}", failed.note);
    all_serve(&cluster, "1.0.0");
    its_evidence_is_shown(&cluster, &halted, failed);
}

/// By the coordinator and by another host, as text and as JSON; on the disk it is one file, of root's.
fn its_evidence_is_shown(cluster: &Cluster, halted: &RolloutReport, failed: &StandingReport) {
    let name = failed.name.as_str();
    let explain = |more: &[&str]| {
        let all = [&["explain", "web/production", "--host", name], more].concat();
        cluster.swell(&all).map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let shown = wait_until("the evidence is kept", || {
        let shown = explain(&[])?;
        Ok(shown.contains("told of by receipt").then_some(shown))
    })
    .unwrap();
    let title = format!("logs of {name}, attempt 2, 2.0.0, reverted: {}\n", failed.note.trim_end());
    for part in [title.as_str(), "  step: swapped\n", "\noutput of its commands", "== start in "] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let index = cluster.agents().iter().position(|agent| agent.name == name).unwrap();
    for via in cluster.agents().iter().map(|agent| format!("{}:7070", agent.address)) {
        let json: serde_json::Value =
            serde_json::from_str(&explain(&["--json", "--via", &via]).unwrap()).unwrap();
        assert_eq!(json["id"], serde_json::to_value(halted.id).unwrap());
        let [one] = &json["evidence"].as_array().unwrap()[..] else { panic!("{json}") };
        assert_eq!((&one["name"], &one["evidence"]["attempt"]), (&name.into(), &2.into()));
        // `LISTEN` is a value of its shared/env like any other.
        let listen = format!("{}:8080", cluster.agents()[index].address);
        assert!(!one["evidence"].to_string().contains(&listen), "{one}");
        let path = std::path::PathBuf::from(one["path"].as_str().unwrap());
        assert_eq!(path.parent().unwrap(), cluster.state_dir(index).join("evidence/web"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "with 1.0.0's");
    }
}

#[test]
fn a_host_that_joins_later_catches_up() {
    let (_directory, mut cluster) = fleet(2);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.add_agents(1).unwrap();
    all_serve(&cluster, "1.0.0");
}

/// It was there before anything of ours, and keeps its process through its adoption.
#[test]
fn what_runs_already_is_adopted_without_a_restart_and_gone_back_to() {
    let (directory, cluster) = fleet(3);
    cluster.publish("1.0.0", Behaviour::Good).unwrap();
    let by_hand = directory.path().join("build-1.0.0/bin/demo-service");
    for (index, agent) in cluster.agents().iter().enumerate() {
        let started = std::process::Command::new(&by_hand)
            .arg("start")
            .env("SWELL_SHARED", cluster.service_dir(index).join("shared"))
            .env("LISTEN", format!("{}:8080", agent.address))
            .status();
        assert!(started.unwrap().success());
    }
    let processes = || -> Vec<_> {
        let pid = |index| cluster.service_dir(index).join("shared/demo.pid");
        (0..3).map(|index| std::fs::read_to_string(pid(index)).unwrap()).collect()
    };
    let before = processes();
    let config = directory.path().join("swell.toml").display().to_string();
    let goal = ["web", "1.0.0", "--env", "production", "--yes", "--config", &config];
    cluster.swell(&[&["adopt"], &goal[..]].concat()).unwrap();
    let complete = |epoch| {
        move |one: &RolloutReport| one.epoch == epoch && one.phase == RolloutPhase::Complete
    };
    cluster.wait_for_rollout("it is adopted", complete(1)).unwrap();
    assert_eq!(processes(), before, "nobody has stopped or started it");
    for index in 0..3 {
        let version = cluster.service_dir(index).join("current/VERSION");
        assert_eq!(std::fs::read_to_string(version).unwrap(), "1.0.0");
    }
    let again = cluster.try_swell(&[&["adopt"], &goal[..]].concat()).unwrap();
    assert_eq!(again.status.code(), Some(1), "{again:?}");

    cluster.publish("2.0.0", Behaviour::Crash).unwrap();
    cluster.deploy("2.0.0").unwrap();
    let halted = |one: &RolloutReport| one.epoch == 2 && one.phase == RolloutPhase::Halted;
    cluster.wait_for_rollout("2.0.0 is stopped at the canary", halted).unwrap();
    all_serve(&cluster, "1.0.0");
    let moved = processes().iter().zip(&before).filter(|(now, then)| now != then).count();
    assert_eq!(moved, 1, "the canary runs it from `current` now");
}

/// R24: what no health check sees, requests show, on the one host that has the release.
#[test]
fn r24_a_version_that_fails_some_requests_goes_back_by_its_error_share() {
    let (_directory, mut cluster) = fleet(3);
    cluster.count_requests();
    deploy_and_complete(&cluster, "1.0.0", 1);
    let _traffic = Traffic::start(cluster.agents().iter().map(|agent| agent.address));
    cluster.publish("2.0.0", Behaviour::Flaky).unwrap();
    cluster.deploy("2.0.0").unwrap();
    let report = cluster
        .wait_for_rollout("the fleet halts", |one| {
            one.epoch == 2 && one.phase == RolloutPhase::Halted
        })
        .unwrap();
    let failed: Vec<_> = report.hosts.iter().filter(|host| host.note.contains("errors")).collect();
    let [canary] = failed[..] else { panic!("one host had it, and says why: {report:#?}") };
    assert_eq!((canary.wave, canary.state), (0, Some(State::Reverted)), "{canary:?}");
    let explained = cluster.swell(&["explain", "web/production"]).unwrap();
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains(&canary.note), "{explained}");
    for part in ["worse: errors ", " % of ", ", old release 0.00 % of ", ", at most 1 % above it"] {
        assert!(canary.note.contains(part), "{part:?} is not in {:?}", canary.note);
    }
    all_serve(&cluster, "1.0.0");
}

#[test]
fn a_host_that_joins_under_a_halted_rollout_serves_what_the_others_serve() {
    let (_directory, mut cluster) = fleet(2);
    deploy_and_complete(&cluster, "1.0.0", 1);
    let late = cluster.try_swell(&["abort", "web/production", "--reason", "slip"]).unwrap();
    assert_eq!(late.status.code(), Some(1), "a complete rollout is not aborted: {late:?}");
    cluster.publish("2.0.0", Behaviour::Broken).unwrap();
    cluster.deploy("2.0.0").unwrap();
    cluster
        .wait_for_rollout("the fleet halts", |one| {
            one.epoch == 2 && one.phase == RolloutPhase::Halted
        })
        .unwrap();
    cluster.add_agents(1).unwrap();
    all_serve(&cluster, "1.0.0");
}

#[test]
fn a_host_that_never_meets_the_coordinator_takes_part() {
    let (_directory, mut cluster) = fleet(3);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.kill_agent(2).unwrap();
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    // The third host is away: the two others are the cohort.
    wait_until("the third host is missed", || {
        let alive = cluster.status()?.hosts.iter().filter(|host| host.alive).count();
        Ok((alive == 2).then_some(()))
    })
    .unwrap();
    cluster.deploy("2.0.0").unwrap();
    cluster
        .wait_for_rollout("2.0.0 is self-supporting", |one| one.epoch == 2 && one.self_supporting)
        .unwrap();
    cluster.kill_coordinator().unwrap();
    cluster.start_agent(2).unwrap();
    // Statements, certificate and artifact come from its peers, and so does the whole of the rest.
    all_serve(&cluster, "2.0.0");
}

#[test]
fn r9_a_certificate_is_renewed_from_a_third_of_its_life_on() {
    let (directory, mut cluster) = fleet(1);
    cluster.kill_agent(0).unwrap();
    issued_days_ago(&cluster, directory.path(), 0, 60);
    cluster.start_agent(0).unwrap();
    let path = cluster.state_dir(0).join("host.crt");
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let ends = |der: &[u8]| net::certificate::facts(der).unwrap().not_after;
    wait_until("the certificate is renewed", || {
        let renewed = std::fs::read(&path)?;
        Ok((ends(&renewed).0 > now + 80 * 86_400).then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", cluster.log("host-1")));
    all_are_heard(&cluster);
}

/// By its index and id.
fn host_named(cluster: &Cluster, name: &str) -> (usize, HostId) {
    let index = cluster.agents().iter().position(|agent| agent.name == name).unwrap();
    let report = cluster.status().unwrap();
    let host = report.hosts.iter().find(|host| host.name.as_str() == name).unwrap();
    (index, host.id.clone())
}

#[test]
fn r9_a_removed_host_is_let_in_no_more_and_the_rollout_goes_on_without_it() {
    let (_directory, cluster) = fleet(3);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    cluster.deploy("2.0.0").unwrap();
    let report = cluster.wait_for_rollout("the second one began", |one| one.epoch == 2).unwrap();
    let last = report.hosts.last().unwrap().name.to_string();
    let (index, host) = host_named(&cluster, &last);
    let removal = Revocation {
        fleet: cluster.status().unwrap().fleet,
        env: "production".parse().unwrap(),
        host: host.clone(),
        author: cluster.operator().unwrap(),
        created: now(),
        reason: "sold".to_owned(),
        critical: Vec::new(),
    };
    // At another agent: it finds its way to all others.
    let via = &cluster.agents()[(index + 1) % 3];
    cluster.submit(&removal, Some(via)).unwrap();
    let words = format!("host {host} was removed from the fleet: sold");
    for (name, member) in [("coordinator", None), (&*via.name, Some(via))] {
        wait_until(&format!("{name} refuses it"), || {
            let refused = |line: &str| line.contains("refused") && line.contains(&words);
            Ok(cluster.log(name).lines().any(refused).then_some(()))
        })
        .unwrap();
        wait_until(&format!("{name} counts it as gone"), || {
            let report = cluster.status_via(member)?;
            Ok(report.hosts.iter().any(|one| one.id == host && !one.alive).then_some(()))
        })
        .unwrap();
    }
    let done = |one: &RolloutReport| one.epoch == 2 && one.phase == RolloutPhase::Complete;
    cluster.wait_for_rollout("2.0.0 is complete", done).unwrap();
    for agent in cluster.agents() {
        let expected = if agent.name == last { "1.0.0" } else { "2.0.0" };
        wait_until(&format!("{} serves {expected}", agent.name), || {
            Ok(ask(agent.address).filter(|answer| answer == expected))
        })
        .unwrap();
    }
}

/// The fleet is told what `agent.toml` does not allow: it plans without that host, and what is allowed
/// again follows by itself.
#[test]
fn r23_a_host_that_does_not_allow_the_service_is_left_out_until_it_does() {
    let (directory, mut cluster) = fleet(3);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.kill_agent(2).unwrap();
    cluster.allow_services(2, Some(&["other"])).unwrap();
    cluster.remove_service(2).unwrap();
    cluster.start_agent(2).unwrap();
    let shown = |arguments: &[&str]| {
        let output = cluster.swell(arguments)?;
        anyhow::Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    wait_until("the fleet is told", || {
        let hosts = shown(&["hosts"])?;
        Ok(hosts.contains("  web - (not allowed by agent.toml)\n").then_some(()))
    })
    .unwrap();
    all_are_heard(&cluster);
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    let config = directory.path().join("swell.toml").display().to_string();
    let plan =
        shown(&["plan", "web", "2.0.0", "--env", "production", "--config", &config]).unwrap();
    let why = "  left out, agent.toml there does not allow the service: host-3\n";
    assert!(plan.contains(why), "{plan}");

    cluster.deploy("2.0.0").unwrap();
    let done = |one: &RolloutReport| one.epoch == 2 && one.phase == RolloutPhase::Complete;
    let report = cluster.wait_for_rollout("2.0.0 is complete without it", done).unwrap();
    assert_eq!(report.hosts.len(), 2);
    assert_eq!(ask(cluster.agents()[2].address), None, "nothing was started there");

    cluster.kill_agent(2).unwrap();
    cluster.allow_services(2, None).unwrap();
    cluster.start_agent(2).unwrap();
    all_serve(&cluster, "2.0.0");
}

/// The proof of what was stopped outlives the rollout that came after it.
#[test]
fn r17_a_host_that_was_away_hears_of_a_halt_in_a_rollout_that_was_replaced() {
    let (_directory, mut cluster) = fleet(3);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.publish("2.0.0", Behaviour::Broken).unwrap();
    cluster.deploy("2.0.0").unwrap();
    let report = cluster.wait_for_rollout("the second one began", |one| one.epoch == 2).unwrap();
    let (away, host) = host_named(&cluster, report.hosts.last().unwrap().name.as_str());
    cluster.kill_agent(away).unwrap();
    let halted = |one: &RolloutReport| one.epoch == 2 && one.phase == RolloutPhase::Halted;
    cluster.wait_for_rollout("the fleet halts", halted).unwrap();
    wait_until("the one that is away is missed", || {
        let report = cluster.status()?;
        Ok(report.hosts.iter().any(|one| one.id == host && !one.alive).then_some(()))
    })
    .unwrap();
    cluster.publish("3.0.0", Behaviour::Good).unwrap();
    cluster.deploy("3.0.0").unwrap();
    let done = |one: &RolloutReport| one.epoch == 3 && one.phase == RolloutPhase::Complete;
    cluster.wait_for_rollout("3.0.0 is complete", done).unwrap();

    let record = cluster.state_dir(away).join("services/rollouts/web.json");
    let boxes = || -> anyhow::Result<usize> {
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&record)?)?;
        Ok(record["boxes"].as_array().map_or(0, Vec::len))
    };
    assert_eq!(boxes().unwrap(), 0, "it was away when the proof was made");
    cluster.start_agent(away).unwrap();
    wait_until("it knows what was stopped", || Ok((boxes()? == 1).then_some(()))).unwrap();
    all_serve(&cluster, "3.0.0");
}

/// It may be half way, so the canary that fell silent holds up everybody, until a person says that
/// nobody waits for it; and since nobody else has shown that the release is good, until a person says
/// that, too.
#[test]
fn r15_a_skip_lets_a_rollout_go_on_without_a_host_that_was_killed() {
    let (_directory, mut cluster) = fleet(3);
    deploy_and_complete(&cluster, "1.0.0", 1);
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    cluster.deploy("2.0.0").unwrap();
    let canary = |one: &RolloutReport| one.hosts.first().and_then(|host| host.state);
    let report = cluster
        .wait_for_rollout("the canary bakes", |one| {
            one.epoch == 2 && canary(one) == Some(State::Baking)
        })
        .unwrap();
    let (index, host) = host_named(&cluster, report.hosts[0].name.as_str());
    cluster.kill_agent(index).unwrap();
    let skip = Directive {
        fleet: cluster.status().unwrap().fleet,
        rollout: report.id,
        sequence: 1,
        action: Action::Skip,
        wave: None,
        host: Some(host),
        author: cluster.operator().unwrap(),
        created: now(),
        reason: "its power supply burned".to_owned(),
        critical: Vec::new(),
    };
    cluster.submit(&skip, Some(&cluster.agents()[(index + 1) % 3])).unwrap();
    let unproven = |one: &RolloutReport| one.why.contains("no host of waves up to 1 committed");
    cluster.wait_for_rollout("nobody waits for the canary", unproven).unwrap();
    cluster.swell(&["promote", "web/production"]).unwrap();
    let done = |one: &RolloutReport| one.epoch == 2 && one.phase == RolloutPhase::Complete;
    cluster.wait_for_rollout("2.0.0 is complete", done).unwrap();
    all_serve(&cluster, "2.0.0");
}

#[test]
fn r6_a_freeze_holds_a_rollout_until_it_is_lifted() {
    let (_directory, cluster) = fleet(2);
    deploy_and_complete(&cluster, "1.0.0", 1);
    let freeze = |sequence, lasts_s| Freeze {
        fleet: cluster.status().unwrap().fleet,
        env: "production".parse().unwrap(),
        host: None,
        sequence,
        until: now().plus_s(lasts_s),
        author: cluster.operator().unwrap(),
        created: now(),
        reason: "the audit".to_owned(),
        critical: Vec::new(),
    };
    cluster.submit(&freeze(1, 3_600), Some(&cluster.agents()[0])).unwrap();
    for index in 0..2 {
        let record = cluster.state_dir(index).join("services/rollouts/web.json");
        wait_until("the freeze is on every host", || {
            let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&record)?)?;
            Ok(record["frozen_until"].is_u64().then_some(()))
        })
        .unwrap();
    }
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    cluster.deploy("2.0.0").unwrap();
    cluster
        .wait_for_rollout("all have it and wait", |one| {
            let staged = |state: Option<State>| state == Some(State::Staged);
            one.epoch == 2 && one.hosts.iter().all(|host| staged(host.state))
        })
        .unwrap();
    // The canary would start within a second.
    std::thread::sleep(std::time::Duration::from_secs(4));
    for agent in cluster.agents() {
        assert_eq!(ask(agent.address).as_deref(), Some("1.0.0"), "{}", agent.name);
    }
    cluster.submit(&freeze(2, 0), None).unwrap();
    let done = |one: &RolloutReport| one.epoch == 2 && one.phase == RolloutPhase::Complete;
    cluster.wait_for_rollout("2.0.0 is complete", done).unwrap();
    all_serve(&cluster, "2.0.0");
}
