//! One host by hand: what the simulation meets rarely or cannot tell apart.

mod adopt;
mod back;
mod board;
mod holds;
mod left;
mod states;
mod verdicts;

use proptest::prelude::*;
use proto::statement::{Action, Direction, OnFailure, RULES, Wave};
use proto::{KeyId, PublicKey, UnixTime};

use super::*;
use crate::gate::{Expired, Hold};
use crate::testing::{host_id, receipt, release, rollout, rollout_id, signing_key, wave};

/// A host with what it was told last, and its clock.
struct Bench {
    host: Host,
    now: Now,
    done: Vec<Effect>,
}

fn scope() -> Scope {
    Scope { service: "web".parse().unwrap(), env: "production".parse().unwrap() }
}

/// A host that runs release `a`, proven.
fn bench(rank: usize) -> Bench {
    let mut host = Host::new(host_id(rank), scope());
    (host.running, host.proven) = (Some(release("a")), Some(release("a")));
    let mut bench = Bench { host, now: Now { boot_ms: 0, unix: UnixTime(0) }, done: Vec::new() };
    bench.give(Input::Peers(Peers { confirmed: true, clock_ahead_s: None }));
    bench
}

/// [`bench`], where a bench is in scope.
fn new_bench() -> Bench {
    bench(0)
}

impl Bench {
    fn give(&mut self, input: Input) -> &mut Self {
        self.done.clear();
        self.host.handle(self.now, input, &mut self.done);
        self
    }

    /// Lets time pass, calling the host when it asks for it.
    fn pass(&mut self, ms: u64) -> &mut Self {
        let until = self.now.boot_ms + ms;
        let mut all = Vec::new();
        for _ in 0..100_000 {
            let Some(at) = self.host.next_deadline().filter(|at| *at <= until) else { break };
            assert!(at > self.now.boot_ms || self.now.boot_ms == 0, "it asks for the past");
            self.now.boot_ms = at;
            self.give(Input::Tick);
            all.append(&mut self.done);
        }
        self.now.boot_ms = until;
        self.done = all;
        self
    }

    fn follow(&mut self, rollout: &Rollout) -> &mut Self {
        let id = rollout_id(rollout.epoch);
        self.give(Input::Rollout { id, rollout: Arc::new(rollout.clone()) })
    }

    fn direct(&mut self, sequence: u64, action: Action, wave: Option<u32>) -> &mut Self {
        self.give(Input::Directive(Directive {
            fleet: "test".parse().unwrap(),
            rollout: self.host.rollout().unwrap(),
            sequence,
            action,
            wave,
            host: None,
            author: KeyId::of(&PublicKey::of(&signing_key(0))),
            created: UnixTime(0),
            reason: String::new(),
            critical: Vec::new(),
        }))
    }

    /// What another host says.
    fn hear(
        &mut self,
        rank: usize,
        sequence: u64,
        state: State,
        cause: Option<Cause>,
    ) -> &mut Self {
        self.give(Input::Receipt(receipt(rank, sequence, state, cause)))
    }

    /// Nobody waits for the hosts with these ranks.
    fn excuse(&mut self, ranks: &[usize]) -> &mut Self {
        let hosts = ranks.iter().map(|rank| host_id(*rank)).collect();
        let rollout = self.host.rollout().unwrap();
        self.give(Input::Excused { rollout, hosts })
    }

    /// Why it waits, or nothing.
    fn why(&self) -> String {
        self.host.why().map_or_else(String::new, ToString::to_string)
    }

    fn certify(&mut self, epoch: u64, claim: Claim) -> &mut Self {
        self.give(Input::Certificate { rollout: rollout_id(epoch), claim })
    }

    /// Everything fetched, so that only the gate is left.
    fn stage(&mut self) -> &mut Self {
        self.give(Input::Fetched { release: release("b") })
    }

    /// Number of the activation asked for last.
    fn attempt(&self) -> u64 {
        self.host.step.as_ref().map(|step| step.attempt).expect("a step is under way")
    }

    fn state(&self) -> (State, Option<Cause>) {
        (self.host.state().unwrap(), self.host.cause())
    }

    /// What was asked for, without records, receipts and steps' numbers.
    fn asked(&self) -> Vec<String> {
        let word = |effect: &Effect| match effect {
            Effect::Persist | Effect::Publish(_) => None,
            Effect::Fetch { release } => Some(format!("fetch {}", name(Some(*release)))),
            Effect::Activate { from, to, adopt, .. } => {
                let verb = if *adopt { "adopt" } else { "activate" };
                Some(format!("{verb} {} or {}", name(Some(*to)), name(*from)))
            }
            Effect::Revert { to, .. } => Some(format!("revert to {}", name(*to))),
            Effect::Commit { .. } => Some("commit".to_owned()),
            Effect::Certify { claim, .. } => Some(format!("certify {claim:?}")),
        };
        self.done.iter().filter_map(word).collect()
    }

    /// The process ends, and starts again from its record; `reboot`: the clock starts at 0.
    fn restart(&mut self, reboot: bool) -> &mut Self {
        let record = serde_json::to_string(&self.host).unwrap();
        self.host = serde_json::from_str(&record).unwrap();
        if reboot {
            self.now.boot_ms = 0;
        }
        self.done.clear();
        self.host.resume(self.now, &mut self.done);
        self
    }
}

fn name(id: Option<Digest>) -> &'static str {
    let names = ["a", "b", "c"].into_iter();
    id.map_or("nothing", |id| { names }.find(|name| release(name) == id).unwrap_or("?"))
}

fn one_wave() -> [Wave; 1] {
    [wave(4, 10, 1, 1)]
}

/// To release `c`, in the epoch after.
fn next(from: &str) -> Rollout {
    let mut next = rollout(&one_wave());
    (next.epoch, next.previous) = (2, Some(rollout_id(1)));
    next.to.release = release("c");
    next.from.as_mut().unwrap().release = release(from);
    next
}

fn activated(bench: &mut Bench) -> u64 {
    bench.follow(&rollout(&one_wave())).stage();
    let attempt = bench.attempt();
    bench.give(Input::Activated { attempt });
    attempt
}

fn committed(bench: &mut Bench) {
    activated(bench);
    bench.pass(10_000);
    assert_eq!(bench.state().0, State::Committed);
}

#[test]
fn the_way_forward() {
    let mut bench = bench(0);
    assert_eq!(bench.follow(&rollout(&one_wave())).asked(), ["fetch b"]);
    assert_eq!(bench.stage().asked(), ["activate b or a"]);
    // The record is durable, then the others are told, then the service is touched.
    let kinds: Vec<_> = bench.done.iter().map(std::mem::discriminant).collect();
    let first = bench.done[1].clone();
    assert!(matches!(&first, Effect::Publish(receipt) if receipt.state == State::Activating));
    assert_eq!(kinds[0], std::mem::discriminant(&Effect::Persist));
    let attempt = bench.attempt();
    assert!(bench.give(Input::Activated { attempt }).asked().is_empty());
    assert!(bench.pass(9_999).asked().is_empty());
    assert_eq!(bench.pass(1).asked(), ["commit"]);
    // The guard at boot must leave it before the record calls it committed.
    assert!(matches!(bench.done[0], Effect::Commit { .. }), "{:?}", bench.done);
    assert_eq!(
        (bench.state(), bench.host.running()),
        ((State::Committed, None), Some(release("b")))
    );
}

/// R12, R25: the first deployment has nothing to go back to.
#[test]
fn r12_first_deployment_is_stopped_and_removed() {
    let mut bench = bench(0);
    (bench.host.running, bench.host.proven) = (None, None);
    let first = Rollout { from: None, ..rollout(&one_wave()) };
    assert_eq!(bench.follow(&first).asked(), ["fetch b"]);
    assert_eq!(bench.stage().asked(), ["activate b or nothing"]);
    let attempt = bench.attempt();
    bench.give(Input::Activated { attempt });
    let note = "healthz answered 500 three times".to_owned();
    assert_eq!(bench.give(Input::Unhealthy { attempt, note }).asked(), ["revert to nothing"]);
    let attempt = bench.attempt();
    bench.give(Input::Reverted { attempt });
    assert_eq!(bench.state(), (State::Reverted, Some(Cause::Release)));
    assert_eq!(bench.host.running(), None);
    let Effect::Publish(receipt) = &bench.done[1] else { panic!("{:?}", bench.done) };
    assert_eq!(receipt.note, "healthz answered 500 three times");
}

/// R22: the way back is on disk before the service is touched.
#[test]
fn r22_a_host_that_runs_something_else_fetches_its_way_back() {
    let mut bench = bench(0);
    bench.host.running = Some(release("c"));
    bench.follow(&rollout(&one_wave()));
    assert_eq!(bench.stage().asked(), ["fetch a"]);
    assert_eq!(bench.give(Input::Fetched { release: release("a") }).asked(), ["activate b or a"]);
}

/// R18: fetches fail for ever, ever slower, and never hurry.
#[test]
fn r18_failed_fetches_are_asked_again() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave()));
    let mut pauses_s = Vec::new();
    for _ in 0..9 {
        let failed = Input::FetchFailed { release: release("b"), note: "no peer has it".into() };
        assert!(bench.give(failed).asked().is_empty());
        let start_ms = bench.now.boot_ms;
        while bench.asked().is_empty() {
            bench.pass(500);
        }
        assert_eq!(bench.asked(), ["fetch b"]);
        pauses_s.push((bench.now.boot_ms - start_ms) / 1_000);
    }
    assert_eq!(pauses_s, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // Without any answer it is asked again, too.
    let silent = bench.pass(FETCH_MS_MAX).asked();
    assert_eq!(silent, ["fetch b"]);
}

/// R18: a step without an answer goes back; a way back without one is tried three times in all.
#[test]
fn r18_steps_without_answers() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).stage();
    assert!(bench.pass(STEP_MS_MAX - 1).asked().is_empty());
    assert_eq!(bench.pass(1).asked(), ["revert to a"]);
    assert_eq!(bench.state().0, State::Activating, "not settled before it serves");
    let mut asked = 0;
    for _ in 0..10 {
        asked += bench.pass(STEP_MS_MAX + 600_000).asked().len();
    }
    assert_eq!((asked, bench.state()), (2, (State::RevertFailed, Some(Cause::Host))));
    let late = bench.host.attempts;
    bench.give(Input::Reverted { attempt: late });
    assert_eq!(bench.state().0, State::RevertFailed, "nobody waits for that answer any more");
}

#[test]
fn a_failed_way_back_is_tried_again_and_may_succeed() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).stage();
    let attempt = bench.attempt();
    let (cause, note) = (Cause::Release, "never ready".to_owned());
    bench.give(Input::ActivationFailed { attempt, reverted: false, cause, note });
    assert_eq!(bench.state(), (State::RevertFailed, Some(Cause::Release)));
    assert_eq!(bench.pass(60_000).asked(), ["revert to a"]);
    let attempt = bench.attempt();
    bench.give(Input::Reverted { attempt });
    assert_eq!(bench.state(), (State::Reverted, Some(Cause::Release)));
    assert_eq!(bench.host.running(), Some(release("a")));
}

/// R8: the bake is an amount, kept over restarts, stopped by pause.
#[test]
fn r8_bake_is_counted_in_amounts() {
    let mut bench = bench(0);
    let attempt = activated(&mut bench);
    bench.pass(4_000).direct(1, Action::Pause, None);
    bench.pass(3_600_000);
    assert_eq!(bench.state().0, State::Baking, "paused");
    bench.direct(2, Action::Resume, None);
    bench.pass(1_000).give(Input::Conflict { epoch: 0 });
    // The record is written when something is said: what was baked since is lost with the process.
    bench.give(Input::Conflict { epoch: 7 });
    let asked = bench.restart(true).asked();
    assert_eq!(asked, ["activate b or a"], "it must be watched again");
    bench.pass(60_000);
    assert_eq!(bench.state().0, State::Baking, "the clock stands until it is");
    bench.give(Input::Activated { attempt });
    assert_eq!(bench.pass(4_999).state().0, State::Baking);
    assert_eq!(bench.pass(1).asked(), ["commit"]);
}

/// R19: what the guard took back at boot is a failure of the host.
#[test]
fn r19_the_guard_went_back_at_boot() {
    let mut bench = bench(0);
    let attempt = activated(&mut bench);
    bench.restart(true);
    let (cause, note) = (Cause::Host, "went back at boot".to_owned());
    bench.give(Input::ActivationFailed { attempt, reverted: true, cause, note });
    assert_eq!(bench.state(), (State::Reverted, Some(Cause::Host)));
    assert_eq!(bench.host.running(), Some(release("a")));
}

/// R12, R17: a halt takes everyone back, committed hosts too; it latches, also over a restart.
#[test]
fn r12_committed_hosts_go_back_on_a_halt() {
    let mut bench = bench(0);
    committed(&mut bench);
    assert_eq!(bench.certify(1, Claim::Halt).asked(), ["revert to a"]);
    let attempt = bench.attempt();
    bench.give(Input::Reverted { attempt });
    assert_eq!(bench.state(), (State::Reverted, Some(Cause::Fleet)));
    bench.restart(true);
    assert!(bench.host.is_halted());
    bench.direct(9, Action::Promote, Some(0)).certify(1, Claim::Complete);
    assert!(bench.pass(600_000).asked().is_empty(), "nothing wins over a halt");
}

/// A halt that comes while the service is being started waits for the end of that.
#[test]
fn r12_a_halt_during_activation() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).stage();
    let attempt = bench.attempt();
    assert!(bench.certify(1, Claim::Halt).asked().is_empty());
    assert_eq!(bench.give(Input::Activated { attempt }).asked(), ["revert to a"]);
}

#[test]
fn r12_on_failure_pause_starts_nothing_and_takes_nothing_back() {
    let waiting = Rollout { on_failure: OnFailure::Pause, ..rollout(&one_wave()) };
    let mut baking = bench(0);
    baking.follow(&waiting).stage();
    let attempt = baking.attempt();
    baking.give(Input::Activated { attempt });
    assert!(baking.certify(1, Claim::Halt).asked().is_empty());
    assert_eq!(baking.pass(10_000).asked(), ["commit"]);
    let mut late = bench(1);
    late.follow(&waiting).certify(1, Claim::Halt);
    assert!(late.stage().asked().is_empty(), "nothing starts");
    assert!(late.pass(60_000).asked().is_empty());
}

/// R6: the highest sequence wins, the stronger action on a tie, and an abort for good.
#[test]
fn r6_directives() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).direct(5, Action::Pause, None).stage();
    assert_eq!(bench.host.why(), Some(&Gate::Hold(Hold::Paused)));
    bench.direct(4, Action::Resume, None).direct(5, Action::Resume, None);
    assert_eq!(bench.host.why(), Some(&Gate::Hold(Hold::Paused)), "older, and weaker");
    assert_eq!(bench.direct(6, Action::Resume, None).asked(), ["activate b or a"]);
    let attempt = bench.attempt();
    bench.give(Input::Activated { attempt });
    assert_eq!(
        bench.direct(3, Action::Abort, None).asked(),
        ["revert to a"],
        "whatever its number"
    );
    bench.direct(99, Action::Resume, None);
    let attempt = bench.attempt();
    bench.give(Input::Reverted { attempt });
    assert!(bench.pass(60_000).asked().is_empty());

    let mut waiting = new_bench();
    waiting.follow(&rollout(&one_wave())).direct(1, Action::Abort, None);
    waiting.direct(9, Action::Resume, None);
    assert!(waiting.asked().is_empty(), "an abort latches");
    assert!(waiting.stage().asked().is_empty(), "also once it is staged");
    assert!(waiting.pass(60_000).asked().is_empty());
}

/// R5: two rollouts of one epoch start nothing; the next one ends it. Old ones are not heard.
#[test]
fn r5_conflict_and_epochs() {
    let mut bench = bench(0);
    let one = rollout(&one_wave());
    bench.follow(&one);
    bench.give(Input::Rollout { id: rollout_id(77), rollout: Arc::new(one.clone()) });
    bench.stage();
    assert_eq!(bench.host.why(), Some(&Gate::Hold(Hold::Conflict { epoch: 1 })));
    bench.follow(&next("a")).give(Input::Fetched { release: release("c") });
    assert_eq!(bench.host.step.as_ref().unwrap().to, Some(release("c")));
    bench.follow(&one);
    assert_eq!(bench.host.epoch(), 2);
}

/// R7, R20: expired, or by other rules: staged, not started, and it says so.
#[test]
fn r20_other_rules_and_r7_expiry() {
    let mut bench = bench(0);
    let other = Rollout { rules: RULES + 1, ..rollout(&one_wave()) };
    bench.follow(&other).stage();
    assert_eq!(bench.state().0, State::Staged);
    let Effect::Publish(receipt) = &bench.done[1] else { panic!("{:?}", bench.done) };
    assert_eq!(receipt.note, "held: it asks for rules 2, this version has 1");

    let mut late = new_bench();
    late.now.unix = UnixTime(1_000_000);
    late.follow(&rollout(&one_wave())).stage();
    assert_eq!(late.host.why(), Some(&Gate::Hold(Hold::Expired(Expired::Rollout))));
    let back = Rollout { direction: Direction::Rollback, ..rollout(&one_wave()) };
    let mut operators = new_bench();
    operators.now.unix = UnixTime(1_000_000);
    assert_eq!(operators.follow(&back).stage().asked(), ["activate b or a"]);
    let attempt = operators.attempt();
    assert_eq!(operators.give(Input::Activated { attempt }).asked(), ["commit"], "no bake");
}

/// A newer rollout waits for a step under way, keeps what serves, and takes it over if it wants it.
#[test]
fn a_newer_rollout_during_a_step() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).stage();
    let attempt = bench.attempt();
    assert_eq!(bench.follow(&next("a")).asked(), ["fetch c"]);
    bench.give(Input::Fetched { release: release("c") });
    assert!(bench.asked().is_empty(), "the step is not interrupted");
    bench.give(Input::Activated { attempt });
    assert_eq!(bench.asked(), ["fetch a"], "it runs neither side: its way back must be there");
    let here = bench.give(Input::Fetched { release: release("a") }).asked();
    assert_eq!(here, ["activate c or a"]);

    let again = Rollout { epoch: 2, previous: Some(rollout_id(1)), ..rollout(&one_wave()) };
    let mut baking = new_bench();
    activated(&mut baking);
    assert_eq!(baking.follow(&again).asked(), ["activate b or a"], "watched under the new number");
    assert_eq!(baking.state().0, State::Baking);
    let mut done = new_bench();
    committed(&mut done);
    assert!(done.follow(&again).asked().is_empty());
    assert_eq!(done.state().0, State::Committed);
}

/// R12: an attempt has one way back from its start to its end, whatever is planned meanwhile.
#[test]
fn r12_what_is_watched_goes_back_where_it_came_from() {
    let mut bench = bench(0);
    let attempt = activated(&mut bench);
    bench.follow(&next("b"));
    assert_eq!(bench.host.prior_rollout(), Some(rollout_id(1)));
    assert!(
        bench.host.pinned().get(&release("a")) == Some(&Fate::InFlight),
        "its way back stays on disk"
    );
    assert_eq!(bench.restart(false).asked(), ["fetch c", "activate b or a"]);
    let (cause, note) = (Cause::Host, "went back at boot".to_owned());
    bench.give(Input::ActivationFailed { attempt, reverted: true, cause, note });
    assert_eq!(bench.host.running(), Some(release("a")), "as the journal had it");
}

/// R12: also on a host that ran neither side of the rollout, so that nothing else keeps it there.
#[test]
fn r12_the_way_back_of_what_is_watched_stays_on_disk() {
    let mut bench = bench(0);
    (bench.host.running, bench.host.proven) = (Some(release("c")), Some(release("c")));
    bench.follow(&rollout(&one_wave())).stage();
    assert_eq!(bench.give(Input::Fetched { release: release("a") }).asked(), ["activate b or a"]);
    let attempt = bench.attempt();
    bench.give(Input::Activated { attempt }).follow(&next("b"));
    assert!(bench.host.pinned().contains_key(&release("a")));
}

/// R7: hosts outside the cohort follow a complete rollout, each after a delay of its own; a host
/// that failed for its own reason tries again there, one on which the release failed does not.
#[test]
fn r25_the_lane() {
    let mut outside = bench(9);
    assert!(outside.follow(&rollout(&one_wave())).asked().is_empty());
    assert!(outside.pass(600_000).asked().is_empty());
    assert_eq!(outside.certify(1, Claim::Complete).asked(), ["fetch b"]);
    outside.stage();
    assert_eq!(outside.pass(30_000).asked(), ["activate b or a"]);

    for (cause, tries) in [(Cause::Host, 3), (Cause::Release, 0)] {
        let mut bench = bench(0);
        bench.follow(&rollout(&one_wave())).stage();
        let attempt = bench.attempt();
        let failed = |attempt| {
            let note = "the disk is full".to_owned();
            Input::ActivationFailed { attempt, reverted: true, cause, note }
        };
        bench.give(failed(attempt));
        assert!(bench.pass(3_600_000).asked().is_empty(), "not while it is open");
        bench.certify(1, Claim::Complete);
        let mut tried = 0;
        for _ in 0..200 {
            if bench.asked().contains(&"activate b or a".to_owned()) {
                tried += 1;
                let attempt = bench.attempt();
                bench.give(failed(attempt));
                assert_eq!(bench.state(), (State::Reverted, Some(Cause::Late)), "does not count");
            }
            bench.pass(10_000);
        }
        assert_eq!(tried, tries, "{cause:?}");
    }
}

/// R16: signed again every 30 s, with a rising sequence, while the rollout is open.
#[test]
fn r16_receipts_are_signed_again() {
    let mut bench = bench(0);
    committed(&mut bench);
    let sequences = |bench: &Bench| {
        let receipt = |effect: &Effect| match effect {
            Effect::Publish(receipt) => Some(receipt.sequence),
            _ => None,
        };
        bench.done.iter().filter_map(receipt).collect::<Vec<_>>()
    };
    bench.pass(90_000);
    let signed = sequences(&bench);
    assert_eq!(signed.len(), 3);
    assert!(signed.is_sorted_by(|one, next| one < next));
    bench.restart(true);
    assert!(sequences(&bench)[0] > signed[2], "also over a restart");
    bench.certify(1, Claim::Complete).pass(600_000);
    assert_eq!(sequences(&bench), [] as [u64; 0], "it is closed");
    assert_eq!(bench.host.next_deadline(), None, "and at rest");
}

/// R17: a conclusion is certified after the receipt it is made of, until the certificate exists.
#[test]
fn r17_a_fleet_of_one_halts_and_completes() {
    let mut failing = bench(0);
    failing.follow(&rollout(&[wave(1, 0, 0, 0)])).stage();
    let attempt = failing.attempt();
    let (cause, note) = (Cause::Release, "never ready".to_owned());
    failing.give(Input::ActivationFailed { attempt, reverted: true, cause, note });
    assert_eq!(failing.asked(), ["certify Halt"]);
    let place = |wanted: fn(&Effect) -> bool| failing.done.iter().position(wanted).unwrap();
    let published = place(|effect| matches!(effect, Effect::Publish(_)));
    assert!(published < place(|effect| matches!(effect, Effect::Certify { .. })));
    assert_eq!(failing.pass(60_000).asked(), ["certify Halt"; 2], "asked again");
    assert_eq!(failing.restart(true).asked(), ["certify Halt"], "also after a restart");
    failing.certify(1, Claim::Halt);
    assert!(failing.restart(true).asked().is_empty());

    let mut good = bench(0);
    good.follow(&rollout(&[wave(1, 0, 0, 0)])).stage();
    let attempt = good.attempt();
    assert_eq!(good.give(Input::Activated { attempt }).asked(), ["commit"]);
    assert_eq!(good.pass(1_000).asked(), ["certify Complete"]);
}

/// What must not be collected from the disk.
#[test]
fn both_sides_of_a_rollout_are_pinned() {
    let mut bench = bench(0);
    committed(&mut bench);
    let both = [(release("a"), Fate::RolloutFrom), (release("b"), Fate::RolloutTo)];
    assert_eq!(bench.host.pinned(), both.into());
    // While a step is under way that is the reason to be told.
    let mut bench = new_bench();
    bench.follow(&rollout(&one_wave())).stage();
    let both = [(release("a"), Fate::InFlight), (release("b"), Fate::InFlight)];
    assert_eq!(bench.host.pinned(), both.into());
}

fn any_input() -> impl Strategy<Value = Input> {
    let attempt = 0u64..6;
    let cause = prop::sample::select(vec![Cause::Release, Cause::Host]);
    let state = prop::sample::select(vec![
        State::Staged,
        State::Activating,
        State::Baking,
        State::Committed,
        State::Reverted,
    ]);
    let action =
        prop::sample::select(vec![Action::Resume, Action::Promote, Action::Pause, Action::Abort]);
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let note = || "x".to_owned();
    prop_oneof![
        (1u64..4, 0usize..3).prop_map(|(epoch, shape)| {
            let mut signed = if shape == 0 { next("a") } else { rollout(&one_wave()) };
            signed.epoch = epoch;
            let id = rollout_id(epoch * 10 + shape as u64);
            Input::Rollout { id, rollout: Arc::new(signed) }
        }),
        (0u64..4).prop_map(|epoch| Input::Conflict { epoch }),
        (1u64..4, 0u64..3, 1u64..5, action).prop_map(|(epoch, shape, sequence, action)| {
            Input::Directive(Directive {
                fleet: "test".parse().unwrap(),
                rollout: rollout_id(epoch * 10 + shape),
                sequence,
                action,
                wave: (action == Action::Promote).then_some(0),
                host: None,
                author: KeyId::of(&PublicKey::of(&signing_key(0))),
                created: UnixTime(0),
                reason: String::new(),
                critical: Vec::new(),
            })
        }),
        (1u64..4, 0u64..3, any::<bool>()).prop_map(|(epoch, shape, halt)| Input::Certificate {
            rollout: rollout_id(epoch * 10 + shape),
            claim: if halt { Claim::Halt } else { Claim::Complete },
        }),
        (1u64..4, 0u64..3, 0usize..6, 0u64..9, state).prop_map(
            |(epoch, shape, rank, sequence, state)| {
                let cause = state.is_failed().then_some(Cause::Release);
                let said = receipt(rank, sequence, state, cause);
                Input::Receipt(Receipt { rollout: rollout_id(epoch * 10 + shape), ..said })
            }
        ),
        name.clone().prop_map(|name| Input::Fetched { release: release(name) }),
        name.prop_map(move |name| Input::FetchFailed { release: release(name), note: note() }),
        attempt.clone().prop_map(|attempt| Input::Activated { attempt }),
        (attempt.clone(), any::<bool>(), cause).prop_map(move |(attempt, reverted, cause)| {
            Input::ActivationFailed { attempt, reverted, cause, note: note() }
        }),
        attempt.clone().prop_map(move |attempt| Input::Unhealthy { attempt, note: note() }),
        attempt.clone().prop_map(|attempt| Input::Reverted { attempt }),
        attempt.prop_map(move |attempt| Input::RevertFailed { attempt, note: note() }),
        Just(Input::Tick),
    ]
}

proptest! {
    /// Whatever comes, in whatever order, with restarts in between: nothing panics, epochs and
    /// sequences rise, a halt stays, no two steps have one number, and the record is whole.
    #[test]
    fn nothing_goes_back(
        inputs in prop::collection::vec((any_input(), 0u64..40_000, 0u8..20), 1..80),
        rank in 0usize..6,
    ) {
        let mut bench = bench(rank);
        let mut signed: BTreeMap<Digest, u64> = Default::default();
        let (mut epoch, mut halted, mut steps) = (0, None, 0);
        for (input, pause_ms, fate) in inputs {
            bench.now.boot_ms += pause_ms;
            bench.give(input);
            let mut done = std::mem::take(&mut bench.done);
            if fate == 0 {
                bench.restart(true);
                // What is repeated after a restart has the number it had.
                steps = steps.min(bench.host.attempts.saturating_sub(1));
                done.append(&mut bench.done);
            }
            for effect in &done {
                match effect {
                    Effect::Publish(receipt) => {
                        let before = signed.insert(receipt.rollout, receipt.sequence);
                        prop_assert!(before.is_none_or(|before| before < receipt.sequence));
                    }
                    Effect::Activate { attempt, .. } | Effect::Revert { attempt, .. } => {
                        prop_assert!(*attempt >= steps);
                        steps = *attempt;
                    }
                    _ => {}
                }
            }
            prop_assert!(bench.host.epoch() >= epoch);
            epoch = bench.host.epoch();
            if halted.is_some() && halted == bench.host.rollout() {
                prop_assert!(bench.host.is_halted());
            }
            halted = bench.host.rollout().filter(|_| bench.host.is_halted());
            if let Some(at) = bench.host.next_deadline() {
                let spins = at < bench.now.boot_ms && bench.host.view.looked_ms == Some(bench.now.boot_ms);
                prop_assert!(!spins, "a deadline that is past makes the driver spin");
            }
        }
    }
}
