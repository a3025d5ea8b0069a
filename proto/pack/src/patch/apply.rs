//! A patch and the old tree to the new tree.

use std::io;
use std::path::Path;
use std::sync::Arc;

use proto::Digest;
use proto::artifact::{MANIFEST_BYTES_MAX, Manifest};
use proto::statement::ArtifactRef;
use zstd::zstd_safe::{DCtx, compress_bound, find_frame_compressed_size, get_error_name};

use super::make::read_blocks;
use super::{MAGIC, PREFIX_BLOCKS_MAX, PatchError, Run, SEGMENT_BYTES};
use crate::archive::Archive;
use crate::changed::{Installed, Tree};
use crate::unpack::Writer;

/// A patch whose manifest is the one that was signed. Its segments are not read yet.
pub struct Patch<'a> {
    reader: Reader<'a>,
    manifest_bytes: Arc<Vec<u8>>,
    manifest: Arc<Manifest>,
}

impl<'a> Patch<'a> {
    /// Reads the manifest of the artifact that `wanted` names. `old`: what the patch is said to start from.
    ///
    /// # Errors
    ///
    /// [`PatchError`].
    pub fn open(
        patch: Archive<'a>,
        old: &Manifest,
        wanted: &ArtifactRef,
    ) -> Result<Self, PatchError> {
        let mut reader = Reader { patch, at: 0 };
        if reader.take::<{ MAGIC.len() }>()? != *MAGIC {
            return Err(PatchError::Malformed);
        }
        let length = wanted.manifest_bytes.min(MANIFEST_BYTES_MAX);
        let length = usize::try_from(length).map_err(|_| PatchError::Malformed)?;
        let frame = reader.frame(length)?;
        let manifest_bytes = decompress(&old.to_bytes(), &frame, length);
        let manifest_bytes = manifest_bytes.map_err(|_| PatchError::Malformed)?;
        let got = Digest::of(&manifest_bytes);
        if got != wanted.id {
            return Err(PatchError::OtherManifest { got, wanted: wanted.id });
        }
        let manifest = Arc::new(Manifest::parse(&manifest_bytes)?);
        Ok(Self { reader, manifest_bytes: Arc::new(manifest_bytes), manifest })
    }

    /// The bytes of the new manifest.
    pub fn manifest_bytes(&self) -> &Arc<Vec<u8>> {
        &self.manifest_bytes
    }

    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Unpacks to `dest` as [`crate::unpack`] does, with what has not changed from the tree `old`.
    ///
    /// # Errors
    ///
    /// [`PatchError`]: nothing stands at `dest`.
    pub fn unpack(mut self, old: &Tree, dest: &Path) -> Result<(), PatchError> {
        let installed = Installed::of(std::slice::from_ref(old));
        let missing = installed.missing_of(&self.manifest);
        let mut left: u64 = missing.iter().map(|(_, bytes)| bytes).sum();
        let mut archive = Archive::of_tree(&old.manifest, &old.dir);
        let mut writer = Writer::begin(&self.manifest, installed, dest)?;
        let mut segment = 0;
        while left > 0 {
            let length =
                usize::try_from(left).map_or(SEGMENT_BYTES, |left| left.min(SEGMENT_BYTES));
            let runs = self.reader.runs()?;
            let frame = self.reader.frame(length)?;
            let prefix = read_blocks(&mut archive, &runs).map_err(PatchError::Base)?;
            let raw = decompress(&prefix, &frame, length).map_err(|why| PatchError::Segment {
                segment,
                wanted: length,
                why,
            })?;
            writer.write(&raw)?;
            left -= length as u64;
            segment += 1;
        }
        if self.reader.at != self.reader.patch.bytes() {
            return Err(PatchError::Trailing);
        }
        Ok(writer.place(dest)?)
    }
}

/// Reads a patch from its beginning to its end.
struct Reader<'a> {
    patch: Archive<'a>,
    at: u64,
}

impl Reader<'_> {
    fn fill(&mut self, to: &mut [u8]) -> Result<(), PatchError> {
        self.patch.read_at(self.at, to).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => PatchError::Malformed,
            _ => PatchError::Read(error),
        })?;
        self.at += to.len() as u64;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], PatchError> {
        let mut taken = [0; N];
        self.fill(&mut taken)?;
        Ok(taken)
    }

    /// A frame of what is `raw_bytes` long.
    fn frame(&mut self, raw_bytes: usize) -> Result<Vec<u8>, PatchError> {
        let length = u32::from_le_bytes(self.take()?) as usize;
        if length > compress_bound(raw_bytes) {
            return Err(PatchError::Malformed);
        }
        let mut frame = vec![0; length];
        self.fill(&mut frame)?;
        Ok(frame)
    }

    fn runs(&mut self) -> Result<Vec<Run>, PatchError> {
        let count = usize::from(u16::from_le_bytes(self.take()?));
        let mut runs = Vec::with_capacity(count.min(PREFIX_BLOCKS_MAX));
        let mut blocks = 0;
        for _ in 0..count {
            let run = Run {
                first: u32::from_le_bytes(self.take()?),
                blocks: u16::from_le_bytes(self.take()?),
            };
            blocks += usize::from(run.blocks);
            if run.blocks == 0 || blocks > PREFIX_BLOCKS_MAX {
                return Err(PatchError::Malformed);
            }
            runs.push(run);
        }
        Ok(runs)
    }
}

/// What a single frame says, which must be so long; else why not.
fn decompress(prefix: &[u8], frame: &[u8], raw_bytes: usize) -> Result<Vec<u8>, &'static str> {
    // zstd would take a second frame, or an empty one, as more of the same.
    if find_frame_compressed_size(frame).map_err(get_error_name)? != frame.len() {
        return Err("something follows its zstd frame");
    }
    let mut context = DCtx::create();
    context.ref_prefix(prefix).map_err(get_error_name)?;
    // What the frame says of its length is not believed: the buffer ends where it must.
    let mut raw = Vec::with_capacity(raw_bytes);
    let got = context.decompress(&mut raw, frame).map_err(get_error_name)?;
    if got == raw_bytes { Ok(raw) } else { Err("it is of another length") }
}
