//! The fleet at a glance: who is heard, which version runs where, what is under way.

use std::collections::BTreeMap;

use maud::{Markup, html};
use proto::id::{Env, Service, Version};
use proto::listed;
use proto::receipt::State;
use proto::report::{FleetReport, HostReport, RolloutReport, ServiceReport};

use super::super::charts;
use super::super::live::Board;
use super::super::page::{counted, stance, time};

/// Hosts that are named where something is wrong with many.
const NAMED_MAX: usize = 8;

/// A service in an environment, and how many hosts serve which version; none: nothing, or not known.
type Spread<'a> = BTreeMap<(&'a Service, &'a Env), BTreeMap<Option<&'a Version>, usize>>;

pub(super) fn board(fleet: &FleetReport, acts_in: &[Env], events: Markup) -> Board {
    let mut board = Board::default();
    board.piece("health", health(fleet));
    board.piece("waiting", waiting(fleet));
    board.raw("<h2>Services</h2><div class=\"cards\">");
    let cards = cards(fleet, None);
    let empty = cards.is_empty();
    for (id, card) in cards {
        board.piece(id, card);
    }
    board.raw("</div>");
    if !acts_in.is_empty() {
        board.frame(html! {
            p class="buttons" {
                @for env in acts_in {
                    a class="button" href={ "/environments/" (env) "/freeze" } { "Freeze " (env) }
                }
            }
        });
    }
    if empty {
        board.raw(
            "<p class=\"quiet\">Nothing was deployed yet: <code>swell publish</code>, then \
             <code>swell deploy</code>.</p>",
        );
    }
    board.piece("events", events);
    board
}

/// A card for each environment of each service, or of one, with the id of its element.
pub(super) fn cards(fleet: &FleetReport, of: Option<&Service>) -> Vec<(String, Markup)> {
    let spread = spread(fleet);
    let wanted = spread.iter().filter(|((service, _), _)| of.is_none_or(|of| of == *service));
    let card = |((service, env), versions): (&(&Service, &Env), &BTreeMap<_, _>)| {
        let is = |one: &&RolloutReport| one.service == **service && one.env == **env;
        let id = format!("scope-{service}-{env}");
        (id.clone(), scope(&id, service, env, versions, fleet.rollouts.iter().find(is)))
    };
    wanted.map(card).collect()
}

fn spread(fleet: &FleetReport) -> Spread<'_> {
    let mut spread = Spread::new();
    for rollout in &fleet.rollouts {
        spread.entry((&rollout.service, &rollout.env)).or_default();
    }
    for host in fleet.hosts.iter().filter(|host| host.removed.is_none()) {
        let Some(env) = &host.env else { continue };
        for service in &host.services {
            let versions = spread.entry((&service.service, env)).or_default();
            *versions.entry(service.version.as_ref()).or_default() += 1;
        }
    }
    spread
}

fn health(fleet: &FleetReport) -> Markup {
    let known: Vec<_> = fleet.hosts.iter().filter(|host| host.removed.is_none()).collect();
    let alive = known.iter().filter(|host| host.alive).count();
    let named = |what: &dyn Fn(&HostReport) -> bool| {
        known.iter().filter(|host| what(host)).map(|host| host.name.as_str()).collect::<Vec<_>>()
    };
    let silent = named(&|host| !host.alive);
    let twins = named(&|host| host.twin.is_some());
    let is_stuck = |service: &ServiceReport| service.state == State::RevertFailed;
    let stuck = named(&|host| host.services.iter().any(is_stuck));
    let drifted = named(&|host| host.services.iter().any(|service| service.drift.is_some()));
    html! {
        section id="health" aria-label="Fleet" {
            h1 { (fleet.fleet) }
            p class="big" {
                strong { (alive) } " of " (counted(known.len(), "host")) " heard"
            }
            ul class="notes" {
                @for (class, what, hosts) in [
                    ("bad", "could not go back, a person is needed on", stuck),
                    ("bad", "not heard", silent),
                    ("bad", "two machines hold the key of", twins),
                    ("hold", "not as it was released on", drifted),
                ] {
                    @if !hosts.is_empty() {
                        li class=(class) { (what) " " (hosts.len()) ": " (listed(&hosts, NAMED_MAX)) }
                    }
                }
                @for freeze in fleet.freezes.iter().filter(|freeze| freeze.in_force) {
                    li class="hold" {
                        @match &freeze.host {
                            Some(host) => { "host " (host) " is held" },
                            None => { (freeze.env) " is frozen" },
                        }
                        " until " (time(freeze.until)) " by " (freeze.by) ": " (freeze.reason)
                    }
                }
            }
        }
    }
}

/// What waits for approval: what it is, what it lacks, the line that signs it.
fn waiting(fleet: &FleetReport) -> Markup {
    html! {
        section id="waiting" aria-label="Waits for approval" {
            @for one in &fleet.pending {
                @let id = format!("{:#}", one.id);
                p {
                    (stance(one)) " "
                    a id={ "waiting-" (id) } href={ "/rollouts/" (id) } {
                        (one.service) " "
                        @match &one.from { Some(from) => { (from) " to " }, None => {} }
                        (one.to)
                    }
                    " in " (one.env) " by " (one.author) ": " (one.why)
                }
                p class="line" { "Approve, with your key: " code { "swell approve " (one.id) } }
            }
        }
    }
}

fn scope(
    id: &str,
    service: &Service,
    env: &Env,
    versions: &BTreeMap<Option<&Version>, usize>,
    newest: Option<&RolloutReport>,
) -> Markup {
    let parts: Vec<_> = versions
        .iter()
        .map(|(version, hosts)| {
            (version.map_or("nothing that serves".to_owned(), ToString::to_string), *hosts)
        })
        .collect();
    html! {
        section id=(id) class="card" {
            h3 { a id={ (id) "-service" } href={ "/services/" (service) } { (service) } " " span class="quiet" { (env) } }
            (charts::spread(&parts))
            ul class="legend" {
                @for (index, (version, hosts)) in parts.iter().enumerate() {
                    li { span class={ "dot s" (index % charts::SERIES) } {} (version) " " span class="quiet" { (counted(*hosts, "host")) } }
                }
            }
            @if let Some(newest) = newest {
                p {
                    (stance(newest)) " "
                    a id={ (id) "-rollout" } href={ "/rollouts/" (format!("{:#}", newest.id)) } {
                        @match &newest.from { Some(from) => { (from) " to " }, None => {} }
                        (newest.to)
                    }
                    " by " (newest.author)
                }
                p class="quiet" { (newest.why) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `swell hosts` tells it: the name of the host, and how its service stands.
    fn host((name, state, version): (&str, &str, Option<&str>)) -> serde_json::Value {
        serde_json::json!({
            "id": format!("{name:a<12}"), "name": name, "env": "production", "zone": "default",
            "labels": [], "address": null, "twin": null, "alive": true, "agent_version": null,
            "held": null, "removed": null,
            "services": [{
                "service": "web", "version": version, "state": state, "note": "", "to": "2",
                "drift": null, "allowed": true,
            }],
        })
    }

    #[test]
    fn a_host_that_could_not_go_back_is_named_first() {
        let hosts = [("one", "revert-failed", None), ("two", "committed", Some("2"))].map(host);
        let fleet = serde_json::json!({
            "fleet": "test-00000000", "seen_by": "coordinator", "at": 1, "root_version": 1,
            "coordinator_alive": true, "hosts": hosts, "rollouts": [], "freezes": [], "skips": [],
        });
        let fleet: FleetReport = serde_json::from_value(fleet).unwrap();
        let shown = health(&fleet).0;
        assert!(shown.contains("a person is needed on 1: one</li>"), "{shown}");
        let cards = cards(&fleet, None);
        assert!(cards[0].1.0.contains("nothing that serves "), "{}", cards[0].1.0);
    }
}
