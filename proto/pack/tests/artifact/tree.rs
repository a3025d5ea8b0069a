//! An installed tree that is no longer what was signed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use pack::verify_tree;

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

#[test]
fn r22_drift_of_an_installed_tree_is_named() {
    let source = tempfile::tempdir().unwrap();
    let tree = [
        file("d/text", "text"),
        Make::Directory("empty"),
        Make::Link("link", "run"),
        Make::File("run", b"run".to_vec(), 0o755),
        file("z", "z"),
    ];
    make(source.path(), &tree);
    let (manifest, pieces) = packed(source.path()).unwrap();
    for (name, change, why) in DRIFT {
        let sandbox = Sandbox::new();
        unpacked(&manifest, &pieces, &sandbox.dest()).unwrap();
        verify_tree(&manifest, &sandbox.dest()).unwrap();
        change(&sandbox.dest());
        let error = told(&verify_tree(&manifest, &sandbox.dest()).expect_err(name));
        assert!(error.contains(why), "{name}: {error}");
    }
}
