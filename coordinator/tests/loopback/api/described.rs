//! The description of the interface: whether it is one, and whether everything is as it says.

use std::collections::BTreeSet;

use serde_json::Value;

use super::ground::Ground;
use super::schema::{faults, resolved};
use crate::https::Got;

/// What the examples call the newest rollout, and a host.
const ROLLOUT: &str = "5f2c9a10";
const HOST: &str = "k3vxq2m5n7ad";
/// Calls that act, in an order in which each has something to do.
const ACTS: [&str; 4] = ["pauseRollout", "abortRollout", "rollBack", "freezeEnvironment"];

async fn description(ground: &Ground) -> Value {
    let got = ground.visitor.send("GET", "/api/v1/openapi.json", &[], b"").await;
    assert_eq!(got.status, 200, "{got:?}");
    got.json()
}

/// `(path, method, call)` of all calls.
fn calls(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let calls = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, call)| (path.as_str(), method.as_str(), call))
    });
    calls.collect()
}

fn text<'v>(call: &'v Value, name: &str) -> &'v str {
    call[name].as_str().unwrap_or_else(|| panic!("{name} is missing: {call}"))
}

/// What a line for the shell does: method, path, headers, body.
#[derive(Debug, Default)]
struct Line {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Line {
    /// Reads a line with `curl`; words of it may stand in quotes.
    fn read(line: &str, token: &str) -> Self {
        let line = line.replace("$TOKEN", token).replace("$(uuidgen)", &unique());
        let mut words = words(&line).into_iter();
        assert_eq!(words.next().as_deref(), Some("curl"));
        let mut read = Self { method: "GET".to_owned(), ..Self::default() };
        while let Some(word) = words.next() {
            match word.as_str() {
                "-H" => {
                    let header = words.next().unwrap();
                    let (name, value) = header.split_once(": ").unwrap();
                    read.headers.push((name.to_owned(), value.to_owned()));
                }
                "-d" => {
                    // As curl does it.
                    read.method = "POST".to_owned();
                    read.body = words.next().unwrap();
                }
                url => read.path = url.strip_prefix("$URL").unwrap().to_owned(),
            }
        }
        read
    }

    async fn run(&self, ground: &Ground) -> Got {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        ground.visitor.send(&self.method, &self.path, &headers, self.body.as_bytes()).await
    }
}

fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in line.chars() {
        match (letter, quote) {
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (' ', None) => words.push(std::mem::take(&mut word)),
            (letter, _) => word.push(letter),
        }
    }
    words.push(word);
    words.into_iter().filter(|word| !word.is_empty()).collect()
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("key-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_answers_as_the_description_says() {
    let ground = Ground::new().await;
    ground.keep_events(3).await;
    let document = description(&ground).await;
    let mut calls = calls(&document);
    let acts = calls.iter().filter(|(_, method, _)| *method == "post");
    let acts: BTreeSet<_> = acts.map(|(.., call)| text(call, "operationId")).collect();
    assert_eq!(acts, BTreeSet::from(ACTS), "give a new one its place in the order");
    calls.sort_by_key(|(.., call)| ACTS.iter().position(|id| *id == text(call, "operationId")));
    for (path, method, call) in calls {
        let source = text(&call["x-codeSamples"][0], "source");
        let rollout = format!("{:#}", ground.rollout);
        let line = source.replace(ROLLOUT, &rollout[..8]).replace(HOST, ground.host.as_str());
        let line = Line::read(&line, &ground.operator);
        assert_eq!(line.method.to_lowercase(), method, "{source}");
        let got = line.run(&ground).await;
        assert_eq!(got.status, 200, "{source}: {}", got.text());
        let schema = &call["responses"]["200"]["content"]["application/json"]["schema"];
        let found = faults(&document, schema, &got.json(), text(call, "operationId"));
        assert!(found.is_empty(), "{path}: {found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_one_and_leaves_nothing_out() {
    let ground = Ground::new().await;
    let document = description(&ground).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (path, method, call) in calls(&document) {
        assert!(ids.insert(text(call, "operationId")), "{path}: this id is another call's");
        assert!(!text(call, "summary").is_empty());
        for word in path.split('/').filter_map(|word| word.strip_prefix('{')) {
            let told = call["parameters"].as_array().unwrap().iter();
            let name = word.trim_end_matches('}');
            let told = told.filter(|one| one["name"] == name && one["in"] == "path").count();
            assert_eq!(told, 1, "{path}: {name}");
        }
        // It is there, and this is what is done to it.
        let named = path.replace("{id}", "ffff").replace(['{', '}'], "");
        let other = if method == "get" { "POST" } else { "GET" };
        let got = ground.visitor.send(other, &named, &[], b"").await;
        assert_eq!(got.status, 405, "{path}");
        assert!(got.header("allow").contains(&method.to_uppercase()), "{path}: {got:?}");
        let anonymous = ground.visitor.send(&method.to_uppercase(), &named, &[], b"").await;
        let expected = if text(call, "operationId") == "getDescription" { 200 } else { 401 };
        assert_eq!(anonymous.status, expected, "{path}");
        let statuses = call["responses"].as_object().unwrap();
        assert!(statuses.contains_key("405") && statuses.contains_key("429"), "{path}");
    }
    references(&document, &document);
}

/// Follows every reference; one that leads nowhere panics.
fn references(document: &Value, part: &Value) {
    resolved(document, part);
    match part {
        Value::Object(object) => object.values().for_each(|part| references(document, part)),
        Value::Array(array) => array.iter().for_each(|part| references(document, part)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    let description = part["description"].as_str().unwrap_or_default();
    assert!(!description.contains("](crate::"), "it leads into our source: {description}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_examples_of_the_description() {
    let ground = Ground::new().await;
    let document = description(&ground).await;
    let calls = calls(&document);
    let known: Vec<_> =
        calls.iter().map(|(.., call)| text(&call["x-codeSamples"][0], "source")).collect();
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(readme).unwrap().replace("\\\n  ", "");
    let shown: Vec<_> = readme.lines().filter(|line| line.contains("$URL/api/v1")).collect();
    assert_eq!(shown.len(), 3, "{shown:#?}");
    for line in shown {
        assert!(known.contains(&line), "{line} is none of {known:#?}");
    }
}
