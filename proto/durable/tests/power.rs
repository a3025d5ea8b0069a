//! Power cuts: whatever the step and whatever was lost, the old or the new stands, whole.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::io;
use std::path::Path;

use durable::{Disk, Kind, SimDisk, is_leftover, replace, replace_link};

const SEEDS: u64 = 300;

/// Runs `change` on fresh disks, cut before every one of its steps and after the last, and hands
/// each disk that may be found to `judge`, with whether `change` had returned.
fn cut_everywhere(
    start: impl Fn() -> SimDisk,
    change: impl Fn(&SimDisk) -> bool,
    judge: impl Fn(&SimDisk, bool, &str),
) {
    let whole = start();
    let before = whole.steps();
    assert!(change(&whole), "undisturbed it succeeds");
    for cut in before..=whole.steps() {
        let disk = start();
        disk.fail_at(cut);
        let returned = change(&disk);
        assert_eq!(returned, cut == whole.steps());
        for seed in 0..SEEDS {
            judge(&disk.after_power_cut(seed), returned, &format!("cut at {cut}, seed {seed}"));
        }
    }
}

fn with_directory() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/srv")).unwrap();
    disk.settle();
    disk
}

/// The old content or the new, whole; the new for certain once `replace` has returned.
#[test]
fn r22_power_cut_in_replace_leaves_old_or_new() {
    let file = Path::new("/srv/journal");
    let new = vec![7; 1_000];
    for old in [None, Some(b"".as_slice()), Some(b"old".as_slice())] {
        let start = || {
            let disk = with_directory();
            if let Some(old) = old {
                disk.create(file, old).unwrap();
            }
            disk.settle();
            disk
        };
        let judge = |found: &SimDisk, returned: bool, case: &str| {
            let content = found.kind(file).unwrap().map(|_| found.read(file, 2_000).unwrap());
            let is_new = content.as_deref() == Some(&new);
            assert!(is_new || (!returned && content.as_deref() == old), "{case}: {content:?}");
            // And life goes on: what the cut left beside is no obstacle.
            replace(found, file, b"next").unwrap();
            assert_eq!(found.read(file, 10).unwrap(), b"next", "{case}");
            assert_eq!(found.list(Path::new("/srv")).unwrap(), ["journal"], "{case}");
        };
        cut_everywhere(start, |disk| replace(disk, file, &new).is_ok(), judge);
    }
}

/// A link points at the old or the new target and at nothing else.
#[test]
fn r22_power_cut_in_replace_link_leaves_old_or_new() {
    let link = Path::new("/srv/current");
    let [old, new] = ["releases/1", "releases/2"].map(Path::new);
    for old in [None, Some(old)] {
        let start = || {
            let disk = with_directory();
            if let Some(old) = old {
                disk.symlink(old, link).unwrap();
            }
            disk.settle();
            disk
        };
        let judge = |found: &SimDisk, returned: bool, case: &str| {
            let target = found.kind(link).unwrap().map(|_| found.read_link(link).unwrap());
            let is_new = target.as_deref() == Some(new);
            assert!(is_new || (!returned && target.as_deref() == old), "{case}: {target:?}");
            replace_link(found, link, new).unwrap();
            assert_eq!(found.read_link(link).unwrap(), new, "{case}");
        };
        cut_everywhere(start, |disk| replace_link(disk, link, new).is_ok(), judge);
    }
}

/// Two replacements in a row: never the first content again once the second has returned, and
/// at any cut one of the three.
#[test]
fn power_cut_in_the_second_of_two_replacements() {
    let file = Path::new("/srv/journal");
    let start = || {
        let disk = with_directory();
        replace(&disk, file, b"first").unwrap();
        disk
    };
    let judge = |found: &SimDisk, returned: bool, case: &str| {
        let content = found.read(file, 10).unwrap();
        assert!(content == b"second" || (!returned && content == b"first"), "{case}: {content:?}");
    };
    cut_everywhere(start, |disk| replace(disk, file, b"second").is_ok(), judge);
}

/// The simulation can lose things: without its syncs, `replace` would not hold. Each row leaves
/// one sync out, and some seed must show the damage.
#[test]
fn a_missing_sync_is_found_out() {
    let [beside, file] = ["/srv/new", "/srv/file"].map(Path::new);
    let rows: [(&str, bool, bool, &[u8]); 3] = [
        ("nothing synced", false, false, b""),
        ("file not synced: the new name holds less than all", false, true, b""),
        ("directory not synced: the old content is back", true, false, b"old"),
    ];
    for (name, sync_file, sync_dir, damage) in rows {
        let disk = with_directory();
        replace(&disk, file, b"old").unwrap();
        disk.create(beside, b"new").unwrap();
        if sync_file {
            disk.sync_file(beside).unwrap();
        }
        disk.rename(beside, file).unwrap();
        if sync_dir {
            disk.sync_dir(Path::new("/srv")).unwrap();
        }
        let found = |seed| disk.after_power_cut(seed).read(file, 10).unwrap();
        assert!((0..SEEDS).any(|seed| found(seed) == damage), "{name}");
        assert!((0..SEEDS).any(|seed| found(seed) == b"new"), "{name}: it may also go well");
    }
}

/// Writes at offsets: synced ones are all there, others whole, torn, zero or lost, each alone.
#[test]
fn unsynced_writes_are_lost_each_alone() {
    let file = Path::new("/srv/data");
    let disk = with_directory();
    replace(&disk, file, &[1; 4]).unwrap();
    disk.write_at(file, 0, &[2; 2]).unwrap();
    disk.write_at(file, 6, &[3; 2]).unwrap();
    let found: Vec<_> =
        (0..SEEDS).map(|seed| disk.after_power_cut(seed).read(file, 10).unwrap()).collect();
    for wanted in [
        [1, 1, 1, 1].as_slice(),
        &[2, 2, 1, 1],
        &[2, 1, 1, 1],
        &[1, 1, 1, 1, 0, 0, 3, 3],
        &[1, 1, 1, 1, 0, 0, 0, 0],
        &[2, 2, 1, 1, 0, 0, 3, 3],
    ] {
        assert!(found.iter().any(|found| found == wanted), "{wanted:?} never found");
    }
    disk.sync_file(file).unwrap();
    for seed in 0..SEEDS {
        let found = disk.after_power_cut(seed).read(file, 10).unwrap();
        assert_eq!(found, [2, 2, 1, 1, 0, 0, 3, 3]);
    }
}

/// Once cut, a disk is silent: no step and no reading succeeds, so nobody acts on a dead host.
#[test]
fn after_the_cut_nothing_answers() {
    let disk = with_directory();
    disk.fail_at(disk.steps());
    assert!(disk.read(Path::new("/none"), 1).is_err_and(|e| e.kind() == io::ErrorKind::NotFound));
    assert!(disk.create_dir(Path::new("/srv/a")).is_err());
    assert!(disk.create_dir(Path::new("/srv/b")).is_err());
    assert!(disk.kind(Path::new("/srv")).is_err(), "reading fails as well");
    let found = disk.after_power_cut(0);
    assert_eq!(found.kind(Path::new("/srv")).unwrap(), Some(Kind::Directory));
    assert_eq!(found.kind(Path::new("/srv/a")).unwrap(), None);
}

/// A directory removed but not synced comes back in any part.
#[test]
fn a_removed_tree_may_come_back_in_part() {
    let tree = Path::new("/srv/old");
    let disk = with_directory();
    disk.create_dir(tree).unwrap();
    for name in ["a", "b"] {
        disk.create(&tree.join(name), name.as_bytes()).unwrap();
    }
    disk.settle();
    disk.remove_dir_all(tree).unwrap();
    assert_eq!(disk.kind(tree).unwrap(), None);
    let found: Vec<_> = (0..SEEDS)
        .map(|seed| disk.after_power_cut(seed).list(tree).map(|names| names.len()).ok())
        .collect();
    for left in [None, Some(0), Some(1), Some(2)] {
        assert!(found.contains(&left), "{left:?}");
    }
}

/// One seed, one history; and seeds differ.
#[test]
fn one_seed_finds_one_disk() {
    let disk = with_directory();
    for name in ["/srv/a", "/srv/b", "/srv/c"] {
        disk.create(Path::new(name), b"content").unwrap();
    }
    let found = |seed| disk.after_power_cut(seed).list(Path::new("/srv")).unwrap();
    assert!((0..100).all(|seed| found(seed) == found(seed)));
    assert!((1..100).any(|seed| found(seed) != found(0)));
}

#[test]
fn directories_above_are_made_durable_too() {
    let deep = Path::new("/a/b/c");
    let judge = |found: &SimDisk, returned: bool, case: &str| {
        let kind = found.kind(deep).unwrap();
        assert!(!returned || kind == Some(Kind::Directory), "{case}");
        found.create_dir_all(deep).unwrap();
    };
    cut_everywhere(SimDisk::new, |disk| disk.create_dir_all(deep).is_ok(), judge);
}

#[test]
fn leftovers_are_told_from_files() {
    for (name, leftover) in [
        (".journal.tmp", true),
        (".key.0123456789abcdef.tmp", true),
        ("journal.tmp", false),
        (".hidden", false),
    ] {
        assert_eq!(is_leftover(name.as_ref()), leftover, "{name}");
    }
}
