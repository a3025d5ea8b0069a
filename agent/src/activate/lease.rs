//! Which process moves a service: one at a time, the agent or a guard.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often a lease that is held is asked for again.
const AGAIN: Duration = Duration::from_millis(100);

/// The right to move one service, held by this process until it is dropped or the process ends,
/// however that comes about: it is a lock of the kernel's on a file that says nothing.
#[derive(Debug)]
pub struct Lease {
    _locked: File,
}

impl Lease {
    /// Takes the lease of the file at `path`; none: for as long as `patience` another one had it.
    ///
    /// # Errors
    ///
    /// The file cannot be made or locked.
    pub fn take(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        // Not truncated, never removed: whoever waits for it holds the same file.
        let file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        let end = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { _locked: file })),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= end => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(AGAIN),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r19_one_at_a_time_moves_a_service() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("activations/web.lock");
        let take = || Lease::take(&path, Duration::ZERO).unwrap();
        let held = take().expect("nobody has it");
        assert!(take().is_none(), "it is held");
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || Lease::take(&path, Duration::from_secs(60)).unwrap()
        });
        drop(held);
        assert!(waiting.join().unwrap().is_some(), "who waits gets it");
    }

    /// What a command of a service leaves running outlives the agent, and must not hold its lease.
    #[test]
    fn r19_what_a_service_leaves_running_holds_no_lease() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.lock");
        let held = Lease::take(&path, Duration::ZERO).unwrap().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        drop(held);
        let taken = Lease::take(&path, Duration::ZERO).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(taken.is_some());
    }
}
