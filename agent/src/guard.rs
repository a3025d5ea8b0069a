//! The guard (R19): what decides about services where no agent does.
//!
//! From the journal of a service and where its `current` points, and from nothing else: no key, no
//! network, no statement. It does what a starting agent does first ([`Activator::recover`]), in a
//! process that an agent which cannot start does not keep from it. It runs
//!
//! - at every boot, for all services, beside the agent: an attempt that was not committed goes back
//!   to `from`, and what is to run is started;
//! - for one service, by a timer that the agent sets before it stops anything and takes away at the
//!   end of the attempt: if the agent was killed in the middle and does not come back, or what bakes
//!   does not answer while nobody watches, the service goes back.
//!
//! Who moves a service holds its [`Lease`](crate::activate::Lease), an agent for as long as it lives.
//! So a guard beside an agent that lives does nothing, and an agent waits for a guard.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use durable::RealDisk;
use proto::Service;
use tokio::runtime::Handle;
use tracing::{error, info};

use crate::activate::{Activator, Paths, Phase, Standing, activated};
use crate::config::Config;
use crate::daemon::services;
use crate::home::Home;
use crate::services::{Services, boot_id};

/// How long it waits for an agent that is about to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Stands in for the agent: for `service`, or for all that were ever activated here, side by side.
///
/// # Errors
///
/// A service that does not serve what it should, or whose journal cannot be read: each is logged,
/// and keeps no other one waiting.
pub fn run(config: &Config, service: Option<Service>, runtime: &Handle) -> Result<()> {
    let state_dir = Home::new(&config.state_dir).services();
    let all = match service {
        Some(service) => vec![service],
        None => activated(&state_dir).with_context(|| format!("{}", state_dir.display()))?,
    };
    let machine = services(config, runtime.clone())?;
    let failed = thread::scope(|scope| {
        let (state_dir, machine) = (&state_dir, &machine);
        let guards: Vec<_> = all
            .iter()
            .map(|service| (service, scope.spawn(|| guard(config, state_dir, machine, service))))
            .collect();
        let ended = guards.into_iter().map(|(service, guard)| (service, guard.join()));
        ended.filter(|(service, ended)| !is_well(service, ended)).count()
    });
    match failed {
        0 => Ok(()),
        failed => bail!("{failed} of {} services: see above", all.len()),
    }
}

/// None: an agent, or another guard, looks after the service.
fn guard(
    config: &Config,
    state_dir: &Path,
    machine: &Arc<dyn Services>,
    service: &Service,
) -> Result<Option<Standing>> {
    let activator = Activator::new(
        Arc::new(RealDisk),
        machine.clone(),
        Paths::new(&config.service_root, service),
        state_dir,
        boot_id(),
    );
    if !activator.hold(PATIENCE).context("its lease")? {
        info!(%service, "an agent looks after it");
        return Ok(None);
    }
    Ok(activator.stand_in()?)
}

/// Says how it ended.
fn is_well(service: &Service, ended: &thread::Result<Result<Option<Standing>>>) -> bool {
    let standing = match ended {
        Ok(Ok(Some(standing))) => standing,
        Ok(Ok(None)) => return true,
        Ok(Err(error)) => {
            error!(%service, error = format!("{error:#}"), "nothing was touched");
            return false;
        }
        Err(_) => {
            error!(%service, "its guard ended unexpectedly");
            return false;
        }
    };
    let Standing { attempt, to, phase, down, .. } = standing;
    if let Some(why) = down {
        error!(%service, %why, "the service does not run");
        return false;
    }
    match phase {
        Phase::Baking => info!(%service, attempt, %to, "it answers, and waits for its agent"),
        Phase::Committed => info!(%service, attempt, %to, "it runs what was committed"),
        Phase::Reverted { note, .. } => info!(%service, attempt, %to, %note, "it went back"),
        Phase::RevertFailed { note, .. } => {
            error!(%service, attempt, %to, %note, "it could not go back: a person is needed");
            return false;
        }
    }
    true
}
