//! What this process takes, by the names that collectors expect.

use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use super::Text;

/// What this process takes.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    pub cpu_ms: u64,
    pub resident_bytes: u64,
    /// Since 1970, in seconds.
    pub since_s: u64,
}

impl Process {
    /// As it is now; none: the kernel does not say. Blocks on `/proc` for a moment.
    pub fn this() -> Option<Self> {
        let (mut system, pid) = (System::new().ok()?, sysinfo::get_current_pid().ok()?);
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
        let process = system.process(pid)?;
        Some(Self {
            cpu_ms: process.accumulated_cpu_time(),
            resident_bytes: process.memory(),
            since_s: process.start_time(),
        })
    }
}

impl Process {
    pub(super) fn tell(self, page: &mut Text) {
        let Self { cpu_ms, resident_bytes, since_s } = self;
        let name = "process_cpu_seconds_total";
        page.counter(name, "Time on processors, of the daemon and not of services.");
        page.say(name, &[], format_args!("{}.{:03}", cpu_ms / 1_000, cpu_ms % 1_000));
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory of the daemon.", resident_bytes),
            ("process_start_time_seconds", "When the daemon started, since 1970.", since_s),
        ] {
            page.gauge(name, help);
            page.say(name, &[], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_measured() {
        let process = Process::this().unwrap();
        assert!(process.resident_bytes > 1 << 20 && process.since_s > 1_600_000_000);
    }
}
