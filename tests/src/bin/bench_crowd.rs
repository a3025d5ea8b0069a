//! `./scripts/bench-crowd`: what a coordinator takes where a full fleet gossips and many people look.
//!
//! The coordinator is a process of its own, as on a server. The hosts are all in this process: each has a
//! key, a certificate, a port and gossip of its own, says what it is, and signs receipts of a rollout that
//! goes on; it keeps no statements and runs no service. People are `curl`, with the page of that rollout
//! open. Printed are memory, the time of a core for each second before and while they look, and the page.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ed25519_dalek::SigningKey;
use fleet_tests::cluster::{Behaviour, Cluster, PATIENCE, beside, wait_within};
use fleet_tests::cores;
use fleet_tests::memory::{self, Figure};
use net::gossip::{Gossip, GossipConfig, HOSTS_MAX};
use net::join::Token;
use net::{Alpn, Directory, Endpoint, Handlers, Identity};
use proto::dsse::Envelope;
use proto::key::Signature;
use proto::receipt::{Receipt, State};
use proto::record::{self, HostRecord};
use proto::statement::{Host, Root, Statement};
use proto::wire::{JoinReply, JoinRequest, join_proof};
use proto::{Digest, HostId, PublicKey};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Between two rounds of gossip of a host, as on servers.
const GOSSIP_EVERY: Duration = Duration::from_secs(1);
/// How long all of them may take to be heard, and how often that is looked at: looking costs, too.
const JOIN_WITHIN: Duration = PATIENCE.saturating_mul(5);
const LOOK_EVERY: Duration = Duration::from_secs(2);

struct Asked {
    hosts: usize,
    watchers: usize,
    seconds: u64,
}

fn main() -> Result<()> {
    let asked = asked()?;
    let work = tempfile::tempdir()?;
    let cluster = Cluster::start(&beside()?, work.path())?;
    let runtime = Runtime::new()?;
    let _entered = runtime.enter();
    let stop = CancellationToken::new();
    let mut crowd = runtime.block_on(Crowd::join(&cluster, asked.hosts, &stop))?;
    eprintln!("{} hosts have joined", asked.hosts);
    wait_within(JOIN_WITHIN, LOOK_EVERY, "all of them are heard", || {
        let alive = cluster.status()?.hosts.iter().filter(|host| host.alive).count();
        eprintln!("{alive} are heard");
        Ok((alive == asked.hosts).then_some(()))
    })?;
    cluster.publish("1.0.0", Behaviour::Good)?;
    cluster.deploy("1.0.0")?;
    let rollout = cluster.status()?.rollouts.first().context("no rollout")?.id;
    crowd.begin(rollout)?;
    wait_within(JOIN_WITHIN, LOOK_EVERY, "their receipts are", || {
        let report = cluster.status()?.rollouts.remove(0);
        Ok(report.hosts.iter().all(|host| host.state.is_some()).then_some(()))
    })?;
    measure(&cluster, &mut crowd, &rollout, &asked)?;
    stop.cancel();
    Ok(())
}

fn measure(cluster: &Cluster, crowd: &mut Crowd, rollout: &Digest, asked: &Asked) -> Result<()> {
    let coordinator = cluster.coordinator_pid().context("no coordinator")?;
    let pages = format!("https://{}:7071", cluster.coordinator_address());
    let token = String::from_utf8(cluster.swell(&["access", "token"])?.stdout)?.trim().to_owned();
    let page = format!("{pages}/rollouts/{rollout:#}");
    let (bytes, seconds) = looked_at(&page, &token)?;
    let alone = over(coordinator, crowd, asked.seconds)?;
    let live = format!("{pages}/live/rollouts/{rollout:#}");
    let mut people = Vec::new();
    for _ in 0..asked.watchers {
        people.push(Watcher(watch(&live, &token)?));
    }
    thread::sleep(Duration::from_secs(5));
    let watched = over(coordinator, crowd, asked.seconds)?;
    let looking = people.iter_mut().filter_map(|one| one.0.try_wait().ok()).filter(Option::is_none);
    ensure!(looking.count() == asked.watchers, "somebody who looked was sent away");
    println!(
        "crowd hosts={} rss_mib={:.0} peak_mib={:.0} page_bytes={bytes} page_s={seconds:.3} \
         alone_core={alone:.3} watchers={} watched_core={watched:.3} for_watchers={:.3}",
        asked.hosts,
        memory::mib(coordinator, Figure::Now)?,
        memory::mib(coordinator, Figure::Peak)?,
        asked.watchers,
        watched - alone,
    );
    Ok(())
}

/// Somebody who looks, until it is dropped.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(url: &str, token: &str) -> Result<Child> {
    let authorization = format!("Authorization: Bearer {token}");
    Command::new("curl")
        .args(["--silent", "--insecure", "--no-buffer", "--fail", "--header", &authorization, url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("curl is missing: apt install curl")
}

/// The length of a page, and how long it took to come, in seconds.
fn looked_at(url: &str, token: &str) -> Result<(usize, f64)> {
    let begun = Instant::now();
    let authorization = format!("Authorization: Bearer {token}");
    let got = Command::new("curl")
        .args(["--silent", "--insecure", "--fail", "--header", &authorization, url])
        .output()
        .context("curl is missing: apt install curl")?;
    ensure!(got.status.success(), "the page does not come: {}", got.status);
    Ok((got.stdout.len(), begun.elapsed().as_secs_f64()))
}

/// How much of a core a process, which is a group of its own, took over so many seconds, in each of which
/// one host goes on.
fn over(process: u32, crowd: &mut Crowd, seconds: u64) -> Result<f64> {
    let (before, begun) = (cores::of_groups(&[process])?, Instant::now());
    for _ in 0..seconds {
        crowd.go_on()?;
        thread::sleep(Duration::from_secs(1));
    }
    Ok((cores::of_groups(&[process])? - before) / begun.elapsed().as_secs_f64())
}

// --- the hosts ---

struct Crowd {
    hosts: Vec<Member>,
    rollout: Option<Digest>,
    /// Receipts told so far.
    told: u64,
}

struct Member {
    key: SigningKey,
    gossip: Gossip,
}

/// What a host has once it joined.
struct Joined {
    key: SigningKey,
    host: Host,
    envelope: Vec<u8>,
    certificate: Vec<u8>,
}

impl Crowd {
    async fn join(cluster: &Cluster, count: usize, stop: &CancellationToken) -> Result<Self> {
        let root = std::fs::read(cluster.operator_dir().join("root.json"))?;
        let Statement::Root(root) = Statement::parse(&Envelope::parse(&root, usize::MAX)?)? else {
            bail!("root.json is no root")
        };
        let mut all = Vec::new();
        let uses = count.to_string();
        let arguments = ["token", "create", "--uses", &uses, "--label", "env=production"];
        let token: Token = String::from_utf8(cluster.swell(&arguments)?.stdout)?.trim().parse()?;
        for number in 0..count {
            all.push(join(&token, number).await?);
        }
        let seed = (cluster.coordinator_address(), 7070).into();
        Self::gossip(all, &root, seed, stop)
    }

    fn gossip(
        all: Vec<Joined>,
        root: &Root,
        seed: SocketAddr,
        stop: &CancellationToken,
    ) -> Result<Self> {
        let directory = Directory::new(root.clone());
        all.iter().for_each(|one| directory.add_host(one.host.clone()));
        let known: BTreeMap<HostId, Vec<u8>> =
            all.iter().map(|one| (one.host.id.clone(), one.envelope.clone())).collect();
        let known = Arc::new(known);
        let mut hosts = Vec::new();
        for (number, one) in all.into_iter().enumerate() {
            let advertise = address(number);
            let identity = Identity::host(one.key.clone(), one.certificate)?;
            let endpoint = Endpoint::bind(advertise, identity, directory.clone())?;
            let known = known.clone();
            let config = GossipConfig {
                fleet: root.fleet.clone(),
                key: one.key.clone(),
                advertise,
                seeds: vec![seed],
                interval: GOSSIP_EVERY,
                // Everybody is known already.
                verify: Arc::new(|_| None),
                envelope: Arc::new(move |host| known.get(host).cloned()),
            };
            let gossip = Gossip::spawn(endpoint.clone(), config, stop.clone());
            let handlers = Handlers::new().on(Alpn::Gossip, gossip.handler());
            let stop = stop.clone();
            tokio::spawn(async move { endpoint.serve(handlers, stop).await });
            hosts.push(Member { key: one.key, gossip });
        }
        let crowd = Self { hosts, rollout: None, told: 0 };
        for member in &crowd.hosts {
            let word = HostRecord {
                coordinator: false,
                version: "0.1.0".parse()?,
                at: member::clock::unix(),
                heads: Digest::of(b""),
            };
            member.gossip.set(record::HOST, &record::to_text(&word))?;
        }
        Ok(crowd)
    }

    /// Every host says that it holds the rollout.
    fn begin(&mut self, rollout: Digest) -> Result<()> {
        self.rollout = Some(rollout);
        self.hosts.iter().try_for_each(|member| member.says(rollout, 1, State::Staged))
    }

    /// One host goes on by a step.
    fn go_on(&mut self) -> Result<()> {
        const STEPS: [State; 3] = [State::Activating, State::Baking, State::Committed];
        let Some(rollout) = self.rollout else { return Ok(()) };
        let (step, place) = (self.told % 3, self.told / 3);
        self.told += 1;
        let place = usize::try_from(place)? % self.hosts.len();
        self.hosts[place].says(rollout, 2 + self.told, STEPS[usize::try_from(step)?])
    }
}

impl Member {
    fn says(&self, rollout: Digest, sequence: u64, state: State) -> Result<()> {
        let host = HostId::of(&PublicKey::of(&self.key));
        let (attempt, cause, note) = (1, None, String::new());
        let receipt = Receipt { rollout, host, sequence, attempt, state, cause, note };
        Ok(self.gossip.set(&record::receipt_key(0), &receipt.sign(&self.key).to_text())?)
    }
}

async fn join(token: &Token, number: usize) -> Result<Joined> {
    // From its own address: of one so many do not join in a minute.
    let from = SocketAddr::new(address(number).ip(), 0);
    let endpoint = Endpoint::bind(from, Identity::anonymous(), Directory::empty())?;
    let key = SigningKey::from_bytes(Digest::of(&number.to_be_bytes()).as_bytes());
    let public = PublicKey::of(&key);
    let request = JoinRequest {
        token: token.token,
        secret: token.secret,
        key: public,
        name: format!("host-{number}").parse()?,
        proof: Signature::of(&key, &join_proof(&token.token, &public)),
    };
    let reply = net::join::ask(&endpoint, token.coordinator, token.key, &request).await?;
    let JoinReply::Welcome { host: envelope, certificate, .. } = reply else {
        bail!("not let in: {reply:?}")
    };
    let Statement::Host(host) = Statement::parse(&Envelope::parse(&envelope, usize::MAX)?)? else {
        bail!("no host statement")
    };
    Ok(Joined { key, host, envelope, certificate })
}

/// Where a host is: an address of its own.
fn address(number: usize) -> SocketAddr {
    let [high, low] = u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes();
    (Ipv4Addr::new(127, 61, high, low), 7080).into()
}

// --- the rest ---

fn asked() -> Result<Asked> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut asked = Asked { hosts: HOSTS_MAX, watchers: 50, seconds: 60 };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { bail!("{} needs a number", pair[0]) };
        let number = value.parse().with_context(|| format!("{name} {value}: no number"))?;
        match name.as_str() {
            "--hosts" => asked.hosts = number,
            "--watchers" => asked.watchers = number,
            "--seconds" => asked.seconds = u64::try_from(number)?,
            _ => bail!("usage: bench-crowd [--hosts N] [--watchers N] [--seconds N]"),
        }
    }
    ensure!((1..=HOSTS_MAX).contains(&asked.hosts), "--hosts: must be 1 to {HOSTS_MAX}");
    Ok(asked)
}
