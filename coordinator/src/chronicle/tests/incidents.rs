//! What was told opens incidents, and what is told later ends every one of them.

use std::collections::BTreeSet;

use proto::Digest;
use proto::receipt::State;
use proto::report::{RolloutPhase, RolloutReport, StandingReport};

use super::{
    Presence, Run, Seen, Sight, failed, host_id, one, present, report, scope, seen, sight,
    standing, three,
};
use crate::chronicle::Relief;
use crate::events::Kind;
use crate::notify::incident::Incident;

/// The incidents that are open after all that was told, by the last two parts of their keys.
fn open(run: &Run) -> Vec<String> {
    let fleet = "shop-0123abcd".parse().unwrap();
    let mut open = BTreeSet::new();
    for event in &run.events {
        if let Some(incident) = Incident::opened_by(event.kind) {
            open.extend(incident.keys(&fleet, event));
        }
        for incident in Incident::closed_by(event.kind, Kind::ALL) {
            incident.keys(&fleet, event).iter().for_each(|key| _ = open.remove(key));
        }
    }
    let short = |key: &String| key.rsplitn(3, '/').take(2).collect::<Vec<_>>().join(" of ");
    open.iter().map(short).collect()
}

fn committed(number: u32) -> StandingReport {
    standing(number, 0, Some(State::Committed))
}

/// A newer rollout than the usual one, that is complete on these hosts.
fn fixed(hosts: Vec<StandingReport>) -> Seen {
    let done = report(RolloutPhase::Complete, 1, hosts);
    seen(RolloutReport { id: Digest::of(b"two"), epoch: 5, ..done })
}

#[test]
fn a_halt_is_over_when_any_rollout_there_is_complete() {
    let mut run = Run::begun();
    let halted = report(RolloutPhase::Halted, 1, vec![failed(1, 0), committed(2)]);
    run.look_for(20, &one(halted.clone()));
    assert_eq!(open(&run), ["failed of production", "halted of production"]);
    // The way forward was quicker than the way back.
    let old = Seen { newest: false, ..seen(halted) };
    run.look_for(20, &sight(vec![old, fixed(vec![committed(1), committed(2)])]));
    assert_eq!(open(&run), [""; 0]);
}

/// Two hosts that could not go back, and nobody else with them.
fn stuck() -> Sight {
    let stuck = |number| StandingReport { state: Some(State::RevertFailed), ..failed(number, 0) };
    let halted = report(RolloutPhase::Halted, 1, vec![stuck(1), stuck(2), committed(3)]);
    let hosts = (1..=3).map(|number| present(number, true)).collect();
    Sight { hosts, ..one(halted) }
}

/// What else it opens.
fn halted() -> Vec<String> {
    ["failed of production", "halted of production"].map(str::to_owned).to_vec()
}

fn relieved(relief: Relief, hosts: &[u32]) -> Sight {
    let relieved = hosts.iter().map(|number| ((host_id(*number), scope()), relief));
    Sight { relieved: relieved.collect(), ..stuck() }
}

/// What counts is its own word: that another rollout is complete is none, and one that follows in the lane
/// is in no cohort.
#[test]
fn a_stuck_host_is_so_until_it_is_well_by_its_own_word() {
    let mut run = Run::begun();
    run.look_for(20, &stuck());
    let next = || sight(vec![fixed(vec![committed(3)])]);
    run.look_for(20, &next());
    assert_eq!(open(&run), ["stuck of production"], "it did not take them in");
    run.look_for(20, &relieved(Relief::Well, &[1]));
    assert_eq!(open(&run), ["stuck of production"], "not both of them");
    run.restart();
    run.look_for(50, &relieved(Relief::Well, &[1, 2]));
    assert_eq!(open(&run), ["stuck of production"], "what is heard first may be old");
    run.look_for(20, &stuck());
    assert_eq!(open(&run), ["stuck of production"], "and it was");
    assert_eq!(run.look(&relieved(Relief::Well, &[2])), [Kind::HostsMended]);
    let text = "web in production: no host is stuck there any more, n2 was the last";
    assert_eq!((open(&run), run.text()), (vec![], text));
    run.restart();
    assert!(run.look_for(70, &relieved(Relief::Well, &[1, 2])).is_empty(), "once");
}

#[test]
fn nobody_is_called_for_a_stuck_host_that_was_skipped_or_removed() {
    let mut run = Run::begun();
    run.look_for(20, &stuck());
    run.restart();
    let gone = |relief: Option<Relief>| {
        let mut sight = relief.map_or_else(stuck, |relief| relieved(relief, &[1]));
        sight.hosts[1].removed = true;
        sight
    };
    assert_eq!(run.look_for(70, &gone(None)), [Kind::HostRemoved], "the other one is left");
    assert_eq!(run.look(&gone(Some(Relief::Skipped))), [Kind::HostsMended]);
    let text = "web in production: nobody waits for a stuck host there any more: n1, the last, was skipped";
    assert_eq!((open(&run), run.text()), (halted(), text));
}

/// What a version before has kept of them is read.
#[test]
fn a_host_that_was_stuck_before_an_upgrade_is_so_after_it() {
    let mut run = Run::begun();
    run.look_for(20, &stuck());
    let mut kept: serde_json::Value = serde_json::from_str(run.fleet.as_ref().unwrap()).unwrap();
    for host in [1, 2] {
        let services = &mut kept["stuck"][host_id(host).as_str()];
        assert_eq!(services["web"]["env"], "production");
        services["web"] = "production".into();
    }
    run.fleet = Some(kept.to_string());
    run.restart();
    run.look_for(70, &relieved(Relief::Well, &[1, 2]));
    assert_eq!(open(&run), halted());
}

fn fleet(hosts: impl IntoIterator<Item = Presence>) -> Sight {
    Sight { hosts: hosts.into_iter().collect(), ..sight(Vec::new()) }
}

#[test]
fn hosts_that_were_lost_a_few_at_a_time_and_are_back_at_once_are_not_lost_any_more() {
    let mut run = Run::begun();
    let seen = |lost| fleet((1..=25).map(move |number| present(number, number > lost)));
    for lost in [0, 15, 25] {
        run.look_for(70, &seen(lost));
    }
    assert_eq!(open(&run).len(), 25);
    run.restart();
    assert_eq!(run.look_for(20, &seen(0)), [Kind::HostBack]);
    assert_eq!(open(&run), [""; 0]);
}

#[test]
fn hosts_that_were_lost_at_once_are_one_incident_until_the_last_is_back_or_removed() {
    let mut run = Run::begun();
    let seen = |back: u32, removed: u32| {
        fleet((1..=25).map(move |number| Presence {
            removed: number > 25 - removed,
            ..present(number, number <= back)
        }))
    };
    run.look_for(70, &seen(25, 0));
    run.look_for(20, &seen(0, 0));
    assert_eq!(open(&run).len(), 1);
    run.restart();
    run.look_for(70, &seen(10, 0));
    run.look_for(20, &seen(23, 0));
    assert_eq!(open(&run).len(), 1);
    run.look_for(20, &seen(23, 2));
    assert_eq!(open(&run), [""; 0]);
}

#[test]
fn who_removes_a_lost_host_has_found_it() {
    let mut run = Run::begun();
    run.look_for(70, &fleet([present(1, true)]));
    run.look_for(20, &fleet([present(1, false)]));
    assert_eq!(open(&run), [format!("lost of {}", host_id(1))]);
    run.look(&fleet([Presence { removed: true, ..present(1, false) }]));
    assert_eq!(open(&run), [""; 0]);
}

#[test]
fn what_held_it_is_over_when_a_person_pauses_it_and_what_had_expired_moves() {
    const BAKES: [Option<State>; 3] = [Some(State::Baking), None, None];
    let goes = || three(RolloutPhase::Running, 1, BAKES);
    let mut run = Run::begun();
    run.look_for(20, &one(goes()));
    run.look_for(20, &one(RolloutReport { held: true, ..goes() }));
    assert_eq!(open(&run).len(), 1);
    run.look_for(20, &one(three(RolloutPhase::Paused, 1, BAKES)));
    run.look_for(20, &one(goes()));
    assert_eq!(open(&run), [""; 0]);
    run.look_for(20, &one(three(RolloutPhase::Expired, 1, BAKES)));
    assert_eq!(open(&run), ["expired of production"]);
    run.look_for(20, &one(goes()));
    assert_eq!(open(&run), [""; 0]);
}
