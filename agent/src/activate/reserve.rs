//! Room for the way back, held by files until it is needed (R22, R29).
//!
//! What is merely free is taken by whoever comes first: a service that logs, or the very release that
//! must go. So before anything is stopped, a file is put where the journal is written and one where
//! `current` is moved. A way back that cannot write for lack of room removes them and tries again: it
//! writes one small file and one link, each in place of an older one, and nothing that stays.

use std::io;
use std::path::{Path, PathBuf};

use durable::{Disk, Kind, replace};
use proto::Digest;

use super::layout::Paths;

/// Length of each file: as the longest journal, with the inode it takes.
const BYTES: usize = 16 << 10;

/// The files of one service.
#[derive(Debug)]
pub(super) struct Reserve {
    files: [PathBuf; 2],
}

impl Reserve {
    /// For the service of `paths`, whose journal this is.
    pub(super) fn new(paths: &Paths, journal: &Path) -> Self {
        let beside = journal.with_file_name(format!(".{}.reserve", paths.service()));
        Self { files: [beside, paths.directory().join(".reserve")] }
    }

    /// Holds room from now on; nothing is done where it is held already.
    ///
    /// # Errors
    ///
    /// The file that cannot be made, and why: there is no room, say.
    pub(super) fn hold(&self, disk: &dyn Disk) -> Result<(), String> {
        self.files.iter().try_for_each(|file| {
            hold(disk, file).map_err(|error| {
                format!("{error}: cannot hold room for the way back in {}", file.display())
            })
        })
    }

    /// Gives the room up; false where none was held.
    pub(super) fn spend(&self, disk: &dyn Disk) -> bool {
        let mut spent = false;
        for file in &self.files {
            if disk.remove_file(file).is_ok() {
                spent = true;
                if let Some(directory) = file.parent() {
                    // So that it can be had: some file systems free nothing before.
                    let _ = disk.sync_dir(directory);
                }
            }
        }
        spent
    }
}

fn hold(disk: &dyn Disk, file: &Path) -> io::Result<()> {
    let whole = Kind::File { bytes: BYTES as u64 };
    if matches!(disk.kind(file), Ok(Some(kind)) if kind == whole) {
        return Ok(());
    }
    if let Some(directory) = file.parent() {
        disk.create_dir_all(directory)?;
    }
    replace(disk, file, &filling()).map_err(|error| match error {
        durable::ReplaceError::Prepare { source, .. }
        | durable::ReplaceError::Rename { source, .. }
        | durable::ReplaceError::Sync { source, .. } => source,
    })
}

/// What no file system makes smaller.
fn filling() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BYTES);
    for number in 0_u32.. {
        if bytes.len() >= BYTES {
            break;
        }
        bytes.extend_from_slice(Digest::of(&number.to_be_bytes()).as_bytes());
    }
    bytes
}
