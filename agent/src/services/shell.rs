//! The real side of [`Services`]: `/bin/sh`, HTTP, the file system.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::artifact::Manifest;
use proto::receipt::Cause;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::command::{Script, end_recorded};
use super::{Call, Failure, Services, Variables, Watch};
use crate::activate::Paths;
use crate::health::metrics::Page;
use crate::health::{self, Check, UrlError};

/// Where a command finds programs, unless `shared/env` says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs commands of releases on this machine.
///
/// Its calls block: they belong on a thread where that is allowed, never on a worker of `runtime`.
#[derive(Debug, Clone)]
pub struct Shell {
    logs: PathBuf,
    records: PathBuf,
    runtime: Handle,
}

impl Shell {
    /// Keeps logs in `STATE/logs` and what runs in `STATE/run`; checks health on `runtime`.
    ///
    /// # Errors
    ///
    /// As making those directories.
    pub fn new(state_dir: &Path, runtime: Handle) -> std::io::Result<Self> {
        let (logs, records) = (state_dir.join("logs"), state_dir.join("run"));
        std::fs::create_dir_all(&logs)?;
        std::fs::create_dir_all(&records)?;
        Ok(Self { logs, records, runtime })
    }

    /// The health check of a release on this host; none where the release has none.
    ///
    /// # Errors
    ///
    /// [`Failure`] of the host: `shared/env` does not parse, or lacks what the URL names.
    pub fn check(call: Call<'_>) -> Result<Option<Check>, Failure> {
        let variables = variables(call.paths)?;
        let health = &call.release.release.health;
        Check::new(health, &variables).map_err(|error| bad_url(call, &error))
    }

    /// `refusal`: whose fault it is when the command itself says no.
    fn run(
        &self,
        name: &'static str,
        text: &str,
        call: Call<'_>,
        refusal: Cause,
    ) -> Result<(), Failure> {
        let variables = environment(call)?;
        Script {
            name,
            text,
            directory: &call.paths.release(&call.release.id),
            variables: &variables,
            timeout: Duration::from_secs(call.release.release.run.timeout_s.into()),
            log: &self.logs.join(format!("{}.log", call.paths.service())),
            record: &self.record(call.paths),
        }
        .run()
        .map_err(|error| Failure {
            cause: if error.is_exit() { refusal } else { Cause::Host },
            note: error.to_string(),
        })
    }

    fn record(&self, paths: &Paths) -> PathBuf {
        self.records.join(format!("{}.command", paths.service()))
    }
}

impl Services for Shell {
    fn prepare(&self, call: Call<'_>) -> Result<(), Failure> {
        environment(call)?;
        self.page(call)?;
        Self::check(call).map(drop)
    }

    fn verify(&self, manifest: &[u8], directory: &Path) -> Result<(), Failure> {
        let manifest = Manifest::parse(manifest)
            .map_err(|error| Failure::host(format!("manifest: {error}")))?;
        pack::verify_tree(&manifest, directory).map_err(|error| Failure::host(error.to_string()))
    }

    fn start(&self, call: Call<'_>) -> Result<(), Failure> {
        self.run("start", &call.release.release.run.start, call, Cause::Release)
    }

    fn stop(&self, call: Call<'_>) -> Result<(), Failure> {
        self.run("stop", &call.release.release.run.stop, call, Cause::Host)
    }

    fn ready(&self, call: Call<'_>) -> Result<(), Failure> {
        match Self::check(call)? {
            None => Ok(()),
            Some(check) => {
                self.runtime.block_on(health::wait_ready(&check)).map_err(Failure::release)
            }
        }
    }

    fn watch(&self, call: Call<'_>, stop: CancellationToken) -> Result<Watch, Failure> {
        let check = Self::check(call)?;
        Ok(Box::pin(async move {
            match check {
                None => None,
                Some(check) => health::watch(&check, &stop).await,
            }
        }))
    }

    fn page(&self, call: Call<'_>) -> Result<Option<Page>, Failure> {
        let variables = variables(call.paths)?;
        Page::new(&call.release.release.health, &variables).map_err(|error| bad_url(call, &error))
    }

    fn arm(&self, _: &Paths, _: bool) {}

    fn end_left_over(&self, paths: &Paths) -> Result<(), Failure> {
        end_recorded(&self.record(paths)).map_err(Failure::host)
    }
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
