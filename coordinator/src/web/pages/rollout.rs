//! One rollout: its waves with a cell for each host, the gate in words, who needs a look.

use maud::{Markup, html};
use proto::Env;
use proto::receipt::State;
use proto::report::{
    BakeReport, Finding, FleetReport, RolloutPhase, RolloutReport, StandingReport, WaveReport,
};
use proto::statement::Direction;

use super::super::charts;
use super::super::live::Board;
use super::super::page::{counted, stance, standing, time};
use crate::store::Sample;

/// Hosts in the table of those that need a look.
const LISTED_MAX: usize = 50;

/// `acts_in`: environments in which whoever looks may have the coordinator act. `samples`: how it went on.
/// `events`: what happened, an element of its own.
pub(super) fn board(
    fleet: &FleetReport,
    report: &RolloutReport,
    acts_in: &[Env],
    samples: &[Sample],
    events: Markup,
) -> Board {
    // One that waits for approval is newer itself than the one in force.
    let is_newer = |one: &&RolloutReport| {
        one.service == report.service && one.env == report.env && one.epoch > report.epoch
    };
    let newer = fleet.rollouts.iter().find(is_newer);
    let mut board = Board::default();
    board.piece("head", head(report));
    // The region that is read out stays, and is read out when its words change.
    board.raw("<div role=\"status\">");
    board.piece("why", html! { p id="why" class="why" { (report.why) } });
    board.raw("</div>");
    board.piece("facts", facts(report));
    board.piece("acts", acts(report, acts_in.contains(&report.env), newer));
    board.picture("pictures", pictures(samples));
    for (index, wave) in report.waves.iter().enumerate() {
        let hosts = report.hosts.iter().filter(|host| host.wave as usize == index);
        board.raw("<section class=\"wave\">");
        let id = format!("wave-{index}");
        board.piece(id.clone(), wave_head(&id, index, report.waves.len(), wave));
        // What it shows stands in words above, and each host in the table below.
        board.raw("<div class=\"cells\" aria-hidden=\"true\">");
        for host in hosts {
            let id = format!("c-{}", host.host);
            board.piece(id.clone(), cell(&id, host));
        }
        board.raw("</div></section>");
    }
    board.piece("listed", listed(report));
    board.piece("events", events);
    board
}

fn pictures(samples: &[Sample]) -> Markup {
    let samples = &charts::thinned(samples);
    let drawn = [charts::progress(samples), charts::errors(samples), charts::latency(samples)];
    html! { div id="pictures" class="cards" { @for picture in drawn.iter().flatten() { (picture) } } }
}

fn head(report: &RolloutReport) -> Markup {
    let RolloutReport { service, env, from, to, author, reason, created, .. } = report;
    let back = report.direction == Direction::Rollback;
    html! {
        section id="head" {
            h1 {
                (service) " " (to) " " span class="quiet" { "to " (env) }
            }
            p {
                (stance(report)) " "
                @if back { "rollback " } @if report.adopt { "adoption " }
                @if let Some(from) = from { "from " (from) " " }
                "by " strong { (author) } ", " (time(*created))
            }
            @if !reason.is_empty() { p { "Reason: " (reason) } }
        }
    }
}

fn facts(report: &RolloutReport) -> Markup {
    html! {
        section id="facts" aria-label="About it" {
            dl class="facts" {
                dt { "Rollout" } dd { code { (format!("{:#}", report.id)) } }
                dt { "Epoch" } dd { (report.epoch) }
                @if let Some(ended) = report.ended { dt { "Ended" } dd { (time(ended)) } }
                @else { dt { "Expires" } dd { (time(report.expires)) } }
                // Of one that waits for a person, or is over, it says nothing.
                @if report.phase == RolloutPhase::Running {
                    dt { "Without the coordinator" }
                    dd { @if report.self_supporting { "it would end by itself" } @else { "it could not end yet" } }
                }
                dt { "Artifact" }
                dd {
                    (report.fetches.whole) " of " (counted(report.hosts.len(), "host")) " have all of it"
                    @if report.fetches.running > 0 {
                        ", " (report.fetches.running) " fetch, " (mib(report.fetches.bytes_per_s)) "/s in all"
                    }
                    @if report.fetches.stalled > 0 { ", " (report.fetches.stalled) " get nothing" }
                }
            }
            (charts::waves(report))
        }
    }
}

fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// What may be done: by a button where the coordinator may sign it, else by a line to type.
fn acts(report: &RolloutReport, may: bool, newer: Option<&RolloutReport>) -> Markup {
    let id = format!("{:#}", report.id);
    let open = matches!(report.phase, RolloutPhase::Running | RolloutPhase::Paused);
    let short = report.id.to_string();
    let lines: Vec<(&str, String)> = match report.phase {
        RolloutPhase::Pending => vec![("Approve", format!("swell approve {short}"))],
        RolloutPhase::Halted | RolloutPhase::Aborted => {
            vec![("Try it again", format!("swell retry {short}"))]
        }
        _ => Vec::new(),
    };
    let button = |act: &str, name: &str| {
        html! { a id={ "act-" (act) } class="button" href={ "/rollouts/" (id) "/" (act) } { (name) } }
    };
    html! {
        section id="acts" aria-label="What can be done" {
            @if let Some(newer) = newer {
                p {
                    "The newest of " (report.service) " in " (report.env) " is "
                    a id="newer" href={ "/rollouts/" (format!("{:#}", newer.id)) } { (newer.to) }
                    ", " (stance(newer))
                }
            } @else if may {
                p class="buttons" {
                    @if report.phase == RolloutPhase::Running { (button("pause", "Pause")) }
                    @if report.phase == RolloutPhase::Paused { (button("resume", "Resume ...")) }
                    @if report.phase == RolloutPhase::Running && report.waves.iter().any(|wave| !wave.open) {
                        (button("promote", "Open the next wave ..."))
                    }
                    @if open || report.phase == RolloutPhase::Expired { (button("abort", "Abort")) }
                    @if can_be_taken_back(report) {
                        (button("roll-back", "Roll back"))
                    }
                }
            }
            @if newer.is_none() {
                @for (what, line) in lines {
                    p class="line" { (what) ", with your key: " code { (line) } }
                }
            }
            p class="line" { "In a terminal: " code { "swell watch " (short) } }
            p class="line" {
                "What was said on a host, which no page has: " code { "swell logs " (short) " --host NAME" }
            }
        }
    }
}

/// Whether the coordinator may, and there is anything to take back: it has not all gone back by itself.
fn can_be_taken_back(report: &RolloutReport) -> bool {
    let elsewhere = report.back.as_ref().is_some_and(|back| back.elsewhere_found > 0);
    let forward = report.direction == Direction::Forward && report.from.is_some();
    forward && (!report.has_all_gone_back() || elsewhere)
}

/// How long a bake lasts still, so that it is no news in every second; the minute in which it ends.
fn bakes(bake: BakeReport) -> String {
    let left = match bake.left_s {
        left_s @ 121.. => format!("{} min", left_s.div_ceil(60)),
        left_s => format!("{} s", left_s.div_ceil(10) * 10),
    };
    let Some(until) = bake.until else { return format!("{left} more once it is resumed") };
    let until = until.to_string();
    let clock = until.split_once(' ').and_then(|(_, clock)| clock.get(..5)).unwrap_or(&until);
    format!("{left} more, until {clock} UTC")
}

fn wave_head(id: &str, index: usize, of: usize, wave: &WaveReport) -> Markup {
    let WaveReport { waiting, activating, baking, committed, failed, returned, .. } = wave;
    let counts = [
        ("committed", *committed),
        ("baking", *baking),
        ("activating", *activating),
        ("waiting", *waiting),
        ("failed", *failed),
        ("returned", *returned),
        ("skipped", wave.skipped),
        ("unreachable", wave.unreachable),
    ];
    let said = counts.iter().filter(|(_, count)| *count > 0);
    let said: Vec<_> = said.map(|(name, count)| format!("{count} {name}")).collect();
    html! {
        div id=(id) class="wavehead" {
            h2 { "Wave " (index + 1) " of " (of) " " span class="quiet" { (counted(wave.hosts as usize, "host")) } }
            p {
                @if wave.open { span class="chip go" { "open" } } @else { span class="chip past" { "not open" } }
                " " (said.join(", "))
            }
            @if let Some(bake) = wave.bake { p { "bakes at most " (bakes(bake)) } }
            p class="quiet" {
                "bakes " (wave.wait_s) " s, may fail " (wave.failed_max) ", may be silent " (wave.unreachable_max)
            }
            @if let Some(pooled) = &wave.pooled {
                p class={ @match pooled.finding { Finding::Good => "quiet", Finding::Doubt => "hold", Finding::Worse => "bad" } } {
                    "Requests: " (pooled.text)
                }
            }
        }
    }
}

fn cell(id: &str, host: &StandingReport) -> Markup {
    let (class, name) = standing(host.state, host.alive);
    html! { i id=(id) class=(class) title={ (host.name) ": " (name) } {} }
}

/// Those that are not where they should be first; of a large fleet, no more than fit a page.
fn listed(report: &RolloutReport) -> Markup {
    let mut hosts: Vec<_> = report.hosts.iter().collect();
    hosts.sort_by_key(|host| urgency(host));
    let shown = &hosts[..hosts.len().min(LISTED_MAX)];
    html! {
        section id="listed" {
            h2 { "Hosts" }
            @if hosts.len() > shown.len() {
                p class="quiet" { "The " (shown.len()) " that most need a look, of " (hosts.len()) "." }
            }
            div id="listed-table" class="scroll" tabindex="0" role="region" aria-label="Hosts of this rollout" {
                table {
                    thead { tr { th scope="col" { "Host" } th scope="col" { "Wave" } th scope="col" { "State" } th scope="col" { "Has" } th scope="col" { "Note" } } }
                    tbody {
                        @for host in shown {
                            @let (class, name) = standing(host.state, host.alive);
                            tr {
                                td { (host.name) }
                                td { (host.wave + 1) }
                                td { span class={ "mark " (class) } {} (name) @if host.skipped { " (skipped)" } }
                                td { @if let Some(percent) = fetched(host) { (percent) " %" } }
                                td { (host.note) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How much of the artifact it has, in percent, while it fetches: later, what it has packed anew to give
/// it to others.
fn fetched(host: &StandingReport) -> Option<u64> {
    let fetches = host.state.is_none_or(|state| state <= State::Fetching);
    (fetches && host.of > 0).then(|| u64::from(host.pieces) * 100 / u64::from(host.of))
}

/// Smaller: sooner. Failed, silent, under way, waiting, done.
fn urgency(host: &StandingReport) -> u8 {
    match standing(host.state, host.alive).0 {
        "xx" => 0,
        "re" => 1,
        "un" => 2,
        "ac" => 3,
        "ba" => 4,
        "fe" => 5,
        "st" | "pe" => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proto::UnixTime;
    use proto::report::{BackReport, BackState, CountedReport, LatencyReport};

    use super::*;
    use crate::store::{Counts, Sampled};

    /// A rollout under way over so many hosts.
    fn report(hosts: u32) -> RolloutReport {
        let standing = |rank: u32| {
            let states = [State::Staged, State::Baking, State::Committed, State::Reverted];
            serde_json::json!({
                "host": format!("{:a>12}", letters(rank)),
                "name": format!("web-{rank:04}.rack-{}.example", rank % 40),
                "wave": rank * 4 / hosts, "skipped": false,
                "state": states[rank as usize % 4], "cause": null,
                "note": if rank % 4 == 3 { "job failed: exited with status 3" } else { "" },
                "pieces": 128, "of": 256, "counted": null, "alive": !rank.is_multiple_of(50), "drift": null,
            })
        };
        let wave = serde_json::json!({
            "hosts": hosts / 4, "open": true, "waiting": hosts / 16, "activating": 0,
            "baking": hosts / 16, "committed": hosts / 16, "failed": hosts / 16, "returned": 0,
            "skipped": 0, "unreachable": 0, "wait_s": 60, "failed_max": 1, "unreachable_max": 1,
            "pooled": null,
        });
        let report = serde_json::json!({
            "id": "ab".repeat(32), "service": "web", "env": "production", "epoch": 7,
            "from": "1.0.0", "to": "2.0.0", "direction": "forward", "author": "ada",
            "reason": "", "created": 1, "expires": 2, "phase": "running", "held": false,
            "ended": null, "why": "waiting for wave 3", "self_supporting": true,
            "waves": vec![wave; 4], "hosts": (0..hosts).map(standing).collect::<Vec<_>>(),
        });
        serde_json::from_value(report).unwrap()
    }

    /// A number as ids of hosts write it.
    fn letters(mut number: u32) -> String {
        let mut text = String::new();
        while number > 0 {
            text.insert(0, char::from(b'a' + u8::try_from(number % 26).unwrap()));
            number /= 26;
        }
        text
    }

    fn fleet(rollout: RolloutReport) -> FleetReport {
        FleetReport {
            fleet: "acme-9f6584b4".parse().unwrap(),
            seen_by: "coordinator".parse().unwrap(),
            at: rollout.created,
            root_version: 1,
            coordinator_alive: true,
            hosts: Vec::new(),
            rollouts: vec![rollout],
            pending: Vec::new(),
            freezes: Vec::new(),
            skips: Vec::new(),
            audit: proto::report::AuditReport::default(),
        }
    }

    /// What must be true for it to be there in a second on a slow line. The times it prints are for
    /// people.
    #[test]
    fn a_rollout_over_2000_hosts_is_one_light_page() {
        let fleet = fleet(report(2_000));
        let samples: Vec<_> = (0..2_000).map(sample).collect();
        let make = || board(&fleet, &fleet.rollouts[0], &[], &samples, html! { p id="events" {} });
        let begin = Instant::now();
        let made = make();
        let bytes = made.markup().0.len();
        println!("2,000 hosts: {bytes} bytes, made in {:?}", begin.elapsed());
        assert!(bytes < 280_000, "{bytes} bytes: what is around it has some, too");
        assert_eq!(made.markup().0.matches("<figure>").count(), 3);
        let now = tokio::time::Instant::now();
        let mut shown = super::super::super::live::Shown::of(&made, now);
        let begin = Instant::now();
        assert_eq!(shown.changes(&make(), now), None);
        println!("looked through for changes in {:?}, making it included", begin.elapsed());
        let listed = made.markup().0.matches("<tr>").count();
        assert!(listed <= LISTED_MAX + 1, "{listed} rows");
    }

    /// The longest numbers that such a rollout has, and something to draw in each picture.
    fn sample(n: u32) -> Sample {
        let counted = |bad| Some(CountedReport { bad, requests: 1_000_000 });
        let counts = Counts {
            waiting: 1_500 - n * 3 / 4,
            activating: n % 97,
            baking: n % 89,
            committed: n * 3 / 4,
            failed: n % 13,
            returned: n % 11,
            skipped: 3,
            unreachable: n % 7,
        };
        let latency =
            LatencyReport { new_p99_ms: Some(1_234 + u64::from(n)), control_p99_ms: Some(1_111) };
        let sampled = Sampled {
            counts,
            new: counted(12_345 + u64::from(n)),
            control: counted(11_111),
            latency,
        };
        Sample { at: UnixTime(1_800_000_000 + u64::from(n) * 2), sampled }
    }

    fn page(fleet: &FleetReport, report: &RolloutReport) -> String {
        board(fleet, report, std::slice::from_ref(&report.env), &[], html! { p id="events" {} })
            .markup()
            .0
    }

    #[test]
    fn what_waits_for_approval_is_no_older_than_what_is_in_force() {
        let running = report(4);
        let waiting = RolloutReport {
            id: "cd".repeat(32).parse().unwrap(),
            epoch: running.epoch + 1,
            phase: RolloutPhase::Pending,
            ..running.clone()
        };
        let fleet = FleetReport { pending: vec![waiting.clone()], ..fleet(running.clone()) };
        let shown = page(&fleet, &waiting);
        assert!(shown.contains("swell approve cdcdcdcdcdcd"), "{shown}");
        assert!(!shown.contains("The newest of"), "{shown}");
        assert!(!page(&fleet, &running).contains("The newest of"), "it is in force still");
        // Once it is in force the other one says so, and has no buttons any more.
        let fleet = FleetReport { rollouts: vec![waiting], pending: Vec::new(), ..fleet };
        let shown = page(&fleet, &running);
        assert!(shown.contains("The newest of"), "{shown}");
        assert!(!shown.contains("id=\"act-pause\""), "{shown}");
    }

    /// What was stopped and has gone back says so at a glance, and offers no way back any more.
    #[test]
    fn a_rollout_that_has_gone_back_says_so_and_is_not_taken_back_again() {
        let back = |state: BackState, elsewhere_found: u32| BackReport {
            back: 1,
            elsewhere_found,
            ..BackReport::new(state)
        };
        let of = |phase, back| {
            let report = RolloutReport { phase, back, ..report(4) };
            page(&fleet(report.clone()), &report)
        };
        let button = |shown: &str| shown.contains("id=\"act-roll-back\"");
        let running = of(RolloutPhase::Running, None);
        assert!(button(&running) && running.contains("it would end by itself"), "{running}");
        for phase in [RolloutPhase::Paused, RolloutPhase::Complete, RolloutPhase::Halted] {
            assert!(!of(phase, None).contains("by itself"), "{phase:?}");
        }
        let going = of(RolloutPhase::Halted, Some(back(BackState::GoingBack, 0)));
        assert!(button(&going) && going.contains(">halted<") && going.contains(">going back<"));
        let stuck = of(RolloutPhase::Halted, Some(back(BackState::Stuck, 0)));
        assert!(button(&stuck) && stuck.contains(">some could not go back<"), "{stuck}");
        let over = of(RolloutPhase::Halted, Some(back(BackState::RolledBack, 0)));
        assert!(!button(&over) && over.contains(">rolled back<") && !over.contains(">halted<"));
        assert!(button(&of(RolloutPhase::Aborted, Some(back(BackState::RolledBack, 1)))));
    }

    #[test]
    fn how_long_a_wave_bakes_still_is_no_news_in_every_second() {
        let until = Some(UnixTime(14 * 3_600 + 5 * 60 + 9));
        let bakes = |left_s, until| bakes(BakeReport { left_s, until });
        assert_eq!(bakes(192, until), "4 min more, until 14:05 UTC");
        assert_eq!(bakes(190, until), bakes(185, until));
        assert_eq!(bakes(61, until), "70 s more, until 14:05 UTC");
        assert_eq!(bakes(3, None), "10 s more once it is resumed");
    }

    #[test]
    fn what_can_be_gone_to_by_keyboard_is_found_again_and_words_are_read_out_once() {
        let report = report(4);
        let shown = page(&fleet(report.clone()), &report);
        for tag in ["<a ", "<button ", "<div id=\"listed-table\""] {
            for (at, _) in shown.match_indices(tag) {
                let rest = &shown[at..];
                let element = &rest[..rest.find('>').unwrap()];
                assert!(element.contains(" id=\""), "{element}");
            }
        }
        // The region that is read out is no part of what is sent anew.
        assert!(shown.contains("<div role=\"status\"><p id=\"why\""), "{shown}");
        assert_eq!(shown.matches("role=\"status\"").count(), 1);
    }
}
