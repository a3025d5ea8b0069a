//! The manifest of an artifact: which files it holds, and by which pieces it travels (R26).
//!
//! An artifact is a tree of files. Its **archive** is the content of the regular files, one after
//! the other in the order of the file table, with no headers: names, modes and lengths stand in the
//! table. The archive is cut every `piece_raw_bytes`; each cut is one zstd frame, and that frame is
//! one **piece**: the unit of transfer, verification and unpacking. So every piece can be checked,
//! decompressed and written to its place alone, in any order, and its length after decompression
//! is known before a byte of it is decoded.
//!
//! The manifest is JSON; the artifact's id is the BLAKE3 of its bytes, and a signed release names it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::Digest;

/// The form described above.
pub const FORMAT: u32 = 1;
/// Longest manifest read, in bytes: it is handed in within one frame of control.
pub const MANIFEST_BYTES_MAX: u64 = 15 << 20;
/// Entries in a file table.
pub const ENTRIES_MAX: usize = 100_000;
/// Longest path, in bytes, and longest component of one.
pub const PATH_BYTES_MAX: usize = 1_024;
/// Longest component of a path, in bytes.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Length of all files together, in bytes.
pub const RAW_BYTES_MAX: u64 = 64 << 30;
/// Shortest and longest raw length of a piece, in bytes; the last one may be shorter.
pub const PIECE_RAW_BYTES: std::ops::RangeInclusive<u32> = (256 << 10)..=(1 << 20);

/// An artifact's file table and piece table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    /// Sorted by path, a directory before what it holds; every directory has an entry.
    pub entries: Vec<Entry>,
    /// Raw bytes per piece; see [`PIECE_RAW_BYTES`].
    pub piece_raw_bytes: u32,
    pub pieces: Vec<Piece>,
}

/// One path of the tree.
// Unknown fields are refused by `What`: serde hands it all fields that are not of this struct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative, `/` between components, none of them empty, `.` or `..`.
    pub path: String,
    #[serde(flatten)]
    pub what: What,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    Directory,
    File {
        bytes: u64,
        /// BLAKE3 of the content.
        digest: Digest,
        /// Mode 0555 rather than 0444 when unpacked.
        executable: bool,
    },
    /// A symbolic link that stays inside the tree.
    Link {
        target: String,
    },
}

/// One zstd frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Length of the frame, in bytes.
    pub bytes: u32,
    /// BLAKE3 of the frame.
    pub digest: Digest,
}

/// Why a manifest describes no artifact that may be unpacked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("{got} bytes, at most {MANIFEST_BYTES_MAX} are read")]
    TooLong { got: usize },
    #[error("not a manifest: {0}")]
    Malformed(String),
    #[error("format {0}: this version reads format {FORMAT}")]
    Format(u32),
    #[error("{path:?}: {why}")]
    Unsafe { path: String, why: &'static str },
    #[error("not written in the one form of a manifest: no spaces, no unknown fields")]
    NotCanonical,
    #[error("piece table: {0}")]
    Pieces(String),
    #[error("{what}: {got}, at most {max}")]
    TooMuch { what: &'static str, got: u64, max: u64 },
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    ///
    /// [`ManifestError`]: anything that would be unsafe to unpack, or does not add up.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLong { got: bytes.len() });
        }
        let manifest: Self = serde_json::from_slice(bytes)
            .map_err(|error| ManifestError::Malformed(error.to_string()))?;
        manifest.check()?;
        // One tree has one manifest and one id: a second way to write it would be a second id, and
        // a place to hide something in.
        if manifest.to_bytes() != bytes {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }

    /// The bytes whose digest is the artifact's id.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("manifests serialize")
    }

    /// Length of the archive: of all files together, in bytes.
    pub fn raw_bytes(&self) -> u64 {
        let bytes = |entry: &Entry| match entry.what {
            What::File { bytes, .. } => bytes,
            What::Directory | What::Link { .. } => 0,
        };
        self.entries.iter().map(bytes).sum()
    }

    /// Length of all pieces, in bytes.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.bytes)).sum()
    }

    /// Checks what [`Self::parse`] checks; a packer asserts it before it signs.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.format != FORMAT {
            return Err(ManifestError::Format(self.format));
        }
        let raw_bytes = check_entries(&self.entries)?;
        self.check_pieces(raw_bytes)
    }

    fn check_pieces(&self, raw_bytes: u64) -> Result<(), ManifestError> {
        if !PIECE_RAW_BYTES.contains(&self.piece_raw_bytes) {
            return Err(ManifestError::Pieces(format!(
                "piece_raw_bytes = {}: must be {} to {}",
                self.piece_raw_bytes,
                PIECE_RAW_BYTES.start(),
                PIECE_RAW_BYTES.end()
            )));
        }
        let needed = raw_bytes.div_ceil(u64::from(self.piece_raw_bytes));
        if self.pieces.len() as u64 != needed {
            return Err(ManifestError::Pieces(format!(
                "{} pieces, the files need {needed}",
                self.pieces.len()
            )));
        }
        // zstd's own bound on the growth of what cannot be compressed, rounded up.
        let frame_max = self.piece_raw_bytes + (self.piece_raw_bytes >> 7) + 1_024;
        match self.pieces.iter().position(|piece| !(1..=frame_max).contains(&piece.bytes)) {
            None => Ok(()),
            Some(index) => Err(ManifestError::Pieces(format!(
                "piece {index} has {} bytes: must be 1 to {frame_max}",
                self.pieces[index].bytes
            ))),
        }
    }
}

/// Checks a file table, whoever made it, and tells the length of all its files in bytes.
///
/// # Errors
///
/// [`ManifestError`], naming the first path that would be unsafe or does not fit.
pub fn check_entries(entries: &[Entry]) -> Result<u64, ManifestError> {
    at_most("entries", entries.len() as u64, ENTRIES_MAX as u64)?;
    let mut seen: BTreeMap<&str, &What> = BTreeMap::new();
    let mut last: Option<&str> = None;
    let mut raw_bytes = 0_u64;
    for Entry { path, what } in entries {
        // Quoted from a stranger's file, so it is cut.
        let refuse =
            |why| ManifestError::Unsafe { path: path.chars().take(PATH_BYTES_MAX).collect(), why };
        check_path(path).map_err(refuse)?;
        // Sorted by components, so a directory comes right before what it holds.
        if last.is_some_and(|last| last.split('/').ge(path.split('/'))) {
            return Err(refuse("stands twice or out of order"));
        }
        last = Some(path);
        if let Some((parent, _)) = path.rsplit_once('/')
            && !matches!(seen.get(parent), Some(What::Directory))
        {
            return Err(refuse("its parent is not a directory of this artifact"));
        }
        match what {
            What::Directory => {}
            What::File { bytes, .. } => {
                raw_bytes = raw_bytes.saturating_add(*bytes);
                at_most("bytes of all files", raw_bytes, RAW_BYTES_MAX)?;
            }
            What::Link { target } => check_link(path, target).map_err(refuse)?,
        }
        seen.insert(path, what);
    }
    Ok(raw_bytes)
}

fn at_most(what: &'static str, got: u64, max: u64) -> Result<(), ManifestError> {
    if got > max {
        return Err(ManifestError::TooMuch { what, got, max });
    }
    Ok(())
}

/// A path that stays where it is put.
///
/// # Errors
///
/// Why it is unsafe.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > PATH_BYTES_MAX {
        return Err("must have 1 to 1024 bytes");
    }
    if path.contains(is_unprintable) {
        return Err("must not hold control characters or backslashes");
    }
    for component in path.split('/') {
        match component {
            "" => return Err("must be relative, with no empty component"),
            "." | ".." => return Err("must not hold `.` or `..`"),
            long if long.len() > COMPONENT_BYTES_MAX => {
                return Err("has a component of more than 255 bytes");
            }
            _ => {}
        }
    }
    Ok(())
}

/// A link target that, followed from where the link stands, never leaves the tree.
///
/// The steps up come first, and a link stands in real directories only, so they lead up real
/// directories, no further than the tree's top. From there on the way leads down, or through other
/// links that keep this rule. A step up after a name could start from wherever a link has led.
fn check_link(path: &str, target: &str) -> Result<(), &'static str> {
    if target.is_empty() || target.len() > PATH_BYTES_MAX || target.contains(is_unprintable) {
        return Err("has an empty, overlong or malformed link target");
    }
    if target.starts_with('/') {
        return Err("links to an absolute path");
    }
    let mut height = path.split('/').count() - 1;
    let mut named = false;
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." if named => return Err("links through `..` after a name: write the way plainly"),
            ".." => height = height.checked_sub(1).ok_or("links out of the artifact")?,
            _ => named = true,
        }
    }
    Ok(())
}

/// What could break a terminal or mean something else to another system.
fn is_unprintable(char: char) -> bool {
    char.is_control() || char == '\\'
}
