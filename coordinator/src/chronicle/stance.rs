//! How a rollout stands, as far as people are told: the steps from one stance to the next are the events.

use proto::report::{RolloutPhase, RolloutReport};
use proto::statement::UnixTime;
use serde::{Deserialize, Serialize};

use crate::events::Kind;
use crate::store::Outcome;

/// What was told last.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stance {
    /// Nothing yet.
    #[default]
    New,
    /// It lacks signatures.
    Pending,
    Going,
    /// Until somebody acts, or a host is heard.
    Held,
    /// Until a time that is known.
    Waiting,
    Paused,
    Expired,
    Halted,
    Aborted,
    Complete,
    Superseded,
}

impl Stance {
    /// As a report says, without regard to what was told.
    const fn of(report: &RolloutReport, now: UnixTime) -> Self {
        match report.phase {
            RolloutPhase::Pending if now.0 >= report.expires.0 => Self::Expired,
            RolloutPhase::Pending => Self::Pending,
            RolloutPhase::Running if report.held_until.is_some() => Self::Waiting,
            RolloutPhase::Running if report.held => Self::Held,
            RolloutPhase::Running => Self::Going,
            RolloutPhase::Paused => Self::Paused,
            RolloutPhase::Halted => Self::Halted,
            RolloutPhase::Aborted => Self::Aborted,
            RolloutPhase::Complete => Self::Complete,
            RolloutPhase::Superseded => Self::Superseded,
            RolloutPhase::Expired => Self::Expired,
        }
    }

    /// What is to be told after this one. `lasts`: whether a stance that nobody brought about has been
    /// seen for long enough: people and proofs count at once.
    ///
    /// A stop is the end, whatever comes after it; so is completion, unless it is taken back. Without a
    /// proof a rollout seems to have expired, or to have been replaced, so those are not the end if one
    /// comes. One that expired with the root goes on with the next root.
    pub(super) fn next(
        self,
        report: &RolloutReport,
        now: UnixTime,
        lasts: &mut dyn FnMut(Self) -> bool,
    ) -> Self {
        let in_force = report.phase != RolloutPhase::Pending;
        match (self, Self::of(report, now)) {
            (told, seen) if told == seen => told,
            (told @ (Self::Halted | Self::Aborted), _) => told,
            (_, seen @ (Self::Halted | Self::Aborted | Self::Complete)) => seen,
            (told @ (Self::Complete | Self::Superseded), _) => told,
            (Self::New, Self::Pending) => Self::Pending,
            // It was in force, and what it lacks now no member of the fleet goes by.
            (told, Self::Pending) => told,
            // It had ended before.
            (told @ Self::Expired, Self::Superseded | Self::Paused) => told,
            (told @ Self::Expired, _) => if_lasting(lasts, Self::Going, told),
            (_, Self::Paused) => Self::Paused,
            (Self::Paused, Self::Held | Self::Waiting | Self::Going) => Self::Going,
            (Self::New | Self::Pending, seen @ Self::Going) => seen,
            (Self::New | Self::Pending, seen) if in_force => if_lasting(lasts, seen, Self::Going),
            (told, seen) => if_lasting(lasts, seen, told),
        }
    }

    /// What is told of the step from `before` to this one; none: nothing.
    pub(super) const fn told_after(self, before: Self) -> Option<Kind> {
        match (before, self) {
            (Self::Held | Self::Waiting | Self::Expired, Self::Going) => Some(Kind::RolloutMoves),
            // Whoever ended the pause is told of, see `acts`.
            (_, Self::New | Self::Going) => None,
            (_, Self::Pending) => Some(Kind::ApprovalWanted),
            (_, Self::Held) => Some(Kind::RolloutHeld),
            (_, Self::Waiting) => Some(Kind::RolloutWaits),
            (_, Self::Paused) => Some(Kind::RolloutPaused),
            (_, Self::Expired) => Some(Kind::RolloutExpired),
            (_, Self::Halted) => Some(Kind::RolloutHalted),
            (_, Self::Aborted) => Some(Kind::RolloutAborted),
            (_, Self::Complete) => Some(Kind::RolloutComplete),
            (_, Self::Superseded) => Some(Kind::RolloutSuperseded),
        }
    }

    /// How it ended, if it has.
    pub(super) const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::New | Self::Pending | Self::Going | Self::Held | Self::Waiting | Self::Paused => {
                None
            }
            Self::Expired => Some(Outcome::Expired),
            Self::Halted => Some(Outcome::Halted),
            Self::Aborted => Some(Outcome::Aborted),
            Self::Complete => Some(Outcome::Complete),
            Self::Superseded => Some(Outcome::Superseded),
        }
    }

    /// Whether a proof may still come that it had come to another end.
    pub(super) const fn may_be_proven(self) -> bool {
        matches!(self, Self::Superseded | Self::Expired)
    }

    /// Whether its hosts go back, or may.
    pub(super) const fn is_stopped(self) -> bool {
        matches!(self, Self::Halted | Self::Aborted)
    }
}

fn if_lasting(lasts: &mut dyn FnMut(Stance) -> bool, seen: Stance, told: Stance) -> Stance {
    if lasts(seen) { seen } else { told }
}
