//! Which releases stay on disk, why, and how the others go (R29).

use std::collections::BTreeSet;
use std::io;

use durable::{Disk, is_leftover};
use proto::Digest;

use super::layout::{self, Installed, LayoutError, Paths, is_release, is_trash};

/// What must stay, whatever its age.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InUse {
    /// What `current` points at.
    pub current: Option<Digest>,
    /// Both ends of the last attempt.
    pub from: Option<Digest>,
    pub to: Option<Digest>,
    /// What rollouts need that are not over, and the stable release (R12).
    pub pinned: BTreeSet<Digest>,
}

/// Why a release stays, or that it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Current,
    From,
    To,
    Pinned,
    /// One of the newest, `keep_releases` of them.
    Recent,
    Remove,
}

impl std::fmt::Display for Fate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Current => "stays: it runs",
            Self::From => "stays: the way back goes there",
            Self::To => "stays: the last activation was of it",
            Self::Pinned => "stays: a rollout needs it",
            Self::Recent => "stays: one of the newest",
            Self::Remove => "goes",
        })
    }
}

/// The fate of each release, in the order of `installed`, with the first reason that holds.
pub fn fates(installed: &[Installed], in_use: &InUse, keep_releases: usize) -> Vec<(Digest, Fate)> {
    let mut newest: Vec<_> = installed.iter().map(|one| (one.staged, one.id)).collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.truncate(keep_releases);
    let recent: BTreeSet<Digest> = newest.into_iter().map(|(_, id)| id).collect();
    let fate = |id: Digest| match Some(id) {
        id if id == in_use.current => Fate::Current,
        id if id == in_use.from => Fate::From,
        id if id == in_use.to => Fate::To,
        _ if in_use.pinned.contains(&id) => Fate::Pinned,
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
