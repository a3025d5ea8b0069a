//! A manifest and pieces to a directory: all of it, verified and durable, or nothing.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use durable::PlaceError;
use proto::Digest;
use proto::artifact::{Entry, Manifest, ManifestError, What};

use crate::archive::{GetPiece, Pieces};
use crate::changed::{Installed, Tree};
use crate::frame::FrameError;
use crate::stage::{self, Stage};
use crate::walk;

/// Why an artifact was not unpacked. Nothing stands at its place, and nothing is left beside it,
/// except after [`UnpackError::Place`] as its cause says.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("its manifest is refused")]
    Manifest(#[from] ManifestError),
    #[error("cannot begin {path:?}")]
    Begin {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot set up decompression")]
    Decompressor(#[source] io::Error),
    #[error("cannot get piece {piece}")]
    Get {
        piece: u32,
        #[source]
        source: io::Error,
    },
    #[error("piece {piece} is not the one that was signed")]
    Piece {
        piece: u32,
        #[source]
        source: FrameError,
    },
    #[error("cannot write {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {path:?}, which has not changed")]
    Installed {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} has digest {got}, the file table says {wanted}")]
    FileDigest { path: String, got: Digest, wanted: Digest },
    #[error("cannot put the unpacked tree in place")]
    Place(#[source] PlaceError),
}

/// Unpacks to `dest`, which must not exist; `pieces` hands over each piece once, in order.
///
/// The tree is built beside `dest` as `.NAME.tmp`, every piece and every file verified, then
/// synced and renamed. So `dest` appears whole or not at all, also across a power cut; what a cut
/// leaves beside it is removed by the next attempt. Calls for one `dest` must not overlap.
///
/// Files become 0444 or 0555, owned by the caller: a release is not changed in place. Directories
/// become 0755: only their owner can add to them, and it can remove the tree without first
/// changing modes all the way down.
///
/// # Errors
///
/// [`UnpackError`]: the piece or path, and what is wrong with it.
pub fn unpack(
    manifest: &Manifest,
    pieces: &mut GetPiece<'_>,
    dest: &Path,
) -> Result<(), UnpackError> {
    unpack_beside(manifest, &[], pieces, dest)
}

/// The same, with the files that `trees` have already copied from there. `pieces` is asked for what
/// [`crate::pieces_beside`] names.
///
/// # Errors
///
/// As [`unpack`]; a file of `trees` that is not what it was is one of them.
pub fn unpack_beside(
    manifest: &Manifest,
    trees: &[Tree],
    pieces: &mut GetPiece<'_>,
    dest: &Path,
) -> Result<(), UnpackError> {
    // Its fields are public: it may have come past `Manifest::parse`.
    manifest.check()?;
    let installed = Installed::of(trees);
    let missing = installed.missing_of(manifest);
    let mut writer = Writer::begin(manifest, installed, dest)?;
    let mut archive = Pieces::new(manifest, pieces).map_err(UnpackError::Decompressor)?;
    for (mut start, bytes) in missing {
        let end = start + bytes;
        while start < end {
            let raw = archive.raw_from(start)?;
            let length = usize::try_from(end - start).map_or(raw.len(), |left| left.min(raw.len()));
            writer.write(&raw[..length])?;
            start += length as u64;
        }
    }
    writer.place(dest)
}

/// Lays the archive's bytes out as files; without those of files that are installed already.
pub(crate) struct Writer<'m> {
    stage: Stage,
    installed: Installed<'m>,
    ahead: std::slice::Iter<'m, Entry>,
    /// The file that the next byte belongs to.
    open: Option<Open<'m>>,
}

struct Open<'m> {
    path: &'m str,
    file: File,
    left: u64,
    hasher: blake3::Hasher,
    wanted: Digest,
    executable: bool,
}

impl<'m> Writer<'m> {
    pub(crate) fn begin(
        manifest: &'m Manifest,
        installed: Installed<'m>,
        dest: &Path,
    ) -> Result<Self, UnpackError> {
        let stage = Stage::beside(dest)
            .map_err(|source| UnpackError::Begin { path: dest.to_owned(), source })?;
        let mut writer = Self { stage, installed, ahead: manifest.entries.iter(), open: None };
        writer.advance()?;
        Ok(writer)
    }

    /// Makes what needs no bytes, up to the next file that does.
    fn advance(&mut self) -> Result<(), UnpackError> {
        for Entry { path, what } in self.ahead.by_ref() {
            let failed = |source| UnpackError::Write { path: self.stage.path().join(path), source };
            match what {
                What::Directory => self.stage.directory(path).map_err(failed)?,
                What::Link { target } => self.stage.link(path, target),
                What::File { bytes, digest, executable } => {
                    if let Some(old) = self.installed.path(digest) {
                        let (bytes, executable) = (*bytes, *executable);
                        copy(&self.stage, &old, path, (bytes, digest), executable)?;
                        continue;
                    }
                    let open = Open {
                        path,
                        file: self.stage.file(path).map_err(failed)?,
                        left: *bytes,
                        hasher: blake3::Hasher::new(),
                        wanted: *digest,
                        executable: *executable,
                    };
                    if open.left > 0 {
                        self.open = Some(open);
                        return Ok(());
                    }
                    open.close(&self.stage)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, mut raw: &[u8]) -> Result<(), UnpackError> {
        while !raw.is_empty() {
            let open = self.open.as_mut().expect("the piece table adds up to the file table");
            let length = usize::try_from(open.left).map_or(raw.len(), |left| left.min(raw.len()));
            let (part, rest) = raw.split_at(length);
            open.file.write_all(part).map_err(|source| UnpackError::Write {
                path: self.stage.path().join(open.path),
                source,
            })?;
            open.hasher.update(part);
            open.left -= length as u64;
            raw = rest;
            if open.left == 0 {
                if let Some(done) = self.open.take() {
                    done.close(&self.stage)?;
                }
                self.advance()?;
            }
        }
        Ok(())
    }

    pub(crate) fn place(self, dest: &Path) -> Result<(), UnpackError> {
        self.stage.finish().map_err(|(path, source)| UnpackError::Write { path, source })?;
        match durable::place_tree(self.stage.path(), dest) {
            Ok(()) => {
                self.stage.keep();
                Ok(())
            }
            Err(error) => Err(UnpackError::Place(error)),
        }
    }
}

/// Copies a file that is installed: by reference, where the file system can. It is verified as it came.
fn copy(
    stage: &Stage,
    old: &Path,
    path: &str,
    (bytes, wanted): (u64, &Digest),
    executable: bool,
) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Write { path: stage.path().join(path), source };
    let from = walk::open(old)
        .map_err(|source| UnpackError::Installed { path: old.to_owned(), source })?;
    let mut file = stage.file(path).map_err(failed)?;
    // `copy_file_range`, which shares the blocks on btrfs and XFS. One byte more is enough to be another file:
    // what was appended to it must not fill the disk.
    io::copy(&mut from.take(bytes.saturating_add(1)), &mut file).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(stage.path().join(path)).map_err(failed)?).map_err(failed)?;
    let got = Digest::from_computed(*hasher.finalize().as_bytes());
    if got != *wanted {
        return Err(UnpackError::FileDigest { path: path.to_owned(), got, wanted: *wanted });
    }
    stage::close(&file, executable).map_err(failed)
}

impl Open<'_> {
    fn close(self, stage: &Stage) -> Result<(), UnpackError> {
        let got = Digest::from_computed(*self.hasher.finalize().as_bytes());
        if got != self.wanted {
            let path = self.path.to_owned();
            return Err(UnpackError::FileDigest { path, got, wanted: self.wanted });
        }
        stage::close(&self.file, self.executable)
            .map_err(|source| UnpackError::Write { path: stage.path().join(self.path), source })
    }
}
