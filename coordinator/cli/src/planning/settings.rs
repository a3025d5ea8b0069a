//! What is in force in a rollout, and who says so: `swell.toml`, the environment's policy in root,
//! or nobody, so that it is the default.

use std::fmt;

use proto::statement::{Direction, Limits, OnFailure, Policy, Rollout, Share, Wave};
use rollout::plan::Strategy;
use serde::Serialize;

use super::MAX_UNAVAILABLE;
use crate::span;
use crate::swell_toml::Deploy;

/// One value that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Setting {
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) origin: Origin,
    /// What the environment's policy asks for at least, where it asks.
    pub(crate) policy_min: Option<String>,
}

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    SwellToml,
    /// The environment's policy in root, which is stricter than what is written.
    Policy,
    /// Nobody wrote it.
    Default,
    /// Some stages have their own, others the default.
    SwellTomlAndDefault,
    /// A rollback is always so.
    Rollback,
    /// The rollout as it was signed: what it was made of is not in it.
    Signed,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SwellToml => "swell.toml",
            Self::Policy => "policy",
            Self::Default => "default",
            Self::SwellTomlAndDefault => "swell.toml, default",
            Self::Rollback => "rollback",
            Self::Signed => "as signed",
        })
    }
}

/// The settings of a rollout that is known by its statement alone.
pub(crate) fn signed(rollout: &Rollout, policy: &Policy) -> Vec<Setting> {
    let origin = match rollout.direction {
        Direction::Forward => Origin::Signed,
        Direction::Rollback => Origin::Rollback,
    };
    let setting = |key, value| Setting { key, value, origin, policy_min: None };
    let mut settings = vec![
        setting("waves", rollout.waves.len().to_string()),
        setting("bakes", span::show(bakes_s(rollout))),
        setting("approvals", rollout.approvals.to_string()),
        setting("failed_max", by_wave(rollout, |wave| wave.failed_max)),
        setting("unreachable_max", by_wave(rollout, |wave| wave.unreachable_max)),
        setting("max_unavailable", span::count(rollout.max_unavailable as usize, "host")),
        setting("on_failure", on_failure(rollout.on_failure).to_owned()),
    ];
    if !rollout.windows.is_empty() {
        let windows: Vec<_> = rollout.windows.iter().map(ToString::to_string).collect();
        settings.push(setting("windows", format!("{} UTC", windows.join("; "))));
    }
    if let Some(Limits { errors_ppm, requests_min, p99_ratio_percent, .. }) = &rollout.limits {
        let share = |ppm: &u32| format!("{} %", f64::from(*ppm) / 1e4);
        let shares: Vec<_> = errors_ppm.iter().map(share).collect();
        settings.push(setting("error_threshold", shares.join(" ")));
        settings.push(setting("requests_min", requests_min.to_string()));
        if let Some(percent) = p99_ratio_percent {
            settings.push(setting("p99_ratio_max", (f64::from(*percent) / 100.0).to_string()));
        }
    }
    if rollout.direction == Direction::Forward {
        ask_at_least(&mut settings, policy);
    }
    settings
}

/// The settings of a rollout that was planned from `deploy` under `policy`.
pub(crate) fn written(rollout: &Rollout, deploy: &Deploy, policy: &Policy) -> Vec<Setting> {
    let written = |there: bool| if there { Origin::SwellToml } else { Origin::Default };
    let (failed, unreachable) = budgets(&deploy.strategy);
    let share = deploy.max_unavailable.unwrap_or(MAX_UNAVAILABLE);
    let mut settings = signed(rollout, policy);
    for setting in &mut settings {
        setting.origin = match setting.key {
            "approvals" if policy.approvals_min > deploy.approvals.unwrap_or(0) => Origin::Policy,
            "approvals" => written(deploy.approvals.is_some()),
            "failed_max" => by_stage(&failed),
            "unreachable_max" => by_stage(&unreachable),
            "max_unavailable" => written(deploy.max_unavailable.is_some()),
            "on_failure" => written(deploy.on_failure.is_some()),
            "requests_min" => written(deploy.thresholds.requests_min.is_some()),
            "error_threshold" if deploy.thresholds.errors_ppm.is_none() => {
                by_stage(&error_thresholds(&deploy.strategy))
            }
            _ => Origin::SwellToml,
        };
        if setting.key == "max_unavailable" && matches!(share, Share::Percent(_)) {
            setting.value.push_str(&format!(" ({share})"));
        }
    }
    let value = strategy(&deploy.strategy);
    let origin = Origin::SwellToml;
    settings.insert(0, Setting { key: "strategy", value, origin, policy_min: None });
    settings
}

fn ask_at_least(settings: &mut [Setting], policy: &Policy) {
    for setting in settings {
        setting.policy_min = match setting.key {
            "waves" if policy.stages_min > 0 => Some(policy.stages_min.to_string()),
            "bakes" if policy.bake_s_min > 0 => Some(span::show(u64::from(policy.bake_s_min))),
            "approvals" if policy.approvals_min > 0 => Some(policy.approvals_min.to_string()),
            _ => None,
        };
    }
}

fn strategy(strategy: &Strategy) -> String {
    match strategy {
        Strategy::AllAtOnce { .. } => "all-at-once".to_owned(),
        Strategy::Canary(stages) => format!("canary, {}", span::count(stages.len(), "stage")),
        Strategy::Rolling { batch, .. } => format!("rolling, batch {batch}"),
    }
}

/// The budgets as written, for each stage.
fn budgets(strategy: &Strategy) -> (Vec<Option<Share>>, Vec<Option<Share>>) {
    match strategy {
        Strategy::AllAtOnce { failed_max, unreachable_max }
        | Strategy::Rolling { failed_max, unreachable_max, .. } => {
            (vec![*failed_max], vec![*unreachable_max])
        }
        Strategy::Canary(stages) => {
            stages.iter().map(|stage| (stage.failed_max, stage.unreachable_max)).unzip()
        }
    }
}

/// The shares of errors as written, for each stage.
fn error_thresholds(strategy: &Strategy) -> Vec<Option<u32>> {
    match strategy {
        Strategy::AllAtOnce { .. } | Strategy::Rolling { .. } => vec![None],
        Strategy::Canary(stages) => stages.iter().map(|stage| stage.errors_ppm).collect(),
    }
}

fn by_stage<T>(budgets: &[Option<T>]) -> Origin {
    match budgets.iter().flatten().count() {
        0 => Origin::Default,
        all if all == budgets.len() => Origin::SwellToml,
        _ => Origin::SwellTomlAndDefault,
    }
}

fn by_wave(rollout: &Rollout, budget: impl Fn(&Wave) -> u32) -> String {
    rollout.waves.iter().map(|wave| budget(wave).to_string()).collect::<Vec<_>>().join(" ")
}

fn bakes_s(rollout: &Rollout) -> u64 {
    let bakes_s = (0..rollout.waves.len()).map(|wave| rollout::gate::bake_s(rollout, wave));
    bakes_s.map(u64::from).sum()
}

const fn on_failure(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Rollback => "rollback",
        OnFailure::Pause => "pause",
    }
}
