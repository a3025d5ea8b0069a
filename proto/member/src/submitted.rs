//! What people hand in: which kinds of statements, and the answer.
//!
//! A release comes with its archive and a host with its machine. Kept by themselves, those of a stolen
//! key would fill memory and disks: as many as it likes, of services that nobody has.

use proto::dsse::Envelope;
use proto::statement::{ENVELOPE_BYTES_MAX, Kind};
use proto::trust::Standing;
use proto::wire::{ControlReply, Refused, RefusedKind};
use swarm::Ledger;
use swarm::ledger::Admitted;

use crate::late::refuse_vain;

/// Why a statement that is handed in is not taken, whoever has signed it: it is of a kind that is not
/// handed in, or would be in vain.
pub fn refuse_submitted(ledger: &Ledger, envelope: &[u8]) -> Option<Refused> {
    refuse_kind(envelope).or_else(|| refuse_vain(ledger, envelope))
}

fn refuse_kind(envelope: &[u8]) -> Option<Refused> {
    // What does not read is refused by whoever reads it for good.
    let envelope = Envelope::parse(envelope, ENVELOPE_BYTES_MAX).ok()?;
    let kind = Kind::of(envelope.payload_type())?;
    let next = match kind {
        Kind::Release => "`swell publish` brings a release in, with its archive",
        Kind::Host => "`swell-agent join` makes a host",
        Kind::Root | Kind::Rollout | Kind::Directive | Kind::Freeze | Kind::Revocation => {
            return None;
        }
    };
    Some(Refused {
        kind: RefusedKind::Invalid,
        reason: format!("a {} is not handed in like this", kind.name()),
        next: next.to_owned(),
    })
}

/// What to tell whoever handed in what was admitted. A rollout that came after a newer one of its scope
/// is kept, as history, and starts nowhere: who signed it must hear that.
pub fn reply_to_admitted(admitted: Admitted) -> ControlReply {
    let Admitted { id, standing, superseded_by, .. } = admitted;
    let (effective, note) = match standing {
        Standing::Effective => (true, String::new()),
        Standing::Pending { missing } => (false, missing),
    };
    ControlReply::Submitted { id, effective, superseded_by, note }
}

#[cfg(test)]
mod test {
    use super::*;

    /// R4: what a stolen publisher key signs is not kept by whoever is handed it.
    #[test]
    fn r4_releases_and_hosts_are_not_handed_in() {
        for kind in Kind::ALL {
            let envelope = Envelope::new(kind.payload_type(), b"{}".to_vec());
            let refused = refuse_kind(&envelope.to_bytes()).is_some();
            assert_eq!(refused, matches!(kind, Kind::Release | Kind::Host), "{kind:?}");
        }
        assert_eq!(refuse_kind(b"garbage"), None);
    }
}
