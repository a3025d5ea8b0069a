//! Frames, the pool and the join protocol over real connections.

#![allow(clippy::unwrap_used, reason = "clippy does not know that helpers of tests are tests")]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use common::{DEADLINE, Echo, FRAME_MAX, Fleet, echo, key, loopback, serve, serve_with, until};
use ed25519_dalek::SigningKey;
use net::frame::{self, FrameError};
use net::join::{Admit, Door, Token};
use net::{
    Alpn, CloseCode, ConnectError, Connection, Directory, Endpoint, Expect, Handler, Handlers,
    Identity, SendStream, join,
};
use proptest::prelude::*;
use proto::key::Signature;
use proto::wire::{JoinReply, JoinRequest, join_proof};
use proto::{Digest, PublicKey};
use tokio::sync::mpsc;

/// Hands its connections to the test.
struct Hand(mpsc::UnboundedSender<Connection>);

#[async_trait]
impl Handler for Hand {
    async fn connection(&self, connection: Connection) {
        let _ = self.0.send(connection.clone());
        connection.closed().await;
    }
}

/// Two ends of one connection.
async fn pair() -> (Connection, Connection, common::Stop) {
    let fleet = Fleet::new("fleet-a");
    let (hand, mut handed) = mpsc::unbounded_channel();
    let server = Endpoint::bind(loopback(), fleet.identity("server"), fleet.directory()).unwrap();
    let stop = serve_with(&server, Handlers::new().on(Alpn::Swarm, Arc::new(Hand(hand))));
    let client = Endpoint::bind(loopback(), fleet.identity("client"), fleet.directory()).unwrap();
    let addr = server.local_addr().unwrap();
    let near = client.connect(Alpn::Swarm, addr, Expect::AnyMember).await.unwrap();
    (near, handed.recv().await.unwrap(), stop)
}

#[tokio::test]
async fn r10_frame_limits() {
    let (near, far, _stop) = pair().await;
    let raw = |bytes: &'static [u8], finish| {
        let near = near.clone();
        async move {
            let mut stream = near.open_uni().await.unwrap();
            frame::send_bytes(&mut stream, bytes, DEADLINE).await.unwrap();
            if finish {
                stream.finish().unwrap();
            }
            stream
        }
    };
    type Is = fn(&FrameError) -> bool;
    let soon = Duration::from_millis(50);
    let cases: [(&str, &[u8], bool, Duration, Is); 7] = [
        // 4 GiB announced, four bytes sent: answered at once, so nothing waited or was allocated.
        ("too long", b"\xff\xff\xff\xff", false, DEADLINE, |e| {
            matches!(e, FrameError::TooLong { got: 0xffff_ffff, max: 16 })
        }),
        ("one too long", b"\0\0\0\x11", false, DEADLINE, |e| {
            matches!(e, FrameError::TooLong { got: 17, max: 16 })
        }),
        ("no frame", b"", true, DEADLINE, |e| matches!(e, FrameError::Ended)),
        ("torn length", b"\0\0", true, DEADLINE, |e| matches!(e, FrameError::Torn)),
        ("torn frame", b"\0\0\0\x02\x01", true, DEADLINE, |e| matches!(e, FrameError::Torn)),
        ("not the codec's", b"\0\0\0\x02\x09\x00", true, DEADLINE, |e| {
            matches!(e, FrameError::Codec(_))
        }),
        ("never comes", b"\0\0\0\x02\x01", false, soon, |e| {
            matches!(e, FrameError::Timeout { .. })
        }),
    ];
    for (name, bytes, finish, within, is) in cases {
        let _stream = raw(bytes, finish).await;
        // An empty stream that ends is only seen because it ends.
        let mut stream = far.accept_uni().await.unwrap();
        let error = frame::recv::<u8>(&mut stream, 16, within).await.expect_err(name);
        assert!(is(&error), "{name}: {error:?}");
    }
    let mut stream = near.open_uni().await.unwrap();
    let text = "x".repeat(FRAME_MAX);
    let error = frame::send(&mut stream, &text, FRAME_MAX, DEADLINE).await.unwrap_err();
    assert!(matches!(error, FrameError::Codec(_)), "not even sent: {error}");
    drop(stream);
    assert!(echo_over(&near, &far).await);
}

/// The connection is still good.
async fn echo_over(near: &Connection, far: &Connection) -> bool {
    let mut stream = near.open_uni().await.unwrap();
    frame::send(&mut stream, &7u8, 16, DEADLINE).await.unwrap();
    loop {
        let mut stream = far.accept_uni().await.unwrap();
        // The stream that was refused above may still come.
        if let Ok(value) = frame::recv::<u8>(&mut stream, 16, DEADLINE).await {
            return value == 7;
        }
    }
}

#[tokio::test]
async fn r10_bytes_are_counted_and_a_reader_that_stops_is_an_error() {
    let (near, far, _stop) = pair().await;
    let mut stream = near.open_uni().await.unwrap();
    frame::send_bytes(&mut stream, b"abcdef", DEADLINE).await.unwrap();
    let mut incoming = far.accept_uni().await.unwrap();
    assert_eq!(frame::recv_bytes(&mut incoming, 4, DEADLINE).await.unwrap(), b"abcd");
    incoming.stop(0u32.into()).unwrap();
    let write = || async {
        let mut out: SendStream = near.open_uni().await.unwrap();
        far.close(CloseCode::Violation, "test");
        near.closed().await;
        frame::send_bytes(&mut out, b"x", DEADLINE).await
    };
    assert!(matches!(write().await.unwrap_err(), FrameError::Write(_)));
}

#[tokio::test]
async fn r10_pool_dials_once_however_many_ask() {
    let fleet = Fleet::new("fleet-a");
    let (hand, mut handed) = mpsc::unbounded_channel();
    let server = Endpoint::bind(loopback(), fleet.identity("server"), fleet.directory()).unwrap();
    let _stop = serve_with(&server, Handlers::new().on(Alpn::Swarm, Arc::new(Hand(hand))));
    let addr = server.local_addr().unwrap();
    let client = Endpoint::bind(loopback(), fleet.identity("client"), fleet.directory()).unwrap();
    let pool = client.pool(Alpn::Swarm, 4);
    let id = fleet.host("server").id;
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (pool, id) = (pool.clone(), id.clone());
        askers.spawn(async move { pool.get(id, addr).await.unwrap() });
    }
    let all = askers.join_all().await;
    assert_eq!(all.len(), 50);
    let first = handed.recv().await.unwrap();
    assert!(handed.try_recv().is_err(), "one dial for fifty askers");

    let wrong = pool.get(fleet.host("other").id, addr).await.unwrap_err();
    assert!(matches!(wrong, ConnectError::WrongPeer { .. }), "{wrong}");
    pool.get(Expect::AnyMember, addr).await.unwrap();
    assert!(handed.try_recv().is_err(), "an open connection is reused");

    first.close(CloseCode::Done, "test");
    until("the client sees it", || all[0].is_closed()).await;
    pool.get(id, addr).await.unwrap();
    handed.recv().await.expect("a closed one is not");
}

#[tokio::test]
async fn r10_pool_keeps_no_more_than_it_may_and_closes_nothing_in_use() {
    let fleet = Fleet::new("fleet-a");
    let servers: Vec<_> =
        ["a", "b", "c"].map(|name| serve(fleet.identity(name), fleet.directory())).into();
    let client = Endpoint::bind(loopback(), fleet.identity("client"), fleet.directory()).unwrap();
    let pool = client.pool(Alpn::Swarm, 2);
    let held = pool.get(Expect::AnyMember, servers[0].1).await.unwrap();
    for (_, addr, _) in &servers[1..] {
        pool.get(Expect::AnyMember, *addr).await.unwrap();
    }
    assert!(echo(&held, "in use").await.ends_with("in use"));
    let again = pool.get(Expect::AnyMember, servers[0].1).await.unwrap();
    assert!(!held.is_closed() && !again.is_closed());
}

/// The clock is paused, so the ten seconds pass as soon as all are waiting.
#[tokio::test(start_paused = true)]
async fn r10_nobody_home_is_an_error_with_the_address() {
    let fleet = Fleet::new("fleet-a");
    let client = Endpoint::bind(loopback(), fleet.identity("client"), fleet.directory()).unwrap();
    // An endpoint that does not serve says nothing, as a host that is down.
    let silent = Endpoint::bind(loopback(), fleet.identity("b"), fleet.directory()).unwrap();
    let addr = silent.local_addr().unwrap();
    let dial = client.connect(Alpn::Swarm, addr, Expect::AnyMember);
    let error = tokio::time::timeout(DEADLINE, dial).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), format!("{addr} did not answer within 10 s"));
}

#[tokio::test]
async fn r10_what_is_not_served_is_refused_in_words() {
    let fleet = Fleet::new("fleet-a");
    let server = Endpoint::bind(loopback(), fleet.identity("server"), fleet.directory()).unwrap();
    let _stop = serve_with(&server, Handlers::new().on(Alpn::Swarm, Arc::new(Echo)));
    let client = Endpoint::bind(loopback(), fleet.identity("client"), fleet.directory()).unwrap();
    let addr = server.local_addr().unwrap();
    let error = client.connect(Alpn::Control, addr, Expect::AnyMember).await.unwrap_err();
    assert!(error.to_string().contains("gsw-control/3 is not served here"), "{error}");
}

#[tokio::test]
async fn r10_a_member_of_another_version_is_named_as_such() {
    let old = rcgen::generate_simple_self_signed(["old".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(old.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![old.cert.der().clone()], key.into())
        .unwrap();
    tls.alpn_protocols = vec![b"gsw-control/0".to_vec()];
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let server = quinn::Endpoint::server(config, loopback()).unwrap();
    let addr = server.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            let _ = incoming.await;
        }
    });
    let fleet = Fleet::new("fleet-a");
    let client = Endpoint::bind(loopback(), fleet.identity("client"), fleet.directory()).unwrap();
    let error = client.connect(Alpn::Control, addr, Expect::AnyMember).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{addr} runs a version of Groundswell that does not speak gsw-control/3, as this one does: \
             upgrade the older one"
        )
    );
}

// --- join ---

/// Lets in whoever knows the secret.
struct Secret(AtomicUsize);

#[async_trait]
impl Admit for Secret {
    async fn admit(&self, request: JoinRequest, from: IpAddr) -> JoinReply {
        assert!(from.is_loopback());
        self.0.fetch_add(1, Relaxed);
        let reason = match request.secret {
            [7, ..] => "welcome, but this is a test".to_owned(),
            _ => "no such token".to_owned(),
        };
        JoinReply::Refused { reason }
    }
}

fn request(key: &SigningKey, secret: u8, proof: &SigningKey) -> JoinRequest {
    let token = [1; 8];
    let public = PublicKey::of(key);
    JoinRequest {
        token,
        secret: [secret; 16],
        key: public,
        name: "new".parse().unwrap(),
        proof: Signature::of(proof, &join_proof(&token, &public)),
    }
}

#[tokio::test]
async fn r9_join_asks_and_is_bounded() {
    let fleet = Fleet::new("fleet-a");
    let coordinator = Identity::person(fleet.coordinator.clone()).unwrap();
    let server = Endpoint::bind(loopback(), coordinator, fleet.directory()).unwrap();
    let secret = Arc::new(Secret(AtomicUsize::new(0)));
    let door = Arc::new(Door::new(secret.clone()));
    let _stop = serve_with(&server, Handlers::new().on(Alpn::Join, door));
    let addr = server.local_addr().unwrap();
    let key_of_token = PublicKey::of(&fleet.coordinator);
    let client = Endpoint::bind(loopback(), Identity::anonymous(), Directory::empty()).unwrap();
    let ask = |request| {
        let client = client.clone();
        async move { join::ask(&client, addr, key_of_token, &request).await }
    };
    let reason = |reply| match reply {
        Ok(JoinReply::Refused { reason }) => reason,
        other => panic!("{other:?}"),
    };
    let host = key("new");
    let cases = [
        ("a good one", request(&host, 7, &host), "welcome, but this is a test"),
        ("a wrong secret", request(&host, 8, &host), "no such token"),
        ("somebody else's key", request(&host, 7, &key("thief")), "does not prove"),
    ];
    for (name, request, words) in cases {
        let reason = reason(ask(request).await);
        assert!(reason.contains(words), "{name}: {reason}");
    }
    assert_eq!(secret.0.load(Relaxed), 2, "without proof the token is not even looked at");
    let mut busy = 0;
    for _ in 0..30 {
        let error = match ask(request(&host, 8, &host)).await {
            Ok(_) => continue,
            Err(error) => anyhow::Error::from(error),
        };
        assert!(format!("{error:#}").contains("too many join requests"), "{error:#}");
        busy += 1;
    }
    assert!(busy >= 5, "an address may not ask without end: {busy} refused");
}

#[tokio::test]
async fn r9_a_long_join_request_is_refused_before_it_is_read() {
    let fleet = Fleet::new("fleet-a");
    let coordinator = Identity::person(fleet.coordinator.clone()).unwrap();
    let server = Endpoint::bind(loopback(), coordinator, fleet.directory()).unwrap();
    let secret = Arc::new(Secret(AtomicUsize::new(0)));
    let door = Arc::new(Door::new(secret.clone()));
    let _stop = serve_with(&server, Handlers::new().on(Alpn::Join, door));
    let client = Endpoint::bind(loopback(), Identity::anonymous(), Directory::empty()).unwrap();
    let expect = Expect::Key(PublicKey::of(&fleet.coordinator));
    let addr = server.local_addr().unwrap();
    let connection = client.connect(Alpn::Join, addr, expect).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    frame::send_bytes(&mut send, &1_025u32.to_be_bytes(), DEADLINE).await.unwrap();
    let lost = tokio::time::timeout(DEADLINE, connection.closed()).await.unwrap();
    assert!(lost.to_string().contains("1025 bytes, at most 1024"), "{lost}");
    assert_eq!(secret.0.load(Relaxed), 0);
}

fn token(coordinator: &str) -> Token {
    Token {
        coordinator: coordinator.parse().unwrap(),
        key: PublicKey::of(&key("coordinator")),
        root: Digest::of(b"root"),
        token: *b"tokentok",
        secret: *b"secretsecretsecr",
    }
}

#[test]
fn r9_token_has_one_text_form_and_hides_its_secret() {
    for addr in ["10.1.2.3:7070", "[2001:db8::1]:7070"] {
        let token = token(addr);
        let text = token.to_string();
        assert!(text.starts_with("gsw1_"), "{text}");
        assert_eq!(text.parse::<Token>().unwrap(), token);
        let shown = format!("{token:?}");
        assert!(shown.contains(addr) && !shown.contains("secret"), "{shown}");
        assert!(!shown.contains("115, 101, 99") && !shown.contains("73, 65, 63"), "{shown}");
        for at in 0..text.len() {
            assert!(text[..at].parse::<Token>().is_err(), "cut at {at}");
            let mut typo = text.clone().into_bytes();
            typo[at] = if typo[at] == b'A' { b'B' } else { b'A' };
            let typo = String::from_utf8(typo).unwrap();
            assert!(typo.parse::<Token>().is_err(), "typo at {at}");
        }
        for around in
            [format!("{text} "), format!(" {text}"), format!("{text}A"), format!("{text}=")]
        {
            assert!(around.parse::<Token>().is_err(), "{around:?}");
        }
    }
    let asked = format!("{:?}", request(&key("host"), 7, &key("host")));
    assert!(asked.contains("key ") && !asked.contains("7, 7"), "{asked}");
}

proptest! {
    /// Whatever is pasted, parsing ends with a token or an error.
    #[test]
    fn r9_any_text_is_a_token_or_an_error(text in ".{0,200}", tail in "[A-Za-z0-9_-]{0,160}") {
        prop_assert!(text.parse::<Token>().is_err());
        let prefixed = format!("gsw1_{tail}");
        prop_assert!(prefixed.parse::<Token>().is_err());
    }

    /// Every token survives its text form.
    #[test]
    fn r9_tokens_survive_their_text(ip: IpAddr, port: u16, token: [u8; 8], secret: [u8; 16]) {
        let coordinator = SocketAddr::new(ip, port);
        let made = Token { coordinator, token, secret, ..self::token("1.2.3.4:5") };
        prop_assert_eq!(made.to_string().parse::<Token>(), Ok(made));
    }
}
