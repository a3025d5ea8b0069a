//! `./scripts/demo`: a fleet on this machine that deploys, loses its coordinator, and takes a bad
//! version back, proves that to a host that was away, and goes back without a coordinator, under
//! traffic. Every claim it prints is checked; one that did not happen is an
//! error, and so is a request that a good rollout lost.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleet_tests::cluster::{Agent, Behaviour, Cluster, INTERRUPTED, beside, wait_until};
use fleet_tests::memory::{self, Figure};
use fleet_tests::traffic::{Sample, Traffic};
use proto::receipt::State;
use proto::report::RolloutPhase;

const AGENTS: usize = 6;

/// As a shell tells of a command that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // The fleet was stopped, and its directory removed, on the way here.
        Err(_) if INTERRUPTED.load(Ordering::Relaxed) => {
            println!("interrupted; everything is stopped and removed");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => {
            println!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut ci = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--ci" => ci = true,
            other => anyhow::bail!("unknown argument {other:?}; usage: demo [--ci]"),
        }
    }
    catch_interrupts()?;
    let binaries = beside()?;
    let directory = tempfile::Builder::new().prefix("groundswell-demo-").tempdir()?;
    let outcome = demo(&binaries, directory.path(), ci);
    if outcome.is_err() && ci && !INTERRUPTED.load(Ordering::Relaxed) {
        print_logs(directory.path());
    }
    outcome
}

/// Ctrl-C, TERM and HUP end every wait, so that the fleet is stopped in order.
fn catch_interrupts() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut all = Vec::new();
            for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
                all.push(signal(kind).expect("signals can be caught"));
            }
            let [a, b, c] = &mut all[..] else { return };
            tokio::select! { _ = a.recv() => {}, _ = b.recv() => {}, _ = c.recv() => {} }
            INTERRUPTED.store(true, Ordering::Relaxed);
        });
    });
    Ok(())
}

fn print_logs(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            println!("\n-- the end of {}:", path.display());
            lines[lines.len().saturating_sub(25)..].iter().for_each(|line| println!("{line}"));
        }
    }
}

/// The story, and what it measured.
struct Story {
    begin: Instant,
    facts: Vec<(String, String)>,
}

impl Story {
    fn tell(&self, line: &str) {
        println!("{:7.2} s  {line}", self.begin.elapsed().as_secs_f64());
    }

    fn fact(&mut self, what: &str, value: impl Into<String>) {
        self.facts.push((what.to_owned(), value.into()));
    }
}

fn demo(binaries: &Path, directory: &Path, ci: bool) -> Result<()> {
    let mut story = Story { begin: Instant::now(), facts: Vec::new() };
    println!("Groundswell: a coordinator and {AGENTS} servers on this machine.\n");
    let mut cluster = Cluster::start(binaries, directory)?;
    story.tell("the coordinator runs; fleet `demo` has its keys");
    cluster.add_agents(AGENTS)?;
    wait_until("every agent is heard", || {
        let alive = cluster.status()?.hosts.iter().filter(|host| host.alive).count();
        Ok((alive == AGENTS).then_some(()))
    })?;
    story.tell(&format!("{AGENTS} servers joined with one token and gossip with each other"));

    first_deployment(&mut story, &cluster)?;
    let traffic = Traffic::start(cluster.agents().iter().map(|agent| agent.address));
    canary_without_coordinator(&mut story, &mut cluster, &traffic)?;
    broken_version(&mut story, &mut cluster, &traffic)?;
    back_without_coordinator(&mut story, &mut cluster, &traffic)?;
    if ci {
        idle_memory(&mut story, &cluster)?;
    }

    println!("\nWhat happened:");
    for (what, value) in &story.facts {
        println!("  {what:<66} {value}");
    }
    pages(&mut cluster, ci)?;
    drop(traffic);
    drop(cluster);
    println!("\nEverything is stopped and removed.");
    Ok(())
}

fn first_deployment(story: &mut Story, cluster: &Cluster) -> Result<()> {
    let start = Instant::now();
    cluster.publish("1.0.0", Behaviour::Good)?;
    story.tell("web 1.0.0 is published: packed, signed by its publisher, admitted");
    cluster.deploy("1.0.0")?;
    cluster.wait_for_rollout("version 1.0.0 is complete", |rollout| {
        rollout.epoch == 1 && rollout.phase == RolloutPhase::Complete
    })?;
    for agent in cluster.agents() {
        wait_until(&format!("{} serves 1.0.0", agent.name), || {
            Ok(fleet_tests::traffic::ask(agent.address).filter(|version| version == "1.0.0"))
        })?;
    }
    story.tell(&format!("all {AGENTS} servers serve web 1.0.0"));
    story.fact("version 1.0.0, published to served everywhere", seconds(start.elapsed()));
    Ok(())
}

fn canary_without_coordinator(
    story: &mut Story,
    cluster: &mut Cluster,
    traffic: &Traffic,
) -> Result<()> {
    let start = Instant::now();
    cluster.publish("2.0.0", Behaviour::Good)?;
    cluster.deploy("2.0.0")?;
    story.tell("web 2.0.0 is published; its rollout is signed: a canary, then half, then all");
    let rollout = cluster.wait_for_rollout("2.0.0 is self-supporting", |rollout| {
        rollout.epoch == 2 && rollout.self_supporting
    })?;
    story.tell("the rollout supports itself: two agents hold it, two whole copies are out");
    ensure!(rollout.phase == RolloutPhase::Running, "killed too late: {:?}", rollout.phase);
    let before = cluster.status()?;
    cluster.kill_coordinator()?;
    let committed = before.rollouts.iter().flat_map(|one| &one.hosts);
    let committed = committed.filter(|host| host.state == Some(State::Committed)).count();
    ensure!(committed < AGENTS, "nothing was left to do without the coordinator");
    story.tell("the coordinator is killed (SIGKILL)");
    let killed = Instant::now();
    cluster.wait_for_rollout("2.0.0 is complete, seen from an agent", |rollout| {
        rollout.epoch == 2 && rollout.phase == RolloutPhase::Complete
    })?;
    ensure!(!cluster.coordinator_runs(), "the coordinator came back by itself");
    all_answer(traffic, "2.0.0")?;
    story.tell(&format!("the fleet finished by itself: all {AGENTS} servers serve web 2.0.0"));
    story.fact("version 2.0.0, published to served everywhere", seconds(start.elapsed()));
    story.fact("  of that without a coordinator", seconds(killed.elapsed()));
    Ok(())
}

fn broken_version(story: &mut Story, cluster: &mut Cluster, traffic: &Traffic) -> Result<()> {
    cluster.start_coordinator()?;
    story.tell("the coordinator is back and has learnt from the fleet what it missed");
    wait_until("the coordinator knows that 2.0.0 is complete", || {
        let report = cluster.status()?;
        let known = report
            .rollouts
            .iter()
            .any(|rollout| rollout.epoch == 2 && rollout.phase == RolloutPhase::Complete);
        let alive = report.hosts.iter().filter(|host| host.alive).count();
        Ok((known && alive == AGENTS).then_some(()))
    })?;
    let away = AGENTS - 1;
    cluster.kill_agent(away)?;
    let name = cluster.agents()[away].name.clone();
    wait_until("the agent that was killed is missed", || {
        let report = cluster.status()?;
        let gone = |host: &proto::report::HostReport| host.name.as_str() == name && !host.alive;
        Ok(report.hosts.iter().any(gone).then_some(()))
    })?;
    story.tell(&format!("the agent of {name} is killed (SIGKILL); its service goes on"));
    let start = Instant::now();
    cluster.publish("3.0.0", Behaviour::Broken)?;
    cluster.deploy("3.0.0")?;
    story.tell("web 3.0.0 is published and rolled out; it starts well and then answers 500");
    let halted = cluster.wait_for_rollout("the fleet halts", |rollout| {
        rollout.epoch == 3 && rollout.phase == RolloutPhase::Halted
    })?;
    story.tell(&format!("the fleet halts: {}", halted.why));
    for agent in &cluster.agents()[..away] {
        knows_the_halt(cluster, agent)?;
    }
    all_answer(traffic, "2.0.0")?;
    story.tell(&format!("all {AGENTS} servers serve web 2.0.0"));
    let canaries = canaries(traffic, start)?;
    let took = canaries.values().max().copied().unwrap_or_default();
    story.fact(
        "version 3.0.0 on the canary: first bad answer to 2.0.0 serving",
        format!("{} (bar: 3.00 s)", seconds(took)),
    );
    story.fact("servers that ever ran 3.0.0", format!("{} of {AGENTS}", canaries.len()));
    ensure!(canaries.len() == 1, "the bad version spread beyond the canary: {canaries:?}");
    cluster.start_agent(away)?;
    knows_the_halt(cluster, &cluster.agents()[away])?;
    story.tell(&format!("{name} is back and holds the proof of a halt that it was away for"));
    Ok(())
}

fn knows_the_halt(cluster: &Cluster, agent: &Agent) -> Result<()> {
    wait_until(&format!("{} knows the halt", agent.name), || {
        let report = cluster.status_via(Some(agent))?;
        let knows = |one: &proto::report::RolloutReport| {
            one.epoch == 3 && one.phase == RolloutPhase::Halted
        };
        Ok(report.rollouts.iter().any(knows).then_some(()))
    })
}

/// The operator goes back to the first version while there is no coordinator, by any agent.
fn back_without_coordinator(
    story: &mut Story,
    cluster: &mut Cluster,
    traffic: &Traffic,
) -> Result<()> {
    wait_until("every agent is heard", || {
        let alive = cluster.status()?.hosts.iter().filter(|host| host.alive).count();
        Ok((alive == AGENTS).then_some(()))
    })?;
    cluster.kill_coordinator()?;
    story.tell("the coordinator is killed again, and nobody starts it");
    let start = Instant::now();
    let via = format!("{}:7070", cluster.agents()[1].address);
    let back = ["rollback", "web", "--env", "production", "--to", "1.0.0"];
    cluster.swell(&[&back[..], &["--reason", "the demo", "--yes", "--via", &via]].concat())?;
    story.tell(&format!("swell rollback --to 1.0.0 --via {via}"));
    cluster.wait_for_rollout("the rollback is complete", |rollout| {
        rollout.epoch == 4 && rollout.phase == RolloutPhase::Complete
    })?;
    all_answer(traffic, "1.0.0")?;
    story.tell(&format!("all {AGENTS} servers serve web 1.0.0"));
    story.fact("rollback by an agent, signed to served everywhere", seconds(start.elapsed()));
    Ok(())
}

fn all_answer(traffic: &Traffic, expected: &str) -> Result<()> {
    wait_until(&format!("every server answers {expected}"), || {
        let latest = traffic.latest();
        Ok(latest.values().all(|version| version.as_deref() == Some(expected)).then_some(()))
    })
}

/// The servers that gave up 2.0.0 for the bad version, each with the time from its last good
/// answer of 2.0.0 before to the first one after.
fn canaries(traffic: &Traffic, since: Instant) -> Result<BTreeMap<Ipv4Addr, Duration>> {
    let mut by_host: BTreeMap<Ipv4Addr, Vec<Sample>> = BTreeMap::new();
    for sample in traffic.samples().into_iter().filter(|sample| sample.at >= since) {
        by_host.entry(sample.host).or_default().push(sample);
    }
    let good = |sample: &&Sample| sample.version.as_deref() == Some("2.0.0");
    let mut found = BTreeMap::new();
    for (host, samples) in by_host {
        let Some(bad) = samples.iter().find(|sample| !good(sample)) else { continue };
        let back = samples.iter().filter(good).find(|sample| sample.at > bad.at);
        let back = back.with_context(|| format!("{host} never served 2.0.0 again"))?;
        found.insert(host, back.at - bad.at);
    }
    ensure!(!found.is_empty(), "no server ever tried 3.0.0");
    Ok(found)
}

/// Where to look at all of it in a browser; for as long as somebody watches.
fn pages(cluster: &mut Cluster, ci: bool) -> Result<()> {
    cluster.start_coordinator()?;
    let link = String::from_utf8(cluster.swell(&["login", "--role", "operator"])?.stdout)?;
    let address = cluster.coordinator_address();
    ensure!(link.starts_with(&format!("https://{address}:7071/enter?link=")), "no link: {link}");
    println!("\nThe pages of this fleet, by a link that is good once: {link}");
    if !ci && std::io::stdout().is_terminal() {
        println!("Ctrl-C ends it.");
        while !INTERRUPTED.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

fn idle_memory(story: &mut Story, cluster: &Cluster) -> Result<()> {
    let mut mib = 0.0_f64;
    for index in 0..AGENTS {
        let pid = cluster.agent_pid(index).context("every agent runs")?;
        mib = mib.max(memory::mib(pid, Figure::Now)?);
    }
    story.fact(
        "agent after all that, largest RSS of the six",
        format!("{mib:.1} MiB (bar: 40 MiB)"),
    );
    ensure!(mib <= 40.0, "an agent uses {mib:.1} MiB");
    Ok(())
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
