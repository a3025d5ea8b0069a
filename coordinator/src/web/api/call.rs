//! What all calls have in common: who asks, what is given, how it is answered.
//!
//! No operation can forget any of it: it comes to its turn once its asker is known and what it needs is
//! there, and whatever acts does so once for each idempotency key.

use std::collections::BTreeMap;

use axum::RequestExt as _;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Query, RawPathParams, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use proto::access::AccessRole;
use proto::strict;
use serde::Serialize;
use serde_json::Value;

use super::super::Web;
use super::super::gate::Guest;
use super::acting;
use super::input::{self, Given};
use super::once::{self, Key};
use super::operation::{Operation, Run};
use super::paging::{self, Page};
use super::problem::{Kind, Problem};
use crate::access::Visitor;

/// Carries the word that only pages of ours know, where a session asks for an act.
const WORD: HeaderName = HeaderName::from_static("x-swell-word");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Nobody keeps an answer for others, and whoever keeps it asks each time whether it is still so.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("private, no-cache");

/// A call that has come to its turn.
pub(super) struct Asked {
    pub(super) web: Web,
    pub(super) given: Given,
    uri: Uri,
}

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// Where the next page is.
    link: Option<String>,
}

pub(super) type Outcome = Result<Answer, Problem>;

impl Answer {
    pub(super) fn of(value: &impl Serialize) -> Self {
        Self::of_json(serde_json::to_vec(value).expect("an answer serializes").into())
    }

    pub(super) const fn of_json(body: Bytes) -> Self {
        Self { body, link: None }
    }
}

impl Asked {
    /// A page of a list.
    pub(super) fn page<T: Serialize>(&self, page: &Page<T>) -> Answer {
        let query = self.uri.query().unwrap_or_default();
        let link = page.next.as_deref().map(|next| paging::link(self.uri.path(), query, next));
        Answer { link, ..Answer::of(page) }
    }
}

/// Answers a request for `operation`.
pub(super) async fn answer(operation: &'static Operation, web: Web, request: Request) -> Response {
    let answered = match operation.run {
        Run::Look(run) => look(operation, run, web, request).await,
        Run::Act(run) => act(operation, run, web, request).await,
    };
    answered.unwrap_or_else(Problem::into_response)
}

async fn look(
    operation: &Operation,
    run: super::operation::Look,
    web: Web,
    mut request: Request,
) -> Result<Response, Problem> {
    if !operation.for_everybody {
        guest(&request)?;
    }
    let path = path_given(&mut request).await?;
    let (uri, query) = query_given(&request)?;
    let given = input::read(operation.inputs, path, query, BTreeMap::new())?;
    let answer = run(Asked { web, given, uri }).await?;
    Ok(unless_known(request.headers(), answer))
}

async fn act(
    operation: &'static Operation,
    run: super::operation::Act,
    web: Web,
    mut request: Request,
) -> Result<Response, Problem> {
    let visitor = actor(&request)?;
    let path = path_given(&mut request).await?;
    let (uri, query) = query_given(&request)?;
    refuse_other_types(request.headers())?;
    let key = Key::of(request.headers())?;
    let body = body_given(request).await?;
    let given = input::read(operation.inputs, path, query, body)?;
    let dry_run = given.get(&acting::DRY_RUN).unwrap_or(false);
    let asked = Asked { web, given, uri };
    if dry_run {
        return Ok(json(run(asked, visitor).await?.body));
    }
    once::act(operation, run, asked, visitor, key).await
}

/// Whoever asks.
fn guest(request: &Request) -> Result<&Guest, Problem> {
    let guest = request.extensions().get::<Guest>();
    guest.ok_or_else(|| {
        let next = "swell access token prints one, for `Authorization: Bearer TOKEN`";
        Problem::new(Kind::Unauthorized, "there is no token, or none that is good", next)
    })
}

/// Whoever asks and may have the coordinator act somewhere.
fn actor(request: &Request) -> Result<Visitor, Problem> {
    let guest = guest(request)?;
    let word = request.headers().get(WORD).and_then(|word| word.to_str().ok());
    // A session comes along with whatever a browser sends; the word does not.
    if guest.word.is_some() && !word.is_some_and(|word| guest.wrote(word)) {
        let next = "scripts have tokens: swell access token";
        let detail = "the header X-Swell-Word is not the word of this session";
        return Err(Problem::new(Kind::OtherSite, detail, next));
    }
    if guest.visitor.access.role != AccessRole::Operator {
        let next = "swell access token --role operator, with a key that may deploy";
        return Err(Problem::new(Kind::Forbidden, "this token or session may only look", next));
    }
    Ok(guest.visitor.clone())
}

async fn path_given(request: &mut Request) -> Result<Vec<(String, String)>, Problem> {
    let nothing = |_| Problem::new(Kind::NotFound, "the path is no UTF-8", "");
    let path = request.extract_parts::<RawPathParams>().await.map_err(nothing)?;
    Ok(path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn query_given(request: &Request) -> Result<(Uri, Vec<(String, String)>), Problem> {
    let uri = request.uri().clone();
    let query = Query::<Vec<(String, String)>>::try_from_uri(&uri);
    let Query(query) = query.map_err(|error| malformed("the query", &error))?;
    Ok((uri, query))
}

fn malformed(what: &str, error: &dyn std::fmt::Display) -> Problem {
    Problem::new(Kind::Malformed, format!("{what} does not read: {error}"), "")
}

/// Only JSON: no form of any page can send that.
fn refuse_other_types(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    match essence.eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Problem::new(
            Kind::WrongType,
            format!("the body is {:?}", essence.chars().take(80).collect::<String>()),
            "send JSON, with `Content-Type: application/json`",
        )),
    }
}

async fn body_given(request: Request) -> Result<BTreeMap<String, Value>, Problem> {
    let body = Bytes::from_request(request, &()).await.map_err(|rejection| {
        match rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            true => {
                let detail = format!("more than {} bytes", super::BODY_BYTES_MAX);
                Problem::new(Kind::TooLarge, detail, "")
            }
            false => malformed("the body", &rejection.body_text()),
        }
    })?;
    let mut json = serde_json::Deserializer::from_slice(&body);
    let fields = strict::map(&mut json).and_then(|fields| json.end().map(|()| fields));
    fields.map_err(|error| malformed("the body", &error))
}

// --- answers ---

/// An answer with a mark of what is in it, or only that the asker has it already.
fn unless_known(asked: &HeaderMap, Answer { body, link }: Answer) -> Response {
    let mark = format!("\"{}\"", &blake3::hash(&body).to_hex()[..32]);
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut marks = known.flat_map(|marks| marks.split(',')).map(str::trim);
    let is_known = marks.any(|one| one == "*" || one.trim_start_matches("W/") == mark);
    let mut answer = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => json(body),
    };
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, ASK_AGAIN);
    headers.insert(ETAG, HeaderValue::from_str(&mark).expect("hex digits"));
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        headers.insert(LINK, link);
    }
    answer
}

pub(super) fn json(body: impl Into<axum::body::Body>) -> Response {
    ([(CONTENT_TYPE, JSON)], body.into()).into_response()
}
