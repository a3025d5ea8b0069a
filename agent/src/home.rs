//! What makes a server a host of its fleet, on disk: key, certificate, first root, first addresses.
//!
//! ```text
//! STATE_DIR/
//!   host.key       secret key, 0600, made here and never sent anywhere
//!   machine-id     of the machine the key was made on: a copied disk is not this host
//!   joined.json    what the coordinator answered; written last, so there is all of it or nothing
//!   host.crt       certificate, DER; replaced at renewal
//!   seeds          addresses of members, one a line; refreshed while the agent runs
//!   store/         statements and artifacts
//!   services/      journals and logs
//!   audit.json     heads of the coordinator's audit record that it was told of
//!   evidence/      what there was to see of attempts that have ended
//! ```

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use durable::{RealDisk, ReplaceError, SecretError, make_secret_dir};
use ed25519_dalek::SigningKey;
use proto::Digest;
use proto::audit::Memory;
use proto::key::{SECRET_BYTES_MAX, secret_from_text, secret_to_text};
use serde::{Deserialize, Serialize};

/// Longest `joined.json` read, in bytes; a chain of roots fits.
const JOINED_BYTES_MAX: u64 = 4 << 20;
const CERTIFICATE_BYTES_MAX: u64 = 16 << 10;
const SEEDS_BYTES_MAX: u64 = 64 << 10;
/// Longest `audit.json`, in bytes: [`Memory`] is bounded far below.
const AUDIT_BYTES_MAX: u64 = 1 << 20;
/// Addresses kept: enough that a cold fleet finds itself (R10).
const SEEDS_MAX: usize = 64;

/// What a host keeps of its joining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    /// Id of root version 1, from the token: all trust hangs on it.
    pub root: Digest,
    /// Envelopes of the roots known then, version 1 first.
    pub roots: Vec<String>,
    /// Envelope of this host's statement.
    pub host: String,
}

/// Why a host's files cannot be used. The text is for people.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error("this server has not joined a fleet: {} is missing; \
             run `swell-agent join TOKEN` first", path.display())]
    NotJoined { path: PathBuf },
    #[error("this server has joined a fleet already ({} is there); \
             to start over, stop the agent and move {} away", path.display(), dir.display())]
    JoinedAlready { path: PathBuf, dir: PathBuf },
    #[error("the host key was made on another machine: this disk is a copy. \
             Move {} away and join again as a new host. (Not a copy? Then run as the user who \
             joined: others may not read the machine's id)", dir.display())]
    Copied { dir: PathBuf },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("the host key cannot be used")]
    Key(#[from] SecretError),
    #[error("cannot write the host's files")]
    Write(#[from] ReplaceError),
    #[error("cannot make {}", path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The state directory of an agent.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

impl Home {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    pub fn services(&self) -> PathBuf {
        self.dir.join("services")
    }

    pub fn evidence(&self) -> PathBuf {
        self.dir.join("evidence")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes the directory, readable by its owner alone.
    ///
    /// # Errors
    ///
    /// [`HomeError::Make`].
    pub fn make(&self) -> Result<(), HomeError> {
        let failed = |source| HomeError::Make { path: self.dir.clone(), source };
        make_secret_dir(&self.dir).map_err(failed)
    }

    // --- key ---

    /// The key that a join of this machine began with, or a new one.
    ///
    /// # Errors
    ///
    /// [`HomeError`]: joined already, copied from another machine, unreadable.
    pub fn key_for_join(&self) -> Result<SigningKey, HomeError> {
        let (path, dir) = (self.path("joined.json"), self.dir.clone());
        if is_there(&path)? {
            return Err(HomeError::JoinedAlready { path, dir });
        }
        if is_there(&self.path("host.key"))? {
            return self.key();
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).expect("the kernel's random source is there");
        let key = SigningKey::from_bytes(&seed);
        // First the machine, then the key: a key is never without the machine it belongs to.
        durable::replace(&RealDisk, &self.path("machine-id"), machine_id().as_bytes())?;
        durable::create_secret(&self.path("host.key"), secret_to_text(&key).as_bytes())?;
        Ok(key)
    }

    /// The host's key, on the machine it was made on.
    ///
    /// # Errors
    ///
    /// [`HomeError`]: not joined, copied from another machine, unreadable, damaged.
    pub fn key(&self) -> Result<SigningKey, HomeError> {
        let path = self.path("host.key");
        if !is_there(&path)? {
            return Err(HomeError::NotJoined { path });
        }
        let bound_to = self.read("machine-id", 256)?;
        if bound_to != machine_id().as_bytes() {
            return Err(HomeError::Copied { dir: self.dir.clone() });
        }
        let text = durable::read_secret(&path, SECRET_BYTES_MAX)?;
        secret_from_text(&text)
            .ok_or_else(|| HomeError::Damaged { path, why: "not a key file".to_owned() })
    }

    // --- joined ---

    /// Keeps what the coordinator answered; from then on the host has joined.
    ///
    /// # Errors
    ///
    /// [`HomeError::Write`].
    pub fn save(
        &self,
        joined: &Joined,
        certificate: &[u8],
        seeds: &[SocketAddr],
    ) -> Result<(), HomeError> {
        self.save_certificate(certificate)?;
        self.save_seeds(seeds)?;
        let json = serde_json::to_vec_pretty(joined).expect("strings serialize");
        Ok(durable::replace(&RealDisk, &self.path("joined.json"), &json)?)
    }

    /// What the coordinator answered.
    ///
    /// # Errors
    ///
    /// [`HomeError`]: not joined, unreadable, damaged.
    pub fn joined(&self) -> Result<Joined, HomeError> {
        let path = self.path("joined.json");
        if !is_there(&path)? {
            return Err(HomeError::NotJoined { path });
        }
        serde_json::from_slice(&self.read("joined.json", JOINED_BYTES_MAX)?)
            .map_err(|error| HomeError::Damaged { path, why: error.to_string() })
    }

    /// The certificate in force, DER.
    ///
    /// # Errors
    ///
    /// [`HomeError::Read`].
    pub fn certificate(&self) -> Result<Vec<u8>, HomeError> {
        self.read("host.crt", CERTIFICATE_BYTES_MAX)
    }

    /// Replaces the certificate.
    ///
    /// # Errors
    ///
    /// [`HomeError::Write`].
    pub fn save_certificate(&self, der: &[u8]) -> Result<(), HomeError> {
        Ok(durable::replace(&RealDisk, &self.path("host.crt"), der)?)
    }

    /// Addresses to look for members at. What is no address is left out: a seed is a hint.
    ///
    /// # Errors
    ///
    /// [`HomeError::Read`].
    pub fn seeds(&self) -> Result<Vec<SocketAddr>, HomeError> {
        let text = self.read("seeds", SEEDS_BYTES_MAX)?;
        let lines = String::from_utf8_lossy(&text).into_owned();
        Ok(lines.lines().filter_map(|line| line.parse().ok()).take(SEEDS_MAX).collect())
    }

    /// Replaces the addresses.
    ///
    /// # Errors
    ///
    /// [`HomeError::Write`].
    pub fn save_seeds(&self, seeds: &[SocketAddr]) -> Result<(), HomeError> {
        let text: String = seeds.iter().take(SEEDS_MAX).map(|seed| format!("{seed}\n")).collect();
        Ok(durable::replace(&RealDisk, &self.path("seeds"), text.as_bytes())?)
    }

    // --- audit record ---

    /// What this host remembers of the audit record; nothing, where there is no file.
    ///
    /// # Errors
    ///
    /// [`HomeError`]: unreadable, damaged.
    pub fn audit(&self) -> Result<Memory, HomeError> {
        let path = self.path("audit.json");
        if !is_there(&path)? {
            return Ok(Memory::default());
        }
        serde_json::from_slice(&self.read("audit.json", AUDIT_BYTES_MAX)?)
            .map(Memory::bounded)
            .map_err(|error| HomeError::Damaged { path, why: error.to_string() })
    }

    /// Replaces that.
    ///
    /// # Errors
    ///
    /// [`HomeError::Write`].
    pub fn save_audit(&self, memory: &Memory) -> Result<(), HomeError> {
        let json = serde_json::to_vec(memory).expect("what is remembered serializes");
        Ok(durable::replace(&RealDisk, &self.path("audit.json"), &json)?)
    }

    /// Keeps a file that does not read, for people, out of the way.
    ///
    /// # Errors
    ///
    /// [`HomeError::Read`]: it stays.
    pub fn put_audit_aside(&self) -> Result<(), HomeError> {
        let path = self.path("audit.json");
        std::fs::rename(&path, self.path("audit.json.damaged"))
            .map_err(|source| HomeError::Read { path, source })
    }

    fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, HomeError> {
        let path = self.path(name);
        durable::read_bounded(&path, bytes_max).map_err(|source| HomeError::Read { path, source })
    }
}

/// Whether there is such a file. Who may not know is told that, and not to join once more.
fn is_there(path: &Path) -> Result<bool, HomeError> {
    path.try_exists().map_err(|source| HomeError::Read { path: path.to_owned(), source })
}

/// What tells this machine from a copy of its disk on another one; empty where nothing does.
fn machine_id() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let parts = [read("/etc/machine-id"), read("/sys/class/dmi/id/product_uuid")];
    // The ids themselves are nobody's business.
    format!("{:#}\n", Digest::of(parts.map(|part| part.trim().to_owned()).join("\n").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(&dir.path().join("state"));
        home.make().unwrap();
        (dir, home)
    }

    fn joined() -> Joined {
        Joined { root: Digest::of(b"root"), roots: vec!["{}".into()], host: "{}".into() }
    }

    #[test]
    fn a_join_that_was_cut_off_goes_on_with_the_same_key() {
        let (_dir, home) = home();
        let first = home.key_for_join().unwrap();
        assert_eq!(home.key_for_join().unwrap().to_bytes(), first.to_bytes());
        assert!(matches!(home.joined(), Err(HomeError::NotJoined { .. })));
    }

    #[test]
    fn a_host_that_has_joined_does_not_join_again() {
        let (_dir, home) = home();
        home.key_for_join().unwrap();
        let seeds = ["127.0.0.1:7070".parse().unwrap()];
        home.save(&joined(), b"certificate", &seeds).unwrap();
        assert!(matches!(home.key_for_join(), Err(HomeError::JoinedAlready { .. })));
        assert_eq!(home.joined().unwrap(), joined());
        assert_eq!(home.certificate().unwrap(), b"certificate");
        assert_eq!(home.seeds().unwrap(), seeds);
    }

    #[test]
    fn r9_a_copied_disk_is_refused() {
        let (_dir, home) = home();
        home.key_for_join().unwrap();
        std::fs::write(home.path("machine-id"), "of another machine\n").unwrap();
        let error = home.key().unwrap_err();
        assert!(error.to_string().contains("join again as a new host"), "{error}");
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_taken_for_missing() {
        let (dir, _) = home();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let home = Home::new(&file);
        assert!(matches!(home.key(), Err(HomeError::Read { .. })));
        assert!(matches!(home.joined(), Err(HomeError::Read { .. })));
        assert!(matches!(home.key_for_join(), Err(HomeError::Read { .. })));
    }

    #[test]
    fn the_key_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, home) = home();
        home.key_for_join().unwrap();
        let mode = |name: &str| std::fs::metadata(home.path(name)).unwrap().permissions().mode();
        assert_eq!(mode("host.key") & 0o777, 0o600);
        std::fs::set_permissions(home.path("host.key"), PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(home.key(), Err(HomeError::Key(_))));
    }
}
