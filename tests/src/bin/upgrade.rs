//! `./scripts/test-upgrade`: a fleet of the previous release is upgraded while a rollout is open, agents
//! host by host, then the coordinator. Every claim it prints is checked.
//!
//! ```text
//! upgrade OLD NEW     directories with the programs of both versions
//! ```

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use fleet_tests::cluster::{Behaviour, Cluster, wait_until};
use fleet_tests::traffic::ask;
use proto::receipt::State;
use proto::report::{RolloutPhase, RolloutReport};

const AGENTS: usize = 4;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nThe upgrade failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(std::fs::canonicalize).collect();
    let [Ok(old), Ok(new)] = &arguments[..] else { bail!("usage: upgrade OLD NEW") };
    let directory = tempfile::Builder::new().prefix("groundswell-upgrade-").tempdir()?;
    let mut cluster = Cluster::start(old, directory.path())?;
    cluster.bake_minutes("0.5");
    cluster.add_agents(AGENTS)?;
    cluster.all_are_heard()?;
    cluster.publish("1.0.0", Behaviour::Good)?;
    cluster.deploy("1.0.0")?;
    cluster.complete("1.0.0", 1)?;
    println!("a coordinator and {AGENTS} servers of the old version serve 1.0.0");
    ask_across(&mut cluster, "new", new, old)?;

    cluster.publish("2.0.0", Behaviour::Good)?;
    cluster.publish("3.0.0", Behaviour::Good)?;
    cluster.deploy("2.0.0")?;
    let bakes = |one: &RolloutReport| {
        one.epoch == 2 && one.hosts.iter().any(|host| host.state == Some(State::Baking))
    };
    cluster.wait_for_rollout("the canary bakes", bakes)?;
    println!("2.0.0 is on its way, the canary bakes");
    for index in 0..AGENTS {
        upgrade_agent(&mut cluster, old, new, index)?;
        println!("{} is upgraded, its service was not touched", cluster.agents()[index].name);
    }
    let open = |one: &RolloutReport| one.epoch == 2 && one.phase == RolloutPhase::Running;
    let report = cluster.status()?;
    ensure!(report.rollouts.iter().any(open), "2.0.0 did not wait for the agents: {report:#?}");
    cluster.kill_coordinator()?;
    cluster.use_binaries(new);
    cluster.start_coordinator()?;
    println!("and so is the coordinator");
    ask_across(&mut cluster, "old", old, new)?;
    cluster.complete("2.0.0", 2)?;
    println!("2.0.0 is complete and served everywhere");
    cluster.deploy("3.0.0")?;
    cluster.complete("3.0.0", 3)?;
    println!("and 3.0.0, published by the old version, after it");
    Ok(())
}

/// Another agent takes over on a host; its service does not notice.
fn upgrade_agent(cluster: &mut Cluster, old: &Path, new: &Path, index: usize) -> Result<()> {
    let service = |cluster: &Cluster| -> Result<(String, Option<String>)> {
        let process = std::fs::read_to_string(cluster.service_dir(index).join("shared/demo.pid"))?;
        Ok((process, ask(cluster.agents()[index].address)))
    };
    let before = service(cluster)?;
    cluster.kill_agent(index)?;
    cluster.use_binaries(new);
    cluster.start_agent(index)?;
    let agent = &cluster.agents()[index];
    wait_until(&format!("{} answers", agent.name), || cluster.status_via(Some(agent)).map(Some))?;
    // The coordinator is of the old version still.
    cluster.use_binaries(old);
    cluster.all_are_heard()?;
    let after = service(cluster)?;
    ensure!(before == after, "its service was {before:?} and is {after:?}");
    Ok(())
}

/// `swell` of the other version asks the coordinator: it is answered, or told what to do.
fn ask_across(cluster: &mut Cluster, which: &str, other: &Path, own: &Path) -> Result<()> {
    cluster.use_binaries(other);
    let output = cluster.try_swell(&["status"])?;
    cluster.use_binaries(own);
    if output.status.success() {
        println!("`swell` of the {which} version is answered");
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(told.contains("upgrade the older one"), "{told}");
    println!("`swell` of the {which} version is told: {}", told.lines().next().unwrap_or_default());
    Ok(())
}
