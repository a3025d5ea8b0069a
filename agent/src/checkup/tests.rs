//! What is found on a machine, on directories that are as they should be and ones that are not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use proto::checkup::Grade::{self, Doubt, Good, Wrong};
use proto::key::PublicKey;
use proto::receipt::Cause;
use proto::statement::{
    ArtifactRef, Health, Host, KeyEntry, Payload as _, Release, Role, RoleKeys, Root, Run, Source,
};
use proto::{Digest, HostId, KeyId};

use super::*;
use crate::activate::Installed;

const NOW: UnixTime = UnixTime(1_800_000_000);
const LIFE_DAYS: u64 = 90;

/// A host that has joined, in a directory of its own.
struct Machine {
    dir: tempfile::TempDir,
    config: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Self { config: dir.path().join("agent.toml"), dir };
        fs::create_dir(machine.path("srv")).unwrap();
        let (state, srv) = (machine.path("state"), machine.path("srv"));
        // An address of this process alone: whether its port is free is looked at, too.
        let pid = std::process::id().to_be_bytes();
        let bind = format!("127.{}.{}.{}:7070", 192 | (pid[1] & 63), pid[2], pid[3]);
        let text = format!(
            "name = \"n1\"\nbind = \"{bind}\"\nstate_dir = {state:?}\nservice_root = {srv:?}\n"
        );
        fs::write(&machine.config, text).unwrap();
        machine
    }

    fn joined() -> Self {
        let machine = Self::new();
        let home = Home::new(&machine.path("state"));
        home.make().unwrap();
        let key = home.key_for_join().unwrap();
        let person = PublicKey::of(&SigningKey::from_bytes(&[8; 32]));
        let keys = vec![KeyId::of(&person)];
        let root = Root {
            fleet: "test".parse().unwrap(),
            version: 1,
            expires: NOW.plus_s(59 * DAY_S),
            keys: [(keys[0].clone(), KeyEntry { key: person, owner: "ada".parse().unwrap() })]
                .into(),
            roles: [(Role::Root, RoleKeys { keys, threshold: 1 })].into(),
            environments: Default::default(),
            critical: Vec::new(),
        };
        let envelope = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let joined = Joined {
            root: root.envelope().id(),
            roots: vec![envelope(root.envelope().to_bytes())],
            host: envelope(host(&key).envelope().to_bytes()),
        };
        home.save(&joined, &certified(&key, 0), &[]).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn found(&self) -> Vec<Finding> {
        of_machine(&self.config, NOW)
    }

    /// The one finding about this, which must be there.
    fn finding(&self, topic: Topic, text: &str) -> Finding {
        let found = self.found();
        let about = |one: &&Finding| one.topic == topic && one.what.contains(text);
        let one = found.iter().find(about);
        one.unwrap_or_else(|| panic!("{topic:?} {text}: {}", checkup::to_text(&found))).clone()
    }

    /// A release of `web` that stands whole, and `current` pointing at it.
    fn deployed(&self) -> Installed {
        let release = Release {
            fleet: "test".parse().unwrap(),
            service: "web".parse().unwrap(),
            version: "1.4.0".parse().unwrap(),
            artifact: ArtifactRef {
                id: Digest::of(b"manifest"),
                manifest_bytes: 8,
                bytes: 1,
                raw_bytes: 1,
            },
            source: Source::default(),
            created: NOW,
            run: Run { start: "a".into(), stop: "b".into(), timeout_s: 30, ..Run::default() },
            health: Health::default(),
            critical: Vec::new(),
        };
        let installed = Installed { id: release.envelope().id(), staged: 1, release };
        let paths = self.paths();
        fs::create_dir_all(paths.release(&installed.id)).unwrap();
        fs::write(paths.manifest(&installed.id), "manifest").unwrap();
        let record = serde_json::to_vec(&installed).unwrap();
        fs::write(paths.record(&installed.id), record).unwrap();
        let target = format!("releases/{}", installed.id);
        std::os::unix::fs::symlink(target, paths.current()).unwrap();
        installed
    }

    fn paths(&self) -> Paths {
        Paths::new(&self.path("srv"), &"web".parse().unwrap())
    }

    /// Writes the journal of `web`.
    fn journal(&self, step: &Step) {
        let directory = journals(&Home::new(&self.path("state")).services());
        fs::create_dir_all(&directory).unwrap();
        let journal = serde_json::json!({
            "format": 1, "attempt": 1, "from": null, "to": Digest::of(b"to"), "step": step,
            "boot": "boot",
        });
        fs::write(directory.join("web.json"), journal.to_string()).unwrap();
    }
}

fn host(key: &SigningKey) -> Host {
    let key = PublicKey::of(key);
    Host {
        fleet: "test".parse().unwrap(),
        id: HostId::of(&key),
        key,
        name: "n1".parse().unwrap(),
        labels: Default::default(),
        issued: NOW,
        critical: Vec::new(),
    }
}

/// A certificate that was issued so many days ago.
fn certified(key: &SigningKey, days_ago: u64) -> Vec<u8> {
    let ca = SigningKey::from_bytes(&[9; 32]);
    let issued = UnixTime(NOW.0 - days_ago * DAY_S);
    certificate::issue(&ca, &host(key), issued, u32::try_from(LIFE_DAYS).unwrap()).unwrap()
}

#[test]
fn certificates_table() {
    let key = SigningKey::from_bytes(&[3; 32]);
    let cases = [
        (0, Good, "90 days"),
        (70, Good, "20 days"),
        (71, Doubt, "19 days"),
        (89, Doubt, "1 days"),
        (90, Wrong, "has expired"),
        (400, Wrong, "has expired"),
    ];
    for (days_ago, grade, text) in cases {
        let facts = certificate::facts(&certified(&key, days_ago)).unwrap();
        let found = certificate(&facts, NOW);
        assert_eq!(found.grade, grade, "{days_ago}: {found}");
        assert!(found.what.contains(text), "{found}");
    }
    let facts = certificate::facts(&certified(&key, 0)).unwrap();
    let early = certificate(&facts, UnixTime(NOW.0 - 1));
    assert_eq!(early.grade, Wrong, "a clock that has lost the time: {early}");
}

#[test]
fn a_host_that_is_well_has_nothing_wrong() {
    let machine = Machine::joined();
    machine.deployed();
    machine.journal(&Step::Committed);
    let found = machine.found();
    assert_ne!(Grade::worst_of(&found), Wrong, "{}", checkup::to_text(&found));
    machine.finding(Topic::Config, "agent.toml can be used");
    machine.finding(Topic::Keys, "this machine's alone");
    machine.finding(Topic::Certificate, "good for 90 days");
    machine.finding(Topic::Disk, "state");
    machine.finding(Topic::Disk, "srv");
    let service = machine.finding(Topic::Service, "web: `current` is 1.4.0, whole at a glance");
    assert_eq!(service.grade, Good);
    assert_eq!(machine.finding(Topic::Root, "expires in 59 days").grade, Doubt);
}

#[test]
fn a_configuration_is_told_with_all_its_mistakes() {
    let machine = Machine::new();
    fs::write(&machine.config, "bindd = 1\nkeep_releases = 1\n").unwrap();
    let found = machine.found();
    let texts: Vec<_> = found.iter().map(|one| one.what.as_str()).collect();
    assert_eq!((texts.len(), Grade::worst_of(&found)), (2, Wrong), "{texts:?}");
    assert!(
        texts[0].contains("bindd: unknown key") && texts[1].contains("keep_releases = 1: must")
    );
    fs::write(&machine.config, "bind = ").unwrap();
    machine.finding(Topic::Config, "is not TOML");
    fs::remove_file(&machine.config).unwrap();
    machine.finding(Topic::Config, "cannot be read: No such file");
}

#[test]
fn a_server_that_has_joined_nothing_is_told_how_to() {
    let found = Machine::new().finding(Topic::Keys, "has joined no fleet");
    assert!(found.grade == Wrong && found.next.contains("swell-agent join TOKEN"), "{found}");
}

#[test]
fn keys_that_are_not_this_machines_alone_are_wrong() {
    let machine = Machine::joined();
    let key = machine.path("state/host.key");
    let secret = fs::read_to_string(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let found = machine.finding(Topic::Keys, "host.key (mode 0644)");
    assert!(found.grade == Wrong && found.next.starts_with("chmod 600 "), "{found}");
    let all = checkup::to_text(&machine.found());
    assert!(!all.contains(secret.trim()), "no finding has a secret: {all}");

    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, "no key").unwrap();
    assert_eq!(machine.finding(Topic::Keys, "is damaged: not a key file").grade, Wrong);
    fs::write(machine.path("state/machine-id"), "of another machine\n").unwrap();
    assert_eq!(machine.finding(Topic::Keys, "this disk is a copy").grade, Wrong);
}

#[test]
fn what_the_certificate_file_holds_must_be_one() {
    let machine = Machine::joined();
    fs::write(machine.path("state/host.crt"), "no certificate").unwrap();
    assert_eq!(machine.finding(Topic::Certificate, "host.crt: ").grade, Wrong);
    fs::remove_file(machine.path("state/host.crt")).unwrap();
    assert_eq!(machine.finding(Topic::Certificate, "host.crt: ").grade, Wrong);
}

/// Where nobody may make a file, root neither.
#[test]
fn a_directory_that_cannot_be_written_is_wrong() {
    let machine = Machine::joined();
    let text = fs::read_to_string(&machine.config).unwrap();
    let srv = machine.path("srv").display().to_string();
    fs::write(&machine.config, text.replace(&srv, "/proc/self")).unwrap();
    assert_eq!(machine.finding(Topic::Disk, "/proc/self cannot be written").grade, Wrong);
}

#[test]
fn a_service_that_could_not_go_back_is_wrong_and_where_to_look_is_said() {
    let machine = Machine::joined();
    machine.deployed();
    let (cause, note) = (Cause::Release, "stop exited 1".to_owned());
    machine.journal(&Step::RevertFailed { cause, note: note.clone() });
    let found =
        machine.finding(Topic::Service, "could not go back to what ran before: stop exited 1");
    assert_eq!(found.grade, Wrong);
    assert!(found.next.contains("services/logs/web.log has what"), "{found}");
    machine.journal(&Step::Reverted { cause, note });
    assert_eq!(machine.finding(Topic::Service, "(last step: reverted)").grade, Good);
}

#[test]
fn current_must_point_at_a_whole_release() {
    let machine = Machine::joined();
    machine.journal(&Step::Reverted { cause: Cause::Release, note: String::new() });
    assert_eq!(machine.finding(Topic::Service, "web: nothing is deployed").grade, Good);
    machine.journal(&Step::Committed);
    assert_eq!(machine.finding(Topic::Service, "is gone, though").grade, Wrong);

    let installed = machine.deployed();
    let paths = machine.paths();
    fs::remove_file(paths.manifest(&installed.id)).unwrap();
    assert_eq!(machine.finding(Topic::Service, "not all of it is in").grade, Wrong);
    fs::write(paths.manifest(&installed.id), "manifest").unwrap();
    fs::remove_dir(paths.release(&installed.id)).unwrap();
    assert_eq!(machine.finding(Topic::Service, "not all of it is in").grade, Wrong);
    fs::remove_file(paths.record(&installed.id)).unwrap();
    assert_eq!(machine.finding(Topic::Service, "web: cannot read ").grade, Wrong);
    fs::remove_file(paths.current()).unwrap();
    fs::create_dir(paths.current()).unwrap();
    assert_eq!(machine.finding(Topic::Service, "is not a link to releases").grade, Wrong);
    fs::write(journals(&machine.path("state/services")).join("web.json"), "x").unwrap();
    assert_eq!(machine.finding(Topic::Service, "is not an activation journal").grade, Wrong);
}
