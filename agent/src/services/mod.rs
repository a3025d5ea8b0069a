//! Running a service as its release says (R23), and what activation asks of the outside.
//!
//! [`Services`] is the seam between the order of an activation's steps ([`crate::activate`]) and
//! this machine. Its real side is [`Machine`]: a release runs as a unit of systemd (`units`), or by
//! commands (`shell`); hooks are commands either way.
//!
//! A command is `/bin/sh -c`, in the release's directory, in a process group of its own, as the
//! release's user. It must return; what it leaves behind in the background is the service, which
//! outlives the agent and is never killed by it. Only a command that does not return in time is
//! killed, with its process group. Exit code 75 means not yet: it is run again for as long as it may
//! take.
//!
//! **Environment of a command**: `PATH`, `LANG`, `HOME` (= `shared/`), then the variables of
//! `shared/env`, then
//!
//! | variable | value |
//! |---|---|
//! | `SWELL_SERVICE` | the service's name |
//! | `SWELL_RELEASE` | the version whose command this is |
//! | `SWELL_FROM` | the version this host moves away from; unset where there is none |
//! | `SWELL_DIRECTION` | `forward`, or `back` |
//! | `SWELL_DIR` | the release's directory, also the working directory |
//! | `SWELL_SHARED` | the directory that outlives releases: the only one the service writes to |
//!
//! Nothing else: not what the agent was started with.

mod aside;
mod command;
mod env;
mod machine;
mod mask;
mod process;
mod shell;
mod systemd;
mod units;
mod user;

#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;
use std::pin::Pin;

use proto::evidence::Sample;
use proto::receipt::Cause;
use proto::statement::Hook;
use proto::{UnixTime, Version};
use tokio_util::sync::CancellationToken;

#[cfg(test)]
pub(crate) use aside::{put_back, set_aside};
pub(crate) use command::{last_line_of, shell};
pub(crate) use env::is_variable_name;
pub use env::{EnvError, EnvProblem, Variables};
pub use machine::Machine;
pub use mask::Mask;
pub use process::boot_id;
#[cfg(test)]
pub(crate) use shell::Shell;
#[cfg(test)]
pub(crate) use units::link as link_unit;

use crate::activate::{Installed, Paths};
use crate::health::metrics::Page;
use crate::load::Load;
use crate::trail::Trail;

/// Whether a command runs because something is brought or because it is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Forward,
    Back,
}

impl Way {
    /// The value of `SWELL_DIRECTION`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Back => "back",
        }
    }
}

/// Whose command to run, and in what direction the host is going.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub paths: &'a Paths,
    /// The release whose command or check it is.
    pub release: &'a Installed,
    /// The version this host moves away from.
    pub leaving: Option<&'a Version>,
    pub way: Way,
    /// Where it is told what was seen.
    pub trail: &'a Trail,
}

/// Why something did not work, and whose fault it is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub cause: Cause,
    /// The evidence in a line, for people.
    pub note: String,
}

impl Failure {
    /// The host's fault: its disk, its settings, a command that does not end.
    pub fn host(note: impl Into<String>) -> Self {
        Self { cause: Cause::Host, note: note.into() }
    }

    /// The release's fault.
    pub fn release(note: impl Into<String>) -> Self {
        Self { cause: Cause::Release, note: note.into() }
    }
}

/// The last that a release had to say, without what must not leave this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// Of its commands, and of what they left behind.
    pub log: String,
    /// Of its unit, in the journal of the machine.
    pub journal: String,
}

/// Ends with the evidence once the service fails, or with nothing: the watch is over, or this is a
/// service that nobody can ask.
pub type Watch = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// What activation asks of the machine besides its disk. Each call blocks until it is done.
///
/// # Errors
///
/// [`Failure`], with the evidence.
#[expect(clippy::missing_errors_doc, reason = "said once, above, for all calls")]
pub trait Services: Send + Sync {
    /// Whatever can be known to be wrong before anything is stopped: settings that do not parse, a
    /// health URL that names an unknown variable.
    fn prepare(&self, call: Call<'_>) -> Result<(), Failure>;

    /// Whether the tree in `directory` is exactly what `manifest` says.
    fn verify(&self, manifest: &[u8], directory: &Path) -> Result<(), Failure>;

    /// Tells the machine that `current` points at `release` now, or at nothing: from here on it knows
    /// the unit of that one, and of no other of the service.
    fn load(&self, paths: &Paths, release: Option<&Installed>) -> Result<(), Failure>;

    /// As [`Self::prepare`], for a release that runs here already, brought by somebody else.
    fn prepare_adoption(&self, call: Call<'_>) -> Result<(), Failure>;

    /// Has the machine know the unit of the release, which `current` points at, in place of the one of
    /// somebody else. Nothing is stopped or started.
    fn adopt(&self, call: Call<'_>) -> Result<(), Failure>;

    /// Takes [`Self::adopt`] back. Nothing is stopped; `start`: a unit that does not run is started.
    fn give_back(&self, call: Call<'_>, start: bool) -> Result<(), Failure>;

    /// Starts the release, by its command or as its unit.
    fn start(&self, call: Call<'_>) -> Result<(), Failure>;

    /// Stops it; what does not run is stopped.
    fn stop(&self, call: Call<'_>) -> Result<(), Failure>;

    /// Runs a command that the release may have; nothing where it has none.
    fn hook(&self, hook: Hook, call: Call<'_>) -> Result<(), Failure>;

    /// Waits until the service answers its health check, within the release's limit.
    fn ready(&self, call: Call<'_>) -> Result<(), Failure>;

    /// Begins to watch what serves, until `stop`.
    fn watch(&self, call: Call<'_>, stop: CancellationToken) -> Result<Watch, Failure>;

    /// Where to read what the service counts of its requests; none: nowhere.
    fn page(&self, call: Call<'_>) -> Result<Option<Page>, Failure>;

    /// What was seen of a release, without what must not leave this host: a URL may name a secret.
    fn seen(&self, call: Call<'_>) -> Vec<Sample>;

    /// The last words of a release since then, when the attempt began. To read a journal may take some
    /// seconds; nothing else is waited for.
    fn words(&self, call: Call<'_>, since: UnixTime) -> Words;

    /// How the host is now.
    fn host(&self) -> Load;

    /// Sets what runs the guard of the service again and again should this agent die
    /// ([`crate::guard`]), or takes it away. Where there is nobody who could, nothing happens.
    fn arm(&self, paths: &Paths, armed: bool);

    /// Ends a command that an agent, killed in the middle of it, left running.
    fn end_left_over(&self, paths: &Paths) -> Result<(), Failure>;
}
