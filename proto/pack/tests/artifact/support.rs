//! A place to be attacked in, and the way there and back.

use std::error::Error;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pack::{PackError, UnpackError, pack, unpack};
use proto::artifact::Manifest;
use tempfile::TempDir;

/// A directory with something to protect beside the place where things are unpacked.
pub(crate) struct Sandbox {
    top: TempDir,
    before: Vec<String>,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir_all(top.path().join("releases")).unwrap();
        fs::create_dir_all(top.path().join("etc")).unwrap();
        fs::write(top.path().join("etc/passwd"), "root").unwrap();
        let before = listing(top.path());
        Self { top, before }
    }

    pub(crate) fn dest(&self) -> PathBuf {
        self.top.path().join("releases/v1")
    }

    pub(crate) fn path(&self) -> &Path {
        self.top.path()
    }

    /// Nothing was written: not outside, not at the destination, not beside it.
    pub(crate) fn assert_untouched(&self, case: &str) {
        assert_eq!(listing(self.top.path()), self.before, "{case}");
    }
}

/// A line for each path below `top`: kind, mode, content or target.
pub(crate) fn listing(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut ahead = vec![top.to_owned()];
    while let Some(here) = ahead.pop() {
        let mut paths: Vec<_> = fs::read_dir(&here).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let kind = metadata.file_type();
            let what = if kind.is_dir() {
                ahead.push(path.clone());
                "directory".into()
            } else if kind.is_symlink() {
                format!("link to {:?}", fs::read_link(&path).unwrap())
            } else {
                let digest = proto::Digest::of(&fs::read(&path).unwrap());
                let executable = metadata.mode() & 0o100 != 0;
                format!("file {} {digest} {executable}", metadata.len())
            };
            lines.push(format!("{:?} {what}", path.strip_prefix(top).unwrap()));
        }
    }
    lines.sort();
    lines
}

/// What a row of a table makes.
pub(crate) enum Make {
    Directory(&'static str),
    File(&'static str, Vec<u8>, u32),
    Link(&'static str, &'static str),
}

pub(crate) fn file(path: &'static str, content: impl Into<Vec<u8>>) -> Make {
    Make::File(path, content.into(), 0o644)
}

pub(crate) fn make(top: &Path, tree: &[Make]) {
    fs::create_dir_all(top).unwrap();
    for what in tree {
        match what {
            Make::Directory(path) => fs::create_dir_all(top.join(path)).unwrap(),
            Make::Link(path, target) => symlink(target, top.join(path)).unwrap(),
            Make::File(path, content, mode) => {
                fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
                fs::write(top.join(path), content).unwrap();
                fs::set_permissions(top.join(path), Permissions::from_mode(*mode)).unwrap();
            }
        }
    }
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A manifest and its pieces, each by itself.
pub(crate) fn packed(dir: &Path) -> Result<(Manifest, Vec<Vec<u8>>), PackError> {
    let mut data = Vec::new();
    let manifest = pack(dir, &mut data, &mut |_| {})?;
    let mut rest = data.as_slice();
    let mut pieces = Vec::new();
    for piece in &manifest.pieces {
        let (frame, after) = rest.split_at(piece.bytes as usize);
        pieces.push(frame.to_vec());
        rest = after;
    }
    assert!(rest.is_empty());
    Ok((manifest, pieces))
}

/// Unpacks, and checks at every piece that nobody can see the result yet.
pub(crate) fn unpacked(
    manifest: &Manifest,
    pieces: &[Vec<u8>],
    dest: &Path,
) -> Result<(), UnpackError> {
    let before = dest.symlink_metadata().is_ok();
    let mut get = |index: u32| {
        assert_eq!(dest.symlink_metadata().is_ok(), before, "visible before it is whole");
        pieces.get(index as usize).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    unpack(manifest, &mut get, dest)
}

/// An error with all its causes, as a person reads it.
pub(crate) fn told(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", told(cause)),
        None => error.to_string(),
    }
}
