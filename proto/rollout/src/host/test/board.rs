//! The numbers a host keeps of its cohort are those of what it sees, whatever happens in which order.

use super::*;
use crate::gate::{self, Facts};

const HOSTS: usize = 70;
/// The host under test: some are before it, some behind it, in its zone and in others.
const ME: usize = 37;

/// Something that changes what it sees.
#[derive(Debug, Clone, Copy)]
enum Step {
    Say {
        rank: usize,
        state: State,
        cause: Option<Cause>,
    },
    /// A receipt that is older than the last one comes late.
    SayOld {
        rank: usize,
        state: State,
    },
    Stand {
        state: State,
        cause: Option<Cause>,
    },
    Pass {
        ms: u64,
    },
    Excuse {
        rank: usize,
    },
    /// What is seen now is kept, as others of this process would.
    Share,
    /// What was kept takes the place of what is seen.
    Hear,
}

fn step() -> impl Strategy<Value = Step> {
    let state = || {
        proptest::sample::select(vec![
            State::Pending,
            State::Staged,
            State::Activating,
            State::Baking,
            State::Committed,
            State::Reverted,
            State::RevertFailed,
        ])
    };
    let causes = [None, Some(Cause::Release), Some(Cause::Fleet), Some(Cause::Late)];
    let cause = || proptest::sample::select(causes.to_vec());
    prop_oneof![
        20 => (0..HOSTS, state(), cause())
            .prop_map(|(rank, state, cause)| Step::Say { rank, state, cause }),
        2 => (0..HOSTS, state()).prop_map(|(rank, state)| Step::SayOld { rank, state }),
        2 => (state(), cause()).prop_map(|(state, cause)| Step::Stand { state, cause }),
        4 => (0..60_000_u64).prop_map(|ms| Step::Pass { ms }),
        1 => (0..HOSTS).prop_map(|rank| Step::Excuse { rank }),
        1 => Just(Step::Share),
        1 => Just(Step::Hear),
    ]
}

/// Three waves, three zones, of each of which two hosts may be stopped.
fn zones(in_flight_max: Option<u32>) -> Rollout {
    let mut rollout = rollout(&[wave(5, 10, 1, 1), wave(30, 10, 3, 3), wave(70, 10, 5, 5)]);
    for (rank, member) in rollout.cohort.iter_mut().enumerate() {
        member.zone = format!("z{}", rank * rank % 3).parse().unwrap();
    }
    Rollout { max_unavailable: 2, in_flight_max, ..rollout }
}

/// Every answer that depends on the cohort.
fn answers(facts: &Facts<'_>) -> String {
    let waves = 0..facts.rollout.waves.len();
    let decided: Vec<_> = waves.clone().map(|wave| gate::decide(facts, wave)).collect();
    let over = |wave| (gate::is_done(facts, wave), gate::is_waited_out(facts, wave));
    let done: Vec<_> = waves.map(over).collect();
    let lane = gate::turn(&Facts { complete: true, ..*facts }, ME);
    let given_up = |rank| rank % 7 == 0;
    let back = (gate::back(facts, ME, &given_up), gate::leave(facts, ME, &given_up));
    let (turn, slots) = (gate::turn(facts, ME), gate::slots(facts, ME));
    let (halted, count) = (gate::halted(facts), gate::count(facts, 3..HOSTS));
    format!("{decided:?} {done:?} {turn:?} {slots:?} {lane:?} {back:?} {halted:?} {count:?}")
}

struct Seen {
    bench: Bench,
    sequences: Vec<u64>,
    /// What was kept, and a copy of it that nobody shares.
    kept: Option<(Arc<Board>, Board)>,
}

impl Seen {
    fn apply(&mut self, step: Step) {
        let rollout = rollout_id(1);
        match step {
            Step::Say { rank, state, cause } => {
                self.sequences[rank] += 2;
                self.take(Input::Receipt(receipt(rank, self.sequences[rank], state, cause)));
            }
            Step::SayOld { rank, state } => {
                let sequence = self.sequences[rank].saturating_sub(1);
                self.take(Input::Receipt(receipt(rank, sequence, state, None)));
            }
            Step::Stand { state, cause } => {
                let course = self.bench.host.course.as_mut().unwrap();
                (course.state, course.cause) = (state, cause);
            }
            Step::Pass { ms } => self.bench.now.boot_ms += ms,
            Step::Excuse { rank } => {
                self.take(Input::Excused { rollout, hosts: [host_id(rank)].into() });
            }
            Step::Share => {
                let board = self.bench.host.view.board.as_ref().unwrap();
                self.kept = Some((Arc::clone(board), Board::clone(board)));
            }
            Step::Hear => {
                if let Some((board, _)) = &self.kept {
                    self.take(Input::Heard { rollout, board: Arc::clone(board) });
                }
            }
        }
    }

    /// Tells the machine, and lets it do nothing about it.
    fn take(&mut self, input: Input) {
        self.bench.host.take(self.bench.now, input);
    }

    fn check(&mut self) {
        let (host, now) = (&mut self.bench.host, self.bench.now);
        host.view.count_silent(now.boot_ms);
        let (plan, course) = (host.view.plan().unwrap(), host.course.as_ref().unwrap());
        host.by_facts(now, plan, course, |facts| {
            assert!(facts.counted.is_some());
            assert_eq!(answers(facts), answers(&Facts { counted: None, ..*facts }));
        });
        if let Some((shared, copy)) = &self.kept {
            assert!(**shared == *copy, "what others see was changed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// R14 to R16: they are the ones that the definitions count, after every step.
    #[test]
    fn r16_kept_counts_are_those_of_what_is_seen(
        steps in proptest::collection::vec(step(), 1..120),
        rolling in proptest::option::of(1_u32..40),
    ) {
        let mut bench = bench(ME);
        bench.follow(&zones(rolling));
        let mut seen = Seen { bench, sequences: vec![0; HOSTS], kept: None };
        for step in steps {
            seen.apply(step);
            seen.check();
        }
    }
}

/// Hosts that hear the same come to the same as if each had been told every receipt.
#[test]
fn r16_a_board_stands_for_the_receipts_on_it() {
    let rollout = Arc::new(zones(None));
    let mut board = Board::new(0, &rollout);
    let mut told = bench(ME);
    told.follow(&rollout).stage();
    let mut shown = bench(ME);
    let id = rollout_id(1);
    shown.give(Input::Heard { rollout: id, board: Arc::new(board.clone()) }).stage();
    assert_eq!(shown.host.rollout(), Some(id));
    for sequence in 1..4 {
        for rank in 0..ME {
            let state = if sequence == 3 { State::Committed } else { State::Staged };
            told.pass(10).hear(rank, sequence, state, None);
            board.note(told.now.boot_ms, &receipt(rank, sequence, state, None));
        }
        shown.now = told.now;
        shown.give(Input::Heard { rollout: id, board: Arc::new(board.clone()) });
        told.pass(10_000);
        shown.pass(10_000);
        assert_eq!((told.why(), told.state()), (shown.why(), shown.state()), "{sequence}");
    }
    assert_eq!(shown.state().0, State::Activating, "{}", shown.why());

    // A failure on it is looked at as soon as it is shown, the first time as well.
    for rank in 0..2 {
        board.note(told.now.boot_ms, &receipt(rank, 4, State::Reverted, Some(Cause::Release)));
    }
    let failed = Input::Heard { rollout: id, board: Arc::new(board) };
    shown.give(failed.clone());
    assert!(shown.host.is_halted());
    told.restart(false).give(failed);
    assert!(told.host.is_halted());
}
