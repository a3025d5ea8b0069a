//! R26: what is no manifest of an artifact that may be unpacked. A row per attack.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

use proptest::prelude::*;
use proto::Digest;
use proto::artifact::{
    ENTRIES_MAX, Entry, MANIFEST_BYTES_MAX, Manifest, ManifestError, Piece, RAW_BYTES_MAX, What,
    check_entries, check_path,
};

fn file(path: &str, bytes: u64) -> Entry {
    let what = What::File { bytes, digest: Digest::of(b"content"), executable: false };
    Entry { path: path.into(), what }
}

fn directory(path: &str) -> Entry {
    Entry { path: path.into(), what: What::Directory }
}

fn link(path: &str, target: &str) -> Entry {
    Entry { path: path.into(), what: What::Link { target: target.into() } }
}

fn manifest(entries: Vec<Entry>) -> Manifest {
    let piece_raw_bytes = 256 << 10;
    let mut manifest = Manifest { format: 1, entries, piece_raw_bytes, pieces: Vec::new() };
    let pieces = manifest.raw_bytes().min(RAW_BYTES_MAX).div_ceil(u64::from(piece_raw_bytes));
    let piece = Piece { bytes: 100, digest: Digest::of(b"frame") };
    manifest.pieces = vec![piece; usize::try_from(pieces).unwrap()];
    manifest
}

fn refusal(manifest: &Manifest) -> String {
    Manifest::parse(&manifest.to_bytes()).unwrap_err().to_string()
}

#[test]
fn r26_an_honest_manifest_is_read_back_as_written() {
    let honest = manifest(vec![
        directory("bin"),
        file("bin/web", 300 << 10),
        link("bin/www", "web"),
        directory("empty"),
        file("empty.txt", 0),
        directory("lib"),
        directory("lib/v1"),
        link("lib/v1/back", "../../bin/./web"),
        link("lib/v1/up", "../.."),
        link("lib/v1/dangling", "not/there/"),
        file("ünïcode \u{1f30a}", 1),
    ]);
    // Rows above are as a person would list them; the table is in order of components.
    let mut honest = honest;
    honest.entries.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
    assert_eq!(Manifest::parse(&honest.to_bytes()).unwrap(), honest);
    let nothing = manifest(vec![]);
    assert_eq!(Manifest::parse(&nothing.to_bytes()).unwrap(), nothing);
}

#[test]
fn r26_unsafe_entries_are_refused() {
    let long = "x".repeat(256);
    let overlong = vec!["x".repeat(100); 11].join("/");
    let rows: Vec<(&str, Vec<Entry>, &str)> = vec![
        ("`..` alone", vec![file("..", 1)], "`.` or `..`"),
        ("`..` first", vec![file("../etc/passwd", 1)], "`.` or `..`"),
        ("`..` inside", vec![directory("a"), file("a/../../b", 1)], "`.` or `..`"),
        ("`.`", vec![directory(".")], "`.` or `..`"),
        ("absolute", vec![file("/etc/passwd", 1)], "must be relative"),
        ("empty component", vec![directory("a"), file("a//b", 1)], "no empty component"),
        ("slash at the end", vec![directory("a/")], "no empty component"),
        ("empty path", vec![file("", 1)], "1 to 1024 bytes"),
        ("overlong path", vec![file(&overlong, 1)], "1 to 1024 bytes"),
        ("overlong component", vec![file(&long, 1)], "more than 255 bytes"),
        ("newline", vec![file("a\nb", 1)], "control characters"),
        ("NUL", vec![file("a\0b", 1)], "control characters"),
        ("escape sequence", vec![file("\u{1b}[2J", 1)], "control characters"),
        ("C1 control character", vec![file("\u{9b}2J", 1)], "control characters"),
        ("backslash", vec![file("..\\b", 1)], "backslashes"),
        ("a file twice", vec![file("a", 1), file("a", 1)], "stands twice"),
        ("a directory twice", vec![directory("a"), directory("a")], "stands twice"),
        ("file and directory", vec![directory("a"), file("a", 1)], "stands twice"),
        ("out of order", vec![file("b", 1), file("a", 1)], "out of order"),
        (
            "order of bytes, not of components",
            vec![directory("a"), file("a-b", 1), file("a/b", 1)],
            "out of order",
        ),
        ("no parent", vec![file("a/b", 1)], "its parent is not a directory"),
        ("a file as parent", vec![file("a", 1), file("a/b", 1)], "its parent is not a directory"),
        (
            "through a link to a directory",
            vec![directory("a"), link("b", "a"), file("b/c", 1)],
            "its parent is not a directory",
        ),
        ("link to an absolute path", vec![link("a", "/etc")], "absolute path"),
        ("link out", vec![link("a", "..")], "links out"),
        ("link out, deeper", vec![directory("a"), link("a/b", "../../c")], "links out"),
        ("link out behind `.`", vec![link("a", "./../b")], "links out"),
        (
            "link out through a link that leads up",
            vec![
                directory("a"),
                directory("a/b"),
                link("a/b/out", "top/.."),
                link("a/b/top", "../.."),
            ],
            "through `..` after a name",
        ),
        ("link to nothing", vec![link("a", "")], "malformed link target"),
        ("link with a control character", vec![link("a", "b\n")], "malformed link target"),
        ("link with a NUL", vec![link("a", "b\0c")], "malformed link target"),
        ("overlong link", vec![link("a", &overlong)], "overlong"),
        ("more bytes than allowed", vec![file("a", RAW_BYTES_MAX + 1)], "bytes of all files"),
        (
            "more bytes than a number holds",
            vec![file("a", 1), file("b", u64::MAX)],
            "bytes of all files",
        ),
    ];
    for (name, entries, why) in rows {
        let unsafe_one = Manifest { entries, ..manifest(vec![]) };
        let error = refusal(&unsafe_one);
        assert!(error.contains(why), "{name}: {error}");
    }
}

#[test]
fn r26_tables_that_do_not_add_up_are_refused() {
    let honest = manifest(vec![file("a", 300 << 10)]);
    assert_eq!(honest.pieces.len(), 2);
    let change = |change: fn(&mut Manifest)| {
        let mut changed = honest.clone();
        change(&mut changed);
        changed
    };
    let rows = [
        ("a piece too few", change(|m| m.pieces.truncate(1)), "1 pieces, the files need 2"),
        ("a piece too many", change(|m| m.pieces.push(m.pieces[0])), "3 pieces"),
        ("pieces for no file", change(|m| m.entries.clear()), "2 pieces, the files need 0"),
        ("an empty piece", change(|m| m.pieces[1].bytes = 0), "piece 1 has 0 bytes"),
        (
            "a frame longer than its piece can become",
            change(|m| m.pieces[0].bytes = 300 << 10),
            "piece 0 has 307200 bytes",
        ),
        ("pieces of no bytes", change(|m| m.piece_raw_bytes = 0), "piece_raw_bytes = 0"),
        ("pieces too small", change(|m| m.piece_raw_bytes = 1 << 10), "piece_raw_bytes = 1024"),
        ("pieces too large", change(|m| m.piece_raw_bytes = 2 << 20), "piece_raw_bytes = 2097152"),
        ("format of the future", change(|m| m.format = 2), "reads format 1"),
        (
            "too many entries",
            change(|m| {
                m.entries = (0..=ENTRIES_MAX).map(|i| file(&format!("{i:07}"), 0)).collect();
            }),
            "entries: 100001, at most 100000",
        ),
    ];
    for (name, changed, why) in rows {
        let error = refusal(&changed);
        assert!(error.contains(why), "{name}: {error}");
    }
}

/// A tree has one manifest: whatever else parses to it is refused, not read a second way.
#[test]
fn r26_a_manifest_has_one_form() {
    let honest = String::from_utf8(manifest(vec![file("a", 1)]).to_bytes()).unwrap();
    let swap = |from: &str, to: &str| {
        assert!(honest.contains(from), "{honest}");
        honest.replacen(from, to, 1).into_bytes()
    };
    let rows = [
        ("a space", swap("{\"format\"", "{ \"format\"")),
        ("a newline at the end", format!("{honest}\n").into_bytes()),
        ("an unknown field", swap("\"format\":1", "\"format\":1,\"x\":1")),
        ("an unknown field in an entry", swap("\"path\"", "\"x\":1,\"path\"")),
        ("an unknown field in a file", swap("\"bytes\"", "\"x\":1,\"bytes\"")),
        ("a field twice", swap("\"format\":1", "\"format\":1,\"format\":1")),
        ("a path twice", swap("\"path\":\"a\"", "\"path\":\"b\",\"path\":\"a\"")),
        ("a digest twice", swap("\"digest\"", "\"bytes\":1,\"digest\"")),
        ("an escaped letter", swap("\"a\"", "\"\\u0061\"")),
        ("an unknown type", swap("\"type\":\"file\"", "\"type\":\"device\"")),
        ("a negative length", swap("\"bytes\":1", "\"bytes\":-1")),
        ("a length that is a fraction", swap("\"bytes\":1", "\"bytes\":1.0")),
        ("a name that is not UTF-8", {
            let mut bytes = honest.clone().into_bytes();
            let at = honest.find("\"a\"").unwrap() + 1;
            bytes[at] = 0xff;
            bytes
        }),
        ("half a manifest", honest.as_bytes()[..honest.len() / 2].to_vec()),
        ("nothing", Vec::new()),
    ];
    assert!(Manifest::parse(honest.as_bytes()).is_ok());
    for (name, bytes) in rows {
        let error = Manifest::parse(&bytes).expect_err(name);
        assert!(
            matches!(error, ManifestError::Malformed(_) | ManifestError::NotCanonical),
            "{name}: {error}"
        );
    }
}

#[test]
fn r26_endless_data_is_not_parsed() {
    let bytes = vec![b'['; usize::try_from(MANIFEST_BYTES_MAX).unwrap() + 1];
    assert!(matches!(Manifest::parse(&bytes), Err(ManifestError::TooLong { .. })));
    let deep = vec![b'['; 1 << 20];
    assert!(matches!(Manifest::parse(&deep), Err(ManifestError::Malformed(_))));
}

/// Follows `target` from where the link stands, through the other links, as a kernel does;
/// whether the way stays below the top all along.
fn stays_inside(entries: &[Entry], from: &str, target: &str) -> bool {
    let links: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Link { target } => Some((entry.path.clone(), target.clone())),
            What::Directory | What::File { .. } => None,
        })
        .collect();
    let mut way: Vec<String> = from.split('/').map(str::to_owned).collect();
    way.pop();
    let mut ahead: Vec<String> = target.split('/').rev().map(str::to_owned).collect();
    for _ in 0..200 {
        let Some(component) = ahead.pop() else { return true };
        match component.as_str() {
            "" | "." => {}
            ".." if way.pop().is_none() => return false,
            ".." => {}
            name => {
                way.push(name.to_owned());
                let here = way.join("/");
                if let Some((_, target)) = links.iter().find(|(path, _)| *path == here) {
                    way.pop();
                    ahead.extend(target.split('/').rev().map(str::to_owned));
                }
            }
        }
    }
    true // A loop of links: the kernel stops there as well.
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..Default::default() })]

    /// Links that are accepted, however many stand in one tree, never lead out through each other.
    #[test]
    fn r26_accepted_links_stay_inside(
        links in prop::collection::btree_map(
            prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..4),
            prop::collection::vec(prop::sample::select(vec!["..", "..", "a", "b"]), 1..4),
            1..8,
        ),
    ) {
        let mut entries: Vec<Entry> = Vec::new();
        for (path, target) in &links {
            // In order: what stands below a link has no directory for a parent and is left out.
            let mut next = entries.clone();
            for end in 1..path.len() {
                let parent = path[..end].join("/");
                if !next.iter().any(|entry| entry.path == parent) {
                    next.push(directory(&parent));
                }
            }
            next.push(link(&path.join("/"), &target.join("/")));
            next.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
            if check_entries(&next).is_ok() {
                entries = next;
            }
        }
        for entry in &entries {
            if let What::Link { target } = &entry.what {
                prop_assert!(stays_inside(&entries, &entry.path, target), "{:?}", entries);
            }
        }
    }

    /// No bytes make the parser panic, and what it accepts it writes back the same.
    #[test]
    fn r26_any_change_of_a_byte_is_refused_or_harmless(at: prop::sample::Index, byte: u8) {
        let mut bytes = manifest(vec![directory("a"), file("a/b", 9), link("c", "a")]).to_bytes();
        *at.get_mut(&mut bytes) = byte;
        if let Ok(read) = Manifest::parse(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }

    /// A path that is accepted has only plain components.
    #[test]
    fn r26_accepted_paths_are_plain(path in "[./a\\\\\u{0}-\u{20}]{0,12}") {
        if check_path(&path).is_ok() {
            for component in std::path::Path::new(&path).components() {
                prop_assert!(matches!(component, std::path::Component::Normal(_)));
            }
            prop_assert_eq!(std::path::Path::new(&path).components().count(), path.split('/').count());
        }
    }
}
