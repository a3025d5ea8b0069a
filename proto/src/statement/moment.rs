//! Moments as people write them.

use super::UnixTime;

impl UnixTime {
    /// A moment in UTC, as `2027-03-01T09:30`; the seconds may be left out, and of those there are only
    /// what the calendar has.
    pub fn parse_utc(text: &str) -> Option<Self> {
        let moment = text.strip_suffix('Z').unwrap_or(text);
        let (date, time) = moment.split_once(['T', ' '])?;
        let date = numbers(date, '-', &[4, 2, 2])?;
        let time = numbers(time, ':', &[2, 2]).or_else(|| numbers(time, ':', &[2, 2, 2]));
        let time = time?;
        let (year, month, day) = (date[0], date[1], date[2]);
        let (hour, minute, second) = (time[0], time[1], time.get(2).copied().unwrap_or(0));
        // A day that the calendar does not have would become another one.
        let there = year >= 1970 && (1..=12).contains(&month) && day >= 1;
        if !there || hour >= 24 || minute >= 60 || second >= 60 {
            return None;
        }
        let midnight = days_before(year, month, day) * 86_400;
        let same_day = format!("{year:04}-{month:02}-{day:02} 00:00:00");
        let moment = Self(midnight + hour * 3_600 + minute * 60 + second);
        (Self(midnight).to_string() == same_day).then_some(moment)
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
    fn moments_are_read_as_they_are_shown() {
        for seconds in [0, 951_782_399, 951_782_400, 1_735_689_599, 4_107_542_400] {
            let moment = UnixTime(seconds);
            assert_eq!(UnixTime::parse_utc(&moment.to_string()), Some(moment));
        }
    }

    #[test]
    fn moments_are_read_in_utc_only_and_only_those_there_are() {
        let expected = Some(UnixTime(1_803_893_400));
        for text in ["2027-03-01 09:30", "2027-03-01T09:30", "2027-03-01T09:30:00Z"] {
            assert_eq!(UnixTime::parse_utc(text), expected, "{text}");
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
            assert_eq!(UnixTime::parse_utc(bad), None, "{bad}");
        }
    }
}
