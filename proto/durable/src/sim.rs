//! A file system in memory that can lose power: the side of [`Disk`] that crash tests run on.
//!
//! It keeps, for each file and each directory, what is durable and what was done since. A power
//! cut keeps the former and of the latter whatever the seed picks: more can be lost here than on
//! any one real file system, so what survives all seeds survives them all.

mod tree;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, Kind, same_directory};
use crate::read::too_large;
use tree::{Node, Tree};

/// A disk whose power can be cut before any step.
///
/// Like a real file system it knows only absolute paths here, and `/` is there from the start.
///
/// ```
/// use durable::{Disk, SimDisk, replace};
/// use std::path::Path;
///
/// let file = Path::new("/state");
/// let disk = SimDisk::new();
/// replace(&disk, file, b"old").unwrap();
/// disk.fail_at(disk.steps() + 2); // the new content is written but not synced
/// assert!(replace(&disk, file, b"new").is_err());
/// for seed in 0..100 {
///     assert_eq!(disk.after_power_cut(seed).read(file, 10).unwrap(), b"old");
/// }
/// ```
#[derive(Debug, Default)]
pub struct SimDisk {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tree: Tree,
    steps: u64,
    fail_at: Option<u64>,
    off: bool,
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Steps asked for so far: whatever changes or syncs something. Reading is no step.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Cuts the power before the step that follows the first `step` steps since the disk was
    /// made: that step, all later ones and all reading fail.
    pub fn fail_at(&self, step: u64) {
        self.lock().fail_at = Some(step);
    }

    /// Makes everything done so far durable, without a step: for setting up a test.
    pub fn settle(&self) {
        self.lock().tree.settle();
    }

    /// The disk as it may be found at the next boot: what was synced, and of the rest whatever
    /// `seed` picks. A cut need not have been asked for; this one goes on as it is.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> Self {
        let tree = self.lock().tree.after_power_cut(seed);
        Self { state: Mutex::new(State { tree, ..State::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<T>(&self, at: impl FnOnce(&Tree) -> io::Result<T>) -> io::Result<T> {
        let state = self.lock();
        if state.off { Err(power()) } else { at(&state.tree) }
    }

    fn step<T>(&self, change: impl FnOnce(&mut Tree) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.lock();
        if state.off || state.fail_at == Some(state.steps) {
            state.off = true;
            return Err(power());
        }
        state.steps += 1;
        change(&mut state.tree)
    }
}

fn power() -> io::Error {
    io::Error::other("the power is cut")
}

impl Disk for SimDisk {
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(|tree| {
            let file = tree.add(path, Node::file())?;
            tree.write(file, 0, bytes)
        })
    }

    fn write_at(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.step(|tree| {
            let file = tree.find(path, true)?;
            tree.write(file, offset, bytes)
        })
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.step(|tree| {
            let file = tree.find(path, true)?;
            tree.file(file)?;
            tree.sync(file);
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.step(|tree| {
            let directory = tree.find(path, true)?;
            tree.directory(directory)?;
            tree.sync(directory);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|tree| {
            same_directory(from, to)?;
            tree.rename(from, to)
        })
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        self.step(|tree| tree.add(link, Node::Link(target.to_owned())).map(drop))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step(|tree| tree.add(path, Node::directory()).map(drop))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step(|tree| tree.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.step(|tree| tree.remove_dir_all(path))
    }

    fn read(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        self.look(|tree| {
            let bytes = tree.file(tree.find(path, true)?)?;
            if bytes.len() as u64 > bytes_max {
                return Err(too_large(bytes_max));
            }
            Ok(bytes.to_vec())
        })
    }

    fn read_at(&self, path: &Path, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.look(|tree| {
            let bytes = tree.file(tree.find(path, true)?)?;
            if into.is_empty() {
                return Ok(());
            }
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let part = start.checked_add(into.len()).and_then(|end| bytes.get(start..end));
            into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.look(|tree| match tree.node(tree.find(path, false)?) {
            Node::Link(target) => Ok(target.clone()),
            Node::Directory(_) | Node::File(_) => Err(io::ErrorKind::InvalidInput.into()),
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.look(|tree| {
            let entries = tree.directory(tree.find(path, true)?)?;
            Ok(entries.keys().cloned().collect())
        })
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        self.look(|tree| match tree.find(path, false) {
            Ok(node) => Ok(Some(tree.node(node).kind())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }
}
