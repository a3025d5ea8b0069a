//! What may be signed: `root`, `host`, `release`, `rollout`, `directive` (R1).
//!
//! A payload is JSON; its kind is the envelope's payload type. Fields that a reader does not know
//! are ignored, unless the payload lists them under `critical`: then the statement is refused.
//! `freeze`, `revocation` and `heads` have reserved names and are refused as unknown until built.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::dsse::Envelope;
use crate::id::{
    Digest, Env, FleetId, HostId, KeyId, Name, ParseIdError, Scope, Service, Version, Zone,
    serde_as_text,
};
use crate::key::PublicKey;
use crate::strict;

/// Longest envelope read, in bytes: a rollout with its cohort of 10,000 hosts fits.
pub const ENVELOPE_BYTES_MAX: usize = 2 << 20;
/// Longest envelope of any kind but `rollout`, in bytes.
pub const SMALL_ENVELOPE_BYTES_MAX: usize = 128 << 10;
/// Hosts in one cohort.
pub const COHORT_MAX: usize = 10_000;
/// Waves in one rollout.
pub const WAVES_MAX: usize = 16;
/// Highest threshold of a role, and most approvals: two of them fit in one envelope.
pub const THRESHOLD_MAX: u8 = 8;
/// Longest reason or message a person may attach, in bytes.
pub const REASON_BYTES_MAX: usize = 500;
/// Highest epoch and sequence: every JSON reader has such numbers exactly.
pub const COUNTER_MAX: u64 = 1 << 53;
/// The rules of this version (R20): it follows rollouts that sign this number.
pub const RULES: u32 = 1;

/// Seconds since 1970-01-01 UTC. Only for windows, expiry and certificates, never to compare what
/// two hosts did (R8).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct UnixTime(pub u64);

impl UnixTime {
    pub const fn plus_s(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// The kinds of statements, by payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Root,
    Host,
    Release,
    Rollout,
    Directive,
}

impl Kind {
    pub const ALL: [Self; 5] =
        [Self::Root, Self::Host, Self::Release, Self::Rollout, Self::Directive];

    /// The envelope's payload type for this kind.
    pub const fn payload_type(self) -> &'static str {
        match self {
            Self::Root => "application/vnd.groundswell.root+json",
            Self::Host => "application/vnd.groundswell.host+json",
            Self::Release => "application/vnd.groundswell.release+json",
            Self::Rollout => "application/vnd.groundswell.rollout+json",
            Self::Directive => "application/vnd.groundswell.directive+json",
        }
    }

    /// The kind with this payload type.
    pub fn of(payload_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.payload_type() == payload_type)
    }

    /// The kind's name, as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Host => "host",
            Self::Release => "release",
            Self::Rollout => "rollout",
            Self::Directive => "directive",
        }
    }

    /// Longest envelope of this kind, in bytes.
    pub const fn envelope_bytes_max(self) -> usize {
        match self {
            Self::Rollout => ENVELOPE_BYTES_MAX,
            Self::Root | Self::Host | Self::Release | Self::Directive => SMALL_ENVELOPE_BYTES_MAX,
        }
    }
}

/// A statement's payload of one kind.
pub trait Payload: Serialize + for<'de> Deserialize<'de> {
    const KIND: Kind;

    /// The fields, by name, that the writer says no reader may ignore.
    fn critical(&self) -> &[String];

    /// What serde cannot see: ranges, lengths, counts. `Err` says which field and why.
    ///
    /// # Errors
    ///
    /// One line for people: the field, its value, its range.
    fn check(&self) -> Result<(), String>;

    /// An envelope of this payload without signatures.
    fn envelope(&self) -> Envelope {
        let payload = serde_json::to_vec(self).expect("payloads serialize");
        Envelope::new(Self::KIND.payload_type(), payload)
    }
}

// --- root ---

/// A role: what a key may sign. Text form `root`, `publish`, `admit`, `deploy:ENV`, ...
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The next root.
    Root,
    /// Hands in releases: CI.
    Publish,
    /// The coordinator: admits releases.
    Admit,
    /// Starts rollouts in an environment and directs them.
    Deploy(Env),
    /// Approves rollouts in an environment.
    Approve(Env),
    /// Directs every environment, may jump epochs.
    Emergency,
    /// Says who is a host: host statements and TLS certificates.
    HostCa,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Publish => f.write_str("publish"),
            Self::Admit => f.write_str("admit"),
            Self::Deploy(env) => write!(f, "deploy:{env}"),
            Self::Approve(env) => write!(f, "approve:{env}"),
            Self::Emergency => f.write_str("emergency"),
            Self::HostCa => f.write_str("host-ca"),
        }
    }
}

impl FromStr for Role {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("deploy", env)) => return Ok(Self::Deploy(env.parse()?)),
            Some(("approve", env)) => return Ok(Self::Approve(env.parse()?)),
            _ => {}
        }
        match text {
            "root" => Ok(Self::Root),
            "publish" => Ok(Self::Publish),
            "admit" => Ok(Self::Admit),
            "emergency" => Ok(Self::Emergency),
            "host-ca" => Ok(Self::HostCa),
            _ => Err(ParseIdError::new(
                "role",
                "root, publish, admit, deploy:ENV, approve:ENV, emergency or host-ca",
                text,
            )),
        }
    }
}

serde_as_text!(Role, |role| role.to_string());

/// Who holds a role and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    pub keys: Vec<KeyId>,
    /// Distinct keys that must sign; 1 to the number of keys, [`THRESHOLD_MAX`] at most.
    pub threshold: u8,
}

/// A key and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    pub key: PublicKey,
    /// A person, `ci`, `coordinator`: for the audit log.
    pub owner: Name,
}

/// What protects an environment, whatever a repository says (R2). A rollout can only be stricter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Approvals a rollout needs at least.
    pub approvals_min: u8,
    /// Waves a rollout has at least (before merging those that add no host), except to go back.
    pub stages_min: u8,
    /// Seconds of wait over all waves a rollout has at least, except to go back.
    pub bake_s_min: u32,
    /// Whether the coordinator's key alone may take a scope back to the last rollout's `from`.
    pub coordinator_may_roll_back: bool,
}

/// The keys of a fleet, their roles, and what protects its environments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    pub fleet: FleetId,
    /// 1 first; each next one is signed by the thresholds of both.
    pub version: u32,
    /// From then on nothing new is activated until a newer root arrives (R7).
    pub expires: UnixTime,
    #[serde(deserialize_with = "strict::map")]
    pub keys: BTreeMap<KeyId, KeyEntry>,
    #[serde(deserialize_with = "strict::map")]
    pub roles: BTreeMap<Role, RoleKeys>,
    #[serde(deserialize_with = "strict::map")]
    pub environments: BTreeMap<Env, Policy>,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Root {
    /// The keys that hold `role`.
    pub fn keys_of<'a>(&'a self, role: &Role) -> impl Iterator<Item = (&'a KeyId, &'a PublicKey)> {
        let ids = self.roles.get(role).map_or(&[][..], |role| &role.keys);
        ids.iter().filter_map(|id| self.keys.get_key_value(id)).map(|(id, entry)| (id, &entry.key))
    }

    fn check_role(&self, role: &Role, holders: &RoleKeys) -> Result<(), String> {
        let distinct: BTreeSet<_> = holders.keys.iter().collect();
        if distinct.len() != holders.keys.len() {
            return Err(format!("roles.{role}: a key stands twice"));
        }
        if let Some(unknown) = distinct.iter().find(|id| !self.keys.contains_key(**id)) {
            return Err(format!("roles.{role}: key {unknown} is not among the keys"));
        }
        let max = holders.keys.len().min(usize::from(THRESHOLD_MAX));
        if !(1..=max).contains(&usize::from(holders.threshold)) {
            return Err(format!(
                "roles.{role}.threshold = {}: must be 1 to {max}",
                holders.threshold
            ));
        }
        if let Role::Deploy(env) | Role::Approve(env) = role
            && !self.environments.contains_key(env)
        {
            return Err(format!("roles.{role}: there is no environment {env}"));
        }
        // Else a stolen coordinator could do more than R4 says.
        let admits = self.roles.get(&Role::Admit).map_or(&[][..], |admit| &admit.keys);
        if !matches!(role, Role::Admit | Role::HostCa)
            && let Some(key) = distinct.iter().find(|id| admits.contains(id))
        {
            return Err(format!("roles.{role}: key {key} is the coordinator's (admit)"));
        }
        Ok(())
    }

    /// Whether `key` holds `role`.
    pub fn holds(&self, role: &Role, key: &PublicKey) -> bool {
        self.keys_of(role).any(|(_, held)| held == key)
    }
}

impl Payload for Root {
    const KIND: Kind = Kind::Root;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        if self.version == 0 {
            return Err("version = 0: must be 1 or more".to_owned());
        }
        if self.keys.len() > 256 || self.environments.len() > 64 {
            return Err("more than 256 keys or 64 environments".to_owned());
        }
        for (id, entry) in &self.keys {
            if *id != KeyId::of(&entry.key) {
                return Err(format!("keys.{id}: is not the id of that key"));
            }
        }
        for (role, holders) in &self.roles {
            self.check_role(role, holders)?;
        }
        for (env, policy) in &self.environments {
            if policy.approvals_min > THRESHOLD_MAX {
                return Err(format!(
                    "environments.{env}.approvals_min = {}: must be 0 to {THRESHOLD_MAX}",
                    policy.approvals_min
                ));
            }
        }
        if !self.roles.contains_key(&Role::Root) {
            return Err("roles: nobody holds root".to_owned());
        }
        Ok(())
    }
}

// --- host ---

/// Who a host is: made when it joins, signed by the host CA (R9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub fleet: FleetId,
    /// Always [`HostId::of`] the key.
    pub id: HostId,
    pub key: PublicKey,
    /// Its name for people, as it gave it when it joined.
    pub name: Name,
    /// From its token: `env` says where it belongs, `zone` what it may fail with.
    #[serde(deserialize_with = "strict::map")]
    pub labels: BTreeMap<Name, Name>,
    pub issued: UnixTime,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Host {
    /// The environment it belongs to, if its label says one.
    pub fn env(&self) -> Option<Env> {
        self.label("env")?.parse().ok()
    }

    /// The zone it is in; `default` where no label says one.
    pub fn zone(&self) -> Zone {
        let named = self.label("zone").and_then(|zone| zone.parse().ok());
        named.unwrap_or_else(|| "default".parse().expect("a zone name"))
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(name, _)| name.as_str() == key).map(|(_, value)| value.as_str())
    }
}

impl Payload for Host {
    const KIND: Kind = Kind::Host;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        if self.id != HostId::of(&self.key) {
            return Err(format!("id = {}: is not the id of that key", self.id));
        }
        if self.labels.len() > 32 {
            return Err(format!("labels: {} of them, at most 32", self.labels.len()));
        }
        check_label::<Env>(&self.labels, "env")?;
        check_label::<Zone>(&self.labels, "zone")
    }
}

/// Labels the rules read must have values the rules can read.
///
/// # Errors
///
/// A line that names the label.
pub fn check_label<T: FromStr<Err = ParseIdError>>(
    labels: &BTreeMap<Name, Name>,
    key: &str,
) -> Result<(), String> {
    match labels.iter().find(|(name, _)| name.as_str() == key) {
        Some((_, value)) => value
            .as_str()
            .parse::<T>()
            .map(|_| ())
            .map_err(|error| format!("labels.{key}: {error}")),
        None => Ok(()),
    }
}

// --- release ---

/// What to transfer: an artifact's manifest and its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// BLAKE3 of the manifest's bytes ([`crate::artifact::Manifest`]): the artifact's id.
    pub id: Digest,
    /// Length of the manifest, in bytes.
    pub manifest_bytes: u64,
    /// Length of all pieces, compressed, in bytes.
    pub bytes: u64,
    /// Length of all files, in bytes.
    pub raw_bytes: u64,
}

/// Where a release comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub commit: Option<String>,
    pub branch: Option<String>,
    pub commit_time: Option<UnixTime>,
}

/// `[run]`: how the service is run. Commands go through `/bin/sh -c`, in the release's directory,
/// with the environment of `shared/env` and `SWELL_*`; each must return (a service it starts stays
/// behind in the background), and exit code 0 means done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Starts the service from the directory `current` points at.
    pub start: String,
    /// Stops it; must succeed when it does not run.
    pub stop: String,
    /// Longest time either command may take, in seconds; 1 to 3,600.
    #[serde(default = "Run::timeout_s_default")]
    pub timeout_s: u32,
}

impl Run {
    const fn timeout_s_default() -> u32 {
        30
    }
}

/// `[health]`: when a release counts as serving, and when as failing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// An `http://` URL that answers 200 to 299 while the service is well. `${NAME}` stands for a
    /// variable of the host's `shared/env`. None: a start command that succeeds is all there is.
    pub http: Option<String>,
    /// From start to the first good answer, in seconds; 1 to 3,600.
    pub ready_timeout_s: u32,
    /// Between two checks, in milliseconds; 100 to 60,000.
    pub interval_ms: u32,
    /// Longest wait for one answer, in milliseconds; 100 to 60,000.
    pub timeout_ms: u32,
    /// Bad answers in a row that make a failure, once it has been ready; 1 to 100.
    pub failures_max: u32,
    /// Part of the bake, at its start, in which only hard signals count, in seconds; 0 to 3,600.
    pub warmup_s: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            http: None,
            ready_timeout_s: 30,
            interval_ms: 500,
            timeout_ms: 2_000,
            failures_max: 3,
            warmup_s: 0,
        }
    }
}

/// A version of a service is this artifact, run like this (R3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub fleet: FleetId,
    pub service: Service,
    pub version: Version,
    pub artifact: ArtifactRef,
    pub source: Source,
    pub created: UnixTime,
    pub run: Run,
    pub health: Health,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Run {
    /// What is out of range, one line each, keys as in `swell.toml`.
    pub fn problems(&self) -> Vec<String> {
        let Self { start, stop, timeout_s } = self;
        let mut problems = Vec::new();
        within("run.start", start.len(), 1..=4_096, " bytes", &mut problems);
        within("run.stop", stop.len(), 1..=4_096, " bytes", &mut problems);
        within("run.timeout_s", *timeout_s, 1..=3_600, "", &mut problems);
        problems
    }
}

impl Health {
    /// What is out of range, one line each, keys as in `swell.toml`.
    pub fn problems(&self) -> Vec<String> {
        let Self { http, ready_timeout_s, interval_ms, timeout_ms, failures_max, warmup_s } = self;
        let mut problems = Vec::new();
        if let Some(http) = http
            && (!http.starts_with("http://") || http.len() > 2_048)
        {
            problems.push(format!(
                "health.http = {http:?}: must be an http:// URL of at most 2048 bytes"
            ));
        }
        within("health.ready_timeout_s", *ready_timeout_s, 1..=3_600, "", &mut problems);
        within("health.interval_ms", *interval_ms, 100..=60_000, "", &mut problems);
        within("health.timeout_ms", *timeout_ms, 100..=60_000, "", &mut problems);
        within("health.failures_max", *failures_max, 1..=100, "", &mut problems);
        within("health.warmup_s", *warmup_s, 0..=3_600, "", &mut problems);
        problems
    }
}

/// Notes `key` in `problems` unless `text` has `bytes_max` bytes at most and no control characters:
/// it is shown on terminals and in logs.
fn one_line(key: &str, text: &str, bytes_max: usize, problems: &mut Vec<String>) {
    within(key, text.len(), 0..=bytes_max, " bytes", problems);
    if text.chars().any(char::is_control) {
        problems.push(format!("{key}: must be one line without control characters"));
    }
}

/// `Err` with all problems in one line, unless there are none.
fn none_of(problems: &[String]) -> Result<(), String> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("; ")),
    }
}

/// Notes `key` in `problems` unless `value` is in `range`.
#[expect(clippy::needless_pass_by_value, reason = "callers write numbers")]
pub fn within<T: PartialOrd + fmt::Display>(
    key: &str,
    value: T,
    range: std::ops::RangeInclusive<T>,
    unit: &str,
    problems: &mut Vec<String>,
) {
    if !range.contains(&value) {
        let (start, end) = range.into_inner();
        problems.push(format!("{key} = {value}{unit}: must be {start} to {end}{unit}"));
    }
}

impl Payload for Release {
    const KIND: Kind = Kind::Release;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        let mut problems = self.run.problems();
        problems.extend(self.health.problems());
        let Source { commit, branch, commit_time: _ } = &self.source;
        for (key, text) in [("source.commit", commit), ("source.branch", branch)] {
            one_line(key, text.as_deref().unwrap_or_default(), 200, &mut problems);
        }
        none_of(&problems)
    }
}

// --- rollout ---

/// One side of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Id of the release statement.
    pub release: Digest,
    /// Its version, for people; the statement decides.
    pub version: Version,
}

/// A host of the cohort, with the key under which its receipts count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortHost {
    pub id: HostId,
    pub key: PublicKey,
    pub zone: Zone,
}

/// One stage: the next hosts of the cohort, and what must be true before the one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Hosts of the cohort, from its start, that have had their turn once this wave is open.
    /// Cumulative, strictly rising; the last one is the cohort's length.
    pub hosts: u32,
    /// Bake of each of its hosts, in seconds, and the least time before the next wave opens.
    pub wait_s: u32,
    /// Failed hosts, of all waves up to this one, that do not halt the rollout yet.
    pub failed_max: u32,
    /// Unreachable hosts, of all waves up to this one, that do not hold the next one yet.
    pub unreachable_max: u32,
}

/// What the fleet does once a rollout halts or is aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// Every host goes back to `from`.
    Rollback,
    /// No host starts anything; those that failed have gone back by themselves.
    Pause,
}

/// Whether a rollout brings something or takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Forward,
    /// An operator's rollback: no bakes, no policy on stages.
    Rollback,
}

/// One signed intent: these hosts go `from` here `to` there, by these waves, until then.
///
/// `previous` and `epoch` chain the rollouts of a scope (R5); the cohort is an order (R13, R15).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub fleet: FleetId,
    pub service: Service,
    pub env: Env,
    /// 1 for a scope's first rollout, else one more than that of `previous`.
    pub epoch: u64,
    /// Id of the rollout this one replaces.
    pub previous: Option<Digest>,
    /// The scope's stable release: every way back goes there (R12). None: the first deployment.
    pub from: Option<Target>,
    pub to: Target,
    pub direction: Direction,
    /// Must be rules the agent has ([`RULES`], R20).
    pub rules: u32,
    pub cohort: Vec<CohortHost>,
    pub waves: Vec<Wave>,
    /// Hosts of one zone that may be stopped at once; 1 or more.
    pub max_unavailable: u32,
    pub on_failure: OnFailure,
    /// Approvals needed, [`THRESHOLD_MAX`] at most; the environment's policy may ask for more.
    pub approvals: u8,
    pub created: UnixTime,
    /// No wave opens from then on.
    pub expires: UnixTime,
    /// The key that made it; never counts as an approver.
    pub author: KeyId,
    pub reason: String,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Rollout {
    pub fn scope(&self) -> Scope {
        Scope { service: self.service.clone(), env: self.env.clone() }
    }

    /// The place of a host in the cohort: its rank, 0 first.
    pub fn rank_of(&self, host: &HostId) -> Option<usize> {
        self.cohort.iter().position(|member| member.id == *host)
    }

    /// The wave of the host with this rank, 0 first.
    pub fn wave_of(&self, rank: usize) -> usize {
        self.waves.iter().take_while(|wave| wave.hosts as usize <= rank).count()
    }

    /// The ranks of the hosts of a wave; empty beyond the last.
    pub fn ranks_in(&self, wave: usize) -> std::ops::Range<usize> {
        let end =
            |wave: usize| self.waves.get(wave).map_or(self.cohort.len(), |w| w.hosts as usize);
        let start = wave.checked_sub(1).map_or(0, end);
        start..end(wave)
    }
}

impl Payload for Rollout {
    const KIND: Kind = Kind::Rollout;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        within("cohort", self.cohort.len(), 1..=COHORT_MAX, " hosts", &mut problems);
        within("waves", self.waves.len(), 1..=WAVES_MAX, "", &mut problems);
        within("max_unavailable", self.max_unavailable, 1..=u32::MAX, "", &mut problems);
        within("epoch", self.epoch, 1..=COUNTER_MAX, "", &mut problems);
        one_line("reason", &self.reason, REASON_BYTES_MAX, &mut problems);
        within("approvals", self.approvals, 0..=THRESHOLD_MAX, "", &mut problems);
        let mut reached = 0;
        for (index, wave) in self.waves.iter().enumerate() {
            if wave.hosts <= reached {
                problems.push(format!("waves.{index}.hosts = {}: must rise", wave.hosts));
            }
            reached = wave.hosts;
        }
        if reached as usize != self.cohort.len() {
            problems.push(format!("waves reach {reached} of {} hosts", self.cohort.len()));
        }
        let ids: BTreeSet<_> = self.cohort.iter().map(|host| &host.id).collect();
        if ids.len() != self.cohort.len() {
            problems.push("cohort: a host stands twice".to_owned());
        }
        if let Some(host) = self.cohort.iter().find(|host| host.id != HostId::of(&host.key)) {
            problems.push(format!("cohort: {} is not the id of its key", host.id));
        }
        if (self.epoch == 1) != self.previous.is_none() {
            problems.push("previous: none with epoch 1, and only then".to_owned());
        }
        if self.from.as_ref().is_some_and(|from| from.release == self.to.release) {
            problems.push("from and to are the same release".to_owned());
        }
        none_of(&problems)
    }
}

// --- directive ---

/// What a directive asks for (R6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    // In the order of strength: of two with one sequence, the later in this list wins.
    Resume,
    /// Opens `wave` over bake, inconclusive verdicts or unreachable hosts.
    Promote,
    /// No new activations; clocks stop.
    Pause,
    /// Latches: the rollout ends as its `on_failure` says.
    Abort,
}

/// A signed word about one open rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directive {
    pub fleet: FleetId,
    /// Id of the rollout statement.
    pub rollout: Digest,
    /// Highest wins; on a tie the stronger action.
    pub sequence: u64,
    pub action: Action,
    /// The wave a promote opens, 0 first; none otherwise.
    pub wave: Option<u32>,
    pub author: KeyId,
    pub created: UnixTime,
    pub reason: String,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Payload for Directive {
    const KIND: Kind = Kind::Directive;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        one_line("reason", &self.reason, REASON_BYTES_MAX, &mut problems);
        within("sequence", self.sequence, 1..=COUNTER_MAX, "", &mut problems);
        if self.wave.is_some() != (self.action == Action::Promote) {
            problems.push("wave: given with promote, and only then".to_owned());
        }
        none_of(&problems)
    }
}

// --- any ---

/// A parsed payload of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    Root(Root),
    Host(Host),
    Release(Release),
    Rollout(Rollout),
    Directive(Directive),
}

/// Why an envelope holds no statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    #[error("unknown kind {0:?}: this version knows root, host, release, rollout and directive")]
    UnknownKind(String),
    #[error("{kind} is malformed: {why}", kind = kind.name())]
    Malformed { kind: Kind, why: String },
    #[error("{kind} calls `{field}` critical and this version does not know it", kind = kind.name())]
    UnknownCritical { kind: Kind, field: String },
    #[error("{kind}: {why}", kind = kind.name())]
    OutOfRange { kind: Kind, why: String },
}

impl Statement {
    /// Parses the payload of `envelope`; verifies no signature.
    ///
    /// # Errors
    ///
    /// [`StatementError`]: unknown kind, malformed, an unknown critical field, a value out of range.
    pub fn parse(envelope: &Envelope) -> Result<Self, StatementError> {
        let kind = Kind::of(envelope.payload_type()).ok_or_else(|| {
            StatementError::UnknownKind(envelope.payload_type().chars().take(80).collect())
        })?;
        let payload = envelope.payload();
        Ok(match kind {
            Kind::Root => Self::Root(parse(payload)?),
            Kind::Host => Self::Host(parse(payload)?),
            Kind::Release => Self::Release(parse(payload)?),
            Kind::Rollout => Self::Rollout(parse(payload)?),
            Kind::Directive => Self::Directive(parse(payload)?),
        })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Root(_) => Kind::Root,
            Self::Host(_) => Kind::Host,
            Self::Release(_) => Kind::Release,
            Self::Rollout(_) => Kind::Rollout,
            Self::Directive(_) => Kind::Directive,
        }
    }

    /// When its signers say it was made; a root does not say.
    pub fn created(&self) -> Option<UnixTime> {
        match self {
            Self::Root(_) => None,
            Self::Host(host) => Some(host.issued),
            Self::Release(release) => Some(release.created),
            Self::Rollout(rollout) => Some(rollout.created),
            Self::Directive(directive) => Some(directive.created),
        }
    }

    /// The fleet it is for.
    pub fn fleet(&self) -> &FleetId {
        match self {
            Self::Root(root) => &root.fleet,
            Self::Host(host) => &host.fleet,
            Self::Release(release) => &release.fleet,
            Self::Rollout(rollout) => &rollout.fleet,
            Self::Directive(directive) => &directive.fleet,
        }
    }
}

fn parse<P: Payload>(bytes: &[u8]) -> Result<P, StatementError> {
    let kind = P::KIND;
    let payload: P = serde_json::from_slice(bytes)
        .map_err(|error| StatementError::Malformed { kind, why: error.to_string() })?;
    if !payload.critical().is_empty() {
        // The fields this version knows are those it writes.
        let known = serde_json::to_value(&payload).expect("payloads serialize");
        let unknown = |field: &&String| known.get(field.as_str()).is_none();
        if let Some(field) = payload.critical().iter().find(unknown) {
            let field = field.chars().take(80).collect();
            return Err(StatementError::UnknownCritical { kind, field });
        }
    }
    payload.check().map_err(|why| StatementError::OutOfRange { kind, why })?;
    Ok(payload)
}

/// An absolute number or a percentage, as people write budgets: `3`, `"3"` or `"10%"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    Count(u32),
    /// 0 to 100.
    Percent(f64),
}

impl Share {
    /// How many of `whole` this is, rounded down (R14).
    pub fn of(self, whole: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Self::Percent(percent) => (f64::from(whole) * percent / 100.0) as u32,
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Share {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let share = match text.strip_suffix('%') {
            // `contains` is false for NaN; -0.0 would be shown as such.
            Some(percent) => (percent.trim_end().parse().ok())
                .filter(|percent: &f64| (0.0..=100.0).contains(percent))
                .map(|percent| Self::Percent(percent.abs())),
            None => text.parse().ok().map(Self::Count),
        };
        share.ok_or_else(|| ParseIdError::new("share", "a number or 0% to 100%", text))
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 3 or a share such as \"10%\"")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Share, E> {
                u32::try_from(count)
                    .map(Share::Count)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(count), &self))
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Share, E> {
                u32::try_from(count)
                    .map(Share::Count)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(count), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Share, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Written)
    }
}
