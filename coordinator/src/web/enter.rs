//! Signing in by a link that `swell login` prints, and signing out.
//!
//! The link itself changes nothing: chat programs and mail scanners open what they see. It shows a
//! button, and that uses the link up. Whoever wanted another page first comes back to it, if it is one of
//! ours.

use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use maud::html;
use proto::access::AccessKind;
use proto::wire::{Refused, RefusedKind};
use serde::Deserialize;

use super::Web;
use super::gate::{COOKIE_NAME, Guest};
use super::page::{bare, encoded, problem, refused};
use crate::access::{Access, Credential};

pub(super) fn router() -> Router<Web> {
    Router::new().route("/enter", get(ask).post(enter)).route("/leave", post(leave))
}

/// Longest place to come back to, in bytes.
const NEXT_BYTES_MAX: usize = 1_000;

#[derive(Deserialize)]
struct Link {
    /// The link's secret, or all of the link as people copy it.
    #[serde(default)]
    link: String,
    /// Where to go then.
    #[serde(default)]
    next: String,
}

impl Link {
    fn credential(&self) -> Option<Credential> {
        let text = self.link.trim();
        text.rsplit_once("link=").map_or(text, |(_, text)| text).parse().ok()
    }

    fn next(&self) -> &str {
        local(&self.next).unwrap_or("/")
    }
}

/// `text`, if it is a place of ours and of nobody else, whatever a browser makes of it.
pub(super) fn local(text: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    let ours = text.starts_with('/') && !text.contains("//") && text.bytes().all(plain);
    (ours && text.len() <= NEXT_BYTES_MAX).then_some(text)
}

/// Where to sign in, to come back to `next`.
pub(super) fn with_next(next: &str) -> String {
    if next == "/" { "/enter".to_owned() } else { format!("/enter?next={}", encoded(next)) }
}

/// `GET /enter`: how to get in, and with a link the button.
async fn ask(Query(link): Query<Link>) -> Response {
    let body = html! {
        h1 { "Sign in" }
        @if link.credential().is_some() {
            form method="post" action="/enter" {
                input type="hidden" name="link" value=(link.link);
                input type="hidden" name="next" value=(link.next());
                button class="primary" autofocus { "Sign in" }
            }
            p class="quiet" { "The link is good once." }
        } @else {
            p { "Ask for a link with your key, on the machine where that is:" }
            pre { "swell login                    # to look\nswell login --role operator    # to pause, abort and roll back, too" }
            form method="post" action="/enter" {
                label for="link" { "Open it, or put it here" }
                input id="link" name="link" type="text" required autocomplete="off" spellcheck="false";
                input type="hidden" name="next" value=(link.next());
                p class="buttons" { button class="primary" { "Sign in" } }
            }
        }
    };
    bare(StatusCode::OK, "Sign in", &body)
}

/// `POST /enter`: a session for the link. One that came along ends: nobody has two at a time by chance.
async fn enter(
    State(web): State<Web>,
    before: Option<Extension<Guest>>,
    Form(link): Form<Link>,
) -> Response {
    let entered = match link.credential() {
        Some(credential) => web.desk.enter(&credential).await,
        None => Ok(None),
    };
    match entered {
        Ok(Some((session, access))) => {
            if let Some(Extension(before)) = before
                && let Err(error) = end(&web, &before).await
            {
                return refused(&error);
            }
            let cookie = cookie(&session.to_text(), lasts_s(&access));
            ([(SET_COOKIE, cookie)], Redirect::to(link.next())).into_response()
        }
        Ok(None) => problem(
            StatusCode::FORBIDDEN,
            "the link was used, or is older than ten minutes: swell login makes another one",
        ),
        Err(error) => refused(&error),
    }
}

/// Ends a session, also one that was ended meanwhile.
async fn end(web: &Web, guest: &Guest) -> Result<(), Refused> {
    let access = &guest.visitor.access;
    if access.kind != AccessKind::Session {
        return Ok(());
    }
    match web.desk.access_revoke(&access.owner, &access.id.to_string()).await {
        Err(error) if error.kind != RefusedKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn lasts_s(access: &Access) -> u64 {
    access.expires.0.saturating_sub(access.created.0)
}

fn cookie(value: &str, lasts_s: u64) -> String {
    format!("{COOKIE_NAME}={value}; Path=/; Max-Age={lasts_s}; Secure; HttpOnly; SameSite=Strict")
}

#[derive(Deserialize)]
struct Leave {
    word: String,
}

/// `POST /leave`: ends the session.
async fn leave(
    State(web): State<Web>,
    guest: Guest,
    Form(Leave { word }): Form<Leave>,
) -> Response {
    if !guest.wrote(&word) {
        return problem(StatusCode::FORBIDDEN, "this is no form of this session");
    }
    match end(&web, &guest).await {
        Ok(()) => ([(SET_COOKIE, cookie("", 0))], Redirect::to("/enter")).into_response(),
        Err(error) => refused(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_from_here_to_another_place() {
        for good in ["/", "/rollouts/5f2c?x=1", "/hosts?q=zone%3Da&from=100"] {
            assert_eq!(local(good), Some(good));
        }
        let long = format!("/{}", "a".repeat(NEXT_BYTES_MAX));
        let bad = [
            "",
            "hosts",
            "//evil.example",
            "/x//evil.example",
            "/\\evil.example",
            "\\evil.example",
            "https://evil.example",
            "/\t/evil.example",
            "/\nset-cookie: a",
            "/h\u{f6}sts",
            "/a b",
            &long,
        ];
        for bad in bad {
            assert_eq!(local(bad), None, "{bad:?}");
        }
        assert_eq!(with_next("/"), "/enter");
        assert_eq!(with_next("/hosts?q=a"), "/enter?next=%2Fhosts%3Fq%3Da");
    }

    #[test]
    fn a_link_is_taken_as_it_is_copied() {
        let text = "0".repeat(48);
        let link = |link: String| Link { link, next: "//evil.example".to_owned() };
        for copied in [text.clone(), format!(" https://10.0.0.5:7071/enter?link={text}\n")] {
            assert!(link(copied.clone()).credential().is_some(), "{copied:?}");
        }
        assert!(link(format!("{text}0")).credential().is_none());
        assert_eq!(link(text).next(), "/");
    }
}
