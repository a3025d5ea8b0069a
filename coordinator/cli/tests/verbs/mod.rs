//! `skip`, `freeze`, `host`, `retry`: what is signed, over what is known, and for whom.

use proto::report::{DiskReport, FreezeReport, RemovalReport, SkipReport, StoredService};
use proto::statement::{Freeze, Revocation, UnixTime};

use super::*;

/// Answers about the fleet and its three hosts, the third one silent; the rest as `about` does.
pub(crate) fn about_fleet(
    fleet: &Fleet,
    change: impl FnOnce(&mut FleetReport),
    about: impl fake::Answer,
) -> impl fake::Answer {
    let statements = [1, 2, 3].map(|seed| fleet.host(seed).0);
    let envelopes = statements.clone().map(|host| fleet.sign(&host, &["coordinator/host-ca.key"]));
    let host = |statement: &proto::statement::Host| HostReport {
        id: statement.id.clone(),
        name: statement.name.clone(),
        env: statement.env(),
        zone: statement.zone(),
        labels: Vec::new(),
        address: None,
        twin: None,
        alive: statement.name.as_str() != "n3",
        agent_version: None,
        services: Vec::new(),
        held: None,
        removed: None,
    };
    let mut seen = FleetReport {
        fleet: fleet.root.fleet.clone(),
        seen_by: "coordinator".parse().unwrap(),
        at: now(),
        root_version: 1,
        coordinator_alive: true,
        hosts: statements.iter().map(host).collect(),
        rollouts: Vec::new(),
        pending: Vec::new(),
        freezes: Vec::new(),
        skips: Vec::new(),
        audit: Default::default(),
    };
    change(&mut seen);
    move |request: &ControlRequest| match request {
        ControlRequest::Fleet => ControlReply::Fleet(Box::new(seen.clone())),
        ControlRequest::Host { id } => {
            let place = statements.iter().position(|host| host.id == *id).unwrap();
            ControlReply::Statement { envelope: envelopes[place].clone() }
        }
        other => about(other),
    }
}

/// A freeze of production, signed by this key file, and how a member tells of it.
fn freeze(
    fleet: &Fleet,
    key: &str,
    sequence: u64,
    until: UnixTime,
) -> (FreezeReport, (Digest, Vec<u8>)) {
    let freeze = Freeze {
        fleet: fleet.root.fleet.clone(),
        env: "production".parse().unwrap(),
        host: None,
        sequence,
        until,
        author: KeyId::of(&PublicKey::of(&fleet.key(key))),
        created: now(),
        reason: "audit".to_owned(),
        critical: Vec::new(),
    };
    let envelope = fleet.sign(&freeze, &[key]);
    let id = Envelope::parse(&envelope, 1 << 20).unwrap().id();
    let report = FreezeReport {
        statement: id,
        env: freeze.env,
        host: None,
        in_force: true,
        until,
        by: "ada".parse().unwrap(),
        created: freeze.created,
        reason: freeze.reason,
    };
    (report, (id, envelope))
}

/// Answers with these statements, and takes in whatever is handed in.
fn holding(statements: Vec<(Digest, Vec<u8>)>) -> impl fake::Answer {
    move |request: &ControlRequest| match request {
        ControlRequest::Statement { id } => {
            let held = statements.iter().find(|(held, _)| held == id);
            ControlReply::Statement { envelope: held.unwrap().1.clone() }
        }
        other => submitted(other),
    }
}

/// The last statement that was handed in; `chain` finds it in force.
fn last(member: &Member, chain: &proto::trust::Chain) -> Statement {
    let verified = verify(chain, member.submitted().last().unwrap(), now()).unwrap();
    assert_eq!(verified.standing, Standing::Effective);
    verified.statement
}

// --- freeze, unfreeze ---

#[test]
fn a_freeze_is_signed_over_those_known_and_so_is_its_end() {
    let fleet = Fleet::new();
    let (ours, our_statement) = freeze(&fleet, "operator.key", 3, now().plus_s(600));
    let admit = "coordinator/admit.key";
    let (theirs, their_statement) = freeze(&fleet, admit, 5, now().plus_s(60));
    let known = move |report: &mut FleetReport| report.freezes = vec![ours, theirs];
    let about = holding(vec![our_statement.clone(), their_statement.clone()]);
    let member = fleet.coordinator(about_fleet(&fleet, known, about));
    let mut chain = fleet.chain();
    for (_, envelope) in [our_statement, their_statement] {
        assert!(chain.learn(&verify(&chain, &envelope, now()).unwrap()));
    }

    let arguments = ["freeze", "--env", "production", "--for", "2h", "--reason", "no people"];
    let output = fleet.swell(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("production is frozen for 2 h, until 2"), "{}", text(&output));
    assert!(text(&output).contains("  before, it was frozen until "), "{}", text(&output));
    let Statement::Freeze(frozen) = last(&member, &chain) else { panic!("no freeze") };
    assert_eq!((frozen.sequence, frozen.host), (6, None));
    assert_eq!(frozen.until, frozen.created.plus_s(7_200));
    assert_eq!(frozen.reason, "no people");

    let output = fleet.swell(&["unfreeze", "--env", "production"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("production is no longer frozen"), "{}", text(&output));
    let Statement::Freeze(lifted) = last(&member, &chain) else { panic!("no freeze") };
    assert!(lifted.lifts());
    chain.learn(&verify(&chain, member.submitted().last().unwrap(), now()).unwrap());
    let (_, host) = (0, fleet.host(1).0.id);
    assert!(chain.frozen_until(&lifted.env, &host).unwrap() <= now(), "the coordinator's, too");
}

#[test]
fn what_cannot_be_frozen_or_lifted_is_not_signed() {
    let fleet = Fleet::new();
    let (known, (_, other)) = freeze(&fleet, "operator.key", 3, now().plus_s(600));
    let lie = FreezeReport { statement: Digest::of(b"another"), ..known };
    let quiet = fleet.coordinator(about_fleet(&fleet, |_| {}, submitted));
    let cases: [(&[&str], i32, &str); 5] = [
        (
            &["freeze", "--env", "production", "--until", "2025-03-01T09:30", "--reason", "x"],
            2,
            "until 2025-03-01 09:30:00 UTC: that is in the past",
        ),
        (&["unfreeze", "--env", "production"], 1, "production is not frozen: there is nothing to"),
        (&["host", "hold", "n1", "--lift"], 1, "host n1 is not held: there is nothing to lift"),
        (
            &["freeze", "--env", "moon", "--for", "2h", "--reason", "x"],
            2,
            "there is no environment moon in fleet",
        ),
        (
            &["freeze", "--env", "production", "--for", "400d", "--reason", "x"],
            2,
            "it must end within 366 days from now",
        ),
    ];
    for (arguments, code, said) in cases {
        let output = fleet.swell(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(said), "{arguments:?}: {}", text(&output));
    }
    assert!(quiet.submitted().is_empty());
    // R4: no member makes people sign over a sequence that nobody signed.
    let known = move |report: &mut FleetReport| report.freezes = vec![lie];
    let about = holding(vec![(Digest::of(b"another"), other)]);
    let liar = fleet.coordinator(about_fleet(&fleet, known, about));
    let output = fleet.swell(&["unfreeze", "--env", "production"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("cannot believe a freeze that"), "{}", text(&output));
    assert!(liar.submitted().is_empty());
}

// --- hosts ---

#[test]
fn a_host_is_held_for_a_time_and_via_any_host() {
    let fleet = Fleet::new();
    let member = fleet.member(1, about_fleet(&fleet, |_| {}, submitted));
    let via = member.address.to_string();
    let hold = ["host", "hold", "n2", "--for", "1h", "--reason", "disk", "--via", &via];
    let output = fleet.swell(&hold);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let lift = format!("to end it: swell --via {via} host hold n2 --lift");
    assert!(text(&output).contains(&lift), "{}", text(&output));
    let Statement::Freeze(held) = last(&member, &fleet.chain()) else { panic!("no freeze") };
    assert_eq!((held.host, held.sequence), (Some(fleet.host(2).0.id), 1));
    assert_eq!(held.until, held.created.plus_s(3_600));
}

#[test]
fn a_host_is_removed_once_somebody_said_so_twice() {
    let fleet = Fleet::new();
    let member = fleet.coordinator(about_fleet(&fleet, |_| {}, submitted));
    let id = fleet.host(3).0.id.to_string();
    let remove = ["host", "remove", &id, "--reason", "sold"];
    let output = fleet.swell(&remove);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("next: add --yes"), "{}", text(&output));
    assert!(member.submitted().is_empty());
    let output = fleet.swell(&[&remove[..], &["--yes"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for part in ["it is not heard of", "for ever", "keeps running", "host n3 is removed"] {
        assert!(text(&output).contains(part), "{part}: {}", text(&output));
    }
    let Statement::Revocation(removal) = last(&member, &fleet.chain()) else { panic!() };
    let Revocation { host, env, reason, .. } = removal;
    assert_eq!((host.as_str(), env.as_str(), reason.as_str()), (&id[..], "production", "sold"));

    // Once more: it says so, and signs nothing.
    let by = "ada".parse().unwrap();
    let removed = RemovalReport { statement: None, by, created: now(), reason: "sold".to_owned() };
    let known = move |report: &mut FleetReport| report.hosts[2].removed = Some(removed);
    let member = fleet.coordinator(about_fleet(&fleet, known, submitted));
    let output = fleet.swell(&remove);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("n3 was removed already, by ada: sold"), "{}", text(&output));
    let output = fleet.swell(&["host", "hold", "n3", "--for", "1h", "--reason", "disk"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("was removed: there is nothing to hold"), "{}", text(&output));
    assert!(member.submitted().is_empty());
}

/// R4: whoever answers could name another host than is meant.
#[test]
fn r4_a_host_that_is_called_otherwise_is_not_believed() {
    let fleet = Fleet::new();
    let swap = |report: &mut FleetReport| {
        let (one, other) = report.hosts.split_at_mut(1);
        std::mem::swap(&mut one[0].id, &mut other[0].id);
    };
    let member = fleet.coordinator(about_fleet(&fleet, swap, submitted));
    for arguments in [
        &["host", "remove", "n1", "--reason", "x", "--yes"][..],
        &["host", "hold", "n1", "--for", "1h", "--reason", "x"],
        &["skip", "n1", "--yes"],
    ] {
        let output = fleet.swell(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
        let told = "cannot believe a host that the coordinator";
        assert!(text(&output).contains(told), "{arguments:?}: {}", text(&output));
        assert!(member.submitted().is_empty(), "{arguments:?}");
    }
    let output = fleet.swell(&["skip", "n9"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let told = text(&output);
    assert!(told.contains("there is no host \"n9\"\n  next: "), "{told}");
    assert!(told.contains("; swell hosts shows them all"), "{told}");
}

// --- skip ---

/// The chain of whoever holds the release and the first rollout.
fn chain_with_rollout(fleet: &Fleet) -> proto::trust::Chain {
    first_rollout_at(fleet);
    let rollout = std::fs::read(fleet.dir.path().join("rollout.json")).unwrap();
    let mut chain = fleet.chain();
    for envelope in [signed_release(fleet, "1.0.0"), rollout] {
        assert!(chain.learn(&verify(&chain, &envelope, now()).unwrap()));
    }
    chain
}

#[test]
fn a_skip_is_signed_for_the_open_rollouts_that_wait_for_the_host() {
    let fleet = Fleet::new();
    let chain = chain_with_rollout(&fleet);
    let look = report(&fleet, RolloutPhase::Running, [Some(State::Committed), None]);
    let id = look.id;
    let start = |change: fn(&mut FleetReport)| {
        let (seen, look) = (look.clone(), look.clone());
        let known = move |report: &mut FleetReport| {
            report.rollouts = vec![seen];
            change(report);
        };
        let about = about_rollout(&fleet, first_facts(&fleet), move || look.clone());
        fleet.coordinator(about_fleet(&fleet, known, about))
    };
    let member = start(|_| {});
    // It has ended in it, or has no place in it.
    for (name, env) in [("n1", "committed"), ("n3", "not in the cohort")] {
        let output = fleet.swell(&["skip", name]);
        assert_eq!(output.status.code(), Some(1), "{env}: {}", text(&output));
        let told = format!("no open rollout of production waits for host {name}\n  next: swell st");
        assert!(text(&output).contains(&told), "{env}: {}", text(&output));
    }
    let output = fleet.swell(&["skip", "n1", "--rollout", "web/production"]);
    assert!(text(&output).contains("the host has ended in it\n  next: swell explain"));
    // It is alive: somebody must mean it.
    let output = fleet.swell(&["skip", "n2"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(member.submitted().is_empty());
    for which in [&[][..], &["--rollout", "web/production"]] {
        let arguments = [&["skip", "n2", "--yes", "--reason", "gone"], which].concat();
        let output = fleet.swell(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(text(&output).contains("it starts nothing before"), "{}", text(&output));
        let Statement::Directive(skip) = last(&member, &chain) else { panic!("no directive") };
        assert_eq!((skip.action, skip.rollout), (Action::Skip, id));
        assert_eq!((skip.host, skip.wave), (Some(fleet.host(2).0.id), None));
        assert_eq!(skip.reason, "gone");
    }
    let dead = start(|report| report.hosts[1].alive = false);
    let output = fleet.swell(&["skip", "n2"]);
    assert_eq!(output.status.code(), Some(0), "nobody is asked: {}", text(&output));
    assert_eq!(dead.submitted().len(), 1);
    let again = start(|report| {
        let rollout = report.rollouts[0].id;
        report.skips = vec![SkipReport { rollout, host: report.hosts[1].id.clone() }];
    });
    let output = fleet.swell(&["skip", "n2"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("skips host n2 already"), "{}", text(&output));
    assert!(again.submitted().is_empty());
}

// --- retry ---

#[test]
fn r17_what_was_stopped_goes_out_again_as_a_retry_only() {
    let fleet = Fleet::new();
    let mut chain = chain_with_rollout(&fleet);
    write(&fleet, "swell.toml", SWELL_TOML);
    let look = report(&fleet, RolloutPhase::Halted, [Some(State::Reverted), None]);
    let (id, rollout) = first_rollout_at(&fleet);
    let facts = ScopeFacts {
        report: Some(look.clone()),
        stopped: vec![(id, rollout.to.release)],
        ..first_facts(&fleet)
    };
    let member = fleet.coordinator(about_rollout(&fleet, facts, move || look.clone()));
    let goal = ["web", "1.0.0", "--env", "production"];
    for verb in [&["plan"][..], &["deploy", "--yes"]] {
        let output = fleet.swell(&[verb, &goal[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{verb:?}: {}", text(&output));
        let told = format!("web/production: 1.0.0 was stopped before, by the end of rollout {id}");
        assert!(text(&output).contains(&told), "{verb:?}: {}", text(&output));
        assert!(text(&output).ends_with(&format!("swell retry {id}\n")), "{}", text(&output));
    }
    assert!(member.submitted().is_empty());
    let retry = ["retry", "web/production", "--without", "n1"];
    let output = fleet.swell(&retry);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(member.submitted().is_empty(), "nobody said yes");
    let output = fleet.swell(&[&retry[..], &["--yes", "--reason", "power is back"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let note = format!("note: a retry of rollout {id}, which was halted\n");
    assert!(text(&output).contains(&note), "{}", text(&output));
    assert!(text(&output).contains("note: left out, as was asked for: n1\n"), "{}", text(&output));
    let Statement::Rollout(again) = last(&member, &chain) else { panic!("no rollout") };
    assert!(again.retry);
    assert_eq!((again.epoch, again.previous, &again.to), (2, Some(id), &rollout.to));
    let cohort: Vec<_> = again.cohort.iter().map(|host| host.id.clone()).collect();
    assert_eq!(cohort, [fleet.host(2).0.id]);
    assert_eq!(again.reason, "power is back");
    assert!(chain.learn(&verify(&chain, &member.submitted()[0], now()).unwrap()));
}

/// Hosts remember the stop: what a retry brought to its end goes out again as another retry.
#[test]
fn r17_what_a_retry_brought_to_its_end_is_deployed_again() {
    let fleet = Fleet::new();
    let mut chain = chain_with_rollout(&fleet);
    write(&fleet, "swell.toml", SWELL_TOML);
    let (first, rollout) = first_rollout_at(&fleet);
    let again = Rollout { epoch: 2, previous: Some(first), retry: true, ..rollout.clone() };
    let again = fleet.sign(&again, &["operator.key"]);
    let retry = Envelope::parse(&again, 1 << 20).unwrap().id();
    assert!(chain.learn(&verify(&chain, &again, now()).unwrap()));
    for (phase, code) in [(RolloutPhase::Complete, 0), (RolloutPhase::Superseded, 1)] {
        let look = RolloutReport { id: retry, ..report(&fleet, phase, [None, None]) };
        let facts = ScopeFacts {
            rollout: Some(again.clone()),
            stopped: vec![(first, rollout.to.release)],
            ..first_facts(&fleet)
        };
        let (about, held) =
            (about_rollout(&fleet, facts.clone(), move || look.clone()), (retry, again.clone()));
        let member = fleet.coordinator(move |request: &ControlRequest| match request {
            ControlRequest::Statement { id } if *id == held.0 => {
                ControlReply::Statement { envelope: held.1.clone() }
            }
            ControlRequest::Scope(_) => ControlReply::Scope(Box::new(facts.clone())),
            other => about(other),
        });
        let output = fleet.swell(&["deploy", "web", "1.0.0", "--env", "production", "--yes"]);
        assert_eq!(output.status.code(), Some(code), "{phase:?}: {}", text(&output));
        if code != 0 {
            assert!(text(&output).contains("was stopped before"), "{}", text(&output));
            assert!(member.submitted().is_empty());
            continue;
        }
        let note = format!("and {retry}, a retry, was complete: signed as another one");
        assert!(text(&output).contains(&note), "{}", text(&output));
        let Statement::Rollout(signed) = last(&member, &chain) else { panic!("no rollout") };
        assert!(signed.retry);
    }
}

#[test]
fn what_goes_on_is_not_retried_nor_replaced_by_a_retry() {
    let fleet = Fleet::new();
    write(&fleet, "swell.toml", SWELL_TOML);
    let running = report(&fleet, RolloutPhase::Running, [None, None]);
    let look = running.clone();
    let facts = ScopeFacts { report: Some(running.clone()), ..first_facts(&fleet) };
    let member = fleet.coordinator(about_rollout(&fleet, facts.clone(), move || look.clone()));
    let output = fleet.swell(&["retry", "web/production", "--yes"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("is running: only one that was halted"), "{}", text(&output));
    assert!(member.submitted().is_empty());
    // Stopped itself, while another one of its scope goes on.
    let stopped = report(&fleet, RolloutPhase::Aborted, [None, None]);
    let member = fleet.coordinator(about_rollout(&fleet, facts, move || stopped.clone()));
    let output = fleet.swell(&["retry", "web/production", "--yes"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("is not the newest of web/production"), "{}", text(&output));
    assert!(member.submitted().is_empty());
}

// --- windows ---

#[test]
fn windows_are_signed_and_called_critical_and_a_freeze_is_told_by_plan() {
    let fleet = Fleet::new();
    let (frozen, _) = freeze(&fleet, "operator.key", 1, now().plus_s(600));
    let mut toml = String::from_utf8(SWELL_TOML.to_vec()).unwrap();
    toml.push_str("windows = ['mon-sun 00:00-24:00']\n");
    write(&fleet, "swell.toml", toml.as_bytes());
    let facts = ScopeFacts { freezes: vec![frozen], ..first_facts(&fleet) };
    let release = signed_release(&fleet, "1.0.0");
    let member = fleet.coordinator(move |request: &ControlRequest| match request {
        ControlRequest::Release { .. } => ControlReply::Statement { envelope: release.clone() },
        ControlRequest::Scope(_) => ControlReply::Scope(Box::new(facts.clone())),
        other => submitted(other),
    });
    let goal = ["web", "1.0.0", "--env", "production"];
    let planned = fleet.swell(&[&["plan"], &goal[..]].concat());
    for part in [
        "note: hosts start only in its windows, mon-sun 00:00-24:00 UTC: one is open now",
        "note: production is frozen: nothing new starts until ",
    ] {
        assert!(text(&planned).contains(part), "{part}: {}", text(&planned));
    }
    let deployed = fleet.swell(&[&["deploy", "--yes"], &goal[..]].concat());
    assert_eq!(deployed.status.code(), Some(0), "{}", text(&deployed));
    let mut chain = fleet.chain();
    let release = signed_release(&fleet, "1.0.0");
    assert!(chain.learn(&verify(&chain, &release, now()).unwrap()));
    let Statement::Rollout(rollout) = last(&member, &chain) else { panic!("no rollout") };
    assert_eq!(rollout.windows, ["mon-sun 00:00-24:00".parse().unwrap()]);
    assert_eq!(rollout.critical, ["windows"]);
    assert!(rollout.expires > rollout.created.plus_s(86_400), "a day after the window's end");
}

// --- host gc ---

#[test]
fn r29_a_host_is_asked_itself_what_lies_on_its_disk() {
    let fleet = Fleet::new();
    let report = |dry_run| DiskReport {
        dry_run,
        keep_releases: 5,
        services: vec![StoredService {
            service: "web".parse().unwrap(),
            releases: Vec::new(),
            note: if dry_run { String::new() } else { "a step is under way".to_owned() },
        }],
        artifacts: Vec::new(),
        free: Vec::new(),
    };
    let host = fleet.member(1, move |request: &ControlRequest| match request {
        ControlRequest::Disk { dry_run } => ControlReply::Disk(Box::new(report(*dry_run))),
        other => panic!("{other:?}"),
    });
    let address = host.address.to_string();
    let known = move |report: &mut FleetReport| report.hosts[0].address = Some(address);
    let _coordinator = fleet.coordinator(about_fleet(&fleet, known, submitted));

    let output = fleet.swell(&["host", "gc", "n1", "--dry-run", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["dry_run"], &json["services"][0]["service"]), (&true.into(), &"web".into()));
    // Not all was done: the exit code says so.
    let output = fleet.swell(&["host", "gc", "n1"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("not cleared away: a step is under way"), "{}", text(&output));
    let output = fleet.swell(&["host", "gc", "n2"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    assert!(text(&output).contains("was never heard"), "{}", text(&output));
}
