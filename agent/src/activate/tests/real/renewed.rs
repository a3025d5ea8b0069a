//! A damaged release is unpacked anew while the steps of the service go on.

use std::sync::mpsc;

use super::*;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `then` on a thread of its own, which must come to its end.
fn soon<T: Send>(then: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|threads| {
        let (ended, end) = mpsc::channel();
        threads.spawn(move || ended.send(then()));
        match end.recv_timeout(DEADLINE) {
            Ok(done) => done,
            // A scope would wait for it.
            Err(_) => {
                eprintln!("it waits for what is being unpacked");
                std::process::abort()
            }
        }
    })
}

/// A script of several pieces.
fn long() -> String {
    format!("{START}\n{}", "# and so on\n".repeat(80_000))
}

fn lose(ground: &Ground, id: &Digest) {
    fs::remove_file(ground.paths.release(id).join("VERSION")).unwrap();
}

/// R29: the way back is a matter of seconds, whatever is mended meanwhile. It is asked for here just as a
/// damaged release is being unpacked, which stays where it is until the new one is whole.
#[test]
fn r29_no_way_back_waits_for_what_is_unpacked() {
    let ground = Ground::new();
    let activator = ground.activator();
    let [first, _, third] = ground.with_a_way_back(&activator);
    lose(&ground, &third);
    let (release, manifest, data) = ground.packed("3", START);
    let mut stored = pieces(&manifest, &data);
    let mut asked = 0;
    let mut piece = |index| {
        asked += 1;
        soon(|| activator.check_staged(&first).unwrap());
        soon(|| activator.revert(3, Some(first)).unwrap());
        assert!(activator.check_staged(&third).is_err(), "it is not there before it is whole");
        assert!(ground.paths.release(&third).join("bin/start").exists());
        stored(index)
    };
    let renewed = renew(&ground.paths, &third, &release, manifest.to_bytes(), &mut piece).unwrap();
    assert_eq!((asked, ground.current_version().as_str()), (1, "1"));
    assert!(activator.check_staged(&third).is_err());
    activator.swap_in(&renewed).unwrap();
    activator.check_staged(&third).unwrap();
    activator.clear_after(&third).unwrap();
    let names = list_names(&ground);
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
}

fn list_names(ground: &Ground) -> Vec<String> {
    let names = fs::read_dir(ground.paths.releases()).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What an operator goes back to and is not staged yet comes before what is only mended.
#[test]
fn r29_mending_gives_way_to_what_is_to_be_staged() {
    let ground = Ground::new();
    let start = long();
    let id = ground.stage("1", &start).unwrap();
    lose(&ground, &id);
    let (release, manifest, data) = ground.packed("1", &start);
    assert!(manifest.pieces.len() > 1);
    let mut stored = pieces(&manifest, &data);
    std::thread::scope(|threads| {
        let mut other = None;
        let mut piece = |index| {
            assert!(other.is_none(), "a piece more");
            other = Some(threads.spawn(|| ground.stage("2", START).unwrap()));
            while !ground.paths.turns.is_awaited() {
                std::thread::yield_now();
            }
            stored(index)
        };
        let renewed = renew(&ground.paths, &id, &release, manifest.to_bytes(), &mut piece);
        assert!(matches!(renewed, Err(StageError::GaveWay { .. })));
        let other = other.unwrap().join().unwrap();
        ground.activator().check_staged(&other).unwrap();
    });
    assert!(list_names(&ground).iter().all(|name| !name.starts_with('.')));
    // Later it is its turn.
    let mut stored = pieces(&manifest, &data);
    let renewed = renew(&ground.paths, &id, &release, manifest.to_bytes(), &mut stored).unwrap();
    ground.activator().swap_in(&renewed).unwrap();
    ground.activator().check_staged(&id).unwrap();
}
