//! What the command says to members, what it signs, and what it believes of the answers.

#![expect(clippy::unwrap_used, reason = "test helpers")]

mod adopt;
mod audit;
mod doctor;
mod evidence;
mod fake;
mod notify;
mod signatures;
mod verbs;

use std::sync::atomic::{AtomicUsize, Ordering};

use fake::{Fleet, Member, now, refused, text, write};
use proto::artifact::Manifest;
use proto::dsse::Envelope;
use proto::id::{Digest, KeyId, Version};
use proto::key::PublicKey;
use proto::receipt::State;
use proto::report::{
    EventReport, FetchesReport, Fitness, FleetReport, HostReport, RolloutPhase, RolloutReport,
    StandingReport, WaveReport,
};
use proto::statement::{
    Action, CohortHost, Direction, OnFailure, Payload as _, RULES, Rollout, Statement, Target, Wave,
};
use proto::trust::{Standing, verify};
use proto::wire::{ControlReply, ControlRequest, EventsQuery, RefusedKind, ScopeFacts, ScopeHost};

const SWELL_TOML: &[u8] = b"
service = 'web'
[run]
start = 'a'
stop = 'b'
[deploy.production]
strategy = 'canary'
stages = [{ weight = 1, wait_minutes = 1 }, { weight = 100, wait_minutes = 0 }]
";

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// Three hosts, the last one silent, and no rollout yet.
fn first_facts(fleet: &Fleet) -> ScopeFacts {
    let host = |seed: u8| {
        let (host, _) = fleet.host(seed);
        ScopeHost {
            envelope: fleet.sign(&host, &["coordinator/host-ca.key"]),
            fitness: if seed == 3 { Fitness::Silent } else { Fitness::Fit },
            serves: None,
        }
    };
    ScopeFacts {
        rollout: None,
        report: None,
        stable: None,
        hosts: (1..=3).map(host).collect(),
        directive_sequence: 0,
        history: Vec::new(),
        stopped: Vec::new(),
        freezes: Vec::new(),
        scopes: 0,
    }
}

fn signed_release(fleet: &Fleet, version: &str) -> Vec<u8> {
    fleet.sign(&fleet.release(version), &["publisher.key", "coordinator/admit.key"])
}

/// It is in force.
fn taken(id: Digest) -> ControlReply {
    ControlReply::Submitted { id, effective: true, superseded_by: None, note: String::new() }
}

/// Takes in whatever is handed in.
fn submitted(request: &ControlRequest) -> ControlReply {
    let ControlRequest::Submit { envelope } = request else {
        return refused(RefusedKind::NotFound, "not in this test");
    };
    let id = Envelope::parse(envelope, 4 << 20).unwrap().id();
    taken(id)
}

// --- deploy ---

#[test]
fn deploy_signs_what_plan_shows_and_plan_signs_nothing() {
    let fleet = Fleet::new();
    let (release, facts) = (signed_release(&fleet, "1.0.0"), first_facts(&fleet));
    let member = fleet.coordinator(move |request: &ControlRequest| match request {
        ControlRequest::Release { .. } => ControlReply::Statement { envelope: release.clone() },
        ControlRequest::Scope(_) => ControlReply::Scope(Box::new(facts.clone())),
        other => submitted(other),
    });
    write(&fleet, "swell.toml", SWELL_TOML);
    let goal = ["web", "1.0.0", "--env", "production"];

    let planned = fleet.swell(&[&["plan"], &goal[..]].concat());
    assert_eq!(planned.status.code(), Some(0), "{}", text(&planned));
    assert!(member.submitted().is_empty());
    // Settings of the release that were changed since change nothing, and that is said.
    let other = String::from_utf8(SWELL_TOML.to_vec()).unwrap().replace("'a'", "'other'");
    let changed = write(&fleet, "changed.toml", other.as_bytes());
    let config = ["--config", changed.to_str().unwrap()];
    let noted = text(&fleet.swell(&[&["plan"], &goal[..], &config].concat()));
    let note = "note: [run] of the file: not what 1.0.0 was published with, which counts";
    assert!(noted.contains(note) && !text(&planned).contains("was published with"), "{noted}");
    let asked = fleet.swell(&[&["deploy"], &goal[..]].concat());
    assert_eq!(asked.status.code(), Some(2), "{}", text(&asked));
    assert!(member.submitted().is_empty(), "nobody said yes");

    let deployed = fleet.swell(&[&["deploy"], &goal[..], &["--yes", "--reason", "try"]].concat());
    assert_eq!(deployed.status.code(), Some(0), "{}", text(&deployed));
    assert!(text(&deployed).starts_with(&text(&planned)), "{}", text(&deployed));
    let [envelope] = &member.submitted()[..] else { panic!("handed in once") };

    let mut chain = fleet.chain();
    let release = verify(&chain, &signed_release(&fleet, "1.0.0"), now()).unwrap();
    assert!(chain.learn(&release));
    let verified = verify(&chain, envelope, now()).unwrap();
    assert_eq!(verified.standing, Standing::Effective);
    let Statement::Rollout(rollout) = verified.statement else { panic!("no rollout") };
    assert_eq!((rollout.epoch, rollout.previous, &rollout.from), (1, None, &None));
    assert_eq!((rollout.cohort.len(), rollout.waves.len()), (2, 2));
    assert_eq!(rollout.reason, "try");
    let operator = KeyId::of(&PublicKey::of(&fleet.key("operator.key")));
    assert_eq!(rollout.author, operator);
}

/// R4: a member, the coordinator too, can hand out what is well signed and was not asked for; nobody
/// signs a rollout or a directive about that.
#[test]
fn r4_what_is_well_signed_and_something_else_is_not_believed() {
    let fleet = Fleet::new();
    write(&fleet, "swell.toml", SWELL_TOML);
    let deploy = ["deploy", "web", "1.0.0", "--env", "production", "--yes"];
    let mut other_service = fleet.release("1.0.0");
    other_service.service = "db".parse().unwrap();
    let signers = ["publisher.key", "coordinator/admit.key"];
    let mut stable = first_facts(&fleet);
    stable.stable = Some(signed_release(&fleet, "0.8.0"));
    let (mut staging, _) = fleet.host(1);
    staging.labels = [("env".parse().unwrap(), "staging".parse().unwrap())].into();
    let mut hosts = first_facts(&fleet);
    hosts.hosts[0].envelope = fleet.sign(&staging, &["coordinator/host-ca.key"]);
    let good = signed_release(&fleet, "1.0.0");
    let cases = [
        ("the release", signed_release(&fleet, "0.9.0"), first_facts(&fleet)),
        ("the release", fleet.sign(&other_service, &signers), first_facts(&fleet)),
        ("the stable release", good.clone(), stable),
        ("a host", good, hosts),
    ];
    for (what, release, facts) in cases {
        let member = fleet.coordinator(move |request: &ControlRequest| match request {
            ControlRequest::Release { .. } => ControlReply::Statement { envelope: release.clone() },
            ControlRequest::Scope(_) => ControlReply::Scope(Box::new(facts.clone())),
            other => submitted(other),
        });
        let output = fleet.swell(&deploy);
        assert_eq!(output.status.code(), Some(1), "{what}: {}", text(&output));
        let told = format!("cannot believe {what} that the coordinator");
        assert!(text(&output).contains(&told), "{what}: {}", text(&output));
        assert!(member.submitted().is_empty(), "{what}");
    }
    // The rollout of web in production, where another one was named.
    let look = report(&fleet, RolloutPhase::Running, [None, None]);
    let facts = first_facts(&fleet);
    let member = fleet.coordinator(about_rollout(&fleet, facts, move || look.clone()));
    for other in ["web/staging", "db/production", "0000000000"] {
        let output = fleet.swell(&["promote", other]);
        assert_eq!(output.status.code(), Some(1), "{other}: {}", text(&output));
        assert!(text(&output).contains("cannot believe the rollout that"), "{}", text(&output));
        assert!(member.submitted().is_empty(), "{other}");
    }
}

#[test]
fn what_is_not_signed_as_it_must_be_is_not_believed() {
    let good_release = |fleet: &Fleet| signed_release(fleet, "1.0.0");
    let by_ci_alone = |fleet: &Fleet| fleet.sign(&fleet.release("1.0.0"), &["publisher.key"]);
    let by_the_operator = |fleet: &Fleet| fleet.sign(&fleet.release("1.0.0"), &["operator.key"]);
    let good_host = "coordinator/host-ca.key";
    type Release = fn(&Fleet) -> Vec<u8>;
    let cases: [(&str, Release, &str, &str); 3] = [
        ("a release CI alone signed", by_ci_alone, good_host, "signatures are missing"),
        ("a release an operator signed", by_the_operator, good_host, "cannot believe the release"),
        ("a host the publisher signed", good_release, "publisher.key", "cannot believe a host"),
    ];
    for (name, release, host_key, expected) in cases {
        let fleet = Fleet::new();
        let release = release(&fleet);
        let mut facts = first_facts(&fleet);
        facts.hosts[0].envelope = fleet.sign(&fleet.host(1).0, &[host_key]);
        let member = fleet.coordinator(move |request: &ControlRequest| match request {
            ControlRequest::Release { .. } => ControlReply::Statement { envelope: release.clone() },
            ControlRequest::Scope(_) => ControlReply::Scope(Box::new(facts.clone())),
            other => submitted(other),
        });
        write(&fleet, "swell.toml", SWELL_TOML);
        let output = fleet.swell(&["deploy", "web", "1.0.0", "--env", "production", "--yes"]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output));
        assert!(text(&output).contains(expected), "{name}: {}", text(&output));
        assert!(member.submitted().is_empty(), "{name}");
    }
}

// --- rollouts that are there ---

/// A rollout of 1.0.0 by the operator, from nothing, to hosts 1 and 2.
fn first_rollout(fleet: &Fleet) -> Rollout {
    let cohort = [1, 2].map(|seed| {
        let (host, _) = fleet.host(seed);
        CohortHost { zone: host.zone(), id: host.id, key: host.key }
    });
    let release = fleet.release("1.0.0").envelope().id();
    Rollout {
        fleet: fleet.root.fleet.clone(),
        service: "web".parse().unwrap(),
        env: "production".parse().unwrap(),
        epoch: 1,
        previous: None,
        from: None,
        to: Target { release, version: version("1.0.0") },
        direction: Direction::Forward,
        rules: RULES,
        cohort: cohort.to_vec(),
        waves: [1, 2]
            .map(|hosts| Wave { hosts, wait_s: 60, failed_max: 0, unreachable_max: 0 })
            .into(),
        max_unavailable: 1,
        in_flight_max: None,
        windows: Vec::new(),
        limits: None,
        retry: false,
        adopt: false,
        on_failure: OnFailure::Rollback,
        approvals: 0,
        created: now(),
        expires: now().plus_s(86_400),
        author: KeyId::of(&PublicKey::of(&fleet.key("operator.key"))),
        reason: String::new(),
        critical: Vec::new(),
    }
}

/// How a member sees that rollout: `states` of its two hosts.
fn report(fleet: &Fleet, phase: RolloutPhase, states: [Option<State>; 2]) -> RolloutReport {
    let rollout = first_rollout_at(fleet);
    let standing = |(index, state): (usize, Option<State>)| StandingReport {
        host: rollout.1.cohort[index].id.clone(),
        name: format!("n{}", index + 1).parse().unwrap(),
        wave: u32::try_from(index).unwrap(),
        skipped: false,
        state,
        cause: None,
        note: String::new(),
        pieces: 0,
        of: 8,
        fetch: None,
        counted: None,
        alive: true,
        drift: None,
        allowed: true,
    };
    let wave = |index: usize| WaveReport {
        hosts: 1,
        open: index == 0,
        waiting: 1,
        activating: 0,
        baking: 0,
        committed: 0,
        failed: 0,
        returned: 0,
        skipped: 0,
        unreachable: 0,
        wait_s: 60,
        bake: None,
        failed_max: 0,
        unreachable_max: 0,
        pooled: None,
    };
    RolloutReport {
        id: rollout.0,
        service: rollout.1.service.clone(),
        env: rollout.1.env.clone(),
        epoch: 1,
        from: None,
        to: version("1.0.0"),
        direction: Direction::Forward,
        adopt: rollout.1.adopt,
        author: "ada".parse().unwrap(),
        reason: String::new(),
        created: rollout.1.created,
        expires: rollout.1.expires,
        phase,
        held: matches!(phase, RolloutPhase::Pending | RolloutPhase::Paused),
        held_until: None,
        ended: None,
        why: format!("{phase:?}").to_lowercase(),
        back: None,
        self_supporting: false,
        waves: (0..2).map(wave).collect(),
        latency: None,
        fetches: FetchesReport::default(),
        hosts: states.into_iter().enumerate().map(standing).collect(),
    }
}

/// The rollout as kept in a file, so that all who ask get one and the same.
fn first_rollout_at(fleet: &Fleet) -> (Digest, Rollout) {
    let path = fleet.dir.path().join("rollout.json");
    if !path.exists() {
        std::fs::write(&path, fleet.sign(&first_rollout(fleet), &["operator.key"])).unwrap();
    }
    let envelope = Envelope::parse(&std::fs::read(&path).unwrap(), 1 << 20).unwrap();
    let Ok(Statement::Rollout(rollout)) = Statement::parse(&envelope) else { panic!("no rollout") };
    (envelope.id(), rollout)
}

/// Answers about the first rollout, with a report from `look`.
fn about_rollout(
    fleet: &Fleet,
    mut facts: ScopeFacts,
    look: impl Fn() -> RolloutReport + Send + Sync + 'static,
) -> impl fake::Answer {
    let (id, _) = first_rollout_at(fleet);
    let rollout = std::fs::read(fleet.dir.path().join("rollout.json")).unwrap();
    let release = signed_release(fleet, "1.0.0");
    facts.rollout = Some(rollout.clone());
    move |request: &ControlRequest| match request {
        ControlRequest::Rollout(_) => ControlReply::Rollout(Box::new(look())),
        ControlRequest::Statement { id: asked } if *asked == id => {
            ControlReply::Statement { envelope: rollout.clone() }
        }
        ControlRequest::Statement { .. } | ControlRequest::Release { .. } => {
            ControlReply::Statement { envelope: release.clone() }
        }
        ControlRequest::Scope(_) => ControlReply::Scope(Box::new(facts.clone())),
        other => submitted(other),
    }
}

#[test]
fn a_directive_has_the_sequence_after_the_highest_known() {
    let fleet = Fleet::new();
    let facts = ScopeFacts { directive_sequence: 7, ..first_facts(&fleet) };
    // Each is asked for once before it changes anything.
    let phases = [RolloutPhase::Running, RolloutPhase::Paused, RolloutPhase::Running];
    let look = phases.map(|phase| report(&fleet, phase, [Some(State::Baking), None]));
    let look = play(look.to_vec());
    let member = fleet.coordinator(about_rollout(&fleet, facts, look));
    let cases: [(&[&str], Action, Option<u32>); 4] = [
        (&["pause", "web/production", "--reason", "hm"], Action::Pause, None),
        (&["resume", "web/production"], Action::Resume, None),
        (&["promote", "web/production"], Action::Promote, Some(1)),
        (&["abort", "web/production"], Action::Abort, None),
    ];
    let said = ["to go on: swell resume", "it goes on where", "waves up to 2 of 2", "it ends here"];
    for (index, (arguments, action, wave)) in cases.into_iter().enumerate() {
        let output = fleet.swell(arguments);
        assert_eq!(output.status.code(), Some(0), "{action:?}: {}", text(&output));
        assert!(text(&output).contains(said[index]), "{action:?}: {}", text(&output));
        let envelope = Envelope::parse(&member.submitted()[index], 1 << 20).unwrap();
        assert!(envelope.signed_by(&PublicKey::of(&fleet.key("operator.key"))), "{action:?}");
        let Ok(Statement::Directive(directive)) = Statement::parse(&envelope) else {
            panic!("{action:?}: no directive");
        };
        assert_eq!((directive.action, directive.wave), (action, wave));
        assert_eq!((directive.sequence, directive.rollout), (8, first_rollout_at(&fleet).0));
    }
}

#[test]
fn what_is_so_already_is_said_and_not_signed() {
    for (action, phase, said) in [
        ("abort", RolloutPhase::Aborted, "is so already: aborted; nothing was signed"),
        ("resume", RolloutPhase::Running, "is not paused; nothing was signed"),
    ] {
        let fleet = Fleet::new();
        let look = report(&fleet, phase, [Some(State::Baking), None]);
        let facts = first_facts(&fleet);
        let member = fleet.coordinator(about_rollout(&fleet, facts, move || look.clone()));
        let output = fleet.swell(&[action, "web/production"]);
        assert_eq!(output.status.code(), Some(0), "{action}: {}", text(&output));
        assert!(text(&output).contains(said), "{action}: {}", text(&output));
        assert!(member.submitted().is_empty(), "{action}");
    }
}

#[test]
fn a_complete_rollout_takes_no_directive() {
    let fleet = Fleet::new();
    let look = report(&fleet, RolloutPhase::Complete, [Some(State::Committed); 2]);
    let facts = first_facts(&fleet);
    let member = fleet.coordinator(about_rollout(&fleet, facts, move || look.clone()));
    for action in ["pause", "resume", "promote", "abort"] {
        let output = fleet.swell(&[action, "web/production"]);
        assert_eq!(output.status.code(), Some(1), "{action}: {}", text(&output));
        let refused = format!(
            "is complete: nothing to {action}\n  next: swell rollback web --env production --reason \
             TEXT"
        );
        assert!(text(&output).contains(&refused), "{action}: {}", text(&output));
        assert!(member.submitted().is_empty(), "{action}");
    }
}

// --- watch ---

/// Gives the reports one after the other, the last one for ever.
fn play(reports: Vec<RolloutReport>) -> impl Fn() -> RolloutReport + Send + Sync + 'static {
    let next = AtomicUsize::new(0);
    move || {
        let index = next.fetch_add(1, Ordering::Relaxed).min(reports.len() - 1);
        reports[index].clone()
    }
}

#[test]
fn watch_ends_with_the_code_of_what_happened() {
    use RolloutPhase as P;
    use State::{Baking, Committed, RevertFailed, Reverted};
    let cases = [
        ("complete", P::Complete, [Some(Committed); 2], 0, "complete\n"),
        ("taken back", P::Halted, [Some(Reverted), None], 3, "--host HOST; then publish"),
        ("paused", P::Paused, [Some(Baking), None], 4, "it is held: paused"),
        ("slow", P::Running, [Some(Baking), None], 5, "goes on without being watched"),
        ("stuck", P::Halted, [Some(RevertFailed), None], 6, "A HOST COULD NOT GO BACK"),
    ];
    for (name, phase, states, code, said) in cases {
        let fleet = Fleet::new();
        let begin = report(&fleet, P::Running, [None, None]);
        let look = play(vec![begin, report(&fleet, phase, states)]);
        let member = fleet.coordinator(about_rollout(&fleet, first_facts(&fleet), look));
        let output = fleet.swell(&["watch", "--timeout", "2s"]);
        assert_eq!(output.status.code(), Some(code), "{name}: {}", text(&output));
        assert!(text(&output).contains(said), "{name}: {}", text(&output));
        drop(member);
        if code == 6 {
            let next = "what was said there: swell logs ";
            assert!(text(&output).contains(next), "{}", text(&output));
            let next = "then swell rollback web --env production --reason TEXT";
            assert!(text(&output).contains(next), "{}", text(&output));
        }
    }
}

/// R18: a deadline that passes over what is held ends with 4 and says what ends it; 5 is for what goes on.
#[test]
fn watch_gives_up_on_what_is_held_with_4() {
    use RolloutPhase as P;
    let frozen = "held: frozen until 2027-01-15 08:00:00 UTC, or until an operator unfreezes it";
    let unheard =
        "held: 1 of 1 hosts of waves up to 1 are not heard, at most 0 may be; skip those that";
    let cases = [
        (
            P::Pending,
            true,
            "lacks 1 approval",
            4,
            "it is held: lacks 1 approval\n  next: swell approve",
        ),
        (P::Paused, true, "paused by ada", 4, "it is held: paused by ada\n  next: swell resume"),
        (P::Running, true, frozen, 4, "it is held: frozen until"),
        (P::Running, true, unheard, 4, "it is held: 1 of 1 hosts of waves up to 1 are not heard"),
        (
            P::Running,
            false,
            "waiting for wave 1",
            5,
            "watched: waiting for wave 1\n  next: swell explain",
        ),
    ];
    for (phase, held, why, code, said) in cases {
        let fleet = Fleet::new();
        let begin = report(&fleet, phase, [None, None]);
        let look = play(vec![RolloutReport { held, why: why.to_owned(), ..begin }]);
        let _member = fleet.coordinator(about_rollout(&fleet, first_facts(&fleet), look));
        let output = fleet.swell(&["watch", "--timeout", "1s"]);
        assert_eq!(output.status.code(), Some(code), "{why}: {}", text(&output));
        assert!(text(&output).contains(said), "{why}: {}", text(&output));
    }
}

#[test]
fn watch_names_the_host_that_says_what_keeps_it() {
    let fleet = Fleet::new();
    let mut full = report(&fleet, RolloutPhase::Running, [Some(State::Fetching), None]);
    full.hosts[0].note = "no space left on device".to_owned();
    let look = play(vec![report(&fleet, RolloutPhase::Running, [None, None]), full]);
    let _member = fleet.coordinator(about_rollout(&fleet, first_facts(&fleet), look));
    let output = fleet.swell(&["watch", "--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    assert!(text(&output).contains("  n1: fetching: no space left on device\n"));
    let next = "next: n1 is fetching: no space left on device: mend that, and it goes on; swell ex";
    assert!(text(&output).contains(next), "{}", text(&output));
}

fn fleet_report(fleet: &Fleet, host: &Member) -> FleetReport {
    let (statement, _) = fleet.host(1);
    FleetReport {
        fleet: fleet.root.fleet.clone(),
        seen_by: "coordinator".parse().unwrap(),
        at: now(),
        root_version: 1,
        coordinator_alive: true,
        hosts: vec![HostReport {
            id: statement.id,
            name: statement.name,
            env: None,
            zone: "default".parse().unwrap(),
            labels: Vec::new(),
            address: Some(host.address.to_string()),
            twin: None,
            alive: true,
            agent_version: None,
            services: Vec::new(),
            held: None,
            removed: None,
        }],
        rollouts: Vec::new(),
        pending: Vec::new(),
        freezes: Vec::new(),
        skips: Vec::new(),
        audit: Default::default(),
    }
}

#[test]
fn watch_goes_on_via_a_host_when_the_coordinator_dies() {
    let fleet = Fleet::new();
    let end = report(&fleet, RolloutPhase::Complete, [Some(State::Committed); 2]);
    let look = move || end.clone();
    let host = fleet.member(1, about_rollout(&fleet, first_facts(&fleet), look));
    let seen = fleet_report(&fleet, &host);
    // It dies once it has been asked for the rollout the second time.
    let running = report(&fleet, RolloutPhase::Running, [None, None]);
    let about = about_rollout(&fleet, first_facts(&fleet), move || running.clone());
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let coordinator = fleet.coordinator(move |request: &ControlRequest| match request {
        ControlRequest::Fleet => {
            tell.lock().unwrap().send(()).unwrap();
            ControlReply::Fleet(Box::new(seen.clone()))
        }
        other => about(other),
    });
    let stop = coordinator.stop.clone();
    let killer = std::thread::spawn(move || {
        told.recv().unwrap();
        stop.cancel();
    });
    let output = fleet.swell(&["watch"]);
    killer.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = format!("going on via n1 ({})", host.address);
    assert!(text(&output).contains(&said), "{}", text(&output));
    // And now by its name, from what was remembered.
    let output = fleet.swell(&["explain", "web/production", "--via", "n1", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let printed: RolloutReport = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed.phase, RolloutPhase::Complete);
}

#[test]
fn the_releases_of_a_service_are_listed_also_by_a_host() {
    let fleet = Fleet::new();
    let id = Digest::of(b"release");
    let host = fleet.member(1, move |request: &ControlRequest| match request {
        ControlRequest::Releases { .. } => ControlReply::Releases(vec![(version("1.0.0"), id)]),
        other => submitted(other),
    });
    let via = host.address.to_string();
    let output = fleet.swell(&["releases", "web", "--via", &via, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&printed[0]["version"], &printed[0]["release"]),
        (&"1.0.0".into(), &serde_json::to_value(id).unwrap())
    );
}

#[test]
fn events_are_asked_for_as_was_typed_and_told_with_the_newest_last() {
    let fleet = Fleet::new();
    let event = |seq: u64| EventReport {
        seq,
        at: now(),
        kind: "wave-opened".to_owned(),
        severity: "info".to_owned(),
        service: Some("web".parse().unwrap()),
        env: None,
        rollout: None,
        host: None,
        text: format!("wave {seq} is open"),
        detail: serde_json::json!({ "wave": seq }),
    };
    let member = fleet.coordinator(move |request: &ControlRequest| match request {
        ControlRequest::Events(_) => ControlReply::Events(vec![event(8), event(7)]),
        other => submitted(other),
    });
    let asked = ["--service", "web", "--before", "9", "--limit", "2", "--kind", "wave-opened"];
    let output = fleet.swell(&[&["events", "--json"], &asked[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let printed: Vec<EventReport> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed.iter().map(|event| event.seq).collect::<Vec<_>>(), [7, 8]);
    let service = Some("web".parse().unwrap());
    let kind = Some("wave-opened".to_owned());
    let query = EventsQuery { before: Some(9), limit: 2, service, kind, ..EventsQuery::default() };
    assert_eq!(member.asked.lock().unwrap()[0], ControlRequest::Events(Box::new(query)));
    // A coordinator that does not know all of the question would give what was not asked for.
    for asked in [["--host", "n1"], ["--rollout", "web/production"], ["--kind", "host-lost"]] {
        let output = fleet.swell(&[&["events"], &asked[..]].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("is older than this swell"), "{}", text(&output));
    }
}

// --- tokens, publish, strangers ---

#[test]
fn a_token_stands_alone_on_the_standard_output() {
    let fleet = Fleet::new();
    let member = fleet.coordinator(|request: &ControlRequest| match request {
        ControlRequest::TokenCreate { .. } => ControlReply::Token { text: "gsw1_x".to_owned() },
        other => submitted(other),
    });
    let arguments = ["token", "create", "--uses", "3", "--ttl", "2h", "--label", "env=production"];
    let output = fleet.swell(&arguments);
    assert_eq!(output.stdout, b"gsw1_x\n", "{}", text(&output));
    let output = fleet.swell(&["token", "create", "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["token"], "gsw1_x");
    let asked = member.asked.lock().unwrap();
    let label = ("env".parse().unwrap(), "production".parse().unwrap());
    let expected = ControlRequest::TokenCreate { uses: 3, ttl_s: 7_200, labels: vec![label] };
    assert_eq!(asked[0], expected);
}

#[test]
fn publish_sends_the_pieces_that_are_asked_for_and_no_others() {
    let fleet = Fleet::new();
    let member = fleet.coordinator(|request: &ControlRequest| match request {
        ControlRequest::Publish { .. } => ControlReply::Send { pieces: vec![2, 0] },
        other => submitted(other),
    });
    write(&fleet, "swell.toml", SWELL_TOML);
    write(&fleet, "build/app", &[7; 700_000]);
    let commit = ["--commit", "abc", "--branch", "main", "--commit-time", "1700000000"];
    let output = fleet.swell(&[&["publish", "build", "--version", "1.0.0"], &commit[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("in 3 pieces; 2 uploaded, 1 were there"), "{}", text(&output));

    let asked = member.asked.lock().unwrap();
    let Some(ControlRequest::Publish { release, manifest }) = asked.last() else { panic!() };
    let manifest = Manifest::parse(manifest).unwrap();
    let pieces = member.pieces.lock().unwrap();
    let digests: Vec<_> = pieces.iter().map(|piece| Digest::of(piece)).collect();
    assert_eq!(digests, [manifest.pieces[2].digest, manifest.pieces[0].digest]);
    let envelope = Envelope::parse(release, 1 << 20).unwrap();
    assert!(envelope.signed_by(&PublicKey::of(&fleet.key("publisher.key"))));
    let Ok(Statement::Release(release)) = Statement::parse(&envelope) else { panic!() };
    assert_eq!(release.artifact.id, Digest::of(&manifest.to_bytes()));
    assert_eq!(release.source.commit.as_deref(), Some("abc"));
    assert_eq!(release.run.start, "a");
}

/// A coordinator that was recovered may lack what no host had.
#[test]
fn publishing_the_very_same_again_brings_what_the_coordinator_lacks() {
    let fleet = Fleet::new();
    let (admit, known) = (fleet.key("coordinator/admit.key"), std::sync::Mutex::new(None));
    let member = fleet.coordinator(move |request: &ControlRequest| {
        let mut known = known.lock().unwrap();
        match (request, &*known) {
            (ControlRequest::Release { .. }, Some(envelope)) => {
                ControlReply::Statement { envelope: Vec::clone(envelope) }
            }
            (ControlRequest::Publish { .. }, Some(_)) => ControlReply::Send { pieces: vec![1] },
            (ControlRequest::Publish { release, .. }, None) => {
                let mut envelope = Envelope::parse(release, 1 << 20).unwrap();
                envelope.sign(&admit);
                *known = Some(envelope.to_bytes());
                ControlReply::Send { pieces: Vec::new() }
            }
            (other, _) => submitted(other),
        }
    });
    write(&fleet, "swell.toml", SWELL_TOML);
    write(&fleet, "build/app", &[7; 700_000]);
    let publish = || text(&fleet.swell(&["publish", "build", "--version", "1.0.0"]));
    let first = publish();
    assert!(first.contains("0 uploaded, 3 were there"), "{first}");
    let again = publish();
    assert!(again.contains("already, the very same; 1 piece it lacked"), "{again}");
    assert_eq!(member.pieces.lock().unwrap().len(), 1);
}

#[test]
fn a_host_is_no_coordinator_and_another_fleet_is_no_member() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    let host = fleet.member(1, submitted);
    let stranger = other.member(1, submitted);
    let via =
        |address: std::net::SocketAddr| fleet.swell(&["status", "--via", &address.to_string()]);
    // A host answers as a member; this one just does not know.
    let output = via(host.address);
    assert!(
        text(&output).contains("cannot ask for the fleet: not in this test"),
        "{}",
        text(&output)
    );
    let output = via(stranger.address);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("refused"), "{}", text(&output));
    assert!(stranger.asked.lock().unwrap().is_empty());
    // Who stands at the coordinator's address must be the coordinator.
    let path = fleet.dir.path().join("operator.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, toml.replace("127.0.0.1:7070", &host.address.to_string())).unwrap();
    let output = fleet.swell(&["status"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("not the coordinator"), "{}", text(&output));
}
