//! How this host is: what is a reason to start nothing new on it now, and evidence afterwards.
//!
//! A release that is started on a host without memory fails for the host's reason, and takes down what
//! still runs. So nothing new starts there until that has passed; what goes back, or is taken back by an
//! operator, does not ask.

use std::fmt;

use sysinfo::System;

/// Less memory available than both, in percent of all and in bytes: a start needs some before the old
/// release's is gone everywhere, and below it the kernel is about to kill something. A share alone says
/// little: 4 % of a large host are many times what a start needs.
const AVAILABLE_PERCENT_MIN: u8 = 5;
const AVAILABLE_BYTES_MIN: u64 = 512 << 20;
/// More of the last minute in which something waited for memory, in percent: the host does little but
/// move pages then, and nothing that starts would be ready in time.
const STALLED_PERCENT_MAX: u8 = 40;
/// Pressure stall information of the kernel; not everywhere.
const STALLS: &str = "/proc/pressure/memory";

/// How a host is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Memory that could be had now, in percent of all.
    pub available_percent: u8,
    /// The same, in bytes.
    pub available_bytes: u64,
    /// How much of the last minute something waited for memory, in percent; 0 where the kernel does not
    /// say.
    pub stalled_percent: u8,
    /// Of the last minute.
    pub load: f64,
}

/// Of a host that has all it needs.
impl Default for Load {
    fn default() -> Self {
        Self { available_percent: 100, available_bytes: u64::MAX, stalled_percent: 0, load: 0.0 }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { available_percent, stalled_percent, load, .. } = self;
        write!(
            f,
            "{available_percent} % of memory available, stalled {stalled_percent} % of a minute"
        )?;
        write!(f, ", load {load:.2}")
    }
}

impl Load {
    /// Of this machine, now.
    pub fn of_this_machine() -> Self {
        let available = System::new().map(|mut system| {
            system.refresh_memory();
            (system.available_memory(), system.total_memory())
        });
        // What cannot be told is no reason to hold anything.
        let (available_bytes, all_bytes) = available.unwrap_or((u64::MAX, u64::MAX));
        let stalls = std::fs::read_to_string(STALLS).unwrap_or_default();
        Self {
            available_percent: percent(available_bytes, all_bytes),
            available_bytes,
            stalled_percent: stalled_percent(&stalls).unwrap_or(0),
            load: System::load_average().map_or(0.0, |load| load.one),
        }
    }

    /// Whether there is too little memory to start anything.
    pub fn is_short(&self) -> bool {
        let Self { available_percent, available_bytes, stalled_percent, .. } = *self;
        let little =
            available_percent < AVAILABLE_PERCENT_MIN && available_bytes < AVAILABLE_BYTES_MIN;
        little || stalled_percent > STALLED_PERCENT_MAX
    }
}

/// All of it where nobody knows how much there is.
fn percent(part: u64, whole: u64) -> u8 {
    let percent = part.saturating_mul(100).checked_div(whole).unwrap_or(100);
    u8::try_from(percent.min(100)).unwrap_or(100)
}

/// `avg60` of the line `some`.
fn stalled_percent(text: &str) -> Option<u8> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let share = line.split(' ').find_map(|word| word.strip_prefix("avg60="))?;
    share.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(available_percent: u8, available_mib: u64, stalled_percent: u8) -> Load {
        Load {
            available_percent,
            available_bytes: available_mib << 20,
            stalled_percent,
            load: 99.0,
        }
    }

    #[test]
    fn what_is_short_table() {
        let cases = [
            (100, 4_096, 0, false),
            (5, 100, 40, false),
            (4, 511, 0, true),
            (0, 0, 0, true),
            // A large host, or one whose memory is set aside for a database.
            (4, 512, 0, false),
            (4, 45 << 10, 40, false),
            (50, 8_192, 41, true),
            (50, 8_192, 100, true),
        ];
        for (available, mib, stalled, short) in cases {
            let is_short = load(available, mib, stalled).is_short();
            assert_eq!(is_short, short, "{available} {mib} {stalled}");
        }
        assert!(!Load::default().is_short());
        let shown = load(4, 100, 7).to_string();
        assert_eq!(shown, "4 % of memory available, stalled 7 % of a minute, load 99.00");
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let text = "some avg10=0.00 avg60=41.93 avg300=0.50 total=9\nfull avg10=0.00 avg60=90.00\n";
        assert_eq!(stalled_percent(text), Some(41));
        for text in ["", "full avg60=90.00", "some avg10=1.00", "some avg60=", "some avg60=x.1"] {
            assert_eq!(stalled_percent(text), None, "{text}");
        }
        assert_eq!((percent(1, 3), percent(9, 0), percent(u64::MAX, 1)), (33, 100, 100));
        let here = Load::of_this_machine();
        assert!((1..=100).contains(&here.available_percent), "{here}");
    }
}
