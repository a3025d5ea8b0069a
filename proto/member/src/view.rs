//! What a member sees of the fleet, for people: the same answers from the coordinator and any agent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::Member;
use proto::certificate::Certificate;
use proto::statement::Statement;
use proto::wire::{ControlReply, ControlRequest};
use proto::{Digest, HostId, Name};
use rollout::fleet::{Observer, Outlook, Pending, Seen};
use swarm::Ledger;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{Beat, clock};

/// How often a member looks around where nothing changes: silence must be told from not listening.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What one member sees. Cheap to clone; all clones are one view.
#[derive(Clone)]
pub struct View {
    ledger: Ledger,
    members: watch::Receiver<Arc<Vec<Member>>>,
    observer: Arc<Mutex<Observer>>,
    seen_by: Name,
}

impl View {
    /// Of a member with this name.
    pub fn new(ledger: Ledger, members: watch::Receiver<Arc<Vec<Member>>>, seen_by: Name) -> Self {
        Self { ledger, members, observer: Arc::default(), seen_by }
    }

    /// Answers a request that only reads; none for any other. Blocks on the disk.
    pub fn answer(&self, request: &ControlRequest) -> Option<ControlReply> {
        let mut observer = self.observer();
        let members = self.look(&mut observer);
        let chain = self.ledger.chain();
        let hosts = self.ledger.hosts();
        let pending: Vec<_> = self.ledger.pending().into_iter().filter_map(as_pending).collect();
        let statement = |id: &Digest| {
            self.ledger.statement(id).unwrap_or_else(|error| {
                warn!(statement = %id, %error, "cannot read a statement");
                None
            })
        };
        let host_statement = |id: &HostId| self.ledger.host_envelope(id);
        let outlook = Outlook {
            seen_by: &self.seen_by,
            now: clock::now(),
            chain: &chain,
            observer: &observer,
            members: &members,
            hosts: &hosts,
            pending: &pending,
            statement: &statement,
            host_statement: &host_statement,
        };
        outlook.answer(request)
    }

    /// Follows gossip and ledger until `stop`, so that the view knows who has been silent for long.
    /// Turns every `LOOK_EVERY` at least.
    pub async fn follow(self, beat: Beat, stop: CancellationToken) {
        let (mut statements, mut members) = (self.ledger.events(), self.members.clone());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                Ok(()) = statements.changed() => {}
                Ok(()) = members.changed() => {}
            }
            let view = self.clone();
            let look = move || drop(view.look(&mut view.observer()));
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                warn!(%error, "looking around failed");
            }
            beat.turn();
        }
    }

    /// Takes in what gossip and the ledger say now.
    fn look(&self, observer: &mut Observer) -> BTreeMap<HostId, Seen> {
        let members = self.members.borrow().clone();
        let members = members.iter().map(|one| (one.host.clone(), as_seen(one))).collect();
        let (chain, now_ms) = (self.ledger.chain(), clock::boot_ms());
        observer.observe(now_ms, &chain, &members);
        for (rollout, claim) in observer.unproven(&chain) {
            let Some(id) = self.ledger.certificate(&rollout, claim) else { continue };
            match self.ledger.store().blob(&id) {
                Ok(Some(bytes)) => {
                    // Verified when it came in, and its digest again now.
                    if let Ok(certificate) = Certificate::parse(&bytes) {
                        observer.certify(now_ms, &chain, &certificate);
                        if let Some(at) = self.ledger.store().blob_since(&id) {
                            observer.note_proof(rollout, claim, at);
                        }
                    }
                }
                Ok(None) => {}
                Err(error) => warn!(certificate = %id, %error, "cannot read a certificate"),
            }
        }
        members
    }

    fn observer(&self) -> MutexGuard<'_, Observer> {
        // What it holds is read anew from gossip: a panic elsewhere leaves nothing half done.
        self.observer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn as_seen(member: &Member) -> Seen {
    let (address, values) = (member.address.to_string(), member.values.clone());
    Seen { address, alive: member.alive, twin: member.twin.map(|home| home.to_string()), values }
}

fn as_pending(held: swarm::ledger::Pending) -> Option<Pending> {
    let Statement::Rollout(rollout) = held.statement else { return None };
    Some(Pending { id: held.id, rollout, missing: held.missing })
}
