//! What happens to a fleet while a rollout goes on; at its end everything is mended.

use proto::report::RolloutPhase;

use super::scenario::{Scenario, Story};
use super::service::{Quality, stands};
use super::world::{CANARY_BAKE_S, COORDINATOR, World};
use crate::sim::Rng;
use crate::sim_ground::machine::Machine;
use crate::sim_ground::people::{DAY_S, name_of};

// --- what the scenario settles beforehand ---

impl Scenario {
    /// How the release of the rollout behaves.
    pub(super) fn quality(&self, rng: &mut Rng) -> Quality {
        let bake_ms = u64::from(CANARY_BAKE_S) * 1_000;
        match self.story {
            Story::BadRelease if rng.permille(500) => Quality::BadAtOnce,
            Story::BadRelease => Quality::BadAfter(rng.between(500, bake_ms - 1_000)),
            _ => Quality::Good,
        }
    }

    /// Hosts that the coordinator has no record of, numbered behind the others.
    pub(super) fn outsiders(&self) -> usize {
        if self.story == Story::Certificates { 2 } else { 0 }
    }

    /// Its certificate has expired, and nobody has its statement.
    pub(super) fn stranger(&self) -> usize {
        self.hosts
    }

    /// Nobody has its statement yet, but its certificate is good.
    pub(super) fn newcomer(&self) -> usize {
        self.hosts + 1
    }

    /// The host that believes that it is 1970, for some time.
    pub(super) fn out_of_time(&self) -> Option<usize> {
        let loses = [Story::LostClock, Story::ClockLostLater].contains(&self.story);
        loses.then_some(self.hosts - 1)
    }

    /// The host whose certificate has expired and whose statement everybody has.
    fn expired(&self) -> usize {
        self.hosts - 1
    }

    pub(super) fn certificate_age_days(&self, host: usize) -> u64 {
        let expired =
            self.story == Story::Certificates && [self.stranger(), self.expired()].contains(&host);
        if expired { 100 } else { 1 }
    }
}

// --- what happens ---

impl World {
    /// Goes through the story, until all is mended.
    pub(super) fn tell(&mut self) {
        match self.scenario.story {
            Story::Calm | Story::CoordinatorGone | Story::BadRelease => {}
            Story::Partition => self.cut_off_some(),
            Story::AgentsKilled => {
                self.kill_the_canary(|_, _| {});
                let host = self.rng.place(self.scenario.hosts);
                self.kill(host, |_, _| {});
            }
            Story::PowerCut => self.kill_the_canary(Machine::reboot),
            Story::Certificates => {
                self.draw_pass(3_000, 10_000);
                self.sim.crash(COORDINATOR);
                self.kill(self.scenario.expired(), |_, _| {});
            }
            Story::LostClock => self.mend_the_clock(),
            Story::ClockLostLater => self.abort_what_runs_in_1970(),
            Story::RootRenewed => self.renew_the_root(),
            Story::ShortOfMemory => self.want_for_memory(),
            Story::Rot => self.lose_the_way_back(),
        }
    }

    fn draw_pass(&mut self, from_ms: u64, to_ms: u64) {
        let for_ms = self.rng.between(from_ms, to_ms);
        self.pass(for_ms);
    }

    /// Cuts a part of the hosts off from the others and the coordinator, in one or both directions.
    fn cut_off_some(&mut self) {
        self.draw_pass(3_000, 25_000);
        let hosts = self.scenario.hosts;
        let (start, many) = (self.rng.place(hosts), 1 + self.rng.place(hosts / 2));
        let is_cut = |host: usize| (host + hosts - start) % hosts < many;
        let (cut, others): (Vec<_>, Vec<_>) = (0..hosts).partition(|host| is_cut(*host));
        let others: Vec<_> =
            others.into_iter().map(name_of).chain([COORDINATOR.to_owned()]).collect();
        let with_all = |one: usize| others.iter().map(move |other| (name_of(one), other.clone()));
        let links: Vec<_> = cut.into_iter().flat_map(with_all).collect();
        let one_way = self.rng.permille(300);
        for (one, other) in &links {
            match one_way {
                true => self.sim.partition_oneway(one.as_str(), other.as_str()),
                false => self.sim.partition(one.as_str(), other.as_str()),
            }
        }
        self.draw_pass(20_000, 140_000);
        for (one, other) in &links {
            match one_way {
                true => self.sim.repair_oneway(one.as_str(), other.as_str()),
                false => self.sim.repair(one.as_str(), other.as_str()),
            }
        }
    }

    /// Waits until the canary bakes and kills its agent then.
    fn kill_the_canary(&mut self, besides: impl Fn(&Machine, u64)) {
        let new = self.second.id;
        self.until("the canary starts", |world| !world.witness.started(&new).is_empty());
        let canary = self.witness.started(&new).first().copied().expect("just now");
        self.draw_pass(500, 6_000);
        self.kill(canary, besides);
    }

    /// Kills an agent, and starts it again after a while. `besides`: what else happens to its machine,
    /// and when.
    fn kill(&mut self, host: usize, besides: impl Fn(&Machine, u64)) {
        self.sim.crash(name_of(host));
        besides(&self.machines[host], self.now_ms());
        self.draw_pass(2_000, 40_000);
        self.sim.bounce(name_of(host));
    }

    fn mend_the_clock(&mut self) {
        self.draw_pass(5_000, 120_000);
        let lost = self.scenario.out_of_time().expect("in this story");
        if self.machines[lost].running().is_some() {
            self.fail("R8: something was started in 1970");
        }
        self.machines[lost].set_skew_ms(0);
        self.expected.insert(lost);
    }

    /// It is aborted while that host is away, whose bake is not over. Hosts alone tell it so: the
    /// coordinator's certificate has no time that could be wrong.
    fn abort_what_runs_in_1970(&mut self) {
        let (lost, new) = (self.scenario.out_of_time().expect("in this story"), self.second.id);
        self.until("it starts", |world| world.machines[lost].running() == Some(new));
        self.sim.crash(name_of(lost));
        self.sim.crash(COORDINATOR);
        self.machines[lost].believe_in_1970();
        self.abort();
        self.draw_pass(2_000, 40_000);
        self.sim.bounce(name_of(lost));
    }

    /// R7: nothing new starts under a root that has expired, every host says so, and goes on by itself
    /// once there is a newer one.
    fn renew_the_root(&mut self) {
        let new = self.second.id;
        self.until("the canary starts", |world| !world.witness.started(&new).is_empty());
        self.sign_root(2, self.now_ms() / 1_000 + 1);
        self.until("every host says it", |world| {
            world.all_say(RolloutPhase::Expired, "held: the root has expired")
        });
        let before = self.witness.started(&new).len();
        self.draw_pass(30_000, 120_000);
        if self.witness.started(&new).len() > before {
            self.fail("R7: something was started under a root that has expired");
        }
        self.sign_root(3, DAY_S);
    }

    /// Nothing new starts on a host without memory, and what was held goes on by itself.
    fn want_for_memory(&mut self) {
        let set = |world: &Self, short| {
            world.machines.iter().for_each(|machine| machine.set_short_of_memory(short));
        };
        set(self, true);
        self.draw_pass(30_000, 120_000);
        if !self.witness.started(&self.second.id).is_empty() {
            self.fail("something was started without memory for it");
        }
        set(self, false);
    }

    /// R22: what is kept is looked at soon after a start, and then every half hour.
    fn lose_the_way_back(&mut self) {
        self.until("the rollout ends", |world| world.ended().is_some());
        let (host, back) = (self.rng.place(self.scenario.hosts), self.first.id);
        let (paths, name) = (self.paths(host), name_of(host));
        let file = paths.release(&back).join("content");
        let mut content = std::fs::read(&file).expect("a file of the release");
        let at = self.rng.place(content.len());
        content[at] ^= 1;
        let mode = std::fs::metadata(&file).expect("the same").permissions();
        std::fs::remove_file(&file).expect("a disk loses it");
        std::fs::write(&file, content).expect("and has something else");
        std::fs::set_permissions(&file, mode).expect("that looks the same");
        self.sim.crash(name.as_str());
        self.sim.bounce(name.as_str());
        self.until("the way back is whole again", |_| stands(&paths, &back).is_ok());
    }
}
