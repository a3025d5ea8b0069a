//! The file system as steps. Two sides keep this contract: [`crate::RealDisk`], [`crate::SimDisk`].

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What stands at a path; a link is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Directory,
    /// A regular file and its length.
    File {
        bytes: u64,
    },
    Link,
    /// A device, a socket, a pipe: nothing that Groundswell makes.
    Other,
}

/// A file system, one step per call.
///
/// What survives a power cut: the content of a file as of its last [`Disk::sync_file`], and the
/// entries of a directory as of its last [`Disk::sync_dir`]. Whatever was done since may be
/// there or not, each step for itself; only a rename is never torn. Paths are absolute.
///
/// # Errors
///
/// Every step fails with the kinds of the system call it stands for: `NotFound`,
/// `AlreadyExists`, `NotADirectory`, `IsADirectory`, `StorageFull` and so on.
#[expect(clippy::missing_errors_doc, reason = "said once, above, for all steps")]
pub trait Disk: Send + Sync {
    /// Makes a new file that holds `bytes`; what stands at `path` already is never touched.
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Writes into a file that exists; a gap between its end and `offset` reads as zeros.
    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content of a file durable, not its entry in the directory.
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable, not what they point at.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Moves `from` to `to` in the same directory, taking the place of a file or link there.
    ///
    /// Refuses two directories (`InvalidInput`): across them no single sync makes both ends
    /// durable. Refuses to take the place of a directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes a symbolic link at `link`; what stands there already is never touched.
    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()>;

    /// Makes an empty directory; its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes a file or a link.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all below it. Not atomic: a power cut may leave any part of it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The whole content of a file, refused (`FileTooLarge`) above `bytes_max`.
    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>>;

    /// Fills `into` from `offset` on; `UnexpectedEof` where the file ends before.
    fn read_at(&self, path: &Path, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Where a link points.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;

    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;

    /// What stands at `path`, or nothing.
    fn kind(&self, path: &Path) -> io::Result<Option<Kind>>;

    /// When a file was last written, for people; `Unsupported` where there is no clock.
    fn written(&self, _path: &Path) -> io::Result<SystemTime> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a directory and those above it, each made durable in its parent.
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if self.kind(path)?.is_some() {
            return Ok(());
        }
        let parent = parent(path)?;
        self.create_dir_all(parent)?;
        match self.create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.sync_dir(parent)
    }
}

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "a path with no parent")),
    }
}

/// Refuses a rename from one directory into another.
pub(crate) fn same_directory(from: &Path, to: &Path) -> io::Result<()> {
    if from.parent() == to.parent() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "a rename must stay in one directory"))
}
