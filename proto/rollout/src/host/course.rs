//! What a host remembers of a rollout: the parts of its record.

use std::collections::BTreeSet;

use proto::certificate::{Claim, Standing};
use proto::receipt::{Cause, Receipt, State};
use proto::statement::{Action, Direction, OnFailure, Rollout, UnixTime};
use proto::{Digest, HostId};
use serde::{Deserialize, Serialize};

use super::transitions::Taken;
use crate::gate::{self, Order};

/// The newest rollout, as far as it concerns this host, and how far it has come here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Course {
    pub(super) id: Digest,
    pub(super) epoch: u64,
    pub(super) from: Option<Digest>,
    pub(super) to: Digest,
    pub(super) direction: Direction,
    /// `to` is taken in as it runs.
    #[serde(default)]
    pub(super) adopt: bool,
    pub(super) rules: u32,
    pub(super) on_failure: OnFailure,
    pub(super) expires: UnixTime,
    /// None: outside the cohort.
    pub(super) rank: Option<usize>,
    pub(super) bake_ms: u64,

    pub(super) state: State,
    pub(super) cause: Option<Cause>,
    pub(super) note: String,
    /// Of the last receipt signed.
    pub(super) sequence: u64,
    pub(super) attempt: u32,
    /// `to` is on this disk.
    pub(super) staged: bool,
    /// `from` is on this disk.
    pub(super) way_back: bool,
    pub(super) baked_ms: u64,
    pub(super) held_ms: u64,
    /// The release failed here by itself: this host does not try it again in this rollout.
    pub(super) boxed: bool,
    /// Failed ways back in a row.
    pub(super) revert_failures: u32,

    pub(super) order: Option<Order>,
    pub(super) halted: bool,
    pub(super) complete: bool,
    /// Hosts that nobody waits for.
    pub(super) excused: BTreeSet<HostId>,
    /// The claims whose certificates exist, or are not to be had; of the waves, the newest.
    pub(super) certified: Vec<Claim>,
    /// For whoever watches a machine; no part of the record.
    #[serde(skip)]
    pub(super) taken: Taken,
}

/// The rollout that brought what is running, when a newer one is followed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Prior {
    pub(super) rollout: Digest,
    pub(super) to: Digest,
    #[serde(default = "forward")]
    pub(super) direction: Direction,
    pub(super) on_failure: OnFailure,
    /// It halted, was aborted, or failed here: what it brought must go.
    pub(super) bad: bool,
}

/// Of records that do not say.
const fn forward() -> Direction {
    Direction::Forward
}

/// A release that is watched.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) attempt: u64,
    pub(super) rollout: Digest,
    pub(super) release: Digest,
    /// Where its activation would have gone back to; a newer rollout does not change that.
    pub(super) from: Option<Digest>,
    #[serde(default)]
    pub(super) adopt: bool,
}

/// What the caller was asked to do and has not answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) attempt: u64,
    pub(super) rollout: Digest,
    pub(super) kind: StepKind,
    /// Where a failed activation goes back to.
    pub(super) from: Option<Digest>,
    /// What shall serve afterwards.
    pub(super) to: Option<Digest>,
    /// It is taken in as it runs.
    #[serde(default)]
    pub(super) adopt: bool,
    /// Why it goes back, and the evidence.
    pub(super) cause: Option<Cause>,
    pub(super) note: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StepKind {
    Activate,
    Revert,
}

impl Course {
    /// At its start, of the host with this rank.
    pub(super) fn new(id: Digest, rollout: &Rollout, rank: Option<usize>) -> Self {
        // A host outside the cohort is watched for as long as the canaries were.
        let wave = rank.map_or(0, |rank| rollout.wave_of(rank));
        Self {
            id,
            epoch: rollout.epoch,
            from: rollout.from.as_ref().map(|from| from.release),
            to: rollout.to.release,
            direction: rollout.direction,
            adopt: rollout.adopt,
            rules: rollout.rules,
            on_failure: rollout.on_failure,
            expires: rollout.expires,
            rank,
            bake_ms: u64::from(gate::bake_s(rollout, wave)) * 1_000,
            state: State::Pending,
            cause: None,
            note: String::new(),
            sequence: 0,
            attempt: 1,
            staged: false,
            way_back: false,
            baked_ms: 0,
            held_ms: 0,
            boxed: false,
            revert_failures: 0,
            order: None,
            halted: false,
            complete: false,
            excused: BTreeSet::new(),
            certified: Vec::new(),
            taken: Taken::default(),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        (self.state, self.cause)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.order.is_some_and(|order| order.action == Action::Pause)
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.order.is_some_and(|order| order.action == Action::Abort)
    }

    /// Halted or aborted: nothing new starts in this rollout, ever.
    pub(super) fn is_stopped(&self) -> bool {
        self.halted || self.is_aborted()
    }

    /// Whether every host that runs `to` goes back to `from` (R12).
    pub(super) fn goes_back(&self) -> bool {
        self.is_stopped() && self.on_failure == OnFailure::Rollback
    }

    /// Whether a newer rollout must not leave running what this one brought.
    pub(super) fn must_go(&self) -> bool {
        self.goes_back() || self.boxed || self.state == State::RevertFailed
    }

    /// Whether the host has yet to go back, or to say that it never started.
    pub(super) fn is_to_go_back(&self) -> bool {
        self.goes_back() && !self.state.is_failed()
    }

    /// Whether nothing was started in it: what runs was brought by another one.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Pending | State::Fetching | State::Staged)
    }

    /// Whether the host has come to an end of its own.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.state, State::Committed | State::Reverted | State::RevertFailed)
    }

    /// Whether what others do in it may let this host move, or end it.
    pub(super) fn cares_for_others(&self) -> bool {
        match self.is_stopped() {
            true => self.is_to_go_back(),
            false => self.state == State::Staged || self.is_at_rest() && !self.complete,
        }
    }

    /// Whether nobody waits for the host with this rank.
    pub(super) fn is_excused(&self, plan: &Rollout, rank: usize) -> bool {
        // Nearly always nobody is: then no host is looked up.
        !self.excused.is_empty()
            && plan.cohort.get(rank).is_some_and(|host| self.excused.contains(&host.id))
    }

    /// Whether nobody need ask for this certificate: it exists, or one that says more, or none can.
    pub(super) fn is_certified(&self, claim: Claim) -> bool {
        self.certified.iter().any(|held| match (held, claim) {
            (Claim::Wave(held), Claim::Wave(wave)) => *held >= wave,
            _ => *held == claim,
        })
    }

    /// Remembers that a certificate exists; of those about waves, the newest. Whether that is news.
    pub(super) fn certify(&mut self, claim: Claim) -> bool {
        let news = !self.is_certified(claim);
        if news {
            let waves = |held: &Claim| matches!(held, Claim::Wave(_));
            self.certified.retain(|held| !(waves(held) && waves(&claim)));
            self.certified.push(claim);
        }
        news
    }

    /// What a failure here counts as.
    pub(super) fn cause_of(&self, cause: Cause) -> Cause {
        match self.complete && !self.is_stopped() {
            true => Cause::Late,
            false => cause,
        }
    }

    /// The release that must be brought to this disk next, if any. The way back is there before the
    /// service is touched (R22).
    pub(super) fn wants(&self, serving: Option<Digest>) -> Option<Digest> {
        let way_back = self.from.filter(|from| !self.way_back && serving != Some(*from));
        match self.staged || serving == Some(self.to) {
            false => Some(self.to),
            true => way_back.filter(|_| serving != Some(self.to)),
        }
    }

    pub(super) fn receipt(&self, me: &HostId) -> Receipt {
        Receipt {
            rollout: self.id,
            host: me.clone(),
            sequence: self.sequence,
            attempt: self.attempt,
            state: self.state,
            cause: self.cause,
            note: self.note.clone(),
        }
    }

    /// Takes the directive, unless one that is stronger is in force. Whether anything changed.
    pub(super) fn obey(&mut self, order: Order) -> bool {
        let stronger = |held: Order| order.strength() > held.strength();
        let newer = !self.is_aborted() && self.order.is_none_or(stronger);
        let abort = order.action == Action::Abort && !self.is_aborted();
        if newer || abort {
            self.order = Some(order);
        }
        newer || abort
    }

    /// Changes the state: the only place that does.
    pub(super) fn stand(&mut self, state: State, cause: Option<Cause>, note: &str) {
        self.taken.add(self.state, state);
        self.state = state;
        self.cause = cause;
        self.note = proto::receipt::note(note);
    }
}
