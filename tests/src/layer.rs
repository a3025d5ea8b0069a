//! The layers of the simulation: each runs one seed to its end, and panics where a promise is broken.

use rollout::host::Taken;

use crate::sim::{self, Scenario};
use crate::{sim_gossip, sim_network};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub seed: u64,
    /// Hosts of the fleet; none: as the seed has it.
    pub hosts: Option<usize>,
    /// What happened last is printed where a promise is broken.
    pub told: bool,
}

/// One layer.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    pub name: &'static str,
    /// Seeds in each round of all layers: cheap ones have many, so that each gets some of the time.
    pub turns: usize,
    /// Runs a case; the changes of state that it took.
    pub run: fn(&Case) -> Taken,
}

/// All of them, the cheapest first.
pub const LAYERS: &[Layer] = &[
    Layer { name: "core", turns: 60, run: core },
    Layer { name: "gossip", turns: 1, run: gossip },
    Layer { name: "network", turns: 1, run: network },
];

/// The rollout core alone, under every fault there is.
fn core(case: &Case) -> Taken {
    // Small fleets are where every rounding rule is at its edge, large ones where waves are long.
    const HOSTS: [usize; 16] = [1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 20, 30, 50, 50, 80, 120];
    let mut rng = sim::Rng::new(case.seed);
    let drawn = HOSTS[rng.place(HOSTS.len())];
    let hosts = case.hosts.unwrap_or(drawn);
    let scenario = match rng.below(10) {
        0 | 1 => Scenario::hasty(case.seed, hosts),
        2..=4 => Scenario::ordered(case.seed, hosts),
        5 | 6 => Scenario::counted(case.seed, hosts),
        _ => Scenario::drawn(case.seed, hosts),
    };
    let outcome = if case.told { sim::replay(&scenario) } else { sim::run(&scenario) };
    outcome.taken
}

/// Rollouts over real gossip. A full cell takes minutes, so one seed in 32 has one.
fn gossip(case: &Case) -> Taken {
    const HOSTS: [usize; 8] = [3, 5, 8, 12, 16, 20, 30, 60];
    let mut rng = sim::Rng::new(case.seed);
    let (drawn, full) = (HOSTS[rng.place(HOSTS.len())], rng.below(32) == 0);
    let scenario = match case.hosts {
        None if full => sim_gossip::Scenario::cell(case.seed),
        hosts => {
            let hosts = hosts.unwrap_or(drawn).min(sim_gossip::HOSTS_MAX);
            sim_gossip::Scenario::drawn(case.seed, hosts)
        }
    };
    let outcome = sim_gossip::run(&scenario);
    if case.told {
        println!("{outcome}");
    }
    outcome.taken
}

/// Whole agents in a simulated network, some twenty seconds a seed; the seed draws the size of the
/// fleet, and only the core tells which changes of state it took.
fn network(case: &Case) -> Taken {
    sim_network::run(case.seed);
    Taken::default()
}
