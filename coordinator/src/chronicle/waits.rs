//! What is told only once it has lasted: a flicker is no event.

use std::collections::BTreeMap;

use proto::{Digest, HostId, Service, UnixTime};

use super::stance::Stance;

/// What may be told soon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    Stance(Digest, Stance),
    /// Another end of a rollout may be proven.
    Proof(Digest, Stance),
    /// Of a rollout that was stopped no host that is heard has anything.
    Returned(Digest),
    /// A rollout is not known any more.
    Vanished(Digest),
    Silent(HostId),
    Back(HostId),
    /// A service is again what was released.
    Mended(HostId, Service),
}

/// Since when, by this machine's clock that never steps. Not kept: after a restart all begin anew.
#[derive(Debug, Clone, Default)]
pub(super) struct Waits {
    /// When the first look was.
    began_ms: Option<u64>,
    now_ms: u64,
    before: BTreeMap<Wait, u64>,
    after: BTreeMap<Wait, u64>,
}

impl Waits {
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.began_ms.get_or_insert(now_ms);
        self.now_ms = now_ms;
    }

    /// Whether it has lasted for so long. Asked in every look in which it is so; one in which nobody asks
    /// ends it.
    pub(super) fn lasts(&mut self, wait: Wait, for_ms: u64) -> bool {
        let since_ms = self.before.get(&wait).copied().unwrap_or(self.now_ms);
        self.after.insert(wait, since_ms);
        self.now_ms.saturating_sub(since_ms) >= for_ms
    }

    /// When what [has lasted](Self::lasts) began, as far as it was looked at: what it had to last for is no
    /// part of what is measured. `now`: of this look.
    pub(super) fn began(&self, wait: &Wait, now: UnixTime) -> UnixTime {
        let since_ms = self.after.get(wait).copied().unwrap_or(self.now_ms);
        UnixTime(now.0.saturating_sub(self.now_ms.saturating_sub(since_ms) / 1_000))
    }

    /// Whether the first look is so long ago.
    pub(super) fn has_looked_for(&self, for_ms: u64) -> bool {
        self.began_ms.is_some_and(|began_ms| self.now_ms.saturating_sub(began_ms) >= for_ms)
    }

    pub(super) fn end(&mut self) {
        self.before = std::mem::take(&mut self.after);
    }
}
