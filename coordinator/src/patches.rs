//! Patches, made in the background (R28).
//!
//! For each scope: from what may run there to what it is being brought to, and to the newest release of its
//! service, which may come next. One at a time, on a thread of the lowest priority: a publish waits for
//! none, and a rollout that begins before its patch is made goes without. A patch that saves less than a
//! tenth is not kept; those that lead to what nobody is to be brought to are removed. Nothing of this may stand
//! in the way of the coordinator: where the disk has little room none is made, and what goes wrong is said.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use member::disk::{Bytes, Free, RESERVE_BYTES, RESERVE_FILES, free};
use net::NetError;
use pack::{Archive, MakeError, Tree, artifact_ref, make_patch, pack, pieces_beside};
use proto::artifact::Manifest;
use proto::patch::PatchName;
use proto::trust::Chain;
use proto::{Digest, Service};
use swarm::Store;
use tokio::sync::oneshot;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::desk::{Desk, blocking};

/// Between two looks, where no statement comes: pieces may have.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The lowest priority.
const NICE: i32 = 19;
/// Longest content of files that a patch is made of, in bytes: nine minutes of a core.
const CHANGED_BYTES_MAX: u64 = 4 << 30;
/// How often a patch lies on the disk while it is made: as it comes, packed, and in the store.
const COPIES: u64 = 3;
/// Files of these, their directories with them.
const FILES: u64 = 8;

/// Makes patches until `stop`.
pub(crate) async fn make_all(desk: Arc<Desk>, stop: CancellationToken) -> Result<(), NetError> {
    let ledger = &desk.member.ledger;
    let mut events = ledger.events();
    let (store, scratch) = (ledger.store().clone(), desk.scratch_dir());
    let mut maker = Maker { store, scratch, make, given_up: BTreeSet::new() };
    while !stop.is_cancelled() {
        events.mark_unchanged();
        let wanted = wanted(&ledger.chain());
        if maker.make_next(wanted, &stop).await {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            changed = events.changed() => if changed.is_err() { return Ok(()) },
            () = time::sleep(LOOK_EVERY) => {}
        }
    }
    Ok(())
}

/// See [`make`].
type Make = fn(&Store, PatchName, &Path, Free, &CancellationToken) -> Result<Made>;

/// Makes one patch after the other.
struct Maker {
    store: Store,
    /// Where nothing stands between two patches.
    scratch: PathBuf,
    make: Make,
    /// What is not worth it, or does not work: until the next start.
    given_up: BTreeSet<PatchName>,
}

/// From which artifact to which there should be patches.
fn wanted(chain: &Chain) -> BTreeSet<PatchName> {
    let artifact = |release: &Digest| chain.release(release).map(|release| release.artifact.id);
    let newest = |service: &Service| {
        chain.releases_of(service).first().map(|(_, release)| release.artifact.id)
    };
    let mut wanted = BTreeSet::new();
    for (scope, head) in chain.heads() {
        let Some(rollout) = chain.rollout(&head.rollout) else { continue };
        let to = artifact(&rollout.to.release);
        let runs = rollout.from.iter().map(|from| artifact(&from.release)).chain([to]);
        for from in runs.flatten() {
            for to in [to, newest(&scope.service)].into_iter().flatten().filter(|to| *to != from) {
                wanted.insert(PatchName { from, to });
            }
        }
    }
    wanted
}

/// The next patch to make, once those are gone that nobody wants.
fn next(
    store: &Store,
    wanted: &BTreeSet<PatchName>,
    given_up: &BTreeSet<PatchName>,
) -> (Option<PatchName>, BTreeSet<PatchName>) {
    let mut here = BTreeSet::new();
    for (name, patch) in store.patches() {
        if wanted.contains(&name) && store.has_whole(&patch) {
            here.insert(name);
        } else if !wanted.iter().any(|other| other.to == name.to)
            && let Err(error) = store.remove_artifact(&patch)
        {
            let error: &(dyn std::error::Error + 'static) = &error;
            warn!(%patch, error, "a patch that nobody wants is not removed");
        }
    }
    let can_be = |name: &&PatchName| store.has_whole(&name.from) && store.has_whole(&name.to);
    let mut missing = wanted.iter().filter(|name| !here.contains(name) && !given_up.contains(name));
    let given_up = given_up.intersection(wanted).copied().collect();
    (missing.find(can_be).copied(), given_up)
}

impl Maker {
    /// Makes the next patch of those that are wanted; whether there was one to make.
    async fn make_next(&mut self, wanted: BTreeSet<PatchName>, stop: &CancellationToken) -> bool {
        let (store, known) = (self.store.clone(), self.given_up.clone());
        let next = move || next(&store, &wanted, &known);
        // It may panic, which is told: that is no reason for the coordinator to stop.
        let Ok((next, still_given_up)) = blocking("look for patches to make", next).await else {
            return false;
        };
        self.given_up = still_given_up;
        let Some(name) = next else { return false };
        if !self.make_one(name, stop).await {
            self.given_up.insert(name);
        }
        true
    }

    /// Whether it is here now, or the making was stopped.
    async fn make_one(&self, name: PatchName, stop: &CancellationToken) -> bool {
        let Self { store, scratch, make, .. } = self;
        let (store, scratch, make, stopped) = (store.clone(), scratch.clone(), *make, stop.clone());
        let (done, made) = oneshot::channel();
        let thread = std::thread::Builder::new().name("patch".to_owned());
        let started = thread.spawn(move || {
            // Of this thread alone. Where it cannot be, it takes its share as any other.
            let _ = rustix::process::setpriority_process(None, NICE);
            let made = {
                let scratch = Scratch(scratch);
                let room = free(&scratch.0).context("cannot ask how much space is free");
                room.and_then(|room| make(&store, name, &scratch.0, room, &stopped))
            };
            // Nobody waits: the coordinator stops.
            let _ = done.send(made);
        });
        let made = match started {
            Ok(_) => tokio::select! {
                made = made => made.unwrap_or_else(|_| Err(anyhow::anyhow!("its thread panicked"))),
                // It ends behind the part it is at, or with the process; what it leaves goes at the next start.
                () = stop.cancelled() => return true,
            },
            Err(error) => Err(error.into()),
        };
        tell(name, made)
    }
}

/// Where a patch is made; nothing of it stays, not after a panic either.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        for left in [self.0.clone(), data_of(&self.0)] {
            let removed =
                if left.is_dir() { fs::remove_dir_all(&left) } else { fs::remove_file(&left) };
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                warn!(path = %left.display(), %error, "cannot be removed");
            }
        }
    }
}

/// Says what came of it; whether that is a patch.
fn tell(PatchName { from, to }: PatchName, made: Result<Made>) -> bool {
    match made {
        Ok(Made::Patch { bytes, whole_bytes, took }) => {
            let took_s = took.as_secs_f32();
            info!(%from, %to, bytes, whole_bytes, took_s, "a patch is made");
            true
        }
        Ok(Made::Nothing(why)) => {
            info!(%from, %to, why, "no patch is made");
            false
        }
        Ok(Made::NoRoom { needed_bytes, room }) => {
            let needed = Bytes(needed_bytes);
            warn!(
                %from, %to, %needed, %room,
                "no patch is made, for want of room in state_dir: this release travels whole"
            );
            false
        }
        Err(error) => {
            let error = format!("{error:#}");
            warn!(%from, %to, error, "a patch is not made: this release travels whole");
            false
        }
    }
}

enum Made {
    Patch {
        bytes: u64,
        whole_bytes: u64,
        took: Duration,
    },
    Nothing(&'static str),
    /// The reserve is part of what is needed.
    NoRoom {
        needed_bytes: u64,
        room: Free,
    },
}

/// Makes a patch, and keeps it. `scratch`: where nothing stands; what is left there may go. `room`: what is free
/// there, and where the store is.
fn make(
    store: &Store,
    name: PatchName,
    scratch: &Path,
    room: Free,
    stop: &CancellationToken,
) -> Result<Made> {
    let begun = Instant::now();
    let (old, new) = (store.manifest(&name.from)?, store.manifest(&name.to)?);
    let whole_bytes = new.bytes();
    let old = Arc::new(old);
    let tree = Tree { manifest: old.clone(), dir: PathBuf::new() };
    let needed = pieces_beside(&new, &[tree]);
    let needed_bytes: u64 =
        needed.iter().map(|piece| u64::from(new.pieces[*piece as usize].bytes)).sum();
    if needed.len() as u64 * u64::from(new.piece_raw_bytes) > CHANGED_BYTES_MAX {
        return Ok(Made::Nothing("too much has changed"));
    }
    let bytes_max = needed_bytes / 10 * 9;
    let needed_bytes = bytes_max.saturating_mul(COPIES).saturating_add(RESERVE_BYTES);
    let few_files = room.files.is_some_and(|files| files < RESERVE_FILES + FILES);
    if room.bytes < needed_bytes || few_files {
        return Ok(Made::NoRoom { needed_bytes, room });
    }
    fs::create_dir(scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let path = scratch.join(name.to_string());
    let mut out = BufWriter::new(File::create(&path).context("cannot write the patch")?);
    let mut old_piece = |index| read_piece(store, &name.from, index);
    let mut new_piece = |index| read_piece(store, &name.to, index);
    let made = make_patch(
        (&old, &mut Archive::of_pieces(&old, &mut old_piece)?),
        (&new, &mut Archive::of_pieces(&new, &mut new_piece)?),
        bytes_max,
        &mut out,
        &mut |_, _| {
            if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    );
    match made {
        Err(MakeError::NotWorth { .. }) => return Ok(Made::Nothing("it would save too little")),
        made => made?,
    };
    drop(out);
    let data = data_of(scratch);
    let mut file = BufWriter::new(File::create(&data).context("cannot pack the patch")?);
    let manifest: Manifest = pack(scratch, &mut file, &mut |_| {})?;
    drop(file);
    let artifact = artifact_ref(&manifest);
    if let Err(error) = store.add_whole(&artifact, &manifest.to_bytes(), &data) {
        // A part of it is of no use, and may be what fills the disk.
        store.remove_artifact(&artifact.id)?;
        return Err(error.into());
    }
    Ok(Made::Patch { bytes: artifact.bytes, whole_bytes, took: begun.elapsed() })
}

/// Where the pieces of the patch in `scratch` are put together.
fn data_of(scratch: &Path) -> PathBuf {
    scratch.with_extension("data")
}

fn read_piece(store: &Store, artifact: &Digest, index: u32) -> io::Result<Vec<u8>> {
    let piece = store.read_piece(artifact, index).map_err(io::Error::other)?;
    piece.ok_or_else(|| io::Error::other(format!("piece {index} is not here any more")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: Free = Free { bytes: 1 << 40, files: None, read_only: false };

    fn give(store: &Store, dir: &Path) -> Digest {
        let mut data = Vec::new();
        let manifest = pack(dir, &mut data, &mut |_| {}).unwrap();
        let pieces = dir.with_extension("pieces");
        fs::write(&pieces, data).unwrap();
        let artifact = artifact_ref(&manifest);
        store.add_whole(&artifact, &manifest.to_bytes(), &pieces).unwrap();
        artifact.id
    }

    /// A version of something whose content differs from that of any other in a few bytes.
    fn version(store: &Store, top: &Path, number: u32) -> Digest {
        version_of(store, top, number, 300_000)
    }

    fn version_of(store: &Store, top: &Path, number: u32, bytes: usize) -> Digest {
        let dir = top.join(number.to_string());
        fs::create_dir(&dir).unwrap();
        let mut content = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut content);
        content[..4].copy_from_slice(&number.to_be_bytes());
        fs::write(dir.join("file"), content).unwrap();
        give(store, &dir)
    }

    #[test]
    fn r28_patches_are_made_once_and_go_when_nobody_wants_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Arc::new(durable::RealDisk), &dir.path().join("store")).unwrap();
        let [one, two, three] = [1, 2, 3].map(|number| version(&store, dir.path(), number));
        let (none, name) = (BTreeSet::new(), |from, to| PatchName { from, to });
        let wanted = BTreeSet::from([name(one, two), name(two, Digest::of(b"not here"))]);
        let (found, _) = next(&store, &wanted, &none);
        assert_eq!(found, Some(name(one, two)));
        let (_, given_up) = next(&store, &wanted, &[name(one, two), name(two, three)].into());
        assert_eq!(given_up, [name(one, two)].into(), "what is not wanted any more is forgotten");

        let (scratch, stop) = (dir.path().join("scratch"), CancellationToken::new());
        let made = make(&store, name(one, two), &scratch, PLENTY, &stop).unwrap();
        let Made::Patch { bytes, whole_bytes, .. } = made else { panic!("nothing was made") };
        assert!(bytes * 100 < whole_bytes, "{bytes} of {whole_bytes} bytes");
        assert_eq!(store.patches_to(&two)[0].from, one);
        assert_eq!(next(&store, &wanted, &none).0, None, "it is made once");
        next(&store, &[name(three, two)].into(), &none);
        assert_eq!(store.patches_to(&two).len(), 1, "from elsewhere to where somebody goes");
        next(&store, &[name(two, three)].into(), &none);
        assert_eq!((store.patches(), store.artifacts().len()), (vec![], 3));
    }

    /// The first is not made: it panics where its parts lie about.
    fn panics_once(
        store: &Store,
        name: PatchName,
        scratch: &Path,
        _: Free,
        stop: &CancellationToken,
    ) -> Result<Made> {
        let panicked = scratch.with_extension("panicked");
        if !panicked.exists() {
            fs::create_dir(scratch).unwrap();
            fs::write(scratch.join("part"), "of it").unwrap();
            fs::write(data_of(scratch), "of it").unwrap();
            fs::write(panicked, "").unwrap();
            // Without the words on the way, which take long at the lowest priority.
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        make(store, name, scratch, PLENTY, stop)
    }

    /// It is not tried again, nothing of it stays, and the next one is made.
    #[tokio::test]
    async fn r28_a_patch_whose_making_panics_is_in_no_other_ones_way() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Arc::new(durable::RealDisk), &dir.path().join("store")).unwrap();
        // Little to do: who makes it has the lowest priority.
        let version = |number| version_of(&store, dir.path(), number, 10_000);
        let [one, two, three] = [1, 2, 3].map(version);
        let scratch = dir.path().join("scratch");
        let mut maker = Maker {
            store: store.clone(),
            scratch: scratch.clone(),
            make: panics_once,
            given_up: BTreeSet::new(),
        };
        let name = |from, to| PatchName { from, to };
        let (wanted, stop) = ([name(one, two), name(two, three)], CancellationToken::new());
        assert!(maker.make_next(wanted.into(), &stop).await);
        assert!(store.patches().is_empty() && !scratch.exists() && !data_of(&scratch).exists());
        assert!(maker.make_next(wanted.into(), &stop).await);
        let made: Vec<PatchName> = store.patches().into_iter().map(|(name, _)| name).collect();
        assert_eq!(made.len(), 1, "the other one");
        assert!(!maker.make_next(wanted.into(), &stop).await, "neither is made again");
        assert_eq!(maker.given_up, wanted.into_iter().filter(|name| *name != made[0]).collect());
    }

    #[test]
    fn r28_no_patch_is_made_that_saves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Arc::new(durable::RealDisk), &dir.path().join("store")).unwrap();
        let one = version(&store, dir.path(), 1);
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "short").unwrap();
        let (other, stop) = (give(&store, &other), CancellationToken::new());
        for (from, to) in [(one, other), (one, one)] {
            let scratch = dir.path().join(from.to_string() + &to.to_string());
            let made = make(&store, PatchName { from, to }, &scratch, PLENTY, &stop).unwrap();
            assert!(matches!(made, Made::Nothing(_)));
        }
        let scratch = dir.path().join("stopped");
        stop.cancel();
        let two = version(&store, dir.path(), 2);
        let name = PatchName { from: one, to: two };
        assert!(make(&store, name, &scratch, PLENTY, &stop).is_err());
        assert_eq!(store.patches(), []);
    }

    #[test]
    fn r28_no_patch_is_made_that_could_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Arc::new(durable::RealDisk), &dir.path().join("store")).unwrap();
        let [from, to] = [1, 2].map(|number| version(&store, dir.path(), number));
        let (scratch, stop) = (dir.path().join("scratch"), CancellationToken::new());
        // Two of the pieces, of which nothing is spared, three times.
        let needs = RESERVE_BYTES + 3 * (300_000 / 10 * 9);
        let few_files = Free { files: Some(RESERVE_FILES), ..PLENTY };
        for room in [Free { bytes: needs, ..PLENTY }, few_files] {
            let made = make(&store, PatchName { from, to }, &scratch, room, &stop).unwrap();
            let Made::NoRoom { needed_bytes, .. } = made else { panic!("it was made") };
            assert!((needs..needs + 1_000).contains(&needed_bytes), "{needed_bytes}");
        }
        assert!(!scratch.exists() && store.patches().is_empty());
        let room = Free { bytes: needs + 1_000, files: Some(RESERVE_FILES + FILES), ..PLENTY };
        let made = make(&store, PatchName { from, to }, &scratch, room, &stop).unwrap();
        assert!(matches!(made, Made::Patch { .. }));
    }
}
