//! Changing what stands at a path: the old or the new, whole, whatever happens in between.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::disk::{Disk, Kind, parent};

/// Which step of a replacement failed, and with it what stands at the path now.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The old content stands, and nothing of the new can be seen.
    #[error("cannot write the new content of {path:?} beside the old")]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The old content stands; the new may lie beside it under a name of [`is_leftover`].
    #[error("cannot put the new content of {path:?} in place of the old")]
    Rename {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The new content stands, but a power cut may bring the old back.
    #[error("cannot sync the directory of {path:?}")]
    Sync {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Makes `bytes` the durable content of the file at `path`, which may exist or not.
///
/// Readers, and whoever comes after a power cut, find the old content or the new, whole. When
/// this returns it is the new. Calls within a process may overlap; two processes must not
/// replace one path at a time. What a cut leaves beside it, the next call takes away.
///
/// # Errors
///
/// [`ReplaceError`]: the step, and what stands at `path` now.
pub fn replace<D: Disk + ?Sized>(disk: &D, path: &Path, bytes: &[u8]) -> Result<(), ReplaceError> {
    put(disk, path, |beside| {
        disk.create(beside, bytes)?;
        disk.sync_file(beside)
    })
}

/// Makes `link` a durable symbolic link to `target`, in place of a link or file there, if any.
///
/// As [`replace`]: at every moment `link` is the old one or the new one.
///
/// # Errors
///
/// [`ReplaceError`]: the step, and what stands at `link` now.
pub fn replace_link<D: Disk + ?Sized>(
    disk: &D,
    link: &Path,
    target: &Path,
) -> Result<(), ReplaceError> {
    put(disk, link, |beside| disk.symlink(target, beside))
}

fn put<D: Disk + ?Sized>(
    disk: &D,
    path: &Path,
    prepare: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), ReplaceError> {
    let failed = |source| ReplaceError::Prepare { path: path.to_owned(), source };
    let beside = beside(path).map_err(failed)?;
    // The name beside is fixed, so that a cut leaves one leftover and not one per attempt. Two
    // calls for one path therefore take turns; without that one could rename the other's half.
    let _turn = turn_of(path).lock().unwrap_or_else(PoisonError::into_inner);
    match disk.kind(&beside).map_err(failed)? {
        None => {}
        Some(Kind::Directory) => disk.remove_dir_all(&beside).map_err(failed)?,
        Some(_) => disk.remove_file(&beside).map_err(failed)?,
    }
    prepare(&beside).map_err(failed)?;
    disk.rename(&beside, path)
        .map_err(|source| ReplaceError::Rename { path: path.to_owned(), source })?;
    parent(path)
        .and_then(|directory| disk.sync_dir(directory))
        .map_err(|source| ReplaceError::Sync { path: path.to_owned(), source })
}

/// Whether a name in a directory is what a power cut left of a replacement: safe to skip when
/// listing, and to remove while nothing is being replaced.
pub fn is_leftover(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".tmp")
}

/// `.NAME.tmp`, in the same directory.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".tmp");
    Ok(path.with_file_name(beside))
}

/// The lock for one path; unrelated paths may share one, which only costs time.
fn turn_of(path: &Path) -> &'static Mutex<()> {
    static TURNS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    let slot = usize::try_from(hasher.finish() % 64).expect("below 64");
    &TURNS[slot]
}
