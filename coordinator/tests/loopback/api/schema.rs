//! Whether a value is as a description says: as much of JSON Schema as the description uses.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What of `value` is not as `schema` says, by its place. Properties that the schema does not name are
/// wrong, too: what is not described is no contract.
pub(crate) fn faults(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let fits = |one: &&Value| faults(document, one, value, at).is_empty();
        return match choices.iter().find(fits) {
            Some(_) => Vec::new(),
            None => vec![format!("{at}: {value} is none of {choices:?}")],
        };
    }
    let mut found = Vec::new();
    let mut no = |why: String| found.push(format!("{at}: {why}: {value}"));
    if !types(schema).is_empty() && !types(schema).contains(&kind(value)) {
        no(format!("must be {:?}", types(schema)));
    }
    if let Some(words) = schema["enum"].as_array()
        && !words.contains(value)
    {
        no(format!("must be one of {words:?}"));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !regex_lite::Regex::new(pattern).unwrap().is_match(text)
    {
        no(format!("must be like {pattern}"));
    }
    if schema["minimum"].as_f64() > value.as_f64() && value.is_number() {
        no("is too small".to_owned());
    }
    for (place, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(faults(document, &schema["items"], item, &format!("{at}[{place}]")));
    }
    if let Some(object) = value.as_object() {
        let (mut known, mut required) = (BTreeMap::new(), Vec::new());
        gather(document, schema, &mut known, &mut required);
        let missing = required.iter().filter(|name| !object.contains_key(**name));
        found.extend(missing.map(|name| format!("{at}.{name}: is missing")));
        for (name, value) in object.iter().filter(|_| !known.is_empty()) {
            match known.get(name.as_str()) {
                Some(schema) => {
                    found.extend(faults(document, schema, value, &format!("{at}.{name}")));
                }
                None => found.push(format!("{at}.{name}: is not described")),
            }
        }
    }
    found
}

/// What `schema` refers to, or itself.
pub(crate) fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            let found = document.pointer(reference.strip_prefix('#').unwrap());
            resolved(document, found.unwrap_or_else(|| panic!("{reference} leads nowhere")))
        }
        None => schema,
    }
}

fn gather<'d>(
    document: &'d Value,
    schema: &'d Value,
    known: &mut BTreeMap<&'d str, &'d Value>,
    required: &mut Vec<&'d str>,
) {
    let schema = resolved(document, schema);
    let properties = schema["properties"].as_object().into_iter().flatten();
    known.extend(properties.map(|(name, schema)| (name.as_str(), schema)));
    required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
    for part in schema["allOf"].as_array().into_iter().flatten() {
        gather(document, part, known, required);
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[test]
fn what_is_not_as_described_is_found() {
    let document = json!({ "part": {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": { "type": "string", "pattern": "^[a-z]+$" },
            "of": { "oneOf": [{ "type": "null" }, { "enum": ["x"] }] },
        },
    } });
    let schema = json!({ "type": "array", "items": { "$ref": "#/part" } });
    let found = |value: Value| faults(&document, &schema, &value, "").len();
    assert_eq!(found(json!([{ "id": "a", "of": "x" }, { "id": "b", "of": null }])), 0);
    for bad in [
        json!({}),
        json!([{}]),
        json!([{ "id": "A" }]),
        json!([{ "id": "a", "of": "y" }]),
        json!([{ "id": "a", "more": 1 }]),
    ] {
        assert_eq!(found(bad.clone()), 1, "{bad}");
    }
}
