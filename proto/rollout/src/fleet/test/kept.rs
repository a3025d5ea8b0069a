//! What keeps hosts and versions out: freezes, holds, skips, removals, stops.

use proto::record::DriftRecord;
use proto::report::{DriftReport, FreezeReport, RemovalReport};
use proto::statement::{Freeze, Revocation};

use super::*;

/// Signs a freeze of the environment or a hold of one host.
fn sign(world: &mut World, host: Option<u8>, (sequence, lasts_s): (u64, u64), seed: u8) {
    let freeze = Freeze {
        fleet: "test".parse().unwrap(),
        env: scope().env,
        host: host.map(host_id),
        sequence,
        until: NOW.plus_s(lasts_s),
        author: KeyId::of(&public(seed)),
        created: NOW,
        reason: "audit".to_owned(),
        critical: Vec::new(),
    };
    world.learn(freeze.envelope(), &[seed]);
}

/// What is told as in force: of whom, until when, by whom, and why.
fn in_force(world: &World) -> Vec<(Option<HostId>, UnixTime, Name, String)> {
    let freezes = world.report().freezes.into_iter().filter(|freeze| freeze.in_force);
    let told = |freeze: FreezeReport| (freeze.host, freeze.until, freeze.by, freeze.reason);
    freezes.map(told).collect()
}

#[test]
fn freezes_and_holds_are_told_with_what_counts_of_them() {
    let (mut world, _, _) = fleet_of_two_releases();
    let audit = || "audit".to_owned();
    sign(&mut world, None, (1, 60), ADA);
    assert_eq!(in_force(&world), [(None, NOW.plus_s(60), name("ada"), audit())]);
    // Of two sides the one that ends last counts; both are told, so that the next one is signed over
    // both.
    sign(&mut world, None, (2, 90), ADMIT);
    sign(&mut world, Some(2), (1, 30), ADA);
    let held = (Some(host_id(2)), NOW.plus_s(30), name("ada"), audit());
    let frozen = (None, NOW.plus_s(90), name("coordinator"), audit());
    assert_eq!(in_force(&world), [frozen, held]);
    let report = world.report();
    assert_eq!(report.freezes.len(), 3);
    let holds: Vec<_> = report.hosts.iter().map(|host| host.held.is_some()).collect();
    assert_eq!(holds, [false, true, false]);
    let facts = world.look(|outlook| outlook.scope_facts(&scope()));
    assert_eq!(facts.freezes.len(), 2, "what is in force");
    let elsewhere = Scope { env: "void".parse().unwrap(), ..scope() };
    assert_eq!(world.look(|outlook| outlook.scope_facts(&elsewhere)).freezes, []);
    // Lifted by people: the coordinator's does not count any more either.
    sign(&mut world, None, (2, 0), ADA);
    sign(&mut world, Some(2), (2, 0), ADA);
    assert_eq!(in_force(&world), []);
    assert!(world.report().hosts.iter().all(|host| host.held.is_none()));
}

/// R23: the fleet plans without a host whose `agent.toml` does not allow the service, and says so; an
/// agent that does not tell what it allows runs every one.
#[test]
fn r23_a_host_that_does_not_allow_the_service_is_left_out_and_told_as_such() {
    use Fitness::{Fit, NotAllowed, RevertFailed, Silent};
    let (mut world, _, [_, second]) = fleet_of_two_releases();
    let fitness = |world: &mut World| {
        world.observe();
        let facts = world.look(|outlook| outlook.scope_facts(&scope()));
        facts.hosts.iter().map(|host| host.fitness).collect::<Vec<_>>()
    };
    let told = |world: &World| {
        let host = world.report().hosts.remove(1);
        let standing =
            world.look(|outlook| outlook.rollout_report(&second)).unwrap().hosts.remove(1);
        let service = &host.services[0];
        (service.allowed, service.version.as_ref().map(ToString::to_string), standing.is_barred())
    };
    world.allows(1, &["mail", "web"]);
    assert_eq!(fitness(&mut world), [Fit; 3]);
    assert_eq!(told(&world), (true, Some("1".to_owned()), false));

    world.allows(2, &["mail"]);
    assert_eq!(fitness(&mut world), [Fit, NotAllowed, Fit]);
    assert_eq!(told(&world), (false, Some("1".to_owned()), true), "it is there, and left alone");
    // Removed by hand, and the agent started anew: what it said before is no longer so.
    world.members.get_mut(&host_id(2)).unwrap().values.remove(&receipt_key(0));
    assert_eq!((fitness(&mut world)[1], told(&world)), (NotAllowed, (false, None, true)));

    world.receipt(2, 0, second, State::RevertFailed);
    assert_eq!(fitness(&mut world)[1], NotAllowed, "a rollback finds nobody there either");
    let directions = [Direction::Forward, Direction::Rollback];
    assert!(!directions.into_iter().any(|way| NotAllowed.takes_part(way)));
    assert_eq!(told(&world), (false, None, false));
    world.allows(2, &["web"]);
    assert_eq!(fitness(&mut world)[1], RevertFailed);
    world.allows(2, &[]);
    world.members.get_mut(&host_id(2)).unwrap().alive = false;
    assert_eq!(fitness(&mut world)[1], Silent);
}

/// R8: it had ended before the newest rollout was signed, whatever a clock that lost the time says.
#[test]
fn r8_a_freeze_that_has_ended_is_in_force_by_no_clock() {
    let (mut world, _, _) = fleet_of_two_releases();
    sign(&mut world, None, (1, 1), ADA);
    assert_eq!(in_force(&world).len(), 0, "it ended a second before");
    world.clock = UnixTime(0);
    assert_eq!(in_force(&world).len(), 0);
    sign(&mut world, Some(2), (2, 3), ADA);
    assert_eq!(in_force(&world).len(), 1, "this one has a second left");
}

#[test]
fn who_is_skipped_or_removed_is_told_and_who_is_removed_is_planned_with_no_more() {
    let (mut world, _, [_, second]) = fleet_of_two_releases();
    let skip = Directive {
        fleet: "test".parse().unwrap(),
        rollout: second,
        sequence: 1,
        action: Action::Skip,
        wave: None,
        host: Some(host_id(1)),
        author: KeyId::of(&public(ADA)),
        created: NOW,
        reason: String::new(),
        critical: Vec::new(),
    };
    world.learn(skip.envelope(), &[ADA]);
    let removal = Revocation {
        fleet: "test".parse().unwrap(),
        env: scope().env,
        host: host_id(3),
        author: KeyId::of(&public(ADA)),
        created: NOW,
        reason: "sold".to_owned(),
        critical: Vec::new(),
    };
    let id = removal.envelope().id();
    world.learn(removal.envelope(), &[ADA]);
    let skipped = |host| world.look(|outlook| outlook.skipped_in(&host_id(host), &scope()));
    assert_eq!([1, 2, 3].map(skipped), [Some(2), None, None], "who was removed is told apart");
    let report = world.report();
    let skips: BTreeSet<_> = report.skips.iter().map(|skip| (skip.rollout, &skip.host)).collect();
    assert_eq!(skips, [(second, &host_id(1)), (second, &host_id(3))].into());
    let removed: Vec<_> = report.hosts.iter().map(|host| host.removed.clone()).collect();
    let told = RemovalReport {
        statement: Some(id),
        by: name("ada"),
        created: NOW,
        reason: "sold".to_owned(),
    };
    assert_eq!(removed, [None, None, Some(told)]);
    let facts = world.look(|outlook| outlook.scope_facts(&scope()));
    let hosts: Vec<_> = facts.hosts.into_iter().map(|host| host.envelope).collect();
    let statement = |host| host_id(host).as_str().as_bytes().to_vec();
    assert_eq!(hosts, [statement(1), statement(2)]);
}

#[test]
fn r17_a_scope_tells_what_was_stopped_in_it() {
    let (mut world, [one, two], [first, second]) = fleet_of_two_releases();
    let stopped = |world: &World| world.look(|outlook| outlook.scope_facts(&scope())).stopped;
    assert_eq!(stopped(&world), []);
    world.direct(second, 1, Action::Abort);
    assert_eq!(stopped(&world), [(second, two.release)]);
    // What came after does not make it good; a rollback that is stopped makes nothing bad.
    let three = world.release("3");
    let third = world.deploy(Some(&one), &three);
    let rollback = Rollout {
        epoch: 4,
        previous: Some(third),
        from: Some(three),
        to: one.clone(),
        direction: Direction::Rollback,
        ..world.chain.rollout(&third).unwrap().clone()
    };
    let back = world.learn(rollback.envelope(), &[ADA]);
    world.direct(back, 1, Action::Abort);
    world.direct(first, 1, Action::Abort);
    assert_eq!(stopped(&world), [(second, two.release), (first, one.release)]);
}

#[test]
fn r25_a_host_that_serves_something_else_than_was_released_is_told_with_its_service() {
    let (mut world, [_, two], [_, id]) = fleet_of_two_releases();
    world.receipt(1, 0, id, State::Committed);
    let drifts = |world: &mut World| {
        let report = world.report();
        let of_host = report.hosts.iter().flat_map(|host| host.services.clone());
        let of_rollout = world.look(|outlook| outlook.rollout_report(&id)).unwrap().hosts;
        let told = of_rollout.into_iter().filter_map(|standing| standing.drift);
        (of_host.filter_map(|service| service.drift).collect::<Vec<_>>(), told.collect::<Vec<_>>())
    };
    assert_eq!(drifts(&mut world), (vec![], vec![]));
    let mut said = DriftRecord {
        service: scope().service,
        release: two.release,
        serves: true,
        found: 2,
        first: "'bin/web' was edited".to_owned(),
    };
    world.says(1, record::drift_key(3), to_text(&said));
    let DriftRecord { release, found, first, .. } = said.clone();
    let told = DriftReport { release, found, first };
    assert_eq!(drifts(&mut world), (vec![told.clone()], vec![told]));
    said.found = 0;
    world.says(1, record::drift_key(3), to_text(&said));
    assert_eq!(drifts(&mut world), (vec![], vec![]), "it was put right");
    let other = DriftRecord { service: "other".parse().unwrap(), found: 1, ..said };
    world.says(1, record::drift_key(4), to_text(&other));
    assert_eq!(drifts(&mut world), (vec![], vec![]), "of another service");
}
