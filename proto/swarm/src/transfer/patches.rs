//! Which patches to an artifact there are (R28).

use std::time::Duration;

use proto::Digest;
use proto::patch::PatchOffer;
use rand::seq::SliceRandom;
use tokio::task::JoinSet;
use tokio::time;
use tracing::debug;

use super::ask::{self, AskError, Source};
use super::fetch::{Company, Surroundings, known};
use super::peers::Known;

/// Longest wait for somebody to say what it holds: a fetch waits for that.
const PATIENCE: Duration = Duration::from_secs(2);
/// Members that are asked where the origin does not answer.
const OTHERS_MAX: usize = 3;

/// What the origin says that it holds, or the first of some others that holds any.
pub(crate) async fn patches(
    around: &Surroundings,
    artifact: Digest,
    company: &Company,
) -> Vec<PatchOffer> {
    let fetchers = company.fetchers.iter().cloned().collect();
    let Known { announcers, fetchers, origin } = known(around, &artifact, company, &fetchers);
    if let Some(origin) = &origin
        && let Some(offers) = ask_one(around, origin, artifact).await
    {
        return offers;
    }
    let mut others: Vec<Source> = announcers.into_iter().chain(fetchers).collect();
    others.retain(|other| origin.as_ref().is_none_or(|origin| origin.host != other.host));
    others.shuffle(&mut rand::rng());
    others.truncate(OTHERS_MAX);
    let mut asking = JoinSet::new();
    for other in others {
        let around = around.clone();
        asking.spawn(async move { ask_one(&around, &other, artifact).await });
    }
    while let Some(answer) = asking.join_next().await {
        if let Ok(Some(offers)) = answer
            && !offers.is_empty()
        {
            return offers;
        }
    }
    Vec::new()
}

/// None: it does not say, being away or of an earlier version.
async fn ask_one(around: &Surroundings, of: &Source, artifact: Digest) -> Option<Vec<PatchOffer>> {
    let answer = time::timeout(PATIENCE, ask::patches(&around.pool, of, artifact)).await;
    let failed = |error: AskError| {
        let error: &(dyn std::error::Error + 'static) = &error;
        debug!(%artifact, peer = %of.host, error, "it does not say which patches it holds");
    };
    answer.ok()?.map_err(failed).ok()
}
