//! What this command believes: statements, verified from the pinned root by the hosts' own rules.
//!
//! A statement may need others first; they are asked for from the same member, which can withhold
//! them but not forge them.

use std::collections::BTreeMap;

use proto::id::{Digest, HostId, Scope, Service, Version};
use proto::report::{FreezeReport, RolloutReport};
use proto::statement::{Host, Kind, Release, Rollout, Statement};
use proto::trust::{Chain, Refusal, Standing, Verified, verify};
use proto::wire::{ControlRequest, ScopeFacts, ScopeHost};
use rollout::plan::Candidate;

use crate::client::{Client, ClientError};
use crate::failure::{Advise, Exit};
use crate::home;

/// Statements one command asks for at most: a scope's line of rollouts, and their releases.
const STATEMENTS_MAX: usize = 20_000;

/// Why an answer is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KnowledgeError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot believe {what} that {from} sent")]
    Refused {
        what: &'static str,
        from: String,
        #[source]
        source: Refusal,
    },
    #[error("cannot believe {what} that {from} sent: it is a {}", got.name())]
    Kind { what: &'static str, from: String, got: Kind },
    #[error("cannot believe {what} that {from} sent: it is another one than was asked for")]
    Other { what: &'static str, from: String },
    #[error("cannot use {what}: signatures are missing: {missing}")]
    Pending { what: &'static str, missing: String },
    #[error("cannot verify {what}: it needs more than {STATEMENTS_MAX} statements")]
    Endless { what: &'static str },
}

impl Advise for KnowledgeError {
    fn exit(&self) -> Exit {
        match self {
            Self::Client(source) => source.exit(),
            _ => Exit::Error,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::Client(source) => source.next(),
            Self::Pending { .. } => {
                Some("somebody who may sign it: swell approve ROLLOUT".to_owned())
            }
            Self::Refused { .. } | Self::Kind { .. } | Self::Other { .. } => {
                Some("ask another member by --via HOST, and look at that one".to_owned())
            }
            Self::Endless { .. } => None,
        }
    }
}

/// The verified statements, and whom to ask for more.
pub(crate) struct Knowledge<'c> {
    client: &'c Client,
    pub(crate) chain: Chain,
    asked: usize,
}

/// Where a scope stands; what is signed is verified, the rest is what the member says.
#[derive(Debug)]
pub(crate) struct Facts {
    /// The newest effective rollout.
    pub(crate) head: Option<(Digest, Rollout)>,
    pub(crate) report: Option<RolloutReport>,
    /// The release of the last complete rollout.
    pub(crate) stable: Option<(Digest, Release)>,
    pub(crate) hosts: Vec<Candidate>,
    /// The version that each of these serves, as far as it is known; no one has signed that.
    pub(crate) serves: BTreeMap<HostId, Version>,
    pub(crate) directive_sequence: u64,
    /// Forward rollouts that were stopped, newest first, and the release each was to bring.
    pub(crate) stopped: Vec<(Digest, Digest)>,
    /// What holds something up in the environment now.
    pub(crate) freezes: Vec<FreezeReport>,
    /// Scopes of the fleet that have a rollout.
    pub(crate) scopes: u32,
}

impl<'c> Knowledge<'c> {
    pub(crate) fn new(client: &'c Client, chain: Chain) -> Self {
        Self { client, chain, asked: 0 }
    }

    /// The release of `service` in `envelope`, and of `version` if that is known; it has both its
    /// signatures. A member could hand out another one that is as well signed.
    ///
    /// # Errors
    ///
    /// [`KnowledgeError`], as of all below.
    pub(crate) async fn release(
        &mut self,
        envelope: Vec<u8>,
        service: &Service,
        version: Option<&Version>,
    ) -> Result<(Digest, Release), KnowledgeError> {
        let what = "the release";
        let verified = self.effective(what, envelope).await?;
        match verified.statement {
            Statement::Release(release)
                if release.service == *service
                    && version.is_none_or(|version| release.version == *version) =>
            {
                Ok((verified.id, release))
            }
            Statement::Release(_) => Err(self.other(what)),
            other => Err(self.kind(what, &other)),
        }
    }

    /// The statement with this id, of any kind, which may lack signatures.
    pub(crate) async fn statement(&mut self, id: Digest) -> Result<Verified, KnowledgeError> {
        let what = "the statement";
        let request = ControlRequest::Statement { id };
        let envelope = self.client.envelope("ask for the statement", &request).await?;
        let verified = self.verified(what, envelope).await?;
        match verified.id == id {
            true => Ok(verified),
            false => Err(self.other(what)),
        }
    }

    /// The rollout with this id, which may lack signatures.
    pub(crate) async fn rollout(
        &mut self,
        id: Digest,
    ) -> Result<(Verified, Rollout), KnowledgeError> {
        let what = "the rollout";
        let request = ControlRequest::Statement { id };
        let envelope = self.client.envelope("ask for the rollout", &request).await?;
        let verified = self.verified(what, envelope).await?;
        match verified.statement.clone() {
            Statement::Rollout(rollout) if verified.id == id => Ok((verified, rollout)),
            Statement::Rollout(_) => Err(self.other(what)),
            other => Err(self.kind(what, &other)),
        }
    }

    /// Everything about a scope, verified: what is signed and of another scope is no answer.
    pub(crate) async fn scope(
        &mut self,
        scope: &Scope,
        facts: ScopeFacts,
    ) -> Result<Facts, KnowledgeError> {
        let head = match facts.rollout {
            Some(envelope) => {
                let what = "the newest rollout";
                let verified = self.effective(what, envelope).await?;
                match verified.statement {
                    Statement::Rollout(rollout) if rollout.scope() == *scope => {
                        Some((verified.id, rollout))
                    }
                    Statement::Rollout(_) => return Err(self.other(what)),
                    other => return Err(self.kind(what, &other)),
                }
            }
            None => None,
        };
        let stable = match facts.stable {
            Some(envelope) => {
                let stable = self.release(envelope, &scope.service, None).await?;
                // Where a rollout goes back to is signed into it: it must have been there.
                if !self.was_there(scope, &stable.0) {
                    return Err(self.other("the stable release"));
                }
                Some(stable)
            }
            None => None,
        };
        let (mut hosts, mut serves) = (Vec::new(), BTreeMap::new());
        for ScopeHost { envelope, fitness, serves: version } in facts.hosts {
            let host = self.host(envelope).await?;
            if host.env().as_ref() != Some(&scope.env) {
                return Err(self.other("a host"));
            }
            serves.extend(version.map(|version| (host.id.clone(), version)));
            hosts.push(Candidate { host, fitness });
        }
        Ok(Facts {
            head,
            report: facts.report,
            stable,
            hosts,
            serves,
            directive_sequence: facts.directive_sequence,
            stopped: facts.stopped,
            freezes: facts.freezes,
            scopes: facts.scopes,
        })
    }

    /// The host with this id.
    pub(crate) async fn host_of(&mut self, id: &HostId) -> Result<Host, KnowledgeError> {
        let request = ControlRequest::Host { id: id.clone() };
        let envelope = self.client.envelope("ask for the host", &request).await?;
        let host = self.host(envelope).await?;
        match host.id == *id {
            true => Ok(host),
            false => Err(self.other("a host")),
        }
    }

    /// Whether this statement removes the host from the fleet.
    pub(crate) async fn is_removed(
        &mut self,
        id: &HostId,
        statement: Digest,
    ) -> Result<bool, KnowledgeError> {
        let host = self.host_of(id).await?;
        self.statement(statement).await?;
        Ok(self.chain.removal(&host).is_some())
    }

    /// Learns a freeze, so that the next one can be signed over it.
    pub(crate) async fn freeze(&mut self, id: Digest) -> Result<(), KnowledgeError> {
        let what = "a freeze";
        let request = ControlRequest::Statement { id };
        let envelope = self.client.envelope("ask for the freeze", &request).await?;
        let verified = self.effective(what, envelope).await?;
        match verified.statement {
            Statement::Freeze(_) if verified.id == id => Ok(()),
            Statement::Freeze(_) => Err(self.other(what)),
            other => Err(self.kind(what, &other)),
        }
    }

    /// Whether a rollout of the scope, as far as they are known, led to this release or from it.
    pub(crate) fn was_there(&self, scope: &Scope, release: &Digest) -> bool {
        self.chain.history(scope).into_iter().any(|(_, rollout)| {
            let targets = std::iter::once(&rollout.to).chain(&rollout.from);
            targets.into_iter().any(|target| target.release == *release)
        })
    }

    /// Whether everything in the scope of this rollout, the newest, ran this release before.
    pub(crate) fn was_stable(&self, newest: &Digest, release: &Digest) -> bool {
        self.chain.was_stable(Some(newest), release)
    }

    async fn host(&mut self, envelope: Vec<u8>) -> Result<Host, KnowledgeError> {
        let what = "a host";
        match self.effective(what, envelope).await?.statement {
            Statement::Host(host) => Ok(host),
            other => Err(self.kind(what, &other)),
        }
    }

    async fn effective(
        &mut self,
        what: &'static str,
        envelope: Vec<u8>,
    ) -> Result<Verified, KnowledgeError> {
        let verified = self.verified(what, envelope).await?;
        match verified.standing {
            Standing::Effective => Ok(verified),
            Standing::Pending { missing } => Err(KnowledgeError::Pending { what, missing }),
        }
    }

    /// Verifies and learns a statement, asking for those it needs first.
    async fn verified(
        &mut self,
        what: &'static str,
        envelope: Vec<u8>,
    ) -> Result<Verified, KnowledgeError> {
        // The statement itself at the bottom, above each what it needs.
        let mut open: Vec<(Option<Digest>, Vec<u8>)> = vec![(None, envelope)];
        loop {
            let (id, top) = open.last().expect("the statement itself stays until it is returned");
            match verify(&self.chain, top, home::now()) {
                Ok(verified) => {
                    if id.is_some_and(|id| verified.id != id) {
                        return Err(self.other(what));
                    }
                    self.chain.learn(&verified);
                    open.pop();
                    if open.is_empty() {
                        return Ok(verified);
                    }
                    // What has no effect would be needed again and again.
                    if let Standing::Pending { missing } = verified.standing {
                        return Err(KnowledgeError::Pending { what, missing });
                    }
                }
                Err(Refusal::Needs(id)) => {
                    self.asked += 1;
                    if self.asked > STATEMENTS_MAX {
                        return Err(KnowledgeError::Endless { what });
                    }
                    let request = ControlRequest::Statement { id };
                    let needed = self.client.envelope("ask for a statement", &request).await?;
                    open.push((Some(id), needed));
                }
                Err(source) => {
                    return Err(KnowledgeError::Refused { what, from: self.from(), source });
                }
            }
        }
    }

    fn from(&self) -> String {
        self.client.member.to_string()
    }

    pub(crate) fn other(&self, what: &'static str) -> KnowledgeError {
        KnowledgeError::Other { what, from: self.from() }
    }

    fn kind(&self, what: &'static str, got: &Statement) -> KnowledgeError {
        KnowledgeError::Kind { what, from: self.from(), got: got.kind() }
    }
}
