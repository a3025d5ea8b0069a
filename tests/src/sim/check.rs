//! The promises, computed anew from what each host was told and did. Nothing here asks the code
//! under test whether it was right.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::Digest;
use proto::certificate::Claim;
use proto::receipt::{Cause, Receipt, State};
use proto::statement::{Action, Direction, Directive, OnFailure, Rollout};
use rollout::host::Host;

use super::Ending;
use super::scenario::{Deed, Quality};
use super::world::{Word, World};

/// Silence that makes a host unreachable, and the rate of the fastest and slowest clock.
pub(super) const SILENCE_MS: u64 = 90_000;
const DRIFT_PERMILLE: u64 = 3;

/// What was seen of the hosts so far.
pub(super) struct Checks {
    hosts: Vec<Seen>,
}

#[derive(Default)]
struct Seen {
    /// When it first held each rollout, in simulated time.
    took: BTreeMap<Digest, u64>,
    orders: BTreeMap<Digest, (u64, Action, Reverse<Option<u32>>)>,
    epoch: u64,
    halted: BTreeSet<Digest>,
    /// What it had concluded before a restart: the receipts may be lost.
    concluded: BTreeSet<(Digest, Claim)>,
    receipts: BTreeMap<Digest, (u64, State)>,
    ran: BTreeSet<Digest>,
    /// What serves, and since when.
    serves: Option<(Digest, u64)>,
    good: BTreeSet<Digest>,
    /// Releases it knows to have been stopped, by rollouts it followed.
    boxed: BTreeSet<Digest>,
    /// The health checks of what serves have failed.
    sick: bool,
    /// The rollout for which it goes back with the fleet, or last did.
    goes_back: Option<Digest>,
}

/// Where the earlier hosts stand, as a host was told.
#[derive(Debug, Default)]
struct Told {
    committed: usize,
    failed: usize,
    silent: usize,
    /// Skipped or removed, as far as the host knows, and neither committed nor failed.
    excused: usize,
    others: usize,
}

impl Checks {
    pub(super) fn new(hosts: usize) -> Self {
        Self { hosts: (0..hosts).map(|_| Seen::default()).collect() }
    }

    pub(super) fn took(&mut self, host: usize, rollout: Digest, now: u64) {
        self.hosts[host].took.entry(rollout).or_insert(now);
    }

    pub(super) fn obeys(&mut self, host: usize, directive: &Directive) {
        // Of two promotes the one that opens less.
        let order = (directive.sequence, directive.action, Reverse(directive.wave));
        let held = self.hosts[host].orders.entry(directive.rollout).or_insert(order);
        if held.1 != Action::Abort && (order > *held || order.1 == Action::Abort) {
            *held = order;
        }
    }

    pub(super) fn sickens(&mut self, host: usize) {
        self.hosts[host].sick = true;
    }

    pub(super) fn is_sick(&self, host: usize) -> bool {
        self.hosts[host].sick
    }

    pub(super) fn is_boxed(&self, host: usize, release: Digest) -> bool {
        self.hosts[host].boxed.contains(&release)
    }

    pub(super) fn went_back(&mut self, host: usize, rollout: Digest) {
        self.hosts[host].goes_back = Some(rollout);
    }

    pub(super) fn goes_back(&self, host: usize, rollout: Digest) -> bool {
        self.hosts[host].goes_back == Some(rollout)
    }

    /// A host comes back with this record.
    pub(super) fn restored(&mut self, host: usize, record: &Host) {
        let claims = [(Claim::Halt, record.is_halted()), (Claim::Complete, record.is_complete())];
        for (claim, concluded) in claims {
            if let Some(rollout) = record.rollout().filter(|_| concluded) {
                self.hosts[host].concluded.insert((rollout, claim));
            }
        }
    }

    pub(super) fn ever_ran(&self, release: Digest) -> usize {
        self.hosts.iter().filter(|host| host.ran.contains(&release)).count()
    }
}

// --- after every event ---

impl World {
    /// A release starts to serve, or something else does.
    pub(super) fn check_current(&mut self, host: usize) {
        let current = self.nodes[host].service.current;
        let known = |release| {
            release == self.scenario.release(0)
                || self.rollouts().any(|(_, rollout)| {
                    rollout.to.release == release
                        || rollout.from.as_ref().is_some_and(|from| from.release == release)
                })
        };
        assert!(current.is_none_or(known), "{} host {host} runs {current:?}", self.place());
        let now = self.now;
        let seen = &mut self.checks.hosts[host];
        seen.ran.extend(current);
        if seen.serves.map(|(release, _)| release) != current {
            seen.serves = current.map(|release| (release, now));
            seen.sick = false;
        }
        if current == Some(self.scenario.release(1)) {
            self.check_spread(host);
        }
    }

    /// R14: a release that fails everywhere before any bake is over gets as far as budgets let it,
    /// and no further; how far that is follows from the signed plans alone.
    fn check_spread(&self, host: usize) {
        let bad = self.scenario.release(1);
        let liars = !self.scenario.liars.is_empty();
        match self.scenario.quality {
            Quality::BadAtOnce => {}
            // Without a bake nothing is found out in it.
            Quality::BadInBake if !liars && self.scenario.stages[0].wait_s > 0 => {}
            _ => return,
        }
        let of_bad = self.rollouts().filter(|(_, rollout)| rollout.to.release == bad);
        let reach: usize = of_bad.map(|(id, rollout)| self.reach(id, rollout)).sum();
        let ran = self.checks.ever_ran(bad);
        assert!(
            ran <= reach,
            "{} host {host} is the {ran}. that serves it, {reach} may",
            self.place()
        );
    }

    /// Hosts of the waves that can open if every honest host of them fails or is silent.
    fn reach(&self, id: Digest, rollout: &Rollout) -> usize {
        let promoted = |word: &Word| matches!(word, Word::Directive(d) if d.rollout == id && d.action == Action::Promote);
        if self.words.iter().any(promoted) {
            return rollout.cohort.len();
        }
        let lies = |rank: &usize| self.nodes[self.number_of(rollout, *rank)].lie.is_some();
        let excused = |rank: &usize| self.is_excused_by_any(id, self.number_of(rollout, *rank));
        let holds = |wave: &usize| {
            let (hosts, budget) = (rollout.ranks_in(*wave).end, rollout.waves[*wave]);
            let waited_for = (0..hosts).filter(|rank| !lies(rank) && !excused(rank)).count();
            // Somebody must say that it committed, and all others be within the budgets.
            !(0..hosts).any(|rank| lies(&rank))
                || waited_for > (budget.failed_max + budget.unreachable_max) as usize
        };
        let last = (0..rollout.waves.len()).find(holds);
        last.map_or(rollout.cohort.len(), |wave| rollout.waves[wave].hosts as usize)
    }

    /// R5: epochs never go back. R17: a halt that is on disk stays.
    pub(super) fn check_persisted(&mut self, host: usize) {
        let Some(machine) = &self.nodes[host].machine else { return };
        let (epoch, halted, rollout) = (machine.epoch(), machine.is_halted(), machine.rollout());
        let seen = &self.checks.hosts[host];
        assert!(epoch >= seen.epoch, "{} host {host} went back to epoch {epoch}", self.place());
        if let Some(rollout) = rollout {
            let latched = seen.halted.contains(&rollout);
            assert!(halted || !latched, "{} host {host} forgot a halt", self.place());
            if halted {
                self.checks.hosts[host].halted.insert(rollout);
            }
        }
        self.checks.hosts[host].epoch = epoch;
        if let Some(rollout) = rollout {
            self.note_box(host, rollout);
        }
    }

    /// R17: a stop that the host holds on disk puts the release into its box, a retry takes it out.
    fn note_box(&mut self, host: usize, id: Digest) {
        let rollout = self.rollout(id);
        let seen = &mut self.checks.hosts[host];
        let aborted = seen.orders.get(&id).is_some_and(|(_, action, _)| *action == Action::Abort);
        if aborted || seen.halted.contains(&id) {
            seen.boxed.insert(rollout.to.release);
        } else if rollout.retry {
            seen.boxed.remove(&rollout.to.release);
        }
    }

    /// Sequences rise, also over restarts; settled only grows (R15); who commits has baked.
    pub(super) fn check_receipt(&mut self, host: usize, receipt: &Receipt) {
        let rollout = self.rollout(receipt.rollout);
        let complete = self.nodes[host].machine.as_ref().is_some_and(Host::is_complete);
        let seen = &self.checks.hosts[host];
        if let Some((sequence, state)) = seen.receipts.get(&receipt.rollout) {
            assert!(
                receipt.sequence > *sequence,
                "{} host {host} signs sequence {sequence} again",
                self.place()
            );
            let unsettled = state.is_settled() && !receipt.state.is_settled();
            assert!(
                !unsettled || complete || receipt.state == State::RevertFailed,
                "{} host {host} was {state:?}, says {:?}",
                self.place(),
                receipt.state
            );
        }
        if receipt.state == State::Committed {
            self.check_bake(host, &rollout);
            self.checks.hosts[host].good.insert(rollout.to.release);
        }
        let state = (receipt.sequence, receipt.state);
        self.checks.hosts[host].receipts.insert(receipt.rollout, state);
    }

    fn check_bake(&self, host: usize, rollout: &Rollout) {
        let seen = &self.checks.hosts[host];
        let to = rollout.to.release;
        let proven = seen.good.contains(&to) || to == self.scenario.release(0);
        if proven || rollout.direction == Direction::Rollback {
            return;
        }
        let wave = rollout.rank_of(&self.nodes[host].id).map_or(0, |rank| rollout.wave_of(rank));
        let needed_ms = u64::from(rollout.waves[wave].wait_s) * (1_000 - DRIFT_PERMILLE);
        let served_ms = seen.serves.filter(|(release, _)| *release == to);
        let served_ms = served_ms.map_or(0, |(_, since)| self.now - since);
        assert!(
            served_ms >= needed_ms,
            "{} host {host} committed after {served_ms} of {needed_ms} ms",
            self.place()
        );
    }

    /// A machine that does nothing knows what runs.
    pub(super) fn check_state(&mut self, host: usize) {
        let node = &self.nodes[host];
        let Some(machine) = &node.machine else { return };
        if machine.state() == Some(State::Committed) && node.service.stopped_for.is_none() {
            let (rollout, running) = (machine.rollout(), machine.running());
            let to = rollout.map(|id| self.rollout(id).to.release);
            assert!(running == to, "{} host {host} committed, runs {running:?}", self.place());
        }
    }

    /// A host decides to make `to` serve: may it (R6, R14, R16)? What serves already is not started.
    pub(super) fn check_decision(&mut self, host: usize, to: Digest) {
        let node = &self.nodes[host];
        let Some(machine) = &node.machine else { return };
        if node.service.current == Some(to) && node.service.up {
            return;
        }
        let id = machine.rollout().expect("it follows a rollout");
        let rollout = self.rollout(id);
        let place = format!("{} host {host} starts and", self.place());
        assert!(rollout.to.release == to, "{place} it is not what the rollout brings");
        self.check_words(host, id, &rollout, &place);
        self.check_orders(host, id, &rollout, &place);
        match rollout.rank_of(&node.id) {
            // Completion is proven, and checked where it was.
            _ if machine.is_complete() => {}
            None => panic!("{place} is not in the cohort"),
            Some(rank) => self.check_waves(host, id, &rollout, rank, &place),
        }
    }

    /// A host stops its service on purpose, now or again after a restart (R15).
    pub(super) fn check_stop(&mut self, host: usize) {
        let node = &self.nodes[host];
        let Some(id) = node.machine.as_ref().and_then(Host::rollout) else { return };
        let rollout = self.rollout(id);
        if let Some(rank) = rollout.rank_of(&node.id) {
            let place = format!("{} host {host} stops its service and", self.place());
            self.check_zone(host, id, &rollout, rank, &place);
        }
        self.nodes[host].service.stopped_for = Some(id);
    }

    /// What the host was told forbids nothing, nor does its wall clock (R7).
    fn check_words(&self, host: usize, id: Digest, rollout: &Rollout, place: &str) {
        let seen = &self.checks.hosts[host];
        let action = seen.orders.get(&id).map(|(_, action, _)| *action);
        assert!(action != Some(Action::Abort), "{place} it was aborted");
        assert!(action != Some(Action::Pause), "{place} it is paused");
        assert!(!seen.halted.contains(&id), "{place} it has halted");
        let complete = self.nodes[host].machine.as_ref().is_some_and(Host::is_complete);
        let over = self.nodes[host].now(self.now).unix >= rollout.expires;
        assert!(
            !over || complete || rollout.direction == Direction::Rollback,
            "{place} it expired"
        );
        for (bit, word) in self.words.iter().enumerate() {
            let knows = self.nodes[host].knows & (1 << bit) != 0;
            match word {
                Word::Certificate { rollout, claim: Claim::Halt } if knows => {
                    assert!(*rollout != id, "{place} holds a halt certificate");
                }
                Word::Rollout { id: other, rollout: same } if knows && *other != id => {
                    assert!(same.epoch < rollout.epoch, "{place} holds a newer or a second one");
                }
                _ => {}
            }
        }
    }

    fn check_waves(&self, host: usize, id: Digest, rollout: &Rollout, rank: usize, place: &str) {
        let wave = rollout.wave_of(rank);
        let promoted = matches!(
            self.checks.hosts[host].orders.get(&id),
            Some((_, Action::Promote, Reverse(Some(upto)))) if wave <= *upto as usize
        );
        if wave > 0 && rollout.direction == Direction::Forward {
            self.check_requests(host, rollout, place);
        }
        let mut all = Told::default();
        for earlier in 0..wave {
            let mut here = Told::default();
            let ranks = rollout.ranks_in(earlier);
            for rank in ranks.clone() {
                self.count(host, id, rollout, rank, &mut here);
            }
            all.committed += here.committed;
            all.failed += here.failed;
            all.silent += here.silent;
            all.excused += here.excused;
            all.others += here.others;
            let budget = rollout.waves[earlier];
            let within = all.failed <= budget.failed_max as usize && 2 * here.failed <= ranks.len();
            assert!(within, "{place} wave {earlier} is over its budget: {all:?}, {here:?}");
            if earlier + 1 == wave && !promoted {
                assert!(all.others == 0, "{place} wave {earlier} is not done: {all:?}");
                assert!(all.silent <= budget.unreachable_max as usize, "{place} silent: {all:?}");
                assert!(all.committed > 0, "{place} nobody committed: {all:?}");
            }
        }
        if promoted || rollout.direction == Direction::Rollback {
            return;
        }
        let waits_ms: u64 = (0..wave)
            .map(|wave| u64::from(rollout.waves[wave].wait_s) * (1_000 - DRIFT_PERMILLE))
            .sum();
        let held_ms = self.now - self.checks.hosts[host].took[&id];
        assert!(held_ms >= waits_ms, "{place} held it for {held_ms} of {waits_ms} ms");
    }

    /// Hosts of lower rank that the one that starts has not heard lately; none of them matters to one
    /// that an operator has promoted.
    pub(super) fn unheard_below(
        &self,
        host: usize,
        id: Digest,
        rollout: &Rollout,
        rank: usize,
    ) -> usize {
        let mut told = Told::default();
        for lower in 0..rank {
            self.count(host, id, rollout, lower, &mut told);
        }
        let order = self.checks.hosts[host].orders.get(&id);
        if matches!(order, Some((_, Action::Promote, _))) { 0 } else { told.silent }
    }

    /// Counts a host as the one that starts was told of it.
    fn count(&self, host: usize, id: Digest, rollout: &Rollout, rank: usize, told: &mut Told) {
        let other = self.number_of(rollout, rank);
        let node = &self.nodes[host];
        let heard = node.heard[other];
        let standing = self.told(host, id, other);
        let silent = node.boot_ms(self.now).saturating_sub(heard.at_ms) > SILENCE_MS;
        let place = match standing {
            Some(standing) if counts(standing) => &mut told.failed,
            Some((State::Committed, _)) if self.is_excused(host, id, other) => &mut told.committed,
            _ if self.is_excused(host, id, other) => &mut told.excused,
            _ if silent => &mut told.silent,
            Some((State::Committed, _)) if heard.times > 1 => &mut told.committed,
            _ => &mut told.others,
        };
        *place += 1;
    }

    /// Where a host stands, as another was told last; of itself a host knows.
    fn told(&self, host: usize, id: Digest, other: usize) -> Option<(State, Option<Cause>)> {
        let receipt = match (other == host, self.nodes[host].heard[other].told) {
            (true, _) => self.nodes[host].signed.iter().rfind(|receipt| receipt.rollout == id)?,
            (false, 0) => return None,
            (false, version) => self.nodes[other].shown(version, host),
        };
        (receipt.rollout == id).then_some((receipt.state, receipt.cause))
    }

    fn number_of(&self, rollout: &Rollout, rank: usize) -> usize {
        self.numbers[&rollout.cohort[rank].id]
    }

    /// R15: of a zone and a rollout, at most `max_unavailable` are stopped on purpose, in truth. One that
    /// was skipped or removed, and may not know, is beside them.
    fn check_zone(&self, host: usize, id: Digest, rollout: &Rollout, rank: usize, place: &str) {
        if self.is_excused_by_any(id, host) {
            return;
        }
        let zone = &rollout.cohort[rank].zone;
        let stopped = (0..rollout.cohort.len())
            .filter(|rank| rollout.cohort[*rank].zone == *zone)
            .map(|rank| self.number_of(rollout, rank))
            .filter(|other| *other != host && !self.is_excused_by_any(id, *other))
            .filter(|other| self.nodes[*other].service.stopped_for == Some(id))
            .count();
        let max = rollout.max_unavailable as usize;
        assert!(stopped < max, "{place} {stopped} of zone {zone} are stopped, {max} may be");
    }

    /// A claim is proven by what the host was told, or was before it restarted. Whether a certificate
    /// can be made of it now.
    pub(super) fn check_claim(&mut self, host: usize, id: Digest, claim: Claim) -> bool {
        let rollout = self.rollout(id);
        let place = format!("{} host {host} certifies {claim:?}:", self.place());
        let last = match claim {
            Claim::Wave(wave) => wave as usize,
            Claim::Halt | Claim::Complete => rollout.waves.len() - 1,
        };
        let (mut failed, mut ended, mut excused, mut over) = (0, 0, 0, false);
        let (mut open, mut committed) = (0, 0);
        for wave in 0..rollout.waves.len() {
            let ranks = rollout.ranks_in(wave);
            let before = failed;
            for rank in ranks.clone() {
                let other = self.number_of(&rollout, rank);
                match self.told(host, id, other) {
                    Some(standing) if counts(standing) => failed += 1,
                    Some((State::Committed, _)) => ended += 1,
                    _ if self.is_excused(host, id, other) => excused += 1,
                    _ => {}
                }
            }
            let here = failed - before;
            over |= failed > rollout.waves[wave].failed_max as usize || 2 * here > ranks.len();
            if wave == last {
                (open, committed) = (ranks.end - ended - failed - excused, ended);
            }
        }
        let unreachable_max = rollout.waves[last].unreachable_max as usize;
        let proven = match claim {
            Claim::Halt => over,
            Claim::Wave(_) | Claim::Complete => committed > 0 && open <= unreachable_max && !over,
        };
        let before = self.checks.hosts[host].concluded.contains(&(id, claim));
        assert!(proven || before, "{place} {ended} ended, {failed} failed, {open} open");
        let first = self.checks.hosts[host].concluded.insert((id, claim));
        if claim != Claim::Halt && first {
            let waits = |rank: &usize| {
                let other = self.number_of(&rollout, *rank);
                let mut told = Told::default();
                self.count(host, id, &rollout, *rank, &mut told);
                let committed = matches!(self.told(host, id, other), Some((State::Committed, _)));
                told.others > 0 && !committed && other != host
            };
            let rank = (0..rollout.ranks_in(last).end).find(waits);
            assert!(rank.is_none(), "{place} the host with rank {rank:?} is heard and not done");
        }
        proven
    }

    // --- at the end ---

    /// Where the healed fleet has come to rest, if it has.
    pub(super) fn rest(&self) -> Option<Ending> {
        let (id, rollout) = self.newest();
        let honest: Vec<_> =
            (0..self.nodes.len()).filter(|host| self.nodes[*host].lie.is_none()).collect();
        let machines = honest.iter().map(|host| self.nodes[*host].machine.as_ref());
        let machines: Option<Vec<_>> = machines.collect();
        let machines = machines?;
        let counts = |(_, deed): &&(u64, Deed)| !matches!(deed, Deed::GiveUp | Deed::Skip(_));
        let last_deed =
            self.scenario.deeds.iter().rfind(counts).map_or(0, |(at_s, _)| at_s * 1_000);
        if self.now <= last_deed || machines.iter().any(|machine| machine.rollout() != Some(id)) {
            return None;
        }
        let aborted = self.words.iter().any(|word| match word {
            Word::Directive(d) => d.rollout == id && d.action == Action::Abort,
            _ => false,
        });
        let stays = rollout.on_failure == OnFailure::Pause;
        let back = |host: usize| stays || self.is_back(host, &rollout);
        if machines.iter().all(|machine| machine.is_halted()) {
            return honest.into_iter().all(back).then_some(Ending::Halted);
        }
        if aborted {
            return honest.into_iter().all(back).then_some(Ending::Aborted);
        }
        let mut all = honest.into_iter().zip(&machines);
        let done = all.all(|(host, machine)| self.is_done(host, machine, &rollout));
        (done && machines.iter().all(|machine| machine.is_complete())).then_some(Ending::Complete)
    }

    /// Whether nothing of a rollout that went back is left on a host: where it ever ran, `from` or
    /// the release of a rollout that was superseded serves again (R12).
    fn is_back(&self, host: usize, rollout: &Rollout) -> bool {
        let service = &self.nodes[host].service;
        if self.needs_a_person(host) {
            return true;
        }
        let (from, to) = (rollout.from.as_ref().map(|from| from.release), rollout.to.release);
        let tos = |(_, other): (Digest, &Arc<Rollout>)| Some(other.to.release);
        let superseded = self.rollouts().filter(|(id, _)| !self.is_stopped(*id)).map(tos);
        let allowed =
            service.current == from || !self.checks.hosts[host].ran.contains(&to) || { superseded }
                .any(|to| to == service.current);
        let idle = service.stopped_for.is_none() && service.up == service.current.is_some();
        idle && allowed && service.current != Some(to)
    }

    /// Whether a host has tried to go back as often as it may, in vain (R18).
    fn needs_a_person(&self, host: usize) -> bool {
        let node = &self.nodes[host];
        let idle = node.machine.as_ref().is_some_and(|machine| machine.next_deadline().is_none());
        idle && node.service.stuck >= 3
    }

    /// Whether a host has what a complete rollout brings, or has failed by itself.
    fn is_done(&self, host: usize, machine: &Host, rollout: &Rollout) -> bool {
        let service = &self.nodes[host].service;
        let to = Some(rollout.to.release);
        // Nothing of it is waited for any more.
        if self.is_removed_by_any(host) {
            return service.stopped_for.is_none();
        }
        match machine.state() {
            Some(State::Committed) => service.current == to && service.up,
            Some(State::Reverted) => {
                let from = rollout.from.as_ref().map(|from| from.release);
                let given_up = machine.next_deadline().is_none();
                given_up && service.current == from
            }
            Some(State::RevertFailed) => self.needs_a_person(host),
            Some(State::Staged) => self.waits_for_a_person(host, rollout),
            _ => false,
        }
    }

    /// Whether as many as may be stopped at once could not go back, and hold their places (R15).
    fn waits_for_a_person(&self, host: usize, rollout: &Rollout) -> bool {
        let Some(own) = rollout.rank_of(&self.nodes[host].id) else { return false };
        let before =
            rollout.cohort[..own].iter().filter(|one| one.zone == rollout.cohort[own].zone);
        let held = before.filter(|one| self.needs_a_person(self.numbers[&one.id])).count();
        held >= rollout.max_unavailable as usize
    }

    /// For a panic: the words, and some hosts that are neither back nor done.
    pub(super) fn unrest(&self) -> String {
        let words = self.words.iter().map(short).collect::<Vec<_>>().join(", ");
        let (_, newest) = self.newest();
        let mut lines = vec![words];
        let (mut at_rest, mut moving) = (Vec::new(), Vec::new());
        for (host, node) in self.nodes.iter().enumerate() {
            let Some(machine) = &node.machine else { continue };
            let rests = machine.is_halted() && self.is_back(host, &newest)
                || machine.is_complete() && self.is_done(host, machine, &newest);
            // Those at rest come last: somebody may wait for them.
            let lines = if rests { &mut at_rest } else { &mut moving };
            lines.push(format!(
                "host {host} in {:?}: {:?} {:?}, runs {:?} (really {:?}), complete {}, halted {}, {}",
                machine.rollout(),
                machine.state(),
                machine.cause(),
                machine.running(),
                node.service.current,
                machine.is_complete(),
                machine.is_halted(),
                machine.why().map_or_else(String::new, ToString::to_string),
            ));
        }
        lines.extend(moving);
        lines.extend(at_rest);
        lines.truncate(12);
        lines.join("\n")
    }
}

/// Whether it uses up a budget: it failed, and neither with the fleet nor after the end.
fn counts((state, cause): (State, Option<Cause>)) -> bool {
    matches!(state, State::Reverted | State::RevertFailed)
        && !matches!(cause, Some(Cause::Fleet | Cause::Late))
}

fn short(word: &Word) -> String {
    match word {
        Word::Rollout { id, rollout } => format!("rollout {id} {}", rollout.epoch),
        Word::Directive(directive) => format!("{:?} {}", directive.action, directive.rollout),
        Word::Certificate { rollout, claim } => format!("{claim:?} {rollout}"),
        Word::Freeze(freeze) => format!("freeze {:?} until {}", freeze.host, freeze.until),
        Word::Revocation(revocation) => format!("{} removed", revocation.host),
    }
}
