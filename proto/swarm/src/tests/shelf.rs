//! What no scope's record names finds its way all the same: skips, freezes, removals, what was
//! stopped, how far a rollout came.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use durable::SimDisk;
use net::{Connection, Handler};
use proto::certificate::{Certificate, Claim};
use proto::dsse::Envelope;
use proto::receipt::State;
use proto::record::{SHELF, SHELF_ITEMS_MAX, ScopeRecord, Shelf, ShelfRecord, to_text};
use proto::statement::{Action, Rollout, Wave};
use proto::wire::{Found, SWARM_REQUEST_BYTES_MAX, SwarmRequest};
use proto::{Digest, UnixTime};

use super::hub::{Hub, Node, Setup, eventually, node, open};
use super::kit::*;
use crate::ledger::{CertifyError, Ledger, STOPPED_MAX};
use crate::sync::BREATH;

fn admit(ledger: &Ledger, envelopes: &[&Envelope]) {
    for envelope in envelopes {
        ledger.admit(&envelope.to_bytes()).unwrap();
    }
}

fn certify(ledger: &Ledger, rollout: Digest, claim: Claim) -> Digest {
    let state = if claim == Claim::Halt { State::Reverted } else { State::Committed };
    ledger.certify(&certificate(rollout, claim, state, "").to_bytes()).unwrap()
}

fn ledger(node: &Node) -> &Ledger {
    node.swarm.ledger()
}

fn shelf_of(ledger: &Ledger) -> Shelf {
    Shelf::parse(&ledger.shelf_bytes(&ledger.shelf().shelf).unwrap()).unwrap()
}

/// Admits `count` rollouts of two waves, each after the one before, and returns their ids.
fn line(ledger: &Ledger, count: u64) -> Vec<Digest> {
    let (mut ids, mut previous) = (Vec::new(), None);
    for epoch in 1..=count {
        let version = epoch.to_string();
        let release = some_release(&version);
        let wave = |hosts| Wave { hosts, wait_s: 0, failed_max: 0, unreachable_max: 0 };
        let rollout = Rollout {
            waves: vec![wave(1), wave(2)],
            ..rollout(epoch, previous, &release, &version, 0)
        };
        let rollout = signed(&rollout, &["deploy"]);
        previous = Some(rollout.id());
        ids.push(rollout.id());
        admit(ledger, &[&release, &rollout]);
    }
    ids
}

fn fresh() -> Ledger {
    open(Arc::new(SimDisk::new()), Path::new("/state"))
}

#[test]
fn r17_the_end_of_a_rollout_is_told_of_until_two_newer_ones_are_complete() {
    let ledger = fresh();
    let ids = line(&ledger, 4);
    let told = || shelf_of(&ledger).certificates;
    for id in &ids[..2] {
        certify(&ledger, *id, Claim::Complete);
    }
    let sorted = |mut certificates: Vec<(Digest, Claim)>| {
        certificates.sort();
        certificates
    };
    let ended =
        |count: &[usize]| sorted(count.iter().map(|n| (ids[*n], Claim::Complete)).collect());
    assert_eq!(told(), ended(&[0, 1]), "one newer one is complete");
    certify(&ledger, ids[2], Claim::Complete);
    assert_eq!(told(), ended(&[1, 2]));
    certify(&ledger, ids[3], Claim::Complete);
    assert_eq!(told(), ended(&[2]), "the scope's own record tells of the newest");
    assert!(ledger.certificate(&ids[0], Claim::Complete).is_some(), "and nothing is forgotten");
}

#[test]
fn r17_what_stopped_the_newest_rollouts_is_told_of_for_ever() {
    let ledger = fresh();
    let count = STOPPED_MAX + 4;
    let ids = line(&ledger, count as u64);
    // Two that stopped, too many that were aborted, and two that were complete.
    let abort = |id: &Digest| directive(*id, 1, Action::Abort);
    let aborts: Vec<_> = ids[2..count - 2].iter().map(abort).collect();
    certify(&ledger, ids[0], Claim::Halt);
    certify(&ledger, ids[1], Claim::Halt);
    admit(&ledger, &aborts[1..].iter().collect::<Vec<_>>());
    for id in &ids[count - 2..] {
        certify(&ledger, *id, Claim::Complete);
    }
    let shelf = shelf_of(&ledger);
    assert_eq!(shelf.statements.len(), STOPPED_MAX - 1);
    assert_eq!(
        shelf.certificates.iter().filter(|(_, claim)| *claim == Claim::Halt).collect::<Vec<_>>(),
        [&(ids[1], Claim::Halt)]
    );
    let newest_first: Vec<_> = ids[3..count - 2].iter().rev().chain([&ids[1]]).copied().collect();
    assert_eq!(ledger.stopped(&scope()), newest_first);
    admit(&ledger, &[&aborts[0]]);
    assert!(!ledger.stopped(&scope()).contains(&ids[1]), "there is a newer one in its place");
    assert_eq!(shelf_of(&ledger).statements.len(), STOPPED_MAX);
}

#[test]
fn r17_only_the_highest_wave_of_an_open_rollout_is_kept() {
    let disk: Arc<SimDisk> = Arc::default();
    let open = |disk: &Arc<SimDisk>| open(disk.clone(), Path::new("/state"));
    let ledger = open(&disk);
    let ids = line(&ledger, 1);
    let blobs = |ledger: &Ledger| ledger.store().blobs().unwrap();
    let first = certify(&ledger, ids[0], Claim::Wave(0));
    assert_eq!(shelf_of(&ledger).certificates, [(ids[0], Claim::Wave(0))]);
    assert_eq!(blobs(&ledger), [first]);
    let second = certify(&ledger, ids[0], Claim::Wave(1));
    assert_eq!(blobs(&ledger), [second]);
    assert_eq!(certify(&ledger, ids[0], Claim::Wave(0)), second, "it proves more");
    let found = open(&Arc::new(disk.after_power_cut(3)));
    assert_eq!(found.newest_wave(&ids[0]), Some(1));
    assert_eq!(shelf_of(&found).certificates, [(ids[0], Claim::Wave(1))]);
    // Once the rollout is complete, or another one follows it, nobody asks how far it came.
    let end = certify(&ledger, ids[0], Claim::Complete);
    assert_eq!(blobs(&ledger), [end]);
    assert_eq!(ledger.proof_of(&ids[0], Claim::Wave(1)), Some(end));
    line(&found, 2);
    assert!(blobs(&found).is_empty() && shelf_of(&found) == Shelf::default());
}

/// Who has not heard of the newer rollout may bring it again and again.
#[test]
fn r17_how_far_a_replaced_rollout_came_is_not_taken_in() {
    let ledger = fresh();
    let ids = line(&ledger, 2);
    let changes = *ledger.events().borrow();
    let wave = certificate(ids[0], Claim::Wave(0), State::Committed, "");
    let refused = ledger.certify(&wave.to_bytes());
    assert!(matches!(refused, Err(CertifyError::Replaced(id)) if id == ids[0]), "{refused:?}");
    assert!(ledger.store().blobs().unwrap().is_empty());
    assert_eq!(*ledger.events().borrow(), changes, "nobody is woken");
    assert!(!ledger.wants_proof(&ids[0], Claim::Wave(0)));
    assert!(
        ledger.wants_proof(&ids[0], Claim::Complete) && ledger.wants_proof(&ids[0], Claim::Halt)
    );
    assert!(ledger.wants_proof(&ids[1], Claim::Wave(0)));
    assert!(ledger.wants_proof(&Digest::of(b"not known yet"), Claim::Wave(0)));
}

/// R4: a key that signs the same thing again and again fills no shelf, and what it names counts.
#[test]
fn r4_of_many_skips_of_one_host_one_is_told_of() {
    let ledger = fresh();
    let id = line(&ledger, 1)[0];
    let skips: Vec<_> = (1..=3).map(|sequence| skip_numbered(id, "two", sequence)).collect();
    admit(&ledger, &skips.iter().collect::<Vec<_>>());
    assert_eq!(shelf_of(&ledger).statements, [skips.iter().map(Envelope::id).min().unwrap()]);
    let mut done = certificate(id, Claim::Complete, State::Committed, "");
    done.receipts.pop();
    done.excuses = vec![skips.iter().map(Envelope::id).max().unwrap()];
    ledger.certify(&done.to_bytes()).unwrap();
}

/// A host that hears only another host gets all of it; the shelves then are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r17_what_was_stopped_reaches_a_host_that_was_away() {
    let hub = Hub::default();
    let coordinator = node(&hub, "admit");
    let ids = line(ledger(&coordinator), 3);
    certify(ledger(&coordinator), ids[0], Claim::Halt);
    let words = [
        directive(ids[1], 1, Action::Abort),
        skip(ids[2], "two"),
        freeze(1, 1_000),
        revocation("six"),
    ];
    admit(ledger(&coordinator), &words.iter().collect::<Vec<_>>());
    certify(ledger(&coordinator), ids[2], Claim::Wave(0));
    hub.deafen("two", "admit");
    let one = node(&hub, "one");
    let same = |left: &Node, right: &Node| ledger(left).shelf() == ledger(right).shelf();
    eventually("one holds the same", || same(&one, &coordinator)).await;
    drop(coordinator);
    let two = node(&hub, "two");
    eventually("two holds the same", || same(&two, &one)).await;
    let (chain, env, six) = (ledger(&two).chain(), scope().env, host_id("six"));
    assert_eq!(ledger(&two).stopped(&scope()), [ids[1], ids[0]]);
    assert_eq!(ledger(&two).newest_wave(&ids[2]), Some(0));
    assert_eq!(chain.excuses(&ids[2]).into_values().collect::<Vec<_>>(), [host_id("two")]);
    assert_eq!(chain.frozen_until(&env, &six), Some(UnixTime(1_000)));
    assert!(chain.revocation(&six, &env).is_some());
    // A freeze that is lifted takes the place of the one before: as many items, other ones.
    admit(ledger(&one), &[&freeze(2, 1)]);
    let lifted = || ledger(&two).chain().frozen_until(&env, &six) == Some(UnixTime(1));
    eventually("two hears that it is lifted", lifted).await;
    assert_eq!(ledger(&one).shelf().items, 6);
}

/// A certificate that needs a skip is no reason to wait for the shelf with the skip on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r17_a_certificate_brings_what_excuses_its_missing_hosts() {
    let hub = Hub::default();
    let coordinator = node(&hub, "admit");
    let id = line(ledger(&coordinator), 1)[0];
    let skip = skip(id, "two");
    admit(ledger(&coordinator), &[&skip]);
    let mut done = certificate(id, Claim::Complete, State::Committed, "");
    done.receipts.pop();
    done.excuses = vec![skip.id()];
    let complete = ledger(&coordinator).certify(&done.to_bytes()).unwrap();
    // Answers as the coordinator does, and has nothing on its shelf.
    hub.deafen("two", "admit");
    let handler = Some(coordinator.swarm.handler());
    let _other = Setup { handler, ..Setup::of("one") }.start(&hub);
    hub.deafen("one", "admit");
    let record = ScopeRecord {
        scope: scope(),
        epoch: 1,
        rollout: id,
        directive: None,
        halt: None,
        complete: Some(complete),
    };
    hub.says(&host_id("one"), "s/7", &to_text(&record));
    let two = node(&hub, "two");
    let proven = || ledger(&two).certificate(&id, Claim::Complete) == Some(complete);
    eventually("two has the certificate", proven).await;
    assert!(ledger(&two).is_effective(&skip.id()));
}

/// Has a shelf full of what it has not got; everything else it answers with another certificate.
struct Liar {
    shelf: Vec<u8>,
    other: Certificate,
    asked: Arc<AtomicU32>,
}

#[async_trait]
impl Handler for Liar {
    async fn connection(&self, connection: Connection) {
        let within = Duration::from_secs(10);
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let request = net::frame::recv(&mut recv, SWARM_REQUEST_BYTES_MAX, within).await;
            self.asked.fetch_add(1, Ordering::Relaxed);
            let bytes = match request {
                Ok(SwarmRequest::Blob { .. }) => self.shelf.clone(),
                Ok(_) => self.other.to_bytes(),
                Err(_) => return,
            };
            let found = Found::Yes { bytes: bytes.len() as u64 };
            let _ = net::frame::send(&mut send, &found, 64, within).await;
            let _ = net::frame::send_bytes(&mut send, &bytes, within).await;
            let _ = send.finish();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r11_a_shelf_of_lies_costs_bounded_work_and_hides_no_other() {
    let hub = Hub::default();
    let one = node(&hub, "one");
    let ids = line(ledger(&one), 2);
    let mut statements: Vec<_> =
        (1..SHELF_ITEMS_MAX).map(|n| Digest::of(&n.to_be_bytes())).collect();
    statements.sort();
    let shelf = Shelf { statements, certificates: vec![(ids[0], Claim::Complete)] };
    let bytes = shelf.to_bytes();
    let record = ShelfRecord { shelf: Digest::of(&bytes), items: 1 };
    // Good, and not what is asked for.
    let other = certificate(ids[1], Claim::Complete, State::Committed, "");
    let asked = Arc::new(AtomicU32::new(0));
    let liar = Liar { shelf: bytes, other, asked: asked.clone() };
    let started = Instant::now();
    let _liar = Setup { handler: Some(Arc::new(liar)), ..Setup::of("liar") }.start(&hub);
    // It learns nothing, so it says what it truly holds once and no more.
    hub.deafen("liar", "one");
    hub.deafen("liar", "two");
    let two = node(&hub, "two");
    let is_asked = || {
        hub.says(&host_id("liar"), SHELF, &to_text(&record));
        asked.load(Ordering::Relaxed) > 1
    };
    eventually("the liar is asked", is_asked).await;
    admit(ledger(&one), &[&freeze(1, 1_000)]);
    let frozen = || ledger(&two).chain().freezes().next().is_some();
    eventually("two learns what is true", frozen).await;
    // Each of these wakes both hosts, which then see the same lies again.
    for word in 0..60 {
        hub.says(&host_id("liar"), "h", &word.to_string());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for id in ids {
        assert_eq!(ledger(&two).certificate(&id, Claim::Complete), None);
    }
    // Of two hosts each: the shelf, then an item and a pause, however many items there are.
    let (asked, breaths) =
        (asked.load(Ordering::Relaxed), started.elapsed().div_duration_f64(BREATH));
    assert!(f64::from(asked) <= 2.0 * (2.0 + breaths), "{asked} requests in {breaths} pauses");
}

/// Answers with what is true.
struct Stale {
    answers: Vec<(SwarmRequest, Vec<u8>)>,
    asked: Arc<AtomicU32>,
}

#[async_trait]
impl Handler for Stale {
    async fn connection(&self, connection: Connection) {
        let within = Duration::from_secs(10);
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let request = net::frame::recv(&mut recv, SWARM_REQUEST_BYTES_MAX, within).await;
            let Ok(request) = request else { return };
            self.asked.fetch_add(1, Ordering::Relaxed);
            let answer = self.answers.iter().find(|(asked, _)| *asked == request);
            let (_, bytes) = answer.expect("only what is announced is asked for");
            let found = Found::Yes { bytes: bytes.len() as u64 };
            let _ = net::frame::send(&mut send, &found, 64, within).await;
            let _ = net::frame::send_bytes(&mut send, bytes, within).await;
            let _ = send.finish();
        }
    }
}

/// What is true and changes nothing here is not asked for again at once, and for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r11_what_is_true_and_no_news_costs_bounded_work() {
    let known = fresh();
    let ids = line(&known, 2);
    let head = ids[1];
    let complete = certificate(head, Claim::Complete, State::Committed, "").to_bytes();
    let wave = certificate(ids[0], Claim::Wave(0), State::Committed, "").to_bytes();
    let [old, new] = [1, 2].map(|issued_s| signed(&host("six", issued_s), &["host-ca"]));
    let shelf_with = |statements, certificates| Shelf { statements, certificates }.to_bytes();
    let of_wave = shelf_with(vec![], vec![(ids[0], Claim::Wave(0))]);
    let of_host = shelf_with(vec![old.id()], vec![]);
    let record = ScopeRecord {
        scope: scope(),
        epoch: 2,
        rollout: head,
        directive: None,
        halt: None,
        complete: None,
    };
    let halt = ScopeRecord { halt: Some(Digest::of(&complete)), ..record.clone() };
    let release = ScopeRecord { rollout: some_release("1").id(), epoch: 9, ..record };
    let shelf = |bytes: &[u8]| to_text(&ShelfRecord { shelf: Digest::of(bytes), items: 1 });
    let blob = |bytes: &[u8]| (SwarmRequest::Blob { id: Digest::of(bytes) }, bytes.to_vec());
    let statement = |of: &Envelope| (SwarmRequest::Statement { id: of.id() }, of.to_bytes());
    let (rollout, claim) = (ids[0], Claim::Wave(0));
    for (name, key, word, answers, asked_min) in [
        (
            "how far a replaced rollout came",
            SHELF,
            shelf(&of_wave),
            vec![blob(&of_wave), (SwarmRequest::Certificate { rollout, claim }, wave)],
            1,
        ),
        (
            "a replaced host statement",
            SHELF,
            shelf(&of_host),
            vec![blob(&of_host), statement(&old)],
            2,
        ),
        ("an end as a halt", "s/0", to_text(&halt), vec![blob(&complete)], 1),
        ("a release as a head", "s/0", to_text(&release), vec![statement(&some_release("1"))], 0),
    ] {
        let hub = Hub::default();
        let two = node(&hub, "two");
        line(ledger(&two), 2);
        admit(ledger(&two), &[&new]);
        ledger(&two).certify(&complete).unwrap();
        let started = Instant::now();
        let asked = Arc::new(AtomicU32::new(0));
        let stale = Stale { answers, asked: asked.clone() };
        let _liar = Setup { handler: Some(Arc::new(stale)), ..Setup::of("liar") }.start(&hub);
        hub.deafen("liar", "two");
        let is_asked = || {
            hub.says(&host_id("liar"), key, &word);
            asked.load(Ordering::Relaxed) >= asked_min
        };
        eventually(name, is_asked).await;
        for _ in 0..60 {
            hub.says(&host_id("liar"), key, &word);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The shelf and an item, both twice if it says meanwhile what it holds itself, and what was under
        // way by then; then a pause of a second that gets longer.
        let (asked, elapsed) = (asked.load(Ordering::Relaxed), started.elapsed());
        let at_most = 5.0 + elapsed.as_secs_f64();
        assert!(f64::from(asked) <= at_most, "{name}: {asked} requests in {elapsed:?}");
    }
}
