//! `./scripts/bench-delta`: what a patch from one directory to another takes, made and applied as the
//! coordinator and a host do it. Prints what the script puts beside other tools.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use fleet_tests::memory::{self, Figure};
use pack::{Archive, Patch, Tree, artifact_ref, make_patch, pack, pieces_beside, unpack};
use proto::artifact::Manifest;

/// A directory, packed.
struct Packed {
    manifest: Manifest,
    pieces: PathBuf,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [old, new] = arguments.as_slice() else { anyhow::bail!("usage: bench_delta OLD NEW") };
    let work = tempfile::tempdir()?;
    let old = packed(Path::new(old), &work.path().join("old.pieces"))?;
    let new = packed(Path::new(new), &work.path().join("new.pieces"))?;
    let tree = Tree { manifest: Arc::new(old.manifest.clone()), dir: work.path().join("old") };
    unpack(&old.manifest, &mut old.get()?, &tree.dir)?;
    let wanted = artifact_ref(&new.manifest);

    let begun = Instant::now();
    let dir = work.path().join("patch");
    std::fs::create_dir(&dir)?;
    make(&old, &new, &dir.join("patch"))?;
    let make_s = begun.elapsed().as_secs_f32();
    let patch = packed(&dir, &work.path().join("patch.pieces"))?;

    // Forgets the peak so far (proc(5)): what is told is that of a host.
    std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of memory")?;
    let begun = Instant::now();
    let before_mib = memory::mib(std::process::id(), Figure::Now)?;
    let dest = work.path().join("new");
    let mut get = patch.get()?;
    let archive = Archive::of_pieces(&patch.manifest, &mut get)?;
    Patch::open(archive, &old.manifest, &wanted)?.unpack(&tree, &dest)?;
    let apply_s = begun.elapsed().as_secs_f32();
    let apply_mib = memory::mib(std::process::id(), Figure::Peak)? - before_mib;
    pack::verify_tree(&new.manifest, &dest).context("the patch gave another tree")?;

    let about = artifact_ref(&patch.manifest);
    let fetched = about.bytes + about.manifest_bytes;
    let whole = wanted.bytes + wanted.manifest_bytes;
    ensure!(fetched < whole, "a patch of {fetched} bytes, and all of it takes {whole}");
    let beside: u64 = pieces_beside(&new.manifest, std::slice::from_ref(&tree))
        .iter()
        .map(|piece| u64::from(new.manifest.pieces[*piece as usize].bytes))
        .sum();
    println!(
        "fetched={fetched} whole={whole} beside_installed={beside} make_s={make_s:.1} \
         apply_s={apply_s:.2} apply_mib={apply_mib:.0}"
    );
    Ok(())
}

fn packed(dir: &Path, pieces: &Path) -> Result<Packed> {
    let mut data = io::BufWriter::new(File::create(pieces)?);
    let manifest = pack(dir, &mut data, &mut |_| {})?;
    Ok(Packed { manifest, pieces: pieces.to_owned() })
}

impl Packed {
    /// Hands over its pieces.
    fn get(&self) -> Result<impl FnMut(u32) -> io::Result<Vec<u8>>> {
        let file = File::open(&self.pieces)?;
        let mut at = 0;
        let offset = |piece: &proto::artifact::Piece| {
            let start = at;
            at += u64::from(piece.bytes);
            (start, piece.bytes as usize)
        };
        let places: Vec<(u64, usize)> = self.manifest.pieces.iter().map(offset).collect();
        Ok(move |index: u32| {
            let (start, bytes) = places[index as usize];
            let mut piece = vec![0; bytes];
            file.read_exact_at(&mut piece, start)?;
            Ok(piece)
        })
    }
}

fn make(old: &Packed, new: &Packed, to: &Path) -> Result<()> {
    let (mut old_get, mut new_get) = (old.get()?, new.get()?);
    make_patch(
        (&old.manifest, &mut Archive::of_pieces(&old.manifest, &mut old_get)?),
        (&new.manifest, &mut Archive::of_pieces(&new.manifest, &mut new_get)?),
        u64::MAX,
        &mut File::create(to)?,
        &mut |_, _| ControlFlow::Continue(()),
    )?;
    Ok(())
}
