//! Who asks, and what keeps strangers and other sites out.
//!
//! A session is a cookie that scripts cannot read and that browsers send along to this place alone, and
//! never from a link or a form elsewhere (`SameSite=Strict`): whoever follows a link from a chat or a mail is
//! shown a page that goes on from here. Whatever changes something must come from a
//! page of ours, which the browser says (`Origin`), and carry a word that only such a page has. A token
//! comes in a header, which no other site can set. Pages load nothing from anywhere and are shown in
//! nobody's frame.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::body::to_bytes;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST,
    HeaderName, ORIGIN, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use lru::LruCache;
use proto::access::AccessKind;
use proto::wire::Refused;

use super::Web;
use super::api::{self, Kind, Problem};
use super::door::Caller;
use super::enter;
use super::page::{onward, problem, refused};
use crate::access::{Credential, Visitor};

/// The cookie of a session. The prefix has browsers insist that it is secure and of this host alone.
pub(super) const COOKIE_NAME: &str = "__Host-swell";
/// Requests that one caller may make at once, and how many are given back each second.
const BURST: f64 = 120.0;
const PER_S: f64 = 40.0;
/// Longest line that is told on, in bytes.
const LINE_BYTES_MAX: usize = 1_024;
/// Callers that are remembered: whoever has not come for long begins anew.
const CALLERS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

/// Whoever makes this request.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) visitor: Visitor,
    /// What it came with.
    came_with: (Credential, AccessKind),
    /// What forms must carry; none: it came with a token, and sees no forms.
    pub(super) word: Option<String>,
}

/// How much each caller has asked lately.
pub(super) struct Gate {
    buckets: Mutex<LruCache<Caller, Bucket>>,
}

/// A token bucket.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Default for Gate {
    fn default() -> Self {
        Self { buckets: Mutex::new(LruCache::new(CALLERS_MAX)) }
    }
}

impl Gate {
    /// Whether this caller may ask once more at `now`.
    fn admits(&self, caller: Caller, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get_or_insert_mut(caller, || Bucket { left: BURST, at: now });
        let back = now.saturating_duration_since(bucket.at).as_secs_f64() * PER_S;
        *bucket = Bucket { left: (bucket.left + back).min(BURST), at: now };
        let admitted = bucket.left >= 1.0;
        if admitted {
            bucket.left -= 1.0;
        }
        admitted
    }
}

/// Before every request, and after every answer.
pub(super) async fn guard(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    let for_script = api::is_below(request.uri());
    // Nobody reads what streams and style are answered with.
    let for_people = !for_script && !is_for_programs(request.uri().path());
    let answer = match admit(&web, &mut request).await {
        Ok(()) if for_people => in_house(next.run(request).await).await,
        Ok(()) => next.run(request).await,
        Err(refusal) if for_script => Problem::from(refusal).into_response(),
        Err(refusal) => refusal.page(),
    };
    seal(answer)
}

fn is_for_programs(path: &str) -> bool {
    path.starts_with("/live/") || path.starts_with("/assets/")
}

/// A page in place of the line of plain text, or of nothing, with which what does not read is turned away.
async fn in_house(answer: Response) -> Response {
    let is_text = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/plain");
    let is_page = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| !is_text(kind));
    let status = answer.status();
    if is_page || !(status.is_client_error() || status.is_server_error()) {
        return answer;
    }
    let allowed = answer.headers().get(ALLOW).cloned();
    let line = to_bytes(answer.into_body(), LINE_BYTES_MAX).await.unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    let text = match line.trim() {
        "" => "that is not done to this address".to_owned(),
        // What stands first is of the program's making.
        line => {
            let why = line.split_once(": ").map_or(line, |(_, why)| why);
            format!("what was sent does not read: {why}")
        }
    };
    let mut page = problem(status, &text);
    page.headers_mut().extend(allowed.map(|methods| (ALLOW, methods)));
    page
}

async fn admit(web: &Web, request: &mut Request) -> Result<(), Refusal> {
    let caller = request.extensions().get::<Caller>().copied();
    // The door says of everybody where they come from.
    if !caller.is_some_and(|caller| web.gate.admits(caller, Instant::now())) {
        return Err(Refusal::TooMuch);
    }
    let Some(came_with) = credential(request.headers()) else {
        // There nobody does anything without a credential, and scripts come from no site.
        return if api::is_below(request.uri()) { Ok(()) } else { same_site(request) };
    };
    // A token comes in a header that no other site can set.
    if came_with.1 == AccessKind::Session {
        same_site(request)?;
    }
    if let Some(guest) = Guest::of(web, came_with).await.map_err(Refusal::Failed)? {
        request.extensions_mut().insert(guest);
    }
    Ok(())
}

/// What came along: a session's cookie, or a token.
fn credential(headers: &HeaderMap) -> Option<(Credential, AccessKind)> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        let bearer = scheme.eq_ignore_ascii_case("bearer");
        return Some((bearer.then(|| token.parse().ok()).flatten()?, AccessKind::Token));
    }
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split("; "));
    let ours = pairs.find_map(|pair| pair.strip_prefix(COOKIE_NAME)?.strip_prefix('='))?;
    Some((ours.parse().ok()?, AccessKind::Session))
}

/// What a form of this session must carry.
fn word(session: &Credential) -> String {
    let word = blake3::derive_key("groundswell pages forms 1", &session.secret.to_bytes());
    blake3::Hash::from_bytes(word).to_hex().to_string()
}

impl Guest {
    async fn of(web: &Web, came_with: (Credential, AccessKind)) -> Result<Option<Self>, Refused> {
        let (credential, kind) = &came_with;
        let Some(visitor) = web.desk.visitor(credential, *kind).await? else { return Ok(None) };
        let word = (*kind == AccessKind::Session).then(|| word(credential));
        Ok(Some(Self { visitor, came_with, word }))
    }

    /// The same, as it is now; none: it was ended, or is over.
    ///
    /// # Errors
    ///
    /// [`Refused`]: the database failed.
    pub(super) async fn again(&self, web: &Web) -> Result<Option<Self>, Refused> {
        Self::of(web, self.came_with.clone()).await
    }

    /// Whether a form carries this session's word; takes the same time wherever they differ.
    pub(super) fn wrote(&self, word: &str) -> bool {
        let own = self.word.as_deref().and_then(|own| blake3::Hash::from_hex(own).ok());
        own.zip(blake3::Hash::from_hex(word).ok()).is_some_and(|(own, given)| own == given)
    }
}

/// Why a request does not come in.
#[derive(Debug)]
enum Refusal {
    TooMuch,
    /// A page of another site may not have us do anything.
    OtherSite,
    Failed(Refused),
}

const TOO_MUCH: &str = "this address asks too much: wait a few seconds";
const OTHER_SITE: &str = "this came from a page of another site";

impl Refusal {
    fn page(&self) -> Response {
        match self {
            Self::TooMuch => problem(StatusCode::TOO_MANY_REQUESTS, TOO_MUCH),
            Self::OtherSite => problem(StatusCode::FORBIDDEN, OTHER_SITE),
            Self::Failed(error) => refused(error),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooMuch => Self::new(Kind::TooMuch, TOO_MUCH, ""),
            Refusal::OtherSite => Self::new(Kind::OtherSite, OTHER_SITE, ""),
            Refusal::Failed(error) => error.into(),
        }
    }
}

fn same_site(request: &Request) -> Result<(), Refusal> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let origin = request.headers().get(ORIGIN).and_then(|value| value.to_str().ok());
    let here = host(request.headers(), request.uri());
    let same = origin.zip(here).is_some_and(|(origin, here)| {
        origin.strip_prefix("https://").is_some_and(|origin| origin.eq_ignore_ascii_case(here))
    });
    if same { Ok(()) } else { Err(Refusal::OtherSite) }
}

/// What the visitor calls this place.
fn host<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    let named = headers.get(HOST).and_then(|value| value.to_str().ok());
    uri.authority().map(axum::http::uri::Authority::as_str).or(named)
}

fn seal(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    let fixed: [(HeaderName, HeaderValue); 6] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        // Not `no-referrer`: browsers would not say either where a form comes from.
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000")),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ];
    headers.extend(fixed);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

impl<S: Sync> FromRequestParts<S> for Guest {
    type Rejection = Response;

    /// Whoever has come without a session is told how to get one.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        match parts.extensions.get::<Self>() {
            Some(guest) => Ok(guest.clone()),
            None if parts.uri.path().starts_with("/live/") => {
                Err(StatusCode::UNAUTHORIZED.into_response())
            }
            None if comes_by_link(&parts.method, &parts.headers) => Err(onward(local_of(parts))),
            None => Err(Redirect::to(&enter::with_next(local_of(parts))).into_response()),
        }
    }
}

/// Whether a browser has followed a link of another site, and so kept the session's cookie to itself.
fn comes_by_link(method: &Method, headers: &HeaderMap) -> bool {
    let says = |name: &str, what: &str| headers.get(name).is_some_and(|value| value == what);
    *method == Method::GET
        && says("sec-fetch-site", "cross-site")
        && says("sec-fetch-mode", "navigate")
        && credential(headers).is_none()
}

/// What was asked for, to come back to; the first page where it is no page to look at.
fn local_of(parts: &Parts) -> &str {
    let asked = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    if parts.method == Method::GET { enter::local(asked).unwrap_or("/") } else { "/" }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_that_asks_too_much_waits_and_keeps_nobody_else_waiting() {
        let (gate, start) = (Gate::default(), Instant::now());
        let [one, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|at| Caller::from(IpAddr::from(at)));
        let admitted = (0..200).filter(|_| gate.admits(one, start)).count();
        assert_eq!(admitted, 120);
        assert!(gate.admits(other, start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..200).filter(|_| gate.admits(one, later)).count(), 40);
    }

    fn request(method: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri("/rollouts/1/pause");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(axum::body::Body::empty()).unwrap()
    }

    #[test]
    fn scripts_are_told_as_scripts() {
        let told = |refusal: Refusal| Problem::from(refusal).into_response();
        let answer = told(Refusal::TooMuch);
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_eq!(answer.headers()["retry-after"], "5");
        assert_eq!(told(Refusal::OtherSite).status(), StatusCode::FORBIDDEN);
        assert_eq!(Refusal::TooMuch.page().headers()["content-type"], "text/html; charset=utf-8");
        for (path, script) in [("/api", true), ("/api/v1/x", true), ("/apis", false), ("/", false)]
        {
            assert_eq!(api::is_below(&path.parse().unwrap()), script, "{path}");
        }
    }

    #[test]
    fn what_changes_something_comes_from_a_page_of_ours() {
        let here = ("host", "10.0.0.5:7071");
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);
        let cases: [Case<'_>; 6] = [
            ("GET", &[here], true),
            ("POST", &[here], false),
            ("POST", &[here, ("origin", "https://10.0.0.5:7071")], true),
            ("POST", &[here, ("origin", "https://evil.example")], false),
            ("POST", &[here, ("origin", "http://10.0.0.5:7071")], false),
            ("DELETE", &[here, ("origin", "null")], false),
        ];
        for (method, headers, good) in cases {
            assert_eq!(same_site(&request(method, headers)).is_ok(), good, "{method} {headers:?}");
        }
    }

    #[test]
    fn a_cookie_or_a_token_tells_who_asks() {
        let text = "0".repeat(48);
        let found = |name: &str, value: String| {
            credential(request("GET", &[(name, value.as_str())]).headers()).map(|(_, kind)| kind)
        };
        let session = format!("other=1; {COOKIE_NAME}={text}; third=3");
        assert_eq!(found("cookie", session), Some(AccessKind::Session));
        assert_eq!(found("authorization", format!("Bearer {text}")), Some(AccessKind::Token));
        assert_eq!(found("authorization", format!("bearer {text}")), Some(AccessKind::Token));
        assert_eq!(found("authorization", format!("Basic {text}")), None);
        assert_eq!(found("authorization", text.clone()), None);
        assert_eq!(found("cookie", format!("x{COOKIE_NAME}={text}")), None);
        assert_eq!(found("cookie", format!("{COOKIE_NAME}={text}0")), None);
    }

    #[test]
    fn only_who_follows_a_link_of_another_site_is_shown_on_from_here() {
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        let comes = |method: &str, headers: &[(&str, &str)]| {
            let request = request(method, headers);
            comes_by_link(request.method(), request.headers())
        };
        assert!(comes("GET", &link));
        assert!(!comes("POST", &link));
        // It has been shown on, and has no session.
        assert!(!comes("GET", &[("sec-fetch-site", "same-origin"), link[1]]));
        assert!(!comes("GET", &[link[0], ("sec-fetch-mode", "no-cors")]));
        let cookie = format!("{COOKIE_NAME}={}", "0".repeat(48));
        assert!(!comes("GET", &[link[0], link[1], ("cookie", &cookie)]));
        assert!(!comes("GET", &[]));
    }

    #[test]
    fn a_form_carries_the_word_of_its_own_session() {
        let session: Credential = "1".repeat(48).parse().unwrap();
        let other: Credential = "2".repeat(48).parse().unwrap();
        assert_ne!(word(&session), word(&other));
        assert!(!word(&session).contains(&session.to_text()[16..32]), "it gives nothing away");
    }
}
