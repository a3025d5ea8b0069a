//! What is kept of attempts that ended badly, one file each, for `swell explain --host`:
//!
//! ```text
//! STATE_DIR/evidence/SERVICE/
//!   00000000000000000007-DIGEST.json    attempt 7, and the receipt that told of its end
//! ```
//!
//! Readable by the agent's user alone, in bounds ([`Evidence::bounded`]), [`KEPT_MAX`] of a service: the
//! oldest goes first. It is written after the way back and nobody waits for it: where the disk is full
//! there is none, and that is logged. It never leaves the host but for a person who asks.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use durable::{Disk as _, RealDisk, create_secret, is_leftover, make_secret_dir, read_secret};
use proto::evidence::{EVIDENCE_BYTES_MAX, Evidence};
use proto::{Digest, Service};

/// Evidence of so many attempts of a service is kept.
pub const KEPT_MAX: usize = 8;

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

    /// Whether there is something of this attempt already: its end is told again and again.
    pub fn holds(&self, attempt: u64) -> bool {
        let start = format!("{attempt:020}-");
        self.names().iter().any(|name| name.starts_with(&start))
    }

    /// Keeps it, and clears the oldest away. Durable when this returns.
    ///
    /// # Errors
    ///
    /// What could not be made or written.
    pub fn keep(&self, evidence: Evidence) -> Result<()> {
        make_secret_dir(&self.0).with_context(|| format!("cannot make {}", self.0.display()))?;
        let evidence = evidence.bounded();
        let name = format!("{:020}-{:#}.json", evidence.attempt, evidence.receipt);
        create_secret(&self.0.join(name), &evidence.to_json())?;
        self.tidy().with_context(|| format!("cannot clear {}", self.0.display()))
    }

    /// The newest there is of this rollout, and where it lies. A file that does not read is left out, and
    /// that is logged: it hides no other.
    pub fn find(&self, rollout: &Digest) -> Option<(PathBuf, Evidence)> {
        let names = self.names();
        let kept = names.iter().rev().map(|name| self.0.join(name));
        let mut read = kept.filter_map(|path| match read(&path) {
            Ok(evidence) => Some((path, evidence)),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "evidence that does not read");
                None
            }
        });
        read.find(|(_, evidence)| evidence.rollout == *rollout)
    }

    /// All that is kept, oldest first.
    fn names(&self) -> Vec<String> {
        let names = RealDisk.list(&self.0).unwrap_or_default();
        let kept = names.iter().filter_map(|name| name.to_str());
        kept.filter(|name| name.ends_with(".json")).map(str::to_owned).collect()
    }

    /// Removes what is too much, and what a power cut left half written.
    fn tidy(&self) -> io::Result<()> {
        let names = self.names();
        for name in &names[..names.len().saturating_sub(KEPT_MAX)] {
            RealDisk.remove_file(&self.0.join(name))?;
        }
        for name in RealDisk.list(&self.0)?.iter().filter(|name| is_leftover(OsStr::new(name))) {
            RealDisk.remove_file(&self.0.join(name))?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Evidence> {
    Ok(serde_json::from_slice(&read_secret(path, EVIDENCE_BYTES_MAX as u64)?)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proto::UnixTime;
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
        assert!(drawer.find(&open).is_none() && !drawer.holds(2));
        for (attempt, rollout) in [(2, "open"), (10, "open"), (11, "other")] {
            drawer.keep(evidence(attempt, rollout)).unwrap();
        }
        let (path, found) = drawer.find(&open).unwrap();
        assert_eq!(found, evidence(10, "open"), "the newest of this rollout");
        assert!(drawer.holds(2) && drawer.holds(10) && !drawer.holds(1) && !drawer.holds(3));
        let name = path.file_name().unwrap().to_str().unwrap();
        let receipt = Digest::of(&10_u64.to_be_bytes());
        assert_eq!(name, format!("00000000000000000010-{receipt:#}.json"));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(mode(path.parent().unwrap().parent().unwrap()), 0o700);

        let (path, _) = drawer.find(&other).unwrap();
        std::fs::write(&path, "{").unwrap();
        assert!(drawer.find(&other).is_none());
        assert_eq!(drawer.find(&open).unwrap().1, found, "it hides no other");
    }

    #[test]
    fn the_oldest_goes_first_and_none_is_too_long() {
        let directory = tempfile::tempdir().unwrap();
        let drawer = drawer(directory.path());
        std::fs::create_dir_all(&drawer.0).unwrap();
        std::fs::write(drawer.0.join(".00-torn.json.1f.tmp"), "{").unwrap();
        for attempt in [9, 10, 11, 99, 100, 101, 102, 103, 104, 105] {
            let sample = |n| Sample {
                first: UnixTime(n),
                last: UnixTime(n),
                times: 1,
                text: "\"".repeat(9_000),
            };
            let samples = (0..1_000).map(sample).collect();
            let log = "\u{0}\"".repeat(1 << 20);
            drawer.keep(Evidence { log, samples, ..evidence(attempt, "open") }).unwrap();
        }
        let names: Vec<_> = RealDisk.list(&drawer.0).unwrap();
        assert_eq!(names.len(), KEPT_MAX, "{names:?}");
        assert!(!drawer.holds(10) && drawer.holds(11) && drawer.holds(105));
        for name in names {
            let bytes = drawer.0.join(name).metadata().unwrap().len();
            assert!((1..=EVIDENCE_BYTES_MAX as u64).contains(&bytes), "{bytes}");
        }
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
