//! A damaged release and the one that replaces it: at no step is there a half (R22).

use super::*;

/// 4 runs, 3 is its way back, 2 is damaged; and what replaces it stands beside it.
fn damaged() -> (Host, Renewed) {
    let host = Host::new();
    for version in ["1", "2", "3", "4"] {
        host.settle_on(version);
    }
    let (id, release, manifest) = release("2");
    host.disk.remove_file(&paths().release(&id).join("b")).unwrap();
    stands_beside(&host, &id, &manifest);
    (host, Renewed { id, release, manifest })
}

fn stands_beside(host: &Host, id: &Digest, manifest: &[u8]) {
    let next = paths().next(id);
    host.disk.create_dir(&next).unwrap();
    for name in ["a", "b"] {
        host.disk.create(&next.join(name), &content(&Digest::of(manifest))).unwrap();
    }
    host.disk.settle();
}

fn names(host: &Host) -> Vec<std::ffi::OsString> {
    host.disk.list(&paths().releases()).unwrap()
}

fn swap(host: &Host, renewed: &Renewed) -> Result<(), StageError> {
    let swapped = host.activator.swap_in(renewed);
    let cleared = host.activator.clear_after(renewed.id());
    swapped.and(cleared.map_err(StageError::from))
}

#[test]
fn r22_power_cut_before_every_step_of_a_swap() {
    let (host, renewed) = damaged();
    assert!(!host.is_whole(renewed.id()));
    let start = host.disk.steps();
    swap(&host, &renewed).unwrap();
    let end = host.disk.steps();
    assert!(host.is_whole(renewed.id()));
    let (left, order) = (names(&host), list(&*host.disk, &paths()).unwrap());
    let order: Vec<_> = order.into_iter().map(|one| (one.staged, one.id)).collect();
    assert!(order.is_sorted() && order[1].1 == *renewed.id(), "as old as it was: {order:?}");
    for step in start..=end {
        let (host, renewed) = damaged();
        host.disk.fail_at(step);
        let _ = swap(&host, &renewed);
        for seed in 0..200 {
            let case = format!("cut before step {step}, seed {seed}");
            let host = host.after_power_cut(seed, "boot 2");
            host.activator.recover().unwrap();
            assert_eq!(host.running(), Some(Digest::of(b"4")), "{case}");
            let stands = list(&*host.disk, &paths()).unwrap();
            for installed in stands.iter().filter(|one| one.id != *renewed.id()) {
                assert!(host.is_whole(&installed.id), "{case}");
            }
            let tree = paths().release(renewed.id());
            if host.disk.kind(&tree).unwrap().is_some() {
                let damaged = host.disk.kind(&tree.join("b")).unwrap().is_none();
                assert_ne!(host.is_whole(renewed.id()), damaged, "{case}: the old or the new");
                assert!(host.disk.kind(&tree.join("a")).unwrap().is_some(), "{case}: a half");
            }
            // As the next look does it.
            host.activator.clear_after(renewed.id()).unwrap();
            stands_beside(&host, renewed.id(), &renewed.manifest);
            swap(&host, &renewed).unwrap();
            assert!(host.is_whole(renewed.id()), "{case}");
            host.activator.collect_garbage(Pins::new, 4).unwrap();
            assert_eq!(names(&host), left, "{case}");
        }
    }
}

#[test]
fn r25_what_runs_is_not_swapped_nor_is_anything_for_what_was_swept_away() {
    let (host, renewed) = damaged();
    let (id, release, manifest) = release("4");
    stands_beside(&host, &id, &manifest);
    let before = names(&host);
    let error = host.activator.swap_in(&Renewed { id, release, manifest }).unwrap_err();
    assert!(matches!(error, StageError::Drift { .. }), "{error}");
    assert_eq!(names(&host), before);

    host.activator.collect_garbage(Pins::new, 4).unwrap();
    let left = names(&host);
    assert!(left.len() + 2 == before.len(), "{left:?}");
    let error = host.activator.swap_in(&renewed).unwrap_err();
    assert!(matches!(error, StageError::GaveWay { .. }), "{error}");
    assert_eq!(names(&host), left);
}

/// Nothing is swept away that is still being written, and no step waits for that.
#[test]
fn r29_a_swap_does_not_wait_for_what_is_being_staged() {
    let (host, renewed) = damaged();
    let turn = host.activator.paths().turns.stage();
    let error = host.activator.swap_in(&renewed).unwrap_err();
    assert!(matches!(error, StageError::GaveWay { .. }), "{error}");
    drop(turn);
    swap(&host, &renewed).unwrap();
}
