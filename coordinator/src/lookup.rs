//! What people look for, by the names that they know it by: what nobody knows is refused, see
//! [`rollout::fleet::names`].

use std::sync::Arc;

use proto::id::{Digest, Env, HostId, Service};
use proto::wire::{
    AuditPage, AuditQuery, ControlReply, EVENTS_MAX, EventsQuery, Refused, RolloutQuery,
};
use rollout::fleet::names::{known_env, known_service, unknown};

use crate::audit::ACTIONS;
use crate::desk::{Desk, blocking, out_of_order};
use crate::events::{Kind, Numbered};
use crate::store::{Found, StoreError, Which};

/// Digits of a whole digest.
const DIGEST_CHARS: usize = 64;

/// Something that was looked for by a name that nobody knows.
#[derive(Debug)]
pub(crate) struct Unknown {
    /// Which part of the question.
    pub(crate) field: &'static str,
    pub(crate) refused: Refused,
}

impl Desk {
    /// The newest of the events in question, however long it takes to find them: a second at most, with as
    /// many as are kept.
    ///
    /// # Errors
    ///
    /// [`Refused`]: by a name that nobody knows, or the database does not work.
    pub async fn events(self: &Arc<Self>, query: &EventsQuery) -> Result<ControlReply, Refused> {
        let which = self.which(query).await.map_err(|unknown| unknown.refused)?;
        let limit = query.limit.clamp(1, EVENTS_MAX);
        let (mut events, mut before) = (Vec::new(), query.before.or(Some(u64::MAX)));
        while let (Some(seq), left @ 1..) = (before, limit as usize - events.len()) {
            let left = u32::try_from(left).unwrap_or(limit);
            let Found { events: more, next } = self.events_before(seq, &which, left).await?;
            events.extend(more.into_iter().map(Numbered::report));
            before = next;
        }
        Ok(ControlReply::Events(events))
    }

    /// A page of the events in question, the newest first, as many as are found in a bounded time.
    ///
    /// # Errors
    ///
    /// [`Unknown`]: the first part of the question that names what is not there; or the database does not
    /// work.
    pub(crate) async fn events_page(
        self: &Arc<Self>,
        query: &EventsQuery,
    ) -> Result<Found, Unknown> {
        let which = self.which(query).await?;
        let before = query.before.unwrap_or(u64::MAX);
        let found = self.events_before(before, &which, query.limit).await;
        found.map_err(|refused| Unknown { field: "events", refused })
    }

    /// As [`Store::events_before`](crate::store::Store::events_before).
    ///
    /// # Errors
    ///
    /// [`Refused`]: the database does not work.
    pub(crate) async fn events_before(
        &self,
        before: u64,
        which: &Which,
        limit: u32,
    ) -> Result<Found, Refused> {
        let found = self.store.events_before(before, which, limit).await;
        found.map_err(|error| out_of_order("read events", &error))
    }

    /// That there are the service and the environment, as far as they are named.
    ///
    /// # Errors
    ///
    /// [`Unknown`]: there is one of them not.
    pub(crate) fn known(
        &self,
        service: Option<&Service>,
        env: Option<&Env>,
    ) -> Result<(), Unknown> {
        let field = |field| move |refused| Unknown { field, refused };
        let chain = self.member.ledger.chain();
        service.map_or(Ok(()), |one| known_service(&chain, one)).map_err(field("service"))?;
        env.map_or(Ok(()), |one| known_env(&chain, one)).map_err(field("env"))
    }

    /// The events that are meant.
    async fn which(self: &Arc<Self>, query: &EventsQuery) -> Result<Which, Unknown> {
        let field = |field| move |refused| Unknown { field, refused };
        let EventsQuery { service, env, since, .. } = query.clone();
        self.known(service.as_ref(), env.as_ref())?;
        let kind = query.kind.as_deref().map(known_kind).transpose().map_err(field("kind"))?;
        let host = query.host.as_deref().map(|host| self.known_host(host));
        let host = host.transpose().map_err(field("host"))?;
        let rollout = match &query.rollout {
            Some(rollout) => Some(self.known_rollout(rollout).await.map_err(field("rollout"))?),
            None => None,
        };
        Ok(Which { service, env, rollout, host, kind, since })
    }

    /// The entries of the audit record that are meant, as many as are found in a bounded time.
    ///
    /// # Errors
    ///
    /// [`Unknown`]: nobody does anything of this name, or nobody has it; or the database does not work.
    pub(crate) async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, Unknown> {
        let broken = |error: StoreError| Unknown {
            field: "audit",
            refused: out_of_order("read the audit record", &error),
        };
        if let Some(action) = query.action.as_deref().filter(|action| !ACTIONS.contains(action)) {
            let refused = unknown("action", action, ACTIONS);
            return Err(Unknown { field: "action", refused });
        }
        if let Some(actor) = &query.actor
            && !self.store.audit_has_actor(actor).await.map_err(broken)?
        {
            let chain = self.member.ledger.chain();
            let owners = chain.root().keys.values().map(|entry| entry.owner.as_str());
            let actors = self.store.audit_actors().await.map_err(broken)?;
            if !owners.clone().any(|owner| owner == actor) {
                let known = actors.iter().map(String::as_str).chain(owners);
                return Err(Unknown { field: "actor", refused: unknown("actor", actor, known) });
            }
        }
        self.store.audit_page(query).await.map_err(broken)
    }

    /// The host with this id, or else with this name: a name may look like another host's id.
    pub(crate) fn known_host(&self, called: &str) -> Result<HostId, Refused> {
        let hosts = self.member.ledger.hosts();
        let id = hosts.iter().find(|host| host.id.as_str() == called);
        let host = id.or_else(|| hosts.iter().find(|host| host.name.as_str() == called));
        let names = hosts.iter().map(|host| host.name.as_str());
        host.map(|host| host.id.clone()).ok_or_else(|| unknown("host", called, names))
    }

    /// The rollout that is meant; of one that is not known any more its whole id, if anything is told of it.
    async fn known_rollout(self: &Arc<Self>, query: &RolloutQuery) -> Result<Digest, Refused> {
        let (view, asked) = (self.view.clone(), query.clone());
        let find = move || view.see(|outlook| outlook.find_rollout(&asked));
        let refused = match blocking("look for a rollout", find).await? {
            Ok(id) => return Ok(id),
            Err(refused) => refused,
        };
        let RolloutQuery::Id(text) = query else { return Err(refused) };
        let whole = (text.len() == DIGEST_CHARS).then(|| text.parse().ok()).flatten();
        let Some(id) = whole else { return Err(refused) };
        let which = Which { rollout: Some(id), ..Which::default() };
        let told = self.events_before(u64::MAX, &which, 1).await?;
        if told.events.is_empty() { Err(refused) } else { Ok(id) }
    }
}

fn known_kind(name: &str) -> Result<Kind, Refused> {
    let names = Kind::ALL.iter().map(|kind| kind.name());
    name.parse().map_err(|_| unknown("kind of event", name, names))
}
