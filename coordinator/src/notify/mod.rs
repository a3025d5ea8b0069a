//! Notifications: what happened goes to people and programs, by Slack, PagerDuty and signed webhooks.
//!
//! | module | what |
//! |---|---|
//! | [`config`], [`target`] | who is told, of what, and where |
//! | [`queue`] | what waits for one receiver, and what is sent next |
//! | [`incident`] | which events open something, and which end it |
//! | `slack`, `pagerduty`, `webhook` | what an event is in their words |
//! | `letters`, [`post`] | the requests of a delivery, and how one is sent |
//! | `courier` | the task of one receiver |
//!
//! Each event is sent at least once to each receiver that wants it: what is to be sent is in the
//! database before it is sent and until the receiver has taken it. So a coordinator that dies in
//! between sends it again, and a receiver can tell by `webhook-id` or PagerDuty's `dedup_key`; Slack
//! cannot. After a day, or when a receiver refuses it, a notification is dropped, and the log says so.
//!
//! Nothing waits for a receiver but what is for it: one task each, one database connection for all of
//! them, one request at a time, bounded in time and size.

pub mod config;
mod courier;
pub mod incident;
mod letters;
mod pagerduty;
pub mod post;
pub mod queue;
mod slack;
pub mod target;
mod text;
mod webhook;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use member::checkup::key_file;
use member::{chain, clock};
use net::NetError;
use proto::checkup::{Finding, Topic};
use proto::id::{FleetId, Name};
use proto::near::advice;
use proto::wire::{ControlReply, ReceiverReport, Refused, RefusedKind};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::desk::{blocking, out_of_order};
use crate::events::Event;
use crate::store::{Store, StoreError, Tally};
use config::{Receiver, SecretFault};
use courier::Courier;
use post::Post;
use queue::Answer;
#[cfg(test)]
pub(crate) use text::first_line;

/// After a failure, until it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two looks at the secrets of all receivers.
const SECRETS_EVERY: Duration = Duration::from_secs(60);

/// What every message says, or leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub fleet: FleetId,
    /// Where the dashboard is, without a slash at its end; none: there is none.
    pub dashboard: Option<String>,
}

impl Context {
    /// The page of an event's rollout.
    fn page(&self, event: &Event) -> Option<String> {
        let (dashboard, rollout) = (self.dashboard.as_ref()?, event.rollout?);
        Some(format!("{dashboard}/rollouts/{rollout:#}"))
    }
}

/// Who is told, and what that takes.
pub struct Office {
    store: Store,
    context: Context,
    receivers: Vec<Receiver>,
    post: Post,
    /// Who may use the database: notifications leave its other connections to those who wait.
    turns: Semaphore,
    /// Tests that may still begin.
    tests: Semaphore,
    counts: Mutex<BTreeMap<Name, Counts>>,
}

/// What became of deliveries to one receiver since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub delivered: u64,
    pub dropped: u64,
    /// Attempts after which it was to be tried again.
    pub failed: u64,
    /// Deliveries that wait now.
    pub waiting: usize,
    /// Its secret cannot be used: nothing would reach it.
    pub is_mute: bool,
}

impl Office {
    pub fn new(store: Store, context: Context, receivers: Vec<Receiver>, post: Post) -> Self {
        let (turns, tests) = (Semaphore::new(1), Semaphore::new(1));
        let named = |receiver: &Receiver| (receiver.name.clone(), Counts::default());
        let counts = Mutex::new(receivers.iter().map(named).collect());
        Self { store, context, receivers, post, turns, tests, counts }
    }

    async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("it is never closed")
    }

    /// Of each receiver, by name.
    pub fn counts(&self) -> BTreeMap<Name, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, name: &Name, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(counts.entry(name.clone()).or_default());
    }

    /// Tells every receiver of every event that comes after the last one it was told of, until `stop`.
    /// `newest`: the number of the newest event; where nobody says it, events are looked for.
    ///
    /// # Errors
    ///
    /// None: what fails is tried again.
    pub async fn run(
        self: Arc<Self>,
        newest: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Result<(), NetError> {
        let mut couriers = JoinSet::new();
        let (office, stopped) = (self.clone(), stop.clone());
        couriers.spawn(async move { office.watch_secrets(stopped).await });
        if self.open(&stop).await {
            for receiver in self.receivers.clone() {
                let (office, newest, stop) = (self.clone(), newest.clone(), stop.clone());
                couriers.spawn(async move {
                    let name = receiver.name.clone();
                    let again = stop.clone();
                    let run = || {
                        let (office, receiver) = (office.clone(), receiver.clone());
                        Courier { office, receiver }.run(newest.clone(), stop.clone())
                    };
                    begun_anew(&name, run, AGAIN, again).await;
                });
            }
        }
        while couriers.join_next().await.is_some() {}
        // Without a receiver there is nothing to do, and no reason to end.
        stop.cancelled().await;
        Ok(())
    }

    /// Looks at the secrets at the start and from time to time: one that cannot be used is told before
    /// something is to be sent. Nothing else depends on it.
    async fn watch_secrets(&self, stop: CancellationToken) {
        let mut told = BTreeMap::new();
        loop {
            let mut faults = self.secret_faults().await;
            for receiver in &self.receivers {
                let name = &receiver.name;
                let fault = faults.remove(name);
                self.count(name, |counts| counts.is_mute = fault.is_some());
                match (told.get(name), &fault) {
                    (before, Some(cause)) if before != Some(cause) => {
                        let file = receiver.channel.secret_file().display();
                        error!(receiver = %name, %file, cause, "nothing can be sent to a receiver");
                    }
                    (Some(_), None) => info!(receiver = %name, "its secret can be used again"),
                    _ => {}
                }
                match fault {
                    Some(cause) => _ = told.insert(name.clone(), cause),
                    None => _ = told.remove(name),
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(SECRETS_EVERY) => {}
            }
        }
    }

    /// Why the secrets of receivers cannot be used, as they are now.
    async fn secret_faults(&self) -> BTreeMap<Name, String> {
        let receivers = self.receivers.clone();
        let read = move || {
            let fault = |one: &Receiver| Some((one.name.clone(), one.channel.secret().err()?));
            let faults = receivers.iter().filter_map(fault);
            faults.map(|(name, fault)| (name, chain(&fault))).collect()
        };
        // The log has why.
        blocking("read secrets", read).await.unwrap_or_default()
    }

    /// Notes who is told from now on; false: it is to stop.
    async fn open(&self, stop: &CancellationToken) -> bool {
        let receivers: Vec<_> =
            self.receivers.iter().map(|one| (one.name.clone(), one.channel.kind())).collect();
        loop {
            let Err(error) = self.store.receivers_set(&receivers).await else { return true };
            error!(error = chain(&error), "nobody is told of anything until the database works");
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep(AGAIN) => {}
            }
        }
    }

    // --- what people ask ---

    /// How it stands with each receiver.
    ///
    /// # Errors
    ///
    /// [`RefusedKind::Busy`]: the database does not work.
    pub async fn list(&self) -> Result<ControlReply, Refused> {
        let tallies = self.store.receivers().await;
        let tallies = tallies.map_err(|error| out_of_order("read the receivers", &error))?;
        let mut faults = self.secret_faults().await;
        let report = |receiver: &Receiver| {
            let tally = tallies.iter().find(|tally| tally.name == receiver.name);
            let told = report(receiver, tally);
            ReceiverReport { fault: faults.remove(&receiver.name).or(told.fault), ..told }
        };
        Ok(ControlReply::Receivers(self.receivers.iter().map(report).collect()))
    }

    /// Sends a receiver a message that says that `asker` has asked for it, and tells what it answers.
    /// The events that wait for it are not touched.
    ///
    /// # Errors
    ///
    /// [`RefusedKind::NotFound`], and [`RefusedKind::Busy`] while another one is tested.
    pub async fn test(&self, name: &Name, asker: &Name) -> Result<ControlReply, Refused> {
        let Some(receiver) = self.receivers.iter().find(|one| one.name == *name) else {
            let names: Vec<_> = self.receivers.iter().map(|one| one.name.as_str()).collect();
            return Err(Refused {
                kind: RefusedKind::NotFound,
                reason: format!("there is no receiver {name} in this coordinator's configuration"),
                next: match names.is_empty() {
                    true => {
                        "add one under [[notify]] in coordinator.toml, and restart it".to_owned()
                    }
                    false => advice(name.as_str(), names),
                },
            });
        };
        let Ok(_turn) = self.tests.try_acquire() else {
            return Err(Refused {
                kind: RefusedKind::Busy,
                reason: "another receiver is being tested".to_owned(),
                next: "try again in a moment".to_owned(),
            });
        };
        info!(receiver = %name, %asker, "a receiver is tested");
        let (taken, answer) = match self.send_test(receiver, asker).await {
            Answer::Taken => (true, "it has taken the message".to_owned()),
            Answer::Refused { why } | Answer::Failed { why, .. } => (false, why),
        };
        Ok(ControlReply::Notified { taken, answer })
    }

    async fn send_test(&self, receiver: &Receiver, asker: &Name) -> Answer {
        let failed = |why| Answer::Failed { why, after_s: None };
        let channel = receiver.channel.clone();
        let secret = match blocking("read a secret", move || channel.secret()).await {
            Ok(Ok(secret)) => secret,
            Ok(Err(fault)) => return failed(chain(&fault)),
            Err(refused) => return failed(refused.reason),
        };
        let text = format!(
            "Test: fleet {} can tell {} what happens. {asker} asked for this; nothing has happened.",
            self.context.fleet, receiver.name,
        );
        let told = (courier::fresh_id(), clock::unix());
        let letters =
            letters::test(&self.context, receiver, &secret, (&told.0, told.1, text.as_str()));
        for (place, letter) in letters.into_iter().enumerate() {
            if place > 0 {
                sleep(Duration::from_millis(courier::pace_ms(&receiver.channel))).await;
            }
            match letter.post(&self.post, &secret).await {
                Answer::Taken => {}
                other => return other,
            }
        }
        Answer::Taken
    }

    /// Receivers that are not told, and why: of a secret that cannot be used as it is now, of others as of
    /// the last attempt.
    ///
    /// # Errors
    ///
    /// [`RefusedKind::Busy`]: the database does not work.
    pub(crate) async fn troubles(&self) -> Result<BTreeMap<Name, String>, Refused> {
        let tallies = self.store.receivers().await;
        let tallies = tallies.map_err(|error| out_of_order("read the receivers", &error))?;
        let failing = tallies.into_iter().filter_map(|tally| Some((tally.name, tally.fault?)));
        let mut troubles: BTreeMap<_, _> = failing.collect();
        troubles.extend(self.secret_faults().await);
        Ok(troubles)
    }

    /// What a checkup finds of those whose newest notification did not arrive.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn findings(&self) -> Result<Vec<Finding>, StoreError> {
        let tallies = self.store.receivers().await?;
        Ok(tallies.iter().filter_map(failing).collect())
    }
}

/// Runs a courier until it ends, and another one `after` one that failed: that keeps nobody from being told.
async fn begun_anew<F>(name: &Name, run: impl Fn() -> F, after: Duration, stop: CancellationToken)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // Dropped with this, if that is.
        let mut courier = JoinSet::new();
        courier.spawn(run());
        let Some(Err(error)) = courier.join_next().await else { return };
        error!(receiver = %name, %error, "a courier failed; another one takes over");
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(after) => {}
        }
    }
}

fn report(receiver: &Receiver, tally: Option<&Tally>) -> ReceiverReport {
    let filter = &receiver.filter;
    ReceiverReport {
        name: receiver.name.clone(),
        kind: receiver.channel.kind().to_owned(),
        to: receiver.channel.shown(),
        events: filter.kinds.iter().map(ToString::to_string).collect(),
        services: filter.services.iter().cloned().collect(),
        envs: filter.envs.iter().cloned().collect(),
        waiting: tally.map_or(0, |tally| tally.waiting),
        delivered: tally.map_or(0, |tally| tally.delivered),
        dropped: tally.map_or(0, |tally| tally.dropped),
        last: tally.and_then(|tally| tally.last),
        fault: tally.and_then(|tally| tally.fault.clone()),
        next_try: tally.and_then(|tally| tally.next_try),
    }
}

fn failing(tally: &Tally) -> Option<Finding> {
    let (fault, name) = (tally.fault.as_ref()?, &tally.name);
    let (waiting, dropped) = (tally.waiting, tally.dropped);
    Some(Finding::doubt(
        Topic::Answer,
        format!("receiver {name} is not told ({waiting} wait, {dropped} dropped so far): {fault}"),
        format!("mend it, or its part of coordinator.toml; `swell notify test {name}` tries it"),
    ))
}

/// The secrets of receivers that cannot be used. Blocks on the disk.
pub fn secret_findings(receivers: &[Receiver]) -> Vec<Finding> {
    let faults = receivers.iter().filter_map(|one| Some((&one.name, one.channel.secret().err()?)));
    faults
        .map(|(name, fault)| match fault {
            SecretFault::File(error) => {
                let found = key_file(&error);
                Finding { what: format!("receiver {name}: {}", found.what), ..found }
            }
            SecretFault::Content { .. } => Finding::wrong(
                Topic::Keys,
                format!("receiver {name}: {fault}"),
                "put it there, alone in the file: it is read whenever something is sent",
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proto::UnixTime;
    use proto::id::Digest;

    use super::*;
    use crate::events::{Kind, Numbered};

    pub(super) fn context(dashboard: Option<&str>) -> Context {
        let fleet = "shop-0123abcd".parse().unwrap();
        Context { fleet, dashboard: dashboard.map(str::to_owned) }
    }

    /// Of a rollout of `web` in `production`.
    pub(super) fn event(kind: Kind, text: &str) -> Event {
        Event {
            at: UnixTime(1_700_000_000),
            kind,
            service: Some("web".parse().unwrap()),
            env: Some("production".parse().unwrap()),
            rollout: Some(Digest::of(b"rollout")),
            host: None,
            text: text.to_owned(),
            detail: serde_json::json!({ "hosts": 3 }),
        }
    }

    #[tokio::test]
    async fn a_courier_that_fails_is_begun_anew_until_it_is_to_stop() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let begun = Arc::new(AtomicUsize::new(0));
        let run = || {
            let begun = begun.clone();
            async move { assert!(begun.fetch_add(1, Ordering::Relaxed) >= 2, "it fails twice") }
        };
        let name = "bot".parse().unwrap();
        begun_anew(&name, run, Duration::ZERO, CancellationToken::new()).await;
        assert_eq!(begun.load(Ordering::Relaxed), 3);
        begun.store(0, Ordering::Relaxed);
        let stop = CancellationToken::new();
        stop.cancel();
        begun_anew(&name, run, AGAIN, stop).await;
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }

    pub(super) fn numbered(seq: u64, event: Event) -> Numbered {
        Numbered { seq, event }
    }
}
