//! Pages of a long record: what is in them, and by which way the database finds it.

use std::time::Instant;

use proto::audit::Head;
use sqlx::AssertSqlSafe;

use super::*;

/// Entries of the long record.
const LONG: u64 = 50_000;

async fn open(directory: &tempfile::TempDir) -> Store {
    Store::open(&directory.path().join("coordinator.db")).await.unwrap()
}

fn act(number: u64) -> Act {
    let (actor, action) = match number {
        n if n % 10_000 == 7 => ("emma", "submit"),
        n if n.is_multiple_of(3) => ("ada", "submit"),
        n if n % 3 == 1 => ("ci", "publish"),
        _ => ("token 01", "host-join"),
    };
    let reason = if number == 41 { "the needle" } else { "weekly" };
    Act {
        actor: actor.to_owned(),
        action,
        subject: format!("{action} {number}"),
        detail: serde_json::json!({ "about": { "scope": "web/production", "reason": reason } }),
    }
}

/// Fills it, many rows at a time and without a look at the head for each.
async fn fill(store: &Store, length: u64) {
    let mut head = Head::EMPTY;
    let mut change = store.change(WRITE).await.unwrap();
    let numbers: Vec<_> = (1..=length).collect();
    for some in numbers.chunks(1_000) {
        let mut sql = QueryBuilder::<Sqlite>::new("INSERT INTO audit ");
        sql.push_values(some, |mut row, number| {
            let entry = Entry::after(head, UnixTime(*number), act(*number));
            head = Head { length: *number, hash: entry.hash };
            row.push_bind(i64::try_from(*number).unwrap())
                .push_bind(stored_time(entry.at))
                .push_bind(entry.actor)
                .push_bind(entry.action)
                .push_bind(entry.subject)
                .push_bind(entry.detail)
                .push_bind(entry.prev.as_bytes().to_vec())
                .push_bind(entry.hash.as_bytes().to_vec());
        });
        sql.build().execute(&mut *change).await.unwrap();
    }
    sqlx::query("INSERT INTO audit_head VALUES (1, ?1, ?2)")
        .bind(i64::try_from(length).unwrap())
        .bind(head.hash.as_bytes().to_vec())
        .execute(&mut *change)
        .await
        .unwrap();
    change.commit().await.unwrap();
}

fn queries() -> [(&'static str, AuditQuery); 9] {
    let newest = AuditQuery { newest_first: true, limit: 20, ..AuditQuery::default() };
    let actor = |actor: &str| Some(actor.to_owned());
    [
        ("the newest", newest.clone()),
        ("before one", AuditQuery { beyond: Some(25_000), ..newest.clone() }),
        ("the oldest", AuditQuery { newest_first: false, limit: 1_000, ..newest.clone() }),
        ("of one who did much", AuditQuery { actor: actor("ada"), ..newest.clone() }),
        ("of one who did little", AuditQuery { actor: actor("emma"), ..newest.clone() }),
        ("of nobody", AuditQuery { actor: actor("eve"), ..newest.clone() }),
        ("of one kind", AuditQuery { action: actor("publish"), ..newest.clone() }),
        (
            "of one kind by one who does others",
            AuditQuery { actor: actor("ada"), action: actor("publish"), ..newest.clone() },
        ),
        ("of one subject", AuditQuery { subject: actor("the needle"), ..newest }),
    ]
}

/// Every page there is.
async fn all(store: &Store, mut query: AuditQuery) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let page = store.audit_page(&query).await.unwrap();
        seqs.extend(page.entries.iter().map(|entry| entry.seq));
        let Some(next) = page.next else { return seqs };
        assert!(query.beyond.is_none_or(|beyond| (next < beyond) == query.newest_first));
        query.beyond = Some(next);
    }
}

/// What filtering everything gives.
fn expected(query: &AuditQuery) -> Vec<u64> {
    let is = |wanted: &Option<String>, got: &str| wanted.as_ref().is_none_or(|one| one == got);
    let fits = |number: &u64| {
        let Act { actor, action, subject, detail } = act(*number);
        let text = format!("{subject}\n{detail}");
        is(&query.actor, &actor)
            && is(&query.action, action)
            && query.subject.as_ref().is_none_or(|part| text.contains(part))
            && query.since.is_none_or(|since| *number >= since.0)
            && query.beyond.is_none_or(|beyond| match query.newest_first {
                true => *number < beyond,
                false => *number > beyond,
            })
    };
    let fitting = (1..=LONG).filter(fits);
    if query.newest_first { fitting.rev().collect() } else { fitting.collect() }
}

#[tokio::test]
async fn r30_pages_hold_what_is_asked_for_and_nothing_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    fill(&store, LONG).await;
    assert_eq!(store.audit_verify().await.unwrap().length, LONG);
    for (name, query) in queries() {
        // In large pages: there are hundreds of the small ones.
        let query = AuditQuery { limit: 1_000, ..query };
        for newest_first in [query.newest_first, !query.newest_first] {
            let query = AuditQuery { newest_first, ..query.clone() };
            let (found, expected) = (all(&store, query.clone()).await, expected(&query));
            let counts = (found.len(), expected.len());
            assert!(found == expected, "{name}: {counts:?} of {query:?}");
        }
    }
    let since = AuditQuery { since: Some(UnixTime(LONG - 9)), ..queries()[0].1.clone() };
    assert_eq!(all(&store, since.clone()).await, expected(&since));
    let pages = store.audit_page(&AuditQuery { actor: Some("ada".into()), ..since }).await.unwrap();
    assert_eq!(pages.next, None, "what is too old is not looked through");
    let about = store.audit_about("submit 7").await.unwrap();
    assert_eq!(about.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [7]);
}

/// Nothing goes through the whole table: each step is a search by an index, or reads what one has found.
#[tokio::test]
async fn r30_no_page_goes_through_the_whole_record() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    fill(&store, 100).await;
    for (name, query) in queries() {
        let mut beyond = QueryBuilder::new("");
        candidates(&mut beyond, "seq", &query);
        beyond.push("1 OFFSET ").push_bind(LOOKED_AT_MAX - 1);
        for mut sql in [found(&query), beyond] {
            let plan = plan(&store, &mut sql).await;
            let by_index = plan.iter().filter(|step| step.starts_with("SEARCH audit USING "));
            assert_eq!(by_index.count(), 1, "{name}: {plan:#?}");
            let scans = plan.iter().filter(|step| step.starts_with("SCAN audit"));
            assert_eq!(scans.count(), 0, "{name}: {plan:#?}");
            let sorts = plan.iter().filter(|step| step.contains("TEMP B-TREE"));
            assert_eq!(sorts.count(), 0, "{name}: {plan:#?}");
            let index = match (&query.actor, &query.action) {
                (Some(_), _) => "audit_of_actor (actor=? AND seq",
                (None, Some(_)) => "audit_of_action (action=? AND seq",
                (None, None) => "sqlite_autoindex_audit_1 (seq",
            };
            assert!(plan.iter().any(|step| step.contains(index)), "{name}: {plan:#?}");
        }
    }
    let mut about = QueryBuilder::new("SELECT * FROM audit WHERE subject = ");
    about.push_bind("x").push(" ORDER BY seq LIMIT 9");
    let plan = plan(&store, &mut about).await;
    assert_eq!(plan, ["SEARCH audit USING INDEX audit_of_subject (subject=?)"]);
}

async fn plan(store: &Store, query: &mut QueryBuilder<Sqlite>) -> Vec<String> {
    let sql = format!("EXPLAIN QUERY PLAN {}", query.sql().as_str());
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&store.pool).await.unwrap();
    rows.iter().map(|row| column::<String>(row, "detail").unwrap()).collect()
}

/// Says what a page takes: of a thousand entries, or of as many as `GROUNDSWELL_AUDIT_ENTRIES` says.
#[tokio::test]
async fn r30_figures_of_a_long_record() {
    let length = std::env::var("GROUNDSWELL_AUDIT_ENTRIES").ok();
    let length = length.map_or(1_000, |length| length.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    fill(&store, length).await;
    for (name, query) in queries() {
        let begun = Instant::now();
        let page = store.audit_page(&query).await.unwrap();
        println!("{name}: {} entries in {:?}", page.entries.len(), begun.elapsed());
        assert_eq!(page.head.length, length);
    }
    let begun = Instant::now();
    assert_eq!(store.audit_verify().await.unwrap().length, length);
    println!("all {length} verified in {:?}", begun.elapsed());
}

/// Whoever searches through years of it keeps no abort waiting.
#[tokio::test]
async fn readers_however_many_leave_the_writer_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let mut reading = Vec::new();
    for _ in 0..crate::store::READERS_MAX {
        reading.push(store.pool.begin().await.unwrap());
    }
    let recorded = store.record(act(1), UnixTime(1));
    tokio::time::timeout(std::time::Duration::from_secs(5), recorded).await.unwrap().unwrap();
}
