//! What was seen of a service since its last activation began: how its commands ended and what verdicts are
//! made of, kept for whoever asks later ([`crate::evidence`]).
//!
//! In memory and bounded: the first of it counts, in which is the swap, and the newest. It may hold secrets, of a URL say, and is masked before
//! it leaves this process ([`Services::seen`](crate::services::Services::seen)).

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use member::clock;
use proto::UnixTime;
use proto::evidence::{SAMPLES_MAX, Sample, sample_text};
use tokio::sync::watch;

/// So many of the first samples stay, however long a release bakes.
const FIRST_KEPT: usize = SAMPLES_MAX / 4;

/// One service's. Cheap to clone: all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    seen: Arc<Mutex<Seen>>,
    /// Checks whose last answer was a bad one.
    ailing: watch::Sender<usize>,
}

/// A check whose last answer was a bad one, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Ailing(watch::Sender<usize>);

impl Drop for Ailing {
    fn drop(&mut self) {
        self.0.send_modify(|ailing| *ailing -= 1);
    }
}

#[derive(Debug, Default)]
struct Seen {
    since: Option<UnixTime>,
    samples: VecDeque<Sample>,
}

impl Trail {
    /// Begins anew.
    pub fn begin(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Seen { since: Some(clock::now().unix), samples: VecDeque::new() };
    }

    /// Adds what was seen now; the same as before once more counts.
    pub fn say(&self, what: impl Display) {
        let (now, text) = (clock::now().unix, sample_text(&what.to_string()));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.samples.back_mut().filter(|last| last.text == text) {
            (last.last, last.times) = (now, last.times.saturating_add(1));
            return;
        }
        if seen.samples.len() == SAMPLES_MAX {
            seen.samples.remove(FIRST_KEPT);
        }
        seen.samples.push_back(Sample { first: now, last: now, times: 1, text });
    }

    /// One more check has a bad answer, until what is returned is dropped.
    pub fn ails(&self) -> Ailing {
        self.ailing.send_modify(|ailing| *ailing += 1);
        Ailing(self.ailing.clone())
    }

    /// How many checks have a bad answer now.
    pub fn ailing(&self) -> watch::Receiver<usize> {
        self.ailing.subscribe()
    }

    /// When the last activation began, as far as this process knows, and what was seen since.
    pub fn read(&self) -> (Option<UnixTime>, Vec<Sample>) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.since, seen.samples.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_newest_are_kept_and_what_repeats_is_counted() {
        let trail = Trail::default();
        assert_eq!(trail.read(), (None, Vec::new()));
        trail.say("of the attempt before");
        trail.begin();
        for answer in 0..3 * SAMPLES_MAX {
            trail.say(format!("/healthz: {answer}"));
        }
        (0..5).for_each(|_| trail.clone().say("/healthz: 500"));
        let (since, samples) = trail.read();
        assert!(since.is_some());
        assert_eq!(samples.len(), SAMPLES_MAX);
        let first: Vec<_> = samples[..FIRST_KEPT + 1].iter().map(|one| &*one.text).collect();
        assert_eq!(
            (first[0], first[63], first[64]),
            ("/healthz: 0", "/healthz: 63", "/healthz: 577")
        );
        let [.., before, last] = &samples[..] else { panic!("{samples:?}") };
        assert_eq!((before.text.as_str(), before.times), ("/healthz: 767", 1));
        assert_eq!((last.text.as_str(), last.times), ("/healthz: 500", 5));
        trail.begin();
        assert_eq!(trail.read().1, []);
    }
}
