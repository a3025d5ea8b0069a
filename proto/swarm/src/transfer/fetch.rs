//! Fetching an artifact: the loop that carries out what [`Picker`] decides.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net::{Member, Pool};
use proto::artifact::{Manifest, ManifestError};
use proto::record::Lie;
use proto::statement::ArtifactRef;
use proto::{Digest, HostId};
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::{self, Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info, warn};

use super::ask::{self, AskError, Coming, Content, PieceAnswer, Source, Wish};
use super::coming::Comings;
use super::follow::{Left, follow};
use super::manifest::manifest;
use super::peers::{Known, Peers, alive, announcers, reach};
use super::toll::{Pass, Passer, Toll};
use crate::bits::Bits;
use crate::plan::{Ask, AskId, Picker, Rate, Stall};
use crate::store::{Store, StoreError};

/// Pieces written before their data is synced and the record says so.
const FLUSH_PIECES: u32 = 32;
/// Or this long after the first of them.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// How long nothing must have moved before a fetch says that it is stalled.
const STALL_AFTER: Duration = Duration::from_secs(1);
/// How often it is looked who else could be asked.
pub(super) const REVIEW_EVERY: Duration = Duration::from_secs(1);
/// Least time between two such looks: in a large fleet somebody says something all the time.
pub(super) const REVIEW_PAUSE: Duration = Duration::from_millis(100);

/// Where a fetch stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Verified pieces, those of earlier fetches included.
    pub pieces: u32,
    /// Pieces in all; 0 until the manifest is here.
    pub of: u32,
    /// The same in bytes; how many in all is known from the release.
    pub bytes: u64,
    pub of_bytes: u64,
    /// Over the last seconds.
    pub bytes_per_s: u64,
    /// Content verified in this fetch, in bytes of pieces, by where it came from. More than is missing,
    /// where the last pieces came twice.
    pub bytes_from_peers: u64,
    pub bytes_from_origin: u64,
    /// It was on this host already, in another artifact or an installed release, and did not travel.
    pub bytes_here: u64,
    /// Patches made it of what was on this host already. What the patches themselves took is not in
    /// any of these.
    pub bytes_patched: u64,
    /// Pieces verified in this fetch, and such that were not what they should be.
    pub verified: u64,
    pub wrong: u64,
    /// Who is asked now.
    pub peers: Vec<HostId>,
    /// Who lied, and is not asked any more, in the order in which they were found out.
    pub banned: Vec<(HostId, Lie)>,
    /// Why nothing moves, if nothing does.
    pub stall: Option<Stall>,
    /// For how long nothing has come, in whole seconds. Of a piece that takes long what there is of it counts.
    pub still_s: u64,
}

impl Progress {
    /// Whether it has had its turn among those of the same artifact, as far as that shows.
    pub fn has_begun(&self) -> bool {
        self.of > 0 || self.stall.as_ref().is_some_and(|why| *why != Stall::Waits)
    }
}

/// Why a fetch ended without the artifact. What was fetched stays, and the next fetch goes on; unless it was
/// to be [`FetchHandle::all_or_nothing`].
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("cancelled")]
    Cancelled,
    /// Whoever asked for it says that it does not fit, or is not what it was said to be ([`Spared`]): no
    /// piece was asked for, and what was here of it stays as it was.
    #[error("not fetched")]
    Unwanted(#[source] Box<dyn Error + Send + Sync>),
    /// See [`StoreError::is_full`].
    #[error("cannot keep what was fetched")]
    Store(#[from] StoreError),
    #[error("its manifest may not be unpacked")]
    Manifest(#[from] ManifestError),
    /// What the release says of its artifact is not so: nobody can deliver it.
    #[error("the release says {said} {what}, the manifest {is}")]
    NotAsReleased { what: &'static str, said: u64, is: u64 },
    #[error("a part of the fetch failed")]
    Failed(#[from] JoinError),
}

/// Which pieces need not come, of those of this manifest; some are here already. An error: there is no
/// room for the others, or it is not to be had at all. Asked once the manifest is known, before anything is
/// kept of it that was not here and before any piece is asked for; may block.
pub type Spared =
    Box<dyn FnOnce(&Manifest, &Bits) -> Result<Bits, Box<dyn Error + Send + Sync>> + Send>;

/// A fetch under way. Dropping it cancels the fetch.
#[derive(Debug)]
pub struct FetchHandle {
    progress: watch::Receiver<Progress>,
    task: task::JoinHandle<Result<(), FetchError>>,
    stop: CancellationToken,
    all_or_nothing: Arc<AtomicBool>,
    _on_drop: DropGuard,
}

impl FetchHandle {
    /// From now on nothing stays of it unless it comes whole: not what it finds of earlier fetches either. To
    /// be said at once.
    pub fn all_or_nothing(&self) {
        self.all_or_nothing.store(true, Ordering::Relaxed);
    }

    /// Where it stands, and what that becomes.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits for its end: the artifact is whole and synced. It never gives up by itself while the
    /// disk works: it waits for members that hold what is missing, and its progress says so.
    ///
    /// # Errors
    ///
    /// [`FetchError`].
    pub async fn done(mut self) -> Result<(), FetchError> {
        (&mut self.task).await?
    }

    /// Ends it early; [`Self::done`] then says so, once what was written is synced.
    pub fn cancel(&self) {
        self.stop.cancel();
    }
}

/// What a fetch needs from around it.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// Not asked itself; none: whoever is known is somebody else.
    pub(crate) me: Option<HostId>,
    pub(crate) store: Store,
    pub(crate) pool: Pool,
    pub(crate) members: watch::Receiver<Arc<Vec<Member>>>,
    /// What pieces pass on their way in.
    pub(crate) toll: Toll,
    /// What others are given while it comes.
    pub(crate) comings: Comings,
}

/// Who else has to do with an artifact, apart from what gossip says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Company {
    /// Who has all of it first, and gives it piece by piece to those that fetch.
    pub origin: Option<HostId>,
    /// Who fetches it, too, or may: such hosts tell each other at once what they have, before gossip does.
    pub fetchers: Vec<HostId>,
}

/// Starts to fetch `artifact` from the members that announce it and from its company, once the fetch of
/// it before has let go of `turn`.
pub(crate) fn start(
    around: Surroundings,
    artifact: ArtifactRef,
    company: Company,
    spared: Spared,
    turn: Arc<tokio::sync::Mutex<()>>,
) -> FetchHandle {
    let stop = CancellationToken::new();
    let begun = Progress { of_bytes: artifact.bytes, ..Progress::default() };
    let (progress_sender, progress) = watch::channel(begun);
    let stopped = stop.clone();
    let all_or_nothing = Arc::new(AtomicBool::new(false));
    let goes = all_or_nothing.clone();
    let task = tokio::spawn(async move {
        let _turn = tokio::select! {
            biased;
            () = stopped.cancelled() => return Err(FetchError::Cancelled),
            turn = take_turn(turn, &progress_sender) => turn,
        };
        let begun =
            Driver::begin(around, artifact, company, spared, progress_sender, &stopped).await;
        let mut driver = begun?;
        let outcome = driver.run(&stopped).await;
        if outcome.is_err() && goes.load(Ordering::Relaxed) {
            driver.remove().await;
            return outcome;
        }
        // What came in counts for the next try, however this one ended.
        driver.flush().await?;
        outcome
    });
    let _on_drop = stop.clone().drop_guard();
    FetchHandle { progress, task, stop, all_or_nothing, _on_drop }
}

/// Waits for the fetch before, and says that it does.
async fn take_turn(
    turn: Arc<tokio::sync::Mutex<()>>,
    progress: &watch::Sender<Progress>,
) -> OwnedMutexGuard<()> {
    if let Ok(turn) = turn.clone().try_lock_owned() {
        return turn;
    }
    progress.send_modify(|progress| progress.stall = Some(Stall::Waits));
    let turn = turn.lock_owned().await;
    progress.send_modify(|progress| progress.stall = None);
    turn
}

/// What tasks that follow a peer or wait for an answer report.
pub(super) enum News {
    Holds { peer: HostId, pieces: Bits },
    Left { peer: HostId, why: Left },
    Coming { ask: AskId, what: Coming },
}

/// What became of an ask.
enum Outcome {
    Stored { piece: u32, bytes: u64 },
    Wrong,
    No,
    Busy,
    Failed(AskError),
    NotKept(StoreError),
    Stopped(JoinError),
}

struct Driver {
    around: Surroundings,
    artifact: ArtifactRef,
    company: Company,
    /// Of the company, to be looked up.
    fetchers: BTreeSet<HostId>,
    progress: watch::Sender<Progress>,
    picker: Picker,
    peers: Peers,
    passer: Passer,
    /// The longest piece, in bytes.
    piece_bytes_max: u64,
    /// This host lets nothing more be asked for now: when to try again.
    held_until: Option<Instant>,
    zero: Instant,
    /// Subscriptions to what peers hold; each is also in `peers`.
    following: JoinSet<()>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    asking: JoinSet<(Ask, Outcome)>,
    asks: BTreeMap<AskId, (HostId, AbortHandle)>,
    unsynced: u32,
    flush_at: Option<Instant>,
    /// At most one.
    flushing: JoinSet<Result<(), StoreError>>,
    moved_at: Instant,
    rate: Rate,
}

impl Driver {
    /// Gets the manifest and takes stock of the pieces of earlier fetches. Once it does that it is not
    /// ended early: what it has begun then must be known to whoever removes it.
    async fn begin(
        around: Surroundings,
        artifact: ArtifactRef,
        company: Company,
        spared: Spared,
        progress: watch::Sender<Progress>,
        stop: &CancellationToken,
    ) -> Result<Self, FetchError> {
        let id = artifact.id;
        let store = around.store.clone();
        let known = task::spawn_blocking(move || store.manifest(&id).is_ok()).await?;
        let manifest = match known {
            true => None,
            false => tokio::select! {
                biased;
                () = stop.cancelled() => return Err(FetchError::Cancelled),
                manifest = manifest(&around, &artifact, &company, &progress) => Some(manifest?),
            },
        };
        let store = around.store.clone();
        let stock = task::spawn_blocking(move || take_stock(&store, &id, manifest, spared));
        let Stock { here, bytes, bytes_here, piece_bytes_max } = stock.await??;
        progress.send_modify(|progress| {
            (progress.bytes, progress.bytes_here) = (bytes, bytes_here);
            progress.stall = None;
        });
        let picker = Picker::new(here, rand::random());
        let passer = around.toll.enter(id, false);
        let (peers, following, asking, asks) = Default::default();
        let now = Instant::now();
        Ok(Self {
            around,
            artifact,
            fetchers: company.fetchers.iter().cloned().collect(),
            company,
            progress,
            picker,
            peers,
            passer,
            piece_bytes_max,
            held_until: None,
            zero: now,
            following,
            news: mpsc::channel(64),
            asking,
            asks,
            unsynced: 0,
            flush_at: None,
            flushing: JoinSet::new(),
            moved_at: now,
            rate: Rate::default(),
        })
    }

    async fn run(&mut self, stop: &CancellationToken) -> Result<(), FetchError> {
        let mut members = self.around.members.clone();
        let mut members_end = false;
        let mut review_at = Instant::now();
        let mut reviewed_at = review_at;
        loop {
            let now = Instant::now();
            self.tell(now);
            if self.picker.is_complete() {
                let Progress { pieces, bytes_from_peers, bytes_from_origin, .. } =
                    self.progress.borrow().clone();
                let artifact = self.artifact.id;
                info!(%artifact, pieces, bytes_from_peers, bytes_from_origin, "artifact is whole");
                return Ok(());
            }
            if now >= review_at {
                self.review(now);
                (reviewed_at, review_at) = (now, now + REVIEW_EVERY);
            }
            self.flush_soon(now);
            self.ask_more(now);
            let wake = self.wake(now).min(review_at);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(FetchError::Cancelled),
                Some(done) = self.asking.join_next() => match done {
                    Ok((ask, outcome)) => self.asked(&ask, outcome)?,
                    Err(error) if error.is_panic() => return Err(error.into()),
                    Err(_cancelled) => {}
                },
                Some(flushed) = self.flushing.join_next() => flushed??,
                Some(news) = self.news.1.recv() => self.heard(news),
                Some(_) = self.following.join_next() => {}
                changed = members.changed(), if !members_end => {
                    members_end = changed.is_err();
                    review_at = review_at.min(reviewed_at + REVIEW_PAUSE);
                }
                () = self.passer.changed(), if self.held_until.is_some() => {}
                () = time::sleep_until(wake) => self.expire(),
            }
        }
    }

    fn wake(&self, now: Instant) -> Instant {
        let picker = self.picker.next_ms(self.ms(now));
        let picker = picker.map(|at_ms| self.zero + Duration::from_millis(at_ms));
        // While one sync runs, its end is what wakes this for the next.
        let flush_at = self.flush_at.filter(|_| self.flushing.is_empty());
        let soon = [picker, flush_at, self.peers.next(now), self.held_until];
        soon.into_iter().flatten().min().unwrap_or(now + REVIEW_EVERY)
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from((at - self.zero).as_millis()).unwrap_or(u64::MAX)
    }

    // --- peers ---

    /// Joins who should be, lets go who may.
    fn review(&mut self, now: Instant) {
        let known = known(&self.around, &self.artifact.id, &self.company, &self.fetchers);
        let mut useless = self.peers.hosts();
        useless.retain(|host| !self.picker.is_useful(host));
        let (join, leave) = self.peers.choose(now, known, &useless);
        for host in leave {
            self.cancel(&host);
            self.peers.release(&host);
        }
        for source in join {
            let pieces = self.picker.here().len();
            let follow = follow(
                self.around.pool.clone(),
                source.clone(),
                self.artifact,
                pieces,
                self.news.0.clone(),
            );
            let task = self.following.spawn(follow);
            self.peers.joined(source, task);
        }
    }

    fn heard(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Holds { peer, pieces } if self.peers.source(&peer).is_some() => {
                let is_origin = self.company.origin.as_ref() == Some(&peer);
                self.picker.connected(peer.clone(), is_origin);
                self.picker.holds(&peer, &pieces);
            }
            News::Left { peer, why: Left::Malformed } => self.ban(&peer, Lie::Malformed),
            News::Left { peer, why } if self.peers.source(&peer).is_some() => {
                let why: &(dyn Error + 'static) = &why;
                debug!(artifact = %self.artifact.id, %peer, why, "a peer is gone");
                self.leave(&peer, now);
            }
            News::Holds { .. } | News::Left { .. } => {}
            News::Coming { ask, what: Coming::Begun { piece, round_trip_ms } } => {
                let now_ms = self.ms(now);
                for superfluous in self.picker.begun(ask, piece, round_trip_ms, now_ms) {
                    self.abort(superfluous);
                }
            }
            News::Coming { ask, what: Coming::More } => {
                self.moved_at = now;
                self.picker.comes(ask, self.ms(now));
            }
        }
    }

    fn leave(&mut self, peer: &HostId, now: Instant) {
        self.cancel(peer);
        self.peers.leave(peer, now);
    }

    fn cancel(&mut self, peer: &HostId) {
        for ask in self.picker.disconnected(peer) {
            self.abort(ask);
        }
    }

    fn ban(&mut self, peer: &HostId, lie: Lie) {
        warn!(artifact = %self.artifact.id, %peer, ?lie, "a peer is not asked any more");
        self.picker.wrong(peer);
        let asks = self.asks.iter().filter(|(_, (of, _))| of == peer);
        let asks: Vec<AskId> = asks.map(|(ask, _)| *ask).collect();
        asks.into_iter().for_each(|ask| self.abort(ask));
        self.peers.ban(peer, Instant::now());
        self.progress.send_modify(|progress| name_liar(progress, peer, lie));
    }

    // --- pieces ---

    /// Each ask has leave to be made: it does not wait for that when it is made, and looks like slow.
    fn ask_more(&mut self, now: Instant) {
        let now_ms = self.ms(now);
        let was_held = self.held_until.take().is_some();
        while self.picker.would_ask(now_ms) {
            let pass = match self.passer.try_pass(self.piece_bytes_max) {
                Ok(pass) => pass,
                Err(until) => {
                    self.held_until = Some(until);
                    return;
                }
            };
            let Some(ask) = self.picker.asks_at_most(1, now_ms).pop() else { return };
            let Some(source) = self.peers.source(&ask.peer).cloned() else {
                // Never: who left the peers left the picker, too. The ask runs into its deadline.
                continue;
            };
            let (around, news) = (self.around.clone(), self.news.0.clone());
            let artifact = (self.artifact, self.picker.here().len());
            let (id, peer) = (ask.id, ask.peer.clone());
            let task = self.asking.spawn(async move {
                let outcome = piece(&around, &source, artifact, &ask, &news, pass).await;
                (ask, outcome)
            });
            self.asks.insert(id, (peer, task));
        }
        if was_held {
            self.passer.rest();
        }
    }

    fn asked(&mut self, ask: &Ask, outcome: Outcome) -> Result<(), FetchError> {
        let given_up = self.asks.remove(&ask.id).is_none();
        let now = Instant::now();
        let now_ms = self.ms(now);
        let Ask { id, peer, what, .. } = ask;
        if given_up && !matches!(outcome, Outcome::Stored { .. } | Outcome::NotKept(_)) {
            // It ended while it was being cancelled, and was accounted for.
            return Ok(());
        }
        match outcome {
            Outcome::Stored { piece, bytes } => {
                self.moved_at = now;
                self.unsynced += 1;
                self.flush_at.get_or_insert(now + FLUSH_AFTER);
                if !self.picker.is_banned(peer) {
                    self.peers.useful(peer);
                }
                self.stored(peer, piece, bytes, now_ms);
                for superfluous in self.picker.verified(*id, peer, piece, now_ms) {
                    self.abort(superfluous);
                }
            }
            Outcome::Wrong => {
                debug!(artifact = %self.artifact.id, %peer, %what, "wrong bytes");
                self.progress.send_modify(|progress| progress.wrong += 1);
                self.ban(peer, Lie::WrongBytes);
            }
            Outcome::No => {
                if self.picker.denied(*id, now_ms) {
                    self.ban(peer, Lie::NotThere);
                }
            }
            Outcome::Busy => self.picker.busy(*id, now_ms),
            Outcome::Failed(error) => {
                let (unreachable, late) = (error.is_unreachable(), error.is_late());
                let error: &(dyn Error + 'static) = &error;
                debug!(artifact = %self.artifact.id, %peer, %what, error, "an ask failed");
                match (unreachable, late) {
                    (true, _) => self.leave(peer, now),
                    (false, true) => self.picker.late(*id),
                    (false, false) => self.picker.failed(*id, now_ms),
                }
            }
            Outcome::NotKept(error) => return Err(error.into()),
            Outcome::Stopped(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Counts a piece that has come and is kept; one may come twice.
    fn stored(&mut self, peer: &HostId, piece: u32, bytes: u64, now_ms: u64) {
        let from_origin = self.company.origin.as_ref() == Some(peer);
        let new = !self.picker.here().contains(piece);
        self.rate.add(bytes, now_ms);
        self.progress.send_modify(|progress| {
            progress.verified += 1;
            progress.bytes += if new { bytes } else { 0 };
            match from_origin {
                true => progress.bytes_from_origin += bytes,
                false => progress.bytes_from_peers += bytes,
            }
        });
    }

    fn expire(&mut self) {
        for ask in self.picker.expire(self.ms(Instant::now())) {
            if let Some((peer, _)) = self.asks.get(&ask) {
                debug!(artifact = %self.artifact.id, %peer, "too slow");
            }
            self.abort(ask);
        }
    }

    fn abort(&mut self, ask: AskId) {
        if let Some((_, task)) = self.asks.remove(&ask) {
            task.abort();
        }
    }

    /// Syncs what was written, if it is time and the sync before is done; meanwhile asking goes on.
    fn flush_soon(&mut self, now: Instant) {
        let due = self.flush_at.is_some_and(|at| at <= now) || self.unsynced >= FLUSH_PIECES;
        if due && self.flushing.is_empty() {
            (self.unsynced, self.flush_at) = (0, None);
            let (store, id) = (self.around.store.clone(), self.artifact.id);
            self.flushing.spawn_blocking(move || store.flush(&id));
        }
    }

    /// Syncs all that was written, once nothing more is asked for.
    async fn flush(&mut self) -> Result<(), FetchError> {
        self.passer.rest();
        let (store, id) = (self.around.store.clone(), self.artifact.id);
        Ok(task::spawn_blocking(move || store.flush(&id)).await??)
    }

    /// Removes what there is of it.
    async fn remove(&self) {
        let (store, id) = (self.around.store.clone(), self.artifact.id);
        let removed = task::spawn_blocking(move || store.remove_artifact(&id)).await;
        if let Ok(Err(error)) = removed {
            let error: &(dyn Error + 'static) = &error;
            warn!(artifact = %id, error, "what there is of it is not removed");
        }
    }

    fn tell(&mut self, now: Instant) {
        let still = now.saturating_duration_since(self.moved_at);
        // What this host holds back moves as fast as it is to.
        let idle = still >= STALL_AFTER && self.held_until.is_none();
        let stall = self.picker.stall().filter(|_| idle);
        let still_s = still.as_secs();
        let peers: Vec<HostId> = self.picker.peers().cloned().collect();
        let (pieces, of) = (self.picker.here().count(), self.picker.here().len());
        let bytes_per_s = self.rate.per_s(self.ms(now));
        let artifact = self.artifact.id;
        self.progress.send_if_modified(|progress| {
            let known = progress.clone();
            let next = Progress { pieces, of, bytes_per_s, peers, stall, still_s, ..known };
            if let (None, Some(why)) = (&progress.stall, &next.stall) {
                info!(%artifact, %why, "a fetch is stalled");
            }
            let changed = next != *progress;
            *progress = next;
            changed
        });
    }
}

/// Notes who lied, once.
pub(super) fn name_liar(progress: &mut Progress, host: &HostId, lie: Lie) {
    if progress.banned.iter().all(|(known, _)| known != host) {
        progress.banned.push((host.clone(), lie));
    }
}

/// What is known before the first piece is asked for.
struct Stock {
    /// The pieces that are not to be fetched: of earlier fetches, and those that are spared.
    here: Bits,
    /// Length of these, and of those that are spared, in bytes.
    bytes: u64,
    bytes_here: u64,
    /// The longest piece, in bytes.
    piece_bytes_max: u64,
}

/// `manifest`: of an artifact whose own is not here.
fn take_stock(
    store: &Store,
    id: &Digest,
    manifest: Option<Vec<u8>>,
    spared: Spared,
) -> Result<Stock, FetchError> {
    let stock = |manifest: &Manifest, mut here: Bits| {
        let bytes_of = |bits: &Bits| -> u64 {
            let pieces = (0..).zip(&manifest.pieces).filter(|(index, _)| bits.contains(*index));
            pieces.map(|(_, piece)| u64::from(piece.bytes)).sum()
        };
        let before = bytes_of(&here);
        here.add_all(&spared(manifest, &here).map_err(FetchError::Unwanted)?);
        let bytes = bytes_of(&here);
        let longest = manifest.pieces.iter().map(|piece| u64::from(piece.bytes)).max();
        let piece_bytes_max = longest.unwrap_or_default();
        Ok::<_, FetchError>(Stock { here, bytes, bytes_here: bytes - before, piece_bytes_max })
    };
    if let Some(bytes) = manifest {
        let manifest = Manifest::parse(&bytes)?;
        if store.pieces(id).is_err() {
            let none = Bits::none(u32::try_from(manifest.pieces.len()).unwrap_or(u32::MAX));
            let stock = stock(&manifest, none)?;
            store.begin(id, &bytes)?;
            return Ok(stock);
        }
        // It is the manifest alone that is not here any more.
        store.begin(id, &bytes)?;
    }
    store.check(id)?;
    stock(&store.manifest(id)?, store.pieces(id)?)
}

/// Asks for a piece, checks it and keeps it. `pass`: the leave to ask for it.
async fn piece(
    around: &Surroundings,
    of: &Source,
    (artifact, pieces): (ArtifactRef, u32),
    ask: &Ask,
    news: &mpsc::Sender<News>,
    pass: Pass,
) -> Outcome {
    let (store, id) = (&around.store, artifact.id);
    let piece_of = |index| store.piece(&id, index).ok();
    let comes = async |what| {
        if let Coming::Begun { piece, .. } = what {
            pass.used(piece_of(piece).map_or(0, |piece| piece.bytes).into());
        }
        // Nobody to tell: the fetch is over.
        let _ = news.send(News::Coming { ask: ask.id, what }).await;
    };
    let wish = Wish {
        artifact: id,
        pieces,
        what: &ask.what,
        piece_of: &piece_of,
        slow_ms: ask.slow_ms,
        comings: &around.comings,
    };
    let answer = ask::piece(&around.pool, of, &wish, comes).await;
    let (index, content) = match answer {
        Ok(PieceAnswer::Piece(index, content)) => (index, content),
        Ok(PieceAnswer::No) => return Outcome::No,
        Ok(PieceAnswer::Busy) => return Outcome::Busy,
        // Longer or shorter, or another one: that is not the piece. Unless nobody here knows any more how
        // long it is, which is not the peer's fault.
        Err(AskError::OtherContent) => match store.pieces(&id) {
            Ok(_) => return Outcome::Wrong,
            Err(error) => return Outcome::NotKept(error),
        },
        Err(error) => return Outcome::Failed(error),
    };
    let store = store.clone();
    let kept = task::spawn_blocking(move || {
        let write = |bytes: &[u8]| store.write_piece(&id, index, bytes).map(|_| bytes.len() as u64);
        match content {
            Content::Whole(bytes) => write(&bytes),
            // It is here before it comes no more: whoever asks meanwhile gets it.
            Content::Passage(passage) => write(&passage.content()),
        }
    });
    match kept.await {
        Ok(Ok(bytes)) => Outcome::Stored { piece: index, bytes },
        Ok(Err(StoreError::WrongBytes { .. })) => Outcome::Wrong,
        Ok(Err(error)) => Outcome::NotKept(error),
        Err(error) => Outcome::Stopped(error),
    }
}

/// Who could be asked, as gossip is now.
pub(super) fn known(
    around: &Surroundings,
    artifact: &Digest,
    Company { origin, .. }: &Company,
    fetchers: &BTreeSet<HostId>,
) -> Known {
    let (members, me) = (around.members.borrow().clone(), around.me.as_ref());
    Known {
        announcers: announcers(&members, artifact, me),
        fetchers: alive(&members, fetchers, me),
        origin: origin.as_ref().and_then(|origin| reach(&members, origin)),
    }
}
