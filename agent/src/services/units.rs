//! Services that run as units of systemd: their files linked through `current`, started, stopped
//! and watched by the manager of this machine (R22, R24).
//!
//! `/etc/systemd/system/web.service` is a link to `/srv/web/current/web.service`, so that the unit
//! file comes and goes with its release; whoever moves `current` has systemd read its units anew.
//! A unit is linked and never enabled: at a boot nothing may start before the journal has decided
//! which release it is to be (R19), and that is not for the release's own `[Install]` to say. So
//! the agent starts it, or what decides in its place.
//!
//! Nothing here remembers anything: an agent that starts anew finds all of it by the links and by
//! asking systemd, and touches no unit that runs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use durable::{Disk, Kind, replace_link};
use member::{chain, clock};
use proto::unit::{UNIT_BYTES_MAX, UnitFile};
use proto::{Service, UnixTime};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::aside::{put_back, set_aside};
use super::systemd::{Job, Manager, ManagerError, UnitState};
use super::{Call, Failure};
use crate::activate::Paths;
use crate::allowed::Allowed;
use crate::trail::Trail;

/// Where the units of this host's owner lie.
pub(super) const UNIT_DIRECTORY: &str = "/etc/systemd/system";
/// Between two looks at a unit that is watched.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two counts of its errors, and over how long they are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);
const ERRORS_OVER_S: u64 = 60;
/// How long setting the guard may take: a way back does not wait for that.
const ARM_LIMIT: Duration = Duration::from_secs(2);
/// Longest last words in a note, in characters.
const WORDS_CHARS: usize = 200;
/// What systemd says of a unit that it does not know.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// What it says where a unit file means nothing, or there is none.
const BAD_UNIT: [&str; 3] = [
    NO_SUCH_UNIT,
    "org.freedesktop.systemd1.BadUnitSetting",
    "org.freedesktop.systemd1.LoadFailed",
];

/// The units of services on this machine.
#[derive(Clone)]
pub(super) struct Units {
    pub(super) directory: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) manager: Arc<dyn Manager>,
}

impl Units {
    /// Whatever can be known to be wrong with the unit of a release before anything is stopped.
    pub(super) async fn prepare(
        &self,
        call: Call<'_>,
        unit: &str,
        allowed: &Allowed,
    ) -> Result<(), Failure> {
        self.check_file(call, unit, allowed).await?;
        let link = self.directory.join(unit);
        refuse_foreign(&*self.disk, &link, &call.paths.current().join(unit))
            .map_err(|error| cannot_link(&link, &error))?;
        let state = self.state(unit).await?;
        if state.load == "loaded" && Path::new(&state.path) != link {
            return Err(Failure::host(format!(
                "{unit} is a unit of this host already, {}: remove it, or give the unit of the \
                 release another name",
                state.path
            )));
        }
        if state.load == "masked" {
            let note = format!("{unit} is masked on this host: `systemctl unmask {unit}`");
            return Err(Failure::host(note));
        }
        self.check_drop_ins(unit, state, allowed)
    }

    /// As [`Self::prepare`], for a unit that runs here already, whoever brought it.
    pub(super) async fn prepare_adoption(
        &self,
        call: Call<'_>,
        unit: &str,
        allowed: &Allowed,
    ) -> Result<(), Failure> {
        self.check_file(call, unit, allowed).await?;
        let state = self.state(unit).await?;
        if state.load != "loaded" || state.active != "active" {
            let (load, active) = (&state.load, &state.active);
            return Err(Failure::host(format!(
                "{unit} does not run on this host ({load}, {active}), and only what runs as the unit \
                 of that name can be adopted"
            )));
        }
        if !state.triggered_by.is_empty() {
            return Err(Failure::host(format!(
                "{} would start {unit} at a boot, before anybody has decided which release it is to be: \
                 disable it first, `systemctl disable --now {}`",
                state.triggered_by.join(", "),
                state.triggered_by.join(" "),
            )));
        }
        self.check_drop_ins(unit, state, allowed)
    }

    /// What is wrong with it whatever lies in its place: its name, its file, or that its errors are to be
    /// counted and cannot be.
    async fn check_file(
        &self,
        call: Call<'_>,
        unit: &str,
        allowed: &Allowed,
    ) -> Result<(), Failure> {
        allowed.unit(call.paths.service(), unit)?;
        allowed.unit_file(unit, &unit_file(&*self.disk, call, unit)?)?;
        match call.release.release.health.journal_errors_max {
            Some(_) => self.check_journal().await,
            None => Ok(()),
        }
    }

    /// Whether errors can be counted here at all.
    pub(super) async fn check_journal(&self) -> Result<(), Failure> {
        match self.manager.errors(&[], clock::now().unix, 1).await {
            Some(_) => Ok(()),
            None => Err(Failure::host(
                "health.journal_errors_max: the journal cannot be read here: look what `journalctl \
                 --lines=1` says",
            )),
        }
    }

    fn check_drop_ins(
        &self,
        unit: &str,
        state: UnitState,
        allowed: &Allowed,
    ) -> Result<(), Failure> {
        let mut drop_ins = state.drop_ins;
        drop_ins.extend(self.drop_ins(unit));
        allowed.drop_ins(unit, &drop_ins)
    }

    /// What lies ready to be put over a unit that systemd does not know yet.
    fn drop_ins(&self, unit: &str) -> Vec<String> {
        let directory = self.directory.join(format!("{unit}.d"));
        let names = self.disk.list(&directory).unwrap_or_default();
        let paths = names.iter().map(|name| directory.join(name).display().to_string());
        paths.filter(|path| path.ends_with(".conf")).collect()
    }

    /// Links the unit of the release that `current` points at, and takes the link of any other of
    /// this service away; then systemd reads its units anew. Without a unit on either side systemd
    /// is not asked for anything.
    pub(super) async fn load(&self, paths: &Paths, unit: Option<&str>) -> Result<(), Failure> {
        let changed = link(&*self.disk, &self.directory, paths, unit)?;
        if unit.is_some() || changed {
            self.manager.reload().await.map_err(|error| Failure::host(error.to_string()))?;
        }
        Ok(())
    }

    /// Links the unit of the release that `current` points at in place of what somebody else has there,
    /// which is moved aside. Systemd reads its units anew, and what runs runs on.
    pub(super) async fn adopt(&self, paths: &Paths, unit: &str) -> Result<(), Failure> {
        set_aside(&*self.disk, &self.directory, unit, &paths.current().join(unit))
            .map_err(|error| self.cannot_move(&error))?;
        self.load(paths, Some(unit)).await?;
        let (link, path) = (self.directory.join(unit), self.state(unit).await?.path);
        match Path::new(&path) == link {
            true => Ok(()),
            false => Err(Failure::host(format!(
                "{unit}: systemd goes by {path}, which {} does not take the place of",
                link.display()
            ))),
        }
    }

    /// Puts back what [`Self::adopt`] moved aside. Systemd reads its units anew, and what runs runs on;
    /// what does not is started where that is asked for.
    pub(super) async fn give_back(
        &self,
        paths: &Paths,
        unit: &str,
        start: bool,
        limit: Duration,
    ) -> Result<(), Failure> {
        // Its own link first: where a package brought the unit, nothing takes that one's place.
        link(&*self.disk, &self.directory, paths, None)?;
        put_back(&*self.disk, &self.directory, unit).map_err(|error| self.cannot_move(&error))?;
        self.manager.reload().await.map_err(|error| Failure::host(error.to_string()))?;
        if start {
            self.start(unit, limit).await?;
        }
        Ok(())
    }

    fn cannot_move(&self, error: &io::Error) -> Failure {
        Failure::host(format!("{}: {error}", self.directory.display()))
    }

    /// Starts the unit, and waits until systemd says that it is.
    pub(super) async fn start(&self, unit: &str, limit: Duration) -> Result<(), Failure> {
        let started = async {
            // What ran before under this name may have used up the starts that are allowed in a time.
            self.manager.forget_failures(unit).await?;
            self.manager.run(Job::Start, unit).await
        };
        let result = match tokio::time::timeout(limit, started).await {
            Ok(Ok(result)) => result,
            Ok(Err(ManagerError::Refused { name, text })) if BAD_UNIT.contains(&name.as_str()) => {
                return Err(Failure::release(format!("{unit}: {text}")));
            }
            Ok(Err(error)) => return Err(Failure::host(format!("{unit}: {error}"))),
            Err(_) => {
                let note = format!("{unit} did not start within {} s", limit.as_secs());
                return Err(Failure::release(self.with_last_words(unit, note).await));
            }
        };
        match result.as_str() {
            "done" => Ok(()),
            "failed" | "timeout" => {
                let ended = ended(&self.state(unit).await?);
                let note = format!("job {result}: {unit}: {ended}");
                Err(Failure::release(self.with_last_words(unit, note).await))
            }
            "dependency" => Err(Failure::host(format!(
                "job failed: {unit}: a unit that it needs did not start{}",
                see(unit)
            ))),
            other => Err(Failure::host(format!("job {other}: {unit}: it was not started"))),
        }
    }

    /// Stops the unit; one that systemd does not know does not run.
    pub(super) async fn stop(&self, unit: &str, limit: Duration) -> Result<(), Failure> {
        match tokio::time::timeout(limit, self.manager.run(Job::Stop, unit)).await {
            Ok(Ok(result)) if result == "done" => Ok(()),
            // It may have ended in a bad way, and that is an end.
            Ok(Ok(result)) => match self.state(unit).await?.active.as_str() {
                "inactive" | "failed" => Ok(()),
                active => Err(Failure::host(format!("job {result}: {unit}: it is still {active}"))),
            },
            Ok(Err(ManagerError::Refused { name, .. })) if name == NO_SUCH_UNIT => Ok(()),
            Ok(Err(error)) => Err(Failure::host(format!("{unit}: {error}"))),
            Err(_) => {
                Err(Failure::host(format!("{unit} did not stop within {} s", limit.as_secs())))
            }
        }
    }

    /// What to watch from now on: restarts that there were before do not count; none does where
    /// nobody can tell how many there were.
    pub(super) async fn look(&self, unit: &str) -> Lookout {
        let restarts = match self.manager.state(unit).await {
            Ok(state) => state.restarts,
            Err(error) => {
                tracing::warn!(%unit, %error, "cannot look at a unit");
                u32::MAX
            }
        };
        Lookout { units: self.clone(), unit: unit.to_owned(), restarts }
    }

    /// What the journal has of the unit since then.
    pub(super) async fn journal(&self, unit: &str, since: UnixTime) -> String {
        self.manager.journal(unit, since).await
    }

    async fn state(&self, unit: &str) -> Result<UnitState, Failure> {
        let state = self.manager.state(unit).await;
        state.map_err(|error| Failure::host(format!("{unit}: {error}")))
    }

    async fn with_last_words(&self, unit: &str, note: String) -> String {
        let words = match self.manager.state(unit).await {
            Ok(state) => self.manager.last_words(&state.invocation).await,
            // Told without them.
            Err(_) => String::new(),
        };
        let words = words.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
        match words.take(WORDS_CHARS).collect::<String>() {
            // A note is short, and what it said last says more than where it stands.
            words if words.is_empty() => note + &see(unit),
            words => format!("{note}: {words}"),
        }
    }
}

/// A unit that runs, and how often systemd had restarted it when it was first looked at.
#[derive(Clone)]
pub(super) struct Lookout {
    units: Units,
    unit: String,
    restarts: u32,
}

impl Lookout {
    /// Whether it runs on, now.
    ///
    /// # Errors
    ///
    /// The evidence: it ended, or was restarted.
    pub(super) async fn check(&self) -> Result<(), String> {
        let unit = &self.unit;
        let state = match self.units.manager.state(unit).await {
            Ok(state) => state,
            // Nobody can be asked: no proof that the service is at fault.
            Err(error) => {
                tracing::warn!(%unit, %error, "cannot look at a unit");
                return Ok(());
            }
        };
        let Some(wrong) = wrong(&state, self.restarts) else { return Ok(()) };
        let note = format!("{unit} {wrong}: {}", ended(&state));
        Err(self.units.with_last_words(unit, note).await)
    }

    /// Looks until it no longer runs on, and returns the evidence; or until `stop`.
    pub(super) async fn watch(&self, stop: &CancellationToken) -> Option<String> {
        loop {
            if let Err(note) = self.check().await {
                return Some(note);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

// --- errors in the journal ---

impl Lookout {
    /// Whether the unit has written no more errors than so many in the last minute.
    ///
    /// # Errors
    ///
    /// The evidence, with its last line.
    pub(super) async fn count_errors(&self, most: u32, trail: &Trail) -> Result<(), String> {
        let (unit, manager) = (&self.unit, &self.units.manager);
        // Nobody can be asked, as in [`Self::check`].
        let Ok(state) = manager.state(unit).await else { return Ok(()) };
        let since = UnixTime(clock::now().unix.0.saturating_sub(ERRORS_OVER_S));
        let counted = manager.errors(&state.invocation, since, most.saturating_add(1)).await;
        let Some(errors) = counted else {
            // No proof that the service is at fault, and none that it is not: said, at least.
            tracing::warn!(unit, "its errors are not counted: the journal cannot be read");
            trail.say(format_args!("journal: cannot be read"));
            return Ok(());
        };
        trail.say(format_args!("journal: {errors} errors in a minute"));
        if errors <= most {
            return Ok(());
        }
        let (see, last) = (see(unit), manager.last_words(&state.invocation).await);
        let last: String = last.chars().take(WORDS_CHARS).collect();
        Err(format!("{unit} wrote more than {most} errors in a minute{see}: {last}"))
    }

    /// Counts until there are too many, and returns the evidence; or until `stop`.
    pub(super) async fn watch_errors(
        &self,
        most: u32,
        trail: &Trail,
        stop: &CancellationToken,
    ) -> Option<String> {
        loop {
            if let Err(note) = self.count_errors(most, trail).await {
                return Some(note);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(COUNT_EVERY) => {}
            }
        }
    }
}

// --- the guard's timer ---

impl Units {
    /// Starts or stops the timer that runs the guard of a service (R19). It comes with the package; and
    /// no activation is better for not being done without it.
    pub(super) async fn arm(&self, service: &Service, armed: bool) {
        let timer = format!("groundswell-guard@{service}.timer");
        let job = if armed { Job::Start } else { Job::Stop };
        let asked = self.manager.run(job, &timer);
        match tokio::time::timeout(ARM_LIMIT, asked).await {
            Ok(Ok(end)) if end == "done" => {}
            // No systemd at all, as in a container.
            Ok(Err(error @ ManagerError::Unreachable(_))) => debug!(%service, %error, "no guard"),
            ended => warn!(
                %service, armed, ?ended,
                "cannot set the timer {timer}: should this agent die and stay away, nobody finishes \
                 what it was about"
            ),
        }
    }
}

// --- words ---

/// What is wrong with a unit that should run; nothing: nothing.
fn wrong(state: &UnitState, restarts: u32) -> Option<String> {
    if state.restarts > restarts {
        return Some("ended and was restarted".to_owned());
    }
    match (state.active.as_str(), state.sub.as_str()) {
        ("activating", "auto-restart") => Some("ended, to be restarted".to_owned()),
        ("active" | "reloading" | "refreshing" | "activating" | "deactivating", _) => None,
        // One that does its work and ends does not run on.
        ("inactive", _) if state.kind == "oneshot" => None,
        (active, _) => Some(format!("is {active}")),
    }
}

/// How a service ended, in words.
fn ended(state: &UnitState) -> String {
    let status = state.status;
    match (state.result.as_str(), status) {
        ("success", _) => "ended by itself".to_owned(),
        // What systemd itself leaves as exit status where it cannot run the command.
        ("exit-code", 203) => "its command cannot be executed (203/EXEC)".to_owned(),
        ("exit-code", 200) => "its working directory cannot be entered (200/CHDIR)".to_owned(),
        ("exit-code", 216) => "its group is not there (216/GROUP)".to_owned(),
        ("exit-code", 217) => "its user is not there (217/USER)".to_owned(),
        ("exit-code", 226) => "its namespaces cannot be made (226/NAMESPACE)".to_owned(),
        ("exit-code", _) => format!("exited with status {status}"),
        ("signal" | "core-dump", _) => format!("was killed by signal {status}"),
        ("timeout", _) => "it took longer than its unit allows".to_owned(),
        ("watchdog", _) => "it missed its watchdog".to_owned(),
        ("oom-kill", _) => "it was killed for want of memory".to_owned(),
        ("start-limit-hit", _) => "it was restarted too often".to_owned(),
        ("resources", _) => {
            "systemd could not set it up (resources): a file that it names may be missing, like its \
             EnvironmentFile="
                .to_owned()
        }
        (other, _) => format!("result {other}"),
    }
}

fn see(unit: &str) -> String {
    format!(" (see `journalctl -u {}`)", unit.strip_suffix(".service").unwrap_or(unit))
}

/// The unit file of a release, as it stands in its tree.
pub(super) fn unit_file(disk: &dyn Disk, call: Call<'_>, unit: &str) -> Result<UnitFile, Failure> {
    let path = call.paths.release(&call.release.id).join(unit);
    let wrong = |why: String| Failure::release(format!("run.unit = {unit:?}: the file {why}"));
    match disk.kind(&path) {
        Ok(Some(Kind::File { .. })) => {}
        Ok(_) => return Err(wrong("is not at the root of the artifact".to_owned())),
        Err(error) => return Err(Failure::host(format!("{}: {error}", path.display()))),
    }
    let bytes = disk.read(&path, UNIT_BYTES_MAX as u64);
    let bytes = bytes.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    UnitFile::parse(&bytes).map_err(|error| wrong(error.to_string()))
}

// --- links ---

/// Makes `directory` hold the link of this unit through `current`, and of no other unit of the
/// service; durably. Whether anything was changed.
pub(crate) fn link(
    disk: &dyn Disk,
    directory: &Path,
    paths: &Paths,
    unit: Option<&str>,
) -> Result<bool, Failure> {
    let removed = unlink_others(disk, directory, paths, unit)
        .map_err(|error| Failure::host(format!("{}: {error}", directory.display())))?;
    let Some(unit) = unit else { return Ok(removed) };
    let (link, target) = (directory.join(unit), paths.current().join(unit));
    let there = refuse_foreign(disk, &link, &target).map_err(|error| cannot_link(&link, &error))?;
    if !there {
        replace_link(disk, &link, &target).map_err(|error| Failure::host(chain(&error)))?;
    }
    Ok(removed || !there)
}

/// Removes the links of units of this service, but for `unit`'s. Whether there were any.
fn unlink_others(
    disk: &dyn Disk,
    directory: &Path,
    paths: &Paths,
    unit: Option<&str>,
) -> io::Result<bool> {
    let names = match disk.list(directory) {
        Ok(names) => names,
        // No systemd here, and no unit that would need one.
        Err(error) if error.kind() == io::ErrorKind::NotFound && unit.is_none() => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let others = names.iter().filter(|name| unit.is_none_or(|unit| unit != name.as_os_str()));
    let mut removed = false;
    for name in others {
        let path = directory.join(name);
        let own = disk.read_link(&path).is_ok_and(|to| to == paths.current().join(name));
        if own {
            disk.remove_file(&path)?;
            removed = true;
        }
    }
    if removed {
        disk.sync_dir(directory)?;
    }
    Ok(removed)
}

/// Whether `link` is there and points at `target`. What is of somebody else is an error.
fn refuse_foreign(disk: &dyn Disk, link: &Path, target: &Path) -> io::Result<bool> {
    match disk.kind(link)? {
        None => Ok(false),
        Some(Kind::Link) if disk.read_link(link)? == target => Ok(true),
        Some(_) => {
            Err(io::Error::other("there is a unit of this name that is not of this service"))
        }
    }
}

fn cannot_link(link: &Path, error: &io::Error) -> Failure {
    Failure::host(format!("{}: {error}: move it away", link.display()))
}
