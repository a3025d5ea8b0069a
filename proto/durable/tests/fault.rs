//! Disks that fill up, become read-only or fail: nothing is half done, and mended they go on.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::io::{self, ErrorKind};
use std::path::Path;

use durable::{Disk, Fault, SimDisk, replace, replace_link};

const FAULTS: [Fault; 3] = [Fault::Full, Fault::ReadOnly, Fault::Failing];
const EVER: u64 = u64::MAX;

fn with_file() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/srv")).unwrap();
    disk.create(Path::new("/srv/journal"), b"old").unwrap();
    disk.symlink(Path::new("old"), Path::new("/srv/current")).unwrap();
    disk.settle();
    disk
}

/// At whatever step it begins, and whether it passes by itself or is mended: whoever reads finds the
/// old or the new, whole, and the next replacement works.
#[test]
fn r29_a_fault_at_every_step_of_a_replacement_leaves_old_or_new() {
    let (file, link) = (Path::new("/srv/journal"), Path::new("/srv/current"));
    let change = |disk: &SimDisk, content: &[u8], target: &Path| {
        replace(disk, file, content).is_ok() && replace_link(disk, link, target).is_ok()
    };
    let whole = with_file();
    let before = whole.steps();
    assert!(change(&whole, b"new content", Path::new("new")));
    for fault in FAULTS {
        for (step, lasts) in (before..=whole.steps()).flat_map(|step| [(step, 1), (step, EVER)]) {
            let disk = with_file();
            disk.break_at(step, fault, lasts);
            let case = format!("{fault:?} from step {step} on, for {lasts}");
            let done = change(&disk, b"new content", Path::new("new"));
            assert!(!done || fault == Fault::Full || step == whole.steps(), "{case}");
            let (content, target) = (disk.read(file, 20).unwrap(), disk.read_link(link).unwrap());
            assert!(content == b"old" || content == b"new content", "{case}: {content:?}");
            assert!(target == Path::new("old") || target == Path::new("new"), "{case}");
            assert!(
                !done || (content, target) == (b"new content".to_vec(), "new".into()),
                "{case}"
            );
            disk.mend();
            assert!(change(&disk, b"next", Path::new("next")), "{case}");
        }
    }
}

#[test]
fn a_full_disk_has_room_for_what_is_removed_and_says_what_it_is() {
    let disk = with_file();
    disk.break_at(disk.steps(), Fault::Full, EVER);
    let create = |bytes: &[u8]| disk.create(Path::new("/srv/a"), bytes);
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(create(b"")), ErrorKind::StorageFull, "a file takes up an inode");
    disk.remove_file(Path::new("/srv/journal")).unwrap();
    assert_eq!(kind(create(b"more")), ErrorKind::StorageFull, "more than was removed");
    assert_eq!(disk.kind(Path::new("/srv/a")).unwrap(), None, "nothing is left of it");
    create(b"old").unwrap();
    assert_eq!(kind(disk.symlink(Path::new("x"), Path::new("/srv/b"))), ErrorKind::StorageFull);
    disk.write_at(Path::new("/srv/a"), 0, b"new").unwrap();
    disk.sync_file(Path::new("/srv/a")).unwrap();
}

#[test]
fn other_faults_keep_everything_as_it_is() {
    for (fault, kind) in [
        (Fault::ReadOnly, ErrorKind::ReadOnlyFilesystem),
        (Fault::Failing, io::Error::from_raw_os_error(5).kind()),
    ] {
        let disk = with_file();
        disk.break_at(disk.steps(), fault, 2);
        let file = Path::new("/srv/journal");
        assert_eq!(disk.remove_file(file).unwrap_err().kind(), kind);
        assert_eq!(disk.sync_file(file).unwrap_err().kind(), kind);
        assert_eq!(disk.read(file, 10).unwrap(), b"old");
        disk.remove_file(file).expect("it has passed");
    }
}
