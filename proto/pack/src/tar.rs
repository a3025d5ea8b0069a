//! A `.tar.zst` that somebody built, as a directory to pack.
//!
//! The archive is read block by block, and nothing of it is believed: names and lengths are
//! bounded before they are read, and paths are checked before they are used. GNU and POSIX (pax)
//! long names are understood; what an artifact cannot hold is refused by name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use proto::Digest;
use proto::artifact::{
    ENTRIES_MAX, Entry, ManifestError, PATH_BYTES_MAX, RAW_BYTES_MAX, What, check_entries,
    check_path,
};
use tar::{EntryType, Header, PaxExtensions};

use crate::refusal::Refusal;
use crate::stage::{self, Stage};
use crate::walk::SET_ID;

const BLOCK_BYTES: usize = 512;
/// Longest extended header read, in bytes.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;
/// 128 MiB, which is what `zstd --long` and `--ultra` may ask for, and no more.
const WINDOW_LOG_MAX: u32 = 27;
/// An archive may grow to this many bytes, whatever its own length.
const GROWTH_FREE_BYTES: u64 = 256 << 20;
/// Above that, to so many times its own length. Software shrinks 3 to 20 times.
const GROWTH_MAX: u64 = 1_000;

/// Why an archive was not extracted. Nothing is left of what was extracted before.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    #[error("cannot open {path:?}")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the archive: is it a .tar.zst, and whole?")]
    Read(#[source] io::Error),
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
    #[error("{path:?}: {why}")]
    Refused { path: String, why: Refusal },
    #[error(transparent)]
    Unsafe(#[from] ManifestError),
    #[error("the archive holds more than {0} entries")]
    TooMany(usize),
    #[error("the archive grows to more than {max} bytes: publish the directory instead")]
    TooLarge { max: u64 },
    #[error("cannot write {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Extracts the archive `tar_zst` to `into`, which must not exist.
///
/// The tree appears at `into` when all of it is there, or not at all. It is not made durable: it
/// is there to be packed. Directories that the archive does not name are made.
///
/// # Errors
///
/// [`TarError`]: the entry that was refused, and what to do about it.
pub fn extract_tar(tar_zst: &Path, into: &Path) -> Result<(), TarError> {
    let cannot_open = |source| TarError::Open { path: tar_zst.to_owned(), source };
    let file = File::open(tar_zst).map_err(cannot_open)?;
    let packed_bytes = file.metadata().map_err(cannot_open)?.len();
    let mut decoder = zstd::Decoder::new(file).map_err(TarError::Read)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(TarError::Read)?;
    let max = packed_bytes.saturating_mul(GROWTH_MAX).clamp(GROWTH_FREE_BYTES, RAW_BYTES_MAX);
    let mut blocks = Blocks { from: BufReader::with_capacity(128 << 10, decoder), left: max, max };
    let stage =
        Stage::beside(into).map_err(|source| TarError::Write { path: into.to_owned(), source })?;
    let mut extraction = Extraction { stage, seen: BTreeMap::new(), buffer: vec![0; 128 << 10] };
    while let Some(entry) = next(&mut blocks)? {
        extraction.take(&entry, &mut blocks)?;
    }
    blocks.end()?;
    extraction.finish(into)
}

/// The decompressed archive, as far as its growth allows.
struct Blocks<R> {
    from: R,
    left: u64,
    max: u64,
}

impl<R: Read> Blocks<R> {
    fn fill(&mut self, into: &mut [u8]) -> Result<(), TarError> {
        self.left =
            self.left.checked_sub(into.len() as u64).ok_or(TarError::TooLarge { max: self.max })?;
        self.from.read_exact(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Damaged("it ends too early"),
            _ => TarError::Read(error),
        })
    }

    fn block(&mut self) -> Result<[u8; BLOCK_BYTES], TarError> {
        let mut block = [0; BLOCK_BYTES];
        self.fill(&mut block)?;
        Ok(block)
    }

    /// Skips what fills the last block of `bytes` bytes.
    fn pad(&mut self, bytes: u64) -> Result<(), TarError> {
        let over = usize::try_from(bytes % BLOCK_BYTES as u64).expect("below 512");
        if over > 0 {
            self.fill(&mut [0; BLOCK_BYTES][over..])?;
        }
        Ok(())
    }

    /// The content of an extended header.
    fn extension(&mut self, bytes: u64) -> Result<Vec<u8>, TarError> {
        if bytes > EXTENSION_BYTES_MAX {
            return Err(TarError::Damaged("an extended header is too long"));
        }
        let mut content = vec![0; usize::try_from(bytes).expect("64 KiB at most")];
        self.fill(&mut content)?;
        self.pad(bytes)?;
        Ok(content)
    }

    /// After the end of the archive come zeros, to the end of the last zstd frame.
    fn end(&mut self) -> Result<(), TarError> {
        let mut buffer = [0; BLOCK_BYTES];
        loop {
            match self.from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) if buffer[..read].iter().any(|byte| *byte != 0) => {
                    return Err(TarError::Damaged("data follow its end: are there two in one?"));
                }
                Ok(read) => {
                    self.left = self
                        .left
                        .checked_sub(read as u64)
                        .ok_or(TarError::TooLarge { max: self.max })?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
    }
}

/// An entry with its long names resolved; its content follows in the blocks.
struct TarEntry {
    kind: EntryType,
    mode: u32,
    bytes: u64,
    path: Vec<u8>,
    target: Vec<u8>,
}

/// The next entry, or nothing at the end of the archive.
fn next<R: Read>(blocks: &mut Blocks<R>) -> Result<Option<TarEntry>, TarError> {
    let (mut long_path, mut long_target) = (None, None);
    // Each of path and target may come with a GNU and a pax header before it, and a comment.
    for _ in 0..8 {
        let block = blocks.block()?;
        if block.iter().all(|byte| *byte == 0) {
            return if blocks.block()?.iter().all(|byte| *byte == 0) {
                Ok(None)
            } else {
                Err(TarError::Damaged("it has a hole"))
            };
        }
        let header = Header::from_byte_slice(&block);
        let damaged = |_| TarError::Damaged("a number in a header cannot be read");
        if header.cksum().ok() != Some(checksum(&block)) {
            return Err(TarError::Damaged("a header's checksum is wrong: is it a tar?"));
        }
        let bytes = header.entry_size().map_err(damaged)?;
        match header.entry_type() {
            EntryType::GNULongName => long_path = Some(long_name(blocks, bytes)?),
            EntryType::GNULongLink => long_target = Some(long_name(blocks, bytes)?),
            EntryType::XHeader => {
                let content = blocks.extension(bytes)?;
                pax(&content, &mut long_path, &mut long_target)?;
            }
            // Defaults for all entries; `git archive` puts its commit here.
            EntryType::XGlobalHeader => drop(blocks.extension(bytes)?),
            kind => {
                let mode = header.mode().map_err(damaged)?;
                let path = long_path.unwrap_or_else(|| header.path_bytes().into_owned());
                let target = long_target.or_else(|| Some(header.link_name_bytes()?.into_owned()));
                let target = target.unwrap_or_default();
                return Ok(Some(TarEntry { kind, mode, bytes, path, target }));
            }
        }
    }
    Err(TarError::Damaged("too many extended headers in a row"))
}

/// The sum of a header's bytes, its own field read as spaces.
fn checksum(block: &[u8; BLOCK_BYTES]) -> u32 {
    let byte =
        |(at, byte): (usize, &u8)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte });
    block.iter().enumerate().map(byte).sum()
}

fn long_name<R: Read>(blocks: &mut Blocks<R>, bytes: u64) -> Result<Vec<u8>, TarError> {
    let mut name = blocks.extension(bytes)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn pax(
    content: &[u8],
    long_path: &mut Option<Vec<u8>>,
    long_target: &mut Option<Vec<u8>>,
) -> Result<(), TarError> {
    for record in PaxExtensions::new(content) {
        let record = record.map_err(|_| TarError::Damaged("an extended header cannot be read"))?;
        match record.key_bytes() {
            b"path" => *long_path = Some(record.value_bytes().to_vec()),
            b"linkpath" => *long_target = Some(record.value_bytes().to_vec()),
            // The header's own field would be read, and the archive misunderstood from there on.
            b"size" => {
                return Err(TarError::Damaged(
                    "a file of more than 8 GiB: publish the directory instead",
                ));
            }
            key if key.starts_with(b"GNU.sparse.") => {
                let path = long_path.take().unwrap_or_default();
                let path = String::from_utf8_lossy(&path).into_owned();
                return Err(TarError::Refused { path, why: Refusal::Sparse });
            }
            _ => {}
        }
    }
    Ok(())
}

struct Extraction {
    stage: Stage,
    seen: BTreeMap<String, Seen>,
    buffer: Vec<u8>,
}

/// What was made at a path.
enum Seen {
    /// By the archive's own word, or because something lies in it.
    Directory {
        named: bool,
    },
    File {
        bytes: u64,
    },
    Link {
        target: String,
    },
}

impl Extraction {
    fn take<R: Read>(&mut self, entry: &TarEntry, blocks: &mut Blocks<R>) -> Result<(), TarError> {
        if matches!(entry.kind, EntryType::Directory | EntryType::Symlink) && entry.bytes > 0 {
            return Err(TarError::Damaged("a directory or link has content"));
        }
        let shown = || String::from_utf8_lossy(&entry.path).chars().take(PATH_BYTES_MAX).collect();
        let refused = |why| TarError::Refused { path: shown(), why };
        let path = std::str::from_utf8(&entry.path).map_err(|_| refused(Refusal::NotUtf8))?;
        let is_directory = entry.kind == EntryType::Directory;
        let Some(path) = plain(path, is_directory) else { return Ok(()) };
        check_path(path).map_err(|why| refused(Refusal::Path(why)))?;
        match entry.kind {
            EntryType::Directory => {
                self.parents(path)?;
                match self.seen.get_mut(path) {
                    Some(Seen::Directory { named: named @ false }) => *named = true,
                    Some(_) => return Err(refused(Refusal::Twice)),
                    None => self.directory(path, true)?,
                }
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous => {
                // A directory's setgid bit is about the group of new files in it; a file's is not.
                if entry.mode & SET_ID != 0 {
                    return Err(refused(Refusal::SetId));
                }
                self.add(path, Seen::File { bytes: entry.bytes })?;
                self.file(path, entry, blocks)
            }
            EntryType::Symlink => {
                let target = std::str::from_utf8(&entry.target)
                    .map_err(|_| refused(Refusal::LinkNotUtf8))?;
                // Kept until the end, so its length is checked now; the rest is, then.
                if target.len() > PATH_BYTES_MAX {
                    return Err(refused(Refusal::Path("has an overlong link target")));
                }
                self.add(path, Seen::Link { target: target.to_owned() })?;
                self.stage.link(path, target);
                Ok(())
            }
            EntryType::Link => Err(refused(Refusal::HardLink)),
            EntryType::Char | EntryType::Block => Err(refused(Refusal::Device)),
            EntryType::Fifo => Err(refused(Refusal::Fifo)),
            EntryType::GNUSparse => Err(refused(Refusal::Sparse)),
            other => Err(refused(Refusal::EntryType(char::from(other.as_byte())))),
        }
    }

    /// Claims a path for a file or link.
    fn add(&mut self, path: &str, what: Seen) -> Result<(), TarError> {
        self.parents(path)?;
        if self.seen.contains_key(path) {
            return Err(TarError::Refused { path: path.to_owned(), why: Refusal::Twice });
        }
        self.remember(path, what)
    }

    /// Makes the directories above `path` that are not there. One that is a link or a file is
    /// never entered.
    fn parents(&mut self, path: &str) -> Result<(), TarError> {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            match self.seen.get(parent) {
                Some(Seen::Directory { .. }) => {}
                Some(Seen::File { .. } | Seen::Link { .. }) => {
                    let path = path.to_owned();
                    let why = Refusal::Path("leads through a file or link of the archive");
                    return Err(TarError::Refused { path, why });
                }
                None => self.directory(parent, false)?,
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &str, named: bool) -> Result<(), TarError> {
        self.remember(path, Seen::Directory { named })?;
        self.stage
            .directory(path)
            .map_err(|source| TarError::Write { path: self.stage.path().join(path), source })
    }

    fn remember(&mut self, path: &str, what: Seen) -> Result<(), TarError> {
        if self.seen.len() >= ENTRIES_MAX {
            return Err(TarError::TooMany(ENTRIES_MAX));
        }
        self.seen.insert(path.to_owned(), what);
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        path: &str,
        entry: &TarEntry,
        blocks: &mut Blocks<R>,
    ) -> Result<(), TarError> {
        let failed = |source| TarError::Write { path: self.stage.path().join(path), source };
        let mut file = self.stage.file(path).map_err(failed)?;
        let mut left = entry.bytes;
        if left > blocks.left {
            return Err(TarError::TooLarge { max: blocks.max });
        }
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let part = &mut self.buffer[..length];
            blocks.fill(part)?;
            file.write_all(part).map_err(failed)?;
            left -= length as u64;
        }
        blocks.pad(entry.bytes)?;
        stage::close(&file, entry.mode & 0o100 != 0).map_err(failed)
    }

    /// Judges the tree as a whole, links included, before a link is made.
    fn finish(self, into: &Path) -> Result<(), TarError> {
        let mut entries: Vec<Entry> = self.seen.into_iter().map(entry).collect();
        entries.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        check_entries(&entries)?;
        let failed = |(path, source)| TarError::Write { path, source };
        self.stage.finish().map_err(failed)?;
        fs::rename(self.stage.path(), into).map_err(|source| failed((into.to_owned(), source)))?;
        self.stage.keep();
        Ok(())
    }
}

fn entry((path, seen): (String, Seen)) -> Entry {
    let digest = Digest::from_computed([0; 32]);
    let what = match seen {
        Seen::Directory { .. } => What::Directory,
        Seen::File { bytes } => What::File { bytes, digest, executable: false },
        Seen::Link { target } => What::Link { target },
    };
    Entry { path, what }
}

/// A path as `tar` writes it, without the `./` before it and a directory's `/` after it; nothing
/// for the top itself.
fn plain(path: &str, is_directory: bool) -> Option<&str> {
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = if is_directory { path.strip_suffix('/').unwrap_or(path) } else { path };
    (!is_directory || !(path.is_empty() || path == ".")).then_some(path)
}
