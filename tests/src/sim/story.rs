//! What happened, in words: kept while a seed is replayed, printed when a promise breaks.

use std::collections::VecDeque;

/// Lines kept, and how many of the last are printed: of the host it is about, and of all.
const KEPT_MAX: usize = 20_000;
const OF_HOST: usize = 80;
const OF_ALL: usize = 30;

/// The last events of a simulation; printed when it is dropped by a panic.
#[derive(Debug, Default)]
pub(super) struct Story {
    told: bool,
    lines: VecDeque<(usize, String)>,
}

impl Story {
    /// A story that is kept; the default one is not.
    pub(super) fn told() -> Self {
        Self { told: true, lines: VecDeque::new() }
    }

    /// Adds a line about a host, if anybody listens.
    pub(super) fn tell(&mut self, host: usize, now: u64, line: impl FnOnce() -> String) {
        if !self.told {
            return;
        }
        if self.lines.len() == KEPT_MAX {
            self.lines.pop_front();
        }
        let (seconds, ms) = (now / 1_000, now % 1_000);
        self.lines.push_back((host, format!("{seconds:>6}.{ms:03} host {host:<4} {}", line())));
    }

    fn print(&self, what: &str, lines_max: usize, wanted: impl Fn(usize) -> bool) {
        println!("{what}:");
        let lines: Vec<_> = self.lines.iter().filter(|(host, _)| wanted(*host)).collect();
        for (_, line) in &lines[lines.len().saturating_sub(lines_max)..] {
            println!("  {line}");
        }
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        let Some((about, _)) = self.lines.back().filter(|_| std::thread::panicking()) else {
            return;
        };
        self.print("the last events of all hosts", OF_ALL, |_| true);
        self.print(&format!("the last events of host {about}"), OF_HOST, |host| host == *about);
    }
}
