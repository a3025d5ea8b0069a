//! What a file system has left.

use std::fmt;
use std::io;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

/// What stays free of every file system: the way back must be able to write its journal, and the
/// service its data (R29).
pub const RESERVE_BYTES: u64 = 64 << 20;
/// As [`RESERVE_BYTES`], in files.
pub const RESERVE_FILES: u64 = 256;

/// What a file system has left for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    pub bytes: u64,
    /// None: the file system knows no limit.
    pub files: Option<u64>,
    /// Nothing on it can be changed.
    pub read_only: bool,
}

impl fmt::Display for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = Bytes(self.bytes);
        match self.files {
            Some(files) => write!(f, "{bytes} and {files} files"),
            None => write!(f, "{bytes}"),
        }
    }
}

/// What is free where `path` is, or where it will be once it is made.
///
/// # Errors
///
/// The file system does not say.
pub fn free(path: &Path) -> io::Result<Free> {
    let facts = rustix::fs::statvfs(standing(path))?;
    Ok(Free {
        bytes: facts.f_bavail.saturating_mul(facts.f_frsize),
        files: (facts.f_files != 0).then_some(facts.f_favail),
        read_only: facts.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

/// The path, or the nearest of those above it that is there.
pub fn standing(path: &Path) -> &Path {
    let missing = |path: &Path| matches!(path.try_exists(), Ok(false));
    path.ancestors().find(|path| !missing(path)).unwrap_or(path)
}

/// A number of bytes, as people read it.
pub struct Bytes(pub u64);

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

    #[test]
    fn the_disk_is_asked_where_the_path_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("web/releases");
        assert_eq!(standing(&there), dir.path());
        let (here, there) = (free(dir.path()).unwrap(), free(&there).unwrap());
        assert_eq!(here.files.is_some(), there.files.is_some());
        assert!(here.bytes > 0 && there.bytes > 0 && !there.read_only);
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
