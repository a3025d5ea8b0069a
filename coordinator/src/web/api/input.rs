//! What a call may be given: parts of its path, parameters of its query, fields of its body.
//!
//! Each is told once, as a [`Param`]: by that it is read, and described to whoever asks for the
//! description. What is wrong is named all at once, and so is what nobody asked for.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use proto::id::{Digest, Env, HostId, Service, Version};
use proto::statement::{COORDINATOR_FREEZE_S_MAX, COUNTER_MAX};
use serde_json::{Value, json};
use utoipa::PartialSchema;

use super::super::REASON_BYTES_MAX;
use super::problem::{FieldError, Kind, Problem};
use crate::events;

/// Things on one page, and without a word.
pub(super) const LIMIT_MAX: u64 = 200;
const LIMIT: u64 = 50;
/// Shortest freeze, in seconds.
const FREEZE_S_MIN: u64 = 60;
/// Longest name of something unknown that is told again, in characters.
const NAME_CHARS_MAX: usize = 60;

/// Where in a request something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Body,
}

/// What something given may be.
pub(super) trait Input: Sized {
    /// Reads it; of a path or a query it is text.
    ///
    /// # Errors
    ///
    /// What it must be.
    fn read(value: &Value) -> Result<Self, String>;

    /// As JSON Schema.
    fn schema() -> Value;
}

/// Something that a call may be given.
#[derive(Debug)]
pub(super) struct Param<T> {
    name: &'static str,
    place: Place,
    required: bool,
    what: &'static str,
    example: Option<&'static str>,
    of: PhantomData<fn() -> T>,
}

/// The same, whatever it is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) required: bool,
    pub(super) what: &'static str,
    /// In the example of the call; none: it is left out there.
    pub(super) example: Option<&'static str>,
    pub(super) schema: fn() -> Value,
    check: fn(&Value) -> Result<(), String>,
}

impl<T: Input> Param<T> {
    pub(super) const fn path(
        name: &'static str,
        what: &'static str,
        example: &'static str,
    ) -> Self {
        Self::new(name, Place::Path, what).with(example)
    }

    const fn new(name: &'static str, place: Place, what: &'static str) -> Self {
        let required = matches!(place, Place::Path);
        Self { name, place, required, what, example: None, of: PhantomData }
    }

    pub(super) const fn query(name: &'static str, what: &'static str) -> Self {
        Self::new(name, Place::Query, what)
    }

    pub(super) const fn body(name: &'static str, what: &'static str) -> Self {
        Self::new(name, Place::Body, what)
    }

    /// It has to be given.
    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) const fn with(mut self, example: &'static str) -> Self {
        self.example = Some(example);
        self
    }

    pub(super) const fn field(&self) -> Field {
        let Self { name, place, required, what, example, of: _ } = *self;
        Field { name, place, required, what, example, schema: T::schema, check: check::<T> }
    }

    /// The error that this is wrong.
    pub(super) fn wrong(&self, detail: impl Into<String>) -> Problem {
        Problem::fields(vec![FieldError { field: self.name.to_owned(), detail: detail.into() }])
    }
}

fn check<T: Input>(value: &Value) -> Result<(), String> {
    T::read(value).map(drop)
}

/// What a call was given, all of it as it must be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Given(BTreeMap<&'static str, Value>);

impl Given {
    /// None: it was not given.
    pub(super) fn get<T: Input>(&self, param: &Param<T>) -> Option<T> {
        self.0.get(param.name).and_then(|value| T::read(value).ok())
    }

    /// What has to be given.
    pub(super) fn need<T: Input>(&self, param: &Param<T>) -> T {
        debug_assert!(param.required);
        self.get(param).expect("a call begins once it has what it needs")
    }
}

/// Reads what came for a call that knows `fields`.
///
/// # Errors
///
/// [`Problem`]: there is no such path, or all that is missing, wrong, unknown or given twice.
pub(super) fn read(
    fields: &[Field],
    path: Vec<(String, String)>,
    query: Vec<(String, String)>,
    body: BTreeMap<String, Value>,
) -> Result<Given, Problem> {
    let text = |(name, value)| (name, Value::String(value));
    let mut given = BTreeMap::new();
    let mut errors = Vec::new();
    for (name, value) in path.into_iter().map(text) {
        take(fields, Place::Path, (name, value), &mut given, &mut errors);
    }
    if let Some(FieldError { field, detail }) = errors.pop() {
        return Err(Problem::new(Kind::NotFound, format!("no such {field}: {detail}"), ""));
    }
    for one in query.into_iter().map(text) {
        take(fields, Place::Query, one, &mut given, &mut errors);
    }
    for one in body {
        take(fields, Place::Body, one, &mut given, &mut errors);
    }
    let is_bad = |name: &str| errors.iter().any(|error| error.field == name);
    let missing = fields.iter().filter(|field| field.required);
    let missing = missing.filter(|field| !given.contains_key(field.name) && !is_bad(field.name));
    let missing: Vec<_> = missing.map(|field| error(field.name, "is missing".to_owned())).collect();
    errors.extend(missing);
    if errors.is_empty() { Ok(Given(given)) } else { Err(Problem::fields(errors)) }
}

fn take(
    fields: &[Field],
    place: Place,
    (name, value): (String, Value),
    given: &mut BTreeMap<&'static str, Value>,
    errors: &mut Vec<FieldError>,
) {
    let known = fields.iter().find(|field| field.place == place && field.name == name);
    let Some(field) = known else {
        errors.push(error(&name, "is not known here".to_owned()));
        return;
    };
    match (field.check)(&value) {
        Err(detail) => errors.push(error(field.name, detail)),
        Ok(()) if given.insert(field.name, value).is_some() => {
            errors.push(error(field.name, "stands twice".to_owned()));
        }
        Ok(()) => {}
    }
}

fn error(name: &str, detail: String) -> FieldError {
    FieldError { field: name.chars().take(NAME_CHARS_MAX).collect(), detail }
}

// --- what there is ---

pub(super) fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "must be text".to_owned())
}

/// Words of ours that are read from text and describe themselves.
macro_rules! words {
    ($($word:ty),*) => {
        $(impl Input for $word {
            fn read(value: &Value) -> Result<Self, String> {
                text(value)?.parse().map_err(|error: proto::id::ParseIdError| error.to_string())
            }

            fn schema() -> Value {
                serde_json::to_value(<$word as PartialSchema>::schema()).expect("a schema serializes")
            }
        })*
    };
}

words!(Digest, Env, HostId, Service, Version);

/// A number in the text of a query.
fn number(value: &Value, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let (least, most) = (range.start(), range.end());
    let number = text(value)?.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("must be {least} to {most}"))
}

/// The id of a rollout, or its start.
#[derive(Debug)]
pub(super) struct RolloutId(pub(super) String);

impl Input for RolloutId {
    fn read(value: &Value) -> Result<Self, String> {
        let digits = text(value)?;
        let hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match hex && (4..=64).contains(&digits.len()) {
            true => Ok(Self(digits.to_owned())),
            false => Err("must be 4 to 64 lower-case hex digits".to_owned()),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9a-f]{4,64}$" })
    }
}

/// A kind of event.
impl Input for events::Kind {
    fn read(value: &Value) -> Result<Self, String> {
        text(value)?.parse().map_err(|error: events::UnknownKind| error.to_string())
    }

    fn schema() -> Value {
        let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
        json!({ "type": "string", "enum": names })
    }
}

/// How many things a page holds.
#[derive(Debug)]
pub(super) struct Limit(pub(super) usize);

impl Default for Limit {
    fn default() -> Self {
        Self(usize::try_from(LIMIT).expect("a small number"))
    }
}

impl Input for Limit {
    fn read(value: &Value) -> Result<Self, String> {
        let number = number(value, 1..=LIMIT_MAX)?;
        Ok(Self(usize::try_from(number).expect("a small number")))
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT })
    }
}

/// The number of an event or of an entry.
#[derive(Debug)]
pub(super) struct Seq(pub(super) u64);

impl Input for Seq {
    fn read(value: &Value) -> Result<Self, String> {
        number(value, 0..=COUNTER_MAX).map(Self)
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0, "maximum": COUNTER_MAX })
    }
}

/// Longest phrase, in bytes.
const PHRASE_BYTES_MAX: usize = 200;

/// What something is called, or some of it.
#[derive(Debug)]
pub(super) struct Phrase(pub(super) String);

impl Input for Phrase {
    fn read(value: &Value) -> Result<Self, String> {
        let phrase = text(value)?;
        match (1..=PHRASE_BYTES_MAX).contains(&phrase.len()) {
            true => Ok(Self(phrase.to_owned())),
            false => Err(format!("must have 1 to {PHRASE_BYTES_MAX} bytes")),
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1, "maxLength": PHRASE_BYTES_MAX })
    }
}

/// Why something is done, for the record.
#[derive(Debug)]
pub(super) struct Reason(pub(super) String);

impl Input for Reason {
    fn read(value: &Value) -> Result<Self, String> {
        let reason = text(value)?.trim();
        match () {
            () if reason.is_empty() => Err("must say why".to_owned()),
            () if reason.len() > REASON_BYTES_MAX => {
                Err(format!("has {} bytes, at most {REASON_BYTES_MAX}", reason.len()))
            }
            () if reason.chars().any(char::is_control) => Err("must be one line".to_owned()),
            () => Ok(Self(reason.to_owned())),
        }
    }

    fn schema() -> Value {
        json!({
            "type": "string", "minLength": 1, "maxLength": REASON_BYTES_MAX,
            "description": "one line; at most 400 bytes of UTF-8",
        })
    }
}

/// How long a freeze lasts, in seconds.
#[derive(Debug)]
pub(super) struct Lasts(pub(super) u64);

impl Input for Lasts {
    fn read(value: &Value) -> Result<Self, String> {
        let number = value.as_u64();
        let number = number.filter(|s| (FREEZE_S_MIN..=COORDINATOR_FREEZE_S_MAX).contains(s));
        let must = || format!("must be a number, {FREEZE_S_MIN} to {COORDINATOR_FREEZE_S_MAX}");
        number.map(Self).ok_or_else(must)
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": FREEZE_S_MIN, "maximum": COORDINATOR_FREEZE_S_MAX })
    }
}

impl Input for bool {
    fn read(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| "must be true or false".to_owned())
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}
