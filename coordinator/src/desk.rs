//! What every answer of the coordinator is made from: its keys, its records, what it sees.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use member::{Membership, View, chain, clock};
use proto::UnixTime;
use proto::dsse::Envelope;
use proto::id::{Digest, HostId};
use proto::wire::{ControlReply, Refused, RefusedKind};
use rollout::fleet::refused;
use swarm::ledger::AdmitError;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task;
use tracing::error;

use crate::audit::{self, Act};
use crate::config::Config;
use crate::drafts::Drafts;
use crate::notify::Office;
use crate::store::Store;
use crate::web::Certificate;

/// The coordinator's keys, its records, what it sees of the fleet.
pub struct Desk {
    pub store: Store,
    /// Its place in the fleet, with the statements.
    pub member: Membership,
    /// What it sees, for people.
    pub view: View,
    /// Key of the role `admit`: who the coordinator is.
    pub admit_key: SigningKey,
    /// Key of the role `host-ca`.
    pub host_ca_key: SigningKey,
    /// Id of the first root.
    pub genesis: Digest,
    /// Where hosts and people reach it.
    pub advertise: SocketAddr,
    /// What it was started with.
    pub config: Config,
    /// Checkups that may still begin.
    pub checkups: Semaphore,
    /// Statements that are handed in or signed here are judged and taken in one after the other: of two
    /// rollouts that follow the same one, made at the same time, the second is refused.
    pub taking_in: Mutex<()>,
    /// Uploads that may still begin.
    pub uploads: Semaphore,
    /// Directory for archives while they are checked; empty at every start.
    pub scratch: PathBuf,
    /// Where its pages are, for people: `https://10.0.0.5:7071`.
    pub https_url: String,
    /// The certificate there; none while there are no pages.
    pub https_certificate: watch::Sender<Option<Certificate>>,
    /// What pages have prepared for people to sign.
    pub drafts: Drafts,
    /// The number of the newest event, told anew with each.
    pub events: watch::Receiver<u64>,
    /// What is known of the audit record.
    pub record: watch::Sender<audit::Known>,
    /// When the chronicle last looked at the fleet and kept what it saw; none: not since the start.
    pub looked: watch::Sender<Option<UnixTime>>,
    /// Who is told of what happens.
    pub notify: Arc<Office>,
}

/// A refusal because something here does not work: the log says what, the asker may try again.
pub fn out_of_order(step: &str, cause: &dyn std::error::Error) -> Refused {
    error!(step, cause = chain(cause), "request failed");
    Refused {
        kind: RefusedKind::Busy,
        reason: format!("the coordinator cannot {step} now"),
        next: "its log says why; try again later".to_owned(),
    }
}

impl Desk {
    /// The other members that are heard of, and where.
    pub fn live_members(&self) -> Vec<(HostId, SocketAddr)> {
        let members = self.member.gossip.members().borrow().clone();
        let me = self.member.gossip.me();
        let live = members.iter().filter(|other| other.alive && other.host != *me);
        live.map(|other| (other.host.clone(), other.address)).collect()
    }

    /// The owners of the keys that signed an envelope whose signatures were verified.
    pub fn signers(&self, envelope: &Envelope) -> String {
        audit::signers(self.member.ledger.chain().root(), envelope)
    }
}

impl Desk {
    /// Records an act, then takes in the statement that it is about: nothing that has an effect here
    /// lacks its entry. `act`: none: it has one.
    ///
    /// # Errors
    ///
    /// [`Refused`]: by the fleet's rules, or something here does not work.
    pub async fn admit(&self, act: Option<Act>, bytes: Vec<u8>) -> Result<ControlReply, Refused> {
        if let Some(act) = act {
            let recorded = self.store.record(act, clock::unix()).await;
            recorded.map_err(|error| out_of_order("record the statement", &error))?;
        }
        let ledger = self.member.ledger.clone();
        let admitted = blocking("take the statement in", move || ledger.admit(&bytes)).await?;
        admitted.map(member::reply_to_admitted).map_err(|error| match error {
            AdmitError::Refused(refusal) => refused(&refusal),
            AdmitError::Store(error) => out_of_order("keep the statement", &error),
        })
    }
}

/// Runs what blocks on the disk.
///
/// # Errors
///
/// [`Refused`], if it panicked.
pub async fn blocking<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    task::spawn_blocking(work).await.map_err(|error| out_of_order(step, &error))
}
