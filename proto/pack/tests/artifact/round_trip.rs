//! What is packed comes back the same, and one tree has one manifest.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pack::{artifact_ref, pack, verify_tree};
use proptest::prelude::*;
use proto::Digest;
use proto::artifact::Manifest;
use rustix::fs::Mode;
use rustix::process::umask;

use crate::support::{Make, Sandbox, file, listing, make, noise, packed, unpacked};

const PIECE: usize = 256 << 10;

#[derive(Debug, Clone)]
enum What {
    Directory,
    File { length: usize, seed: u64, executable: bool },
    Link(Vec<&'static str>),
}

fn what() -> impl Strategy<Value = What> {
    // Around the edges of pieces, and small ones that share a piece.
    let length = prop_oneof![
        4 => 0_usize..2_000,
        1 => prop::sample::select(vec![0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE]),
    ];
    let file = (length, 0..4_u64, any::<bool>())
        .prop_map(|(length, seed, executable)| What::File { length, seed, executable });
    let link = prop::collection::vec(prop::sample::select(vec![".", "a", "b", "ü"]), 1..4);
    prop_oneof![2 => Just(What::Directory), 5 => file, 1 => link.prop_map(What::Link)]
}

fn tree() -> impl Strategy<Value = BTreeMap<Vec<&'static str>, What>> {
    let name = prop::sample::select(vec!["a", "b", "a-b", "A", "ü", "with space", ".hidden", "0"]);
    prop::collection::btree_map(prop::collection::vec(name, 1..4), what(), 0..14)
}

/// Makes what can be made: whose parent turned out a file or link is left out.
fn plant(top: &Path, tree: &BTreeMap<Vec<&'static str>, What>) {
    fs::create_dir_all(top).unwrap();
    for (path, what) in tree {
        let path = top.join(path.join("/"));
        let parent = path.parent().unwrap();
        if fs::create_dir_all(parent).is_err() || path.symlink_metadata().is_ok() {
            continue;
        }
        match what {
            What::Directory => fs::create_dir(&path).unwrap(),
            What::Link(target) => {
                // A parent that leads through a link planted earlier may be anywhere inside.
                std::os::unix::fs::symlink(target.join("/"), &path).unwrap();
            }
            What::File { length, seed, executable } => {
                fs::write(&path, noise(*length, *seed)).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    /// Any tree: the same names, contents, links and executable bits come back; the manifest
    /// survives its bytes; and the copy packs to the same artifact.
    #[test]
    fn r26_any_tree_comes_back(tree in tree()) {
        let sandbox = Sandbox::new();
        let source = tempfile::tempdir().unwrap();
        plant(source.path(), &tree);
        let (manifest, pieces) = packed(source.path()).unwrap();
        prop_assert_eq!(&Manifest::parse(&manifest.to_bytes()).unwrap(), &manifest);
        unpacked(&manifest, &pieces, &sandbox.dest()).unwrap();
        prop_assert_eq!(listing(&sandbox.dest()), listing(source.path()));
        verify_tree(&manifest, &sandbox.dest()).unwrap();
        prop_assert_eq!(packed(&sandbox.dest()).unwrap(), (manifest, pieces));
    }
}

/// One tree, one manifest: whatever the order, the times and the umask it was made with.
#[test]
fn r26_the_manifest_depends_on_the_tree_alone() {
    let rows = || {
        vec![
            file("b/two", noise(300_000, 2)),
            file("a", noise(300_000, 1)),
            Make::File("b/run", b"#!/bin/sh\n".to_vec(), 0o700),
            Make::Directory("empty"),
            Make::Link("link", "b/two"),
        ]
    };
    let top = tempfile::tempdir().unwrap();
    let mut manifests = Vec::new();
    for (name, backwards, mask, age) in
        [("first", false, 0o022, 0), ("second", true, 0o077, 1_000_000), ("third", true, 0, 7)]
    {
        let dir = top.path().join(name);
        let mut rows = rows();
        if backwards {
            rows.reverse();
        }
        let before = umask(Mode::from_raw_mode(mask));
        if backwards {
            fs::create_dir_all(dir.join("b")).unwrap();
        }
        make(&dir, &rows);
        umask(before);
        if mask == 0o077 {
            fs::set_permissions(dir.join("b/two"), Permissions::from_mode(0o600)).unwrap();
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(age);
        File::options().write(true).open(dir.join("a")).unwrap().set_modified(time).unwrap();
        manifests.push(packed(&dir).unwrap());
    }
    assert_eq!(manifests[0].0.to_bytes(), manifests[1].0.to_bytes());
    assert_eq!(manifests[0].0.to_bytes(), manifests[2].0.to_bytes());
    assert_eq!(manifests[0].1, manifests[1].1, "the pieces too");
    // And on all of the tree: one executable bit makes another artifact.
    let run = top.path().join("first/b/run");
    fs::set_permissions(run, Permissions::from_mode(0o600)).unwrap();
    assert_ne!(packed(&top.path().join("first")).unwrap().0.to_bytes(), manifests[0].0.to_bytes());
}

/// The form on disk is a format: this manifest must never change.
#[test]
fn r26_a_manifest_reads_as_documented() {
    let top = tempfile::tempdir().unwrap();
    let tree = [
        Make::File("bin/run", b"run".to_vec(), 0o755),
        file("bin-a", ""),
        Make::Link("link", "bin/run"),
    ];
    make(top.path(), &tree);
    let (manifest, pieces) = packed(top.path()).unwrap();
    let [empty, run] = [b"".as_slice(), b"run"].map(|content| format!("{:#}", Digest::of(content)));
    let (bytes, frame) = (pieces[0].len(), format!("{:#}", Digest::of(&pieces[0])));
    let wanted = format!(
        "{{\"format\":1,\"entries\":[\
         {{\"path\":\"bin\",\"type\":\"directory\"}},\
         {{\"path\":\"bin/run\",\"type\":\"file\",\"bytes\":3,\"digest\":\"{run}\",\"executable\":true}},\
         {{\"path\":\"bin-a\",\"type\":\"file\",\"bytes\":0,\"digest\":\"{empty}\",\"executable\":false}},\
         {{\"path\":\"link\",\"type\":\"link\",\"target\":\"bin/run\"}}],\
         \"piece_raw_bytes\":262144,\"pieces\":[{{\"bytes\":{bytes},\"digest\":\"{frame}\"}}]}}"
    );
    assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), wanted);
    let named = artifact_ref(&manifest);
    assert_eq!(named.id, Digest::of(wanted.as_bytes()));
    assert_eq!(named.manifest_bytes, wanted.len() as u64);
    assert_eq!((named.bytes, named.raw_bytes), (bytes as u64, 3));
}

#[test]
fn r26_pieces_are_as_long_as_leaves_enough_of_them() {
    let top = tempfile::tempdir().unwrap();
    let large = File::create(top.path().join("large")).unwrap();
    for (bytes, piece_raw_bytes, pieces) in [
        (1, 256 << 10, 1),
        (128 << 20, 256 << 10, 512),
        ((128 << 20) + 1, 512 << 10, 257),
        ((512 << 20) + 1, 1 << 20, 513),
    ] {
        large.set_len(bytes).unwrap();
        let mut progress = Vec::new();
        let manifest = pack(top.path(), &mut Vec::new(), &mut |done| progress.push(done)).unwrap();
        assert_eq!(manifest.piece_raw_bytes, piece_raw_bytes, "{bytes} bytes");
        assert_eq!(manifest.pieces.len(), pieces, "{bytes} bytes");
        assert_eq!(progress.len(), pieces, "told after each piece");
        assert_eq!(progress.last(), Some(&bytes));
        assert!(progress.is_sorted());
    }
}

/// Releases are read-only, and readable for the service's user whatever the agent's umask.
#[test]
fn r22_unpacked_modes_do_not_depend_on_the_umask() {
    let top = tempfile::tempdir().unwrap();
    make(top.path(), &[Make::File("d/run", b"x".to_vec(), 0o700), file("d/e/text", "x")]);
    let (manifest, pieces) = packed(top.path()).unwrap();
    for mask in [0, 0o022, 0o077] {
        let sandbox = Sandbox::new();
        let before = umask(Mode::from_raw_mode(mask));
        unpacked(&manifest, &pieces, &sandbox.dest()).unwrap();
        umask(before);
        for (path, mode) in
            [("", 0o755), ("d", 0o755), ("d/e", 0o755), ("d/run", 0o555), ("d/e/text", 0o444)]
        {
            let got = fs::metadata(sandbox.dest().join(path)).unwrap().permissions().mode();
            assert_eq!(got & 0o7777, mode, "{path:?} under umask {mask:03o}");
        }
    }
}
