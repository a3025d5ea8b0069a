//! The table of links, sessions and tokens: each is kept as the hash of its secret.

use proto::access::{AccessKind, AccessRole};
use proto::id::{KeyId, Name};
use proto::statement::UnixTime;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::columns::{column, digest, failed, number, stored, stored_time, text};
use super::record::append;
use super::{Store, StoreError};
use crate::access::{Access, Credential};
use crate::audit::Act;
use crate::token::{Secret, TokenId};

/// Links, sessions and tokens of one key that are good at a time; its oldest give way. Nobody's take the
/// place of another key's: a stolen one signs nobody else out.
const PER_KEY_MAX: i64 = 64;
/// Of these, those that may have been made within an hour: each leaves an entry in the record.
const PER_HOUR_MAX: i64 = 60;
const HOUR_S: u64 = 3_600;

impl Store {
    /// Keeps a new link or token, and clears away what has expired; false: its key has made too many
    /// within the hour.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn access_create(
        &self,
        access: &Access,
        secret: &Secret,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        const STEP: &str = "keep who may enter";
        let mut change = self.change(STEP).await?;
        let recent: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM access WHERE key = ?1 AND created > ?2")
                .bind(access.key.as_str())
                .bind(stored_time(UnixTime(now.0.saturating_sub(HOUR_S))))
                .fetch_one(&mut *change)
                .await
                .map_err(failed(STEP))?;
        if recent >= PER_HOUR_MAX {
            return Ok(false);
        }
        trim(&mut change, &access.key, now).await?;
        insert(&mut change, access, secret).await?;
        append(&mut change, now, given(access)).await?;
        change.commit().await.map_err(failed(STEP))?;
        Ok(true)
    }

    /// What this credential is good for; none: nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn access_of(
        &self,
        credential: &Credential,
        kind: AccessKind,
        now: UnixTime,
    ) -> Result<Option<Access>, StoreError> {
        let row = sqlx::query("SELECT * FROM access WHERE id = ?1")
            .bind(credential.id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("look up who this is"))?;
        row.map_or(Ok(None), |row| good(&row, credential, kind, now))
    }

    /// Replaces a link by a session, at once; none: it is no link that is good.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was changed.
    pub async fn access_enter(
        &self,
        link: &Credential,
        session: &Credential,
        now: UnixTime,
    ) -> Result<Option<Access>, StoreError> {
        const STEP: &str = "open a session";
        let mut change = self.change(STEP).await?;
        let row = sqlx::query("SELECT * FROM access WHERE id = ?1")
            .bind(link.id.to_string())
            .fetch_optional(&mut *change)
            .await
            .map_err(failed(STEP))?;
        let Some(row) = row else { return Ok(None) };
        let Some(old) = good(&row, link, AccessKind::Link, now)? else { return Ok(None) };
        delete(&mut change, &old.id).await?;
        let new = Access {
            id: session.id,
            kind: AccessKind::Session,
            created: now,
            expires: now.plus_s(old.session_s),
            ..old
        };
        insert(&mut change, &new, &session.secret).await?;
        append(&mut change, now, given(&new)).await?;
        change.commit().await.map_err(failed(STEP))?;
        Ok(Some(new))
    }

    /// Ends one; says whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn access_end(
        &self,
        id: &TokenId,
        by: &Name,
        now: UnixTime,
    ) -> Result<bool, StoreError> {
        const STEP: &str = "end an access";
        let mut change = self.change(STEP).await?;
        if delete(&mut change, id).await? == 0 {
            return Ok(false);
        }
        let act = Act {
            actor: by.to_string(),
            action: "access-end",
            subject: format!("access {id}"),
            detail: serde_json::json!({}),
        };
        append(&mut change, now, act).await?;
        change.commit().await.map_err(failed(STEP))?;
        Ok(true)
    }

    /// All that are good, the newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn access_list(&self, now: UnixTime) -> Result<Vec<Access>, StoreError> {
        let rows = sqlx::query("SELECT * FROM access WHERE expires > ?1 ORDER BY created DESC, id")
            .bind(stored_time(now))
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read who may enter"))?;
        rows.iter().map(access).collect()
    }
}

/// What a row gives to whoever shows this credential.
fn good(
    row: &SqliteRow,
    credential: &Credential,
    kind: AccessKind,
    now: UnixTime,
) -> Result<Option<Access>, StoreError> {
    let right = credential.secret.is(&credential.id, &digest(row, "secret_hash")?);
    let access = access(row)?;
    Ok(Some(access).filter(|access| right && access.kind == kind && now < access.expires))
}

fn given(access: &Access) -> Act {
    let Access { id, kind, role, key, owner, expires, .. } = access;
    Act {
        actor: owner.to_string(),
        action: "access-give",
        subject: format!("access {id}"),
        detail: serde_json::json!({ "kind": kind, "role": role, "key": key, "expires": expires }),
    }
}

/// Makes room for one more of a key, and removes what has expired.
async fn trim(change: &mut SqliteConnection, key: &KeyId, now: UnixTime) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM access WHERE expires <= ?1 OR id IN
         (SELECT id FROM access WHERE key = ?2 ORDER BY created DESC, id LIMIT -1 OFFSET ?3)",
    )
    .bind(stored_time(now))
    .bind(key.as_str())
    .bind(PER_KEY_MAX - 1)
    .execute(change)
    .await
    .map_err(failed("clear away what has expired"))?;
    Ok(())
}

async fn insert(
    change: &mut SqliteConnection,
    access: &Access,
    secret: &Secret,
) -> Result<(), StoreError> {
    let Access { id, kind, role, key, owner, created, expires, session_s } = access;
    sqlx::query(
        "INSERT INTO access (id, kind, secret_hash, role, key, owner, created, expires, session_s)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )
    .bind(id.to_string())
    .bind(kind.name())
    .bind(secret.hash(id).as_bytes().to_vec())
    .bind(role.name())
    .bind(key.as_str())
    .bind(owner.as_str())
    .bind(stored_time(*created))
    .bind(stored_time(*expires))
    .bind(stored(*session_s))
    .execute(change)
    .await
    .map_err(failed("keep who may enter"))?;
    Ok(())
}

async fn delete(change: &mut SqliteConnection, id: &TokenId) -> Result<u64, StoreError> {
    let done = sqlx::query("DELETE FROM access WHERE id = ?1")
        .bind(id.to_string())
        .execute(change)
        .await
        .map_err(failed("end an access"))?;
    Ok(done.rows_affected())
}

fn access(row: &SqliteRow) -> Result<Access, StoreError> {
    let corrupt = |what, why: String| StoreError::Corrupt { what, why };
    let (id, kind, role): (String, String, String) =
        (column(row, "id")?, column(row, "kind")?, column(row, "role")?);
    let unknown = |what: &'static str, got: String| move || corrupt(what, got);
    Ok(Access {
        id: TokenId::parse(&id).ok_or_else(unknown("access id", id))?,
        kind: AccessKind::of(&kind).ok_or_else(unknown("kind of access", kind))?,
        role: AccessRole::of(&role).ok_or_else(unknown("role of access", role))?,
        key: text(row, "key")?,
        owner: text(row, "owner")?,
        created: UnixTime(number(row, "created")?),
        expires: UnixTime(number(row, "expires")?),
        session_s: number(row, "session_s")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(number: u8) -> Credential {
        Credential {
            id: TokenId::from_bytes([number; 8]),
            secret: Secret::from_bytes([number; 16]),
        }
    }

    fn link(number: u8, created: u64) -> Access {
        Access {
            id: credential(number).id,
            kind: AccessKind::Link,
            role: AccessRole::Operator,
            key: "0123456789abcdef".parse().unwrap(),
            owner: "ada".parse().unwrap(),
            created: UnixTime(created),
            expires: UnixTime(created + 600),
            session_s: 3_600,
        }
    }

    async fn store(directory: &tempfile::TempDir) -> Store {
        Store::open(&directory.path().join("db")).await.unwrap()
    }

    #[tokio::test]
    async fn a_link_is_good_once_and_the_session_for_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        let (one, session) = (credential(1), credential(2));
        store.access_create(&link(1, 100), &one.secret, UnixTime(100)).await.unwrap();
        let wrong = Credential { secret: Secret::from_bytes([9; 16]), ..one.clone() };
        let cases = [
            ("another secret", &wrong, 101, false),
            ("too late", &one, 700, false),
            ("in time", &one, 699, true),
            ("once more", &one, 699, false),
        ];
        for (case, link, now, good) in cases {
            let entered = store.access_enter(link, &session, UnixTime(now)).await.unwrap();
            assert_eq!(entered.is_some(), good, "{case}");
        }
        let good = async |kind, now| {
            store.access_of(&session, kind, UnixTime(now)).await.unwrap().is_some()
        };
        assert!(good(AccessKind::Session, 699 + 3_599).await);
        assert!(!good(AccessKind::Session, 699 + 3_600).await);
        assert!(!good(AccessKind::Token, 700).await, "it is no token");
        let by = "ada".parse().unwrap();
        assert!(store.access_end(&session.id, &by, UnixTime(800)).await.unwrap());
        assert!(!store.access_end(&session.id, &by, UnixTime(800)).await.unwrap());
        assert!(!good(AccessKind::Session, 800).await);
        let acts: Vec<_> = { store.audit_after(0, 10).await.unwrap() }
            .into_iter()
            .map(|entry| entry.action)
            .collect();
        assert_eq!(acts, ["access-give", "access-give", "access-end"]);
    }

    #[tokio::test]
    async fn r4_a_key_has_an_end_to_what_it_makes_and_takes_no_place_of_anothers() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        let make = async |number: u8, key: &str, now: u64| {
            let access = Access {
                kind: AccessKind::Token,
                key: key.parse().unwrap(),
                expires: UnixTime(1_000_000),
                ..link(number, now)
            };
            let secret = credential(number).secret;
            store.access_create(&access, &secret, UnixTime(now)).await.unwrap()
        };
        let (own, other) = ("0123456789abcdef", "fedcba9876543210");
        assert!(make(255, other, 10).await);
        for number in 0..60 {
            assert!(make(number, own, 20).await, "{number}");
        }
        assert!(!make(60, own, 20 + HOUR_S - 1).await, "too many within an hour");
        assert!(make(60, other, 21).await, "of its own");
        for number in 100..120 {
            assert!(make(number, own, 20 + HOUR_S).await, "{number}");
        }
        let good = store.access_list(UnixTime(20 + HOUR_S)).await.unwrap();
        let of = |key: &str| good.iter().filter(|access| access.key.as_str() == key).count();
        assert_eq!((of(own), of(other)), (64, 2));
        let newest = |access: &Access| access.id == credential(119).id;
        assert!(good.iter().any(newest), "the oldest give way");
    }

    #[tokio::test]
    async fn what_expired_goes() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        store.access_create(&link(1, 100), &credential(1).secret, UnixTime(100)).await.unwrap();
        store.access_create(&link(2, 900), &credential(2).secret, UnixTime(900)).await.unwrap();
        let rows: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM access").fetch_one(&store.pool).await.unwrap();
        assert_eq!(rows, 1, "the first one had expired");
        assert_eq!(store.access_list(UnixTime(901)).await.unwrap(), [link(2, 900)]);
    }
}
