//! Members that gossip names and the directory does not know: whoever named them is asked.
//!
//! One stream in both directions on the gossip connection, one small request, one answer. What comes
//! back is a signed statement and is verified like any other; it does not matter who answers.
//!
//! Names in gossip prove nothing: whoever makes some up, or does not answer, has one request of his
//! own under way and stands in nobody else's. Nothing queues: what is not asked now is named again.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use proto::HostId;
use proto::statement::{Host, SMALL_ENVELOPE_BYTES_MAX};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
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
/// Nor another peer before that: most answers come sooner.
const ANOTHER_AFTER: Duration = Duration::from_millis(500);
/// Requests under way, each of another peer.
const REQUESTS_MAX: usize = 16;
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
    asked: Mutex<Asked>,
}

struct Asked {
    /// When which host was asked for, and when of which peer.
    lately: LruCache<HostId, Instant>,
    of_peer: LruCache<(HostId, HostId), Instant>,
    /// Peers that are being asked.
    peers: BTreeSet<HostId>,
}

impl Asker {
    pub(super) fn new(directory: Directory, verify: HostVerifier, envelope: HostEnvelope) -> Self {
        let (lately, of_peer) = (LruCache::new(ASKED_MAX), LruCache::new(ASKED_MAX));
        let asked = Asked { lately, of_peer, peers: BTreeSet::new() };
        Self { directory, verify, envelope, asked: Mutex::new(asked) }
    }

    /// Asks the peer who named these hosts, unless that is under way or was done just now.
    pub(super) fn ask(self: &Arc<Self>, connection: &Connection, unknown: BTreeSet<HostId>) {
        let Some(peer) = connection.peer().member().cloned() else { return };
        let hosts = self.asked().due(&peer, unknown, Instant::now());
        if hosts.is_empty() {
            return;
        }
        let (asker, connection) = (self.clone(), connection.clone());
        tokio::spawn(async move {
            let outcome = asker.request(&connection, &hosts).await;
            asker.asked().peers.remove(&peer);
            if let Err(error) = outcome {
                debug!(%peer, %error, "asked for host statements in vain");
            }
        });
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

impl Asked {
    /// Which of `unknown` to ask `peer` for now. If there are any, `peer` counts as being asked.
    fn due(&mut self, peer: &HostId, unknown: BTreeSet<HostId>, now: Instant) -> Vec<HostId> {
        if self.peers.len() >= REQUESTS_MAX || self.peers.contains(peer) {
            return Vec::new();
        }
        let within = |at: Option<&Instant>, pause| at.is_some_and(|at| now < *at + pause);
        let mut due = Vec::new();
        for host in unknown {
            let place = (host.clone(), peer.clone());
            if due.len() == HOSTS_MAX
                || within(self.lately.get(&host), ANOTHER_AFTER)
                || within(self.of_peer.get(&place), AGAIN_AFTER)
            {
                continue;
            }
            self.lately.put(host.clone(), now);
            self.of_peer.put(place, now);
            due.push(host);
        }
        if !due.is_empty() {
            self.peers.insert(peer.clone());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::key;

    fn ids(prefix: &str, count: usize) -> BTreeSet<HostId> {
        let id = |number| HostId::of(&proto::PublicKey::of(&key(&format!("{prefix}{number}"))));
        (0..count).map(id).collect()
    }

    #[test]
    fn r11_a_peer_that_never_answers_stands_in_nobodys_way() {
        let (lately, of_peer) = (LruCache::new(ASKED_MAX), LruCache::new(ASKED_MAX));
        let mut asked = Asked { lately, of_peer, peers: BTreeSet::new() };
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let peers: Vec<HostId> = ids("peer", REQUESTS_MAX + 1).into_iter().collect();
        let hosts = ids("host", 2);
        let [silent, honest] = [&peers[0], &peers[1]];
        assert_eq!(asked.due(silent, hosts.clone(), at(0)).len(), 2);
        assert!(asked.due(silent, ids("made up", 400), at(0)).is_empty(), "one at a time");
        assert!(asked.due(honest, hosts.clone(), at(499)).is_empty(), "it may still answer");
        assert_eq!(asked.due(honest, hosts.clone(), at(500)).len(), 2);
        asked.peers.remove(silent);
        assert!(asked.due(silent, hosts, at(2_999)).is_empty(), "asked just now");
        assert_eq!(asked.due(silent, ids("made up", 400), at(2_999)).len(), HOSTS_MAX);
        for (number, peer) in peers.iter().enumerate().skip(2) {
            let asks = asked.due(peer, ids(&format!("{number} "), 1), at(3_000));
            assert_eq!(asks.len(), usize::from(number < REQUESTS_MAX), "peer {number}");
        }
    }
}
