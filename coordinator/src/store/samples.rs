//! How the hosts of a rollout stood while it went on: what progress is drawn from.
//!
//! Each sample of a rollout has a number that is a multiple of a stride. Once there are [`SAMPLES_MAX`],
//! the stride doubles, and what does not fit it any more goes: however long a rollout takes, its samples
//! cover all of it evenly enough, and have an end.

use proto::id::Digest;
use proto::report::{CountedReport, LatencyReport};
use proto::statement::UnixTime;
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::columns::{column, failed, number, stored, stored_time};
use super::{Counts, Store, StoreError};

/// Samples of one rollout at most.
pub const SAMPLES_MAX: u32 = 2_000;

/// How a rollout stood at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub at: UnixTime,
    pub sampled: Sampled,
}

/// What is sampled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    #[serde(flatten)]
    pub counts: Counts,
    /// What hosts on the new release say that they counted over the last window; bad are errors. None:
    /// requests are not counted there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<CountedReport>,
    /// The same of hosts on the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<CountedReport>,
    /// How long answers took, on either.
    #[serde(flatten)]
    pub latency: LatencyReport,
}

/// A sample to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSample {
    /// Greater than all before it.
    pub n: u64,
    /// Samples whose number is no multiple of it go; none: all stay.
    pub thin: Option<u64>,
    pub at: UnixTime,
    pub sampled: Sampled,
}

pub(super) const OF_ROLLOUT: &str = "
    SELECT at, counts FROM samples
    WHERE rollout = (SELECT seq FROM rollouts WHERE id = ?1) ORDER BY n LIMIT ?2";
pub(super) const OLDEST: &str =
    "SELECT seq FROM rollouts WHERE sampled AND ended < ?1 ORDER BY ended LIMIT 1";

impl Store {
    /// The samples of a rollout, in order: [`SAMPLES_MAX`] at most.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn samples(&self, rollout: &Digest) -> Result<Vec<Sample>, StoreError> {
        let rows = sqlx::query(OF_ROLLOUT)
            .bind(format!("{rollout:#}"))
            .bind(i64::from(SAMPLES_MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read samples"))?;
        let sample = |row| {
            let counts: String = column(row, "counts")?;
            let sampled = serde_json::from_str(&counts)
                .map_err(|error| StoreError::Corrupt { what: "sample", why: error.to_string() })?;
            Ok(Sample { at: UnixTime(number(row, "at")?), sampled })
        };
        rows.iter().map(sample).collect()
    }

    /// Removes the samples of the one rollout that ended longest ago, if that was before `oldest`; says
    /// whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was removed.
    pub async fn samples_trim(&self, oldest: UnixTime) -> Result<bool, StoreError> {
        const STEP: &str = "remove old samples";
        let mut change = self.change(STEP).await?;
        let found: Option<i64> = sqlx::query_scalar(OLDEST)
            .bind(stored_time(oldest))
            .fetch_optional(&mut *change)
            .await
            .map_err(failed(STEP))?;
        let Some(rollout) = found else { return Ok(false) };
        for query in [
            "DELETE FROM samples WHERE rollout = ?1",
            "UPDATE rollouts SET sampled = FALSE WHERE seq = ?1",
        ] {
            sqlx::query(query).bind(rollout).execute(&mut *change).await.map_err(failed(STEP))?;
        }
        change.commit().await.map_err(failed(STEP))?;
        Ok(true)
    }
}

/// Keeps a sample of a rollout that has a row, in the transaction of that row.
pub(super) async fn append(
    change: &mut SqliteConnection,
    rollout: &Digest,
    sample: &NewSample,
) -> Result<(), StoreError> {
    const STEP: &str = "keep a sample";
    let NewSample { n, thin, at, sampled } = sample;
    let id = format!("{rollout:#}");
    if let Some(stride) = thin {
        sqlx::query(
            "DELETE FROM samples
             WHERE rollout = (SELECT seq FROM rollouts WHERE id = ?1) AND n % ?2 <> 0",
        )
        .bind(&id)
        .bind(stored(*stride))
        .execute(&mut *change)
        .await
        .map_err(failed(STEP))?;
    }
    sqlx::query(
        "INSERT INTO samples (rollout, n, at, counts)
         SELECT seq, ?2, ?3, ?4 FROM rollouts WHERE id = ?1",
    )
    .bind(&id)
    .bind(stored(*n))
    .bind(stored_time(*at))
    .bind(serde_json::to_string(sampled).expect("samples serialize"))
    .execute(&mut *change)
    .await
    .map_err(failed(STEP))?;
    Ok(())
}
