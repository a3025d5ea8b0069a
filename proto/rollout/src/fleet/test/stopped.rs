//! What becomes of a rollout that was stopped, and of hosts that could not go back; how long it bakes before.

use proto::report::{BackState, BakeReport};

use super::*;

fn report(world: &World, rollout: &Digest) -> proto::report::RolloutReport {
    world.look(|outlook| outlook.rollout_report(rollout)).unwrap()
}

/// Hosts that have not been in it are not back, and whoever serves something else is named.
#[test]
fn r17_who_did_not_take_part_is_not_back_and_who_serves_something_else_is_named() {
    let mut world = World::new(0);
    let [one, two, three] = ["1", "2", "3"].map(|version| world.release(version));
    let first = world.deploy(None, &one);
    world.complete(first);
    // Host 3 was held then, and serves what was there before.
    let second = world.deploy_to(1..=2, Some(&one), &two);
    for host in 1..=2 {
        world.observe();
        world.receipt(host, 0, second, State::Committed);
    }
    world.observe();
    let third = world.deploy(Some(&two), &three);
    world.observe();
    world.receipt(1, 0, third, State::Committed);
    world.receipt(3, 0, third, State::Staged);
    world.observe();
    world.direct(third, 1, Action::Abort);
    let going = report(&world, &third);
    assert_eq!(going.back.as_ref().map(|back| back.state), Some(BackState::GoingBack));
    assert!(!going.is_rolled_back());
    let away = "0 of 1 host that had it are back on 2, 1 goes back; not on 2: host-3 (1)";
    assert!(going.why.ends_with(away), "{}", going.why);
    world.receipt(1, 0, third, State::Reverted);
    world.never_starts(2, third);
    world.never_starts(3, third);
    world.observe();
    let over = report(&world, &third);
    assert!(over.is_rolled_back());
    let words = "halted: 1 failed in waves up to 1, at most 0 may; the host that had it is back on 2; \
                 not on 2: host-3 (1)";
    assert_eq!(over.why, words);
    assert_eq!(over.back.unwrap().elsewhere_found, 1);
    world.members.get_mut(&host_id(3)).unwrap().alive = false;
    assert_eq!(
        report(&world, &third).back.unwrap().elsewhere,
        [],
        "nobody knows about who is silent"
    );
    // Once another one took over, hosts tell of that.
    let four = world.release("4");
    world.deploy(Some(&two), &four);
    world.observe();
    assert!(report(&world, &third).is_rolled_back());
}

/// By its own word: the rollout that mended it may have had it in no cohort, and what was proven before says
/// nothing of what came later.
#[test]
fn a_host_that_could_not_go_back_is_well_once_it_says_so() {
    let (mut world, [_, two], [_, second]) = fleet_of_two_releases();
    let stuck = 2;
    let well = |world: &mut World| {
        world.observe();
        world.look(|outlook| outlook.is_well(&host_id(3), &scope(), stuck))
    };
    assert!(!well(&mut world), "what it says of the rollout before is older");
    world.receipt(3, 0, second, State::RevertFailed);
    assert!(!well(&mut world));
    // A member that begins anew has the proof of the first rollout before it hears of anybody.
    let said = world.members.get_mut(&host_id(3)).unwrap().values.remove(&receipt_key(0));
    world.observer = Observer::default();
    assert!(!well(&mut world), "it was not heard yet");
    world.says(3, receipt_key(0), said.unwrap());
    assert!(!well(&mut world));
    let three = world.release("3");
    let third = world.deploy_to(1..=2, Some(&two), &three);
    for (state, expected) in [
        (State::Pending, false),
        (State::Activating, false),
        (State::Baking, false),
        (State::Committed, true),
        (State::RevertFailed, false),
        (State::Reverted, true),
    ] {
        world.receipt(3, 0, third, state);
        assert_eq!(well(&mut world), expected, "{state:?}");
    }
    world.never_starts(3, third);
    assert!(!well(&mut world), "that a rollout did not come to it mends nothing");
    world.says_it_serves(3, &two, true);
    assert!(well(&mut world), "but it serves again");
}

/// By the member's own clock, without pauses; not where it has not seen the bake begin.
#[test]
fn a_bake_is_known_to_who_saw_it_begin() {
    let mut world = World::new(0);
    world.bake_s = 60;
    let one = world.release("1");
    let first = world.deploy(None, &one);
    world.observe();
    let bakes = |world: &mut World, after_ms: u64| {
        world.now_ms += after_ms;
        world.clock = world.clock.plus_s(after_ms / 1_000);
        world.observe();
        report(world, &first).waves[0].bake
    };
    let left = |world: &World, left_s: u32| {
        Some(BakeReport { left_s, until: Some(world.clock.plus_s(left_s.into())) })
    };
    world.receipt(1, 0, first, State::Baking);
    assert_eq!(bakes(&mut world, 1_000), None, "it may have baked for long");
    world.observer = Observer::default();
    world.receipt(1, 0, first, State::Activating);
    assert_eq!(bakes(&mut world, 1_000), None);
    world.receipt(1, 0, first, State::Baking);
    assert_eq!(bakes(&mut world, 1_000), left(&world, 60));
    assert_eq!(bakes(&mut world, 10_000), left(&world, 50));
    world.direct(first, 1, Action::Pause);
    assert_eq!(bakes(&mut world, 30_000), Some(BakeReport { left_s: 50, until: None }));
    world.direct(first, 2, Action::Resume);
    assert_eq!(bakes(&mut world, 10_000), left(&world, 40));
    assert_eq!(bakes(&mut world, 40_000), None, "it is over");
}
