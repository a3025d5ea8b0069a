//! What a starting agent finds, and what it makes of it: from the journal and `current` alone.

use proto::receipt::Cause;

use super::journal::{Journal, JournalError, Step};
use super::{Activator, Outcome, Phase, Standing};
use crate::services::{Failure, Way};

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
        let Some(journal) = Journal::load(&*self.disk, &self.journal)? else {
            self.services.arm(&self.paths, false);
            return Ok(None);
        };
        let booted = journal.boot != self.boot;
        let at_to = self
            .current()
            .is_ok_and(|current| current.is_some_and(|current| current.id == journal.to));
        let Journal { attempt, from, to, ref step, .. } = journal;
        let back = |cause, note| Phase::after(self.verified_back(attempt, from, to, cause, note));
        let mut down = None;
        let phase = match step.clone() {
            Step::Staged
            | Step::Drained
            | Step::Stopped
            | Step::Swapped
            | Step::Started
            | Step::Checked => {
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
        self.services.arm(&self.paths, phase == Phase::Baking);
        Ok(Some(Standing { attempt, from, to, phase, down }))
    }

    /// What a guard does where no agent lives (R19): as [`Self::recover`]; and what bakes on with
    /// nobody to watch it goes back once it does not answer.
    ///
    /// # Errors
    ///
    /// As [`Self::recover`].
    pub fn stand_in(&self) -> Result<Option<Standing>, JournalError> {
        let Some(mut standing) = self.recover()? else { return Ok(None) };
        if standing.phase == Phase::Baking
            && let Err(Failure { cause, note }) = self.answers()
        {
            let Standing { attempt, from, to, .. } = standing;
            let note = format!("no agent watches it, and {note}");
            standing.phase = Phase::after(self.verified_back(attempt, from, to, cause, note));
        }
        Ok(Some(standing))
    }

    /// Whether what `current` points at answers its check.
    fn answers(&self) -> Result<(), Failure> {
        let current = self.current().map_err(|error| Failure::host(error.to_string()))?;
        current
            .map_or(Ok(()), |current| self.services.ready(self.call(&current, None, Way::Forward)))
    }

    /// Starts what `current` points at; else why it does not run.
    fn start_after_boot(&self, mut journal: Journal) -> Option<String> {
        let started =
            self.current().map_err(|error| Failure::host(error.to_string())).and_then(|current| {
                let Some(current) = current else { return Ok(()) };
                self.services.load(&self.paths, Some(&current))?;
                let call = self.call(&current, None, Way::Forward);
                let started = self.services.start(call);
                // Something else may have started it before the agent.
                if started.is_err() && !current.release.health.asks() {
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
