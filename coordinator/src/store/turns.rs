//! The table of what was answered to requests that are to be done once, by their idempotency keys.

use proto::id::Digest;
use proto::statement::UnixTime;

use super::columns::{column, digest, failed, number, stored_time};
use super::{Store, StoreError};
use crate::token::TokenId;

/// How long an answer is kept, in seconds.
const KEPT_S: u64 = 86_400;
/// Requests of one token or session that are remembered at most; its oldest give way, and nobody else's:
/// what is forgotten would be done once more.
const TURNS_MAX: i64 = 1_000;

/// A request that is to be done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The token or session it came with.
    pub who: TokenId,
    /// Its idempotency key.
    pub key: String,
    /// Of all that was asked.
    pub fingerprint: Digest,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Of HTTP.
    pub status: u16,
    pub body: Vec<u8>,
}

/// What a request finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turned {
    /// It is to be done, and to be ended or forgotten then.
    First,
    Answered(Answered),
    /// It was begun, and nothing more is known.
    UnderWay,
    /// Its key is another request's.
    Other,
}

impl Store {
    /// Begins a request, unless its key was used in the last day.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it was not begun.
    pub async fn turn_begin(&self, turn: &Turn, now: UnixTime) -> Result<Turned, StoreError> {
        const STEP: &str = "begin a request";
        let mut change = self.change(STEP).await?;
        sqlx::query(
            "DELETE FROM turns WHERE at <= ?1 OR number IN
             (SELECT number FROM turns WHERE who = ?3 ORDER BY number DESC LIMIT -1 OFFSET ?2)",
        )
        .bind(stored_time(UnixTime(now.0.saturating_sub(KEPT_S))))
        .bind(TURNS_MAX - 1)
        .bind(turn.who.to_string())
        .execute(&mut *change)
        .await
        .map_err(failed(STEP))?;
        let held = sqlx::query("SELECT * FROM turns WHERE who = ?1 AND key = ?2")
            .bind(turn.who.to_string())
            .bind(&turn.key)
            .fetch_optional(&mut *change)
            .await
            .map_err(failed(STEP))?;
        if let Some(row) = held {
            if digest(&row, "fingerprint")? != turn.fingerprint {
                return Ok(Turned::Other);
            }
            let body: Option<Vec<u8>> = column(&row, "body")?;
            return Ok(match body {
                Some(body) => Turned::Answered(Answered { status: number(&row, "status")?, body }),
                None => Turned::UnderWay,
            });
        }
        sqlx::query("INSERT INTO turns (who, key, fingerprint, at) VALUES (?1, ?2, ?3, ?4)")
            .bind(turn.who.to_string())
            .bind(&turn.key)
            .bind(turn.fingerprint.as_bytes().to_vec())
            .bind(stored_time(now))
            .execute(&mut *change)
            .await
            .map_err(failed(STEP))?;
        change.commit().await.map_err(failed(STEP))?;
        Ok(Turned::First)
    }

    /// Keeps what came of a request.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it stays under way.
    pub async fn turn_end(&self, turn: &Turn, kept: &Answered) -> Result<(), StoreError> {
        sqlx::query("UPDATE turns SET status = ?3, body = ?4 WHERE who = ?1 AND key = ?2")
            .bind(turn.who.to_string())
            .bind(&turn.key)
            .bind(i64::from(kept.status))
            .bind(&kept.body)
            .execute(&self.writer)
            .await
            .map_err(failed("keep an answer"))?;
        Ok(())
    }

    /// Forgets a request of which nothing came: it may be made again.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it stays under way.
    pub async fn turn_forget(&self, turn: &Turn) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM turns WHERE who = ?1 AND key = ?2")
            .bind(turn.who.to_string())
            .bind(&turn.key)
            .execute(&self.writer)
            .await
            .map_err(failed("forget a request"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(who: u8, key: &str, what: &str) -> Turn {
        Turn {
            who: TokenId::from_bytes([who; 8]),
            key: key.to_owned(),
            fingerprint: Digest::of(what.as_bytes()),
        }
    }

    #[tokio::test]
    async fn a_request_is_done_once_and_its_answer_kept_for_a_day() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let store = Store::open(&path).await.unwrap();
        let one = turn(1, "k", "pause");
        let kept = Answered { status: 409, body: b"no".to_vec() };
        assert_eq!(store.turn_begin(&one, UnixTime(100_000)).await.unwrap(), Turned::First);
        assert_eq!(store.turn_begin(&one, UnixTime(100_000)).await.unwrap(), Turned::UnderWay);
        store.turn_end(&one, &kept).await.unwrap();
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        let begin = async |turn, now| store.turn_begin(&turn, UnixTime(now)).await.unwrap();
        assert_eq!(begin(one.clone(), 186_399).await, Turned::Answered(kept));
        assert_eq!(begin(turn(1, "k", "abort"), 186_399).await, Turned::Other);
        assert_eq!(begin(turn(2, "k", "abort"), 186_399).await, Turned::First, "another asker");
        store.turn_forget(&turn(2, "k", "abort")).await.unwrap();
        assert_eq!(begin(turn(2, "k", "pause"), 186_399).await, Turned::First, "forgotten");
        assert_eq!(begin(one, 186_400).await, Turned::First, "a day later");
    }

    #[tokio::test]
    async fn there_is_an_end_to_how_many_are_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db")).await.unwrap();
        let (own, other) = (turn(1, "new", ""), turn(2, "new", ""));
        for who in [&own.who, &other.who] {
            sqlx::query(
                "WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up WHERE n < 1000)
                 INSERT INTO turns (who, key, fingerprint, at) SELECT ?1, n, x'', 100 FROM up",
            )
            .bind(who.to_string())
            .execute(&store.writer)
            .await
            .unwrap();
        }
        store.turn_begin(&own, UnixTime(100)).await.unwrap();
        let keys = async |who: TokenId| -> Vec<String> {
            sqlx::query_scalar("SELECT key FROM turns WHERE who = ?1 ORDER BY number")
                .bind(who.to_string())
                .fetch_all(&store.pool)
                .await
                .unwrap()
        };
        let own = keys(own.who).await;
        assert_eq!((own.len(), own[0].as_str(), own[999].as_str()), (1_000, "2", "new"));
        let other = keys(other.who).await;
        assert_eq!((other.len(), other[0].as_str()), (1_000, "1"), "nobody else's");
    }
}
