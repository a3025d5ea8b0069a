//! The frame around every page, and what pages have in common.

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use maud::{DOCTYPE, Markup, html};
use proto::access::AccessRole;
use proto::receipt::State;
use proto::report::{BackState, RolloutPhase, RolloutReport};
use proto::statement::UnixTime;
use proto::wire::{Refused, RefusedKind};

use super::assets;
use super::gate::Guest;
use super::live::Board;

/// What can be gone to from every page.
const PLACES: [(&str, &str); 4] =
    [("/", "Fleet"), ("/hosts", "Hosts"), ("/events", "Events"), ("/audit", "Audit")];
/// What keeps the script library from wanting more than the policy of contents allows.
const SCRIPT_CONFIG: &str = r#"{"includeIndicatorStyles":false,"allowEval":false,"selfRequestsOnly":true,"historyCacheSize":0}"#;

/// A page.
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    pub(super) guest: &'a Guest,
    /// Name of the fleet.
    pub(super) fleet: &'a str,
    pub(super) board: &'a Board,
    /// Where its changes come from, `fleet` for `/live/fleet`; none: it stays as it is.
    pub(super) live: Option<&'a str>,
}

impl Page<'_> {
    pub(super) fn answer(self) -> Response {
        let Self { title, guest, fleet, board, live } = self;
        let seen = board.seen();
        let body = html! {
            (top(guest, fleet, live.is_some()))
            main id="main" { (board.markup()) }
            @if let Some(topic) = live {
                div hx-ext="sse" sse-connect={ "/live/" (topic) "?seen=" (seen) } sse-swap="change" hx-swap="none" {}
            }
        };
        document(StatusCode::OK, &format!("{title} - {fleet}"), &body)
    }
}

fn top(guest: &Guest, fleet: &str, live: bool) -> Markup {
    let access = &guest.visitor.access;
    let role = match access.role {
        AccessRole::Viewer => "may look",
        AccessRole::Operator => "may act",
    };
    html! {
        a class="skip" href="#main" { "To the content" }
        header {
            a class="fleet" href="/" { (fleet) }
            nav aria-label="Pages" {
                @for (path, name) in PLACES { a href=(path) { (name) } }
            }
            @if live { span id="live" class="quiet" role="status" { "live" } }
            span class="quiet" { (access.owner) ", " (role) }
            @if let Some(word) = &guest.word {
                form method="post" action="/leave" {
                    input type="hidden" name="word" value=(word);
                    button class="plain" { "Sign out" }
                }
            }
        }
    }
}

/// A page without a frame, for whoever is not in.
pub(super) fn bare(status: StatusCode, title: &str, body: &Markup) -> Response {
    document(status, title, &html! { main id="main" class="bare" { (body) } })
}

fn document(status: StatusCode, title: &str, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="htmx-config" content=(SCRIPT_CONFIG);
                title { (title) }
                link rel="icon" href=(assets::path("icon.svg"));
                link rel="stylesheet" href=(assets::path("style.css"));
                script defer src=(assets::path("htmx.js")) {}
                script defer src=(assets::path("htmx-sse.js")) {}
                script defer src=(assets::path("page.js")) {}
            }
            body { (body) }
        }
    };
    (status, page).into_response()
}

/// A page that leads on to `path`, a local one: whoever goes there from here has the session's cookie along.
pub(super) fn onward(path: &str) -> Response {
    let body = html! {
        h1 { "One moment" }
        p { "You come from another place, and your browser tells nobody here who you are." }
        // The script on the page goes there by itself.
        p { a id="onward" href=(path) { "Go on" } }
    };
    bare(StatusCode::OK, "groundswell", &body)
}

/// That something is not to be had, for people.
pub(super) fn problem(status: StatusCode, text: &str) -> Response {
    let body = html! {
        h1 { (status.canonical_reason().unwrap_or("It did not work")) }
        p { (text) }
        p { a href="/" { "To the fleet" } }
    };
    bare(status, "groundswell", &body)
}

/// A refusal, for people.
pub(super) fn refused(refused: &Refused) -> Response {
    problem(status_of(refused.kind), &told(refused))
}

/// Why, and what to do.
pub(super) fn told(Refused { kind: _, reason, next }: &Refused) -> String {
    if next.is_empty() { reason.clone() } else { format!("{reason}: {next}") }
}

pub(super) const fn status_of(kind: RefusedKind) -> StatusCode {
    match kind {
        RefusedKind::Forbidden => StatusCode::FORBIDDEN,
        RefusedKind::NotFound => StatusCode::NOT_FOUND,
        RefusedKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        RefusedKind::Conflict => StatusCode::CONFLICT,
        RefusedKind::NotHere => StatusCode::NOT_IMPLEMENTED,
        RefusedKind::Busy => StatusCode::SERVICE_UNAVAILABLE,
    }
}

// --- words and shapes ---

/// A time in UTC, which a browser can read, too.
pub(super) fn time(at: UnixTime) -> Markup {
    let text = at.to_string();
    html! { time datetime=(format!("{}Z", text.replace(' ', "T"))) { (text) " UTC" } }
}

/// Where a rollout stands, as a word with a colour; of one that was stopped, also what has become of that.
pub(super) fn stance(report: &RolloutReport) -> Markup {
    let back = report.back.as_ref().map(|back| back.state);
    html! {
        @if back == Some(BackState::RolledBack) { span class="chip past" { "rolled back" } }
        @else { (phase(report)) }
        @match back {
            Some(BackState::GoingBack) => { " " span class="chip hold" { "going back" } },
            Some(BackState::Stuck) => { " " span class="chip bad" { "some could not go back" } },
            Some(BackState::RolledBack | BackState::Stays) | None => {},
        }
    }
}

fn phase(report: &RolloutReport) -> Markup {
    let (class, name) = match report.phase {
        RolloutPhase::Pending => ("hold", "waits for approval"),
        RolloutPhase::Running if report.held => ("hold", "held"),
        RolloutPhase::Running => ("go", "running"),
        RolloutPhase::Paused => ("hold", "paused"),
        RolloutPhase::Halted => ("bad", "halted"),
        RolloutPhase::Aborted => ("bad", "aborted"),
        RolloutPhase::Complete => ("good", "complete"),
        RolloutPhase::Superseded => ("past", "superseded"),
        RolloutPhase::Expired => ("hold", "expired"),
    };
    html! { span class={ "chip " (class) } { (name) } }
}

/// What a host of a rollout is, for people and for the colour of its cell.
pub(super) const fn standing(state: Option<State>, alive: bool) -> (&'static str, &'static str) {
    match (state, alive) {
        (Some(State::Committed), _) => ("ok", "committed"),
        (Some(State::RevertFailed), _) => ("xx", "could not go back"),
        (Some(State::Reverted), _) => ("re", "reverted"),
        (_, false) => ("un", "unreachable"),
        (None | Some(State::Pending), _) => ("pe", "pending"),
        (Some(State::Fetching), _) => ("fe", "fetching"),
        (Some(State::Staged), _) => ("st", "staged"),
        (Some(State::Activating), _) => ("ac", "activating"),
        (Some(State::Baking), _) => ("ba", "baking"),
    }
}

/// `1 host`, `2 hosts`.
pub(super) fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// For the query of an address: what is neither a letter nor a digit, in its bytes.
pub(super) fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_written_into_an_address_as_it_is_read_from_there() {
        assert_eq!(encoded("web-1.0"), "web-1.0");
        assert_eq!(encoded("zone=a&b ü"), "zone%3Da%26b%20%C3%BC");
    }
}
