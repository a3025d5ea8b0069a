//! Answering: content by digest to whoever is a member, within limits.
//!
//! Only what is verified is served, pieces hashed once more on their way out. Whoever comes when
//! the places are taken hears `Busy` at once and asks somebody else. Statements and certificates have
//! places of their own: a halt does not wait for artifacts.

use std::time::Duration;

use async_trait::async_trait;
use net::frame::{self, FrameError};
use net::{Connection, Handler, Peer, Place, Places, RecvStream, SendStream};
use proto::Digest;
use proto::wire::{
    Found, Have, INDEX_BYTES_MAX, INDEX_PAGE_MAX, SWARM_REQUEST_BYTES_MAX, SwarmRequest,
};
use tokio::task::{self, JoinSet};
use tokio::time;
use tracing::{debug, error};

use super::{ANSWER_TIMEOUT, HAVE_BYTES_MAX, ROOTS_BYTES_MAX, ROOTS_MAX, content_timeout};
use crate::ledger::Ledger;
use crate::store::StoreError;

/// Pieces and manifests under way at a time, over all askers: bounds the memory they take.
pub(crate) const UPLOADS_MAX: usize = 24;
/// Of these, to one asker.
const UPLOADS_PER_PEER_MAX: usize = 8;
/// Statements and certificates under way at a time.
const WORDS_MAX: usize = 64;
/// Of these, to one asker.
const WORDS_PER_PEER_MAX: usize = 8;
/// Streams served at a time on one connection, subscriptions among them.
const STREAMS_MAX: usize = 64;
/// Least time between two bitmaps: what comes in between is gathered.
pub(super) const HAVE_INTERVAL: Duration = Duration::from_millis(100);

/// The handler of `gsw-swarm/1`. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Provider {
    ledger: Ledger,
    uploads: Places,
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
    /// `uploads`: pieces and manifests at a time.
    pub(crate) fn new(ledger: Ledger, uploads: usize) -> Self {
        let uploads = Places::new(uploads, UPLOADS_PER_PEER_MAX);
        Self { ledger, uploads, words: Places::new(WORDS_MAX, WORDS_PER_PEER_MAX) }
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
                let places = if is_manifest { &self.uploads } else { &self.words };
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
                let read = move || match ledger.store().read_piece(&artifact, index) {
                    Err(StoreError::NoArtifact(_) | StoreError::NoPiece { .. }) => Ok(None),
                    read => read,
                };
                content(send, self.uploads.try_take(peer), read).await
            }
        }
    }

    /// Says which pieces are here, at once and whenever there are more.
    async fn report(
        &self,
        mut send: SendStream,
        mut recv: RecvStream,
        artifact: Digest,
    ) -> Result<(), ProvideError> {
        let Ok(mut pieces) = self.ledger.store().watch_pieces(&artifact) else {
            frame::send(&mut send, &Have { bitmap: Vec::new() }, HAVE_BYTES_MAX, ANSWER_TIMEOUT)
                .await?;
            delivered(send, ANSWER_TIMEOUT).await;
            return Ok(());
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

/// Ends a stream and waits until the other side has all of it, or wants no more.
async fn delivered(mut send: SendStream, within: Duration) {
    // It can only be finished already.
    let _ = send.finish();
    let _ = time::timeout(within, send.stopped()).await;
}
