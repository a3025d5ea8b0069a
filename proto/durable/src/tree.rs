//! A whole directory tree put in place at once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::disk::{parent, same_directory};

/// Which step of putting a tree in place failed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Nothing stands at the path; the staged tree is where it was.
    #[error("cannot sync {path:?}")]
    Sync {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Nothing new stands at the path; the staged tree is where it was.
    #[error("cannot rename {staged:?} to {path:?}")]
    Rename {
        staged: PathBuf,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The tree stands at the path, whole, but a power cut may take it away.
    #[error("cannot sync the directory of {path:?}")]
    SyncDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Makes the tree at `staged` durable, then known as `path`, beside it.
///
/// A tree stands at `path` only if all of it is durable. What stands there already is never
/// replaced. One `syncfs` covers any number of files: one `fsync` for each would be as many
/// journal commits. Its price: it also waits for what others have written to that file system.
///
/// # Errors
///
/// [`PlaceError`]; `AlreadyExists` is the cause where something stands at `path`.
pub fn place_tree(staged: &Path, path: &Path) -> Result<(), PlaceError> {
    let unsynced = |source| PlaceError::Sync { path: staged.to_owned(), source };
    let tree = File::open(staged).map_err(unsynced)?;
    rustix::fs::syncfs(&tree).map_err(|errno| unsynced(errno.into()))?;
    same_directory(staged, path).and_then(|()| rename_new(staged, path)).map_err(|source| {
        PlaceError::Rename { staged: staged.to_owned(), path: path.to_owned(), source }
    })?;
    parent(path)
        .and_then(File::open)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| PlaceError::SyncDirectory { path: path.to_owned(), source })
}

/// Renames where nothing stands yet.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system without that flag. The check before the rename leaves a gap that only a
        // second writer of the same path could fall into, and only with an empty directory.
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_err() => {
            std::fs::rename(from, to)
        }
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        result => Ok(result?),
    }
}
