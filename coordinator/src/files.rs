//! The files the coordinator starts from: two keys, the roots, the members it last saw; and the note
//! that says that they are not all there yet.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use durable::{Disk as _, RealDisk, ReplaceError, SecretError, make_secret_dir};
use ed25519_dalek::SigningKey;
use proto::PublicKey;
use proto::dsse::{Envelope, EnvelopeError};
use proto::id::Digest;
use proto::key::{SECRET_BYTES_MAX, secret_from_text};
use proto::statement::{Role, Root, SMALL_ENVELOPE_BYTES_MAX};

use crate::config::Config;

/// Members whose addresses are kept.
pub const SEEDS_MAX: usize = 32;
/// Longest list of members that is read, in bytes.
const SEEDS_BYTES_MAX: u64 = 8 << 10;
/// Stands in a state directory from the begin to the end of a recovery, and names the fleet.
const RECOVERING: &str = "recovering";
/// Roots that a directory may hold.
const ROOTS_MAX: u32 = 1_000;

/// Why the coordinator cannot start from its files; each says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("cannot make {path:?}")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{dir:?} is of user {owner}, and this runs as user {me}: run it as its owner \
         (runuser -u USER -- ...), or start it by systemctl start groundswell-coordinator"
    )]
    Foreign { dir: PathBuf, owner: u32, me: u32 },
    #[error("cannot clear {path:?}")]
    Clear {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read a key")]
    Key(#[from] SecretError),
    #[error("{path:?} holds no key")]
    NoKey { path: PathBuf },
    #[error("cannot read the root {path:?}")]
    Root {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} holds no root")]
    NoRoot {
        path: PathBuf,
        #[source]
        source: EnvelopeError,
    },
    #[error(
        "{path:?} holds key {key}, which alone must suffice for the role {role} and does not: the \
         newest root says who holds it"
    )]
    Role { path: PathBuf, key: proto::KeyId, role: Role },
    #[error("cannot read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot note that a recovery is under way")]
    Note(#[from] ReplaceError),
    #[error(
        "a recovery into {dir:?} was begun and not finished: run `swell-coordinator recover` again, \
         it goes on where it was"
    )]
    Unfinished { dir: PathBuf },
    #[error(
        "{dir:?} is not empty ({found:?} is there): recovery only fills an empty directory. If that \
         is a coordinator's state, run it; else move it away"
    )]
    InUse { dir: PathBuf, found: std::ffi::OsString },
    #[error("the recovery that was begun in {dir:?} is of another fleet: move that directory away")]
    OtherRecovery { dir: PathBuf },
}

/// The coordinator's two keys, and where they were.
pub struct Keys {
    pub admit: SigningKey,
    pub host_ca: SigningKey,
    paths: [PathBuf; 2],
}

/// The roots of a directory.
pub struct Roots {
    /// Id of the first one.
    pub genesis: Digest,
    /// In order, not verified.
    pub envelopes: Vec<Vec<u8>>,
}

impl Keys {
    /// Reads both.
    ///
    /// # Errors
    ///
    /// [`FilesError`]: unreadable, open to others, or no key.
    pub fn read(config: &Config) -> Result<Self, FilesError> {
        Ok(Self {
            admit: read_key(&config.admit_key)?,
            host_ca: read_key(&config.host_ca_key)?,
            paths: [config.admit_key.clone(), config.host_ca_key.clone()],
        })
    }

    /// Whether the newest root gives them the roles they are for.
    ///
    /// # Errors
    ///
    /// [`FilesError::Role`]: found now rather than by the first host that wants to join.
    pub fn check(&self, root: &Root) -> Result<(), FilesError> {
        let [admit, host_ca] = &self.paths;
        let roles = [(&self.admit, Role::Admit, admit), (&self.host_ca, Role::HostCa, host_ca)];
        for (key, role, path) in roles {
            let key = PublicKey::of(key);
            let alone = root.roles.get(&role).is_some_and(|holders| holders.threshold == 1);
            if !alone || !root.holds(&role, &key) {
                let (path, key) = (path.clone(), proto::KeyId::of(&key));
                return Err(FilesError::Role { path, key, role });
            }
        }
        Ok(())
    }
}

/// Reads one.
///
/// # Errors
///
/// [`FilesError`], as [`Keys::read`].
pub fn read_key(path: &Path) -> Result<SigningKey, FilesError> {
    let text = durable::read_secret(path, SECRET_BYTES_MAX)?;
    secret_from_text(&text).ok_or_else(|| FilesError::NoKey { path: path.to_owned() })
}

impl Roots {
    /// Reads `root.json`, the first one, and `root.2.json` and so on, as many as there are.
    ///
    /// # Errors
    ///
    /// [`FilesError`]: the first is missing, or one cannot be read.
    pub fn read(dir: &Path) -> Result<Self, FilesError> {
        let read = |path: &Path| durable::read_bounded(path, SMALL_ENVELOPE_BYTES_MAX as u64);
        let path = dir.join("root.json");
        let first =
            read(&path).map_err(|source| FilesError::Root { path: path.clone(), source })?;
        let genesis = Envelope::parse(&first, SMALL_ENVELOPE_BYTES_MAX)
            .map_err(|source| FilesError::NoRoot { path: path.clone(), source })?
            .id();
        let mut envelopes = vec![first];
        for version in 2..=ROOTS_MAX {
            let path = dir.join(format!("root.{version}.json"));
            match read(&path) {
                Ok(envelope) => envelopes.push(envelope),
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(source) => return Err(FilesError::Root { path, source }),
            }
        }
        Ok(Self { genesis, envelopes })
    }
}

/// Makes the state directory, for its owner alone, and in it an empty one for archives that are
/// being checked; returns that.
///
/// # Errors
///
/// [`FilesError`]; [`FilesError::Unfinished`] where a recovery has not come to its end.
pub fn prepare(state_dir: &Path) -> Result<PathBuf, FilesError> {
    if recovering(state_dir)?.is_some() {
        return Err(FilesError::Unfinished { dir: state_dir.to_owned() });
    }
    make_state(state_dir)?;
    let scratch = state_dir.join("scratch");
    match fs::remove_dir_all(&scratch) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(FilesError::Clear { path: scratch, source });
        }
        Ok(()) | Err(_) => {}
    }
    make(&scratch)?;
    Ok(scratch)
}

fn make(path: &Path) -> Result<(), FilesError> {
    make_secret_dir(path).map_err(|source| FilesError::Make { path: path.to_owned(), source })
}

/// Makes the state directory. Another user's is refused: what root would leave in it, the daemon's own
/// user could not use any more.
fn make_state(dir: &Path) -> Result<(), FilesError> {
    make(dir)?;
    let found = fs::metadata(dir);
    let owner = found.map_err(|source| FilesError::Read { path: dir.to_owned(), source })?.uid();
    let me = rustix::process::geteuid().as_raw();
    if owner != me {
        return Err(FilesError::Foreign { dir: dir.to_owned(), owner, me });
    }
    Ok(())
}

// --- recovery ---

/// Claims the state directory for a recovery of the fleet with this first root. Until
/// [`end_recovery`] no coordinator starts from it. Whether an earlier recovery goes on.
///
/// # Errors
///
/// [`FilesError`]: something else is in it, or a recovery of another fleet; nothing has changed.
pub fn begin_recovery(state_dir: &Path, genesis: &Digest) -> Result<bool, FilesError> {
    let dir = || state_dir.to_owned();
    match recovering(state_dir)? {
        Some(fleet) if fleet == format!("{genesis:#}\n").as_bytes() => return Ok(true),
        Some(_) => return Err(FilesError::OtherRecovery { dir: dir() }),
        None => {}
    }
    make_state(state_dir)?;
    let names = RealDisk.list(state_dir);
    let names = names.map_err(|source| FilesError::Read { path: dir(), source })?;
    // What a new file system has by itself, and what a cut left of this very note.
    let counts = |name: &&std::ffi::OsString| *name != "lost+found" && !durable::is_leftover(name);
    if let Some(found) = names.iter().find(counts) {
        return Err(FilesError::InUse { dir: dir(), found: found.clone() });
    }
    let note = format!("{genesis:#}\n");
    durable::replace(&RealDisk, &state_dir.join(RECOVERING), note.as_bytes())?;
    Ok(false)
}

/// The recovery is done: a coordinator may start.
///
/// # Errors
///
/// [`FilesError`]: it may not yet.
pub fn end_recovery(state_dir: &Path) -> Result<(), FilesError> {
    let path = state_dir.join(RECOVERING);
    let removed = RealDisk.remove_file(&path).and_then(|()| RealDisk.sync_dir(state_dir));
    removed.map_err(|source| FilesError::Clear { path, source })
}

/// The fleet of the recovery that was begun and is not done.
fn recovering(state_dir: &Path) -> Result<Option<Vec<u8>>, FilesError> {
    let path = state_dir.join(RECOVERING);
    match durable::read_bounded(&path, 128) {
        Ok(fleet) => Ok(Some(fleet)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FilesError::Read { path, source }),
    }
}

/// Whether a recovery into the state directory was begun and is not done.
///
/// # Errors
///
/// [`FilesError::Read`].
pub fn is_recovering(state_dir: &Path) -> Result<bool, FilesError> {
    Ok(recovering(state_dir)?.is_some())
}

/// Where the addresses of members are kept.
pub fn seeds_path(state_dir: &Path) -> PathBuf {
    state_dir.join("seeds")
}

/// The members last seen; none where the list cannot be read.
pub fn read_seeds(state_dir: &Path) -> Vec<SocketAddr> {
    let bytes = durable::read_bounded(&seeds_path(state_dir), SEEDS_BYTES_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines().filter_map(|line| line.parse().ok()).take(SEEDS_MAX).collect()
}

/// Keeps the addresses, one per line.
///
/// # Errors
///
/// [`ReplaceError`]: the list before is still there.
pub fn write_seeds(path: &Path, seeds: &[SocketAddr]) -> Result<(), ReplaceError> {
    let lines: String = seeds.iter().map(|seed| format!("{seed}\n")).collect();
    durable::replace(&RealDisk, path, lines.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn envelope(text: &str) -> Vec<u8> {
        Envelope::new("test", text.as_bytes().to_vec()).to_bytes()
    }

    #[test]
    fn roots_are_read_in_order_up_to_the_first_that_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let told = |dir: &Path| Roots::read(dir).err().map(|error| error.to_string()).unwrap();
        assert!(told(dir.path()).starts_with("cannot read the root "));
        for (file, text) in [("root.json", "1"), ("root.2.json", "2"), ("root.4.json", "4")] {
            fs::write(dir.path().join(file), envelope(text)).unwrap();
        }
        let roots = Roots::read(dir.path()).unwrap();
        assert_eq!(roots.envelopes, [envelope("1"), envelope("2")]);
        assert_eq!(roots.genesis, Envelope::new("test", b"1".to_vec()).id());
        fs::write(dir.path().join("root.json"), "no envelope").unwrap();
        assert!(told(dir.path()).ends_with("root.json\" holds no root"));
    }

    #[test]
    fn the_state_is_its_owners_and_what_was_being_checked_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/state");
        let scratch = prepare(&state).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir_all(scratch.join("0/bin")).unwrap();
        prepare(&state).unwrap();
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    }

    #[test]
    fn the_state_of_another_user_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let state = match std::os::unix::fs::chown(dir.path(), Some(65_534), None) {
            Ok(()) => dir.path(),
            // Not root, whose this is.
            Err(_) => Path::new("/usr"),
        };
        let refused = prepare(state).unwrap_err();
        assert!(matches!(refused, FilesError::Foreign { .. }), "{refused}");
        let refused = begin_recovery(state, &Digest::of(b"root")).unwrap_err();
        assert!(matches!(refused, FilesError::Foreign { .. }), "{refused}");
        assert!(!state.join("scratch").exists());
    }

    #[test]
    fn members_are_remembered_and_a_spoilt_list_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_seeds(dir.path()), []);
        let seeds = ["127.0.0.1:7070".parse().unwrap(), "[::1]:9".parse().unwrap()];
        write_seeds(&seeds_path(dir.path()), &seeds).unwrap();
        assert_eq!(read_seeds(dir.path()), seeds);
        fs::write(seeds_path(dir.path()), b"\xff\n127.0.0.1:1\nx").unwrap();
        assert_eq!(read_seeds(dir.path()), ["127.0.0.1:1".parse().unwrap()]);
    }
}
