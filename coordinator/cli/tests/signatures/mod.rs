//! What is said of a statement that was handed in, and how one that waits gets its other signatures.

use proto::statement::{Directive, Freeze};

use super::*;

/// Takes in whatever is handed in, as lacking a signature.
fn waiting(request: &ControlRequest) -> ControlReply {
    match submitted(request) {
        ControlReply::Submitted { id, superseded_by, .. } => {
            let note = "1 of 2 signatures".to_owned();
            ControlReply::Submitted { id, effective: false, superseded_by, note }
        }
        other => other,
    }
}

/// Answers about the first rollout, but for what is handed in.
fn with_answer(
    fleet: &Fleet,
    handed_in: impl Fn(&ControlRequest) -> ControlReply + Send + Sync + 'static,
) -> impl fake::Answer {
    let look = report(fleet, RolloutPhase::Running, [Some(State::Baking), None]);
    let about = about_rollout(fleet, first_facts(fleet), move || look.clone());
    move |request: &ControlRequest| match request {
        ControlRequest::Submit { .. } => handed_in(request),
        other => about(other),
    }
}

#[test]
fn a_rollout_that_came_too_late_is_an_error_and_nothing_to_approve() {
    let fleet = Fleet::new();
    write(&fleet, "swell.toml", SWELL_TOML);
    let newer = Digest::of(b"the other's");
    let late = move |request: &ControlRequest| match submitted(request) {
        ControlReply::Submitted { id, effective, note, .. } => {
            ControlReply::Submitted { id, effective, superseded_by: Some(newer), note }
        }
        other => other,
    };
    let member = fleet.coordinator(with_answer(&fleet, late));
    for watch in [&[][..], &["--watch"]] {
        let deploy = ["deploy", "web", "1.0.0", "--env", "production", "--yes"];
        let output = fleet.swell(&[&deploy, watch].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let told = format!(
            "starts nowhere: {newer} came before it and is newer\n  next: swell explain {newer}"
        );
        assert!(text(&output).contains(&told), "{}", text(&output));
        assert!(text(&output).contains("deploy again"), "{}", text(&output));
        assert!(!text(&output).contains("approve"), "{}", text(&output));
    }
    assert_eq!(member.submitted().len(), 2);
}

#[test]
fn what_waits_for_signatures_is_held_and_says_how_to_go_on() {
    let fleet = Fleet::new();
    write(&fleet, "swell.toml", SWELL_TOML);
    let member = fleet.coordinator(with_answer(&fleet, waiting));
    let cases: [&[&str]; 3] = [
        &["abort", "web/production"],
        &["promote", "web/production"],
        &["deploy", "web", "1.0.0", "--env", "production", "--yes"],
    ];
    for arguments in cases {
        let output = fleet.swell(arguments);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}: {}", text(&output));
        let envelope = Envelope::parse(member.submitted().last().unwrap(), 1 << 20).unwrap();
        let id = match arguments[0] {
            "deploy" => format!("{}", envelope.id()),
            _ => format!("{:#}", envelope.id()),
        };
        let told = format!("1 of 2 signatures\n  next: somebody who may: swell approve {id}\n");
        assert!(text(&output).contains(&told), "{arguments:?}: {}", text(&output));
        assert!(!text(&output).contains("goes on without"), "{}", text(&output));
    }
}

/// R3: thresholds above 1 can be met, whatever it is that people sign.
#[test]
fn r3_whatever_waits_for_signatures_is_approved_by_its_id() {
    let fleet = Fleet::of_two();
    let author = KeyId::of(&PublicKey::of(&fleet.key("operator.key")));
    let freeze = Freeze {
        fleet: fleet.root.fleet.clone(),
        env: "production".parse().unwrap(),
        host: None,
        sequence: 1,
        until: now().plus_s(600),
        author,
        created: now(),
        reason: "audit".to_owned(),
        critical: Vec::new(),
    };
    let signed = fleet.sign(&freeze, &["operator.key"]);
    let id = Envelope::parse(&signed, 1 << 20).unwrap().id();
    let held = signed.clone();
    let member = fleet.coordinator(move |request: &ControlRequest| match request {
        ControlRequest::Statement { .. } => ControlReply::Statement { envelope: held.clone() },
        other => submitted(other),
    });
    let approve = ["approve", &format!("{id:#}"), "--yes"];
    let output = fleet.swell(&approve);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("it is by this very key"), "{}", text(&output));
    assert!(member.submitted().is_empty());

    let second = std::fs::read(fleet.dir.path().join("publisher.key")).unwrap();
    let first = std::fs::read(fleet.dir.path().join("operator.key")).unwrap();
    std::fs::write(fleet.dir.path().join("operator.key"), second).unwrap();
    let output = fleet.swell(&approve);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("nothing new starts in production until"), "{}", text(&output));
    // Members put the signatures together; both make it count.
    let mut both = Envelope::parse(&member.submitted()[0], 1 << 20).unwrap();
    assert_eq!((both.id(), both.signatures().len()), (id, 1));
    std::fs::write(fleet.dir.path().join("operator.key"), first).unwrap();
    both.sign(&fleet.key("operator.key"));
    let verified = verify(&fleet.chain(), &both.to_bytes(), now()).unwrap();
    assert_eq!(verified.standing, Standing::Effective);
}

#[test]
fn nobody_approves_a_rollout_of_his_own() {
    let fleet = Fleet::new();
    let look = report(&fleet, RolloutPhase::Pending, [None, None]);
    let facts = first_facts(&fleet);
    let member = fleet.coordinator(about_rollout(&fleet, facts, move || look.clone()));
    let output = fleet.swell(&["approve", "web/production", "--yes"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("it is by this very key"), "{}", text(&output));
    assert!(member.submitted().is_empty());
}

#[test]
fn an_approval_is_one_more_signature_over_the_very_same_payload() {
    let fleet = Fleet::new();
    let look = report(&fleet, RolloutPhase::Pending, [None, None]);
    let facts = first_facts(&fleet);
    let member = fleet.coordinator(about_rollout(&fleet, facts, move || look.clone()));
    // Another person, to the command: it signs with whatever key stands there.
    let second = std::fs::read(fleet.dir.path().join("publisher.key")).unwrap();
    std::fs::write(fleet.dir.path().join("operator.key"), second).unwrap();
    let output = fleet.swell(&["approve", "web/production", "--yes"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let envelope = Envelope::parse(&member.submitted()[0], 1 << 20).unwrap();
    assert_eq!(envelope.id(), first_rollout_at(&fleet).0);
    assert_eq!(envelope.signatures().len(), 1);
    assert!(envelope.signed_by(&PublicKey::of(&fleet.key("publisher.key"))));
}

/// A directive as the coordinator's pages prepare one, not signed.
fn draft(fleet: &Fleet, action: Action, sequence: u64) -> (Digest, Vec<u8>) {
    let directive = Directive {
        fleet: fleet.root.fleet.clone(),
        rollout: first_rollout_at(fleet).0,
        sequence,
        action,
        wave: None,
        host: None,
        author: KeyId::of(&PublicKey::of(&fleet.key("operator.key"))),
        created: now(),
        reason: "looked at it".to_owned(),
        critical: Vec::new(),
    };
    let envelope = directive.envelope();
    (envelope.id(), envelope.to_bytes())
}

/// What it does to which rollout is told by what people have signed: the page may say what it likes.
#[test]
fn r3_what_a_page_prepared_is_shown_as_it_is_and_then_signed() {
    let fleet = Fleet::new();
    let cases = [
        (Action::Resume, 8, RolloutPhase::Paused, Some(0)),
        (Action::Resume, 7, RolloutPhase::Paused, None),
        (Action::Resume, 8, RolloutPhase::Complete, None),
        (Action::Abort, 8, RolloutPhase::Running, None),
    ];
    for (action, sequence, phase, done) in cases {
        let look = report(&fleet, phase, [Some(State::Baking), None]);
        let facts = ScopeFacts { directive_sequence: 7, ..first_facts(&fleet) };
        let about = about_rollout(&fleet, facts, move || look.clone());
        let (id, envelope) = draft(&fleet, action, sequence);
        let member = fleet.coordinator(move |request: &ControlRequest| match request {
            ControlRequest::Draft { .. } => ControlReply::Statement { envelope: envelope.clone() },
            other => about(other),
        });
        let output = fleet.swell(&["sign", &format!("{id:#}"), "--yes"]);
        let shown = text(&output);
        assert_eq!(output.status.code(), done.or(Some(1)), "{action:?} {sequence}: {shown}");
        assert_eq!(member.submitted().len(), usize::from(done.is_some()), "{shown}");
        if done.is_some() {
            assert!(shown.starts_with("resume web (none) -> 1.0.0 in production ("), "{shown}");
            assert!(
                shown.contains("stands    paused") && shown.contains("looked at it"),
                "{shown}"
            );
            let handed_in = Envelope::parse(&member.submitted()[0], 1 << 20).unwrap();
            assert_eq!(handed_in.id(), id);
            assert!(handed_in.signed_by(&PublicKey::of(&fleet.key("operator.key"))));
        }
    }
}
