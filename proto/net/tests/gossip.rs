//! R11: gossip over real connections on loopback.

#![allow(clippy::unwrap_used, reason = "clippy does not know that helpers of tests are tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Fleet, Stop, key, log, loopback, until};
use net::{
    Alpn, Directory, Endpoint, Expect, Gossip, GossipConfig, Handlers, Identity, Member, frame,
};
use proto::HostId;
use proto::statement::Host;
use tokio::sync::watch;

/// A member with a store of host statements of its own; here an envelope is the bare JSON.
struct Node {
    addr: SocketAddr,
    gossip: Gossip,
    members: watch::Receiver<Arc<Vec<Member>>>,
    directory: Directory,
    _stop: Stop,
}

impl Node {
    fn new(fleet: &Fleet, name: &str, seeds: &[SocketAddr], knows: &[&str]) -> Self {
        Self::at(loopback(), fleet, name, seeds, knows)
    }

    fn at(
        bind: SocketAddr,
        fleet: &Fleet,
        name: &str,
        seeds: &[SocketAddr],
        knows: &[&str],
    ) -> Self {
        let directory = fleet.directory();
        let store: Arc<Mutex<BTreeMap<HostId, Vec<u8>>>> = Arc::default();
        for name in knows {
            let host = fleet.host(name);
            store.lock().unwrap().insert(host.id.clone(), serde_json::to_vec(&host).unwrap());
            directory.add_host(host);
        }
        let (identity, signer) = match name {
            "coordinator" => {
                (Identity::person(fleet.coordinator.clone()).unwrap(), fleet.coordinator.clone())
            }
            host => (fleet.identity(host), key(host)),
        };
        let endpoint = Endpoint::bind(bind, identity, directory.clone()).unwrap();
        let addr = endpoint.local_addr().unwrap();
        let (fleet_id, keep, find) = (fleet.id(), store.clone(), store);
        let config = GossipConfig {
            fleet: fleet.id(),
            key: signer,
            advertise: addr,
            seeds: seeds.to_vec(),
            interval: Duration::from_millis(100),
            verify: Arc::new(move |bytes| {
                let host: Host = serde_json::from_slice(bytes).ok()?;
                let good = host.fleet == fleet_id && host.id == HostId::of(&host.key);
                good.then(|| keep.lock().unwrap().insert(host.id.clone(), bytes.to_vec()));
                good.then_some(host)
            }),
            envelope: Arc::new(move |id| find.lock().unwrap().get(id).cloned()),
        };
        let stop = tokio_util::sync::CancellationToken::new();
        let gossip = Gossip::spawn(endpoint.clone(), config, stop.clone());
        let handlers = Handlers::new().on(Alpn::Gossip, gossip.handler());
        let token = stop.clone();
        tokio::spawn(async move { endpoint.serve(handlers, token).await.unwrap() });
        gossip.set("h", &format!("{name} speaking")).unwrap();
        let members = gossip.members();
        Self { addr, gossip, members, directory, _stop: Stop(stop) }
    }

    fn member(&self, id: &HostId) -> Option<Member> {
        self.members.borrow().iter().find(|member| member.host == *id).cloned()
    }

    fn says(&self, id: &HostId, key: &str, value: &str) -> bool {
        self.member(id).is_some_and(|member| member.values.get(key).is_some_and(|v| v == value))
    }
}

/// Twelve members of whom each knows itself and the seed: all of them learn of all the others, whom
/// nobody told them about, and hear what each says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r11_a_fleet_finds_itself_from_one_seed() {
    let fleet = Fleet::new("fleet-a");
    let names: Vec<_> = (0..11).map(|n| format!("host-{n}")).collect();
    let all: Vec<_> = names.iter().map(String::as_str).collect();
    // The coordinator has admitted everybody; the others know themselves alone.
    let coordinator = Node::new(&fleet, "coordinator", &[], &all);
    let seeds = [coordinator.addr];
    let mut nodes: Vec<_> =
        all.iter().map(|name| Node::new(&fleet, name, &seeds, &[name])).collect();
    nodes.push(coordinator);
    let ids: Vec<_> = nodes.iter().map(|node| node.gossip.me().clone()).collect();
    until("everybody is alive to everybody", || {
        nodes
            .iter()
            .all(|node| ids.iter().all(|id| node.member(id).is_some_and(|member| member.alive)))
    })
    .await;
    for (node, id) in nodes.iter().zip(&ids) {
        assert_eq!(node.directory.hosts().len(), 11, "{id} learned all host statements");
    }
    for round in ["one", "two"] {
        for node in &nodes {
            node.gossip.set("s/0", round).unwrap();
        }
        until("all values arrive", || {
            nodes.iter().all(|node| ids.iter().all(|id| node.says(id, "s/0", round)))
        })
        .await;
    }
    for node in &nodes {
        let counts = node.gossip.counts();
        assert_eq!(counts.violations, 0, "honest members never convict each other: {counts:?}");
        assert!(counts.passed > 0 && counts.sent > 0, "{counts:?}");
        let addr_of = |other: &Node| node.member(other.gossip.me()).unwrap().address;
        assert!(nodes.iter().all(|other| addr_of(other) == other.addr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r11_a_host_restarts_and_dies() {
    let fleet = Fleet::new("fleet-a");
    let all = ["a", "b", "c"];
    let a = Node::new(&fleet, "a", &[], &all);
    let b = Node::new(&fleet, "b", &[a.addr], &all);
    let c = Node::new(&fleet, "c", &[a.addr], &all);
    let [id_b, id_c] = ["b", "c"].map(|name| fleet.host(name).id);
    c.gossip.set("r/0", "before").unwrap();
    until("a hears c", || a.says(&id_c, "r/0", "before")).await;
    let first = a.member(&id_c).unwrap().generation;

    let addr = c.addr;
    drop(c);
    until("a misses c", || a.member(&id_c).is_some_and(|member| !member.alive)).await;
    assert!(a.says(&id_c, "r/0", "before"), "what it said last is still known");

    let c = until_bound(addr, &fleet, &all, a.addr).await;
    until("the new life counts", || {
        [&a, &b].iter().all(|node| {
            node.member(&id_c).is_some_and(|member| {
                member.alive && member.generation > first && !member.values.contains_key("r/0")
            })
        })
    })
    .await;
    until("and hears the others", || c.says(&id_b, "h", "b speaking")).await;
    assert_eq!(*c.gossip.duplicate().borrow(), None, "its earlier life is no twin");
}

/// To those who know that it was removed it is not there, whatever it says and whoever repeats it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r9_a_removed_host_is_no_member_any_more() {
    let fleet = Fleet::new("fleet-a");
    let all = ["a", "b", "c"];
    let a = Node::new(&fleet, "a", &[], &all);
    let b = Node::new(&fleet, "b", &[a.addr], &all);
    let c = Node::new(&fleet, "c", &[a.addr, b.addr], &all);
    let [id_b, id_c] = ["b", "c"].map(|name| fleet.host(name).id);
    until("both hear c", || [&a, &b].iter().all(|node| node.says(&id_c, "h", "c speaking"))).await;
    a.directory.remove_host(&id_c, "sold");
    until("a has no such member", || a.member(&id_c).is_none()).await;
    // b goes on to hear it, and to tell a of it.
    c.gossip.set("h", "c is still here").unwrap();
    until("b hears it", || b.says(&id_c, "h", "c is still here")).await;
    b.gossip.set("h", "and b").unwrap();
    until("a hears b", || a.says(&id_b, "h", "and b")).await;
    assert_eq!(a.member(&id_c), None);
    assert_eq!(a.gossip.counts().violations + b.gossip.counts().violations, 0);
}

/// The kernel frees the port once the last task has let go of the socket.
async fn until_bound(addr: SocketAddr, fleet: &Fleet, all: &[&str], seed: SocketAddr) -> Node {
    until("the port is free", || std::net::UdpSocket::bind(addr).is_ok()).await;
    Node::at(addr, fleet, "c", &[seed], all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r9_two_live_sources_of_one_key_are_noticed() {
    let fleet = Fleet::new("fleet-a");
    let all = ["a", "b"];
    let a = Node::new(&fleet, "a", &[], &all);
    let older = Node::new(&fleet, "b", &[a.addr], &all);
    let id = fleet.host("b").id;
    until("a hears b", || a.says(&id, "h", "b speaking")).await;
    let homes =
        |member: &Member| BTreeSet::from_iter(member.twin.into_iter().chain([member.address]));
    let home = |node: &Node| *node.gossip.duplicate().borrow();
    assert_eq!(a.member(&id).unwrap().twin, None);
    let younger = Node::new(&fleet, "b", &[a.addr], &all);
    until("the older one knows", || home(&older) == Some(younger.addr)).await;
    // What it said first may be from before: the younger one waits for its next word.
    older.gossip.set("h", "b speaking again").unwrap();
    until("the younger one knows", || home(&younger) == Some(older.addr)).await;
    let both = BTreeSet::from([older.addr, younger.addr]);
    until("others see both", || a.member(&id).is_some_and(|member| homes(&member) == both)).await;

    drop(younger);
    until("it is gone", || home(&older).is_none()).await;
    until("the other one counts again", || {
        a.member(&id).is_some_and(|member| {
            member.alive && member.address == older.addr && member.twin.is_none()
        })
    })
    .await;
    older.gossip.set("h", "b speaking alone").unwrap();
    until("and is heard", || a.says(&id, "h", "b speaking alone")).await;
}

/// What it said at the address it had before is about for minutes; it is nobody else for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r9_a_host_that_restarts_at_another_address_is_no_twin() {
    let fleet = Fleet::new("fleet-a");
    let all = ["a", "b"];
    let a = Node::new(&fleet, "a", &[], &all);
    let before = Node::new(&fleet, "b", &[a.addr], &all);
    let id = fleet.host("b").id;
    until("a hears b", || a.says(&id, "h", "b speaking")).await;
    drop(before);
    let now = Node::new(&fleet, "b", &[a.addr], &all);
    let mut duplicate = now.gossip.duplicate();
    let told =
        async { while duplicate.changed().await.is_ok_and(|()| duplicate.borrow().is_none()) {} };
    let known = until("a knows where it lives", || {
        a.member(&id).is_some_and(|b| b.alive && b.address == now.addr && b.twin.is_none())
    });
    tokio::select! {
        () = told => panic!("it takes its earlier life for a twin"),
        () = known => {}
    }
}

/// A member that breaks the protocol is named in the log, told why, and hung up on.
#[tokio::test]
async fn r11_who_violates_is_convicted_by_name() {
    let (log, _guard) = log();
    let fleet = Fleet::new("fleet-a");
    let node = Node::new(&fleet, "a", &[], &["a", "evil"]);
    let evil = Endpoint::bind(loopback(), fleet.identity("evil"), fleet.directory()).unwrap();
    let connection = evil.connect(Alpn::Gossip, node.addr, Expect::AnyMember).await.unwrap();
    let mut stream = connection.open_uni().await.unwrap();
    frame::send_bytes(&mut stream, b"\x53\xb0\x00\x03", common::DEADLINE).await.unwrap();
    stream.finish().unwrap();
    let lost = tokio::time::timeout(common::DEADLINE, connection.closed()).await.unwrap();
    assert!(lost.to_string().contains("gossip is for another fleet"), "{lost}");
    let text = log.text();
    assert!(text.contains(&format!("host {}", fleet.host("evil").id)), "{text}");
    assert_eq!(node.gossip.counts().violations, 1);
}

/// Too long a message is refused while it comes in.
#[tokio::test]
async fn r11_a_message_without_end_is_refused() {
    let fleet = Fleet::new("fleet-a");
    let node = Node::new(&fleet, "a", &[], &["a", "evil"]);
    let evil = Endpoint::bind(loopback(), fleet.identity("evil"), fleet.directory()).unwrap();
    let connection = evil.connect(Alpn::Gossip, node.addr, Expect::AnyMember).await.unwrap();
    let mut stream = connection.open_uni().await.unwrap();
    let flood = vec![0; 1 << 20];
    // It fails as soon as the other side hangs up.
    let _ = frame::send_bytes(&mut stream, &flood, common::DEADLINE).await;
    let lost = tokio::time::timeout(common::DEADLINE, connection.closed()).await.unwrap();
    assert!(lost.to_string().contains("at most 163840 are read"), "{lost}");
}

/// A connection that carries this member's own identity is not gossiped with.
#[tokio::test]
async fn r9_nobody_gossips_with_himself() {
    let fleet = Fleet::new("fleet-a");
    let node = Node::new(&fleet, "a", &[], &["a"]);
    let twin = Endpoint::bind(loopback(), fleet.identity("a"), fleet.directory()).unwrap();
    // The refusal may overtake the welcome.
    let words = match twin.connect(Alpn::Gossip, node.addr, Expect::AnyMember).await {
        Ok(open) => open.closed().await.to_string(),
        Err(refused) => refused.to_string(),
    };
    assert!(words.contains("the identity of this member"), "{words}");
}
