//! How long processes kept a core busy.

use anyhow::Result;

/// Of `/proc` (proc(5)); the kernel's `USER_HZ`, the same on all of Linux.
const TICKS_PER_S: f64 = 100.0;

/// The time of a core that the processes of these groups took since they began, in seconds, with that of
/// their children that have ended.
///
/// # Errors
///
/// `/proc` is not there.
pub fn of_groups(groups: &[u32]) -> Result<f64> {
    let mut ticks = 0;
    for entry in std::fs::read_dir("/proc")? {
        // What ended in between is gone.
        let Ok(text) = std::fs::read_to_string(entry?.path().join("stat")) else { continue };
        // Its name, in parentheses, may hold anything.
        let Some((_, fields)) = text.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let Some(group) = fields.get(2).and_then(|field| field.parse().ok()) else { continue };
        if groups.contains(&group) {
            let own = fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u64>().ok());
            ticks += own.sum::<u64>();
        }
    }
    Ok(ticks as f64 / TICKS_PER_S)
}
