//! Putting a release on the disk, beside the one that runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use durable::{Disk, RealDisk, ReplaceError, replace};
use pack::{Patch, PatchError, Tree, UnpackError};
use proto::Digest;
use proto::artifact::{Manifest, ManifestError};
use proto::statement::Release;

use super::collect;
use super::layout::{self, Installed, LayoutError, Paths};
use super::space::{self, Need, SpaceError};

/// Of the releases that do not run, how many are looked at for files that have not changed: the manifest of each
/// is in memory meanwhile.
const OTHERS_MAX: usize = 2;

/// Why a release is not on disk. `current` and what runs are untouched by all of them.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("the manifest is not the one that release {id} names")]
    OtherManifest { id: Digest },
    #[error("the manifest of release {id} cannot be used")]
    Manifest {
        id: Digest,
        #[source]
        source: ManifestError,
    },
    /// What runs was edited: shown, not undone (R25).
    #[error("{} runs and is not what was released: {why}", path.display())]
    Drift { path: PathBuf, why: String },
    /// What only mends does so.
    #[error("release {id} gives way to another one that is to be staged")]
    GaveWay { id: Digest },
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write down what release {id} is")]
    Record {
        id: Digest,
        #[source]
        source: ReplaceError,
    },
    #[error("cannot unpack release {id}")]
    Unpack {
        id: Digest,
        #[source]
        source: UnpackError,
    },
    #[error("the patch to release {id} does not give it")]
    Patch {
        id: Digest,
        #[source]
        source: PatchError,
    },
}

/// Makes release `id` stand whole and durable under its name, ready for activation.
///
/// `trees`: of earlier releases, from which files that have not changed are copied. `piece` gives the
/// verified bytes of a piece; it is asked for what [`pack::pieces_beside`] names. A release that stands
/// there whole already is left as it is; one that was damaged and does not run is staged anew.
///
/// # Errors
///
/// [`StageError`]. What is left of a failed attempt is taken away by the next one.
pub fn stage(
    paths: &Paths,
    id: &Digest,
    release: &Release,
    manifest_bytes: &[u8],
    trees: &[Tree],
    piece: &mut pack::GetPiece<'_>,
) -> Result<Installed, StageError> {
    let manifest = manifest_of(id, release, manifest_bytes)?;
    stage_by(paths, id, release, (manifest_bytes, &manifest), |dest| {
        pack::unpack_beside(&manifest, trees, piece, dest)
            .map_err(|source| StageError::Unpack { id: *id, source })
    })
}

/// The same, from the tree of an earlier release and a patch.
///
/// # Errors
///
/// As [`stage`].
pub fn stage_patched(
    paths: &Paths,
    id: &Digest,
    release: &Release,
    old: &Tree,
    patch: Patch<'_>,
) -> Result<Installed, StageError> {
    let (bytes, manifest) = (patch.manifest_bytes().clone(), patch.manifest().clone());
    if Digest::of(&bytes) != release.artifact.id {
        return Err(StageError::OtherManifest { id: *id });
    }
    stage_by(paths, id, release, (&bytes, &manifest), |dest| {
        patch.unpack(old, dest).map_err(|source| StageError::Patch { id: *id, source })
    })
}

fn stage_by(
    paths: &Paths,
    id: &Digest,
    release: &Release,
    (manifest_bytes, manifest): (&[u8], &Manifest),
    unpack: impl FnOnce(&Path) -> Result<(), StageError>,
) -> Result<Installed, StageError> {
    let _turn = paths.turns.stage();
    for path in [paths.releases(), paths.shared()] {
        RealDisk.create_dir_all(&path).map_err(|source| StageError::Write { path, source })?;
    }
    let staged = place_in_order(&RealDisk, paths, id)?;
    if let Some(installed) = already_there(paths, id, manifest)? {
        return Ok(installed);
    }
    space::check(&[(&paths.releases(), Need::to_unpack(manifest))])?;
    let installed = Installed { id: *id, staged, release: release.clone() };
    // The tree last: what has a release's name has all that belongs to it.
    write_beside(&RealDisk, paths, &installed, manifest_bytes)?;
    unpack(&paths.release(id))?;
    Ok(installed)
}

/// The manifest of a release, which is the one its statement names.
pub(super) fn manifest_of(
    id: &Digest,
    release: &Release,
    bytes: &[u8],
) -> Result<Manifest, StageError> {
    if Digest::of(bytes) != release.artifact.id {
        return Err(StageError::OtherManifest { id: *id });
    }
    Manifest::parse(bytes).map_err(|source| StageError::Manifest { id: *id, source })
}

/// See [`Installed::staged`]. One that was damaged is no newer for being whole again.
pub(super) fn place_in_order(
    disk: &dyn Disk,
    paths: &Paths,
    id: &Digest,
) -> Result<u64, LayoutError> {
    if let Ok(before) = layout::installed(disk, paths, id) {
        return Ok(before.staged);
    }
    Ok(layout::list(disk, paths)?.last().map_or(0, |newest| newest.staged) + 1)
}

/// Writes down what a release is, beside its tree.
pub(super) fn write_beside(
    disk: &dyn Disk,
    paths: &Paths,
    installed: &Installed,
    manifest_bytes: &[u8],
) -> Result<(), StageError> {
    let id = installed.id;
    let record = serde_json::to_vec(installed).expect("records serialize");
    for (path, bytes) in
        [(paths.manifest(&id), manifest_bytes), (paths.record(&id), record.as_slice())]
    {
        replace(disk, &path, bytes).map_err(|source| StageError::Record { id, source })?;
    }
    Ok(())
}

/// The trees of what is installed beside `id`, each with the id of its artifact: what runs, and the two newest
/// others. What cannot be read is left out; what can is not verified.
pub fn trees(paths: &Paths, id: &Digest) -> Vec<(Digest, Tree)> {
    let Ok(mut installed) = layout::list(&RealDisk, paths) else { return Vec::new() };
    installed.retain(|installed| installed.id != *id);
    let runs = layout::current(&RealDisk, paths).ok().flatten().map(|runs| runs.id);
    let (runs, others): (Vec<_>, Vec<_>) =
        installed.iter().rev().partition(|installed| Some(installed.id) == runs);
    let tree = |installed: &Installed| {
        let bytes = layout::manifest(&RealDisk, paths, installed).ok()?;
        let manifest = Arc::new(Manifest::parse(&bytes).ok()?);
        Some((installed.release.artifact.id, Tree { manifest, dir: paths.release(&installed.id) }))
    };
    let others = others.into_iter().filter_map(tree).take(OTHERS_MAX);
    runs.into_iter().filter_map(tree).chain(others).collect()
}

/// The release, if it stands there whole. One that is damaged is removed, unless it runs.
fn already_there(
    paths: &Paths,
    id: &Digest,
    manifest: &Manifest,
) -> Result<Option<Installed>, StageError> {
    let path = paths.release(id);
    let there =
        RealDisk.kind(&path).map_err(|source| StageError::Write { path: path.clone(), source })?;
    if there.is_none() {
        return Ok(None);
    }
    let why = match (layout::installed(&RealDisk, paths, id), pack::verify_tree(manifest, &path)) {
        (Ok(installed), Ok(())) => return Ok(Some(installed)),
        (Err(error), _) => error.to_string(),
        (_, Err(error)) => error.to_string(),
    };
    let runs = std::fs::read_link(paths.current()).is_ok_and(|link| link == layout::target(id));
    if runs {
        return Err(StageError::Drift { path, why });
    }
    tracing::warn!(release = %id, %why, "staging a damaged release anew");
    let _clearing = paths.turns.clear();
    collect::remove(&RealDisk, paths, id).map_err(|source| StageError::Write { path, source })?;
    Ok(None)
}
