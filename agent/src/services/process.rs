//! Which process is meant: a process id alone may have been given to another since.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// This boot of this machine: no two have the same id. Empty where there is no telling.
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// A process that leads its process group, told apart from any other that ever had its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    pid: Pid,
    /// In clock ticks since the boot.
    started: u64,
    boot: String,
}

impl Leader {
    /// The process with this id, if it lives.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        Some(Self { pid, started: started(pid)?, boot: boot_id() })
    }

    /// The process on record at `path`, if it lives.
    pub(super) fn on_record(path: &Path) -> Option<Self> {
        let text = String::from_utf8(durable::read_bounded(path, 256).ok()?).ok()?;
        let mut words = text.split_whitespace();
        let pid = Pid::from_raw(words.next()?.parse().ok()?)?;
        let leader = Self {
            pid,
            started: words.next()?.parse().ok()?,
            boot: words.next().unwrap_or_default().to_owned(),
        };
        (Self::of(pid).as_ref() == Some(&leader)).then_some(leader)
    }

    /// Puts it on record at `path`. Not synced: after a power cut it runs no more.
    ///
    /// # Errors
    ///
    /// As writing a file.
    pub(super) fn record(&self, path: &Path) -> std::io::Result<()> {
        let text = format!("{} {} {}\n", self.pid.as_raw_nonzero(), self.started, self.boot);
        std::fs::write(path, text)
    }

    /// Kills its process group and waits until it is gone, for at most `limit`; false: it is not.
    pub(super) fn kill_group(&self, limit: Duration) -> bool {
        // No such group: it has gone by itself.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let end = Instant::now() + limit;
        while started(self.pid) == Some(self.started) {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }
}

/// When a process started, in clock ticks since the boot; `None` where it is gone or only waits
/// for its parent to take notice.
fn started(pid: Pid) -> Option<u64> {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).ok()?;
    // The second field is the program's name in parentheses, and may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        // The state was field 3; the start time is field 22.
        _ => fields.nth(18)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_process_on_record_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let me = Leader::of(rustix::process::getpid()).unwrap();
        me.record(&path).unwrap();
        assert_eq!(Leader::on_record(&path), Some(me.clone()));
        let pid = me.pid.as_raw_nonzero();
        let cases = [
            (
                "the id was given to another process",
                format!("{pid} {} {}", me.started + 1, me.boot),
            ),
            ("another boot", format!("{pid} {} other", me.started)),
            ("no such process", format!("{} {} {}", i32::MAX, me.started, me.boot)),
            ("torn", format!("{pid}")),
            ("empty", String::new()),
            ("not a number", "x y z".to_owned()),
        ];
        for (case, text) in cases {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Leader::on_record(&path), None, "{case}");
        }
    }
}
