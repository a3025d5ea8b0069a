//! Style and scripts, carried in the program: `htmx` and its extension for server-sent events (both
//! 0BSD, <https://htmx.org>), and a style sheet.

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};

/// Each with its type.
const ASSETS: [(&str, &str, &str); 5] = [
    ("style.css", "text/css; charset=utf-8", include_str!("assets/style.css")),
    ("htmx.js", "text/javascript; charset=utf-8", include_str!("assets/htmx.js")),
    ("htmx-sse.js", "text/javascript; charset=utf-8", include_str!("assets/htmx-sse.js")),
    ("page.js", "text/javascript; charset=utf-8", include_str!("assets/page.js")),
    ("icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
];

/// Where a page finds an asset: by what is in it, so that browsers may keep it for ever.
pub(super) fn path(name: &str) -> String {
    let text = ASSETS.iter().find(|(known, ..)| *known == name).map_or("", |(_, _, text)| text);
    format!("/assets/{name}?{}", &blake3::hash(text.as_bytes()).to_hex()[..8])
}

/// `GET /assets/NAME`; for everybody, since there is nothing of the fleet in it.
pub(super) async fn get(Path(name): Path<String>) -> Response {
    let Some((_, kind, text)) = ASSETS.iter().find(|(known, ..)| *known == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
    let headers = [(CONTENT_TYPE, HeaderValue::from_static(kind)), (CACHE_CONTROL, kept)];
    (headers, *text).into_response()
}
