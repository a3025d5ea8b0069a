//! R9, R10: who may speak what to whom, and who hears why not.

#![allow(clippy::unwrap_used, reason = "clippy does not know that helpers of tests are tests")]

mod common;

use common::{Fleet, Log, echo, key, log, loopback, now, serve, until};
use net::{
    Alpn, ConnectError, ConnectionLost, Directory, Endpoint, Expect, Identity, IdentityError, Peer,
    frame,
};
use proto::{KeyId, PublicKey, UnixTime};

const DAY_S: u64 = 86_400;

fn days_ago(days: u64) -> UnixTime {
    UnixTime(now().0 - days * DAY_S)
}

#[tokio::test]
async fn r10_table_of_who_may_speak_which_protocol() {
    let fleet = Fleet::new("fleet-a");
    let operator = KeyId::of(&PublicKey::of(&fleet.operator));
    let (_server, addr, _stop) = serve(fleet.identity("server"), fleet.directory());
    let host = fleet.host("client").id;
    let peers = [
        (fleet.identity("client"), Peer::Host(host)),
        (
            Identity::person(fleet.coordinator.clone()).unwrap(),
            Peer::Coordinator(fleet.coordinator_id()),
        ),
        (Identity::person(fleet.operator.clone()).unwrap(), Peer::Person(operator)),
        (Identity::anonymous(), Peer::Anonymous),
    ];
    let allowed = |alpn, peer: &Peer| match alpn {
        Alpn::Gossip | Alpn::Swarm => peer.member().is_some(),
        Alpn::Control => *peer != Peer::Anonymous,
        Alpn::Join => *peer == Peer::Anonymous,
    };
    for (identity, peer) in peers {
        let client = Endpoint::bind(loopback(), identity, fleet.directory()).unwrap();
        for alpn in Alpn::ALL {
            let case = format!("{peer} on {alpn}");
            let dialled = client.connect(alpn, addr, Expect::AnyMember).await;
            if allowed(alpn, &peer) {
                let connection = dialled.expect(&case);
                assert_eq!(*connection.peer(), Peer::Host(fleet.host("server").id), "{case}");
                assert_eq!(echo(&connection, "hi").await, format!("{peer}: hi"), "{case}");
            } else {
                let Err(ConnectError::Refused { reason, .. }) = dialled else {
                    panic!("{case}: {dialled:?}")
                };
                assert_eq!(reason, format!("{peer} may not speak {alpn}"), "{case}");
            }
        }
    }
}

/// Dials a host of fleet a and returns what each side says about it.
async fn refused(
    name: &str,
    server: Identity,
    client: Identity,
    expect: Expect,
    log: &Log,
) -> (ConnectError, String) {
    let fleet = Fleet::new("fleet-a");
    let (_server, addr, _stop) = serve(server, fleet.directory());
    let client = Endpoint::bind(loopback(), client, fleet.directory()).unwrap();
    let before = log.text().len();
    let error = client.connect(Alpn::Gossip, addr, expect).await.expect_err(name);
    until(name, || log.text()[before..].contains("connection refused")).await;
    (error, log.text()[before..].to_owned())
}

type Case = (&'static str, Identity, Identity, Expect, String);

/// Each dial must fail, for that reason, on both sides.
async fn all_refused(by_server: bool, cases: Vec<Case>) {
    let (log, _guard) = log();
    for (name, server, client, expect, words) in cases {
        let (error, logged) = refused(name, server, client, expect, &log).await;
        let by = matches!(error, ConnectError::Refused { .. });
        assert_eq!(by, by_server, "{name}: {error}");
        assert!(error.to_string().contains(&words), "{name}: {error}");
        assert!(logged.contains(&words), "{name}: {logged}");
    }
}

fn key_id(name: &str) -> KeyId {
    KeyId::of(&PublicKey::of(&key(name)))
}

fn not_in_root(name: &str) -> String {
    format!("key {} is not in the root, and no host CA of the root issued", key_id(name))
}

/// Nothing that a stranger says after his handshake is read.
#[tokio::test]
async fn r9_strangers_are_refused_and_both_sides_say_why() {
    let fleet = Fleet::new("fleet-a");
    let foreign = Fleet::new("fleet-b").identity("client");
    let stranger = Identity::person(key("stranger")).unwrap();
    let operator = Identity::person(fleet.operator.clone()).unwrap();
    let tomorrow = fleet.identity_since("client", now().plus_s(DAY_S));
    let expired = fleet.identity_since("client", days_ago(2));
    let case = |name, client, words: &str| {
        (name, fleet.identity("server"), client, Expect::AnyMember, words.to_owned())
    };
    let cases = vec![
        case("a certificate of his own", stranger, &not_in_root("stranger")),
        case("another fleet's CA", foreign, &not_in_root("client")),
        case("a certificate from tomorrow", tomorrow, "is not valid yet"),
        case("an expired one of an unknown host", expired, "expired at"),
        case("a person on gossip", operator, "may not speak gsw-gossip/1"),
        case("nobody on gossip", Identity::anonymous(), "anonymous may not speak gsw-gossip/1"),
    ];
    all_refused(true, cases).await;
}

/// Nothing is said to whoever is not the one expected.
#[tokio::test]
async fn r9_the_wrong_one_at_an_address_is_refused_and_both_sides_say_why() {
    let fleet = Fleet::new("fleet-a");
    let (server, host) = (fleet.host("server").id, fleet.host("other").id);
    let stranger = Identity::person(key("stranger")).unwrap();
    let operator = Identity::person(fleet.operator.clone()).unwrap();
    let of_token = Expect::Key(PublicKey::of(&fleet.coordinator));
    let case = |name, server: Option<Identity>, expect, words: &str| {
        let server = server.unwrap_or_else(|| fleet.identity("server"));
        (name, server, fleet.identity("client"), expect, words.to_owned())
    };
    let not_other = format!("it is host {server}, not member {host}");
    let cases = vec![
        case("another host", None, Expect::Host(host), &not_other),
        case("a host for the coordinator", None, Expect::Coordinator, "not the coordinator"),
        case("a stranger", Some(stranger), Expect::AnyMember, &not_in_root("stranger")),
        case("a person", Some(operator), Expect::AnyMember, "not a member of the fleet"),
        case("another key than the token's", None, of_token, "not key"),
    ];
    all_refused(false, cases).await;
}

#[tokio::test]
async fn r9_expired_certificate_of_a_known_host_is_good_with_one_warning() {
    let (log, _guard) = log();
    let fleet = Fleet::new("fleet-a");
    let directory = fleet.directory();
    let (_server, addr, _stop) = serve(fleet.identity("server"), directory.clone());
    let expired = || fleet.identity_since("client", days_ago(40));
    let dial = || async {
        let client = Endpoint::bind(loopback(), expired(), fleet.directory()).unwrap();
        client.connect(Alpn::Swarm, addr, Expect::AnyMember).await
    };
    let mut other_key = fleet.host("client");
    other_key.key = PublicKey::of(&key("another"));
    directory.add_host(other_key);
    assert!(dial().await.is_err(), "the statement is about another key");
    directory.add_host(fleet.host("client"));
    for _ in 0..3 {
        dial().await.expect("expired, but known");
    }
    assert_eq!(log.count("certificate out of its time"), 1);
}

/// A clock that has lost its time must not make a host deaf to those it knows.
#[tokio::test]
async fn r8_a_certificate_from_the_future_of_a_known_host_is_good_with_one_warning() {
    let (log, _guard) = log();
    let fleet = Fleet::new("fleet-a");
    let directory = fleet.directory();
    let der = net::certificate::issue(&fleet.ca, &fleet.host("one"), now(), 1).unwrap();
    let in_1970 = || directory.identify(&[&der], UnixTime(0));
    let host = fleet.host("one").id;
    let refused = IdentityError::NotYetValid {
        host: host.clone(),
        not_before: net::certificate::facts(&der).unwrap().not_before.0,
        now: 0,
    };
    assert_eq!(in_1970(), Err(refused));
    directory.add_host(fleet.host("one"));
    for _ in 0..3 {
        assert_eq!(in_1970(), Ok(Peer::Host(host.clone())));
    }
    assert_eq!(log.count("certificate out of its time"), 1);
}

/// R4: who has the host CA speaks for no host that exists, even with a second key for its id.
#[tokio::test]
async fn r4_a_good_certificate_with_another_key_than_the_statement_is_refused() {
    let fleet = Fleet::new("fleet-a");
    let directory = fleet.directory();
    let der = net::certificate::issue(&fleet.ca, &fleet.host("one"), now(), 1).unwrap();
    let mut other_key = fleet.host("one");
    other_key.key = PublicKey::of(&key("another"));
    directory.add_host(other_key);
    let host = fleet.host("one").id;
    let refused = directory.identify(&[&der], now());
    assert_eq!(refused, Err(IdentityError::OtherKey { host: host.clone() }));
    directory.add_host(fleet.host("one"));
    assert_eq!(directory.identify(&[&der], now()), Ok(Peer::Host(host)));
}

#[tokio::test]
async fn r9_a_clock_five_minutes_behind_still_takes_new_certificates() {
    let fleet = Fleet::new("fleet-a");
    let directory = fleet.directory();
    let der = net::certificate::issue(&fleet.ca, &fleet.host("new"), UnixTime(10_000), 1).unwrap();
    let at = |seconds| directory.identify(&[&der], UnixTime(seconds));
    assert!(at(9_699).is_err());
    assert_eq!(at(9_700), Ok(Peer::Host(fleet.host("new").id)));
    assert_eq!(at(10_000 + DAY_S), Ok(Peer::Host(fleet.host("new").id)));
    assert!(at(10_001 + DAY_S).is_err());
}

#[tokio::test]
async fn r2_a_new_root_applies_to_new_connections() {
    let fleet = Fleet::new("fleet-a");
    let directory = fleet.directory();
    let (_server, addr, _stop) = serve(fleet.identity("server"), directory.clone());
    let operator = Identity::person(fleet.operator.clone()).unwrap();
    let client = Endpoint::bind(loopback(), operator, fleet.directory()).unwrap();
    let open = client.connect(Alpn::Control, addr, Expect::AnyMember).await.unwrap();
    let mut next = fleet.root.clone();
    next.keys.remove(&KeyId::of(&PublicKey::of(&fleet.operator)));
    directory.set_root(next);
    let error = client.connect(Alpn::Control, addr, Expect::AnyMember).await.unwrap_err();
    assert!(error.to_string().contains("is not in the root"), "{error}");
    assert!(echo(&open, "still").await.ends_with("still"), "what is open stays open");
}

#[tokio::test]
async fn r9_a_joining_host_knows_the_coordinator_by_its_key_alone() {
    let fleet = Fleet::new("fleet-a");
    let coordinator = Identity::person(fleet.coordinator.clone()).unwrap();
    let (_server, addr, _stop) = serve(coordinator, fleet.directory());
    let client = Endpoint::bind(loopback(), Identity::anonymous(), Directory::empty()).unwrap();
    let expect = Expect::Key(PublicKey::of(&fleet.coordinator));
    let connection = client.connect(Alpn::Join, addr, expect).await.unwrap();
    assert_eq!(*connection.peer(), Peer::Coordinator(fleet.coordinator_id()));
    let error = client.connect(Alpn::Join, addr, Expect::AnyMember).await.unwrap_err();
    assert!(error.to_string().contains("no root is known"), "{error}");
}

#[tokio::test]
async fn r9_a_renewed_identity_is_used_without_a_restart() {
    let fleet = Fleet::new("fleet-a");
    let (server, addr, _stop) =
        serve(fleet.identity_since("server", days_ago(3)), fleet.directory());
    let client = Endpoint::bind(loopback(), fleet.identity("client"), fleet.directory()).unwrap();
    let dial = || client.connect(Alpn::Swarm, addr, Expect::AnyMember);
    assert!(dial().await.unwrap_err().to_string().contains("expired"));
    server.set_identity(fleet.identity("server"));
    dial().await.unwrap();
}

#[tokio::test]
async fn r10_the_oldest_connection_of_a_peer_makes_room() {
    let fleet = Fleet::new("fleet-a");
    let (_server, addr, _stop) = serve(fleet.identity("server"), fleet.directory());
    let client = Endpoint::bind(loopback(), fleet.identity("client"), fleet.directory()).unwrap();
    let mut open = Vec::new();
    for _ in 0..17 {
        open.push(client.connect(Alpn::Swarm, addr, Expect::AnyMember).await.unwrap());
    }
    until("the first is replaced", || open[0].is_closed()).await;
    assert!(open[1..].iter().all(|connection| !connection.is_closed()));
    // Another peer has room of its own.
    let other = Endpoint::bind(loopback(), fleet.identity("other"), fleet.directory()).unwrap();
    other.connect(Alpn::Swarm, addr, Expect::AnyMember).await.unwrap();
}

#[tokio::test]
async fn r9_stopping_tells_the_peers() {
    let fleet = Fleet::new("fleet-a");
    let (_server, addr, stop) = serve(fleet.identity("server"), fleet.directory());
    let client = Endpoint::bind(loopback(), fleet.identity("client"), fleet.directory()).unwrap();
    let open = client.connect(Alpn::Swarm, addr, Expect::AnyMember).await.unwrap();
    drop(stop);
    let lost = tokio::time::timeout(common::DEADLINE, open.closed()).await.unwrap();
    assert!(lost.to_string().contains("this member stops"), "{lost}");
}

/// What is killed says goodbye to nobody: its runtime is gone, and with it its socket. The same
/// identity, started again at the address, disowns what it is sent, long before the idle timeout.
#[tokio::test]
async fn r10_a_killed_member_that_is_back_ends_its_old_connections() {
    let fleet = Fleet::new("fleet-a");
    let client = Endpoint::bind(loopback(), fleet.identity("client"), fleet.directory()).unwrap();
    let (identity, directory) = (fleet.identity("server"), fleet.directory());
    let (ready, bound) = tokio::sync::oneshot::channel();
    let (kill, killed) = tokio::sync::oneshot::channel::<()>();
    let doomed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let served = runtime.block_on(async {
            let served = serve(identity, directory);
            ready.send(served.1).unwrap();
            let _ = killed.await;
            served
        });
        // In this order: its tasks are dropped without running once more, so nothing is sent.
        drop(runtime);
        drop(served);
    });
    let addr = bound.await.unwrap();
    let open = client.connect(Alpn::Swarm, addr, Expect::AnyMember).await.unwrap();
    assert!(echo(&open, "hi").await.ends_with("hi"));
    kill.send(()).unwrap();
    doomed.join().unwrap();
    assert!(!open.is_closed());

    let again = Endpoint::bind(addr, fleet.identity("server"), fleet.directory()).unwrap();
    let (mut send, _recv) = open.open_bi().await.unwrap();
    let asked = frame::send(&mut send, &"hi", common::FRAME_MAX, common::DEADLINE).await;
    asked.expect("it does not know yet");
    let lost = tokio::time::timeout(common::DEADLINE, open.closed()).await.unwrap();
    assert_eq!(lost, ConnectionLost::Reset);
    drop(again);
}

/// On both sides, with the words of whoever removed it; what is open is closed at once, whoever
/// dialled, and nobody else's.
#[tokio::test]
async fn r9_a_removed_host_is_refused_and_its_connections_are_closed() {
    let (log, _guard) = log();
    let fleet = Fleet::new("fleet-a");
    let directory = fleet.directory();
    let (server, addr, _stop) = serve(fleet.identity("server"), directory.clone());
    let (_sold, sold_addr, _stop_sold) = serve(fleet.identity("sold"), fleet.directory());
    let bind = |name| Endpoint::bind(loopback(), fleet.identity(name), fleet.directory()).unwrap();
    let (client, other) = (bind("sold"), bind("other"));
    let dial = |from: &Endpoint, to| {
        let from = from.clone();
        async move { from.connect(Alpn::Swarm, to, Expect::AnyMember).await }
    };
    let accepted = dial(&client, addr).await.unwrap();
    let dialled = dial(&server, sold_addr).await.unwrap();
    let kept = dial(&other, addr).await.unwrap();
    let words = format!("host {} was removed from the fleet: sold", fleet.host("sold").id);
    directory.remove_host(&fleet.host("sold").id, "sold");
    let lost = tokio::time::timeout(common::DEADLINE, accepted.closed()).await.unwrap();
    assert!(lost.to_string().contains(&words), "{lost}");
    tokio::time::timeout(common::DEADLINE, dialled.closed()).await.unwrap();
    assert!(echo(&kept, "hi").await.ends_with("hi"));
    let before = log.text().len();
    let refused = dial(&client, addr).await.unwrap_err();
    assert!(refused.to_string().contains(&words), "{refused}");
    until("the log says why", || log.text()[before..].contains(&words)).await;
    let refused = dial(&server, sold_addr).await.unwrap_err();
    assert!(matches!(&refused, ConnectError::WrongPeer { reason, .. } if *reason == words));
}

#[test]
fn r9_certificates_say_what_they_should_and_are_renewed_in_time() {
    let fleet = Fleet::new("fleet-a");
    let host = fleet.host("a");
    let der = net::certificate::issue(&fleet.ca, &host, UnixTime(1_000), 90).unwrap();
    let facts = net::certificate::facts(&der).unwrap();
    assert_eq!((&facts.host, facts.key), (&host.id, host.key));
    assert_eq!((facts.not_before.0, facts.not_after.0), (1_000, 1_000 + 90 * DAY_S));
    let mut renewals: Vec<u64> = (0..50)
        .map(|n| {
            let host = fleet.host(&format!("host-{n}"));
            let der = net::certificate::issue(&fleet.ca, &host, UnixTime(1_000), 90).unwrap();
            net::certificate::renew_at(&net::certificate::facts(&der).unwrap()).0 - 1_000
        })
        .collect();
    renewals.sort_unstable();
    assert!(renewals[0] >= 30 * DAY_S && renewals[49] < 45 * DAY_S, "{renewals:?}");
    assert!(renewals[49] - renewals[0] > 10 * DAY_S, "spread: {renewals:?}");
    assert!(Identity::host(key("b"), der).is_err(), "not that key's certificate");
}

/// Each byte of a certificate flipped: never a panic, never another host. (What stands around the
/// signed part is read loosely in places; the host remains the same.)
#[test]
fn r9_a_damaged_certificate_is_nobody_elses() {
    let fleet = Fleet::new("fleet-a");
    let directory = fleet.directory();
    let der = net::certificate::issue(&fleet.ca, &fleet.host("a"), now(), 90).unwrap();
    let good = Peer::Host(fleet.host("a").id);
    let mut loose = 0;
    for at in 0..der.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = der.clone();
            damaged[at] ^= flip;
            if let Ok(peer) = directory.identify(&[&damaged], now()) {
                assert_eq!(peer, good, "byte {at} ^ {flip}");
                loose += 1;
            }
        }
        assert!(directory.identify(&[&der[..at]], now()).is_err(), "cut at {at}");
    }
    assert!(loose <= 8, "{loose} damaged certificates pass");
    assert!(directory.identify(&[&der, &der], now()).is_err(), "a chain");
}
