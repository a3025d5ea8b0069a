//! What a host keeps of an attempt that has ended, for people: `swell logs ROLLOUT`, and of one that ended
//! badly `swell explain ROLLOUT --host HOST`.
//!
//! It lies on that host alone, as JSON, and travels and is printed as JSON, so names here are a contract,
//! and a field that is new has a default.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, Service, Version};
use crate::receipt::{Cause, State, note};
use crate::statement::UnixTime;

/// Longest evidence of one attempt, in bytes of its JSON form.
pub const EVIDENCE_BYTES_MAX: usize = 256 << 10;
/// Of a log or a journal, so many bytes are kept: a third of them from its beginning, the rest from its
/// end; fewer where both are full of what JSON escapes.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Room for the line that tells how much of a text is left out, in bytes.
const GAP_BYTES_MAX: usize = 64;
/// Samples kept, the newest.
pub const SAMPLES_MAX: usize = 256;
/// Longest text of a sample, in bytes.
pub const SAMPLE_BYTES_MAX: usize = 240;

/// What there was to see of an attempt that was committed, failed, or went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub service: Service,
    /// Number of the step that ended it, as in the journal of activations; rises for ever.
    pub attempt: u64,
    /// Digest of the text of the signed receipt that told of the end first.
    pub receipt: Digest,
    pub rollout: Digest,
    /// What was brought; where a host went back, what was left.
    pub release: Digest,
    pub version: Version,
    pub state: State,
    pub cause: Option<Cause>,
    pub note: String,
    pub kept: UnixTime,
    /// What the verdict came from, oldest first: steps, how its commands ended, answers of checks, counts of
    /// requests.
    pub samples: Vec<Sample>,
    /// The output of its commands, and of what they left behind.
    pub log: String,
    /// What the journal of the machine has of its unit since the attempt began.
    pub journal: String,
}

/// Something that was seen, and how often in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub first: UnixTime,
    pub last: UnixTime,
    pub times: u32,
    pub text: String,
}

impl Evidence {
    /// Whether something failed here, and is not only undone with the fleet.
    pub fn ended_badly(&self) -> bool {
        match self.state {
            State::Reverted => self.cause != Some(Cause::Fleet),
            state => state == State::RevertFailed,
        }
    }

    /// As it is kept and shown: in bounds, and nothing in it that a terminal obeys. Whoever asks for it
    /// bounds what it is answered, too.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.note = note(&self.note);
        self.samples.drain(..self.samples.len().saturating_sub(SAMPLES_MAX));
        for sample in &mut self.samples {
            sample.text = sample_text(&sample.text);
        }
        let (log, journal) = (plain(&self.log), plain(&self.journal));
        let mut limit = OUTPUT_BYTES_MAX;
        loop {
            (self.log, self.journal) = (ends(&log, limit), ends(&journal, limit));
            if limit == 0 || self.to_json().len() <= EVIDENCE_BYTES_MAX {
                return self;
            }
            limit /= 2;
        }
    }

    /// As it lies on a disk.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("evidence serializes")
    }
}

/// A line, as the text of a sample.
pub fn sample_text(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line[..line.floor_char_boundary(SAMPLE_BYTES_MAX)].to_owned()
}

/// Lines without control characters: what wrote them may mean to steer a terminal.
fn plain(text: &str) -> String {
    let kept = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    text.chars().map(kept).collect()
}

/// The beginning and the end of a text that is too long, and between them how much is left out: what an
/// attempt began with says as much as what came last.
fn ends(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let room = bytes_max.saturating_sub(GAP_BYTES_MAX);
    let head = text.floor_char_boundary(room / 3);
    let tail = text.ceil_char_boundary(text.len() - (room - room / 3));
    let gap = format!("\n[{} bytes are left out here]\n", tail - head);
    match bytes_max > GAP_BYTES_MAX {
        true => format!("{}{gap}{}", &text[..head], &text[tail..]),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ControlRequest;

    fn evidence() -> Evidence {
        Evidence {
            service: "web".parse().unwrap(),
            attempt: 7,
            receipt: Digest::of(b"receipt"),
            rollout: Digest::of(b"rollout"),
            release: Digest::of(b"release"),
            version: "2".parse().unwrap(),
            state: State::Reverted,
            cause: Some(Cause::Release),
            note: "start exited 3".to_owned(),
            kept: UnixTime(9),
            samples: Vec::new(),
            log: String::new(),
            journal: String::new(),
        }
    }

    fn sample(text: &str) -> Sample {
        Sample { first: UnixTime(1), last: UnixTime(2), times: 1, text: text.to_owned() }
    }

    #[test]
    fn what_counts_of_everything_is_kept_and_all_of_it_fits() {
        for letter in ["a", "\"", "\u{10ffff}", "\n", "\u{1b}"] {
            let samples = (0..1_000).map(|n| sample(&format!("{n}{}", letter.repeat(9_000))));
            let long = letter.repeat(300 << 10);
            let (log, journal) = (format!("first{long}last"), format!("{long}end"));
            let whole = Evidence { samples: samples.collect(), log, journal, ..evidence() };
            let kept = whole.bounded();
            assert!(kept.to_json().len() <= EVIDENCE_BYTES_MAX, "{letter:?}");
            assert!(kept.log.len() <= OUTPUT_BYTES_MAX && kept.log.len() >= 8 << 10, "{letter:?}");
            assert!(kept.log.ends_with("last") && kept.journal.ends_with("end"), "{letter:?}");
            assert!(kept.log.starts_with("first"), "{letter:?}");
            assert_eq!(kept.samples.len(), SAMPLES_MAX);
            assert!(kept.samples[255].text.starts_with("999"), "{letter:?}");
            assert_eq!(kept.clone().bounded(), kept, "once and for all");
        }
    }

    #[test]
    fn of_a_long_text_the_beginning_and_the_end_are_kept_and_the_gap_is_told() {
        let line = |n: usize| format!("line {n:>6}\n");
        let long: String = (0..20_000).map(line).collect();
        let text = Evidence { journal: long.clone(), ..evidence() }.bounded().journal;
        let (head, rest) = text.split_once("\n[").unwrap();
        let (left_out, tail) = rest.split_once(" bytes are left out here]\n").unwrap();
        assert!(long.starts_with(head) && long.ends_with(tail));
        assert_eq!(left_out.parse(), Ok(long.len() - head.len() - tail.len()));
        assert!((2 * head.len()).abs_diff(tail.len()) < 4, "a third, and two");
        assert!(OUTPUT_BYTES_MAX - text.len() < GAP_BYTES_MAX, "all the room is used");
        let fits = "x".repeat(OUTPUT_BYTES_MAX);
        let one = Evidence { log: fits.clone(), ..evidence() };
        assert_eq!(one.bounded().log, fits, "nothing is left out that fits");
    }

    #[test]
    fn it_ended_badly_where_something_failed_and_not_where_it_went_back_with_the_fleet() {
        use Cause::{Fleet, Host, Late, Release};
        let badly = |state, cause| Evidence { state, cause, ..evidence() }.ended_badly();
        let causes = [Release, Host, Late, Fleet].map(Some);
        assert_eq!(causes.map(|why| badly(State::Reverted, why)), [true, true, true, false]);
        assert_eq!(causes.map(|why| badly(State::RevertFailed, why)), [true; 4]);
        assert!(!badly(State::Committed, None));
    }

    #[test]
    fn nothing_in_it_steers_a_terminal() {
        let hostile = "a\u{1b}]0;owned\u{7}\r\n\u{9b}2Jb\tc\u{7f}".to_owned();
        let (log, note) = (hostile.clone(), hostile.clone());
        let shown = Evidence { log, note, samples: vec![sample(&hostile)], ..evidence() }.bounded();
        assert_eq!(shown.log, "a ]0;owned  \n 2Jb c ");
        assert_eq!(shown.samples[0].text, "a ]0;owned    2Jb c ");
        assert!(!shown.note.chars().any(char::is_control), "{}", shown.note);
    }

    /// Each version is asked by the other.
    #[test]
    fn a_question_without_a_number_is_that_of_the_version_before() {
        let asks = |before| {
            let (service, rollout) = ("web".parse().unwrap(), Digest::of(b"rollout"));
            ControlRequest::Evidence { service, rollout, before }
        };
        let rollout = serde_json::to_string(&Digest::of(b"rollout")).unwrap();
        let old = format!("{{\"Evidence\":{{\"service\":\"web\",\"rollout\":{rollout}}}}}");
        assert_eq!(serde_json::to_string(&asks(None)).unwrap(), old);
        assert_eq!(serde_json::from_str::<ControlRequest>(&old).unwrap(), asks(None));
        let new = serde_json::to_string(&asks(Some(7))).unwrap();
        assert_eq!(new, old.replace("}}", ",\"before\":7}}"));
        assert_eq!(serde_json::from_str::<ControlRequest>(&new).unwrap(), asks(Some(7)));
    }

    #[test]
    fn it_reads_back() {
        let one = Evidence { samples: vec![sample("/healthz: 500")], ..evidence() };
        let read: Evidence = serde_json::from_slice(&one.to_json()).unwrap();
        assert_eq!(read, one);
    }
}
