//! The host's side: manifests and pieces that lie. A liar with the publisher's key may have signed
//! them, so digests are made to fit wherever the row is about something else.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use pack::{UnpackError, unpack};
use proto::Digest;
use proto::artifact::{Entry, Manifest, Piece, What};

use crate::support::{Make, Sandbox, file, listing, make, noise, packed, told, unpacked};

/// Three pieces: 256 KiB, 256 KiB, 88 KiB.
fn honest() -> (Manifest, Vec<Vec<u8>>) {
    let top = tempfile::tempdir().unwrap();
    let tree = [
        file("bin/web", noise(500 << 10, 1)),
        file("conf", vec![b'x'; 100 << 10]),
        file("empty", ""),
        Make::Link("www", "bin/web"),
    ];
    make(top.path(), &tree);
    let (manifest, pieces) = packed(top.path()).unwrap();
    assert_eq!(pieces.len(), 3);
    (manifest, pieces)
}

/// Makes the piece table fit the pieces, as a lying publisher would.
fn fit(manifest: &mut Manifest, pieces: &[Vec<u8>]) {
    let piece = |frame: &Vec<u8>| Piece {
        bytes: u32::try_from(frame.len()).unwrap(),
        digest: Digest::of(frame),
    };
    manifest.pieces = pieces.iter().map(piece).collect();
}

fn frame(raw: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(raw, 3).unwrap()
}

/// What zstd skips without a word: magic, length, content.
fn skippable(content: &[u8]) -> Vec<u8> {
    let mut frame = 0x184d_2a50_u32.to_le_bytes().to_vec();
    frame.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
    frame.extend(content);
    frame
}

type Change = fn(&mut Manifest, &mut Vec<Vec<u8>>);

#[test]
fn r26_pieces_that_are_not_the_signed_ones_are_refused() {
    let rows: &[(&str, Change, &str)] = &[
        ("a flipped bit", |_, pieces| pieces[1][1_000] ^= 1, "piece 1 is not the one"),
        ("cut short", |_, pieces| pieces[1].truncate(250_000), "it has 250000 bytes"),
        ("a byte more", |_, pieces| pieces[1].push(0), "the piece table says"),
        ("empty", |_, pieces| pieces[2].clear(), "it has 0 bytes"),
        ("two pieces swapped", |_, pieces| pieces.swap(0, 1), "piece 0 is not the one"),
        ("a piece that nobody has", |_, pieces| drop(pieces.pop()), "cannot get piece 2"),
    ];
    refused(rows, false);
}

#[test]
fn r26_frames_that_lie_are_refused() {
    let rows: &[(&str, Change, &str)] = &[
        (
            "a bomb: 16 MiB in a frame of some hundred bytes",
            |_, pieces| pieces[1] = frame(&vec![0; 16 << 20]),
            "piece 1 is not the one that was signed: it does not decompress to 262144 bytes",
        ),
        (
            "a bomb in the last, shorter piece: as long as the others",
            |_, pieces| pieces[2] = frame(&vec![0; 256 << 10]),
            "it does not decompress to",
        ),
        (
            "one byte too long",
            |_, pieces| pieces[1] = frame(&vec![0; (256 << 10) + 1]),
            "it does not decompress to 262144 bytes",
        ),
        (
            "one byte too short",
            |_, pieces| pieces[1] = frame(&vec![0; (256 << 10) - 1]),
            "it decompresses to 262143 bytes, not to 262144",
        ),
        ("trailing garbage", |_, pieces| pieces[2].extend(b"more"), "4 bytes follow its zstd"),
        ("a second, empty frame", |_, pieces| pieces[2].extend(frame(b"")), "bytes follow"),
        (
            "the raw bytes in two frames",
            |_, pieces| {
                let half = frame(&vec![0; 128 << 10]);
                pieces[1] = [half.clone(), half].concat();
            },
            "bytes follow its zstd frame",
        ),
        ("skipped bytes behind", |_, pieces| pieces[2].extend(skippable(b"hidden")), "14 bytes"),
        (
            "skipped bytes before",
            |_, pieces| pieces[2] = [skippable(b"hidden"), pieces[2].clone()].concat(),
            "bytes follow its zstd frame",
        ),
        ("skipped bytes alone", |_, pieces| pieces[2] = skippable(b"x"), "to 0 bytes"),
        ("not a frame", |_, pieces| pieces[1] = vec![7; 1_000], "not start with a zstd frame"),
        ("half a frame", |_, pieces| pieces[1].truncate(1_000), "zstd frame"),
        (
            "a frame that needs a dictionary",
            |_, pieces| {
                let raw = noise(256 << 10, 5);
                let mut with = zstd::bulk::Compressor::with_dictionary(3, &raw).unwrap();
                pieces[1] = with.compress(&raw).unwrap();
                assert!(pieces[1].len() < 1_000, "the dictionary is used");
            },
            "it does not decompress",
        ),
    ];
    refused(rows, true);
}

#[test]
fn r26_tables_that_lie_are_refused() {
    let rows: &[(&str, Change, &str)] = &[
        ("a piece too few", |manifest, _| manifest.pieces.truncate(2), "2 pieces"),
        (
            "a piece too many",
            |manifest, _| manifest.pieces.push(manifest.pieces[0]),
            "4 pieces, the files need 3",
        ),
        (
            "the digest of another file",
            |manifest, _| {
                let other = digest_of(manifest, "conf");
                set(manifest, "bin/web", |digest, _| *digest = other);
            },
            "\"bin/web\" has digest",
        ),
        (
            "an empty file with a digest of something",
            |manifest, _| set(manifest, "empty", |digest, _| *digest = Digest::of(b"x")),
            "\"empty\" has digest",
        ),
        (
            "a byte moved from one file to the next",
            |manifest, _| {
                set(manifest, "bin/web", |_, bytes| *bytes -= 1);
                set(manifest, "conf", |_, bytes| *bytes += 1);
            },
            "\"bin/web\" has digest",
        ),
        (
            "a file longer than the pieces",
            |manifest, _| set(manifest, "conf", |_, bytes| *bytes += 1 << 20),
            "3 pieces, the files need 7",
        ),
    ];
    refused(rows, false);
}

fn set(manifest: &mut Manifest, wanted: &str, change: impl FnOnce(&mut Digest, &mut u64)) {
    for Entry { path, what } in &mut manifest.entries {
        if let What::File { bytes, digest, .. } = what
            && path == wanted
        {
            return change(digest, bytes);
        }
    }
    panic!("no file {wanted}");
}

fn digest_of(manifest: &mut Manifest, path: &str) -> Digest {
    let mut found = Digest::of(b"");
    set(manifest, path, |digest, _| found = *digest);
    found
}

fn refused(rows: &[(&str, Change, &str)], fitting: bool) {
    for (name, change, why) in rows {
        let (mut manifest, mut pieces) = honest();
        change(&mut manifest, &mut pieces);
        if fitting {
            fit(&mut manifest, &pieces);
        }
        let sandbox = Sandbox::new();
        let error = told(&unpacked(&manifest, &pieces, &sandbox.dest()).expect_err(name));
        assert!(error.contains(why), "{name}: {error}");
        sandbox.assert_untouched(name);
    }
}

/// Also a manifest that never went through the parser writes nothing it must not.
#[test]
fn r26_unsafe_entries_write_nothing() {
    let directory = |path: &str| Entry { path: path.into(), what: What::Directory };
    let link = |path: &str, target: &str| Entry {
        path: path.into(),
        what: What::Link { target: target.into() },
    };
    let planted = |path: &str| {
        let what = What::File { bytes: 4, digest: Digest::of(b"evil"), executable: false };
        Entry { path: path.into(), what }
    };
    let rows = [
        ("`..`", vec![planted("../../etc/passwd")]),
        ("`..` behind a directory", vec![directory("a"), planted("a/../../../etc/evil")]),
        ("absolute", vec![planted("/tmp/groundswell-evil")]),
        ("an absolute link", vec![link("a", "/etc")]),
        ("a link out", vec![link("a", "../../etc")]),
        ("through a link out", vec![link("a", "../../etc"), planted("a/evil")]),
        ("through a link inside", vec![directory("b"), link("c", "b"), planted("c/evil")]),
        ("a link, then a file in its place", vec![link("a", "../../etc/evil"), planted("a")]),
        ("a file twice", vec![planted("a"), planted("a")]),
        ("control characters", vec![planted("a\u{7}")]),
        ("NUL", vec![planted("a\0")]),
    ];
    for (name, entries) in rows {
        let pieces = vec![frame(b"evil")];
        let files = entries.iter().filter(|entry| matches!(entry.what, What::File { .. })).count();
        let (mut manifest, _) = honest();
        manifest.entries = entries;
        fit(&mut manifest, &pieces[..files.min(1)]);
        let sandbox = Sandbox::new();
        let error = unpacked(&manifest, &pieces, &sandbox.dest()).expect_err(name);
        assert!(matches!(error, UnpackError::Manifest(_)), "{name}: {}", told(&error));
        sandbox.assert_untouched(name);
        assert!(Manifest::parse(&manifest.to_bytes()).is_err(), "{name}: refused earlier as well");
    }
}

#[test]
fn r26_what_stands_at_the_destination_is_never_touched() {
    let (manifest, pieces) = honest();
    for there in ["a file", "a directory", "an empty directory", "a link", "a dangling link"] {
        let sandbox = Sandbox::new();
        let dest = sandbox.dest();
        match there {
            "a file" => fs::write(&dest, "old").unwrap(),
            "a directory" => make(&dest, &[file("old", "old")]),
            "an empty directory" => fs::create_dir(&dest).unwrap(),
            "a link" => symlink("../etc", &dest).unwrap(),
            _ => symlink("nowhere", &dest).unwrap(),
        }
        let before = listing(sandbox.path());
        let error = unpacked(&manifest, &pieces, &dest).expect_err(there);
        assert!(matches!(error, UnpackError::Begin { .. }), "{there}: {}", told(&error));
        assert_eq!(listing(sandbox.path()), before, "{there}");
    }
}

/// The disk fails, or the process that fetches dies, at any piece: nothing is left.
#[test]
fn r26_a_failure_at_any_piece_leaves_nothing() {
    let (manifest, pieces) = honest();
    for failing in 0..3 {
        let sandbox = Sandbox::new();
        let mut get = |index: u32| {
            if index == failing {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(pieces[index as usize].clone())
        };
        let error = unpack(&manifest, &mut get, &sandbox.dest()).unwrap_err();
        assert!(matches!(error, UnpackError::Get { piece, .. } if piece == failing), "{error:?}");
        sandbox.assert_untouched(&format!("piece {failing}"));
    }
}

/// What a power cut leaves beside the destination is taken away by the next attempt.
#[test]
fn r26_an_earlier_attempt_is_no_obstacle() {
    let (manifest, pieces) = honest();
    let sandbox = Sandbox::new();
    let left = sandbox.dest().with_file_name(".v1.tmp");
    make(&left, &[file("bin/web", "half"), file("planted", "evil")]);
    unpacked(&manifest, &pieces, &sandbox.dest()).unwrap();
    pack::verify_tree(&manifest, &sandbox.dest()).unwrap();
    assert!(!left.exists());
    assert!(durable::is_leftover(left.file_name().unwrap()));
}
