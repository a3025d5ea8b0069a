//! What other programs get: one event as JSON, signed as Standard Webhooks says.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::UnixTime;
use ring::hmac;
use serde_json::{Value, json};

use super::Context;
use super::text::{bounded, iso};
use crate::events::{Kind, Numbered};

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret, by the specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The secret in its text form; none for anything else.
pub(super) fn key(text: &str) -> Option<hmac::Key> {
    let bytes = STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?;
    SECRET_BYTES.contains(&bytes.len()).then(|| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// The headers that let a receiver know whose it is, when it was sent, and whether it came before.
/// `now`: when it is sent, this time.
pub(super) fn headers(
    key: &hmac::Key,
    id: &str,
    now: UnixTime,
    body: &[u8],
) -> Vec<(&'static str, String)> {
    let mut signed = format!("{id}.{}.", now.0).into_bytes();
    signed.extend_from_slice(body);
    let signature = STANDARD.encode(hmac::sign(key, &signed));
    vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", now.0.to_string()),
        ("webhook-signature", format!("v1,{signature}")),
    ]
}

/// An event. `data` always has the same keys; what an event is not about is null.
pub(super) fn body(context: &Context, numbered: &Numbered) -> Value {
    let Numbered { seq, event } = numbered;
    json!({
        "type": type_of(event.kind),
        "timestamp": iso(event.at),
        "data": {
            "fleet": context.fleet.to_string(),
            "event": seq,
            "kind": event.kind.name(),
            "severity": event.kind.severity().name(),
            "service": event.service.as_ref().map(ToString::to_string),
            "env": event.env.as_ref().map(ToString::to_string),
            "rollout": event.rollout.map(|rollout| format!("{rollout:#}")),
            "host": event.host.as_ref().map(ToString::to_string),
            "text": event.text,
            "detail": bounded(&event.detail),
            "url": context.page(event),
        },
    })
}

/// What says `text` alone.
pub(super) fn test_body(context: &Context, at: UnixTime, text: &str) -> Value {
    json!({
        "type": "notification.test",
        "timestamp": iso(at),
        "data": { "fleet": context.fleet.to_string(), "text": text },
    })
}

/// The specification's form of a kind's name: `rollout-rolled-back` is `rollout.rolled_back`.
fn type_of(kind: Kind) -> String {
    kind.name().replacen('-', ".", 1).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{context, event, numbered};
    use super::*;

    /// From the tests of the specification's own library for Rust (Apache-2.0).
    #[test]
    fn signed_as_the_specifications_own_library_signs() {
        let key = key("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap();
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let id = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
        assert_eq!(
            headers(&key, id, UnixTime(1_649_367_553), body),
            [
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", "1649367553".to_owned()),
                ("webhook-signature", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=".to_owned()),
            ]
        );
    }

    #[test]
    fn a_secret_is_of_the_specifications_form() {
        for (bytes, good) in [(23, false), (24, true), (64, true), (65, false)] {
            let text = format!("{PREFIX}{}", STANDARD.encode(vec![7; bytes]));
            assert_eq!(key(&text).is_some(), good, "{bytes} bytes");
        }
        for bad in ["", "whsec_", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_!!!!"] {
            assert!(key(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn an_event_as_it_is_sent() {
        let event = event(Kind::RolloutRolledBack, "web 2 to production: 3 hosts are back");
        let rollout = event.rollout.unwrap();
        let sent = body(&context(Some("https://deploy.example.com")), &numbered(7, event));
        let expected = json!({
            "type": "rollout.rolled_back",
            "timestamp": "2023-11-14T22:13:20Z",
            "data": {
                "fleet": "shop-0123abcd",
                "event": 7,
                "kind": "rollout-rolled-back",
                "severity": "info",
                "service": "web",
                "env": "production",
                "rollout": format!("{rollout:#}"),
                "host": null,
                "text": "web 2 to production: 3 hosts are back",
                "detail": { "hosts": 3 },
                "url": format!("https://deploy.example.com/rollouts/{rollout:#}"),
            },
        });
        assert_eq!(sent, expected);
    }

    /// "Full-stop delimited", of `[a-zA-Z0-9_]`.
    #[test]
    fn every_type_is_of_the_specifications_form() {
        for kind in Kind::ALL {
            let name = type_of(*kind);
            let parts: Vec<_> = name.split('.').collect();
            let plain = |part: &&str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            assert!(parts.len() == 2 && parts.iter().all(plain), "{name}");
        }
    }
}
