//! What a member keeps: statements, blobs, and artifacts as pieces (R1, R26).
//!
//! ```text
//! statements/<id>.json                        envelopes of effective statements
//! pending/<id>.json                           envelopes whose threshold is not met yet
//! blobs/<id>                                  certificates, by the digest of their bytes
//! artifacts/<id>/{manifest.json,data,pieces}  see `artifact`
//! gathered                                    empty; what is older came from others, in bulk
//! ```
//!
//! Knows digests, not meaning: whoever puts a statement here has verified it. Every call blocks on
//! the disk; from async code it goes through `spawn_blocking`. After a power cut each file is the
//! old one or the new one, whole; an artifact holds every piece its record claims. Files of unknown
//! name are left alone with a warning, and what does not read is set aside (`*.bad`), so one bad
//! file never keeps a daemon from starting.

mod artifact;
#[cfg(test)]
pub(crate) mod power_cut;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use durable::{Disk, ReplaceError, replace};
use proto::artifact::{MANIFEST_BYTES_MAX, Manifest, ManifestError, Piece};
use proto::certificate::CERTIFICATE_BYTES_MAX;
use proto::patch::{PATCHES_MAX, PatchName, PatchOffer};
use proto::record::ProgressRecord;
use proto::slices::Slices;
use proto::statement::{ArtifactRef, ENVELOPE_BYTES_MAX};
use proto::{Digest, UnixTime};
use tokio::sync::watch;
use tracing::warn;

use crate::bits::Bits;
use artifact::Artifact;

/// What could not be done on disk, or must not be.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The path holds what it held before.
    #[error("cannot read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The path may hold a part of it; nothing counts on it.
    #[error("cannot write {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot replace a file")]
    Replace(#[from] ReplaceError),
    #[error("cannot remove {path:?}")]
    Remove {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} is missing, or has another length than the manifest says")]
    Malformed { path: PathBuf },
    #[error("artifact {0} is not here")]
    NoArtifact(Digest),
    #[error("the manifest is {got}, not {wanted}")]
    OtherManifest { wanted: Digest, got: Digest },
    #[error("the manifest of artifact {artifact} is unusable")]
    Manifest {
        artifact: Digest,
        #[source]
        source: ManifestError,
    },
    #[error("artifact {artifact} has no piece {index}")]
    NoPiece { artifact: Digest, index: u32 },
    /// Nothing was written.
    #[error("these are not the bytes of piece {index} of artifact {artifact}")]
    WrongBytes { artifact: Digest, index: u32 },
    #[error("a blob of {got} bytes, at most {max} are kept")]
    BlobTooLong { got: usize, max: usize },
}

impl StoreError {
    /// Whether the disk or the quota is full: a person makes room, and nothing else is wrong.
    pub fn is_full(&self) -> bool {
        let source = match self {
            Self::Write { source, .. } => Some(source),
            Self::Replace(error) => match error {
                ReplaceError::Prepare { source, .. }
                | ReplaceError::Rename { source, .. }
                | ReplaceError::Sync { source, .. } => Some(source),
            },
            _ => None,
        };
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        source.is_some_and(|source| full.contains(&source.kind()))
    }
}

/// Statements are kept apart by whether they have an effect: after a change of keys that could not
/// be told from the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Effective,
    /// Below its threshold.
    Pending,
}

/// Everything a member keeps, in one directory. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    artifacts: Mutex<BTreeMap<Digest, Arc<Artifact>>>,
    /// Held while an artifact's directory is made or removed, so that two who begin the same one
    /// do not clear each other's files away.
    shaping: Mutex<()>,
    /// Rises with every artifact begun or touched: which ones are announced first.
    touches: AtomicU64,
    /// Artifacts whose directory did not read at the start.
    unread: Mutex<BTreeSet<Digest>>,
    /// Rises whenever an artifact comes, goes, grows or rots.
    changed: watch::Sender<u64>,
}

impl Store {
    /// Opens the store in `dir`, which is made if it is missing.
    ///
    /// Pieces of an earlier run count only after [`Self::check`] has hashed them again.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the directory cannot be made, listed or cleared of leftovers; never
    /// because of what a single file holds.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, StoreError> {
        let inner = Inner {
            disk,
            dir: dir.to_owned(),
            artifacts: Mutex::default(),
            shaping: Mutex::default(),
            touches: AtomicU64::new(0),
            unread: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        for part in ["statements", "pending", "blobs", "artifacts"] {
            let path = dir.join(part);
            inner
                .disk
                .create_dir_all(&path)
                .map_err(|source| StoreError::Write { path, source })?;
        }
        let store = Self(Arc::new(inner));
        for part in ["statements", "pending", "blobs"] {
            store.remove_leftovers(&dir.join(part))?;
        }
        store.load_artifacts()?;
        Ok(store)
    }

    // --- statements ---

    /// Ids of all statements of one sort here.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn statements(&self, sort: Sort) -> Result<Vec<Digest>, StoreError> {
        self.ids_in(sort.dir(), ".json")
    }

    /// The envelope of a statement.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn statement(&self, sort: Sort, id: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(&self.statement_path(sort, id), ENVELOPE_BYTES_MAX as u64)
    }

    /// Keeps the envelope of a statement, in place of the one here.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replace`]: the one here stays.
    pub fn put_statement(
        &self,
        sort: Sort,
        id: &Digest,
        envelope: &[u8],
    ) -> Result<(), StoreError> {
        Ok(replace(&*self.0.disk, &self.statement_path(sort, id), envelope)?)
    }

    /// Forgets a statement. A power cut may bring it back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Remove`].
    pub fn remove_statement(&self, sort: Sort, id: &Digest) -> Result<(), StoreError> {
        self.remove(self.statement_path(sort, id))
    }

    /// Renames a statement that does not read to `*.bad`: it is not looked at again, and a person
    /// can.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`].
    pub fn set_aside_statement(&self, sort: Sort, id: &Digest) -> Result<(), StoreError> {
        self.set_aside(&self.statement_path(sort, id))
    }

    // --- blobs ---

    /// Ids of all blobs here.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn blobs(&self) -> Result<Vec<Digest>, StoreError> {
        self.ids_in("blobs", "")
    }

    /// A blob, or the manifest with this id. Checked against its digest: a blob that rotted is set
    /// aside.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn blob(&self, id: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.blob_path(id);
        match self.read(&path, CERTIFICATE_BYTES_MAX as u64)? {
            Some(bytes) if Digest::of(&bytes) == *id => Ok(Some(bytes)),
            Some(_) => {
                warn!(blob = %id, "a blob has changed on disk and is set aside");
                self.set_aside(&path)?;
                Ok(None)
            }
            None if self.artifact(id).is_ok() => self.manifest_bytes(id),
            None => Ok(None),
        }
    }

    /// Notes that all that is here was gathered from others: when it was new is not known.
    ///
    /// # Errors
    ///
    /// [`StoreError::Replace`].
    pub fn mark_gathered(&self) -> Result<(), StoreError> {
        Ok(replace(&*self.0.disk, &self.gathered_path(), b"")?)
    }

    /// When a blob came here, by this machine's clock; none where that is not known, or says nothing
    /// because it was gathered. For people.
    pub fn blob_since(&self, id: &Digest) -> Option<UnixTime> {
        let written = self.0.disk.written(&self.blob_path(id)).ok()?;
        let gathered = self.0.disk.written(&self.gathered_path());
        if gathered.is_ok_and(|gathered| written <= gathered) {
            return None;
        }
        written.duration_since(UNIX_EPOCH).ok().map(|since| UnixTime(since.as_secs()))
    }

    /// Keeps a blob and returns its id.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: too long, or it cannot be written.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let (got, max) = (bytes.len(), CERTIFICATE_BYTES_MAX);
        if got > max {
            return Err(StoreError::BlobTooLong { got, max });
        }
        let id = Digest::of(bytes);
        replace(&*self.0.disk, &self.blob_path(&id), bytes)?;
        Ok(id)
    }

    /// Forgets a blob. A power cut may bring it back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Remove`].
    pub fn remove_blob(&self, id: &Digest) -> Result<(), StoreError> {
        self.remove(self.blob_path(id))
    }

    // --- artifacts ---

    /// Ids of the artifacts begun here, those that did not read at the start with them.
    pub fn artifacts(&self) -> Vec<Digest> {
        let mut all = self.unread().clone();
        all.extend(self.lock().keys());
        all.into_iter().collect()
    }

    /// Prepares to hold an artifact. Where it is here already nothing changes but a manifest that rotted, or does
    /// not read: most disks mend a place that is written again, and this is another one.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: not its manifest, a manifest that may not be unpacked, no room.
    pub fn begin(&self, id: &Digest, manifest: &[u8]) -> Result<(), StoreError> {
        let got = Digest::of(manifest);
        if got != *id {
            return Err(StoreError::OtherManifest { wanted: *id, got });
        }
        let parsed = Manifest::parse(manifest)
            .map_err(|source| StoreError::Manifest { artifact: *id, source })?;
        let shaping = self.0.shaping.lock().unwrap_or_else(PoisonError::into_inner);
        if self.artifact(id).is_ok() {
            if !matches!(self.manifest_bytes(id), Ok(Some(_))) {
                replace(&*self.0.disk, &self.artifact_dir(id).join(artifact::MANIFEST), manifest)?;
            }
            return Ok(());
        }
        let artifact =
            Artifact::create(self.0.disk.clone(), self.artifact_dir(id), *id, manifest, parsed)?;
        if self.unread().remove(id) {
            artifact.mark_rotted();
        }
        self.lock().insert(*id, Arc::new(artifact));
        drop(shaping);
        self.touch(id);
        Ok(())
    }

    /// The manifest of an artifact here.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is not here, cannot be read, or changed on disk.
    pub fn manifest(&self, id: &Digest) -> Result<Manifest, StoreError> {
        let bytes = self.manifest_bytes(id)?.ok_or(StoreError::NoArtifact(*id))?;
        Manifest::parse(&bytes).map_err(|source| StoreError::Manifest { artifact: *id, source })
    }

    /// Hashes the pieces that an earlier run has left, so that they count; at once done if that
    /// was done before or there are none. Reads the whole artifact: seconds per 10 GB.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it is not here, or the record cannot be written. Pieces that do not read or
    /// do not verify are dropped, with a warning.
    pub fn check(&self, id: &Digest) -> Result<(), StoreError> {
        let artifact = self.artifact(id)?;
        artifact.check()?;
        self.touch(id);
        Ok(())
    }

    /// Which pieces are here and verified.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoArtifact`].
    pub fn pieces(&self, id: &Digest) -> Result<Bits, StoreError> {
        Ok(Bits::clone(&self.artifact(id)?.have().borrow()))
    }

    /// The same, and what it becomes. Closed when the artifact is removed.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoArtifact`].
    pub fn watch_pieces(&self, id: &Digest) -> Result<watch::Receiver<Arc<Bits>>, StoreError> {
        Ok(self.artifact(id)?.have())
    }

    /// Whether every piece is here and verified. (Not synced yet, perhaps: see [`Self::flush`].)
    pub fn has_whole(&self, id: &Digest) -> bool {
        self.pieces(id).is_ok_and(|pieces| pieces.is_all())
    }

    /// Length and digest of a piece.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: no such artifact or piece.
    pub fn piece(&self, id: &Digest, index: u32) -> Result<Piece, StoreError> {
        self.artifact(id)?.piece(index)
    }

    /// A verified piece, hashed once more on its way out: what rotted on this disk is dropped and
    /// fetched again rather than passed on. `None`: it is not here.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: no such artifact or piece, or it cannot be read.
    pub fn read_piece(&self, id: &Digest, index: u32) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.read_sliced(id, index)?.map(|(bytes, _)| bytes))
    }

    /// The same, with its slices.
    pub(crate) fn read_sliced(
        &self,
        id: &Digest,
        index: u32,
    ) -> Result<Option<(Vec<u8>, Slices)>, StoreError> {
        let read = self.artifact(id)?.read(index)?;
        if read.is_none() {
            self.changed();
        }
        Ok(read)
    }

    /// Verifies `bytes` and keeps them as a piece: it counts from here on in this run, and after
    /// a power cut once [`Self::flush`] was called. Returns whether it is new.
    ///
    /// # Errors
    ///
    /// [`StoreError::WrongBytes`] before anything is written; [`StoreError::Write`], of which
    /// [`StoreError::is_full`] tells a full disk. Other pieces stay.
    pub fn write_piece(&self, id: &Digest, index: u32, bytes: &[u8]) -> Result<bool, StoreError> {
        let new = self.artifact(id)?.write(index, bytes)?;
        if new {
            self.changed();
        }
        Ok(new)
    }

    /// Makes the pieces written so far durable: their data first, then the record.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: not here, or a sync failed: what the record claims is durable all the same.
    pub fn flush(&self, id: &Digest) -> Result<(), StoreError> {
        self.artifact(id)?.flush()
    }

    /// Keeps a whole artifact whose pieces lie in `data` one after the other, and flushes it.
    ///
    /// The pieces are copied: the way in is the same as for pieces from peers, each verified, and
    /// a stop half-way is resumed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: not its manifest, `data` cannot be read or is not what the manifest says.
    pub fn add_whole(
        &self,
        artifact: &ArtifactRef,
        manifest: &[u8],
        data: &Path,
    ) -> Result<(), StoreError> {
        let id = &artifact.id;
        self.begin(id, manifest)?;
        self.check(id)?;
        let unreadable = |source| StoreError::Read { path: data.to_owned(), source };
        let mut file = std::fs::File::open(data).map_err(unreadable)?;
        for index in 0..self.pieces(id)?.len() {
            let mut bytes = vec![0; self.piece(id, index)?.bytes as usize];
            io::Read::read_exact(&mut file, &mut bytes).map_err(unreadable)?;
            self.write_piece(id, index, &bytes)?;
        }
        self.flush(id)
    }

    /// The patches here, whole ones and others, each with its own id.
    pub fn patches(&self) -> Vec<(PatchName, Digest)> {
        let artifacts = self.lock();
        artifacts.values().filter_map(|one| Some((one.patch?.0, one.id))).collect()
    }

    /// The patches to `artifact` that are whole here, the shortest first; at most [`PATCHES_MAX`].
    pub fn patches_to(&self, artifact: &Digest) -> Vec<PatchOffer> {
        let artifacts = self.lock();
        let offer = |one: &Arc<Artifact>| {
            let (name, patch) = one.patch.filter(|(name, _)| name.to == *artifact)?;
            one.have().borrow().is_all().then_some(PatchOffer { from: name.from, patch })
        };
        let mut offers: Vec<PatchOffer> = artifacts.values().filter_map(offer).collect();
        offers.sort_by_key(|offer| offer.patch.bytes);
        offers.truncate(PATCHES_MAX);
        offers
    }

    /// Forgets an artifact and frees its room. Nothing happens if it is not here.
    ///
    /// # Errors
    ///
    /// [`StoreError::Remove`]: what is left is cleared at the next [`Self::open`].
    pub fn remove_artifact(&self, id: &Digest) -> Result<(), StoreError> {
        let shaping = self.0.shaping.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = self.lock().remove(id).is_some();
        let unread = self.unread().remove(id);
        let result = artifact::remove(&*self.0.disk, &self.artifact_dir(id));
        drop(shaping);
        if begun || unread {
            self.changed();
        }
        result
    }

    // --- rot ---

    /// The piece that is here after this one, in an order that visits each; its length. None: that was
    /// the last.
    pub(crate) fn held_after(&self, last: Option<(Digest, u32)>) -> Option<(Digest, u32, u32)> {
        let artifacts: Vec<_> = {
            let all = self.lock();
            let from = last.map_or(Bound::Unbounded, |(id, _)| Bound::Included(id));
            all.range((from, Bound::Unbounded)).map(|(_, artifact)| artifact.clone()).collect()
        };
        artifacts.into_iter().find_map(|artifact| {
            let first = last.filter(|(id, _)| *id == artifact.id).map_or(0, |(_, index)| index + 1);
            let have = artifact.have().borrow().clone();
            let index = (first..have.len()).find(|index| have.contains(*index))?;
            Some((artifact.id, index, artifact.piece(index).ok()?.bytes))
        })
    }

    /// Bytes of all artifacts here, as if each was whole.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().values().map(|artifact| artifact.bytes()).sum()
    }

    /// Hashes a piece that is here, with its artifact's first one the manifest, too. What has rotted, or
    /// does not read any more, is dropped.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: not here, or what is lost cannot be written down.
    pub(crate) fn verify(&self, id: &Digest, index: u32) -> Result<(), StoreError> {
        let artifact = self.artifact(id)?;
        if index == 0 && !matches!(self.manifest_bytes(id), Ok(Some(_))) {
            artifact.lost_manifest();
            self.changed();
        }
        if artifact.verify(index)? {
            self.changed();
        }
        Ok(())
    }

    /// What was whole here and has rotted since: to be fetched again. Also what did not read at the start.
    pub(crate) fn rotted(&self) -> Vec<Digest> {
        let mut rotted: Vec<Digest> = self.unread().iter().copied().collect();
        let all = self.lock();
        let all = all.values().filter(|artifact| artifact.has_rotted());
        rotted.extend(all.map(|artifact| artifact.id));
        rotted
    }

    /// Whether it did not read at the start, and was not begun anew since.
    pub(crate) fn is_unread(&self, id: &Digest) -> bool {
        self.unread().contains(id)
    }

    // --- announcing ---

    /// Marks an artifact as the one of interest: it is announced before others.
    pub fn touch(&self, id: &Digest) {
        if let Ok(artifact) = self.artifact(id) {
            let touch = self.0.touches.fetch_add(1, Ordering::Relaxed);
            artifact.touched.store(touch, Ordering::Relaxed);
            self.changed();
        }
    }

    /// How much of each artifact is here, the last touched first.
    pub fn progress(&self) -> Vec<ProgressRecord> {
        let mut artifacts: Vec<_> = self.lock().values().cloned().collect();
        artifacts
            .sort_by_key(|artifact| std::cmp::Reverse(artifact.touched.load(Ordering::Relaxed)));
        let record = |artifact: &Arc<Artifact>| {
            let have = artifact.have();
            let have = have.borrow();
            let (artifact, pieces, of) = (artifact.id, have.count(), have.len());
            ProgressRecord { artifact, pieces, of, fetch: None }
        };
        artifacts.iter().map(record).collect()
    }

    /// Wakes whenever [`Self::progress`] may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    // --- inside ---

    fn changed(&self) {
        self.0.changed.send_modify(|changes| *changes += 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Arc<Artifact>>> {
        // The map is changed by single inserts and removes: a panic elsewhere leaves it whole.
        self.0.artifacts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unread(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.0.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn artifact(&self, id: &Digest) -> Result<Arc<Artifact>, StoreError> {
        self.lock().get(id).cloned().ok_or(StoreError::NoArtifact(*id))
    }

    fn manifest_bytes(&self, id: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.artifact_dir(id).join(artifact::MANIFEST);
        let bytes = self.read(&path, MANIFEST_BYTES_MAX)?;
        Ok(bytes.filter(|bytes| Digest::of(bytes) == *id))
    }

    fn statement_path(&self, sort: Sort, id: &Digest) -> PathBuf {
        self.0.dir.join(sort.dir()).join(format!("{id:#}.json"))
    }

    fn gathered_path(&self) -> PathBuf {
        self.0.dir.join("gathered")
    }

    fn blob_path(&self, id: &Digest) -> PathBuf {
        self.0.dir.join("blobs").join(format!("{id:#}"))
    }

    fn artifact_dir(&self, id: &Digest) -> PathBuf {
        self.0.dir.join("artifacts").join(format!("{id:#}"))
    }

    fn remove(&self, path: PathBuf) -> Result<(), StoreError> {
        match self.0.disk.remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Remove { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn read(&self, path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match self.0.disk.read(path, bytes_max) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, StoreError> {
        let names = self.0.disk.list(dir);
        let names = names.map_err(|source| StoreError::Read { path: dir.to_owned(), source })?;
        Ok(names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    /// The ids that name files in a directory of the store.
    fn ids_in(&self, part: &str, suffix: &str) -> Result<Vec<Digest>, StoreError> {
        let dir = self.0.dir.join(part);
        let mut ids = Vec::new();
        for name in self.list(&dir)? {
            match name.strip_suffix(suffix).map(str::parse) {
                Some(Ok(id)) => ids.push(id),
                _ if name.ends_with(".bad") || durable::is_leftover(name.as_ref()) => {}
                _ => warn!(file = %dir.join(name).display(), "an unknown file is ignored"),
            }
        }
        Ok(ids)
    }

    fn remove_leftovers(&self, dir: &Path) -> Result<(), StoreError> {
        for name in self.list(dir)?.into_iter().filter(|name| durable::is_leftover(name.as_ref())) {
            let path = dir.join(name);
            self.0.disk.remove_file(&path).map_err(|source| StoreError::Remove { path, source })?;
        }
        Ok(())
    }

    fn load_artifacts(&self) -> Result<(), StoreError> {
        for id in self.ids_in("artifacts", "")? {
            let dir = self.artifact_dir(&id);
            let exists = self.0.disk.kind(&dir.join(artifact::MANIFEST));
            match exists {
                Ok(None) => {
                    // The manifest is written last and removed first: this was never one, or is
                    // none any more.
                    artifact::remove(&*self.0.disk, &dir)?;
                    continue;
                }
                Ok(Some(_)) => {}
                Err(source) => return Err(StoreError::Read { path: dir, source }),
            }
            match Artifact::load(self.0.disk.clone(), dir, id) {
                Ok(artifact) => drop(self.lock().insert(id, Arc::new(artifact))),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    warn!(artifact = %id, error, "an artifact does not read: it is begun anew");
                    self.unread().insert(id);
                }
            }
        }
        Ok(())
    }

    fn set_aside(&self, path: &Path) -> Result<(), StoreError> {
        let mut bad = path.as_os_str().to_owned();
        bad.push(".bad");
        let disk = &self.0.disk;
        disk.rename(path, Path::new(&bad))
            .map_err(|source| StoreError::Write { path: path.to_owned(), source })
    }
}

impl Sort {
    const fn dir(self) -> &'static str {
        match self {
            Self::Effective => "statements",
            Self::Pending => "pending",
        }
    }
}
