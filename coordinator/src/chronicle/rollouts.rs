//! One rollout followed: what is told of it, its row, its samples.

use std::collections::{BTreeMap, BTreeSet};

use proto::receipt::{Cause, State};
use proto::report::{RolloutPhase, RolloutReport, StandingReport};
use proto::statement::UnixTime;
use proto::{Digest, HostId, Name, Scope};
use rollout::report::began;
use serde::{Deserialize, Serialize};

use super::sampling::{self, Mark};
use super::stance::Stance;
use super::waits::Wait;
use super::{
    HOSTS_EACH_MAX, Look, NEAR_S, PROOF_LASTS_MS, QUIET_S, STANCE_LASTS_MS, START_MS, Seen, words,
};
use crate::events::{Event, Kind};
use crate::store::{Counts, Kept, RolloutRow, RowTarget};

/// A rollout that is followed.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) row: RolloutRow,
    pub(super) told: Told,
}

/// What was told of it. What a version before did not keep is as at the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    stance: Stance,
    /// Whether anything of it is told: not of one that is older than the chronicle, at first.
    loud: bool,
    /// That it is in force.
    pub(super) started: bool,
    /// Waves that are open, from the first one on.
    waves: u32,
    /// That every host is back.
    back: bool,
    /// Hosts that it failed on, and that could not go back.
    failed: BTreeSet<HostId>,
    stuck: BTreeSet<HostId>,
    sample: Option<Mark>,
    /// Whether people's words about it are told: those of before a version that does are not.
    hears: bool,
    /// The directive in force.
    said: Option<Digest>,
    /// Who has signed it beside its author.
    approved: BTreeSet<Name>,
}

impl Tracked {
    /// One that is seen for the first time, by a chronicle that began at `since`.
    pub(super) fn new(seen: &Seen, since: UnixTime, now: UnixTime) -> Self {
        let Seen { report, from, to, source, .. } = seen;
        let target = |(version, release)| RowTarget { version, release };
        let row = RolloutRow {
            seq: 0,
            id: report.id,
            scope: scope(report),
            epoch: report.epoch,
            direction: report.direction,
            adopt: report.adopt,
            from: report.from.clone().zip(*from).map(target),
            to: target((report.to.clone(), *to)),
            author: report.author.clone(),
            reason: report.reason.clone(),
            created: report.created,
            hosts: u32::try_from(report.hosts.len()).unwrap_or(u32::MAX),
            commit: source.commit.clone(),
            branch: source.branch.clone(),
            commit_time: source.commit_time,
            first_seen: now,
            started: None,
            ended: None,
            outcome: None,
            began: false,
            back: None,
            counts: Counts::default(),
        };
        // By a clock that may be behind this one; all that there is at first is history.
        let is_near = report.created.plus_s(NEAR_S) >= since && now >= since.plus_s(QUIET_S);
        // One that waits for signatures is none: somebody has to do something.
        let is_pending = report.phase == RolloutPhase::Pending;
        let loud = report.created >= since || is_near || is_pending;
        Self { row, told: Told { loud, hears: true, ..Told::default() } }
    }

    /// Whether it can still change. Asked in every look.
    pub(super) fn is_open(&self, seen: &Seen, look: &mut Look<'_>) -> bool {
        let stance = self.told.stance;
        let waits = stance.may_be_proven()
            && !look.waits.lasts(Wait::Proof(self.row.id, stance), PROOF_LASTS_MS);
        seen.newest || stance.outcome().is_none() || waits
    }

    /// Whether it came to an end that only a statement, or a failure long after it, can change.
    pub(super) const fn is_settled(&self) -> bool {
        let is_back = self.told.back || !self.row.began;
        matches!(self.told.stance, Stance::Complete) || (self.told.stance.is_stopped() && is_back)
    }

    /// Takes in how it stands now; what is to be kept, if anything is.
    pub(super) fn follow(
        &mut self,
        seen: &Seen,
        is_new: bool,
        look: &mut Look<'_>,
    ) -> Option<Kept> {
        let report = &seen.report;
        let (row, told) = (self.row.clone(), self.told.clone());
        self.told.loud |= seen.newest && look.now.unix >= self.row.first_seen.plus_s(QUIET_S);
        let mut events = Vec::new();
        self.approve(seen, look.now.unix, &mut events);
        self.start(report, look.now.unix, &mut events);
        self.hear(seen, look.now.unix, &mut events);
        self.open_waves(report, look.now.unix, &mut events);
        self.fail_hosts(report, look, &mut events);
        let before = self.told.stance;
        self.step(report, look, &mut events);
        self.come_back(seen, look, &mut events);
        self.learn(seen);
        if self.told.loud {
            look.events.append(&mut events);
        }
        let ended = before != self.told.stance || told.back != self.told.back;
        let sample = self.sample(seen, ended, look.now.unix);
        let open = self.is_open(seen, look);
        let changed = is_new || sample.is_some() || row != self.row || told != self.told;
        (changed || !open).then(|| {
            self.row.counts = Counts::of(&report.waves);
            self.kept(open, sample)
        })
    }

    fn kept(&self, open: bool, sample: Option<crate::store::NewSample>) -> Kept {
        let memory = serde_json::to_string(&self.told).expect("memories serialize");
        Kept { row: self.row.clone(), open, memory, sample }
    }

    fn approve(&mut self, seen: &Seen, now: UnixTime, events: &mut Vec<Event>) {
        if !self.told.hears {
            self.told.said = seen.said.as_ref().map(|word| word.statement);
            self.told.approved.extend(seen.approved.iter().cloned());
            self.told.hears = true;
        }
        let news = seen.approved.iter().filter(|name| self.told.approved.insert((*name).clone()));
        events.extend(news.map(|name| words::approved(&seen.report, name, now)));
    }

    /// What people have said of it: that it is paused or aborted is told as where it stands, and what is said
    /// of one that has ended means nothing.
    fn hear(&mut self, seen: &Seen, now: UnixTime, events: &mut Vec<Event>) {
        let Some(word) = seen.said.as_ref().filter(|word| self.told.said != Some(word.statement))
        else {
            return;
        };
        self.told.said = Some(word.statement);
        if self.told.stance.outcome().is_some() {
            return;
        }
        events.extend(words::said(&seen.report, word, now));
    }

    fn start(&mut self, report: &RolloutReport, now: UnixTime, events: &mut Vec<Event>) {
        if self.told.started || report.phase == RolloutPhase::Pending {
            return;
        }
        self.told.started = true;
        self.row.started = Some(if self.told.loud { now } else { report.created });
        events.push(words::rollout(Kind::RolloutStarted, report, now));
    }

    fn open_waves(&mut self, report: &RolloutReport, now: UnixTime, events: &mut Vec<Event>) {
        let open = report.waves.iter().rposition(|wave| wave.open).map_or(0, |last| last + 1);
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        if !self.told.started || open <= self.told.waves {
            return;
        }
        events.extend((self.told.waves..open).map(|wave| words::wave(report, wave, now)));
        self.told.waves = open;
    }

    fn fail_hosts(&mut self, report: &RolloutReport, look: &mut Look<'_>, events: &mut Vec<Event>) {
        let now = look.now.unix;
        self.row.began |= report.hosts.iter().any(began);
        let failed = |host: &&StandingReport| {
            host.state.is_some_and(State::is_failed) && host.cause != Some(Cause::Fleet)
        };
        let stuck = |host: &&StandingReport| host.state == Some(State::RevertFailed);
        let news = |known: &mut BTreeSet<HostId>, is: &dyn Fn(&&StandingReport) -> bool| {
            let found = report.hosts.iter().filter(is);
            found.filter(|host| known.insert(host.host.clone())).collect::<Vec<_>>()
        };
        let failed = news(&mut self.told.failed, &failed);
        let stuck = news(&mut self.told.stuck, &stuck);
        if self.told.loud {
            stuck.iter().for_each(|host| look.stuck.insert((scope(report), report.epoch), host));
        }
        for (kind, hosts) in [(Kind::HostFailed, failed), (Kind::HostStuck, stuck)] {
            if hosts.len() > HOSTS_EACH_MAX {
                events.push(words::many_of_rollout(kind, report, &hosts, now));
            } else {
                events.extend(hosts.iter().map(|host| words::host(kind, report, host, now)));
            }
        }
    }

    fn step(&mut self, report: &RolloutReport, look: &mut Look<'_>, events: &mut Vec<Event>) {
        let (id, now) = (report.id, look.now.unix);
        let before = self.told.stance;
        let mut lasts = |stance| look.waits.lasts(Wait::Stance(id, stance), STANCE_LASTS_MS);
        let stance = before.next(report, now, &mut lasts);
        if stance == before {
            return;
        }
        self.told.stance = stance;
        events.extend(stance.told_after(before).map(|kind| words::rollout(kind, report, now)));
        self.row.outcome = stance.outcome();
        // One that nobody brought about was waited for.
        let began = look.waits.began(&Wait::Stance(id, stance), now);
        self.row.ended = self.row.outcome.and_then(|_| self.ended(report, began));
        // Nothing is halted or complete without having begun.
        self.row.began |= matches!(stance, Stance::Halted | Stance::Complete);
    }

    /// When it ended, by this member's own clock: when the proof of it came, which may have been before
    /// anybody looked, or when that was seen first. What others wrote into statements is another clock's (R8). Of one
    /// that is older than the chronicle nobody here knows it without a proof.
    fn ended(&self, report: &RolloutReport, seen: UnixTime) -> Option<UnixTime> {
        let proven = matches!(report.phase, RolloutPhase::Halted | RolloutPhase::Complete);
        let proof_came = report.ended.filter(|ended| proven && *ended <= seen);
        proof_came.or_else(|| self.told.loud.then_some(seen))
    }

    /// Told once, and never taken back: so only after it has lasted, and once those who are there have had
    /// the time to be heard.
    fn come_back(&mut self, seen: &Seen, look: &mut Look<'_>, events: &mut Vec<Event>) {
        let stopped = self.told.stance.is_stopped() && self.row.began && seen.newest;
        if !stopped || self.told.back || !is_back(&seen.report) {
            return;
        }
        let lasts = look.waits.lasts(Wait::Returned(self.row.id), STANCE_LASTS_MS);
        if !lasts || !look.waits.has_looked_for(START_MS) {
            return;
        }
        let now = look.now.unix;
        self.told.back = true;
        let began = look.waits.began(&Wait::Returned(self.row.id), now);
        self.row.back = self.told.loud.then_some(began);
        events.push(words::rollout(Kind::RolloutRolledBack, &seen.report, now));
    }

    /// What comes to be known later.
    fn learn(&mut self, seen: &Seen) {
        let source = &seen.source;
        if self.row.commit_time.is_none() && self.row.commit.is_none() {
            self.row.commit.clone_from(&source.commit);
            self.row.branch.clone_from(&source.branch);
            self.row.commit_time = source.commit_time;
        }
    }

    fn sample(
        &mut self,
        seen: &Seen,
        changed: bool,
        now: UnixTime,
    ) -> Option<crate::store::NewSample> {
        let goes_on = self.told.started && self.told.stance.outcome().is_none();
        let goes_back = self.told.stance.is_stopped() && seen.newest && !self.told.back;
        let ended_now = changed && self.told.sample.is_some();
        // Of what is history nobody knows when it ended, and so not when its samples may go.
        if !self.told.loud || (!goes_on && !goes_back && !ended_now) {
            return None;
        }
        // Requests change all the time, and mean nothing once it was stopped.
        let sampled = sampling::sampled(&seen.report, goes_on);
        sampling::next(&mut self.told.sample, sampled, now, (goes_on, ended_now))
    }

    /// It is not known any more, and that lasts: one that lacked signatures, or the scope has another line
    /// of rollouts. One that is settled is not seen in every look.
    pub(super) fn vanished(
        &mut self,
        heads: &BTreeMap<Scope, u64>,
        look: &mut Look<'_>,
    ) -> Option<Kept> {
        let id = self.row.id;
        if self.is_settled() || !look.waits.lasts(Wait::Vanished(id), STANCE_LASTS_MS) {
            return None;
        }
        let newer = heads.get(&self.row.scope).is_some_and(|epoch| *epoch >= self.row.epoch);
        let (stance, kind) = match newer {
            true => (Stance::Superseded, Kind::RolloutSuperseded),
            false => (Stance::Expired, Kind::RolloutExpired),
        };
        if self.told.stance.outcome().is_none() {
            self.told.stance = stance;
            self.row.outcome = stance.outcome();
            self.row.ended = self.told.loud.then_some(look.now.unix);
            if self.told.loud {
                look.events.push(words::lapsed(kind, &self.row, look.now.unix));
            }
        }
        Some(self.kept(false, None))
    }
}

/// Whether nobody who is heard has anything of it any more; also where those on which it had begun are
/// skipped or removed, so that nobody waits for them.
fn is_back(report: &RolloutReport) -> bool {
    let heard = report.hosts.iter().any(|host| host.alive && !host.skipped);
    report.is_rolled_back() || (report.back.is_none() && heard)
}

fn scope(report: &RolloutReport) -> Scope {
    Scope { service: report.service.clone(), env: report.env.clone() }
}
