//! Activation: one path forward and back, journalled (R22, R25).
//!
//! ```text
//! staged -> stopped -> swapped -> started -> baking -> committed
//!    |         |          |          |          |          |
//!    +---------+----------+-- reverting --------+----------+--> reverted | revert-failed
//! ```
//!
//! Forward: verify `from` and `to`, stop what runs, point `current` at `to`, start it, wait until it
//! answers. Whatever fails, at whatever step, the way back is one and the same: stop what `current`
//! points at, point it at `from` (first deployment: remove it), start that, wait until it answers.
//! After a kill or a power cut [`Activator::recover`] finds the step in the journal and takes the
//! same way back, unless the service outlived the agent and is baking.
//!
//! What always holds: `current` is absent or points at a whole release that was verified, because
//! it is only ever replaced by a rename, after the trees were verified and before anything is
//! removed.
//!
//! All calls block; they belong on a thread where that is allowed. The disk and the processes are
//! behind [`Disk`] and [`Services`], so that crash tests cut the power before every step.

mod collect;
mod journal;
mod layout;
mod space;
mod stage;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use durable::{Disk, replace_link};
use proto::receipt::Cause;
use proto::{Digest, Version};

pub use collect::{Fate, InUse, fates};
pub use journal::{Attempt, Journal, JournalError, Step};
pub use layout::{Installed, LayoutError, Paths, list};
pub use space::{Free, Need, SpaceError, check as check_space, free as free_space};
pub use stage::{StageError, stage};

use crate::services::{Call, Failure, Services, Way};
use journal::shortened;

/// How an activation or a way back ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `to` serves; watch it, then [`Activator::commit`] or [`Activator::revert`].
    Baking,
    /// What was to run before runs (again); or nothing, where there was nothing.
    Reverted { cause: Cause, note: String },
    /// It does not: a person is needed.
    RevertFailed { cause: Cause, note: String },
}

/// Where the last attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub attempt: Attempt,
    pub from: Option<Digest>,
    pub to: Digest,
    pub phase: Phase,
    /// The service was to be started after a boot and does not run: why.
    pub down: Option<String>,
}

/// What an attempt has come to, once recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Baking,
    Committed,
    Reverted { cause: Cause, note: String },
    RevertFailed { cause: Cause, note: String },
}

/// An attempt that cannot be committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("attempt {} of rollout {} is not baking: {is}", attempt.number, attempt.rollout)]
    NotBaking { attempt: Attempt, is: String },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Takes one service of this host forward and back. One call at a time per service.
pub struct Activator {
    disk: Arc<dyn Disk>,
    services: Arc<dyn Services>,
    paths: Paths,
    journal: PathBuf,
    boot: String,
}

/// The two ends of an attempt, read from disk.
struct Ends {
    attempt: Attempt,
    from: Option<Installed>,
    to: Installed,
}

impl Ends {
    fn back_to_id(&self) -> Option<Digest> {
        self.from.as_ref().map(|from| from.id)
    }
}

// --- impl Activator: forward ---

impl Activator {
    /// For the service of `paths`; its journal is `STATE/activations/SERVICE.json`.
    ///
    /// `boot`: differs between any two boots of this machine ([`crate::services::boot_id`]).
    pub fn new(
        disk: Arc<dyn Disk>,
        services: Arc<dyn Services>,
        paths: Paths,
        state_dir: &Path,
        boot: String,
    ) -> Self {
        let journal = state_dir.join("activations").join(format!("{}.json", paths.service()));
        Self { disk, services, paths, journal, boot }
    }

    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The release `current` points at.
    ///
    /// # Errors
    ///
    /// [`LayoutError`]: it points at none.
    pub fn current(&self) -> Result<Option<Installed>, LayoutError> {
        layout::current(&*self.disk, &self.paths)
    }

    /// Brings `to`, which must be staged, as must `from`: every way back goes there. What runs may
    /// be a third one, on a host that missed a rollout.
    ///
    /// Ends with `to` serving and [`Outcome::Baking`], or back.
    pub fn activate(&self, attempt: Attempt, from: Option<Digest>, to: Digest) -> Outcome {
        let ends = match self.ends(attempt, from, &to).and_then(|ends| {
            self.verify_ends(&ends)?;
            Ok(ends)
        }) {
            Ok(ends) => ends,
            Err(Failure { cause, note }) => {
                // Nothing was touched: what ran runs. Told again after a restart, if it can be
                // written down; if not, the next try fails the same way.
                let step = Step::Reverted { cause, note: shortened(&note) };
                self.note(&Journal::new(attempt, from, to, step, &self.boot));
                return Outcome::Reverted { cause, note };
            }
        };
        match self.forward(&ends) {
            Ok(()) => Outcome::Baking,
            Err(Failure { cause, note }) => self.back(&ends, cause, note),
        }
    }

    fn ends(&self, attempt: Attempt, from: Option<Digest>, to: &Digest) -> Result<Ends, Failure> {
        let read = |id: &Digest| {
            layout::installed(&*self.disk, &self.paths, id)
                .map_err(|error| Failure::host(error.to_string()))
        };
        Ok(Ends { attempt, from: from.as_ref().map(read).transpose()?, to: read(to)? })
    }

    /// All that can be known to fail while the service still runs.
    fn verify_ends(&self, ends: &Ends) -> Result<(), Failure> {
        self.current().map_err(|error| Failure::host(error.to_string()))?;
        if let Some(from) = &ends.from {
            self.verify(from)?;
        }
        self.verify(&ends.to)?;
        self.services.prepare(self.call(&ends.to, None, Way::Forward))
    }

    fn verify(&self, release: &Installed) -> Result<(), Failure> {
        let manifest = layout::manifest(&*self.disk, &self.paths, release)
            .map_err(|error| Failure::host(error.to_string()))?;
        self.services.verify(&manifest, &self.paths.release(&release.id)).map_err(|failure| {
            let version = &release.release.version;
            Failure { note: format!("{version} is not whole on disk: {}", failure.note), ..failure }
        })
    }

    fn forward(&self, ends: &Ends) -> Result<(), Failure> {
        let to = &ends.to;
        self.write(ends, Step::Staged)?;
        let running = self.current().map_err(|error| Failure::host(error.to_string()))?;
        let leaving = running.as_ref().map(|running| &running.release.version);
        if let Some(running) = &running {
            self.services.stop(self.call(running, leaving, Way::Forward))?;
        }
        self.write(ends, Step::Stopped)?;
        self.point_at(Some(&to.id))?;
        self.write(ends, Step::Swapped)?;
        self.services.start(self.call(to, leaving, Way::Forward))?;
        self.write(ends, Step::Started)?;
        self.services.ready(self.call(to, leaving, Way::Forward))?;
        self.write(ends, Step::Baking)
    }

    /// Ends the bake: from now on a restart or a boot keeps `to`.
    ///
    /// # Errors
    ///
    /// [`CommitError`]: another attempt, not baking, or the journal cannot be written.
    pub fn commit(&self, attempt: Attempt) -> Result<(), CommitError> {
        let not_baking = |is: String| CommitError::NotBaking { attempt, is };
        let Some(mut journal) = Journal::load(&*self.disk, &self.journal)? else {
            return Err(not_baking("this service was never activated".to_owned()));
        };
        if journal.attempt != attempt {
            let Attempt { rollout, number } = journal.attempt;
            return Err(not_baking(format!("the last one is attempt {number} of {rollout}")));
        }
        match journal.step {
            Step::Committed => return Ok(()),
            Step::Baking => {}
            other => return Err(not_baking(format!("it is {}", other.name()))),
        }
        journal.step = Step::Committed;
        journal.boot.clone_from(&self.boot);
        Ok(journal.store(&*self.disk, &self.journal)?)
    }
}

// --- impl Activator: back ---

impl Activator {
    /// Takes the host back to `from`: the bake failed, or the fleet goes back, also after a commit.
    ///
    /// Asked twice for one attempt, it answers twice and goes back once.
    pub fn revert(
        &self,
        attempt: Attempt,
        from: Option<Digest>,
        cause: Cause,
        note: String,
    ) -> Outcome {
        let last = Journal::load(&*self.disk, &self.journal).unwrap_or_else(|error| {
            tracing::error!(%error, "going back without a journal");
            None
        });
        let current = match self.current() {
            Ok(current) => current.map(|current| current.id),
            Err(error) => return Outcome::RevertFailed { cause, note: and(&note, error) },
        };
        let (to, last) = match last {
            Some(last) if last.attempt == attempt => (Some(last.to), Some(last.step)),
            // This attempt stopped nothing here: there is no way to go, or no journal.
            _ if current == from => return Outcome::Reverted { cause, note },
            _ => (current, None),
        };
        if let Some(Step::Reverted { cause, note }) = last
            && current == from
        {
            return Outcome::Reverted { cause, note };
        }
        let Some(to) = to else {
            // Nothing is deployed, and nothing is on record.
            let missing = "nothing is deployed here, not even what to go back to";
            return Outcome::RevertFailed { cause, note: and(&note, missing) };
        };
        self.verified_back(attempt, from, to, cause, note)
    }

    /// The way back, if there is a whole release to go back to.
    fn verified_back(
        &self,
        attempt: Attempt,
        from: Option<Digest>,
        to: Digest,
        cause: Cause,
        note: String,
    ) -> Outcome {
        let ends = self.ends(attempt, from, &to).and_then(|ends| {
            ends.from.as_ref().map_or(Ok(()), |from| self.verify(from))?;
            Ok(ends)
        });
        match ends {
            Ok(ends) => self.back(&ends, cause, note),
            Err(failure) => {
                // Better a whole release that is sick than a broken one: nothing is touched.
                let note = and(&note, failure.note);
                let step = Step::RevertFailed { cause, note: shortened(&note) };
                self.note(&Journal::new(attempt, from, to, step, &self.boot));
                Outcome::RevertFailed { cause, note }
            }
        }
    }

    /// Goes back, whatever it takes: what cannot be written down or stopped does not keep `from`
    /// from being started. What counts is that it serves in the end.
    fn back(&self, ends: &Ends, cause: Cause, note: String) -> Outcome {
        tracing::warn!(
            service = %self.paths.service(), to = %ends.to.id, from = ?ends.back_to_id(), %note,
            "going back"
        );
        let step = Step::Reverting { cause, note: shortened(&note) };
        self.note(&self.journal_of(ends, step));
        let (step, outcome) = match self.back_to(ends) {
            Ok(()) => {
                let step = Step::Reverted { cause, note: shortened(&note) };
                (step, Outcome::Reverted { cause, note })
            }
            Err(failure) => {
                let note = and(&note, format!("going back: {}", failure.note));
                tracing::error!(service = %self.paths.service(), %note, "could not go back");
                let step = Step::RevertFailed { cause, note: shortened(&note) };
                (step, Outcome::RevertFailed { cause, note })
            }
        };
        self.note(&self.journal_of(ends, step));
        outcome
    }

    fn back_to(&self, ends: &Ends) -> Result<(), Failure> {
        let running = self.current().map_err(|error| Failure::host(error.to_string()))?;
        let leaving = Some(&ends.to.release.version);
        let stopped = match &running {
            Some(running) => self.services.stop(self.call(running, leaving, Way::Back)),
            None => Ok(()),
        };
        let Some(from) = &ends.from else {
            // Kept where it cannot be stopped: without it nobody knows how to try again.
            stopped?;
            return self.point_at(None);
        };
        if let Err(failure) = &stopped {
            tracing::warn!(note = failure.note, "cannot stop what runs, going on");
        }
        let never_left = running.as_ref().is_some_and(|running| running.id == from.id);
        if !never_left {
            self.point_at(Some(&from.id))?;
        }
        let call = self.call(from, leaving, Way::Back);
        let started = self.services.start(call);
        match started {
            // It could not be stopped, so it may be no wonder that it cannot be started; if it can
            // be asked, its answer decides.
            Err(_) if never_left && stopped.is_err() && from.release.health.http.is_some() => {}
            started => started?,
        }
        self.services.ready(call)
    }

    /// Points `current` there, or at nothing.
    fn point_at(&self, id: Option<&Digest>) -> Result<(), Failure> {
        let link = self.paths.current();
        let failed = |error: String| Failure::host(format!("{}: {error}", link.display()));
        let removed = |()| self.disk.sync_dir(self.paths.directory());
        match id {
            Some(id) => replace_link(&*self.disk, &link, &layout::target(id)).map_err(|error| {
                failed(match std::error::Error::source(&error) {
                    Some(source) => format!("{error}: {source}"),
                    None => error.to_string(),
                })
            }),
            None => match self.disk.remove_file(&link).and_then(removed) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(failed(error.to_string()))
                }
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }
}

// --- impl Activator: recovery ---

impl Activator {
    /// To be called once when the agent starts, before anything else: finishes what was under way.
    ///
    /// From the journal and `current` alone, offline. An attempt that was not baking yet, or that
    /// baked when the machine went down, goes back; one that bakes on in a service that outlived
    /// the agent is left to it. After a boot a settled service is started. None: this service was
    /// never activated here.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: nothing is touched then.
    pub fn recover(&self) -> Result<Option<Standing>, JournalError> {
        if let Err(failure) = self.services.end_left_over(&self.paths) {
            tracing::error!(note = failure.note, "going on all the same");
        }
        let Some(journal) = Journal::load(&*self.disk, &self.journal)? else { return Ok(None) };
        let booted = journal.boot != self.boot;
        let at_to = self
            .current()
            .is_ok_and(|current| current.is_some_and(|current| current.id == journal.to));
        let Journal { attempt, from, to, ref step, .. } = journal;
        let back = |cause, note| Phase::after(self.verified_back(attempt, from, to, cause, note));
        let mut down = None;
        let phase = match step.clone() {
            Step::Staged | Step::Stopped | Step::Swapped | Step::Started => {
                let what = if booted { "the machine went down" } else { "the agent was killed" };
                back(Cause::Host, format!("{what} in the middle of it (step {})", step.name()))
            }
            Step::Baking if booted => {
                back(Cause::Host, "the machine went down in the bake".to_owned())
            }
            Step::Baking if !at_to => {
                back(Cause::Host, "`current` was moved during the bake".to_owned())
            }
            Step::Reverting { cause, note } => back(cause, note),
            Step::RevertFailed { cause, note } if booted => back(cause, note),
            Step::RevertFailed { cause, note } => Phase::RevertFailed { cause, note },
            Step::Baking => Phase::Baking,
            settled @ (Step::Committed | Step::Reverted { .. }) => {
                if booted {
                    down = self.start_after_boot(journal);
                }
                match settled {
                    Step::Reverted { cause, note } => Phase::Reverted { cause, note },
                    _ => Phase::Committed,
                }
            }
        };
        Ok(Some(Standing { attempt, from, to, phase, down }))
    }

    /// Starts what `current` points at; else why it does not run.
    fn start_after_boot(&self, mut journal: Journal) -> Option<String> {
        let started =
            self.current().map_err(|error| Failure::host(error.to_string())).and_then(|current| {
                let Some(current) = current else { return Ok(()) };
                let call = self.call(&current, None, Way::Forward);
                let started = self.services.start(call);
                // Something else may have started it before the agent.
                if started.is_err() && current.release.health.http.is_none() {
                    return started;
                }
                self.services.ready(call)
            });
        journal.boot.clone_from(&self.boot);
        self.note(&journal);
        started.err().map(|failure| failure.note)
    }
}

impl Phase {
    fn after(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Baking => Self::Baking,
            Outcome::Reverted { cause, note } => Self::Reverted { cause, note },
            Outcome::RevertFailed { cause, note } => Self::RevertFailed { cause, note },
        }
    }
}

// --- impl Activator: removing, small parts ---

impl Activator {
    /// Removes releases that nothing needs; returns the fate of each, for people. What `current`
    /// and the journal name always stays. Nothing of the service may be being staged meanwhile.
    ///
    /// # Errors
    ///
    /// What cannot be read, or the first thing that cannot be removed. Nothing is removed where
    /// it is not known what is in use.
    pub fn collect_garbage(
        &self,
        mut in_use: InUse,
        keep_releases: usize,
    ) -> Result<Vec<(Digest, Fate)>, CollectError> {
        in_use.current = self.current()?.map(|current| current.id);
        if let Some(journal) = Journal::load(&*self.disk, &self.journal)? {
            in_use.from.extend(journal.from);
            in_use.to.insert(journal.to);
        }
        Ok(collect::collect(&*self.disk, &self.paths, &in_use, keep_releases)?)
    }

    fn call<'a>(
        &'a self,
        release: &'a Installed,
        leaving: Option<&'a Version>,
        way: Way,
    ) -> Call<'a> {
        Call { paths: &self.paths, release, leaving, way }
    }

    fn journal_of(&self, ends: &Ends, step: Step) -> Journal {
        Journal::new(ends.attempt, ends.back_to_id(), ends.to.id, step, &self.boot)
    }

    fn write(&self, ends: &Ends, step: Step) -> Result<(), Failure> {
        tracing::info!(service = %self.paths.service(), to = %ends.to.id, step = step.name());
        self.store(&self.journal_of(ends, step)).map_err(|error| Failure::host(error.to_string()))
    }

    /// As [`Self::write`], where there is something more urgent than the journal.
    fn note(&self, journal: &Journal) {
        if let Err(error) = self.store(journal) {
            tracing::error!(%error, step = journal.step.name(), "going on without the journal");
        }
    }

    fn store(&self, journal: &Journal) -> Result<(), JournalError> {
        if let Some(directory) = self.journal.parent()
            && let Err(error) = self.disk.create_dir_all(directory)
        {
            tracing::debug!(%error, "the write that follows tells why");
        }
        journal.store(&*self.disk, &self.journal)
    }
}

/// Why releases could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

fn and(note: &str, more: impl std::fmt::Display) -> String {
    match note {
        "" => more.to_string(),
        note => format!("{note}; {more}"),
    }
}
