//! What a host's disk and memory have to do with a release, beside `tar` in the same run:
//! `cargo bench -p fleet-tests --bench disk`. Without a network: pieces come from a file.
#![allow(clippy::unwrap_used, reason = "a bench ends where something fails")]

use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use fleet_tests::memory::{Figure, mib};
use fleet_tests::swarming::noise;
use pack::pack;
use proto::artifact::Manifest;

/// Each is measured so often, in turn; the median counts.
const RUNS: usize = 5;

fn main() {
    let work = tempfile::tempdir().unwrap();
    let small = work.path().join("small");
    for directory in 0..200 {
        let directory = small.join(directory.to_string());
        fs::create_dir_all(&directory).unwrap();
        for file in 0..100 {
            // Half of it compresses, as text does.
            let mut content = noise(1_024);
            content.resize(2_048, b'.');
            fs::write(directory.join(file.to_string()), content).unwrap();
        }
    }
    compare("20,000 files of 2 KiB", &small, work.path());
    let large = work.path().join("large");
    fs::create_dir(&large).unwrap();
    fs::write(large.join("file"), noise(1 << 30)).unwrap();
    compare("one file of 1 GiB", &large, work.path());
}

/// Stages `source` as a host does, and unpacks it by `tar`, all of it synced both times.
fn compare(name: &str, source: &Path, work: &Path) {
    let (pieces, archive) = (work.join("pieces"), work.join("archive.tar.zst"));
    let mut data = BufWriter::new(File::create(&pieces).unwrap());
    let manifest = pack(source, &mut data, &mut |_| {}).unwrap();
    drop(data);
    let parent = source.parent().unwrap();
    tar(&["--zstd", "-cf"], &archive, parent, &[source.file_name().unwrap().to_str().unwrap()]);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before_mib = mib(std::process::id(), Figure::Now).unwrap();
    for _ in 0..RUNS {
        ours.push(timed(work, |dest| stage(&manifest, &pieces, dest)));
        theirs.push(timed(work, |dest| {
            fs::create_dir(dest).unwrap();
            tar(&["--zstd", "-xf"], &archive, dest, &[]);
            sync(dest);
        }));
    }
    let memory_mib = mib(std::process::id(), Figure::Peak).unwrap() - before_mib;
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "{name}: staged in {ours:.2} s, verified and synced; {:.2} x `tar -x --zstd` and a sync \
         ({theirs:.2} s); {memory_mib:.0} MiB of memory",
        ours / theirs
    );
}

fn stage(manifest: &Manifest, pieces: &Path, dest: &Path) {
    let file = File::open(pieces).unwrap();
    let mut at = 0;
    let mut next = |index: u32| {
        let mut piece = vec![0; manifest.pieces[index as usize].bytes as usize];
        file.read_exact_at(&mut piece, at)?;
        at += piece.len() as u64;
        Ok(piece)
    };
    pack::unpack(manifest, &mut next, dest).unwrap();
}

fn tar(how: &[&str], archive: &Path, dir: &Path, what: &[&str]) {
    let status = Command::new("tar").args(how).arg(archive).arg("-C").arg(dir).args(what).status();
    assert!(status.unwrap().success(), "tar failed");
}

/// The same that [`durable::place_tree`] does.
fn sync(dir: &Path) {
    let synced = Command::new("sync").arg("-f").arg(dir).status();
    assert!(synced.unwrap().success(), "sync failed");
}

/// Seconds that `make` takes to make a tree, which is then removed.
fn timed(work: &Path, make: impl FnOnce(&Path)) -> f64 {
    let dest = work.join("made");
    let begun = Instant::now();
    make(&dest);
    let seconds = begun.elapsed().as_secs_f64();
    fs::remove_dir_all(&dest).unwrap();
    seconds
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}
