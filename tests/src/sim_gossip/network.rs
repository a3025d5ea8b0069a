//! What carries gossip and datagrams between members: late, out of order, twice, or not at all.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use net::gossip::Carrier;
use net::{Gossip, Port};
use proto::HostId;
use tokio::sync::mpsc;
use tokio::time;

use super::Scenario;
use super::fleet::address;
use crate::sim::Rng;
use crate::sim_ground::socket::{SimSocket, Wire};

/// Datagrams waiting for a member; beyond, they are lost.
const DATAGRAMS_MAX: usize = 1_024;
/// A gossip message is some datagrams long and lost with any of them.
const DATAGRAMS_PER_MESSAGE: u64 = 5;
/// How long anything is under way, at most and on most ways, in milliseconds.
const LATENCY_MS: u64 = 15;
/// The same of a message that is late, where messages are lost.
const LATE_MS: u64 = 3_000;

/// The network of a fleet. Cheap to clone.
#[derive(Clone)]
pub(super) struct Network(Arc<Mutex<State>>);

struct State {
    lost: u64,
    doubled: u64,
    /// Chance, for each sender of its own: what one does moves nobody else's.
    chance: Vec<Rng>,
    /// Which side of a cut each member is on.
    sides: Vec<bool>,
    cut: Option<Way>,
    ends: Vec<Option<End>>,
    numbers: HashMap<SocketAddr, usize>,
    lives: u64,
}

/// Where a member is plugged in.
struct End {
    life: u64,
    id: HostId,
    gossip: Option<Gossip>,
    datagrams: mpsc::Sender<(SocketAddr, Vec<u8>)>,
}

/// What does not cross a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Both,
    /// From the side that is `true`.
    One,
}

#[derive(Clone)]
enum Parcel {
    Gossip(Vec<u8>),
    Datagram(Vec<u8>),
}

impl Network {
    /// Faultless until told otherwise.
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed ^ 0x0e7);
        let members = scenario.members();
        let state = State {
            lost: 0,
            doubled: 0,
            chance: (0..members).map(|_| Rng::new(rng.next())).collect(),
            sides: (0..members).map(|_| rng.permille(500)).collect(),
            cut: None,
            ends: (0..members).map(|_| None).collect(),
            numbers: (0..members).map(|number| (address(number), number)).collect(),
            lives: 0,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Begins to lose and to double messages, of a thousand.
    pub(super) fn suffer(&self, lost: u64, doubled: u64) {
        let mut state = self.state();
        (state.lost, state.doubled) = (lost, doubled);
    }

    pub(super) fn cut(&self, way: Option<Way>) {
        self.state().cut = way;
    }

    /// Whether a cut would part these two.
    pub(super) fn are_apart(&self, one: usize, other: usize) -> bool {
        let state = self.state();
        state.sides[one] != state.sides[other]
    }

    /// A member comes up: the port of its endpoint, and what carries its gossip.
    pub(super) fn plug(&self, number: usize, id: HostId) -> (Port, Carrier) {
        let (datagrams, receiver) = mpsc::channel(DATAGRAMS_MAX);
        let life = {
            let mut state = self.state();
            state.lives += 1;
            let life = state.lives;
            state.ends[number] = Some(End { life, id, gossip: None, datagrams });
            life
        };
        let sender = Sender { network: self.clone(), number, life };
        let wire = MemberWire { sender: sender.clone(), receiver: Mutex::new(receiver) };
        let port = Port::Simulated(Arc::new(SimSocket { wire, address: address(number) }));
        (port, Arc::new(move |to, message| sender.send(to, Parcel::Gossip(message))))
    }

    /// The member listens to gossip from now on.
    pub(super) fn attach(&self, number: usize, gossip: Gossip) {
        if let Some(end) = &mut self.state().ends[number] {
            end.gossip = Some(gossip);
        }
    }

    /// Nothing reaches this member any more, nor comes from it, until it is plugged in again.
    pub(super) fn unplug(&self, number: usize) {
        self.state().ends[number] = None;
    }

    fn deliver(&self, from: usize, to: usize, life: u64, parcel: Parcel) {
        let state = self.state();
        // It was started anew meanwhile, or whoever sent it is no more.
        let Some(end) = state.ends[to].as_ref().filter(|end| end.life == life) else { return };
        let Some(peer) = state.ends[from].as_ref().map(|end| end.id.clone()) else { return };
        match parcel {
            Parcel::Gossip(message) => {
                let gossip = end.gossip.clone();
                drop(state);
                if let Some(gossip) = gossip {
                    gossip.receive(&peer, address(from), &message);
                }
            }
            // Where too many wait it is lost.
            Parcel::Datagram(bytes) => drop(end.datagrams.try_send((address(from), bytes))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_cut(&self, from: usize, to: usize) -> bool {
        let crosses = self.sides[from] != self.sides[to];
        crosses
            && match self.cut {
                None => false,
                Some(Way::Both) => true,
                Some(Way::One) => self.sides[from],
            }
    }

    fn is_lost(&mut self, from: usize, parcel: &Parcel) -> bool {
        let lost = match parcel {
            Parcel::Gossip(_) => self.lost,
            Parcel::Datagram(_) => self.lost / DATAGRAMS_PER_MESSAGE,
        };
        self.chance[from].permille(lost)
    }

    fn delay(&mut self, from: usize, parcel: &Parcel) -> Duration {
        let may_be_late = self.lost > 0 && matches!(parcel, Parcel::Gossip(_));
        let chance = &mut self.chance[from];
        let late = may_be_late && chance.permille(50);
        Duration::from_millis(chance.between(1, if late { LATE_MS } else { LATENCY_MS }))
    }
}

/// One life of a member, as it sends.
#[derive(Clone)]
struct Sender {
    network: Network,
    number: usize,
    life: u64,
}

impl Sender {
    fn send(&self, to: SocketAddr, parcel: Parcel) {
        let (from, mut state) = (self.number, self.network.state());
        let is_plugged = state.ends[from].as_ref().is_some_and(|end| end.life == self.life);
        let Some(to) = state.numbers.get(&to).copied().filter(|_| is_plugged) else { return };
        let Some(life) = state.ends[to].as_ref().map(|end| end.life) else { return };
        if state.is_cut(from, to) || state.is_lost(from, &parcel) {
            return;
        }
        let doubled = state.doubled;
        let twin = state.chance[from].permille(doubled).then(|| parcel.clone());
        for parcel in twin.into_iter().chain([parcel]) {
            let (delay, network) = (state.delay(from, &parcel), self.network.clone());
            tokio::spawn(async move {
                time::sleep(delay).await;
                network.deliver(from, to, life, parcel);
            });
        }
    }
}

struct MemberWire {
    sender: Sender,
    receiver: Mutex<mpsc::Receiver<(SocketAddr, Vec<u8>)>>,
}

impl Wire for MemberWire {
    fn send(&self, bytes: &[u8], to: SocketAddr) {
        self.sender.send(to, Parcel::Datagram(bytes.to_vec()));
    }

    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, SocketAddr)>> {
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        match receiver.poll_recv(cx) {
            Poll::Ready(Some((from, bytes))) => Poll::Ready(Ok((bytes, from))),
            // Unplugged: its member is about to be stopped.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
