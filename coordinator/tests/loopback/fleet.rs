//! A coordinator in this process on loopback, with a fleet's keys, and clients that speak to it over
//! QUIC as `swell`, CI and hosts do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use coordinator::config::Config;
use coordinator::daemon::{Daemon, StopError};
use coordinator::store::Store;
use ed25519_dalek::SigningKey;
use net::frame::{self, FrameError};
use net::join::Token;
use net::{Alpn, Connection, Directory, Endpoint, Expect, Identity, RecvStream, SendStream};
use proto::artifact::Manifest;
use proto::dsse::Envelope;
use proto::id::{Env, FleetId, HostId, KeyId, Name};
use proto::key::{PublicKey, Signature, secret_to_text};
use proto::statement::{
    ArtifactRef, CohortHost, Direction, Health, Host, KeyEntry, OnFailure, Payload, Policy,
    Release, Role, RoleKeys, Rollout, Root, Run, Source, Statement, Target, UnixTime, Wave,
};
use proto::wire::{
    CONTROL_BYTES_MAX, ControlReply, ControlRequest, JoinReply, JoinRequest, Refused, RefusedKind,
    join_proof,
};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Far above what any step takes: it is there to end, not to measure.
pub(crate) const WITHIN: Duration = Duration::from_secs(60);

pub(crate) const ROOT: u8 = 1;
pub(crate) const CI: u8 = 2;
pub(crate) const ADMIT: u8 = 3;
pub(crate) const HOST_CA: u8 = 4;
/// Deploys to staging, and approves there.
pub(crate) const ADA: u8 = 5;
/// Approves in staging.
pub(crate) const BOB: u8 = 6;
/// In no root.
pub(crate) const STRANGER: u8 = 7;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey::of(&key(seed))
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn fleet() -> FleetId {
    "test-00000000".parse().unwrap()
}

pub(crate) fn now() -> UnixTime {
    member::clock::unix()
}

/// The first root; `approvals_min` is the policy of staging.
pub(crate) fn root(approvals_min: u8) -> Root {
    let env: Env = "staging".parse().unwrap();
    let roles = [
        (Role::Root, vec![ROOT], "ada"),
        (Role::Publish, vec![CI], "ci"),
        (Role::Admit, vec![ADMIT], "coordinator"),
        (Role::HostCa, vec![HOST_CA], "coordinator"),
        (Role::Deploy(env.clone()), vec![ADA], "ada"),
        (Role::Approve(env.clone()), vec![BOB], "bob"),
    ];
    let id = |seed: &u8| KeyId::of(&public(*seed));
    let mut root = Root {
        fleet: fleet(),
        version: 1,
        expires: now().plus_s(86_400),
        keys: BTreeMap::new(),
        roles: BTreeMap::new(),
        environments: BTreeMap::from([(env, Policy { approvals_min, ..Policy::default() })]),
        critical: Vec::new(),
    };
    for (role, seeds, owner) in roles {
        for seed in &seeds {
            let entry = KeyEntry { key: public(*seed), owner: name(owner) };
            root.keys.insert(id(seed), entry);
        }
        let keys = RoleKeys { keys: seeds.iter().map(id).collect(), threshold: 1 };
        root.roles.insert(role, keys);
    }
    root
}

/// A fleet's files, and its coordinator while it runs.
pub(crate) struct Fleet {
    pub(crate) dir: TempDir,
    pub(crate) config: Config,
    pub(crate) root: Root,
    running: Option<Running>,
}

struct Running {
    ended: JoinHandle<Result<(), StopError>>,
    stop: oneshot::Sender<()>,
}

impl Fleet {
    /// Made and started.
    pub(crate) async fn start() -> Self {
        let mut fleet = Self::new(root(0));
        fleet.start_again().await;
        fleet
    }

    /// Its files only.
    pub(crate) fn new(root: Root) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let dir = tempfile::tempdir().unwrap();
        for (file, seed) in [("admit.key", ADMIT), ("host-ca.key", HOST_CA)] {
            let text = secret_to_text(&key(seed));
            durable::create_secret(&dir.path().join(file), text.as_bytes()).unwrap();
        }
        let mut envelope = root.envelope();
        envelope.sign(&key(ROOT));
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::write(dir.path().join("root/root.json"), envelope.to_bytes()).unwrap();
        // Tests of one process, and processes beside each other, must not share an address.
        let pid = std::process::id().to_be_bytes();
        let last = NUMBER.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 128 | (pid[2] & 63), pid[3], last], 7070));
        let text =
            format!("state_dir = \"state\"\nbind = \"{address}\"\ngossip_interval_ms = 100\n");
        let config = Config::parse(&dir.path().join("coordinator.toml"), &text).unwrap();
        Self { dir, config, root, running: None }
    }

    pub(crate) async fn start_again(&mut self) {
        let daemon = Daemon::start(&self.config).await.unwrap();
        let line = daemon.ready_line().await;
        assert!(line.starts_with("ready: fleet test-00000000, coordinator "), "{line}");
        let (stop, asked) = oneshot::channel();
        let ended = tokio::spawn(daemon.run(async {
            let _ = asked.await;
        }));
        self.running = Some(Running { ended, stop });
    }

    pub(crate) async fn stop(&mut self) {
        let Running { ended, stop } = self.running.take().unwrap();
        stop.send(()).unwrap();
        ended.await.unwrap().unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.config.advertise
    }

    pub(crate) fn state(&self, path: &str) -> PathBuf {
        self.config.state_dir.join(path)
    }

    /// `actor action subject` of every entry, the record verified first.
    pub(crate) async fn audit(&self) -> Vec<String> {
        let store = Store::open(&self.state("coordinator.db")).await.unwrap();
        store.audit_verify().await.unwrap();
        let entries = store.audit_after(0, 1_000).await.unwrap();
        store.close().await;
        let told = |entry: &coordinator::audit::Entry| {
            format!("{} {} {}", entry.actor, entry.action, entry.subject)
        };
        entries.iter().map(told).collect()
    }

    pub(crate) async fn person(&self, seed: u8) -> Client {
        self.client(Identity::person(key(seed)).unwrap()).await
    }

    pub(crate) async fn client(&self, identity: Identity) -> Client {
        let directory = Directory::new(self.root.clone());
        let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap(), identity, directory).unwrap();
        let connection =
            endpoint.connect(Alpn::Control, self.address(), Expect::Coordinator).await.unwrap();
        Client { connection, _endpoint: endpoint }
    }

    /// A token of the operator, taken apart.
    pub(crate) async fn token(&self, uses: u32) -> Token {
        let labels = vec![(name("env"), name("staging"))];
        let request = ControlRequest::TokenCreate { uses, ttl_s: 60, labels };
        match self.person(ADA).await.ask(&request).await {
            ControlReply::Token { text } => text.parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn join(&self, token: &Token, seed: u8) -> JoinReply {
        let any = "127.0.0.1:0".parse().unwrap();
        self.join_from(any, token, &key(seed), &format!("host-{seed}")).await
    }

    /// Of one address not many may join in a minute.
    pub(crate) async fn join_from(
        &self,
        from: SocketAddr,
        token: &Token,
        host: &SigningKey,
        named: &str,
    ) -> JoinReply {
        let request = JoinRequest {
            token: token.token,
            secret: token.secret,
            key: PublicKey::of(host),
            name: name(named),
            proof: Signature::of(host, &join_proof(&token.token, &PublicKey::of(host))),
        };
        let endpoint = Endpoint::bind(from, Identity::anonymous(), Directory::empty()).unwrap();
        net::join::ask(&endpoint, token.coordinator, token.key, &request).await.unwrap()
    }

    /// A host that has joined.
    pub(crate) async fn host(&self, seed: u8) -> JoinedHost {
        let token = self.token(1).await;
        match self.join(&token, seed).await {
            JoinReply::Welcome { host, certificate, .. } => {
                let envelope = Envelope::parse(&host, host.len()).unwrap();
                let Statement::Host(statement) = Statement::parse(&envelope).unwrap() else {
                    panic!("not a host statement")
                };
                JoinedHost { statement, key: key(seed), certificate }
            }
            JoinReply::Refused { reason } => panic!("{reason}"),
        }
    }
}

pub(crate) struct JoinedHost {
    pub(crate) statement: Host,
    pub(crate) key: SigningKey,
    pub(crate) certificate: Vec<u8>,
}

impl JoinedHost {
    pub(crate) fn identity(&self) -> Identity {
        Identity::host(self.key.clone(), self.certificate.clone()).unwrap()
    }

    pub(crate) fn id(&self) -> HostId {
        self.statement.id.clone()
    }
}

pub(crate) struct Client {
    pub(crate) connection: Connection,
    _endpoint: Endpoint,
}

impl Client {
    pub(crate) async fn begin(&self, request: &ControlRequest) -> (SendStream, RecvStream) {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        frame::send_json(&mut send, request, CONTROL_BYTES_MAX, WITHIN).await.unwrap();
        (send, recv)
    }

    pub(crate) async fn ask(&self, request: &ControlRequest) -> ControlReply {
        let (_send, mut recv) = self.begin(request).await;
        reply(&mut recv).await
    }

    pub(crate) async fn refused(&self, request: &ControlRequest) -> Refused {
        match self.ask(request).await {
            ControlReply::Refused(refused) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) async fn submit(&self, envelope: &Envelope) -> ControlReply {
        self.ask(&ControlRequest::Submit { envelope: envelope.to_bytes() }).await
    }

    /// Publishes; gives the pieces that were asked for and the last answer.
    pub(crate) async fn publish(&self, parcel: &Parcel) -> (Vec<u32>, ControlReply) {
        let (mut send, mut recv) = self.begin(&parcel.request()).await;
        let asked = match reply(&mut recv).await {
            ControlReply::Send { pieces } => pieces,
            other => return (Vec::new(), other),
        };
        for piece in &asked {
            // Whoever refuses stops reading: the answer says why.
            let sent = frame::send_bytes(&mut send, parcel.piece(*piece), WITHIN).await;
            if sent.is_err() {
                break;
            }
        }
        (asked, reply(&mut recv).await)
    }
}

pub(crate) async fn reply(recv: &mut RecvStream) -> ControlReply {
    frame::recv_json(recv, CONTROL_BYTES_MAX, WITHIN).await.unwrap()
}

pub(crate) async fn no_reply(recv: &mut RecvStream) -> FrameError {
    frame::recv_json::<ControlReply>(recv, CONTROL_BYTES_MAX, WITHIN).await.unwrap_err()
}

pub(crate) fn published(outcome: (Vec<u32>, ControlReply)) -> proto::Digest {
    match outcome {
        (_, ControlReply::Published { id }) => id,
        (_, other) => panic!("not published: {other:?}"),
    }
}

pub(crate) fn kind(reply: &ControlReply) -> Option<RefusedKind> {
    match reply {
        ControlReply::Refused(refused) => Some(refused.kind),
        _ => None,
    }
}

// --- releases ---

/// A release on its way to the coordinator.
#[derive(Clone)]
pub(crate) struct Parcel {
    pub(crate) release: Release,
    pub(crate) manifest: Vec<u8>,
    /// The pieces, one by one.
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) signer: u8,
}

impl Parcel {
    /// Version `version` of `web`: a few files, of which the largest has `bytes` bytes that do not
    /// compress.
    pub(crate) fn new(version: &str, bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        write_tree(&tree, version, bytes);
        let mut data = Vec::new();
        let manifest = pack::pack(&tree, &mut data, &mut |_| {}).unwrap();
        Self::of(version, &manifest, &data)
    }

    pub(crate) fn of(version: &str, manifest: &Manifest, data: &[u8]) -> Self {
        let mut rest = data;
        let pieces = manifest.pieces.iter().map(|piece| {
            let (piece, left) = rest.split_at(piece.bytes as usize);
            rest = left;
            piece.to_vec()
        });
        let pieces = pieces.collect();
        let bytes = manifest.to_bytes();
        let artifact = ArtifactRef {
            id: proto::Digest::of(&bytes),
            manifest_bytes: bytes.len() as u64,
            bytes: manifest.bytes(),
            raw_bytes: manifest.raw_bytes(),
        };
        let release = Release {
            fleet: fleet(),
            service: "web".parse().unwrap(),
            version: version.parse().unwrap(),
            artifact,
            source: Source::default(),
            created: now(),
            run: Run {
                start: "bin/start".into(),
                stop: "bin/stop".into(),
                timeout_s: 5,
                ..Run::default()
            },
            health: Health::default(),
            critical: Vec::new(),
        };
        Self { release, manifest: bytes, pieces, signer: CI }
    }

    pub(crate) fn envelope(&self) -> Envelope {
        let mut envelope = self.release.envelope();
        envelope.sign(&key(self.signer));
        envelope
    }

    pub(crate) fn request(&self) -> ControlRequest {
        let release = self.envelope().to_bytes();
        ControlRequest::Publish { release, manifest: self.manifest.clone() }
    }

    pub(crate) fn piece(&self, index: u32) -> &[u8] {
        &self.pieces[index as usize]
    }
}

fn write_tree(tree: &Path, version: &str, bytes: usize) {
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    std::fs::write(tree.join("version"), version).unwrap();
    std::fs::write(tree.join("bin/start"), "#!/bin/sh\n").unwrap();
    let mut noise = blake3::Hasher::new();
    noise.update(version.as_bytes());
    let mut data = vec![0; bytes];
    noise.finalize_xof().fill(&mut data);
    std::fs::write(tree.join("data"), data).unwrap();
}

// --- rollouts ---

pub(crate) fn rollout(to: Target, hosts: &[&JoinedHost]) -> Rollout {
    let member = |host: &&JoinedHost| CohortHost {
        id: host.id(),
        key: host.statement.key,
        zone: host.statement.zone(),
    };
    let all = u32::try_from(hosts.len()).unwrap();
    Rollout {
        fleet: fleet(),
        service: "web".parse().unwrap(),
        env: "staging".parse().unwrap(),
        epoch: 1,
        previous: None,
        from: None,
        to,
        direction: Direction::Forward,
        rules: proto::statement::RULES,
        cohort: hosts.iter().map(member).collect(),
        waves: vec![Wave { hosts: all, wait_s: 0, failed_max: 0, unreachable_max: 0 }],
        max_unavailable: 1,
        in_flight_max: None,
        windows: Vec::new(),
        limits: None,
        retry: false,
        adopt: false,
        on_failure: OnFailure::Rollback,
        approvals: 0,
        created: now(),
        expires: now().plus_s(3_600),
        author: KeyId::of(&public(ADA)),
        reason: "a test".to_owned(),
        critical: Vec::new(),
    }
}
