//! The operator's directory: `$SWELL_DIR`, what stands in it, and what is missing for what.
//!
//! `operator.toml` says which fleet this is and where its coordinator is; `root.json` is the first
//! root, pinned by its digest; keys are files beside them. Not all keys need to be there: CI has
//! `operator.toml`, `root.json` and `publisher.key` and can do what that key may.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use durable::SecretError;
use ed25519_dalek::SigningKey;
use proto::dsse::{Envelope, EnvelopeError};
use proto::id::{Digest, FleetId, KeyId};
use proto::key::{SECRET_BYTES_MAX, secret_from_text};
use proto::report::FleetReport;
use proto::statement::{Kind, Role, Root, Statement, UnixTime};
use proto::trust::{Chain, Refusal};
use serde::{Deserialize, Serialize};

use crate::failure::Advise;
use crate::witnesses::Witnesses;

/// The file that makes a directory an operator's directory.
pub(crate) const OPERATOR_TOML: &str = "operator.toml";
/// The first root's envelope.
pub(crate) const ROOT_JSON: &str = "root.json";
/// The hosts as last seen, for `--via NAME`.
const HOSTS_JSON: &str = "hosts.json";
/// Whom `swell audit --verify` asks.
const WITNESSES_JSON: &str = "witnesses.json";
/// Longest `operator.toml`, and longest `hosts.json`, in bytes.
const OPERATOR_BYTES_MAX: u64 = 64 << 10;
const HOSTS_BYTES_MAX: u64 = 64 << 20;

/// `operator.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Operator {
    pub(crate) fleet: FleetId,
    /// Id of the first root; what is trusted starts here.
    pub(crate) root: Digest,
    pub(crate) coordinator: SocketAddr,
    /// The coordinator's key, for people; `root.json` decides.
    pub(crate) coordinator_key: KeyId,
    #[serde(default)]
    pub(crate) keys: KeyFiles,
}

/// `[keys]`: file names, relative to the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeyFiles {
    pub(crate) root: PathBuf,
    pub(crate) operator: PathBuf,
    pub(crate) publisher: PathBuf,
}

impl Default for KeyFiles {
    fn default() -> Self {
        Self {
            root: "root.key".into(),
            operator: "operator.key".into(),
            publisher: "publisher.key".into(),
        }
    }
}

/// The keys this command signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyName {
    Operator,
    Publisher,
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Publisher => "publisher",
        })
    }
}

/// An opened operator's directory.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) dir: PathBuf,
    pub(crate) operator: Operator,
    /// The first root; the only one until root rotation is built.
    pub(crate) root: Root,
    root_envelope: Vec<u8>,
}

/// Why the operator's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    #[error("cannot tell which directory to use: neither --dir, $SWELL_DIR nor $HOME is set")]
    Nowhere,
    #[error("there is no fleet in {}: it holds no {OPERATOR_TOML}", dir.display())]
    NoFleet { dir: PathBuf },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is malformed", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("{} holds no root", path.display())]
    NoRoot {
        path: PathBuf,
        #[source]
        source: EnvelopeError,
    },
    #[error("{} is not the root {OPERATOR_TOML} pins: it is {got}, pinned is {pinned}", path.display())]
    OtherRoot { path: PathBuf, got: Digest, pinned: Digest },
    #[error("{OPERATOR_TOML} and {ROOT_JSON} in {} do not belong together: {why}", dir.display())]
    Mixed { dir: PathBuf, why: String },
    #[error("the {name} key is not in {}: it is needed to {purpose}", dir.display())]
    NoKey { name: KeyName, file: PathBuf, dir: PathBuf, purpose: &'static str },
    #[error("cannot use the {name} key to {purpose}")]
    Key {
        name: KeyName,
        purpose: &'static str,
        #[source]
        source: SecretError,
    },
    #[error("{} holds no key: it is not one line of the form swell init writes", path.display())]
    NotAKey { path: PathBuf },
    #[error("the root in {ROOT_JSON} cannot be trusted")]
    Root(#[source] Refusal),
}

impl Advise for HomeError {
    fn next(&self) -> Option<String> {
        match self {
            Self::Nowhere | Self::NoFleet { .. } => Some(
                "name the directory by --dir or $SWELL_DIR, or make a fleet: swell init --fleet NAME \
                 --coordinator IP:PORT"
                    .to_owned(),
            ),
            Self::NoKey { file, .. } => {
                Some(format!("put {} there, or run this where it is", file.display()))
            }
            Self::OtherRoot { .. } | Self::Mixed { .. } => {
                Some(format!("copy {OPERATOR_TOML} and {ROOT_JSON} from one and the same directory"))
            }
            Self::Read { .. }
            | Self::Malformed { .. }
            | Self::NoRoot { .. }
            | Self::Key { .. }
            | Self::NotAKey { .. }
            | Self::Root(_) => None,
        }
    }
}

/// Where the operator's directory is: `--dir` (or `$SWELL_DIR`), else below the home directory.
///
/// # Errors
///
/// [`HomeError::Nowhere`].
pub(crate) fn locate(dir: Option<PathBuf>) -> Result<PathBuf, HomeError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let below_home = || set("HOME").map(|home| PathBuf::from(home).join(".config/groundswell"));
    let named = dir.or_else(|| set("SWELL_DIR").map(PathBuf::from));
    named.or_else(below_home).ok_or(HomeError::Nowhere)
}

/// The time of this machine: for expiry and as `created`, never to compare what hosts did.
pub(crate) fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}

impl Home {
    /// Opens `dir` and checks that its parts belong together; reads no key.
    ///
    /// # Errors
    ///
    /// [`HomeError`]: what is missing, malformed or of another fleet.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, HomeError> {
        let operator = read_operator(&dir)?;
        let path = dir.join(ROOT_JSON);
        let root_envelope = read(&path, Kind::Root.envelope_bytes_max() as u64)?;
        let envelope = Envelope::parse(&root_envelope, Kind::Root.envelope_bytes_max())
            .map_err(|source| HomeError::NoRoot { path: path.clone(), source })?;
        let (got, pinned) = (envelope.id(), operator.root);
        if got != pinned {
            return Err(HomeError::OtherRoot { path, got, pinned });
        }
        let mixed = |why: String| HomeError::Mixed { dir: dir.clone(), why };
        let Ok(Statement::Root(root)) = Statement::parse(&envelope) else {
            return Err(mixed(format!("{ROOT_JSON} is no root")));
        };
        if root.fleet != operator.fleet {
            return Err(mixed(format!("{} and {}", operator.fleet, root.fleet)));
        }
        if !root.keys_of(&Role::Admit).any(|(id, _)| *id == operator.coordinator_key) {
            let key = &operator.coordinator_key;
            return Err(mixed(format!("coordinator_key = {key} does not hold the role admit")));
        }
        Ok(Self { dir, operator, root, root_envelope })
    }

    /// What is trusted: the first root, as pinned.
    ///
    /// # Errors
    ///
    /// [`HomeError::Root`].
    pub(crate) fn chain(&self) -> Result<Chain, HomeError> {
        Chain::genesis(&self.root_envelope, self.operator.root).map_err(HomeError::Root)
    }

    /// The key, which is there to `purpose` (`sign a rollout`).
    ///
    /// # Errors
    ///
    /// [`HomeError`]: not there, readable by others, malformed.
    pub(crate) fn key(
        &self,
        name: KeyName,
        purpose: &'static str,
    ) -> Result<SigningKey, HomeError> {
        let file = self.key_file(name);
        let path = self.dir.join(file);
        match durable::read_secret(&path, SECRET_BYTES_MAX) {
            Ok(text) => secret_from_text(&text).ok_or(HomeError::NotAKey { path }),
            Err(SecretError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let (dir, file) = (self.dir.clone(), file.to_owned());
                Err(HomeError::NoKey { name, file, dir, purpose })
            }
            Err(source) => Err(HomeError::Key { name, purpose, source }),
        }
    }

    /// A key to be let in with: the operator's, or the publisher's where that is all there is.
    ///
    /// # Errors
    ///
    /// As [`Self::key`], of the operator's key.
    pub(crate) fn any_key(&self, purpose: &'static str) -> Result<SigningKey, HomeError> {
        let name = match self.dir.join(self.key_file(KeyName::Operator)).exists() {
            false if self.dir.join(self.key_file(KeyName::Publisher)).exists() => {
                KeyName::Publisher
            }
            _ => KeyName::Operator,
        };
        self.key(name, purpose)
    }

    fn key_file(&self, name: KeyName) -> &Path {
        match name {
            KeyName::Operator => &self.operator.keys.operator,
            KeyName::Publisher => &self.operator.keys.publisher,
        }
    }

    /// Remembers the hosts, so that `--via NAME` works when the coordinator does not.
    ///
    /// A directory that cannot be written (CI) is no reason to fail: then there is nothing to
    /// remember.
    pub(crate) fn remember_hosts(&self, report: &FleetReport) {
        self.cache(HOSTS_JSON, report);
        let (before, mut now) = (self.witnesses(), self.witnesses());
        now.take_in(&report.hosts);
        if now != before {
            self.remember_witnesses(&now);
        }
    }

    /// Every host that was ever seen from here.
    pub(crate) fn witnesses(&self) -> Witnesses {
        let read = durable::read_bounded(&self.dir.join(WITNESSES_JSON), HOSTS_BYTES_MAX).ok();
        read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(crate) fn remember_witnesses(&self, witnesses: &Witnesses) {
        self.cache(WITNESSES_JSON, witnesses);
    }

    fn cache(&self, name: &str, what: &impl Serialize) {
        let bytes = serde_json::to_vec(what).expect("what is remembered serializes");
        // Renamed in whole, since two commands may run at a time; not synced, since it is a cache.
        let beside = self.dir.join(format!(".{name}.{}", std::process::id()));
        let written =
            fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, self.dir.join(name)));
        if let Err(error) = written {
            tracing::debug!(%error, name, "it is not remembered");
        }
    }

    /// The fleet as it was last seen, if it ever was.
    pub(crate) fn remembered_hosts(&self) -> Option<FleetReport> {
        let bytes = durable::read_bounded(&self.dir.join(HOSTS_JSON), HOSTS_BYTES_MAX).ok()?;
        let report: FleetReport = serde_json::from_slice(&bytes).ok()?;
        (report.fleet == self.operator.fleet).then_some(report)
    }
}

/// Reads `operator.toml` in `dir`.
///
/// # Errors
///
/// [`HomeError`]: not there, malformed.
pub(crate) fn read_operator(dir: &Path) -> Result<Operator, HomeError> {
    let path = dir.join(OPERATOR_TOML);
    let bytes = match read(&path, OPERATOR_BYTES_MAX) {
        Err(HomeError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(HomeError::NoFleet { dir: dir.to_owned() });
        }
        other => other?,
    };
    let malformed = |source| HomeError::Malformed { path: path.clone(), source: Box::new(source) };
    toml::from_str(&String::from_utf8_lossy(&bytes)).map_err(malformed)
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, HomeError> {
    durable::read_bounded(path, bytes_max)
        .map_err(|source| HomeError::Read { path: path.to_owned(), source })
}

/// Whether anything stands at `path`, a dangling link included.
pub(crate) fn stands(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
