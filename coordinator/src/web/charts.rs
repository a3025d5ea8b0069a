//! Pictures, as SVG: how versions are spread, how far each wave is. Each says in words what it shows.

use maud::{Markup, html};
use proto::report::{RolloutReport, WaveReport};

/// Colours there are for one of several; the style sheet has them, `s0` and on.
pub(super) const SERIES: usize = 6;

/// Parts of a whole, in a bar: names, and how many of each.
pub(super) fn spread(parts: &[(String, usize)]) -> Markup {
    let all: usize = parts.iter().map(|(_, count)| count).sum();
    let said: Vec<_> = parts.iter().map(|(name, count)| format!("{count} on {name}")).collect();
    let mut x = 0.0;
    html! {
        svg class="bar" viewBox="0 0 1000 24" preserveAspectRatio="none" role="img" aria-label=(said.join(", ")) {
            rect class="none" width="1000" height="24" {}
            @for (index, (_, count)) in parts.iter().enumerate() {
                @let width = share(*count, all);
                rect class={ "s" (index % SERIES) } x=(x) width=(width) height="24" {}
                @let _ = x += width;
            }
        }
    }
}

/// `count` of `all`, in thousandths, with a tenth.
fn share(count: usize, all: usize) -> f64 {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let all = u32::try_from(all.max(1)).unwrap_or(u32::MAX);
    (f64::from(count) / f64::from(all) * 10_000.0).round() / 10.0
}

/// One bar for each wave, as wide as it has hosts, by what they are.
pub(super) fn waves(report: &RolloutReport) -> Markup {
    let hosts: usize = report.waves.iter().map(|wave| wave.hosts as usize).sum();
    let mut x = 0.0;
    let said = report.waves.iter().enumerate().map(|(index, wave)| {
        format!("wave {}: {} of {} committed", index + 1, wave.committed, wave.hosts)
    });
    let said: Vec<_> = said.collect();
    html! {
        svg class="bar tall" viewBox="0 0 1000 32" preserveAspectRatio="none" role="img" aria-label=(said.join(", ")) {
            @for wave in &report.waves {
                @let start = x;
                @for (class, count) in parts(wave) {
                    @let width = share(count as usize, hosts);
                    rect class=(class) x=(x) width=(width) height="32" {}
                    @let _ = x += width;
                }
                @if start > 0.0 { rect class="edge" x=(start - 1.0) width="2" height="32" {} }
            }
        }
    }
}

fn parts(wave: &WaveReport) -> [(&'static str, u32); 7] {
    let lost = wave.unreachable + wave.skipped;
    [
        ("ok", wave.committed),
        ("ba", wave.baking),
        ("ac", wave.activating),
        ("xx", wave.failed),
        ("re", wave.returned),
        ("un", lost),
        ("pe", wave.waiting),
    ]
}
