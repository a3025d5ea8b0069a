//! What is kept of rollouts, and how it is read.

use proto::id::{Digest, Scope};
use proto::report::{CountedReport, LatencyReport};
use proto::statement::{Direction, UnixTime};
use sqlx::Row as _;

use super::super::{NewSample, Sampled, Store, events, samples};
use super::{
    Counts, ENDED_BEFORE, ENDED_SINCE, Kept, OF_ID, OPEN, Outcome, RolloutRow, RowTarget, SCOPES,
    before_query,
};
use crate::events::{Event, Kind};

fn scope(text: &str) -> Scope {
    let (service, env) = text.split_once('/').unwrap();
    Scope { service: service.parse().unwrap(), env: env.parse().unwrap() }
}

fn row(epoch: u64, of: &str, ended: Option<u64>) -> RolloutRow {
    let target = |version: &str| RowTarget {
        version: version.parse().unwrap(),
        release: Digest::of(version.as_bytes()),
    };
    RolloutRow {
        seq: 0,
        id: Digest::of(format!("{of} {epoch}").as_bytes()),
        scope: scope(of),
        epoch,
        direction: Direction::Forward,
        adopt: epoch == 1,
        from: (epoch > 1).then(|| target("1.0.0")),
        to: target("1.1.0"),
        author: "ada".parse().unwrap(),
        reason: "weekly".to_owned(),
        created: UnixTime(epoch),
        hosts: 3,
        commit: Some("3f2a".to_owned()),
        branch: None,
        commit_time: Some(UnixTime(1)),
        first_seen: UnixTime(epoch + 1),
        started: Some(UnixTime(epoch + 2)),
        ended: ended.map(UnixTime),
        outcome: ended.map(|_| Outcome::Halted),
        began: true,
        back: None,
        counts: Counts { committed: 2, ..Counts::default() },
    }
}

fn kept(row: RolloutRow) -> Kept {
    Kept { open: row.ended.is_none(), row, memory: "{\"told\":1}".to_owned(), sample: None }
}

fn event() -> Event {
    Event {
        at: UnixTime(1),
        kind: Kind::RolloutStarted,
        service: None,
        env: None,
        rollout: None,
        host: None,
        text: "started".to_owned(),
        detail: serde_json::json!({}),
    }
}

async fn open() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("db")).await.unwrap();
    (directory, store)
}

#[tokio::test]
async fn rollouts_are_read_as_they_were_kept_by_pages_and_by_their_end() {
    let (_directory, store) = open().await;
    let rows = [
        row(1, "web/production", Some(50)),
        row(2, "web/production", Some(40)),
        row(1, "web/staging", Some(60)),
        row(3, "web/production", None),
        row(1, "shop/production", None),
    ];
    let all: Vec<_> = rows.iter().cloned().map(kept).collect();
    store.chronicle_keep(&[event()], &all, Some("{}")).await.unwrap();
    let numbers = async |before, service: Option<&str>, env: Option<&str>, limit| {
        let (service, env) =
            (service.map(|name| name.parse().unwrap()), env.map(|name| name.parse().unwrap()));
        let read = store.rollouts_before(before, service.as_ref(), env.as_ref(), limit).await;
        read.unwrap().into_iter().map(|row| row.seq).collect::<Vec<_>>()
    };
    assert_eq!(numbers(u64::MAX, None, None, 2).await, [5, 4]);
    assert_eq!(numbers(4, None, None, 9).await, [3, 2, 1]);
    assert_eq!(numbers(u64::MAX, Some("web"), Some("production"), 9).await, [4, 2, 1]);
    assert_eq!(numbers(u64::MAX, Some("web"), None, 9).await, [4, 3, 2, 1]);
    assert_eq!(numbers(u64::MAX, None, Some("production"), 9).await, [5, 4, 2, 1]);
    let first = store.rollout(&rows[0].id).await.unwrap().unwrap();
    assert_eq!(first, RolloutRow { seq: 1, ..rows[0].clone() });
    let ended = store.rollouts_ended(&scope("web/production"), UnixTime(45), 5).await.unwrap();
    assert_eq!(ended.iter().map(|row| row.epoch).collect::<Vec<_>>(), [1, 2]);
    let ended = store.rollouts_ended(&scope("web/production"), UnixTime(45), 0).await.unwrap();
    assert_eq!(ended.len(), 1);
    let scopes = store.rollout_scopes().await.unwrap();
    let scopes: Vec<_> =
        scopes.into_iter().map(|one| (one.scope.to_string(), one.newest)).collect();
    let all = [("shop/production", 5), ("web/production", 4), ("web/staging", 3)];
    assert_eq!(scopes, all.map(|(scope, newest)| (scope.to_owned(), newest)));
}

#[tokio::test]
async fn a_row_that_is_kept_again_has_its_number_and_what_is_remembered_comes_back() {
    let (directory, store) = open().await;
    let nothing = store.chronicle_remembered().await.unwrap();
    assert_eq!((nothing.fleet, nothing.open.len(), nothing.closed.len()), (None, 0, 0));
    let both = [kept(row(1, "web/staging", None)), kept(row(2, "web/staging", None))];
    store.chronicle_keep(&[], &both, Some("{\"one\":1}")).await.unwrap();
    let ended = row(1, "web/staging", Some(90));
    store.chronicle_keep(&[event()], &[kept(ended.clone())], None).await.unwrap();
    store.close().await;
    let store = Store::open(&directory.path().join("db")).await.unwrap();
    let remembered = store.chronicle_remembered().await.unwrap();
    assert_eq!(remembered.fleet.as_deref(), Some("{\"one\":1}"));
    assert_eq!(remembered.closed, [ended.id]);
    let [(open, memory)] = &remembered.open[..] else { panic!("one is open") };
    assert_eq!((open.seq, open.epoch, memory.as_str()), (2, 2, "{\"told\":1}"));
    let read = store.rollout(&ended.id).await.unwrap().unwrap();
    assert_eq!((read.seq, read.ended, read.outcome), (1, ended.ended, Some(Outcome::Halted)));
}

/// As after a crash in the middle: of events and memory all is there, or nothing.
#[tokio::test]
async fn events_are_kept_together_with_the_memory_of_them_or_not_at_all() {
    let (directory, store) = open().await;
    store
        .chronicle_keep(&[event()], &[kept(row(1, "web/staging", None))], Some("1"))
        .await
        .unwrap();
    let mut newest = store.events_newest();
    newest.mark_unchanged();
    // The last statement fails: its trigger stands in for the power cut.
    sqlx::raw_sql(
        "CREATE TRIGGER cut BEFORE UPDATE ON chronicle BEGIN SELECT RAISE(ABORT, 'cut'); END",
    )
    .execute(&store.pool)
    .await
    .unwrap();
    let more = kept(row(2, "web/staging", None));
    store.chronicle_keep(&[event()], std::slice::from_ref(&more), Some("2")).await.unwrap_err();
    assert!(!newest.has_changed().unwrap(), "nobody hears of what is not kept");
    assert_eq!(store.events_last().await.unwrap(), 1);
    assert!(store.rollout(&more.row.id).await.unwrap().is_none());
    sqlx::raw_sql("DROP TRIGGER cut").execute(&store.pool).await.unwrap();
    store.close().await;
    let store = Store::open(&directory.path().join("db")).await.unwrap();
    assert_eq!(store.chronicle_remembered().await.unwrap().fleet.as_deref(), Some("1"));
    store.chronicle_keep(&[event()], &[more], Some("2")).await.unwrap();
    assert_eq!(store.events_after(0, 9).await.unwrap().len(), 2, "each once, without a gap");
}

#[tokio::test]
async fn samples_are_read_in_order_thinned_and_removed_with_age() {
    let (_directory, store) = open().await;
    let sample = |n: u64, thin: Option<u64>| {
        let sampled = Sampled {
            counts: Counts { baking: u32::try_from(n).unwrap(), ..Counts::default() },
            new: Some(CountedReport { bad: n, requests: 100 }),
            control: None,
            latency: LatencyReport { new_p99_ms: Some(n), control_p99_ms: None },
        };
        let sample = Some(NewSample { n, thin, at: UnixTime(1_000 + n), sampled });
        Kept { sample, ..kept(row(1, "web/staging", None)) }
    };
    for n in 0..4 {
        store.chronicle_keep(&[], &[sample(n, None)], None).await.unwrap();
    }
    store.chronicle_keep(&[], &[sample(4, Some(2))], None).await.unwrap();
    let id = row(1, "web/staging", None).id;
    let read = store.samples(&id).await.unwrap();
    assert_eq!(read.iter().map(|one| one.at.0).collect::<Vec<_>>(), [1_000, 1_002, 1_004]);
    assert_eq!(read[1].sampled.new, Some(CountedReport { bad: 2, requests: 100 }));
    let latency = LatencyReport { new_p99_ms: Some(2), control_p99_ms: None };
    assert_eq!(read[1].sampled.latency, latency);
    assert_eq!((read[1].sampled.counts.baking, read[1].sampled.control), (2, None));
    assert!(!store.samples_trim(UnixTime(u64::MAX)).await.unwrap(), "it goes on");
    store.chronicle_keep(&[], &[kept(row(1, "web/staging", Some(90)))], None).await.unwrap();
    assert!(!store.samples_trim(UnixTime(90)).await.unwrap());
    assert!(store.samples_trim(UnixTime(91)).await.unwrap());
    assert!(store.samples(&id).await.unwrap().is_empty());
    assert!(!store.samples_trim(UnixTime(91)).await.unwrap());
}

/// Pages are read often, and of years: each question has an index that leads to its answer in order.
#[tokio::test]
async fn every_question_is_answered_by_its_index() {
    let (_directory, store) = open().await;
    let (service, env) = ("web".parse().unwrap(), "staging".parse().unwrap());
    let page = |service, env| before_query(9, service, env, 9).sql().as_str().to_owned();
    let queries = [
        ("sqlite_autoindex_rollouts_1 (id=?)", OF_ID.to_owned()),
        ("rollouts_open", OPEN.to_owned()),
        ("rollouts_ended (service=? AND env=? AND ended>?)", ENDED_SINCE.to_owned()),
        ("rollouts_ended (service=? AND env=? AND ended<?)", ENDED_BEFORE.to_owned()),
        // Of two that hold all of it in this order, the database takes either.
        ("USING COVERING INDEX rollouts_", SCOPES.to_owned()),
        ("INTEGER PRIMARY KEY (rowid<?)", page(None, None)),
        ("rollouts_of_service (service=? AND seq<?)", page(Some(&service), None)),
        ("rollouts_of_env (env=? AND seq<?)", page(None, Some(&env))),
        ("rollouts_of_scope (service=? AND env=? AND seq<?)", page(Some(&service), Some(&env))),
        ("PRIMARY KEY (rollout=?)", samples::OF_ROLLOUT.to_owned()),
        ("rollouts_sampled (ended<?)", samples::OLDEST.to_owned()),
    ];
    for (index, query) in queries.into_iter().chain(events::every_query()) {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"));
        let steps = sqlx::query(explain).fetch_all(&store.pool).await.unwrap();
        let steps: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
        assert!(steps.iter().any(|step| step.contains(index)), "{index}: {steps:?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{index}: {steps:?}");
    }
}
