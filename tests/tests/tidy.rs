//! The house keeps its own order: arrows between crates, names that stand in one file only, headers,
//! lengths. Each rule says what to do when it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may depend on whom (the arrows of the README's architecture section).
const ARROWS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("durable", &[]),
    ("pack", &["proto", "durable"]),
    ("rollout", &["proto"]),
    ("net", &["proto"]),
    ("swarm", &["proto", "durable", "pack", "net"]),
    ("member", &["proto", "durable", "rollout", "net", "swarm"]),
    ("agent", &["proto", "durable", "pack", "rollout", "net", "swarm", "member"]),
    ("coordinator", &["proto", "durable", "pack", "rollout", "net", "swarm", "member"]),
    ("swell", &["proto", "durable", "pack", "rollout", "net"]),
    ("demo-service", &[]),
    (
        "fleet-tests",
        &[
            "proto",
            "durable",
            "pack",
            "rollout",
            "net",
            "swarm",
            "member",
            "agent",
            "coordinator",
            "swell",
        ],
    ),
];

/// What a crate promises not to hold.
const ABSENT: &[(&str, &[&str])] = &[
    ("proto", &["tokio", "quinn", "rustls", "rand", "getrandom", "tracing"]),
    ("durable", &["tokio", "quinn", "serde"]),
    ("pack", &["tokio", "quinn"]),
    ("rollout", &["tokio", "quinn", "rand", "getrandom", "tracing"]),
    ("agent", &["sqlx", "axum", "git2"]),
    ("coordinator", &["zbus", "sysinfo"]),
];

/// Longest source file, in lines.
const FILE_LINES_MAX: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

/// What cargo prints.
fn cargo(args: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn metadata() -> Value {
    let printed = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    serde_json::from_slice(&printed).expect("cargo metadata prints JSON")
}

/// The normal and build dependencies of each package of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    packages
        .iter()
        .map(|package| {
            let all = package["dependencies"].as_array().expect("dependencies").iter();
            (name(package), all.filter(|one| one["kind"] != "dev").map(name).collect())
        })
        .collect()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let dependencies = dependencies();
    let known: BTreeSet<_> = ARROWS.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<_> = dependencies.keys().map(String::as_str).collect();
    assert_eq!(found, known, "a crate came or went: give it its arrows here and in the README");
    for (name, allowed) in ARROWS {
        for dependency in dependencies[*name].iter().filter(|one| known.contains(one.as_str())) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{name} -> {dependency}: not an arrow of the house; see README, Architecture"
            );
        }
    }
}

#[test]
fn crates_keep_their_promises_of_absence() {
    let dependencies = dependencies();
    for (name, absent) in ABSENT {
        for one in *absent {
            assert!(!dependencies[*name].contains(*one), "{name} promises that {one} is absent");
        }
    }
}

#[test]
fn one_tls_provider() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    for banned in ["aws-lc-rs", "openssl-sys", "native-tls"] {
        assert!(
            !lock.contains(&format!("name = \"{banned}\"")),
            "{banned} is in Cargo.lock: ring is the one provider; turn the default features off"
        );
    }
}

/// Rust sources, as (path from the root, text).
fn sources() -> Vec<(String, String)> {
    fn visit(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                visit(&path, found);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut paths = Vec::new();
    visit(&root, &mut paths);
    paths.sort();
    let relative = |path: &Path| path.strip_prefix(&root).expect("below").display().to_string();
    paths
        .into_iter()
        .map(|path| (relative(&path), std::fs::read_to_string(&path).expect("UTF-8 source")))
        .collect()
}

#[test]
fn names_that_stand_in_one_place_only() {
    // A crate that may have to be replaced has one seam.
    let seams = [("bincode", "proto/src/codec.rs"), ("chitchat", "proto/net/src/gossip")];
    for (path, text) in sources().iter().filter(|(path, _)| !path.ends_with("tidy.rs")) {
        for (name, home) in seams {
            let used = text.contains(&format!("{name}::"));
            assert!(!used || path.starts_with(home), "{path} names {name}: only {home} may");
        }
    }
}

#[test]
fn only_tests_simulate() {
    for (name, dependencies) in dependencies() {
        let simulates = dependencies.contains("turmoil");
        assert!(!simulates || name == "fleet-tests", "{name} depends on turmoil: only tests may");
    }
    // In two parts, so that this file does not name them.
    let calls = [concat!("clock::sim", "ulate("), concat!("Gossip::sim", "ulated(")];
    for (path, text) in sources() {
        let may = path.starts_with("tests/") || path.starts_with("proto/net/src/gossip/tests/");
        for call in calls {
            assert!(may || !text.contains(call), "{path} calls {call}...): only tests may");
        }
    }
}

/// What `cargo build --bins` puts into the daemons: features are those of all that is built together.
#[test]
fn daemons_have_no_clock_that_can_be_paused() {
    let tree = ["tree", "--workspace", "--edges", "no-dev", "--prefix", "none"];
    let printed = cargo(&[&tree[..], &["--format", "{p} {f}"]].concat());
    let printed = String::from_utf8(printed).expect("cargo tree prints text");
    let found: BTreeSet<_> = printed.lines().filter(|line| line.starts_with("tokio v")).collect();
    assert!(!found.is_empty(), "tokio is somewhere in:\n{printed}");
    for line in found {
        assert!(
            !line.contains("test-util"),
            "{line}: a dependency turns test-util on; what needs it goes behind `simulate` of fleet-tests"
        );
    }
}

#[test]
fn clocks_are_read_in_one_place() {
    // The command line runs on a person's machine, which no simulation has.
    let may = ["proto/net/src/clock.rs", "coordinator/cli/"];
    let shipped = |path: &str| !path.contains("/tests") && !path.starts_with("tests/");
    for (path, text) in sources().iter().filter(|(path, _)| shipped(path)) {
        let here = may.iter().any(|start| path.starts_with(start));
        for name in ["SystemTime::now(", "clock_gettime("] {
            assert!(here || !text.contains(name), "{path} names {name}...): net::clock reads it");
        }
    }
}

#[test]
fn the_planner_of_the_swarm_is_free_of_io() {
    for (path, text) in
        sources().iter().filter(|(path, _)| path.starts_with("proto/swarm/src/plan"))
    {
        for name in ["tokio::", "quinn::", "std::fs", "std::net", "Instant::now"] {
            assert!(!text.contains(name), "{path} names {name}: plan/ is sans-IO");
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_readable() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{path}: starts with no //! line that says what it is");
        let lines = text.lines().count();
        assert!(
            lines <= FILE_LINES_MAX,
            "{path} has {lines} lines, at most {FILE_LINES_MAX}: a room that has become a hall"
        );
    }
}

#[test]
fn every_test_runs() {
    // In two parts, so that this file does not name it.
    let ignored = concat!("#[ign", "ore");
    for (path, text) in sources() {
        assert!(!text.contains(ignored), "{path}: a test that does not run proves nothing");
    }
}

#[test]
fn clippy_thresholds_are_repeated_where_a_nested_file_hides_them() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("a clippy file");
    let nested = read("proto/rollout/.clippy.toml");
    for line in read(".clippy.toml").lines().filter(|line| !line.is_empty()) {
        assert!(nested.contains(line), "proto/rollout/.clippy.toml lacks `{line}`");
    }
}
