//! Connections kept for reuse: single flight per address, few dials at a time, bounded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use tokio::sync::{Semaphore, watch};

use crate::alpn::Alpn;
use crate::connection::Connection;
use crate::directory::Expect;
use crate::endpoint::{ConnectError, Endpoint};

/// Dials under way at a time: each costs a handshake on both sides.
const DIALS_MAX: usize = 4;

type Outcome = Option<Result<Connection, ConnectError>>;

/// Connections of one protocol. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    alpn: Alpn,
    dials: Semaphore,
    state: Mutex<State>,
}

struct State {
    ready: LruCache<SocketAddr, Connection>,
    dialling: BTreeMap<(SocketAddr, Expect), watch::Receiver<Outcome>>,
}

impl Pool {
    pub(crate) fn new(endpoint: Endpoint, alpn: Alpn, capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        let state = State { ready: LruCache::new(capacity), dialling: BTreeMap::new() };
        let dials = Semaphore::new(DIALS_MAX);
        Self { shared: Arc::new(Shared { endpoint, alpn, dials, state: Mutex::new(state) }) }
    }

    /// A connection to `expect` at `addr`: one that is open, or a new one. Whoever asks while it is
    /// being dialled gets the same. Dropping the future does not stop the dial. What the pool lets
    /// go, because it holds too many, stays open for as long as somebody holds it.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; every asker of one dial gets the same.
    pub async fn get(
        &self,
        expect: impl Into<Expect>,
        addr: SocketAddr,
    ) -> Result<Connection, ConnectError> {
        let mut outcome = match self.shared.find_or_dial(expect.into(), addr) {
            Found::Ready(connection) => return Ok(connection),
            Found::Dialling(outcome) => outcome,
        };
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(ConnectError::Timeout { addr })),
            // The dialling task ended without an outcome: the runtime is shutting down.
            Err(_) => Err(ConnectError::Timeout { addr }),
        }
    }
}

enum Found {
    Ready(Connection),
    Dialling(watch::Receiver<Outcome>),
}

impl Shared {
    fn find_or_dial(self: &Arc<Self>, expect: Expect, addr: SocketAddr) -> Found {
        let mut state = self.state();
        if state.ready.peek(&addr).is_some_and(Connection::is_closed) {
            state.ready.pop(&addr);
        }
        if let Some(connection) = state.ready.get(&addr)
            && expect.met_by(connection.peer())
        {
            return Found::Ready(connection.clone());
        }
        let flight = (addr, expect);
        if let Some(outcome) = state.dialling.get(&flight) {
            return Found::Dialling(outcome.clone());
        }
        let (done, outcome) = watch::channel(None);
        state.dialling.insert(flight.clone(), outcome.clone());
        drop(state);
        let shared = self.clone();
        tokio::spawn(async move {
            let dialled = shared.dial(&flight).await;
            shared.landed(&flight, &dialled);
            // Nobody may be waiting any more.
            let _ = done.send(Some(dialled));
        });
        Found::Dialling(outcome)
    }

    async fn dial(
        &self,
        (addr, expect): &(SocketAddr, Expect),
    ) -> Result<Connection, ConnectError> {
        let _permit = self.dials.acquire().await;
        self.endpoint.connect(self.alpn, *addr, expect.clone()).await
    }

    fn landed(&self, flight: &(SocketAddr, Expect), dialled: &Result<Connection, ConnectError>) {
        let mut state = self.state();
        state.dialling.remove(flight);
        if let Ok(connection) = dialled {
            state.ready.put(flight.0, connection.clone());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
