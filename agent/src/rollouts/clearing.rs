//! Clearing away: what lies on this host's disk of each service, why it stays, and how the rest goes
//! (R29).
//!
//! The agent does it by itself behind its steps; people may look (`swell host gc --dry-run`) and have
//! it done now. That removes nothing the agent would not remove after the next rollout, and it takes
//! its turn among the steps of the service, so it never meets an activation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use member::disk::free;
use proto::patch::PatchName;
use proto::report::{DiskReport, Fate, FreeReport, StoredArtifact, StoredService};
use proto::trust::Chain;
use proto::{Digest, Service};
use swarm::{Ledger, Store};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::steps::Job;
use crate::activate::{Activator, Pins};

/// How long somebody who asks waits for the steps that are under way.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the core needs on disk, as of now: it may change while clearing away waits for its turn.
pub(super) type Pinned = Arc<Mutex<Pins>>;

/// What came of clearing away: the fate of each release, or why not all was done.
pub(super) type Cleared = Result<Vec<(Digest, Fate)>, String>;

pub(super) fn read(pinned: &Pinned) -> Pins {
    pinned.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// One service, for those who ask from outside its loop.
#[derive(Clone)]
pub(super) struct Holder {
    pub(super) activator: Arc<Activator>,
    pub(super) pinned: Pinned,
    /// Weak: the steps end with the loop, whoever knows of them.
    pub(super) jobs: mpsc::WeakSender<Job>,
}

/// All services of this host. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Storage(Arc<Mutex<BTreeMap<Service, Holder>>>);

impl Storage {
    pub(super) fn add(&self, service: &Service, holder: Holder) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(service.clone(), holder);
    }

    fn holders(&self) -> BTreeMap<Service, Holder> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What lies here; unless `dry_run`, what nothing needs goes first. `directories`: whose free space
    /// is told.
    pub(crate) async fn report(
        &self,
        ledger: Ledger,
        keep_releases: usize,
        directories: Vec<PathBuf>,
        dry_run: bool,
    ) -> DiskReport {
        let holders = self.holders();
        let asked = holders.clone();
        let surveyed = spawn_blocking(move || survey(&asked, &ledger, keep_releases)).await;
        let (mut services, mut artifacts, store) = match surveyed {
            Ok(surveyed) => surveyed,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_stopping) => std::future::pending().await,
            },
        };
        if !dry_run {
            for (stored, holder) in services.iter_mut().zip(holders.values()) {
                match clear_now(holder).await {
                    Ok(fates) => {
                        let fates: BTreeMap<_, _> = fates.into_iter().collect();
                        // One that was not there any more is not listed any more.
                        stored.releases.retain_mut(|one| match fates.get(&one.release) {
                            Some(fate) => {
                                one.fate = *fate;
                                true
                            }
                            None => false,
                        });
                    }
                    Err(why) => stored.note = why,
                }
            }
            let here = store.artifacts();
            artifacts.iter_mut().for_each(|one| one.goes = !here.contains(&one.artifact));
        }
        let free = directories.iter().filter_map(|directory| free_report(directory)).collect();
        let keep_releases = u32::try_from(keep_releases).unwrap_or(u32::MAX);
        DiskReport { dry_run, keep_releases, services, artifacts, free }
    }
}

/// Waits for its turn among the steps, and for its end.
async fn clear_now(holder: &Holder) -> Cleared {
    let (done, cleared) = oneshot::channel();
    let busy = "a step of this service is under way: what goes does so behind it";
    let jobs = holder.jobs.upgrade().ok_or("the agent is stopping")?;
    jobs.try_send(Job::Collect { done: Some(done) }).map_err(|_| busy)?;
    match tokio::time::timeout(PATIENCE, cleared).await {
        Ok(cleared) => cleared.unwrap_or_else(|_| Err("the agent is stopping".to_owned())),
        Err(_) => Err(busy.to_owned()),
    }
}

/// What lies here, as it stands. Blocks on the disk.
fn survey(
    holders: &BTreeMap<Service, Holder>,
    ledger: &Ledger,
    keep_releases: usize,
) -> (Vec<StoredService>, Vec<StoredArtifact>, Store) {
    let mut goes = BTreeSet::new();
    let (chain, store) = (ledger.chain(), ledger.store().clone());
    let (patches, released) = (store.patches(), released(&chain));
    let mut services = Vec::new();
    for (service, holder) in holders {
        let pinned = read(&holder.pinned);
        let (releases, note) = match holder.activator.survey(pinned.clone(), keep_releases) {
            Ok(releases) => (releases, String::new()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        if note.is_empty() {
            let stays = releases.iter().filter(|one| one.fate != Fate::Remove);
            let needed = stays.map(|one| one.release).chain(pinned.into_keys()).collect();
            let known = chain.releases_of(service);
            let known = known.iter().map(|(id, release)| (*id, release.artifact.id));
            goes.extend(unneeded(known, &needed, store.artifacts(), &patches, &released));
        }
        services.push(StoredService { service: service.clone(), releases, note });
    }
    let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for service in holders.keys() {
        for (_, release) in chain.releases_of(service) {
            let name = format!("{service} {}", release.version);
            for (_, patch) in patches.iter().filter(|(patch, _)| patch.to == release.artifact.id) {
                names.entry(*patch).or_default().push(format!("patch to {name}"));
            }
            names.entry(release.artifact.id).or_default().push(name);
        }
    }
    let artifact = |id: Digest| {
        let (bytes, of_bytes) = held(&store, &id)?;
        let releases = names.remove(&id).unwrap_or_default();
        Some(StoredArtifact { artifact: id, bytes, of_bytes, releases, goes: goes.contains(&id) })
    };
    let artifacts = store.artifacts().into_iter().filter_map(artifact).collect();
    (services, artifacts, store)
}

/// Bytes of the pieces of an artifact that are here, and of all; none: it has just gone.
fn held(store: &Store, id: &Digest) -> Option<(u64, u64)> {
    let (manifest, here) = (store.manifest(id).ok()?, store.pieces(id).ok()?);
    let pieces = (0..).zip(&manifest.pieces).filter(|(index, _)| here.contains(*index));
    Some((pieces.map(|(_, piece)| u64::from(piece.bytes)).sum(), manifest.bytes()))
}

fn free_report(directory: &Path) -> Option<FreeReport> {
    let free = free(directory).inspect_err(|error| warn!(%error, "free space is not told")).ok()?;
    let directory = directory.display().to_string();
    Some(FreeReport { directory, bytes: free.bytes, files: free.files })
}

/// The artifacts of releases that are gone go, too, and of those that never came so far as to be
/// installed; those of others stay to be served to peers.
pub(super) async fn forget_artifacts(
    ledger: &Ledger,
    service: &Service,
    fates: &[(Digest, Fate)],
    pinned: &Pinned,
) {
    let installed = fates.iter().filter(|(_, fate)| *fate != Fate::Remove);
    let mut needed: BTreeSet<_> = installed.map(|(id, _)| *id).collect();
    // As of now: what is being fetched is among it.
    needed.extend(read(pinned).into_keys());
    let chain = ledger.chain();
    let releases = chain.releases_of(service);
    let releases = releases.iter().map(|(id, release)| (*id, release.artifact.id));
    let (store, released) = (ledger.store(), released(&chain));
    for id in unneeded(releases, &needed, store.artifacts(), &store.patches(), &released) {
        let store = store.clone();
        match spawn_blocking(move || store.remove_artifact(&id)).await {
            Ok(Ok(())) => info!(%service, artifact = %id, "cleared away"),
            Ok(Err(error)) => warn!(artifact = %id, %error, "an artifact is not cleared away"),
            Err(error) => warn!(artifact = %id, %error, "an artifact is not cleared away"),
        }
    }
}

/// The artifacts of all releases that are known, of any service.
fn released(chain: &Chain) -> BTreeSet<Digest> {
    chain.releases().map(|(_, release)| release.artifact.id).collect()
}

/// Of the artifacts that are `here`, those of releases of the service of which none is needed, and the
/// patches that lead to such, or to what was never `released`. `releases`: all of the service's, each with
/// its artifact.
fn unneeded(
    releases: impl Iterator<Item = (Digest, Digest)>,
    needed: &BTreeSet<Digest>,
    here: Vec<Digest>,
    patches: &[(PatchName, Digest)],
    released: &BTreeSet<Digest>,
) -> Vec<Digest> {
    let (stays, goes): (Vec<_>, Vec<_>) = releases.partition(|(id, _)| needed.contains(id));
    let artifacts = |releases: Vec<(Digest, Digest)>| -> BTreeSet<Digest> {
        releases.into_iter().map(|(_, artifact)| artifact).collect()
    };
    let (stays, goes) = (artifacts(stays), artifacts(goes));
    let goes = |artifact: &Digest| goes.contains(artifact) && !stays.contains(artifact);
    let leads_nowhere = |to: &Digest| goes(to) || !released.contains(to);
    // What was released is no patch, whatever its file is called.
    let patches = patches.iter().filter(|(_, patch)| !released.contains(patch));
    let patches = patches.filter(|(name, _)| leads_nowhere(&name.to)).map(|(_, patch)| *patch);
    here.into_iter().filter(|id| goes(id)).chain(patches).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::Paths;
    use crate::allowed::Allowed;
    use crate::services::Machine;

    #[tokio::test]
    async fn r29_clearing_now_takes_its_turn_among_the_steps_or_says_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Handle::current();
        let machine = Machine::new(dir.path(), Allowed::default(), runtime).unwrap();
        let paths = Paths::new(dir.path(), &"web".parse().unwrap());
        let (disk, machine) = (Arc::new(durable::RealDisk), Arc::new(machine));
        let activator = Arc::new(Activator::new(disk, machine, paths, dir.path(), String::new()));
        let (jobs, mut queue) = mpsc::channel(1);
        let holder = Holder { activator, pinned: Pinned::default(), jobs: jobs.downgrade() };
        let why = |cleared: Cleared| cleared.unwrap_err();

        jobs.send(Job::Revert { attempt: 1, to: None }).await.unwrap();
        assert!(why(clear_now(&holder).await).starts_with("a step of this service is under way"));
        queue.recv().await.unwrap();

        let fates = vec![(Digest::of(b"release"), Fate::Remove)];
        let work = async {
            let Some(Job::Collect { done: Some(done) }) = queue.recv().await else { panic!() };
            done.send(Ok(fates.clone())).unwrap();
        };
        let (cleared, ()) = tokio::join!(clear_now(&holder), work);
        assert_eq!(cleared, Ok(fates));

        drop(jobs);
        assert_eq!(why(clear_now(&holder).await), "the agent is stopping");
    }

    #[test]
    fn r29_artifacts_that_no_needed_release_has_go() {
        let [old, new, same, never, mine, shared, foreign] =
            ["old", "new", "same", "never", "mine", "shared", "foreign"]
                .map(|name| Digest::of(name.as_bytes()));
        // Two versions of one content; one that was superseded before it was installed.
        let releases = [(old, mine), (never, foreign), (new, shared), (same, shared)];
        let other_service = Digest::of(b"of another service");
        let here = vec![mine, shared, foreign, other_service];
        let [to_mine, to_shared, to_nothing, to_other] =
            ["to mine", "to shared", "to nothing", "to other"]
                .map(|name| Digest::of(name.as_bytes()));
        let name = |to| PatchName { from: mine, to };
        let patches = [
            (name(mine), to_mine),
            (name(shared), to_shared),
            // Nobody knows of a release that is this: somebody lied.
            (name(Digest::of(b"nothing")), to_nothing),
            (name(other_service), to_other),
            // Somebody released a file with the name of a patch.
            (name(Digest::of(b"nothing")), other_service),
        ];
        let released = [mine, shared, foreign, other_service].into();
        let gone = |needed: &[Digest]| {
            let needed = needed.iter().copied().collect();
            unneeded(releases.into_iter(), &needed, here.clone(), &patches, &released)
        };
        assert_eq!(gone(&[new]), [mine, foreign, to_mine, to_nothing]);
        assert_eq!(gone(&[old, same, never]), [to_nothing]);
        assert_eq!(gone(&[]), [mine, shared, foreign, to_mine, to_shared, to_nothing]);
    }
}
