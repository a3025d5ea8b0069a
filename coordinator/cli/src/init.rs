//! `swell init`: the keys of a new fleet, its first root, and the coordinator's bundle.
//!
//! Nothing is ever overwritten. `operator.toml` is written last and makes the directory a fleet's,
//! so one that was interrupted is none, and a second try names the first file that is in its way.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use durable::{SecretError, make_secret_dir};
use ed25519_dalek::SigningKey;
use proto::id::{Env, FleetId, KeyId, Name, ParseIdError};
use proto::key::{PublicKey, secret_to_text};
use proto::statement::{KeyEntry, Payload as _, Policy, Role, RoleKeys, Root, UnixTime};

use crate::failure::{Advise, Exit};
use crate::home::{self, HomeError, KeyFiles, OPERATOR_TOML, Operator, ROOT_JSON};

/// The directory to copy to the coordinator's machine.
pub(crate) const BUNDLE: &str = "coordinator";
/// How long the first root is good for, in seconds: two years.
const ROOT_EXPIRES_S: u64 = 2 * 365 * 86_400;
/// The fleet's name is followed by a hyphen and eight digits, and has at most 49 bytes with them.
const NAME_BYTES_MAX: usize = 40;

/// What to make.
#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Name of the fleet; eight random digits are added to it
    #[arg(long, value_name = "NAME")]
    fleet: String,
    /// An environment; may stand several times [default: staging and production]
    #[arg(long = "env", value_name = "ENV")]
    envs: Vec<Env>,
    /// Whose the root and operator keys are, for the audit log [default: $USER, or operator]
    #[arg(long, value_name = "NAME")]
    owner: Option<Name>,
    /// Where the coordinator will be reached by hosts and operators
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7070")]
    coordinator: SocketAddr,
}

/// Why no fleet was made. Nothing that stood before was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("cannot name the fleet {name:?}")]
    Name {
        name: String,
        #[source]
        source: ParseIdError,
    },
    #[error("cannot name the fleet {name:?}: must have at most {NAME_BYTES_MAX} bytes")]
    LongName { name: String },
    #[error("cannot reach a coordinator at {0}: must be the address of one machine, and its port")]
    Address(SocketAddr),
    #[error("there is a fleet in {} already: {fleet}", dir.display())]
    Fleet { dir: PathBuf, fleet: FleetId },
    #[error("cannot tell which fleet is in {}", dir.display())]
    Unclear {
        dir: PathBuf,
        #[source]
        source: HomeError,
    },
    #[error("{} stands in the way and is not overwritten", path.display())]
    InTheWay { path: PathBuf },
    #[error("cannot make a key: the system gives no random bytes")]
    Random(#[source] getrandom::Error),
    #[error("cannot make {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make a key file")]
    Secret(#[source] SecretError),
}

impl Advise for InitError {
    fn exit(&self) -> Exit {
        match self {
            Self::Name { .. } | Self::LongName { .. } | Self::Address(_) => Exit::Usage,
            _ => Exit::Error,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::Fleet { .. } => Some("give another directory by --dir".to_owned()),
            Self::InTheWay { .. } => Some(
                "it may be left from an init that was interrupted: move it away, or give another \
                 directory by --dir"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// The keys of a new fleet.
struct Keys {
    root: SigningKey,
    operator: SigningKey,
    publisher: SigningKey,
    host_ca: SigningKey,
    admit: SigningKey,
}

impl Keys {
    fn random() -> Result<Self, InitError> {
        let key = || {
            let mut secret = [0; 32];
            getrandom::fill(&mut secret).map_err(InitError::Random)?;
            Ok(SigningKey::from_bytes(&secret))
        };
        Ok(Self {
            root: key()?,
            operator: key()?,
            publisher: key()?,
            host_ca: key()?,
            admit: key()?,
        })
    }
}

/// Makes the fleet in `dir` and gives what to tell the operator.
///
/// # Errors
///
/// [`InitError`]; what was there before is as it was.
pub(crate) fn run(args: &InitArgs, dir: &Path, now: UnixTime) -> Result<String, InitError> {
    if args.fleet.len() > NAME_BYTES_MAX {
        return Err(InitError::LongName { name: args.fleet.clone() });
    }
    let ip = args.coordinator.ip();
    if ip.is_unspecified() || ip.is_multicast() || args.coordinator.port() == 0 {
        return Err(InitError::Address(args.coordinator));
    }
    let fleet = fleet_id(&args.fleet)?;
    refuse_what_is_there(dir)?;
    let keys = Keys::random()?;
    let root = root(&fleet, &environments(args), &owner(args), &keys, now);
    let envelope = root.signed(&keys.root);
    let operator = Operator {
        fleet,
        root: envelope.id(),
        coordinator: args.coordinator,
        coordinator_key: KeyId::of(&PublicKey::of(&keys.admit)),
        keys: KeyFiles::default(),
    };
    write_all(dir, &keys, &envelope.to_bytes(), &operator)?;
    Ok(next_steps(dir, &operator, &environments(args)))
}

fn environments(args: &InitArgs) -> Vec<Env> {
    match args.envs.is_empty() {
        true => ["staging", "production"]
            .map(|env| env.parse().expect("an environment's name"))
            .to_vec(),
        false => args.envs.clone(),
    }
}

fn owner(args: &InitArgs) -> Name {
    let user = || std::env::var("USER").ok()?.parse().ok();
    args.owner.clone().or_else(user).unwrap_or_else(|| "operator".parse().expect("a name"))
}

fn fleet_id(name: &str) -> Result<FleetId, InitError> {
    let random = getrandom::u32().map_err(InitError::Random)?;
    // The name alone must be good, too: `x-` would pass with digits behind it.
    name.parse::<FleetId>()
        .and_then(|_| format!("{name}-{random:08x}").parse())
        .map_err(|source| InitError::Name { name: name.to_owned(), source })
}

/// The files of a new fleet, keys first, `operator.toml` last.
fn files(dir: &Path) -> [PathBuf; 6] {
    let KeyFiles { root, operator, publisher } = KeyFiles::default();
    [
        dir.join(root),
        dir.join(operator),
        dir.join(publisher),
        dir.join(ROOT_JSON),
        dir.join(BUNDLE),
        dir.join(OPERATOR_TOML),
    ]
}

fn refuse_what_is_there(dir: &Path) -> Result<(), InitError> {
    let owned = dir.to_owned();
    match home::read_operator(dir) {
        Ok(operator) => return Err(InitError::Fleet { dir: owned, fleet: operator.fleet }),
        Err(HomeError::NoFleet { .. }) => {}
        Err(source) => return Err(InitError::Unclear { dir: owned, source }),
    }
    match files(dir).into_iter().find(|path| home::stands(path)) {
        Some(path) => Err(InitError::InTheWay { path }),
        None => Ok(()),
    }
}

/// The first root: one key for each role, every protection at its least.
fn root(fleet: &FleetId, envs: &[Env], owner: &Name, keys: &Keys, now: UnixTime) -> Root {
    let name = |text: &str| text.parse::<Name>().expect("a name");
    let mut root = Root {
        fleet: fleet.clone(),
        version: 1,
        expires: now.plus_s(ROOT_EXPIRES_S),
        keys: BTreeMap::new(),
        roles: BTreeMap::new(),
        environments: BTreeMap::new(),
        critical: Vec::new(),
    };
    let entries = [
        (&keys.root, owner.clone()),
        (&keys.operator, owner.clone()),
        (&keys.publisher, name("ci")),
        (&keys.host_ca, name("coordinator")),
        (&keys.admit, name("coordinator")),
    ];
    for (key, owner) in entries {
        let key = PublicKey::of(key);
        root.keys.insert(KeyId::of(&key), KeyEntry { key, owner });
    }
    let mut roles = vec![
        (Role::Root, &keys.root),
        (Role::Publish, &keys.publisher),
        (Role::Admit, &keys.admit),
        (Role::HostCa, &keys.host_ca),
        (Role::Emergency, &keys.operator),
    ];
    for env in envs {
        roles.push((Role::Deploy(env.clone()), &keys.operator));
        roles.push((Role::Approve(env.clone()), &keys.operator));
        root.environments.insert(
            env.clone(),
            Policy {
                approvals_min: 0,
                stages_min: 1,
                bake_s_min: 0,
                coordinator_may_roll_back: true,
            },
        );
    }
    for (role, key) in roles {
        let keys = vec![KeyId::of(&PublicKey::of(key))];
        root.roles.insert(role, RoleKeys { keys, threshold: 1 });
    }
    root
}

fn write_all(dir: &Path, keys: &Keys, root: &[u8], operator: &Operator) -> Result<(), InitError> {
    let bundle = dir.join(BUNDLE);
    let roots = bundle.join("root");
    [dir, &bundle, &roots].into_iter().try_for_each(make_dir)?;
    let files = &operator.keys;
    let secrets = [
        (dir.join(&files.root), &keys.root),
        (dir.join(&files.operator), &keys.operator),
        (dir.join(&files.publisher), &keys.publisher),
        (bundle.join("host-ca.key"), &keys.host_ca),
        (bundle.join("admit.key"), &keys.admit),
    ];
    for (path, key) in secrets {
        durable::create_secret(&path, secret_to_text(key).as_bytes()).map_err(InitError::Secret)?;
    }
    write_new(&dir.join(ROOT_JSON), root)?;
    write_new(&roots.join("root.json"), root)?;
    write_new(&bundle.join("coordinator.toml"), coordinator_toml(operator.coordinator).as_bytes())?;
    let text = toml::to_string(operator).expect("operator.toml has only texts");
    write_new(&dir.join(OPERATOR_TOML), text.as_bytes())
}

/// Makes a directory for its owner alone, and those above it.
fn make_dir(path: &Path) -> Result<(), InitError> {
    make_secret_dir(path).map_err(|source| InitError::Write { path: path.to_owned(), source })
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), InitError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    write().map_err(|source| InitError::Write { path: path.to_owned(), source })
}

fn coordinator_toml(address: SocketAddr) -> String {
    // On loopback it is tried out: nobody else is meant to reach it, and its state stays beside it.
    let state = match address.ip().is_loopback() {
        true => "state",
        false => "/var/lib/groundswell-coordinator",
    };
    // Else it listens wherever its machine is.
    let bind = match address.ip() {
        ip if ip.is_loopback() => address.to_string(),
        IpAddr::V4(_) => format!("0.0.0.0:{}", address.port()),
        IpAddr::V6(_) => format!("[::]:{}", address.port()),
    };
    format!(
        "# The coordinator. Paths are relative to this file.\n\
         state_dir = \"{state}\"\n\
         bind = \"{bind}\"\n\
         # Where hosts and operators reach it.\n\
         advertise = \"{address}\"\n\
         admit_key = \"admit.key\"\n\
         host_ca_key = \"host-ca.key\"\n\
         root_dir = \"root\"\n"
    )
}

fn next_steps(dir: &Path, operator: &Operator, envs: &[Env]) -> String {
    let (shown, fleet, address) = (dir.display(), &operator.fleet, operator.coordinator);
    let env = envs.iter().find(|env| env.as_str() == "production").unwrap_or(&envs[0]);
    let ip = address.ip();
    let copied_to = match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let start = match ip.is_loopback() {
        // To try it out, beside everything else.
        true => format!("\x20 swell-coordinator run --config {shown}/{BUNDLE}/coordinator.toml\n"),
        false => format!(
            "\x20 #    (its package is installed there)\n\
             \x20 scp -rp {shown}/{BUNDLE} root@{copied_to}:/etc/groundswell/\n\
             \x20 ssh root@{ip} chown -R groundswell: /etc/groundswell/{BUNDLE}\n\
             \x20 ssh root@{ip} systemctl start groundswell-coordinator\n\
             \x20 rm {shown}/{BUNDLE}/*.key\n"
        ),
    };
    format!(
        "Fleet {fleet} is made, in {shown}:\n\
         \x20 root.key        changes who may do what. KEEP IT OFFLINE: move it to a medium that is\n\
         \x20                 not connected to anything, and make a second copy of it.\n\
         \x20 operator.key    deploys, pauses, rolls back: yours\n\
         \x20 publisher.key   hands in releases: give it to CI, with operator.toml and root.json\n\
         \x20 coordinator/    everything the coordinator needs, with two keys that are only its own\n\
         \n\
         Next:\n\
         \x20 export SWELL_DIR={shown}\n\
         \x20 # 1. start the coordinator, which hosts will reach at {address}; its keys belong there alone\n\
         {start}\
         \x20 # 2. let servers in: a token, then on each of them, where the agent's package is installed\n\
         \x20 swell token create --uses 10 --ttl 1h --label env={env}\n\
         \x20 swell-agent join TOKEN\n\
         \x20 systemctl start groundswell-agent\n\
         \x20 # 3. bring a service, described by a swell.toml\n\
         \x20 swell publish DIR --version 1.0.0\n\
         \x20 swell deploy SERVICE 1.0.0 --env {env} --watch\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proto::key::secret_from_text;

    use super::*;
    use crate::home::{Home, KeyName};

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn args(fleet: &str) -> InitArgs {
        InitArgs {
            fleet: fleet.to_owned(),
            envs: Vec::new(),
            owner: Some("ada".parse().unwrap()),
            coordinator: "192.0.2.1:7070".parse().unwrap(),
        }
    }

    fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => found.extend(snapshot(&path)),
                false => drop(found.insert(path.clone(), fs::read(path).unwrap())),
            }
        }
        found
    }

    #[test]
    fn every_key_is_its_owners_alone_and_no_two_are_the_same() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("fleet");
        run(&args("shop"), &dir, NOW).unwrap();
        let mut keys = Vec::new();
        for (path, bytes) in snapshot(&dir) {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            if path.extension().is_some_and(|extension| extension == "key") {
                assert_eq!(mode, 0o600, "{}", path.display());
                keys.push(secret_from_text(&bytes).unwrap().to_bytes());
            } else {
                let text = String::from_utf8(bytes).unwrap();
                assert!(!text.contains("gsw-secret"), "{} holds a key", path.display());
            }
        }
        assert_eq!(keys.len(), 5);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 5);
        let dir_mode = fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
        assert_eq!(dir_mode, 0o700);
    }

    #[test]
    fn the_root_verifies_from_its_pin_and_gives_each_role_its_key() {
        let temp = tempfile::tempdir().unwrap();
        run(&args("shop"), temp.path(), NOW).unwrap();
        let home = Home::open(temp.path().to_owned()).unwrap();
        let chain = home.chain().unwrap();
        assert_eq!(chain.fleet(), &home.operator.fleet);
        let operator = PublicKey::of(&home.key(KeyName::Operator, "test").unwrap());
        let publisher = PublicKey::of(&home.key(KeyName::Publisher, "test").unwrap());
        let production: Env = "production".parse().unwrap();
        let cases = [
            (Role::Publish, &publisher, true),
            (Role::Publish, &operator, false),
            (Role::Deploy(production.clone()), &operator, true),
            (Role::Deploy(production.clone()), &publisher, false),
            (Role::Approve(production), &operator, true),
            (Role::Emergency, &operator, true),
            (Role::Root, &operator, false),
            (Role::Admit, &operator, false),
        ];
        for (role, key, holds) in cases {
            assert_eq!(chain.root().holds(&role, key), holds, "{role}");
        }
        let envs: Vec<_> = home.root.environments.keys().map(Env::as_str).collect();
        assert_eq!(envs, ["production", "staging"]);
    }

    #[test]
    fn a_second_init_refuses_names_the_fleet_and_changes_nothing() {
        let temp = tempfile::tempdir().unwrap();
        run(&args("shop"), temp.path(), NOW).unwrap();
        let before = snapshot(temp.path());
        let error = run(&args("other"), temp.path(), NOW).unwrap_err();
        assert!(
            matches!(&error, InitError::Fleet { fleet, .. } if fleet.as_str().starts_with("shop-"))
        );
        assert_eq!(snapshot(temp.path()), before);
    }

    #[test]
    fn any_file_in_the_way_stays_as_it_is() {
        for name in ["root.key", "operator.key", "publisher.key", "root.json", "coordinator"] {
            let temp = tempfile::tempdir().unwrap();
            fs::write(temp.path().join(name), "mine").unwrap();
            let error = run(&args("shop"), temp.path(), NOW).unwrap_err();
            let named = matches!(&error, InitError::InTheWay { path } if path.ends_with(name));
            assert!(named, "{name}: {error}");
            assert_eq!(snapshot(temp.path()).len(), 1, "{name}");
            assert_eq!(fs::read(temp.path().join(name)).unwrap(), b"mine", "{name}");
        }
    }

    #[test]
    fn a_directory_with_only_some_keys_works_for_what_they_may() {
        let temp = tempfile::tempdir().unwrap();
        run(&args("shop"), temp.path(), NOW).unwrap();
        for name in ["root.key", "operator.key"] {
            fs::remove_file(temp.path().join(name)).unwrap();
        }
        fs::remove_dir_all(temp.path().join(BUNDLE)).unwrap();
        let home = Home::open(temp.path().to_owned()).unwrap();
        let publisher = home.key(KeyName::Publisher, "sign a release").unwrap();
        assert_eq!(home.any_key("be let in").unwrap().to_bytes(), publisher.to_bytes());
        let error = home.key(KeyName::Operator, "sign a rollout").unwrap_err();
        let expected = format!(
            "the operator key is not in {}: it is needed to sign a rollout",
            temp.path().display()
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.next().unwrap(), "put operator.key there, or run this where it is");
    }

    #[test]
    fn parts_of_two_fleets_are_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        run(&args("one"), one.path(), NOW).unwrap();
        run(&args("two"), two.path(), NOW).unwrap();
        fs::copy(two.path().join(ROOT_JSON), one.path().join(ROOT_JSON)).unwrap();
        let error = Home::open(one.path().to_owned()).unwrap_err();
        assert!(matches!(error, HomeError::OtherRoot { .. }), "{error}");
    }

    #[test]
    fn names_and_addresses_that_cannot_work_are_usage_errors() {
        let temp = tempfile::tempdir().unwrap();
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for fleet in ["", "-x", "x-", "Shop", "a b", &long] {
            let error = run(&args(fleet), temp.path(), NOW).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{fleet:?}: {error}");
        }
        for address in ["0.0.0.0:7070", "[::]:7070", "224.0.0.1:7070", "192.0.2.1:0"] {
            let args = InitArgs { coordinator: address.parse().unwrap(), ..args("shop") };
            let error = run(&args, temp.path(), NOW).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{address}: {error}");
        }
        assert!(snapshot(temp.path()).is_empty());
    }

    #[test]
    fn the_coordinator_listens_where_it_can_be_reached() {
        let cases = [
            ("127.64.3.1:7070", "bind = \"127.64.3.1:7070\"", "state_dir = \"state\""),
            ("192.0.2.1:7070", "bind = \"0.0.0.0:7070\"", "/var/lib/groundswell-coordinator"),
            ("[2001:db8::1]:7071", "bind = \"[::]:7071\"", "/var/lib/groundswell-coordinator"),
        ];
        for (address, bind, state) in cases {
            let text = coordinator_toml(address.parse().unwrap());
            assert!(text.contains(bind) && text.contains(state), "{address}: {text}");
            assert!(text.contains(&format!("advertise = \"{address}\"")), "{address}: {text}");
        }
    }
}
