//! What every member finds when it looks itself over (`swell doctor`), and what both daemons look at on
//! a machine where they cannot even start.
//!
//! The rules are pure functions of what was seen, so that tables show where each begins to complain.

mod directory;
mod port;

use std::path::Path;
use std::time::Duration;

use durable::SecretError;
use net::SocketFacts;
use net::endpoint::SOCKET_BUFFER_BYTES;
use net::gossip::HOSTS_MAX;
use proto::checkup::{self, Finding, Topic};
use proto::record::HOST_EVERY_MS;
use proto::wire::{ControlReply, ControlRequest};
use rollout::gate::CLOCK_OFF_S_MAX;

use crate::disk::Bytes;
use crate::{Membership, View, chain, clock};

pub use directory::directory;
pub use port::port;

/// A clock that is off by more seconds is in doubt: what others say is up to half a minute old where a
/// member has only just come.
const CLOCK_DOUBT_S: u64 = 60;
/// A receive buffer that holds fewer bytes is in doubt. What the kernel gives where nobody has raised
/// `net.core.rmem_max`, 208 KiB, does.
const RECEIVE_BUFFER_BYTES_MIN: usize = 128 << 10;
/// A process that may have fewer open files is in doubt: what systemd gives does.
const OPEN_FILES_MIN: u64 = 1_024;
/// Checkups under way at a time: each writes to the disk, and a disk may hang.
pub const CHECKUPS_MAX: usize = 2;

/// What a member that runs finds about itself. Blocks on the disk.
pub fn running(member: &Membership, view: &View) -> Vec<Finding> {
    let chain = member.ledger.chain();
    let me = member.gossip.me();
    let mut findings = vec![
        checkup::root(chain.root(), clock::unix()),
        clock_finding(view.clock_ahead_s(me)),
        limits(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default()),
        service_manager(std::env::var_os("NOTIFY_SOCKET").is_some(), sd_notify::watchdog_enabled()),
    ];
    if let Some(ControlReply::Fleet(report)) = view.answer(&ControlRequest::Fleet) {
        let others = report.hosts.iter().filter(|host| host.id != *me && host.removed.is_none());
        let (heard, of) =
            others.fold((0, 0), |(heard, of), host| (heard + u32::from(host.alive), of + 1));
        findings.push(hosts(heard, of));
        findings.extend(room(report.hosts.iter().filter(|host| host.removed.is_none()).count()));
        findings.extend((!report.coordinator_alive).then(no_coordinator));
    }
    findings.extend(member.endpoint.socket_facts().into_iter().flat_map(network));
    findings
}

/// How far this clock is ahead of the others' median (R8).
fn clock_finding(ahead_s: Option<i64>) -> Finding {
    const NEXT: &str = "let a time service set it: `timedatectl` shows whether one does";
    let Some(ahead_s) = ahead_s else {
        return Finding::good(Topic::Clock, "too few others are heard to compare this clock with");
    };
    // Others say theirs now and then: it may be so old.
    if ahead_s.unsigned_abs() <= HOST_EVERY_MS / 1_000 {
        return Finding::good(
            Topic::Clock,
            "this clock goes as those of the others, as far as they tell",
        );
    }
    let way = if ahead_s < 0 { "behind" } else { "ahead of" };
    let what = format!("{} s {way} the median of the others' clocks", ahead_s.unsigned_abs());
    match ahead_s.unsigned_abs() {
        off if off > CLOCK_OFF_S_MAX => {
            Finding::wrong(Topic::Clock, format!("{what}: nothing new starts here"), NEXT)
        }
        off if off > CLOCK_DOUBT_S => Finding::doubt(Topic::Clock, what, NEXT),
        _ => Finding::good(Topic::Clock, what),
    }
}

/// How many of the other hosts are heard. That one or two are not is their own affair.
fn hosts(heard: u32, of: u32) -> Finding {
    let what = format!("{heard} of {of} other hosts are heard");
    let next = "UDP must be open both ways between all members, on the port each advertises";
    match heard {
        0 if of > 0 => Finding::wrong(Topic::Hosts, what, next),
        _ if heard < of.div_ceil(2) => Finding::doubt(Topic::Hosts, what, next),
        _ => Finding::good(Topic::Hosts, what),
    }
}

/// Whether others can still join, told before nobody can.
fn room(hosts: usize) -> Option<Finding> {
    const NEARLY: usize = HOSTS_MAX / 10 * 9;
    let what = format!("{hosts} of the {HOSTS_MAX} hosts that a fleet can have");
    let next = "remove those that are gone (`swell host remove`); for more make a fleet of its own";
    (hosts >= NEARLY).then(|| Finding::doubt(Topic::Hosts, what, next))
}

fn no_coordinator() -> Finding {
    Finding::doubt(
        Topic::Hosts,
        "the coordinator is not heard: nothing is published, nobody joins, no certificate is renewed",
        "start it; the fleet goes on without it",
    )
}

/// What the kernel gives the socket.
fn network(facts: SocketFacts) -> [Finding; 2] {
    let SocketFacts { segments_max, receive_buffer_bytes } = facts;
    let offload = match segments_max {
        0 | 1 => Finding::doubt(
            Topic::Network,
            "no segmentation offload (GSO): sending costs three times the cpu",
            "`ethtool -K INTERFACE tx-udp-segmentation on`, or a network driver that has it",
        ),
        _ => Finding::good(
            Topic::Network,
            format!("segmentation offload (GSO): {segments_max} datagrams a call"),
        ),
    };
    let [bytes, asked] = [receive_buffer_bytes, SOCKET_BUFFER_BYTES].map(|bytes| bytes as u64);
    let what = format!("receive buffer: {}, {} were asked for", Bytes(bytes), Bytes(asked));
    let buffer = match receive_buffer_bytes < RECEIVE_BUFFER_BYTES_MIN {
        true => Finding::doubt(
            Topic::Network,
            what,
            format!("sysctl -w net.core.rmem_max={asked}, and for good below /etc/sysctl.d"),
        ),
        false => Finding::good(Topic::Network, what),
    };
    [offload, buffer]
}

/// Limits of a process, as `/proc/PID/limits` tells them.
fn limits(text: &str) -> Finding {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    match soft.map(str::parse::<u64>) {
        Some(Ok(files)) if files < OPEN_FILES_MIN => Finding::doubt(
            Topic::Limits,
            format!("{files} open files, {OPEN_FILES_MIN} should be allowed"),
            "raise LimitNOFILE of the unit, or `ulimit -n` of whatever starts it",
        ),
        Some(Ok(files)) => Finding::good(Topic::Limits, format!("{files} open files are allowed")),
        Some(Err(_)) | None => Finding::good(Topic::Limits, "no limit of open files is told"),
    }
}

/// Whether somebody starts the daemon anew.
fn service_manager(told: bool, watchdog: Option<Duration>) -> Finding {
    match (told, watchdog) {
        (true, Some(limit)) => Finding::good(
            Topic::ServiceManager,
            format!(
                "a service manager is told how it is, with a watchdog of {} s",
                limit.as_secs()
            ),
        ),
        (true, None) => Finding::good(Topic::ServiceManager, "a service manager is told how it is"),
        (false, _) => Finding::doubt(
            Topic::ServiceManager,
            "no service manager is told how it is (no NOTIFY_SOCKET): who starts it anew?",
            "run it by its unit, `systemctl enable --now`, which Debian packages bring along",
        ),
    }
}

/// What is wrong with a configuration file, a finding each.
pub fn config_problems(path: &Path, problems: &[String], next: &str) -> Vec<Finding> {
    let shown = path.display();
    let finding =
        |problem| Finding::wrong(Topic::Config, format!("{shown}: {problem}"), next.to_owned());
    problems.iter().map(finding).collect()
}

/// Why a key file of a daemon cannot be used.
pub fn key_file(error: &SecretError) -> Finding {
    let SecretError::Open { path, mode } = error else {
        let next = "it must be there, and belong to the user that the daemon runs as";
        return Finding::wrong(Topic::Keys, chain(error), next);
    };
    let path = path.display();
    Finding::wrong(
        Topic::Keys,
        format!("others than its owner may use {path} (mode {mode:04o})"),
        format!("chmod 600 {path}; whoever may have read it has the key: make a new one then"),
    )
}

#[cfg(test)]
mod tests {
    use proto::checkup::Grade::{self, Doubt, Good, Wrong};

    use super::*;

    fn is(finding: &Finding, grade: Grade, text: &str) {
        assert_eq!(finding.grade, grade, "{finding}");
        assert!(finding.what.contains(text), "{finding}");
        assert_eq!(finding.next.is_empty(), grade == Good, "{finding}");
    }

    #[test]
    fn r8_clocks_table() {
        let cases = [
            (None, Good, "too few"),
            (Some(0), Good, "goes as those of the others"),
            (Some(-30), Good, "goes as those of the others"),
            (Some(31), Good, "31 s ahead of the median"),
            (Some(60), Good, "60 s ahead"),
            (Some(-61), Doubt, "61 s behind"),
            (Some(120), Doubt, "120 s ahead"),
            (
                Some(-121),
                Wrong,
                "121 s behind the median of the others' clocks: nothing new starts",
            ),
            (Some(i64::MIN), Wrong, "behind"),
        ];
        for (ahead_s, grade, text) in cases {
            is(&clock_finding(ahead_s), grade, text);
        }
    }

    #[test]
    fn a_fleet_that_is_nearly_full_is_told_of() {
        assert_eq!(room(HOSTS_MAX / 10 * 9 - 1), None);
        is(&room(240).expect("told"), Doubt, "240 of the 256 hosts");
    }

    #[test]
    fn hosts_table() {
        let cases = [
            (0, 0, Good),
            (0, 1, Wrong),
            (1, 1, Good),
            (1, 2, Good),
            (1, 3, Doubt),
            (2, 3, Good),
            (0, 250, Wrong),
            (124, 250, Doubt),
            (249, 250, Good),
        ];
        for (heard, of, grade) in cases {
            is(&hosts(heard, of), grade, &format!("{heard} of {of} other hosts"));
        }
        is(&no_coordinator(), Doubt, "coordinator is not heard");
    }

    #[test]
    fn networks_table() {
        let grades = |segments_max, receive_buffer_bytes| {
            network(SocketFacts { segments_max, receive_buffer_bytes }).map(|found| found.grade)
        };
        assert_eq!(grades(64, SOCKET_BUFFER_BYTES), [Good, Good]);
        assert_eq!(grades(2, 212_992), [Good, Good], "as a kernel is by default");
        assert_eq!(grades(1, RECEIVE_BUFFER_BYTES_MIN), [Doubt, Good]);
        assert_eq!(grades(64, RECEIVE_BUFFER_BYTES_MIN - 1), [Good, Doubt]);
        let facts = SocketFacts { segments_max: 1, receive_buffer_bytes: 65_536 };
        let [offload, buffer] = network(facts);
        is(&offload, Doubt, "no segmentation offload");
        is(&buffer, Doubt, "64.0 KiB, 4.0 MiB were asked for");
    }

    #[test]
    fn limits_table() {
        let text = |files: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max core file size        0                    unlimited            bytes     \n\
                 Max open files            {files}              524288               files     \n"
            )
        };
        is(&limits(&text("1023")), Doubt, "1023 open files, 1024");
        is(&limits(&text("1024")), Good, "1024 open files are allowed");
        is(&limits(&text("unlimited")), Good, "no limit");
        is(&limits(""), Good, "no limit");
        let own = std::fs::read_to_string("/proc/self/limits").unwrap();
        assert!(limits(&own).what.contains("open files"), "{own}");
    }

    #[test]
    fn service_managers_table() {
        is(&service_manager(true, Some(Duration::from_secs(60))), Good, "watchdog of 60 s");
        is(&service_manager(true, None), Good, "is told");
        is(&service_manager(false, None), Doubt, "no NOTIFY_SOCKET");
    }

    #[test]
    fn a_key_that_others_may_read_is_named() {
        let path = "/etc/groundswell/coordinator/admit.key".into();
        let found = key_file(&SecretError::Open { path, mode: 0o644 });
        is(&found, Wrong, "admit.key (mode 0644)");
        assert!(found.next.starts_with("chmod 600 /etc/groundswell/coordinator/admit.key"));
    }
}
