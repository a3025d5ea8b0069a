//! The fleet as it really is, which no host knows: machines, what was ordered, what was seen.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use durable::SimDisk;
use proto::statement::Action;
use proto::{Digest, HostId, UnixTime};
use rollout::Now;
use rollout::host::{Host, Input, Taken};
use swarm::Ledger;
use tokio::time::Instant;

use super::Scenario;
use super::check::{Checks, Word};
use super::fleet::{Fleet, scope};
use crate::sim::{Rng, Service};
use crate::sim_ground::machine::BEGIN;

/// How wrong the wall clock is by which a core goes, in milliseconds, at most.
const SKEW_MS_MAX: u64 = 60_000;

/// A host without its agent.
pub(super) struct Machine {
    pub(super) disk: Arc<SimDisk>,
    /// The last persisted record of the core.
    pub(super) record: Vec<u8>,
    pub(super) service: Service,
    /// What its agent holds, while it runs.
    pub(super) ledger: Option<Ledger>,
    /// Rises with every start: what was under way before is lost.
    pub(super) life: u32,
    pub(super) booted_ms: u64,
    skew_ms: u64,
    pub(super) chance: Rng,
    /// As of the last effects that were carried out.
    pub(super) core: Option<Host>,
    pub(super) verified_ms: Option<u64>,
    pub(super) stop_known_ms: Option<u64>,
    /// Its disk is gone, and with it the host.
    pub(super) wiped: bool,
}

impl Machine {
    fn new(id: &HostId, running: Option<Digest>, rng: &mut Rng) -> Self {
        Self {
            disk: Arc::new(SimDisk::new()),
            record: record_of_old(id, running),
            service: Service { current: running, up: running.is_some(), ..Service::default() },
            ledger: None,
            life: 0,
            booted_ms: 0,
            skew_ms: rng.below(SKEW_MS_MAX),
            chance: Rng::new(rng.next()),
            core: None,
            verified_ms: None,
            stop_known_ms: None,
            wiped: false,
        }
    }
}

pub(super) struct World {
    pub(super) scenario: Scenario,
    started: Instant,
    pub(super) machines: Vec<Machine>,
    pub(super) numbers: BTreeMap<HostId, usize>,
    /// What people ordered, oldest first.
    pub(super) orders: Vec<(Digest, Action)>,
    pub(super) checks: Option<Checks>,
    /// The release that is deployed.
    pub(super) new: Digest,
    pub(super) suffers: bool,
    pub(super) taken: Taken,
}

impl World {
    pub(super) fn new(scenario: &Scenario, fleet: &Fleet) -> Self {
        let (old, new) = (fleet.release(0).id(), fleet.release(1).id());
        let mut rng = Rng::new(scenario.seed);
        let machine = |(number, host): (usize, &proto::statement::Host)| {
            // Who takes the place of another one comes with nothing.
            Machine::new(&host.id, (number < scenario.hosts).then_some(old), &mut rng)
        };
        Self {
            machines: fleet.hosts.iter().enumerate().map(machine).collect(),
            numbers: fleet.hosts.iter().map(|host| host.id.clone()).zip(0..).collect(),
            scenario: scenario.clone(),
            started: Instant::now(),
            orders: Vec::new(),
            checks: None,
            new,
            suffers: false,
            taken: Taken::default(),
        }
    }

    /// For panics: the seed and the time.
    pub(super) fn place(&self) -> String {
        let Scenario { seed, hosts, .. } = self.scenario;
        format!("gossip seed {seed}, {hosts} hosts, {} ms:", self.now_ms())
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("no simulation is that long")
    }

    pub(super) fn machine_now(&self, number: usize) -> Now {
        let (machine, now_ms) = (&self.machines[number], self.now_ms());
        let unix = UnixTime(BEGIN.0 + (now_ms + machine.skew_ms) / 1_000);
        Now { boot_ms: now_ms - machine.booted_ms, unix }
    }

    /// A time between these two, by the host's own chance.
    pub(super) fn chance(&mut self, number: usize, least_ms: u64, most_ms: u64) -> u64 {
        self.machines[number].chance.between(least_ms, most_ms)
    }

    pub(super) fn interrupts(&mut self, number: usize) -> bool {
        self.suffers && self.machines[number].chance.permille(self.scenario.interrupted)
    }

    // --- the service ---

    pub(super) fn never_ready(&self, number: usize, release: Digest) -> bool {
        let Scenario { quality, seed, zones, .. } = self.scenario;
        release == self.new && quality.never_ready(seed, number, number % zones)
    }

    /// A release begins to run, if only to fail.
    pub(super) fn ran(&mut self, number: usize, release: Digest) {
        if let Some(checks) = &mut self.checks {
            checks.runs(number, Some(release));
        }
        self.check_spread(number);
    }

    /// The service has come to the end of a step; false if its agent crashed meanwhile.
    pub(super) fn serve(
        &mut self,
        number: usize,
        life: u32,
        current: Option<Digest>,
        answer: &Input,
    ) -> bool {
        let machine = &mut self.machines[number];
        if machine.life != life {
            return false;
        }
        let service = &mut machine.service;
        (service.current, service.up, service.stopped_for) = (current, current.is_some(), None);
        match answer {
            Input::Activated { .. } => {}
            Input::ActivationFailed { .. } => {
                service.fail(answer);
                service.journal = None;
            }
            _ => (service.journal, service.ended) = (None, None),
        }
        if let Some(checks) = &mut self.checks {
            checks.serves(number, current);
        }
        self.check_spread(number);
        true
    }

    /// In how many milliseconds what serves now turns bad, if it does.
    pub(super) fn turns_bad_ms(&mut self, number: usize) -> Option<u64> {
        let canary_ms = u64::from(self.scenario.stages[0].wait_s) * 1_000;
        let machine = &mut self.machines[number];
        let new = machine.service.current == Some(self.new);
        let quality = self.scenario.quality;
        new.then(|| quality.turns_bad_ms(&mut machine.chance, canary_ms)).flatten()
    }

    pub(super) fn sickens(&mut self, number: usize) {
        if let Some(checks) = &mut self.checks {
            checks.sickens(number);
        }
    }

    // --- what agents know ---

    /// An agent has taken the rollout in, verified.
    pub(super) fn took(&mut self, number: usize) {
        let now_ms = self.now_ms();
        self.machines[number].verified_ms.get_or_insert(now_ms);
        if let Some(checks) = &mut self.checks {
            checks.took(number, now_ms);
        }
    }

    /// An agent tells its core.
    pub(super) fn tells(&mut self, number: usize, word: Word) {
        if let Some(checks) = &mut self.checks {
            checks.tells(number, word);
        }
    }

    pub(super) fn knows_of_stop(&mut self, number: usize) {
        let now_ms = self.now_ms();
        self.machines[number].stop_known_ms.get_or_insert(now_ms);
    }

    /// All that followed from an input is done.
    pub(super) fn note_core(&mut self, number: usize, core: &Host) {
        self.check_core(number, core);
        self.taken.join(core.taken());
        if core.is_halted() {
            self.knows_of_stop(number);
        }
        self.machines[number].core = Some(core.clone());
    }

    // --- where they have come to ---

    /// Whether the old release serves again wherever the new one ever ran (R12).
    pub(super) fn is_back(&self, number: usize) -> bool {
        let service = &self.machines[number].service;
        let checks = self.checks.as_ref().expect("it was handed in");
        let from = checks.rollout.from.as_ref().map(|from| from.release);
        let serves = service.up && service.current == from;
        // Who takes the place of another one never ran anything.
        let newcomer = self.scenario.newcomer() == Some(number) && service.current.is_none();
        service.stopped_for.is_none() && (serves || newcomer)
    }

    /// Whether a host has what the complete rollout brings, or has failed by itself and given up.
    pub(super) fn is_done(&self, number: usize, core: &Host) -> bool {
        use proto::receipt::State;
        match core.state() {
            Some(State::Committed) => {
                let service = &self.machines[number].service;
                service.current == Some(self.new) && service.up
            }
            Some(State::Reverted) => core.next_deadline().is_none() && self.is_back(number),
            _ => false,
        }
    }
}

pub(super) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The record of a host that has come to run what it runs by rollouts long forgotten.
fn record_of_old(id: &HostId, running: Option<Digest>) -> Vec<u8> {
    let core = Host::new(id.clone(), scope());
    let mut record = serde_json::to_value(core).expect("records serialize");
    for field in ["running", "proven"] {
        record[field] = serde_json::json!(running);
    }
    serde_json::to_vec(&record).expect("records serialize")
}
