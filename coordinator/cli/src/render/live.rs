//! A rollout as a picture that is drawn again and again in one place (`watch` in a terminal): a line
//! for each wave, what is waited for, and the hosts that failed, are held or in doubt, each with why.

use proto::report::{RolloutReport, StandingReport, WaveReport};

use super::fleet::stance;
use super::rollout::{doubt, is_bad, is_in_doubt, is_kept, standing, title};
use super::{fetching, plain};
use crate::span;

/// Widest bar of a wave, in hosts; a larger wave is scaled down to it.
const BAR_MAX: u32 = 30;
/// Hosts told with their notes; of more, the rest is counted.
const HOSTS_MAX: usize = 5;

/// The picture.
pub(crate) fn picture(report: &RolloutReport) -> String {
    let phase = stance(report).to_uppercase();
    let mut text = format!("{}, rollout {}: {phase}", title(report), report.id);
    let bars: Vec<_> = report.waves.iter().map(bar).collect();
    let width = bars.iter().map(String::len).max().unwrap_or(0);
    for (index, (wave, bar)) in report.waves.iter().zip(&bars).enumerate() {
        let number = index + 1;
        text.push_str(&format!("\n  wave {number:<2}  {bar:<width$}  {}", numbers(wave)));
    }
    text.push_str(&format!("\n  {}", plain(&report.why)));
    let fetches = fetching::sum(report).into_iter().chain(fetching::lines(report, HOSTS_MAX));
    for line in fetches.chain(fetching::dropped(report)) {
        text.push_str(&format!("\n  {line}"));
    }
    let told = |host: &&StandingReport| is_bad(host) || is_in_doubt(host) || is_kept(report, host);
    let mut hosts = report.hosts.iter().filter(told);
    for host in hosts.by_ref().take(HOSTS_MAX) {
        text.push_str(&format!("\n  {}: {}", host.name, standing(report, host)));
    }
    match hosts.count() {
        0 => {}
        more => text.push_str(&format!("\n  and {more} more: swell explain {}", report.id)),
    }
    if let Some(doubt) = doubt(report) {
        text.push_str(&format!("\n  {doubt}"));
    }
    text
}

/// A host each: `#` committed, `~` baking, `>` activating, `!` failed, `<` went back with the fleet,
/// `.` waiting.
fn bar(wave: &WaveReport) -> String {
    let parts = [
        ('#', wave.committed),
        ('~', wave.baking),
        ('>', wave.activating),
        ('!', wave.failed),
        ('<', wave.returned),
        ('.', wave.waiting),
    ];
    let hosts = wave.hosts.max(1);
    // In a bar that is scaled down, what is there stays to be seen.
    let width = |count: u32| match hosts > BAR_MAX {
        true => (count * BAR_MAX).div_ceil(hosts),
        false => count,
    };
    parts.iter().flat_map(|(mark, count)| (0..width(*count)).map(|_| *mark)).collect()
}

/// `1 baking, 1 failed (max 1 failed, 0 unreachable), bakes 4 min more`.
fn numbers(wave: &WaveReport) -> String {
    if !wave.open {
        return format!("{}, not open", span::count(wave.hosts as usize, "host"));
    }
    let parts = [
        (wave.committed, "committed"),
        (wave.baking, "baking"),
        (wave.activating, "activating"),
        (wave.failed, "failed"),
        (wave.returned, "returned"),
        (wave.waiting, "waiting"),
        (wave.unreachable, "unreachable"),
    ];
    let shown = parts.iter().filter(|(count, _)| *count > 0);
    let shown: Vec<_> = shown.map(|(count, what)| format!("{count} {what}")).collect();
    let (failed_max, unreachable_max) = (wave.failed_max, wave.unreachable_max);
    let budgets = format!("(max {failed_max} failed, {unreachable_max} unreachable)");
    let left = wave.bake.map(|bake| format!(", bakes {} more", span::show(bake.left_s.into())));
    format!("{} {budgets}{}", shown.join(", "), left.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proto::receipt::State;
    use proto::report::{BakeReport, FetchReport};

    use super::*;
    use crate::render::sample::{self, standing, under_way};

    #[test]
    fn picture_of_a_rollout() {
        let report = under_way(5);
        let expected = format!(
            "\
web 1.2.0 -> 1.3.0 in production, rollout {}: RUNNING
  wave 1   #    1 committed (max 0 failed, 0 unreachable)
  wave 2   ~!.  1 baking, 1 failed, 1 waiting (max 1 failed, 1 unreachable)
  wave 3   .    1 host, not open
  wave 2 holds: 1 of 1 bake
  n2: reverted (release): healthz answered 500 three times",
            report.id
        );
        assert_eq!(picture(&report), expected);
    }

    #[test]
    fn a_host_that_fetches_is_in_the_picture_for_as_long_as_it_does() {
        let mut report = under_way(5);
        let plain = picture(&report);
        report.hosts[3].fetch = Some(sample::fetch());
        report.fetches.running = 1;
        let text = picture(&report);
        assert!(text.contains("\n  fetching: 1 host, "), "{text}");
        assert!(text.contains("\n  n4: fetching 41.0 MiB of 64.0 MiB at 11.0 MiB/s "), "{text}");
        report.hosts[3].fetch = Some(FetchReport { running: false, ..sample::fetch() });
        report.fetches.running = 0;
        assert_eq!(picture(&report), plain);
    }

    #[test]
    fn a_host_that_says_what_keeps_it_is_in_the_picture() {
        let mut report = under_way(5);
        report.hosts[3].state = Some(State::Fetching);
        report.hosts[3].note = "no space left on device".to_owned();
        let text = picture(&report);
        assert!(text.ends_with("\n  n4: fetching: no space left on device"), "{text}");
    }

    #[test]
    fn a_host_that_will_not_begin_is_in_the_picture_before_its_wave_is_open() {
        let mut report = under_way(5);
        report.hosts[4].allowed = false;
        let text = picture(&report);
        let line = "  n5: no word: agent.toml there does not allow the service: swell skip n5";
        assert!(text.ends_with(&format!("\n{line}")), "{text}");
    }

    #[test]
    fn a_host_in_doubt_is_in_the_picture_with_what_ends_it() {
        let mut report = under_way(5);
        report.hosts[2].note = "baked, but inconclusive: 0 of 20 requests".to_owned();
        let text = picture(&report);
        let expected = format!(
            "\n  n3: baking: baked, but inconclusive: 0 of 20 requests\n  a host that has baked and \
             is in doubt waits for 5 min at most; swell promote {} passes over it",
            report.id
        );
        assert!(text.ends_with(&expected), "{text}");
        assert!(crate::render::rollout::explain(&report).ends_with(" passes over it\n"));
    }

    #[test]
    fn a_large_wave_fits_the_screen_and_hides_nothing() {
        let mut report = under_way(5);
        let wave = &mut report.waves[1];
        wave.hosts = 10_000;
        (wave.committed, wave.waiting, wave.baking, wave.failed) = (9_000, 990, 0, 10);
        let marks = bar(wave);
        assert!(marks.len() <= BAR_MAX as usize + 6, "{marks}");
        assert!(marks.contains('!') && marks.contains('.'), "{marks}");
        report.hosts = (0..10).map(|index| standing(index, 1, Some(State::Reverted))).collect();
        let text = picture(&report);
        assert_eq!(text.lines().count(), 1 + 3 + 1 + HOSTS_MAX + 1, "{text}");
        assert!(text.ends_with(&format!("  and 5 more: swell explain {}", report.id)), "{text}");
    }

    #[test]
    fn how_long_a_wave_bakes_still_is_in_its_line() {
        let mut report = under_way(5);
        report.waves[1].bake = Some(BakeReport { left_s: 240, until: None });
        let text = picture(&report);
        assert!(text.contains("1 unreachable), bakes 4 min more\n"), "{text}");
        assert_eq!(text.matches("bakes").count(), 1, "{text}");
    }
}
