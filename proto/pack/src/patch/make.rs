//! Two archives to a patch.

use std::io::Write;
use std::ops::ControlFlow;

use proto::artifact::Manifest;
use zstd::zstd_safe::{CCtx, CParameter, compress_bound, get_error_name};

use super::likeness::Likeness;
use super::{BLOCK_BYTES, MAGIC, MakeError, PREFIX_BLOCKS_MAX, Run, SEGMENT_BYTES};
use crate::archive::Archive;
use crate::changed::Installed;

/// A megabyte of changed content takes two seconds of a core.
const LEVEL_THOROUGH: i32 = 19;
/// A tenth of a second, for patches that are a tenth longer.
const LEVEL_QUICK: i32 = 9;
/// Changed content up to which the thorough level is worth its time, in bytes.
const THOROUGH_BYTES_MAX: u64 = 64 << 20;

/// What a patch saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Its length, in bytes.
    pub bytes: u64,
    /// Content of the files it has, in bytes.
    pub changed_bytes: u64,
}

/// Writes the patch from `old` to `new`, which is at most `bytes_max` bytes long. `progress` gets the
/// changed bytes done so far, and of how many.
///
/// # Errors
///
/// [`MakeError`].
pub fn make_patch(
    (old, old_archive): (&Manifest, &mut Archive<'_>),
    (new, new_archive): (&Manifest, &mut Archive<'_>),
    bytes_max: u64,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Made, MakeError> {
    let mut changed = Changed::between(old, new);
    let of = changed.bytes_left;
    let level = if of > THOROUGH_BYTES_MAX { LEVEL_QUICK } else { LEVEL_THOROUGH };
    let mut out = Bounded { out, bytes: 0, bytes_max };
    out.write(MAGIC)?;
    out.frame(&compress(&old.to_bytes(), &new.to_bytes(), LEVEL_THOROUGH)?)?;
    if of > 0 {
        let likeness = Likeness::of(old_archive).map_err(MakeError::Read)?;
        while let Some(segment) = changed.next(new_archive)? {
            let runs = likeness.blocks_like(&segment);
            let prefix = read_blocks(old_archive, &runs).map_err(MakeError::Read)?;
            let frame = compress(&prefix, &segment, level)?;
            out.segment(&runs, &frame)?;
            if progress(of - changed.bytes_left, of).is_break() {
                return Err(MakeError::Stopped);
            }
        }
    }
    out.out.flush().map_err(MakeError::Write)?;
    Ok(Made { bytes: out.bytes, changed_bytes: of })
}

/// The changed content, segment by segment.
struct Changed {
    /// What of it is ahead: where it stands in the new archive, and its length.
    ahead: std::iter::Peekable<std::vec::IntoIter<(u64, u64)>>,
    /// How much of the first is behind.
    behind: u64,
    bytes_left: u64,
}

impl Changed {
    fn between(old: &Manifest, new: &Manifest) -> Self {
        let changed = Installed::only_of(old).missing_of(new);
        let bytes_left = changed.iter().map(|(_, bytes)| bytes).sum();
        Self { ahead: changed.into_iter().peekable(), behind: 0, bytes_left }
    }

    fn next(&mut self, archive: &mut Archive<'_>) -> Result<Option<Vec<u8>>, MakeError> {
        let length =
            usize::try_from(self.bytes_left).map_or(SEGMENT_BYTES, |left| left.min(SEGMENT_BYTES));
        let mut segment = vec![0; length];
        let mut to = segment.as_mut_slice();
        while !to.is_empty()
            && let Some((start, bytes)) = self.ahead.peek().copied()
        {
            let left = bytes - self.behind;
            let length = usize::try_from(left).map_or(to.len(), |left| left.min(to.len()));
            let (part, rest) = to.split_at_mut(length);
            archive.read_at(start + self.behind, part).map_err(MakeError::Read)?;
            to = rest;
            self.behind += length as u64;
            if self.behind == bytes {
                self.ahead.next();
                self.behind = 0;
            }
        }
        self.bytes_left -= segment.len() as u64;
        Ok((!segment.is_empty()).then_some(segment))
    }
}

/// The blocks of some runs, one after the other.
pub(super) fn read_blocks(archive: &mut Archive<'_>, runs: &[Run]) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(PREFIX_BLOCKS_MAX * BLOCK_BYTES);
    for run in runs {
        let start = u64::from(run.first) * BLOCK_BYTES as u64;
        let left = archive.bytes().saturating_sub(start);
        let length = usize::from(run.blocks) * BLOCK_BYTES;
        let length = usize::try_from(left).map_or(length, |left| left.min(length));
        let from = read.len();
        read.resize(from + length, 0);
        archive.read_at(start, &mut read[from..])?;
    }
    Ok(read)
}

fn compress(prefix: &[u8], content: &[u8], level: i32) -> Result<Vec<u8>, MakeError> {
    let failed = |code| MakeError::Compress(get_error_name(code));
    let mut context = CCtx::create();
    // A window that reaches from the end of the content to the beginning of the prefix.
    let window_log = (prefix.len() + content.len()).max(1 << 10).next_power_of_two().ilog2();
    context.set_parameter(CParameter::CompressionLevel(level)).map_err(failed)?;
    context.set_parameter(CParameter::WindowLog(window_log)).map_err(failed)?;
    context.ref_prefix(prefix).map_err(failed)?;
    let mut frame = Vec::with_capacity(compress_bound(content.len()));
    context.compress2(&mut frame, content).map_err(failed)?;
    Ok(frame)
}

/// Writes no more than it may.
struct Bounded<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
    bytes_max: u64,
}

impl Bounded<'_> {
    fn write(&mut self, part: &[u8]) -> Result<(), MakeError> {
        self.bytes += part.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(MakeError::NotWorth { bytes_max: self.bytes_max });
        }
        self.out.write_all(part).map_err(MakeError::Write)
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), MakeError> {
        let length = u32::try_from(frame.len()).expect("frames are of a few mebibytes");
        self.write(&length.to_le_bytes())?;
        self.write(frame)
    }

    fn segment(&mut self, runs: &[Run], frame: &[u8]) -> Result<(), MakeError> {
        let count = u16::try_from(runs.len()).expect("no more runs than blocks");
        self.write(&count.to_le_bytes())?;
        for run in runs {
            self.write(&run.first.to_le_bytes())?;
            self.write(&run.blocks.to_le_bytes())?;
        }
        self.frame(frame)
    }
}
