//! What a host keeps of an attempt that ended badly, for people: `swell explain ROLLOUT --host HOST`.
//!
//! It lies on that host alone, as JSON, and travels and is printed as JSON, so names here are a contract,
//! and a field that is new has a default.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, Service, Version};
use crate::receipt::{Cause, State, note};
use crate::statement::UnixTime;

/// Longest evidence of one attempt, in bytes of its JSON form.
pub const EVIDENCE_BYTES_MAX: usize = 256 << 10;
/// Of a log or a journal, the last so many bytes are kept; fewer where both are full of what JSON
/// escapes.
pub const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Samples kept, the newest.
pub const SAMPLES_MAX: usize = 256;
/// Longest text of a sample, in bytes.
pub const SAMPLE_BYTES_MAX: usize = 240;

/// What there was to see of an attempt that failed, or went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub service: Service,
    /// Number of the step that ended it, as in the journal of activations; rises for ever.
    pub attempt: u64,
    /// Digest of the text of the signed receipt that told of the end first.
    pub receipt: Digest,
    pub rollout: Digest,
    /// What failed.
    pub release: Digest,
    pub version: Version,
    pub state: State,
    pub cause: Option<Cause>,
    pub note: String,
    pub kept: UnixTime,
    /// What the verdict came from, oldest first: steps, answers of checks, counts of requests.
    pub samples: Vec<Sample>,
    /// The last output of its commands, and of what they left behind.
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
    /// As it is kept and shown: in bounds, and nothing in it that a terminal obeys. Whoever asks for it
    /// bounds what it is answered, too.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.note = note(&self.note);
        self.samples.drain(..self.samples.len().saturating_sub(SAMPLES_MAX));
        for sample in &mut self.samples {
            sample.text = sample_text(&sample.text);
        }
        let mut limit = OUTPUT_BYTES_MAX;
        loop {
            for text in [&mut self.log, &mut self.journal] {
                *text = tail(&plain(text), limit).to_owned();
            }
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

fn tail(text: &str, bytes_max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes_max))..]
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_newest_of_everything_is_kept_and_all_of_it_fits() {
        for letter in ["a", "\"", "\u{10ffff}", "\n", "\u{1b}"] {
            let samples = (0..1_000).map(|n| sample(&format!("{n}{}", letter.repeat(9_000))));
            let long = letter.repeat(300 << 10);
            let (log, journal) = (format!("first{long}last"), format!("{long}end"));
            let whole = Evidence { samples: samples.collect(), log, journal, ..evidence() };
            let kept = whole.bounded();
            assert!(kept.to_json().len() <= EVIDENCE_BYTES_MAX, "{letter:?}");
            assert!(kept.log.len() <= OUTPUT_BYTES_MAX && kept.log.len() >= 8 << 10, "{letter:?}");
            assert!(kept.log.ends_with("last") && kept.journal.ends_with("end"), "{letter:?}");
            assert_eq!(kept.samples.len(), SAMPLES_MAX);
            assert!(kept.samples[255].text.starts_with("999"), "{letter:?}");
            assert_eq!(kept.clone().bounded(), kept, "once and for all");
        }
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

    #[test]
    fn it_reads_back() {
        let one = Evidence { samples: vec![sample("/healthz: 500")], ..evidence() };
        let read: Evidence = serde_json::from_slice(&one.to_json()).unwrap();
        assert_eq!(read, one);
    }
}
