//! `/api/v1`: the same as the pages and `swell`, for scripts.
//!
//! | module | what |
//! |---|---|
//! | `operation` | the calls there are: what each takes, gives and does |
//! | `call` | what all have in common: who asks, what is given, how it is answered |
//! | `reading`, `acting` | what they do |
//! | `input` | what a call may be given |
//! | `paging` | long lists, page by page |
//! | `once` | what acts is done once for each idempotency key |
//! | `problem` | refusals (RFC 9457) |
//! | `values` | what answers hold that no other interface tells |
//! | `document` | all of it as an OpenAPI description |
//!
//! Router, checks and description are made from one list, so what is described is what is served.

mod acting;
mod call;
mod document;
mod input;
mod once;
mod operation;
mod paging;
mod problem;
mod reading;
mod values;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Uri;
use axum::routing::{any, get, post};

use super::Web;
use operation::{OPERATIONS, Run};

pub(super) use problem::{Kind, Problem};

/// What all paths begin with.
const BASE: &str = "/api/v1";
/// Longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 8 << 10;

pub(super) fn router() -> Router<Web> {
    let paths = OPERATIONS.iter().fold(Router::new(), |router, operation| {
        let answer =
            move |State(web): State<Web>, request: Request| call::answer(operation, web, request);
        let method = match operation.run {
            Run::Look(_) => get(answer),
            Run::Act(_) => post(answer),
        };
        router.route(&format!("{BASE}{}", operation.path), method.fallback(wrong_method))
    });
    let rest = ["/api", "/api/", "/api/{*rest}"];
    { rest.into_iter() }
        .fold(paths, |router, path| router.route(path, any(nothing)))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// Whether a request is to be answered as a script's.
pub(super) fn is_below(uri: &Uri) -> bool {
    uri.path().strip_prefix("/api").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

async fn wrong_method() -> Problem {
    Problem::new(Kind::WrongMethod, "the header Allow says what is done to it", "")
}

async fn nothing(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    let next = format!("{BASE}/openapi.json tells all there is");
    Problem::new(Kind::NotFound, format!("there is no {path}"), next)
}
