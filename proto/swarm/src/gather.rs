//! Taking in everything that members hold, in one go: for a coordinator that has lost its own.
//!
//! No gossip: a person names the members to ask. Each lists the ids of what it holds; what is not here
//! is fetched and judged by the [`Ledger`], like anything that arrives. So a member that lies can
//! withhold and cost time, and several that are asked make up for each other. What was taken in is
//! kept at once: after an interruption the next try goes on.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net::{Alpn, ConnectError, Endpoint, Expect, Member, Pool};
use proto::dsse::Envelope;
use proto::record::{ProgressRecord, progress_key, to_text};
use proto::statement::{ArtifactRef, ENVELOPE_BYTES_MAX, Kind, Statement};
use proto::wire::Part;
use proto::{Digest, HostId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;
use tracing::debug;

use crate::bits::Bits;
use crate::ledger::load::place;
use crate::ledger::{AdmitError, CertifyError, Ledger};
use crate::sync::{self, SyncError};
use crate::transfer::ask::{self, AskError, Holdings, Source};
use crate::transfer::fetch::{self, FetchError, Progress, Surroundings};
use crate::{Company, POOL_MAX, Store, StoreError, blocking};

/// See [`Gatherer::ids_max`]: more than the largest fleet makes in years.
const IDS_MAX: usize = 1 << 20;
/// Items fetched of a member at a time: half of what it gives to one asker.
const FETCHES_MAX: usize = 4;
/// How often an item is asked for of a member that is busy, or that was lost on the way.
const TRIES_MAX: u32 = 6;
/// The first pause between two tries; doubled with each: seven seconds in all.
const BREATH: Duration = Duration::from_millis(250);
/// Statements held back until those they are compared with are here, in bytes; beyond, they are judged
/// as they come: the strongest wins all the same, and the weaker ones are left out.
const HELD_BYTES_MAX: usize = 32 << 20;
/// See [`Gatherer::patience`].
const PATIENCE: Duration = Duration::from_secs(30);
/// Items left out whose reasons are kept.
const REASONS_MAX: usize = 20;

/// Takes in what members hold.
pub struct Gatherer {
    endpoint: Endpoint,
    pool: Pool,
    /// How long nothing may move in the fetch of an artifact before it is given up.
    pub(crate) patience: Duration,
    /// Ids of one part that a member may list.
    pub(crate) ids_max: usize,
}

/// A member that can be reached, proven to be one of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met(Source);

/// What became of one member's list.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Statements and certificates that it lists.
    pub listed: usize,
    /// Of these, what it did not give or what does not count here.
    pub left_out: usize,
    /// Why, of the first of them.
    pub reasons: Vec<String>,
}

/// Why nothing more can be taken in; what was, stays.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    #[error("cannot meet a member at {address}")]
    Meet {
        address: SocketAddr,
        #[source]
        source: Box<ConnectError>,
    },
    #[error("cannot go on asking {member}")]
    Lost {
        member: Met,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("{member} holds a root that is refused")]
    Root {
        member: Met,
        #[source]
        source: Box<AdmitError>,
    },
    #[error("cannot keep what was fetched")]
    Store(#[from] StoreError),
    #[error("a part of it failed")]
    Failed(#[from] tokio::task::JoinError),
}

impl std::fmt::Display for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "host {} ({})", self.0.host, self.0.address)
    }
}

impl Met {
    pub const fn host(&self) -> &HostId {
        &self.0.host
    }

    pub const fn address(&self) -> SocketAddr {
        self.0.address
    }
}

/// A statement to be judged once those it is compared with are here.
type Held = (Digest, Statement, Vec<u8>);

impl Gatherer {
    /// Asks through `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        let pool = endpoint.pool(Alpn::Swarm, POOL_MAX);
        Self { endpoint, pool, patience: PATIENCE, ids_max: IDS_MAX }
    }

    /// Connects to the member at `address`, whoever that is.
    ///
    /// # Errors
    ///
    /// [`GatherError::Meet`]: nobody is there, or no member of this fleet, or it lets nobody with
    /// this side's key in.
    pub async fn meet(&self, address: SocketAddr) -> Result<Met, GatherError> {
        let met = self.pool.get(Expect::AnyMember, address).await;
        let met = met.and_then(|connection| {
            let reason = "it is no member".to_owned();
            let host = connection.peer().member().cloned();
            host.ok_or(ConnectError::WrongPeer { addr: address, reason })
        });
        match met {
            Ok(host) => Ok(Met(Source { host, address })),
            Err(source) => Err(GatherError::Meet { address, source: Box::new(source) }),
        }
    }

    /// Takes every root, statement and certificate that `from` holds and `ledger` does not into
    /// `ledger`. `tell` hears how many of those are done, and of how many.
    ///
    /// # Errors
    ///
    /// [`GatherError`]. An item that does not come or does not count is none: it is left out.
    pub async fn gather(
        &self,
        ledger: &Ledger,
        from: &Met,
        mut tell: impl FnMut(usize, usize),
    ) -> Result<Gathered, GatherError> {
        self.roots(ledger, from).await?;
        let statements = self.ids(from, Part::Statements).await?;
        let pending = self.ids(from, Part::Pending).await?;
        let certificates = self.ids(from, Part::Certificates).await?;
        let listed = statements.len() + pending.len() + certificates.len();
        let gathered = Gathered { listed, ..Gathered::default() };
        let mut work = Work { ledger, pool: &self.pool, from, gathered, done: 0, of: 0 };
        let new = |id: &Digest| !ledger.is_effective(id);
        let statements: Vec<_> = statements.into_iter().filter(new).collect();
        let certified = ledger.ids(Part::Certificates, None, usize::MAX);
        let new = |id: &Digest| certified.binary_search(id).is_err();
        let certificates: Vec<_> = certificates.into_iter().filter(new).collect();
        work.of = statements.len() + pending.len() + certificates.len();
        // What is below its threshold here may meet it with the signatures there.
        work.statements(statements.into_iter().chain(pending).collect(), &mut tell).await?;
        work.certificates(certificates, &mut tell).await?;
        Ok(work.gathered)
    }

    /// All roots, each signed by the ones before: the newest says who may be spoken to.
    async fn roots(&self, ledger: &Ledger, from: &Met) -> Result<(), GatherError> {
        loop {
            let held = ledger.chain().root().version;
            let asked = || async { Ok(ask::roots(&self.pool, &from.0, held).await?) };
            let roots = patiently(asked).await.map_err(|error| lost(from, error))?;
            for envelope in roots {
                let judge = ledger.clone();
                let admitted = blocking(move || judge.admit(&envelope)).await;
                admitted.map_err(|source| GatherError::Root {
                    member: from.clone(),
                    source: Box::new(source),
                })?;
            }
            let chain = ledger.chain();
            if chain.root().version == held {
                return Ok(());
            }
            self.endpoint.directory().set_root(chain.root().clone());
        }
    }

    async fn ids(&self, from: &Met, part: Part) -> Result<Vec<Digest>, GatherError> {
        let asked = || async { Ok(ask::ids(&self.pool, &from.0, part, self.ids_max).await?) };
        patiently(asked).await.map_err(|error| lost(from, error))
    }

    /// Fetches an artifact into `store` from those of `members` that hold it; says whether it is there
    /// whole. What came of one that they do not have whole is kept.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: it cannot be kept, or is not what the release says.
    pub async fn artifact(
        &self,
        store: &Store,
        artifact: ArtifactRef,
        members: &[Met],
    ) -> Result<bool, FetchError> {
        let (store, id) = (store.clone(), artifact.id);
        let begun = store.pieces(&id).is_ok();
        if begun {
            let store = store.clone();
            blocking(move || store.check(&id)).await?;
        }
        let holders = self.holders(id, members).await;
        if store.has_whole(&id) || holders.is_empty() {
            return Ok(store.has_whole(&id));
        }
        let (_members, known) = watch::channel(Arc::new(holders));
        let pool = self.pool.clone();
        let (toll, comings) = Default::default();
        let around = Surroundings { me: None, store, pool, members: known, toll, comings };
        let fetch = fetch::start(
            around,
            artifact,
            Company::default(),
            Box::new(|_, here| Ok(Bits::none(here.len()))),
            Arc::default(),
        );
        let progress = fetch.progress();
        tokio::select! {
            done = fetch.done() => done.map(|()| true),
            () = standstill(progress, self.patience) => Ok(false),
        }
    }

    /// Those of `members` that hold some of an artifact, as gossip would tell.
    async fn holders(&self, artifact: Digest, members: &[Met]) -> Vec<Member> {
        let mut holders = Vec::new();
        for Met(source) in members {
            let asked = async { Holdings::ask(&self.pool, source, artifact).await?.next().await };
            match asked.await {
                Ok(Some(bitmap)) if !bitmap.is_empty() => holders.push(announcer(source, artifact)),
                Ok(_) => {}
                Err(error) => debug!(host = %source.host, %artifact, %error, "no holdings"),
            }
        }
        holders
    }
}

/// Until nothing has moved for too long, or the fetch is over.
async fn standstill(mut progress: watch::Receiver<Progress>, patience: Duration) {
    let mut pieces = 0;
    loop {
        let moved = progress.wait_for(|now| now.pieces > pieces);
        match time::timeout(patience, moved).await {
            Ok(Ok(now)) => pieces = now.pieces,
            // Its end is seen elsewhere.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

fn announcer(source: &Source, artifact: Digest) -> Member {
    let record = ProgressRecord { artifact, pieces: 1, of: 1, fetch: None };
    Member {
        host: source.host.clone(),
        address: source.address,
        generation: 0,
        alive: true,
        twin: None,
        values: BTreeMap::from([(progress_key(0), to_text(&record))]),
    }
}

// --- one member's list ---

/// Where the work through one member's list stands.
struct Work<'g> {
    ledger: &'g Ledger,
    pool: &'g Pool,
    from: &'g Met,
    gathered: Gathered,
    done: usize,
    of: usize,
}

impl Work<'_> {
    async fn statements(
        &mut self,
        ids: Vec<Digest>,
        tell: &mut impl FnMut(usize, usize),
    ) -> Result<(), GatherError> {
        let (ledger, pool) = (self.ledger, self.pool);
        let (mut ids, mut fetching) = (ids.into_iter(), JoinSet::new());
        let (mut held, mut held_bytes) = (Vec::<Held>::new(), 0);
        loop {
            while fetching.len() < FETCHES_MAX
                && let Some(id) = ids.next()
            {
                let (ledger, pool, from) = (ledger.clone(), pool.clone(), self.from.0.clone());
                fetching.spawn(async move {
                    let taken = patiently(|| take(&ledger, &pool, &from, id));
                    (id, taken.await)
                });
            }
            let Some(taken) = fetching.join_next().await else { break };
            match taken? {
                (_, Ok(Some(one))) if held_bytes + one.2.len() <= HELD_BYTES_MAX => {
                    held_bytes += one.2.len();
                    held.push(one);
                }
                (_, Ok(Some(one))) => self.judge(one, tell).await?,
                (id, Ok(None)) => self.note(id, Ok(()), tell)?,
                (id, Err(error)) => self.note(id, Err(error), tell)?,
            }
        }
        held.sort_by_key(|(id, statement, _)| (place(statement), *id));
        for one in held {
            self.judge(one, tell).await?;
        }
        Ok(())
    }

    async fn certificates(
        &mut self,
        ids: Vec<Digest>,
        tell: &mut impl FnMut(usize, usize),
    ) -> Result<(), GatherError> {
        let (ledger, pool) = (self.ledger, self.pool);
        for id in ids {
            let taken = patiently(|| sync::obtain_certificate(ledger, pool, &self.from.0, id));
            let taken = taken.await;
            self.note(id, taken, tell)?;
        }
        Ok(())
    }

    /// Judges a statement that was held back.
    async fn judge(
        &mut self,
        (id, _, envelope): Held,
        tell: &mut impl FnMut(usize, usize),
    ) -> Result<(), GatherError> {
        let (ledger, pool) = (self.ledger, self.pool);
        let from = &self.from.0;
        let judged =
            patiently(|| sync::obtain_statement(ledger, pool, from, id, Some(envelope.clone())));
        let judged = judged.await;
        self.note(id, judged, tell)
    }

    /// One more is done: taken in, or left out for a reason that is its own.
    fn note(
        &mut self,
        id: Digest,
        outcome: Result<(), SyncError>,
        tell: &mut impl FnMut(usize, usize),
    ) -> Result<(), GatherError> {
        self.done += 1;
        tell(self.done, self.of);
        match outcome {
            // Kept below its threshold, as it is there.
            Ok(()) | Err(SyncError::Pending { .. }) => Ok(()),
            Err(
                SyncError::Admit(AdmitError::Store(error))
                | SyncError::Certify(CertifyError::Store(error)),
            ) => Err(error.into()),
            Err(error) if is_passing(&error) => Err(lost(self.from, error)),
            Err(error) => {
                self.gathered.left_out += 1;
                if self.gathered.reasons.len() < REASONS_MAX {
                    self.gathered.reasons.push(format!("{id} of {}: {error}", self.from));
                }
                Ok(())
            }
        }
    }
}

/// Takes a statement in, with what it needs, unless it is one to hold back.
async fn take(
    ledger: &Ledger,
    pool: &Pool,
    from: &Source,
    id: Digest,
) -> Result<Option<Held>, SyncError> {
    // It may have come since, as what another one needs.
    if ledger.is_effective(&id) {
        return Ok(None);
    }
    let envelope = sync::statement(pool, from, id).await?;
    let statement = Envelope::parse(&envelope, ENVELOPE_BYTES_MAX)
        .ok()
        .filter(|parsed| Kind::of(parsed.payload_type()).is_some_and(is_compared))
        .and_then(|parsed| Statement::parse(&parsed).ok());
    match statement {
        Some(statement) => Ok(Some((id, statement, envelope))),
        None => {
            sync::obtain_statement(ledger, pool, from, id, Some(envelope)).await?;
            Ok(None)
        }
    }
}

/// Whether one of this kind is refused where a stronger one is known: then the order in which they
/// come decides whether the weaker ones, which are history, are kept.
const fn is_compared(kind: Kind) -> bool {
    match kind {
        Kind::Root | Kind::Host | Kind::Release | Kind::Rollout | Kind::Revocation => false,
        Kind::Directive | Kind::Freeze => true,
    }
}

/// Asks again where that may help.
async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, SyncError>
where
    F: Future<Output = Result<T, SyncError>>,
{
    let mut tries = 1;
    loop {
        match ask().await {
            Err(error) if is_passing(&error) && tries < TRIES_MAX => {
                debug!(%error, tries, "asking again");
                time::sleep(BREATH * (1 << (tries - 1))).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Whether it is about the way to the member, and not about the item.
const fn is_passing(error: &SyncError) -> bool {
    matches!(
        error,
        SyncError::Busy
            | SyncError::Ask(AskError::Connect(_) | AskError::Lost(_) | AskError::Frame(_))
    )
}

fn lost(member: &Met, error: SyncError) -> GatherError {
    GatherError::Lost { member: member.clone(), source: Box::new(error) }
}
