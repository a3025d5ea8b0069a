//! Whether what serves is still what was released (R25): edited files, a `current` that was moved.
//! Shown, never undone: whoever changed it may be mending something. And whether what is kept and does not
//! run is still whole: that is the agent's own, and the way back.
//!
//! It takes no turn: what `current` points at is never removed, and a look during which anything else
//! moved is given up.

use pack::{GivenUp, Lookout};
use proto::Digest;
use proto::artifact::Manifest;

use super::layout::Installed;
use super::{Activator, layout};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drifted {
    /// In how many places.
    pub found: u32,
    /// The first of them, for people.
    pub first: String,
}

impl Drifted {
    fn one(first: &impl ToString) -> Option<Self> {
        Some(Self { found: 1, first: first.to_string() })
    }
}

/// What is known from one look to the next.
#[derive(Debug, Default)]
pub struct Outlook {
    tree: Option<(Digest, Lookout)>,
}

impl Activator {
    /// Looks once whether `serving`, which no step is about to replace, stands as it was released;
    /// `Ok(None)`: it does. As [`Lookout::look`] for `bytes_max` and `pace`.
    ///
    /// # Errors
    ///
    /// [`GivenUp`]: `pace` said no.
    pub fn drift(
        &self,
        serving: &Digest,
        known: &mut Outlook,
        bytes_max: u64,
        pace: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Drifted>, GivenUp> {
        let link = self.paths.current();
        let installed = match self.current() {
            Ok(Some(current)) if current.id == *serving => current,
            Ok(Some(other)) => {
                let (to, serves) = (&other.release.version, layout::target(serving));
                let first = format!("current was moved to {to}, {} serves", serves.display());
                return Ok(Drifted::one(&first));
            }
            Ok(None) => return Ok(Drifted::one(&format!("{} is gone", link.display()))),
            Err(error) => return Ok(Drifted::one(&error)),
        };
        self.compare(&installed, known, bytes_max, pace)
    }

    /// The same of a release that is kept and does not run.
    ///
    /// # Errors
    ///
    /// [`GivenUp`]: `pace` said no.
    pub fn damage(
        &self,
        kept: &Digest,
        known: &mut Outlook,
        bytes_max: u64,
        pace: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Drifted>, GivenUp> {
        match layout::installed(&*self.disk, &self.paths, kept) {
            Ok(installed) => self.compare(&installed, known, bytes_max, pace),
            Err(error) => Ok(Drifted::one(&error)),
        }
    }

    fn compare(
        &self,
        installed: &Installed,
        known: &mut Outlook,
        bytes_max: u64,
        pace: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Drifted>, GivenUp> {
        let id = installed.id;
        let manifest = match layout::manifest(&*self.disk, &self.paths, installed) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Drifted::one(&error)),
        };
        let manifest = match Manifest::parse(&manifest) {
            Ok(manifest) => manifest,
            Err(error) => return Ok(Drifted::one(&error)),
        };
        let before = known.tree.take().filter(|(known, _)| *known == id);
        let (_, lookout) =
            known.tree.insert(before.unwrap_or_else(|| (id, Lookout::new(&manifest))));
        let found = lookout.look(&manifest, &self.paths.release(&id), bytes_max, pace)?;
        Ok(found.map(|drift| Drifted { found: drift.found, first: drift.first.to_string() }))
    }
}
