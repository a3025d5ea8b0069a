//! The audit record's tables: written at the end, read in order, in pages or whole (R30).

use proto::UnixTime;
use proto::audit::PAGE_MAX;
use proto::wire::{AuditPage, AuditQuery};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::columns::{column, digest, failed, number, stored, stored_time};
use super::{Store, StoreError, VerifyError};
use crate::audit::{self, Act, Entry, Head};

/// Entries that are looked at for one page: what bounds its time, whatever is looked for.
const LOOKED_AT_MAX: i64 = 20_000;
/// Longest page, in bytes of the texts in it; it has one entry at least.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// Entries about one statement: one for each set of signatures that came.
const ABOUT_MAX: i64 = 256;
/// Actors that are told to somebody who looks for another one.
const ACTORS_MAX: i64 = 1_000;
/// From each to the next one in the index: entries are not counted for it.
const ACTORS: &str = "
    WITH RECURSIVE one (actor) AS (
        SELECT MIN(actor) FROM audit
        UNION ALL
        SELECT (SELECT MIN(actor) FROM audit WHERE actor > one.actor) FROM one
        WHERE one.actor IS NOT NULL LIMIT ?1
    )
    SELECT actor FROM one WHERE actor IS NOT NULL";
const READ: &str = "read the audit record";
const WRITE: &str = "write the audit record";

impl Store {
    /// Records what changed outside this database.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn record(&self, act: Act, now: UnixTime) -> Result<(), StoreError> {
        self.record_all(vec![act], now).await
    }

    /// The same of several: all or none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn record_all(&self, acts: Vec<Act>, now: UnixTime) -> Result<(), StoreError> {
        if acts.is_empty() {
            return Ok(());
        }
        let mut change = self.change(WRITE).await?;
        for act in acts {
            append(&mut change, now, act).await?;
        }
        change.commit().await.map_err(failed(WRITE))
    }

    /// Reads the whole audit record and checks that it is what was written.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]: the first entry that does not stand, or the database failed.
    pub async fn audit_verify(&self) -> Result<Head, VerifyError> {
        // One transaction: entries that come meanwhile are not seen.
        let mut view = self.pool.begin().await.map_err(failed(READ))?;
        let stored = audit_head(&mut *view).await?;
        let mut walked = Head::EMPTY;
        loop {
            let page = audit_after(&mut *view, walked.length, PAGE_MAX).await?;
            walked = page.iter().try_fold(walked, audit::follow)?;
            if page.is_empty() {
                audit::ends_at(stored, walked)?;
                return Ok(walked);
            }
        }
    }

    /// Where the record ends.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn audit_head(&self) -> Result<Head, StoreError> {
        audit_head(&self.pool).await
    }

    /// Up to `limit` entries that come after entry `seq`, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn audit_after(&self, seq: u64, limit: u32) -> Result<Vec<Entry>, StoreError> {
        audit_after(&self.pool, seq, limit).await
    }

    /// The newest entries with this very subject, the newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn audit_about(&self, subject: &str) -> Result<Vec<Entry>, StoreError> {
        let rows = sqlx::query("SELECT * FROM audit WHERE subject = ?1 ORDER BY seq DESC LIMIT ?2")
            .bind(subject)
            .bind(ABOUT_MAX)
            .fetch_all(&self.pool)
            .await
            .map_err(failed(READ))?;
        rows.iter().map(audit_entry).collect()
    }

    /// Who has done something, as far as it fits.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn audit_actors(&self) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar(ACTORS)
            .bind(ACTORS_MAX)
            .fetch_all(&self.pool)
            .await
            .map_err(failed(READ))
    }

    /// Whether anything is recorded of this actor.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn audit_has_actor(&self, actor: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT seq FROM audit WHERE actor = ?1 LIMIT 1")
            .bind(actor)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed(READ))?;
        Ok(row.is_some())
    }

    /// The entries in question, as many as are found in a bounded time.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn audit_page(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let mut view = self.pool.begin().await.map_err(failed(READ))?;
        let head = audit_head(&mut *view).await?;
        let rows = found(query).build().fetch_all(&mut *view).await.map_err(failed(READ))?;
        let mut entries: Vec<_> = rows.iter().map(audit_entry).collect::<Result<_, _>>()?;
        let mut full = entries.len() == usize::try_from(limit_of(query)).unwrap_or(usize::MAX);
        let fitting = fitting(&entries);
        if fitting < entries.len() {
            entries.truncate(fitting);
            full = true;
        }
        let next = match entries.last() {
            Some(last) if full => Some(last.seq),
            _ => beyond(&mut view, query).await?,
        };
        Ok(AuditPage { entries, next, head })
    }
}

// --- pages ---

fn limit_of(query: &AuditQuery) -> u32 {
    query.limit.clamp(1, PAGE_MAX)
}

/// How many entries fit into one page.
fn fitting(entries: &[Entry]) -> usize {
    let bytes = |entry: &Entry| {
        let Entry { actor, action, subject, detail, .. } = entry;
        actor.len() + action.len() + subject.len() + detail.len() + 256
    };
    let ends = entries.iter().scan(0, |end, entry| {
        *end += bytes(entry);
        Some(*end)
    });
    ends.take_while(|end| *end <= PAGE_BYTES_MAX).count().max(1)
}

/// `SELECT what` of the entries beyond the query's, in its order, by the one index that leaves the fewest:
/// to be followed by a limit.
fn candidates(sql: &mut QueryBuilder<Sqlite>, what: &str, query: &AuditQuery) {
    let AuditQuery { newest_first, beyond, actor, action, .. } = query;
    let bound = match (beyond, newest_first) {
        (Some(seq), _) => stored(*seq),
        (None, true) => i64::MAX,
        (None, false) => 0,
    };
    let (than, order) = if *newest_first { ("<", "DESC") } else { (">", "ASC") };
    sql.push(format!("SELECT {what} FROM audit WHERE seq {than} ")).push_bind(bound);
    match (actor, action) {
        (Some(actor), _) => sql.push(" AND actor = ").push_bind(actor.clone()),
        (None, Some(action)) => sql.push(" AND action = ").push_bind(action.clone()),
        (None, None) => sql,
    };
    sql.push(format!(" ORDER BY seq {order} LIMIT "));
}

/// What is asked for, among the entries that are looked at.
fn found(query: &AuditQuery) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT * FROM (");
    candidates(&mut sql, "*", query);
    sql.push_bind(LOOKED_AT_MAX).push(") WHERE TRUE");
    if let Some(action) = &query.action {
        sql.push(" AND action = ").push_bind(action.clone());
    }
    if let Some(since) = query.since {
        sql.push(" AND at >= ").push_bind(stored_time(since));
    }
    if let Some(text) = &query.subject {
        sql.push(" AND instr(subject || char(10) || detail, ")
            .push_bind(text.clone())
            .push(") > 0");
    }
    sql.push(if query.newest_first { " ORDER BY seq DESC" } else { " ORDER BY seq" });
    sql.push(" LIMIT ").push_bind(limit_of(query));
    sql
}

/// The last entry that was looked at, if there may be more to find beyond it.
async fn beyond(
    view: &mut SqliteConnection,
    query: &AuditQuery,
) -> Result<Option<u64>, StoreError> {
    let mut sql = QueryBuilder::new("");
    candidates(&mut sql, "seq", query);
    sql.push("1 OFFSET ").push_bind(LOOKED_AT_MAX - 1);
    let row = sql.build().fetch_optional(&mut *view).await.map_err(failed(READ))?;
    let Some(row) = row else { return Ok(None) };
    // Times rise with the numbers, but for a clock that was set: none goes wrong for that long.
    if let (Some(since), true) = (query.since, query.newest_first) {
        let mut sql = QueryBuilder::new("SELECT 1 FROM (");
        candidates(&mut sql, "at", query);
        sql.push_bind(LOOKED_AT_MAX).push(") WHERE at >= ").push_bind(stored_time(since));
        sql.push(" LIMIT 1");
        if sql.build().fetch_optional(&mut *view).await.map_err(failed(READ))?.is_none() {
            return Ok(None);
        }
    }
    number(&row, "seq").map(Some)
}

// --- rows ---

async fn audit_after(
    database: impl sqlx::Executor<'_, Database = Sqlite>,
    seq: u64,
    limit: u32,
) -> Result<Vec<Entry>, StoreError> {
    let rows = sqlx::query("SELECT * FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")
        .bind(stored(seq))
        .bind(i64::from(limit.min(PAGE_MAX)))
        .fetch_all(database)
        .await
        .map_err(failed(READ))?;
    rows.iter().map(audit_entry).collect()
}

/// Writes an entry at the record's end, in the transaction of the change it records.
pub(super) async fn append(
    change: &mut SqliteConnection,
    now: UnixTime,
    act: Act,
) -> Result<(), StoreError> {
    debug_assert!(audit::ACTIONS.contains(&act.action), "{} is looked for by nobody", act.action);
    let head = audit_head(&mut *change).await?;
    let entry = Entry::after(head, now, act);
    let seq = i64::try_from(entry.seq).expect("fewer than 2^63 entries");
    sqlx::query(
        "INSERT INTO audit (seq, at, actor, action, subject, detail, prev, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(seq)
    .bind(stored_time(entry.at))
    .bind(entry.actor)
    .bind(entry.action)
    .bind(entry.subject)
    .bind(entry.detail)
    .bind(entry.prev.as_bytes().to_vec())
    .bind(entry.hash.as_bytes().to_vec())
    .execute(&mut *change)
    .await
    .map_err(failed(WRITE))?;
    sqlx::query(
        "INSERT INTO audit_head (one, length, hash) VALUES (1, ?1, ?2)
         ON CONFLICT (one) DO UPDATE SET length = excluded.length, hash = excluded.hash",
    )
    .bind(seq)
    .bind(entry.hash.as_bytes().to_vec())
    .execute(&mut *change)
    .await
    .map_err(failed(WRITE))?;
    Ok(())
}

async fn audit_head(
    database: impl sqlx::Executor<'_, Database = Sqlite>,
) -> Result<Head, StoreError> {
    let row = sqlx::query("SELECT length, hash FROM audit_head WHERE one = 1")
        .fetch_optional(database)
        .await
        .map_err(failed("read the audit record's head"))?;
    match row {
        Some(row) => Ok(Head { length: number(&row, "length")?, hash: digest(&row, "hash")? }),
        None => Ok(Head::EMPTY),
    }
}

fn audit_entry(row: &SqliteRow) -> Result<Entry, StoreError> {
    Ok(Entry {
        seq: number(row, "seq")?,
        at: UnixTime(number(row, "at")?),
        actor: column(row, "actor")?,
        action: column(row, "action")?,
        subject: column(row, "subject")?,
        detail: column(row, "detail")?,
        prev: digest(row, "prev")?,
        hash: digest(row, "hash")?,
    })
}

#[cfg(test)]
mod tests;
