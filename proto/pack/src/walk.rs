//! What stands in a directory, in the order of a file table.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proto::artifact::{ENTRIES_MAX, check_path};
use rustix::fs::OFlags;

use crate::refusal::Refusal;

/// Setuid and setgid.
pub(crate) const SET_ID: u32 = 0o6000;

/// Why a directory could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    #[error("cannot read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path:?}: {why}")]
    Refused { path: PathBuf, why: Refusal },
    #[error("{path:?} holds more than {ENTRIES_MAX} files, directories and links")]
    TooMany { path: PathBuf },
}

/// One path below the directory that was walked.
#[derive(Debug)]
pub(crate) struct Found {
    /// Relative, as in a file table.
    pub(crate) path: String,
    pub(crate) what: FoundWhat,
}

#[derive(Debug)]
pub(crate) enum FoundWhat {
    Directory,
    File(Facts),
    Link { target: String },
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Facts {
    pub(crate) bytes: u64,
    pub(crate) mode: u32,
    inode: (u64, u64),
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Facts {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            mode: metadata.mode(),
            inode: (metadata.dev(), metadata.ino()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The owner's bit: group's and others' depend on a umask.
    pub(crate) fn executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

/// Lists all below `top`, sorted by component, a directory before what it holds.
///
/// # Errors
///
/// [`WalkError`]: the first path that cannot be read or that no artifact may hold.
pub(crate) fn walk(top: &Path) -> Result<Vec<Found>, WalkError> {
    let mut found = Vec::new();
    walk_below(top, "", &mut found)?;
    Ok(found)
}

/// Goes no deeper than a path has components, since the length of a path is checked first.
fn walk_below(top: &Path, below: &str, found: &mut Vec<Found>) -> Result<(), WalkError> {
    let here = if below.is_empty() { top.to_owned() } else { top.join(below) };
    let cannot_read = |source| WalkError::Read { path: here.clone(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(&here).map_err(cannot_read)? {
        names.push(entry.map_err(cannot_read)?.file_name());
        if found.len() + names.len() > ENTRIES_MAX {
            return Err(WalkError::TooMany { path: top.to_owned() });
        }
    }
    names.sort_unstable();
    for name in names {
        let full = here.join(&name);
        let refused = |why| WalkError::Refused { path: full.clone(), why };
        let name = name.to_str().ok_or_else(|| refused(Refusal::NotUtf8))?;
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        check_path(&path).map_err(|why| refused(Refusal::Path(why)))?;
        let what = look(&full)?;
        let directory = matches!(what, FoundWhat::Directory).then(|| path.clone());
        found.push(Found { path, what });
        if let Some(directory) = directory {
            walk_below(top, &directory, found)?;
        }
    }
    Ok(())
}

fn look(path: &Path) -> Result<FoundWhat, WalkError> {
    let cannot_read = |source| WalkError::Read { path: path.to_owned(), source };
    let refused = |why| WalkError::Refused { path: path.to_owned(), why };
    let metadata = fs::symlink_metadata(path).map_err(cannot_read)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        // A directory's setgid bit is about the group of new files here; it is not carried.
        Ok(FoundWhat::Directory)
    } else if kind.is_file() {
        if metadata.mode() & SET_ID != 0 {
            return Err(refused(Refusal::SetId));
        }
        Ok(FoundWhat::File(Facts::of(&metadata)))
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(cannot_read)?.into_os_string();
        let target = target.into_string().map_err(|_| refused(Refusal::LinkNotUtf8))?;
        Ok(FoundWhat::Link { target })
    } else {
        Err(refused(Refusal::of_type(kind)))
    }
}

/// Opens a file for reading, unless it has become a link; never waits for a pipe's writer.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}
