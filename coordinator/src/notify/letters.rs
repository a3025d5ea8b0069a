//! What is sent for a delivery: requests, with their signatures, made anew for each attempt.

use std::collections::BTreeSet;

use member::clock;
use proto::UnixTime;

use super::config::{Channel, Receiver, Secret};
use super::pagerduty::{self, Call};
use super::post::{Post, Request};
use super::queue::Answer;
use super::target::Target;
use super::{Context, slack, webhook};
use crate::events::Numbered;

/// So many bytes of a secret in a row are a part of it, and no word that both happen to have.
const QUOTED_BYTES: usize = 9;

/// One request, before it is signed.
pub(super) struct Letter {
    to: Target,
    /// What the receiver knows it by when it comes again.
    id: String,
    body: Vec<u8>,
}

/// The requests that tell a receiver of events, in their order; `id`: the delivery's; `silent`: the numbers of
/// those that nobody is to be called for.
pub(super) fn of(
    context: &Context,
    receiver: &Receiver,
    secret: &Secret,
    id: &str,
    (events, silent): (&[Numbered], &BTreeSet<u64>),
) -> Vec<Letter> {
    match (&receiver.channel, secret) {
        (Channel::Slack { .. }, Secret::Url(url)) => {
            vec![letter(url.clone(), id, &slack::body(context, events))]
        }
        (Channel::Pagerduty { url, .. }, Secret::RoutingKey(key)) => {
            let kinds = &receiver.filter.kinds;
            let calls = events.iter().flat_map(|one| {
                pagerduty::calls(context, key, kinds, one, silent.contains(&one.seq))
            });
            calls.map(|call| called(url, id, &call)).collect()
        }
        (Channel::Webhook { url, .. }, Secret::Signing(_)) => {
            events.iter().map(|one| letter(url.clone(), id, &webhook::body(context, one))).collect()
        }
        // A secret is read for its channel.
        _ => Vec::new(),
    }
}

/// The requests that show that a receiver can be told: they say `text`.
pub(super) fn test(
    context: &Context,
    receiver: &Receiver,
    secret: &Secret,
    (id, at, text): (&str, UnixTime, &str),
) -> Vec<Letter> {
    match (&receiver.channel, secret) {
        (Channel::Slack { .. }, Secret::Url(url)) => {
            vec![letter(url.clone(), id, &slack::test_body(text))]
        }
        (Channel::Pagerduty { url, .. }, Secret::RoutingKey(key)) => {
            let calls = pagerduty::test_calls(context, key, at, text).into_iter();
            calls.map(|call| called(url, id, &call)).collect()
        }
        (Channel::Webhook { url, .. }, Secret::Signing(_)) => {
            vec![letter(url.clone(), id, &webhook::test_body(context, at, text))]
        }
        // A secret is read for its channel.
        _ => Vec::new(),
    }
}

fn called(url: &Target, id: &str, call: &Call) -> Letter {
    letter(url.at(call.path), id, &call.body)
}

fn letter(to: Target, id: &str, body: &serde_json::Value) -> Letter {
    Letter { to, id: id.to_owned(), body: body.to_string().into_bytes() }
}

impl Letter {
    /// Sends it. What is told of the answer has nothing of the secret, whatever the answer says.
    pub(super) async fn post(self, post: &Post, secret: &Secret) -> Answer {
        let now = clock::unix();
        let headers = match secret {
            Secret::Signing(key) => webhook::headers(key, &self.id, now, &self.body),
            Secret::Url(_) | Secret::RoutingKey(_) => Vec::new(),
        };
        let hidden = match secret {
            Secret::RoutingKey(key) => key.clone(),
            Secret::Url(url) => url.path.clone(),
            // The other side does not get it.
            Secret::Signing(_) => String::new(),
        };
        let patient = matches!(secret, Secret::Signing(_));
        let request = Request { to: self.to, headers, body: self.body, patient };
        match post.send(request, now).await {
            Answer::Taken => Answer::Taken,
            Answer::Refused { why } => Answer::Refused { why: without(&why, &hidden) },
            Answer::Failed { why, after_s } => {
                Answer::Failed { why: without(&why, &hidden), after_s }
            }
        }
    }
}

/// A text without a secret or a part of it: an answer may quote what it was asked, and cut it.
fn without(text: &str, secret: &str) -> String {
    let quoted = |part: &[u8]| std::str::from_utf8(part).is_ok_and(|part| text.contains(part));
    match secret.as_bytes().windows(QUOTED_BYTES).any(quoted) {
        true => {
            let status = text.split(": ").next().unwrap_or_default();
            format!("{status}; what it says beside that quotes a secret")
        }
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_shows_a_secret() {
        let path = "/services/T0/B0/s3cret0123456789";
        let cases = [
            ("it answers 404: no_service", "it answers 404: no_service"),
            ("it answers 404: no /services/T0/B0/s3cret0123456789", "it answers 404; what it says"),
            // Cut at either end.
            ("it answers 404: no /services/T0/B0/s3cre…", "it answers 404; what it says"),
            ("it answers 404: …t0123456789: gone", "it answers 404; what it says"),
        ];
        for (text, expected) in cases {
            let told = without(text, path);
            assert!(told.starts_with(expected) && !told.contains("t012345"), "{told}");
        }
        assert_eq!(
            without("it answers 404: /hook is not here", ""),
            "it answers 404: /hook is not here"
        );
    }
}
