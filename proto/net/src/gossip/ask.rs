//! Members that gossip names and the directory does not know: whoever named them is asked.
//!
//! One stream in both directions on the gossip connection, one small request, one answer. What comes
//! back is a signed statement and is verified like any other; it does not matter who answers.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use proto::HostId;
use proto::statement::{Host, SMALL_ENVELOPE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::connection::{Connection, ConnectionLost, RecvStream, SendStream};
use crate::directory::Directory;
use crate::frame::{self, FrameError};

/// Verifies the envelope of a host statement and keeps it; `None` if it is not good.
pub type HostVerifier = Arc<dyn Fn(&[u8]) -> Option<Host> + Send + Sync>;
/// The envelope of a host's statement, if this member has it.
pub type HostEnvelope = Arc<dyn Fn(&HostId) -> Option<Vec<u8>> + Send + Sync>;

/// Hosts in one request.
const HOSTS_MAX: usize = 32;
/// Longest request, in bytes.
const REQUEST_BYTES_MAX: usize = 1_024;
/// Longest answer, in bytes; the answerer leaves out what does not fit.
const REPLY_BYTES_MAX: usize = 512 << 10;
/// How long a request may take.
const WITHIN: Duration = Duration::from_secs(5);
/// One peer is not asked for one host again before that.
const AGAIN_AFTER: Duration = Duration::from_secs(3);
/// Requests under way.
const REQUESTS_MAX: usize = 4;
/// Requests remembered, so that they are not repeated at once.
const ASKED_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    hosts: Vec<HostId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    envelopes: Vec<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("the connection is gone")]
    Lost(#[from] ConnectionLost),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Asks and answers.
pub(super) struct Asker {
    directory: Directory,
    verify: HostVerifier,
    envelope: HostEnvelope,
    requests: Semaphore,
    asked: Mutex<Asked>,
}

struct Asked {
    /// When which peer was asked for which host.
    at: LruCache<(HostId, usize), Instant>,
    /// Being asked for.
    now: BTreeSet<HostId>,
}

impl Asker {
    pub(super) fn new(directory: Directory, verify: HostVerifier, envelope: HostEnvelope) -> Self {
        let asked = Asked { at: LruCache::new(ASKED_MAX), now: BTreeSet::new() };
        let requests = Semaphore::new(REQUESTS_MAX);
        Self { directory, verify, envelope, requests, asked: Mutex::new(asked) }
    }

    /// Asks the peer who named these hosts, unless that is under way or was done just now.
    pub(super) fn ask(self: &Arc<Self>, connection: &Connection, unknown: BTreeSet<HostId>) {
        let hosts = self.due(connection.stable_id(), unknown);
        if hosts.is_empty() {
            return;
        }
        let (asker, connection) = (self.clone(), connection.clone());
        tokio::spawn(async move {
            let outcome = {
                let _permit = asker.requests.acquire().await;
                asker.request(&connection, &hosts).await
            };
            asker.asked().now.retain(|host| !hosts.contains(host));
            if let Err(error) = outcome {
                debug!(peer = %connection.peer(), %error, "asked for host statements in vain");
            }
        });
    }

    fn due(&self, peer: usize, unknown: BTreeSet<HostId>) -> Vec<HostId> {
        let now = Instant::now();
        let mut asked = self.asked();
        let mut due = Vec::new();
        for host in unknown {
            if due.len() == HOSTS_MAX {
                break;
            }
            let place = (host.clone(), peer);
            let lately =
                asked.at.get(&place).is_some_and(|at| now.duration_since(*at) < AGAIN_AFTER);
            if !lately && asked.now.insert(host.clone()) {
                asked.at.put(place, now);
                due.push(host);
            }
        }
        due
    }

    async fn request(&self, connection: &Connection, hosts: &[HostId]) -> Result<(), AskError> {
        let (mut send, mut recv) = connection.open_bi().await?;
        let request = Request { hosts: hosts.to_vec() };
        frame::send(&mut send, &request, REQUEST_BYTES_MAX, WITHIN).await?;
        let Reply { envelopes } = frame::recv(&mut recv, REPLY_BYTES_MAX, WITHIN).await?;
        for envelope in envelopes.into_iter().take(hosts.len()) {
            if envelope.len() > SMALL_ENVELOPE_BYTES_MAX {
                continue;
            }
            // Verifying ends in a write to disk.
            let verify = self.verify.clone();
            let verified = tokio::task::spawn_blocking(move || verify(&envelope)).await;
            match verified.ok().flatten() {
                Some(host) if hosts.contains(&host.id) => {
                    debug!(host = %host.id, peer = %connection.peer(), "learned a host");
                    self.directory.add_host(host);
                }
                _ => warn!(peer = %connection.peer(), "sent a host statement that is not good"),
            }
        }
        Ok(())
    }

    /// Answers a peer's request.
    pub(super) async fn answer(
        &self,
        mut send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), FrameError> {
        let Request { hosts } = frame::recv(&mut recv, REQUEST_BYTES_MAX, WITHIN).await?;
        let envelope = self.envelope.clone();
        let found = tokio::task::spawn_blocking(move || {
            let mut room = REPLY_BYTES_MAX / 2;
            let mut envelopes = Vec::new();
            for bytes in hosts.iter().take(HOSTS_MAX).filter_map(|host| envelope(host)) {
                if let Some(left) = room.checked_sub(bytes.len()) {
                    room = left;
                    envelopes.push(bytes);
                }
            }
            envelopes
        });
        let envelopes = found.await.unwrap_or_default();
        frame::send(&mut send, &Reply { envelopes }, REPLY_BYTES_MAX, WITHIN).await?;
        // An error here means that the connection is gone: nobody waits for the answer.
        let _ = send.finish();
        Ok(())
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
