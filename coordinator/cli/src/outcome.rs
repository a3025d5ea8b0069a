//! What a rollout's report means for whoever waits: a total, pure function.

use proto::receipt::State;
use proto::report::{RolloutPhase, RolloutReport, StandingReport};
use proto::statement::{Direction, OnFailure};

use crate::failure::Exit;

/// Whether to go on waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    GoingOn,
    /// It waits for a person or for a time, or holds for hosts that are not heard.
    Held,
    /// All that it still waits for are hosts that are not heard.
    Unheard,
    Ended(Exit),
}

/// Judges a report. `on_failure` is the rollout's own, from its statement.
pub(crate) fn outcome(report: &RolloutReport, on_failure: OnFailure) -> Outcome {
    let ended = |exit| match report.hosts.iter().any(is_stuck) {
        true => Outcome::Ended(Exit::RollbackFailed),
        false => Outcome::Ended(exit),
    };
    match report.phase {
        RolloutPhase::Pending | RolloutPhase::Paused | RolloutPhase::Running => match report.held {
            true => Outcome::Held,
            false => Outcome::GoingOn,
        },
        RolloutPhase::Complete => ended(Exit::Done),
        RolloutPhase::Expired => ended(Exit::Unreachable),
        // Somebody wanted something else meanwhile.
        RolloutPhase::Superseded => ended(Exit::Error),
        RolloutPhase::Halted | RolloutPhase::Aborted => {
            let still: Vec<_> =
                report.hosts.iter().filter(|host| goes_back(host, on_failure)).collect();
            match (still.is_empty(), still.iter().any(|host| host.alive)) {
                (true, _) => ended(end_of_failure(report, on_failure)),
                (false, true) => Outcome::GoingOn,
                (false, false) => Outcome::Unheard,
            }
        }
    }
}

fn end_of_failure(report: &RolloutReport, on_failure: OnFailure) -> Exit {
    match (report.direction, report.phase, on_failure) {
        // Hosts that should have gone back could not.
        (Direction::Rollback, RolloutPhase::Halted, _) => Exit::RollbackFailed,
        (_, _, OnFailure::Rollback) => Exit::RolledBack,
        (_, _, OnFailure::Pause) => Exit::Held,
    }
}

/// Whether a host of a rollout that failed has yet to settle.
fn goes_back(host: &StandingReport, on_failure: OnFailure) -> bool {
    match (host.state, on_failure) {
        (Some(State::Activating), _)
        | (Some(State::Baking | State::Committed), OnFailure::Rollback) => true,
        (Some(State::Baking | State::Committed), OnFailure::Pause)
        | (
            Some(
                State::Pending
                | State::Fetching
                | State::Staged
                | State::Reverted
                | State::RevertFailed,
            )
            | None,
            _,
        ) => false,
    }
}

fn is_stuck(host: &StandingReport) -> bool {
    host.state == Some(State::RevertFailed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::{rollout, standing};

    /// Two hosts in these states, the second one heard or not.
    fn report(phase: RolloutPhase, states: [Option<State>; 2], alive: bool) -> RolloutReport {
        let mut hosts = vec![standing(0, 0, states[0]), standing(1, 1, states[1])];
        hosts[1].alive = alive;
        rollout(phase, hosts)
    }

    #[test]
    fn exit_codes_by_report() {
        use OnFailure::{Pause, Rollback};
        use RolloutPhase as P;
        use State::{Activating, Baking, Committed, RevertFailed, Reverted, Staged};
        let ended = Outcome::Ended;
        let both = |state| [Some(state), Some(state)];
        let one = |a, b| [Some(a), Some(b)];
        #[rustfmt::skip]
        let cases = [
            ("runs", P::Running, both(Baking), true, Rollback, Outcome::GoingOn),
            ("runs with a failure in budget", P::Running, one(Reverted, Baking), true, Rollback, Outcome::GoingOn),
            ("runs although a host is stuck", P::Running, one(RevertFailed, Baking), true, Rollback, Outcome::GoingOn),
            ("lacks approvals", P::Pending, [None, None], true, Rollback, Outcome::Held),
            ("is paused", P::Paused, both(Baking), true, Rollback, Outcome::Held),
            ("is complete", P::Complete, both(Committed), true, Rollback, ended(Exit::Done)),
            ("is complete within budget", P::Complete, one(Committed, Reverted), true, Rollback, ended(Exit::Done)),
            ("is complete but for a stuck host", P::Complete, one(Committed, RevertFailed), true, Rollback, ended(Exit::RollbackFailed)),
            ("halted, a host still bakes", P::Halted, one(Reverted, Baking), true, Rollback, Outcome::GoingOn),
            ("halted, a host had committed", P::Halted, one(Committed, Reverted), true, Rollback, Outcome::GoingOn),
            ("halted, one is half done", P::Halted, one(Reverted, Activating), true, Pause, Outcome::GoingOn),
            ("halted, all are back", P::Halted, both(Reverted), true, Rollback, ended(Exit::RolledBack)),
            ("halted, one never started", P::Halted, one(Reverted, Staged), true, Rollback, ended(Exit::RolledBack)),
            ("halted, one never heard of", P::Halted, [Some(Reverted), None], false, Rollback, ended(Exit::RolledBack)),
            ("halted, a dead host had it", P::Halted, one(Reverted, Committed), false, Rollback, Outcome::Unheard),
            ("halted, one is stuck", P::Halted, one(Reverted, RevertFailed), true, Rollback, ended(Exit::RollbackFailed)),
            ("halted, one is stuck, one goes back", P::Halted, one(RevertFailed, Baking), true, Rollback, Outcome::GoingOn),
            ("halted, stays where it is", P::Halted, one(Reverted, Committed), true, Pause, ended(Exit::Held)),
            ("aborted, all are back", P::Aborted, both(Reverted), true, Rollback, ended(Exit::RolledBack)),
            ("aborted, stays where it is", P::Aborted, both(Committed), true, Pause, ended(Exit::Held)),
            ("aborted, one is stuck", P::Aborted, one(Committed, RevertFailed), true, Pause, ended(Exit::RollbackFailed)),
            ("expired", P::Expired, one(Committed, Staged), true, Rollback, ended(Exit::Unreachable)),
            ("somebody took over", P::Superseded, both(Committed), true, Rollback, ended(Exit::Error)),
        ];
        for (name, phase, states, alive, on_failure, expected) in cases {
            let report = report(phase, states, alive);
            assert_eq!(outcome(&report, on_failure), expected, "{name}");
        }
    }

    /// What holds an open rollout is told apart from one that goes on: that decides between 4 and 5.
    #[test]
    fn an_open_rollout_is_held_or_goes_on() {
        for (held, expected) in [(true, Outcome::Held), (false, Outcome::GoingOn)] {
            let report = RolloutReport {
                held,
                ..report(RolloutPhase::Running, [Some(State::Baking), None], false)
            };
            assert_eq!(outcome(&report, OnFailure::Rollback), expected);
        }
    }

    #[test]
    fn a_rollback_that_halts_has_failed_somewhere() {
        let mut report = report(RolloutPhase::Halted, [Some(State::Reverted); 2], true);
        report.direction = Direction::Rollback;
        let ended = Outcome::Ended(Exit::RollbackFailed);
        assert_eq!(outcome(&report, OnFailure::Pause), ended);
        report.phase = RolloutPhase::Complete;
        assert_eq!(outcome(&report, OnFailure::Pause), Outcome::Ended(Exit::Done));
    }
}
