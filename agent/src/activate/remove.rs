//! The end of a service on this host: it is stopped, and nothing of ours stays but what it wrote.

use std::io;
use std::path::Path;

use proto::Version;
use proto::receipt::Cause;
use proto::statement::Hook;

use super::journal::{Journal, JournalError};
use super::layout::LayoutError;
use super::{Activator, Ends, Installed, Outcome};
use crate::services::{Failure, Way};

/// Why a service was not removed, or not wholly. The same again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error(transparent)]
    Current(#[from] LayoutError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{version} is not removed: {note}")]
    Runs { version: Version, note: String },
    #[error("nothing runs any more, and what is left cannot be removed: {0}")]
    Rest(#[source] io::Error),
}

impl Activator {
    /// Drains and stops what runs, whatever step it is in, and removes `current`, the link of its unit,
    /// all releases, `record`, which says what has become of it here, and the journal. What the service
    /// wrote stays. The version that ran; none: `current` pointed at nothing.
    ///
    /// From the first step on it is, by the journal, a way back to nothing (R25): killed in the middle,
    /// a guard or an agent brings that to its end. Where it cannot be stopped all stays as it was.
    ///
    /// # Errors
    ///
    /// [`RemoveError`].
    pub fn remove(&self, record: &Path) -> Result<Option<Version>, RemoveError> {
        let running = self.current()?;
        let version = running.as_ref().map(|running| running.release.version.clone());
        if let Some(running) = &running {
            self.end(running)?;
        }
        self.remove_rest(record).map_err(RemoveError::Rest)?;
        Ok(version)
    }

    fn end(&self, running: &Installed) -> Result<(), RemoveError> {
        let version = running.release.version.clone();
        let last = Journal::load(&*self.disk, &self.journal)?;
        let runs = |note: String| RemoveError::Runs { version: version.clone(), note };
        self.services.end_left_over(&self.paths).map_err(|Failure { note, .. }| runs(note))?;
        let call = self.call(running, Some(&version), Way::Forward);
        let drained = self.services.hook(Hook::Drain, call);
        let attempt = last.as_ref().map_or(0, |last| last.attempt);
        let ends = Ends { attempt, from: None, to: running.clone(), adopted: None };
        let ended = drained.map_err(|Failure { note, .. }| note).and_then(|()| {
            match self.back(&ends, Cause::Fleet, String::new()) {
                Outcome::RevertFailed { note, .. } => Err(note),
                Outcome::Baking | Outcome::Reverted { .. } => Ok(()),
            }
        });
        ended.map_err(|note| {
            // It is not to be tried again at the next boot, when nobody asks for it any more.
            if let Some(last) = &last {
                self.note(last);
            }
            if let Err(failure) = self.services.hook(Hook::Undrain, call) {
                tracing::error!(note = failure.note, "what runs may be out of use");
            }
            runs(note)
        })
    }

    /// The record before the journal: alone, it would tell that what is stopped is committed and runs. The
    /// journal last: without it nobody would look for the rest.
    fn remove_rest(&self, record: &Path) -> io::Result<()> {
        let releases = self.paths.releases();
        if self.disk.kind(&releases)?.is_some() {
            self.disk.remove_dir_all(&releases)?;
            self.disk.sync_dir(self.paths.directory())?;
        }
        self.reserve.spend(&*self.disk);
        self.remove_for_good(record)?;
        self.remove_for_good(&self.journal)
    }

    /// Durably; what is gone already is no error.
    fn remove_for_good(&self, path: &Path) -> io::Result<()> {
        match self.disk.remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        path.parent().map_or(Ok(()), |directory| self.disk.sync_dir(directory))
    }
}
