//! A service: what runs of it where, what was rolled out, which releases there are and who signed them.

use axum::extract::{Path, State};
use axum::response::Response;
use maud::{Markup, html};
use proto::dora::{DoraReport, DoraShare, DoraTimes};
use proto::dsse::Envelope;
use proto::id::{Digest, Env, Scope, Service};
use proto::report::{FleetReport, RolloutReport};
use proto::statement::Release;
use proto::wire::{ControlReply, Refused};

use super::super::Web;
use super::super::charts;
use super::super::gate::Guest;
use super::super::live::Board;
use super::super::page::{counted, refused, stance, time};
use super::super::sight::not_understood;
use super::{fleet, not_found, show};
use crate::desk::{Desk, blocking};

/// Rollouts of each environment, and releases, on the page.
const ROLLOUTS: usize = 20;
const RELEASES: usize = 50;
/// Of how many days the measures of delivery are.
const DORA_DAYS: u32 = 90;

/// A release, with those who signed it.
struct Signed {
    id: Digest,
    release: Release,
    signers: String,
}

pub(super) async fn one(
    State(web): State<Web>,
    Path(service): Path<String>,
    guest: Guest,
) -> Response {
    let Ok(service) = service.parse::<Service>() else { return not_found(guest).await };
    let looked = async {
        let fleet = web.sight.fleet().await?;
        let (desk, named) = (web.desk.clone(), service.clone());
        let releases = blocking("read the releases", move || releases(&desk, &named)).await?;
        let mut history = Vec::new();
        for env in envs_of(&fleet, &service) {
            let scope = Scope { service: service.clone(), env: env.clone() };
            let ControlReply::Dora(dora) = web.desk.dora(scope, DORA_DAYS).await? else {
                return Err(not_understood());
            };
            history.push((env.clone(), rollouts(&web, &service, &env).await?, dora));
        }
        Ok::<_, Refused>((fleet, releases, history))
    };
    let (fleet, releases, history) = match looked.await {
        Ok(looked) => looked,
        Err(error) => return refused(&error),
    };
    if releases.is_empty() && history.is_empty() {
        return not_found(guest).await;
    }
    let mut board = Board::default();
    board.frame(html! {
        h1 { (service) }
        div class="cards" { @for card in fleet::cards(&fleet, Some(&service)) { (card.1) } }
        @for (env, rollouts, dora) in &history { (measures(env, dora)) (history_of(env, rollouts)) }
        (release_table(&service, &releases))
    });
    show(&web, &guest, service.as_str(), &board, None)
}

fn envs_of(fleet: &FleetReport, service: &Service) -> Vec<Env> {
    let own = fleet.rollouts.iter().filter(|rollout| rollout.service == *service);
    own.map(|rollout| rollout.env.clone()).collect()
}

async fn rollouts(web: &Web, service: &Service, env: &Env) -> Result<Vec<RolloutReport>, Refused> {
    let scope = Scope { service: service.clone(), env: env.clone() };
    let chain = web.desk.member.ledger.chain();
    let newest = chain.history(&scope).into_iter().take(ROLLOUTS).map(|(id, _)| id);
    web.sight.rollouts(newest.collect()).await
}

/// The newest releases of a service. Blocks on the disk.
fn releases(desk: &Desk, service: &Service) -> Vec<Signed> {
    let ledger = &desk.member.ledger;
    let chain = ledger.chain();
    let newest = chain.releases_of(service).into_iter().take(RELEASES);
    let signed = |(id, release): (Digest, &Release)| {
        let bytes = ledger.statement(&id).ok().flatten();
        let envelope = bytes.and_then(|bytes| Envelope::parse(&bytes, usize::MAX).ok());
        let signers = envelope.map_or(String::new(), |envelope| desk.signers(&envelope));
        Signed { id, release: release.clone(), signers }
    };
    newest.map(signed).collect()
}

fn measures(env: &Env, dora: &DoraReport) -> Markup {
    let measures = &dora.window;
    let weekly: Vec<_> =
        dora.weeks.iter().map(|week| u64::from(week.deployment_frequency.deployments)).collect();
    let frequency = measures.deployment_frequency;
    html! {
        h2 { "Delivery to " (env) " " span class="quiet" { (measures.days) " days" } }
        div class="cards" {
            section class="card" {
                h3 { "Deployment frequency" }
                p class="big" { (frequency.deployments) " " span class="quiet" { "on " (counted(frequency.days_with_one as usize, "day")) } }
                (charts::bars("Deployments in each week", &weekly))
            }
            (times("Change lead time", measures.change_lead_time, "from the commit to the end of its rollout"))
            (share("Change fail rate", measures.change_fail_rate, "halted, aborted or taken back"))
            (times("Failed deployment recovery time", measures.failed_deployment_recovery_time, "from the end of a failed one to the next good one"))
            (share("Rework rate", measures.rework_rate, "rollbacks, and the first after a failed one"))
        }
    }
}

fn times(name: &str, times: DoraTimes, what: &str) -> Markup {
    html! {
        section class="card" {
            h3 { (name) }
            @match (times.p50_s, times.p90_s) {
                (Some(half), Some(most)) => {
                    p class="big" { (charts::span(half)) " " span class="quiet" { "half, " (charts::span(most)) " nine of ten" } }
                },
                _ => { p class="big" { "unknown" } },
            }
            p class="quiet" { (what) "; of " (times.n) @if times.unknown > 0 { ", and " (times.unknown) " that lack data" } }
        }
    }
}

fn share(name: &str, share: DoraShare, what: &str) -> Markup {
    html! {
        section class="card" {
            h3 { (name) }
            p class="big" {
                @match (u64::from(share.n) * 1_000).checked_div(share.of.into()) {
                    Some(tenths) => { (tenths / 10) "." (tenths % 10) " %" },
                    None => { "unknown" },
                }
            }
            p class="quiet" { (what) ": " (share.n) " of " (share.of) }
        }
    }
}

fn history_of(env: &Env, rollouts: &[RolloutReport]) -> Markup {
    html! {
        h2 { "Rollouts to " (env) }
        div class="scroll" tabindex="0" role="region" aria-label={ "Rollouts to " (env) } {
            table {
                thead { tr { th scope="col" { "Epoch" } th scope="col" { "Version" } th scope="col" { "Signed" } th scope="col" { "By" } th scope="col" { "How it stands" } th scope="col" { "Why" } } }
                tbody {
                    @for report in rollouts {
                        tr {
                            td { (report.epoch) }
                            td {
                                a href={ "/rollouts/" (format!("{:#}", report.id)) } {
                                    @if let Some(from) = &report.from { (from) " to " } (report.to)
                                }
                            }
                            td { (time(report.created)) }
                            td { (report.author) }
                            td { (stance(report)) }
                            td { (report.reason) }
                        }
                    }
                }
            }
        }
    }
}

fn release_table(service: &Service, releases: &[Signed]) -> Markup {
    html! {
        h2 { "Releases" }
        p class="line" { "To bring one: " code { "swell deploy " (service) " VERSION --env ENV" } ", with the swell.toml beside it" }
        div class="scroll" tabindex="0" role="region" aria-label="Releases" {
            table {
                thead { tr { th scope="col" { "Version" } th scope="col" { "Published" } th scope="col" { "Commit" } th scope="col" { "Signed by" } th scope="col" { "Digest" } } }
                tbody {
                    @for Signed { id, release, signers } in releases {
                        tr {
                            td { (release.version) }
                            td { (time(release.created)) }
                            td {
                                @if let Some(commit) = &release.source.commit { code { (commit.chars().take(12).collect::<String>()) } }
                                @if let Some(branch) = &release.source.branch { " " (branch) }
                            }
                            td { (signers) }
                            td { code title=(format!("{id:#}")) { (id) } }
                        }
                    }
                }
            }
        }
    }
}
