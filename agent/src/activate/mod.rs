//! Activation: one path forward and back, journalled (R22, R25).
//!
//! ```text
//! staged -> drained -> stopped -> swapped -> started -> checked -> baking -> committed
//!    |         |          |          |          |          |         |          |
//!    +---------+----------+----- reverting -----+----------+---------+----------+--> reverted | revert-failed
//! ```
//!
//! Forward: verify `from` and `to`, take what runs out of use, stop it, point `current` at `to` and
//! have the machine know its unit, start it, wait until it answers and says that it is well, put it
//! into use. `drained` and `checked` are written down only where there is a hook for them. Whatever
//! fails, at whatever step, the way back is one and the same: stop what `current` points at, point
//! it at `from` (first deployment: remove it), start that, wait until it answers, put it into use.
//! Nothing is drained on the way back: what is left is sick, or to be gone soon. Only where draining
//! itself fails has nothing been stopped, and what runs is put into use again. After a kill or a power
//! cut [`Activator::recover`] finds the step in the journal and takes the same way back, unless the
//! service outlived the agent and is baking.
//!
//! A service that somebody else brought is adopted ([`Activator::adopt`]): it is neither stopped nor
//! started, on the way back neither.
//!
//! What always holds: `current` is absent or points at a whole release that was verified, because
//! it is only ever replaced by a rename, after the trees were verified and before anything is
//! removed.
//!
//! All calls block; they belong on a thread where that is allowed. The disk and the processes are
//! behind [`Disk`] and [`Services`], so that crash tests cut the power before every step.

mod account;
mod adopt;
mod collect;
mod drift;
mod journal;
mod layout;
mod lease;
mod recover;
mod remove;
mod renew;
mod reserve;
mod space;
mod stage;
mod turns;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use durable::{Disk, replace_link};
use member::chain;
use proto::receipt::Cause;
use proto::statement::Hook;
use proto::{Digest, Version};
use tokio_util::sync::CancellationToken;

pub use account::Attempt;
pub use collect::{CollectError, InUse, Pins, fates};
pub use drift::{Drifted, Outlook};
pub use journal::{Journal, JournalError, Step, activated, journals};
pub use layout::{Installed, LayoutError, Paths, current, list};
pub use lease::Lease;
pub use remove::RemoveError;
pub use renew::{Renewed, renew};
pub use space::{Need, SpaceError, check as check_space};
pub use stage::{StageError, stage, stage_patched, trees};

use crate::health::metrics::Page;
use crate::services::{Call, Failure, Services, Watch, Way};
use crate::trail::Trail;
use journal::shortened;
use reserve::Reserve;

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
    pub attempt: u64,
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
    #[error("attempt {attempt} is not baking: {is}")]
    NotBaking { attempt: u64, is: String },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Takes one service of this host forward and back. One call at a time per service.
pub struct Activator {
    disk: Arc<dyn Disk>,
    services: Arc<dyn Services>,
    paths: Paths,
    journal: PathBuf,
    reserve: Reserve,
    boot: String,
    lease: OnceLock<Lease>,
    trail: Trail,
}

/// The two ends of an attempt, read from disk.
struct Ends {
    attempt: u64,
    from: Option<Installed>,
    to: Installed,
    /// As [`Journal::adopted`].
    adopted: Option<String>,
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
        let journal = journal::path(state_dir, paths.service());
        let reserve = Reserve::new(&paths, &journal);
        let (lease, trail) = (OnceLock::new(), Trail::default());
        Self { disk, services, paths, journal, reserve, boot, lease, trail }
    }

    /// What was seen since the last activation began.
    pub fn trail(&self) -> &Trail {
        &self.trail
    }

    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Takes the service's [`Lease`] for as long as this activator lives; false: for as long as
    /// `patience` another process had it. To be had before [`Self::recover`].
    ///
    /// # Errors
    ///
    /// As [`Lease::take`].
    pub fn hold(&self, patience: Duration) -> io::Result<bool> {
        let Some(lease) = Lease::take(&self.journal.with_extension("lock"), patience)? else {
            return Ok(false);
        };
        Ok(self.lease.set(lease).is_ok())
    }

    /// Whether a release stands here whole: verified now, against its statement.
    ///
    /// # Errors
    ///
    /// Why not, in a line.
    pub fn check_staged(&self, id: &Digest) -> Result<Installed, String> {
        // What is being cleared away now may be this very release; what is cleared away later was
        // told that it is needed. What is being staged is not waited for: it may be another one, of
        // which nobody is in need.
        drop(self.paths.turns.clear());
        let installed =
            layout::installed(&*self.disk, &self.paths, id).map_err(|error| error.to_string())?;
        self.verify(&installed).map_err(|failure| failure.note)?;
        Ok(installed)
    }

    /// The release `current` points at.
    ///
    /// # Errors
    ///
    /// [`LayoutError`]: it points at none.
    pub fn current(&self) -> Result<Option<Installed>, LayoutError> {
        current(&*self.disk, &self.paths)
    }

    /// Begins to watch the health of what runs, until `stop`.
    ///
    /// # Errors
    ///
    /// Why it cannot be watched, for people.
    pub fn watch(&self, stop: CancellationToken) -> anyhow::Result<Watch> {
        let release = self.current()?.context("`current` points at nothing")?;
        let call = self.call(&release, None, Way::Forward);
        self.services.watch(call, stop).map_err(|failure| anyhow::anyhow!(failure.note))
    }

    /// How many checks of what is watched have a bad answer now.
    pub fn ailing(&self) -> tokio::sync::watch::Receiver<usize> {
        self.trail.ailing()
    }

    /// Where to read what this release counts of its requests; none: nowhere, or it is another one
    /// that runs.
    ///
    /// # Errors
    ///
    /// Why it cannot be told, for people.
    pub fn page_of(&self, id: &Digest) -> anyhow::Result<Option<Page>> {
        let Some(release) = self.current()?.filter(|release| release.id == *id) else {
            return Ok(None);
        };
        let call = self.call(&release, None, Way::Forward);
        self.services.page(call).map_err(|failure| anyhow::anyhow!(failure.note))
    }

    /// Brings `to`, which must be staged, as must `from`: every way back goes there. What runs may
    /// be a third one, on a host that missed a rollout; where it is `to` already, and answers,
    /// nothing is stopped.
    ///
    /// Ends with `to` serving and [`Outcome::Baking`], or back. Asked again for the attempt that was
    /// the last one, it answers again and does nothing.
    ///
    /// `way`: [`Way::Back`] where an operator takes the fleet back to what it ran before. As on every
    /// way back, what cannot be drained or stopped, or does not stop while it does not run, is then no
    /// reason to stay.
    pub fn activate(&self, attempt: u64, from: Option<Digest>, to: Digest, way: Way) -> Outcome {
        if let Some(outcome) = self.begin_trail(attempt, from, to) {
            return outcome;
        }
        let begun = self.ends(attempt, from, &to).and_then(|ends| {
            self.verify_ends(&ends)?;
            let serves = self.begin(&ends, way)?;
            Ok((ends, serves))
        });
        let (ends, serves) = match begun {
            Ok(begun) => begun,
            Err(Failure { cause, note }) if self.runs_another(from) => {
                return self.verified_back(attempt, from, to, cause, note);
            }
            Err(failure) => return self.never_begun(attempt, from, to, failure),
        };
        let forward = match serves {
            true => self.write(&ends, Step::Baking),
            false => self.forward(&ends, way),
        };
        match forward {
            Ok(()) => Outcome::Baking,
            Err(Failure { cause, note }) => self.back(&ends, cause, note),
        }
    }

    /// What is seen from here on is of this attempt; unless it has come to its end already, or nobody can
    /// tell: then that end.
    fn begin_trail(&self, attempt: u64, from: Option<Digest>, to: Digest) -> Option<Outcome> {
        match self.answer_again(attempt, from, to) {
            Ok(None) => {
                self.trail.begin();
                self.trail.say(format_args!("host: {}", self.services.host()));
                None
            }
            Ok(Some(outcome)) => Some(outcome),
            Err(error) => {
                let note = error.to_string();
                Some(Outcome::Reverted { cause: Cause::Host, note })
            }
        }
    }

    /// Nothing was touched: what ran runs. Told again after a restart, if it can be written down; if
    /// not, the next try fails the same way.
    fn never_begun(
        &self,
        attempt: u64,
        from: Option<Digest>,
        to: Digest,
        Failure { cause, note }: Failure,
    ) -> Outcome {
        self.services.arm(&self.paths, false);
        let step = Step::Reverted { cause, note: shortened(&note) };
        self.note(&Journal::new(attempt, from, to, step, &self.boot));
        Outcome::Reverted { cause, note }
    }

    /// The end that this very attempt has come to already.
    fn answer_again(
        &self,
        attempt: u64,
        from: Option<Digest>,
        to: Digest,
    ) -> Result<Option<Outcome>, JournalError> {
        let Some(last) = Journal::load(&*self.disk, &self.journal)? else { return Ok(None) };
        if (last.attempt, last.from, last.to) != (attempt, from, to) {
            return Ok(None);
        }
        Ok(match last.step {
            Step::Baking | Step::Committed => Some(Outcome::Baking),
            Step::Reverted { cause, note } => Some(Outcome::Reverted { cause, note }),
            Step::RevertFailed { cause, note } => Some(Outcome::RevertFailed { cause, note }),
            // Left in the middle, and not recovered: from the start.
            Step::Staged
            | Step::Drained
            | Step::Stopped
            | Step::Swapped
            | Step::Started
            | Step::Checked
            | Step::Reverting { .. } => None,
        })
    }

    /// Whether one of ours runs that is not what every way back leads to. Nothing to go back to is no
    /// reason to stop anything; and where none of ours runs, something that could not be adopted may.
    fn runs_another(&self, from: Option<Digest>) -> bool {
        let current = self.current().ok().flatten();
        from.is_some() && current.is_some_and(|current| Some(current.id) != from)
    }

    fn ends(&self, attempt: u64, from: Option<Digest>, to: &Digest) -> Result<Ends, Failure> {
        let read = |id: &Digest| {
            layout::installed(&*self.disk, &self.paths, id)
                .map_err(|error| Failure::host(error.to_string()))
        };
        let from = from.as_ref().map(read).transpose()?;
        Ok(Ends { attempt, from, to: read(to)?, adopted: None })
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

    /// Whether `to` serves already; if not, what runs is out of use, and that is in the journal. Where
    /// that cannot be done or written, nothing is stopped. The guard is set before.
    fn begin(&self, ends: &Ends, way: Way) -> Result<bool, Failure> {
        let running = self.current().map_err(|error| Failure::host(error.to_string()))?;
        let serves =
            |running: &Installed| self.services.ready(self.call(running, None, way)).is_ok();
        let serves =
            running.as_ref().is_some_and(|running| running.id == ends.to.id && serves(running));
        self.services.arm(&self.paths, true);
        if serves {
            return Ok(true);
        }
        in_the_way(way, self.reserve.hold(&*self.disk).map_err(Failure::host))?;
        self.write(ends, Step::Staged)?;
        if let Some(running) = &running {
            in_the_way(way, self.drain(ends, running, way))?;
        }
        Ok(false)
    }

    /// Takes what runs out of use; where that fails, it is put into use again.
    fn drain(&self, ends: &Ends, running: &Installed, way: Way) -> Result<(), Failure> {
        if running.release.run.drain.is_none() {
            return Ok(());
        }
        let call = self.call(running, Some(&running.release.version), way);
        let drained =
            self.services.hook(Hook::Drain, call).and_then(|()| self.write(ends, Step::Drained));
        drained.inspect_err(|_| {
            if way == Way::Forward
                && let Err(failure) = self.services.hook(Hook::Undrain, call)
            {
                tracing::error!(note = failure.note, "what runs may be out of use");
            }
        })
    }

    fn forward(&self, ends: &Ends, way: Way) -> Result<(), Failure> {
        let to = &ends.to;
        let running = self.current().map_err(|error| Failure::host(error.to_string()))?;
        let leaving = running.as_ref().map(|running| &running.release.version);
        if let Some(running) = &running {
            in_the_way(way, self.services.stop(self.call(running, leaving, way)))?;
        }
        in_the_way(way, self.try_to_stop(to, leaving, way))?;
        self.write(ends, Step::Stopped)?;
        self.point_at(Some(to))?;
        self.write(ends, Step::Swapped)?;
        let call = self.call(to, leaving, way);
        self.services.start(call)?;
        self.write(ends, Step::Started)?;
        self.services.ready(call)?;
        self.services.hook(Hook::Check, call)?;
        if to.release.run.undrain.is_some() {
            self.write(ends, Step::Checked)?;
            self.services.hook(Hook::Undrain, call)?;
        }
        self.write(ends, Step::Baking)
    }

    /// Stops what is to be started, while nothing runs: that must work, and a release that cannot be
    /// stopped could not be left again, neither forward nor back. A unit has no command of its own to
    /// be mistyped: systemd stops it.
    fn try_to_stop(
        &self,
        to: &Installed,
        leaving: Option<&Version>,
        way: Way,
    ) -> Result<(), Failure> {
        if to.release.run.unit.is_some() {
            return Ok(());
        }
        let stopped = self.services.stop(self.call(to, leaving, way));
        stopped.map_err(|failure| {
            Failure::release(format!("{}, tried while nothing ran", failure.note))
        })
    }

    /// Ends the bake: from now on a restart or a boot keeps `to`.
    ///
    /// # Errors
    ///
    /// [`CommitError`]: another attempt, not baking, or the journal cannot be written.
    pub fn commit(&self, attempt: u64) -> Result<(), CommitError> {
        let not_baking = |is: String| CommitError::NotBaking { attempt, is };
        let Some(mut journal) = Journal::load(&*self.disk, &self.journal)? else {
            return Err(not_baking("this service was never activated".to_owned()));
        };
        if journal.attempt != attempt {
            return Err(not_baking(format!("the last one is attempt {}", journal.attempt)));
        }
        match journal.step {
            Step::Committed => return Ok(()),
            Step::Baking => {}
            other => return Err(not_baking(format!("it is {}", other.name()))),
        }
        journal.step = Step::Committed;
        journal.boot.clone_from(&self.boot);
        journal.store(&*self.disk, &self.journal)?;
        self.services.arm(&self.paths, false);
        Ok(())
    }

    /// What a release has to do once it is committed; at most once, and whatever comes of it takes
    /// nothing back.
    pub fn after_commit(&self) {
        let done =
            self.current().map_err(|error| Failure::host(error.to_string())).and_then(|current| {
                match &current {
                    None => Ok(()),
                    Some(current) => self
                        .services
                        .hook(Hook::AfterCommit, self.call(current, None, Way::Forward)),
                }
            });
        if let Err(failure) = done {
            tracing::error!(service = %self.paths.service(), note = failure.note, "after the commit");
        }
    }
}

// --- impl Activator: back ---

impl Activator {
    /// Goes back to `to` (none: stops what runs and removes `current`), from whatever there is: in
    /// the bake, after a commit, after a way back that failed. Where `to` serves, nothing is done.
    ///
    /// # Errors
    ///
    /// It does not serve, and a person is needed: why.
    pub fn revert(&self, attempt: u64, to: Option<Digest>) -> Result<(), String> {
        let last = Journal::load(&*self.disk, &self.journal).unwrap_or_else(|error| {
            tracing::error!(%error, "going back without a journal");
            None
        });
        let current = self.current().map_err(|error| error.to_string())?;
        let leaving = match (&current, &last) {
            (Some(current), _) => Some(current.id),
            (None, Some(last)) => Some(last.to),
            (None, None) => to,
        };
        let there = current.as_ref().map(|current| current.id) == to;
        let serves =
            |current: &Installed| self.services.ready(self.call(current, None, Way::Back)).is_ok();
        if there
            && last.is_none_or(|last| last.step.is_settled())
            && current.as_ref().is_none_or(serves)
        {
            return Ok(());
        }
        let Some(leaving) = leaving else { return Ok(()) };
        let note = String::new();
        match self.verified_back(attempt, to, leaving, Cause::Fleet, note) {
            Outcome::RevertFailed { note, .. } => Err(note),
            Outcome::Baking | Outcome::Reverted { .. } => Ok(()),
        }
    }

    /// The way back, if there is a whole release to go back to.
    fn verified_back(
        &self,
        attempt: u64,
        from: Option<Digest>,
        to: Digest,
        cause: Cause,
        note: String,
    ) -> Outcome {
        let adopted = self.adopted(&to).filter(|_| from.is_none());
        let ends = self.ends(attempt, from, &to).and_then(|ends| {
            ends.from.as_ref().map_or(Ok(()), |from| self.verify(from))?;
            Ok(Ends { adopted: adopted.clone(), ..ends })
        });
        match ends {
            Ok(ends) => self.back(&ends, cause, note),
            Err(failure) => {
                // Better a whole release that is sick than a broken one: nothing is touched.
                let note = and(&note, failure.note);
                let step = Step::RevertFailed { cause, note: shortened(&note) };
                let journal = Journal::new(attempt, from, to, step, &self.boot);
                self.note(&journal.adopted(adopted));
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
        self.trail.say(format_args!("host: {}", self.services.host()));
        self.trail.say(format_args!("step: going back: {note}"));
        self.services.arm(&self.paths, true);
        let step = Step::Reverting { cause, note: shortened(&note) };
        self.note_urgently(&self.journal_of(ends, step));
        let back = match &ends.adopted {
            Some(boot) => self.give_back(ends, boot),
            None => self.back_to(ends),
        };
        let (step, outcome) = match back {
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
        self.trail.say(format_args!("step: {}", step.name()));
        self.note_urgently(&self.journal_of(ends, step));
        self.services.arm(&self.paths, false);
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
        match self.urgently(|| self.point_at(Some(from))) {
            Err(failure) if never_left => {
                tracing::warn!(note = failure.note, "it points there already, going on");
            }
            pointed => pointed?,
        }
        let call = self.call(from, leaving, Way::Back);
        let started = self.services.start(call);
        match started {
            // It could not be stopped, so it may be no wonder that it cannot be started; if it can
            // be asked, its answer decides.
            Err(_) if never_left && stopped.is_err() && from.release.health.asks() => {}
            started => started?,
        }
        self.services.ready(call)?;
        self.services.hook(Hook::Check, call)?;
        self.services.hook(Hook::Undrain, call)
    }

    /// Points `current` there, or at nothing, and has the machine know.
    fn point_at(&self, release: Option<&Installed>) -> Result<(), Failure> {
        self.move_to(release)?;
        self.services.load(&self.paths, release)
    }

    /// Points `current` there, or at nothing. Where it points there already that is made durable: an
    /// agent may have been killed in between.
    fn move_to(&self, release: Option<&Installed>) -> Result<(), Failure> {
        let id = release.map(|release| release.id);
        match self.is_at(id) {
            true => self.disk.sync_dir(self.paths.directory()).map_err(|error| {
                Failure::host(format!("{}: {error}", self.paths.directory().display()))
            }),
            false => self.move_current(id.as_ref()),
        }
    }

    fn is_at(&self, id: Option<Digest>) -> bool {
        self.current().is_ok_and(|current| current.map(|current| current.id) == id)
    }

    fn move_current(&self, id: Option<&Digest>) -> Result<(), Failure> {
        let link = self.paths.current();
        let failed = |error: String| Failure::host(format!("{}: {error}", link.display()));
        let removed = |()| self.disk.sync_dir(self.paths.directory());
        match id {
            Some(id) => replace_link(&*self.disk, &link, &layout::target(id))
                .map_err(|error| failed(chain(&error))),
            None => match self.disk.remove_file(&link).and_then(removed) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(failed(error.to_string()))
                }
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }
}

// --- impl Activator: small parts ---

impl Activator {
    fn call<'a>(
        &'a self,
        release: &'a Installed,
        leaving: Option<&'a Version>,
        way: Way,
    ) -> Call<'a> {
        Call { paths: &self.paths, release, leaving, way, trail: &self.trail }
    }

    fn journal_of(&self, ends: &Ends, step: Step) -> Journal {
        Journal::new(ends.attempt, ends.back_to_id(), ends.to.id, step, &self.boot)
            .adopted(ends.adopted.clone())
    }

    fn write(&self, ends: &Ends, step: Step) -> Result<(), Failure> {
        tracing::info!(service = %self.paths.service(), to = %ends.to.id, step = step.name());
        self.trail.say(format_args!("step: {}", step.name()));
        self.store(&self.journal_of(ends, step)).map_err(|error| Failure::host(error.to_string()))
    }

    /// As [`Self::write`], where there is something more urgent than the journal.
    fn note(&self, journal: &Journal) {
        if let Err(error) = self.store(journal) {
            tracing::error!(%error, step = journal.step.name(), "going on without the journal");
        }
    }

    /// As [`Self::note`], on the way back: with the room that is held for it.
    fn note_urgently(&self, journal: &Journal) {
        if let Err(error) = self.urgently(|| self.store(journal)) {
            tracing::error!(%error, step = journal.step.name(), "going back without the journal");
        }
    }

    /// Does what the way back needs, where it fails once more with the room that is held for it.
    fn urgently<E>(&self, act: impl Fn() -> Result<(), E>) -> Result<(), E> {
        act().or_else(|error| if self.reserve.spend(&*self.disk) { act() } else { Err(error) })
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

/// What keeps a host from going forward, and no host from going back.
fn in_the_way(way: Way, done: Result<(), Failure>) -> Result<(), Failure> {
    match (way, done) {
        (Way::Back, Err(failure)) => {
            tracing::warn!(note = failure.note, "going back all the same");
            Ok(())
        }
        (_, done) => done,
    }
}

fn and(note: &str, more: impl std::fmt::Display) -> String {
    match note {
        "" => more.to_string(),
        note => format!("{note}; {more}"),
    }
}
