//! Budgets as people write them.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::id::ParseIdError;

/// An absolute number or a percentage, as people write budgets: `3`, `"3"` or `"10%"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    Count(u32),
    /// 0 to 100.
    Percent(f64),
}

impl Share {
    /// How many of `whole` this is, rounded down (R14).
    pub fn of(self, whole: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Self::Percent(percent) => (f64::from(whole) * percent / 100.0) as u32,
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Share {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let share = match text.strip_suffix('%') {
            // `contains` is false for NaN; -0.0 would be shown as such.
            Some(percent) => (percent.trim_end().parse().ok())
                .filter(|percent: &f64| (0.0..=100.0).contains(percent))
                .map(|percent| Self::Percent(percent.abs())),
            None => text.parse().ok().map(Self::Count),
        };
        share.ok_or_else(|| ParseIdError::new("share", "a number or 0% to 100%", text))
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 3 or a share such as \"10%\"")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Share, E> {
                u32::try_from(count)
                    .map(Share::Count)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(count), &self))
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Share, E> {
                u32::try_from(count)
                    .map(Share::Count)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(count), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Share, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Written)
    }
}
