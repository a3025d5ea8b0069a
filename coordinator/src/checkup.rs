//! What the coordinator finds when it looks itself over, and what can be found on its machine without
//! it.
//!
//! Nothing is repaired. Without the coordinator its database is not opened: whoever looks may be
//! another user, and would leave files that it cannot write.

mod pages;

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use member::checkup::{config_problems, directory, key_file, port, running};
use member::{chain, clock};
use proto::UnixTime;
use proto::checkup::{self, Finding, Topic, bounded};
use proto::wire::{ControlReply, Refused, RefusedKind};

use crate::audit::Verified;
use crate::config::{Config, ConfigError};
use crate::desk::{Desk, blocking};
use crate::files::{self, FilesError, Keys, Roots};
use crate::notify::secret_findings;
use crate::store::StoreError;
use crate::web::{self, called};

impl Desk {
    /// What is found now.
    ///
    /// # Errors
    ///
    /// [`RefusedKind::Busy`]: as many as may are looking already.
    pub async fn checkup(self: &Arc<Self>) -> Result<ControlReply, Refused> {
        let Ok(_turn) = self.checkups.try_acquire() else {
            return Err(Refused {
                kind: RefusedKind::Busy,
                reason: "others are having the coordinator looked over".to_owned(),
                next: "try again in a moment; if it stays so, its disk hangs".to_owned(),
            });
        };
        let mut findings =
            vec![database(self.store.probe().await), record(&self.record.borrow().verified)];
        findings.extend(match &*self.https_certificate.borrow() {
            Some(found) => pages::certificate(found, &called(&self.config), clock::unix()),
            None => vec![pages::none("the coordinator has not come to serve them")],
        });
        // Where the database does not work, that has been told.
        findings.extend(self.notify.findings().await.unwrap_or_default());
        let desk = self.clone();
        findings.extend(
            blocking("look around", move || {
                let mut findings = running(&desk.member, &desk.view);
                findings.extend(on_disk(&desk.config));
                findings
            })
            .await?,
        );
        Ok(ControlReply::Checkup(bounded(findings)))
    }
}

/// What is found on this machine, whether its coordinator runs or not.
pub fn of_machine(config: &Path, now: UnixTime) -> Vec<Finding> {
    let loaded = match Config::load(config) {
        Ok(loaded) => loaded,
        Err(error) => return bounded(problems(error)),
    };
    let what = format!("{} can be used", config.display());
    let mut findings = vec![Finding::good(Topic::Config, what)];
    findings.push(port(loaded.bind, "swell-coordinator", "groundswell-coordinator"));
    findings.extend(on_disk(&loaded));
    findings.extend(owners(&loaded));
    findings.extend(roots(&loaded, now));
    findings.extend(match web::on_disk(&loaded) {
        Ok(Some(found)) => pages::certificate(&found, &called(&loaded), now),
        Ok(None) => {
            let what = "the coordinator makes a certificate for the pages at its start";
            vec![Finding::good(Topic::Certificate, what)]
        }
        Err(error) => vec![pages::none(&chain(&error))],
    });
    bounded(findings)
}

fn problems(error: ConfigError) -> Vec<Finding> {
    let next = "mend the file: the coordinator does not start with it";
    match error {
        ConfigError::Bad { path, problems } => config_problems(&path, &problems, next),
        ConfigError::Read { path, source } => {
            let next = match source.kind() {
                io::ErrorKind::NotFound => {
                    "copy the directory coordinator/ that `swell init` made to this machine"
                }
                io::ErrorKind::PermissionDenied => {
                    "it must belong to the user that the coordinator runs as: chown -R groundswell:"
                }
                _ => next,
            };
            config_problems(&path, &[format!("cannot be read: {source}")], next)
        }
        ConfigError::Malformed { path, why } => {
            config_problems(&path, &[format!("is not TOML: {why}")], next)
        }
    }
}

fn database(probed: Result<(), StoreError>) -> Finding {
    match probed {
        Ok(()) => Finding::good(Topic::Database, "the database takes changes"),
        Err(error) => Finding::wrong(
            Topic::Database,
            chain(&error),
            "look at the disk, and at the owner of coordinator.db in its state directory",
        ),
    }
}

/// Whether the audit record was what was written when all of it was read, after the start.
fn record(verified: &Verified) -> Finding {
    match verified {
        Verified::Pending => Finding::good(Topic::Database, "the audit record is being verified"),
        Verified::Sound(head) => Finding::good(
            Topic::Database,
            format!("the audit record was verified, {} entries", head.length),
        ),
        Verified::Broken(why) => Finding::wrong(
            Topic::Database,
            why,
            "`swell audit --verify` says where; keep coordinator.db as it is, and find out who could \
             write to it",
        ),
    }
}

/// Keys and the state directory.
fn on_disk(config: &Config) -> Vec<Finding> {
    let mut findings = vec![
        key("admit", &config.admit_key),
        key("host-ca", &config.host_ca_key),
        directory(&config.state_dir),
    ];
    findings.extend(state(&config.state_dir));
    findings.extend(secret_findings(&config.notify));
    findings
}

fn key(role: &str, path: &Path) -> Finding {
    match files::read_key(path) {
        Ok(_) => Finding::good(Topic::Keys, format!("the {role} key is there, its owner's alone")),
        Err(FilesError::Key(error)) => key_file(&error),
        Err(error) => Finding::wrong(
            Topic::Keys,
            chain(&error),
            "put the file that `swell init` wrote there; nothing replaces it",
        ),
    }
}

/// What keeps the state directory from being one, and from being its owner's alone: it holds the
/// records of tokens.
fn state(dir: &Path) -> Option<Finding> {
    match files::is_recovering(dir) {
        Ok(true) => {
            return Some(Finding::wrong(
                Topic::Database,
                format!("a recovery into {} was begun and not finished", dir.display()),
                "`swell-coordinator recover` again goes on where it was",
            ));
        }
        Ok(false) => {}
        Err(error) => {
            let next = "run this as the coordinator's user, or as root";
            return Some(Finding::wrong(Topic::Database, chain(&error), next));
        }
    }
    let mode = dir.metadata().ok()?.mode() & 0o7777;
    (mode & 0o077 != 0).then(|| {
        Finding::doubt(
            Topic::Keys,
            format!("others than its owner may look into {} (mode {mode:04o})", dir.display()),
            format!("chmod 700 {}", dir.display()),
        )
    })
}

/// Keys that are not the user's who has the state directory: the coordinator may not read them.
fn owners(config: &Config) -> Vec<Finding> {
    let owner = |path: &Path| path.metadata().ok().map(|facts| facts.uid());
    let Some(daemon) = owner(&config.state_dir) else { return Vec::new() };
    let keys = [config.admit_key.as_path(), &config.host_ca_key];
    let secrets = config.notify.iter().map(|receiver| receiver.channel.secret_file());
    let strange = keys.into_iter().chain(secrets).filter_map(|path| Some((path, owner(path)?)));
    strange.filter_map(|(path, uid)| owner_finding(path, uid, daemon)).collect()
}

fn owner_finding(path: &Path, uid: u32, daemon: u32) -> Option<Finding> {
    (uid != daemon).then(|| {
        Finding::doubt(
            Topic::Keys,
            format!("{} is user {uid}'s, the state directory user {daemon}'s", path.display()),
            format!(
                "chown -R {daemon}: the directory it is in, if the coordinator is to run as that"
            ),
        )
    })
}

/// Whether the newest root lasts, and gives the keys their roles.
fn roots(config: &Config, now: UnixTime) -> Vec<Finding> {
    let wrong = |what: String| {
        let next = "put root.json that `swell init` wrote there, and all roots after it";
        Finding::wrong(Topic::Root, what, next)
    };
    let roots = match Roots::read(&config.root_dir) {
        Ok(roots) => roots,
        Err(error) => return vec![wrong(chain(&error))],
    };
    let Some(root) = roots.envelopes.last().and_then(|envelope| checkup::root_in(envelope)) else {
        return vec![wrong(format!("what is in {} is no root", config.root_dir.display()))];
    };
    let mut findings = vec![checkup::root(&root, now)];
    // What is wrong with the keys themselves has been told.
    if let Ok(keys) = Keys::read(config)
        && let Err(error) = keys.check(&root)
    {
        let next = "put the keys and roots of one and the same `swell init` there";
        findings.push(Finding::wrong(Topic::Keys, chain(&error), next));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use ed25519_dalek::SigningKey;
    use proto::KeyId;
    use proto::checkup::Grade::{self, Doubt, Good, Wrong};
    use proto::key::{PublicKey, secret_to_text};
    use proto::statement::{KeyEntry, Payload as _, Role, RoleKeys, Root};

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    /// A coordinator's bundle, as `swell init` writes it.
    struct Bundle(tempfile::TempDir);

    impl Bundle {
        fn new() -> Self {
            let bundle = Self(tempfile::tempdir().unwrap());
            fs::create_dir(bundle.path("root")).unwrap();
            fs::create_dir(bundle.path("state")).unwrap();
            bundle.chmod("state", 0o700);
            for (file, seed) in [("admit.key", 1), ("host-ca.key", 2)] {
                let text = secret_to_text(&key(seed));
                durable::create_secret(&bundle.path(file), text.as_bytes()).unwrap();
            }
            // An address of this process alone: whether its port is free is looked at, too.
            let pid = std::process::id().to_be_bytes();
            let bind = format!("127.{}.{}.{}:7070", 192 | (pid[1] & 63), pid[2], pid[3]);
            let text = format!("bind = \"{bind}\"\nstate_dir = \"state\"\n");
            fs::write(bundle.path("coordinator.toml"), text).unwrap();
            bundle.write_root(1, 2);
            bundle
        }

        /// A root that gives these keys the two roles.
        fn write_root(&self, admit: u8, host_ca: u8) {
            let roles = [(Role::Root, 9), (Role::Admit, admit), (Role::HostCa, host_ca)];
            let keys = roles.each_ref().map(|(_, seed)| PublicKey::of(&key(*seed)));
            let entry = |key| (KeyId::of(&key), KeyEntry { key, owner: "owner".parse().unwrap() });
            let held = |(role, seed): (Role, u8)| {
                let keys = vec![KeyId::of(&PublicKey::of(&key(seed)))];
                (role, RoleKeys { keys, threshold: 1 })
            };
            let root = Root {
                fleet: "test".parse().unwrap(),
                version: 1,
                expires: NOW.plus_s(730 * 86_400),
                keys: keys.map(entry).into(),
                roles: roles.map(held).into(),
                environments: Default::default(),
                critical: Vec::new(),
            };
            fs::write(self.path("root/root.json"), root.envelope().to_bytes()).unwrap();
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn chmod(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn found(&self) -> Vec<Finding> {
            of_machine(&self.path("coordinator.toml"), NOW)
        }

        /// There is a finding like this.
        fn is(&self, topic: Topic, grade: Grade, text: &str) {
            let found = self.found();
            let so =
                |one: &Finding| one.topic == topic && one.grade == grade && one.what.contains(text);
            assert!(found.iter().any(so), "{topic:?} {text}: {}", checkup::to_text(&found));
        }
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn a_coordinator_that_is_well_has_nothing_wrong() {
        let bundle = Bundle::new();
        let found = bundle.found();
        assert_ne!(Grade::worst_of(&found), Wrong, "{}", checkup::to_text(&found));
        bundle.is(Topic::Config, Good, "coordinator.toml can be used");
        bundle.is(Topic::Keys, Good, "the admit key is there");
        bundle.is(Topic::Keys, Good, "the host-ca key is there");
        bundle.is(Topic::Root, Good, "root version 1 expires in 730 days");
        bundle.is(Topic::Port, Doubt, "swell-coordinator does not run");
    }

    #[test]
    fn a_configuration_is_told_with_all_its_mistakes() {
        let bundle = Bundle::new();
        fs::write(bundle.path("coordinator.toml"), "bindd = 1\ngossip_interval_ms = 1\n").unwrap();
        bundle.is(Topic::Config, Wrong, "bindd: unknown key");
        bundle.is(Topic::Config, Wrong, "gossip_interval_ms = 1: must be");
        fs::write(bundle.path("coordinator.toml"), "bind = ").unwrap();
        bundle.is(Topic::Config, Wrong, "is not TOML");
        fs::remove_file(bundle.path("coordinator.toml")).unwrap();
        bundle.is(Topic::Config, Wrong, "cannot be read: No such file");
    }

    #[test]
    fn keys_must_be_there_their_owners_alone_and_those_of_the_root() {
        let bundle = Bundle::new();
        bundle.chmod("admit.key", 0o640);
        bundle.is(Topic::Keys, Wrong, "admit.key (mode 0640)");
        let secret = secret_to_text(&key(1));
        let all = checkup::to_text(&bundle.found());
        assert!(!all.contains(secret.trim()), "no finding has a secret: {all}");
        bundle.chmod("admit.key", 0o600);
        bundle.write_root(1, 3);
        bundle.is(Topic::Keys, Wrong, "for the role host-ca and does not");
        fs::write(bundle.path("host-ca.key"), "no key").unwrap();
        bundle.is(Topic::Keys, Wrong, "holds no key");
        fs::remove_file(bundle.path("host-ca.key")).unwrap();
        bundle.is(Topic::Keys, Wrong, "No such file");
    }

    #[test]
    fn roots_must_be_there() {
        let bundle = Bundle::new();
        fs::write(bundle.path("root/root.json"), "no root").unwrap();
        bundle.is(Topic::Root, Wrong, "holds no root");
        fs::remove_file(bundle.path("root/root.json")).unwrap();
        bundle.is(Topic::Root, Wrong, "cannot read the root");
    }

    #[test]
    fn the_state_must_be_whole_and_its_owners_alone() {
        let bundle = Bundle::new();
        bundle.chmod("state", 0o755);
        bundle.is(Topic::Keys, Doubt, "(mode 0755)");
        fs::write(bundle.path("state/recovering"), "fleet").unwrap();
        bundle.is(Topic::Database, Wrong, "was begun and not finished");
        let text = fs::read_to_string(bundle.path("coordinator.toml")).unwrap();
        let text = text.replace("\"state\"", "\"/proc/self\"");
        fs::write(bundle.path("coordinator.toml"), text).unwrap();
        bundle.is(Topic::Disk, Wrong, "/proc/self cannot be written");
    }

    #[test]
    fn a_database_that_takes_no_changes_is_wrong() {
        assert_eq!(database(Ok(())).grade, Good);
        let found = database(Err(StoreError::Newer { got: 9, known: 2 }));
        assert!(found.grade == Wrong && !found.next.is_empty(), "{found}");
    }

    #[test]
    fn a_key_of_another_user_is_in_doubt() {
        let path = Path::new("admit.key");
        assert_eq!(owner_finding(path, 998, 998), None);
        let found = owner_finding(path, 0, 998).unwrap();
        assert_eq!((found.topic, found.grade), (Topic::Keys, Doubt));
        assert!(found.what.contains("user 0's") && found.next.contains("chown -R 998:"), "{found}");
    }
}
