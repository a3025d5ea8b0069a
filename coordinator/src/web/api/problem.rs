//! That something is not to be had, for scripts: RFC 9457.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use proto::wire::{Refused, RefusedKind};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::page::told;
use crate::lookup::Unknown;

/// Type of the body of a problem.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";
/// What every `type` begins with.
const URN: &str = "urn:groundswell:problem:";
/// After how many seconds to try again what may work then.
const AGAIN_S: HeaderValue = HeaderValue::from_static("5");
/// Fields that one problem names at most.
const FIELDS_MAX: usize = 16;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $status:ident, $title:literal;)*) => {
        /// What kind of problem. Names are a contract: scripts go by them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(in super::super) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            pub(super) const fn status(self) -> StatusCode {
                match self {
                    $(Self::$kind => StatusCode::$status,)*
                }
            }

            pub(super) const fn title(self) -> &'static str {
                match self {
                    $(Self::$kind => $title,)*
                }
            }
        }
    };
}

kinds! {
    /// No token or session, or none that is good.
    Unauthorized = "unauthorized", UNAUTHORIZED, "Who asks is not known";
    Forbidden = "forbidden", FORBIDDEN, "Who asks may not do this";
    /// A session's request that may have been made by a page of another site.
    OtherSite = "other-site", FORBIDDEN, "This may have come from another site";
    NotFound = "not-found", NOT_FOUND, "There is no such thing";
    WrongMethod = "method-not-allowed", METHOD_NOT_ALLOWED, "This is not done to it";
    Conflict = "conflict", CONFLICT, "It clashes with what is there";
    /// A request with this idempotency key has begun, and its outcome is not known.
    UnderWay = "under-way", CONFLICT, "The same request is under way";
    TooLarge = "too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    WrongType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body is no JSON";
    /// Not to be read as what it says it is.
    Malformed = "malformed", BAD_REQUEST, "The request does not read";
    KeyMissing = "idempotency-key-missing", BAD_REQUEST, "An idempotency key is missing";
    /// Another request had this idempotency key.
    KeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "The idempotency key was used";
    Invalid = "invalid", UNPROCESSABLE_ENTITY, "Something given is wrong";
    TooMuch = "too-many-requests", TOO_MANY_REQUESTS, "This address asks too much";
    NotHere = "not-here", NOT_IMPLEMENTED, "This is not done here";
    Busy = "busy", SERVICE_UNAVAILABLE, "It cannot be done now";
}

/// Why a call was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Problem {
    kind: Kind,
    detail: String,
    next: String,
    errors: Vec<FieldError>,
}

/// The body of a problem (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemReport<'a> {
    /// What kind of problem, for scripts: it stays as it is.
    #[schema(pattern = "^urn:groundswell:problem:[a-z-]+$")]
    r#type: String,
    /// The kind in words.
    title: &'a str,
    status: u16,
    /// The step, the thing, the cause.
    detail: &'a str,
    /// What to do next.
    #[serde(skip_serializing_if = "str::is_empty")]
    #[schema(required = false)]
    next: &'a str,
    /// Each parameter or field that is wrong; of many, the first.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [FieldError],
}

/// A parameter or a field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldError {
    pub(super) field: String,
    pub(super) detail: String,
}

impl Problem {
    pub(in super::super) fn new(
        kind: Kind,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { kind, detail: detail.into(), next: next.into(), errors: Vec::new() }
    }

    /// Of parameters or fields, one at least.
    pub(super) fn fields(mut errors: Vec<FieldError>) -> Self {
        errors.truncate(FIELDS_MAX);
        let told = errors.iter().map(|error| format!("{}: {}", error.field, error.detail));
        let detail = told.collect::<Vec<_>>().join("; ");
        Self { errors, ..Self::new(Kind::Invalid, detail, "/api/v1/openapi.json says what goes") }
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// The body, as JSON.
    pub(super) fn body(&self) -> Vec<u8> {
        let report = ProblemReport {
            r#type: format!("{URN}{}", self.kind.name()),
            title: self.kind.title(),
            status: self.status().as_u16(),
            detail: &self.detail,
            next: &self.next,
            errors: &self.errors,
        };
        serde_json::to_vec(&report).expect("a problem serializes")
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let kind = match refused.kind {
            RefusedKind::Forbidden => Kind::Forbidden,
            RefusedKind::NotFound => Kind::NotFound,
            RefusedKind::Invalid => Kind::Invalid,
            RefusedKind::Conflict => Kind::Conflict,
            RefusedKind::NotHere => Kind::NotHere,
            RefusedKind::Busy => Kind::Busy,
        };
        Self::new(kind, refused.reason, refused.next)
    }
}

/// A parameter that names what is not there.
impl From<Unknown> for Problem {
    fn from(Unknown { field, refused }: Unknown) -> Self {
        match refused.kind {
            RefusedKind::NotFound | RefusedKind::Invalid => {
                Self::fields(vec![FieldError { field: field.to_owned(), detail: told(&refused) }])
            }
            _ => refused.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut answer = (self.status(), self.body()).into_response();
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        match self.kind {
            Kind::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Kind::TooMuch | Kind::Busy => {
                headers.insert(RETRY_AFTER, AGAIN_S);
            }
            _ => {}
        }
        answer
    }
}
