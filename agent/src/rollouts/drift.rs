//! Looks now and then whether what serves is still what was released, and says so (R25).
//!
//! The first look comes a minute after a release serves, the next ones every [`EVERY`]. A look lists
//! the tree and reads a part of it, slowly and on a thread of the lowest priority: it must not be
//! felt. It ends at once when a step begins. What it finds is told to the others until it is gone, and so
//! is which release it is that serves, at once.

use std::sync::Arc;
use std::time::Duration;

use net::Gossip;
use proto::receipt::note;
use proto::record::{DriftRecord, drift_key, to_text};
use proto::{Digest, Service};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use crate::activate::{Activator, Drifted, Outlook};

/// From when a release serves to the first look.
const FIRST: Duration = Duration::from_secs(60);
/// From one look to the next.
const EVERY: Duration = Duration::from_secs(600);
/// Read in one look: a release of 1 GiB is read in four.
pub(super) const BYTES_PER_LOOK: u64 = 256 << 20;
/// Read in a second at most.
const BYTES_PER_S: u64 = 4 << 20;
/// After how many bytes it is waited.
const BYTES_PER_PAUSE: usize = 256 << 10;

/// The task, for the loop that tells it what serves. Ends with it.
pub(super) struct Watching {
    serving: watch::Sender<Option<Digest>>,
}

impl Watching {
    pub(super) fn start(watcher: Watcher) -> Self {
        let (serving, told) = watch::channel(None);
        tokio::spawn(watcher.run(told));
        Self { serving }
    }

    /// None: nothing, or a step is under way.
    pub(super) fn say(&self, serving: Option<Digest>) {
        self.serving.send_if_modified(|held| std::mem::replace(held, serving) != serving);
    }
}

/// What the task works with.
pub(super) struct Watcher {
    pub(super) service: Service,
    pub(super) activator: Arc<Activator>,
    pub(super) gossip: Gossip,
    /// Where it is gossiped, as its receipts.
    pub(super) slot: usize,
}

impl Watcher {
    async fn run(self, mut told: watch::Receiver<Option<Digest>>) {
        let mut known = Outlook::default();
        let mut said: Option<DriftRecord> = None;
        let mut pause = FIRST;
        loop {
            tokio::select! {
                changed = told.changed() => match changed {
                    Ok(()) => {
                        pause = FIRST;
                        let serving = *told.borrow_and_update();
                        self.say(serves(&self.service, serving, said.as_ref()), &mut said);
                        continue;
                    }
                    Err(_) => return,
                },
                () = tokio::time::sleep(pause) => {}
            }
            let Some(release) = *told.borrow() else { continue };
            let activator = self.activator.clone();
            let still = told.clone();
            let look = move || {
                let looked = look(&activator, &release, &mut known, &still);
                (looked, known)
            };
            let looked = match spawn_blocking(look).await {
                Ok((looked, after)) => {
                    known = after;
                    looked
                }
                Err(error) => {
                    warn!(service = %self.service, %error, "looking for drift failed");
                    known = Outlook::default();
                    None
                }
            };
            pause = EVERY;
            if let Some(found) = looked {
                self.tell(release, found, &mut said);
            }
        }
    }

    /// Logged once, and again when it is another one or gone.
    fn tell(&self, release: Digest, found: Option<Drifted>, said: &mut Option<DriftRecord>) {
        let record = DriftRecord {
            service: self.service.clone(),
            release,
            serves: true,
            found: found.as_ref().map_or(0, |drift| drift.found),
            first: found.map(|drift| note(&drift.first)).unwrap_or_default(),
        };
        let before = said.as_ref().map_or(0, |said| said.found);
        let DriftRecord { service, release, found, first, .. } = &record;
        match found {
            _ if said.as_ref() == Some(&record) => {}
            0 if before > 0 => info!(%service, %release, "what serves is again what was released"),
            0 => {}
            _ => warn!(
                %service, %release, found, first,
                "what serves is not what was released any more: it is left as it is; the next \
                 release replaces it, or put it right by hand"
            ),
        }
        self.say(Some(record), said);
    }

    fn say(&self, record: Option<DriftRecord>, said: &mut Option<DriftRecord>) {
        let Some(record) = record.filter(|record| said.as_ref() != Some(record)) else { return };
        if let Err(error) = self.gossip.set(&drift_key(self.slot), &to_text(&record)) {
            error!(service = %self.service, %error, "what serves here is not gossiped");
        }
        *said = Some(record);
    }
}

/// What is to be said when this release serves, or none that no step is about to replace, after what was
/// `said` last; none: nothing. What was found of the same release stays true until the next look.
fn serves(
    service: &Service,
    serving: Option<Digest>,
    said: Option<&DriftRecord>,
) -> Option<DriftRecord> {
    let same = said.filter(|said| serving.is_none_or(|release| said.release == release)).cloned();
    let fresh = |release| DriftRecord {
        service: service.clone(),
        release,
        serves: true,
        found: 0,
        first: String::new(),
    };
    let record = same.or_else(|| serving.map(fresh))?;
    Some(DriftRecord { serves: serving.is_some(), ..record })
}

/// One look at what serves. None: given up.
fn look(
    activator: &Activator,
    release: &Digest,
    known: &mut Outlook,
    told: &watch::Receiver<Option<Digest>>,
) -> Option<Option<Drifted>> {
    let still = || told.has_changed().is_ok() && *told.borrow() == Some(*release);
    let found = unfelt(|pace| {
        activator.drift(release, known, BYTES_PER_LOOK, &mut |bytes| {
            pace.wait(bytes);
            still()
        })
    });
    // What was moved meanwhile by a step is no drift.
    found.ok().filter(|_| still())
}

/// Does it on a thread of its own of the lowest priority, which cannot be raised again.
pub(super) fn unfelt<T: Send>(look: impl FnOnce(&mut Pace) -> T + Send) -> T {
    std::thread::scope(|threads| {
        let looking = threads.spawn(|| {
            if let Err(error) = rustix::process::setpriority_process(None, 19) {
                warn!(%error, "looking at the usual priority");
            }
            look(&mut Pace::default())
        });
        looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Waits so that no more than [`BYTES_PER_S`] are read.
#[derive(Default)]
pub(super) struct Pace {
    unpaid_bytes: usize,
}

impl Pace {
    pub(super) fn wait(&mut self, bytes: usize) {
        self.unpaid_bytes += bytes;
        if self.unpaid_bytes >= BYTES_PER_PAUSE {
            let us = self.unpaid_bytes as u64 * 1_000_000 / BYTES_PER_S;
            self.unpaid_bytes = 0;
            std::thread::sleep(Duration::from_micros(us));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r25_what_serves_is_said_at_once_and_what_was_found_of_it_stays() {
        let service: Service = "web".parse().unwrap();
        let [one, two] = [b"one", b"two"].map(|bytes| Digest::of(bytes));
        assert_eq!(serves(&service, None, None), None, "nothing was ever known to serve");
        let said = serves(&service, Some(one), None).unwrap();
        assert_eq!((said.release, said.serves, said.found), (one, true, 0));
        let drifted = DriftRecord { found: 2, first: "bin/web: edited".to_owned(), ..said };
        let under_way = serves(&service, None, Some(&drifted)).unwrap();
        assert_eq!(under_way, DriftRecord { serves: false, ..drifted.clone() });
        assert_eq!(serves(&service, Some(one), Some(&under_way)), Some(drifted));
        let other = serves(&service, Some(two), Some(&under_way)).unwrap();
        assert_eq!((other.release, other.serves, other.found), (two, true, 0));
        assert_eq!(other.first, "");
    }
}
