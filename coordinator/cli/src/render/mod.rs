//! What people read: pure functions from reports to text. Nothing here asks or prints.

pub(crate) mod audit;
pub(crate) mod disk;
pub(crate) mod doctor;
pub(crate) mod dora;
pub(crate) mod events;
pub(crate) mod evidence;
mod fetching;
pub(crate) mod fleet;
pub(crate) mod freeze;
pub(crate) mod live;
pub(crate) mod notify;
pub(crate) mod plan;
pub(crate) mod rollout;
#[cfg(test)]
pub(crate) mod sample;

use proto::id::{Name, Service, Version};
use proto::report::DriftReport;
use proto::statement::Direction;

/// Text that other machines wrote, fit for a terminal: no control characters.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Columns as wide as their widest cell, two spaces between, no spaces at the end of a line.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = header.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: [&str; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(header)).chain(body).collect()
}

/// `1.2.0 -> 1.3.0`; `(none) -> 1.0.0` for a first deployment.
pub(crate) fn change(from: Option<&Version>, to: &Version) -> String {
    match from {
        Some(from) => format!("{from} -> {to}"),
        None => format!("(none) -> {to}"),
    }
}

/// The direction as a word.
pub(crate) const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "forward",
        Direction::Rollback => "rollback",
    }
}

/// A line about a service of a host that is not what was released any more.
pub(crate) fn drift(service: &Service, host: &Name, drift: &DriftReport) -> String {
    let more = match drift.found {
        1 => String::new(),
        found => format!(", first of {found}"),
    };
    format!("drift: {service} on {host}: {}{more}\n", plain(&drift.first))
}

pub(crate) const fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_and_lines_have_no_tail() {
        let rows = [["a".to_owned(), "long cell".to_owned()], ["bcd".to_owned(), String::new()]];
        assert_eq!(table(["ONE", "TWO"], &rows), "ONE  TWO\na    long cell\nbcd\n");
    }

    #[test]
    fn what_a_host_says_cannot_steer_the_terminal() {
        assert_eq!(plain("ok\u{1b}[2J\r\ngone\u{9b}x"), "ok [2J  gone x");
    }
}
