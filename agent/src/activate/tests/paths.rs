//! Every way forward and back, without crashes: what is called, in what order, and how it ends.

use super::*;

const BAD: [Behaviour; 2] = [Behaviour::StartFails, Behaviour::NeverReady];

fn release_failure(note: &str) -> Outcome {
    Outcome::Reverted { cause: Cause::Release, note: note.to_owned() }
}

#[test]
fn r22_forward_in_order() {
    let host = Host::new();
    let from = host.settle_on("1");
    host.calls();
    let to = host.install("2", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    // Once more while nothing runs: a release that cannot be stopped could not be left again.
    let expected = ["stop 1 forward", "stop 2 forward", "start 2 forward", "ready 2 forward"];
    assert_eq!(host.calls(), expected);
    assert_eq!((host.current(), host.running()), (Some(to), Some(to)));
    let link = host.disk.read_link(Path::new("/srv/web/current")).unwrap();
    assert_eq!(link, Path::new("releases").join(to.to_string()), "relative");
    host.activator.commit(ATTEMPT).unwrap();
    host.activator.commit(ATTEMPT).expect("asked twice, done once");
}

#[test]
fn r22_a_bad_release_goes_back_the_same_way() {
    for (behaviour, note, ready) in [
        (Behaviour::StartFails, "start exited 1", None),
        (Behaviour::NeverReady, "not ready within 30 s", Some("ready 2 forward")),
    ] {
        let host = Host::new();
        let from = host.settle_on("1");
        host.calls();
        let to = host.install("2", behaviour);
        let outcome = host.activator.activate(ATTEMPT, Some(from), to, Way::Forward);
        assert_eq!(outcome, release_failure(note), "{behaviour:?}");
        let mut expected = vec!["stop 1 forward", "stop 2 forward", "start 2 forward"];
        expected.extend(ready);
        expected.extend(["stop 2 back", "start 1 back", "ready 1 back"]);
        assert_eq!(host.calls(), expected, "{behaviour:?}");
        assert_eq!((host.current(), host.running()), (Some(from), Some(from)), "{behaviour:?}");
        let error = host.activator.commit(ATTEMPT).unwrap_err().to_string();
        assert!(error.ends_with("is not baking: it is reverted"), "{error}");
    }
}

/// What could not be left again, neither forward nor back, is found out before it serves.
#[test]
fn r22_a_release_that_cannot_be_stopped_is_not_started() {
    let host = Host::new();
    let from = host.settle_on("1");
    host.calls();
    let to = host.install("2", Behaviour::NoStop);
    let outcome = host.activator.activate(ATTEMPT, Some(from), to, Way::Forward);
    assert_eq!(outcome, release_failure("stop exited 127, tried while nothing ran"));
    let called =
        ["stop 1 forward", "stop 2 forward", "stop 1 back", "start 1 back", "ready 1 back"];
    assert_eq!(host.calls(), called);
    assert_eq!((host.current(), host.running()), (Some(from), Some(from)));

    let host = Host::new();
    let first = host.install("1", Behaviour::NoStop);
    let outcome = host.activator.activate(ATTEMPT, None, first, Way::Forward);
    assert_eq!(outcome, release_failure("stop exited 127, tried while nothing ran"));
    assert_eq!((host.current(), host.running()), (None, None));
    host.settle_on("2");
}

/// What everything ran before is brought back, however its commands do, and those of what is left.
#[test]
fn r12_an_operators_way_back_is_barred_by_no_stop_and_no_drain() {
    let host = Host::that_runs(Run::Unit);
    let bad = host.settle_on("2");
    host.services.machine.lock().unwrap().behaviours.insert(bad, Behaviour::DrainFails);
    let good = host.install("1", Behaviour::Good);
    host.calls();
    assert_eq!(host.activator.activate(ATTEMPT, Some(bad), good, Way::Back), Outcome::Baking);
    assert_eq!(host.calls()[..2], ["drain 2 back", "stop 2 back"]);
    assert_eq!((host.current(), host.running()), (Some(good), Some(good)));

    let host = Host::new();
    let bad = host.settle_on("2");
    let good = host.install("1", Behaviour::NoStop);
    host.calls();
    assert_eq!(host.activator.activate(ATTEMPT, Some(bad), good, Way::Back), Outcome::Baking);
    assert_eq!(host.calls()[..3], ["stop 2 back", "stop 1 back", "start 1 back"]);
    assert_eq!((host.current(), host.running()), (Some(good), Some(good)));
}

/// Systemd stops a unit, so there is no command of the release to be found wanting.
#[test]
fn r22_the_stop_of_a_unit_is_not_tried() {
    let host = Host::that_runs(Run::Unit);
    let to = host.install("1", Behaviour::NoStop);
    assert_eq!(host.activator.activate(ATTEMPT, None, to, Way::Forward), Outcome::Baking);
    let called = ["load 1 forward", "start 1 forward", "ready 1 forward", "check 1 forward"];
    assert_eq!(host.calls()[..4], called);
}

#[test]
fn r25_a_bad_first_deployment_leaves_nothing() {
    for behaviour in BAD {
        let host = Host::new();
        let to = host.install("1", behaviour);
        let outcome = host.activator.activate(ATTEMPT, None, to, Way::Forward);
        assert!(matches!(outcome, Outcome::Reverted { cause: Cause::Release, .. }), "{outcome:?}");
        assert_eq!((host.current(), host.running()), (None, None), "{behaviour:?}");
        assert_eq!(host.calls().last().unwrap(), "stop 1 back", "{behaviour:?}");
        // And the next one is a first deployment again.
        host.settle_on("2");
    }
}

#[test]
fn a_way_back_from_the_bake_and_after_a_commit() {
    for committed in [false, true] {
        let host = Host::new();
        let from = host.settle_on("1");
        let to = host.install("2", Behaviour::Good);
        assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
        if committed {
            host.activator.commit(ATTEMPT).unwrap();
        }
        host.calls();
        host.activator.revert(ATTEMPT + 1, Some(from)).unwrap();
        assert_eq!(host.calls(), ["stop 2 back", "start 1 back", "ready 1 back"]);
        assert_eq!((host.current(), host.running()), (Some(from), Some(from)));
        // Asked again, say after a restart: it serves, so nothing is done.
        host.activator.revert(ATTEMPT + 1, Some(from)).unwrap();
        assert_eq!(host.calls(), ["ready 1 back"]);
    }
}

#[test]
fn a_way_back_to_what_serves_stops_nothing() {
    let host = Host::new();
    host.activator.revert(ATTEMPT, None).expect("nothing is deployed, as asked");
    let from = host.settle_on("1");
    host.calls();
    host.activator.revert(ATTEMPT, Some(from)).unwrap();
    assert_eq!(host.calls(), ["ready 1 back"]);
    // But one that does not answer is started anew.
    host.services.machine.lock().unwrap().running = None;
    host.activator.revert(ATTEMPT, Some(from)).unwrap();
    assert_eq!(host.running(), Some(from));
}

#[test]
fn a_failed_way_back_to_what_nobody_can_ask_is_tried_again() {
    let host = Host::new();
    let from = host.install("1", Behaviour::Unasked);
    assert_eq!(host.activator.activate(1, None, from, Way::Forward), Outcome::Baking);
    host.activator.commit(1).unwrap();
    let to = host.install("2", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    host.services.machine.lock().unwrap().behaviours.insert(to, Behaviour::StopFails);
    host.activator.revert(ATTEMPT + 1, Some(from)).unwrap_err();
    host.services.machine.lock().unwrap().running = None;
    host.activator.revert(ATTEMPT + 2, Some(from)).unwrap();
    assert_eq!(host.running(), Some(from), "`current` pointing at it is no proof that it runs");
}

#[test]
fn an_attempt_asked_for_again_answers_again() {
    let host = Host::new();
    let from = host.settle_on("1");
    let to = host.install("2", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    host.calls();
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    assert_eq!(host.calls(), [""; 0]);
    let bad = host.install("3", Behaviour::StartFails);
    let outcome = host.activator.activate(ATTEMPT + 1, Some(from), bad, Way::Forward);
    assert_eq!(outcome, release_failure("start exited 1"));
    host.calls();
    assert_eq!(host.activator.activate(ATTEMPT + 1, Some(from), bad, Way::Forward), outcome);
    assert_eq!(host.calls(), [""; 0]);
    // Another attempt tries again.
    assert_eq!(host.activator.activate(ATTEMPT + 2, Some(from), bad, Way::Forward), outcome);
    assert_eq!(host.calls()[..2], ["stop 1 forward", "stop 3 forward"]);
}

#[test]
fn what_serves_already_is_not_stopped() {
    let host = Host::new();
    let to = host.settle_on("1");
    let from = host.install("0", Behaviour::Good);
    host.calls();
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    assert_eq!(host.calls(), ["ready 1 forward"]);
    host.activator.revert(ATTEMPT + 1, Some(from)).expect("and it can go back");
    assert_eq!(host.running(), Some(from));
    // Where it is there and does not answer, it is started.
    host.services.machine.lock().unwrap().running = None;
    assert_eq!(host.activator.activate(ATTEMPT + 2, Some(to), from, Way::Forward), Outcome::Baking);
    assert_eq!(host.running(), Some(from));
}

#[test]
fn a_host_that_missed_a_rollout_goes_back_to_from() {
    let host = Host::new();
    host.settle_on("1");
    let from = host.install("2", Behaviour::Good);
    let to = host.install("3", Behaviour::NeverReady);
    host.calls();
    let outcome = host.activator.activate(ATTEMPT, Some(from), to, Way::Forward);
    assert_eq!(outcome, release_failure("not ready within 30 s"));
    assert_eq!(host.calls()[0], "stop 1 forward", "by the stop command of what ran");
    assert_eq!((host.current(), host.running()), (Some(from), Some(from)));
}

/// What is said to serve again is what serves.
#[test]
fn r12_a_host_that_missed_a_rollout_goes_back_to_from_also_when_nothing_was_started() {
    let host = Host::new();
    host.settle_on("1");
    let from = host.install("2", Behaviour::Good);
    let to = host.install("3", Behaviour::Good);
    host.disk.write_at(&paths().release(&to).join("b"), 0, b"edited").unwrap();
    let outcome = host.activator.activate(ATTEMPT, Some(from), to, Way::Forward);
    let note = "3 is not whole on disk: b was changed".to_owned();
    assert_eq!(outcome, Outcome::Reverted { cause: Cause::Host, note });
    assert_eq!((host.current(), host.running()), (Some(from), Some(from)));
    assert_eq!(
        host.activator.activate(ATTEMPT, Some(from), to, Way::Forward),
        outcome,
        "told again"
    );

    let host = Host::new();
    let runs = host.settle_on("1");
    let to = host.install("3", Behaviour::Good);
    host.calls();
    match host.activator.activate(ATTEMPT, Some(Digest::of(b"missing")), to, Way::Forward) {
        Outcome::RevertFailed { cause: Cause::Host, note } => {
            assert!(note.contains("cannot read /srv/web/releases/"), "{note}");
        }
        other => panic!("what never was here does not serve again: {other:?}"),
    }
    assert_eq!(host.calls(), [""; 0], "no way back, so nothing is touched");
    assert_eq!(host.running(), Some(runs));
}

#[test]
fn r22_nothing_is_stopped_unless_both_trees_are_whole() {
    let spoil = |host: &Host, id: &Digest| {
        let path = paths().release(id).join("b");
        host.disk.write_at(&path, 0, b"edited").unwrap();
    };
    let missing = Digest::of(b"missing");
    type Prepare<'a> = &'a dyn Fn(&Host, Digest, Digest) -> (Digest, Digest);
    let cases: [(&str, Prepare<'_>, &str); 4] = [
        (
            "to is damaged",
            &|host, from, to| {
                spoil(host, &to);
                (from, to)
            },
            "2 is not whole on disk: b was changed",
        ),
        (
            "from is damaged",
            &|host, from, to| {
                spoil(host, &from);
                (from, to)
            },
            "1 is not whole on disk: b was changed",
        ),
        ("to was never staged", &|_, from, _| (from, missing), "cannot read /srv/web/releases/"),
        (
            "current is no link",
            &|host, from, to| {
                let current = Path::new("/srv/web/current");
                host.disk.remove_file(current).unwrap();
                host.disk.create(current, b"").unwrap();
                (from, to)
            },
            "/srv/web/current is not a link to releases/<12 hex>: move it away",
        ),
    ];
    for (case, prepare, expected) in cases {
        let host = Host::new();
        let from = host.settle_on("1");
        let to = host.install("2", Behaviour::Good);
        host.calls();
        let (wanted_from, wanted_to) = prepare(&host, from, to);
        match host.activator.activate(ATTEMPT, Some(wanted_from), wanted_to, Way::Forward) {
            Outcome::Reverted { cause: Cause::Host, note } => {
                assert!(note.contains(expected), "{case}: {note}");
            }
            other => panic!("{case}: {other:?}"),
        }
        assert_eq!(host.calls(), [""; 0], "{case}");
        assert_eq!(host.running(), Some(from), "{case}");
    }
}

#[test]
fn nothing_is_stopped_where_the_first_step_cannot_be_written_down() {
    let host = Host::new();
    let from = host.install("1", Behaviour::Good);
    replace_link(&*host.disk, &paths().current(), &layout::target(&from)).unwrap();
    host.services.machine.lock().unwrap().running = Some(from);
    let to = host.install("2", Behaviour::Good);
    // There is no journal, and none can be made where the directory of journals leads nowhere.
    host.disk.create_dir_all(Path::new("/var/lib/groundswell")).unwrap();
    let journals = Path::new("/var/lib/groundswell/activations");
    host.disk.symlink(Path::new("nowhere"), journals).unwrap();
    let outcome = host.activator.activate(ATTEMPT, Some(from), to, Way::Forward);
    match outcome {
        Outcome::Reverted { cause: Cause::Host, note } => {
            assert!(note.contains("cannot hold room for the way back in /var/lib/"), "{note}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(host.calls(), [""; 0]);
    assert_eq!((host.current(), host.running()), (Some(from), Some(from)));
}

#[test]
fn an_old_release_that_does_not_stop_stays() {
    let host = Host::new();
    let from = host.settle_on("1");
    host.services.machine.lock().unwrap().behaviours.insert(from, Behaviour::StopFails);
    host.calls();
    let to = host.install("2", Behaviour::Good);
    let outcome = host.activator.activate(ATTEMPT, Some(from), to, Way::Forward);
    let note = "stop exited 1".to_owned();
    assert_eq!(outcome, Outcome::Reverted { cause: Cause::Host, note }, "it still answers");
    let expected = ["stop 1 forward", "stop 1 back", "start 1 back", "ready 1 back"];
    assert_eq!(host.calls(), expected);
    assert_eq!((host.current(), host.running()), (Some(from), Some(from)));
}

#[test]
fn a_new_release_that_neither_serves_nor_stops_needs_a_person() {
    let host = Host::new();
    let from = host.settle_on("1");
    let to = host.install("2", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    host.services.machine.lock().unwrap().behaviours.insert(to, Behaviour::StopFails);
    let revert = || host.activator.revert(ATTEMPT + 1, Some(from));
    let note = "going back: the port is taken".to_owned();
    assert_eq!(revert(), Err(note.clone()));
    assert_eq!(host.current(), Some(from), "whole, though it does not run");
    // A restart of the agent changes nothing; mended by hand, it can be asked again.
    let standing = host.activator.recover().unwrap().unwrap();
    assert_eq!(standing.phase, Phase::RevertFailed { cause: Cause::Fleet, note });
    host.services.machine.lock().unwrap().running = None;
    assert_eq!(revert(), Ok(()));
    assert_eq!(host.running(), Some(from));
}

#[test]
fn a_first_deployment_that_does_not_stop_keeps_current() {
    let host = Host::new();
    let to = host.install("1", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, None, to, Way::Forward), Outcome::Baking);
    host.services.machine.lock().unwrap().behaviours.insert(to, Behaviour::StopFails);
    let error = host.activator.revert(ATTEMPT + 1, None).unwrap_err();
    assert!(error.contains("stop exited 1"), "{error}");
    assert_eq!(host.current(), Some(to), "so that its stop command can be found again");
}

#[test]
fn only_the_attempt_that_bakes_can_be_committed() {
    let host = Host::new();
    let text = |attempt| host.activator.commit(attempt).unwrap_err().to_string();
    assert!(text(ATTEMPT).ends_with("this service was never activated"));
    let to = host.install("1", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, None, to, Way::Forward), Outcome::Baking);
    assert!(text(ATTEMPT + 1).ends_with("the last one is attempt 100"));
    host.activator.commit(ATTEMPT).unwrap();
}

// --- restarts ---

#[test]
fn a_service_that_outlives_the_agent_bakes_on() {
    let host = Host::new();
    assert_eq!(host.activator.recover().unwrap(), None, "never activated");
    let from = host.settle_on("1");
    let to = host.install("2", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    let host = host.after_kill();
    let expected =
        Standing { attempt: ATTEMPT, from: Some(from), to, phase: Phase::Baking, down: None };
    assert_eq!(host.activator.recover().unwrap(), Some(expected));
    assert_eq!(host.calls(), [""; 0], "nothing is touched");
    host.activator.commit(ATTEMPT).unwrap();
}

#[test]
fn r19_a_boot_in_the_bake_goes_back() {
    let host = Host::new();
    let from = host.settle_on("1");
    let to = host.install("2", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    let host = host.after_power_cut(0, "boot 2");
    let standing = host.activator.recover().unwrap().unwrap();
    let note = "the machine went down in the bake".to_owned();
    assert_eq!(standing.phase, Phase::Reverted { cause: Cause::Host, note });
    assert_eq!((host.current(), host.running()), (Some(from), Some(from)));
}

#[test]
fn after_a_boot_what_was_committed_is_started() {
    let host = Host::new();
    let id = host.settle_on("1");
    let host = host.after_power_cut(0, "boot 2");
    let standing = host.activator.recover().unwrap().unwrap();
    assert_eq!((standing.phase, standing.down), (Phase::Committed, None));
    assert_eq!(host.running(), Some(id));
    host.calls();
    let standing = host.activator.recover().unwrap().unwrap();
    assert_eq!((standing.phase, host.calls()), (Phase::Committed, vec![]), "once per boot");

    host.services.machine.lock().unwrap().behaviours.insert(id, Behaviour::NeverReady);
    let host = host.after_power_cut(0, "boot 3");
    let standing = host.activator.recover().unwrap().unwrap();
    assert_eq!(standing.down.as_deref(), Some("not ready within 30 s"), "told, not hidden");
}

#[test]
fn a_moved_current_is_no_bake() {
    let host = Host::new();
    let from = host.settle_on("1");
    let to = host.install("2", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    replace_link(&*host.disk, &paths().current(), &layout::target(&from)).unwrap();
    // The release that runs is stopped by the command of another: it takes down what it finds.
    let standing = host.after_kill().activator.recover().unwrap().unwrap();
    assert!(matches!(standing.phase, Phase::Reverted { cause: Cause::Host, .. }), "{standing:?}");
}

#[test]
fn r22_after_a_boot_a_damaged_from_is_not_started() {
    let host = Host::new();
    let from = host.settle_on("1");
    let to = host.install("2", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    host.disk.write_at(&paths().release(&from).join("a"), 0, b"edited").unwrap();
    host.disk.settle();
    let host = host.after_power_cut(0, "boot 2");
    let standing = host.activator.recover().unwrap().unwrap();
    match standing.phase {
        Phase::RevertFailed { note, .. } => {
            assert!(note.contains("1 is not whole on disk: a was changed"), "{note}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(host.current(), Some(to), "whole");
}

#[test]
fn an_unreadable_journal_touches_nothing() {
    let host = Host::new();
    host.settle_on("1");
    host.calls();
    let journal = Path::new("/var/lib/groundswell/activations/web.json");
    host.disk.write_at(journal, 0, b"{{{").unwrap();
    let error = host.activator.recover().unwrap_err().to_string();
    assert!(error.contains("web.json is not an activation journal"), "{error}");
    assert_eq!(host.calls(), [""; 0]);
}

#[test]
fn r23_hooks_in_order_forward_and_back() {
    let host = Host::that_runs(Run::Unit);
    let from = host.settle_on("1");
    host.calls();
    let to = host.install("2", Behaviour::Good);
    assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
    let forward = ["drain 1", "stop 1", "load 2", "start 2", "ready 2", "check 2", "undrain 2"];
    assert_eq!(host.calls(), forward.map(|call| format!("{call} forward")));
    host.activator.commit(ATTEMPT).unwrap();
    host.activator.after_commit();
    assert_eq!(host.calls(), ["after_commit 2 forward"]);
    host.activator.revert(ATTEMPT + 1, Some(from)).unwrap();
    let calls = host.calls();
    let back = ["stop 2", "start 1", "ready 1", "check 1", "undrain 1"];
    let loaded = calls.iter().position(|call| call == "load 1 forward").expect("loaded");
    assert_eq!(loaded, 1, "its unit is known before it is started: {calls:?}");
    let others: Vec<_> = calls.into_iter().filter(|call| call != "load 1 forward").collect();
    assert_eq!(others, back.map(|call| format!("{call} back")), "nothing is drained");
    assert_eq!(host.running(), Some(from));
}

#[test]
fn r23_what_refuses_its_check_goes_back() {
    let host = Host::that_runs(Run::Unit);
    let from = host.settle_on("1");
    let to = host.install("2", Behaviour::CheckRefuses);
    let outcome = host.activator.activate(ATTEMPT, Some(from), to, Way::Forward);
    assert_eq!(outcome, release_failure("check exited 1"));
    assert_eq!((host.current(), host.running()), (Some(from), Some(from)));
    assert!(host.services.machine.lock().unwrap().in_use);
}

#[test]
fn r23_what_cannot_be_drained_is_not_stopped() {
    let host = Host::that_runs(Run::Unit);
    let from = host.settle_on("1");
    host.services.machine.lock().unwrap().behaviours.insert(from, Behaviour::DrainFails);
    let to = host.install("2", Behaviour::Good);
    host.calls();
    let outcome = host.activator.activate(ATTEMPT, Some(from), to, Way::Forward);
    let note = "drain exited 1".to_owned();
    assert_eq!(outcome, Outcome::Reverted { cause: Cause::Host, note });
    assert_eq!(host.calls(), ["drain 1 forward", "undrain 1 forward"]);
    assert_eq!((host.current(), host.running()), (Some(from), Some(from)));
    assert!(host.services.machine.lock().unwrap().in_use, "and put into use again");
    // An agent that starts anew leaves it alone, too.
    let standing = host.after_kill().activator.recover().unwrap().unwrap();
    assert!(matches!(standing.phase, Phase::Reverted { cause: Cause::Host, .. }), "{standing:?}");
}

#[test]
fn units_and_commands_follow_each_other() {
    for (first, second) in [(Run::Commands, Run::Unit), (Run::Unit, Run::Commands)] {
        let mut host = Host::that_runs(first);
        let from = host.settle_on("1");
        host.run = second;
        let to = host.install("2", Behaviour::Good);
        assert_eq!(host.activator.activate(ATTEMPT, Some(from), to, Way::Forward), Outcome::Baking);
        assert_eq!(links(&host.disk).len(), usize::from(second == Run::Unit));
        host.activator.revert(ATTEMPT + 1, Some(from)).unwrap();
        assert_eq!(links(&host.disk).len(), usize::from(first == Run::Unit));
        assert_eq!(host.running(), Some(from));
    }
}
