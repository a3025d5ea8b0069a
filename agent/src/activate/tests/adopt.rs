//! Adoption: the power is cut and the agent killed before every step, and nobody notices; then the
//! real thing, with a service that was there before.

use super::*;

const UNIT: &str = "web.service";
/// What somebody else has written.
const FOREIGN: &[u8] = b"[Service]\nExecStart=/opt/web/run\n";

fn unit_file() -> PathBuf {
    Path::new(UNITS).join(UNIT)
}

/// What has it started at a boot.
fn wanted() -> PathBuf {
    Path::new(UNITS).join("multi-user.target.wants").join(UNIT)
}

/// A host on which a service runs that nobody deployed, and the release that it is, on its disk.
struct Scene {
    host: Host,
    to: Digest,
    committed: bool,
    reverting: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    Commit,
    Revert,
    CommitAndRevert,
}

const STORIES: [(Behaviour, Then); 6] = [
    (Behaviour::Good, Then::Commit),
    (Behaviour::Good, Then::Nothing),
    (Behaviour::Good, Then::Revert),
    (Behaviour::Good, Then::CommitAndRevert),
    (Behaviour::NeverReady, Then::Nothing),
    (Behaviour::SickInPlace, Then::Nothing),
];

fn begin(run: Run, behaviour: Behaviour) -> Scene {
    let host = Host::that_runs(run);
    let to = host.install("2", behaviour);
    if run == Run::Unit {
        host.disk.create(&unit_file(), FOREIGN).unwrap();
        host.disk.create_dir_all(wanted().parent().unwrap()).unwrap();
        host.disk.symlink(&unit_file(), &wanted()).unwrap();
    }
    host.disk.settle();
    host.services.machine.lock().unwrap().running = Some(to);
    Scene { host, to, committed: false, reverting: false }
}

impl Scene {
    fn play(&mut self, then: Then) {
        let activator = &self.host.activator;
        if activator.adopt(ATTEMPT, self.to) != Outcome::Baking {
            return;
        }
        if matches!(then, Then::Commit | Then::CommitAndRevert) {
            self.committed = activator.commit(ATTEMPT).is_ok();
        }
        if matches!(then, Then::Revert | Then::CommitAndRevert) {
            self.reverting = true;
            let _ = activator.revert(ATTEMPT + 1, None);
        }
    }

    /// The machine comes up after a power cut, and starts what it starts by itself.
    fn after_power_cut(&self, seed: u64, boot: &str) -> Host {
        boot_up(&self.host, self.to, seed, boot)
    }

    /// What must hold at any time, before anybody has recovered anything.
    fn check_untouched(&self, host: &Host, case: &str) {
        let calls = host.calls();
        let moved = |call: &&String| {
            ["start ", "stop ", "drain ", "undrain "].iter().any(|verb| call.starts_with(verb))
        };
        assert_eq!(calls.iter().find(moved), None, "{case}: {calls:?}");
        assert_eq!(host.running(), Some(self.to), "{case}: it runs on");
    }

    /// What must hold once `host` has recovered.
    fn check(&self, host: &Host, standing: Option<&Standing>, booted: bool, case: &str) {
        assert_eq!(host.running(), Some(self.to), "{case}: it runs");
        let current = host.current();
        let adopted = current.is_some();
        assert!(current.is_none_or(|current| current == self.to), "{case}");
        if host.run == Run::Unit {
            assert_eq!(is_foreign(host), !adopted, "{case}: whose unit is there");
            let linked = host.services.linked();
            assert_eq!(linked, current, "{case}: the unit of what `current` points at");
            let loaded = host.services.machine.lock().unwrap().loaded;
            assert_eq!(loaded, linked, "{case}: and systemd has read it");
            let starts = host.disk.kind(&wanted()).unwrap().is_some();
            assert_eq!(starts, !adopted, "{case}: nothing starts before the journal decides");
        }
        if self.committed && !self.reverting {
            assert!(adopted, "{case}: a commit that was answered is kept");
        }
        match standing.map(|one| &one.phase) {
            Some(Phase::Committed) => assert!(adopted, "{case}"),
            Some(Phase::Baking) => assert!(adopted && !booted, "{case}"),
            Some(Phase::Reverted { .. }) | None => assert!(!adopted, "{case}: as it was found"),
            Some(Phase::RevertFailed { note, .. }) => panic!("{case}: {note}"),
        }
        assert_eq!(standing.and_then(|one| one.down.as_deref()), None, "{case}");
    }

    /// What was adopted is what the next release comes from, and where it goes back to; what was not
    /// can be adopted again.
    fn goes_on(&self, host: &Host, case: &str) {
        host.services.machine.lock().unwrap().behaviours.insert(self.to, Behaviour::Good);
        host.calls();
        if host.current().is_none() {
            assert_eq!(host.activator.adopt(ATTEMPT + 2, self.to), Outcome::Baking, "{case}");
            host.activator.commit(ATTEMPT + 2).unwrap();
            self.check_untouched(host, case);
        }
        let bad = host.install("3", Behaviour::StartFails);
        let outcome = host.activator.activate(ATTEMPT + 3, Some(self.to), bad, Way::Forward);
        assert!(matches!(outcome, Outcome::Reverted { .. }), "{case}: {outcome:?}");
        let back = (host.current(), host.running());
        assert_eq!(back, (Some(self.to), Some(self.to)), "{case}: back to what was adopted");
        let good = host.install("4", Behaviour::Good);
        let outcome = host.activator.activate(ATTEMPT + 4, Some(self.to), good, Way::Forward);
        assert_eq!((outcome, host.running()), (Outcome::Baking, Some(good)), "{case}");
    }
}

/// What could not be adopted runs on, also where the next release cannot even begin: nothing of ours
/// ran, so there is nothing to bring back beside it.
#[test]
fn r12_where_nothing_was_adopted_the_next_release_that_cannot_begin_starts_nothing() {
    for run in [Run::Commands, Run::Unit] {
        let Scene { host, to, .. } = begin(run, Behaviour::NeverReady);
        assert!(matches!(host.activator.adopt(ATTEMPT, to), Outcome::Reverted { .. }));
        let next = host.install("3", Behaviour::Good);
        let file = host.activator.paths.release(&next).join("a");
        host.disk.remove_file(&file).unwrap();
        host.calls();
        for attempt in 1..3 {
            let outcome = host.activator.activate(ATTEMPT + attempt, Some(to), next, Way::Forward);
            assert!(matches!(outcome, Outcome::Reverted { .. }), "{run:?}: {outcome:?}");
            assert_eq!((host.current(), host.running()), (None, Some(to)), "{run:?}");
            assert!(!host.calls().iter().any(|call| call.starts_with("start ")), "{run:?}");
        }
    }
}

/// Commands of a release that is given back start nothing: where nothing else has done so since a
/// boot, a person is told.
#[test]
fn r12_what_nobody_started_after_a_boot_is_no_way_back_that_came_through() {
    for (starts, expected) in [(true, true), (false, false)] {
        let Scene { host, to, .. } = begin(Run::Commands, Behaviour::Good);
        assert_eq!(host.activator.adopt(ATTEMPT, to), Outcome::Baking);
        host.disk.settle();
        let host = host.after_power_cut(1, "boot 2");
        if starts {
            host.services.machine.lock().unwrap().running = Some(to);
        }
        let standing = host.activator.recover().unwrap().unwrap();
        let came_through = matches!(standing.phase, Phase::Reverted { .. });
        assert_eq!(came_through, expected, "{:?}", standing.phase);
        assert_eq!(host.current(), None);
        if let Phase::RevertFailed { note, .. } = standing.phase {
            assert!(note.contains("start it as it was started before"), "{note}");
        }
    }
}

/// Whether what somebody else wrote is in its place.
fn is_foreign(host: &Host) -> bool {
    host.disk.read(&unit_file(), 1_000).is_ok_and(|bytes| bytes == FOREIGN)
}

fn boot_up(host: &Host, to: Digest, seed: u64, boot: &str) -> Host {
    let host = host.after_power_cut(seed, boot);
    let starts = match host.run {
        // Whatever had started it before does so again.
        Run::Commands => true,
        Run::Unit | Run::UnitOfItsOwn => {
            [wanted(), unit_file()].iter().all(|path| host.disk.kind(path).unwrap().is_some())
        }
    };
    assert!(!starts || host.run == Run::Commands || is_foreign(&host), "not before the journal");
    if starts {
        host.services.machine.lock().unwrap().running = Some(to);
    }
    host
}

/// Every story on a host of either kind, with the number of steps of the disk that it takes.
fn stories() -> impl Iterator<Item = (Run, Behaviour, Then, std::ops::Range<u64>)> {
    let runs = [Run::Commands, Run::Unit].into_iter();
    runs.flat_map(|run| STORIES.map(|(behaviour, then)| (run, behaviour, then))).map(
        |(run, behaviour, then)| {
            let mut scene = begin(run, behaviour);
            let start = scene.host.disk.steps();
            scene.play(then);
            (run, behaviour, then, start..scene.host.disk.steps() + 1)
        },
    )
}

#[test]
fn r22_what_runs_is_adopted_and_given_back_without_a_restart() {
    for (run, behaviour, then, _) in stories() {
        let case = format!("{run:?}, {behaviour:?}, {then:?}");
        let mut scene = begin(run, behaviour);
        scene.play(then);
        scene.check_untouched(&scene.host, &case);
        let good = behaviour == Behaviour::Good;
        assert_eq!(scene.host.current().is_some(), good && !scene.reverting, "{case}");
        assert_eq!(scene.committed, good && matches!(then, Then::Commit | Then::CommitAndRevert));
        let standing = scene.host.activator.recover().unwrap();
        scene.check(&scene.host, standing.as_ref(), false, &case);
        scene.goes_on(&scene.host, &case);
    }
}

/// Every story, with the agent killed before every step of the disk and in every call.
fn killed(mut test: impl FnMut(&Scene, &Host, &str)) {
    for (run, behaviour, then, steps) in stories() {
        for step in steps {
            let mut scene = begin(run, behaviour);
            scene.host.disk.fail_at(step);
            scene.play(then);
            let case = format!("{run:?}, {behaviour:?}, {then:?}, before step {step}");
            test(&scene, &scene.host.after_kill(), &case);
        }
        let mut scene = begin(run, behaviour);
        scene.play(then);
        for call in 0..scene.host.calls().len() {
            for happens in [false, true] {
                let mut scene = begin(run, behaviour);
                scene.host.services.machine.lock().unwrap().dies_in = Some((call, happens));
                scene.play(then);
                let case = format!("{run:?}, {behaviour:?}, {then:?}, in call {call} ({happens})");
                test(&scene, &scene.host.after_kill(), &case);
            }
        }
    }
}

#[test]
fn r22_an_agent_killed_in_an_adoption_stops_nothing() {
    killed(|scene, host, case| {
        let standing = host.activator.recover().unwrap();
        scene.check_untouched(host, case);
        scene.check(host, standing.as_ref(), false, case);
        scene.goes_on(host, case);
    });
}

#[test]
fn r19_a_guard_in_place_of_an_agent_killed_in_an_adoption_stops_nothing() {
    killed(|scene, host, case| {
        let standing = host.activator.stand_in().unwrap();
        scene.check_untouched(host, case);
        scene.check(host, standing.as_ref(), false, case);
    });
}

#[test]
fn r22_power_cut_before_every_step_of_an_adoption() {
    for (run, behaviour, then, steps) in stories() {
        for step in steps {
            let mut scene = begin(run, behaviour);
            scene.host.disk.fail_at(step);
            scene.play(then);
            for seed in 0..8 {
                let case = format!("{run:?}, {behaviour:?}, {then:?}, cut at {step}, seed {seed}");
                let first = scene.after_power_cut(seed, "boot 2");
                let steps = first.disk.steps();
                let standing = first.activator.recover().unwrap();
                scene.check(&first, standing.as_ref(), true, &case);
                // And once more, while it recovers.
                if seed < 2 {
                    for again in steps..=first.disk.steps() {
                        let second = scene.after_power_cut(seed, "boot 2");
                        second.disk.fail_at(again);
                        let _ = second.activator.recover();
                        let third = boot_up(&second, scene.to, seed + again, "boot 3");
                        let case = format!("{case}, again at {again}");
                        let standing = third.activator.recover().unwrap();
                        scene.check(&third, standing.as_ref(), true, &case);
                    }
                }
                scene.goes_on(&first, &case);
            }
        }
    }
}

/// Room is held for that way back, too: that it came through is written down.
#[test]
fn r29_a_full_disk_keeps_no_adoption_from_being_given_back() {
    let back = |behaviour, then| behaviour == Behaviour::SickInPlace || then == Then::Revert;
    for (run, behaviour, then, steps) in stories().filter(|story| back(story.1, story.2)) {
        for step in steps {
            let case = format!("{run:?}, {behaviour:?}, full from step {step} on");
            let mut scene = begin(run, behaviour);
            scene.host.disk.break_at(step, durable::Fault::Full, u64::MAX);
            scene.play(then);
            let host = &scene.host;
            scene.check_untouched(host, &case);
            assert!(host.current().is_none(), "{case}");
            assert!(run == Run::Commands || is_foreign(host), "{case}");
            let last = Journal::load(&*host.disk, &host.activator.journal).unwrap();
            assert!(last.is_none_or(|last| last.step.is_settled()), "{case}");
            host.disk.mend();
            scene.goes_on(host, &case);
        }
    }
}

#[test]
fn what_is_not_well_or_was_deployed_before_is_left_alone() {
    let mut scene = begin(Run::Unit, Behaviour::NeverReady);
    scene.play(Then::Nothing);
    let note = "it is not well as it runs here: not ready within 30 s".to_owned();
    let outcome = Outcome::Reverted { cause: Cause::Host, note };
    assert_eq!(scene.host.activator.adopt(ATTEMPT, scene.to), outcome, "answered again");
    scene.check_untouched(&scene.host, "not well");
    assert!(is_foreign(&scene.host));

    let host = Host::new();
    let first = host.settle_on("1");
    let second = host.install("2", Behaviour::Good);
    host.calls();
    let note = "1 was deployed here already".to_owned();
    let outcome = Outcome::Reverted { cause: Cause::Host, note };
    assert_eq!(host.activator.adopt(ATTEMPT, second), outcome);
    assert_eq!((host.current(), host.running()), (Some(first), Some(first)));
    assert_eq!(host.calls(), [""; 0]);
}

#[test]
fn what_is_not_well_by_its_own_word_is_not_adopted() {
    let Scene { host, to, .. } = begin(Run::Unit, Behaviour::CheckRefuses);
    let note = "it is not well as it runs here: check exited 1".to_owned();
    let outcome = Outcome::Reverted { cause: Cause::Host, note };
    assert_eq!(host.activator.adopt(ATTEMPT, to), outcome);
    assert!(is_foreign(&host) && host.current().is_none());
}

/// What was brought by a first deployment is not somebody else's, though the same version is adopted
/// afterwards: it is stopped and removed with it (R25).
#[test]
fn r25_what_was_deployed_is_not_taken_for_adopted() {
    for run in [Run::Commands, Run::Unit] {
        let host = Host::that_runs(run);
        let to = host.install("2", Behaviour::Good);
        assert_eq!(host.activator.activate(ATTEMPT, None, to, Way::Forward), Outcome::Baking);
        assert_eq!(host.activator.adopt(ATTEMPT + 1, to), Outcome::Baking);
        host.activator.revert(ATTEMPT + 2, None).unwrap();
        assert_eq!((host.current(), host.running()), (None, None), "{run:?}");
    }
    // And what was adopted stays so, through another attempt, whatever comes of that.
    let scene = begin(Run::Unit, Behaviour::Good);
    let host = &scene.host;
    assert_eq!(host.activator.adopt(ATTEMPT, scene.to), Outcome::Baking);
    assert_eq!(host.activator.adopt(ATTEMPT + 1, scene.to), Outcome::Baking);
    host.activator.revert(ATTEMPT + 2, None).unwrap();
    scene.check_untouched(host, "twice");
    assert!(is_foreign(host) && host.current().is_none());
    assert_eq!(host.activator.adopt(ATTEMPT + 3, scene.to), Outcome::Baking);
    host.services.machine.lock().unwrap().behaviours.insert(scene.to, Behaviour::NeverReady);
    let outcome = host.activator.adopt(ATTEMPT + 4, scene.to);
    assert!(matches!(outcome, Outcome::Reverted { cause: Cause::Host, .. }), "{outcome:?}");
    scene.check_untouched(host, "not well any more");
    assert!(is_foreign(host) && host.current().is_none());
}
