//! Answering: content by digest to whoever is a member, within limits.
//!
//! Only what is verified is served, pieces hashed once more on their way out. Asks for pieces wait for
//! their turn ([`super::queue`]); for the rest, whoever comes when the places are taken hears `Busy` at
//! once and asks somebody else. Statements and certificates have places of their own: a halt does not
//! wait for artifacts.

use std::time::Duration;

use async_trait::async_trait;
use net::frame::{self, FrameError};
use net::{Connection, Handler, Peer, Place, Places, RecvStream, SendStream};
use proto::Digest;
use proto::wire::{
    Found, Have, INDEX_BYTES_MAX, INDEX_PAGE_MAX, NEW_PIECES_MAX, SWARM_REQUEST_BYTES_MAX,
    SwarmRequest,
};
use tokio::task::{self, JoinSet};
use tokio::time;
use tracing::{debug, error};

use super::queue::{Queue, Turn};
use super::{ANSWER_TIMEOUT, HAVE_BYTES_MAX, ROOTS_BYTES_MAX, ROOTS_MAX, content_timeout};
use crate::ledger::Ledger;
use crate::plan::What;
use crate::store::StoreError;

/// Manifests under way at a time, over all askers: bounds the memory they take.
pub(crate) const MANIFESTS_MAX: usize = 24;
/// Of these, to one asker.
const MANIFESTS_PER_PEER_MAX: usize = 2;
/// Statements and certificates under way at a time.
const WORDS_MAX: usize = 64;
/// Of these, to one asker.
const WORDS_PER_PEER_MAX: usize = 8;
/// Streams served at a time on one connection, subscriptions among them.
const STREAMS_MAX: usize = 64;
/// Least time between two bitmaps: what comes in between is gathered.
pub(super) const HAVE_INTERVAL: Duration = Duration::from_millis(50);

/// The handler of `gsw-swarm/1`. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Provider {
    ledger: Ledger,
    pieces: Queue,
    manifests: Places,
    words: Places,
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
                        let (provider, peer) = (self.clone(), connection.peer().clone());
                        streams.spawn(async move {
                            if let Err(error) = provider.answer(send, recv, &peer).await {
                                let error: &(dyn std::error::Error + 'static) = &error;
                                debug!(%peer, error, "an answer ended early");
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
    pub(crate) fn new(ledger: Ledger, manifests: usize) -> Self {
        let pieces = Queue::new(ledger.store().clone());
        let manifests = Places::new(manifests, MANIFESTS_PER_PEER_MAX);
        Self { ledger, pieces, manifests, words: Places::new(WORDS_MAX, WORDS_PER_PEER_MAX) }
    }

    async fn answer(
        &self,
        mut send: SendStream,
        mut recv: RecvStream,
        peer: &Peer,
    ) -> Result<(), ProvideError> {
        let request = frame::recv(&mut recv, SWARM_REQUEST_BYTES_MAX, ANSWER_TIMEOUT).await?;
        let ledger = self.ledger.clone();
        match request {
            SwarmRequest::Roots { after } => {
                let roots = task::spawn_blocking(move || ledger.roots(after)).await??;
                let roots: Vec<_> = roots.into_iter().take(ROOTS_MAX).collect();
                let within = content_timeout(ROOTS_BYTES_MAX as u64);
                frame::send(&mut send, &roots, ROOTS_BYTES_MAX, within).await?;
                delivered(send, within).await;
                Ok(())
            }
            SwarmRequest::Index { part, after } => {
                let ids = ledger.ids(part, after, INDEX_PAGE_MAX);
                let within = content_timeout(INDEX_BYTES_MAX as u64);
                frame::send(&mut send, &ids, INDEX_BYTES_MAX, within).await?;
                delivered(send, within).await;
                Ok(())
            }
            SwarmRequest::Have { artifact } => self.report(send, recv, artifact).await,
            SwarmRequest::Statement { id } => {
                let place = self.words.try_take(peer);
                content(send, place, move || ledger.statement(&id)).await
            }
            SwarmRequest::Host { id } => {
                let place = self.words.try_take(peer);
                content(send, place, move || Ok(ledger.host_envelope(&id))).await
            }
            SwarmRequest::Blob { id } => {
                let is_manifest = ledger.store().pieces(&id).is_ok();
                let places = if is_manifest { &self.manifests } else { &self.words };
                let read = move || match ledger.shelf_bytes(&id) {
                    Some(shelf) => Ok(Some(shelf.to_vec())),
                    None => ledger.store().blob(&id),
                };
                content(send, places.try_take(peer), read).await
            }
            SwarmRequest::Certificate { rollout, claim } => {
                let read = move || match ledger.certificate(&rollout, claim) {
                    Some(id) => ledger.store().blob(&id),
                    None => Ok(None),
                };
                content(send, self.words.try_take(peer), read).await
            }
            SwarmRequest::Piece { artifact, index } => {
                self.piece(send, peer, artifact, What::Piece(index)).await
            }
            SwarmRequest::New { artifact, mut pieces } => {
                pieces.truncate(NEW_PIECES_MAX);
                self.piece(send, peer, artifact, What::New(pieces)).await
            }
        }
    }

    /// Gives a piece, when its turn has come.
    async fn piece(
        &self,
        mut send: SendStream,
        peer: &Peer,
        artifact: Digest,
        what: What,
    ) -> Result<(), ProvideError> {
        let of_choice = matches!(what, What::New(_));
        let store = self.ledger.store();
        let may_be = match &what {
            What::Piece(index) => store.pieces(&artifact).is_ok_and(|here| here.contains(*index)),
            What::New(_) => store.pieces(&artifact).is_ok(),
        };
        if !may_be {
            return short(send, Found::No).await;
        }
        let (index, place) = match self.pieces.turn(peer, artifact, what, &send).await {
            Turn::Comes(index, place) => (index, place),
            Turn::NothingNew => return short(send, Found::No).await,
            Turn::Busy => return short(send, Found::Busy).await,
            Turn::Gone => return Ok(()),
        };
        let store = store.clone();
        let read = task::spawn_blocking(move || match store.read_piece(&artifact, index) {
            Err(StoreError::NoArtifact(_) | StoreError::NoPiece { .. }) => Ok(None),
            read => read,
        });
        let content = match read.await? {
            Ok(Some(content)) => content,
            Ok(None) => return short(send, Found::No).await,
            Err(error) => {
                unreadable(&artifact, index, &error);
                // As if it had been given: nobody else is to be offered it as new.
                place.delivered();
                return short(send, Found::No).await;
            }
        };
        let bytes = content.len() as u64;
        let found = match of_choice {
            true => Found::Picked { piece: index, bytes },
            false => Found::Yes { bytes },
        };
        frame::send(&mut send, &found, 64, ANSWER_TIMEOUT).await?;
        let within = content_timeout(bytes);
        frame::send_bytes(&mut send, &content, within).await?;
        drop(content);
        // The place is held until the asker has it all, or it would bound nothing.
        if delivered(send, within).await {
            place.delivered();
        }
        Ok(())
    }

    /// Says which pieces are here, at once and whenever there are more. Of an artifact that is not known
    /// here, none, until it is: who fetches it at the same time need not ask again.
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
                    begun = begun => if begun.is_err() { return Ok(()) },
                    _ = recv.read(&mut word) => return Ok(()),
                }
                let Ok(pieces) = store.watch_pieces(&artifact) else { return Ok(()) };
                pieces
            }
        };
        loop {
            let (bitmap, whole) = {
                let pieces = pieces.borrow_and_update();
                (pieces.as_bytes().to_vec(), pieces.is_all())
            };
            frame::send(&mut send, &Have { bitmap }, HAVE_BYTES_MAX, ANSWER_TIMEOUT).await?;
            let next = time::Instant::now() + HAVE_INTERVAL;
            if whole {
                break;
            }
            let more = async {
                pieces.changed().await?;
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
    let content = content.unwrap_or_default();
    let within = content_timeout(content.len() as u64);
    frame::send_bytes(&mut send, &content, within).await?;
    // The place is held until the asker has it all, or it would bound nothing.
    delivered(send, within).await;
    drop(place);
    Ok(())
}

fn unreadable(artifact: &Digest, index: u32, error: &StoreError) {
    let error: &(dyn std::error::Error + 'static) = error;
    error!(%artifact, index, error, "a piece cannot be read");
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
