//! Answering: content by digest to whoever is a member, within limits.
//!
//! Only what is verified is served: pieces hashed once more on their way out, or as they come in. Asks for pieces wait for
//! their turn ([`super::queue`]); for the rest, whoever comes when the places are taken hears `Busy` at
//! once and asks somebody else. Statements and certificates have places of their own: a halt does not
//! wait for artifacts.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use net::frame::{self, FrameError};
use net::{CloseCode, Connection, Handler, Place, Places, RecvStream, SendStream};
use proto::Digest;
use proto::slices::{SUMS_BYTES_MAX, Slices};
use proto::wire::{
    Found, Have, INDEX_BYTES_MAX, INDEX_PAGE_MAX, NEW_PIECES_MAX, PATCHES_BYTES_MAX,
    SWARM_REQUEST_BYTES_MAX, SwarmRequest, Wanted,
};
use tokio::task::{self, JoinSet};
use tokio::time::{self, Instant};
use tracing::{debug, error};

use super::coming::{Comings, Flow};
use super::queue::{Queue, Turn};
use super::toll::{Passer, Toll};
use super::{ANSWER_TIMEOUT, HAVE_BYTES_MAX, ROOTS_BYTES_MAX, ROOTS_MAX, list_timeout};
use crate::bits::Bits;
use crate::ledger::Ledger;
use crate::plan::{ASK_MS, What};
use crate::store::{Store, StoreError};

/// Manifests under way at a time, over all askers: bounds the memory they take.
pub(crate) const MANIFESTS_MAX: usize = 24;
/// Of these, to one asker.
const MANIFESTS_PER_PEER_MAX: usize = 2;
/// Statements and certificates under way at a time.
const WORDS_MAX: usize = 64;
/// Of these, to one asker.
const WORDS_PER_PEER_MAX: usize = 8;
/// Subscriptions to what is here, over all askers: in the largest fleet all hosts hang on to the
/// coordinator. Each costs a few kilobytes.
const REPORTS_MAX: usize = 8_192;
/// Of these, of one asker: it fetches a few artifacts at a time.
const REPORTS_PER_PEER_MAX: usize = 16;
/// How long a subscription to an artifact that is not known here waits for it to be.
const UNKNOWN_MAX: Duration = Duration::from_secs(30);
/// How long content may stand still on its way until it is given up: an asker that got a little of it
/// in that time is waiting for more.
const STANDSTILL: Duration = Duration::from_millis(2 * ASK_MS);
/// How long nothing at all may come of an asker to whom something is under way: it is gone, or its line is.
const SILENCE: Duration = Duration::from_secs(5);
/// In how many looks in a row that must be seen: after this host itself stood still, the first is of old.
const SILENT_LOOKS: u32 = 2;
/// Longest it takes to send content: what ends the wait is that nothing moves.
const GIVEN_WITHIN: Duration = Duration::from_secs(24 * 3_600);
/// Pieces of streams, of a packet each, that must have gone to the asker in that time: about
/// [`PROGRESS_BYTES`](crate::plan::PROGRESS_BYTES).
const MOVES_FRAMES: u64 = 24;
/// Streams served at a time on one connection, subscriptions among them.
const STREAMS_MAX: usize = 64;
/// Least time between two bitmaps: what comes in between is gathered.
pub(super) const HAVE_INTERVAL: Duration = Duration::from_millis(50);

/// The handler of `gsw-swarm/1`. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Provider {
    ledger: Ledger,
    pieces: Queue,
    /// What comes to this member, and is given before it is whole.
    comings: Comings,
    out: Toll,
    manifests: Places,
    words: Places,
    reports: Places,
    given: Arc<Given>,
}

/// Pieces that others took whole.
#[derive(Default)]
struct Given {
    pieces: AtomicU64,
    bytes: AtomicU64,
}

/// What was given to others since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProvideCounts {
    /// Pieces that others took whole, and their bytes.
    pub pieces: u64,
    pub bytes: u64,
    /// Asks for pieces that wait now.
    pub waiting: usize,
    /// Asks that are answered now.
    pub running: usize,
}

/// Why an answer did not get through; only ever logged.
#[derive(Debug, thiserror::Error)]
enum ProvideError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the store does not work")]
    Store(#[from] StoreError),
    #[error("reading was stopped")]
    Stopped(#[from] task::JoinError),
}

#[async_trait]
impl Handler for Provider {
    async fn connection(&self, connection: Connection) {
        let mut streams = JoinSet::new();
        loop {
            let room = streams.len() < STREAMS_MAX;
            tokio::select! {
                Some(ended) = streams.join_next() => if let Err(error) = ended {
                    error!(peer = %connection.peer(), %error, "an answer failed");
                },
                accepted = connection.accept_bi(), if room => match accepted {
                    Ok((send, recv)) => {
                        let (provider, connection) = (self.clone(), connection.clone());
                        streams.spawn(async move {
                            if let Err(error) = provider.answer(send, recv, &connection).await {
                                let error: &(dyn std::error::Error + 'static) = &error;
                                debug!(peer = %connection.peer(), error, "an answer ended early");
                            }
                        });
                    }
                    Err(_) => return,
                },
            }
        }
    }
}

impl Provider {
    /// `manifests`: at a time.
    pub(crate) fn new(ledger: Ledger, comings: Comings, manifests: usize) -> Self {
        let pieces = Queue::new(ledger.store().clone());
        let manifests = Places::new(manifests, MANIFESTS_PER_PEER_MAX);
        let (words, out) = (Places::new(WORDS_MAX, WORDS_PER_PEER_MAX), Toll::default());
        let (reports, given) = (Places::new(REPORTS_MAX, REPORTS_PER_PEER_MAX), Arc::default());
        Self { ledger, pieces, comings, out, manifests, words, reports, given }
    }

    /// Where asks for pieces wait, and where pieces pass on their way out.
    pub(crate) fn ways(&self) -> (&Queue, &Toll) {
        (&self.pieces, &self.out)
    }

    pub(crate) fn counts(&self) -> ProvideCounts {
        let (waiting, running) = self.pieces.load();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (pieces, bytes) = (load(&self.given.pieces), load(&self.given.bytes));
        ProvideCounts { pieces, bytes, waiting, running }
    }

    async fn answer(
        &self,
        mut send: SendStream,
        mut recv: RecvStream,
        asker: &Connection,
    ) -> Result<(), ProvideError> {
        let peer = asker.peer();
        let request = frame::recv(&mut recv, SWARM_REQUEST_BYTES_MAX, ANSWER_TIMEOUT).await?;
        let ledger = self.ledger.clone();
        match request {
            SwarmRequest::Roots { after } => {
                let roots = task::spawn_blocking(move || ledger.roots(after)).await??;
                let roots: Vec<_> = roots.into_iter().take(ROOTS_MAX).collect();
                let within = list_timeout(ROOTS_BYTES_MAX);
                frame::send(&mut send, &roots, ROOTS_BYTES_MAX, within).await?;
                delivered(send, within).await;
                Ok(())
            }
            SwarmRequest::Index { part, after } => {
                let ids = ledger.ids(part, after, INDEX_PAGE_MAX);
                let within = list_timeout(INDEX_BYTES_MAX);
                frame::send(&mut send, &ids, INDEX_BYTES_MAX, within).await?;
                delivered(send, within).await;
                Ok(())
            }
            SwarmRequest::Patches { artifact } => {
                let offers = ledger.store().patches_to(&artifact);
                frame::send(&mut send, &offers, PATCHES_BYTES_MAX, ANSWER_TIMEOUT).await?;
                delivered(send, ANSWER_TIMEOUT).await;
                Ok(())
            }
            SwarmRequest::Have { artifact } => {
                // Without a place the stream ends, and somebody else is asked.
                let Some(place) = self.reports.try_take(peer) else { return Ok(()) };
                let reported = self.report(send, recv, artifact).await;
                drop(place);
                reported
            }
            SwarmRequest::Statement { id } => {
                let place = self.words.try_take(peer);
                content(send, asker, place, move || ledger.statement(&id)).await
            }
            SwarmRequest::Host { id } => {
                let place = self.words.try_take(peer);
                content(send, asker, place, move || Ok(ledger.host_envelope(&id))).await
            }
            SwarmRequest::Blob { id } => {
                let is_manifest = ledger.store().pieces(&id).is_ok();
                let places = if is_manifest { &self.manifests } else { &self.words };
                let read = move || match ledger.shelf_bytes(&id) {
                    Some(shelf) => Ok(Some(shelf.to_vec())),
                    None => ledger.store().blob(&id),
                };
                content(send, asker, places.try_take(peer), read).await
            }
            SwarmRequest::Certificate { rollout, claim } => {
                let read = move || match ledger.certificate(&rollout, claim) {
                    Some(id) => ledger.store().blob(&id),
                    None => Ok(None),
                };
                content(send, asker, self.words.try_take(peer), read).await
            }
            SwarmRequest::Piece { artifact, index } => {
                self.piece(send, asker, artifact, What::Piece(index), false).await
            }
            SwarmRequest::New { artifact, pieces } => {
                self.piece(send, asker, artifact, wanted(Wanted::New(pieces)), false).await
            }
            SwarmRequest::Sliced { artifact, of } => {
                self.piece(send, asker, artifact, wanted(of), true).await
            }
        }
    }

    /// Gives a piece, when its turn has come. `sliced`: with the sums of its slices.
    async fn piece(
        &self,
        mut send: SendStream,
        asker: &Connection,
        artifact: Digest,
        what: What,
        sliced: bool,
    ) -> Result<(), ProvideError> {
        let of_choice = matches!(what, What::New(_));
        let Ok(here) = self.ledger.store().pieces(&artifact) else {
            return short(send, Found::No).await;
        };
        if let What::Piece(index) = what
            && !here.contains(index)
            && self.comings.flow(&artifact, index).is_none()
        {
            return short(send, self.lacks(&artifact, index)).await;
        }
        let (index, place) = match self.pieces.turn(asker.peer(), artifact, what, &send).await {
            Turn::Comes(index, place) => (index, place),
            Turn::NothingNew => return short(send, Found::No).await,
            Turn::Busy => return short(send, Found::Busy).await,
            Turn::Gone => return Ok(()),
        };
        let (content, slices) = match self.content_of(&artifact, index).await? {
            Ok(Some(found)) => found,
            Ok(None) => return short(send, self.lacks(&artifact, index)).await,
            Err(error) => {
                unreadable(&artifact, index, &error);
                // As if it had been given: nobody else is to be offered it as new.
                place.delivered();
                return short(send, Found::No).await;
            }
        };
        let bytes = slices.bytes() as u64;
        let found = match of_choice {
            true => Found::Picked { piece: index, bytes },
            false => Found::Yes { bytes },
        };
        frame::send(&mut send, &found, 64, ANSWER_TIMEOUT).await?;
        if sliced {
            frame::send(&mut send, &slices.sums(), SUMS_BYTES_MAX, ANSWER_TIMEOUT).await?;
        }
        // The place is held until the asker has it all, or it would bound nothing.
        let passer = self.out.enter(artifact, !place.is_first());
        if give(send, asker, content, slices.bytes(), Some(passer)).await? {
            place.delivered();
            self.given.pieces.fetch_add(1, Ordering::Relaxed);
            self.given.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A piece that is here, or comes; none: neither.
    async fn content_of(
        &self,
        artifact: &Digest,
        index: u32,
    ) -> Result<Result<Option<(Content, Arc<Slices>)>, StoreError>, ProvideError> {
        let (store, artifact) = (self.ledger.store().clone(), *artifact);
        if let Some(flow) = self.comings.flow(&artifact, index) {
            let slices = flow.slices.clone();
            return Ok(Ok(Some((Content::Coming { flow, store, artifact, index }, slices))));
        }
        let read = task::spawn_blocking(move || match store.read_sliced(&artifact, index) {
            Err(StoreError::NoArtifact(_) | StoreError::NoPiece { .. }) => Ok(None),
            read => read,
        });
        let here = |(bytes, slices)| (Content::Here(bytes), Arc::new(slices));
        Ok(read.await?.map(|read| read.map(here)))
    }

    /// What is to be said of a piece that is not here: whoever was told of it while it came is told no lie.
    fn lacks(&self, artifact: &Digest, index: u32) -> Found {
        match self.comings.has_begun(artifact, index) {
            true => Found::Busy,
            false => Found::No,
        }
    }

    /// Says which pieces are here or come, at once and whenever there are more. Of an artifact that is not known
    /// here, none, until it is: who fetches it at the same time need not ask again. Not for ever, or who
    /// asks for what there is not would keep all the streams of others.
    async fn report(
        &self,
        mut send: SendStream,
        mut recv: RecvStream,
        artifact: Digest,
    ) -> Result<(), ProvideError> {
        let store = self.ledger.store();
        let mut changes = store.changes();
        let mut pieces = match store.watch_pieces(&artifact) {
            Ok(pieces) => pieces,
            Err(_) => {
                let none = Have { bitmap: Vec::new() };
                frame::send(&mut send, &none, HAVE_BYTES_MAX, ANSWER_TIMEOUT).await?;
                let begun = changes.wait_for(|_| store.watch_pieces(&artifact).is_ok());
                let mut word = [0];
                tokio::select! {
                    () = time::sleep(UNKNOWN_MAX) => return Ok(()),
                    begun = begun => if begun.is_err() { return Ok(()) },
                    _ = recv.read(&mut word) => return Ok(()),
                }
                let Ok(pieces) = store.watch_pieces(&artifact) else { return Ok(()) };
                pieces
            }
        };
        let mut begun = self.comings.begun(&artifact, pieces.borrow().len());
        let mut told: Option<Bits> = None;
        loop {
            let mut known = Bits::clone(&pieces.borrow_and_update());
            let whole = known.is_all();
            known.add_all(&begun.borrow_and_update());
            // What has come of what others were told of before is no news to them.
            if told.as_ref() != Some(&known) {
                let bitmap = known.as_bytes().to_vec();
                frame::send(&mut send, &Have { bitmap }, HAVE_BYTES_MAX, ANSWER_TIMEOUT).await?;
                told = Some(known);
            }
            // What has begun to come may not come: as long as somebody was told of it, that is remembered.
            if whole {
                break;
            }
            let next = Instant::now() + HAVE_INTERVAL;
            let more = async {
                tokio::select! {
                    changed = pieces.changed() => changed?,
                    changed = begun.changed() => changed?,
                }
                time::sleep_until(next).await;
                Ok::<_, tokio::sync::watch::error::RecvError>(())
            };
            let mut word = [0];
            tokio::select! {
                more = more => if more.is_err() {
                    // The artifact was removed.
                    break;
                },
                // The asker ends the stream, or says more than agreed.
                _ = recv.read(&mut word) => return Ok(()),
            }
        }
        delivered(send, ANSWER_TIMEOUT).await;
        Ok(())
    }
}

/// Answers with what `read` finds, if there is a place for it.
async fn content(
    mut send: SendStream,
    asker: &Connection,
    place: Option<Place>,
    read: impl FnOnce() -> Result<Option<Vec<u8>>, StoreError> + Send + 'static,
) -> Result<(), ProvideError> {
    let (found, content) = match &place {
        None => (Found::Busy, None),
        Some(_) => match task::spawn_blocking(read).await?? {
            Some(content) => (Found::Yes { bytes: content.len() as u64 }, Some(content)),
            None => (Found::No, None),
        },
    };
    frame::send(&mut send, &found, 64, ANSWER_TIMEOUT).await?;
    // The place is held until the asker has it all, or it would bound nothing.
    let content = content.unwrap_or_default();
    let bytes = content.len();
    let given = give(send, asker, Content::Here(content), bytes, None).await;
    drop(place);
    given.map(drop)
}

/// What is given.
enum Content {
    Here(Vec<u8>),
    /// It comes here itself, and lies in the store once it is whole.
    Coming {
        flow: Flow,
        store: Store,
        artifact: Digest,
        index: u32,
    },
}

impl Content {
    /// Bytes from `at` on, at most `most`; waits for those that come. None: they come no more.
    async fn after(&mut self, at: usize, most: usize) -> Option<Cow<'_, [u8]>> {
        if let Self::Coming { flow, store, artifact, index } = self {
            if let Some(bytes) = flow.after(at, most).await {
                return Some(Cow::Owned(bytes));
            }
            // From whom it came it comes no more: from somebody else it may have, and be whole.
            let (store, artifact, index) = (store.clone(), *artifact, *index);
            let read = task::spawn_blocking(move || store.read_piece(&artifact, index));
            *self = Self::Here(read.await.ok()?.ok()??);
        }
        let Self::Here(bytes) = self else { return None };
        Some(Cow::Borrowed(bytes.get(at..bytes.len().min(at.saturating_add(most)))?))
    }
}

/// Gives content of so many bytes to the end; whether the asker has all of it. However slow the line: what
/// bounds the wait is that nothing moves. `passer`: content that goes no faster than this host lets it.
async fn give(
    mut send: SendStream,
    asker: &Connection,
    mut content: Content,
    bytes: usize,
    mut passer: Option<Passer>,
) -> Result<bool, ProvideError> {
    let held = Held(Mutex::new(Some(Instant::now())));
    let given = async {
        let mut at = 0;
        while at < bytes {
            let length = passer.as_ref().map_or(bytes, |passer| passer.chunk_bytes(bytes - at));
            held.set(true);
            let chunk = tokio::select! {
                biased;
                chunk = content.after(at, length) => chunk,
                _ = send.stopped() => return Ok(false),
            };
            let Some(chunk) = chunk else {
                // The asker asks somebody else.
                let _ = send.reset(0u32.into());
                return Ok(false);
            };
            let pass = match &mut passer {
                None => None,
                Some(passer) => Some(passer.pass(chunk.len() as u64).await),
            };
            held.set(false);
            frame::send_bytes(&mut send, &chunk, GIVEN_WITHIN).await?;
            if let Some(pass) = pass {
                pass.used(chunk.len() as u64);
            }
            at += chunk.len();
        }
        drop(content);
        // It can only be finished already.
        let _ = send.finish();
        Ok(matches!(send.stopped().await, Ok(None)))
    };
    tokio::select! {
        given = given => return given,
        () = stands_still(asker, &held) => {}
        () = falls_silent(asker, &held) => {
            // What else it asked for would take the same time, of each place here.
            asker.close(CloseCode::Unresponsive, "nothing comes any more");
        }
    }
    // It is of no use to the asker any more, and takes room here.
    let _ = send.reset(0u32.into());
    debug!(peer = %asker.peer(), "does not take what it asked for");
    Ok(false)
}

/// Whether this host itself lets nothing more go, which is not counted as the asker's; none, or since when
/// it does.
struct Held(Mutex<Option<Instant>>);

impl Held {
    fn set(&self, held: bool) {
        let since = Instant::now();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (!held).then_some(since);
    }

    fn is_off_for(&self, at_least: Duration) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() >= at_least)
    }
}

/// Waits until an asker takes nothing of what it is sent, for a while in which nothing was held here.
async fn stands_still(asker: &Connection, held: &Held) {
    let mut told = asker.told();
    loop {
        time::sleep(STANDSTILL).await;
        let before = std::mem::replace(&mut told, asker.told());
        if told - before < MOVES_FRAMES && held.is_off_for(STANDSTILL) {
            return;
        }
    }
}

/// Waits until nothing comes of an asker, not even that something has arrived.
async fn falls_silent(asker: &Connection, held: &Held) {
    let (mut packets, mut looks) = (asker.packets(), 0);
    while looks < SILENT_LOOKS {
        time::sleep(SILENCE / SILENT_LOOKS).await;
        let before = std::mem::replace(&mut packets, asker.packets());
        let silent = packets == before && held.is_off_for(SILENCE / SILENT_LOOKS);
        looks = if silent { looks + 1 } else { 0 };
    }
}

fn unreadable(artifact: &Digest, index: u32, error: &StoreError) {
    let error: &(dyn std::error::Error + 'static) = error;
    error!(%artifact, index, error, "a piece cannot be read");
}

/// Of new pieces, as many as are looked at.
fn wanted(of: Wanted) -> What {
    match of {
        Wanted::Piece(index) => What::Piece(index),
        Wanted::New(mut pieces) => {
            pieces.truncate(NEW_PIECES_MAX);
            What::New(pieces)
        }
    }
}

/// Answers in one word.
async fn short(mut send: SendStream, found: Found) -> Result<(), ProvideError> {
    frame::send(&mut send, &found, 64, ANSWER_TIMEOUT).await?;
    delivered(send, ANSWER_TIMEOUT).await;
    Ok(())
}

/// Ends a stream and waits until the other side has all of it, which it tells, or wants no more.
async fn delivered(mut send: SendStream, within: Duration) -> bool {
    // It can only be finished already.
    let _ = send.finish();
    matches!(time::timeout(within, send.stopped()).await, Ok(Ok(None)))
}
