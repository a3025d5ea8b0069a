//! Units on a simulated disk with a systemd that says what it is told to; and, where this machine
//! has one, on the real thing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use durable::{Disk as _, RealDisk, SimDisk};
use proto::Digest;
use proto::receipt::Cause;
use proto::statement::{ArtifactRef, Health, Release, Run, Source, UnixTime};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::machine::hide;
use super::systemd::{Job, Manager, ManagerError, Systemd, UnitState};
use super::units::Units;
use super::{Call, Failure, Machine, Services as _, Way};
use crate::activate::{Installed, Paths};
use crate::allowed::Allowed;
use crate::trail::Trail;

const UNIT: &str = "web.service";
const UNITS: &str = "/etc/systemd/system";
const LIMIT: Duration = Duration::from_secs(30);

/// A systemd that answers as it is told to.
struct Told {
    /// What becomes of the next job; none: it never ends.
    ends: Mutex<Option<Result<String, ManagerError>>>,
    state: Mutex<Result<UnitState, ManagerError>>,
    words: &'static str,
    errors: Option<u32>,
    calls: Mutex<Vec<String>>,
}

impl Told {
    fn new(state: UnitState) -> Self {
        let ends = Mutex::new(Some(Ok("done".to_owned())));
        let (state, errors) = (Mutex::new(Ok(state)), Some(0));
        Self { ends, state, words: "", errors, calls: Mutex::default() }
    }

    fn heard(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

#[async_trait]
impl Manager for Told {
    async fn reload(&self) -> Result<(), ManagerError> {
        self.heard("reload".to_owned());
        Ok(())
    }

    async fn forget_failures(&self, unit: &str) -> Result<(), ManagerError> {
        self.heard(format!("forget {unit}"));
        Ok(())
    }

    async fn run(&self, job: Job, unit: &str) -> Result<String, ManagerError> {
        self.heard(format!("{job:?} {unit}"));
        let end = self.ends.lock().unwrap().clone();
        match end {
            Some(end) => end,
            None => std::future::pending().await,
        }
    }

    async fn state(&self, _: &str) -> Result<UnitState, ManagerError> {
        self.state.lock().unwrap().clone()
    }

    async fn last_words(&self, _: &[u8]) -> String {
        self.words.to_owned()
    }

    async fn journal(&self, unit: &str, since: UnixTime) -> String {
        format!("{unit} since {}: {}", since.0, self.words)
    }

    async fn errors(&self, _: &[u8], _: UnixTime, entries_max: u32) -> Option<u32> {
        self.errors.map(|errors| errors.min(entries_max))
    }
}

fn running() -> UnitState {
    UnitState {
        load: "loaded".to_owned(),
        path: format!("{UNITS}/{UNIT}"),
        active: "active".to_owned(),
        sub: "running".to_owned(),
        kind: "simple".to_owned(),
        result: "success".to_owned(),
        ..UnitState::default()
    }
}

fn exited(status: i32) -> UnitState {
    let active = "failed".to_owned();
    UnitState { active, result: "exit-code".to_owned(), status, ..running() }
}

fn refused(name: &str, text: &str) -> ManagerError {
    let name = format!("org.freedesktop.systemd1.{name}");
    ManagerError::Refused { name, text: text.to_owned() }
}

/// A release that runs as a unit, its tree on a disk.
struct Bench {
    disk: Arc<SimDisk>,
    paths: Paths,
    release: Installed,
    runtime: Runtime,
    trail: Trail,
}

impl Bench {
    fn new(unit_file: &[u8]) -> Self {
        let disk = Arc::new(SimDisk::new());
        let paths = Paths::new(Path::new("/srv"), &"web".parse().unwrap());
        let release = installed();
        let tree = paths.release(&release.id);
        disk.create_dir_all(&tree).unwrap();
        disk.create_dir_all(Path::new(UNITS)).unwrap();
        disk.create(&tree.join(UNIT), unit_file).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { disk, paths, release, runtime, trail: Trail::default() }
    }

    fn units(&self, manager: Arc<dyn Manager>) -> Units {
        Units { directory: UNITS.into(), disk: self.disk.clone(), manager }
    }

    fn call(&self) -> Call<'_> {
        Call {
            paths: &self.paths,
            release: &self.release,
            leaving: None,
            way: Way::Forward,
            trail: &self.trail,
        }
    }

    fn prepare(&self, state: UnitState, allowed: &Allowed) -> Result<(), Failure> {
        let units = self.units(Arc::new(Told::new(state)));
        self.runtime.block_on(units.prepare(self.call(), UNIT, allowed))
    }
}

fn installed() -> Installed {
    let run = Run { unit: Some(UNIT.to_owned()), timeout_s: 30, ..Run::default() };
    let artifact = ArtifactRef { id: Digest::of(b"a"), manifest_bytes: 1, bytes: 0, raw_bytes: 0 };
    let release = Release {
        fleet: "test-00000000".parse().unwrap(),
        service: "web".parse().unwrap(),
        version: "1".parse().unwrap(),
        artifact,
        source: Source::default(),
        created: UnixTime(0),
        run,
        health: Health::default(),
        critical: Vec::new(),
    };
    Installed { id: Digest::of(b"1"), staged: 1, release }
}

const GOOD: &[u8] = b"[Service]\nUser=web\nExecStart=/srv/web/current/bin/web\n";

#[test]
fn r23_what_a_host_forbids_is_told_before_anything_is_stopped() {
    let bench = Bench::new(GOOD);
    let host = |note: &str| Err(Failure::host(note));
    assert_eq!(bench.prepare(running(), &Allowed::default()), Ok(()));
    let none = UnitState { load: "not-found".to_owned(), ..UnitState::default() };
    assert_eq!(bench.prepare(none, &Allowed::default()), Ok(()), "the first time");

    let masked = UnitState { load: "masked".to_owned(), ..running() };
    let note = "web.service is masked on this host: `systemctl unmask web.service`";
    assert_eq!(bench.prepare(masked, &Allowed::default()), host(note));

    let foreign = UnitState { path: "/lib/systemd/system/web.service".to_owned(), ..running() };
    let note = "web.service is a unit of this host already, /lib/systemd/system/web.service: remove \
                it, or give the unit of the release another name";
    assert_eq!(bench.prepare(foreign, &Allowed::default()), host(note));

    let drop_ins = vec![format!("{UNITS}/web.service.d/a.conf")];
    let over = UnitState { drop_ins, ..running() };
    let refuse = Allowed { drop_ins: false, ..Allowed::default() };
    assert_eq!(bench.prepare(over.clone(), &Allowed::default()), Ok(()));
    let failure = bench.prepare(over, &refuse).unwrap_err();
    assert!(failure.note.starts_with("agent.toml: drop_ins = \"refuse\""), "{}", failure.note);

    // Of a unit that systemd does not know yet, too.
    let ready = Path::new(UNITS).join("web.service.d");
    bench.disk.create_dir_all(&ready).unwrap();
    bench.disk.create(&ready.join("b.conf"), b"").unwrap();
    let none = UnitState { load: "not-found".to_owned(), ..UnitState::default() };
    let failure = bench.prepare(none, &refuse).unwrap_err();
    assert!(failure.note.contains("web.service.d/b.conf lies over"), "{}", failure.note);

    let users = Some(["www".to_owned()].into());
    let failure = bench.prepare(running(), &Allowed { users, ..Allowed::default() }).unwrap_err();
    assert_eq!(failure.cause, Cause::Host);
    assert!(failure.note.contains("agent.toml: users does not name \"web\""), "{}", failure.note);

    let units = Some(Vec::new());
    let failure = bench.prepare(running(), &Allowed { units, ..Allowed::default() }).unwrap_err();
    assert!(failure.note.starts_with("agent.toml: units allows no web"), "{}", failure.note);

    // A file of the host's owner is left alone.
    bench.disk.create(&Path::new(UNITS).join(UNIT), b"[Service]\n").unwrap();
    let failure = bench.prepare(running(), &Allowed::default()).unwrap_err();
    assert!(failure.note.ends_with("is not of this service: move it away"), "{}", failure.note);
}

/// R24: what a service without metrics says of itself all the same.
#[test]
fn r24_more_errors_in_the_journal_than_a_minute_may_have_take_a_release_back() {
    let bench = Bench::new(GOOD);
    let count = |errors: u32, most| {
        let told = Told { errors: Some(errors), words: "no access", ..Told::new(running()) };
        let units = bench.units(Arc::new(told));
        let lookout = bench.runtime.block_on(units.look(UNIT));
        bench.runtime.block_on(lookout.count_errors(most, &bench.trail))
    };
    assert_eq!(count(0, 0), Ok(()));
    assert_eq!(count(3, 3), Ok(()));
    let note =
        "web.service wrote more than 2 errors in a minute (see `journalctl -u web`): no access";
    assert_eq!(count(9, 2), Err(note.to_owned()));
    let note = count(1, 0).unwrap_err();
    assert!(note.starts_with("web.service wrote more than 0 errors"), "{note}");
    let seen: Vec<_> = bench.trail.read().1.into_iter().map(|sample| sample.text).collect();
    let counted = |n: u32| format!("journal: {n} errors in a minute");
    assert_eq!(seen, [0, 3, 1].map(counted));

    // Where nobody can be asked there is no proof.
    let told = Told { errors: Some(1), words: "an error", ..Told::new(running()) };
    let told = Arc::new(told);
    let lookout = bench.runtime.block_on(bench.units(told.clone()).look(UNIT));
    *told.state.lock().unwrap() = Err(ManagerError::Unreachable("gone".to_owned()));
    let stop = CancellationToken::new();
    stop.cancel();
    let watched = lookout.watch_errors(0, &bench.trail, &stop);
    assert_eq!(bench.runtime.block_on(watched), None);
    *told.state.lock().unwrap() = Ok(running());
    let watched = lookout.watch_errors(0, &bench.trail, &stop);
    assert!(bench.runtime.block_on(watched).unwrap().ends_with("an error"));
    let mute = Arc::new(Told { errors: None, ..Told::new(running()) });
    let lookout = bench.runtime.block_on(bench.units(mute.clone()).look(UNIT));
    let trail = Trail::default();
    assert_eq!(bench.runtime.block_on(lookout.count_errors(0, &trail)), Ok(()));
    assert_eq!(trail.read().1[0].text, "journal: cannot be read", "and not that there are none");
    let units = bench.units(mute);
    assert!(bench.runtime.block_on(units.check_journal()).is_err());
    // Before anything is brought, and before anything is adopted.
    let mut release = bench.release.clone();
    for (most, told) in [(None, false), (Some(0), true)] {
        release.release.health.journal_errors_max = most;
        let call = Call { release: &release, ..bench.call() };
        let brought = bench.runtime.block_on(units.prepare(call, UNIT, &Allowed::default()));
        let adopted =
            bench.runtime.block_on(units.prepare_adoption(call, UNIT, &Allowed::default()));
        assert_eq!([brought.is_err(), adopted.is_err()], [told; 2], "{brought:?} {adopted:?}");
    }
}

#[test]
fn only_what_runs_and_is_allowed_is_adopted() {
    let bench = Bench::new(GOOD);
    let prepare = |state: UnitState, allowed: &Allowed| {
        let units = bench.units(Arc::new(Told::new(state)));
        bench.runtime.block_on(units.prepare_adoption(bench.call(), UNIT, allowed))
    };
    bench.disk.create(&Path::new(UNITS).join(UNIT), b"[Service]\n").unwrap();
    assert_eq!(prepare(running(), &Allowed::default()), Ok(()), "though it is somebody else's");
    let packaged = UnitState { path: "/lib/systemd/system/web.service".to_owned(), ..running() };
    assert_eq!(prepare(packaged, &Allowed::default()), Ok(()));
    let inactive = UnitState { active: "inactive".to_owned(), ..running() };
    let note = "web.service does not run on this host (loaded, inactive), and only what runs as the \
                unit of that name can be adopted";
    assert_eq!(prepare(inactive, &Allowed::default()), Err(Failure::host(note)));
    let units = Some(Vec::new());
    let failure = prepare(running(), &Allowed { units, ..Allowed::default() }).unwrap_err();
    assert!(failure.note.starts_with("agent.toml: units allows no web"), "{}", failure.note);
    let drop_ins = vec![format!("{UNITS}/web.service.d/a.conf")];
    let refuse = Allowed { drop_ins: false, ..Allowed::default() };
    let failure = prepare(UnitState { drop_ins, ..running() }, &refuse).unwrap_err();
    assert!(failure.note.starts_with("agent.toml: drop_ins = \"refuse\""), "{}", failure.note);
    let triggered_by = vec!["web.socket".to_owned(), "web.timer".to_owned()];
    let failure =
        prepare(UnitState { triggered_by, ..running() }, &Allowed::default()).unwrap_err();
    let todo = "disable it first, `systemctl disable --now web.socket web.timer`";
    assert!(failure.note.ends_with(todo), "{}", failure.note);
}

#[test]
fn r19_what_lies_in_the_place_of_a_unit_is_moved_aside_and_put_back() {
    let bench = Bench::new(GOOD);
    let (disk, directory) = (&bench.disk, Path::new(UNITS));
    let (file, wants) = (directory.join(UNIT), directory.join("multi-user.target.wants"));
    let (wanted, other) = (wants.join(UNIT), wants.join("db.service"));
    let upholds = directory.join("app.target.upholds");
    let upheld = upholds.join(UNIT);
    disk.create(&file, b"theirs").unwrap();
    for (place, link) in [(&wants, &wanted), (&upholds, &upheld)] {
        disk.create_dir(place).unwrap();
        disk.symlink(&file, link).unwrap();
    }
    disk.symlink(Path::new("/lib/systemd/system/db.service"), &other).unwrap();
    let told = Arc::new(Told::new(running()));
    let units = bench.units(told.clone());
    let own = bench.paths.current().join(UNIT);
    for time in ["once", "twice"] {
        bench.runtime.block_on(units.adopt(&bench.paths, UNIT)).unwrap();
        assert_eq!(disk.read_link(&file).unwrap(), own, "{time}");
        for link in [&wanted, &upheld] {
            assert_eq!(disk.kind(link).unwrap(), None, "{time}: it is not started at a boot");
        }
        assert!(disk.kind(&other).unwrap().is_some(), "{time}");
    }
    for start in [false, true] {
        bench.runtime.block_on(units.give_back(&bench.paths, UNIT, start, LIMIT)).unwrap();
        assert_eq!(disk.read(&file, 100).unwrap(), b"theirs");
        assert_eq!(disk.read_link(&wanted).unwrap(), file);
        assert_eq!(disk.read_link(&upheld).unwrap(), file);
    }
    let calls = ["reload", "reload", "reload", "reload", "forget web.service", "Start web.service"];
    assert_eq!(*told.calls.lock().unwrap(), calls, "only the last time is anything started");

    // What somebody put there since stays, and a unit that lies elsewhere has its name again.
    bench.runtime.block_on(units.adopt(&bench.paths, UNIT)).unwrap();
    disk.remove_file(&file).unwrap();
    disk.create(&file, b"newer").unwrap();
    bench.runtime.block_on(units.give_back(&bench.paths, UNIT, false, LIMIT)).unwrap();
    assert_eq!(disk.read(&file, 100).unwrap(), b"newer");
    disk.remove_file(&file).unwrap();
    disk.remove_file(&directory.join(".web.service.adopted")).unwrap();
    bench.runtime.block_on(units.adopt(&bench.paths, UNIT)).unwrap();
    bench.runtime.block_on(units.give_back(&bench.paths, UNIT, true, LIMIT)).unwrap();
    assert_eq!(disk.kind(&file).unwrap(), None, "nothing takes the place of the package's");

    let path = "/run/systemd/transient/web.service".to_owned();
    let elsewhere = bench.units(Arc::new(Told::new(UnitState { path, ..running() })));
    let failure = bench.runtime.block_on(elsewhere.adopt(&bench.paths, UNIT)).unwrap_err();
    assert!(failure.note.contains("systemd goes by /run/systemd/transient/"), "{}", failure.note);
}

#[test]
fn what_is_no_unit_file_is_the_fault_of_the_release() {
    for (bytes, why) in [
        (b"ExecStart=/bin/web\n".as_slice(), "has no [Service] section"),
        (b"[Service]\n\xff", "is not UTF-8"),
    ] {
        let bench = Bench::new(bytes);
        let note = format!("run.unit = \"web.service\": the file {why}");
        assert_eq!(bench.prepare(running(), &Allowed::default()), Err(Failure::release(note)));
    }
    let bench = Bench::new(GOOD);
    bench.disk.remove_file(&bench.paths.release(&bench.release.id).join(UNIT)).unwrap();
    let note = "run.unit = \"web.service\": the file is not at the root of the artifact";
    assert_eq!(bench.prepare(running(), &Allowed::default()), Err(Failure::release(note)));
}

#[test]
fn r24_how_a_start_fails_is_told_in_words() {
    let bench = Bench::new(GOOD);
    let see = "(see `journalctl -u web`)";
    let start = |end: Option<Result<&str, ManagerError>>, state: UnitState, words| {
        let told = Told { words, ..Told::new(state) };
        *told.ends.lock().unwrap() = end.map(|end| end.map(str::to_owned));
        bench.runtime.block_on(bench.units(Arc::new(told)).start(UNIT, Duration::from_millis(50)))
    };
    assert_eq!(start(Some(Ok("done")), running(), ""), Ok(()));
    let release = |note: String| Err(Failure::release(note));
    let host = |note: String| Err(Failure::host(note));
    assert_eq!(
        start(Some(Ok("failed")), exited(3), "no such table: users\n"),
        release("job failed: web.service: exited with status 3: no such table: users".to_owned())
    );
    assert_eq!(
        start(Some(Ok("failed")), exited(203), ""),
        release(format!(
            "job failed: web.service: its command cannot be executed (203/EXEC) {see}"
        ))
    );
    let killed = UnitState { result: "signal".to_owned(), ..exited(9) };
    assert_eq!(
        start(Some(Ok("failed")), killed, ""),
        release(format!("job failed: web.service: was killed by signal 9 {see}"))
    );
    let late = UnitState { result: "timeout".to_owned(), ..exited(0) };
    assert_eq!(
        start(Some(Ok("failed")), late, ""),
        release(format!("job failed: web.service: it took longer than its unit allows {see}"))
    );
    assert_eq!(
        start(None, running(), "waiting for b\x1b[0m"),
        release("web.service did not start within 0 s: waiting for b [0m".to_owned())
    );
    let bad = refused("BadUnitSetting", "Unit web.service has a bad unit file setting.");
    assert_eq!(
        start(Some(Err(bad)), running(), ""),
        release("web.service: Unit web.service has a bad unit file setting.".to_owned())
    );
    assert_eq!(
        start(Some(Ok("dependency")), running(), ""),
        host(format!("job failed: web.service: a unit that it needs did not start {see}"))
    );
    assert_eq!(
        start(Some(Ok("canceled")), running(), ""),
        host("job canceled: web.service: it was not started".to_owned())
    );
    let gone = ManagerError::Unreachable("no such file".to_owned());
    assert_eq!(
        start(Some(Err(gone)), running(), ""),
        host("web.service: cannot reach systemd by D-Bus: no such file".to_owned())
    );
}

/// Or the release that is gone back to would not be started: the one before it used up its starts.
#[test]
fn r24_what_used_up_its_starts_does_not_stand_in_the_way_back() {
    let bench = Bench::new(GOOD);
    let told = Arc::new(Told::new(running()));
    let units = bench.units(told.clone());
    bench.runtime.block_on(units.start(UNIT, LIMIT)).unwrap();
    assert_eq!(*told.calls.lock().unwrap(), ["forget web.service", "Start web.service"]);
}

#[test]
fn what_does_not_run_is_stopped() {
    let bench = Bench::new(GOOD);
    let stop = |end: Option<Result<&str, ManagerError>>, active: &str| {
        let told = Told::new(UnitState { active: active.to_owned(), ..running() });
        *told.ends.lock().unwrap() = end.map(|end| end.map(str::to_owned));
        bench.runtime.block_on(bench.units(Arc::new(told)).stop(UNIT, Duration::from_millis(50)))
    };
    let host = |note: &str| Err(Failure::host(note));
    assert_eq!(stop(Some(Ok("done")), "inactive"), Ok(()));
    assert_eq!(stop(Some(Ok("failed")), "failed"), Ok(()), "it ended, in a bad way");
    assert_eq!(stop(Some(Err(refused("NoSuchUnit", "not loaded"))), "inactive"), Ok(()));
    let note = "job timeout: web.service: it is still deactivating";
    assert_eq!(stop(Some(Ok("timeout")), "deactivating"), host(note));
    assert_eq!(stop(None, "active"), host("web.service did not stop within 0 s"));
}

#[test]
fn r24_an_exit_or_a_restart_ends_a_watch() {
    let bench = Bench::new(GOOD);
    let watch = |then: Result<UnitState, ManagerError>| {
        let told = Arc::new(Told { words: "bye\n", ..Told::new(running()) });
        let units = bench.units(told.clone());
        bench.runtime.block_on(async {
            let lookout = units.look(UNIT).await;
            *told.state.lock().unwrap() = then;
            lookout.check().await
        })
    };
    let wrong = |note: &str| Err(note.to_owned());
    assert_eq!(watch(Ok(running())), Ok(()));
    let lost = ManagerError::Unreachable("the bus is restarted".to_owned());
    assert_eq!(watch(Err(lost)), Ok(()), "no proof of anything");
    let failed = "web.service is failed: exited with status 3: bye";
    assert_eq!(watch(Ok(exited(3))), wrong(failed));
    let restarted = UnitState { restarts: 1, ..running() };
    let note = "web.service ended and was restarted: ended by itself: bye";
    assert_eq!(watch(Ok(restarted)), wrong(note));
    let (active, sub) = ("activating".to_owned(), "auto-restart".to_owned());
    let waits = UnitState { active, sub, ..exited(1) };
    let note = "web.service ended, to be restarted: exited with status 1: bye";
    assert_eq!(watch(Ok(waits)), wrong(note));
    let ended = UnitState { active: "inactive".to_owned(), ..running() };
    let note = "web.service is inactive: ended by itself: bye";
    assert_eq!(watch(Ok(ended.clone())), wrong(note));
    assert_eq!(watch(Ok(UnitState { kind: "oneshot".to_owned(), ..ended })), Ok(()));
}

#[test]
fn a_watch_ends_when_it_is_to() {
    let bench = Bench::new(GOOD);
    // Restarted long ago: what had happened before does not count.
    let restarted = UnitState { restarts: 7, ..running() };
    let units = bench.units(Arc::new(Told::new(restarted)));
    let (stop, watched) = (CancellationToken::new(), CancellationToken::new());
    stop.cancel();
    let note = bench.runtime.block_on(async {
        let lookout = units.look(UNIT).await;
        let note = lookout.watch(&stop).await;
        watched.cancel();
        note
    });
    assert_eq!(note, None);
    assert!(watched.is_cancelled());
}

#[test]
fn r22_links_follow_and_systemd_is_asked_only_for_units() {
    let bench = Bench::new(GOOD);
    let told = Arc::new(Told::new(running()));
    let units = bench.units(told.clone());
    let load = |unit| {
        bench.runtime.block_on(units.load(&bench.paths, unit)).unwrap();
        let names = bench.disk.list(Path::new(UNITS)).unwrap();
        let names: Vec<_> = names.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
        (names, std::mem::take(&mut *told.calls.lock().unwrap()))
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    // Of others: never touched, wherever they point.
    let others = ["db.service", "ssh.service", "web.socket"];
    let target = |name: &str| match name {
        "ssh.service" => PathBuf::from("/lib/systemd/system/ssh.service"),
        name => Path::new("/srv/other/current").join(name),
    };
    for name in others {
        bench.disk.symlink(&target(name), &Path::new(UNITS).join(name)).unwrap();
    }
    assert_eq!(load(None), (names(&others), names(&[])), "no unit, no question");
    let with = |unit: &str| {
        let mut all = names(&others);
        all.push(unit.to_owned());
        all.sort();
        all
    };
    assert_eq!(load(Some(UNIT)), (with(UNIT), names(&["reload"])));
    let link = bench.disk.read_link(&Path::new(UNITS).join(UNIT)).unwrap();
    assert_eq!(link, Path::new("/srv/web/current/web.service"), "through `current`");
    assert_eq!(load(Some(UNIT)), (with(UNIT), names(&["reload"])), "its content may be another");
    assert_eq!(load(Some("web-2.service")), (with("web-2.service"), names(&["reload"])));
    assert_eq!(load(None), (names(&others), names(&["reload"])));
    assert_eq!(load(None), (names(&others), names(&[])));
}

// --- the real thing ---

/// A unit of this machine's systemd, in the directory that a boot empties; removed in the end.
struct Real {
    dir: tempfile::TempDir,
    paths: Paths,
    unit: String,
    units: Units,
    runtime: Runtime,
}

/// The directory of units that a boot empties, where this machine has a systemd to try things with;
/// else says that the test is skipped.
pub(crate) fn volatile_units() -> Option<&'static Path> {
    let directory = Path::new("/run/systemd/system");
    if directory.is_dir() && rustix::process::geteuid().is_root() {
        return Some(directory);
    }
    eprintln!("skipped: needs root, and systemd as the first process");
    None
}

impl Real {
    fn new(name: &str) -> Option<Self> {
        let directory = volatile_units()?;
        let dir = tempfile::tempdir().unwrap();
        let unit = format!("groundswell-test-{name}-{}.service", std::process::id());
        let paths = Paths::new(dir.path(), &"web".parse().unwrap());
        std::fs::create_dir_all(paths.current()).unwrap();
        let (disk, manager) = (Arc::new(RealDisk), Arc::new(Systemd));
        let units = Units { directory: directory.to_owned(), disk, manager };
        let runtime = Runtime::new().unwrap();
        Some(Self { dir, paths, unit, units, runtime })
    }

    /// Has systemd know a unit with these lines under `[Service]`.
    fn load(&self, lines: &str) {
        let text = format!("[Service]\n{lines}\n");
        std::fs::write(self.paths.current().join(&self.unit), text).unwrap();
        self.runtime.block_on(self.units.load(&self.paths, Some(&self.unit))).unwrap();
    }

    fn start(&self) -> Result<(), Failure> {
        self.runtime.block_on(self.units.start(&self.unit, LIMIT))
    }

    fn stop(&self) -> Result<(), Failure> {
        self.runtime.block_on(self.units.stop(&self.unit, LIMIT))
    }

    fn state(&self) -> UnitState {
        self.runtime.block_on(self.units.manager.state(&self.unit)).unwrap()
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.stop();
        let _ = self.runtime.block_on(self.units.load(&self.paths, None));
    }
}

#[test]
fn r22_real_units_start_stop_and_follow_their_file() {
    let Some(real) = Real::new("follow") else { return };
    assert_eq!(real.stop(), Ok(()), "not known yet");
    real.load("ExecStart=/bin/sleep 600\nEnvironment=VERSION=1");
    real.start().unwrap();
    let state = real.state();
    assert_eq!((state.active.as_str(), state.restarts), ("active", 0));
    assert_eq!(state.path, format!("/run/systemd/system/{}", real.unit));
    real.stop().unwrap();
    assert_eq!(real.state().active, "inactive");
    assert_eq!(real.stop(), Ok(()), "stopped already");
    // The file came with another release.
    real.load("Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true");
    real.start().unwrap();
    let state = real.state();
    assert_eq!((state.active.as_str(), state.kind.as_str()), ("active", "oneshot"));
}

#[test]
fn r24_real_units_fail_in_words() {
    let Some(real) = Real::new("fail") else { return };
    let see = format!("(see `journalctl -u {}`)", real.unit.strip_suffix(".service").unwrap());
    let name = &real.unit;
    let note = |real: &Real| {
        let failure = real.start().unwrap_err();
        assert_eq!(failure.cause, Cause::Release, "{failure:?}");
        failure.note
    };
    real.load("Type=notify\nExecStart=/bin/sh -c 'echo no such table >&2; exit 3'");
    let told = note(&real);
    let expected = format!("job failed: {name}: exited with status 3");
    // The journal may be late; what it has is of this start.
    let either = [format!("{expected} {see}"), format!("{expected}: no such table")];
    assert!(either.contains(&told), "{told}");
    real.load("Type=exec\nExecStart=/no/such/file");
    let told = note(&real);
    assert!(told.contains("its command cannot be executed (203/EXEC)"), "{told}");
    real.load("Type=notify\nTimeoutStartSec=1\nExecStart=/bin/sleep 600");
    let told = note(&real);
    assert!(told.contains("it took longer than its unit allows"), "{told}");
    real.load("Environment=NOTHING=to-start");
    let told = note(&real);
    assert!(
        told.starts_with(&format!("{name}: Unit {name} has a bad unit file setting")),
        "{told}"
    );
}

#[test]
fn r24_real_restarts_are_seen_and_do_not_stand_in_the_way_back() {
    let Some(real) = Real::new("restart") else { return };
    let flag = real.dir.path().join("stay");
    let script = format!("test -e {} || exec sleep 0.2; exec sleep 600", flag.display());
    real.load(&format!("ExecStart=/bin/sh -c '{script}'\nRestart=always\nRestartSec=100ms"));
    real.start().unwrap();
    let note = real.runtime.block_on(async {
        let lookout = real.units.look(&real.unit).await;
        tokio::time::timeout(LIMIT, lookout.watch(&CancellationToken::new())).await.unwrap()
    });
    let note = note.unwrap();
    assert!(note.starts_with(&format!("{} ended", real.unit)), "{note}");
    // Until systemd has had enough of it: the next start is another release's.
    let end = std::time::Instant::now() + LIMIT;
    while real.state().active != "failed" {
        assert!(std::time::Instant::now() < end, "{:?}", real.state());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(real.state().result, "start-limit-hit");
    std::fs::write(&flag, "").unwrap();
    real.start().unwrap();
    let state = real.state();
    assert_eq!((state.active.as_str(), state.restarts), ("active", 0), "counted anew");
}

/// The swap is in it, however much a unit says afterwards.
#[test]
fn real_journals_are_told_by_their_beginning_and_their_end() {
    let Some(real) = Real::new("chatty") else { return };
    let since = member::clock::now().unix;
    let said = "echo first words; seq 1 2000; echo last words";
    real.load(&format!("Type=oneshot\nExecStart=/bin/sh -c '{said}'"));
    real.start().unwrap();
    let end = std::time::Instant::now() + LIMIT;
    let journal = loop {
        let journal = real.runtime.block_on(real.units.journal(&real.unit, since));
        if journal.contains("last words") {
            break journal;
        }
        assert!(std::time::Instant::now() < end, "{journal}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let (first, last) = journal.split_once("[lines are left out here]").unwrap();
    assert!(first.contains("first words") && !first.contains("last words"), "{first}");
    assert!(last.contains(": 2000\n") && !last.contains("first words"), "{last}");
}

// --- the guard's timer ---

#[test]
fn r19_the_guard_is_set_by_its_timer_and_keeps_nothing_waiting() {
    let bench = Bench::new(b"");
    let told = Arc::new(Told::new(running()));
    let units = bench.units(told.clone());
    let service = "web".parse().unwrap();
    let arm = |armed| bench.runtime.block_on(units.arm(&service, armed));
    arm(true);
    arm(false);
    let timer = "groundswell-guard@web.timer";
    assert_eq!(*told.calls.lock().unwrap(), [format!("Start {timer}"), format!("Stop {timer}")]);
    // Neither a systemd that knows of no timer nor one that does not answer is an error.
    *told.ends.lock().unwrap() = Some(Err(refused("NoSuchUnit", "Unit not found.")));
    arm(true);
    *told.ends.lock().unwrap() = None;
    bench
        .runtime
        .block_on(async { tokio::time::timeout(LIMIT, units.arm(&service, true)).await })
        .unwrap();
}

/// A URL may name a secret, and so its path: what leaves this host holds none, and nothing at all where
/// nobody can tell what they are.
#[test]
fn r4_what_was_seen_leaves_this_host_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new(GOOD);
    let handle = bench.runtime.handle().clone();
    let machine = Machine::new(dir.path(), Allowed::default(), handle).unwrap();
    let paths = Paths::new(dir.path(), &"web".parse().unwrap());
    std::fs::create_dir_all(paths.shared()).unwrap();
    let call = Call { paths: &paths, ..bench.call() };
    bench.trail.say("/healthz/hunter2hunter2: 500");

    std::fs::write(paths.env(), "TOKEN=hunter2hunter2\n").unwrap();
    let seen: Vec<_> = machine.seen(call).into_iter().map(|sample| sample.text).collect();
    assert_eq!(seen, ["/healthz/***: 500"]);
    assert_eq!(hide(call, "says hunter2hunter2"), "says ***");

    std::fs::write(paths.env(), "not a setting\n").unwrap();
    assert_eq!(machine.seen(call), []);
    let note = hide(call, "says hunter2hunter2");
    assert!(note.starts_with("(what it said is not told: ") && !note.contains("hunter2"), "{note}");
    assert!(machine.words(call, UnixTime(0)).log.starts_with("(the output is not kept: "));
}

/// Its last words are in notes, which all members see, and its journal is evidence.
#[test]
fn r4_what_a_unit_says_leaves_this_host_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let (bench, runtime) = (Bench::new(GOOD), Runtime::new().unwrap());
    let told = Told { words: "no access with hunter2hunter2", ..Told::new(exited(3)) };
    *told.ends.lock().unwrap() = Some(Ok("failed".to_owned()));
    let machine = Machine::new(dir.path(), Allowed::default(), runtime.handle().clone()).unwrap();
    let machine = machine.with_manager(Arc::new(told));
    let paths = Paths::new(dir.path(), &"web".parse().unwrap());
    std::fs::create_dir_all(paths.shared()).unwrap();
    std::fs::write(paths.env(), "TOKEN=hunter2hunter2\n").unwrap();
    let call = Call { paths: &paths, ..bench.call() };
    let watch = machine.watch(call, CancellationToken::new()).unwrap();
    for note in [
        machine.start(call).unwrap_err().note,
        machine.ready(call).unwrap_err().note,
        runtime.block_on(watch).unwrap(),
        machine.words(call, UnixTime(0)).journal,
    ] {
        assert!(note.ends_with(": no access with ***"), "{note}");
    }
}
