//! What people do: sign rollouts and directives, and hand them to some host.

use std::sync::Arc;

use proto::certificate::Claim;
use proto::report::Fitness;
use proto::statement::{Action, Direction, Directive, Host, Policy, Rollout, Target};
use proto::{Digest, KeyId, UnixTime};
use rollout::plan::{self, Candidate, Strategy};

use super::driver::Given;
use super::node::EPOCH_S;
use super::requests;
use super::scenario::{Deed, direction};
use super::world::{Event, Word, World};

impl World {
    /// Signs the first rollout of the scenario: release 0 (or none) to release 1.
    pub(super) fn begin_first(&mut self) {
        let from = (!self.scenario.first).then(|| self.scenario.release(0));
        self.deploy(None, from, self.scenario.release(1), Deed::Deploy);
    }

    pub(super) fn act(&mut self, deed: Deed) {
        let (id, newest) = self.newest();
        let ended = self.is_said(id, Claim::Complete) || self.is_stopped(id);
        let (action, wave) = match deed {
            Deed::GiveUp if ended => return,
            Deed::Pause => (Action::Pause, None),
            Deed::Resume => (Action::Resume, None),
            Deed::Abort | Deed::GiveUp => (Action::Abort, None),
            Deed::Promote(wave) => (Action::Promote, Some(wave)),
            Deed::Deploy
            | Deed::Again
            | Deed::RollBack
            | Deed::Clash
            | Deed::Retry
            | Deed::Unaware => {
                return self.start(deed, id, &newest);
            }
            Deed::Skip(_) | Deed::Freeze(_) | Deed::Unfreeze | Deed::Hold(..) | Deed::Remove(_) => {
                return self.order(deed, id, &newest);
            }
            Deed::Twin(host, for_s) => {
                self.push_in(for_s * 1_000, Event::Deed { deed: Deed::Alone(host) });
                return self.clone_of(host, true);
            }
            Deed::Alone(host) => return self.clone_of(host, false),
        };
        self.sequence += 1;
        let word = Word::Directive(Directive {
            fleet: newest.fleet.clone(),
            rollout: id,
            sequence: self.sequence,
            action,
            wave,
            host: None,
            author: newest.author.clone(),
            created: newest.created,
            reason: String::new(),
            critical: Vec::new(),
        });
        self.hand_in(word);
    }

    fn start(&mut self, deed: Deed, id: Digest, newest: &Arc<Rollout>) {
        let number = 2 + self.words.len() as u64;
        let fresh = self.scenario.release(number);
        match deed {
            Deed::Retry | Deed::Unaware => {
                let (to, stable) = (newest.to.release, self.stable());
                if self.is_stopped(id) && stable != Some(to) {
                    self.deploy(Some((id, newest.epoch)), stable, to, deed);
                }
            }
            Deed::RollBack => {
                let from = newest.from.as_ref().map(|from| from.release);
                if let Some(from) = from.filter(|_| self.is_stable(id)) {
                    let to = newest.to.release;
                    self.deploy(Some((id, newest.epoch)), Some(to), from, deed);
                } else if !self.is_stopped(id) && !self.healed {
                    let pause_ms = self.rng.between(1_000, 40_000);
                    self.push_in(pause_ms, Event::Deed { deed });
                }
            }
            Deed::Clash => {
                let Some(previous) = newest.previous else {
                    // A clash of first rollouts: both without a previous one.
                    let from = newest.from.as_ref().map(|from| from.release);
                    return self.deploy(None, from, fresh, deed);
                };
                let stable = self.stable();
                self.deploy(Some((previous, newest.epoch - 1)), stable, fresh, deed);
            }
            _ => {
                let stable = self.stable();
                let to = if deed == Deed::Again { newest.to.release } else { fresh };
                if stable != Some(to) {
                    self.deploy(Some((id, newest.epoch)), stable, to, deed);
                }
            }
        }
    }

    fn deploy(
        &mut self,
        previous: Option<(Digest, u64)>,
        from: Option<Digest>,
        to: Digest,
        deed: Deed,
    ) {
        let direction = direction(deed);
        let scenario = &self.scenario;
        let strategy = match scenario.rolling {
            Some(_) => Strategy::AllAtOnce { failed_max: None, unreachable_max: None },
            None => Strategy::Canary(scenario.stages.clone()),
        };
        let plan =
            plan::plan(&self.candidates(), &strategy, direction, scenario.max_unavailable, &to);
        let mut plan = plan.expect("a scenario has hosts and stages");
        let hosts = u32::try_from(plan.cohort.len()).expect("few hosts");
        let in_flight_max = scenario.rolling.map(|batch| batch.of(hosts).max(1));
        if direction == Direction::Forward && in_flight_max.is_some() {
            plan.waves[0].wait_s = scenario.stages[0].wait_s;
        }
        let limits = scenario.load.map(|_| requests::limits(plan.waves.len()));
        let target = |release| Target { release, version: "1".parse().expect("a version") };
        // The second rollout and later ones do not expire: somebody must end what has.
        let expires = { scenario.expires_s }.filter(|_| previous.is_none());
        let expires = UnixTime(expires.map_or(u64::MAX, |after_s| EPOCH_S + after_s));
        let rollout = Rollout {
            fleet: "sim".parse().expect("a name"),
            service: self.scope.service.clone(),
            env: self.scope.env.clone(),
            epoch: previous.map_or(1, |(_, epoch)| epoch + 1),
            previous: previous.map(|(id, _)| id),
            from: from.map(target),
            to: target(to),
            direction,
            rules: proto::statement::RULES,
            cohort: plan.cohort,
            waves: plan.waves,
            max_unavailable: plan.max_unavailable,
            in_flight_max,
            windows: scenario.windows.clone(),
            limits,
            retry: deed != Deed::Unaware && self.was_stopped(to),
            adopt: false,
            on_failure: scenario.on_failure,
            approvals: Policy::default().approvals_min,
            created: UnixTime(0),
            expires,
            author: KeyId::of(&self.members()[0].key),
            reason: String::new(),
            critical: Vec::new(),
        };
        let id = Digest::of(format!("rollout {to:#} {}", rollout.epoch).as_bytes());
        self.hand_in(Word::Rollout { id, rollout: Arc::new(rollout) });
    }

    /// The hosts of the environment; those outside the cohort are silent while it is planned, as are
    /// those that are down just then.
    fn candidates(&self) -> Vec<Candidate> {
        let is_up = |number: usize| number < self.scenario.hosts && self.nodes[number].is_up();
        let some_up = (0..self.nodes.len()).any(is_up);
        let members = self.members().into_iter().enumerate();
        members
            .map(|(number, member)| {
                let label = |text: &str| text.parse().expect("a name");
                let labels = [("env", self.scope.env.as_str()), ("zone", member.zone.as_str())];
                let host = Host {
                    fleet: "sim".parse().expect("a name"),
                    id: member.id,
                    key: member.key,
                    name: label(&format!("h{number}")),
                    labels: labels.into_iter().map(|(k, v)| (label(k), label(v))).collect(),
                    issued: UnixTime(0),
                    critical: Vec::new(),
                };
                let heard = if some_up { is_up(number) } else { number < self.scenario.hosts };
                let fitness = if heard { Fitness::Fit } else { Fitness::Silent };
                Candidate { host, fitness }
            })
            .collect()
    }

    /// Whether a rollout to this release was stopped, so that bringing it again is a retry.
    fn was_stopped(&self, release: Digest) -> bool {
        self.rollouts().any(|(id, rollout)| rollout.to.release == release && self.is_stopped(id))
    }

    /// Gives a statement to a host that is up, and that holds the rollout it is about: others refuse
    /// it. Gossip does the rest.
    pub(super) fn hand_in(&mut self, word: Word) {
        let about = match &word {
            Word::Directive(directive) => Some(directive.rollout),
            _ => None,
        };
        let needed = self.held_rollouts().find(|(_, id, _)| Some(*id) == about);
        let bits = needed.map_or(0, |(bit, ..)| 1 << bit);
        let takes = |host: &usize| self.nodes[*host].holds & bits == bits;
        let is_up = |host: &usize| self.nodes[*host].machine.is_some();
        let start = self.rng.place(self.nodes.len());
        let order = || (start..self.nodes.len()).chain(0..start).filter(takes);
        // If all of those are down, the first to come back has it.
        let host = order().find(is_up).or_else(|| order().next()).unwrap_or(start);
        let bit = self.words.len();
        self.say(host, word);
        self.give(host, Given::Word { bit });
    }

    // --- what was signed ---

    pub(super) fn rollouts(&self) -> impl Iterator<Item = (Digest, &Arc<Rollout>)> {
        self.words.iter().filter_map(|word| match word {
            Word::Rollout { id, rollout } => Some((*id, rollout)),
            _ => None,
        })
    }

    /// The rollouts with their bits in `holds`, and their epochs.
    pub(super) fn held_rollouts(&self) -> impl Iterator<Item = (usize, Digest, u64)> {
        self.words.iter().enumerate().filter_map(|(bit, word)| match word {
            Word::Rollout { id, rollout } => Some((bit, *id, rollout.epoch)),
            _ => None,
        })
    }

    pub(super) fn rollout(&self, id: Digest) -> Arc<Rollout> {
        let found = self.rollouts().find(|(other, _)| *other == id);
        Arc::clone(found.expect("a rollout that was signed").1)
    }

    pub(super) fn first_rollout(&self) -> (Digest, Arc<Rollout>) {
        let (_, rollout) = self.rollouts().next().expect("there is one");
        (rollout.to.release, Arc::clone(rollout))
    }

    /// The rollout with the highest epoch; of two with one epoch, the first.
    pub(super) fn newest(&self) -> (Digest, Arc<Rollout>) {
        let epoch = self.rollouts().map(|(_, rollout)| rollout.epoch).max();
        let mut newest = self.rollouts().filter(|(_, rollout)| Some(rollout.epoch) == epoch);
        let (id, rollout) = newest.next().expect("there is one");
        (id, Arc::clone(rollout))
    }

    fn is_stable(&self, id: Digest) -> bool {
        self.is_said(id, Claim::Complete) && !self.is_stopped(id)
    }

    /// Whether a halt was proven or an abort signed, wherever that is known by now.
    pub(super) fn is_stopped(&self, id: Digest) -> bool {
        let aborted = |word: &Word| match word {
            Word::Directive(directive) => {
                directive.rollout == id && directive.action == Action::Abort
            }
            _ => false,
        };
        self.is_said(id, Claim::Halt) || self.words.iter().any(aborted)
    }

    pub(super) fn is_said(&self, id: Digest, claim: Claim) -> bool {
        let same = |word: &Word| match word {
            Word::Certificate { rollout, claim: said } => *rollout == id && *said == claim,
            _ => false,
        };
        self.words.iter().any(same)
    }

    /// What the last rollout brought that is complete.
    fn stable(&self) -> Option<Digest> {
        let complete = self.rollouts().filter(|(id, _)| self.is_stable(*id));
        let last = { complete }.max_by_key(|(_, rollout)| rollout.epoch);
        match last {
            Some((_, rollout)) => Some(rollout.to.release),
            None => (!self.scenario.first).then(|| self.scenario.release(0)),
        }
    }
}
