//! One attempt on a host, as an agent carries it out, in a process that can be killed anywhere: for
//! the test `killed`.
//!
//! ```text
//! attempt DIR NUMBER FROM TO     recovers what stands in DIR/state and DIR/srv/web, brings TO, commits
//! ```
//!
//! All of it happens on the first thread, so that a tracer of that thread counts the same calls in every
//! run. Exit code 0: committed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::activate::{Activator, Outcome, Paths};
use agent::allowed::Allowed;
use agent::services::{Machine, Way, boot_id};
use anyhow::{Context as _, Result, bail, ensure};
use durable::RealDisk;
use proto::Digest;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, directory, number, from, to] = &arguments[..] else {
        bail!("usage: attempt DIR NUMBER FROM TO");
    };
    let (directory, number) = (Path::new(directory), number.parse().context("NUMBER")?);
    let (from, to): (Digest, Digest) = (from.parse().context("FROM")?, to.parse().context("TO")?);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let state = directory.join("state/services");
    let machine = Machine::new(&state, Allowed::default(), runtime.handle().clone())?;
    let paths = Paths::new(&directory.join("srv"), &"web".parse()?);
    let activator = Activator::new(Arc::new(RealDisk), Arc::new(machine), paths, &state, boot_id());
    ensure!(activator.hold(Duration::ZERO)?, "another process moves this service");
    activator.recover()?;
    match activator.activate(number, Some(from), to, Way::Forward) {
        Outcome::Baking => Ok(activator.commit(number)?),
        Outcome::Reverted { note, .. } => bail!("went back: {note}"),
        Outcome::RevertFailed { note, .. } => bail!("could not go back: {note}"),
    }
}
