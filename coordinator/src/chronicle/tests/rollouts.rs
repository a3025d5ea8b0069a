//! What is told of a rollout, and its row.

use proto::receipt::{Cause, State};
use proto::report::{CountedReport, LatencyReport, RolloutPhase, RolloutReport};
use proto::statement::{Source, UnixTime};
use rollout::host::NEVER_STARTED;

use super::{
    BEGAN, Run, Seen, Sight, failed, host_id, one, report, scope, seen, sight, standing, three,
};
use crate::chronicle::Relief;
use crate::events::Kind;
use crate::store::Outcome;

const NONE: [Option<State>; 3] = [None; 3];
const BAKES: [Option<State>; 3] = [Some(State::Baking), None, None];
const ALL: [Option<State>; 3] = [Some(State::Committed); 3];

#[test]
fn a_rollout_that_goes_well_is_told_step_by_step_and_each_step_once() {
    let mut run = Run::begun();
    let pending = RolloutReport {
        why: "0 of 1 approvals by approve:production, other than the author's".to_owned(),
        held: true,
        ..three(RolloutPhase::Pending, 0, NONE)
    };
    assert_eq!(run.look_for(20, &one(pending)), [Kind::ApprovalWanted]);
    assert_eq!(
        run.text(),
        "web 1.4.0 to production: waits for signatures: 0 of 1 approvals by approve:production, \
         other than the author's"
    );
    let goes = one(three(RolloutPhase::Running, 1, BAKES));
    assert_eq!(run.look_for(20, &goes), [Kind::RolloutStarted, Kind::WaveOpened]);
    assert_eq!(run.text(), "web 1.4.0 to production: wave 1 of 2 is open: 1 host");
    assert_eq!(
        run.events[1].text,
        "web 1.4.0 to production: started from 1.3.0, 3 hosts in 2 waves, signed by ada: weekly"
    );
    assert_eq!(run.events[1].detail["counts"]["baking"], 1);
    run.restart();
    let second = [Some(State::Committed), Some(State::Baking), None];
    let goes = one(three(RolloutPhase::Running, 2, second));
    assert_eq!(run.look_for(5, &goes), [Kind::WaveOpened]);
    assert_eq!(run.events.last().unwrap().detail["wave"], 2);
    let ended = Some(BEGAN.plus_s(7));
    let done = RolloutReport { ended, ..three(RolloutPhase::Complete, 2, ALL) };
    assert_eq!(run.look_for(30, &one(done.clone())), [Kind::RolloutComplete]);
    run.restart();
    assert!(run.look_for(30, &one(done)).is_empty());
    let row = &run.rows.values().next().unwrap().row;
    assert_eq!((row.outcome, row.ended), (Some(Outcome::Complete), Some(BEGAN.plus_s(7))));
    assert_eq!((row.started, row.began, row.back), (Some(BEGAN.plus_s(20)), true, None));
    assert_eq!((row.counts.committed, row.hosts), (3, 3));
}

#[test]
fn a_hold_is_told_once_it_has_lasted_and_a_flicker_is_no_event() {
    let mut run = Run::begun();
    let goes = one(three(RolloutPhase::Running, 1, BAKES));
    let why = "held: 1 of waves up to 1 not heard".to_owned();
    let held = RolloutReport { held: true, why, ..three(RolloutPhase::Running, 1, BAKES) };
    let held = one(held);
    run.look(&goes);
    assert!(run.look_for(9, &held).is_empty());
    assert!(run.look(&goes).is_empty());
    assert!(run.look_for(9, &held).is_empty(), "begins anew");
    assert_eq!(run.look_for(2, &held), [Kind::RolloutHeld]);
    assert_eq!(run.text(), "web 1.4.0 to production: held: 1 of waves up to 1 not heard");
    assert!(run.look_for(5, &goes).is_empty() && run.look_for(60, &held).is_empty());
    run.restart();
    assert!(run.look_for(60, &held).is_empty());
    assert_eq!(run.look_for(11, &goes), [Kind::RolloutMoves]);
    assert_eq!(run.look_for(11, &held), [Kind::RolloutHeld], "another one");
    let row = &run.rows.values().next().unwrap().row;
    assert_eq!((row.outcome, row.ended), (None, None));
}

/// Its machine is gone, and a person has said that nobody waits for it.
#[test]
fn a_rollout_is_back_once_the_only_host_that_began_is_skipped() {
    let mut run = Run::begun();
    run.look(&one(three(RolloutPhase::Running, 1, BAKES)));
    let mut stopped = three(RolloutPhase::Halted, 1, [Some(State::RevertFailed), None, None]);
    stopped.hosts[0].alive = false;
    let told = run.look_for(60, &one(stopped.clone()));
    assert!(!told.contains(&Kind::RolloutRolledBack), "{told:?}");
    stopped.hosts[0].skipped = true;
    let told = run.look_for(20, &one(stopped));
    assert!(told.contains(&Kind::RolloutRolledBack), "{told:?}");
}

#[test]
fn what_people_do_is_told_at_once() {
    let mut run = Run::begun();
    let goes = one(three(RolloutPhase::Running, 1, BAKES));
    let paused = RolloutReport {
        held: true,
        why: "paused by an operator (by ada: look)".to_owned(),
        ..three(RolloutPhase::Paused, 1, BAKES)
    };
    let paused = one(paused);
    run.look(&goes);
    assert_eq!(run.look(&paused), [Kind::RolloutPaused]);
    assert_eq!(run.text(), "web 1.4.0 to production: paused by an operator (by ada: look)");
    assert!(run.look_for(60, &paused).is_empty());
    run.restart();
    assert!(run.look_for(60, &goes).is_empty(), "who resumed it is told of, see `acts`");
    assert_eq!(run.look(&paused), [Kind::RolloutPaused], "a second pause is another one");
    let aborted = RolloutReport {
        why: "aborted by an operator (by ada: enough)".to_owned(),
        ..three(RolloutPhase::Aborted, 1, BAKES)
    };
    assert_eq!(run.look(&one(aborted)), [Kind::RolloutAborted]);
    assert_eq!(run.text(), "web 1.4.0 to production: aborted by an operator (by ada: enough)");
    let mut back = three(RolloutPhase::Aborted, 1, [Some(State::Reverted), None, None]);
    back.hosts[0].cause = Some(Cause::Fleet);
    assert!(run.look_for(9, &one(back.clone())).is_empty());
    assert_eq!(run.look_for(1, &one(back)), [Kind::RolloutRolledBack]);
    assert_eq!(run.text(), "web 1.4.0 to production: the host that had it is back on 1.3.0");
    let halted = three(RolloutPhase::Halted, 1, BAKES);
    assert!(run.look_for(20, &one(halted)).is_empty(), "it was over");
    let row = &run.rows.values().next().unwrap().row;
    assert_eq!((row.outcome, row.back), (Some(Outcome::Aborted), Some(BEGAN.plus_s(120))));
}

#[test]
fn a_halt_names_the_hosts_and_is_over_when_all_that_are_heard_are_back() {
    let mut run = Run::begun();
    let hosts = || vec![failed(1, 0), standing(2, 1, Some(State::Baking)), standing(3, 1, None)];
    let halted = |hosts| RolloutReport {
        why: "halted: 1 failed in waves up to 1, at most 0 may".to_owned(),
        ..report(RolloutPhase::Halted, 2, hosts)
    };
    let told = run.look(&one(halted(hosts())));
    assert_eq!(
        told,
        [
            Kind::RolloutStarted,
            Kind::WaveOpened,
            Kind::WaveOpened,
            Kind::HostFailed,
            Kind::RolloutHalted
        ]
    );
    assert_eq!(
        run.events[3].text,
        "web 1.4.0 to production: failed on n1: healthz answered 500 three times"
    );
    assert_eq!(run.events[3].host, Some(host_id(1)));
    assert_eq!(
        run.text(),
        "web 1.4.0 to production: halted: 1 failed in waves up to 1, at most 0 may"
    );
    // One could not go back; another is silent, and nobody waits for it.
    let mut stuck = hosts();
    stuck[1].state = Some(State::RevertFailed);
    stuck[1].cause = Some(Cause::Fleet);
    assert_eq!(run.look(&one(halted(stuck.clone()))), [Kind::HostStuck]);
    run.restart();
    stuck[2] = standing(3, 1, Some(State::Committed));
    assert!(run.look_for(20, &one(halted(stuck.clone()))).is_empty());
    stuck[1].state = Some(State::Reverted);
    stuck[2].alive = false;
    let mended = [((host_id(2), scope()), Relief::Well)].into();
    let told = run.look_for(60, &Sight { relieved: mended, ..one(halted(stuck)) });
    assert_eq!(told, [Kind::RolloutRolledBack, Kind::HostsMended]);
}

#[test]
fn after_a_restart_those_who_were_not_reached_do_not_speak_for_those_who_serve_it() {
    let seen = |heard: [bool; 3], canary| {
        let mut halted = three(RolloutPhase::Halted, 1, [Some(canary), None, None]);
        halted.hosts.iter_mut().zip(heard).for_each(|(host, alive)| host.alive = alive);
        halted.hosts[0].cause = Some(Cause::Fleet);
        one(halted)
    };
    let mut run = Run::begun();
    run.look_for(20, &seen([true; 3], State::Committed));
    run.restart();
    assert!(run.look_for(20, &seen([false; 3], State::Committed)).is_empty());
    assert!(run.look_for(35, &seen([false, true, false], State::Committed)).is_empty());
    assert!(run.look_for(60, &seen([true; 3], State::Committed)).is_empty());
    // It was not heard for a moment.
    assert!(run.look_for(8, &seen([false, true, true], State::Committed)).is_empty());
    assert!(run.look_for(60, &seen([true; 3], State::Committed)).is_empty());
    let row = |run: &Run| run.rows.values().next().unwrap().row.back;
    assert_eq!(row(&run), None);
    assert_eq!(run.look_for(20, &seen([true; 3], State::Reverted)), [Kind::RolloutRolledBack]);
    assert!(row(&run).is_some());
}

#[test]
fn what_was_stopped_before_it_began_does_not_come_back() {
    let mut run = Run::begun();
    let mut never = standing(1, 0, Some(State::Reverted));
    never.cause = Some(Cause::Fleet);
    never.note = NEVER_STARTED.to_owned();
    let aborted = report(RolloutPhase::Aborted, 0, vec![never]);
    assert_eq!(run.look_for(20, &one(aborted)), [Kind::RolloutStarted, Kind::RolloutAborted]);
    let row = &run.rows.values().next().unwrap().row;
    assert_eq!((row.began, row.back), (false, None));
}

#[test]
fn of_very_many_hosts_one_event_tells() {
    let mut run = Run::begun();
    let hosts: Vec<_> = (1..=30).map(|number| failed(number, 0)).collect();
    let halted = report(RolloutPhase::Running, 1, hosts);
    let told = run.look_for(5, &one(halted));
    assert_eq!(told, [Kind::RolloutStarted, Kind::WaveOpened, Kind::HostFailed]);
    let text = run.text();
    assert!(text.starts_with("web 1.4.0 to production: failed on 30 hosts: n1, n2, "), "{text}");
    assert!(text.ends_with(", n20 and 10 more"), "{text}");
    assert_eq!(run.events.last().unwrap().detail["number"], 30);
}

#[test]
fn what_ended_without_anybody_is_told_once_no_proof_has_come() {
    let past = |phase| Seen { newest: false, ..seen(three(phase, 1, BAKES)) };
    let mut run = Run::begun();
    run.look(&sight(vec![past(RolloutPhase::Running)]));
    assert!(run.look_for(9, &sight(vec![past(RolloutPhase::Superseded)])).is_empty());
    // It had been complete: the proof took a while.
    assert_eq!(run.look(&sight(vec![past(RolloutPhase::Complete)])), [Kind::RolloutComplete]);
    assert!(run.memory.followed().next().is_none(), "nothing can change any more");

    let mut run = Run::begun();
    run.look(&sight(vec![past(RolloutPhase::Running)]));
    let told = run.look_for(11, &sight(vec![past(RolloutPhase::Superseded)]));
    assert_eq!(told, [Kind::RolloutSuperseded]);
    let kept = |run: &Run| run.rows.values().next().unwrap().clone();
    assert!(kept(&run).open && kept(&run).row.outcome == Some(Outcome::Superseded));
    let mut late = run;
    let past = |phase| sight(vec![past(phase)]);
    let mut run = Run::begun();
    run.look(&past(RolloutPhase::Running));
    assert_eq!(run.look_for(590, &past(RolloutPhase::Superseded)), [Kind::RolloutSuperseded]);
    assert!(run.look_for(30, &past(RolloutPhase::Superseded)).is_empty());
    assert!(!kept(&run).open && run.look_for(9, &past(RolloutPhase::Complete)).is_empty());
    // A host that was cut off has brought the proof.
    late.look_for(500, &past(RolloutPhase::Superseded));
    assert_eq!(late.look(&past(RolloutPhase::Complete)), [Kind::RolloutComplete]);
    assert!(!kept(&late).open && kept(&late).row.outcome == Some(Outcome::Complete));

    let mut run = Run::begun();
    run.look(&one(three(RolloutPhase::Running, 1, BAKES)));
    let why = "held: the root has expired, nothing new starts".to_owned();
    let expired = one(RolloutReport { why, ..three(RolloutPhase::Expired, 1, BAKES) });
    assert_eq!(run.look_for(30, &expired), [Kind::RolloutExpired]);
    assert_eq!(
        run.text(),
        "web 1.4.0 to production: expired: the root has expired, nothing new starts"
    );
    assert_eq!(run.rows.values().next().unwrap().row.outcome, Some(Outcome::Expired));
    // It had ended before another one took over, or somebody paused it.
    for phase in [RolloutPhase::Superseded, RolloutPhase::Paused] {
        assert!(run.look_for(30, &one(three(phase, 1, BAKES))).is_empty(), "{phase:?}");
        assert_eq!(run.rows.values().next().unwrap().row.outcome, Some(Outcome::Expired));
    }
    // The next root was signed.
    let goes = one(three(RolloutPhase::Running, 1, BAKES));
    assert_eq!(run.look_for(30, &goes), [Kind::RolloutMoves]);
    let row = &run.rows.values().next().unwrap().row;
    assert_eq!((row.outcome, row.ended), (None, None));
}

#[test]
fn what_never_had_its_signatures_comes_to_its_end() {
    let pending = || three(RolloutPhase::Pending, 0, NONE);
    let mut run = Run::begun();
    run.look(&one(pending()));
    assert!(run.look_for(9, &sight(Vec::new())).is_empty());
    assert_eq!(run.look_for(20, &sight(Vec::new())), [Kind::RolloutExpired]);
    assert!(run.look_for(20, &sight(Vec::new())).is_empty());

    let mut run = Run::begun();
    run.look(&one(pending()));
    let mut newer = seen(three(RolloutPhase::Running, 0, NONE));
    newer.report.id = proto::Digest::of(b"newer");
    let told = run.look_for(20, &sight(vec![newer]));
    assert_eq!(told, [Kind::RolloutStarted, Kind::RolloutSuperseded]);
    assert_eq!(
        run.text(),
        "web 1.4.0 to production: a newer rollout took over while it waited for signatures"
    );

    let mut run = Run::begun();
    run.now.unix = BEGAN.plus_s(86_400);
    assert_eq!(run.look_for(20, &one(pending())), [Kind::RolloutExpired], "it was too late before");
}

#[test]
fn a_chronicle_that_begins_does_not_tell_history() {
    let old = |phase, open, states| RolloutReport {
        created: UnixTime(BEGAN.0 - 90 * 86_400),
        ended: (phase == RolloutPhase::Complete).then_some(UnixTime(BEGAN.0 - 89 * 86_400)),
        ..three(phase, open, states)
    };
    let mut run = Run::new();
    assert!(run.look_for(90, &one(old(RolloutPhase::Complete, 2, ALL))).is_empty());
    let row = &run.rows.values().next().unwrap().row;
    assert_eq!(
        (row.outcome, row.ended),
        (Some(Outcome::Complete), Some(UnixTime(BEGAN.0 - 89 * 86_400)))
    );
    assert!(run.memory.moving().next().is_none() && run.memory.followed().next().is_some());
    assert!(run.look_for(30, &sight(Vec::new())).is_empty(), "not every look tells of it");
    // One that is taken back later is news.
    let aborted = one(old(RolloutPhase::Aborted, 2, ALL));
    assert_eq!(run.look(&aborted), [Kind::RolloutAborted]);

    // One that goes on: what is known of it comes in first, and then each step is told.
    let mut run = Run::new();
    assert!(run.look_for(10, &one(old(RolloutPhase::Running, 0, NONE))).is_empty());
    assert!(run.look_for(70, &one(old(RolloutPhase::Running, 1, BAKES))).is_empty());
    let told = run.look_for(1, &one(old(RolloutPhase::Running, 2, ALL)));
    assert_eq!(told, [Kind::WaveOpened]);
    // One that waits is no history.
    let mut run = Run::new();
    assert_eq!(run.look(&one(old(RolloutPhase::Pending, 0, NONE))), [Kind::ApprovalWanted]);

    // Later, what is old and was not known, as after the loss of the database, is not told either.
    let mut run = Run::begun();
    run.look_for(90, &sight(Vec::new()));
    let past = Seen { newest: false, ..seen(old(RolloutPhase::Superseded, 1, BAKES)) };
    assert!(run.look_for(120, &sight(vec![past])).is_empty());
    assert_eq!(run.rows.values().next().unwrap().row.outcome, Some(Outcome::Superseded));
}

#[test]
fn what_happened_while_nobody_looked_is_told_late_with_the_time_it_was_seen() {
    let mut run = Run::begun();
    run.restart();
    run.now.unix = BEGAN.plus_s(3_600);
    let ended = Some(BEGAN.plus_s(700));
    let done = RolloutReport { ended, ..three(RolloutPhase::Complete, 2, ALL) };
    let told = run.look_for(20, &one(done));
    assert_eq!(
        told,
        [Kind::RolloutStarted, Kind::WaveOpened, Kind::WaveOpened, Kind::RolloutComplete]
    );
    assert!(run.events.iter().all(|event| event.at == BEGAN.plus_s(3_600)));
    assert_eq!(run.rows.values().next().unwrap().row.ended, ended);
}

#[test]
fn r8_when_it_ended_is_a_time_of_this_clock() {
    let ended = |phase, said: u64| {
        let mut run = Run::begun();
        run.look_for(30, &one(three(RolloutPhase::Running, 1, BAKES)));
        let report = RolloutReport { ended: Some(BEGAN.plus_s(said)), ..three(phase, 1, BAKES) };
        run.look_for(20, &one(report.clone()));
        let first = run.rows.values().next().unwrap().row.ended;
        // Nor does it change, as where the file of a proof was written anew.
        let again = RolloutReport { ended: Some(BEGAN.plus_s(said + 7)), ..report };
        run.restart();
        run.look_for(90, &one(again));
        assert_eq!(run.rows.values().next().unwrap().row.ended, first);
        first.unwrap().0 - BEGAN.0
    };
    for phase in [RolloutPhase::Aborted, RolloutPhase::Halted, RolloutPhase::Complete] {
        assert_eq!(ended(phase, 9_000), 30, "{phase:?}: after it was seen");
    }
    assert_eq!(ended(RolloutPhase::Aborted, 10), 30, "whoever signed it says when");
    assert_eq!(ended(RolloutPhase::Complete, 10), 10, "when the proof came");
}

#[test]
fn what_stands_still_until_a_known_time_waits_and_is_not_held() {
    let goes = || three(RolloutPhase::Running, 1, BAKES);
    let still = |until: Option<u64>| {
        let why = match until {
            Some(_) => "held: outside its windows, the next one opens at 08:00".to_owned(),
            None => "held: 1 of waves up to 1 not heard".to_owned(),
        };
        let held_until = until.map(UnixTime);
        one(RolloutReport { held: true, held_until, why, ..goes() })
    };
    let mut run = Run::begun();
    run.look_for(20, &one(goes()));
    assert_eq!(run.look_for(20, &still(Some(7))), [Kind::RolloutWaits]);
    assert_eq!(
        run.text(),
        "web 1.4.0 to production: waits: outside its windows, the next one opens at 08:00"
    );
    assert_eq!(run.events.last().unwrap().detail["held_until"], 7);
    run.restart();
    assert!(run.look_for(20, &still(Some(8))).is_empty());
    assert_eq!(run.look_for(20, &one(goes())), [Kind::RolloutMoves]);
    run.look_for(20, &still(Some(7)));
    assert_eq!(run.look_for(20, &still(None)), [Kind::RolloutHeld], "the window is open, and yet");
    let paused = one(RolloutReport { held: true, ..three(RolloutPhase::Paused, 1, BAKES) });
    assert_eq!(run.look(&paused), [Kind::RolloutPaused]);
    assert!(run.look(&still(Some(7))).is_empty());
    assert_eq!(run.look_for(20, &still(Some(7))), [Kind::RolloutWaits]);
}

#[test]
fn a_rollout_that_is_not_of_the_line_any_more_comes_to_an_end() {
    let mut run = Run::begun();
    run.look_for(20, &one(three(RolloutPhase::Running, 1, BAKES)));
    assert!(run.look_for(9, &sight(Vec::new())).is_empty());
    assert_eq!(run.look_for(20, &sight(Vec::new())), [Kind::RolloutExpired]);
    assert_eq!(run.text(), "web 1.4.0 to production: it is not known here any more");
    let kept = run.rows.values().next().unwrap();
    assert!(!kept.open && kept.row.outcome == Some(Outcome::Expired));
    assert!(run.look_for(20, &sight(Vec::new())).is_empty());
}

#[test]
fn r8_a_rollout_of_somebody_whose_clock_is_behind_is_no_history() {
    let signed = |ago_s: u64| RolloutReport {
        created: UnixTime(BEGAN.0 - ago_s),
        ..three(RolloutPhase::Running, 1, BAKES)
    };
    let mut run = Run::new();
    run.look_for(70, &sight(Vec::new()));
    let told = run.look(&one(signed(3_600)));
    assert_eq!(told, [Kind::RolloutStarted, Kind::WaveOpened]);
    // What is there at first is: nobody knows for how long it has been.
    let mut run = Run::new();
    assert!(run.look_for(20, &one(signed(3_600))).is_empty());
}

/// What was kept before there was anything else to remember.
#[test]
fn the_memory_of_a_version_before_is_read() {
    let mut run = Run::begun();
    run.look_for(20, &one(three(RolloutPhase::Running, 1, BAKES)));
    run.fleet = Some(format!("{{\"since\":{}}}", BEGAN.0));
    for kept in run.rows.values_mut() {
        kept.memory = "{\"stance\":\"going\",\"loud\":true,\"started\":true}".to_owned();
    }
    run.restart();
    assert!(run.look_for(20, &one(three(RolloutPhase::Running, 0, BAKES))).is_empty());
}

#[test]
fn a_row_learns_what_its_release_was_built_from() {
    let mut run = Run::begun();
    let goes = || seen(three(RolloutPhase::Running, 1, BAKES));
    run.look(&sight(vec![goes()]));
    let source = Source {
        commit: Some("3f2a".to_owned()),
        branch: Some("main".to_owned()),
        commit_time: Some(UnixTime(7)),
    };
    run.look(&sight(vec![Seen { source, ..goes() }]));
    let row = &run.rows.values().next().unwrap().row;
    assert_eq!((row.commit.as_deref(), row.commit_time), (Some("3f2a"), Some(UnixTime(7))));
}

#[test]
fn samples_count_requests_by_the_release_that_serves() {
    let mut run = Run::begun();
    let mut goes = three(RolloutPhase::Running, 1, BAKES);
    for (host, bad) in goes.hosts.iter_mut().zip([5, 1, 2]) {
        host.counted = Some(CountedReport { bad, requests: 100 });
    }
    let latency = LatencyReport { new_p99_ms: Some(250), control_p99_ms: Some(100) };
    goes.latency = Some(latency);
    run.look(&one(goes));
    let sample = run.rows.values().next().unwrap().sample.clone().unwrap();
    assert_eq!(sample.sampled.new, Some(CountedReport { bad: 5, requests: 100 }));
    assert_eq!(sample.sampled.control, Some(CountedReport { bad: 3, requests: 200 }));
    assert_eq!(sample.sampled.latency, latency);
    // While hosts go back there are more of them, and none once they are.
    let mut back = Run::begun();
    let halted = |state| one(three(RolloutPhase::Halted, 1, [Some(state), None, None]));
    back.look_for(9, &halted(State::Baking));
    let last = |run: &Run| run.rows.values().next().unwrap().sample.as_ref().map(|one| one.n);
    let before = last(&back);
    back.look_for(9, &halted(State::Activating));
    assert!(last(&back) > before, "{before:?}");
    // One that has ended leaves no more of them.
    run.look_for(3, &one(three(RolloutPhase::Complete, 2, ALL)));
    let last = run.rows.values().next().unwrap().sample.clone();
    assert_eq!(last.map(|sample| sample.sampled.counts.committed), Some(3));
    assert!(run.look_for(90, &one(three(RolloutPhase::Complete, 2, ALL))).is_empty());
    assert_eq!(run.rows.values().next().unwrap().sample.as_ref().map(|sample| sample.n), Some(1));
}
