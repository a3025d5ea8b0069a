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
    let moment = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = moment.split_once(['T', ' ']).ok_or_else(wrong)?;
    let date = numbers(date, '-', &[4, 2, 2]).ok_or_else(wrong)?;
    let time = numbers(time, ':', &[2, 2]).or_else(|| numbers(time, ':', &[2, 2, 2]));
    let time = time.ok_or_else(wrong)?;
    let (year, month, day) = (date[0], date[1], date[2]);
    let (hour, minute, second) = (time[0], time[1], time.get(2).copied().unwrap_or(0));
    // A day that the calendar does not have would become another one.
    let there = year >= 1970 && (1..=12).contains(&month) && day >= 1;
    if !there || hour >= 24 || minute >= 60 || second >= 60 {
        return Err(wrong());
    }
    let midnight = days_before(year, month, day) * 86_400;
    let same_day = format!("{year:04}-{month:02}-{day:02} 00:00:00");
    match UnixTime(midnight).to_string() == same_day {
        true => Ok(UnixTime(midnight + hour * 3_600 + minute * 60 + second)),
        false => Err(wrong()),
    }
}

/// Numbers with so many digits each.
fn numbers(text: &str, separator: char, digits: &[usize]) -> Option<Vec<u64>> {
    let parts: Vec<_> = text.split(separator).collect();
    let fits = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let all = parts.len() == digits.len()
        && parts.iter().zip(digits).all(|(part, digits)| fits(part, *digits));
    all.then(|| parts.iter().filter_map(|part| part.parse().ok()).collect())
}

/// The days from 1970-01-01 to a date that is not before it.
const fn days_before(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
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

    #[test]
    fn moments_are_read_as_they_are_shown() {
        for seconds in [0, 951_782_399, 951_782_400, 1_735_689_599, 4_107_542_400] {
            let moment = UnixTime(seconds);
            assert_eq!(parse_utc(&moment.to_string()), Ok(moment));
        }
    }

    #[test]
    fn moments_are_read_in_utc_only_and_only_those_there_are() {
        let expected = Ok(UnixTime(1_803_893_400));
        for text in ["2027-03-01 09:30", "2027-03-01T09:30", "2027-03-01T09:30:00Z"] {
            assert_eq!(parse_utc(text), expected, "{text}");
        }
        for bad in [
            "",
            "2027-03-01",
            "09:30",
            "2027-3-1 09:30",
            "2027-03-01 9:30",
            "2027-02-29 09:30",
            "2027-13-01 09:30",
            "2027-00-01 09:30",
            "2027-03-00 09:30",
            "2027-03-01 24:00",
            "2027-03-01 09:60",
            "2027-03-01 09:30+01:00",
            "1969-12-31 23:59",
            "2027-03-01 +9:30",
        ] {
            let why = "must be a moment in UTC, such as 2027-03-01T09:30";
            assert_eq!(parse_utc(bad), Err(format!("{bad:?}: {why}")), "{bad}");
        }
    }
}
