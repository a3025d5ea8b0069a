//! `swell.toml`: how a service is run, judged and rolled out.
//!
//! `[run]` and `[health]` travel in the release, `[deploy.ENV]` in the rollout. Every problem is told
//! at once, with key, value and range; unknown keys are refused. Keys of protections that this
//! version does not enforce are refused **by name**: a protection that is read and ignored is worse
//! than none, since somebody relies on it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use proto::id::{Env, Service};
use proto::statement::{Health, OnFailure, Run, Share, THRESHOLD_MAX, Window};
use rollout::plan::{Stage, Strategy};
use toml::{Table, Value};

use self::section::{Section, shown};
use crate::failure::Advise;

mod section;
#[cfg(test)]
mod tests;

/// The name of the file.
pub(crate) const SWELL_TOML: &str = "swell.toml";
/// Longest file, in bytes.
const BYTES_MAX: u64 = 256 << 10;

/// The checked content of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SwellToml {
    pub(crate) service: Service,
    pub(crate) run: Run,
    pub(crate) health: Health,
    pub(crate) deploy: BTreeMap<Env, Deploy>,
}

/// `[deploy.ENV]`, as it is written: what is left out has the default that planning gives it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deploy {
    pub(crate) strategy: Strategy,
    /// Approvals needed; the environment's policy may ask for more.
    pub(crate) approvals: Option<u8>,
    /// Hosts of one zone that may be stopped at once.
    pub(crate) max_unavailable: Option<Share>,
    pub(crate) on_failure: Option<OnFailure>,
    /// When something new may start; empty: at any time.
    pub(crate) windows: Vec<Window>,
    pub(crate) thresholds: Thresholds,
}

/// What counted requests are held against, from `[health]`, as it is written: where the release has
/// metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Thresholds {
    /// Requests in a window below which it says nothing.
    pub(crate) requests_min: Option<u32>,
    /// The share of errors that may lie above the old release's, in millionths, where a stage does
    /// not say it.
    pub(crate) errors_ppm: Option<u32>,
    /// How slow answers may be, in percent of the old release's 99th percentile.
    pub(crate) p99_ratio_percent: Option<u32>,
}

/// Why there is no usable file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwellTomlError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no {SWELL_TOML} in {}", places(tried))]
    NotFound { tried: Vec<PathBuf> },
    #[error("{} is not TOML: {why}", path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("{} has {} bad value(s):{}", path.display(), problems.len(), Lines(problems))]
    Bad { path: PathBuf, problems: Vec<String> },
}

fn places(tried: &[PathBuf]) -> String {
    let mut shown: Vec<_> = tried
        .iter()
        .map(|path| path.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new(".")))
        .map(|dir| dir.display().to_string())
        .collect();
    // Where what is published lies here there is one place.
    shown.dedup();
    shown.join(" or ")
}

/// Each on a line of its own, below what stands before.
pub(crate) struct Lines<'a>(pub(crate) &'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl Advise for SwellTomlError {
    fn next(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some(format!(
                "write one (service, [run], [health], [deploy.ENV]), or name it by --config \
                 PATH/{SWELL_TOML}"
            )),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some(format!("run this where it lies, or name it by --config PATH/{SWELL_TOML}"))
            }
            _ => None,
        }
    }
}

// --- reading ---

/// Reads the file at `config`, or, where none is given, the first `swell.toml` in `dirs`.
///
/// # Errors
///
/// [`SwellTomlError`]; all bad values in one.
pub(crate) fn load(config: Option<&Path>, dirs: &[&Path]) -> Result<SwellToml, SwellTomlError> {
    let tried: Vec<_> = match config {
        Some(path) => vec![path.to_owned()],
        None => dirs.iter().map(|dir| dir.join(SWELL_TOML)).collect(),
    };
    for path in &tried {
        match durable::read_bounded(path, BYTES_MAX) {
            Ok(bytes) => return parse(path, &String::from_utf8_lossy(&bytes)),
            Err(source) if config.is_none() && source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(SwellTomlError::Read { path: path.clone(), source }),
        }
    }
    Err(SwellTomlError::NotFound { tried })
}

/// Checks `text` as the content of `path`.
///
/// # Errors
///
/// As [`load`], without the reading.
pub(crate) fn parse(path: &Path, text: &str) -> Result<SwellToml, SwellTomlError> {
    let table: Table = toml::from_str(text).map_err(|error| SwellTomlError::Malformed {
        path: path.to_owned(),
        why: error.to_string().trim_end().to_owned(),
    })?;
    let mut problems = Vec::new();
    let read = swell_toml(table, &mut problems);
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => Err(SwellTomlError::Bad { path: path.to_owned(), problems }),
    }
}

fn swell_toml(table: Table, problems: &mut Vec<String>) -> Option<SwellToml> {
    let mut top = Section { path: String::new(), table, problems };
    let service = top.required_text("service").and_then(|text| top.parsed("service", &text));
    let run_table = top.required_section("run");
    let health_table = top.section("health").unwrap_or_default();
    let deploy_table = top.section("deploy").unwrap_or_default();
    top.refuse_unknown();

    let run = run_table.and_then(|table| run(Section::new("run", table, problems)));
    let (health, thresholds) = health(Section::new("health", health_table, problems));
    problems.extend(run.as_ref().and_then(|run| health.problem_with(run)));
    let mut deploy = BTreeMap::new();
    for (env, value) in deploy_table {
        let path = format!("deploy.{env}");
        let Value::Table(table) = value else {
            problems.push(format!("{path} = {}: must be a table", shown(&value)));
            continue;
        };
        let name = env.parse::<Env>().map_err(|error| problems.push(format!("{path}: {error}")));
        let read = deployment(Section::new(&path, table, problems), thresholds);
        if let (Some(read), Ok(name)) = (read, name) {
            if health.metrics.is_none() && has_error_thresholds(&read.strategy) {
                problems.push(format!("{path}.stages: error_threshold {NEEDS_METRICS}"));
            }
            deploy.insert(name, read);
        }
    }
    Some(SwellToml { service: service?, run: run?, health, deploy })
}

fn run(mut section: Section<'_>) -> Option<Run> {
    section.later("reload", "this version stops and starts: it knows no reload");
    let unit = section.text("unit");
    let commands = match unit {
        None => section.required_text("start").zip(section.required_text("stop")),
        Some(_) => Some((
            section.text("start").unwrap_or_default(),
            section.text("stop").unwrap_or_default(),
        )),
    };
    let run = Run {
        timeout_s: section.whole("timeout_s").unwrap_or(30),
        unit,
        user: section.text("user"),
        drain: section.text("drain"),
        check: section.text("check"),
        undrain: section.text("undrain"),
        after_commit: section.text("after_commit"),
        ..Run::default()
    };
    section.refuse_unknown();
    let (start, stop) = commands?;
    let run = Run { start, stop, ..run };
    section.problems.extend(run.problems());
    Some(run)
}

fn health(mut section: Section<'_>) -> (Health, Thresholds) {
    if !section.table.contains_key("metrics") {
        for key in COUNTING_KEYS {
            section.later(key, NEEDS_METRICS);
        }
    }
    let default = Health::default();
    let health = Health {
        http: section.text("http"),
        ready_timeout_s: section.whole("ready_timeout_s").unwrap_or(default.ready_timeout_s),
        interval_ms: section.whole("interval_ms").unwrap_or(default.interval_ms),
        timeout_ms: section.whole("timeout_ms").unwrap_or(default.timeout_ms),
        failures_max: section.whole("failures_max").unwrap_or(default.failures_max),
        warmup_s: section.whole("warmup_s").unwrap_or(default.warmup_s),
        command: section.text("command"),
        journal_errors_max: section.whole("journal_errors_max"),
        metrics: section.text("metrics"),
        requests: section.text("requests").unwrap_or(default.requests),
        errors: section.text("errors").unwrap_or(default.errors),
        latency: section.text("latency").unwrap_or(default.latency),
        window_s: section.whole("window_s").unwrap_or(default.window_s),
    };
    let thresholds = Thresholds {
        requests_min: section.whole("requests_min"),
        errors_ppm: section.error_threshold(),
        p99_ratio_percent: section.parts("p99_ratio_max", 1..=100, 100),
    };
    if thresholds.requests_min == Some(0) {
        section.problem("requests_min", "must be 1 or more");
    }
    section.refuse_unknown();
    section.problems.extend(health.problems());
    (health, thresholds)
}

/// The keys of `[health]` that say nothing without a page to count from.
const COUNTING_KEYS: [&str; 7] = [
    "requests",
    "errors",
    "latency",
    "window_s",
    "requests_min",
    "error_threshold",
    "p99_ratio_max",
];
const NEEDS_METRICS: &str = "needs health.metrics: without it no request is counted";

fn has_error_thresholds(strategy: &Strategy) -> bool {
    match strategy {
        Strategy::Canary(stages) => stages.iter().any(|stage| stage.errors_ppm.is_some()),
        Strategy::AllAtOnce { .. } | Strategy::Rolling { .. } => false,
    }
}

const NOT_ENFORCED: &str = "this version does not enforce it (it judges by health.http and by \
                            whether the commands succeed): take it out, so that nobody relies on it";

fn deployment(mut section: Section<'_>, thresholds: Thresholds) -> Option<Deploy> {
    section.later("smoke", NOT_ENFORCED);
    let strategy = section.strategy();
    let approvals = section.ranged("approvals", 0..=THRESHOLD_MAX);
    let max_unavailable = section.share_above_0("max_unavailable");
    let on_failure = section.text("on_failure").and_then(|text| match text.as_str() {
        "rollback" => Some(OnFailure::Rollback),
        "pause" => Some(OnFailure::Pause),
        other => {
            section.bad("on_failure", &Value::from(other), "rollback or pause");
            None
        }
    });
    let windows = section.windows();
    section.refuse_unknown();
    let strategy = strategy?;
    Some(Deploy { strategy, approvals, max_unavailable, on_failure, windows, thresholds })
}

fn stage(mut section: Section<'_>) -> Option<Stage> {
    section.later("p99_ratio_max", "once for all stages: health.p99_ratio_max");
    let weight = section.required_number("weight", "more than 0, at most 100", |weight| {
        weight > 0.0 && weight <= 100.0
    });
    let wait_s = section.wait_s();
    let (failed_max, unreachable_max) =
        (section.share("failed_max"), section.share("unreachable_max"));
    let errors_ppm = section.error_threshold();
    section.refuse_unknown();
    Some(Stage { weight: weight?, wait_s: wait_s?, failed_max, unreachable_max, errors_ppm })
}
