//! The task of one receiver: takes events for it, sends what waits, notes what became of it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use getrandom::fill;
use member::{chain, clock};
use proto::UnixTime;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::config::{Channel, Receiver};
use super::incident::Incident;
use super::queue::{Answer, Delivery, Next, Queue, Settled};
use super::{Context, Office, letters, pagerduty};
use crate::desk::blocking;
use crate::events::{Event, Numbered};
use crate::store::{Progress, StoreError};

/// Between two looks for events that nobody has told of.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After the database failed, until it is tried again.
const STORE_AGAIN: Duration = Duration::from_secs(5);
/// Events read at a time.
const PAGE: u32 = 100;
/// So many times it is read on for the end of an alert: where far more has happened since, it calls all the
/// same.
const LATER_PAGES_MAX: usize = 20;

/// What tells one receiver.
pub(super) struct Courier {
    pub(super) office: Arc<Office>,
    pub(super) receiver: Receiver,
}

/// What it has in hand.
struct Work {
    queue: Queue,
    /// Number of the last event that was looked at.
    cursor: u64,
    /// Requests of a delivery, by its id, that were taken already, where another one of it failed.
    sent: (String, usize),
}

impl Courier {
    /// Runs until `stop`. What is being sent then is sent again after the next start.
    pub(super) async fn run(self, mut newest: watch::Receiver<u64>, stop: CancellationToken) {
        loop {
            let name = &self.receiver.name;
            let error = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.work(&mut newest) => {
                    let Err(error) = ended;
                    error
                }
            };
            warn!(receiver = %name, error = chain(&error), "notifications wait for the database");
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(STORE_AGAIN) => {}
            }
        }
    }

    async fn work(&self, newest: &mut watch::Receiver<u64>) -> Result<Infallible, StoreError> {
        let mut work = self.begin().await?;
        loop {
            self.take(&mut work).await?;
            for delivery in work.queue.expire(clock::boot_ms()) {
                match self.ends_something(&delivery).await? {
                    true => work.queue.keep(delivery, clock::boot_ms()),
                    false => self.give_up(&delivery, "it was not delivered within a day").await?,
                }
            }
            let waiting = work.queue.waiting().len();
            self.office.count(&self.receiver.name, |counts| counts.waiting = waiting);
            let now_ms = clock::boot_ms();
            match work.queue.next(now_ms) {
                Next::Send(place) => self.deliver(&mut work, place).await?,
                Next::At(due_ms) => {
                    let wait = Duration::from_millis(due_ms.saturating_sub(now_ms));
                    rest(newest, wait.min(LOOK_EVERY)).await;
                }
                Next::Nothing => rest(newest, LOOK_EVERY).await,
            }
        }
    }

    async fn begin(&self) -> Result<Work, StoreError> {
        let Progress { cursor, waiting } = {
            let _turn = self.office.turn().await;
            self.office.store.receiver_progress(&self.receiver.name).await?
        };
        let (now, now_ms) = (clock::unix(), clock::boot_ms());
        let due = |(delivery, next_try): (Delivery, UnixTime)| {
            delivery.again(now_ms, now_ms + left_s(next_try, now) * 1_000)
        };
        let waiting = waiting.into_iter().map(due).collect();
        let together = matches!(self.receiver.channel, Channel::Slack { .. });
        let queue = Queue::new(waiting, together, pace_ms(&self.receiver.channel));
        Ok(Work { queue, cursor, sent: (String::new(), 0) })
    }

    /// Takes what is new as long as there is room.
    async fn take(&self, work: &mut Work) -> Result<(), StoreError> {
        while !work.queue.is_full() {
            let _turn = self.office.turn().await;
            let events = self.office.store.events_after(work.cursor, PAGE).await?;
            let mut changed = BTreeSet::new();
            for event in &events {
                if work.queue.is_full() {
                    break;
                }
                work.cursor = event.seq;
                if wants(&self.office.context, &self.receiver, &event.event) {
                    changed.insert(work.queue.take(event, clock::boot_ms(), fresh_id));
                }
            }
            if events.is_empty() {
                return Ok(());
            }
            let waiting = work.queue.waiting().iter();
            let changed: Vec<_> =
                waiting.filter(|delivery| changed.contains(&delivery.id)).collect();
            let name = &self.receiver.name;
            self.office.store.receiver_take(name, work.cursor, &changed).await?;
        }
        Ok(())
    }

    async fn deliver(&self, work: &mut Work, place: usize) -> Result<(), StoreError> {
        let delivery = work.queue.begin(place);
        let events = {
            let _turn = self.office.turn().await;
            self.office.store.delivery_begun(&delivery.id, delivery.attempts).await?;
            self.office.store.events_of(&delivery.events).await?
        };
        let silent = self.over(&events).await?;
        let answer = self.send(work, &delivery, (&events, &silent)).await;
        let (now, now_ms, chance) = (clock::unix(), clock::boot_ms(), random());
        let settled = work.queue.settle(place, answer, now_ms, chance);
        let (store, name) = (&self.office.store, &self.receiver.name);
        let id = &delivery.id;
        match settled {
            Settled::Delivered => {
                let _turn = self.office.turn().await;
                store.delivery_done(name, id, now).await?;
                self.office.count(name, |counts| counts.delivered += 1);
                info!(receiver = %name, delivery = id, events = events.len(), "delivered");
            }
            Settled::Dropped { why } => self.give_up(&delivery, &why).await?,
            Settled::Again { wait_ms, why } => {
                let (wait_s, attempts) = (wait_ms.div_ceil(1_000), delivery.attempts);
                let _turn = self.office.turn().await;
                store.delivery_failed(name, id, now.plus_s(wait_s), &why).await?;
                self.office.count(name, |counts| counts.failed += 1);
                info!(receiver = %name, delivery = id, attempts, wait_s, why, "not delivered yet");
            }
        }
        Ok(())
    }

    /// Sends what a delivery consists of, one after the other, beginning with what was not taken yet.
    async fn send(
        &self,
        work: &mut Work,
        delivery: &Delivery,
        (events, silent): (&[Numbered], &BTreeSet<u64>),
    ) -> Answer {
        if events.is_empty() {
            return Answer::Refused { why: "its events are not kept any more".to_owned() };
        }
        let channel = self.receiver.channel.clone();
        let secret = match blocking("read a secret", move || channel.secret()).await {
            Ok(Ok(secret)) => secret,
            Ok(Err(fault)) => return Answer::Failed { why: chain(&fault), after_s: None },
            Err(refused) => return Answer::Failed { why: refused.reason, after_s: None },
        };
        if work.sent.0 != delivery.id {
            work.sent = (delivery.id.clone(), 0);
        }
        let (context, id) = (&self.office.context, &delivery.id);
        let letters = letters::of(context, &self.receiver, &secret, id, (events, silent));
        let first = work.sent.1;
        for (place, letter) in letters.into_iter().enumerate().skip(first) {
            if place > first {
                sleep(Duration::from_millis(pace_ms(&self.receiver.channel))).await;
            }
            match letter.post(&self.office.post, &secret).await {
                Answer::Taken => work.sent.1 = place + 1,
                other => return other,
            }
        }
        Answer::Taken
    }

    /// Of these the alerts that have ended since: what came to its end while the coordinator was away, or
    /// the receiver, is told and calls nobody.
    async fn over(&self, events: &[Numbered]) -> Result<BTreeSet<u64>, StoreError> {
        let mut over = BTreeSet::new();
        if matches!(self.receiver.channel, Channel::Pagerduty { .. }) {
            for one in events {
                let opens = Incident::opened_by(one.event.kind).is_some();
                if opens && self.is_over(one).await? {
                    over.insert(one.seq);
                }
            }
        }
        Ok(over)
    }

    async fn is_over(&self, one: &Numbered) -> Result<bool, StoreError> {
        let mut cursor = one.seq;
        for _ in 0..LATER_PAGES_MAX {
            let _turn = self.office.turn().await;
            let later = self.office.store.events_after(cursor, PAGE).await?;
            let Some(last) = later.last() else { return Ok(false) };
            cursor = last.seq;
            let ends = |later: &Numbered| {
                pagerduty::is_ended_by(&self.office.context, &one.event, &later.event)
            };
            if later.iter().any(ends) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an alert would stay open for ever without it.
    async fn ends_something(&self, delivery: &Delivery) -> Result<bool, StoreError> {
        if !matches!(self.receiver.channel, Channel::Pagerduty { .. }) {
            return Ok(false);
        }
        let _turn = self.office.turn().await;
        let events = self.office.store.events_of(&delivery.events).await?;
        let (context, kinds) = (&self.office.context, &self.receiver.filter.kinds);
        Ok(events.iter().any(|one| pagerduty::ends(context, kinds, &one.event)))
    }

    async fn give_up(&self, delivery: &Delivery, why: &str) -> Result<(), StoreError> {
        let name = &self.receiver.name;
        let _turn = self.office.turn().await;
        self.office.store.delivery_dropped(name, &delivery.id, why).await?;
        self.office.count(name, |counts| counts.dropped += 1);
        let (id, attempts) = (&delivery.id, delivery.attempts);
        let (events, newest) = (delivery.events.len(), delivery.newest);
        warn!(
            receiver = %name, delivery = id, events, %newest, attempts, why,
            "a notification is dropped"
        );
        Ok(())
    }
}

/// Until then, in seconds, by a clock that may have been set since: no longer than the longest wait.
fn left_s(next_try: UnixTime, now: UnixTime) -> u64 {
    next_try.0.saturating_sub(now.0).min(3_600)
}

/// Whether a receiver is told of an event.
fn wants(context: &Context, receiver: &Receiver, event: &Event) -> bool {
    let filter = &receiver.filter;
    filter.is_of(event)
        && match receiver.channel {
            Channel::Pagerduty { .. } => pagerduty::wants(context, &filter.kinds, event),
            Channel::Slack { .. } | Channel::Webhook { .. } => filter.kinds.contains(&event.kind),
        }
}

/// Between two requests, in milliseconds. Slack takes one a second; PagerDuty says that there is a
/// limit, and not which.
pub(super) const fn pace_ms(channel: &Channel) -> u64 {
    match channel {
        Channel::Slack { .. } | Channel::Pagerduty { .. } => 1_000,
        Channel::Webhook { .. } => 100,
    }
}

/// Until there may be something to do, at most for `wait`.
async fn rest(newest: &mut watch::Receiver<u64>, wait: Duration) {
    let told = async {
        // Who tells is gone: the coordinator ends, or nobody tells.
        if newest.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = told => {}
        () = sleep(wait) => {}
    }
}

/// The id of a new delivery: 128 random bits, without a full stop, which would end it in what is
/// signed.
pub(super) fn fresh_id() -> String {
    let mut bytes = [0; 16];
    fill(&mut bytes).expect("the kernel's random source is there once the system has booted");
    format!("msg_{:032x}", u128::from_be_bytes(bytes))
}

fn random() -> u64 {
    getrandom::u64().expect("the kernel's random source is there once the system has booted")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_keeps_nothing_waiting_for_long() {
        for (next_try, left) in [(0, 0), (900, 0), (1_030, 30), (4_600, 3_600), (999_999, 3_600)] {
            assert_eq!(left_s(UnixTime(next_try), UnixTime(1_000)), left, "{next_try}");
        }
    }
}
