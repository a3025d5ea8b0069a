//! The audit record's tables: written at the end, read in order, verified whole (R30).

use proto::UnixTime;
use sqlx::{Sqlite, SqliteConnection};

use super::columns::{column, digest, failed, number, stored_time};
use super::{Store, StoreError, VerifyError};
use crate::audit::{self, Act, Entry, Head};

/// Entries that one page of the audit record holds at most.
pub const AUDIT_PAGE_MAX: u32 = 1_000;

impl Store {
    /// Records what changed outside this database.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn record(&self, act: Act, now: UnixTime) -> Result<(), StoreError> {
        const STEP: &str = "write the audit record";
        let mut change = self.change(STEP).await?;
        append(&mut change, now, act).await?;
        change.commit().await.map_err(failed(STEP))
    }

    /// Reads the whole audit record and checks that it is what was written.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]: the first entry that does not stand, or the database failed.
    pub async fn audit_verify(&self) -> Result<Head, VerifyError> {
        // One transaction: entries that come meanwhile are not seen.
        let mut view = self.pool.begin().await.map_err(failed("read the audit record"))?;
        let stored = audit_head(&mut *view).await?;
        let mut walked = Head::EMPTY;
        loop {
            let page = audit_after(&mut *view, walked.length, AUDIT_PAGE_MAX).await?;
            walked = page.iter().try_fold(walked, audit::follow)?;
            if page.is_empty() {
                audit::ends_at(stored, walked)?;
                return Ok(walked);
            }
        }
    }

    /// Up to `limit` entries that come after entry `seq`, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn audit_after(&self, seq: u64, limit: u32) -> Result<Vec<Entry>, StoreError> {
        audit_after(&self.pool, seq, limit).await
    }
}

async fn audit_after(
    database: impl sqlx::Executor<'_, Database = Sqlite>,
    seq: u64,
    limit: u32,
) -> Result<Vec<Entry>, StoreError> {
    let rows = sqlx::query("SELECT * FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2")
        .bind(i64::try_from(seq).unwrap_or(i64::MAX))
        .bind(i64::from(limit.min(AUDIT_PAGE_MAX)))
        .fetch_all(database)
        .await
        .map_err(failed("read the audit record"))?;
    rows.iter().map(audit_entry).collect()
}

/// Writes an entry at the record's end, in the transaction of the change it records.
pub(super) async fn append(
    change: &mut SqliteConnection,
    now: UnixTime,
    act: Act,
) -> Result<(), StoreError> {
    const STEP: &str = "write the audit record";
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
    .map_err(failed(STEP))?;
    sqlx::query(
        "INSERT INTO audit_head (one, length, hash) VALUES (1, ?1, ?2)
         ON CONFLICT (one) DO UPDATE SET length = excluded.length, hash = excluded.hash",
    )
    .bind(seq)
    .bind(entry.hash.as_bytes().to_vec())
    .execute(&mut *change)
    .await
    .map_err(failed(STEP))?;
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

fn audit_entry(row: &sqlx::sqlite::SqliteRow) -> Result<Entry, StoreError> {
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
