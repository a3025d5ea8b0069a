//! What the pages show, looked up once for all who look: a report on 2,000 hosts takes a moment of a
//! core, and fifty people may have the page open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use member::View;
use proto::Digest;
use proto::report::{FleetReport, RolloutReport};
use proto::wire::{ControlReply, ControlRequest, Refused, RefusedKind, RolloutQuery};
use rollout::fleet::Outlook;
use tokio::sync::{Mutex, Semaphore};

use crate::desk::{blocking, out_of_order};

/// How old a report may be that is shown.
const FRESH: Duration = Duration::from_millis(700);
/// Looks for pages and scripts under way, those among them for which nobody waits any more: each keeps the
/// coordinator's own from looking, which its watchdog waits for.
const LOOKS_MAX: usize = 2;

/// Gives reports. Cheap to clone; all clones share what was looked up.
#[derive(Clone)]
pub(super) struct Sight {
    view: View,
    looks: Arc<Semaphore>,
    last: Arc<Mutex<Option<Looked>>>,
}

/// What was seen when.
type Looked = (Instant, Arc<FleetReport>);

impl Sight {
    pub(super) fn new(view: View) -> Self {
        Self { view, looks: Arc::new(Semaphore::new(LOOKS_MAX)), last: Arc::default() }
    }

    /// The fleet as the coordinator sees it, at most [`FRESH`] old.
    ///
    /// # Errors
    ///
    /// [`Refused`]: looking failed; the log says why.
    pub(super) async fn fleet(&self) -> Result<Arc<FleetReport>, Refused> {
        // Whoever comes while one looks waits for what that one finds.
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(report.clone());
        }
        let ControlReply::Fleet(report) = self.answer(ControlRequest::Fleet).await? else {
            return Err(not_understood());
        };
        let report = Arc::new(*report);
        *last = Some((Instant::now(), report.clone()));
        Ok(report)
    }

    /// Has the next one look anew, since something was done.
    pub(super) async fn forget(&self) {
        *self.last.lock().await = None;
    }

    /// Any other answer to a request that only reads.
    ///
    /// # Errors
    ///
    /// [`Refused`]: there is no such thing, or looking failed.
    pub(super) async fn answer(&self, request: ControlRequest) -> Result<ControlReply, Refused> {
        match self.look(move |outlook| outlook.answer(&request)).await? {
            Some(ControlReply::Refused(refused)) => Err(refused),
            Some(reply) => Ok(reply),
            None => Err(not_understood()),
        }
    }

    /// A rollout by the start of its id. One that is shown to others is not looked at anew.
    ///
    /// # Errors
    ///
    /// [`Refused`]: there is none, or several begin so; or looking failed.
    pub(super) async fn rollout(&self, id: &str) -> Result<RolloutReport, Refused> {
        let fleet = self.fleet().await?;
        let mut shown = fleet.rollouts.iter().chain(&fleet.pending);
        if let Some(report) = shown.find(|one| format!("{:#}", one.id) == id) {
            return Ok(report.clone());
        }
        match self.answer(ControlRequest::Rollout(RolloutQuery::Id(id.to_owned()))).await? {
            ControlReply::Rollout(report) => Ok(*report),
            _ => Err(not_understood()),
        }
    }

    /// Several rollouts, without their hosts, in one look; what is not known is left out.
    ///
    /// # Errors
    ///
    /// [`Refused`]: looking failed; the log says why.
    pub(super) async fn rollouts(&self, ids: Vec<Digest>) -> Result<Vec<RolloutReport>, Refused> {
        self.look(move |outlook| {
            let reports = ids.iter().filter_map(|id| outlook.rollout_report(id));
            reports.map(|report| RolloutReport { hosts: Vec::new(), ..report }).collect()
        })
        .await
    }

    async fn look<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Outlook<'_>) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let turn = self.looks.clone().acquire_owned().await;
        let turn = turn.map_err(|error| out_of_order("look at the fleet", &error))?;
        let view = self.view.clone();
        blocking("look at the fleet", move || {
            let seen = view.see(ask);
            drop(turn);
            seen
        })
        .await
    }
}

pub(super) fn not_understood() -> Refused {
    Refused {
        kind: RefusedKind::Invalid,
        reason: "the coordinator gave itself another answer than it asked for".to_owned(),
        next: "this is a fault of the program".to_owned(),
    }
}
