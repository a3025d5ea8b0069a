//! What an event says, for people and for scripts.

use proto::receipt::{Cause, State};
use proto::report::{DriftReport, FreezeReport, RolloutReport, StandingReport};
use proto::statement::{Action, Direction, UnixTime};
use proto::{Env, HostId, Name, Scope, Service, Version, listed};
use rollout::fleet::Presence;
use serde_json::{Value, json};

use super::{HOSTS_EACH_MAX, Relief, Sight, Word};
use crate::events::{Event, Kind};
use crate::store::{Counts, RolloutRow};
use crate::web::Certificate;

/// `web 1.4.0 to production`, and what it is besides a deployment.
fn title(
    service: &Service,
    to: &Version,
    scope: &Scope,
    direction: Direction,
    adopt: bool,
) -> String {
    let besides = match direction {
        Direction::Rollback => " (rollback)",
        Direction::Forward if adopt => " (adoption)",
        Direction::Forward => "",
    };
    format!("{service} {to} to {}{besides}", scope.env)
}

fn title_of(report: &RolloutReport) -> String {
    title(&report.service, &report.to, &scope_of(report), report.direction, report.adopt)
}

fn scope_of(report: &RolloutReport) -> Scope {
    Scope { service: report.service.clone(), env: report.env.clone() }
}

/// What others wrote, fit for one line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// About a rollout as a whole.
pub(super) fn rollout(kind: Kind, report: &RolloutReport, now: UnixTime) -> Event {
    let why = plain(&report.why);
    let says = match kind {
        Kind::ApprovalWanted => format!("waits for signatures: {why}"),
        Kind::RolloutStarted => started(report),
        Kind::RolloutHeld => after("held", &why),
        Kind::RolloutWaits => after("waits", why.strip_prefix("held: ").unwrap_or(&why)),
        Kind::RolloutMoves => format!("moves again: {why}"),
        Kind::RolloutRolledBack => {
            let nobody = || "nobody who is waited for has it any more".to_owned();
            rollout::report::back_words(report).unwrap_or_else(nobody)
        }
        Kind::RolloutExpired => after("expired", why.strip_prefix("held: ").unwrap_or(&why)),
        Kind::RolloutPaused => after("paused", &why),
        Kind::RolloutHalted => after("halted", &why),
        Kind::RolloutAborted => after("aborted", &why),
        Kind::RolloutComplete => after("complete", &why),
        Kind::RolloutSuperseded => after("superseded", &why),
        other => after(other.name(), &why),
    };
    let more = match kind {
        Kind::ApprovalWanted => json!({ "missing": report.why }),
        _ => json!({}),
    };
    event(kind, report, now, &says, more)
}

/// Somebody directed it; none: that tells itself in where the rollout stands.
pub(super) fn said(report: &RolloutReport, word: &Word, now: UnixTime) -> Option<Event> {
    let by = by(&word.by, &word.reason);
    let (kind, says) = match word.action {
        Action::Resume => (Kind::RolloutResumed, format!("resumed {by}")),
        Action::Promote => {
            let (wave, of) = (word.wave.map_or(0, |wave| wave + 1), report.waves.len());
            (Kind::RolloutPromoted, format!("promoted to wave {wave} of {of} {by}"))
        }
        Action::Skip | Action::Pause | Action::Abort => return None,
    };
    let more = json!({
        "by": word.by,
        "said": word.reason,
        "statement": word.statement,
        "wave": word.wave.map(|wave| wave + 1),
    });
    Some(event(kind, report, now, &says, more))
}

/// `by ada: why`.
fn by(who: &Name, reason: &str) -> String {
    match reason.is_empty() {
        true => format!("by {who}"),
        false => format!("by {who}: {}", plain(reason)),
    }
}

pub(super) fn approved(report: &RolloutReport, by: &Name, now: UnixTime) -> Event {
    let says = format!("approved by {by}");
    event(Kind::RolloutApproved, report, now, &says, json!({ "by": by }))
}

/// `halted: ` and why; a reason that starts with the very word is not told twice.
fn after(word: &str, why: &str) -> String {
    match why.starts_with(word) {
        true => why.to_owned(),
        false => format!("{word}: {why}"),
    }
}

fn started(report: &RolloutReport) -> String {
    let from = match &report.from {
        Some(from) => format!(" from {from}"),
        None => String::new(),
    };
    let reason = match report.reason.is_empty() {
        true => String::new(),
        false => format!(": {}", plain(&report.reason)),
    };
    format!(
        "started{from}, {} in {}, signed by {}{reason}",
        count(report.hosts.len(), "host"),
        count(report.waves.len(), "wave"),
        report.author,
    )
}

/// `1 host`, `2 hosts`.
fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A wave is open; 0 is the first.
pub(super) fn wave(report: &RolloutReport, wave: u32, now: UnixTime) -> Event {
    let hosts = report.waves.get(wave as usize).map_or(0, |wave| wave.hosts);
    let (number, of) = (wave + 1, report.waves.len());
    let says = format!("wave {number} of {of} is open: {}", count(hosts as usize, "host"));
    event(Kind::WaveOpened, report, now, &says, json!({ "wave": number, "wave_hosts": hosts }))
}

/// It failed on a host, or that host could not go back.
pub(super) fn host(
    kind: Kind,
    report: &RolloutReport,
    host: &StandingReport,
    now: UnixTime,
) -> Event {
    let note = match host.note.is_empty() {
        true => String::new(),
        false => format!(": {}", plain(&host.note)),
    };
    let says = match kind {
        Kind::HostStuck => {
            format!("{} could not go back, a person is needed there{note}", host.name)
        }
        _ => format!("failed on {}{note}", host.name),
    };
    let detail = json!({
        "host_name": host.name,
        "host_wave": host.wave + 1,
        "cause": host.cause,
        "note": host.note,
        "went_back": host.state == Some(State::Reverted),
    });
    Event { host: Some(host.host.clone()), ..event(kind, report, now, &says, detail) }
}

/// The same of so many that each would be one of a flood.
pub(super) fn many_of_rollout(
    kind: Kind,
    report: &RolloutReport,
    hosts: &[&StandingReport],
    now: UnixTime,
) -> Event {
    let names = listed(hosts.iter().map(|host| &host.name), HOSTS_EACH_MAX);
    let number = hosts.len();
    let says = match kind {
        Kind::HostStuck => {
            format!("{number} hosts could not go back, a person is needed there: {names}")
        }
        _ => format!("failed on {number} hosts: {names}"),
    };
    let of_release = hosts.iter().filter(|host| host.cause == Some(Cause::Release)).count();
    let detail = json!({
        "number": number,
        "cause_release": of_release,
        "host_names": hosts.iter().take(HOSTS_EACH_MAX).map(|host| &host.name).collect::<Vec<_>>(),
    });
    event(kind, report, now, &says, detail)
}

/// A rollout is not known any more, most likely because it never had its signatures.
pub(super) fn lapsed(kind: Kind, row: &RolloutRow, now: UnixTime) -> Event {
    let RolloutRow { scope, to, direction, adopt, .. } = row;
    let title = title(&scope.service, &to.version, scope, *direction, *adopt);
    let says = match kind {
        Kind::RolloutSuperseded if row.started.is_some() => "a newer rollout took over",
        Kind::RolloutSuperseded => "a newer rollout took over while it waited for signatures",
        _ if row.started.is_some() => "it is not known here any more",
        _ => "it was dropped: it never had all signatures",
    };
    Event {
        at: now,
        kind,
        service: Some(scope.service.clone()),
        env: Some(scope.env.clone()),
        rollout: Some(row.id),
        host: None,
        text: format!("{title}: {says}"),
        detail: json!({
            "from": row.from.as_ref().map(|from| &from.version),
            "to": row.to.version,
            "direction": row.direction,
            "adopt": row.adopt,
            "epoch": row.epoch,
            "author": row.author,
            "reason": row.reason,
            "hosts": row.hosts,
            "why": says,
        }),
    }
}

fn event(kind: Kind, report: &RolloutReport, now: UnixTime, says: &str, more: Value) -> Event {
    let detail = json!({
        "from": report.from,
        "to": report.to,
        "direction": report.direction,
        "adopt": report.adopt,
        "epoch": report.epoch,
        "author": report.author,
        "reason": report.reason,
        "why": report.why,
        "held_until": report.held_until,
        "ended": report.ended,
        "hosts": report.hosts.len(),
        "waves": report.waves.len(),
        "waves_open": report.waves.iter().filter(|wave| wave.open).count(),
        "counts": Counts::of(&report.waves),
    });
    let detail = with(detail, more);
    Event {
        at: now,
        kind,
        service: Some(report.service.clone()),
        env: Some(report.env.clone()),
        rollout: Some(report.id),
        host: None,
        text: format!("{}: {says}", title_of(report)),
        detail,
    }
}

fn with(mut detail: Value, more: Value) -> Value {
    if let (Value::Object(all), Value::Object(more)) = (&mut detail, more) {
        all.extend(more);
    }
    detail
}

// --- the fleet ---

fn of_fleet(kind: Kind, now: UnixTime, text: String, detail: Value) -> Event {
    let (service, env, rollout, host) = (None, None, None, None);
    Event { at: now, kind, service, env, rollout, host, text, detail }
}

/// A host was lost, is back, or was removed; `more`: what begins or ends with it.
pub(super) fn present(kind: Kind, host: &Presence, now: UnixTime, more: Value) -> Event {
    let place = place_of(host.env.as_ref());
    let says = match kind {
        Kind::HostBack => "is heard again",
        Kind::HostRemoved => "was removed from the fleet",
        _ => "is not heard any more",
    };
    let text = format!("host {}{place} {says}", host.name);
    let detail = with(json!({ "host_name": host.name, "env": host.env }), more);
    Event {
        env: host.env.clone(),
        host: Some(host.id.clone()),
        ..of_fleet(kind, now, text, detail)
    }
}

/// Who brought an event about, and why.
pub(super) fn by_whom(event: &mut Event, who: &Name, reason: &str) {
    event.text = format!("{} {}", event.text, by(who, reason));
    event.detail = with(event.detail.take(), json!({ "by": who, "said": reason }));
}

/// The same of very many, all of one environment.
pub(super) fn many_present(kind: Kind, hosts: &[&Presence], now: UnixTime, more: Value) -> Event {
    let says = match kind {
        Kind::HostBack => "are heard again",
        Kind::HostRemoved => "were removed from the fleet",
        _ => "are not heard any more",
    };
    let names = listed(hosts.iter().map(|host| &host.name), HOSTS_EACH_MAX);
    let env = hosts.first().and_then(|host| host.env.clone());
    let place = place_of(env.as_ref());
    let detail = json!({ "number": hosts.len(), "env": env, "host_names": first_names(hosts) });
    let text = format!("{} hosts{place} {says}: {names}", hosts.len());
    Event { env, ..of_fleet(kind, now, text, with(detail, more)) }
}

/// ` in production`; nothing where it is in no environment.
fn place_of(env: Option<&Env>) -> String {
    env.map(|env| format!(" in {env}")).unwrap_or_default()
}

fn first_names<'a>(hosts: &[&'a Presence]) -> Vec<&'a Name> {
    hosts.iter().take(HOSTS_EACH_MAX).map(|host| &host.name).collect()
}

/// An environment is frozen, or a host held, or that is lifted; `name`: the host's, as far as it is known.
pub(super) fn freeze(freeze: &FreezeReport, name: Option<&Name>, now: UnixTime) -> Event {
    let FreezeReport { statement, env, host, until, reason, .. } = freeze;
    let (by, lifted) = (by(&freeze.by, reason), freeze.until <= freeze.created);
    let called = name.map(Name::as_str).or(host.as_ref().map(HostId::as_str)).unwrap_or_default();
    let (kind, text) = match (host, lifted) {
        (None, false) => {
            (Kind::EnvironmentFrozen, format!("{env} is frozen until {until} UTC {by}"))
        }
        (None, true) => (Kind::EnvironmentUnfrozen, format!("{env} is not frozen any more, {by}")),
        (Some(_), false) => {
            (Kind::HostHeld, format!("host {called} in {env} is held until {until} UTC {by}"))
        }
        (Some(_), true) => {
            (Kind::HostReleased, format!("host {called} in {env} is not held any more, {by}"))
        }
    };
    let detail = json!({
        "by": freeze.by,
        "said": reason,
        "statement": statement,
        "until": (!lifted).then_some(until),
        "host_name": name,
    });
    let about = of_fleet(kind, now, text, detail);
    Event { env: Some(env.clone()), host: host.clone(), ..about }
}

/// Of the hosts of a service in an environment that were stuck none is so any more; `last`: the last of them,
/// and why; none: it was removed.
pub(super) fn mended(
    scope: &Scope,
    (last, name): (&HostId, &Name),
    why: Option<Relief>,
    now: UnixTime,
) -> Event {
    let Scope { service, env } = scope;
    let says = match why {
        Some(Relief::Well) => format!("no host is stuck there any more, {name} was the last"),
        Some(Relief::Skipped) => {
            format!("nobody waits for a stuck host there any more: {name}, the last, was skipped")
        }
        None => format!("no host is stuck there any more: {name}, the last, was removed"),
    };
    let detail =
        json!({ "last": last, "host_name": name, "skipped": why == Some(Relief::Skipped) });
    let event = of_fleet(Kind::HostsMended, now, format!("{service} in {env}: {says}"), detail);
    Event { service: Some(service.clone()), env: Some(env.clone()), ..event }
}

pub(super) fn drifted(
    host: &Presence,
    service: &Service,
    drift: &DriftReport,
    now: UnixTime,
) -> Event {
    let more = match drift.found {
        1 => String::new(),
        found => format!(", first of {found}"),
    };
    let first = plain(&drift.first);
    let place = place_of(host.env.as_ref());
    let text = format!("{service}{place} on {} is not what was released: {first}{more}", host.name);
    let detail = json!({
        "host_name": host.name,
        "env": host.env,
        "service": service,
        "release": drift.release,
        "found": drift.found,
        "first": drift.first,
    });
    Event {
        service: Some(service.clone()),
        env: host.env.clone(),
        host: Some(host.id.clone()),
        ..of_fleet(Kind::HostDrifted, now, text, detail)
    }
}

/// The same of very many, of one service.
pub(super) fn many_drifted(
    service: &Service,
    env: Option<&Env>,
    hosts: &[&Presence],
    now: UnixTime,
) -> Event {
    let names = listed(hosts.iter().map(|host| &host.name), HOSTS_EACH_MAX);
    let on = count(hosts.len(), "host");
    let place = place_of(env);
    let text = format!("{service}{place} on {on} is not what was released: {names}");
    let detail = json!({
        "env": env,
        "service": service,
        "number": hosts.len(),
        "host_names": first_names(hosts),
    });
    Event {
        service: Some(service.clone()),
        env: env.cloned(),
        ..of_fleet(Kind::HostDrifted, now, text, detail)
    }
}

/// The root ends, or has ended.
pub(super) fn root(sight: &Sight, now: UnixTime) -> Event {
    let (version, expires) = (sight.root_version, sight.root_expires);
    let left_s = expires.0.saturating_sub(now.0);
    let then = if left_s == 0 { "" } else { " from then on" };
    let text = format!(
        "root {version} {}: nothing new starts{then}; the root's keys must sign the next one",
        expiring(expires, left_s)
    );
    let detail = json!({ "root_version": version, "expires": expires, "left_s": left_s });
    of_fleet(Kind::RootExpiring, now, text, detail)
}

/// The certificate of the pages ends, or has ended.
pub(super) fn certificate(certificate: &Certificate, now: UnixTime) -> Event {
    let Certificate { fingerprint, expires, .. } = certificate;
    let left_s = expires.0.saturating_sub(now.0);
    let text = format!(
        "the certificate of the pages {}: browsers refuse them from then on; put the next one where \
         https_cert and https_key say",
        expiring(*expires, left_s)
    );
    let detail = json!({ "fingerprint": fingerprint, "expires": expires, "left_s": left_s });
    of_fleet(Kind::CertificateExpiring, now, text, detail)
}

fn expiring(expires: UnixTime, left_s: u64) -> String {
    match (left_s, left_s.div_ceil(86_400)) {
        (0, _) => format!("has expired, at {expires} UTC"),
        (_, 1) => format!("expires within a day, at {expires} UTC"),
        (_, days) => format!("expires in {days} days, at {expires} UTC"),
    }
}
