//! Whether a directory is still exactly what a manifest says.

use std::cmp::Ordering;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use proto::Digest;
use proto::artifact::{Entry, Manifest, What};

use crate::walk::{self, Found, FoundWhat, WalkError};

/// The first difference between a directory and its manifest.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error("{path:?} is missing")]
    Missing { path: String },
    #[error("{path:?} was added")]
    Added { path: String },
    #[error("{path:?} is no longer a {wanted}")]
    Kind { path: String, wanted: &'static str },
    #[error("{path:?} has {got} bytes, not {wanted}")]
    Length { path: String, got: u64, wanted: u64 },
    #[error("{path:?} was edited: its content is not what was signed")]
    Content { path: String },
    #[error("{path:?} has mode {got:04o}: it was {} when it was signed",
        if *.executable { "executable" } else { "not executable" })]
    Mode { path: String, got: u32, executable: bool },
    #[error("{path:?} links to {got:?}, not to {wanted:?}")]
    Target { path: String, got: String, wanted: String },
    #[error("cannot read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Compares `dir` with `manifest`: every file read, nothing missing, changed or added.
///
/// # Errors
///
/// [`TreeError`]: the first difference in the order of the file table.
pub fn verify_tree(manifest: &Manifest, dir: &Path) -> Result<(), TreeError> {
    let found = walk::walk(dir)?;
    let mut found = found.iter().peekable();
    let mut buffer = vec![0; 256 << 10];
    for entry in &manifest.entries {
        let order = found.peek().map(|found| found.path.split('/').cmp(entry.path.split('/')));
        match (order, found.next()) {
            (Some(Ordering::Equal), Some(found)) => compare(entry, found, dir, &mut buffer)?,
            (Some(Ordering::Less), Some(found)) => {
                return Err(TreeError::Added { path: found.path.clone() });
            }
            _ => return Err(TreeError::Missing { path: entry.path.clone() }),
        }
    }
    found.next().map_or(Ok(()), |found| Err(TreeError::Added { path: found.path.clone() }))
}

fn compare(entry: &Entry, found: &Found, dir: &Path, buffer: &mut [u8]) -> Result<(), TreeError> {
    compare_facts(entry, found)?;
    let What::File { bytes, digest, .. } = &entry.what else { return Ok(()) };
    let full = dir.join(&entry.path);
    match digest_of(&full, *bytes, buffer) {
        Ok(got) if got == *digest => Ok(()),
        Ok(_) => Err(TreeError::Content { path: entry.path.clone() }),
        Err(source) => Err(TreeError::Read { path: full, source }),
    }
}

/// Compares all but the content of a file.
pub(crate) fn compare_facts(entry: &Entry, found: &Found) -> Result<(), TreeError> {
    let path = || entry.path.clone();
    let kind = |wanted| Err(TreeError::Kind { path: path(), wanted });
    match (&entry.what, &found.what) {
        (What::Directory, FoundWhat::Directory) => Ok(()),
        (What::Directory, _) => kind("directory"),
        (What::Link { target: wanted }, FoundWhat::Link { target: got }) if got == wanted => Ok(()),
        (What::Link { target: wanted }, FoundWhat::Link { target: got }) => {
            Err(TreeError::Target { path: path(), got: got.clone(), wanted: wanted.clone() })
        }
        (What::Link { .. }, _) => kind("link"),
        (What::File { bytes, executable, .. }, FoundWhat::File(facts)) => {
            if facts.bytes != *bytes {
                return Err(TreeError::Length { path: path(), got: facts.bytes, wanted: *bytes });
            }
            if facts.executable() != *executable {
                let got = facts.mode & 0o7777;
                return Err(TreeError::Mode { path: path(), got, executable: *executable });
            }
            Ok(())
        }
        (What::File { .. }, _) => kind("file"),
    }
}

/// The digest of a file; of one byte more than `bytes` at most, so that it ends.
fn digest_of(path: &Path, bytes: u64, buffer: &mut [u8]) -> io::Result<Digest> {
    let mut file = walk::open(path)?.take(bytes.saturating_add(1));
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(Digest::from_computed(*hasher.finalize().as_bytes())),
            Ok(read) => drop(hasher.update(&buffer[..read])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
