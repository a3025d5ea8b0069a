//! What services are asked, how much of it fails, and what hosts make of it (R24): each counts its own
//! and tells the others, who hear of it a little later.

use std::collections::VecDeque;

use proto::Digest;
use proto::record::TallyRecord;
use proto::statement::{Limits, Rollout};
use rollout::host::{Host, Input};
use rollout::verdict::{Streak, Tallies, Tally, Verdict, pooled};

use super::driver::Given;
use super::rng::mix;
use super::scenario::Load;
use super::world::{Event, World};

/// From one count to the next, and how far back requests count, in milliseconds.
const COUNT_MS: u64 = 1_000;
const WINDOW_MS: u64 = 30_000;
/// How old what others say is at least, and by how much more at most, in milliseconds.
const TOLD_MS: u64 = 500;
const TOLD_MS_MORE: u64 = 1_000;
/// Counts between two looks at the others before a gate.
const POOL_EVERY: u64 = 5;

/// What the requests of all rollouts of a scenario with a load are held against.
pub(super) fn limits(waves: usize) -> Limits {
    let errors_ppm = vec![Load::ABOVE_PERMILLE * 1_000; waves];
    Limits { errors_ppm, requests_min: 100, warmup_s: 3, p99_ratio_percent: None }
}

/// What a host counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    release: Option<Digest>,
    /// When, requests, errors; of the last window.
    seconds: VecDeque<(u64, u64, u64)>,
    /// What it told, and when; the last few.
    told: VecDeque<(u64, TallyRecord)>,
    /// Its own looks at the attempt that bakes, and how many hosts it saw there on the old release.
    streak: Option<(u64, Streak)>,
    controls: usize,
    /// How much it saw of both sides when it last compared them for its gate: bad ones, of so many.
    pub(super) compared: Option<[(u64, u64); 2]>,
}

impl Counts {
    /// The process starts again.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn clear(&mut self, release: Option<Digest>) {
        self.release = release;
        self.seconds.clear();
    }

    fn tally(&self, now: u64) -> Tally {
        let sum = |of: fn(&(u64, u64, u64)) -> u64| self.seconds.iter().map(of).sum();
        let oldest = self.seconds.front().map_or(now, |(at, ..)| at - COUNT_MS);
        Tally {
            requests: sum(|(_, requests, _)| *requests),
            errors: sum(|(_, _, errors)| *errors),
            over_ms: u32::try_from(now - oldest).expect("a window"),
            ..Tally::default()
        }
    }
}

impl World {
    /// A host reads its page, tells the others, and compares.
    pub(super) fn count_requests(&mut self, host: usize) {
        self.push_in(COUNT_MS, Event::Count { host });
        let Some(machine) = &self.nodes[host].machine else { return };
        let (serves, baking) = (machine.steady(), machine.baking());
        let warmup_ms = u64::from(limits(1).warmup_s) * 1_000;
        let warm = baking.is_none_or(|(_, baked_ms)| baked_ms >= warmup_ms);
        let drawn = serves.filter(|_| warm).map(|release| self.draw(host, release));
        let now = self.now;
        let counts = &mut self.nodes[host].counts;
        if counts.release != serves || !warm {
            counts.clear(serves);
        }
        counts.seconds.extend(drawn.map(|(requests, errors)| (now, requests, errors)));
        while counts.seconds.front().is_some_and(|(at, ..)| now - at >= WINDOW_MS) {
            counts.seconds.pop_front();
        }
        let tally = counts.tally(now);
        // Once nothing serves, what was told is taken back.
        let last = counts.told.back().map(|(_, record)| record.release);
        let told = serves.map(|release| tally.to_record(release));
        let nothing = last.map(|release| Tally::default().to_record(release));
        counts.told.extend(told.or(nothing).map(|record| (now, record)));
        while counts.told.len() > 5 {
            counts.told.pop_front();
        }
        match baking {
            Some((attempt, _)) if warm => self.compare_own(host, attempt, tally),
            _ if (now / COUNT_MS + host as u64).is_multiple_of(POOL_EVERY) => {
                self.compare_pool(host);
            }
            _ => {}
        }
    }

    /// The requests of the last second, and those that failed.
    fn draw(&mut self, host: usize, release: Digest) -> (u64, u64) {
        let Some(load) = self.scenario.load else { return (0, 0) };
        let up = self.nodes[host].service.up;
        let share = self.errors_permille(load, release);
        let errors = (0..load.rate).filter(|_| !up || self.rng.permille(share)).count();
        (load.rate, errors as u64)
    }

    /// The share of errors on any host with that release, of a thousand.
    fn errors_permille(&self, load: Load, release: Digest) -> u64 {
        let out = load.outage.filter(|(from_s, until_s, _)| {
            (*from_s..*until_s).contains(&(self.now / 1_000)) && !self.healed
        });
        let shared = load.errors + out.map_or(0, |(.., permille)| permille);
        (shared + if self.is_overloaded(load, release) { load.worse } else { 0 }).min(1_000)
    }

    /// Whether a release fails more often because so many hosts run it.
    fn is_overloaded(&self, load: Load, release: Digest) -> bool {
        let bad = self.scenario.release(1);
        let loaded = self.nodes.iter().filter(|node| node.service.current == Some(bad)).count();
        release == bad && loaded as u64 * 1_000 > load.above * self.nodes.len() as u64
    }

    /// What a host was told of the others' counts, and knows of its own.
    fn tallies(&self, host: usize) -> Tallies {
        let told = |other: &usize| {
            let lag = mix(host as u64 ^ (*other as u64) << 20 ^ self.now) % TOLD_MS_MORE;
            let heard = *other == host || !self.is_cut(*other, host);
            let node = &self.nodes[*other];
            let known = self.now.saturating_sub(if *other == host { 0 } else { TOLD_MS + lag });
            let told = node.counts.told.iter().rfind(|(at, _)| *at <= known);
            let (_, record) = told.filter(|_| heard && node.machine.is_some())?;
            Some((node.id.clone(), record.clone()))
        };
        (0..self.nodes.len()).filter_map(|other| told(&other)).collect()
    }

    fn compare_own(&mut self, host: usize, attempt: u64, tally: Tally) {
        let Some(rollout) = self.followed(host) else { return };
        let Some(limits) = &rollout.limits else { return };
        let wave = rollout.rank_of(&self.nodes[host].id).map_or(0, |rank| rollout.wave_of(rank));
        let control = self.tallies(host).control(&rollout);
        let held = self.nodes[host].counts.streak.take().filter(|(same, _)| *same == attempt);
        let (_, mut streak) = held.unwrap_or((attempt, Streak::default()));
        let verdict = streak.look(tally, &control, limits, limits.errors_ppm[wave]);
        self.nodes[host].counts.streak = Some((attempt, streak));
        self.nodes[host].counts.controls = control.len();
        self.give(host, Given::Input(Input::Verdict { attempt, verdict }));
    }

    fn compare_pool(&mut self, host: usize) {
        let machine = self.nodes[host].machine.as_ref();
        let Some(wave) = machine.and_then(Host::awaits_pool) else { return };
        let Some(rollout) = self.followed(host) else { return };
        let tallies = self.tallies(host);
        let Some(verdict) = pooled(&rollout, wave, &tallies) else { return };
        self.nodes[host].counts.compared = Some(sums(&rollout, wave, &tallies));
        let rollout = self.nodes[host].machine.as_ref().and_then(Host::rollout);
        let Some(rollout) = rollout else { return };
        self.give(host, Given::Input(Input::Pooled { rollout, verdict }));
    }

    fn followed(&self, host: usize) -> Option<std::sync::Arc<Rollout>> {
        let id = self.nodes[host].machine.as_ref().and_then(Host::rollout)?;
        Some(self.rollout(id))
    }

    // --- promises ---

    /// R24: nothing starts behind hosts that, by what this one was told, are worse beyond all doubt;
    /// a promote is no excuse.
    pub(super) fn check_requests(&self, host: usize, rollout: &Rollout, place: &str) {
        let Some([new, old]) = self.nodes[host].counts.compared else { return };
        let Some(limits) = rollout.limits.as_ref().filter(|_| new.1.min(old.1) >= 100) else {
            return;
        };
        let share = |(bad, of): (u64, u64)| bad as f64 / of as f64;
        let variance = |side| share(side) * (1.0 - share(side)) / side.1 as f64 + 1e-6;
        let above = share(new) - share(old) - f64::from(limits.errors_ppm[0]) / 1e6;
        let sure = above / (variance(new) + variance(old)).sqrt();
        assert!(sure < 4.0, "{place} the release is worse: {new:?} against {old:?}");
    }

    /// R24: a host goes back for its requests only where its release is worse than the one before:
    /// never for what an outage does to both, as far as the others can show it.
    pub(super) fn check_blame(&self, host: usize, release: Digest, verdict: Verdict) {
        let Some(load) = self.scenario.load else { return };
        let bad = release == self.scenario.release(1) && load.worse > Load::ABOVE_PERMILLE.into();
        // Fewer than three on the old release cannot, and with nobody left there is no telling.
        let alone = self.nodes[host].counts.controls < 3;
        let place = self.place();
        assert!(bad || alone, "{place} host {host} blames {release:?} for {verdict}");
    }
}

/// Errors and requests on the new release and on the old one, each host as it says.
fn sums(rollout: &Rollout, wave: usize, tallies: &Tallies) -> [(u64, u64); 2] {
    let ends = [rollout.ranks_in(wave).end, rollout.cohort.len()];
    let releases = [Some(rollout.to.release), rollout.from.as_ref().map(|from| from.release)];
    [0, 1].map(|side| {
        let hosts = rollout.cohort[..ends[side]].iter();
        let told = hosts.filter_map(|host| tallies.of(&host.id, releases[side]?));
        told.fold((0, 0), |(bad, of), tally| (bad + tally.errors, of + tally.requests))
    })
}
