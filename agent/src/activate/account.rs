//! What there is to see of the last attempt, for whoever asks later ([`crate::evidence`]).

use member::clock;
use proto::evidence::Sample;
use proto::{Digest, UnixTime};

use super::journal::Journal;
use super::{Activator, Installed, layout};
use crate::services::{Way, Words};

/// How far back a journal is read where nobody knows any more when the attempt began: the agent, which
/// knew, has ended since.
const LOOK_BACK_S: u64 = 600;
/// What happened just before is part of it.
const BEFORE_S: u64 = 5;

/// The last attempt of a service, as far as it can be told at once; the rest is told by
/// [`Activator::words`].
#[derive(Debug, Clone)]
pub struct Attempt {
    pub number: u64,
    /// What was brought, or what was left on the way back.
    pub release: Installed,
    pub samples: Vec<Sample>,
    since: UnixTime,
}

impl Activator {
    /// The last attempt, if it brought `release` or left it, and that is still on this disk. A host whose
    /// newest rollout never came to an attempt of its own has only older ones, of other releases.
    pub fn last_attempt(&self, release: &Digest) -> Option<Attempt> {
        let (since, _) = self.trail.read();
        let journal = Journal::load(&*self.disk, &self.journal).ok()??;
        if journal.to != *release {
            return None;
        }
        let release = layout::installed(&*self.disk, &self.paths, release).ok()?;
        let back = |from: UnixTime, s| UnixTime(from.0.saturating_sub(s));
        let since = since
            .map_or_else(|| back(clock::now().unix, LOOK_BACK_S), |since| back(since, BEFORE_S));
        let samples = self.services.seen(self.call(&release, None, Way::Back));
        Some(Attempt { number: journal.attempt, release, samples, since })
    }

    /// The last words of the release of an attempt. Reads a journal, which may take long.
    pub fn words(&self, attempt: &Attempt) -> Words {
        self.services.words(self.call(&attempt.release, None, Way::Back), attempt.since)
    }
}
