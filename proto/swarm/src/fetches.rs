//! The fetches of this run, as they are told to people and counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::Digest;
use proto::record::{
    FETCH_BANNED_MAX, FETCH_BYTES_MAX, FETCH_STILL_S_MAX, FetchRecord, FetchSources, SLOTS, Stall,
    StallRecord,
};
use tokio::sync::{Notify, watch};

use crate::plan;
use crate::transfer::fetch::Progress;

/// Fetches that have ended and are still told of: of each artifact that is announced, and some.
const ENDED_MAX: usize = 2 * SLOTS;

/// What was fetched since the start, from all fetches together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchCounts {
    /// See [`Progress`].
    pub bytes_from_peers: u64,
    pub bytes_from_origin: u64,
    pub bytes_here: u64,
    pub bytes_patched: u64,
    pub pieces_verified: u64,
    pub pieces_wrong: u64,
    /// Under way now, those that wait for the one before them with them.
    pub running: usize,
    /// Members that these ask, each counted once for each fetch.
    pub peers: usize,
}

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Fetches(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    begun: Notify,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    running: Vec<(Digest, watch::Receiver<Progress>)>,
    /// The last fetch of each artifact, the last to end last.
    ended: Vec<(Digest, Progress)>,
    /// Of all that ended.
    counts: FetchCounts,
}

impl Fetches {
    /// One begins.
    pub(crate) fn add(&self, artifact: Digest, progress: watch::Receiver<Progress>) {
        self.state().running.push((artifact, progress));
        self.0.begun.notify_one();
    }

    /// Waits until one begins, unless one has since this was called last.
    pub(crate) async fn begun(&self) {
        self.0.begun.notified().await;
    }

    pub(crate) fn any_runs(&self) -> bool {
        !self.state().running.is_empty()
    }

    /// What there is to tell of each artifact: of the fetch under way, whoever waits for that, or of the last
    /// one.
    pub(crate) fn records(&self) -> Vec<(Digest, FetchRecord)> {
        let state = self.state();
        let mut records: Vec<(Digest, FetchRecord)> = Vec::new();
        for (artifact, progress) in &state.running {
            let progress = progress.borrow();
            let waits = progress.stall == Some(plan::Stall::Waits);
            if !waits && records.iter().all(|(known, _)| known != artifact) {
                records.push((*artifact, record(&progress, true)));
            }
        }
        for (artifact, progress) in &state.ended {
            if records.iter().all(|(known, _)| known != artifact) {
                records.push((*artifact, record(progress, false)));
            }
        }
        records
    }

    /// What only rises never falls from one call to the next.
    pub(crate) fn counts(&self) -> FetchCounts {
        let state = self.state();
        let mut counts = state.counts;
        for (_, progress) in &state.running {
            let progress = progress.borrow();
            counts.add(&progress);
            counts.running += 1;
            counts.peers += progress.peers.len();
        }
        counts
    }

    /// The state, in which nothing that has ended runs.
    fn state(&self) -> MutexGuard<'_, State> {
        // It is changed by single pushes and removes: a panic elsewhere leaves it whole.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle();
        state
    }
}

impl State {
    /// A fetch that has ended has let go of its side of the progress.
    fn settle(&mut self) {
        let ended = self.running.extract_if(.., |(_, progress)| progress.has_changed().is_err());
        for (artifact, progress) in ended {
            let progress = progress.borrow().clone();
            self.counts.add(&progress);
            self.ended.retain(|(known, _)| *known != artifact);
            self.ended.push((artifact, progress));
        }
        let over = self.ended.len().saturating_sub(ENDED_MAX);
        self.ended.drain(..over);
    }
}

impl FetchCounts {
    fn add(&mut self, progress: &Progress) {
        self.bytes_from_peers += progress.bytes_from_peers;
        self.bytes_from_origin += progress.bytes_from_origin;
        self.bytes_here += progress.bytes_here;
        self.bytes_patched += progress.bytes_patched;
        self.pieces_verified += progress.verified;
        self.pieces_wrong += progress.wrong;
    }
}

/// What is told of a fetch, within the bounds of what is gossiped.
fn record(progress: &Progress, running: bool) -> FetchRecord {
    let bytes = |count: u64| count.min(FETCH_BYTES_MAX);
    let sums = FetchRecord {
        bytes: bytes(progress.bytes),
        from: FetchSources {
            peers: bytes(progress.bytes_from_peers),
            origin: bytes(progress.bytes_from_origin),
            here: bytes(progress.bytes_here),
            patched: bytes(progress.bytes_patched),
        },
        banned: progress.banned.iter().take(FETCH_BANNED_MAX).cloned().collect(),
        ..FetchRecord::default()
    };
    if !running {
        return sums;
    }
    FetchRecord {
        running,
        bytes_per_s: bytes(progress.bytes_per_s),
        peers: u8::try_from(progress.peers.len()).unwrap_or(u8::MAX),
        still_s: coarse(progress.still_s),
        stall: progress.stall.as_ref().and_then(stall_record),
        ..sums
    }
}

/// Said anew every second, it would be the traffic of a fetch in which nothing happens.
fn coarse(seconds: u64) -> u32 {
    let step = match seconds {
        0..10 => 1,
        10..60 => 10,
        _ => 60,
    };
    u32::try_from(seconds - seconds % step).unwrap_or(u32::MAX).min(FETCH_STILL_S_MAX)
}

const fn stall_record(stall: &plan::Stall) -> Option<StallRecord> {
    let (why, pieces) = match *stall {
        plan::Stall::NoManifest => (Stall::NoManifest, 0),
        plan::Stall::NoPeers { missing } => (Stall::NoPeers, missing),
        plan::Stall::NoHolder { without, .. } => (Stall::NoHolder, without),
        plan::Stall::Busy { missing } => (Stall::Busy, missing),
        // The fetch that it waits for is told of.
        plan::Stall::Waits => return None,
    };
    Some(StallRecord { why, pieces })
}

#[cfg(test)]
mod tests {
    use proto::HostId;
    use proto::record::{Lie, ProgressRecord, VALUE_BYTES_MAX, to_text};

    use super::*;
    use crate::tests::kit::host_id;

    fn names(count: usize) -> Vec<HostId> {
        (0..count).map(|index| host_id(&index.to_string())).collect()
    }

    #[test]
    fn sums_stay_when_a_fetch_ends_and_never_fall() {
        let (fetches, artifact) = (Fetches::default(), Digest::of(b"artifact"));
        let begun = Progress { peers: names(2), ..Progress::default() };
        let (first, progress) = watch::channel(begun.clone());
        fetches.add(artifact, progress);
        let more = |verified, origin| Progress {
            verified,
            bytes_from_origin: origin,
            bytes: 100 + origin,
            bytes_per_s: 7,
            banned: vec![(host_id("liar"), Lie::NotThere)],
            ..begun.clone()
        };
        first.send_replace(more(3, 30));
        let counts = fetches.counts();
        assert_eq!((counts.running, counts.peers), (1, 2));
        assert_eq!((counts.pieces_verified, counts.bytes_from_origin), (3, 30));
        let [(_, told)] = &fetches.records()[..] else { panic!() };
        assert_eq!((told.running, told.bytes_per_s, told.peers, told.bytes), (true, 7, 2, 130));
        drop(first);
        assert!(!fetches.any_runs());
        let [(_, told)] = &fetches.records()[..] else { panic!() };
        assert_eq!((told.running, told.bytes_per_s, told.peers, told.bytes), (false, 0, 0, 130));
        assert_eq!(told.banned, [(host_id("liar"), Lie::NotThere)].into());

        let (second, progress) = watch::channel(more(1, 10));
        fetches.add(artifact, progress);
        assert_eq!(fetches.counts().bytes_from_origin, 40);
        let [(_, told)] = &fetches.records()[..] else { panic!("one artifact is told of once") };
        assert_eq!((told.running, told.bytes), (true, 110));
        drop(second);
        assert_eq!((fetches.counts().bytes_from_origin, fetches.counts().running), (40, 0));
    }

    #[test]
    fn what_ended_is_told_of_a_few_artifacts_only() {
        let fetches = Fetches::default();
        for index in 0..3 * ENDED_MAX {
            let (_, progress) = watch::channel(Progress { verified: 1, ..Progress::default() });
            fetches.add(Digest::of(&index.to_be_bytes()), progress);
        }
        assert_eq!(fetches.records().len(), ENDED_MAX);
        assert_eq!(fetches.counts().pieces_verified, 3 * ENDED_MAX as u64);
    }

    #[test]
    fn r11_whatever_a_fetch_comes_to_fits_into_a_value() {
        let progress = Progress {
            bytes: u64::MAX,
            bytes_per_s: u64::MAX,
            bytes_from_peers: u64::MAX,
            bytes_from_origin: u64::MAX,
            bytes_here: u64::MAX,
            bytes_patched: u64::MAX,
            peers: names(300),
            banned: names(300).into_iter().map(|host| (host, Lie::WrongBytes)).collect(),
            stall: Some(plan::Stall::NoManifest),
            still_s: u64::MAX,
            ..Progress::default()
        };
        let (artifact, pieces) = (Digest::of(b""), 64 << 13);
        let fetch = Some(record(&progress, true));
        let text = to_text(&ProgressRecord { artifact, pieces, of: pieces, fetch });
        assert!(text.len() <= VALUE_BYTES_MAX, "{} bytes: {text}", text.len());
    }

    #[test]
    fn the_longer_nothing_comes_the_more_seldom_that_is_said_anew() {
        let rows = [(0, 0), (9, 9), (10, 10), (19, 10), (59, 50), (60, 60), (119, 60), (120, 120)];
        for (seconds, told) in rows {
            assert_eq!(coarse(seconds), told, "{seconds} s");
        }
        assert_eq!(coarse(u64::MAX), FETCH_STILL_S_MAX);
        let told: std::collections::BTreeSet<_> = (0..3_600).map(coarse).collect();
        assert!(told.len() < 80, "{} values in an hour", told.len());
    }
}
