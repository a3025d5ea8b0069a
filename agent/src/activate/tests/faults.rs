//! The disk fills up, becomes read-only or fails, at every step, for one step or for long, and is
//! mended: a machine that goes on, unlike in [`super::crash`] (R22, R29).

use durable::Fault;

use super::*;

const EVER: u64 = u64::MAX;
const FAULTS: [Fault; 3] = [Fault::Full, Fault::ReadOnly, Fault::Failing];

/// A host that serves version 1 and has `to` on its disk.
fn begin(to: Behaviour) -> (Host, Digest, Digest) {
    let host = Host::new();
    let from = host.settle_on("1");
    let to = host.install("2", to);
    (host, from, to)
}

/// Steps of the disk from the start of an activation to its end, and a way back from there.
fn steps(to: Behaviour) -> std::ops::RangeInclusive<u64> {
    let (host, from, to) = begin(to);
    let start = host.disk.steps();
    if host.activator.activate(ATTEMPT, Some(from), to, Way::Forward) == Outcome::Baking {
        host.activator.revert(ATTEMPT + 1, Some(from)).unwrap();
    }
    start..=host.disk.steps()
}

/// What holds whatever is broken: `current` points at a whole release, and nothing else runs.
fn check(host: &Host, from: Digest, to: Digest, case: &str) {
    let current = host.current().expect(case);
    assert!(current == from || current == to, "{case}: {current:?}");
    assert!(host.is_whole(&current), "{case}");
    assert!(host.running().is_none() || host.running() == Some(current), "{case}");
}

/// Nothing is left over, and the next rollout works.
fn goes_on(host: &Host, case: &str) {
    host.disk.mend();
    let from = host.current();
    let next = host.install("3", Behaviour::Good);
    let outcome = host.activator.activate(ATTEMPT + 3, from, next, Way::Forward);
    assert_eq!(outcome, Outcome::Baking, "{case}");
    host.activator.commit(ATTEMPT + 3).unwrap();
    assert_eq!((host.current(), host.running()), (Some(next), Some(next)), "{case}");
    host.activator.collect_garbage(Pins::new, 2).expect(case);
}

/// The promise of R29: whatever fills the disk, and whenever, the way back is there.
#[test]
fn r29_a_full_disk_keeps_no_host_from_going_back() {
    for behaviour in [Behaviour::Good, Behaviour::StartFails, Behaviour::NeverReady] {
        for step in steps(behaviour) {
            let case = format!("{behaviour:?}, full from step {step} on");
            let (host, from, to) = begin(behaviour);
            host.disk.break_at(step, Fault::Full, EVER);
            match host.activator.activate(ATTEMPT, Some(from), to, Way::Forward) {
                Outcome::Baking => {
                    assert_eq!(host.running(), Some(to), "{case}");
                    host.activator.revert(ATTEMPT + 1, Some(from)).expect(&case);
                }
                Outcome::Reverted { note, .. } => assert!(!note.is_empty(), "{case}"),
                Outcome::RevertFailed { note, .. } => panic!("{case}: {note}"),
            }
            check(&host, from, to, &case);
            assert_eq!((host.current(), host.running()), (Some(from), Some(from)), "{case}");
            goes_on(&host, &case);
        }
    }
}

/// Also where the agent is killed on a disk that stays full, and starts anew.
#[test]
fn r29_a_full_disk_keeps_no_starting_agent_from_going_back() {
    for step in steps(Behaviour::Good) {
        let case = format!("full and killed at step {step}");
        let (host, from, to) = begin(Behaviour::Good);
        host.disk.fail_at(step);
        let _ = host.activator.activate(ATTEMPT, Some(from), to, Way::Forward);
        let host = host.after_kill();
        host.disk.break_at(0, Fault::Full, EVER);
        let standing = host.activator.recover().expect(&case);
        if let Some(Phase::RevertFailed { note, .. }) = standing.map(|standing| standing.phase) {
            panic!("{case}: {note}");
        }
        check(&host, from, to, &case);
        assert_eq!(host.running(), host.current(), "{case}");
        goes_on(&host, &case);
    }
}

#[test]
fn r29_nothing_is_stopped_where_there_is_no_room_for_the_way_back() {
    let (host, from, to) = begin(Behaviour::Good);
    let reserve = Path::new("/srv/web/.reserve");
    host.disk.remove_file(reserve).unwrap();
    host.calls();
    host.disk.break_at(host.disk.steps(), Fault::Full, EVER);
    match host.activator.activate(ATTEMPT, Some(from), to, Way::Forward) {
        Outcome::Reverted { cause: Cause::Host, note } => {
            assert_eq!(
                note,
                "No space left on device (os error 28): cannot hold room for the way back in \
                 /srv/web/.reserve"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(host.calls(), [""; 0]);
    assert_eq!(host.running(), Some(from));
    // It goes on by itself once there is room: with another attempt, as the lane makes them.
    host.disk.mend();
    assert_eq!(host.activator.activate(ATTEMPT + 1, Some(from), to, Way::Forward), Outcome::Baking);
    assert!(host.disk.kind(reserve).unwrap().is_some());
}

/// What a read-only or a failing disk cannot hold is said, and mended it goes on. Where it broke
/// between the swap and the start nothing can be moved: that needs a person, and is tried again.
#[test]
fn r22_a_disk_that_breaks_at_any_step_leaves_current_whole_and_goes_on_when_mended() {
    for (fault, lasts) in FAULTS.into_iter().flat_map(|fault| [(fault, 1), (fault, EVER)]) {
        for step in steps(Behaviour::Good) {
            let case = format!("{fault:?} from step {step} on, for {lasts}");
            let (host, from, to) = begin(Behaviour::Good);
            host.disk.break_at(step, fault, lasts);
            let outcome = host.activator.activate(ATTEMPT, Some(from), to, Way::Forward);
            check(&host, from, to, &case);
            match outcome {
                Outcome::Baking => assert_eq!(host.running(), Some(to), "{case}"),
                Outcome::Reverted { cause, note } => {
                    assert_eq!((cause, host.running()), (Cause::Host, Some(from)), "{case}");
                    assert!(
                        note.contains("/srv/web") || note.contains("journal"),
                        "{case}: {note}"
                    );
                }
                Outcome::RevertFailed { note, .. } => {
                    assert_eq!(host.current(), Some(to), "{case}: it could not be moved");
                    assert!(note.contains("going back: /srv/web/current: "), "{case}: {note}");
                }
            }
            let committed = host.activator.commit(ATTEMPT).is_ok();
            assert!(!committed || host.running() == Some(to), "{case}");
            host.disk.mend();
            host.activator.revert(ATTEMPT + 1, Some(from)).expect(&case);
            assert_eq!((host.current(), host.running()), (Some(from), Some(from)), "{case}");
            goes_on(&host, &case);
        }
    }
}

/// What is cleared away is cleared away whole, now or the next time.
#[test]
fn r29_a_fault_at_every_step_of_a_removal_leaves_whole_releases() {
    let begin = || {
        let host = Host::new();
        for version in ["1", "2", "3", "4"] {
            host.settle_on(version);
        }
        host
    };
    let collect = |host: &Host| host.activator.collect_garbage(Pins::new, 2);
    let host = begin();
    let start = host.disk.steps();
    collect(&host).unwrap();
    for (fault, lasts) in FAULTS.into_iter().flat_map(|fault| [(fault, 1), (fault, EVER)]) {
        for step in start..host.disk.steps() {
            let host = begin();
            host.disk.break_at(step, fault, lasts);
            let case = format!("{fault:?} from step {step} on, for {lasts}");
            // Removing needs no room.
            assert_eq!(collect(&host).is_ok(), fault == Fault::Full, "{case}");
            for installed in list(&*host.disk, &paths()).unwrap() {
                assert!(host.is_whole(&installed.id), "{case}");
            }
            host.disk.mend();
            collect(&host).expect(&case);
            assert_eq!(list(&*host.disk, &paths()).unwrap().len(), 2, "{case}");
        }
    }
}
