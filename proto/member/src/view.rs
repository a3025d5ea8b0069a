//! What a member sees of the fleet, for people: the same answers from the coordinator and any agent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::Member;
use proto::certificate::Certificate;
use proto::record;
use proto::statement::Statement;
use proto::wire::{ControlReply, ControlRequest};
use proto::{Digest, HostId, Name};
use rollout::fleet::{Observer, Outlook, Pending, Seen};
use rollout::peers::{Others, Records};
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
    sight: Arc<Mutex<Sight>>,
    seen_by: Name,
}

/// What is kept from one look to the next.
#[derive(Default)]
struct Sight {
    observer: Observer,
    /// What the others say of themselves, their clocks with it.
    records: Records,
}

impl View {
    /// Of a member with this name.
    pub fn new(ledger: Ledger, members: watch::Receiver<Arc<Vec<Member>>>, seen_by: Name) -> Self {
        Self { ledger, members, sight: Arc::default(), seen_by }
    }

    /// Answers a request that only reads; none for any other. Blocks on the disk.
    pub fn answer(&self, request: &ControlRequest) -> Option<ControlReply> {
        self.see(|outlook| outlook.answer(request))
    }

    /// What `ask` makes of all that the member sees now: for several questions about one moment. Blocks on
    /// the disk, and all others that ask meanwhile.
    pub fn see<T>(&self, ask: impl FnOnce(&Outlook<'_>) -> T) -> T {
        let mut sight = self.sight();
        let members = self.look(&mut sight);
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
            observer: &sight.observer,
            members: &members,
            hosts: &hosts,
            pending: &pending,
            statement: &statement,
            host_statement: &host_statement,
        };
        ask(&outlook)
    }

    /// By how many seconds the clock of `me`, who has this view, is ahead of the median of the others
    /// (R8); none where too few are heard.
    pub fn clock_ahead_s(&self, me: &HostId) -> Option<i64> {
        let mut sight = self.sight();
        self.look(&mut sight);
        let chain = self.ledger.chain();
        let others = Others::of(me, &chain, &self.ledger.hosts());
        sight.records.judge(clock::now(), chain.heads_digest(), &others).clock_ahead_s
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
            let look = move || drop(view.look(&mut view.sight()));
            if let Err(error) = tokio::task::spawn_blocking(look).await {
                warn!(%error, "looking around failed");
            }
            beat.turn();
        }
    }

    /// Takes in what gossip and the ledger say now.
    fn look(&self, sight: &mut Sight) -> BTreeMap<HostId, Seen> {
        let Sight { observer, records } = sight;
        let members = self.members.borrow().clone();
        let live = members.iter().filter(|one| one.alive);
        let said = live.filter_map(|one| Some((&one.host, one.values.get(record::HOST)?)));
        records.observe(clock::now(), said);
        let members = members.iter().map(|one| (one.host.clone(), as_seen(one))).collect();
        let (chain, now_ms) = (self.ledger.chain(), clock::boot_ms());
        observer.observe(now_ms, &chain, &members, &|host| Some(self.ledger.host(host)?.key));
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

    fn sight(&self) -> MutexGuard<'_, Sight> {
        // What it holds is read anew from gossip: a panic elsewhere leaves nothing half done.
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
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
