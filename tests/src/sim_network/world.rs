//! The fleet in its network: built, stepped, and held to its promises.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent::activate::Paths;
use proto::report::{Fitness, RolloutPhase};
use proto::statement::{Action, Direction, Rollout, Root, Share, Target};
use proto::{Digest, UnixTime};
use rollout::plan::{self, Candidate, Stage, Strategy};
use turmoil::Sim;

use super::fleet::{Fleet, Published};
use super::members::{Line, agent, coordinator};
use super::operator::{Desk, Operator};
use super::scenario::{Scenario, Story};
use super::service::{Quality, Witness, is_whole};
use super::{Ending, Outcome};
use crate::sim::Rng;
use crate::sim_ground::machine::{BEGIN, Machine, forget, ms};
use crate::sim_ground::people::{self, name_of, service, signed};

/// How far time moves at once. Messages are no finer than that.
const STEP: Duration = Duration::from_millis(10);
/// `current` is looked at every so many steps.
const LOOK_EVERY_STEPS: u64 = 50;
/// How long a fleet without faults may take for what it has to do, in milliseconds: it is there to
/// end a run that hangs.
pub(super) const PATIENCE_MS: u64 = 400_000;
/// Longer than any run.
const SIMULATION_MAX: Duration = Duration::from_secs(7_200);
pub(super) const COORDINATOR: &str = "coordinator";
/// The host that knows of the releases, and takes what the operator hands in.
const TAKER: usize = 0;
const OPERATOR: &str = "operator";
const PORT: u16 = 7_070;
/// The bake of the canary, in seconds.
pub(super) const CANARY_BAKE_S: u32 = 10;

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) sim: Sim<'static>,
    pub(super) rng: Rng,
    pub(super) fleet: Arc<Fleet>,
    /// Of the hosts by number, then the coordinator's, then the operator's.
    pub(super) machines: Vec<Arc<Machine>>,
    pub(super) witness: Arc<Witness>,
    desk: Arc<Desk>,
    steps: u64,
    /// What the fleet serves before the rollout, and what the rollout brings.
    pub(super) first: Published,
    pub(super) second: Published,
    rollout: Option<Digest>,
    canaries: usize,
    /// Hosts that are to take part now: the others are strangers, or believe that it is 1970.
    pub(super) expected: BTreeSet<usize>,
}

// --- building ---

impl World {
    pub(super) fn new(scenario: Scenario) -> Self {
        let hosts = scenario.hosts + scenario.outsiders();
        let fleet = Fleet::new(scenario.seed, hosts, scenario.zones);
        let (first, second) = (fleet.publish("1.0.0"), fleet.publish("2.0.0"));
        let witness = Arc::new(Witness::default());
        let mut rng = Rng::new(scenario.seed ^ 0xfa17);
        witness.judge(second.id, scenario.quality(&mut rng));
        let mut world = Self {
            sim: network(&scenario),
            rng,
            fleet: Arc::new(fleet),
            machines: (0..hosts + 2).map(|_| Arc::default()).collect(),
            witness,
            desk: Arc::default(),
            steps: 0,
            first,
            second,
            rollout: None,
            canaries: 0,
            expected: (0..scenario.hosts).collect(),
            scenario,
        };
        world.furnish();
        world.add_coordinator();
        (0..hosts).for_each(|host| world.add_agent(host));
        world.add_operator();
        world
    }

    /// Gives every host its home, and puts the artifacts where they come from.
    fn furnish(&mut self) {
        let seeds = [COORDINATOR.to_owned(), name_of(0), name_of(1)].map(|name| self.at(&name));
        for host in 0..self.fleet.hosts.len() {
            self.fleet.join(host, self.scenario.certificate_age_days(host), &seeds);
        }
        for published in [&self.first, &self.second] {
            self.fleet.seed_coordinator(published);
        }
        for published in [&self.first, &self.second] {
            self.fleet.tell(TAKER, published);
        }
        // Two whole copies outside the coordinator (R21).
        [1, 2].iter().for_each(|host| self.fleet.seed(*host, &self.second));
        self.witness.judge(self.first.id, Quality::Good);
        if let Some(lost) =
            self.scenario.out_of_time().filter(|_| self.scenario.story == Story::LostClock)
        {
            self.machines[lost].believe_in_1970();
            self.expected.remove(&lost);
        }
        if self.scenario.story == Story::Certificates {
            self.expected.insert(self.scenario.newcomer());
        }
    }

    pub(super) fn at(&self, name: &str) -> SocketAddr {
        (self.sim.lookup(name), PORT).into()
    }

    fn line(&self, name: &str) -> Line {
        let address = self.at(name);
        let name = Digest::of(name.as_bytes());
        let number = u64::from_be_bytes(name.as_bytes()[..8].try_into().expect("eight bytes"));
        let chance = Rng::new(self.scenario.seed ^ number);
        Line { address, lost_permille: self.scenario.lost_permille, chance }
    }

    fn add_agent(&mut self, host: usize) {
        let (fleet, witness) = (self.fleet.clone(), self.witness.clone());
        let (machine, line) = (self.machines[host].clone(), self.line(&name_of(host)));
        self.sim.host(name_of(host), move || {
            agent(fleet.clone(), host, machine.clone(), witness.clone(), line.clone())
        });
    }

    fn add_coordinator(&mut self) {
        let (fleet, hosts) = (self.fleet.clone(), self.scenario.hosts);
        let machine = self.machines[self.fleet.hosts.len()].clone();
        let line = self.line(COORDINATOR);
        self.sim.host(COORDINATOR, move || {
            coordinator(fleet.clone(), machine.clone(), hosts, line.clone())
        });
    }

    fn add_operator(&mut self) {
        let known = (0..self.fleet.hosts.len()).filter(|host| *host != self.scenario.stranger());
        let at = |host| (host, self.at(&name_of(host)));
        let operator = Operator {
            fleet: self.fleet.clone(),
            machine: self.machines[self.fleet.hosts.len() + 1].clone(),
            desk: self.desk.clone(),
            address: self.at(OPERATOR),
            hosts: known.map(at).collect(),
            taker: at(TAKER),
            rng: Rng::new(self.scenario.seed),
        };
        self.sim.client(OPERATOR, operator.run());
    }
}

fn network(scenario: &Scenario) -> Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(scenario.seed)
        .tick_duration(STEP)
        .simulation_duration(SIMULATION_MAX)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(scenario.latency_ms))
        .udp_capacity(4_096)
        .enable_random_order()
        .build()
}

// --- running ---

impl World {
    pub(super) fn run(mut self) -> Outcome {
        let first = self.deploy_first();
        if self.scenario.story == Story::CoordinatorGone {
            self.sim.crash(COORDINATOR);
        }
        let rollout = self.rollout(2, Some(first), Some(&self.first), &self.second);
        self.canaries = rollout.waves[0].hosts as usize;
        self.rollout = Some(self.hand_in(&rollout));
        self.tell();
        let ending = self.rest();
        self.hold_the_last_promises(ending);
        Outcome {
            ending,
            simulated_ms: self.now_ms(),
            started: self.witness.started(&self.second.id).len(),
            canaries: self.canaries,
            scenario: self.scenario.clone(),
        }
    }

    /// Brings the first release to everybody, as any fleet begins.
    fn deploy_first(&mut self) -> Digest {
        let rollout = self.rollout(1, None, None, &self.first);
        let id = self.hand_in(&rollout);
        self.rollout = Some(id);
        self.until("the first release is everywhere", |world| {
            world.ended() == Some(Ending::Complete)
        });
        id
    }

    fn rollout(
        &self,
        epoch: u64,
        previous: Option<Digest>,
        from: Option<&Published>,
        to: &Published,
    ) -> Rollout {
        let candidate = |host: usize| Candidate {
            host: self.fleet.hosts[host].clone(),
            fitness: match self.expected.contains(&host) {
                true => Fitness::Fit,
                false => Fitness::Silent,
            },
        };
        let candidates: Vec<_> = (0..self.scenario.hosts).map(candidate).collect();
        let strategy = match from {
            None => Strategy::AllAtOnce { failed_max: None, unreachable_max: None },
            Some(_) => Strategy::Canary(vec![
                Stage::new(1.0, CANARY_BAKE_S),
                Stage::new(50.0, 10),
                Stage::new(100.0, 5),
            ]),
        };
        let quarter = Share::Percent(25.0);
        let plan = plan::plan(&candidates, &strategy, Direction::Forward, quarter, &to.id);
        let plan = plan.expect("a scenario has hosts and stages");
        let target = |published: &Published| Target {
            release: published.id,
            version: published.release.version.clone(),
        };
        let created = UnixTime(BEGIN.0 + self.now_ms() / 1_000);
        let (from, to) = (from.map(target), target(to));
        let operator = &self.fleet.keys.operator;
        Rollout { epoch, previous, ..people::rollout(operator, plan, from, to, created) }
    }

    /// Has the operator hand in a rollout.
    fn hand_in(&self, rollout: &Rollout) -> Digest {
        let envelope = signed(rollout, &[&self.fleet.keys.operator]);
        self.desk.hand_in(envelope.id(), envelope.to_bytes());
        envelope.id()
    }

    /// Has the operator abort the second rollout.
    pub(super) fn abort(&mut self) {
        let rollout = self.rollout.expect("it was handed in");
        let created = UnixTime(BEGIN.0 + self.now_ms() / 1_000);
        let operator = &self.fleet.keys.operator;
        let directive = people::directive(operator, rollout, 1, Action::Abort, created);
        let envelope = signed(&directive, &[operator]);
        self.desk.hand_in(envelope.id(), envelope.to_bytes());
    }

    /// Has the operator hand in the next version of the root, which expires so long after the start.
    pub(super) fn sign_root(&self, version: u32, expires_s: u64) {
        let expires = UnixTime(BEGIN.0 + expires_s);
        let root = Root { version, expires, ..self.fleet.root.clone() };
        let envelope = signed(&root, &[&self.fleet.keys.root]);
        self.desk.hand_in(envelope.id(), envelope.to_bytes());
    }

    /// Whether every host that is expected tells people this of the rollout.
    pub(super) fn all_say(&self, phase: RolloutPhase, why: &str) -> bool {
        self.expected.iter().all(|host| {
            let report = self.desk.report(*host).unwrap_or_else(|| self.fail("a host is silent"));
            let told = report.rollouts.iter().find(|one| Some(one.id) == self.rollout);
            told.is_some_and(|one| one.phase == phase && one.why.starts_with(why))
        })
    }

    /// Steps until the rollout has ended the same way on every host that is expected.
    fn rest(&mut self) -> Ending {
        self.until("the rollout ends", |world| world.ended().is_some());
        self.ended().expect("just now")
    }

    /// How the rollout has ended, if it has on every host that is expected: what they run, and what
    /// they say.
    pub(super) fn ended(&self) -> Option<Ending> {
        let rollout = self.rollout?;
        let ending = |host: usize| {
            let report = self.desk.report(host)?;
            let standing = report.rollouts.into_iter().find(|one| one.id == rollout)?;
            let (ending, version) = match standing.phase {
                RolloutPhase::Complete => (Ending::Complete, Some(standing.to)),
                RolloutPhase::Halted | RolloutPhase::Aborted => (Ending::Stopped, standing.from),
                _ => return None,
            };
            let serves = [&self.first, &self.second]
                .into_iter()
                .find(|one| Some(&one.release.version) == version.as_ref());
            (self.machines[host].running() == serves.map(|one| one.id)).then_some(ending)
        };
        let endings: Option<BTreeSet<_>> = self.expected.iter().map(|host| ending(*host)).collect();
        match endings?.into_iter().collect::<Vec<_>>()[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    // --- time ---

    pub(super) fn now_ms(&self) -> u64 {
        ms(self.sim.elapsed())
    }

    pub(super) fn pass(&mut self, for_ms: u64) {
        let end_ms = self.now_ms() + for_ms;
        while self.now_ms() < end_ms {
            self.step();
        }
    }

    /// Steps until `done`.
    pub(super) fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end_ms = self.now_ms() + PATIENCE_MS;
        while !done(self) {
            if self.now_ms() > end_ms {
                self.fail(&format!("{what}: not within {} s", PATIENCE_MS / 1_000));
            }
            // Reports come every other second: no need to look at every step.
            self.pass(100);
        }
    }

    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            self.fail(&format!("a member ended: {error}"));
        }
        self.steps += 1;
        self.hold_promises();
    }

    // --- promises ---

    fn hold_promises(&self) {
        if let Some(wrong) = self.witness.wrong().first() {
            self.fail(wrong);
        }
        if let Some(refused) = self.desk.refused().first() {
            self.fail(&format!("a statement was refused: {refused}"));
        }
        let ran = self.witness.started(&self.second.id);
        if self.scenario.story == Story::BadRelease && ran.len() > self.canaries {
            self.fail(&format!("R14: the bad release ran on {ran:?}"));
        }
        if self.steps.is_multiple_of(LOOK_EVERY_STEPS) {
            for host in 0..self.fleet.hosts.len() {
                let current = self.paths(host).current();
                // A link that leads nowhere is there and does not exist.
                if current.is_symlink() && !current.exists() {
                    self.fail(&format!("R22: current of host {host} points at nothing"));
                }
            }
        }
    }

    fn hold_the_last_promises(&self, ending: Ending) {
        for host in &self.expected {
            let runs = self.machines[*host].running().expect("it ended");
            if let Err(why) = is_whole(&self.paths(*host), &runs) {
                self.fail(&format!("R22: host {host} runs {runs}, and {why}"));
            }
        }
        let allowed = match self.scenario.story {
            Story::BadRelease | Story::ClockLostLater => [Ending::Stopped].as_slice(),
            // The machine went down with the release in its bake: that may well be its fault.
            Story::PowerCut => &[Ending::Complete, Ending::Stopped],
            _ => &[Ending::Complete],
        };
        if !allowed.contains(&ending) {
            self.fail(&format!("it ended {ending:?}"));
        }
        if self.scenario.story == Story::Certificates {
            self.hold_that_the_stranger_is_nobody();
        }
    }

    /// R9: an expired certificate of a host that nobody knows opens no door.
    fn hold_that_the_stranger_is_nobody(&self) {
        let stranger = self.scenario.stranger();
        let id = &self.fleet.hosts[stranger].id;
        let reports = self.expected.iter().filter_map(|host| self.desk.report(*host));
        if reports.flat_map(|report| report.hosts).any(|host| host.id == *id) {
            self.fail("R9: a stranger is among the hosts");
        }
        if self.machines[stranger].running().is_some() {
            self.fail("R9: a stranger was given a release");
        }
    }

    pub(super) fn paths(&self, host: usize) -> Paths {
        Paths::new(&self.fleet.service_root(host), &service())
    }

    pub(super) fn fail(&self, what: &str) -> ! {
        let names = |runs: Digest| match runs == self.second.id {
            true => "new",
            false => "old",
        };
        let hosts: String = (0..self.fleet.hosts.len())
            .map(|host| {
                let said = self.desk.report(host).map(|report| {
                    let rollouts = report.rollouts.iter();
                    rollouts.map(|one| format!("{}: {}", one.epoch, one.why)).collect::<Vec<_>>()
                });
                let runs = self.machines[host].running().map_or("nothing", names);
                format!("\n  host {host} runs {runs}, says {said:?}")
            })
            .collect();
        panic!("{what}\nat {} ms of {:?}{hosts}", self.now_ms(), self.scenario);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        forget(&self.machines);
    }
}
