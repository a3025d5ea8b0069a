//! A small fleet made of fixed keys, and what is needed to watch it talk.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses a part of it, and clippy does not know that it is tests"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use net::{Alpn, Connection, Directory, Endpoint, Handler, Handlers, Identity, certificate, frame};
use proto::statement::{Host, KeyEntry, Role, RoleKeys, Root};
use proto::{FleetId, HostId, KeyId, PublicKey, UnixTime};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, shorter than the patience of whoever runs the tests.
pub const DEADLINE: Duration = Duration::from_secs(30);
pub const FRAME_MAX: usize = 1_024;

/// A key that is the same in every run.
pub fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(name.as_bytes()).as_bytes())
}

pub fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub struct Fleet {
    pub root: Root,
    pub ca: SigningKey,
    pub coordinator: SigningKey,
    pub operator: SigningKey,
}

impl Fleet {
    pub fn new(name: &str) -> Self {
        let [ca, coordinator, operator] =
            ["ca", "coordinator", "operator"].map(|role| key(&format!("{name} {role}")));
        let entry = |key: &SigningKey, owner: &str| {
            let key = PublicKey::of(key);
            (KeyId::of(&key), KeyEntry { key, owner: owner.parse().unwrap() })
        };
        let holds = |role, key: &SigningKey| {
            let keys = vec![KeyId::of(&PublicKey::of(key))];
            (role, RoleKeys { keys, threshold: 1 })
        };
        let root = Root {
            fleet: name.parse().unwrap(),
            version: 1,
            expires: now().plus_s(86_400),
            keys: [entry(&ca, "ca"), entry(&coordinator, "coordinator"), entry(&operator, "op")]
                .into(),
            roles: [
                holds(Role::Root, &operator),
                holds(Role::HostCa, &ca),
                holds(Role::Admit, &coordinator),
            ]
            .into(),
            environments: BTreeMap::new(),
            critical: vec![],
        };
        Self { root, ca, coordinator, operator }
    }

    pub fn id(&self) -> FleetId {
        self.root.fleet.clone()
    }

    pub fn directory(&self) -> Directory {
        Directory::new(self.root.clone())
    }

    pub fn host(&self, name: &str) -> Host {
        let key = PublicKey::of(&key(name));
        Host {
            fleet: self.id(),
            id: HostId::of(&key),
            key,
            name: name.parse().unwrap(),
            labels: BTreeMap::new(),
            issued: now(),
            critical: vec![],
        }
    }

    /// A host's identity with a certificate from `issued` on for a day.
    pub fn identity_since(&self, name: &str, issued: UnixTime) -> Identity {
        let der = certificate::issue(&self.ca, &self.host(name), issued, 1).unwrap();
        Identity::host(key(name), der).unwrap()
    }

    pub fn identity(&self, name: &str) -> Identity {
        self.identity_since(name, now())
    }

    pub fn coordinator_id(&self) -> HostId {
        HostId::of(&PublicKey::of(&self.coordinator))
    }
}

/// Stops what was started with its token when the test ends, however it ends.
pub struct Stop(pub CancellationToken);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// An endpoint that answers on all protocols with [`Echo`].
pub fn serve(identity: Identity, directory: Directory) -> (Endpoint, SocketAddr, Stop) {
    let endpoint = Endpoint::bind(loopback(), identity, directory).unwrap();
    let handlers =
        Alpn::ALL.into_iter().fold(Handlers::new(), |all, alpn| all.on(alpn, Arc::new(Echo)));
    let stop = serve_with(&endpoint, handlers);
    let addr = endpoint.local_addr().unwrap();
    (endpoint, addr, stop)
}

pub fn serve_with(endpoint: &Endpoint, handlers: Handlers) -> Stop {
    let stop = CancellationToken::new();
    let (serving, token) = (endpoint.clone(), stop.clone());
    tokio::spawn(async move { serving.serve(handlers, token).await.unwrap() });
    Stop(stop)
}

/// Answers each request, a text, with who asked and the text.
pub struct Echo;

#[async_trait]
impl Handler for Echo {
    async fn connection(&self, connection: Connection) {
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let Ok(text) = frame::recv::<String>(&mut recv, FRAME_MAX, DEADLINE).await else {
                continue;
            };
            let answer = format!("{}: {text}", connection.peer());
            frame::send(&mut send, &answer, FRAME_MAX, DEADLINE).await.unwrap();
            send.finish().unwrap();
        }
    }
}

pub async fn echo(connection: &Connection, text: &str) -> String {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    frame::send(&mut send, &text, FRAME_MAX, DEADLINE).await.unwrap();
    frame::recv(&mut recv, FRAME_MAX, DEADLINE).await.unwrap()
}

/// Waits until `done`; fails with the name of what it waits for.
pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

/// What is logged by this thread while it lives.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    pub fn count(&self, words: &str) -> usize {
        self.text().matches(words).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn log() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}
