//! What the fleet gave back to a coordinator that had lost its database, written at once.

use proto::UnixTime;
use proto::id::Digest;
use proto::statement::{Host, Release};
use sqlx::SqliteConnection;

use super::columns::{failed, stored_time};
use super::record::append;
use super::{Store, StoreError};
use crate::audit::Act;

const STEP: &str = "keep what was recovered";

/// Statements of the fleet that the database knows, too, each with its envelope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The newest statement of each host.
    pub hosts: Vec<(Host, Vec<u8>)>,
    pub releases: Vec<(Digest, Release, Vec<u8>)>,
}

impl Store {
    /// Fills an empty database with what the fleet remembers, and says so in the audit record. Tokens
    /// it does not remember: hosts stand here without theirs, and none is good any more.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was written; for one, the database is not empty.
    pub async fn recover(
        &self,
        recovered: &Recovered,
        act: Act,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let mut change = self.change(STEP).await?;
        for (host, envelope) in &recovered.hosts {
            insert_host(&mut change, host, envelope).await?;
        }
        for (id, release, envelope) in &recovered.releases {
            insert_release(&mut change, *id, release, envelope).await?;
        }
        append(&mut change, now, act).await?;
        change.commit().await.map_err(failed(STEP))
    }
}

async fn insert_host(
    change: &mut SqliteConnection,
    host: &Host,
    envelope: &[u8],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO hosts (id, key, name, envelope, issued, token)
         VALUES (?1, ?2, ?3, ?4, ?5, NULL)",
    )
    .bind(host.id.as_str())
    .bind(host.key.as_bytes().to_vec())
    .bind(host.name.as_str())
    .bind(envelope)
    .bind(stored_time(host.issued))
    .execute(change)
    .await
    .map_err(failed(STEP))?;
    Ok(())
}

async fn insert_release(
    change: &mut SqliteConnection,
    id: Digest,
    release: &Release,
    envelope: &[u8],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO releases (service, version, id, envelope, at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(release.service.as_str())
    .bind(release.version.as_str())
    .bind(format!("{id:#}"))
    .bind(envelope)
    // When it was admitted is lost; this is when its publisher made it.
    .bind(stored_time(release.created))
    .execute(change)
    .await
    .map_err(failed(STEP))?;
    Ok(())
}
