//! What people said: freezes and holds, directives, approvals.
//!
//! Who said it, why and of what stands in the statement; that it was recorded is the audit's. Of several
//! words about one thing between two looks only the newest is told: the others are not in force any more.

use std::collections::{BTreeMap, BTreeSet};

use proto::dsse::Envelope;
use proto::report::FreezeReport;
use proto::statement::{Action, Role, Rollout};
use proto::{Digest, HostId, Name, UnixTime};
use rollout::fleet::{Outlook, Presence};

use super::{Look, NEAR_S, Sight, words};

/// A directive, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub statement: Digest,
    pub action: Action,
    /// That it opens; 0 is the first.
    pub wave: Option<u32>,
    pub by: Name,
    pub reason: String,
}

/// The directive in force for a rollout.
pub(super) fn word(outlook: &Outlook<'_>, rollout: &Digest) -> Option<Word> {
    let (statement, said) = outlook.chain.directive(rollout)?;
    let (action, wave, reason) = (said.action, said.wave, said.reason.clone());
    Some(Word { statement, action, wave, by: outlook.name_of_key(&said.author), reason })
}

/// Who has approved a rollout that needs it: blocks on the disk, so only for one that is not in force.
pub(super) fn approved(outlook: &Outlook<'_>, id: &Digest, rollout: &Rollout) -> Vec<Name> {
    let root = outlook.chain.root();
    let may = root.roles.get(&Role::Approve(rollout.env.clone()));
    let Some(may) = may.filter(|_| rollout.approvals > 0) else { return Vec::new() };
    // It stands in our own ledger, its signatures verified.
    let envelope =
        (outlook.statement)(id).and_then(|bytes| Envelope::parse(&bytes, usize::MAX).ok());
    let keys = envelope.iter().flat_map(|envelope| envelope.signatures().keys());
    let owners = keys.filter(|key| may.keys.contains(*key)).map(|key| outlook.name_of_key(key));
    let author = outlook.name_of_key(&rollout.author);
    owners.filter(|owner| *owner != author).collect()
}

/// Who removed each of these hosts that was removed, and why.
pub(super) fn removals(
    outlook: &Outlook<'_>,
    hosts: &[Presence],
) -> BTreeMap<HostId, (Name, String)> {
    let removed = hosts.iter().filter(|host| host.removed);
    let said = removed.filter_map(|host| {
        let (_, removal) = outlook.chain.revocation(&host.id, host.env.as_ref()?)?;
        let by = outlook.name_of_key(&removal.author);
        Some((host.id.clone(), (by, removal.reason.clone())))
    });
    said.collect()
}

/// Tells of freezes and holds, and of their being lifted. `told`: those that were told of, or made before
/// anybody was there to tell; `since`: when the chronicle began.
pub(super) fn follow_freezes(
    told: &mut Option<BTreeSet<Digest>>,
    since: UnixTime,
    sight: &Sight,
    look: &mut Look<'_>,
) {
    let there = sight.freezes.iter().map(|freeze| freeze.statement).collect();
    // Those of before the chronicle are no news.
    let Some(told) = told.replace(there) else { return };
    let is_near = |freeze: &&FreezeReport| freeze.created.plus_s(NEAR_S) >= since;
    let new = |freeze: &&FreezeReport| !told.contains(&freeze.statement);
    let news = sight.freezes.iter().filter(is_near).filter(new);
    let name = |freeze: &FreezeReport| {
        sight
            .hosts
            .iter()
            .find(|host| Some(&host.id) == freeze.host.as_ref())
            .map(|host| &host.name)
    };
    let now = look.now.unix;
    look.events.extend(news.map(|freeze| words::freeze(freeze, name(freeze), now)));
}
