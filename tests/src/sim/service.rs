//! What a host's disk and service do when asked: they take time, fail, and are cut off by crashes.

use proto::Digest;
use proto::receipt::Cause;
use rollout::host::Input;

use super::node::{Journal, Service};
use super::scenario::Quality;
use super::world::{Event, World};

/// A step of the service that ends now.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) attempt: u64,
    /// What serves from now on.
    pub(super) current: Option<Digest>,
    pub(super) answer: Input,
}

impl Service {
    /// The guard at boot: what has not passed its bake goes, offline (R19).
    pub(super) fn boot(&mut self) {
        if let Some(Journal { attempt, from }) = self.journal.take() {
            self.current = from;
            self.guarded = Some(attempt);
        }
        self.up = self.current.is_some();
        self.stopped_for = None;
    }
}

impl World {
    pub(super) fn fetch(&mut self, host: usize, release: Digest) {
        let incarnation = self.nodes[host].incarnation;
        let fails = !self.healed && self.rng.permille(self.scenario.host_faults);
        let input = match fails {
            true => Input::FetchFailed { release, note: "no peer has it".to_owned() },
            false => Input::Fetched { release },
        };
        let delay_ms = self.rng.between(50, 4_000);
        self.push_in(delay_ms, Event::Answer { host, incarnation, input });
    }

    pub(super) fn activate(&mut self, host: usize, attempt: u64, from: Option<Digest>, to: Digest) {
        let service = &self.nodes[host].service;
        if service.guarded == Some(attempt) {
            let note = "the machine restarted before the bake was over".to_owned();
            let cause = Cause::Host;
            let answer = Input::ActivationFailed { attempt, reverted: true, cause, note };
            self.nodes[host].service.guarded = None;
            let current = self.nodes[host].service.current;
            return self.serve_in(10, host, Done { attempt, current, answer });
        }
        if service.current == Some(to) && service.up {
            let current = Some(to);
            self.nodes[host].service.journal = Some(Journal { attempt, from });
            let answer = Input::Activated { attempt };
            return self.serve_in(20, host, Done { attempt, current, answer });
        }
        self.check_stop(host);
        let service = &mut self.nodes[host].service;
        service.journal = Some(Journal { attempt, from });
        service.up = false;
        let (down_ms, done) = self.outcome(host, attempt, from, to);
        self.serve_in(down_ms, host, done);
    }

    /// What becomes of starting a release.
    fn outcome(
        &mut self,
        host: usize,
        attempt: u64,
        from: Option<Digest>,
        to: Digest,
    ) -> (u64, Done) {
        let down_ms = self.rng.between(300, 3_000);
        let fault = !self.healed && self.rng.permille(self.scenario.host_faults);
        let failed = |cause, note: &str| {
            let note = note.to_owned();
            Input::ActivationFailed { attempt, reverted: true, cause, note }
        };
        if fault {
            let answer = failed(Cause::Host, "the disk is full");
            return (down_ms, Done { attempt, current: from, answer });
        }
        if self.never_ready(host, to) {
            let answer = failed(Cause::Release, "healthz answered 500 three times");
            return (down_ms + 2_000, Done { attempt, current: from, answer });
        }
        (down_ms, Done { attempt, current: Some(to), answer: Input::Activated { attempt } })
    }

    /// Whether a release does not get ready on a host: the same answer on every try.
    pub(super) fn never_ready(&self, host: usize, release: Digest) -> bool {
        release == self.scenario.release(1)
            && match self.scenario.quality {
                Quality::Good | Quality::BadInBake | Quality::BadLate => false,
                Quality::BadAtOnce => true,
                Quality::BadOn(permille) => {
                    super::rng::mix(self.scenario.seed ^ (host as u64) << 20) % 1_000 < permille
                }
            }
    }

    pub(super) fn revert(&mut self, host: usize, attempt: u64, to: Option<Digest>) {
        self.check_back(host);
        let down_ms = self.rng.between(200, 2_000);
        self.nodes[host].service.up = false;
        let answer = Input::Reverted { attempt };
        self.serve_in(down_ms, host, Done { attempt, current: to, answer });
    }

    pub(super) fn commit(&mut self, host: usize, attempt: u64) {
        let service = &mut self.nodes[host].service;
        service.journal.take_if(|journal| journal.attempt == attempt);
    }

    fn serve_in(&mut self, delay_ms: u64, host: usize, done: Done) {
        let incarnation = self.nodes[host].incarnation;
        self.push_in(delay_ms, Event::Service { host, incarnation, done });
    }

    /// The service has come to the end of a step.
    pub(super) fn serve(&mut self, host: usize, done: Done) {
        let Done { attempt, current, answer } = done;
        let service = &mut self.nodes[host].service;
        service.current = current;
        service.up = current.is_some();
        service.stopped_for = None;
        if !matches!(answer, Input::Activated { .. }) {
            service.journal = None;
        }
        self.check_current(host);
        if let Input::Activated { .. } = answer {
            self.turn_bad(host, attempt, current);
        }
        self.give(host, answer);
    }

    /// Plans the time at which a release that starts well turns unhealthy.
    fn turn_bad(&mut self, host: usize, attempt: u64, current: Option<Digest>) {
        if current != Some(self.scenario.release(1)) {
            return;
        }
        let canary_ms = u64::from(self.scenario.stages[0].wait_s) * 1_000;
        let delay_ms = match self.scenario.quality {
            Quality::Good | Quality::BadAtOnce | Quality::BadOn(_) => return,
            Quality::BadInBake => self.rng.below(canary_ms * 9 / 10),
            Quality::BadLate => self.rng.below(canary_ms * 3),
        };
        let incarnation = self.nodes[host].incarnation;
        let input = Input::Unhealthy { attempt, note: "errors in 40 of 100 requests".to_owned() };
        self.push_in(delay_ms, Event::Answer { host, incarnation, input });
    }
}
