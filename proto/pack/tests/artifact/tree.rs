//! An installed tree that is no longer what was signed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pack::{GivenUp, Lookout, verify_tree};
use proto::artifact::Manifest;

use crate::support::{Make, Sandbox, file, make, packed, told, unpacked};

type Change = fn(&Path);

/// Files are read-only: an edit is a new file in the old one's place.
fn edit(path: &Path, content: &str) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

fn edit_new(path: &Path) {
    fs::write(path, "new").unwrap();
}

/// What was done to the tree, and what is told of it.
const DRIFT: &[(&str, Change, &str)] = &[
    ("edited", |top| edit(&top.join("d/text"), "TEXT"), "\"d/text\" was edited"),
    ("longer", |top| edit(&top.join("d/text"), "text!"), "has 5 bytes, not 4"),
    ("emptied", |top| edit(&top.join("d/text"), ""), "has 0 bytes, not 4"),
    ("removed", |top| fs::remove_file(top.join("d/text")).unwrap(), "\"d/text\" is missing"),
    ("removed at the end", |top| fs::remove_file(top.join("z")).unwrap(), "\"z\" is missing"),
    (
        "an empty directory removed",
        |top| fs::remove_dir(top.join("empty")).unwrap(),
        "\"empty\" is missing",
    ),
    ("a file added", |top| edit_new(&top.join("d/new")), "\"d/new\" was added"),
    ("a file added at the end", |top| edit_new(&top.join("zz")), "\"zz\" was added"),
    ("a directory added", |top| fs::create_dir(top.join("0")).unwrap(), "\"0\" was added"),
    (
        "a file made executable",
        |top| fs::set_permissions(top.join("z"), Permissions::from_mode(0o755)).unwrap(),
        "\"z\" has mode 0755: it was not executable",
    ),
    (
        "a program no longer executable",
        |top| fs::set_permissions(top.join("run"), Permissions::from_mode(0o644)).unwrap(),
        "\"run\" has mode 0644: it was executable",
    ),
    (
        "setuid",
        |top| fs::set_permissions(top.join("run"), Permissions::from_mode(0o4755)).unwrap(),
        "setuid",
    ),
    (
        "a link turned",
        |top| {
            fs::remove_file(top.join("link")).unwrap();
            symlink("z", top.join("link")).unwrap();
        },
        "\"link\" links to \"z\", not to \"run\"",
    ),
    (
        "a link replaced by what it pointed at",
        |top| {
            fs::remove_file(top.join("link")).unwrap();
            fs::copy(top.join("run"), top.join("link")).unwrap();
        },
        "\"link\" is no longer a link",
    ),
    (
        "a file replaced by a link to its like",
        |top| {
            fs::rename(top.join("d/text"), top.join("../text")).unwrap();
            symlink("../../text", top.join("d/text")).unwrap();
        },
        "\"d/text\" is no longer a file",
    ),
    (
        "a directory replaced by a file",
        |top| {
            fs::remove_dir(top.join("empty")).unwrap();
            edit_new(&top.join("empty"));
        },
        "\"empty\" is no longer a directory",
    ),
    ("the tree is gone", |top| fs::remove_dir_all(top).unwrap(), "cannot read"),
];

fn packed_tree() -> (Manifest, Vec<Vec<u8>>) {
    let source = tempfile::tempdir().unwrap();
    let tree = [
        file("d/text", "text"),
        Make::Directory("empty"),
        Make::Link("link", "run"),
        Make::File("run", b"run".to_vec(), 0o755),
        file("z", "z"),
    ];
    make(source.path(), &tree);
    packed(source.path()).unwrap()
}

/// That tree, unpacked in a sandbox.
fn installed(sandbox: &Sandbox) -> (Manifest, PathBuf) {
    let (manifest, pieces) = packed_tree();
    unpacked(&manifest, &pieces, &sandbox.dest()).unwrap();
    (manifest, sandbox.dest())
}

#[test]
fn r22_drift_of_an_installed_tree_is_named() {
    let (manifest, pieces) = packed_tree();
    for (name, change, why) in DRIFT {
        let sandbox = Sandbox::new();
        unpacked(&manifest, &pieces, &sandbox.dest()).unwrap();
        verify_tree(&manifest, &sandbox.dest()).unwrap();
        change(&sandbox.dest());
        let error = told(&verify_tree(&manifest, &sandbox.dest()).expect_err(name));
        assert!(error.contains(why), "{name}: {error}");
    }
}

/// All that a look tells: how much it found, and the first; empty: nothing.
fn looked(known: &mut Lookout, manifest: &Manifest, top: &Path, bytes_max: u64) -> String {
    let found = known.look(manifest, top, bytes_max, &mut |_| true).unwrap();
    found.map_or_else(String::new, |drift| format!("{}: {}", drift.found, drift.first))
}

#[test]
fn r25_a_look_finds_what_a_whole_reading_finds() {
    for (case, change, expected) in DRIFT {
        let sandbox = Sandbox::new();
        let (manifest, top) = installed(&sandbox);
        let mut known = Lookout::new(&manifest);
        assert_eq!(looked(&mut known, &manifest, &top, u64::MAX), "", "{case}");
        change(&top);
        let told = looked(&mut known, &manifest, &top, u64::MAX);
        assert!(told.contains(expected), "{case}: {told}");
        // And does so again, though it reads nothing again.
        assert_eq!(looked(&mut known, &manifest, &top, 0), told, "{case}");
    }
}

#[test]
fn r25_a_look_counts_what_differs_and_forgets_what_was_put_right() {
    let sandbox = Sandbox::new();
    let (manifest, top) = installed(&sandbox);
    let mut known = Lookout::new(&manifest);
    edit(&top.join("d/text"), "TEXT");
    edit_new(&top.join("d/zz"));
    fs::remove_file(top.join("z")).unwrap();
    let told = looked(&mut known, &manifest, &top, u64::MAX);
    assert!(told.starts_with("3: ") && told.contains("\"d/text\" was edited"), "{told}");
    edit(&top.join("d/text"), "text");
    fs::remove_file(top.join("d/zz")).unwrap();
    let told = looked(&mut known, &manifest, &top, u64::MAX);
    assert!(told.starts_with("1: ") && told.contains("\"z\" is missing"), "{told}");
    fs::remove_dir_all(&top).unwrap();
    let told = looked(&mut known, &manifest, &top, u64::MAX);
    assert!(told.starts_with("1: cannot read "), "{told}");
}

/// What a disk has lost shows in no listing: each look reads a part, and in time all of it.
#[test]
fn r25_a_look_reads_what_changed_first_and_the_rest_in_turn() {
    let sandbox = Sandbox::new();
    let names = ["a", "b", "c", "d"];
    let source = tempfile::tempdir().unwrap();
    make(source.path(), &names.map(|name| file(name, "0123456789")));
    let (manifest, pieces) = packed(source.path()).unwrap();
    let top = sandbox.dest();
    unpacked(&manifest, &pieces, &top).unwrap();
    let mut known = Lookout::new(&manifest);
    let read_in = |known: &mut Lookout| {
        let mut bytes = 0;
        let mut pace = |read| {
            bytes += read;
            true
        };
        let found = known.look(&manifest, &top, 15, &mut pace).unwrap();
        (bytes, found.map(|drift| drift.first.to_string()))
    };
    // Two files each time: it ends with the one that comes to the limit.
    assert_eq!([read_in(&mut known), read_in(&mut known)], [(20, None), (20, None)]);
    // The content is another one, and nothing else tells: it is not its turn, which is the first two's.
    let lost = top.join("d");
    let facts = fs::metadata(&lost).unwrap();
    fs::set_permissions(&lost, Permissions::from_mode(0o644)).unwrap();
    fs::write(&lost, "012345678X").unwrap();
    fs::set_permissions(&lost, facts.permissions()).unwrap();
    let (bytes, told) = read_in(&mut known);
    assert_eq!(
        (bytes, told.as_deref()),
        (20, Some("\"d\" was edited: its content is not what was signed"))
    );
    // It is told on while others are read, and no look reads more than its part.
    for _ in 0..4 {
        assert_eq!(read_in(&mut known), (20, told.clone()));
    }
    let mut known = Lookout::new(&manifest);
    assert_eq!(known.look(&manifest, &top, 15, &mut |_| false).unwrap_err(), GivenUp);
}
