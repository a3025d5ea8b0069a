//! What was measured, in multiples of what physics allows.

use std::fmt::Write as _;

use fleet_tests::sim_swarm::lower_bound_us;

use crate::tool::Tool;
use crate::wire::Distance;

/// The least time in which everybody can have the file, in seconds.
pub(crate) fn bound_s(hosts: usize, rate_mbit: usize, bytes: u64) -> f64 {
    lower_bound_us(hosts, bytes, rate_mbit as u64 * 1_000_000 / 8) / 1e6
}

/// One run of one tool.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// When each host had the file, in multiples of the bound, rising.
    pub(crate) done_x: Vec<f64>,
    /// What the origin sent, in files.
    pub(crate) origin_x: f64,
    /// What all sent, in files and hosts that wanted one.
    pub(crate) traffic_x: f64,
    /// CPU seconds of all processes, from the start of the clock on.
    pub(crate) cpu_s: f64,
    /// What the largest process ever held.
    pub(crate) rss_mib: f64,
    pub(crate) last_s: f64,
    pub(crate) delivered_gib: f64,
    /// Share of the time in which this machine's cores were busy: close to 1, they are what was measured.
    pub(crate) busy: f64,
    /// Share of the time in which the switch, which has one core at most, was busy. None: there was none.
    pub(crate) switch_busy: Option<f64>,
}

impl Measured {
    fn last_x(&self) -> f64 {
        self.done_x.last().copied().unwrap_or(f64::NAN)
    }

    fn p50_x(&self) -> f64 {
        self.done_x.get((self.done_x.len().max(1) - 1) / 2).copied().unwrap_or(f64::NAN)
    }

    /// One run, for people.
    pub(crate) fn row(&self, tool: Tool) -> String {
        let switch = self
            .switch_busy
            .map_or_else(String::new, |busy| format!(", switch {:.0} % of one", busy * 100.0));
        format!(
            "  {:<10} first {:.2} p50 {:.2} last {:.2} x ({:.2} s), origin {:.2} x, traffic {:.3} x, cpu \
             {:.1} s ({:.1} per GiB), {:.0} MiB, cores {:.0} % busy{switch}",
            tool.name(),
            self.done_x.first().copied().unwrap_or(f64::NAN),
            self.p50_x(),
            self.last_x(),
            self.last_s,
            self.origin_x,
            self.traffic_x,
            self.cpu_s,
            self.cpu_s / self.delivered_gib,
            self.rss_mib,
            self.busy * 100.0,
        )
    }

    /// The run whose last host was in the middle.
    pub(crate) fn median(mut runs: Vec<Self>) -> Self {
        runs.sort_by(|a, b| a.last_x().total_cmp(&b.last_x()));
        let middle = (runs.len() - 1) / 2;
        runs.swap_remove(middle)
    }

    /// One line for programs.
    pub(crate) fn line(&self, tool: Tool, hosts: usize, distance: Option<Distance>) -> String {
        let mut line = format!("swarm tool={} n={hosts}", tool.name());
        // Writing to a string does not fail.
        if let Some(Distance { delay_ms, loss_pct }) = distance {
            let _ = write!(line, " delay_ms={delay_ms} loss_pct={loss_pct}");
        }
        let values = [
            ("last_x", self.last_x()),
            ("p50_x", self.p50_x()),
            ("origin_x", self.origin_x),
            ("traffic_x", self.traffic_x),
        ];
        for (name, value) in values {
            let _ = write!(line, " {name}={value:.2}");
        }
        let _ = write!(line, " cpu_s={:.1} rss_mib={:.0}", self.cpu_s, self.rss_mib);
        if let Some(busy) = self.switch_busy {
            let _ = write!(line, " switch_busy={busy:.2}");
        }
        line
    }
}
