//! The calls there are: what each takes, gives and does.

use futures_util::future::BoxFuture;
use proto::audit::Entry;
use proto::report::{EventReport, HostReport, RolloutReport};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::call::{Asked, Outcome};
use super::input::Field;
use super::paging::{self, CURSOR, LIMIT};
use super::problem::Kind;
use super::values::{
    ActReport, FleetSummary, Published, ReleaseReport, RollBackReport, ServiceSummary,
};
use super::{acting, reading};
use crate::access::Visitor;

pub(super) type Look = fn(Asked) -> BoxFuture<'static, Outcome>;
pub(super) type Act = fn(Asked, Visitor) -> BoxFuture<'static, Outcome>;

/// What a call does.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// `GET`: it looks.
    Look(Look),
    /// `POST`: it has the coordinator sign something.
    Act(Act),
}

/// What an answer holds.
pub(super) struct Shape {
    /// As JSON Schema.
    pub(super) schema: Value,
    /// What that refers to, by names.
    pub(super) named: Vec<(String, RefOr<Schema>)>,
}

/// A call.
pub(super) struct Operation {
    /// Of all calls: programs that are made from the description call it so.
    pub(super) id: &'static str,
    /// Below [`super::BASE`]; parts in braces stand in `inputs`.
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// What else there is to know.
    pub(super) more: &'static str,
    pub(super) inputs: &'static [Field],
    pub(super) shape: fn() -> Shape,
    /// Nothing of the fleet is in its answer.
    pub(super) for_everybody: bool,
    pub(super) run: Run,
}

impl Operation {
    /// What kinds of problems it may answer with.
    pub(super) fn problems(&self) -> Vec<Kind> {
        let mut kinds = match self.run {
            Run::Look(_) => vec![Kind::Malformed, Kind::Invalid],
            Run::Act(_) => vec![
                Kind::KeyMissing,
                Kind::Malformed,
                Kind::Forbidden,
                Kind::NotFound,
                Kind::Conflict,
                Kind::TooLarge,
                Kind::WrongType,
                Kind::Invalid,
            ],
        };
        if !self.for_everybody {
            kinds.push(Kind::Unauthorized);
        }
        if self.path.contains('{') && matches!(self.run, Run::Look(_)) {
            kinds.push(Kind::NotFound);
        }
        kinds.extend([Kind::WrongMethod, Kind::TooMuch, Kind::Busy]);
        kinds
    }
}

/// What holds a `T`.
fn shape<T: ToSchema>() -> Shape {
    let name = T::name().into_owned();
    let mut named = Vec::new();
    T::schemas(&mut named);
    named.push((name.clone(), T::schema()));
    Shape { schema: json!({ "$ref": format!("#/components/schemas/{name}") }), named }
}

/// A page of them.
fn page<T: ToSchema>() -> Shape {
    let Shape { schema, named } = shape::<T>();
    Shape { schema: paging::schema(&schema), named }
}

fn anything() -> Shape {
    Shape { schema: json!({ "type": "object" }), named: Vec::new() }
}

macro_rules! look {
    ($run:path) => {
        Run::Look(|asked| Box::pin($run(asked)))
    };
}

macro_rules! act {
    ($run:path) => {
        Run::Act(|asked, visitor| Box::pin($run(asked, visitor)))
    };
}

const fn operation(
    id: &'static str,
    path: &'static str,
    summary: &'static str,
    inputs: &'static [Field],
    (shape, run): (fn() -> Shape, Run),
) -> Operation {
    Operation { id, path, summary, more: "", inputs, shape, for_everybody: false, run }
}

impl Operation {
    const fn more(self, more: &'static str) -> Self {
        Self { more, ..self }
    }

    const fn for_everybody(self) -> Self {
        Self { for_everybody: true, ..self }
    }
}

/// All of them.
pub(super) static OPERATIONS: &[Operation] = &[
    operation(
        "getFleet",
        "/fleet",
        "The fleet in a few numbers",
        &[],
        (shape::<FleetSummary>, look!(reading::fleet)),
    ),
    operation(
        "listHosts",
        "/hosts",
        "The hosts, in the order of their ids",
        &[reading::OF_ENV.field(), LIMIT.field(), CURSOR.field()],
        (page::<HostReport>, look!(reading::hosts)),
    ),
    operation(
        "getHost",
        "/hosts/{id}",
        "A host, as the coordinator sees it",
        &[reading::HOST.field()],
        (shape::<HostReport>, look!(reading::host)),
    ),
    operation(
        "listServices",
        "/services",
        "The services that were published, and where each stands",
        &[LIMIT.field(), CURSOR.field()],
        (page::<ServiceSummary>, look!(reading::services)),
    ),
    operation(
        "listReleases",
        "/services/{service}/releases",
        "The versions of a service, newest first",
        &[reading::SERVICE.field(), LIMIT.field(), CURSOR.field()],
        (page::<Published>, look!(reading::releases)),
    ),
    operation(
        "getRelease",
        "/releases/{service}/{version}",
        "A version, as it was signed",
        &[reading::SERVICE.field(), reading::VERSION.field()],
        (shape::<ReleaseReport>, look!(reading::release)),
    ),
    operation(
        "listRollouts",
        "/rollouts",
        "The newest rollout of each service in each environment; or all of one of these",
        &[reading::OF_SERVICE.field(), reading::OF_ENV.field(), LIMIT.field(), CURSOR.field()],
        (page::<RolloutReport>, look!(reading::rollouts)),
    )
    .more(
        "With `service` and `env` all rollouts of that service there, newest first. `hosts` is \
         empty in lists: ask for the rollout itself.",
    ),
    operation(
        "getRollout",
        "/rollouts/{id}",
        "A rollout with all its hosts, as `swell explain --json` prints it",
        &[reading::ROLLOUT.field()],
        (shape::<RolloutReport>, look!(reading::rollout)),
    )
    .more(
        "To wait for its end, ask with `If-None-Match` every few seconds, until `ended` is there.",
    ),
    operation(
        "listEvents",
        "/events",
        "What happened, the newest first",
        &[
            reading::BEFORE.field(),
            reading::OF_SERVICE.field(),
            reading::OF_ENV.field(),
            reading::OF_ROLLOUT.field(),
            reading::OF_HOST.field(),
            reading::OF_KIND.field(),
            reading::SINCE.field(),
            LIMIT.field(),
            CURSOR.field(),
        ],
        (page::<EventReport>, look!(reading::events)),
    )
    .more(
        "All that is given goes together. A service, environment, host, rollout or kind that there is not \
         is refused. Of few among many a page is what is found in a moment: it may be empty and not the \
         last.",
    ),
    operation(
        "listAudit",
        "/audit",
        "Who changed what, the first first",
        &[
            reading::AFTER.field(),
            reading::BY_ACTOR.field(),
            reading::OF_ACTION.field(),
            reading::ON_SUBJECT.field(),
            reading::SINCE.field(),
            LIMIT.field(),
            CURSOR.field(),
        ],
        (page::<Entry>, look!(reading::audit)),
    )
    .more(
        "To follow the record, ask for what comes `after` the last entry you have. Of few among many a page \
         is what is found in a moment: it may be empty and not the last.",
    ),
    operation(
        "getDescription",
        "/openapi.json",
        "This description, for everybody",
        &[],
        (anything, look!(reading::description)),
    )
    .for_everybody(),
    operation(
        "pauseRollout",
        "/rollouts/{id}/pause",
        "Pause a rollout: no host starts anything new, bakes stand still",
        &[reading::ROLLOUT.field(), acting::REASON.field()],
        (shape::<ActReport>, act!(acting::pause)),
    )
    .more("To go on needs a person's key: `swell resume`."),
    operation(
        "abortRollout",
        "/rollouts/{id}/abort",
        "Abort a rollout: it ends, and hosts go back as its `on_failure` says",
        &[reading::ROLLOUT.field(), acting::REASON.field()],
        (shape::<ActReport>, act!(acting::abort)),
    )
    .more("For good: its version starts there again only by `swell retry`."),
    operation(
        "rollBack",
        "/services/{service}/environments/{env}/rollback",
        "Roll back to what the newest rollout came from, all hosts at once",
        &[
            reading::SERVICE.field(),
            acting::ENV.field(),
            acting::REASON.field(),
            acting::DRY_RUN.field(),
            acting::OF.field(),
        ],
        (shape::<RollBackReport>, act!(acting::roll_back)),
    )
    .more(
        "With `dry_run` it tells what would happen. To any other version needs a person's key: \
         `swell rollback --to`.",
    ),
    operation(
        "freezeEnvironment",
        "/environments/{env}/freeze",
        "Freeze an environment: nothing new starts there for up to a day",
        &[acting::ENV.field(), acting::REASON.field(), acting::LASTS.field()],
        (shape::<ActReport>, act!(acting::freeze)),
    )
    .more(
        "Ways back and rollbacks go on. To end it sooner needs a person's key: `swell unfreeze`.",
    ),
];
