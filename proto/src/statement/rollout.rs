//! `rollout`: one signed intent, by waves (R5, R12 to R14).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::range::{none_of, one_line, within};
use super::{
    COHORT_MAX, COUNTER_MAX, Kind, Payload, REASON_BYTES_MAX, THRESHOLD_MAX, UnixTime, WAVES_MAX,
    WINDOWS_MAX, Window,
};
use crate::id::{Digest, Env, FleetId, HostId, KeyId, Scope, Service, Version, Zone};
use crate::key::PublicKey;

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

/// What the requests that hosts count are held against (R24).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The share of errors that may lie above the control's, in millionths, for each wave.
    pub errors_ppm: Vec<u32>,
    /// Requests in a window below which it says nothing; 1 or more.
    pub requests_min: u32,
    /// The start of each bake in which nothing is counted, in seconds.
    pub warmup_s: u32,
    /// How slow answers may be, in percent of the control's 99th percentile; none: as they like.
    pub p99_ratio_percent: Option<u32>,
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    /// Must be rules the agent has ([`super::RULES`], R20).
    pub rules: u32,
    pub cohort: Vec<CohortHost>,
    pub waves: Vec<Wave>,
    /// Hosts of one zone that may be stopped at once; 1 or more.
    pub max_unavailable: u32,
    /// Hosts that may be between their start and their end (committed, failed, skipped) at once,
    /// 1 or more: a rolling rollout. None: as many as the waves and `max_unavailable` let.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_max: Option<u32>,
    /// When something new may start; empty: at any time. Ways back do not ask.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// What the requests that hosts count are held against; none: checks alone decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// `to` was stopped in an earlier rollout of the scope and is tried again all the same: without
    /// this, hosts that know of the stop start nothing (R17).
    #[serde(default, skip_serializing_if = "is_false")]
    pub retry: bool,
    /// `to` is what runs on the hosts already, brought there by somebody else: each takes it in as it
    /// runs, and stops and starts nothing, neither forward nor on the way back. Only where nothing
    /// was deployed before.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adopt: bool,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Rollout {
    /// The names of the fields that make it more careful and that it uses: `critical` must name them,
    /// so that no version that does not know them passes over them. (One that does not know `adopt`
    /// would stop what runs.)
    pub fn careful_fields(&self) -> Vec<String> {
        let fields = [
            ("in_flight_max", self.in_flight_max.is_some()),
            ("windows", !self.windows.is_empty()),
            ("limits", self.limits.is_some()),
            ("adopt", self.adopt),
        ];
        fields.into_iter().filter(|(_, used)| *used).map(|(name, _)| name.to_owned()).collect()
    }

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

impl Limits {
    fn check(&self, waves: usize, problems: &mut Vec<String>) {
        let Self { errors_ppm, requests_min, warmup_s, p99_ratio_percent } = self;
        if errors_ppm.len() != waves {
            problems.push(format!("limits.errors_ppm: {} for {waves} waves", errors_ppm.len()));
        }
        let highest = errors_ppm.iter().copied().max().unwrap_or(0);
        let ratio = p99_ratio_percent.unwrap_or(100);
        within("limits.errors_ppm", highest, 0..=1_000_000, "", problems);
        within("limits.requests_min", *requests_min, 1..=1_000_000_000, "", problems);
        within("limits.warmup_s", *warmup_s, 0..=3_600, "", problems);
        within("limits.p99_ratio_percent", ratio, 100..=10_000, "", problems);
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
        if let Some(in_flight_max) = self.in_flight_max {
            within("in_flight_max", in_flight_max, 1..=u32::MAX, "", &mut problems);
        }
        within("windows", self.windows.len(), 0..=WINDOWS_MAX, "", &mut problems);
        if let Some(limits) = &self.limits {
            limits.check(self.waves.len(), &mut problems);
        }
        if let Some(field) = self.careful_fields().iter().find(|name| !self.critical.contains(name))
        {
            problems.push(format!("{field}: must be called critical"));
        }
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
        if self.adopt && (self.from.is_some() || self.direction == Direction::Rollback) {
            problems.push("adopt: only forward, and where nothing was before".to_owned());
        }
        none_of(&problems)
    }
}
