//! How artifacts come to the hosts, as text: sums, hosts one by one, and who lied to them. Bounded for any
//! cohort; `--json` has all of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proto::id::{HostId, Name};
use proto::listed;
use proto::record::{Lie, Stall, StallRecord};
use proto::report::{FetchReport, FetchesReport, RolloutReport, StandingReport};

use crate::span;

/// Liars told, and hosts named that one lied to; of more, the rest is counted.
const LIARS_MAX: usize = 5;
const DUPES_MAX: usize = 3;
/// How long nothing must have come, in seconds, until that is told of a host that waits for an answer.
const STILL_S: u32 = 3;

/// `fetching: 3 hosts (1 stalled), 41.0 MiB of 192.0 MiB, 34.1 MiB/s in all; 5 of 8 hosts have all of it`;
/// none where nobody fetches.
pub(super) fn sum(report: &RolloutReport) -> Option<String> {
    let FetchesReport { whole, running, stalled, bytes, of_bytes, bytes_per_s } = report.fetches;
    if running == 0 {
        return None;
    }
    let stalled = if stalled > 0 { format!(" ({stalled} stalled)") } else { String::new() };
    Some(format!(
        "fetching: {}{stalled}, {} of {}, {}/s in all; {whole} of {} all of it",
        span::count(running as usize, "host"),
        span::bytes(bytes),
        span::bytes(of_bytes),
        span::bytes(bytes_per_s),
        match cohort(report) {
            1 => "1 host has".to_owned(),
            hosts => format!("{hosts} hosts have"),
        },
    ))
}

fn cohort(report: &RolloutReport) -> u64 {
    report.waves.iter().map(|wave| u64::from(wave.hosts)).sum()
}

/// The hosts that fetch, a line each, at most `lines_max` and one that counts the others: first those that
/// get nothing, then those that lack most.
pub(super) fn lines(report: &RolloutReport, lines_max: usize) -> Vec<String> {
    let mut hosts: Vec<_> = under_way(report).collect();
    hosts.sort_by_key(|(_, fetch)| (Reverse(fetch.stall.is_some()), fetch.bytes));
    let mut lines: Vec<_> =
        hosts.iter().take(lines_max).map(|(host, fetch)| line(&host.name, fetch)).collect();
    match hosts.len().saturating_sub(lines_max) {
        0 => {}
        more => lines.push(format!(
            "and {} more: swell explain {} --host HOST",
            span::count(more, "host"),
            report.id
        )),
    }
    lines
}

fn under_way(report: &RolloutReport) -> impl Iterator<Item = (&StandingReport, &FetchReport)> {
    let fetches = report.hosts.iter().filter_map(|host| Some((host, host.fetch.as_ref()?)));
    fetches.filter(|(_, fetch)| fetch.running)
}

/// The fetches that have ended, a line each, at most `lines_max`: where what is there came from.
pub(super) fn ended(report: &RolloutReport, lines_max: usize) -> Vec<String> {
    let fetches = report.hosts.iter().filter_map(|host| Some((host, host.fetch.as_ref()?)));
    let ended = fetches.filter(|(_, fetch)| !fetch.running && !sources(fetch).is_empty());
    ended.take(lines_max).map(|(host, fetch)| line(&host.name, fetch)).collect()
}

/// One host.
fn line(name: &Name, fetch: &FetchReport) -> String {
    let (bytes, of_bytes) = (span::bytes(fetch.bytes), span::bytes(fetch.of_bytes));
    let of = format!("{bytes} of {of_bytes}");
    let still = || span::show(fetch.still_s.into());
    let sources = sources(fetch);
    match &fetch.stall {
        _ if !fetch.running && fetch.bytes >= fetch.of_bytes => {
            format!("{name}: fetched {bytes}{sources}")
        }
        _ if !fetch.running => format!("{name}: has {of} and does not fetch now{sources}"),
        Some(stall) => {
            format!("{name}: stalled for {} at {of}: {}{sources}", still(), why(*stall))
        }
        None => {
            let peers = span::count(fetch.peers as usize, "member");
            let rate = span::bytes(fetch.bytes_per_s);
            let quiet = match fetch.still_s {
                STILL_S.. => format!(", nothing for {}", still()),
                _ => String::new(),
            };
            format!("{name}: fetching {of} at {rate}/s from {peers}{quiet}{sources}")
        }
    }
}

/// ` (peers 38.0 MiB, origin 3.0 MiB)`.
fn sources(fetch: &FetchReport) -> String {
    let from = &fetch.from;
    let all = [
        ("peers", from.peers),
        ("origin", from.origin),
        ("already here", from.here),
        ("patched", from.patched),
    ];
    let some = all.iter().filter(|(_, bytes)| *bytes > 0);
    let some: Vec<_> =
        some.map(|(source, bytes)| format!("{source} {}", span::bytes(*bytes))).collect();
    if some.is_empty() { String::new() } else { format!(" ({})", some.join(", ")) }
}

fn why(stall: StallRecord) -> String {
    let pieces = span::count(stall.pieces as usize, "missing piece");
    match stall.why {
        Stall::NoManifest => "nobody that can be reached gives the manifest".to_owned(),
        Stall::NoPeers => format!("nobody that holds any of {pieces} can be reached"),
        Stall::NoHolder => format!("nobody that can be reached holds {pieces}"),
        Stall::Busy => format!("all that hold {pieces} are busy"),
        Stall::Other => "for a reason that this swell does not know".to_owned(),
    }
}

/// Who lied: `dropped host-3 (aaaaaaaaaaaa) by n1, n2: it sent wrong bytes`.
pub(super) fn dropped(report: &RolloutReport) -> Vec<String> {
    let liars = liars(report);
    let mut lines: Vec<_> = liars
        .iter()
        .take(LIARS_MAX)
        .map(|((host, lie), (name, by))| {
            let (by, what) = (listed(by, DUPES_MAX), what(*lie));
            format!("dropped {name} ({host}) by {by}: it {what}")
        })
        .collect();
    match liars.len().saturating_sub(LIARS_MAX) {
        0 => {}
        more => lines.push(format!("dropped, too: {} more", span::count(more, "member"))),
    }
    lines
}

/// Who lied, how, under which name, to whom.
type Liars<'r> = BTreeMap<(&'r HostId, Lie), (&'r Name, Vec<&'r Name>)>;

fn liars(report: &RolloutReport) -> Liars<'_> {
    let mut liars = Liars::new();
    for host in &report.hosts {
        for liar in host.fetch.iter().flat_map(|fetch| &fetch.dropped) {
            let (_, by) =
                liars.entry((&liar.host, liar.why)).or_insert_with(|| (&liar.name, Vec::new()));
            by.push(&host.name);
        }
    }
    liars
}

const fn what(lie: Lie) -> &'static str {
    match lie {
        Lie::WrongBytes => "sent wrong bytes",
        Lie::NotThere => "announced pieces that it has not",
        Lie::Malformed => "announced what no artifact has",
        Lie::Other => "lied in a way that this swell does not know",
    }
}

/// What is worth a line where nobody can redraw: each tenth of what all hosts need, who gets nothing any
/// more, who was found to lie.
pub(super) fn changes(before: Option<&RolloutReport>, after: &RolloutReport) -> Vec<String> {
    let mut lines = Vec::new();
    if before.and_then(tenths) != tenths(after) {
        lines.extend(sum(after));
    }
    let stalled = |report: &RolloutReport| -> Vec<HostId> {
        let stalled = under_way(report).filter(|(_, fetch)| fetch.stall.is_some());
        stalled.map(|(host, _)| host.host.clone()).collect()
    };
    let known = before.map(stalled).unwrap_or_default();
    let new: Vec<_> = under_way(after)
        .filter(|(host, fetch)| fetch.stall.is_some() && !known.contains(&host.host))
        .collect();
    lines.extend(new.iter().take(LIARS_MAX).map(|(host, fetch)| line(&host.name, fetch)));
    if new.len() > LIARS_MAX {
        let more = span::count(new.len() - LIARS_MAX, "more host");
        lines.push(format!("{more} stalled: swell explain {}", after.id));
    }
    let named = before.map(liars).unwrap_or_default();
    if liars(after).keys().any(|liar| !named.contains_key(liar)) {
        lines.extend(dropped(after));
    }
    lines
}

/// How much of what all hosts of the cohort need is there; none where nobody fetches.
fn tenths(report: &RolloutReport) -> Option<u128> {
    let FetchesReport { whole, running, bytes, of_bytes, .. } = report.fetches;
    let each = u128::from(of_bytes.checked_div(running.into())?);
    let all = each.checked_mul(cohort(report).into()).filter(|all| *all > 0)?;
    Some((u128::from(whole) * each + u128::from(bytes)) * 10 / all)
}

#[cfg(test)]
mod tests {
    use proto::receipt::State;
    use proto::report::{DroppedReport, RolloutPhase};

    use super::*;
    use crate::render::sample::{fetch, host_id, rollout, standing};

    /// Hosts with these fetches, one wave, added up as a member does.
    fn report(fetches: Vec<Option<FetchReport>>) -> RolloutReport {
        let hosts = (0..).zip(fetches).map(|(index, fetch)| {
            let state = if fetch.is_some() { State::Fetching } else { State::Staged };
            StandingReport { fetch, ..standing(index % 20, 0, Some(state)) }
        });
        let mut report = rollout(RolloutPhase::Running, hosts.collect());
        let running: Vec<_> = under_way(&report).map(|(_, fetch)| fetch.clone()).collect();
        report.fetches = FetchesReport {
            whole: u32::try_from(report.hosts.len() - running.len()).unwrap(),
            running: u32::try_from(running.len()).unwrap(),
            stalled: u32::try_from(running.iter().filter(|one| one.stall.is_some()).count())
                .unwrap(),
            bytes: running.iter().map(|one| one.bytes).sum(),
            of_bytes: running.iter().map(|one| one.of_bytes).sum(),
            bytes_per_s: running.iter().map(|one| one.bytes_per_s).sum(),
        };
        report
    }

    fn stalled() -> FetchReport {
        let stall = Some(StallRecord { why: Stall::NoHolder, pieces: 3 });
        FetchReport { stall, still_s: 12, bytes_per_s: 0, ..fetch() }
    }

    fn liar(seed: usize, why: Lie) -> DroppedReport {
        let name = format!("host-{seed}").parse().unwrap();
        DroppedReport { host: host_id(seed), name, why }
    }

    #[test]
    fn a_host_has_what_it_has_and_needs_how_fast_from_whom_and_why_not() {
        let told = |fetch: FetchReport| line(&"n1".parse().unwrap(), &fetch);
        let rows = [
            (
                fetch(),
                "n1: fetching 41.0 MiB of 64.0 MiB at 11.0 MiB/s from 5 members (peers 38.0 MiB, \
                 origin 3.0 MiB)",
            ),
            (
                FetchReport { still_s: 3, bytes_per_s: 0, peers: 1, ..fetch() },
                "n1: fetching 41.0 MiB of 64.0 MiB at 0 B/s from 1 member, nothing for 3 s (peers \
                 38.0 MiB, origin 3.0 MiB)",
            ),
            (
                stalled(),
                "n1: stalled for 12 s at 41.0 MiB of 64.0 MiB: nobody that can be reached holds 3 \
                 missing pieces (peers 38.0 MiB, origin 3.0 MiB)",
            ),
            (
                FetchReport { running: false, bytes: 64 << 20, ..fetch() },
                "n1: fetched 64.0 MiB (peers 38.0 MiB, origin 3.0 MiB)",
            ),
            (
                FetchReport { running: false, ..fetch() },
                "n1: has 41.0 MiB of 64.0 MiB and does not fetch now (peers 38.0 MiB, origin 3.0 \
                 MiB)",
            ),
        ];
        for (fetch, expected) in rows {
            assert_eq!(told(fetch), expected);
        }
        let mut all = fetch();
        (all.from.here, all.from.patched) = (1 << 20, 2 << 20);
        assert!(told(all).ends_with("origin 3.0 MiB, already here 1.0 MiB, patched 2.0 MiB)"));
    }

    #[test]
    fn sums_over_all_hosts_and_nothing_where_nobody_fetches() {
        assert_eq!(sum(&report(vec![None])), None);
        let report = report(vec![Some(fetch()), Some(stalled()), None]);
        let expected = "fetching: 2 hosts (1 stalled), 82.0 MiB of 128.0 MiB, 11.0 MiB/s in all; 1 \
                        of 3 hosts have all of it";
        assert_eq!(sum(&report).as_deref(), Some(expected));
        let lines = lines(&report, 5);
        assert!(lines[0].starts_with("n2: stalled") && lines[1].starts_with("n1: fetching"));
    }

    /// Two thousand hosts, all of which were lied to.
    #[test]
    fn what_is_told_of_many_hosts_fits_the_screen() {
        let mut one = stalled();
        one.dropped = vec![liar(2, Lie::WrongBytes), liar(1, Lie::NotThere)];
        let report = report(vec![Some(one); 2_000]);
        let told = lines(&report, 5);
        assert_eq!(told.len(), 6);
        let rest = format!("and 1995 hosts more: swell explain {} --host HOST", report.id);
        assert_eq!(told.last(), Some(&rest));
        let expected = [
            "dropped host-1 (bbbbbbbbbbbb) by n1, n2, n3 and 1997 more: it announced pieces that it \
             has not",
            "dropped host-2 (cccccccccccc) by n1, n2, n3 and 1997 more: it sent wrong bytes",
        ];
        assert_eq!(dropped(&report), expected);
        assert!(changes(None, &report).len() < 12, "{:#?}", changes(None, &report));
        assert_eq!(ended(&report, 5), [] as [&str; 0]);
    }

    #[test]
    fn where_nobody_can_redraw_only_what_matters_is_a_line() {
        let at = |mib: u64| FetchReport { bytes: mib << 20, ..fetch() };
        let before = report(vec![Some(at(10)), None]);
        let starts = |lines: &[String]| -> Vec<String> {
            let start = |line: &String| line.split_once(' ').map(|(start, _)| start.to_owned());
            lines.iter().filter_map(start).collect()
        };
        assert_eq!(starts(&changes(None, &before)), ["fetching:"]);
        assert!(changes(Some(&before), &report(vec![Some(at(11)), None])).is_empty());
        assert_eq!(
            starts(&changes(Some(&before), &report(vec![Some(at(30)), None]))),
            ["fetching:"]
        );
        let mut after = FetchReport { bytes: 10 << 20, ..stalled() };
        let stands = report(vec![Some(after.clone()), None]);
        assert_eq!(starts(&changes(Some(&before), &stands)), ["n1:"]);
        after.dropped = vec![liar(7, Lie::Malformed)];
        let found_out = report(vec![Some(after), None]);
        assert_eq!(starts(&changes(Some(&stands), &found_out)), ["dropped"]);
        assert!(changes(Some(&found_out), &found_out.clone()).is_empty());
    }
}
