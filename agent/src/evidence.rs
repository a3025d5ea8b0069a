//! What is kept of attempts that have ended, one file each, for `swell logs` and `swell explain --host`:
//!
//! ```text
//! STATE_DIR/evidence/SERVICE/
//!   00000000000000000007-DIGEST.json    attempt 7, and the receipt that told of its end
//! ```
//!
//! Readable by the agent's user alone, in bounds ([`Evidence::bounded`]), for `keep_logs_days` and at most
//! [`KEPT_BYTES_MAX`] of a service: the oldest goes first. Of the last attempt the name stays, with nothing
//! in it: its end is told again at each start of the agent, and must not be taken for a new one. It is
//! written after the attempt and nobody waits for it: where the disk is full there is none, and that is
//! logged. It never leaves the host but for a person who asks.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use durable::{
    Disk as _, Kind, RealDisk, create_secret, is_leftover, make_secret_dir, read_secret,
};
use proto::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use proto::{Digest, Service, UnixTime};

/// So much of a service is kept, in bytes: more than two hundred attempts, however much they said.
pub const KEPT_BYTES_MAX: u64 = 64 << 20;
/// A file takes whole blocks of a disk; so there are at most 16384 of a service.
const BLOCK_BYTES: u64 = 4 << 10;

/// Where the evidence of one service lies.
#[derive(Debug, Clone)]
pub struct Drawer(PathBuf);

impl Drawer {
    /// Below `directory`, which belongs to all services.
    pub fn new(directory: &Path, service: &Service) -> Self {
        Self(directory.join(service.to_string()))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether this attempt was kept already: its end is told again and again.
    pub fn holds(&self, attempt: u64) -> bool {
        self.names().iter().any(|(of, _)| *of == attempt)
    }

    /// Keeps it. Durable when this returns.
    ///
    /// # Errors
    ///
    /// What could not be made or written.
    pub fn keep(&self, evidence: Evidence) -> Result<()> {
        make_secret_dir(&self.0).with_context(|| format!("cannot make {}", self.0.display()))?;
        let evidence = evidence.bounded();
        let name = format!("{:020}-{:#}.json", evidence.attempt, evidence.receipt);
        Ok(create_secret(&self.0.join(name), &evidence.to_json())?)
    }

    /// The newest there is of this rollout with a number below `before`, and where it lies. A file that
    /// does not read is left out, and that is logged: it hides no other.
    pub fn find(&self, rollout: &Digest, before: Option<u64>) -> Option<(PathBuf, Evidence)> {
        let names = self.names();
        let asked = names.iter().rev().filter(|(of, _)| before.is_none_or(|before| *of < before));
        let mut read = asked.filter_map(|(_, name)| {
            let path = self.0.join(name);
            match read(&path) {
                Ok(evidence) => Some((path, evidence?)),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "evidence that does not read");
                    None
                }
            }
        });
        read.find(|(_, evidence)| evidence.rollout == *rollout)
    }

    /// Removes what was written longer before `now` than `keep`, what is too much, and what a power cut left half
    /// written. A file's own time of writing counts, so that one that does not read goes, too, and none
    /// has to be read; one that is of the future, by a clock that was wrong, is of now.
    ///
    /// # Errors
    ///
    /// Of the file system; what was to be removed later is still there then.
    pub fn clear(&self, now: UnixTime, keep: Duration) -> io::Result<()> {
        let (now, mut bytes) = (SystemTime::UNIX_EPOCH + Duration::from_secs(now.0), 0);
        for (place, (_, name)) in self.names().iter().rev().enumerate() {
            let path = self.0.join(name);
            let Some(Kind::File { bytes: own }) = RealDisk.kind(&path)? else { continue };
            let age = now.duration_since(RealDisk.written(&path)?).unwrap_or_default();
            bytes += own.next_multiple_of(BLOCK_BYTES);
            if age <= keep && bytes <= KEPT_BYTES_MAX {
                continue;
            }
            match place {
                // Emptied, once.
                0 if own > 0 => drop(File::create(&path)?),
                0 => {}
                _ => RealDisk.remove_file(&path)?,
            }
        }
        for name in self.list().iter().filter(|name| is_leftover(OsStr::new(name))) {
            RealDisk.remove_file(&self.0.join(name))?;
        }
        Ok(())
    }

    /// The number and the name of each attempt, oldest first.
    fn names(&self) -> Vec<(u64, String)> {
        let number = |name: &str| name.strip_suffix(".json")?.split_once('-')?.0.parse().ok();
        let named = |name: String| Some((number(&name)?, name));
        self.list().into_iter().filter_map(named).collect()
    }

    /// All there is, in the order of names, which is that of numbers.
    fn list(&self) -> Vec<String> {
        let names = RealDisk.list(&self.0).unwrap_or_default();
        names.into_iter().filter_map(|name| name.into_string().ok()).collect()
    }
}

/// None: it was kept long enough.
fn read(path: &Path) -> Result<Option<Evidence>> {
    match &read_secret(path, EVIDENCE_BYTES_MAX as u64)?[..] {
        [] => Ok(None),
        bytes => Ok(Some(serde_json::from_slice(bytes)?)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proto::evidence::Sample;
    use proto::receipt::{Cause, State};

    use super::*;

    fn evidence(attempt: u64, rollout: &str) -> Evidence {
        Evidence {
            service: "web".parse().unwrap(),
            attempt,
            receipt: Digest::of(&attempt.to_be_bytes()),
            rollout: Digest::of(rollout.as_bytes()),
            release: Digest::of(b"release"),
            version: "2".parse().unwrap(),
            state: State::Reverted,
            cause: Some(Cause::Release),
            note: "start exited 3".to_owned(),
            kept: UnixTime(9),
            samples: Vec::new(),
            log: "no such table".to_owned(),
            journal: String::new(),
        }
    }

    fn drawer(directory: &Path) -> Drawer {
        Drawer::new(&directory.join("evidence"), &"web".parse().unwrap())
    }

    #[test]
    fn it_is_found_again_and_readable_by_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let drawer = drawer(directory.path());
        let (open, other) = (Digest::of(b"open"), Digest::of(b"other"));
        assert!(drawer.find(&open, None).is_none() && !drawer.holds(2));
        for (attempt, rollout) in [(2, "open"), (10, "open"), (11, "other")] {
            drawer.keep(evidence(attempt, rollout)).unwrap();
        }
        let (path, found) = drawer.find(&open, None).unwrap();
        assert_eq!(found, evidence(10, "open"), "the newest of this rollout");
        assert!(drawer.holds(2) && drawer.holds(10) && !drawer.holds(1) && !drawer.holds(3));
        let name = path.file_name().unwrap().to_str().unwrap();
        let receipt = Digest::of(&10_u64.to_be_bytes());
        assert_eq!(name, format!("00000000000000000010-{receipt:#}.json"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(mode(path.parent().unwrap().parent().unwrap()), 0o700);

        let (path, _) = drawer.find(&other, None).unwrap();
        std::fs::write(&path, "{").unwrap();
        assert!(drawer.find(&other, None).is_none());
        assert_eq!(drawer.find(&open, None).unwrap().1, found, "it hides no other");
    }

    #[test]
    fn all_attempts_of_a_rollout_are_found_from_the_newest_down() {
        let directory = tempfile::tempdir().unwrap();
        let drawer = drawer(directory.path());
        for (attempt, rollout) in [(2, "open"), (9, "other"), (10, "open"), (11, "open")] {
            drawer.keep(evidence(attempt, rollout)).unwrap();
        }
        let open = Digest::of(b"open");
        let before = |number| drawer.find(&open, number).map(|(_, found)| found.attempt);
        let found = [None, Some(11), Some(10), Some(9), Some(2), Some(0)].map(before);
        assert_eq!(found, [Some(11), Some(10), Some(2), Some(2), None, None]);
    }

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: UnixTime = UnixTime(1_800_000_000);

    /// As if it had been written so many days before now.
    fn age(drawer: &Drawer, attempt: u64, days: u32) {
        written(drawer, attempt, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.0) - days * DAY);
    }

    fn written(drawer: &Drawer, attempt: u64, at: SystemTime) {
        let (_, name) = drawer.names().into_iter().find(|(of, _)| *of == attempt).unwrap();
        let file = File::options().append(true).open(drawer.0.join(name)).unwrap();
        file.set_modified(at).unwrap();
    }

    fn numbers(drawer: &Drawer) -> Vec<u64> {
        drawer.names().into_iter().map(|(of, _)| of).collect()
    }

    #[test]
    fn what_was_kept_long_enough_goes_and_is_not_kept_anew() {
        let directory = tempfile::tempdir().unwrap();
        let drawer = drawer(directory.path());
        let clear = || drawer.clear(NOW, 30 * DAY).unwrap();
        clear();
        for attempt in [3, 4, 5, 6] {
            drawer.keep(evidence(attempt, "open")).unwrap();
        }
        std::fs::write(drawer.0.join(".00-torn.json.1f.tmp"), "{").unwrap();
        [(3, 31), (4, 30), (6, 0)].into_iter().for_each(|(one, days)| age(&drawer, one, days));
        let future = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.0) + 400 * DAY;
        written(&drawer, 5, future);
        clear();
        assert_eq!(numbers(&drawer), [4, 5, 6], "the clock of the one was wrong");
        assert_eq!(drawer.list().len(), 3, "nor what was half written");
        [(5, 31), (6, 31)].into_iter().for_each(|(one, days)| age(&drawer, one, days));
        for _ in 0..2 {
            clear();
            assert_eq!(numbers(&drawer), [4, 6]);
        }
        // Its end is told again and again.
        assert!(drawer.holds(6));
        assert_eq!(drawer.find(&Digest::of(b"open"), None).unwrap().1.attempt, 4);
        drawer.keep(evidence(7, "open")).unwrap();
        [(6, 31), (7, 0)].into_iter().for_each(|(one, days)| age(&drawer, one, days));
        clear();
        assert_eq!(numbers(&drawer), [4, 7]);
    }

    #[test]
    fn there_is_never_too_much_of_it_and_the_oldest_goes_first() {
        let directory = tempfile::tempdir().unwrap();
        let drawer = drawer(directory.path());
        let sample = |n| Sample {
            first: UnixTime(n),
            last: UnixTime(n),
            times: 1,
            text: "\"".repeat(9_000),
        };
        let samples: Vec<_> = (0..1_000).map(sample).collect();
        let log = "\u{0}\"".repeat(1 << 20);
        let long = Evidence { log, samples, ..evidence(1, "open") };
        drawer.keep(long).unwrap();
        let bytes = drawer.0.join(&drawer.names()[0].1).metadata().unwrap().len();
        assert!((1..=EVIDENCE_BYTES_MAX as u64).contains(&bytes), "{bytes}");
        // So many of a MiB each fit, and those after them do not, however young.
        for attempt in 2..=80 {
            drawer.keep(evidence(attempt, "open")).unwrap();
            let file = drawer.0.join(&drawer.names().last().unwrap().1);
            File::options().append(true).open(file).unwrap().set_len(1 << 20).unwrap();
        }
        drawer.clear(NOW, 36_500 * DAY).unwrap();
        assert_eq!(numbers(&drawer), (17..=80).collect::<Vec<_>>());
    }

    #[test]
    fn where_nothing_can_be_written_that_is_said_and_no_more() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("evidence"), "a file").unwrap();
        let error = drawer(directory.path()).keep(evidence(1, "open")).unwrap_err();
        assert!(error.to_string().starts_with("cannot make "), "{error}");
        assert!(!drawer(directory.path()).holds(1));
    }
}
