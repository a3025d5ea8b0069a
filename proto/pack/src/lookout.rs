//! Whether a directory stays what a manifest says, looked at again and again at little cost (R25).

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::path::Path;

use proto::Digest;
use proto::artifact::{Entry, Manifest, What};

use crate::tree::{TreeError, compare_facts};
use crate::walk::{self, Facts, Found, FoundWhat};

/// What a look found.
#[derive(Debug)]
pub struct Drift {
    /// Paths that differ, are missing or were added.
    pub found: u32,
    /// The first of them in the order of the file table.
    pub first: TreeError,
}

/// What is known of a tree from one look to the next: a few bytes per file.
///
/// Each look lists the tree and compares everything that can be told without reading. It reads the
/// files that look other than when they were read, and then some of the others in turn, so that
/// what a disk has lost is found out, too, in time.
#[derive(Debug)]
pub struct Lookout {
    /// Per entry of the file table: how the file looked when it was read last.
    read: Vec<Option<u64>>,
    /// Those whose content was another one then.
    edited: BTreeSet<usize>,
    /// Where to go on reading.
    next: usize,
}

impl Lookout {
    /// Nothing known of the tree of this manifest. All looks are for the same one.
    pub fn new(manifest: &Manifest) -> Self {
        Self { read: vec![None; manifest.entries.len()], edited: BTreeSet::new(), next: 0 }
    }

    /// Looks at `dir` once; `Ok(None)`: nothing found. Ends what it reads after the file with which
    /// that comes to `bytes_max`. `pace` is told after every so many bytes, and may wait; once it
    /// says no, the look is given up.
    ///
    /// # Errors
    ///
    /// [`GivenUp`]: `pace` said no.
    pub fn look(
        &mut self,
        manifest: &Manifest,
        dir: &Path,
        bytes_max: u64,
        pace: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Drift>, GivenUp> {
        let found = match walk::walk(dir) {
            Ok(found) => found,
            Err(error) => return Ok(Some(Drift { found: 1, first: error.into() })),
        };
        let mut differences = Vec::new();
        let files = self.compare(manifest, found, &mut differences);
        self.read(manifest, dir, files, bytes_max, pace)?;
        // By content, of those that look right.
        for index in &self.edited {
            let path = manifest.entries[*index].path.clone();
            differences.push((*index, TreeError::Content { path }));
        }
        let found = u32::try_from(differences.len()).unwrap_or(u32::MAX);
        let first = differences.into_iter().min_by_key(|(index, _)| *index);
        Ok(first.map(|(_, first)| Drift { found, first }))
    }

    /// Everything that can be told without reading. Returns the files that look as they should, by
    /// entry, each with how it looks.
    fn compare(
        &mut self,
        manifest: &Manifest,
        found: Vec<Found>,
        differences: &mut Vec<(usize, TreeError)>,
    ) -> Vec<(usize, u64)> {
        let mut files = Vec::new();
        let mut found = found.into_iter().peekable();
        for (index, entry) in manifest.entries.iter().enumerate() {
            let by_component = |one: &Found| one.path.split('/').cmp(entry.path.split('/'));
            while let Some(added) = found.next_if(|one| by_component(one) == Ordering::Less) {
                differences.push((index, TreeError::Added { path: added.path }));
            }
            let Some(there) = found.next_if(|one| by_component(one) == Ordering::Equal) else {
                self.forget(index);
                differences.push((index, TreeError::Missing { path: entry.path.clone() }));
                continue;
            };
            match (compare_facts(entry, &there), &there.what) {
                (Err(difference), _) => {
                    self.forget(index);
                    differences.push((index, difference));
                }
                (Ok(()), FoundWhat::File(facts)) => files.push((index, stamp(facts))),
                (Ok(()), _) => {}
            }
        }
        let end = manifest.entries.len();
        differences.extend(found.map(|added| (end, TreeError::Added { path: added.path })));
        files
    }

    fn forget(&mut self, index: usize) {
        self.read[index] = None;
        self.edited.remove(&index);
    }

    /// Reads what looks other than before, then what comes next.
    fn read(
        &mut self,
        manifest: &Manifest,
        dir: &Path,
        files: Vec<(usize, u64)>,
        bytes_max: u64,
        pace: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), GivenUp> {
        let changed =
            |(index, looks): &(usize, u64)| self.read[*index].is_some_and(|read| read != *looks);
        let (changed, others): (Vec<_>, Vec<_>) = files.into_iter().partition(changed);
        let turn = others.partition_point(|(index, _)| *index < self.next);
        let (before, after) = others.split_at(turn);
        let in_turn = after.iter().chain(before);
        let mut left = bytes_max;
        let mut buffer = vec![0; 64 << 10];
        let last_changed = changed.len();
        for (at, (index, looks)) in changed.iter().chain(in_turn).enumerate() {
            if left == 0 {
                return Ok(());
            }
            let entry = &manifest.entries[*index];
            let What::File { bytes, digest, .. } = &entry.what else { continue };
            left = left.saturating_sub(*bytes);
            let same = is_same(dir, entry, *bytes, digest, &mut buffer, pace)?;
            match same {
                true => self.edited.remove(index),
                false => self.edited.insert(*index),
            };
            self.read[*index] = Some(*looks);
            if at >= last_changed {
                self.next = *index + 1;
            }
        }
        Ok(())
    }
}

/// A look that was given up half-way: what it had found out stays known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp;

/// Whether a file's content is what was signed; what cannot be read is not.
fn is_same(
    dir: &Path,
    entry: &Entry,
    bytes: u64,
    digest: &Digest,
    buffer: &mut [u8],
    pace: &mut dyn FnMut(usize) -> bool,
) -> Result<bool, GivenUp> {
    let Ok(file) = walk::open(&dir.join(&entry.path)) else { return Ok(false) };
    let mut file = file.take(bytes.saturating_add(1));
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(Digest::from_computed(*hasher.finalize().as_bytes()) == *digest),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                if !pace(read) {
                    return Err(GivenUp);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(false),
        }
    }
}

/// Differs where a file may have been written since: its length, mode, inode or times.
fn stamp(facts: &Facts) -> u64 {
    let mut hasher = DefaultHasher::new();
    facts.hash(&mut hasher);
    hasher.finish()
}
