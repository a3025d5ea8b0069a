//! What `agent.toml` lets releases do on this host: whose commands and units may run (R23).
//!
//! A refusal is the host's fault, never the release's, and names the key that forbids it.

use std::collections::BTreeSet;

use proto::Service;
use proto::unit::UnitFile;

use crate::services::Failure;

/// The keys `users`, `units` and `drop_ins`. The default forbids what no key allows by name: units
/// of other services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// The only users that services run as. None: every one.
    pub users: Option<BTreeSet<String>>,
    /// The only units. None: those named after their service.
    pub units: Option<Vec<UnitPattern>>,
    /// Whether settings of this host may lie over a unit.
    pub drop_ins: bool,
}

impl Default for Allowed {
    fn default() -> Self {
        Self { users: None, units: None, drop_ins: true }
    }
}

/// A name of units, with at most one `*`, which stands for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPattern(String);

impl UnitPattern {
    /// The pattern; none where `text` is none.
    pub fn parse(text: &str) -> Option<Self> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@-*".contains(&byte);
        let stars = text.bytes().filter(|byte| *byte == b'*').count();
        let is_pattern = text.len() <= 128
            && stars <= 1
            && text.bytes().all(good)
            && (text.ends_with(".service") || text.ends_with('*'));
        is_pattern.then(|| Self(text.to_owned()))
    }

    fn matches(&self, unit: &str) -> bool {
        match self.0.split_once('*') {
            None => unit == self.0,
            Some((start, end)) => {
                unit.len() >= start.len() + end.len()
                    && unit.starts_with(start)
                    && unit.ends_with(end)
            }
        }
    }
}

impl Allowed {
    /// Whether something of a release may run as this user.
    ///
    /// # Errors
    ///
    /// Who forbids it.
    pub fn user(&self, user: &str) -> Result<(), Failure> {
        match &self.users {
            Some(users) if !users.contains(user) => Err(Failure::host(format!(
                "agent.toml: users does not name {user:?}, so nothing of a release runs as it here"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a release of this service may run as this unit.
    ///
    /// # Errors
    ///
    /// Who forbids it.
    pub fn unit(&self, service: &Service, unit: &str) -> Result<(), Failure> {
        let Some(units) = &self.units else {
            let rest = unit.strip_prefix(service.as_str()).unwrap_or_default();
            return match rest == ".service" || rest.starts_with(['-', '@']) {
                true => Ok(()),
                false => Err(Failure::host(format!(
                    "agent.toml: without units, {service} runs only as a unit named after it, like \
                     {service}.service: {unit} is to be allowed by name"
                ))),
            };
        };
        match units.iter().any(|pattern| pattern.matches(unit)) {
            true => Ok(()),
            false => Err(Failure::host(format!(
                "agent.toml: units allows no {unit}, so it is not run here"
            ))),
        }
    }

    /// Whether a unit file keeps to the users that are allowed: its own user, and no command that
    /// runs as root in spite of it.
    ///
    /// # Errors
    ///
    /// Who forbids it.
    pub fn unit_file(&self, unit: &str, file: &UnitFile) -> Result<(), Failure> {
        if self.users.is_none() {
            return Ok(());
        }
        self.user(file.user().unwrap_or("root"))
            .map_err(|refused| Failure::host(format!("{unit}: User=: {}", refused.note)))?;
        if self.user("root").is_ok() {
            return Ok(());
        }
        let as_root = |(key, value): &(&str, &str)| match *key {
            "PermissionsStartOnly" => true,
            key if key.starts_with("Exec") => value
                .chars()
                .take_while(|c| "@-:+!|".contains(*c))
                .any(|prefix| matches!(prefix, '+' | '!')),
            _ => false,
        };
        match file.service().find(as_root) {
            Some((key, value)) => Err(Failure::host(format!(
                "{unit}: {key}={value} runs as root, which users of agent.toml does not name"
            ))),
            None => Ok(()),
        }
    }

    /// Whether these files may lie over a unit. Those for all services alike are no matter of one
    /// unit.
    ///
    /// # Errors
    ///
    /// Who forbids it.
    pub fn drop_ins(&self, unit: &str, paths: &[String]) -> Result<(), Failure> {
        let own = paths.iter().find(|path| !path.contains("/service.d/"));
        match own {
            Some(path) if !self.drop_ins => Err(Failure::host(format!(
                "agent.toml: drop_ins = \"refuse\", and {path} lies over {unit}: remove it, then \
                 `systemctl daemon-reload`"
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Service {
        "web".parse().unwrap()
    }

    fn note(refused: Result<(), Failure>) -> String {
        refused.map_or_else(|failure| failure.note, |()| String::new())
    }

    #[test]
    fn units_table() {
        let allowed = |units: &[&str]| Allowed {
            units: Some(units.iter().map(|text| UnitPattern::parse(text).unwrap()).collect()),
            ..Allowed::default()
        };
        let (own, other) = (Allowed::default(), allowed(&["db.service", "shop-*.service"]));
        let cases = [
            ("web.service", true, false),
            ("web-worker.service", true, false),
            ("web@1.service", true, false),
            ("webmail.service", false, false),
            ("ssh.service", false, false),
            ("db.service", false, true),
            ("db2.service", false, false),
            ("shop-a.service", false, true),
            ("shop-.service", false, true),
            ("shop.service", false, false),
        ];
        for (unit, by_default, named) in cases {
            assert_eq!(own.unit(&web(), unit).is_ok(), by_default, "{unit}");
            assert_eq!(other.unit(&web(), unit).is_ok(), named, "{unit}");
        }
        assert!(note(other.unit(&web(), "web.service")).starts_with("agent.toml: units allows no"));
        assert!(
            note(own.unit(&web(), "ssh.service")).starts_with("agent.toml: without units, web")
        );
        for bad in ["", "web", "a*b*.service", "/etc/a.service", "a b.service", "web.socket"] {
            assert_eq!(UnitPattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn users_of_units_table() {
        let allowed =
            |users: &[&str]| Allowed { users: Some(strings(users)), ..Allowed::default() };
        let check = |allowed: &Allowed, lines: &str| {
            let text = format!("[Service]\n{lines}\n");
            note(allowed.unit_file("web.service", &UnitFile::parse(text.as_bytes()).unwrap()))
        };
        let start = "User=web\nExecStart=/bin/web";
        let web = allowed(&["web"]);
        assert_eq!(check(&web, start), "");
        assert_eq!(check(&Allowed::default(), "ExecStart=+/bin/web"), "", "every user");
        let refused = "web.service: User=: agent.toml: users does not name \"root\"";
        assert!(check(&web, "ExecStart=/bin/web").starts_with(refused));
        assert!(check(&web, "User=www\nExecStart=/bin/web").contains("does not name \"www\""));
        for line in ["ExecStartPre=+/bin/a", "ExecStop=-!/bin/a", "PermissionsStartOnly=yes"] {
            let problem = check(&web, &format!("{start}\n{line}"));
            assert!(problem.starts_with(&format!("web.service: {line} runs as root")), "{problem}");
        }
        assert_eq!(check(&web, &format!("{start}\nExecStop=-/bin/a +b")), "", "an argument");
        assert_eq!(check(&allowed(&["web", "root"]), &format!("{start}\nExecStop=+/bin/a")), "");
    }

    #[test]
    fn drop_ins_table() {
        let refuse = Allowed { drop_ins: false, ..Allowed::default() };
        let all = "/usr/lib/systemd/system/service.d/10-all.conf".to_owned();
        let own = "/etc/systemd/system/web.service.d/a.conf".to_owned();
        assert_eq!(note(refuse.drop_ins("web.service", &[])), "");
        assert_eq!(note(refuse.drop_ins("web.service", std::slice::from_ref(&all))), "");
        let expected = "agent.toml: drop_ins = \"refuse\", and /etc/systemd/system/web.service.d/a.conf \
                        lies over web.service: remove it, then `systemctl daemon-reload`";
        assert_eq!(note(refuse.drop_ins("web.service", &[all, own.clone()])), expected);
        assert_eq!(note(Allowed::default().drop_ins("web.service", &[own])), "");
    }

    fn strings(texts: &[&str]) -> BTreeSet<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }
}
