//! What people say is told once: who, why, of what.

use proto::Digest;
use proto::report::{FreezeReport, RolloutPhase};
use proto::statement::{Action, UnixTime};

use super::{BEGAN, Run, Seen, Sight, host_id, present, seen, sight, three};
use crate::chronicle::Word;
use crate::events::Kind;

fn said(action: Action, wave: Option<u32>, reason: &str) -> Seen {
    let (by, reason) = ("ada".parse().unwrap(), reason.to_owned());
    let statement = Digest::of(format!("{action:?} {wave:?}").as_bytes());
    let word = Word { statement, action, wave, by, reason };
    Seen { said: Some(word), ..seen(three(RolloutPhase::Running, 1, [None; 3])) }
}

fn freeze(name: &[u8], host: Option<u32>, lasts_s: u64) -> FreezeReport {
    FreezeReport {
        statement: Digest::of(name),
        env: "production".parse().unwrap(),
        host: host.map(host_id),
        in_force: lasts_s > 0,
        until: BEGAN.plus_s(lasts_s),
        by: "ada".parse().unwrap(),
        created: BEGAN,
        reason: "the sale\tis on".to_owned(),
    }
}

fn frozen(freezes: Vec<FreezeReport>) -> Sight {
    Sight { freezes, hosts: vec![present(1, true)], ..sight(Vec::new()) }
}

#[test]
fn who_resumes_or_promotes_a_rollout_is_told_of_once() {
    let mut run = Run::begun();
    run.look(&sight(vec![seen(three(RolloutPhase::Running, 1, [None; 3]))]));
    let promoted = sight(vec![said(Action::Promote, Some(1), "looks good")]);
    assert_eq!(run.look_for(20, &promoted), [Kind::RolloutPromoted]);
    assert_eq!(run.text(), "web 1.4.0 to production: promoted to wave 2 of 2 by ada: looks good");
    let detail = &run.events.last().unwrap().detail;
    assert_eq!(
        (&detail["by"], &detail["said"], &detail["wave"]),
        (&"ada".into(), &"looks good".into(), &2.into())
    );
    run.restart();
    assert!(run.look_for(20, &promoted).is_empty());
    // A pause between two looks that nobody saw.
    let resumed = sight(vec![said(Action::Resume, None, "")]);
    assert_eq!(run.look_for(20, &resumed), [Kind::RolloutResumed]);
    assert_eq!(run.text(), "web 1.4.0 to production: resumed by ada");
    let paused = sight(vec![said(Action::Pause, None, "told by where it stands")]);
    assert!(run.look_for(20, &paused).is_empty());
}

#[test]
fn who_approves_a_rollout_is_told_of_once_each() {
    let pending = |names: &[&str]| {
        let approved = names.iter().map(|name| name.parse().unwrap()).collect();
        let report = three(RolloutPhase::Pending, 0, [None; 3]);
        sight(vec![Seen { approved, ..seen(report) }])
    };
    let mut run = Run::begun();
    assert_eq!(run.look(&pending(&[])), [Kind::ApprovalWanted]);
    assert_eq!(run.look_for(20, &pending(&["bob"])), [Kind::RolloutApproved]);
    assert_eq!(run.text(), "web 1.4.0 to production: approved by bob");
    run.restart();
    assert_eq!(run.look_for(20, &pending(&["bob", "eve"])), [Kind::RolloutApproved]);
    assert_eq!(run.text(), "web 1.4.0 to production: approved by eve");
}

#[test]
fn freezes_and_holds_and_their_ends_are_told_once_with_who_and_why() {
    let mut run = Run::begun();
    run.look(&frozen(Vec::new()));
    let mut all = vec![freeze(b"1", None, 3_600)];
    let cases = [
        (Kind::EnvironmentFrozen, "production is frozen until 2027-01-15 09:00:00 UTC by ada: "),
        (Kind::EnvironmentUnfrozen, "production is not frozen any more, by ada: "),
        (Kind::HostHeld, "host n1 in production is held until 2027-01-15 08:01:00 UTC by ada: "),
        (Kind::HostReleased, "host n1 in production is not held any more, by ada: "),
    ];
    let next = [
        vec![freeze(b"2", None, 0)],
        vec![freeze(b"2", None, 0), freeze(b"3", Some(1), 60)],
        vec![freeze(b"2", None, 0), freeze(b"4", Some(1), 0)],
        Vec::new(),
    ];
    for ((kind, text), next) in cases.into_iter().zip(next) {
        assert_eq!(run.look_for(9, &frozen(all)), [kind]);
        assert_eq!(run.text(), format!("{text}the sale is on"));
        assert_eq!(run.events.last().unwrap().env.as_ref().unwrap().as_str(), "production");
        run.restart();
        all = next;
    }
    assert_eq!(run.events.last().unwrap().host, Some(host_id(1)));
}

#[test]
fn what_was_frozen_before_anybody_was_there_to_tell_is_no_news() {
    let mut run = Run::new();
    let old = frozen(vec![freeze(b"1", None, 3_600)]);
    assert!(run.look_for(90, &old).is_empty());
    // A rebuilt coordinator hears it later.
    let mut later = freeze(b"2", None, 3_600);
    later.created = UnixTime(BEGAN.0 - 3 * 86_400);
    assert!(run.look_for(9, &frozen(vec![freeze(b"1", None, 3_600), later])).is_empty());
}
