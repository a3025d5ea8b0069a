//! A fleet of one: keys made by `swell init`, and members that answer as a test tells them to.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;
use net::{Alpn, Connection, Directory, Endpoint, Handler, Handlers, Identity, certificate, frame};
use proto::dsse::Envelope;
use proto::id::{Digest, HostId, KeyId, Name};
use proto::key::{PublicKey, secret_from_text};
use proto::statement::{
    ArtifactRef, Health, Host, Payload, Release, Role, RoleKeys, Root, Run, Source, Statement,
    UnixTime,
};
use proto::trust::Chain;
use proto::wire::{CONTROL_BYTES_MAX, ControlReply, ControlRequest, Refused, RefusedKind};
use tokio_util::sync::CancellationToken;

const WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs())
}

/// The operator's directory and all keys.
pub(crate) struct Fleet {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) root: Root,
    pub(crate) root_id: Digest,
    root_envelope: Vec<u8>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let output = run(dir.path(), &["init", "--fleet", "shop"]);
        assert!(output.status.success());
        let root_envelope = std::fs::read(dir.path().join("root.json")).expect("root.json");
        let envelope = Envelope::parse(&root_envelope, 1 << 20).expect("an envelope");
        let Ok(Statement::Root(root)) = Statement::parse(&envelope) else { panic!("no root") };
        Self { dir, root, root_id: envelope.id(), root_envelope }
    }

    /// Directives, freezes and removals of production need the signatures of operator and publisher.
    pub(crate) fn of_two() -> Self {
        let mut fleet = Self::new();
        let two = [fleet.key("operator.key"), fleet.key("publisher.key")];
        let keys: Vec<_> = two.iter().map(|key| KeyId::of(&PublicKey::of(key))).collect();
        for role in [Role::Deploy("production".parse().unwrap()), Role::Emergency] {
            fleet.root.roles.insert(role, RoleKeys { keys: keys.clone(), threshold: 2 });
        }
        let pinned = fleet.root_id;
        fleet.root_envelope = fleet.sign(&fleet.root, &["root.key"]);
        fleet.root_id = Envelope::parse(&fleet.root_envelope, 1 << 20).unwrap().id();
        std::fs::write(fleet.dir.path().join("root.json"), &fleet.root_envelope).unwrap();
        let path = fleet.dir.path().join("operator.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace(&format!("{pinned:#}"), &format!("{:#}", fleet.root_id));
        std::fs::write(&path, text).unwrap();
        fleet
    }

    pub(crate) fn key(&self, file: &str) -> SigningKey {
        secret_from_text(&std::fs::read(self.dir.path().join(file)).expect(file)).expect(file)
    }

    pub(crate) fn chain(&self) -> Chain {
        Chain::genesis(&self.root_envelope, self.root_id).expect("a chain")
    }

    pub(crate) fn swell(&self, arguments: &[&str]) -> Output {
        run(self.dir.path(), arguments)
    }

    /// Signs a statement with these key files.
    pub(crate) fn sign<P: Payload>(&self, payload: &P, files: &[&str]) -> Vec<u8> {
        let mut envelope = payload.envelope();
        files.iter().for_each(|file| envelope.sign(&self.key(file)));
        envelope.to_bytes()
    }

    pub(crate) fn release(&self, version: &str) -> Release {
        Release {
            fleet: self.root.fleet.clone(),
            service: "web".parse().unwrap(),
            version: version.parse().unwrap(),
            artifact: ArtifactRef {
                id: Digest::of(version.as_bytes()),
                manifest_bytes: 1_000,
                bytes: 4 << 20,
                raw_bytes: 12 << 20,
            },
            source: Source::default(),
            created: UnixTime(1_700_000_000),
            run: Run { start: "a".into(), stop: "b".into(), timeout_s: 30, ..Run::default() },
            health: Health::default(),
            critical: Vec::new(),
        }
    }

    /// Host `n1` and so on of `production`, and its key.
    pub(crate) fn host(&self, seed: u8) -> (Host, SigningKey) {
        let secret = SigningKey::from_bytes(&[seed; 32]);
        let key = PublicKey::of(&secret);
        let name = |text: &str| text.parse::<Name>().unwrap();
        let host = Host {
            fleet: self.root.fleet.clone(),
            id: HostId::of(&key),
            key,
            name: name(&format!("n{seed}")),
            labels: [(name("env"), name("production"))].into(),
            issued: UnixTime(1_700_000_000),
            critical: Vec::new(),
        };
        (host, secret)
    }

    /// Starts a coordinator, and makes it the one `operator.toml` names.
    pub(crate) fn coordinator(&self, answer: impl Answer) -> Member {
        let identity = Identity::person(self.key("coordinator/admit.key")).expect("an identity");
        let member = Member::start(identity, self.root.clone(), answer);
        let path = self.dir.path().join("operator.toml");
        let text = std::fs::read_to_string(&path).expect("operator.toml");
        let line = |line: &str| match line.starts_with("coordinator = ") {
            true => format!("coordinator = \"{}\"\n", member.address),
            false => format!("{line}\n"),
        };
        std::fs::write(&path, text.lines().map(line).collect::<String>()).expect("operator.toml");
        member
    }

    /// Starts a host.
    pub(crate) fn member(&self, seed: u8, answer: impl Answer) -> Member {
        let (host, secret) = self.host(seed);
        let ca = self.key("coordinator/host-ca.key");
        let der = certificate::issue(&ca, &host, now(), 90).expect("a certificate");
        let identity = Identity::host(secret, der).expect("an identity");
        Member::start(identity, self.root.clone(), answer)
    }
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_swell"))
        .args(arguments)
        .env_clear()
        .env("SWELL_DIR", dir)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("swell runs")
}

pub(crate) fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

pub(crate) fn refused(kind: RefusedKind, reason: &str) -> ControlReply {
    ControlReply::Refused(Refused { kind, reason: reason.to_owned(), next: String::new() })
}

pub(crate) trait Answer:
    Fn(&ControlRequest) -> ControlReply + Send + Sync + 'static
{
}
impl<F: Fn(&ControlRequest) -> ControlReply + Send + Sync + 'static> Answer for F {}

/// A member that answers the control protocol; it stops when it is dropped.
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    /// What it was asked, in order.
    pub(crate) asked: Arc<Mutex<Vec<ControlRequest>>>,
    /// The pieces that were uploaded to it.
    pub(crate) pieces: Arc<Mutex<Vec<Vec<u8>>>>,
    pub(crate) stop: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Member {
    fn start(identity: Identity, root: Root, answer: impl Answer) -> Self {
        let (asked, pieces, stop) = <(Arc<_>, Arc<_>, CancellationToken)>::default();
        let control = Arc::new(Control {
            answer: Box::new(answer),
            asked: Arc::clone(&asked),
            pieces: Arc::clone(&pieces),
        });
        let (tell, told) = std::sync::mpsc::channel();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let any = "127.0.0.1:0".parse().expect("an address");
                let endpoint =
                    Endpoint::bind(any, identity, Directory::new(root)).expect("a socket");
                tell.send(endpoint.local_addr().expect("an address")).expect("a test");
                let handlers = Handlers::new().on(Alpn::Control, control);
                endpoint.serve(handlers, stopped).await.expect("it serves");
            });
        });
        let address = told.recv().expect("an address");
        Self { address, asked, pieces, stop, thread: Some(thread) }
    }

    /// The statements that were handed in.
    pub(crate) fn submitted(&self) -> Vec<Vec<u8>> {
        let asked = self.asked.lock().expect("no panic");
        let envelope = |request: &ControlRequest| match request {
            ControlRequest::Submit { envelope } => Some(envelope.clone()),
            _ => None,
        };
        asked.iter().filter_map(envelope).collect()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

struct Control {
    answer: Box<dyn Fn(&ControlRequest) -> ControlReply + Send + Sync>,
    asked: Arc<Mutex<Vec<ControlRequest>>>,
    pieces: Arc<Mutex<Vec<Vec<u8>>>>,
}

#[async_trait::async_trait]
impl Handler for Control {
    async fn connection(&self, connection: Connection) {
        while let Ok((mut send, mut recv)) = connection.accept_bi().await {
            let request = frame::recv_json(&mut recv, CONTROL_BYTES_MAX, WITHIN).await;
            let Ok(request) = request else { continue };
            self.asked.lock().expect("no panic").push(request);
            let request =
                self.asked.lock().expect("no panic").last().cloned().expect("it is there");
            let reply = (self.answer)(&request);
            let _ = frame::send_json(&mut send, &reply, CONTROL_BYTES_MAX, WITHIN).await;
            let (ControlReply::Send { pieces }, ControlRequest::Publish { release, manifest }) =
                (reply, request)
            else {
                continue;
            };
            let manifest = proto::artifact::Manifest::parse(&manifest).expect("a manifest");
            for index in pieces {
                let bytes = manifest.pieces[index as usize].bytes as usize;
                let piece = frame::recv_bytes(&mut recv, bytes, WITHIN).await.expect("a piece");
                self.pieces.lock().expect("no panic").push(piece);
            }
            let id = Envelope::parse(&release, 1 << 20).expect("an envelope").id();
            let reply = ControlReply::Published { id };
            let _ = frame::send_json(&mut send, &reply, CONTROL_BYTES_MAX, WITHIN).await;
        }
    }
}

/// A file below the operator's directory.
pub(crate) fn write(fleet: &Fleet, path: &str, content: &[u8]) -> PathBuf {
    let path = fleet.dir.path().join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(&path, content).expect("a file");
    path
}
