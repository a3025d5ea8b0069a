//! Bringing a release by a patch from one that is installed (R28).
//!
//! Nobody vouches for a patch, and who offers one may be a host whose key was stolen. So it is fetched only if
//! its manifest says that it leads from here to there, and has no more pieces than a patch of its length; while
//! something comes, and within a time that its length allows; and what comes of it counts if it is, file by
//! file, what was signed. All that a liar gains is that time, once for each time the release is brought.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
use pack::{Archive, Patch, PatchError, Tree, UnpackError, pieces_beside};
use proto::Digest;
use proto::artifact::Manifest;
use proto::patch::{PatchName, PatchOffer};
use proto::statement::ArtifactRef;
use swarm::{Bits, FetchError, Progress, Spared};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::bring::{Bringing, missing_bytes, read_piece};
use crate::activate::{Need, StageError, check_space, stage_patched};

/// For how long nothing may come of a patch before the pieces are fetched instead, in seconds.
const STILL_S_MAX: u64 = 10;
/// Half a megabit per second, in bytes per second: a patch that comes no faster than this is not waited for, nor
/// is one of which something comes again and again, and never all.
const BYTES_PER_S_MIN: u64 = 64 << 10;
/// However long it is: a way back must not hang on a liar.
const WITHIN_MAX: Duration = Duration::from_secs(300);
/// A patch is of zstd frames, which do not compress: what its pieces give is about as long as they are. The lists
/// of blocks between the frames do, and are a part of it at most.
const RAW_PER_BYTE_MAX: u64 = 8;

impl Bringing {
    /// Whether a patch led there, from one of the artifacts that are installed.
    pub(super) async fn by_patch(&self, installed: &[(Digest, Tree)]) -> Result<bool> {
        let artifact = self.release.artifact;
        if installed.is_empty() {
            return Ok(false);
        }
        let mut offers = self.swarm.patches_to(artifact.id, &self.company).await;
        // What was released is no patch, whatever its file is called.
        let chain = self.swarm.ledger().chain();
        let released = |id| chain.releases().any(|(_, release)| release.artifact.id == id);
        offers.retain(|offer| !released(offer.patch.id));
        let Some((offer, old)) = best(&offers, installed, &artifact) else { return Ok(false) };
        self.fetch_patch(offer).await?;
        let bytes_here = self.apply(offer.patch.id, old.clone()).await?;
        self.swarm.came_by_patch(&artifact, bytes_here);
        self.staged("staged by a patch", offer.patch.bytes + offer.patch.manifest_bytes);
        Ok(true)
    }

    /// All of it, or nothing stays that was not here whole.
    async fn fetch_patch(&self, PatchOffer { from, patch }: PatchOffer) -> Result<()> {
        let artifact = self.release.artifact;
        let name = PatchName { from, to: artifact.id };
        let (kept, releases) = (self.kept.clone(), self.paths.releases());
        let spared: Spared = Box::new(move |manifest, here| {
            check_patch(manifest, name)?;
            let keep = Need::to_keep(missing_bytes(manifest, here));
            check_space(&[(&kept, keep), (&releases, Need::to_keep(artifact.raw_bytes))])?;
            Ok(Bits::none(here.len()))
        });
        let fetch = self.swarm.fetch_without(patch, self.company.clone(), spared);
        fetch.all_or_nothing();
        let progress = fetch.progress();
        patient(fetch.done(), progress, patch.bytes).await
    }

    /// Stages the release from a patch that is here whole. Returns how many bytes of its pieces were here
    /// without it.
    async fn apply(&self, patch: Digest, old: Tree) -> Result<u64> {
        let Self { swarm, paths, id, release, .. } = self;
        let (store, paths, id, release) =
            (swarm.store().clone(), paths.clone(), *id, release.clone());
        let applied = spawn_blocking(move || {
            let manifest = store.manifest(&patch)?;
            let mut piece = |index| read_piece(&store, &patch, index);
            let archive = Archive::of_pieces(&manifest, &mut piece)?;
            let opened = Patch::open(archive, &old.manifest, &release.artifact);
            let staged = opened.map_err(|source| StageError::Patch { id, source });
            let staged = staged.and_then(|patch| {
                let new = patch.manifest().clone();
                stage_patched(&paths, &id, &release, &old, patch)?;
                let needed = pieces_beside(&new, std::slice::from_ref(&old));
                let bytes_of = |piece: &u32| u64::from(new.pieces[*piece as usize].bytes);
                Ok(new.bytes() - needed.iter().map(bytes_of).sum::<u64>())
            });
            if staged.as_ref().is_err_and(is_of_patch) {
                // So that it is not given to others, nor tried again.
                store.remove_artifact(&patch)?;
            }
            Ok::<_, anyhow::Error>(staged?)
        });
        applied.await?
    }
}

/// The shortest patch from something that is installed, if it is shorter than the artifact.
fn best<'a>(
    offers: &[PatchOffer],
    installed: &'a [(Digest, Tree)],
    artifact: &ArtifactRef,
) -> Option<(PatchOffer, &'a Tree)> {
    let from = |offer: &PatchOffer| {
        let (_, tree) = installed.iter().find(|(installed, _)| *installed == offer.from)?;
        Some((*offer, tree))
    };
    let patches = offers.iter().filter_map(from);
    let shorter = patches.filter(|(offer, _)| offer.patch.bytes < artifact.bytes);
    shorter.min_by_key(|(offer, _)| offer.patch.bytes)
}

/// Whether what is offered may be the patch of this name. If not it may be anything: of this host's own, too.
fn check_patch(manifest: &Manifest, name: PatchName) -> Result<(), String> {
    if PatchName::of(manifest) != Some(name) {
        return Err("it is not the patch it is said to be".to_owned());
    }
    let (bytes, raw_bytes) = (manifest.bytes(), manifest.raw_bytes());
    if raw_bytes > bytes.saturating_mul(RAW_PER_BYTE_MAX) {
        let pieces = manifest.pieces.len();
        return Err(format!("no patch of {bytes} bytes has {pieces} pieces, of {raw_bytes} bytes"));
    }
    Ok(())
}

/// Waits for a fetch of `bytes` bytes, as long as something comes of it, and no longer than that may take.
async fn patient(
    fetch: impl Future<Output = Result<(), FetchError>>,
    mut progress: watch::Receiver<Progress>,
    bytes: u64,
) -> Result<()> {
    let still = async {
        let still = progress.wait_for(|progress| progress.still_s >= STILL_S_MAX).await;
        let why = still.map(|now| now.stall.as_ref().map(ToString::to_string));
        match why {
            Ok(why) => why.unwrap_or_else(|| "nothing comes".to_owned()),
            // The fetch has ended.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        done = fetch => Ok(done?),
        why = still => bail!("it does not come: {why}"),
        () = sleep(within(bytes)) => bail!("it comes too slowly"),
    }
}

/// How long a patch may take, from the question for its manifest to its last piece.
fn within(bytes: u64) -> Duration {
    let within = Duration::from_secs(STILL_S_MAX + bytes / BYTES_PER_S_MIN);
    within.min(WITHIN_MAX)
}

/// Whether a patch is to blame, rather than this host. An honest one may be taken for the cause where the
/// installed files that it starts from were changed: then no more is lost than a patch.
fn is_of_patch(error: &StageError) -> bool {
    use PatchError::{Malformed, Manifest, OtherManifest, Segment, Trailing, Unpack};
    match error {
        StageError::Patch { source, .. } => matches!(
            source,
            Malformed
                | Trailing
                | OtherManifest { .. }
                | Manifest(_)
                | Segment { .. }
                | Unpack(UnpackError::FileDigest { .. })
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
