//! Putting a release on the disk, beside the one that runs.

use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;

use durable::{Disk as _, RealDisk, ReplaceError, replace};
use pack::UnpackError;
use proto::Digest;
use proto::artifact::{Manifest, ManifestError};
use proto::statement::Release;

use super::collect;
use super::layout::{self, Installed, LayoutError, Paths};
use super::space::{self, Need, SpaceError};

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
}

/// Makes release `id` stand whole and durable under its name, ready for activation.
///
/// `piece` gives the verified bytes of a piece. A release that stands there whole already is left
/// as it is; one that was damaged and does not run is staged anew.
///
/// # Errors
///
/// [`StageError`]. What is left of a failed attempt is taken away by the next one.
pub fn stage(
    paths: &Paths,
    id: &Digest,
    release: &Release,
    manifest_bytes: &[u8],
    piece: &mut dyn FnMut(u32) -> io::Result<Vec<u8>>,
) -> Result<Installed, StageError> {
    if Digest::of(manifest_bytes) != release.artifact.id {
        return Err(StageError::OtherManifest { id: *id });
    }
    let manifest = Manifest::parse(manifest_bytes)
        .map_err(|source| StageError::Manifest { id: *id, source })?;
    let _turn = paths.turn.lock().unwrap_or_else(PoisonError::into_inner);
    for path in [paths.releases(), paths.shared()] {
        RealDisk.create_dir_all(&path).map_err(|source| StageError::Write { path, source })?;
    }
    let before = layout::installed(&RealDisk, paths, id).ok();
    if let Some(installed) = already_there(paths, id, &manifest)? {
        return Ok(installed);
    }
    space::check(&[(&paths.releases(), Need::to_unpack(&manifest))])?;
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
    pack::unpack(&manifest, piece, &paths.release(id))
        .map_err(|source| StageError::Unpack { id: *id, source })?;
    Ok(installed)
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
