//! A directory to a manifest and pieces.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use proto::Digest;
use proto::artifact::{
    Entry, FORMAT, MANIFEST_BYTES_MAX, Manifest, ManifestError, PIECE_RAW_BYTES, Piece, What,
    check_entries,
};
use proto::statement::ArtifactRef;

use crate::frame::Encoder;
use crate::walk::{self, Facts, Found, FoundWhat, WalkError};

/// Pieces that are enough to spread over a fleet: more only make the table longer, and pieces that are
/// longer compress better (by 2 % at 1 MiB beside 256 KiB).
const PIECES_WANTED: u64 = 512;

/// Why a directory cannot be packed. What was written of the pieces so far is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error(transparent)]
    Refused(#[from] ManifestError),
    #[error("cannot read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} changed while it was packed: wait for the build to end, then pack again")]
    Changed { path: PathBuf },
    #[error("cannot compress piece {piece}")]
    Compress {
        piece: usize,
        #[source]
        source: io::Error,
    },
    #[error("cannot write piece {piece}")]
    Write {
        piece: usize,
        #[source]
        source: io::Error,
    },
    #[error("its file table takes {bytes} bytes, at most {MANIFEST_BYTES_MAX}: use fewer files")]
    ManifestTooLong { bytes: u64 },
}

/// Packs all that `dir` holds: the pieces to `data`, one after the other, in order.
///
/// One tree gives one manifest, byte for byte: names, contents, link targets and the owner's
/// executable bit count; owners, times, other permissions and the order on disk do not.
/// `progress` gets the raw bytes done so far, after each piece.
///
/// # Errors
///
/// [`PackError`], naming the path that stands in the way.
pub fn pack(
    dir: &Path,
    data: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Manifest, PackError> {
    let found = walk::walk(dir)?;
    let mut entries: Vec<Entry> = found.iter().map(entry).collect();
    // Before anything is read: a link that leads out costs no gigabyte of compression.
    let raw_bytes = check_entries(&entries)?;
    let piece_raw_bytes = piece_raw_bytes(raw_bytes);
    let mut packer = Packer::new(piece_raw_bytes as usize, data, progress)?;
    for (entry, found) in entries.iter_mut().zip(&found) {
        if let (What::File { digest, .. }, FoundWhat::File(facts)) = (&mut entry.what, &found.what)
        {
            *digest = packer.file(&dir.join(&found.path), *facts)?;
        }
    }
    let pieces = packer.finish()?;
    let manifest = Manifest { format: FORMAT, entries, piece_raw_bytes, pieces };
    manifest.check()?;
    let bytes = manifest.to_bytes().len() as u64;
    if bytes > MANIFEST_BYTES_MAX {
        return Err(PackError::ManifestTooLong { bytes });
    }
    Ok(manifest)
}

/// Raw length of the pieces of so many bytes: the shortest of which [`PIECES_WANTED`] are enough.
fn piece_raw_bytes(raw_bytes: u64) -> u32 {
    let (shortest, longest) = PIECE_RAW_BYTES.into_inner();
    let wanted = raw_bytes.div_ceil(PIECES_WANTED).next_power_of_two();
    u32::try_from(wanted).unwrap_or(longest).clamp(shortest, longest)
}

/// The name and sizes by which a release refers to an artifact.
pub fn artifact_ref(manifest: &Manifest) -> ArtifactRef {
    let bytes = manifest.to_bytes();
    ArtifactRef {
        id: Digest::of(&bytes),
        manifest_bytes: bytes.len() as u64,
        bytes: manifest.bytes(),
        raw_bytes: manifest.raw_bytes(),
    }
}

/// A row of the file table; a file's digest is filled in when it is read.
fn entry(found: &Found) -> Entry {
    let what = match &found.what {
        FoundWhat::Directory => What::Directory,
        FoundWhat::Link { target } => What::Link { target: target.clone() },
        FoundWhat::File(facts) => What::File {
            bytes: facts.bytes,
            digest: Digest::from_computed([0; 32]),
            executable: facts.executable(),
        },
    };
    Entry { path: found.path.clone(), what }
}

/// Cuts what is read into pieces. Holds one piece, raw and compressed.
struct Packer<'a> {
    encoder: Encoder,
    /// As long as a piece; the first `filled` bytes wait to be written.
    raw: Vec<u8>,
    filled: usize,
    done: u64,
    pieces: Vec<Piece>,
    data: &'a mut dyn Write,
    progress: &'a mut dyn FnMut(u64),
}

impl<'a> Packer<'a> {
    fn new(
        piece_raw_bytes: usize,
        data: &'a mut dyn Write,
        progress: &'a mut dyn FnMut(u64),
    ) -> Result<Self, PackError> {
        let encoder = Encoder::new(piece_raw_bytes)
            .map_err(|source| PackError::Compress { piece: 0, source })?;
        let raw = vec![0; piece_raw_bytes];
        Ok(Self { encoder, raw, filled: 0, done: 0, pieces: Vec::new(), data, progress })
    }

    fn file(&mut self, path: &Path, listed: Facts) -> Result<Digest, PackError> {
        let cannot_read = |source| PackError::Read { path: path.to_owned(), source };
        let changed = || PackError::Changed { path: path.to_owned() };
        let facts = |file: &File| file.metadata().map(|now| Facts::of(&now)).map_err(cannot_read);
        let mut file = walk::open(path).map_err(cannot_read)?;
        if facts(&file)? != listed {
            return Err(changed());
        }
        let mut hasher = blake3::Hasher::new();
        let mut left = listed.bytes;
        while left > 0 {
            let room = self.raw.len() - self.filled;
            let wanted = usize::try_from(left).map_or(room, |left| left.min(room));
            let part = &mut self.raw[self.filled..self.filled + wanted];
            let read = match file.read(part) {
                Ok(0) => return Err(changed()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(cannot_read(source)),
            };
            hasher.update(&part[..read]);
            left -= read as u64;
            self.filled += read;
            if self.filled == self.raw.len() {
                self.flush()?;
            }
        }
        // Asked again at the end: a change of the same length shows in its times.
        if facts(&file)? != listed {
            return Err(changed());
        }
        Ok(Digest::from_computed(*hasher.finalize().as_bytes()))
    }

    fn flush(&mut self) -> Result<(), PackError> {
        let piece = self.pieces.len();
        let (entry, frame) = self
            .encoder
            .encode(&self.raw[..self.filled])
            .map_err(|source| PackError::Compress { piece, source })?;
        self.data.write_all(frame).map_err(|source| PackError::Write { piece, source })?;
        self.pieces.push(entry);
        self.done += self.filled as u64;
        self.filled = 0;
        (self.progress)(self.done);
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Piece>, PackError> {
        if self.filled > 0 {
            self.flush()?;
        }
        let piece = self.pieces.len();
        self.data.flush().map_err(|source| PackError::Write { piece, source })?;
        Ok(self.pieces)
    }
}
