//! R7, R8: whom a member is measured by. R30: who says what of the audit record.

use proto::audit::{Head, Origin, Rift, RiftKind, Told};
use proto::record::AuditRecord;
use proto::report::AuditReport;

use super::*;
use crate::peers::Others;

#[test]
fn r8_nobody_is_measured_by_himself() {
    let world = World::new(0);
    let hosts = |others: &Others| others.hosts.keys().cloned().collect::<Vec<_>>();
    let mut all: Vec<_> = (1..=HOSTS).map(host_id).collect();
    all.sort();
    let of_coordinator = Others::of(&host_id(ADMIT), &world.chain, &world.hosts);
    assert_eq!((of_coordinator.coordinators.len(), hosts(&of_coordinator)), (0, all.clone()));
    let of_host = Others::of(&host_id(1), &world.chain, &world.hosts);
    all.retain(|host| *host != host_id(1));
    assert_eq!(hosts(&of_host), all);
    assert_eq!(of_host.coordinators, [host_id(ADMIT)].into());
}

/// R30: what is told of the audit record is the coordinator's word, and what must not be the hosts'; each
/// speaks for itself alone.
#[test]
fn r30_who_says_what_of_the_audit_record() {
    let mut world = World::new(0);
    assert_eq!(world.report().audit, AuditReport::default());
    let hash = Digest::of(b"entry");
    let head = Head { length: 7, hash };
    let origin = Origin { record: hash, since: NOW, recovered: false };
    let told = Some(Told { origin, head });
    let rift = Rift { kind: RiftKind::Cut, record: hash, promised: head, told: head, at: NOW };
    let word = |told, rift| to_text(&AuditRecord { told, rift });
    world.says(1, record::AUDIT.to_owned(), word(told, None));
    world.says(2, record::AUDIT.to_owned(), word(None, Some(rift)));
    let audit = world.report().audit;
    assert_eq!(audit.told, None, "a host is not the coordinator");
    let noticed: Vec<_> = audit.rifts.iter().map(|one| (one.host.clone(), one.rift)).collect();
    assert_eq!(noticed, [(host_id(2), rift)]);
    let values = [(record::AUDIT.to_owned(), word(told, None))].into();
    let coordinator = Seen { address: "10.0.0.5:7070".to_owned(), alive: true, twin: None, values };
    world.members.insert(host_id(ADMIT), coordinator);
    assert_eq!(world.report().audit.told, told);
}
