//! Adoption: a service that somebody else brought, and that runs, is taken in as it runs. Nothing is
//! drained, stopped or started, neither forward nor on the way back.
//!
//! ```text
//! well, as it runs -> staged -> `current` and its unit are in place -> well -> baking -> committed
//! ```
//!
//! The journal says from the first step on that this is an adoption, and during which boot the
//! service was found running, until the next release takes its place. So a kill or a power cut
//! anywhere leads to the same way back as a failure: what was there before is in its place again, and
//! `current` is gone. What runs is not touched by that; only after a boot, where what was there
//! before may have been out of its place when units were started, systemd is asked to start it; what
//! commands run is not started here, and where it does not run a person is told.

use proto::Digest;
use proto::statement::Hook;

use super::journal::{Journal, Step};
use super::{Activator, Ends, Outcome};
use crate::services::{Failure, Way};

impl Activator {
    /// Takes in what runs as `to`, which must be staged.
    ///
    /// Ends with [`Outcome::Baking`], or as it was found. Asked again for the attempt that was the last
    /// one, it answers again and does nothing.
    pub fn adopt(&self, attempt: u64, to: Digest) -> Outcome {
        if let Some(outcome) = self.begin_trail(attempt, None, to) {
            return outcome;
        }
        let ends = match self.find(attempt, &to) {
            Ok(ends) => ends,
            // Another attempt has brought it, and it is not well any more.
            Err(Failure { cause, note }) if self.is_at(Some(to)) => {
                return self.verified_back(attempt, None, to, cause, note);
            }
            Err(failure) => return self.never_begun(attempt, None, to, failure),
        };
        match self.take_in(&ends) {
            Ok(()) => Outcome::Baking,
            Err(Failure { cause, note }) => self.back(&ends, cause, note),
        }
    }

    /// Whether `to` can be adopted, while nothing is touched; the guard is set, and that it begins is
    /// in the journal.
    fn find(&self, attempt: u64, to: &Digest) -> Result<Ends, Failure> {
        let ends = self.ends(attempt, None, to)?;
        let found = self.current().map_err(|error| Failure::host(error.to_string()))?;
        let adopted = match found {
            None => Some(self.boot.clone()),
            // Another attempt has brought it, by adoption or not: it stays so.
            Some(found) if found.id == *to => self.adopted(to),
            Some(found) => {
                let version = found.release.version;
                return Err(Failure::host(format!("{version} was deployed here already")));
            }
        };
        let ends = Ends { adopted, ..ends };
        self.verify(&ends.to)?;
        self.services.prepare_adoption(self.call(&ends.to, None, Way::Forward))?;
        self.well(&ends)?;
        self.services.arm(&self.paths, true);
        self.reserve.hold(&*self.disk).map_err(Failure::host)?;
        self.write(&ends, Step::Staged)?;
        Ok(ends)
    }

    fn take_in(&self, ends: &Ends) -> Result<(), Failure> {
        self.move_to(Some(&ends.to))?;
        self.services.adopt(self.call(&ends.to, None, Way::Forward))?;
        self.well(ends)?;
        self.write(ends, Step::Baking)
    }

    /// Whether what runs is well. What is not was not so by what is brought: it is of this host.
    fn well(&self, ends: &Ends) -> Result<(), Failure> {
        let call = self.call(&ends.to, None, Way::Forward);
        let well = self.services.ready(call).and_then(|()| self.services.hook(Hook::Check, call));
        well.map_err(|failure| {
            Failure::host(format!("it is not well as it runs here: {}", failure.note))
        })
    }

    /// The way back from an adoption: everything is as it was found.
    pub(super) fn give_back(&self, ends: &Ends, found: &str) -> Result<(), Failure> {
        let booted = found != self.boot;
        let call = self.call(&ends.to, None, Way::Back);
        self.urgently(|| self.services.give_back(call, booted))?;
        self.point_at(None)?;
        if booted {
            self.well(ends).map_err(|Failure { cause, note }| {
                let note = format!("since the boot, {note}: start it as it was started before");
                Failure { cause, note }
            })?;
        }
        Ok(())
    }

    /// What the journal says of an adoption of `to`.
    pub(super) fn adopted(&self, to: &Digest) -> Option<String> {
        let last = Journal::load(&*self.disk, &self.journal).ok().flatten();
        last.filter(|last| last.to == *to).and_then(|last| last.adopted)
    }
}
