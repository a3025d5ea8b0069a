//! `adopt`: what is signed, and what is refused before anything is.

use proto::statement::{Health, Release};

use super::*;

const GOAL: [&str; 4] = ["web", "1.0.0", "--env", "production"];

/// Of what runs, with something that tells whether it does.
fn what_runs(fleet: &Fleet) -> Release {
    let http = Some("http://127.0.0.1:8080/healthz".to_owned());
    Release { health: Health { http, ..Health::default() }, ..fleet.release("1.0.0") }
}

/// The first rollout of the scope, which adopts that release.
fn adoption(fleet: &Fleet) -> Rollout {
    let mut rollout = first_rollout(fleet);
    rollout.to.release = what_runs(fleet).envelope().id();
    (rollout.adopt, rollout.critical) = (true, vec!["adopt".to_owned()]);
    rollout
}

fn coordinator(fleet: &Fleet, release: &Release, facts: &ScopeFacts) -> Member {
    let release = fleet.sign(release, &["publisher.key", "coordinator/admit.key"]);
    let (facts, rollout) = (facts.clone(), facts.rollout.clone().unwrap_or_default());
    let report = facts.report.clone();
    fleet.coordinator(move |request: &ControlRequest| match request {
        ControlRequest::Rollout(_) => ControlReply::Rollout(Box::new(report.clone().unwrap())),
        ControlRequest::Statement { id } => {
            let parsed = Envelope::parse(&rollout, 1 << 20);
            let envelope = match parsed.is_ok_and(|envelope| envelope.id() == *id) {
                true => rollout.clone(),
                false => release.clone(),
            };
            ControlReply::Statement { envelope }
        }
        ControlRequest::Release { .. } => ControlReply::Statement { envelope: release.clone() },
        ControlRequest::Scope(_) => ControlReply::Scope(Box::new(facts.clone())),
        other => submitted(other),
    })
}

fn swell(fleet: &Fleet, verb: &[&str]) -> std::process::Output {
    fleet.swell(&[verb, &GOAL[..]].concat())
}

/// The facts with a rollout that stands like this.
fn facts(fleet: &Fleet, rollout: &Rollout, phase: RolloutPhase) -> ScopeFacts {
    let envelope = fleet.sign(rollout, &["operator.key"]);
    let id = Envelope::parse(&envelope, 1 << 20).unwrap().id();
    let report = RolloutReport { id, ..report(fleet, phase, [None, None]) };
    let halted = phase == RolloutPhase::Halted;
    let stopped = if halted { vec![(id, rollout.to.release)] } else { Vec::new() };
    let (rollout, report) = (Some(envelope), Some(report));
    ScopeFacts { rollout, report, stopped, ..first_facts(fleet) }
}

#[test]
fn what_runs_is_adopted_by_the_waves_of_the_file_as_a_word_of_its_own() {
    let fleet = Fleet::new();
    let toml = String::from_utf8(SWELL_TOML.to_vec()).unwrap();
    write(&fleet, "swell.toml", format!("{toml}on_failure = 'pause'\n").as_bytes());
    let release = what_runs(&fleet);
    let member = coordinator(&fleet, &release, &first_facts(&fleet));
    let output = swell(&fleet, &["adopt"]);
    assert_eq!(output.status.code(), Some(2), "nobody said yes: {}", text(&output));
    assert!(member.submitted().is_empty());
    let output = swell(&fleet, &["adopt", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for part in [
        "web (none) -> 1.0.0 in production (adoption), epoch 1\n",
        "wave 1: 1 host (1 of 2), bakes 1 min",
        "note: an adoption: nothing is stopped or started",
        "failure   every host is left as it was found; what runs runs on\n",
    ] {
        assert!(text(&output).contains(part), "{part}: {}", text(&output));
    }
    let mut chain = fleet.chain();
    let release = fleet.sign(&release, &["publisher.key", "coordinator/admit.key"]);
    assert!(chain.learn(&verify(&chain, &release, now()).unwrap()));
    let verified = verify(&chain, &member.submitted()[0], now()).unwrap();
    assert_eq!(verified.standing, Standing::Effective);
    let Statement::Rollout(rollout) = verified.statement else { panic!("no rollout") };
    assert!(rollout.adopt && rollout.from.is_none());
    assert_eq!(rollout.critical, ["adopt"], "who does not know the word refuses it");
    assert_eq!(rollout.on_failure, OnFailure::Rollback, "there is nothing to hold up");
    assert_eq!(rollout.reason, "adopted as it ran");
}

#[test]
fn what_was_deployed_or_cannot_be_asked_is_not_adopted() {
    let fleet = Fleet::new();
    write(&fleet, "swell.toml", SWELL_TOML);
    let refused = |release: &Release, facts: &ScopeFacts, told: &str, next: &str| {
        let member = coordinator(&fleet, release, facts);
        let output = swell(&fleet, &["adopt", "--yes"]);
        assert_eq!(output.status.code(), Some(1), "{told}: {}", text(&output));
        assert!(text(&output).contains(told), "{told}: {}", text(&output));
        assert!(text(&output).contains(next), "{next}: {}", text(&output));
        assert!(member.submitted().is_empty(), "{told}");
    };
    let none = first_facts(&fleet);
    let told = "tells whether it runs: no run.unit, run.check, health.http or health.command";
    refused(&fleet.release("1.0.0"), &none, told, "next: add health.http");

    let (release, told) =
        (what_runs(&fleet), "web was rolled out in production before, by rollout ");
    let other = Rollout { adopt: false, critical: Vec::new(), ..adoption(&fleet) };
    let stable = Some(fleet.sign(&release, &["publisher.key", "coordinator/admit.key"]));
    let next = "next: swell deploy web VERSION --env production";
    let complete = facts(&fleet, &other, RolloutPhase::Complete);
    refused(&release, &ScopeFacts { stable, ..complete }, told, next);
    refused(&release, &facts(&fleet, &other, RolloutPhase::Running), told, next);
    // Its hosts stay as they are: something of ours may run there.
    let kept = Rollout { on_failure: OnFailure::Pause, ..other };
    refused(&release, &facts(&fleet, &kept, RolloutPhase::Aborted), told, next);
    let told = "is on its way to production already";
    refused(
        &release,
        &facts(&fleet, &adoption(&fleet), RolloutPhase::Running),
        told,
        "swell watch",
    );
}

/// Until it is complete, what is deployed over it would have no way back, and what is not adopted yet
/// would be stopped.
#[test]
fn nothing_is_deployed_over_an_adoption_that_goes_on() {
    let fleet = Fleet::new();
    write(&fleet, "swell.toml", SWELL_TOML);
    for phase in [RolloutPhase::Running, RolloutPhase::Paused, RolloutPhase::Expired] {
        let facts = facts(&fleet, &adoption(&fleet), phase);
        let member = coordinator(&fleet, &what_runs(&fleet), &facts);
        let output = swell(&fleet, &["deploy", "--yes"]);
        assert_eq!(output.status.code(), Some(1), "{phase:?}: {}", text(&output));
        let told = "production is still adopting web 1.0.0, by rollout ";
        assert!(text(&output).contains(told), "{phase:?}: {}", text(&output));
        assert!(member.submitted().is_empty(), "{phase:?}");
    }
    // It was given up, and what it brought with it.
    let facts = facts(&fleet, &adoption(&fleet), RolloutPhase::Aborted);
    let _member = coordinator(&fleet, &what_runs(&fleet), &facts);
    let output = swell(&fleet, &["deploy", "--yes"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("1.0.0 was stopped before"), "{}", text(&output));
}

#[test]
fn r17_the_retry_of_an_adoption_is_an_adoption() {
    let fleet = Fleet::new();
    write(&fleet, "swell.toml", SWELL_TOML);
    let facts = facts(&fleet, &adoption(&fleet), RolloutPhase::Halted);
    let member = coordinator(&fleet, &what_runs(&fleet), &facts);
    let output = fleet.swell(&["retry", "web/production", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let envelope = Envelope::parse(&member.submitted()[0], 1 << 20).unwrap();
    let Ok(Statement::Rollout(again)) = Statement::parse(&envelope) else { panic!("no rollout") };
    assert!(again.adopt && again.retry && again.epoch == 2);
}
