//! Looks in a row, restarts between them, and what is told.

mod acts;
mod fleet;
mod incidents;
mod lines;
mod random;
mod rollouts;

use std::collections::BTreeMap;

use proto::receipt::{Cause, State};
use proto::report::{FetchesReport, RolloutPhase, RolloutReport, StandingReport, WaveReport};
use proto::statement::{Direction, OnFailure, Source, UnixTime};
use proto::{Digest, HostId, Scope};
use rollout::Now;
use rollout::fleet::Presence;
use rollout::report::way_back;

use super::{Memory, Seen, Sight, observe};
use crate::events::{Event, Kind};
use crate::store::{Kept, Remembered};

/// When the chronicle began.
const BEGAN: UnixTime = UnixTime(1_800_000_000);

/// A coordinator: its memory, its clock, what it has kept.
struct Run {
    memory: Memory,
    now: Now,
    fleet: Option<String>,
    rows: BTreeMap<Digest, Kept>,
    events: Vec<Event>,
}

impl Run {
    /// That has looked at an empty fleet once, a day ago.
    fn begun() -> Self {
        let mut run = Self::new();
        run.now.unix = UnixTime(BEGAN.0 - 86_400);
        run.look(&sight(Vec::new()));
        run.now = Now { boot_ms: 86_400_000, unix: BEGAN };
        run
    }

    fn new() -> Self {
        Self {
            memory: Memory::default(),
            now: Now { boot_ms: 1_000, unix: BEGAN },
            fleet: None,
            rows: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// What one look tells.
    fn look(&mut self, sight: &Sight) -> Vec<Kind> {
        let changes = observe(&mut self.memory, sight, self.now);
        self.fleet = changes.fleet.or(self.fleet.take());
        self.rows.extend(changes.rollouts.into_iter().map(|kept| (kept.row.id, kept)));
        let kinds = changes.events.iter().map(|event| event.kind).collect();
        self.events.extend(changes.events);
        kinds
    }

    /// What looks of so many seconds tell, half a second apart.
    fn look_for(&mut self, seconds: u64, sight: &Sight) -> Vec<Kind> {
        let mut told = self.look(sight);
        for half in 1..=2 * seconds {
            self.now.boot_ms += 500;
            self.now.unix.0 += half % 2;
            told.extend(self.look(sight));
        }
        told
    }

    /// As after a restart of the machine: only what was kept is left.
    fn restart(&mut self) {
        let (open, closed): (Vec<_>, Vec<_>) = self.rows.values().partition(|kept| kept.open);
        let remembered = Remembered {
            fleet: self.fleet.clone(),
            open: open.into_iter().map(|kept| (kept.row.clone(), kept.memory.clone())).collect(),
            closed: closed
                .into_iter()
                .filter(|kept| kept.row.started.is_some())
                .map(|kept| kept.row.id)
                .collect(),
        };
        self.memory = Memory::restore(remembered).unwrap();
        self.now.boot_ms = 1_000;
    }

    fn text(&self) -> &str {
        &self.events.last().unwrap().text
    }
}

fn host_id(number: u32) -> HostId {
    let letter =
        |digit: char| char::from(b'a' + u8::try_from(digit.to_digit(10).unwrap()).unwrap());
    format!("{number:012}").chars().map(letter).collect::<String>().parse().unwrap()
}

fn standing(number: u32, wave: u32, state: Option<State>) -> StandingReport {
    StandingReport {
        host: host_id(number),
        name: format!("n{number}").parse().unwrap(),
        wave,
        skipped: false,
        state,
        cause: None,
        note: String::new(),
        pieces: 0,
        of: 8,
        fetch: None,
        counted: None,
        alive: true,
        drift: None,
        allowed: true,
    }
}

fn failed(number: u32, wave: u32) -> StandingReport {
    StandingReport {
        cause: Some(Cause::Release),
        note: "healthz answered 500 three times".to_owned(),
        ..standing(number, wave, Some(State::Reverted))
    }
}

/// `web 1.3.0 -> 1.4.0`, signed after the chronicle began: these hosts, the first `open` waves open.
fn report(phase: RolloutPhase, open: usize, hosts: Vec<StandingReport>) -> RolloutReport {
    let waves = hosts.iter().map(|host| host.wave + 1).max().unwrap_or(0);
    let wave = |wave: u32| {
        let count = |fits: &dyn Fn(&StandingReport) -> bool| {
            let own = hosts.iter().filter(|host| host.wave == wave);
            u32::try_from(own.filter(|host| fits(host)).count()).unwrap()
        };
        let is = |state: State| count(&|host| host.state == Some(state));
        WaveReport {
            hosts: count(&|_| true),
            open: (wave as usize) < open,
            waiting: count(&|host| host.state < Some(State::Activating)),
            activating: is(State::Activating),
            baking: is(State::Baking),
            committed: is(State::Committed),
            failed: count(&|host| host.state.is_some_and(State::is_failed)),
            returned: 0,
            skipped: 0,
            unreachable: 0,
            wait_s: 60,
            bake: None,
            failed_max: 0,
            unreachable_max: 0,
            pooled: None,
        }
    };
    RolloutReport {
        id: Digest::of(b"one"),
        service: "web".parse().unwrap(),
        env: "production".parse().unwrap(),
        epoch: 4,
        from: Some("1.3.0".parse().unwrap()),
        to: "1.4.0".parse().unwrap(),
        direction: Direction::Forward,
        adopt: false,
        author: "ada".parse().unwrap(),
        reason: "weekly".to_owned(),
        created: BEGAN,
        expires: BEGAN.plus_s(86_400),
        phase,
        held: false,
        held_until: None,
        ended: None,
        why: "waiting for wave 1: 1 bakes".to_owned(),
        back: None,
        self_supporting: true,
        waves: (0..waves).map(wave).collect(),
        latency: None,
        fetches: FetchesReport::default(),
        hosts,
    }
}

/// Three hosts in two waves, in these states.
pub(crate) fn three(phase: RolloutPhase, open: usize, states: [Option<State>; 3]) -> RolloutReport {
    let hosts = states.into_iter().zip([(1, 0), (2, 1), (3, 1)]);
    report(
        phase,
        open,
        hosts.map(|(state, (number, wave))| standing(number, wave, state)).collect(),
    )
}

fn seen(report: RolloutReport) -> Seen {
    let stopped = matches!(report.phase, RolloutPhase::Halted | RolloutPhase::Aborted);
    let back = stopped.then(|| way_back(&report.hosts, OnFailure::Rollback)).flatten();
    Seen {
        report: RolloutReport { back, ..report },
        newest: true,
        from: Some(Digest::of(b"1.3.0")),
        to: Digest::of(b"1.4.0"),
        source: Source::default(),
        said: None,
        approved: Vec::new(),
    }
}

fn sight(rollouts: Vec<Seen>) -> Sight {
    let heads = rollouts.iter().filter(|one| one.newest);
    let heads = heads.map(|one| {
        let RolloutReport { service, env, epoch, .. } = &one.report;
        (Scope { service: service.clone(), env: env.clone() }, *epoch)
    });
    Sight {
        heads: heads.collect(),
        hosts: Vec::new(),
        rollouts,
        root_version: 1,
        root_expires: UnixTime(BEGAN.0 + 365 * 86_400),
        certificate: None,
        freezes: Vec::new(),
        removals: BTreeMap::new(),
        relieved: BTreeMap::new(),
    }
}

/// Where that rollout is.
fn scope() -> Scope {
    Scope { service: "web".parse().unwrap(), env: "production".parse().unwrap() }
}

/// One rollout and nothing else.
fn one(report: RolloutReport) -> Sight {
    sight(vec![seen(report)])
}

fn present(number: u32, alive: bool) -> Presence {
    Presence {
        id: host_id(number),
        name: format!("n{number}").parse().unwrap(),
        env: Some("production".parse().unwrap()),
        alive,
        removed: false,
        drift: Vec::new(),
    }
}
