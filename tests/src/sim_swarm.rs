//! The swarm's policy on lines of given rates, without a network: [`Picker`] and [`Uploads`] of every
//! host on one queue of events. Seeded; time is simulated.
//!
//! A host has a line up and a line down. What it gives goes up in turns, an eighth of a piece of each
//! upload after the other, and comes down in the order in which it arrives: no line is idle while there is
//! something to send on it, and no bytes are lost, as with a transport that fills its lines. An eighth is a
//! slice: it is passed on while the others come. What a transport costs on top is not shown here: see
//! `bench-swarm`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use proto::{Digest, HostId, PublicKey};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use swarm::Bits;
use swarm::plan::{Ask, AskId, Given, Picker, Ticket, Uploads, What, comes_soon};

/// A piece is sent in so many turns, a slice each.
const CHUNKS: u64 = 8;
/// Least time between two words of what a host holds, in microseconds: as the provider keeps it.
const HAVE_EVERY_US: u64 = 50_000;
/// Others that a host asks, the origin not counted: as the fetch keeps it.
const PEERS_MAX: usize = 10;
/// From when a host dies until who gives it something gives that up, in microseconds: as the provider keeps it.
const TAKES_NOTHING_US: u64 = 5_000_000;
/// From when a host dies until who asks it knows, in microseconds: as long as an answer is waited for.
const DEAD_AFTER_US: u64 = 8_000_000;

/// A host that fetches, or the origin.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Bytes per second.
    pub up: u64,
    pub down: u64,
    /// When it begins to fetch, in microseconds.
    pub begins_us: u64,
    /// When it is gone, in microseconds.
    pub dies_us: Option<u64>,
}

impl Line {
    /// The same both ways, from the start to the end.
    pub fn even(bytes_per_s: u64) -> Self {
        Self { up: bytes_per_s, down: bytes_per_s, begins_us: 0, dies_us: None }
    }
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The first is the origin.
    pub lines: Vec<Line>,
    pub pieces: u32,
    pub piece_bytes: u64,
    /// One way, in microseconds.
    pub delay_us: u64,
    pub seed: u64,
    /// When it is over in any case, in microseconds.
    pub end_us: u64,
}

/// How it went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// When each host had it all, in microseconds from when it began; none: never. The origin's is 0.
    pub took_us: Vec<Option<u64>>,
    /// What each sent of pieces, in bytes.
    pub sent_bytes: Vec<u64>,
}

impl Outcome {
    /// Times of those that have it all, rising.
    pub fn times_us(&self) -> Vec<u64> {
        let mut times: Vec<u64> = self.took_us.iter().skip(1).flatten().copied().collect();
        times.sort_unstable();
        times
    }

    /// The time within which this share of those that have it all had it.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let times = self.times_us();
        let at = (share * times.len().saturating_sub(1) as f64).round() as usize;
        times.get(at).copied().unwrap_or(u64::MAX)
    }
}

/// Pieces in which a file is thought to travel, for the bound.
const BOUND_PIECES: f64 = 256.0;

/// The least time in which one origin can bring `bytes` to all of `hosts - 1` others, at least one, on
/// lines of the same rate, in microseconds: once through a line, and the last piece over as many hosts as
/// doubling takes to reach all.
pub fn lower_bound_us(hosts: usize, bytes: u64, bytes_per_s: u64) -> f64 {
    let one_us = bytes as f64 / bytes_per_s as f64 * 1e6;
    one_us + (hosts as f64 - 1.0).log2().floor() * one_us / BOUND_PIECES
}

#[derive(Debug, Clone)]
enum Event {
    Begins(usize),
    Dies(usize),
    Asked {
        at: usize,
        by: usize,
        id: AskId,
        what: What,
    },
    Cancelled {
        at: usize,
        by: usize,
        id: AskId,
    },
    /// A chunk has left a host.
    Sent(usize),
    /// A chunk has come down.
    Came(Key),
    /// The giver knows that the taker has it all.
    Delivered(Key),
    Refused {
        at: usize,
        id: AskId,
        why: Refused,
    },
    Told {
        at: usize,
        by: usize,
        holds: Arc<Bits>,
    },
    Tells(usize),
    Gone {
        at: usize,
        peer: usize,
    },
    Wakes(usize),
}

#[derive(Debug, Clone, Copy)]
enum Refused {
    Busy,
    No,
}

/// Who gives, and its ticket there.
type Key = (usize, Ticket);

struct Upload {
    to: usize,
    id: AskId,
    piece: u32,
    unsent: u64,
    to_come: u64,
    begun: bool,
    /// When its turn came, in microseconds.
    given_us: u64,
}

struct Host {
    line: Line,
    picker: Picker,
    uploads: Uploads<usize>,
    asks: BTreeMap<Ticket, (usize, AskId)>,
    /// Uploads that have bytes to send, in turn.
    sending: VecDeque<Ticket>,
    /// Slices that are here of pieces of which others were told before they are whole, or are since.
    coming: BTreeMap<u32, u64>,
    /// Uploads of these that wait for the next one.
    parked: BTreeMap<u32, Vec<Ticket>>,
    is_sending: bool,
    down_free_us: u64,
    followers: Vec<usize>,
    tells_at_us: Option<u64>,
    told_us: u64,
    wakes_at_us: Option<u64>,
    alive: bool,
    sent_bytes: u64,
    done_us: Option<u64>,
    /// At whom each ask is, and how long it takes, in ms, until it is slow.
    asked: BTreeMap<AskId, (usize, u64)>,
}

impl Host {
    /// Slices of a piece that it can give.
    fn slices(&self, piece: u32) -> u64 {
        match self.picker.here().contains(piece) {
            true => CHUNKS,
            false => self.coming.get(&piece).copied().unwrap_or_default(),
        }
    }
}

struct World {
    setting: Setting,
    artifact: Digest,
    ids: Vec<HostId>,
    numbers: BTreeMap<HostId, usize>,
    hosts: Vec<Host>,
    uploads: BTreeMap<Key, Upload>,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    sequence: u64,
    now_us: u64,
    chance: StdRng,
    left: usize,
}

/// Runs a setting to its end: all that live have it, or its time is over.
pub fn run(setting: Setting) -> Outcome {
    let mut world = World::new(setting);
    while world.left > 0 && world.step() {}
    let took = |host: &Host| host.done_us.map(|done| done.saturating_sub(host.line.begins_us));
    Outcome {
        took_us: world.hosts.iter().map(took).collect(),
        sent_bytes: world.hosts.iter().map(|host| host.sent_bytes).collect(),
    }
}

impl World {
    fn new(setting: Setting) -> Self {
        let mut chance = StdRng::seed_from_u64(setting.seed);
        let id = |number: usize| {
            let seed = Digest::of(&number.to_be_bytes());
            HostId::of(&PublicKey::of(&SigningKey::from_bytes(seed.as_bytes())))
        };
        let ids: Vec<HostId> = (0..setting.lines.len()).map(id).collect();
        let host = |(number, line): (usize, &Line)| {
            let all = Bits::all(setting.pieces);
            let here = if number == 0 { all } else { Bits::none(setting.pieces) };
            Host {
                line: *line,
                picker: Picker::new(here, chance.next_u64()),
                uploads: Uploads::default(),
                asks: BTreeMap::new(),
                sending: VecDeque::new(),
                coming: BTreeMap::new(),
                parked: BTreeMap::new(),
                is_sending: false,
                down_free_us: 0,
                followers: Vec::new(),
                tells_at_us: None,
                told_us: 0,
                wakes_at_us: None,
                alive: true,
                sent_bytes: 0,
                done_us: (number == 0).then_some(0),
                asked: BTreeMap::new(),
            }
        };
        let hosts: Vec<Host> = setting.lines.iter().enumerate().map(host).collect();
        let mut world = Self {
            artifact: Digest::of(b"artifact"),
            numbers: ids.iter().cloned().zip(0..).collect(),
            ids,
            left: hosts.len() - 1,
            hosts,
            uploads: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            sequence: 0,
            now_us: 0,
            chance,
            setting,
        };
        for number in 0..world.hosts.len() {
            let line = world.hosts[number].line;
            if number > 0 {
                world.at(line.begins_us, Event::Begins(number));
            }
            if let Some(dies_us) = line.dies_us {
                world.at(dies_us, Event::Dies(number));
            }
        }
        world
    }

    fn at(&mut self, at_us: u64, event: Event) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.sequence += 1;
        self.queue.push(Reverse((at_us.max(self.now_us), self.sequence, slot)));
    }

    /// After the delay of a line.
    fn soon(&mut self, event: Event) {
        self.at(self.now_us + self.setting.delay_us, event);
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((at_us, _, slot))) = self.queue.pop() else { return false };
        let event = self.events[slot].take().expect("each slot is read once");
        self.free.push(slot);
        self.now_us = at_us;
        if at_us > self.setting.end_us {
            return false;
        }
        self.happens(event);
        true
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Begins(number) => self.begins(number),
            Event::Dies(number) => self.dies(number),
            Event::Asked { at, by, id, what } => self.asked(at, by, id, what),
            Event::Cancelled { at, by, id } => self.cancelled(at, by, id),
            Event::Sent(number) => self.sent(number),
            Event::Came(key) => self.came(key),
            Event::Delivered((from, ticket)) => {
                let now_ms = self.now_ms();
                if self.uploads.remove(&(from, ticket)).is_some() {
                    self.hosts[from].uploads.ended(ticket, true, now_ms);
                    self.hosts[from].asks.remove(&ticket);
                    self.give(from);
                }
            }
            Event::Refused { at, id, why } => {
                let now_ms = self.now_ms();
                let host = &mut self.hosts[at];
                host.asked.remove(&id);
                match why {
                    Refused::Busy => host.picker.busy(id, now_ms),
                    Refused::No => assert!(!host.picker.denied(id, now_ms), "nobody lies here"),
                }
                self.ask(at);
            }
            Event::Told { at, by, holds } => {
                if self.hosts[at].alive {
                    self.hosts[at].picker.holds(&self.ids[by], &holds);
                    self.ask(at);
                }
            }
            Event::Tells(number) => self.tells(number),
            Event::Gone { at, peer } => self.gone(at, peer),
            Event::Wakes(number) => {
                if self.hosts[number].wakes_at_us == Some(self.now_us) {
                    self.hosts[number].wakes_at_us = None;
                    let now_ms = self.now_ms();
                    for id in self.hosts[number].picker.expire(now_ms) {
                        self.cancel(number, id);
                    }
                    self.ask(number);
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    // --- who fetches ---

    fn begins(&mut self, number: usize) {
        self.join(number, 0);
        let mut others: Vec<usize> =
            (1..self.hosts.len()).filter(|other| *other != number).collect();
        let (some, _) = others.partial_shuffle(&mut self.chance, PEERS_MAX);
        let some = some.to_vec();
        some.into_iter().for_each(|other| self.join(number, other));
        self.ask(number);
    }

    fn join(&mut self, number: usize, other: usize) {
        let id = self.ids[other].clone();
        self.hosts[number].picker.connected(id, other == 0);
        self.hosts[other].followers.push(number);
        let holds = Arc::new(self.hosts[other].picker.here().clone());
        // There and back.
        let at_us = self.now_us + 2 * self.setting.delay_us;
        self.at(at_us, Event::Told { at: number, by: other, holds });
    }

    fn gone(&mut self, at: usize, peer: usize) {
        if !self.hosts[at].alive {
            return;
        }
        let asks = self.hosts[at].picker.disconnected(&self.ids[peer]);
        for id in asks {
            self.hosts[at].asked.remove(&id);
        }
        let known: BTreeSet<HostId> = self.hosts[at].picker.peers().cloned().collect();
        let fresh: Vec<usize> = (1..self.hosts.len())
            .filter(|other| *other != at && self.hosts[*other].alive)
            .filter(|other| !known.contains(&self.ids[*other]))
            .collect();
        if !fresh.is_empty() {
            let other = fresh[self.chance.random_range(0..fresh.len())];
            self.join(at, other);
        }
        self.ask(at);
    }

    fn dies(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.alive = false;
        host.sending.clear();
        let followers = std::mem::take(&mut host.followers);
        let asked = std::mem::take(&mut host.asked);
        if host.done_us.is_none() {
            self.left -= 1;
        }
        for (id, (at, _)) in asked {
            self.at(self.now_us + TAKES_NOTHING_US, Event::Cancelled { at, by: number, id });
        }
        for follower in followers {
            self.at(self.now_us + DEAD_AFTER_US, Event::Gone { at: follower, peer: number });
        }
    }

    fn ask(&mut self, number: usize) {
        let now_ms = self.now_ms();
        if !self.hosts[number].alive || self.hosts[number].done_us.is_some() {
            return;
        }
        for Ask { id, peer, what, slow_ms } in self.hosts[number].picker.asks(now_ms) {
            let at = self.numbers[&peer];
            self.hosts[number].asked.insert(id, (at, slow_ms));
            self.soon(Event::Asked { at, by: number, id, what });
        }
        let next = self.hosts[number].picker.next_ms(now_ms).map(|at_ms| at_ms * 1_000);
        if let Some(at_us) = next
            && self.hosts[number].wakes_at_us.is_none_or(|before| at_us < before)
        {
            self.hosts[number].wakes_at_us = Some(at_us);
            self.at(at_us, Event::Wakes(number));
        }
    }

    fn cancel(&mut self, number: usize, id: AskId) {
        if let Some((at, _)) = self.hosts[number].asked.remove(&id) {
            self.soon(Event::Cancelled { at, by: number, id });
        }
    }

    fn came(&mut self, key: Key) {
        let now_ms = self.now_ms();
        let Some(upload) = self.uploads.get_mut(&key) else { return };
        let (to, id, piece) = (upload.to, upload.id, upload.piece);
        let asked = self.hosts[to].asked.get(&id).filter(|_| self.hosts[to].alive);
        let Some((_, slow_ms)) = asked.copied() else { return };
        let first = !std::mem::replace(&mut upload.begun, true);
        upload.to_come -= 1;
        let whole = upload.to_come == 0;
        let (slices, so_far_us) = (CHUNKS - upload.to_come, self.now_us - upload.given_us);
        let mut superfluous = Vec::new();
        if first {
            let round_trip_ms = 2 * self.setting.delay_us / 1_000;
            superfluous = self.hosts[to].picker.begun(id, piece, round_trip_ms, now_ms);
        }
        self.hosts[to].picker.comes(id, now_ms);
        if whole && !superfluous.contains(&id) {
            superfluous.extend(self.hosts[to].picker.verified(id, &self.ids[key.0], piece, now_ms));
            self.hosts[to].asked.remove(&id);
            self.has(to);
            self.soon(Event::Delivered(key));
        }
        let soon = comes_soon(so_far_us / 1_000, slices as usize, CHUNKS as usize, slow_ms);
        if (whole || soon) && !superfluous.contains(&id) {
            self.passes_on(to, piece, slices);
        }
        superfluous.into_iter().for_each(|other| self.cancel(to, other));
        self.ask(to);
    }

    /// So many slices of a piece are here, and those that were given the ones before get the next.
    fn passes_on(&mut self, number: usize, piece: u32, slices: u64) {
        let host = &mut self.hosts[number];
        let known = host.coming.entry(piece).or_default();
        if *known >= slices {
            return;
        }
        let first = std::mem::replace(known, slices) == 0;
        host.sending.extend(host.parked.remove(&piece).unwrap_or_default());
        if first {
            self.news(number);
        }
        self.send(number);
    }

    /// One piece more.
    fn has(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if host.picker.is_complete() && host.done_us.is_none() {
            host.done_us = Some(self.now_us);
            self.left -= 1;
        }
        self.news(number);
    }

    /// There is something to tell of.
    fn news(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if host.tells_at_us.is_none() {
            let at_us = self.now_us.max(host.told_us + HAVE_EVERY_US);
            host.tells_at_us = Some(at_us);
            self.at(at_us, Event::Tells(number));
        }
    }

    fn tells(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        (host.tells_at_us, host.told_us) = (None, self.now_us);
        if !host.alive {
            return;
        }
        let mut holds = host.picker.here().clone();
        host.coming.keys().for_each(|piece| _ = holds.insert(*piece));
        let (holds, followers) = (Arc::new(holds), host.followers.clone());
        for at in followers {
            self.soon(Event::Told { at, by: number, holds: holds.clone() });
        }
    }

    // --- who gives ---

    fn asked(&mut self, at: usize, by: usize, id: AskId, what: What) {
        let now_ms = self.now_ms();
        let host = &mut self.hosts[at];
        if !host.alive {
            return;
        }
        let ticket = match what {
            What::Piece(piece) if host.slices(piece) == 0 => {
                return self.soon(Event::Refused { at: by, id, why: Refused::No });
            }
            what => host.uploads.ask(by, self.artifact, what, now_ms),
        };
        match ticket {
            None => self.soon(Event::Refused { at: by, id, why: Refused::Busy }),
            Some(ticket) => {
                host.asks.insert(ticket, (by, id));
                self.give(at);
            }
        }
    }

    fn give(&mut self, number: usize) {
        loop {
            let now_ms = self.now_ms();
            let host = &mut self.hosts[number];
            let here = host.picker.here();
            let next = host.uploads.turn(now_ms, |_| Some(here.clone()));
            let Some((ticket, given)) = next else { return };
            let (to, id) = host.asks[&ticket];
            match given {
                Given::NothingNew | Given::Busy => {
                    let why = if given == Given::Busy { Refused::Busy } else { Refused::No };
                    host.asks.remove(&ticket);
                    self.soon(Event::Refused { at: to, id, why });
                }
                Given::Piece(piece) => {
                    let (unsent, to_come, given_us) = (CHUNKS, CHUNKS, self.now_us);
                    let begun = false;
                    let upload = Upload { to, id, piece, unsent, to_come, begun, given_us };
                    host.sending.push_back(ticket);
                    self.uploads.insert((number, ticket), upload);
                    self.send(number);
                }
            }
        }
    }

    fn send(&mut self, number: usize) {
        let chunk_bytes = self.setting.piece_bytes / CHUNKS;
        let host = &mut self.hosts[number];
        if !host.is_sending && host.alive && !host.sending.is_empty() {
            host.is_sending = true;
            let takes_us = chunk_bytes * 1_000_000 / host.line.up;
            self.at(self.now_us + takes_us, Event::Sent(number));
        }
    }

    fn sent(&mut self, number: usize) {
        let chunk_bytes = self.setting.piece_bytes / CHUNKS;
        let host = &mut self.hosts[number];
        host.is_sending = false;
        if !host.alive {
            return;
        }
        let Some(ticket) = host.sending.pop_front() else { return };
        host.sent_bytes += chunk_bytes;
        if let Some(upload) = self.uploads.get_mut(&(number, ticket)) {
            assert!(CHUNKS - upload.unsent < host.slices(upload.piece), "what is sent is here");
            upload.unsent -= 1;
            match host.slices(upload.piece) {
                _ if upload.unsent == 0 => {}
                here if CHUNKS - upload.unsent < here => host.sending.push_back(ticket),
                _ => host.parked.entry(upload.piece).or_default().push(ticket),
            }
            let to = upload.to;
            let takes_us = chunk_bytes * 1_000_000 / self.hosts[to].line.down;
            let begins_us = self.hosts[to].down_free_us.max(self.now_us + self.setting.delay_us);
            self.hosts[to].down_free_us = begins_us + takes_us;
            self.at(begins_us + takes_us, Event::Came((number, ticket)));
        }
        self.send(number);
    }

    fn cancelled(&mut self, at: usize, by: usize, id: AskId) {
        let now_ms = self.now_ms();
        let host = &mut self.hosts[at];
        let of_it = host.asks.iter().find(|(_, ask)| **ask == (by, id));
        let Some(ticket) = of_it.map(|(ticket, _)| *ticket) else { return };
        host.asks.remove(&ticket);
        host.uploads.ended(ticket, false, now_ms);
        self.uploads.remove(&(at, ticket));
        let host = &mut self.hosts[at];
        host.sending.retain(|other| *other != ticket);
        host.parked.values_mut().for_each(|parked| parked.retain(|other| *other != ticket));
        self.give(at);
    }
}
