//! What acts is done once for each idempotency key: whoever does not know whether a request arrived makes
//! it again with the same key, and is told what came of the first.
//!
//! After draft-ietf-httpapi-idempotency-key-header. What was answered is kept for a day, with a
//! fingerprint of what was asked, for each token or session apart. A key whose request was begun and has
//! no answer is under way, or the coordinator ended over it: then nobody knows, and it is not done again.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use member::{chain, clock};
use proto::id::Digest;
use tracing::error;

use super::call::{self, Asked, Outcome};
use super::operation::{Act, Operation};
use super::problem::{Kind, MEDIA_TYPE, Problem};
use crate::access::Visitor;
use crate::desk::out_of_order;
use crate::store::{Answered, Turn, Turned};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that this was answered before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 128;

/// An idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// The key of a request: a quoted string, or the same without quotes.
    ///
    /// # Errors
    ///
    /// [`Problem`]: there is none, or none that can be.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(HEADER).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            let next = "make one up for each thing to do, a UUID for instance, and keep it when \
                        you ask again";
            return Err(Problem::new(
                Kind::KeyMissing,
                "one header Idempotency-Key is needed",
                next,
            ));
        };
        let text = value.to_str().unwrap_or_default();
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        match (1..=KEY_CHARS_MAX).contains(&inner.len()) && inner.bytes().all(plain) {
            true => Ok(Self(inner.to_owned())),
            false => {
                let detail = format!(
                    "Idempotency-Key must have 1 to {KEY_CHARS_MAX} visible ASCII characters, no \
                     quotes or backslashes among them"
                );
                Err(Problem::new(Kind::Malformed, detail, ""))
            }
        }
    }
}

/// Does it, unless it was done.
///
/// # Errors
///
/// [`Problem`]: the key is another request's or under way, or the database failed. What the act itself
/// refuses is an answer like any other.
pub(super) async fn act(
    operation: &'static Operation,
    run: Act,
    asked: Asked,
    visitor: Visitor,
    Key(key): Key,
) -> Result<Response, Problem> {
    let what = serde_json::to_vec(&(operation.id, &asked.given)).expect("what is given serializes");
    let turn = Turn { who: visitor.access.id, key, fingerprint: Digest::of(&what) };
    // It comes to its end also where nobody waits for it any more.
    let done = tokio::spawn(in_turn(turn, run, asked, visitor)).await;
    done.map_err(|error| out_of_order("do it", &error))?
}

async fn in_turn(
    turn: Turn,
    run: Act,
    asked: Asked,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let store = asked.web.desk.store.clone();
    let turned = store.turn_begin(&turn, clock::unix()).await;
    match turned.map_err(|error| out_of_order("remember the request", &error))? {
        Turned::First => {}
        Turned::Answered(kept) => return Ok(again(kept)),
        Turned::Other => {
            let detail = "another request had this Idempotency-Key";
            return Err(Problem::new(Kind::KeyReused, detail, "make another key up"));
        }
        Turned::UnderWay => {
            let detail = "this request was begun, and has no answer yet";
            let next = "ask again; should it stay so, the coordinator ended over it: look whether it \
                        was done, then use another key";
            return Err(Problem::new(Kind::UnderWay, detail, next));
        }
    }
    let outcome = run(asked, visitor).await;
    let told = match to_keep(&outcome) {
        Some(kept) => store.turn_end(&turn, &kept).await,
        None => store.turn_forget(&turn).await,
    };
    if let Err(error) = told {
        error!(error = chain(&error), "what came of a request is not kept");
    }
    outcome.map(|answer| call::json(answer.body))
}

/// None: it may go another way next time.
fn to_keep(outcome: &Outcome) -> Option<Answered> {
    match outcome {
        Ok(answer) => Some(Answered { status: 200, body: answer.body.to_vec() }),
        Err(problem) if problem.status().is_server_error() => None,
        Err(problem) => Some(Answered { status: problem.status().as_u16(), body: problem.body() }),
    }
}

fn again(Answered { status, body }: Answered) -> Response {
    let mut answer = call::json(body);
    if let Ok(status) = StatusCode::from_u16(status)
        && status != StatusCode::OK
    {
        let kind = HeaderValue::from_static(MEDIA_TYPE);
        answer.headers_mut().insert(axum::http::header::CONTENT_TYPE, kind);
        *answer.status_mut() = status;
    }
    answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    answer.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_go_another_way_next_time_is_not_kept() {
        let kept = |kind| {
            let outcome = Err(Problem::new(kind, "why", ""));
            to_keep(&outcome).map(|kept| kept.status)
        };
        assert_eq!(kept(Kind::Busy), None);
        assert_eq!(kept(Kind::NotHere), None);
        assert_eq!(kept(Kind::Conflict), Some(409));
        assert_eq!(kept(Kind::Forbidden), Some(403));
        let done = to_keep(&Ok(call::Answer::of(&"done"))).unwrap();
        assert_eq!((done.status, done.body.as_slice()), (200, b"\"done\"".as_slice()));
    }

    #[test]
    fn keys_are_short_visible_text() {
        let key = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, value.parse().unwrap());
            }
            Key::of(&headers).map(|Key(key)| key).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(key(&["\"8e03978e-40d5\""]).as_deref(), Ok("8e03978e-40d5"));
        assert_eq!(key(&["8e03978e-40d5"]).as_deref(), Ok("8e03978e-40d5"));
        assert!(key(&[&"k".repeat(128)]).is_ok());
        let long = "k".repeat(129);
        let bad: [&[&str]; 7] =
            [&[], &[""], &["\"\""], &["a b"], &["a\"b"], &[&long], &["one", "two"]];
        for values in bad {
            assert_eq!(key(values), Err(400), "{values:?}");
        }
    }
}
