//! What each input changes in the record. Decides nothing and does nothing: that is `moves`.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::sync::Arc;

use proto::certificate::{self, Claim};
use proto::receipt::{Cause, Receipt, State};
use proto::statement::{Action, Direction, Directive, OnFailure, Rollout};
use proto::{Digest, HostId, UnixTime};

use super::board::Board;
use super::course::{Course, Prior, Step, StepKind, Watch};
use super::view::View;
use super::{Host, Input, Peers};
use crate::Now;
use crate::gate::{self, Order};
use crate::verdict::{Conclusion, FAILS_MIN, Looks, Verdict};

/// Shortest pause between two looks at the gates, in milliseconds: receipts come in bursts.
const LOOK_MS_MIN: u64 = 250;
/// First pause after a failed fetch, in milliseconds; doubles up to [`FETCH_PAUSE_MS_MAX`].
const FETCH_PAUSE_MS: u64 = 1_000;
const FETCH_PAUSE_MS_MAX: u64 = 60_000;
/// How long it stands that others knew of the same rollouts, in seconds (R7).
const CONFIRMED_S_MAX: u64 = 24 * 3_600;
/// Releases in the penalty box, the newest.
const BOXES_MAX: usize = 16;
/// How often the record says anew that others knew of the same rollouts, in seconds.
const CONFIRMED_EVERY_S: u64 = 3_600;
/// First pause after a failed way back, in milliseconds; doubles.
const REVERT_PAUSE_MS: u64 = 10_000;

impl Host {
    /// Applies an input; whether to look at once at what there is to do.
    pub(super) fn take(&mut self, now: Now, input: Input) -> bool {
        match input {
            Input::Rollout { id, rollout } => {
                self.take_rollout(now, id, &rollout, || Board::new(now.boot_ms, &rollout).into())
            }
            Input::Heard { rollout, board } => self.take_heard(now, rollout, board),
            Input::Conflict { epoch } => {
                let highest = self.conflict.max(epoch);
                self.note(|host| (&mut host.conflict, highest))
            }
            Input::Directive(directive) => self.take_directive(&directive),
            Input::Certificate { rollout, claim } => self.take_certificate(rollout, claim),
            Input::Unprovable { rollout, claim } => self.take_unprovable(rollout, claim),
            Input::Excused { rollout, hosts } => self.take_excused(now, rollout, &hosts),
            Input::Root { expires } => self.note(|host| (&mut host.root_expires, expires)),
            Input::Frozen { until } => self.note(|host| (&mut host.frozen_until, until)),
            Input::Boxed { release } => self.put_in_box(release),
            Input::Removed => self.note(|host| (&mut host.removed, true)),
            Input::Twin { address } => std::mem::replace(&mut self.view.twin, address) != address,
            Input::Pressed(pressed) => {
                std::mem::replace(&mut self.view.pressed, pressed) != pressed
            }
            Input::Peers(peers) => self.take_peers(now, peers),
            Input::Receipt(receipt) => self.take_receipt(now, &receipt),
            Input::Fetched { release } => self.take_fetched(release),
            Input::FetchFailed { release, note } => self.take_fetch_failed(now, release, &note),
            Input::Activated { attempt } => self.take_activated(attempt),
            Input::ActivationFailed { attempt, reverted, cause, note } => {
                self.take_activation_failed(now, attempt, reverted, cause, &note)
            }
            Input::Unhealthy { attempt, note } => self.take_unhealthy(attempt, &note),
            Input::Verdict { attempt, verdict } => self.take_verdict(now, attempt, verdict),
            Input::Pooled { rollout, verdict } => self.take_pooled(now, rollout, verdict),
            Input::Reverted { attempt } => self.take_reverted(attempt),
            Input::RevertFailed { attempt, note } => self.take_revert_failed(now, attempt, &note),
            Input::Tick => false,
        }
    }

    // --- statements and what others say ---

    fn take_rollout(
        &mut self,
        now: Now,
        id: Digest,
        rollout: &Rollout,
        board: impl FnOnce() -> Arc<Board>,
    ) -> bool {
        if rollout.service != self.scope.service || rollout.env != self.scope.env {
            return false;
        }
        if let Some(course) = &self.course {
            if course.id == id {
                let first = self.view.plan().is_none();
                if first {
                    self.view.attach(now.boot_ms, board(), &course.excused);
                }
                return first;
            }
            if rollout.epoch == course.epoch {
                return self.take(now, Input::Conflict { epoch: rollout.epoch });
            }
            if rollout.epoch < course.epoch {
                return false;
            }
        }
        self.follow(now, id, board());
        true
    }

    fn take_heard(&mut self, now: Now, id: Digest, board: Arc<Board>) -> bool {
        let seen = self.view.plan().is_some();
        let Some(course) = self.course.as_ref().filter(|course| seen && course.id == id) else {
            return self.take_rollout(now, id, &board.rollout().clone(), || board);
        };
        if self.view.attach(now.boot_ms, board, &course.excused) && self.cares_for_others() {
            self.view.look_soon(now.boot_ms, LOOK_MS_MIN);
        }
        self.view.failure_is_new
    }

    /// Starts a newer rollout at the top; a step under way is finished first.
    fn follow(&mut self, now: Now, id: Digest, board: Arc<Board>) {
        let rollout = Arc::clone(board.rollout());
        let course = Course::new(id, &rollout, board.rank_of(&self.me));
        let brought = match &self.step {
            Some(Step { kind: StepKind::Activate, to, .. }) => *to,
            _ => self.running,
        };
        if let Some(old) = &self.course
            && brought == Some(old.to)
        {
            let (bad, direction, on_failure) = (old.must_go(), old.direction, old.on_failure);
            match &mut self.prior {
                // It was a rollout before that one which brought it, or is about to.
                Some(prior) if Some(prior.to) == brought && old.is_waiting() => prior.bad |= bad,
                prior => {
                    let (rollout, to) = (old.id, old.to);
                    *prior = Some(Prior { rollout, to, direction, on_failure, bad });
                }
            }
        }
        self.course = Some(course);
        if rollout.retry {
            self.boxes.retain(|release| *release != rollout.to.release);
        }
        // Only the step under way goes on, and what others say of this host as such.
        let View { step_asked, step_until, peers, twin, pressed, .. } = self.view;
        self.view = View::at(now.boot_ms);
        (self.view.step_asked, self.view.step_until) = (step_asked, step_until);
        (self.view.peers, self.view.twin, self.view.pressed) = (peers, twin, pressed);
        self.view.attach(now.boot_ms, board, &BTreeSet::new());
        self.view.changed = true;
    }

    fn take_directive(&mut self, directive: &Directive) -> bool {
        let Directive { rollout, sequence, action, wave, .. } = directive;
        // Skips come as [`Input::Excused`]: none takes the place of the order in force.
        if *action == Action::Skip {
            return false;
        }
        let order = Order { sequence: *sequence, action: *action, wave: *wave };
        if let Some(course) = &mut self.course
            && course.id == *rollout
        {
            let news = course.obey(order);
            self.view.changed |= news;
            return news;
        }
        *action == Action::Abort && self.condemn(*rollout)
    }

    fn take_certificate(&mut self, rollout: Digest, claim: Claim) -> bool {
        let Some(course) = self.course.as_mut().filter(|course| course.id == rollout) else {
            return claim == Claim::Halt && self.condemn(rollout);
        };
        let news = course.certify(claim);
        match claim {
            Claim::Halt => course.halted = true,
            // A record of how far it came: who opens the next wave wants to hear the hosts (R16).
            Claim::Wave(_) => {}
            Claim::Complete => course.complete = true,
        }
        self.view.changed |= news;
        news
    }

    /// Asks for that certificate no more.
    fn take_unprovable(&mut self, rollout: Digest, claim: Claim) -> bool {
        let course = self.course.as_mut().filter(|course| course.id == rollout);
        let news = course.is_some_and(|course| course.certify(claim));
        self.view.changed |= news;
        news
    }

    /// Sets a field of the record; whether that changed it.
    fn note<T: PartialEq>(&mut self, field: impl FnOnce(&mut Self) -> (&mut T, T)) -> bool {
        let (held, value) = field(self);
        let news = *held != value;
        *held = value;
        self.view.changed |= news;
        news
    }

    fn take_excused(&mut self, now: Now, rollout: Digest, hosts: &BTreeSet<HostId>) -> bool {
        let Some(course) = self.course.as_mut().filter(|course| course.id == rollout) else {
            return false;
        };
        let before = course.excused.len();
        course.excused.extend(hosts.iter().cloned());
        let news = course.excused.len() > before;
        self.view.excuse(now.boot_ms, hosts);
        self.view.changed |= news;
        news
    }

    fn take_peers(&mut self, now: Now, peers: Peers) -> bool {
        let news = self.view.peers != peers;
        self.view.peers = peers;
        let noted = self.confirmed.is_some_and(|at| away_s(at, now) < CONFIRMED_EVERY_S);
        if peers.confirmed && !noted {
            self.confirmed = Some(now.unix);
            self.view.changed = true;
        }
        news
    }

    /// A rollout that is no longer followed has been stopped: what it brought must go, and is not
    /// started again.
    fn condemn(&mut self, rollout: Digest) -> bool {
        let Some(prior) = self.prior.as_mut().filter(|prior| prior.rollout == rollout) else {
            return false;
        };
        let news = prior.on_failure == OnFailure::Rollback && !prior.bad;
        prior.bad |= news;
        self.view.changed |= news;
        let (release, forward) = (prior.to, prior.direction == Direction::Forward);
        forward && self.put_in_box(release) || news
    }

    /// Remembers that a rollout to this release was stopped (R17). Whether that is news.
    pub(super) fn put_in_box(&mut self, release: Digest) -> bool {
        if self.boxes.contains(&release) {
            return false;
        }
        if self.boxes.len() == BOXES_MAX {
            self.boxes.remove(0);
        }
        self.boxes.push(release);
        self.view.changed = true;
        true
    }

    /// Whether others know of the same newest rollouts, or did within the last day (R7).
    pub(super) fn is_confirmed(&self, now: Now) -> bool {
        let lately = |at| away_s(at, now) <= CONFIRMED_S_MAX;
        self.view.peers.confirmed || self.confirmed.is_some_and(lately)
    }

    fn take_receipt(&mut self, now: Now, receipt: &Receipt) -> bool {
        let about = self.course.as_ref().is_some_and(|course| course.id == receipt.rollout);
        if !about || receipt.host == self.me {
            return false;
        }
        let Some(before) = self.view.note(now.boot_ms, receipt) else { return false };
        let standing = (receipt.state, receipt.cause);
        if certificate::is_failure(standing) && !before.is_some_and(certificate::is_failure) {
            self.view.failure_is_new = true;
            return true;
        }
        if before != Some(standing) && self.cares_for_others() {
            self.view.look_soon(now.boot_ms, LOOK_MS_MIN);
        }
        false
    }

    // --- answers to effects ---

    fn take_fetched(&mut self, release: Digest) -> bool {
        let Some(course) = &mut self.course else { return false };
        let news = (release == course.to && !course.staged)
            || (Some(release) == course.from && !course.way_back);
        course.staged |= release == course.to;
        course.way_back |= Some(release) == course.from;
        if news {
            (self.view.fetch_at, self.view.fetch_failures) = (None, 0);
            self.view.changed = true;
        }
        news
    }

    fn take_fetch_failed(&mut self, now: Now, release: Digest, note: &str) -> bool {
        let serving = self.serving();
        let Some(course) = &mut self.course else { return false };
        if course.state != State::Fetching || course.wants(serving) != Some(release) {
            return false;
        }
        course.stand(State::Fetching, None, note);
        let pause_ms = FETCH_PAUSE_MS << self.view.fetch_failures.min(16);
        self.view.fetch_failures += 1;
        self.view.fetch_at = Some(now.boot_ms + pause_ms.min(FETCH_PAUSE_MS_MAX));
        self.view.changed = true;
        true
    }

    /// Ends the step with this number, if it is under way.
    fn end_step(&mut self, attempt: u64, kind: StepKind) -> Option<Step> {
        let step = self.step.take_if(|step| step.attempt == attempt && step.kind == kind)?;
        self.view.step_until = None;
        self.view.changed = true;
        Some(step)
    }

    /// The newest rollout, if the step is one of it.
    fn own(&mut self, step: &Step) -> Option<&mut Course> {
        self.course.as_mut().filter(|course| course.id == step.rollout)
    }

    fn take_activated(&mut self, attempt: u64) -> bool {
        let Some(step) = self.end_step(attempt, StepKind::Activate) else { return false };
        let Some(release) = step.to else { return true };
        self.running = Some(release);
        let Step { rollout, from, adopt, .. } = step;
        self.watch = Some(Watch { attempt, rollout, release, from, adopt });
        self.end_row_of_failures();
        if let Some(course) = self.own(&step)
            && course.state == State::Activating
        {
            course.baked_ms = 0;
            course.stand(State::Baking, None, "");
        }
        true
    }

    fn take_activation_failed(
        &mut self,
        now: Now,
        attempt: u64,
        reverted: bool,
        cause: Cause,
        note: &str,
    ) -> bool {
        let Some(step) = self.end_step(attempt, StepKind::Activate) else { return false };
        self.watch = None;
        (self.running, self.proven) =
            if reverted { (step.from, step.from) } else { (step.to, None) };
        if reverted {
            self.end_row_of_failures();
        }
        self.blame_prior(step.rollout);
        if let Some(course) = self.own(&step) {
            course.boxed |= cause == Cause::Release;
            let state = if reverted { State::Reverted } else { State::RevertFailed };
            course.stand(state, Some(course.cause_of(cause)), note);
            self.plan_retry(now, !reverted);
        }
        true
    }

    fn take_unhealthy(&mut self, attempt: u64, note: &str) -> bool {
        let Some(watch) = self.watch.filter(|watch| watch.attempt == attempt) else { return false };
        // Where the step with this number was being repeated after a restart, this is its answer.
        self.end_step(attempt, StepKind::Activate);
        if self.step.is_some() {
            return false;
        }
        self.watch = None;
        self.view.changed = true;
        self.blame_prior(watch.rollout);
        if let Some(course) = self.course.as_mut().filter(|course| course.id == watch.rollout) {
            course.boxed = true;
            let cause = course.cause_of(Cause::Release);
            self.go_back(cause, note);
        }
        true
    }

    /// It is looked at once the bake is over, then each time: the numbers are shown. One that is worse
    /// goes at once, in the middle of its bake, too.
    fn take_verdict(&mut self, now: Now, attempt: u64, verdict: Verdict) -> bool {
        if self.watch.is_none_or(|watch| watch.attempt != attempt) {
            return false;
        }
        let baked = self.bake_left_ms() == Some(0);
        let due = baked || matches!(verdict, Verdict::Shared { .. });
        let held = self.view.looks.take().filter(|(judged, _)| *judged == attempt);
        let (_, looks) = self.view.looks.insert(held.unwrap_or((attempt, Looks::new(FAILS_MIN))));
        looks.take(now.boot_ms, verdict, due);
        match looks.conclusion() {
            Conclusion::Worse(verdict) => self.take_unhealthy(attempt, &verdict.to_string()),
            Conclusion::Good(_) | Conclusion::Doubt(_) => baked,
        }
    }

    /// The time for doubt runs once those hosts are not waited for any more.
    fn take_pooled(&mut self, now: Now, rollout: Digest, verdict: Verdict) -> bool {
        let Some(wave) = self.awaits_pool() else { return false };
        self.view.count_silent(now.boot_ms);
        let course = self.course.as_ref().filter(|course| course.id == rollout);
        let (Some(course), Some(plan)) = (course, self.view.plan()) else { return false };
        let due = self.by_facts(now, plan, course, |facts| gate::is_waited_out(facts, wave));
        let before = self.view.pooled.conclusion();
        self.view.pooled.take(now.boot_ms, verdict, due);
        // Only what it comes to is news, not each number.
        discriminant(&before) != discriminant(&self.view.pooled.conclusion())
    }

    fn take_reverted(&mut self, attempt: u64) -> bool {
        let Some(step) = self.end_step(attempt, StepKind::Revert) else { return false };
        (self.running, self.proven, self.watch) = (step.to, step.to, None);
        self.end_row_of_failures();
        if let Some(course) = self.own(&step) {
            course.stand(State::Reverted, step.cause, &step.note);
        }
        true
    }

    fn take_revert_failed(&mut self, now: Now, attempt: u64, note: &str) -> bool {
        let Some(step) = self.end_step(attempt, StepKind::Revert) else { return false };
        // What ran was stopped for it: whatever it had proven before, it serves no more.
        self.proven = None;
        if let Some(course) = self.own(&step) {
            course.stand(State::RevertFailed, step.cause, note);
        }
        self.blame_prior(step.rollout);
        self.plan_retry(now, true);
        true
    }

    /// Something serves again: ways back that fail are counted anew.
    fn end_row_of_failures(&mut self) {
        if let Some(course) = &mut self.course {
            course.revert_failures = 0;
        }
    }

    /// What an older rollout brought fails here: it must go.
    fn blame_prior(&mut self, rollout: Digest) {
        if let Some(prior) = self.prior.as_mut().filter(|prior| prior.rollout == rollout) {
            prior.bad = true;
        }
    }

    /// After a failure: when to try again to go back, and when the lane may be tried again.
    fn plan_retry(&mut self, now: Now, revert_failed: bool) {
        let lane_ms = self.lane_delay_ms();
        let Some(course) = &mut self.course else { return };
        if revert_failed {
            course.revert_failures += 1;
            let pause_ms = REVERT_PAUSE_MS << course.revert_failures.min(8);
            self.view.revert_at = Some(now.boot_ms + pause_ms);
        }
        self.view.lane_at = Some(now.boot_ms + (lane_ms << course.attempt.min(8)));
    }

    /// How long this host lets others go first in the lane, in milliseconds: its own share of
    /// [`LANE_MS_MAX`](super::moves::LANE_MS_MAX).
    pub(super) fn lane_delay_ms(&self) -> u64 {
        let id = self.course.as_ref().map(|course| course.id);
        id.map_or(0, |id| share_of(&id, &self.me, super::moves::LANE_MS_MAX))
    }
}

/// How far a time is from now, in seconds: a clock that was wrong may have noted one to come.
const fn away_s(at: UnixTime, now: Now) -> u64 {
    at.0.abs_diff(now.unix.0)
}

/// A host's own, even share of a time: the same on every run, another in every rollout.
pub(super) fn share_of(rollout: &Digest, host: &HostId, whole_ms: u64) -> u64 {
    let hash = Digest::of(&[rollout.as_bytes(), host.as_str().as_bytes()].concat());
    let mut head = [0; 8];
    head.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(head) % whole_ms.max(1)
}
