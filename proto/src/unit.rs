//! Unit files of systemd, as far as they are looked at before systemd reads them.
//!
//! Systemd has the last word on what a unit file means. Here only what is plainly none is told apart
//! (too long, not text, no service in it), so that it is refused when it is published rather than
//! on a canary; and a host looks up what it must know before it lets one run.

/// Longest unit file, in bytes.
pub const UNIT_BYTES_MAX: usize = 64 << 10;
/// Longest name of a unit, in bytes.
const NAME_BYTES_MAX: usize = 128;
const SUFFIX: &str = ".service";

/// Whether `name` can be that of a unit that a release runs as: of `A-Z a-z 0-9 _ . @ -`, ending in
/// `.service`, and none of a template without an instance.
pub fn is_unit_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(SUFFIX) else { return false };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && stem.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && !stem.ends_with('@')
        && name.bytes().all(good)
}

/// The assignments of a unit file, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    /// Section, key, value.
    assignments: Vec<(String, String, String)>,
}

/// Why a file is no unit file of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("is {0} bytes long, at most {UNIT_BYTES_MAX} are read")]
    TooLong(usize),
    #[error("is not UTF-8")]
    NotText,
    #[error("has no [Service] section")]
    NoService,
}

impl UnitFile {
    /// Takes the content of a file apart: sections, assignments, comments and lines that go on
    /// after a `\`, as systemd does. What is no assignment is passed over.
    ///
    /// # Errors
    ///
    /// [`UnitError`]: it is plainly no unit file of a service.
    pub fn parse(bytes: &[u8]) -> Result<Self, UnitError> {
        if bytes.len() > UNIT_BYTES_MAX {
            return Err(UnitError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| UnitError::NotText)?;
        let (mut section, mut has_service) = (String::new(), false);
        let mut assignments = Vec::new();
        for line in joined(text) {
            let line = line.trim();
            let header = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            if let Some(name) = header {
                section = name.to_owned();
                has_service |= name == "Service";
            } else if let Some((key, value)) = line.split_once('=') {
                let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                assignments.push((section.clone(), key, value));
            }
        }
        has_service.then_some(Self { assignments }).ok_or(UnitError::NoService)
    }

    /// All that `[Service]` assigns, in order: keys and values. An empty value takes back what
    /// stands before it under the same key.
    pub fn service(&self) -> impl Iterator<Item = (&str, &str)> {
        let own = self.assignments.iter().filter(|(section, ..)| section == "Service");
        own.map(|(_, key, value)| (key.as_str(), value.as_str()))
    }

    /// The user that the service runs as: the last `User=`, if any.
    pub fn user(&self) -> Option<&str> {
        let last = self.service().filter(|(key, _)| *key == "User").last();
        last.map(|(_, value)| value).filter(|value| !value.is_empty())
    }
}

/// The lines of a file without comments, each with those that go on where it ends in a `\`.
fn joined(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => {
                begun.push_str(part);
                begun.push(' ');
            }
            None => {
                begun.push_str(line);
                lines.push(std::mem::take(&mut begun));
            }
        }
    }
    lines.push(begun);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_table() {
        for good in ["web.service", "web@1.service", "A_b-c.d.service", "0.service", "_.service"] {
            assert!(is_unit_name(good), "{good}");
        }
        let long = format!("{}.service", "a".repeat(NAME_BYTES_MAX));
        for bad in [
            "",
            ".service",
            "web",
            "web.socket",
            "web@.service",
            "-.service",
            "../web.service",
            "bin/web.service",
            "wéb.service",
            "web .service",
            "web*.service",
            long.as_str(),
        ] {
            assert!(!is_unit_name(bad), "{bad}");
        }
    }

    #[test]
    fn a_unit_file_is_taken_apart_as_systemd_does() {
        let text = "# comment\n[Unit]\nDescription=a=b\nUser=not-here\n\n[Service]\n; another\n\
                    User = web \nExecStart=/bin/a \\\n# in between\n  --flag\nno assignment\n\
                    User=www\n[Install]\nWantedBy=multi-user.target\n";
        let unit = UnitFile::parse(text.as_bytes()).unwrap();
        let service: Vec<_> = unit.service().collect();
        let start = ("ExecStart", "/bin/a    --flag");
        assert_eq!(service, [("User", "web"), start, ("User", "www")]);
        assert_eq!(unit.user(), Some("www"), "the last one counts");
        let without = |text: &str| UnitFile::parse(text.as_bytes()).unwrap().user().is_none();
        assert!(without("[Service]\nUser=web\nUser=\n"), "taken back");
        assert!(without("[Unit]\nUser=web\n[Service]"));
    }

    #[test]
    fn what_is_plainly_none_table() {
        let long = [b"[Service]\n".as_slice(), &vec![b'#'; UNIT_BYTES_MAX]].concat();
        let cases: [(&str, &[u8], UnitError); 6] = [
            ("too long", &long, UnitError::TooLong(UNIT_BYTES_MAX + 10)),
            ("not text", b"[Service]\n\xff", UnitError::NotText),
            ("empty", b"", UnitError::NoService),
            ("a binary", b"\x7fELF", UnitError::NoService),
            ("another section", b"[Socket]\nListenStream=80\n", UnitError::NoService),
            ("a comment", b"#[Service]\n", UnitError::NoService),
        ];
        for (case, bytes, expected) in cases {
            assert_eq!(UnitFile::parse(bytes), Err(expected), "{case}");
        }
        assert!(UnitFile::parse(&long[..UNIT_BYTES_MAX]).is_ok(), "the longest");
    }
}
