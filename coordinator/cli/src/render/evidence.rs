//! What a host has kept of an attempt that ended badly.

use proto::evidence::{Evidence, Sample};

use super::{plain, table};
use crate::evidence::HostEvidence;

/// All of it, or why it is not here and where it lies. What the service said stands in from the margin:
/// none of it can be taken for swell's own.
pub(crate) fn evidence(of: &HostEvidence) -> String {
    let Some(evidence) = &of.evidence else {
        return format!(
            "\nevidence of {}: not here: {}\n  next: look there, as root, in {} (with another \
             state_dir, below that)\n",
            of.name,
            plain(&of.why),
            plain(&of.path)
        );
    };
    let Evidence { attempt, version, note, kept, receipt, samples, log, journal, .. } = evidence;
    let mut text = format!(
        "\nevidence of {}, attempt {attempt}, {version}: {}\n\
         kept {kept} UTC in {}, told of by receipt {receipt:#}\n",
        of.name,
        plain(note),
        plain(&of.path),
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
        false => format!("\n{what}, the end of it:\n{lines}"),
    }
}

#[cfg(test)]
mod tests {
    use proto::id::Digest;
    use proto::receipt::{Cause, State};

    use super::*;
    use crate::render::sample::{CREATED, host_id, version};

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
        }
    }

    #[test]
    fn all_of_it_is_shown() {
        let expected = format!(
            "
evidence of n1, attempt 7, 1.3.0: /healthz: 500 three times in a row
kept 2027-01-15 08:00:09 UTC in /var/lib/groundswell/evidence/web/7.json, told of by receipt {:#}

FIRST SEEN           LAST SEEN            TIMES  WHAT
2027-01-15 08:00:00  2027-01-15 08:00:00  1      step: baking
2027-01-15 08:00:00  2027-01-15 08:00:02  3      /healthz: 500

output of its commands, the end of it:
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
evidence of n1: not here: it does not answer within 10 s
  next: look there, as root, in /var/lib/groundswell/evidence/web (with another state_dir, below that)
";
        assert_eq!(evidence(&HostEvidence { evidence: None, path, why, ..of() }), expected);
    }
}
