//! Long lists, page by page.
//!
//! A cursor names the last thing of a page, so that what comes and goes meanwhile neither repeats nor
//! hides anything. What it holds is nobody's business: callers give it back as it is.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Value, json};

use super::input::{Given, Input, LIMIT_MAX, Limit, Param, text};
use super::problem::Problem;

/// Longest cursor, in characters.
const CURSOR_CHARS_MAX: usize = 200;

pub(super) const LIMIT: Param<Limit> =
    Param::query("limit", "How many things a page holds.").with("50");
pub(super) const CURSOR: Param<Cursor> =
    Param::query("cursor", "`next` of the page before this one; none: the first page.");

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// The `cursor` of the page after this one; none: this is the last.
    pub(super) next: Option<String>,
}

/// A page of things with this schema, as JSON Schema.
pub(super) fn schema(of: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": { "type": "array", "items": of, "maxItems": LIMIT_MAX },
            "next": {
                "type": ["string", "null"],
                "description": "The `cursor` of the page after this one; null: this is the last.",
            },
        },
    })
}

/// Where a page ends: the list, and the key of its last thing there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    list: String,
    key: String,
}

impl Input for Cursor {
    fn read(value: &Value) -> Result<Self, String> {
        let read = || {
            let text = text(value).ok().filter(|text| text.len() <= CURSOR_CHARS_MAX)?;
            let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
            let (list, key) = decoded.split_once(' ')?;
            Some(Self { list: list.to_owned(), key: key.to_owned() })
        };
        read().ok_or_else(|| "must be `next` of a page, as it was".to_owned())
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": CURSOR_CHARS_MAX })
    }
}

impl Cursor {
    fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{} {}", self.list, self.key))
    }
}

/// The key after which a page of `list` begins; none: with the first thing.
///
/// # Errors
///
/// [`Problem`]: the cursor is of another list.
pub(super) fn after(list: &str, given: &Given) -> Result<Option<String>, Problem> {
    match given.get(&CURSOR) {
        Some(cursor) if cursor.list != list => Err(CURSOR.wrong("is of another list")),
        cursor => Ok(cursor.map(|cursor| cursor.key)),
    }
}

/// The page that is asked for, of things in the order of their keys.
///
/// # Errors
///
/// As [`after`].
pub(super) fn sorted<T>(
    list: &str,
    things: Vec<T>,
    key: impl Fn(&T) -> String,
    given: &Given,
) -> Result<Page<T>, Problem> {
    let after = after(list, given)?;
    let begins = after.map_or(0, |after| things.partition_point(|thing| key(thing) <= after));
    Ok(cut(list, things.into_iter().skip(begins), key, given))
}

/// The page that is asked for, of things in an order of their own.
///
/// # Errors
///
/// As [`after`]; and what the cursor names has gone.
pub(super) fn listed<T>(
    list: &str,
    things: Vec<T>,
    key: impl Fn(&T) -> String,
    given: &Given,
) -> Result<Page<T>, Problem> {
    let place = |after: &String| things.iter().position(|thing| key(thing) == *after);
    let begins = match after(list, given)? {
        Some(after) => place(&after).map(|place| place + 1),
        None => Some(0),
    };
    let begins = begins.ok_or_else(|| CURSOR.wrong("names what has gone: begin again"))?;
    Ok(cut(list, things.into_iter().skip(begins), key, given))
}

/// As many things as were asked for, of those that come.
pub(super) fn cut<T>(
    list: &str,
    mut things: impl Iterator<Item = T>,
    key: impl Fn(&T) -> String,
    given: &Given,
) -> Page<T> {
    let Limit(limit) = given.get(&LIMIT).unwrap_or_default();
    let items: Vec<_> = things.by_ref().take(limit).collect();
    let last = items.last().filter(|_| things.next().is_some());
    let cursor = last.map(|last| Cursor { list: list.to_owned(), key: key(last) });
    Page { next: cursor.map(|cursor| cursor.to_text()), items }
}

/// A page of numbered things as it was found; `next`: the number behind which the next one begins.
pub(super) fn found<T>(list: &str, items: Vec<T>, next: Option<u64>) -> Page<T> {
    let cursor = |number: u64| Cursor { list: list.to_owned(), key: number.to_string() };
    Page { items, next: next.map(|number| cursor(number).to_text()) }
}

/// The address of the page after this one.
pub(super) fn link(path: &str, query: &str, next: &str) -> String {
    let kept = query.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && !STARTS.contains(&name)
    });
    let pairs: Vec<_> = kept.map(ToOwned::to_owned).chain([format!("cursor={next}")]).collect();
    format!("<{path}?{}>; rel=\"next\"", pairs.join("&"))
}

/// What says where a list begins: a cursor takes the place of all of them.
const STARTS: [&str; 3] = ["cursor", "before", "after"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::web::api::input::{self, Place};

    fn given(pairs: &[(&str, &str)]) -> Result<Given, Problem> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let fields = [LIMIT.field(), CURSOR.field()];
        assert!(fields.iter().all(|field| field.place == Place::Query));
        input::read(&fields, Vec::new(), pairs.collect(), BTreeMap::new())
    }

    fn numbers(page: &Page<u32>) -> (&[u32], Option<&str>) {
        (&page.items, page.next.as_deref())
    }

    #[test]
    fn pages_hold_everything_once_whatever_goes_meanwhile() {
        let key = |number: &u32| format!("{number:02}");
        let first = sorted("n", (1..=5).collect(), key, &given(&[("limit", "2")]).unwrap());
        let first = first.unwrap();
        assert_eq!(first.items, [1, 2]);
        let next = given(&[("limit", "2"), ("cursor", first.next.as_deref().unwrap())]).unwrap();
        // The one that the cursor names has gone.
        let second = sorted("n", vec![1, 3, 4, 5], key, &next).unwrap();
        assert_eq!(second.items, [3, 4]);
        let gone = listed("n", vec![1, 3, 4, 5], key, &next).unwrap_err();
        assert!(String::from_utf8(gone.body()).unwrap().contains("begin again"));
        let third = listed("n", vec![5, 4, 3, 2, 1], key, &next).unwrap();
        assert_eq!(numbers(&third), (&[1][..], None));
        assert!(sorted("m", vec![1], key, &next).is_err(), "another list");
        let all = sorted("n", (1..=5).collect(), key, &given(&[("limit", "5")]).unwrap()).unwrap();
        assert_eq!(numbers(&all), (&[1, 2, 3, 4, 5][..], None));
    }

    #[test]
    fn a_cursor_that_was_made_up_is_none() {
        for bad in ["", "x", "bm9zcGFjZQ", &"A".repeat(201), "bg=="] {
            assert!(given(&[("cursor", bad)]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_next_page_is_asked_for_like_this_one() {
        let link = link("/api/v1/events", "env=a&before=7&limit=2&cursor=x", "NEXT");
        assert_eq!(link, "</api/v1/events?env=a&limit=2&cursor=NEXT>; rel=\"next\"");
    }
}
