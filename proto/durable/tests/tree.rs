//! Putting a staged tree in place.

use std::fs;
use std::io;

use durable::{PlaceError, place_tree};

#[test]
fn a_tree_is_placed_whole_and_never_over_another() {
    let top = tempfile::tempdir().unwrap();
    let [staged, path] = [".v1.tmp", "v1"].map(|name| top.path().join(name));
    for there in ["a directory", "an empty directory", "a file", "a dangling link", "nothing"] {
        fs::create_dir_all(&staged).unwrap();
        fs::write(staged.join("file"), "new").unwrap();
        match there {
            "a directory" => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("file"), "old").unwrap();
            }
            "an empty directory" => fs::create_dir(&path).unwrap(),
            "a file" => fs::write(&path, "old").unwrap(),
            "a dangling link" => std::os::unix::fs::symlink("nowhere", &path).unwrap(),
            _ => {
                place_tree(&staged, &path).unwrap();
                assert_eq!(fs::read(path.join("file")).unwrap(), b"new");
                assert!(!staged.exists());
                continue;
            }
        }
        let Err(PlaceError::Rename { source, .. }) = place_tree(&staged, &path) else {
            panic!("{there} was replaced");
        };
        assert_eq!(source.kind(), io::ErrorKind::AlreadyExists, "{there}");
        assert_eq!(fs::read(staged.join("file")).unwrap(), b"new", "{there}");
        assert!(!fs::read(path.join("file")).is_ok_and(|content| content == b"new"), "{there}");
        if there.ends_with("directory") {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn a_tree_stays_in_its_directory() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir_all(top.path().join("a/staged")).unwrap();
    let error = place_tree(&top.path().join("a/staged"), &top.path().join("b")).unwrap_err();
    assert!(matches!(error, PlaceError::Rename { .. }), "{error}");
}
