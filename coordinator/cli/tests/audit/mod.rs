//! `audit --verify`: who is asked, whatever the coordinator says of hosts, and who counts.

use proto::audit::{Act, Entry, Head, Memory, Origin, Told};
use proto::report::RemovalReport;
use proto::statement::{Revocation, UnixTime};
use proto::wire::AuditPage;

use super::verbs::about_fleet;
use super::*;

/// A record of five entries; those of another branch differ from the third on.
fn record(first: &'static str, branch: &str) -> Vec<Entry> {
    let mut head = Head::EMPTY;
    let entry = |number: u64| {
        let act = Act {
            actor: format!("ada{}", if number < 3 { "" } else { branch }),
            action: if number == 1 { first } else { "publish" },
            subject: format!("web {number}"),
            detail: serde_json::json!({}),
        };
        let entry = Entry::after(head, UnixTime(1_700_000_000 + number), act);
        head = Head { length: entry.seq, hash: entry.hash };
        entry
    };
    (1..=5).map(entry).collect()
}

/// Gives this record away, and knows nothing else; `named`: where it says that the record ends.
fn gives(entries: Vec<Entry>, named: usize) -> impl fake::Answer {
    let last = &entries[named - 1];
    let head = Head { length: last.seq, hash: last.hash };
    move |request: &ControlRequest| match request {
        ControlRequest::Audit(_) => {
            ControlReply::Audit(Box::new(AuditPage { entries: entries.clone(), next: None, head }))
        }
        _ => refused(RefusedKind::NotFound, "not in this test"),
    }
}

/// A host that was told of all of this record.
fn remembers(entries: &[Entry]) -> impl fake::Answer {
    let mut memory = Memory::default();
    for entry in entries {
        let head = Head { length: entry.seq, hash: entry.hash };
        memory.see(&Told { origin: Origin::of(&entries[0]), head }, 0, entry.at);
    }
    move |request: &ControlRequest| match request {
        ControlRequest::AuditMemory => ControlReply::AuditMemory(Box::new(memory.clone())),
        _ => refused(RefusedKind::NotFound, "not in this test"),
    }
}

const VERIFY: [&str; 2] = ["audit", "--verify"];

/// What one who verifies is told by a coordinator that gives `entries`, and says this of the fleet.
fn told(
    fleet: &Fleet,
    entries: Vec<Entry>,
    says: impl FnOnce(&mut FleetReport),
    arguments: &[&str],
) -> (Option<i32>, String) {
    let last = entries.len();
    let _coordinator = fleet.coordinator(about_fleet(fleet, says, gives(entries, last)));
    let output = fleet.swell(arguments);
    (output.status.code(), text(&output))
}

fn at(member: &Member) -> Option<String> {
    Some(member.address.to_string())
}

/// That nobody signed.
fn removal() -> RemovalReport {
    let (by, reason) = ("eve".parse().unwrap(), "gone".to_owned());
    RemovalReport { statement: None, by, created: now(), reason }
}

#[test]
fn r30_hosts_vouch_for_a_record_and_the_coordinator_does_not() {
    let fleet = Fleet::new();
    let entries = record("token-create", "");
    let hosts = [1, 2].map(|seed| fleet.member(seed, remembers(&entries)));
    let known = |report: &mut FleetReport| {
        report.hosts.iter_mut().zip(&hosts).for_each(|(host, member)| host.address = at(member));
    };
    let (code, said) = told(&fleet, entries.clone(), known, &VERIFY);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("as remembered by n1, n2: 2 of 3 hosts agree"), "{said}");

    // Hosts that cannot be reached, as a coordinator would say that has something to hide.
    let fleet = Fleet::new();
    let gossip =
        Told { origin: Origin::of(&entries[0]), head: Head { length: 5, hash: entries[4].hash } };
    let nowhere = |report: &mut FleetReport| report.audit.told = Some(gossip);
    let (code, said) = told(&fleet, entries.clone(), nowhere, &VERIFY);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("WRONG: nobody vouches for it: of 3 hosts none remembers it"), "{said}");
    let fleet = Fleet::new();
    let nobody = |report: &mut FleetReport| report.hosts.clear();
    let (code, said) = told(&fleet, entries, nobody, &VERIFY);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nobody vouches for it: no host is known here"), "{said}");
}

#[test]
fn r30_hosts_are_asked_whatever_the_coordinator_says_of_them_now() {
    let (old, new) = (record("token-create", ""), record("token-create", " and eve"));
    let leave_out = |report: &mut FleetReport| report.hosts.clear();
    let call_removed = |report: &mut FleetReport| {
        report.hosts.iter_mut().for_each(|host| host.removed = Some(removal()));
    };
    let elsewhere = |report: &mut FleetReport| {
        report.hosts.iter_mut().for_each(|host| host.address = Some("127.0.0.1:9".to_owned()));
    };
    let lies: [&dyn Fn(&mut FleetReport); 3] = [&leave_out, &call_removed, &elsewhere];
    for lie in lies {
        let fleet = Fleet::new();
        let host = fleet.member(1, remembers(&old));
        let seen = |report: &mut FleetReport| report.hosts[0].address = at(&host);
        // Any command that sees the fleet is enough to know of its hosts; later ones see the lie, too.
        let (code, said) = told(&fleet, old.clone(), seen, &["status"]);
        assert_eq!(code, Some(0), "{said}");
        told(&fleet, new.clone(), lie, &["status"]);
        let (code, said) = told(&fleet, new.clone(), lie, &VERIFY);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("hashed anew") && said.contains("as remembered by n1"), "{said}");
    }
}

#[test]
fn r30_a_host_is_not_asked_any_more_once_a_signed_statement_has_removed_it() {
    // First one whose key may not.
    for (key, asked) in [("publisher.key", 1), ("operator.key", 0)] {
        let fleet = Fleet::new();
        let entries = record("token-create", "");
        let hosts = [1, 2].map(|seed| fleet.member(seed, remembers(&entries)));
        let gone = Revocation {
            fleet: fleet.root.fleet.clone(),
            host: fleet.host(2).0.id,
            env: "production".parse().unwrap(),
            author: KeyId::of(&PublicKey::of(&fleet.key(key))),
            created: now(),
            reason: "sold".to_owned(),
            critical: Vec::new(),
        };
        let statement = fleet.sign(&gone, &[key]);
        let id = Envelope::parse(&statement, 1 << 20).unwrap().id();
        let says = |report: &mut FleetReport| {
            report.hosts.iter_mut().zip(&hosts).for_each(|(host, one)| host.address = at(one));
            report.hosts[1].removed = Some(RemovalReport { statement: Some(id), ..removal() });
        };
        let page = gives(entries, 5);
        let holds = move |request: &ControlRequest| match request {
            ControlRequest::Statement { id: wanted } if *wanted == id => {
                ControlReply::Statement { envelope: statement.clone() }
            }
            other => page(other),
        };
        let _coordinator = fleet.coordinator(about_fleet(&fleet, says, holds));
        let output = fleet.swell(&VERIFY);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert_eq!(hosts[1].asked.lock().unwrap().len(), asked, "{key}: {}", text(&output));
    }
}

#[test]
fn r30_a_recovery_is_believed_once_somebody_who_knows_of_it_names_the_record() {
    let fleet = Fleet::new();
    let entries = record("recover", "");
    let host = fleet.member(1, remembers(&entries));
    let seen = |report: &mut FleetReport| report.hosts[0].address = at(&host);
    let (code, said) = told(&fleet, entries.clone(), seen, &VERIFY);
    let record = entries[0].hash;
    let advice = format!("--recovered {record}\n");
    assert!(code == Some(1) && said.contains(&advice), "{said}");
    let record = record.to_string();
    let named = [&VERIFY[..], &["--recovered", &record]].concat();
    let (code, said) = told(&fleet, entries.clone(), seen, &named);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) =
        told(&fleet, entries, seen, &[&VERIFY[..], &["--recovered", "01234567"]].concat());
    assert!(code == Some(1) && said.contains("not the one that --recovered names"), "{said}");
}

#[test]
fn r30_a_record_that_ends_before_the_coordinator_says_is_cut() {
    let fleet = Fleet::new();
    let entries = record("token-create", "");
    let host = fleet.member(1, remembers(&entries[..3]));
    let seen = |report: &mut FleetReport| report.hosts[0].address = at(&host);
    let short = entries[..3].to_vec();
    let last = Head { length: 5, hash: entries[4].hash };
    let page = move |request: &ControlRequest| match request {
        ControlRequest::Audit(_) => ControlReply::Audit(Box::new(AuditPage {
            entries: short.clone(),
            next: None,
            head: last,
        })),
        _ => refused(RefusedKind::NotFound, "not in this test"),
    };
    let _coordinator = fleet.coordinator(about_fleet(&fleet, seen, page));
    for arguments in [&VERIFY[..], &["audit", "--export", "all.jsonl"]] {
        let output = fleet.swell(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains("the record ends with entry 3, its head says 5"), "{said}");
    }
    assert!(!fleet.dir.path().join("all.jsonl").exists());
}
