//! What keeps a host from starting (R6 to R9), its penalty box (R17), its place in the lane (R7, R25),
//! and the certificates it asks for (R17).

use super::*;

/// A staged host of the one wave, held by an input.
fn held(input: Input) -> Bench {
    let mut bench = bench(0);
    bench.give(input);
    bench.follow(&rollout(&one_wave())).stage();
    bench
}

fn note(bench: &Bench) -> &str {
    &bench.host.course.as_ref().unwrap().note
}

#[test]
fn r6_a_frozen_host_starts_when_the_freeze_ends() {
    let mut bench = held(Input::Frozen { until: Some(UnixTime(100)) });
    assert!(
        bench.why().starts_with("held: frozen until 1970-01-01 00:01:40 UTC"),
        "{}",
        bench.why()
    );
    assert!(bench.pass(60_000).asked().is_empty());
    assert!(bench.restart(true).asked().is_empty(), "the record knows of it");
    bench.follow(&rollout(&one_wave()));
    assert!(bench.asked().is_empty());
    bench.now.unix = UnixTime(100);
    assert_eq!(bench.pass(5_000).asked(), ["activate b or a"]);
}

#[test]
fn r6_lifting_a_freeze_lets_it_start_at_once() {
    let mut bench = held(Input::Frozen { until: Some(UnixTime(100)) });
    let lifted = bench.give(Input::Frozen { until: Some(UnixTime(0)) }).asked();
    assert_eq!(lifted, ["activate b or a"]);
}

/// R9: what runs stays, and nothing new starts, also in the lane and over a restart.
#[test]
fn r9_a_removed_host_starts_nothing() {
    let mut bench = held(Input::Removed);
    assert_eq!(bench.why(), "removed from the environment: it must join anew");
    bench.restart(false).follow(&rollout(&one_wave()));
    bench.give(Input::Peers(Peers { confirmed: true, clock_ahead_s: None }));
    bench.certify(1, Claim::Complete);
    assert!(bench.pass(600_000).asked().is_empty());
    assert_eq!(bench.state().0, State::Staged);
}

/// Where another machine speaks with its key, if it does.
fn twin(port: Option<u16>) -> Input {
    Input::Twin { address: port.map(|port| ([10, 0, 0, 9], port).into()) }
}

/// R9: it says where the other one is, and goes on once that is gone.
#[test]
fn r9_a_host_with_a_twin_starts_nothing_until_that_is_gone() {
    let mut bench = held(twin(Some(7400)));
    let text = "held: its key is also in use at 10.0.0.9:7400: let one of the two join anew";
    assert_eq!((bench.why().as_str(), note(&bench)), (text, text), "the others are told, too");
    assert!(bench.pass(600_000).asked().is_empty());
    bench.follow(&next("a")).give(Input::Fetched { release: release("c") });
    assert_eq!(bench.why(), text, "nor of the next rollout");
    bench.certify(2, Claim::Complete);
    assert!(bench.pass(600_000).asked().is_empty(), "nor in the lane");
    assert_eq!(bench.give(twin(None)).asked(), ["activate c or a"]);
}

/// R9, R12: a twin in the middle of a bake keeps its verdict and its way back.
#[test]
fn r9_a_host_with_a_twin_finishes_what_it_has_started() {
    let mut bad = bench(0);
    let attempt = activated(&mut bad);
    bad.give(twin(Some(7400)));
    let note = "healthz answered 500 three times".to_owned();
    assert_eq!(bad.give(Input::Unhealthy { attempt, note }).asked(), ["revert to a"]);

    let mut aborted = new_bench();
    activated(&mut aborted);
    aborted.give(twin(Some(7400)));
    assert_eq!(aborted.direct(1, Action::Abort, None).asked(), ["revert to a"]);

    let mut good = new_bench();
    activated(&mut good);
    assert_eq!(good.give(twin(Some(7400))).pass(10_000).asked(), ["commit"]);
    assert_eq!(good.certify(1, Claim::Halt).asked(), ["revert to a"], "also what it has committed");
}

/// R9: an operator's rollback is a way back, too.
#[test]
fn r9_a_twin_does_not_hold_a_rollback() {
    let mut bench = bench(0);
    bench.give(twin(Some(7400)));
    let back = Rollout { direction: Direction::Rollback, ..rollout(&one_wave()) };
    assert_eq!(bench.follow(&back).stage().asked(), ["activate b or a"]);
}

/// A host without memory starts nothing new, says so, and goes on once it has some; a way back does not
/// ask (R18: the rollout expires meanwhile).
#[test]
fn a_host_short_of_memory_waits_and_looks_again() {
    let short = Input::Pressed;
    let mut bench = held(short(true));
    let text = "held: short of memory: waits, looks again";
    assert_eq!((bench.why().as_str(), note(&bench)), (text, text), "the others are told, too");
    let sequence = |bench: &Bench| bench.host.course.as_ref().unwrap().sequence;
    let told = sequence(&bench);
    for _ in 0..600 {
        bench.give(short(true));
        assert!(bench.pass(1_000).asked().is_empty());
    }
    // Said anew every 30 s, as all is while a rollout is open (R16).
    assert_eq!(sequence(&bench), told + 20, "they are told once, however often it looks");
    bench.follow(&next("a")).give(Input::Fetched { release: release("c") });
    assert_eq!(bench.why(), text, "nor of the next rollout");
    assert_eq!(bench.give(short(false)).asked(), ["activate c or a"]);

    let mut bad = new_bench();
    let attempt = activated(&mut bad);
    bad.give(short(true));
    let note = "healthz answered 500 three times".to_owned();
    assert_eq!(bad.give(Input::Unhealthy { attempt, note }).asked(), ["revert to a"]);
    let mut aborted = new_bench();
    activated(&mut aborted);
    aborted.give(short(true));
    assert_eq!(aborted.direct(1, Action::Abort, None).asked(), ["revert to a"]);
}

/// A skipped host waits for the end of the rollout; where `to` runs already, it goes on.
#[test]
fn r6_a_skipped_host_follows_once_the_rollout_is_complete() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).excuse(&[0]).stage();
    assert_eq!(bench.why(), "skipped by an operator: it follows once this is complete");
    assert!(bench.pass(600_000).asked().is_empty());
    assert_eq!(bench.certify(1, Claim::Complete).asked(), ["activate b or a"]);

    let mut baking = new_bench();
    activated(&mut baking);
    assert!(baking.excuse(&[0]).asked().is_empty());
    assert_eq!(baking.pass(10_000).asked(), ["commit"], "it goes on");
}

/// A skip is about one host: it takes the place of no order, whatever its number.
#[test]
fn r6_a_skip_takes_the_place_of_no_order() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).direct(1, Action::Pause, None).stage();
    bench.direct(9, Action::Skip, None);
    assert_eq!(bench.why(), "paused by an operator");
}

/// R6: a skip frees the place of a host that is gone, and what was told stays told.
#[test]
fn r15_a_skip_frees_a_place() {
    let mut bench = bench(1);
    let one = Rollout { max_unavailable: 1, ..rollout(&one_wave()) };
    bench.follow(&one).stage();
    assert!(bench.pass(600_000).asked().is_empty(), "{}", bench.why());
    bench.excuse(&[3]);
    assert!(bench.asked().is_empty(), "another one was skipped");
    assert_eq!(bench.excuse(&[0]).asked(), ["activate b or a"]);
}

/// R7: doubt of a day holds, and passes as soon as the others say the same; a restart is no doubt.
#[test]
fn r7_a_host_that_may_have_missed_something_starts_nothing() {
    let confirmed = |confirmed| Input::Peers(Peers { confirmed, clock_ahead_s: None });
    let mut bench = bench(0);
    bench.give(confirmed(false));
    bench.now.unix = UnixTime(24 * 3_600 + 1);
    bench.follow(&rollout(&one_wave())).stage();
    assert!(bench.why().starts_with("held: no one has confirmed for a day"), "{}", bench.why());
    assert!(note(&bench).starts_with("held: no one has confirmed"), "the others are told why");
    assert_eq!(bench.give(confirmed(true)).asked(), ["activate b or a"]);
    assert_eq!(note(&bench), "");

    let mut lately = new_bench();
    lately.give(confirmed(false)).restart(true);
    lately.now.unix = UnixTime(24 * 3_600);
    assert_eq!(lately.follow(&rollout(&one_wave())).stage().asked(), ["activate b or a"]);

    let mut newcomer = Bench { host: Host::new(host_id(0), scope()), ..new_bench() };
    newcomer.follow(&rollout(&one_wave())).stage();
    newcomer.give(Input::Fetched { release: release("a") });
    assert!(newcomer.why().starts_with("held: no one has confirmed"), "{}", newcomer.why());
}

/// R7, R8: a clock that was far ahead when it was noted does not confirm for ever.
#[test]
fn r8_a_time_noted_by_a_wrong_clock_confirms_nothing() {
    let mut bench = bench(0);
    bench.now.unix = UnixTime(900_000);
    bench.give(Input::Peers(Peers { confirmed: true, clock_ahead_s: None }));
    bench.give(Input::Peers(Peers::default()));
    bench.now.unix = UnixTime(1_000);
    bench.follow(&rollout(&one_wave())).stage();
    assert!(bench.why().starts_with("held: no one has confirmed"), "{}", bench.why());
}

/// R8: nothing new by a wrong clock, and a way back at any time.
#[test]
fn r8_a_host_with_a_wrong_clock_starts_nothing_and_says_so() {
    let ahead = |ahead_s| Input::Peers(Peers { confirmed: true, clock_ahead_s: Some(ahead_s) });
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).give(ahead(7_200));
    bench.stage();
    let text = "held: its clock is 7200 s ahead of the other hosts': set it right";
    assert_eq!((bench.why().as_str(), note(&bench)), (text, text));
    assert_eq!(bench.give(ahead(-3)).asked(), ["activate b or a"]);
    let attempt = bench.attempt();
    bench.give(Input::Activated { attempt }).give(ahead(7_200));
    assert_eq!(bench.direct(1, Action::Abort, None).asked(), ["revert to a"]);
}

// --- the penalty box ---

/// To release `b` once more, in the epoch after.
fn again(retry: bool) -> Rollout {
    Rollout { epoch: 2, previous: Some(rollout_id(1)), retry, ..rollout(&one_wave()) }
}

const BOXED: &str = "held: this release was stopped before; `swell retry` brings it all the same";

/// R17: a stop boxes the release on every host that sees it, whether or not it ran there, and
/// whatever the rollout does on failure.
#[test]
fn r17_a_stopped_release_starts_nowhere_without_a_retry() {
    for on_failure in [OnFailure::Rollback, OnFailure::Pause] {
        let stopped = Rollout { on_failure, ..rollout(&one_wave()) };
        let mut bench = bench(0);
        bench.follow(&stopped).certify(1, Claim::Halt);
        bench.follow(&again(false)).stage();
        assert_eq!((bench.why().as_str(), note(&bench)), (BOXED, BOXED));
        bench.restart(true).follow(&again(false));
        assert!(bench.pass(600_000).asked().is_empty(), "over a restart, and for ever");

        let mut other = new_bench();
        other.follow(&stopped).direct(1, Action::Abort, None);
        other.follow(&next("a")).give(Input::Fetched { release: release("c") });
        assert_eq!(other.asked(), ["activate c or a"], "another release is not concerned");
    }
}

#[test]
fn r17_a_retry_opens_the_box_and_a_rollback_does_not_ask() {
    let mut bench = bench(0);
    bench.follow(&rollout(&one_wave())).certify(1, Claim::Halt);
    assert_eq!(bench.follow(&again(true)).stage().asked(), ["activate b or a"]);
    assert!(bench.host.boxes.is_empty());
    bench.certify(2, Claim::Halt);
    assert_eq!(bench.host.boxes, [release("b")], "and it may go in again");

    let mut rolled = new_bench();
    rolled.follow(&rollout(&one_wave())).certify(1, Claim::Halt);
    let back = Rollout { direction: Direction::Rollback, ..again(false) };
    assert_eq!(rolled.follow(&back).stage().asked(), ["activate b or a"]);
}

/// A stop of the rollout before, heard of late.
#[test]
fn r17_a_late_stop_of_what_runs_boxes_it_too() {
    let mut bench = bench(0);
    activated(&mut bench);
    bench.follow(&next("a")).certify(1, Claim::Halt);
    assert_eq!(bench.host.boxes, [release("b")]);
}

#[test]
fn r17_the_box_is_bounded_and_keeps_the_newest() {
    let mut bench = bench(0);
    for number in 0..20 {
        bench.host.put_in_box(release(&format!("{number}")));
    }
    let newest: Vec<_> = (4..20).map(|number| release(&format!("{number}"))).collect();
    assert_eq!(bench.host.boxes, newest);
}

// --- the lane ---

/// R7, R25: hosts of the cohort go by rank, are heard while they do, and wait for no silent one.
#[test]
fn r7_the_cohort_catches_up_one_after_the_other() {
    let mut bench = bench(1);
    bench.follow(&rollout(&one_wave())).direct(1, Action::Pause, None).stage();
    bench.hear(0, 1, State::Staged, None).hear(0, 2, State::Staged, None);
    bench.certify(1, Claim::Complete).direct(2, Action::Resume, None);
    assert!(
        bench.why().starts_with("waiting for its turn to catch up: 1 hosts"),
        "{}",
        bench.why()
    );
    bench.pass(61_000);
    let published = bench.done.iter().filter(|effect| matches!(effect, Effect::Publish(_))).count();
    assert_eq!(published, 2, "who is in the lane is heard");
    assert_eq!(bench.pass(40_000).asked(), ["activate b or a"], "the one before it fell silent");

    let mut next = new_bench();
    next.host = Host { me: host_id(1), ..next.host };
    next.follow(&rollout(&one_wave())).direct(1, Action::Pause, None).stage();
    next.hear(0, 1, State::Committed, None).certify(1, Claim::Complete);
    assert_eq!(next.direct(2, Action::Resume, None).asked(), ["activate b or a"]);
}

/// Nor for one that is held for a while, or whose disk is full.
#[test]
fn r7_nobody_waits_in_the_lane_for_a_host_that_cannot_take_its_turn() {
    let published = |bench: &mut Bench| {
        bench.pass(120_000);
        bench.done.iter().filter(|effect| matches!(effect, Effect::Publish(_))).count()
    };
    let mut held = held(Input::Frozen { until: Some(UnixTime(900)) });
    held.certify(1, Claim::Complete);
    assert_eq!(published(&mut held), 0);

    let mut full = new_bench();
    full.follow(&rollout(&one_wave())).certify(1, Claim::Complete);
    assert!(published(&mut full) > 2, "it fetches");
    let note = "no space left on device".to_owned();
    full.give(Input::FetchFailed { release: release("b"), note });
    let fail = |full: &mut Bench| {
        let asked = full.asked().contains(&"fetch b".to_owned());
        let note = "no space left on device".to_owned();
        asked.then(|| full.give(Input::FetchFailed { release: release("b"), note }));
    };
    for _ in 0..8 {
        full.pass(60_000);
        fail(&mut full);
    }
    assert_eq!(published(&mut full), 0, "it tries on");
}

/// Who cannot take its turn in the lane falls silent, so that nobody waits for it.
#[test]
fn r7_nobody_waits_in_the_lane_for_a_host_that_cannot_start() {
    let mut bench = held(Input::Peers(Peers { confirmed: true, clock_ahead_s: Some(900) }));
    bench.certify(1, Claim::Complete);
    let is_silent = |bench: &mut Bench| {
        bench.pass(600_000);
        bench.done.iter().all(|effect| !matches!(effect, Effect::Publish(_)))
    };
    assert!(is_silent(&mut bench));
    bench.give(Input::Peers(Peers { confirmed: true, clock_ahead_s: None }));
    assert_eq!(bench.asked(), ["activate b or a"]);

    // A host of its zone is gone: hosts of other zones need not wait for it, too.
    let mut stuck = new_bench();
    stuck.host = Host { me: host_id(1), ..stuck.host };
    let one = Rollout { max_unavailable: 1, ..rollout(&one_wave()) };
    stuck.follow(&one).stage();
    stuck.pass(100_000).certify(1, Claim::Complete);
    assert!(is_silent(&mut stuck), "{}", stuck.why());
    assert!(stuck.why().contains("1 hosts before it in its zone are not settled"));
    assert_eq!(stuck.excuse(&[0]).asked(), ["activate b or a"]);
}

// --- certificates of waves ---

/// Two waves of a canary and three more.
fn three_waves() -> Rollout {
    rollout(&[wave(1, 10, 0, 0), wave(3, 10, 1, 1), wave(4, 0, 1, 1)])
}

/// R17: a host that sees that a wave is done asks for its certificate, for those that come later.
#[test]
fn r17_finished_waves_are_certified_once() {
    let mut bench = bench(3);
    bench.follow(&three_waves()).stage();
    bench.hear(0, 1, State::Baking, None).pass(5_000);
    assert!(bench.asked().is_empty());
    bench.hear(0, 2, State::Committed, None);
    assert_eq!(bench.pass(1_000).asked(), ["certify Wave(0)"]);
    assert_eq!(bench.pass(60_000).asked(), ["certify Wave(0)"; 2], "until there is one");
    bench.certify(1, Claim::Wave(0));
    assert!(bench.pass(20_000).asked().is_empty());
    bench.hear(1, 1, State::Committed, None).hear(2, 1, State::Staged, None);
    bench.hear(2, 2, State::Staged, None);
    assert!(bench.pass(20_000).asked().is_empty(), "one that is heard is waited for");
    bench.excuse(&[2]);
    assert_eq!(bench.pass(6_000).asked()[0], "certify Wave(1)", "{}", bench.why());
    bench.certify(1, Claim::Wave(1));
    let certified = |bench: &Bench| bench.host.course.as_ref().unwrap().certified.clone();
    assert_eq!(certified(&bench), [Claim::Wave(1)], "the newest only");
    bench.certify(1, Claim::Wave(0));
    assert_eq!(certified(&bench), [Claim::Wave(1)]);
}

/// A host of an earlier wave that was silent while that was certified, and is back: it is waited for.
#[test]
fn r17_hosts_of_earlier_waves_are_waited_for_once_they_are_heard() {
    let mut bench = bench(4);
    bench.follow(&rollout(&[wave(2, 10, 1, 1), wave(4, 10, 1, 1), wave(5, 0, 1, 1)])).stage();
    bench.hear(0, 1, State::Committed, None);
    bench.hear(1, 1, State::Staged, None).certify(1, Claim::Wave(0));
    bench.hear(2, 1, State::Committed, None).hear(3, 1, State::Committed, None);
    bench.hear(1, 2, State::Staged, None);
    assert!(bench.pass(30_000).asked().is_empty(), "it is heard and has not ended");
    let asked = bench.pass(120_000).asked();
    assert_eq!(asked.first().map(String::as_str), Some("certify Wave(1)"), "it is silent");
}

/// Another host was faster; and of the last wave there is the certificate of completion alone.
#[test]
fn r17_one_certificate_of_a_wave_is_enough() {
    let mut bench = bench(3);
    bench.follow(&three_waves()).direct(1, Action::Pause, None).stage();
    for rank in 0..3 {
        bench.hear(rank, 1, State::Committed, None);
    }
    bench.certify(1, Claim::Wave(1));
    assert!(bench.pass(60_000).asked().is_empty());
    let mut last = new_bench();
    last.follow(&rollout(&[wave(1, 0, 0, 0)])).stage();
    let attempt = last.attempt();
    last.give(Input::Activated { attempt });
    assert_eq!(last.pass(1_000).asked(), ["certify Complete"]);
}

/// R17: a host that has seen enough failures to halt, where completion was proven before, in a way
/// that these do not count beside: it asks once more at most, and what it did stands.
#[test]
fn r17_a_halt_that_cannot_be_proven_is_not_asked_for_again() {
    let mut bench = bench(1);
    bench.follow(&rollout(&[wave(1, 10, 0, 0), wave(2, 0, 0, 0)])).stage();
    let failed = bench.hear(0, 1, State::Reverted, Some(Cause::Release)).asked();
    assert!(failed.contains(&"certify Halt".to_owned()), "{failed:?}");
    bench.certify(1, Claim::Complete);
    assert_eq!(bench.pass(60_000).asked(), ["certify Halt"; 2], "nobody has answered");
    let (rollout, claim) = (rollout_id(1), Claim::Halt);
    bench.give(Input::Unprovable { rollout, claim });
    assert!(bench.pass(600_000).asked().is_empty());
    assert_eq!((bench.host.is_halted(), bench.state().0), (true, State::Reverted));
    bench.restart(true);
    assert!(bench.pass(600_000).asked().is_empty(), "nor after a restart");
    // It is about that rollout alone.
    let mut newer = next("a");
    newer.waves = vec![wave(1, 10, 0, 0), wave(2, 0, 0, 0)];
    newer.cohort.truncate(2);
    bench.follow(&newer).give(Input::Unprovable { rollout, claim });
    let failure = receipt(0, 1, State::Reverted, Some(Cause::Release));
    let failure = Receipt { rollout: rollout_id(2), ..failure };
    let asked = bench.give(Input::Receipt(failure)).asked();
    assert!(asked.contains(&"certify Halt".to_owned()), "{asked:?}");
}

// --- orders ---

/// R6: of two promotes of one sequence the one that opens less is in force, here as in the chain.
#[test]
fn r6_of_two_promotes_the_one_that_opens_less_is_in_force() {
    let waves = [wave(1, 60, 0, 0), wave(2, 60, 0, 0), wave(3, 60, 0, 0)];
    for order in [[2, 1], [1, 2]] {
        let mut bench = bench(2);
        bench.follow(&rollout(&waves)).stage();
        let mut asked = Vec::new();
        for wave in order {
            asked.extend(bench.direct(5, Action::Promote, Some(wave)).asked());
        }
        // Whoever heard the wider one first has started by it; from then on the narrower counts.
        let held = bench.host.course.as_ref().unwrap().order.unwrap();
        assert_eq!(held.wave, Some(1), "{asked:?}");
    }
}

/// An operator's rollback does not expire, and whoever takes part in it goes on being heard.
#[test]
fn r16_hosts_are_heard_in_a_rollback_that_is_past_its_expiry() {
    let waves = [wave(1, 0, 0, 0), wave(2, 0, 0, 0)];
    let back = Rollout { direction: Direction::Rollback, expires: UnixTime(0), ..rollout(&waves) };
    let mut bench = bench(1);
    bench.follow(&back).stage().pass(120_000);
    let published = bench.done.iter().filter(|effect| matches!(effect, Effect::Publish(_))).count();
    assert!(published > 2, "{published}");
}
