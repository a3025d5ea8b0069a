//! `swell doctor` over a fleet, and what the daemons' own `doctor` says beside it.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use crate::common::{deploy_and_complete, fleet};

fn told(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

/// There is a line that begins and goes on like this.
fn has_line(text: &str, start: &str, part: &str) {
    let found = text.lines().any(|line| line.starts_with(start) && line.contains(part));
    assert!(found, "{start}...{part} is not in:\n{text}");
}

#[test]
fn a_host_that_stopped_and_a_key_that_others_may_read_are_named() {
    let (_directory, mut cluster) = fleet(3);
    deploy_and_complete(&cluster, "1.0.0", 1);
    let all = told(&cluster.try_swell(&["doctor", "--verbose"]).unwrap(), 0);
    has_line(&all, "good   host-1, host-2, host-3: hosts:", "2 of 2 other hosts are heard");
    has_line(&all, "good   host-1, host-2, host-3: service:", "web: `current` is 1.0.0, whole");
    has_line(&all, "good   ", "this clock goes as those of the others");
    has_line(&all, "good   the coordinator: database:", "takes changes");
    has_line(&all, "1 coordinator and 3 hosts asked: ", " 0 wrong");

    let key = cluster.state_dir(0).join("host.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    cluster.kill_agent(1).unwrap();
    let wrong = told(&cluster.try_swell(&["doctor"]).unwrap(), 1);
    has_line(&wrong, "wrong  host-1: keys: ", "host.key (mode 0644)");
    let address = cluster.agents()[1].address;
    has_line(&wrong, "wrong  host-2: answer: ", &format!("does not answer at {address}:7070"));
    has_line(&wrong, "1 coordinator and 3 hosts asked: ", " 2 wrong");
    // Another one's list has them, too.
    let via = format!("{}:7070", cluster.agents()[2].address);
    let again = told(&cluster.try_swell(&["doctor", "--via", &via]).unwrap(), 1);
    has_line(&again, "1 coordinator and 3 hosts asked: ", " 2 wrong");

    let there = told(&cluster.agent_doctor(0).unwrap(), 1);
    has_line(&there, "wrong  keys: ", "host.key (mode 0644)");
    let pid = cluster.agent_pid(0).unwrap();
    has_line(&there, "good   port: ", &format!("is swell-agent's (process {pid})"));
    let there = told(&cluster.agent_doctor(1).unwrap(), 0);
    has_line(&there, "doubt  port: ", "is free: swell-agent does not run");
    let there = told(&cluster.coordinator_doctor().unwrap(), 0);
    has_line(&there, "good   port: ", "is swell-coordinator's");
}
