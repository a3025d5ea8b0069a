//! Whether a release fits on the disk: asked before it is fetched and before it is unpacked (R29).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use proto::artifact::Manifest;
use proto::statement::ArtifactRef;

/// What stays free besides: the way back must be able to write its journal, and the service its
/// data.
const RESERVE_BYTES: u64 = 64 << 20;
/// As [`RESERVE_BYTES`], in files.
const RESERVE_FILES: u64 = 256;
/// A file takes up whole blocks, this many bytes each on all common file systems.
const BLOCK_BYTES: u64 = 4 << 10;

/// What something takes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    pub bytes: u64,
    pub files: u64,
}

/// What a file system has left for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Free {
    bytes: u64,
    /// None: the file system knows no limit.
    files: Option<u64>,
}

/// Why there is no room. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    #[error("cannot ask {} how much space is free: {source}", path.display())]
    Ask { path: PathBuf, source: io::Error },
    #[error(
        "{} lacks {}, {} are free: make room, or lower keep_releases",
        path.display(), Bytes(needed.saturating_sub(*free)), Bytes(*free)
    )]
    Bytes { path: PathBuf, needed: u64, free: u64 },
    #[error(
        "{} lacks room for {} files, {free} may be made: make room, or lower keep_releases",
        path.display(), needed.saturating_sub(*free)
    )]
    Files { path: PathBuf, needed: u64, free: u64 },
}

impl Need {
    /// To unpack the artifact with this manifest.
    pub fn to_unpack(manifest: &Manifest) -> Self {
        let files = manifest.entries.len() as u64;
        Self { bytes: manifest.raw_bytes().saturating_add(files * BLOCK_BYTES), files }
    }

    /// To fetch an artifact, and unpack it afterwards; `to_unpack` is exact, this is asked before
    /// there is a manifest.
    pub fn to_fetch(artifact: &ArtifactRef) -> Self {
        let ArtifactRef { id: _, manifest_bytes, bytes, raw_bytes } = *artifact;
        Self { bytes: manifest_bytes.saturating_add(bytes).saturating_add(raw_bytes), files: 0 }
    }
}

/// Checks that what is needed fits into the file system of `path`, with a reserve.
///
/// # Errors
///
/// [`SpaceError`]: it does not, or the file system does not say.
pub fn check(path: &Path, need: Need) -> Result<(), SpaceError> {
    fits(path, need, free(path)?)
}

/// What is free where `path` is, or where it will be once it is made.
fn free(path: &Path) -> Result<Free, SpaceError> {
    let ask = |source: io::Error| SpaceError::Ask { path: path.to_owned(), source };
    let mut there = path;
    let facts = loop {
        match (rustix::fs::statvfs(there), there.parent()) {
            (Ok(facts), _) => break facts,
            (Err(rustix::io::Errno::NOENT), Some(parent)) => there = parent,
            (Err(error), _) => return Err(ask(error.into())),
        }
    };
    let files = (facts.f_files != 0).then_some(facts.f_favail);
    Ok(Free { bytes: facts.f_bavail.saturating_mul(facts.f_frsize), files })
}

fn fits(path: &Path, need: Need, free: Free) -> Result<(), SpaceError> {
    let needed = need.bytes.saturating_add(RESERVE_BYTES);
    if free.bytes < needed {
        return Err(SpaceError::Bytes { path: path.to_owned(), needed, free: free.bytes });
    }
    let needed = need.files.saturating_add(RESERVE_FILES);
    match free.files {
        Some(free) if free < needed => {
            Err(SpaceError::Files { path: path.to_owned(), needed, free })
        }
        Some(_) | None => Ok(()),
    }
}

/// A number of bytes, as people read it.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, name)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(*unit);
                write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn r29_space_table() {
        let free = |bytes, files| Free { bytes, files };
        let cases = [
            ("room for both", free(2 * GIB, Some(1_000_000)), None),
            ("no limit on files", free(2 * GIB, None), None),
            ("just enough", free(GIB + RESERVE_BYTES, Some(1_000 + RESERVE_FILES)), None),
            (
                "the reserve counts",
                free(GIB, Some(1_000_000)),
                Some(
                    "/srv/web lacks 64.0 MiB, 1.0 GiB are free: make room, or lower keep_releases",
                ),
            ),
            (
                "nearly full",
                free(300 << 20, Some(1_000_000)),
                Some(
                    "/srv/web lacks 788.0 MiB, 300.0 MiB are free: make room, or lower keep_releases",
                ),
            ),
            (
                "out of inodes",
                free(2 * GIB, Some(1_255)),
                Some(
                    "/srv/web lacks room for 1 files, 1255 may be made: make room, or lower keep_releases",
                ),
            ),
        ];
        for (case, free, expected) in cases {
            let got = fits(Path::new("/srv/web"), Need { bytes: GIB, files: 1_000 }, free);
            let got = got.err().map(|error| error.to_string());
            assert_eq!(got.as_deref(), expected, "{case}");
        }
    }

    #[test]
    fn the_disk_is_asked_where_the_path_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let here = free(dir.path()).unwrap();
        let there = free(&dir.path().join("web/releases")).unwrap();
        assert_eq!(here.files.is_some(), there.files.is_some());
        assert!(here.bytes > 0 && there.bytes > 0);
        assert!(check(dir.path(), Need { bytes: u64::MAX, files: 0 }).is_err());
    }

    #[test]
    fn bytes_for_people() {
        let text = |bytes| Bytes(bytes).to_string();
        assert_eq!(
            [0, 1_023, 1_024, 1_536].map(text),
            ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB"]
        );
        assert_eq!(text(u64::MAX), "17179869183.9 GiB");
    }
}
