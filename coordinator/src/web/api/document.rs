//! All calls as an OpenAPI description, made from the list they are served from.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use utoipa::PartialSchema as _;

use super::BASE;
use super::input::{Field, Place};
use super::operation::{OPERATIONS, Operation, Run};
use super::problem::{FieldError, MEDIA_TYPE, ProblemReport};

const ABOUT: &str = include_str!("about.md");

/// The description, as JSON.
pub(super) fn text() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| serde_json::to_string(&document()).expect("a description serializes"));
    &TEXT
}

fn document() -> Value {
    let mut named = BTreeMap::new();
    let schema = |schema| serde_json::to_value(schema).expect("a schema serializes");
    named.insert("Problem".to_owned(), schema(ProblemReport::schema()));
    named.insert("FieldError".to_owned(), schema(FieldError::schema()));
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let shape = (operation.shape)();
        named.extend(shape.named.into_iter().map(|(name, one)| (name, schema(one))));
        let method = match operation.run {
            Run::Look(_) => "get",
            Run::Act(_) => "post",
        };
        let told = json!({ method: told(operation, &shape.schema) });
        paths.insert(format!("{BASE}{}", operation.path), told);
    }
    named.values_mut().for_each(unlink);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Groundswell",
            "version": "1",
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "security": [{ "token": [] }, { "session": [] }],
        "components": {
            "schemas": named,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "`swell access token`" },
                "session": { "type": "apiKey", "in": "cookie", "name": "__Host-swell" },
            },
        },
    })
}

/// Takes out of all descriptions the links that lead into our source.
fn unlink(part: &mut Value) {
    match part {
        Value::Object(object) => {
            for (name, part) in object {
                match part {
                    Value::String(text) if name == "description" => *text = plain(text),
                    part => unlink(part),
                }
            }
        }
        Value::Array(parts) => parts.iter_mut().for_each(unlink),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn plain(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, (name, after))) =
        rest.split_once('[').and_then(|(before, link)| Some((before, link.split_once(']')?)))
    {
        let target = after.strip_prefix("(crate::").and_then(|target| target.split_once(')'));
        plain.push_str(before);
        match target {
            Some(_) => plain.push_str(name),
            None if name.starts_with('`') => plain.push_str(name),
            None => plain.extend(["[", name, "]"]),
        }
        rest = target.map_or(after, |(_, after)| after);
    }
    plain + rest
}

fn told(operation: &Operation, shape: &Value) -> Value {
    let acts = matches!(operation.run, Run::Act(_));
    let beside_body = operation.inputs.iter().filter(|field| field.place != Place::Body);
    let mut parameters: Vec<_> = beside_body.map(parameter).collect();
    parameters.extend(if acts { key_parameters() } else { mark_parameters() });
    let mut told = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses(operation, shape),
        "x-codeSamples": [{ "lang": "Shell", "label": "curl", "source": example(operation) }],
    });
    if !operation.more.is_empty() {
        told["description"] = json!(operation.more);
    }
    if operation.for_everybody {
        told["security"] = json!([]);
    }
    if acts {
        told["requestBody"] = body(operation);
    }
    told
}

fn parameter(field: &Field) -> Value {
    let place = if field.place == Place::Path { "path" } else { "query" };
    let mut told = json!({
        "name": field.name,
        "in": place,
        "required": field.required,
        "description": field.what,
        "schema": (field.schema)(),
    });
    if let Some(example) = field.example {
        told["example"] = value(field, example);
    }
    told
}

/// An example as the value that it is.
fn value(field: &Field, example: &str) -> Value {
    match (field.schema)()["type"] == "string" {
        true => json!(example),
        false => serde_json::from_str(example).expect("an example is as its schema says"),
    }
}

fn key_parameters() -> Vec<Value> {
    let pattern = r#"^("[!#-\[\]-~]{1,128}"|[!#-\[\]-~]{1,128})$"#;
    vec![
        json!({
            "name": "Idempotency-Key", "in": "header", "required": true,
            "description": "Made up for each thing to do, and the same when it is asked for again.",
            "schema": { "type": "string", "pattern": pattern },
            "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
        }),
        json!({
            "name": "X-Swell-Word", "in": "header",
            "description": "With a session instead of a token: the word that its pages have in forms.",
            "schema": { "type": "string" },
        }),
    ]
}

fn mark_parameters() -> Vec<Value> {
    vec![json!({
        "name": "If-None-Match", "in": "header",
        "description": "The `ETag` of an answer that is there already.",
        "schema": { "type": "string" },
    })]
}

fn body(operation: &Operation) -> Value {
    let fields = operation.inputs.iter().filter(|field| field.place == Place::Body);
    let (mut properties, mut example) = (Map::new(), Map::new());
    let mut required = Vec::new();
    for field in fields {
        let mut schema = (field.schema)();
        let more = schema["description"].as_str().map(|more| format!(" {more}"));
        schema["description"] = json!(format!("{}{}", field.what, more.unwrap_or_default()));
        properties.insert(field.name.to_owned(), schema);
        if field.required {
            required.push(field.name);
        }
        if let Some(one) = field.example {
            example.insert(field.name.to_owned(), value(field, one));
        }
    }
    let schema = json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    });
    let content = json!({ "schema": schema, "example": example });
    json!({ "required": true, "content": { "application/json": content } })
}

fn responses(operation: &Operation, shape: &Value) -> Value {
    let mut responses = Map::new();
    let headers = match operation.run {
        Run::Act(_) => json!({
            "Idempotency-Replayed": header("`true`: the answer to an earlier request with this key."),
        }),
        Run::Look(_) => json!({
            "ETag": header("A mark of what is in the answer."),
            "Link": header("`rel=\"next\"`: the next page of a list."),
        }),
    };
    let done = json!({
        "description": "It is so.",
        "headers": headers,
        "content": { "application/json": { "schema": shape } },
    });
    responses.insert("200".to_owned(), done);
    if matches!(operation.run, Run::Look(_)) {
        responses.insert("304".to_owned(), json!({ "description": "As it was." }));
    }
    let mut by_status = BTreeMap::<_, Vec<_>>::new();
    for kind in operation.problems() {
        by_status.entry(kind.status().as_str().to_owned()).or_default().push(kind.title());
    }
    for (status, titles) in by_status {
        let content = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
        let problem =
            json!({ "description": titles.join("; or: "), "content": { MEDIA_TYPE: content } });
        responses.insert(status, problem);
    }
    Value::Object(responses)
}

fn header(what: &str) -> Value {
    json!({ "description": what, "schema": { "type": "string" } })
}

/// The call, to be typed. Where it is and the token are variables of the shell.
fn example(operation: &Operation) -> String {
    let with = |place| {
        let fields = operation.inputs.iter().filter(move |field| field.place == place);
        fields.filter_map(|field| Some((field, field.example?)))
    };
    let path = with(Place::Path).fold(operation.path.to_owned(), |path, (field, example)| {
        path.replace(&format!("{{{}}}", field.name), example)
    });
    let query: Vec<_> =
        with(Place::Query).map(|(field, example)| format!("{}={example}", field.name)).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let mut words = vec!["curl".to_owned()];
    if !operation.for_everybody {
        words.push("-H \"Authorization: Bearer $TOKEN\"".to_owned());
    }
    if matches!(operation.run, Run::Act(_)) {
        let body: Map<_, _> = with(Place::Body)
            .map(|(field, example)| (field.name.to_owned(), value(field, example)))
            .collect();
        words.push("-H \"Idempotency-Key: $(uuidgen)\"".to_owned());
        words.push("-H 'Content-Type: application/json'".to_owned());
        words.push(format!("-d '{}'", Value::Object(body)));
    }
    words.push(format!("\"$URL{BASE}{path}{query}\""));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_into_our_source_are_told_as_text() {
        let cases = [
            ("a [selector](crate::selector) of it", "a selector of it"),
            ("see [`Stall`]: [more](https://a.example)", "see `Stall`: [more](https://a.example)"),
            ("`[run]`: how", "`[run]`: how"),
            ("half [a", "half [a"),
        ];
        for (written, told) in cases {
            assert_eq!(plain(written), told);
        }
    }
}
