//! Looking: pages of lists, marks of what is known, one thing after the other, what is refused.

use serde_json::{Value, json};

use super::ground::{Ground, errors};
use crate::fleet::*;
use crate::https::Got;

fn problem(got: &Got, status: u16, kind: &str) -> Value {
    assert_eq!(got.status, status, "{got:?}");
    assert_eq!(got.header("content-type"), "application/problem+json", "{got:?}");
    let problem = got.json();
    assert_eq!(problem["type"], format!("urn:groundswell:problem:{kind}"));
    assert_eq!(problem["status"], status);
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_is_told_as_swell_tells_it() {
    let ground = Ground::new().await;
    let fleet = ground.get("/api/v1/fleet").await.json();
    assert_eq!(fleet["fleet"], "test-00000000");
    assert_eq!((&fleet["hosts"], &fleet["hosts_alive"]), (&json!(1), &json!(1)));
    assert_eq!(fleet["releases"], 2);
    assert_eq!(fleet["rollouts"], json!({ "all": 1, "open": 1, "held": 0, "halted": 0 }));
    let ada = ground.fleet.person(ADA).await;
    let query = proto::wire::RolloutQuery::Id(format!("{:#}", ground.rollout));
    let reply = ada.ask(&proto::wire::ControlRequest::Rollout(query)).await;
    let proto::wire::ControlReply::Rollout(report) = reply else { panic!("{reply:?}") };
    let id = format!("{:#}", ground.rollout);
    let told = ground.get(&format!("/api/v1/rollouts/{}", &id[..4])).await.json();
    assert_eq!(told["id"], id);
    // What changes from second to second is not compared.
    let swell = serde_json::to_value(&report).unwrap();
    for name in ["service", "env", "epoch", "from", "to", "author", "expires", "phase", "waves"] {
        assert_eq!(told[name], swell[name], "{name}");
    }
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&told), keys(&swell));
    assert_eq!(told["hosts"][0]["host"], ground.host.as_str());
    let newest = ground.get("/api/v1/rollouts").await.json();
    assert_eq!(newest["items"][0]["id"], id);
    assert_eq!(newest["items"][0]["hosts"], json!([]));
    let services = ground.get("/api/v1/services").await.json();
    assert_eq!(services["items"][0]["service"], "web");
    assert_eq!(services["items"][0]["environments"][0]["rollout"], id);
    let release = ground.get("/api/v1/releases/web/1").await.json();
    assert_eq!((&release["version"], &release["signers"]), (&json!("1"), &json!("ci+coordinator")));
    let host = ground.get(&format!("/api/v1/hosts/{}", ground.host)).await.json();
    assert_eq!((&host["name"], &host["alive"]), (&json!("host-20"), &json!(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_that_lead_to_each_other() {
    let ground = Ground::new().await;
    ground.keep_events(5).await;
    let (first, rollout) = (format!("{:#}", ground.first), format!("{:#}", ground.rollout));
    let cases = [
        // The coordinator tells of things itself: above these there may be others.
        ("/api/v1/events?before=6&limit=2", "seq", (1..=5).rev().map(|seq| json!(seq)).collect()),
        ("/api/v1/events?before=4&limit=2", "seq", vec![json!(3), json!(2), json!(1)]),
        ("/api/v1/events?kind=wave-opened&since=99999999999", "seq", Vec::new()),
        ("/api/v1/events?host=host-20&kind=host-drifted", "seq", Vec::new()),
        ("/api/v1/services/web/releases?limit=1", "version", vec![json!("2"), json!("1")]),
        (
            "/api/v1/rollouts?service=web&env=staging&limit=1",
            "id",
            vec![json!(rollout), json!(first)],
        ),
        ("/api/v1/hosts?limit=1", "id", vec![json!(ground.host.as_str())]),
    ];
    for (start, name, expected) in cases {
        let (mut path, mut found) = (start.to_owned(), Vec::new());
        loop {
            let got = ground.get(&path).await;
            assert_eq!(got.status, 200, "{path}: {got:?}");
            let page = got.json();
            found.extend(page["items"].as_array().unwrap().iter().map(|item| item[name].clone()));
            let link = got.header("link");
            assert_eq!(link.is_empty(), page["next"].is_null(), "{path}");
            let Some((next, _)) = link.split_once('>') else { break };
            path = next.trim_start_matches('<').to_owned();
            assert!(path.contains(page["next"].as_str().unwrap()), "{path}");
        }
        assert_eq!(found, expected, "{start}");
    }
    let path = format!("/api/v1/events?rollout={}&kind=wave-opened&env=staging", &rollout[..8]);
    let events = ground.get(&path).await.json();
    let events = events["items"].as_array().unwrap();
    let fits = |event: &Value| event["kind"] == "wave-opened" && event["rollout"] == rollout;
    assert!(events.len() >= 5 && events.iter().all(fits), "{events:?}");
    let audit = ground.get("/api/v1/audit?limit=200").await.json();
    let audit = audit["items"].as_array().unwrap();
    let later = ground.get("/api/v1/audit?after=2&limit=1").await.json();
    assert_eq!(later["items"][0], audit[2]);
    // As `swell audit` does it.
    let actor = audit[0]["actor"].as_str().unwrap();
    let named = |entry: &&Value| entry["actor"] == actor;
    let since = audit[0]["at"].as_u64().unwrap();
    let path = format!("/api/v1/audit?limit=200&actor={}&since={since}", actor.replace(' ', "%20"));
    let found = ground.get(&path).await.json();
    assert_eq!(found["items"], json!(audit.iter().filter(named).collect::<Vec<_>>()));
    let found = ground.get("/api/v1/audit?action=token-revoke").await.json();
    assert_eq!((&found["items"], &found["next"]), (&json!([]), &json!(null)));
    let found = ground.get("/api/v1/audit?since=99999999999").await.json();
    assert_eq!(found["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_is_not_told_again() {
    let ground = Ground::new().await;
    let path = "/api/v1/releases/web/1";
    let got = ground.get(path).await;
    let mark = got.header("etag").to_owned();
    assert_eq!(got.header("cache-control"), "private, no-cache");
    let token = crate::https::bearer(&ground.viewer);
    let weak = format!("W/{mark}");
    let several = format!("\"x\", {mark}");
    let cases = [(mark.as_str(), 304), (&weak, 304), (&several, 304), ("*", 304), ("\"x\"", 200)];
    for (known, status) in cases {
        let headers = [("authorization", token.as_str()), ("if-none-match", known)];
        let got = ground.visitor.send("GET", path, &headers, b"").await;
        assert_eq!(got.status, status, "{known}");
        assert_eq!(got.body.is_empty(), status == 304);
        assert_eq!(got.header("etag"), mark);
    }
    let other = ground.get("/api/v1/releases/web/2").await;
    assert_ne!(other.header("etag"), mark);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_known_is_a_problem() {
    let ground = Ground::new().await;
    let nothing = [
        "/api",
        "/api/",
        "/api/v2/fleet",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nothing",
        "/api/v1/hosts/aaaaaaaaaaaa",
        "/api/v1/hosts/not-an-id",
        "/api/v1/hosts/%ff",
        "/api/v1/rollouts/ffffffff",
        "/api/v1/rollouts/fff",
        "/api/v1/services/none/releases",
        "/api/v1/releases/web/9",
    ];
    for path in nothing {
        problem(&ground.get(path).await, 404, "not-found");
    }
    let invalid = [
        ("/api/v1/fleet?x=1&y=2", "x y"),
        ("/api/v1/hosts?limit=0", "limit"),
        ("/api/v1/hosts?limit=201", "limit"),
        ("/api/v1/hosts?limit=-1&env=No&q=a", "env limit q"),
        ("/api/v1/hosts?limit=1&limit=1", "limit"),
        ("/api/v1/hosts?cursor=zzz", "cursor"),
        ("/api/v1/hosts?cursor=ZXZlbnRzIDE", "cursor"),
        ("/api/v1/events?before=x", "before"),
        ("/api/v1/events?before=3&cursor=ZXZlbnRzIDE", "before"),
        ("/api/v1/audit?after=99999999999999999999", "after"),
        // What nobody knows would look as if nothing had happened.
        ("/api/v1/events?service=wbe", "service"),
        ("/api/v1/events?env=stagin", "env"),
        ("/api/v1/events?host=host-21", "host"),
        ("/api/v1/events?rollout=ffff", "rollout"),
        ("/api/v1/events?kind=wave-open", "kind"),
        ("/api/v1/hosts?env=stagin", "env"),
        ("/api/v1/rollouts?service=wbe", "service"),
        ("/api/v1/audit?action=publis", "action"),
        ("/api/v1/audit?actor=adda", "actor"),
    ];
    for (path, fields) in invalid {
        let problem = problem(&ground.get(path).await, 422, "invalid");
        let named: Vec<_> = errors(&problem).into_keys().collect();
        assert_eq!(named.join(" "), fields, "{path}: {problem}");
    }
    let told = async |path: &str| errors(&ground.get(path).await.json());
    let near = [
        ("/api/v1/events?service=wbe", "there is no service \"wbe\" here: did you mean web?"),
        ("/api/v1/events?kind=wave-open", "did you mean wave-opened?"),
        ("/api/v1/audit?action=publis", "did you mean publish?"),
        ("/api/v1/audit?actor=adda", "did you mean ada?"),
    ];
    for (path, says) in near {
        let errors = told(path).await;
        assert!(errors.values().any(|error| error.contains(says)), "{path}: {errors:?}");
    }
    let got = ground.get("/api/v1/hosts?env=%ff").await;
    assert!([400, 422].contains(&got.status.as_u16()), "{got:?}");
    assert!(got.header("x-content-type-options") == "nosniff", "the guard seals it, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn r4_who_asks_is_known_by_a_token_that_is_good_now() {
    let ground = Ground::new().await;
    let none = ground.visitor.send("GET", "/api/v1/fleet", &[], b"").await;
    problem(&none, 401, "unauthorized");
    assert_eq!(none.header("www-authenticate"), "Bearer");
    for bad in ["Basic abc", "Bearer", "Bearer x", &format!("Bearer {}", "0".repeat(48))] {
        let headers = [("authorization", bad)];
        let got = ground.visitor.send("GET", "/api/v1/fleet", &headers, b"").await;
        problem(&got, 401, "unauthorized");
    }
    assert_eq!(ground.get("/api/v1/fleet").await.status, 200);
    // CI's key loses its one role.
    let mut root = ground.fleet.root.clone();
    root.version += 1;
    root.roles.remove(&proto::statement::Role::Publish);
    let mut envelope = proto::statement::Payload::envelope(&root);
    envelope.sign(&key(ROOT));
    let ada = ground.fleet.person(ADA).await;
    assert_eq!(kind(&ada.submit(&envelope).await), None);
    problem(&ground.get("/api/v1/fleet").await, 401, "unauthorized");
    let operator = ground.visitor.get(&ground.operator, "/api/v1/fleet").await;
    assert_eq!(operator.status, 200, "Ada has hers still");
}
