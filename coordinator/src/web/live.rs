//! What changes on a page that is open: server-sent events that carry pieces of the page anew.
//!
//! A page is a [`Board`]: pieces, each with an id, in a frame that does not change. Whoever has a page open
//! is sent the pieces that differ from what was sent before, once a second at most; where the frame itself
//! differs, all of it. The page says in its address what it shows ([`Board::seen`]), so a stream begins
//! with nothing where nothing has changed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use maud::{Markup, PreEscaped};
use net::{Place, Places};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::gate::Guest;
use super::{Web, pages};
use crate::token::TokenId;

/// Between two looks whether anything has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a stream lasts: whoever goes on looking asks again, and is looked at again.
const LASTS: Duration = Duration::from_secs(600);

/// Streams at a time, and of these of one session or token.
const WATCHERS_MAX: usize = 256;
const PER_CREDENTIAL_MAX: usize = 64;
/// When to ask again who was refused a place, in seconds.
const RETRY_AFTER_S: u64 = 10;

/// Places for streams.
pub(super) fn places() -> Places<TokenId> {
    Places::new(WATCHERS_MAX, PER_CREDENTIAL_MAX)
}

/// A page's content: pieces that may change, in a frame that does not.
#[derive(Debug, Clone, Default)]
pub(super) struct Board {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Frame(String),
    Piece { id: String, html: String, hash: u64 },
}

impl Board {
    /// Markup that stays as long as the frame does.
    pub(super) fn frame(&mut self, markup: Markup) {
        match self.parts.last_mut() {
            Some(Part::Frame(text)) => text.push_str(&markup.0),
            _ => self.parts.push(Part::Frame(markup.0)),
        }
    }

    /// Static markup: what opens or closes an element around pieces.
    pub(super) fn raw(&mut self, text: &'static str) {
        self.frame(PreEscaped(text.to_owned()));
    }

    /// A piece: one element, whose first attribute is `id`, with this value.
    pub(super) fn piece(&mut self, id: impl Into<String>, markup: Markup) {
        let (id, html) = (id.into(), markup.0);
        debug_assert!(html.contains(&format!(" id=\"{id}\"")), "{id}: {html}");
        let hash = hash(&html);
        self.parts.push(Part::Piece { id, html, hash });
    }

    /// All of it.
    pub(super) fn markup(&self) -> Markup {
        let text = |part: &Part| match part {
            Part::Frame(text) => text.clone(),
            Part::Piece { html, .. } => html.clone(),
        };
        PreEscaped(self.parts.iter().map(text).collect())
    }

    /// What stands there, in a few letters.
    pub(super) fn seen(&self) -> String {
        format!("{:016x}", hash(&self.markup().0))
    }

    /// The frame and the names of the pieces in it: where these differ, pieces alone do not do.
    fn shape(&self) -> u64 {
        let shape: String = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Frame(text) => text.as_str(),
                Part::Piece { id, .. } => id.as_str(),
            })
            .collect();
        hash(&shape)
    }

    fn pieces(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Frame(_) => None,
            Part::Piece { id, html, hash } => Some((id.as_str(), html.as_str(), *hash)),
        })
    }
}

fn hash(text: &str) -> u64 {
    let hash = blake3::hash(text.as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

/// What one who looks has on the page.
#[derive(Debug, Default)]
pub(super) struct Shown {
    shape: u64,
    pieces: HashMap<String, u64>,
}

impl Shown {
    pub(super) fn of(board: &Board) -> Self {
        let pieces = board.pieces().map(|(id, _, hash)| (id.to_owned(), hash)).collect();
        Self { shape: board.shape(), pieces }
    }

    /// What brings the page up to date; none: it is.
    pub(super) fn changes(&mut self, board: &Board) -> Option<String> {
        if self.shape != board.shape() {
            *self = Self::of(board);
            let all = board.markup().0;
            return Some(format!("<main id=\"main\" hx-swap-oob=\"true\">{all}</main>"));
        }
        let mut changes = String::new();
        for (id, html, hash) in board.pieces() {
            if self.pieces.get(id) != Some(&hash) {
                self.pieces.insert(id.to_owned(), hash);
                let named = format!(" id=\"{id}\"");
                changes.push_str(&html.replacen(
                    &named,
                    &format!("{named} hx-swap-oob=\"true\""),
                    1,
                ));
            }
        }
        (!changes.is_empty()).then_some(changes)
    }
}

#[derive(Deserialize)]
pub(super) struct Seen {
    #[serde(default)]
    seen: String,
}

/// `GET /live/PAGE`: the changes of a page.
pub(super) async fn follow(
    State(web): State<Web>,
    Path(page): Path<String>,
    Query(Seen { seen }): Query<Seen>,
    guest: Guest,
) -> Response {
    let Some(place) = web.watchers.try_take(&guest.visitor.access.id) else {
        let what = "as many pages as may are open and told of changes: close some, or come back later";
        let retry = [(RETRY_AFTER, RETRY_AFTER_S.to_string())];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, what).into_response();
    };
    let board = match pages::board(&web, &guest, &page).await {
        Ok(Some(board)) => board,
        Ok(None) => return StatusCode::NOT_FOUND.into_response(),
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    let shown = match board.seen() == seen {
        true => Shown::of(&board),
        false => Shown::default(),
    };
    let watcher = Watcher { web, guest, page, shown, _place: place, until: Instant::now() + LASTS };
    let changes = stream::unfold(watcher, |mut watcher| async move {
        let changes = watcher.next().await?;
        Some((Ok::<_, Infallible>(Event::default().event("change").data(changes)), watcher))
    });
    Sse::new(changes).keep_alive(KeepAlive::default()).into_response()
}

struct Watcher {
    web: Web,
    guest: Guest,
    page: String,
    shown: Shown,
    _place: Place,
    until: Instant,
}

impl Watcher {
    /// The next changes; none: the stream is over, for now.
    async fn next(&mut self) -> Option<String> {
        while Instant::now() < self.until {
            // What fails now may work in a second, and is in the log.
            if let Ok(Some(board)) = pages::board(&self.web, &self.guest, &self.page).await
                && let Some(changes) = self.shown.changes(&board)
            {
                return Some(changes);
            }
            tokio::select! {
                () = self.web.stop.cancelled() => return None,
                () = sleep(LOOK_EVERY) => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use maud::html;

    use super::*;

    fn board(cells: &[(&str, &str)]) -> Board {
        let mut board = Board::default();
        board.piece("head", html! { h1 id="head" { "wave" } });
        board.raw("<div class=\"cells\">");
        for (id, text) in cells {
            board.piece(*id, html! { i id=(id) class="c" { (text) } });
        }
        board.raw("</div>");
        board
    }

    #[test]
    fn only_what_differs_is_sent() {
        let first = board(&[("a", "1"), ("b", "1")]);
        let mut shown = Shown::of(&first);
        assert_eq!(shown.changes(&first), None);
        let second = board(&[("a", "1"), ("b", "2")]);
        let changes = shown.changes(&second).unwrap();
        assert_eq!(changes, r#"<i id="b" hx-swap-oob="true" class="c">2</i>"#);
        assert_eq!(shown.changes(&second), None, "it has been sent");
    }

    #[test]
    fn another_frame_is_sent_whole() {
        let mut shown = Shown::of(&board(&[("a", "1")]));
        let more = board(&[("a", "1"), ("b", "1")]);
        let changes = shown.changes(&more).unwrap();
        assert!(changes.starts_with(r#"<main id="main" hx-swap-oob="true"><h1"#), "{changes}");
        assert!(changes.contains(r#"id="b""#));
        assert_eq!(shown.changes(&more), None);
    }

    #[test]
    fn whoever_has_seen_nothing_is_sent_all() {
        let board = board(&[("a", "1")]);
        assert!(Shown::default().changes(&board).is_some());
    }
}
