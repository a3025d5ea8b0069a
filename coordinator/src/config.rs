//! `coordinator.toml`: where the coordinator listens, and where its keys and its state are.
//!
//! Written by `swell init`. Read whole before any port is bound: unknown keys are refused and every
//! bad value is listed at once, with its key, its value and its range. A path that is not absolute
//! is meant from the directory of the file, so that the bundle can be copied anywhere.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use member::reload::Reread;
use swarm::{BYTES_PER_S_OF_MBIT, Ceilings, MBIT_MAX};
use toml::{Table, Value};

use crate::notify;
use crate::notify::config::Receiver;

/// Longest `coordinator.toml` read, in bytes.
const CONFIG_BYTES_MAX: u64 = 64 << 10;
/// Every key there is, as the error for an unknown one lists them.
const KEYS: &[&str] = &[
    "admit_key",
    "advertise",
    "bind",
    "gossip_interval_ms",
    "host_ca_key",
    "https",
    "https_cert",
    "https_key",
    "https_url",
    "metrics",
    "notify",
    "root_dir",
    "state_dir",
    "upload_mbit_max",
];

/// The checked content of `coordinator.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Database, statements, artifacts. Default `/var/lib/groundswell-coordinator`.
    pub state_dir: PathBuf,
    /// The one UDP port. Default `0.0.0.0:7070`.
    pub bind: SocketAddr,
    /// Where hosts and people reach it; what tokens carry. Default: `bind`, where that names an
    /// address.
    pub advertise: SocketAddr,
    /// Secret key of the role `admit`: who the coordinator is. Default `admit.key`.
    pub admit_key: PathBuf,
    /// Secret key of the role `host-ca`. Default `host-ca.key`.
    pub host_ca_key: PathBuf,
    /// Directory of the roots: `root.json`, the first, and `root.2.json` and so on. Default `root`.
    pub root_dir: PathBuf,
    /// Where the coordinator's own page of metrics is, on loopback. Default: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Between two rounds of gossip; 100 ms to 60 s, default 1 s.
    pub gossip_interval: Duration,
    /// What pieces of artifacts may take of the line, out alone, since it fetches none: the key
    /// `upload_mbit_max`, 1 to 100000. Default: all of it.
    pub ceilings: Ceilings,
    /// Who is told of what happens: `[[notify]]`, 0 to 16 of them. Default: nobody.
    pub notify: Vec<Receiver>,
    /// Where pages and the HTTP interface are. Default: the address of `bind`, at the port after its.
    pub https: SocketAddr,
    /// What people call that: `https://NAME[:PORT]`. Default: by the address of `advertise`.
    pub https_url: String,
    /// Certificate and key, PEM. Default: made by itself, in `state_dir`.
    pub https_files: Option<CertificateFiles>,
}

/// A certificate of the operator's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// With those between it and its authority.
    pub cert: PathBuf,
    /// Mode 0600.
    pub key: PathBuf,
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

struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

// --- impl Config ---

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]: unreadable, not TOML, or every bad value at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let bytes = durable::read_bounded(path, CONFIG_BYTES_MAX).map_err(read)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| read(std::io::Error::other("the file is not UTF-8 text")))?;
        Self::parse(path, &text)
    }

    /// Reads the file anew. `self`: what it said at the start.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn reread(&self, path: &Path) -> Result<Reread, ConfigError> {
        let new = Self::load(path)?;
        let ceilings = new.ceilings;
        Ok(Reread { ceilings, others_differ: Self { ceilings, ..self.clone() } != new })
    }

    /// Checks `text` as the content of `path`.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], without the reading.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let table: Table = toml::from_str(text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            why: error.to_string().trim_end().to_owned(),
        })?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut reader = Reader { table, base, problems: Vec::new() };
        let config = reader.config();
        if reader.problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Bad { path: path.to_owned(), problems: reader.problems })
        }
    }
}

// --- impl Reader ---

/// Takes keys out of the table one by one; what is wrong with them is collected.
struct Reader {
    table: Table,
    /// What relative paths are meant from.
    base: PathBuf,
    problems: Vec<String>,
}

impl Reader {
    fn config(&mut self) -> Config {
        for key in self.table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            self.problems.push(format!("{key}: unknown key, the keys are {}", KEYS.join(", ")));
        }
        let state_dir = self.path("state_dir", "/var/lib/groundswell-coordinator");
        let (bind, advertise) = self.addresses();
        let (https, https_url) = self.https(bind, advertise);
        Config {
            state_dir,
            bind,
            advertise,
            admit_key: self.path("admit_key", "admit.key"),
            host_ca_key: self.path("host_ca_key", "host-ca.key"),
            root_dir: self.path("root_dir", "root"),
            metrics: self.metrics(),
            gossip_interval: Duration::from_millis(self.number(
                "gossip_interval_ms",
                1_000,
                100..=60_000,
            )),
            ceilings: Ceilings {
                up_bytes_per_s: self.ceiling("upload_mbit_max"),
                down_bytes_per_s: None,
            },
            notify: match self.table.remove("notify") {
                Some(value) => notify::config::read(value, &self.base, &mut self.problems),
                None => Vec::new(),
            },
            https,
            https_url,
            https_files: self.https_files(),
        }
    }

    /// Where it listens, and what people call that.
    fn https(&mut self, bind: SocketAddr, advertise: SocketAddr) -> (SocketAddr, String) {
        let after = SocketAddr::new(bind.ip(), bind.port().saturating_add(1));
        let https = self.address("https").ok().flatten().unwrap_or(after);
        let known = format!("https://{}", SocketAddr::new(advertise.ip(), https.port()));
        let Some(value) = self.table.remove("https_url") else { return (https, known) };
        let written = value.as_str().filter(|text| is_origin(text)).map(ToOwned::to_owned);
        if written.is_none() {
            self.bad("https_url", &value, "https://NAME or https://NAME:PORT, and no more");
        }
        (https, written.unwrap_or(known))
    }

    fn https_files(&mut self) -> Option<CertificateFiles> {
        let given = |reader: &Self, key| reader.table.contains_key(key);
        match (given(self, "https_cert"), given(self, "https_key")) {
            (false, false) => None,
            (true, true) => Some(CertificateFiles {
                cert: self.path("https_cert", ""),
                key: self.path("https_key", ""),
            }),
            (cert, _) => {
                let (there, missing) = match cert {
                    true => ("https_cert", "https_key"),
                    false => ("https_key", "https_cert"),
                };
                self.table.remove(there);
                self.problems.push(format!("{there}: needs {missing} beside it"));
                None
            }
        }
    }

    fn bad(&mut self, key: &str, value: &Value, must: &str) {
        // A table or a long text would fill the screen; the key is enough to find it.
        let shown: String = value.to_string().chars().take(80).collect();
        self.problems.push(format!("{key} = {shown}: must be {must}"));
    }

    fn path(&mut self, key: &str, default: &str) -> PathBuf {
        match self.table.remove(key) {
            None => self.base.join(default),
            Some(Value::String(text)) if !text.is_empty() => self.base.join(text),
            Some(other) => {
                self.bad(key, &other, "a path");
                PathBuf::new()
            }
        }
    }

    fn addresses(&mut self) -> (SocketAddr, SocketAddr) {
        let everywhere = (Ipv4Addr::UNSPECIFIED, 7070).into();
        let bind = self.address("bind").map(|bind| bind.unwrap_or(everywhere));
        let advertise = self.address("advertise");
        let (Ok(bind), Ok(advertise)) = (bind, advertise) else { return (everywhere, everywhere) };
        match advertise {
            Some(address) if address.ip().is_unspecified() => {
                let must = "an address that hosts can send to";
                self.bad("advertise", &Value::String(address.to_string()), must);
            }
            None if bind.ip().is_unspecified() => self.problems.push(format!(
                "advertise: bind = \"{bind}\" names no address that hosts can send to: set \
                 advertise = \"IP:{}\"",
                bind.port()
            )),
            Some(_) | None => {}
        }
        (bind, advertise.unwrap_or(bind))
    }

    /// `Err`: there is one, and it is bad.
    fn address(&mut self, key: &str) -> Result<Option<SocketAddr>, ()> {
        let Some(value) = self.table.remove(key) else { return Ok(None) };
        match value.as_str().and_then(|text| text.parse::<SocketAddr>().ok()) {
            Some(address) if address.port() != 0 => Ok(Some(address)),
            _ => {
                let must = "IP:PORT with a port of 1 to 65535, like \"10.0.0.5:7070\"";
                self.bad(key, &value, must);
                Err(())
            }
        }
    }

    fn metrics(&mut self) -> Option<SocketAddr> {
        let address = self.address("metrics").ok().flatten()?;
        if !address.ip().is_loopback() {
            let must =
                "an address of loopback, like \"127.0.0.1:7073\": the page is for this machine";
            self.bad("metrics", &Value::String(address.to_string()), must);
        }
        Some(address)
    }

    /// In bytes per second, where there is one.
    fn ceiling(&mut self, key: &str) -> Option<u64> {
        let given = self.table.contains_key(key);
        let mbit = self.number(key, MBIT_MAX, 1..=MBIT_MAX);
        given.then_some(mbit * BYTES_PER_S_OF_MBIT)
    }

    fn number(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
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

/// Whether it is `https://NAME[:PORT]`: what browsers call an origin.
fn is_origin(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://") else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    !rest.is_empty() && rest.len() <= 255 && rest.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/etc/groundswell/coordinator.toml"), text)
    }

    #[test]
    fn only_the_address_has_to_be_said() {
        assert_eq!(
            parse("advertise = \"10.0.0.5:7070\"").unwrap(),
            Config {
                state_dir: "/var/lib/groundswell-coordinator".into(),
                bind: "0.0.0.0:7070".parse().unwrap(),
                advertise: "10.0.0.5:7070".parse().unwrap(),
                admit_key: "/etc/groundswell/admit.key".into(),
                host_ca_key: "/etc/groundswell/host-ca.key".into(),
                root_dir: "/etc/groundswell/root".into(),
                metrics: None,
                gossip_interval: Duration::from_secs(1),
                ceilings: Ceilings::default(),
                https: "0.0.0.0:7071".parse().unwrap(),
                https_url: "https://10.0.0.5:7071".to_owned(),
                https_files: None,
                notify: Vec::new(),
            }
        );
    }

    /// What is installed with the coordinator's package.
    #[test]
    fn the_example_says_only_the_address_and_shows_every_key() {
        let text = include_str!("../../scripts/packaging/coordinator.toml");
        assert_eq!(parse(text).unwrap(), parse("advertise = \"10.0.0.5:7070\"").unwrap());
        let all = text.lines().filter(|line| !line.starts_with("# "));
        let all: Vec<_> = all.map(|line| line.trim_start_matches('#')).collect();
        let mut table: Table = toml::from_str(&all.join("\n")).unwrap();
        assert!(table.keys().map(String::as_str).eq(KEYS.iter().copied()), "{table}");
        // By default there are none.
        for key in ["metrics", "notify", "upload_mbit_max", "https_cert", "https_key", "https_url"]
        {
            table.remove(key);
        }
        assert_eq!(parse(&table.to_string()).unwrap(), parse(text).unwrap(), "and its default");
    }

    #[test]
    fn every_key_is_read_and_relative_paths_are_the_files_own() {
        let text = r#"
            state_dir = "state"
            bind = "127.0.0.1:7171"
            admit_key = "../keys/a.key"
            host_ca_key = "/keys/h.key"
            root_dir = "roots"
            metrics = "[::1]:7073"
            gossip_interval_ms = 250
            upload_mbit_max = 80
            https = "127.0.0.1:443"
            https_url = "https://deploy.example.com"
            https_cert = "web.pem"
            https_key = "/keys/web.key"
        "#;
        let config = parse(text).unwrap();
        assert_eq!(config.state_dir, Path::new("/etc/groundswell/state"));
        assert_eq!(config.bind.to_string(), "127.0.0.1:7171");
        assert_eq!(config.advertise, config.bind, "the address bound");
        assert_eq!(config.admit_key, Path::new("/etc/groundswell/../keys/a.key"));
        assert_eq!(config.host_ca_key, Path::new("/keys/h.key"));
        assert_eq!(config.root_dir, Path::new("/etc/groundswell/roots"));
        assert_eq!(config.metrics, "[::1]:7073".parse().ok());
        assert_eq!(config.gossip_interval.as_millis(), 250);
        assert_eq!(config.ceilings.up_bytes_per_s, Some(10_000_000));
        assert_eq!(config.ceilings.down_bytes_per_s, None);
        assert_eq!(config.https.to_string(), "127.0.0.1:443");
        assert_eq!(config.https_url, "https://deploy.example.com");
        let files = config.https_files.unwrap();
        assert_eq!(files.cert, Path::new("/etc/groundswell/web.pem"));
        assert_eq!(files.key, Path::new("/keys/web.key"));
        let beside = Config::parse(Path::new("coordinator.toml"), text).unwrap();
        assert_eq!(beside.state_dir, Path::new("state"), "a file named without a directory");
    }

    #[test]
    fn all_that_is_bad_is_told_at_once() {
        let text = r#"
            state_dir = 7
            bind = "10.0.0.5"
            admit_key = ""
            gossip_interval_ms = 50
            upload_mbit_max = 0
            fleet = "acme"
            https = "7071"
            https_url = "https://deploy.example.com/swell"
            https_key = "web.key"
        "#;
        let told = parse(text).unwrap_err().to_string();
        assert_eq!(
            told,
            "/etc/groundswell/coordinator.toml has 9 bad value(s):\
             \n  fleet: unknown key, the keys are admit_key, advertise, bind, gossip_interval_ms, \
             host_ca_key, https, https_cert, https_key, https_url, metrics, notify, root_dir, state_dir, \
             upload_mbit_max\
             \n  state_dir = 7: must be a path\
             \n  bind = \"10.0.0.5\": must be IP:PORT with a port of 1 to 65535, like \
             \"10.0.0.5:7070\"\
             \n  https = \"7071\": must be IP:PORT with a port of 1 to 65535, like \
             \"10.0.0.5:7070\"\
             \n  https_url = \"https://deploy.example.com/swell\": must be https://NAME or \
             https://NAME:PORT, and no more\
             \n  admit_key = \"\": must be a path\
             \n  gossip_interval_ms = 50: must be 100 to 60000\
             \n  upload_mbit_max = 0: must be 1 to 100000\
             \n  https_key: needs https_cert beside it"
        );
    }

    #[test]
    fn an_address_nobody_can_send_to_is_no_address() {
        let cases = [
            ("nothing said", "", "advertise: bind = \"0.0.0.0:7070\" names no address"),
            ("bound to all", "bind = \"[::]:9\"", "set advertise = \"IP:9\""),
            ("advertised", "advertise = \"0.0.0.0:7070\"", "advertise = \"0.0.0.0:7070\": must be"),
            (
                "metrics for all",
                "bind = \"10.0.0.5:7070\"\nmetrics = \"0.0.0.0:7073\"",
                "must be an address of loopback",
            ),
            ("port 0", "bind = \"127.0.0.1:0\"", "bind = \"127.0.0.1:0\": must be IP:PORT"),
        ];
        for (case, text, part) in cases {
            let told = parse(text).unwrap_err().to_string();
            assert!(told.contains(part) && told.contains("1 bad value"), "{case}: {told}");
        }
        let told = parse("bind = ").unwrap_err().to_string();
        assert!(told.starts_with("/etc/groundswell/coordinator.toml is not TOML: "), "{told}");
    }
}
