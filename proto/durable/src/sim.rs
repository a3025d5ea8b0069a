//! A file system in memory that can lose power: the side of [`Disk`] that crash tests run on.
//!
//! It keeps, for each file and each directory, what is durable and what was done since. A power
//! cut keeps the former and of the latter whatever the seed picks: more can be lost here than on
//! any one real file system, so what survives all seeds survives them all.
//!
//! It can also fill up, become read-only or fail, and be mended: then the machine goes on.

mod tree;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::disk::{Disk, Kind, same_directory};
use crate::read::too_large;
use tree::{Node, Tree, Used};

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

/// What is wrong with a disk that goes on being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing more fits than what is on it: there is room only for as much as is removed.
    Full,
    /// Nothing can be changed, as after an error of the file system.
    ReadOnly,
    /// Whatever is to be changed or synced fails.
    Failing,
}

#[derive(Debug, Default)]
struct State {
    tree: Tree,
    steps: u64,
    fail_at: Option<u64>,
    off: bool,
    /// What goes wrong from which step on, until it is mended or that many steps have failed.
    fault: Option<(u64, Fault, u64)>,
    /// What fits, once the disk is full.
    room: Option<Used>,
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

    /// Lets `fault` begin before the step that follows the first `step` steps since the disk was made;
    /// `lasts`: so many steps fail, then it has passed.
    pub fn break_at(&self, step: u64, fault: Fault, lasts: u64) {
        let mut state = self.lock();
        (state.fault, state.room) = (Some((step, fault, lasts)), None);
    }

    /// Ends the fault.
    pub fn mend(&self) {
        let mut state = self.lock();
        (state.fault, state.room) = (None, None);
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
        state.change(change)
    }
}

impl State {
    fn change<T>(&mut self, change: impl FnOnce(&mut Tree) -> io::Result<T>) -> io::Result<T> {
        let fault = self.fault.filter(|(from, _, left)| self.steps > *from && *left > 0);
        let Some((from, fault, left)) = fault else { return change(&mut self.tree) };
        let failed = match fault {
            Fault::ReadOnly => Err(Errno::ROFS.into()),
            Fault::Failing => Err(Errno::IO.into()),
            Fault::Full => {
                let room = *self.room.get_or_insert_with(|| self.tree.used());
                let before = self.tree.clone();
                let changed = change(&mut self.tree);
                let used = self.tree.used();
                if used.bytes <= room.bytes && used.files <= room.files {
                    return changed;
                }
                self.tree = before;
                Err(Errno::NOSPC.into())
            }
        };
        self.fault = Some((from, fault, left - 1));
        failed
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
