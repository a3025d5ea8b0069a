//! The audit record: read by people, and what comes into it by itself.

use std::sync::Arc;

use durable::RealDisk;
use net::Identity;
use proto::dsse::Envelope;
use proto::id::KeyId;
use proto::statement::{Freeze, Payload, Target};
use proto::wire::{AuditPage, AuditQuery, ControlReply, ControlRequest, RefusedKind};
use swarm::{Ledger, Store};

use crate::fleet::{
    ADA, ADMIT, CI, Client, Fleet, Parcel, WITHIN, key, now, public, published, rollout,
};

fn freeze(fleet: &Fleet) -> Envelope {
    let freeze = Freeze {
        fleet: fleet.root.fleet.clone(),
        env: "staging".parse().unwrap(),
        host: None,
        sequence: 1,
        until: now().plus_s(3_600),
        author: KeyId::of(&public(ADA)),
        created: now(),
        reason: "while it was away".to_owned(),
        critical: Vec::new(),
    };
    let mut envelope = freeze.envelope();
    envelope.sign(&key(ADA));
    envelope
}

/// What the swarm brings: the statement is among those of the coordinator, and nobody handed it in.
fn brought(fleet: &Fleet, envelope: &Envelope) {
    let store = Store::open(Arc::new(RealDisk), &fleet.state("swarm")).unwrap();
    let root = std::fs::read(fleet.config.root_dir.join("root.json")).unwrap();
    let genesis = Envelope::parse(&root, root.len()).unwrap().id();
    let ledger = Ledger::open(store, genesis, Some(&root), member::clock::unix).unwrap();
    ledger.admit(&envelope.to_bytes()).unwrap();
}

async fn wait_for(fleet: &Fleet, entry: &str) {
    let begun = std::time::Instant::now();
    while !fleet.audit().await.iter().any(|one| one == entry) {
        assert!(begun.elapsed() < WITHIN, "{entry:?} is not in {:?}", fleet.audit().await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn page(client: &Client, query: AuditQuery) -> AuditPage {
    match client.ask(&ControlRequest::Audit(Box::new(query))).await {
        ControlReply::Audit(page) => *page,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r30_what_came_by_the_swarm_is_recorded_once() {
    let mut fleet = Fleet::start().await;
    let host = fleet.host(20).await;
    let release = published(fleet.person(CI).await.publish(&Parcel::new("1", 10)).await);
    let target = Target { release, version: "1".parse().unwrap() };
    let mut first = rollout(target, &[&host]).envelope();
    first.sign(&key(ADA));
    let ada = fleet.person(ADA).await;
    assert!(matches!(ada.submit(&first).await, ControlReply::Submitted { .. }));
    fleet.stop().await;
    let before = fleet.audit().await;

    let freeze = freeze(&fleet);
    brought(&fleet, &freeze);
    fleet.start_again().await;
    let learned = format!("ada learned freeze {:#}", freeze.id());
    wait_for(&fleet, &learned).await;
    // Hosts, releases, and what was handed in have their entries, and the first root needs none.
    assert_eq!(fleet.audit().await, [before, vec![learned]].concat());

    let again = fleet.person(ADA).await;
    assert!(matches!(again.submit(&freeze).await, ControlReply::Submitted { .. }));
    let all = fleet.audit().await;
    fleet.stop().await;
    fleet.start_again().await;
    // One more, so that there is something to wait for.
    fleet.token(1).await;
    assert_eq!(fleet.audit().await.len(), all.len() + 1, "{all:?}");
    let all = AuditQuery { limit: 100, ..AuditQuery::default() };
    let entries = page(&fleet.person(ADA).await, all).await.entries;
    let entry = entries.iter().find(|entry| entry.action == "learned").unwrap();
    let detail: serde_json::Value = serde_json::from_str(&entry.detail).unwrap();
    assert_eq!(detail["about"]["reason"], "while it was away");
    assert_eq!(detail["keys"], serde_json::json!([KeyId::of(&public(ADA))]));
}

/// Somebody approved at a host what had been handed in here: the entry of then does not name that key.
#[tokio::test(flavor = "multi_thread")]
async fn r30_a_signature_that_came_by_the_swarm_is_recorded() {
    let mut fleet = Fleet::new(crate::fleet::root(1));
    fleet.start_again().await;
    let host = fleet.host(20).await;
    let release = published(fleet.person(CI).await.publish(&Parcel::new("1", 10)).await);
    let target = Target { release, version: "1".parse().unwrap() };
    let mut envelope = rollout(target, &[&host]).envelope();
    envelope.sign(&key(ADA));
    let ada = fleet.person(ADA).await;
    assert!(matches!(ada.submit(&envelope).await, ControlReply::Submitted { .. }));
    fleet.stop().await;
    envelope.sign(&key(crate::fleet::BOB));
    brought(&fleet, &envelope);
    fleet.start_again().await;
    let begun = std::time::Instant::now();
    let is_it = |entry: &String| {
        entry.contains(" learned rollout ") && entry.contains("ada") && entry.contains("bob")
    };
    while !fleet.audit().await.iter().any(is_it) {
        assert!(begun.elapsed() < WITHIN, "{:?}", fleet.audit().await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r30_people_read_the_record_and_hosts_do_not() {
    let fleet = Fleet::start().await;
    let host = fleet.host(20).await;
    let ada = fleet.person(ADA).await;
    let newest = AuditQuery { newest_first: true, limit: 1, ..AuditQuery::default() };
    let first = page(&ada, newest.clone()).await;
    assert_eq!(first.entries[0].action, "host-join");
    assert_eq!((first.head.length, first.next), (2, Some(2)));
    let second = page(&ada, AuditQuery { beyond: first.next, ..newest.clone() }).await;
    assert_eq!(second.entries[0].action, "token-create");
    let last = page(&ada, AuditQuery { beyond: second.next, ..newest.clone() }).await;
    assert_eq!((last.entries.len(), last.next), (0, None));
    let ask = ControlRequest::Audit(Box::new(newest));
    let refused = fleet.client(host.identity()).await.refused(&ask).await;
    assert_eq!(refused.kind, RefusedKind::Forbidden);
    let itself = fleet.client(Identity::person(key(ADMIT)).unwrap()).await;
    assert_eq!(itself.refused(&ask).await.kind, RefusedKind::Forbidden);
    let memory = ada.refused(&ControlRequest::AuditMemory).await;
    assert_eq!(memory.kind, RefusedKind::NotHere, "hosts remember");
}
