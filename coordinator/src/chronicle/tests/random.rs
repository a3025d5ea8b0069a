//! Any sequence of looks, with restarts: nothing is told twice, and nothing before what it follows from.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proto::Digest;
use proto::receipt::{Cause, State};
use proto::report::{RolloutPhase, RolloutReport};
use proto::statement::Action;

use super::{Run, Seen, present, seen, sight, standing};
use crate::chronicle::Word;
use crate::events::{Event, Kind};

/// What can be seen of the rollout, of three hosts in three waves, at one moment.
#[derive(Debug, Clone)]
struct Moment {
    phase: RolloutPhase,
    held: bool,
    newest: bool,
    open: usize,
    states: [Option<(State, Cause)>; 3],
    alive: [bool; 3],
    /// For how long it is looked at, in seconds.
    lasts_s: u64,
    restart: bool,
}

fn phase() -> impl Strategy<Value = RolloutPhase> {
    prop_oneof![
        1 => Just(RolloutPhase::Pending),
        6 => Just(RolloutPhase::Running),
        2 => Just(RolloutPhase::Paused),
        1 => Just(RolloutPhase::Halted),
        1 => Just(RolloutPhase::Aborted),
        1 => Just(RolloutPhase::Complete),
        1 => Just(RolloutPhase::Superseded),
        1 => Just(RolloutPhase::Expired),
    ]
}

fn state() -> impl Strategy<Value = Option<(State, Cause)>> {
    let states = [State::Staged, State::Activating, State::Baking, State::Committed];
    let ends = [State::Reverted, State::RevertFailed];
    let state = prop::sample::select([&states[..], &ends].concat());
    let cause = prop::sample::select(vec![Cause::Release, Cause::Host, Cause::Fleet]);
    prop::option::of((state, cause))
}

prop_compose! {
    fn moment()(
        phase in phase(),
        held in any::<bool>(),
        newest in prop::bool::weighted(0.9),
        open in 0..=3_usize,
        states in [state(), state(), state()],
        alive in any::<[bool; 3]>(),
        lasts_s in 0..25_u64,
        restart in any::<bool>(),
    ) -> Moment {
        Moment { phase, held, newest, open, states, alive, lasts_s, restart }
    }
}

fn as_seen(moment: &Moment) -> Seen {
    let hosts = (0..3).zip(moment.states).map(|(index, state)| {
        let mut host = standing(index, index, state.map(|(state, _)| state));
        host.cause = state.map(|(_, cause)| cause);
        host.alive = moment.alive[index as usize];
        host
    });
    let report = super::report(moment.phase, moment.open, hosts.collect());
    Seen { newest: moment.newest, ..seen(RolloutReport { held: moment.held, ..report }) }
}

/// The directive in force at a moment: a pause while it is paused, and after that who ended it.
fn directed(before: Option<Word>, phase: RolloutPhase, number: usize) -> Option<Word> {
    let is_paused = before.as_ref().is_some_and(|word| word.action == Action::Pause);
    let action = match phase {
        RolloutPhase::Paused if !is_paused => Action::Pause,
        // What is paused may seem to have ended, until the proof of another end comes.
        RolloutPhase::Paused
        | RolloutPhase::Pending
        | RolloutPhase::Superseded
        | RolloutPhase::Expired => return before,
        _ if is_paused => Action::Resume,
        _ => return before,
    };
    let statement = Digest::of(&number.to_be_bytes());
    Some(Word { statement, action, wave: None, by: "ada".parse().unwrap(), reason: String::new() })
}

/// All kinds that stand for a rollout at most once.
const ONCE: [Kind; 7] = [
    Kind::ApprovalWanted,
    Kind::RolloutStarted,
    Kind::RolloutSuperseded,
    Kind::RolloutHalted,
    Kind::RolloutAborted,
    Kind::RolloutComplete,
    Kind::RolloutRolledBack,
];

fn check(events: &[Event]) -> Result<(), TestCaseError> {
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    let mut before: Option<Kind> = None;
    let of_rollout = events.iter().filter(|event| event.rollout.is_some());
    for event in of_rollout {
        let key = match event.kind {
            Kind::WaveOpened => format!("wave {}", event.detail["wave"]),
            Kind::HostFailed | Kind::HostStuck => format!("{} {:?}", event.kind, event.host),
            kind => kind.to_string(),
        };
        let times = told.entry(key.clone()).or_default();
        *times += 1;
        let once = ONCE.contains(&event.kind) || event.host.is_some() || key.starts_with("wave");
        prop_assert!(!once || *times == 1, "{} twice", key);
        // A stance follows another one: never the same twice in a row.
        let is_step = event.host.is_none() && event.kind != Kind::WaveOpened;
        prop_assert!(!is_step || before != Some(event.kind), "{} in a row", key);
        if is_step {
            before = Some(event.kind);
        }
        let started = told.contains_key("rollout-started");
        let early = [Kind::ApprovalWanted, Kind::RolloutStarted, Kind::RolloutExpired];
        let needs_start = !early.contains(&event.kind) && event.host.is_none();
        prop_assert!(!needs_start || started, "{} before it has started", key);
        if event.kind == Kind::WaveOpened && event.detail["wave"] != 1 {
            let wave = event.detail["wave"].as_u64().unwrap() - 1;
            prop_assert!(told.contains_key(&format!("wave {wave}")), "{} before {}", key, wave);
        }
        let stopped = told.contains_key("rollout-halted") || told.contains_key("rollout-aborted");
        prop_assert!(event.kind != Kind::RolloutRolledBack || stopped);
        let moves = [Kind::RolloutHeld, Kind::RolloutMoves, Kind::RolloutPaused];
        prop_assert!(!stopped || !moves.contains(&event.kind), "{} after its end", key);
    }
    Ok(())
}

proptest! {
    #[test]
    fn nothing_is_told_twice_nor_before_its_time(moments in vec(moment(), 1..30)) {
        let mut run = Run::begun();
        let mut said = None;
        for (number, moment) in moments.iter().enumerate() {
            if moment.restart {
                run.restart();
            }
            said = directed(said, moment.phase, number);
            let mut sight = sight(vec![Seen { said: said.clone(), ..as_seen(moment) }]);
            sight.hosts = (0..3).map(|index| present(index, moment.alive[index as usize])).collect();
            run.look_for(moment.lasts_s, &sight);
            // Hosts are lost and back in turn.
            for host in 0..3 {
                let of_host = run.events.iter().filter(|event| {
                    event.rollout.is_none() && event.host == Some(super::host_id(host))
                });
                let kinds: Vec<_> = of_host.map(|event| event.kind).collect();
                let turns = kinds.iter().zip([Kind::HostLost, Kind::HostBack].into_iter().cycle());
                prop_assert!(turns.into_iter().all(|(told, due)| *told == due), "{:?}", kinds);
            }
        }
        check(&run.events)?;
    }

    /// Whatever was looked at, one more run over the same looks, all of it kept, tells nothing of the end.
    #[test]
    fn a_restart_at_any_look_neither_repeats_nor_loses(
        moments in vec(moment(), 1..8),
    ) {
        // Each stance stands for long enough, so that waiting anew after a restart makes no difference.
        let told = |restarts: bool| {
            let mut run = Run::begun();
            for moment in &moments {
                let look = |run: &mut Run, alive, seconds| {
                    let moment = Moment { alive, ..moment.clone() };
                    run.look_for(seconds, &sight(vec![as_seen(&moment)]));
                };
                if restarts && moment.restart {
                    run.restart();
                    // Hosts are heard one after the other: these first, then the others.
                    look(&mut run, [false; 3], 1);
                    look(&mut run, moment.alive, 15);
                }
                look(&mut run, [true; 3], 75);
            }
            let told = run.events.into_iter().map(|event| (event.kind, event.host, event.text));
            told.collect::<Vec<_>>()
        };
        prop_assert_eq!(told(true), told(false));
    }
}
