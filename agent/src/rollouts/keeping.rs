//! Looks now and then whether the releases that are kept, and do not run, are still whole: the way back is
//! one of them, and it must not be found out at night that a disk has lost a part of it.
//!
//! What runs is shown and left alone (`drift`, R25); the others are the agent's own, and nobody else has any
//! business there. One that is damaged is unpacked anew, beside itself: from its artifact in this host's store,
//! or from peers where that is not whole either. It is put in place in turn with the steps of the service; one
//! at a time, so that there is never more than that moment before a way back (R29).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use proto::{Digest, Service};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time;
use tracing::{info, warn};

use super::Context;
use super::bring::{get, read_piece};
use super::clearing::{Pinned, read};
use super::drift::{BYTES_PER_LOOK, unfelt};
use super::steps::Job;
use crate::activate::{Activator, CollectError, Drifted, Outlook, Renewed, renew};

/// From the start of the agent to the first look at all of them.
const FIRST: Duration = Duration::from_secs(60);
/// From one to the next. A release of 1 GiB is read in four, and
/// what can be told without reading is told by each.
const EVERY: Duration = Duration::from_secs(1_800);
/// How long its artifact is sought before the next look.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is known of each from one look to the next.
type Known = BTreeMap<Digest, Outlook>;

/// The task of one service. Ends with its steps.
pub(super) struct Keeper {
    pub(super) context: Context,
    pub(super) service: Service,
    pub(super) activator: Arc<Activator>,
    pub(super) pinned: Pinned,
    pub(super) jobs: mpsc::WeakSender<Job>,
}

impl Keeper {
    pub(super) async fn run(self) {
        let mut known = Known::new();
        let mut pause = FIRST;
        loop {
            time::sleep(std::mem::replace(&mut pause, EVERY)).await;
            if self.jobs.upgrade().is_none() {
                return;
            }
            let (activator, pinned) = (self.activator.clone(), self.pinned.clone());
            let keep = self.context.config.keep_releases;
            let look = move || {
                let kept = || activator.kept(read(&pinned), keep);
                let found = kept().and_then(|all| {
                    let found = look(&activator, &all, &mut known);
                    // It took its time: some may run by now, or be gone.
                    let still = kept()?;
                    Ok(found.into_iter().filter(|(id, _)| still.contains(id)).collect())
                });
                (found, known)
            };
            let found = match spawn_blocking(look).await {
                Ok((found, after)) => {
                    known = after;
                    found
                }
                Err(error) => {
                    warn!(service = %self.service, %error, "looking at what is kept failed");
                    known = Known::new();
                    continue;
                }
            };
            self.mend(found).await;
        }
    }

    async fn mend(&self, found: Result<Vec<(Digest, Drifted)>, CollectError>) {
        let service = &self.service;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                return warn!(%service, %error, "cannot look whether what is kept is whole");
            }
        };
        for (release, Drifted { found, first }) in found {
            warn!(
                %service, %release, found, first,
                "a release that is kept is damaged on this disk: it is staged anew"
            );
            match self.mend_one(release).await {
                Ok(true) => info!(%service, %release, "a release that was damaged is whole again"),
                Ok(false) => info!(%service, %release, "it runs by now, or is not kept any more"),
                Err(error) => warn!(
                    %service, %release, error = format!("{error:#}"),
                    "a release that is kept is damaged and cannot be staged anew: later"
                ),
            }
        }
    }

    /// Whether it is whole again; if not it is not one of those that are kept.
    async fn mend_one(&self, release: Digest) -> Result<bool> {
        let fetched = time::timeout(PATIENCE, get(&self.context, &self.activator, release));
        fetched.await.context("nobody gives what it is made of")??;
        let renewed = self.unpack(release).await?;
        let (done, swapped) = oneshot::channel();
        {
            let jobs = self.jobs.upgrade().context("the agent is stopping")?;
            jobs.send(Job::Mend { renewed: Box::new(renewed), done }).await?;
        }
        let swapped = swapped.await.context("the agent is stopping")?;
        let activator = self.activator.clone();
        // At the usual priority: whatever is to be staged waits for it.
        if let Err(error) = spawn_blocking(move || activator.clear_after(&release)).await? {
            warn!(service = %self.service, %release, %error, "what was damaged is removed later");
        }
        swapped
    }

    /// From pieces that are here.
    async fn unpack(&self, id: Digest) -> Result<Renewed> {
        let chain = self.context.ledger.chain();
        let release = chain.release(&id).context("its release statement is not here yet")?.clone();
        let (paths, store) = (self.activator.paths().clone(), self.context.swarm.store().clone());
        let unpack = move || {
            let artifact = &release.artifact.id;
            let manifest = store.blob(artifact)?.context("its manifest is not here")?;
            let mut piece = |index| read_piece(&store, artifact, index);
            Ok(renew(&paths, &id, &release, manifest, &mut piece)?)
        };
        spawn_blocking(move || unfelt(|_| unpack())).await?
    }
}

/// Looks at each once, slowly. What is known of those that are not kept any more is forgotten.
fn look(activator: &Activator, kept: &[Digest], known: &mut Known) -> Vec<(Digest, Drifted)> {
    known.retain(|id, _| kept.contains(id));
    unfelt(|pace| {
        let mut found = Vec::new();
        for id in kept {
            let outlook = known.entry(*id).or_default();
            let mut wait = |bytes| {
                pace.wait(bytes);
                true
            };
            if let Ok(Some(damage)) = activator.damage(id, outlook, BYTES_PER_LOOK, &mut wait) {
                found.push((*id, damage));
            }
        }
        found
    })
}
