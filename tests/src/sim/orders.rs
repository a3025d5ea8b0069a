//! What people say beside rollouts and orders to all: skips, freezes, removals. And the promises about
//! these, about windows, rolling rollouts, the penalty box and the way back.

use std::collections::BTreeSet;

use proto::certificate::Claim;
use proto::receipt::{Receipt, State};
use proto::statement::{Action, Direction, Directive, Freeze, Revocation, Rollout};
use proto::{Digest, UnixTime};
use rollout::host::{Host, Input};

use super::check::SILENCE_MS;
use super::node::EPOCH_S;
use super::scenario::Deed;
use super::world::{Word, World};

impl World {
    /// Signs it and hands it in.
    pub(super) fn order(&mut self, deed: Deed, id: Digest, newest: &Rollout) {
        self.sequence += 1;
        let now = UnixTime(EPOCH_S + self.now / 1_000);
        let freeze = |host: Option<usize>, for_s: u64| {
            Word::Freeze(Freeze {
                fleet: newest.fleet.clone(),
                env: newest.env.clone(),
                host: host.map(|host| self.nodes[host].id.clone()),
                sequence: self.sequence,
                until: now.plus_s(for_s),
                author: newest.author.clone(),
                created: now,
                reason: String::new(),
                critical: Vec::new(),
            })
        };
        let word = match deed {
            Deed::Freeze(for_s) => freeze(None, for_s),
            Deed::Hold(host, for_s) => freeze(Some(host), for_s),
            Deed::Remove(host) => Word::Revocation(Revocation {
                fleet: newest.fleet.clone(),
                env: newest.env.clone(),
                host: self.nodes[host].id.clone(),
                author: newest.author.clone(),
                created: now,
                reason: String::new(),
                critical: Vec::new(),
            }),
            Deed::Skip(host) => Word::Directive(Directive {
                fleet: newest.fleet.clone(),
                rollout: id,
                sequence: self.sequence,
                action: Action::Skip,
                wave: None,
                host: Some(self.nodes[host].id.clone()),
                author: newest.author.clone(),
                created: now,
                reason: String::new(),
                critical: Vec::new(),
            }),
            _ => freeze(None, 0),
        };
        self.hand_in(word);
    }

    /// Tells the machine what it knows of these all in all, as a store of statements does.
    pub(super) fn tell_orders(&mut self, host: usize) {
        self.handle(host, Input::Frozen { until: self.frozen_until(host) });
        if self.is_removed(host) {
            self.handle(host, Input::Removed);
        }
        if let Some(id) = self.nodes[host].machine.as_ref().and_then(Host::rollout) {
            let excused =
                (0..self.nodes.len()).filter(|other| self.knows_excused(host, id, *other));
            let hosts: BTreeSet<_> = excused.map(|other| self.nodes[other].id.clone()).collect();
            self.handle(host, Input::Excused { rollout: id, hosts });
        }
    }

    /// A clone of a host is heard from now on, or no more.
    pub(super) fn clone_of(&mut self, host: usize, is_there: bool) {
        self.nodes[host].twin = is_there;
        if self.nodes[host].machine.is_some() {
            let told = self.nodes[host].twin_told();
            self.give(host, told);
        }
    }

    // --- what a host holds, and what of it its machine was told ---

    fn held(&self, host: usize) -> impl Iterator<Item = &Word> {
        self.among(self.nodes[host].holds)
    }

    fn known(&self, host: usize) -> impl Iterator<Item = &Word> {
        self.among(self.nodes[host].knows)
    }

    fn among(&self, bits: u64) -> impl Iterator<Item = &Word> {
        let words = self.words.iter().enumerate();
        words.filter(move |(bit, _)| bits & (1 << bit) != 0).map(|(_, word)| word)
    }

    /// By the freeze with the highest number of each target.
    fn frozen_until(&self, host: usize) -> Option<UnixTime> {
        let me = &self.nodes[host].id;
        let newest = |target: Option<&proto::HostId>| {
            let freezes = self.known(host).filter_map(|word| match word {
                Word::Freeze(freeze) if freeze.host.as_ref() == target => Some(freeze),
                _ => None,
            });
            freezes.max_by_key(|freeze| freeze.sequence).map(|freeze| freeze.until)
        };
        newest(None).max(newest(Some(me)))
    }

    fn is_removed(&self, host: usize) -> bool {
        self.known(host).any(|word| self.removes(word, host))
    }

    pub(super) fn is_removed_by_any(&self, host: usize) -> bool {
        self.words.iter().any(|word| self.removes(word, host))
    }

    /// Whether a host lets nothing of another one in any more.
    pub(super) fn has_cut_off(&self, host: usize, other: usize) -> bool {
        self.held(host).any(|word| self.removes(word, other))
    }

    fn removes(&self, word: &Word, host: usize) -> bool {
        matches!(word, Word::Revocation(revocation) if revocation.host == self.nodes[host].id)
    }

    /// Whether the machine of a host was told since its start that nobody waits for another one.
    fn knows_excused(&self, host: usize, id: Digest, other: usize) -> bool {
        self.known(host).any(|word| self.excuses(word, id, other))
    }

    /// Whether a host may know that nobody waits for another one: it was told, now or before a restart.
    pub(super) fn is_excused(&self, host: usize, id: Digest, other: usize) -> bool {
        self.held(host).any(|word| self.excuses(word, id, other))
    }

    pub(super) fn is_excused_by_any(&self, id: Digest, other: usize) -> bool {
        self.words.iter().any(|word| self.excuses(word, id, other))
    }

    fn excuses(&self, word: &Word, id: Digest, other: usize) -> bool {
        self.removes(word, other)
            || matches!(word, Word::Directive(skip) if skip.action == Action::Skip
                && skip.rollout == id && skip.host.as_ref() == Some(&self.nodes[other].id))
    }

    // --- promises ---

    /// A host starts something: nothing that it was told keeps it (R6, R9, R17).
    pub(super) fn check_orders(&self, host: usize, id: Digest, rollout: &Rollout, place: &str) {
        let complete = self.nodes[host].machine.as_ref().is_some_and(Host::is_complete);
        assert!(!self.is_removed(host), "{place} it was removed");
        assert!(complete || !self.knows_excused(host, id, host), "{place} it was skipped");
        if rollout.direction == Direction::Rollback {
            return;
        }
        assert!(!self.nodes[host].knows_twin, "{place} another machine has its key");
        let unix = self.nodes[host].now(self.now).unix;
        let frozen = self.frozen_until(host).is_some_and(|until| unix < until);
        assert!(!frozen, "{place} it is frozen");
        let open = |window: &proto::statement::Window| window.contains(unix);
        let windows = &rollout.windows;
        assert!(windows.is_empty() || windows.iter().any(open), "{place} no window is open");
        let boxed = self.checks.is_boxed(host, rollout.to.release);
        assert!(complete || rollout.retry || !boxed, "{place} the release was stopped before");
        if let Some(in_flight_max) = rollout.in_flight_max.filter(|_| !complete) {
            self.check_in_flight(host, id, rollout, in_flight_max as usize, place);
        }
    }

    /// A rolling rollout: in truth so many hosts are between their start and their end at most. One
    /// that was skipped, and may not know, is beside them.
    fn check_in_flight(&self, host: usize, id: Digest, rollout: &Rollout, max: usize, place: &str) {
        if self.is_excused_by_any(id, host) {
            return;
        }
        let under_way = |rank: &usize| {
            let other = self.numbers[&rollout.cohort[*rank].id];
            let said = || self.nodes[other].signed.iter().filter(|receipt| receipt.rollout == id);
            let is = |receipt: &Receipt| matches!(receipt.state, State::Activating | State::Baking);
            // One that bakes what an older rollout started has not started anything in this one.
            let started = said().any(|receipt| receipt.state == State::Activating);
            other != host
                && said().next_back().is_some_and(is)
                && started
                && self.nodes[other].lie.is_none()
                && !self.is_excused_by_any(id, other)
        };
        let under_way = (0..rollout.cohort.len()).filter(under_way).count();
        assert!(under_way < max, "{place} {under_way} are under way, {max} may be");
        let rank = rollout.rank_of(&self.nodes[host].id).expect("it is in the cohort");
        let unheard = self.unheard_below(host, id, rollout, rank);
        let unreachable_max = rollout.waves[rollout.wave_of(rank)].unreachable_max as usize;
        assert!(unheard <= unreachable_max, "{place} {unheard} before it are not heard");
    }

    /// A host stops what serves well to go back with the fleet (R15): of its zone so many do at most,
    /// of those that hear it as it hears them.
    pub(super) fn check_back(&mut self, host: usize) {
        let node = &self.nodes[host];
        let Some(machine) = &node.machine else { return };
        let Some(id) = machine.rollout() else { return };
        let rollout = self.rollout(id);
        let left = node.service.current;
        let from = rollout.from.as_ref().map(|from| from.release);
        let well = node.service.up && left != from && !self.checks.is_sick(host);
        let Some(rank) = rollout.rank_of(&node.id) else { return };
        // What a crash cut off, or what could not go back, is not known to serve; in the lane hosts start again and again.
        let unproven = matches!(machine.state(), Some(State::Activating | State::RevertFailed));
        if !well || unproven || self.is_said(id, Claim::Complete) {
            return;
        }
        let zone = &rollout.cohort[rank].zone;
        let goes_back = |other: &usize| {
            let others = &self.nodes[*other].service;
            let hear_each_other = self.hears(host, *other) && self.hears(*other, host);
            let last = self.nodes[*other].signed.iter().rfind(|receipt| receipt.rollout == id);
            let failed = last.is_some_and(|last| last.state == State::RevertFailed);
            // Who learned late that what an older rollout brought must go is not waited for.
            let late = left != Some(rollout.to.release) && self.was_further(*other, id);
            self.checks.goes_back(*other, id)
                && !others.up
                && others.current == left
                && !failed
                && !late
                && hear_each_other
        };
        let mates = rollout.cohort.iter().filter(|mate| mate.zone == *zone);
        let stopped = mates.map(|mate| self.numbers[&mate.id]).filter(goes_back).count();
        let (place, max) = (self.place(), rollout.max_unavailable as usize);
        assert!(stopped < max, "{place} host {host} goes back and {stopped} of zone {zone} do");
        self.checks.went_back(host, id);
    }

    /// Whether a host has heard of another one of late.
    fn hears(&self, host: usize, other: usize) -> bool {
        let node = &self.nodes[host];
        node.boot_ms(self.now).saturating_sub(node.heard[other].at_ms) <= SILENCE_MS
    }

    /// Whether a host has once said that it was no more pending in a rollout.
    fn was_further(&self, host: usize, id: Digest) -> bool {
        let own = self.nodes[host].signed.iter().filter(|receipt| receipt.rollout == id);
        { own }.any(|receipt| receipt.state != State::Pending)
    }
}
