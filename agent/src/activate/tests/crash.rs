//! The power is cut before every step, and the agent killed at every step and in every command;
//! then the machine comes up, recovers, and is asked for the next rollout (R22).

use super::*;

/// What is done to a host that serves version 1, or nothing.
#[derive(Debug, Clone, Copy)]
struct Story {
    name: &'static str,
    first: bool,
    to: Behaviour,
    then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    Commit,
    Revert,
    CommitAndRevert,
}

const fn story(name: &'static str, first: bool, to: Behaviour, then: Then) -> Story {
    Story { name, first, to, then }
}

const STORIES: [Story; 12] = [
    story("a good release", false, Behaviour::Good, Then::Commit),
    story("still baking", false, Behaviour::Good, Then::Nothing),
    story("does not start", false, Behaviour::StartFails, Then::Nothing),
    story("never ready", false, Behaviour::NeverReady, Then::Nothing),
    story("not well by its own word", false, Behaviour::CheckRefuses, Then::Nothing),
    story("sick in the bake", false, Behaviour::Good, Then::Revert),
    story("the fleet goes back", false, Behaviour::Good, Then::CommitAndRevert),
    story("a good first release", true, Behaviour::Good, Then::Commit),
    story("a first release that does not start", true, Behaviour::StartFails, Then::Nothing),
    story("a first release never ready", true, Behaviour::NeverReady, Then::Nothing),
    story("a first release sick in the bake", true, Behaviour::Good, Then::Revert),
    story("the fleet goes back to nothing", true, Behaviour::Good, Then::CommitAndRevert),
];

/// A host in the middle of a story.
struct Scene {
    host: Host,
    from: Option<Digest>,
    to: Digest,
    /// The commit was answered.
    committed: bool,
    /// A way back was asked for.
    reverting: bool,
}

impl Run {
    /// Of `most` ways in which a cut may leave the disk, how many are tried: with units there are
    /// more steps, and most of them are the same.
    const fn seeds(self, most: u64) -> u64 {
        match self {
            Self::Commands => most,
            Self::Unit | Self::UnitOfItsOwn => most / 4,
        }
    }
}

/// Every story on a host of every kind.
fn stories() -> impl Iterator<Item = (Story, Run)> {
    STORIES.into_iter().flat_map(|story| RUNS.map(|run| (story, run)))
}

impl Story {
    fn begin(self, run: Run) -> Scene {
        let host = Host::that_runs(run);
        let from = (!self.first).then(|| host.settle_on("1"));
        let to = host.install("2", self.to);
        host.calls();
        Scene { host, from, to, committed: false, reverting: false }
    }
}

impl Scene {
    /// Goes on to the end, or until agent or power are gone.
    fn play(&mut self, then: Then) {
        let activator = &self.host.activator;
        if activator.activate(ATTEMPT, self.from, self.to, Way::Forward) != Outcome::Baking {
            return;
        }
        if matches!(then, Then::Commit | Then::CommitAndRevert) {
            self.committed = activator.commit(ATTEMPT).is_ok();
        }
        if matches!(then, Then::Revert | Then::CommitAndRevert) {
            self.reverting = true;
            let _ = activator.revert(ATTEMPT + 1, self.from);
        }
    }

    /// What must hold once `host` has recovered.
    fn check(&self, host: &Host, standing: Option<&Standing>, booted: bool, case: &str) {
        let (current, running) = (host.current(), host.running());
        assert!(
            current == self.from || current == Some(self.to),
            "{case}: points at {current:?}, neither from nor to"
        );
        if let Some(current) = &current {
            assert!(host.is_whole(current), "{case}: {current} is not whole");
        }
        assert_eq!(running, current, "{case}: what `current` points at serves, and nothing else");
        let unit = current.is_some() && host.run != Run::Commands;
        let links = links(&host.disk);
        assert_eq!(links.len(), usize::from(unit), "{case}: {links:?}: its unit and no other");
        assert_eq!(host.services.linked(), current.filter(|_| unit), "{case}: {links:?}");
        let in_use = host.services.machine.lock().unwrap().in_use;
        assert!(in_use || !unit, "{case}: what serves is in use");
        let kept = current == Some(self.to);
        if self.committed && !self.reverting {
            assert!(kept, "{case}: a commit that was answered is kept");
        }
        let phase = standing.filter(|one| one.attempt >= ATTEMPT).map(|one| &one.phase);
        match phase {
            Some(Phase::Committed) => assert!(kept, "{case}"),
            Some(Phase::Baking) => {
                let answered = host.services.machine.lock().unwrap().answered.contains(&self.to);
                assert!(kept && !booted && answered, "{case}: not in another boot, nor unanswered");
            }
            Some(Phase::Reverted { .. }) => assert_eq!(current, self.from, "{case}"),
            Some(Phase::RevertFailed { note, .. }) => panic!("{case}: {note}"),
            None => assert_eq!(current, self.from, "{case}: never begun"),
        }
        assert_eq!(standing.and_then(|one| one.down.as_deref()), None, "{case}");
    }
}

/// The next rollout works, whatever happened before.
fn goes_on(host: &Host, case: &str) {
    let from = host.current();
    let next = host.install("3", Behaviour::Good);
    let attempt = ATTEMPT + 2;
    assert_eq!(
        host.activator.activate(attempt, from, next, Way::Forward),
        Outcome::Baking,
        "{case}"
    );
    host.activator.commit(attempt).unwrap();
    assert_eq!((host.current(), host.running()), (Some(next), Some(next)), "{case}");
}

/// Steps of the disk that a story takes.
fn steps_of(story: Story, run: Run) -> std::ops::Range<u64> {
    let mut scene = story.begin(run);
    let start = scene.host.disk.steps();
    scene.play(story.then);
    start..scene.host.disk.steps() + 1
}

#[test]
fn r22_power_cut_before_every_step() {
    for (story, run) in stories() {
        for step in steps_of(story, run) {
            let mut scene = story.begin(run);
            scene.host.disk.fail_at(step);
            scene.play(story.then);
            for seed in 0..run.seeds(60) {
                let case = format!("{}, {run:?}, cut before step {step}, seed {seed}", story.name);
                let host = scene.host.after_power_cut(seed, "boot 2");
                let standing = host.activator.recover().unwrap();
                scene.check(&host, standing.as_ref(), true, &case);
                goes_on(&host, &case);
            }
        }
    }
}

#[test]
fn r22_power_cut_again_while_recovering() {
    for (story, run) in stories() {
        for step in steps_of(story, run) {
            let mut scene = story.begin(run);
            scene.host.disk.fail_at(step);
            scene.play(story.then);
            for seed in 0..run.seeds(4) {
                let first = scene.host.after_power_cut(seed, "boot 2");
                let untouched = scene.host.after_power_cut(seed, "boot 2");
                first.activator.recover().unwrap();
                for again in 0..=first.disk.steps() {
                    let second = untouched.after_power_cut(0, "boot 2");
                    second.disk.fail_at(again);
                    let _ = second.activator.recover();
                    let third = second.after_power_cut(seed + again, "boot 3");
                    let case = format!(
                        "{}, {run:?}, cut at {step}, again at {again}, seed {seed}",
                        story.name
                    );
                    let standing = third.activator.recover().unwrap();
                    scene.check(&third, standing.as_ref(), true, &case);
                }
            }
        }
    }
}

/// What was moved and could not be made durable is so once somebody finds it moved already.
#[test]
fn r22_power_cut_after_a_way_back_on_a_disk_that_failed_for_a_moment() {
    for (story, run) in stories().filter(|(story, _)| story.then == Then::Revert) {
        for step in steps_of(story, run) {
            let case = format!("{}, {run:?}, failed at step {step}", story.name);
            let mut scene = story.begin(run);
            scene.host.disk.break_at(step, durable::Fault::Failing, 1);
            scene.play(story.then);
            scene.host.activator.revert(ATTEMPT + 2, scene.from).expect(&case);
            for seed in 0..run.seeds(16) {
                let host = scene.host.after_power_cut(seed, "boot 2");
                host.activator.recover().unwrap();
                let serves = (host.current(), host.running());
                assert_eq!(serves, (scene.from, scene.from), "{case}, seed {seed}");
            }
        }
    }
}

/// Every story, with the agent killed before every step of the disk and in every command.
fn killed(mut test: impl FnMut(&Scene, &Host, &str)) {
    for (story, run) in stories() {
        for step in steps_of(story, run) {
            let mut scene = story.begin(run);
            scene.host.disk.fail_at(step);
            scene.play(story.then);
            let case = format!("{}, {run:?}, before step {step}", story.name);
            test(&scene, &scene.host.after_kill(), &case);
        }
        let mut scene = story.begin(run);
        scene.play(story.then);
        for call in 0..scene.host.calls().len() {
            for happens in [false, true] {
                let mut scene = story.begin(run);
                scene.host.services.machine.lock().unwrap().dies_in = Some((call, happens));
                scene.play(story.then);
                let case = format!("{}, {run:?}, in call {call} ({happens})", story.name);
                test(&scene, &scene.host.after_kill(), &case);
            }
        }
    }
}

#[test]
fn r22_agent_killed_before_every_step_and_in_every_command() {
    killed(|scene, host, case| {
        let standing = host.activator.recover().unwrap();
        scene.check(host, standing.as_ref(), false, case);
        goes_on(host, case);
    });
}

/// The agent is killed and does not come back: the guard is set for as long as there is anything to
/// decide, decides it, and the agent finds what it decided.
#[test]
fn r19_the_guard_brings_to_an_end_what_a_killed_agent_left() {
    killed(|scene, host, case| {
        let left = Journal::load(&*host.disk, &host.activator.journal).unwrap();
        let over = |step: &Step| step.is_settled() || matches!(step, Step::RevertFailed { .. });
        let open = left.is_some_and(|left| !over(&left.step));
        assert!(host.armed() || !open, "{case}: nobody would look");
        let stood = host.activator.stand_in().unwrap();
        scene.check(host, stood.as_ref(), false, case);
        let bakes = stood.as_ref().is_some_and(|stood| stood.phase == Phase::Baking);
        assert_eq!(host.armed(), bakes, "{case}: the guard is set while it bakes");
        assert_eq!(host.activator.recover().unwrap(), stood, "{case}");
        goes_on(host, case);
        assert!(!host.armed(), "{case}: nothing is under way");
    });
}

#[test]
fn r19_what_bakes_with_nobody_to_watch_goes_back_once_it_does_not_answer() {
    let mut scene = STORIES[1].begin(Run::Unit);
    scene.play(Then::Nothing);
    let host = scene.host.after_kill();
    let standing = host.activator.stand_in().unwrap().unwrap();
    assert_eq!((standing.phase, host.running()), (Phase::Baking, Some(scene.to)));
    host.services.machine.lock().unwrap().running = None;
    let standing = host.activator.stand_in().unwrap().unwrap();
    let Phase::Reverted { cause: Cause::Release, note } = &standing.phase else {
        panic!("{standing:?}");
    };
    assert!(note.starts_with("no agent watches it, and "), "{note}");
    assert_eq!((host.current(), host.running()), (scene.from, scene.from));
    // Back is back: the same once more changes nothing.
    host.calls();
    assert_eq!(host.activator.stand_in().unwrap().unwrap(), standing);
    assert_eq!(host.calls(), [""; 0]);
}

/// A full disk is no power cut: the agent goes on, and so does the service.
#[test]
fn a_journal_that_cannot_be_written_stops_nothing() {
    for (story, run) in stories().filter(|(story, _)| story.then == Then::Nothing) {
        let scene = story.begin(run);
        // A directory where the journal is to be: it can be neither read nor replaced.
        let journal = scene.host.activator.journal.clone();
        let _ = scene.host.disk.remove_file(&journal);
        scene.host.disk.create_dir_all(&journal).unwrap();
        let outcome = scene.host.activator.activate(ATTEMPT, scene.from, scene.to, Way::Forward);
        assert!(matches!(outcome, Outcome::Reverted { cause: Cause::Host, .. }), "{outcome:?}");
        assert_eq!(scene.host.running(), scene.from, "{}", story.name);
        assert_eq!(scene.host.current(), scene.from, "{}", story.name);
    }
}
