//! What people are told is what the hosts decide by.

use std::sync::Arc;

use proto::UnixTime;
use proto::receipt::Cause;
use proto::statement::{Limits, OnFailure, Rollout, Wave};

use super::*;
use crate::testing::{host_id, receipt, rollout, rollout_id, signing_key, wave};

const WAVES: [Wave; 2] = [wave(1, 10, 0, 0), wave(4, 5, 1, 1)];

/// Receipts of hosts 0, 1, ... each twice, so that they are signs of life.
fn receipts(rollout: Rollout, states: &[State]) -> Receipts {
    let mut receipts = Receipts::new(rollout_id(1), Arc::new(rollout), 0);
    for (rank, state) in states.iter().enumerate() {
        let cause = state.is_failed().then_some(Cause::Release);
        for sequence in [1, 2] {
            let said = receipt(rank, sequence, *state, cause);
            receipts.offer(1_000, said.sign(&signing_key(rank))).unwrap();
        }
    }
    receipts
}

static NOBODY: BTreeSet<HostId> = BTreeSet::new();

fn facts_of(_: &HostId) -> HostFacts {
    HostFacts {
        name: "host".parse().unwrap(),
        alive: true,
        pieces: 0,
        of: 0,
        fetch: None,
        counted: None,
        drift: None,
        allowed: true,
    }
}

/// Under a root that does not expire.
fn expiry(rollout: &Rollout) -> Expiry {
    let Rollout { direction, expires: rollout, .. } = *rollout;
    Expiry { direction, rollout, root: UnixTime(u64::MAX) }
}

/// A view of someone who has held the rollout for long.
fn view<'a>(receipts: &'a Receipts, author: &'a Name) -> View<'a> {
    View {
        receipts,
        now: Now { boot_ms: 2_000, unix: UnixTime(0) },
        held_ms: 3_600_000,
        pending: None,
        order: None,
        halted: false,
        complete: false,
        excused: &NOBODY,
        expiry: expiry(receipts.rollout()),
        frozen_until: None,
        conflict: false,
        superseded: false,
        author,
        facts_of: &facts_of,
        baked_ms: &|_| None,
        latency: None,
        pooled: &|_| Conclusion::Doubt(None),
    }
}

fn order(action: Action) -> Option<Order> {
    Some(Order { sequence: 1, action, wave: None })
}

fn check(cases: &[(&str, View<'_>, RolloutPhase, &str)]) {
    for (name, view, phase, why) in cases {
        let report = rollout_report(view);
        assert_eq!((report.phase, report.why.as_str()), (*phase, *why), "{name}");
    }
}

#[test]
fn phases_of_an_open_rollout() {
    use State::{Baking, Committed, Staged};
    let author: Name = "ada".parse().unwrap();
    let baking = receipts(rollout(&WAVES), &[Baking, Staged]);
    let open = receipts(rollout(&WAVES), &[Committed, Baking]);
    let late = Now { boot_ms: 2_000, unix: UnixTime(1_000_000) };
    check(&[
        (
            "running",
            view(&baking, &author),
            RolloutPhase::Running,
            "waiting for wave 1: 0 of 1 hosts committed, 1 baking",
        ),
        (
            "all open",
            view(&open, &author),
            RolloutPhase::Running,
            "all waves are open: 1 of 4 hosts committed, 1 baking, 2 not started",
        ),
        (
            "pending",
            View { pending: Some("1 approval"), ..view(&baking, &author) },
            RolloutPhase::Pending,
            "1 approval",
        ),
        (
            "paused",
            View { order: order(Action::Pause), ..view(&baking, &author) },
            RolloutPhase::Paused,
            "paused by an operator",
        ),
        (
            "expired",
            View { now: late, ..view(&baking, &author) },
            RolloutPhase::Expired,
            "held: the rollout has expired, nothing new starts; deploy again",
        ),
        (
            "in conflict it runs, and says what holds it",
            View { conflict: true, ..view(&baking, &author) },
            RolloutPhase::Running,
            "held: two rollouts of epoch 1; deploy again to end it",
        ),
    ]);
}

#[test]
fn phases_of_a_closed_rollout() {
    use State::{Baking, Committed, Reverted};
    let author: Name = "ada".parse().unwrap();
    let begun = receipts(rollout(&WAVES), &[Baking]);
    let failed = receipts(rollout(&WAVES), &[Reverted]);
    let done = receipts(rollout(&WAVES), &[Committed; 4]);
    check(&[
        (
            "aborted",
            View { order: order(Action::Abort), ..view(&done, &author) },
            RolloutPhase::Aborted,
            "aborted by an operator",
        ),
        (
            "halted by its receipts",
            view(&failed, &author),
            RolloutPhase::Halted,
            "halted: 1 failed in waves up to 1, at most 0 may",
        ),
        (
            "halted by a certificate, complete or not",
            View { halted: true, complete: true, ..view(&done, &author) },
            RolloutPhase::Halted,
            "halted: a certificate proves that too many failed",
        ),
        (
            "complete",
            View { complete: true, ..view(&done, &author) },
            RolloutPhase::Complete,
            "complete: 4 of 4 hosts committed",
        ),
        (
            "superseded before its end",
            View { superseded: true, ..view(&begun, &author) },
            RolloutPhase::Superseded,
            "a newer rollout took over; deploy again if needed",
        ),
        (
            "complete, and superseded after it",
            View { superseded: true, complete: true, ..view(&done, &author) },
            RolloutPhase::Complete,
            "complete: 4 of 4 hosts committed",
        ),
        (
            "halted, and superseded after it",
            View { superseded: true, ..view(&failed, &author) },
            RolloutPhase::Halted,
            "halted: 1 failed in waves up to 1, at most 0 may",
        ),
    ]);
}

/// What holds an open rollout up is told with the very value the hosts decide by.
#[test]
fn r6_an_open_rollout_that_waits_says_for_what() {
    use State::{Baking, Committed, Staged};
    let author: Name = "ada".parse().unwrap();
    let canary = receipts(rollout(&WAVES), &[Staged, Staged]);
    let first = BTreeSet::from([host_id(0)]);
    // A Thursday, 00:00.
    let windows = vec!["mon 09:00-10:00".parse().unwrap()];
    let in_windows = receipts(Rollout { windows, ..rollout(&WAVES) }, &[Committed]);
    let rolling = Rollout { in_flight_max: Some(1), ..rollout(&[wave(4, 10, 1, 1)]) };
    let batch = receipts(rolling.clone(), &[Committed, Baking]);
    let one_by_one = Rollout { max_unavailable: 1, in_flight_max: None, ..rolling };
    let zone = receipts(one_by_one, &[Committed, State::Activating]);
    check(&[
        (
            "the canary was skipped",
            View { excused: &first, ..view(&canary, &author) },
            RolloutPhase::Running,
            "held: no host of waves up to 1 committed (0 of 1 hosts committed, 1 skipped)",
        ),
        (
            "frozen",
            View { frozen_until: Some(UnixTime(60)), ..view(&canary, &author) },
            RolloutPhase::Running,
            "held: frozen until 1970-01-01 00:01:00 UTC, or until an operator unfreezes it",
        ),
        (
            "outside its windows",
            view(&in_windows, &author),
            RolloutPhase::Running,
            "held: outside its windows, the next one opens at 1970-01-05 09:00:00 UTC",
        ),
        (
            "rolling",
            view(&batch, &author),
            RolloutPhase::Running,
            "all waves are open: 1 of 4 hosts committed, 1 baking, 2 not started; the next host is \
             waiting for its turn: 1 hosts before it have not come to their end, at most 1 may be \
             under way at once",
        ),
        (
            "one of the zone is stopped",
            view(&zone, &author),
            RolloutPhase::Running,
            "all waves are open: 1 of 4 hosts committed, 1 activating, 2 not started; the next host \
             is waiting for its turn: 1 hosts before it in its zone are not settled, at most 1 may \
             be stopped at once",
        ),
    ]);
}

/// Receipts of hosts 0, 1, ... as [`receipts`], each with when it was heard last, in milliseconds; the
/// others are heard to wait.
fn heard(rollout: Rollout, hosts: &[(State, u64)]) -> Receipts {
    let mut receipts = Receipts::new(rollout_id(1), Arc::new(rollout), 0);
    let others = std::iter::repeat(&(State::Staged, 190_000));
    let all = hosts.iter().chain(others).take(receipts.rollout().cohort.len());
    for (rank, (state, at_ms)) in all.enumerate() {
        for sequence in [1, 2] {
            let said = receipt(rank, sequence, *state, None);
            receipts.offer(*at_ms, said.sign(&signing_key(rank))).unwrap();
        }
    }
    receipts
}

/// Held is what its own hosts do not end, so that a deadline that passes says what it waits for.
#[test]
fn a_rollout_is_held_where_its_hosts_get_it_no_further() {
    use State::{Activating, Baking, Committed};
    let author: Name = "ada".parse().unwrap();
    // Heard a moment ago; silent for longer than hosts may be.
    let (here, gone) = (190_000, 1_000);
    let now = Now { boot_ms: 200_000, unix: UnixTime(0) };
    let of = |hosts: &[(State, u64)]| heard(rollout(&WAVES), hosts);
    let (at_start, bakes, baked) = (of(&[]), of(&[(Baking, here)]), of(&[(Committed, here)]));
    let last_bake = of(&[(Committed, here), (Baking, here), (Baking, here), (Baking, here)]);
    let no_canary = of(&[(Baking, gone)]);
    let one_gone = of(&[(Committed, here), (Committed, here), (Baking, here), (Baking, gone)]);
    let two_gone = of(&[(Committed, here), (Committed, here), (Baking, gone), (Baking, gone)]);
    let windows = vec!["mon 09:00-10:00".parse().unwrap()];
    let in_windows = heard(Rollout { windows, ..rollout(&WAVES) }, &[]);
    let limits = Some(Limits {
        errors_ppm: vec![10_000; 2],
        requests_min: 100,
        warmup_s: 0,
        p99_ratio_percent: None,
    });
    let counted = heard(Rollout { limits, ..rollout(&WAVES) }, &[(Committed, here)]);
    let rolling = Rollout { in_flight_max: Some(1), ..rollout(&[wave(3, 10, 1, 1)]) };
    let in_turn = |before: u64| heard(rolling.clone(), &[(Committed, here), (Baking, before)]);
    let (turn_comes, turn_taken) = (in_turn(here), in_turn(gone));
    let zone = Rollout { max_unavailable: 1, in_flight_max: None, ..rolling.clone() };
    let slot = |before: u64| heard(zone.clone(), &[(Committed, here), (Activating, before)]);
    let (slot_comes, slot_taken) = (slot(here), slot(gone));
    let first = BTreeSet::from([host_id(0)]);
    let frozen_until = Some(UnixTime(60));
    let worse = |_: usize| Conclusion::Worse(Verdict::Quiet { new: 0, needed: 0 });
    let see = |receipts| View { now, ..view(receipts, &author) };
    let late = Now { unix: UnixTime(1_000_000), ..now };
    let cases = [
        ("lacks approvals", View { pending: Some("1 approval"), ..see(&at_start) }, true),
        ("is paused", View { order: order(Action::Pause), ..see(&bakes) }, true),
        ("is about to start", see(&at_start), false),
        ("the canary bakes", see(&bakes), false),
        ("was not held for long enough", View { held_ms: 0, ..see(&baked) }, false),
        ("frozen", View { frozen_until, ..see(&bakes) }, true),
        ("frozen when nobody has to start", View { frozen_until, ..see(&last_bake) }, false),
        ("outside its windows", see(&in_windows), true),
        ("there are two", View { conflict: true, ..see(&bakes) }, true),
        ("the canary is gone", see(&no_canary), true),
        ("the canary was skipped", View { excused: &first, ..see(&no_canary) }, true),
        ("requests are not compared yet", see(&counted), false),
        ("requests say it is worse", View { pooled: &worse, ..see(&counted) }, true),
        ("the one before is under way", see(&turn_comes), false),
        ("the one before went away", see(&turn_taken), true),
        ("the one before restarts", see(&slot_comes), false),
        ("the one before went away in its restart", see(&slot_taken), true),
        ("as many are gone as may be", see(&one_gone), false),
        ("more are gone than may be", see(&two_gone), true),
        ("has halted", View { halted: true, ..see(&bakes) }, false),
        ("was aborted", View { order: order(Action::Abort), ..see(&bakes) }, false),
        ("is complete", View { complete: true, ..see(&two_gone) }, false),
        ("was replaced", View { superseded: true, ..see(&no_canary) }, false),
        ("has expired", View { now: late, ..see(&no_canary) }, false),
    ];
    for (case, view, held) in cases {
        let report = rollout_report(&view);
        assert_eq!(report.held, held, "{case}: {}", report.why);
        // Where nobody has to act, it is known when it goes on.
        let until = match case {
            "frozen" => Some(60),
            "outside its windows" => Some(4 * 86_400 + 9 * 3_600),
            _ => None,
        };
        assert_eq!(report.held_until.map(|until| until.0), until, "{case}: {}", report.why);
    }
}

/// Whoever is to act must know where: the first few by name, how many there are beside, and the command.
#[test]
fn r16_who_is_waited_for_in_vain_is_named() {
    use State::{Baking, Committed, Staged};
    let author: Name = "ada".parse().unwrap();
    let (here, gone) = (190_000, 1_000);
    let now = Now { boot_ms: 200_000, unix: UnixTime(0) };
    let named = |id: &HostId| {
        let rank = (0..9).find(|rank| host_id(*rank) == *id).unwrap();
        HostFacts { name: format!("n{rank}").parse().unwrap(), ..facts_of(id) }
    };
    let barred = |id: &HostId| HostFacts { allowed: *id != host_id(2), ..named(id) };
    let waves = [wave(1, 10, 0, 0), wave(7, 5, 1, 1), wave(9, 0, 1, 1)];
    let of = |hosts: &[(State, u64)]| heard(rollout(&waves), hosts);
    let canary = of(&[(Baking, gone)]);
    let five = of(&[&[(Committed, here), (Committed, here)][..], &[(Baking, gone); 5]].concat());
    let last =
        of(&[&[(Committed, here); 6][..], &[(Baking, gone), (Committed, here), (Baking, gone)]]
            .concat());
    let kept = of(&[(Committed, here), (Committed, here), (Staged, here)]);
    let skipped = BTreeSet::from([host_id(2), host_id(3)]);
    let see = |receipts| View { now, facts_of: &named, ..view(receipts, &author) };
    let frozen_until = Some(UnixTime(60));
    let cases = [
        ("one", see(&canary), "; not heard: n0; of one that is gone: swell skip n0"),
        (
            "many",
            see(&five),
            "; not heard: n2, n3, n4 and 2 more; of one that is gone: swell skip n2",
        ),
        (
            "some are skipped",
            View { excused: &skipped, ..see(&five) },
            "; not heard: n4, n5, n6; of one that is gone: swell skip n4",
        ),
        (
            "all waves are open",
            see(&last),
            "; not heard: n6, n8; of one that is gone: swell skip n6",
        ),
        (
            "one does not allow it",
            View { facts_of: &barred, ..see(&kept) },
            "; agent.toml does not allow web: n2; swell skip n2",
        ),
        (
            "it is not for them that it waits",
            View { frozen_until, ..see(&five) },
            "or until an operator unfreezes it",
        ),
    ];
    for (case, view, ends) in cases {
        let why = rollout_report(&view).why;
        assert!(why.ends_with(ends), "{case}: {why}");
    }
    let one = Now { boot_ms: 191_000, ..now };
    let goes_on = rollout_report(&View { now: one, ..see(&kept) });
    assert!(!goes_on.why.contains("swell"), "{}", goes_on.why);
}

#[test]
fn waves_are_counted_over_their_own_hosts() {
    use State::{Activating, Baking, Committed};
    let author: Name = "ada".parse().unwrap();
    let receipts = receipts(rollout(&WAVES), &[Committed, Baking, Activating]);
    let report = rollout_report(&view(&receipts, &author));
    let [canary, rest] = &report.waves[..] else { panic!("{:?}", report.waves) };
    assert_eq!((canary.hosts, canary.committed, canary.open), (1, 1, true));
    assert_eq!((rest.hosts, rest.baking, rest.activating, rest.waiting), (3, 1, 1, 1));
    assert_eq!((rest.open, rest.wait_s, rest.failed_max, rest.unreachable_max), (true, 5, 1, 1));
    let shown: Vec<_> = report.hosts.iter().map(|host| (host.wave, host.state)).collect();
    let expected = [(0, Some(Committed)), (1, Some(Baking)), (1, Some(Activating)), (1, None)];
    assert_eq!(shown, expected);
    assert_eq!(report.hosts[1].host, host_id(1));

    // After 90 s of silence a host that has not committed is unreachable, and its place is one.
    let silent = Now { boot_ms: 200_000, unix: UnixTime(0) };
    let report = rollout_report(&View { now: silent, ..view(&receipts, &author) });
    let counted = |wave: &WaveReport| {
        [wave.waiting, wave.activating, wave.baking, wave.committed, wave.failed, wave.returned]
            .iter()
            .sum::<u32>()
            + wave.unreachable
    };
    let [canary, rest] = &report.waves[..] else { panic!("{:?}", report.waves) };
    assert_eq!((canary.committed, canary.unreachable), (1, 0));
    assert_eq!((rest.unreachable, rest.open), (3, true), "it was open when they started");
    assert!(report.waves.iter().all(|wave| counted(wave) == wave.hosts));
}

/// A first receipt may be old, so it opens nothing (R16); people are told what it says all the same,
/// as long as its host is there.
#[test]
fn r16_a_host_that_spoke_once_is_shown_where_it_stands() {
    use State::{Activating, Baking, Committed};
    let author: Name = "ada".parse().unwrap();
    let once = |states: &[State]| {
        let mut receipts = Receipts::new(rollout_id(1), Arc::new(rollout(&WAVES)), 0);
        for (rank, state) in states.iter().enumerate() {
            let said = receipt(rank, 1, *state, None).sign(&signing_key(rank));
            receipts.offer(1_000, said).unwrap();
        }
        receipts
    };
    let (baking, done) = (once(&[Baking]), once(&[Committed]));
    let all = once(&[Activating; 4]);
    let gone = |_: &HostId| HostFacts { alive: false, ..facts_of(&host_id(0)) };
    let wave_1 = |rest: &str| format!("waiting for wave 1: 0 of 1 hosts committed, 1 {rest}");
    let again = wave_1("to say again where they stand");
    check(&[
        ("it bakes", view(&baking, &author), RolloutPhase::Running, &wave_1("baking")),
        (
            "it may be gone",
            View { facts_of: &gone, ..view(&baking, &author) },
            RolloutPhase::Running,
            &again,
        ),
        ("only that is missing", view(&done, &author), RolloutPhase::Running, &again),
        (
            "after a promote",
            View {
                order: Some(Order { sequence: 1, action: Action::Promote, wave: Some(1) }),
                ..view(&all, &author)
            },
            RolloutPhase::Running,
            "all waves are open: 0 of 4 hosts committed, 4 activating",
        ),
    ]);
}

/// What its `agent.toml` does not allow a host never begins: one that says nothing counts as unreachable
/// sooner or later, one that says again and again where it stands holds the rollout up.
#[test]
fn r23_a_host_that_does_not_allow_the_service_is_not_awaited() {
    use State::{Baking, Committed, Staged};
    let author: Name = "ada".parse().unwrap();
    let barred = |rank: usize| {
        move |id: &HostId| HostFacts { allowed: *id != host_id(rank), ..facts_of(id) }
    };
    let report_in = |waves: &[Wave], states: &[State], rank: usize| {
        let (receipts, facts_of) = (receipts(rollout(waves), states), barred(rank));
        let report = rollout_report(&View { facts_of: &facts_of, ..view(&receipts, &author) });
        (report.held, report.hosts[rank].is_barred())
    };
    let all = [Committed, Baking, Staged, Staged];
    let report = |states: &[State], rank: usize| report_in(&WAVES, states, rank);
    assert_eq!(report(&all, 3), (true, true), "staged");
    assert_eq!(report(&all[..3], 3), (false, true), "no word, and one may be silent");
    let none_silent = [WAVES[0], wave(4, 5, 1, 0)];
    assert_eq!(report_in(&none_silent, &all[..3], 3), (true, true), "no word, and none may be");
    assert_eq!(report(&all, 1), (false, false), "it bakes, and comes to an end");
    assert_eq!(report(&all, 0), (false, false), "it has ended");
}

/// Who never started says that it is back, too, and its wave was never open: after a halt it must not
/// look as if the bad release went on.
#[test]
fn r17_a_stop_opens_no_wave() {
    use State::{Baking, Reverted};
    let author: Name = "ada".parse().unwrap();
    let opened = |receipts: &Receipts| {
        let view = View { order: order(Action::Abort), ..view(receipts, &author) };
        let report = rollout_report(&view);
        report.waves.iter().map(|wave| wave.open).collect::<Vec<_>>()
    };
    let mut receipts = receipts(rollout(&WAVES), &[Baking]);
    let mut back = |rank, sequence, note: &str| {
        let said = receipt(rank, sequence, Reverted, Some(Cause::Fleet));
        let said = Receipt { note: note.to_owned(), ..said };
        receipts.offer(1_000, said.sign(&signing_key(rank))).unwrap();
        receipts.clone()
    };
    back(0, 3, "aborted");
    assert_eq!(opened(&back(1, 1, NEVER_STARTED)), [true, false]);
    assert_eq!(opened(&back(2, 1, "aborted")), [true, true], "this one had started");
}

/// The last host of a wave that bakes now counts, and one that is not known hides them all.
#[test]
fn how_long_a_wave_bakes_still_is_told_where_it_is_known() {
    use State::{Baking, Committed};
    let author: Name = "ada".parse().unwrap();
    let all = receipts(rollout(&WAVES), &[Committed, Baking, Baking, Baking]);
    let now = Now { boot_ms: 2_000, unix: UnixTime(1_000) };
    let baked = |ms: [Option<u64>; 3]| {
        move |id: &HostId| (0..3).find(|rank| host_id(rank + 1) == *id).and_then(|rank| ms[rank])
    };
    let known = baked([Some(500), Some(3_000), Some(9_000)]);
    let left = |view: &View<'_>| {
        rollout_report(view).waves.iter().map(|wave| wave.bake).collect::<Vec<_>>()
    };
    let see = |baked_ms| View { now, baked_ms, ..view(&all, &author) };
    let told = |left_s, until| Some(BakeReport { left_s, until });
    assert_eq!(left(&see(&known)), [None, told(5, Some(UnixTime(1_005)))], "of 5 s");
    let paused = View { order: order(Action::Pause), ..see(&known) };
    assert_eq!(left(&paused), [None, told(5, None)], "the time stands still");
    let (one_is_not, over) = (baked([Some(500), None, Some(0)]), baked([Some(5_000); 3]));
    assert_eq!(left(&see(&one_is_not)), [None, None]);
    assert_eq!(left(&see(&over)), [None, None], "it is over, and something else waits");
    assert_eq!(left(&View { order: order(Action::Abort), ..see(&known) }), [None, None]);
    assert_eq!(left(&view(&receipts(rollout(&WAVES), &[Committed; 4]), &author)), [None, None]);
}

/// Whoever looks must see whether hosts go back still, are back, or could not.
#[test]
fn r17_how_far_the_way_back_has_come() {
    use State::{Activating, Baking, Committed, RevertFailed, Reverted, Staged};
    let host = |(rank, state): (usize, Option<State>)| {
        let author: Name = "ada".parse().unwrap();
        let of = receipts(rollout(&WAVES), &[]);
        let host = rollout_report(&view(&of, &author)).hosts[0].clone();
        StandingReport { name: format!("n{rank}").parse().unwrap(), state, ..host }
    };
    let hosts = |states: &[State]| {
        states.iter().map(|state| Some(*state)).enumerate().map(host).collect::<Vec<_>>()
    };
    let words = |hosts: &[StandingReport], on_failure| {
        let author: Name = "ada".parse().unwrap();
        let of = receipts(rollout(&WAVES), &[]);
        let back = way_back(hosts, on_failure);
        let state = back.as_ref().map(|back| back.state);
        let report = RolloutReport { back, ..rollout_report(&view(&of, &author)) };
        (state, back_words(&report).unwrap_or_default())
    };
    let cases: [(&[State], BackState, &str); 6] = [
        (
            &[Reverted, Committed, Activating, Staged],
            BackState::GoingBack,
            "1 of 3 hosts that had it is back on a, 2 go back",
        ),
        (
            &[Reverted, Reverted, Staged],
            BackState::RolledBack,
            "all 2 hosts that had it are back on a",
        ),
        (&[Reverted], BackState::RolledBack, "the host that had it is back on a"),
        (
            &[Reverted, RevertFailed],
            BackState::Stuck,
            "1 of 2 hosts that had it is back on a, 1 could not go back: a person is needed",
        ),
        (
            &[RevertFailed, Baking],
            BackState::GoingBack,
            "0 of 2 hosts that had it are back on a, 1 goes back, 1 could not go back: a person is needed",
        ),
        (&[Baking], BackState::GoingBack, "0 of 1 host that had it are back on a, 1 goes back"),
    ];
    for (states, state, text) in cases {
        assert_eq!(words(&hosts(states), OnFailure::Rollback), (Some(state), text.to_owned()));
    }
    let keep = "1 of 2 hosts that had it is back on a, 1 keeps it: its on_failure is pause";
    let kept = words(&hosts(&[Reverted, Committed]), OnFailure::Pause);
    assert_eq!(kept, (Some(BackState::Stays), keep.to_owned()));
    let mut gone = hosts(&[Reverted, Committed, Committed]);
    gone[1].alive = false;
    gone[2].skipped = true;
    let silent = "1 of 2 hosts that had it is back on a, 1 is not heard";
    assert_eq!(words(&gone, OnFailure::Rollback), (Some(BackState::RolledBack), silent.to_owned()));
    gone[0].alive = false;
    assert_eq!(words(&gone, OnFailure::Rollback).0, Some(BackState::GoingBack), "nobody tells");
    assert_eq!(words(&hosts(&[Staged]), OnFailure::Rollback), (None, String::new()));
    let mut never = hosts(&[Reverted]);
    (never[0].cause, never[0].note) = (Some(Cause::Fleet), NEVER_STARTED.to_owned());
    assert_eq!(words(&never, OnFailure::Rollback).0, None, "it had begun nowhere");
}

/// R21: two hosts hold the rollout, two the whole artifact.
#[test]
fn r21_self_supporting() {
    use State::{Committed, Fetching, Reverted, Staged};
    let author: Name = "ada".parse().unwrap();
    let whole = |_: &HostId| HostFacts { pieces: 9, of: 9, ..facts_of(&host_id(0)) };
    let cases = [
        ("nobody", &[][..], false, false),
        ("one has it", &[Staged][..], false, false),
        ("two hold the rollout, one the artifact", &[Staged, Fetching], false, false),
        ("two hold both", &[Staged, Staged], false, true),
        ("one has it, one serves it", &[Staged, Committed], false, true),
        ("one has gone back, perhaps without having it", &[Staged, Reverted], false, false),
        ("two say they hold all pieces", &[Fetching, Fetching], true, true),
        ("copies without the rollout", &[], true, false),
    ];
    for (name, states, pieces, expected) in cases {
        let receipts = receipts(rollout(&WAVES), states);
        let facts_of: &dyn Fn(&HostId) -> HostFacts = if pieces { &whole } else { &facts_of };
        let report = rollout_report(&View { facts_of, ..view(&receipts, &author) });
        assert_eq!(report.self_supporting, expected, "{name}");
    }
}
