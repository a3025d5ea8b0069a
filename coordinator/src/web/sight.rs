//! What the pages show, looked up once for all who look: a report on 2,000 hosts takes a moment of a
//! core, and fifty people may have the page open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use member::View;
use proto::report::FleetReport;
use proto::wire::{ControlReply, ControlRequest, Refused, RefusedKind};
use tokio::sync::Mutex;

use crate::desk::blocking;

/// How old a report may be that is shown.
const FRESH: Duration = Duration::from_millis(700);

/// Gives reports. Cheap to clone; all clones share what was looked up.
#[derive(Clone)]
pub(super) struct Sight {
    view: View,
    last: Arc<Mutex<Option<Looked>>>,
}

/// What was seen when.
type Looked = (Instant, Arc<FleetReport>);

impl Sight {
    pub(super) fn new(view: View) -> Self {
        Self { view, last: Arc::default() }
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
        let view = self.view.clone();
        let reply = blocking("look at the fleet", move || view.answer(&request)).await?;
        match reply {
            Some(ControlReply::Refused(refused)) => Err(refused),
            Some(reply) => Ok(reply),
            None => Err(not_understood()),
        }
    }
}

pub(super) fn not_understood() -> Refused {
    Refused {
        kind: RefusedKind::Invalid,
        reason: "the coordinator gave itself another answer than it asked for".to_owned(),
        next: "this is a fault of the program".to_owned(),
    }
}
