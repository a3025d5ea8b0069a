//! The world: its hosts, its clock, its queue of events, and what each event sets off.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use proto::certificate::Claim;
use proto::statement::{CohortHost, Directive, Freeze, Revocation, Rollout};
use proto::{Digest, HostId, PublicKey, Scope};
use rollout::host::{Host, Input, Taken};

use super::check::Checks;
use super::driver::Given;
use super::node::{Heard, Node, Service};
use super::requests::Counts;
use super::rng::{Rng, mix};
use super::scenario::{Deed, Outage, Scenario};
use super::story::Story;
use super::{Ending, Outcome};

/// How long a healed fleet may take to come to rest, in milliseconds.
const REST_MS_MAX: u64 = 3 * 3_600_000;

/// Something that spreads by gossip and is kept.
#[derive(Debug, Clone)]
pub(super) enum Word {
    Rollout { id: Digest, rollout: Arc<Rollout> },
    Directive(Directive),
    Certificate { rollout: Digest, claim: Claim },
    Freeze(Freeze),
    Revocation(Revocation),
}

#[derive(Debug)]
pub(super) enum Event {
    /// A host talks to some others.
    Gossip {
        host: usize,
    },
    Message {
        to: usize,
        versions: Vec<(u32, u32)>,
        words: u64,
    },
    Wake {
        host: usize,
    },
    /// An answer to an effect.
    Answer {
        host: usize,
        incarnation: u32,
        input: Input,
    },
    /// The service of a host does what it was asked to.
    Service {
        host: usize,
        incarnation: u32,
        done: super::service::Done,
    },
    Crash {
        host: usize,
        machine: bool,
        down_ms: u64,
    },
    Restart {
        host: usize,
        machine: bool,
    },
    Deed {
        deed: Deed,
    },
    /// The effect that takes its time on a slow disk is done.
    Disk {
        host: usize,
        incarnation: u32,
    },
    Lie {
        host: usize,
    },
    /// A host reads what its service counts.
    Count {
        host: usize,
    },
    /// A wall clock jumps.
    Step {
        host: usize,
        by_s: i64,
    },
    Outage {
        zone: usize,
    },
    Heal,
    Look,
}

pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) rng: Rng,
    pub(super) now: u64,
    pub(super) healed: bool,
    pub(super) nodes: Vec<Node>,
    /// The place of each host among them.
    pub(super) numbers: BTreeMap<HostId, usize>,
    /// Everything that was ever said; a host's `holds` has a bit for each.
    pub(super) words: Vec<Word>,
    pub(super) scope: Scope,
    /// Which side of a cut each host is on.
    pub(super) sides: Vec<bool>,
    pub(super) sequence: u64,
    pub(super) checks: Checks,
    pub(super) story: Story,
    /// Changes of state that the machines made.
    pub(super) taken: Taken,
    queue: BinaryHeap<Reverse<Timed>>,
    order: u64,
    history: u64,
    events: u64,
    pub(super) inputs: u64,
}

struct Timed {
    at: u64,
    order: u64,
    event: Event,
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timed {}

/// A host's key: some valid point, since nothing is signed here.
fn key(seed: u64, number: usize) -> PublicKey {
    let bytes = |salt: u32| *Digest::of(format!("{seed} {number} {salt}").as_bytes()).as_bytes();
    (0..).find_map(|salt| PublicKey::from_bytes(&bytes(salt))).expect("every second one is valid")
}

/// A host before its first event.
fn node(scenario: &Scenario, number: usize, all: usize, rng: &mut Rng) -> Node {
    let current = (!scenario.first).then(|| scenario.release(0));
    let lie = scenario.liars.iter().find(|(host, _)| *host == number).map(|(_, lie)| *lie);
    Node {
        id: HostId::of(&key(scenario.seed, number)),
        lie,
        machine: None,
        record: Vec::new(),
        incarnation: 0,
        wake_at: None,
        todo: VecDeque::new(),
        doing: None,
        inbox: VecDeque::new(),
        slow_link: rng.permille(scenario.slow_links),
        slow_disk: rng.permille(scenario.slow_disks),
        booted_at: 0,
        ppm: 999_000 + rng.below(2_000),
        skew_s: rng.between(0, 7_200).cast_signed() - 3_600,
        holds: 0,
        knows: 0,
        listens_for: None,
        twin: false,
        knows_twin: false,
        heard: vec![Heard::default(); all],
        digest: 0,
        signed: Vec::new(),
        to_others: Vec::new(),
        service: Service { current, up: current.is_some(), ..Service::default() },
        counts: Counts::default(),
    }
}

impl World {
    pub(super) fn new(scenario: Scenario, story: Story) -> Self {
        let mut rng = Rng::new(scenario.seed);
        let all = scenario.hosts + scenario.outside;
        let scope = Scope {
            service: "web".parse().expect("a name"),
            env: "production".parse().expect("a name"),
        };
        let nodes: Vec<_> = (0..all).map(|number| node(&scenario, number, all, &mut rng)).collect();
        let mut world = Self {
            now: 0,
            healed: false,
            numbers: nodes.iter().map(|node| node.id.clone()).zip(0..).collect(),
            nodes,
            words: Vec::new(),
            scope,
            sides: (0..all).map(|_| rng.permille(500)).collect(),
            sequence: 0,
            checks: Checks::new(all),
            story,
            taken: Taken::default(),
            queue: BinaryHeap::new(),
            order: 0,
            history: 0,
            events: 0,
            inputs: 0,
            rng,
            scenario,
        };
        world.set_up();
        world
    }

    /// Machines that run what the scope ran before; the deeds and faults to come.
    fn set_up(&mut self) {
        for host in 0..self.nodes.len() {
            let record = self.record_of_old(host);
            let node = &mut self.nodes[host];
            if node.lie.is_none() {
                node.machine = serde_json::from_value(record.clone()).expect("a record");
                node.record = serde_json::to_vec(&record).expect("records serialize");
            }
            let at = self.rng.below(1_000);
            self.push(at, Event::Gossip { host });
            if self.scenario.load.is_some() {
                self.push(1_000 + at, Event::Count { host });
            }
        }
        self.begin_first();
        let until = self.scenario.heals_s * 1_000;
        for _ in 0..self.scenario.crashes {
            let host = self.rng.place(self.nodes.len());
            let at = self.rng.below(until);
            let machine = self.rng.permille(500);
            let down_ms = self.rng.between(1_000, 200_000);
            self.push(at, Event::Crash { host, machine, down_ms });
        }
        for _ in 0..self.scenario.clock_steps {
            let (at, host) = (self.rng.below(until), self.rng.place(self.nodes.len()));
            let by_s = self.rng.between(0, 7_200).cast_signed() - 3_600;
            self.push(at, Event::Step { host, by_s });
        }
        for index in 0..self.scenario.outages.len() {
            let Outage { from_s, zone, .. } = self.scenario.outages[index];
            self.push(from_s * 1_000, Event::Outage { zone });
        }
        for index in 0..self.scenario.liars.len() {
            let (host, _) = self.scenario.liars[index];
            self.push(0, Event::Lie { host });
        }
        for index in 0..self.scenario.deeds.len() {
            let (at_s, deed) = self.scenario.deeds[index];
            self.push(at_s * 1_000, Event::Deed { deed });
        }
        self.push(until, Event::Heal);
    }

    /// The record of a host that has come to run what it runs by rollouts long forgotten.
    fn record_of_old(&self, host: usize) -> serde_json::Value {
        let machine = Host::new(self.nodes[host].id.clone(), self.scope.clone());
        let mut record = serde_json::to_value(machine).expect("records serialize");
        for field in ["running", "proven"] {
            record[field] = serde_json::json!(self.nodes[host].service.current);
        }
        // It has heard from the others lately: in good time for the whole of a simulation.
        record["confirmed"] = serde_json::json!(super::node::EPOCH_S);
        record
    }

    pub(super) fn push(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Timed { at, order: self.order, event }));
    }

    pub(super) fn push_in(&mut self, delay_ms: u64, event: Event) {
        self.push(self.now + delay_ms, event);
    }

    /// All hosts, with their keys and zones.
    pub(super) fn members(&self) -> Vec<CohortHost> {
        (0..self.nodes.len())
            .map(|number| CohortHost {
                id: self.nodes[number].id.clone(),
                key: key(self.scenario.seed, number),
                zone: format!("z{}", self.zone_of(number)).parse().expect("a zone"),
            })
            .collect()
    }

    pub(super) fn zone_of(&self, number: usize) -> usize {
        number % self.scenario.zones
    }

    pub(super) fn run(mut self) -> Outcome {
        let mut ending = None;
        while let Some(Reverse(Timed { at, event, .. })) = self.queue.pop() {
            self.now = at;
            self.events += 1;
            self.note(&event);
            if let Event::Look = event {
                ending = self.rest();
                if ending.is_some() {
                    break;
                }
                let since_ms = self.now - self.scenario.heals_s * 1_000;
                assert!(since_ms < REST_MS_MAX, "{} no rest: {}", self.place(), self.unrest());
                self.push_in(5_000, Event::Look);
            } else {
                self.happen(event);
            }
        }
        let (first, rollout) = self.first_rollout();
        Outcome {
            history: self.history,
            taken: self.taken,
            events: self.events,
            inputs: self.inputs,
            rested_ms: self.now,
            ending: ending.unwrap_or(Ending::Halted),
            ever_ran: self.checks.ever_ran(first),
            canaries: rollout.waves[0].hosts as usize,
        }
    }

    /// For panics: the seed and the time.
    pub(super) fn place(&self) -> String {
        format!("seed {}, {} hosts, {} ms:", self.scenario.seed, self.nodes.len(), self.now)
    }

    /// Adds an event to the history.
    fn note(&mut self, event: &Event) {
        let (kind, host, more) = match event {
            Event::Gossip { host } => (1, *host, 0),
            Event::Message { to, versions, words } => (2, *to, versions.len() as u64 ^ words << 8),
            Event::Wake { host } => (3, *host, 0),
            Event::Answer { host, incarnation, .. } => (4, *host, u64::from(*incarnation)),
            Event::Service { host, incarnation, done } => {
                (5, *host, u64::from(*incarnation) << 32 ^ done.attempt)
            }
            Event::Crash { host, down_ms, .. } => (6, *host, *down_ms),
            Event::Restart { host, .. } => (7, *host, 0),
            Event::Deed { .. } => (8, 0, 0),
            Event::Disk { host, incarnation } => (11, *host, u64::from(*incarnation)),
            Event::Lie { host } => (12, *host, 0),
            Event::Step { host, by_s } => (13, *host, by_s.cast_unsigned()),
            Event::Outage { zone } => (14, *zone, 0),
            Event::Count { host } => (15, *host, 0),
            Event::Heal => (9, 0, 0),
            Event::Look => (10, 0, 0),
        };
        for number in [self.now, kind, host as u64, more] {
            self.history = mix(self.history ^ number);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Gossip { host } => self.gossip(host),
            Event::Message { to, versions, words } => self.receive(to, &versions, words),
            Event::Wake { host } => {
                if self.nodes[host].wake_at == Some(self.now) {
                    self.nodes[host].wake_at = None;
                    self.give(host, Given::Input(Input::Tick));
                }
            }
            Event::Answer { host, incarnation, input } => {
                if self.nodes[host].incarnation == incarnation {
                    self.give(host, Given::Input(input));
                }
            }
            Event::Service { host, incarnation, done } => {
                if self.nodes[host].incarnation == incarnation {
                    self.serve(host, done);
                }
            }
            Event::Crash { host, machine, down_ms } => {
                if !self.healed && self.nodes[host].machine.is_some() {
                    self.crash(host, machine, down_ms);
                }
            }
            Event::Restart { host, machine } => self.restart(host, machine),
            Event::Deed { deed } => self.act(deed),
            Event::Disk { host, incarnation } => {
                if self.nodes[host].incarnation == incarnation {
                    self.disk_done(host);
                }
            }
            Event::Lie { host } => self.lie(host),
            Event::Count { host } => self.count_requests(host),
            Event::Step { host, by_s } => self.nodes[host].skew_s += by_s,
            Event::Outage { zone } => self.go_out(zone),
            Event::Heal => {
                self.healed = true;
                self.push_in(1_000, Event::Look);
            }
            Event::Look => {}
        }
    }
}
