//! The tables of notifications: how far each receiver has come, and what waits for it.
//!
//! What is to be sent is here before it is sent, and until it was: a coordinator that dies in between
//! sends it once more, under the same id.

use proto::UnixTime;
use proto::id::Name;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{QueryBuilder, Sqlite};

use super::columns::{column, failed, number, stored, stored_time, text};
use super::events::numbered;
use super::{Store, StoreError};
use crate::events::Numbered;
use crate::notify::queue::Delivery;

/// A change of the tables, not made yet.
type Change<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// How far a receiver has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Number of the last event that was taken for it, or passed over.
    pub cursor: u64,
    /// What waits, in order, and when each is to be tried; [`Delivery::due_ms`] and
    /// [`Delivery::until_ms`] are 0.
    pub waiting: Vec<(Delivery, UnixTime)>,
}

/// What is told of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    pub name: Name,
    /// Deliveries.
    pub waiting: u64,
    pub delivered: u64,
    pub dropped: u64,
    /// When the last one was delivered.
    pub last: Option<UnixTime>,
    /// Why the newest attempt failed; none: it did not.
    pub fault: Option<String>,
    /// When one that has failed is tried again.
    pub next_try: Option<UnixTime>,
}

impl Store {
    /// From now on these receivers are told, by name and kind, and no other: what waited for others is
    /// forgotten, and one that is new, or is of another kind than before, begins with the next event.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: all is as before.
    pub async fn receivers_set(&self, receivers: &[(Name, &str)]) -> Result<(), StoreError> {
        const STEP: &str = "keep the receivers";
        let mut change = self.change(STEP).await?;
        let known: Vec<SqliteRow> = sqlx::query("SELECT name, kind FROM receivers")
            .fetch_all(&mut *change)
            .await
            .map_err(failed(STEP))?;
        for row in &known {
            let (name, kind): (Name, String) = (text(row, "name")?, column(row, "kind")?);
            if !receivers.contains(&(name.clone(), kind.as_str())) {
                sqlx::query("DELETE FROM receivers WHERE name = ?1")
                    .bind(name.as_str())
                    .execute(&mut *change)
                    .await
                    .map_err(failed(STEP))?;
            }
        }
        for (name, kind) in receivers {
            sqlx::query(
                "INSERT INTO receivers (name, kind, cursor)
                 SELECT ?1, ?2, COALESCE(MAX(seq), 0) FROM events WHERE TRUE
                 ON CONFLICT (name) DO NOTHING",
            )
            .bind(name.as_str())
            .bind(*kind)
            .execute(&mut *change)
            .await
            .map_err(failed(STEP))?;
        }
        change.commit().await.map_err(failed(STEP))
    }

    /// How far a receiver has come.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn receiver_progress(&self, name: &Name) -> Result<Progress, StoreError> {
        const STEP: &str = "read what waits for a receiver";
        let row = sqlx::query("SELECT cursor FROM receivers WHERE name = ?1")
            .bind(name.as_str())
            .fetch_one(&self.pool)
            .await
            .map_err(failed(STEP))?;
        let waiting = sqlx::query("SELECT * FROM deliveries WHERE receiver = ?1 ORDER BY first")
            .bind(name.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(failed(STEP))?;
        let waiting = waiting.iter().map(delivery).collect::<Result<_, _>>()?;
        Ok(Progress { cursor: number(&row, "cursor")?, waiting })
    }

    /// Notes how far a receiver has come, with the deliveries that have changed by it, or are new.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was noted.
    pub async fn receiver_take(
        &self,
        name: &Name,
        cursor: u64,
        changed: &[&Delivery],
    ) -> Result<(), StoreError> {
        const STEP: &str = "keep what waits for a receiver";
        let mut change = self.change(STEP).await?;
        for delivery in changed {
            let Delivery { id, lane, events, newest, attempts, due_ms: _, until_ms: _ } = delivery;
            sqlx::query(
                "INSERT INTO deliveries (id, receiver, lane, first, events, newest, attempts, next_try)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)
                 ON CONFLICT (id) DO UPDATE SET events = excluded.events, newest = excluded.newest",
            )
            .bind(id)
            .bind(name.as_str())
            .bind(lane)
            .bind(stored(events.first().copied().unwrap_or_default()))
            .bind(serde_json::to_string(events).expect("numbers serialize"))
            .bind(stored_time(*newest))
            .bind(i64::from(*attempts))
            .execute(&mut *change)
            .await
            .map_err(failed(STEP))?;
        }
        sqlx::query("UPDATE receivers SET cursor = ?2 WHERE name = ?1")
            .bind(name.as_str())
            .bind(stored(cursor))
            .execute(&mut *change)
            .await
            .map_err(failed(STEP))?;
        change.commit().await.map_err(failed(STEP))
    }

    /// Notes that an attempt begins.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was noted, as of all below.
    pub async fn delivery_begun(&self, id: &str, attempts: u32) -> Result<(), StoreError> {
        let begun = sqlx::query("UPDATE deliveries SET attempts = ?2 WHERE id = ?1");
        self.note("note an attempt", [begun.bind(id).bind(i64::from(attempts))]).await
    }

    /// Notes that a delivery was taken; it waits no more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delivery_done(
        &self,
        receiver: &Name,
        id: &str,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let tally = sqlx::query(
            "UPDATE receivers SET delivered = delivered + 1, last = ?2, fault = NULL WHERE name = ?1",
        );
        let tally = tally.bind(receiver.as_str()).bind(stored_time(now));
        self.note("note what was delivered", [ended(id), tally]).await
    }

    /// Notes that an attempt failed and when the next one is.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delivery_failed(
        &self,
        receiver: &Name,
        id: &str,
        next_try: UnixTime,
        why: &str,
    ) -> Result<(), StoreError> {
        let again = sqlx::query("UPDATE deliveries SET next_try = ?2 WHERE id = ?1");
        let again = again.bind(id).bind(stored_time(next_try));
        let tally = sqlx::query("UPDATE receivers SET fault = ?2 WHERE name = ?1");
        let tally = tally.bind(receiver.as_str()).bind(why);
        self.note("note what was not delivered", [again, tally]).await
    }

    /// Notes that a delivery is given up; it waits no more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn delivery_dropped(
        &self,
        receiver: &Name,
        id: &str,
        why: &str,
    ) -> Result<(), StoreError> {
        let tally =
            sqlx::query("UPDATE receivers SET dropped = dropped + 1, fault = ?2 WHERE name = ?1");
        let tally = tally.bind(receiver.as_str()).bind(why);
        self.note("note what was dropped", [ended(id), tally]).await
    }

    /// Several changes as one.
    async fn note<'q>(
        &self,
        step: &'static str,
        changes: impl IntoIterator<Item = Change<'q>>,
    ) -> Result<(), StoreError> {
        let mut change = self.change(step).await?;
        for one in changes {
            one.execute(&mut *change).await.map_err(failed(step))?;
        }
        change.commit().await.map_err(failed(step))
    }

    /// All receivers, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn receivers(&self) -> Result<Vec<Tally>, StoreError> {
        let rows = sqlx::query(
            "SELECT receivers.name, delivered, dropped, last, fault, COUNT(deliveries.id) AS waiting,
                    MIN(CASE WHEN next_try > 0 THEN next_try END) AS next_try
             FROM receivers LEFT JOIN deliveries ON receiver = name
             GROUP BY name ORDER BY name",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read the receivers"))?;
        rows.iter().map(tally).collect()
    }

    /// The events with these numbers that are there, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn events_of(&self, numbers: &[u64]) -> Result<Vec<Numbered>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM events WHERE seq IN (");
        let mut list = query.separated(", ");
        for seq in numbers {
            list.push_bind(stored(*seq));
        }
        query.push(") ORDER BY seq");
        let rows = query.build().fetch_all(&self.pool).await.map_err(failed("read events"))?;
        rows.iter().map(numbered).collect()
    }
}

/// That a delivery waits no more.
fn ended(id: &str) -> Change<'_> {
    sqlx::query("DELETE FROM deliveries WHERE id = ?1").bind(id)
}

fn delivery(row: &SqliteRow) -> Result<(Delivery, UnixTime), StoreError> {
    let events: String = column(row, "events")?;
    let events = serde_json::from_str(&events)
        .map_err(|error| StoreError::Corrupt { what: "events", why: error.to_string() })?;
    let delivery = Delivery {
        id: column(row, "id")?,
        lane: column(row, "lane")?,
        events,
        newest: UnixTime(number(row, "newest")?),
        attempts: number(row, "attempts")?,
        due_ms: 0,
        until_ms: 0,
    };
    Ok((delivery, UnixTime(number(row, "next_try")?)))
}

fn tally(row: &SqliteRow) -> Result<Tally, StoreError> {
    let time = |name| -> Result<Option<UnixTime>, StoreError> {
        let stored: Option<i64> = column(row, name)?;
        Ok(stored.map(|seconds| UnixTime(u64::try_from(seconds).unwrap_or_default())))
    };
    Ok(Tally {
        name: text(row, "name")?,
        waiting: number(row, "waiting")?,
        delivered: number(row, "delivered")?,
        dropped: number(row, "dropped")?,
        last: time("last")?,
        fault: column(row, "fault")?,
        next_try: time("next_try")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Event, Kind};

    fn event(number: u64) -> Event {
        Event {
            at: UnixTime(number),
            kind: Kind::HostLost,
            service: None,
            env: None,
            rollout: None,
            host: None,
            text: format!("host {number} is lost"),
            detail: serde_json::json!({}),
        }
    }

    fn delivery(id: &str, events: &[u64]) -> Delivery {
        let newest = UnixTime(*events.last().unwrap());
        let (id, events) = (id.to_owned(), events.to_vec());
        Delivery {
            id,
            lane: "lane".to_owned(),
            events,
            newest,
            attempts: 0,
            due_ms: 0,
            until_ms: 0,
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_receiver_begins_with_what_comes_next_and_is_forgotten_with_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db")).await.unwrap();
        store.receivers_set(&[(name("a"), "slack")]).await.unwrap();
        assert_eq!(store.receiver_progress(&name("a")).await.unwrap().cursor, 0);
        store.events_keep(&[event(1), event(2)]).await.unwrap();
        store.receiver_take(&name("a"), 1, &[&delivery("x", &[1])]).await.unwrap();
        let both = [(name("a"), "slack"), (name("b"), "webhook")];
        store.receivers_set(&both).await.unwrap();
        assert_eq!(store.receiver_progress(&name("b")).await.unwrap().cursor, 2, "no history");
        let a = store.receiver_progress(&name("a")).await.unwrap();
        assert_eq!((a.cursor, a.waiting.len()), (1, 1), "one that stays goes on where it was");
        store.receivers_set(&[(name("a"), "webhook")]).await.unwrap();
        let a = store.receiver_progress(&name("a")).await.unwrap();
        assert_eq!((a.cursor, a.waiting.len()), (2, 0), "another kind is another receiver");
        assert_eq!(store.receivers().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_waits_is_kept_until_it_is_settled() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db")).await.unwrap();
        let a = name("a");
        store.receivers_set(&[(a.clone(), "slack")]).await.unwrap();
        store.events_keep(&[event(1), event(2), event(3)]).await.unwrap();
        let (x, y) = (delivery("x", &[1]), delivery("y", &[2]));
        store.receiver_take(&a, 2, &[&x, &y]).await.unwrap();
        let grown = delivery("y", &[2, 3]);
        store.receiver_take(&a, 3, &[&grown]).await.unwrap();
        store.delivery_begun("y", 1).await.unwrap();
        store.delivery_failed(&a, "y", UnixTime(99), "it is down").await.unwrap();
        let progress = store.receiver_progress(&a).await.unwrap();
        let tried = Delivery { attempts: 1, ..grown };
        assert_eq!(progress.waiting, [(x, UnixTime(0)), (tried, UnixTime(99))]);
        let told = store.receivers().await.unwrap();
        let failing = Tally {
            name: a.clone(),
            waiting: 2,
            delivered: 0,
            dropped: 0,
            last: None,
            fault: Some("it is down".to_owned()),
            next_try: Some(UnixTime(99)),
        };
        assert_eq!(told, [failing]);
        store.delivery_dropped(&a, "x", "404").await.unwrap();
        store.delivery_done(&a, "y", UnixTime(100)).await.unwrap();
        let told = store.receivers().await.unwrap().remove(0);
        assert_eq!((told.waiting, told.delivered, told.dropped), (0, 1, 1));
        assert_eq!((told.last, told.fault, told.next_try), (Some(UnixTime(100)), None, None));
        let events = store.events_of(&[3, 1, 9]).await.unwrap();
        assert_eq!(events.iter().map(|one| one.seq).collect::<Vec<_>>(), [1, 3]);
    }
}
