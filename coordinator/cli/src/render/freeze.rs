//! Freezes and holds as text.

use proto::id::HostId;
use proto::report::{FleetReport, FreezeReport};

use super::plain;

/// `until 2027-03-01 09:30:00 UTC (by ada: audit)`.
pub(crate) fn until(freeze: &FreezeReport) -> String {
    let reason = match freeze.reason.is_empty() {
        true => String::new(),
        false => format!(": {}", plain(&freeze.reason)),
    };
    format!("until {} UTC (by {}{reason})", freeze.until, freeze.by)
}

/// What is in force, a line each: `frozen: production until ...`, `held: n1 in production until ...`.
pub(crate) fn lines(report: &FleetReport) -> String {
    let name = |id: &HostId| {
        let host = report.hosts.iter().find(|host| host.id == *id);
        host.map_or_else(|| id.to_string(), |host| host.name.to_string())
    };
    let line = |freeze: &FreezeReport| match &freeze.host {
        None => format!("frozen: {} {}\n", freeze.env, until(freeze)),
        Some(host) => format!("held: {} in {} {}\n", name(host), freeze.env, until(freeze)),
    };
    report.freezes.iter().filter(|freeze| freeze.in_force).map(line).collect()
}
