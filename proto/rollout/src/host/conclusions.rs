//! What a host concludes of the rollout as a whole, and asks certificates for (R14, R17).

use proto::certificate::{self, Claim};
use proto::statement::Direction;

use super::take::share_of;
use super::{Effect, Host};
use crate::gate::{self, Facts, Heard, Sight};
use crate::{Now, RESIGN_MS};

/// How far the hosts that see a rollout complete are spread, in milliseconds for each host of the
/// cohort and in all: one certificate is enough.
const CERTIFY_MS_EACH: u64 = 20;
const CERTIFY_MS_MAX: u64 = 30_000;

impl Host {
    pub(super) fn judge_halt(&mut self, now: Now) {
        let (Some(plan), Some(course)) = (self.view.plan(), &self.course) else { return };
        let own = course.rank.is_some() && certificate::is_failure(course.standing());
        let open = !course.complete && !course.halted;
        let asks = open && (self.view.failure_is_new || own);
        let halted = asks && self.by_facts(now, plan, course, gate::halted).is_some();
        self.view.failure_is_new = false;
        if halted && let Some(course) = &mut self.course {
            course.halted = true;
            self.view.changed = true;
        }
    }

    /// A rollout that was stopped puts its release into the penalty box, whether or not it ran here.
    pub(super) fn box_what_was_stopped(&mut self) {
        let Some(course) = self.course.as_ref().filter(|course| course.is_stopped()) else {
            return;
        };
        // What a way back leads to is not bad for that the way was stopped.
        if course.direction == Direction::Forward {
            self.put_in_box(course.to);
        }
    }

    pub(super) fn judge_completion(&mut self, now: Now) {
        let (Some(plan), Some(course)) = (self.view.plan(), &self.course) else { return };
        if course.complete || course.is_stopped() || !course.is_at_rest() {
            self.view.complete_at = None;
            return;
        }
        let last = plan.waves.len() - 1;
        let done = self.by_facts(now, plan, course, |facts| is_over(facts, last));
        match self.view.complete_at {
            _ if !done => self.view.complete_at = None,
            None => self.view.complete_at = Some(now.boot_ms + self.certify_delay_ms()),
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

    /// This host's place in the time over which hosts that come to one conclusion are spread.
    fn certify_delay_ms(&self) -> u64 {
        let (Some(plan), Some(course)) = (self.view.plan(), &self.course) else { return 0 };
        let window_ms = (CERTIFY_MS_EACH * plan.cohort.len() as u64).min(CERTIFY_MS_MAX);
        1 + share_of(&course.id, &self.me, window_ms)
    }

    /// Asks for the certificate of the newest wave that is done, for hosts that come later and may
    /// not hear those before them. Of the last wave there is that of completion.
    pub(super) fn judge_waves(&mut self, now: Now, out: &mut Vec<Effect>) {
        let (Some(plan), Some(course)) = (self.view.plan(), &self.course) else { return };
        let open = course.cares_for_others() && !course.is_stopped() && !course.complete;
        let numbers = (0..).zip(0..plan.waves.len() - 1);
        let done = self.by_facts(now, plan, course, |facts| {
            numbers
                .filter(|(number, _)| open && !course.is_certified(Claim::Wave(*number)))
                .take_while(|(_, wave)| is_over(facts, *wave))
                .last()
        });
        let rollout = course.id;
        match (done, self.view.wave_at) {
            (None, _) => self.view.wave_at = None,
            (Some(_), None) => self.view.wave_at = Some(now.boot_ms + self.certify_delay_ms()),
            (Some((number, _)), Some(at)) if now.boot_ms >= at => {
                out.push(Effect::Certify { rollout, claim: Claim::Wave(number) });
                self.view.wave_at = Some(now.boot_ms + RESIGN_MS);
            }
            (Some(_), Some(_)) => {}
        }
    }

    /// Asks for the certificates of what this host has concluded by itself, until it is told that
    /// they exist: only a certificate outlives the receipts it is made of (R17).
    pub(super) fn certify(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(course) = &self.course else { return };
        let mut claims = Vec::new();
        for (claim, concluded) in [(Claim::Halt, course.halted), (Claim::Complete, course.complete)]
        {
            if concluded && !course.is_certified(claim) {
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
    pub(super) fn sight(&self, now_ms: u64, rank: usize) -> Sight {
        match &self.course {
            Some(course) if course.rank == Some(rank) => {
                Sight { standing: Some(course.standing()), heard: Heard::Fresh }
            }
            _ => self.view.sight(now_ms, rank),
        }
    }
}

/// Whether the waves up to this one are done, and nobody of them may still change that.
fn is_over(facts: &Facts<'_>, wave: usize) -> bool {
    gate::is_waited_out(facts, wave) && gate::is_done(facts, wave)
}
