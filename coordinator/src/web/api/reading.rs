//! Calls that look.

use axum::body::Bytes;
use proto::dsse::Envelope;
use proto::id::{Digest, Env, HostId, Scope, Service, Version};
use proto::report::{FleetReport, HostReport, RolloutPhase, RolloutReport};
use proto::statement::{Statement, UnixTime};
use proto::wire::{AuditPage, AuditQuery, ControlReply, ControlRequest, EventsQuery, RolloutQuery};

use super::super::sight::not_understood;
use super::call::{Answer, Asked, Outcome};
use super::document;
use super::input::{Given, Limit, Param, Phrase, RolloutId, Seq};
use super::paging::{self, LIMIT};
use super::problem::{Kind, Problem};
use super::values::{
    EnvironmentSummary, FleetSummary, Published, ReleaseReport, RolloutCounts, ScopeSummary,
    ServiceSummary,
};
use crate::events::{self, Numbered};
use crate::store::Found;

pub(super) const HOST: Param<HostId> = Param::path("id", "Id of the host.", "k3vxq2m5n7ad");
pub(super) const SERVICE: Param<Service> = Param::path("service", "The service.", "web");
pub(super) const VERSION: Param<Version> = Param::path("version", "The version.", "1");
pub(super) const ROLLOUT: Param<RolloutId> =
    Param::path("id", "Id of the rollout, or its first 4 digits or more.", "5f2c9a10");

pub(super) const OF_ENV: Param<Env> = Param::query("env", "Of this environment.").with("staging");
pub(super) const OF_SERVICE: Param<Service> = Param::query("service", "Of this service.");
pub(super) const OF_ROLLOUT: Param<RolloutId> =
    Param::query("rollout", "About this rollout: its id, or its first 4 digits or more.")
        .with("5f2c9a10");
pub(super) const OF_HOST: Param<Phrase> =
    Param::query("host", "About this host: its id, or its name.");
pub(super) const OF_KIND: Param<events::Kind> =
    Param::query("kind", "Of this kind.").with("wave-opened");
pub(super) const BEFORE: Param<Seq> =
    Param::query("before", "Before this number; none: from the newest on.");
pub(super) const AFTER: Param<Seq> =
    Param::query("after", "After this number; none: from the first on.").with("0");
pub(super) const BY_ACTOR: Param<Phrase> = Param::query("actor", "By whom: all of it.");
pub(super) const OF_ACTION: Param<Phrase> = Param::query("action", "What was done: all of it.");
pub(super) const ON_SUBJECT: Param<Phrase> =
    Param::query("subject", "Part of the subject, or of what is told of it.");
pub(super) const SINCE: Param<Seq> =
    Param::query("since", "Not before this time, in seconds since 1970.");

/// `GET /openapi.json`.
pub(super) async fn description(_: Asked) -> Outcome {
    Ok(Answer::of_json(Bytes::from_static(document::text().as_bytes())))
}

/// `GET /fleet`.
pub(super) async fn fleet(asked: Asked) -> Outcome {
    let report = asked.web.sight.fleet().await?;
    let chain = asked.web.desk.member.ledger.chain();
    let environments = chain.root().environments.keys();
    let counted = |env: &Env| {
        let (hosts, hosts_alive) = count(&report, |host| host.env.as_ref() == Some(env));
        EnvironmentSummary { env: env.clone(), hosts, hosts_alive }
    };
    let (hosts, hosts_alive) = count(&report, |_| true);
    Ok(Answer::of(&FleetSummary {
        fleet: report.fleet.clone(),
        root_version: report.root_version,
        hosts,
        hosts_alive,
        releases: chain.releases().count() as u64,
        rollouts: rollout_counts(&report),
        environments: environments.map(counted).collect(),
        freezes: report.freezes.iter().filter(|freeze| freeze.in_force).cloned().collect(),
    }))
}

/// Hosts of the fleet that are meant, and those of them that are heard.
fn count(report: &FleetReport, is_meant: impl Fn(&HostReport) -> bool) -> (u64, u64) {
    let hosts = report.hosts.iter().filter(|host| host.removed.is_none() && is_meant(host));
    hosts.fold((0, 0), |(all, alive), host| (all + 1, alive + u64::from(host.alive)))
}

fn rollout_counts(report: &FleetReport) -> RolloutCounts {
    use RolloutPhase as P;
    let mut counts = RolloutCounts::default();
    for rollout in report.rollouts.iter().chain(&report.pending) {
        counts.all += 1;
        counts.open += u64::from(matches!(rollout.phase, P::Pending | P::Running | P::Paused));
        counts.held += u64::from(rollout.held);
        counts.halted += u64::from(rollout.phase == P::Halted && !rollout.is_rolled_back());
    }
    counts
}

/// `GET /hosts`.
pub(super) async fn hosts(asked: Asked) -> Outcome {
    let env = asked.given.get(&OF_ENV);
    asked.web.desk.known(None, env.as_ref())?;
    let report = asked.web.sight.fleet().await?;
    let of_env = |host: &&HostReport| env.is_none() || host.env == env;
    let mut hosts: Vec<_> = report.hosts.iter().filter(of_env).collect();
    hosts.sort_by_key(|host| &host.id);
    let page = paging::sorted("hosts", hosts, |host| host.id.to_string(), &asked.given)?;
    Ok(asked.page(&page))
}

/// `GET /hosts/{id}`.
pub(super) async fn host(asked: Asked) -> Outcome {
    let report = asked.web.sight.fleet().await?;
    let id = asked.given.need(&HOST);
    let host = report.hosts.iter().find(|host| host.id == id);
    host.map(Answer::of).ok_or_else(|| nothing(format!("there is no host {id}")))
}

fn nothing(detail: String) -> Problem {
    Problem::new(Kind::NotFound, detail, "")
}

/// `GET /services`.
pub(super) async fn services(asked: Asked) -> Outcome {
    let report = asked.web.sight.fleet().await?;
    let chain = asked.web.desk.member.ledger.chain();
    let mut services: Vec<_> = chain.releases().map(|(_, release)| &release.service).collect();
    services.sort();
    services.dedup();
    let summary = |service: &Service| ServiceSummary {
        service: service.clone(),
        environments: { report.rollouts.iter() }
            .filter(|rollout| rollout.service == *service)
            .map(ScopeSummary::of)
            .collect(),
    };
    let services = services.into_iter().map(summary).collect();
    let page = paging::sorted("services", services, |one| one.service.to_string(), &asked.given)?;
    Ok(asked.page(&page))
}

/// `GET /services/{service}/releases`.
pub(super) async fn releases(asked: Asked) -> Outcome {
    let service = asked.given.need(&SERVICE);
    let request = ControlRequest::Releases { service: service.clone() };
    let ControlReply::Releases(releases) = asked.web.sight.answer(request).await? else {
        return Err(not_understood().into());
    };
    let published = |(version, release)| Published { version, release };
    let releases = releases.into_iter().map(published).collect();
    let list = format!("releases/{service}");
    let page = paging::listed(&list, releases, |one| one.version.to_string(), &asked.given)?;
    Ok(asked.page(&page))
}

/// `GET /releases/{service}/{version}`.
pub(super) async fn release(asked: Asked) -> Outcome {
    let (service, version) = (asked.given.need(&SERVICE), asked.given.need(&VERSION));
    let request = ControlRequest::Release { service, version };
    let ControlReply::Statement { envelope } = asked.web.sight.answer(request).await? else {
        return Err(not_understood().into());
    };
    // It stands in our own ledger, verified.
    let envelope = Envelope::parse(&envelope, usize::MAX).map_err(|_| not_understood())?;
    let Ok(Statement::Release(release)) = Statement::parse(&envelope) else {
        return Err(not_understood().into());
    };
    let signers = asked.web.desk.signers(&envelope);
    Ok(Answer::of(&ReleaseReport::of(&envelope, release, signers)))
}

/// `GET /rollouts`.
pub(super) async fn rollouts(asked: Asked) -> Outcome {
    let (service, env) = (asked.given.get(&OF_SERVICE), asked.given.get(&OF_ENV));
    asked.web.desk.known(service.as_ref(), env.as_ref())?;
    match (service, env) {
        (Some(service), Some(env)) => history(asked, Scope { service, env }).await,
        (service, env) => {
            let report = asked.web.sight.fleet().await?;
            let fits = |one: &&RolloutReport| {
                service.as_ref().is_none_or(|service| one.service == *service)
                    && env.as_ref().is_none_or(|env| one.env == *env)
            };
            // What waits for signatures stands behind what it would replace.
            let key = |one: &RolloutReport| match one.phase {
                RolloutPhase::Pending => format!("{}/{}/{:#}", one.service, one.env, one.id),
                _ => format!("{}/{}", one.service, one.env),
            };
            let fitting = report.rollouts.iter().chain(&report.pending).filter(fits);
            let mut rollouts: Vec<_> = fitting.cloned().map(without_hosts).collect();
            rollouts.sort_by_key(key);
            Ok(asked.page(&paging::sorted("rollouts", rollouts, key, &asked.given)?))
        }
    }
}

/// Lists would be long with every host of every rollout.
fn without_hosts(report: RolloutReport) -> RolloutReport {
    RolloutReport { hosts: Vec::new(), ..report }
}

/// The rollouts of a service in an environment, newest first.
async fn history(asked: Asked, scope: Scope) -> Outcome {
    let list = format!("history/{scope}");
    let chain = asked.web.desk.member.ledger.chain();
    let ids = chain.history(&scope).into_iter().map(|(id, _)| id).collect();
    let ids = paging::listed(&list, ids, |id: &Digest| format!("{id:#}"), &asked.given)?;
    let items = asked.web.sight.rollouts(ids.items).await?;
    Ok(asked.page(&paging::Page { items, next: ids.next }))
}

/// `GET /rollouts/{id}`.
pub(super) async fn rollout(asked: Asked) -> Outcome {
    let RolloutId(id) = asked.given.need(&ROLLOUT);
    Ok(Answer::of(&asked.web.sight.rollout(&id).await?))
}

/// `GET /events`.
pub(super) async fn events(asked: Asked) -> Outcome {
    let given = &asked.given;
    let query = EventsQuery {
        before: start("events", &asked, &BEFORE)?,
        limit: limit(given),
        service: given.get(&OF_SERVICE),
        env: given.get(&OF_ENV),
        rollout: given.get(&OF_ROLLOUT).map(|RolloutId(id)| RolloutQuery::Id(id)),
        host: given.get(&OF_HOST).map(|Phrase(host)| host),
        kind: given.get(&OF_KIND).map(|kind| kind.to_string()),
        since: given.get(&SINCE).map(|Seq(seconds)| UnixTime(seconds)),
    };
    let Found { events, next } = asked.web.desk.events_page(&query).await?;
    let events = events.into_iter().map(Numbered::report).collect();
    Ok(asked.page(&paging::found("events", events, next)))
}

/// `GET /audit`.
pub(super) async fn audit(asked: Asked) -> Outcome {
    let given = &asked.given;
    let phrase = |param| given.get(param).map(|Phrase(text)| text);
    let query = AuditQuery {
        newest_first: false,
        beyond: start("audit", &asked, &AFTER)?,
        limit: limit(given),
        actor: phrase(&BY_ACTOR),
        action: phrase(&OF_ACTION),
        subject: phrase(&ON_SUBJECT),
        since: given.get(&SINCE).map(|Seq(seconds)| UnixTime(seconds)),
    };
    let AuditPage { entries, next, .. } = asked.web.desk.audit(&query).await?;
    Ok(asked.page(&paging::found("audit", entries, next)))
}

/// Behind which number a page of numbered things begins; none: where the list does.
fn start(list: &str, asked: &Asked, param: &Param<Seq>) -> Result<Option<u64>, Problem> {
    let cursor = paging::after(list, &asked.given)?;
    let number = asked.given.get(param).map(|Seq(number)| number);
    match (cursor, number) {
        (Some(_), Some(_)) => Err(param.wrong("does not go together with cursor")),
        (None, number) => Ok(number),
        (Some(key), None) => {
            let number = key.parse().map_err(|_| paging::CURSOR.wrong("is of another list"));
            number.map(Some)
        }
    }
}

/// How many things a page holds.
fn limit(given: &Given) -> u32 {
    let Limit(limit) = given.get(&LIMIT).unwrap_or_default();
    u32::try_from(limit).unwrap_or(u32::MAX)
}
