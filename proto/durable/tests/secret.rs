//! Key files: mode 0600, never overwritten, refused where others may use them.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::error::Error as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use durable::{SecretError, create_secret, read_bounded, read_secret};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_key_is_written_once_for_its_owner_alone() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("operator.key");
    create_secret(&path, b"key").unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(read_secret(&path, 3).unwrap(), b"key");
    let names: Vec<_> = fs::read_dir(top.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["operator.key"], "nothing is left beside it");
}

#[test]
fn what_stands_at_the_path_is_never_touched() {
    let top = tempfile::tempdir().unwrap();
    let at = |name| top.path().join(name);
    fs::write(at("file"), b"precious").unwrap();
    fs::write(at("empty"), b"").unwrap();
    fs::create_dir(at("directory")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    for name in ["file", "empty", "directory", "dangling"] {
        let path = at(name);
        let error = create_secret(&path, b"key").unwrap_err();
        assert!(matches!(error, SecretError::Exists { .. }), "{name}: {error}");
        assert!(error.to_string().contains("is not overwritten"), "{name}: {error}");
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"precious");
    assert!(!at("nowhere").exists(), "a link is not followed");
    assert_eq!(fs::read_dir(top.path()).unwrap().count(), 4, "nothing is left beside");
}

#[test]
fn modes_that_others_can_use_are_refused() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("key");
    create_secret(&path, b"key").unwrap();
    for (bits, refused) in [
        (0o600, false),
        (0o400, false),
        (0o640, true),
        (0o620, true),
        (0o610, true),
        (0o604, true),
        (0o602, true),
        (0o601, true),
        (0o666, true),
    ] {
        fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
        match read_secret(&path, 10) {
            Ok(bytes) => assert!(!refused && bytes == b"key", "{bits:o}"),
            Err(error) => {
                assert!(refused, "{bits:o}: {error}");
                let remedy = format!("chmod 600 {}", path.display());
                assert!(error.to_string().ends_with(&remedy), "{error}");
            }
        }
    }
}

#[test]
fn only_regular_files_are_read_and_not_too_much_of_them() {
    let top = tempfile::tempdir().unwrap();
    let at = |name| top.path().join(name);
    create_secret(&at("long"), &[7; 11]).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for (name, path, why) in [
        ("longer than asked", at("long"), "longer than 10 bytes"),
        ("a pipe with no writer", at("pipe"), "not a regular file"),
        ("a device", Path::new("/dev/zero").to_owned(), "not a regular file"),
        ("a directory", top.path().to_owned(), "is a directory"),
        ("nothing", at("none"), "No such file"),
    ] {
        let error = read_bounded(&path, 10).unwrap_err();
        assert!(error.to_string().contains(why), "{name}: {error}");
        if name != "a device" && name != "a directory" {
            let error = read_secret(&path, 10).unwrap_err();
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            assert!(cause.contains(why), "{name}: {error}: {cause}");
        }
    }
    assert_eq!(read_bounded(&at("long"), 11).unwrap().len(), 11);
}
