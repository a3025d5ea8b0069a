//! What changes on a page that is open: server-sent events that carry pieces of the page anew.
//!
//! A page is a [`Board`]: pieces, each with an id, in a frame that does not change. Whoever has a page open
//! is sent the pieces that differ from what was sent before, once a second at most; where the frame itself
//! differs, all of it. The page says in its address what it shows ([`Board::seen`]), so a stream begins
//! with nothing where nothing has changed.
//!
//! A beat tells every few seconds that the stream lives, also over a line that is half dead; with each it
//! is looked up again who this is, so that a stream does not outlive its session. A page that cannot be
//! made any more ends its stream: what is open then says so.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use maud::{Markup, PreEscaped};
use net::{Place, Places};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::gate::Guest;
use super::page::status_of;
use super::{Web, pages};
use crate::token::TokenId;

/// Between two looks whether anything has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two beats; the script on the page waits for three of them.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Between two pictures: nobody sees a second in them, and each is sent whole.
const PICTURE_EVERY: Duration = Duration::from_secs(10);
/// So many looks in a row may come to nothing: what fails now may work in a second.
const FAILURES_MAX: u32 = 5;
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
#[derive(Debug, Default)]
pub(super) struct Board {
    parts: Vec<Part>,
    /// Of the frame and the names of the pieces in it: where these differ, pieces alone do not do.
    shape: blake3::Hasher,
}

#[derive(Debug)]
enum Part {
    Frame(String),
    Piece(Piece),
}

#[derive(Debug)]
struct Piece {
    id: String,
    html: String,
    hash: u64,
    /// It need not be told of at once.
    is_picture: bool,
}

impl Board {
    /// Markup that stays as long as the frame does.
    pub(super) fn frame(&mut self, markup: Markup) {
        self.shape.update(markup.0.as_bytes());
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
        self.put(id.into(), markup.0, false);
    }

    /// A piece that is drawn: told of less often.
    pub(super) fn picture(&mut self, id: impl Into<String>, markup: Markup) {
        self.put(id.into(), markup.0, true);
    }

    fn put(&mut self, id: String, html: String, is_picture: bool) {
        debug_assert!(html.contains(&format!(" id=\"{id}\"")), "{id}: {html}");
        self.shape.update(id.as_bytes());
        let hash = hash(&html);
        self.parts.push(Part::Piece(Piece { id, html, hash, is_picture }));
    }

    /// All of it.
    pub(super) fn markup(&self) -> Markup {
        let text = |part: &Part| match part {
            Part::Frame(text) => text.clone(),
            Part::Piece(piece) => piece.html.clone(),
        };
        PreEscaped(self.parts.iter().map(text).collect())
    }

    /// What stands there, in a few letters.
    pub(super) fn seen(&self) -> String {
        format!("{:016x}", hash(&self.markup().0))
    }

    fn shape(&self) -> u64 {
        short(self.shape.finalize())
    }

    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.parts.iter().filter_map(|part| match part {
            Part::Frame(_) => None,
            Part::Piece(piece) => Some(piece),
        })
    }
}

fn hash(text: &str) -> u64 {
    short(blake3::hash(text.as_bytes()))
}

fn short(hash: blake3::Hash) -> u64 {
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

/// What one who looks has on the page.
#[derive(Debug)]
pub(super) struct Shown {
    shape: u64,
    pieces: HashMap<String, u64>,
    /// When pictures may be sent again.
    pictures_from: Instant,
}

impl Shown {
    /// All of it, at `now`.
    pub(super) fn of(board: &Board, now: Instant) -> Self {
        let pieces = board.pieces().map(|piece| (piece.id.clone(), piece.hash)).collect();
        Self { shape: board.shape(), pieces, pictures_from: now + PICTURE_EVERY }
    }

    /// Nothing that is known of.
    fn nothing(now: Instant) -> Self {
        Self { shape: 0, pieces: HashMap::new(), pictures_from: now }
    }

    /// What brings the page up to date at `now`; none: it is.
    pub(super) fn changes(&mut self, board: &Board, now: Instant) -> Option<String> {
        if self.shape != board.shape() {
            *self = Self::of(board, now);
            let all = board.markup().0;
            return Some(format!("<main id=\"main\" hx-swap-oob=\"true\">{all}</main>"));
        }
        let draws = now >= self.pictures_from;
        let mut changes = String::new();
        for Piece { id, html, hash, is_picture } in board.pieces() {
            if self.pieces.get(id) == Some(hash) || (*is_picture && !draws) {
                continue;
            }
            if *is_picture {
                self.pictures_from = now + PICTURE_EVERY;
            }
            self.pieces.insert(id.clone(), *hash);
            let named = format!(" id=\"{id}\"");
            let swapped = format!("{named} hx-swap-oob=\"true\"");
            changes.push_str(&html.replacen(&named, &swapped, 1));
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
    guest: Guest,
    Path(page): Path<String>,
    Query(Seen { seen }): Query<Seen>,
) -> Response {
    let Some(place) = web.watchers.try_take(&guest.visitor.access.id) else {
        let what =
            "as many pages as may are open and told of changes: close some, or come back later";
        let retry = [(RETRY_AFTER, RETRY_AFTER_S.to_string())];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, what).into_response();
    };
    let board = match pages::board(&web, &guest, &page).await {
        Ok(Some(board)) => board,
        Ok(None) => return StatusCode::NOT_FOUND.into_response(),
        Err(error) => return status_of(error.kind).into_response(),
    };
    let watch = Watch::begin(&board, &seen, Instant::now());
    let watcher = Watcher { web, guest, page, watch, _place: place };
    let told = stream::unfold(watcher, |mut watcher| async move {
        let event = match watcher.next().await? {
            Told::Changes(changes) => Event::default().event("change").data(changes),
            // Browsers pass on no event that is empty.
            Told::Beat => Event::default().event("beat").data("1"),
        };
        Some((Ok::<_, Infallible>(event), watcher))
    });
    Sse::new(told).into_response()
}

struct Watcher {
    web: Web,
    guest: Guest,
    page: String,
    watch: Watch,
    _place: Place,
}

/// What one who looks is told.
enum Told {
    Changes(String),
    /// Nothing but that it would be told.
    Beat,
}

impl Watcher {
    /// What is told next; none: the stream is over, for now.
    async fn next(&mut self) -> Option<Told> {
        while !self.watch.is_over(Instant::now()) {
            if self.watch.beats(Instant::now()) {
                match self.guest.again(&self.web).await {
                    Ok(Some(guest)) => self.guest = guest,
                    Ok(None) => return None,
                    Err(_) => self.watch.failures += 1,
                }
                return Some(Told::Beat);
            }
            // Why there is none is in the log.
            let board = pages::board(&self.web, &self.guest, &self.page).await.ok().flatten();
            if let Some(changes) = self.watch.take(board.as_deref(), Instant::now()) {
                return Some(Told::Changes(changes));
            }
            tokio::select! {
                () = self.web.stop.cancelled() => return None,
                () = sleep(LOOK_EVERY) => {}
            }
        }
        None
    }
}

/// How it stands with a page that is open.
struct Watch {
    shown: Shown,
    until: Instant,
    beat_at: Instant,
    /// Looks that came to nothing, the last ones in a row.
    failures: u32,
}

impl Watch {
    /// Of a page that shows `board`, if it has `seen` that.
    fn begin(board: &Board, seen: &str, now: Instant) -> Self {
        let shown = match board.seen() == seen {
            true => Shown::of(board, now),
            false => Shown::nothing(now),
        };
        Self { shown, until: now + LASTS, beat_at: now, failures: 0 }
    }

    /// Whether it is to end: browsers ask again by themselves.
    fn is_over(&self, now: Instant) -> bool {
        now >= self.until || self.failures >= FAILURES_MAX
    }

    /// Whether it is time to say that nothing is said.
    fn beats(&mut self, now: Instant) -> bool {
        let due = self.beat_at <= now;
        if due {
            self.beat_at = now + BEAT_EVERY;
        }
        due
    }

    /// What brings the page up to date with what was found; none was found: that is a failure.
    fn take(&mut self, board: Option<&Board>, now: Instant) -> Option<String> {
        let Some(board) = board else {
            self.failures += 1;
            return None;
        };
        self.failures = 0;
        self.shown.changes(board, now)
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
        let (first, now) = (board(&[("a", "1"), ("b", "1")]), Instant::now());
        let mut shown = Shown::of(&first, now);
        assert_eq!(shown.changes(&first, now), None);
        let second = board(&[("a", "1"), ("b", "2")]);
        let changes = shown.changes(&second, now).unwrap();
        assert_eq!(changes, r#"<i id="b" hx-swap-oob="true" class="c">2</i>"#);
        assert_eq!(shown.changes(&second, now), None, "it has been sent");
    }

    #[test]
    fn a_board_that_fails_five_times_in_a_row_ends_the_stream() {
        let (board, now) = (board(&[("a", "1")]), Instant::now());
        let mut watch = Watch::begin(&board, &board.seen(), now);
        for _ in 0..4 {
            assert_eq!(watch.take(None, now), None);
        }
        assert_eq!(watch.take(Some(&board), now), None, "it has been seen");
        for failed in 0..5 {
            assert!(!watch.is_over(now), "after {failed}");
            assert_eq!(watch.take(None, now), None);
        }
        assert!(watch.is_over(now));
        let watch = Watch::begin(&board, "", now);
        assert!(!watch.is_over(now) && watch.is_over(now + LASTS));
    }

    #[test]
    fn another_frame_is_sent_whole() {
        let now = Instant::now();
        let mut shown = Shown::of(&board(&[("a", "1")]), now);
        let more = board(&[("a", "1"), ("b", "1")]);
        let changes = shown.changes(&more, now).unwrap();
        assert!(changes.starts_with(r#"<main id="main" hx-swap-oob="true"><h1"#), "{changes}");
        assert!(changes.contains(r#"id="b""#));
        assert_eq!(shown.changes(&more, now), None);
    }

    #[test]
    fn whoever_has_seen_nothing_is_sent_all() {
        let (board, now) = (board(&[("a", "1")]), Instant::now());
        assert!(Shown::nothing(now).changes(&board, now).is_some());
    }

    #[test]
    fn pictures_are_sent_every_ten_seconds_at_most_and_the_last_one_comes() {
        let board = |drawn: u32, cell: u32| {
            let mut board = Board::default();
            board.picture("drawn", html! { svg id="drawn" { (drawn) } });
            board.piece("cell", html! { i id="cell" { (cell) } });
            board
        };
        let begin = Instant::now();
        let mut shown = Shown::of(&board(0, 0), begin);
        let mut sent = Vec::new();
        for second in 1..=60 {
            let now = begin + Duration::from_secs(second.into());
            // It goes on for half a minute.
            let changes = shown.changes(&board(second.min(35), second), now).unwrap();
            assert!(changes.contains("id=\"cell\""), "what is no picture comes at once");
            if changes.contains("id=\"drawn\"") {
                sent.push(second);
            }
        }
        assert_eq!(sent, [10, 20, 30, 40]);
    }
}
