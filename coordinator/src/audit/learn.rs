//! What came by the swarm and has no entry: people hand statements to hosts while the coordinator is
//! away, and a database that was put back from a backup has never heard of some.
//!
//! A statement is looked at when it has an effect here, and all of them after a start. It is recorded if
//! somebody signed it whom no entry about it names; the entry is what is looked for the next time, so a
//! crash in between leaves nothing out and nothing twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use member::clock;
use proto::audit::Entry;
use proto::dsse::Envelope;
use proto::id::{Digest, KeyId};
use proto::statement::{ENVELOPE_BYTES_MAX, Statement};
use proto::wire::{Part, Refused};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{act_of, subject_of};
use crate::desk::{Desk, blocking, out_of_order};

/// The action of such entries.
pub(super) const LEARNED: &str = "learned";
/// Statements that are read at a time, and recorded in one transaction at most.
const AT_ONCE: usize = 64;
/// Until it is tried again, where the database or the disk failed.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Records what comes by the swarm, until `stop`.
pub(super) async fn follow(desk: &Arc<Desk>, stop: &CancellationToken) {
    let mut events = desk.member.ledger.events();
    let mut seen = BTreeSet::new();
    loop {
        events.mark_unchanged();
        let all_done = match learn(desk, &mut seen).await {
            Ok(()) => true,
            Err(refused) => {
                warn!(reason = refused.reason, "what came by the swarm is not recorded yet");
                false
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = events.changed() => if changed.is_err() { return },
            () = sleep(AGAIN_AFTER), if !all_done => {}
        }
    }
}

/// Looks at the statements that are not among `seen`, and adds them to it.
async fn learn(desk: &Arc<Desk>, seen: &mut BTreeSet<Digest>) -> Result<(), Refused> {
    let ids = desk.member.ledger.ids(Part::Statements, None, usize::MAX);
    seen.retain(|id| ids.binary_search(id).is_ok());
    // The first root is what the fleet is: nobody brought it.
    let new: Vec<_> =
        ids.into_iter().filter(|id| !seen.contains(id) && *id != desk.genesis).collect();
    for some in new.chunks(AT_ONCE) {
        let (ledger, ids) = (desk.member.ledger.clone(), some.to_vec());
        let read = move || ids.iter().filter_map(|id| ledger.statement(id).transpose()).collect();
        let envelopes: Result<Vec<_>, _> = blocking("read statements", read).await?;
        let envelopes = envelopes.map_err(|error| out_of_order("read statements", &error))?;
        let mut acts = Vec::new();
        for envelope in &envelopes {
            let Ok(envelope) = Envelope::parse(envelope, ENVELOPE_BYTES_MAX) else { continue };
            let Ok(statement) = Statement::parse(&envelope) else { continue };
            if !is_recorded(desk, &envelope, &statement).await? {
                let root = desk.member.ledger.chain();
                let act = act_of(root.root(), &envelope, &statement, LEARNED, "the fleet");
                info!(subject = act.subject, signed = act.actor, "learned from the fleet");
                acts.push(act);
            }
        }
        let recorded = desk.store.record_all(acts, clock::unix()).await;
        recorded.map_err(|error| out_of_order("record what was learned", &error))?;
        seen.extend(some);
    }
    Ok(())
}

/// Whether entries name all who signed it.
async fn is_recorded(
    desk: &Desk,
    envelope: &Envelope,
    statement: &Statement,
) -> Result<bool, Refused> {
    let failed = |error: &dyn std::error::Error| out_of_order("read the audit record", error);
    // These two have entries of their own, by what they are and not by their digests.
    let own = match statement {
        Statement::Host(host) => desk.store.is_minted(&host.id, &envelope.id()).await,
        Statement::Release(release) => {
            let held = desk.store.release_of(&release.service, &release.version).await;
            held.map(|held| held == Some(envelope.id()))
        }
        _ => Ok(false),
    };
    if own.map_err(|error| failed(&error))? {
        return Ok(true);
    }
    let entries = desk.store.audit_about(&subject_of(envelope, statement)).await;
    let entries = entries.map_err(|error| failed(&error))?;
    Ok(names_all(&entries, envelope))
}

/// An entry that names no keys, from before they were recorded, stands for everybody.
fn names_all(entries: &[Entry], envelope: &Envelope) -> bool {
    let mut named = BTreeSet::<KeyId>::new();
    for entry in entries {
        let detail: serde_json::Value = serde_json::from_str(&entry.detail).unwrap_or_default();
        let Some(keys) = detail["keys"].as_array() else { return true };
        named.extend(keys.iter().filter_map(|key| key.as_str()?.parse().ok()));
    }
    envelope.signatures().keys().all(|key| named.contains(key))
}
