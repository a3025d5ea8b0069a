//! R28: a patch and the old tree are the new tree, or nothing.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pack::{
    Archive, Made, MakeError, Patch, PatchError, Repacker, Tree, UnpackError, artifact_ref,
    make_patch, pack, pieces_beside, unpack_beside,
};
use proptest::prelude::*;
use proto::Digest;
use proto::artifact::Manifest;
use proto::statement::ArtifactRef;

use crate::support::{Make, Sandbox, file, listing, make, noise, packed, told, unpacked};

/// One artifact: its manifest, its pieces, and the tree as a host has it.
struct Version {
    manifest: Manifest,
    pieces: Vec<Vec<u8>>,
    tree: PathBuf,
}

impl Version {
    fn new(sandbox: &Sandbox, name: &str, tree: &[Make]) -> Self {
        let source = sandbox.path().join(format!("{name}-source"));
        make(&source, tree);
        let (manifest, pieces) = packed(&source).unwrap();
        let tree = sandbox.path().join(name);
        unpacked(&manifest, &pieces, &tree).unwrap();
        Self { manifest, pieces, tree }
    }

    fn artifact(&self) -> ArtifactRef {
        artifact_ref(&self.manifest)
    }
}

fn patch(old: &Version, new: &Version, bytes_max: u64) -> Result<(Vec<u8>, Made), MakeError> {
    let mut out = Vec::new();
    let mut old_piece = |index: u32| Ok(old.pieces[index as usize].clone());
    let mut new_piece = |index: u32| Ok(new.pieces[index as usize].clone());
    let mut from = Archive::of_pieces(&old.manifest, &mut old_piece).unwrap();
    let mut to = Archive::of_pieces(&new.manifest, &mut new_piece).unwrap();
    let mut done = 0;
    let made = make_patch(
        (&old.manifest, &mut from),
        (&new.manifest, &mut to),
        bytes_max,
        &mut out,
        &mut |bytes, of| {
            assert!(done < bytes && bytes <= of);
            done = bytes;
            ControlFlow::Continue(())
        },
    )?;
    assert_eq!((made.bytes, made.changed_bytes), (out.len() as u64, done));
    Ok((out, made))
}

/// Applies a patch, which travels as an artifact of its own.
fn applied(
    patch: &[u8],
    old: &Version,
    wanted: &ArtifactRef,
    dest: &Path,
) -> Result<(), PatchError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("patch"), patch).unwrap();
    let mut pieces = Vec::new();
    let manifest = pack(dir.path(), &mut pieces, &mut |_| {}).unwrap();
    let archive = Archive::of_tree(&manifest, dir.path());
    let patch = Patch::open(archive, &old.manifest, wanted)?;
    assert_eq!(&artifact_ref(patch.manifest()), wanted);
    patch.unpack(&Tree { manifest: Arc::new(old.manifest.clone()), dir: old.tree.clone() }, dest)
}

/// A library that is in part different: every 50,000th byte, and some bytes more at its beginning.
fn rebuilt(library: &[u8]) -> Vec<u8> {
    let mut rebuilt = noise(999, 77);
    rebuilt.extend_from_slice(library);
    rebuilt.iter_mut().step_by(50_000).for_each(|byte| *byte ^= 0x55);
    rebuilt
}

fn two_versions(sandbox: &Sandbox) -> (Version, Version) {
    let library = noise(5 << 20, 1);
    let old = [
        file("bin/web", noise(300_000, 2)),
        file("conf/a", "one"),
        file("empty", ""),
        file("gone", noise(70_000, 3)),
        file("lib/libblas-56d6093b.so", library.clone()),
        file("same", noise(400_000, 4)),
        Make::Link("www", "bin/web"),
    ];
    let new = [
        Make::File("bin/web", noise(300_000, 2), 0o755),
        file("conf/a", "two"),
        Make::Directory("data"),
        file("empty", ""),
        file("lib/libblas-a0c41b77.so", rebuilt(&library)),
        file("lib/new", noise(10_000, 5)),
        file("moved/same", noise(400_000, 4)),
        Make::Link("www", "moved/same"),
    ];
    (Version::new(sandbox, "old", &old), Version::new(sandbox, "new", &new))
}

#[test]
fn r28_a_patch_and_the_old_tree_are_the_new_tree() {
    let sandbox = Sandbox::new();
    let (old, new) = two_versions(&sandbox);
    let (patch, made) = patch(&old, &new, u64::MAX).unwrap();
    // The library that was renamed is found by its content; what is new is as long as it is.
    assert!(made.bytes < 20_000, "{} bytes", made.bytes);
    assert_eq!(made.changed_bytes, (5 << 20) + 999 + 3 + 10_000);
    applied(&patch, &old, &new.artifact(), &sandbox.dest()).unwrap();
    assert_eq!(listing(&sandbox.dest()), listing(&new.tree));
    pack::verify_tree(&new.manifest, &sandbox.dest()).unwrap();
}

#[test]
fn r28_from_anything_to_anything() {
    let sandbox = Sandbox::new();
    let nothing = Version::new(&sandbox, "nothing", &[]);
    let (old, new) = two_versions(&sandbox);
    let same = Version::new(&sandbox, "same", &[file("a", "x"), file("b", "y")]);
    let swapped = Version::new(&sandbox, "swapped", &[file("a", "y"), file("b", "x")]);
    for (name, from, to) in [
        ("first", &nothing, &new),
        ("last", &new, &nothing),
        ("back", &new, &old),
        ("itself", &new, &new),
        ("swapped", &same, &swapped),
    ] {
        let (patch, made) = patch(from, to, u64::MAX).unwrap();
        assert!(made.changed_bytes > 0 || patch.len() < 1_000, "{name}: {} bytes", patch.len());
        let dest = sandbox.path().join("releases").join(name);
        applied(&patch, from, &to.artifact(), &dest).unwrap();
        assert_eq!(listing(&dest), listing(&to.tree), "{name}");
    }
}

/// Without a patch, too: only the pieces are asked for that hold something new.
#[test]
fn r28_what_has_not_changed_is_copied() {
    let sandbox = Sandbox::new();
    let (old, new) = two_versions(&sandbox);
    let tree = |version: &Version| Tree {
        manifest: Arc::new(version.manifest.clone()),
        dir: version.tree.clone(),
    };
    let needed = pieces_beside(&new.manifest, &[tree(&old)]);
    // All of the library and what lies beside it in its first and last piece; `bin/web` is the same.
    assert_eq!(needed, (1..22).collect::<Vec<_>>());
    let mut asked = Vec::new();
    let mut get = |index: u32| {
        asked.push(index);
        Ok(new.pieces[index as usize].clone())
    };
    unpack_beside(&new.manifest, &[tree(&old)], &mut get, &sandbox.dest()).unwrap();
    assert_eq!(asked, needed);
    assert_eq!(listing(&sandbox.dest()), listing(&new.tree));
    // Between them, two trees have all of it.
    let again = sandbox.path().join("releases/again");
    let trees =
        [tree(&old), Tree { manifest: Arc::new(new.manifest.clone()), dir: sandbox.dest() }];
    assert!(pieces_beside(&new.manifest, &trees).is_empty());
    unpack_beside(&new.manifest, &trees, &mut |_| panic!(), &again).unwrap();
    assert_eq!(listing(&again), listing(&new.tree));
    assert_eq!(pieces_beside(&new.manifest, &[]).len(), new.pieces.len());
}

/// Of a file that somebody appended to, no more is read and written than shows that it is another one.
#[test]
fn r28_a_file_that_grew_is_refused_at_its_first_byte_too_many() {
    let sandbox = Sandbox::new();
    let (old, new) = two_versions(&sandbox);
    let same = old.tree.join("same");
    let content = fs::read(&same).unwrap();
    fs::remove_file(&same).unwrap();
    fs::write(&same, [content.as_slice(), &[7; 1 << 20]].concat()).unwrap();
    let tree = Tree { manifest: Arc::new(old.manifest.clone()), dir: old.tree.clone() };
    let mut get = |index: u32| Ok(new.pieces[index as usize].clone());
    let error = unpack_beside(&new.manifest, &[tree], &mut get, &sandbox.dest()).unwrap_err();
    let UnpackError::FileDigest { path, got, .. } = error else { panic!("{}", told(&error)) };
    assert_eq!(
        (path.as_str(), got),
        ("moved/same", Digest::of(&[content.as_slice(), &[7]].concat()))
    );
    assert!(fs::read_dir(sandbox.path().join("releases")).unwrap().next().is_none());
}

#[test]
fn r28_a_patch_that_saves_nothing_is_not_made() {
    let sandbox = Sandbox::new();
    let old = Version::new(&sandbox, "old", &[file("a", noise(100_000, 1))]);
    let new = Version::new(&sandbox, "new", &[file("a", noise(100_000, 2))]);
    let made = patch(&old, &new, 99_999);
    assert!(matches!(made, Err(MakeError::NotWorth { bytes_max: 99_999 })));
    let mut pieces = |index: u32| Ok(new.pieces[index as usize].clone());
    let mut to = Archive::of_pieces(&new.manifest, &mut pieces).unwrap();
    let stopped = make_patch(
        (&old.manifest, &mut Archive::of_tree(&old.manifest, &old.tree)),
        (&new.manifest, &mut to),
        u64::MAX,
        &mut io::sink(),
        &mut |_, _| ControlFlow::Break(()),
    );
    assert!(matches!(stopped, Err(MakeError::Stopped)));
}

#[test]
fn r28_a_damaged_base_gives_nothing() {
    type Damage = fn(&Path);
    let rows: &[(&str, Damage, &str)] = &[
        (
            "an unchanged file edited",
            |tree| fs::write(tree, noise(400_000, 9)).unwrap(),
            "the file table says",
        ),
        ("an unchanged file gone", |_| {}, "No such file"),
    ];
    let sandbox = Sandbox::new();
    let (old, new) = two_versions(&sandbox);
    let (patch, _) = patch(&old, &new, u64::MAX).unwrap();
    for (case, damage, why) in rows {
        let same = old.tree.join("same");
        let kept = fs::read(&same).unwrap();
        fs::remove_file(&same).unwrap();
        damage(&same);
        let error = applied(&patch, &old, &new.artifact(), &sandbox.dest()).unwrap_err();
        assert!(told(&error).contains(why), "{case}: {}", told(&error));
        assert!(fs::read_dir(sandbox.path().join("releases")).unwrap().next().is_none(), "{case}");
        let _ = fs::remove_file(&same);
        fs::write(&same, kept).unwrap();
    }
    // What the prefixes are made from.
    let library = old.tree.join("lib/libblas-56d6093b.so");
    let mut rotten = fs::read(&library).unwrap();
    rotten.iter_mut().step_by(1_000).for_each(|byte| *byte ^= 1);
    fs::remove_file(&library).unwrap();
    fs::write(&library, rotten).unwrap();
    let error = applied(&patch, &old, &new.artifact(), &sandbox.dest()).unwrap_err();
    assert!(told(&error).contains("libblas-a0c41b77.so"), "{}", told(&error));
    fs::write(&library, "short").unwrap();
    let error = applied(&patch, &old, &new.artifact(), &sandbox.dest()).unwrap_err();
    assert!(told(&error).starts_with("cannot read the old release"), "{}", told(&error));
    assert!(fs::read_dir(sandbox.path().join("releases")).unwrap().next().is_none());
}

#[test]
fn r28_patches_that_lie_give_nothing() {
    type Change = fn(&mut Vec<u8>);
    let rows: &[(&str, Change, &str)] = &[
        ("empty", Vec::clear, "it is not a patch"),
        ("another magic", |patch| patch[12] = b'2', "it is not a patch"),
        ("cut short", |patch| patch.truncate(patch.len() - 1), "it is not a patch, or ends early"),
        ("more", |patch| patch.push(0), "it has bytes that belong to nothing"),
        ("a bomb of a length", |patch| patch[14..18].fill(0xff), "it is not a patch"),
        ("another manifest", |patch| patch[60] ^= 1, ""),
        ("a bit", |patch| *patch.last_mut().unwrap() ^= 1, ""),
    ];
    let sandbox = Sandbox::new();
    let (old, new) = two_versions(&sandbox);
    let (honest, _) = patch(&old, &new, u64::MAX).unwrap();
    let before = listing(sandbox.path());
    for (case, change, why) in rows {
        let mut patch = honest.clone();
        change(&mut patch);
        let error = applied(&patch, &old, &new.artifact(), &sandbox.dest()).unwrap_err();
        assert!(told(&error).contains(why), "{case}: {}", told(&error));
        assert_eq!(listing(sandbox.path()), before, "{case}");
    }
    // A patch to something else, and one that starts from something else.
    let other = ArtifactRef { manifest_bytes: new.artifact().manifest_bytes, ..old.artifact() };
    let error = applied(&honest, &old, &other, &sandbox.dest()).unwrap_err();
    assert!(matches!(error, PatchError::OtherManifest { .. }), "{}", told(&error));
    assert!(applied(&honest, &new, &new.artifact(), &sandbox.dest()).is_err());
    // The runs of the first segment: of no blocks, of too many, beyond the end of the archive.
    let frame = u32::from_le_bytes(honest[14..18].try_into().unwrap()) as usize;
    let runs = 18 + frame;
    for (case, at, value) in
        [("no blocks", 6, [0, 0]), ("too many", 6, [0xff, 0xff]), ("beyond", 4, [0xff, 0x0f])]
    {
        let mut patch = honest.clone();
        patch[runs + at..runs + at + 2].copy_from_slice(&value);
        assert!(applied(&patch, &old, &new.artifact(), &sandbox.dest()).is_err(), "{case}");
        assert_eq!(listing(sandbox.path()), before, "{case}");
    }
}

#[test]
fn r28_the_pieces_come_back_from_the_tree() {
    let sandbox = Sandbox::new();
    let (_, new) = two_versions(&sandbox);
    let mut repacker = Repacker::new(&new.manifest, &new.tree).unwrap();
    for (index, piece) in (0..).zip(&new.pieces) {
        assert_eq!(repacker.piece(index).unwrap().as_ref(), Some(piece));
    }
    assert!(repacker.piece(u32::try_from(new.pieces.len()).unwrap()).is_err());
    let library = new.tree.join("lib/libblas-a0c41b77.so");
    let mut edited = fs::read(&library).unwrap();
    edited[4 << 20] ^= 1;
    fs::remove_file(&library).unwrap();
    fs::write(&library, edited).unwrap();
    let mut repacker = Repacker::new(&new.manifest, &new.tree).unwrap();
    let pieces = u32::try_from(new.pieces.len()).unwrap();
    let lost = (0..pieces).filter(|index| repacker.piece(*index).unwrap().is_none());
    assert_eq!(lost.count(), 1, "the one that the edit lies in");
}

/// A tree of files that are made from few contents, so that versions have much in common.
fn tree() -> impl Strategy<Value = Vec<(String, usize, u64, usize)>> {
    let name = prop::sample::select(vec!["a", "b", "c/d", "c/e", "f.so.1", "f.so.2"]);
    let length = prop::sample::select(vec![0_usize, 1, 70_000, 300_000]);
    prop::collection::vec((name.prop_map(str::to_owned), length, 0..3_u64, 0..1_000_usize), 0..6)
}

fn lay(dir: &Path, tree: &[(String, usize, u64, usize)]) {
    fs::create_dir_all(dir).unwrap();
    for (path, length, seed, edit) in tree {
        let mut content = noise(*length, *seed);
        content.iter_mut().skip(*edit).step_by(9_999).for_each(|byte| *byte = 0);
        fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
        fs::write(dir.join(path), content).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the trees; and whatever happens to the patch, nothing but the new tree comes of it.
    #[test]
    fn r28_whole_or_nothing(from in tree(), to in tree(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let sandbox = Sandbox::new();
        let version = |name: &str, tree: &[_]| {
            let source = sandbox.path().join(format!("{name}-source"));
            lay(&source, tree);
            let (manifest, pieces) = packed(&source).unwrap();
            let tree = sandbox.path().join(name);
            unpacked(&manifest, &pieces, &tree).unwrap();
            Version { manifest, pieces, tree }
        };
        let (old, new) = (version("old", &from), version("new", &to));
        let (mut patch, _) = patch(&old, &new, u64::MAX).unwrap();
        applied(&patch, &old, &new.artifact(), &sandbox.dest()).unwrap();
        prop_assert_eq!(listing(&sandbox.dest()), listing(&new.tree));
        let at = at.index(patch.len());
        patch[at] ^= 1 << bit;
        let again = sandbox.path().join("releases/again");
        match applied(&patch, &old, &new.artifact(), &again) {
            Ok(()) => prop_assert_eq!(listing(&again), listing(&new.tree)),
            Err(_) => prop_assert!(again.symlink_metadata().is_err()),
        }
    }
}
