//! What a host's disk and memory have to do with a release, beside `tar` in the same run:
//! `cargo bench -p fleet-tests --bench disk`. What is timed is without a network: pieces come from a file.
//!
//! Memory is that of a host in a process of its own, this program with `host`: it takes part in a fleet of two,
//! and receives from this one over loopback what it then stages.
#![allow(clippy::unwrap_used, reason = "a bench ends where something fails")]

use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fleet_tests::memory::{Figure, mib};
use fleet_tests::swarming::{Artifact, Node, ORIGIN, company, noise};
use pack::{artifact_ref, pack};
use proto::artifact::Manifest;
use proto::statement::ArtifactRef;

/// Each is measured so often, in turn; the median counts.
const RUNS: usize = 5;
/// What makes this program one that receives: `host ORIGIN ARTIFACT DIR`.
const HOST: &str = "host";
const LOOPBACK: &str = "127.0.0.1:0";
const GOSSIP_INTERVAL: Duration = Duration::from_millis(100);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [HOST, origin, about, dir] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        return host(origin, serde_json::from_str(about).unwrap(), Path::new(dir));
    }
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
    for _ in 0..RUNS {
        ours.push(timed(work, |dest| stage(&manifest, &pieces, dest)));
        theirs.push(timed(work, |dest| {
            fs::create_dir(dest).unwrap();
            tar(&["--zstd", "-xf"], &archive, dest, &[]);
            sync(dest);
        }));
    }
    let memory_mib = memory(&manifest, &pieces, work);
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "{name}: staged in {ours:.2} s, verified and synced; {:.2} x `tar -x --zstd` and a sync \
         ({theirs:.2} s); received, kept and staged in {memory_mib} MiB above an idle host",
        ours / theirs
    );
}

/// Lets a host of its own receive and stage an artifact: what its memory comes to above what it is when idle, at
/// most, in MiB, as it tells.
fn memory(manifest: &Manifest, pieces: &Path, work: &Path) -> String {
    let (about, manifest) = (artifact_ref(manifest), manifest.to_bytes());
    let dir = tempfile::tempdir_in(work).unwrap();
    let data = pieces.to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _runs = runtime.enter();
    let own = dir.path().join("origin");
    let bind = LOOPBACK.parse().unwrap();
    let origin = Node::start(ORIGIN, bind, Vec::new(), GOSSIP_INTERVAL, &own).unwrap();
    runtime.block_on(origin.offer(&Artifact { about, manifest, data })).unwrap();
    let mut host = Command::new(std::env::current_exe().unwrap());
    host.args([HOST, &origin.address.to_string(), &serde_json::to_string(&about).unwrap()]);
    let told = host.arg(dir.path().join("host")).output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    String::from_utf8(told.stdout).unwrap().trim().to_owned()
}

/// Receives an artifact from the origin at this address and stages it; tells what [`memory`] is to tell.
#[tokio::main]
async fn host(origin: &str, about: ArtifactRef, dir: &Path) {
    let (bind, seeds) = (LOOPBACK.parse().unwrap(), vec![origin.parse().unwrap()]);
    let node = Node::start(1, bind, seeds, GOSSIP_INTERVAL, dir).unwrap();
    while !node.hears(2) {
        tokio::time::sleep(GOSSIP_INTERVAL).await;
    }
    // Forgets the peak so far (proc(5)).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let idle_mib = mib(std::process::id(), Figure::Now).unwrap();
    node.swarm.fetch(about, company(1)).done().await.unwrap();
    let (store, dest) = (node.swarm.store().clone(), dir.join("staged"));
    let staged = move || {
        let manifest = store.manifest(&about.id).unwrap();
        let mut next = |index| Ok(store.read_piece(&about.id, index).unwrap().unwrap());
        pack::unpack(&manifest, &mut next, &dest).unwrap();
    };
    tokio::task::spawn_blocking(staged).await.unwrap();
    println!("{:.0}", mib(std::process::id(), Figure::Peak).unwrap() - idle_mib);
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
