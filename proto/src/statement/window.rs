//! Weekly times in which something new may start.

use std::fmt;
use std::str::FromStr;

use super::UnixTime;
use crate::id::{ParseIdError, serde_as_text};

/// Windows of one rollout.
pub const WINDOWS_MAX: usize = 16;

const MINUTES_A_DAY: u16 = 24 * 60;
const MINUTES_A_WEEK: u32 = 7 * MINUTES_A_DAY as u32;
/// 1970-01-01 was a Thursday: so many minutes after the Monday before it.
const EPOCH_MINUTE: u64 = 3 * MINUTES_A_DAY as u64;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A time that comes every week, in UTC, as people write it: `mon-fri 09:00-17:00`,
/// `sat,sun 22:00-02:00` (over midnight: it belongs to the day on which it opens), `mon 00:00-24:00`.
///
/// UTC, since a time zone's clock shows some times twice a year and some never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// Bit 0 is Monday; at least one is set.
    days: u8,
    /// Minute of the day at which it opens, below a day's.
    opens: u16,
    /// How long it is open, in minutes: 1 to a day's.
    minutes: u16,
}

impl Window {
    /// Whether it is open at `time`.
    pub fn contains(self, time: UnixTime) -> bool {
        let now = minute_of_week(time);
        self.openings().any(|opens| since(opens, now) < u32::from(self.minutes))
    }

    /// When it opens next; `time` itself where it is open.
    pub fn next_open(self, time: UnixTime) -> UnixTime {
        if self.contains(time) {
            return time;
        }
        let now = minute_of_week(time);
        let wait = self.openings().map(|opens| since(now, opens)).min().unwrap_or(0);
        // Counted from the start of the minute that `time` is in.
        UnixTime((time.0 / 60).saturating_add(u64::from(wait)).saturating_mul(60))
    }

    /// When it closes next: the end of the opening that `time` is in, else of the next one.
    pub fn next_close(self, time: UnixTime) -> UnixTime {
        let opens = self.next_open(time);
        let now = minute_of_week(opens);
        let open = u32::from(self.minutes);
        let left = self.openings().map(|start| open.saturating_sub(since(start, now))).max();
        UnixTime((opens.0 / 60).saturating_add(u64::from(left.unwrap_or(0))).saturating_mul(60))
    }

    /// The minutes of the week at which it opens.
    fn openings(self) -> impl Iterator<Item = u32> {
        let on = (0..7_u32).filter(move |day| self.days & (1 << day) != 0);
        on.map(move |day| day * u32::from(MINUTES_A_DAY) + u32::from(self.opens))
    }
}

fn minute_of_week(time: UnixTime) -> u32 {
    let minute = (time.0 / 60 + EPOCH_MINUTE) % u64::from(MINUTES_A_WEEK);
    u32::try_from(minute).expect("below a week's minutes")
}

/// Minutes from one minute of the week to the next time it is the other.
const fn since(from: u32, to: u32) -> u32 {
    (to + MINUTES_A_WEEK - from) % MINUTES_A_WEEK
}

// --- text ---

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on: Vec<usize> = (0..7).filter(|day| self.days & (1 << day) != 0).collect();
        let mut rest = &on[..];
        let mut separator = "";
        while let Some(first) = rest.first() {
            // Three days or more in a row are written as a span.
            let row = rest.iter().zip(*first..).take_while(|(day, next)| *day == next).count();
            let last = first + row - 1;
            match row {
                1 => write!(f, "{separator}{}", DAYS[*first])?,
                2 => write!(f, "{separator}{},{}", DAYS[*first], DAYS[last])?,
                _ => write!(f, "{separator}{}-{}", DAYS[*first], DAYS[last])?,
            }
            separator = ",";
            rest = &rest[row..];
        }
        let ends = self.opens + self.minutes;
        let closes = if ends > MINUTES_A_DAY { ends - MINUTES_A_DAY } else { ends };
        write!(
            f,
            " {:02}:{:02}-{:02}:{:02}",
            self.opens / 60,
            self.opens % 60,
            closes / 60,
            closes % 60
        )
    }
}

impl FromStr for Window {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| {
            ParseIdError::new("window", "days and times in UTC: \"mon-fri 09:00-17:00\"", text)
        })
    }
}

serde_as_text!(Window, |window| window.to_string());

fn parse(text: &str) -> Option<Window> {
    let (days, times) = text.split_once(' ')?;
    let days = days.split(',').try_fold(0_u8, |days, span| Some(days | parse_days(span)?))?;
    let (opens, closes) = times.split_once('-')?;
    let (opens, closes) = (parse_time(opens)?, parse_time(closes)?);
    if opens == MINUTES_A_DAY {
        return None;
    }
    let minutes = match closes > opens {
        true => closes - opens,
        false => closes + MINUTES_A_DAY - opens,
    };
    // The same time twice could mean a whole day or nothing.
    (closes != opens).then_some(Window { days, opens, minutes })
}

/// A day, or a span of days that may run over the end of the week.
fn parse_days(text: &str) -> Option<u8> {
    let day = |text: &str| DAYS.iter().position(|day| *day == text);
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (day(first)?, day(last)?),
        None => (day(text)?, day(text)?),
    };
    let length = (last + 7 - first) % 7;
    Some((0..=length).fold(0, |days, step| days | 1 << ((first + step) % 7)))
}

/// `HH:MM`, up to 24:00.
fn parse_time(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = 60 * hours + minutes;
    (minutes < 60 && minute <= MINUTES_A_DAY).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23, a Monday, 00:00 UTC.
    const MONDAY: u64 = 1_795_392_000;

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    fn at(day: u64, hour: u64, minute: u64) -> UnixTime {
        UnixTime(MONDAY + day * 86_400 + hour * 3_600 + minute * 60)
    }

    #[test]
    fn a_window_is_open_on_its_days_from_its_first_minute_to_before_its_last() {
        let office = window("mon-fri 09:00-17:00");
        let rows = [
            (at(0, 8, 59), false),
            (at(0, 9, 0), true),
            (at(4, 16, 59), true),
            (at(4, 17, 0), false),
            (at(5, 12, 0), false),
            (at(7, 12, 0), true),
        ];
        for (time, open) in rows {
            assert_eq!(office.contains(time), open, "{time:?}");
        }
    }

    #[test]
    fn over_midnight_it_belongs_to_the_day_on_which_it_opens() {
        let night = window("sun 22:00-02:00");
        assert!(night.contains(at(6, 23, 0)), "sunday night");
        assert!(night.contains(at(7, 1, 59)), "monday, over the end of the week");
        assert!(!night.contains(at(7, 2, 0)));
        assert!(!night.contains(at(5, 23, 0)), "saturday night");
        assert!(window("wed 00:00-24:00").contains(at(2, 23, 59)));
    }

    #[test]
    fn the_next_opening_is_found_over_days_and_weeks() {
        let office = window("mon-fri 09:00-17:00");
        assert_eq!(office.next_open(at(0, 10, 30)), at(0, 10, 30), "open now");
        assert_eq!(office.next_open(UnixTime(at(0, 8, 59).0 + 59)), at(0, 9, 0));
        assert_eq!(office.next_open(at(4, 17, 0)), at(7, 9, 0), "over the weekend");
        assert_eq!(window("mon 09:00-10:00").next_open(at(0, 10, 0)), at(7, 9, 0), "a week on");
    }

    #[test]
    fn it_closes_at_the_end_of_the_opening_that_is_or_comes() {
        let office = window("mon-fri 09:00-17:00");
        assert_eq!(office.next_close(UnixTime(at(0, 10, 30).0 + 5)), at(0, 17, 0), "open now");
        assert_eq!(office.next_close(at(4, 17, 0)), at(7, 17, 0), "over the weekend");
        let night = window("sun 22:00-02:00");
        assert_eq!(night.next_close(at(7, 1, 59)), at(7, 2, 0), "over the end of the week");
        assert_eq!(night.next_close(at(6, 0, 0)), at(7, 2, 0), "before it opens");
        assert_eq!(window("mon,tue 00:00-24:00").next_close(at(0, 5, 0)), at(1, 0, 0));
    }

    #[test]
    fn what_is_written_is_read_and_written_again() {
        let rows = [
            ("mon-fri 09:00-17:00", "mon-fri 09:00-17:00"),
            ("fri-mon 22:00-02:00", "mon,fri-sun 22:00-02:00"),
            ("sun,mon 00:00-24:00", "mon,sun 00:00-24:00"),
            ("mon,tue 23:59-00:00", "mon,tue 23:59-24:00"),
            ("wed,wed 01:00-02:00", "wed 01:00-02:00"),
        ];
        for (written, canonical) in rows {
            assert_eq!(window(written).to_string(), canonical);
            assert_eq!(window(canonical), window(written), "{canonical}");
        }
        for bad in [
            "",
            "mon",
            "mon ",
            "mon 9:00-17:00",
            "mon 09:00",
            "mon 09:00-25:00",
            "mon 24:00-01:00",
            "mon 09:60-10:00",
            "mo 09:00-10:00",
            "mon-fri 09:00-09:00",
            "mon- 09:00-10:00",
            "mon  09:00-10:00",
            "MON 09:00-10:00",
            "mon 09:00-10:00 ",
            "mon +9:00-10:00",
        ] {
            assert!(bad.parse::<Window>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_far_away_do_no_harm() {
        let window = window("thu 00:00-00:01");
        assert!(window.contains(UnixTime(0)));
        assert!(!window.contains(UnixTime(u64::MAX)) || window.contains(UnixTime(u64::MAX)));
        let _ = window.next_open(UnixTime(u64::MAX));
        let _ = window.next_close(UnixTime(u64::MAX));
    }
}
