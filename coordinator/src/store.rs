//! What the coordinator alone must remember: tokens, the hosts it minted, the versions it admitted,
//! and the audit record of it all. The only module with SQL in it.
//!
//! SQLite in WAL mode with full syncs, one writer at a time. Each method is one transaction, and a
//! method that changes something writes its audit entry in the same one (R30). Statements and
//! artifacts are not here: they are the swarm's, and every member keeps those.

mod access;
mod columns;
mod deliveries;
mod events;
mod record;
mod recover;
mod rollouts;
mod samples;
mod tables;
mod turns;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use net::gossip::HOSTS_MAX;
use proto::dsse::Envelope;
use proto::id::{Digest, HostId, Name, Service, Version};
use proto::key::PublicKey;
use proto::statement::UnixTime;
use proto::wire::TokenReport;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Row as _, Sqlite, SqliteConnection, Transaction};
use tokio::sync::watch;

use crate::audit::{Act, AuditFault};
use crate::events::Event;
use crate::token::{Secret, TokenId};
use columns::{column, digest, failed, number, stored_time, text};
use record::append;
use tables::MIGRATIONS;

pub use deliveries::{Progress, Tally};
pub use events::{EVENTS_MAX, EVENTS_PAGE_MAX, Found, TRIM_MAX, Which};
pub use recover::Recovered;
pub use rollouts::{
    Counts, Kept, Outcome, ROLLOUTS_ENDED_MAX, ROLLOUTS_PAGE_MAX, Remembered, RolloutRow,
    RowTarget, ScopeRow,
};
pub use samples::{NewSample, SAMPLES_MAX, Sample, Sampled};
pub use turns::{Answered, Turn, Turned};

/// Longest wait for the database, in seconds, before a request gives up.
const BUSY_TIMEOUT_S: u64 = 10;
/// Connections to the database for those that only read.
const READERS_MAX: u32 = 4;

/// The coordinator's database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    /// For reading.
    pool: SqlitePool,
    /// The one connection that changes anything, of which there can be no more at a time. No reader is in
    /// its queue: a search through years of the record keeps no abort waiting.
    writer: SqlitePool,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
}

/// Why the database did not do something; nothing of it was done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {step}")]
    Database {
        step: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the database has tables of version {got}, this program knows up to {known}")]
    Newer { got: i64, known: usize },
    #[error("the database holds no valid {what}: {why}")]
    Corrupt { what: &'static str, why: String },
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub id: TokenId,
    /// Kept as its hash only.
    pub secret: Secret,
    pub uses: u32,
    pub expires: UnixTime,
    pub labels: BTreeMap<Name, Name>,
    pub created_by: Name,
}

/// A host that wants to join, its proof of key verified already.
#[derive(Debug, Clone)]
pub struct Joiner {
    pub token: TokenId,
    pub secret: Secret,
    pub key: PublicKey,
    pub name: Name,
}

/// A host that may join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its host statement.
    pub envelope: Vec<u8>,
    /// False: it had joined with this token before, and this is the statement of then.
    pub new: bool,
}

/// Why a host may not join; one reason per cause, fit to be shown to the host.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("there is no such token here")]
    Unknown,
    #[error("the token's secret is wrong")]
    Secret,
    #[error("the token was revoked")]
    Revoked,
    #[error("the token expired")]
    Expired,
    #[error("the token is used up")]
    UsedUp,
    #[error("this host's key has joined with another token already: make a new key to join anew")]
    OtherToken,
    #[error("another host has this host's id: make a new key")]
    IdTaken,
    #[error(
        "the fleet has {HOSTS_MAX} hosts, as many as can gossip with each other: remove those that \
         are gone (`swell host remove`), or make a fleet of its own for more"
    )]
    Full,
    #[error("the coordinator cannot do it now")]
    Store(#[from] StoreError),
}

/// A release to be admitted, with what is told of it.
#[derive(Debug, Clone)]
pub struct NewRelease {
    pub service: Service,
    pub version: Version,
    pub id: Digest,
    /// Its statement with all signatures. Kept here too, so that a crash before the statement is in the
    /// ledger leaves no version that is taken and that nobody has.
    pub envelope: Vec<u8>,
    pub act: Act,
    pub event: Event,
}

/// Why a version is not admitted.
#[derive(Debug, thiserror::Error)]
pub enum AdmitError {
    /// R3: a version is one release, for ever.
    #[error("the version is release {held:#} already")]
    Taken { held: Digest },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the audit record does not stand.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("the audit record is not what was written")]
    Fault(#[from] AuditFault),
    #[error(transparent)]
    Store(#[from] StoreError),
}

// --- opening ---

impl Store {
    /// Opens the database at `path`, makes it where there is none, and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the file cannot be opened, or its tables are of a newer version.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(BUSY_TIMEOUT_S));
        let pool = async |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(BUSY_TIMEOUT_S))
                .connect_with(options.clone())
                .await
                .map_err(failed("open the database"))
        };
        let (writer, pool) = (pool(1).await?, pool(READERS_MAX).await?);
        let store = Self { pool, writer, newest: watch::Sender::new(0) };
        store.migrate().await?;
        store.newest.send_replace(store.events_last().await?);
        Ok(store)
    }

    /// Closes the database: what was committed is in the file when this returns.
    pub async fn close(&self) {
        self.pool.close().await;
        self.writer.close().await;
    }

    /// Makes a change that changes nothing: whether the database can be written.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it cannot, or somebody else has held it for too long.
    pub async fn probe(&self) -> Result<(), StoreError> {
        const STEP: &str = "write to the database";
        let mut change = self.change(STEP).await?;
        sqlx::query("UPDATE schema_version SET version = version")
            .execute(&mut *change)
            .await
            .map_err(failed(STEP))?;
        change.commit().await.map_err(failed(STEP))
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        const STEP: &str = "bring the database's tables up to date";
        let mut change = self.change(STEP).await?;
        sqlx::query("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
            .execute(&mut *change)
            .await
            .map_err(failed(STEP))?;
        let version: i64 =
            sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM schema_version")
                .fetch_one(&mut *change)
                .await
                .map_err(failed(STEP))?;
        let done = usize::try_from(version).unwrap_or(usize::MAX);
        let missing = MIGRATIONS
            .get(done..)
            .ok_or(StoreError::Newer { got: version, known: MIGRATIONS.len() })?;
        for (migration, version) in missing.iter().zip(version + 1..) {
            sqlx::raw_sql(*migration).execute(&mut *change).await.map_err(failed(STEP))?;
            sqlx::query("INSERT INTO schema_version (version) VALUES (?1)")
                .bind(version)
                .execute(&mut *change)
                .await
                .map_err(failed(STEP))?;
        }
        change.commit().await.map_err(failed(STEP))
    }

    /// A transaction that holds the write lock from its first statement, so that what it reads is
    /// still so when it writes.
    async fn change(&self, step: &'static str) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed(step))
    }
}

// --- tokens and hosts ---

impl Store {
    /// Keeps a new token.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn token_create(&self, token: &NewToken, now: UnixTime) -> Result<(), StoreError> {
        const STEP: &str = "keep the token";
        let mut change = self.change(STEP).await?;
        sqlx::query(
            "INSERT INTO tokens (id, secret_hash, uses_left, expires, labels, created, created_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(token.id.to_string())
        .bind(token.secret.hash(&token.id).as_bytes().to_vec())
        .bind(i64::from(token.uses))
        .bind(stored_time(token.expires))
        .bind(serde_json::to_string(&token.labels).expect("labels serialize"))
        .bind(stored_time(now))
        .bind(token.created_by.as_str())
        .execute(&mut *change)
        .await
        .map_err(failed(STEP))?;
        let detail = serde_json::json!({
            "uses": token.uses, "expires": token.expires, "labels": token.labels,
        });
        let act = Act {
            actor: token.created_by.to_string(),
            action: "token-create",
            subject: format!("token {}", token.id),
            detail,
        };
        append(&mut change, now, act).await?;
        change.commit().await.map_err(failed(STEP))
    }

    /// All tokens, the newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn tokens(&self) -> Result<Vec<TokenReport>, StoreError> {
        const STEP: &str = "read the tokens";
        let rows = sqlx::query("SELECT * FROM tokens ORDER BY created DESC, id")
            .fetch_all(&self.pool)
            .await
            .map_err(failed(STEP))?;
        rows.iter().map(token_report).collect()
    }

    /// Revokes a token; says whether there is one with that id.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn token_revoke(
        &self,
        id: &TokenId,
        actor: &Name,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        const STEP: &str = "revoke the token";
        let mut change = self.change(STEP).await?;
        let done = sqlx::query("UPDATE tokens SET revoked = TRUE WHERE id = ?1")
            .bind(id.to_string())
            .execute(&mut *change)
            .await
            .map_err(failed(STEP))?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let act = Act {
            actor: actor.to_string(),
            action: "token-revoke",
            subject: format!("token {id}"),
            detail: serde_json::json!({}),
        };
        append(&mut change, now, act).await?;
        change.commit().await.map_err(failed(STEP))?;
        Ok(true)
    }

    /// Uses a token up once for `joiner` and keeps the host statement that `make` signs for the
    /// token's labels, unless it refuses. A host that lost the answer asks again and gets the same statement; the
    /// token is not used twice for it, and may have expired meanwhile.
    ///
    /// # Errors
    ///
    /// [`JoinError`]; nothing was changed then.
    pub async fn join(
        &self,
        joiner: &Joiner,
        now: UnixTime,
        make: impl FnOnce(BTreeMap<Name, Name>) -> Result<Vec<u8>, JoinError>,
    ) -> Result<Joined, JoinError> {
        const STEP: &str = "use the token";
        let mut change = self.change(STEP).await?;
        let row = sqlx::query("SELECT * FROM tokens WHERE id = ?1")
            .bind(joiner.token.to_string())
            .fetch_optional(&mut *change)
            .await
            .map_err(failed(STEP))?
            .ok_or(JoinError::Unknown)?;
        let secret_hash = digest(&row, "secret_hash")?;
        if !joiner.secret.is(&joiner.token, &secret_hash) {
            return Err(JoinError::Secret);
        }
        let token = token_report(&row)?;
        if token.revoked {
            return Err(JoinError::Revoked);
        }
        if let Some(envelope) = joined_before(&mut change, joiner).await? {
            return Ok(Joined { envelope, new: false });
        }
        if now >= token.expires {
            return Err(JoinError::Expired);
        }
        if token.uses_left == 0 {
            return Err(JoinError::UsedUp);
        }
        let envelope = make(token.labels.into_iter().collect())?;
        insert_host(&mut change, joiner, &envelope, now).await?;
        change.commit().await.map_err(failed(STEP))?;
        Ok(Joined { envelope, new: true })
    }

    /// The statements of all hosts that ever joined.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn hosts(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        sqlx::query_scalar("SELECT envelope FROM hosts ORDER BY issued, id")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read the hosts"))
    }

    /// Whether this is the statement of a host that was minted here.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn is_minted(&self, host: &HostId, statement: &Digest) -> Result<bool, StoreError> {
        let envelope: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT envelope FROM hosts WHERE id = ?1")
                .bind(host.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("look for the host"))?;
        let envelope = envelope.and_then(|stored| Envelope::parse(&stored, usize::MAX).ok());
        Ok(envelope.is_some_and(|envelope| envelope.id() == *statement))
    }
}

/// The statement this host got with this token before, if it did.
async fn joined_before(
    change: &mut SqliteConnection,
    joiner: &Joiner,
) -> Result<Option<Vec<u8>>, JoinError> {
    const STEP: &str = "look for the host";
    let held = sqlx::query("SELECT key, token, envelope FROM hosts WHERE id = ?1")
        .bind(HostId::of(&joiner.key).as_str())
        .fetch_optional(change)
        .await
        .map_err(failed(STEP))?;
    let Some(held) = held else { return Ok(None) };
    let key: Vec<u8> = held.try_get("key").map_err(failed(STEP))?;
    let token: Option<String> = held.try_get("token").map_err(failed(STEP))?;
    if key != joiner.key.as_bytes() {
        return Err(JoinError::IdTaken);
    }
    if token != Some(joiner.token.to_string()) {
        return Err(JoinError::OtherToken);
    }
    Ok(Some(held.try_get("envelope").map_err(failed(STEP))?))
}

async fn insert_host(
    change: &mut SqliteConnection,
    joiner: &Joiner,
    envelope: &[u8],
    now: UnixTime,
) -> Result<(), StoreError> {
    const STEP: &str = "keep the host";
    let Joiner { token, secret: _, key, name } = joiner;
    let id = HostId::of(key);
    sqlx::query("UPDATE tokens SET uses_left = uses_left - 1 WHERE id = ?1")
        .bind(token.to_string())
        .execute(&mut *change)
        .await
        .map_err(failed(STEP))?;
    sqlx::query(
        "INSERT INTO hosts (id, key, name, envelope, issued, token)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(id.as_str())
    .bind(key.as_bytes().to_vec())
    .bind(name.as_str())
    .bind(envelope)
    .bind(stored_time(now))
    .bind(token.to_string())
    .execute(&mut *change)
    .await
    .map_err(failed(STEP))?;
    let act = Act {
        actor: format!("token {token}"),
        action: "host-join",
        subject: format!("host {id}"),
        detail: serde_json::json!({ "name": name, "key": key }),
    };
    append(change, now, act).await
}

fn token_report(row: &SqliteRow) -> Result<TokenReport, StoreError> {
    let labels: String = column(row, "labels")?;
    let labels: BTreeMap<Name, Name> = serde_json::from_str(&labels)
        .map_err(|error| StoreError::Corrupt { what: "labels", why: error.to_string() })?;
    Ok(TokenReport {
        token: column(row, "id")?,
        uses_left: number(row, "uses_left")?,
        expires: UnixTime(number(row, "expires")?),
        revoked: column(row, "revoked")?,
        labels: labels.into_iter().collect(),
        created_by: text(row, "created_by")?,
    })
}

// --- releases ---

impl Store {
    /// Ties a version of a service to a release, for ever; says whether that is new.
    ///
    /// # Errors
    ///
    /// [`AdmitError`]: the version is another release already, or the database failed.
    pub async fn release_admit(
        &self,
        release: NewRelease,
        now: UnixTime,
    ) -> Result<bool, AdmitError> {
        const STEP: &str = "keep the release";
        let NewRelease { service, version, id, envelope, act, event } = release;
        let mut change = self.change(STEP).await?;
        match release_of(&mut *change, &service, &version).await? {
            Some(held) if held == id => return Ok(false),
            Some(held) => return Err(AdmitError::Taken { held }),
            None => {}
        }
        sqlx::query(
            "INSERT INTO releases (service, version, id, envelope, at) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(service.as_str())
        .bind(version.as_str())
        .bind(format!("{id:#}"))
        .bind(envelope)
        .bind(stored_time(now))
        .execute(&mut *change)
        .await
        .map_err(failed(STEP))?;
        append(&mut change, now, act).await?;
        let newest = events::append(&mut change, &[event]).await?;
        change.commit().await.map_err(failed(STEP))?;
        self.tell_newest(newest);
        Ok(true)
    }

    /// The release a version is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn release_of(
        &self,
        service: &Service,
        version: &Version,
    ) -> Result<Option<Digest>, StoreError> {
        release_of(&self.pool, service, version).await
    }

    /// The envelopes of all releases, in the order of their admission.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn releases(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        sqlx::query_scalar("SELECT envelope FROM releases ORDER BY at, id")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read the releases"))
    }

    /// Versions of all services together.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn release_count(&self) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS count FROM releases")
            .fetch_one(&self.pool)
            .await
            .map_err(failed("count the releases"))?;
        number(&row, "count")
    }
}

async fn release_of(
    database: impl sqlx::Executor<'_, Database = Sqlite>,
    service: &Service,
    version: &Version,
) -> Result<Option<Digest>, StoreError> {
    let row = sqlx::query("SELECT id FROM releases WHERE service = ?1 AND version = ?2")
        .bind(service.as_str())
        .bind(version.as_str())
        .fetch_optional(database)
        .await
        .map_err(failed("look for the release"))?;
    row.map(|row| text(&row, "id")).transpose()
}
