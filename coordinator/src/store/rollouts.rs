//! The table of rollouts: one row each, from when it was first seen on; for pages, and for counting over
//! months. Rows are kept for ever: they are few and small.

use proto::id::{Digest, Env, Name, Scope, Service, Version};
use proto::report::WaveReport;
use proto::statement::{Direction, UnixTime};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::columns::{column, failed, number, stored, stored_time, text};
use super::{Store, StoreError, events, samples};
use crate::events::Event;

/// Rows that one read gives at most.
pub const ROLLOUTS_PAGE_MAX: u32 = 1_000;

/// Rows of one scope that are counted at once: fifty a day, for a year.
pub const ROLLOUTS_ENDED_MAX: u32 = 20_000;

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Complete,
    /// Too many hosts failed. Whether the others went back: [`RolloutRow::back`].
    Halted,
    /// By an operator, or by the coordinator.
    Aborted,
    /// Not complete when it, or the root, expired; or it lacked signatures for too long.
    Expired,
    /// A newer one took over.
    Superseded,
}

impl Outcome {
    const ALL: [Self; 5] =
        [Self::Complete, Self::Halted, Self::Aborted, Self::Expired, Self::Superseded];

    /// As it is written everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Halted => "halted",
            Self::Aborted => "aborted",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
        }
    }
}

/// Hosts by where they stand; each is counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub waiting: u32,
    pub activating: u32,
    pub baking: u32,
    pub committed: u32,
    pub failed: u32,
    pub returned: u32,
    pub skipped: u32,
    pub unreachable: u32,
}

impl Counts {
    /// Of all waves together.
    pub fn of(waves: &[WaveReport]) -> Self {
        let sum = |of: fn(&WaveReport) -> u32| waves.iter().map(of).fold(0, u32::saturating_add);
        Self {
            waiting: sum(|wave| wave.waiting),
            activating: sum(|wave| wave.activating),
            baking: sum(|wave| wave.baking),
            committed: sum(|wave| wave.committed),
            failed: sum(|wave| wave.failed),
            returned: sum(|wave| wave.returned),
            skipped: sum(|wave| wave.skipped),
            unreachable: sum(|wave| wave.unreachable),
        }
    }
}

/// One side of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowTarget {
    pub version: Version,
    /// Id of the release statement.
    pub release: Digest,
}

/// A rollout, as the coordinator has followed it. Times are of the coordinator's clock, but for `created`
/// and `commit_time`, which others signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRow {
    /// Its number, 1 first, in the order in which rollouts were first seen; 0: not kept yet.
    pub seq: u64,
    pub id: Digest,
    pub scope: Scope,
    pub epoch: u64,
    pub direction: Direction,
    /// Whether it took in what ran already.
    pub adopt: bool,
    /// None: the first deployment.
    pub from: Option<RowTarget>,
    pub to: RowTarget,
    pub author: Name,
    pub reason: String,
    pub created: UnixTime,
    /// Of its cohort.
    pub hosts: u32,
    /// What `to` was built from, as far as its publisher said.
    pub commit: Option<String>,
    pub branch: Option<String>,
    pub commit_time: Option<UnixTime>,
    pub first_seen: UnixTime,
    /// When it was seen to be in force, or signed, if it is older than the chronicle; none: it never was in
    /// force.
    pub started: Option<UnixTime>,
    /// None: it goes on, or when it ended is not known.
    pub ended: Option<UnixTime>,
    /// None: it goes on.
    pub outcome: Option<Outcome>,
    /// Whether a host has begun to activate, as far as was seen.
    pub began: bool,
    /// Of one that was halted or aborted: when every host that is heard was back.
    pub back: Option<UnixTime>,
    /// Where its hosts stood last.
    pub counts: Counts,
}

/// A row to be kept, with what its follower must remember of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub row: RolloutRow,
    /// Whether it is still followed.
    pub open: bool,
    /// What its follower remembers: JSON.
    pub memory: String,
    pub sample: Option<samples::NewSample>,
}

/// What followers of rollouts have kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// About the fleet: JSON. None: nothing was ever kept.
    pub fleet: Option<String>,
    /// The rollouts that are still followed, with what is remembered of each.
    pub open: Vec<(RolloutRow, String)>,
    /// The others that were ever in force.
    pub closed: Vec<Digest>,
}

/// A scope with rollouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeRow {
    pub scope: Scope,
    /// Number of the newest row.
    pub newest: u64,
}

// --- reading ---

const OF_ID: &str = "SELECT * FROM rollouts WHERE id = ?1";
const ENDED_SINCE: &str = "
    SELECT * FROM rollouts WHERE service = ?1 AND env = ?2 AND ended >= ?3
    ORDER BY ended DESC LIMIT ?4";
const ENDED_BEFORE: &str = "
    SELECT * FROM rollouts WHERE service = ?1 AND env = ?2 AND ended < ?3
    ORDER BY ended DESC LIMIT ?4";
const SCOPES: &str = "
    SELECT service, env, MAX(seq) AS newest FROM rollouts GROUP BY service, env";
const CLOSED: &str = "SELECT id FROM rollouts WHERE NOT open AND started IS NOT NULL";
const OPEN: &str = "SELECT * FROM rollouts WHERE open ORDER BY seq";

impl Store {
    /// A rollout, by all of its id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn rollout(&self, id: &Digest) -> Result<Option<RolloutRow>, StoreError> {
        let row = sqlx::query(OF_ID)
            .bind(format!("{id:#}"))
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read a rollout"))?;
        row.as_ref().map(rollout_row).transpose()
    }

    /// Up to `limit` rollouts that come before number `seq`, the newest first. `service`, `env`: only those;
    /// none: any.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn rollouts_before(
        &self,
        seq: u64,
        service: Option<&Service>,
        env: Option<&Env>,
        limit: u32,
    ) -> Result<Vec<RolloutRow>, StoreError> {
        let mut query = before_query(seq, service, env, limit);
        let rows = query.build().fetch_all(&self.pool).await.map_err(failed("read rollouts"))?;
        rows.iter().map(rollout_row).collect()
    }

    /// The rollouts of a scope that ended at `since` or later, and up to `more` of those that ended before:
    /// by their end, the last one first. Of very many, the last [`ROLLOUTS_ENDED_MAX`].
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn rollouts_ended(
        &self,
        scope: &Scope,
        since: UnixTime,
        more: u32,
    ) -> Result<Vec<RolloutRow>, StoreError> {
        let mut found = Vec::new();
        for (query, limit) in [(ENDED_SINCE, ROLLOUTS_ENDED_MAX), (ENDED_BEFORE, more)] {
            let rows = sqlx::query(query)
                .bind(scope.service.as_str())
                .bind(scope.env.as_str())
                .bind(stored_time(since))
                .bind(i64::from(limit.min(ROLLOUTS_ENDED_MAX)))
                .fetch_all(&self.pool)
                .await
                .map_err(failed("read rollouts"))?;
            found.extend(rows);
        }
        found.iter().map(rollout_row).collect()
    }

    /// The scopes that have a rollout, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn rollout_scopes(&self) -> Result<Vec<ScopeRow>, StoreError> {
        let rows = sqlx::query(SCOPES)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read the scopes of rollouts"))?;
        let scope = |row| Ok(ScopeRow { scope: scope_of(row)?, newest: number(row, "newest")? });
        rows.iter().map(scope).collect()
    }
}

fn before_query(
    seq: u64,
    service: Option<&Service>,
    env: Option<&Env>,
    limit: u32,
) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM rollouts WHERE seq < ");
    query.push_bind(stored(seq));
    if let Some(service) = service {
        query.push(" AND service = ").push_bind(service.to_string());
    }
    if let Some(env) = env {
        query.push(" AND env = ").push_bind(env.to_string());
    }
    query.push(" ORDER BY seq DESC LIMIT ").push_bind(i64::from(limit.min(ROLLOUTS_PAGE_MAX)));
    query
}

// --- what the chronicle keeps ---

impl Store {
    /// What was kept by [`Self::chronicle_keep`].
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn chronicle_remembered(&self) -> Result<Remembered, StoreError> {
        const STEP: &str = "read what is followed";
        // One transaction: a row is not seen as open and as closed.
        let mut view = self.pool.begin().await.map_err(failed(STEP))?;
        let fleet = sqlx::query_scalar("SELECT memory FROM chronicle")
            .fetch_optional(&mut *view)
            .await
            .map_err(failed(STEP))?;
        let open = sqlx::query(OPEN).fetch_all(&mut *view).await.map_err(failed(STEP))?;
        let closed = sqlx::query(CLOSED).fetch_all(&mut *view).await.map_err(failed(STEP))?;
        let remembered = |row| Ok((rollout_row(row)?, column(row, "memory")?));
        Ok(Remembered {
            fleet,
            open: open.iter().map(remembered).collect::<Result<_, StoreError>>()?,
            closed: closed.iter().map(|row| text(row, "id")).collect::<Result<_, _>>()?,
        })
    }

    /// Keeps what was seen, together with what must be remembered of it so that it is not told again: all
    /// of it or nothing. `fleet`: none: as it was.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was kept.
    pub async fn chronicle_keep(
        &self,
        events: &[Event],
        rollouts: &[Kept],
        fleet: Option<&str>,
    ) -> Result<(), StoreError> {
        const STEP: &str = "keep what was seen";
        let mut change = self.change(STEP).await?;
        let newest = events::append(&mut change, events).await?;
        for kept in rollouts {
            upsert(&mut change, kept).await?;
            if let Some(sample) = &kept.sample {
                samples::append(&mut change, &kept.row.id, sample).await?;
            }
        }
        if let Some(fleet) = fleet {
            sqlx::query(
                "INSERT INTO chronicle (one, memory) VALUES (1, ?1)
                 ON CONFLICT (one) DO UPDATE SET memory = excluded.memory",
            )
            .bind(fleet)
            .execute(&mut *change)
            .await
            .map_err(failed(STEP))?;
        }
        change.commit().await.map_err(failed(STEP))?;
        self.tell_newest(newest);
        Ok(())
    }
}

const UPSERT: &str = "
    INSERT INTO rollouts (
        id, service, env, epoch, direction, adopt, from_version, from_release, to_version,
        to_release, author, reason, created, hosts, commit_id, branch, commit_time, first_seen,
        started, ended, outcome, began, back, counts, open, memory, sampled)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
        ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27)
    ON CONFLICT (id) DO UPDATE SET started = excluded.started, ended = excluded.ended,
        outcome = excluded.outcome, began = excluded.began, back = excluded.back,
        counts = excluded.counts, open = excluded.open, memory = excluded.memory,
        commit_id = excluded.commit_id, branch = excluded.branch,
        commit_time = excluded.commit_time, sampled = sampled OR excluded.sampled";

async fn upsert(change: &mut SqliteConnection, kept: &Kept) -> Result<(), StoreError> {
    let row = &kept.row;
    let from = row.from.as_ref();
    sqlx::query(UPSERT)
        .bind(format!("{:#}", row.id))
        .bind(row.scope.service.as_str())
        .bind(row.scope.env.as_str())
        .bind(stored(row.epoch))
        .bind(direction_name(row.direction))
        .bind(row.adopt)
        .bind(from.map(|from| from.version.to_string()))
        .bind(from.map(|from| format!("{:#}", from.release)))
        .bind(row.to.version.as_str())
        .bind(format!("{:#}", row.to.release))
        .bind(row.author.as_str())
        .bind(&row.reason)
        .bind(stored_time(row.created))
        .bind(i64::from(row.hosts))
        .bind(&row.commit)
        .bind(&row.branch)
        .bind(row.commit_time.map(stored_time))
        .bind(stored_time(row.first_seen))
        .bind(row.started.map(stored_time))
        .bind(row.ended.map(stored_time))
        .bind(row.outcome.map(Outcome::name))
        .bind(row.began)
        .bind(row.back.map(stored_time))
        .bind(serde_json::to_string(&row.counts).expect("counts serialize"))
        .bind(kept.open)
        .bind(&kept.memory)
        .bind(kept.sample.is_some())
        .execute(change)
        .await
        .map_err(failed("keep a rollout"))?;
    Ok(())
}

const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Forward => "forward",
        Direction::Rollback => "rollback",
    }
}

fn rollout_row(row: &SqliteRow) -> Result<RolloutRow, StoreError> {
    let corrupt = |what, why: String| StoreError::Corrupt { what, why };
    let from: Option<String> = column(row, "from_version")?;
    let from = match from {
        Some(_) => Some(RowTarget {
            version: text(row, "from_version")?,
            release: text(row, "from_release")?,
        }),
        None => None,
    };
    let (direction, counts): (String, String) = (column(row, "direction")?, column(row, "counts")?);
    let direction = [Direction::Forward, Direction::Rollback]
        .into_iter()
        .find(|one| direction_name(*one) == direction)
        .ok_or_else(|| corrupt("direction", direction))?;
    Ok(RolloutRow {
        seq: number(row, "seq")?,
        id: text(row, "id")?,
        scope: scope_of(row)?,
        epoch: number(row, "epoch")?,
        direction,
        adopt: column(row, "adopt")?,
        from,
        to: RowTarget { version: text(row, "to_version")?, release: text(row, "to_release")? },
        author: text(row, "author")?,
        reason: column(row, "reason")?,
        created: UnixTime(number(row, "created")?),
        hosts: number(row, "hosts")?,
        commit: column(row, "commit_id")?,
        branch: column(row, "branch")?,
        commit_time: time(row, "commit_time")?,
        first_seen: UnixTime(number(row, "first_seen")?),
        started: time(row, "started")?,
        ended: time(row, "ended")?,
        outcome: outcome(row)?,
        began: column(row, "began")?,
        back: time(row, "back")?,
        counts: serde_json::from_str(&counts)
            .map_err(|error| corrupt("counts", error.to_string()))?,
    })
}

fn scope_of(row: &SqliteRow) -> Result<Scope, StoreError> {
    Ok(Scope { service: text(row, "service")?, env: text(row, "env")? })
}

fn time(row: &SqliteRow, name: &'static str) -> Result<Option<UnixTime>, StoreError> {
    let stored: Option<i64> = column(row, name)?;
    stored.map(|_| number(row, name).map(UnixTime)).transpose()
}

fn outcome(row: &SqliteRow) -> Result<Option<Outcome>, StoreError> {
    let stored: Option<String> = column(row, "outcome")?;
    let Some(stored) = stored else { return Ok(None) };
    match Outcome::ALL.into_iter().find(|one| one.name() == stored) {
        Some(outcome) => Ok(Some(outcome)),
        None => Err(StoreError::Corrupt { what: "outcome", why: stored }),
    }
}

#[cfg(test)]
mod tests;
