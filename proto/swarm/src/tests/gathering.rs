//! Everything that members hold, taken over by one that holds nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use durable::RealDisk;
use net::{Alpn, Connection, Endpoint, Handler};
use proto::Digest;
use proto::certificate::Claim;
use proto::dsse::Envelope;
use proto::receipt::State;
use proto::statement::Action;
use proto::wire::{Found, INDEX_PAGE_MAX, Part, SWARM_REQUEST_BYTES_MAX, SwarmRequest};

use super::fetching::give;
use super::hub::{HOSTS, Hub, Node, Setup, node, open};
use super::kit::*;
use crate::gather::{GatherError, Gathered, Gatherer};
use crate::ledger::Ledger;

/// A coordinator that has lost everything but its key.
struct Bereft {
    gatherer: Gatherer,
    ledger: Ledger,
    _dir: tempfile::TempDir,
}

impl Bereft {
    fn new() -> Self {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::bind(loopback, identity("admit"), directory(&[])).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(Arc::new(RealDisk), dir.path());
        Self { gatherer: Gatherer::new(endpoint), ledger, _dir: dir }
    }

    async fn gather(&self, node: &Node) -> Gathered {
        let met = self.gatherer.meet(node.address).await.unwrap();
        assert_eq!(*met.host(), host_id(node.name));
        self.gatherer.gather(&self.ledger, &met, |_, _| {}).await.unwrap()
    }
}

fn admit(node: &Node, envelopes: &[&Envelope]) {
    for envelope in envelopes {
        node.swarm.ledger().admit(&envelope.to_bytes()).unwrap();
    }
}

/// Two epochs of a scope: release 1, rollout, release 2, rollout.
fn history() -> [Envelope; 4] {
    let (one, two) = (some_release("1"), some_release("2"));
    let first = signed(&rollout(1, None, &one, "1", 0), &["deploy"]);
    let second = signed(&rollout(2, Some(first.id()), &two, "2", 0), &["deploy"]);
    [one, first, two, second]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_also_what_gossip_does_not_speak_of_any_more() {
    let (hub, bereft) = (Hub::default(), Bereft::new());
    let one = node(&hub, "one");
    let history = history();
    let [.., first, _, second] = [0, 1, 2, 3].map(|at| history[at].id());
    admit(&one, &history.each_ref());
    admit(&one, &[&signed(&root(2, 1 << 40), &["root"]), &signed(&host("two", 5), &["host-ca"])]);
    // Of a rollout that was replaced: weaker directives, the one in force, a certificate.
    let orders: Vec<_> = [(1, Action::Pause), (2, Action::Resume), (3, Action::Abort)]
        .map(|(sequence, action)| directive(first, sequence, action))
        .into();
    admit(&one, &orders.iter().collect::<Vec<_>>());
    let halt = certificate(first, Claim::Halt, State::Reverted, "");
    one.swarm.ledger().certify(&halt.to_bytes()).unwrap();
    let approvals = signed(&rollout(3, Some(second), &history[2], "2", 1), &["deploy"]);
    admit(&one, &[&approvals]);

    let gathered = bereft.gather(&one).await;
    assert_eq!(gathered.left_out, 0, "{:?}", gathered.reasons);
    let (there, here) = (one.swarm.ledger(), &bereft.ledger);
    for part in [Part::Statements, Part::Pending, Part::Certificates] {
        let ids = there.ids(part, None, usize::MAX);
        assert!(!ids.is_empty(), "{part:?}");
        assert_eq!(here.ids(part, None, usize::MAX), ids, "{part:?}");
    }
    assert_eq!(here.chain(), there.chain());
    assert_eq!(here.hosts(), there.hosts());
    // Done is done, and nothing is asked for twice.
    let again = bereft.gather(&one).await;
    assert_eq!((again.listed, again.left_out), (gathered.listed, 0));
}

/// What one host lacks another one has; signatures on what waits for more are merged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_hosts_make_up_for_each_other() {
    let (hub, bereft) = (Hub::default(), Bereft::new());
    let (one, two) = (node(&hub, "one"), node(&hub, "two"));
    hub.deafen("one", "two");
    hub.deafen("two", "one");
    let [release, first, ..] = history();
    let rollout = rollout(2, Some(first.id()), &release, "1", 2);
    admit(&one, &[&release, &first, &signed(&rollout, &["deploy", "approve"])]);
    admit(&two, &[&release, &first, &some_release("7"), &signed(&rollout, &["deploy", "second"])]);
    bereft.gather(&one).await;
    let id = signed(&rollout, &["deploy"]).id();
    assert!(!bereft.ledger.is_effective(&id));
    bereft.gather(&two).await;
    assert!(bereft.ledger.is_effective(&some_release("7").id()));
    assert!(bereft.ledger.is_effective(&id), "two approvals, one from each host");
}

/// Lists so many statements, of which it has none.
struct Liar {
    lists: usize,
}

#[async_trait]
impl Handler for Liar {
    async fn connection(&self, connection: Connection) {
        let within = Duration::from_secs(10);
        let (mut next, mut left) = (1u128, self.lists);
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let asked = net::frame::recv(&mut recv, SWARM_REQUEST_BYTES_MAX, within).await;
            let Ok(asked) = asked else { return };
            let sent = match asked {
                SwarmRequest::Roots { .. } => {
                    net::frame::send(&mut send, &Vec::<Vec<u8>>::new(), 64, within).await
                }
                SwarmRequest::Index { part, .. } => {
                    let count = match part {
                        Part::Statements => left.min(INDEX_PAGE_MAX),
                        Part::Pending | Part::Certificates => 0,
                    };
                    left -= count;
                    let mut ids = Vec::new();
                    for _ in 0..count {
                        let mut bytes = [0; 32];
                        bytes[..16].copy_from_slice(&next.to_be_bytes());
                        ids.push(Digest::from_computed(bytes));
                        next += 1;
                    }
                    net::frame::send(&mut send, &ids, 1 << 20, within).await
                }
                _ => net::frame::send(&mut send, &Found::No, 64, within).await,
            };
            sent.unwrap();
            let _ = send.finish();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_costs_time_and_changes_nothing() {
    let (hub, mut bereft) = (Hub::default(), Bereft::new());
    let mut setup = Setup::of("liar");
    // One page that is full, and one that is not.
    let lists = INDEX_PAGE_MAX + 3;
    setup.handler = Some(Arc::new(Liar { lists }));
    let liar = setup.start(&hub);
    let gathered = bereft.gather(&liar).await;
    assert_eq!((gathered.listed, gathered.left_out), (lists, lists));
    assert_eq!(gathered.reasons.len(), 20, "so many are kept");
    assert!(gathered.reasons[0].ends_with("has it, and has not"), "{:?}", gathered.reasons);
    assert_eq!(bereft.ledger.ids(Part::Statements, None, 9), [genesis().id()]);

    let mut setup = Setup::of("one");
    setup.handler = Some(Arc::new(Liar { lists: usize::MAX }));
    bereft.gatherer.ids_max = 10_000;
    let endless = setup.start(&hub);
    let met = bereft.gatherer.meet(endless.address).await.unwrap();
    let error = bereft.gatherer.gather(&bereft.ledger, &met, |_, _| {}).await.unwrap_err();
    let GatherError::Lost { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "it lists more than 10000 ids, or one twice");
}

#[test]
fn an_index_comes_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(Arc::new(RealDisk), dir.path());
    for version in ["1", "2", "3", "4"] {
        ledger.admit(&some_release(version).to_bytes()).unwrap();
    }
    let all = ledger.ids(Part::Statements, None, usize::MAX);
    assert_eq!(all.len(), 5);
    for count in 1..=6 {
        let (mut walked, mut after) = (Vec::<Digest>::new(), None);
        loop {
            let page = ledger.ids(Part::Statements, after, count);
            walked.extend(&page);
            after = page.last().copied();
            if page.len() < count {
                break;
            }
        }
        assert_eq!(walked, all, "pages of {count}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artifacts_come_from_whoever_holds_them_and_none_is_waited_for_in_vain() {
    let (hub, mut bereft) = (Hub::default(), Bereft::new());
    bereft.gatherer.patience = Duration::from_secs(1);
    let nodes = [node(&hub, "one"), node(&hub, "two")];
    let (shared, half, nobodys) = (artifact(6, 4_096), artifact(5, 4_096), artifact(4, 4_096));
    // Together they hold all of one, and of another one a part only.
    give(nodes[0].swarm.store(), &shared, |index| index < 3);
    give(nodes[1].swarm.store(), &shared, |index| index >= 3);
    give(nodes[0].swarm.store(), &half, |index| index == 0);
    let mut members = Vec::new();
    for node in &nodes {
        members.push(bereft.gatherer.meet(node.address).await.unwrap());
    }
    let store = bereft.ledger.store();
    for (about, whole) in [(shared.about, true), (half.about, false), (nobodys.about, false)] {
        let came = bereft.gatherer.artifact(store, about, &members).await.unwrap();
        assert_eq!((came, store.has_whole(&about.id)), (whole, whole));
    }
    assert_eq!(store.pieces(&half.about.id).unwrap().count(), 1, "what came is kept");
}

/// R9: with the coordinator gone for longer than certificates live, all that is left is expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r9_an_expired_host_is_met_by_who_has_lost_all_statements() {
    let expired = net::certificate::issue(
        &key("host-ca"),
        &host("one", 0),
        proto::UnixTime(now().0 - 100 * 86_400),
        90,
    );
    let identity_of_old = net::Identity::host(key("one"), expired.unwrap()).unwrap();
    let loopback = "127.0.0.1:0".parse().unwrap();
    let old = Endpoint::bind(loopback, identity_of_old, directory(&HOSTS)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let provider = crate::transfer::provide::Provider::new(
        open(Arc::new(RealDisk), dir.path()),
        Default::default(),
        1,
    );
    let handlers = net::Handlers::new().on(Alpn::Swarm, Arc::new(provider));
    let (serving, stop) = (old.clone(), tokio_util::sync::CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    tokio::spawn(async move { serving.serve(handlers, stop).await });
    for (bereft, met) in [(true, true), (false, false)] {
        let directory = match bereft {
            true => net::Directory::of_the_bereft(root(1, 1 << 40)),
            false => directory(&[]),
        };
        let endpoint = Endpoint::bind(loopback, identity("admit"), directory).unwrap();
        let gatherer = Gatherer::new(endpoint);
        let outcome = gatherer.meet(old.local_addr().unwrap()).await;
        assert_eq!(outcome.is_ok(), met, "bereft {bereft}: {outcome:?}");
    }
}
