//! Until when a rollout starts something new (R7).

use proto::UnixTime;
use proto::statement::{Direction, Rollout, Root};

/// Until when a rollout starts something new: it expires by itself, and none outlives the root in
/// force. A new root with a later expiry lets it go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// A rollback does not expire.
    pub direction: Direction,
    pub rollout: UnixTime,
    pub root: UnixTime,
}

/// What has expired, and so what a person can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    Rollout,
    Root,
    Both,
}

impl Expiry {
    /// Of a rollout under the root in force.
    pub const fn of(rollout: &Rollout, root: &Root) -> Self {
        Self { direction: rollout.direction, rollout: rollout.expires, root: root.expires }
    }

    /// From then on nothing new starts, unless it is a rollback.
    pub fn at(self) -> UnixTime {
        self.rollout.min(self.root)
    }

    /// What keeps it from starting something new at this time, if anything does.
    pub fn expired(self, now: UnixTime) -> Option<Expired> {
        match (now >= self.rollout, now >= self.root) {
            _ if self.direction == Direction::Rollback => None,
            (false, false) => None,
            (true, false) => Some(Expired::Rollout),
            (false, true) => Some(Expired::Root),
            (true, true) => Some(Expired::Both),
        }
    }
}
