//! The play: members come up, a rollout is handed to one of them, faults come and go, and in the end
//! the fleet must have come to rest.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use durable::SimDisk;
use proto::Digest;
use proto::dsse::Envelope;
use proto::statement::{Action, OnFailure};
use proto::trust::Refusal;
use rollout::host::Host;
use swarm::ledger::AdmitError;
use tokio::task::{JoinError, JoinSet};
use tokio::time;

use super::agent::{Agent, End, Start};
use super::check::Checks;
use super::fleet::Fleet;
use super::member::Member;
use super::network::{Network, Way};
use super::scenario::{Crash, Cut, Wiped};
use super::world::{World, lock};
use super::{Outcome, Scenario};
use crate::sim::Ending;
use crate::sim_ground::machine::{self, inhabit};

/// How long a fleet may take to find itself.
const GATHERING_MS_MAX: u64 = 60_000;
/// How long a healed fleet may take to come to rest.
const REST_MS_MAX: u64 = 900_000;
/// Between two looks at the fleet.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
enum Event {
    Crash(Crash),
    Wipe(Wiped),
    Replace { host: usize },
    Restart { host: usize },
    CoordinatorGone,
    Order { action: Action, near: Option<usize> },
    Mend,
    Heal,
}

struct Play {
    scenario: Scenario,
    fleet: Fleet,
    network: Network,
    /// Every member's wall clock.
    clock: Arc<machine::Machine>,
    world: Arc<Mutex<World>>,
    /// By number, the coordinator last.
    lives: Vec<Option<Member>>,
    agents: JoinSet<(usize, End)>,
    /// By time, and in the order in which they were planned.
    timeline: BTreeMap<(u64, u64), Event>,
    planned: u64,
    messages: u64,
    cut_was: bool,
    away_ms: u64,
    /// What people handed in, in order.
    said: Vec<Envelope>,
}

pub(super) async fn run(scenario: Scenario) -> Outcome {
    let mut play = Play::new(scenario);
    inhabit(play.clock.clone(), 0);
    play.come_up().await;
    play.gather().await;
    let handed_in_ms = play.hand_in();
    play.plan(handed_in_ms);
    let ending = play.go_on(handed_in_ms).await;
    play.close(handed_in_ms, ending)
}

impl Play {
    fn new(scenario: Scenario) -> Self {
        let fleet = Fleet::new(&scenario);
        Self {
            network: Network::new(&scenario),
            clock: Arc::default(),
            world: Arc::new(Mutex::new(World::new(&scenario, &fleet))),
            lives: (0..scenario.members()).map(|_| None).collect(),
            agents: JoinSet::new(),
            timeline: BTreeMap::new(),
            planned: 0,
            messages: 0,
            cut_was: false,
            away_ms: 0,
            said: Vec::new(),
            fleet,
            scenario,
        }
    }

    fn now_ms(&self) -> u64 {
        lock(&self.world).now_ms()
    }

    fn place(&self) -> String {
        lock(&self.world).place()
    }

    // --- lives ---

    /// A member starts; a host from what is on its disk, and its agent with it.
    fn start(&mut self, number: usize) {
        let machine_disk = |machine: &super::world::Machine| machine.disk.clone();
        let disk = lock(&self.world).machines.get(number).map(machine_disk);
        let is_host = disk.is_some();
        let disk = disk.unwrap_or_else(|| Arc::new(SimDisk::new()));
        let interval = Duration::from_millis(self.scenario.interval_ms);
        let member = Member::start(&self.fleet, &self.network, number, disk, interval);
        if is_host {
            self.start_agent(number, &member);
        }
        self.lives[number] = Some(member);
    }

    fn start_agent(&mut self, number: usize, member: &Member) {
        {
            let mut world = lock(&self.world);
            let now_ms = world.now_ms();
            world.machines[number].ledger = Some(member.ledger.clone());
            if let Some(checks) = &mut world.checks {
                checks.listens(number, now_ms);
            }
        }
        let start = Start {
            number,
            key: self.fleet.key(number),
            world: self.world.clone(),
            ledger: member.ledger.clone(),
            gossip: member.gossip.clone(),
        };
        let life = Agent::live(start, member.stop.clone());
        self.agents.spawn(async move { (number, life.await) });
    }

    /// What follows once a member has ended, however it did.
    fn bury(&mut self, number: usize) {
        let Some(member) = self.lives[number].take() else { return };
        member.stop.cancel();
        self.network.unplug(number);
        self.count_messages(number, &member);
        let mut world = lock(&self.world);
        if let Some(machine) = world.machines.get_mut(number) {
            (machine.ledger, machine.core) = (None, None);
            machine.life += 1;
        }
    }

    /// R11: those who keep to the protocol never convict each other.
    fn count_messages(&mut self, number: usize, member: &Member) {
        let (counts, place) = (member.gossip.counts(), self.place());
        assert_eq!(counts.violations, 0, "{place} {number} convicts an honest one: {counts:?}");
        self.messages += counts.passed;
    }

    // --- before ---

    /// All members but the newcomer come up, one after the other within a gossip interval: their
    /// rounds do not beat together.
    async fn come_up(&mut self) {
        let members = u32::try_from(self.lives.len()).expect("few members");
        let step = Duration::from_millis(self.scenario.interval_ms) / members;
        let newcomer = self.scenario.newcomer();
        for number in (0..self.lives.len()).rev().filter(|number| Some(*number) != newcomer) {
            self.start(number);
            time::sleep(step).await;
        }
    }

    /// Until everybody is alive to everybody.
    async fn gather(&mut self) {
        let members = self.lives.iter().flatten().count();
        let knows_all = |member: &Member| {
            let shown = member.gossip.members().borrow().clone();
            shown.len() == members && shown.iter().all(|member| member.alive)
        };
        while !self.lives.iter().flatten().all(knows_all) {
            assert!(self.now_ms() < GATHERING_MS_MAX, "{} no fleet yet", self.place());
            time::sleep(LOOK).await;
        }
    }

    /// The operator gives the rollout to one member; when that was.
    fn hand_in(&mut self) -> u64 {
        let (envelope, rollout) = self.fleet.rollout(&self.scenario);
        let ids: Vec<_> = self.fleet.hosts.iter().map(|host| host.id.clone()).collect();
        {
            let mut world = lock(&self.world);
            world.checks = Some(Checks::new(envelope.id(), Arc::new(rollout), &ids));
            world.suffers = true;
        }
        if self.scenario.coordinator_gone_ms == Some(0) {
            self.bury(self.scenario.coordinator());
        }
        let releases = [0, 1].map(|number| self.fleet.release(number));
        for statement in releases.into_iter().chain([envelope]) {
            self.say(statement, None);
        }
        self.network.suffer(self.scenario.lost, self.scenario.doubled);
        self.now_ms()
    }

    fn say(&mut self, envelope: Envelope, near: Option<usize>) {
        self.give(&envelope, near).expect("the operator signs what counts");
        self.said.push(envelope);
    }

    /// The coordinator is gone for good. What fewer than two hosts hold may be gone with it, and people are
    /// told so while it is so (R21): they hand it in again.
    fn lose_coordinator(&mut self) {
        self.bury(self.scenario.coordinator());
        for envelope in &self.said {
            let holds = |member: &&Member| member.ledger.knows(&envelope.id());
            if self.lives.iter().flatten().filter(holds).count() >= 2 {
                continue;
            }
            match self.give(envelope, None) {
                // A stronger word has come since, and that one is held.
                Ok(())
                | Err(AdmitError::Refused(Refusal::Aborted | Refusal::DirectiveTooOld { .. })) => {}
                Err(error) => panic!("what counted does not count any more: {error}"),
            }
        }
    }

    /// Hands a statement to the coordinator or, without it, to a host that is up; `near`: on the same
    /// side of a cut as this member.
    fn give(&self, envelope: &Envelope, near: Option<usize>) -> Result<(), AdmitError> {
        let reachable =
            |number: usize| near.is_none_or(|near| !self.network.are_apart(near, number));
        let mut up = (0..self.lives.len()).rev().filter(|number| reachable(*number));
        let member = up.find_map(|number| self.lives[number].as_ref());
        member.map_or(Ok(()), |member| member.ledger.admit(&envelope.to_bytes()).map(drop))
    }

    fn plan(&mut self, start_ms: u64) {
        let scenario = self.scenario.clone();
        for crash in scenario.crashes {
            self.at(start_ms + crash.at_ms, Event::Crash(crash));
        }
        if let Some(wiped) = scenario.wiped {
            self.at(start_ms + wiped.at_ms, Event::Wipe(wiped));
        }
        if let Some(gone_ms) = scenario.coordinator_gone_ms {
            self.at(start_ms + gone_ms, Event::CoordinatorGone);
        }
        for (at_ms, action) in scenario.orders {
            self.at(start_ms + at_ms, Event::Order { action, near: None });
        }
        self.at(start_ms + scenario.heals_ms, Event::Heal);
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        self.planned += 1;
        self.timeline.insert((at_ms, self.planned), event);
    }

    // --- the course of it ---

    async fn go_on(&mut self, start_ms: u64) -> Ending {
        loop {
            let now_ms = self.now_ms();
            while let Some(entry) = self.timeline.first_entry() {
                if entry.key().0 > now_ms {
                    break;
                }
                let event = entry.remove();
                self.happen(event, now_ms);
            }
            self.cut_if_it_is_time(now_ms);
            if let Some(ending) = self.rest() {
                return ending;
            }
            let late = now_ms - start_ms > self.scenario.heals_ms + REST_MS_MAX;
            assert!(!late, "{} no rest: {}", self.place(), self.unrest());
            tokio::select! {
                biased;
                Some(ended) = self.agents.join_next() => self.end(ended),
                () = time::sleep(LOOK) => {}
            }
        }
    }

    fn happen(&mut self, event: Event, now_ms: u64) {
        match event {
            Event::Crash(crash) => self.crash(crash, now_ms),
            Event::Wipe(wiped) => self.wipe(wiped, now_ms),
            Event::Replace { host } => self.replace(host),
            Event::Restart { host } => self.start(host),
            Event::CoordinatorGone => self.lose_coordinator(),
            Event::Order { action, near } => {
                let rollout = self.rollout_id();
                let directive = self.fleet.directive(rollout, action);
                match self.give(&directive, near) {
                    // Somebody else has aborted it meanwhile, and whoever orders is told so.
                    Err(AdmitError::Refused(Refusal::Aborted)) => {}
                    given => {
                        given.expect("the operator signs what counts");
                        lock(&self.world).orders.push((directive.id(), action));
                        self.said.push(directive);
                    }
                }
            }
            Event::Mend => self.network.cut(None),
            Event::Heal => {
                self.network.cut(None);
                self.network.suffer(0, 0);
                lock(&self.world).suffers = false;
            }
        }
    }

    fn rollout_id(&self) -> Digest {
        lock(&self.world).checks.as_ref().expect("it was handed in").id
    }

    fn cut_if_it_is_time(&mut self, now_ms: u64) {
        let Some(cut) = self.scenario.cut.filter(|_| !self.cut_was) else { return };
        let begun = {
            let world = lock(&self.world);
            world.suffers && world.checks.as_ref().is_some_and(|checks| checks.has_begun(cut.wave))
        };
        if !begun {
            return;
        }
        let Cut { for_ms, one_way, abort_after_ms, .. } = cut;
        self.cut_was = true;
        self.away_ms = self.away_ms.max(for_ms);
        self.network.cut(Some(if one_way { Way::One } else { Way::Both }));
        self.at(now_ms + for_ms, Event::Mend);
        if let Some(after_ms) = abort_after_ms {
            let abort = Event::Order { action: Action::Abort, near: Some(0) };
            self.at(now_ms + after_ms, abort);
        }
    }

    /// An agent has ended: it was stopped, or crashed between two effects, or broke a promise.
    fn end(&mut self, ended: Result<(usize, End), JoinError>) {
        match ended {
            Ok((_, End::Stopped)) => {}
            Ok((host, End::Crashed)) => {
                let (down_ms, machine) = {
                    let chance = &mut lock(&self.world).machines[host].chance;
                    (chance.between(1_000, 60_000), chance.permille(500))
                };
                let now_ms = self.now_ms();
                self.crash(Crash { host, at_ms: now_ms, down_ms, machine }, now_ms);
            }
            Err(broken) => std::panic::resume_unwind(broken.into_panic()),
        }
    }

    fn crash(&mut self, crash: Crash, now_ms: u64) {
        let Crash { host, down_ms, machine, .. } = crash;
        if self.lives[host].is_none() {
            return;
        }
        self.away_ms = self.away_ms.max(down_ms);
        self.bury(host);
        if machine {
            let machine = &mut lock(&self.world).machines[host];
            machine.disk = Arc::new(machine.disk.after_power_cut(machine.chance.next()));
            machine.booted_ms = now_ms + down_ms;
            machine.service.boot();
        }
        self.at(now_ms + down_ms, Event::Restart { host });
    }

    /// A host's disk is gone, and with it its key: it is never again.
    fn wipe(&mut self, wiped: Wiped, now_ms: u64) {
        let Wiped { host, replaced_after_ms, .. } = wiped;
        self.away_ms = self.away_ms.max(replaced_after_ms);
        self.bury(host);
        {
            let machine = &mut lock(&self.world).machines[host];
            (machine.wiped, machine.service.up) = (true, false);
        }
        self.timeline
            .retain(|_, event| !matches!(event, Event::Restart { host: other } if *other == host));
        self.at(now_ms + replaced_after_ms, Event::Replace { host });
    }

    /// People remove the host that was wiped, and a new one takes its place. Where that leaves nobody who
    /// could speak for the release, they end the rollout.
    fn replace(&mut self, host: usize) {
        let leaves_nobody = lock(&self.world).checks.as_mut().is_some_and(|checks| {
            checks.removes(host);
            checks.leaves_nobody(host)
        });
        let removal = self.fleet.removal(host);
        self.say(removal, None);
        if leaves_nobody {
            self.timeline.retain(|_, event| !matches!(event, Event::Order { .. }));
            self.happen(Event::Order { action: Action::Abort, near: None }, self.now_ms());
        }
        if let Some(newcomer) = self.scenario.newcomer() {
            self.start(newcomer);
        }
    }

    // --- the end ---

    /// Where the healed fleet has come to rest, if it has.
    fn rest(&self) -> Option<Ending> {
        let world = lock(&self.world);
        if world.suffers || !self.timeline.is_empty() {
            return None;
        }
        let present = || (0..world.machines.len()).filter(|host| !world.machines[*host].wiped);
        let cores: Option<Vec<(usize, &Host)>> =
            present().map(|host| Some((host, world.machines[host].core.as_ref()?))).collect();
        let (cores, id) = (cores?, world.checks.as_ref()?.id);
        if cores.iter().any(|(_, core)| core.rollout() != Some(id)) {
            return None;
        }
        let stays = self.scenario.on_failure == OnFailure::Pause;
        let all_back = present().all(|host| stays || world.is_back(host));
        let aborted = world.orders.iter().any(|(_, action)| *action == Action::Abort);
        if cores.iter().all(|(_, core)| core.is_halted()) {
            return all_back.then_some(Ending::Halted);
        }
        if aborted {
            let all_know = present().all(|host| world.machines[host].stop_known_ms.is_some());
            return (all_know && all_back).then_some(Ending::Aborted);
        }
        let done =
            cores.iter().all(|(host, core)| core.is_complete() && world.is_done(*host, core));
        done.then_some(Ending::Complete)
    }

    /// For a panic: some hosts.
    fn unrest(&self) -> String {
        let world = lock(&self.world);
        let lines = world.machines.iter().enumerate().map(|(host, machine)| {
            let Some(core) = &machine.core else { return format!("host {host} is down") };
            format!(
                "host {host}: {:?} {:?}, complete {}, halted {}, up {}, {}",
                core.state(),
                core.cause(),
                core.is_complete(),
                core.is_halted(),
                machine.service.up,
                core.why().map_or_else(String::new, ToString::to_string)
            )
        });
        lines.take(20).collect::<Vec<_>>().join("\n")
    }

    fn close(mut self, start_ms: u64, ending: Ending) -> Outcome {
        let now_ms = self.now_ms();
        for number in 0..self.lives.len() {
            self.bury(number);
        }
        let world = lock(&self.world);
        let checks = world.checks.as_ref().expect("it was handed in");
        let ranked = || world.machines[..self.scenario.hosts].iter();
        let verified_ms = ranked().filter_map(|machine| machine.verified_ms).max();
        let stops = || ranked().filter_map(|machine| machine.stop_known_ms);
        Outcome {
            seed: self.scenario.seed,
            hosts: self.scenario.hosts,
            interval_ms: self.scenario.interval_ms,
            ending,
            taken: world.taken,
            ever_ran: checks.ever_ran(world.new),
            canaries: checks.rollout.ranks_in(0).len(),
            verified_after_ms: verified_ms.unwrap_or(now_ms) - start_ms,
            stop_known_after_ms: stops().min().zip(stops().max()).map(|(first, last)| last - first),
            away_for_ms: self.away_ms,
            rested_after_ms: now_ms - start_ms,
            messages: self.messages,
            receipts: checks.receipts(),
        }
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        machine::forget(std::slice::from_ref(&self.clock));
    }
}
