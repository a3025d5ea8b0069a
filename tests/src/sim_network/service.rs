//! What activation finds on a simulated machine: a service without processes, on a real disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent::activate::{Installed, Paths};
use agent::health::metrics::Page;
use agent::load::Load;
use agent::services::{Call, Failure, Services, Watch, Words};
use proto::artifact::Manifest;
use proto::evidence::Sample;
use proto::statement::Hook;
use proto::{Digest, UnixTime};
use tokio_util::sync::CancellationToken;

use crate::sim_ground::machine::Machine;

/// How a release behaves, on every host alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quality {
    Good,
    /// Its start command says no.
    BadAtOnce,
    /// Its health check fails this long after it began to serve, in milliseconds.
    BadAfter(u64),
}

/// What is seen of all services, whatever the agents say about it.
#[derive(Debug, Default)]
pub(super) struct Witness {
    qualities: Mutex<BTreeMap<Digest, Quality>>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The hosts, by number, on which a release was ever started.
    started: BTreeMap<Digest, BTreeSet<usize>>,
    /// What must never be.
    wrong: Vec<String>,
}

impl Witness {
    pub(super) fn judge(&self, release: Digest, quality: Quality) {
        let mut qualities = self.qualities.lock().unwrap_or_else(PoisonError::into_inner);
        qualities.insert(release, quality);
    }

    /// The hosts on which a release was ever started.
    pub(super) fn started(&self, release: &Digest) -> BTreeSet<usize> {
        self.seen().started.get(release).cloned().unwrap_or_default()
    }

    /// What was seen that must never be.
    pub(super) fn wrong(&self) -> Vec<String> {
        self.seen().wrong.clone()
    }

    fn quality(&self, release: &Digest) -> Quality {
        let qualities = self.qualities.lock().unwrap_or_else(PoisonError::into_inner);
        qualities.get(release).copied().unwrap_or(Quality::Good)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service of one host.
#[derive(Debug)]
pub(super) struct SimServices {
    pub(super) host: usize,
    pub(super) machine: Arc<Machine>,
    pub(super) witness: Arc<Witness>,
}

impl SimServices {
    /// Whoever starts a release must have `current` at its tree, and the tree whole.
    fn see_start(&self, call: Call<'_>) {
        let id = call.release.id;
        let whole = is_whole(call.paths, &id);
        let mut seen = self.witness.seen();
        seen.started.entry(id).or_default().insert(self.host);
        if let Err(why) = whole {
            seen.wrong.push(format!("host {} started {id}, and {why}", self.host));
        }
    }
}

/// Whether `current` points at this release, and all of it is there.
pub(super) fn is_whole(paths: &Paths, id: &Digest) -> Result<(), String> {
    let current = std::fs::canonicalize(paths.current()).map_err(|error| error.to_string())?;
    let tree = std::fs::canonicalize(paths.release(id)).map_err(|error| error.to_string())?;
    if current != tree {
        return Err(format!("current points at {}", current.display()));
    }
    stands(paths, id)
}

/// Whether a release stands there whole, whatever runs.
pub(super) fn stands(paths: &Paths, id: &Digest) -> Result<(), String> {
    let manifest = std::fs::read(paths.manifest(id)).map_err(|error| error.to_string())?;
    let manifest = Manifest::parse(&manifest).map_err(|error| error.to_string())?;
    pack::verify_tree(&manifest, &paths.release(id)).map_err(|error| error.to_string())
}

impl Services for SimServices {
    fn prepare(&self, _: Call<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn verify(&self, manifest: &[u8], directory: &Path) -> Result<(), Failure> {
        let manifest =
            Manifest::parse(manifest).map_err(|error| Failure::host(error.to_string()))?;
        pack::verify_tree(&manifest, directory).map_err(|error| Failure::host(error.to_string()))
    }

    fn load(&self, _: &Paths, _: Option<&Installed>) -> Result<(), Failure> {
        Ok(())
    }

    fn prepare_adoption(&self, _: Call<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn adopt(&self, _: Call<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn give_back(&self, _: Call<'_>, _: bool) -> Result<(), Failure> {
        Ok(())
    }

    fn start(&self, call: Call<'_>) -> Result<(), Failure> {
        self.see_start(call);
        match self.witness.quality(&call.release.id) {
            Quality::BadAtOnce => Err(Failure::release("start exited 1")),
            Quality::Good | Quality::BadAfter(_) => {
                self.machine.run(Some(call.release.id));
                Ok(())
            }
        }
    }

    fn stop(&self, _: Call<'_>) -> Result<(), Failure> {
        self.machine.run(None);
        Ok(())
    }

    fn hook(&self, _: Hook, _: Call<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn ready(&self, call: Call<'_>) -> Result<(), Failure> {
        match self.machine.running() == Some(call.release.id) {
            true => Ok(()),
            false => Err(Failure::release("nobody answers")),
        }
    }

    fn watch(&self, call: Call<'_>, stop: CancellationToken) -> Result<Watch, Failure> {
        let quality = self.witness.quality(&call.release.id);
        Ok(Box::pin(async move {
            let Quality::BadAfter(ms) = quality else { return None };
            tokio::select! {
                biased;
                () = stop.cancelled() => None,
                () = tokio::time::sleep(Duration::from_millis(ms)) => {
                    Some("healthz answered 500 three times in a row".to_owned())
                }
            }
        }))
    }

    fn page(&self, _: Call<'_>) -> Result<Option<Page>, Failure> {
        Ok(None)
    }

    fn seen(&self, call: Call<'_>) -> Vec<Sample> {
        call.trail.read().1
    }

    fn words(&self, _: Call<'_>, _: UnixTime) -> Words {
        Words::default()
    }

    fn host(&self) -> Load {
        let mut load = Load::default();
        if self.machine.is_short_of_memory() {
            (load.available_percent, load.available_bytes) = (0, 0);
        }
        load
    }

    fn arm(&self, _: &Paths, _: bool) {}

    fn end_left_over(&self, _: &Paths) -> Result<(), Failure> {
        Ok(())
    }
}
