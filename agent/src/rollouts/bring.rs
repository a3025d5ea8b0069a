//! Bringing a release onto the disk, with as little fetched as can be (R26, R28).
//!
//! In this order: it is there; its pieces are here; a patch from a release that is installed; the pieces
//! that hold something new, beside files that are installed; all of its pieces. What fails falls through
//! to the next: nothing is installed that is not, file by file, what was signed.
//!
//! A release that was not brought by its pieces is packed again afterwards, from its tree: so this host can
//! give it to others as any that fetched it whole, and a fleet needs no coordinator for a newcomer.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use pack::{Repacker, Tree, pieces_beside};
use proto::artifact::Manifest;
use proto::statement::{ArtifactRef, Release, Role, Rollout};
use proto::trust::Chain;
use proto::{Digest, HostId};
use swarm::{Bits, Company, FetchHandle, Progress, Spared, Store, Swarm};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::Context;
use super::drift::unfelt;
use crate::activate::{Activator, Need, Paths, StageError, check_space, stage, trees};

/// Pieces packed again before they are synced.
const FLUSH_PIECES: usize = 32;

/// A release that was brought by less than its pieces.
pub(super) struct Brought {
    id: Digest,
    artifact: ArtifactRef,
}

/// Fetches a release from the fleet and stages it, unless it is there whole. Returns it if its pieces are
/// not all in the store.
pub(super) async fn bring(
    context: &Context,
    activator: &Arc<Activator>,
    id: Digest,
) -> Result<Option<Brought>> {
    let checked = activator.clone();
    let there = spawn_blocking(move || checked.check_staged(&id)).await?.is_ok();
    let chain = context.ledger.chain();
    let release = chain.release(&id).context("its release statement is not here yet")?.clone();
    let (artifact, store) = (release.artifact, context.swarm.store());
    if !there && store.has_whole(&artifact.id) {
        put(context, activator, id).await?;
    } else if !there {
        let company = company(&chain, &id);
        let (swarm, kept, paths) =
            (context.swarm.clone(), context.home.store(), activator.paths().clone());
        let bringing = Bringing { swarm, kept, paths, id, release, company };
        bringing.by_less().await?;
    }
    Ok((!store.has_whole(&artifact.id)).then_some(Brought { id, artifact }))
}

/// Who else has to do with a release.
fn company(chain: &Chain, release: &Digest) -> Company {
    // The coordinator seeds what it admits, whether or not gossip shows that yet.
    let origin = chain.root().keys_of(&Role::Admit).next().map(|(_, key)| HostId::of(key));
    Company { origin, fetchers: fetchers(chain, release) }
}

/// Who fetches a release at the same time: the cohorts of the rollouts that are about it now.
fn fetchers(chain: &Chain, release: &Digest) -> Vec<HostId> {
    let rollouts = chain.heads().filter_map(|(_, head)| chain.rollout(&head.rollout));
    let about = |rollout: &&Rollout| {
        let from = rollout.from.iter().map(|from| from.release);
        from.chain([rollout.to.release]).any(|target| target == *release)
    };
    let cohorts = rollouts.filter(about).flat_map(|rollout| &rollout.cohort);
    cohorts.map(|host| host.id.clone()).collect()
}

/// A release whose pieces are not here.
pub(super) struct Bringing {
    pub(super) swarm: Swarm,
    /// Where its store lies.
    pub(super) kept: PathBuf,
    pub(super) paths: Paths,
    pub(super) id: Digest,
    pub(super) release: Release,
    pub(super) company: Company,
}

impl Bringing {
    pub(super) async fn by_less(&self) -> Result<()> {
        let (paths, id) = (self.paths.clone(), self.id);
        let installed = spawn_blocking(move || trees(&paths, &id)).await?;
        match self.by_patch(&installed).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => self.goes_on("its patch is of no use", &error),
        }
        let trees: Vec<Tree> = installed.into_iter().map(|(_, tree)| tree).collect();
        if !trees.is_empty() {
            match self.by_pieces(trees).await {
                Err(error) if is_of_installed(&error) => {
                    self.goes_on("what is installed is of no use", &error);
                }
                done => return done,
            }
        }
        self.by_pieces(Vec::new()).await
    }

    fn goes_on(&self, why: &str, error: &anyhow::Error) {
        let (release, error) = (self.id, format!("{error:#}"));
        warn!(%release, error, "{why}: fetching more of the release");
    }

    /// From its pieces: without those of which all is among the files of `trees`.
    async fn by_pieces(&self, trees: Vec<Tree>) -> Result<()> {
        let Self { swarm, kept, paths, id, release, company } = self;
        let (kept, releases, beside) = (kept.clone(), paths.releases(), trees.clone());
        let spared: Spared = Box::new(move |manifest, here| {
            let needed = pieces_beside(manifest, &beside);
            let mut spared = Bits::all(here.len());
            for piece in needed {
                spared.remove(piece);
            }
            let mut there = here.clone();
            there.add_all(&spared);
            let keep = Need::to_keep(missing_bytes(manifest, &there));
            check_space(&[(&kept, keep), (&releases, Need::to_unpack(manifest))])?;
            Ok(spared)
        });
        let fetch = swarm.fetch_without(release.artifact, company.clone(), spared);
        let progress = fetch.progress();
        fetch.done().await?;
        let beside = !trees.is_empty();
        stage_from(swarm.store(), paths, *id, release, trees).await?;
        if beside {
            let Progress { bytes_from_peers, bytes_from_origin, .. } = *progress.borrow();
            self.staged("staged beside what is installed", bytes_from_peers + bytes_from_origin);
        }
        Ok(())
    }

    pub(super) fn staged(&self, how: &str, fetched_bytes: u64) {
        let Release { service, version, artifact, .. } = &self.release;
        let (release, whole_bytes) = (self.id, artifact.bytes);
        info!(%release, %service, %version, fetched_bytes, whole_bytes, "{how}");
    }
}

/// Fetches all pieces of a release, unless they are here; until somebody else wants them, too, who goes first
/// (R29).
pub(super) async fn get(context: &Context, activator: &Activator, id: Digest) -> Result<()> {
    let chain = context.ledger.chain();
    let artifact = chain.release(&id).context("its release statement is not here yet")?.artifact;
    if !context.swarm.store().has_whole(&artifact.id) {
        let (kept, releases) = (context.home.store(), activator.paths().releases());
        let spared: Spared = Box::new(move |manifest, here| {
            let keep = Need::to_keep(missing_bytes(manifest, here));
            check_space(&[(&kept, keep), (&releases, Need::to_unpack(manifest))])?;
            Ok(Bits::none(here.len()))
        });
        let fetch = context.swarm.fetch_without(artifact, company(&chain, &id), spared);
        unless_awaited(&context.swarm, &artifact.id, fetch).await?;
    }
    Ok(())
}

/// Waits for the end of a fetch, unless another one waits for it, whether or not anything comes of it.
pub(super) async fn unless_awaited(
    swarm: &Swarm,
    artifact: &Digest,
    fetch: FetchHandle,
) -> Result<()> {
    let mut progress = fetch.progress();
    let awaited = async {
        // One that waits for its own turn is in nobody's way.
        let begun = progress.wait_for(Progress::has_begun).await.is_ok();
        match begun {
            true => swarm.awaited(artifact).await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        done = fetch.done() => Ok(done?),
        () = awaited => bail!("it is fetched for somebody else, too"),
    }
}

/// Stages a release whose pieces are here.
async fn put(context: &Context, activator: &Activator, id: Digest) -> Result<()> {
    let chain = context.ledger.chain();
    let release = chain.release(&id).context("its release statement is not here yet")?;
    stage_from(context.swarm.store(), activator.paths(), id, release, Vec::new()).await
}

/// Ends soon where it is not waited for any more: what is to be staged then does not wait for it.
async fn stage_from(
    store: &Store,
    paths: &Paths,
    id: Digest,
    release: &Release,
    trees: Vec<Tree>,
) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let _stop = StopOnDrop(stop.clone());
    let (store, paths, release) = (store.clone(), paths.clone(), release.clone());
    let staged = spawn_blocking(move || {
        let artifact = &release.artifact.id;
        let manifest = store.blob(artifact)?.context("its manifest is not here")?;
        let mut piece = |index| match stop.load(Ordering::Relaxed) {
            true => Err(io::Error::other("nobody waits for it any more")),
            false => read_piece(&store, artifact, index),
        };
        stage(&paths, &id, &release, &manifest, &trees, &mut piece)?;
        Ok(())
    });
    staged.await?
}

pub(super) fn read_piece(store: &Store, artifact: &Digest, index: u32) -> io::Result<Vec<u8>> {
    let piece = store.read_piece(artifact, index).map_err(io::Error::other)?;
    piece.ok_or_else(|| io::Error::other(format!("piece {index} is not here any more")))
}

/// Bytes of the pieces that are not `here`.
pub(super) fn missing_bytes(manifest: &Manifest, here: &Bits) -> u64 {
    let missing = (0..).zip(&manifest.pieces).filter(|(index, _)| !here.contains(*index));
    missing.map(|(_, piece)| u64::from(piece.bytes)).sum()
}

/// Whether files that are installed are to blame: without them it may still succeed.
fn is_of_installed(error: &anyhow::Error) -> bool {
    use pack::UnpackError::{FileDigest, Installed};
    match error.downcast_ref() {
        Some(StageError::Unpack { source, .. }) => {
            matches!(source, FileDigest { .. } | Installed { .. })
        }
        _ => false,
    }
}

impl Brought {
    /// Packs the tree again, so that its pieces are here. What cannot be is left out: this host then gives
    /// less of it to others, and lacks nothing itself.
    pub(super) async fn fill_store(self, context: &Context, activator: &Activator) {
        // Ends the packing when somebody else is to be brought.
        let stop = Arc::new(AtomicBool::new(false));
        let _stop = StopOnDrop(stop.clone());
        let (store, paths) = (context.swarm.store().clone(), activator.paths().clone());
        let (kept, id) = (context.home.store(), self.artifact.id);
        let fill = move || unfelt(|_| self.fill(&store, &paths, &kept, &stop));
        let filled = spawn_blocking(fill);
        match filled.await.map_err(anyhow::Error::from).and_then(|filled| filled) {
            Ok(0) => {}
            Ok(missing) => warn!(
                artifact = %id, missing,
                "some pieces cannot be made from its files, and are not given to others"
            ),
            Err(error) => {
                let error = format!("{error:#}");
                warn!(artifact = %id, error, "its pieces are not kept, nor given to others");
            }
        }
    }

    /// Returns how many pieces are still missing.
    fn fill(
        &self,
        store: &Store,
        paths: &Paths,
        kept: &std::path::Path,
        stop: &AtomicBool,
    ) -> Result<u32> {
        let artifact = &self.artifact.id;
        let bytes = std::fs::read(paths.manifest(&self.id)).context("cannot read its manifest")?;
        let manifest = Manifest::parse(&bytes)?;
        let here = store.pieces(artifact);
        let missing = here.as_ref().map_or(manifest.bytes(), |here| missing_bytes(&manifest, here));
        check_space(&[(kept, Need::to_keep(missing))])?;
        store.begin(artifact, &bytes)?;
        store.check(artifact)?;
        let here = store.pieces(artifact)?;
        let mut repacker = Repacker::new(&manifest, &paths.release(&self.id))?;
        let missing: Vec<u32> = Bits::all(here.len()).without(&here).collect();
        for pieces in missing.chunks(FLUSH_PIECES) {
            for index in pieces {
                if stop.load(Ordering::Relaxed) {
                    return Ok(0);
                }
                if let Some(piece) = repacker.piece(*index)? {
                    store.write_piece(artifact, *index, &piece)?;
                }
            }
            store.flush(artifact)?;
        }
        let here = store.pieces(artifact)?;
        info!(%artifact, pieces = here.count(), "packed again from its files, for others");
        Ok(here.len() - here.count())
    }
}

/// Tells what runs on a thread of its own that nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
