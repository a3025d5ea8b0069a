//! A tree under construction, beside the place where it will stand.
//!
//! Nobody else can enter it, and links are made last: while files are written there is no link
//! below the stage that a path could lead through.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Removes what it has made, unless it is told to let it stand.
pub(crate) struct Stage {
    path: PathBuf,
    links: Vec<(String, String)>,
    kept: bool,
}

impl Stage {
    /// Begins `.NAME.tmp` beside `dest`. What an earlier attempt left there is removed.
    pub(crate) fn beside(dest: &Path) -> io::Result<Self> {
        if dest.symlink_metadata().is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something stands there already",
            ));
        }
        let name = dest.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut beside = OsString::from(".");
        beside.push(name);
        beside.push(".tmp");
        let path = dest.with_file_name(beside);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path, links: Vec::new(), kept: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory, 0755 whatever the umask.
    pub(crate) fn directory(&self, path: &str) -> io::Result<()> {
        let path = self.path.join(path);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))
    }

    /// Makes an empty file for its owner alone; [`close`] gives it its mode.
    pub(crate) fn file(&self, path: &str) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path.join(path))
    }

    /// Remembers a link for [`Self::finish`].
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.links.push((path.to_owned(), target.to_owned()));
    }

    /// Makes the links and opens the tree to readers.
    ///
    /// # Errors
    ///
    /// The path that failed, below the stage.
    pub(crate) fn finish(&self) -> Result<(), (PathBuf, io::Error)> {
        for (path, target) in &self.links {
            let path = self.path.join(path);
            symlink(target, &path).map_err(|error| (path, error))?;
        }
        fs::set_permissions(&self.path, Permissions::from_mode(0o755))
            .map_err(|error| (self.path.clone(), error))
    }

    /// The tree has been moved to its place: nothing is left to remove.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.kept {
            // Where even this fails, the next attempt for the same place tries again.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Ends a file: read-only for everybody, and executable or not.
pub(crate) fn close(file: &File, executable: bool) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(if executable { 0o555 } else { 0o444 }))
}
