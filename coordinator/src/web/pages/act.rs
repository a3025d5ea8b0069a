//! What a button does: a page that shows what will happen and asks for a reason, once; then it is done.

use std::fmt;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use axum::{Form, Router};
use maud::{Markup, html};
use proto::Env;
use proto::id::Scope;
use proto::report::{FleetReport, RolloutReport};
use proto::statement::{Action, REASON_BYTES_MAX};
use proto::wire::Refused;
use serde::Deserialize;

use super::super::Web;
use super::super::gate::Guest;
use super::super::live::Board;
use super::super::page::{counted, problem, refused};
use super::{find, not_found, show};
use crate::acts::{Careful, WayBack};

/// Hosts that are named before a rollback.
const NAMED_MAX: usize = 20;

pub(super) fn router() -> Router<Web> {
    Router::new()
        .route("/rollouts/{id}/{act}", get(ask).post(act))
        .route("/environments/{env}/freeze", get(ask_freeze).post(freeze))
}

/// What can be done to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Pause,
    Abort,
    RollBack,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "Pause",
            Self::Abort => "Abort",
            Self::RollBack => "Roll back",
        })
    }
}

impl Kind {
    fn careful(self, report: &RolloutReport) -> Careful {
        match self {
            Self::Pause => Careful::Pause(report.id),
            Self::Abort => Careful::Abort(report.id),
            // What was shown, and nothing that came in between.
            Self::RollBack => Careful::RollBack { scope: scope_of(report), of: Some(report.id) },
        }
    }
}

fn scope_of(report: &RolloutReport) -> Scope {
    Scope { service: report.service.clone(), env: report.env.clone() }
}

/// What lets a rollout go on, which only a person's key may sign (R3).
fn forward_of(text: &str) -> Option<(Action, &'static str)> {
    match text {
        "resume" => Some((Action::Resume, "Resume")),
        "promote" => Some((Action::Promote, "Open the next wave of")),
        _ => None,
    }
}

/// What a form carries.
#[derive(Deserialize)]
struct Written {
    word: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    hours: u64,
}

/// `GET /rollouts/ID/ACT`: what would happen.
async fn ask(
    State(web): State<Web>,
    Path((id, kind)): Path<(String, String)>,
    guest: Guest,
) -> Response {
    if let Some(forward) = forward_of(&kind) {
        return ask_forward(&web, &id, forward, &guest).await;
    }
    let Some(kind) = kind_of(&kind) else { return not_found(guest).await };
    let (fleet, report) = match find(&web, &id).await {
        Ok(found) => found,
        Err(error) => return refused(&error),
    };
    let meaning = match kind {
        Kind::Pause => pause_means(&report),
        Kind::Abort => abort_means(&report),
        Kind::RollBack => match way_back(&web, &report).await {
            Ok(way) => back_means(&report, &way),
            Err(error) => return refused(&error),
        },
    };
    let Some(word) = &guest.word else { return only_pages() };
    let title = format!("{kind} {} {}", report.service, report.to);
    let body = html! {
        h1 { (kind) " " (report.service) " " (report.to) " " span class="quiet" { "in " (report.env) } }
        (meaning)
        form method="post" {
            input type="hidden" name="word" value=(word);
            (reason_field())
            p class="buttons" {
                button class="danger" { (kind) }
                a class="button" href={ "/rollouts/" (format!("{:#}", report.id)) } { "Leave it as it is" }
            }
        }
    };
    page(&guest, &fleet, &title, body)
}

async fn way_back(web: &Web, report: &RolloutReport) -> Result<WayBack, Refused> {
    web.desk.way_back(&scope_of(report), Some(&report.id), String::new()).await
}

fn kind_of(text: &str) -> Option<Kind> {
    match text {
        "pause" => Some(Kind::Pause),
        "abort" => Some(Kind::Abort),
        "roll-back" => Some(Kind::RollBack),
        _ => None,
    }
}

fn reason_field() -> Markup {
    html! {
        label for="reason" { "Why (for the record)" }
        input id="reason" name="reason" type="text" required maxlength=(REASON_BYTES_MAX / 2) autocomplete="off" autofocus;
    }
}

fn page(guest: &Guest, fleet: &FleetReport, title: &str, body: Markup) -> Response {
    let mut board = Board::default();
    board.frame(body);
    show(guest, fleet, title, board, None)
}

fn only_pages() -> Response {
    problem(StatusCode::FORBIDDEN, "forms are for people who are signed in; scripts use /api/v1")
}

/// `POST /rollouts/ID/ACT`: does it.
async fn act(
    State(web): State<Web>,
    Path((id, kind)): Path<(String, String)>,
    guest: Guest,
    Form(written): Form<Written>,
) -> Response {
    if let Some(forward) = forward_of(&kind) {
        return prepare(&web, &id, forward, &guest, &written).await;
    }
    let Some(kind) = kind_of(&kind) else { return not_found(guest).await };
    if !guest.wrote(&written.word) {
        return only_pages();
    }
    let done = async {
        let (_, report) = find(&web, &id).await?;
        let careful = kind.careful(&report);
        let acted = web.desk.act(&guest.visitor, careful, &written.reason).await?;
        Ok::<_, Refused>(acted.rollout.unwrap_or(report.id))
    };
    let done = done.await;
    web.sight.forget().await;
    match done {
        Ok(id) => Redirect::to(&format!("/rollouts/{id:#}")).into_response(),
        Err(error) => refused(&error),
    }
}

fn pause_means(report: &RolloutReport) -> Markup {
    html! {
        ul {
            li { "No host starts anything new, and bakes stand still." }
            li { "Hosts that run " (report.to) " keep it, and still go back where it fails." }
            li { "To go on needs your key: " code { "swell resume " (report.id) } }
        }
    }
}

fn abort_means(report: &RolloutReport) -> Markup {
    let runs = report.waves.iter().map(|wave| wave.activating + wave.baking + wave.committed);
    let hosts = counted(runs.sum::<u32>() as usize, "host");
    html! {
        ul {
            li { "It ends here: nothing new starts." }
            li {
                (hosts) " that run or start " (report.to) " "
                @match &report.from {
                    Some(from) => { "go back to " strong { (from) } ", if its on_failure is rollback" },
                    None => { "stop and remove it: nothing was there before" },
                }
                "."
            }
            li { (report.to) " starts in " (report.env) " again only by " code { "swell retry " (report.id) } }
        }
    }
}

fn back_means(report: &RolloutReport, way: &WayBack) -> Markup {
    let named: Vec<_> = way.hosts.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = way.hosts.len() - named.len();
    html! {
        ul {
            li {
                strong { (counted(way.hosts.len(), "host")) } " go from " (report.to) " back to "
                strong { (way.rollout.to.version) } ", all at once, without bakes: " (named.join(", "))
                @if more > 0 { " and " (more) " more" }
            }
            li { "About " (way.times.promote_s) " s, at " (way.times.restart_s) " s for a restart." }
            @if !way.left_out.is_empty() {
                li {
                    "Left out: "
                    @for (index, (name, why)) in way.left_out.iter().take(NAMED_MAX).enumerate() {
                        @if index > 0 { ", " } (name) " (" (why) ")"
                    }
                }
            }
        }
    }
}

// --- what a person's key signs ---

async fn ask_forward(web: &Web, id: &str, (_, name): (Action, &str), guest: &Guest) -> Response {
    let (fleet, report) = match find(web, id).await {
        Ok(found) => found,
        Err(error) => return refused(&error),
    };
    let Some(word) = &guest.word else { return only_pages() };
    let title = format!("{name} {} {}", report.service, report.to);
    let body = html! {
        h1 { (title) " " span class="quiet" { "in " (report.env) } }
        p { "The coordinator may not sign this: it is prepared here, and signed with your key." }
        form method="post" {
            input type="hidden" name="word" value=(word);
            (reason_field())
            p class="buttons" {
                button class="primary" { "Prepare" }
                a class="button" href={ "/rollouts/" (format!("{:#}", report.id)) } { "Leave it as it is" }
            }
        }
    };
    page(guest, &fleet, &title, body)
}

async fn prepare(
    web: &Web,
    id: &str,
    (action, name): (Action, &str),
    guest: &Guest,
    written: &Written,
) -> Response {
    if !guest.wrote(&written.word) {
        return only_pages();
    }
    let prepared = async {
        let (fleet, report) = find(web, id).await?;
        let digest = web.desk.prepare(&guest.visitor, &report.id, action, &written.reason).await?;
        Ok::<_, Refused>((fleet, report, digest))
    };
    let (fleet, report, digest) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => return refused(&error),
    };
    let title = format!("{name} {} {}", report.service, report.to);
    let body = html! {
        h1 { (title) " " span class="quiet" { "in " (report.env) } }
        p { "Where your key is, this shows it once more and signs it:" }
        pre { "swell sign " (format!("{digest:#}")) }
        dl class="facts" {
            dt { "Digest" } dd { code { (format!("{digest:#}")) } }
            dt { "Good" } dd { "for a day, or until the coordinator is started anew" }
        }
        p { a class="button" href={ "/rollouts/" (format!("{:#}", report.id)) } { "Back to the rollout" } }
    };
    page(guest, &fleet, &title, body)
}

// --- freezes ---

async fn ask_freeze(State(web): State<Web>, Path(env): Path<String>, guest: Guest) -> Response {
    let (Ok(env), Ok(fleet)) = (env.parse::<Env>(), web.sight.fleet().await) else {
        return not_found(guest).await;
    };
    let Some(word) = &guest.word else { return only_pages() };
    let body = html! {
        h1 { "Freeze " (env) }
        ul {
            li { "Nothing new starts there, also not over a promote. Ways back and rollbacks go on." }
            li { "To end it sooner needs your key: " code { "swell unfreeze --env " (env) } }
        }
        form method="post" {
            input type="hidden" name="word" value=(word);
            label for="hours" { "For how many hours, 1 to 24" }
            input id="hours" name="hours" type="number" min="1" max="24" value="2" required;
            (reason_field())
            p class="buttons" {
                button class="danger" { "Freeze" }
                a class="button" href="/" { "Leave it as it is" }
            }
        }
    };
    page(&guest, &fleet, &format!("Freeze {env}"), body)
}

async fn freeze(
    State(web): State<Web>,
    Path(env): Path<String>,
    guest: Guest,
    Form(written): Form<Written>,
) -> Response {
    let Ok(env) = env.parse::<Env>() else { return not_found(guest).await };
    if !guest.wrote(&written.word) {
        return only_pages();
    }
    let lasts_s = written.hours.saturating_mul(3_600);
    let careful = Careful::Freeze { env, lasts_s };
    let acted = web.desk.act(&guest.visitor, careful, &written.reason).await;
    web.sight.forget().await;
    match acted {
        Ok(_) => Redirect::to("/").into_response(),
        Err(error) => refused(&error),
    }
}
