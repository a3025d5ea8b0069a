//! The real thing: packed trees, real files, `/bin/sh`, a real HTTP answer.

mod kept;
mod renewed;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use durable::RealDisk;
use proto::artifact::{PIECE_RAW_BYTES, RAW_BYTES_MAX, What};
use proto::evidence::Sample;
use tokio::runtime::Runtime;

use super::*;
use crate::allowed::Allowed;
use crate::config::{Config, Machine};
use crate::guard;
use crate::remove;
use crate::services::{Machine as RealMachine, Shell, Variables};

/// A host with a service that is a `sleep`, and what stands for its HTTP side.
struct Ground {
    dir: tempfile::TempDir,
    runtime: Runtime,
    paths: Paths,
    /// Answers 200 for as long as the service's process is there.
    address: SocketAddr,
}

/// What stands in a release: scripts, so that nothing has to be built.
const START: &str = r#"#!/bin/sh
set -e
test -z "$FAIL"
echo "$SWELL_RELEASE from=${SWELL_FROM-none} $SWELL_DIRECTION" >> "$SWELL_SHARED/started"
sleep 600 &
echo $! > "$SWELL_SHARED/pid"
"#;
const STOP: &str = r#"#!/bin/sh
test -f "$SWELL_SHARED/pid" || exit 0
kill "$(cat "$SWELL_SHARED/pid")" 2>/dev/null
rm "$SWELL_SHARED/pid"
"#;

impl Ground {
    /// Three releases: the first is the way back from the second, which runs.
    fn with_a_way_back(&self, activator: &Activator) -> [Digest; 3] {
        let releases = ["1", "2", "3"].map(|version| self.stage(version, START).unwrap());
        let [first, second, _] = releases;
        for (attempt, from, to) in [(1, None, first), (2, Some(first), second)] {
            assert_eq!(activator.activate(attempt, from, to, Way::Forward), Outcome::Baking);
            activator.commit(attempt).unwrap();
        }
        releases
    }

    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(&dir.path().join("srv"), &"web".parse().unwrap());
        fs::create_dir_all(paths.shared()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        write_env(&paths, &format!("LISTEN={address}\n"));
        let pid = paths.shared().join("pid");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.read(&mut [0; 1_024]);
                let status = if pid.exists() { "200 OK" } else { "503 Down" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self { dir, runtime, paths, address }
    }

    fn activator(&self) -> Activator {
        let state = self.dir.path().join("state/services");
        let boot = crate::services::boot_id();
        let machine = Arc::new(self.machine());
        Activator::new(Arc::new(RealDisk), machine, self.paths.clone(), &state, boot)
    }

    fn machine(&self) -> RealMachine {
        let state = self.dir.path().join("state/services");
        let runtime = self.runtime.handle().clone();
        RealMachine::new(&state, Allowed::default(), runtime).unwrap()
    }

    /// Packs and stages a version.
    fn stage(&self, version: &str, start: &str) -> Result<Digest, StageError> {
        let (release, manifest, data) = self.packed(version, start);
        let id = Digest::of(version.as_bytes());
        let mut piece = pieces(&manifest, &data);
        stage(&self.paths, &id, &release, &manifest.to_bytes(), &[], &mut piece)?;
        Ok(id)
    }

    /// The same, as a unit with these lines under `[Service]`.
    fn stage_unit(&self, unit: &str, version: &str, lines: &str) -> Digest {
        let source = self.dir.path().join(format!("source-{version}"));
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join(unit), format!("[Service]\n{lines}\n")).unwrap();
        let (mut release, manifest, data) = self.packed(version, START);
        let unit = Some(unit.to_owned());
        release.run = statement::Run { unit, timeout_s: 2, ..statement::Run::default() };
        let id = Digest::of(version.as_bytes());
        let mut piece = pieces(&manifest, &data);
        stage(&self.paths, &id, &release, &manifest.to_bytes(), &[], &mut piece).unwrap();
        id
    }

    fn packed(&self, version: &str, start: &str) -> (Release, Manifest, Vec<u8>) {
        let source = self.dir.path().join(format!("source-{version}"));
        fs::create_dir_all(source.join("bin")).unwrap();
        for (name, text) in [("bin/start", start), ("bin/stop", STOP), ("VERSION", version)] {
            fs::write(source.join(name), text).unwrap();
        }
        let mut data = Vec::new();
        let manifest = pack::pack(&source, &mut data, &mut |_| {}).unwrap();
        let (_, mut signed, _) = release(version);
        signed.artifact = pack::artifact_ref(&manifest);
        signed.run.start = "sh bin/start".into();
        signed.run.stop = "sh bin/stop".into();
        signed.health.http = Some("http://${LISTEN}/healthz".into());
        signed.health.ready_timeout_s = 1;
        (signed, manifest, data)
    }

    fn started(&self) -> Vec<String> {
        let text = fs::read_to_string(self.paths.shared().join("started")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn current_version(&self) -> String {
        fs::read_to_string(self.paths.current().join("VERSION")).unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.paths.shared().join("pid")) {
            let _ = std::process::Command::new("kill").arg(pid.trim()).status();
        }
    }
}

/// As whoever sets up a host is to write it.
fn write_env(paths: &Paths, text: &str) {
    fs::write(paths.env(), text).unwrap();
    fs::set_permissions(paths.env(), fs::Permissions::from_mode(0o600)).unwrap();
}

/// Cuts the data of an artifact into its pieces.
fn pieces<'a>(
    manifest: &'a Manifest,
    data: &'a [u8],
) -> impl FnMut(u32) -> io::Result<Vec<u8>> + use<'a> {
    move |index| {
        let index = index as usize;
        let before: u32 = manifest.pieces[..index].iter().map(|piece| piece.bytes).sum();
        let start = before as usize;
        Ok(data[start..start + manifest.pieces[index].bytes as usize].to_vec())
    }
}

#[test]
fn r22_forward_and_back_with_real_processes() {
    let ground = Ground::new();
    let activator = ground.activator();
    let first = ground.stage("1", START).unwrap();
    assert_eq!(activator.activate(1, None, first, Way::Forward), Outcome::Baking);
    activator.commit(1).unwrap();
    assert_eq!(ground.current_version(), "1");

    let second = ground.stage("2", START).unwrap();
    assert_eq!(activator.activate(2, Some(first), second, Way::Forward), Outcome::Baking);
    assert_eq!(ground.current_version(), "2");
    // The agent starts anew; the service bakes on.
    let activator = ground.activator();
    let standing = activator.recover().unwrap().unwrap();
    assert_eq!((standing.attempt, standing.phase), (2, Phase::Baking));
    activator.revert(3, Some(first)).unwrap();
    assert_eq!(ground.current_version(), "1");
    assert_eq!(ground.started(), ["1 from=none forward", "2 from=1 forward", "1 from=2 back"]);
}

#[test]
fn r19_a_guard_does_what_an_agent_would_and_nothing_beside_one() {
    let ground = Ground::new();
    let path = ground.dir.path().join("agent.toml");
    let [state, srv] = ["state", "srv"].map(|name| ground.dir.path().join(name));
    let text = format!("state_dir = {state:?}\nservice_root = {srv:?}\nname = \"a\"\n");
    let config = Config::parse(&path, &format!("{text}bind = \"127.0.0.1:7070\""), Machine::this);
    let config = config.unwrap();
    let guard = |service| guard::run(&config, service, ground.runtime.handle());
    guard(None).expect("nothing was ever activated");

    let first = ground.stage("1", START).unwrap();
    let agent = ground.activator();
    assert!(agent.hold(Duration::ZERO).unwrap());
    assert_eq!(agent.activate(1, None, first, Way::Forward), Outcome::Baking);
    agent.commit(1).unwrap();
    let second = ground.stage("2", START).unwrap();
    assert_eq!(agent.activate(2, Some(first), second, Way::Forward), Outcome::Baking);
    // What bakes dies, which is for its agent to see.
    let pid = ground.paths.shared().join("pid");
    let kill = || {
        std::process::Command::new("kill").arg(fs::read_to_string(&pid).unwrap().trim()).status()
    };
    kill().unwrap();
    fs::remove_file(&pid).unwrap();
    guard(Some("web".parse().unwrap())).expect("an agent is there");
    assert_eq!(ground.current_version(), "2");
    drop(agent);
    guard(Some("web".parse().unwrap())).unwrap();
    assert_eq!(ground.current_version(), "1");
    assert_eq!(ground.started(), ["1 from=none forward", "2 from=1 forward", "1 from=2 back"]);
    // And the agent that comes back at last finds it so.
    let standing = ground.activator().recover().unwrap().unwrap();
    let Phase::Reverted { cause: Cause::Release, note } = standing.phase else {
        panic!("{standing:?}");
    };
    assert_eq!(note, "no agent watches it, and /healthz: not ready within 1 s: 503");

    // One that cannot be read is named, and makes it fail.
    let journal = state.join("services/activations/mail.json");
    fs::write(&journal, "{").unwrap();
    let error = guard(None).unwrap_err().to_string();
    assert_eq!(error, "1 of 2 services: see above");
}

#[test]
fn r23_a_failed_start_is_told_with_its_last_words() {
    let ground = Ground::new();
    let activator = ground.activator();
    let first = ground.stage("1", START).unwrap();
    assert_eq!(activator.activate(1, None, first, Way::Forward), Outcome::Baking);
    activator.commit(1).unwrap();

    let bad = ground.stage("2", "echo starting; echo 'no such table: users' >&2; exit 3").unwrap();
    let note = "start exited 3: no such table: users".to_owned();
    let expected = Outcome::Reverted { cause: Cause::Release, note };
    assert_eq!(activator.activate(2, Some(first), bad, Way::Forward), expected);
    assert_eq!(ground.current_version(), "1");

    // It starts, says so, and serves nothing.
    let mute = ground.stage("3", "exit 0").unwrap();
    let note = "/healthz: not ready within 1 s: 503".to_owned();
    let expected = Outcome::Reverted { cause: Cause::Release, note };
    assert_eq!(activator.activate(3, Some(first), mute, Way::Forward), expected);
    assert_eq!(ground.current_version(), "1");
    let log = fs::read_to_string(ground.dir.path().join("state/services/logs/web.log")).unwrap();
    assert!(log.contains("starting\nno such table: users\n"), "{log}");
}

/// What there is to see of a failure: steps, answers, last words; and no value of `shared/env`.
#[test]
fn what_fails_is_accounted_for_without_secrets() {
    let ground = Ground::new();
    let activator = ground.activator();
    let none = Digest::of(b"never activated");
    assert!(activator.last_attempt(&none).is_none());
    write_env(&ground.paths, &format!("LISTEN={}\nPASSWORD=hunter2hunter2\n", ground.address));
    let first = ground.stage("1", START).unwrap();
    assert_eq!(activator.activate(1, None, first, Way::Forward), Outcome::Baking);
    activator.commit(1).unwrap();

    let start = "echo \"key: $PASSWORD\"; echo \"no access for web:$PASSWORD\" >&2; exit 3";
    let bad = ground.stage("2", start).unwrap();
    let note = "start exited 3: no access for web:***".to_owned();
    let expected = Outcome::Reverted { cause: Cause::Release, note };
    assert_eq!(activator.activate(2, Some(first), bad, Way::Forward), expected);
    let attempt = activator.last_attempt(&bad).unwrap();
    assert_eq!((attempt.number, attempt.release.id), (2, bad));
    // The host is back at the first, and its last attempt was not at that one.
    assert!(activator.last_attempt(&first).is_none());
    let log = activator.words(&attempt).log;
    assert!(log.contains("key: ***\nno access for web:***\n") && !log.contains("hunter2"), "{log}");
    let seen = |samples: &[Sample]| {
        assert!(samples[0].text.starts_with("host: "), "{samples:?}");
        // Two commands that took as many milliseconds are one sample, seen twice.
        let texts = samples.iter().flat_map(|sample| {
            let times = if sample.text.ends_with(" ms") { sample.times as usize } else { 1 };
            std::iter::repeat_n(sample.text.clone(), times)
        });
        let timeless = |text: String| {
            let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
            let words = text.split(' ').map(|word| if is_number(word) { "N" } else { word });
            words.collect::<Vec<_>>().join(" ")
        };
        let texts = texts.filter(|text| !text.starts_with("host: ")).map(timeless);
        texts.collect::<Vec<_>>().join("; ")
    };
    assert_eq!(
        seen(&attempt.samples),
        "step: staged; stop: done in N ms; stop: done in N ms; step: stopped; step: swapped; start: exited N \
         after N ms: no access for web:***; step: going back: start exited 3: no access for web:***; stop: \
         done in N ms; start: done in N ms; /healthz: well; step: reverted"
    );

    // The answers that it came from, of this attempt alone.
    let mute = ground.stage("3", "exit 0").unwrap();
    let Outcome::Reverted { .. } = activator.activate(3, Some(first), mute, Way::Forward) else {
        panic!("it serves nothing");
    };
    let attempt = activator.last_attempt(&mute).unwrap();
    let seen = seen(&attempt.samples);
    assert!(seen.contains("step: started; /healthz: N; step: going back: /healthz: not"), "{seen}");
    assert!(!seen.contains("no access"), "{seen}");
    assert!(attempt.samples.iter().any(|one| one.text == "/healthz: 503" && one.times > 2));

    // An agent that starts anew has lost the answers, and has the last words.
    let other = ground.activator();
    let anew = other.last_attempt(&mute).unwrap();
    assert_eq!((anew.number, &anew.samples), (3, &Vec::new()));
    assert_eq!(other.words(&anew), activator.words(&attempt));
    // Where nobody can tell what is a secret, nothing is passed on.
    write_env(&ground.paths, "hunter2hunter2\n");
    let log = activator.words(&activator.last_attempt(&mute).unwrap()).log;
    assert!(log.starts_with("(the output is not kept: ") && !log.contains("hunter2"), "{log}");
}

#[test]
fn settings_of_the_host_are_checked_before_anything_is_stopped() {
    let ground = Ground::new();
    let activator = ground.activator();
    let first = ground.stage("1", START).unwrap();
    assert_eq!(activator.activate(1, None, first, Way::Forward), Outcome::Baking);
    let second = ground.stage("2", START).unwrap();
    let cases = [
        ("# nothing\n", "names ${LISTEN}, which is not set on this host"),
        ("LISTEN\n", "shared/env line 1: must be NAME=VALUE"),
    ];
    for ((text, expected), attempt) in cases.into_iter().zip(2..) {
        write_env(&ground.paths, text);
        match activator.activate(attempt, Some(first), second, Way::Forward) {
            Outcome::Reverted { cause: Cause::Host, note } => {
                assert!(note.contains(expected), "{note}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ground.started(), ["1 from=none forward"], "it was left alone");
    assert_eq!(ground.current_version(), "1");
}

#[test]
fn r29_a_release_is_staged_once_and_mended_unless_it_runs() {
    let ground = Ground::new();
    let activator = ground.activator();
    let id = ground.stage("1", START).unwrap();
    let installed = activator.check_staged(&id).unwrap();
    assert_eq!(installed.staged, 1);
    // Staged again: nothing is fetched, nothing is written.
    let (release, manifest, data) = ground.packed("1", START);
    let mut no_piece = |index| panic!("piece {index} was asked for");
    let again =
        stage(&ground.paths, &id, &release, &manifest.to_bytes(), &[], &mut no_piece).unwrap();
    assert_eq!(again, installed);

    let edited = ground.paths.release(&id).join("VERSION");
    let edit = || {
        fs::remove_file(&edited).unwrap();
        fs::write(&edited, "edited").unwrap();
    };
    edit();
    assert!(activator.check_staged(&id).unwrap_err().starts_with("1 is not whole on disk: "));
    let mut piece = pieces(&manifest, &data);
    stage(&ground.paths, &id, &release, &manifest.to_bytes(), &[], &mut piece).unwrap();
    assert_eq!(fs::read_to_string(&edited).unwrap(), "1", "staged anew");

    assert_eq!(activator.activate(1, None, id, Way::Forward), Outcome::Baking);
    edit();
    let error = ground.stage("1", START).unwrap_err().to_string();
    assert!(error.contains("runs and is not what was released"), "{error}");
    assert_eq!(fs::read_to_string(&edited).unwrap(), "edited", "shown, not undone");
}

/// Found, told, and left as it is.
#[test]
fn r25_what_was_edited_or_moved_by_hand_is_found_and_not_undone() {
    let ground = Ground::new();
    let activator = ground.activator();
    let first = ground.stage("1", START).unwrap();
    let second = ground.stage("2", START).unwrap();
    assert_eq!(activator.activate(1, None, first, Way::Forward), Outcome::Baking);
    let mut known = Outlook::default();
    let mut look = |serving: &Digest| {
        let found = activator.drift(serving, &mut known, u64::MAX, &mut |_| true).unwrap();
        found.map_or_else(String::new, |drift| format!("{}: {}", drift.found, drift.first))
    };
    assert_eq!(look(&first), "");
    let edited = ground.paths.release(&first).join("VERSION");
    fs::remove_file(&edited).unwrap();
    fs::write(&edited, "edited").unwrap();
    fs::write(ground.paths.release(&first).join("added"), "").unwrap();
    assert_eq!(look(&first), "2: \"VERSION\" has 6 bytes, not 1");
    assert_eq!(fs::read_to_string(&edited).unwrap(), "edited");

    let current = ground.paths.current();
    replace_link(&RealDisk, &current, &layout::target(&second)).unwrap();
    assert_eq!(look(&first), format!("1: current was moved to 2, releases/{first} serves"));
    assert_eq!(fs::read_link(&current).unwrap(), layout::target(&second));
    // Had it been brought there, it would be as it was released.
    assert_eq!(look(&second), "");
    fs::remove_file(&current).unwrap();
    assert_eq!(look(&second), format!("1: {} is gone", current.display()));
    fs::write(&current, "").unwrap();
    assert!(look(&second).ends_with("is not a link to releases/<12 hex>: move it away"));
}

#[test]
fn a_failed_staging_leaves_no_release() {
    let ground = Ground::new();
    let (release, manifest, _) = ground.packed("1", START);
    let id = Digest::of(b"1");
    let mut lost = |_| Err(io::Error::other("the connection broke"));
    let error =
        stage(&ground.paths, &id, &release, &manifest.to_bytes(), &[], &mut lost).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot unpack release {id}"));
    assert!(!ground.paths.release(&id).exists());
    assert!(ground.activator().check_staged(&id).is_err());
    let other = [manifest.to_bytes(), b" ".to_vec()].concat();
    let error = stage(&ground.paths, &id, &release, &other, &[], &mut lost).unwrap_err();
    assert!(matches!(error, StageError::OtherManifest { .. }), "{error}");
    // What is left of it goes with the next clearing away.
    ground.activator().collect_garbage(Pins::new, 5).unwrap();
    assert_eq!(fs::read_dir(ground.paths.releases()).unwrap().count(), 0);
    ground.stage("1", START).unwrap();
}

/// Also where whoever fetched it has not asked.
#[test]
fn r29_what_does_not_fit_is_told_before_anything_of_it_is_written() {
    let ground = Ground::new();
    let (mut release, mut manifest, _) = ground.packed("1", START);
    let free = member::disk::free(ground.dir.path()).unwrap().bytes;
    for entry in &mut manifest.entries {
        if let What::File { bytes, .. } = &mut entry.what {
            *bytes = free / 8 * 3;
        }
    }
    if manifest.raw_bytes() > RAW_BYTES_MAX {
        return eprintln!("skipped: any artifact has room here");
    }
    manifest.piece_raw_bytes = *PIECE_RAW_BYTES.end();
    let pieces = manifest.raw_bytes().div_ceil(manifest.piece_raw_bytes.into());
    manifest.pieces = vec![manifest.pieces[0]; usize::try_from(pieces).unwrap()];
    release.artifact = pack::artifact_ref(&manifest);
    let id = Digest::of(b"1");
    let mut no_piece = |index| panic!("piece {index} was asked for");
    let error = stage(&ground.paths, &id, &release, &manifest.to_bytes(), &[], &mut no_piece);
    assert!(matches!(error.unwrap_err(), StageError::Space(_)));
    assert_eq!(fs::read_dir(ground.paths.releases()).unwrap().count(), 0);
}

#[test]
fn r29_old_releases_go_and_staging_is_left_alone() {
    let ground = Ground::new();
    let activator = ground.activator();
    for version in ["1", "2", "3"] {
        ground.stage(version, START).unwrap();
    }
    let paths = ground.paths.clone();
    let (release, manifest, data) = ground.packed("4", START);
    let mut whole = pieces(&manifest, &data);
    let mut piece = |index| {
        let busy = activator.collect_garbage(Pins::new, 2).unwrap_err().to_string();
        assert_eq!(busy, "a release is being staged: later");
        whole(index)
    };
    let id = Digest::of(b"4");
    stage(&paths, &id, &release, &manifest.to_bytes(), &[], &mut piece).unwrap();
    activator.collect_garbage(Pins::new, 2).unwrap();
    let left: Vec<_> = list(&RealDisk, &paths).unwrap().into_iter().map(|one| one.staged).collect();
    assert_eq!(left, [3, 4]);
}

#[test]
fn r23_hooks_are_commands_of_the_release() {
    let ground = Ground::new();
    let activator = ground.activator();
    let hooked = |version: &str, check: &str| {
        let (mut release, manifest, data) = ground.packed(version, START);
        let say = |name: &str| {
            Some(format!("echo {name} $SWELL_RELEASE $SWELL_DIRECTION >> $SWELL_SHARED/started"))
        };
        release.run.drain = say("drain");
        release.run.check = Some(check.to_owned());
        release.run.undrain = say("undrain");
        release.run.after_commit = say("after_commit");
        let id = Digest::of(version.as_bytes());
        let mut piece = pieces(&manifest, &data);
        stage(&ground.paths, &id, &release, &manifest.to_bytes(), &[], &mut piece).unwrap();
        id
    };
    let first = hooked("1", "true");
    assert_eq!(activator.activate(1, None, first, Way::Forward), Outcome::Baking);
    activator.commit(1).unwrap();
    activator.after_commit();
    let bad = hooked("2", "echo 'no database' >&2; exit 1");
    let note = "check exited 1: no database".to_owned();
    let expected = Outcome::Reverted { cause: Cause::Release, note };
    assert_eq!(activator.activate(2, Some(first), bad, Way::Forward), expected);
    assert_eq!(
        ground.started(),
        [
            "1 from=none forward",
            "undrain 1 forward",
            "after_commit 1 forward",
            "drain 1 forward",
            "2 from=1 forward",
            "1 from=2 back",
            "undrain 1 back",
        ]
    );
}

/// A service that was there before anything of ours keeps its process through all of its adoption.
#[test]
fn what_runs_is_adopted_with_its_process_and_what_comes_next_goes_back_to_it() {
    let ground = Ground::new();
    let activator = ground.activator();
    let first = ground.stage("1", START).unwrap();
    let pid = ground.paths.shared().join("pid");
    match activator.adopt(1, first) {
        Outcome::Reverted { cause: Cause::Host, note } => {
            let told = "it is not well as it runs here: /healthz: not ready within 1 s: 503";
            assert_eq!(note, told);
        }
        other => panic!("nothing runs: {other:?}"),
    }
    assert!(!ground.paths.current().is_symlink(), "it was left alone");

    let mut before = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(&pid, before.id().to_string()).unwrap();
    let mut runs_on = || before.try_wait().unwrap().is_none();
    assert_eq!(activator.adopt(2, first), Outcome::Baking);
    activator.revert(3, None).unwrap();
    assert!(runs_on() && !ground.paths.current().is_symlink(), "as it was found");
    assert_eq!(activator.adopt(4, first), Outcome::Baking);
    drop(activator);
    let activator = ground.activator();
    assert_eq!(activator.recover().unwrap().unwrap().phase, Phase::Baking);
    activator.commit(4).unwrap();
    assert_eq!(ground.current_version(), "1");
    assert!(runs_on() && ground.started().is_empty(), "nobody has stopped or started it");

    let bad = ground.stage("2", &format!("FAIL=1\n{START}")).unwrap();
    let outcome = activator.activate(5, Some(first), bad, Way::Forward);
    assert!(matches!(outcome, Outcome::Reverted { cause: Cause::Release, .. }), "{outcome:?}");
    before.wait().expect("for that it was stopped");
    assert_eq!(ground.current_version(), "1");
    assert_eq!(ground.started(), ["1 from=2 back"], "and it comes from there now");
}

/// The same as a unit of this machine's systemd, which was somebody's own.
#[test]
fn a_unit_of_somebody_else_is_adopted_with_its_process_and_given_back() {
    let Some(directory) = crate::services::tests::volatile_units() else { return };
    let ground = Ground::new();
    let unit = format!("web-adopt-{}.service", std::process::id());
    let (file, pid) = (directory.join(&unit), ground.paths.shared().join("pid"));
    let wanted = directory.join("multi-user.target.wants").join(&unit);
    let serves = format!(
        "Type=exec\nExecStart=/bin/sh -c 'echo $$$$ > {0}; exec sleep 600'\nExecStopPost=/bin/rm -f {0}",
        pid.display()
    );
    let stage_unit = |version: &str, lines: &str| ground.stage_unit(&unit, version, lines);
    let systemctl = |arguments: &[&str]| {
        let output = std::process::Command::new("systemctl").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let main_pid = || systemctl(&["show", "--property=MainPID", "--value", &unit]);
    let foreign = format!("[Service]\n{serves}\nRestart=always\n");
    fs::write(&file, &foreign).unwrap();
    fs::create_dir_all(wanted.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&file, &wanted).unwrap();
    systemctl(&["daemon-reload"]);

    let machine = Arc::new(ground.machine().with_units_in(directory));
    let (boot, state) = (crate::services::boot_id(), ground.dir.path().join("state"));
    let activator = Activator::new(Arc::new(RealDisk), machine, ground.paths.clone(), &state, boot);
    let first = stage_unit("1", &serves);
    match activator.adopt(1, first) {
        Outcome::Reverted { cause: Cause::Host, note } => {
            assert!(note.contains("does not run on this host (loaded, inactive)"), "{note}");
        }
        other => panic!("it does not run: {other:?}"),
    }
    systemctl(&["start", &unit]);
    let before = main_pid();
    let given_back = || {
        assert_eq!(fs::read_to_string(&file).unwrap(), foreign);
        assert!(!file.is_symlink() && wanted.is_symlink() && !ground.paths.current().is_symlink());
        assert_eq!(main_pid(), before, "it runs on");
    };
    given_back();
    assert_eq!(activator.adopt(2, first), Outcome::Baking);
    activator.revert(3, None).unwrap();
    given_back();
    assert_eq!(activator.adopt(4, first), Outcome::Baking);
    activator.commit(4).unwrap();
    assert_eq!(fs::read_link(&file).unwrap(), ground.paths.current().join(&unit));
    assert!(!wanted.is_symlink(), "nothing starts it before the journal decides");
    assert_eq!(main_pid(), before, "nobody has stopped or started it");
    assert_eq!(systemctl(&["show", "--property=Restart", "--value", &unit]), "no", "ours is read");

    let bad = stage_unit("2", "ExecStart=/bin/sh -c 'exit 3'");
    let outcome = activator.activate(5, Some(first), bad, Way::Forward);
    assert!(matches!(outcome, Outcome::Reverted { cause: Cause::Release, .. }), "{outcome:?}");
    assert_eq!(ground.current_version(), "1");
    assert!(pid.exists() && main_pid() != before, "it comes from `current` now");

    activator.revert(100, None).unwrap();
    for place in [&file, &wanted] {
        let aside = place.with_file_name(format!(".{unit}.adopted"));
        fs::remove_file(aside).expect("what was there before is kept");
    }
    let _ = fs::remove_dir(wanted.parent().unwrap());
    systemctl(&["daemon-reload"]);
}

/// A release as a unit of this machine's systemd, and back from whatever a unit can get wrong.
#[test]
fn r22_forward_and_back_with_real_systemd() {
    let Some(directory) = crate::services::tests::volatile_units() else { return };
    let ground = Ground::new();
    let unit = format!("web-test-{}.service", std::process::id());
    let pid = ground.paths.shared().join("pid");
    let serves = format!(
        "Type=exec\nExecStart=/bin/sh -c 'echo $$$$ > {0}; exec sleep 600'\nExecStopPost=/bin/rm -f {0}",
        pid.display()
    );
    let stage_unit = |version: &str, lines: &str| ground.stage_unit(&unit, version, lines);
    let machine = Arc::new(ground.machine().with_units_in(directory));
    let boot = crate::services::boot_id();
    let state = ground.dir.path().join("state");
    let activator = Activator::new(Arc::new(RealDisk), machine, ground.paths.clone(), &state, boot);
    let good = stage_unit("1", &serves);
    assert_eq!(activator.activate(1, None, good, Way::Forward), Outcome::Baking);
    activator.commit(1).unwrap();

    let says = |text: &str| format!("ExecStart=/bin/sh -c 'echo {text} >&2; exit 3'");
    let cases = [
        ("exits-at-once", says("no-such-table"), "exited with status 3"),
        ("restarts", format!("{}\nRestart=always", says("again")), "ended"),
        ("no-command", "Type=exec\nExecStart=/no/such/file".to_owned(), "(203/EXEC)"),
        ("no-user", "Type=exec\nExecStart=/bin/true\nUser=no-such".to_owned(), "no user"),
        ("never-ready", "Type=notify\nExecStart=/bin/sleep 600".to_owned(), "within 2 s"),
        ("broken", "Environment=A=1".to_owned(), "bad unit file setting"),
        ("mute", "ExecStart=/bin/sleep 600".to_owned(), "not ready within 1 s: 503"),
    ];
    for ((version, lines, expected), attempt) in cases.iter().zip(2..) {
        let bad = stage_unit(version, lines);
        match activator.activate(attempt, Some(good), bad, Way::Forward) {
            Outcome::Reverted { note, .. } => {
                eprintln!("{version}: {note}");
                assert!(note.contains(expected), "{version}: {note}");
            }
            other => panic!("{version}: {other:?}"),
        }
        assert_eq!(ground.current_version(), "1", "{version}");
        assert!(pid.exists(), "{version}: the old release serves");
    }
    activator.revert(100, None).unwrap();
    assert!(!pid.exists());
    assert!(!directory.join(&unit).is_symlink(), "its link went with it");
}

/// By hand: not while an agent lives, nor where one would bring it back, nor by mistake.
#[test]
fn a_service_is_removed_from_a_host_by_who_means_it() {
    let ground = Ground::new();
    let path = ground.dir.path().join("agent.toml");
    let [state, srv] = ["state", "srv"].map(|name| ground.dir.path().join(name));
    let text = format!(
        "state_dir = {state:?}\nservice_root = {srv:?}\nname = \"a\"\nbind = \"127.0.0.1:7070\"\n"
    );
    let config =
        |more: &str| Config::parse(&path, &format!("{text}{more}"), Machine::this).unwrap();
    let (allowed, config) = (config(""), config("services = [\"shop\"]\n"));
    let web = "web".parse().unwrap();
    let remove = |config: &Config, sure| remove::run(config, &web, sure, ground.runtime.handle());
    let refused = |config: &Config, sure, told: &str| {
        let error = remove(config, sure).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert_eq!(ground.current_version(), "1");
        assert!(ground.paths.shared().join("pid").exists(), "{told}: it runs on");
    };
    let first = ground.stage("1", START).unwrap();
    let agent = ground.activator();
    assert!(agent.hold(Duration::ZERO).unwrap());
    assert_eq!(agent.activate(1, None, first, Way::Forward), Outcome::Baking);
    agent.commit(1).unwrap();
    let record = state.join("services/rollouts/web.json");
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    fs::write(&record, "{}").unwrap();

    refused(&config, true, "an agent looks after web: systemctl stop groundswell-agent");
    drop(agent);
    refused(&allowed, true, "the agent would bring web back");
    refused(&config, false, "web 1 would be stopped and removed");
    let told = remove(&config, true).unwrap();
    assert!(told.starts_with("web 1 is removed from this host; "), "{told}");
    assert!(!ground.paths.shared().join("pid").exists(), "it was stopped");
    assert!(ground.paths.env().exists() && !ground.paths.releases().exists() && !record.exists());
    let told = remove(&config, true).unwrap();
    assert!(told.starts_with("web, of which nothing runs, is removed"), "again: {told}");
}

/// The end of a service on the whole fleet is a release that runs nothing.
#[test]
fn a_release_that_runs_nothing_ends_a_service_and_is_where_the_next_one_goes_back_to() {
    let ground = Ground::new();
    let activator = ground.activator();
    let first = ground.stage("1", START).unwrap();
    assert_eq!(activator.activate(1, None, first, Way::Forward), Outcome::Baking);
    activator.commit(1).unwrap();
    let (mut nothing, manifest, data) = ground.packed("end", START);
    nothing.run = statement::Run {
        start: "true".into(),
        stop: "true".into(),
        timeout_s: 30,
        ..statement::Run::default()
    };
    nothing.health = Health::default();
    let end = Digest::of(b"end");
    let mut piece = pieces(&manifest, &data);
    stage(&ground.paths, &end, &nothing, &manifest.to_bytes(), &[], &mut piece).unwrap();
    assert_eq!(activator.activate(2, Some(first), end, Way::Forward), Outcome::Baking);
    activator.commit(2).unwrap();
    let pid = ground.paths.shared().join("pid");
    assert!(!pid.exists(), "nothing runs any more");
    let bad = ground.stage("3", &format!("FAIL=1\n{START}")).unwrap();
    let outcome = activator.activate(3, Some(end), bad, Way::Forward);
    assert!(matches!(outcome, Outcome::Reverted { .. }), "{outcome:?}");
    assert!(!pid.exists() && ground.current_version() == "end");
}

#[test]
fn a_command_left_by_a_killed_agent_is_ended() {
    let ground = Ground::new();
    let start = "echo $$ > \"$SWELL_SHARED/starting\"; sleep 600";
    let id = ground.stage("1", start).unwrap();
    let starting = ground.paths.shared().join("starting");
    let machine = ground.machine();
    let release = layout::installed(&RealDisk, &ground.paths, &id).unwrap();
    let activator = ground.activator();
    let call = activator.call(&release, None, Way::Forward);
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| machine.start(call));
        let end = Instant::now() + Duration::from_secs(20);
        while !fs::read_to_string(&starting).is_ok_and(|pid| pid.ends_with('\n')) {
            assert!(Instant::now() < end, "it starts");
            std::thread::sleep(Duration::from_millis(5));
        }
        // As by an agent started anew, which knows nothing but what is on disk. It may run before that says so.
        while !stuck.is_finished() {
            machine.end_left_over(&ground.paths).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        let ended = stuck.join().unwrap().unwrap_err();
        assert!(ended.note.contains("was killed by signal 9"), "{}", ended.note);
    });
}

#[test]
fn the_check_is_of_this_host() {
    let ground = Ground::new();
    let id = ground.stage("1", START).unwrap();
    let release = layout::installed(&RealDisk, &ground.paths, &id).unwrap();
    let activator = ground.activator();
    let call = activator.call(&release, None, Way::Forward);
    let address = ground.address.to_string();
    let expected = crate::health::Check::new(
        &release.release.health,
        &Variables::from([("LISTEN", address.as_str())]),
    );
    assert_eq!(Shell::checks(call).unwrap(), Vec::from_iter(expected.unwrap()));
}
