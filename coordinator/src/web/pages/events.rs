//! What happened: all of it, or what concerns one thing, the newest first.

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use proto::wire::Refused;
use serde::Deserialize;

use super::super::Web;
use super::super::gate::Guest;
use super::super::live::Board;
use super::super::page::{refused, time};
use super::show;
use crate::desk::out_of_order;
use crate::events::{Numbered, Severity};
use crate::store::Which;

/// Events on the page of all, and below something else.
const PAGE: u32 = 100;
const BELOW: u32 = 20;

/// Before which event.
#[derive(Debug, Deserialize)]
pub(super) struct Before {
    before: Option<u64>,
}

pub(super) async fn list(
    State(web): State<Web>,
    guest: Guest,
    Query(Before { before }): Query<Before>,
) -> Response {
    let before = before.unwrap_or(u64::MAX);
    match read(&web, before, &Which::default(), PAGE).await {
        Ok(events) => {
            let last = events.last().map(|event| event.seq).filter(|seq| *seq > 1);
            let mut board = Board::default();
            board.frame(html! {
                h1 { "Events" }
                (lines(&events))
                @if let Some(last) = last {
                    p { a class="button" href={ "/events?before=" (last) } { "Earlier" } }
                }
            });
            show(&web, &guest, "Events", &board, None)
        }
        Err(error) => refused(&error),
    }
}

/// The newest events of something, for below its page.
///
/// # Errors
///
/// [`Refused`]: the database failed.
pub(super) async fn newest(web: &Web, which: &Which) -> Result<Markup, Refused> {
    let events = read(web, u64::MAX, which, BELOW).await?;
    Ok(html! { section id="events" { h2 { "What happened" } (lines(&events)) } })
}

async fn read(web: &Web, before: u64, which: &Which, limit: u32) -> Result<Vec<Numbered>, Refused> {
    let events = web.desk.store.events_before(before, which, limit).await;
    events.map_err(|error| out_of_order("read what happened", &error))
}

pub(super) fn lines(events: &[Numbered]) -> Markup {
    html! {
        @if events.is_empty() { p class="quiet" { "nothing yet" } }
        ol class="events" reversed {
            @for Numbered { seq, event } in events {
                @let class = match event.kind.severity() {
                    Severity::Info => "",
                    Severity::Warning => "hold",
                    Severity::Critical => "bad",
                };
                li class=(class) {
                    (time(event.at)) " "
                    @match (&event.rollout, &event.host) {
                        (Some(rollout), _) => { a id={ "event-" (seq) } href={ "/rollouts/" (format!("{rollout:#}")) } { (event.text) } },
                        (None, Some(host)) => { a id={ "event-" (seq) } href={ "/hosts/" (host) } { (event.text) } },
                        (None, None) => { (event.text) },
                    }
                }
            }
        }
    }
}
