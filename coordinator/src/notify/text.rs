//! Texts and values within the limits of those who get them.

use proto::UnixTime;
use proto::id::FleetId;
use serde_json::{Value, json};

use crate::events::Event;

/// Longest detail of an event that is passed on, in bytes of JSON.
pub(super) const DETAIL_BYTES_MAX: usize = 16 << 10;

/// One line of at most `max` UTF-16 units, which is no more characters; what is cut ends in `…`.
pub(super) fn clip(text: &str, max: usize) -> String {
    clip_by(text, max, |c| c.to_string())
}

/// The same, each character as `shown` writes it; the limit is for what comes out.
pub(super) fn clip_by(text: &str, max: usize, shown: impl Fn(char) -> String) -> String {
    let units = |text: &str| text.encode_utf16().count();
    let pieces = text.chars().map(|c| shown(if c.is_control() { ' ' } else { c }));
    let (mut kept, mut length, mut fits) = (String::new(), 0, 0);
    for piece in pieces {
        length += units(&piece);
        if length > max {
            kept.truncate(fits);
            kept.push('…');
            return kept;
        }
        kept.push_str(&piece);
        if length < max {
            fits = kept.len();
        }
    }
    kept
}

/// What somebody who reads nothing else has to know: of what, where, how far it is, what happened. On a
/// phone there is one line.
pub(crate) fn first_line(fleet: &FleetId, event: &Event) -> String {
    let text = &event.text;
    if event.service.is_none() && event.env.is_none() {
        return format!("{fleet}: {text}");
    }
    match (progress(event), text.split_once(": ")) {
        (Some(so_far), Some((of, says))) => format!("{of}, {so_far}: {says}"),
        (Some(so_far), None) => format!("{text}, {so_far}"),
        (None, _) => text.clone(),
    }
}

/// Of a rollout: how many of its hosts failed, or else have it for good.
fn progress(event: &Event) -> Option<String> {
    let number = |value: &Value| value.as_u64();
    let (of, counts) = (number(&event.detail["hosts"])?, &event.detail["counts"]);
    let (failed, done) = (number(&counts["failed"])?, number(&counts["committed"])?);
    Some(match failed {
        0 => format!("{done} of {of} hosts done"),
        failed => format!("{failed} of {of} hosts failed"),
    })
}

/// ISO 8601: `2027-03-01T09:30:00Z`.
pub(super) fn iso(time: UnixTime) -> String {
    format!("{}Z", time.to_string().replace(' ', "T"))
}

/// An event's detail, or how long it is.
pub(super) fn bounded(detail: &Value) -> Value {
    match detail.to_string().len() {
        0..=DETAIL_BYTES_MAX => detail.clone(),
        bytes => json!({ "left_out_bytes": bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipped_table() {
        let cases = [
            ("", 4, ""),
            ("four", 4, "four"),
            ("fives", 4, "fiv…"),
            ("a\nb\tc", 9, "a b c"),
            // Two units.
            ("ab😀", 4, "ab😀"),
            ("abc😀", 4, "abc…"),
            ("ab😀c", 4, "ab…"),
        ];
        for (text, max, expected) in cases {
            let clipped = clip(text, max);
            assert_eq!(clipped, expected, "{text:?}");
            assert!(clipped.encode_utf16().count() <= max, "{text:?}");
        }
    }

    #[test]
    fn times_are_those_of_iso_8601_and_details_are_bounded() {
        assert_eq!(iso(UnixTime(1_700_000_000)), "2023-11-14T22:13:20Z");
        let small = json!({ "wave": 2 });
        assert_eq!(bounded(&small), small);
        let big = json!({ "hosts": "x".repeat(DETAIL_BYTES_MAX) });
        assert_eq!(bounded(&big), json!({ "left_out_bytes": DETAIL_BYTES_MAX + 12 }));
    }
}
