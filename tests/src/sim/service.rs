//! What a host's disk and service do when asked: they take time, fail, and are cut off by crashes.

use proto::Digest;
use proto::receipt::Cause;
use rollout::host::Input;

use super::driver::Given;
use super::node::{Journal, Service};
use super::scenario::{Outage, Quality, Scenario};
use super::world::{Event, World};

/// A step of the service that ends now.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub(super) attempt: u64,
    /// What `current` points at from now on, and whether it serves.
    pub(super) current: Option<Digest>,
    pub(super) up: bool,
    pub(super) answer: Input,
}

impl Service {
    /// The guard at boot: what has not passed its bake goes, offline (R19).
    pub(crate) fn boot(&mut self) {
        if let Some(Journal { attempt, from, .. }) = self.journal {
            self.current = from;
            let note = "the machine restarted before the bake was over".to_owned();
            let cause = Cause::Host;
            self.fail(&Input::ActivationFailed { attempt, reverted: true, cause, note });
            self.journal = None;
        }
        self.up = self.current.is_some();
        (self.stopped_for, self.sick_at) = (None, None);
    }

    /// An activation is written down before anything is touched.
    pub(crate) fn begin(&mut self, attempt: u64, from: Option<Digest>, to: Digest) {
        self.journal = Some(Journal { attempt, from, to });
        self.ended = None;
    }

    /// What was begun last did not end well.
    pub(crate) fn fail(&mut self, answer: &Input) {
        if let Some(journal) = self.journal {
            self.ended = Some((journal, answer.clone()));
        }
    }

    /// What became of this very activation, if it was the last one.
    pub(crate) fn answer_again(&self, attempt: u64, to: Digest) -> Option<Input> {
        let (journal, answer) = self.ended.as_ref()?;
        ((journal.attempt, journal.to) == (attempt, to)).then(|| answer.clone())
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
        let delay_ms = self.rng.between(50, 4_000) * self.slowness(host);
        self.push_in(delay_ms, Event::Answer { host, incarnation, input });
    }

    /// How many times longer a slow disk takes.
    fn slowness(&self, host: usize) -> u64 {
        if self.nodes[host].slow_disk && !self.healed { 12 } else { 1 }
    }

    /// Whether what the services of this host's zone lean on is down: no release gets ready.
    fn is_out(&self, host: usize) -> bool {
        let now_s = self.now / 1_000;
        let out = |outage: &Outage| {
            (outage.from_s..outage.until_s).contains(&now_s) && outage.zone == self.zone_of(host)
        };
        !self.healed && self.scenario.outages.iter().any(out)
    }

    pub(super) fn activate(&mut self, host: usize, attempt: u64, from: Option<Digest>, to: Digest) {
        let service = &self.nodes[host].service;
        if let Some(answer) = service.answer_again(attempt, to) {
            let (current, up) = (service.current, service.up);
            return self.serve_in(10, host, Done { attempt, current, up, answer });
        }
        if service.current == Some(to) && service.up {
            let current = Some(to);
            self.nodes[host].service.begin(attempt, from, to);
            let answer = Input::Activated { attempt };
            return self.serve_in(20, host, Done { attempt, current, up: true, answer });
        }
        self.check_stop(host);
        let service = &mut self.nodes[host].service;
        service.begin(attempt, from, to);
        (service.up, service.sick_at) = (false, None);
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
        let down_ms = self.rng.between(300, 3_000) * self.slowness(host);
        let fault = !self.healed && self.rng.permille(self.scenario.host_faults);
        let failure = if self.is_out(host) {
            Some((Cause::Release, "healthz answered 503 three times"))
        } else if fault {
            Some((Cause::Host, "the disk is full"))
        } else if self.never_ready(host, to) {
            Some((Cause::Release, "healthz answered 500 three times"))
        } else {
            None
        };
        let Some((cause, note)) = failure else {
            let answer = Input::Activated { attempt };
            return (down_ms, Done { attempt, current: Some(to), up: true, answer });
        };
        // The way back can fail for the same reason, unless it is the release that is bad.
        let reverted = match self.is_out(host) {
            true => from.is_none(),
            false => !fault || self.rng.permille(700),
        };
        let note = note.to_owned();
        let answer = Input::ActivationFailed { attempt, reverted, cause, note };
        let current = if reverted { from } else { Some(to) };
        let up = reverted && from.is_some();
        (down_ms + 2_000, Done { attempt, current, up, answer })
    }

    /// Whether a release does not get ready on a host: the same answer on every try.
    pub(super) fn never_ready(&self, host: usize, release: Digest) -> bool {
        let Scenario { quality, seed, .. } = self.scenario;
        let bad = quality.never_ready(seed, host, self.zone_of(host));
        bad && release == self.scenario.release(1)
    }

    pub(super) fn revert(&mut self, host: usize, attempt: u64, to: Option<Digest>) {
        let down_ms = self.rng.between(200, 2_000) * self.slowness(host);
        let service = &mut self.nodes[host].service;
        (service.up, service.ended) = (false, None);
        let current = service.current;
        let fault = !self.healed && self.rng.permille(self.scenario.host_faults);
        // Where nothing shall serve, nothing has to get ready.
        let done = if to.is_some() && (fault || self.is_out(host)) {
            let note = "healthz answered 503 three times".to_owned();
            let answer = Input::RevertFailed { attempt, note };
            Done { attempt, current, up: false, answer }
        } else {
            Done { attempt, current: to, up: to.is_some(), answer: Input::Reverted { attempt } }
        };
        self.serve_in(down_ms, host, done);
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
        let Done { attempt, current, up, answer } = done;
        let service = &mut self.nodes[host].service;
        (service.current, service.up, service.stopped_for) = (current, up, None);
        if let Input::ActivationFailed { .. } = answer {
            service.fail(&answer);
        }
        match answer {
            // What serves again is trusted; what is still to go is not.
            Input::Reverted { .. } | Input::ActivationFailed { reverted: true, .. } => {
                (service.journal, service.freed) = (None, true);
            }
            Input::RevertFailed { .. } | Input::ActivationFailed { .. } => {
                (service.stuck, service.freed) = (service.stuck + 1, false);
            }
            _ => service.freed = true,
        }
        self.check_current(host);
        if let Input::Activated { .. } = answer {
            self.turn_bad(host, attempt, current);
        }
        self.give(host, Given::Input(answer));
    }

    /// Plans the time at which a release that starts well turns unhealthy.
    fn turn_bad(&mut self, host: usize, attempt: u64, current: Option<Digest>) {
        if current != Some(self.scenario.release(1)) {
            return;
        }
        let canary_ms = u64::from(self.scenario.stages[0].wait_s) * 1_000;
        if let Quality::BadUnderLoad(permille) = self.scenario.quality {
            return self.load(permille);
        }
        let turns_bad_ms = self.scenario.quality.turns_bad_ms(&mut self.rng, canary_ms);
        let Some(delay_ms) = turns_bad_ms else { return };
        // What serves already goes on as it was, whoever watches it.
        let sick_at = *self.nodes[host].service.sick_at.get_or_insert(self.now + delay_ms);
        let delay_ms = sick_at.saturating_sub(self.now).max(1);
        self.sicken(host, attempt, delay_ms);
    }

    /// Plans the time at which the health checks of what is watched on a host fail.
    fn sicken(&mut self, host: usize, attempt: u64, delay_ms: u64) {
        let incarnation = self.nodes[host].incarnation;
        let input = Input::Unhealthy { attempt, note: "errors in 40 of 100 requests".to_owned() };
        self.push_in(delay_ms, Event::Answer { host, incarnation, input });
    }

    /// One host more serves what bears no load: does it still?
    fn load(&mut self, permille: u64) {
        let bad = Some(self.scenario.release(1));
        let loaded = |host: &usize| self.nodes[*host].service.current == bad;
        let loaded: Vec<_> = (0..self.nodes.len()).filter(loaded).collect();
        if (loaded.len() as u64) * 1_000 > permille * self.nodes.len() as u64 {
            for host in loaded {
                self.sicken_watched(host);
            }
        }
    }

    /// What the services of a zone lean on goes down: every check in it fails, old or new.
    pub(super) fn go_out(&mut self, zone: usize) {
        for host in 0..self.nodes.len() {
            if self.zone_of(host) == zone {
                self.sicken_watched(host);
            }
        }
    }

    fn sicken_watched(&mut self, host: usize) {
        let delay_ms = self.rng.between(100, 10_000);
        if let Some(Journal { attempt, .. }) = self.nodes[host].service.journal {
            self.sicken(host, attempt, delay_ms);
        }
    }
}
