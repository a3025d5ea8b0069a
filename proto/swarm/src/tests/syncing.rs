//! Statements and certificates find their way to members that never meet the coordinator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use durable::RealDisk;
use net::{Connection, Gossip, GossipConfig, Handler, Handlers};
use proto::certificate::Claim;
use proto::dsse::Envelope;
use proto::receipt::State;
use proto::record::{ScopeRecord, to_text};
use proto::statement::Action;
use proto::wire::{Found, SWARM_REQUEST_BYTES_MAX, SwarmRequest};
use proto::{Digest, HostId};
use tokio_util::sync::CancellationToken;

use super::hub::{HOSTS, Hub, Node, Setup, Silent, eventually, node, open};
use super::kit::*;
use crate::Swarm;
use crate::ledger::Ledger;

fn admit(ledger: &Ledger, envelopes: &[&Envelope]) {
    for envelope in envelopes {
        ledger.admit(&envelope.to_bytes()).unwrap();
    }
}

fn ledger(node: &Node) -> &Ledger {
    node.swarm.ledger()
}

/// Releases 1 to 3, a rollout of each, each after the one before.
fn history() -> Vec<Envelope> {
    let mut envelopes = Vec::new();
    let mut previous = None;
    for epoch in 1..=3 {
        let version = epoch.to_string();
        let release = some_release(&version);
        let rollout = signed(&rollout(epoch, previous, &release, &version, 0), &["deploy"]);
        previous = Some(rollout.id());
        envelopes.extend([release, rollout]);
    }
    envelopes
}

/// R11: a host that hears only another host gets root, releases, rollouts, directive and
/// certificates; the older ones because the newer ones need them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r11_a_host_that_never_sees_the_coordinator_learns_everything() {
    let hub = Hub::default();
    let coordinator = node(&hub, "admit");
    let history = history();
    let head = history.last().unwrap().id();
    let mut roots: Vec<Envelope> = Vec::new();
    for version in 2..=4 {
        roots.push(signed(&root(version, 1 << 40), &["root"]));
    }
    admit(ledger(&coordinator), &roots.iter().chain(&history).collect::<Vec<_>>());
    admit(ledger(&coordinator), &[&directive(head, 1, Action::Pause)]);
    admit(ledger(&coordinator), &[&directive(head, 2, Action::Abort)]);
    let halt = certificate(head, Claim::Halt, State::Reverted, "");
    ledger(&coordinator).certify(&halt.to_bytes()).unwrap();
    hub.deafen("two", "admit");
    let one = node(&hub, "one");
    eventually("one has it", || ledger(&one).certificate(&head, Claim::Halt).is_some()).await;
    eventually("one has the root", || ledger(&one).chain().root().version == 4).await;
    drop(coordinator);
    let two = node(&hub, "two");
    eventually("two has it", || ledger(&two).certificate(&head, Claim::Halt).is_some()).await;
    eventually("two has the root", || ledger(&two).chain().root().version == 4).await;
    eventually("two has the directive", || {
        let chain = ledger(&two).chain();
        chain.directive(&head).is_some_and(|(_, directive)| directive.action == Action::Abort)
    })
    .await;
    assert_eq!(ledger(&two).chain().history(&scope()).len(), 3);
    let digest = ledger(&two).certificate(&head, Claim::Halt).unwrap();
    assert_eq!(digest, Digest::of(&halt.to_bytes()));
    assert!(two.swarm.store().blob(&digest).unwrap().is_some());
}

/// R5: each of two hosts knows one of two rollouts of an epoch; both end with the proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r5_a_conflict_spreads_to_everybody() {
    let hub = Hub::default();
    let release = some_release("1");
    let rival = |reason: &str| {
        let mut rollout = rollout(1, None, &release, "1", 0);
        rollout.reason = reason.to_owned();
        signed(&rollout, &["deploy"])
    };
    let (left, right) = (rival("left"), rival("right"));
    let [one, two, three] = ["one", "two", "three"].map(|name| node(&hub, name));
    admit(ledger(&one), &[&release, &left]);
    admit(ledger(&two), &[&release, &right]);
    for node in [&one, &two, &three] {
        let head = || ledger(node).chain().head(&scope()).copied();
        eventually(node.name, || head().is_some_and(|head| head.conflict.is_some())).await;
        let head = head().unwrap();
        let mut rivals = [left.id(), right.id()];
        rivals.sort();
        assert_eq!([head.rollout, head.conflict.unwrap()], rivals);
    }
    // Who hears of it only from hosts that know both still learns both.
    let late = node(&hub, "four");
    let known = || ledger(&late).chain().head(&scope()).is_some_and(|h| h.conflict.is_some());
    eventually("a latecomer knows", known).await;
}

/// Counts what it is asked for and answers with statements of its own choosing.
struct Liar {
    asked: Arc<AtomicU32>,
    answer: Option<Vec<u8>>,
}

#[async_trait]
impl Handler for Liar {
    async fn connection(&self, connection: Connection) {
        let within = Duration::from_secs(10);
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let request: Result<SwarmRequest, _> =
                net::frame::recv(&mut recv, SWARM_REQUEST_BYTES_MAX, within).await;
            if request.is_err() {
                return;
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
            let bytes = self.answer.clone().unwrap_or_default();
            let found = match &self.answer {
                Some(_) => Found::Yes { bytes: bytes.len() as u64 },
                None => Found::Yes { bytes: 1 << 40 },
            };
            let _ = net::frame::send(&mut send, &found, 64, within).await;
            let _ = net::frame::send_bytes(&mut send, &bytes, within).await;
            let _ = send.finish();
        }
    }
}

/// A member that announces what does not exist costs a few requests, and keeps nobody from what
/// does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r11_a_member_that_announces_garbage_costs_bounded_work() {
    let forged = {
        let mut rollout = rollout(9, Some(Digest::of(b"x")), &some_release("9"), "9", 0);
        rollout.reason = "forged".to_owned();
        signed(&rollout, &["liar"])
    };
    let honest_but_other = some_release("7").to_bytes();
    let answers = [
        ("oversized", None),
        ("forged", Some(forged.to_bytes())),
        ("other", Some(honest_but_other)),
    ];
    for (name, answer) in answers {
        let hub = Hub::default();
        let asked = Arc::new(AtomicU32::new(0));
        let handler = Liar { asked: asked.clone(), answer };
        let _liar = Setup { handler: Some(Arc::new(handler)), ..Setup::of("liar") }.start(&hub);
        let record = ScopeRecord {
            scope: scope(),
            epoch: 1_000_000,
            rollout: forged.id(),
            directive: Some(Digest::of(b"directive")),
            halt: Some(Digest::of(b"halt")),
            complete: None,
        };
        hub.says(&host_id("liar"), "s/0", &to_text(&record));
        hub.says(&host_id("liar"), "s/1", "garbage");
        hub.says(&host_id("liar"), "root", r#"{"version":77,"root":"zz"}"#);
        let [one, two] = ["one", "two"].map(|name| node(&hub, name));
        eventually("the liar is asked", || asked.load(Ordering::Relaxed) > 1).await;
        let history = history();
        admit(ledger(&one), &history.iter().collect::<Vec<_>>());
        let head = history.last().unwrap().id();
        let got = || ledger(&two).chain().head(&scope()).is_some_and(|h| h.rollout == head);
        eventually("two learns what is true", got).await;
        // Each of these wakes both hosts, which then see the same garbage again.
        for word in 0..60 {
            hub.says(&host_id("liar"), "h", &word.to_string());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for statement in [forged.id(), some_release("7").id()] {
            assert!(!ledger(&two).knows(&statement), "{name}: takes what it did not ask for");
        }
        // Two hosts, one item each; pauses double from a second on.
        let asked = asked.load(Ordering::Relaxed);
        assert!(asked < 20, "{name}: {asked} requests");
    }
}

/// A member that repeats what others announce and never answers keeps nobody from it: somebody else
/// is asked while it still is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r11_a_member_that_never_answers_holds_up_nobody() {
    let hub = Hub::default();
    let history = history();
    let head = history.last().unwrap().id();
    let record = ScopeRecord {
        scope: scope(),
        epoch: 3,
        rollout: head,
        directive: None,
        halt: None,
        complete: None,
    };
    let silent = Arc::new(Silent::default());
    let _liar = Setup { handler: Some(silent.clone()), ..Setup::of("liar") }.start(&hub);
    hub.says(&host_id("liar"), "s/0", &to_text(&record));
    let two = node(&hub, "two");
    eventually("the silent one is asked", || silent.asked.load(Ordering::Relaxed) > 0).await;
    let one = node(&hub, "one");
    admit(ledger(&one), &history.iter().collect::<Vec<_>>());
    let got = || ledger(&two).chain().head(&scope()).is_some_and(|known| known.rollout == head);
    eventually("two learns it from one", got).await;
    assert_eq!(silent.given_up.load(Ordering::Relaxed), 0, "two waited for the silent one");
    // A connection on which nothing is answered is not asked on again.
    eventually("it is given up", || silent.given_up.load(Ordering::Relaxed) > 0).await;
}

/// The same over the gossip of the product: hosts that start when the coordinator is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r11_over_real_gossip() {
    let first = Gossiping::start("admit", vec![]);
    let history = history();
    let head = history.last().unwrap().id();
    admit(&first.ledger, &history.iter().collect::<Vec<_>>());
    let one = Gossiping::start("one", vec![first.address]);
    let has = |node: &Gossiping| {
        let chain = node.ledger.chain();
        chain.head(&scope()).is_some_and(|known| known.rollout == head)
    };
    eventually("one hears of it", || has(&one)).await;
    drop(first);
    let two = Gossiping::start("two", vec![one.address]);
    eventually("two hears of it from one", || has(&two)).await;
}

struct Gossiping {
    ledger: Ledger,
    address: std::net::SocketAddr,
    _dir: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Gossiping {
    fn start(name: &str, seeds: Vec<std::net::SocketAddr>) -> Self {
        let dir = tempfile::TempDir::new().unwrap();
        let ledger = open(Arc::new(RealDisk), dir.path());
        let loopback = "127.0.0.1:0".parse().unwrap();
        let endpoint = net::Endpoint::bind(loopback, identity(name), directory(&HOSTS)).unwrap();
        let address = endpoint.local_addr().unwrap();
        let stop = CancellationToken::new();
        let config = GossipConfig {
            fleet: root(1, 1).fleet,
            key: key(name),
            advertise: address,
            seeds,
            interval: Duration::from_millis(100),
            verify: Arc::new(|_: &[u8]| None),
            envelope: Arc::new(|_: &HostId| None),
        };
        let gossip = Gossip::spawn(endpoint.clone(), config, stop.clone());
        let swarm = Swarm::new(&endpoint, ledger.clone(), gossip.clone());
        let handlers = Handlers::new()
            .on(net::Alpn::Swarm, swarm.handler())
            .on(net::Alpn::Gossip, gossip.handler());
        let until = stop.clone();
        tokio::spawn(async move { endpoint.serve(handlers, until).await.unwrap() });
        let until = stop.clone();
        tokio::spawn(async move { swarm.run(until).await });
        Self { ledger, address, _dir: dir, _stop: stop.drop_guard() }
    }
}
