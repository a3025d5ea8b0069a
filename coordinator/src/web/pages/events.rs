//! What happened: all of it, or what concerns one thing, the newest first.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use proto::access::AccessRole;
use proto::id::{Env, Scope, Service};
use proto::statement::UnixTime;
use proto::wire::{EventsQuery, Refused, RefusedKind, RolloutQuery};
use serde::Deserialize;

use super::super::Web;
use super::super::gate::Guest;
use super::super::live::Board;
use super::super::page::{encoded, refused, status_of, time, told};
use super::show;
use crate::acts::no;
use crate::events::{Kind, Numbered, Severity};
use crate::lookup::Unknown;
use crate::store::{Found, Which};

/// Events on the page of all, and below something else.
const PAGE: u32 = 100;
const BELOW: u32 = 20;

/// Which events, and before which of them, as the form has it: what is empty fits any.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    service: String,
    env: String,
    /// The start of an id, or `SERVICE/ENV`: the newest there.
    rollout: String,
    /// A name or an id.
    host: String,
    kind: String,
    /// A moment in UTC: `2027-03-01T09:30`.
    since: String,
    before: Option<u64>,
}

impl Wanted {
    /// What stands in the form, by name.
    fn fields(&self) -> [(&'static str, &str); 6] {
        let Self { service, env, rollout, host, kind, since, before: _ } = self;
        let fields = [
            ("service", service),
            ("env", env),
            ("rollout", rollout),
            ("host", host),
            ("kind", kind),
            ("since", since),
        ];
        fields.map(|(name, value)| (name, value.trim()))
    }

    /// The page of the same events that come before this number.
    fn earlier(&self, before: u64) -> String {
        let given = self.fields().into_iter().filter(|(_, value)| !value.is_empty());
        let given = given.map(|(name, value)| format!("{name}={}&", encoded(value)));
        format!("/events?{}before={before}", given.collect::<String>())
    }

    /// # Errors
    ///
    /// [`Refused`]: the first field that does not read.
    fn query(&self) -> Result<EventsQuery, Refused> {
        let [service, env, rollout, host, kind, since] = self.fields().map(|(_, value)| value);
        let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        let since = text(since).map(|since| {
            let must = || wrong(format!("since {since:?}: must be a moment in UTC"));
            UnixTime::parse_utc(&since).ok_or_else(must)
        });
        Ok(EventsQuery {
            before: self.before,
            limit: PAGE,
            service: text(service).map(|one| service_of(&one)).transpose()?,
            env: text(env).map(|one| env_of(&one)).transpose()?,
            rollout: text(rollout).map(|one| rollout_of(&one)).transpose()?,
            host: text(host),
            kind: text(kind),
            since: since.transpose()?,
        })
    }
}

fn wrong(reason: String) -> Refused {
    no(RefusedKind::Invalid, reason, "such as 2027-03-01T09:30")
}

fn service_of(text: &str) -> Result<Service, Refused> {
    text.parse().map_err(|error| no(RefusedKind::Invalid, format!("{error}"), ""))
}

fn env_of(text: &str) -> Result<Env, Refused> {
    text.parse().map_err(|error| no(RefusedKind::Invalid, format!("{error}"), ""))
}

fn rollout_of(text: &str) -> Result<RolloutQuery, Refused> {
    Ok(match text.split_once('/') {
        None => RolloutQuery::Id(text.to_owned()),
        Some((service, env)) => {
            RolloutQuery::Scope(Scope { service: service_of(service)?, env: env_of(env)? })
        }
    })
}

pub(super) async fn list(
    State(web): State<Web>,
    guest: Guest,
    Query(wanted): Query<Wanted>,
) -> Response {
    let found = match find(&web, &wanted).await {
        Err(error) if error.kind == RefusedKind::Busy => return refused(&error),
        found => found,
    };
    // As `swell notify list`: for those who may do something about it.
    let troubles = match guest.visitor.access.role {
        AccessRole::Viewer => Ok(BTreeMap::new()),
        AccessRole::Operator => web.desk.notify.troubles().await,
    };
    let troubles = match troubles {
        Ok(troubles) => troubles,
        Err(error) => return refused(&error),
    };
    let mut board = Board::default();
    board.frame(html! {
        h1 { "Events" }
        @for (receiver, why) in &troubles {
            p class="hold" { "Receiver " (receiver) " is not told: " (why) }
        }
        (form(&web, &wanted))
        @match &found {
            Ok(Found { events, next }) => {
                (lines(events))
                @if let Some(next) = next {
                    p { a class="button" href=(wanted.earlier(*next)) { "Earlier" } }
                }
            }
            Err(error) => { p class="bad" role="alert" { (told(error)) } }
        }
    });
    let mut answer = show(&web, &guest, "Events", &board, None);
    *answer.status_mut() = found.map_or_else(|error| status_of(error.kind), |_| StatusCode::OK);
    answer
}

async fn find(web: &Web, wanted: &Wanted) -> Result<Found, Refused> {
    let found = web.desk.events_page(&wanted.query()?).await;
    found.map_err(|Unknown { refused, .. }| refused)
}

fn form(web: &Web, wanted: &Wanted) -> Markup {
    let chain = web.desk.member.ledger.chain();
    let mut services: Vec<_> = chain.releases().map(|(_, one)| one.service.to_string()).collect();
    services.sort_unstable();
    services.dedup();
    let envs: Vec<_> = chain.root().environments.keys().map(ToString::to_string).collect();
    let kinds: Vec<_> = Kind::ALL.iter().map(ToString::to_string).collect();
    let choose = |name: &str, label: &str, all: &[String], chosen: &str| {
        html! {
            div {
                label for=(name) { (label) }
                select id=(name) name=(name) {
                    option value="" { "any" }
                    @for one in all { option value=(one) selected[one == chosen] { (one) } }
                    // What is not there is shown as it was asked for.
                    @if !chosen.is_empty() && !all.iter().any(|one| one == chosen) {
                        option value=(chosen) selected { (chosen) }
                    }
                }
            }
        }
    };
    let write = |name: &str, label: &str, sort: &str, value: &str| {
        html! { div { label for=(name) { (label) } input id=(name) name=(name) type=(sort) value=(value); } }
    };
    let [(_, service), (_, env), (_, rollout), (_, host), (_, kind), (_, since)] = wanted.fields();
    html! {
        form class="filters" method="get" action="/events" role="search" {
            (choose("service", "Service", &services, service))
            (choose("env", "Environment", &envs, env))
            (choose("kind", "What", &kinds, kind))
            (write("host", "Host, by name or id", "search", host))
            (write("rollout", "Rollout, by id or SERVICE/ENV", "search", rollout))
            (write("since", "Since, in UTC", "datetime-local", since))
            button { "Show" }
        }
    }
}

/// The newest events of something, for below its page.
///
/// # Errors
///
/// [`Refused`]: the database failed.
pub(super) async fn newest(web: &Web, which: &Which) -> Result<Markup, Refused> {
    let events = web.desk.events_before(u64::MAX, which, BELOW).await?.events;
    Ok(html! { section id="events" { h2 { "What happened" } (lines(&events)) } })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_kept_from_page_to_page() {
        let wanted = Wanted {
            service: "web ".to_owned(),
            rollout: "web/production".to_owned(),
            since: "2027-03-01T09:30".to_owned(),
            before: Some(90),
            ..Wanted::default()
        };
        let earlier = wanted.earlier(40);
        assert_eq!(
            earlier,
            "/events?service=web&rollout=web%2Fproduction&since=2027-03-01T09%3A30&before=40"
        );
        let query = wanted.query().unwrap();
        assert_eq!((query.before, query.host, query.kind), (Some(90), None, None));
        assert_eq!(query.since, UnixTime::parse_utc("2027-03-01T09:30"));
        let scope = Scope { service: "web".parse().unwrap(), env: "production".parse().unwrap() };
        assert_eq!(query.rollout, Some(RolloutQuery::Scope(scope)));
        for bad in ["since=9", "env=No", "service=-", "rollout=web/No"] {
            let (name, value) = bad.split_once('=').unwrap();
            let mut wanted = Wanted::default();
            *match name {
                "since" => &mut wanted.since,
                "env" => &mut wanted.env,
                "service" => &mut wanted.service,
                _ => &mut wanted.rollout,
            } = value.to_owned();
            assert_eq!(wanted.query().unwrap_err().kind, RefusedKind::Invalid, "{bad}");
        }
    }
}
