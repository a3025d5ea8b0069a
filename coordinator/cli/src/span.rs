//! Times and sizes as people write and read them.

use std::time::Duration;

use proto::statement::UnixTime;

/// Reads `90s`, `15m`, `1h` or `7d`.
///
/// # Errors
///
/// A line for people that says the form.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?}: must be a number and s, m, h or d, such as 90s or 1h");
    let unit_s = match text.bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        Some(b'd') => 86_400,
        _ => return Err(wrong()),
    };
    let count = &text[..text.len() - 1];
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let seconds = count.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_s));
    // Beyond a century nobody means it, and sums of such times would overflow.
    match seconds {
        Some(seconds @ 1..=3_200_000_000) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("{text:?}: must be 1 second to 100 years")),
    }
}

/// `45 s`, `5 min`, `1 h 30 min`, `2 d 3 h`: the two largest units that are not 0.
pub(crate) fn show(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit_s, name) in units {
        if rest >= unit_s {
            parts.push(format!("{} {name}", rest / unit_s));
            rest %= unit_s;
        }
    }
    parts.truncate(2);
    match parts.is_empty() {
        true => "0 s".to_owned(),
        false => parts.join(" "),
    }
}

/// `512 B`, `12.3 KiB`, `64.0 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut shown = "B";
    for unit in units {
        if value < 1_023.95 {
            break;
        }
        (value, shown) = (value / 1_024.0, unit);
    }
    format!("{value:.1} {shown}")
}

/// `1 host`, `2 hosts`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Reads a moment in UTC: `2027-03-01 09:30`, also with a `T` between, with seconds, with a `Z`.
///
/// # Errors
///
/// A line for people that says the form.
pub(crate) fn parse_utc(text: &str) -> Result<UnixTime, String> {
    let wrong = || format!("{text:?}: must be a moment in UTC, such as 2027-03-01T09:30");
    UnixTime::parse_utc(text).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_one_form() {
        let good = [("1s", 1), ("90s", 90), ("15m", 900), ("1h", 3_600), ("7d", 604_800)];
        for (text, seconds) in good {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        let form = "must be a number and s, m, h or d, such as 90s or 1h";
        let range = "must be 1 second to 100 years";
        let bad = [
            ("", form),
            ("s", form),
            ("1", form),
            ("1.5h", form),
            ("-1h", form),
            ("+1h", form),
            ("1 h", form),
            ("1hé", form),
            ("0s", range),
            ("99999999999999999999d", range),
            ("200000000000000000d", range),
        ];
        for (text, why) in bad {
            assert_eq!(parse(text), Err(format!("{text:?}: {why}")), "{text}");
        }
    }

    #[test]
    fn times_are_shown_in_two_units() {
        let cases = [
            (0, "0 s"),
            (45, "45 s"),
            (60, "1 min"),
            (90, "1 min 30 s"),
            (5_400, "1 h 30 min"),
            (86_400 + 3_600 + 61, "1 d 1 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(show(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn sizes_are_shown_with_one_decimal() {
        let cases = [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (64 << 20, "64.0 MiB"),
            (5 << 40, "5.0 TiB"),
            (u64::MAX, "16777216.0 TiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text, "{count}");
        }
    }
}
