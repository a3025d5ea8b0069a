//! The pages' own forms: who may have something done, and what keeps other sites from it.

use proto::access::{AccessKind, AccessRole};
use proto::wire::{ControlReply, ControlRequest};
use std::net::Ipv4Addr;

use proto::access::AccessRole;

use crate::api::ground::Ground;
use crate::fleet::{ADA, CI, Fleet};
use crate::https::{Got, Visitor, session};

/// What forms of this session carry.
async fn word(ground: &Ground, cookie: &str) -> String {
    let page = ground.visitor.send("GET", "/", &[("cookie", cookie)], b"").await.text();
    let (_, rest) = page.split_once("name=\"word\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// A form as a browser sends it.
async fn form(ground: &Ground, path: &str, cookie: &str, origin: &str, body: &str) -> Got {
    let headers = [
        ("cookie", cookie),
        ("origin", origin),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    ground.visitor.send("POST", path, &headers, body.as_bytes()).await
}

async fn acts(ground: &Ground) -> usize {
    ground.fleet.audit().await.iter().filter(|entry| entry.contains(" act ")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_is_for_who_may_and_for_forms_of_ours_alone() {
    let ground = Ground::new().await;
    let (ada, ci) = (ground.fleet.person(ADA).await, ground.fleet.person(CI).await);
    let operator = session(&ground.visitor, &ada, AccessRole::Operator).await;
    let other = session(&ground.visitor, &ada, AccessRole::Operator).await;
    let viewer = session(&ground.visitor, &ci, AccessRole::Viewer).await;
    let (own, strange) = (word(&ground, &operator).await, word(&ground, &other).await);
    let looks = word(&ground, &viewer).await;
    let here = ground.visitor.origin();
    let id = format!("{:#}", ground.rollout);
    for act in ["pause", "abort", "roll-back", "resume"] {
        let path = format!("/rollouts/{id}/{act}");
        let filled = |word: &str| format!("word={word}&reason=slow");
        let cases = [
            ("no word", &operator, here.as_str(), "reason=slow".to_owned(), 422),
            ("an empty word", &operator, &here, filled(""), 403),
            ("another session's word", &operator, &here, filled(&strange), 403),
            ("another site", &operator, "https://evil.example", filled(&own), 403),
            ("no site", &operator, "null", filled(&own), 403),
            ("one who only looks", &viewer, &here, filled(&looks), 403),
            ("no reason", &operator, &here, format!("word={own}&reason=+"), 422),
        ];
        for (case, cookie, origin, body, status) in cases {
            // A draft may lack its reason: it is signed by a person, who sees it.
            if act == "resume" && case == "no reason" {
                continue;
            }
            let got = form(&ground, &path, cookie, origin, &body).await;
            assert_eq!(got.status, status, "{act}, {case}: {}", got.text());
        }
    }
    assert_eq!(acts(&ground).await, 0);
    let path = format!("/rollouts/{id}/pause");
    let done = form(&ground, &path, &operator, &here, &format!("word={own}&reason=slow")).await;
    assert_eq!((done.status.as_u16(), done.header("location")), (303, &*format!("/rollouts/{id}")));
    assert_eq!(acts(&ground).await, 1);
    let path = format!("/rollouts/{id}/resume");
    let drafted = form(&ground, &path, &operator, &here, &format!("word={own}&reason=fine")).await;
    assert_eq!(drafted.status, 200);
    assert!(drafted.text().contains("swell sign "), "{}", drafted.text());
    assert_eq!(acts(&ground).await, 1, "a draft is worth nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_the_door_and_nobody_frames_it() {
    let ground = Ground::new().await;
    for path in ["/", "/hosts", "/events", "/audit", "/services/web", "/nowhere"] {
        let got = ground.visitor.send("GET", path, &[], b"").await;
        assert_eq!((got.status.as_u16(), got.header("location")), (303, "/enter"), "{path}");
        assert!(!got.text().contains("web"), "{path}");
    }
    let got = ground.visitor.send("GET", "/live/fleet", &[], b"").await;
    assert_eq!(got.status, 401);
    let door = ground.visitor.send("GET", "/enter", &[], b"").await;
    let policy = door.header("content-security-policy");
    for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(door.header("x-frame-options"), "DENY");
    let ada = ground.fleet.person(ADA).await;
    let cookie = session(&ground.visitor, &ada, AccessRole::Operator).await;
    let own = word(&ground, &cookie).await;
    let left = form(&ground, "/leave", &cookie, &ground.visitor.origin(), "word=").await;
    assert_eq!(left.status, 403, "it is signed out by itself alone");
    let body = format!("word={own}");
    let left = form(&ground, "/leave", &cookie, &ground.visitor.origin(), &body).await;
    assert_eq!((left.status.as_u16(), left.header("location")), (303, "/enter"));
    let got = ground.visitor.send("GET", "/", &[("cookie", &cookie)], b"").await;
    assert_eq!(got.status, 303, "the session is over");
}

/// What is confirmed is what was shown.
#[tokio::test(flavor = "multi_thread")]
async fn the_button_of_an_older_rollout_takes_nothing_back() {
    let ground = Ground::new().await;
    let ada = ground.fleet.person(ADA).await;
    let cookie = session(&ground.visitor, &ada, AccessRole::Operator).await;
    let own = word(&ground, &cookie).await;
    let path = format!("/rollouts/{:#}/roll-back", ground.first);
    let shown = ground.visitor.send("GET", &path, &[("cookie", &cookie)], b"").await;
    let body = format!("word={own}&reason=slow");
    let done = form(&ground, &path, &cookie, &ground.visitor.origin(), &body).await;
    for got in [shown, done] {
        assert_eq!(got.status, 409);
        assert!(got.text().contains("is not the newest of web/staging any more"), "{}", got.text());
    }
    assert_eq!(acts(&ground).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_tokens_live_as_long_as_they_may_and_no_longer() {
    let ground = Ground::new().await;
    let ada = ground.fleet.person(ADA).await;
    let day = 86_400;
    for (kind, ttl_s, good) in [
        (AccessKind::Link, 299, false),
        (AccessKind::Link, 7 * day, true),
        (AccessKind::Link, 7 * day + 1, false),
        (AccessKind::Token, 366 * day, true),
        (AccessKind::Token, 366 * day + 1, false),
        (AccessKind::Session, day, false),
    ] {
        let request = ControlRequest::AccessCreate { kind, role: AccessRole::Operator, ttl_s };
        let made = matches!(ada.ask(&request).await, ControlReply::Access { .. });
        assert_eq!(made, good, "{kind:?} of {ttl_s} s");
    }
#[tokio::test(flavor = "multi_thread")]
async fn one_who_takes_all_places_and_says_nothing_keeps_nobody_out() {
    let fleet = Fleet::start().await;
    let visitor = Visitor::of(&fleet).await;
    assert_eq!(visitor.send("GET", "/enter", &[], b"").await.status, 200);
    let stranger = Ipv4Addr::new(127, 0, 0, 200);
    let mut held = Vec::new();
    for _ in 0..600 {
        held.extend(visitor.silent(stranger).await);
    }
    assert!((1..=64).contains(&held.len()), "{} of 600 are in", held.len());
    assert_eq!(visitor.send("GET", "/enter", &[], b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_asks_too_much_waits_and_keeps_nobody_else_waiting() {
    let fleet = Fleet::start().await;
    let visitor = Visitor::of(&fleet).await;
    let (one, other) = (Ipv4Addr::new(127, 0, 0, 201), Ipv4Addr::new(127, 0, 0, 202));
    let mut refused = None;
    // Faster than 40 a second: 120 of them go at once.
    for _ in 0..20 {
        let asks = (0..32).map(|_| visitor.send_from(one, "GET", "/enter", &[], b""));
        let got = futures_util::future::join_all(asks).await;
        refused = got.into_iter().find(|got| got.status == 429);
        if refused.is_some() {
            break;
        }
    }
    assert!(refused.is_some(), "640 requests are too many");
    assert_eq!(visitor.send_from(other, "GET", "/enter", &[], b"").await.status, 200);
}
