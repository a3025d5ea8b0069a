//! The real side of [`Services`]: this machine, its systemd and its shell.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use durable::RealDisk;
use proto::UnixTime;
use proto::artifact::Manifest;
use proto::evidence::Sample;
use proto::receipt::Cause;
use proto::statement::Hook;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::shell::Shell;
#[cfg(test)]
use super::systemd::Manager;
use super::systemd::Systemd;
use super::units::{Lookout, UNIT_DIRECTORY, Units};
use super::{Call, Failure, Mask, Services, Watch, Words};
use crate::activate::{Installed, Paths};
use crate::allowed::Allowed;
use crate::health;
use crate::health::metrics::Page;
use crate::load::Load;

/// Runs releases as units of systemd or by their commands, whichever they say.
///
/// Its calls block: they belong on a thread where that is allowed, never on a worker of `runtime`.
#[derive(Clone)]
pub struct Machine {
    shell: Shell,
    units: Units,
    allowed: Arc<Allowed>,
    runtime: Handle,
}

impl Machine {
    /// Keeps logs in `STATE/logs` and what runs in `STATE/run`; asks systemd, and checks health, on
    /// `runtime`.
    ///
    /// # Errors
    ///
    /// As making those directories.
    pub fn new(state_dir: &Path, allowed: Allowed, runtime: Handle) -> io::Result<Self> {
        let units = Units {
            directory: UNIT_DIRECTORY.into(),
            disk: Arc::new(RealDisk),
            manager: Arc::new(Systemd),
        };
        Ok(Self { shell: Shell::new(state_dir)?, units, allowed: Arc::new(allowed), runtime })
    }

    /// With units in a directory that a boot empties, for tests.
    #[cfg(test)]
    pub(crate) fn with_units_in(mut self, directory: &Path) -> Self {
        self.units.directory = directory.to_owned();
        self
    }

    /// With a systemd that says what it is told to, for tests.
    #[cfg(test)]
    pub(super) fn with_manager(mut self, manager: Arc<dyn Manager>) -> Self {
        self.units.manager = manager;
        self
    }

    /// What to look at beside the health check; nothing where the release runs by commands.
    fn lookout(&self, call: Call<'_>) -> Option<Lookout> {
        unit(call.release).map(|unit| self.runtime.block_on(self.units.look(unit)))
    }
}

impl Services for Machine {
    fn prepare(&self, call: Call<'_>) -> Result<(), Failure> {
        self.shell.prepare(call, &self.allowed)?;
        match unit(call.release) {
            None => Ok(()),
            Some(unit) => self.runtime.block_on(self.units.prepare(call, unit, &self.allowed)),
        }
    }

    fn verify(&self, manifest: &[u8], directory: &Path) -> Result<(), Failure> {
        let manifest = Manifest::parse(manifest)
            .map_err(|error| Failure::host(format!("manifest: {error}")))?;
        pack::verify_tree(&manifest, directory).map_err(|error| Failure::host(error.to_string()))
    }

    fn load(&self, paths: &Paths, release: Option<&Installed>) -> Result<(), Failure> {
        let unit = release.and_then(unit);
        self.runtime.block_on(self.units.load(paths, unit))
    }

    fn prepare_adoption(&self, call: Call<'_>) -> Result<(), Failure> {
        self.shell.prepare(call, &self.allowed)?;
        match unit(call.release) {
            None if !call.release.release.tells_if_it_runs() => Err(Failure::release(
                "nothing tells whether it runs: without a unit it takes health.http, health.command or \
                     run.check",
            )),
            None => Ok(()),
            Some(unit) => {
                self.runtime.block_on(self.units.prepare_adoption(call, unit, &self.allowed))
            }
        }
    }

    fn adopt(&self, call: Call<'_>) -> Result<(), Failure> {
        match unit(call.release) {
            None => Ok(()),
            Some(unit) => self.runtime.block_on(self.units.adopt(call.paths, unit)),
        }
    }

    fn give_back(&self, call: Call<'_>, start: bool) -> Result<(), Failure> {
        match unit(call.release) {
            None => Ok(()),
            Some(unit) => {
                self.runtime.block_on(self.units.give_back(call.paths, unit, start, limit(call)))
            }
        }
    }

    fn start(&self, call: Call<'_>) -> Result<(), Failure> {
        match unit(call.release) {
            None => {
                let start = &call.release.release.run.start;
                self.shell.run("start", start, call, Cause::Release)
            }
            Some(unit) => {
                let started = self.runtime.block_on(self.units.start(unit, limit(call)));
                started
                    .map_err(|Failure { cause, note }| Failure { cause, note: hide(call, &note) })
            }
        }
    }

    fn stop(&self, call: Call<'_>) -> Result<(), Failure> {
        match unit(call.release) {
            None => {
                let stop = &call.release.release.run.stop;
                self.shell.run("stop", stop, call, Cause::Host)
            }
            Some(unit) => self.runtime.block_on(self.units.stop(unit, limit(call))),
        }
    }

    fn hook(&self, hook: Hook, call: Call<'_>) -> Result<(), Failure> {
        let Some(command) = call.release.release.run.hook(hook) else { return Ok(()) };
        let refusal = match hook {
            Hook::Check => Cause::Release,
            Hook::Drain | Hook::Undrain | Hook::AfterCommit => Cause::Host,
        };
        self.shell.run(hook.name(), command, call, refusal)
    }

    fn ready(&self, call: Call<'_>) -> Result<(), Failure> {
        let (checks, lookout) = (Shell::checks(call)?, self.lookout(call));
        let answers = health::wait_ready(&checks, call.trail);
        let runs = async {
            match &lookout {
                None => Ok(()),
                Some(lookout) => lookout.check().await,
            }
        };
        // Never stopped: it ends with the first answer.
        let never = CancellationToken::new();
        let ends = async {
            match &lookout {
                None => std::future::pending().await,
                Some(lookout) => lookout.watch(&never).await.unwrap_or_default(),
            }
        };
        let ready = async {
            tokio::select! {
                // One that has ended will not answer any more.
                note = ends => Err(note),
                answered = answers => match answered {
                    Ok(()) => runs.await,
                    Err(note) => Err(note),
                },
            }
        };
        let ready = self.runtime.block_on(ready);
        ready.map_err(|note| Failure::release(hide(call, &note)))
    }

    fn watch(&self, call: Call<'_>, stop: CancellationToken) -> Result<Watch, Failure> {
        let (checks, lookout) = (Shell::checks(call)?, self.lookout(call));
        let (mask, trail) = (Shell::mask(call.paths)?, call.trail.clone());
        let most = call.release.release.health.journal_errors_max;
        Ok(Box::pin(async move {
            let answers = health::watch(&checks, &trail, &stop);
            let runs = async {
                match &lookout {
                    None => std::future::pending().await,
                    Some(lookout) => lookout.watch(&stop).await,
                }
            };
            let errors = async {
                match (&lookout, most) {
                    (Some(lookout), Some(most)) => lookout.watch_errors(most, &trail, &stop).await,
                    _ => std::future::pending().await,
                }
            };
            let note = match (&checks[..], &lookout) {
                ([], None) => None,
                _ => tokio::select! {
                    note = runs => note,
                    note = answers => note,
                    note = errors => note,
                },
            };
            note.map(|note| mask.hide(&note))
        }))
    }

    fn page(&self, call: Call<'_>) -> Result<Option<Page>, Failure> {
        Shell::page(call)
    }

    fn seen(&self, call: Call<'_>) -> Vec<Sample> {
        let samples = call.trail.read().1;
        let hidden = |mask: Mask| {
            let hide = |sample: Sample| Sample { text: mask.hide(&sample.text), ..sample };
            samples.into_iter().map(hide).collect()
        };
        Shell::mask(call.paths).map(hidden).unwrap_or_default()
    }

    fn words(&self, call: Call<'_>, since: UnixTime) -> Words {
        let mask = match Shell::mask(call.paths) {
            Ok(mask) => mask,
            // Nobody can tell what of it must not leave this host.
            Err(failure) => {
                let log = format!("(the output is not kept: {})", failure.note);
                return Words { log, journal: String::new() };
            }
        };
        let journal = unit(call.release).map(|unit| {
            let read = self.units.journal(unit, since);
            mask.hide(&self.runtime.block_on(read))
        });
        let log = mask.hide(&self.shell.end_of_log(call, since));
        Words { log, journal: journal.unwrap_or_default() }
    }

    fn host(&self) -> Load {
        Load::of_this_machine()
    }

    fn arm(&self, paths: &Paths, armed: bool) {
        self.runtime.block_on(self.units.arm(paths.service(), armed));
    }

    fn end_left_over(&self, paths: &Paths) -> Result<(), Failure> {
        self.shell.end_left_over(paths)
    }
}

/// The unit that a release runs as.
fn unit(release: &Installed) -> Option<&str> {
    release.release.run.unit.as_deref()
}

/// A note without the values of `shared/env`. Where that does not read, nobody can tell what of it must
/// not leave this host, and none of it does.
pub(super) fn hide(call: Call<'_>, note: &str) -> String {
    match Shell::mask(call.paths) {
        Ok(mask) => mask.hide(note),
        Err(failure) => format!("(what it said is not told: {})", failure.note),
    }
}

fn limit(call: Call<'_>) -> Duration {
    Duration::from_secs(call.release.release.run.timeout_s.into())
}
