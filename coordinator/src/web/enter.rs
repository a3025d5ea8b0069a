//! Signing in by a link that `swell login` prints, and signing out.
//!
//! The link itself changes nothing: chat programs and mail scanners open what they see. It shows a
//! button, and that uses the link up.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use maud::html;
use serde::Deserialize;

use super::Web;
use super::gate::{COOKIE_NAME, Guest};
use super::page::{bare, problem, refused};
use crate::access::{Access, Credential};

pub(super) fn router() -> Router<Web> {
    Router::new().route("/enter", get(ask).post(enter)).route("/leave", post(leave))
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    link: String,
}

/// `GET /enter`: how to get in, and with a link the button.
async fn ask(Query(Link { link }): Query<Link>) -> Response {
    let link = link.parse::<Credential>().is_ok().then_some(link);
    let body = match link {
        Some(link) => html! {
            h1 { "Sign in" }
            form method="post" action="/enter" {
                input type="hidden" name="link" value=(link);
                button class="primary" autofocus { "Sign in" }
            }
            p class="quiet" { "The link is good once." }
        },
        None => html! {
            h1 { "Sign in" }
            p { "Ask for a link with your key, on the machine where that is:" }
            pre { "swell login                    # to look\nswell login --role operator    # to pause, abort and roll back, too" }
        },
    };
    bare(StatusCode::OK, "Sign in", &body)
}

/// `POST /enter`: a session for the link.
async fn enter(State(web): State<Web>, Form(Link { link }): Form<Link>) -> Response {
    let entered = match link.parse::<Credential>() {
        Ok(link) => web.desk.enter(&link).await,
        Err(_) => Ok(None),
    };
    match entered {
        Ok(Some((session, access))) => {
            let cookie = cookie(&session.to_text(), lasts_s(&access));
            ([(SET_COOKIE, cookie)], Redirect::to("/")).into_response()
        }
        Ok(None) => problem(
            StatusCode::FORBIDDEN,
            "the link was used, or is older than ten minutes: swell login makes another one",
        ),
        Err(error) => refused(&error),
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
    let access = &guest.visitor.access;
    let ended = web.desk.access_revoke(&access.owner, &access.id.to_string()).await;
    match ended {
        Ok(_) => ([(SET_COOKIE, cookie("", 0))], Redirect::to("/enter")).into_response(),
        Err(error) => refused(&error),
    }
}
