//! The table of events: written at the end, read in order or from the newest back.

use proto::id::{Digest, Env, HostId, Service};
use proto::statement::UnixTime;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use tokio::sync::watch;

use super::columns::{column, failed, number, stored, stored_time, text};
use super::{Store, StoreError};
use crate::events::{Event, Kind, Numbered};

/// Events that one read gives at most.
pub const EVENTS_PAGE_MAX: u32 = 1_000;

/// Events kept at most.
pub const EVENTS_MAX: u64 = 1_000_000;
/// Events that are looked at for one page: what bounds its time, whatever is looked for.
const LOOKED_AT_MAX: i64 = 20_000;
/// Events that one step of trimming removes at most: nobody waits for the database for long.
pub const TRIM_MAX: u32 = 500;

const READ: &str = "read events";
const AFTER: &str = "SELECT * FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const TRIM: &str = "
    DELETE FROM events WHERE seq IN (
        SELECT seq FROM (SELECT seq, at FROM events ORDER BY seq LIMIT ?1)
        WHERE at < ?2 OR seq <= ?3
    )";

/// Which events to read; what is none fits any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    pub service: Option<Service>,
    pub env: Option<Env>,
    pub rollout: Option<Digest>,
    pub host: Option<HostId>,
    pub kind: Option<Kind>,
    /// Not before this time.
    pub since: Option<UnixTime>,
}

/// A page of events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The newest first.
    pub events: Vec<Numbered>,
    /// The next page comes before this number, and may be empty and still not the last: a page is what is
    /// found in a bounded time. None: this was the last one.
    pub next: Option<u64>,
}

impl Store {
    /// Keeps events, in their order; gives the number of the last one, or of the last before them.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: none was kept.
    pub async fn events_keep(&self, events: &[Event]) -> Result<u64, StoreError> {
        const STEP: &str = "keep events";
        let mut change = self.change(STEP).await?;
        let last = append(&mut change, events).await?;
        change.commit().await.map_err(failed(STEP))?;
        self.tell_newest(last);
        Ok(last)
    }

    /// The number of the newest event, told anew whenever one was kept.
    pub fn events_newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    pub(super) fn tell_newest(&self, seq: u64) {
        // Those who keep events commit in order, and may come here in another one.
        self.newest.send_if_modified(|newest| {
            let newer = seq > *newest;
            *newest = seq.max(*newest);
            newer
        });
    }

    /// Up to `limit` events that come after number `seq`, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn events_after(&self, seq: u64, limit: u32) -> Result<Vec<Numbered>, StoreError> {
        let rows = sqlx::query(AFTER)
            .bind(stored(seq))
            .bind(i64::from(limit.min(EVENTS_PAGE_MAX)))
            .fetch_all(&self.pool)
            .await
            .map_err(failed(READ))?;
        rows.iter().map(numbered).collect()
    }

    /// Up to `limit` of the events in question that come before number `seq`, as many as are found among
    /// 20,000 events.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn events_before(
        &self,
        seq: u64,
        which: &Which,
        limit: u32,
    ) -> Result<Found, StoreError> {
        let limit = limit.clamp(1, EVENTS_PAGE_MAX);
        // One more, by which it is known whether another page comes.
        let mut query = before_query(seq, which, limit + 1);
        let rows = query.build().fetch_all(&self.pool).await.map_err(failed(READ))?;
        let mut events: Vec<_> = rows.iter().map(numbered).collect::<Result<_, _>>()?;
        let full = events.len() > limit as usize;
        events.truncate(limit as usize);
        let next = match events.last() {
            Some(last) if full => Some(last.seq),
            _ => self.looked_back_to(seq, which).await?,
        };
        Ok(Found { events, next })
    }

    /// The last event that was looked at, if there may be more to find before it.
    async fn looked_back_to(&self, seq: u64, which: &Which) -> Result<Option<u64>, StoreError> {
        let mut sql = QueryBuilder::new("");
        candidates(&mut sql, "seq, at", seq, which);
        sql.push("1 OFFSET ").push_bind(LOOKED_AT_MAX - 1);
        let row = sql.build().fetch_optional(&self.pool).await.map_err(failed(READ))?;
        let Some(row) = row else { return Ok(None) };
        // Times rise with the numbers, but for a clock that was set: none goes wrong for that long.
        let at = UnixTime(number(&row, "at")?);
        let may_be = which.since.is_none_or(|since| at >= since);
        may_be.then(|| number(&row, "seq")).transpose()
    }

    /// Removes up to [`TRIM_MAX`] of the oldest events: those of before `oldest`, and those that are more
    /// than [`EVENTS_MAX`]. Says how many went. Numbers are not used again.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: none was removed.
    pub async fn events_trim(&self, oldest: UnixTime) -> Result<u64, StoreError> {
        self.events_trim_to(oldest, EVENTS_MAX).await
    }

    async fn events_trim_to(&self, oldest: UnixTime, most: u64) -> Result<u64, StoreError> {
        const STEP: &str = "remove old events";
        let mut change = self.change(STEP).await?;
        let surplus = last(&mut *change).await?.saturating_sub(most);
        let done = sqlx::query(TRIM)
            .bind(i64::from(TRIM_MAX))
            .bind(stored_time(oldest))
            .bind(stored(surplus))
            .execute(&mut *change)
            .await
            .map_err(failed(STEP))?;
        change.commit().await.map_err(failed(STEP))?;
        Ok(done.rows_affected())
    }

    /// When the newest event that is kept happened.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn events_newest_at(&self) -> Result<Option<UnixTime>, StoreError> {
        let row = sqlx::query("SELECT at FROM events ORDER BY seq DESC LIMIT 1")
            .fetch_optional(&self.pool)
            .await
            .map_err(failed(READ))?;
        row.map(|row| Ok(UnixTime(number(&row, "at")?))).transpose()
    }

    /// The number of the newest event that ever was; 0: there was none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn events_last(&self) -> Result<u64, StoreError> {
        last(&self.pool).await
    }
}

/// `SELECT what` of the events before number `seq`, the newest first, by the one index that leaves the
/// fewest: to be followed by a limit.
fn candidates(sql: &mut QueryBuilder<Sqlite>, what: &str, seq: u64, which: &Which) {
    let Which { service, env, rollout, host, kind, since: _ } = which;
    sql.push(format!("SELECT {what} FROM events WHERE seq < "));
    sql.push_bind(stored(seq));
    match (rollout, host, service, env, kind) {
        (Some(rollout), ..) => sql.push(" AND rollout = ").push_bind(format!("{rollout:#}")),
        (_, Some(host), ..) => sql.push(" AND host = ").push_bind(host.to_string()),
        (_, _, Some(service), Some(env), _) => sql
            .push(" AND service = ")
            .push_bind(service.to_string())
            .push(" AND env = ")
            .push_bind(env.to_string()),
        (.., Some(kind)) => sql.push(" AND kind = ").push_bind(kind.name()),
        (_, _, Some(service), ..) => sql.push(" AND service = ").push_bind(service.to_string()),
        (_, _, _, Some(env), _) => sql.push(" AND env = ").push_bind(env.to_string()),
        _ => sql,
    };
    sql.push(" ORDER BY seq DESC LIMIT ");
}

/// What is asked for, among the events that are looked at.
fn before_query(seq: u64, which: &Which, limit: u32) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT * FROM (");
    candidates(&mut sql, "*", seq, which);
    sql.push_bind(LOOKED_AT_MAX).push(") WHERE TRUE");
    let Which { service, env, rollout: _, host, kind, since } = which;
    let asked = [
        ("service", service.as_ref().map(ToString::to_string)),
        ("env", env.as_ref().map(ToString::to_string)),
        ("host", host.as_ref().map(ToString::to_string)),
        ("kind", kind.as_ref().map(ToString::to_string)),
    ];
    for (column, value) in asked {
        if let Some(value) = value {
            sql.push(format!(" AND {column} = ")).push_bind(value);
        }
    }
    if let Some(since) = since {
        sql.push(" AND at >= ").push_bind(stored_time(*since));
    }
    sql.push(" ORDER BY seq DESC LIMIT ").push_bind(i64::from(limit));
    sql
}

async fn last(database: impl sqlx::Executor<'_, Database = Sqlite>) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT seq FROM events_head")
        .fetch_one(database)
        .await
        .map_err(failed(READ))?;
    number(&row, "seq")
}

/// Writes events behind the others, in the transaction of what they tell of; gives the last number,
/// for [`Store::tell_newest`] once that is committed.
pub(super) async fn append(
    change: &mut SqliteConnection,
    events: &[Event],
) -> Result<u64, StoreError> {
    let mut seq = last(&mut *change).await?;
    for event in events {
        seq += 1;
        let Event { at, kind, service, env, rollout, host, text, detail } = event;
        sqlx::query(
            "INSERT INTO events (seq, at, kind, service, env, rollout, host, text, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .bind(i64::try_from(seq).expect("fewer than 2^63 events"))
        .bind(stored_time(*at))
        .bind(kind.name())
        .bind(service.as_ref().map(ToString::to_string))
        .bind(env.as_ref().map(ToString::to_string))
        .bind(rollout.map(|rollout| format!("{rollout:#}")))
        .bind(host.as_ref().map(ToString::to_string))
        .bind(text)
        .bind(detail.to_string())
        .execute(&mut *change)
        .await
        .map_err(failed("keep events"))?;
    }
    sqlx::query("UPDATE events_head SET seq = ?1")
        .bind(i64::try_from(seq).expect("fewer than 2^63 events"))
        .execute(&mut *change)
        .await
        .map_err(failed("keep events"))?;
    Ok(seq)
}

pub(super) fn numbered(row: &SqliteRow) -> Result<Numbered, StoreError> {
    let service: Option<String> = column(row, "service")?;
    let env: Option<String> = column(row, "env")?;
    let rollout: Option<String> = column(row, "rollout")?;
    let host: Option<String> = column(row, "host")?;
    let (kind, detail): (String, String) = (column(row, "kind")?, column(row, "detail")?);
    let corrupt = |what, why: String| StoreError::Corrupt { what, why };
    let event = Event {
        at: UnixTime(number(row, "at")?),
        kind: kind.parse::<Kind>().map_err(|error| corrupt("kind", error.to_string()))?,
        service: service.map(|_| text(row, "service")).transpose()?,
        env: env.map(|_| text(row, "env")).transpose()?,
        rollout: rollout.map(|_| text(row, "rollout")).transpose()?,
        host: host.map(|_| text(row, "host")).transpose()?,
        text: column(row, "text")?,
        detail: serde_json::from_str(&detail)
            .map_err(|error| corrupt("detail", error.to_string()))?,
    };
    Ok(Numbered { seq: number(row, "seq")?, event })
}

/// Each reading query there is, and what its plan must name.
#[cfg(test)]
pub(super) fn every_query() -> Vec<(&'static str, String)> {
    let any = Which::default;
    let service = || Some("web".parse().unwrap());
    let env = || Some("staging".parse().unwrap());
    let page = |which| before_query(9, &which, 9).sql().as_str().to_owned();
    let host = Some("abcdefghij23".parse().unwrap());
    vec![
        ("sqlite_autoindex_events_1 (seq>?)", AFTER.to_owned()),
        ("sqlite_autoindex_events_1 (seq<?)", page(any())),
        ("events_of_service (service=? AND seq<?)", page(Which { service: service(), ..any() })),
        ("events_of_env (env=? AND seq<?)", page(Which { env: env(), ..any() })),
        (
            "events_of_scope (service=? AND env=? AND seq<?)",
            page(Which { service: service(), env: env(), ..any() }),
        ),
        (
            "events_of_rollout (rollout=? AND seq<?)",
            page(Which { rollout: Some(Digest::of(b"")), ..any() }),
        ),
        ("events_of_host (host=? AND seq<?)", page(Which { host, ..any() })),
        (
            "events_of_kind (kind=? AND seq<?)",
            page(Which { kind: Some(Kind::HostLost), service: service(), ..any() }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, service: &str) -> Event {
        Event {
            at: UnixTime(number),
            kind: Kind::WaveOpened,
            service: Some(service.parse().unwrap()),
            env: Some("production".parse().unwrap()),
            rollout: Some(Digest::of(service.as_bytes())),
            host: None,
            text: format!("wave {number} is open"),
            detail: serde_json::json!({ "wave": number }),
        }
    }

    #[tokio::test]
    async fn events_are_numbered_and_read_from_both_ends() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db")).await.unwrap();
        assert_eq!(store.events_last().await.unwrap(), 0);
        let events: Vec<_> = (1..=3).map(|number| event(number, "web")).collect();
        assert_eq!(store.events_keep(&events).await.unwrap(), 3);
        let lost = Event { service: None, rollout: None, kind: Kind::HostLost, ..event(4, "web") };
        let lost = Event { host: Some("abcdefghij23".parse().unwrap()), ..lost };
        assert_eq!(store.events_keep(&[lost.clone(), event(5, "shop")]).await.unwrap(), 5);
        let read = store.events_after(1, 2).await.unwrap();
        assert_eq!(read.iter().map(|one| one.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(read[0].event, events[1]);
        assert_eq!(store.events_after(3, 1).await.unwrap()[0].event, lost);
        let numbers = async |before, which: &Which| {
            let read = store.events_before(before, which, 10).await.unwrap();
            read.events.iter().map(|one| one.seq).collect::<Vec<_>>()
        };
        assert_eq!(numbers(u64::MAX, &Which::default()).await, [5, 4, 3, 2, 1]);
        let shop = Which { service: Some("shop".parse().unwrap()), ..Which::default() };
        assert_eq!(numbers(u64::MAX, &shop).await, [5]);
        let web = Which { rollout: event(0, "web").rollout, ..Which::default() };
        assert_eq!(numbers(3, &web).await, [2, 1]);
        let host = Which { host: lost.host, ..Which::default() };
        assert_eq!(numbers(u64::MAX, &host).await, [4]);
        let kind = Which { kind: Some(Kind::WaveOpened), ..shop.clone() };
        assert_eq!(numbers(u64::MAX, &kind).await, [5]);
        let kind = Which { kind: Some(Kind::HostLost), ..shop };
        assert_eq!(numbers(u64::MAX, &kind).await, [0; 0]);
        let since = Which { since: Some(UnixTime(4)), ..Which::default() };
        assert_eq!(numbers(u64::MAX, &since).await, [5, 4]);
        let env = Which { env: Some("production".parse().unwrap()), ..Which::default() };
        assert_eq!(numbers(u64::MAX, &env).await, [5, 4, 3, 2, 1], "the host, too");
    }

    #[tokio::test]
    async fn whoever_follows_hears_of_what_is_kept_and_numbers_outlive_their_events() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let store = Store::open(&path).await.unwrap();
        let mut newest = store.events_newest();
        assert_eq!(*newest.borrow_and_update(), 0);
        let events: Vec<_> = (1..=3).map(|number| event(number, "web")).collect();
        store.events_keep(&events).await.unwrap();
        assert!(newest.has_changed().unwrap());
        assert_eq!(*newest.borrow_and_update(), 3);
        // By age, then by number, then all of them.
        assert_eq!(store.events_trim_to(UnixTime(2), 3).await.unwrap(), 1);
        assert_eq!(store.events_trim_to(UnixTime(0), 1).await.unwrap(), 1);
        assert_eq!(store.events_after(0, 9).await.unwrap()[0].seq, 3);
        assert_eq!(store.events_trim(UnixTime(u64::MAX)).await.unwrap(), 1);
        assert_eq!(store.events_trim(UnixTime(u64::MAX)).await.unwrap(), 0);
        assert_eq!(store.events_last().await.unwrap(), 3);
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        assert_eq!(*store.events_newest().borrow(), 3);
        assert_eq!(store.events_keep(&events[..1]).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_page_of_few_among_very_many_is_what_is_found_in_a_bounded_time() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db")).await.unwrap();
        let many: Vec<_> = (1..=20_010).map(|number| event(number, "web")).collect();
        store.events_keep(&[event(0, "web"), event(0, "shop")]).await.unwrap();
        store.events_keep(&many).await.unwrap();
        let rare = |since| Which {
            kind: Some(Kind::WaveOpened),
            service: Some("shop".parse().unwrap()),
            since,
            ..Which::default()
        };
        let first = store.events_before(u64::MAX, &rare(None), 5).await.unwrap();
        assert_eq!((first.events.len(), first.next), (0, Some(13)));
        let second = store.events_before(13, &rare(None), 5).await.unwrap();
        assert_eq!((second.events[0].seq, second.next), (2, None));
        let late = store.events_before(u64::MAX, &rare(Some(UnixTime(99))), 5).await.unwrap();
        assert_eq!(late, Found::default(), "what is before that is not looked for");
        let full = store.events_before(3, &Which::default(), 1).await.unwrap();
        assert_eq!((full.events.len(), full.next), (1, Some(2)));
        let last = store.events_before(2, &Which::default(), 1).await.unwrap();
        assert_eq!((last.events.len(), last.next), (1, None));
    }

    #[tokio::test]
    async fn trimming_goes_in_small_steps() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("db")).await.unwrap();
        let events: Vec<_> = (1..=700).map(|number| event(number, "web")).collect();
        store.events_keep(&events).await.unwrap();
        let gone = async || store.events_trim(UnixTime(601)).await.unwrap();
        assert_eq!((gone().await, gone().await, gone().await), (500, 100, 0));
    }
}
