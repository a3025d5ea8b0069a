//! What a button does: a page that shows what will happen and asks for a reason, once; then it is done.

use std::fmt;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use axum::{Form, Router};
use maud::{Markup, html};
use proto::id::Scope;
use proto::report::{RolloutReport, WaveReport};
use proto::statement::{Action, OnFailure};
use proto::wire::{Refused, RefusedKind};
use proto::{Env, Name, listed};
use rollout::fleet::names::known_env;
use serde::Deserialize;

use super::super::gate::Guest;
use super::super::live::Board;
use super::super::page::{counted, problem, refused, status_of, told};
use super::super::{REASON_BYTES_MAX, Web};
use super::{not_found, show};
use crate::acts::{Careful, WayBack, no};
use crate::drafts::wave_of;

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
#[derive(Default, Deserialize)]
struct Written {
    word: String,
    #[serde(default)]
    reason: String,
    #[serde(default = "two")]
    hours: u64,
}

const fn two() -> u64 {
    2
}

/// What stands in a form: what was typed before, and why that did not do.
#[derive(Default)]
struct Before<'a> {
    reason: &'a str,
    hours: Option<u64>,
    refused: Option<&'a Refused>,
}

impl<'a> Before<'a> {
    fn of(written: &'a Written, refused: &'a Refused) -> Self {
        Self { reason: &written.reason, hours: Some(written.hours), refused: Some(refused) }
    }
}

/// `GET /rollouts/ID/ACT`: what would happen.
async fn ask(
    State(web): State<Web>,
    Path((id, act)): Path<(String, String)>,
    guest: Guest,
) -> Response {
    let asked = asking(&web, &guest, (&id, &act), &Before::default()).await;
    match asked {
        Some(asked) => asked.unwrap_or_else(|error| refused(&error)),
        None => not_found(guest).await,
    }
}

/// The page that shows what would happen and asks for a reason; none: there is no such act.
async fn asking(
    web: &Web,
    guest: &Guest,
    (id, act): (&str, &str),
    before: &Before<'_>,
) -> Option<Result<Response, Refused>> {
    if let Some(forward) = forward_of(act) {
        return Some(asking_forward(web, guest, id, forward, before).await);
    }
    Some(asking_careful(web, guest, id, kind_of(act)?, before).await)
}

async fn asking_careful(
    web: &Web,
    guest: &Guest,
    id: &str,
    kind: Kind,
    before: &Before<'_>,
) -> Result<Response, Refused> {
    let report = web.sight.rollout(id).await?;
    let meaning = match kind {
        Kind::Pause => pause_means(&report),
        Kind::Abort => {
            let chain = web.desk.member.ledger.chain();
            let signed = chain.rollout(&report.id).map(|signed| signed.on_failure);
            let why = || format!("rollout {} is not in force: it lacks signatures", report.id);
            abort_means(&report, signed.ok_or_else(|| no(RefusedKind::Conflict, why(), ""))?)
        }
        Kind::RollBack => {
            let way = way_back(web, &report).await?;
            back_means(&report, &way)
        }
    };
    let heading = html! { (kind) " " (report.service) " " (report.to) " " span class="quiet" { "in " (report.env) } };
    let title = format!("{kind} {} {}", report.service, report.to);
    let leave = format!("/rollouts/{:#}", report.id);
    let buttons = html! { button class="danger" { (kind) } };
    let form = Asking { title, heading, meaning, fields: html! {}, buttons, leave };
    Ok(form.page(web, guest, before))
}

async fn way_back(web: &Web, report: &RolloutReport) -> Result<WayBack, Refused> {
    web.desk.way_back(&scope_of(report), Some(report.id), String::new()).await
}

fn kind_of(text: &str) -> Option<Kind> {
    match text {
        "pause" => Some(Kind::Pause),
        "abort" => Some(Kind::Abort),
        "roll-back" => Some(Kind::RollBack),
        _ => None,
    }
}

/// A page that asks, once.
struct Asking {
    title: String,
    heading: Markup,
    meaning: Markup,
    /// What is asked for besides the reason.
    fields: Markup,
    buttons: Markup,
    /// Where whoever thinks better of it goes.
    leave: String,
}

impl Asking {
    fn page(self, web: &Web, guest: &Guest, before: &Before<'_>) -> Response {
        let Self { title, heading, meaning, fields, buttons, leave } = self;
        let Some(word) = &guest.word else { return only_pages() };
        let body = html! {
            h1 { (heading) }
            @if let Some(error) = before.refused { p class="bad" role="alert" { (told(error)) } }
            (meaning)
            form method="post" {
                input type="hidden" name="word" value=(word);
                (fields)
                label for="reason" { "Why (for the record)" }
                // Browsers count otherwise than the limit does, which is in bytes.
                input id="reason" name="reason" type="text" required maxlength=(REASON_BYTES_MAX) value=(before.reason) autocomplete="off" autofocus;
                p class="buttons" {
                    (buttons)
                    a class="button" href=(leave) { "Leave it as it is" }
                }
            }
        };
        page(web, guest, &title, body)
    }
}

fn page(web: &Web, guest: &Guest, title: &str, body: Markup) -> Response {
    let mut board = Board::default();
    board.frame(body);
    show(web, guest, title, &board, None)
}

fn only_pages() -> Response {
    problem(StatusCode::FORBIDDEN, "forms are for people who are signed in; scripts use /api/v1")
}

/// `POST /rollouts/ID/ACT`: does it.
async fn act(
    State(web): State<Web>,
    Path((id, act)): Path<(String, String)>,
    guest: Guest,
    Form(written): Form<Written>,
) -> Response {
    if !guest.wrote(&written.word) {
        return only_pages();
    }
    let done = match (forward_of(&act), kind_of(&act)) {
        (Some(forward), _) => prepare(&web, &guest, &id, forward, &written.reason).await,
        (None, Some(kind)) => carry_out(&web, &guest, &id, kind, &written.reason).await,
        (None, None) => return not_found(guest).await,
    };
    match done {
        Ok(done) => done,
        Err(error) => {
            let again = asking(&web, &guest, (&id, &act), &Before::of(&written, &error)).await;
            asked_again(again.and_then(Result::ok), &error)
        }
    }
}

/// The form once more, with what was typed; or the refusal alone.
fn asked_again(form: Option<Response>, error: &Refused) -> Response {
    let Some(mut form) = form else { return refused(error) };
    *form.status_mut() = status_of(error.kind);
    form
}

async fn carry_out(
    web: &Web,
    guest: &Guest,
    id: &str,
    kind: Kind,
    reason: &str,
) -> Result<Response, Refused> {
    let report = web.sight.rollout(id).await?;
    let careful = kind.careful(&report);
    let acted = web.desk.act(&guest.visitor, careful, within_limit(reason)?).await;
    web.sight.forget().await;
    let id = acted?.rollout.unwrap_or(report.id);
    Ok(Redirect::to(&format!("/rollouts/{id:#}")).into_response())
}

/// A reason that is no longer than scripts may give.
fn within_limit(reason: &str) -> Result<&str, Refused> {
    let reason = reason.trim();
    match reason.len() {
        0..=REASON_BYTES_MAX => Ok(reason),
        bytes => Err(Refused {
            kind: RefusedKind::Invalid,
            reason: format!("the reason has {bytes} bytes, at most {REASON_BYTES_MAX}"),
            next: "say it in fewer words".to_owned(),
        }),
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

fn abort_means(report: &RolloutReport, on_failure: OnFailure) -> Markup {
    let runs = report.waves.iter().map(|wave| wave.activating + wave.baking + wave.committed);
    let runs = runs.sum::<u32>();
    let (hosts, to) = (counted(runs as usize, "host"), &report.to);
    html! {
        ul {
            li { "It ends here: nothing new starts." }
            li {
                @match (runs, on_failure, &report.from) {
                    (0, ..) => { "No host runs or starts " (to) ": there is nothing to go back from." },
                    (_, OnFailure::Rollback, _) if report.adopt => {
                        strong { (hosts) } " with " (to) " left as found: what runs there runs on."
                    },
                    (_, OnFailure::Rollback, Some(from)) => {
                        "Back to " strong { (from) } " by themselves, since its on_failure is rollback: "
                        strong { (hosts) } " with " (to) "."
                    },
                    (_, OnFailure::Rollback, None) => {
                        "Stopped and removed there, since its on_failure is rollback and nothing was there before: "
                        strong { (hosts) } " with " (to) "."
                    },
                    (_, OnFailure::Pause, _) => {
                        "Nothing goes back by itself, since its on_failure is pause: "
                        strong { (hosts) } " with " (to) ". To go back: "
                        code { "swell rollback " (report.service) " --env " (report.env) " --reason TEXT" }
                    },
                }
            }
            li { (report.to) " starts in " (report.env) " again only by " code { "swell retry " (report.id) } }
        }
    }
}

fn back_means(report: &RolloutReport, way: &WayBack) -> Markup {
    let names: Vec<_> = way.hosts.iter().map(Name::as_str).collect();
    html! {
        ul {
            li {
                strong { (counted(way.hosts.len(), "host")) } " go from " (report.to) " back to "
                strong { (way.rollout.to.version) } ", all at once, without bakes: " (listed(&names, NAMED_MAX))
            }
            @if way.there > 0 { li { (counted(way.there, "host")) " there already" } }
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

async fn asking_forward(
    web: &Web,
    guest: &Guest,
    id: &str,
    (action, name): (Action, &str),
    before: &Before<'_>,
) -> Result<Response, Refused> {
    let report = web.sight.rollout(id).await?;
    let meaning = match (wave_of(&report, action), before.refused) {
        (Ok(wave), _) => forward_means(&report, wave),
        // What was typed is not lost, whatever has changed since.
        (Err(error), Some(_)) => html! { p class="hold" { (told(&error)) } },
        (Err(error), None) => return Err(error),
    };
    let title = format!("{name} {} {}", report.service, report.to);
    let form = Asking {
        heading: html! { (title) " " span class="quiet" { "in " (report.env) } },
        meaning: html! {
            (meaning)
            p { "The coordinator may not sign this: it is prepared here, and signed with your key." }
        },
        fields: html! {},
        buttons: html! { button class="primary" { "Prepare" } },
        leave: format!("/rollouts/{:#}", report.id),
        title,
    };
    Ok(form.page(web, guest, before))
}

/// `wave`: that is opened, 0 first; none: it goes on after a pause.
fn forward_means(report: &RolloutReport, wave: Option<u32>) -> Markup {
    let Some(wave) = wave else {
        return html! { ul { li { "Hosts start again where they stood, and bakes go on." } } };
    };
    let hosts = report.hosts.iter().filter(|host| host.wave == wave && !host.skipped);
    let names: Vec<_> = hosts.map(|host| host.name.as_str()).collect();
    let (before, _) = report.waves.split_at((wave as usize).min(report.waves.len()));
    let sum = |count: fn(&WaveReport) -> u32| before.iter().map(count).sum::<u32>();
    let (all, done) = (sum(|wave| wave.hosts), sum(|wave| wave.committed));
    let (bake, silent) = (sum(|wave| wave.baking), sum(|wave| wave.unreachable));
    html! {
        ul {
            li {
                strong { "Wave " (wave + 1) " of " (report.waves.len()) } " opens: "
                (counted(names.len(), "host")) " may start " (report.to) ": " (listed(&names, NAMED_MAX))
            }
            @if !before.is_empty() {
                li {
                    "Of " (counted(all as usize, "host")) " in the waves before it: " (done) " committed, " (bake) " baking, " (silent) " not heard: they are not waited for."
                }
            }
            li { "A halt, a freeze, max_unavailable and missing approvals hold it all the same." }
        }
    }
}

async fn prepare(
    web: &Web,
    guest: &Guest,
    id: &str,
    (action, name): (Action, &str),
    reason: &str,
) -> Result<Response, Refused> {
    let report = web.sight.rollout(id).await?;
    let reason = within_limit(reason)?;
    let digest = web.desk.prepare(&guest.visitor, &report.id, action, reason).await?;
    let wave = wave_of(&report, action)?;
    let title = format!("{name} {} {}", report.service, report.to);
    let body = html! {
        h1 { (title) " " span class="quiet" { "in " (report.env) } }
        (forward_means(&report, wave))
        p { "Where your key is, this shows it once more and signs it:" }
        pre { "swell sign " (format!("{digest:#}")) }
        dl class="facts" {
            dt { "Digest" } dd { code { (format!("{digest:#}")) } }
            dt { "Good" } dd { "for a day, or until the coordinator is started anew" }
        }
        p { a class="button" href={ "/rollouts/" (format!("{:#}", report.id)) } { "Back to the rollout" } }
    };
    Ok(page(web, guest, &title, body))
}

// --- freezes ---

async fn ask_freeze(State(web): State<Web>, Path(env): Path<String>, guest: Guest) -> Response {
    let Ok(env) = env.parse::<Env>() else { return not_found(guest).await };
    match known_env(&web.desk.member.ledger.chain(), &env) {
        Ok(()) => asking_freeze(&web, &guest, &env, &Before::default()),
        Err(error) => refused(&error),
    }
}

fn asking_freeze(web: &Web, guest: &Guest, env: &Env, before: &Before<'_>) -> Response {
    let title = format!("Freeze {env}");
    let form = Asking {
        heading: html! { (title) },
        meaning: html! {
            ul {
                li { "Nothing new starts there, also not over a promote. Ways back and rollbacks go on." }
                li { "To end it sooner needs your key: " code { "swell unfreeze --env " (env) } }
            }
        },
        fields: html! {
            label for="hours" { "For how many hours, 1 to 24" }
            input id="hours" name="hours" type="number" min="1" max="24" value=(before.hours.unwrap_or_else(two)) required;
        },
        buttons: html! { button class="danger" { "Freeze" } },
        leave: "/".to_owned(),
        title,
    };
    form.page(web, guest, before)
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
    let frozen = async {
        let lasts_s = written.hours.saturating_mul(3_600);
        let careful = Careful::Freeze { env: env.clone(), lasts_s };
        web.desk.act(&guest.visitor, careful, within_limit(&written.reason)?).await
    };
    let frozen = frozen.await;
    web.sight.forget().await;
    match frozen {
        Ok(_) => Redirect::to("/").into_response(),
        Err(error) => {
            let again = asking_freeze(&web, &guest, &env, &Before::of(&written, &error));
            asked_again(Some(again), &error)
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::receipt::State;
    use proto::report::RolloutPhase;

    use super::*;
    use crate::chronicle::tests::three;

    fn text(markup: Markup) -> String {
        let mut text = String::new();
        let mut is_tag = false;
        for letter in markup.into_string().chars() {
            match letter {
                '<' => is_tag = true,
                '>' => is_tag = false,
                letter if !is_tag => text.push(letter),
                _ => {}
            }
        }
        text
    }

    #[test]
    fn an_abort_says_what_happens_to_how_many_hosts() {
        let runs = [Some(State::Committed), Some(State::Baking), None];
        let report = three(RolloutPhase::Running, 2, runs);
        let first = RolloutReport { from: None, ..report.clone() };
        let adopts = RolloutReport { adopt: true, ..report.clone() };
        let none = three(RolloutPhase::Running, 1, [None; 3]);
        let cases = [
            (
                &report,
                OnFailure::Rollback,
                "Back to 1.3.0 by themselves, since its on_failure is rollback: 2 hosts with 1.4.0.",
            ),
            (
                &report,
                OnFailure::Pause,
                "since its on_failure is pause: 2 hosts with 1.4.0. To go back: swell",
            ),
            (&first, OnFailure::Rollback, "Stopped and removed there, since"),
            (&adopts, OnFailure::Rollback, "2 hosts with 1.4.0 left as found"),
            (&none, OnFailure::Rollback, "there is nothing to go back from"),
        ];
        for (report, on_failure, says) in cases {
            let told = text(abort_means(report, on_failure));
            assert!(told.contains(says) && !told.contains(", if "), "{told}");
        }
    }

    #[test]
    fn a_promote_says_which_wave_opens_with_which_hosts_over_what() {
        let report = three(RolloutPhase::Running, 1, [Some(State::Baking), None, None]);
        let told = text(forward_means(&report, wave_of(&report, Action::Promote).unwrap()));
        assert!(told.contains("Wave 2 of 2 opens: 2 hosts may start 1.4.0: n2, n3"), "{told}");
        assert!(told.contains("0 committed, 1 baking, 0 not heard"), "{told}");
        let paused = RolloutReport { phase: RolloutPhase::Paused, ..report };
        let told = text(forward_means(&paused, wave_of(&paused, Action::Resume).unwrap()));
        assert!(told.contains("Hosts start again where they stood"), "{told}");
        let names: Vec<_> = (1..=22).map(|number| format!("n{number}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(listed(&names, NAMED_MAX).ends_with(", n20 and 2 more"));
    }
}
