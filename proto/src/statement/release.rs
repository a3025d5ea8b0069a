//! `release`: a version of a service is this artifact, run like this (R3).

use serde::{Deserialize, Serialize};

use super::range::{none_of, one_line, within};
use super::{Kind, Payload, UnixTime};
use crate::id::{Digest, FleetId, Service, Version};
use crate::selector::Selector;
use crate::unit::is_unit_name;

/// What to transfer: an artifact's manifest and its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ArtifactRef {
    /// BLAKE3 of the manifest's bytes ([`crate::artifact::Manifest`]): the artifact's id.
    pub id: Digest,
    /// Length of the manifest, in bytes.
    pub manifest_bytes: u64,
    /// Length of all pieces, compressed, in bytes.
    pub bytes: u64,
    /// Length of all files, in bytes.
    pub raw_bytes: u64,
}

/// Where a release comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Source {
    pub commit: Option<String>,
    pub branch: Option<String>,
    pub commit_time: Option<UnixTime>,
}

/// `[run]`: how the service is run: as a unit of systemd, or by `start` and `stop`. Commands go
/// through `/bin/sh -c`, in the release's directory, with the environment of `shared/env` and
/// `SWELL_*`; each must return (a service it starts stays behind in the background). Exit code 0
/// means done, 75 not yet: it is run again until its time is over; any other that it failed. What is
/// left out is not written, as before there was such a thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Starts the service from the directory `current` points at; empty: a unit is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub start: String,
    /// Stops it; must succeed when it does not run. Empty: a unit is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stop: String,
    /// Longest time any command may take, and the unit to start or stop, in seconds; 1 to 3,600.
    #[serde(default = "Run::timeout_s_default")]
    pub timeout_s: u32,
    /// The unit the service runs as, a file at the root of the artifact. None: by commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The user that commands run as. None: the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Runs before the service is stopped for another release: takes it out of use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<String>,
    /// Runs once the service is ready: whether it is well, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// Runs once it is checked: puts it into use. Must succeed when it was never taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undrain: Option<String>,
    /// Runs once its bake has passed on this host; can no longer take anything back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_commit: Option<String>,
}

/// A command that a release may have beside those that start and stop it (R23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Drain,
    Check,
    Undrain,
    AfterCommit,
}

impl Hook {
    /// The key of `[run]`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Check => "check",
            Self::Undrain => "undrain",
            Self::AfterCommit => "after_commit",
        }
    }
}

impl Run {
    /// Longest command, in bytes.
    const COMMAND_BYTES_MAX: usize = 4_096;

    const fn timeout_s_default() -> u32 {
        30
    }

    /// The command of a hook, where there is one.
    pub fn hook(&self, hook: Hook) -> Option<&str> {
        let command = match hook {
            Hook::Drain => &self.drain,
            Hook::Check => &self.check,
            Hook::Undrain => &self.undrain,
            Hook::AfterCommit => &self.after_commit,
        };
        command.as_deref()
    }
}

/// `[health]`: when a release counts as serving, and when as failing. A release without metrics is
/// written as it was before there were any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// An `http://` URL that answers 200 to 299 while the service is well. `${NAME}` stands for a
    /// variable of the host's `shared/env`. None: a start command that succeeds is all there is.
    pub http: Option<String>,
    /// From start to the first good answer, in seconds; 1 to 3,600.
    pub ready_timeout_s: u32,
    /// Between two checks, in milliseconds; 100 to 60,000.
    pub interval_ms: u32,
    /// Longest wait for one answer, in milliseconds; 100 to 60,000.
    pub timeout_ms: u32,
    /// Bad answers in a row that make a failure, once it has been ready; 1 to 100.
    pub failures_max: u32,
    /// Part of the bake, at its start, in which only hard signals count, in seconds; 0 to 3,600.
    pub warmup_s: u32,
    /// A command that exits with 0 while the service is well, asked like `http`, and beside it. None: no
    /// command is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Lines of priority `err` or worse that the unit of the service may write to the journal in a
    /// minute; 0 to 10,000. None: they do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub journal_errors_max: Option<u32>,
    /// An `http://` URL of a page of metrics in the Prometheus text format, as `http` otherwise. None:
    /// nothing is counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// The counter of all requests: a [selector](crate::selector) of that page.
    #[serde(skip_serializing_if = "Health::has_default_requests")]
    pub requests: String,
    /// The counter of those that failed.
    #[serde(skip_serializing_if = "Health::has_default_errors")]
    pub errors: String,
    /// A histogram of how long answers took, in seconds.
    #[serde(skip_serializing_if = "Health::has_default_latency")]
    pub latency: String,
    /// Over how long requests are counted, in seconds; 5 to 600.
    #[serde(skip_serializing_if = "Health::has_default_window_s")]
    pub window_s: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            http: None,
            ready_timeout_s: 30,
            interval_ms: 500,
            timeout_ms: 2_000,
            failures_max: 3,
            warmup_s: 0,
            command: None,
            journal_errors_max: None,
            metrics: None,
            requests: "http_requests_total".to_owned(),
            errors: "http_requests_total{code=~\"5..\"}".to_owned(),
            latency: "http_request_duration_seconds".to_owned(),
            window_s: 30,
        }
    }
}

/// A version of a service is this artifact, run like this (R3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Release {
    pub fleet: FleetId,
    pub service: Service,
    pub version: Version,
    pub artifact: ArtifactRef,
    pub source: Source,
    pub created: UnixTime,
    pub run: Run,
    pub health: Health,
    #[serde(default)]
    pub critical: Vec<String>,
}

impl Run {
    /// What is out of range, one line each, keys as in `swell.toml`.
    pub fn problems(&self) -> Vec<String> {
        let Self { start, stop, timeout_s, unit, user, drain, check, undrain, after_commit } = self;
        let mut problems = Vec::new();
        let bytes = 1..=Self::COMMAND_BYTES_MAX;
        match unit {
            Some(unit) => {
                if !is_unit_name(unit) {
                    problems.push(format!(
                        "run.unit = {unit:?}: must be the name of a file at the root of the artifact, \
                         of A-Z, a-z, 0-9, `_`, `.`, `@`, `-`, like \"web.service\""
                    ));
                }
                if !(start.is_empty() && stop.is_empty()) {
                    problems.push(
                        "run.unit: a service runs by it, or by run.start and run.stop: not both"
                            .to_owned(),
                    );
                }
            }
            None => {
                within("run.start", start.len(), bytes.clone(), " bytes", &mut problems);
                within("run.stop", stop.len(), bytes.clone(), " bytes", &mut problems);
            }
        }
        if let Some(user) = user
            && !is_user_name(user)
        {
            problems.push(format!(
                "run.user = {user:?}: must be 1 to 32 of a-z, 0-9, `_`, `-`, not starting with a \
                 digit or `-`"
            ));
        }
        let hooks = [
            ("drain", drain),
            ("check", check),
            ("undrain", undrain),
            ("after_commit", after_commit),
        ];
        for (key, command) in hooks {
            if let Some(command) = command {
                let key = format!("run.{key}");
                within(&key, command.len(), bytes.clone(), " bytes", &mut problems);
            }
        }
        within("run.timeout_s", *timeout_s, 1..=3_600, "", &mut problems);
        problems
    }
}

/// Whether `name` can be that of a user of a host: what Debian's `adduser` takes, and `_` in front.
pub fn is_user_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
impl Health {
    fn has_default_requests(text: &str) -> bool {
        text == Self::default().requests
    }

    fn has_default_errors(text: &str) -> bool {
        text == Self::default().errors
    }

    fn has_default_latency(text: &str) -> bool {
        text == Self::default().latency
    }

    fn has_default_window_s(seconds: &u32) -> bool {
        *seconds == Self::default().window_s
    }
}

impl Health {
    /// Whether the service can be asked how it is.
    pub fn asks(&self) -> bool {
        self.http.is_some() || self.command.is_some()
    }

    /// What does not go with how the service is run.
    pub fn problem_with(&self, run: &Run) -> Option<String> {
        (self.journal_errors_max.is_some() && run.unit.is_none()).then(|| {
            "health.journal_errors_max: only what a unit writes is told apart in the journal: it needs \
             run.unit"
                .to_owned()
        })
    }

    /// What is out of range, one line each, keys as in `swell.toml`.
    pub fn problems(&self) -> Vec<String> {
        let Self { http, ready_timeout_s, interval_ms, timeout_ms, failures_max, warmup_s, .. } =
            self;
        let Self { metrics, requests, errors, latency, window_s, command, .. } = self;
        let mut problems = Vec::new();
        if let Some(command) = command {
            let bytes = 1..=Run::COMMAND_BYTES_MAX;
            within("health.command", command.len(), bytes, " bytes", &mut problems);
        }
        if let Some(most) = self.journal_errors_max {
            within("health.journal_errors_max", most, 0..=10_000, "", &mut problems);
        }
        for (key, url) in [("http", http), ("metrics", metrics)] {
            if let Some(url) = url
                && (!url.starts_with("http://") || url.len() > 2_048)
            {
                problems.push(format!(
                    "health.{key} = {url:?}: must be an http:// URL of at most 2048 bytes"
                ));
            }
        }
        within("health.ready_timeout_s", *ready_timeout_s, 1..=3_600, "", &mut problems);
        within("health.interval_ms", *interval_ms, 100..=60_000, "", &mut problems);
        within("health.timeout_ms", *timeout_ms, 100..=60_000, "", &mut problems);
        within("health.failures_max", *failures_max, 1..=100, "", &mut problems);
        within("health.warmup_s", *warmup_s, 0..=3_600, "", &mut problems);
        for (key, text) in [("requests", requests), ("errors", errors), ("latency", latency)] {
            if let Err(error) = Selector::parse(text) {
                problems.push(format!("health.{key} = {error}"));
            }
        }
        within("health.window_s", *window_s, 5..=600, "", &mut problems);
        problems
    }
}

impl Release {
    /// Whether anything tells if it runs: its unit, a check that is asked again and again, or its own word.
    pub fn tells_if_it_runs(&self) -> bool {
        self.run.unit.is_some() || self.health.asks() || self.run.check.is_some()
    }
}

impl Payload for Release {
    const KIND: Kind = Kind::Release;

    fn critical(&self) -> &[String] {
        &self.critical
    }

    fn check(&self) -> Result<(), String> {
        let mut problems = self.run.problems();
        problems.extend(self.health.problems());
        problems.extend(self.health.problem_with(&self.run));
        let Source { commit, branch, commit_time: _ } = &self.source;
        for (key, text) in [("source.commit", commit), ("source.branch", branch)] {
            one_line(key, text.as_deref().unwrap_or_default(), 200, &mut problems);
        }
        none_of(&problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands() -> Run {
        Run { start: "a".into(), stop: "b".into(), timeout_s: 30, ..Run::default() }
    }

    #[test]
    fn what_is_left_out_is_not_written() {
        let text = serde_json::to_string(&commands()).unwrap();
        assert_eq!(
            text, r#"{"start":"a","stop":"b","timeout_s":30}"#,
            "as before there were units"
        );
        let unit = Run { unit: Some("web.service".into()), timeout_s: 30, ..Run::default() };
        let text = serde_json::to_string(&unit).unwrap();
        assert_eq!(text, r#"{"timeout_s":30,"unit":"web.service"}"#);
        assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), unit);
    }

    #[test]
    fn health_says_what_it_says_and_no_more() {
        let plain = serde_json::to_string(&Health::default()).unwrap();
        assert_eq!(
            plain,
            r#"{"http":null,"ready_timeout_s":30,"interval_ms":500,"timeout_ms":2000,"failures_max":3,"warmup_s":0}"#,
            "as before there were commands and journals"
        );
        let all = Health {
            command: Some("bin/check".into()),
            journal_errors_max: Some(9),
            ..Health::default()
        };
        let text = serde_json::to_string(&all).unwrap();
        assert!(text.ends_with(r#","command":"bin/check","journal_errors_max":9}"#), "{text}");
        assert_eq!(serde_json::from_str::<Health>(&text).unwrap(), all);
        assert!(all.asks() && !Health::default().asks());
        assert_eq!(all.problems(), Vec::<String>::new());
        let wrong = Health {
            command: Some(String::new()),
            journal_errors_max: Some(10_001),
            ..all.clone()
        };
        let problems = wrong.problems().join("; ");
        assert!(problems.contains("health.command = 0 bytes"), "{problems}");
        assert!(problems.contains("health.journal_errors_max = 10001"), "{problems}");
        let unit = Run { unit: Some("web.service".into()), ..Run::default() };
        assert_eq!(all.problem_with(&unit), None);
        assert!(all.problem_with(&commands()).unwrap().contains("it needs run.unit"));
    }

    #[test]
    fn run_problems_table() {
        let run = |change: fn(&mut Run)| {
            let mut run = commands();
            change(&mut run);
            run.problems().join("; ")
        };
        let unit = |run: &mut Run| {
            *run = Run { unit: Some("web.service".into()), timeout_s: 1, ..Run::default() };
        };
        assert_eq!(run(|_| ()), "");
        assert_eq!(run(unit), "");
        assert!(run(|run| run.start.clear()).starts_with("run.start = 0 bytes"));
        assert!(run(|run| run.unit = Some("web.service".into())).ends_with("not both"));
        assert!(run(|run| run.timeout_s = 0).starts_with("run.timeout_s = 0"));
        for name in ["_apt", "www-data", "a"] {
            assert!(is_user_name(name), "{name}");
        }
        let long = "a".repeat(33);
        for name in ["", "Web", "1a", "-a", "web:x", "../a", "a b", "a%i", long.as_str()] {
            assert!(!is_user_name(name), "{name}");
        }
        let hooks = |run: &mut Run, text: &str| {
            for hook in [&mut run.drain, &mut run.check, &mut run.undrain, &mut run.after_commit] {
                *hook = Some(text.to_owned());
            }
        };
        for (text, problems) in [("true", 0), ("", 4), (&"a".repeat(4_097), 4)] {
            let mut run = commands();
            hooks(&mut run, text);
            assert_eq!(run.problems().len(), problems, "{} bytes", text.len());
        }
    }
}
