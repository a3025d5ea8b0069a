//! `shared/env`: the variables of a service on this host.
//!
//! One `NAME=VALUE` a line; empty lines and those that start with `#` do not count. A value is
//! everything after the first `=`, as it stands: nothing is quoted, expanded or trimmed. Values may
//! be secrets: no error and no log line holds one, and a file that others can read is refused.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Longest file read, in bytes.
const ENV_BYTES_MAX: u64 = 64 << 10;

/// The variables, by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

/// Why the file gives no variables.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// Values may be secrets, and decide what runs.
    #[error("{} can be read by others (mode {mode:04o}): chmod 600 it", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} belongs to the user with id {owner}: chown it to root or to the service's user", path.display())]
    Owner { path: PathBuf, owner: u32 },
    #[error("{} line {line}: {problem}", path.display())]
    Line { path: PathBuf, line: usize, problem: EnvProblem },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvProblem {
    #[error("must be NAME=VALUE")]
    NoValue,
    #[error("the name must be of A-Z, a-z, 0-9 and `_`, and not start with a digit")]
    Name,
    #[error("{0} starts with SWELL_, which the agent sets itself")]
    Reserved(String),
    #[error("{0} is set on line {1} already")]
    Twice(String, usize),
    #[error("the quotes around {0} would be part of the value: leave them out")]
    Quoted(String),
    #[error("{0} holds a control character")]
    Control(String),
    #[error("is not UTF-8")]
    NotText,
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names only: values may be secrets.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Variables {
    /// Reads the file at `path`; one that is not there sets nothing.
    ///
    /// # Errors
    ///
    /// [`EnvError`]: unreadable, or the first line that is not as it must be.
    pub fn load(path: &Path) -> Result<Self, EnvError> {
        let bytes = match durable::read_bounded(path, ENV_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(source) => return Err(EnvError::Read { path: path.to_owned(), source }),
        };
        Self::parse(&bytes).map_err(|(line, problem)| EnvError::Line {
            path: path.to_owned(),
            line,
            problem,
        })
    }

    /// The variables in the content of a file; else the line, 1 first, and its problem.
    fn parse(bytes: &[u8]) -> Result<Self, (usize, EnvProblem)> {
        let mut variables = BTreeMap::new();
        let mut lines = BTreeMap::new();
        for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let text = std::str::from_utf8(bytes).map_err(|_| (line, EnvProblem::NotText))?;
            if text.trim().is_empty() || text.trim_start().starts_with('#') {
                continue;
            }
            let (name, value) = variable(text).map_err(|problem| (line, problem))?;
            if let Some(first) = lines.insert(name, line) {
                return Err((line, EnvProblem::Twice(name.to_owned(), first)));
            }
            variables.insert(name.to_owned(), value.to_owned());
        }
        Ok(Self(variables))
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Variables {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

/// Whether the file, if there is one, is of root, of the agent or of the user with the id `user`,
/// and nobody else can read or write it. Asked before something new is brought, not when a way back
/// depends on it.
///
/// # Errors
///
/// [`EnvError`]: it is not.
pub(super) fn check_access(path: &Path, user: Option<u32>) -> Result<(), EnvError> {
    // What else is wrong with it shows when it is read.
    let Ok(metadata) = path.metadata() else { return Ok(()) };
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if !metadata.is_file() {
        return Ok(());
    }
    if owner != 0 && owner != geteuid().as_raw() && Some(owner) != user {
        return Err(EnvError::Owner { path: path.to_owned(), owner });
    }
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(EnvError::Open { path: path.to_owned(), mode }),
    }
}

fn variable(text: &str) -> Result<(&str, &str), EnvProblem> {
    let (name, value) = text.split_once('=').ok_or(EnvProblem::NoValue)?;
    if !is_variable_name(name) {
        return Err(EnvProblem::Name);
    }
    if name.starts_with("SWELL_") {
        return Err(EnvProblem::Reserved(name.to_owned()));
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(EnvProblem::Control(name.to_owned()));
    }
    let quoted = |quote| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    if quoted('"') || quoted('\'') {
        return Err(EnvProblem::Quoted(name.to_owned()));
    }
    Ok((name, value))
}

/// Whether `name` can be the name of a variable.
pub(crate) fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn values_stand_as_they_are() {
        let text = b"# comment\n\nLISTEN=127.0.0.1:8080\n  # another\nEMPTY=\nURL=a=b c $HOME \n";
        let parsed = Variables::parse(text).unwrap();
        let expected =
            Variables::from([("LISTEN", "127.0.0.1:8080"), ("EMPTY", ""), ("URL", "a=b c $HOME ")]);
        assert_eq!(parsed, expected);
        assert_eq!(parsed.get("URL"), Some("a=b c $HOME "), "not trimmed, not expanded");
        assert_eq!(parsed.get("HOME"), None);
    }

    #[test]
    fn bad_lines_table() {
        let cases: [(&str, &[u8], usize, &str); 10] = [
            ("no value", b"A=1\nB\n", 2, "must be NAME=VALUE"),
            ("export", b"export A=1", 1, "the name must be of"),
            ("a digit first", b"1A=1", 1, "the name must be of"),
            ("no name", b"=1", 1, "the name must be of"),
            ("reserved", b"\nSWELL_DIR=/", 2, "SWELL_DIR starts with SWELL_"),
            ("twice", b"A=1\n#\nA=secret", 3, "A is set on line 1 already"),
            ("quotes", b"A=\"secret\"", 1, "the quotes around A would be part"),
            ("DOS line end", b"A=secret\r\nB=1", 1, "A holds a control character"),
            ("NUL", b"A=sec\0ret", 1, "A holds a control character"),
            ("not UTF-8", b"A=1\nB=\xff", 2, "is not UTF-8"),
        ];
        for (case, text, line, expected) in cases {
            let (got_line, problem) = Variables::parse(text).unwrap_err();
            let problem = problem.to_string();
            assert_eq!(got_line, line, "{case}: {problem}");
            assert!(problem.contains(expected), "{case}: {problem}");
            assert!(!problem.contains("secret"), "{case}: values are never shown: {problem}");
        }
    }

    #[test]
    fn the_error_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        let load = || Variables::load(&path);
        assert_eq!(load().unwrap(), Variables::default(), "no file, no variables");
        std::fs::write(&path, "A=1\nB\n").unwrap();
        let expected = format!("{} line 2: must be NAME=VALUE", path.display());
        assert_eq!(load().unwrap_err().to_string(), expected);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(load().unwrap_err().to_string().starts_with("cannot read "));
    }

    #[test]
    fn r23_what_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "SECRET=1\n").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = check_access(&path, None);
            assert_eq!(read.is_ok(), good, "{mode:o}");
            let shown = read.map_or_else(|error| error.to_string(), |()| String::new());
            assert!(
                good || shown.ends_with(&format!("(mode {mode:04o}): chmod 600 it")),
                "{shown}"
            );
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
            let error = check_access(&path, None).unwrap_err().to_string();
            assert!(error.contains("belongs to the user with id 65534: chown it"), "{error}");
            assert!(check_access(&path, Some(65_534)).is_ok(), "the service's own");
        }
    }

    #[test]
    fn values_are_not_in_debug_output() {
        let variables = Variables::from([("PASSWORD", "hunter2")]);
        assert_eq!(format!("{variables:?}"), "{\"PASSWORD\"}");
    }
}
