//! The archive of an artifact (see [`proto::artifact`]), to be read anywhere in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proto::artifact::{Manifest, What};

use crate::frame::{Decoder, Encoder};
use crate::unpack::UnpackError;
use crate::walk;

/// Hands over a piece; it is checked against the piece table before it is used.
pub type GetPiece<'a> = dyn FnMut(u32) -> io::Result<Vec<u8>> + 'a;

/// An archive: from its pieces, or from a tree that was unpacked from them. Holds one piece in memory, or
/// one file open.
pub struct Archive<'a> {
    bytes: u64,
    source: Source<'a>,
}

enum Source<'a> {
    Pieces(Pieces<'a, 'a>),
    Tree(Tree<'a>),
}

impl<'a> Archive<'a> {
    /// From its pieces, each of which may be asked for more than once.
    ///
    /// # Errors
    ///
    /// What zstd says where there is no memory.
    pub fn of_pieces(manifest: &'a Manifest, get: &'a mut GetPiece<'a>) -> io::Result<Self> {
        let bytes = manifest.raw_bytes();
        Ok(Self { bytes, source: Source::Pieces(Pieces::new(manifest, get)?) })
    }

    /// From the files of `dir` as they are: nothing is verified.
    pub fn of_tree(manifest: &'a Manifest, dir: &Path) -> Self {
        let mut bytes = 0;
        let mut starts = Vec::new();
        for entry in &manifest.entries {
            if let What::File { bytes: length @ 1.., .. } = entry.what {
                starts.push((bytes, entry.path.as_str()));
                bytes += length;
            }
        }
        let tree = Tree { dir: dir.to_owned(), starts, bytes, open: None };
        Self { bytes, source: Source::Tree(tree) }
    }

    /// Length of all of it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `to` with what stands from `offset` on.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` past its end, or where a file has become shorter; what reading says otherwise.
    pub fn read_at(&mut self, mut offset: u64, mut to: &mut [u8]) -> io::Result<()> {
        while !to.is_empty() {
            if offset >= self.bytes {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let read = match &mut self.source {
                Source::Pieces(pieces) => pieces.read(offset, to)?,
                Source::Tree(tree) => tree.read(offset, to)?,
            };
            offset += read as u64;
            to = &mut to[read..];
        }
        Ok(())
    }

    /// Fills a buffer of so many bytes.
    ///
    /// # Errors
    ///
    /// As [`Self::read_at`].
    pub(crate) fn read_vec(&mut self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        self.read_at(offset, &mut read)?;
        Ok(read)
    }
}

/// An archive from its pieces, of which the last one that was asked for is kept.
pub(crate) struct Pieces<'p, 'g> {
    manifest: &'p Manifest,
    bytes: u64,
    get: &'p mut GetPiece<'g>,
    decoder: Decoder,
    /// The raw bytes of the piece `index`.
    raw: Vec<u8>,
    index: Option<u32>,
}

impl<'p, 'g> Pieces<'p, 'g> {
    pub(crate) fn new(manifest: &'p Manifest, get: &'p mut GetPiece<'g>) -> io::Result<Self> {
        let decoder = Decoder::new(manifest.piece_raw_bytes as usize)?;
        let bytes = manifest.raw_bytes();
        Ok(Self { manifest, bytes, get, decoder, raw: Vec::new(), index: None })
    }

    /// What stands from `offset`, which lies before the end, to the end of a piece.
    pub(crate) fn raw_from(&mut self, offset: u64) -> Result<&[u8], UnpackError> {
        let length = u64::from(self.manifest.piece_raw_bytes);
        let piece = u32::try_from(offset / length).expect("a manifest has fewer pieces");
        if self.index != Some(piece) {
            self.index = None;
            let raw_bytes = length.min(self.bytes - u64::from(piece) * length);
            let raw_bytes = usize::try_from(raw_bytes).expect("a piece fits in memory");
            let frame = (self.get)(piece).map_err(|source| UnpackError::Get { piece, source })?;
            let raw = self
                .decoder
                .decode(&self.manifest.pieces[piece as usize], &frame, raw_bytes)
                .map_err(|source| UnpackError::Piece { piece, source })?;
            self.raw.clear();
            self.raw.extend_from_slice(raw);
            self.index = Some(piece);
        }
        let within = usize::try_from(offset % length).expect("a piece fits in memory");
        Ok(&self.raw[within..])
    }

    /// Reads on to the end of a piece, or of `to`.
    fn read(&mut self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        let raw = self.raw_from(offset).map_err(io::Error::other)?;
        let read = raw.len().min(to.len());
        to[..read].copy_from_slice(&raw[..read]);
        Ok(read)
    }
}

struct Tree<'a> {
    dir: PathBuf,
    /// Where each file that is not empty begins, and its path.
    starts: Vec<(u64, &'a str)>,
    bytes: u64,
    open: Option<(usize, File)>,
}

impl Tree<'_> {
    /// Reads on to the end of a file, or of `to`.
    fn read(&mut self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        // The first file starts at 0, and `offset` lies before the end.
        let index = self.starts.partition_point(|(start, _)| *start <= offset) - 1;
        let (start, path) = self.starts[index];
        let file = match &mut self.open {
            Some((at, file)) if *at == index => file,
            open => &mut open.insert((index, walk::open(&self.dir.join(path))?)).1,
        };
        let end = self.starts.get(index + 1).map_or(self.bytes, |(next, _)| *next);
        let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
        let length = left.min(to.len());
        file.read_exact_at(&mut to[..length], offset - start)?;
        Ok(length)
    }
}

/// Makes the pieces of an artifact anew from its tree: for a host that has its files and not its pieces.
pub struct Repacker<'a> {
    manifest: &'a Manifest,
    archive: Archive<'a>,
    encoder: Encoder,
}

impl<'a> Repacker<'a> {
    /// From the tree at `dir`.
    ///
    /// # Errors
    ///
    /// What zstd says where there is no memory.
    pub fn new(manifest: &'a Manifest, dir: &Path) -> io::Result<Self> {
        let encoder = Encoder::new(manifest.piece_raw_bytes as usize)?;
        Ok(Self { manifest, archive: Archive::of_tree(manifest, dir), encoder })
    }

    /// The piece `index`, as it was signed; none where these files no longer give it, or where this
    /// version's zstd writes the same bytes in another way than the publisher's.
    ///
    /// # Errors
    ///
    /// What reading the tree says.
    pub fn piece(&mut self, index: u32) -> io::Result<Option<Vec<u8>>> {
        let wanted = self.manifest.pieces.get(index as usize).ok_or(io::ErrorKind::InvalidInput)?;
        let length = u64::from(self.manifest.piece_raw_bytes);
        let start = u64::from(index) * length;
        let raw_bytes = length.min(self.archive.bytes() - start);
        let raw_bytes = usize::try_from(raw_bytes).map_err(io::Error::other)?;
        let raw = self.archive.read_vec(start, raw_bytes)?;
        let (piece, frame) = self.encoder.encode(&raw)?;
        Ok((piece == *wanted).then(|| frame.to_vec()))
    }
}
