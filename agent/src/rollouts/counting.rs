//! The requests of one service (R24): counted off its page, told to the others, and, while a release
//! bakes, compared with what they count on the release before.
//!
//! What serves is told by the loop; all else is this task's own. It reads the page once a second and
//! keeps the last window of it; another release starts from nothing, and so does the end of a warmup.
//! The others hear of it every [`TELL_EVERY`], and at once when that says little any more: an outage
//! that all hosts share must be seen as such before one of them blames its new release for it. Once
//! nothing serves, what was told is taken back: it is no control for what happens from then on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use net::{Gossip, Member};
use proto::record::{TallyRecord, tally_key, to_text};
use proto::statement::{Limits, Rollout};
use proto::{Digest, HostId, Service};
use rollout::host::Input;
use rollout::verdict::{Streak, Tallies, Tally};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, error, warn};

use super::{Answer, answer};
use crate::activate::Activator;
use crate::health::metrics::{Page, Window};

/// From one page to the next.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How often the others are told.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// A share of errors that moved so far, in millionths, is told at once.
const TELL_AT_ONCE_PPM: u64 = 5_000;
/// What serves on this host.
#[derive(Debug, Clone)]
pub(super) struct Serving {
    pub(super) release: Digest,
    pub(super) bake: Option<Bake>,
}

/// A release that bakes.
#[derive(Debug, Clone)]
pub(super) struct Bake {
    pub(super) attempt: u64,
    pub(super) rollout: Arc<Rollout>,
    /// For how long it had baked at that time.
    pub(super) baked: Duration,
    pub(super) at: Instant,
}

impl Bake {
    fn is_warm(&self) -> bool {
        let limits = self.rollout.limits.as_ref();
        let warmup_s = limits.map_or(0, |limits| limits.warmup_s);
        self.baked + self.at.elapsed() >= Duration::from_secs(warmup_s.into())
    }
}

/// The task, for the loop that tells it what serves. Ends with it.
pub(super) struct Counting {
    serving: watch::Sender<Option<Serving>>,
}

impl Counting {
    pub(super) fn start(counter: Counter) -> Self {
        let (serving, told) = watch::channel(None);
        tokio::spawn(counter.run(told));
        Self { serving }
    }

    /// None: nothing, or a step is under way.
    pub(super) fn say(&self, serving: Option<Serving>) {
        self.serving.send_replace(serving);
    }
}

/// What the task works with.
pub(super) struct Counter {
    pub(super) service: Service,
    pub(super) me: HostId,
    pub(super) activator: Arc<Activator>,
    pub(super) gossip: Gossip,
    /// Where its counts are gossiped, as its receipts.
    pub(super) slot: usize,
    pub(super) answers: mpsc::Sender<Answer>,
}

/// The page of what serves, and what was read off it.
struct Counted {
    release: Digest,
    page: Option<Page>,
    window: Window,
    read: Instant,
}

impl Counter {
    async fn run(self, told: watch::Receiver<Option<Serving>>) {
        let mut pages = interval(READ_EVERY);
        pages.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut counted, mut streak): (Option<Counted>, Option<(u64, Streak)>) = (None, None);
        let mut said: Option<(Instant, TallyRecord)> = None;
        while told.has_changed().is_ok() {
            pages.tick().await;
            let serving = told.borrow().clone();
            let Some(serving) = serving else {
                counted = None;
                if let Some((_, last)) = &said {
                    let nothing = Tally::default().to_record(last.release);
                    self.tell(nothing, &mut said);
                }
                continue;
            };
            let before = counted.take();
            let counted = counted.insert(self.page_of(serving.release, before).await);
            counted.read(&serving).await;
            let tally = counted.window.tally().unwrap_or_default();
            if counted.page.is_some() || said.is_some() {
                self.tell(tally.to_record(counted.release), &mut said);
            }
            let Some(bake) = serving.bake.filter(Bake::is_warm) else { continue };
            if let Some(limits) = &bake.rollout.limits {
                let held = streak.take().filter(|(attempt, _)| *attempt == bake.attempt);
                let (_, streak) = streak.insert(held.unwrap_or((bake.attempt, Streak::default())));
                self.judge(&bake, limits, tally, streak).await;
            }
        }
    }

    /// The page to read, as before where the same release serves.
    async fn page_of(&self, release: Digest, before: Option<Counted>) -> Counted {
        if let Some(before) = before.filter(|before| before.release == release) {
            return before;
        }
        let activator = self.activator.clone();
        let page: Result<_> = spawn_blocking(move || activator.page_of(&release))
            .await
            .map_err(anyhow::Error::from)
            .and_then(|page| page);
        // Said once: until another release serves, nothing is counted.
        let page = page.unwrap_or_else(|error| {
            let error = format!("{error:#}");
            warn!(service = %self.service, error, "its requests are not counted");
            None
        });
        let length = page.as_ref().map_or(READ_EVERY, Page::window);
        Counted { release, page, window: Window::new(length), read: Instant::now() }
    }

    /// Tells the others, if it is due.
    fn tell(&self, record: TallyRecord, said: &mut Option<(Instant, TallyRecord)>) {
        if said.as_ref().is_some_and(|(at, said)| !is_due(*at, said, &record)) {
            return;
        }
        if let Err(error) = self.gossip.set(&tally_key(self.slot), &to_text(&record)) {
            error!(service = %self.service, %error, "counts are not gossiped");
        }
        *said = Some((Instant::now(), record));
    }

    async fn judge(&self, bake: &Bake, limits: &Limits, tally: Tally, streak: &mut Streak) {
        let attempt = bake.attempt;
        let rank = bake.rollout.rank_of(&self.me);
        // A host outside the cohort is held to what the canaries were.
        let wave = rank.map_or(0, |rank| bake.rollout.wave_of(rank));
        let errors_ppm = limits.errors_ppm.get(wave).copied().unwrap_or(0);
        let members = self.gossip.members().borrow().clone();
        let control = tallies(&members).control(&bake.rollout);
        let verdict = streak.look(tally, &control, limits, errors_ppm);
        debug!(service = %self.service, attempt, %verdict, "compared");
        self.activator.trail().say(format_args!("requests: {verdict}"));
        answer(&self.answers, &self.service, Input::Verdict { attempt, verdict }).await;
    }
}

impl Counted {
    async fn read(&mut self, serving: &Serving) {
        let Some(page) = &self.page else { return };
        if serving.bake.as_ref().is_some_and(|bake| !bake.is_warm()) {
            return self.window.clear();
        }
        if let Some(reading) = page.read().await {
            self.read = Instant::now();
            self.window.take(self.read, reading);
        } else if self.read.elapsed() >= page.window() {
            // Nothing was heard for so long that the window is empty.
            self.window.clear();
        }
    }
}

/// Whether there is something to tell: it is time, another release, the share of errors moved, counting
/// began or ended, or there are so many more requests that what was told of them says little: few would
/// be no control, and a release would be held against a limit alone.
fn is_due(at: Instant, said: &TallyRecord, record: &TallyRecord) -> bool {
    let share_ppm = |record: &TallyRecord| record.errors * 1_000_000 / record.requests.max(1);
    at.elapsed() >= TELL_EVERY
        || said.release != record.release
        || (said.over_ms == 0) != (record.over_ms == 0)
        || record.requests > said.requests.saturating_mul(2)
        || share_ppm(said).abs_diff(share_ppm(record)) >= TELL_AT_ONCE_PPM
}

/// What the members that are there count.
pub(super) fn tallies(members: &[Member]) -> Tallies {
    let live = members.iter().filter(|member| member.alive);
    Tallies::read(live.map(|member| (&member.host, &member.values)))
}

#[cfg(test)]
mod tests {
    use proto::statement::Health;

    use super::*;
    use crate::health::metrics::Reading;
    use crate::services::Variables;

    fn record(release: &str, requests: u64, errors: u64) -> TallyRecord {
        let tally = Tally { requests, errors, ..Tally::default() };
        tally.to_record(Digest::of(release.as_bytes()))
    }

    fn member(id: &str, alive: bool, record: Option<TallyRecord>) -> Member {
        let said = record.map(|record| (tally_key(5), to_text(&record)));
        Member {
            host: id.parse().unwrap(),
            address: "127.0.0.1:1".parse().unwrap(),
            generation: 1,
            alive,
            twin: None,
            values: said.into_iter().collect(),
        }
    }

    /// A page that comes no more says nothing, and what it said last is not what is now.
    #[tokio::test]
    async fn r24_a_page_that_never_comes_counts_for_no_longer_than_its_window() {
        let metrics = Some("http://127.0.0.1:1/metrics".to_owned());
        let health = Health { metrics, window_s: 60, ..Health::default() };
        let page = Page::new(&health, &Variables::default()).unwrap();
        let (release, read) = (Digest::of(b"new"), Instant::now());
        let mut window = Window::new(Duration::from_secs(60));
        for requests in [0.0, 100.0] {
            window.take(read, Reading { requests, ..Reading::default() });
        }
        let mut counted = Counted { release, page, window, read };
        for (since_s, requests) in [(0, Some(100)), (60, None)] {
            counted.read = Instant::now() - Duration::from_secs(since_s);
            counted.read(&Serving { release, bake: None }).await;
            assert_eq!(counted.window.tally().map(|tally| tally.requests), requests, "{since_s} s");
        }
    }

    #[test]
    fn r24_who_is_gone_counts_no_more() {
        let [a, b] = ["a", "b"].map(|letter| letter.repeat(12));
        let said = || Some(record("old", 1, 0));
        let read = tallies(&[member(&a, true, said()), member(&b, false, said())]);
        let count = |id: &str| read.of(&id.parse().unwrap(), Digest::of(b"old"));
        assert_eq!((count(&a).map(|tally| tally.requests), count(&b)), (Some(1), None));
    }

    #[test]
    fn an_outage_is_told_at_once_and_all_else_now_and_then() {
        let now = Instant::now();
        let said = record("old", 1_000, 0);
        assert!(!is_due(now, &said, &record("old", 2_000, 9)));
        assert!(is_due(now, &said, &record("old", 2_000, 10)));
        assert!(is_due(now, &said, &record("new", 1_000, 0)));
        assert!(is_due(now - TELL_EVERY, &said, &said));
        let counted = TallyRecord { over_ms: 1_000, ..said.clone() };
        let nothing = Tally::default().to_record(said.release);
        assert!(is_due(now, &counted, &nothing));
        assert!(!is_due(now, &nothing, &nothing));
        let idle = TallyRecord { over_ms: 30_000, ..nothing.clone() };
        assert!(is_due(now, &nothing, &idle) && !is_due(now, &idle, &idle));
        let busy = |requests| TallyRecord { over_ms: 30_000, ..record("old", requests, 0) };
        assert!(is_due(now, &idle, &busy(1)) && is_due(now, &busy(100), &busy(201)));
        assert!(!is_due(now, &busy(100), &busy(200)) && !is_due(now, &busy(200), &busy(100)));
    }
}
