//! What of an artifact is not among files that are installed already (R28).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::Digest;
use proto::artifact::{Entry, Manifest, What};

/// A tree that was unpacked earlier, and what it was unpacked from. Not verified: each file is, when it is
/// used. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tree {
    pub manifest: Arc<Manifest>,
    pub dir: PathBuf,
}

/// Files that are installed, by content.
pub(crate) struct Installed<'a>(BTreeMap<&'a Digest, (&'a Path, &'a str)>);

impl<'a> Installed<'a> {
    pub(crate) fn of(trees: &'a [Tree]) -> Self {
        let files = trees.iter().flat_map(|tree| {
            files(&tree.manifest).map(|(path, _, digest)| (digest, (tree.dir.as_path(), path)))
        });
        Self(files.collect())
    }

    /// By content alone: for who does not have them.
    pub(crate) fn only_of(manifest: &'a Manifest) -> Self {
        let files = files(manifest);
        Self(files.map(|(path, _, digest)| (digest, (Path::new(""), path))).collect())
    }

    /// Where a file of this content should lie.
    pub(crate) fn path(&self, content: &Digest) -> Option<PathBuf> {
        self.0.get(content).map(|(dir, path)| dir.join(path))
    }

    /// The content of `new` that is not installed: where each file begins in the archive, and its
    /// length, in bytes.
    pub(crate) fn missing_of(&self, new: &Manifest) -> Vec<(u64, u64)> {
        let mut start = 0;
        let mut missing = Vec::new();
        for (_, bytes, digest) in files(new) {
            if !self.0.contains_key(digest) && bytes > 0 {
                missing.push((start, bytes));
            }
            start += bytes;
        }
        missing
    }
}

/// The pieces of `new` that hold content that no file of `trees` has: what is needed beside these.
pub fn pieces_beside(new: &Manifest, trees: &[Tree]) -> Vec<u32> {
    let length = u64::from(new.piece_raw_bytes);
    let mut pieces: Vec<u64> = Vec::new();
    for (start, bytes) in Installed::of(trees).missing_of(new) {
        let first = (start / length).max(pieces.last().map_or(0, |last| last + 1));
        pieces.extend(first..=(start + bytes - 1) / length);
    }
    // A manifest has fewer pieces than that.
    pieces.into_iter().filter_map(|piece| u32::try_from(piece).ok()).collect()
}

/// Path, length and digest of each file.
fn files(manifest: &Manifest) -> impl Iterator<Item = (&str, u64, &Digest)> {
    manifest.entries.iter().filter_map(|Entry { path, what }| match what {
        What::File { bytes, digest, .. } => Some((path.as_str(), *bytes, digest)),
        What::Directory | What::Link { .. } => None,
    })
}
