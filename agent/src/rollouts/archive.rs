//! Keeps what there was to see of attempts that have ended ([`crate::evidence`]), one after the other and
//! off the way of the steps: a journal may take long to read, and no way back waits for that (R29).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use member::clock;
use proto::evidence::Evidence;
use proto::receipt::Receipt;
use proto::{Digest, Service};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time;
use tracing::warn;

use super::Context;
use crate::activate::{Activator, Attempt};
use crate::evidence::Drawer;
use crate::services::Words;

/// Attempts that wait until the one before them is kept. One that finds no place is kept when its end is
/// told again.
const WAITING_MAX: usize = 4;
/// From one look at what has been kept long enough to the next, where nothing is added.
const CLEARED_EVERY: Duration = Duration::from_secs(3_600);

/// The end of an attempt, as a receipt tells of it.
pub(super) struct Ended {
    pub(super) receipt: Receipt,
    /// Digest of the receipt's signed text.
    pub(super) told: Digest,
    /// The release that its rollout brings: an attempt at another one is of another rollout.
    pub(super) brings: Digest,
}

/// An attempt that has ended, as it was seen then.
pub(super) type Seen = (Ended, Attempt);

/// Where attempts of one service are kept.
#[derive(Clone)]
struct Archive {
    service: Service,
    activator: Arc<Activator>,
    drawer: Drawer,
    keep: Duration,
}

/// Keeps what is sent, until nobody is left who could send anything.
pub(super) fn start(
    context: &Context,
    service: &Service,
    activator: &Arc<Activator>,
) -> mpsc::Sender<Seen> {
    let archive = Archive {
        service: service.clone(),
        activator: activator.clone(),
        drawer: Drawer::new(&context.home.evidence(), service),
        keep: context.config.keep_logs,
    };
    let (sender, seen) = mpsc::channel(WAITING_MAX);
    tokio::spawn(archive.run(seen));
    sender
}

impl Archive {
    async fn run(self, mut seen: mpsc::Receiver<Seen>) {
        let mut next = None;
        loop {
            let (archive, service) = (self.clone(), self.service.clone());
            match spawn_blocking(move || archive.keep(next)).await.map_err(anyhow::Error::from) {
                Ok(Ok(())) => {}
                Ok(Err(error)) | Err(error) => {
                    let error = format!("{error:#}");
                    warn!(%service, error, "what was seen of an attempt is not kept as it should be");
                }
            }
            next = match time::timeout(CLEARED_EVERY, seen.recv()).await {
                Ok(None) => return,
                Ok(more) => more,
                Err(_) => None,
            };
        }
    }

    /// Keeps an attempt once. Then, or where there is none, clears away what has been kept long enough.
    fn keep(&self, seen: Option<Seen>) -> Result<()> {
        if let Some((ended, attempt)) = seen {
            if self.drawer.holds(attempt.number) {
                return Ok(());
            }
            let words = self.activator.words(&attempt);
            self.drawer.keep(evidence(self.service.clone(), ended, attempt, words))?;
        }
        let directory = self.drawer.path();
        self.drawer
            .clear(clock::now().unix, self.keep)
            .with_context(|| format!("cannot clear {}", directory.display()))
    }
}

fn evidence(service: Service, ended: Ended, attempt: Attempt, words: Words) -> Evidence {
    let Receipt { rollout, state, cause, note, .. } = ended.receipt;
    let Attempt { number, release, samples, .. } = attempt;
    let Words { log, journal } = words;
    Evidence {
        service,
        attempt: number,
        receipt: ended.told,
        rollout,
        release: release.id,
        version: release.release.version,
        state,
        cause,
        note,
        kept: clock::now().unix,
        samples,
        log,
        journal,
    }
}
