//! How far a rollout that was stopped has gone back, counted and in words.

use std::collections::BTreeSet;

use proto::Version;
use proto::receipt::{Cause, State};
use proto::report::{BackReport, BackState, ElsewhereReport, RolloutReport, StandingReport};
use proto::statement::OnFailure;

use crate::host::NEVER_STARTED;

/// Hosts that serve another version of which a report tells.
const ELSEWHERE_MAX: usize = 20;
/// Hosts that are named in words; of more, the rest is counted.
const NAMED_MAX: usize = 3;

/// Whether a host of a rollout says that it is back and had not begun.
pub fn never_started(host: &StandingReport) -> bool {
    host.cause == Some(Cause::Fleet) && host.note == NEVER_STARTED
}

/// Whether a host of a rollout has begun to activate.
pub fn began(host: &StandingReport) -> bool {
    host.state.is_some_and(|state| state >= State::Activating) && !never_started(host)
}

/// Of a rollout that was stopped; none: it had begun on no host that counts.
pub fn way_back(hosts: &[StandingReport], on_failure: OnFailure) -> Option<BackReport> {
    let mut sum = BackReport::new(BackState::RolledBack);
    for host in hosts.iter().filter(|host| began(host) && !host.skipped) {
        let place = match host.state {
            Some(State::RevertFailed) => &mut sum.stuck,
            Some(State::Reverted) => &mut sum.back,
            _ if !host.alive => &mut sum.silent,
            Some(State::Baking | State::Committed) if on_failure == OnFailure::Pause => {
                &mut sum.keep
            }
            _ => &mut sum.going,
        };
        *place += 1;
    }
    sum.state = match sum {
        BackReport { going: 1.., .. } => BackState::GoingBack,
        BackReport { keep: 1.., .. } => BackState::Stays,
        BackReport { stuck: 1.., .. } => BackState::Stuck,
        BackReport { back: 0, silent: 0, .. } => return None,
        // Those that had it are not heard, or nobody is: somebody may have it still.
        BackReport { back: 0, .. } => BackState::GoingBack,
        _ if !hosts.iter().any(|host| host.alive && !host.skipped) => BackState::GoingBack,
        _ => BackState::RolledBack,
    };
    Some(sum)
}

/// Names the hosts that serve another version than `from`, which the others go back to; but for those that
/// are counted already, since they still have what was stopped.
pub(crate) fn name_others(
    (back, hosts): (&mut BackReport, &[StandingReport]),
    from: &Version,
    serve: impl Iterator<Item = ElsewhereReport>,
) {
    let have = hosts.iter().filter(|host| began(host) && host.state != Some(State::Reverted));
    let have: BTreeSet<_> = have.map(|host| &host.host).collect();
    let others = serve.filter(|host| host.version != *from && !have.contains(&host.host));
    for host in others {
        back.elsewhere_found += 1;
        if back.elsewhere.len() < ELSEWHERE_MAX {
            back.elsewhere.push(host);
        }
    }
}

/// Where the hosts are on their way back: `all 5 hosts that had it are back on 1.3.0; not on 1.3.0: n5
/// (1.2.0)`. None: there is no way back to tell of.
pub fn back_words(report: &RolloutReport) -> Option<String> {
    let back = report.back.as_ref()?;
    let BackReport { back: gone, going, keep, stuck, silent, .. } = *back;
    let had = gone + going + keep + stuck + silent;
    let who = match (gone == had, had) {
        (true, 1) => "the host that had it is".to_owned(),
        (true, _) => format!("all {had} hosts that had it are"),
        (false, _) => {
            format!("{gone} of {had} host{} that had it", if had == 1 { "" } else { "s" })
                + if gone == 1 { " is" } else { " are" }
        }
    };
    let mut text = match &report.from {
        Some(from) => format!("{who} back on {from}"),
        None => format!("{who} rid of it"),
    };
    let rest = [
        (going, "go back", "goes back"),
        (keep, "keep it: its on_failure is pause", "keeps it: its on_failure is pause"),
        (stuck, "could not go back: a person is needed", "could not go back: a person is needed"),
        (silent, "are not heard", "is not heard"),
    ];
    for (count, many, one) in rest.iter().filter(|(count, ..)| *count > 0) {
        text.push_str(&format!(", {count} {}", if *count == 1 { one } else { many }));
    }
    if let Some(others) = others(back, report.from.as_ref()) {
        text.push_str(&format!("; {others}"));
    }
    Some(text)
}

fn others(back: &BackReport, from: Option<&Version>) -> Option<String> {
    let from = from.filter(|_| !back.elsewhere.is_empty())?;
    let shown = back.elsewhere.iter().take(NAMED_MAX);
    let names: Vec<_> = shown.map(|host| format!("{} ({})", host.name, host.version)).collect();
    let more = (back.elsewhere_found as usize).saturating_sub(names.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Some(format!("not on {from}: {}{more}", names.join(", ")))
}
