//! The people of a simulated fleet and what they sign: keys, root, hosts, releases, rollouts.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use proto::dsse::Envelope;
use proto::statement::{
    Action, ArtifactRef, Direction, Directive, Health, Host, KeyEntry, OnFailure, Payload, Policy,
    RULES, Release, Role, RoleKeys, Rollout, Root, Run, Source, Target,
};
use proto::{Digest, Env, HostId, KeyId, PublicKey, Service, UnixTime};
use rollout::plan::Plan;

use super::machine::BEGIN;

/// A day, in seconds.
pub(crate) const DAY_S: u64 = 86_400;
const FLEET: &str = "simulated-00000000";

/// The keys that are not a host's.
pub(crate) struct Keys {
    pub(crate) root: SigningKey,
    pub(crate) admit: SigningKey,
    pub(crate) host_ca: SigningKey,
    pub(crate) publisher: SigningKey,
    pub(crate) operator: SigningKey,
}

impl Keys {
    pub(crate) fn new(seed: u64) -> Self {
        let [root, admit, host_ca, publisher, operator] =
            ["root", "admit", "host-ca", "publisher", "operator"].map(|name| key(seed, name));
        Self { root, admit, host_ca, publisher, operator }
    }
}

/// A key that is the same in every run.
pub(crate) fn key(seed: u64, name: &str) -> SigningKey {
    SigningKey::from_bytes(Digest::of(format!("{name} of {seed}").as_bytes()).as_bytes())
}

/// The form most names take; every text here is one.
pub(crate) fn named<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name of this simulation is a name")
}

/// What a payload looks like once these have signed it.
pub(crate) fn signed(payload: &impl Payload, keys: &[&SigningKey]) -> Envelope {
    let mut envelope = payload.envelope();
    keys.iter().for_each(|key| envelope.sign(key));
    envelope
}

pub(crate) fn root_of(keys: &Keys) -> Root {
    let holders = [
        (&keys.root, Role::Root),
        (&keys.admit, Role::Admit),
        (&keys.host_ca, Role::HostCa),
        (&keys.publisher, Role::Publish),
        (&keys.operator, Role::Deploy(env())),
    ];
    let id = |key: &SigningKey| KeyId::of(&PublicKey::of(key));
    let entry = |key| KeyEntry { key: PublicKey::of(key), owner: named("simulation") };
    let alone = |key| RoleKeys { keys: vec![id(key)], threshold: 1 };
    Root {
        fleet: named(FLEET),
        version: 1,
        expires: UnixTime(BEGIN.0 + 365 * DAY_S),
        keys: holders.iter().map(|(key, _)| (id(key), entry(key))).collect(),
        roles: holders.iter().map(|(key, role)| (role.clone(), alone(key))).collect(),
        environments: BTreeMap::from([(env(), Policy::default())]),
        critical: Vec::new(),
    }
}

/// The host with this number; zones take turns.
pub(crate) fn host(seed: u64, number: usize, zones: usize) -> Host {
    let key = PublicKey::of(&key(seed, &name_of(number)));
    let zone = format!("zone-{}", number % zones);
    let labels = [("env", env().to_string()), ("zone", zone)];
    Host {
        fleet: named(FLEET),
        id: HostId::of(&key),
        key,
        name: named(&name_of(number)),
        labels: labels.iter().map(|(label, value)| (named(label), named(value))).collect(),
        issued: UnixTime(BEGIN.0 - DAY_S),
        critical: Vec::new(),
    }
}

/// A host's name, in its statement and in the simulated network.
pub(crate) fn name_of(host: usize) -> String {
    format!("host-{host}")
}

pub(crate) fn service() -> Service {
    named("web")
}

pub(crate) fn env() -> Env {
    named("production")
}

/// The release of this version, with an artifact that was packed, or is never fetched.
pub(crate) fn release(version: &str, artifact: ArtifactRef) -> Release {
    Release {
        fleet: named(FLEET),
        service: service(),
        version: named(version),
        artifact,
        source: Source::default(),
        created: BEGIN,
        run: Run {
            start: "start".to_owned(),
            stop: "stop".to_owned(),
            timeout_s: 30,
            ..Run::default()
        },
        health: Health::default(),
        critical: Vec::new(),
    }
}

/// The first rollout of the service by this plan, as an operator signs it at `created`.
pub(crate) fn rollout(
    operator: &SigningKey,
    plan: Plan,
    from: Option<Target>,
    to: Target,
    created: UnixTime,
) -> Rollout {
    Rollout {
        fleet: named(FLEET),
        service: service(),
        env: env(),
        epoch: 1,
        previous: None,
        from,
        to,
        direction: Direction::Forward,
        rules: RULES,
        cohort: plan.cohort,
        waves: plan.waves,
        max_unavailable: plan.max_unavailable,
        in_flight_max: None,
        windows: Vec::new(),
        limits: None,
        retry: false,
        adopt: false,
        on_failure: OnFailure::Rollback,
        approvals: 0,
        created,
        expires: created.plus_s(DAY_S),
        author: KeyId::of(&PublicKey::of(operator)),
        reason: String::new(),
        critical: Vec::new(),
    }
}

/// What the operator says about a rollout at `created`.
pub(crate) fn directive(
    operator: &SigningKey,
    rollout: Digest,
    sequence: u64,
    action: Action,
    created: UnixTime,
) -> Directive {
    Directive {
        fleet: named(FLEET),
        rollout,
        sequence,
        action,
        wave: None,
        host: None,
        author: KeyId::of(&PublicKey::of(operator)),
        created,
        reason: String::new(),
        critical: Vec::new(),
    }
}
