//! The power is cut before every step of filling and removing an artifact.

use durable::SimDisk;
use proto::artifact::{Entry, FORMAT, What};

use super::*;

const DIR: &str = "/store";

/// An artifact of `pieces` pieces, some of them short. (The store never looks inside a piece.)
pub(crate) fn artifact(pieces: u8) -> (Digest, Vec<u8>, Vec<Vec<u8>>) {
    let frames: Vec<Vec<u8>> =
        (0..pieces).map(|index| vec![index; 5 + usize::from(index)]).collect();
    let piece = |frame: &Vec<u8>| Piece {
        bytes: u32::try_from(frame.len()).unwrap(),
        digest: Digest::of(frame),
    };
    let what = What::File {
        bytes: u64::from(pieces) << 18,
        digest: Digest::of(b"content"),
        executable: false,
    };
    let manifest = Manifest {
        format: FORMAT,
        entries: vec![Entry { path: "file".to_owned(), what }],
        piece_raw_bytes: 1 << 18,
        pieces: frames.iter().map(piece).collect(),
    };
    let manifest = manifest.to_bytes();
    (Digest::of(&manifest), manifest, frames)
}

fn open(disk: &Arc<SimDisk>) -> Result<Store, StoreError> {
    Store::open(disk.clone(), Path::new(DIR))
}

/// A life of the store: statements replaced, an artifact fetched in odd order with a flush every
/// three pieces, another one removed. Ends early where the power goes.
fn live(disk: &Arc<SimDisk>) -> Result<(), StoreError> {
    let store = open(disk)?;
    let (id, manifest, frames) = artifact(19);
    for text in ["old", "new"] {
        store.put_statement(Sort::Effective, &Digest::of(b"statement"), text.as_bytes())?;
    }
    store.put_blob(b"blob")?;
    store.begin(&id, &manifest)?;
    store.check(&id)?;
    for step in 0..19_u32 {
        let index = step * 7 % 19;
        store.write_piece(&id, index, &frames[index as usize])?;
        if step % 3 == 2 {
            store.flush(&id)?;
        }
    }
    store.flush(&id)?;
    let (other, manifest, frames) = artifact(2);
    store.begin(&other, &manifest)?;
    store.write_piece(&other, 1, &frames[1])?;
    store.flush(&other)?;
    store.remove_artifact(&other)
}

/// What the record on `disk` claims, each claim compared with the data beside it.
fn claims_are_true(disk: &SimDisk, case: &str) {
    for pieces in [19, 2] {
        let (id, _, frames) = artifact(pieces);
        let dir = Path::new(DIR).join("artifacts").join(format!("{id:#}"));
        if disk.kind(&dir.join("manifest.json")).unwrap().is_none() {
            continue;
        }
        let record = disk.read(&dir.join("pieces"), 16).unwrap();
        let claimed = Bits::from_bytes(u32::from(pieces), &record).expect(case);
        let data = disk.read(&dir.join("data"), 1 << 20).expect(case);
        let mut offset = 0;
        for (index, frame) in (0..).zip(&frames) {
            let held = &data[offset..offset + frame.len()];
            assert!(!claimed.contains(index) || held == frame, "{case}: piece {index} claimed");
            offset += frame.len();
        }
    }
}

/// R26: whatever a power cut leaves, every piece the record claims is the piece, files are the old
/// one or the new one, and the store opens and takes the fetch to its end.
#[test]
fn r26_power_cut_at_every_step_leaves_a_true_record() {
    let whole = Arc::new(SimDisk::new());
    live(&whole).unwrap();
    for step in 0..=whole.steps() {
        for seed in 0..24 {
            let disk = Arc::new(SimDisk::new());
            disk.fail_at(step);
            let ended = live(&disk).is_ok();
            assert_eq!(ended, step >= whole.steps());
            let found = Arc::new(disk.after_power_cut(seed));
            let case = format!("cut before step {step}, seed {seed}");
            recover(&found, &case);
        }
    }
}

fn recover(found: &Arc<SimDisk>, case: &str) {
    if found.kind(&Path::new(DIR).join("artifacts")).unwrap().is_some() {
        claims_are_true(found, case);
    }
    let store = open(found).expect(case);
    let statement = store.statement(Sort::Effective, &Digest::of(b"statement")).unwrap();
    assert!(matches!(statement.as_deref(), None | Some(b"old" | b"new")), "{case}");
    let blob = store.blob(&Digest::of(b"blob")).unwrap();
    assert!(matches!(blob.as_deref(), None | Some(b"blob")), "{case}");
    let (id, manifest, frames) = artifact(19);
    store.begin(&id, &manifest).expect(case);
    store.check(&id).expect(case);
    for index in store.pieces(&id).unwrap().iter() {
        let held = store.read_piece(&id, index).unwrap();
        assert_eq!(held.as_ref(), Some(&frames[index as usize]), "{case}");
    }
    for (index, frame) in (0..).zip(&frames) {
        store.write_piece(&id, index, frame).expect(case);
    }
    store.flush(&id).expect(case);
    let again = open(&Arc::new(found.after_power_cut(1))).expect(case);
    again.check(&id).expect(case);
    assert!(again.has_whole(&id), "{case}: a flushed artifact is whole for good");
}

#[test]
fn pieces_of_an_earlier_run_count_only_once_they_are_hashed() {
    let disk = Arc::new(SimDisk::new());
    live(&disk).unwrap();
    let (id, _, frames) = artifact(19);
    let data = Path::new(DIR).join("artifacts").join(format!("{id:#}")).join("data");
    // The first two bytes of the file are in piece 0: bit rot.
    disk.write_at(&data, 0, &[9, 9]).unwrap();
    let store = open(&disk).unwrap();
    assert!(store.pieces(&id).unwrap().is_empty() && !store.has_whole(&id));
    store.check(&id).unwrap();
    assert_eq!(
        (store.pieces(&id).unwrap().count(), store.pieces(&id).unwrap().contains(0)),
        (18, false)
    );
    // Before it may be written again the record has let go of it.
    claims_are_true(&disk, "after the check");
    store.write_piece(&id, 0, &frames[0]).unwrap();
    assert!(store.has_whole(&id));
}

#[test]
fn a_piece_that_rots_is_dropped_and_not_passed_on() {
    let disk = Arc::new(SimDisk::new());
    live(&disk).unwrap();
    let store = open(&disk).unwrap();
    let (id, _, frames) = artifact(19);
    store.check(&id).unwrap();
    let data = Path::new(DIR).join("artifacts").join(format!("{id:#}")).join("data");
    disk.write_at(&data, 0, &[9]).unwrap();
    assert_eq!(store.read_piece(&id, 0).unwrap(), None);
    assert_eq!(store.read_piece(&id, 1).unwrap().as_ref(), Some(&frames[1]));
    assert_eq!(store.pieces(&id).unwrap().count(), 18);
    // It is no longer claimed either, so another start does not bring it back.
    claims_are_true(&disk, "after the rot");
}

#[test]
fn what_does_not_belong_here_does_not_stop_a_start() {
    let disk = Arc::new(SimDisk::new());
    live(&disk).unwrap();
    let root = Path::new(DIR);
    let (id, manifest, _) = artifact(19);
    let artifact_dir = root.join("artifacts").join(format!("{id:#}"));
    disk.create(&root.join("statements/notes.txt"), b"x").unwrap();
    disk.create(&root.join("blobs/.x.tmp"), b"x").unwrap();
    disk.create(&root.join("artifacts/stray"), b"x").unwrap();
    disk.remove_file(&artifact_dir.join("pieces")).unwrap();
    let store = open(&disk).unwrap();
    assert_eq!(store.statements(Sort::Effective).unwrap(), [Digest::of(b"statement")]);
    assert_eq!(store.blobs().unwrap(), [Digest::of(b"blob")]);
    assert!(store.pieces(&id).is_err(), "without a record it is begun anew");
    store.begin(&id, &manifest).unwrap();
    assert!(store.pieces(&id).unwrap().is_empty());
    // A blob that is not what its name says.
    let blob = root.join("blobs").join(format!("{:#}", Digest::of(b"blob")));
    disk.write_at(&blob, 0, b"B").unwrap();
    assert_eq!(store.blob(&Digest::of(b"blob")).unwrap(), None);
    assert_eq!(store.blobs().unwrap(), []);
}

#[test]
fn only_the_right_bytes_at_the_right_place_are_kept() {
    let store = open(&Arc::new(SimDisk::new())).unwrap();
    let (id, manifest, frames) = artifact(3);
    assert!(matches!(store.write_piece(&id, 0, &frames[0]), Err(StoreError::NoArtifact(_))));
    let other = store.begin(&Digest::of(b"other"), &manifest);
    assert!(matches!(other, Err(StoreError::OtherManifest { .. })));
    store.begin(&id, &manifest).unwrap();
    let wrong = |index: u32, bytes: &[u8]| store.write_piece(&id, index, bytes).unwrap_err();
    assert!(matches!(wrong(0, &frames[1]), StoreError::WrongBytes { index: 0, .. }));
    assert!(matches!(wrong(1, &frames[1][1..]), StoreError::WrongBytes { .. }));
    assert!(matches!(wrong(3, &frames[0]), StoreError::NoPiece { .. }));
    assert!(store.write_piece(&id, 1, &frames[1]).unwrap());
    assert!(!store.write_piece(&id, 1, &frames[1]).unwrap(), "known already");
    assert_eq!(store.read_piece(&id, 0).unwrap(), None);
    let progress = &store.progress()[0];
    assert_eq!((progress.artifact, progress.pieces, progress.of), (id, 1, 3));
}

#[test]
fn when_a_blob_came_is_known_unless_it_was_gathered() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Arc::new(durable::RealDisk), dir.path()).unwrap();
    let id = store.put_blob(b"certificate").unwrap();
    assert!(store.blob_since(&id).is_some());
    store.mark_gathered().unwrap();
    assert_eq!(store.blob_since(&id), None);
    // One that comes later.
    let blob = std::fs::File::open(dir.path().join(format!("blobs/{id:#}"))).unwrap();
    let written = blob.metadata().unwrap().modified().unwrap();
    blob.set_modified(written + std::time::Duration::from_secs(60)).unwrap();
    assert!(store.blob_since(&id).is_some());
}

/// R26: that it is to be whole again is known after a power cut, too, from before a piece is let go of to
/// when all are durable; of what was never whole nothing is said.
#[test]
fn r26_a_power_cut_forgets_nothing_that_rotted() {
    let (id, _, frames) = artifact(19);
    let data = Path::new(DIR).join("artifacts").join(format!("{id:#}")).join("data");
    let begin = || {
        let disk = Arc::new(SimDisk::new());
        live(&disk).unwrap();
        disk.write_at(&data, 0, &[9]).unwrap();
        disk
    };
    // It is found out, and mended. Ends early where the power goes.
    let story = |disk: &Arc<SimDisk>| {
        let store = open(disk)?;
        store.check(&id)?;
        assert_eq!(store.rotted(), [id]);
        store.write_piece(&id, 0, &frames[0])?;
        assert_eq!(store.rotted(), [id], "not durable yet");
        store.flush(&id)?;
        assert_eq!(store.rotted(), []);
        Ok::<_, StoreError>(())
    };
    let whole = begin();
    let start = whole.steps();
    story(&whole).unwrap();
    for step in start..whole.steps() {
        for seed in 0..24 {
            let disk = begin();
            disk.fail_at(step);
            assert!(story(&disk).is_err());
            let case = format!("cut before step {step}, seed {seed}");
            let store = open(&Arc::new(disk.after_power_cut(seed))).expect(&case);
            store.check(&id).expect(&case);
            assert!(store.has_whole(&id) || store.rotted() == [id], "{case}");
        }
    }
}

#[test]
fn what_was_never_whole_is_not_sought_again_by_itself() {
    let disk = Arc::new(SimDisk::new());
    let (id, manifest, frames) = artifact(19);
    let store = open(&disk).unwrap();
    store.begin(&id, &manifest).unwrap();
    store.write_piece(&id, 0, &frames[0]).unwrap();
    store.flush(&id).unwrap();
    let data = Path::new(DIR).join("artifacts").join(format!("{id:#}")).join("data");
    disk.write_at(&data, 0, &[9]).unwrap();
    store.verify(&id, 0).unwrap();
    assert!(store.pieces(&id).unwrap().is_empty());
    assert_eq!(store.rotted(), []);
}

/// A place that does not read any more is let go of, so that it is written anew.
#[test]
fn r26_a_piece_that_does_not_read_has_rotted() {
    let disk = Arc::new(SimDisk::new());
    live(&disk).unwrap();
    let store = open(&disk).unwrap();
    let (id, _, _) = artifact(19);
    store.check(&id).unwrap();
    let data = Path::new(DIR).join("artifacts").join(format!("{id:#}")).join("data");
    disk.remove_file(&data).unwrap();
    assert!(store.read_piece(&id, 4).is_err(), "who asks for it hears nothing else");
    store.verify(&id, 4).unwrap();
    assert_eq!((store.pieces(&id).unwrap().count(), store.rotted()), (18, vec![id]));
}
