//! A fleet with something to look at and to act on: two versions, rolled out one after the other to a
//! host that is heard.

use std::collections::BTreeMap;

use coordinator::events::{Event, Kind};
use coordinator::store::Store;
use member::{Membership, Seat};
use net::{Handlers, Identity, Port};
use proto::access::AccessRole;
use proto::id::{Digest, HostId};
use proto::statement::{Payload as _, Target};
use proto::wire::{ControlReply, ControlRequest};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fleet::*;
use crate::https::{Got, Visitor, bearer, token};

pub(crate) struct Ground {
    pub(crate) fleet: Fleet,
    pub(crate) visitor: Visitor,
    /// Of Ada, who may deploy to staging.
    pub(crate) operator: String,
    /// Of CI, which may only look.
    pub(crate) viewer: String,
    pub(crate) host: HostId,
    /// The newest rollout.
    pub(crate) rollout: Digest,
    pub(crate) first: Digest,
    _host: DropGuard,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        Self::where_the_coordinator_rolls_back(true).await
    }

    pub(crate) async fn where_the_coordinator_rolls_back(may: bool) -> Self {
        let mut root = root(0);
        for policy in root.environments.values_mut() {
            policy.coordinator_may_roll_back = may;
        }
        let mut fleet = Fleet::new(root);
        fleet.start_again().await;
        let host = fleet.host(20).await;
        let beside = run(&fleet, &host).await;
        let (ci, ada) = (fleet.person(CI).await, fleet.person(ADA).await);
        let mut targets = Vec::new();
        for version in ["1", "2"] {
            // Which of two is newer is told by the second in which each was made.
            let made = now();
            let release = published(ci.publish(&Parcel::new(version, 10)).await);
            targets.push(Target { release, version: version.parse().unwrap() });
            while now() <= made.plus_s(1) && version == "1" {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        let [one, two] = [&targets[0], &targets[1]].map(Clone::clone);
        let mut first = rollout(one.clone(), &[&host]).envelope();
        first.sign(&key(ADA));
        let second = rollout(two, &[&host]);
        let second = proto::statement::Rollout {
            epoch: 2,
            previous: Some(first.id()),
            from: Some(one),
            ..second
        };
        let mut second = second.envelope();
        second.sign(&key(ADA));
        for envelope in [&first, &second] {
            let reply = ada.submit(envelope).await;
            assert!(matches!(reply, ControlReply::Submitted { effective: true, .. }), "{reply:?}");
        }
        until_heard(&ada).await;
        let visitor = Visitor::of(&fleet).await;
        let operator = token(&ada, AccessRole::Operator).await.1;
        let viewer = token(&ci, AccessRole::Viewer).await.1;
        let (rollout, first) = (second.id(), first.id());
        let host = host.id();
        Self { fleet, visitor, operator, viewer, host, rollout, first, _host: beside }
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.visitor.get(&self.viewer, path).await
    }

    /// A `POST` as a script does it, with a key of its own.
    pub(crate) async fn post(&self, token: &str, path: &str, key: &str, body: &Value) -> Got {
        let token = bearer(token);
        let headers = [
            ("authorization", token.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", key),
        ];
        self.visitor.send("POST", path, &headers, body.to_string().as_bytes()).await
    }

    /// So many events, as the chronicle would keep them.
    pub(crate) async fn keep_events(&self, count: u64) {
        let event = |number| Event {
            at: now(),
            kind: Kind::WaveOpened,
            service: Some("web".parse().unwrap()),
            env: Some("staging".parse().unwrap()),
            rollout: Some(self.rollout),
            host: None,
            text: format!("wave {number} is open"),
            detail: json!({ "wave": number }),
        };
        let store = Store::open(&self.fleet.state("coordinator.db")).await.unwrap();
        store.events_keep(&(1..=count).map(event).collect::<Vec<_>>()).await.unwrap();
        store.close().await;
    }
}

/// Everything of an agent that others hear of.
async fn run(fleet: &Fleet, host: &JoinedHost) -> DropGuard {
    let stop = CancellationToken::new();
    let mut root = fleet.root.envelope();
    root.sign(&key(ROOT));
    let genesis = root.id();
    let request = ControlRequest::Host { id: host.id() };
    let statement = match fleet.person(ADA).await.ask(&request).await {
        ControlReply::Statement { envelope } => envelope,
        other => panic!("{other:?}"),
    };
    let address = std::net::SocketAddr::new(fleet.address().ip(), 7_080);
    let seat = Seat {
        store: fleet.dir.path().join("host"),
        genesis,
        envelopes: vec![root.to_bytes(), statement],
        key: host.key.clone(),
        identity: Identity::host(host.key.clone(), host.certificate.clone()).unwrap(),
        port: Port::Machine(address),
        advertise: address,
        seeds: vec![fleet.address()],
        gossip_interval: std::time::Duration::from_millis(100),
        coordinator: false,
        services: None,
        version: name("0.1.0"),
    };
    let member = Membership::open(seat, stop.clone()).await.unwrap();
    let stopped = stop.clone();
    tokio::spawn(async move { member.run(Handlers::new(), stopped).await });
    stop.drop_guard()
}

async fn until_heard(ada: &Client) {
    let heard = async {
        loop {
            let ControlReply::Fleet(report) = ada.ask(&ControlRequest::Fleet).await else {
                panic!()
            };
            if report.hosts.iter().all(|host| host.alive) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WITHIN, heard).await.expect("the host is heard");
}

/// The names of a problem's fields with what is wrong about each.
pub(crate) fn errors(problem: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let errors = problem["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| (text(&error["field"]), text(&error["detail"]))).collect()
}
