//! Which releases stay on disk, why, and how the others go (R29).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use durable::{Disk, is_leftover};
use proto::Digest;
use proto::artifact::Manifest;
use proto::report::{Fate, StoredRelease};

use super::journal::{Journal, JournalError};
use super::layout::{self, Installed, LayoutError, Paths, is_release, is_trash};
use super::{Activator, Need};

/// What the rollouts of a service need on disk, and why.
pub type Pins = BTreeMap<Digest, Fate>;

/// What must stay, whatever its age.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    /// What `current` points at.
    pub current: Option<Digest>,
    /// Both ends of the last attempt.
    pub from: Option<Digest>,
    pub to: Option<Digest>,
    /// What rollouts need that are not over, and the stable release (R12), each with the reason.
    pub pinned: Pins,
}

/// The fate of each release, in the order of `installed`, with the first reason that holds.
pub fn fates(installed: &[Installed], in_use: &InUse, keep_releases: usize) -> Vec<(Digest, Fate)> {
    let mut newest: Vec<_> = installed.iter().map(|one| (one.staged, one.id)).collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.truncate(keep_releases);
    let recent: BTreeSet<Digest> = newest.into_iter().map(|(_, id)| id).collect();
    let fate = |id: Digest| match (Some(id), in_use.pinned.get(&id)) {
        (one, _) if one == in_use.current => Fate::Current,
        (one, _) if one == in_use.from => Fate::From,
        (one, _) if one == in_use.to => Fate::To,
        (_, Some(why)) => *why,
        _ if recent.contains(&id) => Fate::Recent,
        _ => Fate::Remove,
    };
    installed.iter().map(|one| (one.id, fate(one.id))).collect()
}

/// Takes a release off the disk. The tree gets another name first, so that a cut in the middle
/// leaves no half of a release under a release's name.
///
/// # Errors
///
/// As the disk; what is left is taken away by the next [`sweep`].
pub(super) fn remove(disk: &dyn Disk, paths: &Paths, id: &Digest) -> io::Result<()> {
    let name = id.to_string();
    let trash = paths.trash(&name);
    if disk.kind(&trash)?.is_some() {
        disk.remove_dir_all(&trash)?;
        disk.sync_dir(&paths.releases())?;
    }
    disk.rename(&paths.release(id), &trash)?;
    disk.sync_dir(&paths.releases())?;
    for beside in [paths.record(id), paths.manifest(id)] {
        if disk.kind(&beside)?.is_some() {
            disk.remove_file(&beside)?;
        }
    }
    disk.remove_dir_all(&trash)
}

/// Takes away what was being removed, replaced or staged when the power was cut. Only for the
/// holder of the service's turn.
///
/// # Errors
///
/// [`LayoutError::Read`]: the first thing that cannot be listed or removed.
pub(super) fn sweep(disk: &dyn Disk, paths: &Paths) -> Result<(), LayoutError> {
    let directory = paths.releases();
    let names = match disk.list(&directory) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(LayoutError::Read { path: directory, source }),
    };
    let there: BTreeSet<&str> = names.iter().filter_map(|name| name.to_str()).collect();
    for name in &names {
        let path = directory.join(name);
        // What stands beside a tree that is not there belongs to nothing.
        let orphan =
            name.to_str().and_then(|name| name.split_once('.')).is_some_and(|(release, rest)| {
                is_release(release)
                    && matches!(rest, "manifest.json" | "release.json")
                    && !there.contains(release)
            });
        if !(orphan || is_trash(name) || is_leftover(name)) {
            continue;
        }
        let removed = match disk.kind(&path) {
            Ok(Some(durable::Kind::Directory)) => disk.remove_dir_all(&path),
            Ok(Some(_)) => disk.remove_file(&path),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|source| LayoutError::Read { path, source })?;
    }
    Ok(())
}

/// Removes what [`fates`] says goes. Returns the fate of each, for people.
///
/// # Errors
///
/// [`LayoutError`]: the first thing that cannot be listed or removed.
pub(super) fn collect(
    disk: &dyn Disk,
    paths: &Paths,
    in_use: &InUse,
    keep_releases: usize,
) -> Result<Vec<(Digest, Fate)>, LayoutError> {
    sweep(disk, paths)?;
    let fates = fates(&layout::list(disk, paths)?, in_use, keep_releases);
    for (id, _) in fates.iter().filter(|(_, fate)| *fate == Fate::Remove) {
        let path = paths.release(id);
        remove(disk, paths, id).map_err(|source| LayoutError::Read { path, source })?;
        tracing::info!(release = %id, service = %paths.service(), "removed an old release");
    }
    Ok(fates)
}

/// Why releases could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("a release is being staged: later")]
    Staging,
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Activator {
    /// Removes releases that nothing needs; returns the fate of each, for people. `pinned` tells
    /// what rollouts need, and is asked once nothing can be staged any more. What `current` and the
    /// journal name stays without being named.
    ///
    /// # Errors
    ///
    /// What cannot be read, or the first thing that cannot be removed. Nothing is removed where
    /// it is not known what is in use, or while something is being staged.
    pub fn collect_garbage(
        &self,
        pinned: impl FnOnce() -> Pins,
        keep_releases: usize,
    ) -> Result<Vec<(Digest, Fate)>, CollectError> {
        // Not waited for: a way back may be next in line.
        let turn = self.paths.turns.try_stage();
        let _turn = turn.ok_or(CollectError::Staging)?;
        let _clearing = self.paths.turns.clear();
        let in_use = self.in_use(pinned)?;
        Ok(collect(&*self.disk, &self.paths, &in_use, keep_releases)?)
    }

    /// What is needed on this disk and does not run: the way back above all, whether or not it still stands
    /// there, and whatever else [`Self::collect_garbage`] would leave.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn kept(&self, pinned: Pins, keep_releases: usize) -> Result<Vec<Digest>, CollectError> {
        let in_use = self.in_use(|| pinned)?;
        let fates = fates(&layout::list(&*self.disk, &self.paths)?, &in_use, keep_releases);
        let stays = fates.into_iter().filter(|(_, fate)| *fate != Fate::Remove);
        // One whose record was lost is not listed, and one that is still being fetched does not stand there.
        let standing =
            |id: &&Digest| self.disk.kind(&self.paths.release(id)).is_ok_and(|is| is.is_some());
        let pinned = in_use.pinned.keys().filter(standing).copied();
        let kept: BTreeSet<Digest> =
            stays.map(|(id, _)| id).chain(pinned).chain(in_use.from).collect();
        let idle = kept.into_iter().filter(|id| Some(*id) != in_use.current);
        Ok(idle.collect())
    }

    /// What [`Self::collect_garbage`] would make of each release now, oldest first. Changes nothing and
    /// waits for nobody.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn survey(
        &self,
        pinned: Pins,
        keep_releases: usize,
    ) -> Result<Vec<StoredRelease>, CollectError> {
        let in_use = self.in_use(|| pinned)?;
        let installed = layout::list(&*self.disk, &self.paths)?;
        let fates = fates(&installed, &in_use, keep_releases);
        let stored = |(one, (_, fate)): (Installed, (Digest, Fate))| {
            let Need { bytes, files } = self.taken_up(&one);
            StoredRelease { release: one.id, version: one.release.version, bytes, files, fate }
        };
        Ok(installed.into_iter().zip(fates).map(stored).collect())
    }

    fn in_use(&self, pinned: impl FnOnce() -> Pins) -> Result<InUse, CollectError> {
        let journal = Journal::load(&*self.disk, &self.journal)?;
        Ok(InUse {
            current: self.current()?.map(|current| current.id),
            from: journal.as_ref().and_then(|journal| journal.from),
            to: journal.as_ref().map(|journal| journal.to),
            pinned: pinned(),
        })
    }

    /// By its manifest; nothing where that does not read.
    fn taken_up(&self, installed: &Installed) -> Need {
        let manifest = layout::manifest(&*self.disk, &self.paths, installed).ok();
        let manifest = manifest.and_then(|bytes| Manifest::parse(&bytes).ok());
        manifest.map_or_else(Need::default, |manifest| Need::to_unpack(&manifest))
    }
}
