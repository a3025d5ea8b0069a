//! What hosts have kept of attempts that have ended.

use proto::evidence::{Evidence, Sample};
use proto::receipt::{Cause, State};
use proto::report::RolloutReport;

use super::{plain, rollout, table};
use crate::evidence::{HostEvidence, Wanted};
use crate::span;

/// `swell logs`: all of it; of an overview what ended badly, and a line of each of the others. What is not
/// here comes last.
pub(crate) fn logs(report: &RolloutReport, all: &[HostEvidence], wanted: Wanted) -> String {
    let in_a_line = |one: &&HostEvidence| {
        let ended = one.evidence.as_ref();
        wanted == Wanted::Overview && ended.is_some_and(|ended| !ended.ended_badly())
    };
    let mut text = format!("{}, rollout {:#}\n", rollout::title(report), report.id);
    let lines: Vec<_> = all.iter().filter(in_a_line).filter_map(line).collect();
    if !lines.is_empty() {
        text.push('\n');
        text.push_str(&table(["HOST", "ATTEMPT", "VERSION", "KEPT", "ENDED"], &lines));
        text.push_str(&format!("all of it: swell logs {} --host HOST\n", report.id));
    }
    let whole = |one: &&HostEvidence| one.evidence.is_some() && !in_a_line(one);
    text.extend(all.iter().filter(whole).map(evidence));
    let missing = |one: &&HostEvidence| one.evidence.is_none() && !one.nothing_kept;
    text.extend(all.iter().filter(missing).map(evidence));
    match all.iter().filter(|one| one.nothing_kept).count() {
        0 => {}
        1 => text.push_str("\n1 host has kept nothing of it: no attempt of its has ended\n"),
        hosts => text.push_str(&format!(
            "\n{} have kept nothing of it: no attempt of theirs has ended\n",
            span::count(hosts, "host")
        )),
    }
    text
}

fn line(of: &HostEvidence) -> Option<[String; 5]> {
    let evidence = of.evidence.as_ref()?;
    let Evidence { attempt, version, kept, .. } = evidence;
    Some([
        of.name.to_string(),
        attempt.to_string(),
        version.to_string(),
        kept.to_string(),
        ended(evidence),
    ])
}

/// How an attempt ended.
fn ended(evidence: &Evidence) -> String {
    let state = match (evidence.state, evidence.cause) {
        (State::Reverted, Some(Cause::Fleet)) => "reverted with the fleet",
        (state, _) => state.name(),
    };
    match plain(&evidence.note).as_str() {
        "" => state.to_owned(),
        note => format!("{state}: {note}"),
    }
}

/// All of it, or why it is not here and where it lies. What the service said stands in from the margin:
/// none of it can be taken for swell's own.
pub(crate) fn evidence(of: &HostEvidence) -> String {
    let path = plain(&of.path);
    let Some(evidence) = &of.evidence else {
        return format!(
            "\nlogs of {}: not here: {}; look there, as root, in {path} (with another state_dir, below \
             that)\n",
            of.name,
            plain(&of.why),
        );
    };
    let Evidence { attempt, version, kept, receipt, samples, log, journal, .. } = evidence;
    let mut text = format!(
        "\nlogs of {}, attempt {attempt}, {version}, {}\n\
         kept {kept} UTC in {path}, told of by receipt {receipt:#}\n",
        of.name,
        ended(evidence),
    );
    if !samples.is_empty() {
        let rows: Vec<_> = samples.iter().map(row).collect();
        text.push('\n');
        text.push_str(&table(["FIRST SEEN", "LAST SEEN", "TIMES", "WHAT"], &rows));
    }
    text.push_str(&said("output of its commands", log));
    text.push_str(&said("journal of its unit", journal));
    text
}

fn row(sample: &Sample) -> [String; 4] {
    let Sample { first, last, times, text } = sample;
    [first.to_string(), last.to_string(), times.to_string(), plain(text)]
}

fn said(what: &str, text: &str) -> String {
    let lines: String =
        text.lines().map(|line| format!("  {}\n", plain(line).trim_end())).collect();
    match lines.is_empty() {
        true => String::new(),
        false => format!("\n{what}:\n{lines}"),
    }
}

#[cfg(test)]
mod tests {
    use proto::id::Digest;

    use super::*;
    use crate::render::sample::{CREATED, host_id, under_way, version};

    fn of() -> HostEvidence {
        let sample = |after_s, times, text: &str| Sample {
            first: CREATED,
            last: CREATED.plus_s(after_s),
            times,
            text: text.to_owned(),
        };
        let evidence = Evidence {
            service: "web".parse().unwrap(),
            attempt: 7,
            receipt: Digest::of(b"receipt"),
            rollout: Digest::of(b"rollout"),
            release: Digest::of(b"release"),
            version: version("1.3.0"),
            state: State::Reverted,
            cause: Some(Cause::Release),
            note: "/healthz: 500 three times in a row".to_owned(),
            kept: CREATED.plus_s(9),
            samples: vec![sample(0, 1, "step: baking"), sample(2, 3, "/healthz: 500")],
            log: "== start in /srv/web\nno such table\n".to_owned(),
            journal: String::new(),
        };
        HostEvidence {
            host: host_id(0),
            name: "n1".parse().unwrap(),
            address: Some("192.0.2.11:7070".to_owned()),
            path: "/var/lib/groundswell/evidence/web/7.json".to_owned(),
            evidence: Some(evidence),
            why: String::new(),
            nothing_kept: false,
        }
    }

    /// Another one of the same host.
    fn that_ended(attempt: u64, state: State, cause: Option<Cause>, note: &str) -> HostEvidence {
        let of = of();
        let kept = of.evidence.map(|one| Evidence {
            attempt,
            state,
            cause,
            note: note.to_owned(),
            samples: Vec::new(),
            log: String::new(),
            ..one
        });
        HostEvidence { evidence: kept, ..of }
    }

    #[test]
    fn all_of_it_is_shown() {
        let expected = format!(
            "
logs of n1, attempt 7, 1.3.0, reverted: /healthz: 500 three times in a row
kept 2027-01-15 08:00:09 UTC in /var/lib/groundswell/evidence/web/7.json, told of by receipt {:#}

FIRST SEEN           LAST SEEN            TIMES  WHAT
2027-01-15 08:00:00  2027-01-15 08:00:00  1      step: baking
2027-01-15 08:00:00  2027-01-15 08:00:02  3      /healthz: 500

output of its commands:
  == start in /srv/web
  no such table
",
            Digest::of(b"receipt")
        );
        assert_eq!(evidence(&of()), expected);
    }

    #[test]
    fn what_a_service_said_neither_steers_the_terminal_nor_passes_for_swell() {
        let mut of = of();
        let hostile = "fine\u{1b}[2J\u{9b}1A\r\nHOST  NAME\n\u{202e}x\u{7}";
        let shown = of.evidence.as_mut().unwrap();
        (shown.log, shown.journal) = (hostile.to_owned(), hostile.to_owned());
        shown.samples[0].text = hostile.to_owned();
        (shown.note, of.path) = (hostile.to_owned(), hostile.to_owned());
        let text = evidence(&of);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.contains("\nHOST"), "{text}");
    }

    #[test]
    fn where_it_cannot_be_had_that_is_said_and_where_it_lies() {
        let why = "it does not answer within 10 s".to_owned();
        let path = "/var/lib/groundswell/evidence/web".to_owned();
        let expected = "
logs of n1: not here: it does not answer within 10 s; look there, as root, in \
/var/lib/groundswell/evidence/web (with another state_dir, below that)
";
        assert_eq!(evidence(&HostEvidence { evidence: None, path, why, ..of() }), expected);
    }

    #[test]
    fn what_ended_well_takes_a_line_and_hides_nothing() {
        let missing = |why: &str, nothing_kept| HostEvidence {
            evidence: None,
            why: why.to_owned(),
            nothing_kept,
            ..of()
        };
        let all = [
            that_ended(3, State::Committed, None, "as good as before"),
            missing("it is not heard, so it was not asked", false),
            that_ended(4, State::Reverted, Some(Cause::Fleet), ""),
            of(),
            missing("it has kept nothing of that", true),
        ];
        let report = under_way(1);
        let (title, id) = (rollout::title(&report), report.id);
        let bad = evidence(&all[3]);
        let expected = format!(
            "{title}, rollout {id:#}

HOST  ATTEMPT  VERSION  KEPT                 ENDED
n1    3        1.3.0    2027-01-15 08:00:09  committed: as good as before
n1    4        1.3.0    2027-01-15 08:00:09  reverted with the fleet
all of it: swell logs {id} --host HOST
{bad}
logs of n1: not here: it is not heard, so it was not asked; look there, as root, in \
/var/lib/groundswell/evidence/web/7.json (with another state_dir, below that)

1 host has kept nothing of it: no attempt of its has ended
"
        );
        assert_eq!(logs(&report, &all, Wanted::Overview), expected);
        let whole = logs(&report, &all[..1], Wanted::All);
        assert_eq!(whole, format!("{title}, rollout {id:#}\n{}", evidence(&all[0])));
    }
}
