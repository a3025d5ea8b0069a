//! Key files: read by their owner alone, made once, never overwritten; and directories for such.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::disk::parent;
use crate::read;

/// Why a key file was not made or not read. No text holds any of its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// What stands at the path is untouched.
    #[error("{path:?} exists already and is not overwritten: move it away first")]
    Exists { path: PathBuf },
    /// Nothing stands at the path.
    #[error("cannot write {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file stands, but a power cut may take it away.
    #[error("cannot sync the directory of {path:?}")]
    Sync {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("others than its owner may use {} (mode {mode:04o}): chmod 600 {}",
        .path.display(), .path.display())]
    Open { path: PathBuf, mode: u32 },
}

/// Makes a directory that its owner alone may use (mode 0700), and those above it that are missing. One
/// that is there stays as it is.
///
/// # Errors
///
/// Of the file system: it cannot be made, or something else stands there.
pub fn make_secret_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a key to a new file of mode 0600, durably.
///
/// The path never holds half a key: the file is written beside it and linked in whole.
///
/// # Errors
///
/// [`SecretError::Exists`] where anything stands at `path`; else what failed.
pub fn create_secret(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let failed = |source| SecretError::Write { path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let beside = path.with_file_name(format!(".{}.{:016x}.tmp", name.display(), random()));
    let linked = write_secret(&beside, bytes).and_then(|()| fs::hard_link(&beside, path));
    // Gone or never there: either way the first error is the one to tell.
    let _ = fs::remove_file(&beside);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(SecretError::Exists { path: path.to_owned() });
        }
        Err(source) => return Err(failed(source)),
    }
    parent(path)
        .and_then(File::open)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| SecretError::Sync { path: path.to_owned(), source })
}

fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The umask may have taken bits away; the owner must be able to read it.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn random() -> u64 {
    getrandom::u64().expect("the kernel's random source is there once the system has booted")
}

/// Reads a key file of at most `bytes_max` bytes.
///
/// # Errors
///
/// [`SecretError::Open`] where group or others have any permission on it; [`SecretError::Read`].
pub fn read_secret(path: &Path, bytes_max: u64) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Read { path: path.to_owned(), source };
    let file = read::open_regular(path).map_err(failed)?;
    // Asked of the open file, not of the path, which may name another by now.
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode });
    }
    read::read_open(file, bytes_max).map_err(failed)
}
