//! What is kept and does not run: looked at, and put right.

use proto::report::Fate;

use super::*;

const EDITED: &str = "1: \"bin/stop\" was edited: its content is not what was signed";

fn damage(activator: &Activator, id: &Digest, known: &mut Outlook) -> String {
    let found = activator.damage(id, known, u64::MAX, &mut |_| true).unwrap();
    found.map_or_else(String::new, |damage| format!("{}: {}", damage.found, damage.first))
}

/// R22: the way back is looked at while nobody needs it. What rotted is staged anew, and nothing that runs.
#[test]
fn r22_what_rotted_of_the_way_back_is_found_out_and_staged_anew() {
    let ground = Ground::new();
    let activator = ground.activator();
    let [first, second, third] = ground.with_a_way_back(&activator);
    let kept = |pinned: Pins, keep| {
        activator.kept(pinned, keep).unwrap().into_iter().collect::<BTreeSet<_>>()
    };
    assert_eq!(kept(Pins::new(), 5), [first, third].into(), "all but what runs");
    assert_eq!(kept(Pins::new(), 0), [first].into(), "the way back is needed whatever is kept");
    let fetching = Digest::of(b"not here yet");
    let pinned: Pins = [(third, Fate::To), (fetching, Fate::To)].into();
    assert_eq!(kept(pinned, 0), [first, third].into());

    let mut known = Outlook::default();
    assert_eq!(damage(&activator, &first, &mut known), "");
    let file = ground.paths.release(&first).join("bin/stop");
    let mode = fs::metadata(&file).unwrap().permissions();
    let mut bytes = fs::read(&file).unwrap();
    bytes[40] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, bytes).unwrap();
    fs::set_permissions(&file, mode).unwrap();
    assert_eq!(damage(&activator, &first, &mut known), EDITED);
    activator.revert(3, Some(first)).expect_err("nobody goes back to that");

    ground.stage("1", START).unwrap();
    assert_eq!(damage(&activator, &first, &mut known), "");
    let order = list(&RealDisk, &ground.paths).unwrap();
    let order: Vec<Digest> = order.into_iter().map(|one| one.id).collect();
    assert_eq!(order, [first, second, third], "as old as it was, for what is cleared away");
    activator.revert(4, Some(first)).unwrap();
    assert_eq!(kept(Pins::new(), 0), [second].into(), "what was left may be wanted again");

    // What runs is shown and not undone.
    fs::write(ground.paths.release(&first).join("added"), "").unwrap();
    assert!(matches!(ground.stage("1", START), Err(StageError::Drift { .. })));
}

/// Also where nothing is left of it that could be listed.
#[test]
fn r22_a_way_back_that_is_gone_is_missed() {
    let ground = Ground::new();
    let activator = ground.activator();
    let [first, second] = ["1", "2"].map(|version| ground.stage(version, START).unwrap());
    for (attempt, from, to) in [(1, None, first), (2, Some(first), second)] {
        assert_eq!(activator.activate(attempt, from, to, Way::Forward), Outcome::Baking);
        activator.commit(attempt).unwrap();
    }
    fs::remove_dir_all(ground.paths.release(&first)).unwrap();
    fs::remove_file(ground.paths.record(&first)).unwrap();
    assert_eq!(activator.kept(Pins::new(), 5).unwrap(), [first]);
    assert_ne!(damage(&activator, &first, &mut Outlook::default()), "");
    ground.stage("1", START).unwrap();
    activator.revert(3, Some(first)).unwrap();
}

/// The manifest of each is in memory while a release is brought.
#[test]
fn r28_what_runs_and_the_two_newest_others_are_looked_at() {
    let ground = Ground::new();
    let ids = ["1", "2", "3", "4", "5"].map(|version| ground.stage(version, START).unwrap());
    let seen = || {
        let trees = trees(&ground.paths, &ids[4]);
        trees.into_iter().map(|(_, tree)| tree.dir).collect::<Vec<_>>()
    };
    let [one, _, three, four, _] = ids.map(|id| ground.paths.release(&id));
    assert_eq!(seen(), [four.clone(), three.clone()]);
    std::os::unix::fs::symlink(layout::target(&ids[0]), ground.paths.current()).unwrap();
    assert_eq!(seen(), [one, four, three]);
}
