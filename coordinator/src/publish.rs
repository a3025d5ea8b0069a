//! Publishing: a release and its archive are checked, then admitted for ever (R3, R26).
//!
//! ```text
//! begin    signatures, version free, manifest fits; which pieces are missing
//! keep     each piece by its digest; what came stays when the upload breaks off
//! finish   the whole archive unpacks to the file table; recorded; counter-signed; seeded
//! ```
//!
//! The counter-signature is made last: nothing that was not checked whole ever carries it. The
//! version is tied to the digest in the database before that, in one transaction with its audit
//! entry, so a crash in between leaves a version that only the same release can take.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use member::{chain, clock};
use pack::UnpackError;
use proto::artifact::Manifest;
use proto::dsse::Envelope;
use proto::id::{Digest, Service, Version};
use proto::patch::PatchName;
use proto::statement::{Release, Statement, UnixTime};
use proto::trust::{Refusal, Standing, verify};
use proto::wire::{Refused, RefusedKind};
use rollout::fleet::refused;
use swarm::store::StoreError;
use tracing::{info, warn};

use crate::audit::Act;
use crate::authority::Asker;
use crate::desk::{Desk, blocking, out_of_order};
use crate::events::{Event, Kind};
use crate::store::{AdmitError, NewRelease};

/// Uploads under way.
pub const UPLOADS_MAX: usize = 4;
/// Bytes of pieces after which they are made durable: what a crash may cost at most.
const FLUSH_BYTES: u64 = 32 << 20;

/// A release on its way in.
pub struct Upload {
    desk: Arc<Desk>,
    asker: Asker,
    id: Digest,
    release: Release,
    /// As its publisher signed it.
    envelope: Envelope,
    manifest: Manifest,
    unflushed_bytes: u64,
}

impl Upload {
    /// Checks all that can be checked before a piece has come, and says which are missing.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the release or its manifest is not acceptable, or its version is taken.
    pub async fn begin(
        desk: Arc<Desk>,
        asker: Asker,
        release: Vec<u8>,
        manifest: Vec<u8>,
    ) -> Result<(Self, Vec<u32>), Refused> {
        desk.refuse_without_record().await?;
        let judged = desk.clone();
        let (envelope, release, manifest, bytes) = blocking("check a release", move || {
            let (envelope, release) = judged.judge_release(&release)?;
            let parsed = judge_manifest(&release, &manifest)?;
            Ok::<_, Refused>((envelope, release, parsed, manifest))
        })
        .await??;
        let id = envelope.id();
        let held = desk
            .store
            .release_of(&release.service, &release.version)
            .await
            .map_err(|error| out_of_order("look for the release", &error))?;
        if let Some(held) = held.filter(|held| *held != id) {
            return Err(taken(&release.service, &release.version, id, held));
        }
        let (blobs, artifact) = (desk.member.ledger.store().clone(), release.artifact.id);
        let missing = blocking("prepare for the artifact", move || {
            blobs.begin(&artifact, &bytes)?;
            blobs.check(&artifact)?;
            let pieces = blobs.pieces(&artifact)?;
            Ok((0..pieces.len()).filter(|index| !pieces.contains(*index)).collect())
        })
        .await?
        .map_err(|error: StoreError| not_kept(&error))?;
        let upload = Self { desk, asker, id, release, envelope, manifest, unflushed_bytes: 0 };
        Ok((upload, missing))
    }

    /// Length of a piece, in bytes.
    pub fn bytes_of(&self, piece: u32) -> usize {
        self.manifest.pieces[piece as usize].bytes as usize
    }

    /// Verifies a piece and keeps it.
    ///
    /// # Errors
    ///
    /// [`Refused`]: it is not that piece, or it cannot be kept.
    pub async fn keep(&mut self, piece: u32, bytes: Vec<u8>) -> Result<(), Refused> {
        self.unflushed_bytes += bytes.len() as u64;
        let flush = self.unflushed_bytes >= FLUSH_BYTES;
        if flush {
            self.unflushed_bytes = 0;
        }
        let (blobs, artifact) = (self.desk.member.ledger.store().clone(), self.release.artifact.id);
        let kept = blocking("keep a piece", move || {
            blobs.write_piece(&artifact, piece, &bytes)?;
            if flush { blobs.flush(&artifact) } else { Ok(()) }
        });
        kept.await?.map_err(|error| not_kept(&error))
    }

    /// Makes the pieces that came durable.
    pub async fn pause(&mut self) {
        self.unflushed_bytes = 0;
        let (blobs, artifact) = (self.desk.member.ledger.store().clone(), self.release.artifact.id);
        if let Ok(Err(error)) = blocking("keep pieces", move || blobs.flush(&artifact)).await {
            warn!(%artifact, error = chain(&error), "pieces of an upload may have to come again");
        }
    }

    /// Checks the whole archive, then admits the release and offers it to the fleet.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the archive is not what its file table says, the version was taken meanwhile,
    /// or something here does not work.
    pub async fn finish(mut self) -> Result<Digest, Refused> {
        self.pause().await;
        let (desk, id) = (self.desk.clone(), self.id);
        let (service, version) = (&self.release.service, &self.release.version);
        let held = desk
            .store
            .release_of(service, version)
            .await
            .map_err(|error| out_of_order("look for the release", &error))?;
        // What was admitted before was checked before, and each piece came by its digest.
        if held != Some(id) {
            self.check_archive().await?;
        }
        let act = Act {
            actor: desk.signers(&self.envelope),
            action: "publish",
            subject: format!("release {service} {version}"),
            detail: serde_json::json!({
                "release": self.id,
                "artifact": self.release.artifact.id,
                "commit": self.release.source.commit,
                "keys": self.envelope.signatures().keys().collect::<Vec<_>>(),
                "by": self.asker.to_string(),
            }),
        };
        let envelope = desk.countersigned(&self.envelope);
        let now = clock::unix();
        let release = NewRelease {
            service: service.clone(),
            version: version.clone(),
            id,
            envelope: envelope.clone(),
            event: published(&self.release, id, &act.actor, now),
            act,
        };
        let new = desk.store.release_admit(release, now).await;
        let new = new.map_err(|error| match error {
            AdmitError::Taken { held } => taken(service, version, id, held),
            AdmitError::Store(error) => out_of_order("record the release", &error),
        })?;
        let (artifact, bytes) = (self.release.artifact.id, self.release.artifact.bytes);
        let ledger = desk.member.ledger.clone();
        blocking("admit the release", move || {
            let admitted = ledger.admit(&envelope);
            ledger.store().touch(&artifact);
            admitted
        })
        .await?
        .map_err(|error| match error {
            swarm::ledger::AdmitError::Refused(refusal) => refused(&refusal),
            swarm::ledger::AdmitError::Store(error) => out_of_order("keep the release", &error),
        })?;
        info!(release = %id, %service, %version, %artifact, bytes, new, "release published");
        Ok(id)
    }

    /// Unpacks the archive as a host would, and throws the result away. What it finds wrong is
    /// wrong on every host, so the pieces go, too.
    async fn check_archive(&self) -> Result<(), Refused> {
        let (blobs, manifest) = (self.desk.member.ledger.store().clone(), self.manifest.clone());
        let (artifact, scratch) = (self.release.artifact.id, self.desk.scratch_dir());
        let checked = blocking("check the archive", move || {
            let mut pieces = |index| {
                let piece = blobs.read_piece(&artifact, index).map_err(io::Error::other)?;
                piece.ok_or_else(|| io::Error::other(format!("piece {index} is not here")))
            };
            let unpacked = pack::unpack(&manifest, &mut pieces, &scratch);
            if let Err(error) = std::fs::remove_dir_all(&scratch)
                && error.kind() != io::ErrorKind::NotFound
            {
                warn!(dir = %scratch.display(), %error, "cannot be removed");
            }
            if unpacked.as_ref().is_err_and(is_hostile)
                && let Err(error) = blobs.remove_artifact(&artifact)
            {
                warn!(%artifact, error = chain(&error), "a refused artifact is not removed");
            }
            unpacked
        });
        match checked.await? {
            Ok(()) => Ok(()),
            Err(error) if is_hostile(&error) => {
                let reason = format!("the archive is refused: {}", chain(&error));
                warn!(release = %self.id, by = %self.asker, reason, "publish refused");
                Err(invalid(reason))
            }
            Err(error) => Err(out_of_order("check the archive", &error)),
        }
    }
}

impl Desk {
    /// A coordinator that minted no host and hears of some has lost its record: it does not know which
    /// versions exist, and would admit one a second time (R3).
    async fn refuse_without_record(&self) -> Result<(), Refused> {
        if self.member.ledger.hosts().is_empty() {
            return Ok(());
        }
        let minted = self.store.hosts().await;
        match minted.map_err(|error| out_of_order("read the hosts", &error))?.is_empty() {
            false => Ok(()),
            true => Err(Refused {
                kind: RefusedKind::Conflict,
                reason: "this coordinator has lost its record: it let no host join, and the fleet \
                         has hosts"
                    .to_owned(),
                next: "stop it, move its state_dir away, then: swell-coordinator recover --from \
                       HOST:PORT"
                    .to_owned(),
            }),
        }
    }

    /// The release in an envelope, if it would have an effect once the coordinator has signed it.
    fn judge_release(&self, bytes: &[u8]) -> Result<(Envelope, Release), Refused> {
        let (ledger, now) = (self.member.ledger.chain(), clock::unix());
        let verified = verify(&ledger, bytes, now).map_err(|refusal| match refusal {
            Refusal::SecondDigest { service, version, known } => {
                // It was read this far, so it reads.
                let id = Envelope::parse(bytes, bytes.len()).map(|envelope| envelope.id());
                taken(&service, &version, id.unwrap_or(known), known)
            }
            refusal => refused(&refusal),
        })?;
        let Statement::Release(release) = verified.statement else {
            let kind = verified.statement.kind().name();
            return Err(invalid(format!("that is a {kind}, and only releases are published")));
        };
        let countersigned = self.countersigned(&verified.envelope);
        let judged = verify(&ledger, &countersigned, now).map_err(|refusal| refused(&refusal))?;
        match judged.standing {
            Standing::Effective => Ok((verified.envelope, release)),
            Standing::Pending { missing } => Err(Refused {
                kind: RefusedKind::Forbidden,
                reason: format!("the release lacks {missing}"),
                next: String::new(),
            }),
        }
    }

    fn countersigned(&self, envelope: &Envelope) -> Vec<u8> {
        let mut envelope = envelope.clone();
        envelope.sign(&self.admit_key);
        envelope.to_bytes()
    }

    /// A path that nothing stands at and that no other call gets.
    pub(crate) fn scratch_dir(&self) -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        self.scratch.join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string())
    }
}

/// What is told of a release: it is not in any environment yet.
fn published(release: &Release, id: Digest, by: &str, now: UnixTime) -> Event {
    let Release { service, version, artifact, source, .. } = release;
    let from = source.commit.as_ref().map(|commit| format!(", commit {commit}"));
    // What a publisher wrote, on one line.
    let from = from.unwrap_or_default().replace(char::is_control, " ");
    Event {
        at: now,
        kind: Kind::ReleasePublished,
        service: Some(service.clone()),
        env: None,
        rollout: None,
        host: None,
        text: format!("{service} {version} is published by {by}{from}"),
        detail: serde_json::json!({
            "service": service,
            "version": version,
            "release": id,
            "by": by,
            "bytes": artifact.bytes,
            "commit": source.commit,
            "branch": source.branch,
            "commit_time": source.commit_time,
        }),
    }
}

/// Whether the archive is at fault, and not this machine.
const fn is_hostile(error: &UnpackError) -> bool {
    match error {
        UnpackError::Manifest(_) | UnpackError::Piece { .. } | UnpackError::FileDigest { .. } => {
            true
        }
        UnpackError::Begin { .. }
        | UnpackError::Decompressor(_)
        | UnpackError::Get { .. }
        | UnpackError::Installed { .. }
        | UnpackError::Write { .. }
        | UnpackError::Place(_) => false,
    }
}

/// The manifest, if it is the one the release names and what it says adds up.
fn judge_manifest(release: &Release, bytes: &[u8]) -> Result<Manifest, Refused> {
    let artifact = &release.artifact;
    let got = Digest::of(bytes);
    if got != artifact.id {
        return Err(invalid(format!(
            "the manifest is {got:#}, and the release names artifact {:#}",
            artifact.id
        )));
    }
    let manifest = Manifest::parse(bytes)
        .map_err(|error| invalid(format!("the artifact is refused: {error}")))?;
    if let Some(name) = PatchName::of(&manifest) {
        return Err(Refused {
            next: "give it another name, or put it in a directory".to_owned(),
            ..invalid(format!(
                "its only file, {name}, would be taken for a patch of the fleet's own"
            ))
        });
    }
    let lengths = [
        ("manifest_bytes", artifact.manifest_bytes, bytes.len() as u64),
        ("bytes", artifact.bytes, manifest.bytes()),
        ("raw_bytes", artifact.raw_bytes, manifest.raw_bytes()),
    ];
    match lengths.into_iter().find(|(_, said, is)| said != is) {
        None => Ok(manifest),
        Some((what, said, is)) => {
            Err(invalid(format!("artifact.{what} = {said} in the release: the artifact has {is}")))
        }
    }
}

fn invalid(reason: String) -> Refused {
    Refused { kind: RefusedKind::Invalid, reason, next: String::new() }
}

fn taken(service: &Service, version: &Version, id: Digest, held: Digest) -> Refused {
    Refused {
        kind: RefusedKind::Conflict,
        reason: format!("{service} {version} is release {held:#} for ever, and this is {id:#}"),
        next: "publish under a new version".to_owned(),
    }
}

fn not_kept(error: &StoreError) -> Refused {
    match error {
        StoreError::WrongBytes { .. } | StoreError::Manifest { .. } => invalid(error.to_string()),
        full if full.is_full() => Refused {
            kind: RefusedKind::Busy,
            reason: "the coordinator's disk is full".to_owned(),
            next: "make room there, then publish again: what has come is kept".to_owned(),
        },
        error => out_of_order("keep the artifact", error),
    }
}
