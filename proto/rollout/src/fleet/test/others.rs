//! R7, R8: whom a member is measured by.

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
