//! Which releases stay, and that half a removal never looks like a release (R29).

use proto::report::Fate;

use super::*;

fn names(host: &Host) -> Vec<String> {
    let names = host.disk.list(&paths().releases()).unwrap();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

fn versions(host: &Host) -> Vec<String> {
    let all = list(&*host.disk, &paths()).unwrap();
    all.iter().map(|installed| installed.release.version.to_string()).collect()
}

#[test]
fn r29_fates_table() {
    let host = Host::new();
    let ids: Vec<_> =
        (1..=6).map(|version| host.install(&version.to_string(), Behaviour::Good)).collect();
    let all = list(&*host.disk, &paths()).unwrap();
    let in_use = InUse {
        current: Some(ids[0]),
        from: Some(ids[1]),
        to: Some(ids[5]),
        pinned: [(ids[0], Fate::Serves), (ids[2], Fate::Stable)].into(),
    };
    let fate = |keep| fates(&all, &in_use, keep).into_iter().map(|(_, fate)| fate).collect();
    let first_three = [Fate::Current, Fate::From, Fate::Stable];
    let cases: [(usize, [Fate; 3]); 3] = [
        (2, [Fate::Remove, Fate::Recent, Fate::To]),
        (3, [Fate::Recent, Fate::Recent, Fate::To]),
        (100, [Fate::Recent, Fate::Recent, Fate::To]),
    ];
    for (keep, last_three) in cases {
        let got: Vec<_> = fate(keep);
        assert_eq!(got, [first_three, last_three].concat(), "keep_releases = {keep}");
    }
    assert_eq!(Fate::From.to_string(), "stays: the way back goes there");
}

#[test]
fn r29_what_runs_and_the_way_back_stay_without_being_named() {
    let host = Host::new();
    for version in ["1", "2", "3"] {
        host.settle_on(version);
    }
    for version in ["4", "5"] {
        host.install(version, Behaviour::Good);
    }
    let fates = host.activator.collect_garbage(Pins::new, 2).unwrap();
    assert_eq!(fates.len(), 5);
    assert_eq!(versions(&host), ["2", "3", "4", "5"], "3 runs, 2 is its from, 4 and 5 are new");
    assert!(!names(&host).iter().any(|name| name.starts_with(&Digest::of(b"1").to_string())));
}

#[test]
fn r29_looking_says_what_clearing_away_would_do_and_does_nothing() {
    let host = Host::new();
    for version in ["1", "2", "3", "4", "5"] {
        host.settle_on(version);
    }
    let pins = || Pins::from([(Digest::of(b"2"), Fate::RolloutFrom)]);
    let before = (names(&host), host.disk.steps());
    let seen = host.activator.survey(pins(), 2).unwrap();
    assert_eq!((names(&host), host.disk.steps()), before);
    let told: Vec<_> = seen.iter().map(|one| (one.version.as_str(), one.fate)).collect();
    let expected = [
        ("1", Fate::Remove),
        ("2", Fate::RolloutFrom),
        ("3", Fate::Remove),
        ("4", Fate::From),
        ("5", Fate::Current),
    ];
    assert_eq!(told, expected);
    let fates = host.activator.collect_garbage(pins, 2).unwrap();
    let seen: Vec<_> = seen.iter().map(|one| (one.release, one.fate)).collect();
    assert_eq!(fates, seen);
    assert_eq!(versions(&host), ["2", "4", "5"]);
}

#[test]
fn r29_nothing_goes_while_it_is_unknown_what_runs() {
    let host = Host::new();
    for version in ["1", "2", "3"] {
        host.install(version, Behaviour::Good);
    }
    host.disk.create(&paths().current(), b"").unwrap();
    assert!(host.activator.collect_garbage(Pins::new, 2).is_err());
    assert_eq!(versions(&host).len(), 3);
}

#[test]
fn r29_power_cut_before_every_step_of_a_removal() {
    let begin = || {
        let host = Host::new();
        for version in ["1", "2", "3", "4", "5"] {
            host.settle_on(version);
        }
        host
    };
    let collect = |host: &Host| host.activator.collect_garbage(Pins::new, 2);
    let host = begin();
    let start = host.disk.steps();
    collect(&host).unwrap();
    let end = host.disk.steps();
    let left = names(&host);
    assert_eq!(versions(&host), ["4", "5"]);
    for step in start..=end {
        let host = begin();
        host.disk.fail_at(step);
        let _ = collect(&host);
        for seed in 0..200 {
            let host = host.after_power_cut(seed, "boot 2");
            for installed in list(&*host.disk, &paths()).unwrap() {
                assert!(host.is_whole(&installed.id), "cut before step {step}, seed {seed}");
            }
            host.activator.recover().unwrap();
            collect(&host).unwrap();
            assert_eq!(names(&host), left, "cut before step {step}, seed {seed}");
        }
    }
}

/// A release that is needed again just as old ones are cleared away: either it stays, or whoever
/// asks for it finds it gone and fetches it.
#[test]
fn r29_what_is_needed_is_asked_for_when_nothing_is_staged_any_more() {
    let host = Host::new();
    for version in ["1", "2", "3", "4", "5"] {
        host.settle_on(version);
    }
    let (old, other) = (Digest::of(b"1"), Digest::of(b"2"));
    std::thread::scope(|threads| {
        let mut asked = None;
        let pinned = || {
            asked = Some(threads.spawn(|| host.activator.check_staged(&other)));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!asked.as_ref().unwrap().is_finished(), "it is not known yet whether it stays");
            [(old, Fate::RolloutFrom)].into()
        };
        host.activator.collect_garbage(pinned, 2).unwrap();
        assert!(asked.unwrap().join().unwrap().is_err(), "it is gone, and that is said");
    });
    assert_eq!(versions(&host), ["1", "4", "5"]);
}
