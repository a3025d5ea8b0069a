//! Who may change what stands in `releases/`, and for how long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Of one service. Who takes both turns takes the one to stage first.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Held for as long as a release is being unpacked, which may be minutes: two never write to one
    /// place, and what they write is not swept away.
    staging: Mutex<()>,
    /// So many wait for it.
    waiting: AtomicUsize,
    /// Held while releases lose their names, and by nothing that unpacks.
    clearing: Mutex<()>,
}

impl Turns {
    /// Waits for whatever is being staged.
    pub(super) fn stage(&self) -> MutexGuard<'_, ()> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        turn
    }

    /// None: something is being staged.
    pub(super) fn try_stage(&self) -> Option<MutexGuard<'_, ()>> {
        match self.staging.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether somebody waits to stage: what only mends gives way then.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Waits for whatever is being cleared away.
    pub(super) fn clear(&self) -> MutexGuard<'_, ()> {
        self.clearing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
