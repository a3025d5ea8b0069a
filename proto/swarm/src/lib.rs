//! What exists, who has it, and how it gets here: statements, certificates and artifacts (R26, R27).
//!
//! Gossip says what exists; content is fetched by digest from whoever has it and counts once it is
//! verified here (R11). So a host that never meets the coordinator takes part all the same.
//! **Absent:** rollout; nothing here knows why a statement or an artifact is wanted.
//!
//! ```text
//! gossip: root, x, s/N, a/N -> sync ---> Ledger ----> Store       statements, certificates
//!                    `------> fetch <--> Picker  `--> Store       artifacts, piece by piece
//! peers ------> provide <--------------------------- Store
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`store`] | files: envelopes, blobs, pieces and the record of them |
//! | [`ledger`] | what is verified and counted on; the only way in |
//! | [`plan`] | which piece to ask of whom, sans-IO |
//! | `sync` | fetches the statements and certificates that members announce |
//! | [`gather`] | fetches everything that members hold, in one go |
//! | `announce` | tells the members what is here, and how it comes |
//! | `fetches` | the fetches of this run, for people and for counting |
//! | `upkeep` | hashes what lies here, slowly, and fetches again what rotted |
//! | `transfer` | questions and answers on streams; the fetch of an artifact |

mod announce;
mod bits;
mod fetches;
pub mod gather;
pub mod ledger;
pub mod plan;
pub mod store;
mod sync;
#[cfg(test)]
mod tests;
mod transfer;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use net::{Alpn, Endpoint, Gossip, Handler, Member, Pool};
use proto::artifact::Manifest;
use proto::patch::PatchOffer;
use proto::statement::ArtifactRef;
use proto::{Digest, HostId};
use tokio::sync::watch;
use tokio::{task, time};
use tokio_util::sync::CancellationToken;
use tracing::error;

pub use bits::Bits;
pub use fetches::FetchCounts;
pub use ledger::Ledger;
pub use store::{Store, StoreError};
pub use transfer::fetch::{Company, FetchError, FetchHandle, Progress, Spared};
pub use transfer::provide::ProvideCounts;
pub use transfer::queue::Trouble;

use fetches::Fetches;
use transfer::coming::Comings;
use transfer::fetch::{self, Surroundings};
use transfer::patches;
use transfer::provide::{MANIFESTS_MAX, Provider};
use transfer::toll::Toll;

/// Connections to other members that are kept for reuse.
const POOL_MAX: usize = 32;
/// How often it is looked whether somebody else waits for what is being mended.
const YIELD_EVERY: Duration = Duration::from_secs(1);

/// The swarm as this member takes part in it. Cheap to clone.
#[derive(Clone)]
pub struct Swarm(Arc<Inner>);

struct Inner {
    ledger: Ledger,
    pool: Pool,
    hearsay: Hearsay,
    provider: Provider,
    /// What pieces pass on their way in.
    toll: Toll,
    /// What others are given while it comes.
    comings: Comings,
    fetches: Fetches,
    /// Fetches of one artifact take turns.
    turns: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// Gossip, as far as the swarm needs it: tests put a simpler one in its place.
#[derive(Clone)]
struct Hearsay {
    me: HostId,
    members: watch::Receiver<Arc<Vec<Member>>>,
    set: Arc<SetValue>,
}

/// How much of pieces may go out and come in, in bytes per second; none: as many as the line carries.
/// Headers come on top: 5 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ceilings {
    pub up_bytes_per_s: Option<u64>,
    pub down_bytes_per_s: Option<u64>,
}

/// Bytes per second in a megabit per second, as lines are sold.
pub const BYTES_PER_S_OF_MBIT: u64 = 125_000;
/// The highest ceiling that people may set, in Mbit/s: above it nothing is held back anyway.
pub const MBIT_MAX: u64 = 100_000;

impl fmt::Display for Ceilings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |rate: Option<u64>| match rate {
            Some(rate) => format!("at most {} Mbit/s", rate / BYTES_PER_S_OF_MBIT),
            None => "no ceiling".to_owned(),
        };
        write!(f, "out {}, in {}", text(self.up_bytes_per_s), text(self.down_bytes_per_s))
    }
}

type SetValue = dyn Fn(&str, &str) + Send + Sync;

impl From<Gossip> for Hearsay {
    fn from(gossip: Gossip) -> Self {
        let (me, members) = (gossip.me().clone(), gossip.members());
        let set = move |key: &str, value: &str| {
            if let Err(error) = gossip.set(key, value) {
                error!(key, %error, "a value is not announced");
            }
        };
        Self { me, members, set: Arc::new(set) }
    }
}

impl Swarm {
    /// Takes part through `endpoint`, which must also serve [`Self::handler`]. Nothing is fetched or
    /// announced before [`Self::run`].
    pub fn new(endpoint: &Endpoint, ledger: Ledger, gossip: Gossip) -> Self {
        Self::with(endpoint, ledger, gossip.into(), MANIFESTS_MAX)
    }

    fn with(endpoint: &Endpoint, ledger: Ledger, hearsay: Hearsay, manifests: usize) -> Self {
        let comings = Comings::default();
        let provider = Provider::new(ledger.clone(), comings.clone(), manifests);
        let pool = endpoint.pool(Alpn::Swarm, POOL_MAX);
        let (toll, fetches, turns) = Default::default();
        Self(Arc::new(Inner { ledger, pool, hearsay, provider, toll, comings, fetches, turns }))
    }

    /// How much of pieces may go out and come in from now on. Nothing else is ever held back: statements
    /// and certificates, manifests, who holds what.
    pub fn set_ceilings(&self, ceilings: Ceilings) {
        let (queue, out) = self.0.provider.ways();
        queue.set_rate(ceilings.up_bytes_per_s);
        out.set_rate(ceilings.up_bytes_per_s);
        self.0.toll.set_rate(ceilings.down_bytes_per_s);
    }

    /// The artifacts whose pieces go before all others from now on, out and in. Members that are told of
    /// the same ones agree without a word, and nobody can claim to be in a hurry.
    pub fn set_first(&self, artifacts: BTreeSet<Digest>) {
        let (queue, out) = self.0.provider.ways();
        queue.set_first(artifacts.clone());
        out.set_first(artifacts.clone());
        self.0.toll.set_first(artifacts);
    }

    /// Something is wrong on this host until what is returned is dropped. While anything is, whoever
    /// asks for a piece hears that it is busy here, unless it is of what goes first, and for
    /// [`plan::PAUSE_MS_MAX`] at most; pieces that are being given are given to their end.
    pub fn trouble(&self) -> Trouble {
        self.0.provider.ways().0.trouble()
    }

    /// Answers other members: the handler of [`Alpn::Swarm`].
    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(self.0.provider.clone())
    }

    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    pub fn store(&self) -> &Store {
        self.0.ledger.store()
    }

    /// Fetches what members announce, announces what is here, verifies the artifacts of earlier runs and
    /// fetches again what rots, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let Inner { ledger, pool, hearsay, fetches, .. } = &*self.0;
        let parts = async {
            tokio::join!(
                sync::run(ledger, pool, hearsay),
                announce::statements(ledger, hearsay),
                announce::artifacts(ledger.store(), fetches, hearsay),
                upkeep::run(self),
            )
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = parts => {}
        }
    }

    /// Fetches an artifact from the members that announce it and from its company. Ends at once if it
    /// is here and whole. Of two fetches of one artifact the second waits for the first.
    ///
    /// Must be called in a tokio runtime. It runs on its own, whether or not [`Self::run`] does.
    pub fn fetch(&self, artifact: ArtifactRef, company: Company) -> FetchHandle {
        let nothing = |_: &Manifest, here: &Bits| Ok(Bits::none(here.len()));
        self.fetch_without(artifact, company, Box::new(nothing))
    }

    /// As [`Self::fetch`], without the pieces that are spared; which these are is asked once the manifest
    /// is known.
    pub fn fetch_without(
        &self,
        artifact: ArtifactRef,
        company: Company,
        spared: Spared,
    ) -> FetchHandle {
        let turn = self.turn(artifact.id);
        let handle = fetch::start(self.surroundings(), artifact, company, spared, turn);
        self.0.fetches.add(artifact.id, handle.progress());
        handle
    }

    /// The patches to an artifact that its company holds: what the origin says or, where that does not
    /// answer, the first other who has any. Nobody vouches for them: see `pack::Patch`.
    pub async fn patches_to(&self, artifact: Digest, company: &Company) -> Vec<PatchOffer> {
        patches::patches(&self.surroundings(), artifact, company).await
    }

    fn surroundings(&self) -> Surroundings {
        let Hearsay { me, members, .. } = self.0.hearsay.clone();
        let pool = self.0.pool.clone();
        let (store, toll, comings) =
            (self.store().clone(), self.0.toll.clone(), self.0.comings.clone());
        Surroundings { me: Some(me), store, pool, members, toll, comings }
    }

    /// Tells of an artifact that did not travel: so many bytes of it, as pieces, were on this host already,
    /// and a patch made the others.
    pub fn came_by_patch(&self, artifact: &ArtifactRef, bytes_here: u64) {
        let bytes = artifact.bytes;
        let bytes_patched = bytes.saturating_sub(bytes_here);
        let progress =
            Progress { bytes, of_bytes: bytes, bytes_here, bytes_patched, ..Progress::default() };
        self.0.fetches.add(artifact.id, watch::channel(progress).1);
    }

    /// What was fetched since the start.
    pub fn fetched(&self) -> FetchCounts {
        self.0.fetches.counts()
    }

    /// What was given to others since the start.
    pub fn provided(&self) -> ProvideCounts {
        self.0.provider.counts()
    }

    /// Keeps a whole artifact whose pieces lie in the file `data`: see [`Store::add_whole`].
    ///
    /// # Errors
    ///
    /// As [`Store::add_whole`].
    pub async fn add_whole(
        &self,
        artifact: ArtifactRef,
        manifest: Vec<u8>,
        data: PathBuf,
    ) -> Result<(), StoreError> {
        let store = self.store().clone();
        blocking(move || store.add_whole(&artifact, &manifest, &data)).await
    }

    fn turn(&self, artifact: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(artifact).or_default().clone()
    }

    /// Waits until one fetch of the artifact is under way and another one waits for it. What is fetched only to
    /// be mended gives way then: the other may be what the host goes back to (R29), and who asks for it knows
    /// better whom to ask.
    pub async fn awaited(&self, artifact: &Digest) {
        while !self.is_awaited(artifact) {
            time::sleep(YIELD_EVERY).await;
        }
    }

    fn is_awaited(&self, artifact: &Digest) -> bool {
        let turns = self.0.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Ours, and one each.
        turns.get(artifact).is_some_and(|turn| Arc::strong_count(turn) > 2)
    }
}

/// Runs what blocks on the disk. A panic in it goes on here; where the runtime stops, so does this.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_stopping) => std::future::pending().await,
        },
    }
}
