//! The first line of every kind of event, side by side: on a phone nothing else is read.

use proto::receipt::State;
use proto::report::{DriftReport, FreezeReport, RolloutPhase, RolloutReport};
use proto::statement::{Action, OnFailure, UnixTime};
use proto::{Digest, HostId, Scope};
use rollout::report::way_back;
use serde_json::json;

use super::{BEGAN, failed, present, report, sight, standing};
use crate::chronicle::{Relief, Word, words};
use crate::events::{Event, Kind};
use crate::notify::first_line;
use crate::web::Certificate;

/// A canary of three hosts in two waves on which it failed.
fn told(kind: Kind, phase: RolloutPhase, why: &str) -> Event {
    let second = if kind == Kind::RolloutRolledBack { State::Reverted } else { State::Committed };
    let hosts = vec![failed(1, 0), standing(2, 1, Some(second)), standing(3, 1, None)];
    let back = way_back(&hosts, OnFailure::Rollback);
    let report = RolloutReport { why: why.to_owned(), back, ..report(phase, 1, hosts) };
    words::rollout(kind, &report, BEGAN)
}

fn going(kind: Kind, why: &str) -> Event {
    let state = |number| (number == 1).then_some(State::Committed);
    let hosts = (1..=3).map(|number| standing(number, u32::from(number > 1), state(number)));
    let report = report(RolloutPhase::Running, 1, hosts.collect());
    let report = RolloutReport { why: why.to_owned(), ..report };
    let host = &report.hosts[0];
    let word = |action| Word {
        statement: Digest::of(b"word"),
        action,
        wave: (action == Action::Promote).then_some(1),
        by: "ada".parse().unwrap(),
        reason: "looks good".to_owned(),
    };
    match kind {
        Kind::WaveOpened => words::wave(&report, 1, BEGAN),
        Kind::HostFailed | Kind::HostStuck => words::host(kind, &report, host, BEGAN),
        Kind::RolloutPromoted => words::said(&report, &word(Action::Promote), BEGAN).unwrap(),
        Kind::RolloutResumed => words::said(&report, &word(Action::Resume), BEGAN).unwrap(),
        Kind::RolloutApproved => words::approved(&report, &"bob".parse().unwrap(), BEGAN),
        _ => words::rollout(kind, &report, BEGAN),
    }
}

fn frozen(host: Option<HostId>, lasts_s: u64) -> Event {
    let name = "n1".parse().unwrap();
    let freeze = FreezeReport {
        statement: Digest::of(b"freeze"),
        env: "production".parse().unwrap(),
        host,
        in_force: true,
        until: BEGAN.plus_s(lasts_s),
        by: "ada".parse().unwrap(),
        created: BEGAN,
        reason: "the sale".to_owned(),
    };
    words::freeze(&freeze, Some(&name), BEGAN)
}

fn of_fleet(kind: Kind) -> Event {
    let host = present(1, true);
    let drift = DriftReport { release: Digest::of(b"1"), found: 1, first: "a.txt".to_owned() };
    let scope = Scope { service: "web".parse().unwrap(), env: "production".parse().unwrap() };
    let certificate = Certificate {
        fingerprint: "AB".to_owned(),
        expires: BEGAN.plus_s(3 * 86_400),
        is_own: false,
        names: std::collections::BTreeSet::new(),
    };
    match kind {
        Kind::HostDrifted => words::drifted(&host, &scope.service, &drift, BEGAN),
        Kind::HostsMended => {
            words::mended(&scope, (&host.id, &host.name), Some(Relief::Well), BEGAN)
        }
        Kind::RootExpiring => {
            let mut sight = sight(Vec::new());
            sight.root_expires = UnixTime(BEGAN.0 + 3 * 86_400);
            words::root(&sight, BEGAN)
        }
        Kind::CertificateExpiring => words::certificate(&certificate, BEGAN),
        kind => words::present(kind, &host, BEGAN, json!({})),
    }
}

/// As the coordinator tells of it when it admits one.
fn published() -> Event {
    Event {
        rollout: None,
        env: None,
        kind: Kind::ReleasePublished,
        text: "web 1.4.0 is published by ci, commit 1f2e3d4c".to_owned(),
        detail: json!({}),
        ..going(Kind::RolloutStarted, "")
    }
}

/// Of a rollout; what each says after how far it is.
fn of_rollouts() -> Vec<(Event, &'static str, &'static str)> {
    use Kind::*;
    use RolloutPhase as P;
    let done = "1 of 3 hosts done";
    let failed = "1 of 3 hosts failed";
    let paused = "paused by an operator (by ada: look)";
    let aborted = "aborted by an operator (by ada: no)";
    vec![
        (going(ApprovalWanted, "0 of 1 approvals"), done, "waits for signatures: 0 of 1 approvals"),
        (going(RolloutApproved, ""), done, "approved by bob"),
        (
            going(RolloutStarted, ""),
            done,
            "started from 1.3.0, 3 hosts in 2 waves, signed by ada: weekly",
        ),
        (going(WaveOpened, ""), done, "wave 2 of 2 is open: 2 hosts"),
        (going(RolloutPromoted, ""), done, "promoted to wave 2 of 2 by ada: looks good"),
        (going(RolloutHeld, "n2 is not heard"), done, "held: n2 is not heard"),
        (going(RolloutWaits, "held: frozen"), done, "waits: frozen"),
        (going(RolloutMoves, "wave 2"), done, "moves again: wave 2"),
        (going(RolloutPaused, paused), done, paused),
        (going(RolloutResumed, ""), done, "resumed by ada: looks good"),
        (told(RolloutHalted, P::Halted, "1 failed"), failed, "halted: 1 failed"),
        (told(RolloutAborted, P::Aborted, aborted), failed, aborted),
        (
            told(RolloutRolledBack, P::Halted, ""),
            "2 of 3 hosts failed",
            "all 2 hosts that had it are back on 1.3.0",
        ),
        (going(RolloutComplete, "complete"), done, "complete"),
        (going(RolloutExpired, "held: x"), done, "expired: x"),
        (going(RolloutSuperseded, "a newer one"), done, "superseded: a newer one"),
        (going(HostFailed, ""), done, "failed on n1"),
        (going(HostStuck, ""), done, "n1 could not go back, a person is needed there"),
    ]
}

/// Of all else.
fn of_others() -> Vec<(Event, String)> {
    use Kind::*;
    let id = present(1, true).id;
    let at = "2027-01-15 09:00:00 UTC";
    let mended = "web in production: no host is stuck there any more, n1 was the last".to_owned();
    let root = "shop-1: root 1 expires in 3 days, at 2027-01-18 08:00:00 UTC: nothing new starts from \
                then on; the root's keys must sign the next one";
    let certificate = "shop-1: the certificate of the pages expires in 3 days, at 2027-01-18 08:00:00 \
                       UTC: browsers refuse them from then on; put the next one where https_cert and \
                       https_key say";
    let fixed = [
        (published(), "web 1.4.0 is published by ci, commit 1f2e3d4c"),
        (of_fleet(HostLost), "host n1 in production is not heard any more"),
        (of_fleet(HostBack), "host n1 in production is heard again"),
        (of_fleet(HostRemoved), "host n1 in production was removed from the fleet"),
        (of_fleet(HostDrifted), "web in production on n1 is not what was released: a.txt"),
        (of_fleet(RootExpiring), root),
        (of_fleet(CertificateExpiring), certificate),
        (frozen(None, 0), "production is not frozen any more, by ada: the sale"),
        (
            frozen(Some(id.clone()), 0),
            "host n1 in production is not held any more, by ada: the sale",
        ),
    ];
    let mut lines: Vec<_> = fixed.map(|(event, line)| (event, line.to_owned())).into();
    lines.extend([
        (of_fleet(HostsMended), mended),
        (frozen(None, 3_600), format!("production is frozen until {at} by ada: the sale")),
        (
            frozen(Some(id), 3_600),
            format!("host n1 in production is held until {at} by ada: the sale"),
        ),
    ]);
    lines
}

#[test]
fn every_first_line_says_of_what_where_how_far_and_what_happened() {
    let fleet = "shop-1".parse().unwrap();
    let of_rollouts = of_rollouts()
        .into_iter()
        .map(|(event, so_far, says)| (event, format!("web 1.4.0 to production, {so_far}: {says}")));
    let lines: Vec<_> = of_rollouts.chain(of_others()).collect();
    for (event, line) in &lines {
        assert_eq!(first_line(&fleet, event), *line, "{}", event.kind);
    }
    let is_shown = |kind: &&Kind| lines.iter().any(|(one, _)| one.kind == **kind);
    let missing: Vec<_> = Kind::ALL.iter().filter(|kind| !is_shown(kind)).collect();
    assert!(missing.is_empty(), "show what these say: {missing:?}");
}
