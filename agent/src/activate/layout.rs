//! Where the releases of a service stand on a host.
//!
//! ```text
//! ROOT/SERVICE/
//!   current -> releases/<12 hex>      what runs, or ran last; not there: nothing is deployed
//!   releases/
//!     <12 hex>/                       a release's tree, read-only, named after its id
//!     <12 hex>.manifest.json          the manifest its tree is verified against
//!     <12 hex>.release.json           its id and statement: how it is run, checked, called
//!   shared/                           the service's own: survives every release
//!     env                             its variables on this host
//! ```

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use durable::{Disk, Kind};
use proto::artifact::MANIFEST_BYTES_MAX;
use proto::statement::Release;
use proto::{Digest, Service};
use serde::{Deserialize, Serialize};

use super::turns::Turns;

/// Longest record of a release, in bytes.
const RECORD_BYTES_MAX: u64 = 256 << 10;
/// What the agent removes bears this name first, so that it is never taken for a release.
const TRASH: &str = ".trash-";
/// What is to replace a damaged release stands beside it under this name.
const NEXT: &str = ".next-";

/// The paths of one service. Clones share the turns: what is being staged is not cleared away.
#[derive(Debug, Clone)]
pub struct Paths {
    directory: PathBuf,
    service: Service,
    pub(super) turns: Arc<Turns>,
}

/// What is known of an installed release without asking anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Id of the release statement.
    pub id: Digest,
    /// Rises with every release staged here: the newest has the highest.
    pub staged: u64,
    pub release: Release,
}

/// Why what stands on disk cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a record of a release: {why}", path.display())]
    Record { path: PathBuf, why: String },
    #[error("{} is the record of release {got}, not {wanted}", path.display())]
    Other { path: PathBuf, got: Digest, wanted: Digest },
    #[error("{} is not the manifest of release {id}", path.display())]
    Manifest { path: PathBuf, id: Digest },
    #[error("{} is not a link to releases/<12 hex>: move it away", path.display())]
    Current { path: PathBuf },
}

impl Paths {
    pub fn new(service_root: &Path, service: &Service) -> Self {
        let directory = service_root.join(service.as_str());
        Self { directory, service: service.clone(), turns: Arc::default() }
    }

    pub fn service(&self) -> &Service {
        &self.service
    }

    /// `ROOT/SERVICE`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn releases(&self) -> PathBuf {
        self.directory.join("releases")
    }

    pub fn current(&self) -> PathBuf {
        self.directory.join("current")
    }

    pub fn shared(&self) -> PathBuf {
        self.directory.join("shared")
    }

    pub fn env(&self) -> PathBuf {
        self.shared().join("env")
    }

    /// The tree of a release.
    pub fn release(&self, id: &Digest) -> PathBuf {
        self.directory.join(target(id))
    }

    pub fn manifest(&self, id: &Digest) -> PathBuf {
        self.releases().join(format!("{id}.manifest.json"))
    }

    pub fn record(&self, id: &Digest) -> PathBuf {
        self.releases().join(format!("{id}.release.json"))
    }

    pub(super) fn trash(&self, name: &str) -> PathBuf {
        self.releases().join(format!("{TRASH}{name}"))
    }

    pub(super) fn next(&self, id: &Digest) -> PathBuf {
        self.releases().join(format!("{NEXT}{id}"))
    }
}

/// What `current` holds to point at a release: relative, so that the service can be moved.
pub(super) fn target(id: &Digest) -> PathBuf {
    Path::new("releases").join(id.to_string())
}

/// Whether a name in `releases/` is of something being removed, or that has not come into its place.
pub(super) fn is_trash(name: &OsStr) -> bool {
    [TRASH, NEXT].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
}

// --- reading what is there ---

/// The release whose record stands beside its tree.
///
/// # Errors
///
/// [`LayoutError`]: no such record, or not of this release.
pub(super) fn installed(
    disk: &dyn Disk,
    paths: &Paths,
    id: &Digest,
) -> Result<Installed, LayoutError> {
    let path = paths.record(id);
    let installed = read_record(disk, &path)?;
    if installed.id != *id {
        return Err(LayoutError::Other { path, got: installed.id, wanted: *id });
    }
    Ok(installed)
}

fn read_record(disk: &dyn Disk, path: &Path) -> Result<Installed, LayoutError> {
    let bytes = disk
        .read(path, RECORD_BYTES_MAX)
        .map_err(|source| LayoutError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| LayoutError::Record { path: path.to_owned(), why: error.to_string() })
}

/// The bytes of an installed release's manifest: those its statement names, or an error.
///
/// # Errors
///
/// [`LayoutError`]: unreadable, or another manifest.
pub(super) fn manifest(
    disk: &dyn Disk,
    paths: &Paths,
    installed: &Installed,
) -> Result<Vec<u8>, LayoutError> {
    let path = paths.manifest(&installed.id);
    let bytes = disk
        .read(&path, MANIFEST_BYTES_MAX)
        .map_err(|source| LayoutError::Read { path: path.clone(), source })?;
    if Digest::of(&bytes) != installed.release.artifact.id {
        return Err(LayoutError::Manifest { path, id: installed.id });
    }
    Ok(bytes)
}

/// The release `current` points at; none where nothing is deployed.
///
/// # Errors
///
/// [`LayoutError`]: `current` is something else than a link to an installed release.
pub fn current(disk: &dyn Disk, paths: &Paths) -> Result<Option<Installed>, LayoutError> {
    let path = paths.current();
    let read = |source| LayoutError::Read { path: path.clone(), source };
    match disk.kind(&path) {
        Ok(None) => return Ok(None),
        Ok(Some(Kind::Link)) => {}
        Ok(Some(_)) => return Err(LayoutError::Current { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(read(source)),
    }
    let link = disk.read_link(&path).map_err(read)?;
    let name = link.strip_prefix("releases").ok().and_then(Path::to_str).unwrap_or_default();
    if !is_release(name) {
        return Err(LayoutError::Current { path });
    }
    let installed = read_record(disk, &paths.releases().join(format!("{name}.release.json")))?;
    if installed.id.to_string() != name {
        return Err(LayoutError::Current { path });
    }
    Ok(Some(installed))
}

/// Every release with a tree and a record, oldest first. What cannot be read is left out: it is
/// neither run nor removed.
///
/// # Errors
///
/// [`LayoutError::Read`]: the directory of releases cannot be listed.
pub fn list(disk: &dyn Disk, paths: &Paths) -> Result<Vec<Installed>, LayoutError> {
    let directory = paths.releases();
    let names = match disk.list(&directory) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(LayoutError::Read { path: directory, source }),
    };
    let mut all = Vec::new();
    for name in names.iter().filter_map(|name| name.to_str()).filter(|name| is_release(name)) {
        match read_record(disk, &directory.join(format!("{name}.release.json"))) {
            Ok(installed) if installed.id.to_string() == name => all.push(installed),
            Ok(_) => tracing::warn!(%name, "the record of a release names another one"),
            Err(error) => tracing::warn!(%error, %name, "a release without a readable record"),
        }
    }
    all.sort_by_key(|installed| installed.staged);
    Ok(all)
}

/// Whether a name in `releases/` is that of a release's tree.
pub(super) fn is_release(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
