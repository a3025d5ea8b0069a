//! The binary as people and scripts meet it: exit codes, what goes to which stream, what is named.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn swell(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_swell"))
        .args(arguments)
        .env_clear()
        .env("SWELL_DIR", dir)
        .env("HOME", dir)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("swell runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// A fleet whose coordinator's address nobody listens on.
fn fleet() -> tempfile::TempDir {
    let temp = tempfile::tempdir().expect("a directory");
    let output = swell(temp.path(), &["init", "--fleet", "shop", "--coordinator", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    temp
}

#[test]
fn what_cannot_be_printed_is_an_error_unless_nobody_reads() {
    let temp = tempfile::tempdir().unwrap();
    let init = |stdout: Stdio, dir: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_swell"))
            .args(["init", "--fleet", "shop"])
            .env_clear()
            .env("SWELL_DIR", temp.path().join(dir))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("swell runs");
        drop(child.stdout.take());
        child.wait_with_output().expect("it ends")
    };
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = init(full.into(), "full");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("cannot write to the standard output"), "{}", stderr(&output));
    let output = init(Stdio::piped(), "gone");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn usage_errors_end_with_2_and_touch_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let cases: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["init"],
        &["init", "--fleet", "Bad Name"],
        &["init", "--fleet", "shop", "--coordinator", "localhost"],
        &["init", "--fleet", "shop", "--coordinator", "0.0.0.0:7070"],
        &["token", "create", "--uses", "0"],
        &["token", "create", "--ttl", "1 h"],
        &["token", "create", "--label", "env"],
        &["publish", "."],
        &["publish", ".", "--version", "a b"],
        &["publish", ".", "--version", "1", "--commit", ""],
        &["publish", ".", "--version", "1", "--branch", " "],
        &["deploy", "web", "1.0.0"],
        &["deploy", "web", "1.0.0", "--env", "production", "--timeout", "1h"],
        &["rollback", "web", "--env", "production"],
        &["promote", "3f2a", "--wave", "0"],
        &["watch", "3F"],
        &["explain"],
        &["freeze", "--env", "production"],
        &["freeze", "--env", "production", "--for", "2h"],
        &["freeze", "--env", "production", "--reason", "x"],
        &[
            "freeze",
            "--env",
            "production",
            "--for",
            "2h",
            "--until",
            "2027-03-01T09:30",
            "--reason",
            "x",
        ],
        &["freeze", "--env", "production", "--until", "tomorrow", "--reason", "x"],
        &["unfreeze"],
        &["host"],
        &["host", "hold", "n1", "--reason", "x"],
        &["host", "hold", "n1", "--for", "1h"],
        &["host", "hold", "n1", "--for", "1h", "--lift"],
        &["host", "remove", "n1"],
        &["skip"],
        &["retry"],
    ];
    for arguments in cases {
        let output = swell(temp.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stdout(&output).is_empty(), "{arguments:?}");
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn help_ends_with_0_and_names_the_exit_codes() {
    let temp = tempfile::tempdir().unwrap();
    let output = swell(temp.path(), &["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.contains("Exit codes: 0 done; 1 error; 2 usage"), "{text}");
    assert_eq!(swell(temp.path(), &["deploy", "--help"]).status.code(), Some(0));
    assert_eq!(swell(temp.path(), &["--version"]).status.code(), Some(0));
}

#[test]
fn init_says_what_to_do_next_and_keeps_root_key_offline() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("new");
    let arguments = ["--dir", dir.to_str().unwrap(), "init", "--fleet", "shop", "--env", "lab"];
    let output = swell(temp.path(), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for part in [
        "KEEP IT OFFLINE",
        "\n  swell-coordinator run --config ",
        "swell token create --uses 10 --ttl 1h --label env=lab",
        "swell-agent join TOKEN\n  systemctl start groundswell-agent",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("gsw-secret"), "{text}");
    let arguments_of_one = ["init", "--fleet", "shop", "--coordinator", "[2001:db8::1]:7070"];
    let output = swell(temp.path(), &arguments_of_one);
    let text = stdout(&output);
    for part in [
        "--label env=production",
        " root@[2001:db8::1]:/etc/groundswell/\n",
        "\n  ssh root@2001:db8::1 systemctl start groundswell-coordinator\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let again = swell(temp.path(), &arguments);
    assert_eq!(again.status.code(), Some(1));
    let fleet = fs::read_to_string(dir.join("operator.toml")).unwrap();
    let fleet = fleet.lines().find_map(|line| line.strip_prefix("fleet = ")).unwrap();
    let expected =
        format!("there is a fleet in {} already: {}", dir.display(), fleet.trim_matches('"'));
    assert!(stderr(&again).contains(&expected), "{}", stderr(&again));
}

#[test]
fn without_a_fleet_every_command_says_where_it_looked() {
    let temp = tempfile::tempdir().unwrap();
    for command in [&["status"][..], &["watch"], &["publish", ".", "--version", "1"]] {
        let output = swell(temp.path(), command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let text = stderr(&output);
        assert!(
            text.contains(&format!("there is no fleet in {}", temp.path().display())),
            "{text}"
        );
        assert!(text.contains("\n  next: "), "{text}");
    }
}

#[test]
fn a_coordinator_that_is_not_there_ends_with_5_and_points_to_via() {
    let temp = fleet();
    let output = swell(temp.path(), &["status"]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    assert!(text.contains("cannot reach the coordinator (127.0.0.1:9)"), "{text}");
    assert!(text.contains("--via HOST"), "{text}");
    let output = swell(temp.path(), &["status", "--via", "n1"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("there is no host \"n1\" among those last seen"));
}

#[test]
fn a_missing_key_is_named_with_what_it_is_for() {
    let temp = fleet();
    fs::remove_file(temp.path().join("operator.key")).unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["pause", "3f2a"], "the operator key is not in DIR: it is needed to direct a rollout"),
        (
            &["approve", "3f2a"],
            "the operator key is not in DIR: it is needed to approve a statement",
        ),
    ];
    for (arguments, expected) in cases {
        let output = swell(temp.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let expected = expected.replace("DIR", &temp.path().display().to_string());
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    }
    fs::remove_file(temp.path().join("publisher.key")).unwrap();
    let output = swell(temp.path(), &["publish", ".", "--version", "1"]);
    assert!(stderr(&output).contains("the publisher key is not in"), "{}", stderr(&output));
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let temp = fleet();
    let path = temp.path().join("publisher.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let output = swell(temp.path(), &["publish", ".", "--version", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("chmod 600"), "{}", stderr(&output));
}

#[test]
fn publish_finds_mistakes_before_it_asks_anybody() {
    let temp = fleet();
    let build = temp.path().join("build");
    fs::create_dir(&build).unwrap();
    fs::write(build.join("app"), "x").unwrap();
    let publish = |what: &str| swell(temp.path(), &["publish", what, "--version", "1"]);

    let output = swell(temp.path(), &["publish", "--version", "1"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = publish("build");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("there is no swell.toml in . or build"),
        "{}",
        stderr(&output)
    );

    fs::write(temp.path().join("swell.toml"), "service = 'web'\n[run]\nunit = 'x'\n").unwrap();
    let output = publish("build");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("run.unit = \"x\": must be the name of a file"));

    let good = "service = 'web'\n[run]\nstart = 'a'\nstop = 'b'\n";
    fs::write(temp.path().join("swell.toml"), good).unwrap();
    let output = publish(".");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("and so are its keys"), "{}", stderr(&output));
    let output = publish("swell.toml");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    fs::create_dir_all(temp.path().join("empty/bin")).unwrap();
    let output = publish("empty");
    assert_eq!(output.status.code(), Some(1));
    let expected = "cannot publish empty: there is no file in it\n  next: ";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    let output = swell(temp.path(), &["publish", "build", "--version", "1", "--commit", ""]);
    let expected = "'--commit <SHA>': empty: leave it out, or give the commit's id";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    // Nothing is wrong with it, and nobody is there.
    let output = publish("build");
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
}

#[test]
fn what_only_the_coordinator_does_does_not_point_to_hosts() {
    let temp = fleet();
    let (build, toml) = (temp.path().join("build"), temp.path().join("swell.toml"));
    fs::create_dir(&build).unwrap();
    fs::write(build.join("app"), "x").unwrap();
    fs::write(toml, "service = 'web'\n[run]\nstart = 'a'\nstop = 'b'\n").unwrap();
    let start = "next: start the coordinator again; the fleet goes on without it";
    let here = "next: only the coordinator does this: leave out --via";
    let cases: [(&[&str], &str); 5] = [
        (&["publish", "build", "--version", "1"], start),
        (&["publish", "build", "--version", "1", "--via", "127.0.0.1:9"], here),
        (&["token", "list"], start),
        (&["notify", "list"], start),
        (&["token", "create", "--via", "127.0.0.1:9"], here),
    ];
    // Each waits 10 s for an answer.
    std::thread::scope(|scope| {
        for (command, next) in cases {
            let dir = temp.path();
            scope.spawn(move || {
                let output = swell(dir, command);
                assert_eq!(output.status.code(), Some(5), "{command:?}");
                assert!(stderr(&output).contains(next), "{command:?}: {}", stderr(&output));
            });
        }
    });
}
