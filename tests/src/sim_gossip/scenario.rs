//! What a fleet goes through: drawn from the seed, or written down by a test.

use proto::statement::{Action, OnFailure, Share};
use rollout::plan::Stage;

use super::HOSTS_MAX;
use crate::sim::{Quality, Rng};

/// A host's agent ends, with its machine or without, and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// Its number among the hosts, in no order that matters.
    pub host: usize,
    /// After the rollout was handed in, in milliseconds.
    pub at_ms: u64,
    pub down_ms: u64,
    /// The machine goes, too: unsynced writes are lost, and the guard decides at boot.
    pub machine: bool,
}

/// A host loses its disk, and with it who it is: a new host takes its place, and people remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wiped {
    pub host: usize,
    /// After the rollout was handed in, in milliseconds.
    pub at_ms: u64,
    /// Until the new host is there and the old one removed, in milliseconds.
    pub replaced_after_ms: u64,
}

/// The fleet is cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// When the first host of this wave (0 first) starts.
    pub wave: usize,
    pub for_ms: u64,
    /// Only one of the two directions.
    pub one_way: bool,
    /// People abort the rollout so long after the cut, in milliseconds, on their side of it.
    pub abort_after_ms: Option<u64>,
}

/// Everything that is decided before the start.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    /// In the cohort.
    pub hosts: usize,
    pub zones: usize,
    pub stages: Vec<Stage>,
    pub max_unavailable: Share,
    pub on_failure: OnFailure,
    pub quality: Quality,
    pub interval_ms: u64,
    /// Gossip messages lost and delivered twice, of a thousand.
    pub lost: u64,
    pub doubled: u64,
    pub cut: Option<Cut>,
    pub crashes: Vec<Crash>,
    pub wiped: Option<Wiped>,
    /// When the coordinator is gone for good, in milliseconds after the rollout was handed in; 0: before.
    pub coordinator_gone_ms: Option<u64>,
    /// Lists of effects that a crash of the agent interrupts, of a thousand.
    pub interrupted: u64,
    /// What people order, and when after the rollout was handed in, in milliseconds.
    pub orders: Vec<(u64, Action)>,
    /// When all faults end, in milliseconds after the rollout was handed in.
    pub heals_ms: u64,
}

impl Scenario {
    /// A fleet without faults that takes a good release by canary.
    pub fn calm(seed: u64, hosts: usize) -> Self {
        Self {
            seed,
            hosts,
            zones: 3,
            stages: vec![Stage::new(4.0, 5), Stage::new(25.0, 4), Stage::new(100.0, 2)],
            max_unavailable: Share::Percent(25.0),
            on_failure: OnFailure::Rollback,
            quality: Quality::Good,
            interval_ms: 1_000,
            lost: 0,
            doubled: 0,
            cut: None,
            crashes: Vec::new(),
            wiped: None,
            coordinator_gone_ms: None,
            interrupted: 0,
            orders: Vec::new(),
            heals_ms: 0,
        }
    }

    /// One of the stories that rollouts are made of, and faults on top, all drawn from the seed.
    pub fn drawn(seed: u64, hosts: usize) -> Self {
        let mut rng = Rng::new(seed ^ 0x60551b);
        let zones = 1 + rng.place(4);
        let calm = Self { zones, ..Self::calm(seed, hosts) };
        let mut drawn = match rng.below(9) {
            0 => Self { quality: Quality::BadAtOnce, ..calm },
            1 => Self { quality: Quality::BadInBake, ..calm },
            2 => Self { quality: Quality::BadOn(50), ..calm },
            3 => Self { quality: Quality::BadInZone(rng.place(zones)), ..calm },
            4 => Self { orders: vec![(rng.between(1_000, 30_000), Action::Abort)], ..calm },
            5 => Self { orders: pause(&mut rng), ..calm },
            _ => calm,
        };
        if rng.permille(400) {
            let (wave, for_ms) = (rng.place(3), rng.between(2_000, 100_000));
            let one_way = rng.permille(400);
            let abort_after_ms = rng.permille(200).then(|| rng.between(500, for_ms));
            drawn.cut = Some(Cut { wave, for_ms, one_way, abort_after_ms });
        }
        if rng.permille(400) {
            let count = 1 + rng.place(hosts / 4 + 1);
            drawn.crashes = (0..count).map(|_| crash(&mut rng, hosts)).collect();
            drawn.interrupted = rng.below(5);
        }
        if rng.permille(200) {
            let (at_ms, replaced_after_ms) = (rng.below(40_000), rng.between(5_000, 60_000));
            drawn.wiped = Some(Wiped { host: rng.place(hosts), at_ms, replaced_after_ms });
        }
        if rng.permille(300) {
            drawn.coordinator_gone_ms = Some(rng.below(3) * rng.below(20_000));
        }
        drawn.lost = if rng.permille(500) { rng.below(300) } else { 0 };
        drawn.doubled = rng.below(100);
        if rng.permille(200) {
            drawn.on_failure = OnFailure::Pause;
        }
        drawn.heals_ms = rng.between(20_000, 100_000);
        drawn
    }

    /// A full cell, in a story and with faults that are soon over, drawn from the seed.
    pub fn cell(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xce11);
        let calm = Self { lost: rng.below(100), ..Self::calm(seed, HOSTS_MAX) };
        let mut cell = match rng.below(4) {
            0 => Self { quality: Quality::BadAtOnce, ..calm },
            1 => Self { quality: Quality::BadInBake, ..calm },
            2 => Self { orders: vec![(rng.between(1_000, 20_000), Action::Abort)], ..calm },
            _ => calm,
        };
        cell.coordinator_gone_ms = rng.permille(300).then(|| rng.below(5_000));
        cell.heals_ms = 15_000;
        cell
    }

    /// The number of the host that takes the place of a wiped one, if there is one.
    pub(super) fn newcomer(&self) -> Option<usize> {
        self.wiped.map(|_| self.hosts)
    }

    /// Hosts in and outside the cohort.
    pub(super) fn machines(&self) -> usize {
        self.hosts + usize::from(self.wiped.is_some())
    }

    /// The number of the coordinator among the members, the last.
    pub(super) fn coordinator(&self) -> usize {
        self.machines()
    }

    pub(super) fn members(&self) -> usize {
        self.machines() + 1
    }
}

fn pause(rng: &mut Rng) -> Vec<(u64, Action)> {
    let at = rng.below(20_000);
    vec![(at, Action::Pause), (at + rng.between(2_000, 30_000), Action::Resume)]
}

fn crash(rng: &mut Rng, hosts: usize) -> Crash {
    let (at_ms, down_ms) = (rng.below(40_000), rng.between(1_500, 60_000));
    Crash { host: rng.place(hosts), at_ms, down_ms, machine: rng.permille(500) }
}
