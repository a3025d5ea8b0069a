//! One host in one scope (a service in an environment): inputs to effects, deciding alone.
//!
//! ```text
//!                    a newer rollout starts at the top, from any state;
//!                    where `to` runs already, it goes straight to baking or committed
//!
//!  Pending ──▶ Fetching ──▶ Staged ──gate open, slot free──▶ Activating ──▶ Baking ──▶ Committed
//!     │  ▲ retries, ever      │ ▲                             │  │            │ bake     │
//!     │  └──slower            │ └──retry in the lane──┐       │  │ failed,    │ failed   │ halt, abort
//!     │                       │                       │       │  │ went back  ▼          ▼ (rollback)
//!     └── halt, abort: ───────┴── never started ──┐   │       │  └────▶ (its turn, going back to `from`)
//!                                                 ▼   │       │ failed          │           │
//!                                                 Reverted ◀──┼─────────────────┘           │ failed
//!                                                             └──▶ RevertFailed ◀───────────┘
//!                                                                  │ ▲ 3 times, slower each time
//!                                                                  └─┘ then a person is needed
//! ```
//!
//! The same as a table, with what the drawing leaves out; a test compares it with [`TRANSITIONS`]:
//!
//! | from | to | when |
//! |---|---|---|
//! | pending | fetching | a release is missing on this disk |
//! | pending | staged | both releases are on this disk |
//! | pending | baking | `to` runs here already, not proven |
//! | pending | committed | `to` runs here already, proven |
//! | pending | reverted | halt, abort: it never started, or `to` ran here already |
//! | pending | revert-failed | the same, and the way back failed |
//! | fetching | pending | an older rollout was stopped, whose release still serves |
//! | fetching | fetching | the fetch failed; again, slower |
//! | fetching | staged | both releases are on this disk |
//! | fetching | baking | an older rollout's step brought `to`, not proven |
//! | fetching | committed | an older rollout's step brought `to`, proven |
//! | fetching | reverted | halt, abort: it never started, or `to` ran here already |
//! | fetching | revert-failed | the same, and the way back failed |
//! | staged | pending | an older rollout's step took the way back away, or it was stopped |
//! | staged | activating | gate open, slot free |
//! | staged | baking | an older rollout's step brought `to`, not proven |
//! | staged | committed | an older rollout's step brought `to`, proven |
//! | staged | reverted | halt, abort: it never started, or `to` ran here already |
//! | staged | revert-failed | the same, and the way back failed |
//! | activating | baking | `to` serves |
//! | activating | reverted | failed, went back |
//! | activating | revert-failed | failed, and the way back failed |
//! | baking | committed | the bake passed |
//! | baking | reverted | failed, or halt, abort |
//! | baking | revert-failed | the same, and the way back failed |
//! | committed | reverted | halt, abort |
//! | committed | revert-failed | the same, and the way back failed |
//! | reverted | pending | retry in the lane |
//! | revert-failed | reverted | went back at last |
//! | revert-failed | revert-failed | the way back failed again |
//!
//! | state | ends by itself | default action |
//! |---|---|---|
//! | pending, fetching | [`FETCH_MS_MAX`] without an answer | asks again |
//! | staged | the expiry of the rollout, or of the root | nothing new starts; reverts and the lane are not concerned |
//! | activating | [`STEP_MS_MAX`] without an answer | goes back, cause host |
//! | baking | the wave's wait, on the host's own clock, stopped by pause | commits |
//! | baked, in doubt | [`DOUBT_MS_MAX`](crate::verdict::DOUBT_MS_MAX) | goes back, unless the few requests that came are well |
//! | stopped, not its turn | those behind it are back, silent for 90 s, or had [`BACK_MS_MAX`] | goes back |
//! | going back | [`STEP_MS_MAX`] without an answer | counts as failed; again, at most 3 times |
//! | committed, reverted | a halt or abort (rollback), a newer rollout | goes back; starts at the top |
//!
//! A pause stops what is counted of the rollout: how long it was held, how long it baked. The deadlines
//! of a host's own steps go on, and so does the way back.
//!
//! **Standing.** What is known about a rollout only grows: open < complete < halted or aborted. Halt
//! and abort latch, in every state. Completion makes the rollout the scope's standing intent: hosts
//! outside the cohort and hosts that missed their turn follow in the *lane*, the former each after a
//! delay of its own, the latter by rank, few at once. Where proofs of both are about, the halt wins,
//! and an abort takes a complete rollout back, for every host in the end the same; failures of hosts
//! that know of the completion do not count ([`Cause::Late`]), and no host concludes completion while
//! one that has not ended can be heard, so that a halt beside it takes failures on hosts that were cut
//! off. A certificate of a halt that comes after that of the completion counts only hosts that the latter
//! does not show as committed ([`proves_halt_beside`]): a single canary takes nobody back weeks later.
//! Members that hold other proofs of the completion can differ about it only where hosts failed that were
//! not heard when it was complete.
//!
//! [`proves_halt_beside`]: proto::certificate::proves_halt_beside
//!
//! **The way back** goes in the reverse order of the cohort, `max_unavailable` of a zone at a time
//! ([`gate::back`](crate::gate::back)). A host that waits for its turn serves what it serves and commits
//! nothing; a failure of its own takes it back at once. A host that never ran `to` says so, as
//! reverted with the fleet, since the others count on it. Where an older rollout was stopped, and
//! the newest does not want what it brought, hosts that still serve that go first, in the same way, by
//! the newest one's order ([`gate::leave`](crate::gate::leave)): they stay pending in it until then.
//! One that learns of the stop late, or stands in no cohort, is not waited for.
//!
//! **The penalty box.** A stop that a host sees boxes the release there, whether or not it ran: without
//! a retry no later rollout starts it. A failure of its own keeps it out for the rest of the rollout.
//!
//! **Verdicts.** Where requests are counted (R24), a release that is worse look after look goes back,
//! as by a failed check. One that has baked is committed only once the caller has compared its requests
//! since this process started, and not while too few reach it or an outage is shared: for so long as
//! [`Looks`](crate::verdict::Looks) has it, then it goes back or is committed all the same. A promote of
//! a later wave passes over that doubt, and so does the end of the rollout.
//!
//! **Record.** [`Host`] without its view of others is the record on disk: small, and enough to finish
//! a bake or a way back without the network. Elapsed times are kept as amounts, never as instants.
//! After a restart the caller restores it, calls [`Host::resume`] and feeds statements and receipts
//! again. Effects are done in the order given. What follows from the record comes after
//! [`Effect::Persist`]; a step that was decided before a restart is finished after it.

mod board;
mod conclusions;
mod course;
mod moves;
mod take;
mod transitions;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use proto::certificate::Claim;
use proto::receipt::{Cause, Receipt, State};
use proto::report::Fate;
use proto::statement::{Direction, Directive, Rollout};
use proto::{Digest, HostId, Scope, UnixTime};
use serde::{Deserialize, Serialize};

use crate::Now;
use crate::gate::Gate;
use crate::verdict::Verdict;
pub use board::Board;
use course::{Course, Prior, Step, Watch};
pub use transitions::{TRANSITIONS, Taken, Transition, transition};
use view::View;

/// Longest time without an answer to [`Effect::Fetch`] before it is asked again.
pub const FETCH_MS_MAX: u64 = 600_000;
/// Longest time without an answer to [`Effect::Activate`] or [`Effect::Revert`]: as many commands of
/// the longest time a release may ask for as there are on the way forward (drain, stop, the stop that is
/// tried, start, ready, check, undrain) and then back (stop, start, ready), and ten minutes.
pub const STEP_MS_MAX: u64 = 10 * 3_600_000 + 600_000;

/// How long hosts wait for one that is heard and whose turn to go back it is, in milliseconds: a bad
/// release must not be kept by one that cannot be told of the stop, or lies.
pub const BACK_MS_MAX: u64 = 600_000;

/// What a host says that is back with the fleet and had not begun to activate.
pub const NEVER_STARTED: &str = "never started";

/// Something that happened. Inputs that are late, repeated or out of turn change nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// An effective rollout. The one with the highest epoch is followed.
    Rollout {
        id: Digest,
        rollout: Arc<Rollout>,
    },
    /// The same, with what was heard of its cohort: it takes the place of all receipts that were given
    /// before. For the machines of one process that hear the same.
    Heard {
        rollout: Digest,
        board: Arc<Board>,
    },
    /// There are two effective rollouts of this epoch (R5): neither may start anything.
    Conflict {
        epoch: u64,
    },
    /// An effective directive.
    Directive(Directive),
    /// A certificate for a claim about this rollout was verified.
    Certificate {
        rollout: Digest,
        claim: Claim,
    },
    /// The certificate that [`Effect::Certify`] asked for cannot be had: completion was proven first, and
    /// the failures that this host saw prove no halt beside it
    /// ([`proto::certificate::proves_halt_beside`]). What the host has concluded stands.
    Unprovable {
        rollout: Digest,
        claim: Claim,
    },
    /// Nobody waits for these hosts in this rollout: they were skipped or removed
    /// ([`proto::trust::Chain::excuses`]). Grows only.
    Excused {
        rollout: Digest,
        hosts: BTreeSet<HostId>,
    },
    /// The root in force, which a newer one takes the place of: nothing new starts once it has
    /// expired (R7).
    Root {
        expires: UnixTime,
    },
    /// Until when nothing new may start here, by the freezes in force; none: no freeze.
    Frozen {
        until: Option<UnixTime>,
    },
    /// A rollout of the scope to this release was stopped, and none that came later was signed to try
    /// it again: known here whether or not this host ever followed that rollout (R17).
    Boxed {
        release: Digest,
    },
    /// This host was removed from the environment: it starts nothing any more.
    Removed,
    /// Where another machine speaks with this host's key (R9); none: nowhere. Neither of the two starts
    /// anything new until that has ended; it is not kept over a restart.
    Twin {
        address: Option<SocketAddr>,
    },
    /// Whether this host is short of memory now. It is not kept over a restart.
    Pressed(bool),
    /// What the other members' records say of this host's knowledge and clock.
    Peers(Peers),
    /// A receipt that was verified under the cohort's key ([`crate::receipts::Receipts::offer`]).
    Receipt(Receipt),
    /// The release is whole and verified on this disk.
    Fetched {
        release: Digest,
    },
    FetchFailed {
        release: Digest,
        note: String,
    },
    /// The release of this attempt serves, and its health is being watched from now on.
    Activated {
        attempt: u64,
    },
    /// The release of this attempt does not serve. `reverted`: what was asked for as `from` does
    /// again; otherwise the way back failed, too.
    ActivationFailed {
        attempt: u64,
        reverted: bool,
        cause: Cause,
        note: String,
    },
    /// The release of this attempt served and failed its health checks.
    Unhealthy {
        attempt: u64,
        note: String,
    },
    /// Whether the release of this attempt, which bakes, is worse than the one before by the requests
    /// that were counted after its warmup (R24). Said look after look, about a second apart.
    Verdict {
        attempt: u64,
        verdict: Verdict,
    },
    /// Whether the hosts of the waves before this one's, all together, are worse on `to` than the
    /// control (R24). Said again and again while [`Host::awaits_pool`].
    Pooled {
        rollout: Digest,
        verdict: Verdict,
    },
    /// What [`Effect::Revert`] asked for serves again (or nothing does, where that was asked).
    Reverted {
        attempt: u64,
    },
    RevertFailed {
        attempt: u64,
        note: String,
    },
    /// A deadline passed ([`Host::next_deadline`]), or nothing at all happened.
    Tick,
}

/// This host, measured by what other members say ([`proto::record::HostRecord`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peers {
    /// Whether they know of the same newest rollouts as this host: the coordinator, or so many hosts
    /// that none can be alone in keeping something back (R7).
    pub confirmed: bool,
    /// How far the wall clock of this host is ahead of their median, in seconds; none: too few of them
    /// to tell (R8).
    pub clock_ahead_s: Option<i64>,
}

/// Something to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make the record durable, as it stands now, before going on.
    Persist,
    /// Sign this and publish it.
    Publish(Receipt),
    /// Bring the release onto this disk, whole and verified; at once [`Input::Fetched`] if it is
    /// there. May be asked again while it is under way.
    Fetch { release: Digest },
    /// Make `to` serve, starting from whatever is; on failure go back to `from` (none: stop and
    /// remove). Where `to` serves already, nothing is stopped. Repeated with the same number after a
    /// restart. From the answer [`Input::Activated`] on, watch its health.
    ///
    /// `adopt`: `to` is what runs here already, brought by somebody else. Take it in as it runs:
    /// nothing is stopped or started, on failure neither, and where nothing runs that is a failure.
    Activate { attempt: u64, from: Option<Digest>, to: Digest, adopt: bool },
    /// Go back to `to` (none: stop and remove; what was adopted is left as it was found), starting
    /// from whatever is. Ends every watch.
    Revert { attempt: u64, to: Option<Digest> },
    /// The bake of this attempt passed: make it durable that the guard at boot leaves it, and stop
    /// watching. Comes before [`Effect::Persist`], and once more if the host ends between the two.
    Commit { attempt: u64 },
    /// The claim is proven by the receipts, this host's own with them: make the certificate, store
    /// and announce it, and say so with [`Input::Certificate`]. Asked again until that comes, or
    /// [`Input::Unprovable`].
    Certify { rollout: Digest, claim: Claim },
}

/// The machine, and, without its view of others, its own record on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    me: HostId,
    scope: Scope,
    /// The release that serves here, as far as the answers to effects tell.
    running: Option<Digest>,
    /// The release that last passed its bake here, or that a way back led to.
    proven: Option<Digest>,
    /// Number of the last step; each has its own.
    attempts: u64,
    /// Highest epoch with two rollouts; 0: none.
    conflict: u64,
    /// When the root in force expires.
    #[serde(default = "never")]
    root_expires: UnixTime,
    /// Nothing new starts here before this time.
    #[serde(default)]
    frozen_until: Option<UnixTime>,
    /// The host was removed from the environment.
    #[serde(default)]
    removed: bool,
    /// Releases to which a rollout was stopped, as far as this host was told; the newest last (R17).
    #[serde(default)]
    boxes: Vec<Digest>,
    /// When other members last knew of the same newest rollouts, by this host's wall clock.
    #[serde(default)]
    confirmed: Option<UnixTime>,
    /// The newest rollout and how far it has come here. Never removed, so epochs never go back.
    course: Option<Course>,
    /// The rollout that brought what is running, if that is not the newest.
    prior: Option<Prior>,
    /// The release that is watched and has not passed its bake.
    watch: Option<Watch>,
    /// What the caller is doing.
    step: Option<Step>,
    #[serde(skip)]
    view: View,
}

/// Of a host that was not told of a root.
const fn never() -> UnixTime {
    UnixTime(u64::MAX)
}

impl Host {
    /// A host that runs nothing of this scope and knows nothing.
    pub fn new(me: HostId, scope: Scope) -> Self {
        Self {
            me,
            scope,
            running: None,
            proven: None,
            attempts: 0,
            conflict: 0,
            root_expires: never(),
            frozen_until: None,
            removed: false,
            boxes: Vec::new(),
            confirmed: None,
            course: None,
            prior: None,
            watch: None,
            step: None,
            view: View::default(),
        }
    }

    /// Takes one input and appends what is to be done. Never fails.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        let start = out.len();
        self.account(now);
        let look = self.take(now, input);
        // Most inputs are receipts that change nothing here: they end here.
        if look || self.view.changed || self.next_deadline().is_some_and(|at| now.boot_ms >= at) {
            self.advance(now, out);
            self.settle(now, start, out);
        }
    }

    /// Goes on after a restart from the record, with nothing known about others.
    pub fn resume(&mut self, now: Now, out: &mut Vec<Effect>) {
        let start = out.len();
        self.view = View::at(now.boot_ms);
        self.repeat_step();
        self.advance(now, out);
        // A sign of life, whatever has changed.
        self.view.published = None;
        self.settle(now, start, out);
    }

    /// When to call [`Self::handle`] with [`Input::Tick`], in boot milliseconds; none: not before
    /// another input.
    pub fn next_deadline(&self) -> Option<u64> {
        // In doubt it is the next verdict that ends the bake.
        let left_ms = self.bake_left_ms().filter(|left_ms| *left_ms > 0 || self.doubt().is_none());
        let bake = left_ms.map(|left_ms| self.view.accounted_ms.saturating_add(left_ms));
        [bake, self.view.next_timer()].into_iter().flatten().min()
    }

    // --- what it knows ---

    pub fn me(&self) -> &HostId {
        &self.me
    }

    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The release that serves here.
    pub fn running(&self) -> Option<Digest> {
        self.running
    }

    /// Id of the newest rollout.
    pub fn rollout(&self) -> Option<Digest> {
        self.course.as_ref().map(|course| course.id)
    }

    /// Epoch of the newest rollout; 0: none.
    pub fn epoch(&self) -> u64 {
        self.course.as_ref().map_or(0, |course| course.epoch)
    }

    /// Where the host stands in the newest rollout.
    pub fn state(&self) -> Option<State> {
        self.course.as_ref().map(|course| course.state)
    }

    /// The changes of state in the newest rollout since this machine started.
    pub fn taken(&self) -> Taken {
        self.course.as_ref().map(|course| course.taken).unwrap_or_default()
    }

    /// The release that serves here and that no step is about to replace.
    pub fn steady(&self) -> Option<Digest> {
        self.serving().filter(|_| self.step.is_none())
    }

    /// The attempt whose release bakes in the newest rollout, and for how long it has, in milliseconds.
    pub fn baking(&self) -> Option<(u64, u64)> {
        let course = self.course.as_ref().filter(|course| course.state == State::Baking)?;
        let watch = self.watch.filter(|watch| watch.rollout == course.id)?;
        self.step.is_none().then_some((watch.attempt, course.baked_ms))
    }

    /// The wave whose hosts, with those of the waves before it, are to be compared with the control for
    /// this host's gate; none: it does not wait for that.
    pub fn awaits_pool(&self) -> Option<usize> {
        let (plan, course) = (self.view.plan()?, self.course.as_ref()?);
        let counts = plan.limits.is_some() && plan.direction == Direction::Forward;
        let waits = counts && course.state == State::Staged && !course.complete;
        course.rank.filter(|_| waits).and_then(|rank| plan.wave_of(rank).checked_sub(1))
    }

    /// Why it went back, if it did.
    pub fn cause(&self) -> Option<Cause> {
        self.course.as_ref().and_then(|course| course.cause)
    }

    /// How long the newest rollout was held, without pauses, in milliseconds.
    pub fn held_ms(&self) -> u64 {
        self.course.as_ref().map_or(0, |course| course.held_ms)
    }

    /// Whether the newest rollout is known to have halted.
    pub fn is_halted(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.halted)
    }

    /// Whether the newest rollout is known to be aborted.
    pub fn is_aborted(&self) -> bool {
        self.course.as_ref().is_some_and(Course::is_aborted)
    }

    /// Whether the newest rollout is known to be complete.
    pub fn is_complete(&self) -> bool {
        self.course.as_ref().is_some_and(|course| course.complete)
    }

    /// The rollout that brought what runs, if that is not the newest: news of it still count.
    pub fn prior_rollout(&self) -> Option<Digest> {
        self.prior.as_ref().map(|prior| prior.rollout)
    }

    /// What must stay on disk, each with the first reason for it: a step under way and the way back
    /// from what bakes, both sides of the newest rollout, what runs, what last passed its bake here.
    pub fn pinned(&self) -> BTreeMap<Digest, Fate> {
        let step = self.step.iter().flat_map(|step| [step.from, step.to]);
        let watch = self.watch.iter().map(|watch| watch.from);
        let in_flight = step.chain(watch).map(|id| (id, Fate::InFlight));
        let course = self.course.iter().flat_map(|course| {
            [(course.from, Fate::RolloutFrom), (Some(course.to), Fate::RolloutTo)]
        });
        let serves = [(self.running, Fate::Serves), (self.proven, Fate::Stable)];
        let mut pinned = BTreeMap::new();
        for (id, fate) in in_flight.chain(course).chain(serves) {
            if let Some(id) = id {
                pinned.entry(id).or_insert(fate);
            }
        }
        pinned
    }

    /// Why the host does not start, as it last decided; none: it does not wait for a gate.
    pub fn why(&self) -> Option<&Gate> {
        self.view.why.as_ref()
    }
}

#[cfg(test)]
mod test;
