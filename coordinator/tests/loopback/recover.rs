//! A coordinator whose state is lost, rebuilt from a member that holds everything.
//!
//! That member is another coordinator of the fleet here: what is asked of it every host answers too.

use std::net::SocketAddr;
use std::path::Path;

use coordinator::config::Config;
use coordinator::recover::{self, RecoverError, Summary};
use proto::id::Digest;
use proto::statement::{Action, Directive, Payload as _, Target};
use proto::wire::{ControlReply, ControlRequest, JoinReply, RefusedKind};

use crate::fleet::*;

/// The coordinator's files once more, at another address and without a state.
fn bereft(of: &Fleet) -> Fleet {
    Fleet::new(of.root.clone())
}

async fn run(config: &Config, from: &[SocketAddr]) -> Result<Summary, RecoverError> {
    recover::run(&at_any_port(config), from, &mut |_| {}).await
}

/// In one process the port of one run is still taken for a moment when the next one begins.
fn at_any_port(config: &Config) -> Config {
    Config { bind: "127.0.0.1:0".parse().unwrap(), ..config.clone() }
}

fn told(outcome: Result<Summary, RecoverError>) -> String {
    let error = outcome.unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |one| one.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn order(rollout: Digest, sequence: u64, action: Action) -> proto::dsse::Envelope {
    let directive = Directive {
        fleet: fleet(),
        rollout,
        sequence,
        action,
        wave: None,
        host: None,
        author: proto::KeyId::of(&public(ADA)),
        created: now(),
        reason: "look".to_owned(),
        critical: Vec::new(),
    };
    let mut envelope = directive.envelope();
    envelope.sign(&key(ADA));
    envelope
}

/// Two versions, a host, a rollout of the first one that was paused and aborted.
async fn busy() -> (Fleet, Parcel) {
    let fleet = Fleet::start().await;
    let (ci, ada) = (fleet.person(CI).await, fleet.person(ADA).await);
    let first = Parcel::new("1", 300_000);
    let id = published(ci.publish(&first).await);
    published(ci.publish(&Parcel::new("2", 10)).await);
    let host = fleet.host(11).await;
    let target = Target { release: id, version: "1".parse().unwrap() };
    let mut rollout = rollout(target, &[&host]).envelope();
    rollout.sign(&key(ADA));
    let orders = [(1, Action::Pause), (2, Action::Abort)]
        .map(|(sequence, action)| order(rollout.id(), sequence, action));
    for envelope in [&rollout, &orders[0], &orders[1]] {
        let reply = ada.submit(envelope).await;
        assert!(matches!(reply, ControlReply::Submitted { effective: true, .. }), "{reply:?}");
    }
    (fleet, first)
}

/// R3: what was admitted before is not admitted a second time; R9: old tokens let nobody in.
#[tokio::test(flavor = "multi_thread")]
async fn r3_a_recovered_coordinator_knows_every_version_and_no_token() {
    let (fleet, first) = busy().await;
    let token = fleet.token(5).await;
    let mut new = bereft(&fleet);
    let summary = run(&new.config, &[fleet.address()]).await.unwrap().to_string();
    let expected = [
        "statements: root 1, host 1, release 2, rollout 1, directive 2; below their threshold 0",
        "web/staging: rollouts 1, the newest is epoch 1 to 1, aborted",
        "artifacts: whole 2, missing 0",
        "gone: all tokens",
    ];
    for line in expected {
        assert!(summary.contains(line), "{line}: {summary}");
    }
    assert!(!summary.contains("left out"), "{summary}");
    assert_eq!(new.audit().await, ["coordinator recover fleet test-00000000"]);

    new.start_again().await;
    let ci = new.person(CI).await;
    let mut other = first.clone();
    other.release.run.start = "bin/other".to_owned();
    let refused = ci.publish(&other).await.1;
    assert_eq!(kind(&refused), Some(RefusedKind::Conflict), "{refused:?}");
    let again = ci.publish(&first).await;
    let id = first.envelope().id();
    assert_eq!(again, (Vec::new(), ControlReply::Published { id }), "it has every piece");
    published(ci.publish(&Parcel::new("3", 10)).await);

    let tokens = new.person(ADA).await.ask(&ControlRequest::TokenList).await;
    assert_eq!(tokens, ControlReply::Tokens(Vec::new()));
    let told_by = |reply: JoinReply| match reply {
        JoinReply::Refused { reason } => reason,
        JoinReply::Welcome { .. } => panic!("let in"),
    };
    let mut old = token.clone();
    old.coordinator = new.address();
    assert_eq!(told_by(new.join(&old, 12).await), "there is no such token here");
    // A host that is known does not join a second time, for other labels say.
    let reason = told_by(new.join(&new.token(1).await, 11).await);
    assert!(reason.starts_with("this host's key has joined with another token"), "{reason}");
    new.stop().await;
}

/// R3: one that lost its state and was merely started again does not know which versions exist.
#[tokio::test(flavor = "multi_thread")]
async fn r3_a_coordinator_that_lost_its_record_admits_nothing() {
    let mut fleet = Fleet::start().await;
    let host = fleet.host(11).await;
    fleet.stop().await;
    // What gossip would bring: the statement about a host it has never heard of.
    for name in ["coordinator.db", "coordinator.db-wal", "coordinator.db-shm"] {
        let _ = std::fs::remove_file(fleet.state(name));
    }
    fleet.start_again().await;
    let ci = fleet.person(CI).await;
    let refused = ci.refused(&Parcel::new("1", 10).request()).await;
    assert_eq!(refused.kind, RefusedKind::Conflict, "{refused:?} {}", host.id());
    assert!(refused.next.contains("swell-coordinator recover"), "{refused:?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_is_cut_off_is_gone_on_with_and_nothing_runs_before() {
    let (fleet, _) = busy().await;
    let new = bereft(&fleet);
    // Cut off once the statements are here.
    let (cut, asked) = tokio::sync::oneshot::channel();
    let mut cut = Some(cut);
    let mut tell = |line: &str| {
        if line.starts_with("artifact 2") {
            let _ = cut.take().unwrap().send(());
        }
    };
    let (from, config) = ([fleet.address()], at_any_port(&new.config));
    let outcome = tokio::select! {
        biased;
        _ = asked => None,
        outcome = recover::run(&config, &from, &mut tell) => Some(outcome),
    };
    assert!(outcome.is_none(), "it was cut off");
    let refused = coordinator::daemon::Daemon::start(&new.config).await.err().unwrap();
    assert!(refused.to_string().contains("was begun and not finished"), "{refused}");
    // A wholly written state that only lacks its end is written anew, not twice.
    run(&new.config, &from).await.unwrap();
    std::fs::write(new.state("recovering"), format!("{:#}\n", root_id(&new))).unwrap();
    run(&new.config, &from).await.unwrap();
    assert_eq!(new.audit().await.len(), 1);
}

fn root_id(fleet: &Fleet) -> Digest {
    let envelope = std::fs::read(fleet.config.root_dir.join("root.json")).unwrap();
    proto::dsse::Envelope::parse(&envelope, envelope.len()).unwrap().id()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recovered_is_refused_in_words_and_nothing_is_written() {
    let fleet = Fleet::start().await;
    let here = [fleet.address()];
    let untouched = |dir: &Path| assert!(!dir.exists(), "{}", dir.display());

    let used = bereft(&fleet);
    std::fs::create_dir_all(used.state("photos")).unwrap();
    let reason = told(run(&used.config, &here).await);
    assert!(reason.contains("is not empty (\"photos\" is there)"), "{reason}");
    assert_eq!(std::fs::read_dir(&used.config.state_dir).unwrap().count(), 1);

    let lost = bereft(&fleet);
    std::fs::remove_file(&lost.config.host_ca_key).unwrap();
    let reason = told(run(&lost.config, &here).await);
    assert!(reason.contains("a key is lost, and nothing can be rebuilt without it"), "{reason}");
    assert!(reason.contains("host-ca.key"), "it is named: {reason}");
    untouched(&lost.config.state_dir);

    let silent = bereft(&fleet);
    let nobody = silent.address();
    let shy = bereft(&fleet);
    let reason = told(run(&shy.config, &[nobody]).await);
    assert!(reason.contains("none of the hosts answers"), "{reason}");
    assert!(reason.contains(&nobody.to_string()), "{reason}");
    untouched(&shy.config.state_dir);
    // In a disaster some hosts are dead: one that is there is enough, and the others are named.
    let summary = run(&shy.config, &[nobody, here[0]]).await.unwrap().to_string();
    assert!(summary.contains(&format!("  without {nobody}, which did not answer")), "{summary}");

    // Its host CA and its admit key are others.
    let mut other = root(0);
    other.roles = other
        .roles
        .into_iter()
        .map(|(role, mut holders)| {
            if role == proto::statement::Role::Admit {
                holders.keys = vec![proto::KeyId::of(&public(STRANGER))];
            }
            (role, holders)
        })
        .collect();
    let entry = proto::statement::KeyEntry { key: public(STRANGER), owner: name("coordinator") };
    other.keys.insert(proto::KeyId::of(&public(STRANGER)), entry);
    other.keys.remove(&proto::KeyId::of(&public(ADMIT)));
    let elsewhere = Fleet::new(other);
    let text = proto::key::secret_to_text(&key(STRANGER));
    std::fs::remove_file(&elsewhere.config.admit_key).unwrap();
    durable::create_secret(&elsewhere.config.admit_key, text.as_bytes()).unwrap();
    let reason = told(run(&elsewhere.config, &here).await);
    assert!(reason.contains("is no member of fleet test-00000000"), "{reason}");
    untouched(&elsewhere.config.state_dir);

    // The right fleet, and a key that it does not know for the coordinator's.
    let impostor = bereft(&fleet);
    std::fs::remove_file(&impostor.config.admit_key).unwrap();
    durable::create_secret(&impostor.config.admit_key, text.as_bytes()).unwrap();
    let reason = told(run(&impostor.config, &here).await);
    assert!(reason.contains("does not take this for the coordinator"), "{reason}");
    untouched(&impostor.config.state_dir);
}
