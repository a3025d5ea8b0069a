//! A small fleet to attack: fixed keys by role, and statements that are right until a test bends
//! them.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use proto::dsse::Envelope;
use proto::statement::{
    Action, ArtifactRef, CohortHost, Direction, Directive, Health, Host, KeyEntry, OnFailure,
    Payload, Policy, RULES, Release, Role, RoleKeys, Rollout, Root, Run, Source, Target, Wave,
};
use proto::trust::{Chain, Refusal, Standing, Verified, verify};
use proto::{Digest, HostId, KeyId, PublicKey, UnixTime};

/// When everything here happens.
pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

/// Keys by a byte, and who holds them.
pub(crate) const ROOT: u8 = 1;
pub(crate) const ROOT_2: u8 = 2;
pub(crate) const ROOT_3: u8 = 3;
pub(crate) const CI: u8 = 10;
pub(crate) const COORDINATOR: u8 = 20;
pub(crate) const HOST_CA: u8 = 21;
/// Deploys to production.
pub(crate) const ANNA: u8 = 30;
/// Deploys to production and approves there.
pub(crate) const BERT: u8 = 31;
/// Approves in production.
pub(crate) const CLEO: u8 = 32;
/// Anna's second key: approves in production.
pub(crate) const ANNA_TOO: u8 = 33;
/// Deploys to staging, and nothing else.
pub(crate) const DIRK: u8 = 34;
/// For emergencies.
pub(crate) const EMMA: u8 = 35;
/// Hosts of production; `HOSTS + n`.
pub(crate) const HOSTS: u8 = 100;
/// Nobody.
pub(crate) const STRANGER: u8 = 250;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(seed: u8) -> PublicKey {
    PublicKey::of(&key(seed))
}

pub(crate) fn key_id(seed: u8) -> KeyId {
    KeyId::of(&public(seed))
}

pub(crate) fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// Version 1: threshold 1 everywhere, no policy but that the coordinator may roll back.
pub(crate) fn root() -> Root {
    let people = [
        (ROOT, "root-1"),
        (ROOT_2, "root-2"),
        (ROOT_3, "root-3"),
        (CI, "ci"),
        (COORDINATOR, "coordinator"),
        (HOST_CA, "coordinator"),
        (ANNA, "anna"),
        (BERT, "bert"),
        (CLEO, "cleo"),
        (ANNA_TOO, "anna"),
        (DIRK, "dirk"),
        (EMMA, "emma"),
    ];
    let entry = |(seed, owner)| {
        let key = public(seed);
        (KeyId::of(&key), KeyEntry { key, owner: parsed(owner) })
    };
    let roles = [
        ("root", &[ROOT][..]),
        ("publish", &[CI]),
        ("admit", &[COORDINATOR]),
        ("host-ca", &[HOST_CA]),
        ("deploy:production", &[ANNA, BERT]),
        ("approve:production", &[BERT, CLEO, ANNA_TOO]),
        ("deploy:staging", &[DIRK]),
        ("emergency", &[EMMA]),
    ];
    let role = |(role, keys): (&str, &[u8])| (parsed::<Role>(role), holders(1, keys));
    let policy = Policy { coordinator_may_roll_back: true, ..Policy::default() };
    Root {
        fleet: parsed("demo-0a1b2c3d"),
        version: 1,
        expires: NOW.plus_s(1_000_000),
        keys: people.into_iter().map(entry).collect(),
        roles: roles.into_iter().map(role).collect(),
        environments: ["production", "staging"]
            .into_iter()
            .map(|env| (parsed(env), policy.clone()))
            .collect(),
        critical: Vec::new(),
    }
}

pub(crate) fn holders(threshold: u8, keys: &[u8]) -> RoleKeys {
    RoleKeys { keys: keys.iter().map(|seed| key_id(*seed)).collect(), threshold }
}

pub(crate) fn policy_of_production(root: &mut Root) -> &mut Policy {
    root.environments.get_mut(&parsed("production")).unwrap()
}

pub(crate) fn host(seed: u8) -> Host {
    let key = public(seed);
    let labels = [("env", "production"), ("zone", "r1")];
    Host {
        fleet: root().fleet,
        id: HostId::of(&key),
        key,
        name: parsed("host"),
        labels: labels.into_iter().map(|(key, value)| (parsed(key), parsed(value))).collect(),
        issued: NOW,
        critical: Vec::new(),
    }
}

pub(crate) fn release(version: &str) -> Release {
    Release {
        fleet: root().fleet,
        service: parsed("web"),
        version: parsed(version),
        artifact: ArtifactRef {
            id: Digest::of(version.as_bytes()),
            manifest_bytes: 100,
            bytes: 1_000,
            raw_bytes: 2_000,
        },
        source: Source::default(),
        created: NOW,
        run: Run {
            start: "bin/web &".to_owned(),
            stop: "pkill web".to_owned(),
            timeout_s: 30,
            ..Run::default()
        },
        health: Health::default(),
        critical: Vec::new(),
    }
}

/// A side of a rollout that names `release(version)`.
pub(crate) fn target(version: &str) -> Target {
    Target { release: release(version).envelope().id(), version: parsed(version) }
}

pub(crate) fn cohort(hosts: u8) -> Vec<CohortHost> {
    let member = |place| {
        let key = public(HOSTS + place);
        CohortHost { id: HostId::of(&key), key, zone: parsed("r1") }
    };
    (0..hosts).map(member).collect()
}

/// The first rollout of web in production, by Anna: nothing to version 1.
pub(crate) fn rollout() -> Rollout {
    let wave = |hosts, wait_s| Wave { hosts, wait_s, failed_max: 0, unreachable_max: 0 };
    Rollout {
        fleet: root().fleet,
        service: parsed("web"),
        env: parsed("production"),
        epoch: 1,
        previous: None,
        from: None,
        to: target("1"),
        direction: Direction::Forward,
        rules: RULES,
        cohort: cohort(4),
        waves: vec![wave(1, 60), wave(4, 0)],
        max_unavailable: 1,
        in_flight_max: None,
        windows: Vec::new(),
        limits: None,
        retry: false,
        adopt: false,
        on_failure: OnFailure::Rollback,
        approvals: 0,
        created: NOW,
        expires: NOW.plus_s(3_600),
        author: key_id(ANNA),
        reason: String::new(),
        critical: Vec::new(),
    }
}

/// The rollout after `previous`: from where that led, to `version`.
pub(crate) fn next(previous: &Rollout, version: &str) -> Rollout {
    Rollout {
        epoch: previous.epoch + 1,
        previous: Some(previous.envelope().id()),
        from: Some(previous.to.clone()),
        to: target(version),
        ..previous.clone()
    }
}

/// The rollout that undoes `previous`, by `author`.
pub(crate) fn undo(previous: &Rollout, author: u8) -> Rollout {
    let to = previous.from.clone().unwrap();
    Rollout {
        to,
        direction: Direction::Rollback,
        author: key_id(author),
        ..next(previous, previous.to.version.as_str())
    }
}

pub(crate) fn directive(of: &Rollout, sequence: u64, action: Action, author: u8) -> Directive {
    Directive {
        fleet: of.fleet.clone(),
        rollout: of.envelope().id(),
        sequence,
        action,
        wave: (action == Action::Promote).then_some(1),
        host: None,
        author: key_id(author),
        created: NOW,
        reason: String::new(),
        critical: Vec::new(),
    }
}

/// The envelope of `payload`, signed by these keys.
pub(crate) fn signed<P: Payload>(payload: &P, by: &[u8]) -> Vec<u8> {
    let mut envelope = payload.envelope();
    for seed in by {
        envelope.sign(&key(*seed));
    }
    envelope.to_bytes()
}

/// The envelope of any bytes as a payload of this type, signed by these keys.
pub(crate) fn signed_raw(payload_type: &str, payload: &[u8], by: &[u8]) -> Vec<u8> {
    let mut envelope = Envelope::new(payload_type, payload.to_vec());
    for seed in by {
        envelope.sign(&key(*seed));
    }
    envelope.to_bytes()
}

/// A member that has learned the root alone.
pub(crate) fn chain_of(root: &Root) -> Chain {
    Chain::genesis(&signed(root, &[ROOT, ROOT_2, ROOT_3]), root.envelope().id()).unwrap()
}

/// A member that knows versions 1 to 3 of web, and of `rollouts` what `by` have signed.
pub(crate) fn chain_with(root: &Root, rollouts: &[&Rollout]) -> Chain {
    let mut chain = chain_of(root);
    for version in ["1", "2", "3"] {
        take(&mut chain, &signed(&release(version), &[CI, COORDINATOR])).unwrap();
    }
    for rollout in rollouts {
        let verified =
            take(&mut chain, &signed(*rollout, &[ANNA, BERT, CLEO, COORDINATOR])).unwrap();
        assert_eq!(verified.standing, Standing::Effective);
    }
    chain
}

/// Verifies and learns.
pub(crate) fn take(chain: &mut Chain, bytes: &[u8]) -> Result<Verified, Refusal> {
    let verified = verify(chain, bytes, NOW)?;
    chain.learn(&verified);
    Ok(verified)
}

/// What verifying comes to, for tables: `effective`, `pending: ...`, or the refusal's text.
pub(crate) fn outcome(chain: &Chain, bytes: &[u8]) -> String {
    match verify(chain, bytes, NOW) {
        Ok(Verified { standing: Standing::Effective, .. }) => "effective".to_owned(),
        Ok(Verified { standing: Standing::Pending { missing }, .. }) => {
            format!("pending: {missing}")
        }
        Err(refusal) => format!("refused: {refusal}"),
    }
}

/// A row of a table holds if the outcome contains what it expects.
pub(crate) fn check_rows(rows: &[(&str, String, &str)]) {
    for (name, outcome, expected) in rows {
        assert!(outcome.contains(expected), "{name}: {outcome}, expected {expected:?}");
    }
}

/// A map of receipts' owner for certificates.
pub(crate) fn by_host<T>(entries: impl IntoIterator<Item = (u8, T)>) -> BTreeMap<HostId, T> {
    entries.into_iter().map(|(place, what)| (HostId::of(&public(HOSTS + place)), what)).collect()
}
