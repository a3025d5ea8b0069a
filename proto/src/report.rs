//! What daemons tell people: plain values, made by coordinator and agents from what each sees.
//!
//! The same values are printed as JSON by `swell ... --json` and travel so in answers of `control`, so
//! names here are a contract, and a field that is new has a default.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::audit::{Rift, Told};
use crate::id::{Digest, Env, FleetId, HostId, Name, Service, Version, Zone};
use crate::receipt::{Cause, State};
use crate::record::{FetchSources, Lie, StallRecord};
use crate::statement::{Direction, UnixTime};

/// The fleet as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetReport {
    pub fleet: FleetId,
    /// Name of the member that answers.
    pub seen_by: Name,
    pub at: UnixTime,
    pub root_version: u32,
    pub coordinator_alive: bool,
    pub hosts: Vec<HostReport>,
    /// The newest rollout of each scope.
    pub rollouts: Vec<RolloutReport>,
    /// Rollouts that wait for signatures and may still begin: none of them is in force. Older members do
    /// not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<RolloutReport>,
    /// Environments that are or were frozen, hosts that are or were held: of each the newest word of
    /// people and of the coordinator.
    pub freezes: Vec<FreezeReport>,
    /// Hosts that those rollouts do not wait for.
    pub skips: Vec<SkipReport>,
    /// What is said of the coordinator's audit record; older members do not tell.
    #[serde(default)]
    pub audit: AuditReport,
}

/// What members say of the audit record (R30).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Where the coordinator says that it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// What hosts have noticed that must not be, each the newest.
    #[serde(default)]
    pub rifts: Vec<RiftReport>,
}

/// A host that was promised otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiftReport {
    pub host: HostId,
    pub name: Name,
    #[serde(flatten)]
    pub rift: Rift,
}

/// A freeze of an environment, or of one host of it: a hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FreezeReport {
    /// Id of the statement.
    pub statement: Digest,
    pub env: Env,
    /// The host that is held; none: all of the environment.
    pub host: Option<HostId>,
    /// Whether it holds something up now: it has not ended, and it is what counts for its target.
    pub in_force: bool,
    pub until: UnixTime,
    pub by: Name,
    pub created: UnixTime,
    pub reason: String,
}

/// A host that a rollout does not wait for: skipped, or removed from the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipReport {
    pub rollout: Digest,
    pub host: HostId,
}

/// Who removed a host from its environment, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RemovalReport {
    /// Of the statement that removes it, for whoever believes only what is signed; older members do not
    /// tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<Digest>,
    pub by: Name,
    pub created: UnixTime,
    pub reason: String,
}

/// One host, as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HostReport {
    pub id: HostId,
    pub name: Name,
    pub env: Option<Env>,
    pub zone: Zone,
    /// `key=value`, sorted.
    pub labels: Vec<String>,
    /// `ip:port`, if it was ever heard.
    pub address: Option<String>,
    /// Another `ip:port` from which its key speaks now: two machines hold it, and neither starts
    /// anything new (R9).
    pub twin: Option<String>,
    pub alive: bool,
    pub agent_version: Option<Name>,
    pub services: Vec<ServiceReport>,
    /// The hold in force.
    pub held: Option<FreezeReport>,
    /// It is no longer one of the fleet.
    pub removed: Option<RemovalReport>,
}

/// Whether a host may take part in the next rollout of a scope, and if not, why not (R13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Fitness {
    /// Heard of lately, and nothing speaks against it.
    Fit,
    /// Not heard of lately.
    Silent,
    /// It fell silent while it activated: its service may be down.
    HalfWay,
    /// Its last word in this scope is that it could not go back: a person is needed.
    RevertFailed,
    /// Two machines hold its key: it activates nothing (R9).
    Duplicate,
    /// An operator holds it: it starts nothing for a while (`swell host hold`).
    Held,
    /// Its `agent.toml` does not allow the service: its agent takes up no rollout of it (R23).
    NotAllowed,
}

impl Fitness {
    /// Whether the host is in the cohort of a rollout in this direction. A rollback is what brings
    /// a host back that could not go back before and was mended: it takes such hosts in.
    pub const fn takes_part(self, direction: Direction) -> bool {
        match self {
            Self::Fit => true,
            Self::RevertFailed | Self::Held => matches!(direction, Direction::Rollback),
            Self::Silent | Self::HalfWay | Self::Duplicate | Self::NotAllowed => false,
        }
    }
}

impl fmt::Display for Fitness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fit => "fit",
            Self::Silent => "not heard of",
            Self::HalfWay => "silent since it activated: its service may be down",
            Self::RevertFailed => "could not go back: a person is needed",
            Self::Duplicate => "two machines hold its key: one must join again",
            Self::Held => "held by an operator",
            Self::NotAllowed => "agent.toml there does not allow the service",
        })
    }
}

/// Where a host stands with a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceReport {
    pub service: Service,
    /// What it serves, as its receipts tell; none: nothing, or not known.
    pub version: Option<Version>,
    /// Where it stands in the newest rollout that it spoke of.
    pub state: State,
    pub note: String,
    /// The version that this rollout brings; none: not told.
    #[serde(default)]
    pub to: Option<Version>,
    /// How what it serves differs from what was released; none: not at all, as far as was looked.
    pub drift: Option<DriftReport>,
    /// Whether its `agent.toml` allows the service. Where it does not, the state is its last word, and
    /// `version` what it says that it still serves.
    #[serde(default = "unless_told")]
    pub allowed: bool,
}

/// A host that does not say what it allows, or a member that does not tell, stands for every service.
const fn unless_told() -> bool {
    true
}

/// What serves on a host is not what was released: shown, and left as it is (R25).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DriftReport {
    pub release: Digest,
    /// In how many places.
    pub found: u32,
    /// The first of them.
    pub first: String,
}

/// Where a rollout stands as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RolloutPhase {
    /// Signatures are missing; it has no effect.
    Pending,
    Running,
    Paused,
    /// Too many hosts failed.
    Halted,
    Aborted,
    Complete,
    /// A newer rollout of the scope took over.
    Superseded,
    /// Not complete when it expired: nothing new starts.
    Expired,
}

/// A rollout, as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutReport {
    pub id: Digest,
    pub service: Service,
    pub env: Env,
    pub epoch: u64,
    pub from: Option<Version>,
    pub to: Version,
    pub direction: Direction,
    /// Whether it takes in what runs already.
    #[serde(default)]
    pub adopt: bool,
    pub author: Name,
    pub reason: String,
    pub created: UnixTime,
    /// From then on nothing new starts: it expires, or the root in force does before it.
    pub expires: UnixTime,
    pub phase: RolloutPhase,
    /// Whether it stands still although its hosts do all that they may: it lacks signatures, is paused,
    /// frozen, outside its windows, or waits for hosts that are not heard. Somebody must act, or a time
    /// must come. Never once it has ended.
    pub held: bool,
    /// Of one that is held: when it goes on by itself, as far as that is known: windows, freezes. Older
    /// members do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<UnixTime>,
    /// When it ended, by the clock of the member that answers: its proof came, or somebody ended it.
    /// None: it goes on, or that is not known there.
    pub ended: Option<UnixTime>,
    /// Why it stands there, with numbers: the text of the very value the hosts decide by.
    pub why: String,
    /// Of one that was halted or aborted: how far its hosts have gone back. None: it had begun on none, or a
    /// newer one took over meanwhile; older members do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<BackReport>,
    /// Whether it would end without the coordinator (R21): two agents hold the statement and two
    /// whole copies of the artifact exist on hosts.
    pub self_supporting: bool,
    pub waves: Vec<WaveReport>,
    /// How long answers take on either release. None: latencies are not counted in this rollout, or
    /// nobody has said anything yet; older members do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyReport>,
    /// What the hosts that fetch its artifact come to; older members do not tell.
    #[serde(default)]
    pub fetches: FetchesReport,
    /// In the order of the cohort.
    pub hosts: Vec<StandingReport>,
}

impl RolloutReport {
    /// The first wave that is not open, 0 first: what a promote opens if no other is asked for.
    pub fn first_closed(&self) -> Option<u32> {
        let closed = self.waves.iter().position(|wave| !wave.open)?;
        u32::try_from(closed).ok()
    }

    /// Whether it was stopped, all hosts on which it had begun are heard, and none has anything of it any more:
    /// there is nothing to take back.
    pub fn has_all_gone_back(&self) -> bool {
        self.is_rolled_back() && self.back.as_ref().is_some_and(|back| back.silent == 0)
    }

    /// Whether it was stopped and no host that is heard has anything of it any more: it ended rolled back.
    pub fn is_rolled_back(&self) -> bool {
        self.back.as_ref().is_some_and(|back| back.state == BackState::RolledBack)
    }
}

/// How far the hosts have gone back on which a rollout had begun that was stopped. Those that nobody waits
/// for are not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackReport {
    pub state: BackState,
    /// Hosts that have nothing of it any more.
    pub back: u32,
    /// Hosts that are heard and go back.
    pub going: u32,
    /// Hosts that keep it: its `on_failure` is `pause`.
    pub keep: u32,
    /// Hosts that could not go back: a person is needed on each.
    pub stuck: u32,
    /// Hosts that had something of it when they were heard last.
    pub silent: u32,
    /// Hosts of the environment that are heard and serve another version than the others went back to, the
    /// first of them; and how many there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<ElsewhereReport>,
    #[serde(default)]
    pub elsewhere_found: u32,
}

impl BackReport {
    /// That has come so far, and counts nobody yet.
    pub const fn new(state: BackState) -> Self {
        Self {
            state,
            back: 0,
            going: 0,
            keep: 0,
            stuck: 0,
            silent: 0,
            elsewhere: Vec::new(),
            elsewhere_found: 0,
        }
    }
}

/// See [`BackReport`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BackState {
    /// Hosts go back, or none of them is heard.
    GoingBack,
    /// No host that is heard has anything of it.
    RolledBack,
    /// All that can have gone back; some could not.
    Stuck,
    /// Hosts keep it, as its `on_failure` says.
    Stays,
}

/// A host that serves another version than the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ElsewhereReport {
    pub host: HostId,
    pub name: Name,
    pub version: Version,
}

/// How long answers take, over the last window of all hosts of a rollout: 99 of 100 take no longer, in
/// milliseconds, by the bounds of the service's own histogram. None: nobody counts on that release, or
/// it is beyond the last bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LatencyReport {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_p99_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_p99_ms: Option<u64>,
}

/// The hosts of a rollout that fetch, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FetchesReport {
    /// Hosts that have all of the artifact.
    pub whole: u32,
    /// Hosts that fetch now.
    pub running: u32,
    /// Of these, those that get nothing.
    pub stalled: u32,
    /// What these have, what they need, and what comes to them in a second, in bytes.
    pub bytes: u64,
    pub of_bytes: u64,
    pub bytes_per_s: u64,
}

/// A wave, counted over its own hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WaveReport {
    pub hosts: u32,
    pub open: bool,
    /// Have not started: pending, fetching or staged.
    pub waiting: u32,
    pub activating: u32,
    pub baking: u32,
    pub committed: u32,
    /// Reverted or worse, for a cause of their own.
    pub failed: u32,
    /// Went back with the fleet, or had not started when it went back.
    pub returned: u32,
    /// Skipped or removed, without having committed or failed: nobody waits for them.
    pub skipped: u32,
    /// Not heard for too long, and not committed.
    pub unreachable: u32,
    pub wait_s: u32,
    /// How long the last of its hosts that bake now bakes on. None: none does, or that is not known of each;
    /// older members do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<BakeReport>,
    pub failed_max: u32,
    pub unreachable_max: u32,
    /// What the gate of the next wave makes of the requests of all hosts up to this one's, pooled
    /// (R24). None: requests are not counted in this rollout, or no gate comes after it.
    pub pooled: Option<VerdictReport>,
}

/// How long a bake lasts still, by the clock of the member that saw it begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BakeReport {
    /// In seconds; 1 at least.
    pub left_s: u32,
    /// None: the rollout is paused, and the time stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixTime>,
}

/// Whether the new release is worse by its requests (R24): the very value that was decided by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VerdictReport {
    pub finding: Finding,
    /// In words, with all its numbers.
    pub text: String,
    /// None: there was too little to compare.
    pub compared: Option<ComparedReport>,
}

/// What a verdict lets happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// Not worse, or too quiet to tell: it goes on.
    Good,
    /// Inconclusive: it waits.
    Doubt,
    Worse,
}

/// Two shares of bad answers, one held against the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ComparedReport {
    /// What is slower than this is bad; none: errors are.
    pub slower_than_ms: Option<u64>,
    /// Of the hosts on the new release.
    pub new: CountedReport,
    /// Of the hosts on the old one; none: nobody to compare with.
    pub control: Option<CountedReport>,
    /// What may lie between the two shares, or be the whole of the new one, in millionths.
    pub above_ppm: u32,
    /// How far it lies above that, in thousandths of a standard deviation.
    pub z_milli: i64,
}

/// Bad answers of so many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CountedReport {
    pub bad: u64,
    pub requests: u64,
}

/// A host of the cohort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StandingReport {
    pub host: HostId,
    pub name: Name,
    pub wave: u32,
    /// Skipped or removed: nobody waits for it.
    pub skipped: bool,
    /// None: no receipt of it has been seen.
    pub state: Option<State>,
    pub cause: Option<Cause>,
    pub note: String,
    /// Verified pieces of the artifact it has said it holds, and pieces in all.
    pub pieces: u32,
    pub of: u32,
    /// How these come to it, or came; none: not since its agent started, or it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<FetchReport>,
    /// What it says it counted over the last window, on whichever of the two releases it serves; bad
    /// are errors. None: it does not count.
    pub counted: Option<CountedReport>,
    /// Heard of lately.
    pub alive: bool,
    /// How what it serves differs from what was released.
    pub drift: Option<DriftReport>,
    /// Whether its `agent.toml` allows the service.
    #[serde(default = "unless_told")]
    pub allowed: bool,
}

impl StandingReport {
    /// Whether it will not begin: it has not, and its `agent.toml` does not allow the service.
    pub fn is_barred(&self) -> bool {
        !self.allowed && self.state.is_none_or(|state| state < State::Activating)
    }
}

/// The newest fetch of an artifact by a host, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FetchReport {
    /// Whether it goes on, as far as the host is heard.
    pub running: bool,
    /// Of the verified pieces that it has, those of earlier fetches included, and of all.
    pub bytes: u64,
    pub of_bytes: u64,
    /// Over the last seconds.
    pub bytes_per_s: u64,
    /// Members that it asks.
    pub peers: u32,
    /// Where what came in this fetch came from.
    pub from: FetchSources,
    /// For how many seconds nothing has come; of longer times, less exactly.
    pub still_s: u32,
    /// Why nothing comes, if that is known.
    pub stall: Option<StallRecord>,
    /// Whom it does not ask any more; of many, the first.
    pub dropped: Vec<DroppedReport>,
}

/// A member that lied to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DroppedReport {
    pub host: HostId,
    pub name: Name,
    pub why: Lie,
}

// --- what lies on a host's disk ---

/// What lies on a host's disk, and what becomes of it: `swell host gc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// Whether it was only looked at: then what goes has not gone yet.
    pub dry_run: bool,
    /// How many of the newest releases of a service stay in any case.
    pub keep_releases: u32,
    pub services: Vec<StoredService>,
    pub artifacts: Vec<StoredArtifact>,
    /// What is free, of the file system of each of these directories, afterwards.
    pub free: Vec<FreeReport>,
}

/// The installed releases of a service, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredService {
    pub service: Service,
    pub releases: Vec<StoredRelease>,
    /// Why nothing is cleared away now, or not all; empty: nothing is in the way.
    pub note: String,
}

/// An installed release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRelease {
    pub release: Digest,
    pub version: Version,
    /// What its tree takes up, whole blocks counted, and in files; 0: its manifest does not read.
    pub bytes: u64,
    pub files: u64,
    pub fate: Fate,
}

/// Why a release stays on the disk of a host, or that it goes (R29): the first reason that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    Current,
    /// Both ends of the last activation, as the journal knows them.
    From,
    To,
    /// A step of it is under way, or a way back from what bakes may become one.
    InFlight,
    /// Both ends of the newest rollout.
    RolloutFrom,
    RolloutTo,
    /// What serves, as far as the record knows.
    Serves,
    /// The last one that passed its bake here, or that a way back led to.
    Stable,
    /// One of the newest, `keep_releases` of them.
    Recent,
    Remove,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "stays: it runs",
            Self::From => "stays: the way back goes there",
            Self::To => "stays: the last activation was of it",
            Self::InFlight => "stays: a step of it is under way",
            Self::RolloutFrom => "stays: the newest rollout comes from it",
            Self::RolloutTo => "stays: the newest rollout brings it",
            Self::Serves => "stays: it serves",
            Self::Stable => "stays: the last that passed its bake here",
            Self::Recent => "stays: one of the newest",
            Self::Remove => "goes",
        })
    }
}

/// The pieces of an artifact, kept to be served to peers and to be staged from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredArtifact {
    pub artifact: Digest,
    /// Of its verified pieces, and of all.
    pub bytes: u64,
    pub of_bytes: u64,
    /// `SERVICE VERSION` of the releases it is the artifact of, as far as they are known here.
    pub releases: Vec<String>,
    /// None of these is needed any more.
    pub goes: bool,
}

/// What a file system has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreeReport {
    pub directory: String,
    pub bytes: u64,
    /// None: it knows no limit.
    pub files: Option<u64>,
}

// --- events ---

/// What happened in the fleet, as the coordinator saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventReport {
    /// Its number, 1 first, in the order in which they were seen.
    pub seq: u64,
    pub at: UnixTime,
    /// `wave-opened`, for instance.
    pub kind: String,
    /// `info`, `warning` or `critical`.
    #[cfg_attr(feature = "openapi", schema(pattern = "^(info|warning|critical)$"))]
    pub severity: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Env>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// One line for people.
    pub text: String,
    /// The same for scripts: an object, its keys by kind.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub detail: serde_json::Value,
}
