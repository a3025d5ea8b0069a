//! R7: what has expired, for the hosts and for people alike.

use super::*;
use crate::host::{Host as Machine, Input, Peers};

impl World {
    /// A newer root, with this expiry.
    fn renew_root(&mut self, expires: UnixTime) {
        let version = self.chain.root().version + 1;
        self.learn(Root { version, expires, ..root(0) }.envelope(), &[ROOT]);
    }

    /// The first host of the cohort with everything on its disk, told what its agent tells it.
    fn machine(&self, rollout: Digest) -> Machine {
        let mut machine = Machine::new(host_id(1), scope());
        let plan = self.chain.rollout(&rollout).unwrap();
        let peers = Peers { confirmed: true, clock_ahead_s: None };
        let told = [
            Input::Root { expires: self.chain.root().expires },
            Input::Peers(peers),
            Input::Rollout { id: rollout, rollout: Arc::new(plan.clone()) },
            Input::Fetched { release: plan.to.release },
        ];
        told.into_iter().for_each(|input| self.tell(&mut machine, input));
        machine
    }

    fn tell(&self, machine: &mut Machine, input: Input) {
        let now = Now { boot_ms: self.now_ms, unix: self.chain.believed(self.clock) };
        machine.handle(now, input, &mut Vec::new());
    }

    /// What people are told of the rollout: where it stands, and why.
    fn told(&self, rollout: &Digest) -> (RolloutPhase, String) {
        let report = self.look(|outlook| outlook.rollout_report(rollout)).unwrap();
        (report.phase, report.why)
    }
}

/// The rollout was signed at `NOW` + 1 s, before which it is not, whatever a clock says, and expires
/// at `NOW` + 100,000 s.
#[test]
fn r7_people_are_told_what_the_hosts_decide() {
    let expired = |what: &str| Some(format!("held: the {what} expired, nothing new starts"));
    let cases = [
        ("nothing has expired", 2_000_000, NOW, None),
        ("a second before", 100_000, NOW.plus_s(99_999), None),
        ("the rollout", 2_000_000, NOW.plus_s(100_000), expired("rollout has")),
        ("the root, before it", 50_000, NOW.plus_s(50_000), expired("root has")),
        ("both", 50_000, NOW.plus_s(100_000), expired("rollout and the root have")),
        ("a clock that lost the time", 1, UnixTime(0), expired("root has")),
    ];
    for (case, root_s, clock, expected) in cases {
        let mut world = World::new(0);
        world.renew_root(NOW.plus_s(root_s));
        let release = world.release("1");
        let rollout = world.deploy(None, &release);
        world.observe();
        world.clock = clock;
        let machine = world.machine(rollout);
        let (phase, told) = world.told(&rollout);
        match expected {
            Some(text) => {
                assert!(told.starts_with(&text), "{case}: {told}");
                assert_eq!(phase, RolloutPhase::Expired, "{case}");
                assert_eq!(machine.why().map(ToString::to_string), Some(told), "{case}");
                assert_eq!(machine.state(), Some(State::Staged), "{case}");
            }
            None => {
                assert_eq!(phase, RolloutPhase::Running, "{case}: {told}");
                assert_eq!(machine.state(), Some(State::Activating), "{case}");
            }
        }
    }
}

/// A new root lets the same rollout go on, on the same machine.
#[test]
fn r7_a_renewed_root_lets_a_rollout_go_on() {
    let mut world = World::new(0);
    world.renew_root(NOW.plus_s(50_000));
    let release = world.release("1");
    let rollout = world.deploy(None, &release);
    world.observe();
    world.clock = NOW.plus_s(60_000);
    let mut machine = world.machine(rollout);
    assert_eq!(machine.state(), Some(State::Staged));
    let report = world.look(|outlook| outlook.rollout_report(&rollout)).unwrap();
    assert_eq!((report.phase, report.expires), (RolloutPhase::Expired, NOW.plus_s(50_000)));
    assert_eq!(report.ended, Some(NOW.plus_s(50_000)));

    world.renew_root(NOW.plus_s(90_000));
    world.tell(&mut machine, Input::Root { expires: world.chain.root().expires });
    assert_eq!(machine.state(), Some(State::Activating));
    let report = world.look(|outlook| outlook.rollout_report(&rollout)).unwrap();
    assert_eq!((report.phase, report.expires), (RolloutPhase::Running, NOW.plus_s(90_000)));
    assert_eq!(report.ended, None);
}

/// Of the rollout's expiry and the root's the earlier one is told.
#[test]
fn r7_the_earlier_expiry_is_told() {
    for (root_s, told_s) in [(50_000, 50_000), (2_000_000, 100_000)] {
        let mut world = World::new(0);
        world.renew_root(NOW.plus_s(root_s));
        let release = world.release("1");
        let rollout = world.deploy(None, &release);
        world.observe();
        world.clock = NOW.plus_s(told_s);
        let report = world.look(|outlook| outlook.rollout_report(&rollout)).unwrap();
        let told = NOW.plus_s(told_s);
        assert_eq!((report.expires, report.ended), (told, Some(told)));
    }
}
