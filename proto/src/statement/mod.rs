//! What may be signed: `root`, `host`, `release`, `rollout`, `directive`, `freeze`, `revocation` (R1).
//!
//! A payload is JSON; its kind is the envelope's payload type. Fields that a reader does not know
//! are ignored, unless the payload lists them under `critical`: then the statement is refused.
//! (`heads` has no statement: members gossip them, see [`crate::record::HostRecord`].)

mod directive;
mod freeze;
mod host;
mod moment;
mod range;
mod release;
mod revocation;
mod rollout;
mod root;
mod share;
mod window;

use std::fmt;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

pub use directive::{Action, Directive};
pub use freeze::{COORDINATOR_FREEZE_S_MAX, FREEZE_S_MAX, Freeze};
pub use host::{Host, check_label};
pub use range::within;
pub use release::{ArtifactRef, Health, Hook, Release, Run, Source, is_user_name};
pub use revocation::Revocation;
pub use rollout::{CohortHost, Direction, Limits, OnFailure, Rollout, Target, Wave};
pub use root::{KeyEntry, Policy, Role, RoleKeys, Root};
pub use share::Share;
pub use window::{WINDOWS_MAX, Window};

use crate::dsse::Envelope;
use crate::id::FleetId;

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
/// Highest sequence of a directive that the coordinator alone signs: a stolen key must not pause with
/// a number that no resume can exceed (R3).
pub const COORDINATOR_SEQUENCE_MAX: u64 = 1 << 52;
/// The rules of this version (R20): it follows rollouts that sign this number.
pub const RULES: u32 = 1;

/// Seconds since 1970-01-01 UTC. Only for windows, expiry and certificates, never to compare what
/// two hosts did (R8).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UnixTime(pub u64);

impl UnixTime {
    pub const fn plus_s(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// The date and the second of the day. After Howard Hinnant, "chrono-compatible low-level date
    /// algorithms", `civil_from_days`, for days that are not negative.
    const fn date(self) -> ([u64; 3], u64) {
        let days = self.0 / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + (month <= 2) as u64;
        ([year, month, day], self.0 % 86_400)
    }
}

/// For people, in UTC: `2027-03-01 09:30:00`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([year, month, day], second) = self.date();
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
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
    Freeze,
    Revocation,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Root,
        Self::Host,
        Self::Release,
        Self::Rollout,
        Self::Directive,
        Self::Freeze,
        Self::Revocation,
    ];

    /// The envelope's payload type for this kind.
    pub const fn payload_type(self) -> &'static str {
        match self {
            Self::Root => "application/vnd.groundswell.root+json",
            Self::Host => "application/vnd.groundswell.host+json",
            Self::Release => "application/vnd.groundswell.release+json",
            Self::Rollout => "application/vnd.groundswell.rollout+json",
            Self::Directive => "application/vnd.groundswell.directive+json",
            Self::Freeze => "application/vnd.groundswell.freeze+json",
            Self::Revocation => "application/vnd.groundswell.revocation+json",
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
            Self::Freeze => "freeze",
            Self::Revocation => "revocation",
        }
    }

    /// Longest envelope of this kind, in bytes.
    pub const fn envelope_bytes_max(self) -> usize {
        match self {
            Self::Rollout => ENVELOPE_BYTES_MAX,
            Self::Root
            | Self::Host
            | Self::Release
            | Self::Directive
            | Self::Freeze
            | Self::Revocation => SMALL_ENVELOPE_BYTES_MAX,
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

    /// The same, signed by this key alone.
    fn signed(&self, key: &SigningKey) -> Envelope {
        let mut envelope = self.envelope();
        envelope.sign(key);
        envelope
    }
}

/// A parsed payload of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    Root(Root),
    Host(Host),
    Release(Release),
    Rollout(Rollout),
    Directive(Directive),
    Freeze(Freeze),
    Revocation(Revocation),
}

/// Why an envelope holds no statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    #[error(
        "unknown kind {0:?}: this version knows root, host, release, rollout, directive, freeze and \
         revocation"
    )]
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
            Kind::Freeze => Self::Freeze(parse(payload)?),
            Kind::Revocation => Self::Revocation(parse(payload)?),
        })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Root(_) => Kind::Root,
            Self::Host(_) => Kind::Host,
            Self::Release(_) => Kind::Release,
            Self::Rollout(_) => Kind::Rollout,
            Self::Directive(_) => Kind::Directive,
            Self::Freeze(_) => Kind::Freeze,
            Self::Revocation(_) => Kind::Revocation,
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
            Self::Freeze(freeze) => &freeze.fleet,
            Self::Revocation(revocation) => &revocation.fleet,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_agree_with_the_calendar() {
        let cases = [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_735_689_599, "2024-12-31 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ];
        for (seconds, text) in cases {
            assert_eq!(UnixTime(seconds).to_string(), text, "{seconds}");
        }
        // Far away it is no date that anybody reads, and yet one that can be shown.
        assert!(UnixTime(u64::MAX).to_string().starts_with("584554"));
    }
}
