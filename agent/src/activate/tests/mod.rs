//! Activation on a simulated disk with simulated services; crash tests in [`crash`], the real
//! thing in [`real`].

mod collect;
mod crash;
mod paths;
mod real;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use durable::{Disk, SimDisk};
use proto::artifact::{FORMAT, Manifest};
use proto::statement::{ArtifactRef, Health, Release, Run, Source, UnixTime};

use super::*;
use crate::health::metrics::Page;

/// How a release behaves on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Good,
    StartFails,
    NeverReady,
    StopFails,
    /// Its stop never works, whether it runs or not.
    NoStop,
    /// Good, and has no check: nobody can ask it.
    Unasked,
}

/// What processes do, in memory. They stop when the power does.
#[derive(Debug, Default)]
struct Machine {
    running: Option<Digest>,
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
}

impl SimServices {
    /// Commands may well go through `current`: it points at the release whose command it is.
    fn assert_current(&self, id: &Digest) {
        let link = self.disk.read_link(&paths().current()).unwrap();
        assert_eq!(link, layout::target(id));
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

    fn start(&self, call: Call<'_>) -> Result<(), Failure> {
        let id = call.release.id;
        self.call("start", call, |machine| {
            self.assert_current(&id);
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

    fn ready(&self, call: Call<'_>) -> Result<(), Failure> {
        let id = call.release.id;
        self.call("ready", call, |machine| match machine.running {
            Some(running) if running == id && machine.behaviours[&id] != Behaviour::NeverReady => {
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
    disk: Arc<SimDisk>,
    services: Arc<SimServices>,
    activator: Activator,
}

impl Host {
    fn new() -> Self {
        let disk = SimDisk::new();
        let paths = paths();
        for directory in [paths.releases(), paths.shared()] {
            disk.create_dir_all(&directory).unwrap();
        }
        Self::on(disk, Machine::default(), "boot 1")
    }

    fn on(disk: SimDisk, machine: Machine, boot: &str) -> Self {
        let disk = Arc::new(disk);
        let services = Arc::new(SimServices { disk: disk.clone(), machine: Mutex::new(machine) });
        let activator = Activator::new(
            disk.clone(),
            services.clone(),
            paths(),
            Path::new("/var/lib/groundswell"),
            boot.to_owned(),
        );
        Self { disk, services, activator }
    }

    /// Puts a release on the disk, durably.
    fn install(&self, version: &str, behaviour: Behaviour) -> Digest {
        let (id, mut release, manifest) = release(version);
        if behaviour == Behaviour::Unasked {
            release.health.http = None;
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
        disk.settle();
        self.services.machine.lock().unwrap().behaviours.insert(id, behaviour);
        id
    }

    /// Brings a release and commits it.
    fn settle_on(&self, version: &str) -> Digest {
        let id = self.install(version, Behaviour::Good);
        let from = self.current();
        let attempt = list(&*self.disk, &paths()).unwrap().len() as u64;
        assert_eq!(self.activator.activate(attempt, from, id), Outcome::Baking);
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
        let machine = Machine { behaviours: self.behaviours(), ..Machine::default() };
        Self::on(self.disk.after_power_cut(seed), machine, boot)
    }

    /// The agent is killed and starts again; disk and service are as they were.
    fn after_kill(&self) -> Self {
        let now = self.services.machine.lock().unwrap();
        let machine = Machine {
            behaviours: now.behaviours.clone(),
            running: now.running,
            answered: now.answered.clone(),
            armed: now.armed,
            ..Machine::default()
        };
        drop(now);
        let boot = self.activator.boot.clone();
        self.disk.settle();
        Self::on(self.disk.after_power_cut(0), machine, &boot)
    }

    /// Whether the tree of a release is what its manifest says.
    fn is_whole(&self, id: &Digest) -> bool {
        let installed = layout::installed(&*self.disk, &paths(), id).unwrap();
        self.activator.verify(&installed).is_ok()
    }
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
        run: Run { start: "start".into(), stop: "stop".into(), timeout_s: 30, ..Run::default() },
        health: Health { http: Some("http://localhost/".into()), ..Health::default() },
        critical: Vec::new(),
    };
    (Digest::of(version.as_bytes()), release, manifest)
}
