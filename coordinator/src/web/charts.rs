//! Pictures, as SVG: how versions are spread, how far each wave is, how a rollout went on, how a measure
//! changed. Each says in words what it shows.

use maud::{Markup, html};
use proto::report::{CountedReport, RolloutReport, WaveReport};

use crate::store::{Counts, Sample, Sampled};

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

/// How wide and how high a picture over time is, in its own units.
const WIDE: f64 = 1_000.0;
const HIGH: f64 = 200.0;

/// Samples that are drawn at most: more than that nobody sees, and a picture is sent anew with each.
const DRAWN_MAX: usize = 240;

/// As many samples as are drawn: every so many, and the last one.
pub(super) fn thinned(samples: &[Sample]) -> Vec<Sample> {
    let step = samples.len().div_ceil(DRAWN_MAX).max(1);
    let last = samples.last().filter(|_| !(samples.len().max(1) - 1).is_multiple_of(step));
    samples.iter().step_by(step).chain(last).cloned().collect()
}

/// How a rollout went on: its hosts by what they were, over time. Nothing where there is too little.
pub(super) fn progress(samples: &[Sample]) -> Option<Markup> {
    let (first, last) = (samples.first()?, samples.last()?);
    let lasts_s = last.at.0.saturating_sub(first.at.0);
    let hosts = stack(&first.sampled.counts).iter().map(|(_, count)| count).sum::<u32>();
    if lasts_s == 0 || hosts == 0 {
        return None;
    }
    let x = |sample: &Sample| ratio(sample.at.0.saturating_sub(first.at.0), lasts_s) * WIDE;
    let y = |count: u32| HIGH - ratio(u64::from(count), u64::from(hosts)) * HIGH;
    let mut layers = Vec::new();
    for (index, (class, _)) in stack(&first.sampled.counts).iter().enumerate() {
        let below = |sample: &Sample, layers: usize| {
            stack(&sample.sampled.counts).iter().take(layers).map(|(_, count)| count).sum::<u32>()
        };
        let top = samples.iter().map(|sample| (x(sample), y(below(sample, index + 1))));
        let bottom = samples.iter().rev().map(|sample| (x(sample), y(below(sample, index))));
        if samples.iter().any(|sample| stack(&sample.sampled.counts)[index].1 > 0) {
            layers.push((*class, points(top.chain(bottom))));
        }
    }
    let counts = last.sampled.counts;
    let said = format!(
        "Hosts over {}: at the end {} committed, {} baking, {} failed, {} returned",
        span(lasts_s),
        counts.committed,
        counts.baking,
        counts.failed,
        counts.returned
    );
    Some(html! {
        figure {
            figcaption { "Hosts over time, " (span(lasts_s)) " in all" }
            svg class="area" viewBox=(format!("0 0 {WIDE} {HIGH}")) preserveAspectRatio="none" role="img" aria-label=(said) {
                rect class="none" width=(WIDE) height=(HIGH) {}
                @for (class, points) in layers { polygon class=(class) points=(points) {} }
            }
        }
    })
}

/// What hosts are, from below: what has come to a good end first.
fn stack(counts: &Counts) -> [(&'static str, u32); 7] {
    let Counts { waiting, activating, baking, committed, failed, returned, .. } = *counts;
    let lost = counts.unreachable.saturating_add(counts.skipped);
    [
        ("ok", committed),
        ("ba", baking),
        ("ac", activating),
        ("xx", failed),
        ("re", returned),
        ("un", lost),
        ("pe", waiting),
    ]
}

/// The share of errors on the new release beside the old one's, over time; nothing where requests are
/// not counted.
pub(super) fn errors(samples: &[Sample]) -> Option<Markup> {
    let share = |counted: Option<CountedReport>| {
        let counted = counted.filter(|counted| counted.requests > 0)?;
        Some(ratio(counted.bad, counted.requests))
    };
    // A line at the bottom of a picture that ends at 1 % says that all is well.
    let scale = Scale { what: "Share of errors", least: 0.01, show: percent };
    let sides = |of: &Sampled| [share(of.new), share(of.control)];
    beside(samples, &scale, sides)
}

/// What 99 of 100 answers take on the new release beside the old one, over time; nothing where latencies
/// are not counted.
pub(super) fn latency(samples: &[Sample]) -> Option<Markup> {
    let ms = |ms: Option<u64>| ms.map(|ms| ratio(ms, 1));
    let scale = Scale { what: "99 of 100 answers take at most", least: 1.0, show: millis };
    let sides = |of: &Sampled| [ms(of.latency.new_p99_ms), ms(of.latency.control_p99_ms)];
    beside(samples, &scale, sides)
}

/// What a picture of two lines shows, and how its numbers are written. `least`: how high it is at least.
struct Scale {
    what: &'static str,
    least: f64,
    show: fn(f64) -> String,
}

/// Two lines over time: the new release and the old one, where each has something to show.
fn beside(
    samples: &[Sample],
    scale: &Scale,
    sides: impl Fn(&Sampled) -> [Option<f64>; 2],
) -> Option<Markup> {
    let (first, last) = (samples.first()?, samples.last()?);
    let lasts_s = last.at.0.saturating_sub(first.at.0);
    let line = |side: usize| -> Vec<(u64, f64)> {
        let known = |sample: &Sample| {
            Some((sample.at.0.saturating_sub(first.at.0), sides(&sample.sampled)[side]?))
        };
        samples.iter().filter_map(known).collect()
    };
    let lines = [("s0", "new", line(0)), ("s2", "old", line(1))];
    if lasts_s == 0 || lines.iter().all(|(.., line)| line.len() < 2) {
        return None;
    }
    let most = lines.iter().flat_map(|(.., line)| line).map(|(_, number)| *number);
    let most = most.fold(scale.least, f64::max);
    let place = |line: &[(u64, f64)]| {
        let place =
            |(at, number): &(u64, f64)| (ratio(*at, lasts_s) * WIDE, HIGH - number / most * HIGH);
        points(line.iter().map(place))
    };
    let show = scale.show;
    let ends = lines.iter().filter_map(|(class, name, line)| {
        line.last().map(|(_, number)| (*class, format!("{name} release: {}", show(*number))))
    });
    let ends: Vec<_> = ends.collect();
    let said: Vec<_> = ends.iter().map(|(_, said)| said.as_str()).collect();
    let said = format!("{}, at the end: {}", scale.what, said.join(", "));
    Some(html! {
        figure {
            figcaption { (scale.what) ", up to " (show(most)) }
            svg class="area" viewBox=(format!("0 0 {WIDE} {HIGH}")) preserveAspectRatio="none" role="img" aria-label=(said) {
                rect class="none" width=(WIDE) height=(HIGH) {}
                @for (class, _, line) in &lines {
                    polyline class={ "line " (class) } points=(place(line)) {}
                }
            }
            ul class="legend" {
                @for (class, said) in &ends { li { span class={ "dot " (class) } {} (said) } }
            }
        }
    })
}

/// A bar for each of some numbers, the oldest first. `name`: what they are.
pub(super) fn bars(name: &str, numbers: &[u64]) -> Markup {
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    let each = WIDE / f64::from(u32::try_from(numbers.len().max(1)).unwrap_or(u32::MAX));
    let said: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    html! {
        svg class="trend" viewBox=(format!("0 0 {WIDE} {HIGH}")) preserveAspectRatio="none" role="img" aria-label={ (name) ": " (said.join(", ")) } {
            @for (index, number) in numbers.iter().enumerate() {
                @let high = tenths(ratio(*number, most) * HIGH);
                @let x = tenths(each * f64::from(u32::try_from(index).unwrap_or(u32::MAX)));
                rect class="s0" x=(x) y=(tenths(HIGH - high)) width=(tenths(each * 0.8)) height=(high) {}
            }
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    let number = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    number(part) / number(whole.max(1))
}

fn points(points: impl Iterator<Item = (f64, f64)>) -> String {
    let point = |(x, y): (f64, f64)| format!("{},{}", tenths(x), tenths(y));
    points.map(point).collect::<Vec<_>>().join(" ")
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn millis(ms: f64) -> String {
    format!("{ms:.0} ms")
}

/// `45 s`, `12 min`, `3.5 h`, `2.1 days`.
pub(super) fn span(seconds: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", seconds / unit, seconds % unit * 10 / unit);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", tenths(3_600)),
        _ => format!("{} days", tenths(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use proto::report::LatencyReport;

    use super::*;

    #[test]
    fn parts_fill_the_bar_without_gaps() {
        assert_eq!(placed([1, 0, 2].into_iter(), 3), [(0.0, 333.3), (333.3, 0.0), (333.3, 666.7)]);
        assert_eq!(placed([5].into_iter(), 5), [(0.0, 1000.0)]);
        assert!(placed([].into_iter(), 0).is_empty());
    }

    fn sample(at: u64, committed: u32, waiting: u32, bad: u64) -> Sample {
        let counts = Counts { committed, waiting, ..Counts::default() };
        let new = Some(CountedReport { bad, requests: 100 });
        let control = Some(CountedReport { bad: 1, requests: 100 });
        let latency = LatencyReport { new_p99_ms: Some(100 + bad * 10), control_p99_ms: Some(100) };
        let sampled = Sampled { counts, new, control, latency };
        Sample { at: proto::UnixTime(at), sampled }
    }

    #[test]
    fn a_rollout_over_time_is_drawn_where_there_is_something_to_draw() {
        assert!(progress(&[]).is_none() && progress(&[sample(5, 0, 4, 0)]).is_none());
        let samples = [sample(100, 0, 4, 0), sample(160, 2, 2, 5), sample(220, 4, 0, 2)];
        let drawn = progress(&samples).unwrap().0;
        assert!(
            drawn.contains("points=\"0,200 500,100 1000,0 1000,200 500,200 0,200\""),
            "{drawn}"
        );
        assert!(drawn.contains("at the end 4 committed, 0 baking"), "{drawn}");
        assert!(drawn.contains("2 min in all"), "{drawn}");
        let errors = errors(&samples).unwrap().0;
        assert!(errors.contains("up to 5.00 %"), "{errors}");
        assert!(errors.contains("new release: 2.00 %, old release: 1.00 %"), "{errors}");
        let latency = latency(&samples).unwrap().0;
        assert!(latency.contains("up to 150 ms"), "{latency}");
        assert!(latency.contains("new release: 120 ms, old release: 100 ms"), "{latency}");
        assert!(latency.contains("points=\"0,66.7 500,0 1000,40\""), "{latency}");
    }

    #[test]
    fn a_clock_that_was_set_back_meanwhile_ends_no_page() {
        let samples = [sample(100, 0, 4, 0), sample(40, 2, 2, 5), sample(220, 4, 0, 2)];
        let drawn = progress(&samples).unwrap().0;
        assert!(drawn.contains("points=\"0,200 0,100 1000,0 "), "{drawn}");
        assert!(errors(&samples).is_some() && latency(&samples).is_some());
        // It has not come as far again.
        let back = &samples[..2];
        assert!(progress(back).is_none() && errors(back).is_none() && latency(back).is_none());
    }

    #[test]
    fn so_many_samples_are_drawn_the_first_and_the_last_with_them() {
        for len in [0, 1, 2, 239, 240, 241, 480, 481, 1_999, 2_000] {
            let samples: Vec<_> = (0..len).map(|at| sample(at, 0, 4, 0)).collect();
            let drawn = thinned(&samples);
            assert!(drawn.len() <= DRAWN_MAX + 1 && drawn.len() >= samples.len().min(120), "{len}");
            assert_eq!((drawn.first(), drawn.last()), (samples.first(), samples.last()), "{len}");
        }
    }

    #[test]
    fn spans_are_said_in_the_unit_that_fits() {
        let cases = [(45, "45 s"), (600, "10 min"), (9_000, "2.5 h"), (260_000, "3.0 days")];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }
}
