//! Answering: content by digest to whoever is a member, within limits.
//!
//! Only what is verified is served, pieces hashed once more on their way out. Whoever comes when
//! the slots are taken hears `Busy` at once and asks somebody else.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use net::frame::{self, FrameError};
use net::{Connection, Handler, RecvStream, SendStream};
use proto::Digest;
use proto::wire::{Found, Have, SWARM_REQUEST_BYTES_MAX, SwarmRequest};
use tokio::sync::Semaphore;
use tokio::task::{self, JoinSet};
use tokio::time;
use tracing::{debug, error};

use super::{ANSWER_TIMEOUT, HAVE_BYTES_MAX, ROOTS_BYTES_MAX, ROOTS_MAX, content_timeout};
use crate::ledger::Ledger;
use crate::store::StoreError;

/// Answers with content under way at a time, over all askers: bounds the memory they take.
pub(crate) const UPLOADS_MAX: usize = 24;
/// Of these, on one connection.
const UPLOADS_PER_PEER_MAX: usize = 8;
/// Streams served at a time on one connection, subscriptions among them.
const STREAMS_MAX: usize = 64;
/// Least time between two bitmaps: what comes in between is gathered.
const HAVE_INTERVAL: Duration = Duration::from_millis(100);

/// The handler of `gsw-swarm/1`. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Provider {
    ledger: Ledger,
    uploads: Arc<Semaphore>,
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
        let own = Arc::new(Semaphore::new(UPLOADS_PER_PEER_MAX));
        let mut streams = JoinSet::new();
        loop {
            let room = streams.len() < STREAMS_MAX;
            tokio::select! {
                Some(ended) = streams.join_next() => if let Err(error) = ended {
                    error!(peer = %connection.peer(), %error, "an answer failed");
                },
                accepted = connection.accept_bi(), if room => match accepted {
                    Ok((send, recv)) => {
                        let (provider, own) = (self.clone(), own.clone());
                        let peer = connection.peer().clone();
                        streams.spawn(async move {
                            if let Err(error) = provider.answer(send, recv, &own).await {
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
    /// `uploads`: answers with content at a time.
    pub(crate) fn new(ledger: Ledger, uploads: usize) -> Self {
        Self { ledger, uploads: Arc::new(Semaphore::new(uploads)) }
    }

    async fn answer(
        &self,
        mut send: SendStream,
        mut recv: RecvStream,
        own: &Semaphore,
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
            SwarmRequest::Have { artifact } => self.report(send, recv, artifact).await,
            SwarmRequest::Statement { id } => {
                self.content(send, own, move || ledger.statement(&id)).await
            }
            SwarmRequest::Host { id } => {
                self.content(send, own, move || Ok(ledger.host_envelope(&id))).await
            }
            SwarmRequest::Blob { id } => {
                self.content(send, own, move || ledger.store().blob(&id)).await
            }
            SwarmRequest::Piece { artifact, index } => {
                let read = move || match ledger.store().read_piece(&artifact, index) {
                    Err(StoreError::NoArtifact(_) | StoreError::NoPiece { .. }) => Ok(None),
                    read => read,
                };
                self.content(send, own, read).await
            }
        }
    }

    /// Answers with what `read` finds, if there is a slot for it.
    async fn content(
        &self,
        mut send: SendStream,
        own: &Semaphore,
        read: impl FnOnce() -> Result<Option<Vec<u8>>, StoreError> + Send + 'static,
    ) -> Result<(), ProvideError> {
        let slots = own.try_acquire().and_then(|own| Ok((own, self.uploads.try_acquire()?)));
        let (found, content) = match slots {
            Err(_) => (Found::Busy, None),
            Ok(_) => match task::spawn_blocking(read).await?? {
                Some(content) => (Found::Yes { bytes: content.len() as u64 }, Some(content)),
                None => (Found::No, None),
            },
        };
        frame::send(&mut send, &found, 64, ANSWER_TIMEOUT).await?;
        let content = content.unwrap_or_default();
        let within = content_timeout(content.len() as u64);
        frame::send_bytes(&mut send, &content, within).await?;
        // The slots are held until the asker has it all, or they would bound nothing.
        delivered(send, within).await;
        drop(slots);
        Ok(())
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

/// Ends a stream and waits until the other side has all of it, or wants no more.
async fn delivered(mut send: SendStream, within: Duration) {
    // It can only be finished already.
    let _ = send.finish();
    let _ = time::timeout(within, send.stopped()).await;
}
