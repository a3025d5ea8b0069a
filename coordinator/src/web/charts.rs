//! Pictures, as SVG: how versions are spread, how far each wave is. Each says in words what it shows.

use maud::{Markup, html};
use proto::report::{RolloutReport, WaveReport};

/// Colours there are for one of several; the style sheet has them, `s0` and on.
pub(super) const SERIES: usize = 6;

/// Parts of a whole, in a bar: names, and how many of each.
pub(super) fn spread(parts: &[(String, usize)]) -> Markup {
    let all: usize = parts.iter().map(|(_, count)| count).sum();
    let said: Vec<_> = parts.iter().map(|(name, count)| format!("{count} on {name}")).collect();
    let placed = placed(parts.iter().map(|(_, count)| *count), all);
    html! {
        svg class="bar" viewBox="0 0 1000 24" preserveAspectRatio="none" role="img" aria-label=(said.join(", ")) {
            rect class="none" width="1000" height="24" {}
            @for (index, (x, width)) in placed.into_iter().enumerate() {
                rect class={ "s" (index % SERIES) } x=(x) width=(width) height="24" {}
            }
        }
    }
}

/// Where each part of a whole that is 1000 wide begins, and how wide it is.
fn placed(counts: impl Iterator<Item = usize>, all: usize) -> Vec<(f64, f64)> {
    let mut so_far = 0;
    let place = |count: usize| {
        let begin = share(so_far, all);
        so_far += count;
        (begin, tenths(share(so_far, all) - begin))
    };
    counts.map(place).collect()
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// `count` of `all`, in thousandths, with a tenth.
fn share(count: usize, all: usize) -> f64 {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let all = u32::try_from(all.max(1)).unwrap_or(u32::MAX);
    tenths(f64::from(count) / f64::from(all) * 1_000.0)
}

/// One bar for each wave, as wide as it has hosts, by what they are.
pub(super) fn waves(report: &RolloutReport) -> Markup {
    let hosts: usize = report.waves.iter().map(|wave| wave.hosts as usize).sum();
    let counts = report.waves.iter().flat_map(parts);
    let (classes, counts): (Vec<_>, Vec<_>) = counts.unzip();
    let places = placed(counts.into_iter().map(|count| count as usize), hosts);
    let ends = placed(report.waves.iter().map(|wave| wave.hosts as usize), hosts);
    let said = report.waves.iter().enumerate().map(|(index, wave)| {
        format!("wave {}: {} of {} committed", index + 1, wave.committed, wave.hosts)
    });
    html! {
        svg class="bar tall" viewBox="0 0 1000 32" preserveAspectRatio="none" role="img" aria-label=(said.collect::<Vec<_>>().join(", ")) {
            @for (class, (x, width)) in classes.iter().zip(places) {
                @if width > 0.0 { rect class=(class) x=(x) width=(width) height="32" {} }
            }
            @for (x, _) in ends.iter().skip(1) { rect class="edge" x=(x - 1.0) width="2" height="32" {} }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_the_bar_without_gaps() {
        assert_eq!(placed([1, 0, 2].into_iter(), 3), [(0.0, 333.3), (333.3, 0.0), (333.3, 666.7)]);
        assert_eq!(placed([5].into_iter(), 5), [(0.0, 1000.0)]);
        assert!(placed([].into_iter(), 0).is_empty());
    }
}
