//! What turns the files of one artifact into those of another (R28).
//!
//! A patch holds the new manifest and the content of the **changed** files: those whose digest no file of
//! the old artifact has, one after the other in the order of the new file table. The rest is copied from
//! the old tree. The changed content is cut every [`SEGMENT_BYTES`]; each segment is one zstd frame whose
//! prefix is blocks of the old archive, chosen by likeness (`likeness.rs`). The manifest's prefix is the old
//! manifest.
//!
//! ```text
//! patch    = "swell patch 1\n"  frame(manifest)  segment...
//! segment  = u16 number of runs, (u32 first block, u16 blocks)...  frame
//! frame    = u32 length in bytes, zstd frame                          numbers are little-endian
//! ```
//!
//! A patch is not signed and need not be: the manifest it holds must have the digest that was signed, and
//! each file the digest that the manifest says. Making one takes up to 150 MiB of memory, applying one
//! 16 MiB, whatever the size of the content. The manifests come on top, the old one and the new one: what they take
//! grows with the number of files and pieces.

use std::io;

use proto::Digest;
use proto::artifact::ManifestError;

use crate::unpack::UnpackError;

mod apply;
mod likeness;
mod make;

pub use apply::Patch;
pub use make::{Made, make_patch};

/// What every patch begins with.
const MAGIC: &[u8; 14] = b"swell patch 1\n";
/// Changed content per segment, in bytes; the last one may be shorter.
const SEGMENT_BYTES: usize = 4 << 20;
/// The old archive is chosen from in blocks of this length, in bytes; its last one may be shorter.
const BLOCK_BYTES: usize = 64 << 10;
/// Blocks in the prefix of a segment: 8 MiB. More made no patch smaller by 1 %.
const PREFIX_BLOCKS_MAX: usize = 128;

/// Blocks of the old archive that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u32,
    blocks: u16,
}

/// Why a patch was not made. What was written of it is of no use.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error("it would be longer than {bytes_max} bytes: as much as is fetched without it")]
    NotWorth { bytes_max: u64 },
    #[error("stopped")]
    Stopped,
    #[error("cannot read what it is made from")]
    Read(#[source] io::Error),
    #[error("cannot write it")]
    Write(#[source] io::Error),
    #[error("zstd: {0}")]
    Compress(&'static str),
}

/// Why a patch gave no tree. Nothing stands at its place.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    #[error("it is not a patch, or ends early")]
    Malformed,
    #[error("it has bytes that belong to nothing")]
    Trailing,
    #[error("its manifest is {got}, not {wanted}")]
    OtherManifest { got: Digest, wanted: Digest },
    #[error("its manifest is refused")]
    Manifest(#[from] ManifestError),
    #[error("segment {segment} does not decompress to {wanted} bytes: {why}")]
    Segment { segment: u64, wanted: usize, why: &'static str },
    #[error("cannot read the patch")]
    Read(#[source] io::Error),
    #[error("cannot read the old release")]
    Base(#[source] io::Error),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}
