//! Whether a release fits on the disk: asked before it is fetched and before it is unpacked (R29).
//!
//! Some room stays free besides, for what the service writes meanwhile; what the way back needs is
//! held by files of its own (see `reserve`), since nobody leaves alone what is merely free.

use std::fmt;
use std::io;
use std::ops::Add;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use member::disk::{Bytes, Free, RESERVE_BYTES, RESERVE_FILES, free, standing};
use proto::artifact::Manifest;

/// A file takes up whole blocks, this many bytes each on all common file systems.
const BLOCK_BYTES: u64 = 4 << 10;
/// Files that hold an artifact as pieces, their directory with them.
const ARTIFACT_FILES: u64 = 4;

/// What something takes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    pub bytes: u64,
    pub files: u64,
}

/// Why there is no room. The text says what to do; its beginning fits into a receipt.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    #[error("cannot ask {} how much space is free: {source}", path.display())]
    Ask { path: PathBuf, source: io::Error },
    #[error(
        "needs {needed}, has {free} in {}: make room (swell host gc shows what lies there), or lower \
         keep_releases",
        path.display()
    )]
    Full { path: PathBuf, needed: Need, free: Free },
}

impl Need {
    /// To unpack the artifact with this manifest.
    pub fn to_unpack(manifest: &Manifest) -> Self {
        let files = manifest.entries.len() as u64;
        Self { bytes: manifest.raw_bytes().saturating_add(files * BLOCK_BYTES), files }
    }

    /// To keep so many bytes of an artifact that are not here yet.
    pub fn to_keep(missing_bytes: u64) -> Self {
        let bytes = missing_bytes.saturating_add(ARTIFACT_FILES * BLOCK_BYTES);
        Self { bytes, files: ARTIFACT_FILES }
    }
}

impl Add for Need {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_add(other.bytes);
        Self { bytes, files: self.files.saturating_add(other.files) }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {} files", Bytes(self.bytes), self.files)
    }
}

/// Checks that what is needed at each path fits, all of it together and with a reserve: paths may lie
/// in one file system or in several.
///
/// # Errors
///
/// [`SpaceError`]: it does not, or a file system does not say.
pub fn check(needs: &[(&Path, Need)]) -> Result<(), SpaceError> {
    let mut systems: Vec<(u64, &Path, Need, Free)> = Vec::new();
    for (path, need) in needs {
        let (system, free) = ask(path)?;
        match systems.iter_mut().find(|(known, ..)| *known == system) {
            Some((_, _, all, _)) => *all = *all + *need,
            None => systems.push((system, path, *need, free)),
        }
    }
    systems.into_iter().try_for_each(|(_, path, need, free)| fits(path, need, free))
}

/// The file system of `path`, and what is free there.
fn ask(path: &Path) -> Result<(u64, Free), SpaceError> {
    let ask = |source: io::Error| SpaceError::Ask { path: path.to_owned(), source };
    let system = std::fs::metadata(standing(path)).map_err(ask)?.dev();
    Ok((system, free(path).map_err(ask)?))
}

fn fits(path: &Path, need: Need, free: Free) -> Result<(), SpaceError> {
    let needed = need + Need { bytes: RESERVE_BYTES, files: RESERVE_FILES };
    let full = free.bytes < needed.bytes || free.files.is_some_and(|files| files < needed.files);
    match full {
        true => Err(SpaceError::Full { path: path.to_owned(), needed, free }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn r29_space_table() {
        let free = |bytes, files| Free { bytes, files, read_only: false };
        let reserve = "needs 1.0 GiB and 1256 files, has ";
        let cases = [
            ("room for both", free(2 * GIB, Some(1_000_000)), None),
            ("no limit on files", free(2 * GIB, None), None),
            ("just enough", free(GIB + RESERVE_BYTES, Some(1_000 + RESERVE_FILES)), None),
            ("the reserve counts", free(GIB, Some(1_000_000)), Some("1.0 GiB and 1000000 files")),
            ("nearly full", free(300 << 20, None), Some("300.0 MiB")),
            ("out of inodes", free(2 * GIB, Some(1_255)), Some("2.0 GiB and 1255 files")),
        ];
        for (case, free, has) in cases {
            let got = fits(Path::new("/srv/web"), Need { bytes: GIB, files: 1_000 }, free);
            let got = got.err().map(|error| error.to_string());
            let expected = has.map(|has| {
                format!(
                    "{reserve}{has} in /srv/web: make room (swell host gc shows what lies there), or \
                     lower keep_releases"
                )
            });
            assert_eq!(got, expected, "{case}");
        }
    }

    #[test]
    fn r29_the_numbers_are_in_the_note_that_others_see() {
        let free = Free { bytes: 300 << 20, files: Some(1_255), read_only: false };
        let need = Need { bytes: GIB, files: 1_000 };
        let error = fits(Path::new("/srv/web/releases"), need, free).unwrap_err();
        let note = proto::receipt::note(&error.to_string());
        let numbers =
            "needs 1.0 GiB and 1256 files, has 300.0 MiB and 1255 files in /srv/web/releases";
        assert!(note.starts_with(numbers), "{note}");
    }

    #[test]
    fn what_no_disk_has_room_for_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let most = Need { bytes: u64::MAX, files: 0 };
        assert!(check(&[(dir.path(), most)]).is_err());
    }

    #[test]
    fn r29_what_two_paths_of_one_file_system_need_counts_together() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("state"), dir.path().join("srv/web"));
        let half = Need { bytes: free(dir.path()).unwrap().bytes / 5 * 3, files: 0 };
        check(&[(&one, half)]).unwrap();
        check(&[(&other, half)]).unwrap();
        let error = check(&[(&one, half), (&other, half)]).unwrap_err();
        assert!(matches!(&error, SpaceError::Full { path, .. } if *path == one), "{error}");
    }
}
