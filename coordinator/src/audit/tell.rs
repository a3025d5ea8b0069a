//! Telling the fleet where the record ends, and reading all of it once after the start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use member::chain;
use net::NetError;
use proto::audit::{Head, Origin, Told};
use proto::record::{self, AuditRecord};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Verified, learn};
use crate::desk::Desk;
use crate::store::StoreError;

/// Between two looks whether the record has grown.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Verifies the record, tells of its head and records what comes by the swarm, until `stop`.
pub(crate) async fn keep(desk: Arc<Desk>, stop: CancellationToken) -> Result<(), NetError> {
    tokio::join!(
        async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = verify(&desk) => {}
            }
        },
        tell(&desk, &stop),
        learn::follow(&desk, &stop),
    );
    Ok(())
}

/// A record that was tampered with is no reason to leave the fleet without a coordinator, and one to
/// say so at every start. A long one takes its time, and nobody waits for it.
async fn verify(desk: &Desk) {
    let begun = Instant::now();
    let verified = match desk.store.audit_verify().await {
        Ok(head) => {
            let took_ms = begun.elapsed().as_millis();
            info!(entries = head.length, head = %head.hash, took_ms, "audit record verified");
            Verified::Sound(head)
        }
        Err(error) => {
            error!(error = chain(&error), "THE AUDIT RECORD DOES NOT VERIFY");
            Verified::Broken(chain(&error))
        }
    };
    desk.record.send_modify(|known| known.verified = verified);
}

async fn tell(desk: &Desk, stop: &CancellationToken) {
    let (mut told, mut failing) = (None, false);
    loop {
        match look(desk, told).await {
            Ok(now) => {
                failing = false;
                if now != told {
                    say(desk, now);
                    told = now;
                }
            }
            Err(error) if !failing => {
                failing = true;
                warn!(error = chain(&error), "the fleet is not told where the audit record ends");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

/// Where the record ends now; `before`: at the last look.
async fn look(desk: &Desk, before: Option<Told>) -> Result<Option<Told>, StoreError> {
    let head = desk.store.audit_head().await?;
    if head == Head::EMPTY {
        return Ok(None);
    }
    let origin = match before {
        Some(Told { origin, .. }) => Some(origin),
        None => desk.store.audit_after(0, 1).await?.first().map(Origin::of),
    };
    Ok(origin.map(|origin| Told { origin, head }))
}

fn say(desk: &Desk, told: Option<Told>) {
    let word = record::to_text(&AuditRecord { told, rift: None });
    if let Err(error) = desk.member.gossip.set(record::AUDIT, &word) {
        error!(%error, "the fleet is not told where the audit record ends");
    }
    desk.record.send_modify(|known| known.told = told);
}
