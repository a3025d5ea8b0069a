//! What serde cannot see: ranges and lengths, each told with its key, its value and its range.

use std::fmt;

/// Notes `key` in `problems` unless `text` has `bytes_max` bytes at most and no control characters:
/// it is shown on terminals and in logs.
pub(super) fn one_line(key: &str, text: &str, bytes_max: usize, problems: &mut Vec<String>) {
    within(key, text.len(), 0..=bytes_max, " bytes", problems);
    if text.chars().any(char::is_control) {
        problems.push(format!("{key}: must be one line without control characters"));
    }
}

/// `Err` with all problems in one line, unless there are none.
pub(super) fn none_of(problems: &[String]) -> Result<(), String> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("; ")),
    }
}

/// Notes `key` in `problems` unless `value` is in `range`.
#[expect(clippy::needless_pass_by_value, reason = "callers write numbers")]
pub fn within<T: PartialOrd + fmt::Display>(
    key: &str,
    value: T,
    range: std::ops::RangeInclusive<T>,
    unit: &str,
    problems: &mut Vec<String>,
) {
    if !range.contains(&value) {
        let (start, end) = range.into_inner();
        problems.push(format!("{key} = {value}{unit}: must be {start} to {end}{unit}"));
    }
}
