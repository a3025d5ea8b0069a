//! What an activation has come to: one small file per service, replaced whole.
//!
//! It is written before the step it names can be seen from outside, or right after the step it
//! names is done, so that from it and from where `current` points the way back is always known. It
//! is never removed: the last attempt's end is what a restarted agent reports.

use std::io;
use std::path::{Path, PathBuf};

use durable::{Disk, RealDisk, ReplaceError, replace};
use proto::receipt::Cause;
use proto::{Digest, Service};
use serde::{Deserialize, Serialize};

/// The form of the file.
const FORMAT: u32 = 1;
/// Longest file read, in bytes.
const JOURNAL_BYTES_MAX: u64 = 16 << 10;
/// Longest note kept, in characters.
const NOTE_CHARS: usize = 500;

/// What was done last, in the order of the way forward and then of the way back (R22).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    /// Both trees are verified; what runs is being taken out of use, if it can be, and stopped.
    Staged,
    /// What runs is out of use, and is being stopped.
    Drained,
    /// Nothing runs; `current` may point at either.
    Stopped,
    /// `current` points at `to`, which is being started.
    Swapped,
    /// It is started; the first good answer is waited for.
    Started,
    /// It answers and says that it is well; it is being put into use.
    Checked,
    /// `to` serves and is watched.
    Baking,
    /// The bake passed: an end.
    Committed,
    /// On the way back to `from`.
    Reverting { cause: Cause, note: String },
    /// `from` serves, or nothing where there is none: an end.
    Reverted { cause: Cause, note: String },
    /// `from` does not serve: an end, and a person is needed.
    RevertFailed { cause: Cause, note: String },
}

impl Step {
    /// Whether it is an end with the service as it should be.
    pub(super) const fn is_settled(&self) -> bool {
        matches!(self, Self::Committed | Self::Reverted { .. })
    }

    /// The name, as in the file.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
            Self::Swapped => "swapped",
            Self::Started => "started",
            Self::Checked => "checked",
            Self::Baking => "baking",
            Self::Committed => "committed",
            Self::Reverting { .. } => "reverting",
            Self::Reverted { .. } => "reverted",
            Self::RevertFailed { .. } => "revert-failed",
        }
    }
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    format: u32,
    /// Number of the step as the rollout core counts them; each has its own (R18).
    pub attempt: u64,
    /// Where every way back goes; none: to nothing (R25).
    pub from: Option<Digest>,
    /// What is brought; on a way back that was asked for, what is left.
    pub to: Digest,
    pub step: Step,
    /// The boot during which this was written: what ran in another one runs no more.
    pub boot: String,
    /// `to` was taken in as it ran, during this boot: the way back leaves it running. (An agent that
    /// does not know this would stop it: it refuses the whole file.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<String>,
}

/// Why the journal is of no use.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot read the activation journal {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is not an activation journal: {why}. Look at what `current` points at, \
         then move this file away",
        path.display()
    )]
    Malformed { path: PathBuf, why: String },
    #[error("cannot write the activation journal {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: ReplaceError,
    },
}

impl Journal {
    pub(super) fn new(
        attempt: u64,
        from: Option<Digest>,
        to: Digest,
        step: Step,
        boot: &str,
    ) -> Self {
        Self { format: FORMAT, attempt, from, to, step, boot: boot.to_owned(), adopted: None }
    }

    /// The same, of an adoption or not.
    pub(super) fn adopted(self, adopted: Option<String>) -> Self {
        Self { adopted, ..self }
    }

    /// The journal at `path`; none before a service's first activation.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: unreadable, or not a journal of this version.
    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, JournalError> {
        let bytes = match disk.read(path, JOURNAL_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JournalError::Read { path: path.to_owned(), source }),
        };
        let malformed = |why: String| JournalError::Malformed { path: path.to_owned(), why };
        let journal: Self =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        match journal.format {
            FORMAT => Ok(Some(journal)),
            other => Err(malformed(format!("format {other}, this version reads {FORMAT}"))),
        }
    }

    /// Makes it durable at `path`.
    ///
    /// # Errors
    ///
    /// [`JournalError::Write`]; the file is the old one or this one.
    pub(super) fn store(&self, disk: &dyn Disk, path: &Path) -> Result<(), JournalError> {
        let bytes = serde_json::to_vec(self).expect("journals serialize");
        replace(disk, path, &bytes)
            .map_err(|source| JournalError::Write { path: path.to_owned(), source })
    }
}

/// Where the journals of all services are, as `SERVICE.json`.
pub fn journals(state_dir: &Path) -> PathBuf {
    state_dir.join("activations")
}

/// Where a service's journal is, below the directory of services.
pub(super) fn path(state_dir: &Path, service: &Service) -> PathBuf {
    journals(state_dir).join(format!("{service}.json"))
}

/// The services that have a journal below `state_dir`, which were activated here at least once.
///
/// # Errors
///
/// The directory cannot be read; one that is not there is no error.
pub fn activated(state_dir: &Path) -> io::Result<Vec<Service>> {
    let names = match RealDisk.list(&journals(state_dir)) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let services = names.iter().filter_map(|name| name.to_str()?.strip_suffix(".json"));
    Ok(services.filter_map(|service| service.parse().ok()).collect())
}

/// `note`, short enough for the journal and without what would grow in JSON.
pub(super) fn shortened(note: &str) -> String {
    note.chars().map(|c| if c.is_control() { ' ' } else { c }).take(NOTE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use durable::SimDisk;

    use super::*;

    fn journal(step: Step) -> Journal {
        Journal::new(2, None, Digest::of(b"to"), step, "boot")
    }

    #[test]
    fn every_step_is_read_back() {
        let disk = SimDisk::new();
        let path = Path::new("/journal");
        assert_eq!(Journal::load(&disk, path).unwrap(), None, "before the first activation");
        let (cause, note) = (Cause::Release, shortened("a\n\"note\""));
        for step in [
            Step::Staged,
            Step::Drained,
            Step::Stopped,
            Step::Swapped,
            Step::Started,
            Step::Checked,
            Step::Baking,
            Step::Committed,
            Step::Reverting { cause, note: note.clone() },
            Step::Reverted { cause, note: note.clone() },
            Step::RevertFailed { cause, note },
        ] {
            let journal = journal(step);
            journal.store(&disk, path).unwrap();
            let text = String::from_utf8(disk.read(path, 1_000).unwrap()).unwrap();
            assert!(text.contains(journal.step.name()), "{text}");
            assert_eq!(Journal::load(&disk, path).unwrap(), Some(journal));
        }
    }

    #[test]
    fn the_longest_note_fits() {
        let disk = SimDisk::new();
        let path = Path::new("/journal");
        let note = shortened(&"\u{10ffff}\"\\\n".repeat(1_000));
        let journal = journal(Step::RevertFailed { cause: Cause::Host, note });
        journal.store(&disk, path).unwrap();
        assert_eq!(Journal::load(&disk, path).unwrap(), Some(journal));
    }

    #[test]
    fn anything_else_is_refused() {
        let good = serde_json::to_string(&journal(Step::Baking)).unwrap();
        let cases = [
            ("torn", good[..good.len() / 2].to_owned(), "EOF"),
            ("empty", String::new(), "EOF"),
            ("a later format", good.replace("\"format\":1", "\"format\":2"), "format 2"),
            ("an unknown field", good.replace("{\"format\"", "{\"new\":1,\"format\""), "unknown"),
            ("an unknown step", good.replace("baking", "boiling"), "unknown variant"),
        ];
        for (case, text, expected) in cases {
            let disk = SimDisk::new();
            disk.create(Path::new("/journal"), text.as_bytes()).unwrap();
            let error = Journal::load(&disk, Path::new("/journal")).unwrap_err().to_string();
            assert!(
                error.starts_with("/journal is not an activation journal: "),
                "{case}: {error}"
            );
            assert!(error.contains(expected), "{case}: {error}");
        }
    }
}
