//! What a member finds when it looks itself over, for `swell doctor`; and what more than one program
//! judges alike.
//!
//! Findings are printed as JSON, so names here are a contract. They name files, never what is in them.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dsse::Envelope;
use crate::statement::{Root, SMALL_ENVELOPE_BYTES_MAX, Statement, UnixTime};

/// Findings in one answer.
pub const FINDINGS_MAX: usize = 256;
/// Longest text of a finding, in characters.
pub const TEXT_CHARS_MAX: usize = 500;
/// Longest answer that carries them, in bytes: each character may have four.
pub const CHECKUP_BYTES_MAX: usize = FINDINGS_MAX * (2 * 4 * TEXT_CHARS_MAX + 16);
/// A root that expires in fewer days is in doubt: a new one needs people and keys that are offline.
pub const ROOT_DAYS_MIN: u64 = 60;
const DAY_S: u64 = 86_400;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    pub topic: Topic,
    pub grade: Grade,
    /// What is so, in a line, with its numbers.
    pub what: String,
    /// What to do about it; empty where all is well.
    pub next: String,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    Good,
    /// It works, and somebody should look at it before it does not.
    Doubt,
    /// Something does not work, or will not the next time.
    Wrong,
}

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// A configuration file.
    Config,
    /// Whether the member answers.
    Answer,
    /// Key files: whether they are there, whole, and nobody else's.
    Keys,
    /// The root in force.
    Root,
    /// A host's certificate.
    Certificate,
    /// The one UDP port.
    Port,
    /// What the kernel gives the socket.
    Network,
    /// Which other members are heard.
    Hosts,
    Clock,
    Limits,
    /// Directories: room in them, and whether they can be written.
    Disk,
    ServiceManager,
    Database,
    /// What is deployed on a host.
    Service,
}

impl Finding {
    pub fn good(topic: Topic, what: impl Into<String>) -> Self {
        Self { topic, grade: Grade::Good, what: what.into(), next: String::new() }
    }

    pub fn doubt(topic: Topic, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { topic, grade: Grade::Doubt, what: what.into(), next: next.into() }
    }

    pub fn wrong(topic: Topic, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { topic, grade: Grade::Wrong, what: what.into(), next: next.into() }
    }

    /// With texts of one bounded line each.
    fn in_bounds(self) -> Self {
        Self { what: line(&self.what), next: line(&self.next), ..self }
    }
}

fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_CHARS_MAX).collect()
}

/// `wrong  port: what is so`, and below it what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, grade, what, next } = self;
        write!(f, "{:<5}  {}: {what}", grade.name(), topic.name())?;
        match next.is_empty() {
            true => Ok(()),
            false => write!(f, "\n       next: {next}"),
        }
    }
}

impl Grade {
    /// The name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Doubt => "doubt",
            Self::Wrong => "wrong",
        }
    }

    /// Of several findings the worst; of none it is good.
    pub fn worst_of(findings: &[Finding]) -> Self {
        findings.iter().map(|finding| finding.grade).max().unwrap_or(Self::Good)
    }
}

impl Topic {
    /// The name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Answer => "answer",
            Self::Keys => "keys",
            Self::Root => "root",
            Self::Certificate => "certificate",
            Self::Port => "port",
            Self::Network => "network",
            Self::Hosts => "hosts",
            Self::Clock => "clock",
            Self::Limits => "limits",
            Self::Disk => "disk",
            Self::ServiceManager => "service-manager",
            Self::Database => "database",
            Self::Service => "service",
        }
    }
}

/// The findings as they are told: the worst first, [`FINDINGS_MAX`] at most, each in lines of at most
/// [`TEXT_CHARS_MAX`]. Who asks bounds what it is answered, too.
pub fn bounded(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by_key(|finding| Reverse(finding.grade));
    findings.truncate(FINDINGS_MAX);
    findings.into_iter().map(Finding::in_bounds).collect()
}

/// The findings about one machine as text, the worst first, and how many there are of each grade.
pub fn to_text(findings: &[Finding]) -> String {
    let mut sorted: Vec<_> = findings.iter().collect();
    sorted.sort_by_key(|finding| Reverse(finding.grade));
    let lines: String = sorted.iter().map(|finding| format!("{finding}\n")).collect();
    let of = |grade| findings.iter().filter(|finding| finding.grade == grade).count();
    let (good, doubt, wrong) = (of(Grade::Good), of(Grade::Doubt), of(Grade::Wrong));
    format!("{lines}{good} good, {doubt} in doubt, {wrong} wrong\n")
}

/// The findings as JSON.
pub fn to_json(findings: &[Finding]) -> String {
    serde_json::to_string_pretty(findings).expect("findings serialize") + "\n"
}

/// The root in an envelope, to be looked at: nothing is verified. None: there is no root in it.
pub fn root_in(envelope: &[u8]) -> Option<Root> {
    let envelope = Envelope::parse(envelope, SMALL_ENVELOPE_BYTES_MAX).ok()?;
    match Statement::parse(&envelope) {
        Ok(Statement::Root(root)) => Some(root),
        _ => None,
    }
}

/// Whether the root in force lasts.
pub fn root(root: &Root, now: UnixTime) -> Finding {
    let Root { version, expires, .. } = root;
    if *expires <= now {
        return Finding::wrong(
            Topic::Root,
            format!("root version {version} has expired on {expires} UTC: nothing new starts"),
            "ways back and what runs are not held up; a new root must be signed by the root's keys, \
             for which this version has no command",
        );
    }
    let days = (expires.0 - now.0) / DAY_S;
    let what = format!("root version {version} expires in {days} days, on {expires} UTC");
    match days < ROOT_DAYS_MIN {
        true => Finding::doubt(
            Topic::Root,
            what,
            "find out who has root.key: from then on nothing new starts without a new root, for which \
             this version has no command",
        ),
        false => Finding::good(Topic::Root, what),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::codec;

    fn finding(topic: Topic, grade: Grade) -> Finding {
        Finding { topic, grade, what: "so".to_owned(), next: "do".to_owned() }
    }

    #[test]
    fn roots_table() {
        let now = UnixTime(1_800_000_000);
        let cases = [
            (0, Grade::Wrong),
            (1, Grade::Doubt),
            (60 * DAY_S - 1, Grade::Doubt),
            (60 * DAY_S, Grade::Good),
            (730 * DAY_S, Grade::Good),
        ];
        for (left_s, grade) in cases {
            let of = Root {
                fleet: "test".parse().unwrap(),
                version: 1,
                expires: now.plus_s(left_s),
                keys: BTreeMap::new(),
                roles: BTreeMap::new(),
                environments: BTreeMap::new(),
                critical: Vec::new(),
            };
            let found = root(&of, now);
            assert_eq!(found.grade, grade, "{left_s}: {found}");
            assert_eq!(found.next.is_empty(), grade == Grade::Good, "{found}");
        }
    }

    #[test]
    fn the_worst_come_first_and_are_not_cut() {
        let mut findings = vec![finding(Topic::Disk, Grade::Good); FINDINGS_MAX];
        findings.push(finding(Topic::Clock, Grade::Doubt));
        findings.push(finding(Topic::Port, Grade::Wrong));
        findings.push(finding(Topic::Root, Grade::Wrong));
        let told = bounded(findings);
        assert_eq!(told.len(), FINDINGS_MAX);
        let first: Vec<_> = told.iter().take(4).map(|one| one.topic).collect();
        assert_eq!(first, [Topic::Port, Topic::Root, Topic::Clock, Topic::Disk]);
        assert_eq!(Grade::worst_of(&told), Grade::Wrong);
        assert_eq!(Grade::worst_of(&[]), Grade::Good);
    }

    #[test]
    fn the_longest_answer_fits_and_is_of_plain_lines() {
        let long = "\u{10ffff}\n".repeat(TEXT_CHARS_MAX);
        let one = Finding::wrong(Topic::Service, long.clone(), long);
        let told = bounded(vec![one; FINDINGS_MAX + 1]);
        assert!(codec::encode(&told, CHECKUP_BYTES_MAX).is_ok());
        assert!(told.iter().all(|one| !one.what.contains('\n') && !one.next.contains('\n')));
        assert_eq!(told[0].next.chars().count(), TEXT_CHARS_MAX);
    }

    #[test]
    fn names_are_those_of_json() {
        for topic in [Topic::Answer, Topic::ServiceManager, Topic::Service] {
            assert_eq!(serde_json::to_value(topic).unwrap(), topic.name());
        }
        for grade in [Grade::Good, Grade::Doubt, Grade::Wrong] {
            assert_eq!(serde_json::to_value(grade).unwrap(), grade.name());
        }
    }

    #[test]
    fn text_for_people() {
        let findings = [
            Finding::good(Topic::Disk, "/srv: 9.0 GiB are free"),
            Finding::wrong(Topic::Clock, "121 s ahead", "set it"),
        ];
        let expected = "wrong  clock: 121 s ahead\n       next: set it\n\
            good   disk: /srv: 9.0 GiB are free\n1 good, 0 in doubt, 1 wrong\n";
        assert_eq!(to_text(&findings), expected);
    }
}
