//! The store: what a token is good for, and what the audit record can show.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::collections::BTreeMap;
use std::path::Path;

use coordinator::audit::{Act, AuditFault};
use coordinator::events::{Event, Kind};
use coordinator::store::{
    AdmitError, JoinError, Joined, Joiner, NewRelease, NewToken, Store, VerifyError,
};
use coordinator::token::{Secret, TokenId};
use ed25519_dalek::SigningKey;
use proto::id::{Digest, Name};
use proto::key::PublicKey;
use proto::statement::UnixTime;

const NOW: UnixTime = UnixTime(1_000_000);
const ID: TokenId = TokenId::from_bytes([1; 8]);
const SECRET: Secret = Secret::from_bytes([2; 16]);

async fn open(dir: &Path) -> Store {
    Store::open(&dir.join("coordinator.db")).await.unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn token(uses: u32) -> NewToken {
    NewToken {
        id: ID,
        secret: SECRET,
        uses,
        expires: NOW.plus_s(60),
        labels: BTreeMap::from([(name("env"), name("staging"))]),
        created_by: name("ada"),
    }
}

fn joiner(host: u8) -> Joiner {
    Joiner {
        token: ID,
        secret: SECRET,
        key: PublicKey::of(&SigningKey::from_bytes(&[host; 32])),
        name: name("web-1"),
    }
}

/// The stand-in for a host statement says which labels it was made for.
async fn join(store: &Store, joiner: &Joiner, now: UnixTime) -> Result<Joined, JoinError> {
    store
        .join(joiner, now, |labels| {
            let [(key, value)] = labels.into_iter().collect::<Vec<_>>().try_into().unwrap();
            Ok(format!("{key}={value} {}", joiner.key).into_bytes())
        })
        .await
}

#[tokio::test]
async fn r9_a_token_fixes_uses_expiry_and_labels() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.token_create(&token(2), NOW).await.unwrap();

    let stranger = Joiner { token: TokenId::from_bytes([9; 8]), ..joiner(1) };
    let guesser = Joiner { secret: Secret::from_bytes([9; 16]), ..joiner(1) };
    let before_any_use = [
        ("unknown token", &stranger, NOW, "there is no such token here"),
        ("wrong secret", &guesser, NOW, "the token's secret is wrong"),
        ("at its expiry", &joiner(1), NOW.plus_s(60), "the token expired"),
    ];
    for (case, joiner, now, reason) in before_any_use {
        let refused = join(&store, joiner, now).await.unwrap_err();
        assert_eq!(refused.to_string(), reason, "{case}");
    }
    assert_eq!(store.tokens().await.unwrap()[0].uses_left, 2, "a refusal uses nothing up");

    let refused = store.join(&joiner(1), NOW, |_| Err(JoinError::Full)).await.unwrap_err();
    assert!(refused.to_string().starts_with("the fleet has 256 hosts"), "{refused}");
    assert_eq!(store.tokens().await.unwrap()[0].uses_left, 2, "as little as that");

    let one = join(&store, &joiner(1), NOW).await.unwrap();
    assert!(one.new && one.envelope.starts_with(b"env=staging "));
    assert!(join(&store, &joiner(2), NOW).await.unwrap().new);
    let refused = join(&store, &joiner(3), NOW).await.unwrap_err();
    assert_eq!(refused.to_string(), "the token is used up");
    assert_eq!(store.hosts().await.unwrap().len(), 2);
}

#[tokio::test]
async fn r9_a_host_that_lost_the_answer_gets_it_again_and_uses_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.token_create(&token(1), NOW).await.unwrap();
    let first = join(&store, &joiner(1), NOW).await.unwrap();
    for (case, now) in [("used up", NOW), ("expired meanwhile", NOW.plus_s(1_000))] {
        let again = join(&store, &joiner(1), now).await.unwrap();
        assert_eq!(again, Joined { envelope: first.envelope.clone(), new: false }, "{case}");
    }
    let guesser = Joiner { secret: Secret::from_bytes([9; 16]), ..joiner(1) };
    assert!(matches!(join(&store, &guesser, NOW).await, Err(JoinError::Secret)));
    assert!(store.token_revoke(&ID, &name("ada"), NOW).await.unwrap());
    assert!(matches!(join(&store, &joiner(1), NOW).await, Err(JoinError::Revoked)));
    assert_eq!(store.hosts().await.unwrap().len(), 1);
    assert_eq!(store.tokens().await.unwrap()[0].uses_left, 0);
}

#[tokio::test]
async fn a_key_joins_with_one_token_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.token_create(&token(1), NOW).await.unwrap();
    let other = TokenId::from_bytes([3; 8]);
    store.token_create(&NewToken { id: other, ..token(1) }, NOW).await.unwrap();
    join(&store, &joiner(1), NOW).await.unwrap();
    let again = Joiner { token: other, ..joiner(1) };
    assert!(matches!(join(&store, &again, NOW).await, Err(JoinError::OtherToken)));
}

#[tokio::test]
async fn r9_a_revoked_token_admits_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.token_create(&token(5), NOW).await.unwrap();
    assert!(!store.token_revoke(&TokenId::from_bytes([9; 8]), &name("ada"), NOW).await.unwrap());
    assert!(store.token_revoke(&ID, &name("ada"), NOW).await.unwrap());
    assert!(matches!(join(&store, &joiner(1), NOW).await, Err(JoinError::Revoked)));
    let [report] = store.tokens().await.unwrap().try_into().unwrap();
    assert!(report.revoked);
    assert_eq!((report.token, report.uses_left), (ID.to_string(), 5));
    assert_eq!(report.labels, [(name("env"), name("staging"))]);
    assert_eq!(report.created_by, name("ada"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r9_uses_at_once_never_exceed_the_token() {
    const USES: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.token_create(&token(3), NOW).await.unwrap();
    // Twelve hosts, each of them twice, as a host does that asks again too early.
    let asked: Vec<_> = (1..=12)
        .flat_map(|host| [host, host])
        .map(|host| {
            let store = store.clone();
            tokio::spawn(async move { join(&store, &joiner(host), NOW).await })
        })
        .collect();
    let (mut new, mut again) = (0, 0);
    for answer in asked {
        match answer.await.unwrap() {
            Ok(Joined { new: true, .. }) => new += 1,
            Ok(Joined { new: false, .. }) => again += 1,
            Err(JoinError::UsedUp) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((new, again), (USES, USES));
    assert_eq!(store.hosts().await.unwrap().len(), USES);
    assert_eq!(store.tokens().await.unwrap()[0].uses_left, 0);
    store.audit_verify().await.unwrap();
}

fn published(version: &str, content: &[u8]) -> NewRelease {
    NewRelease {
        service: "web".parse().unwrap(),
        version: version.parse().unwrap(),
        id: Digest::of(content),
        envelope: content.to_vec(),
        act: Act {
            actor: "ci".to_owned(),
            action: "publish",
            subject: format!("web {version}"),
            detail: serde_json::json!({ "note": version }),
        },
        event: Event {
            at: NOW,
            kind: Kind::ReleasePublished,
            service: None,
            env: None,
            rollout: None,
            host: None,
            text: format!("web {version} is published"),
            detail: serde_json::json!({}),
        },
    }
}

#[tokio::test]
async fn r3_a_version_is_one_release_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    assert!(store.release_admit(published("1", b"one"), NOW).await.unwrap());
    assert!(!store.release_admit(published("1", b"one"), NOW).await.unwrap());
    let clash = store.release_admit(published("1", b"two"), NOW).await.unwrap_err();
    assert!(matches!(clash, AdmitError::Taken { held } if held == one), "{clash}");
    assert!(store.release_admit(published("2", b"two"), NOW.plus_s(1)).await.unwrap());
    let (web, v1, v2) = ("web".parse().unwrap(), "1".parse().unwrap(), "2".parse().unwrap());
    assert_eq!(store.release_of(&web, &v1).await.unwrap(), Some(one));
    assert_eq!(store.release_of(&web, &v2).await.unwrap(), Some(two));
    assert_eq!(store.release_count().await.unwrap(), 2);
    assert_eq!(store.releases().await.unwrap(), [b"one", b"two"]);
    let told = store.events_after(0, 9).await.unwrap();
    let told: Vec<_> = told.iter().map(|told| told.event.text.as_str()).collect();
    assert_eq!(told, ["web 1 is published", "web 2 is published"], "each once");
    // What changed nothing left no entry.
    assert_eq!(store.audit_verify().await.unwrap().length, 2);
}

#[tokio::test]
async fn r30_every_change_leaves_its_entry() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    assert_eq!(store.audit_verify().await.unwrap().length, 0);
    store.token_create(&token(1), NOW).await.unwrap();
    join(&store, &joiner(1), NOW).await.unwrap();
    join(&store, &joiner(1), NOW).await.unwrap();
    let _ = join(&store, &joiner(2), NOW).await.unwrap_err();
    store.token_revoke(&ID, &name("bob"), NOW).await.unwrap();
    store.record(published("1", b"").act, NOW).await.unwrap();
    store.close().await;

    let store = open(dir.path()).await;
    let entries = store.audit_after(0, 100).await.unwrap();
    let told: Vec<_> =
        entries.iter().map(|e| (e.seq, e.actor.as_str(), e.action.as_str())).collect();
    let token = format!("token {ID}");
    assert_eq!(
        told,
        [
            (1, "ada", "token-create"),
            (2, token.as_str(), "host-join"),
            (3, "bob", "token-revoke"),
            (4, "ci", "publish"),
        ]
    );
    let kept = std::fs::read(dir.path().join("coordinator.db")).unwrap();
    assert!(!kept.windows(16).any(|window| window == SECRET.to_bytes()), "the secret is on disk");
    assert_eq!(store.audit_verify().await.unwrap().length, 4);
}

#[tokio::test]
async fn r30_the_record_shows_edits_deletions_and_reordering() {
    const UNLOCK: &str =
        "DROP TRIGGER audit_is_never_updated; DROP TRIGGER audit_is_never_deleted;";
    let cases = [
        ("edited", "UPDATE audit SET actor = 'eve' WHERE seq = 2", AuditFault::Edited { seq: 2 }),
        ("deleted", "DELETE FROM audit WHERE seq = 2", AuditFault::Gap { expected: 2, got: 3 }),
        (
            "cut at the end",
            "DELETE FROM audit WHERE seq = 3",
            AuditFault::Cut { expected: 3, got: 2 },
        ),
        (
            "reordered",
            "UPDATE audit SET seq = 9 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3;
             UPDATE audit SET seq = 3 WHERE seq = 9",
            AuditFault::Unlinked { seq: 2 },
        ),
    ];
    for (case, tamper, fault) in cases {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).await;
        for version in ["1", "2", "3"] {
            store.record(published(version, b"").act, NOW).await.unwrap();
        }
        store.close().await;
        let path = dir.path().join("coordinator.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
        assert!(sqlx::raw_sql(tamper).execute(&pool).await.is_err(), "{case}: unlocked");
        sqlx::raw_sql(UNLOCK).execute(&pool).await.unwrap();
        sqlx::raw_sql(tamper).execute(&pool).await.unwrap();
        pool.close().await;
        match open(dir.path()).await.audit_verify().await {
            Err(VerifyError::Fault(found)) => assert_eq!(found, fault, "{case}"),
            other => panic!("{case}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.close().await;
    let path = dir.path().join("coordinator.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::raw_sql("INSERT INTO schema_version VALUES (99)").execute(&pool).await.unwrap();
    pool.close().await;
    let refused = Store::open(&path).await.unwrap_err();
    let told = refused.to_string();
    let expected = "the database has tables of version 99, this program knows up to ";
    assert!(told.starts_with(expected), "{told}");
}

/// A database of the first version, in which every host has its token.
#[tokio::test]
async fn hosts_of_an_older_database_keep_their_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.token_create(&token(1), NOW).await.unwrap();
    let first = join(&store, &joiner(1), NOW).await.unwrap();
    store.close().await;
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("coordinator.db"));
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    // What came later is not there yet.
    let later: Vec<String> = sqlx::query_scalar(
        "SELECT 'DROP ' || type || ' ' || name FROM sqlite_master
         WHERE (type = 'table' AND name NOT IN ('tokens', 'hosts', 'releases', 'audit', 'audit_head',
            'schema_version')) OR (type = 'index' AND sql IS NOT NULL)
         ORDER BY type",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    for drop in later {
        sqlx::raw_sql(sqlx::AssertSqlSafe(drop)).execute(&pool).await.unwrap();
    }
    let back = "DELETE FROM schema_version WHERE version > 1;
        CREATE TABLE older (id TEXT PRIMARY KEY, key BLOB NOT NULL, name TEXT NOT NULL,
            envelope BLOB NOT NULL, issued BIGINT NOT NULL,
            token TEXT NOT NULL REFERENCES tokens (id));
        INSERT INTO older SELECT * FROM hosts;
        DROP TABLE hosts;
        ALTER TABLE older RENAME TO hosts;";
    sqlx::raw_sql(back).execute(&pool).await.unwrap();
    pool.close().await;
    let store = open(dir.path()).await;
    let again = join(&store, &joiner(1), NOW).await.unwrap();
    assert_eq!(again, Joined { envelope: first.envelope, new: false });
}
