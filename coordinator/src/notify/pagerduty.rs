//! What PagerDuty gets, by its Events API v2: an alert for what wants a person, its end when that is
//! over, and a change event for everything else.
//!
//! <https://developer.pagerduty.com/docs/events-api-v2-overview>; schemas:
//! <https://github.com/PagerDuty/api-schema/tree/main/reference/events-v2>.

use proto::UnixTime;
use serde_json::{Value, json};

use super::Context;
use super::incident::Incident;
use super::text::{bounded, clip, first_line, iso};
use crate::events::{Event, Kind, Numbered};

const SUMMARY_MAX: usize = 1_024;
const ALERTS: &str = "/v2/enqueue";
const CHANGES: &str = "/v2/change/enqueue";

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) path: &'static str,
    pub(super) body: Value,
}

/// Whether there is anything to send of an event, to who wants these kinds.
pub(super) fn wants(context: &Context, kinds: &[Kind], event: &Event) -> bool {
    kinds.contains(&event.kind) || ends(context, kinds, event)
}

/// Whether an event ends what one of `kinds` can have opened.
pub(super) fn ends(context: &Context, kinds: &[Kind], event: &Event) -> bool {
    ended(context, kinds, event).next().is_some()
}

/// Whether `later` ends the very incident that `event` opens.
pub(super) fn is_ended_by(context: &Context, event: &Event, later: &Event) -> bool {
    let Some(incident) = Incident::opened_by(event.kind) else { return false };
    let keys = incident.keys(&context.fleet, event);
    ended(context, &[event.kind], later).any(|key| keys.contains(&key))
}

/// What an event makes, ends first: whatever comes of the rest, they are sent. An end is sent for whatever
/// `kinds` can open, asked for or not. `silent`: nobody is called for it, since what it opens has ended since.
pub(super) fn calls(
    context: &Context,
    key: &str,
    kinds: &[Kind],
    event: &Numbered,
    silent: bool,
) -> Vec<Call> {
    let ended = ended(context, kinds, &event.event);
    let mut calls: Vec<_> = ended.map(|dedup| resolve(key, &dedup)).collect();
    if kinds.contains(&event.event.kind) {
        calls.push(match Incident::opened_by(event.event.kind).filter(|_| !silent) {
            Some(incident) => trigger(context, key, incident, event),
            None => change(context, key, event),
        });
    }
    calls
}

/// An alert that says `text` alone, and its end.
pub(super) fn test_calls(context: &Context, key: &str, at: UnixTime, text: &str) -> Vec<Call> {
    let dedup = format!("groundswell/{}/test", context.fleet);
    let body = json!({
        "routing_key": key,
        "event_action": "trigger",
        "dedup_key": dedup,
        "payload": {
            "summary": clip(text, SUMMARY_MAX),
            "source": context.fleet.to_string(),
            "severity": "info",
            "timestamp": iso(at),
        },
        "client": "Groundswell",
    });
    vec![Call { path: ALERTS, body }, resolve(key, &dedup)]
}

/// The keys of the incidents that an event ends.
fn ended(context: &Context, kinds: &[Kind], event: &Event) -> impl Iterator<Item = String> {
    Incident::closed_by(event.kind, kinds).flat_map(|one| one.keys(&context.fleet, event))
}

fn trigger(context: &Context, key: &str, incident: &Incident, event: &Numbered) -> Call {
    let dedup = incident.keys(&context.fleet, &event.event).pop();
    // Of what it is about nothing is said: an alert of its own, which a person ends.
    let dedup =
        dedup.unwrap_or_else(|| format!("groundswell/{}/event/{}", context.fleet, event.seq));
    Call { path: ALERTS, body: alert(context, key, &dedup, event) }
}

fn alert(context: &Context, key: &str, dedup: &str, numbered: &Numbered) -> Value {
    let event = &numbered.event;
    let mut payload = payload(context, numbered);
    payload["severity"] = json!(event.kind.severity().name());
    payload["class"] = json!(event.kind.name());
    if let Some(service) = &event.service {
        payload["component"] = json!(service.to_string());
    }
    if let Some(env) = &event.env {
        payload["group"] = json!(env.to_string());
    }
    let mut body = json!({
        "routing_key": key,
        "event_action": "trigger",
        "dedup_key": dedup,
        "payload": payload,
        "client": "Groundswell",
        "links": links(context, event),
    });
    if let Some(url) = context.page(event) {
        body["client_url"] = json!(url);
    }
    body
}

fn resolve(key: &str, dedup: &str) -> Call {
    let body = json!({ "routing_key": key, "event_action": "resolve", "dedup_key": dedup });
    Call { path: ALERTS, body }
}

fn change(context: &Context, key: &str, event: &Numbered) -> Call {
    let body = json!({
        "routing_key": key,
        "payload": payload(context, event),
        "links": links(context, &event.event),
    });
    Call { path: CHANGES, body }
}

/// What alerts and changes have both.
fn payload(context: &Context, Numbered { seq, event }: &Numbered) -> Value {
    let source = match (&event.host, event.scope()) {
        (Some(host), _) => host.to_string(),
        (None, Some(scope)) => scope.to_string(),
        (None, None) => context.fleet.to_string(),
    };
    json!({
        "summary": clip(&first_line(&context.fleet, event), SUMMARY_MAX),
        "source": source,
        "timestamp": iso(event.at),
        "custom_details": {
            "fleet": context.fleet.to_string(),
            "event": seq,
            "kind": event.kind.name(),
            "rollout": event.rollout.map(|rollout| format!("{rollout:#}")),
            "host": event.host.as_ref().map(ToString::to_string),
            "detail": bounded(&event.detail),
        },
    })
}

fn links(context: &Context, event: &Event) -> Vec<Value> {
    let url = context.page(event).into_iter();
    url.map(|url| json!({ "href": url, "text": "The rollout" })).collect()
}

#[cfg(test)]
mod tests {
    use super::super::config::Sort;
    use super::super::tests::{context, event, numbered};
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// By the OpenAPI description named above, and by the limits of the pages beside it: a dedup key of
    /// 255 characters, a summary of 1,024, 512 KB in all.
    fn check(call: &Call) {
        let body = &call.body;
        let text = |value: &Value, max: usize| {
            let length = value.as_str().unwrap_or_else(|| panic!("{body}")).chars().count();
            assert!((1..=max).contains(&length), "{body}");
        };
        let known = |value: &Value, keys: &[&str]| {
            for key in value.as_object().unwrap().keys() {
                assert!(keys.contains(&key.as_str()), "{key}: {body}");
            }
        };
        assert!(body.to_string().len() <= 512_000);
        text(&body["routing_key"], 32);
        let payload = match call.path {
            "/v2/enqueue" => {
                let keys = "routing_key event_action dedup_key payload client client_url links";
                known(body, &keys.split(' ').collect::<Vec<_>>());
                text(&body["dedup_key"], 255);
                match body["event_action"].as_str().unwrap() {
                    "trigger" => &body["payload"],
                    "resolve" => return,
                    other => panic!("{other}"),
                }
            }
            "/v2/change/enqueue" => {
                known(body, &["routing_key", "payload", "links"]);
                &body["payload"]
            }
            other => panic!("{other}"),
        };
        let mut keys = vec!["summary", "source", "timestamp", "custom_details"];
        if call.path == "/v2/enqueue" {
            keys.extend(["severity", "component", "group", "class"]);
            let severities = ["critical", "error", "warning", "info"];
            assert!(severities.contains(&payload["severity"].as_str().unwrap()));
        }
        known(payload, &keys);
        text(&payload["summary"], 1_024);
        text(&payload["source"], 1_024);
        text(&payload["timestamp"], 20);
        assert!(payload.get("custom_details").is_none_or(Value::is_object));
        for link in body.get("links").and_then(Value::as_array).into_iter().flatten() {
            known(link, &["href", "text"]);
            text(&link["href"], 2_000);
        }
    }

    fn made(kind: Kind, kinds: &[Kind]) -> Vec<Call> {
        let context = context(Some("https://deploy.example.com"));
        let event = numbered(7, event(kind, "web 2 to production: so it is"));
        let calls = calls(&context, KEY, kinds, &event, false);
        calls.iter().for_each(check);
        assert_eq!(wants(&context, kinds, &event.event), !calls.is_empty(), "{kind}");
        calls
    }

    fn told(calls: &[Call]) -> Vec<String> {
        let told = |call: &Call| {
            let action = call.body["event_action"].as_str().unwrap_or("change");
            let key = call.body["dedup_key"].as_str().unwrap_or_default();
            format!("{action} {}", key.rsplit('/').next().unwrap())
        };
        calls.iter().map(told).collect()
    }

    #[test]
    fn every_event_is_of_the_published_form() {
        for kind in Kind::ALL {
            made(*kind, Kind::ALL);
        }
        let context = context(None);
        let mut worst = event(Kind::RolloutHalted, &"😀".repeat(3_000));
        worst.detail = json!({ "hosts": vec!["x".repeat(1_000); 1_000] });
        let calls = calls(&context, KEY, Kind::ALL, &numbered(1, worst), false);
        assert!(!calls.is_empty());
        calls.iter().for_each(check);
    }

    #[test]
    fn what_wants_a_person_opens_an_alert_and_its_opposite_ends_it() {
        use Kind::*;
        let default = Sort::Pagerduty.kinds();
        let cases: [(Kind, &[&str]); 14] = [
            (RolloutHeld, &["trigger held"]),
            (RolloutMoves, &["resolve held", "resolve expired"]),
            (RolloutHalted, &["resolve held", "trigger halted"]),
            (RolloutRolledBack, &["resolve held", "resolve halted", "resolve failed", "change "]),
            (
                RolloutComplete,
                &[
                    "resolve held",
                    "resolve halted",
                    "resolve failed",
                    "resolve expired",
                    "resolve drifted",
                    "change ",
                ],
            ),
            (RolloutAborted, &["resolve approval", "resolve held", "change "]),
            (RolloutPaused, &["resolve held"]),
            (HostsMended, &["resolve stuck"]),
            (HostStuck, &["trigger stuck"]),
            (RootExpiring, &["trigger root"]),
            (ApprovalWanted, &["trigger approval"]),
            (RolloutStarted, &["resolve approval", "resolve expired"]),
            (WaveOpened, &[]),
            // The event of these tests names no host: nothing to end.
            (HostBack, &[]),
        ];
        for (kind, expected) in cases {
            assert_eq!(told(&made(kind, &default)), expected, "{kind}");
        }
        // Of what one did not want to know, one does not learn the end.
        assert_eq!(told(&made(RolloutMoves, &[RolloutHalted])), [""; 0]);
        assert_eq!(told(&made(RolloutComplete, &[RolloutHalted])), ["resolve halted"]);
        assert_eq!(told(&made(WaveOpened, &[WaveOpened])), ["change "]);
    }

    #[test]
    fn what_has_ended_since_is_told_as_a_change() {
        let context = context(None);
        let event = numbered(7, event(Kind::HostFailed, "failed on n2"));
        let again = calls(&context, KEY, Kind::ALL, &event, true);
        again.iter().for_each(check);
        assert_eq!(told(&again), ["change "]);
        assert_eq!(again[0].body["payload"]["summary"], "failed on n2");
    }

    #[test]
    fn an_alert_as_it_is_sent() {
        let calls = made(Kind::RolloutHalted, &[Kind::RolloutHalted]);
        let rollout = event(Kind::RolloutHalted, "").rollout.unwrap();
        let url = format!("https://deploy.example.com/rollouts/{rollout:#}");
        let key = "groundswell/shop-0123abcd/scope/web/production/halted";
        let expected = json!({
            "routing_key": KEY,
            "event_action": "trigger",
            "dedup_key": key,
            "payload": {
                "summary": "web 2 to production: so it is",
                "source": "web/production",
                "severity": "critical",
                "timestamp": "2023-11-14T22:13:20Z",
                "component": "web",
                "group": "production",
                "class": "rollout-halted",
                "custom_details": {
                    "fleet": "shop-0123abcd",
                    "event": 7,
                    "kind": "rollout-halted",
                    "rollout": format!("{rollout:#}"),
                    "host": null,
                    "detail": { "hosts": 3 },
                },
            },
            "client": "Groundswell",
            "client_url": url,
            "links": [{ "href": url, "text": "The rollout" }],
        });
        assert_eq!(calls, [Call { path: "/v2/enqueue", body: expected }]);
    }

    #[test]
    fn an_alert_that_names_nothing_has_a_key_of_its_own_and_a_test_ends_itself() {
        let mut lost = event(Kind::HostLost, "a host is lost");
        (lost.rollout, lost.service) = (None, None);
        let calls = calls(&context(None), KEY, Kind::ALL, &numbered(9, lost), false);
        assert_eq!(calls[0].body["dedup_key"], "groundswell/shop-0123abcd/event/9");
        let test = test_calls(&context(None), KEY, UnixTime(1), "it works");
        test.iter().for_each(check);
        assert_eq!(told(&test), ["trigger test", "resolve test"]);
        assert_eq!(test[0].body["payload"]["severity"], "info");
    }
}
