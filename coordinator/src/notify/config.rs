//! `[[notify]]` of `coordinator.toml`: who is told, of what, and where.
//!
//! A secret stands in a file of its own, read when something is sent, so that a new one counts at once
//! and none is held meanwhile. Neither it nor what is derived of it is ever shown.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use durable::SecretError;
use proto::id::{Env, Name, Service};
use ring::hmac;
use toml::{Table, Value};

use super::target::Target;
use super::webhook;
use crate::events::{Event, Kind, Severity};

/// Receivers in one configuration: each has a task of its own.
pub const RECEIVERS_MAX: usize = 16;
/// Longest name of a receiver.
const NAME_BYTES_MAX: usize = 32;
/// Services or environments that one receiver names.
const LIST_MAX: usize = 64;
/// Longest secret file, in bytes: a URL.
const SECRET_BYTES_MAX: u64 = 2_048;
/// Digits and letters of PagerDuty's routing keys.
const ROUTING_KEY_LENGTH: usize = 32;
const PAGERDUTY: &str = "https://events.pagerduty.com";

/// One receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// 1 to 32 characters; no other receiver has it.
    pub name: Name,
    pub channel: Channel,
    pub filter: Filter,
}

/// How it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// The URL is the secret.
    Slack {
        url_file: PathBuf,
    },
    Pagerduty {
        /// Without a path.
        url: Target,
        key_file: PathBuf,
    },
    Webhook {
        url: Target,
        secret_file: PathBuf,
    },
}

/// Of what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub kinds: Vec<Kind>,
    /// Empty: any. Else nothing that is of no service.
    pub services: BTreeSet<Service>,
    /// Empty: any. Else nothing that is of no environment.
    pub envs: BTreeSet<Env>,
}

/// What a secret file holds, checked. No `Debug`.
pub enum Secret {
    Url(Target),
    RoutingKey(String),
    Signing(hmac::Key),
}

/// Why a receiver's secret cannot be used; nothing of it is in the text.
#[derive(Debug, thiserror::Error)]
pub enum SecretFault {
    #[error("cannot read its secret")]
    File(#[from] SecretError),
    #[error("{} does not hold {must}", path.display())]
    Content { path: PathBuf, must: &'static str },
}

/// The kinds of channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Slack,
    Pagerduty,
    Webhook,
}

impl Sort {
    const ALL: [Self; 3] = [Self::Slack, Self::Pagerduty, Self::Webhook];

    const fn name(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Pagerduty => "pagerduty",
            Self::Webhook => "webhook",
        }
    }

    /// Its keys in the file.
    const fn keys(self) -> &'static str {
        match self {
            Self::Slack => "name, kind, url_file, events, services, envs",
            Self::Pagerduty => "name, kind, key_file, url, events, services, envs",
            Self::Webhook => "name, kind, url, secret_file, events, services, envs",
        }
    }

    /// The events it is told of where it names none.
    pub(super) fn kinds(self) -> Vec<Kind> {
        let told = |kind: &Kind| match self {
            // What is published, and each wave, would be too much.
            Self::Slack => {
                !matches!(kind, Kind::ReleasePublished | Kind::WaveOpened | Kind::RolloutSuperseded)
            }
            // What asks something of people, and the changes that an incident may come of.
            Self::Pagerduty => {
                kind.severity() > Severity::Info
                    || matches!(kind, Kind::RolloutComplete | Kind::RolloutRolledBack)
            }
            Self::Webhook => true,
        };
        Kind::ALL.iter().copied().filter(told).collect()
    }
}

impl Channel {
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Slack { .. } => Sort::Slack.name(),
            Self::Pagerduty { .. } => Sort::Pagerduty.name(),
            Self::Webhook { .. } => Sort::Webhook.name(),
        }
    }

    /// Where it goes, as far as that may be shown; empty where the URL is a secret.
    pub fn shown(&self) -> String {
        match self {
            Self::Slack { .. } => String::new(),
            Self::Pagerduty { url, .. } | Self::Webhook { url, .. } => url.origin(),
        }
    }

    pub fn secret_file(&self) -> &Path {
        match self {
            Self::Slack { url_file: path }
            | Self::Pagerduty { key_file: path, .. }
            | Self::Webhook { secret_file: path, .. } => path,
        }
    }

    /// Reads the secret. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// [`SecretFault`]: unreadable, open to others, or not of its form.
    pub fn secret(&self) -> Result<Secret, SecretFault> {
        let path = self.secret_file();
        let bytes = durable::read_secret(path, SECRET_BYTES_MAX)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
        let (secret, must) = match self {
            Self::Slack { .. } => {
                let must = "the https:// URL of an incoming webhook";
                (Target::parse(text).ok().map(Secret::Url), must)
            }
            Self::Pagerduty { .. } => {
                let good = text.len() == ROUTING_KEY_LENGTH
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
                let must = "an integration key (Events API v2): 32 letters and digits";
                (good.then(|| Secret::RoutingKey(text.to_owned())), must)
            }
            Self::Webhook { .. } => {
                let must = "whsec_ and 24 to 64 random bytes in base64";
                (webhook::key(text).map(Secret::Signing), must)
            }
        };
        secret.ok_or_else(|| SecretFault::Content { path: path.to_owned(), must })
    }
}

impl Filter {
    /// Whether an event is of a service and an environment that it wants.
    pub(super) fn is_of(&self, event: &Event) -> bool {
        let (service, env) = (event.service.as_ref(), event.env.as_ref());
        (self.services.is_empty() || service.is_some_and(|service| self.services.contains(service)))
            && (self.envs.is_empty() || env.is_some_and(|env| self.envs.contains(env)))
    }
}

// --- reading ---

/// Checks the value of `notify`; files are meant from `base`. What is wrong goes to `problems`.
pub(crate) fn read(value: Value, base: &Path, problems: &mut Vec<String>) -> Vec<Receiver> {
    let Value::Array(tables) = value else {
        problems.push("notify: must be tables, each under [[notify]]".to_owned());
        return Vec::new();
    };
    if tables.len() > RECEIVERS_MAX {
        let given = tables.len();
        problems.push(format!("notify: {given} receivers: must be 0 to {RECEIVERS_MAX}"));
    }
    let mut receivers: Vec<Receiver> = Vec::new();
    for (number, table) in (1..).zip(tables) {
        let Value::Table(table) = table else {
            problems.push(format!("notify {number}: must be a table, under [[notify]]"));
            continue;
        };
        let mut reader = Reader { table, base, called: format!("notify {number}"), problems };
        let Some(receiver) = reader.receiver() else { continue };
        if receivers.iter().any(|other| other.name == receiver.name) {
            let name = &receiver.name;
            problems.push(format!("notify {number}: name = \"{name}\": another one has it"));
        }
        receivers.push(receiver);
    }
    receivers
}

/// Takes the keys of one receiver out of its table.
struct Reader<'a> {
    table: Table,
    base: &'a Path,
    /// What its problems are told under.
    called: String,
    problems: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// None only with a problem.
    fn receiver(&mut self) -> Option<Receiver> {
        let name = self.name();
        // Without its kind nobody knows which keys it has.
        let kind = self.kind();
        let channel = kind.and_then(|kind| self.channel(kind));
        let filter = self.filter(kind);
        if let Some(kind) = kind {
            let unknown: Vec<_> = self.table.keys().cloned().collect();
            for key in unknown {
                self.say(&format!("{key}: unknown key, the keys are {}", kind.keys()));
            }
        }
        Some(Receiver { name: name?, channel: channel?, filter })
    }

    fn name(&mut self) -> Option<Name> {
        let must = "1 to 32 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit";
        let Some(value) = self.table.remove("name") else {
            self.say(&format!("name: missing, must be {must}"));
            return None;
        };
        let name = value.as_str().and_then(|text| text.parse::<Name>().ok());
        let name = name.filter(|name| name.as_str().len() <= NAME_BYTES_MAX);
        match &name {
            Some(name) => self.called = format!("notify \"{name}\""),
            None => self.bad("name", &value, must),
        }
        name
    }

    fn kind(&mut self) -> Option<Sort> {
        let must = "\"slack\", \"pagerduty\" or \"webhook\"";
        let Some(value) = self.table.remove("kind") else {
            self.say(&format!("kind: missing, must be {must}"));
            return None;
        };
        let kind = Sort::ALL.into_iter().find(|kind| value.as_str() == Some(kind.name()));
        if kind.is_none() {
            self.bad("kind", &value, must);
        }
        kind
    }

    fn channel(&mut self, kind: Sort) -> Option<Channel> {
        match kind {
            Sort::Slack => {
                self.file("url_file", "the URL").map(|url_file| Channel::Slack { url_file })
            }
            Sort::Pagerduty => {
                let url = self.url(Some(PAGERDUTY));
                let key_file = self.file("key_file", "the integration key");
                Some(Channel::Pagerduty { url: url?, key_file: key_file? })
            }
            Sort::Webhook => {
                let url = self.url(None);
                let secret_file = self.file("secret_file", "the secret");
                Some(Channel::Webhook { url: url?, secret_file: secret_file? })
            }
        }
    }

    fn file(&mut self, key: &str, of: &str) -> Option<PathBuf> {
        let must = format!("the path of a file of mode 0600 that holds {of}");
        match self.table.remove(key) {
            Some(Value::String(path)) if !path.is_empty() => {
                // Written in place of the path, it would be shown by all that shows paths.
                let secret = path.contains("://") || path.starts_with("whsec_");
                if secret {
                    self.say(&format!("{key}: must be {must}, not that itself"));
                }
                (!secret).then(|| self.base.join(path))
            }
            Some(_) => {
                self.say(&format!("{key}: must be {must}"));
                None
            }
            None => {
                self.say(&format!("{key}: missing, must be {must}"));
                None
            }
        }
    }

    /// With a default it is one without a path.
    fn url(&mut self, default: Option<&str>) -> Option<Target> {
        let value = match (self.table.remove("url"), default) {
            (Some(value), _) => value,
            (None, Some(default)) => Value::String(default.to_owned()),
            (None, None) => {
                self.say("url: missing, must be an https:// URL");
                return None;
            }
        };
        let parsed = value.as_str().ok_or("it is no text").and_then(Target::parse);
        let parsed = parsed.and_then(|url| match default.is_none() || url.is_bare() {
            true => Ok(url),
            false => Err("it has a path"),
        });
        match parsed {
            Ok(url) => Some(url),
            Err(why) => {
                // It may carry what only the two ends should know.
                self.say(&format!(
                    "url: must be an https:// URL, or http:// to an address of this machine: {why}"
                ));
                None
            }
        }
    }

    fn filter(&mut self, kind: Option<Sort>) -> Filter {
        let kinds = self.list("events", "kinds of events", Kind::ALL.len(), |text| {
            text.parse::<Kind>().map_err(|error| error.to_string())
        });
        let services = self.list("services", "names of services", LIST_MAX, |text| {
            text.parse::<Service>().map_err(|error| error.to_string())
        });
        let envs = self.list("envs", "names of environments", LIST_MAX, |text| {
            text.parse::<Env>().map_err(|error| error.to_string())
        });
        let kinds = kinds.unwrap_or_else(|| kind.map(Sort::kinds).unwrap_or_default());
        let (services, envs) = (services.unwrap_or_default(), envs.unwrap_or_default());
        Filter { kinds, services: services.into_iter().collect(), envs: envs.into_iter().collect() }
    }

    /// None: it is not there.
    fn list<T>(
        &mut self,
        key: &str,
        what: &str,
        max: usize,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let value = self.table.remove(key)?;
        let texts = value.as_array().filter(|texts| (1..=max).contains(&texts.len()));
        let Some(texts) = texts else {
            self.bad(key, &value, &format!("a list of 1 to {max} {what}; leave it out for all"));
            return Some(Vec::new());
        };
        let mut parsed = Vec::new();
        for text in texts {
            let one = text.as_str().ok_or_else(|| "it is no text".to_owned()).and_then(&parse);
            match one {
                Ok(one) => parsed.push(one),
                Err(why) => self.bad(key, text, &format!("{what}: {why}")),
            }
        }
        Some(parsed)
    }

    fn bad(&mut self, key: &str, value: &Value, must: &str) {
        let shown: String = value.to_string().chars().take(80).collect();
        self.say(&format!("{key} = {shown}: must be {must}"));
    }

    fn say(&mut self, problem: &str) {
        self.problems.push(format!("{}: {problem}", self.called));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn parse(text: &str) -> (Vec<Receiver>, Vec<String>) {
        let mut table: Table = toml::from_str(text).unwrap();
        let mut problems = Vec::new();
        let value = table.remove("notify").unwrap();
        (read(value, Path::new("/etc/groundswell"), &mut problems), problems)
    }

    #[test]
    fn every_key_is_read() {
        let (receivers, problems) = parse(
            r#"
            [[notify]]
            name = "chat"
            kind = "slack"
            url_file = "slack.url"
            [[notify]]
            name = "pager"
            kind = "pagerduty"
            key_file = "/run/keys/pagerduty"
            [[notify]]
            name = "bot"
            kind = "webhook"
            url = "https://bot.example.com/hook?a=b"
            secret_file = "bot.secret"
            events = ["rollout-complete", "host-lost"]
            services = ["web", "shop"]
            envs = ["production"]
            "#,
        );
        assert_eq!(problems, [""; 0]);
        let [chat, pager, bot] = &receivers[..] else { panic!("{receivers:?}") };
        assert_eq!(chat.channel, Channel::Slack { url_file: "/etc/groundswell/slack.url".into() });
        assert_eq!(chat.filter.kinds, Sort::Slack.kinds());
        let url = Target::parse("https://events.pagerduty.com").unwrap();
        let key_file = "/run/keys/pagerduty".into();
        assert_eq!(pager.channel, Channel::Pagerduty { url, key_file });
        assert_eq!((bot.channel.kind(), bot.name.as_str()), ("webhook", "bot"));
        assert_eq!(bot.channel.shown(), "https://bot.example.com");
        assert_eq!(bot.filter.kinds, [Kind::RolloutComplete, Kind::HostLost]);
        assert_eq!((bot.filter.services.len(), bot.filter.envs.len()), (2, 1));
    }

    #[test]
    fn who_names_no_events_is_told_of_those_of_its_kind() {
        let names = |kinds: Vec<Kind>| kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>();
        assert_eq!(
            names(Sort::Pagerduty.kinds()).join(" "),
            "approval-wanted rollout-held rollout-halted rollout-aborted rollout-rolled-back \
             rollout-complete rollout-expired host-failed host-stuck host-lost host-drifted \
             root-expiring certificate-expiring"
        );
        let left_out = |sort: Sort| {
            let told = sort.kinds();
            names(Kind::ALL.iter().copied().filter(|kind| !told.contains(kind)).collect()).join(" ")
        };
        assert_eq!(left_out(Sort::Slack), "release-published wave-opened rollout-superseded");
        assert_eq!(left_out(Sort::Webhook), "");
    }

    #[test]
    fn all_that_is_bad_is_told_at_once() {
        let (_, problems) = parse(
            r#"
            [[notify]]
            name = "a b"
            kind = "irc"
            [[notify]]
            name = "chat"
            kind = "slack"
            url_file = "https://hooks.slack.com/services/T0/B0/s3cret"
            url = "https://example.com"
            [[notify]]
            name = "chat"
            kind = "slack"
            url_file = "u"
            events = ["rollout-began"]
            services = []
            envs = ["-"]
            [[notify]]
            kind = "webhook"
            url = "http://example.com/t0ken"
            [[notify]]
            name = "pager"
            kind = "pagerduty"
            url = "https://example.com/v2"
            key_file = 7
            "#,
        );
        let starts = [
            "notify 1: name = \"a b\": must be 1 to 32 of A-Z, a-z, 0-9, ",
            "notify 1: kind = \"irc\": must be \"slack\", \"pagerduty\" or \"webhook\"",
            "notify \"chat\": url_file: must be the path of a file of mode 0600 that holds the URL, \
             not that itself",
            "notify \"chat\": url: unknown key, the keys are name, kind, url_file, events, ",
            "notify \"chat\": events = \"rollout-began\": must be kinds of events: there is no event \
             `rollout-began`: there are approval-wanted, ",
            "notify \"chat\": services = []: must be a list of 1 to 64 names of services; leave it \
             out for all",
            "notify \"chat\": envs = \"-\": must be names of environments: ",
            "notify 4: name: missing, must be 1 to 32 of ",
            "notify 4: url: must be an https:// URL, or http:// to an address of this machine: http:// \
             is only for addresses of this machine, like 127.0.0.1",
            "notify 4: secret_file: missing, must be the path of a file of mode 0600",
            "notify \"pager\": url: must be an https:// URL, or http:// to an address of this machine: \
             it has a path",
            "notify \"pager\": key_file: must be the path of a file of mode 0600",
        ];
        assert_eq!(problems.len(), starts.len(), "{problems:#?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}\n{start}");
            assert!(!problem.contains("s3cret") && !problem.contains("t0ken"), "{problem}");
        }
    }

    #[test]
    fn names_are_told_apart_and_receivers_are_few() {
        let one = "[[notify]]\nname = \"x\"\nkind = \"slack\"\nurl_file = \"u\"\n";
        let (_, problems) = parse(&one.repeat(2));
        assert_eq!(problems, ["notify 2: name = \"x\": another one has it"]);
        let many: String = (0..17).map(|n| one.replace("\"x\"", &format!("\"x{n}\""))).collect();
        assert_eq!(parse(&many).1, ["notify: 17 receivers: must be 0 to 16"]);
        for (text, told) in [
            ("notify = 1", "notify: must be tables, each under [[notify]]"),
            ("notify = [1]", "notify 1: must be a table, under [[notify]]"),
        ] {
            assert_eq!(parse(text).1, [told]);
        }
    }

    #[test]
    fn a_secret_is_its_owners_alone_and_in_no_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let target = || Target::parse("https://example.com").unwrap();
        let slack = Channel::Slack { url_file: path.clone() };
        let pager = Channel::Pagerduty { url: target(), key_file: path.clone() };
        let hook = Channel::Webhook { url: target(), secret_file: path.clone() };
        let url = "https://hooks.slack.com/services/T0/B0/s3cret\n";
        let key = "s3cret6789abcdef0123456789abcdef";
        let signing = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n";
        for (channel, good) in [(&slack, url), (&pager, key), (&hook, signing)] {
            for text in [url, key, signing] {
                std::fs::write(&path, text).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
                let read = channel.secret();
                assert_eq!(read.is_ok(), text == good, "{channel:?} {text}");
                if let Err(error) = read {
                    let told = format!("{error} {error:?}");
                    assert!(told.contains("does not hold"), "{told}");
                    assert!(!told.contains("s3cret") && !told.contains("C2FV"), "{told}");
                }
            }
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            let error = channel.secret().err().unwrap();
            assert!(matches!(error, SecretFault::File(SecretError::Open { .. })), "{error}");
        }
    }
}
