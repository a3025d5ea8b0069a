//! What a process holds of the memory.

use anyhow::{Context as _, Result};

/// Which figure of `/proc/PID/status` (proc(5)).
#[derive(Debug, Clone, Copy)]
pub enum Figure {
    /// Resident now.
    Now,
    /// The most that ever was.
    Peak,
}

/// Of the process with this id, in MiB.
///
/// # Errors
///
/// It does not live.
pub fn mib(process: u32, figure: Figure) -> Result<f64> {
    let name = match figure {
        Figure::Now => "VmRSS:",
        Figure::Peak => "VmHWM:",
    };
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()).context(name)?;
    Ok(kib.parse::<u64>().context(name)? as f64 / 1024.0)
}
