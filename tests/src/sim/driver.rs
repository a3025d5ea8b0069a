//! The driver between a machine and its surroundings: inputs in, effects done in their order, one
//! after the other; and what is left of it after a crash.

use proto::receipt::Receipt;
use proto::statement::{Action, Directive, Rollout};
use rollout::host::{Effect, Host, Input};
use rollout::verdict::Verdict;

use super::world::{Event, Word, World};

/// Something for a machine, as it waits in front of it.
#[derive(Debug)]
pub(super) enum Given {
    Input(Input),
    /// A receipt of another host, by its place among all that this signed.
    Receipt {
        of: usize,
        version: u32,
    },
    /// A statement or certificate that the host holds.
    Word {
        bit: usize,
    },
}

impl Given {
    /// Whether it answers an effect, or is about what an effect started.
    const fn is_answer(&self) -> bool {
        let Self::Input(input) = self else { return false };
        !matches!(input, Input::Tick | Input::Certificate { .. })
    }
}

impl World {
    /// Gives a machine something. While an effect takes its time, it waits: an agent does one thing
    /// after the other.
    pub(super) fn give(&mut self, host: usize, given: Given) {
        let inbox = &mut self.nodes[host].inbox;
        // Answers go before everything else: a bake that ended meanwhile must not pass before what
        // ended it badly is heard.
        let place = match given.is_answer() {
            true => inbox.iter().take_while(|waiting| waiting.is_answer()).count(),
            false => inbox.len(),
        };
        inbox.insert(place, given);
        if self.nodes[host].doing.is_none() {
            self.work(host);
        }
    }

    /// A slow effect is done; on with what waits.
    pub(super) fn disk_done(&mut self, host: usize) {
        if let Some(effect) = self.nodes[host].doing.take() {
            self.apply_one(host, effect);
        }
        self.work(host);
    }

    /// Does what is to be done and takes what was given, until nothing is left or it is cut off.
    fn work(&mut self, host: usize) {
        while self.work_off(host) {
            let Some(given) = self.nodes[host].inbox.pop_front() else {
                self.check_state(host);
                self.plan_wake(host);
                return;
            };
            self.take(host, given);
        }
    }

    /// Does the effects in their order; whether that came to its end.
    fn work_off(&mut self, host: usize) -> bool {
        while let Some(effect) = self.nodes[host].todo.pop_front() {
            let slow = self.nodes[host].slow_disk && !self.healed && self.rng.permille(300);
            if !self.healed && self.rng.permille(self.scenario.interrupted) {
                let (machine, down_ms) = (self.rng.permille(500), self.rng.between(1_000, 100_000));
                self.nodes[host].doing = Some(effect);
                self.crash(host, machine, down_ms);
                return false;
            }
            if slow && matches!(effect, Effect::Persist | Effect::Commit { .. }) {
                let incarnation = self.nodes[host].incarnation;
                let delay_ms = self.rng.between(20, 5_000);
                self.nodes[host].doing = Some(effect);
                self.push_in(delay_ms, Event::Disk { host, incarnation });
                return false;
            }
            self.apply_one(host, effect);
        }
        true
    }

    /// Notes what a machine is told, for the checks, and tells it.
    fn take(&mut self, host: usize, given: Given) {
        if self.nodes[host].machine.is_none() {
            return;
        }
        match given {
            Given::Input(input) => self.handle(host, input),
            Given::Receipt { of, version } => {
                let receipt = self.nodes[of].shown(version, host).clone();
                self.nodes[host].told(of, version, receipt.rollout, self.now);
                self.handle(host, Input::Receipt(receipt));
            }
            Given::Word { bit } => {
                self.nodes[host].knows |= 1 << bit;
                self.take_word(host, self.words[bit].clone());
            }
        }
    }

    fn take_word(&mut self, host: usize, word: Word) {
        match word {
            Word::Rollout { id, rollout } => {
                self.checks.took(host, id, self.now);
                self.handle(host, Input::Rollout { id, rollout });
                let node = &mut self.nodes[host];
                let follows = node.machine.as_ref().and_then(Host::rollout) == Some(id);
                if follows && node.listens_for != Some(id) {
                    node.listen(id, self.now);
                    self.tell_again(host, id);
                }
            }
            Word::Directive(Directive { action: Action::Skip, .. })
            | Word::Freeze(_)
            | Word::Revocation(_) => self.tell_orders(host),
            Word::Directive(directive) => {
                self.checks.obeys(host, &directive);
                self.handle(host, Input::Directive(directive));
            }
            Word::Certificate { rollout, claim } => {
                self.handle(host, Input::Certificate { rollout, claim });
            }
        }
    }

    pub(super) fn handle(&mut self, host: usize, input: Input) {
        match &input {
            Input::Unhealthy { .. } => self.checks.sickens(host),
            Input::Twin { address } => self.nodes[host].knows_twin = address.is_some(),
            _ => {}
        }
        let node = &mut self.nodes[host];
        let now = node.now(self.now);
        let Some(machine) = &mut node.machine else { return };
        let before = (machine.state(), machine.rollout().filter(|_| machine.is_halted()));
        self.story.tell(host, self.now, || match &input {
            Input::Receipt(Receipt { host, sequence, state, cause, .. }) => {
                format!("hears that {host} stands at {state:?} {cause:?} (its receipt {sequence})")
            }
            Input::Rollout { id, rollout } => {
                let Rollout { epoch, from, to, .. } = &**rollout;
                let from = from.as_ref().map(|from| from.release);
                format!("hears of rollout {id}, epoch {epoch}, {from:?} -> {}", to.release)
            }
            input => format!("hears {input:?}"),
        });
        let stopped = machine.is_halted() || machine.is_aborted();
        let judged = match input {
            Input::Verdict { verdict, .. } => machine.running().zip(Some(verdict)),
            _ => None,
        };
        let mut effects = Vec::new();
        machine.handle(now, input, &mut effects);
        self.inputs += 1;
        self.taken.join(machine.taken());
        if machine.state() != before.0 {
            let stands = (machine.state(), machine.cause());
            self.story.tell(host, self.now, || format!("stands at {stands:?}"));
        }
        let forgot = before.1.is_some() && before.1 == machine.rollout() && !machine.is_halted();
        if let Some((release, verdict)) = judged
            && effects.iter().any(|effect| matches!(effect, Effect::Revert { .. }))
        {
            // Once the rollout is stopped, it may as well be this host's turn to go back.
            if !stopped {
                self.check_blame(host, release, verdict);
            }
            if !stopped || !matches!(verdict, Verdict::Pass(_) | Verdict::Quiet { .. }) {
                self.checks.sickens(host);
            }
        }
        for effect in &effects {
            self.story.tell(host, self.now, || format!("does {effect:?}"));
            match effect {
                Effect::Activate { to, .. } => self.check_decision(host, *to),
                Effect::Revert { .. } => self.check_back(host),
                _ => {}
            }
        }
        assert!(!forgot, "{} host {host} forgot a halt", self.place());
        self.nodes[host].todo.extend(effects);
    }

    fn apply_one(&mut self, host: usize, effect: Effect) {
        match effect {
            Effect::Persist => {
                self.write(host);
                self.check_persisted(host);
            }
            Effect::Publish(receipt) => {
                self.check_receipt(host, &receipt);
                self.nodes[host].signed.push(receipt);
                self.hear_own(host);
            }
            Effect::Fetch { release } => self.fetch(host, release),
            Effect::Activate { attempt, from, to, .. } => self.activate(host, attempt, from, to),
            Effect::Revert { attempt, to } => self.revert(host, attempt, to),
            Effect::Commit { attempt } => self.commit(host, attempt),
            Effect::Certify { rollout, claim } => {
                if self.check_claim(host, rollout, claim) {
                    self.say(host, Word::Certificate { rollout, claim });
                    let incarnation = self.nodes[host].incarnation;
                    let input = Input::Certificate { rollout, claim };
                    self.push_in(1, Event::Answer { host, incarnation, input });
                }
            }
        }
    }

    fn write(&mut self, host: usize) {
        let node = &mut self.nodes[host];
        node.record = serde_json::to_vec(&node.machine).expect("records serialize");
        if std::mem::take(&mut node.service.freed) {
            node.service.stuck = 0;
        }
    }

    fn plan_wake(&mut self, host: usize) {
        let node = &mut self.nodes[host];
        let deadline = node.machine.as_ref().and_then(Host::next_deadline);
        let at = deadline.map(|boot_ms| node.when(boot_ms).max(self.now + 1));
        if node.wake_at != at {
            node.wake_at = at;
            if let Some(at) = at {
                self.push(at, Event::Wake { host });
            }
        }
    }

    // --- crashes ---

    /// What was under way is lost. A write that was not synced is on the disk afterwards or is not.
    pub(super) fn crash(&mut self, host: usize, machine: bool, down_ms: u64) {
        let written = self.rng.permille(500);
        if self.nodes[host].doing == Some(Effect::Persist) && written {
            self.write(host);
        }
        self.story.tell(host, self.now, || format!("crashes, machine: {machine}"));
        let node = &mut self.nodes[host];
        node.machine = None;
        node.service.freed = false;
        node.wake_at = None;
        node.incarnation += 1;
        (node.doing, node.todo, node.inbox) = Default::default();
        if machine {
            node.service.up = false;
        }
        self.push_in(down_ms, Event::Restart { host, machine });
    }

    pub(super) fn restart(&mut self, host: usize, machine: bool) {
        let now = self.now;
        let node = &mut self.nodes[host];
        if machine {
            node.booted_at = now;
            node.service.boot();
        }
        node.machine = serde_json::from_slice(&node.record).expect("a record is whole");
        node.forget(host);
        if let Some(machine) = &node.machine {
            self.checks.restored(host, machine);
        }
        let at = node.now(now);
        let mut effects = Vec::new();
        if let Some(machine) = &mut node.machine {
            machine.resume(at, &mut effects);
        }
        self.inputs += 1;
        self.story.tell(host, self.now, || "restarts".to_owned());
        let node = &mut self.nodes[host];
        node.todo.extend(effects);
        let held = (0..self.words.len()).filter(|bit| node.holds & (1 << bit) != 0);
        // What may keep it comes first: the rollout itself may start something.
        node.inbox.push_back(node.twin_told());
        node.inbox.extend(held.map(|bit| Given::Word { bit }));
        self.work(host);
    }
}
