//! The person at the other end of `swell --via`: hands in what was signed, and asks every host.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::{Alpn, Connection, Endpoint, Expect, Identity, Port, frame};
use proto::report::FleetReport;
use proto::wire::{CONTROL_BYTES_MAX, ControlReply, ControlRequest};
use proto::{Digest, HostId};

use super::fleet::Fleet;
use super::members::now_ms;
use super::socket;
use crate::sim::Rng;
use crate::sim_ground::machine::{Machine, inhabit};

/// Between two questions to a host, or two tries to hand something in.
const PAUSE: Duration = Duration::from_secs(2);
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(5);

/// What lies on the operator's desk; the simulation puts statements there and reads the reports.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Envelopes to hand in, in this order.
    outbox: Mutex<VecDeque<(Digest, Vec<u8>)>>,
    /// What each host said last.
    reports: Mutex<BTreeMap<usize, FleetReport>>,
    /// What was refused, and why.
    refused: Mutex<Vec<String>>,
}

impl Desk {
    pub(super) fn hand_in(&self, id: Digest, envelope: Vec<u8>) {
        lock(&self.outbox).push_back((id, envelope));
    }

    pub(super) fn report(&self, host: usize) -> Option<FleetReport> {
        lock(&self.reports).get(&host).cloned()
    }

    pub(super) fn refused(&self) -> Vec<String> {
        lock(&self.refused).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The operator's program, on a machine of its own.
pub(super) struct Operator {
    pub(super) fleet: Arc<Fleet>,
    pub(super) machine: Arc<Machine>,
    pub(super) desk: Arc<Desk>,
    pub(super) address: SocketAddr,
    /// The hosts asked, by number.
    pub(super) hosts: Vec<(usize, SocketAddr)>,
    /// The host at which statements are handed in.
    pub(super) taker: (usize, SocketAddr),
    pub(super) rng: Rng,
}

impl Operator {
    /// Asks and hands in until the simulation ends.
    pub(super) async fn run(self) -> turmoil::Result {
        inhabit(self.machine.clone(), now_ms());
        // What people have to do with is a good line.
        let socket = socket::bind(self.address, 0, self.rng.clone()).await?;
        let identity = Identity::person(self.fleet.keys.operator.clone())?;
        let directory = self.fleet.directory();
        let endpoint = Endpoint::open(Port::Simulated(socket), identity, directory)?;
        for (host, address) in self.hosts.iter().copied() {
            let line = Line { endpoint: endpoint.clone(), address, id: self.id(host), open: None };
            tokio::spawn(follow(line, host, self.desk.clone()));
        }
        loop {
            let next = lock(&self.desk.outbox).front().cloned();
            let done = match next {
                Some((id, envelope)) => self.hand_in(&endpoint, id, envelope).await,
                None => false,
            };
            match done {
                true => drop(lock(&self.desk.outbox).pop_front()),
                false => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn id(&self, host: usize) -> HostId {
        self.fleet.hosts[host].id.clone()
    }

    /// Gives it to that host; false: not now.
    async fn hand_in(&self, endpoint: &Endpoint, id: Digest, envelope: Vec<u8>) -> bool {
        let (host, address) = self.taker;
        let mut line = Line { endpoint: endpoint.clone(), address, id: self.id(host), open: None };
        match line.ask(&ControlRequest::Submit { envelope }).await {
            Some(ControlReply::Submitted { .. }) => true,
            Some(ControlReply::Refused(refused)) => {
                lock(&self.desk.refused).push(format!("{id}, by host {host}: {refused:?}"));
                true
            }
            _ => false,
        }
    }
}

/// Asks one host what it sees, again and again.
async fn follow(mut line: Line, host: usize, desk: Arc<Desk>) {
    loop {
        let answer = line.ask(&ControlRequest::Fleet).await;
        if let Some(ControlReply::Fleet(report)) = answer {
            lock(&desk.reports).insert(host, *report);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A host, and the connection to it while there is one.
struct Line {
    endpoint: Endpoint,
    address: SocketAddr,
    id: HostId,
    open: Option<Connection>,
}

impl Line {
    /// Its answer, if there is one.
    async fn ask(&mut self, request: &ControlRequest) -> Option<ControlReply> {
        let connection = match self.open.take() {
            Some(open) => open,
            None => {
                let expect = Expect::Host(self.id.clone());
                self.endpoint.connect(Alpn::Control, self.address, expect).await.ok()?
            }
        };
        let (mut send, mut recv) =
            tokio::time::timeout(WITHIN, connection.open_bi()).await.ok()?.ok()?;
        frame::send_json(&mut send, request, CONTROL_BYTES_MAX, WITHIN).await.ok()?;
        let reply = frame::recv_json(&mut recv, CONTROL_BYTES_MAX, WITHIN).await.ok()?;
        self.open = Some(connection);
        Some(reply)
    }
}
