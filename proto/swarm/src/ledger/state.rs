//! What a ledger holds in memory: the chain and the ways to find things.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::certificate::Claim;
use proto::statement::{Host, Kind, Statement};
use proto::trust::{Chain, Standing, Verified};
use proto::{Digest, HostId};

use super::PENDING_MAX;

/// A statement below its threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    pub id: Digest,
    pub statement: Statement,
    /// For people.
    pub missing: String,
}

/// What pending statements are counted in: a scope for rollouts and directives, a service for
/// releases, an environment for freezes and revocations, one group for each other kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group(Kind, String);

pub(super) struct State {
    pub(super) chain: Arc<Chain>,
    /// Effective and on disk.
    pub(super) statements: BTreeSet<Digest>,
    /// Oldest first in each group; at most [`PENDING_MAX`].
    pub(super) pending: BTreeMap<Group, Vec<Pending>>,
    /// The newest statement of each host, and its id.
    pub(super) hosts: BTreeMap<HostId, (Digest, Host)>,
    pub(super) certificates: BTreeMap<(Digest, Claim), Digest>,
}

impl State {
    pub(super) fn new(chain: Chain, genesis: Digest) -> Self {
        let (pending, hosts, certificates) = Default::default();
        let statements = BTreeSet::from([genesis]);
        Self { chain: Arc::new(chain), statements, pending, hosts, certificates }
    }

    /// Counts on a statement that is on disk. Whether it was pending.
    pub(super) fn learn(&mut self, verified: &Verified) -> bool {
        // Copies the chain only while a reader holds on to it.
        Arc::make_mut(&mut self.chain).learn(verified);
        self.statements.insert(verified.id);
        if let Statement::Host(host) = &verified.statement {
            self.hosts.insert(host.id.clone(), (verified.id, host.clone()));
        }
        self.forget_pending(&verified.id)
    }

    /// Keeps a pending statement, or what is missing to it now.
    pub(super) fn keep_pending(&mut self, group: Group, verified: &Verified) {
        let Standing::Pending { missing } = &verified.standing else { return };
        let held = self.pending.entry(group).or_default();
        let statement = verified.statement.clone();
        let pending = Pending { id: verified.id, statement, missing: missing.clone() };
        match held.iter_mut().find(|held| held.id == verified.id) {
            Some(known) => *known = pending,
            None => held.push(pending),
        }
    }

    pub(super) fn forget_pending(&mut self, id: &Digest) -> bool {
        let held: usize = self.pending.values().map(Vec::len).sum();
        self.pending.retain(|_, group| {
            group.retain(|pending| pending.id != *id);
            !group.is_empty()
        });
        self.pending.values().map(Vec::len).sum::<usize>() < held
    }

    /// Who must go so that `newcomer` fits into its group.
    pub(super) fn oldest_pending_if_full(
        &self,
        group: &Group,
        newcomer: &Digest,
    ) -> Option<Digest> {
        let held = self.pending.get(group)?;
        let full = held.len() >= PENDING_MAX && held.iter().all(|pending| pending.id != *newcomer);
        full.then(|| held[0].id)
    }
}

impl Group {
    pub(super) fn of(statement: &Statement, chain: &Chain) -> Self {
        let name = match statement {
            Statement::Root(_) | Statement::Host(_) => String::new(),
            Statement::Release(release) => release.service.to_string(),
            Statement::Rollout(rollout) => rollout.scope().to_string(),
            Statement::Directive(directive) => chain
                .rollout(&directive.rollout)
                .map_or_else(String::new, |rollout| rollout.scope().to_string()),
            Statement::Freeze(freeze) => freeze.env.to_string(),
            Statement::Revocation(removal) => removal.env.to_string(),
        };
        Self(statement.kind(), name)
    }
}
