//! How long the rollout core takes, alone and on one thread, to bring a release to ten thousand hosts
//! in four waves, and to take one back that turns bad under load:
//! `cargo bench -p fleet-tests --bench core`.
//!
//! Every host is a machine of its own that decides alone. Gossip is ideal: all read one board of
//! receipts, [`SHARED_MS`] old at most, and a certificate reaches everybody at once. There is no fault,
//! no signature, no disk and no network.
#![allow(clippy::unwrap_used, reason = "a bench ends where something fails")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use proto::certificate::Claim;
use proto::receipt::{Receipt, State};
use proto::report::Fitness;
use proto::statement::{Direction, OnFailure, RULES, Rollout, Share, Target};
use proto::{Digest, HostId, KeyId, PublicKey, UnixTime};
use rollout::Now;
use rollout::host::{Board, Effect, Host, Input, Peers};
use rollout::plan::{self, Candidate, Stage, Strategy};

const HOSTS: usize = 10_000;
/// How old what a host reads of the others may be, in milliseconds.
const SHARED_MS: u64 = 250;
/// How long a fetch and a restart of the service take, in milliseconds.
const FETCH_MS: u64 = 2_000;
const RESTART_MS: u64 = 1_000;
/// How long the bad release serves before it is found out, in milliseconds.
const SICK_MS: u64 = 3_000;

fn main() {
    let rollout = Arc::new(rollout(HOSTS));
    run("a good release", Fleet::new(&rollout, usize::MAX));
    run("one that is bad on more than 2,500 hosts", Fleet::new(&rollout, 2_500));
    for rollout in [Arc::new(self::rollout(1_000)), rollout] {
        // The fastest of some: what took longer was kept waiting.
        let look_us = (0..9).map(|_| one_look_us(&rollout)).fold(f64::MAX, f64::min);
        let hosts = rollout.cohort.len();
        println!("core: a receipt and a look take a host of {hosts} {look_us:.2} us");
    }
}

/// Runs a fleet to its end and tells how it went.
fn run(name: &str, mut fleet: Fleet) {
    let start = Instant::now();
    let simulated_ms = fleet.run();
    let took_s = start.elapsed().as_secs_f64();
    let ended = fleet.ended();
    println!(
        "core: {name}: {HOSTS} hosts, {} waves, {:.0} s simulated, {ended}, {} inputs in {took_s:.3} s \
         ({:.0} inputs/s)",
        fleet.board.rollout().waves.len(),
        simulated_ms as f64 / 1_000.0,
        fleet.inputs,
        fleet.inputs as f64 / took_s,
    );
}

// --- the fleet ---

struct Fleet {
    id: Digest,
    hosts: Vec<Host>,
    /// What all have signed, and what the hosts read of it.
    board: Board,
    shared: Arc<Board>,
    shared_ms: u64,
    /// What comes next: when, in which order, to whom; none: the host asked to be called.
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    given: Vec<Option<(usize, Option<Input>)>>,
    wake_at: Vec<Option<u64>>,
    /// Claims whose certificates exist.
    claims: Vec<Claim>,
    /// Hosts that may run the release before it turns bad on every other one, and that do.
    sound_max: usize,
    running: usize,
    inputs: u64,
}

impl Fleet {
    fn new(rollout: &Arc<Rollout>, sound_max: usize) -> Self {
        let id = Digest::of(b"rollout");
        let board = Board::new(0, rollout);
        let mut fleet = Self {
            id,
            hosts: rollout.cohort.iter().map(|member| host(rollout, &member.id)).collect(),
            shared: Arc::new(board.clone()),
            board,
            shared_ms: 0,
            queue: BinaryHeap::new(),
            given: Vec::new(),
            wake_at: vec![None; rollout.cohort.len()],
            claims: Vec::new(),
            sound_max,
            running: 0,
            inputs: 0,
        };
        for host in 0..rollout.cohort.len() {
            let peers = Peers { confirmed: true, clock_ahead_s: None };
            fleet.push(0, host, Some(Input::Peers(peers)));
        }
        fleet
    }

    fn push(&mut self, at: u64, host: usize, input: Option<Input>) {
        self.queue.push(Reverse((at, self.given.len())));
        self.given.push(Some((host, input)));
    }

    /// Runs until nobody has anything left to do; how long that was, in simulated milliseconds.
    fn run(&mut self) -> u64 {
        let mut last_ms = 0;
        while let Some(Reverse((now, number))) = self.queue.pop() {
            let (host, input) = self.given[number].take().unwrap();
            if input.is_none() && self.wake_at[host] != Some(now) {
                continue;
            }
            last_ms = now;
            if now >= self.shared_ms + SHARED_MS || !self.shared.is_right(now) {
                self.board.count_silent(now);
                (self.shared, self.shared_ms) = (Arc::new(self.board.clone()), now);
            }
            // It hears what there is to hear before anything else happens to it.
            let board = Arc::clone(&self.shared);
            self.give(now, host, Input::Heard { rollout: self.id, board });
            if let Some(input) = input {
                self.give(now, host, input);
            }
            self.plan_wake(now, host);
        }
        last_ms
    }

    fn plan_wake(&mut self, now: u64, host: usize) {
        let deadline = self.hosts[host].next_deadline().map(|at| at.max(now + 1));
        if self.wake_at[host] != deadline {
            self.wake_at[host] = deadline;
            if let Some(at) = deadline {
                self.push(at, host, None);
            }
        }
    }

    fn give(&mut self, now: u64, host: usize, input: Input) {
        let mut effects = Vec::new();
        self.hosts[host].handle(Now { boot_ms: now, unix: UnixTime(0) }, input, &mut effects);
        self.inputs += 1;
        for effect in effects {
            match effect {
                Effect::Persist | Effect::Commit { .. } => {}
                Effect::Publish(receipt) => {
                    self.board.note(now, &receipt);
                }
                Effect::Fetch { release } => {
                    self.push(now + FETCH_MS, host, Some(Input::Fetched { release }));
                }
                Effect::Activate { attempt, .. } => self.activate(now, host, attempt),
                Effect::Revert { attempt, .. } => {
                    self.running -= 1;
                    self.push(now + RESTART_MS, host, Some(Input::Reverted { attempt }));
                }
                Effect::Certify { rollout, claim } => self.certify(now, rollout, claim),
            }
        }
    }

    fn activate(&mut self, now: u64, host: usize, attempt: u64) {
        self.running += 1;
        self.push(now + RESTART_MS, host, Some(Input::Activated { attempt }));
        if self.running > self.sound_max && host.is_multiple_of(2) {
            let note = "too much load".to_owned();
            let input = Input::Unhealthy { attempt, note };
            self.push(now + RESTART_MS + SICK_MS, host, Some(input));
        }
    }

    fn certify(&mut self, now: u64, rollout: Digest, claim: Claim) {
        if !self.claims.contains(&claim) {
            self.claims.push(claim);
            for host in 0..self.hosts.len() {
                self.push(now + 1, host, Some(Input::Certificate { rollout, claim }));
            }
        }
    }

    /// How it ended: for every host alike, or it panics.
    fn ended(&self) -> &'static str {
        let rollout = self.board.rollout();
        let halted = self.claims.contains(&Claim::Halt);
        let (state, release) = match halted {
            true => (State::Reverted, rollout.from.as_ref().unwrap().release),
            false => (State::Committed, rollout.to.release),
        };
        for host in &self.hosts {
            assert_eq!((host.is_halted(), host.is_complete()), (halted, !halted));
            assert_eq!((host.state(), host.steady()), (Some(state), Some(release)));
        }
        if halted { "halted and back on every host" } else { "complete on every host" }
    }
}

// --- what there is before ---

/// A host that has come to run the release before by rollouts long forgotten.
fn host(rollout: &Rollout, id: &HostId) -> Host {
    let mut record = serde_json::to_value(Host::new(id.clone(), rollout.scope())).unwrap();
    for field in ["running", "proven"] {
        record[field] = serde_json::json!(rollout.from.as_ref().map(|from| from.release));
    }
    serde_json::from_value(record).unwrap()
}

/// Some key: a valid point, since nothing is signed here.
fn key(number: usize) -> PublicKey {
    let bytes = |salt: u32| *Digest::of(format!("{number} {salt}").as_bytes()).as_bytes();
    (0..).find_map(|salt| PublicKey::from_bytes(&bytes(salt))).unwrap()
}

fn candidate(number: usize) -> Candidate {
    let zone = format!("z{}", number % 4);
    let key = key(number);
    let host = proto::statement::Host {
        fleet: "bench".parse().unwrap(),
        id: HostId::of(&key),
        key,
        name: format!("h{number}").parse().unwrap(),
        labels: [("zone".parse().unwrap(), zone.parse().unwrap())].into_iter().collect(),
        issued: UnixTime(0),
        critical: Vec::new(),
    };
    Candidate { host, fitness: Fitness::Fit }
}

/// Four waves over so many hosts in four zones, a tenth of each of which may be stopped.
fn rollout(hosts: usize) -> Rollout {
    let candidates: Vec<_> = (0..hosts).map(candidate).collect();
    let stages = [(1.0, 30), (10.0, 30), (40.0, 20), (100.0, 10)];
    let stages = stages.map(|(weight, wait_s)| Stage::new(weight, wait_s)).to_vec();
    let target = |name: &str| Target {
        release: Digest::of(name.as_bytes()),
        version: name.parse().unwrap(),
    };
    let to = target("2");
    let (strategy, share) = (Strategy::Canary(stages), Share::Percent(2.5));
    let plan = plan::plan(&candidates, &strategy, Direction::Forward, share, &to.release).unwrap();
    let author = KeyId::of(&plan.cohort[0].key);
    Rollout {
        fleet: "bench".parse().unwrap(),
        service: "web".parse().unwrap(),
        env: "production".parse().unwrap(),
        epoch: 1,
        previous: None,
        from: Some(target("1")),
        to,
        direction: Direction::Forward,
        rules: RULES,
        cohort: plan.cohort,
        waves: plan.waves,
        max_unavailable: plan.max_unavailable,
        in_flight_max: plan.in_flight_max,
        windows: Vec::new(),
        limits: None,
        retry: false,
        adopt: false,
        on_failure: OnFailure::Rollback,
        approvals: 0,
        created: UnixTime(0),
        expires: UnixTime(u64::MAX),
        author,
        reason: String::new(),
        critical: Vec::new(),
    }
}

// --- one look ---

/// What one receipt of another host and a look at the gate take, in microseconds, on the last host of
/// so many: the others come to bake before it, one after the other.
fn one_look_us(rollout: &Arc<Rollout>) -> f64 {
    const ROUNDS: usize = 400;
    let hosts = rollout.cohort.len();
    let id = Digest::of(b"rollout");
    let mut machine = host(rollout, &rollout.cohort[hosts - 1].id);
    let mut now = Now { boot_ms: 0, unix: UnixTime(0) };
    let mut effects = Vec::new();
    let release = rollout.to.release;
    let says = |rank: usize, sequence, state| {
        Input::Receipt(Receipt {
            rollout: id,
            host: rollout.cohort[rank].id.clone(),
            sequence,
            attempt: 1,
            state,
            cause: None,
            note: String::new(),
        })
    };
    let peers = Input::Peers(Peers { confirmed: true, clock_ahead_s: None });
    let follow = Input::Rollout { id, rollout: Arc::clone(rollout) };
    let before = (1..3).flat_map(|sequence| (0..hosts - 1).map(move |rank| (rank, sequence)));
    let before = before.map(|(rank, sequence)| says(rank, sequence, State::Staged));
    for input in [peers, follow, Input::Fetched { release }].into_iter().chain(before) {
        machine.handle(now, input, &mut effects);
    }
    assert_eq!(machine.state(), Some(State::Staged));
    let receipts: Vec<_> = (0..ROUNDS).map(|rank| says(rank, 3, State::Baking)).collect();
    let start = Instant::now();
    for receipt in receipts {
        now.boot_ms += SHARED_MS;
        machine.handle(now, receipt, &mut effects);
    }
    start.elapsed().as_secs_f64() * 1e6 / ROUNDS as f64
}
