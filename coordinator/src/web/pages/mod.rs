//! The pages.

mod act;
mod audit;
mod events;
mod fleet;
mod hosts;
mod rollout;
mod services;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use proto::report::{FleetReport, RolloutReport};
use proto::wire::Refused;
use proto::{Digest, Env};
use tokio::sync::OnceCell;

use super::Web;
use super::gate::Guest;
use super::live::Board;
use super::page::{Page, problem, refused};
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
/// [`Refused`]: looking failed, or there is no such rollout.
pub(super) async fn board(
    web: &Web,
    guest: &Guest,
    page: &str,
) -> Result<Option<Arc<Board>>, Refused> {
    let Some(page) = Live::of(page) else { return Ok(None) };
    let fleet = web.sight.fleet().await?;
    let made = web.boards.of(&fleet, (page.clone(), guest.visitor.envs.clone()));
    // Whoever comes while one makes it waits for that.
    let board = made.get_or_try_init(|| page.board(web, guest, &fleet)).await?;
    Ok(Some(board.clone()))
}

/// A page that changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Live {
    Fleet,
    Rollout(Digest),
}

impl Live {
    /// By what its address says.
    fn of(page: &str) -> Option<Self> {
        match page.split_once('/') {
            None => (page == "fleet").then_some(Self::Fleet),
            Some((kind, id)) => {
                (kind == "rollouts").then(|| id.parse().ok()).flatten().map(Self::Rollout)
            }
        }
    }

    async fn board(
        &self,
        web: &Web,
        guest: &Guest,
        fleet: &FleetReport,
    ) -> Result<Arc<Board>, Refused> {
        let acts_in = &guest.visitor.envs;
        let Self::Rollout(id) = self else {
            let events = events::newest(web, &Which::default()).await?;
            return Ok(Arc::new(fleet::board(fleet, acts_in, events)));
        };
        let mut reports = fleet.rollouts.iter().chain(&fleet.pending);
        let found;
        let report = match reports.find(|report| report.id == *id) {
            Some(report) => report,
            // A newer one has taken over: there is nothing else to look at it with.
            None => {
                found = web.sight.rollout(&format!("{id:#}")).await?;
                &found
            }
        };
        rollout_board(web, acts_in, fleet, report).await.map(Arc::new)
    }
}

async fn rollout_board(
    web: &Web,
    acts_in: &[Env],
    fleet: &FleetReport,
    report: &RolloutReport,
) -> Result<Board, Refused> {
    let which = Which { rollout: Some(report.id), ..Which::default() };
    let events = events::newest(web, &which).await?;
    let samples = web.desk.store.samples(&report.id).await;
    let samples = samples.map_err(|error| out_of_order("read how it went on", &error))?;
    Ok(rollout::board(fleet, report, acts_in, &samples, events))
}

async fn fleet_page(State(web): State<Web>, guest: Guest) -> Response {
    live_page(&web, &guest, "fleet", "Fleet").await
}

async fn rollout_page(State(web): State<Web>, Path(id): Path<String>, guest: Guest) -> Response {
    match web.sight.rollout(&id).await {
        Ok(report) => {
            let title = format!("{} {} to {}", report.service, report.to, report.env);
            live_page(&web, &guest, &format!("rollouts/{:#}", report.id), &title).await
        }
        Err(error) => refused(&error),
    }
}

/// A page that changes, told of at `/live/PAGE`.
async fn live_page(web: &Web, guest: &Guest, page: &str, title: &str) -> Response {
    match board(web, guest, page).await {
        Ok(Some(board)) => show(web, guest, title, &board, Some(page)),
        Ok(None) => problem(StatusCode::NOT_FOUND, "there is no such page"),
        Err(error) => refused(&error),
    }
}

fn show(web: &Web, guest: &Guest, title: &str, board: &Board, live: Option<&str>) -> Response {
    let chain = web.desk.member.ledger.chain();
    Page { title, guest, fleet: chain.fleet().as_str(), board, live }.answer()
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
type Key = (Live, Vec<Env>);

/// One board, made by the first who wants it.
type Once = Arc<OnceCell<Arc<Board>>>;

#[derive(Default)]
struct Made {
    of: Option<Arc<FleetReport>>,
    boards: HashMap<Key, Once>,
}

impl Boards {
    /// The place of a board of this very report.
    fn of(&self, fleet: &Arc<FleetReport>, key: Key) -> Once {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !made.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, fleet)) {
            *made = Made { of: Some(fleet.clone()), ..Made::default() };
        }
        made.boards.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn report() -> Arc<FleetReport> {
        let report = serde_json::json!({
            "fleet": "test", "seen_by": "coordinator", "at": 1, "root_version": 1,
            "coordinator_alive": true, "rollouts": [], "freezes": [], "skips": [], "hosts": [],
        });
        Arc::new(serde_json::from_value(report).unwrap())
    }

    #[tokio::test]
    async fn a_board_is_made_once_for_all_who_may_see_the_same() {
        let (boards, fleet, made) = (Boards::default(), report(), AtomicU32::new(0));
        let look = |fleet: Arc<FleetReport>, page: Live, envs: &[&str]| {
            let envs = envs.iter().map(|env| env.parse().unwrap()).collect();
            let (once, made) = (boards.of(&fleet, (page, envs)), &made);
            async move {
                let make = async || {
                    made.fetch_add(1, Ordering::Relaxed);
                    // Others come while it is made.
                    tokio::task::yield_now().await;
                    Ok::<_, Refused>(Arc::new(Board::default()))
                };
                once.get_or_try_init(make).await.unwrap().clone()
            }
        };
        let fifty = (0..50).map(|_| look(fleet.clone(), Live::Fleet, &["production"]));
        let fifty = futures_util::future::join_all(fifty).await;
        assert_eq!(made.load(Ordering::Relaxed), 1);
        let one = &fifty[0];
        assert!(fifty.iter().all(|board| Arc::ptr_eq(board, one)));
        let viewer = look(fleet.clone(), Live::Fleet, &[]).await;
        assert!(!Arc::ptr_eq(&viewer, one), "whoever only looks sees no buttons");
        let other = look(fleet.clone(), Live::Rollout(Digest::of(b"1")), &["production"]).await;
        assert!(!Arc::ptr_eq(&other, one));
        let later = look(report(), Live::Fleet, &["production"]).await;
        assert!(!Arc::ptr_eq(&later, one), "it was of another look");
        assert_eq!(boards.made.lock().unwrap().boards.len(), 1, "old ones are not kept");
    }

    #[test]
    fn pages_that_change_have_one_address_each() {
        let id = Digest::of(b"1");
        assert_eq!(Live::of("fleet"), Some(Live::Fleet));
        assert_eq!(Live::of(&format!("rollouts/{id:#}")), Some(Live::Rollout(id)));
        // Else each start of an id would be a board of its own.
        for other in [format!("rollouts/{id}"), "fleet/".into(), "hosts".into(), String::new()] {
            assert_eq!(Live::of(&other), None, "{other}");
        }
    }
}
