//! What there is to see of the last attempt, for the evidence of it.

use member::clock;
use proto::evidence::Sample;
use proto::{Digest, UnixTime, Version};

use super::journal::Journal;
use super::{Activator, layout};
use crate::services::{Way, Words};

/// How far back a journal is read where nobody knows any more when the attempt began: the agent, which
/// knew, has ended since.
const LOOK_BACK_S: u64 = 600;
/// What happened just before is part of it.
const BEFORE_S: u64 = 5;

/// The last attempt of a service, as far as it can be seen now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub attempt: u64,
    /// What was brought, or what was left on the way back.
    pub release: Digest,
    pub version: Version,
    pub samples: Vec<Sample>,
    pub words: Words,
}

impl Activator {
    /// The number of the last attempt; none: there was none, or the journal does not read.
    pub fn last_attempt(&self) -> Option<u64> {
        Some(Journal::load(&*self.disk, &self.journal).ok()??.attempt)
    }

    /// What there is to see of the last attempt. None: there was none, or its release is not on this
    /// disk.
    pub fn account(&self) -> Option<Account> {
        let (since, _) = self.trail.read();
        let journal = Journal::load(&*self.disk, &self.journal).ok()??;
        let release = layout::installed(&*self.disk, &self.paths, &journal.to).ok()?;
        let back = |from: UnixTime, s| UnixTime(from.0.saturating_sub(s));
        let since = since
            .map_or_else(|| back(clock::now().unix, LOOK_BACK_S), |since| back(since, BEFORE_S));
        let call = self.call(&release, None, Way::Back);
        let (samples, words) = (self.services.seen(call), self.services.words(call, since));
        let version = release.release.version;
        Some(Account { attempt: journal.attempt, release: release.id, version, samples, words })
    }
}
