//! The hosts: a list that can be searched, and a page for each.

use axum::extract::{Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use proto::report::{FleetReport, HostReport, ServiceReport};
use serde::Deserialize;

use super::super::Web;
use super::super::gate::Guest;
use super::super::live::Board;
use super::super::page::{counted, encoded, refused, standing, time};
use super::{events, not_found, show};
use crate::store::Which;

/// Hosts on one page.
const PAGE: usize = 100;

/// What is looked for, and from where on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    /// A part of a name, an id, an environment, a zone, a label or a version.
    #[serde(default)]
    q: String,
    #[serde(default)]
    from: usize,
}

pub(super) async fn list(
    State(web): State<Web>,
    guest: Guest,
    Query(wanted): Query<Wanted>,
) -> Response {
    match web.sight.fleet().await {
        Ok(fleet) => {
            let mut board = Board::default();
            board.frame(table(&fleet, &wanted));
            show(&web, &guest, "Hosts", &board, None)
        }
        Err(error) => refused(&error),
    }
}

fn table(fleet: &FleetReport, wanted: &Wanted) -> Markup {
    let fitting: Vec<_> = fleet.hosts.iter().filter(|host| fits(host, &wanted.q)).collect();
    let shown: Vec<_> = fitting.iter().skip(wanted.from).take(PAGE).collect();
    let link = |from: usize| format!("/hosts?q={}&from={from}", encoded(&wanted.q));
    html! {
        h1 { "Hosts" }
        form method="get" action="/hosts" role="search" {
            label for="q" { "Name, environment, zone, label or version" }
            p class="buttons" {
                input id="q" name="q" type="search" value=(wanted.q);
                button { "Search" }
            }
        }
        p class="quiet" {
            (counted(fitting.len(), "host"))
            @if !shown.is_empty() && fitting.len() > shown.len() {
                ", " (wanted.from + 1) " to " (wanted.from + shown.len())
            }
        }
        div class="scroll" tabindex="0" role="region" aria-label="Hosts" {
            table {
                thead { tr { th scope="col" { "Host" } th scope="col" { "Environment" } th scope="col" { "Zone" } th scope="col" { "Heard" } th scope="col" { "Services" } th scope="col" { "Agent" } } }
                tbody {
                    @for host in &shown {
                        tr {
                            td { a href={ "/hosts/" (host.id) } { (host.name) } }
                            td { @if let Some(env) = &host.env { (env) } }
                            td { (host.zone) }
                            td { (heard(host)) }
                            td { @for service in &host.services { div { (service_line(service, host.alive)) } } }
                            td { @if let Some(version) = &host.agent_version { (version) } }
                        }
                    }
                }
            }
        }
        p class="buttons" {
            @if wanted.from > 0 { a class="button" href=(link(wanted.from.saturating_sub(PAGE))) { "Earlier" } }
            @if wanted.from + shown.len() < fitting.len() { a class="button" href=(link(wanted.from + PAGE)) { "Later" } }
        }
    }
}

fn fits(host: &HostReport, wanted: &str) -> bool {
    let wanted = wanted.trim().to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&wanted);
    let version = |service: &ServiceReport| {
        let version = service.version.as_ref().map_or(String::new(), ToString::to_string);
        has(&format!("{} {version}", service.service))
    };
    wanted.is_empty()
        || has(host.name.as_str())
        || has(host.id.as_str())
        || has(host.zone.as_str())
        || host.env.as_ref().is_some_and(|env| has(env.as_str()))
        || host.labels.iter().any(|label| has(label))
        || host.services.iter().any(version)
}

fn heard(host: &HostReport) -> Markup {
    html! {
        @if host.removed.is_some() { span class="chip past" { "removed" } }
        @else if host.twin.is_some() { span class="chip bad" { "two machines" } }
        @else if host.alive { span class="chip good" { "yes" } }
        @else { span class="chip bad" { "no" } }
        @if host.held.is_some() { " " span class="chip hold" { "held" } }
    }
}

fn service_line(service: &ServiceReport, alive: bool) -> Markup {
    let (class, name) = standing(Some(service.state), alive);
    html! {
        span class={ "mark " (class) } {} (service.service) " "
        @match &service.version { Some(version) => { (version) }, None => { "-" } }
        span class="quiet" { " " (name) }
        @if service.drift.is_some() { " " span class="chip hold" { "drift" } }
    }
}

pub(super) async fn one(State(web): State<Web>, Path(id): Path<String>, guest: Guest) -> Response {
    let fleet = match web.sight.fleet().await {
        Ok(fleet) => fleet,
        Err(error) => return refused(&error),
    };
    let Some(host) = called(&fleet.hosts, &id) else { return not_found(guest).await };
    let which = Which { host: Some(host.id.clone()), ..Which::default() };
    let events = match events::newest(&web, &which).await {
        Ok(events) => events,
        Err(error) => return refused(&error),
    };
    let mut board = Board::default();
    board.frame(html! { (facts(host)) (events) });
    show(&web, &guest, host.name.as_str(), &board, None)
}

/// The host with this id, or else with this name: a name may look like another host's id.
fn called<'a>(hosts: &'a [HostReport], text: &str) -> Option<&'a HostReport> {
    let id = hosts.iter().find(|host| host.id.as_str() == text);
    id.or_else(|| hosts.iter().find(|host| host.name.as_str() == text))
}

fn facts(host: &HostReport) -> Markup {
    html! {
        h1 { (host.name) " " (heard(host)) }
        dl class="facts" {
            dt { "Id" } dd { code { (host.id) } }
            dt { "Environment" } dd { @match &host.env { Some(env) => { (env) }, None => { "none" } } }
            dt { "Zone" } dd { (host.zone) }
            dt { "Labels" } dd { (host.labels.join(", ")) }
            @if let Some(address) = &host.address { dt { "Address" } dd { code { (address) } } }
            @if let Some(twin) = &host.twin { dt { "Its key speaks from" } dd { code { (twin) } ", too: one of the two must join again" } }
            @if let Some(version) = &host.agent_version { dt { "Agent" } dd { (version) } }
            @if let Some(held) = &host.held { dt { "Held" } dd { "until " (time(held.until)) " by " (held.by) ": " (held.reason) } }
            @if let Some(removed) = &host.removed { dt { "Removed" } dd { (time(removed.created)) " by " (removed.by) ": " (removed.reason) } }
        }
        h2 { "Services" }
        @if host.services.is_empty() { p class="quiet" { "none" } }
        @for service in &host.services {
            section class="card" {
                h3 { (service_line(service, host.alive)) }
                @if !service.note.is_empty() { p { (service.note) } }
                @if let Some(to) = &service.to { p class="quiet" { "the newest rollout it spoke of brings " (to) } }
                @if let Some(drift) = &service.drift {
                    p class="hold" { "not as it was released: " (drift.first) @if drift.found > 1 { ", first of " (drift.found) } }
                }
                @if !service.allowed { p class="hold" { "agent.toml there does not allow it" } }
                @if let Some(env) = &host.env {
                    p class="line" {
                        "What was said there: "
                        code { "swell logs " (service.service) "/" (env) " --host " (host.name) }
                    }
                }
            }
        }
        p class="line" { "To see for itself: " code { "swell doctor " (host.name) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_host(id: &str, name: &str) -> HostReport {
        let host = serde_json::json!({
            "id": id, "name": name, "env": null, "zone": "default", "labels": [], "address": null,
            "twin": null, "alive": true, "agent_version": null, "services": [], "held": null,
            "removed": null,
        });
        serde_json::from_value(host).unwrap()
    }

    #[test]
    fn no_name_stands_before_an_id() {
        let (one, other) = ("aaaaaaaaaaaa", "bbbbbbbbbbbb");
        let hosts = [a_host(one, other), a_host(other, "web-1")];
        let found = |text: &str| called(&hosts, text).map(|host| host.id.to_string());
        assert_eq!(found(other).as_deref(), Some(other));
        assert_eq!(found("web-1").as_deref(), Some(other));
        assert_eq!(found(one).as_deref(), Some(one));
        assert_eq!(found("web-2"), None);
    }
}
