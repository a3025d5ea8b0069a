//! The publisher's side: directories that are refused, or that change under the packer's hands.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use pack::{PackError, pack};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::support::{file, make, noise, packed, told};

fn node(path: &Path, kind: FileType) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), makedev(1, 3)).unwrap();
}

fn with_mode(path: &Path, mode: u32) {
    fs::write(path, "content").unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

type Plant = fn(&Path);

#[test]
fn r26_a_directory_with_unsafe_entries_is_refused() {
    let rows: &[(&str, Plant, &str)] = &[
        ("a named pipe", |top| node(&top.join("bad"), FileType::Fifo), "bad\": a named pipe"),
        ("a socket", |top| drop(UnixListener::bind(top.join("bad"))), "bad\": a socket"),
        ("a setuid file", |top| with_mode(&top.join("bad"), 0o4755), "bad\": setuid or setgid"),
        ("a setgid file", |top| with_mode(&top.join("bad"), 0o2755), "bad\": setuid or setgid"),
        (
            "a name that is not UTF-8",
            |top| fs::write(top.join(OsStr::from_bytes(b"bad\xff")), "").unwrap(),
            "not UTF-8",
        ),
        (
            "a link target that is not UTF-8",
            |top| symlink(OsStr::from_bytes(b"\xff"), top.join("bad")).unwrap(),
            "bad\": its link target is not UTF-8",
        ),
        (
            "a newline in a name",
            |top| fs::write(top.join("bad\nname"), "").unwrap(),
            "control characters",
        ),
        (
            "an escape sequence in a name",
            |top| fs::write(top.join("bad\u{1b}[2J"), "").unwrap(),
            "control characters",
        ),
        ("a backslash in a name", |top| fs::write(top.join("..\\bad"), "").unwrap(), "backslash"),
        (
            "an overlong path",
            |top| fs::create_dir_all(top.join(vec!["d".repeat(200); 6].join("/"))).unwrap(),
            "1 to 1024 bytes",
        ),
        ("an absolute link", |top| symlink("/etc", top.join("bad")).unwrap(), "absolute path"),
        ("a link out", |top| symlink("../etc", top.join("bad")).unwrap(), "links out"),
        (
            "a link out, deeper",
            |top| symlink("../../etc", top.join("d/bad")).unwrap(),
            "\"d/bad\": links out",
        ),
        (
            "a link out through a link that leads up",
            |top| {
                fs::create_dir(top.join("d/e")).unwrap();
                symlink("../..", top.join("d/e/top")).unwrap();
                symlink("top/..", top.join("d/e/bad")).unwrap();
            },
            "through `..` after a name",
        ),
    ];
    for (name, plant, why) in rows {
        let top = tempfile::tempdir().unwrap();
        make(top.path(), &[file("d/good", "good")]);
        plant(top.path());
        let mut data = Vec::new();
        let error = told(&pack(top.path(), &mut data, &mut |_| {}).expect_err(name));
        assert!(error.contains(why), "{name}: {error}");
        assert!(data.is_empty(), "{name}: refused before anything was read");
    }
}

#[test]
fn r26_a_device_node_is_refused() {
    let top = tempfile::tempdir().unwrap();
    for kind in [FileType::CharacterDevice, FileType::BlockDevice] {
        let path = top.path().join("bad");
        match mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), makedev(1, 3)) {
            // Only root can make one; the archive's side of this rule needs nobody's permission.
            Err(rustix::io::Errno::PERM) => return,
            made => made.unwrap(),
        }
        let error = packed(top.path()).unwrap_err();
        assert!(told(&error).contains("bad\": a device"), "{}", told(&error));
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_missing_directory_is_named() {
    let top = tempfile::tempdir().unwrap();
    let error = told(&packed(&top.path().join("dist")).unwrap_err());
    assert!(error.starts_with("cannot read") && error.contains("dist\""), "{error}");
}

/// Does something when the first piece is written.
struct Trigger<F: FnMut()> {
    change: F,
    pulled: bool,
}

impl<F: FnMut()> io::Write for Trigger<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.pulled {
            self.pulled = true;
            (self.change)();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn r26_a_file_that_changes_while_it_is_packed_is_named() {
    let edit = |path: &Path, content: &[u8]| fs::write(path, content).unwrap();
    type Change<'a> = Box<dyn Fn(&Path) + 'a>;
    let rows: Vec<(&str, &str, Change<'_>)> = vec![
        ("grows while it is read", "a", Box::new(|top| edit(&top.join("a"), &noise(700_000, 2)))),
        ("shrinks while it is read", "a", Box::new(|top| edit(&top.join("a"), b"short"))),
        ("is edited while read", "a", Box::new(|top| edit(&top.join("a"), &noise(600_000, 3)))),
        ("grows before its turn", "b", Box::new(|top| edit(&top.join("b"), b"longer content"))),
        ("shrinks before its turn", "b", Box::new(|top| edit(&top.join("b"), b""))),
        ("is edited before its turn", "b", Box::new(|top| edit(&top.join("b"), b"CONTENT"))),
        (
            "is replaced before its turn",
            "b",
            Box::new(|top| {
                edit(&top.join("new"), b"content");
                fs::rename(top.join("new"), top.join("b")).unwrap();
            }),
        ),
        (
            "becomes setuid before its turn",
            "b",
            Box::new(|top| {
                fs::set_permissions(top.join("b"), Permissions::from_mode(0o4755)).unwrap();
            }),
        ),
    ];
    for (name, path, change) in rows {
        let top = tempfile::tempdir().unwrap();
        make(top.path(), &[file("a", noise(600_000, 1)), file("b", "content")]);
        let mut data = Trigger { change: || change(top.path()), pulled: false };
        match pack(top.path(), &mut data, &mut |_| {}) {
            Err(PackError::Changed { path: named }) => {
                assert_eq!(named, top.path().join(path), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Swapped for a link to a secret between listing and reading: not followed, not published.
#[test]
fn r26_a_file_that_becomes_a_link_is_not_followed() {
    let top = tempfile::tempdir().unwrap();
    make(top.path(), &[file("a", noise(600_000, 1)), file("b", "content")]);
    let change = || {
        fs::remove_file(top.path().join("b")).unwrap();
        symlink("/etc/passwd", top.path().join("b")).unwrap();
    };
    let mut data = Trigger { change, pulled: false };
    let error = pack(top.path(), &mut data, &mut |_| {}).unwrap_err();
    assert!(matches!(&error, PackError::Read { path, .. } if path.ends_with("b")), "{error:?}");
}

/// A full disk while packing is an error that names the piece.
#[test]
fn a_failing_writer_is_told() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let top = tempfile::tempdir().unwrap();
    make(top.path(), &[file("a", "content")]);
    let error = pack(top.path(), &mut Full, &mut |_| {}).unwrap_err();
    assert!(matches!(error, PackError::Write { piece: 0, .. }), "{error:?}");
}
