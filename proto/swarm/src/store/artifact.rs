//! An artifact as pieces on disk.
//!
//! | file | what |
//! |---|---|
//! | `manifest.json` | written last and removed first: without it the directory is nothing |
//! | `data` | the pieces one after the other, in full length from the start |
//! | `pieces` | the record: one bit per piece whose data was synced, as in [`Bits`] |
//! | `rotted` | empty; it was whole once, and is to be so again: what rotted is fetched anew |
//!
//! The record only ever goes from absent to present while a fetch runs, and only after the data of
//! the piece was synced; so it is written in place: however a write is torn, each bit is the old
//! one or the new one, and both are true. Whatever it says, pieces of an earlier run are hashed
//! before they count: at 7 GB/s that costs less than a bad piece, and no clean-shutdown mark has
//! to be kept and believed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use durable::{Disk, Kind, replace};
use proto::Digest;
use proto::artifact::{MANIFEST_BYTES_MAX, Manifest, Piece};
use proto::patch::PatchName;
use proto::slices::Slices;
use proto::statement::ArtifactRef;
use tokio::sync::watch;
use tracing::{info, warn};

use super::StoreError;
use crate::bits::Bits;

pub(super) const MANIFEST: &str = "manifest.json";
const DATA: &str = "data";
const RECORD: &str = "pieces";
const ROTTED: &str = "rotted";

/// The pieces of one artifact.
pub(super) struct Artifact {
    pub(super) id: Digest,
    /// How it is referred to, if it is a patch, and what it is a patch of.
    pub(super) patch: Option<(PatchName, ArtifactRef)>,
    pub(super) touched: AtomicU64,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Only the piece table stays in memory: a file table may have 200,000 entries.
    pieces: Vec<Piece>,
    /// Where each piece begins in `data`.
    offsets: Vec<u64>,
    /// Verified in this run.
    have: watch::Sender<Arc<Bits>>,
    record: Mutex<Record>,
    /// It was whole, and something of it has rotted since. Changed by whoever holds the record.
    rotted: AtomicBool,
}

struct Record {
    /// What the file says.
    bits: Bits,
    /// Whether what an earlier run left has been hashed.
    checked: bool,
}

/// What is wrong with a piece on disk.
#[derive(Debug, thiserror::Error)]
enum Rot {
    #[error("other bytes than were written")]
    OtherBytes,
    #[error("it does not read: {}", source_of(.0))]
    Unreadable(StoreError),
}

fn source_of(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

impl Artifact {
    /// Makes the directory of an artifact of which nothing is here.
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        id: Digest,
        manifest: &[u8],
        parsed: Manifest,
    ) -> Result<Self, StoreError> {
        // What an interrupted beginning or removal left, if anything.
        remove(&*disk, &dir)?;
        let artifact = Self::new(disk, dir, id, manifest.len(), parsed, true);
        let Self { disk, dir, .. } = &artifact;
        let (data, record) = (dir.join(DATA), dir.join(RECORD));
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| StoreError::Write { path, source }
        };
        disk.create_dir_all(dir).map_err(failed(dir))?;
        disk.create(&data, &[]).map_err(failed(&data))?;
        if let Some(last) = artifact.bytes().checked_sub(1) {
            disk.write_at(&data, last, &[0]).map_err(failed(&data))?;
        }
        disk.sync_file(&data).map_err(failed(&data))?;
        disk.create(&record, artifact.lock().bits.as_bytes()).map_err(failed(&record))?;
        disk.sync_file(&record).map_err(failed(&record))?;
        disk.sync_dir(dir).map_err(failed(dir))?;
        replace(&**disk, &dir.join(MANIFEST), manifest)?;
        Ok(artifact)
    }

    /// Reads what an earlier run left; no piece counts before [`Self::check`].
    pub(super) fn load(disk: Arc<dyn Disk>, dir: PathBuf, id: Digest) -> Result<Self, StoreError> {
        let path = dir.join(MANIFEST);
        let manifest = disk.read(&path, MANIFEST_BYTES_MAX);
        let manifest = manifest.map_err(|source| StoreError::Read { path, source })?;
        let got = Digest::of(&manifest);
        if got != id {
            return Err(StoreError::OtherManifest { wanted: id, got });
        }
        let parsed = Manifest::parse(&manifest)
            .map_err(|source| StoreError::Manifest { artifact: id, source })?;
        let artifact = Self::new(disk, dir, id, manifest.len(), parsed, false);
        let data = artifact.dir.join(DATA);
        match artifact.disk.kind(&data) {
            Ok(Some(Kind::File { bytes })) if bytes == artifact.bytes() => {}
            Ok(_) => return Err(StoreError::Malformed { path: data }),
            Err(source) => return Err(StoreError::Read { path: data, source }),
        }
        let path = artifact.dir.join(RECORD);
        let len = artifact.lock().bits.len();
        match artifact.disk.read(&path, u64::from(len.div_ceil(8))) {
            Ok(bytes) => {
                let bits = Bits::from_bytes(len, &bytes);
                artifact.lock().bits = bits.ok_or(StoreError::Malformed { path })?;
            }
            Err(source) => return Err(StoreError::Read { path, source }),
        }
        let path = artifact.dir.join(ROTTED);
        match artifact.disk.kind(&path) {
            Ok(there) => artifact.rotted.store(there.is_some(), Ordering::Relaxed),
            Err(source) => return Err(StoreError::Read { path, source }),
        }
        Ok(artifact)
    }

    fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        id: Digest,
        manifest_bytes: usize,
        manifest: Manifest,
        checked: bool,
    ) -> Self {
        let patch = PatchName::of(&manifest).map(|name| {
            let (bytes, raw_bytes) = (manifest.bytes(), manifest.raw_bytes());
            let manifest_bytes = manifest_bytes as u64;
            (name, ArtifactRef { id, manifest_bytes, bytes, raw_bytes })
        });
        let pieces = manifest.pieces;
        let mut end = 0;
        let mut offset = |piece: &Piece| {
            let start = end;
            end += u64::from(piece.bytes);
            start
        };
        let offsets = pieces.iter().map(&mut offset).collect();
        let bits =
            Bits::none(u32::try_from(pieces.len()).expect("bounded by the longest manifest"));
        let have = watch::Sender::new(Arc::new(bits.clone()));
        let (touched, record) = (AtomicU64::new(0), Mutex::new(Record { bits, checked }));
        let rotted = AtomicBool::new(false);
        Self { id, patch, touched, disk, dir, pieces, offsets, have, record, rotted }
    }

    pub(super) fn have(&self) -> watch::Receiver<Arc<Bits>> {
        self.have.subscribe()
    }

    pub(super) fn piece(&self, index: u32) -> Result<Piece, StoreError> {
        let piece = self.pieces.get(index as usize).copied();
        piece.ok_or(StoreError::NoPiece { artifact: self.id, index })
    }

    /// Length of `data`.
    pub(super) fn bytes(&self) -> u64 {
        let last = self.offsets.last().zip(self.pieces.last());
        last.map_or(0, |(offset, piece)| offset + u64::from(piece.bytes))
    }

    /// Whether it was whole once, and something of it has rotted since.
    pub(super) fn has_rotted(&self) -> bool {
        self.rotted.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        let mut record = self.lock();
        if record.checked {
            return Ok(());
        }
        let mut good = Bits::none(record.bits.len());
        for index in record.bits.iter() {
            match self.look(index) {
                Ok(()) => {
                    good.insert(index);
                }
                Err(why) => self.say_rotted(&record, index, &why),
            }
        }
        // Before a dropped piece may be written again, the record must not claim it any more.
        self.let_go(&mut record, &good)?;
        record.checked = true;
        let (pieces, of) = (good.count(), good.len());
        info!(artifact = %self.id, pieces, of, "pieces of an earlier run verified");
        self.have.send_modify(|have| Arc::make_mut(have).add_all(&good));
        Ok(())
    }

    /// Reads a piece; one that has rotted is dropped. What cannot be read now stays.
    pub(super) fn read(&self, index: u32) -> Result<Option<(Vec<u8>, Slices)>, StoreError> {
        self.piece(index)?;
        if !self.have.borrow().contains(index) {
            return Ok(None);
        }
        let read = self.read_checked(index)?;
        if read.is_none() {
            self.drop_piece(index, &Rot::OtherBytes)?;
        }
        Ok(read)
    }

    /// Hashes a piece that is here; whether it had rotted, and was dropped. A place of the disk that does
    /// not read is as good as rotten: most disks mend it when it is written again.
    pub(super) fn verify(&self, index: u32) -> Result<bool, StoreError> {
        if !self.have.borrow().contains(index) {
            return Ok(false);
        }
        match self.look(index) {
            Ok(()) => Ok(false),
            Err(why) => self.drop_piece(index, &why).map(|()| true),
        }
    }

    /// Its manifest on disk is not what it was: whatever is served of it is to be fetched again.
    pub(super) fn lost_manifest(&self) {
        let record = self.lock();
        if record.bits.is_all() && !self.has_rotted() {
            warn!(artifact = %self.id, "its manifest has rotted on this disk: it is fetched again");
            self.mark_rotted();
        }
    }

    fn drop_piece(&self, index: u32, why: &Rot) -> Result<(), StoreError> {
        let mut record = self.lock();
        self.say_rotted(&record, index, why);
        let mut good = record.bits.clone();
        good.remove(index);
        self.let_go(&mut record, &good)?;
        self.have.send_if_modified(|have| Arc::make_mut(have).remove(index));
        Ok(())
    }

    fn say_rotted(&self, record: &Record, piece: u32, why: &Rot) {
        let then = match record.bits.is_all() || self.has_rotted() {
            true => "it is fetched again from whoever has it",
            false => "the fetch that is not done yet brings it again",
        };
        warn!(artifact = %self.id, piece, %why, then, "a piece has rotted on this disk: dropped");
    }

    /// The record claims only what is `good`. Where it claimed all, it is noted that it did.
    fn let_go(&self, record: &mut Record, good: &Bits) -> Result<(), StoreError> {
        if record.bits.is_all() && !good.is_all() {
            self.mark_rotted();
        }
        self.write_record(record, good)
    }

    /// Notes that it is to be whole again. Where that cannot be written down it holds until the next start.
    pub(super) fn mark_rotted(&self) {
        if self.rotted.swap(true, Ordering::Relaxed) {
            return;
        }
        let marked = self.disk.create(&self.dir.join(ROTTED), &[]);
        if let Err(error) = marked.and_then(|()| self.disk.sync_dir(&self.dir)) {
            warn!(artifact = %self.id, %error, "that it has rotted is not noted on disk");
        }
    }

    /// It is whole again.
    fn unmark_rotted(&self) -> Result<(), StoreError> {
        let path = self.dir.join(ROTTED);
        match self.disk.remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Remove { path, source });
            }
            Ok(()) | Err(_) => {}
        }
        self.rotted.store(false, Ordering::Relaxed);
        info!(artifact = %self.id, "what rotted is here again");
        Ok(())
    }

    pub(super) fn write(&self, index: u32, bytes: &[u8]) -> Result<bool, StoreError> {
        let piece = self.piece(index)?;
        if bytes.len() != piece.bytes as usize || Digest::of(bytes) != piece.digest {
            return Err(StoreError::WrongBytes { artifact: self.id, index });
        }
        if self.have.borrow().contains(index) {
            return Ok(false);
        }
        let path = self.dir.join(DATA);
        self.disk
            .write_at(&path, self.offsets[index as usize], bytes)
            .map_err(|source| StoreError::Write { path, source })?;
        Ok(self.have.send_if_modified(|have| Arc::make_mut(have).insert(index)))
    }

    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let mut record = self.lock();
        // Taken before the sync: a piece that is written during it waits for the next flush. Bits
        // of the record that wait for their check stay.
        let mut next = Bits::clone(&self.have.borrow());
        if !record.checked {
            next.add_all(&record.bits);
        }
        if next != record.bits {
            let path = self.dir.join(DATA);
            self.disk.sync_file(&path).map_err(|source| StoreError::Write { path, source })?;
            self.write_record(&mut record, &next)?;
        }
        match self.has_rotted() && record.checked && record.bits.is_all() {
            true => self.unmark_rotted(),
            false => Ok(()),
        }
    }

    fn write_record(&self, record: &mut Record, next: &Bits) -> Result<(), StoreError> {
        let differs = |(old, new): (&u8, &u8)| old != new;
        let pairs = || record.bits.as_bytes().iter().zip(next.as_bytes());
        let Some(first) = pairs().position(differs) else { return Ok(()) };
        let last = pairs().rposition(differs).unwrap_or(first);
        let path = self.dir.join(RECORD);
        let failed = |source| StoreError::Write { path: path.clone(), source };
        self.disk.write_at(&path, first as u64, &next.as_bytes()[first..=last]).map_err(failed)?;
        self.disk.sync_file(&path).map_err(failed)?;
        record.bits = next.clone();
        Ok(())
    }

    /// The bytes at a piece's place, if they are the piece.
    fn read_checked(&self, index: u32) -> Result<Option<(Vec<u8>, Slices)>, StoreError> {
        let piece = self.piece(index)?;
        let mut bytes = vec![0; piece.bytes as usize];
        let path = self.dir.join(DATA);
        self.disk
            .read_at(&path, self.offsets[index as usize], &mut bytes)
            .map_err(|source| StoreError::Read { path, source })?;
        // Hashed once, whether or not the slices are asked for.
        let slices = Slices::of(&bytes).filter(|slices| slices.digest() == piece.digest);
        Ok(slices.map(|slices| (bytes, slices)))
    }

    /// What is wrong with a piece, if anything is.
    fn look(&self, index: u32) -> Result<(), Rot> {
        match self.read_checked(index) {
            Ok(read) => read.map(drop).ok_or(Rot::OtherBytes),
            Err(error) => Err(Rot::Unreadable(error)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // Assigned only after the file was written: a panic elsewhere leaves it true.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes an artifact's directory, manifest first; nothing happens if there is none.
pub(super) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Remove { path: dir.to_owned(), source };
    if disk.kind(dir).map_err(failed)?.is_none() {
        return Ok(());
    }
    match disk.remove_file(&dir.join(MANIFEST)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    disk.sync_dir(dir).map_err(failed)?;
    disk.remove_dir_all(dir).map_err(failed)?;
    let parent = dir.parent().expect("a directory below the store's");
    disk.sync_dir(parent).map_err(failed)
}
