//! What is told of hosts and of the root.

use std::collections::BTreeSet;

use proto::Digest;
use proto::report::DriftReport;
use proto::statement::UnixTime;

use super::{BEGAN, Presence, Run, Sight, present, sight};
use crate::events::Kind;
use crate::web::Certificate;

fn hosts(hosts: Vec<Presence>) -> Sight {
    Sight { hosts, ..sight(Vec::new()) }
}

fn two(alive: [bool; 2]) -> Sight {
    hosts(vec![present(1, alive[0]), present(2, alive[1])])
}

#[test]
fn a_host_is_lost_once_it_was_silent_for_a_while_and_back_once_it_was_heard_for_one() {
    let mut run = Run::begun();
    assert!(run.look_for(90, &two([true, false])).is_empty(), "the second was never there");
    assert!(run.look_for(14, &two([false, true])).is_empty());
    assert!(run.look_for(14, &two([true, true])).is_empty());
    assert_eq!(run.look_for(30, &two([false, true])), [Kind::HostLost]);
    assert_eq!(run.text(), "host n1 in production is not heard any more");
    assert_eq!(run.events[0].env, Some("production".parse().unwrap()));
    run.restart();
    assert!(run.look_for(120, &two([false, true])).is_empty());
    assert!(run.look_for(10, &two([true, true])).is_empty());
    assert!(run.look_for(90, &two([false, true])).is_empty(), "it was lost all the time");
    assert_eq!(run.look_for(30, &two([true, true])), [Kind::HostBack]);
    assert_eq!(run.text(), "host n1 in production is heard again");
}

#[test]
fn a_coordinator_that_starts_has_yet_to_hear_who_is_there() {
    let mut run = Run::begun();
    run.look(&two([true, true]));
    run.restart();
    assert!(run.look_for(50, &two([false, false])).is_empty());
    assert!(run.look_for(20, &two([true, true])).is_empty());
    run.restart();
    assert_eq!(run.look_for(70, &two([false, true])), [Kind::HostLost], "lost while it was away");
}

#[test]
fn a_host_that_was_removed_is_not_lost() {
    let mut run = Run::begun();
    run.look_for(70, &two([true, true]));
    let mut removed = two([false, true]);
    removed.hosts[0].removed = true;
    let said = ("ada".parse().unwrap(), "sold".to_owned());
    removed.removals.insert(removed.hosts[0].id.clone(), said);
    assert_eq!(run.look_for(60, &removed), [Kind::HostRemoved]);
    assert_eq!(run.text(), "host n1 in production was removed from the fleet by ada: sold");
    run.restart();
    assert!(run.look_for(60, &removed).is_empty());
    assert!(run.look_for(60, &two([false, true])).is_empty(), "and not one that was there");
}

#[test]
fn of_very_many_lost_hosts_one_event_tells() {
    let all = |alive| hosts((1..=25).map(|number| present(number, alive)).collect());
    let mut run = Run::begun();
    run.look_for(70, &all(true));
    assert_eq!(run.look_for(20, &all(false)), [Kind::HostLost]);
    assert!(
        run.text().starts_with("25 hosts in production are not heard any more: n1, "),
        "{}",
        run.text()
    );
    assert!(run.text().ends_with(" and 5 more") && run.events.last().unwrap().host.is_none());
    assert_eq!(run.look_for(20, &all(true)), [Kind::HostBack]);
}

#[test]
fn of_many_lost_hosts_each_environment_is_told_of_its_own() {
    let host = |number: u32| Presence {
        env: Some(if number > 25 { "staging" } else { "production" }.parse().unwrap()),
        ..present(number, true)
    };
    let all: Vec<_> = (1..=28).map(host).collect();
    let mut run = Run::begun();
    run.look_for(70, &hosts(all.clone()));
    let lost = all.into_iter().map(|host| Presence { alive: false, ..host });
    let told = run.look_for(20, &hosts(lost.collect()));
    assert_eq!(told, [Kind::HostLost; 4]);
    assert!(run.events[0].text.starts_with("25 hosts in production are not heard"));
    let envs: Vec<_> = run.events.iter().map(|event| event.env.clone().unwrap()).collect();
    assert_eq!(envs[1..].iter().filter(|env| env.as_str() == "staging").count(), 3);
}

#[test]
fn drift_is_told_once_for_each_release_and_again_once_it_was_mended() {
    let drifted = |release: &[u8]| {
        let mut host = present(1, true);
        let drift = DriftReport { release: Digest::of(release), found: 2, first: "a.txt".into() };
        host.drift = vec![("web".parse().unwrap(), drift)];
        hosts(vec![host])
    };
    let mut run = Run::begun();
    assert_eq!(run.look_for(60, &drifted(b"1")), [Kind::HostDrifted]);
    assert_eq!(run.text(), "web in production on n1 is not what was released: a.txt, first of 2");
    assert_eq!(run.events[0].scope().unwrap().to_string(), "web/production");
    run.restart();
    // An agent that was restarted has not looked yet.
    assert!(run.look_for(300, &hosts(vec![present(1, true)])).is_empty());
    assert!(run.look_for(60, &drifted(b"1")).is_empty());
    assert_eq!(run.look_for(60, &drifted(b"2")), [Kind::HostDrifted]);
    // What one that is silent said last says nothing: it may well be as it was.
    run.look_for(901, &hosts(vec![present(1, false)]));
    assert_eq!(run.look_for(20, &drifted(b"2")), [Kind::HostBack]);
    assert!(run.look_for(901, &hosts(vec![present(1, true)])).is_empty());
    assert_eq!(run.look(&drifted(b"2")), [Kind::HostDrifted]);
    // Of one that is no host any more nothing is remembered.
    run.look(&hosts(Vec::new()));
    assert_eq!(run.look(&drifted(b"2")), [Kind::HostDrifted]);
}

#[test]
fn the_end_of_the_root_is_told_thirty_days_seven_days_and_one_before_and_when_it_comes() {
    let mut run = Run::begun();
    let day = 86_400;
    let mut root = |version, left_s: u64| {
        run.now.unix = BEGAN;
        let sight = Sight {
            root_version: version,
            root_expires: UnixTime(BEGAN.0 + left_s),
            ..sight(Vec::new())
        };
        let told = run.look(&sight);
        run.restart();
        let again = run.look(&sight);
        assert!(again.is_empty(), "{again:?}");
        told.first().map(|kind| (*kind, run.text().to_owned()))
    };
    assert_eq!(root(1, 31 * day), None);
    let (kind, text) = root(1, 30 * day).unwrap();
    assert_eq!(kind, Kind::RootExpiring);
    assert!(text.starts_with("root 1 expires in 30 days, at 2027-02-14 08:00:00 UTC: "), "{text}");
    assert_eq!(root(1, 8 * day), None);
    assert!(root(1, 6 * day).unwrap().1.starts_with("root 1 expires in 6 days, "));
    assert!(root(1, day / 2).unwrap().1.starts_with("root 1 expires within a day, "));
    assert!(root(1, 0).unwrap().1.starts_with("root 1 has expired, "));
    // The next one, and one that is told of late: once, not three times.
    assert_eq!(root(2, 300 * day), None);
    assert!(root(2, 2 * day).unwrap().1.starts_with("root 2 expires in 2 days, "));
}

#[test]
fn the_end_of_a_certificate_is_told_once_and_of_one_that_is_made_anew_never() {
    let mut run = Run::begun();
    let day = 86_400;
    let mut certificate = |name: &str, left_s: u64, is_own: bool| {
        run.now.unix = BEGAN;
        let expires = UnixTime(BEGAN.0 + left_s);
        let certificate = Some(Certificate {
            fingerprint: name.to_owned(),
            expires,
            is_own,
            names: BTreeSet::new(),
        });
        let sight = Sight { certificate, ..sight(Vec::new()) };
        let told = run.look(&sight);
        run.restart();
        let again = run.look(&sight);
        assert!(again.is_empty(), "{again:?}");
        told.first().map(|kind| (*kind, run.text().to_owned()))
    };
    assert_eq!(certificate("AB", 15 * day, false), None);
    let (kind, text) = certificate("AB", 14 * day, false).unwrap();
    assert_eq!(kind, Kind::CertificateExpiring);
    let says = "the certificate of the pages expires in 14 days, at 2027-01-29 08:00:00 UTC: ";
    assert!(text.starts_with(says), "{text}");
    assert_eq!(certificate("AB", 3 * day, false), None, "it was told");
    assert_eq!(certificate("CD", 90 * day, false), None);
    assert!(certificate("CD", 0, false).unwrap().1.contains(" has expired, "));
    assert_eq!(certificate("EF", day, true), None, "the coordinator makes the next one");
}
