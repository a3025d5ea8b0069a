//! `swell-agent remove`: the end of a service on this host, by hand.
//!
//! For what the fleet does not end by itself: a service that `agent.toml` does not allow here any more,
//! or what an agent left that is gone. The fleet's own record says what should run here, and an agent
//! brings that; so the service must not be among the `services` of `agent.toml`, and no agent may
//! live. What the service wrote stays.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use durable::{Disk as _, RealDisk};
use proto::Service;
use tokio::runtime::Handle;

use crate::activate::{Activator, Paths};
use crate::config::Config;
use crate::daemon::services;
use crate::evidence::Drawer;
use crate::guard::PATIENCE;
use crate::home::Home;
use crate::rollouts::record;
use crate::services::boot_id;

/// Stops the service and removes what the agent has of it; what was done, for people. `sure`: else it
/// only looks whether that can be done.
///
/// # Errors
///
/// Why not, and what to do.
pub fn run(config: &Config, service: &Service, sure: bool, runtime: &Handle) -> Result<String> {
    ensure!(
        !config.allows(service),
        "the agent would bring {service} back, as the fleet's record says: in agent.toml name the \
         services that may run here, without it: services = [...]"
    );
    let home = Home::new(&config.state_dir);
    let paths = Paths::new(&config.service_root, service);
    let (record, shared) = (record(&home, service), paths.shared());
    let machine = services(config, runtime.clone())?;
    let activator =
        Activator::new(Arc::new(RealDisk), machine, paths.clone(), &home.services(), boot_id());
    ensure!(
        activator.hold(PATIENCE).context("its lease")?,
        "an agent looks after {service}: systemctl stop groundswell-agent, which stops no service, \
         and start it afterwards"
    );
    let current = activator.current()?.map(|current| current.release.version);
    let what = match &current {
        Some(version) => format!("{service} {version}"),
        None => format!("{service}, of which nothing runs,"),
    };
    if !sure {
        bail!(
            "{what} would be stopped and removed from {}, with all its releases; {} would stay. To \
             do that, add --yes",
            paths.directory().display(),
            shared.display()
        );
    }
    activator.remove(&record)?;
    // Attempts are counted anew, and what is kept of them goes by their numbers.
    let evidence = Drawer::new(&home.evidence(), service);
    if RealDisk.kind(evidence.path())?.is_some() {
        RealDisk
            .remove_dir_all(evidence.path())
            .with_context(|| format!("{}", evidence.path().display()))?;
    }
    Ok(format!("{what} is removed from this host; {} stays\n", shared.display()))
}
