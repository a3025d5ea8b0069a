//! What a host does next, from its record and its view alone: every look comes to the same moves,
//! whatever the order in which things became known.

use proto::Digest;
use proto::receipt::{Cause, State};
use proto::statement::{Direction, Rollout};

use super::course::{Course, Step, StepKind};
use super::{BACK_MS_MAX, Effect, FETCH_MS_MAX, Host, NEVER_STARTED, STEP_MS_MAX};
use crate::gate::{self, Counted, Expiry, Facts, Gate, Hold, Marks, Open, Own};
use crate::verdict::Conclusion;
use crate::{Now, RESIGN_MS, UNHEARD_MS_MAX};

/// Longest pause between two looks at the gates, in milliseconds: silence makes no noise.
const LOOK_MS_MAX: u64 = 5_000;
/// How far hosts that follow a complete rollout are spread, in milliseconds.
pub(super) const LANE_MS_MAX: u64 = 30_000;
/// Tries of one host at one rollout, in the lane.
const ATTEMPTS_MAX: u32 = 4;
/// Failed ways back in a row before a person is needed.
const REVERT_FAILURES_MAX: u32 = 3;
/// The hosts that one waits for to go back: [`gate::back`], [`gate::leave`].
type WaysBack = fn(&Facts<'_>, usize, &dyn Fn(usize) -> bool) -> Vec<usize>;

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
        let stands = course.is_paused() || course.goes_back();
        let bakes = course.state == State::Baking && self.step.is_none() && !stands;
        bakes.then(|| course.bake_ms.saturating_sub(course.baked_ms))
    }

    /// Looks at everything and does what is due.
    ///
    /// Verdicts come first and last: what a move leads to may end the rollout, too.
    pub(super) fn advance(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.view.looked_ms = Some(now.boot_ms);
        self.view.look_at = None;
        self.view.count_silent(now.boot_ms);
        self.give_up_on_step(now);
        self.judge_halt(now);
        self.box_what_was_stopped();
        self.move_on(now, out);
        if self.fetch(now, out) {
            self.move_on(now, out);
        }
        self.judge_waves(now, out);
        self.judge_completion(now);
        self.certify(now, out);
        self.ask_step(now, out);
        if self.cares_for_others() {
            self.view.look_at = Some(now.boot_ms + LOOK_MS_MAX);
        }
    }

    /// Whether steps of other hosts, or their silence, may let this one move or end the rollout.
    pub(super) fn cares_for_others(&self) -> bool {
        self.course.as_ref().is_some_and(Course::cares_for_others) || self.is_leaving()
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
        let awaited = self.is_awaited(now);
        let course = self.course.as_mut()?;
        let says = (course.state, course.cause, course.attempt, course.note.clone());
        let news = self.view.published.as_ref() != Some(&says);
        let due = self.view.resign_at.is_some_and(|at| now.boot_ms >= at) && awaited;
        if news || due {
            course.sequence += 1;
            self.view.published = Some(says);
        }
        let receipt = (news || due).then(|| Effect::Publish(course.receipt(&self.me)));
        if receipt.is_some() || awaited != self.view.resign_at.is_some() {
            self.view.resign_at = awaited.then(|| now.boot_ms + RESIGN_MS);
        }
        receipt
    }

    /// Whether others wait to hear of this host: in an open rollout, on the way back, in the lane.
    /// Who cannot take its turn in the lane falls silent, so that nobody waits for it there.
    fn is_awaited(&self, now: Now) -> bool {
        let Some(course) = self.course.as_ref().filter(|course| course.rank.is_some()) else {
            return false;
        };
        let stuck =
            |hold: &Hold| hold.is_own() || matches!(hold, Hold::Slots { .. } | Hold::Frozen { .. });
        let held = matches!(&self.view.why, Some(Gate::Hold(hold)) if stuck(hold));
        let kept_back = held || self.view.fetch_failures > 0;
        if course.is_stopped() {
            course.is_to_go_back()
        } else if course.complete {
            !course.is_at_rest() && !kept_back
        } else {
            self.expiry(course).expired(now.unix).is_none()
        }
    }

    // --- fetching ---

    /// Asks for what is missing; whether nothing is missing any more.
    fn fetch(&mut self, now: Now, out: &mut Vec<Effect>) -> bool {
        let (serving, leaving) = (self.serving(), self.is_leaving());
        let Some(course) = &mut self.course else { return false };
        let first = matches!(course.state, State::Pending | State::Fetching);
        let late = course.rank.is_none() && !course.complete;
        if !first || course.is_stopped() || late || leaving {
            self.view.fetch_at = None;
            return false;
        }
        let Some(release) = course.wants(serving) else {
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
        let serves_to = self.serving() == Some(course.to);
        let may_revert = course.revert_failures == 0
            || (course.revert_failures < REVERT_FAILURES_MAX
                && self.view.revert_at.is_none_or(|at| now.boot_ms >= at));
        if let Some(prior) = self.prior_to_leave() {
            let leaving = self.is_leaving();
            let moved = self.leave_prior(now, prior, leaving, may_revert);
            if moved || leaving {
                return moved;
            }
        }
        let Some(course) = &self.course else { return false };
        if course.is_to_go_back() && runs_to {
            return self.go_back_in_turn(now);
        }
        if course.goes_back() && course.is_waiting() {
            // The others count on it: who never ran `to` is back already (R15).
            let Some(course) = &mut self.course else { return false };
            course.stand(State::Reverted, Some(Cause::Fleet), NEVER_STARTED);
            return true;
        }
        match course.state {
            _ if course.is_waiting() && serves_to => self.stay(),
            State::Staged => self.start_if_open(now),
            State::Baking if self.bake_left_ms() == Some(0) => self.commit_if_sure(out),
            State::RevertFailed if may_revert => {
                let (cause, note) = (course.cause.unwrap_or(Cause::Host), course.note.clone());
                self.go_back(cause, &note);
                true
            }
            State::Reverted => self.try_again_in_lane(now),
            _ => false,
        }
    }

    /// The older rollout whose release must go before the newest rollout has done anything here: it
    /// was stopped and the newest does not want what it brought, or its way back failed and nothing
    /// serves. Not where the newest is the rollback of that very release: its `from` is what must not be
    /// started again, and it leads away from it by itself.
    fn prior_to_leave(&self) -> Option<Digest> {
        let course = self.course.as_ref()?;
        let down = self.serving().is_none() && course.state != State::RevertFailed;
        let bad = self.bad_prior()?;
        let is_way_back = course.direction == Direction::Rollback && course.from == self.running;
        (down && !is_way_back || self.is_unwanted(course)).then_some(bad)
    }

    /// The older rollout that brought what runs, where that was stopped or failed here.
    fn bad_prior(&self) -> Option<Digest> {
        let prior = self.prior.as_ref()?;
        (prior.bad && self.running == Some(prior.to)).then_some(prior.rollout)
    }

    /// Whether the newest rollout has no use for what runs.
    fn is_unwanted(&self, course: &Course) -> bool {
        ![Some(course.to), course.from].contains(&self.running)
    }

    /// Whether what serves was stopped with an older rollout, or is just being left for that. Until
    /// then the host stays pending, which the others go by.
    pub(super) fn is_leaving(&self) -> bool {
        let Some(course) = &self.course else { return false };
        let serves = self.step.is_some() || self.serving().is_some();
        self.bad_prior().is_some() && self.is_unwanted(course) && serves && course.is_waiting()
    }

    /// Leaves what an older rollout brought: in turn (R15) where it is `leaving` what serves, at once
    /// where nothing does. Whether that led to anything.
    fn leave_prior(&mut self, now: Now, prior: Digest, leaving: bool, may_revert: bool) -> bool {
        if let Some(course) = self.course.as_mut().filter(|_| leaving)
            && course.state != State::Pending
        {
            course.stand(State::Pending, None, "");
            return true;
        }
        let goes = may_revert && (!leaving || self.is_turn_to_go_back(now, gate::leave));
        if goes {
            self.begin_back(prior, Cause::Fleet, "the release before was stopped");
        }
        goes
    }

    /// What runs and serves: after a way back that failed, something runs that does not.
    pub(super) fn serving(&self) -> Option<Digest> {
        let watched = self.watch.map(|watch| watch.release);
        self.running.filter(|running| [self.proven, watched].contains(&Some(*running)))
    }

    /// `to` serves here already: it is not started again, but it must have passed a bake.
    fn stay(&mut self) -> bool {
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
        if let Some(course) = &mut self.course {
            // The others must be told why this host never starts (R20).
            let own = match gate {
                Gate::Hold(hold) if hold.is_own() => hold.to_string(),
                _ => String::new(),
            };
            course.note = proto::receipt::note(&own);
        }
        if !matches!(gate, Gate::Open(_)) {
            return false;
        }
        if gate == Gate::Open(Open::Complete) && !self.lane_is_due(now) {
            return false;
        }
        let serving = self.serving();
        let Some(course) = &mut self.course else { return false };
        if course.wants(serving).is_some() {
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
        let (Some(plan), Some(course)) = (self.view.plan(), &self.course) else {
            return Gate::Hold(Hold::Outside);
        };
        let own = Own {
            rank: course.rank,
            removed: self.removed,
            twin: self.view.twin,
            boxed: self.boxes.contains(&course.to) && !plan.retry,
            confirmed: self.is_confirmed(now),
            clock_ahead_s: self.view.peers.clock_ahead_s,
            pressed: self.view.pressed,
        };
        self.by_facts(now, plan, course, |facts| gate::decide_for(facts, &own))
    }

    /// Asks a question about all that this host knows of its rollout.
    pub(super) fn by_facts<T>(
        &self,
        now: Now,
        plan: &Rollout,
        course: &Course,
        ask: impl FnOnce(&Facts<'_>) -> T,
    ) -> T {
        let seen = |rank| self.sight(now.boot_ms, rank);
        let excused = |rank| course.is_excused(plan, rank);
        let own = course.rank.map(|rank| (rank, Marks::of(seen(rank), excused(rank))));
        ask(&Facts {
            rollout: plan,
            seen: &seen,
            excused: &excused,
            counted: self.view.counts().map(|counts| Counted { counts, own }),
            held_ms: course.held_ms,
            order: course.order,
            halted: course.halted,
            complete: course.complete,
            conflict: self.conflict == course.epoch,
            unix: now.unix,
            expiry: self.expiry(course),
            frozen_until: self.frozen_until,
            pooled: &|_| self.view.pooled.conclusion(),
        })
    }

    fn expiry(&self, course: &Course) -> Expiry {
        Expiry { direction: course.direction, rollout: course.expires, root: self.root_expires }
    }

    /// Those of the cohort go by rank (`gate::turn`), the others when chance has it; after a failure
    /// each has a time of its own.
    fn lane_is_due(&mut self, now: Now) -> bool {
        let ranked = self.course.as_ref().is_some_and(|course| course.rank.is_some());
        let delay_ms = if ranked { 0 } else { self.lane_delay_ms() };
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

    fn commit_if_sure(&mut self, out: &mut Vec<Effect>) -> bool {
        let Some(doubt) = self.doubt() else { return self.commit(out) };
        self.view.why = Some(Gate::Hold(doubt));
        if let Some(course) = &mut self.course
            && course.note.is_empty()
        {
            // Once: the others must be told why this host does not commit, not each number.
            course.note = proto::receipt::note(&doubt.to_string());
        }
        false
    }

    /// What keeps a host that has baked from committing (R24). Over that goes who promotes a later
    /// wave (R6), and the end of the rollout: nobody waits for this host any more.
    pub(super) fn doubt(&self) -> Option<Hold> {
        let (Some(plan), Some(course)) = (self.view.plan(), &self.course) else { return None };
        let next = course.rank.map_or(0, |rank| plan.wave_of(rank)) + 1;
        let passed = course.complete || course.order.is_some_and(|order| order.opens(next));
        if plan.limits.is_none() || plan.direction == Direction::Rollback || passed {
            return None;
        }
        match self.conclusion() {
            Conclusion::Good(_) => None,
            doubt => Some(Hold::Inconclusive(doubt.verdict())),
        }
    }

    /// What the verdicts on what is watched come to.
    pub(super) fn conclusion(&self) -> Conclusion {
        let attempt = self.watch.map(|watch| watch.attempt);
        let looks = self.view.looks.as_ref().filter(|(judged, _)| Some(*judged) == attempt);
        looks.map_or(Conclusion::Doubt(None), |(_, looks)| looks.conclusion())
    }

    fn commit(&mut self, out: &mut Vec<Effect>) -> bool {
        // What it was committed by is told: with its numbers, where requests were compared.
        let note = self.conclusion().verdict().map(|verdict| verdict.to_string());
        let Some(course) = &mut self.course else { return false };
        course.stand(State::Committed, None, &note.unwrap_or_default());
        (self.proven, self.prior) = (Some(course.to), None);
        if let Some(watch) = self.watch.take() {
            out.push(Effect::Commit { attempt: watch.attempt });
        }
        true
    }

    // --- the way back ---

    /// Goes back once it is this host's turn in the reverse order (R15); until then it serves what it
    /// serves. Whether it went.
    fn go_back_in_turn(&mut self, now: Now) -> bool {
        let Some(course) = &self.course else { return false };
        let why = if course.halted { "the rollout halted" } else { "the rollout was aborted" };
        let turn = self.is_turn_to_go_back(now, gate::back);
        if turn {
            self.go_back(Cause::Fleet, why);
        }
        turn
    }

    /// Whether so few hosts are before this one that it need not wait for them.
    fn is_turn_to_go_back(&mut self, now: Now, before: WaysBack) -> bool {
        let Some(course) = &self.course else { return false };
        // Hosts outside the cohort stand in no order.
        let Some(rank) = course.rank else { return true };
        let Some(plan) = self.view.plan() else {
            // After a restart, before it is told the rollout anew: nobody can be heard.
            return now.boot_ms.saturating_sub(self.view.began_ms) > UNHEARD_MS_MAX;
        };
        let waited_ms = |rank| {
            let since_ms = self.view.turns.get(&rank);
            since_ms.map_or(0, |since_ms| now.boot_ms.saturating_sub(*since_ms))
        };
        let given_up = |rank| waited_ms(rank) > BACK_MS_MAX;
        let before = self.by_facts(now, plan, course, |facts| before(facts, rank, &given_up));
        let max_unavailable = plan.max_unavailable as usize;
        let unsettled = before.len();
        for higher in before {
            self.view.turns.entry(higher).or_insert(now.boot_ms);
        }
        let waits = unsettled >= max_unavailable;
        self.view.why = waits.then_some(Gate::Hold(Hold::Back { unsettled, max_unavailable }));
        !waits
    }

    // --- steps ---

    /// Goes back to the newest rollout's `from` (R12).
    pub(super) fn go_back(&mut self, cause: Cause, note: &str) {
        let Some(course) = &self.course else { return };
        // A way back from what an older rollout brought is none of the newest rollout's receipts.
        let rollout = match &self.prior {
            Some(prior) if self.running == Some(prior.to) && self.running != Some(course.to) => {
                prior.rollout
            }
            _ => course.id,
        };
        self.begin_back(rollout, cause, note);
    }

    /// Goes back to the newest rollout's `from`, in the name of the rollout whose release must go.
    fn begin_back(&mut self, rollout: Digest, cause: Cause, note: &str) {
        let from = self.course.as_ref().and_then(|course| course.from);
        self.watch = None;
        self.begin(StepKind::Revert, rollout, None, from);
        if let Some(step) = &mut self.step {
            (step.cause, step.note) = (Some(cause), proto::receipt::note(note));
        }
    }

    fn begin(&mut self, kind: StepKind, rollout: Digest, from: Option<Digest>, to: Option<Digest>) {
        self.attempts += 1;
        let (attempt, cause, note) = (self.attempts, None, String::new());
        let adopt =
            kind == StepKind::Activate && self.course.as_ref().is_some_and(|course| course.adopt);
        self.step = Some(Step { attempt, rollout, kind, from, to, adopt, cause, note });
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
        let begun = self.step.as_ref().filter(|step| step.kind == StepKind::Activate);
        if stopped && let Some(begun) = begun {
            // How far it came nobody knows: it is what must go.
            self.running = begun.to;
            self.go_back(Cause::Fleet, "stopped while it was restarting");
        }
        let (Some(watch), None) = (self.watch, &self.step) else { return };
        self.step = Some(Step {
            attempt: watch.attempt,
            rollout: watch.rollout,
            kind: StepKind::Activate,
            from: watch.from,
            to: Some(watch.release),
            adopt: watch.adopt,
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
            (StepKind::Activate, Some(to)) => {
                Effect::Activate { attempt, from: step.from, to, adopt: step.adopt }
            }
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
