//! Who joins: a token is used up, a host statement signed, a certificate issued (R9).
//!
//! `net` has bounded the request, and verified that whoever sent it holds the key in it. Every
//! refusal has one reason, which the host and the log both get; neither ever gets the secret.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use member::{chain, clock};
use net::certificate::{self, CertificateError};
use net::gossip::HOSTS_MAX;
use net::join::Admit;
use proto::id::{Digest, HostId, Name};
use proto::statement::{Host, Payload as _, Statement};
use proto::trust::Standing;
use proto::wire::{JoinReply, JoinRequest, Refused};
use swarm::ledger::AdmitError;
use tracing::{info, warn};

use crate::desk::{Desk, blocking};
use crate::store::{JoinError, Joiner};
use crate::token::{Secret, TokenId};

/// Live members that a new host is told to gossip with, beside the coordinator.
const SEEDS_MAX: usize = 8;

/// Lets hosts in that have a good token.
pub struct Registrar {
    desk: Arc<Desk>,
}

/// Why a host was not let in; the text is what the host is told.
#[derive(Debug, thiserror::Error)]
enum RefuseError {
    #[error(transparent)]
    Token(#[from] JoinError),
    #[error("the coordinator's host-ca key does not suffice: {0}")]
    Pending(String),
    #[error("the coordinator cannot keep the host's statement now")]
    Admit(#[source] AdmitError),
    #[error("the coordinator's own statement about this host does not read")]
    Corrupt,
    #[error("this host was removed from the fleet ({0}): join anew with another key")]
    Removed(String),
    #[error("the coordinator cannot issue a certificate now")]
    Certificate(#[from] CertificateError),
    #[error("the coordinator cannot read its roots now")]
    Roots(#[source] swarm::store::StoreError),
    #[error("{}", .0.reason)]
    Failed(Refused),
}

impl Registrar {
    pub fn new(desk: Arc<Desk>) -> Self {
        Self { desk }
    }

    async fn let_in(&self, joiner: &Joiner) -> Result<JoinReply, RefuseError> {
        let now = clock::unix();
        let make = |labels| self.host_statement(joiner, labels);
        let joined = self.desk.store.join(joiner, now, make).await?;
        let (ledger, envelope) = (self.desk.member.ledger.clone(), joined.envelope.clone());
        let (admitted, roots) =
            blocking("keep a host's statement", move || (ledger.admit(&envelope), ledger.roots(0)))
                .await
                .map_err(RefuseError::Failed)?;
        let admitted = admitted.map_err(RefuseError::Admit)?;
        if let Standing::Pending { missing } = admitted.standing {
            return Err(RefuseError::Pending(missing));
        }
        let Statement::Host(host) = admitted.statement else { return Err(RefuseError::Corrupt) };
        if let Some(removal) = self.desk.member.ledger.chain().removal(&host) {
            return Err(RefuseError::Removed(removal.reason.clone()));
        }
        let der = certificate::issue(&self.desk.host_ca_key, &host, now, certificate::LIFE_DAYS)?;
        info!(
            host = %host.id, name = %host.name, token = %joiner.token, new = joined.new,
            "host joined"
        );
        let (fleet, id) = (host.fleet.clone(), host.id.clone());
        self.desk.member.directory.add_host(host);
        Ok(JoinReply::Welcome {
            fleet,
            roots: roots.map_err(RefuseError::Roots)?,
            host: joined.envelope,
            certificate: der,
            seeds: self.seeds(&id),
        })
    }

    /// The statement of a new host. Those who join at the same moment do not count each other: gossip
    /// bears far more of them than that lets in.
    fn host_statement(
        &self,
        joiner: &Joiner,
        labels: BTreeMap<Name, Name>,
    ) -> Result<Vec<u8>, JoinError> {
        if self.desk.member.directory.others(self.desk.member.gossip.me()) >= HOSTS_MAX {
            return Err(JoinError::Full);
        }
        let statement = Host {
            fleet: self.desk.member.ledger.chain().fleet().clone(),
            id: HostId::of(&joiner.key),
            key: joiner.key,
            name: joiner.name.clone(),
            labels,
            issued: clock::unix(),
            critical: Vec::new(),
        };
        Ok(statement.signed(&self.desk.host_ca_key).to_bytes())
    }

    /// The coordinator first, then live members: other ones for every host, so that those who join
    /// together do not all begin with the same few.
    fn seeds(&self, newcomer: &HostId) -> Vec<String> {
        let mut members = self.desk.live_members();
        members.retain(|(host, _)| host != newcomer);
        members.sort_by_key(|(host, _)| Digest::of(format!("{newcomer} {host}").as_bytes()));
        let live = members.into_iter().take(SEEDS_MAX).map(|(_, address)| address);
        std::iter::once(self.desk.advertise).chain(live).map(|seed| seed.to_string()).collect()
    }
}

#[async_trait]
impl Admit for Registrar {
    async fn admit(&self, request: JoinRequest, from: IpAddr) -> JoinReply {
        let JoinRequest { token, secret, key, name, proof: _ } = request;
        let (token, secret) = (TokenId::from_bytes(token), Secret::from_bytes(secret));
        let joiner = Joiner { token, secret, key, name };
        let error = match self.let_in(&joiner).await {
            Ok(welcome) => return welcome,
            Err(error) => error,
        };
        let host = HostId::of(&joiner.key);
        warn!(%from, %token, %host, name = %joiner.name, reason = chain(&error), "join refused");
        JoinReply::Refused { reason: error.to_string() }
    }
}
