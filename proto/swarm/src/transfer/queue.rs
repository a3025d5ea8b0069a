//! Asks for pieces wait here for their turn: [`Uploads`] with a clock and somebody to wake.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::{Peer, SendStream};
use proto::Digest;
use tokio::sync::oneshot;
use tokio::time::{self, Instant};

use crate::plan::{Given, Ticket, UPLOAD_SLOW_MS, Uploads, WAIT_MS_MAX, What};
use crate::store::Store;

/// How waiting for a turn ended.
pub(super) enum Turn {
    /// This piece is to be given; the next turn is somebody else's once the place is dropped.
    Comes(u32, Place),
    NothingNew,
    /// Too many wait, it took too long, or uploads rest.
    Busy,
    /// Who asked wants it no more.
    Gone,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Queue {
    state: Arc<Mutex<State>>,
    store: Store,
    zero: Instant,
}

#[derive(Default)]
struct State {
    uploads: Uploads<Peer>,
    /// Who waits for which turn.
    turns: BTreeMap<Ticket, oneshot::Sender<Given>>,
    /// Troubles of this host's own that make uploads rest.
    troubles: usize,
}

impl Queue {
    pub(super) fn new(store: Store) -> Self {
        Self { state: Arc::default(), store, zero: Instant::now() }
    }

    /// The artifacts that go first.
    pub(crate) fn set_first(&self, first: BTreeSet<Digest>) {
        self.state().uploads.set_first(first);
        self.advance();
    }

    /// In bytes per second; none: as many as the line carries.
    pub(crate) fn set_rate(&self, rate: Option<u64>) {
        self.state().uploads.set_rate(rate);
        self.advance();
    }

    /// One trouble more, until it is dropped.
    pub(crate) fn trouble(&self) -> Trouble {
        self.count_troubles(|troubles| *troubles += 1);
        Trouble(self.clone())
    }

    fn count_troubles(&self, change: impl FnOnce(&mut usize)) {
        let now_ms = self.now_ms();
        let mut state = self.state();
        change(&mut state.troubles);
        let trouble = state.troubles > 0;
        state.uploads.set_trouble(trouble, now_ms);
        drop(state);
        self.advance();
    }

    /// Waits until `peer` may be given something of `artifact`. `send`: the stream on which it waits.
    pub(super) async fn turn(
        &self,
        peer: &Peer,
        artifact: Digest,
        what: What,
        send: &SendStream,
    ) -> Turn {
        let Some((place, mut turn)) = self.enter(peer, artifact, what) else { return Turn::Busy };
        self.advance();
        let end = Instant::now() + Duration::from_millis(WAIT_MS_MAX);
        let gone = send.stopped();
        tokio::pin!(gone);
        loop {
            // Nothing else tells when an upload begins to count as slow, and makes room.
            let look_again = Instant::now() + Duration::from_millis(UPLOAD_SLOW_MS / 10);
            tokio::select! {
                given = &mut turn => return match given {
                    Ok(Given::Piece(piece)) => Turn::Comes(piece, place),
                    Ok(Given::NothingNew) => Turn::NothingNew,
                    Ok(Given::Busy) | Err(_) => Turn::Busy,
                },
                _ = &mut gone => return Turn::Gone,
                () = time::sleep_until(end.min(look_again)) => {
                    if Instant::now() >= end {
                        return Turn::Busy;
                    }
                    self.advance();
                }
            }
        }
    }

    /// How many asks wait, and how many are answered now.
    pub(super) fn load(&self) -> (usize, usize) {
        self.state().uploads.load()
    }

    fn enter(
        &self,
        peer: &Peer,
        artifact: Digest,
        what: What,
    ) -> Option<(Place, oneshot::Receiver<Given>)> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let ticket = state.uploads.ask(peer.clone(), artifact, what, now_ms)?;
        let (sender, receiver) = oneshot::channel();
        state.turns.insert(ticket, sender);
        Some((Place { queue: self.clone(), ticket, delivered: false }, receiver))
    }

    /// Tells all whose turn has come.
    fn advance(&self) {
        let now_ms = self.now_ms();
        let here = |artifact: &Digest| self.store.pieces(artifact).ok();
        let mut state = self.state();
        while let Some((ticket, given)) = state.uploads.turn(now_ms, here) {
            // Who is gone gives its place back by itself.
            if let Some(turn) = state.turns.remove(&ticket) {
                let _ = turn.send(given);
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something is wrong on this host, until it is dropped: see [`crate::Swarm::trouble`].
#[must_use]
pub struct Trouble(Queue);

impl Drop for Trouble {
    fn drop(&mut self) {
        self.0.count_troubles(|troubles| *troubles -= 1);
    }
}

/// A place in the queue or, later, among those being given; left on drop.
pub(super) struct Place {
    queue: Queue,
    ticket: Ticket,
    delivered: bool,
}

impl Place {
    /// Whether what is given goes first.
    pub(super) fn is_first(&self) -> bool {
        self.queue.state().uploads.is_first(self.ticket)
    }

    /// The asker has all of it.
    pub(super) fn delivered(mut self) {
        self.delivered = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now_ms = self.queue.now_ms();
        let mut state = self.queue.state();
        state.turns.remove(&self.ticket);
        state.uploads.ended(self.ticket, self.delivered, now_ms);
        drop(state);
        self.queue.advance();
    }
}
