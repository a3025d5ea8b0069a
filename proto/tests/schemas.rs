//! Ids and names describe themselves as they are parsed.

#![cfg(feature = "openapi")]

use std::fmt::Debug;
use std::str::FromStr;

use proto::{Digest, Env, FleetId, HostId, KeyId, Name, Service, Version, Zone};
use regex_lite::Regex;
use utoipa::PartialSchema;

fn check<T: FromStr + PartialSchema + Debug>() {
    let schema = serde_json::to_value(T::schema()).expect("a schema serializes");
    let pattern = Regex::new(schema["pattern"].as_str().expect("a pattern")).expect("it compiles");
    let example = schema["examples"][0].as_str().expect("an example");
    let long = |length: usize| "a".repeat(length);
    let mut texts: Vec<_> = (0..=65).map(long).collect();
    let odd = ["-", "a-", "-a", "a-b", "A", "A.b_c", ".a", "1+2", "0", "8", "a b", "\u{e9}", "a\n"];
    texts.extend(odd.map(ToOwned::to_owned));
    texts.extend([example.to_owned(), format!("{example}\n"), example.to_uppercase()]);
    texts.extend(["0123456789abcdef".repeat(4), "abcdefghij23".into(), "abcdefghij18".into()]);
    assert!(example.parse::<T>().is_ok(), "{example}");
    for text in texts {
        assert_eq!(pattern.is_match(&text), text.parse::<T>().is_ok(), "{text:?}: {schema}");
    }
}

#[test]
fn patterns_take_what_parses_and_nothing_else() {
    check::<Digest>();
    check::<Env>();
    check::<FleetId>();
    check::<HostId>();
    check::<KeyId>();
    check::<Name>();
    check::<Service>();
    check::<Version>();
    check::<Zone>();
}
