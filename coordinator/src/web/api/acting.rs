//! Calls that have the coordinator sign what makes the fleet more careful (R3).

use proto::id::{Digest, Env, Scope};

use super::call::{Answer, Asked, Outcome};
use super::input::{Lasts, Param, Reason, RolloutId};
use super::problem::Problem;
use super::reading::{ROLLOUT, SERVICE};
use super::values::{ActReport, RollBackReport};
use crate::access::Visitor;
use crate::acts::Careful;

pub(super) const REASON: Param<Reason> =
    Param::body("reason", "Why, for the record.").required().with("error rate rises");
pub(super) const DRY_RUN: Param<bool> =
    Param::body("dry_run", "Only tell what would happen: nothing is signed, nothing kept.");
pub(super) const OF: Param<Digest> = Param::body(
    "of",
    "The rollout to be undone, as a dry run tells it: if another one is the newest by now, nothing is done.",
);
pub(super) const LASTS: Param<Lasts> =
    Param::body("lasts_s", "For how long, in seconds.").required().with("7200");
pub(super) const ENV: Param<Env> = Param::path("env", "The environment.", "staging");

/// `POST /rollouts/{id}/pause`.
pub(super) async fn pause(asked: Asked, visitor: Visitor) -> Outcome {
    let RolloutId(id) = asked.given.need(&ROLLOUT);
    let report = asked.web.sight.rollout(&id).await?;
    sign(&asked, &visitor, Careful::Pause(report.id)).await.map(|acted| Answer::of(&acted))
}

/// `POST /rollouts/{id}/abort`.
pub(super) async fn abort(asked: Asked, visitor: Visitor) -> Outcome {
    let RolloutId(id) = asked.given.need(&ROLLOUT);
    let report = asked.web.sight.rollout(&id).await?;
    sign(&asked, &visitor, Careful::Abort(report.id)).await.map(|acted| Answer::of(&acted))
}

/// `POST /environments/{env}/freeze`.
pub(super) async fn freeze(asked: Asked, visitor: Visitor) -> Outcome {
    let Lasts(lasts_s) = asked.given.need(&LASTS);
    let careful = Careful::Freeze { env: asked.given.need(&ENV), lasts_s };
    sign(&asked, &visitor, careful).await.map(|acted| Answer::of(&acted))
}

/// `POST /services/{service}/environments/{env}/rollback`.
pub(super) async fn roll_back(asked: Asked, visitor: Visitor) -> Outcome {
    let scope = Scope { service: asked.given.need(&SERVICE), env: asked.given.need(&ENV) };
    let of = asked.given.get(&OF);
    let careful = Careful::RollBack { scope: scope.clone(), of };
    let report = match asked.given.get(&DRY_RUN) {
        Some(true) => {
            asked.web.desk.refuse_other(&visitor, &careful)?;
            let Reason(reason) = asked.given.need(&REASON);
            let way = asked.web.desk.way_back(&scope, of, reason).await?;
            RollBackReport::Planned(way.into())
        }
        _ => RollBackReport::Done(sign(&asked, &visitor, careful).await?),
    };
    Ok(Answer::of(&report))
}

async fn sign(asked: &Asked, visitor: &Visitor, careful: Careful) -> Result<ActReport, Problem> {
    let Reason(reason) = asked.given.need(&REASON);
    let acted = asked.web.desk.act(visitor, careful, &reason).await;
    asked.web.sight.forget().await;
    Ok(acted?.into())
}
