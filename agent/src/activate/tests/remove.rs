//! The end of a service on a host: deliberate, whole, and what it wrote stays.

use super::*;

fn data() -> PathBuf {
    paths().shared().join("data")
}

/// A host that serves version 1, with another one in its bake.
fn begin(run: Run) -> Host {
    let host = Host::that_runs(run);
    let first = host.settle_on("1");
    let second = host.install("2", Behaviour::Good);
    assert_eq!(
        host.activator.activate(ATTEMPT, Some(first), second, Way::Forward),
        Outcome::Baking
    );
    host.disk.create(&data(), b"written by the service").unwrap();
    host.disk.create_dir_all(record().parent().unwrap()).unwrap();
    host.disk.create(&record(), b"committed").unwrap();
    host.disk.settle();
    host.calls();
    host
}

fn check_gone(host: &Host, case: &str) {
    assert_eq!((host.current(), host.running()), (None, None), "{case}");
    assert_eq!(links(&host.disk), [""; 0], "{case}");
    assert_eq!(host.disk.kind(&paths().releases()).unwrap(), None, "{case}");
    for path in [&host.activator.journal, &record()] {
        assert_eq!(host.disk.kind(path).unwrap(), None, "{case}");
    }
    assert!(host.disk.read(&data(), 100).is_ok(), "{case}: what it wrote stays");
    assert!(!host.armed(), "{case}");
    assert_eq!(host.activator.recover().unwrap(), None, "{case}: nothing to look after");
    // The next one is a first deployment.
    host.disk.create_dir_all(&paths().releases()).unwrap();
    let next = host.install("3", Behaviour::Good);
    let outcome = host.activator.activate(ATTEMPT + 1, None, next, Way::Forward);
    assert_eq!((outcome, host.running()), (Outcome::Baking, Some(next)), "{case}");
}

/// What has become of it here, as the agent writes it.
fn record() -> PathBuf {
    PathBuf::from("/var/lib/groundswell/rollouts/web.json")
}

#[test]
fn a_service_is_stopped_and_removed_but_for_what_it_wrote() {
    for run in RUNS {
        let host = begin(run);
        assert_eq!(host.activator.remove(&record()).unwrap().unwrap().as_str(), "2", "{run:?}");
        let expected: &[&str] = match run {
            Run::Commands => &["stop 2 back"],
            Run::Unit | Run::UnitOfItsOwn => &["drain 2 forward", "stop 2 back"],
        };
        assert_eq!(host.calls(), expected, "{run:?}");
        check_gone(&host, &format!("{run:?}"));
    }
    let host = Host::new();
    assert_eq!(host.activator.remove(&record()).unwrap(), None, "nothing of it was ever here");
}

#[test]
fn what_cannot_be_stopped_is_not_removed() {
    for behaviour in [Behaviour::StopFails, Behaviour::DrainFails] {
        let host = Host::that_runs(Run::Unit);
        let id = host.install("1", behaviour);
        assert_eq!(host.activator.activate(ATTEMPT, None, id, Way::Forward), Outcome::Baking);
        let before = Journal::load(&*host.disk, &host.activator.journal).unwrap();
        let error = host.activator.remove(&record()).unwrap_err().to_string();
        assert!(error.starts_with("1 is not removed: "), "{error}");
        assert_eq!((host.current(), host.running()), (Some(id), Some(id)));
        assert!(host.services.machine.lock().unwrap().in_use && host.is_whole(&id));
        let after = Journal::load(&*host.disk, &host.activator.journal).unwrap();
        assert_eq!(after, before, "no boot tries again what nobody asks for any more");
    }
}

#[test]
fn r22_a_removal_that_was_cut_off_leaves_all_or_nothing_and_goes_on() {
    for run in RUNS {
        let host = begin(run);
        let start = host.disk.steps();
        host.activator.remove(&record()).unwrap();
        for step in start..=host.disk.steps() {
            let host = begin(run);
            host.disk.fail_at(step);
            let _ = host.activator.remove(&record());
            for seed in 0..10 {
                let case = format!("{run:?}, cut before step {step}, seed {seed}");
                let host = host.after_power_cut(seed, "boot 2");
                let [journal, told] = [&host.activator.journal, &record()]
                    .map(|path| host.disk.kind(path).unwrap().is_some());
                assert!(journal || !told, "{case}: it is told to run, and nobody looks after it");
                let gone = host.current().is_none();
                host.activator.recover().unwrap();
                assert_eq!(host.running(), host.current(), "{case}");
                assert!(!gone || host.current().is_none(), "{case}: gone is gone");
                assert!(host.current().is_none_or(|id| host.is_whole(&id)), "{case}");
                host.activator.remove(&record()).unwrap();
                check_gone(&host, &case);
            }
        }
    }
}
