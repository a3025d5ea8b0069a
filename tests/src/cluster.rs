//! A fleet of real processes on loopback: coordinator, agents, the demo service, the `swell` command.
//!
//! Every member has an address of its own in 127/8 and a directory of its own below one temporary
//! directory; nothing outside it is written. Dropping the cluster stops every process it started and
//! every service they started.

#![expect(
    clippy::missing_errors_doc,
    reason = "a harness: an error ends the test and says what it was about"
)]

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use net::{Alpn, Directory, Endpoint, Expect, Identity, frame};
use proto::dsse::Envelope;
use proto::key::secret_from_text;
use proto::report::{FleetReport, RolloutPhase, RolloutReport};
use proto::statement::{Payload, Statement};
use proto::wire::{CONTROL_BYTES_MAX, ControlReply, ControlRequest};
use proto::{Digest, KeyId, PublicKey};

use crate::traffic::ask;

/// How long a step of the fleet may take before the cluster calls it stuck. Far above what any step
/// needs on a busy machine: it is there to end, not to measure.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Set by whoever catches Ctrl-C: every wait then ends with an error, and the cluster is dropped.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How a version of the demo service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Good,
    /// Starts, is ready, and then answers 500.
    Broken,
    /// Is well by its health check and answers 500 to 20 % of all other requests.
    Flaky,
    /// Ends at once.
    Crash,
}

impl Behaviour {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Broken => "broken",
            Self::Flaky => "flaky",
            Self::Crash => "crash",
        }
    }
}

/// The fleet.
#[derive(Debug)]
pub struct Cluster {
    binaries: PathBuf,
    directory: PathBuf,
    /// The first three octets of every address.
    network: [u8; 3],
    coordinator: Option<Child>,
    agents: Vec<Agent>,
    /// Whether the service's requests are counted and compared.
    counts: bool,
    /// Bake of the first wave, in minutes as in `swell.toml`.
    first_bake: &'static str,
    /// Where daemons tell how they are.
    manager: Option<PathBuf>,
}

/// One server.
#[derive(Debug)]
pub struct Agent {
    pub name: String,
    pub address: Ipv4Addr,
    process: Option<Child>,
}

impl Cluster {
    /// A new fleet below `directory`, its keys made, its coordinator running, no agent yet.
    /// `binaries`: where `swell`, `swell-agent`, `swell-coordinator` and `demo-service` are.
    pub fn start(binaries: &Path, directory: &Path) -> Result<Self> {
        // Two fleets at once, of two test processes, must not share an address.
        let pid = std::process::id().to_be_bytes();
        let mut cluster = Self {
            binaries: binaries.to_owned(),
            directory: directory.to_owned(),
            network: [127, 64 | (pid[2] & 63), pid[3]],
            coordinator: None,
            agents: Vec::new(),
            counts: false,
            first_bake: "0.1",
            manager: None,
        };
        let address = format!("{}:7070", cluster.coordinator_address());
        cluster.swell(&["init", "--fleet", "demo", "--coordinator", &address])?;
        cluster.start_coordinator()?;
        Ok(cluster)
    }

    /// The operator's directory.
    pub fn operator_dir(&self) -> PathBuf {
        self.directory.join("operator")
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, host)
    }

    pub fn coordinator_address(&self) -> Ipv4Addr {
        self.address(1)
    }

    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    // --- processes ---

    pub fn start_coordinator(&mut self) -> Result<()> {
        let config = self.operator_dir().join("coordinator/coordinator.toml");
        let child = self.spawn(
            "swell-coordinator",
            &["run", "--config", &config.display().to_string()],
            "coordinator",
        )?;
        self.coordinator = Some(child);
        wait_until("the coordinator answers", || {
            Ok(self.try_swell(&["status", "--json"])?.status.success().then_some(()))
        })
    }

    /// Programs that start from now on, `swell` too, are those in `binaries`.
    pub fn use_binaries(&mut self, binaries: &Path) {
        binaries.clone_into(&mut self.binaries);
    }

    /// Kills the coordinator as a crash would.
    pub fn kill_coordinator(&mut self) -> Result<()> {
        kill(self.coordinator.take().context("the coordinator does not run")?)
    }

    /// Process id of the coordinator, if it runs.
    pub fn coordinator_pid(&self) -> Option<u32> {
        self.coordinator.as_ref().map(Child::id)
    }

    pub fn coordinator_runs(&self) -> bool {
        self.coordinator.is_some()
    }

    /// What the coordinator keeps, beside its keys and roots.
    pub fn coordinator_state(&self) -> PathBuf {
        self.operator_dir().join("coordinator/state")
    }

    /// Runs `swell-coordinator recover` and hands back whatever came of it.
    pub fn recover_coordinator(&self, from: &Agent) -> Result<Output> {
        let config = self.operator_dir().join("coordinator/coordinator.toml").display().to_string();
        let from = format!("{}:7070", from.address);
        self.command("swell-coordinator", &["recover", "--config", &config, "--from", &from])
    }

    /// Adds `count` servers labelled `env=production`, joins them and starts their agents.
    pub fn add_agents(&mut self, count: usize) -> Result<()> {
        let uses = count.to_string();
        let output = self.swell(&[
            "token",
            "create",
            "--uses",
            &uses,
            "--ttl",
            "1h",
            "--label",
            "env=production",
        ])?;
        let token = String::from_utf8(output.stdout)?.trim().to_owned();
        for _ in 0..count {
            let index = self.agents.len();
            let host = u8::try_from(11 + index).context("at most 244 agents")?;
            let agent = Agent {
                name: format!("host-{}", index + 1),
                address: self.address(host),
                process: None,
            };
            self.write_agent_config(&agent)?;
            let config = self.agent_dir(&agent.name).join("agent.toml").display().to_string();
            let joined = self.command("swell-agent", &["join", &token, "--config", &config])?;
            ensure!(joined.status.success(), "{} could not join: {}", agent.name, text(&joined));
            self.agents.push(agent);
            self.start_agent(index)?;
        }
        Ok(())
    }

    fn agent_dir(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write_agent_config(&self, agent: &Agent) -> Result<()> {
        let directory = self.agent_dir(&agent.name);
        let shared = directory.join("srv/web/shared");
        fs::create_dir_all(&shared)?;
        let env = shared.join("env");
        fs::write(&env, format!("LISTEN={}:8080\n", agent.address))?;
        fs::set_permissions(&env, Permissions::from_mode(0o600))?;
        let config = format!(
            "name = \"{}\"\nstate_dir = \"{}\"\nservice_root = \"{}\"\nbind = \"{}:7070\"\n\
             gossip_interval_ms = 250\n",
            agent.name,
            directory.join("state").display(),
            directory.join("srv").display(),
            agent.address,
        );
        fs::write(directory.join("agent.toml"), config)?;
        Ok(())
    }

    /// Only these services may run where an agent is, from its next start on; none: every one.
    pub fn allow_services(&self, index: usize, services: Option<&[&str]>) -> Result<()> {
        let agent = &self.agents[index];
        self.write_agent_config(agent)?;
        let Some(services) = services else { return Ok(()) };
        let path = self.agent_dir(&agent.name).join("agent.toml");
        let config = fs::read_to_string(&path)?;
        fs::write(path, format!("{config}services = {services:?}\n"))?;
        Ok(())
    }

    /// The coordinator gives so much from now on, which it reads anew while it runs; none: all it can.
    pub fn seed_at_most(&self, mbit: Option<u32>) -> Result<()> {
        let path = self.operator_dir().join("coordinator/coordinator.toml");
        let is_other = |line: &&str| !line.starts_with("upload_mbit_max");
        let mut config = fs::read_to_string(&path)?;
        config = config.lines().filter(is_other).map(|line| format!("{line}\n")).collect();
        if let Some(mbit) = mbit {
            config = format!("upload_mbit_max = {mbit}\n{config}");
        }
        fs::write(path, config)?;
        let reread = |log: &str| log.matches("the configuration was read anew").count();
        let before = reread(&self.log("coordinator"));
        let pid = self.coordinator_pid().context("the coordinator does not run")?;
        let sent = Command::new("kill").args(["-HUP", &pid.to_string()]).status()?;
        ensure!(sent.success(), "no SIGHUP for the coordinator");
        wait_until("the coordinator has read its configuration", || {
            Ok((reread(&self.log("coordinator")) > before).then_some(()))
        })
    }

    /// Takes the service off a host whose agent does not run, by hand.
    pub fn remove_service(&self, index: usize) -> Result<()> {
        let config = self.agent_dir(&self.agents[index].name).join("agent.toml");
        let config = config.display().to_string();
        let removed =
            self.command("swell-agent", &["remove", "web", "--yes", "--config", &config])?;
        ensure!(removed.status.success(), "the service is not removed: {}", text(&removed));
        Ok(())
    }

    pub fn start_agent(&mut self, index: usize) -> Result<()> {
        let name = self.agents[index].name.clone();
        let config = self.agent_dir(&name).join("agent.toml").display().to_string();
        let child = self.spawn("swell-agent", &["run", "--config", &config], &name)?;
        self.agents[index].process = Some(child);
        Ok(())
    }

    /// Kills an agent as a crash would; its service goes on.
    pub fn kill_agent(&mut self, index: usize) -> Result<()> {
        kill(self.agents[index].process.take().context("the agent does not run")?)
    }

    /// Process id of an agent that runs.
    pub fn agent_pid(&self, index: usize) -> Option<u32> {
        self.agents[index].process.as_ref().map(Child::id)
    }

    /// Daemons that start from now on tell a service manager with this socket how they are, and feed
    /// a watchdog of 8 s.
    pub fn tell_manager(&mut self, socket: &Path) {
        self.manager = Some(socket.to_owned());
    }

    /// What a member has logged.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Runs `swell-agent doctor` where an agent is, and hands back whatever came of it.
    pub fn agent_doctor(&self, index: usize) -> Result<Output> {
        let config = self.agent_dir(&self.agents[index].name).join("agent.toml");
        self.command("swell-agent", &["doctor", "--config", &config.display().to_string()])
    }

    /// The same of the coordinator.
    pub fn coordinator_doctor(&self) -> Result<Output> {
        let config = self.operator_dir().join("coordinator/coordinator.toml");
        self.command("swell-coordinator", &["doctor", "--config", &config.display().to_string()])
    }

    /// What an agent keeps, and where its services stand.
    pub fn state_dir(&self, index: usize) -> PathBuf {
        self.agent_dir(&self.agents[index].name).join("state")
    }

    pub fn service_dir(&self, index: usize) -> PathBuf {
        self.agent_dir(&self.agents[index].name).join("srv/web")
    }

    fn spawn(&self, binary: &str, arguments: &[&str], name: &str) -> Result<Child> {
        let path = self.directory.join(format!("{name}.log"));
        let log = fs::File::options().create(true).append(true).open(path)?;
        let mut command = Command::new(self.binaries.join(binary));
        if let Some(socket) = &self.manager {
            command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "8000000");
        }
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A Ctrl-C at the terminal is for the demo, which then stops its children in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {binary}"))
    }

    fn command(&self, binary: &str, arguments: &[&str]) -> Result<Output> {
        Command::new(self.binaries.join(binary))
            .args(arguments)
            .env("SWELL_DIR", self.operator_dir())
            .stdin(Stdio::null())
            .current_dir(&self.directory)
            .process_group(0)
            .output()
            .with_context(|| format!("cannot run {binary}"))
    }

    // --- the operator ---

    /// Runs `swell` and hands back whatever came of it.
    pub fn try_swell(&self, arguments: &[&str]) -> Result<Output> {
        self.command("swell", arguments)
    }

    /// Runs `swell`, which must succeed.
    pub fn swell(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.try_swell(arguments)?;
        ensure!(
            output.status.success(),
            "`swell {}` ended with {}:\n{}",
            arguments.join(" "),
            output.status,
            text(&output)
        );
        Ok(output)
    }

    /// The operator's key, as the author of statements.
    pub fn operator(&self) -> Result<KeyId> {
        Ok(KeyId::of(&PublicKey::of(&self.operator_key()?)))
    }

    fn operator_key(&self) -> Result<SigningKey> {
        let text = fs::read(self.operator_dir().join("operator.key"))?;
        secret_from_text(&text).context("operator.key is no key")
    }

    /// Signs a statement as the operator and hands it in at an agent or, without one, at the
    /// coordinator: for what no command of `swell` signs.
    pub fn submit(&self, payload: &impl Payload, via: Option<&Agent>) -> Result<Digest> {
        let key = self.operator_key()?;
        let mut envelope = payload.envelope();
        envelope.sign(&key);
        let root = Envelope::parse(&fs::read(self.operator_dir().join("root.json"))?, usize::MAX)?;
        let Statement::Root(root) = Statement::parse(&root)? else { bail!("root.json is no root") };
        let address = via.map_or(self.coordinator_address(), |agent| agent.address);
        let request = ControlRequest::Submit { envelope: envelope.to_bytes() };
        let reply = tokio::runtime::Runtime::new()?.block_on(async {
            let any = (Ipv4Addr::UNSPECIFIED, 0).into();
            let endpoint = Endpoint::bind(any, Identity::person(key)?, Directory::new(root))?;
            let to = (address, 7070).into();
            let connection = endpoint.connect(Alpn::Control, to, Expect::AnyMember).await?;
            let (mut send, mut recv) = connection.open_bi().await?;
            frame::send_json(&mut send, &request, CONTROL_BYTES_MAX, PATIENCE).await?;
            anyhow::Ok(frame::recv_json(&mut recv, CONTROL_BYTES_MAX, PATIENCE).await?)
        })?;
        match reply {
            ControlReply::Submitted { id, effective: true, .. } => Ok(id),
            other => bail!("a statement was not taken: {other:?}"),
        }
    }

    /// What the coordinator or, without it, the first running agent sees.
    pub fn status(&self) -> Result<FleetReport> {
        let via = match (&self.coordinator, self.agents.iter().find(|one| one.process.is_some())) {
            (None, Some(agent)) => Some(agent),
            _ => None,
        };
        self.status_via(via)
    }

    /// What this member sees; none: the coordinator.
    pub fn status_via(&self, via: Option<&Agent>) -> Result<FleetReport> {
        let address = via.map(|agent| format!("{}:7070", agent.address));
        let mut arguments = vec!["status", "--json"];
        if let Some(address) = &address {
            arguments.extend(["--via", address]);
        }
        Ok(serde_json::from_slice(&self.swell(&arguments)?.stdout)?)
    }

    /// Waits until every agent is heard.
    pub fn all_are_heard(&self) -> Result<()> {
        wait_until("every agent is heard", || {
            let alive = self.status()?.hosts.iter().filter(|host| host.alive).count();
            Ok((alive == self.agents.len()).then_some(()))
        })
    }

    /// Waits until every host serves this version.
    pub fn all_serve(&self, version: &str) -> Result<()> {
        for agent in &self.agents {
            wait_until(&format!("{} serves {version}", agent.name), || {
                Ok(ask(agent.address).filter(|answer| answer == version))
            })
            .with_context(|| self.log(&agent.name))?;
        }
        Ok(())
    }

    /// Waits until the rollout of this epoch is complete and every host serves its version.
    pub fn complete(&self, version: &str, epoch: u64) -> Result<()> {
        self.wait_for_rollout(&format!("{version} is complete"), |rollout| {
            rollout.epoch == epoch && rollout.phase == RolloutPhase::Complete
        })?;
        self.all_serve(version)
    }

    /// Publishes a version of the demo service.
    pub fn publish(&self, version: &str, behaviour: Behaviour) -> Result<()> {
        let output = self.try_publish(version, behaviour)?;
        ensure!(output.status.success(), "publishing {version} failed:\n{}", text(&output));
        Ok(())
    }

    /// The same, and hands back whatever came of it.
    pub fn try_publish(&self, version: &str, behaviour: Behaviour) -> Result<Output> {
        let directory = self.directory.join(format!("build-{version}"));
        fs::create_dir_all(directory.join("bin"))?;
        fs::copy(self.binaries.join("demo-service"), directory.join("bin/demo-service"))?;
        fs::write(directory.join("VERSION"), version)?;
        fs::write(directory.join("BEHAVIOUR"), behaviour.name())?;
        let config = self.write_swell_toml()?;
        let directory = directory.display().to_string();
        self.try_swell(&["publish", &directory, "--version", version, "--config", &config])
    }

    /// Signs a rollout and hands it in; does not wait.
    pub fn deploy(&self, version: &str) -> Result<()> {
        self.deploy_with(version, &[])
    }

    /// The same, with these arguments.
    pub fn deploy_with(&self, version: &str, more: &[&str]) -> Result<()> {
        let config = self.write_swell_toml()?;
        let fixed = ["deploy", "web", version, "--env", "production", "--yes", "--config", &config];
        self.swell(&[&fixed, more].concat())?;
        Ok(())
    }

    /// From now on versions are published and deployed so that their requests are counted.
    pub fn count_requests(&mut self) {
        self.counts = true;
    }

    /// From now on first waves bake so many minutes.
    pub fn bake_minutes(&mut self, minutes: &'static str) {
        self.first_bake = minutes;
    }

    fn write_swell_toml(&self) -> Result<String> {
        let path = self.directory.join("swell.toml");
        let metrics = if self.counts { METRICS } else { "" };
        let text = SWELL_TOML.replace("[health]\n", &format!("[health]\n{metrics}"));
        fs::write(&path, text.replace("FIRST_BAKE", self.first_bake))?;
        Ok(path.display().to_string())
    }

    /// Waits until the newest rollout, as `via` sees it (none: as [`Self::status`]), is as wanted.
    pub fn wait_for_rollout(
        &self,
        what: &str,
        mut done: impl FnMut(&RolloutReport) -> bool,
    ) -> Result<RolloutReport> {
        wait_until(what, || {
            let report = self.status()?;
            Ok(report.rollouts.into_iter().max_by_key(|one| one.epoch).filter(&mut done))
        })
        .with_context(|| match self.status() {
            Ok(report) => format!("{:#?}", report.rollouts),
            Err(error) => format!("and there is no status: {error:#}"),
        })
    }

    /// Stops everything; called by `drop` too.
    pub fn stop(&mut self) {
        for agent in &mut self.agents {
            if let Some(process) = agent.process.take() {
                let _ = kill(process);
            }
        }
        if let Some(process) = self.coordinator.take() {
            let _ = kill(process);
        }
        for index in 0..self.agents.len() {
            let service = self.service_dir(index);
            let stop = Command::new(self.binaries.join("demo-service"))
                .arg("stop")
                .env("SWELL_SHARED", service.join("shared"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if !stop.is_ok_and(|status| status.success()) {
                eprintln!("cluster: the service below {} did not stop", service.display());
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

const METRICS: &str = "metrics = \"http://${LISTEN}/metrics\"\nwindow_s = 10\n";
const SWELL_TOML: &str = r#"service = "web"

[run]
start = "bin/demo-service start"
stop = "bin/demo-service stop"

[health]
http = "http://${LISTEN}/healthz"
ready_timeout_s = 10
interval_ms = 200
failures_max = 2

[deploy.production]
strategy = "canary"
max_unavailable = "50%"
stages = [
  { weight = 1, wait_minutes = FIRST_BAKE },
  { weight = 50, wait_minutes = 0.05 },
  { weight = 100, wait_minutes = 0 },
]
"#;

fn kill(mut process: Child) -> Result<()> {
    process.kill()?;
    process.wait()?;
    Ok(())
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Asks again and again until there is an answer; an error ends the wait at [`PATIENCE`] only, since
/// a member that is being restarted is part of the game.
pub fn wait_until<T>(what: &str, ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    wait_within(PATIENCE, Duration::from_millis(50), what, ask)
}

/// The same, for at most `patience`, with a pause after each time that it asks.
pub fn wait_within<T>(
    patience: Duration,
    pause: Duration,
    what: &str,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        ensure!(!INTERRUPTED.load(Ordering::Relaxed), "interrupted while waiting until {what}");
        let answer = ask();
        if let Ok(Some(answer)) = answer {
            return Ok(answer);
        }
        if start.elapsed() > patience {
            match answer {
                Err(error) => return Err(error.context(format!("waited in vain until {what}"))),
                Ok(_) => bail!("waited in vain until {what}"),
            }
        }
        std::thread::sleep(pause);
    }
}

/// Where the daemons are that were built with this program: beside it.
pub fn beside() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    Ok(me.parent().context("an executable lies in a directory")?.to_owned())
}
