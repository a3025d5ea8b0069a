//! The simulated disk answers as the real one does: the same steps give the same results.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

use std::io;
use std::path::{Path, PathBuf};

use durable::{Disk, RealDisk, SimDisk};
use proptest::prelude::*;

const STEPS_MAX: usize = 40;

#[derive(Debug, Clone)]
enum Step {
    Create(PathBuf, Vec<u8>),
    WriteAt(PathBuf, u64, Vec<u8>),
    SyncFile(PathBuf),
    SyncDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Symlink(PathBuf, PathBuf),
    CreateDir(PathBuf),
    RemoveFile(PathBuf),
    RemoveDirAll(PathBuf),
    Read(PathBuf, u64),
    ReadAt(PathBuf, u64, usize),
}

/// Few names, so that steps meet.
fn path() -> impl Strategy<Value = PathBuf> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.iter().collect())
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..8);
    let target = prop_oneof![path(), Just("..".into()), Just("../a".into()), Just("./b".into())];
    prop_oneof![
        3 => (path(), bytes()).prop_map(|(path, bytes)| Step::Create(path, bytes)),
        3 => path().prop_map(Step::CreateDir),
        2 => (path(), 0..12_u64, bytes()).prop_map(|(path, at, b)| Step::WriteAt(path, at, b)),
        2 => (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (path(), prop::sample::select(vec!["a", "b", "c"]))
            .prop_map(|(from, name)| Step::Rename(from.clone(), from.with_file_name(name))),
        2 => (target, path()).prop_map(|(target, link)| Step::Symlink(target, link)),
        1 => path().prop_map(Step::SyncFile),
        1 => path().prop_map(Step::SyncDir),
        1 => path().prop_map(Step::RemoveFile),
        // Not through links: a directory removed by a way that leads through itself has no
        // result worth a promise.
        1 => prop::sample::select(vec!["a", "b", "c"]).prop_map(|n| Step::RemoveDirAll(n.into())),
        1 => (path(), 0..12_u64).prop_map(|(path, max)| Step::Read(path, max)),
        1 => (path(), 0..12_u64, 0..6_usize).prop_map(|(path, at, len)| Step::ReadAt(path, at, len)),
    ]
}

/// The result of a step as text, in words that both sides share.
fn take(disk: &dyn Disk, top: &Path, step: &Step) -> String {
    let at = |path: &PathBuf| top.join(path);
    let result: io::Result<Vec<u8>> = match step {
        Step::Create(path, bytes) => disk.create(&at(path), bytes).map(|()| vec![]),
        Step::WriteAt(path, offset, bytes) => {
            disk.write_at(&at(path), *offset, bytes).map(|()| vec![])
        }
        Step::SyncFile(path) => disk.sync_file(&at(path)).map(|()| vec![]),
        Step::SyncDir(path) => disk.sync_dir(&at(path)).map(|()| vec![]),
        Step::Rename(from, to) => disk.rename(&at(from), &at(to)).map(|()| vec![]),
        Step::Symlink(target, link) => disk.symlink(target, &at(link)).map(|()| vec![]),
        Step::CreateDir(path) => disk.create_dir(&at(path)).map(|()| vec![]),
        Step::RemoveFile(path) => disk.remove_file(&at(path)).map(|()| vec![]),
        Step::RemoveDirAll(path) => disk.remove_dir_all(&at(path)).map(|()| vec![]),
        Step::Read(path, bytes_max) => disk.read(&at(path), *bytes_max),
        Step::ReadAt(path, offset, len) => {
            let mut into = vec![0; *len];
            disk.read_at(&at(path), *offset, &mut into).map(|()| into)
        }
    };
    match result {
        Ok(bytes) => format!("{bytes:?}"),
        // A loop of links has no stable kind of its own.
        Err(error) => match error.kind() {
            kind @ (io::ErrorKind::NotFound
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::UnexpectedEof) => kind.to_string(),
            _ => "another error".into(),
        },
    }
}

/// All names below `top`, with what stands there; links are not followed.
fn tree(disk: &dyn Disk, top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut ahead = vec![PathBuf::new()];
    while let Some(here) = ahead.pop() {
        for name in disk.list(&top.join(&here)).unwrap() {
            let path = here.join(name);
            let kind = disk.kind(&top.join(&path)).unwrap().unwrap();
            let link = disk.read_link(&top.join(&path)).ok();
            lines.push(format!("{path:?} {kind:?} {link:?}"));
            if kind == durable::Kind::Directory {
                ahead.push(path);
            }
        }
    }
    lines
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Any steps: result by result and in the end, the two disks are the same.
    #[test]
    fn real_and_simulated_agree(steps in prop::collection::vec(step(), 1..=STEPS_MAX)) {
        let (real, sim) = (RealDisk, SimDisk::new());
        let temporary = tempfile::tempdir().unwrap();
        // Links to `..` lead up, at most one level per step: deep enough, and nothing outside
        // the temporary directory is ever within reach.
        let below: PathBuf = std::iter::repeat_n("d", STEPS_MAX + 1).collect();
        let (real_root, sim_root) = (temporary.path().join("d"), Path::new("/d"));
        let (real_top, sim_top) = (real_root.join(&below), sim_root.join(&below));
        std::fs::create_dir_all(&real_top).unwrap();
        sim.create_dir_all(&sim_top).unwrap();
        for step in &steps {
            prop_assert_eq!(take(&real, &real_top, step), take(&sim, &sim_top, step), "{:?}", step);
        }
        prop_assert_eq!(tree(&real, &real_root), tree(&sim, sim_root));
    }
}
