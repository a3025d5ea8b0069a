//! Putting a release on the disk, beside the one that runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use durable::{Disk as _, RealDisk, ReplaceError, replace};
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
    if Digest::of(manifest_bytes) != release.artifact.id {
        return Err(StageError::OtherManifest { id: *id });
    }
    let manifest = Manifest::parse(manifest_bytes)
        .map_err(|source| StageError::Manifest { id: *id, source })?;
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
    let _turn = paths.turn.lock().unwrap_or_else(PoisonError::into_inner);
    for path in [paths.releases(), paths.shared()] {
        RealDisk.create_dir_all(&path).map_err(|source| StageError::Write { path, source })?;
    }
    let before = layout::installed(&RealDisk, paths, id).ok();
    if let Some(installed) = already_there(paths, id, manifest)? {
        return Ok(installed);
    }
    space::check(&[(&paths.releases(), Need::to_unpack(manifest))])?;
    let newest = layout::list(&RealDisk, paths)?.last().map_or(0, |newest| newest.staged);
    // One that was damaged is no newer for being whole again.
    let staged = before.map_or(newest + 1, |before| before.staged);
    let installed = Installed { id: *id, staged, release: release.clone() };
    let record = serde_json::to_vec(&installed).expect("records serialize");
    // The tree last: what has a release's name has all that belongs to it.
    for (path, bytes) in
        [(paths.manifest(id), manifest_bytes), (paths.record(id), record.as_slice())]
    {
        replace(&RealDisk, &path, bytes)
            .map_err(|source| StageError::Record { id: *id, source })?;
    }
    unpack(&paths.release(id))?;
    Ok(installed)
}

/// The trees of what is installed beside `id`, each with the id of its artifact: what runs, and the newest others,
/// [`OTHERS_MAX`] of them. What cannot be read is left out; what can is not verified.
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
    collect::remove(&RealDisk, paths, id).map_err(|source| StageError::Write { path, source })?;
    Ok(None)
}
