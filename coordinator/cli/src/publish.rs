//! `swell publish`: packs a directory, signs it as a release, hands in what is not there yet.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use pack::{PackError, TarError};
use proto::artifact::{Manifest, What};
use proto::id::{Digest, Service, Version};
use proto::statement::{Payload as _, Release, Run, Source, Statement};
use proto::unit::{UNIT_BYTES_MAX, UnitFile};
use proto::wire::{ControlRequest, RefusedKind};

use crate::args::PublishArgs;
use crate::client::{Client, ClientError};
use crate::failure::{Advise, Exit, Failure};
use crate::home::{self, Home};
use crate::knowledge::Knowledge;
use crate::swell_toml::{self, SWELL_TOML, SwellToml};
use crate::{output, span};

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("cannot tell what to publish: there is no {SWELL_TOML} here, and no DIR was given")]
    Nothing,
    #[error("cannot publish {}", what.display())]
    Open {
        what: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot publish {}: it is neither a directory nor a .tar.zst file", what.display())]
    Neither { what: PathBuf },
    #[error("cannot publish {}: the operator's directory {} is in it, and so are its keys",
        what.display(), home.display())]
    Keys { what: PathBuf, home: PathBuf },
    #[error("cannot publish {}: there is no file in it", what.display())]
    Empty { what: PathBuf },
    #[error("cannot publish {}: run.unit = \"{unit}\", and {problem}", what.display())]
    Unit { what: PathBuf, unit: String, problem: String },
    #[error("cannot extract {}", what.display())]
    Extract {
        what: PathBuf,
        #[source]
        source: TarError,
    },
    #[error("cannot pack {}", what.display())]
    Pack {
        what: PathBuf,
        #[source]
        source: PackError,
    },
    #[error("cannot keep the packed pieces in the temporary directory")]
    Temporary(#[source] io::Error),
    #[error("{service} {version} is release {id} already, and not the same: {differs}")]
    Taken { service: Service, version: Version, id: Digest, differs: String },
}

impl Advise for PublishError {
    fn exit(&self) -> Exit {
        match self {
            Self::Nothing | Self::Neither { .. } => Exit::Usage,
            _ => Exit::Error,
        }
    }

    fn next(&self) -> Option<String> {
        match self {
            Self::Nothing => Some("name the directory: swell publish DIR --version V".to_owned()),
            Self::Keys { .. } => Some("publish a directory that holds the build alone".to_owned()),
            Self::Empty { .. } => {
                Some("look whether the build went to another directory".to_owned())
            }
            Self::Unit { unit, .. } => {
                Some(format!("put the unit file {unit} at the root of what is published"))
            }
            Self::Temporary(_) => Some("point $TMPDIR to a place with more room".to_owned()),
            Self::Taken { .. } => Some("publish under a new version".to_owned()),
            _ => None,
        }
    }
}

/// What is to be published, before anybody is asked.
pub(crate) struct Ready {
    args: PublishArgs,
    config: SwellToml,
    packed: Packed,
}

/// An artifact, its pieces one after the other in a file that goes away by itself.
struct Packed {
    manifest: Manifest,
    pieces: File,
}

/// Packs and checks; needs no connection, so that mistakes cost no time.
///
/// # Errors
///
/// What cannot be read, packed, or must not be published.
pub(crate) fn prepare(home: &Home, args: PublishArgs) -> Result<Ready, Failure> {
    let what = match &args.what {
        Some(what) => what.clone(),
        None if Path::new(SWELL_TOML).exists() => PathBuf::from("."),
        None => return Err(PublishError::Nothing.into()),
    };
    let opened = |source| PublishError::Open { what: what.clone(), source };
    let is_dir = what.metadata().map_err(opened)?.is_dir();
    let dirs = if is_dir { vec![Path::new("."), &what] } else { vec![Path::new(".")] };
    let config = swell_toml::load(args.config.as_deref(), &dirs)?;
    let packed = match is_dir {
        true => {
            refuse_keys(home, &what)?;
            packed(&what, &what, &config.run)?
        }
        false if what.to_string_lossy().ends_with(".tar.zst") => {
            let temporary = tempfile::tempdir().map_err(PublishError::Temporary)?;
            let tree = temporary.path().join("tree");
            pack::extract_tar(&what, &tree)
                .map_err(|source| PublishError::Extract { what: what.clone(), source })?;
            packed(&what, &tree, &config.run)?
        }
        false => return Err(PublishError::Neither { what }.into()),
    };
    // A version is used once: it is not to go to a build that made nothing.
    if !packed.manifest.entries.iter().any(|entry| matches!(entry.what, What::File { .. })) {
        return Err(PublishError::Empty { what }.into());
    }
    Ok(Ready { args, config, packed })
}

/// An operator's directory inside the artifact would send its keys to every host.
fn refuse_keys(home: &Home, what: &Path) -> Result<(), PublishError> {
    let real = |path: &Path| {
        path.canonicalize().map_err(|source| PublishError::Open { what: path.to_owned(), source })
    };
    match real(&home.dir)?.starts_with(real(what)?) {
        true => Err(PublishError::Keys { what: what.to_owned(), home: home.dir.clone() }),
        false => Ok(()),
    }
}

/// Packs `tree`, which is what `what` holds, once the unit of the release is found to be in it.
fn packed(what: &Path, tree: &Path, run: &Run) -> Result<Packed, PublishError> {
    if let Some(unit) = &run.unit {
        check_unit(&tree.join(unit)).map_err(|problem| PublishError::Unit {
            what: what.to_owned(),
            unit: unit.clone(),
            problem,
        })?;
    }
    pack_dir(tree)
}

/// Whether a unit file stands at `path`. `Err`: why what stands there is none.
fn check_unit(path: &Path) -> Result<(), String> {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err("what bears this name is no regular file".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err("there is no such file at its root".to_owned());
        }
        Err(error) => return Err(format!("it cannot be read: {error}")),
    }
    let mut bytes = Vec::new();
    // A little more than is allowed, so that it is seen to be too long.
    let file = File::open(path).map_err(|error| format!("it cannot be read: {error}"))?;
    file.take(2 * UNIT_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    UnitFile::parse(&bytes).map(drop).map_err(|error| format!("the file {error}"))
}

fn pack_dir(dir: &Path) -> Result<Packed, PublishError> {
    let mut pieces = tempfile::tempfile().map_err(PublishError::Temporary)?;
    let bar = Progress::packing();
    let mut data = BufWriter::new(&mut pieces);
    let packed = pack::pack(dir, &mut data, &mut |raw_bytes| bar.at(raw_bytes));
    bar.end();
    let manifest = packed.map_err(|source| PublishError::Pack { what: dir.to_owned(), source })?;
    data.flush().map_err(PublishError::Temporary)?;
    drop(data);
    Ok(Packed { manifest, pieces })
}

/// Signs the release and hands it in.
///
/// # Errors
///
/// What the coordinator refused, or that it cannot be reached.
pub(crate) async fn run(
    home: &Home,
    client: &Client,
    key: &ed25519_dalek::SigningKey,
    ready: Ready,
) -> Result<Exit, Failure> {
    let Ready { args, config, packed } = ready;
    let release = Release {
        fleet: home.root.fleet.clone(),
        service: config.service,
        version: args.version,
        artifact: pack::artifact_ref(&packed.manifest),
        source: Source { commit: args.commit, branch: args.branch, commit_time: args.commit_time },
        created: home::now(),
        run: config.run,
        health: config.health,
        critical: Vec::new(),
    };
    let Packed { manifest, pieces } = packed;
    if let Some(Published { id, envelope, release: there }) =
        published(home, client, &release).await?
    {
        if let Some(differs) = difference(&there, &release) {
            let Release { service, version, .. } = release;
            return Err(PublishError::Taken { service, version, id, differs }.into());
        }
        // A coordinator that was recovered may lack pieces of it.
        let (_, sent) = upload(client, envelope, manifest.clone(), pieces).await?;
        output::write(&format!(
            "{} {} is release {id} already, the very same{}\n",
            release.service,
            release.version,
            match sent {
                0 => String::new(),
                _ => format!("; {} it lacked", span::count(sent, "piece")),
            }
        ));
        return Ok(Exit::Done);
    }
    let envelope = release.signed(key);
    debug_assert!(matches!(Statement::parse(&envelope), Ok(Statement::Release(_))));
    let (id, sent) = upload(client, envelope.to_bytes(), manifest.clone(), pieces).await?;
    output::write(&summary(&release, &manifest, id, sent));
    Ok(Exit::Done)
}

/// A release that the coordinator has.
struct Published {
    id: Digest,
    /// With all its signatures.
    envelope: Vec<u8>,
    release: Release,
}

/// The release with this version, if there is one: publishing it again is no mistake if it is the
/// same, which a CI job that was started again relies on.
async fn published(
    home: &Home,
    client: &Client,
    release: &Release,
) -> Result<Option<Published>, Failure> {
    let (service, version) = (release.service.clone(), release.version.clone());
    let request = ControlRequest::Release { service, version };
    match client.envelope("look for the release", &request).await {
        Ok(envelope) => {
            let mut knowledge = Knowledge::new(client, home.chain()?);
            let Release { service, version, .. } = release;
            let (id, there) = knowledge.release(envelope.clone(), service, Some(version)).await?;
            Ok(Some(Published { id, envelope, release: there }))
        }
        Err(ClientError::Refused { refused, .. }) if refused.kind == RefusedKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// In what two releases of one version differ, but for the time they were made.
fn difference(there: &Release, here: &Release) -> Option<String> {
    let parts = [
        (there.artifact == here.artifact, "the files"),
        (there.run == here.run, "[run]"),
        (there.health == here.health, "[health]"),
        (there.source == here.source, "commit, branch or commit time"),
    ];
    let differs: Vec<_> = parts.iter().filter(|(same, _)| !same).map(|(_, name)| *name).collect();
    (!differs.is_empty()).then(|| differs.join(", "))
}

/// Hands in a release's envelope and what the coordinator lacks of the artifact; the release's id, and
/// how many pieces were sent.
async fn upload(
    client: &Client,
    envelope: Vec<u8>,
    manifest: Manifest,
    mut pieces: File,
) -> Result<(Digest, usize), Failure> {
    let request = ControlRequest::Publish { release: envelope, manifest: manifest.to_bytes() };
    let offsets: Vec<u64> = manifest
        .pieces
        .iter()
        .scan(0, |end, piece| {
            let start = *end;
            *end += u64::from(piece.bytes);
            Some(start)
        })
        .collect();
    let (bar, mut sent_bytes, mut sent) = (std::cell::OnceCell::new(), 0, 0);
    let begin = |wanted: &[u32]| {
        sent = wanted.len();
        let known = wanted.iter().filter_map(|index| manifest.pieces.get(*index as usize));
        let total = known.map(|piece| u64::from(piece.bytes)).sum();
        let _ = bar.set(Progress::uploading(total));
    };
    let piece = |index: u32| {
        let wrong = || io::Error::other(format!("asked for piece {index}, which there is not"));
        let (piece, offset) = manifest
            .pieces
            .get(index as usize)
            .zip(offsets.get(index as usize))
            .ok_or_else(wrong)?;
        let mut bytes = vec![0; piece.bytes as usize];
        pieces.seek(SeekFrom::Start(*offset))?;
        pieces.read_exact(&mut bytes)?;
        sent_bytes += u64::from(piece.bytes);
        if let Some(bar) = bar.get() {
            bar.at(sent_bytes);
        }
        Ok(bytes)
    };
    let id = client.upload(&request, begin, piece).await;
    if let Some(bar) = bar.get() {
        bar.end();
    }
    Ok((id?, sent))
}

fn summary(release: &Release, manifest: &Manifest, id: Digest, sent: usize) -> String {
    let files = manifest.entries.iter().filter(|entry| matches!(entry.what, What::File { .. }));
    let (raw, packed) = (manifest.raw_bytes(), manifest.bytes());
    let percent = (packed * 100).checked_div(raw).unwrap_or(100);
    format!(
        "{} {} is release {id}\n  {} in {}, packed to {} ({percent} %) in {}; {sent} uploaded, {} \
         were there\n",
        release.service,
        release.version,
        span::bytes(raw),
        span::count(files.count(), "file"),
        span::bytes(packed),
        span::count(manifest.pieces.len(), "piece"),
        manifest.pieces.len().saturating_sub(sent),
    )
}

/// A bar on a terminal; else a line at every tenth, so that a log shows that it moves.
struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    total: u64,
    tenths: std::cell::Cell<u64>,
}

impl Progress {
    fn packing() -> Self {
        Self::new("packing", 0, "packing {bytes} {spinner}")
    }

    fn uploading(total: u64) -> Self {
        let style = "uploading {bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";
        Self::new("uploading", total, style)
    }

    fn new(what: &'static str, total: u64, template: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(template).expect("a template of known fields");
            ProgressBar::new(total).with_style(style)
        });
        Self { bar, what, total, tenths: std::cell::Cell::new(0) }
    }

    fn at(&self, bytes: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(bytes),
            None => {
                let tenths = (bytes * 10).checked_div(self.total).unwrap_or(0);
                if tenths > self.tenths.replace(tenths) {
                    let (at, of) = (HumanBytes(bytes), HumanBytes(self.total));
                    eprintln!("{} {at} of {of}", self.what);
                }
            }
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::statement::{ArtifactRef, Health, UnixTime};

    use super::*;

    fn release() -> Release {
        Release {
            fleet: "shop-00000000".parse().unwrap(),
            service: "web".parse().unwrap(),
            version: "1.3.0".parse().unwrap(),
            artifact: ArtifactRef {
                id: Digest::of(b"manifest"),
                manifest_bytes: 1,
                bytes: 2,
                raw_bytes: 3,
            },
            source: Source::default(),
            created: UnixTime(1),
            run: Run { start: "a".into(), stop: "b".into(), timeout_s: 30, ..Run::default() },
            health: Health::default(),
            critical: Vec::new(),
        }
    }

    #[test]
    fn the_same_release_made_later_is_the_same() {
        let mut later = release();
        later.created = UnixTime(2);
        assert_eq!(difference(&release(), &later), None);
        later.run.start = "c".to_owned();
        later.artifact.id = Digest::of(b"another");
        assert_eq!(difference(&release(), &later), Some("the files, [run]".to_owned()));
    }

    #[test]
    fn a_unit_that_is_none_is_not_published() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("web.service");
        let run = Run { unit: Some("web.service".into()), timeout_s: 30, ..Run::default() };
        let problem = || match packed(Path::new("out"), temp.path(), &run) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let starts = "cannot publish out: run.unit = \"web.service\", and ";
        assert_eq!(problem(), format!("{starts}there is no such file at its root"));
        let long = vec![b'#'; UNIT_BYTES_MAX + 1];
        let cases: [(&[u8], &str); 4] = [
            (b"[Service]\nExecStart=/bin/true\n", ""),
            (b"ExecStart=/bin/true\n", "the file has no [Service] section"),
            (b"[Service]\n\xff", "the file is not UTF-8"),
            (&long, "the file is 65537 bytes long, at most 65536 are read"),
        ];
        for (bytes, expected) in cases {
            std::fs::write(&path, bytes).unwrap();
            let expected = if expected.is_empty() { "" } else { &format!("{starts}{expected}") };
            assert_eq!(problem(), expected);
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/bin/true", &path).unwrap();
        assert_eq!(problem(), format!("{starts}what bears this name is no regular file"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(problem(), format!("{starts}what bears this name is no regular file"));
    }

    #[test]
    fn an_artifact_comes_back_piece_by_piece() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("a"), vec![7; 600_000]).unwrap();
        std::fs::create_dir(temp.path().join("d")).unwrap();
        std::fs::write(temp.path().join("d/b"), "hello").unwrap();
        let mut packed = pack_dir(temp.path()).unwrap();
        assert_eq!(packed.pieces.metadata().unwrap().len(), packed.manifest.bytes());
        packed.pieces.rewind().unwrap();
        for piece in &packed.manifest.pieces {
            let mut bytes = vec![0; piece.bytes as usize];
            packed.pieces.read_exact(&mut bytes).unwrap();
            assert_eq!(Digest::of(&bytes), piece.digest);
        }
        let text = summary(&release(), &packed.manifest, Digest::of(b"x"), 1);
        assert!(text.contains("585.9 KiB in 2 files, packed to"), "{text}");
        assert!(text.contains("in 3 pieces; 1 uploaded, 2 were there"), "{text}");
    }
}
