//! `doctor`: who is asked, what of the answers is shown, and how it ends.

use std::os::unix::fs::PermissionsExt;

use proto::checkup::{Finding, Topic};

use super::verbs::about_fleet;
use super::*;

/// Answers about itself with these findings.
fn finds(findings: Vec<Finding>) -> impl fake::Answer {
    move |request: &ControlRequest| match request {
        ControlRequest::Checkup => ControlReply::Checkup(findings.clone()),
        _ => refused(RefusedKind::NotFound, "not in this test"),
    }
}

fn well() -> Vec<Finding> {
    vec![Finding::good(Topic::Clock, "0 s ahead")]
}

fn in_doubt() -> Vec<Finding> {
    vec![Finding::doubt(Topic::Disk, "/srv: 900.0 MiB free", "make room")]
}

/// Leaves on this machine what belongs here.
fn tidy_up(fleet: &Fleet) {
    for file in ["root.key", "coordinator/admit.key", "coordinator/host-ca.key"] {
        std::fs::remove_file(fleet.dir.path().join(file)).unwrap();
    }
}

/// Hosts `n1` to `n3` at these addresses.
fn at(addresses: [Option<String>; 3]) -> impl FnOnce(&mut FleetReport) {
    move |seen| {
        for (host, address) in seen.hosts.iter_mut().zip(addresses) {
            host.address = address;
        }
    }
}

fn address(member: &Member) -> Option<String> {
    Some(member.address.to_string())
}

#[test]
fn a_fleet_that_is_well_ends_with_0_and_one_line() {
    let fleet = Fleet::new();
    let hosts = [1, 2, 3].map(|seed| fleet.member(seed, finds(well())));
    let known = at(hosts.each_ref().map(address));
    let _coordinator = fleet.coordinator(about_fleet(&fleet, known, finds(well())));
    let told = fleet.swell(&["doctor"]);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told));
    // The keys that `init` has made, and that nobody has taken where they belong yet.
    assert_eq!(text(&told).matches("doubt  this machine: keys: ").count(), 3, "{}", text(&told));
    tidy_up(&fleet);
    let told = fleet.swell(&["doctor"]);
    assert_eq!(
        (told.status.code(), text(&told).as_str()),
        (Some(0), "1 coordinator and 3 hosts asked: 4 well, 0 in doubt, 0 wrong\n")
    );
    let told = text(&fleet.swell(&["doctor", "--verbose", "n2"]));
    assert!(told.contains("good   the coordinator, n2: clock: 0 s ahead\n"), "{told}");
    assert!(told.ends_with("1 coordinator and 1 host asked: 2 well, 0 in doubt, 0 wrong\n"));
    assert!(hosts[0].asked.lock().unwrap().len() == 2, "n1 was not asked the third time");
}

#[test]
fn what_is_wrong_is_named_wherever_it_is() {
    let fleet = Fleet::new();
    let first = fleet.member(1, finds(in_doubt()));
    // Where nobody listens, and where nobody was ever heard.
    let known = at([address(&first), Some("127.0.0.1:9".to_owned()), None]);
    let coordinator = fleet.coordinator(about_fleet(&fleet, known, finds(in_doubt())));
    tidy_up(&fleet);
    let publisher = fleet.dir.path().join("publisher.key");
    let secret = std::fs::read_to_string(&publisher).unwrap();
    std::fs::set_permissions(&publisher, PermissionsExt::from_mode(0o644)).unwrap();

    let told = fleet.swell(&["doctor"]);
    assert_eq!(told.status.code(), Some(1), "{}", text(&told));
    for part in [
        "wrong  n2: answer: does not answer at 127.0.0.1:9 within 5 s\n       next: UDP 9 must be",
        "wrong  n3: answer: was never heard",
        "publisher.key (mode 0644)\n       next: chmod 600 ",
        "doubt  the coordinator, n1: disk: /srv: 900.0 MiB free\n       next: make room\n",
        "1 coordinator and 3 hosts asked: 0 well, 2 in doubt, 2 wrong\n",
    ] {
        assert!(text(&told).contains(part), "{part}: {}", text(&told));
    }
    assert!(!text(&told).contains(secret.trim()), "no finding has a secret");
    let told = fleet.swell(&["doctor", "--json", "n1"]);
    let json: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(json["hosts"][0]["grade"], "doubt", "{json}");
    assert_eq!(json["hosts"][0]["findings"][0]["topic"], "disk", "{json}");
    assert_eq!(json["coordinator"]["address"], coordinator.address.to_string(), "{json}");
    assert_eq!(told.status.code(), Some(1), "the key here is wrong still");
    let unknown = fleet.swell(&["doctor", "n9"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", text(&unknown));
}

#[test]
fn without_the_coordinator_hosts_are_asked_that_were_seen_before_or_that_a_host_knows() {
    let fleet = Fleet::new();
    let first = fleet.member(1, finds(well()));
    let known = at([address(&first), None, None]);
    let coordinator = fleet.coordinator(about_fleet(&fleet, known, finds(well())));
    assert_eq!(fleet.swell(&["hosts"]).status.code(), Some(0), "it remembers them");
    drop(coordinator);
    let told = fleet.swell(&["doctor", "n1"]);
    assert_eq!(told.status.code(), Some(1), "{}", text(&told));
    for part in [
        "wrong  the coordinator: answer: does not answer at ",
        "doubt  this machine: hosts: the list of hosts is the one of ",
        "1 coordinator and 1 host asked: 1 well, 0 in doubt, 1 wrong\n",
    ] {
        assert!(text(&told).contains(part), "{part}: {}", text(&told));
    }
    // Nothing of a list is needed for one whose address is given.
    std::fs::remove_file(fleet.dir.path().join("hosts.json")).unwrap();
    let told = text(&fleet.swell(&["doctor", &first.address.to_string()]));
    assert!(told.contains("1 coordinator and 1 host asked: 1 well, 0 in doubt, 1 wrong"), "{told}");
    // A host that knows the others, itself among them.
    let known = at([None, address(&first), None]);
    let other = fleet.member(3, about_fleet(&fleet, known, finds(well())));
    let told = fleet.swell(&["doctor", "--via", &other.address.to_string(), "n1", "n3"]);
    let closing = "1 coordinator and 2 hosts asked: 0 well, 0 in doubt, 3 wrong\n";
    assert!(text(&told).contains(closing), "{}", text(&told));
    // All is well but that the coordinator is gone: whoever scripts this must learn it.
    let known = at([address(&first), None, None]);
    let other = fleet.member(3, about_fleet(&fleet, known, finds(well())));
    tidy_up(&fleet);
    let told = fleet.swell(&["doctor", "--via", &other.address.to_string(), "n1"]);
    assert_eq!(told.status.code(), Some(1), "{}", text(&told));
    assert!(text(&told).contains("wrong  the coordinator: answer: does not answer"), "{told:?}");
    assert!(text(&told).contains("host asked: 1 well, 0 in doubt, 1 wrong\n"), "{}", text(&told));
}

#[test]
fn a_host_that_knows_no_checkup_is_in_doubt_and_one_that_is_another_is_wrong() {
    let fleet = Fleet::new();
    let old = fleet.member(1, |_: &ControlRequest| ControlReply::Done);
    let busy = fleet.member(2, |_: &ControlRequest| refused(RefusedKind::Busy, "others look"));
    // Host 1 answers where host 3 should be.
    let known = at([address(&old), address(&busy), address(&old)]);
    let _coordinator = fleet.coordinator(about_fleet(&fleet, known, finds(well())));
    tidy_up(&fleet);
    let told = text(&fleet.swell(&["doctor"]));
    for part in [
        "doubt  n1: answer: lets swell in, and gives no answer that can be read",
        "doubt  n2: answer: others look",
        "wrong  n3: answer: cannot reach n3 ",
        "1 coordinator and 3 hosts asked: 1 well, 2 in doubt, 1 wrong\n",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn without_a_key_that_can_be_used_nobody_is_asked() {
    let fleet = Fleet::new();
    tidy_up(&fleet);
    let operator = fleet.dir.path().join("operator.key");
    std::fs::set_permissions(&operator, PermissionsExt::from_mode(0o640)).unwrap();
    let told = fleet.swell(&["doctor"]);
    assert_eq!(told.status.code(), Some(1));
    let told = text(&told);
    assert!(told.contains("wrong  this machine: keys: others than its owner may use "), "{told}");
    assert!(told.ends_with("nobody was asked\n") && told.matches("wrong").count() == 1, "{told}");
    for key in ["operator.key", "publisher.key"] {
        std::fs::remove_file(fleet.dir.path().join(key)).unwrap();
    }
    let told = text(&fleet.swell(&["doctor"]));
    assert!(told.contains("the operator key is not in "), "{told}");
    std::fs::write(fleet.dir.path().join("operator.toml"), "fleet = 3").unwrap();
    let told = text(&fleet.swell(&["doctor"]));
    assert!(told.contains("wrong  this machine: config: ") && told.contains("malformed"), "{told}");
}
