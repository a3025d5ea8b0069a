//! The promises, computed anew from what each host signed, did and was told. Nothing here asks the
//! code under test whether it was right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::receipt::{Cause, Receipt, State};
use proto::statement::{Action, Rollout};
use proto::{Digest, HostId};
use rollout::host::Host;

use super::world::World;
use crate::sim::Quality;

/// Silence that makes a host unreachable.
const SILENCE_MS: u64 = 90_000;

/// The rollout, and what was seen of the hosts so far.
pub(super) struct Checks {
    pub(super) id: Digest,
    pub(super) rollout: Arc<Rollout>,
    /// The number of the host with each rank.
    numbers: Vec<usize>,
    hosts: Vec<Seen>,
    /// Hosts that people removed.
    removed: BTreeSet<usize>,
}

#[derive(Default)]
struct Seen {
    /// Everything it ever signed, by sequence.
    signed: BTreeMap<u64, Receipt>,
    /// What it was told last of each other host since its agent started, by number.
    told: BTreeMap<usize, Told>,
    listens_since_ms: u64,
    /// When it first held the rollout.
    held_since_ms: Option<u64>,
    epoch: u64,
    halted: bool,
    complete: bool,
    ran: BTreeSet<Digest>,
    /// Orders it was ever told, a halt, and its own removal.
    orders: BTreeSet<Digest>,
    halt_told: bool,
    removal_told: bool,
    /// The health checks of what serves have failed.
    sick: bool,
    /// It goes back with the fleet, or has.
    goes_back: bool,
}

/// What keeps a host from starting anything, once it was told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Word {
    Order(Digest),
    Halt,
    Removal,
}

struct Told {
    receipt: Receipt,
    /// When something newer than the first came, if it did.
    risen_ms: Option<u64>,
}

/// Where the hosts of earlier waves stand, as a host was told.
#[derive(Debug, Default)]
struct Count {
    committed: usize,
    failed: usize,
    silent: usize,
    /// Removed, as far as the host knows, and neither committed nor failed.
    excused: usize,
    others: usize,
}

fn is_failure(receipt: &Receipt) -> bool {
    let own = matches!(receipt.cause, Some(Cause::Release | Cause::Host));
    own && matches!(receipt.state, State::Reverted | State::RevertFailed)
}

impl Checks {
    pub(super) fn new(id: Digest, rollout: Arc<Rollout>, ids: &[HostId]) -> Self {
        let number = |id: &HostId| ids.iter().position(|one| one == id).expect("it is a host");
        let numbers = rollout.cohort.iter().map(|host| number(&host.id)).collect();
        let hosts = ids.iter().map(|_| Seen::default()).collect();
        Self { id, rollout, numbers, hosts, removed: BTreeSet::new() }
    }

    /// How many hosts ever ran a release.
    pub(super) fn ever_ran(&self, release: Digest) -> usize {
        self.hosts.iter().filter(|host| host.ran.contains(&release)).count()
    }

    pub(super) fn receipts(&self) -> usize {
        self.hosts.iter().map(|host| host.signed.len()).sum()
    }

    pub(super) fn runs(&mut self, host: usize, release: Option<Digest>) {
        self.hosts[host].ran.extend(release);
    }

    /// Something begins to serve, or nothing does.
    pub(super) fn serves(&mut self, host: usize, current: Option<Digest>) {
        self.runs(host, current);
        self.hosts[host].sick = false;
    }

    pub(super) fn sickens(&mut self, host: usize) {
        self.hosts[host].sick = true;
    }

    /// A host's core is about to be told.
    pub(super) fn tells(&mut self, host: usize, word: Word) {
        let seen = &mut self.hosts[host];
        match word {
            Word::Order(id) => drop(seen.orders.insert(id)),
            Word::Halt => seen.halt_told = true,
            Word::Removal => seen.removal_told = true,
        }
    }

    pub(super) fn removes(&mut self, host: usize) {
        self.removed.insert(host);
    }

    pub(super) fn is_removed(&self, host: usize) -> bool {
        self.removed.contains(&host)
    }

    /// Whether all of a host's wave is removed, and nobody of it came through: nothing speaks for the
    /// release then, and what follows waits for people.
    pub(super) fn leaves_nobody(&self, host: usize) -> bool {
        let rank = self.numbers.iter().position(|number| *number == host);
        let Some(rank) = rank else { return false };
        let committed = |receipt: &Receipt| receipt.state == State::Committed;
        let mut wave = self.rollout.ranks_in(self.rollout.wave_of(rank));
        wave.all(|rank| {
            let host = self.numbers[rank];
            self.is_removed(host) && !self.hosts[host].signed.values().any(committed)
        })
    }

    /// Whether a host of this wave has begun to start the new release.
    pub(super) fn has_begun(&self, wave: usize) -> bool {
        let begun = |rank: usize| {
            let signed = &self.hosts[self.numbers[rank]].signed;
            signed.values().any(|receipt| receipt.state >= State::Activating)
        };
        self.rollout.ranks_in(wave).any(begun)
    }

    /// An agent starts, and knows of the others only what it will be told.
    pub(super) fn listens(&mut self, host: usize, now_ms: u64) {
        let seen = &mut self.hosts[host];
        seen.told.clear();
        seen.listens_since_ms = now_ms;
    }

    /// An agent takes the rollout in.
    pub(super) fn took(&mut self, host: usize, now_ms: u64) {
        let seen = &mut self.hosts[host];
        seen.listens_since_ms = now_ms;
        seen.held_since_ms.get_or_insert(now_ms);
    }

    /// The hosts of the cohort in the zone of this one, itself with them.
    fn mates(&self, host: usize) -> impl Iterator<Item = usize> {
        let cohort = &self.rollout.cohort;
        let rank = self.numbers.iter().position(|number| *number == host);
        let zone = rank.map(|rank| &cohort[rank].zone);
        let of_zone = move |rank: &usize| Some(&cohort[*rank].zone) == zone;
        (0..cohort.len()).filter(of_zone).map(|rank| self.numbers[rank])
    }

    /// How many of a zone may be stopped at once.
    fn max(&self) -> usize {
        self.rollout.max_unavailable as usize
    }

    fn failed(&self, ranks: std::ops::Range<usize>) -> usize {
        let failed = |rank: &usize| self.hosts[self.numbers[*rank]].signed.values().any(is_failure);
        ranks.filter(failed).count()
    }

    /// R14, from the truth: whether some budget for failures is used up.
    fn is_over_budget(&self) -> bool {
        let over = |wave: usize| {
            let own = self.rollout.ranks_in(wave);
            let all = self.failed(0..own.end);
            all > self.rollout.waves[wave].failed_max as usize
                || 2 * self.failed(own.clone()) > own.len()
        };
        (0..self.rollout.waves.len()).any(over)
    }

    /// From the truth: how many hosts of the cohort have not come to an end, and are waited for.
    fn open(&self) -> usize {
        let ended = |receipt: &Receipt| receipt.state == State::Committed || is_failure(receipt);
        let open = |number: &&usize| {
            !self.is_removed(**number) && !self.hosts[**number].signed.values().any(ended)
        };
        self.numbers.iter().filter(open).count()
    }

    /// When a host last heard of another one, by what it was told since it listens.
    fn heard_ms(&self, host: usize, of: usize) -> u64 {
        let risen_ms = self.hosts[host].told.get(&of).and_then(|told| told.risen_ms);
        risen_ms.unwrap_or(self.hosts[host].listens_since_ms)
    }

    /// Counts the hosts with these ranks, as a host was told of them. `excused`: those nobody waits
    /// for, as far as it knows.
    fn count(
        &self,
        host: usize,
        ranks: std::ops::Range<usize>,
        excused: &BTreeSet<HostId>,
        now_ms: u64,
    ) -> Count {
        let mut count = Count::default();
        for rank in ranks {
            let number = self.numbers[rank];
            let told = self.hosts[host].told.get(&number);
            let is_excused = excused.contains(&self.rollout.cohort[rank].id);
            let committed = told.filter(|told| told.receipt.state == State::Committed);
            let risen = told.is_some_and(|told| told.risen_ms.is_some());
            let place = match told {
                Some(told) if is_failure(&told.receipt) => &mut count.failed,
                _ if is_excused && committed.is_some() => &mut count.committed,
                _ if is_excused => &mut count.excused,
                _ if now_ms - self.heard_ms(host, number) > SILENCE_MS => &mut count.silent,
                _ if committed.is_some() && risen => &mut count.committed,
                _ => &mut count.others,
            };
            *place += 1;
        }
        count
    }
}

impl World {
    /// R14: a release that fails everywhere before the canaries' bake is over gets no further.
    pub(super) fn check_spread(&self, host: usize) {
        let Some(checks) = &self.checks else { return };
        if !matches!(self.scenario.quality, Quality::BadAtOnce | Quality::BadInBake) {
            return;
        }
        let ran = checks.ever_ran(checks.rollout.to.release);
        let canaries = checks.rollout.ranks_in(0).len();
        let place = self.place();
        assert!(ran <= canaries, "{place} host {host} is the {ran}. that runs it, {canaries} may");
    }

    fn checks(&mut self) -> &mut Checks {
        self.checks.as_mut().expect("a rollout was handed in before anything was signed")
    }

    /// Sequences rise, also over restarts; settled only grows (R15).
    pub(super) fn check_signed(&mut self, host: usize, receipt: &Receipt) {
        let place = self.place();
        let seen = &mut self.checks().hosts[host];
        if let Some((sequence, last)) = seen.signed.last_key_value() {
            let (state, now) = (last.state, receipt.state);
            assert!(receipt.sequence > *sequence, "{place} host {host} signs {sequence} again");
            let falls = state.is_settled() && !now.is_settled() && now != State::RevertFailed;
            assert!(!falls || seen.complete, "{place} host {host} was {state:?}, says {now:?}");
        }
        seen.signed.insert(receipt.sequence, receipt.clone());
    }

    /// R9, R11: what a host is told of another, that one has signed.
    pub(super) fn check_told(&mut self, host: usize, of: &HostId, receipt: &Receipt) {
        let (place, now_ms) = (self.place(), self.now_ms());
        let other = self.numbers[of];
        let checks = self.checks();
        let truth = checks.hosts[other].signed.get(&receipt.sequence);
        assert!(
            truth == Some(receipt),
            "{place} host {host} is told {receipt:?}, true is {truth:?}"
        );
        let told = &mut checks.hosts[host].told;
        let risen_ms = told.contains_key(&other).then_some(now_ms);
        told.insert(other, Told { receipt: receipt.clone(), risen_ms });
    }

    /// R5: epochs never go back. R17: a halt stays. Halt and completion are true.
    pub(super) fn check_core(&mut self, host: usize, core: &Host) {
        let place = self.place();
        let Some(checks) = &mut self.checks else { return };
        let (over, open) = (checks.is_over_budget(), checks.open());
        let open_max = checks.rollout.waves.last().map_or(0, |wave| wave.unreachable_max as usize);
        let seen = &mut checks.hosts[host];
        assert!(core.epoch() >= seen.epoch, "{place} host {host} went back in epochs");
        assert!(core.is_halted() || !seen.halted, "{place} host {host} forgot a halt");
        assert!(!core.is_halted() || over, "{place} host {host} halts within all budgets");
        let done = open <= open_max;
        assert!(!core.is_complete() || done, "{place} host {host} completes, {open} are open");
        (seen.epoch, seen.halted) = (core.epoch(), core.is_halted());
        seen.complete |= core.is_complete();
    }

    /// A host decides to make `to` serve: may it (R6, R14, R16)? What serves already is not started.
    pub(super) fn check_start(&mut self, host: usize, core: &Host, to: Digest) {
        let (place, now_ms) = (self.place(), self.now_ms());
        let place = format!("{place} host {host} starts and");
        let machine = &self.machines[host];
        if machine.service.current == Some(to) && machine.service.up {
            return;
        }
        let chain = machine.ledger.clone().expect("its agent runs").chain();
        let me = core.me().clone();
        let Some(checks) = &self.checks else { return };
        let seen = &checks.hosts[host];
        let mut orders = self.orders.iter().filter(|(order, _)| seen.orders.contains(order));
        let aborted = orders.clone().any(|(_, action)| *action == Action::Abort);
        let paused = orders.next_back().is_some_and(|(_, action)| *action == Action::Pause);
        assert!(!aborted && !paused, "{place} was told to stop");
        assert!(!seen.halt_told && !seen.halted, "{place} holds a halt");
        assert!(!seen.removal_told, "{place} it was removed");
        assert!(to == checks.rollout.to.release, "{place} it is not what the rollout brings");
        let is_complete = core.is_complete();
        if is_complete {
            return;
        }
        let rank = checks.rollout.rank_of(&me).expect("who is not in the cohort waits for its end");
        let wave = checks.rollout.wave_of(rank);
        let excused: BTreeSet<_> = chain.excuses(&checks.id).into_values().collect();
        for earlier in 0..wave {
            let budget = checks.rollout.waves[earlier];
            let own = checks.rollout.ranks_in(earlier);
            let count = |ranks| checks.count(host, ranks, &excused, now_ms);
            let (here, all) = (count(own.clone()), count(0..own.end));
            let within = all.failed <= budget.failed_max as usize && 2 * here.failed <= own.len();
            assert!(within, "{place} wave {earlier} is over its budget: {all:?}, {here:?}");
            if earlier + 1 == wave {
                assert!(all.others == 0, "{place} wave {earlier} is not done: {all:?}");
                assert!(all.silent <= budget.unreachable_max as usize, "{place} silent: {all:?}");
                assert!(all.committed > 0, "{place} nobody committed: {all:?}");
            }
        }
        let waits_s: u32 = checks.rollout.waves[..wave].iter().map(|wave| wave.wait_s).sum();
        let held_ms = now_ms - checks.hosts[host].held_since_ms.expect("it follows the rollout");
        assert!(held_ms >= u64::from(waits_s) * 1_000, "{place} held it for {held_ms} ms");
    }

    /// R15: of a zone, at most `max_unavailable` are stopped on purpose, in truth. One that was removed, and
    /// does not know, is beside them.
    pub(super) fn check_stop(&mut self, host: usize) {
        let place = self.place();
        let Some(checks) = &self.checks else { return };
        let id = checks.id;
        if checks.is_removed(host) {
            return;
        }
        let is_stopped = |number: &usize| {
            *number != host
                && !checks.is_removed(*number)
                && self.machines[*number].service.stopped_for == Some(id)
        };
        let (stopped, max) = (checks.mates(host).filter(is_stopped).count(), checks.max());
        assert!(
            stopped < max,
            "{place} host {host} stops, {stopped} of its zone are, {max} may be"
        );
        self.machines[host].service.stopped_for = Some(id);
    }

    /// A host stops what serves well to go back with the fleet (R15): of its zone so many do at most,
    /// of those that it can hear and that nobody removed.
    pub(super) fn check_back(&mut self, host: usize, core: &Host) {
        let (place, now_ms) = (self.place(), self.now_ms());
        let Some(checks) = &self.checks else { return };
        let new = Some(checks.rollout.to.release);
        let service = &self.machines[host].service;
        let well = service.up && service.current == new && !checks.hosts[host].sick;
        // What a crash cut off, or what could not go back, is not known to serve; in the lane hosts
        // start again and again.
        let unproven = matches!(core.state(), Some(State::Activating | State::RevertFailed));
        let ranked = checks.rollout.rank_of(core.me()).is_some();
        if !well || unproven || !ranked || checks.hosts.iter().any(|seen| seen.complete) {
            return;
        }
        let goes_back = |other: &usize| {
            let service = &self.machines[*other].service;
            let heard = now_ms - checks.heard_ms(host, *other) <= SILENCE_MS;
            checks.hosts[*other].goes_back
                && !service.up
                && service.current == new
                && heard
                && !checks.is_removed(*other)
        };
        let (stopped, max) = (checks.mates(host).filter(goes_back).count(), checks.max());
        assert!(
            stopped < max,
            "{place} host {host} goes back, {stopped} of its zone do, {max} may"
        );
        self.checks().hosts[host].goes_back = true;
    }
}
