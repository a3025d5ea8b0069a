//! What each host serves, by what it said.

use proto::receipt::Cause;
use proto::record::{DriftRecord, drift_key};

use super::*;
use crate::host::NEVER_STARTED;

/// The version that a host serves, its state, and the version of the rollout that it is of.
fn told(world: &mut World, host: u8) -> (Option<String>, State, Option<String>) {
    world.observe();
    let report = world.report();
    let host = report.hosts.iter().find(|one| one.id == host_id(host)).unwrap();
    let service = &host.services[0];
    let text = |version: &Option<proto::Version>| version.as_ref().map(ToString::to_string);
    (text(&service.version), service.state, text(&service.to))
}

fn version(text: &str) -> Option<String> {
    Some(text.to_owned())
}

impl World {
    /// The rollout was stopped before this host had begun.
    pub(super) fn never_starts(&mut self, host: u8, rollout: Digest) {
        let never = Receipt {
            rollout,
            host: host_id(host),
            sequence: 9,
            attempt: 0,
            state: State::Reverted,
            cause: Some(Cause::Fleet),
            note: NEVER_STARTED.to_owned(),
        };
        self.says(host, receipt_key(0), never.sign(&key(host)).to_text());
    }

    /// Its agent says that this release serves there; or that a step is under way, or nothing serves.
    pub(super) fn says_it_serves(&mut self, host: u8, target: &Target, serves: bool) {
        let (service, release) = (scope().service, target.release);
        let said = DriftRecord { service, release, serves, found: 0, first: String::new() };
        self.says(host, drift_key(0), to_text(&said));
    }
}

/// One that could not go back is in no cohort until it is mended: it catches up with the next rollout, and
/// what it says of that counts in nobody's report and is gone with the rollout after it.
#[test]
fn a_host_that_caught_up_in_no_cohort_serves_what_it_says() {
    let (mut world, [_, two], [_, second]) = fleet_of_two_releases();
    world.receipt(3, 0, second, State::RevertFailed);
    world.observe();
    let three = world.release("3");
    let third = world.deploy_to(1..=2, Some(&two), &three);
    world.receipt(3, 0, third, State::Committed);
    assert_eq!(told(&mut world, 3), (version("3"), State::Committed, version("3")));
    let four = world.release("4");
    let fourth = world.deploy(Some(&three), &four);
    world.direct(fourth, 1, Action::Abort);
    world.never_starts(3, fourth);
    let stands = |version| (version, State::Reverted, Some("4".to_owned()));
    assert_eq!(told(&mut world, 3), stands(None), "its agent is too old to say it");
    world.says_it_serves(3, &three, true);
    assert_eq!(told(&mut world, 3), stands(version("3")));
    world.observer = Observer::default();
    assert_eq!(
        told(&mut world, 3),
        stands(version("3")),
        "nor does a member that begins anew forget it"
    );
    // What one has begun says more than what served before.
    world.says_it_serves(2, &three, true);
    world.receipt(2, 0, fourth, State::Activating);
    assert_eq!(told(&mut world, 2), (None, State::Activating, version("4")));
    world.says_it_serves(3, &three, false);
    world.receipt(3, 1, second, State::RevertFailed);
    assert_eq!(told(&mut world, 3), stands(None), "nothing serves there");
}

#[test]
fn a_host_that_never_started_serves_what_it_served() {
    let (mut world, _, [_, second]) = fleet_of_two_releases();
    world.receipt(1, 0, second, State::Reverted);
    assert_eq!(told(&mut world, 1), (version("1"), State::Reverted, version("2")));
    world.never_starts(2, second);
    assert_eq!(told(&mut world, 2), (version("1"), State::Reverted, version("2")));
    world.receipt(3, 0, second, State::Activating);
    assert_eq!(told(&mut world, 3), (None, State::Activating, version("2")));
}

/// It came to what the others come from in no rollout, and says so in none.
#[test]
fn a_host_that_missed_a_rollout_serves_something_older_than_the_others() {
    let mut world = World::new(0);
    let [one, two, three] = ["1", "2", "3"].map(|version| world.release(version));
    let first = world.deploy(None, &one);
    world.complete(first);
    let second = world.deploy_to(1..=2, Some(&one), &two);
    world.observe();
    world.receipt(1, 0, second, State::Committed);
    world.receipt(2, 0, second, State::Reverted);
    world.observe();
    let third = world.deploy(Some(&two), &three);
    for (host, serves) in [(1, "2"), (2, "1"), (3, "1")] {
        world.receipt(host, 0, third, State::Staged);
        assert_eq!(
            told(&mut world, host),
            (version(serves), State::Staged, version("3")),
            "{host}"
        );
    }
    world.receipt(3, 0, third, State::Baking);
    assert_eq!(told(&mut world, 3), (version("3"), State::Baking, version("3")));
}

/// Gossip may bring what a host says before its statement; what others signed is not its word.
#[test]
fn what_a_host_said_before_it_was_known_is_told_once_it_is() {
    let mut world = World::new(0);
    let [one, two] = ["1", "2"].map(|version| world.release(version));
    let first = world.deploy(None, &one);
    world.complete(first);
    // Host 3 is left out: its receipts count for nothing there, and still tell how it is.
    let second = world.deploy_to(1..=2, Some(&one), &two);
    let known = std::mem::take(&mut world.hosts);
    world.receipt(3, 0, second, State::Activating);
    world.observe();
    world.hosts = known;
    assert_eq!(told(&mut world, 3), (None, State::Activating, version("2")));
    let others = world.receipt(2, 0, second, State::Committed);
    world.says(3, receipt_key(1), others.to_text());
    assert_eq!(told(&mut world, 3), (None, State::Activating, version("2")));
}
