//! Reading one table of `swell.toml`: keys are taken out one by one, and what is wrong with them is
//! collected.

use std::fmt;
use std::str::FromStr;

use proto::statement::{Share, WAVES_MAX, WINDOWS_MAX, Window};
use rollout::plan::{Stage, Strategy};
use toml::{Table, Value};

use super::stage;

/// Longest wait, in minutes: a week.
const WAIT_MINUTES_MAX: f64 = 10_080.0;
/// The keys of `[deploy.ENV]` that some strategies have and others have not.
const STRATEGY_KEYS: [&str; 5] =
    ["stages", "batch", "wait_minutes", "failed_max", "unreachable_max"];

/// Takes keys out of a table one by one; what is wrong with them is collected.
pub(super) struct Section<'p> {
    pub(super) path: String,
    pub(super) table: Table,
    pub(super) problems: &'p mut Vec<String>,
}

impl<'p> Section<'p> {
    pub(super) fn new(path: &str, table: Table, problems: &'p mut Vec<String>) -> Self {
        Self { path: path.to_owned(), table, problems }
    }

    pub(super) fn key(&self, key: &str) -> String {
        match self.path.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.path),
        }
    }

    pub(super) fn bad(&mut self, key: &str, value: &Value, must: &str) {
        let path = self.key(key);
        self.problems.push(format!("{path} = {}: must be {must}", shown(value)));
    }

    pub(super) fn problem(&mut self, key: &str, why: &str) {
        let path = self.key(key);
        self.problems.push(format!("{path}: {why}"));
    }

    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        self.table.remove(key)
    }

    /// Refuses a key by name.
    pub(super) fn later(&mut self, key: &str, why: &str) {
        if self.table.remove(key).is_some() {
            self.problem(key, why);
        }
    }

    pub(super) fn refuse_unknown(&mut self) {
        for key in std::mem::take(&mut self.table).keys() {
            self.problem(key, "there is no such key");
        }
    }

    pub(super) fn section(&mut self, key: &str) -> Option<Table> {
        match self.take(key)? {
            Value::Table(table) => Some(table),
            other => {
                self.bad(key, &other, "a table");
                None
            }
        }
    }

    pub(super) fn required_section(&mut self, key: &str) -> Option<Table> {
        self.required(key).then(|| self.section(key))?
    }

    /// Whether it is there; else that is a problem.
    pub(super) fn required(&mut self, key: &str) -> bool {
        let there = self.table.contains_key(key);
        if !there {
            self.problem(key, "is missing");
        }
        there
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            other => {
                self.bad(key, &other, "a text");
                None
            }
        }
    }

    pub(super) fn required_text(&mut self, key: &str) -> Option<String> {
        self.required(key).then(|| self.text(key))?
    }

    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(
        &mut self,
        key: &str,
        text: &str,
    ) -> Option<T> {
        let path = self.key(key);
        text.parse().map_err(|error| self.problems.push(format!("{path}: {error}"))).ok()
    }

    /// A number that fits; whoever asks checks its range.
    pub(super) fn whole(&mut self, key: &str) -> Option<u32> {
        let value = self.take(key)?;
        let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
        if number.is_none() {
            self.bad(key, &value, "a whole number, 0 or more");
        }
        number
    }

    pub(super) fn ranged(&mut self, key: &str, range: std::ops::RangeInclusive<u8>) -> Option<u8> {
        let value = self.take(key)?;
        let number = value.as_integer().and_then(|number| u8::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.bad(key, &value, &format!("{} to {}", range.start(), range.end()));
        }
        number
    }

    pub(super) fn required_number(
        &mut self,
        key: &str,
        must: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Option<f64> {
        self.required(key).then(|| self.number(key, must, fits))?
    }

    fn number(&mut self, key: &str, must: &str, fits: impl Fn(f64) -> bool) -> Option<f64> {
        let value = self.take(key)?;
        let number = match value {
            Value::Integer(number) => i32::try_from(number).ok().map(f64::from),
            Value::Float(number) => Some(number),
            _ => None,
        };
        let number = number.filter(|number| fits(*number));
        if number.is_none() {
            self.bad(key, &value, must);
        }
        number
    }

    /// A number in `range`, as a whole number of parts of which `of_one` are 1.
    pub(super) fn parts(
        &mut self,
        key: &str,
        range: std::ops::RangeInclusive<u32>,
        of_one: u32,
    ) -> Option<u32> {
        let must = format!("{} to {}", range.start(), range.end());
        let (least, most) = (f64::from(*range.start()), f64::from(*range.end()));
        let number = self.number(key, &must, |number| (least..=most).contains(&number))?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range")]
        let parts = (number * f64::from(of_one)).round() as u32;
        Some(parts)
    }

    /// The share of errors that may lie above the old release's, in millionths.
    pub(super) fn error_threshold(&mut self) -> Option<u32> {
        self.parts("error_threshold", 0..=1, 1_000_000)
    }

    pub(super) fn share(&mut self, key: &str) -> Option<Share> {
        let value = self.take(key)?;
        let share = match &value {
            Value::Integer(count) => u32::try_from(*count).ok().map(Share::Count),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if share.is_none() {
            self.bad(key, &value, "a number of hosts, or \"0%\" to \"100%\"");
        }
        share
    }

    pub(super) fn windows(&mut self) -> Vec<Window> {
        let example = "days and times in UTC, such as \"mon-fri 09:00-17:00\"";
        let values = match self.take("windows") {
            None => return Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => {
                self.bad("windows", &other, &format!("a list of {example}"));
                return Vec::new();
            }
        };
        let (path, count) = (self.key("windows"), values.len());
        if !(1..=WINDOWS_MAX).contains(&count) {
            self.problems.push(format!("{path}: {count} of them, must be 1 to {WINDOWS_MAX}"));
        }
        let mut windows = Vec::new();
        for (index, value) in values.iter().enumerate() {
            match value.as_str().and_then(|text| text.parse().ok()) {
                Some(window) => windows.push(window),
                None => {
                    let shown = shown(value);
                    self.problems.push(format!("{path}.{index} = {shown}: must be {example}"));
                }
            }
        }
        windows
    }

    pub(super) fn share_above_0(&mut self, key: &str) -> Option<Share> {
        let share = self.share(key)?;
        if matches!(share, Share::Count(0)) || share == Share::Percent(0.0) {
            let path = self.key(key);
            self.problems.push(format!("{path} = {share}: must be more than 0"));
            return None;
        }
        Some(share)
    }

    /// `wait_minutes`, in seconds, rounded up.
    pub(super) fn wait_s(&mut self) -> Option<u32> {
        let wait = self.required_number("wait_minutes", "0 to 10080", |wait| {
            (0.0..=WAIT_MINUTES_MAX).contains(&wait)
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        wait.map(|minutes| (minutes * 60.0).ceil() as u32)
    }

    /// The strategy, and the keys that are its own.
    pub(super) fn strategy(&mut self) -> Option<Strategy> {
        let name = self.required_text("strategy");
        let strategy = match name.as_deref() {
            Some("canary") => self.canary(),
            Some("rolling") => self.rolling(),
            Some("all-at-once") => {
                let (failed_max, unreachable_max) =
                    (self.share("failed_max"), self.share("unreachable_max"));
                Some(Strategy::AllAtOnce { failed_max, unreachable_max })
            }
            other => {
                if let Some(other) = other {
                    let must = "canary, rolling or all-at-once";
                    self.bad("strategy", &Value::from(other), must);
                }
                // Of no strategy, nobody can say which keys are its own.
                STRATEGY_KEYS.iter().for_each(|key| drop(self.take(key)));
                return None;
            }
        };
        for key in STRATEGY_KEYS {
            self.later(key, not_with(name.as_deref().unwrap_or_default(), key));
        }
        strategy
    }

    fn canary(&mut self) -> Option<Strategy> {
        match self.required("stages").then(|| self.take("stages"))?? {
            Value::Array(stages) => Some(Strategy::Canary(self.stages(stages))),
            other => {
                self.bad("stages", &other, "a list of stages");
                None
            }
        }
    }

    fn rolling(&mut self) -> Option<Strategy> {
        let batch = self.required("batch").then(|| self.share_above_0("batch")).flatten();
        let wait_s = self.wait_s();
        let (failed_max, unreachable_max) =
            (self.share("failed_max"), self.share("unreachable_max"));
        Some(Strategy::Rolling { batch: batch?, wait_s: wait_s?, failed_max, unreachable_max })
    }

    pub(super) fn stages(&mut self, values: Vec<Value>) -> Vec<Stage> {
        let path = self.key("stages");
        let count = values.len();
        if !(1..=WAVES_MAX).contains(&count) {
            self.problems.push(format!("{path}: {count} of them, must be 1 to {WAVES_MAX}"));
        }
        let mut stages: Vec<Stage> = Vec::new();
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("{path}.{index}");
            let Value::Table(table) = value else {
                self.problems.push(format!("{path} = {}: must be a table", shown(&value)));
                continue;
            };
            let Some(stage) = stage(Section::new(&path, table, self.problems)) else { continue };
            let before = stages.last().map_or(0.0, |stage| stage.weight);
            if stage.weight <= before {
                self.problems.push(format!(
                    "{path}.weight = {}: must be more than the {before} before it",
                    stage.weight
                ));
            }
            stages.push(stage);
        }
        let reached = stages.last().map_or(100.0, |stage| stage.weight);
        if stages.len() == count && reached < 100.0 {
            let last = count.saturating_sub(1);
            self.problems.push(format!(
                "{path}.{last}.weight = {reached}: must be 100, so that every host has its turn"
            ));
        }
        stages
    }
}

/// Why a strategy does not have a key that another one has.
fn not_with(strategy: &str, key: &str) -> &'static str {
    match (strategy, key) {
        (_, "stages") => "only with strategy = \"canary\"",
        (_, "batch") => "only with strategy = \"rolling\"",
        ("canary", _) => "with strategy = \"canary\", each stage has its own",
        _ => "only with strategy = \"rolling\", and in the stages of a canary",
    }
}

/// A value as it stands in the file, cut where it would fill the screen.
pub(super) fn shown(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
