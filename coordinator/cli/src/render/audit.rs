//! `swell audit`: entries as a table and as CSV, and what became of verifying them.

use proto::audit::{Entry, Origin, statement_of};
use proto::id::Digest;
use proto::listed;
use proto::report::{AuditReport, RiftReport};
use proto::statement::UnixTime;
use serde_json::Value;

use super::{plain, table};
use crate::audit::{Before, Fault, Verdict, Without};
use crate::span;

/// Names on one line; of the rest it says how many.
const NAMES_MAX: usize = 5;

// --- entries ---

/// The entries, in the order given.
pub(crate) fn entries(entries: &[Entry]) -> String {
    let row = |entry: &Entry| {
        let said = Said::of(entry);
        [
            entry.seq.to_string(),
            entry.at.to_string(),
            plain(&entry.actor),
            plain(&entry.action),
            plain(&said.on),
            plain(&said.why),
        ]
    };
    match entries.is_empty() {
        true => "no entry fits\n".to_owned(),
        false => {
            let header = ["ENTRY", "AT (UTC)", "WHO", "WHAT", "ON", "WHY"];
            table(header, &entries.iter().map(row).collect::<Vec<_>>())
        }
    }
}

/// What an entry says, for people.
struct Said {
    on: String,
    why: String,
}

impl Said {
    fn of(entry: &Entry) -> Self {
        let detail: Value = serde_json::from_str(&entry.detail).unwrap_or_default();
        let about = &detail["about"];
        let mut on = match statement_of(&entry.subject) {
            Some(digest) => {
                let kind = entry.subject.split(' ').next().unwrap_or_default();
                format!("{kind} {digest}")
            }
            None => entry.subject.clone(),
        };
        let more = about_of(about).or_else(|| text(&detail["name"]));
        if let Some(more) = more {
            on.push_str(&format!(": {more}"));
        }
        let by = text(&detail["by"]).filter(|by| *by != entry.actor);
        let parts = [text(&about["reason"]), by.map(|by| format!("(by {by})"))];
        Self { on, why: parts.into_iter().flatten().collect::<Vec<_>>().join(" ") }
    }
}

/// What a statement is about, from what its entry tells.
fn about_of(about: &Value) -> Option<String> {
    let get = |name: &str| text(&about[name]);
    if let (Some(scope), Some(to)) = (get("scope"), get("to")) {
        let back = get("direction").filter(|direction| direction == "rollback");
        return Some(format!("{scope} -> {to}{}", back.map_or("", |_| " (rollback)")));
    }
    if let (Some(action), Some(rollout)) = (get("action"), get("rollout")) {
        let rollout = rollout.parse().map_or(rollout, |id: Digest| id.to_string());
        let wave = about["wave"].as_u64().map(|wave| format!(", wave {}", wave + 1));
        let host = get("host").map(|host| format!(", host {host}"));
        let more = [wave, host].into_iter().flatten().collect::<String>();
        return Some(format!("{action} {rollout}{more}"));
    }
    if let Some(env) = get("env") {
        let host = get("host").map(|host| format!("host {host} in ")).unwrap_or_default();
        let until = about["until"].as_u64().map(|until| format!(" until {}", UnixTime(until)));
        return Some(format!("{host}{env}{}", until.unwrap_or_default()));
    }
    match (get("service"), get("version"), get("name")) {
        (Some(service), Some(version), _) => Some(format!("{service} {version}")),
        (_, _, Some(name)) => Some(name),
        _ => about["version"].as_u64().map(|version| format!("version {version}")),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

// --- CSV ---

/// The first line of the CSV.
pub(crate) const CSV_HEAD: &str =
    "entry,at,at_utc,actor,action,subject,reason,detail,prev,hash\r\n";

/// An entry as a line of CSV (RFC 4180).
pub(crate) fn csv(entry: &Entry) -> String {
    let Entry { seq, at, actor, action, subject, detail, prev, hash } = entry;
    let told: Value = serde_json::from_str(detail).unwrap_or_default();
    let reason = text(&told["about"]["reason"]).unwrap_or_default();
    let (prev, hash) = (format!("{prev:#}"), format!("{hash:#}"));
    let (seq, unix, utc) = (seq.to_string(), at.0.to_string(), at.to_string());
    let cells = [&seq, &unix, &utc, actor, action, subject, &reason, detail, &prev, &hash];
    cells.map(|text| cell(text)).join(",") + "\r\n"
}

/// A cell. What a table of numbers would take for a formula gets a `'` before it; what has a comma, a
/// quote or the end of a line in it stands in quotes.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = format!("{}{text}", if formula { "'" } else { "" });
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

// --- the verdict ---

/// `swell audit --verify`.
pub(crate) fn verdict(verdict: &Verdict) -> String {
    let Verdict { head, origin, last_at, hosts, agree, agreed, faults, before, .. } = verdict;
    let mut text: String = faults.iter().map(fault).collect();
    text.push_str(&match origin {
        Some(Origin { since, .. }) => format!(
            "{} of {since} to {last_at} UTC {}; the last has the hash {}\n",
            entries_of(head.length),
            if verdict.sound { "are what was written" } else { "stand in a chain" },
            head.hash
        ),
        None => "the record has no entry\n".to_owned(),
    });
    if !agree.is_empty() {
        let names = names(agree);
        let (some, all) = (agree.len(), span::count(*hosts, "host"));
        let agree = format!("{some} of {all} {}", if some == 1 { "agrees" } else { "agree" });
        text.push_str(&format!("up to entry {agreed} as remembered by {names}: {agree}\n"));
    }
    let recovered = origin.is_some_and(|origin| origin.recovered);
    for Before { since, entries, seen, by, .. } in before {
        let became = if recovered { "; a recovery began this one" } else { "" };
        text.push_str(&format!(
            "an earlier record, begun on {since} UTC, had {} when last heard of on {seen} UTC: \
             remembered by {}{became}\n",
            entries_of(*entries),
            names(by)
        ));
    }
    if let Some(Origin { since, recovered: true, .. }) = origin
        && before.is_empty()
    {
        text.push_str(&format!(
            "a recovery began this record on {since} UTC; nobody asked remembers the one before\n"
        ));
    }
    for Without { name, why } in &verdict.without {
        text.push_str(&format!("without {}: {}\n", plain(name), plain(why)));
    }
    let is_wrong =
        |fault: &Fault| !matches!(fault, Fault::Unvouched { .. } | Fault::Recovered { .. });
    if faults.iter().any(is_wrong) {
        text.push_str(
            "next: keep coordinator.db as it is, and find out who could write to it; what hosts remember \
             is in audit.json of each one's state directory\n",
        );
    }
    text
}

fn entries_of(count: u64) -> String {
    span::count(usize::try_from(count).unwrap_or(usize::MAX), "entry").replace("entrys", "entries")
}

fn fault(fault: &Fault) -> String {
    let text = match fault {
        Fault::Chain { what, .. } => what.clone(),
        Fault::Rewritten { from, to, here, was, seen, by } => {
            let place = match from == to {
                true => format!("entry {from} is not what it was"),
                false => {
                    format!("one of the entries {from} to {to}, or several, are not what they were")
                }
            };
            format!(
                "{place}, and all behind was hashed anew: entry {to} has the hash {here}, and had {was} \
                 on {seen} UTC, as remembered by {}",
                names(by)
            )
        }
        Fault::Cut { entry, was, seen, by } => format!(
            "entries {entry} to {was} are gone: they were there on {seen} UTC, as remembered by {}",
            names(by)
        ),
        Fault::Replaced { was, seen, by } => format!(
            "another record was here, of {}, on {seen} UTC, and this one does not say that it is a \
             recovery: remembered by {}",
            entries_of(*was),
            names(by)
        ),
        Fault::Recovered { record, since } => format!(
            "it says that a recovery began it on {since} UTC, as any record would that was put in the \
             place of another one; if you know of that recovery: --recovered {record}"
        ),
        Fault::NotNamed { record } => {
            format!("it is record {record}, and not the one that --recovered names")
        }
        Fault::Unvouched { hosts: 0 } => {
            "nobody vouches for it: no host is known here, and what no host \
             has heard of can be written anew; once one has joined, it remembers"
                .to_owned()
        }
        Fault::Unvouched { hosts } => format!(
            "nobody vouches for it: of {} none remembers it as it is; ask again from where they can be \
             reached",
            span::count(*hosts, "host")
        ),
        Fault::Noticed { by, what, at } => {
            format!("noticed by {} on {at} UTC: {}", plain(by), plain(what))
        }
    };
    format!("WRONG: {text}\n")
}

/// `n1, n2, n3, n4, n5 and 12 more`.
fn names(who: &[String]) -> String {
    listed(who.iter().map(|name| plain(name)), NAMES_MAX)
}

// --- status ---

/// What `swell status` says of the record: that it was begun anew, and what must not be.
pub(crate) fn status(report: &AuditReport) -> String {
    let mut text = String::new();
    if let Some(told) = &report.told
        && told.origin.recovered
    {
        let (since, count) = (told.origin.since, entries_of(told.head.length));
        text.push_str(&format!("audit record: {count}; a recovery began it on {since} UTC\n"));
    }
    if let Some(RiftReport { rift, .. }) = report.rifts.first() {
        let who: Vec<_> = report.rifts.iter().map(|one| one.name.to_string()).collect();
        let (rift, who) = (plain(&rift.to_string()), names(&who));
        text.push_str(&format!("WRONG: {rift} (noticed by {who}): swell audit --verify\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use proto::audit::{Act, Head, Rift, RiftKind, Told};

    use super::*;
    use crate::render::sample;

    fn entry(actor: &str, action: &'static str, subject: String, detail: Value) -> Entry {
        let act = Act { actor: actor.to_owned(), action, subject, detail };
        Entry::after(Head { length: 6, hash: Digest::of(b"6") }, sample::CREATED, act)
    }

    #[test]
    fn entries_say_who_did_what_when_and_why() {
        let (rollout, pause) = (Digest::of(b"rollout"), Digest::of(b"pause"));
        let about = |about: Value| serde_json::json!({ "about": about, "by": "ada" });
        let all = [
            entry(
                "ada+bob",
                "submit",
                format!("rollout {rollout:#}"),
                about(serde_json::json!({
                    "scope": "web/production", "to": "1.4.0", "direction": "rollback",
                    "reason": "slow\nqueries",
                })),
            ),
            entry(
                "ada",
                "learned",
                format!("directive {pause:#}"),
                about(serde_json::json!({ "action": "promote", "rollout": rollout, "wave": 1 })),
            ),
            entry(
                "ada",
                "submit",
                format!("freeze {pause:#}"),
                about(serde_json::json!({ "env": "production", "until": 1_800_000_000 })),
            ),
            entry("ci", "publish", "release web 1".to_owned(), serde_json::json!({ "by": "ci" })),
            entry(
                "token 01",
                "host-join",
                "host x".to_owned(),
                serde_json::json!({ "name": "n1" }),
            ),
        ];
        let expected = format!(
            "\
ENTRY  AT (UTC)             WHO       WHAT       ON                                                 WHY
7      2027-01-15 08:00:00  ada+bob   submit     rollout {rollout}: web/production -> 1.4.0 (rollback)  slow queries (by ada)
7      2027-01-15 08:00:00  ada       learned    directive {pause}: promote {rollout}, wave 2
7      2027-01-15 08:00:00  ada       submit     freeze {pause}: production until 2027-01-15 08:00:00
7      2027-01-15 08:00:00  ci        publish    release web 1
7      2027-01-15 08:00:00  token 01  host-join  host x: n1
"
        );
        let told = entries(&all);
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&told), squeeze(&expected), "{told}");
        assert_eq!(entries(&[]), "no entry fits\n");
    }

    #[test]
    fn a_cell_is_neither_torn_nor_run() {
        for (text, expected) in [
            ("web 1", "web 1"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@sum", "'@sum"),
            ("\t=1", "'\t=1"),
            ("1=2", "1=2"),
        ] {
            assert_eq!(cell(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_line_of_csv_has_a_cell_for_each_name() {
        let detail = serde_json::json!({ "about": { "reason": "=cmd" } });
        let entry = entry("ada", "submit", "x".to_owned(), detail);
        let line = csv(&entry);
        let expected = format!(
            "7,{},{},ada,submit,x,'=cmd,\"{{\"\"about\"\":{{\"\"reason\"\":\"\"=cmd\"\"}}}}\",{:#},{:#}\r\n",
            entry.at.0, entry.at, entry.prev, entry.hash
        );
        assert_eq!(line, expected);
        assert_eq!(CSV_HEAD.matches(',').count(), 9);
    }

    #[test]
    fn status_tells_of_a_new_record_and_of_what_must_not_be() {
        let hash = Digest::of(b"entry");
        let head = Head { length: 7, hash };
        let origin = |recovered| Origin { record: hash, since: sample::CREATED, recovered };
        let told = |recovered| AuditReport {
            told: Some(Told { origin: origin(recovered), head }),
            rifts: Vec::new(),
        };
        assert_eq!(status(&AuditReport::default()), "");
        assert_eq!(status(&told(false)), "");
        let expected = "audit record: 7 entries; a recovery began it on 2027-01-15 08:00:00 UTC\n";
        assert_eq!(status(&told(true)), expected);
        let rift = Rift {
            kind: RiftKind::Cut,
            record: hash,
            promised: Head { length: 9, hash },
            told: head,
            at: sample::CREATED,
        };
        let rifts = [0, 1].map(|place| RiftReport {
            host: sample::host_id(place),
            name: format!("n{place}").parse().unwrap(),
            rift,
        });
        let report = AuditReport { rifts: rifts.to_vec(), ..told(false) };
        let expected = "WRONG: the audit record was cut: it had 9 entries, and then 7 (noticed by n0, \
                        n1): swell audit --verify\n";
        assert_eq!(status(&report), expected);
    }
}
