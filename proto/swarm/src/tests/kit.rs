//! Fixed keys, statements signed by them, artifacts of noise.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use net::{Directory, Identity, certificate};
use proto::artifact::{Entry, FORMAT, Manifest, Piece, What};
use proto::certificate::{Certificate, Claim};
use proto::dsse::Envelope;
use proto::receipt::{Cause, Receipt, State};
use proto::statement::{
    Action, ArtifactRef, CohortHost, Direction, Directive, Freeze, Health, Host, KeyEntry,
    OnFailure, Payload, Policy, RULES, Release, Revocation, Role, RoleKeys, Rollout, Root, Run,
    Source, Target, Wave,
};
use proto::{Digest, Env, HostId, KeyId, PublicKey, Scope, UnixTime};

/// A time for everything that needs one; TLS certificates must be valid today.
pub(super) fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixTime(since.as_secs())
}

/// A key that is the same in every run.
pub(super) fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(Digest::of(name.as_bytes()).as_bytes())
}

pub(super) fn key_id(name: &str) -> KeyId {
    KeyId::of(&PublicKey::of(&key(name)))
}

pub(crate) fn host_id(name: &str) -> HostId {
    HostId::of(&PublicKey::of(&key(name)))
}

pub(super) fn scope() -> Scope {
    Scope { service: "web".parse().unwrap(), env: "prod".parse().unwrap() }
}

/// The keys of the fleet are named after their roles; `second` may stand in for an approver.
pub(super) fn root(version: u32, expires_s: u64) -> Root {
    let env: Env = "prod".parse().unwrap();
    let names = ["root", "publish", "admit", "deploy", "approve", "second", "host-ca"];
    let entry = |name: &&str| {
        let entry = KeyEntry { key: PublicKey::of(&key(name)), owner: name.parse().unwrap() };
        (key_id(name), entry)
    };
    let held = |role: Role, names: &[&str]| {
        let keys = names.iter().map(|name| key_id(name)).collect();
        (role, RoleKeys { keys, threshold: 1 })
    };
    let policy = Policy { coordinator_may_roll_back: true, ..Policy::default() };
    Root {
        fleet: "test-00000000".parse().unwrap(),
        version,
        expires: UnixTime(expires_s),
        keys: names.iter().map(entry).collect(),
        roles: [
            held(Role::Root, &["root"]),
            held(Role::Publish, &["publish"]),
            held(Role::Admit, &["admit"]),
            held(Role::Deploy(env.clone()), &["deploy"]),
            held(Role::Approve(env.clone()), &["approve", "second"]),
            held(Role::HostCa, &["host-ca"]),
        ]
        .into(),
        environments: [(env, policy)].into(),
        critical: vec![],
    }
}

/// The statement with signatures of these keys.
pub(super) fn signed<P: Payload>(payload: &P, signers: &[&str]) -> Envelope {
    let mut envelope = payload.envelope();
    signers.iter().for_each(|name| envelope.sign(&key(name)));
    envelope
}

/// The first root, the same in every test of a run.
pub(super) fn genesis() -> Envelope {
    // Far in the future, and not from a clock: all nodes must pin the same one.
    signed(&root(1, 1 << 40), &["root"])
}

pub(super) fn host(name: &str, issued_s: u64) -> Host {
    let key = PublicKey::of(&key(name));
    let (id, name) = (HostId::of(&key), name.parse().unwrap());
    let (fleet, issued) = (root(1, 1).fleet, UnixTime(issued_s));
    Host { fleet, id, key, name, labels: BTreeMap::new(), issued, critical: vec![] }
}

/// Knows the root and the hosts with these names.
pub(super) fn directory(hosts: &[&str]) -> Directory {
    let directory = Directory::new(root(1, 1 << 40));
    hosts.iter().for_each(|name| directory.add_host(host(name, 0)));
    directory
}

pub(super) fn identity(name: &str) -> Identity {
    if name == "admit" {
        return Identity::person(key(name)).unwrap();
    }
    let der = certificate::issue(&key("host-ca"), &host(name, 0), now(), 1).unwrap();
    Identity::host(key(name), der).unwrap()
}

pub(super) fn release(version: &str, artifact: ArtifactRef) -> Release {
    let run =
        Run { start: "true".to_owned(), stop: "true".to_owned(), timeout_s: 1, ..Run::default() };
    Release {
        fleet: root(1, 1).fleet,
        service: scope().service,
        version: version.parse().unwrap(),
        artifact,
        source: Source::default(),
        created: UnixTime(1),
        run,
        health: Health::default(),
        critical: vec![],
    }
}

/// A release nobody fetches.
pub(super) fn some_release(version: &str) -> Envelope {
    let artifact = ArtifactRef {
        id: Digest::of(version.as_bytes()),
        manifest_bytes: 1,
        bytes: 1,
        raw_bytes: 1,
    };
    signed(&release(version, artifact), &["publish", "admit"])
}

/// A rollout forward over the hosts with these names, unsigned.
pub(super) fn rollout(
    epoch: u64,
    previous: Option<Digest>,
    to: &Envelope,
    version: &str,
    approvals: u8,
) -> Rollout {
    let cohort = ["one", "two"].map(|name| CohortHost {
        id: host_id(name),
        key: PublicKey::of(&key(name)),
        zone: "default".parse().unwrap(),
    });
    Rollout {
        fleet: root(1, 1).fleet,
        service: scope().service,
        env: scope().env,
        epoch,
        previous,
        from: None,
        to: Target { release: to.id(), version: version.parse().unwrap() },
        direction: Direction::Forward,
        rules: RULES,
        cohort: cohort.into(),
        waves: vec![Wave { hosts: 2, wait_s: 0, failed_max: 0, unreachable_max: 0 }],
        max_unavailable: 1,
        in_flight_max: None,
        windows: Vec::new(),
        limits: None,
        retry: false,
        adopt: false,
        on_failure: OnFailure::Rollback,
        approvals,
        created: UnixTime(epoch),
        expires: UnixTime(1 << 40),
        author: key_id("deploy"),
        reason: format!("epoch {epoch}"),
        critical: vec![],
    }
}

pub(super) fn directive(rollout: Digest, sequence: u64, action: Action) -> Envelope {
    directive_about(rollout, sequence, action, None)
}

/// Nobody waits for the host with this name any more.
pub(super) fn skip(rollout: Digest, name: &str) -> Envelope {
    skip_numbered(rollout, name, 1)
}

pub(super) fn skip_numbered(rollout: Digest, name: &str, sequence: u64) -> Envelope {
    directive_about(rollout, sequence, Action::Skip, Some(host_id(name)))
}

fn directive_about(
    rollout: Digest,
    sequence: u64,
    action: Action,
    host: Option<HostId>,
) -> Envelope {
    let directive = Directive {
        fleet: root(1, 1).fleet,
        rollout,
        sequence,
        action,
        wave: None,
        host,
        author: key_id("deploy"),
        created: UnixTime(2),
        reason: String::new(),
        critical: vec![],
    };
    signed(&directive, &["deploy"])
}

/// A freeze of the whole environment.
pub(super) fn freeze(sequence: u64, until_s: u64) -> Envelope {
    let freeze = Freeze {
        fleet: root(1, 1).fleet,
        env: scope().env,
        host: None,
        sequence,
        until: UnixTime(until_s),
        author: key_id("deploy"),
        created: UnixTime(2),
        reason: String::new(),
        critical: vec![],
    };
    signed(&freeze, &["deploy"])
}

pub(super) fn revocation(name: &str) -> Envelope {
    let removal = Revocation {
        fleet: root(1, 1).fleet,
        env: scope().env,
        host: host_id(name),
        author: key_id("deploy"),
        created: UnixTime(2),
        reason: "sold".to_owned(),
        critical: vec![],
    };
    signed(&removal, &["deploy"])
}

/// A certificate with a receipt of each host of [`rollout`]; all in `state`.
pub(super) fn certificate(rollout: Digest, claim: Claim, state: State, note: &str) -> Certificate {
    let receipt = |name: &str| {
        let receipt = Receipt {
            rollout,
            host: host_id(name),
            sequence: 1,
            attempt: 1,
            state,
            cause: (state == State::Reverted).then_some(Cause::Release),
            note: note.to_owned(),
        };
        receipt.sign(&key(name))
    };
    let receipts = ["one", "two"].map(receipt).into();
    Certificate { rollout, claim, receipts, excuses: Vec::new() }
}

/// An artifact of incompressible noise.
pub(super) struct Artifact {
    pub(super) about: ArtifactRef,
    pub(super) manifest: Vec<u8>,
    pub(super) pieces: Vec<Vec<u8>>,
}

pub(super) fn artifact(pieces: u32, piece_bytes: usize) -> Artifact {
    artifact_of("noise", pieces, piece_bytes)
}

/// Its only file has this name.
pub(super) fn artifact_of(name: &str, pieces: u32, piece_bytes: usize) -> Artifact {
    let noise = |index: u32| {
        let mut bytes = vec![0; piece_bytes];
        let seed = [index.to_be_bytes(), pieces.to_be_bytes()].concat();
        blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut bytes);
        bytes
    };
    let pieces: Vec<Vec<u8>> = (0..pieces).map(noise).collect();
    let piece = |bytes: &Vec<u8>| Piece {
        bytes: u32::try_from(bytes.len()).unwrap(),
        digest: Digest::of(bytes),
    };
    let piece_raw_bytes = 1 << 20;
    let file = What::File {
        bytes: pieces.len() as u64 * u64::from(piece_raw_bytes),
        digest: Digest::of(b"never unpacked"),
        executable: false,
    };
    let manifest = Manifest {
        format: FORMAT,
        entries: vec![Entry { path: name.to_owned(), what: file }],
        piece_raw_bytes,
        pieces: pieces.iter().map(piece).collect(),
    };
    let (bytes, raw_bytes) = (manifest.bytes(), manifest.raw_bytes());
    let manifest = manifest.to_bytes();
    let (id, manifest_bytes) = (Digest::of(&manifest), manifest.len() as u64);
    Artifact { about: ArtifactRef { id, manifest_bytes, bytes, raw_bytes }, manifest, pieces }
}
