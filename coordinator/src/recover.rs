//! Building the state of a coordinator anew from what hosts hold: `swell-coordinator recover`.
//!
//! ```text
//! meet        hosts that were named answer, and are of this fleet; the dead ones are told
//! claim       the empty state directory; from here on a stop half-way is gone on with
//! gather      roots, statements, certificates, each judged like anything that arrives
//! artifacts   of every release, where some host has it whole
//! database    hosts, versions, and one entry in a new audit record, in one transaction
//! ```
//!
//! It signs nothing. Afterwards the coordinator knows every version that a host asked knows, so it
//! admits none of them a second time (R3). Tokens and the earlier audit record were nowhere else and
//! are gone; so is a release that was published and never deployed.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use durable::{RealDisk, SecretError};
use member::clock;
use net::certificate::CertificateError;
use net::{CloseCode, ConnectError, Directory, Endpoint, Identity, NetError};
use proto::audit::RECOVER;
use proto::certificate::Claim;
use proto::dsse::Envelope;
use proto::id::{FleetId, Scope, Version};
use proto::statement::{Action, ENVELOPE_BYTES_MAX, Kind};
use proto::trust::{Chain, Head, Refusal, verify};
use proto::wire::Part;
use swarm::gather::{GatherError, Gathered, Gatherer, Met};
use swarm::ledger::OpenError;
use swarm::{FetchError, Ledger};
use tokio::task::{JoinError, spawn_blocking};

use crate::audit::Act;
use crate::config::Config;
use crate::files::{self, FilesError, Keys, Roots};
use crate::store::{Recovered, Store, StoreError};

/// Why nothing was recovered, or not all. What has come so far is kept, and the same command goes on.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(
        "a key is lost, and nothing can be rebuilt without it: hosts listen to no other before the \
         root's own keys have signed a new root that names it, which this version has no command \
         for. Put the coordinator's keys back from a backup of them; if there is none, make a new \
         fleet (`swell init`) and let every host join that"
    )]
    KeyLost(#[source] FilesError),
    #[error("the first root in {} is refused", dir.display())]
    Genesis {
        dir: PathBuf,
        #[source]
        source: Refusal,
    },
    #[error("cannot make a certificate of the admit key")]
    Identity(#[source] CertificateError),
    #[error("cannot use the coordinator's own port (if the coordinator runs, stop it first)")]
    Port(#[source] NetError),
    #[error(
        "{address} is no member of fleet {fleet}. Is it a host of another fleet? Or does {} lack the \
         fleet's newer roots (root.2.json and so on)?", root_dir.display()
    )]
    Stranger {
        address: SocketAddr,
        fleet: FleetId,
        root_dir: PathBuf,
        #[source]
        source: Box<GatherError>,
    },
    #[error(
        "the host at {address} does not take this for the coordinator: {} must be the key that the \
         newest root names for the role admit", admit_key.display()
    )]
    NotLetIn {
        address: SocketAddr,
        admit_key: PathBuf,
        #[source]
        source: Box<GatherError>,
    },
    #[error("none of the hosts answers (do their agents run? else name others by --from)")]
    Unreachable(#[source] Box<GatherError>),
    #[error(
        "stopped half-way; what has come is kept: run the same command again, or with other hosts \
         by --from"
    )]
    Gather(#[from] GatherError),
    #[error("cannot open the store in {}", path.display())]
    OpenStore {
        path: PathBuf,
        #[source]
        source: swarm::StoreError,
    },
    #[error("cannot open the ledger")]
    Ledger(#[from] OpenError),
    #[error("cannot fetch the artifact of {what}: make room, then run the same command again")]
    Artifact {
        what: String,
        #[source]
        source: FetchError,
    },
    #[error("cannot read what was recovered")]
    Read(#[from] swarm::StoreError),
    #[error("the new database does not work")]
    Database(#[from] StoreError),
    #[error("a part of it failed")]
    Failed(#[from] JoinError),
}

/// What was recovered, for people.
#[derive(Debug)]
pub struct Summary {
    fleet: FleetId,
    from: Vec<Met>,
    /// Named, and not there.
    silent: Vec<SocketAddr>,
    /// Effective statements by kind.
    kinds: BTreeMap<Kind, usize>,
    pending: usize,
    certificates: usize,
    scopes: Vec<ScopeLine>,
    artifacts: usize,
    /// Releases whose artifact none of the hosts has whole.
    missing: Vec<String>,
    /// Items that did not come or do not count, and the first reasons.
    left_out: usize,
    reasons: Vec<String>,
}

#[derive(Debug)]
struct ScopeLine {
    scope: Scope,
    rollouts: usize,
    epoch: u64,
    version: Version,
    standing: &'static str,
}

/// Rebuilds the state of the coordinator that `config` describes from what the members at `from`
/// hold. `tell` hears what it does, in lines for people.
///
/// # Errors
///
/// [`RecoverError`]. Until all of it is done, no coordinator starts from that state.
pub async fn run(
    config: &Config,
    from: &[SocketAddr],
    tell: &mut dyn FnMut(&str),
) -> Result<Summary, RecoverError> {
    let keys = Keys::read(config).map_err(|error| match is_missing_key(&error) {
        true => RecoverError::KeyLost(error),
        false => error.into(),
    })?;
    let roots = Roots::read(&config.root_dir)?;
    let chain = known_chain(config, &roots)?;
    let identity = Identity::person(keys.admit.clone()).map_err(RecoverError::Identity)?;
    let directory = Directory::of_the_bereft(chain.root().clone());
    // The coordinator's own port: hosts' firewalls know it, and two of them cannot run at once.
    let endpoint = Endpoint::bind(config.bind, identity, directory).map_err(RecoverError::Port)?;
    let gatherer = Gatherer::new(endpoint);
    let Meeting { members, silent } = meet(&gatherer, config, chain.fleet(), from, tell).await?;

    if files::begin_recovery(&config.state_dir, &roots.genesis)? {
        tell("going on with the recovery that was begun");
    }
    let ledger = open_ledger(config, &roots).await?;
    let mut left = Gathered::default();
    for member in &members {
        let mut tenths = Tenths::default();
        let told = |done, of| tenths.at(done, of, |of_all| tell(&format!("{member}: {of_all}")));
        let gathered = gatherer.gather(&ledger, member, told).await?;
        tell(&format!("{member}: {} statements and certificates", gathered.listed));
        left.left_out += gathered.left_out;
        left.reasons.extend(gathered.reasons);
    }
    keys.check(ledger.chain().root())?;
    // Else all rollouts would seem to have ended now.
    let store = ledger.store().clone();
    spawn_blocking(move || store.mark_gathered()).await??;
    let missing = artifacts(&gatherer, &ledger, &members, tell).await?;
    let reading = (ledger.clone(), members.clone());
    let (recovered, summary) = spawn_blocking(move || {
        let (ledger, from) = reading;
        Ok::<_, RecoverError>((read(&ledger)?, Summary::of(&ledger, from, missing, left)?))
    })
    .await??;
    let summary = Summary { silent, ..summary };
    write_database(&config.state_dir, &recovered, summary.act()).await?;
    let seeds: Vec<_> = members.iter().map(Met::address).take(files::SEEDS_MAX).collect();
    files::write_seeds(&files::seeds_path(&config.state_dir), &seeds).map_err(FilesError::from)?;
    files::end_recovery(&config.state_dir)?;
    Ok(summary)
}

/// What the roots in the directory say; those that do not follow are passed over, as at every start.
fn known_chain(config: &Config, roots: &Roots) -> Result<Chain, RecoverError> {
    let dir = || config.root_dir.clone();
    let first = &roots.envelopes[0];
    let mut chain = Chain::genesis(first, roots.genesis)
        .map_err(|source| RecoverError::Genesis { dir: dir(), source })?;
    for envelope in &roots.envelopes[1..] {
        if let Ok(verified) = verify(&chain, envelope, clock::unix()) {
            chain.learn(&verified);
        }
    }
    Ok(chain)
}

fn is_missing_key(error: &FilesError) -> bool {
    let FilesError::Key(SecretError::Read { source, .. }) = error else { return false };
    source.kind() == io::ErrorKind::NotFound
}

/// Who was there of the hosts that were named.
#[derive(Default)]
struct Meeting {
    members: Vec<Met>,
    silent: Vec<SocketAddr>,
}

/// Meets the hosts before anything is written. Some may have died with the coordinator: one that is
/// there is enough to go on.
async fn meet(
    gatherer: &Gatherer,
    config: &Config,
    fleet: &FleetId,
    from: &[SocketAddr],
    tell: &mut dyn FnMut(&str),
) -> Result<Meeting, RecoverError> {
    let (mut meeting, mut why) = (Meeting::default(), None);
    for &address in from {
        let refused = |source| refusal(config, fleet, address, source);
        match gatherer.meet(address).await.map_err(refused) {
            Ok(member) if meeting.members.contains(&member) => {}
            Ok(member) => meeting.members.push(member),
            Err(RecoverError::Unreachable(source)) => {
                tell(&format!("{address} does not answer: going on without what it holds"));
                meeting.silent.push(address);
                why = Some(source);
            }
            Err(error) => return Err(error),
        }
    }
    match why {
        Some(source) if meeting.members.is_empty() => Err(RecoverError::Unreachable(source)),
        _ => Ok(meeting),
    }
}

fn refusal(
    config: &Config,
    fleet: &FleetId,
    address: SocketAddr,
    source: GatherError,
) -> RecoverError {
    let refused = match &source {
        GatherError::Meet { source, .. } => Some(&**source),
        _ => None,
    };
    match refused {
        Some(ConnectError::WrongPeer { .. }) => {
            let (fleet, root_dir) = (fleet.clone(), config.root_dir.clone());
            RecoverError::Stranger { address, fleet, root_dir, source: Box::new(source) }
        }
        Some(ConnectError::Refused { code: CloseCode::Forbidden, .. }) => {
            let (admit_key, source) = (config.admit_key.clone(), Box::new(source));
            RecoverError::NotLetIn { address, admit_key, source }
        }
        _ => RecoverError::Unreachable(Box::new(source)),
    }
}

async fn open_ledger(config: &Config, roots: &Roots) -> Result<Ledger, RecoverError> {
    let (path, genesis) = (config.state_dir.join("swarm"), roots.genesis);
    let envelopes = roots.envelopes.clone();
    spawn_blocking(move || {
        let store = swarm::Store::open(Arc::new(RealDisk), &path)
            .map_err(|source| RecoverError::OpenStore { path, source })?;
        let ledger = Ledger::open(store, genesis, Some(&envelopes[0]), clock::unix)?;
        for envelope in &envelopes[1..] {
            if let Err(error) = ledger.admit(envelope) {
                tracing::warn!(%error, "a root that was given is not taken in");
            }
        }
        Ok(ledger)
    })
    .await?
}

/// Fetches every artifact that the hosts have whole; names the releases of the others.
async fn artifacts(
    gatherer: &Gatherer,
    ledger: &Ledger,
    members: &[Met],
    tell: &mut dyn FnMut(&str),
) -> Result<Vec<String>, RecoverError> {
    let chain = ledger.chain();
    let mut missing = Vec::new();
    let count = chain.releases().count();
    for (number, (_, release)) in (1..).zip(chain.releases()) {
        let what = format!("{} {}", release.service, release.version);
        tell(&format!("artifact {number} of {count}: {what}, {} bytes", release.artifact.bytes));
        match gatherer.artifact(ledger.store(), release.artifact, members).await {
            Ok(true) => {}
            Ok(false) => missing.push(what),
            Err(error @ (FetchError::Manifest(_) | FetchError::NotAsReleased { .. })) => {
                missing.push(format!("{what} ({error})"));
            }
            Err(source) => return Err(RecoverError::Artifact { what, source }),
        }
    }
    Ok(missing)
}

/// What belongs into the database. Blocks on the disk.
fn read(ledger: &Ledger) -> Result<Recovered, RecoverError> {
    let mut recovered = Recovered::default();
    for host in ledger.hosts() {
        if let Some(envelope) = ledger.host_envelope(&host.id) {
            recovered.hosts.push((host, envelope));
        }
    }
    for (id, release) in ledger.chain().releases() {
        if let Some(envelope) = ledger.statement(id)? {
            recovered.releases.push((*id, release.clone(), envelope));
        }
    }
    Ok(recovered)
}

/// Writes a new database; one that an earlier try left was never used.
async fn write_database(
    state_dir: &Path,
    recovered: &Recovered,
    act: Act,
) -> Result<(), RecoverError> {
    for name in ["coordinator.db", "coordinator.db-wal", "coordinator.db-shm"] {
        let path = state_dir.join(name);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(FilesError::Clear { path, source }.into());
            }
            Ok(()) | Err(_) => {}
        }
    }
    let store = Store::open(&state_dir.join("coordinator.db")).await?;
    store.recover(recovered, act, clock::unix()).await?;
    store.close().await;
    Ok(())
}

// --- impl Summary ---

impl Summary {
    /// Blocks on the disk.
    fn of(
        ledger: &Ledger,
        from: Vec<Met>,
        missing: Vec<String>,
        left: Gathered,
    ) -> Result<Self, RecoverError> {
        let chain = ledger.chain();
        let mut kinds = BTreeMap::new();
        for id in ledger.ids(Part::Statements, None, usize::MAX) {
            let envelope = ledger.statement(&id)?.unwrap_or_default();
            let envelope = Envelope::parse(&envelope, ENVELOPE_BYTES_MAX).ok();
            if let Some(kind) = envelope.and_then(|envelope| Kind::of(envelope.payload_type())) {
                *kinds.entry(kind).or_default() += 1;
            }
        }
        let lines =
            chain.heads().filter_map(|(scope, head)| scope_line(ledger, &chain, scope, head));
        Ok(Self {
            fleet: chain.fleet().clone(),
            from,
            silent: Vec::new(),
            kinds,
            pending: ledger.pending().len(),
            certificates: ledger.ids(Part::Certificates, None, usize::MAX).len(),
            scopes: lines.collect(),
            artifacts: chain.releases().count() - missing.len(),
            missing,
            left_out: left.left_out,
            reasons: left.reasons,
        })
    }

    /// The one entry of the new audit record.
    fn act(&self) -> Act {
        let kinds: BTreeMap<_, _> =
            self.kinds.iter().map(|(kind, count)| (kind.name(), count)).collect();
        let from: Vec<_> = self.from.iter().map(ToString::to_string).collect();
        Act {
            actor: "coordinator".to_owned(),
            action: RECOVER,
            subject: format!("fleet {}", self.fleet),
            detail: serde_json::json!({
                "from": from,
                "statements": kinds,
                "pending": self.pending,
                "certificates": self.certificates,
                "artifacts_missing": self.missing,
                "lost": "the record before this entry, and all tokens",
            }),
        }
    }
}

fn scope_line(ledger: &Ledger, chain: &Chain, scope: &Scope, head: &Head) -> Option<ScopeLine> {
    let rollout = chain.rollout(&head.rollout)?;
    let proven = |claim| ledger.certificate(&head.rollout, claim).is_some();
    let ordered = |action| {
        chain.directive(&head.rollout).is_some_and(|(_, directive)| directive.action == action)
    };
    let standing = match () {
        () if head.conflict.is_some() => "in conflict: deploy again",
        () if ordered(Action::Abort) => "aborted",
        () if proven(Claim::Halt) => "halted",
        () if proven(Claim::Complete) => "complete",
        () if ordered(Action::Pause) => "paused",
        () => "open",
    };
    Some(ScopeLine {
        scope: scope.clone(),
        rollouts: chain.history(scope).len(),
        epoch: head.epoch,
        version: rollout.to.version.clone(),
        standing,
    })
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from: Vec<_> = self.from.iter().map(ToString::to_string).collect();
        writeln!(f, "recovered fleet {} from {}", self.fleet, from.join(", "))?;
        for address in &self.silent {
            writeln!(
                f,
                "  without {address}, which did not answer: what it alone held is not here"
            )?;
        }
        let kinds = self.kinds.iter().map(|(kind, count)| format!("{} {count}", kind.name()));
        let kinds: Vec<_> = kinds.collect();
        writeln!(
            f,
            "  statements: {}; below their threshold {}; certificates {}",
            kinds.join(", "),
            self.pending,
            self.certificates
        )?;
        for ScopeLine { scope, rollouts, epoch, version, standing } in &self.scopes {
            writeln!(
                f,
                "  {scope}: rollouts {rollouts}, the newest is epoch {epoch} to {version}, {standing}"
            )?;
        }
        writeln!(f, "  artifacts: whole {}, missing {}", self.artifacts, self.missing.len())?;
        for release in &self.missing {
            writeln!(f, "    no host asked has {release}: publish the very same build again")?;
        }
        if self.left_out > 0 {
            writeln!(f, "  left out, because it does not count here: {}", self.left_out)?;
        }
        for reason in &self.reasons {
            writeln!(f, "    {reason}")?;
        }
        write!(
            f,
            "  gone: all tokens, the audit record before now, releases that no host has heard of"
        )
    }
}

/// Tells at every tenth of the way.
#[derive(Default)]
struct Tenths(usize);

impl Tenths {
    fn at(&mut self, done: usize, of: usize, tell: impl FnOnce(&str)) {
        let tenths = (done * 10).checked_div(of).unwrap_or(0);
        if tenths > self.0 {
            self.0 = tenths;
            tell(&format!("{done} of {of}"));
        }
    }
}
