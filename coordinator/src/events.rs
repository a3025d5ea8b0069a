//! What happened in the fleet, as the coordinator saw it: what pages show live, what goes to chat and
//! pagers, and what is counted over months.
//!
//! An event is told by [`crate::audit`] neither in place of an act (who did what, by whose key) nor
//! beside it: acts are the record that must not be rewritten, events are what came of them, as far as
//! one member could see. Each has a number, 1 first, without gaps, in the order in which it was seen.

use std::fmt;
use std::str::FromStr;

use proto::id::{Digest, Env, HostId, Scope, Service};
use proto::near::advice;
use proto::report::EventReport;
use proto::statement::UnixTime;

/// One event, before it has its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: UnixTime,
    pub kind: Kind,
    /// Of which service; none: it is about hosts, a key or the fleet.
    pub service: Option<Service>,
    /// In which environment; none: a release, or what is about all of the fleet.
    pub env: Option<Env>,
    pub rollout: Option<Digest>,
    pub host: Option<HostId>,
    /// One line for people, with names and numbers: `web 1.4.0 to production: wave 2 of 4 is open`.
    pub text: String,
    /// The same for scripts: a JSON object, its keys by kind.
    pub detail: serde_json::Value,
}

/// An event in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    pub seq: u64,
    pub event: Event,
}

/// How much an event asks of people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It goes as it should.
    Info,
    /// Look before it gets worse.
    Warning,
    /// Somebody has to do something.
    Critical,
}

impl Severity {
    /// As it is written everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Event {
    /// The service and the environment, where it is of both.
    pub fn scope(&self) -> Option<Scope> {
        Some(Scope { service: self.service.clone()?, env: self.env.clone()? })
    }
}

impl Numbered {
    /// As it is told to people.
    pub fn report(self) -> EventReport {
        let Event { at, kind, service, env, rollout, host, text, detail } = self.event;
        EventReport {
            seq: self.seq,
            at,
            kind: kind.name().to_owned(),
            severity: kind.severity().name().to_owned(),
            service,
            env,
            rollout,
            host,
            text,
            detail,
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $severity:ident;)*) => {
        /// What happened. Names are a contract: configurations and receivers have them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// As it is written everywhere.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$kind => Severity::$severity,)*
                }
            }
        }
    };
}

kinds! {
    /// A version was admitted.
    ReleasePublished = "release-published", Info;
    /// A rollout lacks signatures.
    ApprovalWanted = "approval-wanted", Warning;
    /// It is in force, and its first wave may begin.
    RolloutStarted = "rollout-started", Info;
    WaveOpened = "wave-opened", Info;
    /// It stands still although its hosts do all that they may: somebody must act, or a time must come.
    RolloutHeld = "rollout-held", Warning;
    /// What held it is over.
    RolloutMoves = "rollout-moves", Info;
    RolloutPaused = "rollout-paused", Info;
    RolloutResumed = "rollout-resumed", Info;
    /// Too many hosts failed.
    RolloutHalted = "rollout-halted", Critical;
    RolloutAborted = "rollout-aborted", Warning;
    /// Of one that was halted or aborted: every host that can be heard is back.
    RolloutRolledBack = "rollout-rolled-back", Info;
    RolloutComplete = "rollout-complete", Info;
    RolloutExpired = "rollout-expired", Warning;
    /// A newer one took over before it ended.
    RolloutSuperseded = "rollout-superseded", Info;
    /// A release failed on one host.
    HostFailed = "host-failed", Warning;
    /// A host could not go back: a person is needed there.
    HostStuck = "host-stuck", Critical;
    HostLost = "host-lost", Warning;
    HostBack = "host-back", Info;
    /// What serves on a host is not what was released any more.
    HostDrifted = "host-drifted", Warning;
    /// The root ends soon: nothing new starts from then on.
    RootExpiring = "root-expiring", Critical;
    /// The certificate of the dashboard ends soon.
    CertificateExpiring = "certificate-expiring", Warning;
    /// A host that was there was removed from the fleet.
    HostRemoved = "host-removed", Info;
    /// Of a service in an environment no host is stuck any more.
    HostsMended = "hosts-mended", Info;
    /// It stands still until a time that is known: outside its windows, or frozen.
    RolloutWaits = "rollout-waits", Info;
    /// A person had the next wave opened.
    RolloutPromoted = "rollout-promoted", Info;
    /// A person has signed one that somebody else made.
    RolloutApproved = "rollout-approved", Info;
    /// Nothing new starts in an environment until a time.
    EnvironmentFrozen = "environment-frozen", Info;
    EnvironmentUnfrozen = "environment-unfrozen", Info;
    /// Nothing new starts on a host until a time.
    HostHeld = "host-held", Info;
    HostReleased = "host-released", Info;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no such kind of event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no event `{}`: {}", .0, advice(.0, names()))]
pub struct UnknownKind(String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let known = Self::ALL.iter().find(|kind| kind.name() == text);
        known.copied().ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    Kind::ALL.iter().map(|kind| kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_as_it_is_written() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(*kind));
        }
        let told = |text: &str| text.parse::<Kind>().unwrap_err().to_string();
        assert_eq!(
            told("rollout-halte"),
            "there is no event `rollout-halte`: did you mean rollout-halted?"
        );
        assert!(told("x").starts_with("there is no event `x`: there are approval-wanted, "));
    }
}
