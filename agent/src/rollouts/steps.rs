//! The steps of one service: fetch and stage, activate, go back, commit, clear away.
//!
//! Activations and ways back run one at a time, in the order asked, on a blocking thread; each ends
//! with an answer. A step asked for again after a restart is answered from the journal.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use proto::receipt::Cause;
use proto::{Digest, Service};
use rollout::host::Input;
use swarm::{Swarm, Trouble};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, spawn_blocking};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info, warn};

use super::archive::{self, Ended, Seen};
use super::bring::bring;
use super::clearing::{Cleared, Holder, Pinned, forget_artifacts, read};
use super::keeping::Keeper;
use super::{Answer, Context, answer};
use crate::activate::{Activator, CommitError, Outcome, Paths, Pins, Renewed};
use crate::services::Way;

/// How long to wait for a guard before that is said, again and again.
const GUARD_PATIENCE: Duration = Duration::from_secs(10);
/// Steps waiting for their turn: the core asks for one at a time.
const JOBS_MAX: usize = 8;

/// What is done one at a time.
pub(super) enum Job {
    /// And what ends the watch over its health.
    Activate(Activation, CancellationToken),
    Revert {
        attempt: u64,
        to: Option<Digest>,
    },
    AfterCommit,
    Keep(Box<Ended>),
    /// Puts a release that was unpacked anew in the place of a damaged one that is kept and does not run.
    Mend {
        renewed: Box<Renewed>,
        /// Told whether it is needed and still does not run.
        done: oneshot::Sender<Result<bool>>,
    },
    Collect {
        /// Who asked for it.
        done: Option<oneshot::Sender<Cleared>>,
    },
}

/// What is brought, and how.
#[derive(Clone, Copy)]
pub(super) struct Activation {
    pub(super) attempt: u64,
    pub(super) from: Option<Digest>,
    pub(super) to: Digest,
    pub(super) way: Way,
    /// It runs here already, brought by somebody else.
    pub(super) adopt: bool,
}

/// A release on its way.
struct Fetching {
    release: Digest,
    task: AbortHandle,
    /// Whoever asked knows; what is still done is for others.
    answered: Arc<AtomicBool>,
}

pub(super) struct Steps {
    context: Context,
    service: Service,
    activator: Arc<Activator>,
    jobs: mpsc::Sender<Job>,
    answers: mpsc::Sender<Answer>,
    pinned: Pinned,
    fetching: Option<Fetching>,
    /// Ends the watch over the release that bakes.
    watch: Option<DropGuard>,
}

impl Steps {
    /// Finishes what a kill or a power cut interrupted, then takes steps.
    pub(super) async fn start(
        context: Context,
        service: Service,
        answers: mpsc::Sender<Answer>,
    ) -> Result<Self> {
        let activator = Arc::new(Activator::new(
            context.disk.clone(),
            context.services.clone(),
            Paths::new(&context.config.service_root, &service),
            &context.home.services(),
            context.boot.clone(),
        ));
        let recovering = activator.clone();
        let recovered = spawn_blocking(move || {
            take_over(&recovering);
            recovering.recover()
        });
        let standing = recovered.await?.context("cannot recover the last activation")?;
        if let Some(standing) = standing {
            info!(%service, to = %standing.to, phase = ?standing.phase, "recovered");
            if let Some(why) = standing.down {
                error!(%service, %why, "the service does not run");
            }
        }
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let pinned = Pinned::default();
        let holder =
            Holder { activator: activator.clone(), pinned: pinned.clone(), jobs: jobs.downgrade() };
        context.storage.add(&service, holder);
        let keeper = Keeper {
            context: context.clone(),
            service: service.clone(),
            activator: activator.clone(),
            pinned: pinned.clone(),
            jobs: jobs.downgrade(),
        };
        tokio::spawn(keeper.run());
        let worker = Worker {
            context: context.clone(),
            service: service.clone(),
            activator: activator.clone(),
            answers: answers.clone(),
            pinned: pinned.clone(),
            archive: archive::start(&context, &service, &activator),
            trouble: None,
        };
        tokio::spawn(worker.run(queue));
        let (fetching, watch) = (None, None);
        Ok(Self { context, service, activator, jobs, answers, pinned, fetching, watch })
    }

    /// What serves, as far as steps have brought it.
    pub(super) fn activator(&self) -> &Arc<Activator> {
        &self.activator
    }

    /// What must stay on disk from now on. To be said before a release is asked for.
    pub(super) fn pin(&self, pinned: Pins) {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = pinned;
    }

    /// Brings a release onto the disk; asked again for the same one, it goes on.
    pub(super) fn fetch(&mut self, release: Digest) {
        if let Some(before) = &self.fetching
            && !before.task.is_finished()
        {
            if before.release == release && !before.answered.load(Ordering::Relaxed) {
                return;
            }
            before.task.abort();
        }
        let (context, answers) = (self.context.clone(), self.answers.clone());
        let (service, activator) = (self.service.clone(), self.activator.clone());
        let answered = Arc::new(AtomicBool::new(false));
        let done = answered.clone();
        let task = tokio::spawn(async move {
            let brought = bring(&context, &activator, release).await;
            let input = match &brought {
                Ok(_) => Input::Fetched { release },
                Err(error) => {
                    warn!(
                        %service, %release, error = format!("{error:#}"),
                        "a release is not on disk"
                    );
                    Input::FetchFailed { release, note: short(error) }
                }
            };
            done.store(true, Ordering::Relaxed);
            answer(&answers, &service, input).await;
            if let Ok(Some(brought)) = brought {
                brought.fill_store(&context, &activator).await;
            }
        });
        self.fetching = Some(Fetching { release, task: task.abort_handle(), answered });
    }

    pub(super) async fn activate(&mut self, activation: Activation) {
        let watch = CancellationToken::new();
        self.watch = Some(watch.clone().drop_guard());
        self.queue(Job::Activate(activation, watch)).await;
    }

    pub(super) async fn revert(&mut self, attempt: u64, to: Option<Digest>) {
        self.watch = None;
        self.queue(Job::Revert { attempt, to }).await;
    }

    /// Ends the bake in the journal, durably.
    ///
    /// # Errors
    ///
    /// The journal cannot be written: nothing may say yet that the release is committed.
    pub(super) async fn commit(&mut self, attempt: u64) -> Result<()> {
        self.watch = None;
        let activator = self.activator.clone();
        match spawn_blocking(move || activator.commit(attempt)).await? {
            // Trying again would not help: the journal knows of another end.
            Err(error @ CommitError::NotBaking { .. }) => {
                error!(service = %self.service, %error, "not committed in the journal");
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(()) => {
                self.queue(Job::AfterCommit).await;
                Ok(())
            }
        }
    }

    /// Clears releases away that nothing needs, behind all other steps; not at all where many of
    /// those wait already.
    pub(super) fn collect(&self) {
        if self.jobs.capacity() > JOBS_MAX / 2 {
            // Full or ended since: it is done after the next rollout.
            let _ = self.jobs.try_send(Job::Collect { done: None });
        }
    }

    /// Keeps what there is to see of the attempt that has ended, behind all other steps, so that what is to
    /// be done after a commit is in it; not at all where many of those wait already: its end is told again.
    pub(super) fn keep_evidence(&self, ended: Ended) {
        if self.jobs.capacity() > JOBS_MAX / 2 {
            let _ = self.jobs.try_send(Job::Keep(Box::new(ended)));
        }
    }

    async fn queue(&self, job: Job) {
        if self.jobs.send(job).await.is_err() {
            error!(service = %self.service, "the steps of this service have ended");
        }
    }
}

/// Waits for a guard that is moving the service to be done with it: for as long as that takes, which
/// is what the commands and the check of a release may take.
fn take_over(activator: &Activator) {
    let service = activator.paths().service();
    loop {
        match activator.hold(GUARD_PATIENCE) {
            Ok(true) => return,
            Ok(false) => info!(%service, "another process moves it, its guard or an older agent"),
            // A full disk, say: what was under way has to be brought to an end all the same.
            Err(error) => {
                return warn!(%service, %error, "going on without the lease of the service");
            }
        }
    }
}

/// For a note, which is short: what is wrong in the end says more than where.
fn short(error: &anyhow::Error) -> String {
    let (root, top) = (error.root_cause().to_string(), error.to_string());
    if root == top { root } else { format!("{root}: {top}") }
}

/// Takes the steps of a service, one at a time.
struct Worker {
    context: Context,
    service: Service,
    activator: Arc<Activator>,
    answers: mpsc::Sender<Answer>,
    pinned: Pinned,
    archive: mpsc::Sender<Seen>,
    /// A step is under way, or the service is down: this host gives little to others meanwhile (R29).
    trouble: Option<Trouble>,
}

impl Worker {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.recv().await {
            match job {
                Job::Activate(activation, watch) => self.activate(activation, watch).await,
                Job::Revert { attempt, to } => self.revert(attempt, to).await,
                Job::AfterCommit => self.after_commit().await,
                Job::Keep(ended) => self.keep(*ended).await,
                Job::Mend { renewed, done } => {
                    // The keeper waits for it, for as long as there is one.
                    let _ = done.send(self.mend(*renewed).await);
                }
                Job::Collect { done } => self.collect(done).await,
            }
        }
    }

    async fn activate(&mut self, activation: Activation, watch: CancellationToken) {
        let attempt = activation.attempt;
        self.trouble.get_or_insert_with(|| self.context.swarm.trouble());
        let outcome = self.start(activation).await;
        let bakes = outcome == Outcome::Baking;
        if !matches!(outcome, Outcome::RevertFailed { .. }) {
            self.trouble = None;
        }
        let input = match outcome {
            Outcome::Baking => Input::Activated { attempt },
            Outcome::Reverted { cause, note } => {
                Input::ActivationFailed { attempt, reverted: true, cause, note }
            }
            Outcome::RevertFailed { cause, note } => {
                Input::ActivationFailed { attempt, reverted: false, cause, note }
            }
        };
        answer(&self.answers, &self.service, input).await;
        // Not before: a verdict on what is not known to serve would be passed over.
        if bakes {
            let (activator, swarm) = (self.activator.clone(), self.context.swarm.clone());
            let (service, answers) = (self.service.clone(), self.answers.clone());
            tokio::spawn(async move {
                let ailing = activator.ailing();
                tokio::select! {
                    () = watch_health(activator, service, attempt, answers, watch) => {}
                    never = ease(swarm, ailing) => match never {},
                }
            });
        }
    }

    async fn start(&self, activation: Activation) -> Outcome {
        let Activation { attempt, from, to, way, adopt } = activation;
        let activator = self.activator.clone();
        let started = spawn_blocking(move || match adopt {
            true => activator.adopt(attempt, to),
            false => activator.activate(attempt, from, to, way),
        });
        started.await.unwrap_or_else(|error| {
            let note = format!("the activation ended unexpectedly: {error}");
            Outcome::RevertFailed { cause: Cause::Host, note }
        })
    }

    async fn revert(&mut self, attempt: u64, to: Option<Digest>) {
        let activator = self.activator.clone();
        self.trouble.get_or_insert_with(|| self.context.swarm.trouble());
        let input = match spawn_blocking(move || activator.revert(attempt, to)).await {
            Ok(Ok(())) => {
                self.trouble = None;
                Input::Reverted { attempt }
            }
            Ok(Err(note)) => Input::RevertFailed { attempt, note },
            Err(error) => {
                let note = format!("the way back ended unexpectedly: {error}");
                Input::RevertFailed { attempt, note }
            }
        };
        answer(&self.answers, &self.service, input).await;
    }

    async fn after_commit(&self) {
        let activator = self.activator.clone();
        if let Err(error) = spawn_blocking(move || activator.after_commit()).await {
            error!(service = %self.service, %error, "what was to be done after the commit ended");
        }
    }

    /// In its turn, so that the next attempt is not taken for this one; its words are read later.
    async fn keep(&self, ended: Ended) {
        let (activator, brings) = (self.activator.clone(), ended.brings);
        match spawn_blocking(move || activator.last_attempt(&brings)).await {
            // Where there is no place it is kept when its end is told again.
            Ok(Some(attempt)) => drop(self.archive.try_send((ended, attempt))),
            Ok(None) => {}
            Err(error) => {
                warn!(service = %self.service, %error, "an attempt could not be looked at");
            }
        }
    }

    /// In its turn, so that no step meets it half-way; and soon done, since what waits behind it may be a way
    /// back (R29).
    async fn mend(&self, renewed: Renewed) -> Result<bool> {
        let (activator, pinned) = (self.activator.clone(), read(&self.pinned));
        let keep = self.context.config.keep_releases;
        let swapped = spawn_blocking(move || {
            let kept = activator.kept(pinned, keep)?.contains(renewed.id());
            if kept {
                activator.swap_in(&renewed)?;
            }
            Ok(kept)
        });
        swapped.await?
    }

    async fn collect(&self, done: Option<oneshot::Sender<Cleared>>) {
        let (activator, pinned) = (self.activator.clone(), self.pinned.clone());
        let keep = self.context.config.keep_releases;
        let collected = move || activator.collect_garbage(|| read(&pinned), keep);
        let cleared = match spawn_blocking(collected).await {
            Ok(Ok(fates)) => {
                let ledger = &self.context.ledger;
                forget_artifacts(ledger, &self.service, &fates, &self.pinned).await;
                Ok(fates)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &cleared {
            warn!(service = %self.service, %error, "old releases are not cleared away");
        }
        // Nobody asked, or whoever did waits no more.
        let _ = done.map(|done| done.send(cleared));
    }
}

/// Gives little to others while checks have bad answers (R29).
async fn ease(swarm: Swarm, mut ailing: watch::Receiver<usize>) -> Infallible {
    while ailing.wait_for(|ailing| *ailing > 0).await.is_ok() {
        let _trouble = swarm.trouble();
        if ailing.wait_for(|ailing| *ailing == 0).await.is_err() {
            break;
        }
    }
    // The agent ends.
    std::future::pending().await
}

/// Watches what bakes until it fails, or until `stop`.
async fn watch_health(
    activator: Arc<Activator>,
    service: Service,
    attempt: u64,
    answers: mpsc::Sender<Answer>,
    stop: CancellationToken,
) {
    let watch = spawn_blocking(move || activator.watch(stop));
    let note = match watch.await.map_err(anyhow::Error::from).and_then(|watch| watch) {
        Ok(watch) => watch.await,
        Err(error) => Some(format!("cannot watch its health: {error:#}")),
    };
    if let Some(note) = note {
        answer(&answers, &service, Input::Unhealthy { attempt, note }).await;
    }
}
