//! What a directive changes in a rollout as it stands, and how that is said.

use proto::report::{RolloutPhase, RolloutReport};
use proto::statement::{Action, Direction, OnFailure, Rollout};

use crate::render;
use crate::sign::SignError;

/// What a directive does to a rollout, as the command is called.
pub(crate) const fn verb(action: Action) -> &'static str {
    match action {
        Action::Skip => "skip",
        Action::Pause => "pause",
        Action::Resume => "resume",
        Action::Promote => "promote",
        Action::Abort => "abort",
    }
}

/// Says why nothing need be signed: it is so already. None: it would change something. A pause is
/// signed however it looks: the member that was asked may not have heard yet that it was ended.
///
/// # Errors
///
/// [`SignError::Closed`]: the rollout has come to an end that the directive does not change. Members
/// refuse an abort of a complete one, too: it would take all hosts back without a plan, bakes or
/// budgets.
pub(crate) fn needless(
    report: &RolloutReport,
    rollout: &Rollout,
    action: Action,
) -> Result<Option<String>, SignError> {
    use RolloutPhase as P;
    let id = report.id;
    match (report.phase, action) {
        (P::Aborted, Action::Abort) => Ok(Some(format!(
            "rollout {id} is so already: {}; nothing was signed\n",
            render::plain(&report.why)
        ))),
        (P::Running, Action::Resume) => {
            Ok(Some(format!("rollout {id} is not paused; nothing was signed\n")))
        }
        (P::Complete, _)
        | (P::Halted | P::Aborted | P::Expired, Action::Pause | Action::Resume | Action::Promote) =>
        {
            let (scope, is) = (rollout.scope(), report.phase);
            Err(SignError::Closed { rollout: id, scope, is, action: verb(action) })
        }
        _ => Ok(None),
    }
}

/// What follows from a directive that is in force, a line each, for people. `wave`: the one that a
/// promote opens, 0 first.
pub(crate) fn meaning(
    report: &RolloutReport,
    rollout: &Rollout,
    action: Action,
    wave: Option<u32>,
) -> String {
    let (id, to) = (report.id, &rollout.to.version);
    match action {
        Action::Pause => format!(
            "  no host starts anything new, and bakes stand still; hosts that run {to} keep it, and \
             still go back where it fails\n  to go on: swell resume {id}; to end it: swell abort {id}\n"
        ),
        Action::Resume => {
            "  it goes on where it stood: bakes count on, waves open by their gates\n".into()
        }
        Action::Promote => format!(
            "  hosts of waves up to {} of {} may start, over bakes, doubts and silent hosts; not over a \
             freeze, too many failures or max_unavailable; hosts that bake go on with that\n",
            wave.map_or(0, |wave| wave + 1),
            report.waves.len()
        ),
        Action::Abort => aborted(report, rollout),
        // It has a command of its own.
        Action::Skip => String::new(),
    }
}

fn aborted(report: &RolloutReport, rollout: &Rollout) -> String {
    let (id, to, env) = (report.id, &rollout.to.version, &rollout.env);
    let hosts = match (rollout.on_failure, &rollout.from) {
        (OnFailure::Pause, _) => "hosts stay as they are, as on_failure says".to_owned(),
        (OnFailure::Rollback, Some(from)) => format!(
            "hosts that run {to} go back to {}, at most {} of a zone at once",
            from.version, rollout.max_unavailable
        ),
        (OnFailure::Rollback, None) if rollout.adopt => {
            format!("hosts that adopted {to} are left as they were found; what runs runs on")
        }
        (OnFailure::Rollback, None) => {
            format!("hosts that run {to} stop and remove it: nothing was there before")
        }
    };
    let mut text = format!("  it ends here: nothing new starts, and {hosts}\n");
    if rollout.direction == Direction::Forward {
        text.push_str(&format!("  {to} starts in {env} again only by swell retry {id}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Advise as _;
    use crate::render::sample;

    fn newest() -> Rollout {
        let facts =
            sample::facts(Some("1.2.0"), "1.3.0", Direction::Forward, RolloutPhase::Running);
        facts.head.unwrap().1
    }

    #[test]
    fn what_is_so_already_is_not_signed_and_what_has_ended_takes_none() {
        use Action::{Abort, Pause, Promote, Resume};
        use RolloutPhase as P;
        // `s`: signed; `n`: needless; `c`: closed.
        let cases = [
            (P::Pending, "ssss"),
            (P::Running, "snss"),
            (P::Paused, "ssss"),
            (P::Halted, "cccs"),
            (P::Aborted, "cccn"),
            (P::Complete, "cccc"),
            (P::Superseded, "ssss"),
            (P::Expired, "cccs"),
        ];
        for (phase, expected) in cases {
            let report = sample::rollout(phase, Vec::new());
            let judged = [Pause, Resume, Promote, Abort].map(|action| {
                match needless(&report, &newest(), action) {
                    Ok(None) => 's',
                    Ok(Some(text)) => {
                        assert!(text.ends_with("; nothing was signed\n"), "{text}");
                        'n'
                    }
                    Err(error) => {
                        assert!(error.next().is_some(), "{error}");
                        'c'
                    }
                }
            });
            assert_eq!(judged.iter().collect::<String>(), expected, "{phase:?}");
        }
    }

    #[test]
    fn what_follows_is_said() {
        let report = sample::under_way(5);
        let id = report.id;
        let said = |rollout: &Rollout, action, wave| meaning(&report, rollout, action, wave);
        let paused = said(&newest(), Action::Pause, None);
        assert!(paused.contains(&format!("to go on: swell resume {id}; ")), "{paused}");
        let promoted = said(&newest(), Action::Promote, Some(1));
        assert!(promoted.contains("waves up to 2 of 3 may start"), "{promoted}");
        let aborted = |on_failure, from: bool| {
            let rollout = Rollout { on_failure, ..newest() };
            let from = rollout.from.clone().filter(|_| from);
            said(&Rollout { from, ..rollout }, Action::Abort, None)
        };
        assert_eq!(
            aborted(OnFailure::Rollback, true),
            format!(
                "  it ends here: nothing new starts, and hosts that run 1.3.0 go back to 1.2.0, at \
                 most 1 of a zone at once\n  1.3.0 starts in production again only by swell retry \
                 {id}\n"
            )
        );
        assert!(aborted(OnFailure::Rollback, false).contains("stop and remove it"));
        assert!(aborted(OnFailure::Pause, true).contains("hosts stay as they are"));
    }
}
