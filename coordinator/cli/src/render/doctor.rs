//! `swell doctor` as text: what is not well, the same of many members on one line.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proto::checkup::{Finding, Grade};
use proto::listed;

use super::plain;
use crate::doctor::{Checkup, Checkups};
use crate::span;

/// Names on one line; of the rest it says how many.
const NAMES_MAX: usize = 5;

/// Doubts and what is wrong, the worst first, and how many members are well; `verbose`: all findings.
pub(crate) fn text(found: &Checkups, verbose: bool) -> String {
    let members = found.coordinator.iter().chain(&found.hosts);
    let of_members = members.map(|member| (member.name.as_str(), &member.findings));
    let all = [("this machine", &found.here)].into_iter().chain(of_members);
    let mut told = BTreeMap::<Line<'_>, Vec<&str>>::new();
    for (name, findings) in all {
        for finding in findings.iter().filter(|one| verbose || one.grade != Grade::Good) {
            told.entry(Line::of(finding)).or_default().push(name);
        }
    }
    let mut text = String::new();
    let mut lines = told.iter().peekable();
    while let Some((line, who)) = lines.next() {
        let Finding { topic, grade, what, next } = line.finding;
        let (topic, grade, who, what) = (topic.name(), grade.name(), names(who), plain(what));
        text.push_str(&format!("{grade:<5}  {who}: {topic}: {what}\n"));
        // Advice that holds for several is given once, below the last of them.
        let again = lines.peek().is_some_and(|(after, _)| after.finding.next == *next);
        if !next.is_empty() && !again {
            text.push_str(&format!("       next: {}\n", plain(next)));
        }
    }
    text.push_str(&closing(found));
    text
}

/// What one line says; in the order of lines: the worst first, and what has the same advice together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Line<'a> {
    order: (Reverse<Grade>, &'static str, &'a str),
    finding: &'a Finding,
}

impl<'a> Line<'a> {
    fn of(finding: &'a Finding) -> Self {
        let order = (Reverse(finding.grade), finding.topic.name(), finding.next.as_str());
        Self { order, finding }
    }
}

/// `n1, n2, n3, n4, n5 and 12 more`.
fn names(who: &[&str]) -> String {
    listed(who.iter().map(|name| plain(name)), NAMES_MAX)
}

/// `1 coordinator and 40 hosts asked: 38 well, 1 in doubt, 1 wrong`.
fn closing(found: &Checkups) -> String {
    let hosts = span::count(found.hosts.len(), "host");
    let who = match (&found.coordinator, found.hosts.is_empty()) {
        (None, true) => return "nobody was asked\n".to_owned(),
        (None, false) => hosts,
        (Some(_), _) => format!("1 coordinator and {hosts}"),
    };
    let members: Vec<&Checkup> = found.coordinator.iter().chain(&found.hosts).collect();
    let of = |grade| members.iter().filter(|member| member.grade == grade).count();
    let (well, doubt, wrong) = (of(Grade::Good), of(Grade::Doubt), of(Grade::Wrong));
    format!("{who} asked: {well} well, {doubt} in doubt, {wrong} wrong\n")
}

#[cfg(test)]
mod tests {
    use proto::checkup::Topic;

    use super::*;

    fn member(name: &str, findings: Vec<Finding>) -> Checkup {
        let grade = Grade::worst_of(&findings);
        Checkup { host: None, name: name.to_owned(), address: None, grade, findings }
    }

    fn silent(place: usize) -> Finding {
        let what = format!("does not answer at 10.0.0.{place}:7070 within 5 s");
        Finding::wrong(Topic::Answer, what, "look there")
    }

    fn unmanaged() -> Finding {
        Finding::doubt(Topic::ServiceManager, "no service manager is told", "systemctl enable")
    }

    fn clock() -> Finding {
        Finding::good(Topic::Clock, "0 s ahead")
    }

    #[test]
    fn the_same_of_many_is_one_line_with_five_names() {
        let host = |place: usize| match place {
            3 | 9 => member(&format!("n{place}"), vec![silent(place)]),
            _ => member(&format!("n{place}"), vec![unmanaged(), clock()]),
        };
        let found = Checkups {
            here: vec![Finding::wrong(Topic::Keys, "operator.key is open", "chmod 600 it")],
            coordinator: Some(member("the coordinator", vec![clock()])),
            hosts: (1..=19).map(host).collect(),
        };
        let expected = "\
wrong  n3: answer: does not answer at 10.0.0.3:7070 within 5 s
wrong  n9: answer: does not answer at 10.0.0.9:7070 within 5 s
       next: look there
wrong  this machine: keys: operator.key is open
       next: chmod 600 it
doubt  n1, n2, n4, n5, n6 and 12 more: service-manager: no service manager is told
       next: systemctl enable
1 coordinator and 19 hosts asked: 1 well, 17 in doubt, 2 wrong
";
        assert_eq!(text(&found, false), expected);
        assert_eq!(found.grade(), Grade::Wrong);
        let verbose = text(&found, true);
        assert!(verbose.contains("good   the coordinator, n1, n2, n4, n5 and 13 more: clock: 0 s"));
    }

    #[test]
    fn where_all_is_well_there_is_one_line() {
        let hosts = vec![member("n1", vec![clock()])];
        let mut found = Checkups { here: vec![clock()], coordinator: None, hosts };
        assert_eq!(text(&found, false), "1 host asked: 1 well, 0 in doubt, 0 wrong\n");
        assert_eq!(found.grade(), Grade::Good);
        found.hosts.clear();
        assert_eq!(text(&found, false), "nobody was asked\n");
        found.here.push(unmanaged());
        assert_eq!(found.grade(), Grade::Doubt);
    }

    #[test]
    fn what_a_member_says_cannot_steer_the_terminal() {
        let hosts = vec![member("n1", vec![Finding::wrong(Topic::Disk, "\u{1b}[2J", "\u{1b}c")])];
        let shown = text(&Checkups { here: Vec::new(), coordinator: None, hosts }, false);
        assert!(!shown.contains('\u{1b}'), "{shown:?}");
    }
}
