//! The pages.

mod act;
mod events;
mod fleet;
mod hosts;
mod rollout;
mod services;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use proto::Env;
use proto::report::{FleetReport, RolloutReport};
use proto::wire::{ControlReply, ControlRequest, Refused, RolloutQuery};

use super::Web;
use super::gate::Guest;
use super::live::Board;
use super::page::{Page, problem, refused};
use super::sight::not_understood;

pub(super) fn router() -> Router<Web> {
    Router::new()
        .route("/", get(fleet_page))
        .route("/rollouts/{id}", get(rollout_page))
        .route("/hosts", get(hosts::list))
        .route("/hosts/{id}", get(hosts::one))
        .route("/services/{service}", get(services::one))
        .route("/events", get(events::list))
        .merge(act::router())
}

/// The board of the page that `/live/PAGE` follows; none: there is no such page.
///
/// # Errors
///
/// [`Refused`]: looking failed.
pub(super) async fn board(
    web: &Web,
    guest: &Guest,
    page: &str,
) -> Result<Option<Arc<Board>>, Refused> {
    let fleet = web.sight.fleet().await?;
    let acts_in = guest.visitor.envs.clone();
    let make = || match page.split_once('/') {
        None if page == "fleet" => Some(fleet::board(&fleet, &acts_in)),
        Some(("rollouts", id)) => {
            let report = fleet.rollouts.iter().find(|report| format!("{:#}", report.id) == id)?;
            Some(rollout::board(&fleet, report, &acts_in))
        }
        _ => None,
    };
    Ok(web.boards.get((page, &acts_in), &fleet, make))
}

async fn fleet_page(State(web): State<Web>, guest: Guest) -> Response {
    match web.sight.fleet().await {
        Ok(fleet) => {
            let board = fleet::board(&fleet, &guest.visitor.envs);
            show(&guest, &fleet, "Fleet", board, Some("fleet".to_owned()))
        }
        Err(error) => refused(&error),
    }
}

async fn rollout_page(State(web): State<Web>, Path(id): Path<String>, guest: Guest) -> Response {
    let (fleet, report) = match find(&web, &id).await {
        Ok(found) => found,
        Err(error) => return refused(&error),
    };
    let newest = fleet.rollouts.iter().any(|newest| newest.id == report.id);
    let title = format!("{} {} to {}", report.service, report.to, report.env);
    let live = newest.then(|| format!("rollouts/{:#}", report.id));
    let board = rollout::board(&fleet, &report, &guest.visitor.envs);
    show(&guest, &fleet, &title, board, live)
}

fn show(
    guest: &Guest,
    fleet: &FleetReport,
    title: &str,
    board: Board,
    live: Option<String>,
) -> Response {
    Page { title, guest, fleet: fleet.fleet.as_str(), board, live }.answer()
}

/// A rollout by the start of its id.
async fn find(web: &Web, id: &str) -> Result<(Arc<FleetReport>, RolloutReport), Refused> {
    let fleet = web.sight.fleet().await?;
    let query = ControlRequest::Rollout(RolloutQuery::Id(id.to_owned()));
    match web.sight.answer(query).await? {
        ControlReply::Rollout(report) => Ok((fleet, *report)),
        _ => Err(not_understood()),
    }
}

pub(super) async fn not_found(_: Guest) -> Response {
    problem(StatusCode::NOT_FOUND, "there is no such page")
}

/// Boards of the newest report, made once for all who look at the same page and may do the same.
#[derive(Clone, Default)]
pub(super) struct Boards {
    made: Arc<std::sync::Mutex<Made>>,
}

/// Which page, for whom.
type Key = (String, Vec<Env>);

#[derive(Default)]
struct Made {
    of: Option<Arc<FleetReport>>,
    boards: std::collections::HashMap<Key, Option<Arc<Board>>>,
}

impl Boards {
    fn get(
        &self,
        (page, envs): (&str, &[Env]),
        fleet: &Arc<FleetReport>,
        make: impl FnOnce() -> Option<Board>,
    ) -> Option<Arc<Board>> {
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !made.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, fleet)) {
            *made = Made { of: Some(fleet.clone()), ..Made::default() };
        }
        let key = (page.to_owned(), envs.to_vec());
        made.boards.entry(key).or_insert_with(|| make().map(Arc::new)).clone()
    }
}
