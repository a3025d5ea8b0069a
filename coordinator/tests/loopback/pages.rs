//! The pages' own forms: who may have something done, and what keeps other sites from it.

use std::net::Ipv4Addr;

use http_body_util::BodyExt as _;
use proto::access::{AccessKind, AccessRole};
use proto::statement::{Payload as _, Target};
use proto::wire::{ControlReply, ControlRequest};

use crate::api::ground::Ground;
use crate::fleet::*;
use crate::https::{Got, Visitor, link, session, token};

/// What forms of this session carry.
async fn word(ground: &Ground, cookie: &str) -> String {
    let page = ground.visitor.send("GET", "/", &[("cookie", cookie)], b"").await.text();
    let (_, rest) = page.split_once("name=\"word\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// A session of somebody, and what its forms carry.
async fn signed_in(ground: &Ground, who: u8, role: AccessRole) -> (String, String) {
    let person = ground.fleet.person(who).await;
    let cookie = session(&ground.visitor, &person, role).await;
    let word = word(ground, &cookie).await;
    (cookie, word)
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
    let (operator, own) = signed_in(&ground, ADA, AccessRole::Operator).await;
    let (_, strange) = signed_in(&ground, ADA, AccessRole::Operator).await;
    let (viewer, looks) = signed_in(&ground, CI, AccessRole::Viewer).await;
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
    // What was typed is not lost where it does not do.
    let long = "abc ".repeat(101);
    let body = format!("word={own}&reason={}", long.replace(' ', "+"));
    for act in ["abort", "roll-back", "promote"] {
        let path = format!("/rollouts/{id}/{act}");
        let got = form(&ground, &path, &operator, &here, &body).await;
        assert_eq!(got.status, 422, "{act}");
        let text = got.text();
        assert!(text.contains(&long) && text.contains("403 bytes, at most 400"), "{act}: {text}");
    }
    assert_eq!(acts(&ground).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_is_for_who_may_and_for_forms_of_ours_alone() {
    let ground = Ground::new().await;
    let (operator, own) = signed_in(&ground, ADA, AccessRole::Operator).await;
    let (_, strange) = signed_in(&ground, ADA, AccessRole::Operator).await;
    let (viewer, looks) = signed_in(&ground, CI, AccessRole::Viewer).await;
    let here = ground.visitor.origin();
    let filled = |word: &str, hours: u64| format!("word={word}&hours={hours}&reason=audit");
    let cases = [
        ("no word", &operator, here.as_str(), "hours=2&reason=audit".to_owned(), 422),
        ("an empty word", &operator, &here, filled("", 2), 403),
        ("another session's word", &operator, &here, filled(&strange, 2), 403),
        ("another site", &operator, "https://evil.example", filled(&own, 2), 403),
        ("one who only looks", &viewer, &here, filled(&looks, 2), 403),
        ("too long", &operator, &here, filled(&own, 25), 422),
        ("for ever", &operator, &here, filled(&own, u64::MAX), 422),
    ];
    for (case, cookie, origin, body, status) in cases {
        let got = form(&ground, "/environments/staging/freeze", cookie, origin, &body).await;
        assert_eq!(got.status, status, "{case}: {}", got.text());
    }
    assert_eq!(acts(&ground).await, 0);
    let path = "/environments/staging/freeze";
    let done = form(&ground, path, &operator, &here, &filled(&own, 2)).await;
    assert_eq!((done.status.as_u16(), done.header("location")), (303, "/"));
    assert_eq!(acts(&ground).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_only_looks_is_shown_no_buttons_however_soon_after_one_who_acts() {
    let ground = Ground::new().await;
    let (ada, ci) = (ground.fleet.person(ADA).await, ground.fleet.person(CI).await);
    let operator = session(&ground.visitor, &ada, AccessRole::Operator).await;
    let viewer = session(&ground.visitor, &ci, AccessRole::Viewer).await;
    let pages = [
        ("/".to_owned(), "/environments/staging/freeze"),
        (format!("/rollouts/{:#}", ground.rollout), "id=\"act-pause\""),
    ];
    for (path, button) in pages {
        // One look serves both, so they must follow each other closely.
        for (cookie, acts) in [(&operator, true), (&viewer, false), (&operator, true)] {
            let page = ground.visitor.send("GET", &path, &[("cookie", cookie)], b"").await.text();
            assert_eq!(page.contains(button), acts, "{path}: {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_see_the_door_and_nobody_frames_it() {
    let ground = Ground::new().await;
    let paths = [
        ("/", "/enter"),
        ("/hosts", "/enter?next=%2Fhosts"),
        ("/hosts?from=x", "/enter?next=%2Fhosts%3Ffrom%3Dx"),
        ("/events?before=x", "/enter?next=%2Fevents%3Fbefore%3Dx"),
        ("/audit?before=-1", "/enter?next=%2Faudit%3Fbefore%3D-1"),
        ("/services/web", "/enter?next=%2Fservices%2Fweb"),
        ("//evil.example/", "/enter"),
    ];
    for (path, door) in paths {
        let got = ground.visitor.send("GET", path, &[], b"").await;
        assert_eq!((got.status.as_u16(), got.header("location")), (303, door), "{path}");
        assert!(!got.text().contains("web"), "{path}");
    }
    let got = ground.visitor.send("GET", "/live/fleet?seen=x", &[], b"").await;
    assert_eq!(got.status, 401);
    let door = ground.visitor.send("GET", "/enter", &[], b"").await;
    assert_eq!(
        door.header("content-security-policy"),
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    assert_eq!(door.header("x-frame-options"), "DENY");
    let (cookie, own) = signed_in(&ground, ADA, AccessRole::Operator).await;
    let left = form(&ground, "/leave", &cookie, &ground.visitor.origin(), "word=").await;
    assert_eq!(left.status, 403, "it is signed out by itself alone");
    let body = format!("word={own}");
    let left = form(&ground, "/leave", &cookie, &ground.visitor.origin(), &body).await;
    assert_eq!((left.status.as_u16(), left.header("location")), (303, "/enter"));
    let got = ground.visitor.send("GET", "/", &[("cookie", &cookie)], b"").await;
    assert_eq!(got.status, 303, "the session is over");
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

/// `POST /enter` as a browser sends it.
async fn enter(visitor: &Visitor, headers: &[(&str, &str)], body: &str) -> Got {
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let headers: Vec<_> = headers.iter().copied().chain([kind]).collect();
    visitor.send("POST", "/enter", &headers, body.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_leads_to_what_was_wanted_and_ends_the_session_before() {
    let fleet = Fleet::start().await;
    let visitor = Visitor::of(&fleet).await;
    let (ada, here) = (fleet.person(ADA).await, visitor.origin());
    let secret = link(&ada, AccessRole::Operator).await;
    for origin in ["https://evil.example", "null"] {
        let got = enter(&visitor, &[("origin", origin)], &format!("link={secret}")).await;
        assert_eq!(got.status, 403, "{origin}");
    }
    assert_eq!(enter(&visitor, &[], &format!("link={secret}")).await.status, 403);
    let body = format!("link={secret}&next=%2Fhosts%3Fq%3Dweb");
    let first = enter(&visitor, &[("origin", &here)], &body).await;
    assert_eq!((first.status.as_u16(), first.header("location")), (303, "/hosts?q=web"));
    let set = first.header("set-cookie").to_owned();
    let (cookie, attributes) = set.split_once("; ").unwrap();
    assert!(cookie.starts_with("__Host-swell="), "{set}");
    let attributes: Vec<_> = attributes.split("; ").collect();
    for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(attributes.contains(&attribute), "{attribute}: {set}");
    }
    // Somebody else's page as what to come back to.
    let secret = link(&ada, AccessRole::Operator).await;
    let body = format!("link={secret}&next=%2F%2Fevil.example");
    let second = enter(&visitor, &[("origin", &here), ("cookie", cookie)], &body).await;
    assert_eq!((second.status.as_u16(), second.header("location")), (303, "/"));
    let got = visitor.send("GET", "/", &[("cookie", cookie)], b"").await;
    assert_eq!(got.status, 303, "the session before is over");
    let cookie = second.header("set-cookie").split(';').next().unwrap();
    assert_eq!(visitor.send("GET", "/", &[("cookie", cookie)], b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_link_from_elsewhere_is_shown_on_from_here() {
    let fleet = Fleet::start().await;
    let visitor = Visitor::of(&fleet).await;
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    let got = visitor.send("GET", "/hosts?q=%22%3E%3Cb%3E", &link, b"").await;
    assert_eq!(got.status, 200);
    assert!(got.text().contains("id=\"onward\" href=\"/hosts?q=%22%3E%3Cb%3E\""), "{}", got.text());
    let got = visitor.send("GET", "//evil.example/", &link, b"").await;
    assert!(got.text().contains("id=\"onward\" href=\"/\""), "{}", got.text());
    assert_eq!(visitor.send("GET", "/live/fleet", &link, b"").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_changes_ends_with_the_session() {
    let fleet = Fleet::start().await;
    let visitor = Visitor::of(&fleet).await;
    let ada = fleet.person(ADA).await;
    let cookie = session(&visitor, &ada, AccessRole::Operator).await;
    let from = Ipv4Addr::new(127, 0, 0, 203);
    let (status, _, mut told) = visitor.follow(from, "/live/fleet", &cookie).await;
    assert_eq!(status, 200);
    let first = told.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"event: beat\n"), "{first:?}");
    let id = cookie.split_once('=').unwrap().1[..16].to_owned();
    let ended = ada.ask(&ControlRequest::AccessRevoke { id }).await;
    assert!(matches!(ended, ControlReply::Done), "{ended:?}");
    // It ends by itself: no data comes any more, and no error.
    let rest = tokio::time::timeout(WITHIN, told.collect()).await;
    rest.expect("it ends").unwrap();
    let (status, ..) = visitor.follow(from, "/live/fleet", &cookie).await;
    assert_eq!(status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_follows_more_pages_than_there_are_places() {
    let fleet = Fleet::start().await;
    let visitor = Visitor::of(&fleet).await;
    let ada = fleet.person(ADA).await;
    let cookie = session(&visitor, &ada, AccessRole::Operator).await;
    let other = session(&visitor, &ada, AccessRole::Viewer).await;
    let mut held = Vec::new();
    for place in 0..64 {
        let from = Ipv4Addr::new(127, 0, 0, 204 + place % 2);
        let (status, _, told) = visitor.follow(from, "/live/fleet", &cookie).await;
        assert_eq!(status, 200);
        held.push(told);
    }
    let from = Ipv4Addr::new(127, 0, 0, 206);
    let (status, headers, _) = visitor.follow(from, "/live/fleet", &cookie).await;
    assert_eq!((status.as_u16(), &headers["retry-after"]), (503, &"10".parse().unwrap()));
    assert_eq!(visitor.follow(from, "/live/fleet", &other).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_was_superseded_says_so_where_it_is_open() {
    let ground = Ground::new().await;
    let ada = ground.fleet.person(ADA).await;
    let cookie = session(&ground.visitor, &ada, AccessRole::Operator).await;
    let old = format!("{:#}", ground.first);
    let path = format!("/rollouts/{old}");
    let page = ground.visitor.send("GET", &path, &[("cookie", &cookie)], b"").await.text();
    assert!(page.contains(&format!("sse-connect=\"/live/rollouts/{old}?seen=")), "{page}");
    let from = Ipv4Addr::new(127, 0, 0, 207);
    let path = format!("/live/rollouts/{old}?seen=0");
    let (status, _, mut told) = ground.visitor.follow(from, &path, &cookie).await;
    assert_eq!(status, 200);
    let mut text = String::new();
    while !text.contains("</main>") {
        let frame = tokio::time::timeout(WITHIN, told.frame()).await.unwrap().unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap()));
    }
    assert!(text.contains("superseded") && text.contains("The newest of web in staging"), "{text}");
    assert!(text.contains(&format!("{:#}", ground.rollout)), "{text}");
    assert!(!text.contains("id=\"act-pause\""), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_approval_is_shown_with_the_line_that_signs_it() {
    let mut fleet = Fleet::new(root(1));
    fleet.start_again().await;
    let host = fleet.host(20).await;
    let (ci, ada) = (fleet.person(CI).await, fleet.person(ADA).await);
    let release = published(ci.publish(&Parcel::new("1", 10)).await);
    let target = Target { release, version: "1".parse().unwrap() };
    let mut waiting = rollout(target, &[&host]).envelope();
    waiting.sign(&key(ADA));
    let reply = ada.submit(&waiting).await;
    assert!(matches!(reply, ControlReply::Submitted { effective: false, .. }), "{reply:?}");
    let visitor = Visitor::of(&fleet).await;
    let cookie = session(&visitor, &ada, AccessRole::Operator).await;
    let id = waiting.id();
    for path in ["/".to_owned(), format!("/rollouts/{id:#}")] {
        let page = visitor.send("GET", &path, &[("cookie", &cookie)], b"").await.text();
        assert!(page.contains(&format!("swell approve {id}")), "{path}: {page}");
        assert!(page.contains("sse-connect="), "{path}");
    }
    let token = token(&ada, AccessRole::Viewer).await.1;
    let rollouts = visitor.get(&token, "/api/v1/rollouts").await.json();
    assert_eq!(rollouts["items"][0]["id"], format!("{id:#}"), "{rollouts}");
    assert_eq!(rollouts["items"][0]["phase"], "pending", "{rollouts}");
    let counted = visitor.get(&token, "/api/v1/fleet").await.json();
    assert_eq!(counted["rollouts"]["open"], 1, "{counted}");
}

/// What is confirmed is what was shown.
#[tokio::test(flavor = "multi_thread")]
async fn the_button_of_an_older_rollout_takes_nothing_back() {
    let ground = Ground::new().await;
    let (cookie, own) = signed_in(&ground, ADA, AccessRole::Operator).await;
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
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_read_is_turned_away_by_a_page_of_ours() {
    let ground = Ground::new().await;
    let (viewer, _) = signed_in(&ground, CI, AccessRole::Viewer).await;
    let cases = [
        ("GET", "/audit?before=abc", 400),
        ("GET", "/events?before=-1", 400),
        ("GET", "/hosts?from=x", 400),
        ("GET", "/hosts/%ff", 400),
        ("POST", "/events", 405),
        ("GET", "/environments/stagin/freeze", 404),
        ("GET", "/nothing", 404),
    ];
    for (method, path, status) in cases {
        let origin = ground.visitor.origin();
        let headers = [("cookie", viewer.as_str()), ("origin", origin.as_str())];
        let got = ground.visitor.send(method, path, &headers, b"").await;
        assert_eq!(got.status, status, "{path}: {}", got.text());
        assert_eq!(got.header("content-type"), "text/html; charset=utf-8", "{path}");
        assert!(got.text().contains("To the fleet"), "{path}: {}", got.text());
        assert!(!got.text().contains("deserialize"), "{path}: {}", got.text());
        assert_eq!(got.header("allow").is_empty(), status != 405, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_events_has_the_filters_of_the_others_and_keeps_them() {
    let ground = Ground::new().await;
    ground.keep_events(120).await;
    let (viewer, _) = signed_in(&ground, CI, AccessRole::Viewer).await;
    let page = async |path: &str| {
        let got = ground.visitor.send("GET", path, &[("cookie", &viewer)], b"").await;
        (got.status.as_u16(), got.text())
    };
    let asked = "service=web&env=staging&kind=wave-opened&host=&since=2020-01-01T00%3A00";
    let (status, text) = page(&format!("/events?{asked}")).await;
    assert_eq!((status, text.matches("<li class").count()), (200, 100), "{text}");
    let earlier = "/events?service=web&amp;env=staging&amp;kind=wave-opened\
                   &amp;since=2020-01-01T00%3A00&amp;before=";
    let (_, rest) = text.split_once(earlier).expect(&text);
    let before = rest.split('"').next().unwrap();
    let (_, text) = page(&format!("/events?{asked}&before={before}")).await;
    // The coordinator tells of the two rollouts' own waves, sooner or later.
    assert!((20..=22).contains(&text.matches("<li class").count()), "{text}");
    assert!(text.contains("value=\"wave-opened\" selected"), "{text}");
    let (status, text) = page("/events?host=host-20").await;
    assert_eq!((status, text.matches("wave ").count()), (200, 0), "{text}");
    let wrong = [
        ("host=host-2", 404, "did you mean host-20?"),
        ("env=stagin", 404, "did you mean staging?"),
        ("service=No", 422, "service name must be"),
        ("kind=wave", 404, "did you mean wave-opened?"),
        ("since=yesterday", 422, "must be a moment in UTC"),
        ("rollout=ffffffff", 404, "ffffffff"),
    ];
    for (asked, expected, says) in wrong {
        let (status, text) = page(&format!("/events?{asked}")).await;
        assert_eq!(status, expected, "{asked}");
        assert!(text.contains(says) && text.contains("role=\"alert\""), "{asked}: {text}");
        assert!(!text.contains("nothing yet"), "{asked}: {text}");
    }
}
