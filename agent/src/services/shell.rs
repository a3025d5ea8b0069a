//! Commands of releases: `/bin/sh`, with the environment and as the user that R23 gives them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use durable::RealDisk;
use proto::UnixTime;
use proto::receipt::Cause;

use super::command::{Script, end_of, end_recorded};
use super::env::check_access;
use super::units::unit_file;
use super::user::User;
use super::{Call, Failure, Mask, Variables};
use crate::activate::Paths;
use crate::allowed::Allowed;
use crate::health::metrics::Page;
use crate::health::{self, Check, UrlError};

/// Where a command finds programs, unless `shared/env` says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs commands of releases on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Shell {
    logs: PathBuf,
    records: PathBuf,
}

impl Shell {
    /// Keeps logs in `STATE/logs` and what runs in `STATE/run`.
    ///
    /// # Errors
    ///
    /// As making those directories.
    pub(super) fn new(state_dir: &Path) -> io::Result<Self> {
        let (logs, records) = (state_dir.join("logs"), state_dir.join("run"));
        std::fs::create_dir_all(&logs)?;
        std::fs::create_dir_all(&records)?;
        Ok(Self { logs, records })
    }

    /// The health checks of a release on this host.
    ///
    /// # Errors
    ///
    /// [`Failure`] of the host: `shared/env` does not parse, or lacks what the URL names; there is no
    /// such user.
    pub(crate) fn checks(call: Call<'_>) -> Result<Vec<Check>, Failure> {
        let variables = variables(call.paths)?;
        let health = &call.release.release.health;
        let http = Check::new(health, &variables).map_err(|error| bad_url(call, &error))?;
        let command = match &health.command {
            None => None,
            Some(text) => Some(Check::command(
                health,
                health::Script {
                    text: text.clone(),
                    directory: call.paths.release(&call.release.id),
                    variables: environment(call)?,
                    user: user(call)?.map(|user| (user.uid, user.gid)),
                    mask: Mask::new(&variables),
                },
            )),
        };
        Ok(http.into_iter().chain(command).collect())
    }

    /// Where to read what a release counts of its requests; none where the release says nowhere.
    ///
    /// # Errors
    ///
    /// As [`Self::checks`].
    pub(super) fn page(call: Call<'_>) -> Result<Option<Page>, Failure> {
        let variables = variables(call.paths)?;
        Page::new(&call.release.release.health, &variables).map_err(|error| bad_url(call, &error))
    }

    /// Whatever can be known to be wrong before anything is stopped.
    pub(super) fn prepare(&self, call: Call<'_>, allowed: &Allowed) -> Result<(), Failure> {
        let user = user(call)?;
        match &user {
            Some(user) => allowed.user(&user.name)?,
            None if allowed.users.is_some() => allowed.user(&User::own().map_err(no_user)?.name)?,
            None => {}
        }
        check_access(&call.paths.env(), user.map(|user| user.uid))
            .map_err(|error| Failure::host(error.to_string()))?;
        environment(call)?;
        Self::page(call)?;
        Self::checks(call).map(drop)
    }

    /// Runs a command, and says how it ended, which is seen however much it says. `refusal`: whose fault it
    /// is when the command itself says no.
    pub(super) fn run(
        &self,
        name: &'static str,
        text: &str,
        call: Call<'_>,
        refusal: Cause,
    ) -> Result<(), Failure> {
        let variables = environment(call)?;
        let mask = Self::mask(call.paths)?;
        let begun = Instant::now();
        let ended = Script {
            name,
            text,
            directory: &call.paths.release(&call.release.id),
            variables: &variables,
            user: user(call)?.map(|user| (user.uid, user.gid)),
            timeout: Duration::from_secs(call.release.release.run.timeout_s.into()),
            log: &self.log(call.paths),
            record: &self.record(call.paths),
        }
        .run();
        let took = begun.elapsed();
        call.trail.say(match &ended {
            Ok(()) => format!("{name}: done in {} ms", took.as_millis()),
            Err(error) => mask.hide(&error.after(took)),
        });
        ended.map_err(|error| Failure {
            cause: if error.is_exit() { refusal } else { Cause::Host },
            note: mask.hide(&error.to_string()),
        })
    }

    /// What hides the values that stay on this host.
    ///
    /// # Errors
    ///
    /// [`Failure`] of the host: `shared/env` does not parse.
    pub(super) fn mask(paths: &Paths) -> Result<Mask, Failure> {
        variables(paths).map(|variables| Mask::new(&variables))
    }

    /// The last output of commands, and of what they left behind, since the attempt that started the release
    /// last, where there was one; `since`: when it began.
    pub(super) fn end_of_log(&self, call: Call<'_>, since: UnixTime) -> String {
        end_of(&self.log(call.paths), &call.paths.release(&call.release.id), since)
    }

    fn log(&self, paths: &Paths) -> PathBuf {
        self.logs.join(format!("{}.log", paths.service()))
    }

    pub(super) fn end_left_over(&self, paths: &Paths) -> Result<(), Failure> {
        end_recorded(&self.record(paths)).map_err(Failure::host)
    }

    fn record(&self, paths: &Paths) -> PathBuf {
        self.records.join(format!("{}.command", paths.service()))
    }
}

/// The user that commands of a release run as: the one it names, or that of its unit; none: the
/// agent's.
fn user(call: Call<'_>) -> Result<Option<User>, Failure> {
    let run = &call.release.release.run;
    let (name, by) = match (&run.user, &run.unit) {
        (Some(name), _) => (Some(name.clone()), "run.user".to_owned()),
        (None, Some(unit)) => {
            let name = unit_file(&RealDisk, call, unit)?.user().map(str::to_owned);
            (name, format!("User= of {unit}"))
        }
        (None, None) => return Ok(None),
    };
    let Some(name) = name else { return Ok(None) };
    let no_user = |why: String| Failure::host(format!("{by}: {why}"));
    let user = User::named(&name).map_err(no_user)?;
    user.check().map_err(no_user)?;
    Ok(Some(user))
}

fn no_user(why: impl std::fmt::Display) -> Failure {
    Failure::host(format!("run.user: {why}"))
}

fn bad_url(call: Call<'_>, error: &UrlError) -> Failure {
    Failure::host(format!("{error}; see {}", call.paths.env().display()))
}

fn variables(paths: &Paths) -> Result<Variables, Failure> {
    Variables::load(&paths.env()).map_err(|error| Failure::host(error.to_string()))
}

/// All of a command's environment; later ones win.
fn environment(call: Call<'_>) -> Result<Vec<(String, String)>, Failure> {
    let text = |path: PathBuf| {
        path.into_os_string()
            .into_string()
            .map_err(|path| Failure::host(format!("{} is not UTF-8", Path::new(&path).display())))
    };
    let shared = text(call.paths.shared())?;
    let own = variables(call.paths)?;
    let mut all: Vec<(&str, String)> =
        vec![("PATH", PATH.to_owned()), ("LANG", "C.UTF-8".to_owned()), ("HOME", shared.clone())];
    all.extend(own.iter().map(|(name, value)| (name, value.to_owned())));
    all.extend([
        ("SWELL_SERVICE", call.paths.service().to_string()),
        ("SWELL_RELEASE", call.release.release.version.to_string()),
        ("SWELL_DIRECTION", call.way.name().to_owned()),
        ("SWELL_DIR", text(call.paths.release(&call.release.id))?),
        ("SWELL_SHARED", shared),
    ]);
    all.extend(call.leaving.map(|version| ("SWELL_FROM", version.to_string())));
    Ok(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
