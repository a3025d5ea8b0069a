//! What reads bytes of others outside `proto`, each behind one function that takes any bytes.
//!
//! As in `proto/tests/hostile/entries.rs`: it panics if what was read breaks a promise; the test beside
//! this file feeds them mutated samples, `tests/fuzz` feeds them to libFuzzer.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use agent::activate::Journal;
use agent::config::Machine;
use agent::health::metrics::Counters;
use agent::services::{EnvError, Variables};
use durable::RealDisk;
use net::certificate;
use net::join::Token;
use proto::Digest;
use proto::artifact::{Entry as TreeEntry, FORMAT, Manifest, Piece, What};
use proto::record::BUCKETS_MAX;
use proto::selector::Selector;

/// Reads any bytes; whether they are what it reads.
type Entry = fn(&[u8]) -> bool;

/// The functions, by the name of their corpus.
pub const ENTRIES: [(&str, Entry); 10] = [
    ("archive", archive),
    ("piece", piece),
    ("patch", patch),
    ("metrics", metrics),
    ("journal", journal),
    ("env", env),
    ("token", token),
    ("x509", x509),
    ("agent-toml", agent_toml),
    ("coordinator-toml", coordinator_toml),
];

/// Longest error that may come of what is short.
const ERROR_BYTES_MAX: usize = 20_000;

fn assert_short(error: &impl Display) {
    assert!(error.to_string().len() < ERROR_BYTES_MAX, "errors do not fill logs");
}

/// A directory of this thread, empty.
fn empty_dir() -> PathBuf {
    let thread = std::thread::current();
    let name = format!("groundswell-hostile-{}-{:?}", std::process::id(), thread.id());
    let dir = std::env::temp_dir().join(name);
    // What was unpacked is read-only.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory for temporary files");
    dir
}

/// A tar that somebody built, once as it stands and once packed by zstd, as it is handed in.
///
/// The sums of its headers are put right first: bent bytes would get no further.
pub fn archive(bytes: &[u8]) -> bool {
    let mut tar = bytes.to_vec();
    for block in tar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    let packed = zstd::bulk::compress(&tar, 1).expect("zstd packs anything");
    let mut read = false;
    for bytes in [bytes, &packed] {
        let dir = empty_dir();
        let (file, into) = (dir.join("handed-in"), dir.join("tree"));
        fs::write(&file, bytes).expect("it is written");
        match pack::extract_tar(&file, &into) {
            Ok(()) => {
                let mut data = Vec::new();
                let manifest = pack::pack(&into, &mut data, &mut |_| {}).expect("it is packed");
                assert_eq!(pack::verify_tree(&manifest, &into).map_err(|e| e.to_string()), Ok(()));
                fs::remove_dir_all(&into).expect("it can be removed");
                read = true;
            }
            Err(error) => {
                assert_short(&error);
                assert!(!into.exists(), "nothing is left of what is refused");
            }
        }
        let left: Vec<_> = fs::read_dir(&dir).expect("it is there").flatten().collect();
        assert_eq!(left.len(), 1, "nothing is made beside it: {left:?}");
        let _ = fs::remove_dir_all(&dir);
    }
    read
}

/// A piece that is the one the table names, of a file that says it is so long as the first two bytes
/// say.
pub fn piece(bytes: &[u8]) -> bool {
    let Some((length, frame)) = bytes.split_first_chunk::<2>() else { return false };
    let raw_bytes = u64::from(u16::from_le_bytes(*length));
    let digest = Digest::of(&zstd::bulk::decompress(frame, 1 << 16).unwrap_or_default());
    let what = What::File { bytes: raw_bytes, digest, executable: false };
    let manifest = Manifest {
        format: FORMAT,
        entries: vec![TreeEntry { path: "file".to_owned(), what }],
        piece_raw_bytes: 256 << 10,
        pieces: vec![Piece {
            bytes: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            digest: Digest::of(frame),
        }],
    };
    let dir = empty_dir();
    let into = dir.join("tree");
    let unpacked = pack::unpack(&manifest, &mut |_| Ok(frame.to_vec()), &into);
    match &unpacked {
        Ok(()) => {
            let found = fs::read(into.join("file")).expect("the file is there");
            assert_eq!((found.len() as u64, Digest::of(&found)), (raw_bytes, digest));
        }
        Err(error) => {
            assert_short(error);
            assert!(!into.exists(), "nothing is left of what is refused");
        }
    }
    let _ = fs::remove_dir_all(&dir);
    unpacked.is_ok()
}

/// Two versions of a tree: in their directories, each with its manifest.
pub fn versions(dir: &Path) -> [pack::Tree; 2] {
    let version = |name: &str, word: &str| {
        let tree = dir.join(name);
        fs::create_dir_all(&tree).expect("a directory for a version");
        fs::write(tree.join("same"), "what stays as it is").expect("it is written");
        let lines: String =
            (0..500).map(|line| format!("{word} stands in line {line}\n")).collect();
        fs::write(tree.join("text"), lines).expect("it is written");
        let manifest = pack::pack(&tree, &mut Vec::new(), &mut |_| {}).expect("it is packed");
        pack::Tree { manifest: manifest.into(), dir: tree }
    };
    [version("old", "this"), version("new", "that")]
}

/// A patch from the one of these versions to the other.
pub fn patch(bytes: &[u8]) -> bool {
    let dir = empty_dir();
    let [old, new] = versions(&dir);
    fs::write(dir.join("patch"), bytes).expect("it is written");
    let what =
        What::File { bytes: bytes.len() as u64, digest: Digest::of(bytes), executable: false };
    let manifest = Manifest {
        format: FORMAT,
        entries: vec![TreeEntry { path: "patch".to_owned(), what }],
        piece_raw_bytes: 256 << 10,
        pieces: Vec::new(),
    };
    let (wanted, into) = (pack::artifact_ref(&new.manifest), dir.join("tree"));
    let archive = pack::Archive::of_tree(&manifest, &dir);
    let opened = pack::Patch::open(archive, &old.manifest, &wanted);
    let unpacked = opened.and_then(|patch| patch.unpack(&old, &into));
    match &unpacked {
        Ok(()) => {
            assert_eq!(pack::verify_tree(&new.manifest, &into).map_err(|e| e.to_string()), Ok(()));
        }
        Err(error) => {
            assert_short(error);
            assert!(!into.exists(), "nothing is left of what is refused");
        }
    }
    let _ = fs::remove_dir_all(&dir);
    unpacked.is_ok()
}

/// A page of metrics, read by selectors that it may name itself: those of its first three lines.
pub fn metrics(bytes: &[u8]) -> bool {
    let page = String::from_utf8_lossy(bytes);
    let mut lines = page.lines();
    let mut selector = || {
        let line = lines.next().unwrap_or_default();
        Selector::parse(line).or_else(|error| {
            assert_short(&error);
            Selector::parse("requests")
        })
    };
    let selectors = [selector(), selector(), selector()].map(|one| one.expect("a plain name"));
    let [requests, errors, latency] = selectors;
    let Some(read) = (Counters { requests, errors, latency }).read(&page) else { return false };
    assert!(read.requests >= 0.0 && read.errors >= 0.0, "{read:?}");
    assert!(read.buckets.len() <= BUCKETS_MAX, "{read:?}");
    assert!(read.buckets.windows(2).all(|two| two[0].0 < two[1].0), "they rise: {read:?}");
    assert!(read.buckets.iter().all(|(_, requests)| *requests >= 0.0), "{read:?}");
    true
}

/// The journal of an activation.
pub fn journal(bytes: &[u8]) -> bool {
    let load = |bytes: &[u8]| {
        let dir = empty_dir();
        let path = dir.join("web.json");
        fs::write(&path, bytes).expect("it is written");
        let loaded = Journal::load(&RealDisk, &path);
        let _ = fs::remove_dir_all(&dir);
        loaded
    };
    let loaded = load(bytes);
    match &loaded {
        Ok(journal) => {
            let journal = journal.as_ref().expect("there is a file");
            let again = load(&serde_json::to_vec(journal).expect("journals serialize"));
            assert_eq!(again.ok().flatten().as_ref(), Some(journal));
        }
        Err(error) => assert_short(error),
    }
    loaded.is_ok()
}

/// `shared/env`.
pub fn env(bytes: &[u8]) -> bool {
    let dir = empty_dir();
    let path = dir.join("env");
    fs::write(&path, bytes).expect("it is written");
    let loaded = Variables::load(&path);
    match &loaded {
        Ok(variables) => {
            for (name, value) in variables.iter() {
                assert!(!name.is_empty() && !name.starts_with("SWELL_"), "{name}");
                assert!(!name.contains(['=', '\0']) && !value.contains(['\n', '\0']), "{name}");
            }
        }
        Err(EnvError::Line { line, .. }) => {
            assert!((1..=bytes.split(|byte| *byte == b'\n').count()).contains(line));
        }
        Err(error) => panic!("{error}"),
    }
    let _ = fs::remove_dir_all(&dir);
    loaded.is_ok()
}

/// A token to join with.
pub fn token(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(token) = text.parse::<Token>() else { return false };
    assert_eq!(token.to_string(), text, "a token has one form");
    true
}

/// A certificate, as the other end of a connection shows it.
pub fn x509(bytes: &[u8]) -> bool {
    let Ok(facts) = certificate::facts(bytes) else { return false };
    assert!(facts.not_before < facts.not_after);
    assert!(certificate::renew_at(&facts) < facts.not_after);
    true
}

/// `agent.toml`.
pub fn agent_toml(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let machine = |_| Machine { hostname: "web-1".to_owned(), address: None };
    let parsed = agent::config::Config::parse(Path::new("/etc/agent.toml"), text, machine);
    match &parsed {
        Ok(config) => {
            assert!(config.state_dir.is_absolute() && config.service_root.is_absolute());
        }
        Err(error) => assert_short(error),
    }
    parsed.is_ok()
}

/// `coordinator.toml`.
pub fn coordinator_toml(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let parsed = coordinator::config::Config::parse(Path::new("/etc/coordinator.toml"), text);
    match &parsed {
        Ok(config) => assert!(config.state_dir.is_absolute()),
        Err(error) => assert_short(error),
    }
    parsed.is_ok()
}
