//! What a host does next, from its record and its view alone: every look comes to the same moves,
//! whatever the order in which things became known.

use proto::Digest;
use proto::certificate::{self, Claim};
use proto::receipt::{Cause, State};

use super::course::{Course, Step, StepKind};
use super::take::share_of;
use super::{Effect, FETCH_MS_MAX, Host, STEP_MS_MAX};
use crate::gate::{self, Facts, Gate, Heard, Hold, Open, Sight};
use crate::{Now, RESIGN_MS};

/// Longest pause between two looks at the gates, in milliseconds: silence makes no noise.
const LOOK_MS_MAX: u64 = 5_000;
/// How far hosts that follow a complete rollout are spread, in milliseconds.
pub(super) const LANE_MS_MAX: u64 = 30_000;
/// Tries of one host at one rollout, in the lane.
const ATTEMPTS_MAX: u32 = 4;
/// Failed ways back in a row before a person is needed.
const REVERT_FAILURES_MAX: u32 = 3;
/// How far the hosts that see a rollout complete are spread, in milliseconds for each host of the
/// cohort and in all: one certificate is enough.
const CERTIFY_MS_EACH: u64 = 20;
const CERTIFY_MS_MAX: u64 = 30_000;

impl Host {
    /// Counts the time since the last input: what the host held, and what it baked (R8).
    pub(super) fn account(&mut self, now: Now) {
        let elapsed_ms = now.boot_ms.saturating_sub(self.view.accounted_ms);
        self.view.accounted_ms = now.boot_ms;
        let bakes = self.bake_left_ms().is_some();
        if let Some(course) = &mut self.course
            && !course.is_paused()
        {
            course.held_ms = course.held_ms.saturating_add(elapsed_ms);
            if bakes {
                course.baked_ms = course.baked_ms.saturating_add(elapsed_ms);
            }
        }
    }

    /// What is left of the bake, in milliseconds; none: it does not bake, or the clock stands.
    pub(super) fn bake_left_ms(&self) -> Option<u64> {
        let course = self.course.as_ref()?;
        let bakes = course.state == State::Baking && self.step.is_none() && !course.is_paused();
        bakes.then(|| course.bake_ms.saturating_sub(course.baked_ms))
    }

    /// Looks at everything and does what is due.
    ///
    /// Verdicts come first and last: what a move leads to may end the rollout, too.
    pub(super) fn advance(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.view.looked_ms = Some(now.boot_ms);
        self.view.look_at = None;
        self.give_up_on_step(now);
        self.judge_halt();
        self.move_on(now, out);
        if self.fetch(now, out) {
            self.move_on(now, out);
        }
        self.judge_completion(now);
        self.certify(now, out);
        self.ask_step(now, out);
        if self.course.as_ref().is_some_and(Course::cares_for_others) {
            self.view.look_at = Some(now.boot_ms + LOOK_MS_MAX);
        }
    }

    /// Puts the effects in order: a commit, the record, the receipt, the rest.
    ///
    /// The guard at boot must not take back what the record calls committed, so the commit is made
    /// durable first; if the host ends between the two, it bakes a little longer. A proof comes after
    /// the receipt that may be part of it.
    pub(super) fn settle(&mut self, now: Now, start: usize, out: &mut Vec<Effect>) {
        let receipt = self.sign(now);
        if self.view.changed || receipt.is_some() || out.len() > start {
            let commits = |effect: &Effect| matches!(effect, Effect::Commit { .. });
            out[start..].sort_by_key(|effect| !commits(effect));
            let at = start + out[start..].iter().take_while(|effect| commits(effect)).count();
            out.splice(at..at, [Some(Effect::Persist), receipt].into_iter().flatten());
        }
        self.view.changed = false;
    }

    /// The receipt to publish, if it says something new or it is time to be heard again.
    fn sign(&mut self, now: Now) -> Option<Effect> {
        let course = self.course.as_mut()?;
        let open = course.rank.is_some()
            && !course.complete
            && !course.is_stopped()
            && now.unix < course.expires;
        let says = (course.state, course.cause, course.attempt, course.note.clone());
        let news = self.view.published.as_ref() != Some(&says);
        let due = self.view.resign_at.is_some_and(|at| now.boot_ms >= at) && open;
        if news || due {
            course.sequence += 1;
            self.view.published = Some(says);
        }
        let receipt = (news || due).then(|| Effect::Publish(course.receipt(&self.me)));
        if receipt.is_some() || !open {
            self.view.resign_at = open.then(|| now.boot_ms + RESIGN_MS);
        }
        receipt
    }

    // --- verdicts on the rollout as a whole ---

    fn judge_halt(&mut self) {
        let (Some(plan), Some(course)) = (&self.view.plan, &self.course) else { return };
        let own = course.rank.is_some() && certificate::is_failure(course.standing());
        let news = std::mem::take(&mut self.view.failure_is_new);
        if !(news || own) || course.complete || course.halted {
            return;
        }
        let seen = |rank| self.sight(0, rank).standing;
        if certificate::halted(plan, &seen).is_some()
            && let Some(course) = &mut self.course
        {
            course.halted = true;
            self.view.changed = true;
        }
    }

    fn judge_completion(&mut self, now: Now) {
        let (Some(plan), Some(course)) = (&self.view.plan, &self.course) else { return };
        if course.complete || course.is_stopped() || !course.is_at_rest() {
            self.view.complete_at = None;
            return;
        }
        // A host that can be heard and has not ended is waited for, whatever the budget says.
        let ended = |rank| {
            let Sight { standing, heard } = self.sight(now.boot_ms, rank);
            standing.is_some_and(certificate::has_ended) || heard == Heard::Silent
        };
        let done = (0..plan.cohort.len()).all(ended)
            && certificate::is_done(
                plan,
                plan.waves.len() - 1,
                &|rank| self.sight(now.boot_ms, rank).standing,
                &|rank| self.view.excused.contains(&rank),
            );
        let window_ms = (CERTIFY_MS_EACH * plan.cohort.len() as u64).min(CERTIFY_MS_MAX);
        let delay_ms = 1 + share_of(&course.id, &self.me, window_ms);
        match self.view.complete_at {
            _ if !done => self.view.complete_at = None,
            None => self.view.complete_at = Some(now.boot_ms + delay_ms),
            Some(at) if now.boot_ms >= at => {
                self.view.complete_at = None;
                self.view.changed = true;
                if let Some(course) = &mut self.course {
                    course.complete = true;
                }
            }
            Some(_) => {}
        }
    }

    /// Asks for the certificates of what this host has concluded by itself, until it is told that
    /// they exist: only a certificate outlives the receipts it is made of (R17).
    fn certify(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(course) = &self.course else { return };
        let mut claims = Vec::new();
        for (claim, concluded) in [(Claim::Halt, course.halted), (Claim::Complete, course.complete)]
        {
            if concluded && !course.certified.contains(&claim) {
                claims.push(Effect::Certify { rollout: course.id, claim });
            }
        }
        if claims.is_empty() {
            self.view.certify_at = None;
        } else if self.view.certify_at.is_none_or(|at| now.boot_ms >= at) {
            self.view.certify_at = Some(now.boot_ms + RESIGN_MS);
            out.append(&mut claims);
        }
    }

    /// What is seen of the host with this rank; of itself a host knows best.
    fn sight(&self, now_ms: u64, rank: usize) -> Sight {
        match &self.course {
            Some(course) if course.rank == Some(rank) => {
                Sight { standing: Some(course.standing()), heard: Heard::Fresh }
            }
            _ => self.view.sight(now_ms, rank),
        }
    }

    // --- fetching ---

    /// Asks for what is missing; whether nothing is missing any more.
    fn fetch(&mut self, now: Now, out: &mut Vec<Effect>) -> bool {
        let running = self.running;
        let Some(course) = &mut self.course else { return false };
        let first = matches!(course.state, State::Pending | State::Fetching);
        let late = course.rank.is_none() && !course.complete;
        if !first || course.is_stopped() || late {
            self.view.fetch_at = None;
            return false;
        }
        let Some(release) = course.wants(running) else {
            course.stand(State::Staged, None, "");
            self.view.fetch_at = None;
            self.view.changed = true;
            return true;
        };
        if course.state == State::Pending {
            course.stand(State::Fetching, None, "");
        }
        if self.view.fetch_at.is_none_or(|at| now.boot_ms >= at) {
            self.view.fetch_at = Some(now.boot_ms + FETCH_MS_MAX);
            out.push(Effect::Fetch { release });
        }
        false
    }

    // --- moving ---

    /// Moves as far as it goes without an answer from the caller.
    fn move_on(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.view.why = None;
        // Each move leads on in the diagram; the bound is a guard against a mistake in it.
        for _ in 0..8 {
            if self.step.is_some() || !self.make_move(now, out) {
                return;
            }
            self.view.changed = true;
        }
    }

    fn make_move(&mut self, now: Now, out: &mut Vec<Effect>) -> bool {
        let Some(course) = &self.course else { return false };
        let runs_to = self.running == Some(course.to);
        let may_revert = course.revert_failures == 0
            || (course.revert_failures < REVERT_FAILURES_MAX
                && self.view.revert_at.is_none_or(|at| now.boot_ms >= at));
        let forward = matches!(course.state, State::Pending | State::Fetching | State::Staged);
        if self.must_leave_prior() && may_revert {
            self.go_back(Cause::Fleet, "the release before was stopped");
            return true;
        }
        if course.goes_back() && runs_to && course.state != State::RevertFailed {
            let why = if course.halted { "the rollout halted" } else { "the rollout was aborted" };
            self.go_back(Cause::Fleet, why);
            return true;
        }
        match course.state {
            _ if forward && runs_to => self.adopt(),
            State::Staged => self.start_if_open(now),
            State::Baking if self.bake_left_ms() == Some(0) => self.commit(out),
            State::RevertFailed if may_revert => {
                let (cause, note) = (course.cause.unwrap_or(Cause::Host), course.note.clone());
                self.go_back(cause, &note);
                true
            }
            State::Reverted => self.try_again_in_lane(now),
            _ => false,
        }
    }

    /// What runs was brought by a rollout that halted since, and the newest does not want it.
    fn must_leave_prior(&self) -> bool {
        let (Some(prior), Some(course)) = (&self.prior, &self.course) else { return false };
        let stays = [Some(course.to), course.from].contains(&self.running);
        prior.bad && self.running == Some(prior.to) && !stays
    }

    /// `to` runs here already: it is not started again, but it must have passed a bake.
    fn adopt(&mut self) -> bool {
        let Some(course) = &mut self.course else { return false };
        if self.proven == Some(course.to) {
            course.stand(State::Committed, None, "it ran here already");
        } else {
            course.baked_ms = 0;
            course.stand(State::Baking, None, "it ran here already");
            let (rollout, from, to) = (course.id, course.from, course.to);
            self.begin(StepKind::Activate, rollout, from, Some(to));
        }
        true
    }

    fn start_if_open(&mut self, now: Now) -> bool {
        let gate = self.gate(now);
        self.view.why = Some(gate);
        if let Gate::Hold(hold @ Hold::Rules { .. }) = gate
            && let Some(course) = &mut self.course
        {
            // The others must be told why this host never starts (R20).
            course.note = proto::receipt::note(&hold.to_string());
        }
        if !matches!(gate, Gate::Open(_)) {
            return false;
        }
        if gate == Gate::Open(Open::Complete) && !self.lane_is_due(now) {
            return false;
        }
        let Some(course) = &mut self.course else { return false };
        if course.wants(self.running).is_some() {
            // A step of an older rollout has ended since: what runs now is not the way back.
            course.stand(State::Pending, None, "");
            return true;
        }
        course.baked_ms = 0;
        course.stand(State::Activating, None, "");
        let (rollout, from, to) = (course.id, course.from, course.to);
        self.watch = None;
        self.begin(StepKind::Activate, rollout, from, Some(to));
        true
    }

    /// May this host start now? Doubt holds.
    fn gate(&self, now: Now) -> Gate {
        let (Some(plan), Some(course)) = (&self.view.plan, &self.course) else {
            return Gate::Hold(Hold::Outside);
        };
        let seen = |rank| self.sight(now.boot_ms, rank);
        let facts = Facts {
            rollout: plan,
            seen: &seen,
            held_ms: course.held_ms,
            order: course.order,
            halted: course.halted,
            complete: course.complete,
            conflict: self.conflict == course.epoch,
            expired: now.unix >= course.expires,
        };
        let Some(rank) = course.rank else {
            return gate::closed(&facts).unwrap_or(match course.complete {
                true => Gate::Open(Open::Complete),
                false => Gate::Hold(Hold::Outside),
            });
        };
        match gate::decide(&facts, plan.wave_of(rank)) {
            Gate::Open(open) => gate::slots(&facts, rank).map_or(Gate::Open(open), Gate::Hold),
            closed => closed,
        }
    }

    fn lane_is_due(&mut self, now: Now) -> bool {
        let delay_ms = self.lane_delay_ms();
        let at = *self.view.lane_at.get_or_insert(now.boot_ms + delay_ms);
        now.boot_ms >= at
    }

    /// A host that failed for a reason of its own tries again once the rollout is complete (R25).
    fn try_again_in_lane(&mut self, now: Now) -> bool {
        let Some(course) = &self.course else { return false };
        let open = course.complete && !course.is_stopped() && !course.boxed;
        if !open || course.attempt >= ATTEMPTS_MAX || !self.lane_is_due(now) {
            return false;
        }
        let Some(course) = &mut self.course else { return false };
        course.attempt += 1;
        course.stand(State::Pending, None, "");
        true
    }

    fn commit(&mut self, out: &mut Vec<Effect>) -> bool {
        let Some(course) = &mut self.course else { return false };
        course.stand(State::Committed, None, "");
        (self.proven, self.prior) = (Some(course.to), None);
        if let Some(watch) = self.watch.take() {
            out.push(Effect::Commit { attempt: watch.attempt });
        }
        true
    }

    // --- steps ---

    /// Goes back to the newest rollout's `from` (R12).
    pub(super) fn go_back(&mut self, cause: Cause, note: &str) {
        let Some(course) = &self.course else { return };
        let (own, from) = (course.id, course.from);
        // A way back from what an older rollout brought is none of the newest rollout's receipts.
        let rollout = match &self.prior {
            Some(prior) if self.running == Some(prior.to) && self.running != Some(course.to) => {
                prior.rollout
            }
            _ => own,
        };
        self.watch = None;
        self.begin(StepKind::Revert, rollout, None, from);
        if let Some(step) = &mut self.step {
            (step.cause, step.note) = (Some(cause), proto::receipt::note(note));
        }
    }

    fn begin(&mut self, kind: StepKind, rollout: Digest, from: Option<Digest>, to: Option<Digest>) {
        self.attempts += 1;
        let (attempt, cause, note) = (self.attempts, None, String::new());
        self.step = Some(Step { attempt, rollout, kind, from, to, cause, note });
        self.view.step_asked = false;
        self.view.changed = true;
    }

    /// After a restart the step under way is asked for again, and what was watched must be watched
    /// again: the caller finds it serving, or says what became of it. An activation that has become
    /// pointless is not taken further.
    pub(super) fn repeat_step(&mut self) {
        let stopped = self
            .course
            .as_ref()
            .is_some_and(|course| course.is_stopped() && course.state == State::Activating);
        let starts = |step: &Step| step.kind == StepKind::Activate;
        if stopped && self.step.as_ref().is_some_and(starts) {
            self.go_back(Cause::Fleet, "stopped while it was restarting");
        }
        let (Some(watch), None) = (self.watch, &self.step) else { return };
        self.step = Some(Step {
            attempt: watch.attempt,
            rollout: watch.rollout,
            kind: StepKind::Activate,
            from: watch.from,
            to: Some(watch.release),
            cause: None,
            note: String::new(),
        });
    }

    /// Gives out the effect of the step under way, once.
    fn ask_step(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(step) = &self.step else { return };
        if std::mem::replace(&mut self.view.step_asked, true) {
            return;
        }
        self.view.step_until = Some(now.boot_ms + STEP_MS_MAX);
        let attempt = step.attempt;
        out.push(match (step.kind, step.to) {
            (StepKind::Activate, Some(to)) => Effect::Activate { attempt, from: step.from, to },
            (_, to) => Effect::Revert { attempt, to },
        });
    }

    /// A step without an answer: an activation goes back, a way back counts as failed (R18).
    fn give_up_on_step(&mut self, now: Now) {
        let overdue = self.view.step_until.is_some_and(|until| now.boot_ms >= until);
        let Some(step) = self.step.clone().filter(|_| overdue) else { return };
        let note = format!("no answer in {} s", STEP_MS_MAX / 1_000);
        match step.kind {
            StepKind::Activate => {
                self.running = step.to;
                let cause = self.course.as_ref().map_or(Cause::Host, |c| c.cause_of(Cause::Host));
                self.step = None;
                self.go_back(cause, &note);
            }
            StepKind::Revert => {
                self.take(now, super::Input::RevertFailed { attempt: step.attempt, note });
            }
        }
    }
}
