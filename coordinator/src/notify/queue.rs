//! What waits for one receiver, and what is sent next: without a clock, a network or a disk.
//!
//! Events become deliveries, and deliveries are in lanes: within a lane one is sent after the other, and
//! one that must be tried again holds up its lane alone. Where the channel takes several events in a
//! message, a rollout is a lane, and what has come of it before a message is first tried goes together;
//! from then on that stays as it is, so that it is the same message each time. Elsewhere a service in
//! an environment is a lane: what ends an alert may be another rollout's, and must not overtake it.
//!
//! Time is milliseconds of a clock that never steps, `now_ms`; chance comes in.

use std::collections::BTreeSet;

use proto::UnixTime;

use crate::events::{Event, Numbered};

/// Deliveries that wait for one receiver; further events stay where they are.
pub const WAITING_MAX: usize = 256;
/// Events in one delivery.
const BATCH_MAX: usize = 100;
/// How long a delivery is tried, in milliseconds.
pub const KEPT_MS: u64 = 86_400_000;
/// The wait after the first failure, which doubles from then on, and the longest, in milliseconds.
const RETRY_MS: u64 = 1_000;
const RETRY_MAX_MS: u64 = 600_000;
/// The longest that a receiver may ask to be left alone, in milliseconds.
const ASKED_MAX_MS: u64 = 3_600_000;

/// Events that go together, and how often they were tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The same at every attempt, also after a restart.
    pub id: String,
    /// What must stay in order.
    pub lane: String,
    /// Their numbers, rising.
    pub events: Vec<u64>,
    /// When the newest of them happened.
    pub newest: UnixTime,
    /// Attempts that were begun.
    pub attempts: u32,
    /// Not before.
    pub due_ms: u64,
    /// No longer than that.
    pub until_ms: u64,
}

impl Delivery {
    /// One that waited before a restart, tried from now on. No clock says for how long it had waited: a wall
    /// clock may have been set, and one that never steps begins anew. Its attempts do, since one comes
    /// within the longest wait after the other.
    pub fn again(self, now_ms: u64, due_ms: u64) -> Self {
        let waited_ms = u64::from(self.attempts).saturating_mul(RETRY_MAX_MS);
        let until_ms = now_ms.saturating_add(KEPT_MS.saturating_sub(waited_ms));
        Self { due_ms, until_ms, ..self }
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Taken,
    /// It will never be taken.
    Refused {
        why: String,
    },
    /// It may be taken later; `after_s`: not before, as the receiver says.
    Failed {
        why: String,
        after_s: Option<u64>,
    },
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send this one of [`Queue::waiting`].
    Send(usize),
    /// Nothing before that time.
    At(u64),
    /// Nothing waits.
    Nothing,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    Delivered,
    Dropped {
        why: String,
    },
    /// It waits, for this many milliseconds.
    Again {
        wait_ms: u64,
        why: String,
    },
}

/// The queue of one receiver.
#[derive(Debug)]
pub struct Queue {
    waiting: Vec<Delivery>,
    /// Whether a delivery may have several events.
    together: bool,
    /// Between two requests, in milliseconds.
    pace_ms: u64,
    /// Attempts that failed since one was answered well, whatever was sent.
    failures: u32,
    /// No request before.
    quiet_until_ms: u64,
}

impl Queue {
    /// With what waited already, in its order.
    pub fn new(waiting: Vec<Delivery>, together: bool, pace_ms: u64) -> Self {
        Self { waiting, together, pace_ms, failures: 0, quiet_until_ms: 0 }
    }

    /// In the order of their first events.
    pub fn waiting(&self) -> &[Delivery] {
        &self.waiting
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// Takes an event in; gives the id of the delivery that has it now, `fresh` if that is a new one.
    /// It is due at once, behind what has been due for longer.
    pub fn take(
        &mut self,
        numbered: &Numbered,
        now_ms: u64,
        fresh: impl FnOnce() -> String,
    ) -> String {
        let Numbered { seq, event } = numbered;
        let lane = if self.together { of_rollout(event) } else { of_scope(event) };
        let last = self.waiting.iter_mut().rev().find(|one| one.lane == lane);
        let open = |one: &&mut Delivery| one.attempts == 0 && one.events.len() < BATCH_MAX;
        if let Some(delivery) = last.filter(open).filter(|_| self.together) {
            delivery.events.push(*seq);
            delivery.newest = delivery.newest.max(event.at);
            delivery.until_ms = now_ms.saturating_add(KEPT_MS);
            return delivery.id.clone();
        }
        let id = fresh();
        let (newest, events) = (event.at, vec![*seq]);
        let until_ms = now_ms.saturating_add(KEPT_MS);
        self.waiting.push(Delivery {
            id: id.clone(),
            lane,
            events,
            newest,
            attempts: 0,
            due_ms: now_ms,
            until_ms,
        });
        id
    }

    /// What to do at this time: of the first of each lane the one that is due first.
    pub fn next(&self, now_ms: u64) -> Next {
        let mut lanes = BTreeSet::new();
        let heads = self.waiting.iter().enumerate().filter(|(_, one)| lanes.insert(&one.lane));
        let Some((place, head)) = heads.min_by_key(|(place, one)| (one.due_ms, *place)) else {
            return Next::Nothing;
        };
        match head.due_ms.max(self.quiet_until_ms) {
            due if due <= now_ms => Next::Send(place),
            due => Next::At(due),
        }
    }

    /// An attempt begins: no event joins this delivery any more.
    pub fn begin(&mut self, place: usize) -> Delivery {
        let delivery = &mut self.waiting[place];
        delivery.attempts = delivery.attempts.saturating_add(1);
        delivery.clone()
    }

    /// An attempt has ended. `chance`: any number, another one each time.
    pub fn settle(&mut self, place: usize, answer: Answer, now_ms: u64, chance: u64) -> Settled {
        self.quiet_until_ms = now_ms.saturating_add(self.pace_ms);
        match answer {
            Answer::Taken => {
                self.failures = 0;
                self.waiting.remove(place);
                Settled::Delivered
            }
            Answer::Refused { why } => {
                self.failures = 0;
                self.waiting.remove(place);
                Settled::Dropped { why }
            }
            Answer::Failed { why, after_s } => {
                self.failures = self.failures.saturating_add(1);
                let asked = after_s.map_or(0, |seconds| seconds.saturating_mul(1_000));
                let asked = asked.min(ASKED_MAX_MS);
                let delivery = &mut self.waiting[place];
                let wait_ms = backoff_ms(delivery.attempts, chance).max(asked);
                delivery.due_ms = now_ms.saturating_add(wait_ms);
                // The others wait, too: it is the receiver that does not answer, as far as is known.
                let quiet = backoff_ms(self.failures, chance).max(asked);
                self.quiet_until_ms = self.quiet_until_ms.max(now_ms.saturating_add(quiet));
                Settled::Again { wait_ms, why }
            }
        }
    }

    /// Puts one that was taken out back in its place, for as long as a new one.
    pub fn keep(&mut self, delivery: Delivery, now_ms: u64) {
        let until_ms = now_ms.saturating_add(KEPT_MS);
        let place = self.waiting.partition_point(|one| one.events < delivery.events);
        self.waiting.insert(place, Delivery { until_ms, ..delivery });
    }

    /// Takes out what nobody has to hear any more.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Delivery> {
        let old = |one: &mut Delivery| one.until_ms < now_ms;
        self.waiting.extract_if(.., old).collect()
    }
}

/// Doubles with each failure up to the longest; the second half of it is chance, so that not all who
/// failed together come again together.
fn backoff_ms(failures: u32, chance: u64) -> u64 {
    let doubled = RETRY_MS.checked_shl(failures.saturating_sub(1).min(32)).unwrap_or(RETRY_MAX_MS);
    let most = doubled.min(RETRY_MAX_MS);
    most / 2 + chance % (most / 2 + 1)
}

fn of_rollout(event: &Event) -> String {
    event.rollout.map(|rollout| format!("{rollout:#}")).unwrap_or_default()
}

fn of_scope(event: &Event) -> String {
    event.scope().map(|scope| scope.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proto::id::Digest;

    use super::super::tests::event;
    use super::*;
    use crate::events::Kind;

    /// An event of a service and its only rollout, by one letter; `-`: of none.
    fn of(rollout: char, seq: u64) -> Numbered {
        let mut event = event(Kind::WaveOpened, "a wave is open");
        event.at = UnixTime(seq);
        let name = rollout.to_string();
        event.rollout = (rollout != '-').then(|| Digest::of(name.as_bytes()));
        event.service = name.parse().ok();
        Numbered { seq, event }
    }

    fn queue(together: bool, pace_ms: u64, events: &str) -> Queue {
        let mut queue = Queue::new(Vec::new(), together, pace_ms);
        take(&mut queue, 1, events);
        queue
    }

    fn take(queue: &mut Queue, first: u64, events: &str) {
        for (seq, rollout) in (first..).zip(events.chars()) {
            queue.take(&of(rollout, seq), 0, || format!("msg_{seq}"));
        }
    }

    fn failed() -> Answer {
        Answer::Failed { why: "it is down".to_owned(), after_s: None }
    }

    /// Runs the queue against a receiver; what was sent when, in seconds: `time:events`.
    fn run(
        queue: &mut Queue,
        until_ms: u64,
        mut receiver: impl FnMut(&Delivery, u64) -> Answer,
    ) -> Vec<String> {
        let (mut now_ms, mut sent) = (0, Vec::new());
        loop {
            match queue.next(now_ms) {
                Next::Nothing => return sent,
                Next::At(due) if due > until_ms => return sent,
                Next::At(due) => {
                    assert!(due > now_ms, "it waits for what is past");
                    now_ms = due;
                }
                Next::Send(place) => {
                    let delivery = queue.begin(place);
                    let events: Vec<_> = delivery.events.iter().map(u64::to_string).collect();
                    sent.push(format!("{}:{}", now_ms as f64 / 1_000.0, events.join("+")));
                    let answer = receiver(&delivery, now_ms);
                    // The shortest waits.
                    let _ = queue.settle(place, answer, now_ms, 0);
                }
            }
        }
    }

    #[test]
    fn what_comes_before_the_first_attempt_goes_together_by_rollout() {
        let mut chat = queue(true, 1_000, "aabab-b");
        assert_eq!(run(&mut chat, 60_000, |_, _| Answer::Taken), ["0:1+2+4", "1:3+5+7", "2:6"]);
        let mut hook = queue(false, 100, "aab");
        assert_eq!(run(&mut hook, 60_000, |_, _| Answer::Taken), ["0:1", "0.1:2", "0.2:3"]);
        let mut many = queue(true, 0, &"a".repeat(BATCH_MAX + 1));
        assert_eq!(many.waiting().len(), 2);
        assert_eq!(run(&mut many, 0, |_, _| Answer::Taken).len(), 2);
    }

    #[test]
    fn what_another_rollout_ends_is_not_overtaken_by_the_end() {
        let mut queue = Queue::new(Vec::new(), false, 100);
        for (seq, rollout) in [(1, "one"), (2, "two")] {
            let mut event = event(Kind::RolloutExpired, "");
            event.rollout = Some(Digest::of(rollout.as_bytes()));
            queue.take(&Numbered { seq, event }, 0, || format!("msg_{seq}"));
        }
        let mut down = true;
        let sent = run(&mut queue, 60_000, |_, _| match std::mem::take(&mut down) {
            true => failed(),
            false => Answer::Taken,
        });
        assert_eq!(sent, ["0:1", "0.5:1", "0.6:2"]);
    }

    #[test]
    fn what_was_tried_once_stays_as_it_is() {
        let mut queue = queue(true, 1_000, "ab");
        let first = queue.begin(0);
        take(&mut queue, 3, "aab");
        let _ = queue.settle(0, failed(), 0, 0);
        let again = queue.begin(0);
        assert_eq!((again.id, &again.events), (first.id, &first.events));
        let waiting: Vec<_> = queue.waiting().iter().map(|one| one.events.clone()).collect();
        assert_eq!(waiting, [vec![1], vec![2, 5], vec![3, 4]]);
    }

    #[test]
    fn a_rollout_is_told_in_order_and_holds_up_no_other() {
        // Whatever has the first event of `a` fails until the 20th second.
        let mut queue = queue(false, 100, "aabb-a");
        let sent = run(&mut queue, 600_000, |delivery, now_ms| {
            if delivery.events[0] == 1 && now_ms < 20_000 { failed() } else { Answer::Taken }
        });
        let events = |lane: &[&str]| {
            let of = |sent: &&String| lane.contains(&sent.split(':').next_back().unwrap());
            sent.iter().filter(of).map(|sent| sent.split(':').next_back().unwrap()).collect()
        };
        let a: Vec<&str> = events(&["1", "2", "6"]);
        assert_eq!(a[a.len() - 3..], ["1", "2", "6"], "{sent:?}");
        assert_eq!(a.iter().filter(|one| **one == "1").count(), a.len() - 2, "{sent:?}");
        let others: Vec<&str> = events(&["3", "4", "5"]);
        assert_eq!(others, ["3", "4", "5"], "the oldest first");
        let last = sent.iter().position(|one| one.ends_with(":4")).unwrap();
        let again = sent.iter().rposition(|one| one.ends_with(":1")).unwrap();
        assert!(last < again, "they did not wait for it: {sent:?}");
    }

    #[test]
    fn what_comes_without_a_pause_does_not_keep_what_failed_from_its_turn() {
        let mut queue = queue(false, 0, "a");
        queue.begin(0);
        let _ = queue.settle(0, failed(), 0, 0);
        for now_ms in [400, 600] {
            queue.take(&of('b', now_ms), now_ms, || "msg_b".to_owned());
        }
        assert_eq!(queue.next(500), Next::Send(1), "it is not due yet");
        let _ = queue.settle(1, Answer::Taken, 500, 0);
        assert_eq!(queue.next(700), Next::Send(0), "it has waited for longer");
    }

    #[test]
    fn a_receiver_that_is_down_is_asked_ever_more_seldom() {
        let mut queue = queue(false, 1_000, "abcdefgh");
        let sent = run(&mut queue, 3_600_000, |_, _| failed());
        let times: Vec<f64> = sent
            .iter()
            .map(|one| one.split(':').next().unwrap())
            .map(|time| time.parse().unwrap())
            .collect();
        assert!(times.len() < 25, "eight rollouts wait, and it is asked as if one did: {sent:?}");
        let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.windows(2).all(|pair| pair[1] >= pair[0]), "{gaps:?}");
        assert!(gaps.iter().all(|gap| (1.0..=600.0).contains(gap)), "{gaps:?}");
        // Once it answers, all of it goes at its pace.
        let back = run(&mut queue, 10_000_000, |_, _| Answer::Taken);
        assert_eq!(back.len(), 8);
    }

    #[test]
    fn backoff_table() {
        let cases = [
            (1, 500..=1_000),
            (2, 1_000..=2_000),
            (3, 2_000..=4_000),
            (10, 256_000..=512_000),
            (11, 300_000..=600_000),
            (u32::MAX, 300_000..=600_000),
        ];
        for (failures, range) in cases {
            let waits: Vec<_> = (0..2_000).map(|n| backoff_ms(failures, n * 7_919)).collect();
            assert!(waits.iter().all(|wait| range.contains(wait)), "{failures}");
            let distinct: BTreeSet<_> = waits.iter().collect();
            assert!(distinct.len() > 100, "chance is in it: {failures}");
            assert_eq!(backoff_ms(failures, 0), *range.start(), "{failures}");
            assert_eq!(backoff_ms(failures, range.end() / 2), *range.end(), "{failures}");
        }
    }

    #[test]
    fn what_a_receiver_asks_for_is_kept_up_to_an_hour() {
        let asked = |after_s| Answer::Failed { why: String::new(), after_s: Some(after_s) };
        for (after_s, wait_ms) in [(0, 500), (30, 30_000), (3_600, 3_600_000), (86_400, 3_600_000)]
        {
            let mut queue = queue(false, 1_000, "ab");
            queue.begin(0);
            let settled = queue.settle(0, asked(after_s), 5_000, 0);
            assert_eq!(settled, Settled::Again { wait_ms, why: String::new() });
            // The other one, too; and never faster than its pace.
            assert_eq!(queue.next(5_000), Next::At(5_000 + wait_ms.max(1_000)), "{after_s}");
        }
    }

    #[test]
    fn what_is_refused_is_dropped_and_the_next_one_goes() {
        let mut queue = queue(false, 0, "aa");
        queue.begin(0);
        let refused = Answer::Refused { why: "404".to_owned() };
        assert_eq!(queue.settle(0, refused, 0, 0), Settled::Dropped { why: "404".to_owned() });
        assert_eq!((queue.next(0), &queue.waiting()[0].events), (Next::Send(0), &vec![2]));
    }

    #[test]
    fn what_was_tried_for_a_day_is_dropped_and_a_full_queue_says_so() {
        let mut queue = queue(true, 0, "ab");
        queue.take(&of('a', 100), 7, || unreachable!("it joins the one that waits"));
        assert_eq!(queue.expire(KEPT_MS), []);
        let gone = queue.expire(KEPT_MS + 1);
        assert_eq!(gone.iter().map(|one| &one.events[..]).collect::<Vec<_>>(), [[2]]);
        assert_eq!(queue.waiting().len(), 1, "the newest counts");
        assert!(!queue.is_full());
        let mut queue = self::queue(false, 0, &"a".repeat(WAITING_MAX));
        assert!(queue.is_full());
        queue.expire(KEPT_MS + 1);
        assert_eq!(queue.next(0), Next::Nothing);
    }

    #[test]
    fn what_is_kept_all_the_same_stays_in_its_place() {
        let mut queue = queue(false, 0, "aab");
        let mut gone = queue.expire(KEPT_MS + 1);
        queue.keep(gone.remove(1), KEPT_MS + 1);
        queue.keep(gone.remove(0), KEPT_MS + 1);
        let waiting: Vec<_> = queue.waiting().iter().map(|one| one.events[0]).collect();
        assert_eq!(waiting, [1, 2]);
        assert_eq!(queue.expire(2 * KEPT_MS), []);
        assert_eq!(queue.expire(2 * KEPT_MS + 2).len(), 2);
    }

    #[test]
    fn over_restarts_the_attempts_tell_for_how_long_it_was_tried() {
        let delivery = queue(false, 0, "a").waiting()[0].clone();
        for (attempts, left_ms) in [(0, KEPT_MS), (6, KEPT_MS - 3_600_000), (144, 0), (9_999, 0)] {
            let again = Delivery { attempts, ..delivery.clone() }.again(5_000, 6_000);
            assert_eq!((again.due_ms, again.until_ms), (6_000, 5_000 + left_ms), "{attempts}");
        }
    }

    #[test]
    fn no_more_than_one_a_pace_is_sent() {
        let mut queue = queue(false, 1_000, &"abcde".repeat(10));
        let sent = run(&mut queue, 600_000, |_, _| Answer::Taken);
        let expected: Vec<_> = (0..50).map(|second| second.to_string()).collect();
        let times: Vec<_> = sent.iter().map(|one| one.split(':').next().unwrap()).collect();
        assert_eq!(times, expected);
    }
}
