//! Whether a directory can be written, and how much room it has: both are tried, not asked for.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use proto::checkup::{Finding, Topic};

use crate::disk::{Bytes, Free, RESERVE_BYTES, RESERVE_FILES, free, standing};

/// Less room is in doubt: the next release may not fit.
const DOUBT_BYTES: u64 = 1 << 30;
/// As [`DOUBT_BYTES`], in files.
const DOUBT_FILES: u64 = 10_000;

/// The directory at `path`, or where it will be once it is made. Blocks on the disk; leaves nothing.
pub fn directory(path: &Path) -> Finding {
    let shown = path.display();
    let free = match free(path) {
        Ok(free) => free,
        Err(error) => {
            let what = format!("{shown}: cannot ask how much space is free: {error}");
            return Finding::wrong(Topic::Disk, what, "look at its file system: `findmnt -T` it");
        }
    };
    if free.read_only {
        return Finding::wrong(
            Topic::Disk,
            format!("{shown} is on a file system that is mounted read-only"),
            format!("`findmnt -T {shown}` shows it; `dmesg` says why, if it was not on purpose"),
        );
    }
    if let Err(error) = write(standing(path)) {
        return Finding::wrong(
            Topic::Disk,
            format!("{shown} cannot be written: {error}"),
            format!("`ls -ld {shown}`: it must belong to the user that the daemon runs as"),
        );
    }
    room(path, free)
}

/// Makes a file and removes it again.
fn write(directory: &Path) -> io::Result<()> {
    // A name that passes for what is left of a write, should this process die right here.
    let path = directory.join(format!(".doctor-{:016x}.tmp", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    let written = file.write_all(b"x");
    fs::remove_file(&path)?;
    written
}

fn room(path: &Path, free: Free) -> Finding {
    let shown = path.display();
    let files = match free.files {
        Some(files) => format!(" and {files} files"),
        None => String::new(),
    };
    let what = format!("{shown}: {}{files} free", Bytes(free.bytes));
    let least = |bytes, files| {
        free.bytes < bytes || free.files.is_some_and(|free_files| free_files < files)
    };
    let next = format!("make room: `du -x -d 2 {shown}` shows what takes it");
    if least(RESERVE_BYTES, RESERVE_FILES) {
        let less = format!("{what}, less than the {} that stay free", Bytes(RESERVE_BYTES));
        return Finding::wrong(Topic::Disk, format!("{less}: nothing new is fetched"), next);
    }
    match least(DOUBT_BYTES, DOUBT_FILES) {
        true => Finding::doubt(Topic::Disk, what, next),
        false => Finding::good(Topic::Disk, what),
    }
}

#[cfg(test)]
mod tests {
    use proto::checkup::Grade::{self, Doubt, Good, Wrong};

    use super::*;

    #[test]
    fn r29_room_table() {
        let cases: [(u64, Option<u64>, Grade, &str); 8] = [
            (1 << 40, Some(1_000_000), Good, "/srv: 1024.0 GiB and 1000000 files free"),
            (1 << 30, None, Good, "/srv: 1.0 GiB free"),
            (1 << 30, Some(10_000), Good, "/srv: 1.0 GiB and 10000 files free"),
            ((1 << 30) - 1, Some(10_000), Doubt, "/srv: 1023.9 MiB and 10000 files free"),
            (1 << 30, Some(9_999), Doubt, "/srv: 1.0 GiB and 9999 files free"),
            (64 << 20, Some(256), Doubt, "/srv: 64.0 MiB and 256 files free"),
            ((64 << 20) - 1, None, Wrong, "less than the 64.0 MiB that stay free"),
            (1 << 40, Some(255), Wrong, "/srv: 1024.0 GiB and 255 files free"),
        ];
        for (bytes, files, grade, text) in cases {
            let found = room(Path::new("/srv"), Free { bytes, files, read_only: false });
            assert_eq!(found.grade, grade, "{found}");
            assert!(found.what.contains(text), "{found}");
        }
    }

    #[test]
    fn what_can_be_written_is_written_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let found = directory(&dir.path().join("not/there/yet"));
        assert_ne!(found.grade, Wrong, "{found}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Where nobody may make a file, root neither.
    #[test]
    fn what_cannot_be_written_is_wrong() {
        let found = directory(Path::new("/proc/self"));
        assert_eq!(found.grade, Wrong, "{found}");
        assert!(found.what.starts_with("/proc/self cannot be written: "), "{found}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("srv");
        fs::write(&file, "a file").unwrap();
        let found = directory(&file);
        assert!(found.what.contains("cannot be written: Not a directory"), "{found}");
    }
}
