//! The part of the daemon that looks at the fleet and keeps what is new in it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use member::{chain, clock};
use net::NetError;
use proto::statement::Rollout;
use proto::trust::Chain;
use proto::{Digest, UnixTime};
use rollout::Now;
use rollout::fleet::Outlook;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Changes, Memory, Seen, Sight, acts, observe};
use crate::desk::{Desk, blocking};
use crate::store::{Store, StoreError};

/// Between two looks, at least where something changes and at most where nothing does.
const LOOK_AFTER: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at all that is followed, where no statement comes.
const ALL_EVERY: Duration = Duration::from_secs(10);
/// Rollouts without a row that one look takes up: others wait for the view meanwhile.
const NEW_MAX: usize = 20;
/// Between two clearings of what is old.
const TRIM_EVERY: Duration = Duration::from_secs(600);
/// How long events are kept, and samples of a rollout after its end, in seconds.
const EVENTS_KEPT_S: u64 = 400 * 86_400;
const SAMPLES_KEPT_S: u64 = 90 * 86_400;
/// How far the wall clock may be ahead of what is known of time before nothing is removed by it.
const AHEAD_MAX_S: u64 = 86_400;

/// Keeps the chronicle until `stop`. What does not work is told once and tried again.
pub(crate) async fn keep(desk: Arc<Desk>, stop: CancellationToken) -> Result<(), NetError> {
    let (mut statements, mut members) = (desk.member.ledger.events(), desk.member.gossip.members());
    let mut memory = None;
    let mut trim_at = Instant::now() + LOOK_EVERY;
    let mut trimmer = None;
    let mut all_at = Instant::now();
    let mut works = true;
    while !stop.is_cancelled() {
        let next_look = Instant::now() + LOOK_AFTER;
        let all = statements.has_changed().unwrap_or(false) || Instant::now() >= all_at;
        if all {
            all_at = Instant::now() + ALL_EVERY;
        }
        statements.mark_unchanged();
        members.mark_unchanged();
        let looked = look(&desk, memory.take(), all).await;
        let more = match looked {
            Ok((kept, more)) => {
                memory = Some(kept);
                works = true;
                desk.looked.send_replace(Some(clock::unix()));
                more
            }
            // The memory may say more than what was kept: it is read again.
            Err(error) => {
                all_at = Instant::now();
                if std::mem::take(&mut works) {
                    warn!(error = chain(&error), "events are not kept; tried again");
                }
                false
            }
        };
        if Instant::now() >= trim_at {
            let again = trim(&desk.store, &mut trimmer, clock::now()).await;
            trim_at = Instant::now() + if again { LOOK_AFTER } else { TRIM_EVERY };
        }
        if more {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = time::sleep(LOOK_EVERY) => {}
            Ok(()) = statements.changed(), if works => {}
            Ok(()) = members.changed(), if works => {}
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = time::sleep_until(next_look) => {}
        }
    }
    Ok(())
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("looking at the fleet failed: {0}")]
    Panic(String),
}

/// One look, at what moves or at `all` that is followed; whether there is more to see at once.
async fn look(
    desk: &Arc<Desk>,
    memory: Option<Memory>,
    all: bool,
) -> Result<(Memory, bool), LookError> {
    let mut memory = match memory {
        Some(memory) => memory,
        None => Memory::restore(desk.store.chronicle_remembered().await?)?,
    };
    let (view, certificate) = (desk.view.clone(), desk.https_certificate.borrow().clone());
    let looked = blocking("look at the fleet", move || {
        let (mut sight, more) = view.see(|outlook| Sight::of(outlook, &memory, all));
        sight.certificate = certificate;
        let changes = observe(&mut memory, &sight, clock::now());
        (memory, changes, more)
    });
    let (memory, changes, more) =
        looked.await.map_err(|refused| LookError::Panic(refused.reason))?;
    if !changes.is_empty() {
        let Changes { events, rollouts, fleet } = changes;
        desk.store.chronicle_keep(&events, &rollouts, fleet.as_deref()).await?;
    }
    Ok((memory, more))
}

impl Sight {
    /// What is to be seen, of what moves or of `all`, for a follower that remembers `memory`; whether there is
    /// more that it does not know yet.
    fn of(outlook: &Outlook<'_>, memory: &Memory, all: bool) -> (Self, bool) {
        let chain = outlook.chain;
        let heads: BTreeSet<_> = chain.heads().map(|(_, head)| head.rollout).collect();
        let (mut unknown, pending) = (unknown(outlook, memory), outlook.pending);
        let more = unknown.len() > NEW_MAX;
        unknown.truncate(NEW_MAX);
        let followed: Vec<_> = match all {
            true => memory.followed().collect(),
            false => memory.moving().collect(),
        };
        let ids = followed.into_iter().copied().chain(unknown);
        let seen = |id: Digest| {
            let waits = || pending.iter().find(|one| one.id == id).map(|one| &one.rollout);
            let rollout = chain.rollout(&id).or_else(waits)?;
            let report = outlook.rollout_report(&id)?;
            let newest = heads.contains(&id) || chain.rollout(&id).is_none();
            let release = chain.release(&rollout.to.release);
            let source = release.map(|release| release.source.clone()).unwrap_or_default();
            let from = rollout.from.as_ref().map(|from| from.release);
            let said = acts::word(outlook, &id);
            let approved = match memory.awaits(&id) {
                true => acts::approved(outlook, &id, rollout),
                false => Vec::new(),
            };
            let to = rollout.to.release;
            Some(Seen { report, newest, from, to, source, said, approved })
        };
        let hosts = outlook.presence();
        let sight = Self {
            removals: acts::removals(outlook, &hosts),
            hosts,
            rollouts: ids.filter_map(seen).collect(),
            heads: chain.heads().map(|(scope, head)| (scope.clone(), head.epoch)).collect(),
            root_version: chain.root().version,
            root_expires: chain.root().expires,
            certificate: None,
            freezes: outlook.freezes().collect(),
            relieved: memory.fleet.stuck.relieved(outlook),
        };
        (sight, more)
    }
}

/// The rollouts that have no row yet, in the order in which they were signed.
fn unknown(outlook: &Outlook<'_>, memory: &Memory) -> Vec<Digest> {
    let history = history(outlook.chain);
    let pending = outlook.pending.iter().map(|pending| (pending.id, &pending.rollout));
    let mut found: Vec<_> = history.chain(pending).filter(|(id, _)| !memory.knows(id)).collect();
    found.sort_by_key(|(id, rollout)| (rollout.created, rollout.epoch, *id));
    found.dedup_by_key(|(id, _)| *id);
    found.into_iter().map(|(id, _)| id).collect()
}

fn history(chain: &Chain) -> impl Iterator<Item = (Digest, &Rollout)> {
    chain.heads().flat_map(|(scope, _)| chain.history(scope))
}

/// What time it may be, for what is removed for ever: a wall clock that is far ahead would remove all of
/// it. It is believed as far as a clock that never steps has come since the start, from the newest that was
/// written before, and a day more.
#[derive(Debug, Clone, Copy)]
struct Trimmer {
    since_ms: u64,
    newest: UnixTime,
}

impl Trimmer {
    fn believed(&self, now: Now) -> UnixTime {
        let passed_s = now.boot_ms.saturating_sub(self.since_ms) / 1_000;
        now.unix.min(self.newest.plus_s(passed_s).plus_s(AHEAD_MAX_S))
    }
}

/// Removes some of what is too old: one small step. Whether there may be more.
async fn trim(store: &Store, trimmer: &mut Option<Trimmer>, now: Now) -> bool {
    let trimmed = async {
        let trimmer = match trimmer {
            Some(trimmer) => *trimmer,
            // Where nothing was ever written there is nothing to remove.
            None => match store.events_newest_at().await? {
                Some(newest) => *trimmer.insert(Trimmer { since_ms: now.boot_ms, newest }),
                None => return Ok(false),
            },
        };
        let ago = |kept_s: u64| UnixTime(trimmer.believed(now).0.saturating_sub(kept_s));
        let events = store.events_trim(ago(EVENTS_KEPT_S)).await?;
        Ok::<_, StoreError>(store.samples_trim(ago(SAMPLES_KEPT_S)).await? || events > 0)
    };
    trimmed.await.unwrap_or_else(|error| {
        warn!(error = chain(&error), "old events and samples are not removed; tried again");
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, Kind};

    const DAY_S: u64 = 86_400;
    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn event(at: UnixTime) -> Event {
        Event {
            at,
            kind: Kind::HostLost,
            service: None,
            env: None,
            rollout: None,
            host: None,
            text: "a host is lost".to_owned(),
            detail: serde_json::json!({}),
        }
    }

    async fn store(directory: &std::path::Path) -> Store {
        let store = Store::open(&directory.join("db")).await.unwrap();
        let ages = [500, 300, 100, 0].map(|days| UnixTime(NOW.0 - days * DAY_S));
        store.events_keep(&ages.map(event)).await.unwrap();
        store
    }

    #[tokio::test]
    async fn what_is_old_is_removed_and_a_clock_that_is_far_ahead_removes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path()).await;
        let left = async || store.events_after(0, 9).await.unwrap().len();
        let mut trimmer = None;
        let at = |days: u64, boot_days: u64| Now {
            unix: NOW.plus_s(days * DAY_S),
            boot_ms: boot_days * DAY_S * 1_000,
        };
        assert!(trim(&store, &mut trimmer, at(3_650, 0)).await);
        assert_eq!(left().await, 3, "only what is old by all clocks");
        assert!(!trim(&store, &mut trimmer, at(3_650, 1)).await);
        // An idle fleet grows older, too.
        assert!(!trim(&store, &mut trimmer, at(90, 90)).await);
        assert!(trim(&store, &mut trimmer, at(150, 150)).await);
        assert_eq!(left().await, 2);
    }
}
