//! Statements that come too late to mean what their signer thinks.
//!
//! A rollout that is complete is the scope's standing intent; stopping it would take the whole fleet
//! back without a plan, bakes or budgets. Whoever hands such a directive in is told so. This guards
//! people against a slip, not the fleet against an attacker: a signed abort that reaches any member by
//! another way holds, so that members never disagree about it.

use proto::certificate::Claim;
use proto::dsse::Envelope;
use proto::statement::{Action, Kind, SMALL_ENVELOPE_BYTES_MAX, Statement};
use proto::trust::Standing;
use proto::wire::{ControlReply, Refused, RefusedKind};
use swarm::Ledger;
use swarm::ledger::Admitted;

/// Why a statement that is handed in is not passed on, if it is a directive about a complete rollout.
pub fn refuse_late(ledger: &Ledger, envelope: &[u8]) -> Option<Refused> {
    let envelope = Envelope::parse(envelope, SMALL_ENVELOPE_BYTES_MAX).ok()?;
    if Kind::of(envelope.payload_type()) != Some(Kind::Directive) {
        return None;
    }
    let Ok(Statement::Directive(directive)) = Statement::parse(&envelope) else { return None };
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

/// What to tell whoever handed in what was admitted. A rollout that came after a newer one of its scope
/// is kept, as history, and starts nowhere: who signed it must hear that.
pub fn submitted(admitted: Admitted) -> ControlReply {
    let Admitted { id, standing, superseded_by, .. } = admitted;
    let (effective, note) = match standing {
        Standing::Effective => (true, String::new()),
        Standing::Pending { missing } => (false, missing),
    };
    ControlReply::Submitted { id, effective, superseded_by, note }
}
