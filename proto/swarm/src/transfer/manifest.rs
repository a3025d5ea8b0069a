//! Fetching the manifest of an artifact, before any of its pieces.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use net::Member;
use proto::Digest;
use proto::artifact::{MANIFEST_BYTES_MAX, Manifest};
use proto::record::Lie;
use proto::statement::ArtifactRef;
use proto::wire::SwarmRequest;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use tracing::{debug, warn};

use super::ask::{self, Answer, AskError, Source};
use super::fetch::{
    Company, FetchError, Progress, REVIEW_EVERY, REVIEW_PAUSE, Surroundings, known, name_liar,
};
use super::peers::Peers;
use crate::plan::Stall;

/// How long one member is asked for the manifest before a second one is, too; a second longer for
/// each mebibyte of it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Gets the manifest from any member that announces the artifact, or from the origin. Who does not
/// answer soon goes on being asked, and somebody else is, too: nobody can make the others wait.
pub(super) async fn manifest(
    around: &Surroundings,
    artifact: &ArtifactRef,
    company: &Company,
    progress: &watch::Sender<Progress>,
) -> Result<Vec<u8>, FetchError> {
    let mut members = around.members.clone();
    let mut peers = Peers::default();
    let mut asking = JoinSet::new();
    let patience =
        PATIENCE + Duration::from_secs(artifact.manifest_bytes.min(MANIFEST_BYTES_MAX) >> 20);
    let begun = Instant::now();
    let mut next_at = begun;
    let mut looked_at = begun;
    loop {
        let now = Instant::now();
        if now >= next_at || asking.is_empty() {
            members.mark_unchanged();
            looked_at = now;
            let known = known(around, &artifact.id, company, &BTreeSet::new());
            let (sources, _) = peers.choose(now, known, &[]);
            if let Some(source) = sources.into_iter().next() {
                let (around, artifact, asked) = (around.clone(), *artifact, source.clone());
                let task = asking.spawn(async move {
                    let answer = manifest_of(&around, &asked, &artifact).await;
                    (asked.host, answer)
                });
                peers.joined(source, task);
                next_at = now + patience;
            }
        }
        progress.send_modify(|progress| {
            progress.stall = asking.is_empty().then_some(Stall::NoManifest);
            progress.still_s = (now - begun).as_secs();
        });
        let wake = if next_at > now { Some(next_at) } else { peers.next(now) };
        let wake = wake.unwrap_or(now + REVIEW_EVERY).min(now + REVIEW_EVERY);
        tokio::select! {
            Some(answered) = asking.join_next() => {
                let (host, answer) = answered?;
                match answer {
                    Ok(Some(bytes)) => {
                        check_manifest(&Manifest::parse(&bytes)?, artifact)?;
                        return Ok(bytes);
                    }
                    Ok(None) => peers.leave(&host, Instant::now()),
                    Err(AskError::TooLong { .. } | AskError::OtherContent) => {
                        progress.send_modify(|told| name_liar(told, &host, Lie::WrongBytes));
                        peers.ban(&host, Instant::now());
                    }
                    Err(error) => {
                        let error: &(dyn Error + 'static) = &error;
                        debug!(artifact = %artifact.id, peer = %host, error, "no manifest");
                        peers.leave(&host, Instant::now());
                    }
                }
                next_at = Instant::now();
            }
            Ok(()) = changed(&mut members, looked_at + REVIEW_PAUSE) => {}
            () = time::sleep_until(wake) => {}
        }
    }
}

/// Waits until somebody has said something, and not before `at`: in a large fleet somebody does all the time.
async fn changed(
    members: &mut watch::Receiver<Arc<Vec<Member>>>,
    at: Instant,
) -> Result<(), watch::error::RecvError> {
    time::sleep_until(at).await;
    members.changed().await
}

async fn manifest_of(
    around: &Surroundings,
    of: &Source,
    artifact: &ArtifactRef,
) -> Result<Option<Vec<u8>>, AskError> {
    let max = artifact.manifest_bytes.min(MANIFEST_BYTES_MAX);
    let request = SwarmRequest::Blob { id: artifact.id };
    match ask::content(&around.pool, of, &request, max).await? {
        Answer::Content(bytes) if Digest::of(&bytes) == artifact.id => Ok(Some(bytes)),
        Answer::Content(_) => {
            warn!(artifact = %artifact.id, peer = %of.host, "a peer sent another manifest");
            Err(AskError::OtherContent)
        }
        Answer::No | Answer::Busy => Ok(None),
    }
}

/// The manifest must be what the signed release says of it.
fn check_manifest(manifest: &Manifest, artifact: &ArtifactRef) -> Result<(), FetchError> {
    let sizes = [
        ("bytes of pieces", artifact.bytes, manifest.bytes()),
        ("bytes of files", artifact.raw_bytes, manifest.raw_bytes()),
    ];
    match sizes.into_iter().find(|(_, said, is)| said != is) {
        Some((what, said, is)) => Err(FetchError::NotAsReleased { what, said, is }),
        None => Ok(()),
    }
}
