//! What lies in the place of a unit that is adopted: moved aside, and put back.
//!
//! `web.service` in the directory of units, and the links `*.wants/web.service` (`*.requires`,
//! `*.upholds`) that have it started at a boot, are renamed to `.web.service.adopted` where they lie:
//! systemd reads no hidden files. The links, since nothing may start at a boot before the journal has
//! decided (R19). A unit that a package brought lies elsewhere and needs no moving: what lies here
//! takes its place.

use std::io;
use std::path::{Path, PathBuf};

use durable::{Disk, Kind};

/// Directories whose links have units started with others.
const STARTERS: [&str; 3] = [".wants", ".requires", ".upholds"];

/// Moves aside what lies in the place of `unit`, but for a link to `own`; durably.
///
/// # Errors
///
/// Of the disk; what is moved by then can be put back.
pub(crate) fn set_aside(
    disk: &dyn Disk,
    directory: &Path,
    unit: &str,
    own: &Path,
) -> io::Result<()> {
    for place in places(disk, directory)? {
        let path = place.join(unit);
        let foreign = match disk.kind(&path)? {
            Some(Kind::Link) => disk.read_link(&path)? != own,
            Some(Kind::File { .. }) => true,
            _ => false,
        };
        if foreign {
            disk.rename(&path, &aside(&place, unit))?;
            disk.sync_dir(&place)?;
        }
    }
    Ok(())
}

/// Puts back what [`set_aside`] moved, durably; where something lies in its place that is newer, it
/// stays aside.
///
/// # Errors
///
/// Of the disk.
pub(crate) fn put_back(disk: &dyn Disk, directory: &Path, unit: &str) -> io::Result<()> {
    for place in places(disk, directory)? {
        let kept = aside(&place, unit);
        let path = place.join(unit);
        if disk.kind(&kept)?.is_some() && disk.kind(&path)?.is_none() {
            disk.rename(&kept, &path)?;
            disk.sync_dir(&place)?;
        }
    }
    Ok(())
}

/// Where what lay in the place of `unit` is kept.
pub(super) fn aside(place: &Path, unit: &str) -> PathBuf {
    place.join(format!(".{unit}.adopted"))
}

/// The directory of units, and those in it whose links have units started with others.
fn places(disk: &dyn Disk, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let names = disk.list(directory)?;
    let starts = |name: &str| STARTERS.iter().any(|kind| name.ends_with(kind));
    let links = names.iter().filter(|name| name.to_str().is_some_and(starts));
    let mut places = vec![directory.to_owned()];
    for path in links.map(|name| directory.join(name)) {
        if disk.kind(&path)? == Some(Kind::Directory) {
            places.push(path);
        }
    }
    Ok(places)
}
