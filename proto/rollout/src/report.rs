//! Where a rollout stands, for people: counted and explained by the same functions the hosts decide
//! by, so that what an operator reads is what the fleet does.

mod awaited;
mod back;
mod bake;

use std::collections::BTreeSet;

use proto::certificate;
use proto::receipt::{Cause, Receipt, State};
use proto::report::{
    BackReport, BackState, BakeReport, ComparedReport, CountedReport, DriftReport, FetchReport,
    FetchesReport, Finding, LatencyReport, RolloutPhase, RolloutReport, StandingReport,
    VerdictReport, WaveReport,
};
use proto::statement::{Action, Rollout};
use proto::{HostId, Name, UnixTime};

pub(crate) use back::name_others;
pub use back::{back_words, began, never_started, way_back};

use crate::Now;
use crate::gate::{self, Counts, Expiry, Facts, Gate, Heard, Hold, Marks, Order, Sight};
use crate::host::NEVER_STARTED;
use crate::receipts::Receipts;
use crate::verdict::{Conclusion, Counted, Signal, Verdict};

/// What a member sees of a rollout.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Which rollout, and who stands where in it.
    pub receipts: &'a Receipts,
    /// The wall clock as far as it is believed.
    pub now: Now,
    /// Since when the member holds it, without pauses; [`crate::host::Host::held_ms`] on a host.
    pub held_ms: u64,
    /// Signatures that are missing: the rollout has no effect yet.
    pub pending: Option<&'a str>,
    /// The directive in force.
    pub order: Option<Order>,
    /// A halt certificate is held.
    pub halted: bool,
    /// A completion certificate is held.
    pub complete: bool,
    /// Hosts that nobody waits for: skipped or removed.
    pub excused: &'a BTreeSet<HostId>,
    /// Until when something new may start, by the rollout and the root in force.
    pub expiry: Expiry,
    /// Until when the environment is frozen, if it ever was.
    pub frozen_until: Option<UnixTime>,
    /// There is another effective rollout of this epoch.
    pub conflict: bool,
    /// A newer rollout of the scope is effective.
    pub superseded: bool,
    /// Whose key made it.
    pub author: &'a Name,
    pub facts_of: &'a dyn Fn(&HostId) -> HostFacts,
    /// For how long a host that bakes has, in milliseconds, without pauses; none: the member has not seen it
    /// begin.
    pub baked_ms: &'a dyn Fn(&HostId) -> Option<u64>,
    /// How long answers take on either release, as hosts say.
    pub latency: Option<LatencyReport>,
    /// What the requests of all hosts of the waves up to one come to (R24).
    pub pooled: &'a dyn Fn(usize) -> Conclusion,
}

/// What a member knows of a host beside its receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    pub name: Name,
    /// Heard of lately, in gossip.
    pub alive: bool,
    /// Verified pieces of the artifact it has said it holds, and pieces in all; 0 of 0: nothing said.
    pub pieces: u32,
    pub of: u32,
    /// How these come to it, as it says.
    pub fetch: Option<FetchReport>,
    /// Errors of the requests it says it counted over the last window; none: it does not count.
    pub counted: Option<Counted>,
    /// How what it serves differs from what was released, as it says.
    pub drift: Option<DriftReport>,
    /// Its `agent.toml` allows the service, as far as it says.
    pub allowed: bool,
}

/// The report on a rollout, as the member that has this view sees it.
pub fn rollout_report(view: &View<'_>) -> RolloutReport {
    let rollout: &Rollout = view.receipts.rollout();
    let seen = |rank: usize| view.sight(rank);
    let excused = |rank: usize| view.is_excused(rank);
    let facts = view.facts(&seen, &excused);
    let phase = phase(view, &facts);
    let hosts = view.hosts();
    let held = is_held(&facts, phase, &hosts);
    RolloutReport {
        id: view.receipts.id(),
        service: rollout.service.clone(),
        env: rollout.env.clone(),
        epoch: rollout.epoch,
        from: rollout.from.as_ref().map(|from| from.version.clone()),
        to: rollout.to.version.clone(),
        direction: rollout.direction,
        adopt: rollout.adopt,
        author: view.author.clone(),
        reason: rollout.reason.clone(),
        created: rollout.created,
        expires: view.expiry.at(),
        phase,
        held,
        held_until: held_until(&facts).filter(|_| held && phase == RolloutPhase::Running),
        ended: None,
        why: why(view, &facts, (phase, held), &hosts),
        back: back_report(view, phase, &hosts),
        self_supporting: is_self_supporting(&hosts),
        waves: (0..rollout.waves.len())
            .map(|wave| WaveReport {
                bake: bake_report(view, (phase, wave), &hosts),
                ..wave_report(view, &facts, wave)
            })
            .collect(),
        latency: view.latency,
        fetches: fetches(&hosts),
        hosts,
    }
}

/// Whether it would end without the coordinator (R21): two hosts hold the rollout, for they signed
/// receipts about it, and two hold the whole artifact.
fn is_self_supporting(hosts: &[StandingReport]) -> bool {
    let holds = hosts.iter().filter(|host| host.state.is_some()).count();
    holds >= 2 && hosts.iter().filter(|host| is_whole(host)).count() >= 2
}

/// Whether it has all of the artifact.
fn is_whole(host: &StandingReport) -> bool {
    // One that has gone back may never have started, and need not hold anything.
    let staged =
        host.state.is_some_and(|state| (State::Staged..=State::Committed).contains(&state));
    staged || (host.of > 0 && host.pieces == host.of)
}

fn fetches(hosts: &[StandingReport]) -> FetchesReport {
    let whole = number(hosts.iter().filter(|host| is_whole(host)).count());
    let mut sum = FetchesReport { whole, ..FetchesReport::default() };
    let fetches = hosts.iter().filter_map(|host| host.fetch.as_ref());
    for fetch in fetches.filter(|fetch| fetch.running) {
        sum.running += 1;
        sum.stalled += u32::from(fetch.stall.is_some());
        // Each says what it likes: sums have an end.
        sum.bytes = sum.bytes.saturating_add(fetch.bytes);
        sum.of_bytes = sum.of_bytes.saturating_add(fetch.of_bytes);
        sum.bytes_per_s = sum.bytes_per_s.saturating_add(fetch.bytes_per_s);
    }
    sum
}

fn phase(view: &View<'_>, facts: &Facts<'_>) -> RolloutPhase {
    let closed = gate::closed(facts);
    match closed {
        _ if view.pending.is_some() => RolloutPhase::Pending,
        // How it ended says more than that another one came after.
        Some(Gate::Halt(_)) => RolloutPhase::Halted,
        Some(Gate::Hold(Hold::Aborted)) => RolloutPhase::Aborted,
        _ if view.complete => RolloutPhase::Complete,
        _ if view.superseded => RolloutPhase::Superseded,
        Some(Gate::Hold(Hold::Paused)) => RolloutPhase::Paused,
        Some(Gate::Hold(Hold::Expired(_))) => RolloutPhase::Expired,
        _ => RolloutPhase::Running,
    }
}

fn why(
    view: &View<'_>,
    facts: &Facts<'_>,
    (phase, held): (RolloutPhase, bool),
    hosts: &[StandingReport],
) -> String {
    let rollout = facts.rollout;
    // A host that is there stands where it says, also where it has said so only once.
    let shown = |rank: usize| {
        let Sight { standing, heard } = (facts.seen)(rank);
        let there = heard == Heard::Unsure && hosts.get(rank).is_some_and(|host| host.alive);
        Sight { standing, heard: if there { Heard::Fresh } else { heard } }
    };
    let shown = Facts { seen: &shown, ..*facts };
    let count = gate::count(&shown, 0..rollout.cohort.len());
    match phase {
        RolloutPhase::Pending => view.pending.unwrap_or_default().to_owned(),
        RolloutPhase::Superseded => "a newer rollout took over; deploy again if needed".to_owned(),
        RolloutPhase::Complete => format!("complete: {count}"),
        RolloutPhase::Running
        | RolloutPhase::Paused
        | RolloutPhase::Halted
        | RolloutPhase::Aborted
        | RolloutPhase::Expired => {
            let mut gates = (0..rollout.waves.len()).map(|wave| gate::decide(facts, wave));
            let shut = gates.find(|gate| !matches!(gate, Gate::Open(_)));
            let text = match shut {
                Some(gate) => gate.recounted(|ranks| gate::count(&shown, ranks)).to_string(),
                None => match next_turn(facts) {
                    Some(hold) => format!("all waves are open: {count}; the next host is {hold}"),
                    None => format!("all waves are open: {count}"),
                },
            };
            let in_vain = awaited::in_vain(facts, shut.as_ref(), hosts);
            match in_vain.filter(|_| held && phase == RolloutPhase::Running) {
                Some(in_vain) => format!("{text}; {in_vain}"),
                None => text,
            }
        }
    }
}

/// Why it is not the turn of the first host that has not started, if it is not.
fn next_turn(facts: &Facts<'_>) -> Option<Hold> {
    let waits = |rank: &usize| !has_started(facts, *rank) && !(facts.excused)(*rank);
    let next = (0..facts.rollout.cohort.len()).find(waits)?;
    gate::turn(facts, next)
}

/// Whether it gets no further by what its hosts do.
fn is_held(facts: &Facts<'_>, phase: RolloutPhase, hosts: &[StandingReport]) -> bool {
    match phase {
        RolloutPhase::Pending | RolloutPhase::Paused => true,
        RolloutPhase::Running => stands_still(facts, hosts),
        RolloutPhase::Halted
        | RolloutPhase::Aborted
        | RolloutPhase::Complete
        | RolloutPhase::Superseded
        | RolloutPhase::Expired => false,
    }
}

/// When what keeps all waves closed is over by itself.
fn held_until(facts: &Facts<'_>) -> Option<UnixTime> {
    match gate::closed(facts)? {
        Gate::Hold(Hold::Frozen { until }) => Some(until),
        Gate::Hold(Hold::OutsideWindows { opens }) => Some(opens),
        _ => None,
    }
}

/// Whether an open rollout would still wait if all hosts that can be heard came to a good end, and
/// what only takes time were over: by the same gates.
fn stands_still(facts: &Facts<'_>, hosts: &[StandingReport]) -> bool {
    let rollout = facts.rollout;
    let awaited = |rank: usize| {
        let Sight { standing, heard } = (facts.seen)(rank);
        let ended = standing.is_some_and(certificate::has_ended);
        let will = heard != Heard::Silent && !hosts[rank].is_barred();
        will && !ended && !(facts.excused)(rank)
    };
    let seen = |rank: usize| {
        let sight = (facts.seen)(rank);
        match (awaited(rank), sight.standing) {
            (true, _) => Sight { standing: Some((State::Committed, None)), heard: Heard::Fresh },
            (false, None) if hosts[rank].is_barred() => Sight { heard: Heard::Silent, ..sight },
            (false, _) => sight,
        }
    };
    let pooled = |wave: usize| match (facts.pooled)(wave) {
        Conclusion::Doubt(_) => Conclusion::Good(Verdict::Quiet { new: 0, needed: 0 }),
        known => known,
    };
    let mut counts = Counts::new(&rollout.cohort);
    for rank in 0..rollout.cohort.len() {
        counts.set(rank, Marks::of(seen(rank), (facts.excused)(rank)));
    }
    let counted = Some(gate::Counted { counts: &counts, own: None });
    let at_best = Facts { seen: &seen, pooled: &pooled, counted, held_ms: u64::MAX, ..*facts };
    let waves = 0..rollout.waves.len();
    let open: Vec<_> =
        waves.map(|wave| matches!(gate::decide(&at_best, wave), Gate::Open(_))).collect();
    let is_kept =
        |rank: usize| !open[rollout.wave_of(rank)] || gate::turn(&at_best, rank).is_some();
    let to_start = |rank: &usize| awaited(*rank) && !has_started(facts, *rank);
    let kept = (0..rollout.cohort.len()).filter(to_start).any(is_kept);
    let last = rollout.waves.len() - 1;
    // One that had everything before it was barred says so again and again, and is waited for.
    kept || !gate::is_done(&at_best, last) || !gate::is_waited_out(&at_best, last)
}

fn has_started(facts: &Facts<'_>, rank: usize) -> bool {
    (facts.seen)(rank).standing.is_some_and(|(state, _)| state > State::Staged)
}

/// How far it has gone back, if it was stopped. Once a newer one took over, hosts tell only of that.
fn back_report(
    view: &View<'_>,
    phase: RolloutPhase,
    hosts: &[StandingReport],
) -> Option<BackReport> {
    let stopped = matches!(phase, RolloutPhase::Halted | RolloutPhase::Aborted);
    let on_failure = view.receipts.rollout().on_failure;
    let back = stopped.then(|| way_back(hosts, on_failure)).flatten()?;
    (!view.superseded || back.state == BackState::RolledBack).then_some(back)
}

/// How long the bake of a wave lasts still, in a rollout that goes on.
fn bake_report(
    view: &View<'_>,
    (phase, wave): (RolloutPhase, usize),
    hosts: &[StandingReport],
) -> Option<BakeReport> {
    let now = match phase {
        RolloutPhase::Running => Some(view.now.unix),
        RolloutPhase::Paused => None,
        _ => return None,
    };
    let rollout = view.receipts.rollout();
    let baked_ms = |host: &StandingReport| (view.baked_ms)(&host.host);
    bake::left(hosts[rollout.ranks_in(wave)].iter(), gate::bake_s(rollout, wave), &baked_ms, now)
}

fn wave_report(view: &View<'_>, facts: &Facts<'_>, wave: usize) -> WaveReport {
    let rollout = facts.rollout;
    let ranks = rollout.ranks_in(wave);
    let (budget, gated) = (rollout.waves[wave], wave + 1 < rollout.waves.len());
    // Once a host of a wave has started, the wave was open, whatever has been heard since.
    let open = ranks.clone().any(|rank| view.has_activated(rank))
        || matches!(gate::decide(facts, wave), Gate::Open(_));
    // People are shown where hosts stood last; unreachable is who has not committed and is silent.
    let shown = |rank| {
        let Sight { standing, heard } = (facts.seen)(rank);
        let committed = standing.is_some_and(|(state, _)| state == State::Committed);
        let heard = match heard {
            Heard::Silent if !committed => Heard::Silent,
            _ => Heard::Fresh,
        };
        Sight { standing, heard }
    };
    let count = gate::count(&Facts { seen: &shown, ..*facts }, ranks);
    WaveReport {
        hosts: number(count.hosts),
        open,
        waiting: number(count.waiting),
        activating: number(count.activating),
        baking: number(count.baking),
        committed: number(count.committed),
        failed: number(count.failed),
        returned: number(count.returned),
        skipped: number(count.skipped),
        unreachable: number(count.unheard),
        wait_s: gate::bake_s(rollout, wave),
        bake: None,
        failed_max: budget.failed_max,
        unreachable_max: budget.unreachable_max,
        pooled: gate::pooled(facts, wave).filter(|_| gated && open).and_then(verdict_report),
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// None: nothing was compared yet.
fn verdict_report(conclusion: Conclusion) -> Option<VerdictReport> {
    let verdict = conclusion.verdict()?;
    let finding = match conclusion {
        Conclusion::Good(_) => Finding::Good,
        Conclusion::Doubt(_) => Finding::Doubt,
        Conclusion::Worse(_) => Finding::Worse,
    };
    let compared = verdict.comparison().map(|comparison| ComparedReport {
        slower_than_ms: match comparison.signal {
            Signal::Errors => None,
            Signal::SlowerThan { ms } => Some(ms),
        },
        new: counted_report(comparison.new),
        control: comparison.control.map(counted_report),
        above_ppm: comparison.above_ppm,
        z_milli: comparison.z_milli,
    });
    Some(VerdictReport { finding, text: verdict.to_string(), compared })
}

const fn counted_report(counted: Counted) -> CountedReport {
    CountedReport { bad: counted.bad, requests: counted.of }
}

/// Whether a host has begun to activate. One that had not says that it is back, too, once the rollout
/// was stopped.
pub(crate) fn has_begun(said: &Receipt) -> bool {
    let never = said.cause == Some(Cause::Fleet) && said.note == NEVER_STARTED;
    said.state >= State::Activating && !never
}

// --- impl View ---

impl<'a> View<'a> {
    fn facts<'b>(
        &self,
        seen: &'b dyn Fn(usize) -> Sight,
        excused: &'b dyn Fn(usize) -> bool,
    ) -> Facts<'b>
    where
        'a: 'b,
    {
        let rollout: &'a Rollout = self.receipts.rollout();
        Facts {
            rollout,
            seen,
            excused,
            counted: None,
            held_ms: self.held_ms,
            order: self.order,
            halted: self.halted,
            complete: self.complete,
            conflict: self.conflict,
            unix: self.now.unix,
            expiry: self.expiry,
            frozen_until: self.frozen_until,
            pooled: self.pooled,
        }
    }

    fn is_excused(&self, rank: usize) -> bool {
        self.excused.contains(&self.receipts.rollout().cohort[rank].id)
    }

    /// Whether the host with this rank has begun to activate.
    fn has_activated(&self, rank: usize) -> bool {
        self.receipts.latest(&self.receipts.rollout().cohort[rank].id).is_some_and(has_begun)
    }

    fn sight(&self, rank: usize) -> Sight {
        let rollout = self.receipts.rollout();
        let id = &rollout.cohort[rank].id;
        let receipt = self.receipts.latest(id);
        let standing = receipt.map(|receipt| (receipt.state, receipt.cause));
        // Once it is closed nobody signs again, and silence says nothing about who has settled.
        let settled = standing.is_some_and(|(state, _)| state.is_settled());
        let heard = match settled && self.is_closed() {
            true => Heard::Fresh,
            false => self.receipts.heard(id, self.now.boot_ms),
        };
        Sight { standing, heard }
    }

    fn is_closed(&self) -> bool {
        let aborted = self.order.is_some_and(|order| order.action == Action::Abort);
        let expired = self.expiry.expired(self.now.unix).is_some();
        self.complete || self.halted || self.superseded || aborted || expired
    }

    fn hosts(&self) -> Vec<StandingReport> {
        let rollout = self.receipts.rollout();
        let standing = |(rank, member): (usize, &proto::statement::CohortHost)| {
            let HostFacts { name, alive, pieces, of, fetch, counted, drift, allowed } =
                (self.facts_of)(&member.id);
            let receipt: Option<&Receipt> = self.receipts.latest(&member.id);
            StandingReport {
                host: member.id.clone(),
                name,
                wave: u32::try_from(rollout.wave_of(rank)).unwrap_or(u32::MAX),
                skipped: self.is_excused(rank),
                state: receipt.map(|receipt| receipt.state),
                cause: receipt.and_then(|receipt| receipt.cause),
                note: receipt.map(|receipt| receipt.note.clone()).unwrap_or_default(),
                pieces,
                of,
                fetch,
                counted: counted.map(counted_report),
                alive,
                drift,
                allowed,
            }
        };
        rollout.cohort.iter().enumerate().map(standing).collect()
    }
}

#[cfg(test)]
mod test;
