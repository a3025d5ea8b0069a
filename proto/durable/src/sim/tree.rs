//! The inodes of a simulated disk: as they are, as they are durable, and what was done since.
//!
//! Inodes are never freed: a lost removal or rename brings the old one back.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::disk::Kind;

/// Links followed on one way, as the kernel counts them, before it is called a loop.
const HOPS_MAX: usize = 40;

/// An index into [`Tree::nodes`].
pub(super) type Inode = usize;

type Entries = BTreeMap<OsString, Inode>;

const ROOT: Inode = 0;

#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Directory(State<Entries, Change>),
    File(State<Vec<u8>, Write>),
    /// Its target is in the inode: it is there whenever its entry is.
    Link(PathBuf),
}

/// Content now, content at the last sync, and the way from the one to the other.
#[derive(Debug, Clone)]
pub(super) struct State<T, Step> {
    now: T,
    synced: T,
    since: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Set(OsString, Inode),
    Remove(OsString),
    /// One step, never torn.
    Rename {
        from: OsString,
        to: OsString,
        inode: Inode,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

/// What everything on the disk takes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    /// Content of files; directories and links take up none.
    pub(super) bytes: u64,
    /// Files, links and directories.
    pub(super) files: u64,
}

// --- impl Node, State ---

impl Node {
    pub(super) fn file() -> Self {
        Self::File(State::empty())
    }

    pub(super) fn directory() -> Self {
        Self::Directory(State::empty())
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Directory(_) => Kind::Directory,
            Self::File(file) => Kind::File { bytes: file.now.len() as u64 },
            Self::Link(_) => Kind::Link,
        }
    }
}

impl<T: Clone + Default, Step> State<T, Step> {
    fn empty() -> Self {
        Self { now: T::default(), synced: T::default(), since: Vec::new() }
    }

    fn sync(&mut self) {
        self.synced = self.now.clone();
        self.since.clear();
    }
}

impl State<Entries, Change> {
    fn change(&mut self, change: Change) {
        apply_change(&mut self.now, &change);
        self.since.push(change);
    }
}

fn apply_change(entries: &mut Entries, change: &Change) {
    match change {
        Change::Set(name, inode) => {
            entries.insert(name.clone(), *inode);
        }
        Change::Remove(name) => {
            entries.remove(name);
        }
        Change::Rename { from, to, inode } => {
            entries.remove(from);
            entries.insert(to.clone(), *inode);
        }
    }
}

/// Writes `bytes[..written]`; the file grows to hold all of `bytes` either way when `grown`.
fn apply_write(file: &mut Vec<u8>, write: &Write, written: usize, grown: bool) {
    let end = write.offset + if grown { write.bytes.len() } else { written };
    if file.len() < end {
        file.resize(end, 0);
    }
    file[write.offset..write.offset + written].copy_from_slice(&write.bytes[..written]);
}

// --- impl Tree: looking ---

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::directory()] }
    }
}

impl Tree {
    pub(super) fn node(&self, inode: Inode) -> &Node {
        &self.nodes[inode]
    }

    pub(super) fn file(&self, inode: Inode) -> io::Result<&[u8]> {
        match &self.nodes[inode] {
            Node::File(file) => Ok(&file.now),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
            Node::Link(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(super) fn directory(&self, inode: Inode) -> io::Result<&Entries> {
        match &self.nodes[inode] {
            Node::Directory(directory) => Ok(&directory.now),
            Node::File(_) | Node::Link(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// What stands below the root takes up; what was removed takes up nothing any more.
    pub(super) fn used(&self) -> Used {
        let mut used = Used::default();
        let mut ahead = vec![ROOT];
        while let Some(inode) = ahead.pop() {
            used.files += 1;
            match &self.nodes[inode] {
                Node::Directory(directory) => ahead.extend(directory.now.values()),
                Node::File(file) => used.bytes += file.now.len() as u64,
                Node::Link(_) => {}
            }
        }
        used
    }

    /// What stands at `path`; links on the way are followed, the last one if `follow`.
    pub(super) fn find(&self, path: &Path, follow: bool) -> io::Result<Inode> {
        if !path.is_absolute() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "paths must be absolute"));
        }
        let mut way = vec![ROOT];
        let mut ahead: VecDeque<Component<'_>> = path.components().collect();
        let mut hops = 0;
        while let Some(component) = ahead.pop_front() {
            let name = match component {
                Component::Normal(name) => name,
                Component::RootDir | Component::Prefix(_) => {
                    way.truncate(1);
                    continue;
                }
                Component::CurDir => continue,
                Component::ParentDir => {
                    if way.len() > 1 {
                        way.pop();
                    }
                    continue;
                }
            };
            let here = *way.last().expect("the way never loses its root");
            let next = *self.directory(here)?.get(name).ok_or(io::ErrorKind::NotFound)?;
            match &self.nodes[next] {
                Node::Link(target) if follow || !ahead.is_empty() => {
                    hops += 1;
                    if hops > HOPS_MAX {
                        return Err(io::Error::other("too many links on the way"));
                    }
                    for component in target.components().rev() {
                        ahead.push_front(component);
                    }
                }
                Node::Link(_) | Node::Directory(_) | Node::File(_) => way.push(next),
            }
        }
        Ok(*way.last().expect("the way never loses its root"))
    }

    /// The directory that holds or would hold `path`, the name in it, and what is there.
    fn slot<'p>(&self, path: &'p Path) -> io::Result<(Inode, &'p OsStr, Option<Inode>)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = self.find(parent, true)?;
        Ok((directory, name, self.directory(directory)?.get(name).copied()))
    }
}

// --- impl Tree: changing ---

impl Tree {
    pub(super) fn add(&mut self, path: &Path, node: Node) -> io::Result<Inode> {
        let (directory, name, there) = self.slot(path)?;
        if there.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.nodes.len();
        self.nodes.push(node);
        self.change(directory, Change::Set(name.to_owned(), inode));
        Ok(inode)
    }

    pub(super) fn write(&mut self, inode: Inode, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(inode)?;
        let Node::File(file) = &mut self.nodes[inode] else { return Ok(()) };
        if !bytes.is_empty() {
            let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let write = Write { offset, bytes: bytes.to_vec() };
            apply_write(&mut file.now, &write, bytes.len(), true);
            file.since.push(write);
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (directory, from, moved) = self.slot(from)?;
        let (_, to, there) = self.slot(to)?;
        let moved = moved.ok_or(io::ErrorKind::NotFound)?;
        match there.map(|there| self.nodes[there].kind()) {
            Some(Kind::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(_) if self.nodes[moved].kind() == Kind::Directory => {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Some(_) if there == Some(moved) => return Ok(()),
            Some(_) | None => {}
        }
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change(directory, Change::Rename { from, to, inode: moved });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let (directory, name, there) = self.slot(path)?;
        if self.nodes[there.ok_or(io::ErrorKind::NotFound)?].kind() == Kind::Directory {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.change(directory, Change::Remove(name.to_owned()));
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let (directory, name, there) = self.slot(path)?;
        let there = there.ok_or(io::ErrorKind::NotFound)?;
        self.directory(there)?;
        // Each entry is a change of its own, so that a cut can keep any part.
        let mut below = vec![there];
        while let Some(inode) = below.pop() {
            let Ok(entries) = self.directory(inode).cloned() else { continue };
            for (name, inode_below) in entries {
                below.push(inode_below);
                self.change(inode, Change::Remove(name));
            }
        }
        self.change(directory, Change::Remove(name.to_owned()));
        Ok(())
    }

    fn change(&mut self, directory: Inode, change: Change) {
        if let Node::Directory(directory) = &mut self.nodes[directory] {
            directory.change(change);
        }
    }
}

// --- impl Tree: what survives ---

impl Tree {
    /// Makes the content of a file or the entries of a directory durable.
    pub(super) fn sync(&mut self, inode: Inode) {
        match &mut self.nodes[inode] {
            Node::Directory(directory) => directory.sync(),
            Node::File(file) => file.sync(),
            Node::Link(_) => {}
        }
    }

    pub(super) fn settle(&mut self) {
        (0..self.nodes.len()).for_each(|inode| self.sync(inode));
    }

    /// What was synced, and of what was done since a choice that depends on `seed` alone.
    pub(super) fn after_power_cut(&self, seed: u64) -> Self {
        let mut chance = Chance(seed);
        let mut found = self.clone();
        for node in &mut found.nodes {
            match node {
                Node::Directory(directory) => {
                    let kept = Kept::pick(&mut chance, directory.since.len());
                    for (index, change) in directory.since.iter().enumerate() {
                        if kept.keeps(&mut chance, index) {
                            apply_change(&mut directory.synced, change);
                        }
                    }
                    directory.now = directory.synced.clone();
                    directory.since.clear();
                }
                Node::File(file) => {
                    let kept = Kept::pick(&mut chance, file.since.len());
                    for (index, write) in file.since.iter().enumerate() {
                        let (whole, torn) =
                            (write.bytes.len(), chance.below(write.bytes.len() as u64));
                        match (kept.keeps(&mut chance, index), chance.below(4)) {
                            (true, 0) => apply_write(&mut file.synced, write, torn, false),
                            (true, 1) => apply_write(&mut file.synced, write, torn, true),
                            (true, _) => apply_write(&mut file.synced, write, whole, true),
                            (false, _) => {}
                        }
                    }
                    file.now = file.synced.clone();
                    file.since.clear();
                }
                Node::Link(_) => {}
            }
        }
        found
    }
}

/// Which of the unsynced steps on one inode reached the disk.
enum Kept {
    All,
    Nothing,
    /// The first so many: what a file system with one ordered journal leaves.
    First(usize),
    /// Each by the toss of a coin: what any file system may leave.
    Any,
}

impl Kept {
    fn pick(chance: &mut Chance, steps: usize) -> Self {
        match chance.below(4) {
            0 => Self::All,
            1 => Self::Nothing,
            2 => Self::First(chance.below(steps as u64 + 1)),
            _ => Self::Any,
        }
    }

    fn keeps(&self, chance: &mut Chance, index: usize) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::First(kept) => index < *kept,
            Self::Any => chance.below(2) == 0,
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, 2014): one seed, one history.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end` - 1; 0 if `end` is 0.
    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.next() % end.max(1)).expect("ends here are lengths in memory")
    }
}
