//! The pages.

mod act;
mod audit;
mod events;
mod fleet;
mod hosts;
mod rollout;
mod services;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
use crate::desk::out_of_order;
use crate::store::Which;

pub(super) fn router() -> Router<Web> {
    Router::new()
        .route("/", get(fleet_page))
        .route("/rollouts/{id}", get(rollout_page))
        .route("/hosts", get(hosts::list))
        .route("/hosts/{id}", get(hosts::one))
        .route("/services/{service}", get(services::one))
        .route("/audit", get(audit::list))
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
    let key = (page.to_owned(), guest.visitor.envs.clone());
    if let Some(made) = web.boards.get(&key, &fleet) {
        return Ok(made);
    }
    let board = match page.split_once('/') {
        None if page == "fleet" => {
            let events = events::newest(web, &Which::default()).await?;
            Some(fleet::board(&fleet, &guest.visitor.envs, events))
        }
        Some(("rollouts", id)) => {
            let report = fleet.rollouts.iter().find(|report| format!("{:#}", report.id) == id);
            match report {
                Some(report) => Some(rollout_board(web, guest, &fleet, report).await?),
                None => None,
            }
        }
        _ => None,
    };
    Ok(web.boards.keep(key, &fleet, board))
}

async fn rollout_board(
    web: &Web,
    guest: &Guest,
    fleet: &FleetReport,
    report: &RolloutReport,
) -> Result<Board, Refused> {
    let which = Which { rollout: Some(report.id), ..Which::default() };
    let events = events::newest(web, &which).await?;
    let samples = web.desk.store.samples(&report.id).await;
    let samples = samples.map_err(|error| out_of_order("read how it went on", &error))?;
    Ok(rollout::board(fleet, report, &guest.visitor.envs, &samples, events))
}

async fn fleet_page(State(web): State<Web>, guest: Guest) -> Response {
    let looked = async {
        let fleet = web.sight.fleet().await?;
        Ok::<_, Refused>((fleet, events::newest(&web, &Which::default()).await?))
    };
    match looked.await {
        Ok((fleet, events)) => {
            let board = fleet::board(&fleet, &guest.visitor.envs, events);
            show(&guest, &fleet, "Fleet", board, Some("fleet".to_owned()))
        }
        Err(error) => refused(&error),
    }
}

async fn rollout_page(State(web): State<Web>, Path(id): Path<String>, guest: Guest) -> Response {
    let looked = async {
        let (fleet, report) = find(&web, &id).await?;
        let board = rollout_board(&web, &guest, &fleet, &report).await?;
        Ok::<_, Refused>((fleet, report, board))
    };
    let (fleet, report, board) = match looked.await {
        Ok(looked) => looked,
        Err(error) => return refused(&error),
    };
    let newest = fleet.rollouts.iter().any(|newest| newest.id == report.id);
    let title = format!("{} {} to {}", report.service, report.to, report.env);
    let live = newest.then(|| format!("rollouts/{:#}", report.id));
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
    made: Arc<Mutex<Made>>,
}

/// Which page, for whom.
type Key = (String, Vec<Env>);

#[derive(Default)]
struct Made {
    of: Option<Arc<FleetReport>>,
    boards: HashMap<Key, Option<Arc<Board>>>,
}

impl Boards {
    /// What was made of this very report; none: nothing yet.
    #[expect(clippy::option_option, reason = "nothing was made, or there is no such page")]
    fn get(&self, key: &Key, fleet: &Arc<FleetReport>) -> Option<Option<Arc<Board>>> {
        let made = self.made();
        let of = made.of.as_ref().filter(|of| Arc::ptr_eq(of, fleet));
        of.and_then(|_| made.boards.get(key).cloned())
    }

    fn keep(&self, key: Key, fleet: &Arc<FleetReport>, board: Option<Board>) -> Option<Arc<Board>> {
        let mut made = self.made();
        if !made.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, fleet)) {
            *made = Made { of: Some(fleet.clone()), ..Made::default() };
        }
        let board = board.map(Arc::new);
        made.boards.insert(key, board.clone());
        board
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
