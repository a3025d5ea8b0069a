//! What answers hold that no other interface tells: the rest are the reports of `swell ... --json`.

use proto::dsse::Envelope;
use proto::id::{Digest, Env, FleetId, Name, Service, Version};
use proto::report::{Fitness, FreezeReport, RolloutPhase, RolloutReport};
use proto::statement::Release;
use serde::Serialize;
use utoipa::ToSchema;

use crate::acts::{Acted, WayBack};

/// The fleet in a few numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FleetSummary {
    pub(super) fleet: FleetId,
    pub(super) root_version: u32,
    /// Hosts that belong to the fleet.
    pub(super) hosts: u64,
    /// Those of them that are heard.
    pub(super) hosts_alive: u64,
    /// Versions that were published, of all services.
    pub(super) releases: u64,
    /// The newest rollout of each service in an environment, and those that wait for signatures, by where
    /// they stand.
    pub(super) rollouts: RolloutCounts,
    pub(super) environments: Vec<EnvironmentSummary>,
    /// Freezes of environments and holds of hosts that are in force.
    pub(super) freezes: Vec<FreezeReport>,
}

/// Rollouts, counted.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct RolloutCounts {
    pub(super) all: u64,
    /// Pending, running or paused.
    pub(super) open: u64,
    /// Open, and somebody must act, or a time must come.
    pub(super) held: u64,
    /// Too many hosts failed, and not all that are heard are back.
    pub(super) halted: u64,
}

/// An environment of the root.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EnvironmentSummary {
    pub(super) env: Env,
    pub(super) hosts: u64,
    pub(super) hosts_alive: u64,
}

/// A service that was published.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceSummary {
    pub(super) service: Service,
    /// Where its newest rollout of each environment stands.
    pub(super) environments: Vec<ScopeSummary>,
}

/// A service in an environment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScopeSummary {
    pub(super) env: Env,
    pub(super) rollout: Digest,
    /// The version that the rollout brings.
    pub(super) to: Version,
    pub(super) phase: RolloutPhase,
    /// It was halted or aborted, and no host that is heard has anything of it any more.
    pub(super) rolled_back: bool,
    pub(super) held: bool,
}

impl ScopeSummary {
    pub(super) fn of(report: &RolloutReport) -> Self {
        Self {
            env: report.env.clone(),
            rollout: report.id,
            to: report.to.clone(),
            phase: report.phase,
            rolled_back: report.is_rolled_back(),
            held: report.held,
        }
    }
}

/// A version that was published.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Published {
    pub(super) version: Version,
    /// Id of its release statement.
    pub(super) release: Digest,
}

/// A release statement, as it was signed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReleaseReport {
    pub(super) id: Digest,
    /// Owners of the keys that signed it: its publisher, and the coordinator.
    pub(super) signers: String,
    #[serde(flatten)]
    pub(super) release: Release,
}

impl ReleaseReport {
    pub(super) fn of(envelope: &Envelope, release: Release, signers: String) -> Self {
        Self { id: envelope.id(), signers, release }
    }
}

/// What the coordinator signed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ActReport {
    /// Id of the statement.
    statement: Digest,
    /// The rollout that it is, or is about; none: a freeze.
    rollout: Option<Digest>,
    /// What else there is to know; may be empty.
    note: String,
}

impl From<Acted> for ActReport {
    fn from(Acted { statement, rollout, note }: Acted) -> Self {
        Self { statement, rollout, note }
    }
}

/// A rollback that nobody has signed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WayBackReport {
    /// True: it was only looked at.
    dry_run: bool,
    /// The rollout that would be undone.
    of: Option<Digest>,
    from: Option<Version>,
    to: Version,
    /// Names of the hosts that go back, in their order.
    hosts: Vec<Name>,
    /// How many take part beside them that serve it already.
    there: usize,
    left_out: Vec<LeftOut>,
    /// About how long it takes, in seconds.
    takes_s: u64,
}

/// A host that does not take part.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LeftOut {
    name: Name,
    why: Fitness,
}

impl From<WayBack> for WayBackReport {
    fn from(way: WayBack) -> Self {
        let left_out = way.left_out.into_iter().map(|(name, why)| LeftOut { name, why });
        Self {
            dry_run: true,
            of: way.rollout.previous,
            from: way.rollout.from.map(|from| from.version),
            to: way.rollout.to.version,
            hosts: way.hosts,
            there: way.there,
            left_out: left_out.collect(),
            takes_s: way.times.promote_s,
        }
    }
}

/// What came of a rollback: signed, or with `dry_run` only looked at.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum RollBackReport {
    Done(ActReport),
    Planned(WayBackReport),
}
