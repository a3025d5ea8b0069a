//! Statements that would not do what their signer thinks, refused when people hand them in.
//!
//! A rollout that is complete is the scope's standing intent; stopping it would take the whole fleet
//! back without a plan, bakes or budgets. Whoever hands such a directive in is told so. This guards
//! people against a slip, not the fleet against an attacker: a signed abort that reaches any member by
//! another way holds, so that members never disagree about it.
//!
//! Two rollouts of one epoch are in conflict (R5), and people get there by being quick at the same time: of
//! two that are handed in at one member the second is refused.
//!
//! A member announces [`SLOTS`] scopes: of one more, no host would hear, and who signed its first
//! rollout would wait for ever.

use proto::Digest;
use proto::certificate::Claim;
use proto::dsse::Envelope;
use proto::id::Scope;
use proto::record::SLOTS;
use proto::statement::{Action, Directive, ENVELOPE_BYTES_MAX, Rollout, Statement};
use proto::wire::{Refused, RefusedKind};
use swarm::Ledger;

/// Why a statement that is handed in is not passed on, if it would have no effect.
pub(crate) fn refuse_vain(ledger: &Ledger, envelope: &[u8]) -> Option<Refused> {
    let envelope = Envelope::parse(envelope, ENVELOPE_BYTES_MAX).ok()?;
    match Statement::parse(&envelope).ok()? {
        Statement::Directive(directive) => refuse_late(ledger, &directive),
        Statement::Rollout(rollout) => refuse_unheard(ledger, &rollout.scope())
            .or_else(|| refuse_rival(ledger, &envelope.id(), &rollout)),
        Statement::Root(_)
        | Statement::Host(_)
        | Statement::Release(_)
        | Statement::Freeze(_)
        | Statement::Revocation(_) => None,
    }
}

/// The first rollout of a scope for which there is no slot left.
fn refuse_unheard(ledger: &Ledger, scope: &Scope) -> Option<Refused> {
    let chain = ledger.chain();
    let room = chain.head(scope).is_some() || chain.heads().count() < SLOTS;
    (!room).then(|| Refused {
        kind: RefusedKind::Conflict,
        reason: format!(
            "{SLOTS} pairs of a service and an environment have rollouts already, and hosts would not \
             be told of {scope}"
        ),
        next: "make another fleet for it: swell --dir DIR init --fleet NAME".to_owned(),
    })
}

/// A rollout that was planned after the same one as another, which was there first: in force both would
/// be in conflict, and start nothing (R5).
fn refuse_rival(ledger: &Ledger, id: &Digest, rollout: &Rollout) -> Option<Refused> {
    let chain = ledger.chain();
    let scope = rollout.scope();
    let head = chain.head(&scope).filter(|head| head.epoch == rollout.epoch)?;
    let first = chain.rollout(&head.rollout).filter(|_| chain.rollout(id).is_none())?;
    Some(Refused {
        kind: RefusedKind::Conflict,
        reason: format!(
            "another rollout of {scope} came first: {}, to {}, is in force since this one was planned",
            head.rollout, first.to.version
        ),
        next: format!("look at it (swell explain {scope}), then decide again"),
    })
}

/// A directive about a rollout that is complete.
fn refuse_late(ledger: &Ledger, directive: &Directive) -> Option<Refused> {
    let id = directive.rollout;
    ledger.certificate(&id, Claim::Complete)?;
    let what = match directive.action {
        Action::Skip => "skip",
        Action::Pause => "pause",
        Action::Resume => "resume",
        Action::Promote => "promote",
        Action::Abort => "abort",
    };
    let chain = ledger.chain();
    let next = chain.rollout(&id).map(|rollout| {
        format!(
            "to go back: swell rollback {} --env {} --reason TEXT",
            rollout.service, rollout.env
        )
    });
    Some(Refused {
        kind: RefusedKind::Conflict,
        reason: format!("rollout {id} is complete: there is nothing left to {what}"),
        next: next.unwrap_or_default(),
    })
}
