//! What Slack gets: one message in Block Kit for what waited together, by an incoming webhook.
//!
//! Limits: <https://docs.slack.dev/reference/block-kit/blocks>. Escaping:
//! <https://docs.slack.dev/messaging/formatting-message-text>.

use std::cmp::Reverse;

use serde_json::{Value, json};

use super::Context;
use super::text::{clip_by, first_line};
use crate::events::{Event, Numbered, Severity};

/// Events that a message shows, a line each, the worst and then the newest first; of others it tells the
/// number.
pub(super) const LINES_MAX: usize = 10;
/// Longest line: all of them fit into a section's 3,000.
const LINE_MAX: usize = 280;
const HEADER_MAX: usize = 150;
const FIELD_MAX: usize = 2_000;
const FALLBACK_MAX: usize = 1_000;

/// The message for events of one rollout, or of none, in their order; there is one at least.
pub(super) fn body(context: &Context, events: &[Numbered]) -> Value {
    let last = &events[events.len() - 1].event;
    let mut shown: Vec<_> = events.iter().collect();
    shown.sort_by_key(|one| Reverse((one.event.kind.severity(), one.seq)));
    // The worst: all that a phone shows before somebody opens it.
    let first = first_line(&context.fleet, &shown[0].event);
    let lines = shown.into_iter().take(LINES_MAX).map(|one| line(&one.event));
    let more = events.len().saturating_sub(LINES_MAX);
    let more = (more > 0).then(|| format!("and {more} more"));
    let text: Vec<_> = lines.chain(more).collect();
    let mut blocks = vec![
        json!({
            "type": "header",
            "text": { "type": "plain_text", "text": escaped(&first, HEADER_MAX) },
        }),
        json!({
            "type": "section",
            "text": { "type": "mrkdwn", "text": text.join("\n") },
            "fields": fields(context, last),
        }),
    ];
    if let Some(url) = context.page(last) {
        let label = json!({ "type": "plain_text", "text": "Open the rollout" });
        let button = json!({ "type": "button", "text": label, "url": url });
        blocks.push(json!({ "type": "actions", "elements": [button] }));
    }
    json!({ "text": escaped(&first, FALLBACK_MAX), "blocks": blocks })
}

/// A message that says `text` alone.
pub(super) fn test_body(text: &str) -> Value {
    let section = json!({ "type": "mrkdwn", "text": escaped(text, LINE_MAX) });
    json!({
        "text": escaped(text, FALLBACK_MAX),
        "blocks": [{ "type": "section", "text": section }],
    })
}

fn line(event: &Event) -> String {
    let sign = match event.kind.severity() {
        Severity::Info => "•",
        Severity::Warning => ":warning:",
        Severity::Critical => ":rotating_light:",
    };
    format!("{sign} {}", escaped(&event.text, LINE_MAX))
}

fn fields(context: &Context, event: &Event) -> Vec<Value> {
    let at = event.at;
    // Shown in the reader's own time.
    let when = format!("<!date^{}^{{date_short_pretty}} {{time_secs}}|{at} UTC>", at.0);
    let escaped = |text: String| escaped(&text, FIELD_MAX / 2);
    let fields = [
        ("Fleet", Some(escaped(context.fleet.to_string()))),
        ("Service", event.service.as_ref().map(|service| escaped(service.to_string()))),
        ("Environment", event.env.as_ref().map(|env| escaped(env.to_string()))),
        ("Rollout", event.rollout.map(|rollout| format!("`{rollout}`"))),
        ("Host", event.host.as_ref().map(|host| escaped(host.to_string()))),
        ("When", Some(when)),
    ];
    let shown = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    shown
        .map(|(name, value)| json!({ "type": "mrkdwn", "text": format!("*{name}*\n{value}") }))
        .collect()
}

/// The three characters by which a text could name channels, people and links.
fn escaped(text: &str, max: usize) -> String {
    clip_by(text, max, |c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{context, event, numbered};
    use super::*;
    use crate::events::Kind;

    /// By the pages named above, and their sub-pages for each block, as of 2026.
    fn check(message: &Value) {
        let length = |value: &Value| value.as_str().unwrap().encode_utf16().count();
        let text = |value: &Value, types: &[&str], max: usize| {
            assert!(types.contains(&value["type"].as_str().unwrap()), "{value}");
            assert!((1..=max).contains(&length(&value["text"])), "{value}");
        };
        assert!((1..=4_000).contains(&length(&message["text"])));
        let blocks = message["blocks"].as_array().unwrap();
        assert!((1..=50).contains(&blocks.len()));
        for block in blocks {
            match block["type"].as_str().unwrap() {
                "header" => text(&block["text"], &["plain_text"], 150),
                "section" => {
                    text(&block["text"], &["mrkdwn", "plain_text"], 3_000);
                    if let Some(fields) = block.get("fields") {
                        let fields = fields.as_array().unwrap();
                        assert!((1..=10).contains(&fields.len()));
                        fields.iter().for_each(|field| text(field, &["mrkdwn"], 2_000));
                    }
                }
                "actions" => {
                    let elements = block["elements"].as_array().unwrap();
                    assert!((1..=25).contains(&elements.len()));
                    for element in elements {
                        assert_eq!(element["type"], "button");
                        text(&element["text"], &["plain_text"], 75);
                        assert!(length(&element["url"]) <= 3_000);
                    }
                }
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn a_halt_as_it_is_shown() {
        let halted = numbered(7, event(Kind::RolloutHalted, "web 2 to production: 2 of 3 failed"));
        let message = body(&context(Some("https://deploy.example.com")), &[halted]);
        check(&message);
        assert_eq!(message["text"], "web 2 to production: 2 of 3 failed");
        let blocks = &message["blocks"];
        assert_eq!(blocks[0]["text"]["text"], "web 2 to production: 2 of 3 failed");
        assert_eq!(
            blocks[1]["text"]["text"],
            ":rotating_light: web 2 to production: 2 of 3 failed"
        );
        let rollout = event(Kind::RolloutHalted, "").rollout.unwrap();
        let shown: Vec<_> = blocks[1]["fields"].as_array().unwrap().iter().collect();
        let shown: Vec<_> = shown.iter().map(|field| field["text"].as_str().unwrap()).collect();
        assert_eq!(
            shown,
            [
                "*Fleet*\nshop-0123abcd",
                "*Service*\nweb",
                "*Environment*\nproduction",
                &format!("*Rollout*\n`{rollout}`"),
                "*When*\n<!date^1700000000^{date_short_pretty} {time_secs}|2023-11-14 22:13:20 UTC>",
            ]
        );
        let url = format!("https://deploy.example.com/rollouts/{rollout:#}");
        assert_eq!(blocks[2]["elements"][0]["url"], url);
        let nowhere = body(&context(None), &[numbered(7, event(Kind::RolloutHalted, "x"))]);
        assert_eq!(nowhere["blocks"].as_array().unwrap().len(), 2, "no page, no button");
    }

    #[test]
    fn a_test_is_a_message() {
        let message = test_body("<it> works");
        check(&message);
        assert_eq!(message["text"], "&lt;it&gt; works");
    }

    #[test]
    fn what_waited_together_is_one_message_of_ten_lines() {
        for (count, told) in [(10, None), (11, Some("and 1 more")), (100, Some("and 90 more"))] {
            let text = |number| format!("web 2 to production: wave {number} is open");
            let events: Vec<_> = (1..=count)
                .map(|number| numbered(number, event(Kind::WaveOpened, &text(number))))
                .collect();
            let message = body(&context(None), &events);
            check(&message);
            let shown = message["blocks"][1]["text"]["text"].as_str().unwrap();
            let lines: Vec<_> = shown.lines().collect();
            assert_eq!(lines[0], format!("• {}", text(count)), "the newest first");
            assert_eq!(lines[9], format!("• {}", text(count - 9)));
            assert_eq!(lines.get(10).copied(), told);
            assert_eq!(message["text"], text(count), "the newest");
        }
    }

    #[test]
    fn what_is_worst_is_shown_whatever_came_after_it() {
        let kind = |number| match number {
            3 => Kind::RolloutHalted,
            2 => Kind::HostFailed,
            _ => Kind::WaveOpened,
        };
        let events: Vec<_> = (1..=60)
            .map(|number| numbered(number, event(kind(number), &format!("event {number}"))))
            .collect();
        let message = body(&context(None), &events);
        let shown = message["blocks"][1]["text"]["text"].as_str().unwrap();
        assert_eq!(
            (&message["text"], &message["blocks"][0]["text"]["text"]),
            (&json!("event 3"), &json!("event 3"))
        );
        let lines: Vec<_> = shown.lines().take(3).collect();
        assert_eq!(lines, [":rotating_light: event 3", ":warning: event 2", "• event 60"]);
    }

    #[test]
    fn no_text_names_a_channel_or_breaks_a_limit() {
        let hostile = event(Kind::HostFailed, "<!channel> & <http://x|y>\nsecond");
        let message = body(&context(None), &[numbered(1, hostile)]);
        check(&message);
        let all = message.to_string();
        assert!(all.contains("&lt;!channel&gt; &amp; &lt;http://x|y&gt; second"), "{all}");
        assert!(!all.contains("<!channel"), "{all}");
        let long = event(Kind::HostFailed, &"&".repeat(5_000));
        let long: Vec<_> = (1..=12).map(|number| numbered(number, long.clone())).collect();
        check(&body(&context(None), &long));
    }
}
