//! What a host remembers of the coordinator's audit record: heads it was told of, so that the record
//! cannot be rewritten unseen (R30).
//!
//! Each head is a promise: at its length, the record has that hash for ever. A host cannot see the
//! entries; it sees that a promise is broken when it is told another hash of the same length, or that the
//! record is shorter. That a longer one keeps what was promised is for those to see who read all of it:
//! `swell audit --verify` asks hosts for their [`Memory`].
//!
//! ```text
//! told of a head ----> longer ---------------------------> remembered
//!                 |--> as long, other hash --------------> rift: fork
//!                 |--> shorter, and so for a while ------> rift: cut
//!                 `--> another record: a recovery -------> remembered beside the one before
//!                         for a while: none, one too many,
//!                         or a record of before ---------> rift: replaced
//! ```
//!
//! A recovery says itself that it is one, so whoever can rewrite the record can say so, too. What it
//! cannot is make hosts forget: no record that was followed makes room for another one.
//!
//! Gossip may bring an old word late, so what an old word would explain counts once it has stood for
//! [`STANDS_MS`] while the coordinator is heard.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Head, Origin, Told};
use crate::id::Digest;
use crate::statement::UnixTime;

/// Heads remembered of one record: the newest, and earlier ones the thinner the longer ago.
pub const MARKS_MAX: usize = 33;
/// Records remembered, the first: one more at each recovery.
pub const RECORDS_MAX: usize = 8;
/// Rifts remembered, the first.
pub const RIFTS_MAX: usize = 8;
/// How long the coordinator has to tell of less than it did before it counts, in milliseconds.
const STANDS_MS: u64 = 60_000;

/// What is remembered: on disk as JSON, and the answer to whoever asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// In the order in which they were first told of.
    pub records: Vec<Remembered>,
    /// Broken promises, in the order in which they were noticed.
    #[serde(default)]
    pub rifts: Vec<Rift>,
    #[serde(skip)]
    suspected: Option<Suspected>,
}

/// What is a rift if it goes on to be so; times by the clock that never steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Suspected {
    rift: Rift,
    since_ms: u64,
    /// Since when what is told fits again; none: it does not.
    calm_since_ms: Option<u64>,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    #[serde(flatten)]
    pub origin: Origin,
    /// By length; one at least.
    pub marks: Vec<Mark>,
}

/// A head, and when the host first heard of it by its wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    #[serde(flatten)]
    pub head: Head,
    pub at: UnixTime,
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rift {
    pub kind: RiftKind,
    /// Of which record.
    pub record: Digest,
    /// What was promised: the newest head there is to hold against what was told later.
    pub promised: Head,
    /// What was told instead.
    pub told: Head,
    pub at: UnixTime,
}

/// How a promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RiftKind {
    /// Entries at the end are gone.
    Cut,
    /// An entry is another one.
    Fork,
    /// Another record stands in its place: by no recovery, by one more than can be remembered, or one of
    /// before.
    Replaced,
    /// As a later version calls it.
    #[serde(other)]
    Other,
}

/// What a word of the coordinator came to, where it came to something: then the memory has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It goes on.
    Grew,
    /// A record that was begun by a recovery, beside one that was remembered.
    Recovered,
    Rift(Rift),
}

impl fmt::Display for Rift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, record: _, promised, told, at: _ } = self;
        match kind {
            RiftKind::Cut => write!(
                f,
                "the audit record was cut: it had {} entries, and then {}",
                promised.length, told.length
            ),
            RiftKind::Fork => write!(
                f,
                "the audit record was rewritten: entry {} had the hash {}, and then {}",
                told.length, promised.hash, told.hash
            ),
            RiftKind::Replaced => write!(
                f,
                "the audit record of {} entries was replaced by another one of {}: by no recovery, by \
                 one too many, or by a record of before",
                promised.length, told.length
            ),
            RiftKind::Other => f.write_str("the audit record is not what was promised"),
        }
    }
}

impl Remembered {
    /// The longest head.
    pub fn newest(&self) -> Head {
        self.marks.last().map_or(Head::EMPTY, |mark| mark.head)
    }

    fn at_length(&self, length: u64) -> Option<Head> {
        let found = self.marks.binary_search_by_key(&length, |mark| mark.head.length);
        found.ok().map(|place| self.marks[place].head)
    }

    fn push(&mut self, head: Head, at: UnixTime) {
        self.marks.push(Mark { head, at });
        if self.marks.len() > MARKS_MAX {
            let spare = self.spare();
            self.marks.remove(spare);
        }
    }

    /// The mark that is missed least: its neighbours lie close together for how long ago it was. So
    /// distances double, about, from the newest back. Never the first nor the last.
    fn spare(&self) -> usize {
        let newest = self.newest().length;
        let length = |place: usize| self.marks[place].head.length;
        // Gap and age of a place; of two fractions the lower one by their cross products.
        let of = |place: usize| {
            (u128::from(length(place + 1) - length(place - 1)), u128::from(newest - length(place)))
        };
        let places = 1..self.marks.len() - 1;
        let lower = |one: &usize, other: &usize| {
            let ((gap, age), (other_gap, other_age)) = (of(*one), of(*other));
            (gap * other_age).cmp(&(other_gap * age))
        };
        places.min_by(lower).unwrap_or(0)
    }
}

impl Memory {
    /// Takes in what the coordinator tells of its record while it is heard, at `now_ms` of the clock that
    /// never steps and `now` of the wall clock. To be called again while it tells the same.
    pub fn see(&mut self, told: &Told, now_ms: u64, now: UnixTime) -> Option<News> {
        let rift = match self.judge(told, now) {
            Judged::Fits(news) => {
                self.calm(now_ms);
                return news;
            }
            Judged::Broken(rift) => return self.note(rift),
            Judged::MayBeOld(rift) => rift,
        };
        let before = self.suspected.filter(|suspected| suspected.rift.is_as(&rift));
        let since_ms = before.map_or(now_ms, |suspected| suspected.since_ms);
        self.suspected = Some(Suspected { rift, since_ms, calm_since_ms: None });
        (now_ms.saturating_sub(since_ms) >= STANDS_MS).then(|| self.note(rift))?
    }

    /// What fits was told. It ends a suspicion once it has stood for as long as that would have to: who
    /// tells now this and now that does not tell old words.
    fn calm(&mut self, now_ms: u64) {
        let Some(suspected) = &mut self.suspected else { return };
        let since_ms = *suspected.calm_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since_ms) >= STANDS_MS {
            self.suspected = None;
        }
    }

    fn judge(&mut self, told: &Told, now: UnixTime) -> Judged {
        let Told { origin, head } = *told;
        let rift = |kind, record, promised| Rift { kind, record, promised, told: head, at: now };
        let full = self.records.len() >= RECORDS_MAX;
        let begun = || Remembered { origin, marks: vec![Mark { head, at: now }] };
        let Some(last) = self.records.last() else {
            self.records.push(begun());
            return Judged::Fits(Some(News::Grew));
        };
        let replaced = rift(RiftKind::Replaced, last.origin.record, last.newest());
        let is_last = last.origin.record == origin.record;
        let known = self.records.iter_mut().find(|known| known.origin.record == origin.record);
        let Some(known) = known else {
            if full || !origin.recovered {
                return Judged::MayBeOld(replaced);
            }
            self.records.push(begun());
            return Judged::Fits(Some(News::Recovered));
        };
        let newest = known.newest();
        match known.at_length(head.length) {
            Some(held) if held.hash != head.hash => {
                Judged::Broken(rift(RiftKind::Fork, origin.record, held))
            }
            _ if !is_last => Judged::MayBeOld(replaced),
            _ if head.length < newest.length => {
                Judged::MayBeOld(rift(RiftKind::Cut, origin.record, newest))
            }
            Some(_) => Judged::Fits(None),
            None => {
                known.push(head, now);
                Judged::Fits(Some(News::Grew))
            }
        }
    }

    /// Remembers a rift, unless it is one that is known or there are too many.
    fn note(&mut self, rift: Rift) -> Option<News> {
        let known = self.rifts.iter().any(|known| known.is_as(&rift));
        if known || self.rifts.len() == RIFTS_MAX {
            return None;
        }
        self.rifts.push(rift);
        Some(News::Rift(rift))
    }

    /// In bounds, and in order: for what was read from elsewhere.
    pub fn bounded(mut self) -> Self {
        self.records.truncate(RECORDS_MAX);
        self.rifts.truncate(RIFTS_MAX);
        self.records.retain(|record| !record.marks.is_empty());
        for record in &mut self.records {
            record.marks.truncate(MARKS_MAX);
            record.marks.sort_by_key(|mark| mark.head.length);
            record.marks.dedup_by_key(|mark| mark.head.length);
        }
        self
    }
}

impl Rift {
    /// Whether it is the same promise, broken the same way: what is told instead may go on.
    fn is_as(&self, other: &Self) -> bool {
        let one = |rift: &Self| (rift.kind, rift.record, rift.promised);
        one(self) == one(other)
    }
}

enum Judged {
    Fits(Option<News>),
    Broken(Rift),
    /// Broken, unless it is an old word.
    MayBeOld(Rift),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn origin(name: &str, recovered: bool) -> Origin {
        Origin { record: Digest::of(name.as_bytes()), since: UnixTime(1), recovered }
    }

    fn head(length: u64, branch: &str) -> Head {
        Head { length, hash: Digest::of(format!("{length} {branch}").as_bytes()) }
    }

    fn told(length: u64, branch: &str) -> Told {
        Told { origin: origin("first", false), head: head(length, branch) }
    }

    fn kind(news: Option<News>) -> Option<RiftKind> {
        match news {
            Some(News::Rift(rift)) => Some(rift.kind),
            _ => None,
        }
    }

    #[test]
    fn r30_a_record_that_grows_is_remembered_without_a_word() {
        let mut memory = Memory::default();
        for length in [1, 2, 5, 6] {
            assert_eq!(memory.see(&told(length, ""), 0, NOW), Some(News::Grew), "{length}");
            assert_eq!(memory.see(&told(length, ""), 0, NOW), None, "{length}");
        }
        assert_eq!((memory.records.len(), memory.rifts.len()), (1, 0));
        assert_eq!(memory.records[0].newest(), head(6, ""));
    }

    #[test]
    fn r30_another_hash_of_a_length_that_is_remembered_is_a_fork_at_once_and_told_once() {
        for length in [2, 3] {
            let mut memory = Memory::default();
            for length in 1..=3 {
                memory.see(&told(length, ""), 0, NOW);
            }
            let news = memory.see(&told(length, "eve"), 0, NOW);
            assert_eq!(kind(news), Some(RiftKind::Fork), "{length}");
            assert_eq!(memory.rifts[0].promised, head(length, ""));
            assert_eq!(memory.see(&told(length, "eve"), 99 * STANDS_MS, NOW), None);
            assert_eq!(memory.records[0].newest(), head(3, ""), "the promise stays");
        }
    }

    #[test]
    fn r30_a_shorter_record_is_cut_once_that_has_stood_for_a_while() {
        let mut memory = Memory::default();
        memory.see(&told(9, ""), 0, NOW);
        assert_eq!(memory.see(&told(7, ""), 1_000, NOW), None, "an old word, maybe");
        assert_eq!(memory.see(&told(9, ""), 2_000, NOW), None);
        assert_eq!(memory.see(&told(9, ""), 2_000 + STANDS_MS, NOW), None);
        // Had the first one counted, it would have stood long enough now.
        assert_eq!(memory.see(&told(7, ""), 3_000 + STANDS_MS, NOW), None);
        assert_eq!(memory.see(&told(7, ""), 2_000 + 2 * STANDS_MS, NOW), None);
        // It goes on there, and that is still the same promise broken.
        let news = memory.see(&told(8, ""), 3_000 + 2 * STANDS_MS, NOW);
        assert_eq!(kind(news), Some(RiftKind::Cut));
        assert_eq!((memory.rifts[0].promised.length, memory.rifts[0].told.length), (9, 8));
        assert_eq!(memory.see(&told(8, ""), 9 * STANDS_MS, NOW), None, "told once");
        assert_eq!(memory.see(&told(10, "eve"), 9 * STANDS_MS, NOW), Some(News::Grew));
    }

    #[test]
    fn r30_who_tells_now_the_whole_and_now_a_part_has_cut_it() {
        let mut memory = Memory::default();
        memory.see(&told(9, ""), 0, NOW);
        let news: Vec<_> = (0..8)
            .filter_map(|turn| {
                let length = if turn % 2 == 0 { 7 } else { 9 };
                memory.see(&told(length, ""), turn * STANDS_MS / 4, NOW)
            })
            .collect();
        assert_eq!(
            news.into_iter().map(|one| kind(Some(one))).collect::<Vec<_>>(),
            [Some(RiftKind::Cut)]
        );
    }

    #[test]
    fn r30_a_record_begun_anew_is_never_silent_and_a_rift_unless_it_says_that_it_is_a_recovery() {
        let other =
            |recovered| Told { origin: origin("second", recovered), head: head(1, "second") };
        let mut memory = Memory::default();
        memory.see(&told(9, ""), 0, NOW);
        assert_eq!(memory.see(&other(true), 0, NOW), Some(News::Recovered));
        assert_eq!((memory.records.len(), memory.rifts.len()), (2, 0));
        // The one before is not forgotten.
        assert_eq!(kind(memory.see(&told(9, "eve"), 0, NOW)), Some(RiftKind::Fork));

        let mut memory = Memory::default();
        memory.see(&told(9, ""), 0, NOW);
        assert_eq!(memory.see(&other(false), 0, NOW), None);
        let news = memory.see(&other(false), STANDS_MS, NOW);
        assert_eq!(kind(news), Some(RiftKind::Replaced));
        assert_eq!(memory.records.len(), 1, "what does not follow is not remembered");
    }

    #[test]
    fn r30_what_was_followed_is_never_forgotten_for_the_sake_of_another_record() {
        let mut memory = Memory::default();
        let see = |memory: &mut Memory, number: usize, now_ms| {
            let origin = origin(&format!("{number}"), number > 0);
            memory.see(&Told { origin, head: head(5, "") }, now_ms, NOW)
        };
        for number in 0..RECORDS_MAX {
            assert!(see(&mut memory, number, 0).is_some());
        }
        // One more, which says as well that it is a recovery.
        assert_eq!(see(&mut memory, RECORDS_MAX, 0), None);
        let news = see(&mut memory, RECORDS_MAX, STANDS_MS);
        assert_eq!(kind(news), Some(RiftKind::Replaced));
        let known: Vec<_> = memory.records.iter().map(|one| one.origin.record).collect();
        let expected = (0..RECORDS_MAX).map(|number| origin(&format!("{number}"), true).record);
        assert_eq!(known, expected.collect::<Vec<_>>());
    }

    #[test]
    fn r30_a_record_of_before_is_no_recovery_once_it_has_stood_for_a_while() {
        let other = Told { origin: origin("second", true), head: head(2, "second") };
        let mut memory = Memory::default();
        memory.see(&told(9, ""), 0, NOW);
        memory.see(&other, 0, NOW);
        for length in [9, 12] {
            let mut memory = memory.clone();
            assert_eq!(memory.see(&told(length, ""), 0, NOW), None, "an old word, maybe");
            let news = memory.see(&told(length, ""), STANDS_MS, NOW);
            assert_eq!(kind(news), Some(RiftKind::Replaced), "{length}");
            assert_eq!(memory.rifts[0].promised, other.head);
            assert_eq!(memory.records[0].newest(), head(9, ""), "and it is not followed");
        }
    }

    #[test]
    fn r30_what_is_remembered_is_bounded() {
        let mut memory = Memory::default();
        for number in 0..100_u64 {
            let origin = origin(&format!("{number}"), number > 0);
            let promised = head(1, "");
            memory.see(&Told { origin, head: promised }, 0, NOW);
            memory.see(&Told { origin, head: head(1, "eve") }, 0, NOW);
        }
        assert_eq!((memory.records.len(), memory.rifts.len()), (RECORDS_MAX, RIFTS_MAX));
        let text = serde_json::to_string(&memory).unwrap();
        assert!(text.len() < 64 << 10, "{}", text.len());
        let read: Memory = serde_json::from_str(&text).unwrap();
        assert_eq!(read.clone().bounded(), read);
        let told = Memory { suspected: None, ..memory };
        assert_eq!(read, told);
    }

    /// What comes from elsewhere may be longer than what is kept here, out of order, or empty.
    #[test]
    fn r30_what_was_read_from_elsewhere_is_brought_in_bounds() {
        let mark = |length| Mark { head: head(length, ""), at: NOW };
        let record =
            |name: u64, marks| Remembered { origin: origin(&format!("{name}"), true), marks };
        let rift = |length| Rift {
            kind: RiftKind::Cut,
            record: origin("0", true).record,
            promised: head(length, ""),
            told: head(1, ""),
            at: NOW,
        };
        let long = (0..2 * MARKS_MAX as u64).rev().map(mark).collect();
        let records = [long, vec![mark(2), mark(1), mark(2)], Vec::new()].into_iter().zip(0..);
        let mut memory = Memory {
            records: records.map(|(marks, name)| record(name, marks)).collect(),
            rifts: (2..60).map(rift).collect(),
            suspected: None,
        };
        memory.records.extend((9..99).map(|name| record(name, vec![mark(1)])));
        let memory = memory.bounded();
        let lengths = |place: usize| {
            let marks = memory.records[place].marks.iter();
            marks.map(|mark| mark.head.length).collect::<Vec<_>>()
        };
        assert_eq!(lengths(0).len(), MARKS_MAX);
        assert!(lengths(0).is_sorted() && lengths(1) == [1, 2]);
        assert_eq!((memory.records.len(), memory.rifts.len()), (RECORDS_MAX - 1, RIFTS_MAX));
    }

    proptest! {
        /// Whatever the steps: the newest and the first are there, and what lies between two that follow
        /// each other is no longer than what came since, but for two of the longest steps.
        #[test]
        fn r30_earlier_heads_are_kept_at_doubling_distances(
            steps in prop::collection::vec(1..50_u64, 1..600)
        ) {
            let mut memory = Memory::default();
            let mut length = 0;
            for step in &steps {
                length += step;
                memory.see(&told(length, ""), 0, NOW);
            }
            let marks = &memory.records[0].marks;
            prop_assert!(marks.len() <= MARKS_MAX);
            prop_assert_eq!(marks[0].head.length, steps[0]);
            prop_assert_eq!(marks[marks.len() - 1].head.length, length);
            for pair in marks.windows(2) {
                let (one, next) = (pair[0].head.length, pair[1].head.length);
                prop_assert!(one < next);
                prop_assert!(next - one <= 100 + (length - next), "{} to {} of {}", one, next, length);
            }
        }

        /// An edit of any entry, with all behind it hashed anew, is seen by whoever remembers any head
        /// from there on, as soon as it is told of the length it remembers.
        #[test]
        fn r30_a_rewritten_record_is_a_fork_where_it_is_remembered(
            seen in prop::collection::btree_set(1..200_u64, 1..40), edited in 1..200_u64,
        ) {
            let mut memory = Memory::default();
            for length in &seen {
                memory.see(&told(*length, ""), 0, NOW);
            }
            let branch = |length: u64| if length < edited { "" } else { "eve" };
            for mark in memory.records[0].marks.clone() {
                let length = mark.head.length;
                let news = memory.clone().see(&told(length, branch(length)), 0, NOW);
                let fork = kind(news) == Some(RiftKind::Fork);
                prop_assert_eq!(fork, length >= edited, "{} of {}", length, edited);
            }
        }
    }
}
