//! Activation on a simulated disk with simulated services; crash tests in [`crash`], the real
//! thing in [`real`].

mod adopt;
mod collect;
mod crash;
mod faults;
mod paths;
mod real;
mod remove;
mod renew;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use durable::{Disk, SimDisk};
use proto::artifact::{FORMAT, Manifest};
use proto::evidence::Sample;
use proto::statement::{self, ArtifactRef, Health, Hook, Release, Source, UnixTime};

use super::*;
use crate::health::metrics::Page;
use crate::load::Load;
use crate::services::Words;

/// How a release behaves on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Good,
    StartFails,
    NeverReady,
    StopFails,
    /// Its stop never works, whether it runs or not.
    NoStop,
    /// Ready, and not well by its own word.
    CheckRefuses,
    DrainFails,
    /// As somebody else's it answers, and as soon as `current` is there it does not.
    SickInPlace,
    /// Good, and has no check: nobody can ask it.
    Unasked,
}

/// How the releases of a host are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Commands,
    /// As the unit `web.service`, with all hooks.
    Unit,
    /// As Unit, each version as a unit of another name.
    UnitOfItsOwn,
}

const RUNS: [Run; 3] = [Run::Commands, Run::Unit, Run::UnitOfItsOwn];

const UNITS: &str = "/etc/systemd/system";

/// What processes do, in memory. They stop when the power does.
#[derive(Debug, Default)]
struct Machine {
    running: Option<Digest>,
    /// The release whose unit file systemd has read.
    loaded: Option<Digest>,
    /// Traffic comes here; not a matter of this machine, so no power cut changes it.
    in_use: bool,
    behaviours: BTreeMap<Digest, Behaviour>,
    calls: Vec<String>,
    /// What has answered its check.
    answered: BTreeSet<Digest>,
    /// The agent dies in the call with this index; whether what it asked for still happens.
    dies_in: Option<(usize, bool)>,
    dead: bool,
    /// The guard is set.
    armed: bool,
}

struct SimServices {
    disk: Arc<SimDisk>,
    machine: Mutex<Machine>,
    trail: Trail,
}

impl SimServices {
    fn any_call<'a>(&'a self, paths: &'a Paths, release: &'a Installed) -> Call<'a> {
        Call { paths, release, leaving: None, way: Way::Forward, trail: &self.trail }
    }

    /// Commands may well go through `current`: it points at the release whose command it is.
    fn assert_current(&self, id: &Digest) {
        let link = self.disk.read_link(&paths().current()).unwrap();
        assert_eq!(link, layout::target(id));
    }

    /// The release whose unit file the links of units lead to.
    fn linked(&self) -> Option<Digest> {
        let links = links(&self.disk);
        assert!(links.len() < 2, "{links:?}: the units of one release at a time");
        let unit = links.first()?;
        let file = self.disk.read_link(&paths().current()).ok()?;
        let file = paths().directory().join(file).join(unit);
        let text = String::from_utf8(self.disk.read(&file, 1_000).ok()?).ok()?;
        text.trim_start_matches("[Service]\n# ").parse().ok()
    }

    /// Does `change` to the machine, unless agent or power is gone.
    fn call(
        &self,
        name: &str,
        call: Call<'_>,
        change: impl FnOnce(&mut Machine) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let gone = || Err(Failure::host("nobody is there any more"));
        let mut machine = self.machine.lock().unwrap();
        if machine.dead || self.disk.kind(Path::new("/")).is_err() {
            return gone();
        }
        let index = machine.calls.len();
        let version = &call.release.release.version;
        machine.calls.push(format!("{name} {version} {}", call.way.name()));
        match machine.dies_in {
            Some((at, happens)) if at == index => {
                if happens {
                    let _ = change(&mut machine);
                }
                machine.dead = true;
                self.disk.fail_at(self.disk.steps());
                gone()
            }
            _ => change(&mut machine),
        }
    }
}

impl Services for SimServices {
    fn prepare(&self, _call: Call<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn verify(&self, manifest: &[u8], directory: &Path) -> Result<(), Failure> {
        let artifact = Digest::of(manifest);
        for name in ["a", "b"] {
            let found = self.disk.read(&directory.join(name), 1_000).unwrap_or_default();
            if found != content(&artifact) {
                return Err(Failure::host(format!("{name} was changed")));
            }
        }
        Ok(())
    }

    fn load(&self, paths: &Paths, release: Option<&Installed>) -> Result<(), Failure> {
        let unit = release.and_then(|release| release.release.run.unit.as_deref());
        crate::services::link_unit(&*self.disk, Path::new(UNITS), paths, unit)?;
        let Some(release) = release.filter(|_| unit.is_some()) else {
            let mut machine = self.machine.lock().unwrap();
            if !machine.dead {
                machine.loaded = None;
            }
            return Ok(());
        };
        self.call("load", self.any_call(paths, release), |machine| {
            machine.loaded = self.linked();
            Ok(())
        })
    }

    fn prepare_adoption(&self, _call: Call<'_>) -> Result<(), Failure> {
        Ok(())
    }

    fn adopt(&self, call: Call<'_>) -> Result<(), Failure> {
        let Some(unit) = &call.release.release.run.unit else { return Ok(()) };
        let (units, own) = (Path::new(UNITS), call.paths.current().join(unit));
        let failed = |error: io::Error| Failure::host(error.to_string());
        crate::services::set_aside(&*self.disk, units, unit, &own).map_err(failed)?;
        crate::services::link_unit(&*self.disk, units, call.paths, Some(unit))?;
        self.call("adopt", call, |machine| {
            machine.loaded = self.linked();
            Ok(())
        })
    }

    fn give_back(&self, call: Call<'_>, start: bool) -> Result<(), Failure> {
        let Some(unit) = &call.release.release.run.unit else { return Ok(()) };
        let failed = |error: io::Error| Failure::host(error.to_string());
        crate::services::link_unit(&*self.disk, Path::new(UNITS), call.paths, None)?;
        crate::services::put_back(&*self.disk, Path::new(UNITS), unit).map_err(failed)?;
        self.call("give back", call, |machine| {
            machine.loaded = None;
            if start {
                machine.running = Some(call.release.id);
            }
            Ok(())
        })
    }

    fn start(&self, call: Call<'_>) -> Result<(), Failure> {
        let id = call.release.id;
        let unit = call.release.release.run.unit.is_some();
        self.call("start", call, |machine| {
            self.assert_current(&id);
            assert!(!unit || machine.loaded == Some(id), "systemd has read its own unit file");
            if machine.behaviours[&id] == Behaviour::StartFails {
                return Err(Failure::release("start exited 1"));
            }
            match machine.running {
                Some(_) => Err(Failure::release("the port is taken")),
                None => {
                    machine.running = Some(id);
                    Ok(())
                }
            }
        })
    }

    fn stop(&self, call: Call<'_>) -> Result<(), Failure> {
        let id = call.release.id;
        self.call("stop", call, |machine| {
            if machine.behaviours[&id] == Behaviour::NoStop {
                return Err(Failure::host("stop exited 127"));
            }
            if machine.running.is_some() {
                self.assert_current(&id);
            }
            if machine.running == Some(id) && machine.behaviours[&id] == Behaviour::StopFails {
                return Err(Failure::host("stop exited 1"));
            }
            machine.running = None;
            Ok(())
        })
    }

    fn hook(&self, hook: Hook, call: Call<'_>) -> Result<(), Failure> {
        let id = call.release.id;
        if call.release.release.run.hook(hook).is_none() {
            return Ok(());
        }
        self.call(hook.name(), call, |machine| {
            let behaviour = machine.behaviours[&id];
            match hook {
                Hook::Drain => machine.in_use = false,
                Hook::Undrain => machine.in_use = true,
                Hook::Check | Hook::AfterCommit => {}
            }
            match (hook, behaviour) {
                (Hook::Drain, Behaviour::DrainFails) => Err(Failure::host("drain exited 1")),
                (Hook::Check, Behaviour::CheckRefuses) => Err(Failure::release("check exited 1")),
                _ => Ok(()),
            }
        })
    }

    fn ready(&self, call: Call<'_>) -> Result<(), Failure> {
        let id = call.release.id;
        self.call("ready", call, |machine| match machine.running {
            Some(running) if running == id && machine.behaviours[&id] != Behaviour::NeverReady => {
                let placed = self.disk.kind(&paths().current()).is_ok_and(|kind| kind.is_some());
                if placed && machine.behaviours[&id] == Behaviour::SickInPlace {
                    return Err(Failure::release("not ready within 30 s"));
                }
                machine.answered.insert(id);
                Ok(())
            }
            _ if machine.behaviours[&id] == Behaviour::Unasked => Ok(()),
            _ => Err(Failure::release("not ready within 30 s")),
        })
    }

    fn watch(&self, _call: Call<'_>, _stop: CancellationToken) -> Result<Watch, Failure> {
        Ok(Box::pin(async { None }))
    }

    fn page(&self, _: Call<'_>) -> Result<Option<Page>, Failure> {
        Ok(None)
    }

    fn seen(&self, call: Call<'_>) -> Vec<Sample> {
        call.trail.read().1
    }

    fn words(&self, call: Call<'_>, _: UnixTime) -> Words {
        let version = &call.release.release.version;
        Words { log: format!("words of {version}"), journal: String::new() }
    }

    fn host(&self) -> Load {
        Load::default()
    }

    fn arm(&self, _: &Paths, armed: bool) {
        let mut machine = self.machine.lock().unwrap();
        if !machine.dead && self.disk.kind(Path::new("/")).is_ok() {
            machine.armed = armed;
        }
    }

    fn end_left_over(&self, _paths: &Paths) -> Result<(), Failure> {
        Ok(())
    }
}

/// A host with a simulated disk, and what runs on it.
struct Host {
    run: Run,
    disk: Arc<SimDisk>,
    services: Arc<SimServices>,
    activator: Activator,
}

impl Host {
    fn new() -> Self {
        Self::that_runs(Run::Commands)
    }

    fn that_runs(run: Run) -> Self {
        let disk = SimDisk::new();
        let paths = paths();
        for directory in [paths.releases(), paths.shared(), UNITS.into()] {
            disk.create_dir_all(&directory).unwrap();
        }
        Self::on(run, disk, Machine::default(), "boot 1")
    }

    fn on(run: Run, disk: SimDisk, machine: Machine, boot: &str) -> Self {
        let disk = Arc::new(disk);
        let services = Arc::new(SimServices {
            disk: disk.clone(),
            machine: Mutex::new(machine),
            trail: Trail::default(),
        });
        let activator = Activator::new(
            disk.clone(),
            services.clone(),
            paths(),
            Path::new("/var/lib/groundswell"),
            boot.to_owned(),
        );
        Self { run, disk, services, activator }
    }

    /// Puts a release on the disk, durably.
    fn install(&self, version: &str, behaviour: Behaviour) -> Digest {
        let (id, mut release, manifest) = release(version);
        if behaviour == Behaviour::Unasked {
            release.health.http = None;
        }
        let unit = match self.run {
            Run::Commands => None,
            Run::Unit => Some("web.service".to_owned()),
            Run::UnitOfItsOwn => Some(format!("web-{version}.service")),
        };
        if unit.is_some() {
            let hook = || Some("true".to_owned());
            release.run = statement::Run {
                timeout_s: 30,
                drain: hook(),
                check: hook(),
                undrain: hook(),
                after_commit: hook(),
                unit: unit.clone(),
                ..statement::Run::default()
            };
        }
        let (disk, paths) = (&*self.disk, paths());
        let staged = list(disk, &paths).unwrap().len() as u64 + 1;
        let record = serde_json::to_vec(&Installed { id, staged, release }).unwrap();
        disk.create(&paths.manifest(&id), &manifest).unwrap();
        disk.create(&paths.record(&id), &record).unwrap();
        let tree = paths.release(&id);
        disk.create_dir(&tree).unwrap();
        for name in ["a", "b"] {
            disk.create(&tree.join(name), &content(&Digest::of(&manifest))).unwrap();
        }
        if let Some(unit) = unit {
            disk.create(&tree.join(unit), format!("[Service]\n# {id:#}").as_bytes()).unwrap();
        }
        disk.settle();
        self.services.machine.lock().unwrap().behaviours.insert(id, behaviour);
        id
    }

    /// Brings a release and commits it.
    fn settle_on(&self, version: &str) -> Digest {
        let id = self.install(version, Behaviour::Good);
        let from = self.current();
        let attempt = list(&*self.disk, &paths()).unwrap().len() as u64;
        assert_eq!(self.activator.activate(attempt, from, id, Way::Forward), Outcome::Baking);
        self.activator.commit(attempt).unwrap();
        self.disk.settle();
        id
    }

    fn current(&self) -> Option<Digest> {
        self.activator.current().unwrap().map(|current| current.id)
    }

    fn running(&self) -> Option<Digest> {
        self.services.machine.lock().unwrap().running
    }

    fn armed(&self) -> bool {
        self.services.machine.lock().unwrap().armed
    }

    /// The calls since the last time.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.services.machine.lock().unwrap().calls)
    }

    fn behaviours(&self) -> BTreeMap<Digest, Behaviour> {
        self.services.machine.lock().unwrap().behaviours.clone()
    }

    /// The machine comes up again after a power cut.
    fn after_power_cut(&self, seed: u64, boot: &str) -> Self {
        let in_use = self.services.machine.lock().unwrap().in_use;
        let machine = Machine { behaviours: self.behaviours(), in_use, ..Machine::default() };
        let host = Self::on(self.run, self.disk.after_power_cut(seed), machine, boot);
        // Systemd reads what is there when it comes up.
        let linked = host.services.linked();
        host.services.machine.lock().unwrap().loaded = linked;
        host
    }

    /// The agent is killed and starts again; disk and service are as they were.
    fn after_kill(&self) -> Self {
        let now = self.services.machine.lock().unwrap();
        let machine = Machine {
            behaviours: now.behaviours.clone(),
            running: now.running,
            loaded: now.loaded,
            in_use: now.in_use,
            answered: now.answered.clone(),
            armed: now.armed,
            ..Machine::default()
        };
        drop(now);
        let boot = self.activator.boot.clone();
        self.disk.settle();
        Self::on(self.run, self.disk.after_power_cut(0), machine, &boot)
    }

    /// Whether the tree of a release is what its manifest says.
    fn is_whole(&self, id: &Digest) -> bool {
        let installed = layout::installed(&*self.disk, &paths(), id).unwrap();
        self.activator.verify(&installed).is_ok()
    }
}

/// The names of the links of units.
fn links(disk: &SimDisk) -> Vec<std::ffi::OsString> {
    let names = disk.list(Path::new(UNITS)).unwrap_or_default();
    let is_link = |name: &std::ffi::OsString| {
        disk.kind(&Path::new(UNITS).join(name)).is_ok_and(|kind| kind == Some(durable::Kind::Link))
    };
    names.into_iter().filter(|name| !durable::is_leftover(name) && is_link(name)).collect()
}

fn paths() -> Paths {
    Paths::new(Path::new("/srv"), &"web".parse().unwrap())
}

/// Number of the attempt that a test is about: later than any of [`Host::settle_on`].
const ATTEMPT: u64 = 100;

fn content(artifact: &Digest) -> Vec<u8> {
    format!("content of {artifact:#}").into_bytes()
}

/// A release, its id, and the bytes of its manifest.
fn release(version: &str) -> (Digest, Release, Vec<u8>) {
    let manifest = Manifest {
        format: FORMAT,
        entries: Vec::new(),
        piece_raw_bytes: 256 << 10,
        pieces: Vec::new(),
    };
    // Another form of the same JSON, so that each version has a manifest of its own.
    let mut manifest = manifest.to_bytes();
    manifest.extend(std::iter::repeat_n(b' ', version.len()).chain(version.bytes()));
    let artifact = ArtifactRef {
        id: Digest::of(&manifest),
        manifest_bytes: manifest.len() as u64,
        bytes: 0,
        raw_bytes: 0,
    };
    let release = Release {
        fleet: "test-00000000".parse().unwrap(),
        service: "web".parse().unwrap(),
        version: version.parse().unwrap(),
        artifact,
        source: Source::default(),
        created: UnixTime(0),
        run: statement::Run {
            start: "start".into(),
            stop: "stop".into(),
            timeout_s: 30,
            ..statement::Run::default()
        },
        health: Health { http: Some("http://localhost/".into()), ..Health::default() },
        critical: Vec::new(),
    };
    (Digest::of(version.as_bytes()), release, manifest)
}
