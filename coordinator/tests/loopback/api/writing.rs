//! Acting: what is refused and leaves no trace, what is done once, who may.

use proto::access::AccessRole;
use proto::dsse::Envelope;
use proto::id::KeyId;
use proto::statement::{Action, COUNTER_MAX, Directive, Payload as _, Rollout, Statement};
use proto::wire::{ControlReply, ControlRequest};
use serde_json::{Value, json};
use sqlx::sqlite::SqlitePool;

use super::ground::{Ground, errors};
use crate::fleet::*;
use crate::https::{Got, bearer, session};

/// Every call that acts, with a body that does.
fn calls(ground: &Ground) -> [(String, Value); 4] {
    let rollout = format!("{:#}", ground.rollout);
    [
        (format!("/api/v1/rollouts/{rollout}/pause"), json!({ "reason": "look" })),
        (format!("/api/v1/rollouts/{rollout}/abort"), json!({ "reason": "bad" })),
        (
            "/api/v1/services/web/environments/staging/rollback".to_owned(),
            json!({ "reason": "bad" }),
        ),
        (
            "/api/v1/environments/staging/freeze".to_owned(),
            json!({ "reason": "audit", "lasts_s": 3_600 }),
        ),
    ]
}

/// What the coordinator signed so far.
async fn acts(ground: &Ground) -> Vec<String> {
    let audit = ground.fleet.audit().await;
    let acts = audit.into_iter().filter(|entry| entry.contains(" act "));
    // Who, that it was one, and what kind of statement; its digest comes behind.
    acts.map(|act| act.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

fn is_problem(got: &Got, status: u16, kind: &str, case: &str) {
    assert_eq!(got.status, status, "{case}: {got:?}");
    let told = got.json();
    assert_eq!(told["type"], format!("urn:groundswell:problem:{kind}"), "{case}: {told}");
    assert_eq!(got.header("content-type"), "application/problem+json", "{case}");
}

/// Headers and a body that are not as they must be.
struct Case<'c> {
    name: &'static str,
    headers: Vec<(&'c str, &'c str)>,
    body: Vec<u8>,
    status: u16,
    kind: &'static str,
}

fn broken<'c>(ground: &Ground, token: &'c str, viewer: &'c str, body: &Value) -> Vec<Case<'c>> {
    let good = body.to_string().into_bytes();
    let (kind, key) = (("content-type", "application/json"), ("idempotency-key", "k"));
    let auth = ("authorization", token);
    let case = |name, headers: &[(&'c str, &'c str)], body: &[u8], status, kind| Case {
        name,
        headers: headers.to_vec(),
        body: body.to_vec(),
        status,
        kind,
    };
    let mut twice = good.clone();
    twice.pop();
    twice.extend_from_slice(b",\"reason\":\"other\"}");
    let long = json!({ "reason": "x".repeat(9_000) }).to_string();
    assert!(ground.viewer != ground.operator);
    vec![
        case("nobody", &[kind, key], &good, 401, "unauthorized"),
        case("a viewer", &[("authorization", viewer), kind, key], &good, 403, "forbidden"),
        case("no type", &[auth, key], &good, 415, "unsupported-media-type"),
        case(
            "a form",
            &[auth, key, ("content-type", "application/x-www-form-urlencoded")],
            b"reason=x",
            415,
            "unsupported-media-type",
        ),
        case(
            "plain",
            &[auth, key, ("content-type", "text/plain")],
            &good,
            415,
            "unsupported-media-type",
        ),
        case("no key", &[auth, kind], &good, 400, "idempotency-key-missing"),
        case("bad key", &[auth, kind, ("idempotency-key", "a b")], &good, 400, "malformed"),
        case("no body", &[auth, kind, key], b"", 400, "malformed"),
        case("half", &[auth, kind, key], &good[..good.len() - 1], 400, "malformed"),
        case("an array", &[auth, kind, key], b"[]", 400, "malformed"),
        case("bytes left over", &[auth, kind, key], b"{} {}", 400, "malformed"),
        case("a field twice", &[auth, kind, key], &twice, 400, "malformed"),
        case("too large", &[auth, kind, key], long.as_bytes(), 413, "too-large"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_what_is_not_as_it_must_be_does_nothing() {
    let ground = Ground::new().await;
    let (token, viewer) = (bearer(&ground.operator), bearer(&ground.viewer));
    for (path, body) in calls(&ground) {
        for Case { name, headers, body, status, kind } in broken(&ground, &token, &viewer, &body) {
            let got = ground.visitor.send("POST", &path, &headers, &body).await;
            is_problem(&got, status, kind, &format!("{path}, {name}"));
        }
        let with = |name: &str, value: Value| {
            let mut body = body.clone();
            body[name] = value;
            body
        };
        let wrong = [
            (json!({}), "reason"),
            (with("reason", json!("  ")), "reason"),
            (with("reason", json!(5)), "reason"),
            (with("reason", json!("two\nlines")), "reason"),
            (with("reason", json!("x".repeat(401))), "reason"),
            (with("env", json!("staging")), "env"),
            (with("Reason", json!("x")), "Reason"),
        ];
        for (body, field) in wrong {
            let got = ground.post(&ground.operator, &path, "k", &body).await;
            is_problem(&got, 422, "invalid", &format!("{path}, {body}"));
            assert!(errors(&got.json()).contains_key(field), "{path}, {body}: {got:?}");
        }
        let got = ground.post(&ground.operator, &format!("{path}?x=1"), "k", &body).await;
        is_problem(&got, 422, "invalid", &path);
    }
    let freeze = "/api/v1/environments/staging/freeze";
    for lasts_s in [json!(59), json!(86_401), json!("3600"), json!(1.5), json!(-1), Value::Null] {
        let body = json!({ "reason": "audit", "lasts_s": lasts_s });
        let got = ground.post(&ground.operator, freeze, "k", &body).await;
        is_problem(&got, 422, "invalid", freeze);
        assert_eq!(errors(&got.json()).into_keys().collect::<Vec<_>>(), ["lasts_s"], "{body}");
    }
    // All that is wrong is named at once.
    let body = json!({ "lasts_s": 1, "more": 1 });
    let got = ground.post(&ground.operator, freeze, "k", &body).await.json();
    assert_eq!(errors(&got).into_keys().collect::<Vec<_>>(), ["lasts_s", "more", "reason"]);
    assert_eq!(acts(&ground).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_what_is_not_there_or_not_theirs_is_not_acted_on() {
    let ground = Ground::new().await;
    let reason = json!({ "reason": "bad" });
    let freeze = json!({ "reason": "audit", "lasts_s": 3_600 });
    let first = format!("/api/v1/rollouts/{:#}/pause", ground.first);
    let cases = [
        ("/api/v1/rollouts/ffffffff/pause", &reason, 404, "not-found"),
        ("/api/v1/rollouts/zz/abort", &reason, 404, "not-found"),
        ("/api/v1/rollouts/ffffffff/resume", &reason, 404, "not-found"),
        ("/api/v1/services/web/environments/No/rollback", &reason, 404, "not-found"),
        ("/api/v1/services/other/environments/staging/rollback", &reason, 404, "not-found"),
        ("/api/v1/services/web/environments/production/rollback", &reason, 403, "forbidden"),
        ("/api/v1/environments/production/freeze", &freeze, 403, "forbidden"),
        (&first, &reason, 409, "conflict"),
    ];
    for (number, (path, body, status, kind)) in cases.into_iter().enumerate() {
        let got = ground.post(&ground.operator, path, &format!("key-{number}"), body).await;
        is_problem(&got, status, kind, path);
    }
    let dry = json!({ "reason": "bad", "dry_run": true });
    let elsewhere = "/api/v1/services/web/environments/production/rollback";
    let got = ground.post(&ground.operator, elsewhere, "k", &dry).await;
    is_problem(&got, 403, "forbidden", "a dry run is as good as the act");
    // What ends a token ends it for acts.
    let ada = ground.fleet.person(ADA).await;
    let (id, token) = crate::https::token(&ada, AccessRole::Operator).await;
    assert_eq!(ada.ask(&ControlRequest::AccessRevoke { id }).await, ControlReply::Done);
    let (path, body) = &calls(&ground)[0];
    is_problem(&ground.post(&token, path, "k", body).await, 401, "unauthorized", "revoked");
    assert_eq!(acts(&ground).await, [""; 0]);
}

/// A dry run tells so, too, and not only the hosts once it is signed.
#[tokio::test(flavor = "multi_thread")]
async fn r3_the_coordinator_rolls_back_only_where_the_policy_lets_it() {
    let ground = Ground::where_the_coordinator_rolls_back(false).await;
    let (path, _) = &calls(&ground)[2];
    for dry_run in [true, false] {
        let body = json!({ "reason": "bad", "dry_run": dry_run });
        let got = ground.post(&ground.operator, path, "k", &body).await;
        is_problem(&got, 403, "forbidden", path);
        assert!(got.text().contains("the policy of staging"), "{}", got.text());
    }
    assert_eq!(acts(&ground).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_each_act_is_done_and_recorded_once() {
    let mut ground = Ground::new().await;
    let dry = json!({ "reason": "bad", "dry_run": true });
    let (calls, operator) = (calls(&ground), ground.operator.clone());
    let (roll_back, _) = &calls[2];
    let planned = ground.post(&operator, roll_back, "key-2", &dry).await.json();
    assert_eq!((&planned["from"], &planned["to"]), (&json!("2"), &json!("1")), "{planned}");
    assert_eq!(planned["hosts"], json!(["host-20"]));
    assert_eq!(acts(&ground).await, [""; 0], "it only looked");
    let mut answers = Vec::new();
    for (number, (path, body)) in calls.iter().enumerate() {
        let key = format!("key-{number}");
        let first = ground.post(&operator, path, &key, body).await;
        assert_eq!(first.status, 200, "{path}: {}", first.text());
        assert!(
            first.json()["statement"].is_string()
                && first.header("idempotency-replayed").is_empty()
        );
        let again = ground.post(&operator, path, &key, body).await;
        assert_eq!((again.status, again.text()), (first.status, first.text()), "{path}");
        assert_eq!(again.header("idempotency-replayed"), "true");
        let mut other = body.clone();
        other["reason"] = json!("another one");
        let other = ground.post(&operator, path, &key, &other).await;
        is_problem(&other, 422, "idempotency-key-reused", path);
        answers.push(first.text());
    }
    // A refusal is an answer, too: it was paused before it was aborted.
    let (pause, reason) = &calls[0];
    let refused = ground.post(&operator, pause, "late", reason).await;
    is_problem(&refused, 409, "conflict", pause);
    let again = ground.post(&operator, pause, "late", reason).await;
    is_problem(&again, 409, "conflict", pause);
    assert_eq!(again.header("idempotency-replayed"), "true");
    let expected = ["ada act directive", "ada act directive", "ada act rollout", "ada act freeze"]
        .map(str::to_owned);
    assert_eq!(acts(&ground).await, expected);
    ground.fleet.stop().await;
    ground.fleet.start_again().await;
    for (number, ((path, body), answer)) in calls.iter().zip(answers).enumerate() {
        let again = ground.post(&operator, path, &format!("key-{number}"), body).await;
        assert_eq!((again.status.as_u16(), again.text()), (200, answer), "{path}");
    }
    assert_eq!(acts(&ground).await, expected);
}

/// Two rollouts of one epoch would be in conflict, and the button dead.
#[tokio::test(flavor = "multi_thread")]
async fn r5_of_two_rollbacks_at_once_one_is_signed() {
    let ground = Ground::new().await;
    let (path, _) = &calls(&ground)[2];
    let press = async |number: usize| {
        let body = json!({ "reason": format!("slow, says {number}") });
        ground.post(&ground.operator, path, &format!("press-{number}"), &body).await
    };
    let all = tokio::join!(press(0), press(1), press(2), press(3));
    let mut all = [all.0, all.1, all.2, all.3];
    all.sort_by_key(|got| got.status);
    assert_eq!(all[0].status, 200, "{}", all[0].text());
    for refused in &all[1..] {
        is_problem(refused, 409, "conflict", path);
    }
    assert_eq!(acts(&ground).await, ["ada act rollout"]);
    let signed = all[0].json()["rollout"].as_str().unwrap().to_owned();
    let report = ground.get(&format!("/api/v1/rollouts/{signed}")).await.json();
    assert!(!report["why"].as_str().unwrap().contains("of epoch"), "no conflict: {report}");
}

/// Planned after the same rollout as the one in force, by somebody who was as quick.
#[tokio::test(flavor = "multi_thread")]
async fn r5_a_rival_of_the_rollout_in_force_is_not_handed_in() {
    let ground = Ground::new().await;
    let ada = ground.fleet.person(ADA).await;
    let request = ControlRequest::Statement { id: ground.rollout };
    let ControlReply::Statement { envelope } = ada.ask(&request).await else { panic!() };
    let envelope = Envelope::parse(&envelope, usize::MAX).unwrap();
    let Ok(Statement::Rollout(in_force)) = Statement::parse(&envelope) else { panic!() };
    let rival = Rollout { reason: "mine".to_owned(), ..in_force };
    let reply = ada.submit(&rival.signed(&key(ADA))).await;
    let ControlReply::Refused(refused) = reply else { panic!("{reply:?}") };
    assert!(refused.reason.contains("came first"), "{refused:?}");
    // Signatures that come later to the one in force are its own.
    let reply = ada.submit(&envelope).await;
    assert!(matches!(reply, ControlReply::Submitted { effective: true, .. }), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_a_rollback_undoes_what_was_looked_at_or_nothing() {
    let ground = Ground::new().await;
    let (path, _) = &calls(&ground)[2];
    for dry_run in [true, false] {
        let body = json!({ "reason": "bad", "dry_run": dry_run, "of": ground.first });
        let got = ground.post(&ground.operator, path, &format!("old-{dry_run}"), &body).await;
        is_problem(&got, 409, "conflict", path);
        assert!(got.text().contains("is not the newest of web/staging any more"), "{}", got.text());
    }
    assert_eq!(acts(&ground).await, [""; 0]);
    let dry = json!({ "reason": "bad", "dry_run": true });
    let planned = ground.post(&ground.operator, path, "dry", &dry).await.json();
    assert_eq!(planned["of"], json!(ground.rollout));
    let body = json!({ "reason": "bad", "of": planned["of"] });
    let got = ground.post(&ground.operator, path, "wet", &body).await;
    assert_eq!(got.status, 200, "{}", got.text());
}

/// A person's number may be as high as numbers go, by a lie of whoever told the newest one.
#[tokio::test(flavor = "multi_thread")]
async fn r6_it_is_aborted_whatever_number_people_have_come_to() {
    let ground = Ground::new().await;
    let ada = ground.fleet.person(ADA).await;
    let pause = Directive {
        fleet: fleet(),
        rollout: ground.rollout,
        sequence: COUNTER_MAX,
        action: Action::Pause,
        wave: None,
        host: None,
        author: KeyId::of(&public(ADA)),
        created: now(),
        reason: "by hand".to_owned(),
        critical: Vec::new(),
    };
    let reply = ada.submit(&pause.signed(&key(ADA))).await;
    assert!(matches!(reply, ControlReply::Submitted { effective: true, .. }), "{reply:?}");
    let (path, body) = &calls(&ground)[1];
    let got = ground.post(&ground.operator, path, "k", body).await;
    assert_eq!(got.status, 200, "{path}: {}", got.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn r3_a_request_of_which_no_answer_is_known_is_not_done_again() {
    let ground = Ground::new().await;
    let (path, body) = &calls(&ground)[0];
    let both = [(), ()].map(|()| ground.post(&ground.operator, path, "both", body));
    let [one, other] = both;
    let (one, other) = tokio::join!(one, other);
    for got in [one, other] {
        assert!([200, 409].contains(&got.status.as_u16()), "{got:?}");
    }
    assert_eq!(acts(&ground).await.len(), 1);
    // As a coordinator leaves it that was killed over it.
    let file = format!("sqlite://{}", ground.fleet.state("coordinator.db").display());
    let pool = SqlitePool::connect(&file).await.unwrap();
    sqlx::query("UPDATE turns SET status = NULL, body = NULL").execute(&pool).await.unwrap();
    pool.close().await;
    let got = ground.post(&ground.operator, path, "both", body).await;
    is_problem(&got, 409, "under-way", path);
    assert_eq!(acts(&ground).await.len(), 1);
    // The key is hers alone: what another token does with the same one is another request.
    let ada = ground.fleet.person(ADA).await;
    let (_, token) = crate::https::token(&ada, AccessRole::Operator).await;
    let got = ground.post(&token, path, "both", body).await;
    is_problem(&got, 409, "conflict", "paused already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_acts_only_with_the_word_of_its_own_pages() {
    let ground = Ground::new().await;
    let ada = ground.fleet.person(ADA).await;
    let cookie = session(&ground.visitor, &ada, AccessRole::Operator).await;
    let other = session(&ground.visitor, &ada, AccessRole::Operator).await;
    let word = async |cookie: &str| {
        let page = ground.visitor.send("GET", "/", &[("cookie", cookie)], b"").await.text();
        let (_, rest) = page.split_once("name=\"word\" value=\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let (word, other) = (word(&cookie).await, word(&other).await);
    let (path, body) = &calls(&ground)[0];
    let origin = ground.visitor.origin();
    let post = async |origin: Option<&str>, word: Option<&str>| {
        let mut headers = vec![
            ("cookie", cookie.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", "k"),
        ];
        headers.extend(origin.map(|origin| ("origin", origin)));
        headers.extend(word.map(|word| ("x-swell-word", word)));
        ground.visitor.send("POST", path, &headers, body.to_string().as_bytes()).await
    };
    let refused = [
        (None, Some(word.as_str())),
        (Some("https://evil.example"), Some(&word)),
        (Some(origin.as_str()), None),
        (Some(&origin), Some("")),
        (Some(&origin), Some(other.as_str())),
    ];
    for (origin, word) in refused {
        let got = post(origin, word).await;
        is_problem(&got, 403, "other-site", &format!("{origin:?} {word:?}"));
    }
    assert_eq!(acts(&ground).await, [""; 0]);
    let got = post(Some(&origin), Some(&word)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    let headers = [("cookie", cookie.as_str())];
    let got = ground.visitor.send("GET", "/api/v1/fleet", &headers, b"").await;
    assert_eq!(got.status, 200, "to look it needs none");
}
