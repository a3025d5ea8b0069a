//! Puts a release right that is kept, does not run and is damaged (R22).
//!
//! It is unpacked anew beside the damaged one, for as long as that takes, and then swapped in. Only that is
//! in turn with the steps of the service, and it takes a moment: no way back waits for anything to be
//! unpacked (R29). What has a release's name is the damaged one, nothing, or the new one, whole and durable.

use durable::{Disk, RealDisk};
use pack::GetPiece;
use proto::Digest;
use proto::statement::Release;

use super::layout::{self, Installed, LayoutError, Paths};
use super::stage::{self, StageError};
use super::{Activator, Need, space};

/// A release that stands whole beside its place.
pub struct Renewed {
    pub(super) id: Digest,
    pub(super) release: Release,
    pub(super) manifest: Vec<u8>,
}

/// Unpacks release `id` beside the one that stands there, from `piece`, as [`super::stage`] does; for
/// [`Activator::swap_in`]. Takes the room of both.
///
/// # Errors
///
/// [`StageError`]; [`StageError::GaveWay`] too, as soon as another release is to be staged. Nothing is left
/// of it.
pub fn renew(
    paths: &Paths,
    id: &Digest,
    release: &Release,
    manifest_bytes: Vec<u8>,
    piece: &mut GetPiece<'_>,
) -> Result<Renewed, StageError> {
    let manifest = stage::manifest_of(id, release, &manifest_bytes)?;
    let _turn = paths.turns.stage();
    let next = paths.next(id);
    clear_beside(&RealDisk, paths, id)?;
    space::check(&[(&paths.releases(), Need::to_unpack(&manifest))])?;
    let mut gave_way = false;
    let mut unless_awaited = |index| {
        gave_way = paths.turns.is_awaited();
        if gave_way { Err(std::io::ErrorKind::Interrupted.into()) } else { piece(index) }
    };
    match pack::unpack_beside(&manifest, &[], &mut unless_awaited, &next) {
        Ok(()) => Ok(Renewed { id: *id, release: release.clone(), manifest: manifest_bytes }),
        Err(_) if gave_way => Err(StageError::GaveWay { id: *id }),
        Err(source) => Err(StageError::Unpack { id: *id, source }),
    }
}

impl Renewed {
    pub fn id(&self) -> &Digest {
        &self.id
    }
}

impl Activator {
    /// Puts a release that was unpacked anew in its place, unless it is what runs. Only between steps of
    /// the service. What it replaces is left to [`Self::clear_after`].
    ///
    /// # Errors
    ///
    /// [`StageError`]: what stands there is what stood there, or nothing.
    pub fn swap_in(&self, renewed: &Renewed) -> Result<(), StageError> {
        let Renewed { id, release, manifest } = renewed;
        let (disk, paths) = (&*self.disk, &self.paths);
        let gave_way = StageError::GaveWay { id: *id };
        let Some(_turn) = paths.turns.try_stage() else { return Err(gave_way) };
        let _clearing = paths.turns.clear();
        let (place, next) = (paths.release(id), paths.next(id));
        let failed = |source| StageError::Write { path: place.clone(), source };
        // Also where its record does not read.
        if disk.read_link(&paths.current()).is_ok_and(|link| link == layout::target(id)) {
            return Err(StageError::Drift { path: place, why: "it was brought".to_owned() });
        }
        if disk.kind(&next).map_err(failed)?.is_none() {
            // It was swept away since.
            return Err(gave_way);
        }
        let staged = stage::place_in_order(disk, paths, id)?;
        let installed = Installed { id: *id, staged, release: release.clone() };
        stage::write_beside(disk, paths, &installed, manifest)?;
        if disk.kind(&place).map_err(failed)?.is_some() {
            disk.rename(&place, &paths.trash(&id.to_string())).map_err(failed)?;
        }
        disk.rename(&next, &place).map_err(failed)?;
        disk.sync_dir(&paths.releases()).map_err(failed)
    }

    /// Frees the room of what was replaced, or was not swapped in.
    ///
    /// # Errors
    ///
    /// [`LayoutError::Read`]: what is left is cleared away with old releases.
    pub fn clear_after(&self, id: &Digest) -> Result<(), LayoutError> {
        let _turn = self.paths.turns.stage();
        clear_beside(&*self.disk, &self.paths, id)
    }
}

/// What this leaves beside a release, or an earlier try did.
fn clear_beside(disk: &dyn Disk, paths: &Paths, id: &Digest) -> Result<(), LayoutError> {
    for path in [paths.next(id), paths.trash(&id.to_string())] {
        let there = disk.kind(&path);
        let removed = there.and_then(|is| is.map_or(Ok(()), |_| disk.remove_dir_all(&path)));
        removed.map_err(|source| LayoutError::Read { path, source })?;
    }
    Ok(())
}
