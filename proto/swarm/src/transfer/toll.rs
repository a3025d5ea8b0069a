//! What passes waits here for its turn: [`Ceiling`] with a clock and somebody to wake.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::Digest;
use tokio::sync::watch;
use tokio::time::{self, Instant};

use crate::plan::{Ceiling, ClaimId};

/// One way of this member, out or in. Cheap to clone: all clones are one.
#[derive(Clone)]
pub(crate) struct Toll(Arc<Shared>);

struct Shared {
    ceiling: Mutex<Ceiling>,
    /// Something has changed: who waits looks again.
    changed: watch::Sender<()>,
    zero: Instant,
}

impl Default for Toll {
    fn default() -> Self {
        let (ceiling, changed) = Default::default();
        Self(Arc::new(Shared { ceiling, changed, zero: Instant::now() }))
    }
}

impl Toll {
    /// In bytes per second; none: as many as the line carries.
    pub(crate) fn set_rate(&self, rate: Option<u64>) {
        self.ceiling().set_rate(rate, self.ms(Instant::now()));
        self.0.changed.send_replace(());
    }

    /// The artifacts that go first.
    pub(crate) fn set_first(&self, first: BTreeSet<Digest>) {
        self.ceiling().set_first(first);
        self.0.changed.send_replace(());
    }

    /// Somebody who will have to pass. `usual`: not first, whatever the artifact.
    pub(super) fn enter(&self, artifact: Digest, usual: bool) -> Passer {
        let id = self.ceiling().enter(artifact, usual);
        Passer { toll: self.clone(), id, changed: self.0.changed.subscribe() }
    }

    fn ceiling(&self) -> MutexGuard<'_, Ceiling> {
        self.0.ceiling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes who is in line, and wakes those that are.
    fn change(&self, change: impl FnOnce(&mut Ceiling)) {
        let mut ceiling = self.ceiling();
        change(&mut ceiling);
        let somebody_waits = ceiling.is_waited_for();
        drop(ceiling);
        if somebody_waits {
            self.0.changed.send_replace(());
        }
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from((at - self.0.zero).as_millis()).unwrap_or(u64::MAX)
    }
}

/// An upload or a fetch, until it is dropped.
pub(super) struct Passer {
    toll: Toll,
    id: ClaimId,
    changed: watch::Receiver<()>,
}

impl Passer {
    /// How much of `bytes` of an upload to send at a time.
    pub(super) fn chunk_bytes(&self, bytes: usize) -> usize {
        let chunk = self.toll.ceiling().chunk_bytes();
        chunk.map_or(bytes, |chunk| usize::try_from(chunk).unwrap_or(bytes).min(bytes))
    }

    /// Passes with so many bytes if it may now, else stands in line.
    ///
    /// # Errors
    ///
    /// When to try again, if [`Self::changed`] does not tell before.
    pub(super) fn try_pass(&mut self, bytes: u64) -> Result<Pass, Instant> {
        // Before the look: what changes after it is news.
        self.changed.mark_unchanged();
        let now_ms = self.toll.ms(Instant::now());
        let passed = self.toll.ceiling().pass(self.id, bytes, now_ms);
        passed.map_err(|at_ms| self.toll.0.zero + Duration::from_millis(at_ms))?;
        // Somebody else is the next one now.
        self.toll.change(|_| {});
        Ok(Pass { toll: self.toll.clone(), id: self.id, unused: bytes.into() })
    }

    /// Waits until so many bytes may pass.
    pub(super) async fn pass(&mut self, bytes: u64) -> Pass {
        loop {
            match self.try_pass(bytes) {
                Ok(pass) => return pass,
                Err(until) => drop(time::timeout_at(until, self.changed()).await),
            }
        }
    }

    /// Waits until somebody else has passed or gone, or the rate is another one.
    pub(super) async fn changed(&mut self) {
        // The sender is held here, too.
        let _ = self.changed.changed().await;
    }

    /// Stands in line no more.
    pub(super) fn rest(&self) {
        self.toll.change(|ceiling| ceiling.rest(self.id));
    }
}

impl Drop for Passer {
    fn drop(&mut self) {
        self.toll.change(|ceiling| ceiling.leave(self.id));
    }
}

/// Leave to pass with so many bytes, under way until it is dropped. What of them was not
/// [used](Self::used), others may use then.
pub(super) struct Pass {
    toll: Toll,
    id: ClaimId,
    unused: AtomicU64,
}

impl Pass {
    /// So many bytes pass, or begin to.
    pub(super) fn used(&self, bytes: u64) {
        let left = |unused: u64| Some(unused.saturating_sub(bytes));
        // Never refused.
        let _ = self.unused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let unused = *self.unused.get_mut();
        self.toll.change(|ceiling| ceiling.over(self.id, unused));
    }
}
