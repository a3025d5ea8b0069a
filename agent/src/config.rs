//! `agent.toml`: what a host says about itself, and the last word on what may run here (R23).
//!
//! Read whole before any port is bound: unknown keys are refused and every bad value is listed at
//! once, with its key, its value and its range. A key that is left out has its default.

use std::collections::BTreeSet;
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::record::SLOTS;
use proto::statement::{is_user_name, within};
use proto::{Name, Service};
use swarm::{BYTES_PER_S_OF_MBIT, Ceilings, MBIT_MAX};
use toml::{Table, Value};

use crate::allowed::{Allowed, UnitPattern};

/// The configuration of an agent that is told no other; where it is missing, all is default.
pub const DEFAULT_PATH: &str = "/etc/groundswell/agent.toml";
/// Where an agent keeps what it has, unless told otherwise; the units of the package look there.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/groundswell";
/// Longest `agent.toml` read, in bytes.
const CONFIG_BYTES_MAX: u64 = 64 << 10;
/// Services an allow-list may name: there are no more in an environment, and the fleet is told of all.
const SERVICES_MAX: usize = SLOTS;
/// Users, or patterns of units, that a list may name.
const NAMES_MAX: usize = 256;
const DAY_S: u64 = 86_400;
/// Every key there is, as the error for an unknown one lists them.
const KEYS: [&str; 15] = [
    "advertise",
    "bind",
    "download_mbit_max",
    "drop_ins",
    "gossip_interval_ms",
    "keep_logs_days",
    "keep_releases",
    "metrics",
    "name",
    "service_root",
    "services",
    "state_dir",
    "units",
    "upload_mbit_max",
    "users",
];

/// The checked content of `agent.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Keys, statements, artifacts, journals, logs. Default `/var/lib/groundswell`.
    pub state_dir: PathBuf,
    /// The one UDP port. Default `0.0.0.0:7070`.
    pub bind: SocketAddr,
    /// Where other hosts reach this one. Default: `bind`, or, where that names no address, the one
    /// this host sends from.
    pub advertise: SocketAddr,
    /// This host's name for people. Default: its hostname.
    pub name: Name,
    /// Services live in `service_root/SERVICE`. Default `/srv`.
    pub service_root: PathBuf,
    /// The only services this host runs, whatever a rollout says. None: every one.
    pub services: Option<BTreeSet<Service>>,
    /// What releases may do here: the keys `users`, `units` and `drop_ins`.
    pub allowed: Allowed,
    /// Releases of a service that stay on disk besides those in use; 2 to 100, default 5.
    pub keep_releases: usize,
    /// How long what was seen of attempts that have ended stays on disk, in whole days: the key
    /// `keep_logs_days`; 1 to 365, default 30.
    pub keep_logs: Duration,
    /// Where the agent's own page of metrics is, on loopback. Default: nowhere, since any port of a
    /// machine may be somebody else's, and two agents of one machine would have the same.
    pub metrics: Option<SocketAddr>,
    /// Between two rounds of gossip; 100 ms to 60 s, default 1 s.
    pub gossip_interval: Duration,
    /// What pieces of artifacts may take of the line: the keys `upload_mbit_max` and
    /// `download_mbit_max`, 1 to 100000. Default: all of it.
    pub ceilings: Ceilings,
}

/// Why there is no usable configuration. The text is for people and names the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not TOML: {why}", path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("{} has {} bad value(s):{}", path.display(), problems.len(), Lines(problems))]
    Bad { path: PathBuf, problems: Vec<String> },
}

/// What the defaults depend on: this machine.
#[derive(Debug, Clone)]
pub struct Machine {
    pub hostname: String,
    /// The address this host sends from, if it has a route to anywhere.
    pub address: Option<IpAddr>,
}

struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

// --- impl Config ---

impl Config {
    /// Reads and checks the file at `path`; what it leaves out is derived from this machine.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: unreadable, not TOML, or every bad value at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = match read(path) {
            Err(error)
                if error.kind() == ErrorKind::NotFound && path == Path::new(DEFAULT_PATH) =>
            {
                String::new()
            }
            read => read.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
        };
        Self::parse(path, &text, Machine::this)
    }

    /// Checks `text` as the content of `path`, on the machine that `machine` describes for the
    /// address to bind.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], without the reading.
    pub fn parse(
        path: &Path,
        text: &str,
        machine: impl FnOnce(SocketAddr) -> Machine,
    ) -> Result<Self, ConfigError> {
        let table: Table = toml::from_str(text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            why: error.to_string().trim_end().to_owned(),
        })?;
        let mut reader = Reader { table, problems: Vec::new() };
        let config = reader.config(machine);
        if reader.problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Bad { path: path.to_owned(), problems: reader.problems })
        }
    }

    /// Whether this host may run `service`: its owner has the last word.
    pub fn allows(&self, service: &Service) -> bool {
        self.services.as_ref().is_none_or(|allowed| allowed.contains(service))
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    let bytes = file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if bytes as u64 > CONFIG_BYTES_MAX {
        return Err(std::io::Error::other(format!("longer than {CONFIG_BYTES_MAX} bytes")));
    }
    Ok(text)
}

// --- impl Machine ---

impl Machine {
    /// This one. The address is the one packets leave from, of the family of `bind` where there is
    /// such a route; asking for it sends nothing.
    pub fn this(bind: SocketAddr) -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        // Documentation addresses (RFC 5737, RFC 3849): only the routing table is asked.
        let v4 =
            || source_towards(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into());
        let v6 = || {
            let to = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
            source_towards(Ipv6Addr::UNSPECIFIED.into(), to.into())
        };
        let address = match bind {
            SocketAddr::V4(_) => v4(),
            SocketAddr::V6(_) => v6().or_else(v4),
        };
        Self { hostname: hostname.trim().to_owned(), address }
    }
}

fn source_towards(any: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

// --- impl Reader ---

/// Takes keys out of the table one by one; what is wrong with them is collected.
struct Reader {
    table: Table,
    problems: Vec<String>,
}

impl Reader {
    fn config(&mut self, machine: impl FnOnce(SocketAddr) -> Machine) -> Config {
        self.unknown_keys();
        let state_dir = self.directory("state_dir", DEFAULT_STATE_DIR);
        let bind = self.address("bind");
        let known = bind.is_ok();
        let bind = bind.ok().flatten().unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 7070).into());
        let machine = machine(bind);
        let advertise = self.advertise(bind, known, &machine);
        let name = self.name(&machine.hostname);
        let service_root = self.directory("service_root", "/srv");
        let services = self.services();
        let allowed =
            Allowed { users: self.users(), units: self.units(), drop_ins: self.drop_ins() };
        let keep_releases = self.number("keep_releases", 5, 2..=100);
        let keep_logs_days = self.number("keep_logs_days", 30, 1..=365);
        let metrics = self.metrics();
        let interval_ms = self.number("gossip_interval_ms", 1_000, 100..=60_000);
        Config {
            state_dir,
            bind,
            advertise,
            name,
            service_root,
            services,
            allowed,
            keep_releases: usize::try_from(keep_releases).unwrap_or(usize::MAX),
            keep_logs: Duration::from_secs(keep_logs_days * DAY_S),
            metrics,
            gossip_interval: Duration::from_millis(interval_ms),
            ceilings: Ceilings {
                up_bytes_per_s: self.ceiling("upload_mbit_max"),
                down_bytes_per_s: self.ceiling("download_mbit_max"),
            },
        }
    }

    fn unknown_keys(&mut self) {
        for key in self.table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            self.problems.push(format!("{key}: unknown key, the keys are {}", KEYS.join(", ")));
        }
    }

    fn bad(&mut self, key: &str, value: &Value, must: &str) {
        // A table or a long text would fill the screen; the key is enough to find it.
        let shown: String = value.to_string().chars().take(80).collect();
        self.problems.push(format!("{key} = {shown}: must be {must}"));
    }

    /// The text at `key`; a value of another type is a problem, and no text.
    fn text(&mut self, key: &str, must: &str) -> Option<String> {
        match self.table.remove(key)? {
            Value::String(text) => Some(text),
            other => {
                self.bad(key, &other, must);
                None
            }
        }
    }

    fn directory(&mut self, key: &str, default: &str) -> PathBuf {
        const MUST: &str = "an absolute path, without `..`";
        let Some(text) = self.text(key, MUST) else { return PathBuf::from(default) };
        let path = PathBuf::from(&text);
        if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
            self.bad(key, &Value::String(text), MUST);
        }
        path
    }

    /// `Err`: there is one, and it is bad.
    fn address(&mut self, key: &str) -> Result<Option<SocketAddr>, ()> {
        const MUST: &str = "IP:PORT with a port of 1 to 65535, like \"10.0.0.7:7070\"";
        let given = self.table.contains_key(key);
        let Some(text) = self.text(key, MUST) else {
            return if given { Err(()) } else { Ok(None) };
        };
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Some(address)),
            _ => {
                self.bad(key, &Value::String(text), MUST);
                Err(())
            }
        }
    }

    fn advertise(&mut self, bind: SocketAddr, bind_known: bool, machine: &Machine) -> SocketAddr {
        let given = self.address("advertise");
        if let Ok(Some(address)) = given {
            if address.ip().is_unspecified() {
                let must = "an address that other hosts can send to";
                self.bad("advertise", &Value::String(address.to_string()), must);
            }
            return address;
        }
        if !bind.ip().is_unspecified() {
            return bind;
        }
        match machine.address {
            Some(ip) => (ip, bind.port()).into(),
            None => {
                // Not told when the reader has reason to mend `bind` or `advertise` first.
                if bind_known && given.is_ok() {
                    self.problems.push(format!(
                        "advertise: bind = \"{bind}\" names no address that other hosts can send \
                         to, and this host has no route to derive one from: set advertise = \
                         \"IP:{}\"",
                        bind.port()
                    ));
                }
                bind
            }
        }
    }

    fn metrics(&mut self) -> Option<SocketAddr> {
        let address = self.address("metrics").ok().flatten()?;
        if !address.ip().is_loopback() {
            let must =
                "an address of loopback, like \"127.0.0.1:7072\": it is for this machine alone";
            self.bad("metrics", &Value::String(address.to_string()), must);
        }
        Some(address)
    }

    fn name(&mut self, hostname: &str) -> Name {
        const MUST: &str =
            "1 to 63 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit";
        let given = self.table.contains_key("name");
        let text = self.text("name", MUST);
        let stand_in = || "host".parse().expect("a name");
        match text.as_deref().unwrap_or(hostname).parse() {
            // A name of another type has been reported already.
            Err(_) if given && text.is_none() => stand_in(),
            Ok(name) => name,
            Err(_) if given => {
                self.bad("name", &Value::String(text.unwrap_or_default()), MUST);
                stand_in()
            }
            Err(_) => {
                self.problems.push(format!(
                    "name: the hostname {hostname:?} cannot be one, set name (must be {MUST})"
                ));
                stand_in()
            }
        }
    }

    fn services(&mut self) -> Option<BTreeSet<Service>> {
        const MUST: &str = "a service name: 1 to 32 of a-z, 0-9 and inner hyphens";
        let all = "a list of service names, like [\"web\"]";
        let services = self.list("services", NAMES_MAX, all, MUST, |text| text.parse().ok())?;
        let services: BTreeSet<Service> = services.into_iter().collect();
        if services.len() > SERVICES_MAX {
            self.problems.push(format!(
                "services = {} names: must be at most {SERVICES_MAX}: a fleet has no more pairs of a \
                 service and an environment, and it is told which of them may run here",
                services.len()
            ));
        }
        Some(services)
    }

    fn users(&mut self) -> Option<BTreeSet<String>> {
        const MUST: &str = "a user's name: 1 to 32 of a-z, 0-9, `_`, `-`";
        let name = |text: &str| is_user_name(text).then(|| text.to_owned());
        let all = "a list of users, like [\"web\"]";
        Some(self.list("users", NAMES_MAX, all, MUST, name)?.into_iter().collect())
    }

    fn units(&mut self) -> Option<Vec<UnitPattern>> {
        const MUST: &str =
            "a name of units with at most one `*`, like \"web.service\" or \"shop-*.service\"";
        let all = "a list of names of units, like [\"web.service\", \"shop-*.service\"]";
        self.list("units", NAMES_MAX, all, MUST, UnitPattern::parse)
    }

    /// Whether they are allowed.
    fn drop_ins(&mut self) -> bool {
        const MUST: &str = "\"allow\" or \"refuse\"";
        match self.text("drop_ins", MUST).as_deref() {
            None | Some("allow") => true,
            Some("refuse") => false,
            Some(other) => {
                self.bad("drop_ins", &Value::from(other), MUST);
                false
            }
        }
    }

    /// The items of a list, where there is one; those that are none are told one by one.
    fn list<T>(
        &mut self,
        key: &str,
        items_max: usize,
        must: &str,
        each_must: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let value = self.table.remove(key)?;
        let Value::Array(items) = &value else {
            self.bad(key, &value, must);
            return None;
        };
        within(key, items.len(), 0..=items_max, " names", &mut self.problems);
        let mut all = Vec::new();
        for (index, item) in items.iter().enumerate().take(items_max) {
            match item.as_str().and_then(&read) {
                Some(one) => all.push(one),
                None => self.bad(&format!("{key}.{index}"), item, each_must),
            }
        }
        Some(all)
    }

    /// In bytes per second, where there is one.
    fn ceiling(&mut self, key: &str) -> Option<u64> {
        let given = self.table.contains_key(key);
        let mbit = self.number(key, MBIT_MAX, 1..=MBIT_MAX);
        given.then_some(mbit * BYTES_PER_S_OF_MBIT)
    }

    fn number(&mut self, key: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let Some(value) = self.table.remove(key) else { return default };
        match value.as_integer().and_then(|number| u64::try_from(number).ok()) {
            Some(number) if range.contains(&number) => number,
            _ => {
                self.bad(key, &value, &format!("{} to {}", range.start(), range.end()));
                default
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(_: SocketAddr) -> Machine {
        Machine { hostname: "web-1".into(), address: Some("10.0.0.7".parse().unwrap()) }
    }

    fn cut_off(_: SocketAddr) -> Machine {
        Machine { hostname: "not a name".into(), address: None }
    }

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/etc/groundswell/agent.toml"), text, machine)
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        assert_eq!(
            parse("").unwrap(),
            Config {
                state_dir: "/var/lib/groundswell".into(),
                bind: "0.0.0.0:7070".parse().unwrap(),
                advertise: "10.0.0.7:7070".parse().unwrap(),
                name: "web-1".parse().unwrap(),
                service_root: "/srv".into(),
                services: None,
                allowed: Allowed::default(),
                keep_releases: 5,
                keep_logs: Duration::from_secs(30 * 86_400),
                metrics: None,
                gossip_interval: Duration::from_secs(1),
                ceilings: Ceilings::default(),
            }
        );
    }

    /// What is installed with the agent's package.
    #[test]
    fn the_example_is_all_defaults_and_shows_every_key() {
        let text = include_str!("../../scripts/packaging/agent.toml");
        assert_eq!(parse(text).unwrap(), parse("").unwrap());
        let shown: Vec<_> = text.lines().filter_map(|line| line.strip_prefix('#')).collect();
        let keys = shown.iter().filter(|line| !line.starts_with(' ')).copied();
        let table: Table = toml::from_str(&keys.collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!(table.keys().map(String::as_str).collect::<BTreeSet<_>>(), KEYS.into());
        parse(&table.to_string()).unwrap();
    }

    #[test]
    fn every_key_is_read() {
        let config = parse(
            r#"
            state_dir = "/tmp/state"
            bind = "127.0.0.1:7171"
            advertise = "127.0.0.2:7172"
            name = "alpha"
            service_root = "/tmp/srv"
            services = ["web", "mail"]
            users = ["web", "root"]
            units = ["web.service", "mail*"]
            drop_ins = "refuse"
            keep_releases = 2
            keep_logs_days = 365
            metrics = "127.0.0.1:7072"
            gossip_interval_ms = 100
            upload_mbit_max = 1
            download_mbit_max = 100000
            "#,
        )
        .unwrap();
        assert_eq!(config.state_dir, Path::new("/tmp/state"));
        assert_eq!(config.bind.to_string(), "127.0.0.1:7171");
        assert_eq!(config.advertise.to_string(), "127.0.0.2:7172");
        assert_eq!(config.name.as_str(), "alpha");
        assert_eq!(config.service_root, Path::new("/tmp/srv"));
        assert_eq!(config.metrics, Some("127.0.0.1:7072".parse().unwrap()));
        assert_eq!((config.keep_releases, config.gossip_interval.as_millis()), (2, 100));
        assert_eq!(config.keep_logs.as_secs(), 365 * 86_400);
        let Ceilings { up_bytes_per_s, down_bytes_per_s } = config.ceilings;
        assert_eq!((up_bytes_per_s, down_bytes_per_s), (Some(125_000), Some(12_500_000_000)));
        let allowed = &config.allowed;
        assert!(allowed.user("web").is_ok() && allowed.user("mail").is_err());
        let unit = |unit: &str| allowed.unit(&"web".parse().unwrap(), unit).is_ok();
        assert!(unit("web.service") && unit("mail@1.service") && !unit("web-1.service"));
        assert!(!allowed.drop_ins);
        assert!(config.allows(&"web".parse().unwrap()) && config.allows(&"mail".parse().unwrap()));
        assert!(!config.allows(&"shop".parse().unwrap()), "agent.toml has the last word");
        assert_eq!(parse("").unwrap().metrics, None, "nobody asked for a listener");
        assert_eq!(parse("metrics = \"[::1]:1\"").unwrap().metrics, "[::1]:1".parse().ok());
        assert!(parse("").unwrap().allows(&"shop".parse().unwrap()));
        assert!(!parse("services = []").unwrap().allows(&"shop".parse().unwrap()));
    }

    #[test]
    fn services_are_as_many_as_the_fleet_can_be_told_of() {
        let list = |count: usize| {
            let names: Vec<_> = (0..count).map(|one| format!("s{one}")).collect();
            format!("services = {names:?}")
        };
        assert_eq!(parse(&list(8)).unwrap().services.unwrap().len(), 8);
        let twice = list(8).replace('[', "[\"s0\", ");
        assert_eq!(parse(&twice).unwrap().services.unwrap().len(), 8, "one name twice");
        let error = parse(&list(9)).unwrap_err().to_string();
        let expected = "/etc/groundswell/agent.toml has 1 bad value(s):\n  services = 9 names: must be \
            at most 8: a fleet has no more pairs of a service and an environment, and it is told \
            which of them may run here";
        assert_eq!(error, expected);
    }

    #[test]
    fn what_is_advertised() {
        let address = |text: &str| parse(text).unwrap().advertise.to_string();
        assert_eq!(address("bind = \"127.0.0.1:9\""), "127.0.0.1:9", "the address bound");
        assert_eq!(address("bind = \"0.0.0.0:9\""), "10.0.0.7:9", "derived, with the port bound");
        let given = "bind = \"0.0.0.0:9\"\nadvertise = \"192.0.2.1:10\"";
        assert_eq!(address(given), "192.0.2.1:10", "as given");
    }

    /// The exact text people read.
    #[test]
    fn every_bad_value_is_listed_at_once() {
        let error = parse(
            r#"
            state_dir = "state"
            bind = "0.0.0.0"
            advertise = 7070
            name = "über"
            services = ["web", "Web", 3]
            users = ["web", "Web"]
            units = ["*.service", "a*b*"]
            drop_ins = "no"
            keep_releases = 1
            keep_logs_days = 366
            gossip_interval_ms = 99
            upload_mbit_max = 100001
            download_mbit_max = "none"
            bindd = "0.0.0.0:7070"
            "#,
        )
        .unwrap_err();
        let expected = r#"/etc/groundswell/agent.toml has 15 bad value(s):
  bindd: unknown key, the keys are advertise, bind, download_mbit_max, drop_ins, gossip_interval_ms, keep_logs_days, keep_releases, metrics, name, service_root, services, state_dir, units, upload_mbit_max, users
  state_dir = "state": must be an absolute path, without `..`
  bind = "0.0.0.0": must be IP:PORT with a port of 1 to 65535, like "10.0.0.7:7070"
  advertise = 7070: must be IP:PORT with a port of 1 to 65535, like "10.0.0.7:7070"
  name = "über": must be 1 to 63 of A-Z, a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit
  services.1 = "Web": must be a service name: 1 to 32 of a-z, 0-9 and inner hyphens
  services.2 = 3: must be a service name: 1 to 32 of a-z, 0-9 and inner hyphens
  users.1 = "Web": must be a user's name: 1 to 32 of a-z, 0-9, `_`, `-`
  units.1 = "a*b*": must be a name of units with at most one `*`, like "web.service" or "shop-*.service"
  drop_ins = "no": must be "allow" or "refuse"
  keep_releases = 1: must be 2 to 100
  keep_logs_days = 366: must be 1 to 365
  gossip_interval_ms = 99: must be 100 to 60000
  upload_mbit_max = 100001: must be 1 to 100000
  download_mbit_max = "none": must be 1 to 100000"#;
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn bad_values_table() {
        let cases = [
            (
                "a port of nought",
                "bind = \"127.0.0.1:0\"",
                "bind = \"127.0.0.1:0\": must be IP:PORT",
            ),
            ("a name to resolve", "bind = \"localhost:7070\"", "bind = \"localhost:7070\": must"),
            ("advertise nowhere", "advertise = \"0.0.0.0:1\"", "must be an address that other"),
            ("a path with ..", "service_root = \"/srv/..\"", "service_root = \"/srv/..\": must be"),
            ("a path of another type", "state_dir = true", "state_dir = true: must be an absolute"),
            ("services as text", "services = \"web\"", "services = \"web\": must be a list"),
            ("users as text", "users = \"web\"", "users = \"web\": must be a list of users"),
            ("a unit of another kind", "units = [\"a.socket\"]", "units.0 = \"a.socket\": must be"),
            ("drop-ins as a switch", "drop_ins = true", "drop_ins = true: must be \"allow\""),
            ("negative", "keep_releases = -1", "keep_releases = -1: must be 2 to 100"),
            ("a fraction", "keep_releases = 2.5", "keep_releases = 2.5: must be 2 to 100"),
            ("too many", "keep_releases = 101", "keep_releases = 101: must be 2 to 100"),
            ("metrics for all", "metrics = \"0.0.0.0:7072\"", "must be an address of loopback"),
            ("metrics for others", "metrics = \"10.0.0.7:7072\"", "must be an address of loopback"),
            (
                "metrics nowhere",
                "metrics = \"127.0.0.1\"",
                "metrics = \"127.0.0.1\": must be IP:PORT",
            ),
            ("too rare", "gossip_interval_ms = 60001", "must be 100 to 60000"),
            ("no upload at all", "upload_mbit_max = 0", "upload_mbit_max = 0: must be 1 to 100000"),
            ("a ceiling in words", "download_mbit_max = \"2G\"", "\"2G\": must be 1 to 100000"),
            ("a section", "[net]\nport = 1", "net: unknown key"),
            ("not TOML", "bind = ", "is not TOML"),
            ("one key twice", "name = \"a\"\nname = \"b\"", "is not TOML"),
        ];
        for (case, text, expected) in cases {
            let got = parse(text).unwrap_err().to_string();
            assert!(got.contains(expected), "{case}: {got}");
            assert!(got.starts_with("/etc/groundswell/agent.toml "), "{case}: {got}");
            assert!(!got.contains(" 2 bad"), "{case}: one mistake, told once: {got}");
        }
    }

    #[test]
    fn what_cannot_be_derived_is_asked_for() {
        let path = Path::new("agent.toml");
        let error = Config::parse(path, "", cut_off).unwrap_err();
        let expected = "agent.toml has 2 bad value(s):\n  \
            advertise: bind = \"0.0.0.0:7070\" names no address that other hosts can send to, and \
            this host has no route to derive one from: set advertise = \"IP:7070\"\n  \
            name: the hostname \"not a name\" cannot be one, set name (must be 1 to 63 of A-Z, \
            a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit)";
        assert_eq!(error.to_string(), expected);
        let named = "bind = \"127.0.0.1:1\"\nname = \"a\"";
        assert!(Config::parse(path, named, cut_off).is_ok(), "nothing to derive");
    }

    #[test]
    fn load_reads_a_bounded_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let cause = |error: ConfigError| match error {
            ConfigError::Read { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        assert!(cause(Config::load(&path).unwrap_err()).contains("No such file"));
        std::fs::write(&path, "bind = \"127.0.0.1:7070\"\nname = \"a\"\n").unwrap();
        assert_eq!(Config::load(&path).unwrap().name.as_str(), "a");
        std::fs::write(&path, "#".repeat(70_000)).unwrap();
        assert!(cause(Config::load(&path).unwrap_err()).contains("longer than 65536 bytes"));
    }
}
